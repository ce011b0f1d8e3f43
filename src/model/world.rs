//! The world as the hands saw it: what of a lab is there, and whose it is.
//!
//! Filled in by `kernel` and `switch`, compared with a lab by `plan`. It
//! tells apart what carries the lab's mark and what is somebody else's, and
//! of the latter only the names, so that no plan can be tempted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::adopt::{Adopt, NetnsId};
use super::exits::SeenExits;
use super::impair::Impairments;
use super::life::SeenKeeper;
use super::mark::{Mac, Mark};
use super::names::{IfName, LabName, NodeName, SwitchName};
use super::topology::{
    Backend, BondMode, Datapath, Dynamic, FailMode, Lacp, Macvlan, PortSettings, Sealed,
    SwitchSettings, TunnelKind,
};

/// Everything that one plan has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Namespaces and links.
    pub host: HostView,
    /// The switches of every backend that was asked.
    pub fabric: Fabric,
    /// NICs of the machine that are ports of the lab's switches.
    pub uplinks: BTreeMap<IfName, SeenUplink>,
    /// The backends that the lab has or may have switches of, by what is
    /// remembered of it. Looked up where one could not be asked.
    pub remembered: BTreeSet<Backend>,
}

/// A NIC that is a port of a switch. The switch's local device is to the host
/// what the NIC was, and has its Ethernet address and MTU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenUplink {
    /// The switch.
    pub switch: SwitchName,
    /// The NIC's address.
    pub mac: Mac,
    /// The NIC's MTU in bytes.
    pub mtu: u32,
}

impl World {
    /// The backends that have switches of the lab, as their local devices or our
    /// memory tell, and could not be asked for them; with the reason. A bridge
    /// that is in a database only has no device.
    pub fn unseen(&self) -> impl Iterator<Item = (Backend, &str)> {
        let has =
            |backend: &Backend| !self.host.locals.is_empty() || self.remembered.contains(backend);
        let unseen = self.fabric.unseen.iter().filter(move |(backend, _)| has(backend));
        unseen.map(|(backend, why)| (*backend, why.as_str()))
    }

    /// Whether nothing of the lab is there.
    pub fn is_empty(&self) -> bool {
        let HostView {
            nodes,
            stubs,
            ports,
            locals,
            keepers,
            left,
            unsettled: _,
            leases: _,
            controllers: _,
            unknown_users: _,
            lies: _,
            names,
            names_fixed: _,
            taken: _,
            unknown_sysctls: _,
            targets: _,
            cannot: _,
            exits,
        } = &self.host;
        nodes.is_empty()
            && exits.doors.is_none()
            && stubs.is_empty()
            && keepers.is_empty()
            && names.is_none()
            && left.is_empty()
            && ports.is_empty()
            && locals.is_empty()
            && self.fabric.switches.is_empty()
            && self.fabric.astray.is_empty()
            && self.fabric.leftovers.is_empty()
    }
}

/// What the kernel has of one lab.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostView {
    /// The lab's nodes: named namespaces with the lab's mark in them.
    pub nodes: BTreeMap<NodeName, SeenNode>,
    /// Nodes with an address of ours that has carrier and cannot be used yet.
    pub unsettled: BTreeSet<NodeName>,
    /// Interfaces that somebody of ours keeps a lease for.
    pub leases: BTreeMap<(NodeName, IfName), SeenLease>,
    /// Keepers of nodes: also of nodes that are gone.
    pub keepers: BTreeMap<NodeName, SeenKeeper>,
    /// Nodes of which a keeper that is gone has left something.
    pub left: BTreeSet<NodeName>,
    /// What a node can be limited in here.
    pub controllers: BTreeSet<Controller>,
    /// Users that were asked for and that this machine does not know.
    pub unknown_users: BTreeSet<String>,
    /// The names of its nodes in the machine's file of names.
    pub names: Option<String>,
    /// Why that file cannot be written, if that was asked for.
    pub names_fixed: Option<String>,
    /// Files of nodes that were asked for: over what each would lie here, as this
    /// machine is, or why it cannot.
    pub lies: BTreeMap<String, Result<String, String>>,
    /// Names of nodes that were cut off before a namespace was behind them.
    pub stubs: BTreeSet<NodeName>,
    /// The lab's links in the machine's own namespace (the ends at switches),
    /// without bridges.
    pub ports: BTreeMap<IfName, SeenDevice>,
    /// The local devices of the lab's bridges in Open vSwitch. Those of
    /// userspace are taps that outlive the daemon.
    pub locals: BTreeMap<IfName, SeenDevice>,
    /// Every other name in use here.
    pub taken: Taken,
    /// Kernel parameters that were asked for and that this kernel has not.
    pub unknown_sysctls: BTreeSet<String>,
    /// What nodes are to adopt, as far as that was asked for.
    pub targets: BTreeMap<NodeName, Target>,
    /// What was asked for and this kernel cannot do, and what it has not.
    pub cannot: BTreeMap<Ability, String>,
    /// The ways out through the machine.
    pub exits: SeenExits,
}

