//! A NIC of the machine into a switch, and home again: the host is reachable
//! throughout, and in the end what it was, to the letter.
//!
//! The world itself is the host (`world::lan`): `router:lan0 -- eth0`.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use world::{Finished, Inventory, Verdict, World, until};

/// What changes the kernel, the switch or our own files.
pub(crate) const STEPS: [&str; 7] =
    ["sendto", "sendmsg", "write", "unlink", "rename", "mkdir", "rmdir"];

/// What a host may have beside what `World::lan` gives it.
const MORE: &str = "
    ip nexthop add id 5 via 198.18.6.254 dev eth0
    ip route add 198.51.101.0/24 nhid 5
    ip rule add iif eth0 lookup 78 pref 1078
    ip -6 rule add iif eth0 lookup 78 pref 1078
    ip rule add from 198.18.9.9 lookup 79 pref 1078
    ip -6 route add 2001:db8:77::/48 via fd00:7::fe table 78 mtu 1400
    ip -6 route add 2001:db8:51::/48 nexthop via fd00:6::fe nexthop via fd00:7::fe
    ip route add blackhole 192.0.2.128/25
    ip -n router addr add 198.18.8.254/24 dev lan0
    ip -n router addr add fd00:8::fe/64 dev lan0 nodad
    ip addr add 198.18.8.1/24 dev eth0 label eth0:web
    ip addr add 198.18.6.77/24 dev eth0 valid_lft 3600 preferred_lft 1800
    ip addr add fd00:8::1/64 dev eth0 nodad valid_lft 3600 preferred_lft 1800 metric 77
    ip neigh add proxy 198.18.6.99 dev lo
    sysctl -qw net.ipv4.conf.eth0.arp_announce=2 net.ipv6.conf.eth0.accept_ra=0
    ip link property add dev eth0 altname uplink-one
    ip link set dev eth0 alias 'to the router'
";

/// All there is, and the neighbours that stay.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Host {
    all: Inventory,
    more: Vec<String>,
}

impl Host {
    pub(crate) fn look(world: &World) -> Self {
        let mut more = Vec::new();
        for line in [
            "neigh show nud permanent",
            "neigh show proxy",
            "nexthop show",
            "-d link show dev eth0",
        ] {
            more.push(world.run(&format!("ip {line}")).stdout);
        }
        for family in ["ipv4", "ipv6"] {
            let mut places: Vec<_> = std::fs::read_dir(format!("/proc/sys/net/{family}/conf/eth0"))
                .expect("parameters of eth0")
                .map(|entry| entry.expect("readable").path())
                .collect();
            places.sort();
            for place in places {
                // Some can be read only when they were set.
                let value = std::fs::read_to_string(&place).unwrap_or_default();
                more.push(format!("{} {}", place.display(), value.trim()));
            }
        }
        Self { all: world.inventory(), more }
    }

    #[track_caller]
    pub(crate) fn must_be(&self, before: &Self) {
        self.all.must_equal(&before.all);
        for (now, before) in self.more.iter().zip(&before.more) {
            assert_eq!(now, before, "(left: now)");
        }
    }
}

/// Makes the world a host, with all that a host may have.
pub(crate) fn host(world: &World) -> Result<Host, world::Skip> {
    world.lan()?;
    world.sh(MORE);
    world.settled();
    Ok(Host::look(world))
}

/// Where addresses of the host are now.
fn addresses(world: &World, device: &str) -> Vec<String> {
    world.addresses("", device)
}

/// The local device of the switch that was made for `eth0`.
fn local(world: &World) -> String {
    let links = world.json("ip -j link show");
    let mark = |link: &&Value| link["ifalias"] == "ovsns lab=default switch=eth0";
    let link = links.as_array().expect("links").iter().find(mark).expect("a switch `eth0`");
    link["ifname"].as_str().expect("a name").to_owned()
}

#[track_caller]
fn answers(world: &World) {
    for address in ["198.18.6.1", "198.18.7.1", "fd00:6::1", "fd00:7::1"] {
        world.pings(world::lan::ROUTER, address);
    }
}

