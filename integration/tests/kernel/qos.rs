//! How much passes a port in a second: shaping, queues, policing.
//!
//! ```text
//! n1 -- s1 -- n2
//! ```
//!
//! `iperf3` measures what arrives, first without a limit. What arrives is never
//! more than was asked for, and on a machine with much else to do a bit less.

use world::{Running, Skip, Verdict, World};

/// n1 -- s1 -- n2, where what goes to n2 is shaped
pub(crate) fn shaping_holds_its_rate(world: &World) -> Verdict {
    world.needs("iperf3")?;
    has_htb(world)?;
    let _ovs = world.open_vswitch(&[])?;
    shapes_one_way(world);
    Ok(())
}

/// The same on an Open vSwitch of ovsns's own, which lets through segments of
/// 64 kilobytes.
pub(crate) fn shaping_holds_its_rate_with_segmentation_offload(world: &World) -> Verdict {
    world.needs("iperf3")?;
    world.needs("ovs-vswitchd")?;
    has_htb(world)?;
    shapes_one_way(world);
    Ok(())
}

fn shapes_one_way(world: &World) {
    up(world, "", "");
    let free = tcp(world, "");
    assert!(30.0 < free, "{free} Mbit/s without a limit");
    up(world, "", "shaping: { rate: 10000 }");
    let (there, back) = (tcp(world, ""), tcp(world, "-R"));
    println!("{free:.1} free, {there:.1} shaped, {back:.1} the other way");
    assert!((6.0..=10.5).contains(&there), "{there} Mbit/s under a limit of 10");
    assert!(30.0 < back, "{back} Mbit/s the other way");
    world.ovsns("up lab.yaml").ok().says("nothing to change");

    // Another rate, and none, while it runs.
    world.ovsns("link set n2 s1 shaping.rate=20000").ok().says("shaped to 20000 kbit/s");
    let there = tcp(world, "");
    println!("{there:.1} shaped to 20");
    assert!((12.0..=21.0).contains(&there), "{there} Mbit/s under a limit of 20");
    world.ovsns("link set n2 s1 shaping=").ok();
    let free = tcp(world, "");
    assert!(30.0 < free, "{free} Mbit/s without a limit again");
}

/// n1 -- s1 -- n2, where flows choose queues
pub(crate) fn flows_choose_queues(world: &World) -> Verdict {
    world.needs("iperf3")?;
    has_htb(world)?;
    let _ovs = world.open_vswitch(&[])?;
    // What goes to port 5202 is to have a queue of its own.
    let flow = "flows: ['priority=9,tcp,tp_dst=5202,actions=set_queue:1,normal']";
    let queues = |queues: &str| format!("shaping: {{ rate: 20000, queues: {{ {queues} }} }}");
    let slow = queues("0: { max: 20000 }, 1: { max: 4000 }");
    if !has_kernel_datapath(world) {
        let before = world.inventory();
        write(world, flow, &slow);
        let refused = world.ovsns("up lab.yaml").code(2);
        refused.says("switch `s1` cannot have queues: frames of the userspace datapath all go");
        world.inventory().must_equal(&before);
        // The one that all go into will do.
        up(world, "", &queues("0: { max: 5000 }"));
        let there = tcp(world, "");
        assert!((3.5..=5.3).contains(&there), "{there} Mbit/s in a queue of 5");
        return Err(Skip("this kernel has no module `openvswitch`".into()));
    }
    up(world, "", &slow);
    let there = tcp(world, "-p 5202");
    assert!((12.0..=21.0).contains(&there), "{there} of 20 Mbit/s in no queue");
    up(world, flow, &slow);
    let (chosen, other) = (tcp(world, "-p 5202"), tcp(world, ""));
    println!("{chosen:.1} in a queue of 4, {other:.1} beside it");
    assert!((2.4..=4.3).contains(&chosen), "{chosen} Mbit/s in a queue of 4");
    assert!((12.0..=21.0).contains(&other), "{other} of 20 Mbit/s beside it");

    // Where both want all, each has what it is sure of, here one and there the
    // other way round.
    for (sure, more) in [(3000, 15000), (15000, 3000)] {
        up(world, flow, &queues(&format!("0: {{ min: {more} }}, 1: {{ min: {sure} }}")));
        let mut beside = server(world, 5202);
        let line = format!("{CLIENT} -p 5202 -t 20");
        let busy = world.start(&line);
        beside.line_with("Accepted connection");
        let other = tcp(world, "");
        drop(busy);
        println!("{other:.1} sure of {more} kbit/s beside one sure of {sure}");
        let want = f64::from(more) / 1000.0;
        assert!((0.7 * want..=want + 4.0).contains(&other), "{other} Mbit/s, sure of {want}");
    }
    Ok(())
}

