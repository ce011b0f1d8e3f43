//! Messages of rtnetlink as bytes: read as far as a plan has to know, and
//! rewritten so that they say the same of another device.
//!
//! Bytes, and not the types of a library, because what comes back must be what
//! was there: also attributes that nobody here has heard of.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::kernel::raw::Raw;
use crate::model::mark::Mac;
use crate::model::nic::{Neighbour, NicAddress, NicHop, NicRoute, NicRule, Told};

// linux/rtnetlink.h
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
pub(super) const RTM_GETADDR: u16 = 22;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
pub(super) const RTM_GETROUTE: u16 = 26;
pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
pub(super) const RTM_GETNEIGH: u16 = 30;
pub(super) const RTM_NEWRULE: u16 = 32;
pub(super) const RTM_DELRULE: u16 = 33;
pub(super) const RTM_GETRULE: u16 = 34;
pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_GETNEXTHOP: u16 = 106;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

// struct ifaddrmsg, rtmsg, fib_rule_hdr, ndmsg and nhmsg
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;
const RULE_HEADER: usize = 12;
const NEIGHBOUR_HEADER: usize = 12;
const HOP_HEADER: usize = 8;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_EXPIRES: u16 = 23;
const RTA_NH_ID: u16 = 30;
const RTPROT_KERNEL: u8 = 2;
const RTM_F_CLONED: u32 = 0x200;
/// Flags of a nexthop that a request may have: `RTNH_F_PERVASIVE` and
/// `RTNH_F_ONLINK`. The others tell how it stands.
const ASKED_OF_A_HOP: u8 = 2 | 4;

const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_OIFNAME: u16 = 17;
/// `FIB_RULE_INVERT` and `FIB_RULE_FIND_SADDR`. The others tell how it stands.
const ASKED_OF_A_RULE: u32 = 0x2 | 0x1_0000;

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_REACHABLE: u16 = 0x02;
const NUD_STALE: u16 = 0x04;
const NUD_DELAY: u16 = 0x08;
const NUD_PROBE: u16 = 0x10;
const NUD_PERMANENT: u16 = 0x80;
const NTF_ROUTER: u8 = 0x80;

const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;

/// A message in its parts. Kinds of attributes have their flags on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    header: Vec<u8>,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// What is not told of the kind of an attribute: that it is nested, and in
/// which order its bytes are.
const KIND: u16 = 0x3fff;

