//! The classic shapes of `--topo`, numbered as Mininet numbers them:
//! switches `s1`, `s2`..., nodes `h1`, `h2`...
//!
//! A shape is a short file that nobody wrote: it goes through the same checks
//! and gets its addresses in the same way.

use super::problem::{At, Found, Position, quoted};
use super::ranges::Pattern;
use super::spec::{LabSpec, LinkSpec, NodeSpec, SwitchSpec};

/// What can be said after `--topo`.
const USAGE: &str = "write `single,N`, `linear,N`, `tree,DEPTH,FANOUT` or `ring,N`";

/// As many nodes as are looked at; `check.rs` counts switches and links, too.
const NODES_MAX: u64 = 100_000;
/// A tree that branches is never so deep; one that does not is a long row.
const DEPTH_MAX: u64 = 100;

/// Returns what `topo` stands for; `None` if nothing, and why is in `found`.
pub(super) fn spec(topo: &str, found: &mut Found) -> Option<LabSpec> {
    let mut words = topo.split(',');
    let shape = words.next().unwrap_or_default();
    let words: Vec<_> = words.collect();
    match shape {
        "single" => {
            let [nodes] = numbers(shape, &words, [("number", 1, NODES_MAX)], found)?;
            Some(single(nodes))
        }
        "linear" => {
            let [switches] = numbers(shape, &words, [("number", 1, NODES_MAX)], found)?;
            Some(row(switches, false))
        }
        "ring" => {
            let [switches] = numbers(shape, &words, [("number", 3, NODES_MAX)], found)?;
            Some(row(switches, true))
        }
        "tree" => {
            let bounds = [("depth", 1, DEPTH_MAX), ("fanout", 1, NODES_MAX)];
            let [depth, fanout] = numbers(shape, &words, bounds, found)?;
            tree(depth, fanout, found)
        }
        _ => {
            found
                .add(Position::NOWHERE, format!("no shape is called {}", quoted(shape)))
                .hint(USAGE);
            None
        }
    }
}

/// Reads the numbers of a shape, each with its name, least and most.
fn numbers<const N: usize>(
    shape: &str,
    words: &[&str],
    bounds: [(&str, u64, u64); N],
    found: &mut Found,
) -> Option<[u64; N]> {
    if words.len() != N {
        let wanted = if N == 1 { "one number" } else { "two numbers" };
        let message = format!("`{shape}` takes {wanted}, not {}", words.len());
        found.add(Position::NOWHERE, message).hint(USAGE);
        return None;
    }
    let mut numbers = [0; N];
    let mut good = true;
    for ((number, word), (name, least, most)) in numbers.iter_mut().zip(words).zip(bounds) {
        let read = word.parse().ok().filter(|_| word.bytes().all(|b| b.is_ascii_digit()));
        match read.filter(|number| (least..=most).contains(number)) {
            Some(read) => *number = read,
            None => {
                let word = quoted(word);
                let message =
                    format!("the {name} of `{shape}` is from {least} to {most}, not {word}");
                found.add(Position::NOWHERE, message).hint(USAGE);
                good = false;
            }
        }
    }
    good.then_some(numbers)
}

/// One switch with all nodes.
fn single(nodes: u64) -> LabSpec {
    let mut shape = Shape::default();
    let switch = shape.switch(false);
    for _ in 0..nodes {
        let node = shape.node();
        shape.link(&node, &switch);
    }
    shape.spec
}

/// Switches side by side, each with a node; in a ring the last one is joined
/// to the first, and all speak STP.
fn row(switches: u64, ring: bool) -> LabSpec {
    let mut shape = Shape::default();
    let switches: Vec<_> = (0..switches).map(|_| shape.switch(ring)).collect();
    for switch in &switches {
        let node = shape.node();
        shape.link(&node, switch);
    }
    for pair in switches.windows(2) {
        shape.link(&pair[0], &pair[1]);
    }
    if let (true, [first, .., last]) = (ring, &switches[..]) {
        shape.link(last, first);
    }
    shape.spec
}

