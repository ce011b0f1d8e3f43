//! `ovsns node`

use serde_json::json;

use super::running::{self, things};
use super::show::{self, Meter};
use super::view::{LabView, ListArgs};
use super::{CliError, Ending, cut, input};
use crate::model::adopt::Adopt;
use crate::model::file;
use crate::model::names::{LabName, NodeName, ProcessName};

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

pub(super) async fn run(command: &Command) -> Result<Ending, CliError> {
    match command {
        Command::Add(args) => add(args).await?,
        Command::Rm(args) => rm(args).await?,
        Command::Restart(args) => restart(args).await?,
        Command::List(args) => args.show("ovsns node list", |view| &view.nodes, table).await?,
    }
    Ok(Ending::Well)
}

async fn add(args: &AddArgs) -> Result<(), CliError> {
    let words = input::NodeWords::new(&args.node, args.lab.as_deref())?;
    let (node, lab) = (words.node, words.lab);
    running::change_or_make("ovsns node add", lab.as_ref().map(|lab| lab.as_str()), |file| {
        if things(file, "nodes").contains_key(node.as_str()) {
            return Err(CliError::usage(
                format!("there is a node `{node}` already"),
                format!("give the new one another name, or remove the old: `ovsns node rm {node}`"),
            ));
        }
        let mut spec = json!({});
        if args.forwarding {
            spec["forwarding"] = true.into();
        }
        if let Some(adopt) = &args.adopt {
            spec["adopt"] = file::of_adopt(adopt);
        }
        // As in a file: what somebody else has made is likely to have an `eth0`.
        let letters = if args.adopt.is_some() { "lab" } else { "eth" };
        if !args.isolate.is_empty() {
            spec["isolation"] = json!(args.isolate);
        }
        if !args.addresses.is_empty() {
            spec["interfaces"][format!("{letters}0")] = json!({ "addresses": args.addresses });
        }
        things(file, "nodes").insert(node.to_string(), spec);
        for (index, end) in args.links.iter().enumerate() {
            let link = json!({ "endpoints": [format!("{node}:{letters}{index}"), end] });
            running::links(file).push(link);
        }
        Ok(())
    })
    .await
}

async fn restart(args: &RestartArgs) -> Result<(), CliError> {
    let words = input::NodeWords::new(&args.node, args.lab.as_deref())?;
    let only = args.process.as_deref().map(ProcessName::new).transpose()?;
    let mut engine = input::engine("ovsns node restart").await?;
    let named = words.lab.as_ref().map(LabName::as_str);
    let lab = input::one_lab(&mut engine, named).await?;
    let mut meter = Meter::new(&format!("restart {}", words.node));
    let mut progress = |done, all| meter.set(done, all);
    let lines = engine.restart(&lab, &words.node, only.as_ref(), &mut progress).await;
    drop(meter);
    let lines = lines?;
    if lines.is_empty() {
        let node = &words.node;
        return Err(match only {
            Some(only) => CliError::usage(
                format!("no process `{only}` runs in node `{node}`"),
                "`ovsns status` shows what does",
            ),
            None => CliError::usage(
                format!("nothing runs in node `{node}`"),
                "have something run: `run:` in the lab's file",
            ),
        });
    }
    show::line(&format!("lab {lab}:\n  {}", lines.join("\n  ")));
    Ok(())
}

async fn rm(args: &RmArgs) -> Result<(), CliError> {
    let words = input::NodeWords::new(&args.node, args.lab.as_deref())?;
    let (node, lab) = (words.node, words.lab);
    running::change("ovsns node rm", lab.as_ref().map(|lab| lab.as_str()), |file| {
        running::remove_links(file, |link| {
            running::endpoints(link).iter().any(|end| is_of(end, &node))
        });
        cut::remove_node(file, node.as_str());
        match things(file, "nodes").remove(node.as_str()) {
            Some(_) => Ok(()),
            None => Err(CliError::usage(
                format!("there is no node `{node}`"),
                "`ovsns node list` shows the nodes",
            )),
        }
    })
    .await
}

/// Whether an endpoint is an interface of the node.
fn is_of(end: &str, node: &NodeName) -> bool {
    end.split_once(':').is_some_and(|(name, _)| name == node.as_str())
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
