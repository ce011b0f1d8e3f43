//! What is there, in the shape in which it is shown: by `status`, by the
//! lists, as text and as JSON.

mod switch;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use switch::{
    BondView, CableView, ControllerView, CountersView, KindView, LearnedView, MirrorView,
    OpenFlowView, PortView, QinqView, SettingsView, SwitchView,
};

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

/// One lab.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LabView {
    /// Its name.
    pub lab: String,
    /// `up`, `drifted`, `cut off`, or `unremembered`.
    pub state: String,
    /// The command that was killed in the middle of a change.
    pub cut_off: Option<String>,
    /// What `ovsns up` would do to mend it; behind `! `, what keeps it from that.
    pub drift: Vec<String>,
    /// What is wrong with what the lab depends on.
    pub troubles: Vec<String>,
    /// Its switches.
    pub switches: Vec<SwitchView>,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
    /// Its links.
    pub links: Vec<LinkView>,
    /// NICs of the machine that it has.
    pub uplinks: Vec<UplinkView>,
    /// Where it is on switches, as the way out.
    pub ways_out: Vec<WayOutView>,
    /// Sets of nodes that do not hear each other, because that is wanted.
    pub cuts: BTreeMap<IfName, Cut>,
    /// Whether the machine has the names of its nodes.
    pub hosts: bool,
}

/// A node.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// What `ip netns` calls it.
    pub netns: String,
    /// Whether its processes cannot change its network, and whether they may open raw
    /// sockets.
    pub sealed: Option<Sealed>,
    /// Where it was found, if somebody else has made it.
    pub adopted: Option<String>,
    /// What it has for interfaces.
    pub interfaces: Vec<InterfaceView>,
    /// Its routes, without those that the kernel makes.
    pub routes: Vec<RouteView>,
    /// What keeps it, if it is more than a network namespace.
    pub keeper: Option<KeeperView>,
    /// What runs in it by its file.
    pub processes: Vec<ProcessView>,
    /// What it has in place of the machine's files.
    pub files: Vec<FileView>,
}

/// A file of a node.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct FileView {
    /// Where it lies in the node.
    pub path: String,
    /// In the notation of chmod; `None` if it is not there, or no text.
    pub mode: Option<String>,
    /// How long it is.
    pub bytes: Option<usize>,
}

/// The keeper of a node.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeeperView {
    /// Its number on the machine.
    pub pid: u32,
    /// What the node has of its own besides its network.
    pub isolation: Vec<String>,
    /// What the node calls itself, if it has a name of its own.
    pub hostname: Option<String>,
    /// What the node may use.
    pub limits: LimitsView,
    /// Why it is of no use any more.
    pub lost: Option<String>,
}

/// What a node may use.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LimitsView {
    /// Thousandths of a processor.
    cpu_permille: Option<u32>,
    /// Of memory.
    memory_bytes: Option<u64>,
    /// How many.
    processes: Option<u32>,
    /// All of these in words.
    pub words: String,
}

/// A process of a node.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProcessView {
    /// What the file calls it.
    pub name: String,
    /// The command and its words.
    pub command: Vec<String>,
    /// `starting`, `running`, `waiting`, `done`, `failed`.
    pub state: String,
    /// How it ended last, if it does not run.
    pub ended: Option<String>,
    /// Its number in the node.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// When it is: `never`, `on-failure`, `always`.
    pub restart: String,
    /// Since when it is in that state, in seconds since 1970.
    pub since: u64,
}

/// An interface of a node.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct InterfaceView {
    /// What the file calls it.
    pub name: String,
    /// What the node calls it.
    pub device: String,
    /// Its Ethernet address.
    pub mac: String,
    /// In bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether the other end is up, too.
    pub carrier: bool,
    /// With our mark.
    pub addresses: Vec<String>,
    /// Given for a time.
    pub dynamic_addresses: Vec<DynamicView>,
    /// The lease that is kept for it.
    pub lease: Option<LeaseView>,
    /// Added by others.
    pub foreign_addresses: Vec<String>,
    /// The switch or interface at the other end, or `macvlan:NIC` or `nic:NIC`.
    pub to: Option<String>,
    /// Whether that is an interface of a node.
    #[serde(skip)]
    is_cable: bool,
    /// What happens to frames that leave by it.
    #[serde(skip)]
    impairments: Impairments,
}

/// An address that an interface has for a time.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct DynamicView {
    /// With its length.
    pub address: String,
    /// What gave it: `dhcp`, `slaac`.
    pub by: String,
    /// For how many more seconds it is valid.
    pub valid_s: u32,
}

/// A lease of a DHCP server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeaseView {
    /// None as long as no server has given one.
    pub address: Option<String>,
    /// Who gave it.
    pub server: Option<String>,
    /// The name servers that came with it.
    pub dns: Vec<String>,
}

/// A route of a node.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RouteView {
    /// The network, or `default`.
    pub to: String,
    /// The router; none if it is on the link.
    pub via: Option<String>,
    /// The interface it leaves by.
    pub device: String,
    /// The lower goes first.
    pub metric: u32,
}

