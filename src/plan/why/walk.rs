//! The way of a packet, hop by hop: which device it leaves a node by, through
//! which switches, into which node, and so on, to the end and back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::facts::{Facts, Question, RouteAnswer, RouteQuestion};
use crate::model::mark::Mark;
use crate::model::names::{IfName, NodeName, SwitchName};
use crate::model::packet::{Packet, Sort, Spot, Tap};
use crate::model::world::{PortKind, World};

/// More nodes than this are a circle, or nobody's lab.
const NODES_MAX: usize = 64;

/// A part of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Which.
    pub what: What,
    /// Whether it is the answer that takes it.
    pub is_back: bool,
    /// Where it shows that it was passed; empty where one cannot look.
    pub shows: BTreeSet<Tap>,
}

/// What a part of the way is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A node.
    Node(NodeHop),
    /// A link, from one device to another.
    Wire {
        /// Where it is sent.
        from: (Spot, String),
        /// Where it arrives.
        to: (Spot, String),
    },
    /// A switch.
    Switch {
        /// Which.
        switch: SwitchName,
        /// The port by which it comes in.
        enters: IfName,
        /// The port by which it leaves.
        leaves: IfName,
    },
    /// Nobody knows how it goes on, and why.
    Lost(String),
}

/// A node on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHop {
    /// Which.
    pub node: NodeName,
    /// What it does.
    pub part: Part,
    /// The device by which it comes in.
    pub enters: Option<String>,
    /// The device by which it leaves, if the node knows a way.
    pub leaves: Option<String>,
    /// Who is to get it on that link.
    pub next: Option<IpAddr>,
    /// The route that was asked for.
    pub route: Option<RouteQuestion>,
}

/// What a node does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It sends it.
    Sends,
    /// It passes it on.
    Forwards,
    /// It answers it.
    Answers,
    /// It hears the answer.
    Hears,
}

/// An end of a link of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LinkEnd {
    Interface(NodeName, String),
    Port(Option<SwitchName>, IfName),
}

/// The ends of the lab's links, by the links' names.
type Ends = BTreeMap<String, Vec<LinkEnd>>;

struct Walk<'a> {
    world: &'a World,
    facts: &'a Facts,
    ends: Ends,
}

/// The whole way there, and back. It ends where nobody knows how to go on.
pub fn walk(
    world: &World,
    facts: &Facts,
    (first, last): (&NodeName, &NodeName),
    packet: &Packet,
) -> Result<Vec<Hop>, Question> {
    let walk = Walk { world, facts, ends: ends(world) };
    let mut hops = walk.one_way((first, last), (packet.from, packet.to), false)?;
    let arrives = |hop: &Hop| matches!(&hop.what, What::Node(node) if node.part == Part::Answers);
    if !hops.last().is_some_and(arrives) {
        return Ok(hops);
    }
    let mut back = walk.one_way((last, first), (packet.to, packet.from), true)?;
    let start = back.remove(0);
    let turn = hops.last_mut().expect("it was looked at");
    if let (What::Node(turn), What::Node(start)) = (&mut turn.what, start.what) {
        turn.leaves = start.leaves;
        turn.next = start.next;
        turn.route = start.route;
    }
    turn.is_back = true;
    turn.shows = start.shows;
    hops.extend(back);
    Ok(hops)
}

