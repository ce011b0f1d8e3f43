//! What is known of the way from one node to another: filled in by the hands,
//! a question at a time, and read by the rest of this room.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::mark::Mac;
use crate::model::names::{IfName, NodeName, SwitchName};
use crate::model::packet::{Frame, Packet, Sort, Spot, Tap};

/// All that is known so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the kernel has, by namespace; `None` for one that is gone.
    pub spots: BTreeMap<Spot, Option<SpotFacts>>,
    /// What it says about routes.
    pub routes: BTreeMap<RouteQuestion, RouteAnswer>,
    /// What switches say they would do with a frame, or why they cannot say.
    pub ways: BTreeMap<WayQuestion, Result<Way, String>>,
    /// What was seen while it was tried.
    pub tried: Option<Tried>,
    /// The same for a large packet.
    pub tried_large: Option<Tried>,
    /// The same for a TCP connection that nobody need take, where a switch in
    /// userspace is on the way.
    pub tried_tcp: Option<Tried>,
}

/// What the rest of this room has to know, to go on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// What a namespace has.
    Spot(Spot),
    /// Which way the kernel of a namespace would send a packet.
    Route(RouteQuestion),
    /// What a switch would do with a frame.
    Way(WayQuestion),
}

/// Which way would this go?
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteQuestion {
    /// In which node.
    pub node: NodeName,
    /// The source address; `None` where the kernel is to choose.
    pub from: Option<IpAddr>,
    /// The destination.
    pub to: IpAddr,
    /// The device that it came in by; `None` for a packet of the node's own.
    pub enters: Option<String>,
}

/// What the kernel says to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteAnswer {
    /// It is for the node itself.
    Local,
    /// It leaves.
    Leaves {
        /// By this device.
        device: String,
        /// To this router, if the destination is not on the link.
        via: Option<IpAddr>,
        /// From this address.
        from: Option<IpAddr>,
        /// By a route for these destinations.
        to: Option<IpNet>,
        /// In this routing table.
        table: u32,
    },
    /// It does not.
    Refused(Refused),
}

/// Why the kernel would not send a packet on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no route (`ENETUNREACH`).
    NoRoute,
    /// It does not forward, or a route says that nothing is there
    /// (`EHOSTUNREACH`).
    Unreachable,
    /// A route drops it without a word (`EINVAL`).
    Blackhole,
    /// A route forbids it (`EACCES`).
    Prohibited,
    /// Answers would go another way (`EXDEV`, `rp_filter`).
    WrongWay,
    /// Something else, as the number of an error.
    Other(i32),
}

/// What would this switch do with this?
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WayQuestion {
    /// The switch.
    pub switch: SwitchName,
    /// The port that the frame comes in by.
    pub enters: IfName,
    /// The frame.
    pub frame: Frame,
}

/// What a switch would do with a frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Way {
    /// The ports by which it leaves, on this switch or on those behind it.
    pub leaves: BTreeSet<IfName>,
    /// Why it does not leave by others, by port; that of the port that it came
    /// in by is why it leaves by none.
    pub kept: BTreeMap<IfName, Kept>,
    /// The switch's own words, the last one last.
    pub words: Vec<String>,
    /// The flow that decided, where there are flows.
    pub flow: Option<String>,
}

/// Why a switch keeps a frame from a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The port is no port of the switch.
    NoPort,
    /// The port is in this state of a spanning tree.
    State(&'static str),
    /// Both ports are isolated.
    Isolated,
    /// The port is not in that VLAN.
    Vlan(u16),
    /// What is for nobody known is not flooded to this port.
    NoFlood,
    /// The station is believed to be behind another port.
    Behind {
        /// The station.
        mac: Mac,
        /// That port.
        port: IfName,
        /// Whether somebody entered that for good; else it was heard there.
        pinned: bool,
    },
    /// The port takes frames of known stations alone (`locked`).
    Locked,
    /// A flow drops it.
    Flow {
        /// The flow, as it would be deleted.
        flow: String,
        /// Whether it is of the lab.
        ours: bool,
    },
    /// No flow is for it, and the switch does nothing without one.
    NoFlow {
        /// Whether it has controllers, and whether one is connected.
        controllers: Option<bool>,
    },
    /// It is for the controller to decide.
    Controller,
    /// In the switch's own words.
    Words(String),
}

