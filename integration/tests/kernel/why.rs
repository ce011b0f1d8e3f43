//! `ovsns why`: labs that are broken in one way each, and what it says of them.
//! What it says mends it is run, and then it has to say that all is well.

use std::process::Command;

use world::{Finished, Verdict, World, until};

/// h1 and h3 on s1, h2 on s2, and r forwards between the two.
const LAB: &str = "
name: w
switches: { s1: {}, s2: {} }
nodes:
  h1:
    interfaces: { eth0: { addresses: [10.0.1.1/24, 'fd01::1/64'] } }
    routes: [{ to: default, via: 10.0.1.254 }, { to: default, via: 'fd01::fe' }]
  h3: { interfaces: { eth0: { addresses: [10.0.1.3/24, 'fd01::3/64'] } } }
  r:
    forwarding: true
    interfaces:
      eth0: { addresses: [10.0.1.254/24, 'fd01::fe/64'] }
      eth1: { addresses: [10.0.2.254/24, 'fd02::fe/64'] }
  h2:
    interfaces: { eth0: { addresses: [10.0.2.2/24, 'fd02::2/64'] } }
    routes: [{ to: default, via: 10.0.2.254 }, { to: default, via: 'fd02::fe' }]
links:
  - endpoints: [h1:eth0, s1]
  - endpoints: [h3:eth0, s1]
  - endpoints: [r:eth0, s1]
  - endpoints: [r:eth1, s2]
  - endpoints: [h2:eth0, s2]
";

/// A way to break the lab.
struct Broken {
    /// A line of shell, in which `@h1` is the namespace of h1, and `%h1:eth0` and
    /// `%s1` are devices of the machine's own.
    by: &'static str,
    /// What is asked.
    asked: &'static str,
    /// Where it dies.
    at: &'static str,
    /// What it says.
    says: &'static [&'static str],
    /// Whether what it says mends it; else this line of shell does.
    mended_by: Option<&'static str>,
}

const fn broken(
    by: &'static str,
    asked: &'static str,
    at: &'static str,
    says: &'static [&'static str],
) -> Broken {
    Broken { by, asked, at, says, mended_by: None }
}

/// The device with a name of ours.
fn device(world: &World, name: &str) -> String {
    world.setting("", &format!("w:{name}"), "ifname").as_str().expect("a name").to_owned()
}

/// A line of shell with the names of devices and namespaces in it.
fn line(world: &World, text: &str) -> String {
    let mut text = text.replace('@', "w.");
    for name in ["h1:eth0", "h2:eth0", "h3:eth0", "r:eth0", "r:eth1", "s1", "s2"] {
        let asked = format!("%{name}");
        if text.contains(&asked) {
            text = text.replace(&asked, &device(world, name));
        }
    }
    text
}

fn why(world: &World, asked: &str) -> Finished {
    world.ovsns(&format!("why {asked}"))
}

/// Breaks the lab, asks, mends, and asks again.
#[track_caller]
fn check(world: &World, row: &Broken) {
    let Broken { by, asked, at, says, mended_by } = row;
    let ours = |line: &str| line.replace("ovsns ", &format!("{} ", world.binary().display()));
    world.sh(&ours(&line(world, by)));
    let told = why(world, asked);
    assert_eq!(told.status.code(), Some(1), "{by}\n{told}");
    let last = told.stdout.lines().find(|line| line.contains(" dies at "));
    assert!(last.is_some_and(|line| line.ends_with(&format!(" dies at {at}"))), "{by}\n{told}");
    for says in *says {
        let says = line(world, says);
        assert!(told.stdout.contains(&says), "{by}: it does not say {says:?}\n{told}");
    }
    let mend = match mended_by {
        Some(line) => (*line).to_owned(),
        None => {
            let mend = told.stdout.lines().find_map(|line| line.trim().strip_prefix("mend: "));
            mend.unwrap_or_else(|| panic!("{by}: no mend\n{told}")).to_owned()
        }
    };
    let mend = ours(&mend);
    let up = format!("up w.yaml --backend {}", world.backend());
    world.sh(&line(world, &mend.replace("up FILE", &up)));
    let mut told = why(world, asked);
    // What the mend brought may take a moment to be used (IPv6, carrier).
    until("it works again", || {
        if told.status.code() == Some(0) {
            return true;
        }
        told = why(world, asked);
        told.status.code() == Some(0)
    });
    told.says("all is well");
    // A link that was down, and a node that was gone, had routes.
    world.ovsns(&up).ok();
}

