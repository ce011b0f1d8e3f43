//! The comparison: what differs between the world and a lab, and in which
//! order it is made the same.
//!
//! The order is the whole art, and each part of it has a reason:
//!
//! 1. What is in the way goes first: addresses and routes of links that go,
//!    then their ports (an Open vSwitch that finds the device gone before the
//!    port keeps a ghost), then the links.
//! 2. New nodes, new links, and what the nodes' interfaces need.
//! 3. Switches and ports; a new switch starts to forward when all its ports
//!    are there.
//! 4. Nodes that go, because nothing brings back what ran in them.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::adopt;
use super::dynamic;
use super::exits;
use super::lives;
use super::nics::{self, Child};
use super::refuse::{Abilities, Refusal, in_place_of_own, refusals};
use super::step::{FabricStep, LinkState, Place, Plan, Stage, Step, Veth, VethEnd};
use super::wanted::{Wanted, WantedNode};
use crate::model::flow;
use crate::model::hosts::Names;
use crate::model::impair::Impairments;
use crate::model::mark::{Mark, group};
use crate::model::names::{IfName, LabName, NodeName, SwitchName};
use crate::model::ports::Ports;
use crate::model::topology::{Backend, Datapath};
use crate::model::world::{
    AstrayPort, Egress, FlowSpec, MirrorSpec, PortKind, PortSpec, SeenDevice, SeenNode, SeenPort,
    SeenSwitch, SwitchSpec, World,
};

/// The steps that make the world match `wanted`.
///
/// # Errors
/// All that stands in the way, if anything does; then nothing may be done.
pub fn up(
    lab: &LabName,
    wanted: &Wanted,
    world: &World,
    abilities: &[Abilities],
) -> Result<Plan, Vec<Refusal>> {
    let known = known_by_device(wanted, world);
    let world = known.as_ref().unwrap_or(world);
    // What is asked for is refused as it was asked for.
    let refused = refusals(lab, wanted, world, abilities);
    let wanted = &wanted.settled(world, abilities);
    if !refused.is_empty() {
        return Err(refused);
    }
    let left = adopt::left(wanted, world);
    let links = LinkDiff::new(wanted, world, &left);
    let mut refused = others_on_links_that_go(wanted, world, &links);
    others_on_ends_to_hold_down(world, &links, &mut refused);
    refused.extend(others_on_switches_that_go(wanted, world, gone_switches(wanted, world)));
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut stages = clear_away(&links, wanted, world);
    stages.push(Stage::Host(exits::doors(wanted, world).into_iter().collect()));
    stages.push(Stage::Host(left.iter().map(|node| adopt::end(node, world)).collect()));
    let without = adopt::without(world, &left);
    stages.push(Stage::Host(build(wanted, &without, &links)));
    stages.extend(fabric(lab, wanted, world, &links, abilities));
    let gone = nodes_there(world).filter(|node| !wanted.nodes.contains_key(node));
    stages.push(Stage::Host(gone.map(|node| adopt::end(node, world)).collect()));
    // Nobody answers before the ports are there.
    let anew = |name: &SwitchName| {
        !world.fabric.switches.get(name).is_some_and(|seen| stays(wanted, seen))
    };
    let mut steps = exits::gateways(wanted, world, anew);
    steps.extend(exits::no_doors(wanted, world));
    stages.insert(stages.len() - 1, Stage::Host(steps));
    stages.insert(stages.len() - 1, Stage::Host(dynamic::ask(wanted, world, &links)));
    stages.insert(stages.len() - 1, Stage::Host(lives::begin(wanted, world)));
    // What was in a node that is gone is gone for good: nothing that can fail is after it.
    stages.insert(stages.len() - 1, Stage::Host(names(lab, wanted, world)));
    stages.retain(|stage| !stage.is_empty());
    Ok(Plan { lab: lab.clone(), stages })
}

/// The world with each switch under its name that lost its mark, and is known by its
/// device alone; `None` if there is none.
fn known_by_device(wanted: &Wanted, world: &World) -> Option<World> {
    let lost = |seen: &&SeenSwitch| Mark::parse(&seen.spec.alias).is_none();
    let name_of = |seen: &SeenSwitch| {
        let is_it = |spec: &&SwitchSpec| {
            spec.device == seen.spec.device && spec.backend == seen.spec.backend
        };
        let name = wanted.switches.values().find(is_it).map(|spec| spec.name.clone())?;
        let free = !world.fabric.switches.contains_key(&name);
        free.then(|| (seen.spec.name.clone(), name))
    };
    let names: Vec<_> = world.fabric.switches.values().filter(lost).filter_map(name_of).collect();
    if names.is_empty() {
        return None;
    }
    let mut world = world.clone();
    for (called, name) in names {
        let mut seen = world.fabric.switches.remove(&called)?;
        seen.spec.name = name.clone();
        for mirror in seen.mirrors.values_mut() {
            mirror.switch = name.clone();
            if mirror.mark == seen.spec.alias {
                mirror.mark = wanted.switches[&name].alias.clone();
            }
        }
        world.fabric.switches.insert(name, seen);
    }
    Some(world)
}

/// The names of the nodes in the machine's own file, as far as their addresses are
/// known: those that are yet to be given follow.
fn names(lab: &LabName, wanted: &Wanted, world: &World) -> Vec<Step> {
    let nodes = wanted.nodes.iter().flat_map(|(name, node)| {
        node.addresses.iter().map(move |(device, nets)| (name, device.clone(), nets))
    });
    let names = || Names::of(lab, nodes, world).inside();
    let after = wanted.names_on_machine.then(names);
    let before = world.host.names.clone();
    match before == after {
        true => Vec::new(),
        false => vec![Step::WriteNames { before, after }],
    }
}

