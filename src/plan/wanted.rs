//! A lab in the kernel's terms: which devices, under which names, with which
//! marks and addresses. What `diff` compares the world with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ipnet::IpNet;

use super::exits::{self, WantedGateway};
use super::nics::{self, Child, Loan};
use super::refuse::Abilities;
use super::step::{Place, Veth, VethEnd};
use crate::model::adopt::Adopt;
use crate::model::flow;
use crate::model::life::{Isolation, Life};
use crate::model::mark::{Mac, Mark, Thing, birth_mac, device_inside, flow_cookie, group};
use crate::model::names::{IfName, InterfaceName, NodeName, SwitchName};
use crate::model::ports::Ports;
use crate::model::routing;
use crate::model::topology::{
    Backend, BondMode, Datapath, Dynamic, End, FailMode, Interface, Lab, Link, Mirror, Node,
    PortSettings, RSTP_FORWARD_DELAY_S_DEFAULT, Route, Sealed, Tunnel, Vlan,
};
use crate::model::world::{
    Deaf, FlowSpec, KernelRoute, MirrorSpec, PortKind, PortSpec, SwitchSpec, World,
};

/// More links at one switch than this are too many for all to ask at once.
const CROWD: usize = 100;

/// A lab, worked out to the last device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Nodes by name.
    pub nodes: BTreeMap<NodeName, WantedNode>,
    /// Pairs of links of the kernel, by identity.
    pub links: BTreeMap<String, Veth>,
    /// Children of NICs of the machine.
    pub children: Vec<Child>,
    /// NICs of the machine that go into nodes.
    pub loans: Vec<Loan>,
    /// Switches by name.
    pub switches: BTreeMap<SwitchName, SwitchSpec>,
    /// Ports of switches, in the order in which they are numbered.
    pub ports: Vec<PortSpec>,
    /// Mirrors.
    pub mirrors: Vec<MirrorSpec>,
    /// Flows.
    pub flows: Vec<FlowSpec>,
    /// NICs of the machine: before they are attached, nobody on their networks
    /// can be asked for an address.
    pub uplinks: BTreeSet<IfName>,
    /// Whether the machine is to have the names of its nodes.
    pub names_on_machine: bool,
    /// What follows from the lab and is not as somebody may expect, each a line.
    pub notes: Vec<String>,
    /// What this machine is on local devices of switches, for their ways out.
    pub gateways: BTreeMap<IfName, WantedGateway>,
    /// Linux bridges that may be on the way there, each with its switch.
    pub halls: BTreeMap<IfName, SwitchName>,
}

/// A node, worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedNode {
    /// How it is sealed.
    pub sealed: Option<Sealed>,
    /// The namespace that it is, if somebody else has made that.
    pub adopt: Option<Adopt>,
    /// Addresses by device.
    pub addresses: BTreeMap<IfName, BTreeSet<IpNet>>,
    /// What else gives addresses, by device.
    pub dynamic: BTreeMap<IfName, BTreeSet<Dynamic>>,
    /// Routes, each with its device.
    pub routes: BTreeSet<KernelRoute>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Whether its interfaces ask for routers when they come up (RFC 4861,
    /// section 6.3.7).
    pub solicits: bool,
    /// What it is besides a network namespace.
    pub life: Life,
    /// Devices that have to calculate checksums themselves, because the switch
    /// would pass them on as they are.
    pub own_checksums: BTreeSet<IfName>,
    /// What it is not to hear.
    pub deaf: Option<Deaf>,
    /// Whose that is.
    pub cut_from: BTreeSet<NodeName>,
}

