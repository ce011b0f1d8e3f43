//! Links that are held down, because that is wanted, and come up again.
//!
//! ```text
//! h1 -- s1 -- s2 -- h2:eth0, h2:eth1 -- h3
//! ```

use world::{Verdict, World, until};

const LAB: &str = "
name: d
switches: { s1: {}, s2: {} }
nodes:
  h1: { interfaces: { eth0: { addresses: [10.0.0.1/24, fd00::1/64] } } }
  h2:
    interfaces:
      eth0: { addresses: [10.0.0.2/24, fd00::2/64] }
      eth1: { addresses: [10.1.0.2/24, fd01::2/64] }
    routes: [{ to: 10.9.0.0/16, via: 10.1.0.3 }, { to: fd09::/64, via: fd01::3 }]
    forwarding: true
  h3:
    interfaces: { eth0: { addresses: [10.1.0.3/24, fd01::3/64] } }
    routes: [{ to: default, via: 10.1.0.2 }, { to: default, via: fd01::2 }]
links:
  - endpoints: [h1, s1]
  - endpoints: [s1, s2]
  - endpoints: [h2:eth0, s2]
  - endpoints: [h2:eth1, h3]
";

/// h1 -x- s1 -x- s2 -- h2 -x- h3: no carrier at either end, and all of it again
pub(crate) fn links_go_down_and_come_up(world: &World) -> Verdict {
    world.file("d.yaml", LAB);
    world.ovsns("up d.yaml").ok();
    everybody_talks(world);
    let before = routes(world);
    let at_s1 = world.run("ip -j link show").json();
    let at_s1 = at_s1.as_array().expect("links").iter().find_map(|link| {
        let name = link["ifname"].as_str()?;
        (name.starts_with("h1eth0.")).then(|| name.to_owned())
    });
    let at_s1 = at_s1.expect("the end at s1");
    let ends = [
        ("h1 s1", [("d.h1", "eth0"), ("", at_s1.as_str())]),
        ("h2 h3", [("d.h2", "eth1"), ("d.h3", "eth0")]),
    ];
    for (link, ends) in ends {
        world.ovsns(&format!("link down {link}")).ok();
        for (namespace, device) in ends {
            until("neither end has carrier", || !has_carrier(world, namespace, device));
        }
        held(world, link);
        world.ovsns(&format!("link up {link}")).ok();
        for (namespace, device) in ends {
            until("both ends have carrier", || has_carrier(world, namespace, device));
        }
        everybody_talks(world);
    }
    // Two switches; with Open vSwitch there is no device as long as it is up.
    world.ovsns("link down s1 s2").ok();
    held(world, "s1 s2");
    world.silence("d.h1", "10.0.0.2");
    world.silence("d.h1", "fd00::2");
    world.ovsns("link up s2 s1").ok();
    everybody_talks(world);
    assert_eq!(routes(world), before, "all that the links had is there again");
    Ok(())
}

/// What is asked of a link that is held down: status, a second time, others.
fn held(world: &World, link: &str) {
    world.ovsns(&format!("link down {link}")).ok().says("nothing to change");
    let status = world.ovsns("status --json").ok().json();
    assert_eq!(status["state"], "up", "it is no drift: {}", status["drift"]);
    let links = status["links"].as_array().expect("links");
    let down: Vec<_> = links.iter().filter(|link| link["up"] == false).collect();
    assert_eq!(down.len(), 1, "{links:#?}");
    assert_eq!(down[0]["held_down"], true);
    world.ovsns("status").ok().says("held down");
}

