//! An Open vSwitch of our own: started, watched over, found again, and gone
//! without a trace. Witnesses are `ps`, the files, and Open vSwitch's own tools.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use world::{Finished, Inventory, Skip, Tool, Verdict, World, until};

/// Where it is.
const DIRECTORY: &str = "/run/ovsns/ovs";

/// What a test of this file needs.
pub(crate) fn needs(world: &World) -> Result<(), Skip> {
    ["ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl"]
        .iter()
        .try_for_each(|program| world.needs(program))
}

/// Starts it, to stay.
#[track_caller]
fn start(world: &World) -> Value {
    world.ovsns("keep-ovs --start --json").ok().json()
}

/// What it says of itself.
#[track_caller]
pub(crate) fn facts(world: &World) -> Value {
    let report = world.ovsns("keep-ovs --show --json").json();
    assert_eq!(report["state"], "kept", "{report:#}");
    report["facts"].clone()
}

/// Uses it and leaves; says which keeper it had.
#[track_caller]
fn used(world: &World) -> Finished {
    world.ovsns("keep-ovs --use").ok()
}

/// Stops it; nothing of it may be left.
#[track_caller]
fn stop(world: &World, before: &Inventory) {
    world.ovsns("keep-ovs --stop").ok().says("stopped");
    nothing_is_left(world, before);
}

/// Awaits the end of what nobody is told of. A process that ends loses its
/// command line first and its sockets last.
#[track_caller]
pub(crate) fn all_ends(world: &World) {
    until("nothing runs", || daemons(world).is_empty() && !sockets().contains("ovs"));
}

fn sockets() -> String {
    std::fs::read_to_string("/proc/net/unix").expect("the sockets")
}

#[track_caller]
fn nothing_is_left(world: &World, before: &Inventory) {
    assert_eq!(daemons(world), Vec::<String>::new(), "processes");
    assert!(!Path::new("/run/ovsns").exists(), "the directory");
    // Nobody waits until a dying switch has closed the last of its files.
    until("the sockets are gone", || !sockets().contains("ovs"));
    world.inventory().must_equal(before);
}

/// The command lines of all that belongs to it.
fn daemons(world: &World) -> Vec<String> {
    let words = ["keep-ovs --directory", "ovsdb-server", "ovs-vswitchd", "ovsdb-tool"];
    let all = world.processes().into_iter().map(|(_, line)| line);
    all.filter(|line| words.iter().any(|word| line.contains(word))).collect()
}

/// Runs a line of shell with the tools of Open vSwitch talking to ours.
#[track_caller]
fn ovs(world: &World, line: &str) -> String {
    let line = format!("export OVS_RUNDIR={DIRECTORY}; {line}");
    world.sh(&line).stdout.trim().to_owned()
}

/// n1 -- b1 -- n2, by hand: 10.0.0.1 and 10.0.0.2.
#[track_caller]
fn two_nodes(world: &World) {
    for n in [1, 2] {
        world.sh(&format!(
            "ip netns add n{n}
             ip link add v{n} type veth peer name eth0 netns n{n}
             ip -n n{n} addr add 10.0.0.{n}/24 dev eth0
             ip -n n{n} link set eth0 up
             ip link set v{n} up"
        ));
    }
    ovs(
        world,
        "ovs-vsctl add-br b1 -- set bridge b1 datapath_type=netdev external_ids:mark=mine \
         -- add-port b1 v1 -- add-port b1 v2",
    );
    world.pings("n1", "10.0.0.2");
}

#[track_caller]
fn no_nodes(world: &World) {
    for n in [1, 2] {
        world.run(&format!("ip netns del n{n}"));
        until("the link is gone", || world.link("", &format!("v{n}")).is_none());
    }
}

pub(crate) fn end(pid: &Value, signal: Signal) {
    let pid = pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process id");
    kill(Pid::from_raw(pid), signal).expect("a process that runs");
}

fn is_gone(world: &World, pid: &Value) -> bool {
    world.processes().iter().all(|(id, _)| pid.as_u64() != Some(u64::from(*id)))
}

