//! A lab as somebody wants it: checked, complete, with every address given.
//!
//! What a file says (`model::file`) and what `--topo` means (`model::shapes`)
//! both end here. A `Lab` holds no positions and no defaults still to be
//! filled in; whoever has one may rely on what the comments promise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adopt::Adopt;
use super::impair::Impairments;
use super::life::Life;
use super::mark::{Mac, Mark, Thing};
use super::names::{IfName, InterfaceName, LabName, NodeName, SwitchName};

/// A named set of nodes, switches and links.
///
/// Promised: both ends of every link exist; every interface is on exactly one
/// link; no address, MAC or device name is used twice; no node is called like
/// a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lab {
    /// The lab's name.
    pub name: LabName,
    /// Its switches.
    pub switches: BTreeMap<SwitchName, Switch>,
    /// Its nodes.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Its links, in the order of the file.
    pub links: Vec<Link>,
    /// Sets of nodes that do not hear each other, by name.
    #[serde(default)]
    pub cuts: BTreeMap<IfName, Cut>,
    /// NICs of the machine that are ports of its switches.
    #[serde(default)]
    pub uplinks: BTreeMap<IfName, Uplink>,
    /// Where addresses come from that a later change leaves out; `None` for
    /// the usual networks. The lab's own addresses are all given.
    pub prefixes: Option<Vec<IpNet>>,
    /// Who tells its nodes the ways to each other, beside the file.
    #[serde(default)]
    pub routing: Option<Routing>,
    /// Whether its nodes have their names on the machine, too.
    #[serde(default)]
    pub hosts: bool,
}

/// How nodes come to know their ways (`model::routing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Routing {
    /// By routes that are worked out from the lab.
    Static,
}

/// Two sets of nodes: no frame of one reaches the other. None is in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cut {
    /// The one; not empty.
    pub nodes: BTreeSet<NodeName>,
    /// The other; not empty.
    pub from: BTreeSet<NodeName>,
}

/// Which families have a way out through the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nat {
    /// Both.
    Both,
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
}

impl Nat {
    /// Whether what is on a network has the way out.
    pub fn takes(self, net: &IpNet) -> bool {
        match self {
            Self::Both => true,
            Self::Ipv4 => net.addr().is_ipv4(),
            Self::Ipv6 => net.addr().is_ipv6(),
        }
    }
}

/// A NIC of the machine, shared into the lab. The host keeps its addresses, on
/// the local device of the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The switch of which it becomes a port.
    pub switch: SwitchName,
    /// Whether what may go wrong is the user's own wish: a second NIC on a
    /// switch without a spanning tree, VLAN devices on it.
    #[serde(default)]
    pub force: bool,
}

/// Which kind of bridge a switch is made of.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Open vSwitch.
    Ovs,
    /// The bridge of the Linux kernel.
    Linux,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ovs => "ovs",
            Self::Linux => "linux",
        })
    }
}

/// Which of its ways Open vSwitch forwards frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// In the kernel, by its module `openvswitch`.
    System,
    /// In the process `ovs-vswitchd`.
    Netdev,
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system",
            Self::Netdev => "netdev",
        })
    }
}

/// A switch, as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The backend asked for; `None` is `auto`.
    pub backend: Option<Backend>,
    /// The datapath asked for; `None` is the best there is.
    pub datapath: Option<Datapath>,
    /// The bridge's name in the kernel, where the file insists on one.
    pub device: Option<IfName>,
    /// The bridge's own MAC address; `None` derives one.
    pub mac: Option<Mac>,
    /// MTU in bytes; `None` is 1500.
    pub mtu: Option<u32>,
    /// What it does with frames.
    pub settings: SwitchSettings,
    /// Like the lab's, for the segment of this switch; empty for the lab's.
    pub prefixes: Vec<IpNet>,
    /// Whether what is on its segment has a way out through the machine.
    #[serde(default)]
    pub nat: Option<Nat>,
    /// The addresses that this machine has there for that; on networks of which
    /// none is named, one that is worked out.
    #[serde(default)]
    pub gateway: BTreeSet<IpNet>,
    /// Copies of its frames, by name.
    pub mirrors: BTreeMap<IfName, Mirror>,
    /// Tunnels to switches of other hosts, by name.
    pub tunnels: BTreeMap<IfName, Tunnel>,
    /// OpenFlow flows, as `ovs-ofctl(8)` writes them, with the names of ports
    /// ([`Link::port`]) in place of their numbers.
    pub flows: Vec<String>,
}

