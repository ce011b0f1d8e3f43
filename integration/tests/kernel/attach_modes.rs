//! NICs of the machine in nodes, without a switch: children of one (macvlan),
//! and the NIC itself. In the end the host is what it was, to the letter.
//!
//! The world itself is the host (`world::lan`): `router:lan0 -- eth0`.

use world::lan::{MAC, ROUTER};
use world::{Tool, Verdict, World, until};

use crate::attach::{Host, STEPS, host, kill_watchdogs, killed_at, watchdogs};

/// Two nodes with children of `eth0`, of a kind.
fn children(kind: &str) -> String {
    let link = |node: &str| format!("- {{ endpoints: [{node}:eth0, macvlan:eth0], mode: {kind} }}");
    let node = |node: &str, last: u32| {
        let addresses = format!("[198.18.6.{last}/24, 'fd00:6::{last}/64']");
        let routes = "[{ to: default, via: 198.18.6.254 }]";
        format!(
            "{node}: {{ interfaces: {{ eth0: {{ addresses: {addresses} }} }}, routes: {routes} }}"
        )
    };
    format!(
        "name: m\nnodes:\n  {}\n  {}\nlinks:\n  {}\n  {}\n",
        node("a", 11),
        node("b", 12),
        link("a"),
        link("b")
    )
}

