//! Changing a running lab: only what differs is touched.

use std::time::Duration;

use world::{Running, Tool, Trace, Verdict, World, until};

use crate::{FOUR_NODES, TWO_NODES, switches};

/// A TCP connection from n1 to n2 of a lab that must outlive a change.
pub(crate) struct Flow {
    drip: Running,
    _echo: Running,
}

impl Flow {
    pub(crate) fn start(world: &World, lab: &str) -> Self {
        let mut echo = world.tool(&format!("{lab}.n2"), Tool::Echo, "10.0.0.2 4000");
        echo.line_with("ready");
        let mut drip = world.tool(&format!("{lab}.n1"), Tool::Drip, "10.0.0.2 4000");
        drip.line_with("20");
        Self { drip, _echo: echo }
    }

    /// Ends it; it must have lived, and twenty more lines must have passed.
    /// Returns how long the longest took.
    pub(crate) fn finish(self) -> Duration {
        let said = self.drip.finish().ok().stdout;
        let most = said.lines().find_map(|line| line.strip_prefix("most "));
        let most: Option<f64> = most.and_then(|ms| ms.parse().ok());
        Duration::from_secs_f64(most.expect("it says so at its end") / 1000.0)
    }
}

/// n1, n2, n3 -- s1; n1 -- n4
pub(crate) fn a_second_up_writes_nothing(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("four.yaml", FOUR_NODES);
    let (first, trace) = world.traced("up four.yaml");
    first.ok().says("lab four is up: 4 nodes, 1 switch, 4 links");
    // A namespace, veths, addresses: the witness sees that writes happen.
    assert!(20 < trace.writes.len(), "{:?}", trace.writes);

    world.settled();
    let before = world.inventory();
    // The kernel may tell late of what the first one did: once it is silent, it is.
    let mut heard = Vec::new();
    for _ in 0..3 {
        let monitors = world.monitors();
        assert_eq!(monitors.len(), 1 + 4);
        let (again, trace) = world.traced("up four.yaml");
        again.ok().says("lab four is up: nothing to change");
        assert_eq!(trace.writes, []);
        heard = monitors.into_iter().flat_map(|monitor| monitor.heard(world)).collect();
        if heard.is_empty() {
            break;
        }
    }
    assert_eq!(heard, [""; 0]);
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1, n2 -- b.1.1, and then n3
pub(crate) fn a_node_added_disturbs_nobody(world: &World) -> Verdict {
    world.file("lab.yaml", TWO_NODES);
    world.ovsns("up lab.yaml").ok();
    world.settled();
    let before = world.inventory();
    let flow = Flow::start(world, "two-nodes");

    let three = TWO_NODES
        .replace("links:", "  n3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }\nlinks:")
        + "  - endpoints: [n3:eth0, b.1.1]\n";
    world.file("lab.yaml", &three);
    world.ovsns("up lab.yaml").ok();
    world.pings("two-nodes.n1", "10.0.0.3");
    flow.finish();
    only_these_differ(world, &before, &[]);
    Ok(())
}

/// n1, n2, n3 -- s1; n1 -- n4
pub(crate) fn an_address_changed_disturbs_nobody(world: &World) -> Verdict {
    world.file("lab.yaml", FOUR_NODES);
    world.ovsns("up lab.yaml").ok();
    world.settled();
    let before = world.inventory();
    let flow = Flow::start(world, "four");

    world.file("lab.yaml", &FOUR_NODES.replace("10.0.0.3/24", "10.0.0.33/24, fd00::33/64"));
    world.ovsns("up lab.yaml").ok();
    assert_eq!(world.addresses("four.n3", "eth0"), ["10.0.0.33/24", "fd00::33/64"]);
    world.pings("four.n1", "10.0.0.33");
    world.silence("four.n1", "10.0.0.3");
    flow.finish();
    only_these_differ(world, &before, &["four.n3"]);

    // And the only address of a node, which others have a route through.
    world.file("lab.yaml", &FOUR_NODES.replace("10.0.0.3/24", "10.0.0.33/25"));
    world.ovsns("up lab.yaml").ok();
    assert_eq!(world.addresses("four.n3", "eth0"), ["10.0.0.33/25"]);
    Ok(())
}

/// n1, n2, n3 -- s1; n1 -- n4, of which n3 and the cable go
pub(crate) fn a_link_removed_disturbs_nobody(world: &World) -> Verdict {
    world.file("lab.yaml", FOUR_NODES);
    world.ovsns("up lab.yaml").ok();
    world.settled();
    let before = world.inventory();
    let flow = Flow::start(world, "four");

    let fewer = "
name: four
switches: { s1: {} }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  n4: {}
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s1]
";
    world.file("lab.yaml", fewer);
    world.ovsns("up lab.yaml").ok();
    assert_eq!(world.namespaces(), ["four.n1", "four.n2", "four.n4"]);
    until("the links are gone", || {
        world.link("", "four:n3:eth0").is_none()
            && world.link("four.n1", "eth1").is_none()
            && world.link("four.n4", "eth0").is_none()
    });
    world.pings("four.n1", "10.0.0.2");
    flow.finish();
    only_these_differ(world, &before, &["n3", "eth1", "10.0.9.", "four.n4"]);
    Ok(())
}