/// How a switch treats frames. All set explicitly, never left to the kernel
/// or to Open vSwitch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSettings {
    /// Spanning tree (IEEE 802.1D): loops are cut instead of refused.
    pub stp: bool,
    /// Rapid spanning tree (IEEE 802.1D-2004).
    pub rstp: bool,
    /// Time in listening and in learning under STP, in seconds, 2 to 30;
    /// `None` is the least that the backend takes, and 15 under RSTP.
    pub forward_delay_s: Option<u32>,
    /// How long a learned address is kept without traffic, in seconds.
    pub ageing_s: u32,
    /// Whether multicast goes only where it was asked for (IGMP, MLD).
    pub multicast_snooping: bool,
    /// Who decides about frames, where it is not the switch alone.
    pub openflow: OpenFlow,
    /// Where it reports its flows.
    pub export: Export,
}

impl Default for SwitchSettings {
    fn default() -> Self {
        Self {
            stp: false,
            rstp: false,
            forward_delay_s: None,
            ageing_s: 300,
            multicast_snooping: true,
            openflow: OpenFlow::default(),
            export: Export::default(),
        }
    }
}

/// The longest forward delay there is, in seconds (IEEE 802.1D, 8.10.2).
pub const FORWARD_DELAY_S_MAX: u32 = 30;

/// The forward delay under RSTP where nothing is said, in seconds.
pub const RSTP_FORWARD_DELAY_S_DEFAULT: u32 = 15;

/// How long what a spanning tree protocol told is believed, in seconds: as long
/// as fits the forward delay, 20 at most (IEEE 802.1D, 8.10.2). RSTP adds a
/// second at each switch, so it is also how many switches its word reaches.
pub fn max_age_s(forward_delay_s: u32) -> u32 {
    (2 * forward_delay_s.saturating_sub(1)).clamp(6, 20)
}

/// A switch's part in OpenFlow (`Bridge` and `Controller` in
/// ovs-vswitchd.conf.db(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFlow {
    /// What it does without a controller; `None` is `secure` where there are
    /// to be controllers, else `standalone`.
    pub fail_mode: Option<FailMode>,
    /// Where its controllers are, such as `tcp:127.0.0.1:6653`.
    pub controllers: BTreeSet<String>,
    /// Whether the controllers are reached through the switch itself.
    pub in_band: bool,
    /// The longest pause between attempts to connect, in milliseconds.
    pub max_backoff_ms: Option<u32>,
    /// The silence after which a controller is asked whether it lives, in
    /// milliseconds; 0 for never.
    pub inactivity_probe_ms: Option<u32>,
    /// The versions spoken, such as `OpenFlow13`; empty for all.
    pub protocols: BTreeSet<String>,
    /// Its number among switches: 16 hexadecimal digits.
    pub datapath_id: Option<String>,
}

/// What a switch does without a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailMode {
    /// It switches by itself.
    Standalone,
    /// It passes nothing but what flows say.
    Secure,
}

impl fmt::Display for FailMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone",
            Self::Secure => "secure",
        })
    }
}

/// Where a switch reports its flows. Collectors are `ADDRESS:PORT`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Export {
    /// NetFlow version 5.
    pub netflow: Option<NetFlow>,
    /// sFlow version 5.
    pub sflow: Option<Sflow>,
    /// IPFIX (RFC 7011).
    pub ipfix: Option<Ipfix>,
}

/// NetFlow records of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetFlow {
    /// The collectors; one at least.
    pub targets: BTreeSet<String>,
    /// How often a flow that lives is reported, in seconds; `None` for 600.
    pub active_timeout_s: Option<u32>,
}

/// sFlow samples of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sflow {
    /// The collectors; one at least.
    pub targets: BTreeSet<String>,
    /// One packet in so many is sampled; `None` for 400.
    pub sampling: Option<u32>,
    /// How often counters are sent, in seconds; `None` for 30.
    pub polling_s: Option<u32>,
    /// How much of a packet is sent, in bytes; `None` for 128.
    pub header_bytes: Option<u32>,
    /// The device whose address stands for the switch.
    pub agent: Option<String>,
}

/// IPFIX samples of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ipfix {
    /// The collectors; one at least.
    pub targets: BTreeSet<String>,
    /// One packet in so many is sampled; `None` for 400.
    pub sampling: Option<u32>,
    /// The observation domain.
    pub domain: Option<u32>,
    /// The observation point.
    pub point: Option<u32>,
    /// How long a flow is kept before it is sent, in seconds; `None` for at once.
    pub cache_timeout_s: Option<u32>,
}

