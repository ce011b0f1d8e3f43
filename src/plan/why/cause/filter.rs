//! Which packet filter drops a packet: what was traced is certain, what counted
//! meanwhile may be it.

use std::collections::BTreeSet;

use super::run_in;
use crate::model::mark::CUT_TABLE;
use crate::model::names::NodeName;
use crate::model::packet::Spot;
use crate::model::topology::Cut;
use crate::plan::why::facts::{ChainFacts, Dropped, SpotFacts, Tried};
use crate::plan::why::judge::{Case, Finding, Stage};
use crate::plan::why::walk::{Hop, What};

/// Which hooks of a packet filter a packet passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    In,
    Out,
    Through,
    Both,
    Bridge,
}

impl Hook {
    fn has(self, name: &str) -> bool {
        match self {
            Self::In => matches!(name, "prerouting" | "input" | "ingress"),
            Self::Out => matches!(name, "output" | "postrouting" | "egress"),
            Self::Through => {
                matches!(name, "prerouting" | "forward" | "postrouting" | "ingress" | "egress")
            }
            Self::Both => name != "forward",
            Self::Bridge => matches!(name, "prerouting" | "forward" | "postrouting"),
        }
    }
}

/// The cuts that keep a node from hearing one of those on the way.
fn cut(case: &Case<'_>, spot: &Spot) -> Finding {
    let on_the_way = |nodes: &BTreeSet<NodeName>| {
        case.hops.iter().any(|hop| matches!(&hop.what, What::Node(it) if nodes.contains(&it.node)))
    };
    let is_it = |cut: &Cut| {
        let sides = [(&cut.nodes, &cut.from), (&cut.from, &cut.nodes)];
        sides.into_iter().any(|(here, there)| {
            matches!(spot, Spot::Node(node) if here.contains(node)) && on_the_way(there)
        })
    };
    let cuts = case.wanted.iter().flat_map(|lab| &lab.cuts).filter(|(_, cut)| is_it(cut));
    let names: Vec<String> = cuts.map(|(name, _)| name.to_string()).collect();
    let heal = format!("ovsns heal --lab {}", case.lab);
    if names.is_empty() {
        let what = format!("{} packet filter has a cut in it (`ovsns cut`)", whose(spot));
        return Finding::perhaps(what, heal);
    }
    let what = format!("{} packet filter has a cut in it: `{}`", whose(spot), names.join("`, `"));
    Finding::perhaps(what, format!("{heal} {}", names.join(" ")))
}

/// What a trace told that a packet filter dropped.
pub(super) fn filtered(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    hop: &Hop,
    is_end: bool,
    found: &mut Vec<Finding>,
) {
    let counts =
        |dropped: &&Dropped| dropped.spot == *spot && (dropped.is_request != hop.is_back || is_end);
    for dropped in tried.dropped.iter().filter(counts) {
        dropped_finding(case, dropped, found);
    }
}

pub(super) fn filtered_any(case: &Case<'_>, tried: &Tried, spot: &Spot, found: &mut Vec<Finding>) {
    for dropped in tried.dropped.iter().filter(|dropped| dropped.spot == *spot) {
        dropped_finding(case, dropped, found);
    }
}

fn dropped_finding(case: &Case<'_>, dropped: &Dropped, found: &mut Vec<Finding>) {
    let Dropped { spot, family, table, chain, handle, text, .. } = dropped;
    let whose = whose(spot);
    found.push(match handle {
        Some(handle) => {
            let rule = text.as_ref().map(|text| format!(": `{text}`")).unwrap_or_default();
            let what = format!(
                "a rule of {whose} packet filter drops it, in `{family} {table} {chain}`{rule}"
            );
            let command = format!("nft delete rule {family} {table} {chain} handle {handle}");
            Finding::sure(what, run_in(case, spot, &command))
        }
        None => {
            let what = format!(
                "{whose} packet filter drops what no rule accepts: `{family} {table} {chain}` has \
                 the policy `drop`"
            );
            let command = format!("nft 'chain {family} {table} {chain} {{ policy accept; }}'");
            Finding::sure(what, run_in(case, spot, &command))
        }
    });
}

