//! What others did in and around a lab, and commands given in the wrong place.

use world::{Verdict, World};

use crate::TWO_NODES;

/// n1 -- b.1.1 -- n2, and somebody types in n1.
pub(crate) fn commands_inside_a_node_are_refused(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    world.settled();
    let made = world.inventory();
    let ovsns = world.binary().display();
    for words in ["up two.yaml", "down two-nodes", "gc", "list", "ping"] {
        let refused = world.attempt(&format!("ip netns exec two-nodes.n1 {ovsns} {words}"));
        refused.code(2).says("inside node `two-nodes:n1`");
    }
    world.inventory().must_equal(&made);
    Ok(())
}

/// n1 -- b.1.1 -- n2, and a link is put into another group.
pub(crate) fn a_link_moved_out_of_our_group_goes_too(world: &World) -> Verdict {
    let before = world.inventory();
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    // The process keeps the namespace, and with it the link's other end.
    let inside = world.start("ip netns exec two-nodes.n1 sleep 60");
    world.run("ip link set dev two-nodes:n1:eth0 group 5");
    world.ovsns("down").ok();
    world.inventory().must_equal(&before);
    drop(inside);
    Ok(())
}

/// n1 -- b.1.1 -- n2, and somebody gives n2 an address of their own.
pub(crate) fn a_link_with_an_address_of_others_stays(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    world.run("ip -n two-nodes.n2 address add 10.44.0.1/24 dev eth0");
    world.settled();
    let made = world.inventory();
    world.ovsns("link rm n2 b.1.1").code(2).says("`10.44.0.1/24` on `n2:eth0` is not ours");
    world.inventory().must_equal(&made);
    world.run("ip -n two-nodes.n2 address del 10.44.0.1/24 dev eth0");
    world.ovsns("link rm n2 b.1.1").ok();
    assert!(world.link("two-nodes.n2", "eth0").is_none());
    Ok(())
}

/// n1 -- b.1.1 -- n2, and no room left where the lab is remembered.
pub(crate) fn a_full_state_directory_keeps_no_lab(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    let ovsns = world.binary().display();
    world.sh(&format!(
        "mkdir small; mount -t tmpfs -o size=32k tmpfs small; export OVSNS_STATE_DIR=$PWD/small
         {ovsns} up two.yaml
         head -c 1000000 /dev/zero >small/full 2>/dev/null || true
         {ovsns} down"
    ));
    assert!(world.namespaces().is_empty());
    assert!(world.link("", "two-nodes:b.1.1").is_none());
    Ok(())
}

/// n1 -- b.1.1 -- n2, said to nobody.
pub(crate) fn a_closed_pipe_is_no_failure(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    let ovsns = world.binary().display();
    world
        .sh(&format!("({ovsns} up two.yaml 2>&1; echo $? >status) | true; cat status"))
        .says("0\n");
    world.pings("two-nodes.n1", "10.0.0.2");
    Ok(())
}

/// n1 -- s1 -- n2, where n1's port is shaped, and somebody takes the port, the
/// shaping or the whole bridge away: the shaping's rows stay in the database.
pub(crate) fn shaping_that_lost_its_port_goes(world: &World) -> Verdict {
    crate::qos::has_htb(world)?;
    let _ovs = world.open_vswitch(&[])?;
    let rows = |table: &str| {
        let listed = world.run(&format!("ovs-vsctl --bare --columns=_uuid list {table}")).stdout;
        listed.lines().filter(|line| !line.is_empty()).count()
    };
    let file = "name: lost
switches: { s1: { backend: ovs } }
nodes: { n1: {}, n2: {} }
links:
  - { endpoints: [n1, s1], shaping: { rate: 1000, queues: { 0: { max: 900 } } } }
  - endpoints: [n2, s1]
";
    world.file("lost.yaml", file);
    // Somebody else's, which nothing uses either.
    world.run("ovs-vsctl create qos type=linux-htb");
    let theirs = || assert_eq!((rows("qos"), rows("queue")), (1, 0), "only theirs");
    for takes_away in ["del-port", "clear port", "del-br"] {
        world.ovsns("up lost.yaml").ok();
        let port = world.run("ovs-vsctl --bare --columns=name find port qos!=[]").stdout;
        let port = port.trim().to_owned();
        let bridge = world.run(&format!("ovs-vsctl port-to-br {port}")).stdout.trim().to_owned();
        let line = match takes_away {
            "del-port" => format!("del-port {port}"),
            "clear port" => format!("clear port {port} qos"),
            _ => format!("del-br {bridge}"),
        };
        let cut_off = || {
            world.run(&format!("ovs-vsctl {line}"));
            assert_eq!((rows("qos"), rows("queue")), (2, 1), "after {line}");
        };
        cut_off();
        let told = world.ovsns("status").ok().says("- shaping that no port has any more");
        told.says("- queue that no port has any more");
        // Made again as it was, and then not.
        world.ovsns("up lost.yaml").ok();
        assert_eq!((rows("qos"), rows("queue")), (2, 1), "{line}, and made again");
        world.ovsns("up lost.yaml").ok().says("nothing to change");
        cut_off();
        world.ovsns("down").ok();
        theirs();
    }
    // Nothing else is left of the lab: still it is one, and no file knows it.
    let left = || {
        let mark = "external_ids:ovsns='\"ovsns lab=lost port=n1:eth0\"'";
        world.sh(&format!("ovs-vsctl create qos type=linux-htb {mark}"));
        world.ovsns("list").ok().says("lost");
    };
    left();
    world.ovsns("gc").ok().says("removed lab lost");
    theirs();
    left();
    world.ovsns("down lost").ok();
    theirs();
    world.ovsns("list").ok().says("there is no lab");
    world.run("ovs-vsctl --all destroy qos");
    Ok(())
}
