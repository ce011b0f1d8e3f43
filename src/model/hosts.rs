//! Names of nodes, as `hosts(5)` has them.
//!
//! Ours stand in a block between two marks, which says whose it is. Inside nodes
//! the block is before what the machine's own file says, so that a node is found
//! by its name whatever else is called so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::names::{IfName, LabName, NodeName};
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
        let nodes = lab.nodes.iter().flat_map(|(name, node)| {
            let device = |interface| super::mark::device_inside(&lab.name, name, interface);
            let interfaces = node.interfaces.iter();
            interfaces.map(move |(interface, wanted)| (name, device(interface), &wanted.addresses))
        });
        Self::of(&lab.name, nodes, world)
    }

    /// The same of nodes with their devices.
    pub fn of<'n>(
        lab: &LabName,
        nodes: impl Iterator<Item = (&'n NodeName, IfName, &'n BTreeSet<IpNet>)>,
        world: &World,
    ) -> Self {
        let mut lines = Vec::new();
        for (name, device, addresses) in nodes {
            let seen = world.host.nodes.get(name);
            let given = seen.and_then(|seen| seen.dynamic.get(&device));
            let given = given.into_iter().flatten().map(|(net, _)| net);
            lines.extend(addresses.iter().chain(given).map(|net| (net.addr(), name.clone())));
        }
        Self { lab: lab.clone(), lines }
    }

    /// As it stands inside nodes, and on the machine where that is asked for: `n1`,
    /// and `n1.LAB`.
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
            writeln!(text, "{address}\t{}{OURS}", called(node)).expect("a string takes all");
        }
        writeln!(text, "{END}{}", self.lab).expect("a string takes all");
        text
    }
}

const BEGIN: &str = "# ovsns lab=";
const END: &str = "# end of ovsns lab=";
/// What each line says behind, so that it is known again where the marks are gone: a
/// lab may be called like a domain of somebody's.
const OURS: &str = " # ovsns";

/// What the first line of a block says beside, where the line before had no end and
/// was given one.
const ENDED: &str = " (after a line without an end)";

/// Whose the lines of a file are: of each that is in a block of ours, which lab's.
fn owners(lines: &[&[u8]]) -> Vec<Option<LabName>> {
    let text =
        |line: &[u8]| std::str::from_utf8(line).map_or(String::new(), |it| it.trim_end().into());
    let lines: Vec<String> = lines.iter().map(|line| text(line)).collect();
    let begins = |line: &str| {
        let lab = line.strip_prefix(BEGIN)?;
        LabName::new(lab.strip_suffix(ENDED).unwrap_or(lab)).ok()
    };
    let ends = |line: &str| LabName::new(line.strip_prefix(END)?).ok();
    let is_ours = |line: &str, lab: &LabName| {
        let line = line.strip_suffix(OURS).and_then(|line| line.split_once('\t'));
        line.is_some_and(|(address, names)| {
            address.parse::<IpAddr>().is_ok() && names.ends_with(&format!(".{lab}"))
        })
    };
    let mut owners: Vec<Option<LabName>> = vec![None; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        if let Some(lab) = begins(&lines[at]) {
            let rest = &lines[at + 1..];
            let next = rest.iter().position(|line| begins(line).is_some()).unwrap_or(rest.len());
            let end = rest[..next].iter().position(|line| ends(line).as_ref() == Some(&lab));
            // One that has lost its end ends where lines are no longer as ours; what
            // somebody has put into one is theirs.
            let other = rest.iter().position(|line| !is_ours(line, &lab)).unwrap_or(rest.len());
            let last = at + end.map_or(other, |end| end + 1);
            for (line, owner) in lines.iter().zip(&mut owners).take(last + 1).skip(at) {
                let mark = begins(line).is_some() || ends(line).is_some();
                *owner = (mark || is_ours(line, &lab)).then(|| lab.clone());
            }
            at = last + 1;
            continue;
        }
        // One that has lost its beginning.
        if let Some(lab) = ends(&lines[at]) {
            owners[at] = Some(lab.clone());
            for before in (0..at).rev() {
                if owners[before].is_some() || !is_ours(&lines[before], &lab) {
                    break;
                }
                owners[before] = Some(lab.clone());
            }
        }
        at += 1;
    }
    owners
}

