//! Switches that speak OpenFlow: flows of ours, and controllers. The witnesses
//! are traffic, `ovs-ofctl` and `ovs-vsctl`.

use world::{Verdict, World};

/// n1, n2 -- s1
///
/// `keys` are more of the switch's.
pub(crate) fn lab(keys: &str) -> String {
    format!(
        "
name: sdn
switches:
  s1: {{ backend: ovs, {keys} }}
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
pub(crate) fn bridge(world: &World, switch: &str) -> String {
    let mark = format!("ovsns lab=sdn switch={switch}");
    let bridges = world.run("ovs-vsctl list-br").stdout;
    let is_it = |bridge: &&str| {
        world.run(&format!("ovs-vsctl br-get-external-id {bridge} ovsns")).stdout.trim() == mark
    };
    bridges.lines().find(is_it).expect("a bridge with the mark").to_owned()
}

/// The flows of a bridge, as `ovs-ofctl` prints them.
pub(crate) fn flows(world: &World, bridge: &str) -> String {
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
    // That table is the switch's own, which nobody but it can know.
    let good = "priority=9,icmp,in_port=n1,actions=drop";
    for version in ["11", "15"] {
        let flows = format!("flows: [\"{good}\", \"table=254,actions=drop\"]");
        let protocols = format!("protocols: [OpenFlow{version}]");
        world.file("lab.yaml", &lab(&format!("{protocols}, {flows}")));
        let up = world.ovsns("up lab.yaml").code(1).says("OFPBRC_EPERM");
        up.says("was taken back");
        world.inventory().must_equal(&before);

        // In a lab that was there, what was there stays.
        world.file("without.yaml", &lab(&protocols));
        world.ovsns("up without.yaml").ok();
        let bridge = bridge(world, "s1");
        world.ovsns("up lab.yaml").code(1).says("OFPBRC_EPERM");
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
        ("in_port=n1,idle_timeout=9,actions=drop", "ends by itself"),
        ("in_port=n1,actions=group:1", "needs a group"),
        ("in_port=n1,actions=meter:1,normal", "needs a meter"),
        ("in_port=n1,actions=h9", "unknown action h9"),
        ("in_port=n1,actions=enqueue:n2:1", "cannot have queues"),
        ("in_port=n1,actions=set_queue:1,normal", "cannot have queues"),
        ("in_port=1,actions=drop\", \"in_port=n1,actions=normal", "match the same packets"),
        ("in_port=LOCAL,actions=drop\", \"in_port=65534,actions=normal", "match the same packets"),
        ("icmp,actions=drop\", \"table=0,icmp,actions=normal", "match the same packets"),
    ];
    for (flow, said) in cases {
        world.file("lab.yaml", &lab(&format!("flows: [\"{flow}\"]")));
        for command in ["plan", "up"] {
            world.ovsns(&format!("{command} lab.yaml")).code(2).says(said);
        }
        world.inventory().must_equal(&before);
    }
    // The version counts.
    let flow = "flows: [\"in_port=n1,actions=push_vlan:0x8100,normal\"]";
    world.file("lab.yaml", &lab(&format!("protocols: [OpenFlow10], {flow}")));
    world.ovsns("plan lab.yaml").code(2).says("takes one of OXM,OpenFlow11");
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

/// n1, n2 -- s1
pub(crate) fn flows_come_and_go_by_name(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    world.file("lab.yaml", &lab(""));
    world.ovsns("up lab.yaml").ok();
    world.pings("sdn.n1", "10.0.0.2");
    let bridge = bridge(world, "s1");
    let count = || flows(world, &bridge).matches("cookie=0x6f76").count();

    let drop = "priority=10,icmp,in_port=n1,actions=drop";
    world.ovsns(&format!("flow add s1 {drop}")).ok().says("+ flow on switch s1");
    world.silence("sdn.n1", "10.0.0.2");
    world.pings("sdn.n1", "fd00::2");
    // Twice, and in other words.
    world.ovsns(&format!("flow add s1 {drop}")).ok().says("nothing to change");
    let same = "in_port=n1:eth0,ip,nw_proto=1,priority=0xa,actions=drop";
    world.ovsns(&format!("flow add s1 {same}")).ok().says("nothing to change");
    assert_eq!(count(), 1, "{}", flows(world, &bridge));

    // What is there is shown as it can be written, with what it counted.
    let shown = world.ovsns("flow dump s1 --json").ok().json();
    let ours: Vec<_> = entries(&shown).filter(|flow| flow["ours"] == true).collect();
    let [ours] = ours.as_slice() else { panic!("one flow is ours: {shown:#}") };
    assert_eq!(ours["flow"], "priority=10,icmp,in_port=n1:eth0,actions=drop");
    let witness = flows(world, &bridge);
    let witness = witness.lines().find(|line| line.contains("0x6f76")).expect("the flow");
    assert!(witness.contains(&format!("n_packets={},", ours["packets"])), "{shown:#}\n{witness}");
    assert_ne!(ours["packets"], 0);
    world.ovsns("flow dump s1").ok().says("ours").says("priority=0,actions=NORMAL");
    world.ovsns("flow dump s1 --all").ok().says("hidden").says("table=254");

    // With the same match it takes the other's place.
    world.ovsns("flow add s1 priority=10,icmp,in_port=n1,actions=output:n2").ok();
    assert_eq!(count(), 1, "{}", flows(world, &bridge));
    world.pings("sdn.n1", "10.0.0.2");
    world.ovsns(&format!("flow add s1 {drop}")).ok();
    world.silence("sdn.n1", "10.0.0.2");
    // So it does by the number of the port.
    let number = number(world, &bridge, "n1:eth0");
    let by_number = format!("table=0,priority=10,icmp,in_port={number}");
    world.ovsns(&format!("flow add s1 {by_number},actions=normal")).ok();
    assert_eq!(count(), 1, "{}", flows(world, &bridge));
    world.pings("sdn.n1", "10.0.0.2");
    world.ovsns("status").ok().says("lab sdn: up");
    world.ovsns(&format!("flow add s1 {drop}")).ok();
    assert_eq!(count(), 1, "{}", flows(world, &bridge));

    // A flow of somebody else.
    world.run(&format!(
        "ovs-ofctl add-flow {bridge} cookie=7,priority=9,in_port={number},actions=normal"
    ));
    let theirs = || flows(world, &bridge).matches("cookie=0x7,").count();
    world
        .ovsns(&format!("flow add s1 priority=0x9,in_port={number},actions=drop"))
        .code(2)
        .says("a flow of others with that match: `priority=9,in_port=")
        .says(&format!("ovs-ofctl --strict del-flows {bridge} 'priority=9,in_port="));
    assert_eq!((theirs(), count()), (1, 1), "{}", flows(world, &bridge));
    for (words, said) in [
        ("icmp,in_port=n1", "has another priority"),
        ("priority=10,icmp,in_port=n2", "no flow of ours"),
        ("priority=9,in_port=n1", "no flow of ours"),
        ("priority=10,icmp,in_port=n9", "nothing called `n9`"),
        ("priority=10,nonsense=1", "unknown keyword nonsense"),
    ] {
        world.ovsns(&format!("flow del s1 {words}")).code(2).says(said);
    }
    assert_eq!(count(), 1);
    world.ovsns("flow del s1 in_port=n1:eth0,ip,nw_proto=1,priority=10").ok().says("- flow on");
    assert_eq!(count(), 0);
    world.pings("sdn.n1", "10.0.0.2");
    world.ovsns("flow add s1 table=2,actions=drop").ok();
    world.ovsns("flow add s1 table=3,actions=drop").ok();
    assert_eq!(count(), 2);
    world.ovsns("flow del s1 --all").ok();
    world.ovsns("flow del s1 --all").ok().says("nothing to change");
    assert_eq!(count(), 0);
    assert!(flows(world, &bridge).contains("cookie=0x7,"), "what is not ours stays");
    Ok(())
}

fn entries(list: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    list.as_array().expect("a list").iter()
}

/// n1, n2 -- s1
pub(crate) fn flows_are_put_back_after_a_restart(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    world.file("lab.yaml", &lab(""));
    world.ovsns("up lab.yaml").ok();
    world.ovsns("flow add s1 icmp,in_port=n1,actions=drop").ok();
    world.silence("sdn.n1", "10.0.0.2");
    world.ovsns("status").ok().says("lab sdn: up");

    ovs.kill_switch();
    ovs.start_switch(world);
    world.pings("sdn.n1", "10.0.0.2");
    let status = world.ovsns("status").ok().says("lab sdn: drifted");
    status.says("+ flow on switch s1: icmp,in_port=n1:eth0,actions=drop");
    // Any change of the lab puts it back, also the one that made it.
    world.ovsns("flow add s1 icmp,in_port=n1,actions=drop").ok().says("+ flow on");
    world.silence("sdn.n1", "10.0.0.2");

    // So does `up`, with what was added written into the file.
    ovs.kill_switch();
    ovs.start_switch(world);
    world.pings("sdn.n1", "10.0.0.2");
    world.file("lab.yaml", &lab("flows: [\"icmp,in_port=n1,actions=drop\"]"));
    world.ovsns("up lab.yaml").ok().says("1 step in");
    world.silence("sdn.n1", "10.0.0.2");
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    Ok(())
}

/// n1, n2 -- s1
pub(crate) fn a_switch_keeps_the_flow_of_its_own(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    world.file("lab.yaml", &lab(""));
    world.ovsns("up lab.yaml").ok();
    let bridge = bridge(world, "s1");
    world.run(&format!("ovs-ofctl del-flows {bridge}"));
    world.silence("sdn.n1", "10.0.0.2");
    let own = "+ flow on switch s1: priority=0,actions=NORMAL, by which it forwards by itself";
    world.ovsns("status").ok().says("lab sdn: drifted").says(own);
    world.ovsns("up lab.yaml").ok().says("1 step in");
    world.pings("sdn.n1", "10.0.0.2");
    assert!(flows(world, &bridge).contains("cookie=0x0,"), "as it was made");
    world.ovsns("status").ok().says("lab sdn: up");

    // A flow of the lab takes its place, and gives it back.
    world.ovsns("flow add s1 priority=0,actions=drop").ok();
    world.silence("sdn.n1", "10.0.0.2");
    world.ovsns("status").ok().says("lab sdn: up");
    world.ovsns("flow del s1 priority=0").ok().says(own);
    world.pings("sdn.n1", "10.0.0.2");
    // Also where that was taken back.
    let refused = "flows: [\"priority=0,actions=drop\", \"table=254,actions=drop\"]";
    world.file("refused.yaml", &lab(refused));
    world.ovsns("up refused.yaml").code(1).says("OFPBRC_EPERM");
    world.pings("sdn.n1", "10.0.0.2");
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    // What others put in its place is theirs.
    world.run(&format!("ovs-ofctl mod-flows {bridge} priority=0,actions=drop"));
    world.ovsns("up lab.yaml").ok().says("nothing to change");

    // One that only does as it is told has none, nor one with a controller.
    for keys in ["fail_mode: secure", "controllers: ['tcp:127.0.0.1:9']"] {
        world.file("lab.yaml", &lab(keys));
        world.ovsns("up lab.yaml").ok();
        assert!(!flows(world, &bridge).contains("NORMAL"));
        world.ovsns("up lab.yaml").ok().says("nothing to change");
    }
    world.file("lab.yaml", &lab(""));
    world.ovsns("up lab.yaml").ok();
    world.pings("sdn.n1", "10.0.0.2");
    Ok(())
}

/// n.1 == s1 == s2 -- n2, s1 -- b.1.1 -- 7
const MANY_PORTS: &str = "
name: sdn
switches:
  s1: { backend: ovs, fail_mode: secure }
  s2: { backend: ovs, fail_mode: secure }
  b.1.1: { backend: ovs }
nodes: { n.1: {}, n2: {}, '7': {} }
links:
  - endpoints: ['n.1:eth0', s1]
  - endpoints: ['n.1:eth1', s1]
  - endpoints: [n2, s2]
  - endpoints: ['7', b.1.1]
  - endpoints: [s1, s2]
  - endpoints: [s1, s2]
  - endpoints: [s1, b.1.1]
";

/// n.1 == s1 == s2 -- n2, s1 -- b.1.1 -- 7
pub(crate) fn flows_name_ports_of_every_kind(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    world.file("lab.yaml", MANY_PORTS);
    world.ovsns("up lab.yaml").ok();
    let s1 = bridge(world, "s1");
    let (eth0, eth1) = (number(world, &s1, "n.1:eth0"), number(world, &s1, "n.1:eth1"));
    let (first, second) = (number(world, &s1, "s1~s2#0"), number(world, &s1, "s1~s2#1"));
    let b11 = number(world, &s1, "s1~b.1.1#0");

    let check = |flow: &str, expected: String| {
        world.ovsns(&format!("flow add s1 {flow}")).ok();
        let seen = world.run(&format!("ovs-ofctl -O OpenFlow15 --no-names dump-flows {s1}")).stdout;
        assert!(seen.contains(&expected), "{expected:?} is not in\n{seen}");
        // What is shown can be written, and is the same flow.
        let shown = world.ovsns("flow dump s1 --json").ok().json();
        for flow in entries(&shown).filter(|flow| flow["ours"] == true) {
            let words = flow["flow"].as_str().expect("a text");
            world.ovsns(&format!("flow add s1 {words}")).ok();
            let again = world.run(&format!("ovs-ofctl -O OpenFlow15 --no-names dump-flows {s1}"));
            assert!(again.stdout.contains(&expected), "{expected:?} is not in\n{again}");
            assert_eq!(again.stdout.matches("0x6f76").count(), 1, "{again}");
        }
        world.ovsns("flow del s1 --all").ok();
    };
    check("in_port=n.1:eth1,actions=output:b.1.1", format!("in_port={eth1} actions=output:{b11}"));
    check("in_port=b.1.1,actions=n.1:eth0,b.1.1", format!("actions=output:{eth0},output:{b11}"));
    check(
        "in_port=b.1.1,actions=resubmit(n.1:eth0,2),resubmit(,3)",
        format!("in_port={b11} actions=resubmit({eth0},2),resubmit(,3)"),
    );
    check(
        "in_port=s1~s2#1,actions=enqueue:n.1:eth1:0",
        format!("in_port={second} actions=set_queue:0,output:{eth1},pop_queue"),
    );
    check(
        "in_port=s1~s2#0,actions=learn(table=2,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])",
        format!("in_port={first} actions=learn(table=2,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:"),
    );
    check(
        "in_port=LOCAL,actions=output(port=b.1.1,max_len=100),in_port",
        format!("in_port=LOCAL actions=output(port={b11},max_len=100),IN_PORT"),
    );
    check(
        "actions=bundle(eth_src,0,hrw,ofport,members:n.1:eth0,b.1.1)",
        format!("members:{eth0},{b11})"),
    );

    for (flow, said) in [
        ("in_port=n.1,actions=drop", "`n.1` could be `n.1:eth0` or `n.1:eth1` on `s1`"),
        ("in_port=s2,actions=drop", "`s2` could be `s1~s2#0` or `s1~s2#1` on `s1`"),
        // Those are linked to another switch.
        ("in_port=n2,actions=drop", "nothing called `n2` is linked to `s1`"),
        ("in_port=7:eth0,actions=drop", "nothing called `7:eth0` is linked to `s1`"),
        ("in_port=\"n.1\",actions=drop", "is not plugged into"),
    ] {
        world.ovsns(&format!("flow add s1 {flow}")).code(2).says(said);
        assert!(!flows_of_ours(world, &s1));
    }
    // 7 is a number, and a node only with its interface.
    let b11 = bridge(world, "b.1.1");
    let (node, trunk) = (number(world, &b11, "7:eth0"), number(world, &b11, "b.1.1~s1#0"));
    world.ovsns("flow add b.1.1 in_port=7:eth0,actions=output:s1").ok();
    let seen = flows(world, &b11);
    assert!(seen.contains(&format!("in_port={node} actions=output:{trunk}")), "{seen}");
    world.ovsns("flow dump b.1.1").ok().says("in_port=7:eth0,actions=output:s1");
    Ok(())
}

/// The number of a port, by the mark on it.
fn number(world: &World, bridge: &str, port: &str) -> String {
    let mark = format!("\"ovsns lab=sdn port={port}\"");
    let of = |what: &str| world.run(&format!("ovs-vsctl get {what}")).stdout.trim().to_owned();
    let ports = world.run(&format!("ovs-vsctl list-ports {bridge}")).stdout;
    let is_it = |it: &&str| of(&format!("port {it} external_ids:ovsns")) == mark;
    let device = ports.lines().find(is_it).expect("a port with the mark");
    of(&format!("interface {device} ofport"))
}

/// n1, n2 -- s1 -- s2
pub(crate) fn a_trace_says_which_way_a_packet_takes(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let more = "  s2: { backend: ovs }\nnodes:";
    let lab = format!("{}  - endpoints: [s1, s2]\n", lab("").replace("nodes:", more));
    world.file("lab.yaml", &lab);
    world.ovsns("up lab.yaml").ok();
    world.ovsns("flow add s1 in_port=n1,icmp,actions=output:s2").ok();
    let traced = world.ovsns("trace s1 in_port=n1,icmp").ok();
    let (s1, s2) = (bridge(world, "s1"), bridge(world, "s2"));
    let n1 = number(world, &s1, "n1:eth0");
    let witness = world.run(&format!("ovs-appctl ofproto/trace {s1} in_port={n1},icmp"));
    assert_eq!(traced.stdout.lines().count(), witness.stdout.lines().count(), "{traced}{witness}");
    for said in ["bridge(\"s1\")\n", "bridge(\"s2\")\n", "in_port=n1:eth0", "    output:s2\n"] {
        assert!(traced.stdout.contains(said), "{said:?} is not in\n{traced}");
    }
    for device in [&s1, &s2] {
        assert!(!traced.stdout.contains(device.as_str()), "{traced}");
    }

    let words = "trace s1 in_port=n2,arp,dl_dst=ff:ff:ff:ff:ff:ff --json";
    let json = world.ovsns(words).ok().json();
    let actions = json["actions"][0].as_str().expect("one pass");
    let mut out: Vec<_> = actions.split(',').collect();
    out.sort_unstable();
    assert_eq!(out, ["n1:eth0", "s1:LOCAL", "s2:LOCAL"], "flooded, through the other switch too");

    world.ovsns("trace s1 in_port=n1,nonsense=3").code(2).says("unknown field nonsense");
    world.ovsns("trace s1 in_port=n9").code(2).says("nothing called `n9`");
    world.ovsns("trace s9 in_port=n1").code(2).says("there is no switch `s9`");
    // Nothing was sent.
    let seen = flows(world, &s1);
    let ours = seen.lines().find(|line| line.contains("0x6f76")).expect("the flow");
    assert!(ours.contains("n_packets=0"), "{ours}");
    Ok(())
}

/// n1, n2 -- s1, a Linux bridge
pub(crate) fn a_linux_bridge_has_no_flows(world: &World) -> Verdict {
    world.file("lab.yaml", &lab("").replace("backend: ovs,", ""));
    world.ovsns("up lab.yaml").ok();
    world.settled();
    let before = world.inventory();
    for command in [
        "flow add s1 in_port=n1,actions=drop",
        "flow del s1 --all",
        "flow dump s1",
        "trace s1 in_port=n1",
    ] {
        let said = world.ovsns(command).code(2).says("which has no flows");
        said.says("--backend ovs");
    }
    world.inventory().must_equal(&before);
    Ok(())
}
