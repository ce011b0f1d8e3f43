//! Switches: their settings, ports and loops.

use serde_json::Value;
use world::{Skip, Verdict, World, until};

use crate::TWO_NODES;

/// n1 -- b.1.1 -- n2
pub(crate) fn settings_are_explicit(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    let bridge = |keys: &str| world.setting("", "two-nodes:b.1.1", keys);
    let mac = bridge("address");
    assert_eq!(bridge("mtu"), 1500);
    assert_eq!(bridge("linkinfo.info_kind"), "bridge");
    assert_eq!(bridge("linkinfo.info_data.forward_delay"), 200);
    assert_eq!(bridge("linkinfo.info_data.stp_state"), 0);
    assert_eq!(bridge("linkinfo.info_data.ageing_time"), 30000);
    assert_eq!(bridge("linkinfo.info_data.mcast_snooping"), 1);
    // Set, not followed: another port, with a lower MAC and a smaller MTU,
    // leaves both as they are.
    world.run("ip link add zz address 02:00:00:00:00:01 mtu 1280 type veth peer name zy");
    world.run("ip link set zz master two-nodes:b.1.1");
    assert_eq!(bridge("address"), mac);
    assert_eq!(bridge("mtu"), 1500);
    // Both ports forward, by the bridge's own word.
    let ports = world.json("bridge -j link show");
    let of_ours = |port: &&serde_json::Value| port["master"] == bridge("ifname");
    let states: Vec<_> = ports.as_array().expect("ports").iter().filter(of_ours).collect();
    assert_eq!(states.len(), 3);
    assert_eq!(states.iter().filter(|port| port["state"] == "forwarding").count(), 2);
    Ok(())
}

/// n1 -- s1 (`br7`), with every setting another than the default
pub(crate) fn settings_of_the_file_are_set(world: &World) -> Verdict {
    world.file(
        "set.yaml",
        "
name: set
switches:
  s1:
    device: br7
    mac: 02:00:00:00:00:77
    mtu: 1400
    stp: true
    forward_delay: 4
    ageing: 77
    multicast_snooping: false
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24], mac: 02:00:00:00:00:78 } } }
links:
  - { endpoints: [n1:eth0, s1], mtu: 1300 }
",
    );
    world.ovsns("up set.yaml").ok();
    let bridge = |keys: &str| world.setting("", "br7", keys);
    assert_eq!(bridge("address"), "02:00:00:00:00:77");
    assert_eq!(bridge("mtu"), 1400);
    assert_eq!(bridge("linkinfo.info_data.stp_state"), 1);
    assert_eq!(bridge("linkinfo.info_data.forward_delay"), 400);
    assert_eq!(bridge("linkinfo.info_data.ageing_time"), 7700);
    assert_eq!(bridge("linkinfo.info_data.mcast_snooping"), 0);
    assert_eq!(world.setting("set.n1", "eth0", "address"), "02:00:00:00:00:78");
    assert_eq!(world.setting("set.n1", "eth0", "mtu"), 1300);
    assert_eq!(world.setting("", "set:n1:eth0", "mtu"), 1300);
    world.ovsns("up set.yaml").ok().says("nothing to change");
    Ok(())
}

