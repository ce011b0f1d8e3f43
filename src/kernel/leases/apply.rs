//! What a lease is to the kernel: an address for a time, and routes that leave
//! from it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use mozim::DhcpV4Lease;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use nix::errno::Errno;
use nix::libc::{
    AF_INET, IFA_ADDRESS, IFA_BROADCAST, IFA_CACHEINFO, IFA_F_PERMANENT, IFA_FLAGS, IFA_LOCAL,
    NDA_DST, RT_SCOPE_LINK, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PREFSRC,
    RTA_PRIORITY, RTM_DELADDR, RTM_DELROUTE, RTM_GETADDR, RTM_GETNEIGH, RTM_NEWADDR, RTM_NEWROUTE,
    RTN_UNICAST,
};

use super::super::error::KernelError;
use super::super::host::PROTOCOL;
use super::super::netlink::Netlink;
use super::super::raw::{Raw, attribute, find, number, number_at};
use crate::model::world::SeenLease;

/// The metric of the first interface's routes. Others of the node go before it,
/// and two interfaces do not dispute the default route.
const METRIC: u32 = 1000;

// linux/if_addr.h
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;
// linux/rtnetlink.h
const RTNH_F_ONLINK: u32 = 4;
// linux/neighbour.h
const NUD_INCOMPLETE: u16 = 1;

/// What a server grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) address: Ipv4Net,
    broadcast: Option<Ipv4Addr>,
    /// For how long, in seconds.
    pub(super) valid_s: u32,
    /// Where to, and over which router, if over one.
    routes: Vec<(Ipv4Net, Option<Ipv4Addr>)>,
    server: Ipv4Addr,
    dns: Vec<Ipv4Addr>,
}

impl Terms {
    /// Reads what a server granted.
    pub(super) fn of(lease: &DhcpV4Lease) -> Self {
        let address = Ipv4Net::new(lease.yiaddr, lease.prefix_length());
        let everywhere = Ipv4Net::default();
        let routers = lease.gateways.iter().flatten().take(1);
        let routes = match &lease.classless_routes {
            // Then the routers do not count (RFC 3442).
            Some(routes) => routes
                .iter()
                .filter_map(|route| {
                    let to = Ipv4Net::new(route.destination, route.prefix_length).ok()?.trunc();
                    Some((to, Some(route.router).filter(|router| !router.is_unspecified())))
                })
                .collect(),
            None => routers.map(|router| (everywhere, Some(*router))).collect(),
        };
        Self {
            address: address.expect("a count of bits in 32"),
            broadcast: lease.broadcast_addr,
            // What is for ever has no time by which it would be known as leased.
            valid_s: lease.lease_time_sec.min(u32::MAX - 1),
            routes,
            server: lease.srv_id,
            dns: lease.dns_srvs.clone().unwrap_or_default(),
        }
    }

    /// What commands are told.
    pub(super) fn seen(&self) -> SeenLease {
        SeenLease {
            address: Some(self.address.into()),
            server: Some(self.server),
            dns: self.dns.clone(),
        }
    }

    /// Gives a device the address and its routes, for so many seconds; what it
    /// has of them gets the new time.
    ///
    /// Like `ip address replace ADDRESS dev DEVICE valid_lft S preferred_lft S
    /// proto 111` and `ip route replace TO via ROUTER dev DEVICE src ADDRESS
    /// metric METRIC proto 111`.
    pub(super) fn bind(
        &self,
        netlink: &Netlink,
        device: u32,
        valid_s: u32,
    ) -> Result<(), KernelError> {
        let address = self.address.addr().octets();
        let mut attributes = vec![
            attribute(IFA_ADDRESS, &address),
            attribute(IFA_LOCAL, &address),
            attribute(IFA_CACHEINFO, &[valid_s, valid_s, 0, 0].map(u32::to_ne_bytes).concat()),
            attribute(IFA_PROTO, &[PROTOCOL]),
        ];
        let broadcast =
            self.broadcast.or((self.address.prefix_len() < 31).then(|| self.address.broadcast()));
        attributes.extend(broadcast.map(|it| attribute(IFA_BROADCAST, &it.octets())));
        let message = Raw::new(RTM_NEWADDR, &header(self.address, device), &attributes);
        let asked = || format!("take the address `{}` that was leased", self.address);
        netlink.raw(message, NLM_F_CREATE | NLM_F_REPLACE, asked)?;
        for route in &self.routes {
            let asked = || format!("take the route to `{}` that came with a lease", route.0);
            let message = self.route(RTM_NEWROUTE, device, route);
            netlink.raw(message, NLM_F_CREATE | NLM_F_REPLACE, asked)?;
        }
        Ok(())
    }

