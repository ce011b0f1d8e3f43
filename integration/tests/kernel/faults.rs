//! What goes wrong around a lab on Open vSwitch, and what `status` and `up`
//! make of it. Traffic, `ovs-vsctl` and `ip` are the witnesses.
//!
//! Here also whether TCP and UDP pass, on every datapath: checksums are what
//! a datapath most likely gets wrong, and no ping shows it.

use world::{Finished, Skip, Tool, Verdict, World};

use crate::TWO_NODES;

/// Makes the lab of `TWO_NODES` on the userspace datapath of Open vSwitch.
fn two_nodes(world: &World) {
    world.file("two.yaml", &TWO_NODES.replace("b.1.1: {}", "b.1.1: { datapath: netdev }"));
    up(world).ok();
}

fn up(world: &World) -> Finished {
    world.ovsns("up two.yaml --backend ovs")
}

// ---- TCP and UDP ----

/// n1 -- b.1.1 -- n2
pub(crate) fn tcp_and_udp_over_a_linux_bridge(world: &World) -> Verdict {
    world.needs("ethtool")?;
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml --backend linux").ok();
    // The kernel's own bridge needs no help.
    assert_eq!(leaves_checksums(world), [true, true]);
    everything_passes(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn tcp_and_udp_over_the_userspace_datapath(world: &World) -> Verdict {
    world.needs("ethtool")?;
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    assert_eq!(leaves_checksums(world), [false, false]);
    everything_passes(world);

    // Without the plan's step a ping is all that passes.
    for node in ["n1", "n2"] {
        world.run(&format!("ip netns exec two-nodes.{node} ethtool -K eth0 tx on"));
        world.pings("two-nodes.n1", "10.0.0.2");
        assert!(!tcp(world, "10.0.0.2").status.success(), "TCP passes with `tx on` in {node}");
        assert!(!tcp(world, "fd00::2").status.success(), "TCP passes with `tx on` in {node}");
        world.ovsns("status").ok().says("drifted").says(&format!("{node}:eth0 calculates"));
        if node == "n1" {
            assert!(!udp(world, "10.0.0.1", "10.0.0.2").status.success(), "UDP passes");
            assert!(!udp(world, "fd00::1", "fd00::2").status.success(), "UDP passes");
        }
        up(world).ok().says("1 step in");
        everything_passes(world);
    }
    up(world).ok().says("nothing to change");

    // It is so again after an interface was made again.
    world.run("ip -n two-nodes.n1 link del eth0");
    up(world).ok();
    assert_eq!(leaves_checksums(world), [false, false]);
    everything_passes(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2, where Open vSwitch finishes checksums itself
pub(crate) fn tcp_and_udp_with_segmentation_offload(world: &World) -> Verdict {
    world.needs("ethtool")?;
    let _ovs = world.open_vswitch(&["other_config:userspace-tso-enable=true"])?;
    two_nodes(world);
    assert_eq!(leaves_checksums(world), [true, true]);
    everything_passes(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn tcp_and_udp_over_the_kernel_datapath(world: &World) -> Verdict {
    world.needs("ethtool")?;
    let _ovs = world.open_vswitch(&[])?;
    if !world.attempt("ovs-dpctl add-dp probe").status.success() {
        return Err(Skip("this kernel has no module `openvswitch`".into()));
    }
    world.run("ovs-dpctl del-dp probe");
    world.file("two.yaml", &TWO_NODES.replace("b.1.1: {}", "b.1.1: { datapath: system }"));
    up(world).ok();
    assert_eq!(leaves_checksums(world), [true, true]);
    everything_passes(world);
    Ok(())
}

/// TCP and UDP, over IPv4 and IPv6, either way.
#[track_caller]
fn everything_passes(world: &World) {
    for to in ["10.0.0.2", "fd00::2"] {
        tcp(world, to).ok();
    }
    for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        udp(world, from, to).ok();
    }
}

/// Eight megabytes from n1 over TCP to n2, and back.
fn tcp(world: &World, to: &str) -> Finished {
    let mut echo = world.tool("two-nodes.n2", Tool::Echo, &format!("{to} 7007"));
    echo.line_with("ready");
    world.tool("two-nodes.n1", Tool::Pour, &format!("{to} 7007 8388608")).finish()
}

/// Ten datagrams from n1 to n2. Fails with the listener, whom one is missing.
fn udp(world: &World, from: &str, to: &str) -> Finished {
    let mut hear = world.tool("two-nodes.n2", Tool::Hear, "7009 10");
    hear.line_with("ready");
    for number in 0..10 {
        world.tool("two-nodes.n1", Tool::Say, &format!("{from} {to} 7009 {number}")).finish().ok();
    }
    let heard = hear.finish();
    if heard.status.success() {
        let all: String = (0..10).map(|number| format!("{from} {number}\n")).collect();
        assert_eq!(heard.stdout, all);
    }
    heard
}

/// Whether the interfaces of n1 and n2 leave checksums to hardware.
fn leaves_checksums(world: &World) -> [bool; 2] {
    ["n1", "n2"].map(|node| {
        let features = world.run(&format!("ip netns exec two-nodes.{node} ethtool -k eth0"));
        features.stdout.contains("tx-checksumming: on")
    })
}
