//! Layer-2 loops: switches joined in a ring, in which one broadcast frame
//! runs around for ever. They are refused, unless every switch in the ring
//! speaks the spanning tree protocol and so cuts it.

use std::collections::VecDeque;

use super::problem::{Found, Position};

/// A switch, as far as loops go.
pub(super) struct Bridge<'s> {
    pub(super) name: &'s str,
    pub(super) cuts: Cuts,
}

/// What a switch does about a loop that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cuts {
    /// Nothing.
    Nothing,
    /// It cuts it, if all others in the loop do, by a protocol whose word goes
    /// so many switches far.
    ByProtocol { reach: usize },
    /// It passes nothing by itself.
    Everything,
}

impl Cuts {
    /// The reach of a protocol that has no limit to it.
    pub(super) const FAR: usize = usize::MAX;
}

/// A link between two switches, by their numbers.
pub(super) struct Trunk {
    pub(super) ends: [usize; 2],
    pub(super) at: Position,
    /// Several cables: Open vSwitch speaks no spanning tree protocol over them.
    pub(super) bond: bool,
}

/// How many loops are told; whoever opens one often opens the others with it.
const TOLD_MAX: usize = 5;

/// Adds a problem for each loop that nothing cuts.
pub(super) fn check(bridges: &[Bridge<'_>], trunks: &[Trunk], found: &mut Found) {
    let (forest, closing) = Forest::grow(bridges, trunks);
    // Where every word goes as far as need be, a loop that is cut need not be
    // looked at.
    let short =
        |bridge: &Bridge| matches!(bridge.cuts, Cuts::ByProtocol { reach } if reach < Cuts::FAR);
    let any_short = bridges.iter().any(short);
    let uncut = closing.into_iter().filter_map(|(trunk, cut)| {
        if cut && !any_short {
            return None;
        }
        let around = forest.around(trunk);
        let hint = if cut { too_long(bridges, &around)? } else { way_out(bridges, &around) };
        Some((trunk, around, hint))
    });
    for (told, (trunk, around, hint)) in uncut.enumerate() {
        if told == TOLD_MAX {
            found.add(trunk.at, "and more loops of switches");
            return;
        }
        let names: Vec<_> = around.iter().map(|switch| bridges[*switch].name).collect();
        found
            .add(trunk.at, format!("this link closes a loop of switches: {}", spelled(&names)))
            .hint(hint);
    }
}

/// What to do about a loop that nothing cuts.
fn way_out(bridges: &[Bridge<'_>], around: &[usize]) -> String {
    let deaf = around.iter().filter(|switch| bridges[**switch].cuts == Cuts::Nothing);
    let mut deaf: Vec<_> = deaf.map(|s| format!("`{}`", bridges[*s].name)).collect();
    let switches = match deaf.len() {
        0 => return "leave its `bond` out: no spanning tree protocol is spoken over one".into(),
        1..=4 => super::holds::listed(&deaf, "and"),
        _ => {
            deaf.truncate(3);
            format!("{} and the others", deaf.join(", "))
        }
    };
    format!("take one link out, or set `stp: true` on {switches}")
}

/// What to do about a loop that is too long for the protocol that would cut it:
/// half the way round is the farthest that a switch is from the root.
fn too_long(bridges: &[Bridge<'_>], around: &[usize]) -> Option<String> {
    let reach = around.iter().filter_map(|switch| match bridges[*switch].cuts {
        Cuts::ByProtocol { reach } => Some(reach),
        Cuts::Nothing | Cuts::Everything => None,
    });
    let reach = reach.min().filter(|reach| *reach < around.len() / 2)?;
    Some(format!(
        "what RSTP tells goes {reach} switches far, which is enough for {} in a loop; set `stp: \
         true` instead",
        2 * reach + 1
    ))
}

/// `s1 -- s2 -- s3 -- s1`; of a long ring the beginning and the end.
fn spelled(names: &[&str]) -> String {
    const WHOLE_MAX: usize = 12;
    let first = names[0];
    if names.len() <= WHOLE_MAX {
        return format!("{} -- {first}", names.join(" -- "));
    }
    let (begin, end) = (&names[..6], names[names.len() - 1]);
    format!("{} -- ... -- {end} -- {first} ({} switches)", begin.join(" -- "), names.len())
}

/// Trees that hold every switch, made of links that close no loop.
struct Forest {
    /// Towards the root; a root is its own.
    parent: Vec<usize>,
    depth: Vec<usize>,
}

impl Forest {
    /// The forest, and the links that are not in it and close a loop, each with
    /// whether something cuts that. All loops there are can be put together
    /// from those that one link closes, so there is no need to look at others.
    fn grow<'t>(bridges: &[Bridge<'_>], trunks: &'t [Trunk]) -> (Self, Vec<(&'t Trunk, bool)>) {
        let switches = bridges.len();
        let mut sets = Sets::new(switches);
        let (kept, closing): (Vec<_>, Vec<_>) =
            trunks.iter().partition(|trunk| sets.join(trunk.ends[0], trunk.ends[1]));
        // There is one way through the forest from one end of such a link to
        // the other. If it leads through switches that cut alone, then it does
        // so too with all others gone.
        let mut cutting = Sets::new(switches);
        let cuts = |trunk: &Trunk| {
            trunk.ends.iter().all(|end| match bridges[*end].cuts {
                Cuts::Nothing => false,
                Cuts::ByProtocol { .. } => !trunk.bond,
                Cuts::Everything => true,
            })
        };
        for trunk in kept.iter().filter(|trunk| cuts(trunk)) {
            cutting.join(trunk.ends[0], trunk.ends[1]);
        }
        let closing = closing.into_iter().map(|trunk| {
            let [a, b] = trunk.ends.map(|end| cutting.root(end));
            (trunk, a == b && cuts(trunk))
        });
        let closing = closing.collect();
        let mut near = vec![Vec::new(); switches];
        for Trunk { ends: [a, b], .. } in kept {
            near[*a].push(*b);
            near[*b].push(*a);
        }
        let mut parent = vec![usize::MAX; switches];
        let mut depth = vec![0; switches];
        for root in 0..switches {
            if parent[root] != usize::MAX {
                continue;
            }
            parent[root] = root;
            let mut queue = VecDeque::from([root]);
            while let Some(here) = queue.pop_front() {
                for &next in &near[here] {
                    if next != parent[here] {
                        parent[next] = here;
                        depth[next] = depth[here] + 1;
                        queue.push_back(next);
                    }
                }
            }
        }
        (Self { parent, depth }, closing)
    }

    /// The switches of the loop that `trunk` closes, from the first of the
    /// file on.
    fn around(&self, trunk: &Trunk) -> Vec<usize> {
        let [mut a, mut b] = trunk.ends;
        let (mut up, mut down) = (vec![a], vec![b]);
        while a != b {
            if self.depth[a] < self.depth[b] {
                b = self.parent[b];
                down.push(b);
            } else {
                a = self.parent[a];
                up.push(a);
            }
        }
        down.pop();
        up.extend(down.into_iter().rev());
        let first = (0..up.len()).min_by_key(|i| up[*i]).expect("a loop has switches");
        up.rotate_left(first);
        if let [_, second, .., last] = up[..]
            && last < second
        {
            up[1..].reverse();
        }
        up
    }
}

