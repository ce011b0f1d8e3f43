//! How many ask at a time: all namespaces of a machine share one table of
//! neighbours for each family (`arp(7)`), and whoever asks when it is full is
//! refused. So many pairs are asked that half of it is enough, then the next.

use std::collections::BTreeMap;
use std::fs;

use super::Probe;

/// How many neighbours the kernel has room for if nobody says otherwise
/// (`gc_thresh3`).
const TABLE_DEFAULT: usize = 1024;

/// How many neighbours one round may add to the table of a family. The kernel
/// tells the size in the machine's first namespace alone.
///
/// Like `sysctl net.ipv4.neigh.default.gc_thresh3`.
pub(super) fn room() -> usize {
    let size = |family: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/{family}/neigh/default/gc_thresh3"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(TABLE_DEFAULT)
    };
    // The other half is for whoever else has neighbours.
    (size("ipv4").min(size("ipv6")) / 2).max(2)
}

/// The places of the probes, round by round. Two nodes that ask each other do so
/// in the same round: what the one learns of the other serves both.
pub(super) fn rounds(probes: &[Probe], room: usize) -> Vec<Vec<usize>> {
    let mut pairs: BTreeMap<(bool, [&str; 2]), [Vec<usize>; 2]> = BTreeMap::new();
    for (place, probe) in probes.iter().enumerate() {
        let (from, to) = (probe.netns.as_str(), probe.answers_in.as_str());
        let back = to < from;
        let pair = if back { [to, from] } else { [from, to] };
        pairs.entry((probe.to.is_ipv6(), pair)).or_default()[usize::from(back)].push(place);
    }
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    // Each family fills its own table, in the same rounds.
    let (mut round, mut taken, mut family) = (0, 0, false);
    for ((is_v6, _), [there, back]) in pairs {
        // Each end comes to know the other, at each of its addresses.
        let neighbours = 2 * there.len().max(back.len());
        if is_v6 != family {
            (round, taken, family) = (0, 0, is_v6);
        } else if taken != 0 && room < taken + neighbours {
            (round, taken) = (round + 1, 0);
        }
        taken += neighbours;
        rounds.resize_with(rounds.len().max(round + 1), Vec::new);
        rounds[round].extend(there.into_iter().chain(back));
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes 0 to `nodes`, each of which asks the next, and is asked back.
    fn ring(nodes: usize, addresses: &[&str]) -> Vec<Probe> {
        let mut probes = Vec::new();
        for address in addresses {
            let to = address.parse().expect("an address");
            for node in 0..nodes {
                let ends = [node, (node + 1) % nodes].map(|node| format!("n{node}"));
                let [a, b] = ends;
                probes.push(Probe { netns: a.clone(), answers_in: b.clone(), to });
                probes.push(Probe { netns: b, answers_in: a, to });
            }
        }
        probes
    }

    #[track_caller]
    fn check(probes: &[Probe], room: usize, wanted: &[usize]) {
        let rounds = rounds(probes, room);
        assert_eq!(rounds.iter().map(Vec::len).collect::<Vec<_>>(), wanted);
        let mut all: Vec<usize> = rounds.into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, (0..probes.len()).collect::<Vec<_>>(), "each is asked once");
    }

    #[test]
    fn a_round_is_as_large_as_the_table_allows() {
        check(&[], 512, &[]);
        check(&ring(100, &["10.0.0.1"]), 512, &[200]);
        check(&ring(100, &["10.0.0.1"]), 60, &[60, 60, 60, 20]);
        // Each family has a table of its own, and both are asked at once.
        check(&ring(100, &["10.0.0.1", "fd00::1"]), 120, &[240, 160]);
    }

    #[test]
    fn who_ask_each_other_do_so_at_once() {
        let probes = ring(7, &["10.0.0.1"]);
        for round in rounds(&probes, 4) {
            let asked: Vec<_> = round.iter().map(|place| &probes[*place]).collect();
            for probe in &asked {
                let back = |it: &&&Probe| it.netns == probe.answers_in;
                assert!(asked.iter().any(|it| back(&it)), "{probe:?}");
            }
        }
    }

    /// Several addresses of one node are several neighbours; and a pair that is
    /// too large for the table is asked all the same.
    #[test]
    fn what_belongs_together_stays_together() {
        let probe = |to: &str| Probe {
            netns: "a".into(),
            answers_in: "b".into(),
            to: to.parse().expect("an address"),
        };
        check(&["10.0.0.1", "10.0.1.1", "10.0.2.1"].map(probe), 2, &[3]);
    }
}
