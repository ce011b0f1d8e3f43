//! Why one node does not hear another.

use std::fmt::Write as _;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::desk::{NodeWords, allowed, one_lab};
use super::{Call, CallError, Desk};
use crate::engine::why::{Ground, Told};
use crate::kernel::permissions::Capability;
use crate::model::mark::{Mark, Thing};
use crate::model::names::{IfName, NodeName};
use crate::model::packet::{Carried, Spot};
use crate::plan::why::facts::{Outcome, Refused, RouteAnswer};
use crate::plan::why::{Death, NodeHop, Part, Stage, What};

/// Says why one node does not hear another: sends a packet, watches every device on its
/// way, there and back, and reads what is there for the cause. Changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeWhy {
    /// The node that asks: `NODE`, or `LAB/NODE`.
    pub from: String,
    /// The node that is to answer.
    pub to: String,
    /// A port to ask for in place of a ping: `80/tcp`, `53/udp`.
    pub port: Option<String>,
    /// Only by IPv4.
    #[serde(default)]
    pub ipv4: bool,
    /// Only by IPv6.
    #[serde(default)]
    pub ipv6: bool,
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

/// What was found out about one address of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// Who asks.
    pub from: String,
    /// Who is asked.
    pub to: String,
    /// At which address.
    pub address: IpAddr,
    /// What is sent.
    pub packet: String,
    /// Whether it arrives, and so does the answer.
    pub well: bool,
    /// The way, there and back.
    pub hops: Vec<Hop>,
    /// Where it ends, if it does.
    pub dies: Option<Dies>,
    /// What is worth knowing besides.
    pub notes: Vec<String>,
    /// All of that in words, in lines.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// A place on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hop {
    /// A node, a link, a switch.
    pub at: String,
    /// What happens there, or would.
    pub what: String,
    /// Whether that is of the answer.
    pub back: bool,
    /// Whether it came through; nothing behind the place where it ends.
    pub passed: Option<bool>,
}

/// Where a packet ends, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dies {
    /// The number of that hop, from 0.
    pub hop: usize,
    /// The place.
    pub at: String,
    /// Why; none if nothing that can be read explains it.
    pub causes: Vec<Cause>,
}

/// Why a packet ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    /// What is wrong.
    pub why: String,
    /// What mends it, if that is known.
    pub mend: Option<String>,
    /// Whether it is that for sure.
    pub certain: bool,
}

impl Call for NodeWhy {
    const NAME: &'static str = "node.why";
    type Answer = Vec<Explained>;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Vec<Explained>, CallError> {
        allowed(&[Capability::NetAdmin, Capability::SysAdmin, Capability::NetRaw])?;
        let id = u16::try_from(std::process::id() & 0x7fff).expect("masked");
        let carried = match &self.port {
            Some(text) => port(text).map_err(|why| CallError::usage(format!("`{text}`"), why))?,
            None => Carried::Echo { id },
        };
        let from = NodeWords::new(&self.from, self.lab.as_deref())?;
        let named = from.lab.as_ref().map(|lab| lab.to_string());
        let to = NodeWords::new(&self.to, named.as_deref())?;
        let mut engine = desk.engine("ovsns why").await?;
        let lab = one_lab(&mut engine, named.as_deref()).await?;
        let ground = engine.ground(&lab).await?;
        for node in [&from.node, &to.node] {
            let wanted = ground.wanted.as_ref().is_some_and(|lab| lab.nodes.contains_key(node));
            if !wanted && !ground.world.host.nodes.contains_key(node) {
                let what = format!("lab `{lab}` has no node `{node}`");
                return Err(CallError::usage(what, "`ovsns node list` shows the nodes"));
            }
        }
        if from.node == to.node {
            let what = format!("`{}` hears itself without any network", from.node);
            return Err(CallError::usage(what, "name two nodes, as in `ovsns why n1 n2`"));
        }
        let families = [true, false].into_iter().filter(|v4| match v4 {
            true => !self.ipv6,
            false => !self.ipv4,
        });
        let addresses: Vec<IpAddr> =
            families.filter_map(|v4| ground.address(&to.node, &from.node, v4)).collect();
        if addresses.is_empty() {
            let family = match (self.ipv4, self.ipv6) {
                (true, _) => "an IPv4 address",
                (_, true) => "an IPv6 address",
                _ => "addresses of one family",
            };
            let what = format!("`{}` and `{}` do not both have {family}", from.node, to.node);
            return Err(CallError::usage(what, "`ovsns node list` shows what they have"));
        }
        let ends = (&from.node, &to.node);
        let mut all = Vec::new();
        for address in addresses {
            let told = engine.why(&ground, ends, address, carried).await?;
            all.push(explained(&ground, ends, &told));
        }
        Ok(all)
    }
}