/// The steps that remove all that carries the lab's mark.
///
/// # Errors
/// What others have on its switches, and would lose; then nothing may be done.
pub fn down(lab: &LabName, world: &World, abilities: &[Abilities]) -> Result<Plan, Vec<Refusal>> {
    let switches = world.fabric.switches.values();
    let refused = others_on_switches_that_go(&Wanted::default(), world, switches);
    if !refused.is_empty() {
        return Err(refused);
    }
    let swept = |backend: &Backend| {
        abilities.iter().any(|able| able.backend == *backend && able.swept_with_links)
    };
    let before = world.host.names.clone();
    let names = before.map(|before| Step::WriteNames { before: Some(before), after: None });
    let mut stages = vec![
        Stage::Host(names.into_iter().collect()),
        Stage::Host(lives::end_all(world)),
        Stage::Host(dynamic::end_all(world)),
    ];
    let mut devices: Vec<IfName> = world.host.ports.keys().cloned().collect();
    // The taps of userspace bridges, also of one whose database was lost. A
    // local device in the kernel's datapath goes with its bridge alone.
    let in_the_kernel = |device: &IfName| {
        let mut switches = world.fabric.switches.values().map(|seen| &seen.spec);
        switches.any(|s| s.device == *device && s.datapath == Some(Datapath::System))
    };
    devices.extend(world.host.locals.keys().filter(|device| !in_the_kernel(device)).cloned());
    let mut others: BTreeMap<Backend, Vec<FabricStep>> = BTreeMap::new();
    for (device, astray) in &world.fabric.astray {
        let steps = others.entry(Backend::Ovs).or_default();
        steps.push(FabricStep::DeletePort(port_astray(device, astray)));
    }
    let leftovers = leftovers(world);
    if !leftovers.is_empty() {
        others.entry(Backend::Ovs).or_default().extend(leftovers);
    }
    for seen in world.fabric.switches.values() {
        // A sweep takes a bridge with its ports; a stranger's port on it only
        // loses its master, but a bridge that was moved out of the group
        // would be missed, and is deleted by name.
        if swept(&seen.spec.backend) && seen.spec.group == group(lab) {
            devices.push(seen.spec.device.clone());
        } else {
            let steps = others.entry(seen.spec.backend).or_default();
            steps.push(FabricStep::DeleteSwitch(seen.spec.clone()));
        }
    }
    stages.extend(others.into_iter().map(|(backend, steps)| Stage::Fabric(backend, steps)));
    let mut steps = nics::all_leave(world);
    if !devices.is_empty() {
        steps.push(Step::SweepLinks { group: group(lab), devices });
    }
    steps.extend(nodes_there(world).map(|node| adopt::end(node, world)));
    steps.extend(exits::no_doors(&Wanted::default(), world));
    stages.push(Stage::Host(steps));
    stages.retain(|stage| !stage.is_empty());
    Ok(Plan { lab: lab.clone(), stages })
}

/// Nodes that are there, and names that were to become some.
fn nodes_there(world: &World) -> impl Iterator<Item = &NodeName> {
    world.host.nodes.keys().chain(&world.host.stubs)
}

/// An end of a link that is there.
struct SeenEnd<'a> {
    at: Place,
    device: &'a IfName,
    seen: &'a SeenDevice,
}

/// Which wanted links are there, and which ends that are there belong to no
/// link as it is wanted.
pub(super) struct LinkDiff<'a> {
    missing: Vec<&'a Veth>,
    present: Vec<&'a Veth>,
    stray: Vec<Vec<SeenEnd<'a>>>,
}

impl<'a> LinkDiff<'a> {
    /// `left` are nodes that go, with all links, although they are wanted: they
    /// come again.
    fn new(wanted: &'a Wanted, world: &'a World, left: &BTreeSet<&NodeName>) -> Self {
        let mut seen = seen_links(wanted, world);
        let (mut missing, mut present) = (Vec::new(), Vec::new());
        for (id, link) in &wanted.links {
            let goes = |end: &VethEnd| matches!(&end.at, Place::Node(node) if left.contains(node));
            let is_there = seen.get(id).is_some_and(|ends| {
                ends.len() == 2
                    && !link.ends.iter().any(goes)
                    && link.ends.iter().all(|end| {
                        ends.iter().any(|seen| seen.at == end.at && *seen.device == end.device)
                    })
            });
            if is_there {
                seen.remove(id);
                present.push(link);
            } else {
                missing.push(link);
            }
        }
        for child in nics::present(wanted, world).filter(|child| !left.contains(&child.node)) {
            let is_it = |ends: &Vec<SeenEnd>| {
                let at = Place::Node(child.node.clone());
                ends.len() == 1 && ends[0].at == at && *ends[0].device == child.device
            };
            if seen.get(&child.link).is_some_and(is_it) {
                seen.remove(&child.link);
            }
        }
        Self { missing, present, stray: seen.into_values().collect() }
    }

    /// The ends in nodes that are up and are to be held down.
    fn lowered<'w>(&'w self, world: &'w World) -> impl Iterator<Item = (&'w NodeName, &'w IfName)> {
        let held = self.present.iter().filter_map(|veth| Some(&veth.ends[veth.down?]));
        held.filter_map(|end| match &end.at {
            Place::Node(node) if seen_at(world, end)?.up => Some((node, &end.device)),
            Place::Node(_) | Place::Host => None,
        })
    }

    /// Whether a device will be deleted before anything is built.
    pub(super) fn is_stray(&self, at: &Place, device: &IfName) -> bool {
        self.stray.iter().flatten().any(|end| end.at == *at && end.device == device)
    }
}

