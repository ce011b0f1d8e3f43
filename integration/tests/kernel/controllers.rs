//! Switches that a controller drives: a real one, which knows nothing of ovsns.
//! The witnesses are traffic, `ovs-ofctl`, `ovs-vsctl` and the controller.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use world::{Running, Skip, Tool, Verdict, World, until};

use crate::sdn::{bridge, flows, lab};

/// Where the controllers of these tests listen.
const AT: &str = "controllers: [\"tcp:127.0.0.1:6653\"]";

/// Starts the controller that comes with Open vSwitch: a learning switch, with
/// a flow for each connection (exact matches). `words` are more of its options.
fn controller(world: &World, words: &str) -> Running {
    world.start(&format!("ovs-testcontroller {words} ptcp:6653:127.0.0.1"))
}

/// Ends a controller at once.
fn kill(controller: Running) {
    controller.signal(Signal::SIGKILL);
    controller.finish();
}

/// Whether a controller of ours is connected to `bridge`, by the database.
fn is_connected(world: &World) -> bool {
    let told = world.run("ovs-vsctl --bare --columns=is_connected list controller").stdout;
    told.lines().filter(|line| !line.is_empty()).all(|line| line == "true")
}

/// Awaits that a ping is answered.
fn pings_by_and_by(world: &World, from: &str, to: &str) {
    until("the ping is answered", || world.ping_within(1, from, to).status.success());
}

fn tcp(world: &World, [from, to]: [&str; 2], address: &str) -> bool {
    let mut echo = world.tool(to, Tool::Echo, &format!("{address} 7007"));
    echo.line_with("ready");
    world.tool(from, Tool::Pour, &format!("{address} 7007 65536")).finish().status.success()
}

/// n1, n2 -- s1 -- controller
pub(crate) fn a_controller_decides(world: &World) -> Verdict {
    world.needs("ovs-testcontroller")?;
    let _ovs = world.open_vswitch(&[])?;
    world.file("lab.yaml", &lab(AT));
    world.ovsns("up lab.yaml").ok();
    let bridge = bridge(world, "s1");
    let of = |what: &str| world.run(&format!("ovs-vsctl get {what}")).stdout.trim().to_owned();
    // Not said, and needed where there are controllers.
    assert_eq!(of(&format!("bridge {bridge} fail_mode")), "secure");
    assert_eq!(of(&format!("controller {bridge} max_backoff")), "1000");
    world.silence("sdn.n1", "10.0.0.2");
    world.silence("sdn.n1", "fd00::2");
    assert!(!flows(world, &bridge).contains("actions="), "{}", flows(world, &bridge));
    world.ovsns("flow dump s1").ok().says("has no flows");

    let first = controller(world, "");
    pings_by_and_by(world, "sdn.n1", "10.0.0.2");
    pings_by_and_by(world, "sdn.n1", "fd00::2");
    for address in ["10.0.0.2", "fd00::2"] {
        assert!(tcp(world, ["sdn.n1", "sdn.n2"], address), "TCP to {address}");
    }
    world.ovsns("flow dump s1").ok().says("actions=CONTROLLER:128").says("in_port=n1:eth0");
    until("the database knows that it is connected", || is_connected(world));
    check_status(world, true);
    world.ovsns("up lab.yaml").ok().says("nothing to change");

    // Without it: what it said is still done, and nothing new comes.
    kill(first);
    world.pings("sdn.n1", "10.0.0.2");
    world.silence("sdn.n2", "10.0.0.1");
    assert!(!tcp(world, ["sdn.n1", "sdn.n2"], "10.0.0.2"), "a connection is something new");
    until("the database knows that it is not connected", || !is_connected(world));
    check_status(world, false);

    let second = controller(world, "");
    pings_by_and_by(world, "sdn.n2", "10.0.0.1");
    assert!(tcp(world, ["sdn.n1", "sdn.n2"], "10.0.0.2"), "TCP again");
    kill(second);
    Ok(())
}

