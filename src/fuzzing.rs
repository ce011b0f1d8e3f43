//! What must hold for any bytes that others may have written: one function for
//! each kind of them. A broken promise is a panic.
//!
//! The targets in `integration/fuzz` call these, and so does an ordinary test
//! (`tests/corpus.rs`) over what the fuzzer has gathered. Nothing of the program
//! does, so nothing of it is in there.

use crate::{cli, engine, kernel, model, switch};

/// A function that holds some bytes to their promises.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const TARGETS: [(&str, Target); 14] = [
    ("capture", kernel::fuzzing::capture),
    ("flows", model::fuzzing::flows),
    ("frames", model::fuzzing::frames),
    ("graph", model::fuzzing::graph),
    ("hosts", model::fuzzing::hosts),
    ("icmp", model::fuzzing::icmp),
    ("marks", model::fuzzing::marks),
    ("messages", messages),
    ("names", model::fuzzing::names),
    ("netlink", kernel::fuzzing::netlink),
    ("openvswitch", switch::fuzzing::openvswitch),
    ("proc", kernel::fuzzing::proc),
    ("topology", model::fuzzing::topology),
    ("values", values),
];

/// JSON that is ours, as far as we know: state files, what commands and keepers say
/// to each other, what engines of containers answer. Read, written and read again
/// it is the same.
pub fn messages(input: &[u8]) {
    engine::fuzzing::files(input);
    kernel::fuzzing::messages(input);
    switch::fuzzing::messages(input);
}

/// A single value of a file, `KEY=VALUE`, and what `--topo` takes.
pub fn values(input: &[u8]) {
    model::fuzzing::values(input);
    cli::fuzzing::setting(input);
}

/// Runs a target by its name.
///
/// # Panics
/// If there is none of that name, or a promise is broken.
pub fn run(target: &str, input: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    found.expect("a target of that name").1(input);
}
