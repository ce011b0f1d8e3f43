//! VLANs: which frames pass which port, with which tags, on either backend.
//! Frames are sent past the kernel's own ideas of VLANs, and overheard.

use std::collections::BTreeMap;

use world::{Skip, Verdict, World};

/// Who sends frames: the first five bytes of each address.
const SENDERS: &str = "02:00:5e:00:53:";
/// Who sends the last frame of all.
const LAST: &str = "02:00:5e:00:54:00";

/// A frame: who sends it, in which tags, and who hears it, in which tags.
type Passage<'a> = (&'a str, &'a str, &'a [(&'a str, &'a [u16])]);

/// a (10), b (20), t (trunk of both), n (trunk of 10, native 20), o (1), p and q
/// (which say nothing) -- s1
const PORTS: &str = "
name: ports
switches: { s1: { backend: BACKEND } }
nodes: { a: , b: , t: , n: , o: , p: , q: }
links:
  - { endpoints: [a, s1], vlan: 10 }
  - { endpoints: [b, s1], vlan: 20 }
  - { endpoints: [t, s1], trunks: [10, 20] }
  - { endpoints: [n, s1], trunks: [10], native: 20 }
  - { endpoints: [o, s1], vlan: 1 }
  - { endpoints: [p, s1] }
  - { endpoints: [q, s1] }
";

const NODES: [&str; 7] = ["a", "b", "t", "n", "o", "p", "q"];

/// What a port lets in and out. A port that says nothing passes all VLANs with
/// their tags, and without one VLAN 1.
const PASSAGES: [Passage<'static>; 14] = [
    ("a", "-", &[("t", &[10]), ("n", &[10]), ("p", &[10]), ("q", &[10])]),
    ("b", "-", &[("t", &[20]), ("n", &[]), ("p", &[20]), ("q", &[20])]),
    ("t", "10", &[("a", &[]), ("n", &[10]), ("p", &[10]), ("q", &[10])]),
    ("t", "20", &[("b", &[]), ("n", &[]), ("p", &[20]), ("q", &[20])]),
    ("t", "30", &[]),
    ("t", "-", &[]),
    ("n", "-", &[("b", &[]), ("t", &[20]), ("p", &[20]), ("q", &[20])]),
    ("n", "30", &[]),
    ("o", "-", &[("p", &[]), ("q", &[])]),
    ("o", "10", &[]),
    ("p", "-", &[("o", &[]), ("q", &[])]),
    ("p", "1", &[("o", &[]), ("q", &[])]),
    ("p", "10", &[("a", &[]), ("t", &[10]), ("n", &[10]), ("q", &[10])]),
    ("p", "30", &[("q", &[30])]),
];

pub(crate) fn tags_pass_as_told_on_open_vswitch(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    tags_pass_as_told(world, "ovs")
}

pub(crate) fn tags_pass_as_told_on_a_linux_bridge(world: &World) -> Verdict {
    let made = world.attempt("ip link add probe type bridge vlan_filtering 1").status.success();
    world.attempt("ip link del probe");
    if !made {
        return Err(Skip("this kernel's bridge has no VLAN filtering".into()));
    }
    tags_pass_as_told(world, "linux")
}

fn tags_pass_as_told(world: &World, backend: &str) -> Verdict {
    world.needs("tcpdump")?;
    world.file("ports.yaml", &PORTS.replace("BACKEND", backend));
    world.ovsns("up ports.yaml").ok();
    let last = [("p", "10"), ("p", "20"), ("p", "-"), ("t", "10")];
    passes(world, "ports", &NODES, &PASSAGES, &last);
    world.ovsns("up ports.yaml").ok().says("nothing to change");

    // Where no port says anything, nobody looks at tags.
    let plain = PORTS.replace(", vlan: 10", "").replace(", vlan: 20", "").replace(", vlan: 1", "");
    let plain = plain.replace(", trunks: [10, 20]", "").replace(", trunks: [10], native: 20", "");
    world.file("plain.yaml", &plain.replace("BACKEND", backend));
    world.ovsns("up plain.yaml").ok();
    let all: Passage = ("a", "30", &[("b", &[30]), ("t", &[30]), ("n", &[30]), ("p", &[30])]);
    let none: Passage = ("b", "-", &[("a", &[]), ("t", &[]), ("n", &[]), ("p", &[])]);
    passes(world, "ports", &["a", "b", "t", "n", "p"], &[all, none], &[("q", "-")]);
    world.ovsns("up ports.yaml").ok();
    passes(world, "ports", &NODES, &PASSAGES, &last);
    Ok(())
}

