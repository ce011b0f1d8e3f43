//! The harness itself: a world is private, and a test that fails, hangs or
//! cannot run here is told apart from one that passed.

use std::process::{Command, ExitCode};

use world::{Skip, Tool, Verdict, World, tests, until};

/// Set for this program to run the tests that must not pass.
const BROKEN: &str = "WORLD_BROKEN";
/// A directory, empty before those that fail at first ran.
const TRIED: &str = "WORLD_TRIED";

fn main() -> ExitCode {
    if std::env::var_os(BROKEN).is_some() {
        return world::main(&[
            tests![panics, hangs @ 1, leaves_a_daemon, cannot_run, takes_a_second.vm()],
            tests![fails_at_first, fails_at_first_too, fails_at_first_as_well],
        ]);
    }
    world::main(&[tests![
        a_world_is_private,
        a_world_is_empty,
        a_host_is_another_machine,
        broken_tests_do_not_pass,
        a_slow_machine_runs_fewer_tests_and_longer,
        what_fails_beside_others_is_tried_alone,
        what_is_left_on_the_machine_is_told,
        an_inventory_sees_every_kind_of_change,
        a_trace_sees_every_kind_of_write,
        a_trace_can_be_tampered_with,
        a_monitor_hears_changes,
        a_terminal_has_keys_and_a_screen,
        tools_talk,
    ]])
}

fn a_world_is_private(world: &World) -> Verdict {
    assert_eq!(std::process::id(), 1);
    assert_eq!(world.run("hostname").stdout.trim(), "world");
    assert_eq!(world.processes(), []);
    // Propagation: no mount made here reaches anybody else.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains("shared:") && !mounts.contains("master:"), "{mounts}");
    Ok(())
}

fn a_world_is_empty(world: &World) -> Verdict {
    let links = world.json("ip -j link show");
    let names: Vec<&str> =
        links.as_array().expect("links").iter().filter_map(|it| it["ifname"].as_str()).collect();
    assert_eq!(names, ["lo"]);
    assert_eq!(std::fs::read_dir("/sys/class/net").expect("/sys").count(), 1);
    let below_run: Vec<_> =
        std::fs::read_dir("/run").expect("/run").flatten().map(|it| it.file_name()).collect();
    assert_eq!(below_run, ["world"]);
    world.run("ping -c 1 -W 1 127.0.0.1");
    Ok(())
}

/// west -- east
fn a_host_is_another_machine(world: &World) -> Verdict {
    let [west, east] = [world.host(), world.host()];
    world.cable("p0", [&west, &east]);
    west.sh("ip addr add 192.0.2.1/24 dev p0; ip link set p0 up; ip netns add n1");
    west.file("file", "its own");
    assert_eq!(west.run("cat file").stdout, "its own");
    east.sh("ip addr add 192.0.2.2/24 dev p0; ip link set p0 up; test ! -e file");
    assert_eq!(east.run("ip netns list").stdout, "");
    assert_eq!(world.namespaces(), Vec::<String>::new());
    west.run("ping -n -c 1 -W 2 192.0.2.2");
    assert!(world.link("", "p0").is_none());
    Ok(())
}

fn panics(_: &World) -> Verdict {
    panic!("as it should");
}

fn hangs(world: &World) -> Verdict {
    println!("before the wait");
    world.start("sleep 1000").finish();
    Ok(())
}

#[expect(clippy::zombie_processes, reason = "nobody waits for a daemon")]
fn leaves_a_daemon(world: &World) -> Verdict {
    // It holds this test's own standard output, for which the runner waits.
    Command::new("setsid").args(["sleep", "1000"]).spawn().expect("a daemon");
    world.run("ip netns add left");
    Ok(())
}

fn cannot_run(_: &World) -> Verdict {
    Err(Skip("no flux\ncompensator".into()))
}

fn takes_a_second(world: &World) -> Verdict {
    world.run("sleep 1");
    Ok(())
}

fn fails_at_first(_: &World) -> Verdict {
    fails_when_untried("fails_at_first")
}

fn fails_at_first_too(_: &World) -> Verdict {
    fails_when_untried("fails_at_first_too")
}

fn fails_at_first_as_well(_: &World) -> Verdict {
    fails_when_untried("fails_at_first_as_well")
}

fn fails_when_untried(name: &str) -> Verdict {
    let Some(tried) = std::env::var_os(TRIED) else { return Ok(()) };
    let tried = std::path::Path::new(&tried).join(name);
    let first = !tried.exists();
    std::fs::write(tried, "once").expect("the file");
    assert!(!first, "too slow");
    Ok(())
}