/// What the kernel of one namespace has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpotFacts {
    /// Its links by name.
    pub links: BTreeMap<String, LinkFacts>,
    /// Its addresses.
    pub addresses: Vec<AddressFacts>,
    /// Its neighbours.
    pub neighbours: Vec<NeighbourFacts>,
    /// Its routes that lead nowhere.
    pub dead_ends: Vec<DeadEnd>,
    /// Its rules beyond the usual three of each family, in words.
    pub rules: Vec<String>,
    /// Kernel parameters, without `net.`.
    pub sysctls: BTreeMap<String, String>,
    /// Who listens.
    pub listening: Vec<Listening>,
    /// Which of its devices leave checksums to hardware.
    pub checksums: BTreeMap<String, bool>,
    /// What is in the queues and filters of its devices.
    pub queues: Vec<QueueFacts>,
    /// Chains of the packet filter that can drop.
    pub chains: Vec<ChainFacts>,
    /// Tables of the old packet filter (`iptables-legacy`) that are in use.
    pub legacy: Vec<String>,
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkFacts {
    /// Its number.
    pub index: u32,
    /// Its address.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether it has carrier.
    pub carrier: bool,
    /// Whether it asks for no neighbours (`IFF_NOARP`).
    pub noarp: bool,
    /// The number of the link at its other end, if it is a pair.
    pub peer: Option<u32>,
    /// The bridge, bond or VRF that it is in.
    pub master: Option<String>,
    /// The state of its port under a spanning tree, if it is one of a bridge.
    pub port_state: Option<&'static str>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressFacts {
    /// The device.
    pub device: String,
    /// The address with its network.
    pub net: IpNet,
    /// Whether it is still being tried for duplicates.
    pub tentative: bool,
    /// Whether somebody else has it.
    pub duplicate: bool,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighbourFacts {
    /// The device that it is behind.
    pub device: String,
    /// Its address.
    pub ip: IpAddr,
    /// Its Ethernet address, if it is known.
    pub mac: Option<Mac>,
    /// Whether somebody entered it for good.
    pub permanent: bool,
}

/// A route that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadEnd {
    /// `blackhole`, `unreachable`, `prohibit` or `throw`.
    pub kind: &'static str,
    /// For these destinations.
    pub to: IpNet,
    /// In this table.
    pub table: u32,
}

/// Somebody who listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Whether for TCP; else for UDP.
    pub tcp: bool,
    /// At this address, or at all.
    pub at: IpAddr,
    /// At this port.
    pub port: u16,
}

/// Something at a device that delays, loses or drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFacts {
    /// The device.
    pub device: String,
    /// Whether what leaves passes it; else it is what comes in.
    pub out: bool,
    /// What it does.
    pub does: Queueing,
    /// How `tc` takes it away.
    pub removed_by: String,
    /// How many it dropped so far.
    pub dropped: u64,
}

/// What something at a device does with frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queueing {
    /// Loses so many in ten thousand.
    Loses(u32),
    /// Spoils so many in ten thousand.
    Corrupts(u32),
    /// Delays, by microseconds.
    Delays(u32),
    /// Holds to a rate in bits a second, and takes so many bytes at once.
    Limits(u64, Option<u32>),
    /// A filter drops what it matches.
    Drops,
    /// A qdisc that keeps nothing.
    Blackhole,
}

/// A chain of the packet filter, as far as it can drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFacts {
    /// `ip`, `ip6`, `inet`, `bridge`, `arp`, `netdev`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it hooks in: `input`, `forward`...; empty for one that is jumped to.
    pub hook: &'static str,
    /// The device that it is for, in `netdev`.
    pub device: Option<String>,
    /// Whether what no rule matches is dropped, and how many were.
    pub drops: bool,
    /// Its rules that drop.
    pub rules: Vec<RuleFacts>,
}

/// A rule that drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFacts {
    /// By which it can be deleted.
    pub handle: u64,
    /// What it counted, if it counts.
    pub packets: Option<u64>,
    /// Whether it matches everything.
    pub all: bool,
}

/// What was seen while it was tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// The packet.
    pub packet: Option<Packet>,
    /// How long it was.
    pub bytes: usize,
    /// What came of it.
    pub outcome: Outcome,
    /// Where what passed.
    pub seen: BTreeSet<(Tap, Sort)>,
    /// The namespaces that were watched.
    pub watched: BTreeSet<Spot>,
    /// What packet filters dropped of it.
    pub dropped: Vec<Dropped>,
    /// By how much counters rose (`/proc/net/snmp`, `/proc/net/netstat`).
    pub counted: BTreeMap<(Spot, String), u64>,
    /// By how much rules rose that count: namespace, family, table, chain and
    /// handle.
    pub matched: BTreeSet<(Spot, String, String, u64)>,
    /// Which queues and filters dropped meanwhile.
    pub lost_in: BTreeSet<(Spot, String)>,
}

/// What came of trying.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Answered,
    /// The answer that nobody listens.
    Refused,
    /// The kernel would not send it, with the number of an error.
    NotSent(i32),
    /// It came back that it cannot be delivered, with the number of an error.
    Undeliverable(i32),
    /// Silence.
    #[default]
    Silence,
}

/// What a packet filter dropped, as it told by a trace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dropped {
    /// In this namespace.
    pub spot: Spot,
    /// `ip`, `ip6`, `inet`...
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule; `None` if it was the chain's policy.
    pub handle: Option<u64>,
    /// The rule as `nft` shows it, where that is installed.
    pub text: Option<String>,
    /// Whether it was the packet; else it was the answer.
    pub is_request: bool,
}

impl Facts {
    /// What a namespace has; nothing if it is gone, or was not asked for.
    pub fn spot(&self, spot: &Spot) -> Option<&SpotFacts> {
        self.spots.get(spot)?.as_ref()
    }

    /// A link.
    pub fn link(&self, spot: &Spot, device: &str) -> Option<&LinkFacts> {
        self.spot(spot)?.links.get(device)
    }
}

impl SpotFacts {
    /// A kernel parameter, as a number.
    pub fn sysctl(&self, key: &str) -> Option<i64> {
        self.sysctls.get(key)?.trim().parse().ok()
    }

    /// Whether the namespace has an address.
    pub fn address(&self, ip: IpAddr) -> Option<&AddressFacts> {
        self.addresses.iter().find(|address| address.net.addr() == ip)
    }
}
