//! The units of `examples/systemd` on a machine that systemd boots: what starts them,
//! what they start, and what is there when they are stopped.

use world::{Booted, Finished, Machine, Skip, Verdict, World, until_within};

/// n1 -- s1 -- n2, and a process in a node that has all of its own
const BRIDGE: &str = "
name: bridge
switches: { s1: { backend: linux } }
nodes:
  n[1-2]: {}
  own:
    isolation: [all]
    run: [{ name: sleeper, command: sleep infinity }]
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s1]
  - endpoints: [own:eth0, s1]
";

/// n1 -- s1 -- n2
const OVS: &str = "
name: ovs
switches: { s1: { backend: ovs } }
nodes: { 'n[1-2]': {} }
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s1]
";

const NODES: [&str; 5] = ["bridge.n1", "bridge.n2", "bridge.own", "ovs.n1", "ovs.n2"];
const SERVER: &str = "ovsns.service";
const UNITS: [&str; 3] = ["ovsns.service", "ovsns.socket", "ovsns@.service"];
/// How long a state of a machine may take to be there.
const SOON: u64 = 30;

/// A machine with the units as they are, and both labs.
fn machine(world: &World) -> Result<Machine, Skip> {
    world.needs("ovs-vswitchd")?;
    let machine = world.machine()?;
    world.run("mkdir -p systemd");
    for unit in UNITS {
        let text = world.example(&format!("systemd/{unit}"));
        machine.file(&format!("/etc/systemd/system/{unit}"), &text);
    }
    machine.file("/etc/ovsns/bridge.yaml", BRIDGE);
    machine.file("/etc/ovsns/ovs.yaml", OVS);
    Ok(machine)
}

/// The same, on which the labs are there from boot on.
fn booted(world: &World) -> Result<Booted, Skip> {
    let machine = machine(world)?;
    for unit in ["ovsns.socket", "ovsns@bridge", "ovsns@ovs"] {
        machine.enable(unit);
    }
    let machine = machine.boot(world);
    all_is_well(&machine);
    Ok(machine)
}

/// Fails the test unless both labs are there, and work.
#[track_caller]
fn labs_are_up(machine: &Booted) {
    assert_eq!(machine.namespaces(), NODES);
    machine.pings("bridge.n1", "10.0.0.2");
    machine.pings("ovs.n1", "10.0.0.2");
}

/// Fails the test unless systemd has found nothing wrong.
#[track_caller]
fn all_is_well(machine: &Booted) {
    let failed = machine.run("systemctl --no-pager --no-legend --failed list-units").stdout;
    assert_eq!(failed, "", "{}", machine.disk().journal());
}

/// The number of the server, which runs.
#[track_caller]
fn server(machine: &Booted) -> u32 {
    until_within(SOON, "the server serves", || machine.property(SERVER, "ActiveState") == "active");
    let id = machine.property(SERVER, "MainPID").parse().expect("a number");
    assert_ne!(id, 0, "{}", machine.disk().journal());
    id
}

/// The numbers of what keeps labs: it stays when the server goes.
fn keepers(machine: &Booted) -> String {
    machine.run("pgrep -f ovsns.keep-|ovs-vswitchd|ovsdb-server|sleep.infinity").stdout
}

/// Runs `ovsns` there.
fn ovsns(machine: &Booted, words: &str) -> Finished {
    machine.attempt(&format!("ovsns {words}"))
}

#[track_caller]
fn both_are_listed(machine: &Booted) {
    let listed = ovsns(machine, "list --json").ok().json();
    let labs: Vec<_> = listed.as_array().expect("a list").iter().map(|lab| &lab["lab"]).collect();
    assert_eq!(labs, ["bridge", "ovs"], "{listed}");
}