/// What was found where a node to be adopted should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Nothing, and why.
    Missing(String),
    /// A namespace.
    There {
        /// Which.
        netns: NetnsId,
        /// Whose.
        whose: Whose,
        /// What is in it.
        inside: Box<SeenNode>,
    },
}

/// Whose a namespace is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// Somebody's.
    Another,
    /// The machine's own.
    Machine,
    /// That of a node, which ovsns has made.
    Node(Mark),
}

/// What is known of a node that is adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAdoption {
    /// Which namespace it is.
    pub netns: NetnsId,
    /// Where it was found.
    pub from: Adopt,
}

/// Names that belong to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Named namespaces without this lab's mark.
    pub namespaces: BTreeSet<String>,
    /// Devices without this lab's mark, by name and by altname, with the
    /// alias of each.
    pub devices: BTreeMap<String, String>,
}

/// A node that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenNode {
    /// How it is sealed.
    pub sealed: Option<Sealed>,
    /// That somebody else has made it, and where it was found.
    pub adopted: Option<SeenAdoption>,
    /// Its loopback, if it was looked at; not that of a node that is adopted.
    pub loopback: Option<SeenDevice>,
    /// The interfaces of ours in it.
    pub devices: BTreeMap<IfName, SeenDevice>,
    /// Names of other devices in it, made by whoever works there.
    pub foreign: BTreeSet<String>,
    /// Addresses with our mark, by device.
    pub addresses: BTreeMap<IfName, BTreeSet<IpNet>>,
    /// Whether one of those has carrier and cannot be used yet.
    pub unsettled: bool,
    /// Addresses of others on our devices.
    pub foreign_addresses: BTreeMap<IfName, BTreeSet<IpNet>>,
    /// Our devices that are up and on which somebody has switched IPv6 off.
    pub without_ipv6: BTreeSet<IfName>,
    /// Addresses that our devices have for a time, by what gave them.
    pub dynamic: BTreeMap<IfName, BTreeMap<IpNet, SeenDynamic>>,
    /// Routes with our mark, less those that came with a lease and go with it.
    pub routes: BTreeSet<KernelRoute>,
    /// Routes of others in the main table, and by whom they are.
    pub foreign_routes: BTreeMap<KernelRoute, RouteOrigin>,
    /// The kernel parameters that were asked for, where they can be read.
    pub sysctls: BTreeMap<String, String>,
    /// Whether our devices leave checksums to hardware, if that was asked for.
    pub checksums: BTreeMap<IfName, bool>,
    /// Which of our devices are children of NICs of the machine.
    pub macvlans: BTreeMap<IfName, SeenMacvlan>,
    /// Which are NICs of the machine, and what each is called at home.
    pub moved: BTreeMap<IfName, IfName>,
    /// What it does not hear, by us.
    pub deaf: Option<SeenDeaf>,
    /// Whether somebody else has the table by which it would not, if that was asked
    /// for.
    pub cut_taken: bool,
}

/// Frames that a node does not hear, whatever brings them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deaf {
    /// Its devices.
    pub devices: BTreeSet<IfName>,
    /// Who sends them, next door.
    pub macs: BTreeSet<Mac>,
    /// Who sends them, through routers too.
    pub addresses: BTreeSet<IpAddr>,
}

/// The same as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenDeaf {
    /// What is there.
    pub deaf: Deaf,
    /// Whether a part of it is gone.
    pub altered: bool,
}

/// A child of a NIC that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenMacvlan {
    /// The NIC; `None` if it is not in the machine's own namespace.
    pub nic: Option<IfName>,
    /// What it hears of its siblings.
    pub mode: Macvlan,
}

/// An address that is there for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenDynamic {
    /// What gave it.
    pub by: Dynamic,
    /// For how many more seconds it is valid.
    pub valid_s: u32,
    /// Whether it cannot be used yet.
    pub tentative: bool,
}

/// A lease that is kept for an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenLease {
    /// The address; `None` as long as no server has given one.
    pub address: Option<IpNet>,
    /// The server that gave it.
    pub server: Option<Ipv4Addr>,
    /// The name servers that it told of.
    pub dns: Vec<Ipv4Addr>,
}