impl Wanted {
    /// Works out `lab`; `auto` says what a switch is made of that does not say
    /// it. What depends on the machine is still open, see [`Wanted::settled`].
    pub fn new(lab: &Lab, auto: Backend) -> Self {
        let switches: BTreeMap<_, _> =
            lab.switches.keys().map(|name| (name.clone(), switch(lab, name, auto))).collect();
        let crowded = crowded(lab);
        let ways = routing::ways(lab);
        let nodes = lab.nodes.iter().map(|(name, n)| {
            let more = ways.routes.get(name);
            (name.clone(), node(lab, name, n, &crowded, more))
        });
        let mut nodes = nodes.collect();
        held_down_ends(lab, &mut nodes);
        let (mut links, mut ports) = (BTreeMap::new(), Vec::new());
        cut(lab, &mut nodes);
        let far = Far::new(lab);
        for link in &lab.links {
            let patch = patched(link, &switches, &far);
            let made = veths(lab, link, patch);
            links.extend(made.into_iter().map(|veth| (veth.link.clone(), veth)));
            ports.extend(ports_of(lab, link, patch, &switches));
        }
        for (name, spec) in &lab.switches {
            let tunnels = spec.tunnels.iter();
            ports.extend(tunnels.map(|(id, tunnel)| tunnel_port(lab, &switches[name], id, tunnel)));
        }
        let mirrors = lab.switches.iter().flat_map(|(name, spec)| {
            let mirrors = spec.mirrors.iter();
            let of = |id, mirror| mirror_spec(lab, &switches[name], id, mirror, &ports);
            mirrors.map(move |(id, mirror)| of(id, mirror))
        });
        let flows = lab.switches.iter().flat_map(|(name, spec)| {
            let called = Ports::of(lab, name).devices(&lab.name);
            let flow = |text: &String| flow_spec(lab, &switches[name], &called, text);
            spec.flows.iter().map(flow).collect::<Vec<_>>()
        });
        let (mirrors, flows) = (mirrors.collect(), flows.collect());
        let uplinks = lab.uplinks.keys().cloned().collect();
        let (children, loans) = nics::wanted(lab);
        let notes = ways.notes();
        let names_on_machine = lab.hosts;
        let gateways = exits::wanted(&ways, &switches);
        let halls = exits::halls(lab, &ways, &switches);
        Self {
            names_on_machine,
            nodes,
            links,
            children,
            loans,
            switches,
            ports,
            mirrors,
            flows,
            uplinks,
            notes,
            gateways,
            halls,
        }
    }

    /// What will not be as somebody may expect, each a line.
    pub fn warnings(&self, world: &World) -> Vec<String> {
        self.notes.iter().cloned().chain(exits::warnings(self, world)).collect()
    }

    /// The same with what depends on the machine: a switch that has a NIC has
    /// its address, one that is there keeps its datapath, and a port its number; a new one gets the best datapath,
    /// or the next free number, so that a new switch's ports are numbered from
    /// 1 on in the order of the file.
    pub fn settled(&self, world: &World, abilities: &[Abilities]) -> Self {
        let mut settled = self.clone();
        for uplink in world.uplinks.values() {
            settled.halls.retain(|_, switch| *switch != uplink.switch);
            if let Some(spec) = settled.switches.get_mut(&uplink.switch) {
                (spec.mac, spec.mtu) = (uplink.mac, uplink.mtu);
            }
        }
        for (name, spec) in &mut settled.switches {
            if spec.backend != Backend::Ovs {
                continue;
            }
            let able = abilities.iter().find(|able| able.backend == spec.backend);
            let seen = world.fabric.switches.get(name).map(|seen| &seen.spec);
            let seen = seen.filter(|s| s.backend == spec.backend && s.device == spec.device);
            let there = seen.and_then(|seen| seen.datapath);
            spec.datapath = spec.datapath.or(there).or(able.and_then(|able| able.datapath));
            if spec.datapath == Some(Datapath::System) {
                // The kernel's local devices cannot be deleted by netlink, and a
                // link group with one of them in it not at all.
                spec.group = 0;
            }
            number(spec, &mut settled.ports, world);
        }
        settled.own_checksums(abilities);
        settled
    }

    /// Finds the interfaces that have to calculate checksums themselves.
    ///
    /// A veth hands its frames over with checksums that nobody has calculated
    /// yet. The userspace datapath passes them on like that, and TCP never
    /// connects, unless it was started with support for segmentation offload;
    /// and with that, not through tunnels.
    fn own_checksums(&mut self, abilities: &[Abilities]) {
        let is_tunnel = |port: &PortSpec| matches!(port.kind, PortKind::Tunnel { .. });
        let tunnels = self.ports.iter().any(is_tunnel);
        let copes = abilities.iter().any(|able| able.backend == Backend::Ovs && able.checksums);
        if copes && !tunnels {
            return;
        }
        let in_userspace = |port: &&PortSpec| {
            let datapath = self.switches[&port.switch].datapath;
            port.kind == PortKind::Link && datapath == Some(Datapath::Netdev)
        };
        let ports: BTreeSet<&IfName> =
            self.ports.iter().filter(in_userspace).map(|port| &port.device).collect();
        for veth in self.links.values() {
            if let [at_switch, VethEnd { at: Place::Node(node), device, .. }] = &veth.ends
                && ports.contains(&at_switch.device)
                && let Some(node) = self.nodes.get_mut(node)
            {
                node.own_checksums.insert(device.clone());
            }
        }
    }

