//! See `ovsdb::fuzzing::decode` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ovsdb::fuzzing::decode(input));
