//! `ovsns list`

use super::ask::ask;
use super::{CallError, Ending, show};
use crate::api::LabList;

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

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let rows = ask("list", LabList {}).await?;
    if args.json {
        show::json(&rows);
    } else if rows.is_empty() {
        show::line("there is no lab");
    } else {
        let head = ["LAB", "STATE", "NODES", "SWITCHES", "LINKS"].map(str::to_owned).to_vec();
        let rows = rows.iter().map(|row| {
            vec![
                row.lab.clone(),
                row.state.clone(),
                row.nodes.to_string(),
                row.switches.to_string(),
                row.links.to_string(),
            ]
        });
        show::line(&show::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    Ok(Ending::Well)
}
