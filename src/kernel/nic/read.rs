//! Looking: what hangs on a NIC.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;

use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, InfoKind, LinkAttribute, LinkExtentMask, LinkLayerType, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::wire;
use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::observe::{self, Link};
use crate::kernel::raw::Raw;
use crate::model::mark::Mac;
use crate::model::names::IfName;
use crate::model::nic::{Master, Nic, NicLink, NicRule};

/// The kernel parameters of an interface that decide what it does with
/// packets, and that its stand-in has to have, too.
const PARAMETERS: [&str; 36] = [
    "ipv4.rp_filter",
    "ipv4.forwarding",
    "ipv4.accept_local",
    "ipv4.accept_redirects",
    "ipv4.accept_source_route",
    "ipv4.arp_accept",
    "ipv4.arp_announce",
    "ipv4.arp_filter",
    "ipv4.arp_ignore",
    "ipv4.arp_notify",
    "ipv4.log_martians",
    "ipv4.promote_secondaries",
    "ipv4.proxy_arp",
    "ipv4.route_localnet",
    "ipv4.secure_redirects",
    "ipv4.send_redirects",
    "ipv4.src_valid_mark",
    "ipv6.disable_ipv6",
    "ipv6.forwarding",
    "ipv6.accept_dad",
    "ipv6.accept_ra",
    "ipv6.accept_ra_defrtr",
    "ipv6.accept_ra_from_local",
    "ipv6.accept_ra_mtu",
    "ipv6.accept_ra_pinfo",
    "ipv6.accept_ra_rt_info_max_plen",
    "ipv6.accept_redirects",
    "ipv6.accept_source_route",
    "ipv6.autoconf",
    "ipv6.dad_transmits",
    "ipv6.proxy_ndp",
    "ipv6.ra_defrtr_metric",
    "ipv6.temp_prefered_lft",
    "ipv6.temp_valid_lft",
    "ipv6.use_tempaddr",
    "ipv6.ndisc_notify",
];