fn lab(world: &World) {
    world.file("w.yaml", LAB);
    world.ovsns(&format!("up w.yaml --backend {}", world.backend())).ok();
    world.settled();
}

const FAR: &str = "h1 h2 --ipv4";
const NEAR: &str = "h1 h3 --ipv4";

/// h1 -- s1 -- r -- s2 -- h2
pub(crate) fn nodes_and_links_that_are_broken(world: &World) -> Verdict {
    lab(world);
    let rows = [
        broken("ip -n @h1 link set eth0 down", NEAR, "h1", &["`h1:eth0` is down"]),
        broken("ip -n @h3 link set eth0 down", NEAR, "switch s1", &["`h3:eth0` is down"]),
        broken("ip link set %h3:eth0 down", NEAR, "switch s1", &["port `h3:eth0`", "is down"]),
        broken("ovsns link down h3 s1", NEAR, "switch s1", &["port `h3:eth0`", "is held down"]),
        broken(
            "ovsns cut h3 from r --name other; ovsns cut h1 from h2",
            FAR,
            "h2",
            &["`h2`'s packet filter has a cut in it: `cut1`\n", "heal --lab w cut1\n"],
        ),
        broken(
            "ip -n @h1 route del default via 10.0.1.254",
            FAR,
            "h1",
            &["`h1` has no route to 10.0.2.2"],
        ),
        broken(
            "ip -n @h2 route del default via 10.0.2.254",
            FAR,
            "h2",
            &["the answer dies", "`h2` has no route back to 10.0.1.1"],
        ),
        broken(
            // What mended the last two stays otherwise.
            "ip -n @h1 route del 10.0.2.0/24; ip -n @h2 route del 10.0.1.0/24;
             ip -n @h1 route replace default via 10.0.1.99 proto 111",
            FAR,
            "h1",
            &["the router 10.0.1.99, and no node of the lab has that"],
        ),
        broken(
            "ip -n @r route add blackhole 10.0.2.2/32",
            FAR,
            "r",
            &["a route of `r` stops it: `blackhole 10.0.2.2/32`"],
        ),
        broken(
            "ip -n @h1 route add prohibit 10.0.1.3/32",
            NEAR,
            "h1",
            &["a route of `h1` stops it: `prohibit 10.0.1.3/32`"],
        ),
        broken(
            "ip netns exec @r sysctl -qw net.ipv4.ip_forward=0",
            FAR,
            "r",
            &["`r` does not forward (`net.ipv4.ip_forward`"],
        ),
        broken(
            "ip netns exec @r sysctl -qw net.ipv6.conf.all.forwarding=0",
            "h1 h2 --ipv6",
            "r",
            &["`r` does not forward (`net.ipv6.conf.all.forwarding`"],
        ),
        broken(
            "ip netns exec @h3 sysctl -qw net.ipv4.icmp_echo_ignore_all=1",
            NEAR,
            "h3",
            &["`h3` is told not to answer pings"],
        ),
        broken(
            "ip -n @h1 neigh replace 10.0.1.3 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
            NEAR,
            "h3",
            &["`h1` believes that 10.0.1.3 is at 02:00:00:00:00:99"],
        ),
        broken(
            "ip -n @h3 link set eth0 arp off; ip -n @h1 neigh flush dev eth0",
            NEAR,
            "h3",
            &["`h3:eth0` does not answer who has 10.0.1.3 (`arp off`)"],
        ),
        broken(
            "ip -n @h3 addr add 10.0.1.3/31 dev eth0; ip -n @h3 addr del 10.0.1.3/24 dev eth0;
             ip -n @h1 neigh flush dev eth0",
            NEAR,
            "h3",
            &["its own network is 10.0.1.3/31", "`h1` has 10.0.1.1/24"],
        ),
        broken(
            "ip -n @h3 link set eth0 mtu 1400",
            NEAR,
            "link h3:eth0",
            &["what is large dies", "those of 1500 bytes do not: `h3:eth0` has an MTU of 1400"],
        ),
        broken(
            // Somebody else has had the address when it was tried for duplicates.
            "ip -n @r addr add fd01::3/64 dev eth0 nodad
             ip -n @h3 addr del fd01::3/64 dev eth0
             ip -n @h3 addr add fd01::3/64 dev eth0
             for n in $(seq 100); do
                 ip -n @h3 addr show dadfailed | grep -q fd01::3 && break
                 sleep 0.05
             done
             ip -n @r addr del fd01::3/64 dev eth0; ip -n @h1 neigh flush dev eth0",
            "h1 h3 --ipv6",
            "h3",
            &["`h3:eth0` does not use fd01::3: somebody else has it (duplicate address)"],
        ),
        Broken {
            by: "ip netns exec @r sysctl -qw net.ipv4.conf.all.rp_filter=1
                 ip -n @r route add 10.0.1.1/32 dev eth1",
            asked: FAR,
            at: "r",
            says: &["`r` drops it (`rp_filter`): it comes in by `eth0`"],
            mended_by: Some(
                "ip netns exec @r sysctl -qw net.ipv4.conf.all.rp_filter=0
                 ip -n @r route del 10.0.1.1/32",
            ),
        },
        broken(
            "ip netns del @h3; ip -n @h1 neigh flush dev eth0",
            NEAR,
            "h1",
            &["the namespace of `h3`, `w.h3`, is gone"],
        ),
    ];
    for row in &rows {
        check(world, row);
    }
    Ok(())
}

