//! Ways out through the machine: `nat` on switches and on nodes.
//!
//! ```text
//! nodes -- switches -- the world, which forwards -- wan -- far
//!                      198.18.50.1                        198.18.50.9
//!                      2001:db8:50::1                         2001:db8:50::9
//! ```
//!
//! `far` has no way to any network of a lab. What it hears of them comes under
//! the world's own address.

use world::{Finished, Tool, Verdict, World, until};

use crate::crash::kill_at_every;

const FAR: [&str; 2] = ["198.18.50.9", "2001:db8:50::9"];

/// Lays the cable to `far`, and has the world forward.
pub(crate) fn outside(world: &World) {
    world.sh("ip netns add far
        ip -n far link set lo up
        ip link add wan type veth peer name eth0 netns far
        ip link set wan up
        ip -n far link set eth0 up
        ip address add 198.18.50.1/24 dev wan
        ip address add 2001:db8:50::1/64 dev wan nodad
        ip -n far address add 198.18.50.9/24 dev eth0
        ip -n far address add 2001:db8:50::9/64 dev eth0 nodad
        sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    world.settled();
}

/// By ping and by TCP, IPv4 and IPv6; `far` sees the world alone.
#[track_caller]
fn is_out(world: &World, node: &str) {
    for (far, own) in FAR.into_iter().zip(["198.18.50.1", "2001:db8:50::1"]) {
        world.pings(node, far);
        let heard = world.capture("far", "eth0", "tcp or icmp or icmp6");
        world.pings(node, far);
        let mut echo = world.tool("far", Tool::Echo, &format!("{far} 7"));
        echo.line_with("ready");
        world.tool(node, Tool::Pour, &format!("{far} 7 300000")).finish().ok();
        let frames = heard.heard(world);
        let there: Vec<&str> = frames
            .iter()
            .map(|frame| frame.line.as_str())
            .filter(|line| line.contains(&format!(" > {far}")))
            .filter(|line| !line.contains("neighbor"))
            .collect();
        assert!(10 < there.len(), "{there:#?}");
        for line in there {
            assert!(line.contains(&format!(": {own}")), "not under the world's address: {line}");
        }
    }
}

fn status(world: &World) -> Finished {
    world.ovsns("status").ok()
}

/// inside -- lan (nat); behind -- home -- router -- router-out (nat)
pub(crate) fn the_example(world: &World) -> Verdict {
    world.needs("nft")?;
    world.example("nat.yaml");
    outside(world);
    world.sh("ip -n far route add 192.168.77.0/24 via 198.18.50.1
        ip -n far route add fd00:77::/64 via 2001:db8:50::1
        ip -n far route add 172.30.0.0/16 via 198.18.50.1");
    let foreign = world.foreign();
    world.ovsns("up nat.yaml").ok();
    world.ovsns("up nat.yaml").ok().says("nothing to change");
    for node in ["nat.inside", "nat.router", "nat.behind"] {
        is_out(world, node);
    }
    status(world).says("ways out").says("192.168.77.1/24").says("router-out");
    // It has a way in, and is not let in.
    for address in world.addresses("nat.inside", "eth0").iter().chain(&["172.30.0.2/16".into()]) {
        let address = address.split('/').next().unwrap_or_default();
        world.silence("far", address);
    }
    assert_eq!(world.addresses("nat.behind", "eth0")[0], "172.30.0.2/16");

    // With all that was written down lost.
    world.sh("rm -r /run/ovsns/labs");
    world.ovsns("down nat").ok();
    foreign.is_untouched(world);
    assert_eq!(world.run("nft list ruleset").stdout, "");
    Ok(())
}

/// h1 -- s1 (nat) -- s2 -- s3 -- h3
pub(crate) fn bridges_on_the_way_out(world: &World) -> Verdict {
    world.needs("nft")?;
    outside(world);
    // As distributions have it, where what takes another way back is dropped.
    world.sh("sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1");
    let lab = "
name: row
switches: { s1: { nat: true }, s2: {}, s3: {} }
nodes: { h1: {}, h3: {} }
links:
  - endpoints: [h1, s1]
  - endpoints: [s1, s2]
  - endpoints: [s2, s3]
  - endpoints: [h3, s3]
";
    world.file("row.yaml", lab);
    world.ovsns("up row.yaml").ok();
    for node in ["row.h1", "row.h3"] {
        is_out(world, node);
    }
    // Who asks for the machine is answered once, and by the door.
    let door = world.setting("", "row:s1", "address");
    let answered = |node: &str| {
        world.run(&format!("ip -n {node} neigh flush all"));
        let asked = format!("ip netns exec {node} ping -n -c 1 -W 2 10.0.255.254");
        let heard = world.capture(node, "eth0", "arp");
        world.run(&asked);
        let frames = heard.heard(world);
        frames.into_iter().filter(|frame| frame.line.contains("is-at")).collect::<Vec<_>>()
    };
    for node in ["row.h1", "row.h3"] {
        for frame in answered(node).iter().filter(|it| it.line.contains("Reply 10.0.255.254")) {
            assert!(frame.line.contains(door.as_str().expect("an address")), "{}", frame.line);
        }
    }
    world.pings("row.h1", "10.0.0.2");
    world.ovsns("node add h4 --link s3").ok();
    world.pings("row.h4", FAR[0]);
    world.ovsns("down row").ok();
    Ok(())
}

const LAN: &str = "
name: lan
switches: { s1: { nat: true, device: br-lan } }
nodes: { h1: {} }
links: [{ endpoints: [h1, s1] }]
";

/// h1 -- s1 (nat)
pub(crate) fn what_others_do_to_it_is_mended(world: &World) -> Verdict {
    world.needs("nft")?;
    outside(world);
    world.file("lan.yaml", LAN);
    world.ovsns("up lan.yaml").ok();
    let handle = |chain: &str| {
        let rules = world.run(&format!("nft -a list chain inet ovsns-nat.lan {chain}")).stdout;
        let last = rules.lines().rev().find_map(|line| line.split("# handle ").nth(1));
        last.expect("a rule").to_owned()
    };
    let table = "way out by br-lan";
    let rule = "inet ovsns-nat.lan";
    for (what, told) in [
        ("nft delete table inet ovsns-nat.lan".to_owned(), table),
        ("nft delete table arp ovsns-nat.lan".to_owned(), table),
        ("nft flush ruleset".to_owned(), table),
        (format!("nft insert rule {rule} forward iifname br-lan drop"), table),
        (format!("nft replace rule {rule} forward handle LAST oifname br-lan accept"), table),
        (format!("nft delete rule {rule} postrouting handle FIRST"), table),
        (format!("nft 'add chain {rule} forward {{ policy drop; }}'"), table),
        (format!("nft add chain {rule} more"), table),
        (format!("nft 'add set {rule} more {{ type ipv4_addr; }}'"), table),
        (format!("nft add counter {rule} more"), table),
        (format!("nft 'add table {rule} {{ flags dormant; }}'"), table),
        ("ip address del 10.0.255.254/16 dev br-lan".to_owned(), "gets 10.0.255.254/16"),
        ("ip -6 address flush dev br-lan scope global".to_owned(), "gets fd00:6f76::fffe/64"),
        ("sysctl -q -w net.ipv4.conf.br-lan.forwarding=0".to_owned(), "has ipv4.forwarding = 1"),
        ("sysctl -q -w net.ipv6.conf.br-lan.accept_ra=2".to_owned(), "has ipv6.accept_ra = 0"),
        ("ip -n lan.h1 route del default".to_owned(), "route in h1: default via 10.0.255.254"),
    ] {
        let what =
            what.replace("LAST", &handle("forward")).replace("FIRST", &handle("postrouting"));
        println!("{what}");
        world.sh(&what);
        status(world).says("lab lan: drifted").says(told);
        world.ovsns("up lan.yaml").ok().says("1 step in");
        world.ovsns("up lan.yaml").ok().says("nothing to change");
        for far in FAR {
            world.pings("lan.h1", far);
        }
    }
    // A lab of which nothing is left but its tables is found, too.
    world.sh("rm -r /run/ovsns/labs; ip link del br-lan; ip netns del lan.h1");
    world.sh("ip link del $(ip -o link | sed -n 's/^[0-9]*: \\(h1eth0[^@:]*\\).*/\\1/p') || true");
    world.ovsns("list").ok().says("lan");
    world.ovsns("gc").ok().says("lab lan");
    assert_eq!(world.run("nft list ruleset").stdout, "");
    Ok(())
}

/// What a plan refuses, all at once, with nothing touched.
pub(crate) fn what_is_in_the_way_is_told(world: &World) -> Verdict {
    world.needs("nft")?;
    outside(world);
    world.file("lan.yaml", LAN);
    world.sh("sysctl -q -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
    let foreign = world.foreign();
    world
        .ovsns("up lan.yaml")
        .code(2)
        .says("switch `s1` has `nat`, and this machine does not forward IPv4")
        .says("`sysctl -w net.ipv4.ip_forward=1`")
        .says("this machine does not forward IPv6")
        .says("`sysctl -w net.ipv6.conf.all.forwarding=1`");
    foreign.is_untouched(world);
    // A default route that a router told of would be told no more.
    world.sh("ip -6 route add default via 2001:db8:50::9 dev wan proto ra");
    let mend = "sysctl -w net/ipv6/conf/wan/accept_ra=2 net/ipv6/conf/all/forwarding=1";
    world.ovsns("up lan.yaml").code(2).says(mend).says("hears routers no more");
    world.sh(&format!("{mend} net.ipv4.ip_forward=1"));
    world.ovsns("up lan.yaml").ok();
    world.ovsns("down lan").ok();
    world.sh("ip -6 route del default via 2001:db8:50::9 dev wan");
    world.sh("sysctl -q -w net.ipv6.conf.wan.accept_ra=1");

    for route in ["10.0.3.0/24", "10.0.0.0/8", "fd00:6f76::/32"] {
        let family = if route.contains(':') { "-6" } else { "-4" };
        world.sh(&format!("ip {family} route add {route} dev wan"));
        let says = format!("overlaps `{route}`, to which this machine's way is `wan`");
        world.ovsns("up lan.yaml").code(2).says(&says).says("`prefixes` that are free");
        world.sh(&format!("ip {family} route del {route} dev wan"));
    }
    world.sh("ip address add 10.0.0.77/32 dev wan");
    world.ovsns("up lan.yaml").code(2).says("overlaps `10.0.0.77/32`");
    world.sh("ip address del 10.0.0.77/32 dev wan");
    // Half of everything is no network of anybody's (as OpenVPN has it).
    world.sh("ip route add 0.0.0.0/1 dev wan");
    world.ovsns("plan lan.yaml").ok();
    world.sh("ip route del 0.0.0.0/1 dev wan");

    // What has come into the way since hinders no other change, and is told.
    world.ovsns("up lan.yaml").ok();
    world.ovsns("node add h2 --link s1").ok();
    world.sh("sysctl -q -w net.ipv4.ip_forward=0");
    let told = "this machine does not forward IPv4; `sysctl -w net.ipv4.ip_forward=1`";
    status(world).says("trouble").says(told);
    world.ovsns("link down h2 s1").ok().says(told);
    world.ovsns("cut h1 from h2").ok();
    world.ovsns("heal").ok();
    world.ovsns("node rm h2").ok();
    world.ovsns("up lan.yaml").ok().says("nothing to change");
    world.sh("sysctl -q -w net.ipv4.ip_forward=1");
    assert!(!status(world).stdout.contains("forward IPv4"));
    world.ovsns("node rm h1").code(2).says("first: `ovsns switch set s1 nat=`");
    world.ovsns("attach wan --switch s1").code(2).says("NIC `wan` is on `s1`");
    world.ovsns("down lan").ok();

    world.sh("nft add table inet ovsns-nat.lan");
    world.ovsns("up lan.yaml").code(2).says("a table `inet ovsns-nat.lan` that is not ours");
    world.sh("nft delete table inet ovsns-nat.lan");
    for (file, says) in [
        ("{switches: {s: {nat: perhaps}}}", "`nat` holds true, false, `ipv4` or `ipv6`"),
        ("{switches: {s: {gateway: [10.0.0.1/24]}}}", "`gateway` on `s`, which has no `nat`"),
        ("{switches: {s: {nat: true}}}", "`nat` on `s`, where nobody has an address for that"),
        (
            "{switches: {s: {nat: true}, t: {nat: ipv4}}, nodes: {n: {}}, links: [{endpoints: \
             [s, t]}, {endpoints: [n, s]}]}",
            "`s` and `t` hang together, and both have `nat`",
        ),
        (
            "{switches: {s: {nat: true, gateway: [10.0.0.1/24]}}, nodes: {n: {interfaces: {eth0: \
             {addresses: [10.0.0.1/24]}}}}, links: [{endpoints: ['n:eth0', s]}]}",
            "`10.0.0.1` is the address of `n:eth0` already",
        ),
        (
            "{switches: {s: {nat: true}}, nodes: {n: {}}, links: [{endpoints: [n, s], vlan: 7}]}",
            "`nat` where link `n:eth0` is in VLANs",
        ),
        (
            "{switches: {s: {nat: true}}, nodes: {n: {}}, links: [{endpoints: [n, s]}], uplinks: \
             {wan: {switch: s}}}",
            "`nat` on `s`, and NIC `wan` is on `s`",
        ),
        ("{nodes: {n: {nat: true, adopt: {pid: 1}}}}", "`nat` is not for a node that is adopted"),
    ] {
        world.file("bad.yaml", file);
        world.ovsns("up bad.yaml").code(2).says(says);
    }
    assert_eq!(world.run("nft list ruleset").stdout, "");
    world.ovsns("list").ok().says("no lab");
    Ok(())
}

/// h1 -- s1 (nat), and a firewall that drops what it does not know
pub(crate) fn others_who_drop_are_told_of(world: &World) -> Verdict {
    world.needs("nft")?;
    outside(world);
    world.file("lan.yaml", LAN);
    world.sh("nft add table inet theirs");
    world.sh(
        "nft 'add chain inet theirs relay { type filter hook forward priority 10; policy drop; }'",
    );
    let told = world.ovsns("up lan.yaml").ok();
    let mend = "nft insert rule inet theirs relay iifname br-lan accept; \
                nft insert rule inet theirs relay oifname br-lan accept";
    let told = told.says("is dropped by chain `relay` of table `inet theirs`").says(mend);
    drop(told);
    world.silence("lan.h1", FAR[0]);
    status(world).says("trouble").says("is dropped by chain `relay`");
    world.sh(mend);
    for far in FAR {
        world.pings("lan.h1", far);
    }
    let mended = status(world).stdout;
    assert!(!mended.contains("is dropped"), "{mended}");
    // As Docker has it.
    world.sh("nft delete table inet theirs; nft add table ip filter");
    world.sh(
        "nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
    );
    world.sh("nft add chain ip filter DOCKER-USER");
    status(world).says("`iptables -I DOCKER-USER -i br-lan -j ACCEPT; iptables -I DOCKER-USER -o");
    world.sh("nft delete table ip filter");
    world.ovsns("down lan").ok();
    Ok(())
}

/// h1 -- s1 (nat) of one lab, and of another
pub(crate) fn labs_with_ways_out_side_by_side(world: &World) -> Verdict {
    world.needs("nft")?;
    outside(world);
    let lab = |name: &str, net: u8| {
        let file = format!("{name}.yaml");
        let text = format!(
            "{{name: {name}, prefixes: [172.{net}.0.0/16, 'fd00:{net}::/48'], switches: {{s1: {{nat: \
             true}}}}, nodes: {{h1: {{}}}}, links: [{{endpoints: [h1, s1]}}]}}"
        );
        world.file(&file, &text);
        world.ovsns(&format!("up {file}"))
    };
    lab("one", 20).ok();
    lab("two", 20).code(2).says("overlaps `172.20.0.0/16`");
    lab("two", 21).ok();
    for node in ["one.h1", "two.h1"] {
        is_out(world, node);
    }
    // To each other they are outside.
    world.silence("one.h1", "172.21.0.1");
    world.silence("two.h1", "172.20.0.1");
    world.ovsns("down one").ok();
    world.pings("two.h1", FAR[0]);
    world.pings("two.h1", FAR[1]);
    world.ovsns("down two").ok();
    Ok(())
}

/// h1 -- s1, which gets `nat` and loses it again
pub(crate) fn it_comes_and_goes_with_its_key(world: &World) -> Verdict {
    world.needs("nft")?;
    outside(world);
    world.file("without.yaml", &LAN.replace("nat: true, ", ""));
    world.file("lan.yaml", LAN);
    world.file("v4.yaml", &LAN.replace("nat: true", "nat: ipv4, gateway: [10.0.9.9/16]"));
    world.ovsns("up without.yaml").ok();
    world.ovsns("up lan.yaml").ok();
    is_out(world, "lan.h1");
    world.ovsns("up v4.yaml").ok();
    world.ovsns("up v4.yaml").ok().says("nothing to change");
    world.pings("lan.h1", FAR[0]);
    world.silence("lan.h1", FAR[1]);
    assert_eq!(world.addresses("", "br-lan"), ["10.0.9.9/16"]);
    world.ovsns("up without.yaml").ok();
    world.ovsns("up without.yaml").ok().says("nothing to change");
    world.silence("lan.h1", FAR[0]);
    assert_eq!(world.run("ip -n lan.h1 route show default").stdout, "");
    assert_eq!(world.run("nft list ruleset").stdout, "");
    assert_eq!(world.addresses("", "br-lan"), [""; 0]);
    world.ovsns("down lan").ok();
    Ok(())
}

/// h1 -- s1 (nat)
pub(crate) fn up_is_killed_at_every_request(world: &World) -> Verdict {
    world.needs("strace")?;
    outside(world);
    world.file("lan.yaml", LAN);
    let foreign = world.foreign();
    let steps = kill_at_every(world, "up lan.yaml", |step| {
        if step % 2 == 0 {
            world.ovsns("up lan.yaml").ok();
            world.pings("lan.h1", FAR[0]);
            world.ovsns("up lan.yaml").ok().says("nothing to change");
        }
        let clean = if step % 3 == 0 { "gc" } else { "down --all" };
        world.ovsns(clean).ok();
        world.ovsns("down --all").ok();
        foreign.is_untouched(world);
        assert_eq!(world.run("nft list ruleset").stdout, "");
    });
    assert!(20 < steps, "only {steps} steps");
    until("the lab goes", || world.ovsns("down lan").status.success());
    foreign.is_untouched(world);
    Ok(())
}

/// h1 -- s1 (nat)
pub(crate) fn down_is_killed_at_every_request(world: &World) -> Verdict {
    world.needs("strace")?;
    outside(world);
    world.file("lan.yaml", LAN);
    let foreign = world.foreign();
    world.ovsns("up lan.yaml").ok();
    let steps = kill_at_every(world, "down lan", |step| {
        match step % 3 {
            0 => {
                world.ovsns("up lan.yaml").ok();
                world.pings("lan.h1", FAR[0]);
                world.ovsns("up lan.yaml").ok().says("nothing to change");
                return;
            }
            1 => drop(world.ovsns("down --all").ok()),
            _ => {
                world.sh("rm -rf /run/ovsns");
                world.ovsns("gc").ok();
            }
        }
        foreign.is_untouched(world);
        world.ovsns("up lan.yaml").ok();
    });
    println!("killed before each of {steps} steps");
    assert!(5 < steps, "only {steps} steps");
    foreign.is_untouched(world);
    Ok(())
}