/// The first lab's command starts the server, which makes both, with all that its unit
/// forbids it and them.
pub(crate) fn labs_are_there_from_boot_on(world: &World) -> Verdict {
    let machine = booted(world)?;
    labs_are_up(&machine);
    for lab in ["ovsns@bridge", "ovsns@ovs"] {
        assert_eq!(machine.property(lab, "SubState"), "exited", "and so it stays");
    }
    // Nobody but a client has started it.
    assert_eq!(machine.attempt("systemctl is-enabled ovsns.service").stdout, "disabled\n");
    let server = server(&machine);
    assert_eq!(machine.property(SERVER, "Type"), "notify");
    let status = machine.property(SERVER, "StatusText");
    assert_eq!(status, "serving at /run/ovsns/ovsns.sock");
    // It has said that it lives since it was started.
    assert_eq!(machine.property(SERVER, "WatchdogUSec"), "30s");
    until_within(SOON, "it says that it lives", || {
        let of = |property| machine.property(SERVER, property).parse::<u64>().expect("a time");
        of("ExecMainStartTimestampMonotonic") < of("WatchdogTimestampMonotonic")
    });
    // A lab that it has made, since it serves.
    machine.run("systemctl restart ovsns@bridge ovsns@ovs");
    labs_are_up(&machine);
    let inside = machine.run("pgrep -f sleep.infinity").stdout;
    for process in [&server.to_string(), inside.trim()] {
        let status = machine.run(&format!("cat /proc/{process}/status")).stdout;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
        };
        assert_eq!(field("Seccomp:"), "2", "what is filtered is inherited");
        let may = u64::from_str_radix(&field("CapBnd:"), 16).expect("a mask");
        let [sys_module, sys_rawio, net_admin] = [16, 17, 12].map(|bit| may >> bit & 1 == 1);
        assert!(!sys_module && !sys_rawio && net_admin, "{status}");
    }
    let group = machine.run("systemctl show --property=ControlGroup --value ovsns.service").stdout;
    let held = machine.run(&format!("cat /sys/fs/cgroup{}/cgroup.procs", group.trim())).stdout;
    let vswitchd = machine.run("pgrep -x ovs-vswitchd").stdout;
    assert!(held.lines().any(|id| id == vswitchd.trim()), "it runs within the unit: {held}");
    // What its mounts are is what everybody's are.
    let of = |id: u32| machine.run(&format!("readlink /proc/{id}/ns/mnt")).stdout;
    assert_eq!(of(server), of(1));
    machine.power_off();
    Ok(())
}

/// Stopped, killed, hung: labs are there meanwhile and are known afterwards.
pub(crate) fn the_server_comes_and_goes_and_labs_stay(world: &World) -> Verdict {
    let machine = booted(world)?;
    let (first, kept) = (server(&machine), keepers(&machine));
    machine.run("systemctl stop ovsns");
    assert_eq!(machine.property(SERVER, "ActiveState"), "inactive");
    assert_eq!(machine.property(SERVER, "Result"), "success");
    assert_eq!(keepers(&machine), kept);
    labs_are_up(&machine);
    // The next client has it started.
    both_are_listed(&machine);
    let second = server(&machine);
    assert_ne!(second, first);
    machine.run(&format!("kill -KILL {second}"));
    until_within(SOON, "it is another", || {
        machine.property(SERVER, "NRestarts") == "1" && server(&machine) != second
    });
    both_are_listed(&machine);
    labs_are_up(&machine);
    machine.run("systemctl restart ovsns");
    server(&machine);
    both_are_listed(&machine);
    // One that does not answer itself any more is no server.
    let edit = "[Service]\nWatchdogSec=2\n";
    machine.disk().file("/etc/systemd/system/ovsns.service.d/override.conf", edit);
    machine.run("systemctl daemon-reload");
    machine.run("systemctl restart ovsns");
    machine.run(&format!("kill -STOP {}", server(&machine)));
    until_within(SOON, "systemd misses it", || {
        machine.disk().journal().contains("ovsns.service: Watchdog timeout")
    });
    both_are_listed(&machine);
    assert_eq!(keepers(&machine), kept);
    labs_are_up(&machine);
    let told = machine.disk().journal();
    assert!(!told.contains(" (exe)"), "nobody knows what that is: {told}");
    machine.power_off();
    Ok(())
}

