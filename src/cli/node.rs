//! `ovsns node`

use super::ask::{ListArgs, change};
use super::{CallError, Ending};
use crate::api::view::LabView;
use crate::api::{NodeAdd, NodeRestart, NodeRm};
use crate::model::adopt::Adopt;

/// Add, remove or list nodes of a running lab
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example: ovsns node add n3 --link s1\n         ovsns node list")]
pub(super) enum Command {
    Add(AddArgs),
    Rm(RmArgs),
    Restart(RestartArgs),
    /// List the nodes of a lab
    #[command(after_help = "Example: ovsns node list --json")]
    List(ListArgs),
}

/// Add a node to a running lab
///
/// Undo with `ovsns node rm NODE`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns node add n3 --link s1 --address 10.0.0.3/24\n         ovsns node add web --adopt container:web --link s1"
)]
pub(super) struct AddArgs {
    /// The node's name
    node: String,
    /// Join it to this switch, or to an interface of a node; repeatable
    #[arg(long = "link", value_name = "END")]
    links: Vec<String>,
    /// An address of its first interface [default: the next free ones]; `dhcp` and `slaac` ask for one; repeatable
    #[arg(long = "address", value_name = "ADDRESS/LENGTH", requires = "links")]
    addresses: Vec<String>,
    /// Forward packets: the node is a router
    #[arg(long)]
    forwarding: bool,
    /// Take a namespace that is there, and leave it as it is in the end: netns:NAME, netns:/PATH, pid:NUMBER, container:NAME
    #[arg(long, value_name = "WHAT", conflicts_with = "forwarding")]
    adopt: Option<Adopt>,
    /// What it has of its own besides its network: `uts`, `mount`, `pid`, `ipc`, or `all`
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    isolate: Vec<String>,
    /// The lab, which is made if it is not there [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Remove a node and its links from a running lab
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns node rm n3")]
pub(super) struct RmArgs {
    /// The node: NODE, or LAB/NODE
    node: String,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Restart what runs in a node
///
/// Its processes are stopped, the last one first, and started again in order.
/// Links, addresses and whatever else was started in the node stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns node restart n1 web")]
pub(super) struct RestartArgs {
    /// The node: NODE, or LAB/NODE
    node: String,
    /// One of its processes [default: all]
    process: Option<String>,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

pub(super) async fn run(command: &Command) -> Result<Ending, CallError> {
    match command {
        Command::Add(args) => change("node add", add(args)).await?,
        Command::Rm(RmArgs { node, lab }) => {
            change("node rm", NodeRm { node: node.clone(), lab: lab.clone() }).await?;
        }
        Command::Restart(RestartArgs { node, process, lab }) => {
            let (node, process, lab) = (node.clone(), process.clone(), lab.clone());
            change("node restart", NodeRestart { node, process, lab }).await?;
        }
        Command::List(args) => args.show(|view| &view.nodes, table).await?,
    }
    Ok(Ending::Well)
}

fn add(args: &AddArgs) -> NodeAdd {
    let AddArgs { node, links, addresses, forwarding, adopt, isolate, lab } = args;
    NodeAdd {
        node: node.clone(),
        links: links.clone(),
        addresses: addresses.clone(),
        forwarding: *forwarding,
        adopt: adopt.as_ref().map(ToString::to_string),
        isolation: isolate.clone(),
        lab: lab.clone(),
    }
}

/// A row an interface.
pub(super) fn table(view: &LabView) -> Vec<Vec<String>> {
    let head = ["NODE", "INTERFACE", "STATE", "ADDRESSES", "MAC", "MTU", "TO"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let lives = view.nodes.iter().any(|node| node.keeper.is_some());
    if lives {
        rows[0].push("RUNS".into());
    }
    for node in &view.nodes {
        let first = rows.len();
        if node.interfaces.is_empty() {
            rows.push(vec![node.name.clone(), "-".into()]);
        }
        for interface in &node.interfaces {
            let mut addresses = interface.addresses.clone();
            addresses.extend(interface.dynamic_addresses.iter().map(|given| {
                format!("{} ({}, {} s left)", given.address, given.by, given.valid_s)
            }));
            addresses.extend(interface.foreign_addresses.iter().map(|a| format!("{a} (not ours)")));
            rows.push(vec![
                node.name.clone(),
                interface.name.clone(),
                link_state(interface.up, interface.carrier).to_owned(),
                addresses.join(" "),
                interface.mac.clone(),
                interface.mtu.to_string(),
                interface.to.clone().unwrap_or_default(),
            ]);
        }
        if lives {
            rows[first].resize(7, String::new());
            let runs = node.processes.iter();
            let runs: Vec<_> = runs.map(|it| format!("{} {}", it.name, it.state)).collect();
            rows[first].push(runs.join(", "));
        }
    }
    rows
}

fn link_state(up: bool, carrier: bool) -> &'static str {
    match (up, carrier) {
        (true, true) => "up",
        (true, false) => "no carrier",
        (false, _) => "down",
    }
}
