//! What one namespace has: links, addresses, neighbours, what stands in the way
//! of packets.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    BridgePortState, InfoBridgePort, InfoPortData, LinkAttribute, LinkFlags, LinkInfo,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{filter, place, queue};
use crate::kernel::error::KernelError;
use crate::kernel::ethtool::Ethtool;
use crate::kernel::netlink::Netlink;
use crate::kernel::observe::{self, Link};
use crate::kernel::rt;
use crate::kernel::worker::Worker;
use crate::model::mark::Mac;
use crate::model::names::LabName;
use crate::model::packet::Spot;
use crate::plan::why::facts::{
    AddressFacts, DeadEnd, LinkFacts, Listening, NeighbourFacts, SpotFacts,
};

/// Kernel parameters that decide about packets, below `net.`; `*` stands for
/// each device, `all` and `default` included.
const SYSCTLS: [&str; 14] = [
    "ipv4.ip_forward",
    "ipv4.icmp_echo_ignore_all",
    "ipv4.conf.*.forwarding",
    "ipv4.conf.*.rp_filter",
    "ipv4.conf.*.arp_ignore",
    "ipv6.icmp.echo_ignore_all",
    "ipv6.conf.*.disable_ipv6",
    "ipv6.conf.*.forwarding",
    "bridge.bridge-nf-call-iptables",
    "bridge.bridge-nf-call-ip6tables",
    "bridge.bridge-nf-call-arptables",
    "ipv4.conf.*.accept_local",
    "ipv4.conf.*.route_localnet",
    "ipv4.ip_default_ttl",
];

/// Looks at one namespace; `None` if it is gone. Changes nothing.
pub async fn look(
    worker: &Worker,
    lab: &LabName,
    spot: &Spot,
) -> Result<Option<SpotFacts>, KernelError> {
    let Some(place) = place(lab, spot)? else { return Ok(None) };
    let at_home = *spot == Spot::Home;
    worker.inside(place, move || here(at_home)).await?.map(Some)
}

/// What the namespace of the calling thread has. Of the machine's own, only what
/// can be in the way of a switch.
fn here(at_home: bool) -> Result<SpotFacts, KernelError> {
    let netlink = Netlink::new()?;
    let links = observe::links(&netlink)?;
    let names: BTreeMap<u32, String> =
        links.iter().map(|link| (link.index, link.name.clone())).collect();
    let mut facts = SpotFacts {
        links: links.iter().map(|link| (link.name.clone(), link_facts(link, &names))).collect(),
        queues: queue::queues(&netlink, &names)?,
        chains: filter::chains()?,
        legacy: legacy(),
        ..SpotFacts::default()
    };
    let devices = if at_home { Vec::new() } else { names.values().cloned().collect() };
    facts.sysctls = sysctls(&devices);
    if at_home {
        return Ok(facts);
    }
    facts.addresses = addresses(&netlink, &names)?;
    facts.neighbours = neighbours(&netlink, &names)?;
    facts.dead_ends = dead_ends(&netlink)?;
    facts.rules = rules(&netlink)?;
    facts.listening = listening();
    // A kernel without that family leaves nothing to anybody that one could see.
    facts.checksums = Ethtool::find().and_then(|it| it.checksums()).unwrap_or_default();
    Ok(facts)
}

fn link_facts(link: &Link, names: &BTreeMap<u32, String>) -> LinkFacts {
    let mut facts = LinkFacts {
        index: link.index,
        mac: Some(link.seen.mac),
        mtu: link.seen.mtu,
        up: link.seen.up,
        carrier: link.seen.carrier,
        noarp: link.message.header.flags.contains(LinkFlags::Noarp),
        peer: None,
        master: link.master.and_then(|index| names.get(&index).cloned()),
        port_state: None,
    };
    for attribute in &link.message.attributes {
        match attribute {
            LinkAttribute::Link(index) => facts.peer = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                facts.port_state = infos.iter().find_map(port_state);
            }
            _ => {}
        }
    }
    facts
}