fn whose(spot: &Spot) -> String {
    match spot {
        Spot::Home => "this machine's".to_owned(),
        Spot::Node(node) => format!("`{node}`'s"),
    }
}

/// Chains that may drop it, where no trace tells: those whose rules counted
/// something while it was tried are certain.
pub(super) fn chains(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    there: &SpotFacts,
    hook: Hook,
    resolving: bool,
    found: &mut Vec<Finding>,
) {
    let is_v4 = case.packet.to.is_ipv4();
    let fits = |chain: &&ChainFacts| {
        let family = match chain.family {
            "ip" => is_v4 && !resolving,
            "ip6" => !is_v4,
            "arp" => is_v4 && resolving,
            "inet" => !(resolving && is_v4),
            "netdev" => true,
            "bridge" => hook == Hook::Bridge,
            _ => false,
        };
        family && (chain.hook.is_empty() || hook.has(chain.hook))
    };
    let mut perhaps = Vec::new();
    for chain in there.chains.iter().filter(fits) {
        let ChainFacts { family, table, name, .. } = chain;
        if table == CUT_TABLE {
            perhaps.push(cut(case, spot));
            continue;
        }
        for rule in &chain.rules {
            let key = (spot.clone(), table.clone(), name.clone(), rule.handle);
            let rose = tried.matched.contains(&key);
            if rule.packets.is_some() && !rose {
                continue;
            }
            let what = format!(
                "rule {} of {} packet filter drops, in `{family} {table} {name}`",
                rule.handle,
                whose(spot)
            );
            let command = format!("nft delete rule {family} {table} {name} handle {}", rule.handle);
            let mend = Some(run_in(case, spot, &command));
            perhaps.push(Finding { what, mend, certain: rose || rule.all });
        }
        if chain.drops {
            let what = format!(
                "{} packet filter drops what no rule accepts: `{family} {table} {name}` has the \
                 policy `drop`",
                whose(spot)
            );
            let command = format!("nft 'chain {family} {table} {name} {{ policy accept; }}'");
            perhaps.push(Finding::perhaps(what, run_in(case, spot, &command)));
        }
    }
    // One that may, and nothing else: that is it, as far as anybody can tell.
    found.extend(perhaps);
    if !there.legacy.is_empty() {
        let what = format!(
            "{} old packet filter has rules (`iptables-legacy`: {}), which cannot be looked at here",
            whose(spot),
            there.legacy.join(", ")
        );
        found.push(Finding::perhaps(what, run_in(case, spot, "iptables-legacy -F")));
    }
}

/// The machine's own packet filter, to which its bridges may show all frames.
pub(super) fn filters_at_home(
    case: &Case<'_>,
    tried: &Tried,
    stage: Stage,
    found: &mut Vec<Finding>,
) {
    let Some(home) = case.facts.spot(&Spot::Home) else { return };
    let resolving = !matches!(stage, Stage::Packet | Stage::Large);
    let key = match (resolving, case.packet.to.is_ipv4()) {
        (true, _) => "bridge.bridge-nf-call-arptables",
        (false, true) => "bridge.bridge-nf-call-iptables",
        (false, false) => "bridge.bridge-nf-call-ip6tables",
    };
    let shown = home.sysctl(key) == Some(1);
    let mut those = home.clone();
    those.chains.retain(|chain| chain.family == "bridge" || chain.family == "netdev" || shown);
    let before = found.len();
    chains(case, tried, &Spot::Home, &those, Hook::Bridge, resolving, found);
    if !shown {
        found.truncate(before);
        those.chains.retain(|chain| chain.family == "bridge" || chain.family == "netdev");
        those.legacy.clear();
        chains(case, tried, &Spot::Home, &those, Hook::Bridge, resolving, found);
        return;
    }
    for finding in &mut found[before..] {
        if finding.what.contains("`ip") || finding.what.contains("`inet") {
            finding.what += &format!(", and frames on bridges are shown to it (`net.{key}` is 1)");
            finding.mend = Some(format!("sysctl -w net.{key}=0"));
        }
    }
}
