//! Why a packet does not pass a hop: what is there, read for that hop alone.
//!
//! What a packet filter or a switch says of itself is certain, and so is a link
//! that is down. What could drop a packet and does not tell is a `perhaps`.

mod filter;
mod large;
mod node;
mod queue;
mod route;
mod switch;

use self::node::{at_node, nobody_has, strange_neighbour};
use self::queue::queues;
use self::switch::at_switch;
use super::facts::{LinkFacts, Question, Tried};
use super::judge::{Case, Finding, Stage};
use super::walk::{Hop, NodeHop, Part, What, owners};
use crate::model::mark::{Mark, Thing, netns};
use crate::model::names::IfName;
use crate::model::packet::Spot;
use crate::model::topology::{End, Link};
use crate::model::world::PortKind;

pub(super) use self::large::{notes, of_checksums, of_large, udp_arrives};

/// What a command says that mends whatever is not as the file has it.
const UP: &str = "ovsns up FILE";

/// Why it does not pass a hop.
pub(super) fn of(
    case: &Case<'_>,
    tried: &Tried,
    hop: usize,
    stage: Stage,
) -> Result<Vec<Finding>, Question> {
    let Some(here) = case.hops.get(hop) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    match &here.what {
        What::Node(node) => at_node(case, tried, hop, node, stage, &mut found),
        What::Wire { from, to } => {
            strange_neighbour(case, hop, &mut found);
            for (spot, device) in [from, to] {
                link_down(case, spot, device, &mut found);
            }
            queues(case, tried, &from.0, &from.1, true, &mut found);
        }
        What::Switch { switch, enters, leaves } => {
            at_switch(case, tried, hop, (switch, enters, leaves), stage, &mut found)?;
        }
        What::Lost(why) => found.push(lost(case, hop, why)),
    }
    // A node's last device is the beginning of the wire behind it.
    if found.is_empty()
        && let Some(Hop { what: What::Wire { from, to }, .. }) = case.hops.get(hop + 1)
    {
        for (spot, device) in [from, to] {
            link_down(case, spot, device, &mut found);
        }
    }
    if found.is_empty()
        && let Some(Hop { what: What::Lost(why), .. }) = case.hops.get(hop + 1)
    {
        found.push(lost(case, hop + 1, why));
    }
    Ok(found)
}

fn run_in(case: &Case<'_>, spot: &Spot, command: &str) -> String {
    match spot {
        Spot::Home => command.to_owned(),
        Spot::Node(node) => format!("ip netns exec {} {command}", netns(case.lab, node)),
    }
}

/// `ip ...`, or `ip -n NAMESPACE ...`.
fn ip(case: &Case<'_>, spot: &Spot, command: &str) -> String {
    match spot {
        Spot::Home => format!("ip {command}"),
        Spot::Node(node) => format!("ip -n {} {command}", netns(case.lab, node)),
    }
}

/// A device, as a person calls it.
pub(super) fn called(case: &Case<'_>, spot: &Spot, device: &str) -> String {
    match spot {
        Spot::Node(node) => format!("`{node}:{device}`"),
        Spot::Home => {
            let ports = case.world.fabric.switches.values().flat_map(|seen| &seen.ports);
            let port = ports.into_iter().find(|(name, _)| name.as_str() == device);
            let alias = IfName::new(device)
                .ok()
                .and_then(|name| case.world.host.ports.get(&name).map(|there| there.alias.clone()));
            let mark = port.map(|(_, port)| port.mark.clone()).filter(|mark| !mark.is_empty());
            let mark = mark.or(alias).and_then(|mark| Mark::parse(&mark));
            match mark.map(|mark| mark.thing) {
                Some(Thing::Port(port)) => format!("port `{port}` (`{device}`)"),
                _ => format!("`{device}`"),
            }
        }
    }
}

fn link_down(case: &Case<'_>, spot: &Spot, device: &str, found: &mut Vec<Finding>) {
    let there = case.facts.spot(spot);
    let Some(there) = there else { return };
    let name = called(case, spot, device);
    match there.links.get(device) {
        None if is_patch(case, device) => {}
        None => found.push(Finding::sure(format!("{name} is gone"), UP.to_owned())),
        Some(LinkFacts { up: false, .. }) => found.push(match held_down(case, spot, device) {
            Some([a, b]) => Finding::sure(
                format!("{name} is held down, as the lab is to have it"),
                format!("ovsns link up --lab {} {a} {b}", case.lab),
            ),
            None => Finding::sure(
                format!("{name} is down"),
                ip(case, spot, &format!("link set {device} up")),
            ),
        }),
        Some(_) => {}
    }
}

/// The ends of the link that a device is an end of, if that is to be down.
fn held_down(case: &Case<'_>, spot: &Spot, device: &str) -> Option<[String; 2]> {
    let port = match spot {
        Spot::Node(_) => None,
        Spot::Home => {
            let there = case.world.host.ports.get(&IfName::new(device).ok()?)?;
            match Mark::parse(&there.alias)?.thing {
                Thing::Port(port) => Some(port),
                Thing::Node(_) | Thing::Switch(_) | Thing::Interface(..) => None,
            }
        }
    };
    let is_it = |link: &&Link| {
        [0, 1].into_iter().any(|side| match (&link.ends[side], spot) {
            (End::Node(node, interface), Spot::Node(here)) => {
                node == here && interface.as_str() == device
            }
            _ => port.is_some() && link.port(side) == port,
        })
    };
    let link = case.wanted?.links.iter().filter(|link| link.down).find(is_it)?;
    Some(link.ends.each_ref().map(ToString::to_string))
}

/// Whether a port is no device at all.
fn is_patch(case: &Case<'_>, device: &str) -> bool {
    let Ok(device) = IfName::new(device) else { return false };
    let ports = case.world.fabric.switches.values().filter_map(|seen| seen.ports.get(&device));
    ports.into_iter().any(|port| !matches!(port.kind, PortKind::Link))
}

/// A link without carrier whose own other end is up.
fn no_carrier(case: &Case<'_>, spot: &Spot, device: &str, found: &mut Vec<Finding>) {
    let link = case.facts.link(spot, device);
    if link.is_some_and(|link| link.up && !link.carrier) && found.is_empty() {
        let name = called(case, spot, device);
        found.push(Finding::perhaps(format!("{name} has no carrier"), None));
    }
}

fn lost(case: &Case<'_>, hop: usize, why: &str) -> Finding {
    let before = case.hops[..hop].iter().rev().find_map(|hop| match &hop.what {
        What::Node(node) => Some(node),
        _ => None,
    });
    if let Some(node) = before
        && let Some(next) = node.next
        && owners(case.world, case.facts, next).is_empty()
    {
        return nobody_has(case, &Spot::Node(node.node.clone()), node, next);
    }
    Finding::sure(why.to_owned(), None)
}

impl<'a> Case<'a> {
    /// Whether a node is on the way of the answer.
    fn hops_back(&self, node: &NodeHop) -> bool {
        let here = self.hops.iter().find(|hop| matches!(&hop.what, What::Node(it) if it == node));
        here.is_some_and(|hop| hop.is_back && node.part != Part::Answers)
    }

    /// The hop behind a node.
    fn hop_behind(&self, node: &NodeHop) -> Option<&'a Hop> {
        let at =
            self.hops.iter().position(|hop| matches!(&hop.what, What::Node(it) if it == node))?;
        self.hops.get(at + 1)
    }
}
