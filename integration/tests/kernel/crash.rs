//! Killed in the middle: the next `up` converges, `down` leaves nothing, and
//! nothing foreign is touched.
//!
//! `strace` kills the command before its first, second, ... request to the
//! kernel, so that every state a crash can leave is seen.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use world::{Foreign, Verdict, World};

use crate::{FOUR_NODES, TWO_NODES};

/// What changes the kernel or our own files.
const STEPS: &str = "sendto,sendmsg,mount,umount2,unshare,unlink,unlinkat,rename,mkdir,rmdir";

/// Kills `words` before every step, and lets `look` say whether all is well.
/// Returns how many steps there were.
pub(crate) fn kill_at_every(world: &World, words: &str, mut look: impl FnMut(u32)) -> u32 {
    for step in 1.. {
        let (finished, struck) = world.tampered(&format!("{STEPS}:signal=KILL:when={step}"), words);
        if struck == 0 {
            finished.ok();
            return step - 1;
        }
        // Shown if anything below fails.
        println!("killed before step {step}");
        look(step);
    }
    unreachable!("a command has an end")
}

/// Whether everything foreign is as it was, and nothing else is looked at.
#[track_caller]
fn foreign_things_are_there(world: &World, foreign: &Foreign) {
    let now = world.inventory();
    // That row lists all bridges there are, and the file all who have names.
    let lists = ["row of Open_vSwitch ", "file /etc/hosts "];
    let is_a_list = |line: &&str| lists.iter().any(|list| line.starts_with(list));
    let lost: Vec<_> =
        now.lost(foreign.before()).into_iter().filter(|line| !is_a_list(line)).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

/// n1 -- b.1.1 -- n2
pub(crate) fn up_is_killed_at_every_request(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("two.yaml", TWO_NODES);
    let foreign = world.foreign();
    let steps = kill_at_every(world, "up two.yaml", |step| {
        foreign_things_are_there(world, &foreign);
        // What the crash left is removed, by `down` or by `gc` ...
        let clean = if step % 2 == 0 { "down --all" } else { "gc" };
        if step % 3 != 0 {
            world.ovsns(clean).ok();
            world.ovsns("down --all").ok();
            foreign.is_untouched(world);
        }
        // ... or finished by another `up`.
        world.ovsns("up two.yaml").ok();
        world.pings("two-nodes.n1", "10.0.0.2");
        world.ovsns("up two.yaml").ok().says("nothing to change");
        world.ovsns("down two-nodes").ok();
        foreign.is_untouched(world);
    });
    assert!(10 < steps, "only {steps} steps");
    world.ovsns("down two-nodes").ok();
    foreign.is_untouched(world);
    Ok(())
}

/// a, b ~ p0, a device of others
pub(crate) fn up_with_macvlans_is_killed_at_every_request(world: &World) -> Verdict {
    world.needs("strace")?;
    world.sh("ip link add p0 type veth peer name p1; ip link set p0 up; ip link set p1 up");
    world.settled();
    let foreign = world.foreign();
    let nodes = "
name: m
nodes: { a: , b: }
links:
  - endpoints: [a:eth0, macvlan:p0]
  - endpoints: [b:eth0, macvlan:p0]
prefixes: [10.0.0.0/24]
";
    world.file("m.yaml", nodes);
    // As long as it has children a NIC hears more than it would (`allmulti`).
    let steps = kill_at_every(world, "up m.yaml", |step| {
        if step % 2 == 0 {
            world.ovsns("up m.yaml").ok();
            world.pings("m.a", "10.0.0.2");
            world.ovsns("up m.yaml").ok().says("nothing to change");
        }
        world.ovsns("down --all").ok();
        foreign.is_untouched(world);
    });
    assert!(20 < steps, "only {steps} steps");
    world.ovsns("down m").ok();
    foreign.is_untouched(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn down_is_killed_at_every_request(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("two.yaml", TWO_NODES);
    let foreign = world.foreign();
    world.ovsns("up two.yaml").ok();
    let steps = kill_at_every(world, "down two-nodes", |step| {
        foreign_things_are_there(world, &foreign);
        if step % 2 == 0 {
            world.ovsns("down --all").ok();
            foreign.is_untouched(world);
        }
        world.ovsns("up two.yaml").ok();
        world.pings("two-nodes.n1", "10.0.0.2");
    });
    assert!(2 < steps, "only {steps} steps");
    foreign.is_untouched(world);
    Ok(())
}

/// n1, n2, n3 -- s1; n1 -- n4, of which much is to change
pub(crate) fn a_change_is_killed_at_every_request(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("before.yaml", FOUR_NODES);
    let after = "
name: four
switches: { s1: { ageing: 100 } }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.22/24] } } }
  n5: { interfaces: { eth0: { addresses: [10.0.0.5/24] } } }
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s1]
  - endpoints: [n5:eth0, s1]
