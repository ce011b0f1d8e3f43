//! The command `ovsns`; see the library for all that it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    ovsns::cli::run()
}