/// All ends of ours by the link that each belongs to.
fn seen_links<'a>(wanted: &Wanted, world: &'a World) -> BTreeMap<String, Vec<SeenEnd<'a>>> {
    // An end that was cut off between birth and mark is known by its device,
    // which follows from the link. A cable's end is not: nothing would say
    // who is at its other end, so it counts as half of a link of its own.
    let by_device: BTreeMap<(&Place, &IfName), &str> = wanted
        .links
        .values()
        .filter(|veth| veth.ends.iter().any(|end| end.at == Place::Host))
        .flat_map(|veth| veth.ends.iter().map(|e| ((&e.at, &e.device), veth.link.as_str())))
        .collect();
    let outside = world.host.ports.iter().map(|(d, seen)| (Place::Host, d, seen));
    let inside = world.host.nodes.iter().flat_map(|(node, n)| {
        // A NIC is lent, and is nobody's to delete.
        let ours = n.devices.iter().filter(|(d, _)| !n.moved.contains_key(*d));
        ours.map(|(d, seen)| (Place::Node(node.clone()), d, seen))
    });
    let mut links: BTreeMap<String, Vec<SeenEnd<'a>>> = BTreeMap::new();
    for (at, device, seen) in outside.chain(inside) {
        let id = match Mark::parse(&seen.alias).and_then(|mark| mark.link()) {
            Some(id) => id,
            None => match by_device.get(&(&at, device)) {
                Some(id) => (*id).to_owned(),
                None => format!("{at:?} {device}"),
            },
        };
        links.entry(id).or_default().push(SeenEnd { at, device, seen });
    }
    links
}

/// Addresses of others on links that would go while their node stays: nothing
/// would bring them back.
fn others_on_links_that_go(wanted: &Wanted, world: &World, links: &LinkDiff) -> Vec<Refusal> {
    let mut found = Vec::new();
    for end in links.stray.iter().flatten() {
        let Place::Node(node) = &end.at else { continue };
        let Some(seen) = world.host.nodes.get(node) else { continue };
        if !wanted.nodes.contains_key(node) {
            continue;
        }
        for address in seen.foreign_addresses.get(end.device).into_iter().flatten() {
            found.push(Refusal {
                what: format!(
                    "address `{address}` on `{node}:{}` is not ours and would go with its link",
                    end.device
                ),
                hint: format!(
                    "take it off first: `ovsns exec {node} -- ip address del {address} dev {}`",
                    end.device
                ),
            });
        }
    }
    found
}

/// What others have on an end that is to be held down, and would lose: nothing
/// would bring it back when the link is up again.
fn others_on_ends_to_hold_down(world: &World, links: &LinkDiff, found: &mut Vec<Refusal>) {
    for (node, device) in links.lowered(world) {
        let Some(seen) = world.host.nodes.get(node) else { continue };
        let theirs = seen.foreign_addresses.get(device).into_iter().flatten();
        let addresses = theirs.filter(|net| net.addr().is_ipv6());
        let mut refuse = |what: String, delete: String| {
            found.push(Refusal {
                what: format!("{what} is not ours and would go with the link down"),
                hint: format!("take it off first: `ovsns exec {node} -- ip {delete}`"),
            });
        };
        for address in addresses {
            let what = format!("address `{address}` on `{node}:{device}`");
            refuse(what, format!("address del {address} dev {device}"));
        }
        // A routing daemon hears of the link, and makes its routes again.
        let lost = seen.foreign_routes.iter().filter(|(_, by)| !by.comes_again());
        for route in lost.map(|(route, _)| route).filter(|route| route.device == *device) {
            let what = format!("the route to `{}` by `{node}:{device}`", route.to);
            refuse(what, format!("route del {} dev {device}", route.to));
        }
    }
}

/// Ports and mirrors of others on bridges of Open vSwitch that go, or have to
/// be made anew: their rows would go with the bridge, and nobody would bring
/// them back. A device of others on a Linux bridge only loses its master.
fn others_on_switches_that_go<'a>(
    wanted: &Wanted,
    world: &World,
    gone: impl Iterator<Item = &'a SeenSwitch>,
) -> Vec<Refusal> {
    let mut found = Vec::new();
    let gone: Vec<_> = gone.collect();
    for (nic, uplink) in &world.uplinks {
        let made_anew =
            |seen: &&&SeenSwitch| seen.spec.name == uplink.switch && is_wanted_again(wanted, seen);
        if gone.iter().any(|seen| made_anew(&seen)) {
            found.push(Refusal {
                what: format!(
                    "switch `{}` has to be made anew, and `{nic}` is attached to it",
                    uplink.switch
                ),
                hint: format!("take it off first: `ovsns detach {nic}`"),
            });
        }
    }
    for seen in gone.into_iter().filter(|seen| seen.spec.backend == Backend::Ovs) {
        let (switch, bridge) = (&seen.spec.name, &seen.spec.device);
        let goes = match is_wanted_again(wanted, seen) {
            true => "has to be made anew",
            false => "is to go",
        };
        let mut refuse = |theirs: String, take_off: String| {
            found.push(Refusal {
                what: format!("switch `{switch}` {goes}, and {theirs} on it is not ours"),
                hint: format!("take it off first: `ovs-vsctl {take_off}`"),
            });
        };
        let others = seen.ports.iter().filter(|(d, port)| !is_ours(world, d, port));
        for (device, _) in others.filter(|(d, _)| !world.uplinks.contains_key(*d)) {
            refuse(format!("port `{device}`"), format!("del-port {bridge} {device}"));
        }
        for name in &seen.foreign_mirrors {
            let take_off =
                format!("-- --id=@m get mirror {name} -- remove bridge {bridge} mirrors @m");
            refuse(format!("mirror `{name}`"), take_off);
        }
    }
    found
}

