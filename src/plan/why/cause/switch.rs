//! Why a switch does not pass a packet on: its ports, its VLANs, its table or its
//! flows.

use std::net::IpAddr;

use super::filter::filters_at_home;
use super::node::strange_neighbour;
use super::queue::queues;
use super::{UP, called, link_down};
use crate::model::mark::Mac;
use crate::model::names::{IfName, NodeName, SwitchName};
use crate::model::packet::{Frame, Inside, Spot};
use crate::model::topology::{Backend, Vlan};
use crate::model::world::PortKind;
use crate::plan::why::facts::{Kept, Question, Tried, WayQuestion};
use crate::plan::why::judge::{Case, Finding, Stage};
use crate::plan::why::walk::{Hop, What};

pub(super) fn at_switch(
    case: &Case<'_>,
    tried: &Tried,
    hop: usize,
    (switch, enters, leaves): (&SwitchName, &IfName, &IfName),
    stage: Stage,
    found: &mut Vec<Finding>,
) -> Result<(), Question> {
    let Some(seen) = case.world.fabric.switches.get(switch) else {
        let what = format!("switch `{switch}` is gone");
        found.push(Finding::sure(what, UP.to_owned()));
        return Ok(());
    };
    for trouble in case.troubles {
        found.push(Finding::sure(format!("switch `{switch}`: {trouble}"), UP.to_owned()));
    }
    let is_bridge = seen.spec.backend == Backend::Linux;
    if is_bridge {
        link_down(case, &Spot::Home, seen.spec.device.as_str(), found);
    }
    // The answer to a question goes the other way.
    let (enters, leaves) = match stage {
        Stage::Telling(_) => (leaves, enters),
        Stage::Packet | Stage::Large | Stage::Asking(_) => (enters, leaves),
    };
    for port in [enters, leaves] {
        let name = called(case, &Spot::Home, port.as_str());
        link_down(case, &Spot::Home, port.as_str(), found);
        match seen.ports.get(port) {
            None => {
                let what = format!("{name} is not plugged into switch `{switch}`");
                let mend = match is_bridge {
                    true => format!("ip link set {port} master {}", seen.spec.device),
                    false => UP.to_owned(),
                };
                found.push(Finding::sure(what, mend));
            }
            Some(port) => {
                if let Some(why) = &port.broken {
                    found
                        .push(Finding::sure(format!("{name} does not work: {why}"), UP.to_owned()));
                }
            }
        }
    }
    if let [Some(a), Some(b)] = [enters, leaves].map(|port| seen.ports.get(port)) {
        let (a, b) = (&a.settings, &b.settings);
        if a.isolated && b.isolated {
            let kept = &Kept::Isolated;
            found.push(kept_finding(case, (switch, enters, leaves), kept));
        }
        if let (Some(Vlan::Access(vlan)), Some(far)) = (&a.vlan, &b.vlan)
            && !passes(far, *vlan)
        {
            found.push(kept_finding(case, (switch, enters, leaves), &Kept::Vlan(*vlan)));
        }
    }
    // A port whose other end is down is disabled, and that is no setting of its.
    let beyond = match stage {
        Stage::Telling(_) => hop.checked_sub(1).and_then(|before| case.hops.get(before)),
        Stage::Packet | Stage::Large | Stage::Asking(_) => case.hops.get(hop + 1),
    };
    if let Some(Hop { what: What::Wire { from, to }, .. }) = beyond {
        for (spot, device) in [from, to].into_iter().filter(|(spot, _)| *spot != Spot::Home) {
            link_down(case, spot, device, found);
        }
    }
    queues(case, tried, &Spot::Home, enters.as_str(), false, found);
    queues(case, tried, &Spot::Home, leaves.as_str(), true, found);
    if found.iter().any(|finding| finding.certain) {
        return Ok(());
    }
    if let Some(frame) = frame(case, hop, stage) {
        let question = WayQuestion { switch: switch.clone(), enters: enters.clone(), frame };
        match case.facts.ways.get(&question) {
            None => return Err(Question::Way(question)),
            Some(Err(why)) => {
                let what = format!("switch `{switch}` cannot be asked: {why}");
                found.push(Finding::sure(what, UP.to_owned()));
            }
            Some(Ok(way)) => {
                // A way inside Open vSwitch shows by the bridge that is behind it.
                if let Some(PortKind::Patch { peer }) = seen.ports.get(leaves).map(|it| &it.kind) {
                    let far = case.world.fabric.switches.values();
                    let far = far.into_iter().find(|far| far.ports.contains_key(peer));
                    let far = far.map(|far| format!("bridge(\"{}\")", far.spec.device));
                    if far.is_some_and(|far| way.words.contains(&far)) {
                        return Ok(());
                    }
                }
                let keeps = way.kept.get(leaves).or_else(|| way.kept.get(enters));
                if let Some(kept) = keeps.filter(|_| !way.leaves.contains(leaves)) {
                    found.push(kept_finding(case, (switch, enters, leaves), kept));
                } else if !way.leaves.contains(leaves) {
                    let words = way.words.join("; ");
                    let what = format!("switch `{switch}` does not send it there: {words}");
                    found.push(Finding::sure(what, None));
                }
            }
        }
    }
    strange_neighbour(case, hop, found);
    if is_bridge && !found.iter().any(|finding| finding.certain) {
        filters_at_home(case, tried, stage, found);
    }
    Ok(())
}

