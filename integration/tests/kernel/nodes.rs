//! Nodes: their names, and what runs in them.

use std::process::Stdio;

use nix::sys::signal::Signal;
use world::{Verdict, World, until};

use crate::TWO_NODES;

fn two_nodes_up(world: &World) {
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
}

/// n -- s -- n, with the longest names there are
pub(crate) fn names_of_any_length(world: &World) -> Verdict {
    let (lab, node, switch, interface) =
        ("l".repeat(31), "n".repeat(63), "s".repeat(44), "i".repeat(31));
    // Names that differ in their last letter only.
    let other = format!("{}x", &node[..62]);
    world.file(
        "long.yaml",
        &format!(
            "
name: {lab}
switches: {{ {switch}: {{}} }}
nodes:
  {node}: {{ interfaces: {{ {interface}: {{ addresses: [10.0.0.1/24] }} }} }}
  {other}: {{ interfaces: {{ {interface}: {{ addresses: [10.0.0.2/24] }} }} }}
links:
  - endpoints: ['{node}:{interface}', {switch}]
  - endpoints: ['{other}:{interface}', {switch}]
"
        ),
    );
    let before = world.inventory();
    world.ovsns("up long.yaml").ok();
    assert_eq!(world.namespaces(), [format!("{lab}.{node}"), format!("{lab}.{other}")]);
    for name in [
        format!("{lab}:{switch}"),
        format!("{lab}:{node}:{interface}"),
        format!("{lab}:{other}:{interface}"),
    ] {
        let short = world.setting("", &name, "ifname");
        assert!(short.as_str().is_some_and(|it| it.len() <= 15), "{name}: {short}");
    }
    let inside = format!("{lab}.{node}");
    assert_eq!(world.addresses(&inside, &interface), ["10.0.0.1/24"]);
    world.pings(&inside, "10.0.0.2");
    world.ovsns(&format!("exec {other} -- ping -c 1 -W 2 10.0.0.1")).ok();
    world.ovsns("up long.yaml").ok().says("nothing to change");
    world.ovsns(&format!("down {lab}")).ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn ip_netns_knows_the_nodes(world: &World) -> Verdict {
    two_nodes_up(world);
    assert_eq!(world.namespaces(), ["two-nodes.n1", "two-nodes.n2"]);
    // Every thing says on itself whose it is.
    let alias = |place: &str, link: &str| world.setting(place, link, "ifalias");
    assert_eq!(alias("two-nodes.n1", "lo"), "ovsns lab=two-nodes node=n1");
    assert_eq!(alias("two-nodes.n1", "eth0"), "ovsns lab=two-nodes interface=n1:eth0");
    assert_eq!(alias("", "two-nodes:b.1.1"), "ovsns lab=two-nodes switch=b.1.1");
    assert_eq!(alias("", "two-nodes:n1:eth0"), "ovsns lab=two-nodes port=n1:eth0");
    // A short name for the kernel that a person recognises, and the same at
    // every run.
    let short = || world.setting("", "two-nodes:b.1.1", "ifname");
    let name = short();
    assert!(name.as_str().is_some_and(|it| it.starts_with("b.1.1.")), "{name}");
    // One link group, by which all go at once; never the group of the rest.
    let group = |place: &str, link: &str| world.setting(place, link, "group");
    let bridge = group("", "two-nodes:b.1.1");
    assert!(bridge != "default" && bridge != "0", "{bridge}");
    assert_eq!(group("", "two-nodes:n1:eth0"), bridge);
    assert_eq!(group("", "two-nodes:n2:eth0"), bridge);
    // Loopback works, and everything is as an experimenter expects it.
    world.run("ip netns exec two-nodes.n1 ping -n -c 1 -W 1 127.0.0.1");
    world.run("ip netns exec two-nodes.n1 ping -n -c 1 -W 1 ::1");
    let links = world.json("ip -n two-nodes.n1 -j link show");
    let names: Vec<_> = links.as_array().expect("links").iter().map(|it| &it["ifname"]).collect();
    assert_eq!(names, ["lo", "eth0"]);
    world.ovsns("down two-nodes").ok();
    world.ovsns("up two.yaml").ok();
    assert_eq!(short(), name);
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn exec_passes_the_exit_status(world: &World) -> Verdict {
    two_nodes_up(world);
    world.file("data", "no program");
    let in_n1 = |words: &[&str]| {
        let mut command = world.command();
        command.args(["exec", "n1", "--"]).args(words);
        world.start_command(&mut command).finish()
    };
    in_n1(&["true"]).code(0);
    in_n1(&["false"]).code(1);
    in_n1(&["sh", "-c", "exit 42"]).code(42);
    in_n1(&["sh", "-c", "exit 255"]).code(255);
    in_n1(&["no-such-program"]).code(127);
    in_n1(&["./data"]).code(126);
    in_n1(&["/run"]).code(126);
    // As a shell sees it: 128 and the signal.
    let binary = world.binary().display();
    world.sh(&format!("{binary} exec n1 -- sh -c 'kill -9 $$' && exit 1; test $? = 137"));
    world.ovsns("exec two-nodes/n2 -- true").ok();
    world.ovsns("exec n9 -- true").code(2).says("n9");
    world.ovsns("exec nobody/n1 -- true").code(2).says("nobody");
    world.ovsns("exec n1").code(2);
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn exec_passes_input_and_output(world: &World) -> Verdict {
    two_nodes_up(world);
    let binary = world.binary().display();
    let told = world.sh(&format!("printf 'one\\ntwo' | {binary} exec n1 -- cat"));
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("one\ntwo", ""));
    let told = world.sh(&format!("{binary} exec n1 -- sh -c 'echo out; echo err >&2'"));
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("out\n", "err\n"));
    // A great deal, through a pipe that ends early.
    let told = world.sh(&format!("{binary} exec n1 -- seq 1 1000000 | tail -n 1"));
    assert_eq!(told.stdout, "1000000\n");
    // Words are passed as they are; the directory and the environment stay.
    let told =
        world.sh(&format!("A=b {binary} exec n1 -- sh -c 'echo \"$A|$PWD|$1|$2\"' x 'a  b' -v"));
    assert_eq!(told.stdout, "b|/run/world|a  b|-v\n");
    // And it runs in the node.
    let told = world.ovsns("exec n2 -- ip -o -4 addr show dev eth0").ok();
    assert!(told.stdout.contains("10.0.0.2/24"), "{told}");
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn exec_passes_signals(world: &World) -> Verdict {
    two_nodes_up(world);
    for (signal, name, status) in
        [(Signal::SIGTERM, "TERM", 42), (Signal::SIGINT, "INT", 43), (Signal::SIGHUP, "HUP", 44)]
    {
        let script =
            format!("trap 'exit {status}' {name}; echo ready; while :; do sleep 0.02; done");
        let mut command = world.command();
        command.args(["exec", "n1", "--", "sh", "-c", &script]);
        let mut running = world.start_command(&mut command);
        running.line_with("ready");
        running.signal(signal);
        running.finish().code(status);
    }
    // A command that takes the signal as it comes is gone, and so is ovsns.
    let mut command = world.command();
    command.args(["exec", "n1", "--", "sh", "-c", "echo ready; exec sleep 1000"]);
    let mut running = world.start_command(&mut command);
    running.line_with("ready");
    running.signal(Signal::SIGTERM);
    let ended = running.finish();
    assert!(!ended.status.success(), "{ended}");
    until("nothing runs in the node", || world.processes().is_empty());
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn exec_shows_the_devices_of_the_node(world: &World) -> Verdict {
    two_nodes_up(world);
    let own = world.run("ls /sys/class/net").stdout;
    let seen = world.ovsns("exec n1 -- ls /sys/class/net").ok().stdout;
    assert_eq!(seen, "eth0\nlo\n");
    let seen = world.ovsns("exec n1 -- cat /sys/class/net/eth0/address").ok().stdout;
    assert_eq!(seen.trim(), world.setting("two-nodes.n1", "eth0", "address"));
    // Outside, nothing has changed: neither /sys nor what is mounted.
    assert_eq!(world.run("ls /sys/class/net").stdout, own);
    let mounts = || world.inventory().with("mount ").len();
    let before = mounts();
    world.ovsns("exec n1 -- true").ok();
    assert_eq!(mounts(), before);
    Ok(())
}

/// n1 -- b.1.1 -- n2, n1 with files of its own
pub(crate) fn exec_lays_files_over_etc(world: &World) -> Verdict {
    world.own_etc();
    two_nodes_up(world);
    world.sh("
        mkdir -p /etc/netns/two-nodes.n1
        echo 'nameserver 192.0.2.53' >/etc/netns/two-nodes.n1/resolv.conf
        echo '192.0.2.7 seven' >/etc/netns/two-nodes.n1/hosts
        echo 'nobody has this' >/etc/netns/two-nodes.n1/not-in-etc
        echo 'nameserver 192.0.2.1' >/etc/resolv.conf
    ");
    let inside = "exec n1 -- cat /etc/resolv.conf /etc/hosts";
    assert_eq!(world.ovsns(inside).ok().stdout, "nameserver 192.0.2.53\n192.0.2.7 seven\n");
    // Just what `ip netns exec` does.
    let rival = world.run("ip netns exec two-nodes.n1 cat /etc/resolv.conf /etc/hosts").stdout;
    assert_eq!(world.ovsns(inside).ok().stdout, rival);
    world.ovsns("exec n1 -- getent hosts seven").ok().says("192.0.2.7");
    // Other nodes and the machine keep theirs.
    let own = "nameserver 192.0.2.1\n";
    assert_eq!(world.ovsns("exec n2 -- cat /etc/resolv.conf").ok().stdout, own);
    assert_eq!(world.run("cat /etc/resolv.conf").stdout, own);
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn exec_on_a_terminal_hears_ctrl_c(world: &World) -> Verdict {
    two_nodes_up(world);
    let script =
        "trap 'echo caught; exit 43' INT; echo ready; while sleep 0.02; do :; done; exit 9";
    let mut command = world.command();
    command.args(["exec", "n1", "--", "sh", "-c", script]);
    let mut terminal = world.terminal(&command);
    terminal.shows("ready");
    terminal.press("\x03");
    terminal.finish().code(43).says("caught");

    let mut command = world.command();
    command.args(["exec", "n1", "--", "sh", "-c", "test -t 0 && test -t 1 && echo yes; cat"]);
    let mut terminal = world.terminal(&command);
    terminal.shows("yes");
    // Ctrl-D ends what is read from a terminal.
    terminal.press("typed\r\x04");
    terminal.finish().code(0).says("typed");
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn a_shell_on_a_terminal(world: &World) -> Verdict {
    two_nodes_up(world);
    let mut command = world.command();
    command.args(["shell", "n1"]).env("SHELL", "/bin/sh");
    let mut terminal = world.terminal(&command);
    // Typed letters come back on the screen: what is awaited is not among them.
    terminal.press("echo a$((40+2))z; ls /sys/class/net\r");
    terminal.shows("a42z");
    terminal.shows("eth0");
    terminal.press("ip -o -4 addr show dev eth0\r");
    terminal.shows("10.0.0.1/24");
    // A shell with job control outlives Ctrl-C.
    terminal.press("sleep 1000\r");
    until("it sleeps", || world.processes().iter().any(|(_, line)| line == "sleep 1000"));
    terminal.press("\x03");
    until("it does not", || !world.processes().iter().any(|(_, line)| line == "sleep 1000"));
    terminal.press("exit 5\r");
    terminal.finish().code(5);
    until("nothing runs", || world.processes().is_empty());
    Ok(())
}

/// n1 -- b.1.1 -- n2, made five times
pub(crate) fn the_first_ping_is_answered_at_once(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    let mut late = Vec::new();
    for _ in 0..5 {
        world.ovsns("up two.yaml").ok();
        // IPv6 first: duplicate address detection would take over a second.
        for to in ["fd00::2", "10.0.0.2"] {
            let answer = world.ping_within(1, "two-nodes.n1", to);
            if !answer.status.success() {
                late.push(answer.to_string());
            }
        }
        world.ovsns("down two-nodes").ok();
    }
    // One in ten may find the machine busy; a rule would make it all.
    assert!(late.len() < 2, "{late:#?}");
    Ok(())
}

/// n1, n2, n3 -- s1, of which n3 is deaf
pub(crate) fn ping_says_who_answers(world: &World) -> Verdict {
    world.ovsns("up --topo single,3 --lab trio").ok();
    world.ovsns("ping").ok();
    world.ovsns("ping h1 h2").ok();
    world.ovsns("ping trio/h1 trio/h3 --count 2").ok();
    world.run("ip -n trio.h3 link set eth0 down");
    world.ovsns("ping h1 h3 --timeout 1").code(1);
    world.ovsns("ping h1 h2 --timeout 1").ok();
    let matrix = world.ovsns("ping --timeout 1").code(1);
    for name in ["h1", "h2", "h3"] {
        assert!(matrix.stdout.contains(name), "{matrix}");
    }
    world.ovsns("ping --json --timeout 1").code(1).json();
    world.ovsns("ping h1 h9").code(2).says("h9");
    Ok(())
}

/// s1 with five nodes
pub(crate) fn no_process_is_started_or_stays(world: &World) -> Verdict {
    world.needs("strace")?;
    for words in ["up --topo single,5 --lab five", "status five", "ping", "down five"] {
        let (finished, trace) = world.traced(words);
        finished.ok();
        assert_eq!((trace.programs.len(), trace.forks), (1, 0), "{words}: {trace:?}");
        assert_eq!(world.processes(), []);
    }
    // A command in a node is the only one that starts anything.
    world.ovsns("up --topo single,2 --lab two").ok();
    let mut command = world.command();
    command.args(["exec", "h1", "--", "sleep", "1000"]).stderr(Stdio::null());
    let running = world.start_command(&mut command);
    until("it sleeps", || world.processes().iter().any(|(_, line)| line == "sleep 1000"));
    drop(running);
    Ok(())
}