/// Attached and detached while others talk to the host.
fn there_and_back(world: &World, backend: &str) -> Verdict {
    let before = host(world)?;
    let talk = world.talk();
    world.ovsns(&format!("attach eth0 --backend {backend}")).ok().says("eth0 is attached");
    let toll = talk.end();
    println!("attach: {toll:?}");
    // What is measured is the bench's business; here nobody is cut off, not
    // even for the second after which a neighbour is asked for again.
    assert!(toll.gap_ms.is_some_and(|gap| gap < 900.0), "{toll:?}");

    let local = local(world);
    assert!(addresses(world, "eth0").is_empty());
    assert_eq!(addresses(world, &local).len(), 7);
    assert_eq!(world.setting("", &local, "address"), world::lan::MAC);
    let by_eth0 = world.run("ip route show table all dev eth0").stdout
        + &world.run("ip -6 route show table all dev eth0").stdout;
    let left: Vec<_> = by_eth0.lines().filter(|line| !line.starts_with("multicast")).collect();
    assert!(left.is_empty(), "{left:?}");
    for words in ["route show table 77", "-6 route show table 77", "route show 192.0.2.0/24"] {
        assert!(world.run(&format!("ip {words}")).stdout.contains(&local), "{words}");
    }
    world.run("ip rule").says(&format!("from all iif {local} lookup 78"));
    answers(world);
    // Nothing to do a second time, and nothing amiss.
    world.ovsns("attach eth0").ok().says("nothing to change");
    let status = world.ovsns("status default").ok();
    assert!(!status.stdout.contains("drift"), "{status}");

    let talk = world.talk();
    world.ovsns("detach eth0").ok().says("eth0 is home");
    let toll = talk.end();
    println!("detach: {toll:?}");
    assert!(toll.gap_ms.is_some_and(|gap| gap < 900.0), "{toll:?}");
    Host::look(world).must_be(&before);
    answers(world);
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn into_a_bridge_and_home(world: &World) -> Verdict {
    there_and_back(world, "linux")
}

/// router:lan0 -- eth0
pub(crate) fn into_our_open_vswitch_and_home(world: &World) -> Verdict {
    world.needs("ovs-vswitchd")?;
    there_and_back(world, "ovs")
}

/// router:lan0 -- eth0
pub(crate) fn into_the_machines_open_vswitch_and_home(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    there_and_back(world, "ovs")
}

/// The machine is started again, and its Open vSwitch takes the NIC into a
/// bridge as before; what is below /run is gone, and the host's addresses are
/// on the NIC, as they always are after a start.
///
/// router:lan0 -- eth0
pub(crate) fn a_reboot_takes_the_nic_off_again(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    world.needs("nft")?;
    world.lan()?;
    world.ovsns("attach eth0 --backend ovs").ok();
    let local = local(world);
    world.sh("echo 01234567-89ab-cdef-0123-456789abcdef >boot_id
        mount --bind boot_id /proc/sys/kernel/random/boot_id
        rm -r /run/ovsns
        nft flush ruleset");
    world.run(&format!("ip link set {local} down"));
    world.run(&format!("ip addr flush dev {local}"));
    for address in world::lan::ADDRESSES {
        world.run(&format!("ip addr add {address} dev eth0 nodad"));
    }
    assert!(world.vsctl(&format!("list-ports {local}")).contains("eth0"));

    // Whichever command is the first.
    let said = world.ovsns("list").ok();
    said.says("`eth0` was a port of switch `eth0` before this machine was started");
    assert_eq!(world.vsctl(&format!("list-ports {local}")).trim(), "");
    answers(world);
    let again = world.ovsns("list").ok();
    assert!(!again.stderr.contains("before this machine"), "{again}");
    // And what is left is a lab like any other whose file is lost.
    world.ovsns("attach eth0 --backend ovs").code(2).says("not remembered any more");
    world.ovsns("gc").ok().says("removed lab default");
    world.ovsns("attach eth0 --backend ovs").ok();
    world.ovsns("detach eth0").ok();
    assert_eq!(addresses(world, "eth0").len(), 4);
    answers(world);
    Ok(())
}

/// router:lan0 -- eth0, and what was written down is lost
fn forgotten(world: &World, backend: &str) -> Verdict {
    // Whether an address was tried for duplicates once, nobody knows any more.
    let look = || {
        let lines =
            ["addr show dev eth0", "route show table all", "rule", "neigh show nud permanent"];
        let show = |line| {
            let left = "s/_lft [0-9]*sec/_lft some/g; s/expires [0-9]*sec/expires some/g";
            let family = |v| world.sh(&format!("ip {v} -o {line} | sed '{left}'")).stdout;
            (family("-4") + &family("-6")).replace(" nodad", "")
        };
        lines.map(show)
    };
    host(world)?;
    let before = look();
    for way_home in ["detach eth0", "down --all", "gc"] {
        world.ovsns(&format!("attach eth0 --backend {backend}")).ok();
        world.run("rm -r /run/ovsns/labs");
        answers(world);
        assert!(addresses(world, "eth0").is_empty());
        world.ovsns("status default").ok().says("its state is lost").says("NIC eth0");
        world.ovsns(way_home).ok();
        answers(world);
        assert_eq!(world.ovsns("list --json").ok().json(), Value::Array(Vec::new()));
        world.settled();
        assert_eq!(look(), before, "(left: now)");
    }
    Ok(())
}

pub(crate) fn a_forgotten_nic_goes_home_from_a_bridge(world: &World) -> Verdict {
    forgotten(world, "linux")
}

pub(crate) fn a_forgotten_nic_goes_home_from_open_vswitch(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    forgotten(world, "ovs")
}

/// What came in between goes home, too.
///
/// router:lan0 -- eth0
fn changed_meanwhile(world: &World, backend: &str) -> Verdict {
    world.lan()?;
    world.ovsns(&format!("attach eth0 --backend {backend}")).ok();
    let local = local(world);
    world.sh(&format!(
        "ip addr add 198.18.6.50/24 dev {local}
         ip addr del 198.18.7.1/24 dev {local}
         ip route add 203.0.113.128/25 via 198.18.6.254
         ip route del 192.0.2.0/24
         ip neigh replace 198.18.6.201 lladdr 02:00:5e:00:53:c9 dev {local} nud permanent
         sysctl -qw net.ipv4.conf.{name}.arp_ignore=1",
        name = local.replace('.', "/"),
    ));
    world.ovsns("detach eth0").ok();
    assert_eq!(
        addresses(world, "eth0"),
        ["198.18.6.1/24", "198.18.6.50/24", "fd00:6::1/64", "fd00:7::1/64"]
    );
    world.run("ip route show 203.0.113.128/25").says("via 198.18.6.254 dev eth0");
    assert_eq!(world.run("ip route show 192.0.2.0/24").stdout, "");
    world.run("ip neigh show nud permanent").says("198.18.6.201 dev eth0");
    assert_eq!(world.run("sysctl -n net.ipv4.conf.eth0.arp_ignore").stdout.trim(), "1");
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn what_changed_meanwhile_goes_home_too(world: &World) -> Verdict {
    changed_meanwhile(world, "linux")
}

/// router:lan0 -- eth0
pub(crate) fn what_changed_meanwhile_goes_home_from_open_vswitch(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    changed_meanwhile(world, "ovs")
}

/// A lab with the NIC in a switch with a spanning tree, whose port passes
/// nothing for some seconds.
fn spanning(world: &World, backend: &str) {
    let switch = format!("s1: {{ backend: {backend}, stp: true }}");
    let file =
        format!("name: up\nswitches: {{ {switch} }}\nuplinks: {{ eth0: {{ switch: s1 }} }}\n");
    world.file("up.yaml", &file);
}

/// router:lan0 -- eth0
pub(crate) fn into_a_bridge_with_a_spanning_tree(world: &World) -> Verdict {
    let before = host(world)?;
    spanning(world, "linux");
    world.ovsns("up up.yaml").ok().says("twice the forward delay of `s1`");
    answers(world);
    world.ovsns("down up").ok();
    Host::look(world).must_be(&before);
    Ok(())
}

/// The host hears its NIC until the switch does.
///
/// router:lan0 -- eth0
pub(crate) fn into_an_open_vswitch_with_a_spanning_tree(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = host(world)?;
    spanning(world, "ovs");
    let talk = world.talk();
    let said = world.ovsns("up up.yaml").ok();
    let toll = talk.end();
    assert!(!said.stderr.contains("forward delay"), "{said}");
    assert!(toll.gap_ms.is_some_and(|gap| gap < 900.0), "{toll:?}");
    answers(world);
    world.ovsns("down up").ok();
    Host::look(world).must_be(&before);
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn the_way_to_the_ssh_client_has_to_lead_there(world: &World) -> Verdict {
    let before = host(world)?;
    let attach = || {
        let mut command = world.command();
        command.args(["attach", "eth0"]);
        command.env("SSH_CONNECTION", "203.0.113.1 5022 198.18.6.1 22").output().expect("ovsns")
    };
    let output = attach();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world.ovsns("detach eth0").ok();
    Host::look(world).must_be(&before);
    // Somebody, such as a routing daemon, has the way lead over the NIC again. He
    // may come too late, after the check.
    world.file("routing", "while :; do ip -force -batch routes 2>/dev/null; done");
    let refused = (0..10).find_map(|_| {
        let route = "route replace 203.0.113.1/32 via 198.18.6.254 dev eth0 onlink\n";
        world.file("routes", &route.repeat(100));
        let daemon = world.start("sh routing");
        let output = attach();
        drop(daemon);
        until("it is over", || !world.processes().iter().any(|(_, line)| line.contains("routes")));
        if output.status.success() {
            world.ovsns("detach eth0").ok();
        }
        (!output.status.success()).then_some(output)
    });
    let output = refused.expect("it was always too late");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the way to 203.0.113.1"), "{said}");
    world.attempt("ip route del 203.0.113.1/32");
    Host::look(world).must_be(&before);
    answers(world);
    Ok(())
}

/// n1 -- s1 -- eth0 -- router
pub(crate) fn nodes_reach_the_network(world: &World) -> Verdict {
    world.lan()?;
    let file = |uplinks: &str| {
        format!(
            "
name: up
switches: {{ s1: {{}} }}
nodes: {{ n1: {{ interfaces: {{ eth0: {{ addresses: [198.18.6.9/24, fd00:6::9/64] }} }} }} }}
links: [{{ endpoints: [n1:eth0, s1] }}]
{uplinks}"
        )
    };
    world.file("up.yaml", &file("uplinks: { eth0: { switch: s1 } }"));
    world.file("without.yaml", &file(""));
    let before = Host::look(world);
    world.ovsns("up up.yaml").ok();
    for to in ["198.18.6.254", "198.18.6.1", "fd00:6::fe", "fd00:6::1"] {
        world.pings("up.n1", to);
    }
    world.settled();
    let attached = world.inventory();
    world.ovsns("up up.yaml").ok().says("nothing to change");
    world.inventory().must_equal(&attached);
    world.ovsns("plan up.yaml").ok().says("nothing to change");
    // A NIC that the file has no more comes home; the rest stays.
    world.ovsns("up without.yaml").ok();
    world.silence("up.n1", "198.18.6.254");
    assert_eq!(addresses(world, "eth0").len(), 4);
    world.ovsns("up up.yaml").ok();
    world.pings("up.n1", "fd00:6::fe");
    world.ovsns("down up").ok();
    Host::look(world).must_be(&before);
    answers(world);
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn it_has_to_be_confirmed(world: &World) -> Verdict {
    let before = host(world)?;
    world.ovsns("confirm").code(2).says("nothing waits to be confirmed");
    // Confirmed, it stays, and the watchdog goes.
    world.ovsns("attach eth0 --confirm 60").ok().says("unless you say `ovsns confirm");
    assert_eq!(watchdogs(world).len(), 1);
    world.ovsns("confirm").ok().says("eth0 stays attached");
    until("the watchdog goes", || watchdogs(world).is_empty());
    assert!(addresses(world, "eth0").is_empty());
    world.ovsns("detach eth0").ok();
    Host::look(world).must_be(&before);
    // Not confirmed, it is taken back; and not by the end of a terminal.
    world.ovsns("attach eth0 --confirm 2").ok();
    let start = Instant::now();
    let watchdog = Pid::from_raw(i32::try_from(watchdogs(world)[0]).expect("a pid"));
    for signal in [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGINT] {
        kill(watchdog, signal).expect("it lives");
    }
    world.ovsns("list").ok();
    assert!(addresses(world, "eth0").is_empty(), "asking is not undoing");
    until("the watchdog has taken it back", || watchdogs(world).is_empty());
    assert!(Duration::from_millis(1500) < start.elapsed(), "it waited");
    Host::look(world).must_be(&before);
    world.ovsns("confirm").code(2);
    // Nor if the watchdog is killed: then the next command does it.
    world.ovsns("attach eth0 --confirm 60").ok();
    kill_watchdogs(world);
    assert!(addresses(world, "eth0").is_empty());
    world.ovsns("list").ok().says("eth0` is home again");
    Host::look(world).must_be(&before);
    Ok(())
}

/// router:lan0 -- eth0, with more in the way each time
pub(crate) fn what_stands_in_the_way_is_refused(world: &World) -> Verdict {
    let before = host(world)?;
    let refused = |nic: &str, says: &str| {
        let at = world.inventory();
        world.ovsns(&format!("attach {nic}")).code(2).says(says);
        world.inventory().must_equal(&at);
    };
    refused("eth7", "there is no device `eth7`");
    refused("lo", "`lo` is a name that the kernel uses itself");
    world.sh("ip link add br9 type bridge; ip link add v9 type veth peer name v8");
    refused("br9", "it is a bridge itself");
    world.sh("ip link set v9 master br9");
    refused("v9", "`v9` is a port of `br9` already");
    world.sh("ip link add m9 link v8 type macvlan");
    refused("v8", "macvlan `m9` sits on `v8`");
    refused("m9", "hears only those for its own address");
    world.sh("ip link del br9; ip link del v9");
    world.sh("ip tuntap add t9 mode tun");
    refused("t9", "is no Ethernet device");
    world.sh("ip link del t9");
    world.sh("ip link add v9 type veth peer name v8; ip link set v9 up; ip link set v8 up");
    for end in ["v8", "v9"] {
        until("there is carrier", || world.setting("", end, "operstate") == "UP");
    }
    world.settled();
    let one = world.inventory();
    world.ovsns("attach v9").ok();
    let two = world.inventory();
    world.ovsns("attach eth0 --switch v9").code(2).says("has `v9` already");
    world.inventory().must_equal(&two);
    world.ovsns("detach v9").ok();
    world.inventory().must_equal(&one);
    world.sh("ip link del v9");
    Host::look(world).must_be(&before);
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn a_dry_run_says_all_and_does_nothing(world: &World) -> Verdict {
    let before = host(world)?;
    let said = world.ovsns("attach eth0 --dry-run").ok();
    for words in
        ["port eth0 on switch eth0", "198.18.8.1/24", "in table 77", "nexthop 5", "rule 1078"]
    {
        assert!(said.stdout.contains(words), "{words}\n{said}");
    }
    Host::look(world).must_be(&before);
    world.ovsns("attach eth0").ok();
    world.settled();
    let attached = world.inventory();
    let said = world.ovsns("detach eth0 --dry-run").ok();
    assert!(said.stdout.contains("addresses on eth0: 198.18.6.1/24"), "{said}");
    world.inventory().must_equal(&attached);
    Ok(())
}

// ---- killed ----

pub(crate) fn watchdogs(world: &World) -> Vec<u32> {
    let all = world.processes().into_iter();
    all.filter(|(_, line)| line.contains("keep-nic")).map(|(id, _)| id).collect()
}

pub(crate) fn kill_watchdogs(world: &World) {
    for id in watchdogs(world) {
        let _ = kill(Pid::from_raw(i32::try_from(id).expect("a pid")), Signal::SIGKILL);
    }
    until("the watchdog is dead", || watchdogs(world).is_empty());
}

/// Runs `ovsns` and kills it before the call of that name number `step`; whether
/// it lived so long: `strace` counts each call by itself. `all` counts in, and kills, the watchdog, too, before its own call of
/// that number.
pub(crate) fn killed_at(
    world: &World,
    call: &str,
    step: u32,
    words: &str,
    all: bool,
) -> (Finished, bool) {
    let rule = format!("{call}:signal=KILL:when={step}");
    if all {
        let (finished, struck) = world.tampered(&rule, words);
        return (finished, 0 < struck);
    }
    let mut command = Command::new("strace");
    command.args(["-qq", "-e", "signal=none", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={rule}"), "-o", "killed.log"]);
    command.arg(world.binary()).args(words.split_whitespace());
    command.stderr(std::process::Stdio::null());
    let finished = world.start_command(&mut command).finish();
    // `strace` ends as what it watches does.
    let killed = finished.status.code().is_none();
    (finished, killed)
}

/// Kills `words` before every call that changes something. Before each time the
/// world is as `before`, and `set_up` is run; after it, the NIC is home, or is
/// brought home from where it was left on purpose.
fn kill_at_every(world: &World, words: &str, all: bool, set_up: &dyn Fn(), before: &Host) -> u32 {
    let at = |call: &&str| kill_at_each(world, call, words, all, set_up, before);
    STEPS.iter().map(at).sum()
}

/// The same for the calls of one name.
fn kill_at_each(
    world: &World,
    call: &str,
    words: &str,
    all: bool,
    set_up: &dyn Fn(),
    before: &Host,
) -> u32 {
    for step in 1.. {
        set_up();
        let (finished, killed) = killed_at(world, call, step, words, all);
        if !killed {
            if words.starts_with("attach") {
                world.ovsns("detach eth0").ok();
            }
            drop(finished);
            Host::look(world).must_be(before);
            return step - 1;
        }
        println!("killed before {call} {step}");
        let start = Instant::now();
        if all {
            // Its watchdog may have come to nothing as well.
            until("nobody is at it", || watchdogs(world).is_empty());
            world.ovsns("list").ok();
        }
        // Reachable within two seconds where a processor is to be had (the log
        // tells); a single packet may have been on its way when the devices changed
        // places.
        let ping = "ip netns exec router ping -n -c 1 -W 0.2 198.18.6.1";
        until("the host answers", || world.attempt(ping).status.success());
        println!("the host answers after {} ms", start.elapsed().as_millis());
        until("the watchdog has done its work", || watchdogs(world).is_empty());
        let state = std::fs::read_to_string("/run/ovsns/labs/default/attached.json");
        if let Ok(state) = state {
            // Before the first change of `detach`, or after the last of `attach`.
            assert!(state.contains("\"change\":null"), "{state}");
            world.ovsns("detach eth0").ok();
        }
        // A lab that was to be made and has no NIC yet is a lab like any other.
        world.ovsns("down --all").ok();
        Host::look(world).must_be(before);
    }
    unreachable!("a command has an end")
}

fn killed(world: &World, backend: &str, all: bool) -> Verdict {
    world.needs("strace")?;
    let before = host(world)?;
    let attach = format!("attach eth0 --backend {backend}");
    let attached = kill_at_every(world, &attach, all, &|| {}, &before);
    let set_up = || drop(world.ovsns(&attach).ok());
    let detached = kill_at_every(world, "detach eth0", all, &set_up, &before);
    println!("{attached} points of attach and {detached} of detach");
    assert!(50 < attached && 30 < detached, "{attached} and {detached}");
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn killed_at_every_request_on_a_bridge(world: &World) -> Verdict {
    killed(world, "linux", false)
}

/// router:lan0 -- eth0, and the watchdog is killed, too
pub(crate) fn all_killed_at_every_request_on_a_bridge(world: &World) -> Verdict {
    killed(world, "linux", true)
}

/// router:lan0 -- eth0
pub(crate) fn killed_at_every_request_on_open_vswitch(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    killed(world, "ovs", false)
}

/// router:lan0 -- eth0, and the watchdog is killed, too
pub(crate) fn all_killed_at_every_request_on_open_vswitch(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    killed(world, "ovs", true)
}
