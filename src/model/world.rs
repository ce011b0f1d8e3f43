//! The world as the hands saw it: what of a lab is there, and whose it is.
//!
//! Filled in by `kernel` and `switch`, compared with a lab by `plan`. It
//! tells apart what carries the lab's mark and what is somebody else's, and
//! of the latter only the names, so that no plan can be tempted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::mark::Mac;
use super::names::{IfName, LabName, NodeName, SwitchName};
use super::topology::{Backend, PortSettings, SwitchSettings};

/// Everything that one plan has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Namespaces and links.
    pub host: HostView,
    /// The switches of every backend that was asked.
    pub fabric: Fabric,
}

impl World {
    /// Whether nothing of the lab is there.
    pub fn is_empty(&self) -> bool {
        let HostView { nodes, stubs, ports, unsettled: _, taken: _, unknown_sysctls: _ } =
            &self.host;
        nodes.is_empty() && stubs.is_empty() && ports.is_empty() && self.fabric.switches.is_empty()
    }
}

/// What the kernel has of one lab.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostView {
    /// The lab's nodes: named namespaces with the lab's mark in them.
    pub nodes: BTreeMap<NodeName, SeenNode>,
    /// Nodes with an address of ours that has carrier and cannot be used yet.
    pub unsettled: BTreeSet<NodeName>,
    /// Names of nodes that were cut off before a namespace was behind them.
    pub stubs: BTreeSet<NodeName>,
    /// The lab's links in the machine's own namespace (the ends at switches),
    /// without bridges.
    pub ports: BTreeMap<IfName, SeenDevice>,
    /// Every other name in use here.
    pub taken: Taken,
    /// Kernel parameters that were asked for and that this kernel has not.
    pub unknown_sysctls: BTreeSet<String>,
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
    /// Routes with our mark.
    pub routes: BTreeSet<KernelRoute>,
    /// Routes of others in the main table.
    pub foreign_routes: BTreeSet<KernelRoute>,
    /// The kernel parameters that were asked for, where they can be read.
    pub sysctls: BTreeMap<String, String>,
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
}

impl Questions {
    /// Asks for all that carries the lab's mark and no kernel parameters.
    pub fn about(lab: &LabName) -> Self {
        Self { lab: lab.clone(), inside: true, sysctls: BTreeMap::new() }
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
}

/// A switch that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSwitch {
    /// How it is set.
    pub spec: SwitchSpec,
    /// Whether it is up and forwards.
    pub up: bool,
    /// Its ports by device, other people's among them.
    pub ports: BTreeMap<IfName, PortSettings>,
}

/// A switch in the backend's terms, every value given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSpec {
    /// Its name in the lab.
    pub name: SwitchName,
    /// What it is made of.
    pub backend: Backend,
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

/// A port in the backend's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// The switch.
    pub switch: SwitchName,
    /// The switch's bridge.
    pub bridge: IfName,
    /// The link that is plugged in.
    pub device: IfName,
    /// What the port does with frames.
    pub settings: PortSettings,
    /// Whether the switch looks at VLAN tags at all.
    pub filtering: bool,
}
