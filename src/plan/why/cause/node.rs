//! Why a node does not take a packet in, answer it or send it on: addresses,
//! listeners, forwarding, neighbours.

use std::net::IpAddr;

use super::filter::{Hook, chains, filtered, filtered_any};
use super::large::bad_checksums;
use super::queue::queues;
use super::route::{no_way, router_towards};
use super::{UP, ip, link_down, no_carrier, run_in};
use crate::model::mark::{Mac, netns};
use crate::model::names::NodeName;
use crate::model::packet::{Carried, Spot};
use crate::plan::why::facts::{NeighbourFacts, Outcome, Refused, RouteAnswer, SpotFacts, Tried};
use crate::plan::why::judge::{Case, Finding, Stage};
use crate::plan::why::walk::{Hop, NodeHop, Part, What, owners};

pub(super) fn at_node(
    case: &Case<'_>,
    tried: &Tried,
    hop: usize,
    node: &NodeHop,
    stage: Stage,
    found: &mut Vec<Finding>,
) {
    let spot = Spot::Node(node.node.clone());
    let name = &node.node;
    let Some(there) = case.facts.spot(&spot) else {
        let what = format!("the namespace of `{name}`, `{}`, is gone", netns(case.lab, name));
        found.push(Finding::sure(what, UP.to_owned()));
        return;
    };
    // Who asks, asks for whom it sends to; who is asked does not.
    if let Stage::Asking(asked) = stage
        && node.enters.is_some()
        && node.next != Some(asked)
    {
        does_not_tell(case, tried, &spot, node, there, asked, found);
        return;
    }
    filtered(case, tried, &spot, &case.hops[hop], node.is_end(), found);
    if node.enters.is_some() {
        strange_neighbour(case, hop, found);
    }
    if let Some(device) = &node.enters {
        queues(case, tried, &spot, device, false, found);
    }
    if let Stage::Telling(asked) = stage {
        let what = format!("`{name}` hears who has {asked}, and does not take it");
        chains(case, tried, &spot, there, Hook::In, true, found);
        found.push(Finding::perhaps(what, None));
        return;
    }
    let reversed = case.hops[hop].is_back && node.part == Part::Answers;
    arrives(case, tried, &spot, node, there, found);
    if node.part == Part::Forwards {
        forwards(case, &spot, node, there, found);
    }
    if node.part != Part::Hears {
        leaves(case, tried, &spot, node, there, reversed, found);
    }
    if !found.iter().any(|finding| finding.certain) {
        let hook = match node.part {
            Part::Sends => Hook::Out,
            Part::Forwards => Hook::Through,
            Part::Hears => Hook::In,
            Part::Answers => Hook::Both,
        };
        chains(case, tried, &spot, there, hook, false, found);
    }
}

/// What keeps a packet from being taken by the node that it reached.
fn arrives(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    node: &NodeHop,
    there: &SpotFacts,
    found: &mut Vec<Finding>,
) {
    let Some(enters) = &node.enters else { return };
    let name = &node.node;
    let own = if case.hops_back(node) { case.packet.from } else { case.packet.to };
    if node.is_end() {
        match there.address(own) {
            None => {
                let what = format!("`{name}` has not the address {own} any more");
                found.push(Finding::sure(what, UP.to_owned()));
            }
            Some(address) if address.duplicate => {
                let what = format!(
                    "`{name}:{}` does not use {own}: somebody else has it (duplicate address)",
                    address.device
                );
                let again = format!(
                    "address del {0} dev {1} && {2}",
                    address.net,
                    address.device,
                    ip(case, spot, &format!("address add {} dev {}", address.net, address.device))
                );
                found.push(Finding::sure(what, ip(case, spot, &again)));
            }
            Some(address) if address.tentative => {
                let what = format!("{own} of `{name}` is still being tried for duplicates");
                found.push(Finding::perhaps(what, None));
            }
            Some(_) => {}
        }
    }
    wrong_way_in(case, tried, spot, node, there, enters, found);
    if node.part != Part::Answers {
        return;
    }
    let is_v4 = own.is_ipv4();
    match case.packet.carried {
        Carried::Echo { .. } => {
            let keys: &[&str] =
                if is_v4 { &["ipv4.icmp_echo_ignore_all"] } else { &["ipv6.icmp.echo_ignore_all"] };
            for key in keys.iter().filter(|key| there.sysctl(key).is_some_and(|on| on != 0)) {
                let what = format!("`{name}` is told not to answer pings (`net.{key}`)");
                let mend = run_in(case, spot, &format!("sysctl -w net.{key}=0"));
                found.push(Finding::sure(what, mend));
            }
        }
        Carried::Tcp { to, .. } => listens(tried, there, (name, own), (true, to), found),
        Carried::Udp { to, .. } => listens(tried, there, (name, own), (false, to), found),
    }
    bad_checksums(case, tried, spot, found);
}