fn broken_tests_do_not_pass(world: &World) -> Verdict {
    let run = world
        .start_command(myself().arg("--test-threads=1"))
        .finish()
        .code(101)
        .says("as it should")
        .says("before the wait\nno end after 1 s")
        .says("ignored (no flux compensator)")
        .says("test result: FAILED. 5 passed; 2 failed; 1 ignored");
    let passed = run.stdout.lines().filter(|line| line.ends_with("... ok")).collect::<Vec<_>>();
    // A daemon dies with its world and holds nobody up.
    let names = ["leaves_a_daemon", "takes_a_second"];
    let names = names.into_iter().chain(std::iter::repeat_n("fails_at_first", 3));
    assert!(passed.iter().zip(names).all(|(line, name)| line.contains(name)), "{passed:?}");
    until("nothing of the inner worlds runs", || world.processes().is_empty());
    assert_eq!(world.namespaces(), [""; 0]);
    Ok(())
}

fn a_slow_machine_runs_fewer_tests_and_longer(world: &World) -> Verdict {
    let there = |words: &[&str]| {
        let mut command = myself();
        command.args(words).env("OVSNS_VM", "6.1").env("OVSNS_TEST_PATIENCE", "2");
        world.start_command(&mut command).finish()
    };
    there(&[]).code(0).says("running 1 test").says("takes_a_second");
    there(&["hangs"]).code(101).says("no end after 2 s");
    Ok(())
}

fn what_fails_beside_others_is_tried_alone(world: &World) -> Verdict {
    let tried = |test: &str, vm: bool| {
        let tried = world.run("mktemp -d").stdout;
        let mut command = myself();
        command.args([test, "--test-threads=1"]).env(TRIED, tried.trim());
        if vm {
            command.env("OVSNS_VM", "6.1");
        }
        world.start_command(&mut command).finish()
    };
    let second = "---- at its second try, alone, passed";
    let all = [
        "fails_at_first; at the first:",
        "fails_at_first_too; at the first:",
        "fails_at_first_as_well; at the first:",
    ];
    let of_three =
        tried("fails_at_first", true).code(0).says("test result: ok. 3 passed; 0 failed");
    for name in all {
        of_three.clone().says(&format!("{second} {name}"));
    }
    // Two may be accidents of a shared machine; three are not.
    let of_three = tried("fails_at_first", false)
        .code(101)
        .says("test result: FAILED. 2 passed; 1 failed")
        .says("too slow");
    assert_eq!(of_three.stdout.matches(second).count(), 2, "{of_three}");
    for vm in [true, false] {
        let twice = tried("panics", vm).code(101).says("as it should");
        assert!(!twice.stdout.contains(second), "{twice}");
    }
    Ok(())
}

fn what_is_left_on_the_machine_is_told(world: &World) -> Verdict {
    let test = "takes_a_second";
    world.start_command(myself().arg(test)).finish().code(0);
    let mut run = world.start_command(myself().arg(test));
    run.line_with("running 1 test");
    world.run("ip link add left type veth peer name right");
    run.finish().code(101).says("1 passed; 0 failed");
    Ok(())
}

fn myself() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.env(BROKEN, "1").env_remove("OVSNS_VM").env_remove("OVSNS_TEST_PATIENCE");
    command
}

fn an_inventory_sees_every_kind_of_change(world: &World) -> Verdict {
    world.needs("nft")?;
    world.foreign().is_untouched(world);
    let before = world.inventory();
    world.run("ip link set br0 mtu 1450");
    assert_eq!(
        world.inventory().differences(&before),
        "  changed: br0 in \"\"\n    mtu: now 1450, before 1500\n"
    );
    for change in [
        "ip link set br0 mtu 1400",
        "ip link set br0 alias mine",
        "ip link set br0 type bridge ageing_time 1000",
        "ip link set v0 down",
        "ip link set v0 nomaster",
        "ip link property add dev br0 altname other-name",
        "ip addr add 192.0.2.9/24 dev br0",
        "ip route add 203.0.113.0/24 dev br0",
        "ip route add 203.0.113.0/24 via 192.0.2.1 table 7",
        "ip rule add pref 7 lookup 7",
        "ip netns add another",
        "ip -n others link set lo down",
        "ip -n others addr del 2001:db8::2/64 dev eth0",
        "ip netns delete two-nodes",
        "mount -t tmpfs tmpfs /run/others",
        "touch /run/another",
        "rm /run/another",
        "chmod 777 /run/others",
        "sysctl -q -w net.ipv4.ip_forward=1",
        "sysctl -q -w net.ipv6.conf.default.accept_dad=0",
        "tc qdisc add dev v0 root tbf rate 1mbit burst 10k latency 10ms",
        "nft add table inet theirs",
        "ip netns exec others nft add table inet theirs",
        "mkdir -p /run/ovsns/labs",
        "mkdir /run/ovsns/labs/left",
    ] {
        let before = world.inventory();
        world.run(change);
        let seen = !world.inventory().differences(&before).is_empty();
        // An empty directory of ours is the one thing that may stay.
        assert_eq!(seen, change != "mkdir -p /run/ovsns/labs", "{change}");
    }
    let _groups = world.control_groups()?;
    let before = world.inventory();
    world.sh("for at in /sys/fs/cgroup/*; do mkdir $at/$OVSNS_CGROUP $at/$OVSNS_CGROUP/l.n; done");
    assert!(world.inventory().differences(&before).contains("now:    control group"));
    let before = world.inventory();
    let ours = world.start_command(Command::new("sleep").arg("1000").env("OVSNS_NODE", "n"));
    let seen = || world.inventory().differences(&before) == "  now:    process sleep 1000\n";
    until("what runs in a node is seen", seen);
    drop(ours);
    until("its end is seen", || world.inventory().differences(&before).is_empty());
    Ok(())
}

