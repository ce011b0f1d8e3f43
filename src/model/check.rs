//! From what a file says to a lab that makes sense, or to every reason why
//! it does not.
//!
//! The order is that of building: names, links, interfaces, addresses,
//! routes. A step whose ground is known to be broken keeps silent, so that
//! one mistake is told once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::addresses::{self, Host, Place};
use super::adopt;
use super::flow;
use super::holds::{Destination, NicMode, Written, Wrong, listed};
use super::impair;
use super::laid;
use super::life::{Isolation, Life, Room};
use super::life_spec;
use super::loops::{self, Bridge, Cuts, Sets, Trunk};
use super::mark::{Mac, Thing};
use super::names::{BadName, IfName, InterfaceName, LabName, NodeName, SwitchName};
use super::nearest::nearest;
use super::ports::{NoPort, Ports};
use super::problem::{At, Found, Position, quoted};
use super::ranges::Pattern;
use super::spec::{
    BondSpec, InterfaceSpec, LabSpec, LinkSpec, MirrorSpec, NodeSpec, PolicingSpec, PortKeys,
    RouteSpec, ShapingSpec, SwitchSpec, TunnelSpec, UplinkSpec,
};
use super::topology::{
    Bond, BondMode, Cut, Dynamic, End, FailMode, Interface, Lab, Lacp, Link, Macvlan, Mirror, Node,
    Policing, PortSettings, Queue, RSTP_FORWARD_DELAY_S_DEFAULT, Route, Shaping, Share, Switch,
    SwitchSettings, Tunnel, TunnelKind, Uplink, Vlan, max_age_s,
};

/// How many nodes, switches and links a lab may have: far more than a machine
/// bears, and few enough that `h[1-999999999]` is answered at once.
const THINGS_MAX: u64 = 100_000;

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

/// What addresses are given to.
struct Network {
    places: Vec<Place>,
    hosts: Vec<Host>,
    /// The node and the interface of each host.
    owners: Vec<(usize, InterfaceName)>,
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

    fn find_ends(&mut self) -> Result<(), TooMany> {
        for At { at, value: spec } in &self.spec.links {
            let Some([a, b]) = &spec.endpoints else {
                self.links_unsure = true;
                continue;
            };
            let (some, others) = (a.value.count(), b.value.count());
            let count = some.max(others);
            if some != others && some != 1 && others != 1 {
                let message = format!(
                    "{} stands for {some} and {} for {others}; they cannot be paired",
                    quoted(a.value.as_str()),
                    quoted(b.value.as_str()),
                );
                self.found
                    .add(b.at, message)
                    .hint("make both ranges equally long, or one a single name");
                self.links_unsure = true;
                continue;
            }
            self.spend(count, *at)?;
            let ends = [self.ends(a), self.ends(b)];
            let end = |side: usize, i: usize| match &ends[side][..] {
                [one] => one.clone(),
                many => many[i].clone(),
            };
            let count = usize::try_from(count).expect("it is at most THINGS_MAX");
            let links =
                (0..count).map(|i| LinkDraft { at: *at, spec, ends: [end(0, i), end(1, i)] });
            let first = self.links.len();
            self.links.extend(links);
            self.check_link(spec, first);
        }
        Ok(())
    }

    /// What the names of one endpoint stand for. The first that is wrong is
    /// told.
    fn ends(&mut self, pattern: &At<Pattern>) -> Vec<Option<At<EndDraft>>> {
        let mut told = false;
        let mut ends = Vec::new();
        for text in pattern.value.names() {
            let end = self.end(&text);
            if end.is_none()
                && !told
                && let Some(wrong) = self.why_no_end(&text)
            {
                self.found.add(pattern.at, wrong.message).hint = wrong.hint;
                told = true;
            }
            self.links_unsure |= end.is_none();
            ends.push(end.map(|value| At { at: pattern.at, value }));
        }
        ends
    }

    /// The end that `text` names, if it names one.
    fn end(&self, text: &str) -> Option<EndDraft> {
        let (name, interface) = split_end(text);
        if let (None, Some(how), Some(nic)) = (self.things.get(name), NicEnd::of(name), interface) {
            return Some(EndDraft::Nic(IfName::parse(nic).ok()?, how));
        }
        match (self.things.get(name)?, interface) {
            (Named::Switch(switch), None) => Some(EndDraft::Switch(*switch)),
            (Named::Switch(_), Some(_)) | (Named::Bad, _) => None,
            (Named::Node(node), None) => Some(EndDraft::Node(*node, None)),
            (Named::Node(node), Some(interface)) => {
                Some(EndDraft::Node(*node, Some(InterfaceName::parse(interface).ok()?)))
            }
        }
    }

    /// Why `text` names no end; `None` if that has been said elsewhere.
    fn why_no_end(&self, text: &str) -> Option<Wrong> {
        let (name, interface) = split_end(text);
        match self.things.get(name) {
            Some(Named::Bad) => None,
            Some(Named::Switch(_)) => Some(
                Wrong::new(format!("`{name}` is a switch; its ports have no names in a file"))
                    .hint(format!("write `{name}`")),
            ),
            Some(Named::Node(_)) => InterfaceName::parse(interface?).err(),
            None if NicEnd::of(name).is_some() => match interface {
                Some(nic) => IfName::parse(nic).err(),
                None => Some(
                    Wrong::new(format!("`{name}` alone names no NIC"))
                        .hint(format!("write `{name}:eth0`")),
                ),
            },
            None => match NodeName::new(name) {
                Err(bad) => Some(of_an_end(bad).into()),
                Ok(_) if self.names_unsure => None,
                Ok(_) => Some(self.unknown(name)),
            },
        }
    }