/// Whether a port passes frames of a VLAN.
fn passes(port: &Vlan, vlan: u16) -> bool {
    match port {
        Vlan::Access(own) => *own == vlan,
        Vlan::Trunk { vlans, .. } => vlans.contains(&vlan),
        Vlan::Tunnel { vlan: own, .. } => *own == vlan,
    }
}

/// The frame that a switch had before it.
fn frame(case: &Case<'_>, hop: usize, stage: Stage) -> Option<Frame> {
    let node = |hop: &Hop| match &hop.what {
        What::Node(node) => Some(node.clone()),
        What::Wire { .. } | What::Switch { .. } | What::Lost(_) => None,
    };
    let sender = case.hops[..hop].iter().rev().find_map(node)?;
    let receiver = case.hops[hop..].iter().find_map(node);
    let mac = |node: &NodeName, device: &Option<String>| {
        case.facts.link(&Spot::Node(node.clone()), device.as_ref()?)?.mac
    };
    let source = mac(&sender.node, &sender.leaves)?;
    let spot = case.facts.spot(&Spot::Node(sender.node.clone()))?;
    let is_back = case.hops[hop].is_back;
    let next = sender.next?;
    let own = spot.addresses.iter().find(|address| {
        Some(&address.device) == sender.leaves.as_ref() && address.net.contains(&next)
    });
    let ask =
        |to: IpAddr| Inside::Ask { from: own.map_or(case.packet.from, |own| own.net.addr()), to };
    Some(match stage {
        Stage::Packet | Stage::Large => {
            let entry = spot.neighbours.iter().find(|n| n.ip == next);
            let known = entry.and_then(|entry| entry.mac);
            let receiver = receiver.and_then(|to| mac(&to.node, &to.enters));
            let inside = match is_back {
                false => Inside::Request(case.packet),
                true => Inside::Reply(case.packet),
            };
            Frame { source, destination: known.or(receiver)?, inside }
        }
        Stage::Asking(to) => {
            let destination = match to {
                IpAddr::V4(_) => Mac([0xff; 6]),
                // The group of all whose address ends like that (RFC 4291, 2.7.1).
                IpAddr::V6(v6) => {
                    let [.., a, b, c] = v6.octets();
                    Mac([0x33, 0x33, 0xff, a, b, c])
                }
            };
            Frame { source, destination, inside: ask(to) }
        }
        Stage::Telling(to) => {
            let receiver = receiver?;
            Frame {
                source: mac(&receiver.node, &receiver.enters)?,
                destination: source,
                inside: ask(to),
            }
        }
    })
}