/// A keeper and two daemons, and nothing else.
pub(crate) fn it_is_private_and_leaves_nothing(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    world.ovsns("keep-ovs --show").code(1).says("there is none");
    world.ovsns("keep-ovs --use").code(1).says("there is none");
    world.ovsns("keep-ovs --stop").ok().says("there was none");
    let running = start(world);
    assert_eq!(running["rundir"], DIRECTORY);
    assert_eq!(running["tso"], true);
    assert_eq!(running["version"], ovs(world, "ovs-appctl version | awk '{print $4; exit}'"));
    assert_eq!(
        running["version"],
        ovs(world, "ovs-vsctl get Open_vSwitch . ovs_version").replace('"', "")
    );
    assert_eq!(daemons(world).len(), 3, "{:#?}", daemons(world));

    // Nobody else may so much as look into it.
    assert_eq!(world.run(&format!("stat -c %a {DIRECTORY}")).stdout.trim(), "700");
    let open = world.run(&format!("find {DIRECTORY} -perm /077 ! -type l")).stdout;
    assert_eq!(open, "", "open to others");
    assert!(!Path::new("/run/openvswitch").exists());
    let db = running["db"].as_str().expect("a path").to_owned();
    world.run(&format!("ovs-vsctl --db=unix:{db} add-br b1 -- set bridge b1 datapath_type=netdev"));
    for socket in ["db.sock", "ovs-vswitchd.ctl", "ovsdb-server.ctl", "b1.mgmt", "b1.snoop"] {
        world.run(&format!("test -S {DIRECTORY}/{socket}"));
    }
    let ctl = running["vswitchd_ctl"].as_str().expect("a path").to_owned();
    world.run(&format!("ovs-appctl -t {ctl} fdb/show b1"));
    // One variable, and all tools talk to it.
    ovs(world, "ovs-ofctl dump-flows b1; ovs-appctl bridge/dump-flows b1; ovs-vsctl br-exists b1");
    assert_eq!(ovs(world, "ovs-vsctl get Open_vSwitch . external_ids:ovsns"), "\"ovsns keeper\"");

    // A second start finds the first, which stays when nobody uses it.
    assert_eq!(start(world)["keeper"], running["keeper"]);
    ovs(world, "ovs-vsctl del-br b1");
    used(world).says("it is to stay");
    assert_eq!(facts(world)["keeper"], running["keeper"]);
    // With a bridge on it, too, nothing is left.
    ovs(world, "ovs-vsctl add-br b2 -- set bridge b2 datapath_type=netdev");
    stop(world, &before);
    Ok(())
}

/// Started in a terminal that is closed, and before a pipe that somebody reads.
pub(crate) fn it_survives_the_command(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    let mut command = world.command();
    command.args(["keep-ovs", "--start"]);
    let terminal = world.terminal(&command);
    terminal.shows("export OVS_RUNDIR");
    terminal.finish().ok();
    let keeper = facts(world)["keeper"].clone();
    let session = |pid: &Value| world.run(&format!("ps -o sid= -p {pid}")).stdout.trim().to_owned();
    assert_eq!(session(&keeper), keeper.to_string(), "a session of its own");
    assert_eq!(world.run(&format!("readlink /proc/{keeper}/cwd")).stdout.trim(), "/");
    end(&keeper, Signal::SIGHUP);
    end(&keeper, Signal::SIGPIPE);
    assert_eq!(facts(world)["keeper"], keeper);
    stop(world, &before);

    // `cat` reads to the end, which comes when nobody has the other end any
    // more: not the keeper, nor its daemons.
    let ovsns = world.binary().display();
    world.sh(&format!("{{ {ovsns} keep-ovs --start 5>&1; }} | cat")).says("export");
    let open = world.sh(&format!("ls -l /proc/{}/fd", facts(world)["switch"])).stdout;
    assert!(!open.contains("/world"), "{open}");
    stop(world, &before);
    Ok(())
}