/// The ends of all links, by the marks on them.
fn ends(world: &World) -> Ends {
    let mut ends = Ends::new();
    let link = |alias: &str| Mark::parse(alias).and_then(|mark| mark.link());
    for (node, seen) in &world.host.nodes {
        for (device, there) in &seen.devices {
            if let Some(link) = link(&there.alias) {
                let end = LinkEnd::Interface(node.clone(), device.to_string());
                ends.entry(link).or_default().push(end);
            }
        }
    }
    let mut plugged: BTreeSet<&IfName> = BTreeSet::new();
    for (name, seen) in &world.fabric.switches {
        for (device, port) in &seen.ports {
            let alias = world.host.ports.get(device).map_or("", |there| there.alias.as_str());
            let mark = if port.mark.is_empty() { alias } else { port.mark.as_str() };
            if let Some(link) = link(mark) {
                plugged.insert(device);
                if let PortKind::Bond { members, .. } = &port.kind {
                    plugged.extend(members);
                }
                let end = LinkEnd::Port(Some(name.clone()), device.clone());
                ends.entry(link).or_default().push(end);
            }
        }
    }
    for (device, there) in &world.host.ports {
        if let Some(link) = link(&there.alias).filter(|_| !plugged.contains(device)) {
            ends.entry(link).or_default().push(LinkEnd::Port(None, device.clone()));
        }
    }
    ends
}

