//! The files of `examples/`: each brought up, tried and taken down again, with
//! things of other people around.

use std::path::Path;

use world::{Skip, Tool, Verdict, World, until, until_within};

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

/// h1 -- r1, h2 -- r2, h3 -- r3, and the routers in a triangle
pub(crate) fn routers(world: &World) -> Verdict {
    up_and_down(world, "routers", |lab| {
        for far in world.addresses("routers.h3", "eth0") {
            let far = lab.bare(&far);
            // r1 and r3, and not r2: with two more hops to live it is not there.
            let live =
                |hops: u8| format!("ip netns exec routers.h1 ping -n -c 1 -W 2 -t {hops} {far}");
            world.attempt(&live(2)).code(1).says("xceeded");
            world.run(&live(3));
        }
        // One that is taken away is drift, and comes back alone.
        world.run("ip -n routers.h1 route del default");
        world.ovsns("status").ok().says("+ route in h1: default via ");
        world.ovsns("up routers.yaml").ok();
        world.ovsns("ping h1 h3").ok();
        // A router fewer: those that are left go round the other way.
        world.ovsns("link rm r1 r3").ok();
        world.ovsns("ping h1 h3").ok();
        world.ovsns("up routers.yaml").ok();
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

/// client -- s1 -- web, which serves pages from when the lab is up
pub(crate) fn web(world: &World) -> Verdict {
    world.needs("python3")?;
    let motd = world.example("web.motd");
    up_and_down(world, "web", |_| {
        assert_eq!(world.ovsns("exec web -- cat /etc/motd").ok().stdout, motd);
        let page =
            "import urllib.request; print(urllib.request.urlopen(\"http://10.0.0.1/\").read())";
        let mut get = world.command();
        get.args(["exec", "client", "--", "python3", "-c", page]);
        let got = get.output().expect("it runs").stdout;
        assert_eq!(got, b"b'<h1>web</h1>\\n'\n");
        let seen = world.ovsns("exec web -- ps -e -o args=").ok();
        assert!(seen.stdout.lines().count() <= 4, "{seen}");
        until("the client has got a page", || {
            world.ovsns("logs client").ok().stdout.contains("200")
        });
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

/// h1 -- r1, h3 -- r3, and r1, r2, r3 in a triangle that speaks OSPF
pub(crate) fn ospf(world: &World) -> Verdict {
    world.needs("/usr/lib/frr/ospfd")?;
    // FRR's daemons write there what they would say if they crashed.
    world.run("mount -t tmpfs tmpfs /var/tmp");
    world.example("ospf.conf");
    let told = world.example("ospf.yaml");
    let [start, cut, end] = commands(&told);
    let foreign = world.foreign();
    as_told(world, &start);
    let leads_to = |via: &str| {
        let routes = world.run("ip -n ospf.r1 route show 10.0.3.0/24").stdout;
        routes.contains("proto ospf") && routes.contains(&format!("via {via} "))
    };
    until_within(40, "r1 knows the way to h3 by r3", || leads_to("10.0.13.3"));
    until_within(40, "h3 answers", || {
        world.attempt("ip netns exec ospf.h1 ping -n -c 1 -W 1 -t 3 10.0.3.1").status.success()
    });
    as_told(world, &cut);
    until_within(40, "r1 knows the way to h3 by r2", || leads_to("10.0.12.2"));
    until_within(40, "h3 answers again", || {
        world.attempt("ip netns exec ospf.h1 ping -n -c 1 -W 1 -t 4 10.0.3.1").status.success()
    });
    // By one router more, without which there is none.
    let path = "ip netns exec ospf.h1 ping -n -c 1 -W 2 -t 3 10.0.3.1";
    world.attempt(path).code(1).says("xceeded");
    as_told(world, &end);
    // FRR's own, which it makes whatever it is told.
    world.run("rm -rf /run/frr");
    foreign.is_untouched(world);
    Ok(())
}

/// left -- s1 -- router -- s2 -- right
pub(crate) fn multicast_routing(world: &World) -> Verdict {
    world.needs("smcrouted")?;
    world.example("multicast-routing.conf");
    let told = world.example("multicast-routing.yaml");
    let [start, ask, end] = commands(&told);
    let foreign = world.foreign();
    as_told(world, &start);
    until_within(20, "the router has the route", || {
        let routes = "ip netns exec multicast-routing.router cat /proc/net/ip_mr_vif";
        world.run(routes).stdout.contains("eth1")
    });
    // The first frame may come before the route that it is for.
    let said = || world.sh(&format!("{} || true", in_path(world, ask.trim_end()))).stdout;
    until_within(20, "right answers to the group", || {
        said().contains("from 10.2.0.1: icmp_seq=1 ttl=63")
    });
    as_told(world, &end);
    foreign.is_untouched(world);
    Ok(())
}

/// left -- s1 -- west == isp == east -- s2 -- right
pub(crate) fn gre_between_nodes(world: &World) -> Verdict {
    let told = world.example("gre.yaml");
    let [start, ask, end] = commands(&told);
    let foreign = world.foreign();
    let started = world.shell(&in_path(world, &format!("set -e\n{start}")));
    if !started.status.success() {
        started.says("Unknown device type");
        as_told(world, &end);
        foreign.is_untouched(world);
        return Err(Skip("this kernel has no module `ip_gre`".into()));
    }
    let wire = world.capture("gre.east", "eth0", "proto 47");
    // The first frame may come before a neighbour is known.
    until("right answers through the tunnel", || {
        world.shell(&in_path(world, &ask)).status.success()
    });
    let frames = wire.heard(world);
    let heard = frames.iter().map(|it| format!("{}\n", it.line)).collect::<String>();
    assert!(heard.contains("10.1.0.1 > 10.2.0.1: ICMP echo request"), "{heard}");
    world.run("ip -n gre.east link set site down");
    assert!(!world.shell(&in_path(world, &ask)).status.success(), "answered without the tunnel");
    as_told(world, &end);
    foreign.is_untouched(world);
    Ok(())
}

/// west -- wire -- east
pub(crate) fn ipsec_between_nodes(world: &World) -> Verdict {
    for file in ["ipsec-west.batch", "ipsec-east.batch"] {
        world.example(file);
    }
    let told = world.example("ipsec.yaml");
    let [start, ask, end] = commands(&told);
    let foreign = world.foreign();
    let started = world.shell(&in_path(world, &format!("set -e\n{start}")));
    if !started.status.success() {
        let said = started.to_string();
        let known = ["Requested type not found", "Requested AEAD algorithm not found"];
        assert!(known.iter().any(|known| said.contains(known)), "{said}");
        as_told(world, &end);
        foreign.is_untouched(world);
        return Err(Skip("this kernel has no `esp4`, or no AES-GCM".into()));
    }
    let wire = world.capture("ipsec.east", "eth0", "ip");
    until("east answers", || world.shell(&in_path(world, &ask)).status.success());
    let frames = wire.heard(world);
    let heard = frames.iter().map(|it| format!("{}\n", it.line)).collect::<String>();
    assert!(heard.contains("ESP(spi=0x00000101"), "{heard}");
    assert!(heard.contains("ESP(spi=0x00000102"), "{heard}");
    assert!(!heard.contains("ICMP"), "{heard}");
    world.run("ip -n ipsec.east xfrm state flush");
    assert!(!world.shell(&in_path(world, &ask)).status.success(), "answered without its keys");
    as_told(world, &end);
    foreign.is_untouched(world);
    Ok(())
}

/// The commands that the comment at the head of an example tells, in blocks.
fn commands<const BLOCKS: usize>(text: &str) -> [String; BLOCKS] {
    let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
    let is_told = |line: &str| line.starts_with("#   ");
    let blocks = head.split(|line| !is_told(line)).filter(|block| !block.is_empty());
    let blocks = blocks.map(|block| block.iter().map(|line| format!("{}\n", &line[4..])).collect());
    let blocks: Vec<String> = blocks.collect();
    blocks.try_into().unwrap_or_else(|blocks| panic!("not {BLOCKS} blocks: {blocks:#?}"))
}

/// Does what a block of commands says.
fn as_told(world: &World, commands: &str) {
    world.sh(&in_path(world, commands));
}

/// Commands in which `ovsns` is the one under test.
fn in_path(world: &World, commands: &str) -> String {
    let directory = world.binary().parent().unwrap_or(Path::new(".")).display();
    format!("PATH={directory}:$PATH\n{commands}")
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
