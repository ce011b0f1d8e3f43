//! `ovsns keep-nic`, which no help page lists: the watchdog that brings NICs
//! home if the command that attaches them dies or is not confirmed.

use super::{CallError, Ending};
use crate::engine::state::State;
use crate::engine::watchdog;
use crate::model::names::LabName;

/// Bring the NICs of a lab home if nobody says otherwise
///
/// `ovsns attach` starts it by itself, at the other end of its standard input,
/// and it ends by itself.
#[derive(Debug, clap::Args)]
#[command(hide = true, after_help = "Example: ovsns keep-nic --lab default")]
pub(super) struct Args {
    /// The lab
    #[arg(long, value_name = "LAB")]
    lab: String,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    // A session of its own, so that the end of a terminal is not its end. It is
    // refused to one that has a session already.
    let _ = nix::unistd::setsid();
    watchdog::watch(&State::from_environment(), &LabName::new(&args.lab)?).await?;
    Ok(Ending::Well)
}
