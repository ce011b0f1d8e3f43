//! `ovsns gc`

use super::show::{self, Meter};
use super::{CliError, Ending, input};

/// Remove what a crash left
///
/// Removes labs that carry our mark and that no file remembers: those whose
/// `up` was cut off, or whose state directory is lost; and those whose `down`
/// was cut off or failed. Labs that are remembered stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns gc")]
pub(super) struct Args {}

pub(super) async fn run(_: &Args) -> Result<Ending, CliError> {
    let mut engine = input::engine("ovsns gc").await?;
    let mut meter = Meter::new("gc");
    let removed = engine.gc(&mut |done, all| meter.set(done, all)).await;
    drop(meter);
    let removed = removed?;
    if removed.is_empty() {
        show::line("nothing was left");
    }
    for thing in removed {
        show::line(&format!("removed {thing}"));
    }
    Ok(Ending::Well)
}