/// Which things hang together.
pub(super) struct Sets(Vec<usize>);

impl Sets {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    /// The thing that stands for all that hang together with `of`.
    pub(super) fn root(&mut self, mut of: usize) -> usize {
        while self.0[of] != of {
            self.0[of] = self.0[self.0[of]];
            of = self.0[of];
        }
        of
    }

    /// Joins two; false if they hung together before.
    pub(super) fn join(&mut self, a: usize, b: usize) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        self.0[b.max(a)] = a.min(b);
        a != b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(switches: &str, trunks: &[(usize, usize)], expected: &[&str]) {
        check_bonds(switches, trunks, &[], expected);
    }

    /// `-` is a switch that speaks nothing, `+` one with STP, `r` one with RSTP,
    /// `0` one that passes nothing. `bonds` are lines of `trunks`.
    #[track_caller]
    fn check_bonds(switches: &str, trunks: &[(usize, usize)], bonds: &[usize], expected: &[&str]) {
        let names: Vec<_> = (1..=switches.len()).map(|i| format!("s{i}")).collect();
        let cuts = |letter: char| match letter {
            '-' => Cuts::Nothing,
            '+' => Cuts::ByProtocol { reach: Cuts::FAR },
            'r' => Cuts::ByProtocol { reach: 20 },
            _ => Cuts::Everything,
        };
        let bridges = names.iter().zip(switches.chars());
        let bridges: Vec<_> =
            bridges.map(|(name, letter)| Bridge { name, cuts: cuts(letter) }).collect();
        let trunks: Vec<_> = trunks
            .iter()
            .enumerate()
            .map(|(i, (a, b))| Trunk {
                ends: [a - 1, b - 1],
                at: Position { line: i + 1, column: 1 },
                bond: bonds.contains(&(i + 1)),
            })
            .collect();
        let mut found = Found::default();
        super::check(&bridges, &trunks, &mut found);
        let told: Vec<_> = match found.into_result("", "") {
            Ok(()) => Vec::new(),
            Err(problems) => problems
                .problems()
                .iter()
                .map(|p| {
                    let message =
                        p.message.trim_start_matches("this link closes a loop of switches: ");
                    format!("{}: {message}", p.line)
                })
                .collect(),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn loops_are_spelled_out() {
        check("---", &[(1, 2), (2, 3)], &[]);
        check("---", &[(1, 2), (2, 3), (3, 1)], &["3: s1 -- s2 -- s3 -- s1"]);
        check("--", &[(1, 2), (2, 1)], &["2: s1 -- s2 -- s1"]);
        check("----", &[(4, 3), (3, 2), (2, 4)], &["3: s2 -- s3 -- s4 -- s2"]);
        check(
            "------",
            &[(1, 2), (2, 1), (4, 5), (5, 6), (6, 4)],
            &["2: s1 -- s2 -- s1", "5: s4 -- s5 -- s6 -- s4"],
        );
    }

    #[test]
    fn spanning_tree_cuts_a_loop_only_if_all_speak_it() {
        check("+++", &[(1, 2), (2, 3), (3, 1)], &[]);
        check("+-+", &[(1, 2), (2, 3), (3, 1)], &["3: s1 -- s2 -- s3 -- s1"]);
        check("+++-", &[(1, 2), (2, 3), (3, 1), (3, 4)], &[]);
    }

    #[test]
    fn nothing_is_spoken_over_a_bond() {
        let ring = [(1, 2), (2, 3), (3, 1)];
        for bond in 1..=3 {
            check_bonds("+++", &ring, &[bond], &["3: s1 -- s2 -- s3 -- s1"]);
            check_bonds("rrr", &ring, &[bond], &["3: s1 -- s2 -- s3 -- s1"]);
            check_bonds("000", &ring, &[bond], &[]);
        }
        check_bonds("++++", &[(1, 2), (2, 3), (3, 1), (3, 4)], &[4], &[]);
        check_bonds("---", &[(1, 2), (2, 3)], &[1, 2], &[]);
    }

    #[test]
    fn what_rstp_tells_goes_twenty_switches_far() {
        let ring =
            |switches: usize| -> Vec<_> { (1..=switches).map(|i| (i, i % switches + 1)).collect() };
        check(&"r".repeat(41), &ring(41), &[]);
        let text = "42: s1 -- s2 -- s3 -- s4 -- s5 -- s6 -- ... -- s42 -- s1 (42 switches)";
        check(&"r".repeat(42), &ring(42), &[text]);
        check(&"+".repeat(42), &ring(42), &[]);
        check(&"0".repeat(42), &ring(42), &[]);
        check(&format!("r{}", "+".repeat(41)), &ring(42), &[text]);
    }

    #[test]
    fn a_handful_is_told() {
        let trunks = [(1, 2); 10];
        let loops: Vec<_> = (2..=6).map(|line| format!("{line}: s1 -- s2 -- s1")).collect();
        let mut expected: Vec<_> = loops.iter().map(String::as_str).collect();
        expected.push("7: and more loops of switches");
        check("--", &trunks, &expected);
    }

    #[test]
    fn a_long_ring_is_cut() {
        let ring: Vec<_> = (1..=100).map(|i| (i, i % 100 + 1)).collect();
        let text = "100: s1 -- s2 -- s3 -- s4 -- s5 -- s6 -- ... -- s100 -- s1 (100 switches)";
        check(&"-".repeat(100), &ring, &[text]);
    }
}
