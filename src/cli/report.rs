//! Failures, as a person reads them.

use std::io::Write as _;
use std::process::ExitCode;

use crate::api::CallError;

/// Prints a failure and returns its status.
pub(super) fn failure(error: &CallError) -> ExitCode {
    super::show::err(&error.told().to_string());
    ExitCode::from(error.status())
}

/// Prints what clap found; `--help` and `--version` are no failures.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match printed {
        _ if error.use_stderr() => ExitCode::from(2),
        // Whoever reads the help through `head` has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(source) => failure(&CallError::Untold { changed: false, source }),
        Ok(()) => ExitCode::SUCCESS,
    }
}
