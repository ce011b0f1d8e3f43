//! A graph in lines: from the middle outwards, as `tree(1)` shows directories.
//!
//! What goes on with one thing and no other goes on at the same indentation, so
//! that a line of a hundred switches is not a hundred steps deep. What closes a
//! ring is told where the ring closes.

use std::collections::{BTreeSet, VecDeque};

use super::{EdgeEnd, Graph, Kind, State, Vertex};

/// In lines, for a person.
pub fn text(graph: &Graph) -> String {
    let mut out = vec![format!("lab {}: {}", graph.lab, graph.counts())];
    let told = Told::new(graph);
    for root in told.roots() {
        out.push(String::new());
        Walk { told: &told, out: &mut out }.thing(root, "");
    }
    if !graph.notes.is_empty() {
        out.push(String::new());
        out.extend(graph.notes.iter().cloned());
    }
    out.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Which thing is told below which.
struct Told<'g> {
    graph: &'g Graph,
    joined: Vec<Option<[usize; 2]>>,
    /// The edges of each thing.
    near: Vec<Vec<usize>>,
    /// The edges that lead further, and those that lead to what was told before.
    down: Vec<Vec<usize>>,
    back: Vec<Vec<usize>>,
    roots: Vec<usize>,
}

impl<'g> Told<'g> {
    fn new(graph: &'g Graph) -> Self {
        let joined = graph.joined();
        let mut near = vec![Vec::new(); graph.nodes.len()];
        for (edge, ends) in joined.iter().enumerate() {
            for at in ends.iter().flatten() {
                near[*at].push(edge);
            }
        }
        let count = graph.nodes.len();
        let (down, back) = (vec![Vec::new(); count], vec![Vec::new(); count]);
        let mut told = Self { graph, joined, near, down, back, roots: Vec::new() };
        told.spread();
        told
    }

    fn roots(&self) -> Vec<usize> {
        self.roots.clone()
    }

    fn across(&self, edge: usize, at: usize) -> usize {
        let [a, b] = self.joined[edge].expect("an edge of a thing joins two");
        if a == at { b } else { a }
    }

    fn part(&self, first: usize) -> Vec<usize> {
        let (mut seen, mut next) = (BTreeSet::from([first]), vec![first]);
        while let Some(at) = next.pop() {
            let all = self.near[at].iter().map(|edge| self.across(*edge, at));
            next.extend(all.filter(|near| seen.insert(*near)));
        }
        seen.into_iter().collect()
    }

    /// Where to begin: in the middle of a tree, at the end of a line, and of what has
    /// rings where most comes together.
    fn middle(&self, part: &[usize]) -> usize {
        let degree = |at: usize| -> usize {
            self.near[at].iter().map(|edge| self.across(*edge, at)).collect::<BTreeSet<_>>().len()
        };
        let inner: BTreeSet<usize> = part.iter().copied().filter(|at| 1 < degree(*at)).collect();
        let inside = |at: usize| -> BTreeSet<usize> {
            let all = self.near[at].iter().map(|edge| self.across(*edge, at));
            all.filter(|near| inner.contains(near)).collect()
        };
        if inner.is_empty() {
            return part[0];
        }
        let is_line = inner.iter().all(|at| inside(*at).len() <= 2);
        let end = inner.iter().copied().find(|at| inside(*at).len() <= 1);
        if let (true, Some(end)) = (is_line, end) {
            return end;
        }
        // Take what hangs on by one thread away, again and again.
        let mut left: Vec<usize> = vec![0; self.graph.nodes.len()];
        inner.iter().for_each(|at| left[*at] = inside(*at).len());
        let mut rest = inner.clone();
        loop {
            let ends: Vec<usize> = rest.iter().copied().filter(|at| left[*at] <= 1).collect();
            if ends.is_empty() || ends.len() == rest.len() {
                break;
            }
            for at in ends {
                rest.remove(&at);
                inside(at).into_iter().for_each(|near| left[near] = left[near].saturating_sub(1));
            }
        }
        let most = |at: &usize| (std::cmp::Reverse(left[*at]), *at);
        rest.into_iter().min_by_key(most).expect("something is left")
    }

    /// Breadth first: nothing is further from the middle than it has to be.
    fn spread(&mut self) {
        let mut seen = vec![false; self.graph.nodes.len()];
        let mut used = vec![false; self.joined.len()];
        for first in 0..self.graph.nodes.len() {
            if seen[first] {
                continue;
            }
            let root = self.middle(&self.part(first));
            self.roots.push(root);
            seen[root] = true;
            let mut next = VecDeque::from([root]);
            while let Some(at) = next.pop_front() {
                for edge in self.near[at].clone() {
                    let there = self.across(edge, at);
                    if used[edge] {
                        continue;
                    }
                    used[edge] = true;
                    if seen[there] {
                        self.back[at].push(edge);
                    } else {
                        seen[there] = true;
                        self.down[at].push(edge);
                        next.push_back(there);
                    }
                }
            }
        }
    }
}

struct Walk<'t, 'g> {
    told: &'t Told<'g>,
    out: &'t mut Vec<String>,
}

