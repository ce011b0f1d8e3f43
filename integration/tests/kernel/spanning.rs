//! Rings of switches that a spanning tree protocol cuts, on Open vSwitch: `up`
//! comes back when frames pass, and a link that is lost is got round.

use std::ops::Range;
use std::time::Instant;

use serde_json::Value;
use world::{Finished, Pinging, Verdict, World, patience, until, until_within};

/// h1 -- s1, h2 -- s2, h3 -- s3, and the switches in a ring
const RING: &str = "
name: ring
switches: { 's[1-3]': { backend: ovs, PROTOCOL: true } }
nodes:
  h1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  h2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  h3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
links:
  - endpoints: [h1, s1]
  - endpoints: [h2, s2]
  - endpoints: [h3, s3]
  - endpoints: [s1, s2]
  - endpoints: [s2, s3]
  - endpoints: [s3, s1]
";

/// Each link of the ring, by the ports at its ends.
const LINKS: [[&str; 2]; 3] =
    [["s1~s2#0", "s2~s1#0"], ["s2~s3#0", "s3~s2#0"], ["s1~s3#0", "s3~s1#0"]];

/// The ring of `RING`, of which a link is taken down behind our back.
pub(crate) fn stp_cuts_a_ring_and_heals_it(world: &World) -> Verdict {
    // Two forward delays of four seconds each, where the default of STP has
    // thirty in all; and to heal it, six more in which the old word counts.
    ring_is_cut_and_heals(world, "stp", 8..25, 25)
}

/// The ring of `RING`, of which a link is taken down behind our back.
pub(crate) fn rstp_cuts_a_ring_and_heals_it(world: &World) -> Verdict {
    // No forward delay, of which two would be thirty seconds; and it is healed
    // as soon as the link is lost, not when the old word counts no more.
    ring_is_cut_and_heals(world, "rstp", 0..25, 5)
}

fn ring_is_cut_and_heals(
    world: &World,
    protocol: &str,
    up_s: Range<u64>,
    lost_s_max: u32,
) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    world.file("ring.yaml", &RING.replace("PROTOCOL", protocol));
    let start = Instant::now();
    world.ovsns("up ring.yaml").ok();
    let took = start.elapsed().as_secs();
    let patient = up_s.start..up_s.end * u64::from(patience());
    assert!(patient.contains(&took), "it took {took} s");
    frames_pass_at_once(world);
    let cut = cut_port(world);
    world.ovsns("up ring.yaml").ok().says("nothing to change");

    // A ping between the two ends of a link, until it has got round.
    let [a, b] = link_in_use(&cut);
    let (from, to) = (a.replace('s', "ring.h"), b.replace('s', "10.0.0."));
    let pinging = world.pinging(&from, &to);
    let end = LINKS.iter().flatten().find(|end| **end == format!("{a}~{b}#0"));
    let end = world.ovs_port("ring", end.expect("one of the ring's"));
    world.run(&format!("ip link set {end} down"));
    // Three nodes, and the two links that are left.
    until_within(60, "all that is left is in use", || forwarding(world).len() == 3 + 2 * 2);
    world.pings(&from, &to);
    let lost = pinging.lost();
    let lost_max = Pinging::A_SECOND * lost_s_max * patience();
    assert!(lost < lost_max, "{lost} lost, and no more than {lost_max} may be");
    world.ovsns("status ring").says("drifted").says(&format!("{end} up"));

    world.ovsns("up ring.yaml").ok();
    frames_pass_at_once(world);
    cut_port(world);

    // A port of somebody else's leaves the tree as it is.
    let s1 = bridge(world, "s1");
    world.sh(&format!("ip link add f0 type veth peer name f1; ip link set f0 up; ip link set f1 up; ovs-vsctl add-port {s1} f0"));
    until("the tree is as it was", || waiting(world).len() == 1);
    world.sh(&format!("ovs-vsctl del-port {s1} f0; ip link del f0"));
    until("the tree is as it was", || waiting(world).len() == 1);

    // A node that comes is there at once, and under RSTP it takes nobody's
    // connection. Under STP the ports are numbered anew.
    let more = "nodes:\n  h4: { interfaces: { eth0: { addresses: [10.0.0.4/24] } } }";
    let more =
        RING.replace("PROTOCOL", protocol).replace("nodes:", more) + "  - endpoints: [h4, s1]\n";
    world.file("more.yaml", &more);
    let pinging = world.pinging("ring.h1", "10.0.0.2");
    world.ovsns("up more.yaml").ok();
    world.ping_within(1, "ring.h4", "10.0.0.3").ok();
    frames_pass_at_once(world);
    let lost = pinging.lost();
    assert!(protocol == "stp" || lost < Pinging::A_SECOND, "{lost} lost");
    world.ovsns("down ring").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// The ring of `RING`, and then a line of three, whose protocol changes, and