";
    world.file("after.yaml", after);
    let foreign = world.foreign();
    world.ovsns("up before.yaml").ok();
    let steps = kill_at_every(world, "up after.yaml", |step| {
        foreign_things_are_there(world, &foreign);
        if step % 2 == 0 {
            world.ovsns("up after.yaml").ok();
            world.pings("four.n1", "10.0.0.5");
            world.ovsns("up after.yaml").ok().says("nothing to change");
        }
        world.ovsns("up before.yaml").ok();
        world.pings("four.n1", "10.0.0.3");
        world.pings("four.n1", "10.0.9.2");
        world.ovsns("up before.yaml").ok().says("nothing to change");
    });
    assert!(10 < steps, "only {steps} steps");
    world.ovsns("down four").ok();
    foreign.is_untouched(world);
    Ok(())
}

/// n, with files, processes and more of its own, -- s -- m; the machine has their names
pub(crate) fn up_of_what_lives_is_killed_at_every_request(world: &World) -> Verdict {
    world.needs("strace")?;
    world.own_etc();
    let hosts = || std::fs::read("/etc/hosts").expect("the machine's names");
    let whole = "
name: w
hosts: true
switches: { s: { backend: linux } }
nodes:
  n:
    isolation: [uts, mount, ipc]
    files: { /etc/motd: laid, /etc/new-file: laid }
    run:
      - { name: first, command: sleep 4721, ready: { command: cat /etc/new-file } }
      - { name: second, command: setsid sleep 4722 }
    interfaces: { eth0: { addresses: [10.0.0.1/24] } }
  m: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
links:
  - endpoints: [n, s]
  - endpoints: [m, s]
";
    world.file("w.yaml", whole);
    let (foreign, names) = (world.foreign(), hosts());
    let all_is_gone = || {
        let left: Vec<_> = world.processes();
        let is_ours = |line: &str| ["sleep 472", "keep-node"].iter().any(|it| line.contains(it));
        let left: Vec<_> = left.into_iter().filter(|(_, line)| is_ours(line)).collect();
        assert!(left.is_empty(), "{left:?}");
        let groups = world.sh("find /sys/fs/cgroup -type d -path '*/ovsns/w.n'").stdout;
        assert_eq!(groups, "", "control groups");
        assert_eq!(hosts(), names, "the machine's names");
        foreign.is_untouched(world);
    };
    let steps = kill_at_every(world, "up w.yaml", |step| {
        foreign_things_are_there(world, &foreign);
        match step % 3 {
            0 => {
                world.ovsns("up w.yaml").ok();
                world.pings("w.m", "10.0.0.1");
                assert_eq!(
                    world.ovsns("exec n -- cat /etc/motd /etc/new-file").ok().stdout,
                    "laidlaid"
                );
                world.ovsns("up w.yaml").ok().says("nothing to change");
                world.ovsns("down w").ok();
            }
            1 => drop(world.ovsns("down --all").ok()),
            _ => {
                world.run("rm -rf /run/ovsns");
                world.ovsns("gc").ok();
            }
        }
        all_is_gone();
    });
    assert!(20 < steps, "only {steps} steps");
    world.ovsns("down w").ok();
    all_is_gone();
    Ok(())
}