    /// The ports of all switches, by device.
    pub fn ports_by_device(&self) -> BTreeMap<&IfName, &PortSpec> {
        self.ports.iter().map(|port| (&port.device, port)).collect()
    }

    /// The OpenFlow numbers of what is plugged into a switch, by device: as it
    /// has them, and as new ones will have them. Those of others are among
    /// them.
    pub fn numbers<'a>(&'a self, spec: &'a SwitchSpec, world: &'a World) -> BTreeMap<&'a str, u16> {
        let mut ports: Vec<PortSpec> = self.ports_of(&spec.name).cloned().collect();
        number(spec, &mut ports, world);
        let seen = world.fabric.switches.get(&spec.name).into_iter().flat_map(|seen| &seen.ports);
        let seen = seen.filter_map(|(device, port)| Some((device.as_str(), port.number?)));
        let wanted = self.ports_of(&spec.name).zip(&ports);
        let wanted = wanted.filter_map(|(port, one)| Some((port.device.as_str(), one.number?)));
        seen.chain(wanted).chain([(spec.device.as_str(), LOCAL)]).collect()
    }

    /// The ports of one switch.
    pub fn ports_of<'a>(&'a self, switch: &SwitchName) -> impl Iterator<Item = &'a PortSpec> {
        let switch = switch.clone();
        self.ports.iter().filter(move |port| port.switch == switch)
    }
}

/// Gives the ports of a switch their numbers.
fn number(spec: &SwitchSpec, ports: &mut [PortSpec], world: &World) {
    let seen = world.fabric.switches.get(&spec.name).map(|seen| &seen.ports);
    let mut taken = BTreeSet::new();
    for port in ports.iter_mut().filter(|port| port.switch == spec.name) {
        port.number = seen.and_then(|seen| seen.get(&port.device)?.number);
        taken.extend(port.number);
    }
    let foreign = seen.into_iter().flat_map(|seen| seen.values()).filter(|p| p.mark.is_empty());
    taken.extend(foreign.filter_map(|port| port.number));
    let mut free = (1..=PORT_NUMBER_MAX).filter(|number| !taken.contains(number));
    // A bond has none of its own; its links have.
    let has_one = |port: &PortSpec| !matches!(port.kind, PortKind::Bond { .. });
    for port in ports.iter_mut().filter(|p| p.switch == spec.name && p.number.is_none()) {
        if !has_one(port) {
            continue;
        }
        port.number = free.next();
    }
}

/// The number of every switch's own device (`OFPP_LOCAL` of OpenFlow 1.0).
const LOCAL: u16 = 0xfffe;

/// The greatest number of a port (`OFPP_MAX` of OpenFlow 1.0, less the
/// reserved ones).
const PORT_NUMBER_MAX: u16 = 0xfeff;