/// h1 -x- s1, h2 -x- h3 by the file, and up by another; a stranger is no wish
pub(crate) fn a_file_holds_links_down(world: &World) -> Verdict {
    let down = LAB.replace("[h1, s1]", "[h1, s1]\n    down: true");
    let down = down.replace("[h2:eth1, h3]", "[h2:eth1, h3]\n    down: true");
    world.file("down.yaml", &down);
    world.file("d.yaml", LAB);
    world.ovsns("up down.yaml").ok();
    world.ovsns("up down.yaml").ok().says("nothing to change");
    assert!(!has_carrier(world, "d.h1", "eth0") && !has_carrier(world, "d.h3", "eth0"));
    // Somebody raises it.
    world.run("ip -n d.h3 link set eth0 up");
    world.ovsns("status").ok().says("d: drifted").says("~ h3:eth0 down");
    world.ovsns("up down.yaml").ok();
    world.ovsns("up d.yaml").ok();
    everybody_talks(world);
    // Somebody else's down is drift.
    world.run("ip -n d.h1 link set eth0 down");
    world.ovsns("status").ok().says("d: drifted").says("~ h1:eth0 up");
    world.ovsns("up d.yaml").ok();
    everybody_talks(world);
    // What others have on an end would be lost with it.
    world.run("ip -n d.h3 address add fd07::3/64 dev eth0 nodad");
    let before = routes(world);
    let refused = world.ovsns("link down h2 h3").code(2);
    refused.says("`fd07::3/64` on `h3:eth0` is not ours and would go with the link down");
    assert_eq!(routes(world), before, "nothing was touched");
    world.run("ip -n d.h3 address del fd07::3/64 dev eth0");

    // A route by hand would be lost for ever, with a next router or without, ...
    for by_hand in ["10.8.0.0/16 via 10.1.0.2", "10.7.0.0/16", "fd08::/64 via fe80::1"] {
        let ip = if by_hand.contains("::") { "ip -n d.h3 -6" } else { "ip -n d.h3" };
        world.run(&format!("{ip} route add {by_hand} dev eth0"));
        let to = by_hand.split(' ').next().expect("words");
        let refused = world.ovsns("link down h2 h3").code(2);
        refused.says(&format!("the route to `{to}` by `h3:eth0` is not ours"));
        world.run(&format!("{ip} route del {by_hand} dev eth0"));
    }
    // ... and a daemon's is not: it is told that the link is down.
    for daemon in ["ospf", "zebra", "bgp", "bird", "babel", "dhcp"] {
        world.run(&format!("ip -n d.h3 route add 10.8.0.0/16 via 10.1.0.2 proto {daemon}"));
        world.ovsns("link down h2 h3").ok();
        let left = world.run("ip -n d.h3 route show 10.8.0.0/16").stdout;
        assert_eq!(left, "", "the kernel takes it away");
        world.ovsns("link up h2 h3").ok();
    }
    everybody_talks(world);
    Ok(())
}

/// s1 == s2, a bond: all its cables
pub(crate) fn a_bond_goes_down_as_one(world: &World) -> Verdict {
    world.needs("ovs-vswitchd")?;
    let bond = LAB.replace("[s1, s2]", "[s1, s2]\n    bond: { members: 2 }");
    world.file("d.yaml", &bond);
    world.ovsns("up d.yaml --backend ovs").ok();
    everybody_talks(world);
    world.ovsns("link down s1 s2").ok();
    held(world, "s1 s2");
    world.silence("d.h1", "10.0.0.2");
    world.ovsns("link up s1 s2").ok();
    everybody_talks(world);
    world.ovsns("up d.yaml --backend ovs").ok().says("nothing to change");
    Ok(())
}

fn everybody_talks(world: &World) {
    for (from, to) in [("d.h1", "10.0.0.2"), ("d.h1", "fd00::2"), ("d.h3", "10.0.0.2")] {
        world.pings(from, to);
    }
    world.pings("d.h3", "fd01::2");
}

fn has_carrier(world: &World, namespace: &str, device: &str) -> bool {
    let link = world.link(namespace, device).expect("it is there");
    let flags = link["flags"].as_array().expect("flags");
    flags.iter().any(|flag| flag == "LOWER_UP")
}

/// Routes and addresses of h2 and h3, less what the kernel counts down.
fn routes(world: &World) -> Vec<String> {
    let mut lines = Vec::new();
    for node in ["d.h1", "d.h2", "d.h3"] {
        for words in ["route show", "-6 route show", "-br address show"] {
            let text = world.run(&format!("ip -n {node} {words}")).stdout;
            lines.extend(text.lines().map(|line| format!("{node} {}", line.trim())));
        }
    }
    lines.sort();
    lines
}