/// What `status` says of the switch, beside the database.
#[track_caller]
fn check_status(world: &World, connected: bool) {
    let bridge = bridge(world, "s1");
    let state = if connected { "connected" } else { "not connected" };
    let text = world.ovsns("status").ok();
    let text = text.says(&format!("tcp:127.0.0.1:6653 ({state})"));
    let json = world.ovsns("status --json").ok().json();
    let openflow = &json["switches"][0]["openflow"];
    assert_eq!(openflow["controllers"][0]["connected"], connected, "{openflow:#}");
    let of = |what: &str| {
        let told = world.run(&format!("ovs-vsctl get bridge {bridge} {what}")).stdout;
        told.trim().trim_matches('"').to_owned()
    };
    for (key, column) in [("datapath_id", "datapath_id"), ("fail_mode", "fail_mode")] {
        assert_eq!(openflow[key], of(column), "{openflow:#}");
        text.clone().says(&of(column));
    }
    // The kernel's has no name in the database.
    let datapath = of("datapath_type").replace("[]", "").replace("system", "");
    let datapath = if datapath.is_empty() { "system".to_owned() } else { datapath };
    assert_eq!(json["switches"][0]["datapath"], datapath, "{json:#}");
}

/// n1, n2 -- s1 -- controller, with a flow of the lab beside the controller's
pub(crate) fn flows_of_ours_live_beside_a_controllers(world: &World) -> Verdict {
    world.needs("ovs-testcontroller")?;
    let _ovs = world.open_vswitch(&[])?;
    let drop = "flows: [\"priority=99,icmp,in_port=n1,actions=drop\"]";
    world.file("lab.yaml", &lab(&format!("{AT}, {drop}")));
    world.ovsns("up lab.yaml").ok();
    let controller = controller(world, "");
    pings_by_and_by(world, "sdn.n1", "fd00::2");
    world.silence("sdn.n1", "10.0.0.2");
    world.ovsns("status").ok().says("lab sdn: up");
    let told = world.ovsns("flow dump s1 --json").ok().json();
    let ours = told.as_array().expect("a list").iter().filter(|flow| flow["ours"] == true);
    assert_eq!(ours.count(), 1, "{told:#}");
    world.ovsns("flow del s1 --all").ok();
    pings_by_and_by(world, "sdn.n1", "10.0.0.2");
    assert!(flows(world, &bridge(world, "s1")).contains("CONTROLLER"), "those stay");

    // The first controller of a switch that had none takes all its flows away
    // (ofproto/connmgr.c), and ours come back in the same breath.
    kill(controller);
    world.file("without.yaml", &lab(drop));
    world.ovsns("up without.yaml").ok();
    world.silence("sdn.n1", "10.0.0.2");
    world.pings("sdn.n1", "fd00::2");
    world.ovsns("up lab.yaml").ok();
    assert_eq!(flows(world, &bridge(world, "s1")).matches("cookie=0x6f76").count(), 1);
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    Ok(())
}

/// n1 -- s1 -- s2 -- n2, both with a controller
const TWO_SWITCHES: &str = "
name: sdn
switches:
  s1: { backend: ovs, KEYS datapath_id: 00000000000000a1 }
  s2: { backend: ovs, KEYS datapath_id: 00000000000000a2 }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24, fd00::1/64] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24, fd00::2/64] } } }
links:
  - endpoints: [n1, s1]
  - endpoints: [n2, s2]
  - endpoints: [s1, s2]
";

/// n1 -- s1 -- s2 -- n2, both with a controller
pub(crate) fn a_controller_drives_two_switches(world: &World) -> Verdict {
    world.needs("ovs-testcontroller")?;
    let _ovs = world.open_vswitch(&[])?;
    // From OpenFlow 1.3 on it is told that a frame came from the other switch's
    // controller, and does nothing then. With 1.0 nothing tells the switch to
    // forget what it dropped before (it does after 10 s without such a frame), so
    // the controller is there first.
    let controller = controller(world, "-O OpenFlow10");
    world.file("lab.yaml", &TWO_SWITCHES.replace("KEYS", &format!("{AT},")));
    world.ovsns("up lab.yaml").ok();
    pings_by_and_by(world, "sdn.n1", "10.0.0.2");
    pings_by_and_by(world, "sdn.n1", "fd00::2");
    assert!(tcp(world, ["sdn.n1", "sdn.n2"], "10.0.0.2"));
    kill(controller);
    world.pings("sdn.n1", "10.0.0.2");
    world.silence("sdn.n2", "10.0.0.1");
    Ok(())
}