/// Of a NIC in a node of which nothing is remembered its mark tells the name, and the
/// node whether it is up; so it goes home, and whoever is at its other end sees that.
///
/// somebody:far -- nic
pub(crate) fn a_forgotten_nic_goes_home_as_up_as_it_is(world: &World) -> Verdict {
    world.sh("
        ip netns add somebody
        ip link add nic type veth peer name far netns somebody
        ip -n somebody link set far up
    ");
    let is_up = |world: &World| world.link("", "nic").expect("it is home")["flags"].clone();
    for how in ["up", "down"] {
        for typed in ["down m", "gc", "up -"] {
            world.run("ip link set nic up");
            world.ovsns("node add c --lab m").ok();
            world.ovsns("attach nic --mode move --node c --lab m").ok();
            world.run(&format!("ip -n m.c link set eth0 {how}"));
            std::fs::remove_dir_all("/run/ovsns").expect("it was there");
            match typed {
                "up -" => {
                    world.file("m.yaml", "name: m\nnodes: { a: {} }\n");
                    world.ovsns("up m.yaml").ok();
                    world.ovsns("down m").ok();
                }
                typed => drop(world.ovsns(typed).ok()),
            }
            let flags = is_up(world);
            let flags = flags.as_array().expect("flags");
            assert_eq!(flags.iter().any(|it| it == "UP"), how == "up", "{typed}: {flags:?}");
        }
    }
    Ok(())
}

/// router:lan0 -- eth0 ~ a, b
pub(crate) fn macvlans_of_one_nic_hear_each_other(world: &World) -> Verdict {
    let before = host(world)?;
    world.file("m.yaml", &children("bridge"));
    world.ovsns("up m.yaml").ok().says("do not hear each other");
    for to in ["198.18.6.254", "fd00:6::fe", "198.18.6.12", "fd00:6::12", "203.0.113.1"] {
        world.pings("m.a", to);
    }
    // What everybody says of macvlans, and what we tell of beforehand.
    world.silence("m.a", "198.18.6.1");
    world.pings(ROUTER, "198.18.6.1");
    assert_eq!(world.setting("m.a", "eth0", "linkinfo.info_data.mode"), "bridge");
    assert_eq!(world.setting("m.a", "eth0", "ifalias"), "ovsns lab=m interface=a:eth0");
    assert_eq!(world.addresses("", "eth0").len(), 7, "the machine keeps all of its own");
    // A second time there is nothing to do, and it is not done.
    world.settled();
    let up = world.inventory();
    world.ovsns("up m.yaml").ok().says("nothing to change");
    world.ovsns("plan m.yaml").ok().says("nothing to change");
    world.inventory().must_equal(&up);
    let status = world.ovsns("status m").ok().says("macvlan:eth0");
    assert!(!status.stdout.contains("drift"), "{status}");
    // What others do to one shows, and is mended.
    world.run("ip -n m.a link del eth0");
    world.run("ip -n m.b link set eth0 mtu 1400 down");
    let status = world.ovsns("status m").ok().says("+ link a:eth0 (bridge macvlan of NIC eth0)");
    assert!(!status.stdout.contains("+ link b:eth0"), "{status}");
    status.says("~ b:eth0 up");
    world.ovsns("up m.yaml").ok();
    world.pings("m.a", "198.18.6.12");
    world.ovsns("status m").ok().says("lab m: up");
    // Another MTU, and one that the NIC does not have.
    world.ovsns("link set a macvlan:eth0 --mtu 1300").ok().says("mtu 1300");
    assert_eq!(world.setting("m.a", "eth0", "mtu"), 1300);
    world.ovsns("link set a macvlan:eth0 --mtu 9000").code(1);
    assert_eq!(world.setting("m.a", "eth0", "mtu"), 1300);
    // Of another kind it is another.
    world.file("m.yaml", &children("vepa"));
    world.ovsns("up m.yaml").ok();
    assert_eq!(world.setting("m.b", "eth0", "linkinfo.info_data.mode"), "vepa");
    world.ovsns("up m.yaml").ok().says("nothing to change");
    world.ovsns("down m").ok();
    Host::look(world).must_be(&before);
    Ok(())
}

/// router:lan0 -- eth0 ~ a, b
pub(crate) fn private_macvlans_do_not_hear_each_other(world: &World) -> Verdict {
    let before = host(world)?;
    world.file("m.yaml", &children("private"));
    world.ovsns("up m.yaml").ok();
    for node in ["m.a", "m.b"] {
        world.pings(node, "198.18.6.254");
    }
    world.silence("m.a", "198.18.6.12");
    // Not even by a switch that sends back what it got.
    hairpin(world);
    world.pings("m.a", "198.18.6.254");
    world.silence("m.a", "198.18.6.12");
    world.run("ip -n router link del br9");
    world.ovsns("down m").ok();
    Host::look(world).must_be(&before);
    Ok(())
}

/// router:lan0 -- eth0 ~ a, b
pub(crate) fn vepa_macvlans_hear_what_the_switch_sends_back(world: &World) -> Verdict {
    let before = host(world)?;
    world.file("m.yaml", &children("vepa"));
    world.ovsns("up m.yaml").ok();
    world.silence("m.a", "198.18.6.12");
    hairpin(world);
    world.pings("m.a", "198.18.6.12");
    world.run("ip -n router link del br9");
    world.ovsns("detach eth0").ok().says("no macvlan of eth0 any more");
    world.ovsns("down m").ok();
    Host::look(world).must_be(&before);
    Ok(())
}

/// Makes the router a switch that sends frames back to where they came from.
fn hairpin(world: &World) {
    world.sh("
        ip -n router link add br9 type bridge mcast_snooping 0
        ip -n router link set lan0 master br9
        bridge -n router link set dev lan0 hairpin on
        ip -n router addr add 198.18.6.254/24 dev br9
        ip -n router link set br9 up
    ");
}

/// router:lan1 -- eth1 ~ a
pub(crate) fn a_passthru_macvlan_is_alone(world: &World) -> Verdict {
    let before = host(world)?;
    second_nic(world);
    let two = world.inventory();
    let attach = "attach eth1 --mode macvlan --macvlan passthru --address 198.18.60.2/24 --node";
    world.ovsns(&format!("{attach} a")).ok().says("a passthru macvlan of eth1");
    world.pings("default.a", "198.18.60.254");
    // It has the NIC's own address, and the NIC keeps it.
    assert_eq!(world.setting("default.a", "eth0", "address"), "02:00:5e:00:53:02");
    world.ovsns(&format!("{attach} a")).ok().says("nothing to change");
    world.ovsns(&format!("{attach} b")).code(2).says("a NIC has one use");
    world.file(
        "other.yaml",
        "name: other\nnodes: { c: {} }\nlinks: [{ endpoints: [c, macvlan:eth1] }]",
    );
    world.ovsns("up other.yaml").code(2).says("`default.a:eth0` has all of `eth1`");
    world.ovsns("attach eth1 --lab other").code(2);
    world.ovsns("down").ok();
    world.inventory().must_equal(&two);
    world.run("ip link del eth1");
    // Where the machine has addresses it would be cut off.
    world
        .ovsns("attach eth0 --mode macvlan --macvlan passthru --node a")
        .code(2)
        .says("beside a passthru macvlan it hears nothing");
    Host::look(world).must_be(&before);
    Ok(())
}

/// A NIC on which nothing of the machine's hangs.
fn second_nic(world: &World) {
    world.sh("
        ip link add eth1 address 02:00:5e:00:53:02 type veth peer name lan1 netns router
        ip -n router addr add 198.18.60.254/24 dev lan1
        ip -n router link set lan1 up
        ip link set eth1 up
    ");
    world.settled();
}

/// router:lan0 -- eth0, with more in the way each time
pub(crate) fn what_stands_in_the_way_is_refused(world: &World) -> Verdict {
    let before = host(world)?;
    second_nic(world);
    let refused = |words: &str, says: &str| {
        let at = world.inventory();
        world.ovsns(words).code(2).says(says);
        world.inventory().must_equal(&at);
    };
    for mode in ["macvlan", "move"] {
        let attach = |nic: &str| format!("attach {nic} --mode {mode} --node n1");
        refused(&attach("eth7"), "there is no device `eth7`");
        refused(&attach("lo"), "`lo` is a name that the kernel uses itself");
        refused(&format!("attach eth1 --mode {mode}"), "--node");
        world.sh("ip link add br9 type bridge; ip link set eth1 master br9");
        refused(&attach("eth1"), "`eth1` is a port of `br9`");
        world.sh("ip link del br9; ip tuntap add t9 mode tun");
        refused(&attach("t9"), "is no Ethernet device");
        world.sh("ip link del t9; ip link add m9 link eth1 type macvlan");
        refused(&attach("m9"), "shares another NIC's frames itself");
        world.sh("ip link del m9");
        // A port of a switch of ours, in the same lab and in another.
        world.ovsns("attach eth1 --backend linux").ok();
        refused(&attach("eth1"), "a NIC has one use");
        refused(&format!("{} --lab default", attach("eth1")), "is a port of a switch");
        world.file(
            "o.yaml",
            "name: o\nnodes: { n: {} }\nlinks: [{ endpoints: [n, 'macvlan:eth1'] }]",
        );
        refused("up o.yaml", "`eth1` is attached to lab `default`");
        world.ovsns("detach eth1").ok();
    }
    world.sh("ip link add m9 link eth1 type macvlan");
    refused("attach eth1 --mode move --node n1", "macvlan `m9` sits on `eth1`");
    world.sh("ip link del m9; ip netns add x; ip link add m9 netns x link eth1 type macvlan");
    refused("attach eth1 --mode move --node n1", "macvlan `x:m9` sits on `eth1`");
    // Which Open vSwitch in userspace would have taken for its own.
    refused("attach eth1 --backend linux", "macvlan `x:m9` sits on `eth1`");
    world.sh("ip netns del x");
    until("the macvlan has gone with its namespace", || {
        world.attempt("ip netns exec router ping -n -c 1 -W 1 198.18.60.254").status.success()
            && world.attempt("ip link show m9").status.code() != Some(0)
    });
    refused("attach eth1 --node n1", "`--node` is for the modes");
    world.file(
        "v.yaml",
        "name: v\nnodes: { n: {} }\nlinks: [{ endpoints: [n, 'macvlan:eth1'], mtu: 9000 }]",
    );
    refused("up v.yaml", "would have an MTU of 9000");
    // The connection by which it was typed.
    let ssh = |force: &str| {
        let connection = "SSH_CONNECTION='198.18.6.254 4000 198.18.6.1 22'";
        let words = format!("attach eth0 --mode move --node n1 {force}");
        world.sh(&format!(
            "{connection} {} {words} 2>&1 || echo ended with $?",
            world.binary().display()
        ))
    };
    ssh("").says("ended with 2").says("the ssh connection of this command").says("--mode bridge");
    assert_eq!(world.addresses("", "eth0").len(), 7);
    ssh("--force").says("eth0 is in node default/n1");
    world.ovsns("down").ok();
    world.run("ip link del eth1");
    Host::look(world).must_be(&before);
    Ok(())
}

const MOVE: &str = "attach eth0 --mode move --node n1 --address 198.18.6.9/24";

/// router:lan0 -- eth0, then router:lan0 -- n1:eth0
pub(crate) fn into_a_node_and_home(world: &World) -> Verdict {
    let before = host(world)?;
    world.ovsns(&format!("{MOVE} --dry-run")).ok().says("> NIC eth0 into node n1 (as n1:eth0)");
    Host::look(world).must_be(&before);
    world.ovsns(MOVE).ok().says("eth0 is in node default/n1");
    world.pings("default.n1", "198.18.6.254");
    assert!(world.attempt("ip link show eth0").status.code() != Some(0));
    assert_eq!(world.setting("default.n1", "eth0", "address"), MAC);
    world.settled();
    let away = world.inventory();
    world.ovsns(MOVE).ok().says("nothing to change");
    world.inventory().must_equal(&away);
    let status = world.ovsns("status default").ok().says("nic:eth0");
    assert!(!status.stdout.contains("drift"), "{status}");
    // What others change in the node is mended like any interface's.
    world.run("ip -n default.n1 addr del 198.18.6.9/24 dev eth0");
    world.ovsns("status default").ok().says("+ address 198.18.6.9/24 on n1:eth0");
    world.ovsns(MOVE).ok();
    world.pings("default.n1", "198.18.6.254");
    world.ovsns("detach eth0").ok().says("eth0 is home");
    world.pings(ROUTER, "198.18.6.1");
    world.ovsns("down").ok();
    Host::look(world).must_be(&before);
    // By the node's end, and by the lab's.
    world.ovsns(MOVE).ok();
    world.ovsns("node rm n1").ok().says("< NIC eth0 home from node n1");
    world.ovsns("down").ok();
    Host::look(world).must_be(&before);
    world.ovsns(MOVE).ok();
    world.ovsns("down").ok();
    Host::look(world).must_be(&before);
    Ok(())
}

/// router:lan0 -- eth0, from a file, with another name, MTU and MAC address
pub(crate) fn a_moved_nic_may_be_another_meanwhile(world: &World) -> Verdict {
    let before = host(world)?;
    world.file(
        "up.yaml",
        "name: up\nnodes: { n1: { interfaces: { wan: { addresses: [198.18.6.9/24], \
         mac: '02:00:5e:00:53:99' } }, routes: [{ to: default, via: 198.18.6.254 }] } }\n\
         links: [{ endpoints: [n1:wan, nic:eth0], mtu: 1400 }]\n",
    );
    world.file(
        "same.yaml",
        "name: up\nnodes: { n1: { interfaces: { wan: { addresses: [198.18.6.9/24], \
         mac: '02:00:5e:00:53:99' } }, routes: [{ to: default, via: 198.18.6.254 }] } }\n\
         uplinks: { eth0: { mode: move, node: n1:wan } }\n",
    );
    world.file("without.yaml", "name: up\nnodes: { n1: {} }\n");
    world.ovsns("up up.yaml").ok();
    world.pings("up.n1", "203.0.113.1");
    assert_eq!(world.setting("up.n1", "wan", "mtu"), 1400);
    assert_eq!(world.setting("up.n1", "wan", "address"), "02:00:5e:00:53:99");
    world.settled();
    let up = world.inventory();
    world.ovsns("up up.yaml").ok().says("nothing to change");
    // The same said in the other place, but for the MTU, which then stays.
    world.ovsns("up same.yaml").ok();
    world.ovsns("up up.yaml").ok();
    world.inventory().must_equal(&up);
    world.ovsns("up without.yaml").ok();
    world.pings(ROUTER, "198.18.6.1");
    world.ovsns("down up").ok();
    Host::look(world).must_be(&before);
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn moving_has_to_be_confirmed(world: &World) -> Verdict {
    let before = host(world)?;
    world.ovsns(&format!("{MOVE} --confirm 60")).ok().says("unless you say `ovsns confirm");
    world.ovsns("confirm").ok().says("eth0 stays attached");
    until("the watchdog goes", || watchdogs(world).is_empty());
    world.pings("default.n1", "198.18.6.254");
    world.ovsns("down").ok();
    world.ovsns(&format!("{MOVE} --confirm 2")).ok();
    world.ovsns("list").ok();
    world.pings("default.n1", "198.18.6.254");
    until("the watchdog has taken it back", || watchdogs(world).is_empty());
    Host::look(world).must_be(&before);
    // Nor if the watchdog is killed: then the next command does it.
    world.ovsns(&format!("{MOVE} --confirm 60")).ok();
    kill_watchdogs(world);
    world.ovsns("list").ok().says("eth0` is home again");
    Host::look(world).must_be(&before);
    Ok(())
}

/// router:lan0 -- eth0, and the node's name is deleted while somebody is in it
pub(crate) fn a_node_deleted_by_others_gives_its_nic_back(world: &World) -> Verdict {
    let before = host(world)?;
    world.ovsns(MOVE).ok();
    let mut inside = world.tool("default.n1", Tool::Echo, "0.0.0.0 4000");
    inside.line_with("ready");
    world.run("ip netns del default.n1");
    world.ovsns("list").ok().says("somebody deleted node `n1`; `eth0` is home again");
    drop(inside);
    world.pings(ROUTER, "198.18.6.1");
    world.ovsns("status default").ok().says("> NIC eth0 into node n1");
    world.ovsns("down").ok();
    Host::look(world).must_be(&before);
    Ok(())
}

/// router:lan0 -- eth0, and all that was written down is lost
pub(crate) fn a_nic_outlives_its_node_with_every_state_file_lost(world: &World) -> Verdict {
    world.lan()?;
    world.ovsns(MOVE).ok();
    world.sh("rm -r /run/ovsns");
    world.ovsns("down default").ok();
    assert_eq!(world.setting("", "eth0", "address"), MAC);
    assert!(world.namespaces().iter().all(|name| name == ROUTER));
    Ok(())
}

/// Kills `words` before every call that changes something, as `attach` does.
fn killed(world: &World, words: &str, all: bool, set_up: &dyn Fn(), before: &Host) -> u32 {
    let mut points = 0;
    for call in STEPS {
        for step in 1.. {
            set_up();
            let (_, killed) = killed_at(world, call, step, words, all);
            if killed {
                println!("killed before {call} {step}");
            }
            if all {
                until("nobody is at it", || watchdogs(world).is_empty());
                world.ovsns("list").ok();
            }
            until("the watchdog has done its work", || watchdogs(world).is_empty());
            let state = std::fs::read_to_string("/run/ovsns/labs/default/attached.json");
            if let Ok(state) = state {
                // Before the first change of `detach`, or after the last of
                // `attach`; else the NIC is home by now.
                assert!(state.contains("\"change\":null"), "{state}");
                world.ovsns("detach eth0").ok();
            }
            let down = world.ovsns("down default");
            assert!(matches!(down.status.code(), Some(0 | 2)), "{down}");
            Host::look(world).must_be(before);
            if !killed {
                points += step - 1;
                break;
            }
        }
    }
    points
}

fn killed_everywhere(world: &World, all: bool) -> Verdict {
    world.needs("strace")?;
    let before = host(world)?;
    let attached = killed(world, MOVE, all, &|| {}, &before);
    let set_up = || drop(world.ovsns(MOVE).ok());
    let detached = killed(world, "detach eth0", all, &set_up, &before);
    println!("{attached} points of attach and {detached} of detach");
    assert!(30 < attached && 20 < detached, "{attached} and {detached}");
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn moving_is_killed_at_every_request(world: &World) -> Verdict {
    killed_everywhere(world, false)
}

/// router:lan0 -- eth0, and the watchdog is killed, too
pub(crate) fn moving_and_its_watchdog_are_killed_at_every_request(world: &World) -> Verdict {
    killed_everywhere(world, true)
}