    fn unknown(&self, name: &str) -> Wrong {
        let message = format!("no node or switch is called `{name}`");
        let nodes = self.nodes.iter().map(|node| node.name.as_str());
        let known = nodes.chain(self.switches.iter().map(|switch| switch.name.as_str()));
        let near = if self.found.has_plenty() { None } else { nearest(name, known) };
        match near {
            Some(near) => Wrong::new(format!("{message}; did you mean `{near}`?")),
            None => Wrong::new(message)
                .hint(format!("add it under `nodes` or `switches`: `{name}: {{}}`")),
        }
    }

    /// Checks what one entry of `links` says of its links, which begin at
    /// number `first`.
    fn check_link(&mut self, spec: &LinkSpec, first: usize) {
        let (mut cable, mut to_nic) = (false, false);
        for link in &self.links[first..] {
            let [Some(a), Some(b)] = &link.ends else { continue };
            if let Some(wrong) = self.why_no_nic_link(&a.value, &b.value) {
                self.found.add(b.at, wrong.message).hint = wrong.hint;
                self.links_unsure = true;
                break;
            }
            let same = match (&a.value, &b.value) {
                (EndDraft::Switch(a), EndDraft::Switch(b)) if a == b => {
                    Some(self.switches[*a].name.as_str())
                }
                (EndDraft::Node(a, _), EndDraft::Node(b, _)) => {
                    cable = true;
                    (a == b).then(|| self.nodes[*a].name.as_str())
                }
                (EndDraft::Nic(..), _) | (_, EndDraft::Nic(..)) => {
                    to_nic = true;
                    None
                }
                (EndDraft::Switch(_), _) | (_, EndDraft::Switch(_)) => None,
            };
            if let Some(name) = same {
                self.found.add(b.at, format!("this link goes from `{name}` to itself"));
                break;
            }
        }
        if cable || to_nic {
            let this = if cable { "a cable between nodes" } else { "a NIC in a node" };
            for (key, at) in spec.port.said() {
                self.found.add(at, format!("`{key}` is for ports of switches; this is {this}"));
            }
        } else {
            check_port(&spec.port, self.found);
        }
        if let Some(down) = spec.down.filter(|down| down.value && to_nic) {
            self.found
                .add(down.at, "a link to a NIC of this machine cannot be held down")
                .hint("take it away: `ovsns link rm`; or set it down inside: `ovsns exec NODE -- ip link set IF down`");
        }
        if let Some(impairments) = spec.impairments.as_ref().filter(|_| to_nic) {
            self.found
                .add(impairments.at, "what passes a NIC of this machine cannot be impaired")
                .hint(
                    "give the node a link to a switch that has the NIC (`uplinks`), and impair that",
                );
        }
        let is_child = |end: &At<EndDraft>| matches!(end.value, EndDraft::Nic(_, NicEnd::Child));
        let child = self.links[first..].iter().any(|l| l.ends.iter().flatten().any(is_child));
        if let Some(mode) = spec.mode.filter(|_| !child) {
            self.found
                .add(mode.at, "`mode` is for links to a macvlan")
                .hint("such as `endpoints: [n1:eth0, macvlan:eth1]`");
        }
        if let Some(bond) = &spec.bond {
            let trunk = |link: &LinkDraft| {
                link.ends.iter().flatten().all(|end| matches!(end.value, EndDraft::Switch(_)))
            };
            if !self.links[first..].iter().all(trunk) {
                self.found
                    .add(bond.at, "a bond is between two switches; here a node is at one end")
                    .hint("give the node several interfaces, one link each");
            }
            if let Some(why) = why_lacp(bond_of(&bond.value)) {
                self.found.add(bond.at, why).hint("write `lacp: active`, or leave it out");
            }
        }
    }

    /// Why a NIC of the machine cannot be at one end of a link with that other
    /// end, if one is and it cannot.
    fn why_no_nic_link(&self, a: &EndDraft, b: &EndDraft) -> Option<Wrong> {
        match (a, b) {
            (EndDraft::Nic(nic, _), EndDraft::Switch(switch))
            | (EndDraft::Switch(switch), EndDraft::Nic(nic, _)) => {
                let switch = &self.switches[*switch].name;
                let wrong =
                    Wrong::new(format!("a NIC is linked to a node, and `{switch}` is a switch"));
                Some(wrong.hint(format!(
                    "for a port of it write `uplinks: {{ {nic}: {{ switch: {switch} }} }}`"
                )))
            }
            (EndDraft::Nic(..), EndDraft::Nic(..)) => {
                Some(Wrong::new("a NIC is linked to a node; here one is at both ends"))
            }
            (EndDraft::Nic(..), EndDraft::Node(..)) | (EndDraft::Node(..), EndDraft::Nic(..)) => {
                None
            }
            (
                EndDraft::Switch(_) | EndDraft::Node(..),
                EndDraft::Switch(_) | EndDraft::Node(..),
            ) => None,
        }
    }

