//! What a topology file says, key by key.
//!
//! One table for each kind of mapping: the key, what it holds, what it is
//! for, and its effect, side by side. Reading, the messages about unknown
//! keys and the JSON Schema all come from these tables; a new key is one
//! line here and one field.
//!
//! A `LabSpec` is what was said, with places, ranges and gaps; whether it
//! makes sense is asked in `check.rs`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::holds::{
    Address, Choice, Destination, Ends, Flag, Gateway, Holds, Key, List, Many, Map, Mtu, Object,
    Of, Parameter, Prefix, Setting, Text, VlanId, Whole, key,
};
use super::mark::Mac;
use super::names::{IfName, InterfaceName, LabName};
use super::problem::At;
use super::ranges::Pattern;
use super::topology::{Backend, SwitchSettings};

/// The whole file.
#[derive(Default)]
pub(super) struct LabSpec {
    pub(super) name: Option<LabName>,
    /// Whether a name was given that cannot be one.
    pub(super) misnamed: bool,
    /// `None`: the usual ones.
    pub(super) prefixes: Option<Vec<At<IpNet>>>,
    pub(super) switches: Vec<(At<Pattern>, SwitchSpec)>,
    pub(super) nodes: Vec<(At<Pattern>, NodeSpec)>,
    pub(super) links: Vec<At<LinkSpec>>,
    /// Some switches or nodes could not be read, so that an end of a link
    /// that nobody knows may be one of them.
    pub(super) names_unsure: bool,
    /// Some links could not be read, so that an interface without a link may
    /// be on one of them.
    pub(super) links_unsure: bool,
}

impl Object for LabSpec {
    const NAME: &'static str = "lab";
    const HELP: &'static str = "A lab of ovsns: nodes, switches and the links between them.";
    const KEYS: &'static [Key<Self>] = &[
        key!("name": Text<LabName>,
            "The lab's name; without it, the file's name less its ending.",
            |lab, name| lab.name = Some(name.value)),
        key!("prefixes": List<Text<Prefix>>,
            "Networks out of which interfaces without `addresses` get theirs, one of each family \
             that is named here; without it, 10.0.0.0/8 and fd00:6f76::/48.",
            |lab, nets| lab.prefixes.get_or_insert_default().extend(nets.value.into_iter().map(net))),
        key!("switches": Map<Many, Of<SwitchSpec>>,
            "The switches by name; `s[1-3]` stands for three of them.",
            |lab, switches| lab.switches.extend(switches.value)),
        key!("nodes": Map<Many, Of<NodeSpec>>,
            "The nodes by name; `h[1-100]` stands for a hundred of them.",
            |lab, nodes| lab.nodes.extend(nodes.value)),
        key!("links": List<Of<LinkSpec>>,
            "The links, each between two ends.",
            |lab, links| lab.links.extend(links.value)),
    ];
    fn flawed(&mut self, key: &'static str, lost: bool) {
        match key {
            "name" => self.misnamed = true,
            "switches" | "nodes" => self.names_unsure |= lost,
            "links" => self.links_unsure = true,
            _ => {}
        }
    }
}

fn net(prefix: At<Prefix>) -> At<IpNet> {
    At { at: prefix.at, value: prefix.value.0 }
}

/// A switch.
#[derive(Default)]
pub(super) struct SwitchSpec {
    pub(super) backend: Option<Backend>,
    pub(super) device: Option<At<IfName>>,
    pub(super) mac: Option<At<Mac>>,
    pub(super) mtu: Option<u32>,
    pub(super) settings: SwitchSettings,
    pub(super) prefixes: Vec<At<IpNet>>,
}

impl Object for SwitchSpec {
    const NAME: &'static str = "switch";
    const HELP: &'static str = "A switch: a bridge to which nodes and other switches are linked.";
    const KEYS: &'static [Key<Self>] = &[
        key!("backend": Text<Choice>,
            "What the switch is made of: Open vSwitch, the Linux bridge, or the best there is.",
            |switch, choice| switch.backend = choice.value.0),
        key!("device": Text<IfName>,
            "The bridge's name in the kernel, where another program insists on one.",
            |switch, device| switch.device = Some(device)),
        key!("mac": Text<Mac>,
            "The bridge's own MAC address; without it, one that stays the same at every run.",
            |switch, mac| switch.mac = Some(mac)),
        key!("mtu": Mtu,
            "The bridge's MTU in bytes; without it, 1500.",
            |switch, mtu| switch.mtu = Some(mtu.value)),
        key!("stp": Flag,
            "Whether the switch speaks the spanning tree protocol, which cuts loops (default: no).",
            |switch, stp| switch.settings.stp = stp.value),
        key!("forward_delay": Whole<2, 30>,
            "Seconds that a port listens and then learns before it forwards, under STP (default: 2).",
            |switch, delay| switch.settings.forward_delay_s = delay.value),
        key!("ageing": Whole<0, 1_000_000>,
            "Seconds after which a silent station's address is forgotten (default: 300).",
            |switch, ageing| switch.settings.ageing_s = ageing.value),
        key!("multicast_snooping": Flag,
            "Whether multicast goes only where somebody asked for it (default: yes).",
            |switch, snooping| switch.settings.multicast_snooping = snooping.value),
        key!("prefixes": List<Text<Prefix>>,
            "Networks for the interfaces on this switch, instead of the lab's.",
            |switch, nets| switch.prefixes.extend(nets.value.into_iter().map(net))),
    ];
}

