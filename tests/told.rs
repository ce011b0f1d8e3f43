//! What becomes of a result that cannot be written. No root is needed for any of
//! it.

use std::fs::File;
use std::process::{Command, Output, Stdio};

fn ovsns(words: &[&str], to: impl Into<Stdio>) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    Command::new(env!("CARGO_BIN_EXE_ovsns"))
        .args(words)
        .current_dir(directory.path())
        .stdout(to)
        .output()
        .expect("the program runs")
}

#[test]
fn a_full_device_is_a_failure() {
    for words in [&["schema"][..], &["--help"], &["graph", "--topo", "single,2"]] {
        let full = File::options().write(true).open("/dev/full").expect("every Linux has it");
        let ended = ovsns(words, full);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{words:?}\n{said}");
        assert_eq!(
            said, "error: could not write to standard output\n  because: no space left on device\n",
            "{words:?}"
        );
    }
}

#[test]
fn a_closed_pipe_is_none() {
    for words in [&["schema"][..], &["--help"], &["graph", "--topo", "single,2"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = ovsns(words, writer);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""), "{words:?}");
    }
}
