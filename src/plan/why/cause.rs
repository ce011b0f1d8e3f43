//! Why a packet does not pass a hop: what is there, read for that hop alone.
//!
//! What a packet filter or a switch says of itself is certain, and so is a link
//! that is down. What could drop a packet and does not tell is a `perhaps`.

use std::net::IpAddr;

use super::facts::{
    ChainFacts, Kept, LinkFacts, NeighbourFacts, Outcome, Question, Queueing, Refused, RouteAnswer,
    SpotFacts, Tried, WayQuestion,
};
use super::judge::{Case, Finding, Stage};
use super::walk::{Hop, NodeHop, Part, What, owners};
use crate::model::mark::{CUT_TABLE, Mac, Mark, Thing, netns};
use crate::model::names::{IfName, NodeName, SwitchName};
use crate::model::packet::{Carried, Frame, Inside, Sort, Spot};
use crate::model::topology::{Backend, End, Link, Vlan};
use crate::model::world::PortKind;

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

// ---- nodes ----

fn at_node(
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
fn leaves(
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
fn nobody_has(case: &Case<'_>, spot: &Spot, node: &NodeHop, next: IpAddr) -> Finding {
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

/// The kernel knows no way.
fn no_way(
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
fn ip6(case: &Case<'_>, spot: &Spot, command: &str) -> String {
    match command.strip_prefix("-6 ") {
        Some(command) => ip(case, spot, command).replacen("ip ", "ip -6 ", 1),
        None => ip(case, spot, command),
    }
}

fn shown(net: ipnet::IpNet) -> String {
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
fn router_towards(case: &Case<'_>, node: &NodeName, to: IpAddr) -> Option<IpAddr> {
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
fn strange_neighbour(case: &Case<'_>, hop: usize, found: &mut Vec<Finding>) {
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

// ---- packet filters ----

/// Which hooks of a packet filter a packet passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    In,
    Out,
    Through,
    Both,
    Bridge,
}

impl Hook {
    fn has(self, name: &str) -> bool {
        match self {
            Self::In => matches!(name, "prerouting" | "input" | "ingress"),
            Self::Out => matches!(name, "output" | "postrouting" | "egress"),
            Self::Through => {
                matches!(name, "prerouting" | "forward" | "postrouting" | "ingress" | "egress")
            }
            Self::Both => name != "forward",
            Self::Bridge => matches!(name, "prerouting" | "forward" | "postrouting"),
        }
    }
}

/// What a trace told that a packet filter dropped.
fn filtered(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    hop: &Hop,
    is_end: bool,
    found: &mut Vec<Finding>,
) {
    let counts = |dropped: &&super::facts::Dropped| {
        dropped.spot == *spot && (dropped.is_request != hop.is_back || is_end)
    };
    for dropped in tried.dropped.iter().filter(counts) {
        dropped_finding(case, dropped, found);
    }
}

fn filtered_any(case: &Case<'_>, tried: &Tried, spot: &Spot, found: &mut Vec<Finding>) {
    for dropped in tried.dropped.iter().filter(|dropped| dropped.spot == *spot) {
        dropped_finding(case, dropped, found);
    }
}

fn dropped_finding(case: &Case<'_>, dropped: &super::facts::Dropped, found: &mut Vec<Finding>) {
    let super::facts::Dropped { spot, family, table, chain, handle, text, .. } = dropped;
    let whose = whose(spot);
    found.push(match handle {
        Some(handle) => {
            let rule = text.as_ref().map(|text| format!(": `{text}`")).unwrap_or_default();
            let what = format!(
                "a rule of {whose} packet filter drops it, in `{family} {table} {chain}`{rule}"
            );
            let command = format!("nft delete rule {family} {table} {chain} handle {handle}");
            Finding::sure(what, run_in(case, spot, &command))
        }
        None => {
            let what = format!(
                "{whose} packet filter drops what no rule accepts: `{family} {table} {chain}` has \
                 the policy `drop`"
            );
            let command = format!("nft 'chain {family} {table} {chain} {{ policy accept; }}'");
            Finding::sure(what, run_in(case, spot, &command))
        }
    });
}

fn whose(spot: &Spot) -> String {
    match spot {
        Spot::Home => "this machine's".to_owned(),
        Spot::Node(node) => format!("`{node}`'s"),
    }
}

/// Chains that may drop it, where no trace tells: those whose rules counted
/// something while it was tried are certain.
fn chains(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    there: &SpotFacts,
    hook: Hook,
    resolving: bool,
    found: &mut Vec<Finding>,
) {
    let is_v4 = case.packet.to.is_ipv4();
    let fits = |chain: &&ChainFacts| {
        let family = match chain.family {
            "ip" => is_v4 && !resolving,
            "ip6" => !is_v4,
            "arp" => is_v4 && resolving,
            "inet" => !(resolving && is_v4),
            "netdev" => true,
            "bridge" => hook == Hook::Bridge,
            _ => false,
        };
        family && (chain.hook.is_empty() || hook.has(chain.hook))
    };
    let mut perhaps = Vec::new();
    for chain in there.chains.iter().filter(fits) {
        let ChainFacts { family, table, name, .. } = chain;
        if table == CUT_TABLE {
            let what = format!("{} packet filter has a cut in it (`ovsns cut`)", whose(spot));
            perhaps.push(Finding::perhaps(what, format!("ovsns heal --lab {}", case.lab)));
            continue;
        }
        for rule in &chain.rules {
            let key = (spot.clone(), table.clone(), name.clone(), rule.handle);
            let rose = tried.matched.contains(&key);
            if rule.packets.is_some() && !rose {
                continue;
            }
            let what = format!(
                "rule {} of {} packet filter drops, in `{family} {table} {name}`",
                rule.handle,
                whose(spot)
            );
            let command = format!("nft delete rule {family} {table} {name} handle {}", rule.handle);
            let mend = Some(run_in(case, spot, &command));
            perhaps.push(Finding { what, mend, certain: rose || rule.all });
        }
        if chain.drops {
            let what = format!(
                "{} packet filter drops what no rule accepts: `{family} {table} {name}` has the \
                 policy `drop`",
                whose(spot)
            );
            let command = format!("nft 'chain {family} {table} {name} {{ policy accept; }}'");
            perhaps.push(Finding::perhaps(what, run_in(case, spot, &command)));
        }
    }
    // One that may, and nothing else: that is it, as far as anybody can tell.
    found.extend(perhaps);
    if !there.legacy.is_empty() {
        let what = format!(
            "{} old packet filter has rules (`iptables-legacy`: {}), which cannot be looked at here",
            whose(spot),
            there.legacy.join(", ")
        );
        found.push(Finding::perhaps(what, run_in(case, spot, "iptables-legacy -F")));
    }
}

// ---- queues ----

fn queues(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    device: &str,
    out: bool,
    found: &mut Vec<Finding>,
) {
    let Some(there) = case.facts.spot(spot) else { return };
    let name = called(case, spot, device);
    for queue in there.queues.iter().filter(|queue| queue.device == device && queue.out == out) {
        let lost = tried.lost_in.contains(&(spot.clone(), queue.removed_by.clone()));
        let mend = Some(run_in(case, spot, &queue.removed_by));
        let way = if out { "leaves by" } else { "comes in by" };
        let (what, certain) = match &queue.does {
            Queueing::Loses(share) => (
                format!("{name} loses {} % of what {way} it (`netem`)", percent(*share)),
                lost || *share == 10_000,
            ),
            Queueing::Drops => (format!("a filter of `tc` drops what {way} {name}"), lost),
            Queueing::Blackhole => (format!("{name} keeps nothing of what {way} it"), true),
            Queueing::Limits(rate, at_once) => {
                let at_once = at_once.map(|it| format!(", and {it} bytes at once"));
                let what = format!(
                    "{name} lets through {} kbit/s{}",
                    rate / 1000,
                    at_once.unwrap_or_default()
                );
                (what, lost)
            }
            Queueing::Corrupts(share) => (
                format!("{name} spoils {} % of what {way} it (`netem`)", percent(*share)),
                *share == 10_000,
            ),
            Queueing::Delays(us) => {
                (format!("{name} delays by {} ms (`netem`)", us / 1000), 1_000_000 < *us)
            }
        };
        found.push(Finding { what, mend, certain });
    }
}

fn percent(of_ten_thousand: u32) -> String {
    let (whole, rest) = (of_ten_thousand / 100, of_ten_thousand % 100);
    if rest == 0 { whole.to_string() } else { format!("{whole}.{rest:02}") }
}

// ---- switches ----

fn at_switch(
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

/// The machine's own packet filter, to which its bridges may show all frames.
fn filters_at_home(case: &Case<'_>, tried: &Tried, stage: Stage, found: &mut Vec<Finding>) {
    let Some(home) = case.facts.spot(&Spot::Home) else { return };
    let resolving = !matches!(stage, Stage::Packet | Stage::Large);
    let key = match (resolving, case.packet.to.is_ipv4()) {
        (true, _) => "bridge.bridge-nf-call-arptables",
        (false, true) => "bridge.bridge-nf-call-iptables",
        (false, false) => "bridge.bridge-nf-call-ip6tables",
    };
    let shown = home.sysctl(key) == Some(1);
    let mut those = home.clone();
    those.chains.retain(|chain| chain.family == "bridge" || chain.family == "netdev" || shown);
    let before = found.len();
    chains(case, tried, &Spot::Home, &those, Hook::Bridge, resolving, found);
    if !shown {
        found.truncate(before);
        those.chains.retain(|chain| chain.family == "bridge" || chain.family == "netdev");
        those.legacy.clear();
        chains(case, tried, &Spot::Home, &those, Hook::Bridge, resolving, found);
        return;
    }
    for finding in &mut found[before..] {
        if finding.what.contains("`ip") || finding.what.contains("`inet") {
            finding.what += &format!(", and frames on bridges are shown to it (`net.{key}` is 1)");
            finding.mend = Some(format!("sysctl -w net.{key}=0"));
        }
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

// ---- large packets, checksums, notes ----

/// A large packet dies where a small one does not.
pub(super) fn of_large(case: &Case<'_>, tried: &Tried, hop: usize) -> Vec<Finding> {
    let mut found = Vec::new();
    let bytes = tried.bytes;
    for hop in &case.hops[hop.saturating_sub(1)..] {
        let mut devices = Vec::new();
        match &hop.what {
            What::Wire { from, to } => devices.extend([from.clone(), to.clone()]),
            What::Node(node) => {
                let spot = Spot::Node(node.node.clone());
                let both = node.enters.iter().chain(&node.leaves);
                devices.extend(both.map(|device| (spot.clone(), device.clone())));
            }
            What::Switch { enters, leaves, .. } => {
                devices.extend([enters, leaves].map(|port| (Spot::Home, port.to_string())));
            }
            What::Lost(_) => {}
        }
        for (spot, device) in devices {
            let Some(link) = case.facts.link(&spot, &device) else { continue };
            if (link.mtu as usize) < bytes {
                let what = format!(
                    "small packets pass, and those of {bytes} bytes do not: {} has an MTU of {}",
                    called(case, &spot, &device),
                    link.mtu
                );
                let mend = ip(case, &spot, &format!("link set {device} mtu {bytes}"));
                found.push(Finding::sure(what, mend));
                return found;
            }
        }
    }
    let error = tried.seen.iter().find_map(|(_, sort)| match sort {
        Sort::Error { by, .. } => Some(by),
        _ => None,
    });
    if let Some(by) = error {
        let what =
            format!("{by} says that packets of {bytes} bytes are too long for what is behind it");
        found.push(Finding::perhaps(what, None));
    }
    found
}

/// A TCP connection dies of its checksums where a ping does not.
pub(super) fn of_checksums(case: &Case<'_>, tried: &Tried) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in [case.ends.0, case.ends.1] {
        bad_checksums(case, tried, &Spot::Node(node.clone()), &mut found);
    }
    found.dedup();
    found
}

/// Checksums that nobody finished, and who should have.
fn bad_checksums(case: &Case<'_>, tried: &Tried, spot: &Spot, found: &mut Vec<Finding>) {
    let bad = |key: &str| tried.counted.contains_key(&(spot.clone(), key.to_owned()));
    if !["TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors"].iter().any(|key| bad(key)) {
        return;
    }
    let Spot::Node(hears) = spot else { return };
    let sender = if hears == case.ends.0 { case.ends.1 } else { case.ends.0 };
    let far = Spot::Node(sender.clone());
    let at = case.facts.spot(&far);
    let leaves = at.into_iter().flat_map(|at| &at.checksums).filter(|(_, hardware)| **hardware);
    for (device, _) in leaves {
        let what = format!(
            "`{hears}` drops what has a wrong checksum: `{sender}:{device}` leaves checksums to \
             hardware, and a switch in userspace finishes none, so that pings pass and TCP and UDP \
             do not"
        );
        let mend = run_in(case, &far, &format!("ethtool -K {device} tx off"));
        found.push(Finding::sure(what, mend));
    }
}

/// Whether a datagram came to somebody who listens.
pub(super) fn udp_arrives(case: &Case<'_>, tried: &Tried, port: u16) -> bool {
    let node = case.ends.1;
    let spot = Spot::Node(node.clone());
    let arrived =
        tried.seen.iter().any(|(tap, sort)| tap.spot == spot && !tap.out && *sort == Sort::Request);
    let Some(there) = case.facts.spot(&spot) else { return false };
    let takes = |at: &IpAddr| *at == case.packet.to || at.is_unspecified();
    let heard = there.listening.iter().any(|it| !it.tcp && it.port == port && takes(&it.at));
    let dropped = tried.dropped.iter().any(|dropped| dropped.spot == spot);
    let spoilt = ["UdpInCsumErrors", "Udp6InCsumErrors"];
    let spoilt =
        spoilt.iter().any(|key| tried.counted.contains_key(&(spot.clone(), (*key).to_owned())));
    arrived && heard && !dropped && !spoilt
}

/// What is on the way that slows or loses, and what looks odd.
pub(super) fn notes(case: &Case<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let mut queued = Vec::new();
    let mut known = Vec::new();
    for hop in case.hops {
        for tap in &hop.shows {
            known.push((tap.spot.clone(), tap.device.clone(), tap.out));
            if let What::Wire { from, .. } = &hop.what {
                known.push((from.0.clone(), from.1.clone(), true));
            }
        }
    }
    known.sort();
    known.dedup();
    for (spot, device, out) in &known {
        queues(case, &Tried::default(), spot, device, *out, &mut queued);
    }
    notes.extend(queued.into_iter().map(|finding| finding.what));
    for ip in [case.packet.from, case.packet.to] {
        let owners = owners(case.world, case.facts, ip);
        let nodes: std::collections::BTreeSet<_> = owners.iter().map(|(node, _)| node).collect();
        if 1 < nodes.len() {
            let nodes: Vec<String> = nodes.into_iter().map(|node| format!("`{node}`")).collect();
            notes.push(format!(
                "{ip} is the address of {}: one of them has to have another",
                nodes.join(" and ")
            ));
        }
    }
    notes.dedup();
    notes
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