/// Whether somebody listens at a port.
fn listens(
    tried: &Tried,
    there: &SpotFacts,
    (name, own): (&NodeName, IpAddr),
    (tcp, port): (bool, u16),
    found: &mut Vec<Finding>,
) {
    let kind = if tcp { "TCP" } else { "UDP" };
    let at_port = there.listening.iter().filter(|it| it.tcp == tcp && it.port == port);
    let at: Vec<IpAddr> = at_port.map(|it| it.at).collect();
    // A socket of IPv6 for all addresses takes IPv4, too, unless it is told not to.
    let takes = |at: &IpAddr| *at == own || at.is_unspecified();
    if at.is_empty() {
        let what = format!("nobody in `{name}` listens at {kind} port {port}");
        found.push(Finding { what, mend: None, certain: tried.outcome == Outcome::Refused });
    } else if !at.iter().any(takes) {
        let at: Vec<String> = at.iter().map(|at| format!("{at}:{port}")).collect();
        let what = format!(
            "who listens in `{name}` does so at {} alone, and not at {own}: have it listen at \
             0.0.0.0, or ::",
            at.join(", ")
        );
        found.push(Finding::sure(what, None));
    }
}

/// The filter that drops what came in by a device that answers would not take.
fn wrong_way_in(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    node: &NodeHop,
    there: &SpotFacts,
    enters: &str,
    found: &mut Vec<Finding>,
) {
    let counted = tried.counted.get(&(spot.clone(), "IPReversePathFilter".into()));
    let says = node.route.as_ref().and_then(|route| case.facts.routes.get(route));
    let says =
        says == Some(&RouteAnswer::Refused(Refused::WrongWay)) && node.part == Part::Forwards;
    if counted.is_none() && !says {
        return;
    }
    let source = if case.hops_back(node) { case.packet.to } else { case.packet.from };
    let name = &node.node;
    let what = format!(
        "`{name}` drops it (`rp_filter`): it comes in by `{enters}`, and by `{name}`'s routes \
         answers to {source} would not leave there"
    );
    let set: Vec<String> = ["all", enters]
        .iter()
        .filter(|key| there.sysctl(&format!("ipv4.conf.{key}.rp_filter")) != Some(0))
        .map(|key| format!("net.ipv4.conf.{key}.rp_filter=0"))
        .collect();
    let mend = run_in(case, spot, &format!("sysctl -w {}", set.join(" ")));
    found.push(Finding::sure(what, mend));
}

/// What keeps a router from passing it on.
fn forwards(
    case: &Case<'_>,
    spot: &Spot,
    node: &NodeHop,
    there: &SpotFacts,
    found: &mut Vec<Finding>,
) {
    let is_v4 = case.packet.to.is_ipv4();
    let name = &node.node;
    let enters = node.enters.as_deref().unwrap_or_default();
    let (all, own) = match is_v4 {
        true => ("ipv4.ip_forward".to_owned(), format!("ipv4.conf.{enters}.forwarding")),
        false => ("ipv6.conf.all.forwarding".to_owned(), format!("ipv6.conf.{enters}.forwarding")),
    };
    let off = |key: &str| there.sysctl(key) == Some(0);
    // That of all sets every device's.
    let keys: Vec<&str> = if off(&all) { vec![&all] } else { vec![&own] };
    let own_is_off = off(&own) || (is_v4 && off(&all) && there.sysctl(&own).is_none());
    if own_is_off || (!is_v4 && off(&all)) {
        let last = case.ends.1 == name || case.ends.0 == name;
        let destination = if case.hops_back(node) { case.packet.from } else { case.packet.to };
        if last && there.address(destination).is_none() {
            let what = format!("`{name}` has not the address {destination}");
            found.push(Finding::sure(what, UP.to_owned()));
            return;
        }
        let what = format!("`{name}` does not forward (`net.{}` is 0)", keys.join("`, `net."));
        let set: Vec<String> = keys.iter().map(|key| format!("net.{key}=1")).collect();
        let mend = run_in(case, spot, &format!("sysctl -w {}", set.join(" ")));
        found.push(Finding::sure(what, mend));
    }
}

