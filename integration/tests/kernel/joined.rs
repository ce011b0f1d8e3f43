//! Labs of several switches on Open vSwitch: patches between them, and one
//! that has of everything something.

use world::{Verdict, World};

/// n1 -- s1 -- s2 -- n2, s3 -- n3
const LINE: &str = "
name: line
switches: { 's[1-3]': { backend: ovs } }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  n3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
links:
  - endpoints: [n1, s1]
  - endpoints: [n2, s2]
  - endpoints: [n3, s3]
  - endpoints: [s1, s2]
";

pub(crate) fn patches_join_switches(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    let patched = |from: &str, to: &str| {
        let [a, b] = [(from, to), (to, from)]
            .map(|(here, there)| world.ovs_port("line", &format!("{here}~{there}#0")));
        for (here, there) in [(&a, &b), (&b, &a)] {
            assert_eq!(world.column("Interface", here, "type"), "patch");
            let peer = world.column("Interface", here, "options:peer");
            assert_eq!(peer.trim_matches('"'), there);
            assert_eq!(world.link("", here), None, "a link of the kernel");
        }
    };
    // Without a link there is no way, and a link that moves takes it along.
    for (links, way) in [
        ("", [true, false, false]),
        ("  - endpoints: [s2, s3]\n", [true, true, true]),
        ("", [true, false, false]),
        ("  - endpoints: [s1, s3]\n", [true, true, true]),
    ] {
        world.file("line.yaml", &format!("{LINE}{links}"));
        world.ovsns("up line.yaml").ok();
        for ((from, to), open) in [(1, 2), (1, 3), (2, 3)].into_iter().zip(way) {
            let (from, to) = (format!("line.n{from}"), format!("10.0.0.{to}"));
            match open {
                true => world.pings(&from, &to),
                false => world.silence(&from, &to),
            }
        }
        patched("s1", "s2");
        if let [_, true, _] = way {
            patched(if links.contains("s1") { "s1" } else { "s2" }, "s3");
        }
        world.ovsns("up line.yaml").ok().says("nothing to change");
    }
    // Half of one that somebody took away.
    let half = world.ovs_port("line", "s1~s2#0");
    world.vsctl(&format!("del-port {half}"));
    world.silence("line.n1", "10.0.0.2");
    world.ovsns("up line.yaml").ok();
    world.pings("line.n1", "10.0.0.2");
    world.ovsns("down line").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- s1 (STP) -- s2 (STP), twice; n3 -- s3 (RSTP) -- s4; s4 -- s5, which has
/// nodes of all kinds; s5 = s6, s5 = s7
const ALL: &str = "
name: all
switches:
  s1: { backend: ovs, stp: true, forward_delay: 5, ageing: 60, mtu: 1400 }
  s2: { backend: ovs, stp: true, multicast_snooping: false }
  s3: { backend: ovs, rstp: true, mac: '02:00:00:00:00:77', device: br7 }
  s4: { backend: ovs, protocols: [OpenFlow13, OpenFlow14], fail_mode: secure, datapath_id: '0000000000000042', flows: ['priority=1,actions=NORMAL'] }
  s5: { backend: ovs, ageing: 3600, mirrors: { span: { from: [n5], output: n9 } } }
  's[6-7]': { backend: ovs }
nodes: { 'n[1-9]': }
links:
  - { endpoints: [n1, s1], mtu: 1400 }
  - { endpoints: [n2, s2], isolated: true }
  - { endpoints: [s1, s2], mtu: 9000 }
  - { endpoints: [s1, s2] }
  - { endpoints: [n3, s3], isolated: true }
  - { endpoints: [s3, s4] }
  - { endpoints: [s4, s5], trunks: [10, 20], native: 10 }
  - { endpoints: [n4, s5], vlan: 10 }
  - { endpoints: [n5, s5], trunks: [10, 20] }
  - { endpoints: [n6, s5], trunks: [20], native: 10 }
  - { endpoints: [n7, s5], qinq: { vlan: 100, customers: [10, 30] } }
  - { endpoints: [n8, s6] }
  - { endpoints: [n9, s5] }
  - { endpoints: [s5, s6], bond: { members: 3, mode: balance-tcp } }
  - { endpoints: [s6, s7], bond: { mode: balance-slb }, vlan: 10 }
  - { endpoints: [s2, s7], bond: { lacp: off } }
";

pub(crate) fn a_second_up_of_everything_writes_nothing(world: &World) -> Verdict {
    world.needs("strace")?;
    let ovs = world.open_vswitch(&["other_config:vlan-limit=2"])?;
    let before = world.inventory();
    world.file("all.yaml", ALL);
    // What is on disk is every transaction that asked for something; statistics
    // and states are not.
    let database = ovs.rundir().join("conf.db");
    let transactions = || {
        let log = world.run(&format!("ovsdb-tool show-log {}", database.display())).stdout;
        log.lines().filter(|line| line.starts_with("record ")).count()
    };
    let none = (transactions(), world.next_cfg());
    let (first, trace) = world.traced("up all.yaml");
    first.ok();
    assert!(20 < trace.writes.len(), "{:?}", trace.writes);
    assert!(none.0 < transactions());
    assert_ne!(none.1, world.next_cfg());

    world.settled();
    let (written, told, made) = (transactions(), world.next_cfg(), world.inventory());
    let monitors = world.monitors();
    let (second, trace) = world.traced("up all.yaml");
    second.ok().says("nothing to change");
    assert_eq!(trace.writes, []);
    for monitor in monitors {
        assert_eq!(monitor.heard(world), [""; 0]);
    }
    assert_eq!((transactions(), world.next_cfg()), (written, told));
    world.inventory().must_equal(&made);
    world.ovsns("plan all.yaml").ok();
    world.ovsns("status all").ok();
    assert_eq!(transactions(), written);

    world.ovsns("down all").ok();
    world.inventory().must_equal(&before);
    Ok(())
}