/// A lab is there as long as its unit is, and when the power goes it is taken down in
/// good order.
pub(crate) fn labs_go_with_their_units(world: &World) -> Verdict {
    let links = || world.run("ip -o link show").stdout;
    let before = links();
    let machine = booted(world)?;
    machine.run("systemctl stop ovsns@bridge");
    assert_eq!(machine.namespaces(), &NODES[3..]);
    machine.run("systemctl start ovsns@bridge");
    labs_are_up(&machine);
    // Its file has changed.
    machine.disk().file("/etc/ovsns/bridge.yaml", &BRIDGE.replace("n[1-2]", "n[1-3]"));
    machine.run("systemctl reload ovsns@bridge");
    machine.run("ip -n bridge.n3 link show lo");
    machine.disk().file("/etc/ovsns/bridge.yaml", BRIDGE);
    machine.run("systemctl reload ovsns@bridge");
    labs_are_up(&machine);
    // Somebody has removed it already.
    ovsns(&machine, "down bridge").ok();
    machine.run("systemctl stop ovsns@bridge");
    machine.run("systemctl start ovsns@bridge");
    all_is_well(&machine);

    let off = machine.power_off();
    let told = off.journal();
    let at = |what: &str, which: &str| {
        let is_it = |line: &&str| line.starts_with(what) && line.contains(which);
        let last = told.lines().enumerate().filter(|(_, line)| is_it(line)).last();
        last.unwrap_or_else(|| panic!("nothing {what} {which}:\n{told}")).0
    };
    // By the server, which ends after them.
    let server = at("Stopping ", "ovsns, a datapath manager");
    assert!(at("Stopped ", "The lab bridge") < server, "{told}");
    assert!(at("Stopped ", "The lab ovs") < server, "{told}");
    assert!(!told.contains("Failed with result"), "{told}");
    assert_eq!(links(), before, "its network is this world's");
    for place in ["/run/ovsns/labs", "/run/netns"] {
        let left = std::fs::read_dir(off.path(place)).into_iter().flatten().count();
        assert_eq!(left, 0, "{place}");
    }

    let machine = off.boot(world);
    all_is_well(&machine);
    labs_are_up(&machine);
    machine.power_off();
    Ok(())
}

/// What the units' comments say that one may add to them does what they say.
pub(crate) fn edited_units_work(world: &World) -> Verdict {
    world.needs("openssl")?;
    let machine = machine(world)?;
    let edit = |unit: &str, text: &str| {
        machine.file(&format!("/etc/systemd/system/{unit}.d/override.conf"), text);
    };
    edit(
        "ovsns.service",
        &proposed(world, "ovsns.service").replace("serve --tcp", "serve --group netdev --tcp"),
    );
    edit("ovsns.socket", &proposed(world, "ovsns.socket"));
    let place = |name: &str| machine.path("/etc/ovsns").join(name).display().to_string();
    world.sh(&format!("umask 077; openssl rand -hex 32 >{}", place("token")));
    let keys = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let (key, cert) = (place("key.pem"), place("cert.pem"));
    world.run(&format!("{keys} -subj /CN=machine -keyout {key} -out {cert}"));
    let groups = std::fs::read_to_string(machine.path("/etc/group")).expect("a file");
    if !groups.contains("\nnetdev:") {
        machine.file("/etc/group", &format!("{groups}netdev:x:64999:\n"));
    }
    machine.enable("ovsns.socket");
    let machine = machine.boot(world);
    all_is_well(&machine);
    assert_eq!(machine.property(SERVER, "ActiveState"), "inactive", "nobody has asked");
    // The first who asks is one of the group.
    let member = "setpriv --reuid 65534 --regid netdev --clear-groups";
    let up = "ovsns up --topo single,2 --backend linux --lab theirs";
    machine.run(&format!("{member} {up}"));
    assert_eq!(machine.namespaces(), ["theirs.h1", "theirs.h2"]);
    machine.pings("theirs.h1", "10.0.0.2");
    let other = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    assert_ne!(machine.attempt(&format!("{other} {up}")).status.code(), Some(0));
    server(&machine);
    let told = machine.disk().journal();
    assert!(told.contains("serving at https://0.0.0.0:7443"), "{told}");
    machine.run("systemctl stop ovsns");
    machine.run(&format!("{member} ovsns down theirs"));
    assert!(machine.namespaces().is_empty());
    machine.power_off();
    Ok(())
}

/// What the comment of a unit proposes for `systemctl edit`.
fn proposed(world: &World, unit: &str) -> String {
    let text = world.example(&format!("systemd/{unit}"));
    let lines = text.lines().take_while(|line| line.starts_with('#'));
    let lines: Vec<&str> = lines.filter_map(|line| line.strip_prefix("#   ")).collect();
    let first = lines.iter().position(|line| line.starts_with('['));
    let first = first.unwrap_or_else(|| panic!("{unit} proposes nothing"));
    lines[first..].join("\n") + "\n"
}