/// Reads `80`, `80/tcp` or `53/udp`.
pub(crate) fn port(text: &str) -> Result<Carried, String> {
    let (number, kind) = text.split_once('/').unwrap_or((text, "tcp"));
    let to = match number.parse() {
        Ok(0) | Err(_) => return Err("a port is a number from 1 to 65535, as in `80/tcp`".into()),
        Ok(to) => to,
    };
    match kind {
        "tcp" => Ok(Carried::Tcp { from: 0, to }),
        "udp" => Ok(Carried::Udp { from: 0, to }),
        _ => Err(format!("`{kind}` is neither `tcp` nor `udp`")),
    }
}

fn in_words(ground: &Ground, (from, to): (&NodeName, &NodeName), told: &Told) -> String {
    let packet = &told.packet;
    let mut text = format!("{from} to {to}: {} of {}\n", packet.carried, packet.to);
    let dies = told.verdict.dies.as_ref();
    let mut was_back = false;
    let lines: Vec<(String, String)> =
        (0..told.hops.len()).map(|index| hop_in_words(ground, told, index)).collect();
    let width = lines.iter().map(|(place, _)| place.chars().count()).max().unwrap_or_default();
    for (index, (hop, (place, what))) in told.hops.iter().zip(&lines).enumerate() {
        let mark = match dies {
            Some(death) if death.hop == index => "✗",
            Some(death) if death.hop < index => "·",
            _ => "✓",
        };
        let is_turn = matches!(&hop.what, What::Node(node) if node.part == Part::Answers);
        if hop.is_back && !was_back && !is_turn {
            text.push_str("  and back\n");
        }
        was_back |= hop.is_back && !is_turn;
        let line = format!("  {mark} {place:width$}  {what}");
        writeln!(text, "{}", line.trim_end()).expect("a string takes all");
    }
    match dies {
        None => writeln!(text, "{}", well(told)).expect("a string takes all"),
        Some(death) => text.push_str(&death_in_words(ground, told, death)),
    }
    for note in &told.verdict.notes {
        writeln!(text, "note: {note}").expect("a string takes all");
    }
    text
}

fn well(told: &Told) -> String {
    let large = told.facts.tried_large.as_ref().map(|tried| tried.bytes);
    let large = large.map(|bytes| format!(", also in packets of {bytes} bytes"));
    match told.packet.carried {
        Carried::Udp { .. } => "all is well: it arrives, and somebody listens".to_owned(),
        Carried::Tcp { .. } => "all is well: the connection is made".to_owned(),
        Carried::Echo { .. } => {
            format!("all is well: it is answered{}", large.unwrap_or_default())
        }
    }
}