/// n1, n2 -- s1
pub(crate) fn a_switch_speaks_what_it_is_told_to(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let id = "datapath_id: 00000000000000a1";
    world.file("lab.yaml", &lab(&format!("protocols: [OpenFlow13], {id}")));
    world.ovsns("up lab.yaml").ok();
    let s1 = bridge(world, "s1");
    world.run(&format!("ovs-ofctl -O OpenFlow13 show {s1}")).says("dpid:00000000000000a1");
    for other in ["OpenFlow10", "OpenFlow15"] {
        let other = world.attempt(&format!("ovs-ofctl -O {other} show {s1}"));
        assert!(!other.status.success(), "{other}");
    }
    world.ovsns("status").ok().says("00000000000000a1");

    // Both can change while it runs.
    world.ovsns("switch set s1 protocols= datapath_id=00000000000000a2").ok();
    for version in ["OpenFlow10", "OpenFlow15"] {
        world.run(&format!("ovs-ofctl -O {version} show {s1}")).says("dpid:00000000000000a2");
    }
    Ok(())
}

/// n1 -- s1 -- s2 -- s3 -- s1, n2 -- s2
///
/// A ring of switches that pass nothing by themselves is no loop.
pub(crate) fn flows_lead_through_a_ring(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let ring = |mode: &str, flows: [&str; 3]| {
        let [s1, s2, s3] = flows;
        format!(
            "
name: sdn
switches:
  s1: {{ backend: ovs, fail_mode: {mode}, flows: [{s1}] }}
  s2: {{ backend: ovs, fail_mode: {mode}, flows: [{s2}] }}
  s3: {{ backend: ovs, fail_mode: {mode}, flows: [{s3}] }}
nodes:
  n1: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24, fd00::1/64] }} }} }}
  n2: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.2/24, fd00::2/64] }} }} }}
links:
  - endpoints: [n1, s1]
  - endpoints: [n2, s2]
  - endpoints: [s1, s2]
  - endpoints: [s2, s3]
  - endpoints: [s3, s1]
"
        )
    };
    // There the short way, and back the long one.
    let flows = [
        "\"in_port=n1,actions=output:s2\", \"in_port=s3,actions=output:n1\"",
        "\"in_port=s1,actions=output:n2\", \"in_port=n2,actions=output:s3\"",
        "\"in_port=s2,actions=output:s1\"",
    ];
    world.file("lab.yaml", &ring("standalone", flows));
    world.ovsns("up lab.yaml").code(2).says("closes a loop of switches");
    world.file("lab.yaml", &ring("secure", ["", "", ""]));
    world.ovsns("up lab.yaml").ok();
    world.silence("sdn.n1", "10.0.0.2");
    world.file("lab.yaml", &ring("secure", flows));
    world.ovsns("up lab.yaml").ok();
    world.pings("sdn.n1", "10.0.0.2");
    world.pings("sdn.n2", "fd00::1");
    assert!(tcp(world, ["sdn.n1", "sdn.n2"], "10.0.0.2"));
    let s3 = self::flows(world, &bridge(world, "s3"));
    assert!(!s3.contains("n_packets=0,"), "the way back leads over it: {s3}");
    Ok(())
}

/// n1, n2 -- s1 -- controller in n2
///
/// The switch itself is on the network that it makes, at 10.0.0.9.
pub(crate) fn a_controller_behind_its_switch(world: &World) -> Verdict {
    world.needs("ovs-testcontroller")?;
    world.needs("ethtool")?;
    let _ovs = world.open_vswitch(&[])?;
    let at = "controllers: [\"tcp:10.0.0.2:6653\"]";
    world.file("lab.yaml", &lab(at));
    world.ovsns("up lab.yaml").ok();
    let s1 = bridge(world, "s1");
    world.run(&format!("ip addr add 10.0.0.9/24 dev {s1}"));
    // As with every interface on the userspace datapath.
    world.run(&format!("ethtool -K {s1} tx off"));
    let words = "ip netns exec sdn.n2 ovs-testcontroller ptcp:6653:10.0.0.2";
    let _controller = world.start(words);
    // A switch that passes nothing does not even reach it,
    for _ in 0..3 {
        world.silence("sdn.n1", "10.0.0.2");
    }
    assert!(!is_connected(world));
    // unless it makes that way for itself.
    world.ovsns("switch set s1 in_band=true").ok();
    pings_by_and_by(world, "sdn.n1", "10.0.0.2");
    // Flows that it hides lead to it, and `--all` shows them.
    let shown = world.ovsns("flow dump s1 --all").ok();
    assert!(shown.stdout.contains("nw_dst=10.0.0.2,tp_dst=6653"), "{shown}");
    let shown = world.ovsns("flow dump s1").ok();
    assert!(!shown.stdout.contains("tp_dst=6653,actions=NORMAL"), "{shown}");
    Ok(())
}