/// `depth` levels of switches, each switch with `fanout` things below it;
/// nodes at the bottom.
fn tree(depth: u64, fanout: u64, found: &mut Found) -> Option<LabSpec> {
    let levels = u32::try_from(depth).expect("it is at most DEPTH_MAX");
    if fanout.checked_pow(levels).is_none_or(|nodes| NODES_MAX < nodes) {
        let message = format!("`tree,{depth},{fanout}` has more than {NODES_MAX} nodes");
        found.add(Position::NOWHERE, message).hint("take a smaller depth or fanout");
        return None;
    }
    let mut shape = Shape::default();
    shape.branch(depth, fanout);
    Some(shape.spec)
}

#[derive(Default)]
struct Shape {
    spec: LabSpec,
}

impl Shape {
    fn switch(&mut self, stp: bool) -> String {
        let name = format!("s{}", self.spec.switches.len() + 1);
        let mut switch = SwitchSpec::default();
        switch.settings.stp = stp;
        self.spec.switches.push((literal(&name), switch));
        name
    }

    fn node(&mut self) -> String {
        let name = format!("h{}", self.spec.nodes.len() + 1);
        self.spec.nodes.push((literal(&name), NodeSpec::default()));
        name
    }

    fn link(&mut self, a: &str, b: &str) {
        let endpoints = Some([literal(a), literal(b)]);
        self.spec.links.push(At::nowhere(LinkSpec { endpoints, ..LinkSpec::default() }));
    }

    /// Grows a tree of `depth` levels and returns its top.
    fn branch(&mut self, depth: u64, fanout: u64) -> String {
        if depth == 0 {
            return self.node();
        }
        let switch = self.switch(false);
        for _ in 0..fanout {
            let below = self.branch(depth - 1, fanout);
            self.link(&below, &switch);
        }
        switch
    }
}

fn literal(name: &str) -> At<Pattern> {
    At::nowhere(Pattern::literal(name))
}

#[cfg(test)]
mod tests {
    use super::super::file::shape;
    use super::super::names::LabName;

    #[track_caller]
    fn check(topo: &str, expected: &str) {
        let shown = match shape(topo, &LabName::default_lab()) {
            Ok(lab) => {
                let link = |link: &crate::model::topology::Link| {
                    format!("{}-{}", link.ends[0], link.ends[1])
                };
                lab.links.iter().map(link).collect::<Vec<_>>().join(" ")
            }
            Err(problems) => {
                let messages = problems.problems().iter().map(|p| p.message.clone());
                messages.collect::<Vec<_>>().join("; ")
            }
        };
        assert_eq!(shown, expected, "{topo}");
    }

    #[test]
    fn the_classic_shapes() {
        check("single,3", "h1:eth0-s1 h2:eth0-s1 h3:eth0-s1");
        check("linear,3", "h1:eth0-s1 h2:eth0-s2 h3:eth0-s3 s1-s2 s2-s3");
        check("ring,3", "h1:eth0-s1 h2:eth0-s2 h3:eth0-s3 s1-s2 s2-s3 s3-s1");
        check("tree,1,2", "h1:eth0-s1 h2:eth0-s1");
        check("tree,2,2", "h1:eth0-s2 h2:eth0-s2 s2-s1 h3:eth0-s3 h4:eth0-s3 s3-s1");
    }

    #[test]
    fn a_tree_is_as_big_as_mininets() {
        let lab = shape("tree,2,3", &LabName::default_lab()).expect("a shape");
        assert_eq!((lab.switches.len(), lab.nodes.len(), lab.links.len()), (4, 9, 12));
    }

    #[test]
    fn a_ring_cuts_itself() {
        let lab = shape("ring,5", &LabName::default_lab()).expect("a shape");
        assert!(lab.switches.values().all(|switch| switch.settings.stp));
    }

    #[test]
    fn other_shapes_are_refused() {
        check("star,3", "no shape is called `star`");
        check("", "no shape is called ``");
        check("single", "`single` takes one number, not 0");
        check("linear,3,4", "`linear` takes one number, not 2");
        check("tree,2", "`tree` takes two numbers, not 1");
        check("single,0", "the number of `single` is from 1 to 100000, not `0`");
        check("single,x", "the number of `single` is from 1 to 100000, not `x`");
        check("single,+3", "the number of `single` is from 1 to 100000, not `+3`");
        check("ring,2", "the number of `ring` is from 3 to 100000, not `2`");
        check("tree,20,20", "`tree,20,20` has more than 100000 nodes");
        check("tree,9999,1", "the depth of `tree` is from 1 to 100, not `9999`");
        check("linear,60000", "more than 100000 nodes, switches and links");
    }
}