/// Takes away the links that are not wanted, with what hangs on them.
fn clear_away(links: &LinkDiff, wanted: &Wanted, world: &World) -> Vec<Stage> {
    let (mut stripped, mut deleted) = (lives::end(wanted, world), Vec::new());
    stripped.extend(dynamic::end(wanted, world, links));
    for (node, device) in links.lowered(world) {
        lower(node, device, &world.host.nodes[node], &mut stripped);
    }
    for ends in &links.stray {
        for end in ends {
            if let Place::Node(node) = &end.at {
                strip(node, end.device, &world.host.nodes[node], &mut stripped);
            }
            // So that the way back has it again.
            let before = end.seen.egress.impairments();
            if !before.is_none() {
                let (at, device) = (end.at.clone(), end.device.clone());
                stripped.push(Step::Impair { at, device, before, after: Impairments::default() });
            }
        }
        match ends.as_slice() {
            [a, b] => deleted.push(Step::DeleteVeth(veth_seen(a, b))),
            ends => deleted.extend(ends.iter().map(|end| match child_seen(end, world) {
                Some(child) => Step::DeleteMacvlan(child),
                None => Step::DeleteEnd { at: end.at.clone(), device: end.device.clone() },
            })),
        }
    }
    let has_local = |spec: &&SwitchSpec| spec.backend == Backend::Ovs;
    let wanted_devices: BTreeSet<&IfName> =
        wanted.switches.values().filter(has_local).map(|spec| &spec.device).collect();
    let of_a_switch =
        |device: &IfName| world.fabric.switches.values().any(|seen| seen.spec.device == *device);
    let left = world.host.locals.keys().filter(|d| !of_a_switch(d) && !wanted_devices.contains(d));
    deleted.extend(left.map(|d| Step::DeleteEnd { at: Place::Host, device: d.clone() }));
    let mut pulled: BTreeMap<Backend, Vec<FabricStep>> = BTreeMap::new();
    for seen in world.fabric.switches.values() {
        let steps = pulled.entry(seen.spec.backend).or_default();
        // A mirror knows its ports, and goes before them.
        let stays = |mirror: &&MirrorSpec| mirror_stays(wanted, world, links, seen, mirror);
        let mirrors = seen.mirrors.values().filter(|mirror| !stays(mirror));
        steps.extend(mirrors.map(|mirror| FabricStep::DeleteMirror(mirror.clone())));
        for device in seen.ports.keys().filter(|d| goes_first(wanted, world, links, seen, d)) {
            let port = port_seen(seen, device).expect("a key of its ports");
            steps.push(FabricStep::DeletePort(port));
        }
    }
    for (device, astray) in &world.fabric.astray {
        if !comes_back(wanted, world, links, device, astray) {
            let steps = pulled.entry(Backend::Ovs).or_default();
            steps.push(FabricStep::DeletePort(port_astray(device, astray)));
        }
    }
    let leftovers = leftovers(world);
    if !leftovers.is_empty() {
        pulled.entry(Backend::Ovs).or_default().extend(leftovers);
    }
    // A bridge that goes and whose name is wanted again has to go at once;
    // the others go last, when their ports have moved. Its ports are pulled
    // first, so that the way back plugs them in again.
    for seen in gone_switches(wanted, world).filter(|s| is_wanted_again(wanted, s)) {
        let steps = pulled.entry(seen.spec.backend).or_default();
        steps.push(FabricStep::DeleteSwitch(seen.spec.clone()));
    }
    deleted.extend(nics::leaving(wanted, world));
    let mut stages = vec![Stage::Host(stripped)];
    stages.extend(pulled.into_iter().map(|(backend, steps)| Stage::Fabric(backend, steps)));
    stages.push(Stage::Host(deleted));
    stages
}

/// Rows that nothing uses go, whatever is wanted.
fn leftovers(world: &World) -> Vec<FabricStep> {
    world.fabric.leftovers.iter().cloned().map(FabricStep::DeleteLeftover).collect()
}

/// Whether a port that is there has to be pulled before anything else is
/// done: because its link goes or is made again (to Open vSwitch, a port that
/// is pulled and plugged in at once is the same port, and stays bound to the
/// link that is no more), because it does not work, because something else is
/// to be plugged in under its name, or because its switch has to go.
fn goes_first(
    wanted: &Wanted,
    world: &World,
    links: &LinkDiff,
    seen: &SeenSwitch,
    device: &IfName,
) -> bool {
    let port = &seen.ports[device];
    if !is_ours(world, device, port) {
        return false;
    }
    if link_goes(world, links, device, port) || port.broken.is_some() {
        return true;
    }
    if !stays(wanted, seen) {
        return is_wanted_again(wanted, seen);
    }
    match wanted.ports.iter().find(|want| want.device == *device) {
        Some(want) => want.kind != port.kind,
        None => port.kind != PortKind::Link,
    }
}

/// Whether a mirror that is there is wanted as it is, and so are its ports: one
/// that is pulled and plugged in again is copied no more.
fn mirror_stays(
    wanted: &Wanted,
    world: &World,
    links: &LinkDiff,
    seen: &SeenSwitch,
    mirror: &MirrorSpec,
) -> bool {
    let mut ports = mirror.from.iter().chain(&mirror.to).chain([&mirror.output]);
    let stays_in = |port: &IfName| {
        seen.ports.contains_key(port) && !goes_first(wanted, world, links, seen, port)
    };
    stays(wanted, seen) && wanted.mirrors.contains(mirror) && ports.all(stays_in)
}

/// Whether a link that a port has goes, is made again, or is gone.
fn link_goes(world: &World, links: &LinkDiff, device: &IfName, port: &SeenPort) -> bool {
    let goes =
        |link: &IfName| links.is_stray(&Place::Host, link) || !world.host.ports.contains_key(link);
    match &port.kind {
        PortKind::Link => goes(device),
        PortKind::Bond { members, .. } => members.iter().any(goes),
        PortKind::Patch { .. } | PortKind::Tunnel { .. } => false,
    }
}

/// Whether a port that somebody moved to a bridge of theirs can be moved back
/// as it is.
fn comes_back(
    wanted: &Wanted,
    world: &World,
    links: &LinkDiff,
    device: &IfName,
    astray: &AstrayPort,
) -> bool {
    let port = &astray.port;
    let is_wanted = wanted.ports.iter().any(|want| {
        let backend = wanted.switches[&want.switch].backend;
        want.device == *device && want.kind == port.kind && backend == Backend::Ovs
    });
    is_wanted && port.broken.is_none() && !link_goes(world, links, device, port)
}