fn switch(lab: &Lab, name: &SwitchName, auto: Backend) -> SwitchSpec {
    let wanted = &lab.switches[name];
    let mark = lab.mark(Thing::Switch(name.clone()));
    let device = wanted.device.clone().unwrap_or_else(|| mark.device());
    let backend = wanted.backend.unwrap_or(auto);
    let mut settings = wanted.settings.clone();
    settings.forward_delay_s = match backend {
        Backend::Linux => settings.forward_delay_s.or(Some(2)),
        Backend::Ovs if settings.stp => settings.forward_delay_s.or(Some(4)),
        // It only counts beside switches that speak STP, and a short one has
        // what is told of the root forgotten after a few switches.
        Backend::Ovs if settings.rstp => {
            settings.forward_delay_s.or(Some(RSTP_FORWARD_DELAY_S_DEFAULT))
        }
        Backend::Ovs => None,
    };
    if backend == Backend::Ovs {
        let openflow = &mut settings.openflow;
        let default = match openflow.controllers.is_empty() {
            true => FailMode::Standalone,
            // Else it switches by itself until the controller is back, and a
            // ring of switches becomes a storm.
            false => FailMode::Secure,
        };
        openflow.fail_mode.get_or_insert(default);
        // In a lab nobody wants to wait for Open vSwitch's own 8 s.
        openflow.max_backoff_ms.get_or_insert(1000);
        if openflow.controllers.is_empty() {
            // There is nothing that could have it.
            (openflow.in_band, openflow.max_backoff_ms) = (false, None);
            openflow.inactivity_probe_ms = None;
        }
    }
    // A switch looks at tags only where a port says what they mean: otherwise
    // tagged frames of the nodes pass as they are.
    let on_this = |link: &&Link| link.ends.contains(&End::Switch(name.clone()));
    let mut on_links = lab.links.iter().filter(on_this).map(|link| &link.port);
    let mut on_tunnels = wanted.tunnels.values().map(|tunnel| &tunnel.port);
    let has_vlan = |port: &PortSettings| port.vlan.is_some();
    SwitchSpec {
        name: name.clone(),
        backend,
        datapath: wanted.datapath,
        mac: wanted.mac.unwrap_or_else(|| birth_mac(&device)),
        device,
        mtu: wanted.mtu.unwrap_or(Link::MTU_DEFAULT),
        group: group(&lab.name),
        alias: mark.to_string(),
        altname: mark.full_name(),
        settings,
        vlan_filtering: on_links.any(has_vlan) || on_tunnels.any(has_vlan),
    }
}

/// How many patches in a row there are at most: Open vSwitch drops a frame that
/// goes through more than 64 without a word (`MAX_DEPTH` in its
/// `ofproto-dpif-xlate.c`), and of the way between two nodes each half may be
/// as long as this.
const PATCHES_MAX: usize = 24;

/// How far each switch is from the first one that it hangs together with.
struct Far<'l>(BTreeMap<&'l SwitchName, usize>);

impl<'l> Far<'l> {
    fn new(lab: &'l Lab) -> Self {
        let mut near: BTreeMap<&SwitchName, Vec<&SwitchName>> = BTreeMap::new();
        for link in &lab.links {
            if let [End::Switch(a), End::Switch(b)] = &link.ends {
                near.entry(a).or_default().push(b);
                near.entry(b).or_default().push(a);
            }
        }
        let mut far = BTreeMap::new();
        for first in lab.switches.keys() {
            if far.contains_key(first) {
                continue;
            }
            far.insert(first, 0);
            let mut queue = VecDeque::from([first]);
            while let Some(here) = queue.pop_front() {
                let next = far[here] + 1;
                for there in near.get(here).into_iter().flatten().copied() {
                    if !far.contains_key(there) {
                        far.insert(there, next);
                        queue.push_back(there);
                    }
                }
            }
        }
        Self(far)
    }

    /// Whether a row of patches has to end between two switches.
    fn ends_between(&self, a: &SwitchName, b: &SwitchName) -> bool {
        self.0[a] / PATCHES_MAX != self.0[b] / PATCHES_MAX
    }
}

/// Whether a link joins two switches by a patch: a way inside Open vSwitch,
/// which takes no link of the kernel.
///
/// Not where a switch speaks a spanning tree protocol. What it says goes through
/// a patch at once, and the other switch answers before the first has done
/// speaking: with RSTP, whose lock both share, `ovs-vswitchd` aborts, again at
/// each start (Open vSwitch 3.1, `rstp.c`: "Resource deadlock avoided"); with STP
/// they answer each other until its stack is full, now and then, when a link
/// is added to a tree that has settled.
fn patched(link: &Link, switches: &BTreeMap<SwitchName, SwitchSpec>, far: &Far) -> bool {
    let [End::Switch(a), End::Switch(b)] = &link.ends else { return false };
    let too_far = far.ends_between(a, b);
    let (a, b) = (&switches[a], &switches[b]);
    let both = a.backend == Backend::Ovs && b.backend == Backend::Ovs;
    let speak = [a, b].iter().any(|switch| switch.settings.stp || switch.settings.rstp);
    // All of these are done by a link of the kernel.
    let limited = link.port.policing.is_some() || link.port.shaping.is_some();
    let impaired = link.impairments.iter().any(|it| !it.is_none());
    let plain = !speak && !limited && !impaired && link.bond.is_none() && !link.down;
    both && a.datapath == b.datapath && plain && !too_far
}

