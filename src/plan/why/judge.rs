//! Where the packet dies, by what was seen on its way.

use std::net::IpAddr;

use super::cause;
use super::facts::{Facts, Outcome, Question, Tried};
use super::walk::{Hop, NodeHop, Part, What};
use crate::model::names::{LabName, NodeName};
use crate::model::packet::{Carried, Packet, Sort, Spot, Tap};
use crate::model::topology::Lab;
use crate::model::world::World;

/// All that a verdict is about.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The lab.
    pub lab: &'a LabName,
    /// What is there.
    pub world: &'a World,
    /// What is remembered as wanted.
    pub wanted: Option<&'a Lab>,
    /// What is wrong with what the lab depends on.
    pub troubles: &'a [String],
    /// Who asks, and who is to answer.
    pub ends: (&'a NodeName, &'a NodeName),
    /// What is known.
    pub facts: &'a Facts,
    /// The packet.
    pub packet: Packet,
    /// Its way.
    pub hops: &'a [Hop],
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How many hops it passed, of those in the case.
    pub passed: usize,
    /// Where it dies; `None` if it arrives and is answered.
    pub dies: Option<Death>,
    /// What does not keep it from arriving, and is good to know.
    pub notes: Vec<String>,
}

/// Where something dies, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The hop, of those in the case.
    pub hop: usize,
    /// What it is that dies.
    pub stage: Stage,
    /// Why, the likeliest first. None if nothing that can be read explains it.
    pub findings: Vec<Finding>,
}

/// A cause and its mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, in words.
    pub what: String,
    /// A command that mends it.
    pub mend: Option<String>,
    /// Whether it surely is the cause; else it may be.
    pub certain: bool,
}

/// What dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The packet, or its answer.
    Packet,
    /// The same where only a large one does not pass.
    Large,
    /// The question who has this address.
    Asking(IpAddr),
    /// The answer to that.
    Telling(IpAddr),
}

impl Finding {
    pub(super) fn sure(what: impl Into<String>, mend: impl Into<Option<String>>) -> Self {
        Self { what: what.into(), mend: mend.into(), certain: true }
    }

    pub(super) fn perhaps(what: impl Into<String>, mend: impl Into<Option<String>>) -> Self {
        Self { what: what.into(), mend: mend.into(), certain: false }
    }
}

/// Says how far the packet comes, and why not further.
pub fn judge(case: &Case<'_>) -> Result<Verdict, Question> {
    let all = case.hops.len();
    let notes = cause::notes(case);
    let well = Verdict { passed: all, dies: None, notes: notes.clone() };
    let Some(tried) = &case.facts.tried else {
        // There was nobody who could have sent it.
        let (hop, stage) = (0, Stage::Packet);
        let findings = cause::of(case, &Tried::default(), hop, stage)?;
        let dies = Some(Death { hop, stage, findings });
        return Ok(Verdict { passed: 0, dies, notes });
    };
    if tried.outcome == Outcome::Answered {
        for (more, stage) in
            [(&case.facts.tried_tcp, Stage::Packet), (&case.facts.tried_large, Stage::Large)]
        {
            let Some(more) = more else { continue };
            if matches!(more.outcome, Outcome::Answered | Outcome::Refused) {
                continue;
            }
            let hop = dying(case, more).0;
            let mut findings = match stage {
                Stage::Large => cause::of_large(case, more, hop),
                _ => cause::of_checksums(case, more),
            };
            // What neither of the two can explain is no news about a ping.
            if stage == Stage::Packet && findings.is_empty() {
                continue;
            }
            findings.sort_by_key(|finding| !finding.certain);
            return Ok(Verdict { passed: hop, dies: Some(Death { hop, stage, findings }), notes });
        }
        return Ok(well);
    }
    // UDP asks for no answer: it is enough that somebody there gets it.
    if let (Carried::Udp { to, .. }, Outcome::Silence) = (case.packet.carried, tried.outcome)
        && cause::udp_arrives(case, tried, to)
    {
        return Ok(well);
    }
    let (mut first, mut stage) = dying(case, tried);
    // A refusal is an answer: it is the last node that gave it.
    if tried.outcome == Outcome::Refused {
        stage = Stage::Packet;
        let answers = |hop: &Hop| matches!(&hop.what, What::Node(it) if it.part == Part::Answers);
        first = case.hops.iter().position(answers).unwrap_or(first);
    }
    let (mut hop, mut findings) = (first, Vec::new());
    // Behind it may be hops at which one cannot look: the first is blamed that
    // something is wrong with.
    for (at, here) in case.hops.iter().enumerate().skip(first) {
        let more = cause::of(case, tried, at, stage)?;
        if findings.is_empty() || more.iter().any(|finding| finding.certain) {
            (hop, findings) = (if more.is_empty() { hop } else { at }, more);
        }
        let visible = here.shows.iter().any(|tap| tried.watched.contains(&tap.spot));
        if visible || findings.iter().any(|finding| finding.certain) {
            break;
        }
    }
    findings.sort_by_key(|finding| !finding.certain);
    if findings.iter().any(|finding| finding.certain) {
        findings.retain(|finding| finding.certain);
    }
    findings.dedup();
    Ok(Verdict { passed: hop, dies: Some(Death { hop, stage, findings }), notes })
}