impl Walk<'_> {
    fn one_way(
        &self,
        (first, last): (&NodeName, &NodeName),
        (from, to): (IpAddr, IpAddr),
        is_back: bool,
    ) -> Result<Vec<Hop>, Question> {
        let mut hops = Vec::new();
        let (mut node, mut enters) = (first.clone(), None);
        let mut visited = BTreeSet::new();
        loop {
            let spot = Spot::Node(node.clone());
            let Some(there) = self.facts.spots.get(&spot) else {
                return Err(Question::Spot(spot));
            };
            let part = match (&enters, node == *last) {
                (None, _) => Part::Sends,
                (Some(_), true) if is_back => Part::Hears,
                (Some(_), true) => Part::Answers,
                (Some(_), false) => Part::Forwards,
            };
            let mut hop = NodeHop {
                node: node.clone(),
                part,
                enters: enters.clone(),
                leaves: None,
                next: None,
                route: None,
            };
            let push = |hop: NodeHop, shows| Hop { what: What::Node(hop), is_back, shows };
            let arrived = matches!(part, Part::Answers | Part::Hears)
                && there.as_ref().is_none_or(|there| there.address(to).is_some());
            if arrived || there.is_none() {
                hops.push(push(hop, BTreeSet::new()));
                return Ok(hops);
            }
            // An end that has not the address any more is a router like any other.
            if matches!(part, Part::Answers | Part::Hears) {
                hop.part = Part::Forwards;
            }
            let source = (enters.is_some() || is_back).then_some(from);
            let route = RouteQuestion { node: node.clone(), from: source, to, enters };
            let Some(answer) = self.facts.routes.get(&route) else {
                return Err(Question::Route(route));
            };
            hop.route = Some(route);
            let RouteAnswer::Leaves { device, via, .. } = answer else {
                hops.push(push(hop, BTreeSet::new()));
                return Ok(hops);
            };
            let next = via.unwrap_or(to);
            hop.leaves = Some(device.clone());
            hop.next = Some(next);
            let shows = BTreeSet::from([Tap { spot, device: device.clone(), out: true }]);
            hops.push(push(hop, shows));
            if !visited.insert(node.clone()) || NODES_MAX < visited.len() {
                let what = format!("the routes lead in a circle: it comes to `{node}` again");
                hops.push(lost(what, is_back));
                return Ok(hops);
            }
            match self.across(&node, device, next, last) {
                Ok((segment, far, at)) => {
                    hops.extend(segment.into_iter().map(|hop| Hop { is_back, ..hop }));
                    (node, enters) = (far, Some(at));
                }
                Err(what) => {
                    hops.push(lost(what, is_back));
                    return Ok(hops);
                }
            }
        }
    }

    /// The hops from a device of a node to the node that has an address there.
    fn across(
        &self,
        node: &NodeName,
        device: &str,
        next: IpAddr,
        last: &NodeName,
    ) -> Result<(Vec<Hop>, NodeName, String), String> {
        let here = LinkEnd::Interface(node.clone(), device.to_owned());
        let Some(far) = self.far_end(&here) else {
            return Err(format!(
                "`{node}` sends it by `{device}`, which is no end of a link of the lab's"
            ));
        };
        let start = (Spot::Node(node.clone()), device.to_owned());
        let port = match far {
            LinkEnd::Interface(far, at) => {
                let end = (Spot::Node(far.clone()), at.clone());
                return Ok((vec![wire(start, end)], far.clone(), at.clone()));
            }
            LinkEnd::Port(_, port) => port,
        };
        let home = |port: &IfName| (Spot::Home, port.to_string());
        let mut segment = vec![wire(start, home(port))];
        let mut unreached = None;
        let mut owners = self.owners(next);
        // Of several that have one address, where it is to go comes first.
        owners.sort_by_key(|(owner, _)| owner != last);
        for (owner, at) in owners.into_iter().filter(|(owner, _)| owner != node) {
            let end = LinkEnd::Interface(owner.clone(), at.clone());
            let Some(LinkEnd::Port(_, far_port)) = self.far_end(&end) else {
                unreached = Some(owner);
                continue;
            };
            let Some(switches) = self.through(port, far_port) else {
                unreached = Some(owner);
                continue;
            };
            for (index, (switch, enters, leaves)) in switches.iter().enumerate() {
                let what = What::Switch {
                    switch: switch.clone(),
                    enters: enters.clone(),
                    leaves: leaves.clone(),
                };
                let shows = self.cables(switch, leaves);
                segment.push(Hop { what, is_back: false, shows: taps(&shows, true) });
                if let Some((far_switch, far, _)) = switches.get(index + 1) {
                    let shows = taps(&self.cables(far_switch, far), false);
                    let what = What::Wire { from: home(leaves), to: home(far) };
                    segment.push(Hop { what, is_back: false, shows });
                }
            }
            let end = (Spot::Node(owner.clone()), at.clone());
            segment.push(wire(home(far_port), end));
            return Ok((segment, owner, at));
        }
        Err(match unreached {
            Some(owner) => format!(
                "`{owner}` has {next}, and no link or switch leads there from `{node}:{device}`"
            ),
            None => format!("no node of the lab has the address {next}"),
        })
    }

    fn far_end(&self, here: &LinkEnd) -> Option<&LinkEnd> {
        let ends = self.ends.values().find(|ends| ends.contains(here))?;
        ends.iter().find(|end| *end != here)
    }

    /// The interfaces in the lab with an address.
    fn owners(&self, ip: IpAddr) -> Vec<(NodeName, String)> {
        owners(self.world, self.facts, ip)
    }

    /// The switches from one port to another, each with the ports on the way; of
    /// several ways that on which something was seen, else the shortest.
    fn through(&self, from: &IfName, to: &IfName) -> Option<Vec<(SwitchName, IfName, IfName)>> {
        let switch_of = |port: &IfName| {
            let ends = self.ends.values().flatten();
            ends.into_iter().find_map(|end| match end {
                LinkEnd::Port(switch, device) if device == port => Some(switch.clone()),
                LinkEnd::Port(..) | LinkEnd::Interface(..) => None,
            })
        };
        // A port that somebody pulled out belongs where the other is.
        let (start, goal) = (switch_of(from)?, switch_of(to)?);
        let start = start.clone().or(goal.clone())?;
        let goal = goal.unwrap_or_else(|| start.clone());
        let mut done: BTreeSet<SwitchName> = BTreeSet::new();
        let mut open = vec![(0, vec![(start, from.clone())], Vec::<IfName>::new())];
        while !open.is_empty() {
            let nearest = (0..open.len()).min_by_key(|at| open[*at].0).expect("not empty");
            let (cost, entered, left) = open.swap_remove(nearest);
            let (here, _) = entered.last().expect("it begins with one").clone();
            if !done.insert(here.clone()) {
                continue;
            }
            if here == goal {
                let left = left.into_iter().chain([to.clone()]);
                let whole = entered.into_iter().zip(left);
                return Some(whole.map(|((switch, enters), out)| (switch, enters, out)).collect());
            }
            for ends in self.ends.values() {
                let [LinkEnd::Port(Some(a), at), LinkEnd::Port(Some(b), bt)] = ends.as_slice()
                else {
                    continue;
                };
                for ((near, leaves), (far, enters)) in [((a, at), (b, bt)), ((b, bt), (a, at))] {
                    if *near != here {
                        continue;
                    }
                    let mut entered = entered.clone();
                    entered.push((far.clone(), enters.clone()));
                    let mut left = left.clone();
                    left.push(leaves.clone());
                    open.push((cost + self.cost(near, leaves), entered, left));
                }
            }
        }
        None
    }

    /// How unlikely it is that a packet takes a trunk.
    fn cost(&self, switch: &SwitchName, leaves: &IfName) -> u32 {
        let cables = self.cables(switch, leaves);
        let state = |cable: &IfName| {
            self.facts.link(&Spot::Home, cable.as_str()).and_then(|link| link.port_state)
        };
        if cables.iter().any(|cable| state(cable) == Some("blocking")) {
            return 1000;
        }
        let Some(tried) = &self.facts.tried else { return 10 };
        let taps = taps(&cables, true);
        let saw = |sort: Sort| taps.iter().any(|tap| tried.seen.contains(&(tap.clone(), sort)));
        if saw(Sort::Request) || saw(Sort::Reply) { 1 } else { 10 }
    }

    /// The devices that a port is made of.
    fn cables(&self, switch: &SwitchName, port: &IfName) -> Vec<IfName> {
        let seen = self.world.fabric.switches.get(switch).and_then(|seen| seen.ports.get(port));
        match seen.map(|seen| &seen.kind) {
            Some(PortKind::Bond { members, .. }) => members.iter().cloned().collect(),
            Some(PortKind::Patch { .. } | PortKind::Tunnel { .. }) => Vec::new(),
            Some(PortKind::Link) | None => vec![port.clone()],
        }
    }
}

