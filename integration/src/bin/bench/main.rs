//! How fast: N nodes on one bridge, up and down, by ovsns, by a bare netlink
//! loop and by a shell script; and `exec` beside `ip netns exec`.
//!
//! No figure stands alone. The ways take turns within a round, each in a fresh
//! private world, and the table has the ratio of what ran on the same machine
//! in the same minutes. Every way is a program that is started anew, so that
//! all pay for their start.

mod bare;
mod shell;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use world::World;

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

const USAGE: &str = "usage: integration/bench [--all] [--rounds N] [NODES...]
  --all     the shell script at 1000 nodes too
  --rounds  how often each way runs (5, or $OVSNS_BENCH_ROUNDS)";

fn main() -> ExitCode {
    let first = std::env::args().nth(1).unwrap_or_default();
    if let Some(what) = first.strip_prefix("--bare-") {
        match what.parse() {
            Ok(count) => bare::up(count),
            Err(_) => bare::down(),
        }
        return ExitCode::SUCCESS;
    }
    world::main_or(inside, outside)
}

// ---- on the machine: rounds and the table ----

fn outside() -> ExitCode {
    let mut counts = Vec::new();
    let mut all = false;
    let mut rounds =
        std::env::var("OVSNS_BENCH_ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(5);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = |text: &str| text.parse::<u32>().ok().filter(|it| (1..1024).contains(it));
        match (word.as_str(), number(&word)) {
            ("--all", _) => all = true,
            ("--rounds", _) => match words.next().and_then(|it| it.parse().ok()) {
                Some(count @ 1..) => rounds = count,
                _ => return usage(),
            },
            (_, Some(count)) => counts.push(count),
            _ => return usage(),
        }
    }
    if counts.is_empty() {
        counts = vec![100, 300, 1000];
    }
    println!("{}; {rounds} rounds, medians, milliseconds; lowest..highest in brackets", machine());
    println!();
    println!("nodes  what  {:>22}  {:>22}  {:>22}   /bare  /shell", "ovsns", "bare loop", "shell");
    let mut slow = Vec::new();
    for count in counts {
        let shell = all || count < 1000;
        for line in compare(count, rounds, shell) {
            println!("{}", line.text);
            if count == 1000 && line.is_target && 1.5 < line.ratio {
                slow.push(line.text);
            }
        }
    }
    println!();
    println!("{}", run_in_world("processes"));
    println!("{}", run_in_world("exec"));
    if !slow.is_empty() {
        println!("\nslower than 1.5 times the bare loop at 1000 nodes:");
        slow.iter().for_each(|line| println!("{line}"));
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("kernel {}, {cores} cores", kernel.trim())
}

/// A line of the table.
struct Line {
    text: String,
    ratio: f64,
    is_target: bool,
}

fn compare(count: u32, rounds: usize, shell: bool) -> Vec<Line> {
    let ways =
        if shell { &[Way::Ovsns, Way::Bare, Way::Shell][..] } else { &[Way::Ovsns, Way::Bare] };
    let mut runs: Vec<(Way, Run)> = Vec::new();
    for round in 0..rounds {
        // Who comes first pays for what the one before left to the kernel.
        for turn in 0..ways.len() {
            let way = ways[(round + turn) % ways.len()];
            let answer = run_in_world(&format!("{way:?} {count}"));
            let figures: Vec<f64> = answer.split(' ').filter_map(|it| it.parse().ok()).collect();
            let [up, down, gone] = figures[..] else { panic!("{way:?} {count}: {answer}") };
            runs.push((way, Run { up, down, gone }));
        }
    }
    let line = |what: &str, figure: fn(&Run) -> f64, is_target: bool| {
        let of = |way: Way| {
            let mut figures: Vec<f64> =
                runs.iter().filter(|(it, _)| *it == way).map(|(_, run)| figure(run)).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        let shown = |figures: &[f64]| match (figures.first(), figures.last()) {
            (Some(lowest), Some(highest)) => {
                format!("{:.0} [{lowest:.0}..{highest:.0}]", median(figures))
            }
            _ => "-".to_owned(),
        };
        let [ovsns, bare, shell] = [Way::Ovsns, Way::Bare, Way::Shell].map(of);
        let ratio = median(&ovsns) / median(&bare);
        let to_shell = if shell.is_empty() {
            "-".to_owned()
        } else {
            format!("{:.3}", median(&ovsns) / median(&shell))
        };
        let text = format!(
            "{count:>5}  {what}  {:>22}  {:>22}  {:>22}  {ratio:>6.2}  {to_shell:>6}",
            shown(&ovsns),
            shown(&bare),
            shown(&shell),
        );
        Line { text, ratio, is_target }
    };
    vec![
        line("up  ", |run| run.up, true),
        line("down", |run| run.down, true),
        line("gone", |run| run.gone, false),
    ]
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Runs this program in a new world with a word, and returns what it printed.
fn run_in_world(word: &str) -> String {
    let output = world::in_new_world(word)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("a world");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{word}: {}\n{text}", output.status);
    text
}

// ---- in a world ----

fn inside(word: &str) -> ExitCode {
    let world = world::furnish();
    match word.split_once(' ') {
        Some((way, count)) => {
            let count = count.parse().expect("a number of nodes");
            let way = [Way::Ovsns, Way::Bare, Way::Shell]
                .into_iter()
                .find(|it| format!("{it:?}") == way)
                .expect("a way");
            let Run { up, down, gone } = up_and_down(&world, way, count);
            println!("{up:.3} {down:.3} {gone:.3}");
        }
        None if word == "exec" => println!("{}", exec(&world)),
        None => println!("{}", processes(&world)),
    }
    ExitCode::SUCCESS
}

fn up_and_down(world: &World, way: Way, count: u32) -> Run {
    let here = std::env::current_exe().expect("the path of this program");
    let (mut up, mut down) = match way {
        Way::Ovsns => {
            let (mut up, mut down) = (world.command(), world.command());
            up.args(["up", "--lab", "bench", "--topo", &format!("single,{count}")]);
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

fn timed(command: &mut Command) -> f64 {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("a program");
    let took = start.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    milliseconds(took)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
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

/// Awaits the kernel's cleaner of namespaces, which takes them in order: when
/// it is done with one that is dropped now, it is done with all before.
fn all_namespaces_are_gone(world: &World) {
    world.run("ip netns add last");
    world.run("ip link add last0 type veth peer name last1 netns last");
    world.run("ip netns del last");
    let start = Instant::now();
    while world.link("", "last0").is_some() {
        assert!(start.elapsed() < Duration::from_secs(60), "namespaces that do not go");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How many processes `up` starts and leaves behind.
fn processes(world: &World) -> String {
    let words = "up --lab bench --topo single,100";
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
fn exec(world: &World) -> String {
    world.ovsns("up --lab bench --topo single,2").ok();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        ours.push(timed(world.command().args(["exec", "h1", "--", "true"])));
        theirs.push(timed(Command::new("ip").args(["netns", "exec", "bench.h1", "true"])));
    }
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    let (ours, theirs) = (median(&ours), median(&theirs));
    format!(
        "`true` in a node, 200 times: ovsns exec {ours:.2} ms, ip netns exec {theirs:.2} ms, ratio {:.2}",
        ours / theirs
    )
}