    /// The links that `uplinks` stand for: a node's to a child of a NIC, or to
    /// the NIC itself.
    fn find_ends_of_nics(&mut self) -> Result<(), TooMany> {
        let spec = self.spec;
        for (nic, uplink) in &spec.uplinks {
            let how = match uplink.mode.map(|mode| mode.value) {
                None | Some(NicMode::Bridge) => continue,
                Some(NicMode::Macvlan) => NicEnd::Child,
                Some(NicMode::Move) => NicEnd::Itself,
            };
            // What is missing was told of by `check_uplink`.
            let Some(node) = &uplink.node else { continue };
            self.spend(node.value.count(), nic.at)?;
            let ends = self.ends(node);
            let at_nic = At { at: nic.at, value: EndDraft::Nic(nic.value.clone(), how) };
            let first = self.links.len();
            self.links.extend(ends.into_iter().map(|end| LinkDraft {
                at: nic.at,
                spec: &uplink.link,
                ends: [end, Some(at_nic.clone())],
            }));
            self.check_link(&uplink.link, first);
        }
        Ok(())
    }

    /// A NIC has one use: a port of a switch, the parent of macvlans, or that
    /// of the node which it is in.
    fn check_nics(&mut self) {
        let mut uses: HashMap<&IfName, (&'static str, bool, Position)> = HashMap::new();
        let ports = self.spec.uplinks.iter().filter(|(_, uplink)| is_port(uplink));
        for (nic, _) in ports {
            uses.insert(&nic.value, ("a port of a switch", true, nic.at));
        }
        for link in &self.links {
            for end in link.ends.iter().flatten() {
                let EndDraft::Nic(nic, how) = &end.value else { continue };
                let passthru = link.spec.mode.is_some_and(|mode| mode.value == Macvlan::Passthru);
                let (what, alone) = match how {
                    NicEnd::Itself => ("in a node", true),
                    NicEnd::Child if passthru => ("the parent of a `passthru` macvlan", true),
                    NicEnd::Child => ("the parent of a macvlan", false),
                };
                match uses.get(nic) {
                    Some((other, other_alone, at)) if alone || *other_alone => {
                        let message = format!("`{nic}` would be {what}, and is {other} at {at}");
                        self.found
                            .add(end.at, message)
                            .hint("a NIC has one use; only macvlans can be several, if none is `passthru`");
                    }
                    Some(_) => {}
                    None => drop(uses.insert(nic, (what, alone, end.at))),
                }
            }
        }
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

    fn check_loops(&mut self) {
        let bridges: Vec<_> = self
            .switches
            .iter()
            .map(|switch| Bridge { name: switch.name.as_str(), cuts: cuts(switch.spec) })
            .collect();
        for SwitchSpec { settings, rstp, .. } in self.switches.iter().map(|switch| switch.spec) {
            if let Some(rstp) = rstp.filter(|rstp| rstp.value && settings.stp) {
                self.found
                    .add(rstp.at, "`stp` and `rstp` exclude each other")
                    .hint("say one of them, and `false` for the other: `stp: false`, `rstp: true`");
            }
        }
        let trunk = |link: &LinkDraft| match &link.ends {
            [
                Some(At { value: EndDraft::Switch(a), .. }),
                Some(At { value: EndDraft::Switch(b), .. }),
            ] if a != b => {
                Some(Trunk { ends: [*a, *b], at: link.at, bond: link.spec.bond.is_some() })
            }
            _ => None,
        };
        let trunks: Vec<_> = self.links.iter().filter_map(trunk).collect();
        loops::check(&bridges, &trunks, self.found);
    }

    /// Prefixes that overlap would give one address twice.
    fn check_prefixes(&mut self) {
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
    fn check_addresses(&mut self) {
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
    fn give_addresses(&mut self) {
        let Network { places, hosts, owners } = self.network();
        let lab = match &self.spec.prefixes {
            Some(prefixes) => values(prefixes),
            None => addresses::default_prefixes().into(),
        };
        let given = addresses::give(&lab, &places, &hosts, self.found);
        for ((host, (node, name)), given) in hosts.into_iter().zip(owners).zip(given) {
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
                owners.push((*node, name.clone()));
            }
        }
        Network { places, hosts, owners }
    }

    /// Writes the draft down as a lab, which is one if there is no problem.
    /// The NICs of the machine, each with its switch.
    fn uplinks(&mut self) -> BTreeMap<IfName, Uplink> {
        let mut uplinks = BTreeMap::new();
        for (nic, spec) in &self.spec.uplinks {
            check_uplink(nic, spec, self.found);
            if !is_port(spec) {
                continue;
            }
            // A switch that is not said was told of.
            let Some(At { at, value }) = &spec.switch else { continue };
            match self.things.get(value) {
                Some(Named::Switch(switch)) => {
                    let switch = self.switches[*switch].name.clone();
                    uplinks.insert(nic.value.clone(), Uplink { switch, force: spec.force });
                }
                Some(Named::Bad) => {}
                Some(Named::Node(_)) => {
                    let message = format!("`{value}` is a node; a NIC becomes a port of a switch");
                    self.found.add(*at, message).hint(format!(
                        "name a switch, and link the node to it; or write `mode: macvlan` (or \
                         `move`) and `node: {value}`"
                    ));
                }
                None if self.names_unsure => {}
                None => {
                    let known = self.switches.iter().map(|switch| switch.name.as_str());
                    let near =
                        nearest(value, known).map(|near| format!("; did you mean `{near}`?"));
                    let near = near.unwrap_or_default();
                    self.found.add(*at, format!("no switch is called {}{near}", quoted(value)));
                }
            }
        }
        uplinks
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
        Lab { cuts, name, switches, nodes, links, uplinks, prefixes, routing, hosts }
    }

    fn cuts(&mut self) -> BTreeMap<IfName, Cut> {
        let mut cuts = BTreeMap::new();
        let mut sets = Vec::new();
        for (name, spec) in &self.spec.cuts {
            let mut cut = [BTreeSet::new(), BTreeSet::new()];
            for (set, said) in cut.iter_mut().zip([&spec.nodes, &spec.from]) {
                for pattern in said {
                    for node in pattern.value.names() {
                        sets.push((pattern.at, node.clone()));
                        set.extend(NodeName::new(&node).ok());
                    }
                }
            }
            let [nodes, from] = cut;
            if let Some(both) = nodes.intersection(&from).next() {
                let what = format!("`{both}` is on both sides of cut `{}`", name.value);
                self.found.add(name.at, what).hint("no node is cut from itself");
            }
            if cuts.insert(name.value.clone(), Cut { nodes, from }).is_some() {
                self.found.add(name.at, format!("cut `{}` is said twice", name.value));
            }
        }
        for (at, node) in sets {
            let draft = self.nodes.iter().find(|draft| draft.name.as_str() == node);
            if let Some(draft) = draft {
                if draft.spec.adopt.is_some() {
                    self.found
                        .add(at, format!("`{node}` is somebody else's namespace, and is not cut"))
                        .hint("nothing is set in there but its links: take them `down`");
                }
                continue;
            }
            if self.names_unsure {
                continue;
            }
            if self.switches.iter().any(|draft| draft.name.as_str() == node) {
                self.found
                    .add(
                        at,
                        format!("`{node}` is a switch, and only nodes are cut from each other"),
                    )
                    .hint("take its links down: `down: true`, `ovsns link down A B`");
                continue;
            }
            let wrong = self.unknown(&node);
            self.found.add(at, wrong.message).hint = wrong.hint;
        }
        cuts
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

    /// Names of devices and MAC addresses, some from the file and some made
    /// from names, are each one thing's.
    fn check_devices_and_macs(&mut self, lab: &Lab) {
        let mut devices: HashMap<String, Thing> = HashMap::new();
        let mut macs: HashMap<Mac, Thing> = HashMap::new();
        for draft in &self.switches {
            let thing = Thing::Switch(draft.name.clone());
            let mark = lab.mark(thing.clone());
            let (device, at) = match &draft.spec.device {
                Some(device) => (device.value.clone(), device.at),
                None => (mark.device(), draft.at),
            };
            clash(&mut devices, device.to_string(), &thing, "device", at, self.found);
            let (mac, at) = match draft.spec.mac {
                Some(mac) => (mac.value, mac.at),
                None => (mark.mac(), draft.at),
            };
            clash(&mut macs, mac, &thing, "MAC address", at, self.found);
        }
        for (link, draft) in lab.links.iter().zip(&self.links) {
            for port in [link.port(0), link.port(1)].into_iter().flatten() {
                let members = link.bond.map_or(0, |bond| bond.members);
                let members = (1..=members).map(|member| format!("{port}.{member}"));
                for port in members.chain([port.clone()]) {
                    let thing = Thing::Port(port);
                    let device = lab.mark(thing.clone()).device().to_string();
                    clash(&mut devices, device, &thing, "device", draft.at, self.found);
                }
            }
        }
        for draft in &self.switches {
            for (tunnel, _) in &draft.spec.tunnels {
                let thing = Thing::Port(Tunnel::port(&draft.name, &tunnel.value));
                let device = lab.mark(thing.clone()).device().to_string();
                clash(&mut devices, device, &thing, "device", tunnel.at, self.found);
            }
        }
        for node in &self.nodes {
            let mut devices: HashMap<String, Thing> = HashMap::new();
            for (name, interface) in &node.interfaces {
                let thing = Thing::Interface(node.name.clone(), name.clone(), None);
                let mark = lab.mark(thing.clone());
                let (mac, at) = match interface.spec.and_then(|spec| spec.mac) {
                    Some(mac) => (mac.value, mac.at),
                    None => (mark.mac(), interface.at),
                };
                clash(&mut macs, mac, &thing, "MAC address", at, self.found);
                let fits = name.as_str().len() <= IfName::BYTES_MAX;
                let device = if fits { name.to_string() } else { mark.device().to_string() };
                clash(&mut devices, device, &thing, "device", interface.at, self.found);
            }
        }
    }
}

/// Tells of a device or MAC address that another thing has already.
fn clash<K: std::hash::Hash + Eq + std::fmt::Display>(
    owners: &mut HashMap<K, Thing>,
    key: K,
    thing: &Thing,
    what: &str,
    at: Position,
    found: &mut Found,
) {
    let called = |thing: &Thing| match thing {
        Thing::Node(node) => format!("`{node}`"),
        Thing::Switch(switch) => format!("`{switch}`"),
        Thing::Interface(node, interface, _) => format!("`{node}:{interface}`"),
        Thing::Port(port) => format!("the port `{port}`"),
    };
    if let Some(other) = owners.get(&key) {
        if other != thing {
            let (one, other) = (called(thing), called(other));
            found.add(at, format!("`{key}` would be the {what} of {other} and of {one}"));
        }
        return;
    }
    owners.insert(key, thing.clone());
}

/// Whether a NIC is to be a port of a switch.
fn is_port(uplink: &UplinkSpec) -> bool {
    uplink.mode.is_none_or(|mode| mode.value == NicMode::Bridge)
}

/// Checks that the keys of an uplink fit its mode.
fn check_uplink(nic: &At<IfName>, spec: &UplinkSpec, found: &mut Found) {
    let UplinkSpec { mode, switch, node, force: _, link, flawed } = spec;
    let (name, port) = (&nic.value, is_port(spec));
    match (port, switch, node) {
        (true, None, None) if !flawed => {
            found
                .add(nic.at, format!("`{name}` has no `switch`"))
                .hint("name the switch of which it becomes a port, or say another `mode`");
        }
        (true, _, Some(node)) => {
            found.add(node.at, "`node` is for the modes `macvlan` and `move`").hint(
                "say `mode`; a node that is linked to the switch is on the NIC's network, too",
            );
        }
        (false, Some(switch), _) => {
            found.add(switch.at, "`switch` is for the mode `bridge`").hint("name a `node`");
        }
        (false, None, None) if !flawed => {
            found.add(nic.at, format!("`{name}` has no `node`")).hint("name the node that gets it");
        }
        (true, _, None) | (false, None, _) => {}
    }
    let is_macvlan = mode.is_some_and(|mode| mode.value == NicMode::Macvlan);
    if let Some(hears) = link.mode.filter(|_| !is_macvlan) {
        found.add(hears.at, "`macvlan` is for the mode `macvlan`").hint("write `mode: macvlan`");
    }
}

/// What a switch does about a loop that it is in.
fn cuts(spec: &SwitchSpec) -> Cuts {
    let SwitchSettings { stp, rstp, forward_delay_s, openflow, .. } = &spec.settings;
    let secure = match openflow.fail_mode {
        Some(mode) => mode == FailMode::Secure,
        None => !openflow.controllers.is_empty(),
    };
    let reach = || max_age_s(forward_delay_s.unwrap_or(RSTP_FORWARD_DELAY_S_DEFAULT));
    match (stp, rstp) {
        (true, _) => Cuts::ByProtocol { reach: Cuts::FAR },
        (false, true) => Cuts::ByProtocol { reach: reach() as usize },
        (false, false) if secure => Cuts::Everything,
        (false, false) => Cuts::Nothing,
    }
}

impl SwitchDraft<'_> {
    /// The switch, with the ports that `links` give it.
    fn build(&self, links: &[Link], found: &mut Found) -> Switch {
        let SwitchSpec { backend, datapath, device, mac, mtu, prefixes, .. } = self.spec;
        let mut settings = self.spec.settings.clone();
        let export = &mut settings.export;
        export.netflow = self.spec.netflow.as_ref().map(|netflow| netflow.value.meant());
        export.sflow = self.spec.sflow.as_ref().map(|sflow| sflow.value.meant());
        export.ipfix = self.spec.ipfix.as_ref().map(|ipfix| ipfix.value.meant());
        let tunnels: BTreeMap<_, _> = self
            .spec
            .tunnels
            .iter()
            .filter_map(|(name, spec)| Some((name.value.clone(), tunnel(spec, found)?)))
            .collect();
        let ports = OnPorts(Ports::new(&self.name, links, tunnels.keys()));
        let mirrors = self.spec.mirrors.iter().filter_map(|(name, spec)| {
            Some((name.value.clone(), ports.mirror(spec, name.at, found)?))
        });
        let mirrors = mirrors.collect();
        let flows = self.spec.flows.iter().map(|flow| ports.flow(flow, found)).collect();
        Switch {
            backend: *backend,
            datapath: *datapath,
            device: device.as_ref().map(|device| device.value.clone()),
            mac: mac.map(|mac| mac.value),
            mtu: *mtu,
            settings,
            prefixes: values(prefixes),
            mirrors,
            tunnels,
            flows,
        }
    }
}

/// What a file says in terms of the ports of one switch.
struct OnPorts(Ports);

impl OnPorts {
    fn found(&self, words: &At<String>, found: &mut Found) -> Option<String> {
        let port = self.0.find(&words.value).map(str::to_owned);
        port.map_err(|NoPort { what, hint }| found.add(words.at, what).hint = hint).ok()
    }

    fn mirror(&self, spec: &MirrorSpec, at: Position, found: &mut Found) -> Option<Mirror> {
        let MirrorSpec { all, from, to, vlans, output, flawed } = spec;
        let mut ports = |list: &[At<String>]| -> BTreeSet<String> {
            list.iter().filter_map(|words| self.found(words, found)).collect()
        };
        let (from, to) = (ports(from), ports(to));
        let output_at = output.as_ref()?.at;
        let output = self.found(output.as_ref()?, found)?;
        if !flawed && !all && spec.from.is_empty() && spec.to.is_empty() {
            found.add(at, "this mirror copies nothing").hint("say `all: true`, `from` or `to`");
        }
        if from.contains(&output) || to.contains(&output) {
            found.add(output_at, format!("`{output}` would get copies of its own frames"));
        }
        let vlans = vlans.iter().copied().map(vlan_id).collect();
        Some(Mirror { all: *all, from, to, vlans, output })
    }

    /// A flow with its ports' full names.
    fn flow(&self, flow: &At<String>, found: &mut Found) -> String {
        let mut wrongs = Vec::new();
        let text = flow::with_output(&flow.value, |words| self.0.know(words));
        let text = flow::with_ports(&text, |words| {
            self.0.find_numbered(words).unwrap_or_else(|wrong| {
                wrongs.push(wrong);
                words.to_owned()
            })
        });
        for NoPort { what, hint } in wrongs {
            found.add(flow.at, what).hint = hint;
        }
        text
    }
}

fn tunnel(spec: &TunnelSpec, found: &mut Found) -> Option<Tunnel> {
    check_port(&spec.port, found);
    let (kind, remote) = (spec.kind?, spec.remote?);
    if let Some(local) = spec.local
        && local.value.is_ipv4() != remote.value.is_ipv4()
    {
        found.add(local.at, "`local` and `remote` are not of one family");
    }
    if let (TunnelKind::Gre, Some(port)) = (kind, spec.destination_port) {
        found.add(port.at, "`destination_port` is for VXLAN and Geneve; GRE has no ports");
    }
    let destination_port = spec
        .destination_port
        .map(|port| u16::try_from(port.value).expect("the table says at most 65535"));
    Some(Tunnel {
        kind,
        remote: remote.value,
        local: spec.local.map(|local| local.value),
        key: spec.key,
        destination_port,
        port: port(&spec.port),
    })
}

fn bond_of(spec: &BondSpec) -> Bond {
    Bond {
        members: spec.members.unwrap_or(2),
        mode: spec.mode.unwrap_or(BondMode::ActiveBackup),
        lacp: spec.lacp.unwrap_or(Lacp::Active),
    }
}

/// Why a bond does not work without LACP, if it does not.
fn why_lacp(bond: Bond) -> Option<&'static str> {
    match (bond.lacp, bond.mode) {
        (Lacp::Active, _) => None,
        (Lacp::Off, BondMode::BalanceTcp) => Some("`balance-tcp` works by LACP alone"),
        (Lacp::Off, BondMode::BalanceSlb) => Some(
            "without LACP `balance-slb` loses broadcasts: the other switch takes them from one \
             cable only",
        ),
        (Lacp::Off, BondMode::ActiveBackup) if 2 < bond.members => Some(
            "without LACP the switches could take different cables of more than two, and pass \
             nothing",
        ),
        (Lacp::Off, BondMode::ActiveBackup) => None,
    }
}

impl PortKeys {
    /// What is said, and where.
    fn said(&self) -> impl Iterator<Item = (&'static str, Position)> {
        let Self { isolated, vlan, trunks, native, qinq, policing, shaping, flawed: _ } = self;
        let isolated = isolated.filter(|isolated| isolated.value);
        [
            ("isolated", isolated.map(|i| i.at)),
            ("vlan", vlan.map(|v| v.at)),
            ("trunks", trunks.as_ref().map(|t| t.at)),
            ("native", native.map(|n| n.at)),
            ("qinq", qinq.as_ref().map(|q| q.at)),
            ("policing", policing.as_ref().map(|p| p.at)),
            ("shaping", shaping.as_ref().map(|s| s.at)),
        ]
        .into_iter()
        .filter_map(|(key, at)| Some((key, at?)))
    }
}

/// Checks what is said of a port.
fn check_port(keys: &PortKeys, found: &mut Found) {
    let PortKeys { vlan, trunks, native, qinq, shaping, flawed, .. } = keys;
    match (vlan, trunks, native) {
        (Some(_), Some(trunks), _) => {
            found.add(trunks.at, "`vlan` and `trunks` exclude each other").hint(
                "a port is in one VLAN, untagged (`vlan`), or passes many, tagged (`trunks`)",
            );
        }
        (_, None, Some(native)) if !flawed => {
            found
                .add(native.at, "`native` without `trunks`")
                .hint(format!("for a port in one VLAN write `vlan: {}`", native.value));
        }
        (_, Some(trunks), _) if trunks.value.is_empty() && !flawed => {
            found.add(trunks.at, "`trunks` names no VLAN, so nothing would pass");
        }
        _ => {}
    }
    if let Some(qinq) = qinq.as_ref().filter(|_| vlan.is_some() || trunks.is_some()) {
        found
            .add(qinq.at, "`qinq` excludes `vlan` and `trunks`")
            .hint("all that comes in is wrapped in one VLAN, whatever tag it has");
    }
    let Some(At { at, value: ShapingSpec { rate: Some(rate), queues } }) = shaping else { return };
    for (number, queue) in queues {
        let most = queue.max.unwrap_or(*rate);
        if *rate < most {
            let message = format!("queue {} may have more than all of {rate} kbit/s", number.value);
            found.add(number.at, message);
        } else if queue.min.is_some_and(|min| most < min) {
            let message = format!("queue {} has a `min` above what it may have", number.value);
            found.add(number.at, message);
        }
    }
    let sum: u64 = queues.iter().filter_map(|(_, queue)| queue.min).map(u64::from).sum();
    if u64::from(*rate) < sum {
        found.add(*at, format!("the queues have {sum} kbit/s for sure, of {rate}"));
    }
}

impl<'s> NodeDraft<'s> {
    fn new(name: NodeName, at: Position, spec: &'s NodeSpec) -> Self {
        let interface = |(name, spec): &'s (At<InterfaceName>, InterfaceSpec)| {
            (name.value.clone(), InterfaceDraft::new(name.at, Some(spec)))
        };
        let interfaces = spec.interfaces.iter().map(interface).collect();
        Self { name, at, spec, interfaces, next_eth: 0 }
    }

    /// Puts the first `ethN` that is on no link on link `link`.
    fn next_free(&mut self, at: Position, link: usize) -> InterfaceName {
        loop {
            // A namespace of somebody else's is likely to have an `eth0`.
            let letters = if self.spec.adopt.is_some() { "lab" } else { "eth" };
            let name = InterfaceName::new(&format!("{letters}{}", self.next_eth));
            let name = name.expect("three letters and a number are a name");
            self.next_eth += 1;
            let interface = self.interfaces.entry(name.clone());
            let interface = interface.or_insert_with(|| InterfaceDraft::new(at, None));
            if interface.link.is_none() {
                interface.link = Some(link);
                return name;
            }
        }
    }

    fn sysctls(&self, found: &mut Found) -> BTreeMap<String, String> {
        let mut sysctls: BTreeMap<_, _> = self
            .spec
            .sysctls
            .iter()
            .map(|(key, value)| (key.value.clone(), value.clone()))
            .collect();
        if let Some(forwarding) = self.spec.forwarding {
            let value = if forwarding.value { "1" } else { "0" };
            for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
                let before = sysctls.insert(key.to_owned(), value.to_owned());
                if before.is_some_and(|before| before != value) {
                    let at = self.spec.sysctls.iter().find(|(at, _)| at.value == key);
                    let at = at.map_or(forwarding.at, |(key, _)| key.at);
                    found.add(
                        at,
                        format!("`{key}` says otherwise than `forwarding: {}`", forwarding.value),
                    );
                }
            }
        }
        sysctls
    }