    /// Takes away what `next` does not grant any more. The kernel takes routes
    /// away with the address that they leave from.
    pub(super) fn leave_for(
        &self,
        next: Option<&Self>,
        netlink: &Netlink,
        device: u32,
    ) -> Result<(), KernelError> {
        if next.is_none_or(|next| next.address != self.address) {
            return unbind(netlink, device, self.address);
        }
        let stays = |route| next.is_some_and(|next| next.routes.contains(route));
        for route in self.routes.iter().filter(|route| !stays(route)) {
            let asked = || format!("delete the route to `{}` that came with a lease", route.0);
            match netlink.raw(self.route(RTM_DELROUTE, device, route), 0, asked) {
                Err(error) if error.errno == Errno::ESRCH => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    fn route(&self, kind: u16, device: u32, (to, via): &(Ipv4Net, Option<Ipv4Addr>)) -> Raw {
        let scope = if via.is_none() { RT_SCOPE_LINK } else { 0 };
        let mut header = vec![AF_INET as u8, to.prefix_len(), 0, 0];
        header.extend([RT_TABLE_MAIN, PROTOCOL, scope, RTN_UNICAST]);
        // A router need not be in the network of the address, which may be one of
        // a single address.
        let onlink = via.is_some_and(|via| !self.address.contains(&via));
        header.extend(if onlink { RTNH_F_ONLINK } else { 0 }.to_ne_bytes());
        let mut attributes = vec![
            number(RTA_OIF, device),
            number(RTA_PRIORITY, METRIC + device),
            attribute(RTA_PREFSRC, &self.address.addr().octets()),
        ];
        if to.prefix_len() != 0 {
            attributes.push(attribute(RTA_DST, &to.addr().octets()));
        }
        attributes.extend(via.map(|via| attribute(RTA_GATEWAY, &via.octets())));
        Raw::new(kind, &header, &attributes)
    }
}

/// Takes an address off a device. One that is not there is off.
///
/// Like `ip address delete ADDRESS dev DEVICE`.
pub(super) fn unbind(netlink: &Netlink, device: u32, address: Ipv4Net) -> Result<(), KernelError> {
    let attributes = [attribute(IFA_LOCAL, &address.addr().octets())];
    let message = Raw::new(RTM_DELADDR, &header(address, device), &attributes);
    let asked = || format!("take the address `{address}` off, whose lease has ended");
    match netlink.raw(message, 0, asked) {
        Err(error) if matches!(error.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV) => Ok(()),
        other => other.map(drop),
    }
}

/// Gives an address that is there for a time the time of `terms`; one that is there
/// for ever has its client to see to it.
///
/// Like `ip address change ADDRESS dev DEVICE valid_lft S preferred_lft S`.
pub(super) fn prolong(netlink: &Netlink, device: u32, terms: &Terms) -> Result<(), KernelError> {
    let any = Raw::new(RTM_GETADDR, &[AF_INET as u8, 0, 0, 0, 0, 0, 0, 0], &[]);
    let asked = || format!("give the address `{}` more time", terms.address);
    let all = netlink.raw_dump(&any, "list addresses")?;
    let octets = terms.address.addr().octets();
    let there = all.iter().find_map(|message| {
        let attributes = message.bytes.get(8..)?;
        let here = number_at(&message.bytes, 4) == Some(device);
        (here && find(attributes, &[IFA_LOCAL]) == Some(&octets)).then_some(attributes)
    });
    let there = there.ok_or_else(|| KernelError::new(asked(), Errno::EADDRNOTAVAIL))?;
    let flags = find(there, &[IFA_FLAGS]).and_then(|flags| number_at(flags, 0)).unwrap_or_default();
    if flags & IFA_F_PERMANENT != 0 {
        return Ok(());
    }
    let times = [terms.valid_s, terms.valid_s, 0, 0].map(u32::to_ne_bytes).concat();
    let mut attributes = vec![attribute(IFA_LOCAL, &octets), attribute(IFA_CACHEINFO, &times)];
    for kept in [IFA_ADDRESS, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO] {
        attributes.extend(find(there, &[kept]).map(|value| attribute(kept, value)));
    }
    let message = Raw::new(RTM_NEWADDR, &header(terms.address, device), &attributes);
    netlink.raw(message, NLM_F_REPLACE, asked).map(drop)
}

/// The address that a device has from a lease of ours, if it has one: with our
/// number, and for a time.
pub(super) fn bound(netlink: &Netlink, device: u32) -> Result<Option<Ipv4Net>, KernelError> {
    let any = Raw::new(RTM_GETADDR, &[AF_INET as u8, 0, 0, 0, 0, 0, 0, 0], &[]);
    let all = netlink.raw_dump(&any, "list addresses")?;
    Ok(all.iter().find_map(|message| {
        let (length, attributes) = (*message.bytes.get(1)?, message.bytes.get(8..)?);
        let here = number_at(&message.bytes, 4) == Some(device);
        let ours = find(attributes, &[IFA_PROTO]) == Some(&[PROTOCOL]);
        let flags = number_at(find(attributes, &[IFA_FLAGS])?, 0)?;
        let local: [u8; 4] = find(attributes, &[IFA_LOCAL])?.try_into().ok()?;
        let leased = here && ours && flags & IFA_F_PERMANENT == 0;
        leased.then(|| Ipv4Net::new(local.into(), length).ok())?
    }))
}

/// Whether a neighbour was asked for and has not answered yet.
pub(super) fn is_sought(netlink: &Netlink, neighbour: Ipv4Addr) -> bool {
    let any = Raw::new(RTM_GETNEIGH, &[AF_INET as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
    let all = netlink.raw_dump(&any, "list neighbours").unwrap_or_default();
    all.iter().any(|message| {
        let this = message.bytes.get(12..).and_then(|attributes| find(attributes, &[NDA_DST]));
        let state = message.bytes.get(8..10);
        this == Some(&neighbour.octets()) && state == Some(&NUD_INCOMPLETE.to_ne_bytes())
    })
}

/// `struct ifaddrmsg` for an address.
fn header(address: Ipv4Net, device: u32) -> Vec<u8> {
    [&[AF_INET as u8, address.prefix_len(), 0, 0][..], &device.to_ne_bytes()].concat()
}