/// The hop that it does not pass, and what it is that does not.
fn dying(case: &Case<'_>, tried: &Tried) -> (usize, Stage) {
    let packet = |hop: &Hop| if hop.is_back { Sort::Reply } else { Sort::Request };
    let hop = unpassed(case.hops, tried, &packet);
    let Some(Hop { what: What::Node(node), .. }) = case.hops.get(hop) else {
        return (hop, Stage::Packet);
    };
    match resolving(case, tried, hop, node) {
        Some((at, stage)) => (at, stage),
        None => (hop, Stage::Packet),
    }
}

/// The first hop behind the last that was seen to be passed: the first at which
/// it should have been seen and was not.
fn unpassed(hops: &[Hop], tried: &Tried, sort: &dyn Fn(&Hop) -> Sort) -> usize {
    let passed = |hop: &Hop| {
        let sort = sort(hop);
        hop.shows.iter().any(|tap| tried.seen.contains(&(tap.clone(), sort)))
    };
    let next = hops.iter().rposition(passed).map_or(0, |last| last + 1);
    next.min(hops.len().saturating_sub(1))
}

/// Where the question for the next station's address dies, or the answer to it,
/// if a node asked and sent nothing else.
fn resolving(case: &Case<'_>, tried: &Tried, hop: usize, node: &NodeHop) -> Option<(usize, Stage)> {
    let (leaves, next) = (node.leaves.as_ref()?, node.next?);
    let saw = |spot: &NodeName, device: &str, out, sort| {
        let spot = Spot::Node(spot.clone());
        tried.seen.contains(&(Tap { spot, device: device.to_owned(), out }, sort))
    };
    if !saw(&node.node, leaves, true, Sort::Ask(next)) {
        return None;
    }
    let asking = Stage::Asking(next);
    let rest = &case.hops[hop + 1..];
    let far = rest.iter().position(|hop| matches!(hop.what, What::Node(_) | What::Lost(_)))?;
    let segment = &rest[..far];
    let Some(Hop { what: What::Node(owner), .. }) = rest.get(far) else {
        return Some((hop, asking));
    };
    let asked = segment.iter().rposition(|hop| {
        hop.shows.iter().any(|tap| tried.seen.contains(&(tap.clone(), Sort::Ask(next))))
    });
    let reached = asked.map_or(0, |last| last + 1);
    if reached < segment.len() {
        return Some((hop + 1 + reached, asking));
    }
    let telling = Stage::Telling(next);
    let at = owner.enters.as_ref()?;
    if !saw(&owner.node, at, true, Sort::Told(next)) {
        return Some((hop + 1 + far, asking));
    }
    // Back over the same hops: where one was entered shows that it was passed.
    for (index, back) in segment.iter().enumerate().rev() {
        let (spot, device) = match &back.what {
            What::Wire { from, .. } => from.clone(),
            What::Switch { enters, .. } => (Spot::Home, enters.to_string()),
            What::Node(_) | What::Lost(_) => continue,
        };
        let is_wire = matches!(back.what, What::Wire { .. });
        // A port that is no device, between two switches of one Open vSwitch.
        if case.facts.link(&spot, &device).is_none() {
            continue;
        }
        let tap = Tap { spot, device, out: !is_wire };
        if tried.watched.contains(&tap.spot) && !tried.seen.contains(&(tap, Sort::Told(next))) {
            return Some((hop + 1 + index, telling));
        }
    }
    Some((hop, telling))
}

impl NodeHop {
    /// Whether the packet ends here, or the answer does.
    pub(super) fn is_end(&self) -> bool {
        matches!(self.part, Part::Answers | Part::Hears)
    }
}