/// with it what the links are made of.
pub(crate) fn one_protocol_gives_way_to_another(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    let id = ovs.switch_id();
    let veths = || world.json("ip -j link show type veth").as_array().map_or(0, Vec::len);
    let line = RING.replace("PROTOCOL: true", "").replace("  - endpoints: [s3, s1]\n", "");
    for protocol in ["stp", "rstp", "", "stp", "", "rstp", "stp"] {
        match protocol {
            "" => world.file("ring.yaml", &line),
            _ => world.file("ring.yaml", &RING.replace("PROTOCOL", protocol)),
        };
        world.ovsns("up ring.yaml").ok();
        frames_pass_at_once(world);
        // Patches, or links of the kernel.
        let (links, cut) = if protocol.is_empty() { (3, 0) } else { (3 + 2 * 3, 1) };
        assert_eq!(veths(), links, "{protocol}");
        assert_eq!(waiting(world).len(), cut, "{protocol}");
        world.ovsns("up ring.yaml").ok().says("nothing to change");
    }
    // Also where the message that it takes is not of a version that is spoken.
    let old = "PROTOCOL: true, protocols: [OpenFlow13]";
    for protocol in ["stp", "rstp"] {
        let line = line.replace("ovs, ", "ovs, PROTOCOL: true");
        let line = line.replace("PROTOCOL: true", old).replace("PROTOCOL", protocol);
        world.file("line.yaml", &line);
        world.ovsns("up line.yaml").ok();
        world.file("line.yaml", &line.replace(&format!("{protocol}: true, "), ""));
        world.ovsns("up line.yaml").ok();
        frames_pass_at_once(world);
        assert_eq!(world.column("Bridge", &bridge(world, "s1"), "protocols"), "[OpenFlow13]");
    }
    assert!(ovs.switch_runs(), "`ovs-vswitchd` ended\n{}", ovs.log());
    assert_eq!(ovs.switch_id(), id);
    Ok(())
}

/// Sixteen switches in a ring: further than the least that a protocol tells
pub(crate) fn rstp_reaches_round_a_long_ring(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let mut file = "name: ring\nswitches: { 's[1-16]': { backend: ovs, rstp: true } }\n".to_owned();
    file += "nodes: { h1: , h9: }\nlinks:\n  - endpoints: [h1, s1]\n  - endpoints: [h9, s9]\n";
    for here in 1..=16 {
        file += &format!("  - endpoints: [s{here}, s{}]\n", here % 16 + 1);
    }
    world.file("ring.yaml", &file);
    world.ovsns("up ring.yaml").ok();
    cut_port(world);
    let far = world.addresses("ring.h9", "eth0");
    let answer = world.ping_once("ring.h1", far[0].split('/').next().expect("an address"));
    answer.ok();
    // Forty-two would be too far.
    let long = file.replace("[1-16]", "[1-42]").replace("[s16, s1]", "[s16, s17]");
    let more = (17..=42).map(|here| format!("  - endpoints: [s{here}, s{}]\n", here % 42 + 1));
    world.file("long.yaml", &(long + &more.collect::<String>()));
    world.ovsns("up long.yaml").code(2).says("20 switches far").says("stp: true");
    Ok(())
}

