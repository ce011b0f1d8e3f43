//! What goes wrong around a lab on Open vSwitch, and what `status` and `up`
//! make of it. Traffic, `ovs-vsctl` and `ip` are the witnesses.
//!
//! Here also whether TCP and UDP pass, on every datapath: checksums are what
//! a datapath most likely gets wrong, and no ping shows it.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde_json::Value;
use world::{Finished, Running, Skip, Tool, Verdict, World, until};

use crate::change::Flow;
use crate::{TWO_NODES, own_ovs};

/// The machine's database.
const DATABASE: &str = "/run/openvswitch/conf.db";

/// Makes the lab of `TWO_NODES` on the userspace datapath of Open vSwitch.
fn two_nodes(world: &World) {
    world.file("two.yaml", &TWO_NODES.replace("b.1.1: {}", "b.1.1: { datapath: netdev }"));
    up(world).ok();
}

/// Adds n3 to the lab's file.
fn add_n3(world: &World) {
    let more = "  n3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }\nlinks:
  - endpoints: [n3:eth0, b.1.1]\n";
    let text = std::fs::read_to_string("two.yaml").expect("the test's own file");
    world.file("two.yaml", &text.replace("links:\n", more));
}

fn up(world: &World) -> Finished {
    world.ovsns("up two.yaml --backend ovs")
}

/// The same where `ovs-vswitchd` has no more than so many seconds.
fn hurried(world: &World, seconds: u32, words: &str) -> Finished {
    let ovsns = world.binary().display();
    world.attempt(&format!("env OVSNS_APPLY_SECS={seconds} {ovsns} {words}"))
}

/// What `status` says of the lab, for programs.
#[track_caller]
fn status(world: &World) -> Value {
    world.ovsns("status two-nodes --json").ok().json()
}

/// Fails the test unless all is as it should be, and `up` leaves it at that:
/// it changes nothing of the kernel, and nothing of the database.
#[track_caller]
fn all_is_well(world: &World) {
    let now = status(world);
    for list in ["drift", "troubles"] {
        assert_eq!(now[list], serde_json::json!([]), "{now:#}");
    }
    assert_eq!(now["state"], "up");
    assert_eq!(now["switches"][0]["up"], true);
    let before = transactions(DATABASE);
    let (again, trace) = world.traced("up two.yaml --backend ovs");
    again.ok().says("nothing to change");
    assert_eq!(trace.writes, [], "`up` writes");
    assert_eq!(transactions(DATABASE), before, "`up` commits");
    world.pings("two-nodes.n1", "10.0.0.2");
    world.pings("two-nodes.n2", "fd00::1");
}

/// Awaits what [`World::settled`] does, where switches are not up.
fn nothing_is_tentative(world: &World) {
    until("no address is tentative", || {
        let mut places = vec![String::new()];
        places.extend(world.namespaces().into_iter().map(|name| format!("-n {name} ")));
        places.iter().all(|place| {
            let tentative = world.run(&format!("ip {place}-6 -o addr show tentative")).stdout;
            tentative.trim().is_empty()
        })
    });
}

/// How many transactions of ovsns are in a database's file, which says of
/// each who made it.
pub(crate) fn transactions(database: &str) -> usize {
    let text = std::fs::read(database).expect("the world's own database");
    String::from_utf8_lossy(&text).matches("\"_comment\":\"ovsns ").count()
}

/// The short name of one of our devices.
#[track_caller]
fn device(world: &World, name: &str) -> String {
    world.setting("", name, "ifname").as_str().expect("a name").to_owned()
}

/// A ping every ten milliseconds from n1 to n2.
struct Pings(Running);

impl Pings {
    fn start(world: &World) -> Self {
        world.pings("two-nodes.n1", "10.0.0.2");
        let line = "exec ip netns exec two-nodes.n1 ping -n -i 0.01 10.0.0.2 >pings";
        Self(world.start_command(Command::new("sh").args(["-c", line])))
    }

    /// Ends them when the last is answered; returns how many were sent before
    /// that one, and how many of them were not answered.
    #[track_caller]
    fn lost(self) -> (usize, usize) {
        let answered = || -> Vec<usize> {
            let said = std::fs::read_to_string("pings").expect("the test's own file");
            let numbers =
                said.lines().filter_map(|line| line.split_once("icmp_seq=")?.1.split_once(' '));
            numbers.filter_map(|(number, _)| number.parse().ok()).collect()
        };
        let before = answered().len();
        until("pings are answered", || before + 5 < answered().len());
        self.0.signal(Signal::SIGINT);
        self.0.finish();
        let answered = answered();
        let sent = answered.iter().max().copied().unwrap_or_default();
        let answered: BTreeSet<_> = answered.into_iter().collect();
        (sent, sent - answered.len())
    }
}

// ---- TCP and UDP ----

