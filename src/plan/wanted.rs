//! A lab in the kernel's terms: which devices, under which names, with which
//! marks and addresses. What `diff` compares the world with.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::step::{Place, Veth, VethEnd};
use crate::model::mark::{Mac, Mark, Thing, birth_mac, device_inside, group};
use crate::model::names::{IfName, InterfaceName, NodeName, SwitchName};
use crate::model::topology::{Backend, End, Lab, Link, Node, PortSettings, Route, Vlan};
use crate::model::world::{KernelRoute, PortSpec, SwitchSpec};

/// A lab, worked out to the last device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Nodes by name.
    pub nodes: BTreeMap<NodeName, WantedNode>,
    /// Links by identity.
    pub links: BTreeMap<String, WantedLink>,
    /// Switches by name.
    pub switches: BTreeMap<SwitchName, SwitchSpec>,
}

/// A node, worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedNode {
    /// Addresses by device.
    pub addresses: BTreeMap<IfName, BTreeSet<IpNet>>,
    /// Routes, each with its device.
    pub routes: BTreeSet<KernelRoute>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
}

/// A link, worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLink {
    /// Its two ends.
    pub veth: Veth,
    /// Its ports on switches: none for a cable, two for a trunk.
    pub ports: Vec<PortSpec>,
}

impl Wanted {
    /// Works out `lab`; `backend` says what an `auto` switch is made of.
    pub fn new(lab: &Lab, backend: Backend) -> Self {
        let switches: BTreeMap<_, _> =
            lab.switches.keys().map(|name| (name.clone(), switch(lab, name, backend))).collect();
        let links = lab.links.iter().map(|l| (l.id(), link(lab, l, &switches))).collect();
        let nodes = lab.nodes.iter().map(|(name, n)| (name.clone(), node(lab, name, n))).collect();
        Self { nodes, links, switches }
    }

    /// Whether a switch has to look at VLAN tags.
    pub fn has_vlans(&self) -> bool {
        self.switches.values().any(|spec| spec.vlan_filtering)
    }

    /// The ports of all links, by device.
    pub fn ports(&self) -> BTreeMap<&IfName, &PortSpec> {
        self.links.values().flat_map(|link| &link.ports).map(|p| (&p.device, p)).collect()
    }
}

fn switch(lab: &Lab, name: &SwitchName, auto: Backend) -> SwitchSpec {
    let wanted = &lab.switches[name];
    let mark = lab.mark(Thing::Switch(name.clone()));
    let device = wanted.device.clone().unwrap_or_else(|| mark.device());
    let on_this = |link: &&Link| link.ends.contains(&End::Switch(name.clone()));
    SwitchSpec {
        name: name.clone(),
        backend: wanted.backend.unwrap_or(auto),
        mac: wanted.mac.unwrap_or_else(|| birth_mac(&device)),
        device,
        mtu: wanted.mtu.unwrap_or(Link::MTU_DEFAULT),
        group: group(&lab.name),
        alias: mark.to_string(),
        altname: mark.full_name(),
        settings: wanted.settings.clone(),
        // A switch looks at tags only where a port says what they mean:
        // otherwise tagged frames of the nodes pass as they are.
        vlan_filtering: lab.links.iter().filter(on_this).any(|link| link.port.vlan.is_some()),
    }
}

fn link(lab: &Lab, link: &Link, switches: &BTreeMap<SwitchName, SwitchSpec>) -> WantedLink {
    // The end at a switch comes first: it is where the request is made.
    let sides = if matches!(link.ends, [End::Node(..), End::Switch(_)]) { [1, 0] } else { [0, 1] };
    let ends = sides.map(|side| end(lab, link, side));
    let ports = sides.into_iter().zip(&ends).filter_map(|(side, end)| match &link.ends[side] {
        End::Node(..) => None,
        End::Switch(switch) => Some(PortSpec {
            switch: switch.clone(),
            bridge: switches[switch].device.clone(),
            device: end.device.clone(),
            settings: port_settings(link),
            filtering: switches[switch].vlan_filtering,
        }),
    });
    let ports = ports.collect();
    let mtu = link.mtu.unwrap_or(Link::MTU_DEFAULT);
    WantedLink { veth: Veth { link: link.id(), group: group(&lab.name), mtu, ends }, ports }
}

/// The VLAN that travels untagged is one of those that pass.
fn port_settings(link: &Link) -> PortSettings {
    let mut settings = link.port.clone();
    if let Some(Vlan::Trunk { vlans, native: Some(native) }) = &mut settings.vlan {
        vlans.insert(*native);
    }
    settings
}

fn end(lab: &Lab, link: &Link, side: usize) -> VethEnd {
    match (&link.ends[side], &link.ends[1 - side]) {
        (End::Node(node, interface), across) => {
            let across = match across {
                End::Node(node, interface) => Some((node.clone(), interface.clone())),
                End::Switch(_) => None,
            };
            let mark = lab.mark(Thing::Interface(node.clone(), interface.clone(), across));
            let device = device_inside(&lab.name, node, interface);
            // Where the kernel's name is the full one there is nothing to add.
            let short = device.as_str() != interface.as_str();
            VethEnd {
                at: Place::Node(node.clone()),
                mac: interface_mac(lab, node, interface, &mark),
                alias: mark.to_string(),
                altname: short.then(|| interface.to_string()),
                device,
            }
        }
        (End::Switch(_), _) => {
            let port = link.port(side).expect("an end at a switch has a port");
            let mark = lab.mark(Thing::Port(port));
            let device = mark.device();
            VethEnd {
                at: Place::Host,
                mac: birth_mac(&device),
                alias: mark.to_string(),
                altname: Some(mark.full_name()),
                device,
            }
        }
    }
}

fn interface_mac(lab: &Lab, node: &NodeName, interface: &InterfaceName, mark: &Mark) -> Mac {
    lab.nodes[node].interfaces[interface].mac.unwrap_or_else(|| mark.mac())
}

fn node(lab: &Lab, name: &NodeName, node: &Node) -> WantedNode {
    let device = |interface: &InterfaceName| device_inside(&lab.name, name, interface);
    WantedNode {
        addresses: node
            .interfaces
            .iter()
            .map(|(interface, wanted)| (device(interface), wanted.addresses.clone()))
            .collect(),
        routes: node
            .routes
            .iter()
            .filter_map(|route| {
                let interface = route.interface.clone().or_else(|| on_link(node, route))?;
                // The kernel takes 0 for its default, which for IPv6 is 1024.
                let metric_default = if route.to.addr().is_ipv4() { 0 } else { 1024 };
                Some(KernelRoute {
                    to: route.to,
                    via: route.via,
                    device: device(&interface),
                    metric: route.metric.filter(|metric| *metric != 0).unwrap_or(metric_default),
                })
            })
            .collect(),
        sysctls: node.sysctls.clone(),
    }
}

/// The interface on whose link the next router of `route` is. The checks of
/// the file have made sure that there is one.
fn on_link(node: &Node, route: &Route) -> Option<InterfaceName> {
    let via = route.via?;
    let mut interfaces = node.interfaces.iter();
    let (name, _) = interfaces.find(|(_, i)| i.addresses.iter().any(|net| net.contains(&via)))?;
    Some(name.clone())
}