impl Parts {
    fn of(bytes: &[u8], header: usize) -> Option<Self> {
        let mut rest = bytes.get(header..)?;
        let mut attributes = Vec::new();
        while let [l0, l1, k0, k1, ..] = *rest {
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            attributes.push((u16::from_ne_bytes([k0, k1]), rest.get(4..length)?.to_vec()));
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(Self { header: bytes[..header].to_vec(), attributes })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.clone();
        for (kind, value) in &self.attributes {
            let length = u16::try_from(value.len() + 4).expect("it came in a message");
            bytes.extend(length.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn get(&self, wanted: u16) -> Option<&[u8]> {
        let found = self.attributes.iter().find(|(kind, _)| kind & KIND == wanted)?;
        Some(&found.1)
    }

    fn number(&self, wanted: u16) -> Option<u32> {
        self.get(wanted)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn set(&mut self, wanted: u16, value: Vec<u8>) {
        match self.attributes.iter_mut().find(|(kind, _)| kind & KIND == wanted) {
            Some((_, old)) => *old = value,
            None => self.attributes.push((wanted, value)),
        }
    }

    fn drop(&mut self, wanted: u16) {
        self.attributes.retain(|(kind, _)| kind & KIND != wanted);
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

pub(super) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

// ---- addresses ----

/// An address of the device with that index.
pub(super) fn address(raw: &Raw, index: u32) -> Option<NicAddress> {
    let parts = Parts::of(&raw.bytes, ADDRESS_HEADER)?;
    if raw.kind != RTM_NEWADDR || word(&parts.header, 4)? != index {
        return None;
    }
    let own = parts.get(IFA_LOCAL).or_else(|| parts.get(IFA_ADDRESS))?;
    let valid = parts.get(IFA_CACHEINFO).and_then(|info| word(info, 4));
    Some(NicAddress {
        net: IpNet::new(ip(own)?, parts.header[1]).ok()?,
        flags: parts.number(IFA_FLAGS).unwrap_or_else(|| parts.header[2].into()),
        valid_s: valid.filter(|seconds| *seconds != u32::MAX),
        told: Told(raw.bytes.clone()),
    })
}

/// The request that gives `address` to the device, or takes it away. A label
/// that is the name of the device it was on becomes that of the new one.
pub(super) fn address_for(address: &NicAddress, from: &str, to: &str, index: u32) -> Vec<u8> {
    let mut parts = Parts::of(&address.told.0, ADDRESS_HEADER).expect("read once before");
    let flags = address.asked_flags();
    // The header holds the lowest eight of them.
    parts.header[2] = (flags & 0xff) as u8;
    parts.header[4..8].copy_from_slice(&index.to_ne_bytes());
    parts.set(IFA_FLAGS, flags.to_ne_bytes().to_vec());
    if parts.get(IFA_LABEL).is_some_and(|label| label.strip_suffix(&[0]) == Some(from.as_bytes())) {
        parts.set(IFA_LABEL, [to.as_bytes(), &[0]].concat());
    }
    parts.bytes()
}

// ---- routes ----

/// A route that leaves by the device with that index, if it has to be moved
/// when the device's addresses are.
pub(super) fn route(raw: &Raw, index: u32) -> Option<NicRoute> {
    let parts = Parts::of(&raw.bytes, ROUTE_HEADER)?;
    let [family, length, _, _, table, protocol, _, kind, ..] = *parts.header.as_slice() else {
        return None;
    };
    let flags = word(&parts.header, 8)?;
    if raw.kind != RTM_NEWROUTE || flags & RTM_F_CLONED != 0 || parts.get(RTA_NH_ID).is_some() {
        return None;
    }
    // Local, broadcast, anycast and multicast routes of the kernel's come and
    // go with addresses and devices.
    let by_itself = protocol == RTPROT_KERNEL && matches!(kind, 2..=5);
    let hops = hops_of(parts.get(RTA_MULTIPATH).unwrap_or_default());
    let leaves = parts.number(RTA_OIF) == Some(index) || hops.iter().any(|hop| hop.index == index);
    if by_itself || !leaves {
        return None;
    }
    let everywhere: IpAddr = match family {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let to = parts.get(RTA_DST).map_or(Some(everywhere), ip)?;
    let via = parts.get(RTA_GATEWAY).and_then(ip).or_else(|| parts.get(RTA_VIA).and_then(via_ip));
    Some(NicRoute {
        to: IpNet::new(to, length).ok()?,
        table: parts.number(RTA_TABLE).unwrap_or_else(|| table.into()),
        metric: parts.number(RTA_PRIORITY).unwrap_or_default(),
        via: via.into_iter().chain(hops.iter().filter_map(|hop| hop.via)).collect(),
        protocol,
        told: Told(raw.bytes.clone()),
    })
}

/// The address that a route has the host take for its own, if it does so for the
/// device with that index. Before Linux 4.14 all of IPv6's named the loopback.
pub(super) fn taken_for_own(raw: &Raw, index: u32) -> Option<IpAddr> {
    const RTN_LOCAL: u8 = 2;
    const LOOPBACK: u32 = 1;
    let parts = Parts::of(&raw.bytes, ROUTE_HEADER)?;
    let local = raw.kind == RTM_NEWROUTE && parts.header[7] == RTN_LOCAL;
    let by = parts.number(RTA_OIF)?;
    (local && (by == index || by == LOOPBACK)).then_some(())?;
    ip(parts.get(RTA_DST)?)
}

/// A route that leaves by one of these nexthop objects. What the kernel tells of
/// those again is left out: it would not be taken.
pub(super) fn route_by_hop(raw: &Raw, hops: &BTreeSet<u32>) -> Option<NicRoute> {
    let mut parts = Parts::of(&raw.bytes, ROUTE_HEADER)?;
    hops.contains(&parts.number(RTA_NH_ID)?).then_some(())?;
    let everywhere: IpAddr = match parts.header[0] {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    for attribute in [RTA_OIF, RTA_GATEWAY, RTA_VIA, RTA_MULTIPATH] {
        parts.drop(attribute);
    }
    let to = parts.get(RTA_DST).map_or(Some(everywhere), ip)?;
    (raw.kind == RTM_NEWROUTE).then(|| NicRoute {
        to: IpNet::new(to, parts.header[1]).unwrap_or_else(|_| to.into()),
        table: parts.number(RTA_TABLE).unwrap_or_else(|| parts.header[4].into()),
        metric: parts.number(RTA_PRIORITY).unwrap_or_default(),
        via: BTreeSet::new(),
        protocol: parts.header[5],
        told: Told(parts.bytes()),
    })
}

/// `struct rtvia`: a family, then an address of it.
fn via_ip(bytes: &[u8]) -> Option<IpAddr> {
    ip(bytes.get(2..)?)
}

/// One of several ways of a route (`struct rtnexthop`).
struct Hop {
    index: u32,
    /// Where in the attribute it begins.
    start: usize,
    via: Option<IpAddr>,
}

fn hops_of(bytes: &[u8]) -> Vec<Hop> {
    let (mut hops, mut start) = (Vec::new(), 0);
    while let Some([l0, l1]) = bytes.get(start..start + 2) {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let (Some(hop), true) = (bytes.get(start..start + length), 8 <= length) else { break };
        let index = word(hop, 4).unwrap_or_default();
        let parts = Parts::of(hop, 8);
        let via = parts.as_ref().and_then(|parts| {
            let plain = parts.get(RTA_GATEWAY).and_then(ip);
            plain.or_else(|| parts.get(RTA_VIA).and_then(via_ip))
        });
        hops.push(Hop { index, start, via });
        start += length.next_multiple_of(4);
    }
    hops
}

/// The message about a route that leaves by device `to` where it left by
/// `from`, without what only tells how it stands.
pub(super) fn route_for(route: &NicRoute, from: u32, to: u32) -> Vec<u8> {
    let mut parts = Parts::of(&route.told.0, ROUTE_HEADER).expect("read once before");
    let flags = word(&parts.header, 8).unwrap_or_default() & u32::from(ASKED_OF_A_HOP);
    parts.header[8..12].copy_from_slice(&flags.to_ne_bytes());
    if parts.number(RTA_OIF) == Some(from) {
        parts.set(RTA_OIF, to.to_ne_bytes().to_vec());
    }
    if let Some(mut ways) = parts.get(RTA_MULTIPATH).map(<[u8]>::to_vec) {
        for Hop { index, start, .. } in hops_of(&ways) {
            ways[start + 2] &= ASKED_OF_A_HOP;
            if index == from {
                ways[start + 4..start + 8].copy_from_slice(&to.to_ne_bytes());
            }
        }
        parts.set(RTA_MULTIPATH, ways);
    }
    // `rta_expires` of `struct rta_cacheinfo` is in hundredths of a second, and
    // goes on counting in an attribute of its own, in seconds.
    let expires = parts.get(RTA_CACHEINFO).and_then(|info| word(info, 8));
    parts.drop(RTA_CACHEINFO);
    if let Some(seconds) = expires.filter(|ticks| 0 < ticks.cast_signed()).map(|t| t.div_ceil(100))
    {
        parts.set(RTA_EXPIRES, seconds.to_ne_bytes().to_vec());
    }
    parts.bytes()
}

/// The same route with another metric.
pub(super) fn with_metric(bytes: &[u8], metric: u32) -> Vec<u8> {
    let mut parts = Parts::of(bytes, ROUTE_HEADER).expect("made just before");
    parts.set(RTA_PRIORITY, metric.to_ne_bytes().to_vec());
    parts.bytes()
}

// ---- nexthop objects ----

/// A nexthop object that leaves by the device with that index.
pub(super) fn hop(raw: &Raw, index: u32) -> Option<NicHop> {
    let parts = Parts::of(&raw.bytes, HOP_HEADER)?;
    if raw.kind != RTM_NEWNEXTHOP || parts.number(NHA_OIF) != Some(index) {
        return None;
    }
    let via = parts.get(NHA_GATEWAY).and_then(ip);
    Some(NicHop { id: parts.number(NHA_ID)?, via, told: Told(raw.bytes.clone()) })
}

/// The same object, leaving by another device.
pub(super) fn hop_for(hop: &NicHop, to: u32) -> Vec<u8> {
    let mut parts = Parts::of(&hop.told.0, HOP_HEADER).expect("read once before");
    // The scope is the kernel's own finding, and may not be asked for.
    parts.header[1] = 0;
    let flags = word(&parts.header, 4).unwrap_or_default() & u32::from(ASKED_OF_A_HOP);
    parts.header[4..8].copy_from_slice(&flags.to_ne_bytes());
    parts.set(NHA_OIF, to.to_ne_bytes().to_vec());
    parts.bytes()
}

// ---- rules ----

/// A policy rule, and whether it names the device.
pub(super) fn rule(raw: &Raw, device: &str) -> Option<NicRule> {
    let parts = Parts::of(&raw.bytes, RULE_HEADER)?;
    let v6 = match parts.header[0] {
        AF_INET => false,
        AF_INET6 => true,
        _ => return None,
    };
    let is = |name: &[u8]| name.strip_suffix(&[0]).unwrap_or(name) == device.as_bytes();
    let names_it = [FRA_IIFNAME, FRA_OIFNAME].iter().any(|kind| parts.get(*kind).is_some_and(is));
    let priority = parts.number(FRA_PRIORITY).unwrap_or_default();
    Some(NicRule { v6, priority, names_it, told: Told(raw.bytes.clone()) })
}

/// The same rule, naming another device in place of this one.
pub(super) fn rule_for(rule: &NicRule, from: &str, to: &str) -> Vec<u8> {
    let mut parts = Parts::of(&rule.told.0, RULE_HEADER).expect("read once before");
    let flags = word(&parts.header, 8).unwrap_or_default() & ASKED_OF_A_RULE;
    parts.header[8..12].copy_from_slice(&flags.to_ne_bytes());
    let old = [from.as_bytes(), &[0]].concat();
    for (kind, value) in &mut parts.attributes {
        if matches!(*kind & KIND, FRA_IIFNAME | FRA_OIFNAME) && *value == old {
            *value = [to.as_bytes(), &[0]].concat();
        }
    }
    parts.bytes()
}

/// Whether two rules say the same, at whatever priority.
pub(super) fn are_twins(one: &NicRule, other: &NicRule) -> bool {
    let said = |rule: &NicRule| {
        let mut parts = Parts::of(&rule.told.0, RULE_HEADER)?;
        parts.drop(FRA_PRIORITY);
        Some(parts.bytes())
    };
    one.v6 == other.v6 && said(one) == said(other)
}

// ---- neighbours ----

/// A neighbour behind the device with that index that has an address.
pub(super) fn neighbour(raw: &Raw, index: u32) -> Option<Neighbour> {
    let parts = Parts::of(&raw.bytes, NEIGHBOUR_HEADER)?;
    if raw.kind != RTM_NEWNEIGH || word(&parts.header, 4)? != index {
        return None;
    }
    let state = state_of(raw)?;
    let known = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT;
    let mac = Mac(parts.get(NDA_LLADDR)?.try_into().ok()?);
    (state & known != 0).then_some(())?;
    Some(Neighbour {
        ip: ip(parts.get(NDA_DST)?)?,
        mac,
        permanent: state & NUD_PERMANENT != 0,
        router: parts.header[10] & NTF_ROUTER != 0,
    })
}

fn state_of(raw: &Raw) -> Option<u16> {
    Some(u16::from_ne_bytes([*raw.bytes.get(8)?, *raw.bytes.get(9)?]))
}

/// The IP address and the state of an entry behind the device with that index.
pub(super) fn neighbour_state(raw: &Raw, index: u32) -> Option<(IpAddr, u16)> {
    let parts = Parts::of(&raw.bytes, NEIGHBOUR_HEADER)?;
    (raw.kind == RTM_NEWNEIGH && word(&parts.header, 4)? == index).then_some(())?;
    Some((ip(parts.get(NDA_DST)?)?, state_of(raw)?))
}

/// The message about a neighbour behind a device, in a state.
pub(super) fn neighbour_for(
    ip: IpAddr,
    mac: Option<Mac>,
    index: u32,
    state: u16,
    router: bool,
) -> Raw {
    let family = if ip.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut header = vec![family, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(state.to_ne_bytes());
    header.extend([if router { NTF_ROUTER } else { 0 }, 0]);
    let mut attributes = vec![(NDA_DST, octets(ip))];
    attributes.extend(mac.map(|mac| (NDA_LLADDR, mac.0.to_vec())));
    Raw { kind: RTM_NEWNEIGH, bytes: Parts { header, attributes }.bytes() }
}

/// The state in which a neighbour is entered.
pub(super) fn entered(neighbour: &Neighbour) -> u16 {
    if neighbour.permanent { NUD_PERMANENT } else { NUD_REACHABLE }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `default nexthop via 10.0.0.1 dev 2 nexthop via 10.0.0.9 dev 3`, dead and
    /// with numbers that the kernel adds.
    fn multipath() -> Raw {
        let hop = |last: u8, index: u32, flags: u8| {
            let gateway = [8, 0, 5, 0, 10, 0, 0, last];
            [&[16, 0, flags, 0], &index.to_ne_bytes()[..], &gateway].concat()
        };
        let attributes = vec![
            (RTA_TABLE, 77u32.to_ne_bytes().to_vec()),
            (RTA_MULTIPATH, [hop(1, 2, 1 | 16), hop(9, 3, 4)].concat()),
            (99, vec![1, 2, 3]),
        ];
        let header = vec![AF_INET, 0, 0, 0, 77, 3, 0, 1, 17, 0, 0, 0];
        Raw { kind: RTM_NEWROUTE, bytes: Parts { header, attributes }.bytes() }
    }

    #[test]
    fn a_route_is_the_same_but_for_its_device() {
        let raw = multipath();
        let seen = route(&raw, 2).expect("it leaves by 2");
        assert_eq!(seen.to_string(), "default via 10.0.0.1 via 10.0.0.9 in table 77");
        assert!(route(&raw, 3).is_some() && route(&raw, 4).is_none());
        let there = Raw { kind: RTM_NEWROUTE, bytes: route_for(&seen, 2, 7) };
        let moved = route(&there, 7).expect("it leaves by 7");
        assert!(route(&there, 2).is_none(), "and no more by 2");
        assert!(route(&there, 3).is_some(), "and by 3 as before");
        let back = Raw { kind: RTM_NEWROUTE, bytes: route_for(&moved, 7, 2) };
        // Both ways take out what tells only how it stands.
        let clean = route_for(&seen, 2, 2);
        assert_eq!(back.bytes, clean);
        let parts = Parts::of(&clean, ROUTE_HEADER).expect("parts");
        assert_eq!(parts.get(99), Some(&[1, 2, 3][..]), "what nobody knows stays");
        assert_eq!(parts.header[8], 0, "dead and linkdown are gone");
        let ways = parts.get(RTA_MULTIPATH).expect("it has two");
        assert_eq!((ways[2], ways[18]), (0, 4), "on-link stays");
    }

    #[test]
    fn labels_follow_the_device_that_they_name() {
        check("eth0", "br0");
        check("eth0:web", "eth0:web");

        #[track_caller]
        fn check(label: &str, expected: &str) {
            let attributes = vec![
                (IFA_LOCAL, vec![10, 0, 0, 2]),
                (IFA_LABEL, [label.as_bytes(), &[0]].concat()),
                (IFA_FLAGS, 0x280u32.to_ne_bytes().to_vec()),
            ];
            let header = vec![AF_INET, 24, 0x80, 0, 2, 0, 0, 0];
            let raw = Raw { kind: RTM_NEWADDR, bytes: Parts { header, attributes }.bytes() };
            let seen = address(&raw, 2).expect("on device 2");
            assert_eq!((seen.net.to_string().as_str(), seen.flags), ("10.0.0.2/24", 0x280));
            let bytes = address_for(&seen, "eth0", "br0", 9);
            let parts = Parts::of(&bytes, ADDRESS_HEADER).expect("parts");
            let now = parts.get(IFA_LABEL).and_then(|l| l.strip_suffix(&[0])).expect("a label");
            assert_eq!(std::str::from_utf8(now), Ok(expected));
            assert_eq!(parts.number(IFA_FLAGS), Some(0x200), "permanent is not asked for");
            assert_eq!(parts.header[2..], [0, 0, 9, 0, 0, 0]);
        }
    }

    #[test]
    fn rules_name_the_other_device() {
        let attributes = vec![
            (FRA_PRIORITY, 100u32.to_ne_bytes().to_vec()),
            (FRA_IIFNAME, b"eth0\0".to_vec()),
            (FRA_OIFNAME, b"eth01\0".to_vec()),
        ];
        let header = vec![AF_INET, 0, 0, 0, 77, 0, 0, 1, 2 | 8, 0, 0, 0];
        let raw = Raw { kind: RTM_NEWRULE, bytes: Parts { header, attributes }.bytes() };
        let seen = rule(&raw, "eth0").expect("a rule");
        assert!(seen.names_it && !rule(&raw, "eth").expect("a rule").names_it);
        let parts = Parts::of(&rule_for(&seen, "eth0", "b.1"), RULE_HEADER).expect("parts");
        assert_eq!(parts.get(FRA_IIFNAME), Some(&b"b.1\0"[..]));
        assert_eq!(parts.get(FRA_OIFNAME), Some(&b"eth01\0"[..]));
        assert_eq!(parts.header[8], 2, "detached tells how it stands, inverted is asked for");
    }
}
