//! Bonds: several cables between two switches of Open vSwitch that work as one.
//! Which cable is used the kernel counts, and `ovs-appctl` says.

use std::time::Instant;

use world::{Pinging, Tool, Verdict, World, patience, until};

/// n1, n2 -- s1 = s2 -- n3
const TWO_CABLES: &str = "
name: bond
switches: { s1: { backend: ovs }, s2: { backend: ovs } }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  n3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
links:
  - endpoints: [n1, s1]
  - endpoints: [n2, s1]
  - endpoints: [n3, s2]
  - { endpoints: [s1, s2], bond: { BOND } }
";

/// The bond's two ports, and the cables at the first of them.
const PORTS: [&str; 2] = ["s1~s2#0", "s2~s1#0"];

pub(crate) fn one_cable_is_used_and_the_other_takes_over(world: &World) -> Verdict {
    cables_fail_one_by_one(world, "mode: active-backup, lacp: active", Spread::One)
}

pub(crate) fn the_same_cable_is_used_at_both_ends_without_lacp(world: &World) -> Verdict {
    cables_fail_one_by_one(world, "mode: active-backup, lacp: off", Spread::One)
}

pub(crate) fn stations_are_spread_over_cables(world: &World) -> Verdict {
    cables_fail_one_by_one(world, "mode: balance-slb", Spread::ByStation)
}

pub(crate) fn connections_are_spread_over_cables(world: &World) -> Verdict {
    cables_fail_one_by_one(world, "mode: balance-tcp", Spread::ByConnection)
}

/// How frames are spread over cables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spread {
    One,
    ByStation,
    ByConnection,
}

fn cables_fail_one_by_one(world: &World, bond: &str, spread: Spread) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    world.file("bond.yaml", &TWO_CABLES.replace("BOND", bond));
    world.ovsns("up bond.yaml").ok();
    frames_pass_at_once(world);
    let ends = PORTS.map(|port| world.ovs_port("bond", port));
    let cables = cables(world, &ends[0]);
    let shown = world.appctl(&format!("bond/show {}", ends[0]));
    let mode = bond.split([' ', ',']).nth(1).expect("a mode");
    assert!(shown.contains(&format!("bond_mode: {mode}")), "{shown}");
    let speaks = !bond.contains("lacp: off");
    for end in &ends {
        let negotiated = world.attempt(&format!("ovs-appctl lacp/show {end}")).stdout;
        assert_eq!(negotiated.contains("status: active negotiated"), speaks, "{negotiated}");
        let attached = negotiated.matches("current attached").count();
        assert_eq!(attached, if speaks { 2 } else { 0 }, "{negotiated}");
    }
    is_spread(world, &cables, spread);
    world.ovsns("up bond.yaml").ok().says("nothing to change");

    // One that is used fails, whoever it is; the other goes on at once.
    let used = world.column("Port", &ends[0], "bond_active_slave");
    assert!(speaks || !used.contains("[]"), "no cable is used");
    for failing in &cables {
        let pinging = world.pinging("bond.n1", "10.0.0.3");
        world.run(&format!("ip link set {failing} down"));
        for end in &ends {
            let what = format!("{end} has one cable left");
            until(&what, || disabled(world, end) == 1);
        }
        frames_pass_at_once(world);
        // At once, and not when LACP has been silent for three seconds.
        let (lost, lost_max) = (pinging.lost(), 2 * Pinging::A_SECOND * patience());
        assert!(lost < lost_max, "{lost} lost, and no more than {lost_max} may be");
        world.ovsns("status bond").says("drifted").says(&format!("{failing} up"));
        world.ovsns("up bond.yaml").ok();
        for end in &ends {
            until(&format!("{end} has all its cables"), || disabled(world, end) == 0);
        }
        frames_pass_at_once(world);
    }
    if spread == Spread::One {
        is_spread(world, &cables, spread);
    }

    // The control: with no cable left nothing passes.
    for cable in &cables {
        world.run(&format!("ip link set {cable} down"));
    }
    world.silence("bond.n1", "10.0.0.3");
    world.ovsns("up bond.yaml").ok();
    frames_pass_at_once(world);
    world.ovsns("down bond").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1, n2 -- s1 = s2 -- n3, whose bond gets more cables and another mode, and
