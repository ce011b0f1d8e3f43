//! What the fuzzer has found, run again by everyone, with the stable compiler.

use std::fs;
use std::path::{Path, PathBuf};

use ovsns::fuzzing::TARGETS;

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fuzz")
}

/// The files of a directory that is kept.
fn files(directory: &Path) -> Vec<PathBuf> {
    let shown = directory.display();
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{shown}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|it| it.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn all_of_it_keeps_its_promises() {
    let mut broken = Vec::new();
    for (name, target) in TARGETS {
        let inputs = files(&package().join("corpus").join(name));
        assert!(!inputs.is_empty(), "nothing for {name}");
        for path in inputs {
            let input = fs::read(&path).expect("an input");
            let held = std::panic::catch_unwind(|| target(&input));
            broken.extend(held.is_err().then_some(path));
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

/// The same inputs, cut, joined and changed here and there: always the same ones,
/// unless `OVSNS_FUZZ_SECONDS` says how long each target is to be tried. It knows
/// nothing of what the code looks at, as the fuzzer does, and needs no fuzzer.
#[test]
fn changed_here_and_there_it_keeps_them_too() {
    let mut broken = Vec::new();
    let seconds = std::env::var("OVSNS_FUZZ_SECONDS").ok().and_then(|it| it.parse().ok());
    for (name, target) in TARGETS {
        let paths = files(&package().join("corpus").join(name));
        let inputs: Vec<Vec<u8>> =
            paths.iter().map(|path| fs::read(path).expect("an input")).collect();
        let mut dice = Dice(0x6f76);
        let start = std::time::Instant::now();
        let mut count = 0;
        let goes_on = |count| match seconds {
            None => count < 200,
            Some(seconds) => start.elapsed().as_secs() < seconds,
        };
        while goes_on(count) {
            let input = dice.changed(&inputs);
            let held = std::panic::catch_unwind(|| target(&input));
            count += 1;
            if held.is_err() {
                broken.push(format!("{name}: {}", input.escape_ascii()));
                break;
            }
        }
        println!("{name}: {count} inputs");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Numbers that look like chance, and are the same every time (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % most.max(1)
    }

    /// One of the inputs with a few changes.
    fn changed(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        const ODD: [u8; 12] = [0, 1, 4, 0x7f, 0x80, 0xff, b'"', b'[', b'\n', b':', b'=', b'0'];
        let mut input = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(6) {
            let (at, end) = (self.below(input.len() + 1), self.below(input.len() + 1));
            let (at, end) = (at.min(end), at.max(end));
            match self.below(7) {
                0 => drop(input.drain(at..end)),
                1 => input.truncate(end),
                2 => input.insert(at, ODD[self.below(ODD.len())]),
                3 => {
                    let again = input[at..end].to_vec();
                    input.splice(end..end, again);
                }
                4 => {
                    let other = &inputs[self.below(inputs.len())];
                    let (from, to) = (self.below(other.len() + 1), self.below(other.len() + 1));
                    input.splice(at..at, other[from.min(to)..from.max(to)].iter().copied());
                }
                5 if at < input.len() => input[at] = ODD[self.below(ODD.len())],
                _ if at < input.len() => input[at] ^= 1 << self.below(8),
                _ => {}
            }
            input.truncate(4096);
        }
        input
    }
}

/// Files that people start from are read by the targets for files, whole.
#[test]
fn the_examples_keep_their_promises() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for path in files(&examples) {
        let target = match path.extension().and_then(|it| it.to_str()) {
            Some("yaml") => "topology",
            Some("json") => "graph",
            _ => continue,
        };
        ovsns::fuzzing::run(target, &fs::read(&path).expect("an example"));
    }
}

/// Each target is a program of the package for the fuzzer, and nothing else is.
#[test]
fn the_fuzzer_has_the_same_targets() {
    let manifest = fs::read_to_string(package().join("Cargo.toml")).expect("its manifest");
    let paths = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    let programs: Vec<&str> = paths.filter_map(|path| path.strip_suffix(".rs\"")).collect();
    assert_eq!(programs, TARGETS.map(|(name, _)| name));
    for (name, _) in TARGETS {
        let source = package().join(format!("fuzz_targets/{name}.rs"));
        let text = fs::read_to_string(&source).expect("its source");
        assert!(text.contains(&format!("ovsns::fuzzing::run(\"{name}\", input)")), "{name}");
    }
    assert_eq!(files(&package().join("fuzz_targets")).len(), TARGETS.len());
    assert_eq!(files(&package().join("corpus")).len(), TARGETS.len());
}