fn kept_finding(
    case: &Case<'_>,
    (switch, enters, leaves): (&SwitchName, &IfName, &IfName),
    kept: &Kept,
) -> Finding {
    let port = |device: &IfName| called(case, &Spot::Home, device.as_str());
    let (comes, goes) = (port(enters), port(leaves));
    let bridge = case.world.fabric.switches.get(switch).map(|seen| seen.spec.device.clone());
    let bridge = bridge.map(|device| device.to_string()).unwrap_or_default();
    let is_linux = case
        .world
        .fabric
        .switches
        .get(switch)
        .is_some_and(|seen| seen.spec.backend == Backend::Linux);
    match kept {
        Kept::NoPort => {
            Finding::sure(format!("{comes} is no port of switch `{switch}`"), UP.to_owned())
        }
        Kept::State(state) => {
            let what = format!(
                "switch `{switch}` does not pass frames by {goes}: a port there is {state} \
                 (spanning tree, or `bridge link set ... state`)"
            );
            let mend = match *state {
                "disabled" if is_linux => format!("bridge link set dev {leaves} state 3"),
                _ => UP.to_owned(),
            };
            Finding::sure(what, mend)
        }
        Kept::Isolated => {
            let what = format!(
                "{comes} and {goes} of switch `{switch}` are isolated, and isolated ports do not \
                 hear each other"
            );
            let name = |device: &IfName| {
                let name = called(case, &Spot::Home, device.as_str());
                let name = name.strip_prefix("port `").and_then(|it| it.split_once('`'));
                name.map(|(name, _)| name.to_owned())
            };
            let wanted = case
                .wanted
                .and_then(|lab| lab.links.iter().find(|link| Some(link.id()) == name(leaves)));
            let is_ours = wanted.is_some_and(|link| link.port.isolated);
            let node = name(leaves).unwrap_or_default();
            let mend = match (is_ours, is_linux) {
                (true, _) => format!("ovsns link set {node} {switch} --isolated false"),
                (false, true) => format!("bridge link set dev {leaves} isolated off"),
                (false, false) => UP.to_owned(),
            };
            Finding::sure(what, mend)
        }
        Kept::Vlan(vlan) => {
            let what = format!(
                "{goes} of switch `{switch}` is not in VLAN {vlan}, and {comes} is in no other"
            );
            Finding::sure(what, Some(UP.to_owned()))
        }
        Kept::NoFlood => {
            let what =
                format!("{goes} of switch `{switch}` gets nothing that is for all (`flood off`)");
            let mend = match is_linux {
                true => {
                    format!("bridge link set dev {leaves} flood on bcast_flood on mcast_flood on")
                }
                false => UP.to_owned(),
            };
            Finding::sure(what, mend)
        }
        Kept::Behind { mac, port: other, pinned } => {
            let pinned = *pinned;
            let how = if pinned { "somebody entered for good" } else { "it learned" };
            let what = format!(
                "switch `{switch}` believes that {mac} is behind {} ({how}), not behind {goes}",
                port(other)
            );
            let mend = match is_linux {
                true => format!("bridge fdb del {mac} dev {other} master"),
                false => format!("ovs-appctl fdb/flush {bridge}"),
            };
            Finding::sure(what, mend)
        }
        Kept::Locked => {
            let what = format!(
                "{comes} of switch `{switch}` is locked for stations that it does not know"
            );
            Finding::sure(what, format!("bridge link set dev {enters} locked off"))
        }
        Kept::Flow { flow, ours } => {
            let what = format!("a flow of switch `{switch}` drops it: `{flow}`");
            let mend = match ours {
                true => format!("ovsns flow del {switch} '{flow}'"),
                false => {
                    let matches = flow.split("actions=").next().unwrap_or(flow);
                    let matches = matches.trim_end_matches([',', ' ']);
                    format!("ovs-ofctl --strict del-flows {bridge} '{matches}'")
                }
            };
            Finding::sure(what, mend)
        }
        Kept::NoFlow { controllers } => {
            let why = match controllers {
                Some(false) => "its controller is not connected",
                Some(true) => "its controller is connected, and made no flow for it",
                None => "it has no controller",
            };
            let what = format!(
                "no flow of switch `{switch}` is for it, and {why}; without a flow it passes nothing"
            );
            Finding::sure(what, Some(UP.to_owned()))
        }
        Kept::Controller => {
            let what =
                format!("switch `{switch}` leaves it to its controller, and that sends nothing");
            Finding::sure(what, None)
        }
        Kept::Words(words) => {
            Finding::sure(format!("switch `{switch}` does not pass it on: {words}"), None)
        }
    }
}
