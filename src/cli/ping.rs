//! `ovsns ping`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use nix::errno::Errno;
use serde::Serialize;

use super::input::{self, NodeWords};
use super::{CallError, Ending, show};
use crate::engine::EngineError;
use crate::kernel::permissions::Capability;
use crate::kernel::ping::{self, Outcome, Patience, Probe};
use crate::kernel::worker::Worker;
use crate::model::mark::netns;
use crate::model::names::{LabName, NodeName};
use crate::model::world::{Questions, SeenNode};

/// The widest matrix that is printed whole.
const MATRIX_MAX: usize = 25;

/// Ping between two nodes, or between all
///
/// From inside the nodes, IPv4 and IPv6, all pairs at once. Of a node with
/// several addresses the one on a common network is asked, else its first.
/// The exit status is 0 only if all answer.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns ping\n         ovsns ping n1 n2 --count 10\n         \
                  ovsns ping --neighbours")]
pub(super) struct Args {
    /// The node that asks: NODE, or LAB/NODE
    #[arg(value_name = "A", requires = "to")]
    from: Option<String>,
    /// The node that answers
    #[arg(value_name = "B")]
    to: Option<String>,
    /// Only those who share a network, at their addresses on it
    #[arg(long, conflicts_with = "from")]
    neighbours: bool,
    /// Of the neighbours only what these ask, such as n1,n2
    #[arg(long = "from", value_name = "NODE,...", value_delimiter = ',', requires = "neighbours")]
    askers: Vec<NodeName>,
    /// Requests for each pair, one after the other
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// How long to wait for each answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    timeout: Duration,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if Duration::ZERO < time && seconds <= 3600.0 => Ok(time),
        _ => Err("more than 0 and at most 3600".to_owned()),
    }
}

/// One node asks another at one address.
struct Asked {
    from: NodeName,
    to: NodeName,
    address: Option<IpAddr>,
}

#[derive(Serialize)]
struct Answer {
    from: String,
    to: String,
    address: Option<String>,
    sent: u32,
    received: u32,
    min_ms: Option<f64>,
    max_ms: Option<f64>,
    /// Why nothing could be sent.
    error: Option<String>,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    input::allowed(&[Capability::NetAdmin, Capability::SysAdmin, Capability::NetRaw])?;
    let pair = match (&args.from, &args.to) {
        (Some(from), Some(to)) => {
            let from = NodeWords::new(from, args.lab.as_deref())?;
            let lab = from.lab.as_ref().map(|lab| lab.as_str());
            Some((NodeWords::new(to, lab)?, from))
        }
        _ => None,
    };
    let named = pair.as_ref().and_then(|(_, from)| from.lab.as_ref()).map(|lab| lab.to_string());
    let named = named.as_deref().or(args.lab.as_deref());
    let mut engine = input::engine("ovsns ping").await?;
    let lab = input::one_lab(&mut engine, named).await?;
    let world = engine.observe(&Questions::about(&lab)).await?;
    if world.is_empty() {
        return Err(EngineError::NoLab(lab).into());
    }
    let nodes = world.host.nodes;
    let asked = match pair {
        Some((to, from)) => {
            let ends = (known(&nodes, &lab, &from)?, known(&nodes, &lab, &to)?);
            questions_between(ends.0, ends.1)
        }
        None if args.neighbours => {
            for asker in &args.askers {
                known(&nodes, &lab, &NodeWords { lab: None, node: asker.clone() })?;
            }
            let of_interest =
                |asked: &Asked| args.askers.is_empty() || args.askers.contains(&asked.from);
            questions_of_neighbours(&nodes).into_iter().filter(of_interest).collect()
        }
        None => {
            let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b)));
            pairs.filter(|(a, b)| a.0 != b.0).flat_map(|(a, b)| questions_between(a, b)).collect()
        }
    };
    if asked.is_empty() && args.neighbours {
        let what = format!("nobody shares a network in lab `{lab}`");
        return Err(CallError::usage(what, "leave out `--neighbours`, or `--from`"));
    }
    if asked.is_empty() {
        let what = format!("lab `{lab}` has no two nodes");
        return Err(CallError::usage(what, "add some: `ovsns node add n2 --link s1`"));
    }
    let outcomes = ask(&lab, &asked, args).await?;
    let all_answer = outcomes.iter().all(Outcome::all_answered);
    if outcomes.iter().any(|o| matches!(o.refused, Some(Errno::EINVAL | Errno::ENOBUFS))) {
        // One table for all namespaces; N nodes that all know each other need
        // N * (N - 1) entries of it (1024 by default, for each family).
        show::talk(
            "hint: the machine's table of neighbours may be full, which is no fault of the lab: \
             `sysctl -w net.ipv4.neigh.default.gc_thresh3=65536 \
             net.ipv6.neigh.default.gc_thresh3=65536`",
        );
    }
    if args.json {
        let answers: Vec<_> = asked.iter().zip(&outcomes).map(|(a, o)| answer(a, o)).collect();
        show::json(&answers);
    } else if args.from.is_some() {
        show::out(&lines(&asked, &outcomes));
    } else {
        show::out(&matrix(&asked, &outcomes));
    }
    Ok(if all_answer { Ending::Well } else { Ending::No })
}