fn port_state(info: &LinkInfo) -> Option<&'static str> {
    let LinkInfo::PortData(InfoPortData::BridgePort(data)) = info else { return None };
    data.iter().find_map(|data| match data {
        InfoBridgePort::State(state) => Some(state_name(*state)),
        _ => None,
    })
}

/// A state of a port as `bridge link` calls it.
pub(crate) fn state_name(state: BridgePortState) -> &'static str {
    match state {
        BridgePortState::Disabled => "disabled",
        BridgePortState::Listening => "listening",
        BridgePortState::Learning => "learning",
        BridgePortState::Forwarding => "forwarding",
        _ => "blocking",
    }
}

fn addresses(
    netlink: &Netlink,
    names: &BTreeMap<u32, String>,
) -> Result<Vec<AddressFacts>, KernelError> {
    let mut found = Vec::new();
    let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for message in netlink.dump(&all, "list addresses")? {
        let RouteNetlinkMessage::NewAddress(message) = message else { continue };
        let flags = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Flags(flags) => Some(*flags),
            _ => None,
        });
        let flags = flags.unwrap_or(AddressFlags::empty());
        let device = names.get(&message.header.index);
        if let (Some(net), Some(device)) = (rt::net_of(&message), device) {
            found.push(AddressFacts {
                device: device.clone(),
                net,
                tentative: flags.contains(AddressFlags::Tentative),
                duplicate: flags.contains(AddressFlags::Dadfailed),
            });
        }
    }
    Ok(found)
}

fn neighbours(
    netlink: &Netlink,
    names: &BTreeMap<u32, String>,
) -> Result<Vec<NeighbourFacts>, KernelError> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        let all = RouteNetlinkMessage::GetNeighbour(message);
        for message in netlink.dump(&all, "list neighbours")? {
            let RouteNetlinkMessage::NewNeighbour(message) = message else { continue };
            let (mut ip, mut mac) = (None, None);
            for attribute in &message.attributes {
                match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                        ip = Some(IpAddr::V4(*v4));
                    }
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                        ip = Some(IpAddr::V6(*v6));
                    }
                    NeighbourAttribute::LinkLayerAddress(bytes) => {
                        mac = bytes.as_slice().try_into().ok().map(Mac);
                    }
                    _ => {}
                }
            }
            let (Some(ip), Some(device)) = (ip, names.get(&message.header.ifindex)) else {
                continue;
            };
            let state = message.header.state;
            let unknown = matches!(state, NeighbourState::Incomplete | NeighbourState::Failed);
            found.push(NeighbourFacts {
                device: device.clone(),
                ip,
                mac: mac.filter(|_| !unknown),
                permanent: state == NeighbourState::Permanent,
            });
        }
    }
    Ok(found)
}

fn dead_ends(netlink: &Netlink) -> Result<Vec<DeadEnd>, KernelError> {
    let mut found = Vec::new();
    let all = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    for message in netlink.dump(&all, "list routes")? {
        let RouteNetlinkMessage::NewRoute(message) = message else { continue };
        let kind = match message.header.kind {
            RouteType::BlackHole => "blackhole",
            RouteType::Unreachable => "unreachable",
            RouteType::Prohibit => "prohibit",
            RouteType::Throw => "throw",
            _ => continue,
        };
        let table = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Table(number) => Some(*number),
            _ => None,
        });
        let table = table.unwrap_or(u32::from(message.header.table));
        found.extend(rt::destination(&message).map(|to| DeadEnd { kind, to, table }));
    }
    Ok(found)
}