/// A copy of some frames of a switch (SPAN).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Every frame.
    pub all: bool,
    /// Frames that come in at these ports ([`Link::port`]).
    pub from: BTreeSet<String>,
    /// Frames that go out at these.
    pub to: BTreeSet<String>,
    /// Of those, only frames in these VLANs; empty for all.
    pub vlans: BTreeSet<u16>,
    /// The port that gets the copies, and nothing else.
    pub output: String,
}

/// A tunnel from a switch to one of another host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// What frames are wrapped in.
    pub kind: TunnelKind,
    /// The other host.
    pub remote: IpAddr,
    /// This host, where the routes do not say.
    pub local: Option<IpAddr>,
    /// The network's number (VNI), the same at both ends.
    pub key: Option<u32>,
    /// The UDP port of the other host; `None` for the usual one.
    pub destination_port: Option<u16>,
    /// What its port on the switch does.
    pub port: PortSettings,
}

/// What a tunnel wraps frames in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelKind {
    /// VXLAN (RFC 7348).
    Vxlan,
    /// Geneve (RFC 8926).
    Geneve,
    /// Ethernet over GRE (RFC 2784, RFC 2890).
    Gre,
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
        })
    }
}

/// A node, as wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its interfaces by name.
    pub interfaces: BTreeMap<InterfaceName, Interface>,
    /// Its static routes.
    pub routes: BTreeSet<Route>,
    /// Kernel parameters below `net.`, dotted, as `sysctl(8)` names them.
    /// `forwarding: true` in a file ends here too.
    pub sysctls: BTreeMap<String, String>,
    /// What its processes may not do, if they may not do all.
    #[serde(default)]
    pub sealed: Option<Sealed>,
    /// The namespace that it is, if somebody else has made that.
    #[serde(default)]
    pub adopt: Option<Adopt>,
    /// What it is besides a network namespace.
    #[serde(default)]
    pub life: Life,
}

/// A node whose processes cannot change its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sealed {
    /// Whether they may open raw sockets, as `ping` does.
    pub raw: bool,
}

/// An interface of a node, as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its MAC address; `None` derives one from lab, node and interface.
    pub mac: Option<Mac>,
    /// Its addresses, host part and prefix length.
    pub addresses: BTreeSet<IpNet>,
    /// What else gives it some.
    #[serde(default)]
    pub dynamic: BTreeSet<Dynamic>,
}

/// What gives an interface addresses while it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dynamic {
    /// A DHCP server, of IPv4 (RFC 2131).
    Dhcp,
    /// A router's advertisements, of IPv6 (RFC 4862).
    Slaac,
}

impl Dynamic {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Dhcp, Self::Slaac];
}

impl fmt::Display for Dynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dhcp => "dhcp",
            Self::Slaac => "slaac",
        })
    }
}

/// A static route of a node (`ip-route(8)`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Route {
    /// Where to; `0.0.0.0/0` or `::/0` is `default`. No host bits.
    pub to: IpNet,
    /// The next router, of the same family as `to`.
    pub via: Option<IpAddr>,
    /// The interface, where `via` alone does not say.
    pub interface: Option<InterfaceName>,
    /// The metric; `None` is the kernel's default (0 for IPv4, 1024 for IPv6).
    pub metric: Option<u32>,
}

/// A link: two ends and how they behave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The two ends.
    pub ends: [End; 2],
    /// Tells apart several links between the same two switches: 0, 1, 2...
    /// in the order of the file. 0 for every other link.
    pub parallel: u32,
    /// MTU of both ends in bytes; `None` is 1500, or 1400 in a lab with tunnels,
    /// and that of the NIC where one is at an end.
    pub mtu: Option<u32>,
    /// What its ports on switches do.
    pub port: PortSettings,
    /// Several cables in place of one, between two switches.
    pub bond: Option<Bond>,
    /// Whether it is there and nothing passes, because that is wanted: no end
    /// has carrier. Not where a NIC is at an end.
    #[serde(default)]
    pub down: bool,
    /// What happens to the frames that come from each end. Of several cables, on
    /// each. Nothing where a NIC is at an end.
    #[serde(default)]
    pub impairments: [Impairments; 2],
}

/// Several cables that pass for one (link aggregation).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bond {
    /// How many cables, 2 to 8.
    pub members: u32,
    /// How frames are spread over them.
    pub mode: BondMode,
    /// Whether the ends agree on it by LACP (IEEE 802.1AX).
    pub lacp: Lacp,
}