/// n1 -- b.1.1 -- n2
pub(crate) fn tcp_and_udp_over_a_linux_bridge(world: &World) -> Verdict {
    world.needs("ethtool")?;
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml --backend linux").ok();
    // The kernel's own bridge needs no help.
    assert_eq!(leaves_checksums(world), [true, true]);
    everything_passes(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn tcp_and_udp_over_the_userspace_datapath(world: &World) -> Verdict {
    world.needs("ethtool")?;
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    assert_eq!(leaves_checksums(world), [false, false]);
    everything_passes(world);

    // Without the plan's step a ping is all that passes.
    for node in ["n1", "n2"] {
        world.run(&format!("ip netns exec two-nodes.{node} ethtool -K eth0 tx on"));
        world.pings("two-nodes.n1", "10.0.0.2");
        assert!(!tcp(world, "10.0.0.2").status.success(), "TCP passes with `tx on` in {node}");
        assert!(!tcp(world, "fd00::2").status.success(), "TCP passes with `tx on` in {node}");
        world.ovsns("status").ok().says("drifted").says(&format!("{node}:eth0 calculates"));
        if node == "n1" {
            assert!(!udp(world, "10.0.0.1", "10.0.0.2").status.success(), "UDP passes");
            assert!(!udp(world, "fd00::1", "fd00::2").status.success(), "UDP passes");
        }
        up(world).ok().says("1 step in");
        everything_passes(world);
    }
    up(world).ok().says("nothing to change");

    // It is so again after an interface was made again.
    world.run("ip -n two-nodes.n1 link del eth0");
    up(world).ok();
    assert_eq!(leaves_checksums(world), [false, false]);
    everything_passes(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2, where Open vSwitch finishes checksums itself
pub(crate) fn tcp_and_udp_with_segmentation_offload(world: &World) -> Verdict {
    world.needs("ethtool")?;
    let _ovs = world.open_vswitch(&["other_config:userspace-tso-enable=true"])?;
    two_nodes(world);
    assert_eq!(leaves_checksums(world), [true, true]);
    everything_passes(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn tcp_and_udp_over_the_kernel_datapath(world: &World) -> Verdict {
    world.needs("ethtool")?;
    let _ovs = world.open_vswitch(&[])?;
    if !world.attempt("ovs-dpctl add-dp probe").status.success() {
        return Err(Skip("this kernel has no module `openvswitch`".into()));
    }
    world.run("ovs-dpctl del-dp probe");
    world.file("two.yaml", &TWO_NODES.replace("b.1.1: {}", "b.1.1: { datapath: system }"));
    up(world).ok();
    assert_eq!(leaves_checksums(world), [true, true]);
    everything_passes(world);
    Ok(())
}

/// TCP and UDP, over IPv4 and IPv6, either way.
#[track_caller]
fn everything_passes(world: &World) {
    for to in ["10.0.0.2", "fd00::2"] {
        tcp(world, to).ok();
    }
    for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        udp(world, from, to).ok();
    }
}

/// Eight megabytes from n1 over TCP to n2, and back.
fn tcp(world: &World, to: &str) -> Finished {
    let mut echo = world.tool("two-nodes.n2", Tool::Echo, &format!("{to} 7007"));
    echo.line_with("ready");
    world.tool("two-nodes.n1", Tool::Pour, &format!("{to} 7007 8388608")).finish()
}

/// Ten datagrams from n1 to n2. Fails with the listener, whom one is missing.
fn udp(world: &World, from: &str, to: &str) -> Finished {
    let mut hear = world.tool("two-nodes.n2", Tool::Hear, "7009 10");
    hear.line_with("ready");
    for number in 0..10 {
        world.tool("two-nodes.n1", Tool::Say, &format!("{from} {to} 7009 {number}")).finish().ok();
    }
    let heard = hear.finish();
    if heard.status.success() {
        let all: String = (0..10).map(|number| format!("{from} {number}\n")).collect();
        assert_eq!(heard.stdout, all);
    }
    heard
}

/// Whether the interfaces of n1 and n2 leave checksums to hardware.
fn leaves_checksums(world: &World) -> [bool; 2] {
    ["n1", "n2"].map(|node| {
        let features = world.run(&format!("ip netns exec two-nodes.{node} ethtool -k eth0"));
        features.stdout.contains("tx-checksumming: on")
    })
}

// ---- daemons ----

/// n1 -- b.1.1 -- n2, and `ovs-vswitchd` is killed under a ping.
pub(crate) fn a_killed_switch_is_told_of_and_comes_back(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let pings = Pings::start(world);
    let killed = Instant::now();
    ovs.kill_switch();

    let now = status(world);
    assert_eq!(now["state"], "drifted");
    assert_eq!(now["switches"][0]["up"], false);
    world.ovsns("status").ok().says("`ovs-vswitchd` does not run").says("in the way");
    world.ovsns("list").ok().says("drifted");
    world.silence("two-nodes.n1", "10.0.0.2");
    nothing_is_tentative(world);
    let before = world.inventory();
    let refused = Instant::now();
    up(world).code(2).says("`ovs-vswitchd` does not run").says(" hint: start it");
    world.ovsns("plan two.yaml --backend ovs").code(2).says("`ovs-vswitchd` does not run");
    assert!(refused.elapsed() < Duration::from_secs(10), "{:?}", refused.elapsed());
    world.inventory().must_equal(&before);

    ovs.start_switch(world);
    let away = killed.elapsed();
    all_is_well(world);
    let (sent, lost) = pings.lost();
    // Not a hundred more than went out while it was away, nor none.
    let most = usize::try_from(away.as_millis()).expect("a short while") / 10 + 100;
    println!("{lost} of {sent} lost, away for {away:?}");
    assert!(0 < lost && lost <= most, "{lost} of {sent} lost, away for {away:?}");
    Ok(())
}

/// n1 -- b.1.1 -- n2, and either daemon is killed under a TCP connection.
pub(crate) fn tcp_outlives_the_machines_daemons(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let flow = Flow::start(world, "two-nodes");
    ovs.kill_switch();
    ovs.start_switch(world);
    let switch = flow.finish();
    let flow = Flow::start(world, "two-nodes");
    ovs.kill_server();
    ovs.start_server();
    let server = flow.finish();
    println!("silent for {switch:?} without a switch, {server:?} without its database");
    assert!(switch.max(server) < Duration::from_secs(3), "{switch:?}, {server:?}");
    all_is_well(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2 with a flow, on an Open vSwitch of our own, and either
/// daemon is killed under a TCP connection.
pub(crate) fn tcp_outlives_the_daemons_of_our_own(world: &World) -> Verdict {
    own_ovs::needs(world)?;
    let before = world.inventory();
    let drop = "b.1.1: { datapath: netdev, flows: ['priority=100,udp,actions=drop'] }";
    world.file("two.yaml", &TWO_NODES.replace("b.1.1: {}", drop));
    up(world).ok();
    for daemon in ["switch", "server"] {
        let first = own_ovs::facts(world);
        let flow = Flow::start(world, "two-nodes");
        own_ovs::end(&first[daemon], Signal::SIGKILL);
        until("it is back", || {
            let now = own_ovs::facts(world);
            now[daemon].is_u64() && now[daemon] != first[daemon] && now["ready"] == true
        });
        let silent = flow.finish();
        println!("silent for {silent:?} until there was another {daemon}");
        assert!(silent < Duration::from_secs(3), "{silent:?} without a {daemon}");
        // Flows go with the switch, and with nothing else.
        let passes = udp(world, "10.0.0.1", "10.0.0.2").status.success();
        assert_eq!(passes, daemon == "switch", "flows after another {daemon}");
        if passes {
            world.ovsns("status").ok().says("drifted").says("+ flow on switch b.1.1");
            up(world).ok().says("1 step in");
            assert!(!udp(world, "10.0.0.1", "10.0.0.2").status.success(), "UDP passes");
        }
        up(world).ok().says("nothing to change");
    }
    world.ovsns("down").ok();
    own_ovs::all_ends(world);
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2, taken down while `ovs-vswitchd` does not run
pub(crate) fn a_lab_goes_without_its_switch(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    let _foreign = world.foreign();
    world.run("ovs-vsctl add-br theirs -- set bridge theirs datapath_type=netdev");
    let before = world.inventory();
    two_nodes(world);
    ovs.kill_switch();
    world.ovsns("down").ok();
    ovs.start_switch(world);
    world.settled();
    world.inventory().must_equal(&before);
    // It is an ordinary lab when it is made again.
    two_nodes(world);
    all_is_well(world);
    world.ovsns("down").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2, and `ovsdb-server` is killed under a ping.
pub(crate) fn a_killed_database_loses_nothing(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let pings = Pings::start(world);
    ovs.kill_server();
    ovs.start_server();
    let (sent, lost) = pings.lost();
    assert_eq!(lost, 0, "of {sent}");
    all_is_well(world);

    ovs.kill_server();
    // In userspace what comes has to wait until the database is back.
    world.silence("two-nodes.n1", "10.0.0.2");
    let now = status(world);
    assert_eq!(now["state"], "drifted");
    assert_eq!(now["nodes"].as_array().map(Vec::len), Some(2), "{now:#}");
    world.ovsns("status").ok().says("its database does not answer");
    let before = world.inventory();
    for words in ["up two.yaml --backend ovs", "up two.yaml --backend auto"] {
        world.ovsns(words).code(2).says("its database does not answer").says(" hint: start it");
    }
    // What cannot be seen is not gone.
    world.ovsns("down").code(1).says("its database does not answer").says(" hint: start");
    world.ovsns("status").ok();
    world.inventory().must_equal(&before);
    // Who needs no Open vSwitch is not kept from anything.
    world.ovsns("up --topo single,2 --lab other --backend linux").ok();
    world.pings("other.h1", "10.0.0.2");
    world.ovsns("down other").ok();
    world.inventory().must_equal(&before);

    ovs.start_server();
    // The first command after it, with something to do.
    add_n3(world);
    up(world).ok();
    world.pings("two-nodes.n3", "10.0.0.1");
    all_is_well(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2, on a switch that is suspended
pub(crate) fn a_suspended_switch_is_late(world: &World) -> Verdict {
    let ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    world.file("two.yaml", TWO_NODES);
    ovs.signal_switch(Signal::SIGSTOP);
    let late = hurried(world, 2, "up two.yaml --backend ovs").code(4);
    late.says("has not carried it out after 2 s").says(" hint: ");
    let asked = Instant::now();
    let now = status(world);
    assert_eq!(now["state"], "cut off");
    assert_eq!(now["switches"][0]["up"], false);
    world.ovsns("status").ok().says("`ovs-vswitchd` does not answer");
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    // It is in the database, and nothing was taken back.
    hurried(world, 1, "up two.yaml --backend ovs").code(4).says("earlier changes after 1 s");
    assert_eq!(world.run("ovs-vsctl --no-wait list-br").stdout.lines().count(), 1);
    ovs.signal_switch(Signal::SIGCONT);
    up(world).ok();
    all_is_well(world);

    // What is late is remembered: the next change does not take it back.
    ovs.signal_switch(Signal::SIGSTOP);
    hurried(world, 1, "switch set b.1.1 ageing=77").code(4);
    ovs.signal_switch(Signal::SIGCONT);
    world.ovsns("switch set b.1.1 mtu=1400").ok();
    let get =
        format!("get bridge {} other_config:mac-aging-time", device(world, "two-nodes:b.1.1"));
    assert_eq!(world.run(&format!("ovs-vsctl {get}")).stdout, "\"77\"\n");
    let now = status(world);
    assert_eq!((&now["state"], &now["switches"][0]["ageing_s"]), (&"up".into(), &77.into()));

    // Taken down while it is suspended, it leaves nothing when it goes on.
    ovs.signal_switch(Signal::SIGSTOP);
    world.ovsns("down").ok();
    hurried(world, 1, "up two.yaml --backend ovs").code(1).says("earlier changes");
    ovs.signal_switch(Signal::SIGCONT);
    ovs.caught_up(world);
    world.settled();
    world.inventory().must_equal(&before);
    Ok(())
}

/// s1 with fifty nodes, and `ovs-vswitchd` is killed while they are made.
pub(crate) fn a_switch_killed_in_the_middle_of_up(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    let start = || {
        let mut command = world.command();
        command.args("up --topo single,50 --lab big --backend ovs".split(' '));
        world.start_command(command.env("OVSNS_APPLY_SECS", "3"))
    };
    // Before anything is in the database: it is all taken back.
    let running = start();
    until("the first node is made", || std::path::Path::new("/run/netns/big.h1").exists());
    ovs.kill_switch();
    running.finish().code(1);
    until("the last namespace is gone", || world.namespaces().is_empty());
    ovs.start_switch(world);
    world.inventory().must_equal(&before);

    // When all is in the database: it is left to whoever comes next.
    ovs.signal_switch(Signal::SIGSTOP);
    let running = start();
    let bridges = || world.run("ovs-vsctl --no-wait list-br").stdout;
    until("the change is in the database", || !bridges().is_empty());
    ovs.kill_switch();
    running.finish().code(4);
    world.ovsns("status big").ok().says("`ovs-vswitchd` does not run");
    world.ovsns("up --topo single,50 --lab big --backend ovs").code(2);
    ovs.start_switch(world);
    world.ovsns("up --topo single,50 --lab big --backend ovs").ok();
    world.pings("big.h1", "10.0.0.50");
    world.ovsns("up --topo single,50 --lab big --backend ovs").ok().says("nothing to change");
    world.ovsns("down big").ok();
    until("the last namespace is gone", || world.namespaces().is_empty());
    ovs.caught_up(world);
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2 with a flow, which a restart loses
pub(crate) fn flows_lost_by_a_restart_are_put_back(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    let drop = "b.1.1: { datapath: netdev, flows: ['priority=100,icmp,actions=drop'] }";
    world.file("two.yaml", &TWO_NODES.replace("b.1.1: {}", drop));
    up(world).ok();
    world.silence("two-nodes.n1", "10.0.0.2");
    ovs.kill_switch();
    world.ovsns("status").ok().says("`ovs-vswitchd` does not run");
    ovs.start_switch(world);
    world.pings("two-nodes.n1", "10.0.0.2");
    world.ovsns("status").ok().says("drifted").says("+ flow on switch b.1.1");
    up(world).ok().says("1 step in");
    world.silence("two-nodes.n1", "10.0.0.2");
    up(world).ok().says("nothing to change");
    Ok(())
}

/// n1 -- b.1.1 -- n2, where STP and RSTP come and go
pub(crate) fn a_spanning_tree_switched_off_lets_broadcasts_pass(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let plain = std::fs::read_to_string("two.yaml").expect("the test's own file");
    for tree in ["rstp: true", "stp: true"] {
        world.file("two.yaml", &plain.replace("netdev }", &format!("netdev, {tree} }}")));
        up(world).ok();
        world.file("two.yaml", &plain);
        up(world).ok();
        // Who is there has to be asked for again, of all.
        for node in ["n1", "n2"] {
            world.run(&format!("ip -n two-nodes.{node} neigh flush all"));
        }
        world.run("ovs-appctl fdb/flush");
        all_is_well(world);
    }
    Ok(())
}

// ---- behind our back ----

/// n1 -- b.1.1 -- n2, and the link of n1 is made again under its name.
pub(crate) fn a_ghost_port_is_seen_and_mended(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let pings = Pings::start(world);
    make_the_link_of_n1_again(world);
    // All that the database says is that all is well.
    let port = device(world, "two-nodes:n1:eth0");
    let row = |column: &str| {
        let get = format!("ovs-vsctl get Interface {port} {column}");
        world.run(&get).stdout.trim().to_owned()
    };
    let index = world.setting("", &port, "ifindex").to_string();
    until("the switch has seen the new link", || row("ifindex") == index);
    assert_eq!((row("error").as_str(), row("link_state").as_str()), ("[]", "up"));
    for _ in 0..3 {
        world.silence("two-nodes.n1", "10.0.0.2");
    }
    let now = status(world);
    assert_eq!(now["state"], "drifted");
    let ports = now["switches"][0]["ports"].as_array().expect("ports");
    let broken: Vec<_> = ports.iter().filter(|port| !port["broken"].is_null()).collect();
    assert_eq!(broken.len(), 1, "{now:#}");
    assert_eq!(broken[0]["device"], port);
    world.ovsns("status").ok().says("broken").says("made again behind the switch's back");
    up(world).ok();
    all_is_well(world);
    assert_ne!(pings.lost().1, 0, "the ping was there all the time");
    Ok(())
}

/// Deletes the link between n1 and its switch, and makes one like it: name,
/// address, group and marks are the same. Addresses in the node are not ours.
fn make_the_link_of_n1_again(world: &World) {
    let outside = world.link("", "two-nodes:n1:eth0").expect("it is there");
    let inside = world.link("two-nodes.n1", "eth0").expect("it is there");
    let word = |link: &Value, key: &str| link[key].as_str().expect("a word").to_owned();
    let (name, group) = (word(&outside, "ifname"), word(&outside, "group"));
    let (mac, alias) = (word(&outside, "address"), word(&outside, "ifalias"));
    let (mac_inside, alias_inside) = (word(&inside, "address"), word(&inside, "ifalias"));
    world.sh(&format!(
        "ip link del {name}
         ip link add {name} address {mac} group {group} type veth \\
            peer name eth0 address {mac_inside} netns two-nodes.n1
         ip link set {name} alias '{alias}'
         ip link property add dev {name} altname two-nodes:n1:eth0
         ip -n two-nodes.n1 link set eth0 group {group} alias '{alias_inside}'
         ip netns exec two-nodes.n1 ethtool -K eth0 tx off
         ip link set {name} up
         ip -n two-nodes.n1 link set eth0 up
         ip -n two-nodes.n1 addr add 10.0.0.1/24 dev eth0
         ip -n two-nodes.n1 addr add fd00::1/64 dev eth0 nodad"
    ));
}

/// n1 -- b.1.1 -- n2, and somebody types something, of which some cuts it.
pub(crate) fn what_others_did_to_open_vswitch_is_mended(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let (bridge, port) = (device(world, "two-nodes:b.1.1"), device(world, "two-nodes:n1:eth0"));
    world.run("ovs-vsctl add-br theirs -- set bridge theirs datapath_type=netdev");
    let cut = true;
    for (line, cuts, told) in [
        (format!("ip link del {port}"), cut, "its link is gone"),
        (format!("ip link set {port} down"), cut, "n1eth0"),
        (format!("ovs-vsctl del-port {port}"), cut, "+ port"),
        (format!("ovs-vsctl del-br {bridge}"), cut, "+ switch"),
        (format!("ip link del {bridge}"), !cut, "its local device is gone"),
        (format!("ip link set {bridge} down"), !cut, "~ switch b.1.1 up"),
        (format!("ip link set {bridge} alias strange group 5"), !cut, "gets its mark"),
        (format!("ovs-vsctl remove port {port} external_ids ovsns"), !cut, "gets its mark"),
        (format!("ovs-vsctl clear port {port} external_ids"), !cut, "not known which link"),
        (
            format!(
                "p=$(ovs-vsctl get port {port} _uuid); ovs-vsctl remove bridge {bridge} ports $p \
                 -- add bridge theirs ports $p"
            ),
            cut,
            "from switch theirs to b.1.1",
        ),
        (
            format!(
                "ovs-vsctl del-port {port} -- add-port {bridge} {port} -- set interface {port} \
                 ofport_request=77"
            ),
            !cut,
            "not known which link",
        ),
        (format!("ovs-vsctl set port {port} tag=7"), cut, "ordinary"),
        (format!("ovs-vsctl set bridge {bridge} fail_mode=secure"), !cut, "fail mode standalone"),
        (
            format!("ovs-vsctl set bridge {bridge} other_config:hwaddr=02:00:00:00:00:99"),
            !cut,
            "mac",
        ),
    ] {
        println!("{line}");
        world.sh(&line);
        if cuts {
            until("it is cut", || {
                !world.ping_within(1, "two-nodes.n1", "10.0.0.2").status.success()
            });
        }
        world.ovsns("status").ok().says("drifted").says(told);
        up(world).ok();
        all_is_well(world);
    }
    assert_eq!(world.run("ovs-vsctl list-ports theirs").stdout, "");
    Ok(())
}

/// n1 -- b.1.1 -- n2 with a port of others on it, beside a bridge of others
pub(crate) fn what_others_have_in_open_vswitch_is_kept(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let _foreign = world.foreign();
    world.sh("ip link add f0 type veth peer name f1
         ip link add g0 type veth peer name g1
         ovs-vsctl add-br b.1.1.looksour -- set bridge b.1.1.looksour datapath_type=netdev \\
            external_ids:ovsns='lab=two-nodes is what I test' \\
            -- add-port b.1.1.looksour g0 -- set Open_vSwitch . external_ids:system-id=mine");
    world.settled();
    let before = world.inventory();
    two_nodes(world);
    let (bridge, port) = (device(world, "two-nodes:b.1.1"), device(world, "two-nodes:n1:eth0"));
    world.sh(&format!(
        "ovs-vsctl add-port {bridge} f0 -- set port f0 tag=7 external_ids:whose=theirs \\
            -- set bridge {bridge} external_ids:whose=theirs other_config:forward-bpdu=true \\
            -- set port {port} external_ids:whose=theirs \\
            -- set interface {port} external_ids:whose=theirs"
    ));
    all_is_well(world);
    let kept = || {
        let get = |words: &str| world.run(&format!("ovs-vsctl get {words}")).stdout;
        assert_eq!(get(&format!("bridge {bridge} other_config:forward-bpdu")), "\"true\"\n");
        for row in [format!("bridge {bridge}"), "port f0".into()] {
            assert_eq!(get(&format!("{row} external_ids:whose")), "theirs\n", "{row}");
        }
        assert_eq!(get("port f0 tag"), "7\n");
        assert_eq!(get("interface f0 error"), "[]\n");
        let ports = world.run(&format!("ovs-vsctl list-ports {bridge}")).stdout;
        assert!(ports.lines().any(|port| port == "f0"), "{ports}");
    };
    // A change of all there is, and the way back.
    let text = std::fs::read_to_string("two.yaml").expect("the test's own file");
    let switch = "netdev, ageing: 77, mtu: 1400, stp: true, forward_delay: 4 }";
    let changed = text.replace("netdev }", switch);
    let changed = changed.replace("[n1:eth0, b.1.1]", "[n1:eth0, b.1.1]\n    vlan: 9");
    let row = |row: &str| {
        let get = format!("ovs-vsctl get {row} {port} external_ids:whose");
        assert_eq!(world.run(&get).stdout, "theirs\n", "{row}");
    };
    for text in [&changed, &text] {
        world.file("two.yaml", text);
        up(world).ok();
        up(world).ok().says("nothing to change");
        kept();
        row("port");
        row("interface");
    }
    // With other ports, and with the port of ours made again.
    world.ovsns("node add n7 --lab two-nodes").ok();
    world.ovsns("link add n7 b.1.1 --lab two-nodes").ok();
    world.ovsns("node rm n7 --lab two-nodes").ok();
    world.run("ip -n two-nodes.n1 link del eth0");
    up(world).ok();
    kept();
    all_is_well(world);
    // A bridge with a port of others on it is not made anew.
    world.file("two.yaml", &text.replace("netdev }", "netdev, device: other }"));
    world.ovsns("status").ok();
    up(world).code(2).says("port `f0` on it is not ours").says("f0`");
    kept();
    // Nor does it go, with a mirror of others as little as with a port.
    let watches = format!("-- --id=@m create mirror name=watch -- add bridge {bridge} mirrors @m");
    world.sh(&format!("ovs-vsctl {watches}"));
    let made = world.inventory();
    for words in ["down", "switch rm b.1.1"] {
        let refused = world.ovsns(words).code(2).says("switch `b.1.1` is to go");
        refused.says("port `f0` on it is not ours").says("mirror `watch` on it is not ours");
        kept();
        world.inventory().must_equal(&made);
    }
    // As the hints say.
    world.run(&format!("ovs-vsctl del-port {bridge} f0"));
    world.ovsns("down").code(2).says("mirror `watch`");
    let m = "--id=@m get mirror watch";
    world.run(&format!("ovs-vsctl -- {m} -- remove bridge {bridge} mirrors @m"));
    world.ovsns("down").ok();
    world.settled();
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2, where the database has its names for others
pub(crate) fn names_in_the_database_that_others_have(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let (bridge, port) = (device(world, "two-nodes:b.1.1"), device(world, "two-nodes:n1:eth0"));
    // Who takes the mark off says that it is not ours.
    world.run(&format!("ovs-vsctl remove bridge {bridge} external_ids ovsns"));
    nothing_is_tentative(world);
    let before = world.inventory();
    let what = format!("a bridge `{bridge}` that is not ours");
    up(world).code(2).says(&what).says(&format!("del-br {bridge}"));
    world.ovsns("status").ok().says(&what);
    world.inventory().must_equal(&before);
    world.ovsns("down").ok();
    let bridges = world.run("ovs-vsctl list-br").stdout;
    assert_eq!(bridges.trim(), bridge, "a bridge of others stays");
    assert!(world.link("", &bridge).is_some(), "with its local device");
    up(world).code(2).says(&what);
    assert!(world.namespaces().is_empty());
    world.run(&format!("ovs-vsctl del-br {bridge}"));

    // A bridge and a port that others made, with names that we would need.
    world.run("ovs-vsctl add-br theirs -- set bridge theirs datapath_type=netdev");
    for (make, what, unmake) in [
        (
            format!("add-br {bridge} -- set bridge {bridge} datapath_type=netdev"),
            format!("a bridge `{bridge}` that is not ours"),
            format!("del-br {bridge}"),
        ),
        (
            format!("--no-wait add-port theirs {port}"),
            format!("a port `{port}` that is not ours"),
            format!("del-port theirs {port}"),
        ),
    ] {
        world.run(&format!("ovs-vsctl {make}"));
        let before = world.inventory();
        up(world).code(2).says(&what).says(&unmake.replace("theirs ", ""));
        world.inventory().must_equal(&before);
        world.run(&format!("ovs-vsctl {unmake}"));
    }
    world.run("ovs-vsctl del-br theirs");
    up(world).ok();
    all_is_well(world);
    Ok(())
}

/// n1, n2 -- b.1.1, and the namespace of n1 goes, empty or not, while n3 comes.
pub(crate) fn a_namespace_deleted_during_a_change(world: &World) -> Verdict {
    let ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    for is_inside in [false, true] {
        two_nodes(world);
        let inside = is_inside.then(|| world.start("ip netns exec two-nodes.n1 sleep 99"));
        if inside.is_some() {
            let pids = || world.run("ip netns pids two-nodes.n1").stdout;
            until("the process is in the node", || !pids().is_empty());
        }
        add_n3(world);
        ovs.signal_switch(Signal::SIGSTOP);
        let mut command = world.command();
        let running = world.start_command(command.args(["up", "two.yaml", "--backend", "ovs"]));
        let ports = || world.run("ovs-vsctl --no-wait --columns=name list Port").stdout;
        until("the change is in the database", || ports().contains("n3"));
        world.run("ip netns del two-nodes.n1");
        if !is_inside {
            until("its link is gone", || world.link("", "two-nodes:n1:eth0").is_none());
        }
        ovs.signal_switch(Signal::SIGCONT);
        running.finish().ok();
        world.pings("two-nodes.n3", "10.0.0.1");
        all_is_well(world);
        drop(inside);
        world.ovsns("down").ok();
        ovs.caught_up(world);
        world.inventory().must_equal(&before);
    }
    Ok(())
}

/// n1 -- b.1.1 -- n2, and the namespace of n1 goes, empty or not.
pub(crate) fn a_namespace_deleted_by_others(world: &World) -> Verdict {
    let ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    two_nodes(world);
    for is_inside in [false, true] {
        let inside = is_inside.then(|| world.start("ip netns exec two-nodes.n1 sleep 99"));
        if inside.is_some() {
            let pids = || world.run("ip netns pids two-nodes.n1").stdout;
            until("the process is in the node", || !pids().is_empty());
        }
        world.run("ip netns del two-nodes.n1");
        // A process keeps the namespace, its link and its traffic alive.
        match is_inside {
            true => world.pings("two-nodes.n2", "10.0.0.1"),
            false => until("the namespace is gone", || {
                !world.ping_within(1, "two-nodes.n2", "10.0.0.1").status.success()
            }),
        }
        let now = status(world);
        assert_eq!(now["state"], "drifted");
        assert_eq!(now["nodes"].as_array().map(Vec::len), Some(1), "{now:#}");
        world.ovsns("status").ok().says("+ node n1");
        up(world).ok();
        all_is_well(world);
        drop(inside);
    }
    world.ovsns("down").ok();
    ovs.caught_up(world);
    world.inventory().must_equal(&before);
    Ok(())
}

// ---- silence and strangers ----

/// Connects to a socket until no more are taken.
fn fill(socket: &str) -> Vec<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket as new};
    let address = UnixAddr::new(socket).expect("a short path");
    let mut held = Vec::new();
    loop {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let opened = new(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
        match connect(opened.as_raw_fd(), &address) {
            Ok(()) => held.push(opened),
            Err(Errno::EAGAIN) => return held,
            Err(errno) => panic!("{socket}: {errno}"),
        }
    }
}

/// n1 -- b.1.1 -- n2, and a database that takes no connection, or takes them
/// and is silent; beside it a lab that needs neither.
pub(crate) fn daemons_that_say_nothing_keep_nobody(world: &World) -> Verdict {
    let ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    world.ovsns("up --topo single,2 --lab other --backend linux").ok();
    world.sh("kill -STOP $(cat /run/openvswitch/ovsdb-server.pid)");
    let binary = world.binary().display();
    let soon = |words: &str| {
        let asked = Instant::now();
        let said = world.attempt(&format!("timeout 20 {binary} {words}"));
        println!("{words}: {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(10), "{words}: {:?}", asked.elapsed());
        said
    };
    for full in [false, true] {
        let held = if full { fill("/run/openvswitch/db.sock") } else { Vec::new() };
        soon("list").ok();
        soon("status other").ok();
        soon("status two-nodes").ok().says("could not talk with the database of Open vSwitch");
        soon("down two-nodes").code(1).says("could not talk with the database");
        drop(held);
    }
    soon("down other").ok();
    world.sh("kill -CONT $(cat /run/openvswitch/ovsdb-server.pid)");
    all_is_well(world);

    ovs.signal_switch(Signal::SIGSTOP);
    let pid = std::fs::read_to_string("/run/openvswitch/ovs-vswitchd.pid").expect("it runs");
    let held = fill(&format!("/run/openvswitch/ovs-vswitchd.{}.ctl", pid.trim()));
    soon("status two-nodes").ok().says("`ovs-vswitchd` does not answer");
    drop(held);
    ovs.signal_switch(Signal::SIGCONT);
    all_is_well(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2 with a flow, on a bridge that cannot be made any more
pub(crate) fn flows_that_cannot_be_read_block_nothing(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    let drop = "b.1.1: { datapath: netdev, flows: ['priority=100,icmp,actions=drop'] }";
    world.file("two.yaml", &TWO_NODES.replace("b.1.1: {}", drop));
    up(world).ok();
    let bridge = device(world, "two-nodes:b.1.1");
    let breaks = || {
        world.run(&format!("ovs-vsctl --no-wait set bridge {bridge} datapath_type=strange"));
        until("it is gone", || {
            world.link("", &bridge).is_none()
                && !world.attempt(&format!("ovs-ofctl dump-flows {bridge}")).status.success()
        });
    };
    breaks();
    world.ovsns("status").ok().says("drifted").says("its local device is gone");
    world.ovsns("list").ok().says("two-nodes");
    world.ovsns("gc").ok();
    up(world).ok();
    world.silence("two-nodes.n1", "10.0.0.2");
    up(world).ok().says("nothing to change");

    // There, and nobody can ask for them.
    let refuses = "#!/bin/sh\ncase \"$*\" in *dump-flows*) echo broken >&2; exit 1;; esac\n\
                   exec /usr/bin/ovs-ofctl \"$@\"\n";
    world.file("ovs-ofctl", refuses);
    world.run("chmod +x ovs-ofctl");
    let binary = world.binary().display();
    let blind = |words: &str| {
        world.attempt(&format!("env PATH=.:/usr/sbin:/usr/bin:/sbin:/bin {binary} {words}"))
    };
    blind("status two-nodes").ok().says("the flows of switch `b.1.1` cannot be read");
    blind("up two.yaml --backend ovs").code(2).says("the flows of switch `b.1.1` cannot be read");
    blind("list").ok();
    blind("gc").ok();

    breaks();
    world.ovsns("down").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2, twice, and the one cannot be seen
pub(crate) fn gc_removes_what_it_can_see(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    world.ovsns("up --topo single,1 --backend ovs").ok();
    world.ovsns("down").ok();
    let before = world.inventory();
    for (lab, backend) in [("blind", "ovs"), ("seen", "linux")] {
        world.file("lab.yaml", &TWO_NODES.replace("name: two-nodes", &format!("name: {lab}")));
        world.ovsns(&format!("up lab.yaml --backend {backend}")).ok();
    }
    world.run("rm -r /run/ovsns");
    ovs.kill_server();
    world.ovsns("gc").code(1).says("lab `blind` has ovs switches that cannot be seen");
    assert_eq!(world.namespaces(), ["blind.n1", "blind.n2"]);
    ovs.start_server();
    world.ovsns("gc").ok().says("removed lab blind");
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2 in the database of a switch that never made it
pub(crate) fn what_only_the_database_has_is_not_forgotten(world: &World) -> Verdict {
    let mut ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    world.file("two.yaml", TWO_NODES);
    ovs.signal_switch(Signal::SIGSTOP);
    hurried(world, 2, "up two.yaml --backend ovs").code(4);
    ovs.kill_server();
    ovs.signal_switch(Signal::SIGCONT);
    // Nothing of the lab's bridge is in the kernel.
    assert!(world.link("", "two-nodes:b.1.1").is_none());
    for _ in 0..2 {
        world.ovsns("down two-nodes").code(1).says("its database does not answer");
    }
    ovs.start_server();
    ovs.caught_up(world);
    world.ovsns("down two-nodes").ok();
    world.settled();
    world.inventory().must_equal(&before);

    // The same where it was made, and its local device is gone since.
    two_nodes(world);
    ovs.kill_server();
    let bridge = device(world, "two-nodes:b.1.1");
    world.run(&format!("ip link del {bridge}"));
    world.ovsns("down two-nodes").code(1).says("its database does not answer");
    ovs.start_server();
    world.ovsns("down two-nodes").ok();
    world.settled();
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2, where others gave the switch an export and a port a QoS
pub(crate) fn exports_and_qos_of_others_are_kept(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let (bridge, port) = (device(world, "two-nodes:b.1.1"), device(world, "two-nodes:n1:eth0"));
    world.vsctl(&format!(
        "-- --id=@n create netflow targets=\"127.0.0.1:9\" \
         -- --id=@s create sflow targets=\"127.0.0.1:9\" \
         -- --id=@i create ipfix targets=\"127.0.0.1:9\" \
         -- --id=@q create qos type=linux-noop \
         -- set bridge {bridge} netflow=@n sflow=@s ipfix=@i -- set port {port} qos=@q"
    ));
    all_is_well(world);
    let theirs = || {
        let of_bridge = ["netflow", "sflow", "ipfix"].map(|c| world.column("bridge", &bridge, c));
        (of_bridge, world.column("port", &port, "qos"))
    };
    let before = theirs();
    for (export, what) in [("netflow", "NetFlow"), ("sflow", "sFlow"), ("ipfix", "IPFIX")] {
        let set = format!("switch set b.1.1 {export}.targets=[\"127.0.0.1:2055\"]");
        let refused = world.ovsns(&set).code(2);
        let refused = refused.says(&format!("switch `b.1.1` has {what} that is not ours"));
        refused.says(&format!("ovs-vsctl clear bridge {bridge} {export}"));
    }
    let refused = world.ovsns("link set n1 b.1.1 shaping.rate=20000").code(2);
    let refused = refused.says(&format!("port `{port}` has a QoS that is not ours"));
    refused.says(&format!("ovs-vsctl clear port {port} qos"));
    assert_eq!(theirs(), before);
    world.vsctl(&format!("clear bridge {bridge} netflow"));
    world.ovsns("switch set b.1.1 netflow.targets=[\"127.0.0.1:2055\"]").ok();
    world.ovsns("switch set b.1.1 netflow=").ok();
    all_is_well(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2, where ports share a QoS of ours, one of others' among them
pub(crate) fn a_qos_of_ours_on_several_ports_is_no_obstacle(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    world.sh("ip link add f0 type veth peer name f1
         ovs-vsctl add-br theirs -- set bridge theirs datapath_type=netdev -- add-port theirs f0");
    world.settled();
    for with_others in [false, true] {
        two_nodes(world);
        let ports = ["n1", "n2"].map(|node| device(world, &format!("two-nodes:{node}:eth0")));
        let mark = world.column("port", &ports[0], "external_ids:ovsns");
        let mut last = ports[1].clone();
        if with_others {
            last.push_str(" qos=@q -- set port f0");
        }
        world.sh(&format!(
            "ovs-vsctl -- --id=@u create queue external_ids:ovsns='{mark}' \\
               -- --id=@q create qos type=linux-noop queues:1=@u external_ids:ovsns='{mark}' \\
               -- set port {} qos=@q -- set port {last} qos=@q",
            ports[0]
        ));
        world.ovsns("down").ok();
        let left = usize::from(with_others);
        assert_eq!((world.row_count("QoS"), world.row_count("Queue")), (left, left));
        assert_eq!(world.column("port", "f0", "qos") != "[]", with_others);
    }
    Ok(())
}

/// n1 -- b.1.1 -- n2 and a port of others without a place in a spanning tree
pub(crate) fn ports_of_others_are_neither_awaited_nor_set(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let bridge = device(world, "two-nodes:b.1.1");
    let ports = ["n1", "n2"].map(|node| device(world, &format!("two-nodes:{node}:eth0")));
    world.sh(&format!(
        "ovs-vsctl add-port {bridge} myint -- set interface myint type=internal
         ip link set myint up"
    ));
    let floods = |port: &str| {
        let told = world.run(&format!("ovs-ofctl -O OpenFlow10 show {bridge}")).stdout;
        let rest = told.split(&format!("({port})")).nth(1).expect("it is told of");
        !rest.split("state:").next().unwrap_or_default().contains("NO_FLOOD")
    };
    for port in ["myint", &ports[1]] {
        world.run(&format!("ovs-ofctl -O OpenFlow10 mod-port {bridge} {port} no-flood"));
    }
    let plain = std::fs::read_to_string("two.yaml").expect("the test's own file");
    for tree in ["rstp: true", "stp: true"] {
        let with = format!("netdev, {tree}, forward_delay: 4 }}");
        world.file("two.yaml", &plain.replace("netdev }", &with));
        let asked = Instant::now();
        up(world).ok();
        assert!(asked.elapsed() < Duration::from_secs(40), "{:?}", asked.elapsed());
        world.file("two.yaml", &plain);
        up(world).ok();
        let now = ["myint", &ports[0], &ports[1]].map(floods);
        assert_eq!(now, [false, true, false], "after `{tree}`");
    }
    Ok(())
}

/// n1 -- b.1.1 -- n2, and a bound that nobody means
pub(crate) fn a_bound_may_be_longer_than_time(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let binary = world.binary().display();
    let asked = format!("env OVSNS_APPLY_SECS={} {binary} switch set b.1.1 ageing=77", u64::MAX);
    world.attempt(&asked).ok();
    // Nor is one told of a place that nobody looked at.
    let words = "plan --topo single,2 --lab other --backend auto";
    let said = world.attempt(&format!("env OVS_RUNDIR=/nonexistent {binary} {words}"));
    said.says("none answers at `/nonexistent/db.sock`");
    Ok(())
}

/// n1 -- b.1.1 -- n2, whose link somebody put into a bond of theirs
pub(crate) fn a_link_in_a_bond_of_others_is_refused_before(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    two_nodes(world);
    let port = device(world, "two-nodes:n1:eth0");
    world.sh(&format!(
        "ip link add f0 type veth peer name f1
         ovs-vsctl del-port {port} -- add-br theirs -- set bridge theirs datapath_type=netdev
         ovs-vsctl --no-wait add-bond theirs bond0 {port} f0"
    ));
    let before = transactions(DATABASE);
    let what = format!("an interface `{port}` that is not ours");
    up(world).code(2).says(&what).says("del-port bond0");
    world.ovsns("status").ok().says(&what);
    assert_eq!(transactions(DATABASE), before, "it was tried");
    world.run("ovs-vsctl del-port bond0");
    up(world).ok();
    all_is_well(world);
    Ok(())
}