/// n1, n2 -- s1, n3 -- s2, and then n3 -- s1
pub(crate) fn a_link_moved_to_another_switch(world: &World) -> Verdict {
    let apart =
        FOUR_NODES.replace("s1: {}", "s1: {}\n  s2: {}").replace("n3:eth0, s1", "n3:eth0, s2");
    world.file("lab.yaml", &apart);
    world.ovsns("up lab.yaml").ok();
    world.settled();
    world.silence("four.n1", "10.0.0.3");
    let before = world.inventory();
    let flow = Flow::start(world, "four");
    world.file("lab.yaml", &FOUR_NODES.replace("s1: {}", "s1: {}\n  s2: {}"));
    world.ovsns("up lab.yaml").ok();
    world.run("ip -n four.n1 neigh flush all");
    world.pings("four.n1", "10.0.0.3");
    flow.finish();
    // The bridge it left has no carrier any more, and no link-local routes.
    only_these_differ(
        world,
        &before,
        &["four:n3:eth0", "four:s2", "\"s2.", "four.n3", "\"n3eth0."],
    );
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    Ok(())
}

/// n1, n2, n3 -- s1, of which n2 and n3 swap addresses
pub(crate) fn addresses_that_change_places(world: &World) -> Verdict {
    world.file("lab.yaml", FOUR_NODES);
    world.ovsns("up lab.yaml").ok();
    let swapped = FOUR_NODES
        .replace("10.0.0.2/24", "there")
        .replace("10.0.0.3/24", "10.0.0.2/24")
        .replace("there", "10.0.0.3/24");
    world.file("lab.yaml", &swapped);
    world.ovsns("up lab.yaml").ok();
    assert_eq!(world.addresses("four.n2", "eth0"), ["10.0.0.3/24"]);
    assert_eq!(world.addresses("four.n3", "eth0"), ["10.0.0.2/24"]);
    for target in ["10.0.0.2", "10.0.0.3"] {
        world.pings("four.n1", target);
    }
    Ok(())
}

