//! `ovsns gc`

use super::ask::ask;
use super::{CallError, Ending, show};
use crate::api::Gc;

/// Remove what a crash left
///
/// Removes labs that carry our mark and that no file remembers: those whose
/// `up` was cut off, or whose state directory is lost; and those whose `down`
/// was cut off or failed. Labs that are remembered stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns gc")]
pub(super) struct Args {}

pub(super) async fn run(_: &Args) -> Result<Ending, CallError> {
    let removed = ask("gc", Gc {}).await?;
    if removed.is_empty() {
        show::line("nothing was left");
    }
    for thing in removed {
        show::line(&format!("removed {thing}"));
    }
    Ok(Ending::Well)
}
