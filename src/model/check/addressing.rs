//! Which addresses there are: those of the file, and those that are given.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Draft, EndDraft, IPV6_MTU_MIN, InterfaceDraft};
use crate::model::addresses::{self, Host, Place};
use crate::model::loops::Sets;
use crate::model::names::{IfName, InterfaceName};
use crate::model::problem::{At, Position};
use crate::model::topology::{Dynamic, Link};

/// What addresses are given to.
struct Network {
    places: Vec<Place>,
    hosts: Vec<Host>,
    /// The node and the interface of each host.
    owners: Vec<Option<(usize, InterfaceName)>>,
}

impl<'s> Draft<'s, '_> {
    /// Prefixes that overlap would give one address twice.
    pub(super) fn check_prefixes(&mut self) {
        let lists = self.spec.switches.iter().map(|(_, switch)| &switch.prefixes);
        for list in lists.chain(&self.spec.prefixes) {
            let mut nets: Vec<_> = list.iter().collect();
            // Right before what it holds.
            nets.sort_by_key(|net| (net.value.network(), net.value.prefix_len()));
            for pair in nets.windows(2) {
                if pair[0].value.contains(&pair[1].value) {
                    let message = format!("`{}` lies in `{}`", pair[1].value, pair[0].value);
                    self.found.add(pair[1].at, message);
                }
            }
        }
    }

    fn mtu(&self, interface: &InterfaceDraft) -> u32 {
        let mtu = interface.link.and_then(|link| self.links[link].spec.mtu);
        let tunnels = self.switches.iter().any(|switch| !switch.spec.tunnels.is_empty());
        mtu.unwrap_or(if tunnels { Link::MTU_IN_TUNNELS } else { Link::MTU_DEFAULT })
    }

    /// Checks the addresses that the file gives.
    pub(super) fn check_addresses(&mut self) {
        let mut first: HashMap<IpAddr, (String, Position)> = HashMap::new();
        let mut told = HashSet::new();
        for node in &self.nodes {
            for (name, interface) in &node.interfaces {
                let mtu = self.mtu(interface);
                let slaac = interface.dynamic().find(|word| word.value == Dynamic::Slaac);
                if let Some(At { at, .. }) = slaac.filter(|_| mtu < IPV6_MTU_MIN) {
                    self.found
                        .add(*at, format!("`slaac` on a link with an MTU of {mtu}"))
                        .hint(format!("IPv6 needs an `mtu` of {IPV6_MTU_MIN} at least"));
                }
                for At { at, value: net } in interface.explicit().into_iter().flatten() {
                    let ip = net.addr();
                    if ip.is_ipv6() && mtu < IPV6_MTU_MIN && told.insert(*at) {
                        self.found
                            .add(*at, format!("`{net}` on a link with an MTU of {mtu}"))
                            .hint(format!("IPv6 needs an `mtu` of {IPV6_MTU_MIN} at least"));
                    }
                    let full = format!("{}:{name}", node.name);
                    let Some((other, place)) = first.get(&ip) else {
                        first.insert(ip, (full, *at));
                        continue;
                    };
                    if !told.insert(*at) {
                        continue;
                    }
                    let problem = match place == at {
                        true => format!("`{ip}` would be the address of `{other}` and of `{full}`"),
                        false => format!("`{ip}` is the address of `{other}` already, at {place}"),
                    };
                    let problem = self.found.add(*at, problem);
                    if place == at {
                        problem.hint("leave `addresses` out, and each gets one of its own");
                    }
                }
            }
        }
    }

    /// Puts together who shares a network, and gives addresses to those that
    /// name none.
    pub(super) fn give_addresses(&mut self) {
        let Network { places, hosts, owners } = self.network();
        let lab = match &self.spec.prefixes {
            Some(prefixes) => values(prefixes),
            None => addresses::default_prefixes().into(),
        };
        let given = addresses::give(&lab, &places, &hosts, self.found);
        for ((host, owner), given) in hosts.into_iter().zip(owners).zip(given) {
            let Some((node, name)) = owner else { continue };
            let interface = self.nodes[node].interfaces.get_mut(&name);
            let interface = interface.expect("every named end has its interface");
            interface.addresses.extend(host.explicit.unwrap_or(given));
        }
    }

    /// The places and hosts of all links that have both their ends.
    fn network(&self) -> Network {
        let mut segments = Sets::new(self.switches.len());
        for link in &self.links {
            if let [Some(a), Some(b)] = &link.ends
                && let (EndDraft::Switch(a), EndDraft::Switch(b)) = (&a.value, &b.value)
            {
                segments.join(*a, *b);
            }
        }
        let mut prefixes: HashMap<usize, Vec<IpNet>> = HashMap::new();
        for (number, switch) in self.switches.iter().enumerate() {
            let nets = switch.spec.prefixes.iter().map(|net| net.value);
            prefixes.entry(segments.root(number)).or_default().extend(nets);
        }
        let mut gateways: HashMap<usize, Vec<IpNet>> = HashMap::new();
        for (number, switch) in self.switches.iter().enumerate() {
            let nets = switch.spec.gateway.iter().map(|net| net.value);
            gateways.entry(segments.root(number)).or_default().extend(nets);
        }
        let (mut places, mut hosts, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let mut of_segment: HashMap<usize, usize> = HashMap::new();
        let mut of_nic: HashMap<&IfName, usize> = HashMap::new();
        for link in self.links.iter().filter(|link| link.ends.iter().all(Option::is_some)) {
            let switch = link.ends.iter().flatten().find_map(|end| match end.value {
                EndDraft::Switch(switch) => Some(switch),
                EndDraft::Node(..) | EndDraft::Nic(..) => None,
            });
            let nic = link.ends.iter().flatten().find_map(|end| match &end.value {
                EndDraft::Nic(nic, _) => Some(nic),
                EndDraft::Node(..) | EndDraft::Switch(_) => None,
            });
            let mut place = match nic {
                Some(nic) => of_nic.get(nic).copied(),
                None => switch.and_then(|s| of_segment.get(&segments.root(s)).copied()),
            };
            for end in link.ends.iter().flatten() {
                let EndDraft::Node(node, Some(name)) = &end.value else { continue };
                let full = format!("{}:{name}", self.nodes[*node].name);
                let place = *place.get_or_insert_with(|| {
                    let root = switch.map(|switch| segments.root(switch));
                    if let Some(root) = root {
                        of_segment.insert(root, places.len());
                    }
                    if let Some(nic) = nic {
                        of_nic.insert(nic, places.len());
                    }
                    places.push(Place {
                        name: match (root, nic) {
                            (Some(root), _) => {
                                format!("the segment of `{}`", self.switches[root].name)
                            }
                            (None, Some(nic)) => format!("the network of NIC `{nic}`"),
                            (None, None) => format!("the cable of `{full}`"),
                        },
                        at: link.at,
                        cable: root.is_none() && nic.is_none(),
                        prefixes: root.and_then(|root| prefixes.remove(&root)).unwrap_or_default(),
                    });
                    // This machine is there first, and what its addresses are is
                    // where the others get theirs from.
                    let gateways = root.and_then(|root| gateways.remove(&root));
                    if let Some(gateways) = gateways.filter(|gateways| !gateways.is_empty()) {
                        hosts.push(Host {
                            name: "this machine".to_owned(),
                            place: places.len() - 1,
                            explicit: Some(gateways),
                            ipv6_fits: true,
                        });
                        owners.push(None);
                    }
                    places.len() - 1
                });
                let interface = &self.nodes[*node].interfaces[name];
                let explicit = interface.explicit();
                hosts.push(Host {
                    name: full,
                    place,
                    explicit: explicit.map(|nets| nets.iter().map(|net| net.value).collect()),
                    ipv6_fits: IPV6_MTU_MIN <= self.mtu(interface),
                });
                owners.push(Some((*node, name.clone())));
            }
        }
        Network { places, hosts, owners }
    }
}

/// Values without where the file says them.
pub(super) fn values(nets: &[At<IpNet>]) -> Vec<IpNet> {
    nets.iter().map(|net| net.value).collect()
}