fn death_in_words(ground: &Ground, told: &Told, death: &Death) -> String {
    let (place, _) = hop_in_words(ground, told, death.hop);
    let is_back = told.hops[death.hop].is_back;
    let dying = &told.hops[death.hop].what;
    let is_turn = matches!(dying, What::Node(node) if node.part == Part::Answers);
    let what = match death.stage {
        Stage::Packet if is_turn => "it arrives, and the answer".to_owned(),
        Stage::Packet if is_back => "the answer".to_owned(),
        Stage::Packet => "it".to_owned(),
        Stage::Large => "what is large".to_owned(),
        Stage::Asking(ip) => format!("the question who has {ip}"),
        Stage::Telling(ip) => format!("the answer who has {ip}"),
    };
    let mut text = match is_refused(told) && is_turn {
        true => format!("it arrives, and {place} refuses it\n"),
        false => format!("{what} dies at {place}\n"),
    };
    match death.findings.as_slice() {
        [] => {
            let outcome = told.facts.tried.as_ref().map(|tried| tried.outcome);
            writeln!(
                text,
                "why: nothing that can be read explains it ({}). It came to {place}, and was seen \
                 nowhere behind it",
                outcome_in_words(outcome)
            )
            .expect("a string takes all");
        }
        [one] => {
            writeln!(text, "why: {}", one.what).expect("a string takes all");
            if let Some(mend) = &one.mend {
                writeln!(text, "mend: {mend}").expect("a string takes all");
            }
        }
        several => {
            for finding in several {
                let may = if finding.certain { "why" } else { "perhaps" };
                writeln!(text, "{may}: {}", finding.what).expect("a string takes all");
                if let Some(mend) = &finding.mend {
                    writeln!(text, "  mend: {mend}").expect("a string takes all");
                }
            }
        }
    }
    text
}

fn outcome_in_words(outcome: Option<Outcome>) -> String {
    let desc = |errno| nix::errno::Errno::from_raw(errno).desc().to_lowercase();
    match outcome {
        Some(Outcome::NotSent(errno)) => format!("the kernel would not send it: {}", desc(errno)),
        Some(Outcome::Undeliverable(errno)) => format!("the kernel gave up: {}", desc(errno)),
        Some(Outcome::Refused) => "it was refused".to_owned(),
        Some(Outcome::Answered | Outcome::Silence) | None => "no answer".to_owned(),
    }
}

/// Whether who was asked says no.
fn is_refused(told: &Told) -> bool {
    told.facts.tried.as_ref().is_some_and(|tried| tried.outcome == Outcome::Refused)
}

/// Where a hop is, and what happens there, or would if anything came to it.
fn hop_in_words(ground: &Ground, told: &Told, index: usize) -> (String, String) {
    let hop = &told.hops[index];
    let end = |(spot, device): &(Spot, String)| match spot {
        Spot::Node(node) => format!("{node}:{device}"),
        Spot::Home => port_of(ground, device),
    };
    match &hop.what {
        What::Node(node) => (node.node.to_string(), node_in_words(told, index, node)),
        What::Wire { from, to } => {
            let short = |end: String| end;
            match (&from.0, &to.0) {
                (Spot::Node(_), Spot::Home) => {
                    (format!("link {}", short(end(from))), String::new())
                }
                (Spot::Home, Spot::Node(_)) => (format!("link {}", short(end(to))), String::new()),
                _ => (format!("link {} to {}", end(from), end(to)), String::new()),
            }
        }
        What::Switch { switch, enters, leaves } => {
            let port = |device: &IfName| port_of(ground, device.as_str());
            (format!("switch {switch}"), format!("in by {}, out by {}", port(enters), port(leaves)))
        }
        What::Lost(_) => ("beyond".to_owned(), "nobody knows how it goes on".to_owned()),
    }
}

/// What a port is called: by what it leads to.
fn port_of(ground: &Ground, device: &str) -> String {
    let Ok(name) = IfName::new(device) else { return device.to_owned() };
    let ports = ground.world.fabric.switches.values().filter_map(|seen| seen.ports.get(&name));
    let mark = ports.map(|port| port.mark.clone()).find(|mark| !mark.is_empty());
    let mark = mark.or_else(|| Some(ground.world.host.ports.get(&name)?.alias.clone()));
    match mark.and_then(|mark| Mark::parse(&mark)).map(|mark| mark.thing) {
        Some(Thing::Port(port)) => match port.split_once('~') {
            Some((here, across)) => {
                format!("{here}-{}", across.split('#').next().unwrap_or(across))
            }
            None => port,
        },
        _ => device.to_owned(),
    }
}