/// Whether a port is of the lab: it says so itself, or its link does.
fn is_ours(world: &World, device: &IfName, port: &SeenPort) -> bool {
    !port.mark.is_empty() || world.host.ports.contains_key(device)
}

/// Takes our addresses and routes off a device that will go, so that the way
/// back puts them on again.
fn strip(node: &NodeName, device: &IfName, seen: &SeenNode, steps: &mut Vec<Step>) {
    let routes = seen.routes.iter().filter(|route| route.device == *device);
    steps.extend(routes.map(|r| Step::DeleteRoute { node: node.clone(), route: r.clone() }));
    let addresses = seen.addresses.get(device).into_iter().flatten();
    steps.extend(addresses.map(|address| Step::DeleteAddress {
        node: node.clone(),
        device: device.clone(),
        address: *address,
    }));
    if seen.checksums.get(device) == Some(&false) {
        steps.push(Step::SetChecksums {
            node: node.clone(),
            device: device.clone(),
            before: false,
            after: true,
        });
    }
}

/// Takes off a device what it will lose when it is set down, so that the way
/// back puts it on again.
fn lower(node: &NodeName, device: &IfName, seen: &SeenNode, steps: &mut Vec<Step>) {
    let routes = seen.routes.iter().filter(|route| route.device == *device);
    steps.extend(routes.map(|r| Step::DeleteRoute { node: node.clone(), route: r.clone() }));
    let addresses = seen.addresses.get(device).into_iter().flatten();
    steps.extend(addresses.filter(|net| net.addr().is_ipv6()).map(|address| {
        let (node, device) = (node.clone(), device.clone());
        Step::DeleteAddress { node, device, address: *address }
    }));
}

/// The child of a NIC that an end is, if it is one.
fn child_seen(end: &SeenEnd, world: &World) -> Option<Child> {
    let Place::Node(node) = &end.at else { return None };
    Child::seen(node, end.device, world)
}

/// A pair as it is there.
fn veth_seen(a: &SeenEnd, b: &SeenEnd) -> Veth {
    let end = |end: &SeenEnd| VethEnd {
        at: end.at.clone(),
        device: end.device.clone(),
        mac: end.seen.mac,
        alias: end.seen.alias.clone(),
        altname: end.seen.altnames.first().cloned(),
    };
    let mark = Mark::parse(&a.seen.alias);
    let lab = mark.as_ref().map(|mark| &mark.lab);
    let link = mark.as_ref().and_then(Mark::link).unwrap_or_else(|| a.device.to_string());
    let down = [a, b].iter().position(|end| !end.seen.up);
    let impairments = [a, b].map(|end| end.seen.egress.impairments());
    let (group, mtu, ends) = (lab.map_or(0, group), a.seen.mtu, [end(a), end(b)]);
    Veth { link, group, mtu, ends, down, impairments }
}

/// The switch of ours in which `device` is plugged, and the port as it is.
fn port_of<'a>(world: &'a World, device: &IfName) -> Option<(&'a SeenSwitch, PortSpec)> {
    world.fabric.switches.values().find_map(|seen| Some((seen, port_seen(seen, device)?)))
}

/// A port as it is on a bridge that is not the lab's.
fn port_astray(device: &IfName, astray: &AstrayPort) -> PortSpec {
    let AstrayPort { bridge, port } = astray;
    let switch = SwitchName::new(bridge.as_str()).or_else(|_| SwitchName::new("elsewhere"));
    PortSpec {
        switch: switch.expect("a good name"),
        bridge: bridge.clone(),
        device: device.clone(),
        kind: port.kind.clone(),
        settings: port.settings.clone(),
        filtering: false,
        number: port.number,
        mark: port.mark.clone(),
    }
}

/// A port of `seen` as it is.
fn port_seen(seen: &SeenSwitch, device: &IfName) -> Option<PortSpec> {
    let port = seen.ports.get(device)?;
    Some(PortSpec {
        switch: seen.spec.name.clone(),
        bridge: seen.spec.device.clone(),
        device: device.clone(),
        kind: port.kind.clone(),
        settings: port.settings.clone(),
        filtering: seen.spec.vlan_filtering,
        number: port.number,
        mark: port.mark.clone(),
    })
}

/// Switches that are there and not wanted, or wanted as another bridge.
fn gone_switches<'a>(wanted: &'a Wanted, world: &'a World) -> impl Iterator<Item = &'a SeenSwitch> {
    world.fabric.switches.values().filter(|seen| !stays(wanted, seen))
}

fn stays(wanted: &Wanted, seen: &SeenSwitch) -> bool {
    let same = |spec: &SwitchSpec| {
        seen.broken.is_none()
            && spec.device == seen.spec.device
            && spec.backend == seen.spec.backend
            && spec.datapath == seen.spec.datapath
    };
    wanted.switches.get(&seen.spec.name).is_some_and(same)
}

/// Whether something else is to have the name or the device of a switch that
/// goes.
fn is_wanted_again(wanted: &Wanted, gone: &SeenSwitch) -> bool {
    let has = |spec: &SwitchSpec| spec.device == gone.spec.device || spec.name == gone.spec.name;
    wanted.switches.values().any(has)
}

