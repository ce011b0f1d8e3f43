//! What the fuzzer has found, run again by everyone, with the stable compiler.

use std::fs;
use std::path::Path;

#[test]
fn frame() {
    every("frame", ovsdb::fuzzing::frame);
}

#[test]
fn decode() {
    every("decode", ovsdb::fuzzing::decode);
}

#[test]
fn replica() {
    every("replica", ovsdb::fuzzing::replica);
}

fn every(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for file in fs::read_dir(&corpus).expect("the corpus is kept") {
        let path = file.unwrap().path();
        check(&fs::read(&path).unwrap());
        inputs += 1;
    }
    assert!(0 < inputs, "{} is empty", corpus.display());
}
