//! A lab as somebody wants it: checked, complete, with every address given.
//!
//! What a file says (`model::file`) and what `--topo` means (`model::shapes`)
//! both end here. A `Lab` holds no positions and no defaults still to be
//! filled in; whoever has one may rely on what the comments promise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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
    /// Where addresses come from that a later change leaves out; `None` for
    /// the usual networks. The lab's own addresses are all given.
    pub prefixes: Option<Vec<IpNet>>,
}

/// Which kind of bridge a switch is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// A switch, as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// The backend asked for; `None` is `auto`.
    pub backend: Option<Backend>,
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
}

/// How a switch treats frames. All set explicitly, never left to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSettings {
    /// Spanning tree (IEEE 802.1D): loops are cut instead of refused.
    pub stp: bool,
    /// Time in listening and in learning under STP, in seconds, 2 to 30.
    pub forward_delay_s: u32,
    /// How long a learned address is kept without traffic, in seconds.
    pub ageing_s: u32,
    /// Whether multicast goes only where it was asked for (IGMP, MLD).
    pub multicast_snooping: bool,
}

impl Default for SwitchSettings {
    fn default() -> Self {
        Self { stp: false, forward_delay_s: 2, ageing_s: 300, multicast_snooping: true }
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
}

/// An interface of a node, as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its MAC address; `None` derives one from lab, node and interface.
    pub mac: Option<Mac>,
    /// Its addresses, host part and prefix length.
    pub addresses: BTreeSet<IpNet>,
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
    /// MTU of both ends in bytes; `None` is 1500.
    pub mtu: Option<u32>,
    /// What its ports on switches do.
    pub port: PortSettings,
}

/// Where a link ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum End {
    /// At an interface of a node.
    Node(NodeName, InterfaceName),
    /// At a port of a switch.
    Switch(SwitchName),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node, interface) => write!(f, "{node}:{interface}"),
            Self::Switch(switch) => write!(f, "{switch}"),
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
}

impl Link {
    /// The MTU of a link that names none, in bytes.
    pub const MTU_DEFAULT: u32 = 1500;

    /// What tells this link from every other of its lab, and stays the same
    /// when the file is reordered: the interface of a link to a switch
    /// (`n1:eth0`), both interfaces of a cable (`n1:eth0~n2:eth0`), both
    /// switches and a number of a trunk (`s1~s2#0`). No name has a `~` in it.
    pub fn id(&self) -> String {
        match &self.ends {
            [End::Node(node, interface), End::Switch(_)]
            | [End::Switch(_), End::Node(node, interface)] => format!("{node}:{interface}"),
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
            (End::Node(..), _) => None,
            (End::Switch(_), across @ End::Node(..)) => Some(across.to_string()),
            (End::Switch(here), End::Switch(across)) => {
                Some(format!("{here}~{across}#{}", self.parallel))
            }
        }
    }
}

impl Lab {
    /// The mark of `thing` in this lab.
    pub fn mark(&self, thing: Thing) -> Mark {
        Mark { lab: self.name.clone(), thing }
    }
}
