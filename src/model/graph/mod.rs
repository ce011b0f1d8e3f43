//! A lab as a graph: what is in it, what joins that, and how each of these is.
//!
//! The noun that every picture of a lab is drawn from (`text`, `svg`, `words`).
//! It knows no position; those are found in `layout`. Things come in the order of
//! their names, so that the same lab is the same picture.

mod layout;
mod svg;
mod text;
mod wanted;
mod words;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::impair::Impairments;

pub use svg::svg;
pub use text::text;
pub use words::{dot, mermaid};

/// A lab, to be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Graph {
    /// The lab's name.
    pub lab: String,
    /// Nodes, switches, and what is outside of the lab and joined to it.
    pub nodes: Vec<Vertex>,
    /// What joins them.
    pub edges: Vec<Edge>,
    /// What is to be said of the whole, a line each.
    pub notes: Vec<String>,
}

/// A thing in a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Vertex {
    /// What edges call it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// More about it, a line each.
    pub details: Vec<String>,
    /// How it is.
    pub state: State,
}

/// What a thing is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A switch.
    Switch,
    /// A node.
    Node,
    /// A NIC of the machine.
    Nic,
    /// The other end of a tunnel.
    Remote,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody looked: it is as in a file.
    Wanted,
    /// It is there and works.
    Up,
    /// It is down because that is wanted.
    HeldDown,
    /// It is there and does not work.
    Down,
    /// It should be there.
    Missing,
    /// It is there, and the lab's file does not say so.
    Extra,
}

/// What joins two things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Edge {
    /// What tells it from every other of the lab.
    pub id: String,
    /// Its two ends.
    pub ends: [EdgeEnd; 2],
    /// Which it is of several between the same two switches, from 0.
    #[serde(default)]
    pub number: u32,
    /// What is special about it, in words.
    pub notes: Vec<String>,
    /// How it is.
    pub state: State,
}

/// Where an edge ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EdgeEnd {
    /// The thing.
    pub node: String,
    /// The interface there, if it is a node's.
    pub interface: Option<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
}

impl Kind {
    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Node => "node",
            Self::Nic => "NIC",
            Self::Remote => "tunnel",
        }
    }
}

impl State {
    /// What is to be said of it; nothing where all is well.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Wanted | Self::Up => None,
            Self::HeldDown => Some("held down"),
            Self::Down => Some("down"),
            Self::Missing => Some("missing"),
            Self::Extra => Some("not in the file"),
        }
    }

    /// The same as one word, for classes and colours.
    fn class(self) -> &'static str {
        match self {
            Self::Wanted | Self::Up => "up",
            Self::HeldDown => "held",
            Self::Down => "down",
            Self::Missing => "missing",
            Self::Extra => "extra",
        }
    }
}

impl EdgeEnd {
    /// An end at a thing as a whole.
    pub fn at(node: impl ToString) -> Self {
        Self { node: node.to_string(), interface: None, addresses: Vec::new() }
    }

    /// An end at an interface of a node.
    pub fn on(node: &str, interface: &str, addresses: Vec<String>) -> Self {
        Self { node: node.to_owned(), interface: Some(interface.to_owned()), addresses }
    }

    fn words(&self) -> String {
        match &self.interface {
            Some(interface) => format!("{}:{interface}", self.node),
            None => self.node.clone(),
        }
    }
}

impl Edge {
    /// What is to be said of it where it is drawn.
    fn label(&self) -> String {
        let number = (self.number != 0).then(|| format!("#{}", self.number));
        let notes = number.iter().chain(&self.notes).map(String::as_str);
        notes.chain(self.state.word()).collect::<Vec<_>>().join(", ")
    }
}

impl Graph {
    /// One with nothing in it.
    pub fn new(lab: impl ToString) -> Self {
        let (nodes, edges, notes) = (Vec::new(), Vec::new(), Vec::new());
        Self { lab: lab.to_string(), nodes, edges, notes }
    }

    /// Adds a thing of the lab.
    pub fn add(&mut self, name: &str, kind: Kind, details: Vec<String>, state: State) {
        let (id, name) = (name.to_owned(), name.to_owned());
        self.nodes.push(Vertex { id, name, kind, details, state });
    }

    /// A NIC of the machine, of which there is one, whatever it is joined to.
    pub fn nic(&mut self, nic: &str, state: State) -> EdgeEnd {
        let id = format!("nic:{nic}");
        if !self.nodes.iter().any(|vertex| vertex.id == id) {
            let (name, details) = (nic.to_owned(), vec!["NIC of this machine".to_owned()]);
            self.nodes.push(Vertex { id: id.clone(), name, kind: Kind::Nic, details, state });
        }
        EdgeEnd::at(id)
    }

