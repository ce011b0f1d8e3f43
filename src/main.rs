//! ovsns
fn main() {}
