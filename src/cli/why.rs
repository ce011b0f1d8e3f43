//! `ovsns why`

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Value as Json, json};

use super::input::{self, NodeWords};
use super::{CallError, Ending, show};
use crate::engine::why::{Ground, Told};
use crate::kernel::permissions::Capability;
use crate::model::mark::{Mark, Thing};
use crate::model::names::{IfName, NodeName};
use crate::model::packet::{Carried, Spot};
use crate::plan::why::facts::{Outcome, Refused, RouteAnswer};
use crate::plan::why::{Death, NodeHop, Part, Stage, What};

/// Say why one node does not hear another
///
/// Sends a packet from A to B and watches every device on its way, there and
/// back: the first at which it does not show is where it dies. Then it reads
/// what is there (links, addresses, routes, neighbours, filters, switches, queues)
/// for the cause, and says what mends it. It asks by IPv4 and by IPv6, where both
/// have addresses. Changes nothing. The exit status is 0 if all is well, and 1 if
/// something dies.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns why n1 n2\n         ovsns why n1 n2 --port 80/tcp")]
pub(super) struct Args {
    /// The node that asks: NODE, or LAB/NODE
    #[arg(value_name = "A")]
    from: String,
    /// The node that is to answer
    #[arg(value_name = "B")]
    to: String,
    /// Ask for a port, PORT/tcp or PORT/udp, in place of a ping
    #[arg(long, value_name = "PORT", value_parser = port)]
    port: Option<Carried>,
    /// Only by IPv4
    #[arg(long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only by IPv6
    #[arg(long)]
    ipv6: bool,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn port(text: &str) -> Result<Carried, String> {
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

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    input::allowed(&[Capability::NetAdmin, Capability::SysAdmin, Capability::NetRaw])?;
    let from = NodeWords::new(&args.from, args.lab.as_deref())?;
    let named = from.lab.as_ref().map(|lab| lab.to_string());
    let to = NodeWords::new(&args.to, named.as_deref())?;
    let mut engine = input::engine("ovsns why").await?;
    let lab = input::one_lab(&mut engine, named.as_deref()).await?;
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
        true => !args.ipv6,
        false => !args.ipv4,
    });
    let addresses: Vec<IpAddr> =
        families.filter_map(|v4| ground.address(&to.node, &from.node, v4)).collect();
    if addresses.is_empty() {
        let family = match (args.ipv4, args.ipv6) {
            (true, _) => "an IPv4 address",
            (_, true) => "an IPv6 address",
            _ => "addresses of one family",
        };
        let what = format!("`{}` and `{}` do not both have {family}", from.node, to.node);
        return Err(CallError::usage(what, "`ovsns node list` shows what they have"));
    }
    let id = u16::try_from(std::process::id() & 0x7fff).expect("masked");
    let carried = args.port.unwrap_or(Carried::Echo { id });
    let ends = (&from.node, &to.node);
    let mut all = Vec::new();
    for address in addresses {
        all.push(engine.why(&ground, ends, address, carried).await?);
    }
    if args.json {
        show::json(&all.iter().map(|told| as_json(&ground, ends, told)).collect::<Vec<_>>());
    } else {
        let texts: Vec<String> = all.iter().map(|told| in_words(&ground, ends, told)).collect();
        show::out(&texts.join("\n"));
    }
    let well = all.iter().all(|told| told.verdict.dies.is_none());
    Ok(if well { Ending::Well } else { Ending::No })
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

fn as_json(ground: &Ground, (from, to): (&NodeName, &NodeName), told: &Told) -> Json {
    let dies = told.verdict.dies.as_ref();
    let hops: Vec<Json> = told
        .hops
        .iter()
        .enumerate()
        .map(|(index, hop)| {
            let (place, what) = hop_in_words(ground, told, index);
            let passed = match dies {
                None => Some(true),
                Some(death) if index < death.hop => Some(true),
                Some(death) if index == death.hop => Some(false),
                Some(_) => None,
            };
            json!({ "at": place, "what": what, "back": hop.is_back, "passed": passed })
        })
        .collect();
    let death = dies.map(|death| {
        let (place, _) = hop_in_words(ground, told, death.hop);
        let causes: Vec<Json> = death
            .findings
            .iter()
            .map(|it| json!({ "why": it.what, "mend": it.mend, "certain": it.certain }))
            .collect();
        json!({ "hop": death.hop, "at": place, "causes": causes })
    });
    json!({
        "from": from,
        "to": to,
        "address": told.packet.to,
        "packet": told.packet.carried.to_string(),
        "well": dies.is_none(),
        "hops": hops,
        "dies": death,
        "notes": told.verdict.notes,
    })
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