/// A file without the blocks of ours, and these.
fn split(text: &str) -> (String, Vec<(LabName, String)>) {
    let lines: Vec<&[u8]> = text.as_bytes().split_inclusive(|byte| *byte == b'\n').collect();
    let (mut rest, mut blocks) = (String::new(), BTreeMap::<LabName, String>::new());
    for (line, owner) in lines.iter().zip(owners(&lines)) {
        let line = std::str::from_utf8(line).expect("a text splits into texts at line ends");
        match owner {
            None => rest.push_str(line),
            Some(lab) => blocks.entry(lab).or_default().push_str(line),
        }
    }
    (rest, blocks.into_iter().collect())
}

/// The names of labs in the machine's own file, by lab. Names that others are
/// among, or that are in several places, are not as they were written.
pub fn on_machine(text: &[u8]) -> BTreeMap<LabName, String> {
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut blocks = BTreeMap::<LabName, String>::new();
    let mut last = None;
    for (line, owner) in lines.iter().zip(owners(&lines)) {
        if let Some(lab) = &owner {
            let block = blocks.entry(lab.clone()).or_default();
            if !block.is_empty() && last.as_ref() != Some(lab) {
                block.push_str("...\n");
            }
            block.push_str(&String::from_utf8_lossy(line).replacen(ENDED, "", 1));
        }
        last = owner;
    }
    blocks
}

/// How the machine's file comes to have other names of a lab: in this order, and
/// with no byte of anybody else's missing between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// What is written first, and where: the same bytes in another order, with those
    /// of the lab behind all others.
    pub turned: Option<(usize, Vec<u8>)>,
    /// Where the file ends then.
    pub cut: usize,
    /// What is added to it last.
    pub added: Vec<u8>,
}