/// A node.
#[derive(Default)]
pub(super) struct NodeSpec {
    pub(super) interfaces: Vec<(At<InterfaceName>, InterfaceSpec)>,
    pub(super) routes: Vec<At<RouteSpec>>,
    pub(super) forwarding: Option<At<bool>>,
    pub(super) sysctls: Vec<(At<String>, String)>,
    /// Not all of its interfaces could be read.
    pub(super) flawed: bool,
}

impl Object for NodeSpec {
    const NAME: &'static str = "node";
    const HELP: &'static str = "A node: a network namespace with interfaces of its own.";
    const KEYS: &'static [Key<Self>] = &[
        key!("interfaces": Map<InterfaceName, Of<InterfaceSpec>>,
            "What is known of its interfaces, by name; each is at the end of one link.",
            |node, interfaces| node.interfaces.extend(interfaces.value)),
        key!("routes": List<Of<RouteSpec>>,
            "Its static routes.",
            |node, routes| node.routes.extend(routes.value)),
        key!("forwarding": Flag,
            "Whether it forwards between its interfaces, IPv4 and IPv6, as a router does.",
            |node, forwarding| node.forwarding = Some(forwarding)),
        key!("sysctls": Map<Parameter, Text<Setting>>,
        "Kernel parameters below `net.`, as `sysctl` names them.",
        |node, sysctls| {
            node.sysctls.extend(sysctls.value.into_iter().map(|(key, value)| (key, value.0)));
        }),
    ];
    fn flawed(&mut self, key: &'static str, _lost: bool) {
        self.flawed |= key == "interfaces";
    }
}

/// An interface of a node.
#[derive(Default)]
pub(super) struct InterfaceSpec {
    /// `None`: let it be given some.
    pub(super) addresses: Option<Vec<At<IpNet>>>,
    pub(super) mac: Option<At<Mac>>,
}

impl Object for InterfaceSpec {
    const NAME: &'static str = "interface";
    const HELP: &'static str = "An interface of a node.";
    const KEYS: &'static [Key<Self>] = &[
        key!("addresses": List<Text<Address>>,
        "Its addresses with their prefix lengths; without it, the next free ones of the lab's \
         prefixes; `[]` for none.",
        |interface, addresses| {
            let net = |address: At<Address>| At { at: address.at, value: address.value.0 };
            interface
                .addresses
                .get_or_insert_default()
                .extend(addresses.value.into_iter().map(net));
        }),
        key!("mac": Text<Mac>,
            "Its MAC address; without it, one that stays the same at every run.",
            |interface, mac| interface.mac = Some(mac)),
    ];
}

/// A static route.
#[derive(Default)]
pub(super) struct RouteSpec {
    pub(super) to: Option<At<Destination>>,
    pub(super) via: Option<At<IpAddr>>,
    pub(super) interface: Option<At<InterfaceName>>,
    pub(super) metric: Option<u32>,
    pub(super) flawed: bool,
}

impl Object for RouteSpec {
    const NAME: &'static str = "route";
    const HELP: &'static str = "A static route of a node.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "to": Text<Destination>,
            "Where it goes: a network, or `default` for everything else.",
            |route, to| route.to = Some(to)),
        key!("via": Text<Gateway>,
            "The next router, which is on one of the node's own networks.",
            |route, via| route.via = Some(At { at: via.at, value: via.value.0 })),
        key!("interface": Text<InterfaceName>,
            "The interface, where `via` alone does not say.",
            |route, interface| route.interface = Some(interface)),
        key!("metric": Whole<0, { u32::MAX }>,
            "Of several routes to one place the one with the least metric is taken.",
            |route, metric| route.metric = Some(metric.value)),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}

/// A link, or many.
#[derive(Default)]
pub(super) struct LinkSpec {
    pub(super) endpoints: Option<[At<Pattern>; 2]>,
    pub(super) mtu: Option<u32>,
    pub(super) isolated: Option<At<bool>>,
    pub(super) vlan: Option<At<u32>>,
    pub(super) trunks: Option<At<Vec<At<u32>>>>,
    pub(super) native: Option<At<u32>>,
    /// VLANs could not be read.
    pub(super) flawed: bool,
}

impl Object for LinkSpec {
    const NAME: &'static str = "link";
    const HELP: &'static str = "A link between two ends, or many if the ends hold ranges.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "endpoints": Ends,
            "Its two ends: `node:interface`, `node` (then the next free `ethN`) or `switch`. Two \
             ranges of one length are paired, a single one is repeated.",
            |link, ends| link.endpoints = Some(ends.value)),
        key!("mtu": Mtu,
            "The MTU of both ends in bytes; without it, 1500.",
            |link, mtu| link.mtu = Some(mtu.value)),
        key!("isolated": Flag,
            "Whether its port hears only ports that are not isolated (default: no).",
            |link, isolated| link.isolated = Some(isolated)),
        key!("vlan": VlanId,
            "The VLAN of its port; frames are untagged on the link.",
            |link, vlan| link.vlan = Some(vlan)),
        key!("trunks": List<VlanId>,
            "The VLANs that pass its port; frames are tagged on the link.",
            |link, trunks| link.trunks = Some(trunks)),
        key!("native": VlanId,
            "The VLAN that is untagged on a link with `trunks`.",
            |link, native| link.native = Some(native)),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}