/// c1, c2 (VLAN 10 alone) -- s1 = s2 -- c3, p (a provider's trunk)
const PROVIDER: &str = "
name: provider
switches: { s1: { backend: ovs }, s2: { backend: ovs } }
nodes: { c1: , c2: , c3: , p: }
links:
  - { endpoints: [c1, s1], qinq: { vlan: 100 } }
  - { endpoints: [c2, s1], qinq: { vlan: 100, customers: [10] } }
  - { endpoints: [s1, s2], trunks: [100] }
  - { endpoints: [c3, s2], qinq: { vlan: 100 } }
  - { endpoints: [p, s2], trunks: [100] }
";

pub(crate) fn vlans_in_a_vlan(world: &World) -> Verdict {
    world.needs("tcpdump")?;
    let _ovs = world.open_vswitch(&["other_config:vlan-limit=2"])?;
    let before = world.inventory();
    world.file("provider.yaml", PROVIDER);
    world.ovsns("up provider.yaml").ok();
    let passages: [Passage; 4] = [
        ("c1", "10", &[("c2", &[10]), ("c3", &[10]), ("p", &[100, 10])]),
        ("c1", "20", &[("c3", &[20]), ("p", &[100, 20])]),
        ("c3", "-", &[("c1", &[]), ("p", &[100])]),
        ("p", "100,10", &[("c1", &[10]), ("c2", &[10]), ("c3", &[10])]),
    ];
    let last = [("c1", "10"), ("c3", "10")];
    passes(world, "provider", &["c1", "c2", "c3", "p"], &passages, &last);
    world.ovsns("up provider.yaml").ok().says("nothing to change");

    // Another set of customers, and another provider's VLAN.
    let changed = PROVIDER.replace("[10]", "[20]").replace("100", "200");
    world.file("provider.yaml", &changed);
    world.ovsns("up provider.yaml").ok();
    let passages: [Passage; 2] = [
        ("c1", "10", &[("c3", &[10]), ("p", &[200, 10])]),
        ("c1", "20", &[("c2", &[20]), ("c3", &[20]), ("p", &[200, 20])]),
    ];
    passes(world, "provider", &["c1", "c2", "c3", "p"], &passages, &[("c1", "20"), ("c3", "20")]);
    world.ovsns("down provider").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// The same, where Open vSwitch looks at one tag only
pub(crate) fn qinq_is_refused_where_one_tag_is_looked_at(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    world.file("provider.yaml", PROVIDER);
    world.ovsns("up provider.yaml").code(2).says("vlan-limit").says("leave `qinq` out");
    world.inventory().must_equal(&before);
    Ok(())
}

/// Sends the frames of `passages`, and fails the test unless each is heard by
/// those who are to hear it, and nobody else. The frames of `last` reach
/// everybody, and say that no more will come.
#[track_caller]
fn passes(world: &World, lab: &str, nodes: &[&str], passages: &[Passage], last: &[(&str, &str)]) {
    let at = |node: &str| format!("{lab}.{node}");
    let mut ears: Vec<_> =
        nodes.iter().map(|node| (*node, world.capture(&at(node), "eth0", ""))).collect();
    let sender = |number: usize| format!("{SENDERS}{number:02x}");
    for (number, (from, tags, _)) in passages.iter().enumerate() {
        world.broadcast_frame(&at(from), "eth0", &sender(number), tags);
    }
    for (from, tags) in last {
        world.broadcast_frame(&at(from), "eth0", LAST, tags);
    }
    let mut heard: BTreeMap<(String, &str), Vec<u16>> = BTreeMap::new();
    for (node, ear) in &mut ears {
        for frame in ear.hears(LAST).into_iter().filter(|frame| frame.from.starts_with(SENDERS)) {
            let twice = heard.insert((frame.from.clone(), node), frame.tags);
            assert_eq!(twice, None, "{node} heard twice: {}", frame.line);
        }
    }
    for (number, (from, tags, expected)) in passages.iter().enumerate() {
        let got: BTreeMap<&str, Vec<u16>> = heard
            .iter()
            .filter(|((sent, node), _)| *sent == sender(number) && node != from)
            .map(|((_, node), tags)| (*node, tags.clone()))
            .collect();
        let expected: BTreeMap<&str, Vec<u16>> =
            expected.iter().map(|(node, tags)| (*node, tags.to_vec())).collect();
        let expected: BTreeMap<_, _> =
            expected.into_iter().filter(|(node, _)| nodes.contains(node)).collect();
        assert_eq!(got, expected, "{from} sent a frame in {tags}; left: who heard it");
    }
}