/// New nodes, new links, and what is set inside.
fn build(wanted: &Wanted, world: &World, links: &LinkDiff) -> Vec<Step> {
    let mut steps = Vec::new();
    for (node, want) in &wanted.nodes {
        let seen = world.host.nodes.get(node);
        if world.host.stubs.contains(node) {
            steps.push(Step::DeleteNode { node: node.clone() });
        }
        if seen.is_none() {
            steps.push(adopt::begin(node, want, world));
            if !want.solicits && want.adopt.is_none() {
                steps.push(Step::SetSysctl {
                    node: node.clone(),
                    key: "net.ipv6.conf.default.router_solicitations".to_owned(),
                    before: None,
                    after: "0".to_owned(),
                });
            }
        }
        raise_loopback(node, seen, &mut steps);
        let before = seen.and_then(|seen| seen.sealed);
        if before != want.sealed {
            let (node, after) = (node.clone(), want.sealed);
            steps.push(Step::SealNode { node, before, after });
        }
        sysctls(node, want, seen, false, &mut steps);
    }
    steps.extend(links.missing.iter().map(|veth| Step::AddVeth((*veth).clone())));
    for veth in &links.missing {
        for (side, end) in veth.ends.iter().enumerate() {
            set_link(end, &veth.born(side), &veth.raised(side), &mut steps);
            impair(end, &Egress::Plain, veth.impairments[side], &mut steps);
            own_checksums(wanted, end, &mut steps);
        }
    }
    for veth in &links.present {
        for (side, end) in veth.ends.iter().enumerate() {
            let Some(seen) = seen_at(world, end) else { continue };
            let before =
                LinkState { up: seen.up, mtu: seen.mtu, mac: seen.mac, alias: seen.alias.clone() };
            set_link(end, &before, &veth.raised(side), &mut steps);
            impair(end, &seen.egress, veth.impairments[side], &mut steps);
            if seen_leaves_checksums(world, end) {
                own_checksums(wanted, end, &mut steps);
            }
            let altname = end.altname.iter().filter(|name| !seen.altnames.contains(*name));
            steps.extend(altname.map(|altname| Step::AddAltname {
                at: end.at.clone(),
                device: end.device.clone(),
                altname: altname.clone(),
            }));
        }
    }
    nics::build(wanted, world, &mut steps);
    for (node, want) in &wanted.nodes {
        let seen = world.host.nodes.get(node);
        sysctls(node, want, seen, true, &mut steps);
        let lowered: BTreeSet<&IfName> =
            links.lowered(world).filter(|(n, _)| *n == node).map(|(_, device)| device).collect();
        addresses(node, want, seen, links, &lowered, &mut steps);
        routes(node, want, seen, links, &lowered, &mut steps);
        cut(node, want, seen, &mut steps);
    }
    steps
}

/// Every node is born with its loopback up.
fn raise_loopback(node: &NodeName, seen: Option<&SeenNode>, steps: &mut Vec<Step>) {
    let Some(lo) = seen.and_then(|seen| seen.loopback.as_ref()).filter(|lo| !lo.up) else { return };
    let before = LinkState { up: false, mtu: lo.mtu, mac: lo.mac, alias: lo.alias.clone() };
    let after = LinkState { up: true, ..before.clone() };
    let device = IfName::new("lo").expect("a good name");
    steps.push(Step::SetLink { at: Place::Node(node.clone()), device, before, after });
}

fn seen_at<'a>(world: &'a World, end: &VethEnd) -> Option<&'a SeenDevice> {
    match &end.at {
        Place::Host => world.host.ports.get(&end.device),
        Place::Node(node) => world.host.nodes.get(node)?.devices.get(&end.device),
    }
}

/// Whether an end in a node was seen to leave checksums to its hardware.
fn seen_leaves_checksums(world: &World, end: &VethEnd) -> bool {
    let Place::Node(node) = &end.at else { return false };
    let seen = world.host.nodes.get(node).and_then(|seen| seen.checksums.get(&end.device));
    seen == Some(&true)
}

/// Has an end calculate checksums itself, if the switch it is at needs it to.
fn own_checksums(wanted: &Wanted, end: &VethEnd, steps: &mut Vec<Step>) {
    let Place::Node(node) = &end.at else { return };
    let needs = |node: &WantedNode| node.own_checksums.contains(&end.device);
    if wanted.nodes.get(node).is_some_and(needs) {
        steps.push(Step::SetChecksums {
            node: node.clone(),
            device: end.device.clone(),
            before: true,
            after: false,
        });
    }
}

fn set_link(end: &VethEnd, before: &LinkState, after: &LinkState, steps: &mut Vec<Step>) {
    if before != after {
        steps.push(Step::SetLink {
            at: end.at.clone(),
            device: end.device.clone(),
            before: before.clone(),
            after: after.clone(),
        });
    }
}

fn impair(end: &VethEnd, seen: &Egress, after: Impairments, steps: &mut Vec<Step>) {
    let before = seen.impairments();
    let altered = matches!(seen, Egress::Impaired { altered: true, .. });
    if before != after || altered {
        steps.push(Step::Impair { at: end.at.clone(), device: end.device.clone(), before, after });
    }
}

/// Kernel parameters: those of one interface when that is there (`late`), all
/// others first, because a `default` only counts for devices still to come.
fn sysctls(
    node: &NodeName,
    want: &WantedNode,
    seen: Option<&SeenNode>,
    late: bool,
    steps: &mut Vec<Step>,
) {
    let of_interface = |key: &str| {
        // net.ipv4.conf.eth0.rp_filter, net.ipv6.neigh.eth0.gc_stale_time
        let interface = key.split('.').nth(3).filter(|_| key.split('.').count() == 5);
        interface.is_some_and(|name| want.addresses.keys().any(|device| device.as_str() == name))
    };
    for (key, after) in want.sysctls.iter().filter(|(key, _)| of_interface(key) == late) {
        let before = seen.and_then(|seen| seen.sysctls.get(key));
        if before.is_some_and(|before| same_value(before, after)) {
            continue;
        }
        steps.push(Step::SetSysctl {
            node: node.clone(),
            key: key.clone(),
            before: before.cloned(),
            after: after.clone(),
        });
    }
}