fn node_in_words(told: &Told, index: usize, node: &NodeHop) -> String {
    let facts = &told.facts;
    let route = node.route.as_ref().and_then(|route| facts.routes.get(route));
    let way = match route {
        None => None,
        Some(RouteAnswer::Local) => Some("has that address itself".to_owned()),
        Some(RouteAnswer::Refused(refused)) => Some(
            match refused {
                Refused::NoRoute => "no route",
                Refused::Unreachable => "unreachable",
                Refused::Blackhole => "its routes drop it",
                Refused::Prohibited => "its routes forbid it",
                Refused::WrongWay => "its routes would not answer there",
                Refused::Other(_) => "its routes refuse it",
            }
            .to_owned(),
        ),
        Some(RouteAnswer::Leaves { device, via, to, .. }) => {
            let to = to.map(|to| match to.prefix_len() {
                0 => "default".to_owned(),
                _ => to.to_string(),
            });
            let to = to.map(|to| format!("{to} ")).unwrap_or_default();
            let via = via.map(|via| format!("via {via} ")).unwrap_or_default();
            Some(format!("{to}{via}dev {device}"))
        }
    };
    let death = told.verdict.dies.as_ref().map(|death| death.hop);
    let does = match node.part {
        Part::Sends => return way.unwrap_or_default(),
        Part::Answers if death == Some(index) && is_refused(told) => return "refuses".to_owned(),
        Part::Forwards if !forwards(told, node) => ["is no router", "is no router"],
        Part::Forwards => ["forwards", "would forward"],
        Part::Answers => ["answers", "would answer"],
        Part::Hears => ["hears the answer", "would hear the answer"],
    };
    let does = does[usize::from(death.is_some_and(|death| death < index))];
    match way.filter(|_| node.part != Part::Hears) {
        Some(way) => format!("{does}, {way}"),
        None => does.to_owned(),
    }
}

/// Whether a node passes on what is not for it.
fn forwards(told: &Told, node: &NodeHop) -> bool {
    let key = match told.packet.to {
        IpAddr::V4(_) => "ipv4.ip_forward",
        IpAddr::V6(_) => "ipv6.conf.all.forwarding",
    };
    let there = told.facts.spot(&Spot::Node(node.node.clone()));
    there.and_then(|there| there.sysctl(key)) != Some(0)
}

fn explained(ground: &Ground, ends: (&NodeName, &NodeName), told: &Told) -> Explained {
    let dies = told.verdict.dies.as_ref();
    let hop = |(index, hop): (usize, &crate::plan::why::Hop)| {
        let (at, what) = hop_in_words(ground, told, index);
        let passed = match dies {
            None => Some(true),
            Some(death) if index < death.hop => Some(true),
            Some(death) if index == death.hop => Some(false),
            Some(_) => None,
        };
        Hop { at, what, back: hop.is_back, passed }
    };
    let death = dies.map(|death| {
        let (at, _) = hop_in_words(ground, told, death.hop);
        let cause = |it: &crate::plan::why::Finding| Cause {
            why: it.what.clone(),
            mend: it.mend.clone(),
            certain: it.certain,
        };
        Dies { hop: death.hop, at, causes: death.findings.iter().map(cause).collect() }
    });
    Explained {
        from: ends.0.to_string(),
        to: ends.1.to_string(),
        address: told.packet.to,
        packet: told.packet.carried.to_string(),
        well: dies.is_none(),
        hops: told.hops.iter().enumerate().map(hop).collect(),
        dies: death,
        notes: told.verdict.notes.clone(),
        text: in_words(ground, ends, told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_on_the_command_line() {
        check("80", Some(Carried::Tcp { from: 0, to: 80 }));
        check("80/tcp", Some(Carried::Tcp { from: 0, to: 80 }));
        check("53/udp", Some(Carried::Udp { from: 0, to: 53 }));
        for bad in ["", "0", "65536", "80/sctp", "http", "/tcp"] {
            check(bad, None);
        }

        #[track_caller]
        fn check(text: &str, expected: Option<Carried>) {
            assert_eq!(port(text).ok(), expected, "{text:?}");
        }
    }
}
