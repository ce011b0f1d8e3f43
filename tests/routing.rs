//! Routes that nobody writes: followed from node to node, over many labs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ovsns::model::file::{read, to_file};
use ovsns::model::names::NodeName;
use ovsns::model::routing::ways;
use ovsns::model::topology::{Backend, Lab, Route};
use ovsns::plan::Wanted;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

fn lab(text: &str) -> Lab {
    read(text.as_bytes(), "lab.yaml", Some("lab")).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The routes of a lab in lines, those of the file left out.
fn shown(lab: &Lab) -> String {
    let ways = ways(lab);
    let mut lines = Vec::new();
    for (node, routes) in &ways.routes {
        lines.extend(routes.iter().map(|route| {
            let (via, interface) = (route.via.expect("a router"), route.interface.as_ref());
            format!("{node}: {} via {via} dev {}", route.to, interface.expect("its interface"))
        }));
    }
    for (switch, back) in &ways.back {
        let addresses: Vec<_> =
            ways.gateways[switch].addresses.iter().map(ToString::to_string).collect();
        lines.push(format!("machine on {switch}: {}", addresses.join(" ")));
        lines.extend(back.iter().map(|(to, via)| format!("machine on {switch}: {to} via {via}")));
    }
    lines.extend(ways.notes());
    lines.join("\n")
}

#[test]
fn ways_out_through_the_machine() {
    insta::assert_snapshot!(shown(&lab(include_str!("../examples/nat.yaml"))));
}

/// h1 -- r1 -- r2 -- r3 -- h2, by cables.
const LINE: &str = "
routing: static
nodes:
  r[1-3]: { forwarding: true }
  h[1-2]: {}
links:
  - endpoints: [h1, r1]
  - endpoints: [r1, r2]
  - endpoints: [r2, r3]
  - endpoints: [r3, h2]
";

#[test]
fn a_line_of_routers() {
    insta::assert_snapshot!(shown(&lab(LINE)));
}

/// Of the two ways around it is the one by the router that comes first by name.
#[test]
fn a_ring_of_routers() {
    insta::assert_snapshot!(shown(&lab("
routing: static
prefixes: [10.0.0.0/8]
nodes: { 'r[1-4]': { forwarding: true } }
links:
  - endpoints: [r1, r2]
  - endpoints: [r2, r3]
  - endpoints: [r3, r4]
  - endpoints: [r4, r1]
")));
}

/// The file's own routes go before, also a default route; a family in which a
/// node does not forward has no router in it.
#[test]
fn what_the_file_says_goes_before() {
    insta::assert_snapshot!(shown(&lab("
routing: static
nodes:
  r1: { forwarding: true }
  r2: { sysctls: { net.ipv4.ip_forward: 1 } }
  h1: { routes: [{ to: 0.0.0.0/0, interface: eth0 }] }
  h2:
    interfaces: { eth0: { addresses: [10.9.0.2/24, 'fd09::2/64'] } }
    routes: [{ to: 10.128.0.0/30, interface: eth0, metric: 7 }]
  alone: {}
links:
  - endpoints: [h1, r1]
  - endpoints: [r1, r2]
  - endpoints: [h2, r2]
switches: { s: {} }
")));
}

/// The routes are the lab's as long as it says so, and never the file's.
#[test]
fn they_are_not_written_down() {
    let lab = lab(LINE);
    let file = to_file(&lab);
    assert_eq!(file["routing"], "static");
    assert_eq!(file["nodes"]["r1"]["routes"], json!([]));
    let without = LINE.replace("routing: static\n", "");
    let routes = |lab: &Lab| -> usize {
        Wanted::new(lab, Backend::Linux).nodes.values().map(|node| node.routes.len()).sum()
    };
    assert_eq!(routes(&self::lab(&without)), 0);
    assert_ne!(routes(&lab), 0);
}

/// Labs of routers and other nodes, on cables and switches.
fn file() -> impl Strategy<Value = Json> {
    let link = (0..16usize, 0..16usize);
    (1..6usize, 0..5usize, 0..4usize, prop::collection::vec(link, 0..14), any::<bool>()).prop_map(
        |(routers, hosts, switches, links, names)| {
            let mut nodes = Map::new();
            // So that routers do not always come first by name.
            let router = |i: usize| if names { format!("z{i}") } else { format!("a{i}") };
            for i in 0..routers {
                nodes.insert(router(i), json!({ "forwarding": true }));
            }
            for i in 0..hosts {
                nodes.insert(format!("h{i}"), json!({}));
            }
            let bridges: Map<_, _> =
                (0..switches).map(|i| (format!("s{i}"), json!({ "stp": true }))).collect();
            let all = routers + hosts + switches;
            let name = |i: usize| match i % all {
                i if i < routers => router(i),
                i if i < routers + hosts => format!("h{}", i - routers),
                i => format!("s{}", i - routers - hosts),
            };
            let links = links.into_iter().filter(|_| 1 < all).map(|(a, b)| {
                let b = a + 1 + b % (all - 1);
                json!({ "endpoints": [name(a), name(b)] })
            });
            json!({
                "routing": "static", "nodes": nodes, "switches": bridges,
                "links": links.collect::<Vec<_>>(),
            })
        },
    )
}

proptest! {
    /// Everybody reaches everybody that a way leads to, by the tables alone and
    /// without a circle; and whom nobody leads to is told.
    #[test]
    fn tables_lead_where_there_is_a_way(file in file()) {
        let text = serde_json::to_vec(&file).expect("JSON");
        // Parallel links between two switches are a loop, and no lab.
        let Ok(lab) = read(&text, "file", Some("lab")) else { return Ok(()) };
        let net = Network::new(&lab);
        let unreached = ways(&lab).unreached;
        for (from, node) in &lab.nodes {
            if node.interfaces.is_empty() { continue }
            for (to, far) in &lab.nodes {
                for address in far.interfaces.values().flat_map(|i| &i.addresses) {
                    if from == to { continue }
                    let told = unreached.contains(&(from.clone(), address.trunc()));
                    let is_near = net.near(from, &address.trunc());
                    let way = net.follow(from, address);
                    let length = net.shortest(from, &address.trunc());
                    prop_assert_eq!(way.is_ok(), length.is_some() || is_near, "{} to {}: {:?}", from, address, way);
                    prop_assert_eq!(told, way.is_err(), "{} to {}", from, address);
                    if net.routers.contains(from) && let (Ok(hops), Some(length)) = (way, length) {
                        prop_assert_eq!(hops, length, "{} to {}", from, address);
                    }
                }
            }
        }
    }
}

/// A lab as packets see it, worked out by other means than those of the model.
struct Network<'l> {
    lab: &'l Lab,
    routes: BTreeMap<NodeName, BTreeSet<Route>>,
    routers: BTreeSet<NodeName>,
}

impl<'l> Network<'l> {
    fn new(lab: &'l Lab) -> Self {
        let forwards = |n: &NodeName| lab.nodes[n].sysctls.contains_key("net.ipv4.ip_forward");
        let routers = lab.nodes.keys().filter(|node| forwards(node)).cloned().collect();
        Self { lab, routes: ways(lab).routes, routers }
    }

    fn nets(&self, node: &NodeName) -> BTreeSet<IpNet> {
        let interfaces = self.lab.nodes[node].interfaces.values();
        interfaces.flat_map(|i| &i.addresses).map(IpNet::trunc).collect()
    }

    fn near(&self, node: &NodeName, net: &IpNet) -> bool {
        self.nets(node).contains(net)
    }

    fn owner(&self, address: IpAddr) -> Option<&NodeName> {
        let has = |node: &NodeName| {
            let interfaces = self.lab.nodes[node].interfaces.values();
            interfaces.flat_map(|i| &i.addresses).any(|net| net.addr() == address)
        };
        self.lab.nodes.keys().find(|node| has(node))
    }

    /// How many routers a packet passes, or where it is lost.
    fn follow(&self, from: &NodeName, to: &IpNet) -> Result<usize, String> {
        let mut here = from;
        for hops in 0..=self.lab.nodes.len() {
            if self.near(here, &to.trunc()) {
                return Ok(hops);
            }
            if here != from && !self.routers.contains(here) {
                return Err(format!("{here} does not forward"));
            }
            let routes = self.routes.get(here).into_iter().flatten();
            let fits = routes.filter(|route| route.to.contains(&to.addr()));
            let best = fits.max_by_key(|route| route.to.prefix_len());
            let best = best.ok_or_else(|| format!("{here} has no route"))?;
            let via = best.via.expect("by a router");
            assert!(self.nets(here).iter().any(|net| net.contains(&via)), "{via} beside {here}");
            here = self.owner(via).ok_or_else(|| format!("{here} sends it out"))?;
        }
        Err("in a circle".to_owned())
    }

    /// The same by looking everywhere.
    fn shortest(&self, from: &NodeName, net: &IpNet) -> Option<usize> {
        let (mut reached, mut edge) = (BTreeSet::new(), self.nets(from));
        for hops in 0..=self.lab.nodes.len() {
            if edge.contains(net) {
                return Some(hops);
            }
            reached.extend(edge.iter().copied());
            let next =
                self.routers.iter().filter(|r| self.nets(r).iter().any(|n| edge.contains(n)));
            edge = next.flat_map(|r| self.nets(r)).filter(|net| !reached.contains(net)).collect();
        }
        None
    }
}