/// What keeps a packet from leaving the node.
pub(super) fn leaves(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    node: &NodeHop,
    there: &SpotFacts,
    is_answer: bool,
    found: &mut Vec<Finding>,
) {
    let name = &node.node;
    let is_back = is_answer || case.hops_back(node);
    let to = if is_back { case.packet.from } else { case.packet.to };
    let key = "ipv6.conf.all.disable_ipv6";
    if to.is_ipv6() && there.sysctl(key) == Some(1) {
        let what = format!("IPv6 is off in `{name}` (`net.{key}` is 1)");
        found.push(Finding::sure(what, run_in(case, spot, &format!("sysctl -w net.{key}=0"))));
    }
    let Some(device) = &node.leaves else {
        no_way(case, spot, node, there, to, found);
        return;
    };
    link_down(case, spot, device, found);
    if let Some(Hop { what: What::Wire { to, .. }, .. }) = case.hop_behind(node) {
        link_down(case, &to.0, &to.1, found);
    }
    if found.is_empty() && case.facts.link(spot, device).is_some_and(|link| !link.carrier) {
        no_carrier(case, spot, device, found);
    }
    let Some(next) = node.next else { return };
    let neighbour = there.neighbours.iter().find(|n| n.ip == next && n.device == *device);
    let link = there.links.get(device);
    if link.is_some_and(|link| link.noarp) && neighbour.is_none_or(|n| !n.permanent) {
        let what = format!(
            "`{name}:{device}` does not ask for Ethernet addresses (`arp off`), and nobody entered \
             that of {next}"
        );
        let mend = ip(case, spot, &format!("link set {device} arp on"));
        found.push(Finding::sure(what, mend));
    }
    queues(case, tried, spot, device, true, found);
    let owned = owners(case.world, case.facts, next);
    if owned.is_empty() && !found.iter().any(|finding| finding.certain) {
        found.push(nobody_has(case, spot, node, next));
    }
}

/// The next router is nobody.
pub(super) fn nobody_has(case: &Case<'_>, spot: &Spot, node: &NodeHop, next: IpAddr) -> Finding {
    let name = &node.node;
    let to = if case.hops_back(node) { case.packet.from } else { case.packet.to };
    let far = if case.hops_back(node) { case.ends.0 } else { case.ends.1 };
    if next == to && case.facts.spot(&Spot::Node(far.clone())).is_none() {
        let what = format!("the namespace of `{far}`, `{}`, is gone", netns(case.lab, far));
        return Finding::sure(what, UP.to_owned());
    }
    if next == to {
        return Finding::sure(format!("no node of the lab has the address {next}"), UP.to_owned());
    }
    let what = format!("`{name}` sends it to the router {next}, and no node of the lab has that");
    let route = node.route.as_ref().and_then(|route| case.facts.routes.get(route));
    let prefix = match route {
        Some(RouteAnswer::Leaves { to: Some(prefix), .. }) => prefix.to_string(),
        _ => "default".to_owned(),
    };
    let prefix = if prefix.ends_with("/0") { "default".to_owned() } else { prefix };
    let mend = router_towards(case, &node.node, to)
        .map(|router| ip(case, spot, &format!("route replace {prefix} via {router}")));
    Finding::sure(what, mend)
}

