//! Sets of nodes that are cut from each other, and healed.
//!
//! ```text
//! h1, h2, h3, h4 -- s1
//! ```

use world::{Verdict, World, until};

const LAB: &str = "
name: cut
switches: { s1: {} }
nodes:
  h1: { interfaces: { eth0: { addresses: [10.0.0.1/24, fd00::1/64] } } }
  h2: { interfaces: { eth0: { addresses: [10.0.0.2/24, fd00::2/64] } } }
  h3: { interfaces: { eth0: { addresses: [10.0.0.3/24, fd00::3/64] } } }
  h4: { interfaces: { eth0: { addresses: [10.0.0.4/24, fd00::4/64] } } }
links: [{ endpoints: ['h[1-4]', s1] }]
";

/// h1, h2 | h3, and h4 with all of them
pub(crate) fn nodes_are_cut_and_healed(world: &World) -> Verdict {
    world.needs("nft")?;
    world.file("cut.yaml", LAB);
    world.ovsns("up cut.yaml").ok();
    world.pings("cut.h1", "10.0.0.3");
    world.ovsns("cut h1,h2 from h3").ok();
    for (from, to) in [("h1", 3), ("h2", 3), ("h3", 1), ("h3", 2)] {
        world.silence(&format!("cut.{from}"), &format!("10.0.0.{to}"));
        world.silence(&format!("cut.{from}"), &format!("fd00::{to}"));
    }
    for (from, to) in [("h1", 2), ("h1", 4), ("h4", 3), ("h3", 4)] {
        world.pings(&format!("cut.{from}"), &format!("10.0.0.{to}"));
        world.pings(&format!("cut.{from}"), &format!("fd00::{to}"));
    }
    let untouched = world.run("ip netns exec cut.h4 nft list ruleset").stdout;
    assert_eq!(untouched, "", "h4 is in no cut");
    let status = world.ovsns("status --json").ok().json();
    assert_eq!(status["state"], "up", "{}", status["drift"]);
    assert_eq!(status["cuts"]["cut1"]["from"][0], "h3");

    // Somebody takes a part of it away, or all.
    for gone in ["delete element netdev ovsns-cut v4 { 10.0.0.1 }", "flush ruleset"] {
        world.run(&format!("ip netns exec cut.h3 nft {gone}"));
        world.ovsns("status").ok().says("cut: drifted").says("~ h3 hears nothing from");
        world.ovsns("up --again --dry-run").ok().says("~ h3 hears nothing from");
        world.ovsns("up --again").ok().says("~ h3 hears nothing from");
        world.silence("cut.h3", "10.0.0.1");
        world.ovsns("up --again").ok().says("nothing to change");
        world.run(&format!("ip netns exec cut.h3 nft {gone}"));
        world.ovsns("cut h4 from h3 --name more").ok();
        world.silence("cut.h3", "10.0.0.1");
        world.ovsns("heal more").ok();
    }
    world.ovsns("cut h1 from s1").code(2).says("`s1` is a switch");
    world.ovsns("heal no").code(2).says("there is no cut `no`");
    world.ovsns("node rm h2").ok();
    world.silence("cut.h1", "10.0.0.3");
    world.ovsns("heal").ok();
    until("they hear each other again", || {
        world.ping_once("cut.h1", "10.0.0.3").status.success()
            && world.ping_once("cut.h3", "fd00::1").status.success()
    });
    let left = world.run("ip netns exec cut.h1 nft list ruleset").stdout;
    assert_eq!(left, "");
    let link = world.run("ip -n cut.h1 link show lo").stdout;
    assert!(!link.contains("ovsns-cut"), "{link}");
    Ok(())
}

/// One node with many interfaces is one transaction of many messages.
///
/// hub:eth0 ... hub:eth249 -- s1 -- h1
pub(crate) fn a_node_of_many_interfaces_is_cut(world: &World) -> Verdict {
    world.needs("nft")?;
    let interfaces = (0..250).map(|n| format!("      eth{n}: {{}}\n")).collect::<String>();
    let links = (0..250).map(|n| format!("  - endpoints: ['hub:eth{n}', s1]\n"));
    let lab = format!(
        "name: many\nswitches: {{ s1: {{}} }}\nnodes:\n  h1:\n    interfaces:\n      \
         eth0: {{ addresses: [10.0.0.1/24] }}\n  hub:\n    interfaces:\n{interfaces}links:\n  \
         - endpoints: [h1, s1]\n{}",
        links.collect::<String>()
    );
    world.file("many.yaml", &lab);
    world.ovsns("up many.yaml").ok();
    world.ovsns("plan many.yaml").ok().says("nothing to change");
    world.ovsns("cut h1 from hub").ok();
    let rules = world.run("ip netns exec many.hub nft list ruleset").stdout;
    for n in [0, 249] {
        assert!(rules.contains(&format!("hook ingress device \"eth{n}\"")), "{rules}");
    }
    let status = world.ovsns("status --json").ok().json();
    assert_eq!(status["state"], "up", "{}", status["drift"]);
    world.run("ip netns exec many.h1 nft flush ruleset");
    world.ovsns("status").ok().says("~ h1 hears nothing from hub");
    world.ovsns("heal").ok();
    assert_eq!(world.run("ip netns exec many.hub nft list ruleset").stdout, "");
    Ok(())
}
