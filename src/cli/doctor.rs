//! `ovsns doctor`

use super::ask::ask;
use super::{CallError, Ending, show};
use crate::api::{Diagnosis, Doctor};
use crate::kernel::doctor;

/// Say what this machine can do, what is wrong, and the mend
///
/// Kernel features are tried in a namespace of their own, not looked up. The
/// exit status is 0 if all that ovsns cannot do without is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns doctor")]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Make a user namespace and end, which only a process of its own can try
    #[arg(long, hide = true)]
    try_user_namespace: bool,
}

/// The one thing that is tried by a process with a single thread; `None` if all
/// else is asked for.
pub(super) fn try_alone(args: &Args) -> Option<Result<Ending, CallError>> {
    args.try_user_namespace.then(|| {
        Ok(match doctor::try_user_namespace() {
            Ok(()) => Ending::Well,
            Err(error) => {
                show::talk(&error.to_string());
                Ending::No
            }
        })
    })
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let Diagnosis { found, works } = ask("doctor", Doctor {}).await?;
    if args.json {
        show::json(&found);
    } else {
        let mut part = "";
        for row in &found {
            if part != row.part {
                let gap = if part.is_empty() { "" } else { "\n" };
                part = &row.part;
                show::line(&format!("{gap}{part}:"));
            }
            show::line(&format!("{:<5} {}: {}", row.verdict, row.what, row.said));
            if let Some(mend) = &row.mend {
                show::line(&format!("      needed for {}; mend: {mend}", row.needed_for));
            }
        }
    }
    Ok(if works { Ending::Well } else { Ending::No })
}