/// h1 -- s1, s2 -- h2, s3 -- h3, and the three switches in a ring
pub(crate) fn stp_cuts_a_ring(world: &World) -> Verdict {
    let before = world.inventory();
    world.ovsns("up --topo ring,3 --lab ring").ok();
    for switch in ["ring:s1", "ring:s2", "ring:s3"] {
        assert_eq!(world.setting("", switch, "linkinfo.info_data.stp_state"), 1);
    }
    let in_state = |state: &str| {
        let ports = world.json("bridge -j link show");
        ports.as_array().expect("ports").iter().filter(|port| port["state"] == state).count()
    };
    let h2 = world.addresses("ring.h2", "eth0");
    let h2 = h2[0].split('/').next().expect("an address");
    // Listening and learning take two forward delays.
    let mut tries = 0..15;
    until("the tree has settled", || in_state("blocking") == 1 && in_state("forwarding") == 8);
    until("the ring answers", || {
        tries.next().expect("an answer after fifteen tries");
        world.ping_once("ring.h1", h2).status.success()
    });
    world.ovsns("down ring").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// s1, s2, s3 in a ring, and s1 = s2 twice
pub(crate) fn a_loop_without_stp_is_refused(world: &World) -> Verdict {
    let foreign = world.foreign();
    let ring = "
name: ring
switches: { s1: {}, s2: {}, s3: {} }
nodes: { h1: {} }
links:
  - endpoints: [h1, s1]
  - endpoints: [s1, s2]
  - endpoints: [s2, s3]
  - endpoints: [s3, s1]
";
    let twice = "
name: twice
switches: { s1: {}, s2: {} }
links:
  - endpoints: [s1, s2]
  - endpoints: [s1, s2]
";
    world.file("ring.yaml", ring);
    let refused = world.ovsns("up ring.yaml").code(2).says("loop").says("stp");
    for switch in ["s1", "s2", "s3"] {
        assert!(refused.stderr.contains(switch), "{refused}");
    }
    world.ovsns("plan ring.yaml").code(2);
    world.file("twice.yaml", twice);
    world.ovsns("up twice.yaml").code(2).says("s1").says("s2");
    foreign.is_untouched(world);

    // A loop that a change to a running lab would close.
    world.file("ring.yaml", &ring.replace("  - endpoints: [s3, s1]\n", ""));
    world.ovsns("up ring.yaml").ok();
    world.settled();
    let open = world.inventory();
    world.ovsns("link add s3 s1 --lab ring").code(2).says("loop");
    world.inventory().must_equal(&open);
    world.ovsns("down ring").ok();
    foreign.is_untouched(world);
    Ok(())
}

/// h1, h2 in VLAN 10, h3 in VLAN 20 -- s1 = trunk = s2 -- h4 in VLAN 10
pub(crate) fn vlans_keep_apart(world: &World) -> Verdict {
    if !has_vlan_filtering(world) {
        return Err(Skip(NO_VLANS.into()));
    }
    world.file("vlans.yaml", VLANS);
    world.ovsns("up vlans.yaml").ok();
    world.pings("vlans.h1", "10.0.0.2");
    world.pings("vlans.h1", "10.0.0.4");
    world.silence("vlans.h1", "10.0.0.3");
    assert_eq!(world.setting("", "vlans:s1", "linkinfo.info_data.vlan_filtering"), 1);
    world.ovsns("up vlans.yaml").ok().says("nothing to change");
    Ok(())
}

/// h1, h2, gate -- s1, whose links are in VLANs, in none, and in others
pub(crate) fn vlans_come_and_go(world: &World) -> Verdict {
    if !has_vlan_filtering(world) {
        return Err(Skip(NO_VLANS.into()));
    }
    let before = world.inventory();
    let up = |first: &str, second: &str, gate: &str| {
        let text = format!(
            "
name: tags
switches: {{ s1: {{}} }}
nodes:
  h1: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24] }} }} }}
  h2: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.2/24] }} }} }}
  gate: {{ interfaces: {{ eth0: {{}} }} }}
links:
  - {{ endpoints: [h1:eth0, s1]{first} }}
  - {{ endpoints: [h2:eth0, s1]{second} }}
  - {{ endpoints: [gate:eth0, s1]{gate} }}
