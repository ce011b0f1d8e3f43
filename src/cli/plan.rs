//! `ovsns plan`

use super::ask::ask;
use super::input::Source;
use super::{CallError, Ending, show};
use crate::api::LabPlan;

/// Say what `up` would do, and do nothing
///
/// Prints a line a step: `+` makes, `-` removes, `~` changes. What would be
/// refused is refused here, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns plan examples/two-nodes.yaml")]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    show(args.source.planned(false)?, args.json).await
}

pub(super) async fn show(call: LabPlan, json: bool) -> Result<Ending, CallError> {
    let planned = ask("plan", call).await?;
    let steps = &planned.steps;
    if json {
        show::json(&planned);
    } else if steps.is_empty() {
        show::line(&format!("lab {}: nothing to change", planned.lab));
    } else {
        let many = if steps.len() == 1 { "step" } else { "steps" };
        show::line(&format!(
            "lab {}: {} {many}\n  {}",
            planned.lab,
            steps.len(),
            steps.join("\n  ")
        ));
    }
    Ok(Ending::Well)
}
