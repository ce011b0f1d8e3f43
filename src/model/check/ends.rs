//! What the names at the ends of links stand for, and which links there can be.

use std::collections::HashMap;

use super::switches::{bond_of, check_port, why_lacp};
use super::uplinks::is_port;
use super::{Draft, EndDraft, LinkDraft, Named, NicEnd, TooMany};
use crate::model::holds::{NicMode, Written, Wrong};
use crate::model::names::{BadName, IfName, InterfaceName, NodeName};
use crate::model::nearest::nearest;
use crate::model::problem::{At, Position, quoted};
use crate::model::ranges::Pattern;
use crate::model::spec::LinkSpec;
use crate::model::topology::Macvlan;

impl<'s> Draft<'s, '_> {
    pub(super) fn find_ends(&mut self) -> Result<(), TooMany> {
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

    pub(super) fn unknown(&self, name: &str) -> Wrong {
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
    pub(super) fn find_ends_of_nics(&mut self) -> Result<(), TooMany> {
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
    pub(super) fn check_nics(&mut self) {
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
