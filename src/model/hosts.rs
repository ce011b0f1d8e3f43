//! Names of nodes, as `hosts(5)` has them.
//!
//! Ours stand in a block between two marks, which says whose it is. Inside nodes
//! the block is before what the machine's own file says, so that a node is found
//! by its name whatever else is called so.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::names::{LabName, NodeName};
use super::topology::Lab;
use super::world::World;

/// The block with the names of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    lab: LabName,
    lines: Vec<(IpAddr, NodeName)>,
}

impl Names {
    /// The addresses of all nodes: of each, its first interface's first, those of
    /// the file before those that were given to it.
    pub fn new(lab: &Lab, world: &World) -> Self {
        let mut lines = Vec::new();
        for (name, node) in &lab.nodes {
            let seen = world.host.nodes.get(name);
            for (interface, wanted) in &node.interfaces {
                let device = super::mark::device_inside(&lab.name, name, interface);
                let given = seen.and_then(|seen| seen.dynamic.get(&device));
                let given = given.into_iter().flatten().map(|(net, _)| net);
                let nets = wanted.addresses.iter().chain(given);
                lines.extend(nets.map(|net| (net.addr(), name.clone())));
            }
        }
        Self { lab: lab.name.clone(), lines }
    }

    /// As it stands inside nodes: `n1`, and `n1.LAB`.
    pub fn inside(&self) -> String {
        self.block(|node| match node.as_str() {
            // The machine itself is called so, in every node.
            "localhost" => format!("{node}.{}", self.lab),
            _ => format!("{node} {node}.{}", self.lab),
        })
    }

    fn block(&self, called: impl Fn(&NodeName) -> String) -> String {
        let mut text = format!("{BEGIN}{}\n", self.lab);
        for (address, node) in &self.lines {
            writeln!(text, "{address}\t{}", called(node)).expect("a string takes all");
        }
        writeln!(text, "{END}{}", self.lab).expect("a string takes all");
        text
    }
}

const BEGIN: &str = "# ovsns lab=";
const END: &str = "# end of ovsns lab=";

/// A file without the blocks of ours, and these.
fn split(text: &str) -> (String, Vec<(LabName, String)>) {
    let (mut rest, mut blocks) = (String::new(), Vec::new());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let lab = line.strip_prefix(BEGIN).and_then(|lab| LabName::new(lab.trim_end()).ok());
        let Some(lab) = lab else {
            rest.push_str(line);
            continue;
        };
        let end = format!("{END}{lab}");
        // A block that has lost its end ends where lines are no longer as ours.
        let mut block = line.to_owned();
        while let Some(next) = lines.peek() {
            let is_end = next.trim_end() == end;
            let is_ours = next.split_once('\t').is_some_and(|(address, names)| {
                address.parse::<IpAddr>().is_ok() && names.trim_end().ends_with(&format!(".{lab}"))
            });
            if !is_end && !is_ours {
                break;
            }
            block.push_str(next);
            lines.next();
            if is_end {
                break;
            }
        }
        blocks.push((lab, block));
    }
    (rest, blocks)
}

/// What a node sees: the names of its lab, and what the machine's file says
/// without the blocks of ours.
pub fn laid_over(block: &str, of_machine: &str) -> String {
    format!("{block}{}", split(of_machine).0)
}

/// The blocks of ours in a file, by lab.
pub fn blocks(text: &str) -> Vec<(LabName, String)> {
    split(text).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "# ovsns lab=l\n10.0.0.1\tn1.l\n# end of ovsns lab=l\n";

    fn lab(name: &str) -> LabName {
        LabName::new(name).expect("a good name")
    }

    #[test]
    fn a_block_is_laid_over_and_found() {
        for machine in ["", "127.0.0.1 localhost\n", "# a\n\n::1 x # ovsns lab=l\n"] {
            let laid = laid_over(OURS, machine);
            assert_eq!(laid, format!("{OURS}{machine}"));
            assert_eq!(blocks(&laid), [(lab("l"), OURS.to_owned())]);
            assert_eq!(laid_over(OURS, &laid), laid, "what is ours is not there twice");
        }
    }

    #[test]
    fn a_block_without_its_end_takes_nothing_along() {
        let text = "# ovsns lab=l\n10.0.0.1\tn1.l\n10.0.0.9\tdb\n";
        assert_eq!(laid_over("", text), "10.0.0.9\tdb\n");
        let text = "# ovsns lab=a b\n1.1.1.1 x\n";
        assert_eq!(laid_over("", text), text);
    }
}