fn known<'a>(
    nodes: &'a BTreeMap<NodeName, SeenNode>,
    lab: &LabName,
    words: &NodeWords,
) -> Result<(&'a NodeName, &'a SeenNode), CallError> {
    nodes.get_key_value(&words.node).ok_or_else(|| {
        let what = format!("lab `{lab}` has no node `{}`", words.node);
        CallError::usage(what, "`ovsns node list` shows the nodes")
    })
}

/// At most one question a family; one without an address if there is none.
fn questions_between(a: (&NodeName, &SeenNode), b: (&NodeName, &SeenNode)) -> Vec<Asked> {
    let ask = |address| Asked { from: a.0.clone(), to: b.0.clone(), address };
    let families = [true, false].map(|v4| address_of(b.1, a.1, v4));
    let found: Vec<_> = families.into_iter().flatten().map(|to| ask(Some(to))).collect();
    if found.is_empty() { vec![ask(None)] } else { found }
}

/// A question to each node on each network, from each other node on it. Nobody is
/// compared with everybody: in a city that would be a million times.
fn questions_of_neighbours(nodes: &BTreeMap<NodeName, SeenNode>) -> Vec<Asked> {
    let mut networks: BTreeMap<IpNet, Vec<(&NodeName, IpAddr)>> = BTreeMap::new();
    for (name, node) in nodes {
        for net in addresses(node) {
            networks.entry(net.trunc()).or_default().push((name, net.addr()));
        }
    }
    let mut asked = Vec::new();
    for hosts in networks.values() {
        for (from, _) in hosts {
            let others = hosts.iter().filter(|(to, _)| to != from);
            let ask = |(to, address): &(&NodeName, IpAddr)| Asked {
                from: (*from).clone(),
                to: (*to).clone(),
                address: Some(*address),
            };
            asked.extend(others.map(ask));
        }
    }
    asked
}

fn addresses(node: &SeenNode) -> impl Iterator<Item = IpNet> {
    let all = node.addresses.values().chain(node.foreign_addresses.values());
    let dynamic = node.dynamic.values().flat_map(|addresses| addresses.keys());
    all.flatten().chain(dynamic).copied()
}

/// The address at which `to` is asked by `from`.
fn address_of(to: &SeenNode, from: &SeenNode, v4: bool) -> Option<IpAddr> {
    let of = |node: &SeenNode| -> Vec<IpNet> {
        addresses(node).filter(|net| net.addr().is_ipv4() == v4).collect()
    };
    let (to, from) = (of(to), of(from));
    // A node that has none of this family cannot ask.
    let near = to.iter().find(|net| from.iter().any(|own| own.contains(&net.addr())));
    near.or(to.first()).filter(|_| !from.is_empty()).map(IpNet::addr)
}