/// n1, n2, n3 -- s1, whose settings change, and n3's
pub(crate) fn settings_changed_disturb_nobody(world: &World) -> Verdict {
    world.file("lab.yaml", FOUR_NODES);
    world.ovsns("up lab.yaml").ok();
    world.settled();
    let before = world.inventory();
    let flow = Flow::start(world, "four");

    let changed = FOUR_NODES
        .replace("s1: {}", "s1: { ageing: 100, multicast_snooping: false }")
        .replace("[n3:eth0, s1]", "[n3:eth0, s1]\n    isolated: true\n    mtu: 1400")
        .replace(
            "n3: { interfaces",
            "n3: { forwarding: true, routes: [{ to: default, via: 10.0.0.1 }], interfaces",
        );
    world.file("lab.yaml", &changed);
    world.ovsns("up lab.yaml").ok();
    let of_bridge = |key: &str| world.setting("", "four:s1", &format!("linkinfo.info_data.{key}"));
    assert_eq!(of_bridge("ageing_time"), 10000);
    assert_eq!(of_bridge("mcast_snooping"), 0);
    assert_eq!(world.setting("four.n3", "eth0", "mtu"), 1400);
    let port = "linkinfo.info_slave_data.isolated";
    assert_eq!(world.setting("", "four:n3:eth0", port), true);
    world.run("ip -n four.n3 route show default").says("via 10.0.0.1");
    world.run("ip netns exec four.n3 sysctl -n net.ipv4.ip_forward").says("1");
    flow.finish();
    only_these_differ(world, &before, &["four:s1", "n3"]);

    // And back again.
    world.file("lab.yaml", FOUR_NODES);
    world.ovsns("up lab.yaml").ok();
    assert_eq!(of_bridge("ageing_time"), 30000);
    assert_eq!(of_bridge("mcast_snooping"), 1);
    assert_eq!(world.setting("four.n3", "eth0", "mtu"), 1500);
    assert_eq!(world.setting("", "four:n3:eth0", port), false);
    assert_eq!(world.run("ip -n four.n3 route show default").stdout, "");
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn a_node_made_again_is_the_same_to_its_neighbours(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    world.file(
        "one.yaml",
        "
name: two-nodes
switches: { b.1.1: {} }
nodes: { n1: { interfaces: { eth0: { addresses: [10.0.0.1/24, fd00::1/64] } } } }
links: [ { endpoints: [n1:eth0, b.1.1] } ]
",
    );
    world.ovsns("up two.yaml").ok();
    world.pings("two-nodes.n1", "10.0.0.2");
    let mac = world.setting("two-nodes.n2", "eth0", "address");
    let namespace = world.inventory().with("namespace two-nodes.n2")[0].to_owned();

    world.ovsns("up one.yaml").ok();
    assert_eq!(world.namespaces(), ["two-nodes.n1"]);
    world.ovsns("up two.yaml").ok();
    assert_ne!(world.inventory().with("namespace two-nodes.n2"), [namespace]);
    assert_eq!(world.setting("two-nodes.n2", "eth0", "address"), mac);
    // The neighbour's old entry is right, so nobody has to ask again.
    let entry = world.run("ip -n two-nodes.n1 neigh show 10.0.0.2").stdout;
    assert!(entry.contains(mac.as_str().expect("a MAC address")), "{entry}");
    world.pings("two-nodes.n1", "10.0.0.2");
    world.pings("two-nodes.n1", "fd00::2");
    // Nor is it the address of the same node in another lab.
    world.ovsns("down two-nodes").ok();
    world.file("two.yaml", &TWO_NODES.replace("name: two-nodes", "name: other"));
    world.ovsns("up two.yaml").ok();
    assert_ne!(world.setting("other.n2", "eth0", "address"), mac);
    Ok(())
}

/// n1 -- b.1.1 -- n2, and then n3, s2 and links between them
pub(crate) fn one_thing_at_a_time(world: &World) -> Verdict {
    let foreign = world.foreign();
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    world.settled();
    let flow = Flow::start(world, "two-nodes");

    world.ovsns("node add n4 --address 10.0.0.4/24 --link b.1.1").ok();
    world.pings("two-nodes.n4", "10.0.0.1");
    world.ovsns("switch add s2").ok();
    assert_eq!(switches(world, "two-nodes"), 2);
    assert!(world.link("", "two-nodes:s2").is_some());
    world.ovsns("link add n1:eth1 s2").ok();
    world.ovsns("link add n4:eth1 s2").ok();
    // Addresses were left out, so they are given; and differ.
    let given = [("two-nodes.n1", "eth1"), ("two-nodes.n4", "eth1")]
        .map(|(namespace, name)| world.addresses(namespace, name));
    let other = given[1].iter().find(|it| it.contains('.')).expect("an IPv4 address");
    world.pings("two-nodes.n1", other.split('/').next().expect("an address"));
    world.ovsns("link set n4:eth1 s2 --mtu 1300").ok();
    assert_eq!(world.setting("two-nodes.n4", "eth1", "mtu"), 1300);

    world.ovsns("link rm n1:eth1 s2").ok();
    until("the link is gone", || world.link("two-nodes.n1", "eth1").is_none());
    world.ovsns("node rm n4").ok();
    until("its ports are gone", || world.link("", "two-nodes:n4:eth1").is_none());
    world.ovsns("switch rm s2").ok();
    assert!(world.link("", "two-nodes:s2").is_none());
    flow.finish();

    // What is left is the file's, to which there is nothing to do.
    world.ovsns("up two.yaml").ok().says("nothing to change");
    world.ovsns("down two-nodes").ok();
    foreign.is_untouched(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2, to which others did things
pub(crate) fn what_others_changed_is_mended(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    world.settled();
    let is_linux = world.backend() == "linux";
    let of_a_bridge = [
        "ip link set two-nodes:n2:eth0 nomaster",
        "ip link set two-nodes:b.1.1 type bridge ageing_time 1000",
    ];
    let damages = [
        "ip -n two-nodes.n1 addr del 10.0.0.1/24 dev eth0",
        "ip -n two-nodes.n1 link set eth0 down",
        "ip -n two-nodes.n1 link del eth0",
        "ip netns del two-nodes.n1",
        "ip link del two-nodes:n2:eth0",
        "ip link set two-nodes:n2:eth0 down",
        "ip link set two-nodes:b.1.1 down",
        "ip link del two-nodes:b.1.1",
    ];
    for damage in damages.iter().chain(of_a_bridge.iter().filter(|_| is_linux)) {
        world.run(damage);
        world.ovsns("up two.yaml").ok();
        world.pings("two-nodes.n1", "10.0.0.2");
        world.pings("two-nodes.n2", "fd00::1");
        if is_linux {
            let ageing = world.setting("", "two-nodes:b.1.1", "linkinfo.info_data.ageing_time");
            assert_eq!(ageing, 30000);
        }
        let again = world.ovsns("up two.yaml").ok();
        assert!(again.stdout.contains("nothing to change"), "after {damage}\n{again}");
    }
    // What others put into a node, and not in the place of ours, stays.
    world.run("ip -n two-nodes.n1 addr add 198.51.100.1/24 dev eth0");
    world.run("ip -n two-nodes.n1 route add 203.0.113.0/24 via 10.0.0.2");
    world.ovsns("up two.yaml").ok().says("nothing to change");
    assert_eq!(world.addresses("two-nodes.n1", "eth0").len(), 3);
    world.run("ip -n two-nodes.n1 route show 203.0.113.0/24").says("via 10.0.0.2");
    Ok(())
}

/// n1 -- b.1.1 -- n2, not made
pub(crate) fn a_dry_run_touches_nothing(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("two.yaml", TWO_NODES);
    let foreign = world.foreign();
    let no_writes = |trace: &Trace| assert_eq!(trace.writes, []);
    for words in ["up two.yaml --dry-run", "plan two.yaml"] {
        let (plan, trace) = world.traced(words);
        let plan = plan.ok();
        for thing in ["n1", "n2", "b.1.1", "10.0.0.1/24", "fd00::2/64"] {
            assert!(plan.stdout.contains(thing), "no {thing}\n{plan}");
        }
        no_writes(&trace);
        foreign.is_untouched(world);
        assert!(world.inventory().with("/run/ovsns").is_empty());
    }
    world.ovsns("up two.yaml").ok();
    world.settled();
    let running = world.inventory();
    world.file("two.yaml", &TWO_NODES.replace("10.0.0.1/24", "10.0.0.9/24"));
    let (plan, trace) = world.traced("plan two.yaml");
    plan.ok().says("10.0.0.9/24").says("10.0.0.1/24");
    no_writes(&trace);
    world.inventory().must_equal(&running);
    Ok(())
}

/// Fails the test if anything of `before` is changed or gone that does not
/// have one of `words` in its line. Files of ours below `/run` may change, and
/// which ports a bridge of ours has.
#[track_caller]
fn only_these_differ(world: &World, before: &world::Inventory, words: &[&str]) {
    let now = world.inventory();
    let lost: Vec<&str> = now
        .lost(before)
        .into_iter()
        .filter(|line| !line.contains("/run/ovsns/"))
        .filter(|line| !words.iter().any(|word| line.contains(word)))
        .filter(|line| !has_other_ports(line, &now))
        .collect();
    assert!(
        lost.is_empty(),
        "changed or gone, and should not be: {lost:#?}\n{}",
        now.differences(before)
    );
}

/// Whether a line is the row of a bridge of ours that is as it was but for its
/// ports.
fn has_other_ports(line: &str, now: &world::Inventory) -> bool {
    let Some((start, rest)) = line.split_once(" \"ports\"=") else { return false };
    let end = rest.split_once(' ').map_or("", |(_, end)| end);
    start.starts_with("row of Bridge ")
        && start.contains("\"ovsns lab=")
        && now.with(start).iter().any(|line| line.ends_with(end))
}