"
        );
        world.file("tags.yaml", &text);
        world.ovsns("up tags.yaml").ok();
        world.ovsns("up tags.yaml").ok().says("nothing to change");
    };
    // What the kernel says of a port: each VLAN with its flags.
    let vlans = |node: &str| {
        let port = world.setting("", &format!("tags:{node}:eth0"), "ifname");
        let all = world.json("bridge -compressvlans -j vlan show");
        let mut ports = all.as_array().expect("ports").iter();
        let own = ports.find(|it| it["ifname"] == port).map(|it| it["vlans"].clone());
        let own = own.unwrap_or_default();
        let words = own.as_array().into_iter().flatten().map(|it| {
            let flags = it["flags"].as_array().into_iter().flatten();
            let flags = flags.filter_map(Value::as_str).map(|flag| format!(" {flag}"));
            let end = it["vlanEnd"].as_u64().map_or(String::new(), |end| format!("-{end}"));
            format!("{}{end}{}", it["vlan"], flags.collect::<String>())
        });
        words.collect::<Vec<_>>()
    };
    up(", vlan: 10", ", vlan: 20", ", trunks: [10, 20]");
    world.silence("tags.h1", "10.0.0.2");
    assert_eq!(vlans("h1"), ["10 PVID Egress Untagged"]);
    assert_eq!(vlans("gate"), ["10", "20"]);
    // A node on a trunk sees each VLAN under its tag.
    world.sh("
        for id in 10 20; do
            ip -n tags.gate link add eth0.$id link eth0 type vlan id $id
            ip -n tags.gate link set eth0.$id up
        done
        ip -n tags.gate addr add 10.0.0.110/24 dev eth0.10
        ip -n tags.gate addr add 10.0.0.120/24 dev eth0.20
        ip -n tags.gate route add 10.0.0.1 dev eth0.10
        ip -n tags.gate route add 10.0.0.2 dev eth0.20
    ");
    world.pings("tags.h1", "10.0.0.110");
    world.pings("tags.h2", "10.0.0.120");

    // Without VLANs all hear all, and nothing is left of those that were.
    world.sh("for id in 10 20; do ip -n tags.gate link del eth0.$id; done");
    up("", "", "");
    world.pings("tags.h1", "10.0.0.2");
    assert_eq!(world.setting("", "tags:s1", "linkinfo.info_data.vlan_filtering"), 0);
    up(", vlan: 20", ", vlan: 10", "");
    world.silence("tags.h1", "10.0.0.2");
    assert_eq!(vlans("h1"), ["20 PVID Egress Untagged"]);
    assert_eq!(vlans("gate"), ["1 PVID Egress Untagged", "2-4094"]);

    // One thing at a time, and by others.
    world.ovsns("link set h2 s1 --vlan 20").ok();
    world.pings("tags.h1", "10.0.0.2");
    world.run("bridge vlan add dev tags:h2:eth0 vid 99");
    world.ovsns("status").ok().says("drift");
    up(", vlan: 20", ", trunks: [20, 30, 31], native: 30", "");
    assert_eq!(vlans("h2"), ["20", "30 PVID Egress Untagged", "31"]);
    world.silence("tags.h1", "10.0.0.2");
    world.ovsns("down tags").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// As `vlans_keep_apart`, where the kernel's bridge knows no VLANs
pub(crate) fn vlans_are_refused_with_the_reason(world: &World) -> Verdict {
    if has_vlan_filtering(world) {
        return Err(Skip("this kernel's bridge has VLAN filtering".into()));
    }
    let foreign = world.foreign();
    world.file("vlans.yaml", VLANS);
    world.ovsns("up vlans.yaml").code(2).says("VLAN").says("kernel");
    world.ovsns("plan vlans.yaml").code(2).says("VLAN");
    foreign.is_untouched(world);
    Ok(())
}

const NO_VLANS: &str =
    "this kernel's bridge has no VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING is off)";

const VLANS: &str = "
name: vlans
switches: { s1: {}, s2: {} }
nodes:
  h1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  h2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  h3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  h4: { interfaces: { eth0: { addresses: [10.0.0.4/24] } } }
links:
  - { endpoints: [h1:eth0, s1], vlan: 10 }
  - { endpoints: [h2:eth0, s1], vlan: 10 }
  - { endpoints: [h3:eth0, s1], vlan: 20 }
  - { endpoints: [h4:eth0, s2], vlan: 10 }
  - { endpoints: [s1, s2], trunks: [10, 20] }
";

fn has_vlan_filtering(world: &World) -> bool {
    let made = world.attempt("ip link add probe type bridge vlan_filtering 1").status.success();
    world.attempt("ip link del probe");
    made
}

/// s1 with more nodes than a Linux bridge has ports
pub(crate) fn more_ports_than_a_bridge_has(world: &World) -> Verdict {
    let before = world.inventory();
    let refused = world.ovsns("up --topo single,1024 --lab big").code(2);
    assert!(refused.stderr.contains("1023"), "{refused}");
    world.inventory().must_equal(&before);
    world.ovsns("up --topo single,1023 --lab big").ok();
    let ports = world.json("bridge -j link show");
    assert_eq!(ports.as_array().map(Vec::len), Some(1023));
    let last = world.addresses("big.h1023", "eth0");
    // Not at the first ping: in the first seconds a thousand kernels announce
    // themselves to a thousand ports each, and the queue of a processor holds a
    // thousand frames (`net.core.netdev_max_backlog`).
    let last = last[0].split('/').next().expect("an address");
    until("the last node answers the first", || {
        world.attempt(&format!("ip netns exec big.h1 ping -n -c 1 -W 1 {last}")).status.success()
    });
    world.ovsns("down big").ok();
    until("the last namespace is gone", || world.namespaces().is_empty());
    world.inventory().must_equal(&before);
    Ok(())
}