    /// A tunnel, and what is at its other end.
    pub fn tunnel(&mut self, switch: &str, name: &str, details: Vec<String>, state: State) {
        let (id, kind) = (format!("{switch}@{name}"), Kind::Remote);
        let name = name.to_owned();
        self.nodes.push(Vertex { id: id.clone(), name, kind, details, state });
        self.join([EdgeEnd::at(switch), EdgeEnd::at(id)], vec!["tunnel".into()], state);
    }

    /// Adds what joins two things.
    pub fn join(&mut self, ends: [EdgeEnd; 2], notes: Vec<String>, state: State) {
        self.join_another(ends, 0, notes, state);
    }

    /// Adds one of several that join the same two things.
    pub fn join_another(
        &mut self,
        ends: [EdgeEnd; 2],
        number: u32,
        notes: Vec<String>,
        state: State,
    ) {
        let mut words = ends.each_ref().map(EdgeEnd::words);
        words.sort();
        let id = numbered(words.join(" -- "), number);
        self.edges.push(Edge { id, ends, number, notes, state });
    }

    /// Takes over what is in `wanted` and not here, as missing; what is here and not
    /// in `wanted` is beside its file.
    #[must_use]
    pub fn beside(mut self, wanted: Self) -> Self {
        let mut left: BTreeMap<_, _> =
            wanted.nodes.into_iter().map(|it| (it.id.clone(), it)).collect();
        for vertex in &mut self.nodes {
            if left.remove(&vertex.id).is_none() {
                vertex.state = State::Extra;
            }
        }
        let missing = |it| Vertex { state: State::Missing, ..it };
        self.nodes.extend(left.into_values().map(missing));
        let mut left: BTreeMap<_, _> =
            wanted.edges.into_iter().map(|it| (it.id.clone(), it)).collect();
        for edge in &mut self.edges {
            if left.remove(&edge.id).is_none() {
                edge.state = State::Extra;
            }
        }
        self.edges.extend(left.into_values().map(|it| Edge { state: State::Missing, ..it }));
        self
    }

    /// Puts all into order, and tells those apart that nobody has given a number.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        let order = |vertex: &Vertex| (vertex.kind, natural(&vertex.id));
        self.nodes.sort_by_cached_key(order);
        self.edges.sort_by_cached_key(|edge| natural(&edge.id));
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for edge in &mut self.edges {
            let next = seen.entry(edge.id.clone()).or_default();
            if 0 < *next {
                (edge.id, edge.number) = (numbered(edge.id.clone(), *next), *next);
            }
            *next += 1;
        }
        self
    }

    /// For each edge which two things it joins; those that join nothing are left out.
    fn joined(&self) -> Vec<Option<[usize; 2]>> {
        let places: BTreeMap<&str, usize> =
            self.nodes.iter().enumerate().map(|(at, vertex)| (vertex.id.as_str(), at)).collect();
        let place = |end: &EdgeEnd| places.get(end.node.as_str()).copied();
        self.edges.iter().map(|edge| Some([place(&edge.ends[0])?, place(&edge.ends[1])?])).collect()
    }

    /// How many there are of each, in words.
    fn counts(&self) -> String {
        let of = |kind| self.nodes.iter().filter(|vertex| vertex.kind == kind).count();
        let all = [
            (of(Kind::Switch), "switch", "switches"),
            (of(Kind::Node), "node", "nodes"),
            (of(Kind::Nic), "NIC", "NICs"),
            (of(Kind::Remote), "tunnel", "tunnels"),
            (self.edges.iter().filter(|edge| !edge.id.contains('@')).count(), "link", "links"),
        ];
        let some = all.into_iter().filter(|(count, ..)| *count != 0);
        let words = some.map(|(n, one, many)| format!("{n} {}", if n == 1 { one } else { many }));
        let words: Vec<_> = words.collect();
        if words.is_empty() { "nothing".into() } else { words.join(", ") }
    }
}

/// The first of several needs no number.
fn numbered(name: String, number: u32) -> String {
    if number == 0 { name } else { format!("{name}#{number}") }
}

/// What happens to the frames that come from each end, in words.
pub fn impaired(ends: [&str; 2], both: [Impairments; 2]) -> Vec<String> {
    let said = |it: Impairments| it.said().map(|(key, value)| format!("{key} {value}"));
    if both[0] == both[1] {
        return said(both[0]).collect();
    }
    let from = |at: usize| {
        let end = ends[at].split(':').next().unwrap_or(ends[at]);
        said(both[at]).map(move |words| format!("{words} from {end}"))
    };
    from(0).chain(from(1)).collect()
}

/// Numbers in a name count as numbers: `h2` comes before `h10`.
fn natural(text: &str) -> (Vec<(String, u64)>, String) {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        parts.push((word.to_owned(), number.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    (parts, text.to_owned())
}
