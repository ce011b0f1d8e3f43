//! What rtnetlink's messages of addresses and routes say (rtnetlink(7)), in words
//! that the rest of the program uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

/// The address that an interface has, and how many bits of it are the network's.
/// Where it is one end of two, that of this end.
pub(super) fn net_of(message: &AddressMessage) -> Option<IpNet> {
    let (mut peer, mut local) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Local(address) => local = Some(*address),
            _ => {}
        }
    }
    IpNet::new(local.or(peer)?, message.header.prefix_len).ok()
}

/// Where a route leads; one that names no destination leads everywhere. `None` for
/// families that are not IP's.
pub(super) fn destination(message: &RouteMessage) -> Option<IpNet> {
    let header = &message.header;
    let everywhere: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let named = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => Some(ip_of(address)),
        _ => None,
    });
    IpNet::new(named.unwrap_or(Some(everywhere))?, header.destination_prefix_length).ok()
}

/// An address of IP in a message of routes.
pub(super) fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// The same the other way round.
pub(super) fn route_address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}

/// IP's family of an address, and how many bits it has.
pub(super) fn family_of(ip: IpAddr) -> (AddressFamily, u8) {
    match ip {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}