    /// What it is besides a network namespace.
    fn life(&self, found: &mut Found) -> Life {
        let mut kinds: BTreeSet<Isolation> = self.spec.isolation.iter().copied().collect();
        if let Some(hostname) = &self.spec.hostname
            && !kinds.contains(&Isolation::Uts)
        {
            found
                .add(hostname.at, "a `hostname` without `uts` in `isolation`")
                .hint("write `isolation: [uts]`: else it would be the machine's host name");
        }
        let hostname = self.spec.hostname.as_ref().map(|name| name.value.clone());
        let run = life_spec::processes(&self.spec.run, found);
        let files = laid::files(&self.spec.files, found);
        if !files.is_empty() {
            // Else they would lie over the machine's own.
            kinds.insert(Isolation::Mount);
        }
        Life { room: Room { kinds, hostname }, limits: self.spec.limits, run, files }
    }

    /// The routes. What follows from addresses is only checked if the lab is
    /// `sound` so far, as the addresses may be wrong otherwise.
    fn routes(&self, sound: bool, found: &mut Found) -> BTreeSet<Route> {
        let mut routes = BTreeSet::new();
        let mut taken = HashSet::new();
        for At { at, value: spec } in &self.spec.routes {
            if spec.flawed {
                continue;
            }
            self.check_interface(spec, found);
            let Some(route) = route(spec, *at, found) else { continue };
            if let Some(via) = spec.via {
                self.check_gateway(via, &route, sound, found);
            }
            // The kernel's own defaults: 0 and 1024 (which 0 means, too).
            let metric = match (route.to, route.metric) {
                (IpNet::V4(_), metric) => metric.unwrap_or(0),
                (IpNet::V6(_), None | Some(0)) => 1024,
                (IpNet::V6(_), Some(metric)) => metric,
            };
            if !taken.insert((route.to, metric)) {
                let to = route.to;
                found
                    .add(*at, format!("a second route to `{to}` with the metric {metric}"))
                    .hint("give one of them another `metric`");
            }
            routes.insert(route);
        }
        routes
    }