/// n1 -- b1 -- n2; either daemon is killed while they ping each other.
pub(crate) fn daemons_that_are_killed_come_back(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    start(world);
    two_nodes(world);
    for daemon in ["server", "switch", "switch"] {
        let killed = facts(world);
        // One that has only just come up is given a pause.
        std::thread::sleep(Duration::from_millis(1100));
        let pings = world.start("ip netns exec n1 ping -n -i 0.01 -c 400 -w 20 10.0.0.2");
        end(&killed[daemon], Signal::SIGKILL);
        until("it is back", || {
            let now = facts(world);
            now[daemon] != killed[daemon] && now[daemon].is_u64() && now["ready"] == true
        });
        let other = if daemon == "server" { "switch" } else { "server" };
        assert_eq!(facts(world)[other], killed[other], "the other one went on");
        let said = pings.finish().ok();
        // The server moves no frame; without a switch nothing moves.
        let lost = lost(&said);
        println!("{daemon}: lost {lost} of 400, 10 ms apart");
        assert!(lost <= if daemon == "server" { 20 } else { 200 }, "{said}");
        assert_eq!(ovs(world, "ovs-vsctl get bridge b1 external_ids:mark"), "mine");
    }
    assert_eq!(facts(world)["restarts"], 3);
    let log = std::fs::read_to_string(format!("{DIRECTORY}/keeper.log")).expect("a log");
    assert_eq!(log.matches("was ended by SIGKILL; it is started again\n").count(), 3, "{log}");
    // The tools find the switch that runs now.
    ovs(world, "ovs-appctl fdb/show b1");
    no_nodes(world);
    stop(world, &before);
    Ok(())
}

fn lost(pings: &Finished) -> u32 {
    // `400 packets transmitted, 391 received, ...`
    let line = pings.stdout.lines().find(|line| line.contains("packets transmitted"));
    let numbers: Vec<u32> = line
        .unwrap_or_else(|| panic!("no count\n{pings}"))
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    numbers[0] - numbers[1]
}

