//! The machine on local devices of a lab's switches (`nat`): addresses and routes
//! with our number there, what those devices do with packets; and what else of the
//! machine decides about a way out. Of its other devices and parameters nothing is
//! changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use nix::errno::Errno;

use super::doors;
use super::error::KernelError;
use super::host::{LinuxHost, PROTOCOL, address_message, route_message};
use super::netlink::Netlink;
use super::nft::{seen, wire};
use super::observe::Link;
use super::raw::{attributes, find, text_of};
use super::rt;
use super::worker::Where;
use crate::model::exits::{Drops, GatewayState, Outside, SeenExits, table};
use crate::model::names::{IfName, LabName};
use crate::model::world::{KernelRoute, Questions};

/// Routes to as much as this are to everywhere, half of it, or all that is global
/// (`0.0.0.0/1`, `2000::/3`).
const EVERYWHERE_BITS: u8 = 3;

/// Makes the machine on a device of ours what it is to be.
///
/// Like `ip link set DEVICE up`, `ip address add`, `ip route add` and `sysctl -w
/// net/ipv4/conf/DEVICE/...`.
pub(super) async fn set(
    host: &LinuxHost,
    device: &IfName,
    before: &GatewayState,
    after: &GatewayState,
) -> Result<(), KernelError> {
    let netlink = host.here();
    let index = netlink.index_of(device.as_str())?;
    let parameters: Vec<_> = after.parameters.clone().into_iter().collect();
    let of = device.clone();
    host.worker().inside(Where::Home, move || write_parameters(&of, &parameters)).await??;
    if before.up != after.up {
        let asked = || format!("change device `{device}`");
        netlink.set_link(device, Some(after.up), Vec::new(), asked)?;
    }
    for route in before.routes.difference(&after.routes) {
        let message = RouteNetlinkMessage::DelRoute(route_by(index, device, *route));
        gone(netlink.change(message, || format!("delete the route to `{}`", route.0)))?;
    }
    for address in after.addresses.difference(&before.addresses) {
        let message = RouteNetlinkMessage::NewAddress(address_message(index, *address));
        there(netlink.create(message, || format!("give `{device}` the address `{address}`")))?;
    }
    for address in before.addresses.difference(&after.addresses) {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, *address));
        gone(netlink.change(message, || format!("take the address `{address}` off `{device}`")))?;
    }
    for route in after.routes.difference(&before.routes) {
        let message = RouteNetlinkMessage::NewRoute(route_by(index, device, *route));
        there(netlink.create(message, || format!("add the route to `{}`", route.0)))?;
    }
    Ok(())
}

fn route_by(index: u32, device: &IfName, (to, via): (IpNet, IpAddr)) -> RouteMessage {
    let metric = if to.addr().is_ipv4() { 0 } else { 1024 };
    route_message(index, &KernelRoute { to, via: Some(via), device: device.clone(), metric })
}

/// What is gone already is as good as taken away.
fn gone(done: Result<(), KernelError>) -> Result<(), KernelError> {
    match done {
        Err(error) if matches!(error.errno, Errno::ESRCH | Errno::EADDRNOTAVAIL) => Ok(()),
        other => other,
    }
}

/// What is there already, of a step that was cut off, is as good as made.
fn there(done: Result<(), KernelError>) -> Result<(), KernelError> {
    match done {
        Err(error) if error.errno == Errno::EEXIST => Ok(()),
        other => other,
    }
}

/// The file of a parameter of a device, such as `ipv4.forwarding`.
fn parameter(device: &IfName, key: &str) -> PathBuf {
    let (family, name) = key.split_once('.').unwrap_or(("ipv4", key));
    PathBuf::from(format!("/proc/sys/net/{family}/conf/{device}/{name}"))
}

fn write_parameters(device: &IfName, parameters: &[(String, String)]) -> Result<(), KernelError> {
    for (key, value) in parameters {
        let file = parameter(device, key);
        // What is written as it was may do more than nothing.
        if read(&file).as_ref() == Some(value) {
            continue;
        }
        fs::write(&file, value).map_err(|e: io::Error| {
            KernelError::from_io(format!("set `{key}` of `{device}` to `{value}`"), &e)
        })?;
    }
    Ok(())
}

fn read(file: &PathBuf) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim_end().to_owned())
}