    fn check_interface(&self, spec: &RouteSpec, found: &mut Found) {
        let Some(At { at, value: name }) = &spec.interface else { return };
        if self.spec.flawed || self.interfaces.contains_key(name) {
            return;
        }
        let near = nearest(name.as_str(), self.interfaces.keys().map(InterfaceName::as_str));
        let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        found.add(*at, format!("the node has no interface `{name}`{meant}"));
    }

    /// A router is a neighbour: on a network of one of the node's interfaces.
    fn check_gateway(&self, via: At<IpAddr>, route: &Route, sound: bool, found: &mut Found) {
        let ip = via.value;
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            if route.interface.is_none() {
                found
                    .add(via.at, format!("`{ip}` is on every link"))
                    .hint("say which one with `interface:`");
            }
            return;
        }
        let given = self.interfaces.values().any(|interface| interface.explicit().is_none());
        if self.spec.flawed || (given && !sound) {
            return;
        }
        let on = |name: &InterfaceName| route.interface.as_ref().is_none_or(|only| only == name);
        let nets: Vec<_> = self
            .interfaces
            .iter()
            .filter(|(name, _)| on(name))
            .flat_map(|(_, interface)| match interface.addresses.is_empty() {
                // Those of an interface without a link were not filled in.
                true => interface.explicit().into_iter().flatten().map(|net| net.value).collect(),
                false => interface.addresses.iter().copied().collect::<Vec<_>>(),
            })
            .collect();
        if nets.iter().any(|net| net.addr() == ip) {
            found.add(via.at, format!("`{ip}` is the node's own address"));
        } else if !nets.iter().any(|net| net.contains(&ip)) {
            let place = match &route.interface {
                Some(interface) => format!("network of `{interface}`"),
                None => "network of the node".to_owned(),
            };
            let problem = found.add(via.at, format!("`{ip}` is on no {place}"));
            let near: BTreeSet<_> = nets
                .iter()
                .filter(|net| net.addr().is_ipv4() == ip.is_ipv4())
                .map(|net| format!("`{}`", net.trunc()))
                .collect();
            let near: Vec<_> = near.into_iter().take(4).collect();
            if !near.is_empty() {
                problem.hint(format!(
                    "a router is a neighbour; the node's are in {}",
                    listed(&near, "and")
                ));
            }
        }
    }
}

