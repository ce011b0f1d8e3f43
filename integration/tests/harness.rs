//! The harness itself: a world is private, and a test that fails, hangs or
//! cannot run here is told apart from one that passed.

use std::process::{Command, ExitCode};

use world::{Skip, Verdict, World, tests, until};

/// Set for this program to run the tests that must not pass.
const BROKEN: &str = "WORLD_BROKEN";

fn main() -> ExitCode {
    if std::env::var_os(BROKEN).is_some() {
        return world::main(&[
            tests![panics, hangs @ 1, leaves_a_daemon, cannot_run, takes_a_second],
        ]);
    }
    world::main(&[tests![
        a_world_is_private,
        a_world_is_empty,
        broken_tests_do_not_pass,
        what_is_left_on_the_machine_is_told,
        an_inventory_sees_every_kind_of_change,
        a_trace_sees_every_kind_of_write,
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

fn broken_tests_do_not_pass(world: &World) -> Verdict {
    let run = world
        .start_command(myself().arg("--test-threads=1"))
        .finish()
        .code(101)
        .says("as it should")
        .says("before the wait\nno end after 1 s")
        .says("ignored (no flux compensator)")
        .says("test result: FAILED. 2 passed; 2 failed; 1 ignored");
    let passed = run.stdout.lines().filter(|line| line.ends_with("... ok")).collect::<Vec<_>>();
    // A daemon dies with its world and holds nobody up.
    assert!(passed[0].contains("leaves_a_daemon") && passed[1].contains("takes_a_second"));
    until("nothing of the inner worlds runs", || world.processes().is_empty());
    assert_eq!(world.namespaces(), [""; 0]);
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
    command.env(BROKEN, "1");
    command
}

fn an_inventory_sees_every_kind_of_change(world: &World) -> Verdict {
    world.foreign().is_untouched(world);
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
        "mkdir -p /run/ovsns/labs",
        "mkdir /run/ovsns/labs/left",
    ] {
        let before = world.inventory();
        world.run(change);
        let seen = !world.inventory().differences(&before).is_empty();
        // An empty directory of ours is the one thing that may stay.
        assert_eq!(seen, change != "mkdir -p /run/ovsns/labs", "{change}");
    }
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
