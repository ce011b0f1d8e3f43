//! What Open vSwitch would do with a frame, by its own trace (`ofproto/trace`).

use std::collections::BTreeSet;

use super::super::{OpenFlow, SwitchError};
use super::OpenVswitch;
use crate::model::names::IfName;
use crate::model::packet::Frame;
use crate::model::world::SwitchSpec;
use crate::plan::why::facts::{Kept, Way};

/// Like `ovs-appctl ofproto/trace BRIDGE in_port=PORT,FRAME`, and somebody who
/// reads it.
pub(super) async fn way(
    ovs: &mut OpenVswitch,
    switch: &SwitchSpec,
    enters: &IfName,
    frame: &Frame,
) -> Result<Way, SwitchError> {
    let packet = format!("in_port=\"{enters}\",{}", frame.as_match());
    let traced = match ovs.trace(switch, &packet).await? {
        Ok(traced) => traced,
        Err(why) => {
            let kept = [(enters.clone(), Kept::Words(why))].into();
            return Ok(Way { kept, ..Way::default() });
        }
    };
    let read = read(&traced);
    let mut way = Way { leaves: read.leaves, words: read.words, ..Way::default() };
    if !read.drops {
        if read.asks_controller && way.leaves.is_empty() {
            way.kept.insert(enters.clone(), Kept::Controller);
        }
        return Ok(way);
    }
    let kept = match read.last {
        Last::NoFlow => {
            let standing = ovs.standing(switch).await?;
            let controllers = &standing.controllers;
            let connected = controllers.values().any(|contact| contact.connected);
            Kept::NoFlow { controllers: (!controllers.is_empty()).then_some(connected) }
        }
        Last::Flow { head, drops: true } => {
            let found = ovs.flows(switch, false).await?;
            let found = found.into_iter().find(|flow| same(&flow.text, &head));
            way.flow = found.as_ref().map(|flow| flow.text.clone());
            match found {
                Some(flow) => Kept::Flow { flow: flow.text, ours: flow.ours },
                None => Kept::Words(format!("a flow for `{head}` drops it")),
            }
        }
        Last::Flow { .. } | Last::Unknown => Kept::Words(way.words.join("; ")),
    };
    way.kept.insert(enters.clone(), kept);
    Ok(way)
}

/// What a trace says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    leaves: BTreeSet<IfName>,
    drops: bool,
    asks_controller: bool,
    last: Last,
    pub(super) words: Vec<String>,
}

/// The last flow that it met.
#[derive(Debug, PartialEq, Eq)]
enum Last {
    Unknown,
    NoFlow,
    Flow { head: String, drops: bool },
}

/// Reads the text: ` 0. MATCH, priority N, cookie C` for each flow, its actions
/// further in, `-> ` and `>> ` before what it has to tell, `bridge("NAME")` where
/// it comes to another bridge, and at the end `Datapath actions: `.
pub(super) fn read(traced: &str) -> Read {
    let mut read = Read {
        leaves: BTreeSet::new(),
        drops: false,
        asks_controller: false,
        last: Last::Unknown,
        words: Vec::new(),
    };
    for line in traced.lines() {
        let told = line.trim();
        if let Some(actions) = line.strip_prefix("Datapath actions: ") {
            read.drops = actions == "drop";
            read.asks_controller = actions.contains("controller(");
            let names = actions.split([',', '(', ')', '"']);
            let names = names.filter(|_| !read.drops);
            read.leaves.extend(names.filter_map(|name| IfName::new(name).ok()));
        } else if let Some((number, rest)) = told.split_once(". ")
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            read.last = match rest.starts_with("No match") {
                true => Last::NoFlow,
                false => Last::Flow { head: rest.to_owned(), drops: false },
            };
        } else if let (true, Last::Flow { drops, .. }) = (told == "drop", &mut read.last) {
            *drops = true;
        } else if told.starts_with("bridge(") {
            read.words.push(told.to_owned());
        } else {
            let said = ["-> ", ">> ", ">>>> "].iter().find_map(|mark| told.strip_prefix(mark));
            read.words.extend(said.map(|said| said.trim_end_matches(['<', ' ']).to_owned()));
        }
    }
    read
}

/// Whether a flow, as the switch lists it, is the one that a trace met, which it
/// writes as `MATCH, priority N, cookie C`.
pub(super) fn same(flow: &str, head: &str) -> bool {
    let fields = |text: &str| -> BTreeSet<String> {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        words.map(|word| word.replace('"', "")).collect()
    };
    let (flow, _) = flow.split_once("actions=").unwrap_or((flow, ""));
    let mut flow = fields(flow);
    flow.retain(|word| !word.starts_with("table="));
    let flow_priority =
        flow.iter().find_map(|word| word.strip_prefix("priority=")).map(str::to_owned);
    flow.retain(|word| !word.starts_with("priority="));
    let (matches, rest) = match head.split_once("priority ") {
        Some((matches, rest)) => (matches, rest),
        None => (head, "32768"),
    };
    let priority = rest.split([',', ' ']).next().unwrap_or_default();
    let matches = matches.split(", cookie").next().unwrap_or_default();
    let mut matches = fields(matches);
    matches.retain(|word| !word.starts_with("0x") && word != "cookie");
    flow == matches && flow_priority.as_deref().unwrap_or("32768") == priority
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_drops() {
        let traced = "Flow: icmp,in_port=\"a\"\n\nbridge(\"s1\")\n------------\n 0. \
                      icmp,in_port=\"a\", priority 100, cookie 0x6f76\n    drop\n\nFinal flow: \
                      unchanged\nDatapath actions: drop\n";
        let read = read(traced);
        let head = "icmp,in_port=\"a\", priority 100, cookie 0x6f76".to_owned();
        assert_eq!(read.last, Last::Flow { head: head.clone(), drops: true });
        assert!(read.drops && read.leaves.is_empty());
        assert!(same("priority=100,icmp,in_port=\"a\",actions=drop", &head));
        assert!(!same("priority=99,icmp,in_port=\"a\",actions=drop", &head));
        assert!(!same("priority=100,tcp,in_port=\"a\",actions=drop", &head));
    }

    #[test]
    fn a_switch_that_floods() {
        let traced = "bridge(\"s1\")\n------------\n 0. priority 0\n    NORMAL\n     -> no \
                      learned MAC for destination, flooding\n\nDatapath actions: s1,b.x,c\n";
        let read = read(traced);
        let leaves: Vec<&str> = read.leaves.iter().map(|name| name.as_str()).collect();
        assert_eq!(leaves, ["b.x", "c", "s1"]);
        assert_eq!(read.words, ["bridge(\"s1\")", "no learned MAC for destination, flooding"]);
    }

    #[test]
    fn no_flow_at_all() {
        let read = read(" 0. No match.\n    drop\n\nDatapath actions: drop\n");
        assert_eq!((read.last, read.drops), (Last::NoFlow, true));
    }
}