/// n1 -- s1 -- s2 -- n2, both with a controller on os-ken
pub(crate) fn a_controller_on_os_ken(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let keys = format!("{AT}, protocols: [OpenFlow13],");
    world.file("lab.yaml", &TWO_SWITCHES.replace("KEYS", &keys));
    world.ovsns("up lab.yaml").ok();
    world.silence("sdn.n1", "10.0.0.2");

    let mut first = os_ken(world)?;
    let mut seen = [first.line_with("switch "), first.line_with("switch ")];
    seen.sort();
    assert_eq!(seen, ["switch 00000000000000a1", "switch 00000000000000a2"]);
    pings_by_and_by(world, "sdn.n1", "10.0.0.2");
    pings_by_and_by(world, "sdn.n1", "fd00::2");
    assert!(tcp(world, ["sdn.n2", "sdn.n1"], "10.0.0.1"));
    world.ovsns("flow dump s1").ok().says("actions=output:s2").says("in_port=s2,");
    until("the database knows that it is connected", || is_connected(world));

    // A station that it has heard of is reached without it.
    kill(first);
    world.pings("sdn.n1", "10.0.0.2");
    world.ovsns("node add n3 --link s2").ok();
    world.silence("sdn.n1", "10.0.0.3");
    let mut second = os_ken(world)?;
    second.line_with("switch ");
    pings_by_and_by(world, "sdn.n1", "10.0.0.3");
    Ok(())
}

/// Starts a learning switch on os-ken, which `integration/os-ken` installs.
fn os_ken(world: &World) -> Result<Running, Skip> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let place = cache.or(home).unwrap_or_default().join("ovsns-os-ken");
    if !place.join("python").exists() {
        return Err(Skip("there is no os-ken; integration/run --long installs it".into()));
    }
    let program = world.file("learning_switch.py", include_str!("learning_switch.py"));
    let mut command = Command::new(place.join("python"));
    command.env("PYTHONPATH", place.join("lib")).args([program, "6653"]);
    Ok(world.start_command(&mut command))
}

/// h1, h2 -- s1 -- s2 -- h3, both with a controller
pub(crate) fn the_example(world: &World) -> Verdict {
    world.needs("ovs-testcontroller")?;
    world.needs("ovs-vswitchd")?;
    let text = world.example("sdn.yaml");
    let foreign = world.foreign();
    // As its head says, with an Open vSwitch of our own.
    let line = text.lines().find_map(|line| line.strip_prefix("#   ovs-testcontroller "));
    let words = line.and_then(|line| line.strip_suffix(" &")).expect("a line with a controller");
    let controller = world.start(&format!("ovs-testcontroller {words}"));
    world.ovsns("up sdn.yaml").ok();
    pings_by_and_by(world, "sdn.h1", "10.0.0.3");
    pings_by_and_by(world, "sdn.h3", "fd00::1");
    // h2 is reached by all but a ping.
    world.silence("sdn.h2", "10.0.0.1");
    world.silence("sdn.h3", "10.0.0.2");
    pings_by_and_by(world, "sdn.h2", "fd00::3");
    assert!(tcp(world, ["sdn.h2", "sdn.h3"], "10.0.0.3"));
    world.ovsns("trace s1 in_port=h2,icmp").ok().says("Datapath actions: drop");
    world.ovsns("up sdn.yaml").ok().says("nothing to change");
    world.ovsns("down sdn").ok();
    kill(controller);
    foreign.is_untouched(world);
    Ok(())
}