/// n1 -- s1 -- n2, where what comes of n1 is policed
pub(crate) fn policing_holds_its_rate(world: &World) -> Verdict {
    world.needs("iperf3")?;
    let _ovs = world.open_vswitch(&[])?;
    if !has_kernel_datapath(world) {
        return Err(Skip("frames reach the userspace datapath before they are policed".into()));
    }
    up(world, "", "");
    let free = udp(world);
    assert!(6.0 < free, "{free} of 20 Mbit/s without a limit");
    world.ovsns("link set n1 s1 policing.rate=3000 policing.burst=300").ok();
    let policed = udp(world);
    println!("{free:.1} free, {policed:.1} policed to 3");
    assert!((1.8..=3.6).contains(&policed), "{policed} Mbit/s under a limit of 3");
    world.ovsns("link set n1 s1 policing=").ok();
    let free = udp(world);
    assert!(6.0 < free, "{free} of 20 Mbit/s without a limit again");
    Ok(())
}

/// Brings the lab up with a key of s1 and one of the link to n2.
fn up(world: &World, switch: &str, link: &str) {
    write(world, switch, link);
    world.ovsns("up lab.yaml").ok();
    world.pings("qos.n1", "10.0.0.2");
}

fn write(world: &World, switch: &str, link: &str) {
    let text = format!(
        "
name: qos
switches: {{ s1: {{ backend: ovs, {switch} }} }}
nodes:
  n1: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24] }} }} }}
  n2: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.2/24] }} }} }}
links:
  - {{ endpoints: [n1, s1] }}
  - {{ endpoints: [n2, s1], {link} }}
"
    );
    world.file("lab.yaml", &text);
}

/// Whether the kernel can shape as Open vSwitch asks it to.
pub(crate) fn has_htb(world: &World) -> Result<(), Skip> {
    world.needs("tc")?;
    world.run("ip link add try0 type veth peer name try1");
    let can = world.attempt("tc qdisc add dev try0 root handle 1: htb").status.success();
    world.run("ip link delete try0");
    if can { Ok(()) } else { Err(Skip("this kernel has no qdisc `htb`".into())) }
}

fn has_kernel_datapath(world: &World) -> bool {
    let has = world.attempt("ovs-dpctl add-dp probe").status.success();
    if has {
        world.run("ovs-dpctl del-dp probe");
    }
    has
}

const CLIENT: &str = "ip netns exec qos.n1 iperf3 -c 10.0.0.2";

fn server(world: &World, port: u16) -> Running {
    let line = format!("ip netns exec qos.n2 iperf3 -s --forceflush -p {port}");
    let mut server = world.start(&line);
    server.line_with("Server listening");
    server
}

/// What arrives of TCP from n1 at n2, in megabits a second; with `-R` of n2 at
/// n1.
#[track_caller]
fn tcp(world: &World, words: &str) -> f64 {
    let port = if words.contains("5202") { 5202 } else { 5201 };
    measured(world, port, &format!("{words} -t 2"))
}

/// What arrives of 20 Mbit/s of UDP from n1 at n2.
#[track_caller]
fn udp(world: &World) -> f64 {
    measured(world, 5201, "-u -b 20M -l 1400 -t 3")
}

#[track_caller]
fn measured(world: &World, port: u16, words: &str) -> f64 {
    let _server = server(world, port);
    let json = world.json(&format!("{CLIENT} -J {words}"));
    let received = &json["end"]["sum_received"]["bits_per_second"];
    received.as_f64().unwrap_or_else(|| panic!("no rate: {json:#}")) / 1e6
}