/// The owner of an address does not say so.
fn does_not_tell(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    node: &NodeHop,
    there: &SpotFacts,
    asked: IpAddr,
    found: &mut Vec<Finding>,
) {
    let (name, device) = (&node.node, node.enters.as_deref().unwrap_or_default());
    filtered_any(case, tried, spot, found);
    wrong_way_in(case, tried, spot, node, there, device, found);
    match there.address(asked) {
        None => {
            let what = format!("`{name}` has not the address {asked} any more");
            found.push(Finding::sure(what, UP.to_owned()));
        }
        Some(address) if address.duplicate || address.tentative => {
            let why = match address.duplicate {
                true => "somebody else has it (duplicate address)",
                false => "it is still being tried for duplicates",
            };
            let what = format!("`{name}:{device}` does not use {asked}: {why}");
            let again = ip(case, spot, &format!("address add {} dev {device}", address.net));
            let mend = format!(
                "{} && {again}",
                ip(case, spot, &format!("address del {} dev {device}", address.net))
            );
            found.push(Finding { what, mend: Some(mend), certain: address.duplicate });
        }
        Some(_) => {}
    }
    if there.links.get(device).is_some_and(|link| link.noarp) {
        let what = format!("`{name}:{device}` does not answer who has {asked} (`arp off`)");
        let mend = ip(case, spot, &format!("link set {device} arp on"));
        found.push(Finding::sure(what, mend));
    }
    for key in ["all", device] {
        let key = format!("ipv4.conf.{key}.arp_ignore");
        let on_device = there.address(asked).is_some_and(|address| address.device == device);
        let ignores = match there.sysctl(&key) {
            Some(0) | None => false,
            Some(1..=3) => !on_device,
            Some(_) => true,
        };
        if asked.is_ipv4() && ignores {
            let what = format!("`{name}` does not answer who has {asked} (`net.{key}`)");
            let mend = run_in(case, spot, &format!("sysctl -w net.{key}=0"));
            found.push(Finding::sure(what, mend));
        }
    }
    let key = "ipv6.conf.all.disable_ipv6";
    if asked.is_ipv6() && there.sysctl(key) == Some(1) {
        let what = format!("IPv6 is off in `{name}` (`net.{key}` is 1)");
        found.push(Finding::sure(what, run_in(case, spot, &format!("sysctl -w net.{key}=0"))));
    }
    queues(case, tried, spot, device, false, found);
    queues(case, tried, spot, device, true, found);
    if !found.iter().any(|finding| finding.certain) {
        no_way_for_arp(case, spot, node, there, found);
        chains(case, tried, spot, there, Hook::Both, true, found);
    }
}

/// The kernel answers who has an address only to those to whom it has a way.
fn no_way_for_arp(
    case: &Case<'_>,
    spot: &Spot,
    node: &NodeHop,
    there: &SpotFacts,
    found: &mut Vec<Finding>,
) {
    let answer = node.route.as_ref().and_then(|route| case.facts.routes.get(route));
    if matches!(answer, Some(RouteAnswer::Refused(_))) && node.part == Part::Answers {
        no_way(case, spot, node, there, case.packet.from, found);
    }
}

/// An entry for the next station that is not its address.
pub(super) fn strange_neighbour(case: &Case<'_>, hop: usize, found: &mut Vec<Finding>) {
    let before = case.hops[..hop].iter().rev();
    let before = before.filter_map(|hop| match &hop.what {
        What::Node(node) => Some(node),
        _ => None,
    });
    let Some(sender) = before.into_iter().next() else { return };
    let after = case.hops[hop..].iter().filter_map(|hop| match &hop.what {
        What::Node(node) => Some(node),
        _ => None,
    });
    let Some(receiver) = after.into_iter().next() else { return };
    let Some((entry, right)) = neighbour_and_truth(case, sender, receiver) else { return };
    let spot = Spot::Node(sender.node.clone());
    let Some(mac) = entry.mac.filter(|mac| *mac != right) else { return };
    let what = format!(
        "`{}` believes that {} is at {mac}, and `{}` is at {right}",
        sender.node, entry.ip, receiver.node
    );
    let command = format!("neigh del {} dev {}", entry.ip, entry.device);
    found.push(Finding::sure(what, ip(case, &spot, &command)));
}

fn neighbour_and_truth<'a>(
    case: &Case<'a>,
    sender: &NodeHop,
    receiver: &NodeHop,
) -> Option<(&'a NeighbourFacts, Mac)> {
    let there = case.facts.spot(&Spot::Node(sender.node.clone()))?;
    let (device, next) = (sender.leaves.as_ref()?, sender.next?);
    let entry = there.neighbours.iter().find(|n| n.ip == next && n.device == *device)?;
    let far = Spot::Node(receiver.node.clone());
    let right = case.facts.link(&far, receiver.enters.as_ref()?)?.mac?;
    Some((entry, right))
}
