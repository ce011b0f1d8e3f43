//! Routes that nobody writes down: those of `routing: static`, and the ways
//! out by switches with `nat`.
//!
//! The shortest way counts, by the number of routers on it; of ways that are
//! equally long the one whose next router comes first by name. Routers get a
//! route to each network that they are not on; other nodes a default route by
//! a router beside them, and more only where that leads nowhere. A route of
//! the file goes before one of these to the same place.
//!
//! Each family is for itself: a node may be a router of one and not of the
//! other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::gateways::{self, Gateway};
use super::names::{InterfaceName, NodeName, SwitchName};
use super::segments::{Place, Segments};
use super::topology::{Dynamic, Lab, Node, Route, Routing};

/// What follows from a lab.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    /// Routes of nodes, without those of the file.
    pub routes: BTreeMap<NodeName, BTreeSet<Route>>,
    /// The machine's own ends.
    pub gateways: BTreeMap<SwitchName, Gateway>,
    /// Its routes to what is behind routers: by which gateway, where to, and by
    /// which of its neighbours.
    pub back: BTreeMap<SwitchName, BTreeSet<(IpNet, IpAddr)>>,
    /// Networks of the lab to which a node has no way, with `routing: static`.
    pub unreached: BTreeSet<(NodeName, IpNet)>,
}

impl Ways {
    /// What no way leads to, a line for each node.
    pub fn notes(&self) -> Vec<String> {
        let mut nets: BTreeMap<&NodeName, Vec<String>> = BTreeMap::new();
        for (node, net) in &self.unreached {
            nets.entry(node).or_default().push(net.to_string());
        }
        let line = |(node, nets): (&NodeName, Vec<String>)| {
            let more = match nets.len().saturating_sub(NAMED_MAX) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named: Vec<&str> = nets.iter().take(NAMED_MAX).map(String::as_str).collect();
            format!("no router leads `{node}` to {}{more}", named.join(", "))
        };
        nets.into_iter().map(line).collect()
    }
}

/// How many networks a note names.
const NAMED_MAX: usize = 4;

/// Works it out.
pub fn ways(lab: &Lab) -> Ways {
    if lab.routing.is_none() && lab.switches.values().all(|switch| switch.nat.is_none()) {
        return Ways::default();
    }
    let segments = Segments::new(lab);
    let gateways = gateways::of(lab, &segments);
    let mut ways = Ways { gateways: gateways.clone(), ..Ways::default() };
    for is_v4 in [true, false] {
        Family::new(lab, &segments, &gateways, is_v4).find(&mut ways);
    }
    ways
}

/// An interface on a network, as its neighbours know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Station<'l> {
    node: &'l NodeName,
    interface: &'l InterfaceName,
    address: IpAddr,
}

/// The next router on some way: how far it is from the end, and who it is.
type Hop<'l> = (usize, &'l NodeName, &'l InterfaceName, IpAddr);

/// How far routers are from something.
type Far<'l> = BTreeMap<&'l NodeName, usize>;

