//! From what a file says to a lab that makes sense, or to every reason why
//! it does not.
//!
//! The order is that of building: names, links, interfaces, addresses,
//! routes. A step whose ground is known to be broken keeps silent, so that
//! one mistake is told once.

mod addressing;
mod circles;
mod ends;
mod nodes;
mod switches;
mod uplinks;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ipnet::IpNet;

use self::addressing::values;
use self::switches::{bond_of, port};
use super::adopt;
use super::impair;
use super::laid;
use super::names::{BadName, IfName, InterfaceName, LabName, NodeName, SwitchName};
use super::problem::{At, Found, Position};
use super::spec::{InterfaceSpec, LabSpec, LinkSpec, NodeSpec, SwitchSpec};
use super::topology::{End, Interface, Lab, Link, Macvlan, Node, Share};

/// How many nodes, switches and links a lab may have: far more than a machine
/// bears, and few enough that `h[1-999999999]` is answered at once.
pub(super) const THINGS_MAX: u64 = 100_000;

/// The least MTU with which the kernel lets IPv6 work (RFC 8200, section 5).
const IPV6_MTU_MIN: u32 = 1280;

/// Returns the lab that `spec` describes, unless there is a problem, now or
/// already in `found`.
pub(super) fn lab(spec: &LabSpec, name: LabName, found: &mut Found) -> Option<Lab> {
    let mut draft = Draft {
        spec,
        found,
        left: THINGS_MAX,
        things: HashMap::new(),
        switches: Vec::new(),
        nodes: Vec::new(),
        links: Vec::new(),
        names_unsure: spec.names_unsure,
        links_unsure: spec.links_unsure,
    };
    draft.name_switches().ok()?;
    draft.name_nodes().ok()?;
    draft.find_ends().ok()?;
    draft.find_ends_of_nics().ok()?;
    draft.check_nics();
    draft.name_interfaces();
    draft.check_loops();
    draft.check_prefixes();
    draft.check_addresses();
    draft.give_addresses();
    let lab = draft.build(name);
    draft.check_devices_and_macs(&lab);
    (draft.found.count() == 0).then_some(lab)
}

/// There are more things than are looked at; it has been said.
struct TooMany;

/// What a name at the end of a link stands for.
#[derive(Debug, Clone, Copy)]
enum Named {
    Switch(usize),
    Node(usize),
    /// A name that cannot be one; it has been said.
    Bad,
}

struct SwitchDraft<'s> {
    name: SwitchName,
    at: Position,
    spec: &'s SwitchSpec,
}

struct NodeDraft<'s> {
    name: NodeName,
    at: Position,
    spec: &'s NodeSpec,
    interfaces: BTreeMap<InterfaceName, InterfaceDraft<'s>>,
    /// Every `ethN` (`labN` where the node is adopted) below this one is on a link.
    next_eth: usize,
}

struct InterfaceDraft<'s> {
    at: Position,
    spec: Option<&'s InterfaceSpec>,
    /// The link it is on, by number.
    link: Option<usize>,
    addresses: BTreeSet<IpNet>,
}

/// One link, its ranges expanded.
struct LinkDraft<'s> {
    at: Position,
    spec: &'s LinkSpec,
    /// `None` is an end that is a problem already.
    ends: [Option<At<EndDraft>>; 2],
}

#[derive(Debug, Clone)]
enum EndDraft {
    Switch(usize),
    /// The interface is `None` only until `name_interfaces`.
    Node(usize, Option<InterfaceName>),
    /// A NIC of the machine, and whether it goes into the node itself.
    Nic(IfName, NicEnd),
}

/// The words before the name of a NIC at the end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NicEnd {
    /// `macvlan:eth0`
    Child,
    /// `nic:eth0`
    Itself,
}

impl NicEnd {
    /// What the first half of an end says, unless something of the lab is
    /// called so.
    fn of(word: &str) -> Option<Self> {
        match word {
            "macvlan" => Some(Self::Child),
            "nic" => Some(Self::Itself),
            _ => None,
        }
    }
}

struct Draft<'s, 'f> {
    spec: &'s LabSpec,
    found: &'f mut Found,
    /// How many more things there may be.
    left: u64,
    things: HashMap<String, Named>,
    switches: Vec<SwitchDraft<'s>>,
    nodes: Vec<NodeDraft<'s>>,
    links: Vec<LinkDraft<'s>>,
    names_unsure: bool,
    links_unsure: bool,
}