/// The ways out of a lab as they are. `links` are all of the machine's own.
pub(super) async fn look(
    host: &LinuxHost,
    questions: &Questions,
    links: &[Link],
) -> Result<SeenExits, KernelError> {
    let lab = questions.lab.clone();
    let (doors, table_taken) =
        host.worker().inside(Where::Home, move || doors::look(&lab)).await??;
    let mut seen = SeenExits { doors, table_taken, ..SeenExits::default() };
    if !questions.inside || (seen.doors.is_none() && !questions.exits) {
        return Ok(seen);
    }
    let is_ours = |link: &&Link| link.is_of(&questions.lab);
    let names = |link: &Link| Some((link.index, IfName::new(&link.name).ok()?));
    let ours: BTreeMap<u32, IfName> = links.iter().filter(is_ours).filter_map(names).collect();
    // The ends of links are ports, and nobody is by these.
    let locals: Vec<_> = links
        .iter()
        .filter(is_ours)
        .filter(|link| link.kind.is_some() && !super::observe::is_veth(link))
        .filter_map(|link| Some((names(link)?.1, link.seen.up)))
        .collect();
    let others: BTreeMap<u32, String> = links
        .iter()
        .filter(|link| !link.is_of(&questions.lab))
        .map(|link| (link.index, link.name.clone()))
        .collect();
    for (device, up) in &locals {
        let state = GatewayState { up: *up, ..GatewayState::default() };
        seen.gateways.insert(device.clone(), state);
    }
    let mut outside = Outside::default();
    addresses(host.here(), &ours, &others, &mut seen.gateways, &mut outside)?;
    routes(host.here(), &ours, &others, &mut seen.gateways, &mut outside)?;
    let (asked, lab) = (questions.exits, questions.lab.clone());
    let devices: Vec<IfName> = seen.gateways.keys().cloned().collect();
    let (parameters, forwards, drops) = host
        .worker()
        .inside(Where::Home, move || {
            let parameters: Vec<_> = devices.iter().map(parameters).collect();
            let drops = if asked { drops(&lab, &devices)? } else { BTreeSet::new() };
            Ok::<_, KernelError>((parameters, forwards(), drops))
        })
        .await??;
    for (state, parameters) in seen.gateways.values_mut().zip(parameters) {
        state.parameters = parameters;
    }
    (outside.forwards, outside.drops) = (forwards, drops);
    seen.outside = asked.then_some(outside);
    Ok(seen)
}

fn parameters(device: &IfName) -> BTreeMap<String, String> {
    let value = |key: &str| Some((key.to_owned(), read(&parameter(device, key))?));
    GatewayState::PARAMETERS.into_iter().filter_map(value).collect()
}

/// Whether the namespace of the calling thread forwards IPv4, and IPv6.
fn forwards() -> [Option<bool>; 2] {
    let is_one = |key: &str| read(&super::observe::sysctl_path(key)).map(|value| value != "0");
    ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"].map(is_one)
}

fn addresses(
    netlink: &Netlink,
    ours: &BTreeMap<u32, IfName>,
    others: &BTreeMap<u32, String>,
    gateways: &mut BTreeMap<IfName, GatewayState>,
    outside: &mut Outside,
) -> Result<(), KernelError> {
    let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    for message in netlink.dump(&all, "list addresses")? {
        let RouteNetlinkMessage::NewAddress(message) = message else { continue };
        let ours_is = AddressAttribute::Protocol(AddressProtocol::from(PROTOCOL));
        let is_ours = message.attributes.contains(&ours_is);
        let net = rt::net_of(&message).filter(|net| !is_everybodys(net));
        let Some(net) = net else { continue };
        let device = ours.get(&message.header.index).and_then(|device| gateways.get_mut(device));
        if let Some(state) = device.filter(|_| is_ours) {
            state.addresses.insert(net);
        }
        if let Some(device) = others.get(&message.header.index) {
            outside.routes.insert((net.trunc(), device.clone()));
        }
    }
    Ok(())
}

/// Whether every machine has it for itself.
fn is_everybodys(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.addr().is_link_local() || net.addr().is_loopback(),
        IpNet::V6(net) => {
            let ip = net.addr();
            ip.is_unicast_link_local() || ip.is_loopback() || ip.is_multicast()
        }
    }
}

