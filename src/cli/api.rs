//! `ovsns api`

use super::{CallError, Ending, show};
use crate::daemon;

/// Print what the server can be asked, as an OpenRPC document
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns api > ovsns.openrpc.json")]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> Result<Ending, CallError> {
    show::json(&daemon::document());
    Ok(Ending::Well)
}
