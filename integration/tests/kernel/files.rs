//! Topology files: what is left out, what is repeated, what a node is told.

use world::{Verdict, World};

/// a, b -- s1; c -- s2; a -- c, with no address written down
pub(crate) fn addresses_are_given_and_stay(world: &World) -> Verdict {
    world.file(
        "given.yaml",
        "
name: given
switches: { s1: {}, s2: {} }
nodes: { a: {}, b: {}, c: {} }
links:
  - endpoints: [a, s1]
  - endpoints: [b, s1]
  - endpoints: [c, s2]
  - endpoints: [a, c]
",
    );
    let given = |node: &str, interface: &str| world.addresses(&format!("given.{node}"), interface);
    world.ovsns("up given.yaml").ok();
    assert_eq!(given("a", "eth0"), ["10.0.0.1/16", "fd00:6f76::1/64"]);
    assert_eq!(given("b", "eth0"), ["10.0.0.2/16", "fd00:6f76::2/64"]);
    assert_eq!(given("c", "eth0"), ["10.1.0.1/16", "fd00:6f76:0:1::1/64"]);
    let (a, c) = (given("a", "eth1"), given("c", "eth1"));
    assert_eq!((&*a[0], &*c[0]), ("10.128.0.1/30", "10.128.0.2/30"));
    world.pings("given.a", "10.0.0.2");
    world.pings("given.a", "fd00:6f76::2");
    world.pings("given.a", "10.128.0.2");
    world.pings("given.a", c[1].split('/').next().expect("an address"));
    // The same at every run, and in another lab of the same shape.
    world.ovsns("down given").ok();
    world.ovsns("up given.yaml").ok();
    assert_eq!((a, c), (given("a", "eth1"), given("c", "eth1")));
    Ok(())
}

/// h1 ... h12 -- s1
pub(crate) fn ranges_make_many_nodes(world: &World) -> Verdict {
    world.file(
        "range.yaml",
        "
name: range
switches: { s1: {}, 't[1-2]': {} }
nodes: { 'h[1-12]': {}, 'g[01-03]': {} }
links:
  - endpoints: ['h[1-12]', s1]
  - endpoints: ['g[01-02]', 't[1-2]']
  - endpoints: ['t[1-2]', s1]
",
    );
    world.ovsns("up range.yaml").ok().says("15 nodes, 3 switches, 16 links");
    let names = world.namespaces();
    assert_eq!(names.len(), 15);
    assert!(names.contains(&"range.h12".to_owned()) && names.contains(&"range.g03".to_owned()));
    let last = world.addresses("range.h12", "eth0");
    world.pings("range.g01", last[0].split('/').next().expect("an address"));
    Ok(())
}

/// single, linear, tree, ring
pub(crate) fn shapes_need_no_file(world: &World) -> Verdict {
    let before = world.inventory();
    for (shape, nodes, switches, first, last) in [
        ("single,3", 3, 1, "h1", "h3"),
        ("linear,4", 4, 4, "h1", "h4"),
        ("tree,2,3", 9, 4, "h1", "h9"),
    ] {
        world.ovsns(&format!("up --topo={shape} --lab shape")).ok();
        assert_eq!(world.namespaces().len(), nodes, "{shape}");
        let bridges = world.json("ip -j link show type bridge");
        assert_eq!(bridges.as_array().map(Vec::len), Some(switches), "{shape}");
        for address in world.addresses(&format!("shape.{last}"), "eth0") {
            let address = address.split('/').next().expect("an address");
            world.pings(&format!("shape.{first}"), address);
        }
        world.ovsns("ping").ok();
        world.ovsns("down shape").ok();
        world.inventory().must_equal(&before);
    }
    // One shape becomes another.
    world.ovsns("up --topo single,3 --lab shape").ok();
    world.ovsns("up --topo linear,2 --lab shape").ok();
    assert_eq!(world.namespaces(), ["shape.h1", "shape.h2"]);
    world.ovsns("ping").ok();
    Ok(())
}

/// n1 -- s1 -- n2
pub(crate) fn a_file_may_come_by_pipe(world: &World) -> Verdict {
    let binary = world.binary().display();
    world.file("ovsns.yaml", crate::TWO_NODES);
    world.sh(&format!("{binary} up - <ovsns.yaml"));
    // And without a name the file here is meant.
    world.ovsns("up").ok().says("nothing to change");
    // JSON is YAML; the lab is named after the file.
    world.file(
        "json-lab.json",
        r#"{"switches":{"s1":{}},"nodes":{"a":{},"b":{}},"links":[{"endpoints":["a","s1"]},{"endpoints":["b","s1"]}]}"#,
    );
    world.ovsns("up json-lab.json").ok().says("lab json-lab is up");
    world.ovsns("ping json-lab/a json-lab/b").ok();
    world.ovsns("up json-lab.json --lab other").ok();
    assert_eq!(world.namespaces().len(), 6);
    Ok(())
}

/// n1 -- s1 -- n2
pub(crate) fn sysctls_and_routes_are_set(world: &World) -> Verdict {
    world.file(
        "set.yaml",
        "
name: set
switches: { s1: {} }
nodes:
  n1:
    interfaces: { eth0: { addresses: [10.0.0.1/24, fd00::1/64] } }
    forwarding: true
    sysctls: { net.ipv4.tcp_fin_timeout: 7, net.ipv4.conf.eth0.rp_filter: 2 }
    routes:
      - { to: default, via: 10.0.0.2 }
      - { to: 'default', via: 'fd00::2' }
      - { to: 192.0.2.0/24, via: 10.0.0.2, metric: 50 }
      - { to: 198.51.100.0/24, interface: eth0 }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24, fd00::2/64, 192.0.2.1/32] } } }
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s1]
",
    );
    let host = world.run("sysctl -n net.ipv4.tcp_fin_timeout net.ipv4.ip_forward").stdout;
    world.ovsns("up set.yaml").ok();
    let sysctl = |key: &str| world.run(&format!("ip netns exec set.n1 sysctl -n {key}")).stdout;
    assert_eq!(sysctl("net.ipv4.tcp_fin_timeout"), "7\n");
    assert_eq!(sysctl("net.ipv4.conf.eth0.rp_filter"), "2\n");
    assert_eq!(sysctl("net.ipv4.ip_forward"), "1\n");
    assert_eq!(sysctl("net.ipv6.conf.all.forwarding"), "1\n");
    assert_eq!(world.run("sysctl -n net.ipv4.tcp_fin_timeout net.ipv4.ip_forward").stdout, host);
    let routes = world.run("ip -n set.n1 route show").stdout;
    for route in [
        "default via 10.0.0.2 dev eth0",
        "192.0.2.0/24 via 10.0.0.2 dev eth0",
        "198.51.100.0/24 dev eth0",
    ] {
        assert!(routes.contains(route), "{routes}");
    }
    assert!(routes.contains("metric 50"), "{routes}");
    world.run("ip -n set.n1 -6 route show default").says("via fd00::2 dev eth0");
    world.pings("set.n1", "192.0.2.1");
    world.ovsns("up set.yaml").ok().says("nothing to change");
    Ok(())
}