/// A link that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenDevice {
    /// Its address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is up (`IFF_UP`).
    pub up: bool,
    /// Whether it has carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Its alias; the full mark if it got that far.
    pub alias: String,
    /// Its other names.
    pub altnames: BTreeSet<String>,
    /// What happens to frames that leave by it.
    #[serde(default)]
    pub egress: Egress,
}

/// What happens to frames that leave by a link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Egress {
    /// They go at once.
    #[default]
    Plain,
    /// They are impaired, by us.
    Impaired {
        /// How.
        impairments: Impairments,
        /// Whether somebody has changed what has no name there.
        altered: bool,
    },
    /// Somebody else has a queueing discipline of this kind there.
    Others(String),
}

impl Egress {
    /// How they are impaired by us, if they are.
    pub fn impairments(&self) -> Impairments {
        match self {
            Self::Impaired { impairments, .. } => *impairments,
            Self::Plain | Self::Others(_) => Impairments::default(),
        }
    }
}

/// By whom a route is, as it says itself (`rtm_protocol`; the numbers are those
/// of linux/rtnetlink.h, and of FRR's zebra/rt_netlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteOrigin(pub u8);

impl RouteOrigin {
    /// Whether somebody makes it again when its link is up again: the kernel, of
    /// addresses and of what routers tell, a routing daemon, a DHCP client. One
    /// that was entered by hand, or by who knows whom, is lost for ever.
    pub fn comes_again(self) -> bool {
        const REDIRECT_AND_KERNEL: [u8; 2] = [1, 2];
        const GATED: u8 = 8;
        /// Of what routers tell.
        const RA: u8 = 9;
        const MRT: u8 = 10;
        const ZEBRA: u8 = 11;
        const BIRD: u8 = 12;
        const XORP: u8 = 14;
        const DHCP: u8 = 16;
        const BABEL: u8 = 42;
        const OPENR: u8 = 99;
        /// BGP, IS-IS, OSPF, RIP, RIPng, NHRP, EIGRP, LDP, SHARP, PBR, and what
        /// is static in FRR's own configuration.
        const DAEMONS_OF_FRR: std::ops::RangeInclusive<u8> = 186..=196;
        REDIRECT_AND_KERNEL.contains(&self.0)
            || [GATED, RA, MRT, ZEBRA, BIRD, XORP, DHCP, BABEL, OPENR].contains(&self.0)
            || DAEMONS_OF_FRR.contains(&self.0)
    }
}

/// A route, as the kernel keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KernelRoute {
    /// Where to.
    pub to: IpNet,
    /// The next router, if the destination is not on the link.
    pub via: Option<IpAddr>,
    /// The device it leaves by.
    pub device: IfName,
    /// The metric; 0 for IPv4 and 1024 for IPv6 unless said otherwise.
    pub metric: u32,
}

/// Something of which a control group can have less than all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// The number of processes.
    Pids,
}

impl Controller {
    /// Its name in `cgroups(7)`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// What the observer should look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Questions {
    /// The lab.
    pub lab: LabName,
    /// Whether to look into the nodes, or only at whose they are: to take a
    /// lab down, what is in a node does not matter.
    pub inside: bool,
    /// Kernel parameters to read, by node.
    pub sysctls: BTreeMap<NodeName, BTreeSet<String>>,
    /// Whether to look at checksum offload in the nodes.
    pub checksums: bool,
    /// What to look for that nodes are to adopt.
    pub adopt: BTreeMap<NodeName, Adopt>,
    /// What the kernel is to be tried for.
    pub abilities: BTreeSet<Ability>,
    /// Whether to look what a node can be limited in.
    pub controllers: bool,
    /// Users to look for.
    pub users: BTreeSet<String>,
    /// Whether to look if the machine's file of names can be written.
    pub names: bool,
    /// Files of nodes to find a place for.
    pub files: BTreeSet<String>,
    /// Whether there is to be a way out through the machine: then what decides about
    /// that is looked at, too.
    pub exits: bool,
    /// Nodes that are not to hear all; in others it is looked for where they have
    /// the name that says so.
    pub deaf: BTreeSet<NodeName>,
}

/// Something that links need and not every kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ability {
    /// To limit the rate of what leaves by a device.
    Rate,
    /// To delay, lose, double, reorder or corrupt it.
    Netem,
    /// To drop what comes in by a device before anybody hears it.
    Cut,
    /// To give what is forwarded the machine's own address.
    Nat,
}

