//! A graph as others write it, read as a lab: each of its nodes is a node, each
//! of its links a cable with addresses.
//!
//! ```json
//! { "nodes": [{ "id": 1 }, { "id": 2 }], "links": [{ "source": 1, "target": 2 }] }
//! ```
//!
//! That is what D3, networkx (`node_link_data`) and mesh networks publish. Such
//! files were written for pictures, so that what does not matter for one is told
//! and no problem: a node that is listed twice, or only at the end of a link, and
//! keys that we do not know. `1` and `"1"` are the same node.

use std::collections::HashMap;

use super::names::NodeName;
use super::problem::{At, Found, Position, quoted};
use super::ranges::Pattern;
use super::spec::{LabSpec, LinkSpec, NodeSpec};
use super::yaml::{Entry, Kind, Tree};

/// As many names as a message shows.
const SHOWN_MAX: usize = 5;

/// Whether a file is a graph and no lab: in a lab `nodes` is a mapping.
pub(super) fn is_graph(tree: &Tree) -> bool {
    let begins = |key: &str, first: &[&str]| {
        let Some(Kind::List(items)) = value(tree, key).map(|tree| &tree.kind) else { return false };
        items.first().is_some_and(|item| first.iter().any(|key| value(item, key).is_some()))
    };
    begins("nodes", &["id"]) || begins("links", &["source", "target"])
}

/// What of a graph was read otherwise than it stands there.
#[derive(Debug, Default)]
struct Oddities<'t> {
    /// How many entries of `nodes` there are, and how many of them name one again.
    listed: usize,
    again: usize,
    /// Nodes that are only at ends of links.
    unlisted: Vec<&'t str>,
}

/// Returns the lab that a graph stands for, and what is to be said of how it was read.
pub(super) fn spec(tree: &Tree, found: &mut Found) -> (LabSpec, Vec<String>) {
    let mut spec = LabSpec::default();
    let mut oddities = Oddities::default();
    // A name that cannot be one is a problem once, and in none of the links.
    let mut known: HashMap<&str, bool> = HashMap::new();
    for item in list(tree, "nodes", found) {
        oddities.listed += 1;
        let Some(id) = text(item, "a node", "id", found) else { continue };
        match known.get(id.value) {
            Some(_) => oddities.again += 1,
            None => drop(known.insert(id.value, add_node(id, &mut spec, found))),
        }
    }
    let mut first: HashMap<[&str; 2], Position> = HashMap::new();
    for item in list(tree, "links", found) {
        let ends = ["source", "target"].map(|key| text(item, "a link", key, found));
        let [Some(a), Some(b)] = ends else { continue };
        let mut good = true;
        for end in [a, b] {
            good &= *known.entry(end.value).or_insert_with(|| {
                oddities.unlisted.push(end.value);
                add_node(end, &mut spec, found)
            });
        }
        let pair = [a.value.min(b.value), a.value.max(b.value)];
        if let Some(first) = first.get(&pair).filter(|_| a.value != b.value) {
            let (a, b) = (quoted(a.value), quoted(b.value));
            let message = format!("{a} and {b} are linked a second time; the first is at {first}");
            let hint = "leave one out; a graph that has each link in both directions has one of \
                        them too many";
            found.add(item.at, message).hint(hint);
            continue;
        }
        first.insert(pair, item.at);
        if good {
            let endpoints = Some([a, b].map(literal));
            let link = LinkSpec { endpoints, ..LinkSpec::default() };
            spec.links.push(At { at: item.at, value: link });
        }
    }
    (spec, oddities.told())
}

/// Whether it can be one.
fn add_node(id: At<&str>, spec: &mut LabSpec, found: &mut Found) -> bool {
    match NodeName::new(id.value) {
        Ok(_) => spec.nodes.push((literal(id), NodeSpec::default())),
        Err(bad) => {
            found.add(id.at, bad.to_string());
            return false;
        }
    }
    true
}

impl Oddities<'_> {
    fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        if self.again != 0 {
            let (listed, again) = (self.listed, self.again);
            told.push(format!("of {listed} nodes {again} are listed again; each is one node"));
        }
        if !self.unlisted.is_empty() {
            let names: Vec<_> = self.unlisted.iter().take(SHOWN_MAX).map(|it| quoted(it)).collect();
            let more = if SHOWN_MAX < self.unlisted.len() { ", ..." } else { "" };
            let are = match self.unlisted.len() {
                1 => "1 node is".to_owned(),
                many => format!("{many} nodes are"),
            };
            let names = names.join(", ");
            told.push(format!("{are} listed only at ends of links, and made, too: {names}{more}"));
        }
        told
    }
}

/// What a key of a mapping holds.
fn value<'t>(tree: &'t Tree, key: &str) -> Option<&'t Tree> {
    let Kind::Map(entries) = &tree.kind else { return None };
    let entry = entries.iter().find(|entry: &&Entry| entry.key.value == key);
    entry.map(|entry| &entry.value)
}

fn list<'t>(tree: &'t Tree, key: &str, found: &mut Found) -> &'t [Tree] {
    match value(tree, key) {
        Some(Tree { kind: Kind::List(items), .. }) => return items,
        Some(other) => {
            let message = format!("`{key}` of a graph is a list, not {}", other.in_words());
            found.add(other.at, message);
        }
        None => {
            found
                .add(tree.at, format!("a graph has `{key}`, and this has none"))
                .hint(r#"write `{"nodes": [{"id": 1}], "links": [{"source": 1, "target": 2}]}`"#);
        }
    }
    &[]
}

/// What a node or a link says under a key: a name, or a number that is one.
fn text<'t>(item: &'t Tree, what: &str, key: &str, found: &mut Found) -> Option<At<&'t str>> {
    let problem = match (&item.kind, value(item, key)) {
        (Kind::Map(_), Some(held)) => match &held.kind {
            Kind::Scalar { text, .. } if !held.is_null() => {
                return Some(At { at: held.at, value: text });
            }
            _ => (held.at, format!("`{key}` is a name or a number, not {}", held.in_words())),
        },
        (Kind::Map(_), None) => (item.at, format!("{what} has `{key}`, and this has none")),
        _ => (item.at, format!("{what} of a graph is a mapping, not {}", item.in_words())),
    };
    found.add(problem.0, problem.1);
    None
}

fn literal(name: At<&str>) -> At<Pattern> {
    At { at: name.at, value: Pattern::literal(name.value) }
}