/// This machine on a switch that has `nat`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct WayOutView {
    /// The switch, if it is there.
    pub switch: Option<String>,
    /// Its device on the machine.
    pub device: String,
    /// Its addresses there, by which nodes find it.
    pub addresses: Vec<String>,
}

/// A NIC of the machine that is a port of a switch, or in a node.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct UplinkView {
    /// The NIC.
    pub nic: String,
    /// The switch of which it is a port.
    pub switch: Option<String>,
    /// The local device, which has the machine's addresses.
    pub local: Option<String>,
    /// The node that it is in, and its interface.
    pub node: Option<String>,
    /// What the node calls it.
    pub interface: Option<String>,
    /// How it does, in words.
    pub state: String,
    /// What to confirm within how long, if that is still to be done.
    pub unconfirmed: Option<String>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkView {
    /// What it joins: `NODE:INTERFACE` or a switch. Of several between the same two
    /// switches all but the first have a number behind the second: `s2#1`.
    pub ends: [String; 2],
    /// Of its links in the kernel; a way inside Open vSwitch has none.
    pub mtu: Option<u32>,
    /// Whether both ends are up and have carrier.
    pub up: bool,
    /// Whether it is down because that is wanted.
    pub held_down: bool,
    /// What happens to frames that come from each end.
    pub impairments: [Impairments; 2],
    /// The cables that pass for it, if it is more than one.
    pub bond: Option<BondView>,
    /// What its ports on switches do with frames.
    #[serde(flatten)]
    pub settings: SettingsView,
}

impl LabView {
    /// Looks at a lab without asking its switches what they have counted and learned,
    /// and only those that have controllers how they stand to them; returns what it is
    /// to be as well.
    pub async fn glance(
        engine: &mut Engine,
        lab: &LabName,
    ) -> Result<(Self, Option<Lab>), EngineError> {
        let status = engine.status(lab).await?;
        let mut switches = Vec::new();
        for seen in status.world.fabric.switches.values() {
            let asks = !seen.spec.settings.openflow.controllers.is_empty();
            let openflow = engine.switch(seen.spec.backend).filter(|_| asks);
            let standing = match openflow.and_then(|switch| switch.openflow()) {
                Some(openflow) => {
                    let standing = openflow.standing(&seen.spec).await;
                    Some(standing.map_err(EngineError::ObserveSwitches)?)
                }
                None => None,
            };
            switches.push(SwitchView::new(&status.world, seen, &Traffic::default(), standing));
        }
        let wanted = status.lab.clone();
        Ok((Self::of(engine, lab, status, switches)?, wanted))
    }

    /// Looks at a lab, with what its switches have counted and learned.
    pub async fn look(engine: &mut Engine, lab: &LabName) -> Result<Self, EngineError> {
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
        let uplinks = uplinks(engine, lab, &status)?;
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

fn uplinks(
    engine: &Engine,
    lab: &LabName,
    status: &Status,
) -> Result<Vec<UplinkView>, EngineError> {
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
        state: status.nics.get(nic).map_or("gone".into(), ToString::to_string),
        unconfirmed: unconfirmed(nic),
    };
    let lent = |(nic, away): (&IfName, &Away)| UplinkView {
        nic: nic.to_string(),
        switch: None,
        local: None,
        node: Some(away.loan.node.to_string()),
        interface: Some(away.loan.device.to_string()),
        state: match away.loan.is_there(&status.world) {
            true => "attached".to_owned(),
            false => "not in its node".to_owned(),
        },
        unconfirmed: unconfirmed(nic),
    };
    Ok(nics.iter().map(view).chain(moved.iter().map(lent)).collect())
}

/// How a lab is, in a word.
pub(super) fn state(status: &Status) -> String {
    let words = match status {
        Status { cut_off: Some(_), .. } => "cut off",
        Status { lab: None, .. } => "unremembered",
        Status { drift, .. } if !drift.is_empty() => "drifted",
        Status { .. } => "up",
    };
    words.to_owned()
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
        state: state.to_owned(),
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
            let opposite = across_of(world, port);
            let impairments = [Some(first_device(port)), opposite]
                .map(|device| device.and_then(|device| leaving(&device)).unwrap_or_default());
            let far = match number(world, &switch.name, &port.device) {
                None | Some(0) => across.clone(),
                Some(number) => format!("{across}#{number}"),
            };
            let (ends, settings) = ([switch.name.clone(), far], port.settings.clone());
            links.push(LinkView { ends, mtu, up, held_down, impairments, bond, settings });
        }
    }
    links
}

/// Which of the links between two switches a port is an end of, by its mark.
fn number(world: &World, switch: &str, device: &str) -> Option<u32> {
    let device = IfName::new(device).ok()?;
    let mut switches = world.fabric.switches.values();
    let port = switches.find(|seen| seen.spec.name.as_str() == switch)?.ports.get(&device);
    let link = world.host.ports.get(&device);
    let marks = [port.map(|port| &port.mark), link.map(|link| &link.alias)];
    marks.into_iter().flatten().find_map(|mark| Mark::parse(mark)?.number())
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
