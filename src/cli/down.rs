//! `ovsns down`

use super::ask::ask;
use super::{CallError, Ending, show};
use crate::api::LabDown;

/// Remove a lab, and only it
///
/// Removes all that carries the lab's mark, also what a crash left half made.
/// A process that still runs in a node keeps its namespace, without a name
/// and without links, until it ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns down two-nodes")]
pub(super) struct Args {
    /// The lab [default: the only one]
    #[arg(value_name = "LAB", conflicts_with = "all")]
    lab: Option<String>,
    /// The lab, for those who type it as with other commands
    #[arg(long = "lab", value_name = "LAB", conflicts_with_all = ["lab", "all"])]
    lab_option: Option<String>,
    /// All labs
    #[arg(long)]
    all: bool,
    /// It is well if there is no such lab
    #[arg(long)]
    if_exists: bool,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let lab = args.lab.clone().or_else(|| args.lab_option.clone());
    let mut removed =
        ask("down", LabDown { lab, all: args.all, if_exists: args.if_exists }).await?;
    if removed.labs.is_empty() && removed.failures.is_empty() {
        show::line("there is no lab");
    }
    removed.labs.iter().for_each(|lab| show::line(&format!("lab {lab} is gone")));
    let last = removed.failures.pop();
    removed.failures.iter().for_each(|failure| show::err(&failure.to_string()));
    last.map_or(Ok(Ending::Well), |failure| Err(CallError::Told(failure)))
}
