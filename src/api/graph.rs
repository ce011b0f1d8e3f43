//! A lab as a picture of it is drawn: what is there, beside what should be.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::desk::one_lab;
use super::view::{KindView, LabView, LinkView, NodeView};
use super::{Call, CallError, Desk};
use crate::engine::{Engine, EngineError};
use crate::model::graph::{EdgeEnd, Graph, Kind, State, impaired};
use crate::model::names::LabName;
use crate::model::topology::{Backend, Link};

/// Shows what a running lab is drawn from: its things and what joins them, each with
/// whether it works, is missing, or is not in the lab's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabGraph {
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

impl Call for LabGraph {
    const NAME: &'static str = "lab.graph";
    type Answer = Graph;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Graph, CallError> {
        let mut engine = desk.engine("ovsns graph").await?;
        let lab = one_lab(&mut engine, self.lab.as_deref()).await?;
        Ok(running(&mut engine, &lab).await?)
    }
}

/// A lab that runs, beside what it is to be.
pub(crate) async fn running(engine: &mut Engine, lab: &LabName) -> Result<Graph, EngineError> {
    let (view, wanted) = LabView::glance(engine, lab).await?;
    let graph = seen(&view).in_order();
    Ok(match wanted {
        Some(lab) => {
            let wanted = Graph::wanted(&lab);
            with_parts(graph, &wanted).beside(wanted).in_order()
        }
        None => graph,
    })
}

/// What nodes and switches are besides being there is known of the file alone; what
/// a switch is made of was seen.
fn with_parts(mut graph: Graph, wanted: &Graph) -> Graph {
    let parts: BTreeMap<&str, &Vec<String>> =
        wanted.nodes.iter().map(|it| (it.id.as_str(), &it.details)).collect();
    let is_backend = |word: &str| {
        [Backend::Ovs, Backend::Linux].map(|it| it.to_string()).contains(&word.to_owned())
    };
    for vertex in graph.nodes.iter_mut().filter(|it| matches!(it.kind, Kind::Node | Kind::Switch)) {
        let more = parts.get(vertex.id.as_str()).into_iter().flat_map(|it| it.iter());
        let more = more.filter(|it| !is_backend(it) && !vertex.details.contains(it));
        let more: Vec<String> = more.cloned().collect();
        vertex.details.extend(more);
    }
    graph
}

/// A lab as it is there.
fn seen(view: &LabView) -> Graph {
    let mut graph = Graph::new(&view.lab);
    for switch in &view.switches {
        let kind = match &switch.datapath {
            Some(datapath) => format!("{} {datapath}", switch.backend),
            None => switch.backend.clone(),
        };
        let works = switch.up && switch.broken.is_none();
        graph.add(&switch.name, Kind::Switch, vec![kind], state(works));
    }
    for node in &view.nodes {
        let mut details = Vec::new();
        details.extend(node.sealed.map(|_| "sealed".to_owned()));
        details.extend(node.adopted.as_ref().map(|from| format!("adopted from {from}")));
        graph.add(&node.name, Kind::Node, details, State::Up);
    }
    let nodes: BTreeMap<&str, &NodeView> =
        view.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    for link in &view.links {
        let ends = [0, 1].map(|side| end(&mut graph, &nodes, &link.ends[side]));
        let state = if link.held_down { State::HeldDown } else { state(link.up) };
        graph.join_another(ends, number(&link.ends[1]), notes(link), state);
    }
    for switch in &view.switches {
        for port in &switch.ports {
            let Some(across) = &port.across else { continue };
            let works = state(port.broken.is_none() && switch.up);
            if let KindView::Tunnel { tunnel, remote, key, .. } = &port.kind {
                let key = key.map(|key| format!("key {key}"));
                let details = [format!("{tunnel} {remote}")].into_iter().chain(key).collect();
                graph.tunnel(&switch.name, across, details, works);
            } else if let Some(nic) = across.strip_prefix("NIC ") {
                let ends = [EdgeEnd::at(&switch.name), graph.nic(nic, State::Up)];
                graph.join(ends, vec!["uplink".into()], works);
            }
        }
    }
    let list = |nodes: &std::collections::BTreeSet<_>| -> String {
        nodes.iter().map(ToString::to_string).collect::<Vec<String>>().join(" ")
    };
    let cuts = view.cuts.iter();
    graph.notes = cuts
        .map(|(name, cut)| format!("cut {name}: {} from {}", list(&cut.nodes), list(&cut.from)))
        .collect();
    graph
}

fn state(works: bool) -> State {
    if works { State::Up } else { State::Down }
}

/// Which of several links between two switches it is that ends so.
fn number(end: &str) -> u32 {
    end.split_once('#').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

fn end(graph: &mut Graph, nodes: &BTreeMap<&str, &NodeView>, words: &str) -> EdgeEnd {
    match words.split_once(':') {
        None => EdgeEnd::at(words.split('#').next().unwrap_or(words)),
        Some((node, interface)) => match nodes.get(node) {
            // `macvlan:eth1`, `nic:eth1`
            None => graph.nic(interface, State::Up),
            Some(seen) => {
                let seen = seen.interfaces.iter().find(|it| it.name == interface);
                let addresses = seen.into_iter().flat_map(|it| {
                    let dynamic = it.dynamic_addresses.iter().map(|it| &it.address);
                    it.addresses.iter().chain(dynamic).chain(&it.foreign_addresses).cloned()
                });
                EdgeEnd::on(node, interface, addresses.collect())
            }
        },
    }
}

/// What is special about a link.
fn notes(link: &LinkView) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(link.ends[1].starts_with("macvlan:").then(|| "macvlan".to_owned()));
    notes.extend(link.ends[1].starts_with("nic:").then(|| "moved".to_owned()));
    notes.extend(Some(link.settings.words.clone()).filter(|words| !words.is_empty()));
    notes.extend(link.bond.as_ref().map(|bond| format!("bond of {}", bond.members)));
    let mtu = link.mtu.filter(|mtu| *mtu != Link::MTU_DEFAULT);
    notes.extend(mtu.map(|mtu| format!("mtu {mtu}")));
    notes.extend(impaired([&link.ends[0], &link.ends[1]], link.impairments));
    notes
}