/// s1 = s2 -- s3 -- s1, whose bond no protocol is spoken over
pub(crate) fn a_bond_in_a_ring_is_refused(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    let bond = "[s1, s2]\n    bond: { members: 2 }";
    for protocol in ["stp", "rstp"] {
        let ring = RING.replace("PROTOCOL", protocol).replace("[s1, s2]", bond);
        world.file("ring.yaml", &ring);
        world.ovsns("up ring.yaml").code(2).says("closes a loop").says("leave its `bond` out");
        world.inventory().must_equal(&before);
    }
    // Nor does `up` wait for what never comes, where there is no ring.
    let line = RING.replace("PROTOCOL", "stp").replace("[s1, s2]", bond);
    let line = line.replace("  - endpoints: [s3, s1]\n", "").replace(
        "'s[1-3]': {",
        "s2: { backend: ovs }, s3: { backend: ovs }, s1: { mirrors: { all-of-it: { from: [s2], \
         output: h3 } },",
    );
    let line = line.replace("[h3, s3]", "[h3, s1]");
    world.file("ring.yaml", &line);
    world.ovsns("up ring.yaml").ok();
    world.ping_once("ring.h1", "10.0.0.2").ok();
    Ok(())
}

fn bridge(world: &World, switch: &str) -> String {
    let name = world.setting("", &format!("ring:{switch}"), "ifname");
    name.as_str().expect("a name").to_owned()
}

/// The ports in a state of STP, or with a role of RSTP.
fn states(world: &World, state: &str) -> Vec<String> {
    let listed = "ovs-vsctl --format=json --columns=name,status,rstp_status list Port";
    let ports = world.json(listed);
    let ports = ports["data"].as_array().expect("rows");
    let has = |port: &&Value| port.to_string().contains(&format!("\"{state}\""));
    ports.iter().filter(has).map(|port| port[0].as_str().expect("a name").to_owned()).collect()
}

/// The ports that forward.
fn forwarding(world: &World) -> Vec<String> {
    let mut forwarding = states(world, "forwarding");
    forwarding.extend(states(world, "Forwarding"));
    forwarding
}

/// The ports that do not forward.
fn waiting(world: &World) -> Vec<String> {
    let mut waiting = states(world, "blocking");
    waiting.extend(states(world, "Alternate"));
    waiting
}

/// The one port that does not forward.
#[track_caller]
fn cut_port(world: &World) -> String {
    let mut cut = waiting(world);
    assert_eq!(cut.len(), 1, "{cut:?} do not forward\n{}", world.vsctl("list Port"));
    cut.remove(0)
}

/// The switches at the ends of a link of the ring that is not cut at `port`.
fn link_in_use(cut: &str) -> [&'static str; 2] {
    // s1s20.t66injhe is the port of s1 towards s2.
    let is_cut =
        |ends: &&[&str; 2]| ends.iter().any(|end| cut.starts_with(&end.replace(['~', '#'], "")));
    let [end, _] = LINKS.iter().find(|ends| !is_cut(ends)).expect("one of three is cut");
    [&end[..2], &end[3..5]]
}

/// Each first frame between two nodes arrives, and once.
#[track_caller]
fn frames_pass_at_once(world: &World) {
    if let Some(lost) = every_pair(world) {
        panic!("lost\n{lost}{}", world.attempt("ovs-vsctl list Port"));
    }
}

/// The first of all pairs of nodes whose ping is not answered at once, or twice.
fn every_pair(world: &World) -> Option<Finished> {
    [(1, 2), (1, 3), (2, 3)].into_iter().find_map(|(from, to)| {
        let answer = world.ping_within(1, &format!("ring.h{from}"), &format!("10.0.0.{to}"));
        let once = answer.status.success() && !answer.stdout.contains("duplicates");
        (!once).then_some(answer)
    })
}
