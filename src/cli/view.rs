//! What is there, in the shape in which it is shown: by `status`, by the
//! lists, as text and as JSON.

mod switch;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use switch::PortView;
pub(super) use switch::{BondView, KindView, SettingsView, SwitchView};

use super::{CliError, input, show};
use crate::engine::attachments::Attachments;
use crate::engine::{Engine, EngineError, Status};
use crate::model::impair::Impairments;
use crate::model::laid::NodeFile;
use crate::model::life::{Limits, SeenKeeper, SeenProcess, Standing};
use crate::model::mark::{Mark, Thing, netns};
use crate::model::names::{IfName, LabName};
use crate::model::topology::{Cut, Lab, Sealed};
use crate::model::world::{KernelRoute, SeenDevice, SeenLease, SeenNode, World};
use crate::plan::attach::{Attached, Away};
use crate::switch::Traffic;

/// What a list of the things of a lab takes.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Prints the things of one kind.
    pub(super) async fn show<T: Serialize>(
        &self,
        command: &str,
        things: impl Fn(&LabView) -> &[T],
        table: impl Fn(&LabView) -> Vec<Vec<String>>,
    ) -> Result<(), CliError> {
        let mut engine = input::engine(command).await?;
        let lab = input::one_lab(&mut engine, self.lab.as_deref()).await?;
        let view = LabView::look(&mut engine, &lab).await?;
        if self.json {
            show::json(&things(&view));
        } else {
            show::line(&show::table(&table(&view)));
        }
        Ok(())
    }
}