/// h1 -- s1 -- r -- s2 -- h2
pub(crate) fn filters_and_queues_that_drop(world: &World) -> Verdict {
    world.needs("nft")?;
    world.needs("tc")?;
    lab(world);
    let chain = |hook: &str, policy: &str| {
        format!(
            "add table inet f; add chain inet f c {{ type filter hook {hook} priority 0; policy {policy}; }}"
        )
    };
    let in_node = |node: &str, rules: &str| -> &'static str {
        format!("ip netns exec @{node} nft '{rules}'").leak()
    };
    let drops = |node: &str, hook: &str, rule: &str| {
        in_node(node, &format!("{}; add rule inet f c {rule}", chain(hook, "accept")))
    };
    let rows = [
        broken(
            drops("h2", "input", "icmp type echo-request drop"),
            FAR,
            "h2",
            &["a rule of `h2`'s packet filter drops it, in `inet f c`", "echo-request drop"],
        ),
        broken(
            drops("r", "forward", "ip daddr 10.0.2.2 counter drop"),
            FAR,
            "r",
            &["a rule of `r`'s packet filter drops it", "ip daddr 10.0.2.2"],
        ),
        broken(
            drops("h1", "output", "ip daddr 10.0.1.3 drop"),
            NEAR,
            "h1",
            &["a rule of `h1`'s packet filter drops it"],
        ),
        broken(
            in_node("h3", &chain("input", "drop")),
            NEAR,
            "h3",
            &["`inet f c` has the policy `drop`"],
        ),
        broken(
            "tc -n @h1 qdisc replace dev eth0 root tbf rate 8kbit burst 10 limit 10",
            NEAR,
            "h1",
            &["`h1:eth0` lets through 8 kbit/s"],
        ),
    ];
    for row in &rows {
        check(world, row);
        world.sh("for n in h1 h2 h3 r; do ip netns exec w.$n nft flush ruleset; done");
    }
    Ok(())
}

