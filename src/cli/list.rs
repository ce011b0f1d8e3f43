//! `ovsns list`

use serde::Serialize;

use super::view::LabView;
use super::{CliError, Ending, input, show};
use crate::engine::EngineError;

/// List the labs
///
/// A lab is `up`, `drifted` (something differs from its file), `cut off` (a
/// command was killed in the middle of a change), `unremembered` (its state is
/// lost) or `damaged` (its state cannot be read).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns list")]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    lab: String,
    state: &'static str,
    nodes: usize,
    switches: usize,
    links: usize,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CliError> {
    let mut engine = input::engine("ovsns list").await?;
    let mut rows = Vec::new();
    for lab in engine.labs().await? {
        match LabView::look(&mut engine, &lab).await {
            Ok(view) => rows.push(Row {
                lab: view.lab,
                state: view.state,
                nodes: view.nodes.len(),
                switches: view.switches.len(),
                links: view.links.len(),
            }),
            // One that cannot be read hides no other.
            Err(EngineError::State(_)) => rows.push(Row {
                lab: lab.to_string(),
                state: "damaged",
                nodes: 0,
                switches: 0,
                links: 0,
            }),
            // It went away since it was listed.
            Err(EngineError::NoLab(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if args.json {
        show::json(&rows);
    } else if rows.is_empty() {
        show::line("there is no lab");
    } else {
        let head = ["LAB", "STATE", "NODES", "SWITCHES", "LINKS"].map(str::to_owned).to_vec();
        let rows = rows.iter().map(|row| {
            vec![
                row.lab.clone(),
                row.state.to_owned(),
                row.nodes.to_string(),
                row.switches.to_string(),
                row.links.to_string(),
            ]
        });
        show::line(&show::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    Ok(Ending::Well)
}