/// Rules that are not those that every namespace has (`ip rule`).
fn rules(netlink: &Netlink) -> Result<Vec<String>, KernelError> {
    let mut found = Vec::new();
    let all = RouteNetlinkMessage::GetRule(RuleMessage::default());
    for message in netlink.dump(&all, "list rules")? {
        let RouteNetlinkMessage::NewRule(rule) = message else { continue };
        let (mut priority, mut words) = (0, Vec::new());
        let mut table = u32::from(rule.header.table);
        for attribute in &rule.attributes {
            match attribute {
                RuleAttribute::Priority(number) => priority = *number,
                RuleAttribute::Table(number) => table = *number,
                RuleAttribute::Source(ip) => {
                    words.push(format!("from {ip}/{}", rule.header.src_len));
                }
                RuleAttribute::Destination(ip) => {
                    words.push(format!("to {ip}/{}", rule.header.dst_len));
                }
                RuleAttribute::Iifname(name) => words.push(format!("iif {name}")),
                RuleAttribute::Oifname(name) => words.push(format!("oif {name}")),
                RuleAttribute::FwMark(mark) => words.push(format!("fwmark {mark:#x}")),
                _ => {}
            }
        }
        if matches!(priority, 0 | 32766 | 32767) {
            continue;
        }
        words.insert(0, format!("{priority}:"));
        words.push(match u8::from(rule.header.action) {
            1 => format!("lookup {table}"),
            6 => "blackhole".to_owned(),
            7 => "unreachable".to_owned(),
            8 => "prohibit".to_owned(),
            other => format!("action {other}"),
        });
        found.push(words.join(" "));
    }
    Ok(found)
}

fn sysctls(devices: &[String]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut read = |key: String| {
        // A device's name may have dots in it, and none of ours has a slash.
        let path = match key.split_once("conf.").map(|(head, rest)| (head, rest.rsplit_once('.'))) {
            Some((head, Some((device, last)))) => {
                format!("/proc/sys/net/{}conf/{device}/{last}", head.replace('.', "/"))
            }
            _ => format!("/proc/sys/net/{}", key.replace('.', "/")),
        };
        if let Ok(value) = fs::read_to_string(path) {
            found.insert(key, value.trim().to_owned());
        }
    };
    for key in SYSCTLS {
        if !key.contains('*') {
            read(key.to_owned());
            continue;
        }
        for device in ["all"].into_iter().chain(devices.iter().map(String::as_str)) {
            read(key.replace('*', device));
        }
    }
    found
}

/// Who listens in the namespace of the calling thread (proc(5), `/proc/net/tcp`).
fn listening() -> Vec<Listening> {
    let mut found = Vec::new();
    for (file, tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace().skip(1);
            let (local, state) = (words.next(), words.nth(1));
            // TCP_LISTEN; a datagram socket that is not connected is "closed".
            if state != Some(if tcp { "0A" } else { "07" }) {
                continue;
            }
            found.extend(local.and_then(end_of).map(|(at, port)| Listening { tcp, at, port }));
        }
    }
    found
}

/// `0100007F:0050`, in words of the machine's order.
fn end_of(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let at = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some((at, port))
}

/// Tables of the old packet filter that are in use.
fn legacy() -> Vec<String> {
    let read = |file: &str| {
        fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default()
    };
    let names = [read("ip_tables_names"), read("ip6_tables_names")].concat();
    names.lines().map(str::to_owned).collect()
}

/// What the kernel counted in the namespace of the calling thread, by name.
///
/// Like `nstat -az`, for what tells why a packet was dropped.
pub(super) fn counters() -> BTreeMap<String, u64> {
    let read = |file: &str| {
        fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default()
    };
    let mut found = BTreeMap::new();
    for text in [read("snmp"), read("netstat")] {
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks(2) {
            let [names, values] = pair else { continue };
            let kind = names.split(':').next().unwrap_or_default();
            let both = names.split_whitespace().zip(values.split_whitespace()).skip(1);
            for (name, value) in both {
                // Those of IP and TCP have names of their own.
                let name = match kind {
                    "TcpExt" | "IpExt" => name.to_owned(),
                    kind => format!("{kind}{name}"),
                };
                found.insert(name, value.parse().unwrap_or_default());
            }
        }
    }
    for line in read("snmp6").lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(value)) = (words.next(), words.next()) {
            found.insert(name.to_owned(), value.parse().unwrap_or_default());
        }
    }
    found
}