/// n1 -- b.1.1 -- n2, slowed, held down, cut from each other and healed
pub(crate) fn what_is_done_to_links_is_killed_at_every_request(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("two.yaml", TWO_NODES);
    let foreign = world.foreign();
    let state = || world.ovsns("status --json").ok().json()["state"].clone();
    // What tc(8), ip(8) and nft(8) know of it.
    let is_done = |words: &str| match words.split_once(' ').map_or(words, |(command, _)| command) {
        "cut" => world.run("ip netns exec two-nodes.n1 nft list ruleset").stdout.contains("drop"),
        _ if words.contains("down") => {
            !world.run("ip -n two-nodes.n1 link show eth0").stdout.contains("LOWER_UP")
        }
        _ => world.run("tc -n two-nodes.n1 qdisc show dev eth0").stdout.contains("rate 10Mbit"),
    };
    for words in ["link set n1 b.1.1 --rate 10mbit", "link down n1 b.1.1", "cut n1 from n2", "heal"]
    {
        let begin = || {
            world.ovsns("up two.yaml").ok();
            if words == "heal" {
                world.ovsns("cut n1 from n2").ok();
            }
        };
        begin();
        let steps = kill_at_every(world, words, |step| {
            foreign_things_are_there(world, &foreign);
            match step % 4 {
                // The same once more does it, or finds it done; ...
                0 if words != "heal" => {
                    world.ovsns(words).ok();
                    assert!(is_done(words), "`{words}` is not done");
                }
                // ... the file undoes it; ...
                0 | 1 => {
                    world.ovsns("up two.yaml").ok();
                    world.pings("two-nodes.n1", "10.0.0.2");
                    assert!(!is_done(words), "`{words}` is done");
                    world.ovsns("up two.yaml").ok().says("nothing to change");
                }
                2 => {
                    world.ovsns("down two-nodes").ok();
                    foreign.is_untouched(world);
                }
                // ... and nothing is left, also where nothing is remembered.
                _ => {
                    world.run("rm -rf /run/ovsns");
                    world.ovsns("gc").ok();
                    foreign.is_untouched(world);
                }
            }
            if step % 4 < 2 {
                assert_eq!(state(), "up");
            }
            begin();
        });
        println!("{words}: killed before each of {steps} steps");
        assert!(3 < steps, "only {steps} steps of `{words}`");
        assert!(words == "heal" || is_done(words), "`{words}` is not done");
        assert_eq!(state(), "up");
        world.ovsns("down two-nodes").ok();
        foreign.is_untouched(world);
    }
    Ok(())
}

/// s1 with sixty nodes, killed at twenty moments of `up` and of `down`
pub(crate) fn up_is_killed_at_any_moment(world: &World) -> Verdict {
    let foreign = world.foreign();
    let words = "up --topo single,60 --lab big";
    let took = |words: &str| {
        let start = Instant::now();
        world.ovsns(words).ok();
        start.elapsed()
    };
    let (up, down) = (took(words), took("down big"));
    foreign.is_untouched(world);
    let kill_after = |words: &str, moment: Duration| {
        let running = world.start_command(world.command().args(words.split(' ')));
        // The moment is the point of it, so this is a wait for a duration.
        std::thread::sleep(moment);
        running.signal(Signal::SIGKILL);
        running.finish()
    };
    let mut killed = 0;
    for moment in 1..=20 {
        let cut = kill_after(words, up * moment / 21);
        killed += u32::from(cut.status.code().is_none());
        foreign_things_are_there(world, &foreign);
        if moment % 2 == 0 {
            world.ovsns(words).ok();
            world.pings("big.h1", "10.0.0.60");
            let cut = kill_after("down big", down * moment / 21);
            killed += u32::from(cut.status.code().is_none());
            foreign_things_are_there(world, &foreign);
        }
        world.ovsns("down --all").ok();
        foreign.is_untouched(world);
    }
    assert!(10 < killed, "only {killed} of 30 were killed");
    Ok(())
}
