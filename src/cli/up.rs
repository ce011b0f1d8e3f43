//! `ovsns up`

use std::time::Instant;

use super::input::{self, Source};
use super::show::{self, Meter};
use super::{CliError, Ending, plan, running};
use crate::engine::attach::Wishes;
use crate::model::topology::Lab;

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

pub(super) async fn run(args: &Args) -> Result<Ending, CliError> {
    if args.again {
        return again(args).await;
    }
    let lab = args.source.lab()?;
    if args.dry_run {
        return plan::show(&lab, false).await;
    }
    let mut engine = input::engine(&format!("ovsns up (lab {})", lab.name)).await?;
    engine.wish(Wishes { ssh: super::attach::ssh_peer(), ..Wishes::default() });
    input::tell_backend(&mut engine, &lab).await?;
    let start = Instant::now();
    let mut meter = Meter::new(&format!("up {}", lab.name));
    let done = engine.up(&lab, &mut |done, all| meter.set(done, all)).await;
    drop(meter);
    let done = done?;
    super::attach::warn(&[&done.warnings[..], &done.moved.warnings].concat());
    let steps = done.plan.len() + done.moved.lines.len();
    if steps == 0 {
        show::line(&format!("lab {} is up: nothing to change", lab.name));
    } else {
        let many = if steps == 1 { "step" } else { "steps" };
        show::talk(&format!("{steps} {many} in {} ms", start.elapsed().as_millis()));
        show::line(&format!("lab {} is up: {}", lab.name, contents(&lab)));
    }
    Ok(Ending::Well)
}

/// Makes a lab once more as it was made last.
async fn again(args: &Args) -> Result<Ending, CliError> {
    let named = args.source.named();
    if !args.dry_run {
        running::change("ovsns up --again", named, |_| Ok(())).await?;
        return Ok(Ending::Well);
    }
    let mut engine = input::engine("ovsns up --again --dry-run").await?;
    let (name, _) = running::lab_to_change(&mut engine, named).await?;
    let lab = running::edited(&mut engine, &name, |_| Ok(()))?;
    drop(engine);
    plan::show(&lab, false).await
}

/// `2 nodes, 1 switch, 2 links`
pub(super) fn contents(lab: &Lab) -> String {
    let (nodes, switches, links) = (lab.nodes.len(), lab.switches.len(), lab.links.len());
    format!(
        "{}, {}, {}",
        count(nodes, "node", "nodes"),
        count(switches, "switch", "switches"),
        count(links, "link", "links")
    )
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