/// A lab, seen by one family.
struct Family<'l> {
    lab: &'l Lab,
    is_v4: bool,
    routers: BTreeSet<&'l NodeName>,
    /// Who is on each network, in each place where there is one of that number.
    subnets: BTreeMap<(&'l Place, IpNet), BTreeSet<Station<'l>>>,
    /// The networks that each node is on.
    on: BTreeMap<&'l NodeName, BTreeSet<(&'l InterfaceName, &'l Place, IpNet)>>,
    /// The machine's own addresses: the place, the network, the address, the switch.
    outside: Vec<(Place, IpNet, IpAddr, &'l SwitchName)>,
}

impl<'l> Family<'l> {
    fn new(
        lab: &'l Lab,
        segments: &'l Segments,
        gateways: &'l BTreeMap<SwitchName, Gateway>,
        is_v4: bool,
    ) -> Self {
        let mut subnets: BTreeMap<_, BTreeSet<Station>> = BTreeMap::new();
        let mut on: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for ((node, interface), place) in &segments.places {
            let addresses = &lab.nodes[node].interfaces[interface].addresses;
            let of_family = |net: &&IpNet| net.addr().is_ipv4() == is_v4;
            for address in addresses.iter().filter(of_family) {
                let net = address.trunc();
                if gateways::is_local(&net) {
                    continue;
                }
                let station = Station { node, interface, address: address.addr() };
                subnets.entry((place, net)).or_default().insert(station);
                on.entry(node).or_default().insert((interface, place, net));
            }
        }
        let mut outside = Vec::new();
        for (switch, gateway) in gateways {
            let addresses = gateway.addresses.iter().filter(|net| net.addr().is_ipv4() == is_v4);
            outside.extend(addresses.map(|net| {
                let place = Place::Segment(segments.roots[switch].clone(), None);
                (place, net.trunc(), net.addr(), switch)
            }));
        }
        let routers = lab.nodes.iter().filter(|(_, node)| forwards(node, is_v4));
        let routers = routers.map(|(name, _)| name).collect();
        Self { lab, is_v4, routers, subnets, on, outside }
    }

    fn find(&self, ways: &mut Ways) {
        let nets: BTreeSet<IpNet> = self.subnets.keys().map(|(_, net)| *net).collect();
        let far: BTreeMap<IpNet, Far> =
            nets.iter().map(|net| (*net, self.far(self.routers_on(net)))).collect();
        self.ways_back(&far, ways);
        let beside: BTreeSet<&NodeName> =
            self.routers.iter().filter(|node| self.exit(node).is_some()).copied().collect();
        let out = self.far(beside);
        for (name, node) in &self.lab.nodes {
            let (routes, unreached) = match self.lab.routing {
                Some(Routing::Static) => self.routes(name, node, &far, &out),
                None => {
                    (self.exit(name).map(|exit| self.default(exit)).into_iter().collect(), vec![])
                }
            };
            let said: BTreeSet<IpNet> = node.routes.iter().map(|route| route.to).collect();
            let given = self.is_given_default(node);
            let goes =
                |route: &Route| said.contains(&route.to) || (given && route.to.prefix_len() == 0);
            let routes: Vec<_> = routes.into_iter().filter(|route| !goes(route)).collect();
            if !routes.is_empty() {
                ways.routes.entry(name.clone()).or_default().extend(routes);
            }
            let unsaid =
                unreached.into_iter().filter(|net| !said.iter().any(|to| to.contains(net)));
            ways.unreached.extend(unsaid.map(|net| (name.clone(), net)));
        }
    }

    /// The routes of a node, and what none of them leads to.
    fn routes(
        &self,
        name: &'l NodeName,
        node: &Node,
        far: &BTreeMap<IpNet, Far<'l>>,
        out: &Far<'l>,
    ) -> (Vec<Route>, Vec<IpNet>) {
        let (mut routes, mut unreached) = (Vec::new(), Vec::new());
        let own: BTreeSet<IpNet> =
            self.on.get(name).into_iter().flatten().map(|(_, _, net)| *net).collect();
        if own.is_empty() {
            return (routes, unreached);
        }
        let mut by_default = None;
        if let Some(exit) = self.exit(name) {
            routes.push(self.default(exit));
        } else if let Some(hop) = self.next(name, out) {
            by_default = Some(hop.1);
            routes.push(self.default((hop.2, hop.3)));
        } else if !self.routers.contains(name) {
            // Any router beside it: those that share a network know each other.
            let any = self.routers.iter().map(|router| (*router, 0)).collect();
            if let Some(hop) = self.next(name, &any) {
                by_default = Some(hop.1);
                routes.push(self.default((hop.2, hop.3)));
            }
        }
        // Not its own business, if somebody else says where everything goes.
        let own_default = node.routes.iter().any(|r| r.to == self.everything());
        if own_default || self.is_given_default(node) || self.routers.contains(name) {
            by_default = None;
        }
        for (net, far) in far.iter().filter(|(net, _)| !own.contains(net)) {
            if by_default.is_some_and(|router| far.contains_key(router)) {
                continue;
            }
            match self.next(name, far) {
                Some((_, _, interface, via)) => routes.push(self.route(*net, interface, via)),
                None if own_default => {}
                None => unreached.push(*net),
            }
        }
        (routes, unreached)
    }

    /// The machine's routes to networks that it is not on itself.
    fn ways_back(&self, far: &BTreeMap<IpNet, Far<'l>>, ways: &mut Ways) {
        let is_on = |net: &IpNet| self.outside.iter().any(|(_, own, ..)| own == net);
        for (net, far) in far.iter().filter(|(net, _)| !is_on(net)) {
            let hops = self.outside.iter().flat_map(|(place, own, _, switch)| {
                let stations = self.subnets.get(&(place, *own)).into_iter().flatten();
                stations.filter_map(|station| {
                    Some((*far.get(station.node)?, station.node, station.address, *switch))
                })
            });
            if let Some((_, _, via, switch)) = hops.min() {
                ways.back.entry(switch.clone()).or_default().insert((*net, via));
            }
        }
    }

    /// By which interface, and which address of the machine's, a node is out
    /// at once. Not one that is adopted: its ways are its owner's.
    fn exit(&self, node: &NodeName) -> Option<(&'l InterfaceName, IpAddr)> {
        if self.lab.nodes[node].adopt.is_some() {
            return None;
        }
        let exits = self.on.get(node).into_iter().flatten().flat_map(|(interface, place, net)| {
            let at = self.outside.iter().filter(move |(p, n, ..)| p == *place && n == net);
            at.map(|(_, _, address, _)| (*interface, *address))
        });
        exits.min()
    }

    /// The router beside a node that is least far from something.
    fn next(&self, node: &NodeName, far: &Far<'l>) -> Option<Hop<'l>> {
        let subnets = self.on.get(node).into_iter().flatten();
        let hops = subnets.flat_map(|(interface, place, net)| {
            let others = self.subnets[&(*place, *net)].iter().filter(|at| at.node != node);
            others.filter_map(|at| Some((*far.get(at.node)?, at.node, *interface, at.address)))
        });
        hops.min()
    }

    /// The routers that are on a network of that number.
    fn routers_on(&self, net: &IpNet) -> BTreeSet<&'l NodeName> {
        let on = self.subnets.iter().filter(|((_, it), _)| it == net);
        let nodes = on.flat_map(|(_, stations)| stations).map(|station| station.node);
        nodes.filter(|node| self.routers.contains(node)).collect()
    }

    /// How far each router is from the nearest of `from`.
    fn far(&self, from: BTreeSet<&'l NodeName>) -> Far<'l> {
        let mut queue: VecDeque<&NodeName> = from.iter().copied().collect();
        let mut far: Far = from.into_iter().map(|node| (node, 0)).collect();
        let mut seen = BTreeSet::new();
        while let Some(here) = queue.pop_front() {
            let next = far[here] + 1;
            for (_, place, net) in self.on.get(here).into_iter().flatten() {
                if !seen.insert((place, net)) {
                    continue;
                }
                for there in &self.subnets[&(*place, *net)] {
                    if self.routers.contains(there.node) && !far.contains_key(there.node) {
                        far.insert(there.node, next);
                        queue.push_back(there.node);
                    }
                }
            }
        }
        far
    }

    /// Whether somebody outside tells the node its default route.
    fn is_given_default(&self, node: &Node) -> bool {
        let giver = if self.is_v4 { Dynamic::Dhcp } else { Dynamic::Slaac };
        node.interfaces.values().any(|interface| interface.dynamic.contains(&giver))
    }

    fn everything(&self) -> IpNet {
        match self.is_v4 {
            true => Ipv4Net::default().into(),
            false => Ipv6Net::default().into(),
        }
    }

    fn default(&self, (interface, via): (&InterfaceName, IpAddr)) -> Route {
        self.route(self.everything(), interface, via)
    }

    fn route(&self, to: IpNet, interface: &InterfaceName, via: IpAddr) -> Route {
        Route { to, via: Some(via), interface: Some(interface.clone()), metric: None }
    }
}

/// Whether a node is a router of a family.
fn forwards(node: &Node, is_v4: bool) -> bool {
    let keys: &[&str] = match is_v4 {
        true => &["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"],
        false => &["net.ipv6.conf.all.forwarding"],
    };
    keys.iter().any(|key| node.sysctls.get(*key).is_some_and(|value| value == "1"))
}
