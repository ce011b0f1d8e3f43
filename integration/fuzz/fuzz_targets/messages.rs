//! See `ovsns::fuzzing` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ovsns::fuzzing::run("messages", input));