/// The kernel prints `4096\t87380` for what was written as `4096 87380`.
fn same_value(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

/// New addresses come before old ones go, so that a connected route that both
/// share, and what hangs on it, stays.
fn addresses(
    node: &NodeName,
    want: &WantedNode,
    seen: Option<&SeenNode>,
    links: &LinkDiff,
    lowered: &BTreeSet<&IfName>,
    steps: &mut Vec<Step>,
) {
    for (device, wanted) in &want.addresses {
        // What was on a link that is made again went with it.
        let here = Place::Node(node.clone());
        let seen = seen.filter(|_| !links.is_stray(&here, device));
        let ours = seen.and_then(|seen| seen.addresses.get(device));
        let theirs = seen.and_then(|seen| seen.foreign_addresses.get(device));
        let has = |set: Option<&BTreeSet<IpNet>>, address: &IpNet| {
            set.is_some_and(|s| s.contains(address))
        };
        let new: Vec<_> = wanted.iter().filter(|a| !has(ours, a) && !has(theirs, a)).collect();
        let is_off = seen.is_some_and(|seen| seen.without_ipv6.contains(device));
        if is_off && new.iter().any(|net| net.addr().is_ipv6()) {
            steps.push(Step::SetSysctl {
                node: node.clone(),
                key: format!("net.ipv6.conf.{device}.disable_ipv6"),
                before: Some("1".to_owned()),
                after: "0".to_owned(),
            });
        }
        for address in new {
            steps.push(Step::AddAddress {
                node: node.clone(),
                device: device.clone(),
                address: *address,
            });
        }
        let old = ours.into_iter().flatten().filter(|address| !wanted.contains(address));
        // Those of IPv6 are off already.
        let off = |net: &IpNet| lowered.contains(device) && net.addr().is_ipv6();
        let old: Vec<&IpNet> = old.filter(|net| !off(net)).collect();
        // Without this the kernel deletes the second address of a subnet when
        // the first is deleted.
        let dotted = device.as_str().contains('.');
        let settable = want.adopt.is_none() || !dotted;
        if settable && old.iter().any(|old| old.addr().is_ipv4()) {
            // In an adopted node nothing is set but what goes with its links.
            let of = if want.adopt.is_some() { device.as_str() } else { "all" };
            steps.push(Step::SetSysctl {
                node: node.clone(),
                key: format!("net.ipv4.conf.{of}.promote_secondaries"),
                before: None,
                after: "1".to_owned(),
            });
        }
        for address in old {
            steps.push(Step::DeleteAddress {
                node: node.clone(),
                device: device.clone(),
                address: *address,
            });
        }
    }
}

fn routes(
    node: &NodeName,
    want: &WantedNode,
    seen: Option<&SeenNode>,
    links: &LinkDiff,
    lowered: &BTreeSet<&IfName>,
    steps: &mut Vec<Step>,
) {
    let here = Place::Node(node.clone());
    let stays = |device: &IfName| !links.is_stray(&here, device) && !lowered.contains(device);
    let there: BTreeSet<_> =
        seen.iter().flat_map(|seen| &seen.routes).filter(|r| stays(&r.device)).collect();
    let theirs: BTreeSet<_> =
        seen.iter().flat_map(|s| s.foreign_routes.keys()).filter(|r| stays(&r.device)).collect();
    // Old ones go first: a default route cannot be there twice.
    let gone = there.iter().filter(|route| !want.routes.contains(route));
    steps.extend(gone.map(|r| Step::DeleteRoute { node: node.clone(), route: (*r).clone() }));
    let new = want.routes.iter().filter(|r| !there.contains(r) && !theirs.contains(r));
    // A route without a next router makes the next router of another one
    // reachable.
    let (direct, by_router): (Vec<_>, Vec<_>) = new.partition(|route| route.via.is_none());
    let new = direct.into_iter().chain(by_router);
    steps.extend(new.map(|r| Step::AddRoute { node: node.clone(), route: r.clone() }));
}

/// When its devices are there. One that is made again is not in what was seen.
fn cut(node: &NodeName, want: &WantedNode, seen: Option<&SeenNode>, steps: &mut Vec<Step>) {
    let seen = seen.and_then(|seen| seen.deaf.as_ref());
    let altered = seen.is_some_and(|seen| seen.altered);
    let before = seen.map(|seen| seen.deaf.clone());
    if before != want.deaf || altered {
        let (node, from) = (node.clone(), want.cut_from.clone());
        steps.push(Step::Cut { node, before, after: want.deaf.clone(), from });
    }
}

/// Switches and ports, each backend's in one go.
fn fabric(
    lab: &LabName,
    wanted: &Wanted,
    world: &World,
    links: &LinkDiff,
    abilities: &[Abilities],
) -> Vec<Stage> {
    let mut steps: BTreeMap<Backend, Vec<FabricStep>> = BTreeMap::new();
    let mut raised: BTreeMap<Backend, Vec<FabricStep>> = BTreeMap::new();
    for (name, spec) in &wanted.switches {
        let there = world.fabric.switches.get(name).filter(|seen| stays(wanted, seen));
        let steps = steps.entry(spec.backend).or_default();
        match there {
            None => steps.push(FabricStep::AddSwitch(spec.clone())),
            Some(seen) if seen.spec != *spec => {
                steps.push(FabricStep::SetSwitch { before: seen.spec.clone(), after: spec.clone() })
            }
            Some(_) => {}
        }
        if there.is_none_or(|seen| !seen.up) {
            raised.entry(spec.backend).or_default().push(FabricStep::RaiseSwitch(spec.clone()));
        }
    }
    for port in &wanted.ports {
        let backend = wanted.switches[&port.switch].backend;
        // It is free if it was pulled first.
        let there = port_of(world, &port.device)
            .filter(|(seen, _)| !goes_first(wanted, world, links, seen, &port.device));
        let astray = world.fabric.astray.get(&port.device);
        let astray = astray.filter(|it| comes_back(wanted, world, links, &port.device, it));
        let steps = steps.entry(backend).or_default();
        match there {
            None => steps.push(match astray {
                Some(astray) => {
                    let before = port_astray(&port.device, astray);
                    FabricStep::SetPort { before, after: port.clone() }
                }
                None => FabricStep::AddPort(port.clone()),
            }),
            Some((seen, _)) if seen.spec.backend != backend => {
                steps.push(FabricStep::AddPort(port.clone()));
            }
            Some((_, before)) if before != *port => {
                steps.push(FabricStep::SetPort { before, after: port.clone() });
            }
            Some(_) => {}
        }
    }
    for seen in gone_switches(wanted, world).filter(|s| !is_wanted_again(wanted, s)) {
        let steps = steps.entry(seen.spec.backend).or_default();
        steps.push(FabricStep::DeleteSwitch(seen.spec.clone()));
    }
    for mirror in &wanted.mirrors {
        let spec = &wanted.switches[&mirror.switch];
        let there = world.fabric.switches.get(&mirror.switch);
        let stays = |seen: &SeenSwitch| {
            let there = seen.mirrors.get(&mirror.name).filter(|there| *there == mirror);
            there.is_some_and(|there| mirror_stays(wanted, world, links, seen, there))
        };
        if !there.is_some_and(stays) {
            steps.entry(spec.backend).or_default().push(FabricStep::AddMirror(mirror.clone()));
        }
    }
    for name in unsettled(wanted, world, links) {
        let spec = &wanted.switches[name];
        let raised = raised.entry(spec.backend).or_default();
        let raise = FabricStep::RaiseSwitch(spec.clone());
        if !raised.contains(&raise) {
            raised.push(FabricStep::SettleSwitch(spec.clone()));
        }
    }
    for (backend, raise) in raised {
        steps.entry(backend).or_default().extend(raise);
    }
    // A flow may name ports, which have their numbers by now.
    for (name, spec) in &wanted.switches {
        let there = world.fabric.switches.get(name).filter(|seen| stays(wanted, seen));
        let steps = steps.entry(spec.backend).or_default();
        // Where the switch is yet to be told to forward so, it makes that itself.
        let alone = there.filter(|seen| [spec, &seen.spec].iter().all(|s| s.forwards_by_itself()));
        let in_place = alone.map(|_| in_place_of_own(wanted, spec, world, abilities));
        flows(lab, wanted, spec, there, in_place, steps);
    }
    steps.into_iter().map(|(backend, steps)| Stage::Fabric(backend, steps)).collect()
}

/// Switches that have to settle again, since a link that they have comes up:
/// all that speak a spanning tree protocol if one of them has it, since what
/// they learned leads the old way, and those with a bond that it is of.
fn unsettled<'a>(wanted: &'a Wanted, world: &World, links: &LinkDiff) -> BTreeSet<&'a SwitchName> {
    let down = |end: &VethEnd| seen_at(world, end).is_some_and(|seen| !seen.up);
    let up = links.present.iter().filter(|veth| veth.down.is_none());
    let raised = up.filter(|veth| veth.ends.iter().any(down));
    let outside = raised.flat_map(|veth| &veth.ends).filter(|end| end.at == Place::Host);
    let devices: BTreeSet<&IfName> = outside.map(|end| &end.device).collect();
    let has_tree = |name: &SwitchName| {
        let settings = &wanted.switches[name].settings;
        settings.stp || settings.rstp
    };
    let of_bond = |port: &&PortSpec| match &port.kind {
        PortKind::Bond { members, .. } => members.iter().any(|member| devices.contains(member)),
        PortKind::Link | PortKind::Patch { .. } | PortKind::Tunnel { .. } => false,
    };
    let mut found: BTreeSet<_> =
        wanted.ports.iter().filter(of_bond).map(|port| &port.switch).collect();
    let mut ports = wanted.ports.iter().filter(|port| devices.contains(&port.device));
    if ports.any(|port| has_tree(&port.switch)) {
        found.extend(wanted.switches.keys().filter(|name| has_tree(name)));
    }
    found
}