/// h1 -- s1 -- h3
pub(crate) fn bridges_that_keep_frames(world: &World) -> Verdict {
    world.needs("bridge")?;
    lab(world);
    let rows = [
        broken(
            "bridge link set dev %h1:eth0 isolated on; bridge link set dev %h3:eth0 isolated on",
            NEAR,
            "switch s1",
            &["are isolated"],
        ),
        broken("ip link set %s1 down", NEAR, "switch s1", &["is down"]),
        broken("ip link set %h3:eth0 nomaster", NEAR, "switch s1", &["is not plugged into switch"]),
        broken("bridge link set dev %h3:eth0 state 0", NEAR, "switch s1", &["is disabled"]),
        broken(
            "m=$(ip -n @h3 -j link show eth0 | sed 's/.*\"address\":\"\\([^\"]*\\).*/\\1/');
             bridge fdb replace $m dev %r:eth0 master static sticky",
            NEAR,
            "switch s1",
            &["somebody entered for good"],
        ),
    ];
    for row in &rows {
        check(world, row);
    }
    Ok(())
}

/// h1 -- s1 -- h3
pub(crate) fn open_vswitches_that_keep_frames(world: &World) -> Verdict {
    lab(world);
    let rows = [
        broken(
            "ovs-ofctl add-flow %s1 priority=100,icmp,actions=drop",
            NEAR,
            "switch s1",
            &["a flow of switch `s1` drops it: `priority=100,icmp"],
        ),
        broken("ovs-ofctl del-flows %s1", NEAR, "switch s1", &["no flow of switch `s1` is for it"]),
        broken(
            "ovs-vsctl set Port %h1:eth0 protected=true -- set Port %h3:eth0 protected=true",
            NEAR,
            "switch s1",
            &["are isolated"],
        ),
        broken("ovs-vsctl del-port %h3:eth0", NEAR, "switch s1", &["is not plugged into switch"]),
    ];
    for row in &rows {
        check(world, row);
    }
    Ok(())
}

/// h1 -- s1 -- h3, and a port that somebody listens at
pub(crate) fn ports_that_do_not_answer(world: &World) -> Verdict {
    lab(world);
    let asked = "h1 h3 --ipv4 --port 80/tcp";
    why(world, asked).code(1).says("nobody in `h3` listens at TCP port 80");
    // Also where h3 has to ask who it is that it refuses.
    for _ in 0..3 {
        world.ovsns("link down h3 s1").ok();
        world.ovsns("link up h3 s1").ok();
        let told = why(world, "h1 h3 --ipv4 --port 53/udp").code(1);
        told.says("it arrives, and h3 refuses it").says("nobody in `h3` listens at UDP port 53");
    }
    let listen = |at: &str| {
        let code = format!(
            "import socket,time; s=socket.socket(); s.setsockopt(1,2,1); s.bind(('{at}',80)); \
             s.listen(); print('listens',flush=True); time.sleep(1000)"
        );
        let mut command = Command::new("ip");
        command.args(["netns", "exec", "w.h3", "python3", "-c", &code]);
        let mut running = world.start_command(&mut command);
        running.line_with("listens");
        running
    };
    let local = listen("127.0.0.1");
    why(world, asked).code(1).says("127.0.0.1:80 alone, and not at 10.0.1.3");
    drop(local);
    let _all = listen("0.0.0.0");
    until("the port is free again and taken", || why(world, asked).status.code() == Some(0));
    why(world, asked).code(0).says("the connection is made");
    Ok(())
}

/// What is healthy is said to be.
pub(crate) fn all_is_well_where_it_is(world: &World) -> Verdict {
    lab(world);
    let before = world.inventory();
    for asked in ["h1 h3", "h3 h1", "h1 h2", "h2 h1"] {
        let told = why(world, asked).code(0);
        assert_eq!(told.stdout.matches("all is well").count(), 2, "{told}");
        assert!(!told.stdout.contains('✗'), "{told}");
    }
    assert_eq!(world.inventory().differences(&before), "");
    world.ovsns("down w").ok();
    for (shape, asked) in [("single,2", "h1 h2"), ("linear,3", "h1 h3")] {
        world.ovsns(&format!("up --topo {shape} --backend {}", world.backend())).ok();
        world.settled();
        why(world, asked).code(0).says("all is well");
        let json = why(world, &format!("{asked} --json")).code(0).json();
        assert_eq!(json[0]["well"], true, "{json:#}");
        world.ovsns("down").ok();
    }
    Ok(())
}