impl<'s> InterfaceDraft<'s> {
    fn new(at: Position, spec: Option<&'s InterfaceSpec>) -> Self {
        Self { at, spec, link: None, addresses: BTreeSet::new() }
    }

    /// What else gives it addresses.
    fn dynamic(&self) -> impl Iterator<Item = &'s At<Dynamic>> + use<'s> {
        self.spec.into_iter().flat_map(|spec| &spec.dynamic)
    }

    /// The addresses that the file gives it, if it says anything of them.
    fn explicit(&self) -> Option<&'s [At<IpNet>]> {
        self.spec.and_then(|spec| spec.addresses.as_deref())
    }
}

/// Reads a route by itself.
fn route(spec: &RouteSpec, at: Position, found: &mut Found) -> Option<Route> {
    let to = spec.to.as_ref()?;
    let via = spec.via.map(|via| via.value);
    let net = match (&to.value, via) {
        (Destination::Net(net), _) => *net,
        (Destination::Default, Some(IpAddr::V4(_))) => Ipv4Net::default().into(),
        (Destination::Default, Some(IpAddr::V6(_))) => Ipv6Net::default().into(),
        (Destination::Default, None) => {
            found
                .add(to.at, "`default` without `via` is of no family")
                .hint("write `0.0.0.0/0` or `::/0`, or add `via`");
            return None;
        }
    };
    if via.is_none() && spec.interface.is_none() {
        found.add(at, "a route with neither `via` nor `interface`");
        return None;
    }
    if let Some(via) = spec.via
        && via.value.is_ipv4() != net.addr().is_ipv4()
    {
        let family = |ip: IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let message = format!(
            "`{}` is {}, but the route to `{net}` is {}",
            via.value,
            family(via.value),
            family(net.addr()),
        );
        found.add(via.at, message);
        return None;
    }
    let interface = spec.interface.as_ref().map(|interface| interface.value.clone());
    Some(Route { to: net, via, interface, metric: spec.metric })
}