/// Finds what to do so that the file says `block` of a lab and nothing else of it;
/// `None` if it does.
pub fn edit(text: &[u8], lab: &LabName, block: Option<&str>) -> Option<Edit> {
    if on_machine(text).get(lab).map(String::as_str) == block {
        return None;
    }
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let owners = owners(&lines);
    let (mut others, mut ours) = (Vec::new(), Vec::new());
    let mut ended = false;
    for (line, owner) in lines.iter().zip(&owners) {
        match owner.as_ref() == Some(lab) {
            true => {
                ended |= ours.is_empty() && String::from_utf8_lossy(line).contains(ENDED);
                ours.extend_from_slice(line);
            }
            false => {
                // What comes after keeps the end that was given.
                ended &= ours.is_empty();
                others.extend_from_slice(line);
            }
        }
    }
    let mut cut = others.len();
    let turned = [others.as_slice(), ours.as_slice()].concat();
    let same = turned.iter().zip(text).take_while(|(a, b)| a == b).count();
    let turned = (same < text.len()).then(|| (same, turned[same..].to_vec()));
    if ended && others.ends_with(b"\n") {
        cut -= 1;
        others.pop();
    }
    let mut added = Vec::new();
    if let Some(block) = block {
        match others.is_empty() || others.ends_with(b"\n") {
            true => added.extend_from_slice(block.as_bytes()),
            false => {
                let first = format!("{BEGIN}{lab}");
                let block = block.replacen(&first, &format!("{first}{ENDED}"), 1);
                added = format!("\n{block}").into_bytes();
            }
        }
    }
    Some(Edit { turned, cut, added })
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

    const BLOCK: &str = "# ovsns lab=l\n10.0.0.1\tn1.l # ovsns\n# end of ovsns lab=l\n";

    fn lab(name: &str) -> LabName {
        LabName::new(name).expect("a good name")
    }

    #[test]
    fn a_block_is_laid_over_and_found() {
        for machine in ["", "127.0.0.1 localhost\n", "# a\n\n::1 x # ovsns lab=l\n"] {
            let laid = laid_over(BLOCK, machine);
            assert_eq!(laid, format!("{BLOCK}{machine}"));
            assert_eq!(blocks(&laid), [(lab("l"), BLOCK.to_owned())]);
            assert_eq!(laid_over(BLOCK, &laid), laid, "what is ours is not there twice");
        }
    }

    #[test]
    fn a_block_without_its_end_takes_nothing_along() {
        let text = "# ovsns lab=l\n10.0.0.1\tn1.l # ovsns\n10.0.0.9\tdb db.l\n";
        assert_eq!(laid_over("", text), "10.0.0.9\tdb db.l\n");
        let text = "# ovsns lab=a b\n1.1.1.1 x\n";
        assert_eq!(laid_over("", text), text);
    }

    /// What a file is after an edit, as it is after each step of it.
    fn after(text: &[u8], lab: &str, block: Option<&str>) -> Vec<u8> {
        let lab = LabName::new(lab).expect("a good name");
        let Some(Edit { turned, cut, added }) = edit(text, &lab, block) else {
            return text.to_vec();
        };
        let mut file = text.to_vec();
        if let Some((at, bytes)) = turned {
            file.splice(at..at + bytes.len(), bytes);
        }
        assert_eq!(file.len(), text.len(), "only the order is another");
        file.truncate(cut);
        file.extend(added);
        file
    }

    fn block(lab: &str, addresses: &[&str]) -> String {
        let lines: String =
            addresses.iter().map(|it| format!("{it}\tn n.{lab} # ovsns\n")).collect();
        format!("# ovsns lab={lab}\n{lines}# end of ovsns lab={lab}\n")
    }

    #[test]
    fn what_is_not_ours_stays_to_the_byte() {
        let (a, b) = (block("a", &["10.0.0.1"]), block("b", &["10.0.0.2", "fd00::2"]));
        let longer = block("a", &["10.0.0.1", "10.0.0.3"]);
        let files: [&[u8]; 7] = [
            b"",
            b"127.0.0.1 localhost\n",
            b"127.0.0.1 localhost",
            b"\n\n# \xff\xfe\n10.0.0.9\tn.x\n",
            b"\r\n1.1.1.1 a\r\n",
            b"# ovsns lab=\n# end of ovsns lab=a b\n",
            b"\0",
        ];
        for file in files {
            let with_a = after(file, "a", Some(&a));
            assert!(with_a.starts_with(file), "{file:?}");
            assert_eq!(on_machine(&with_a)[&lab("a")], a);
            assert_eq!(after(&with_a, "a", Some(&a)), with_a);
            assert_eq!(after(&with_a, "a", None), file);
            assert_eq!(after(&after(&with_a, "a", Some(&longer)), "a", None), file);
            let both = after(&with_a, "b", Some(&b));
            assert_eq!(on_machine(&both).len(), 2);
            assert_eq!(after(&after(&both, "b", None), "a", None), file);
            let changed = after(&both, "a", Some(&longer));
            assert_eq!(on_machine(&changed)[&lab("a")], longer);
            assert_eq!(on_machine(&changed)[&lab("b")], b);
            // What somebody adds behind stays behind, with a line end before it.
            let theirs = [with_a.as_slice(), b"192.0.2.1 theirs"].concat();
            let left = after(&theirs, "a", None);
            assert!(left.starts_with(file) && left.ends_with(b"192.0.2.1 theirs"));
            assert!(file.is_empty() || left.ends_with(b"\n192.0.2.1 theirs"), "{left:?}");
        }
    }

    #[test]
    fn a_damaged_block_is_seen_and_leaves_what_others_put_there() {
        let whole = block("a", &["10.0.0.1", "10.0.0.2"]);
        for (from, to, stays) in [
            ("10.0.0.2\t", "10.0.0.7\t", ""),
            ("# end of ovsns lab=a\n", "", ""),
            ("# ovsns lab=a\n", "", ""),
            ("10.0.0.2\tn n.a # ovsns\n", "10.0.0.2 theirs\n", "10.0.0.2 theirs\n"),
            ("10.0.0.2\tn n.a # ovsns\n", "", ""),
            ("# end", "1.2.3.4 theirs\n# end", "1.2.3.4 theirs\n"),
            // Called as if they were of the lab.
            ("# end of ovsns lab=a\n", "1.2.3.4\tp p.a\n", "1.2.3.4\tp p.a\n"),
            ("# ovsns lab=a\n", "1.2.3.4\tp p.a\n", "1.2.3.4\tp p.a\n"),
        ] {
            let damaged = format!("::1 x\n{}1.1.1.1 y\n", whole.replacen(from, to, 1));
            let damaged = damaged.as_bytes();
            assert_ne!(on_machine(damaged).get(&lab("a")), Some(&whole), "{from:?}");
            let left = after(damaged, "a", None);
            let text = String::from_utf8(left).expect("a text");
            assert_eq!(text, format!("::1 x\n{stays}1.1.1.1 y\n"), "{from:?}");
            let mended = after(damaged, "a", Some(&whole));
            assert_eq!(on_machine(&mended)[&lab("a")], whole);
        }
        let twice = format!("{whole}::1 x\n{whole}");
        assert_ne!(on_machine(twice.as_bytes())[&lab("a")], whole);
        assert_eq!(after(twice.as_bytes(), "a", None), b"::1 x\n");
    }
}
