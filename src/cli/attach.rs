//! `ovsns attach`, `ovsns confirm` and `ovsns detach`

use std::net::IpAddr;

use serde_json::json;

use super::input::Choice;
use super::running::{self, things};
use super::show::{self, Meter};
use super::{CliError, Ending, input};
use crate::engine::attach::{Moved, Wishes};
use crate::engine::{Done, Engine, EngineError};
use crate::model::names::{IfName, LabName};
use crate::model::topology::{End, Lab, Macvlan, Share};

/// Attach a NIC of this machine to a switch, or to a node
///
/// The NIC becomes a port of the switch, and the machine keeps its addresses,
/// routes and rules on the switch's local device: it stays reachable
/// throughout. With `--mode macvlan` a node gets a child of the NIC, with
/// `--mode move` the NIC itself. If a check fails, the command dies, or nobody
/// confirms in time, all is taken back. Undo with `ovsns detach NIC`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns attach eth0 --confirm 120\n         ovsns attach eth1 --switch s1\n         \
                  ovsns attach eth1 --mode macvlan --node n1 --address 192.0.2.7/24"
)]
pub(super) struct AttachArgs {
    /// The NIC
    #[arg(value_name = "NIC")]
    nic: String,
    /// The switch [default: one of the NIC's name, made for it]
    #[arg(long, value_name = "SWITCH", conflicts_with = "node")]
    switch: Option<String>,
    /// How it is shared
    #[arg(long, value_name = "MODE", default_value = "bridge")]
    mode: Mode,
    /// The node, which is made if it is not there
    #[arg(long, value_name = "NODE", required_if_eq_any = [("mode", "macvlan"), ("mode", "move")])]
    node: Option<String>,
    /// What it is called in the node [default: the next free ethN]
    #[arg(long, value_name = "INTERFACE", requires = "node")]
    interface: Option<String>,
    /// An address that it has in the node [default: the next free ones of the lab]; repeatable
    #[arg(long = "address", value_name = "ADDRESS/LENGTH", requires = "node")]
    addresses: Vec<String>,
    /// What macvlans of one NIC hear of each other [default: bridge]
    #[arg(long, value_name = "KIND", requires = "node")]
    macvlan: Option<Siblings>,
    /// Take it back unless `ovsns confirm` comes within so many seconds
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    confirm: Option<u64>,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Also as a second NIC without a spanning tree, under VLAN devices, or away
    /// from a machine that needs it
    #[arg(long)]
    force: bool,
    /// What a new switch is made of
    #[arg(long, value_name = "BACKEND", default_value = "auto", env = "OVSNS_BACKEND")]
    backend: Choice,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// How a NIC is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// As a port of a switch
    Bridge,
    /// By a child of it in a node
    Macvlan,
    /// It goes into a node itself
    Move,
}

/// What macvlans of one NIC hear of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Siblings {
    /// Everything
    Bridge,
    /// Nothing
    Private,
    /// What the switch behind the NIC sends back
    Vepa,
    /// There is one alone, with the NIC's own address
    Passthru,
}

impl From<Siblings> for Macvlan {
    fn from(siblings: Siblings) -> Self {
        match siblings {
            Siblings::Bridge => Self::Bridge,
            Siblings::Private => Self::Private,
            Siblings::Vepa => Self::Vepa,
            Siblings::Passthru => Self::Passthru,
        }
    }
}

/// Keep what was attached with `--confirm`
///
/// From a new connection, so that it is known that one can be made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns confirm")]
pub(super) struct ConfirmArgs {
    /// What `ovsns attach --confirm` said [default: the only one]
    #[arg(value_name = "ID")]
    id: Option<String>,
}

/// Bring a NIC home
///
/// The machine gets its addresses, routes and rules back on the NIC, with what
/// became of them in between. A switch that was made for it goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns detach eth0")]
pub(super) struct DetachArgs {
    /// The NIC
    #[arg(value_name = "NIC")]
    nic: String,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
}

