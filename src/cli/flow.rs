//! `ovsns flow`

use super::{CallError, Ending, ask, show};
use crate::api::{FlowAdd, FlowDel, FlowDump, FlowView};

/// Add, delete or show OpenFlow flows of a switch
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Example: ovsns flow add s1 'priority=100,icmp,in_port=n1,actions=drop'\n         ovsns flow dump s1"
)]
pub(super) enum Command {
    Add(AddArgs),
    Del(DelArgs),
    Dump(DumpArgs),
}

/// Add a flow to a switch
///
/// As `ovs-ofctl add-flow` takes it, with `n1`, `n1:eth0`, the name of a
/// switch or of a tunnel in place of a port's number; in quotes, Open
/// vSwitch's own name of a port. It takes the place of one with the same
/// table, priority and match. The lab remembers it: one that was lost, as by a
/// restart of the switch, shows in `ovsns status`, and comes back with the next
/// change of the lab. `ovsns up FILE` keeps what the file has (`flows:`). Undo
/// with `ovsns flow del SWITCH FLOW`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns flow add s1 priority=10,in_port=n1,icmp,actions=drop\n         \
                  ovsns flow add s1 in_port=n1,actions=output:n2,output:s2"
)]
pub(super) struct AddArgs {
    /// The switch
    switch: String,
    /// The flow
    flow: String,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Delete a flow of ours from a switch
///
/// A flow is known by its table, priority and match, however they are
/// written; `actions=` need not be said. Flows of a controller, and others
/// that are not ours, stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns flow del s1 priority=10,in_port=n1,icmp\n         \
                  ovsns flow del s1 --all")]
pub(super) struct DelArgs {
    /// The switch
    switch: String,
    /// The flow
    #[arg(required_unless_present = "all")]
    flow: Option<String>,
    /// Delete all flows of ours
    #[arg(long, conflicts_with = "flow")]
    all: bool,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Show the flows of a switch
///
/// All that it has, with what they counted; those of the lab are `ours`. The
/// first that matches in a table counts, and they are in that order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns flow dump s1 --json")]
pub(super) struct DumpArgs {
    /// The switch
    switch: String,
    /// Show flows, too, that Open vSwitch makes for itself and hides
    #[arg(long)]
    all: bool,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: &Command) -> Result<Ending, CallError> {
    match command {
        Command::Add(AddArgs { switch, flow, lab }) => {
            let (switch, flow, lab) = (switch.clone(), flow.clone(), lab.clone());
            ask::change("flow", FlowAdd { switch, flow, lab }).await?;
        }
        Command::Del(DelArgs { switch, flow, all, lab }) => {
            let (switch, flow, lab) = (switch.clone(), flow.clone(), lab.clone());
            ask::change("flow", FlowDel { switch, flow, all: *all, lab }).await?;
        }
        Command::Dump(args) => dump(args).await?,
    }
    Ok(Ending::Well)
}

async fn dump(args: &DumpArgs) -> Result<(), CallError> {
    let (switch, lab) = (args.switch.clone(), args.lab.clone());
    let flows = ask::ask("flow", FlowDump { switch, all: args.all, lab }).await?;
    if args.json {
        show::json(&flows);
    } else if flows.is_empty() {
        show::line(&format!("switch {} has no flows", args.switch));
    } else {
        show::line(&show::table(&table(&flows)));
    }
    Ok(())
}

fn table(flows: &[FlowView]) -> Vec<Vec<String>> {
    let mut rows = vec![["WHOSE", "PACKETS", "BYTES", "FLOW"].map(str::to_owned).to_vec()];
    rows.extend(flows.iter().map(|flow| {
        let whose = match (flow.ours, flow.hidden) {
            (true, _) => "ours",
            (false, true) => "hidden",
            (false, false) => "-",
        };
        let (packets, bytes) = (flow.packets.to_string(), flow.bytes.to_string());
        vec![whose.to_owned(), packets, bytes, flow.flow.clone()]
    }));
    rows
}