fn routes(
    netlink: &Netlink,
    ours: &BTreeMap<u32, IfName>,
    others: &BTreeMap<u32, String>,
    gateways: &mut BTreeMap<IfName, GatewayState>,
    outside: &mut Outside,
) -> Result<(), KernelError> {
    let all = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    for message in netlink.dump(&all, "list routes")? {
        let RouteNetlinkMessage::NewRoute(message) = message else { continue };
        let header = &message.header;
        if header.kind != RouteType::Unicast {
            continue;
        }
        let to = rt::destination(&message).filter(|to| !is_everybodys(to));
        let Some(to) = to else { continue };
        let (mut via, mut index) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Gateway(address) => via = rt::ip_of(address),
                RouteAttribute::Oif(oif) => index = Some(*oif),
                _ => {}
            }
        }
        if let Some(device) = index.and_then(|index| ours.get(&index)) {
            let in_main = header.table == RouteHeader::RT_TABLE_MAIN;
            let is_ours = header.protocol == RouteProtocol::Other(PROTOCOL) && in_main;
            let state = gateways.get_mut(device).filter(|_| is_ours);
            if let (Some(state), Some(via)) = (state, via) {
                state.routes.insert((to, via));
            }
            continue;
        }
        let device = index.and_then(|index| others.get(&index)).cloned();
        let device = device.unwrap_or_else(|| "more than one device".to_owned());
        if to.prefix_len() == 0 && header.protocol == RouteProtocol::Ra {
            outside.listens = Some(device.clone());
        }
        if EVERYWHERE_BITS < to.prefix_len() {
            outside.routes.insert((to, device));
        }
    }
    Ok(())
}

/// The chains of others that all that is forwarded goes through, and that drop
/// what no rule lets through. `iptables-nft` has its chains there, too; what an
/// old `iptables-legacy` has cannot be seen so.
fn drops(lab: &LabName, ours: &[IfName]) -> Result<BTreeSet<Drops>, KernelError> {
    let mut drops = chains_that_drop(ours)?;
    drops.retain(|drops| drops.table != table(lab));
    Ok(drops)
}

/// The same of all labs, with which of `ours` they have rules for.
pub(super) fn chains_that_drop(ours: &[IfName]) -> Result<BTreeSet<Drops>, KernelError> {
    let Some(netlink) = wire::open()? else { return Ok(BTreeSet::new()) };
    let all = |kind| wire::request(wire::NFPROTO_UNSPEC, kind, &[]);
    let chains = seen::dump(&netlink, &all(wire::NFT_MSG_GETCHAIN))?;
    let family = |number: u8| match number {
        wire::NFPROTO_INET => Some("inet"),
        wire::NFPROTO_IPV4 => Some("ip"),
        wire::NFPROTO_IPV6 => Some("ip6"),
        _ => None,
    };
    let mut found = Vec::new();
    let mut docker = BTreeSet::new();
    for raw in &chains {
        let Some((number, body)) = wire::body(raw) else { continue };
        let named = |kind| find(body, &[kind]).and_then(text_of).map(str::to_owned);
        let at = (family(number), named(wire::NFTA_CHAIN_TABLE), named(wire::NFTA_CHAIN_NAME));
        let (Some(family), Some(of), Some(chain)) = at else { continue };
        let number = |path: &[u16]| find(body, path).and_then(wire::big_of);
        let hook = number(&[wire::NFTA_CHAIN_HOOK, wire::NFTA_HOOK_HOOKNUM]);
        if chain == "DOCKER-USER" {
            docker.insert((family, of.clone()));
        }
        let drops = number(&[wire::NFTA_CHAIN_POLICY]) == Some(wire::NF_DROP);
        if hook == Some(wire::NF_INET_FORWARD) && drops {
            found.push((family, of, chain));
        }
    }
    if found.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rules = seen::dump(&netlink, &all(wire::NFT_MSG_GETRULE))?;
    let names = |family_name: &str, of: &str| -> BTreeSet<IfName> {
        let here = rules.iter().filter_map(wire::body).filter(|(number, body)| {
            let is_in = find(body, &[wire::NFTA_RULE_TABLE]).and_then(text_of) == Some(of);
            is_in && family(*number) == Some(family_name)
        });
        let expressions = here.filter_map(|(_, body)| find(body, &[wire::NFTA_RULE_EXPRESSIONS]));
        let compared = expressions.flat_map(|it| attributes(it).filter_map(|(_, it)| compared(it)));
        let compared: BTreeSet<&str> = compared.collect();
        ours.iter().filter(|device| compared.contains(device.as_str())).cloned().collect()
    };
    let drops = found.into_iter().map(|(family, of, chain)| Drops {
        family: family.to_owned(),
        names: names(family, &of),
        docker: docker.contains(&(family, of.clone())),
        table: of,
        chain,
    });
    Ok(drops.collect())
}

/// The text that a step of a rule compares something with, if it does.
fn compared(step: &[u8]) -> Option<&str> {
    find(step, &[wire::NFTA_EXPR_DATA, wire::NFTA_CMP_DATA, wire::NFTA_DATA_VALUE])
        .and_then(text_of)
}