pub(super) async fn attach(args: &AttachArgs) -> Result<Ending, CliError> {
    let nic = IfName::new(&args.nic)?;
    if args.mode != Mode::Bridge {
        return attach_to_node(args, &nic).await;
    }
    if args.node.is_some() {
        return Err(CliError::usage(
            "`--node` is for the modes `macvlan` and `move`",
            "say `--mode`; or link the node to the switch: `ovsns link add`",
        ));
    }
    let mut engine = input::engine(&format!("ovsns attach {nic}")).await?;
    let (lab, _) = running::lab_to_change(&mut engine, args.lab.as_deref()).await?;
    engine.wish(Wishes { confirm_s: args.confirm, ssh: ssh_peer(), force: args.force });
    if let Some(switch) = engine.attachments(&lab)?.nics.get(&nic).map(|a| a.switch.name.clone())
        && args.switch.as_ref().is_none_or(|wanted| wanted == switch.as_str())
    {
        let unkept = engine.unkept_leases(&lab).await?;
        if unkept.is_empty() || args.dry_run {
            let nothing = format!("{nic} is attached to {lab}/{switch}: nothing to change");
            show::line(&if unkept.is_empty() { nothing } else { unkept.join("\n") });
            return Ok(Ending::Well);
        }
        // Who renewed its lease was killed.
        make(&mut engine, &nic, &lab, |_| Ok(())).await?;
        show::line(&format!("{nic} is attached to {lab}/{switch}, and its lease renewed again"));
        return Ok(Ending::Well);
    }
    let switch = args.switch.as_deref().unwrap_or(nic.as_str());
    let edit = |file: &mut serde_json::Value| {
        let switches = things(file, "switches");
        if !switches.contains_key(switch) {
            if args.switch.is_some() {
                return Err(super::switch::no_switch_called(switch));
            }
            let backend = args.backend.backend();
            let backend = backend.map_or("auto".to_owned(), |backend| backend.to_string());
            switches.insert(switch.to_owned(), json!({ "backend": backend }));
        }
        file["uplinks"][nic.as_str()] = json!({ "switch": switch, "force": args.force });
        Ok(())
    };
    let planned = running::edited(&mut engine, &lab, edit)?;
    input::tell_backend(&mut engine, &planned).await?;
    if args.dry_run {
        return say_plan(&mut engine, &planned).await;
    }
    let Done { moved, .. } = make(&mut engine, &nic, &lab, edit).await?;
    say_shared(&format!("{nic} is attached to {lab}/{switch}"), &moved, args.confirm);
    Ok(Ending::Well)
}

/// Says what would be done.
async fn say_plan(engine: &mut Engine, planned: &Lab) -> Result<Ending, CliError> {
    let done = engine.plan(planned).await?;
    warn(&done.moved.warnings);
    say_steps(&planned.name, &[done.plan.lines(), done.moved.lines].concat());
    Ok(Ending::Well)
}

/// Makes what a lab's file says when it is changed, and warns of what a NIC's owner
/// should know.
async fn make(
    engine: &mut Engine,
    nic: &IfName,
    lab: &LabName,
    edit: impl FnOnce(&mut serde_json::Value) -> Result<(), CliError>,
) -> Result<Done, CliError> {
    let mut meter = Meter::new(&format!("attach {nic}"));
    let done = running::apply(engine, lab, edit, &mut meter).await;
    drop(meter);
    let done = done?;
    warn(&done.moved.warnings);
    Ok(done)
}

/// Says what a NIC is now, and for how long if nobody confirms it.
fn say_shared(what: &str, moved: &Moved, confirm_s: Option<u64>) {
    match (&moved.unconfirmed, confirm_s) {
        (Some(id), Some(seconds)) => show::line(&format!(
            "{what}; unless you say `ovsns confirm {id}` within {seconds} s, it is taken back"
        )),
        _ => show::line(what),
    }
}

/// A NIC, or a child of it, into a node.
async fn attach_to_node(args: &AttachArgs, nic: &IfName) -> Result<Ending, CliError> {
    let words = args.node.as_deref().expect("the command line insists on it with these modes");
    let words = input::NodeWords::new(words, args.lab.as_deref())?;
    let mut engine = input::engine(&format!("ovsns attach {nic}")).await?;
    let named = words.lab.as_ref().map(LabName::as_str);
    let (lab, _) = running::lab_to_change(&mut engine, named).await?;
    let node = &words.node;
    let share = match args.mode {
        Mode::Move => Share::Move,
        Mode::Bridge | Mode::Macvlan => {
            Share::Macvlan(args.macvlan.map_or(Macvlan::Bridge, Macvlan::from))
        }
    };
    let end = End::Nic(nic.clone(), share).to_string();
    engine.wish(Wishes { confirm_s: args.confirm, ssh: ssh_peer(), force: args.force });
    let called = |file: &serde_json::Value| -> String {
        let interfaces = &file["nodes"][node.as_str()]["interfaces"];
        let free = |name: &String| interfaces.get(name).is_none();
        let free = (0..).map(|number| format!("eth{number}")).find(free);
        args.interface.clone().or(free).expect("numbers do not end")
    };
    let edit = |file: &mut serde_json::Value| {
        let is_it = |link: &serde_json::Value| {
            let ends = running::endpoints(link);
            let of_node =
                |end: &&str| end.split_once(':').is_some_and(|(of, _)| of == node.as_str());
            ends.contains(&end.as_str()) && ends.iter().any(of_node)
        };
        let there = running::links(file).iter().any(is_it);
        if there {
            return Ok(());
        }
        let interface = called(file);
        let nodes = things(file, "nodes");
        let node_there = nodes.entry(node.as_str()).or_insert_with(|| json!({}));
        if !args.addresses.is_empty() {
            node_there["interfaces"][&interface] = json!({ "addresses": args.addresses });
        }
        let mut link = json!({ "endpoints": [format!("{node}:{interface}"), end] });
        if let Share::Macvlan(mode) = share {
            link["mode"] = json!(mode);
        }
        running::links(file).push(link);
        Ok(())
    };
    if args.dry_run {
        let planned = running::edited(&mut engine, &lab, edit)?;
        return say_plan(&mut engine, &planned).await;
    }
    let Done { moved, plan, .. } = make(&mut engine, nic, &lab, edit).await?;
    if plan.is_empty() && moved.lines.is_empty() {
        show::line(&format!("node {lab}/{node} has {end}: nothing to change"));
        return Ok(Ending::Well);
    }
    let what = match share {
        Share::Move => format!("{nic} is in node {lab}/{node}"),
        Share::Macvlan(mode) => format!("node {lab}/{node} has a {mode} macvlan of {nic}"),
    };
    say_shared(&what, &moved, args.confirm);
    Ok(Ending::Well)
}

