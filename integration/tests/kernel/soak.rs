//! Labs that come, change and go, again and again, beside one that stays: what stays
//! must not grow. Not its open files, its memory, its logs and its database, and not
//! what the kernel and `/run` have.

use std::collections::BTreeMap;
use std::path::Path;

use world::{Skip, Verdict, World, note, until_within};

use crate::own_ovs;

/// k -- s: it stays, with a process and all that is started once.
const STAYS: &str = "
name: stays
switches: { s: {} }
nodes:
  k:
    isolation: [pid]
    run: [{ name: rests, command: [sleep, '4721'] }]
links: [{ endpoints: [k, s] }]
";

/// a, b -- s1 = s2 -- c, a -- c: it comes and goes.
const COMES: &str = "
name: comes
switches: { s1: {}, s2: {} }
nodes:
  a: { interfaces: { eth0: { addresses: [10.7.0.1/24] } } }
  b:
    isolation: [pid, mount]
    run: [{ name: talks, command: [sh, -c, 'echo I am here; exec sleep 4722'] }]
    interfaces: { eth0: { addresses: [10.7.0.2/24] } }
  c: { sealed: true, interfaces: { eth0: { addresses: [10.7.0.3/24] } } }
links:
  - endpoints: [a, s1]
  - endpoints: [b, s1]
  - endpoints: [s1, s2]
  - endpoints: [c, s2]
  - { endpoints: [a, c], impairments: { rate: 10mbit } }
";

/// Makes the lab, changes it, and takes it away.
fn cycle(world: &World) {
    world.ovsns("up comes.yaml").ok();
    world.ovsns("exec comes/a -- true").ok();
    world.ovsns("node add d --lab comes --link s2").ok();
    world.ovsns("up changed.yaml").ok();
    world.ovsns("exec comes/b -- true").ok();
    world.ovsns("cut a from c --lab comes").ok();
    world.ovsns("heal --lab comes").ok();
    world.ovsns("down comes").ok();
}

/// What there is of everything that could grow, by its name.
type Figures = BTreeMap<String, u64>;

fn figures(world: &World) -> Figures {
    let mut all = Figures::new();
    for (id, line) in world.processes() {
        let name = match line.split_whitespace().collect::<Vec<_>>()[..] {
            [ovsns, kind @ ("keep-node" | "keep-ovs"), ..] if ovsns.ends_with("ovsns") => kind,
            [daemon, ..] if line.contains("/run/ovsns/ovs") => {
                Path::new(daemon).file_name().and_then(|name| name.to_str()).expect("a name")
            }
            _ => continue,
        };
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).expect("it runs").count();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = memory.and_then(|it| it.trim().trim_end_matches(" kB").parse::<u64>().ok());
        *all.entry(format!("files of {name}")).or_default() += files as u64;
        *all.entry(format!("kB of {name}")).or_default() += memory.expect("a number");
    }
    let bytes = |path: &str| std::fs::metadata(path).map_or(0, |file| file.len());
    for file in ["keeper.log", "ovs-vswitchd.log", "ovsdb-server.log", "conf.db"] {
        all.insert(format!("bytes of {file}"), bytes(&format!("/run/ovsns/ovs/{file}")));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("it is there");
    all.insert("mounts".into(), mounts.lines().count() as u64);
    all.insert("kernel's namespaces, of all the machine".into(), kernels("net_namespace"));
    all
}

/// How many of a kind of object the kernel has, for the report: it counts those of the
/// whole machine, and frees them in its own time.
fn kernels(kind: &str) -> u64 {
    let slabs = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let line = slabs.lines().find(|line| line.split_whitespace().next() == Some(kind));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}

/// Of what nothing but memory and files may change: nothing.
fn must_not_grow(now: &Figures, before: &Figures, cycles: u32) {
    for (name, now) in now {
        let before = before.get(name).copied().unwrap_or_default();
        let most = match name.split_once(" of ") {
            // An allocator has its own ideas of when to give back.
            Some(("kB", "ovs-vswitchd" | "ovsdb-server")) => before + before / 4 + 12_288,
            Some(("kB", _)) => before + 2_048,
            // Put aside, or written anew, when they are longer.
            Some(("bytes", _)) => 4 << 20,
            _ if name.starts_with("kernel's") => continue,
            // A pool of connections, and of packet sockets that go a moment later.
            Some(("files", "ovs-vswitchd")) => before + 4,
            _ => before,
        };
        assert!(*now <= most, "{name}: {now} after {cycles} cycles, {before} before\n");
    }
}

fn cycles(world: &World, backend: &str, count: u32) {
    let _groups = world.control_groups();
    let over = |lab: &str| lab.replace("{}", &format!("{{ backend: {backend} }}"));
    world.file("stays.yaml", &over(STAYS));
    world.file("comes.yaml", &over(COMES));
    let changed =
        over(COMES).replace("10.7.0.3", "10.7.0.33").replace("rate: 10mbit", "rate: 20mbit");
    world.file("changed.yaml", &changed);
    let empty = world.inventory();
    world.ovsns("up stays.yaml").ok();
    world.settled();
    let began = std::time::Instant::now();
    let start = figures(world);
    let before = world.inventory();
    // What grows at first, and then no more, is no leak.
    let warm = (count / 10).max(3);
    let mut after_warm = Figures::new();
    for nth in 1..=count {
        cycle(world);
        if nth == warm {
            after_warm = figures(world);
        }
    }
    world.settled();
    let end = figures(world);
    // A log that was put aside is no thing too many.
    world.sh("rm -f /run/ovsns/ovs/*.log.old");
    world.inventory().must_equal(&before);
    let took = began.elapsed().as_secs();
    if 100 < count {
        note(&format!("{count} cycles in {took} s; at the start, after {warm}, after all:"));
        for (name, last) in &end {
            let of = |figures: &Figures| figures.get(name).copied().unwrap_or_default();
            note(&format!("  {name}: {}, {}, {last}", of(&start), of(&after_warm)));
        }
    }
    must_not_grow(&end, &after_warm, count);
    world.ovsns("down stays").ok();
    until_within(60, "the last namespace is gone", || world.namespaces().is_empty());
    own_ovs::all_ends(world);
    world.inventory().must_equal(&empty);
}

