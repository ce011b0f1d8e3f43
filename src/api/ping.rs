//! Pings between nodes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use nix::errno::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::desk::{NodeWords, allowed, one_lab};
use super::{Call, CallError, Desk};
use crate::engine::EngineError;
use crate::kernel::permissions::Capability;
use crate::kernel::ping::{self, Outcome, Patience, Probe};
use crate::kernel::worker::Worker;
use crate::model::mark::netns;
use crate::model::names::{LabName, NodeName};
use crate::model::world::{Questions, SeenNode};

/// How often one pair is asked at most.
const COUNT_MAX: u32 = 10_000;

/// How long an answer is waited for at most, in seconds.
const TIMEOUT_MAX: f64 = 3600.0;

/// Pings from one node to another, or between all, by IPv4 and by IPv6. Of a node with
/// several addresses the one on a common network is asked, else its first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodePing {
    /// The node that asks, `NODE` or `LAB/NODE`, together with `to`; all if none is named.
    pub from: Option<String>,
    /// The node that answers.
    pub to: Option<String>,
    /// Only those who share a network, at their addresses on it.
    pub neighbours: bool,
    /// Of the neighbours only what these ask; all if none is named.
    pub askers: Vec<String>,
    /// Requests for each pair, one after the other; from 1 to 10000.
    pub count: u32,
    /// How long to wait for each answer, in seconds; more than 0, and at most 3600.
    pub timeout: f64,
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

impl Default for NodePing {
    fn default() -> Self {
        let (from, to, lab) = (None, None, None);
        Self { from, to, neighbours: false, askers: Vec::new(), count: 1, timeout: 1.0, lab }
    }
}

/// What became of the requests of one node to another at one address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pinged {
    /// Who asked.
    pub from: String,
    /// Who was asked.
    pub to: String,
    /// Where; nothing if there is no address in a family that both have.
    pub address: Option<IpAddr>,
    /// How many requests were sent.
    pub sent: u32,
    /// How many were answered in time.
    pub received: u32,
    /// The shortest time that took, in milliseconds.
    pub min_ms: Option<f64>,
    /// The longest.
    pub max_ms: Option<f64>,
    /// Why nothing could be sent.
    pub error: Option<String>,
}

impl Pinged {
    /// Whether every request was answered.
    pub fn all_answered(&self) -> bool {
        self.sent == self.received && 0 < self.received
    }
}

/// One node asks another at one address.
struct Asked {
    from: NodeName,
    to: NodeName,
    address: Option<IpAddr>,
}