/// Flows of a switch. `in_place` is the one of the lab in the place of the
/// flow by which the switch forwards by itself, where the switch has that.
fn flows(
    lab: &LabName,
    wanted: &Wanted,
    spec: &SwitchSpec,
    there: Option<&SeenSwitch>,
    in_place: Option<Option<&FlowSpec>>,
    steps: &mut Vec<FabricStep>,
) {
    let want: Vec<_> = wanted.flows.iter().filter(|flow| flow.switch == spec.name).collect();
    let gone = there.into_iter().flat_map(|seen| &seen.flows);
    let gone = gone.filter(|(cookie, _)| !want.iter().any(|f| f.cookie == **cookie));
    let gone: Vec<_> = gone.collect();
    if let (Some(seen), false) = (there, gone.is_empty()) {
        let called = Ports::seen(seen).devices(lab);
        steps.extend(gone.iter().map(|(cookie, text)| {
            FabricStep::DeleteFlow(FlowSpec {
                switch: spec.name.clone(),
                bridge: spec.device.clone(),
                cookie: **cookie,
                words: flow::with_devices(text, &called),
                text: (*text).clone(),
            })
        }));
    }
    let is_there = |flow: &FlowSpec| there.is_some_and(|s| s.flows.contains_key(&flow.cookie));
    if let (Some(seen), Some(in_place)) = (there, in_place) {
        let miss = seen.table_miss.as_ref();
        let goes = gone.iter().any(|(_, text)| Some(*text) == miss);
        let is_own = !goes && miss.is_some_and(|text| text == FlowSpec::OWN);
        match in_place {
            // Only what is deleted can be put back if the change is taken back.
            Some(flow) if is_own && !is_there(flow) => {
                steps.push(FabricStep::DeleteFlow(FlowSpec::own(spec)));
            }
            None if goes || miss.is_none() => steps.push(FabricStep::AddFlow(FlowSpec::own(spec))),
            Some(_) | None => {}
        }
    }
    let new = want.into_iter().filter(|flow| !is_there(flow));
    steps.extend(new.map(|flow| FabricStep::AddFlow(flow.clone())));
}