/// The pairs of links that a link is made of: one, several for a bond, none
/// for a patch.
fn veths(lab: &Lab, link: &Link, patch: bool) -> Vec<Veth> {
    if patch || link.nic().is_some() {
        return Vec::new();
    }
    // The end at a switch comes first: it is where the request is made.
    let sides = if matches!(link.ends, [End::Node(..), End::Switch(_)]) { [1, 0] } else { [0, 1] };
    let veth = |member: Option<u32>| Veth {
        link: format!("{}{}", link.id(), suffix(member)),
        group: group(&lab.name),
        mtu: lab.mtu(link),
        ends: sides.map(|side| end(lab, link, side, member)),
        down: link.down.then(|| usize::from(sides[0] != held_down(lab, link))),
        impairments: sides.map(|side| link.impairments[side]),
    };
    match &link.bond {
        None => vec![veth(None)],
        Some(bond) => (1..=bond.members).map(|member| veth(Some(member))).collect(),
    }
}

/// The end of a link by which it is held down: setting one end of a veth down
/// takes the carrier from the other. Not an end in a node if there is another:
/// what is down loses its routes and its addresses of IPv6, what has no carrier
/// keeps them. Of two ends in nodes it is one without routes.
fn held_down(lab: &Lab, link: &Link) -> usize {
    let at_switch = link.ends.iter().position(|end| matches!(end, End::Switch(_)));
    let without_routes = || {
        link.ends.iter().rposition(|end| match end {
            End::Node(node, interface) => {
                let leaves = |route: &Route| {
                    let by = route.interface.clone().or_else(|| on_link(&lab.nodes[node], route));
                    by.as_ref() == Some(interface)
                };
                !lab.nodes[node].routes.iter().any(leaves)
            }
            End::Switch(_) | End::Nic(..) => false,
        })
    };
    at_switch.or_else(without_routes).unwrap_or(1)
}

/// Takes from nodes what an end of a link has not while that is held down: its
/// addresses of IPv6 and its routes, which the kernel takes away and refuses
/// to take again; and nobody can be asked for an address.
fn held_down_ends(lab: &Lab, nodes: &mut BTreeMap<NodeName, WantedNode>) {
    for link in lab.links.iter().filter(|link| link.down) {
        for (side, end) in link.ends.iter().enumerate() {
            let End::Node(name, interface) = end else { continue };
            let device = device_inside(&lab.name, name, interface);
            let Some(node) = nodes.get_mut(name) else { continue };
            node.dynamic.remove(&device);
            if side == held_down(lab, link) {
                node.routes.retain(|route| route.device != device);
                let addresses = node.addresses.get_mut(&device);
                addresses.into_iter().for_each(|nets| nets.retain(|net| net.addr().is_ipv4()));
            }
        }
    }
}

/// Has the nodes of each cut not hear those on its other side.
///
/// Each drops what comes in from the others, next door by their Ethernet
/// addresses (all families, ARP too), and behind routers by their own. So it is
/// the same on every kind of switch and on none, where nodes share a link, and it
/// takes nothing from anybody else; a frame that was sent shows at the sender.
fn cut(lab: &Lab, nodes: &mut BTreeMap<NodeName, WantedNode>) {
    for cut in lab.cuts.values() {
        for (here, there) in [(&cut.nodes, &cut.from), (&cut.from, &cut.nodes)] {
            let (mut macs, mut addresses) = (BTreeSet::new(), BTreeSet::new());
            for name in there {
                for (interface, said) in &lab.nodes[name].interfaces {
                    let mark = |link: &Link, side: usize| {
                        let across = match &link.ends[1 - side] {
                            End::Node(node, at) => Some((node.clone(), at.clone())),
                            End::Switch(_) | End::Nic(..) => None,
                        };
                        lab.mark(Thing::Interface(name.clone(), interface.clone(), across))
                    };
                    let this = End::Node(name.clone(), interface.clone());
                    let ends = lab.links.iter().flat_map(|link| [(link, 0), (link, 1)]);
                    let end = ends.into_iter().find(|(link, side)| link.ends[*side] == this);
                    let mac = end.map(|(link, side)| mark(link, side).mac());
                    macs.extend(said.mac.or(mac));
                    addresses.extend(said.addresses.iter().map(IpNet::addr));
                }
            }
            for name in here {
                let Some(node) = nodes.get_mut(name) else { continue };
                let deaf = node.deaf.get_or_insert_default();
                deaf.devices.extend(node.addresses.keys().cloned());
                deaf.macs.extend(macs.iter().copied());
                deaf.addresses.extend(addresses.iter().copied());
                node.cut_from.extend(there.iter().cloned());
            }
        }
    }
}