/// All that hangs on the device called `name` here.
///
/// Like `ip address show dev NIC`, `ip route show table all dev NIC` for both
/// families, `ip nexthop`, `ip rule` and `ip neigh`.
pub(super) fn nic(netlink: &Netlink, name: &IfName) -> Result<Nic, KernelError> {
    let links = observe::links(netlink)?;
    let link = links.iter().find(|link| link.name == name.as_str());
    let asked = || format!("look up device `{name}`");
    let link = link.ok_or_else(|| KernelError::new(asked(), Errno::ENODEV))?;
    let index = link.index;
    let dump = |kind: u16, header: &[u8], asked: &str| {
        netlink.raw_dump(&Raw::new(kind, header, &[]), asked)
    };
    let mut nic = Nic {
        link: of_link(link, &links, name, netlink)?,
        addresses: Vec::new(),
        routes: Vec::new(),
        hops: Vec::new(),
        rules: Vec::new(),
        neighbours: Vec::new(),
        parameters: parameters(name),
    };
    for family in [wire::AF_INET, wire::AF_INET6] {
        let header = [&[family], &[0; 11][..]].concat();
        let addresses = dump(wire::RTM_GETADDR, &header[..8], "list addresses")?;
        nic.addresses.extend(addresses.iter().filter_map(|raw| wire::address(raw, index)));
        let routes = dump(wire::RTM_GETROUTE, &header, "list routes")?;
        nic.routes.extend(routes.iter().filter_map(|raw| wire::route(raw, index)));
        let neighbours = dump(wire::RTM_GETNEIGH, &header, "list neighbours")?;
        nic.neighbours.extend(neighbours.iter().filter_map(|raw| wire::neighbour(raw, index)));
    }
    let all = rules(netlink, name.as_str())?;
    let place = |rule: &NicRule| (rule.v6, rule.priority);
    let concerned: BTreeSet<_> = all.iter().filter(|rule| rule.names_it).map(place).collect();
    nic.rules = all.into_iter().filter(|rule| concerned.contains(&place(rule))).collect();
    nic.hops = match dump(wire::RTM_GETNEXTHOP, &[0; 8], "list nexthop objects") {
        Ok(hops) => hops.iter().filter_map(|raw| wire::hop(raw, index)).collect(),
        // Before Linux 5.3 there were none.
        Err(error) if error.errno == Errno::EOPNOTSUPP => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(nic)
}

/// All policy rules, and whether each names that device.
///
/// Like `ip rule` and `ip -6 rule`.
pub(super) fn rules(netlink: &Netlink, device: &str) -> Result<Vec<NicRule>, KernelError> {
    let mut all = Vec::new();
    for family in [wire::AF_INET, wire::AF_INET6] {
        let header = [&[family], &[0; 11][..]].concat();
        let rules = netlink.raw_dump(&Raw::new(wire::RTM_GETRULE, &header, &[]), "list rules")?;
        all.extend(rules.iter().filter_map(|raw| wire::rule(raw, device)));
    }
    Ok(all)
}

/// The addresses of IPv6 that packets which come for them are taken in for by
/// a device.
///
/// Like `ip -6 route show table local dev NIC`.
pub(super) fn taken_in(netlink: &Netlink, index: u32) -> Result<BTreeSet<IpAddr>, KernelError> {
    let header = [&[wire::AF_INET6], &[0; 11][..]].concat();
    let routes = Raw::new(wire::RTM_GETROUTE, &header, &[]);
    let routes = netlink.raw_dump(&routes, "list routes")?;
    Ok(routes.iter().filter_map(|raw| wire::taken_for_own(raw, index)).collect())
}

fn of_link(
    link: &Link,
    all: &[Link],
    name: &IfName,
    netlink: &Netlink,
) -> Result<NicLink, KernelError> {
    let ethernet = link.message.header.link_layer_type == LinkLayerType::Ether;
    let master = link.master.and_then(|index| {
        let master = all.iter().find(|link| link.index == index)?;
        let kind = master.kind.as_ref().map(ToString::to_string).unwrap_or_default();
        Some(Master { index, name: master.name.clone(), kind })
    });
    Ok(NicLink {
        index: link.index,
        name: name.clone(),
        altnames: link.seen.altnames.clone(),
        mac: Some(link.seen.mac).filter(|mac| ethernet && *mac != Mac([0; 6])),
        mtu: link.seen.mtu,
        up: link.seen.up,
        carrier: link.seen.carrier,
        alias: link.seen.alias.clone(),
        kind: link.kind.as_ref().map(kind_words),
        master,
        generates: generates(netlink, name)?,
        checksums: None,
    })
}

pub(super) fn kind_words(kind: &InfoKind) -> String {
    kind.to_string()
}

/// How the kernel makes link-local addresses for a device, if it does IPv6.
///
/// Like `ip -d link show dev NIC` (`addrgenmode`).
fn generates(netlink: &Netlink, name: &IfName) -> Result<Option<u8>, KernelError> {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Unspec;
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let asked = || format!("look at device `{name}`");
    let RouteNetlinkMessage::NewLink(link) =
        netlink.get(RouteNetlinkMessage::GetLink(message), asked)?
    else {
        return Err(KernelError::new(asked(), Errno::EBADMSG));
    };
    let specs = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::AfSpecUnspec(specs) => Some(specs),
        _ => None,
    });
    Ok(specs.into_iter().flatten().find_map(|spec| match spec {
        AfSpecUnspec::Inet6(of) => of.iter().find_map(|of| match of {
            AfSpecInet6::AddrGenMode(mode) => Some(u8::from(mode)),
            _ => None,
        }),
        _ => None,
    }))
}

/// The file of a parameter of a device. A name may have dots, so this is no
/// dotted path.
pub(super) fn parameter_path(device: &IfName, key: &str) -> Option<String> {
    let (family, key) = key.split_once('.')?;
    Some(match key.strip_prefix("neigh.") {
        Some(key) => format!("/proc/sys/net/{family}/neigh/{device}/{key}"),
        None => format!("/proc/sys/net/{family}/conf/{device}/{key}"),
    })
}

/// All parameters of a device that can be read and set.
pub(super) fn all_parameters(device: &IfName) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (family, place) in ["ipv4", "ipv6"].iter().flat_map(|f| [(f, "conf"), (f, "neigh")]) {
        let directory = format!("/proc/sys/net/{family}/{place}/{device}");
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let can_be_set = entry.metadata().is_ok_and(|it| !it.permissions().readonly());
            // One that was never set cannot be read, and one is for writing only.
            let (Some(key), Ok(value)) =
                (entry.file_name().to_str().map(str::to_owned), fs::read_to_string(entry.path()))
            else {
                continue;
            };
            if can_be_set {
                let key = if place == "neigh" { format!("neigh.{key}") } else { key };
                all.insert(format!("{family}.{key}"), value.trim_end().to_owned());
            }
        }
    }
    all
}

/// The parameters of a device that this kernel has.
fn parameters(device: &IfName) -> BTreeMap<String, String> {
    let read = |key: &str| {
        let value = fs::read_to_string(parameter_path(device, key)?).ok()?;
        Some((key.to_owned(), value.trim_end().to_owned()))
    };
    PARAMETERS.iter().filter_map(|key| read(key)).collect()
}