impl<'s> Draft<'s, '_> {
    /// Counts `count` more things that are written at `at`.
    fn spend(&mut self, count: u64, at: Position) -> Result<(), TooMany> {
        match self.left.checked_sub(count) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                let message = format!("more than {THINGS_MAX} nodes, switches and links");
                self.found.add(at, message);
                Err(TooMany)
            }
        }
    }

    fn name_switches(&mut self) -> Result<(), TooMany> {
        for (pattern, spec) in &self.spec.switches {
            self.spend(pattern.value.count(), pattern.at)?;
            let mut told = false;
            for text in pattern.value.names() {
                let named = match SwitchName::new(&text) {
                    Ok(name) => {
                        self.switches.push(SwitchDraft { name, at: pattern.at, spec });
                        Ok(Named::Switch(self.switches.len() - 1))
                    }
                    Err(bad) => Err(bad),
                };
                self.register(text, pattern.at, named, &mut told);
            }
        }
        Ok(())
    }

    fn name_nodes(&mut self) -> Result<(), TooMany> {
        for (pattern, spec) in &self.spec.nodes {
            self.spend(pattern.value.count(), pattern.at)?;
            let mut told = false;
            for text in pattern.value.names() {
                let named = match NodeName::new(&text) {
                    Ok(name) => {
                        self.nodes.push(NodeDraft::new(name, pattern.at, spec));
                        Ok(Named::Node(self.nodes.len() - 1))
                    }
                    Err(bad) => Err(bad),
                };
                self.register(text, pattern.at, named, &mut told);
            }
        }
        Ok(())
    }

    /// Makes a name known. Of the many names of one range only the first
    /// that is wrong is told.
    fn register(
        &mut self,
        text: String,
        at: Position,
        named: Result<Named, BadName>,
        told: &mut bool,
    ) {
        let problem = match (&named, self.things.get(&text)) {
            (Err(bad), _) => Some(bad.to_string()),
            (Ok(_), None) => None,
            (Ok(_), Some(Named::Bad)) => None,
            (Ok(Named::Node(_)), Some(Named::Node(first))) => Some(format!(
                "`{text}` is here a second time; the first is at {}",
                self.nodes[*first].at
            )),
            (Ok(_), Some(Named::Switch(first))) if matches!(named, Ok(Named::Switch(_))) => {
                Some(format!(
                    "`{text}` is here a second time; the first is at {}",
                    self.switches[*first].at
                ))
            }
            (Ok(_), Some(_)) => Some(format!("`{text}` is a switch and a node")),
        };
        if let Some(problem) = problem
            && !std::mem::replace(told, true)
        {
            let is_bad = named.is_err();
            let problem = self.found.add(at, problem);
            if !is_bad {
                problem.hint("nodes and switches share their names; call one of them otherwise");
            }
        }
        self.things.entry(text).or_insert(named.unwrap_or(Named::Bad));
    }

    /// Gives each end at a node its interface: first those that are named,
    /// then the next free ones to those that are not.
    fn name_interfaces(&mut self) {
        let mut told = HashSet::new();
        for (number, link) in self.links.iter().enumerate() {
            for end in link.ends.iter().flatten() {
                let EndDraft::Node(node, Some(name)) = &end.value else { continue };
                let node = &mut self.nodes[*node];
                let interface = node.interfaces.entry(name.clone());
                let interface = interface.or_insert_with(|| InterfaceDraft::new(end.at, None));
                let Some(first) = interface.link.replace(number) else { continue };
                if !told.insert(end.at) {
                    continue;
                }
                let first = self.links[first].at;
                let message = match first == link.at {
                    true => format!("`{}:{name}` is at the end of more than one link", node.name),
                    false => format!(
                        "`{}:{name}` is at the end of a second link; the first is at {first}",
                        node.name
                    ),
                };
                self.found
                    .add(end.at, message)
                    .hint(format!("write `{}` alone for its next free interface", node.name));
            }
        }
        for (number, link) in self.links.iter_mut().enumerate() {
            for end in link.ends.iter_mut().flatten() {
                if let EndDraft::Node(node, interface @ None) = &mut end.value {
                    *interface = Some(self.nodes[*node].next_free(end.at, number));
                }
            }
        }
        if self.links_unsure {
            return;
        }
        for node in &self.nodes {
            for (name, interface) in node.interfaces.iter().filter(|(_, i)| i.link.is_none()) {
                if told.insert(interface.at) {
                    let full = format!("{}:{name}", node.name);
                    self.found
                        .add(interface.at, format!("`{full}` is on no link"))
                        .hint(format!("add `- endpoints: [{full}, SWITCH]` under `links`"));
                }
            }
        }
    }

    fn build(&mut self, name: LabName) -> Lab {
        let sound = self.found.count() == 0;
        let mut nodes = BTreeMap::new();
        for node in &self.nodes {
            let interface = |(name, interface): (&InterfaceName, &InterfaceDraft)| {
                let mac = interface.spec.and_then(|spec| spec.mac).map(|mac| mac.value);
                let dynamic = interface.dynamic().map(|word| word.value).collect();
                (name.clone(), Interface { mac, addresses: interface.addresses.clone(), dynamic })
            };
            let built = Node {
                interfaces: node.interfaces.iter().map(interface).collect(),
                routes: node.routes(sound, self.found),
                sysctls: node.sysctls(self.found),
                sealed: node.spec.sealed.and_then(|sealed| sealed.value),
                adopt: adopt::adopted(node.spec, self.found),
                life: node.life(self.found),
            };
            nodes.insert(node.name.clone(), built);
        }
        let all = nodes.values().flat_map(|node: &Node| node.life.files.values());
        laid::check_all(all, Position::NOWHERE, self.found);
        let links = self.build_links();
        let mut switches = BTreeMap::new();
        for switch in &self.switches {
            switches.insert(switch.name.clone(), switch.build(&links, self.found));
        }
        let prefixes = self.spec.prefixes.as_deref().map(values);
        let uplinks = self.uplinks();
        let routing = self.spec.routing;
        let cuts = self.cuts();
        let hosts = self.spec.hosts;
        let lab = Lab { cuts, name, switches, nodes, links, uplinks, prefixes, routing, hosts };
        let switches = self.switches.iter().map(|draft| (&draft.name, draft.spec));
        crate::model::exits::check(&lab, switches, self.found);
        lab
    }

    fn build_links(&mut self) -> Vec<Link> {
        let mut parallels: HashMap<[usize; 2], u32> = HashMap::new();
        let mut named = BTreeMap::new();
        let mut links = Vec::with_capacity(self.links.len());
        for link in &self.links {
            let [Some(a), Some(b)] = &link.ends else { continue };
            let parallel = match (&a.value, &b.value) {
                (EndDraft::Switch(a), EndDraft::Switch(b)) => {
                    let parallel = parallels.entry([*a.min(b), *a.max(b)]).or_default();
                    *parallel += 1;
                    *parallel - 1
                }
                _ => 0,
            };
            // The number is a part of the ports' names, and has four places.
            if parallel == 10_000 {
                self.found.add(link.at, "more than 10000 links between the same two switches");
            }
            let end = |end: &EndDraft| match end {
                EndDraft::Switch(switch) => End::Switch(self.switches[*switch].name.clone()),
                EndDraft::Nic(nic, NicEnd::Itself) => End::Nic(nic.clone(), Share::Move),
                EndDraft::Nic(nic, NicEnd::Child) => {
                    let mode = link.spec.mode.map_or(Macvlan::Bridge, |mode| mode.value);
                    End::Nic(nic.clone(), Share::Macvlan(mode))
                }
                EndDraft::Node(node, interface) => {
                    let interface = interface.clone().expect("name_interfaces() names them all");
                    End::Node(self.nodes[*node].name.clone(), interface)
                }
            };
            let ends = [end(&a.value), end(&b.value)];
            let port = port(&link.spec.port);
            let bond = link.spec.bond.as_ref().map(|bond| bond_of(&bond.value));
            let down = link.spec.down.is_some_and(|down| down.value);
            let impairments = impair::of_link(link.spec, &ends, &mut named, self.found);
            links.push(Link { ends, parallel, mtu: link.spec.mtu, port, bond, down, impairments });
        }
        if !self.links_unsure {
            impair::check_named(named, self.found);
        }
        links
    }
}
