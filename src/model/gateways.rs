//! The machine's own end on switches with `nat`: the addresses by which nodes
//! find the way out.
//!
//! On each network of the segment it is what the file says, or the highest
//! address that is free, of the first 65536 where there are more: nodes get
//! theirs from the lowest on, so a node that is added moves nobody.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::names::SwitchName;
use super::segments::{Place, Segments};
use super::topology::Lab;

/// The machine on one switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its addresses there, with the lengths of their prefixes.
    pub addresses: BTreeSet<IpNet>,
    /// Networks of the segment in which no address is free.
    pub full: BTreeSet<IpNet>,
}

/// The gateways of a lab, by the switch that has `nat`.
pub fn of(lab: &Lab, segments: &Segments) -> BTreeMap<SwitchName, Gateway> {
    if lab.switches.values().all(|switch| switch.nat.is_none()) {
        return BTreeMap::new();
    }
    let interfaces = lab.nodes.values().flat_map(|node| node.interfaces.values());
    let taken: HashSet<IpAddr> =
        interfaces.flat_map(|i| &i.addresses).map(|net| net.addr()).collect();
    let mut gateways = BTreeMap::new();
    for (name, switch) in &lab.switches {
        let Some(nat) = switch.nat else { continue };
        let place = Place::Segment(segments.roots[name].clone(), None);
        let mut nets: BTreeSet<IpNet> = BTreeSet::new();
        for ((node, interface), _) in segments.places.iter().filter(|(_, at)| **at == place) {
            let addresses = &lab.nodes[node].interfaces[interface].addresses;
            nets.extend(addresses.iter().map(IpNet::trunc));
        }
        let mut gateway = Gateway { addresses: switch.gateway.clone(), full: BTreeSet::new() };
        let said = |net: &IpNet| switch.gateway.iter().any(|said| net.contains(&said.addr()));
        for net in nets.into_iter().filter(|net| nat.takes(net) && !is_local(net) && !said(net)) {
            match highest_free(&net, &taken) {
                Some(address) => gateway.addresses.insert(address),
                None => gateway.full.insert(net),
            };
        }
        gateways.insert(name.clone(), gateway);
    }
    gateways
}

/// Whether a network is there on every link, and no way leads to it.
pub(super) fn is_local(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.addr().is_link_local(),
        IpNet::V6(net) => net.addr().is_unicast_link_local(),
    }
}

fn highest_free(net: &IpNet, taken: &HashSet<IpAddr>) -> Option<IpNet> {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len()).min(16);
    let free = |number: &u32| {
        let address = nth(net, *number);
        (!taken.contains(&address)).then(|| IpNet::new(address, net.prefix_len()).ok()).flatten()
    };
    // The first is the network's, and the last of IPv4 the broadcast address.
    (1..(1u32 << bits) - 1).rev().find_map(|number| free(&number))
}

fn nth(net: &IpNet, number: u32) -> IpAddr {
    match net {
        IpNet::V4(net) => IpAddr::V4((u32::from(net.network()) | number).into()),
        IpNet::V6(net) => IpAddr::V6((u128::from(net.network()) | u128::from(number)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_that_is_free() {
        check("10.1.0.0/16", "", "10.1.255.254/16");
        check("10.0.0.0/8", "", "10.0.255.254/8");
        check("192.168.7.0/24", "192.168.7.254 192.168.7.253", "192.168.7.252/24");
        check("192.168.7.0/30", "192.168.7.1", "192.168.7.2/30");
        check("192.168.7.0/30", "192.168.7.1 192.168.7.2", "-");
        check("192.168.7.0/31", "", "-");
        check("192.168.7.1/32", "", "-");
        check("fd00::/64", "", "fd00::fffe/64");
        check("fd00::/127", "", "-");

        #[track_caller]
        fn check(net: &str, taken: &str, expected: &str) {
            let net: IpNet = net.parse().expect("a network");
            let taken = taken.split_whitespace().map(|ip| ip.parse().expect("an address"));
            let found = highest_free(&net, &taken.collect());
            assert_eq!(found.map_or("-".to_owned(), |net| net.to_string()), expected, "{net}");
        }
    }
}