fn vlan_id(id: u32) -> u16 {
    u16::try_from(id).expect("the table says at most 4094")
}

fn port(keys: &PortKeys) -> PortSettings {
    let ids = |list: &[u32]| list.iter().copied().map(vlan_id).collect();
    let trunk = keys.trunks.as_ref().map(|trunks| Vlan::Trunk {
        vlans: trunks.value.iter().map(|vlan| vlan_id(vlan.value)).collect(),
        native: keys.native.map(|native| vlan_id(native.value)),
    });
    let qinq = keys.qinq.as_ref().and_then(|qinq| {
        let customers = ids(&qinq.value.customers);
        Some(Vlan::Tunnel { vlan: vlan_id(qinq.value.vlan?), customers })
    });
    let policing = |spec: &At<PolicingSpec>| {
        let rate_kbps = spec.value.rate?;
        let burst_kb = spec.value.burst.unwrap_or(Policing::burst_default(rate_kbps));
        Some(Policing { rate_kbps, burst_kb })
    };
    let shaping = |spec: &At<ShapingSpec>| {
        let queue = |(number, queue): &(At<u32>, super::spec::QueueSpec)| {
            (number.value, Queue { min_kbps: queue.min, max_kbps: queue.max })
        };
        let queues = spec.value.queues.iter().map(queue).collect();
        Some(Shaping { rate_kbps: spec.value.rate?, queues })
    };
    PortSettings {
        isolated: keys.isolated.is_some_and(|isolated| isolated.value),
        vlan: trunk.or(qinq).or(keys.vlan.map(|vlan| Vlan::Access(vlan_id(vlan.value)))),
        policing: keys.policing.as_ref().and_then(policing),
        shaping: keys.shaping.as_ref().and_then(shaping),
        hands_off: false,
    }
}

/// `n1:eth0` is an interface of a node, `n1` is any of its interfaces.
fn split_end(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, interface)) => (name, Some(interface)),
        None => (text, None),
    }
}

/// At the end of a link it is not known whose name it was to be.
fn of_an_end(mut bad: BadName) -> BadName {
    let (BadName::Empty { kind }
    | BadName::TooLong { kind, .. }
    | BadName::Letter { kind, .. }
    | BadName::Start { kind, .. }) = &mut bad;
    *kind = "endpoint";
    bad
}

/// Values without where the file says them.
fn values(nets: &[At<IpNet>]) -> Vec<IpNet> {
    nets.iter().map(|net| net.value).collect()
}
