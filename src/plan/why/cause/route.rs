//! Why a node has no way to send a packet, and the route that it lacks.

use std::net::IpAddr;

use super::{ip, link_down};
use crate::model::names::NodeName;
use crate::model::packet::Spot;
use crate::plan::why::facts::{Refused, RouteAnswer, SpotFacts};
use crate::plan::why::judge::{Case, Finding};
use crate::plan::why::walk::{NodeHop, Part};

/// The kernel knows no way.
pub(super) fn no_way(
    case: &Case<'_>,
    spot: &Spot,
    node: &NodeHop,
    there: &SpotFacts,
    to: IpAddr,
    found: &mut Vec<Finding>,
) {
    let name = &node.node;
    let answer = node.route.as_ref().and_then(|route| case.facts.routes.get(route));
    let Some(RouteAnswer::Refused(refused)) = answer else {
        if answer == Some(&RouteAnswer::Local) {
            let what = format!("`{name}` has the address {to} itself, and sends nothing");
            let at = there.address(to);
            let mend =
                at.map(|at| ip(case, spot, &format!("address del {} dev {}", at.net, at.device)));
            found.push(Finding::sure(what, mend));
        }
        return;
    };
    // What leads to the device that would be right is gone while that is down.
    for (device, link) in &there.links {
        let on_link = there
            .addresses
            .iter()
            .any(|address| address.device == *device && address.net.contains(&to));
        if on_link && !link.up {
            link_down(case, spot, device, found);
            return;
        }
    }
    let dead = there.dead_ends.iter().filter(|dead| dead.to.contains(&to));
    let dead = dead.max_by_key(|dead| dead.to.prefix_len());
    if let (Some(dead), false) = (dead, *refused == Refused::WrongWay) {
        let what = format!("a route of `{name}` stops it: `{} {}`", dead.kind, shown(dead.to));
        let table =
            if dead.table == 254 { String::new() } else { format!(" table {}", dead.table) };
        let family = if to.is_ipv6() { "-6 " } else { "" };
        let command = format!("{family}route del {} {}{table}", dead.kind, shown(dead.to));
        found.push(Finding::sure(what, ip6(case, spot, &command)));
        return;
    }
    match refused {
        // Said where it comes in.
        Refused::WrongWay => return,
        Refused::Unreachable if node.part == Part::Forwards && !found.is_empty() => return,
        Refused::Prohibited | Refused::Blackhole if !there.rules.is_empty() => {
            let what = format!(
                "a rule of `{name}`'s routing stops it; its rules are: {}",
                there.rules.join("; ")
            );
            found.push(Finding::sure(what, None));
            return;
        }
        _ => {}
    }
    let is_back = case.hops_back(node) || node.part == Part::Answers;
    let way = if is_back { "no route back to" } else { "no route to" };
    let mut what = format!("`{name}` has {way} {to}");
    let far = if is_back { case.ends.0 } else { case.ends.1 };
    if let Some((own, theirs)) = unequal_nets(case, name, far, to) {
        what += &format!(
            ": its own network is {own}, and `{far}` has {theirs}; one of the two prefix lengths is \
             wrong"
        );
        let device = there.addresses.iter().find(|a| a.net == own).map(|a| a.device.clone());
        let mend = device.map(|device| {
            let right = ipnet::IpNet::new(own.addr(), theirs.prefix_len()).unwrap_or(own);
            ip(case, spot, &format!("address add {right} dev {device}"))
        });
        found.push(Finding::sure(what, mend));
        return;
    }
    if !there.rules.is_empty() {
        what += &format!(" by its rules ({})", there.rules.join("; "));
    }
    let mend = router_towards(case, name, to).map(|router| {
        let net = net_of(case, far, to);
        let net = net.map_or_else(|| "default".to_owned(), shown);
        ip(case, spot, &format!("route add {net} via {router}"))
    });
    found.push(Finding::sure(what, mend));
}

/// `ip -6 -n NAMESPACE ...`: the family goes first.
pub(super) fn ip6(case: &Case<'_>, spot: &Spot, command: &str) -> String {
    match command.strip_prefix("-6 ") {
        Some(command) => ip(case, spot, command).replacen("ip ", "ip -6 ", 1),
        None => ip(case, spot, command),
    }
}

pub(super) fn shown(net: ipnet::IpNet) -> String {
    if net.prefix_len() == 0 { "default".to_owned() } else { net.trunc().to_string() }
}

/// The network in which a node has an address.
fn net_of(case: &Case<'_>, node: &NodeName, ip: IpAddr) -> Option<ipnet::IpNet> {
    let there = case.facts.spot(&Spot::Node(node.clone()))?;
    there.address(ip).map(|address| address.net.trunc())
}

/// The networks of two nodes that each believe to be on one link, where only one
/// of them holds the other's address.
fn unequal_nets(
    case: &Case<'_>,
    here: &NodeName,
    far: &NodeName,
    to: IpAddr,
) -> Option<(ipnet::IpNet, ipnet::IpNet)> {
    let own = case.facts.spot(&Spot::Node(here.clone()))?;
    let theirs = case.facts.spot(&Spot::Node(far.clone()))?.address(to)?.net;
    let near = own.addresses.iter().map(|address| address.net);
    let near = near.filter(|net| net.addr().is_ipv4() == to.is_ipv4());
    near.into_iter()
        .find(|net| theirs.contains(&net.addr()) && !net.contains(&to) && !net.addr().is_loopback())
        .map(|net| (net, theirs))
}

/// A router on a link of a node's that has `to`, or a network with it.
pub(super) fn router_towards(case: &Case<'_>, node: &NodeName, to: IpAddr) -> Option<IpAddr> {
    let of = |node: &NodeName| -> Vec<ipnet::IpNet> {
        let Some(seen) = case.world.host.nodes.get(node) else { return Vec::new() };
        let all = seen.addresses.values().chain(seen.foreign_addresses.values()).flatten();
        all.copied().filter(|net| net.addr().is_ipv4() == to.is_ipv4()).collect()
    };
    // Breadth first, from the node, over those that share a network.
    let mut open: Vec<(NodeName, Option<IpAddr>)> = vec![(node.clone(), None)];
    let mut done = std::collections::BTreeSet::from([node.clone()]);
    while !open.is_empty() {
        let mut further = Vec::new();
        for (here, first) in open {
            let nets = of(&here);
            if here != *node && nets.iter().any(|net| net.contains(&to)) {
                return first;
            }
            for other in case.world.host.nodes.keys().filter(|other| **other != here) {
                let shared = of(other).into_iter().find(|net| {
                    nets.iter().any(|own| own.contains(&net.addr()) && net.contains(&own.addr()))
                });
                if let Some(net) = shared
                    && done.insert(other.clone())
                {
                    further.push((other.clone(), first.or(Some(net.addr()))));
                }
            }
        }
        open = further;
    }
    None
}
