//! The files of `examples/`: each brought up, tried and taken down again, with
//! things of other people around.

use world::{Tool, Verdict, World};

use crate::{switch_of, switches};

/// n1 -- b.1.1 -- n2
pub(crate) fn two_nodes(world: &World) -> Verdict {
    world.example("two-nodes.yaml");
    let foreign = world.foreign();
    let up = world.ovsns("up two-nodes.yaml").ok();
    let last = up.stdout.lines().last();
    assert_eq!(last, Some("lab two-nodes is up: 2 nodes, 1 switch, 2 links"));
    world.pings("two-nodes.n1", "10.0.0.2");
    world.pings("two-nodes.n2", "10.0.0.1");
    world.pings("two-nodes.n1", "fd00::2");
    world.pings("two-nodes.n2", "fd00::1");
    world.ovsns("ping n1 n2").ok();
    world.ovsns("ping").ok();

    assert_eq!(world.addresses("two-nodes.n1", "eth0"), ["10.0.0.1/24", "fd00::1/64"]);
    assert_eq!(world.addresses("two-nodes.n2", "eth0"), ["10.0.0.2/24", "fd00::2/64"]);
    let bridge = world.setting("", "two-nodes:b.1.1", "ifname");
    for port in ["two-nodes:n1:eth0", "two-nodes:n2:eth0"] {
        assert_eq!(switch_of(world, port), bridge);
    }
    world.ovsns("down two-nodes").ok();
    foreign.is_untouched(world);
    Ok(())
}

/// a -- b
pub(crate) fn cable(world: &World) -> Verdict {
    up_and_down(world, "cable", |lab| {
        let [a, b] = lab.namespaces::<2>();
        for address in world.addresses(&b, "eth0") {
            world.pings(&a, lab.bare(&address));
        }
        // Straight from one to the other: no bridge, no end outside.
        assert_eq!(switches(world, "cable"), 0);
        let veths = world.run("ip -d link show type veth").stdout;
        assert!(!veths.contains("ovsns lab=cable "), "{veths}");
    });
    Ok(())
}

/// left -- s1 -- router -- s2 -- right
pub(crate) fn router(world: &World) -> Verdict {
    up_and_down(world, "router", |lab| {
        assert_eq!(switches(world, "router"), 2);
        let far = world.addresses("router.right", "eth0");
        assert_eq!(far.len(), 2, "IPv4 and IPv6: {far:?}");
        for address in &far {
            world.pings("router.left", lab.bare(address));
            // Through the router: one hop fewer to live at the other end.
            let path =
                format!("ip netns exec router.left ping -n -c 1 -W 2 -t 1 {}", lab.bare(address));
            world.attempt(&path).code(1).says("xceeded");
        }
    });
    Ok(())
}

/// h1, h2, h3 -- s1
pub(crate) fn multicast(world: &World) -> Verdict {
    up_and_down(world, "multicast", |lab| {
        let [first, second, third] = lab.namespaces::<3>();
        let of = |namespace: &str, family: char| {
            let addresses = world.addresses(namespace, "eth0");
            let address = addresses.iter().find(|it| it.contains(family)).expect("both families");
            lab.bare(address).to_owned()
        };
        let (own, own6) = (of(&first, '.'), of(&first, ':'));
        // Those who joined hear the group; so does nobody else.
        for (group, from) in [("239.1.2.3", &own), ("ff15::1234", &own6)] {
            let hear = |namespace: &str| {
                let at = if group.contains(':') { "eth0".to_owned() } else { of(namespace, '.') };
                let mut heard = world.tool(namespace, Tool::Hear, &format!("5000 1 {group} {at}"));
                heard.line_with("ready");
                heard
            };
            let ears = [hear(&second), hear(&third)];
            world.tool(&first, Tool::Say, &format!("{from} {group} 5000 hello")).finish().ok();
            for ear in ears {
                ear.finish().ok().says(&format!("{from} hello"));
            }
        }
        // A broadcast needs no joining.
        for to in ["255.255.255.255", &broadcast(world, &first)] {
            let ears = [&second, &third].map(|namespace| {
                let mut ear = world.tool(namespace, Tool::Hear, "5000 1");
                ear.line_with("ready");
                ear
            });
            world.tool(&first, Tool::Say, &format!("{own} {to} 5000 all")).finish().ok();
            for ear in ears {
                ear.finish().ok().says(&format!("{own} all"));
            }
        }
    });
    Ok(())
}

/// s1 with three switches below it, each with three nodes
pub(crate) fn tree(world: &World) -> Verdict {
    up_and_down(world, "tree", |lab| {
        assert_eq!(switches(world, "tree"), 4);
        let all = lab.namespaces::<9>();
        for address in world.addresses(&all[8], "eth0") {
            world.pings(&all[0], lab.bare(&address));
        }
    });
    Ok(())
}

/// The broadcast address of a node's first network.
fn broadcast(world: &World, namespace: &str) -> String {
    let link = world.link(namespace, "eth0").expect("eth0");
    let addresses = link["addr_info"].as_array().expect("addresses");
    let broadcast = addresses.iter().find_map(|address| address["broadcast"].as_str());
    broadcast.expect("an IPv4 address has a broadcast address").to_owned()
}

/// A lab that is up.
struct Up<'a> {
    world: &'a World,
    lab: &'static str,
}

impl Up<'_> {
    /// The namespaces of its nodes, sorted.
    fn namespaces<const COUNT: usize>(&self) -> [String; COUNT] {
        let prefix = format!("{}.", self.lab);
        let mut names = self.world.namespaces();
        names.retain(|name| name.starts_with(&prefix));
        names.try_into().unwrap_or_else(|names| panic!("not {COUNT} nodes: {names:?}"))
    }

    fn bare<'b>(&self, address: &'b str) -> &'b str {
        address.split('/').next().expect("an address")
    }
}

fn up_and_down(world: &World, lab: &'static str, look: impl FnOnce(&Up)) {
    world.example(&format!("{lab}.yaml"));
    let foreign = world.foreign();
    world.ovsns(&format!("up {lab}.yaml")).ok().says(&format!("lab {lab} is up: "));
    world.ovsns("ping").ok();
    look(&Up { world, lab });
    world.ovsns(&format!("up {lab}.yaml")).ok().says("nothing to change");
    world.ovsns(&format!("down {lab}")).ok();
    foreign.is_untouched(world);
}