/// A switch that ends as soon as it is started.
pub(crate) fn one_that_does_not_come_up_is_no_switch(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    // In front of the real one.
    world.sh("mkdir bin; printf '#!/bin/sh\necho no such option >&2; exit 3\n' >bin/ovs-vswitchd
              chmod +x bin/ovs-vswitchd");
    let path = format!("/run/world/bin:{}", std::env::var("PATH").expect("a path"));
    let mut command = world.command();
    let failed = run(command.args(["keep-ovs", "--start"]).env("PATH", &path));
    failed
        .code(1)
        .says("error: `ovs-vswitchd` did not come up: ended with exit status 3")
        .says("no such option")
        .says("hint: ");
    all_ends(world);
    world.run("rm -r bin");
    nothing_is_left(world, &before);

    // One that fails later is tried again, each time after a longer pause.
    let mut command = world.command();
    world.sh("mkdir bin; printf '#!/bin/sh\n[ -e /run/world/bad ] && exit 3\nexec /usr/sbin/ovs-vswitchd \"$@\"\n' \
              >bin/ovs-vswitchd; chmod +x bin/ovs-vswitchd");
    run(command.args(["keep-ovs", "--start"]).env("PATH", &path)).ok();
    let first = facts(world);
    // One that has only just come up is given a pause.
    std::thread::sleep(Duration::from_millis(1100));
    world.sh(">/run/world/bad");
    end(&first["switch"], Signal::SIGKILL);
    let log = || std::fs::read_to_string(format!("{DIRECTORY}/keeper.log")).unwrap_or_default();
    until("it has been tried three times", || log().contains("not before 400 ms"));
    let text = log();
    assert!(text.contains("not before 100 ms") && text.contains("not before 200 ms"), "{text}");
    world.run("rm bad");
    until("it is back", || facts(world)["ready"] == true);
    stop(world, &before);
    Ok(())
}

/// n1 -- b1 -- n2; the keeper is killed.
pub(crate) fn a_killed_keeper_stops_nothing(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    start(world);
    two_nodes(world);
    let first = facts(world);
    let pings = world.start("ip netns exec n1 ping -n -i 0.01 -c 300 -w 20 10.0.0.2");
    end(&first["keeper"], Signal::SIGKILL);
    until("it is gone", || is_gone(world, &first["keeper"]));
    let report = world.ovsns("keep-ovs --show --json").code(1).json();
    assert_eq!(report["state"], "abandoned");
    used(world);
    let second = facts(world);
    assert_ne!(second["keeper"], first["keeper"]);
    for daemon in ["server", "switch"] {
        assert_eq!(second[daemon], first[daemon], "{daemon} keeps its process");
    }
    assert_eq!((&second["tso"], &second["kept"]), (&first["tso"], &first["kept"]));
    let said = pings.finish().ok();
    assert!(lost(&said) <= 5, "{said}");

    // A new keeper hears of the end of what it did not start, and does not take
    // it for a switch that cannot come up, however soon it ends.
    end(&second["keeper"], Signal::SIGKILL);
    until("it is gone", || is_gone(world, &second["keeper"]));
    used(world);
    end(&second["switch"], Signal::SIGKILL);
    until("it is back", || {
        let now = facts(world);
        now["switch"].is_u64() && now["switch"] != second["switch"] && now["ready"] == true
    });
    let log = std::fs::read_to_string(format!("{DIRECTORY}/keeper.log")).expect("a log");
    assert!(log.contains("ended; it is started again\n"), "{log}");
    world.pings("n1", "10.0.0.2");

    // Keeper and switch, keeper and server, everything.
    for killed in
        [&["keeper", "switch"][..], &["keeper", "server"], &["keeper", "server", "switch"]]
    {
        let now = facts(world);
        for process in killed {
            end(&now[process], Signal::SIGKILL);
        }
        until("they are gone", || killed.iter().all(|it| is_gone(world, &now[it])));
        used(world).says("left: ");
        world.pings("n1", "10.0.0.2");
        assert_eq!(ovs(world, "ovs-vsctl get bridge b1 external_ids:mark"), "mine");
    }

    // Somebody may stop what nobody keeps.
    let last = facts(world);
    end(&last["keeper"], Signal::SIGKILL);
    until("it is gone", || is_gone(world, &last["keeper"]));
    no_nodes(world);
    stop(world, &before);
    Ok(())
}

/// Commands come and go, and the last one turns out the light.
pub(crate) fn the_last_one_to_leave_stops_it(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    let hold = || {
        let mut held = world.start(&format!("{} keep-ovs --hold", world.binary().display()));
        held.line_with("export OVS_RUNDIR");
        held
    };
    let (first, second) = (hold(), hold());
    assert_eq!(facts(world)["users"], 2);
    first.finish().ok().says("left: others use it: 1");
    used(world).says("left: others use it: 1");
    second.finish().ok().says("left: stopped");
    nothing_is_left(world, &before);

    // A bridge keeps it.
    let first = hold();
    ovs(world, "ovs-vsctl add-br b1 -- set bridge b1 datapath_type=netdev");
    first.finish().ok().says("left: it has bridges: 1");
    ovs(world, "ovs-vsctl del-br b1");
    used(world).says("left: stopped");
    nothing_is_left(world, &before);

    // The tap of a bridge goes, too, whose row went before the switch heard of it.
    let first = hold();
    ovs(world, "ovs-vsctl add-br b1 -- set bridge b1 datapath_type=netdev");
    end(&facts(world)["switch"], Signal::SIGSTOP);
    ovs(world, "ovs-vsctl --no-wait del-br b1");
    first.finish().ok().says("left: stopped");
    nothing_is_left(world, &before);

    // One that is killed needs it no more.
    let first = hold();
    first.signal(Signal::SIGKILL);
    all_ends(world);
    nothing_is_left(world, &before);
    // One that comes while it is being stopped gets one, and may be gone again
    // before the first.
    let first = hold();
    first.signal(Signal::SIGKILL);
    let second = hold();
    second.finish().ok().says("left: ");
    drop(first);
    all_ends(world);
    nothing_is_left(world, &before);

    // A keeper that is killed under a command does not keep it from leaving.
    let first = hold();
    let keeper = facts(world)["keeper"].clone();
    end(&keeper, Signal::SIGKILL);
    first.finish().ok().says("left: stopped");
    nothing_is_left(world, &before);
    Ok(())
}

/// Told to end by a signal, as all processes are when a machine is shut down.
pub(crate) fn a_signal_ends_it_in_order(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    start(world);
    two_nodes(world);
    // A server that does not care must not keep the rest.
    end(&facts(world)["server"], Signal::SIGSTOP);
    let keeper = world.processes().into_iter().find(|(_, line)| line.contains("keep-ovs --dir"));
    let (keeper, _) = keeper.expect("a keeper");
    end(&keeper.into(), Signal::SIGTERM);
    no_nodes(world);
    all_ends(world);
    nothing_is_left(world, &before);
    Ok(())
}

/// n1 -- b1 -- n2, and somebody clears `/run`.
pub(crate) fn a_deleted_directory_is_made_again(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    start(world);
    two_nodes(world);
    ovs(world, "ovs-vsctl set bridge b1 external_ids:last=word");
    for deleted in [
        "/run/ovsns",
        DIRECTORY,
        "/run/ovsns/ovs/db.sock",
        "/run/ovsns/ovs/ovs-vswitchd.ctl",
        "/run/ovsns/ovs/conf.db",
    ] {
        let first = facts(world);
        world.run(&format!("rm -r {deleted}"));
        let pings = world.start("ip netns exec n1 ping -n -i 0.01 -c 300 -w 20 10.0.0.2");
        assert_eq!(facts(world)["damaged"], true, "{deleted}");
        used(world).says(&format!("keeper {}", first["keeper"]));
        let now = facts(world);
        assert_eq!((&now["damaged"], &now["ready"]), (&false.into(), &true.into()));
        assert_eq!(ovs(world, "ovs-vsctl get bridge b1 external_ids"), "{last=word, mark=mine}");
        ovs(world, "ovs-appctl fdb/show b1; ovs-ofctl dump-flows b1");
        let said = pings.finish().ok();
        println!("{deleted}: lost {} of 300, 10 ms apart", lost(&said));
        assert!(lost(&said) <= 200, "{said}");
        assert_eq!(world.run(&format!("stat -c %a {DIRECTORY}")).stdout.trim(), "700");
        let open = world.run(&format!("find {DIRECTORY} -perm /077 ! -type l")).stdout;
        assert_eq!(open, "", "open to others");
    }

    // Its keeper killed as well: `ovs-netdev` and the processes are left.
    let first = facts(world);
    end(&first["keeper"], Signal::SIGKILL);
    world.run("rm -r /run/ovsns");
    until("it is gone", || is_gone(world, &first["keeper"]));
    used(world).says("left: ");
    assert_eq!(ovs(world, "ovs-vsctl get bridge b1 external_ids"), "{last=word, mark=mine}");
    world.pings("n1", "10.0.0.2");

    // A switch killed while the directory is gone.
    let first = facts(world);
    world.run("rm -r /run/ovsns");
    end(&first["switch"], Signal::SIGKILL);
    until("all is back", || facts(world)["ready"] == true && facts(world)["damaged"] == false);
    world.pings("n1", "10.0.0.2");

    // Deleted, and then stopped.
    world.run("rm -r /run/ovsns");
    no_nodes(world);
    stop(world, &before);
    Ok(())
}

/// Another Open vSwitch is there: as the distribution starts it, without its
/// switch, and somewhere else altogether.
pub(crate) fn it_is_not_started_beside_another(world: &World) -> Verdict {
    needs(world)?;
    let untouched = world.inventory();
    world.sh("
        mkdir -p /run/openvswitch && cd /run/openvswitch
        ovsdb-tool create conf.db /usr/share/openvswitch/vswitch.ovsschema
        ovsdb-server conf.db --remote=punix:db.sock --pidfile=/run/openvswitch/ovsdb-server.pid \
            --unixctl=/run/openvswitch/s.ctl --detach --no-chdir --log-file=/run/openvswitch/s.log
        ovs-vsctl --no-wait init
    ");
    let before = world.inventory();
    let refused = |words: &str| {
        let refused = world.ovsns("keep-ovs --start").code(1).says("error: another Open vSwitch");
        refused.says(words).says("hint: ");
    };
    let nothing_was_made = || {
        until("the keeper is gone", || {
            !daemons(world).iter().any(|it| it.contains("keep-ovs --dir"))
        });
        assert!(!Path::new("/run/ovsns").exists());
    };
    refused("`/run/openvswitch/db.sock` is served by process");
    nothing_was_made();
    world.sh("
        ovs-vswitchd --detach --pidfile=/run/openvswitch/v.pid --unixctl=/run/openvswitch/v.ctl \
            --log-file=/run/openvswitch/v.log
        kill $(cat /run/openvswitch/ovsdb-server.pid)
    ");
    until("the server is gone", || !Path::new("/run/openvswitch/ovsdb-server.pid").exists());
    refused("is `ovs-vswitchd`");
    nothing_was_made();

    // In another network namespace it is in nobody's way.
    world.run("ip netns add other");
    let ovsns = world.binary().display();
    world.run(&format!("ip netns exec other {ovsns} keep-ovs --start"));
    refused("is `ovs-vswitchd`");
    world.run(&format!("ip netns exec other {ovsns} keep-ovs --stop"));
    world.run("ip netns del other");
    world.sh("kill $(cat /run/openvswitch/v.pid)");
    until("the switch is gone", || !Path::new("/run/openvswitch/v.pid").exists());
    drop(before);
    world.run("rm -r /run/openvswitch");
    start(world);
    stop(world, &untouched);
    Ok(())
}

/// Ten commands at once, several times.
pub(crate) fn many_starts_make_one(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    for _ in 0..5 {
        let ovsns = world.binary().display().to_string();
        let starts: Vec<_> =
            (0..10).map(|_| world.start(&format!("{ovsns} keep-ovs --hold --json"))).collect();
        let held: Vec<Finished> = starts
            .into_iter()
            .map(|mut start| {
                let lines = start.lines_to("}").join("\n");
                // Keepers that came too late go at once.
                until("there is one of each", || daemons(world).len() == 3);
                assert_eq!(
                    serde_json::from_str::<Value>(&lines).expect("JSON")["keeper"],
                    facts(world)["keeper"]
                );
                start
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|start| start.finish().ok())
            .collect();
        let stopped = held.iter().filter(|it| it.stdout.contains("left: stopped")).count();
        assert_eq!(stopped, 1, "{held:#?}");
        nothing_is_left(world, &before);
    }
    // Coming and going, so that one comes while another turns out the light.
    let ovsns = world.binary().display();
    world.sh(&format!(
        "for i in 1 2 3 4 5 6; do
           ( for j in 1 2 3 4 5; do {ovsns} keep-ovs --hold </dev/null >/dev/null || touch failed; done ) &
         done; wait; [ ! -e failed ]"
    ));
    // A keeper closes one connection after the other when it ends.
    all_ends(world);
    nothing_is_left(world, &before);
    Ok(())
}

/// The keeper is killed at any moment of its beginning and of its end.
pub(crate) fn killed_at_any_moment(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    let hold = format!("{} keep-ovs --hold", world.binary().display());
    for moment in 0..40 {
        let mut held = world.start(&hold);
        // From the first to the last thing a keeper does, and beyond.
        let start = Instant::now();
        let keeper = loop {
            let all = world.processes();
            if let Some((pid, _)) = all.into_iter().find(|(_, it)| it.contains("keep-ovs --dir")) {
                break pid;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no keeper");
        };
        if 20 < moment {
            held.line_with("OVS_RUNDIR");
            drop(held.input());
        }
        std::thread::sleep(Duration::from_micros(1500 * (moment % 20)));
        // At the end it may be gone by itself.
        let _ = kill(Pid::from_raw(i32::try_from(keeper).expect("a pid")), Signal::SIGKILL);
        println!("killed {:?} after its start", start.elapsed());
        // The command has another keeper do it.
        held.finish().ok().says("left: stopped");
        // The killed one may have started a program that ends by itself.
        all_ends(world);
        nothing_is_left(world, &before);
    }
    Ok(())
}

/// n1 -- b1 -- n2, and TCP with the offloads that a veth has by default; and
/// the control, where it does not connect.
pub(crate) fn tcp_passes_with_default_offloads(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    for (tso, passes) in [(true, true), (false, false)] {
        let words = format!("keep-ovs --start --json --tso {tso}");
        assert_eq!(world.ovsns(&words).ok().json()["tso"], tso);
        two_nodes(world);
        let mut echo = world.tool("n2", Tool::Echo, "10.0.0.2 7000");
        echo.line_with("ready");
        let drip = world.tool("n1", Tool::Drip, "10.0.0.2 7000").finish();
        assert_eq!(drip.status.success(), passes, "userspace TSO {tso}\n{drip}");
        // It stays as it was chosen, whoever asks for something else.
        let words = format!("keep-ovs --start --json --tso {}", !tso);
        assert_eq!(world.ovsns(&words).ok().json()["tso"], tso);
        end(&facts(world)["keeper"], Signal::SIGKILL);
        used(world);
        assert_eq!(facts(world)["tso"], tso);
        drop(echo);
        no_nodes(world);
        stop(world, &before);
    }
    Ok(())
}

/// Not installed, one by one.
pub(crate) fn what_is_missing_is_named(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    // Over the program that a name leads to in the end.
    let place = |name: &str| {
        world.sh(&format!("readlink -f $(command -v {name})")).stdout.trim().to_owned()
    };
    let schema = "/usr/share/openvswitch/vswitch.ovsschema".to_owned();
    for (name, file) in [
        ("ovs-vswitchd", place("ovs-vswitchd")),
        ("ovsdb-server", place("ovsdb-server")),
        ("ovsdb-tool", place("ovsdb-tool")),
        ("vswitch.ovsschema", schema),
    ] {
        world.run(&format!("mount --bind /dev/null {file}"));
        world
            .ovsns("keep-ovs --start")
            .code(1)
            .says(&format!(
                "error: there is no `{name}`, which an Open vSwitch of our own is made of"
            ))
            .says("hint: install the package `openvswitch-switch`");
        assert!(world.ovsns("keep-ovs --show").code(1).stdout.contains(name));
        world.run(&format!("umount {file}"));
    }
    // Daemons are found where not every PATH leads.
    let mut command = world.command();
    run(command.args(["keep-ovs", "--start"]).env("PATH", "/usr/bin")).ok();
    stop(world, &before);
    Ok(())
}

/// What a person looks at when something is wrong.
pub(crate) fn doctor_shows_it(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    let doctor = |words: &str| world.ovsns("doctor").ok().says(words);
    doctor("ok    Open vSwitch of our own: there is none");
    start(world);
    doctor("ok    Open vSwitch of our own: ready, to stay in `/run/ovsns/ovs`: keeper ");
    let now = facts(world);
    end(&now["keeper"], Signal::SIGKILL);
    until("it is gone", || is_gone(world, &now["keeper"]));
    for _ in 0..2 {
        // Looking mends nothing.
        assert_eq!(world.ovsns("keep-ovs --show --json").json()["state"], "abandoned");
    }
    doctor("warn  Open vSwitch of our own: its keeper is gone")
        .says("keeper.log: 20")
        .says("ovs-vswitchd.log: 20")
        .says("mend: the next command that uses it mends");
    // It asks for labs that a crash left, too, which uses and mends it.
    assert_eq!(facts(world)["ready"], true);
    world.run("rm /run/ovsns/ovs/db.sock");
    doctor("warn  Open vSwitch of our own: ready, damaged, to stay in");
    stop(world, &before);
    let file = world.sh("readlink -f $(command -v ovs-vswitchd)").stdout.trim().to_owned();
    world.run(&format!("mount --bind /dev/null {file}"));
    doctor("lacks Open vSwitch of our own: there is none; there is no `ovs-vswitchd`")
        .says("mend: install the package `openvswitch-switch`");
    Ok(())
}

/// Two network namespaces, one directory.
pub(crate) fn a_directory_has_one_namespace(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    world.sh("ip netns add one; ip netns add two; ip -n one link set lo up");
    let ovsns = world.binary().display();
    let inside = |name: &str, words: &str| {
        world.attempt(&format!("ip netns exec {name} {ovsns} keep-ovs {words}"))
    };
    inside("one", "--start").ok();
    let refused =
        "error: `/run/ovsns/ovs` is the directory of an Open vSwitch in another network namespace";
    inside("two", "--start").code(1).says(refused).says("OVSNS_STATE_DIR");
    // Of the one it is nobody else's business.
    inside("two", "--show").code(1).says("there is none");
    inside("two", "--stop").ok().says("there was none");
    inside("one", "--show").ok();
    // Each with its own.
    world.sh(&format!("OVSNS_STATE_DIR=/run/elsewhere ip netns exec two {ovsns} keep-ovs --start"));
    assert_eq!(daemons(world).len(), 6);
    inside("one", "--show").ok();
    inside("two", "--show").ok().says("/run/elsewhere/ovs");
    inside("two", "--stop").ok().says("stopped");
    assert_eq!(daemons(world).len(), 3);
    world.run("rmdir /run/elsewhere");

    // Nobody runs in it any more, but its namespace is there.
    for (pid, line) in world.processes() {
        if line.contains("/run/ovsns/ovs") {
            end(&pid.into(), Signal::SIGKILL);
        }
    }
    until("they are gone", || daemons(world).is_empty());
    inside("two", "--start").code(1).says(refused);
    // With the namespace the claim is gone, too.
    world.run("ip netns del one");
    inside("two", "--start").ok();
    inside("two", "--stop").ok();
    world.run("ip netns del two");
    nothing_is_left(world, &before);
    Ok(())
}

/// A bridge without ports and with them, from one kind to the other and back: its
/// device has to be gone when the next of that name is made. The environment decides,
/// as it does for `up`.
pub(crate) fn a_switch_becomes_one_of_another_kind(world: &World) -> Verdict {
    needs(world)?;
    let before = world.inventory();
    let kind = |kind: &str| {
        let listed = world.ovsns("switch list --lab w --json").ok().json();
        assert_eq!(listed[0]["backend"], kind, "{listed:#}");
    };
    let has = |backend: &str, command: &str| {
        let mut ovsns = world.command();
        ovsns.args(command.split(' ')).env("OVSNS_BACKEND", backend);
        world.start_command(&mut ovsns).finish().ok();
        kind(backend);
    };
    for node in ["", "n: {}"] {
        let link = if node.is_empty() { "" } else { "{ endpoints: [n, s] }" };
        let file =
            format!("{{ name: w, switches: {{ s: {{}} }}, nodes: {{ {node} }}, links: [{link}] }}");
        world.file("w.yaml", &file);
        for _ in 0..8 {
            has("ovs", "switch add s --lab w");
            has("linux", "up w.yaml");
            has("ovs", "up w.yaml");
            has("linux", "up w.yaml");
            world.ovsns("down w").ok();
        }
    }
    // What a key says goes first.
    has("linux", "switch add s backend=linux --backend ovs --lab w");
    world.ovsns("down w").ok();
    nothing_is_left(world, &before);
    Ok(())
}

/// A directory of somebody's, and somebody who has our address.
pub(crate) fn others_are_left_alone(world: &World) -> Verdict {
    needs(world)?;
    world.needs("perl")?;
    world.sh("mkdir -p /run/ovsns/ovs; echo keep >/run/ovsns/ovs/mine");
    let before = world.inventory();
    world
        .ovsns("keep-ovs --start")
        .code(1)
        .says("error: `/run/ovsns/ovs` was not made by ovsns: there is a `mine` in it")
        .says("hint: move it away");
    world.ovsns("keep-ovs --use").code(1).says("there is none");
    world.ovsns("keep-ovs --stop").ok().says("there was none");
    world.inventory().must_equal(&before);
    // An empty one nobody misses; it is closed to others.
    world.sh("rm /run/ovsns/ovs/mine; chmod 755 /run/ovsns/ovs");
    start(world);
    assert_eq!(world.run("stat -c %a /run/ovsns/ovs").stdout.trim(), "700");
    world.ovsns("keep-ovs --stop").ok();
    let long = "d".repeat(100);
    let mut command = world.command();
    command.args(["keep-ovs", "--start"]).env("OVSNS_STATE_DIR", format!("/run/{long}"));
    run(&mut command).code(1).says("too long for a socket").says("OVSNS_STATE_DIR");

    // Any user may take the name first.
    let listen = "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) or die;
        bind(S, pack_sockaddr_un(\"\\0ovsns-ovs\")) or die; listen(S, 9) or die;
        $| = 1; print \"ready\\n\"; sleep 60";
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid", "65534", "--clear-groups", "perl", "-e", listen]);
    let mut stranger = world.start_command(&mut stranger);
    stranger.line_with("ready");
    let words = format!("`@ovsns-ovs` is in the hands of process {} of user 65534", stranger.id());
    for asked in ["--start", "--use", "--stop", "--show"] {
        world.ovsns(&format!("keep-ovs {asked}")).code(1).says(&words);
    }
    drop(stranger);

    // Nobody but its owner has a say.
    let untouched = world.inventory();
    start(world);
    let ask = "use Socket; $SIG{PIPE} = 'IGNORE';
        socket(S, AF_UNIX, SOCK_STREAM, 0) or die;
        connect(S, pack_sockaddr_un(\"\\0ovsns-ovs\")) or die;
        syswrite(S, \"\\\"Stop\\\"\\n\"); print while <S>";
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid", "65534", "--clear-groups", "perl", "-e", ask]);
    run(&mut stranger).ok().says("NotYours");
    facts(world);
    stop(world, &untouched);
    Ok(())
}

fn run(command: &mut Command) -> Finished {
    let output = command.output().expect("a program that can be started");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Finished {
        command: format!("{command:?}"),
        status: output.status,
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