impl Walk<'_, '_> {
    fn thing(&mut self, at: usize, indent: &str) {
        let told = self.told;
        self.out.push(format!("{indent}{}", called(&told.graph.nodes[at])));
        let ends_here = |edge: &usize| {
            let there = told.across(*edge, at);
            told.down[there].is_empty() && told.back[there].is_empty()
        };
        let (leaves, further): (Vec<usize>, Vec<usize>) =
            told.down[at].iter().copied().partition(ends_here);
        let goes_on = further.len() == 1;
        let lines: Vec<[String; 3]> = leaves.iter().map(|edge| self.columns(*edge, at)).collect();
        let wide = |column: usize| lines.iter().map(|it| letters(&it[column])).max().unwrap_or(0);
        let (first, second) = (wide(0), wide(1));
        let back = &told.back[at];
        for (number, [near, far, words]) in lines.iter().enumerate() {
            let is_last = number + 1 == lines.len() && back.is_empty() && further.is_empty();
            let branch = if is_last { "└── " } else { "├── " };
            let gap = if 0 < first { "  " } else { "" };
            let near = pad(near, first);
            self.out.push(format!("{indent}{branch}{near}{gap}{}  {words}", pad(far, second)));
        }
        for (number, edge) in back.iter().enumerate() {
            let is_last = number + 1 == back.len() && further.is_empty();
            let branch = if is_last { "└── " } else { "├── " };
            let [near, far, words] = self.columns(*edge, at);
            let gap = if near.is_empty() { "" } else { "  " };
            self.out.push(format!("{indent}{branch}{near}{gap}to {far}, see there  {words}"));
        }
        for (number, edge) in further.iter().enumerate() {
            let there = told.across(*edge, at);
            let words = self.wire(*edge, at);
            if goes_on {
                self.out.push(format!("{indent}│  {words}"));
                self.thing(there, indent);
                continue;
            }
            let is_last = number + 1 == further.len();
            let (branch, rail) =
                if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
            if !words.is_empty() {
                self.out.push(format!("{indent}│  {words}"));
            }
            let from = self.out.len();
            self.thing(there, &format!("{indent}{rail}"));
            let line = &mut self.out[from];
            *line = format!("{indent}{branch}{}", &line[indent.len() + rail.len()..]);
        }
    }

    /// Of what ends there: the interface here, the name across, and the rest.
    fn columns(&self, edge: usize, at: usize) -> [String; 3] {
        let told = self.told;
        let there = told.across(edge, at);
        let (here, far) = self.ends(edge, at);
        let vertex = &told.graph.nodes[there];
        let name = match &far.interface {
            Some(interface) => format!("{}:{interface}", vertex.name),
            None => vertex.name.clone(),
        };
        let near = here.interface.iter().chain(&here.addresses).cloned().collect::<Vec<_>>();
        let is_leaf = told.near[there].len() == 1;
        let edge = &told.graph.edges[edge];
        let mut words: Vec<String> = far.addresses.clone();
        if vertex.kind == Kind::Switch && is_leaf {
            words.insert(0, vertex.kind.word().to_owned());
        }
        if is_leaf {
            words.extend(vertex.details.iter().cloned());
            words.extend(state(vertex.state));
        }
        words.extend(edge.notes.iter().cloned());
        if edge.state != vertex.state || !is_leaf {
            words.extend(state(edge.state));
        }
        [near.join(" "), name, words.join("  ")]
    }

    /// What is to be said of a way that leads further.
    fn wire(&self, edge: usize, at: usize) -> String {
        let (here, far) = self.ends(edge, at);
        let side = |end: &EdgeEnd| {
            end.interface.iter().chain(&end.addresses).cloned().collect::<Vec<_>>().join(" ")
        };
        let sides = match [side(here), side(far)] {
            [here, far] if here.is_empty() && far.is_empty() => String::new(),
            [here, far] if far.is_empty() => here,
            [here, far] if here.is_empty() => far,
            [here, far] => format!("{here} -- {far}"),
        };
        let edge = &self.told.graph.edges[edge];
        let words = [sides].into_iter().chain(edge.notes.clone()).chain(state(edge.state));
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("  ")
    }

    fn ends(&self, edge: usize, at: usize) -> (&EdgeEnd, &EdgeEnd) {
        let side = usize::from(self.told.joined[edge].is_some_and(|[a, _]| a != at));
        let ends = &self.told.graph.edges[edge].ends;
        (&ends[side], &ends[1 - side])
    }
}

/// A thing by its name, what it is, and what is known of it.
fn called(vertex: &Vertex) -> String {
    let kind = match vertex.kind {
        Kind::Switch => Some("switch".to_owned()),
        Kind::Node | Kind::Nic | Kind::Remote => None,
    };
    let words = [vertex.name.clone()].into_iter().chain(kind).chain(vertex.details.clone());
    words.chain(state(vertex.state)).collect::<Vec<_>>().join("  ")
}

/// A state that stands out without a colour.
fn state(state: State) -> Option<String> {
    state.word().map(|word| format!("[{word}]"))
}

fn letters(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, letters: usize) -> String {
    format!("{text:letters$}")
}
