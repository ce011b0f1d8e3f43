//! How fast: nodes on one bridge, cities, whole fabrics, and what passes between
//! two nodes. `integration/bench --help` says what can be asked for.
//!
//! No figure stands alone. The ways take turns within a round, each in a fresh
//! private world, and a table has the ratio of what ran on the same machine in
//! the same minutes. Every way is a program that is started anew, so that all
//! pay for their start.
//!
//! `nodes`, `city`, `shapes`, `traffic`, `attach` and `keep` are the tables, `measure` is how they
//! take figures; `bare` and `open_vswitch` are floors, `shell` and `mininet`
//! rivals.

mod attach;
mod bare;
mod city;
mod keep;
mod measure;
mod mininet;
mod nodes;
mod open_vswitch;
mod shapes;
mod shell;
mod traffic;

use std::process::ExitCode;

use measure::tell;

/// What the command line asks for.
struct Asked {
    parts: Vec<Part>,
    /// Numbers of nodes on one bridge.
    counts: Vec<u32>,
    /// Rivals also where they take minutes.
    all: bool,
    rounds: usize,
    mininet_rounds: usize,
    /// How often each thing is broken.
    faults: usize,
    /// Not at real-time priority, where that is the rule.
    ordinary: bool,
}

/// The tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Nodes,
    City,
    Shapes,
    Throughput,
    Attach,
    Keep,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).take(2).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [flag @ (traffic::PING | traffic::PONG), address] => return traffic::end(flag, address),
        ["--bare-cables", plan] => {
            bare::cables::up(plan);
            return ExitCode::SUCCESS;
        }
        ["--bare-uncabled"] => {
            bare::cables::down();
            return ExitCode::SUCCESS;
        }
        [first, ..] if first.starts_with("--bare-") => {
            match first["--bare-".len()..].parse() {
                Ok(count) => bare::up(count),
                Err(_) => bare::down(),
            }
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    world::main_or(inside, outside)
}

// ---- on the machine ----

fn outside() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let asked = match Asked::read(&words) {
        Ok(asked) => asked,
        Err(wrong) => {
            eprintln!("error: {wrong}\n hint: integration/bench --help");
            return ExitCode::from(2);
        }
    };
    println!("{}; medians, milliseconds; lowest..highest in brackets", machine());
    let mut well = true;
    for part in &asked.parts {
        well &= match part {
            Part::Nodes => match nodes::compare_all(&asked.counts, asked.rounds, asked.all) {
                Ok(()) => true,
                Err(without) => {
                    println!("{without}");
                    false
                }
            },
            Part::City => city::compare_all(asked.rounds, asked.all),
            Part::Shapes => shapes::compare_all(&asked),
            Part::Throughput => traffic::compare(asked.rounds),
            Part::Attach => attach::compare(asked.rounds, asked.ordinary),
            Part::Keep => keep::compare_all(asked.faults),
        };
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Asked {
    /// Reads the command line, or says what is wrong with it.
    fn read(words: &[String]) -> Result<Self, String> {
        let rounds = std::env::var("OVSNS_BENCH_ROUNDS").ok();
        let rounds = rounds.and_then(|it| it.parse().ok()).unwrap_or(5);
        let (parts, counts) = (Vec::new(), Vec::new());
        let (all, ordinary) = (false, false);
        let (mininet_rounds, faults) = (3, 50);
        let mut asked = Self { parts, counts, all, rounds, mininet_rounds, faults, ordinary };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut number = || match words.next().and_then(|it| it.parse().ok()) {
                Some(count @ 1..) => Ok(count),
                _ => Err(format!("`{word}` takes a number, 1 or more")),
            };
            match word.as_str() {
                "nodes" => asked.parts.push(Part::Nodes),
                "city" => asked.parts.push(Part::City),
                "shapes" => asked.parts.push(Part::Shapes),
                "throughput" => asked.parts.push(Part::Throughput),
                "attach" => asked.parts.push(Part::Attach),
                "keep" => asked.parts.push(Part::Keep),
                "--faults" => asked.faults = number()?,
                "--all" => asked.all = true,
                "--ordinary" => asked.ordinary = true,
                "--rounds" => asked.rounds = number()?,
                "--mininet-rounds" => asked.mininet_rounds = number()?,
                _ => match word.parse() {
                    Ok(count @ 1..1024) => asked.counts.push(count),
                    Ok(_) => return Err(format!("a bridge has 1 to 1023 ports, not {word}")),
                    Err(_) => return Err(format!("`{word}` is nothing to measure")),
                },
            }
        }
        // A number of nodes is a question about nodes.
        if !asked.counts.is_empty() && !asked.parts.contains(&Part::Nodes) {
            asked.parts.insert(0, Part::Nodes);
        }
        if asked.parts.is_empty() {
            asked.parts = vec![Part::Nodes, Part::City, Part::Shapes, Part::Throughput];
        }
        if asked.counts.is_empty() {
            asked.counts = vec![100, 300, 1000];
        }
        Ok(asked)
    }
}

fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("kernel {}, {cores} cores", kernel.trim())
}

// ---- in a world ----

fn inside(word: &str) -> ExitCode {
    let world = world::furnish();
    match word.split(' ').collect::<Vec<_>>()[..] {
        ["nodes", ref words @ ..] => tell(Ok(nodes::run(&world, words))),
        ["city", ref words @ ..] => tell(Ok(city::run(&world, words))),
        ["shape", ref words @ ..] => tell(shapes::run(&world, words)),
        ["attach", ref words @ ..] => tell(attach::run(&world, words)),
        ["keep", ref words @ ..] => tell(Ok(keep::run(&world, words))),
        ["traffic", ref words @ ..] => tell(traffic::run(&world, words)),
        ["exec"] => {
            println!("{}", nodes::exec(&world));
            ExitCode::SUCCESS
        }
        ["processes"] => {
            println!("{}", nodes::processes(&world));
            ExitCode::SUCCESS
        }
        _ => panic!("nothing to measure: `{word}`"),
    }
}