/// One lab.
#[derive(Debug, Serialize)]
pub(super) struct LabView {
    pub(super) lab: String,
    /// `up`, `drifted`, `cut off`, or `unremembered`.
    pub(super) state: &'static str,
    /// The command that was killed in the middle of a change.
    pub(super) cut_off: Option<String>,
    /// What `ovsns up` would do to mend it; behind `! `, what keeps it from that.
    pub(super) drift: Vec<String>,
    /// What is wrong with what the lab depends on.
    pub(super) troubles: Vec<String>,
    pub(super) switches: Vec<SwitchView>,
    pub(super) nodes: Vec<NodeView>,
    pub(super) links: Vec<LinkView>,
    pub(super) uplinks: Vec<UplinkView>,
    /// Where it is on switches, as the way out.
    pub(super) ways_out: Vec<WayOutView>,
    /// Sets of nodes that do not hear each other, because that is wanted.
    pub(super) cuts: BTreeMap<IfName, Cut>,
    /// Whether the machine has the names of its nodes.
    pub(super) hosts: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeView {
    pub(super) name: String,
    pub(super) netns: String,
    /// Whether its processes cannot change its network, and whether they may open raw
    /// sockets.
    pub(super) sealed: Option<Sealed>,
    /// Where it was found, if somebody else has made it.
    pub(super) adopted: Option<String>,
    pub(super) interfaces: Vec<InterfaceView>,
    pub(super) routes: Vec<RouteView>,
    /// What keeps it, if it is more than a network namespace.
    pub(super) keeper: Option<KeeperView>,
    pub(super) processes: Vec<ProcessView>,
    /// What it has in place of the machine's files.
    pub(super) files: Vec<FileView>,
}

/// A file of a node.
#[derive(Debug, Serialize)]
pub(super) struct FileView {
    pub(super) path: String,
    /// In the notation of chmod; `None` if it is not there, or no text.
    pub(super) mode: Option<String>,
    pub(super) bytes: Option<usize>,
}

/// The keeper of a node.
#[derive(Debug, Serialize)]
pub(super) struct KeeperView {
    /// Its number on the machine.
    pub(super) pid: u32,
    /// What the node has of its own besides its network.
    pub(super) isolation: Vec<String>,
    pub(super) hostname: Option<String>,
    pub(super) limits: LimitsView,
    /// Why it is of no use any more.
    pub(super) lost: Option<String>,
}

/// What a node may use.
#[derive(Debug, Serialize)]
pub(super) struct LimitsView {
    /// Thousandths of a processor.
    cpu_permille: Option<u32>,
    memory_bytes: Option<u64>,
    processes: Option<u32>,
    #[serde(skip)]
    pub(super) words: String,
}

/// A process of a node.
#[derive(Debug, Serialize)]
pub(super) struct ProcessView {
    pub(super) name: String,
    pub(super) command: Vec<String>,
    /// `starting`, `running`, `waiting`, `done`, `failed`.
    pub(super) state: &'static str,
    /// How it ended last, if it does not run.
    pub(super) ended: Option<String>,
    /// Its number in the node.
    pub(super) pid: Option<u32>,
    pub(super) restarts: u32,
    pub(super) restart: String,
    /// Since when it is in that state, in seconds since 1970.
    pub(super) since: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct InterfaceView {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) mac: String,
    pub(super) mtu: u32,
    pub(super) up: bool,
    pub(super) carrier: bool,
    /// With our mark.
    pub(super) addresses: Vec<String>,
    /// Given for a time.
    pub(super) dynamic_addresses: Vec<DynamicView>,
    /// The lease that is kept for it.
    pub(super) lease: Option<LeaseView>,
    /// Added by others.
    pub(super) foreign_addresses: Vec<String>,
    /// The switch or interface at the other end, or `macvlan:NIC` or `nic:NIC`.
    pub(super) to: Option<String>,
    /// Whether that is an interface of a node.
    #[serde(skip)]
    is_cable: bool,
    /// What happens to frames that leave by it.
    #[serde(skip)]
    impairments: Impairments,
}

/// An address that an interface has for a time.
#[derive(Debug, Serialize)]
pub(super) struct DynamicView {
    pub(super) address: String,
    /// What gave it: `dhcp`, `slaac`.
    pub(super) by: String,
    /// For how many more seconds it is valid.
    pub(super) valid_s: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct LeaseView {
    /// None as long as no server has given one.
    pub(super) address: Option<String>,
    pub(super) server: Option<String>,
    pub(super) dns: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct RouteView {
    pub(super) to: String,
    pub(super) via: Option<String>,
    pub(super) device: String,
    pub(super) metric: u32,
}

/// This machine on a switch that has `nat`.
#[derive(Debug, Serialize)]
pub(super) struct WayOutView {
    /// The switch, if it is there.
    pub(super) switch: Option<String>,
    pub(super) device: String,
    /// Its addresses there, by which nodes find it.
    pub(super) addresses: Vec<String>,
}

/// A NIC of the machine that is a port of a switch, or in a node.
#[derive(Debug, Serialize)]
pub(super) struct UplinkView {
    pub(super) nic: String,
    /// The switch of which it is a port.
    pub(super) switch: Option<String>,
    /// The local device, which has the machine's addresses.
    pub(super) local: Option<String>,
    /// The node that it is in, and its interface.
    pub(super) node: Option<String>,
    pub(super) interface: Option<String>,
    /// What to confirm within how long, if that is still to be done.
    pub(super) unconfirmed: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LinkView {
    pub(super) ends: [String; 2],
    /// Of its links in the kernel; a way inside Open vSwitch has none.
    pub(super) mtu: Option<u32>,
    /// Whether both ends are up and have carrier.
    pub(super) up: bool,
    /// Whether it is down because that is wanted.
    pub(super) held_down: bool,
    /// What happens to frames that come from each end.
    pub(super) impairments: [Impairments; 2],
    /// The cables that pass for it, if it is more than one.
    pub(super) bond: Option<BondView>,
    /// What its ports on switches do with frames.
    #[serde(flatten)]
    pub(super) settings: SettingsView,
}

impl LabView {
    /// Looks at a lab without asking its switches what they have counted and learned;
    /// returns what it is to be as well.
    pub(super) async fn glance(
        engine: &mut Engine,
        lab: &LabName,
    ) -> Result<(Self, Option<Lab>), EngineError> {
        let status = engine.status(lab).await?;
        let seen = status.world.fabric.switches.values();
        let view = |seen| SwitchView::new(&status.world, seen, &Traffic::default(), None);
        let switches = seen.map(view).collect();
        let wanted = status.lab.clone();
        Ok((Self::of(engine, lab, status, switches)?, wanted))
    }

    /// Looks at a lab, with what its switches have counted and learned.
    pub(super) async fn look(engine: &mut Engine, lab: &LabName) -> Result<Self, EngineError> {
        let status = engine.status(lab).await?;
        let mut switches = Vec::new();
        for seen in status.world.fabric.switches.values() {
            let (mut traffic, mut standing) = (Traffic::default(), None);
            if let Some(switch) = engine.switch(seen.spec.backend) {
                let failed = EngineError::ObserveSwitches;
                traffic = switch.traffic(&seen.spec).await.map_err(failed)?;
                if let Some(openflow) = switch.openflow() {
                    standing = Some(openflow.standing(&seen.spec).await.map_err(failed)?);
                }
            }
            switches.push(SwitchView::new(&status.world, seen, &traffic, standing));
        }
        Self::of(engine, lab, status, switches)
    }

    fn of(
        engine: &Engine,
        lab: &LabName,
        status: Status,
        switches: Vec<SwitchView>,
    ) -> Result<Self, EngineError> {
        let uplinks = uplinks(engine, lab)?;
        let nodes = nodes(lab, &status.world);
        let links = links(&status.world, &nodes, &switches, &held_down(status.lab.as_ref()));
        Ok(Self {
            lab: lab.to_string(),
            state: state(&status),
            hosts: status.world.host.names.is_some(),
            cut_off: status.cut_off,
            drift: status.drift,
            troubles: status.troubles,
            switches,
            nodes,
            links,
            uplinks,
            ways_out: ways_out(&status.world),
            cuts: status.lab.map(|lab| lab.cuts).unwrap_or_default(),
        })
    }
}

/// Where this machine is on switches, for those that have `nat`.
fn ways_out(world: &World) -> Vec<WayOutView> {
    let doors = world.host.exits.doors.iter().flat_map(|seen| seen.doors.doors.keys());
    let view = |device: &IfName| {
        let mut switches = world.fabric.switches.values();
        let switch = switches.find(|seen| seen.spec.device == *device);
        let state = world.host.exits.gateways.get(device);
        WayOutView {
            switch: switch.map(|seen| seen.spec.name.to_string()),
            device: device.to_string(),
            addresses: state
                .map(|state| state.addresses.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
        }
    };
    doors.map(view).collect()
}

fn uplinks(engine: &Engine, lab: &LabName) -> Result<Vec<UplinkView>, EngineError> {
    let Attachments { nics, change, moved, boot: _, clients: _ } = engine.attachments(lab)?;
    let change = change.filter(|change| change.proved);
    let unconfirmed =
        |nic: &IfName| change.as_ref().filter(|c| c.nics.contains(nic)).map(|c| c.id.clone());
    let view = |(nic, attached): (&IfName, &Attached)| UplinkView {
        nic: nic.to_string(),
        switch: Some(attached.switch.name.to_string()),
        local: Some(attached.local.link.name.to_string()),
        node: None,
        interface: None,
        unconfirmed: unconfirmed(nic),
    };
    let lent = |(nic, away): (&IfName, &Away)| UplinkView {
        nic: nic.to_string(),
        switch: None,
        local: None,
        node: Some(away.loan.node.to_string()),
        interface: Some(away.loan.device.to_string()),
        unconfirmed: unconfirmed(nic),
    };
    Ok(nics.iter().map(view).chain(moved.iter().map(lent)).collect())
}

fn state(status: &Status) -> &'static str {
    match status {
        Status { cut_off: Some(_), .. } => "cut off",
        Status { lab: None, .. } => "unremembered",
        Status { drift, .. } if !drift.is_empty() => "drifted",
        Status { .. } => "up",
    }
}

/// What a port of ours leads to, by its mark.
fn across(world: &World, device: &IfName) -> Option<String> {
    if world.uplinks.contains_key(device) {
        return Some(format!("NIC {device}"));
    }
    let by_switch = world.fabric.switches.values().find_map(|seen| seen.ports.get(device));
    let mark = by_switch.map(|port| port.mark.as_str()).filter(|mark| !mark.is_empty());
    let mark = match mark {
        Some(mark) => mark,
        None => &world.host.ports.get(device)?.alias,
    };
    match Mark::parse(mark)?.thing {
        Thing::Port(port) => Some(match port.split_once(['~', '@']) {
            // A trunk's port is called `HERE~ACROSS#NUMBER`, a tunnel's
            // `HERE@TUNNEL`.
            Some((_, across)) => across.split('#').next().unwrap_or(across).to_owned(),
            None => port,
        }),
        Thing::Node(_) | Thing::Switch(_) | Thing::Interface(..) => None,
    }
}

fn nodes(lab: &LabName, world: &World) -> Vec<NodeView> {
    // Which switch each port device is plugged into.
    let plugged: BTreeMap<&IfName, &str> = world
        .fabric
        .switches
        .values()
        .flat_map(|seen| seen.ports.keys().map(|device| (device, seen.spec.name.as_str())))
        .collect();
    let switch_of: BTreeMap<String, &str> = plugged
        .iter()
        .filter_map(|(device, switch)| Some((across(world, device)?, *switch)))
        .collect();
    let node = |(name, seen): (&crate::model::names::NodeName, &crate::model::world::SeenNode)| {
        let interfaces = seen.devices.iter().map(|(device, link)| {
            let (interface, far) = match Mark::parse(&link.alias).map(|mark| mark.thing) {
                Some(Thing::Interface(_, interface, far)) => (interface.to_string(), far),
                _ => (device.to_string(), None),
            };
            let macvlan = seen.macvlans.get(device).and_then(|macvlan| macvlan.nic.as_ref());
            let nic = macvlan.map(|nic| format!("macvlan:{nic}"));
            let nic = nic.or_else(|| Some(format!("nic:{}", seen.moved.get(device)?)));
            let is_cable = far.is_some();
            let to = match far {
                Some((node, interface)) => Some(format!("{node}:{interface}")),
                None if nic.is_some() => nic,
                None => switch_of.get(&format!("{name}:{interface}")).map(|s| (*s).to_owned()),
            };
            let texts = |set: Option<&std::collections::BTreeSet<ipnet::IpNet>>| {
                set.into_iter().flatten().map(ToString::to_string).collect()
            };
            InterfaceView {
                name: interface,
                device: device.to_string(),
                mac: link.mac.to_string(),
                mtu: link.mtu,
                up: link.up,
                carrier: link.carrier,
                addresses: texts(seen.addresses.get(device)),
                dynamic_addresses: dynamic(seen, device),
                lease: world.host.leases.get(&(name.clone(), device.clone())).map(lease_view),
                foreign_addresses: texts(seen.foreign_addresses.get(device)),
                to,
                is_cable,
                impairments: link.egress.impairments(),
            }
        });
        NodeView {
            name: name.to_string(),
            netns: netns(lab, name),
            sealed: seen.sealed,
            adopted: seen.adopted.as_ref().map(|adopted| adopted.from.to_string()),
            interfaces: interfaces.collect(),
            routes: seen.routes.iter().map(route_view).collect(),
            keeper: world.host.keepers.get(name).map(keeper_view),
            processes: world
                .host
                .keepers
                .get(name)
                .into_iter()
                .flat_map(|keeper| keeper.processes.iter().map(process_view))
                .collect(),
            files: world
                .host
                .keepers
                .get(name)
                .into_iter()
                .flat_map(|keeper| keeper.files.iter().map(file_view))
                .collect(),
        }
    };
    world.host.nodes.iter().map(node).collect()
}

fn keeper_view(keeper: &SeenKeeper) -> KeeperView {
    let Limits { cpu_permille, memory_bytes, processes } = keeper.limits;
    let words = keeper.limits.to_string();
    KeeperView {
        pid: keeper.pid,
        isolation: keeper.room.kinds.iter().map(ToString::to_string).collect(),
        hostname: keeper.renamed.as_ref().or(keeper.room.hostname.as_ref()).cloned(),
        limits: LimitsView { cpu_permille, memory_bytes, processes, words },
        lost: keeper.lost.clone(),
    }
}

fn file_view((path, seen): (&String, &Option<NodeFile>)) -> FileView {
    FileView {
        path: path.clone(),
        mode: seen.as_ref().map(|file| format!("{:04o}", file.mode)),
        bytes: seen.as_ref().map(|file| file.text.len()),
    }
}

fn process_view(seen: &SeenProcess) -> ProcessView {
    let (state, ended) = match &seen.standing {
        Standing::Starting => ("starting", None),
        Standing::Running => ("running", None),
        Standing::Waiting { ended } => ("waiting", Some(ended.clone())),
        Standing::Done => ("done", None),
        Standing::Failed { ended } => ("failed", Some(ended.clone())),
    };
    ProcessView {
        name: seen.process.name.to_string(),
        command: seen.process.command.clone(),
        state,
        ended,
        pid: seen.pid,
        restarts: seen.restarts,
        restart: seen.process.restart.to_string(),
        since: seen.since_s,
    }
}

fn dynamic(seen: &SeenNode, device: &IfName) -> Vec<DynamicView> {
    let all = seen.dynamic.get(device).into_iter().flatten();
    let view = all.map(|(address, seen)| DynamicView {
        address: address.to_string(),
        by: seen.by.to_string(),
        valid_s: seen.valid_s,
    });
    view.collect()
}

fn lease_view(lease: &SeenLease) -> LeaseView {
    LeaseView {
        address: lease.address.map(|address| address.to_string()),
        server: lease.server.map(|server| server.to_string()),
        dns: lease.dns.iter().map(ToString::to_string).collect(),
    }
}

fn route_view(route: &KernelRoute) -> RouteView {
    let to = if route.to.prefix_len() == 0 { "default".into() } else { route.to.to_string() };
    RouteView {
        to,
        via: route.via.map(|via| via.to_string()),
        device: route.device.to_string(),
        metric: route.metric,
    }
}

/// The interfaces and the devices of ports of links that are to be down.
fn held_down(lab: Option<&Lab>) -> BTreeSet<String> {
    let mut held = BTreeSet::new();
    let links = lab.into_iter().flat_map(|lab| lab.links.iter().map(move |link| (lab, link)));
    for (lab, link) in links.filter(|(_, link)| link.down) {
        held.extend(link.ends.iter().map(ToString::to_string).filter(|end| end.contains(':')));
        let ports = (0..2).filter_map(|side| link.port(side));
        held.extend(ports.map(|port| lab.mark(Thing::Port(port)).device().to_string()));
    }
    held
}

/// Links as their ends tell of them: interfaces with what is across, and
/// trunks by their ports.
/// `held` are the interfaces and ports of links that are to be down.
fn links(
    world: &World,
    nodes: &[NodeView],
    switches: &[SwitchView],
    held: &BTreeSet<String>,
) -> Vec<LinkView> {
    let mut links = Vec::new();
    let interfaces: BTreeMap<String, Impairments> = nodes
        .iter()
        .flat_map(|node| node.interfaces.iter().map(move |it| (node, it)))
        .map(|(node, it)| (format!("{}:{}", node.name, it.name), it.impairments))
        .collect();
    let leaving = |device: &str| {
        let seen = world.host.ports.get(&IfName::new(device).ok()?)?;
        Some(seen.egress.impairments())
    };
    let ports = || switches.iter().flat_map(|switch| &switch.ports);
    let ports: BTreeMap<_, _> = ports().map(|port| (port.across.as_deref(), port)).collect();
    for node in nodes {
        for interface in &node.interfaces {
            let here = format!("{}:{}", node.name, interface.name);
            let Some(to) = &interface.to else { continue };
            // A cable is told of by both its ends.
            if interface.is_cable && *to < here {
                continue;
            }
            let up = interface.up && interface.carrier;
            let port = ports.get(&Some(here.as_str()));
            let settings = port.map(|port| port.settings.clone()).unwrap_or_default();
            let held_down = held.contains(&here);
            let across = match interface.is_cable {
                true => interfaces.get(to).copied(),
                false => port.and_then(|port| leaving(&port.device)),
            };
            let impairments = [interface.impairments, across.unwrap_or_default()];
            let (ends, mtu) = ([here, to.clone()], Some(interface.mtu));
            links.push(LinkView { ends, mtu, up, held_down, impairments, bond: None, settings });
        }
    }
    for switch in switches {
        for port in &switch.ports {
            let Some(across) = &port.across else { continue };
            if across.contains([':', ' ']) || *across < switch.name {
                continue;
            }
            let link = |device: &str| world.host.ports.get(&IfName::new(device).ok()?);
            let is_up = |device: &str| link(device).is_some_and(|it| it.up && it.carrier);
            let mtu = |device: &str| Some(link(device)?.mtu);
            let (mtu, up, bond) = match &port.kind {
                KindView::Link => (mtu(&port.device), is_up(&port.device), None),
                KindView::Bond { bond, cables } => {
                    let mut devices = cables.iter().map(|cable| cable.device.as_str());
                    let least = devices.clone().filter_map(mtu).min();
                    (least, devices.any(is_up), Some(bond.clone()))
                }
                KindView::Patch { .. } => (None, switch.up && port.broken.is_none(), None),
                KindView::Tunnel { .. } => continue,
            };
            let held_down = held.contains(&port.device);
            let far = across_of(world, port);
            let impairments = [Some(first_device(port)), far]
                .map(|device| device.and_then(|device| leaving(&device)).unwrap_or_default());
            let (ends, settings) = ([switch.name.clone(), across.clone()], port.settings.clone());
            links.push(LinkView { ends, mtu, up, held_down, impairments, bond, settings });
        }
    }
    links
}

/// The link of the kernel that is plugged into a port; of several, the first.
fn first_device(port: &PortView) -> String {
    match &port.kind {
        KindView::Bond { cables, .. } => cables.first().map(|cable| cable.device.clone()),
        KindView::Link | KindView::Patch { .. } | KindView::Tunnel { .. } => None,
    }
    .unwrap_or_else(|| port.device.clone())
}

/// The other end of that, by the marks of both: a port of a trunk is called
/// `HERE~ACROSS#NUMBER`, and so is the other the other way round.
fn across_of(world: &World, port: &PortView) -> Option<String> {
    let device = first_device(port);
    let link = |seen: &SeenDevice| Mark::parse(&seen.alias).and_then(|mark| mark.link());
    let here = link(world.host.ports.get(&IfName::new(&device).ok()?)?)?;
    let mut ports = world.host.ports.iter();
    let far = |(name, seen): &(&IfName, &SeenDevice)| {
        name.as_str() != device && link(seen).as_ref() == Some(&here)
    };
    ports.find(far).map(|(name, _)| name.to_string())
}