impl Questions {
    /// Asks for all that carries the lab's mark, and neither for kernel
    /// parameters nor for checksum offload.
    pub fn about(lab: &LabName) -> Self {
        Self {
            lab: lab.clone(),
            inside: true,
            sysctls: BTreeMap::new(),
            checksums: false,
            adopt: BTreeMap::new(),
            abilities: BTreeSet::new(),
            controllers: false,
            users: BTreeSet::new(),
            files: BTreeSet::new(),
            names: false,
            exits: false,
            deaf: BTreeSet::new(),
        }
    }

    /// Asks which things carry the lab's mark, and no more about them.
    pub fn whose(lab: &LabName) -> Self {
        Self { inside: false, ..Self::about(lab) }
    }
}

/// The switches of one lab.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fabric {
    /// Switches by name.
    pub switches: BTreeMap<SwitchName, SeenSwitch>,
    /// Ports of the lab that somebody moved to a bridge that is not the lab's.
    pub astray: BTreeMap<IfName, AstrayPort>,
    /// Rows of the lab that no port has any more. Nothing but we deletes them.
    pub leftovers: BTreeSet<Leftover>,
    /// Names that bridges and ports of others have in the backend's database,
    /// with what each is.
    pub taken: BTreeMap<String, &'static str>,
    /// Interfaces in the backend's database that are in ports of others with
    /// another name, by which port.
    pub in_ports: BTreeMap<String, String>,
    /// The backends whose switches could not be looked at, and why.
    pub unseen: BTreeMap<Backend, String>,
    /// Switches whose flows could not be read, and why.
    pub blind: BTreeMap<SwitchName, String>,
    /// What others gave the lab's bridges and ports in columns that hold one
    /// thing: a change of ours would take it away.
    pub foreign: BTreeSet<Foreign>,
    /// What is wrong with the daemons that the switches depend on, in words.
    pub troubles: Vec<String>,
}

impl Fabric {
    /// Adds what another backend has of the lab.
    pub fn extend(&mut self, other: Self) {
        let Self { switches, astray, leftovers, taken, in_ports, unseen, blind, foreign, troubles } =
            other;
        self.switches.extend(switches);
        self.astray.extend(astray);
        self.leftovers.extend(leftovers);
        self.taken.extend(taken);
        self.in_ports.extend(in_ports);
        self.unseen.extend(unseen);
        self.blind.extend(blind);
        self.foreign.extend(foreign);
        self.troubles.extend(troubles);
    }
}

/// Something of others on what is ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Foreign {
    /// An export of a bridge.
    Export {
        /// The bridge.
        bridge: IfName,
        /// Which.
        kind: ExportKind,
    },
    /// The QoS of a port.
    Qos {
        /// The port.
        port: IfName,
    },
}

/// A way to report flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExportKind {
    /// `NetFlow`.
    Netflow,
    /// `sFlow`.
    Sflow,
    /// `IPFIX`.
    Ipfix,
}

/// A switch that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSwitch {
    /// How it is set.
    pub spec: SwitchSpec,
    /// Whether it is up and forwards.
    pub up: bool,
    /// Why it has to be made anew, if it has to.
    pub broken: Option<String>,
    /// Its ports by device, other people's among them.
    pub ports: BTreeMap<IfName, SeenPort>,
    /// Its mirrors of ours.
    pub mirrors: BTreeMap<IfName, MirrorSpec>,
    /// The names of other people's mirrors.
    pub foreign_mirrors: BTreeSet<String>,
    /// Its flows of ours by cookie, as the switch writes them.
    pub flows: BTreeMap<u64, String>,
    /// The flow of the first table that matches what no other does, as the
    /// switch writes it, whoever made it. `None` if there is none, or no flows
    /// at all.
    pub table_miss: Option<String>,
}

/// A port of the lab on a bridge that is not the lab's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AstrayPort {
    /// The bridge.
    pub bridge: IfName,
    /// The port.
    pub port: SeenPort,
}

/// A row about shaping whose port somebody else deleted, or took it off. In the
/// database of Open vSwitch it outlives all that refers to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leftover {
    /// Whether it is a queue; else it is the shaping itself.
    pub is_queue: bool,
    /// The row's UUID.
    pub row: String,
    /// Its mark.
    pub mark: String,
}

/// A port that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPort {
    /// What is plugged in.
    pub kind: PortKind,
    /// What it does with frames.
    pub settings: PortSettings,
    /// Its OpenFlow number.
    pub number: Option<u16>,
    /// The mark on it; empty for other people's, and where the link's own
    /// mark is enough.
    pub mark: String,
    /// In which life of the machine a NIC was attached here, where the backend
    /// keeps that.
    pub lent: Option<String>,
    /// Why it does not work, although all is set as it should be: the link was
    /// made again behind the switch's back, or the switch could not take it.
    pub broken: Option<String>,
}