pub(super) async fn confirm(args: &ConfirmArgs) -> Result<Ending, CliError> {
    // Not by way of a recovery: what waits is to be kept, not taken back.
    input::allowed(&[crate::kernel::permissions::Capability::NetAdmin])?;
    let mut engine = Engine::open("ovsns confirm").await?;
    for nic in engine.confirm(args.id.as_deref()).await? {
        show::line(&format!("{nic} stays attached"));
    }
    Ok(Ending::Well)
}

pub(super) async fn detach(args: &DetachArgs) -> Result<Ending, CliError> {
    let nic = IfName::new(&args.nic)?;
    let mut engine = input::engine(&format!("ovsns detach {nic}")).await?;
    let Some(lab) = lab_of(&mut engine, &nic).await? else {
        return Err(CliError::usage(
            format!("`{nic}` is attached to no lab"),
            "`ovsns status` shows what is",
        ));
    };
    let edit = |file: &mut serde_json::Value| {
        if let Some(uplinks) = file["uplinks"].as_object_mut() {
            uplinks.remove(nic.as_str());
        }
        let ends = [Share::Move, Share::Macvlan(Macvlan::Bridge)];
        let ends = ends.map(|share| End::Nic(nic.clone(), share).to_string());
        running::remove_links(file, |link| {
            let mut at = running::endpoints(link).into_iter();
            at.any(|end| ends.iter().any(|nic| nic == end))
        });
        let linked = |link: &serde_json::Value| running::endpoints(link).contains(&nic.as_str());
        let linked = running::links(file).iter().any(linked);
        // The one that was made for it, unless it found other uses.
        if !linked {
            things(file, "switches").remove(nic.as_str());
        }
        Ok(())
    };
    let planned = running::edited(&mut engine, &lab, edit)?;
    let lent = engine.attachments(&lab)?.has(&nic);
    if args.dry_run {
        let done = engine.plan(&planned).await?;
        say_steps(&lab, &[done.moved.lines, done.plan.lines()].concat());
        return Ok(Ending::Well);
    }
    let mut meter = Meter::new(&format!("detach {nic}"));
    let empty = planned.switches.is_empty() && planned.nodes.is_empty();
    let done = match empty {
        true => {
            let done = engine.down(&lab, &mut |done, all| meter.set(done, all)).await;
            done.map(drop).map_err(CliError::from)
        }
        false => running::apply(&mut engine, &lab, edit, &mut meter).await.map(drop),
    };
    drop(meter);
    done?;
    match lent {
        true => show::line(&format!("{nic} is home")),
        false => show::line(&format!("lab {lab} has no macvlan of {nic} any more")),
    }
    Ok(Ending::Well)
}

/// The lab that has a NIC, or is to have it, or has a child of it.
async fn lab_of(engine: &mut Engine, nic: &IfName) -> Result<Option<LabName>, CliError> {
    let mut shared = None;
    for lab in engine.labs().await? {
        if engine.attachments(&lab)?.has(nic) {
            return Ok(Some(lab));
        }
        let remembered = engine.state().read(&lab).map_err(EngineError::from)?.lab;
        if remembered.is_some_and(|lab| lab.nics().any(|at| at.nic == nic)) {
            shared.get_or_insert(lab);
        }
    }
    Ok(shared)
}

fn say_steps(lab: &LabName, lines: &[String]) {
    show::line(&format!("lab {lab}: {} steps\n  {}", lines.len(), lines.join("\n  ")));
}

pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        show::talk(&format!("warning: {warning}"));
    }
}

/// Where the ssh connection of this command comes from (`ssh(1)`).
pub(super) fn ssh_peer() -> Option<IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    connection.split(' ').next()?.parse().ok()
}
