//! Circles of switches that nothing cuts, and what a ring is cut at.

use std::collections::{BTreeMap, BTreeSet};

use super::{Draft, EndDraft, LinkDraft, THINGS_MAX};
use crate::model::loops::{self, Bridge, Cuts, Trunk};
use crate::model::names::{IfName, NodeName};
use crate::model::problem::{At, quoted};
use crate::model::spec::SwitchSpec;
use crate::model::topology::{
    Cut, FailMode, RSTP_FORWARD_DELAY_S_DEFAULT, SwitchSettings, max_age_s,
};

impl<'s> Draft<'s, '_> {
    pub(super) fn check_loops(&mut self) {
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

    pub(super) fn cuts(&mut self) -> BTreeMap<IfName, Cut> {
        let mut cuts = BTreeMap::new();
        let mut sets = Vec::new();
        for (name, spec) in &self.spec.cuts {
            let mut cut = [BTreeSet::new(), BTreeSet::new()];
            for (set, said) in cut.iter_mut().zip([&spec.nodes, &spec.from]) {
                for pattern in said {
                    if THINGS_MAX < pattern.value.count() {
                        let what =
                            format!("{} stands for too many", quoted(pattern.value.as_str()));
                        self.found
                            .add(pattern.at, what)
                            .hint(format!("at most {THINGS_MAX} nodes"));
                        continue;
                    }
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
}

/// What a switch does about a loop that it is in.
pub(super) fn cuts(spec: &SwitchSpec) -> Cuts {
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
