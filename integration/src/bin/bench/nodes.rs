//! N nodes on one Linux bridge, up and down, by ovsns, by a bare netlink loop
//! and by a shell script; and `exec` beside `ip netns exec`.

use std::process::Command;
use std::time::Instant;

use world::World;

use crate::measure::{
    Answer, Spread, Without, all_namespaces_are_gone, ask, milliseconds, run_in_world, timed,
};
use crate::shell;

/// The three ways to make the same things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ovsns,
    Bare,
    Shell,
}

/// One run of one way, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Run {
    up: f64,
    down: f64,
    /// From the start of `down` until the kernel has cleaned up the last
    /// namespace, which it does by itself after the command has ended.
    gone: f64,
}

// ---- on the machine: rounds and the table ----

/// Prints the table; the shell script takes part in large labs if asked for.
pub(crate) fn compare_all(counts: &[u32], rounds: usize, all: bool) -> Result<(), Without> {
    println!("\nN nodes on one Linux bridge, {rounds} rounds");
    println!("nodes  what  {:>22}  {:>22}  {:>22}   /bare  /shell", "ovsns", "bare loop", "shell");
    let mut slow = Vec::new();
    for count in counts.iter().copied() {
        let shell = all || count < 1000;
        for line in compare(count, rounds, shell)? {
            println!("{}", line.text);
            if count == 1000 && line.is_target && 1.5 < line.ratio {
                slow.push(line.text);
            }
        }
    }
    println!("{}", run_in_world("processes")?);
    println!("{}", run_in_world("exec")?);
    if !slow.is_empty() {
        println!("slower than 1.5 times the bare loop at 1000 nodes:");
        slow.iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

/// A line of the table.
struct Line {
    text: String,
    ratio: f64,
    is_target: bool,
}

fn compare(count: u32, rounds: usize, shell: bool) -> Result<Vec<Line>, Without> {
    let ways =
        if shell { &[Way::Ovsns, Way::Bare, Way::Shell][..] } else { &[Way::Ovsns, Way::Bare] };
    let mut runs: Vec<(Way, Run)> = Vec::new();
    for round in 0..rounds {
        // Who comes first pays for what the one before left to the kernel.
        for turn in 0..ways.len() {
            let way = ways[(round + turn) % ways.len()];
            let answer = ask(&format!("nodes {way:?} {count}"))?;
            let [up, down, gone] = answer.figures[..] else { panic!("{way:?}: {answer:?}") };
            runs.push((way, Run { up, down, gone }));
        }
    }
    let line = |what: &str, figure: fn(&Run) -> f64, is_target: bool| {
        let of = |way: Way| -> Spread {
            runs.iter().filter(|(it, _)| *it == way).map(|(_, run)| figure(run)).collect()
        };
        let [ovsns, bare, shell] = [Way::Ovsns, Way::Bare, Way::Shell].map(of);
        let ratio = ovsns.median() / bare.median();
        let to_shell = ovsns.median() / shell.median();
        let to_shell = if to_shell.is_nan() { "-".into() } else { format!("{to_shell:.3}") };
        let text = format!(
            "{count:>5}  {what}  {:>22}  {:>22}  {:>22}  {ratio:>6.2}  {to_shell:>6}",
            ovsns.shown(0),
            bare.shown(0),
            shell.shown(0),
        );
        Line { text, ratio, is_target }
    };
    Ok(vec![
        line("up  ", |run| run.up, true),
        line("down", |run| run.down, true),
        line("gone", |run| run.gone, false),
    ])
}

// ---- in a world ----

/// `WAY COUNT`: up and down once.
pub(crate) fn run(world: &World, words: &[&str]) -> Answer {
    let [way, count] = words else { panic!("a way and a number of nodes, not {words:?}") };
    let count = count.parse().expect("a number of nodes");
    let way = [Way::Ovsns, Way::Bare, Way::Shell].into_iter().find(|it| format!("{it:?}") == *way);
    let Run { up, down, gone } = up_and_down(world, way.expect("a way"), count);
    Answer { figures: vec![up, down, gone], said: Vec::new() }
}

fn up_and_down(world: &World, way: Way, count: u32) -> Run {
    let here = std::env::current_exe().expect("the path of this program");
    let (mut up, mut down) = match way {
        Way::Ovsns => {
            let (mut up, mut down) = (world.command(), world.command());
            up.args(["up", "--lab", "bench", "--topo", &format!("single,{count}")]);
            up.args(["--backend", "linux"]);
            down.args(["down", "bench"]);
            (up, down)
        }
        Way::Bare => {
            let (mut up, mut down) = (Command::new(&here), Command::new(&here));
            up.arg(format!("--bare-{count}"));
            down.arg("--bare-down");
            (up, down)
        }
        Way::Shell => (shell::up(world, count), shell::down(world, count)),
    };
    let up = timed(&mut up);
    the_lab_is_there(world, way, count);
    let start = Instant::now();
    let down = timed(&mut down);
    all_namespaces_are_gone(world);
    let gone = milliseconds(start.elapsed());
    let links = world.json("ip -j link show");
    assert_eq!(links.as_array().map(Vec::len), Some(1), "{way:?} left links");
    Run { up, down, gone }
}

/// Whoever is fast must also be right: every port is there, and the last node
/// answers the first in both families.
fn the_lab_is_there(world: &World, way: Way, count: u32) {
    let ports = world.json("bridge -j link show");
    assert_eq!(ports.as_array().map(Vec::len), usize::try_from(count).ok(), "{way:?}");
    let lab = if way == Way::Ovsns { "bench" } else { "bare" };
    let (first, last) = (format!("{lab}.h1"), format!("{lab}.h{count}"));
    let addresses = world.addresses(&last, "eth0");
    assert_eq!(addresses.len(), 2, "{way:?}: {addresses:?}");
    for address in addresses {
        // The rivals do not wait until the kernel is ready.
        let to = address.split('/').next().expect("an address");
        world::until("the last node answers the first", || {
            world.ping_once(&first, to).status.success()
        });
    }
}

/// How many processes `up` starts and leaves behind.
pub(crate) fn processes(world: &World) -> String {
    let words = "up --lab bench --topo single,100 --backend linux";
    let resident = || world.processes().len();
    if world.needs("strace").is_err() {
        world.ovsns(words).ok();
        return format!("processes: {} resident after `up`; no strace, none counted", resident());
    }
    let (finished, trace) = world.traced(words);
    finished.ok();
    format!(
        "processes of `up` with 100 nodes: {} program (itself), {} forked, {} resident after it",
        trace.programs.len(),
        trace.forks,
        resident()
    )
}

/// `true` in a node, two hundred times each.
pub(crate) fn exec(world: &World) -> String {
    world.ovsns("up --lab bench --topo single,2 --backend linux").ok();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        ours.push(timed(world.command().args(["exec", "h1", "--", "true"])));
        theirs.push(timed(Command::new("ip").args(["netns", "exec", "bench.h1", "true"])));
    }
    let (ours, theirs) = (Spread::from_iter(ours).median(), Spread::from_iter(theirs).median());
    format!(
        "`true` in a node, 200 times: ovsns exec {ours:.2} ms, ip netns exec {theirs:.2} ms, ratio {:.2}",
        ours / theirs
    )
}
