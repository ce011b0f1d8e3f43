//! `ovsns up`

use super::ask::ask;
use super::attach::ssh_peer;
use super::input::Source;
use super::{CallError, Ending, plan, show};
use crate::api::{Changed, LabUp, Made};

/// Make the world match a topology file
///
/// Makes the lab of FILE, or changes what is there where it differs; a second
/// run changes nothing. If a step fails, all is taken back. Undo with `ovsns
/// down`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns up examples/two-nodes.yaml\n         ovsns up --topo tree,2,3\n         \
                  ovsns up examples/city-ulm.json --format graph\n         ovsns up --again"
)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// Mend a lab instead, as it is to be by now: its file, and all that commands
    /// have changed since
    #[arg(long, conflicts_with_all = ["file", "topo", "format"])]
    again: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    if args.dry_run {
        return plan::show(args.source.planned(args.again)?, false).await;
    }
    let call = LabUp { ssh: ssh_peer(), ..args.source.up(args.again)? };
    let made = ask("up", call).await?;
    if args.again {
        show::changed(&Changed { lab: made.lab, steps: made.steps });
    } else if made.steps.is_empty() {
        show::line(&format!("lab {} is up: nothing to change", made.lab));
    } else {
        show::talk(&format!("{} in {} ms", count(made.steps.len(), "step", "steps"), made.ms));
        show::line(&format!("lab {} is up: {}", made.lab, contents(&made)));
    }
    Ok(Ending::Well)
}

/// `2 nodes, 1 switch, 2 links`
fn contents(made: &Made) -> String {
    format!(
        "{}, {}, {}",
        count(made.nodes, "node", "nodes"),
        count(made.switches, "switch", "switches"),
        count(made.links, "link", "links")
    )
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
