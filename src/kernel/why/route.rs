//! Which way the kernel would send a packet: its own answer, rules and all.

use std::fs;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteType};
use nix::errno::Errno;

use super::place;
use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::observe;
use crate::kernel::rt;
use crate::kernel::worker::Worker;
use crate::model::names::LabName;
use crate::model::packet::Spot;
use crate::plan::why::facts::{Refused, RouteAnswer, RouteQuestion};

/// Asks the kernel of a node for the way of a packet.
///
/// Like `ip -n NETNS route get TO from FROM iif DEVICE`, with and without
/// `fibmatch`.
pub async fn route(
    worker: &Worker,
    lab: &LabName,
    question: &RouteQuestion,
) -> Result<RouteAnswer, KernelError> {
    let spot = Spot::Node(question.node.clone());
    let Some(place) = place(lab, &spot)? else {
        return Ok(RouteAnswer::Refused(Refused::NoRoute));
    };
    let question = question.clone();
    worker.inside(place, move || ask(&question)).await?
}

fn ask(question: &RouteQuestion) -> Result<RouteAnswer, KernelError> {
    let netlink = Netlink::new()?;
    let asked = || format!("ask `{}` for the way to {}", question.node, question.to);
    let get = |flags: RouteFlags| {
        let mut message = RouteMessage::default();
        let (family, length) = rt::family_of(question.to);
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        message.header.flags = flags;
        message.attributes.push(RouteAttribute::Destination(rt::route_address(question.to)));
        if let Some(from) = question.from {
            message.header.source_prefix_length = length;
            message.attributes.push(RouteAttribute::Source(rt::route_address(from)));
        }
        if let Some(enters) = &question.enters {
            message.attributes.push(RouteAttribute::Iif(netlink.index_of(enters)?));
        }
        match netlink.get(RouteNetlinkMessage::GetRoute(message), asked)? {
            RouteNetlinkMessage::NewRoute(route) => Ok(route),
            _ => Err(KernelError::new(asked(), Errno::EBADMSG)),
        }
    };
    let route = match get(RouteFlags::empty()) {
        Ok(route) => route,
        // Since Linux 6.14 (seen on 6.18) it says so of whatever it would not take in.
        Err(error) if error.errno == Errno::EINVAL && is_wrong_way(&netlink, question)? => {
            return Ok(RouteAnswer::Refused(Refused::WrongWay));
        }
        Err(error) => return Ok(RouteAnswer::Refused(refused(error.errno))),
    };
    match route.header.kind {
        RouteType::Local | RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => {
            return Ok(RouteAnswer::Local);
        }
        RouteType::BlackHole => return Ok(RouteAnswer::Refused(Refused::Blackhole)),
        RouteType::Unreachable => return Ok(RouteAnswer::Refused(Refused::Unreachable)),
        RouteType::Prohibit => return Ok(RouteAnswer::Refused(Refused::Prohibited)),
        RouteType::Throw => return Ok(RouteAnswer::Refused(Refused::NoRoute)),
        _ => {}
    }
    let (mut device, mut via, mut from) = (None, None, None);
    let mut table = u32::from(route.header.table);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Gateway(address) => via = rt::ip_of(address),
            RouteAttribute::Via(address) => {
                via = match address {
                    netlink_packet_route::route::RouteVia::Inet(v4) => Some(IpAddr::V4(*v4)),
                    netlink_packet_route::route::RouteVia::Inet6(v6) => Some(IpAddr::V6(*v6)),
                    _ => None,
                }
            }
            RouteAttribute::PrefSource(address) => from = rt::ip_of(address),
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let links = observe::links(&netlink)?;
    let device = links.into_iter().find(|link| Some(link.index) == device).map(|link| link.name);
    let Some(device) = device else { return Ok(RouteAnswer::Refused(Refused::NoRoute)) };
    // The route itself, in place of what came of it; kernels before 4.13 and some
    // questions know only the latter.
    let matched = get(RouteFlags::FibMatch).ok().and_then(|route| rt::destination(&route));
    Ok(RouteAnswer::Leaves { device, via, from, to: matched, table })
}

/// Whether a packet comes in by another device than answers to it would leave by,
/// where that matters (`ip-sysctl.rst`, `rp_filter` of 1).
fn is_wrong_way(netlink: &Netlink, question: &RouteQuestion) -> Result<bool, KernelError> {
    let (Some(IpAddr::V4(from)), Some(enters)) = (question.from, &question.enters) else {
        return Ok(false);
    };
    let filter = |device: &str| {
        let file = format!("/proc/sys/net/ipv4/conf/{device}/rp_filter");
        fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u8>().ok())
    };
    if filter("all").max(filter(enters)) != Some(1) {
        return Ok(false);
    }
    let back = observe::way_to(netlink, from.into())?;
    Ok(back != Some(netlink.index_of(enters)?))
}

fn refused(errno: Errno) -> Refused {
    match errno {
        Errno::ENETUNREACH => Refused::NoRoute,
        Errno::EHOSTUNREACH => Refused::Unreachable,
        Errno::EINVAL => Refused::Blackhole,
        Errno::EACCES => Refused::Prohibited,
        Errno::EXDEV => Refused::WrongWay,
        other => Refused::Other(other as i32),
    }
}