fn a_trace_sees_every_kind_of_write(world: &World) -> Verdict {
    world.needs("strace")?;
    for (words, writes) in [
        ("ip route show", false),
        ("ip netns list", false),
        ("ip link set lo up", true),
        ("ip link set lo alias same", true),
        ("ip link set lo alias same", true),
        ("ip addr replace 127.0.0.1/8 dev lo", true),
        ("ip netns add a", true),
        ("sysctl -q net.ipv4.ip_forward=0", true),
        ("sysctl -q net.ipv4.ip_forward", false),
    ] {
        let (finished, trace) = world.traced_program(words);
        finished.ok();
        assert_eq!(!trace.writes.is_empty(), writes, "{words}: {trace:?}");
        assert_eq!(trace.programs.len(), 1, "{words}: {trace:?}");
    }
    let (_, trace) = world.traced_program("sh -c /bin/true;/bin/true");
    assert_eq!((trace.programs.len(), trace.forks), (3, 2), "{trace:?}");
    Ok(())
}

fn a_trace_can_be_tampered_with(world: &World) -> Verdict {
    world.needs("strace")?;
    let (failed, struck) = world.tampered_program("mkdir:error=ENOSPC:when=1", "mkdir d");
    assert!(struck == 1 && failed.status.code() == Some(1), "{failed}");
    let (fine, struck) = world.tampered_program("mkdir:error=ENOSPC:when=2", "mkdir d");
    assert!(struck == 0 && fine.status.success(), "{fine}");
    let (killed, struck) = world.tampered_program("rmdir:signal=KILL:when=1", "rmdir d");
    assert!(struck == 1 && !killed.status.success(), "{killed}");
    // It was killed before, not after.
    world.run("rmdir d");
    Ok(())
}

fn a_monitor_hears_changes(world: &World) -> Verdict {
    world.run("ip netns add a");
    let (own, inside) = (world.monitor(""), world.monitor("a"));
    world.run("ip -n a link set lo up");
    assert_eq!(own.heard(world), [""; 0]);
    let heard = inside.heard(world);
    assert!(heard.iter().any(|line| line.contains("lo:") && line.contains("UP")), "{heard:?}");
    Ok(())
}

fn a_terminal_has_keys_and_a_screen(world: &World) -> Verdict {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap 'echo caught; exit 43' INT; echo $A ready; while sleep 0.02; do :; done",
    ]);
    let mut terminal = world.terminal(command.env("A", "now"));
    terminal.shows("now ready");
    terminal.press("\x03");
    terminal.finish().code(43).says("caught");
    Ok(())
}

/// a -- bridge0 -- b
fn tools_talk(world: &World) -> Verdict {
    world.sh("
        ip link add bridge0 type bridge
        ip link set bridge0 up
        for n in a b; do
            ip netns add $n
            ip link add to-$n type veth peer name eth0 netns $n
            ip link set to-$n master bridge0 up
            ip -n $n link set eth0 up
        done
        ip -n a addr add 10.0.0.1/24 broadcast + dev eth0
        ip -n b addr add 10.0.0.2/24 broadcast + dev eth0
        ip -n a addr add fd00::1/64 dev eth0 nodad
        ip -n b addr add fd00::2/64 dev eth0 nodad
    ");
    world.settled();
    for (from, to, listen) in [
        ("10.0.0.1", "10.0.0.255", "5000 1"),
        ("10.0.0.1", "255.255.255.255", "5000 1"),
        ("10.0.0.1", "239.1.2.3", "5000 1 239.1.2.3 10.0.0.2"),
        ("fd00::1", "ff15::1234", "5000 1 ff15::1234 eth0"),
    ] {
        let mut ear = world.tool("b", Tool::Hear, listen);
        ear.line_with("ready");
        world.tool("a", Tool::Say, &format!("{from} {to} 5000 hello")).finish().ok();
        ear.finish().ok().says(&format!("{from} hello"));
    }
    let mut echo = world.tool("b", Tool::Echo, "10.0.0.2 4000");
    echo.line_with("ready");
    let mut drip = world.tool("a", Tool::Drip, "10.0.0.2 4000");
    drip.line_with("20");
    drip.finish().ok().says("most ");
    // A connection that breaks is told.
    let mut drip = world.tool("a", Tool::Drip, "10.0.0.2 4000");
    drip.line_with("20");
    drop(echo);
    drip.finish().code(1);
    Ok(())
}
