//! `ovsns plan`

use serde::Serialize;

use super::input::{self, Source};
use super::{CliError, Ending, show};
use crate::model::topology::Lab;

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

#[derive(Serialize)]
struct PlanView<'a> {
    lab: &'a str,
    steps: Vec<String>,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CliError> {
    show(&args.source.lab()?, args.json).await
}

pub(super) async fn show(lab: &Lab, json: bool) -> Result<Ending, CliError> {
    let mut engine = input::engine("ovsns plan").await?;
    input::tell_backend(&mut engine, lab).await?;
    let done = engine.plan(lab).await?;
    super::attach::warn(&[&done.warnings[..], &done.moved.warnings].concat());
    let lines = [done.plan.lines(), done.moved.lines].concat();
    if json {
        show::json(&PlanView { lab: lab.name.as_str(), steps: lines });
    } else if lines.is_empty() {
        show::line(&format!("lab {}: nothing to change", lab.name));
    } else {
        let many = if lines.len() == 1 { "step" } else { "steps" };
        show::line(&format!("lab {}: {} {many}\n  {}", lab.name, lines.len(), lines.join("\n  ")));
    }
    Ok(Ending::Well)
}