/// What tells the cables of a bond apart.
fn suffix(member: Option<u32>) -> String {
    member.map(|member| format!(".{member}")).unwrap_or_default()
}

/// The mark of a link's port at end `side`; `member` is a cable of a bond.
fn port_mark(lab: &Lab, link: &Link, side: usize, member: Option<u32>) -> Option<Mark> {
    let port = link.port(side)?;
    Some(lab.mark(Thing::Port(format!("{port}{}", suffix(member)))))
}

/// The ports on switches that a link has: none for a cable, two for a trunk.
fn ports_of(
    lab: &Lab,
    link: &Link,
    patch: bool,
    switches: &BTreeMap<SwitchName, SwitchSpec>,
) -> Vec<PortSpec> {
    let mut ports = Vec::new();
    for (side, end) in link.ends.iter().enumerate() {
        let End::Switch(switch) = end else { continue };
        let mark = port_mark(lab, link, side, None).expect("an end at a switch has a port");
        let kind = match (&link.bond, patch) {
            (Some(bond), _) => {
                let member = |member: u32| Some(port_mark(lab, link, side, Some(member))?.device());
                PortKind::Bond {
                    members: (1..=bond.members).filter_map(member).collect(),
                    mode: bond.mode,
                    lacp: bond.lacp,
                    primary: member(1).filter(|_| bond.mode == BondMode::ActiveBackup),
                }
            }
            (None, true) => {
                let peer = port_mark(lab, link, 1 - side, None);
                PortKind::Patch { peer: peer.expect("both ends are at switches").device() }
            }
            (None, false) => PortKind::Link,
        };
        let mut port = port(&switches[switch], &mark, kind, &link.port);
        let impaired = !link.impairments[side].is_none();
        port.settings.hands_off = impaired && switches[switch].backend == Backend::Ovs;
        ports.push(port);
    }
    ports
}

fn port(spec: &SwitchSpec, mark: &Mark, kind: PortKind, settings: &PortSettings) -> PortSpec {
    PortSpec {
        switch: spec.name.clone(),
        bridge: spec.device.clone(),
        device: mark.device(),
        kind,
        settings: port_settings(settings),
        filtering: spec.vlan_filtering,
        number: None,
        mark: match spec.backend {
            Backend::Ovs => mark.to_string(),
            // The link carries it.
            Backend::Linux => String::new(),
        },
    }
}

fn tunnel_port(lab: &Lab, spec: &SwitchSpec, name: &IfName, tunnel: &Tunnel) -> PortSpec {
    let Tunnel { kind, remote, local, key, destination_port, port: settings } = tunnel;
    let mark = lab.mark(Thing::Port(Tunnel::port(&spec.name, name)));
    let kind = PortKind::Tunnel {
        kind: *kind,
        remote: *remote,
        local: *local,
        key: *key,
        destination_port: *destination_port,
    };
    port(spec, &mark, kind, settings)
}

/// The device of the port that is called `port` (see [`Link::port`]).
fn device_of(lab: &Lab, port: &str) -> IfName {
    lab.mark(Thing::Port(port.to_owned())).device()
}

fn mirror_spec(
    lab: &Lab,
    spec: &SwitchSpec,
    name: &IfName,
    mirror: &Mirror,
    ports: &[PortSpec],
) -> MirrorSpec {
    let devices = |ports: &BTreeSet<String>| ports.iter().map(|p| device_of(lab, p)).collect();
    let (mut from, mut to) = (devices(&mirror.from), devices(&mirror.to));
    if mirror.all && spec.backend == Backend::Linux {
        // What goes out has come in. A port that gets copies takes nothing in.
        let outputs: BTreeSet<IfName> =
            lab.switches[&spec.name].mirrors.values().map(|m| device_of(lab, &m.output)).collect();
        let of_this = ports.iter().filter(|port| port.switch == spec.name);
        let all = of_this.map(|port| port.device.clone());
        (from, to) = (all.filter(|port| !outputs.contains(port)).collect(), BTreeSet::new());
    }
    MirrorSpec {
        switch: spec.name.clone(),
        bridge: spec.device.clone(),
        name: name.clone(),
        all: mirror.all,
        from,
        to,
        vlans: mirror.vlans.clone(),
        output: device_of(lab, &mirror.output),
        mark: spec.alias.clone(),
    }
}