impl Call for NodePing {
    const NAME: &'static str = "node.ping";
    const IS_OPEN_ENDED: bool = true;
    type Answer = Vec<Pinged>;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Vec<Pinged>, CallError> {
        allowed(&[Capability::NetAdmin, Capability::SysAdmin, Capability::NetRaw])?;
        let patience = self.patience()?;
        let pair = match (&self.from, &self.to) {
            (Some(from), Some(to)) => {
                let from = NodeWords::new(from, self.lab.as_deref())?;
                let lab = from.lab.as_ref().map(|lab| lab.as_str());
                Some((NodeWords::new(to, lab)?, from))
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let hint = "give both `from` and `to`, or none of them";
                return Err(CallError::usage("only one end of the way is named", hint));
            }
        };
        let named = pair.as_ref().and_then(|(_, from)| from.lab.as_ref());
        let named = named.map(LabName::to_string).or(self.lab);
        let mut engine = desk.engine("ovsns ping").await?;
        let lab = one_lab(&mut engine, named.as_deref()).await?;
        let world = engine.observe(&Questions::about(&lab)).await?;
        if world.is_empty() {
            return Err(EngineError::NoLab(lab).into());
        }
        let nodes = world.host.nodes;
        let asked = match pair {
            Some((to, from)) => {
                let ends = (known(&nodes, &lab, &from.node)?, known(&nodes, &lab, &to.node)?);
                questions_between(ends.0, ends.1)
            }
            None if self.neighbours => {
                let askers = self.askers.iter().map(|name| NodeName::new(name));
                let askers: Vec<NodeName> = askers.collect::<Result<_, _>>()?;
                for asker in &askers {
                    known(&nodes, &lab, asker)?;
                }
                let of_interest = |asked: &Asked| askers.is_empty() || askers.contains(&asked.from);
                questions_of_neighbours(&nodes).into_iter().filter(of_interest).collect()
            }
            None => {
                let pairs = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b)));
                let pairs = pairs.filter(|(a, b)| a.0 != b.0);
                pairs.flat_map(|(a, b)| questions_between(a, b)).collect()
            }
        };
        if asked.is_empty() && self.neighbours {
            let what = format!("nobody shares a network in lab `{lab}`");
            return Err(CallError::usage(what, "leave out `--neighbours`, or `--from`"));
        }
        if asked.is_empty() {
            let what = format!("lab `{lab}` has no two nodes");
            return Err(CallError::usage(what, "add some: `ovsns node add n2 --link s1`"));
        }
        let abandoned = desk.abandoned();
        let outcomes = tokio::select! {
            outcomes = ask(&lab, &asked, patience) => outcomes?,
            // Nobody reads that.
            () = abandoned => vec![Outcome::default(); asked.len()],
        };
        if outcomes.iter().any(|o| matches!(o.refused, Some(Errno::EINVAL | Errno::ENOBUFS))) {
            // One table for all namespaces; N nodes that all know each other need
            // N * (N - 1) entries of it (1024 by default, for each family).
            desk.tell(
                "hint: the machine's table of neighbours may be full, which is no fault of the \
                 lab: `sysctl -w net.ipv4.neigh.default.gc_thresh3=65536 \
                 net.ipv6.neigh.default.gc_thresh3=65536`",
            );
        }
        Ok(asked.iter().zip(&outcomes).map(|(asked, outcome)| pinged(asked, outcome)).collect())
    }
}

impl NodePing {
    fn patience(&self) -> Result<Patience, CallError> {
        if !(1..=COUNT_MAX).contains(&self.count) {
            let what = format!("`count` is {}", self.count);
            return Err(CallError::usage(what, format!("give a number from 1 to {COUNT_MAX}")));
        }
        let timeout = Duration::try_from_secs_f64(self.timeout).ok();
        let is_good = |time: &Duration| !time.is_zero() && self.timeout <= TIMEOUT_MAX;
        let timeout = timeout.filter(is_good).ok_or_else(|| {
            let hint = format!("give seconds, more than 0 and at most {TIMEOUT_MAX}");
            CallError::usage(format!("`timeout` is {}", self.timeout), hint)
        })?;
        Ok(Patience { count: self.count, timeout })
    }
}

fn known<'a>(
    nodes: &'a BTreeMap<NodeName, SeenNode>,
    lab: &LabName,
    node: &NodeName,
) -> Result<(&'a NodeName, &'a SeenNode), CallError> {
    nodes.get_key_value(node).ok_or_else(|| {
        let what = format!("lab `{lab}` has no node `{node}`");
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

async fn ask(
    lab: &LabName,
    asked: &[Asked],
    patience: Patience,
) -> Result<Vec<Outcome>, CallError> {
    let probe = |asked: &Asked| {
        let [netns, answers_in] = [&asked.from, &asked.to].map(|node| netns(lab, node));
        asked.address.map(|to| Probe { netns, answers_in, to })
    };
    let probes: Vec<Probe> = asked.iter().filter_map(probe).collect();
    let worker = Worker::start()?;
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

fn pinged(asked: &Asked, outcome: &Outcome) -> Pinged {
    Pinged {
        from: asked.from.to_string(),
        to: asked.to.to_string(),
        address: asked.address,
        sent: outcome.sent,
        received: outcome.received,
        min_ms: outcome.times.map(|(least, _)| ms(least)),
        max_ms: outcome.times.map(|(_, most)| ms(most)),
        error: reason(asked, outcome),
    }
}