/// of which a cable is deleted behind our back.
pub(crate) fn a_bond_changes_and_is_mended(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    let with = |bond: &str| TWO_CABLES.replace("BOND", bond);
    let plain = with("").replace(", bond: {  }", "");
    for (file, cables_wanted) in [
        (with("members: 2"), 2),
        (with("members: 4, mode: balance-slb"), 4),
        (with("members: 3, mode: balance-tcp"), 3),
        (plain, 0),
        (with("members: 2, lacp: off"), 2),
        (with("members: 3"), 3),
    ] {
        world.file("bond.yaml", &file);
        world.ovsns("up bond.yaml").ok();
        frames_pass_at_once(world);
        if cables_wanted != 0 {
            let end = world.ovs_port("bond", PORTS[0]);
            assert_eq!(cables(world, &end).len(), cables_wanted);
            assert_eq!(disabled(world, &end), 0);
        }
        world.ovsns("up bond.yaml").ok().says("nothing to change");
    }
    let end = world.ovs_port("bond", PORTS[0]);
    let lost = cables(world, &end).remove(0);
    world.run(&format!("ip link del {lost}"));
    world.ovsns("status bond").says("drifted");
    frames_pass(world);
    world.ovsns("up bond.yaml").ok();
    frames_pass_at_once(world);
    assert_eq!(disabled(world, &end), 0);
    world.ovsns("down bond").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// Bonds that lose frames without LACP
pub(crate) fn a_bond_that_needs_lacp_is_refused_without(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    for bond in ["mode: balance-slb", "mode: balance-tcp", "members: 3"] {
        world.file("bond.yaml", &TWO_CABLES.replace("BOND", &format!("{bond}, lacp: off")));
        world.ovsns("up bond.yaml").code(2).says("LACP").says("lacp: active");
    }
    world.inventory().must_equal(&before);
    Ok(())
}

/// The links of the kernel that a bond has.
fn cables(world: &World, end: &str) -> Vec<String> {
    let shown = world.appctl(&format!("bond/show {end}"));
    let lines = shown.lines().filter_map(|line| line.strip_prefix("member "));
    lines.filter_map(|line| Some(line.split_once(": ")?.0.to_owned())).collect()
}

/// How many cables of a bond are not used.
fn disabled(world: &World, end: &str) -> usize {
    let shown = world.appctl(&format!("bond/show {end}"));
    let members = shown.lines().filter(|line| line.starts_with("member "));
    members.filter(|line| line.ends_with(": disabled")).count()
}

/// Each first frame between two nodes arrives, and once. On a machine that takes
/// patience it may be lost: what the kernel's datapath does follows the switch in
/// the switch's own time (revalidation), and the pause is a second there.
#[track_caller]
fn frames_pass_at_once(world: &World) {
    for (from, to) in [(1, 3), (3, 2), (2, 3), (1, 2)] {
        // Who is there has to be asked of all.
        world.run(&format!("ip -n bond.n{from} neigh flush all"));
        let ping = || world.ping_within(1, &format!("bond.n{from}"), &format!("10.0.0.{to}"));
        let mut answer = ping();
        for _ in 1..patience() {
            if !answer.status.success() {
                answer = ping();
            }
        }
        assert!(!answer.stdout.contains("duplicates"), "{answer}");
        let shown = || world.appctl("bond/show") + &world.attempt("ovs-appctl lacp/show").stdout;
        assert!(answer.status.success(), "{answer}{}", shown());
    }
}

#[track_caller]
fn frames_pass(world: &World) {
    for (from, to) in [(1, 3), (3, 2)] {
        world.pings(&format!("bond.n{from}"), &format!("10.0.0.{to}"));
    }
}

/// Fails the test unless the cables take as they should what n1 sends: a frame
/// from each of 32 stations, or over each of 32 connections.
#[track_caller]
fn is_spread(world: &World, cables: &[String], spread: Spread) {
    const FRAMES: u64 = 32;
    let sent = || -> Vec<u64> { cables.iter().map(|cable| count(world, cable)).collect() };
    let (before, start) = (sent(), Instant::now());
    for frame in 0..FRAMES {
        match spread {
            Spread::One | Spread::ByStation => {
                let station = format!("02:00:5e:00:53:{frame:02x}");
                world.broadcast_frame("bond.n1", "eth0", &station, "-");
            }
            Spread::ByConnection => {
                let words = format!("10.0.0.1 10.0.0.3 {} hello", 4000 + frame);
                world.tool("bond.n1", Tool::Say, &words).finish().ok();
            }
        }
    }
    let mut taken = Vec::new();
    until("the cables have taken all frames", || {
        taken = sent().iter().zip(&before).map(|(after, before)| after - before).collect();
        FRAMES <= taken.iter().sum()
    });
    // LACP takes a frame a second, or a few.
    let others = 2 + start.elapsed().as_secs();
    let least = taken.iter().min().expect("two cables");
    match spread {
        Spread::One => assert!(*least < FRAMES / 4 + others, "both are used: {taken:?}"),
        Spread::ByStation | Spread::ByConnection => {
            assert!(others < *least, "one is hardly used: {taken:?}");
        }
    }
}

/// How many frames the kernel has sent over a link.
fn count(world: &World, link: &str) -> u64 {
    let shown = world.json(&format!("ip -s -j link show dev {link}"));
    shown[0]["stats64"]["tx"]["packets"].as_u64().expect("a number")
}
