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