/// The interfaces in the lab with an address.
pub(super) fn owners(world: &World, facts: &Facts, ip: IpAddr) -> Vec<(NodeName, String)> {
    let mut found = BTreeSet::new();
    for (node, seen) in &world.host.nodes {
        let of_others = seen.addresses.iter().chain(&seen.foreign_addresses);
        let fixed = of_others.filter(|(_, nets)| nets.iter().any(|net| net.addr() == ip));
        let dynamic = seen.dynamic.iter();
        let dynamic = dynamic.filter(|(_, nets)| nets.keys().any(|net| net.addr() == ip));
        let devices = fixed.map(|(device, _)| device).chain(dynamic.map(|(device, _)| device));
        found.extend(devices.map(|device| (node.clone(), device.to_string())));
    }
    // A node that was looked into tells of the rest, too.
    for (spot, there) in &facts.spots {
        let (Spot::Node(node), Some(there)) = (spot, there) else { continue };
        let has = there.addresses.iter().filter(|address| address.net.addr() == ip);
        found.extend(has.map(|address| (node.clone(), address.device.clone())));
    }
    found.into_iter().collect()
}

fn taps(devices: &[IfName], out: bool) -> BTreeSet<Tap> {
    let tap = |device: &IfName| Tap { spot: Spot::Home, device: device.to_string(), out };
    devices.iter().map(tap).collect()
}

fn wire(from: (Spot, String), to: (Spot, String)) -> Hop {
    let shows = BTreeSet::from([Tap { spot: to.0.clone(), device: to.1.clone(), out: false }]);
    Hop { what: What::Wire { from, to }, is_back: false, shows }
}

fn lost(what: String, is_back: bool) -> Hop {
    Hop { what: What::Lost(what), is_back, shows: BTreeSet::new() }
}