/// A switch in the backend's terms, every value given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSpec {
    /// Its name in the lab.
    pub name: SwitchName,
    /// What it is made of.
    pub backend: Backend,
    /// How Open vSwitch forwards; `None` for other backends, and as long as
    /// nobody has decided.
    pub datapath: Option<Datapath>,
    /// The bridge.
    pub device: IfName,
    /// The bridge's address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The lab's link group.
    pub group: u32,
    /// The full mark.
    pub alias: String,
    /// The other name of the bridge.
    pub altname: String,
    /// What it does with frames.
    pub settings: SwitchSettings,
    /// Whether it looks at VLAN tags at all.
    pub vlan_filtering: bool,
}

impl SwitchSpec {
    /// Whether it is Open vSwitch that forwards by itself, by a flow of its
    /// own. It makes that when it is told to be such a switch, and never again.
    pub fn forwards_by_itself(&self) -> bool {
        let openflow = &self.settings.openflow;
        self.backend == Backend::Ovs
            && openflow.fail_mode != Some(FailMode::Secure)
            && openflow.controllers.is_empty()
    }
}

/// A port in the backend's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// The switch.
    pub switch: SwitchName,
    /// The switch's bridge.
    pub bridge: IfName,
    /// The port, and the link that is plugged in, if it is one link.
    pub device: IfName,
    /// What is plugged in.
    pub kind: PortKind,
    /// What the port does with frames.
    pub settings: PortSettings,
    /// Whether the switch looks at VLAN tags at all.
    pub filtering: bool,
    /// Its OpenFlow number, where the backend has such.
    pub number: Option<u16>,
    /// Its mark, where the backend keeps one.
    pub mark: String,
}

/// What is plugged into a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortKind {
    /// A link of the kernel.
    Link,
    /// A way to a port of another switch of the same datapath.
    Patch {
        /// That port.
        peer: IfName,
    },
    /// Several links that pass for one.
    Bond {
        /// The links.
        members: BTreeSet<IfName>,
        /// How frames are spread.
        mode: BondMode,
        /// The part in LACP.
        lacp: Lacp,
        /// The link that is used as long as it works: the same cable's at both
        /// ends, which else take two, and nothing passes. Where one is used.
        primary: Option<IfName>,
    },
    /// A tunnel to another host.
    Tunnel {
        /// What frames are wrapped in.
        kind: TunnelKind,
        /// The other host.
        remote: IpAddr,
        /// This host.
        local: Option<IpAddr>,
        /// The network's number.
        key: Option<u32>,
        /// The UDP port of the other host.
        destination_port: Option<u16>,
    },
}

/// A mirror in the backend's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSpec {
    /// The switch.
    pub switch: SwitchName,
    /// The switch's bridge.
    pub bridge: IfName,
    /// Its name.
    pub name: IfName,
    /// Every frame.
    pub all: bool,
    /// Frames that come in at these ports; where the backend has no word for
    /// `all`, that is at every port.
    pub from: BTreeSet<IfName>,
    /// Frames that go out at these.
    pub to: BTreeSet<IfName>,
    /// Only these VLANs; empty for all.
    pub vlans: BTreeSet<u16>,
    /// The port that gets the copies.
    pub output: IfName,
    /// Its mark.
    pub mark: String,
}

/// A flow in the backend's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSpec {
    /// The switch.
    pub switch: SwitchName,
    /// The switch's bridge.
    pub bridge: IfName,
    /// By which it is known again; 0 for the switch's own.
    pub cookie: u64,
    /// The flow as `ovs-ofctl(8)` reads it, less its cookie, with devices in
    /// place of port numbers.
    pub text: String,
    /// The same for people, with ports as they are called.
    pub words: String,
}

impl FlowSpec {
    /// The flow by which a switch forwards by itself, as it writes it.
    pub const OWN: &'static str = "priority=0,actions=NORMAL";

    /// That flow of a switch.
    pub fn own(spec: &SwitchSpec) -> Self {
        Self {
            switch: spec.name.clone(),
            bridge: spec.device.clone(),
            cookie: 0,
            text: Self::OWN.to_owned(),
            words: format!("{}, by which it forwards by itself", Self::OWN),
        }
    }

    /// Whether it is that.
    pub fn is_own(&self) -> bool {
        self.cookie == 0
    }
}