/// How a bond spreads frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BondMode {
    /// All over one cable, until that fails.
    ActiveBackup,
    /// By source address and VLAN.
    BalanceSlb,
    /// By addresses and ports; needs LACP.
    BalanceTcp,
}

impl fmt::Display for BondMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ActiveBackup => "active-backup",
            Self::BalanceSlb => "balance-slb",
            Self::BalanceTcp => "balance-tcp",
        })
    }
}

/// Whether the ends of a bond speak LACP. Without it each end takes frames from
/// the cable that it uses itself, and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lacp {
    /// None.
    Off,
    /// Both ends begin.
    Active,
}

impl fmt::Display for Lacp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Active => "active",
        })
    }
}

/// Where a link ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum End {
    /// At an interface of a node.
    Node(NodeName, InterfaceName),
    /// At a port of a switch.
    Switch(SwitchName),
    /// At a NIC of the machine, for the node at the other end alone.
    Nic(IfName, Share),
}

/// How a node has a NIC of the machine without a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Share {
    /// A child of it; the machine keeps the NIC.
    Macvlan(Macvlan),
    /// The NIC itself.
    Move,
}

/// What children of one NIC hear of each other (`ip-link(8)`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Macvlan {
    /// Everything, at once.
    Bridge,
    /// Nothing.
    Private,
    /// What the switch behind the NIC sends back.
    Vepa,
    /// There is only one, and it has the NIC's own address.
    Passthru,
}

impl fmt::Display for Macvlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Private => "private",
            Self::Vepa => "vepa",
            Self::Passthru => "passthru",
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node, interface) => write!(f, "{node}:{interface}"),
            Self::Switch(switch) => write!(f, "{switch}"),
            Self::Nic(nic, Share::Macvlan(_)) => write!(f, "macvlan:{nic}"),
            Self::Nic(nic, Share::Move) => write!(f, "nic:{nic}"),
        }
    }
}

/// What a switch's port does with frames.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSettings {
    /// Isolated ports do not hear each other, only ports that are not.
    pub isolated: bool,
    /// Which VLANs pass (IEEE 802.1Q); `None` is no VLAN handling at all.
    pub vlan: Option<Vlan>,
    /// How much may come in.
    pub policing: Option<Policing>,
    /// How much goes out.
    pub shaping: Option<Shaping>,
    /// Whether Open vSwitch is to leave alone what happens to frames that go
    /// out, which is a link's own matter ([`Link::impairments`]). Else it takes
    /// that off when it opens the device.
    #[serde(default)]
    pub hands_off: bool,
}

/// A limit to what comes in at a port; what is above it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policing {
    /// In kilobits a second.
    pub rate_kbps: u32,
    /// How much more at once, in kilobits.
    pub burst_kb: u32,
}

impl Policing {
    /// The burst that lets TCP come near `rate_kbps` (ovs-vswitchd.conf.db(5)
    /// recommends 80 % of the rate), and holds some frames at least.
    pub fn burst_default(rate_kbps: u32) -> u32 {
        (rate_kbps / 5 * 4).max(128)
    }
}

/// What goes out at a port, by a token bucket and queues (`linux-htb`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shaping {
    /// All together, in kilobits a second.
    pub rate_kbps: u32,
    /// Shares of it by number, chosen by OpenFlow's `set_queue`; 0 is what
    /// chooses none.
    pub queues: BTreeMap<u32, Queue>,
}

/// A share of what goes out at a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    /// What it has for sure, in kilobits a second.
    pub min_kbps: Option<u32>,
    /// What it may have of what others leave, in kilobits a second.
    pub max_kbps: Option<u32>,
}

/// A port's part in VLANs. Ids are 1 to 4094.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vlan {
    /// Untagged outside, in this VLAN inside.
    Access(u16),
    /// Tagged outside; `native` travels untagged.
    Trunk {
        /// The VLANs that pass.
        vlans: BTreeSet<u16>,
        /// The one that is untagged outside, if any.
        native: Option<u16>,
    },
    /// All that comes in is wrapped in this VLAN, tags and all (802.1ad, QinQ).
    Tunnel {
        /// The outer VLAN.
        vlan: u16,
        /// The inner ones that pass; empty for all.
        customers: BTreeSet<u16>,
    },
}

impl Link {
    /// The MTU of a link that names none, in bytes.
    pub const MTU_DEFAULT: u32 = 1500;

    /// The same in a lab with tunnels: what is wrapped in one has to fit into
    /// 1500 bytes, or it vanishes without a word (Open vSwitch sends no ICMP).
    pub const MTU_IN_TUNNELS: u32 = 1400;