pub(crate) fn some_cycles_on_bridges(world: &World) -> Verdict {
    cycles(world, "linux", 8);
    Ok(())
}

pub(crate) fn a_thousand_cycles_on_bridges(world: &World) -> Verdict {
    cycles(world, "linux", 1000);
    Ok(())
}

pub(crate) fn some_cycles_on_our_own_open_vswitch(world: &World) -> Verdict {
    on_our_own(world, 8)
}

pub(crate) fn a_thousand_cycles_on_our_own_open_vswitch(world: &World) -> Verdict {
    on_our_own(world, 1000)
}

fn on_our_own(world: &World, count: u32) -> Verdict {
    own_ovs::needs(world)?;
    cycles(world, "ovs", count);
    Ok(())
}

/// The kernel counts what namespaces somebody has, and forgets one when it is freed.
const FREED: &str = r#"
mount -t tmpfs tmpfs /run
mkdir /run/netns
for i in 1 2 3 4 5 6; do
    $OVSNS up comes.yaml
    $OVSNS exec a -- true
    $OVSNS down comes
done
# This one, and one more.
echo 2 >/proc/sys/user/max_net_namespaces
until unshare -n true 2>/dev/null; do sleep 0.05; done
# As many as began here, and the one of a command: a node's own were freed as well.
echo 2 >/proc/sys/user/max_mnt_namespaces
until unshare -m true 2>/dev/null; do sleep 0.05; done
echo 2 >/proc/sys/user/max_pid_namespaces
until unshare -fp true 2>/dev/null; do sleep 0.05; done
echo all are free
"#;

/// Labs that are gone hold no namespace, of whatever kind.
pub(crate) fn namespaces_are_freed(world: &World) -> Verdict {
    if !world.attempt("unshare -Urnm true").status.success() {
        return Err(Skip("this kernel gives no user namespaces".into()));
    }
    world.file("comes.yaml", COMES);
    world.file("freed.sh", FREED);
    let ovsns = world.binary().display();
    let ran =
        world.shell(&format!("OVSNS={ovsns} unshare -Urnmpf --mount-proc sh -eu freed.sh")).ok();
    assert!(ran.stdout.ends_with("all are free\n"), "{ran}");
    Ok(())
}

/// s, of which the switch has much to say
pub(crate) fn logs_of_our_own_open_vswitch_stay_short(world: &World) -> Verdict {
    own_ovs::needs(world)?;
    world.file("stays.yaml", &STAYS.replace("s: {}", "s: { backend: ovs }"));
    let before = world.inventory();
    world.ovsns("up stays.yaml").ok();
    let at = |file: &str| format!("/run/ovsns/ovs/{file}");
    let bytes = |file: &str| std::fs::metadata(at(file)).map_or(0, |file| file.len());
    for (daemon, nth) in [("ovs-vswitchd", 1), ("ovsdb-server", 2)] {
        let log = format!("{daemon}.log");
        // As if it had said all that.
        world.sh(&format!("head -c 1100000 /dev/zero | tr '\\0' '\\n' >>{}", at(&log)));
        world.ovsns("keep-ovs --use").ok();
        until_within(10, "the log is put aside", || bytes(&log) < 100_000);
        assert!(1 << 20 < bytes(&format!("{log}.old")), "what was said is still there");
        // It is a new one that the daemon speaks into.
        let now = bytes(&log);
        world.sh(&format!(
            "ovs-appctl -t {} vlog/set file:dbg && ovs-appctl -t {0} vlog/set file:info",
            at(&format!("{daemon}.ctl"))
        ));
        world.ovsns(&format!("node add n{nth} --lab stays --link s")).ok();
        until_within(10, "something is said", || now < bytes(&log));
        let all = world.sh(&format!("ls {}*", at(&log))).stdout;
        assert_eq!(all.lines().count(), 2, "{all}");
    }
    // A database into which much was written, which is not there any more.
    let words = "x".repeat(100_000);
    let remote = at("db.sock");
    for _ in 0..15 {
        for value in [words.as_str(), ""] {
            world.run(&format!(
                "ovs-vsctl --db=unix:{remote} --no-wait set Open_vSwitch . external_ids:t=\"{value}\""
            ));
        }
    }
    assert!(1_400_000 < bytes("conf.db"), "{}", bytes("conf.db"));
    world.ovsns("keep-ovs --use").ok();
    until_within(10, "it is written anew", || bytes("conf.db") < 300_000);
    world.ovsns("status stays").ok().says("lab stays: up");
    world.ovsns("down stays").ok();
    own_ovs::all_ends(world);
    until_within(10, "the last namespace is gone", || world.namespaces().is_empty());
    world.inventory().must_equal(&before);
    Ok(())
}