fn flow_spec(
    lab: &Lab,
    spec: &SwitchSpec,
    called: &BTreeMap<IfName, String>,
    text: &str,
) -> FlowSpec {
    let text = flow::with_ports(text, |port| format!("\"{}\"", device_of(lab, port)));
    let text = flow::without_enqueue(&text);
    FlowSpec {
        switch: spec.name.clone(),
        bridge: spec.device.clone(),
        cookie: flow_cookie(&text),
        words: flow::with_devices(&text, called),
        text,
    }
}

/// The VLAN that travels untagged is one of those that pass.
fn port_settings(settings: &PortSettings) -> PortSettings {
    let mut settings = settings.clone();
    if let Some(Vlan::Trunk { vlans, native: Some(native) }) = &mut settings.vlan {
        vlans.insert(*native);
    }
    settings
}

fn end(lab: &Lab, link: &Link, side: usize, member: Option<u32>) -> VethEnd {
    match (&link.ends[side], &link.ends[1 - side]) {
        (End::Node(node, interface), across) => {
            let across = match across {
                End::Node(node, interface) => Some((node.clone(), interface.clone())),
                End::Switch(_) | End::Nic(..) => None,
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
        (End::Switch(_) | End::Nic(..), _) => {
            let mark = port_mark(lab, link, side, member).expect("an end at a switch has a port");
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

/// The nodes at switches with more than [`CROWD`] links.
fn crowded(lab: &Lab) -> BTreeSet<&NodeName> {
    let mut links: BTreeMap<&SwitchName, usize> = BTreeMap::new();
    for end in lab.links.iter().flat_map(|link| &link.ends) {
        if let End::Switch(switch) = end {
            *links.entry(switch).or_default() += 1;
        }
    }
    let crowded = lab.links.iter().filter_map(|link| match &link.ends {
        [End::Node(node, _), End::Switch(switch)] | [End::Switch(switch), End::Node(node, _)] => {
            (CROWD < links[switch]).then_some(node)
        }
        _ => None,
    });
    crowded.collect()
}

/// Whether the interfaces of a node ask for routers. Each asks every few seconds,
/// and a switch carries that to all ports: a thousand nodes are a million frames
/// at once, which keeps a userspace datapath from everything else for seconds. A
/// node that has all its IPv6 addresses from the file has nothing to ask.
fn solicits(node: &Node) -> bool {
    let says = |key: &String| key.ends_with(".router_solicitations");
    let settled = |i: &Interface| {
        i.addresses.iter().any(|net| net.addr().is_ipv6()) && !i.dynamic.contains(&Dynamic::Slaac)
    };
    node.sysctls.keys().any(says) || !node.interfaces.values().all(settled)
}

/// `more` are routes that the lab implies.
fn node(
    lab: &Lab,
    name: &NodeName,
    node: &Node,
    crowded: &BTreeSet<&NodeName>,
    more: Option<&BTreeSet<Route>>,
) -> WantedNode {
    let device = |interface: &InterfaceName| device_inside(&lab.name, name, interface);
    WantedNode {
        sealed: node.sealed,
        adopt: node.adopt.clone(),
        addresses: node
            .interfaces
            .iter()
            .map(|(interface, wanted)| (device(interface), wanted.addresses.clone()))
            .collect(),
        dynamic: node
            .interfaces
            .iter()
            .filter(|(_, wanted)| !wanted.dynamic.is_empty())
            .map(|(interface, wanted)| (device(interface), wanted.dynamic.clone()))
            .collect(),
        routes: node
            .routes
            .iter()
            .chain(more.into_iter().flatten())
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
        sysctls: sysctls(node, device),
        solicits: !crowded.contains(name) || solicits(node),
        life: life(name, &node.life),
        own_checksums: BTreeSet::new(),
        deaf: None,
        cut_from: BTreeSet::new(),
    }
}

/// A node with a host name of its own is called by its name unless it says
/// otherwise.
fn life(name: &NodeName, life: &Life) -> Life {
    let mut life = life.clone();
    if life.room.kinds.contains(&Isolation::Uts) {
        life.room.hostname.get_or_insert_with(|| name.to_string());
    }
    life
}

/// Kernel parameters of a node: those of the file, and that interfaces which are
/// to get addresses from a router hear it. A node that forwards does not, unless
/// it is told to (`accept_ra` in the kernel's `ip-sysctl`).
///
/// A router of IPv6 asks for its neighbours under its link-local addresses, and
/// forwards nothing for the second or two in which the kernel tries whether
/// somebody else has them. Here nobody has.
fn sysctls(node: &Node, device: impl Fn(&InterfaceName) -> IfName) -> BTreeMap<String, String> {
    let mut sysctls = node.sysctls.clone();
    if sysctls.get("net.ipv6.conf.all.forwarding").is_some_and(|value| value == "1") {
        let key = "net.ipv6.conf.default.accept_dad".to_owned();
        sysctls.entry(key).or_insert_with(|| "0".to_owned());
    }
    let hears = |i: &&InterfaceName| node.interfaces[*i].dynamic.contains(&Dynamic::Slaac);
    for interface in node.interfaces.keys().filter(hears) {
        for (key, value) in [("accept_ra", "2"), ("autoconf", "1")] {
            let key = format!("net.ipv6.conf.{}.{key}", device(interface));
            sysctls.entry(key).or_insert_with(|| value.to_owned());
        }
    }
    // Containers are often told to have no IPv6 on interfaces still to come. An
    // interface of ours goes with what is set for it.
    let has_ipv6 =
        |i: &&InterfaceName| node.interfaces[*i].addresses.iter().any(|net| net.addr().is_ipv6());
    if node.adopt.is_some() {
        let interfaces = node.interfaces.keys().filter(|i| hears(i) || has_ipv6(i)).map(device);
        let plain = interfaces.filter(|device| !device.as_str().contains('.'));
        let key = |device: IfName| format!("net.ipv6.conf.{device}.disable_ipv6");
        sysctls.extend(plain.map(|device| (key(device), "0".to_owned())));
    }
    sysctls
}

/// The interface on whose link the next router of `route` is. The checks of
/// the file have made sure that there is one.
fn on_link(node: &Node, route: &Route) -> Option<InterfaceName> {
    let via = route.via?;
    let mut interfaces = node.interfaces.iter();
    let (name, _) = interfaces.find(|(_, i)| i.addresses.iter().any(|net| net.contains(&via)))?;
    Some(name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::file;
    use crate::model::names::LabName;

    /// A frame goes through 64 patches at most, wherever it comes from.
    #[test]
    fn rows_of_patches_end() {
        check("linear,3", 2);
        check("linear,100", 2 * (PATCHES_MAX - 1));
        check("tree,4,3", 6);
        check("linear,400", 2 * (PATCHES_MAX - 1));

        #[track_caller]
        fn check(topo: &str, most: usize) {
            let lab = file::shape(topo, &LabName::default_lab()).expect("a shape");
            let wanted = Wanted::new(&lab, Backend::Ovs);
            let mut near: BTreeMap<&SwitchName, Vec<&SwitchName>> = BTreeMap::new();
            let by_device = wanted.ports_by_device();
            for port in &wanted.ports {
                if let PortKind::Patch { peer } = &port.kind {
                    near.entry(&port.switch).or_default().push(&by_device[peer].switch);
                }
            }
            let mut longest = 0;
            for first in wanted.switches.keys() {
                let mut seen = BTreeMap::from([(first, 0)]);
                let mut queue = VecDeque::from([first]);
                while let Some(here) = queue.pop_front() {
                    for there in near.get(here).into_iter().flatten().copied() {
                        if !seen.contains_key(there) {
                            seen.insert(there, seen[here] + 1);
                            queue.push_back(there);
                        }
                    }
                }
                longest = longest.max(*seen.values().max().expect("itself"));
            }
            assert!(longest <= most && most <= 64, "{topo}: {longest}");
            assert!(0 < longest, "{topo} has patches");
        }
    }
}