    /// What tells this link from every other of its lab, and stays the same
    /// when the file is reordered: the interface of a link to a switch
    /// (`n1:eth0`), both interfaces of a cable (`n1:eth0~n2:eth0`), both
    /// switches and a number of a trunk (`s1~s2#0`). No name has a `~` in it.
    pub fn id(&self) -> String {
        match &self.ends {
            [End::Node(node, interface), End::Switch(_) | End::Nic(..)]
            | [End::Switch(_) | End::Nic(..), End::Node(node, interface)] => {
                format!("{node}:{interface}")
            }
            // The checks let no such link through.
            [a @ End::Nic(..), b] | [b, a @ End::Nic(..)] => format!("{a}~{b}"),
            [End::Switch(a), End::Switch(b)] => {
                let (a, b) = if a < b { (a, b) } else { (b, a) };
                format!("{a}~{b}#{}", self.parallel)
            }
            [a @ End::Node(..), b @ End::Node(..)] => {
                let (a, b) = if a < b { (a, b) } else { (b, a) };
                format!("{a}~{b}")
            }
        }
    }

    /// The name of the port at end `side` (0 or 1), if that end is on a
    /// switch: the interface across, or both switches with the port's own
    /// first, so that the two ports of a trunk have two names.
    pub fn port(&self, side: usize) -> Option<String> {
        match (&self.ends[side], &self.ends[1 - side]) {
            (End::Node(..) | End::Nic(..), _) => None,
            (End::Switch(_), across @ (End::Node(..) | End::Nic(..))) => Some(across.to_string()),
            (End::Switch(here), End::Switch(across)) => {
                Some(format!("{here}~{across}#{}", self.parallel))
            }
        }
    }

    /// The NIC that a node has by this link, how, and as which interface.
    pub fn nic(&self) -> Option<NodeNic<'_>> {
        let ([End::Nic(nic, share), End::Node(node, interface)]
        | [End::Node(node, interface), End::Nic(nic, share)]) = &self.ends
        else {
            return None;
        };
        Some(NodeNic { nic, share: *share, node, interface, mtu: self.mtu })
    }
}

/// A link between a node and a NIC of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeNic<'l> {
    /// The NIC.
    pub nic: &'l IfName,
    /// How the node has it.
    pub share: Share,
    /// The node.
    pub node: &'l NodeName,
    /// What it is called there.
    pub interface: &'l InterfaceName,
    /// Its MTU in bytes there, if not the NIC's own.
    pub mtu: Option<u32>,
}

impl Tunnel {
    /// The name of the tunnel's port. No name of a node or switch has an `@`.
    pub fn port(switch: &SwitchName, tunnel: &IfName) -> String {
        format!("{switch}@{tunnel}")
    }
}

impl Lab {
    /// The MTU of a link in bytes, as the file says or as fits.
    pub fn mtu(&self, link: &Link) -> u32 {
        let tunnels = self.switches.values().any(|switch| !switch.tunnels.is_empty());
        let default = if tunnels { Link::MTU_IN_TUNNELS } else { Link::MTU_DEFAULT };
        link.mtu.unwrap_or(default)
    }

    /// The NICs of the machine that its nodes have, in the order of the file.
    pub fn nics(&self) -> impl Iterator<Item = NodeNic<'_>> {
        self.links.iter().filter_map(Link::nic)
    }

    /// The same of those that leave the machine for a node.
    pub fn moved(&self) -> impl Iterator<Item = NodeNic<'_>> {
        self.nics().filter(|link| link.share == Share::Move)
    }

    /// The same lab where its nodes do not have these NICs themselves: without the
    /// interfaces, and the routes that leave by them.
    pub fn without_moved(&self, nics: &BTreeSet<IfName>) -> Self {
        let mut lab = self.clone();
        for at in self.moved().filter(|at| nics.contains(at.nic)) {
            lab.links.retain(|link| link.nic() != Some(at));
            let Some(node) = lab.nodes.get_mut(at.node) else { continue };
            let gone = node.interfaces.remove(at.interface);
            let nets = gone.map(|interface| interface.addresses).unwrap_or_default();
            node.routes.retain(|route| match (&route.interface, route.via) {
                (Some(interface), _) => interface != at.interface,
                (None, Some(via)) => !nets.iter().any(|net| net.contains(&via)),
                (None, None) => true,
            });
        }
        lab
    }

    /// The mark of `thing` in this lab.
    pub fn mark(&self, thing: Thing) -> Mark {
        Mark { lab: self.name.clone(), thing }
    }
}
