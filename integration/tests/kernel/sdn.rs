//! Switches that speak OpenFlow: flows of ours, and controllers. The witnesses
//! are traffic, `ovs-ofctl` and `ovs-vsctl`.

use world::{Verdict, World};

/// n1, n2 -- s1
///
/// `keys` are more of the switch's.
fn lab(keys: &str) -> String {
    format!(
        "
name: sdn
switches:
  s1: {{ backend: ovs, datapath: netdev, {keys} }}
nodes:
  n1: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24, fd00::1/64] }} }} }}
  n2: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.2/24, fd00::2/64] }} }} }}
links:
  - endpoints: [n1, s1]
  - endpoints: [n2, s1]
"
    )
}

/// The bridge of a switch, by its mark.
fn bridge(world: &World, switch: &str) -> String {
    let mark = format!("ovsns lab=sdn switch={switch}");
    let bridges = world.run("ovs-vsctl list-br").stdout;
    let is_it = |bridge: &&str| {
        world.run(&format!("ovs-vsctl br-get-external-id {bridge} ovsns")).stdout.trim() == mark
    };
    bridges.lines().find(is_it).expect("a bridge with the mark").to_owned()
}

/// The flows of a bridge, as `ovs-ofctl` prints them.
fn flows(world: &World, bridge: &str) -> String {
    let all = "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15";
    world.run(&format!("ovs-ofctl -O {all} dump-flows {bridge}")).stdout
}

/// n1, n2 -- s1
pub(crate) fn flows_work_in_every_version_of_openflow(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let drop = "flows: [\"priority=9,icmp,in_port=n1,actions=drop\"]";
    for version in ["10", "11", "12", "13", "14", "15"] {
        let protocols = format!("protocols: [OpenFlow{version}]");
        world.file("lab.yaml", &lab(&format!("{protocols}, {drop}")));
        world.ovsns("up lab.yaml").ok();
        world.silence("sdn.n1", "10.0.0.2");
        world.pings("sdn.n1", "fd00::2");
        world.ovsns("up lab.yaml").ok().says("nothing to change");
        // Taken away and put back by itself, and not the whole switch.
        world.file("lab.yaml", &lab(&protocols));
        world.ovsns("up lab.yaml").ok().says("1 step in");
        world.pings("sdn.n1", "10.0.0.2");
        world.ovsns("down sdn").ok();
    }
    Ok(())
}

/// n1, n2 -- s1
pub(crate) fn a_flow_that_the_switch_refuses_is_taken_back(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    // There is no such group, which nobody but the switch can know.
    let good = "priority=9,icmp,in_port=n1,actions=drop";
    for version in ["11", "15"] {
        let flows = format!("flows: [\"{good}\", \"in_port=n2,actions=group:7\"]");
        let protocols = format!("protocols: [OpenFlow{version}]");
        world.file("lab.yaml", &lab(&format!("{protocols}, {flows}")));
        let up = world.ovsns("up lab.yaml").code(1).says("OFPBAC_BAD_OUT_GROUP");
        up.says("was taken back");
        world.inventory().must_equal(&before);

        // In a lab that was there, what was there stays.
        world.file("without.yaml", &lab(&protocols));
        world.ovsns("up without.yaml").ok();
        let bridge = bridge(world, "s1");
        world.ovsns("up lab.yaml").code(1).says("OFPBAC_BAD_OUT_GROUP");
        assert!(!flows_of_ours(world, &bridge), "{}", self::flows(world, &bridge));
        world.pings("sdn.n1", "10.0.0.2");
        world.ovsns("up without.yaml").ok().says("nothing to change");
        world.ovsns("down sdn").ok();
    }
    Ok(())
}

/// Whether any flow has a cookie of ours.
fn flows_of_ours(world: &World, bridge: &str) -> bool {
    flows(world, bridge).contains("cookie=0x6f76")
}

/// n1, n2 -- s1
pub(crate) fn a_flow_that_nobody_can_read_is_refused(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    let cases = [
        ("in_port=n1,nonsense=3,actions=drop", "unknown keyword nonsense"),
        ("in_port=n1,actions=jump:n2", "unknown action jump"),
        ("priority=70000,actions=drop", "invalid priority \"70000\""),
        // It would match all of n1's frames.
        ("in_port=n1,tp_dst=80,actions=drop", "leave out `tp_dst=80`"),
        ("in_port=\\\"veth7\\\",actions=drop", "`\"veth7\"`, which is not plugged into"),
        // The same flow twice for the switch.
        (
            "in_port=n1,icmp,actions=drop\", \"ip,nw_proto=1,in_port=n1:eth0,actions=normal",
            "match the same packets",
        ),
    ];
    for (flow, said) in cases {
        world.file("lab.yaml", &lab(&format!("flows: [\"{flow}\"]")));
        for command in ["plan", "up"] {
            world.ovsns(&format!("{command} lab.yaml")).code(2).says(said);
        }
        world.inventory().must_equal(&before);
    }
    // The version counts.
    let flow = "flows: [\"in_port=n1,actions=meter:1,normal\"]";
    world.file("lab.yaml", &lab(&format!("protocols: [OpenFlow10], {flow}")));
    world.ovsns("plan lab.yaml").code(2).says("takes one of OXM-OpenFlow13");
    world.file("lab.yaml", &lab(&format!("protocols: [OpenFlow13], {flow}")));
    world.ovsns("plan lab.yaml").ok();

    // One that others plugged in can be named once it is there.
    world.file("lab.yaml", &lab(""));
    world.ovsns("up lab.yaml").ok();
    world.run("ip link add veth7 type veth peer name veth8");
    world.run(&format!("ovs-vsctl add-port {} veth7", bridge(world, "s1")));
    world.file("lab.yaml", &lab("flows: [\"in_port=\\\"veth7\\\",actions=drop\"]"));
    world.ovsns("up lab.yaml").ok().says("1 step in");
    assert!(flows_of_ours(world, &bridge(world, "s1")));
    Ok(())
}