async fn ask(lab: &LabName, asked: &[Asked], args: &Args) -> Result<Vec<Outcome>, CallError> {
    let probe = |asked: &Asked| {
        let [netns, answers_in] = [&asked.from, &asked.to].map(|node| netns(lab, node));
        asked.address.map(|to| Probe { netns, answers_in, to })
    };
    let probes: Vec<Probe> = asked.iter().filter_map(probe).collect();
    let worker = Worker::start()?;
    let patience = Patience { count: args.count, timeout: args.timeout };
    let mut answered = ping::ping(&worker, &probes, patience).await?.into_iter();
    let outcome = |asked: &Asked| match asked.address {
        Some(_) => answered.next().expect("one for each probe"),
        None => Outcome::default(),
    };
    Ok(asked.iter().map(outcome).collect())
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Why there is no answer, if more is known than that it did not come.
fn reason(asked: &Asked, outcome: &Outcome) -> Option<String> {
    match (asked.address, outcome.refused) {
        (None, _) => Some("no address in a family that both have".into()),
        (Some(_), Some(errno)) => Some(errno.desc().to_lowercase()),
        (Some(_), None) => None,
    }
}

fn answer(asked: &Asked, outcome: &Outcome) -> Answer {
    Answer {
        from: asked.from.to_string(),
        to: asked.to.to_string(),
        address: asked.address.map(|address| address.to_string()),
        sent: outcome.sent,
        received: outcome.received,
        min_ms: outcome.times.map(|(least, _)| ms(least)),
        max_ms: outcome.times.map(|(_, most)| ms(most)),
        error: reason(asked, outcome),
    }
}

/// A line a question.
fn lines(asked: &[Asked], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for (asked, outcome) in asked.iter().zip(outcomes) {
        let address = asked.address.map(|a| format!(" ({a})")).unwrap_or_default();
        let answered = match (outcome.times, reason(asked, outcome)) {
            (Some((least, most)), _) => format!(
                "{} of {} answered, {} to {} ms",
                outcome.received,
                outcome.sent,
                ms(least),
                ms(most)
            ),
            (None, Some(reason)) => format!("no answer: {reason}"),
            (None, None) => format!("0 of {} answered in time", outcome.sent),
        };
        writeln!(text, "{} to {}{address}: {answered}", asked.from, asked.to)
            .expect("a string takes all");
    }
    text
}

/// Who asks in rows, who answers in columns; of a large lab only the pairs
/// that fail.
fn matrix(asked: &[Asked], outcomes: &[Outcome]) -> String {
    let nodes: BTreeSet<&NodeName> = asked.iter().flat_map(|a| [&a.from, &a.to]).collect();
    let mut cells: BTreeMap<(&NodeName, &NodeName), Vec<(&Asked, &Outcome)>> = BTreeMap::new();
    for (asked, outcome) in asked.iter().zip(outcomes) {
        cells.entry((&asked.from, &asked.to)).or_default().push((asked, outcome));
    }
    let mut text = String::new();
    if nodes.len() <= MATRIX_MAX {
        let head = std::iter::once(String::new()).chain(nodes.iter().map(ToString::to_string));
        let mut rows = vec![head.collect::<Vec<_>>()];
        let asking: BTreeSet<&NodeName> = asked.iter().map(|a| &a.from).collect();
        for from in &asking {
            let cells = nodes.iter().map(|to| match cells.get(&(*from, *to)) {
                Some(answers) => cell(answers),
                None => "-".to_owned(),
            });
            rows.push(std::iter::once(from.to_string()).chain(cells).collect());
        }
        text.push_str(&show::table(&rows));
        text.push('\n');
    } else {
        let failed = cells.iter().filter(|(_, answers)| !good(answers));
        for ((from, to), answers) in failed {
            writeln!(text, "{from} to {to}: {}", cell(answers)).expect("a string takes all");
        }
    }
    let answering = cells.values().filter(|answers| good(answers)).count();
    let times: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.times).collect();
    let spread = match (times.iter().map(|t| t.0).min(), times.iter().map(|t| t.1).max()) {
        (Some(least), Some(most)) => format!(", {} to {} ms", ms(least), ms(most)),
        _ => String::new(),
    };
    let pairs = cells.len();
    writeln!(text, "{answering} of {pairs} pairs answer{spread}").expect("a string takes all");
    if answering < pairs && nodes.len() <= MATRIX_MAX {
        text.push_str("4 and 6: answers by IPv4 and by IPv6; x4 and x6: does not\n");
    }
    text
}

fn good(answers: &[(&Asked, &Outcome)]) -> bool {
    answers.iter().all(|(_, outcome)| outcome.all_answered())
}

/// `46`, or `4x6` where IPv6 does not answer; `none` without any address.
fn cell(answers: &[(&Asked, &Outcome)]) -> String {
    let mut text = String::new();
    for (asked, outcome) in answers {
        let family = match asked.address {
            Some(IpAddr::V4(_)) => '4',
            Some(IpAddr::V6(_)) => '6',
            None => return "none".to_owned(),
        };
        if !outcome.all_answered() {
            text.push('x');
        }
        text.push(family);
    }
    text
}
