//! `ovsns ping`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::{CallError, Ending, ask, show};
use crate::api::{NodePing, Pinged};
use crate::model::names::NodeName;

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

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let call = NodePing {
        from: args.from.clone(),
        to: args.to.clone(),
        neighbours: args.neighbours,
        askers: args.askers.iter().map(NodeName::to_string).collect(),
        count: args.count,
        timeout: args.timeout.as_secs_f64(),
        lab: args.lab.clone(),
    };
    let pinged = ask::ask("ping", call).await?;
    if args.json {
        show::json(&pinged);
    } else if args.from.is_some() {
        show::out(&lines(&pinged));
    } else {
        show::out(&matrix(&pinged));
    }
    let all_answer = pinged.iter().all(Pinged::all_answered);
    Ok(if all_answer { Ending::Well } else { Ending::No })
}

/// A line a question.
fn lines(pinged: &[Pinged]) -> String {
    let mut text = String::new();
    for it in pinged {
        let address = it.address.map(|a| format!(" ({a})")).unwrap_or_default();
        let answered = match (it.min_ms.zip(it.max_ms), &it.error) {
            (Some((least, most)), _) => {
                format!("{} of {} answered, {least} to {most} ms", it.received, it.sent)
            }
            (None, Some(reason)) => format!("no answer: {reason}"),
            (None, None) => format!("0 of {} answered in time", it.sent),
        };
        writeln!(text, "{} to {}{address}: {answered}", it.from, it.to)
            .expect("a string takes all");
    }
    text
}

/// Who asks in rows, who answers in columns; of a large lab only the pairs
/// that fail.
fn matrix(pinged: &[Pinged]) -> String {
    // In the order of their names as nodes have it, `n2` before `n10`.
    let name = |text: &str| NodeName::new(text).expect("a node's name");
    let nodes: BTreeSet<NodeName> =
        pinged.iter().flat_map(|it| [&it.from, &it.to]).map(|it| name(it)).collect();
    let mut cells: BTreeMap<(NodeName, NodeName), Vec<&Pinged>> = BTreeMap::new();
    for it in pinged {
        cells.entry((name(&it.from), name(&it.to))).or_default().push(it);
    }
    let mut text = String::new();
    if nodes.len() <= MATRIX_MAX {
        let head = std::iter::once(String::new()).chain(nodes.iter().map(ToString::to_string));
        let mut rows = vec![head.collect::<Vec<_>>()];
        let asking: BTreeSet<NodeName> = pinged.iter().map(|it| name(&it.from)).collect();
        for from in &asking {
            let cells = nodes.iter().map(|to| match cells.get(&(from.clone(), to.clone())) {
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
    let least = pinged.iter().filter_map(|it| it.min_ms).min_by(f64::total_cmp);
    let most = pinged.iter().filter_map(|it| it.max_ms).max_by(f64::total_cmp);
    let spread = match least.zip(most) {
        Some((least, most)) => format!(", {least} to {most} ms"),
        None => String::new(),
    };
    let pairs = cells.len();
    writeln!(text, "{answering} of {pairs} pairs answer{spread}").expect("a string takes all");
    if answering < pairs && nodes.len() <= MATRIX_MAX {
        text.push_str("4 and 6: answers by IPv4 and by IPv6; x4 and x6: does not\n");
    }
    text
}

fn good(answers: &[&Pinged]) -> bool {
    answers.iter().all(|it| it.all_answered())
}

/// `46`, or `4x6` where IPv6 does not answer; `none` without any address.
fn cell(answers: &[&Pinged]) -> String {
    let mut text = String::new();
    for it in answers {
        let family = match it.address {
            Some(IpAddr::V4(_)) => '4',
            Some(IpAddr::V6(_)) => '6',
            None => return "none".to_owned(),
        };
        if !it.all_answered() {
            text.push('x');
        }
        text.push(family);
    }
    text
}
