//! Cities: graphs of hundreds of nodes, each a namespace, and each link a cable,
//! by ovsns and by a bare netlink loop that makes the same things; what all
//! neighbours have to say, and how much memory `up` takes.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use world::World;

use crate::measure::{Answer, Spread, Without, all_namespaces_are_gone, ask, milliseconds, timed};

/// `up` and `down` take at most so many times as long as the bare loop.
const GOAL: f64 = 1.5;

/// A graph to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct City {
    name: &'static str,
    /// The files of `examples/` that it is made of, side by side.
    parts: &'static [&'static str],
    /// As many nodes and links as it has at least: what lacks is added.
    least: [usize; 2],
}

const CITIES: [City; 5] = [
    City { name: "leipzig", parts: &["leipzig"], least: [0, 0] },
    City { name: "ulm", parts: &["ulm"], least: [0, 0] },
    City { name: "berlin", parts: &["berlin"], least: [0, 0] },
    City { name: "all-three", parts: &["leipzig", "ulm", "berlin"], least: [1200, 2100] },
    // As large as the largest of these networks that is known to have been published.
    City { name: "nine-ulms", parts: &["ulm"; 9], least: [1972, 5164] },
];

/// How many of them are large enough to be measured only if asked for.
const UNASKED: usize = 4;

/// Who makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ovsns,
    Bare,
}

// ---- on the machine: rounds and the table ----

/// Prints the table; returns whether nobody failed.
pub(crate) fn compare_all(rounds: usize, all: bool) -> bool {
    println!(
        "\nCities: each node a namespace, each link a cable with addresses, {rounds} rounds; goal: \
         {GOAL} times the bare loop"
    );
    println!("{:<10}  nodes  links  what  {:>22}  {:>22}  /bare", "", "ovsns", "bare loop");
    let cities = if all { &CITIES[..] } else { &CITIES[..UNASKED] };
    cities
        .iter()
        .filter(|city| {
            let compared = compare(city, rounds);
            if let Err(without) = &compared {
                println!("{:<10}  {without}", city.name);
            }
            compared.is_err()
        })
        .count()
        == 0
}

fn compare(city: &City, rounds: usize) -> Result<(), Without> {
    let [mut ours, mut bare] = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        // Who comes first pays for what the one before left to the kernel.
        let mut ways = [Way::Ovsns, Way::Bare];
        ways.rotate_left(round % 2);
        for way in ways {
            let answer = ask(&format!("city {way:?} {}", city.name))?;
            if way == Way::Ovsns { &mut ours } else { &mut bare }.push(answer.figures);
        }
    }
    let column = |runs: &[Vec<f64>], place: usize| -> Spread {
        runs.iter().filter_map(|run| run.get(place).copied()).collect()
    };
    let [nodes, links] = [0, 1].map(|place| column(&ours, place).median());
    for (place, what) in [(2, "up"), (3, "down"), (4, "gone")] {
        let [ours, bare] = [&ours, &bare].map(|runs| column(runs, place));
        let ratio = ours.median() / bare.median();
        let missed = if what != "gone" && GOAL < ratio { "  goal missed" } else { "" };
        println!(
            "{:<10}  {nodes:>5}  {links:>5}  {what:<4}  {:>22}  {:>22}  {ratio:>5.2}{missed}",
            city.name,
            ours.shown(0),
            bare.shown(0)
        );
    }
    let [ping, answering, pairs, peak] = [5, 6, 7, 8].map(|place| column(&ours, place));
    println!(
        "{:<10}  ping --neighbours: {} ms, {} of {} pairs answer; most memory of `up`: {} MB",
        city.name,
        ping.shown(0),
        answering.shown(0),
        pairs.median(),
        peak.shown(1)
    );
    Ok(())
}

// ---- in a world ----

/// `WAY CITY`: nodes and links, up, down and gone in milliseconds; and of ovsns
/// the time of `ping`, pairs that answered and all pairs, and megabytes.
pub(crate) fn run(world: &World, words: &[&str]) -> Answer {
    let [way, name] = words else { panic!("a way and a city, not {words:?}") };
    let way = [Way::Ovsns, Way::Bare].into_iter().find(|it| format!("{it:?}") == *way);
    let way = way.expect("a way");
    let city = CITIES.iter().find(|city| city.name == *name).expect("a city");
    let graph = city.graph(world);
    let file = format!("{name}.json");
    world.file(&file, &graph.json());
    let here = std::env::current_exe().expect("the path of this program");
    let (mut up, mut down) = match way {
        Way::Ovsns => {
            let (mut up, mut down) = (world.command(), world.command());
            up.args(["up", &file, "--format", "graph"]);
            down.args(["down", name]);
            (up, down)
        }
        Way::Bare => {
            let plan = world.ovsns(&format!("plan {file} --format graph")).ok();
            world.file("plan", &plan.stdout);
            let (mut up, mut down) = (Command::new(&here), Command::new(&here));
            up.args(["--bare-cables", "plan"]);
            down.arg("--bare-uncabled");
            (up, down)
        }
    };
    let up = timed(&mut up);
    // Of the one child that is large.
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("what children used");
    #[expect(clippy::cast_precision_loss, reason = "kilobytes of a process")]
    let peak = usage.max_rss() as f64 / 1024.0;
    assert_eq!(world.namespaces().len(), graph.nodes.len(), "{way:?}");
    let mut asked = Vec::new();
    if way == Way::Ovsns {
        let (took, answering, pairs) = ping(world);
        assert_eq!(pairs, 2 * graph.links.len(), "each neighbour is asked");
        asked = vec![took, whole(answering), whole(pairs), peak];
    }
    let start = Instant::now();
    let down = timed(&mut down);
    all_namespaces_are_gone(world);
    let gone = milliseconds(start.elapsed());
    assert_eq!(world.namespaces(), Vec::<String>::new(), "{way:?} left namespaces");
    let mut figures = vec![whole(graph.nodes.len()), whole(graph.links.len()), up, down, gone];
    figures.extend(asked);
    Answer { figures, said: Vec::new() }
}

/// Milliseconds, pairs that answered, and all pairs.
fn ping(world: &World) -> (f64, usize, usize) {
    let start = Instant::now();
    // It ends with 1 if one of thousands was late.
    let said = world.command().args(["ping", "--neighbours"]).stdin(Stdio::null()).output();
    let took = milliseconds(start.elapsed());
    let said = said.expect("a program");
    let text = String::from_utf8_lossy(&said.stdout);
    // 2246 of 2246 pairs answer, 0.914 to 2.012 ms
    let last = text.lines().last().unwrap_or_default();
    let words: Vec<&str> = last.split(' ').collect();
    let [answering, "of", pairs, "pairs", ..] = words[..] else {
        panic!("ping said {text:?} {:?}", String::from_utf8_lossy(&said.stderr))
    };
    let number = |word: &str| word.parse().expect("a number");
    (took, number(answering), number(pairs))
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn whole(number: usize) -> f64 {
    number as f64
}

/// Names, and which of them are linked.
#[derive(Debug, Default)]
struct Graph {
    nodes: Vec<String>,
    links: Vec<[usize; 2]>,
}

impl City {
    fn graph(&self, world: &World) -> Graph {
        let mut graph = Graph::default();
        for (number, part) in self.parts.iter().enumerate() {
            let text = world.example(&format!("city-{part}.json"));
            graph.add(number, &serde_json::from_str(&text).expect("a graph"));
        }
        graph.fill(self.least);
        graph
    }
}

impl Graph {
    /// Adds a city beside those that are there.
    fn add(&mut self, number: usize, city: &Value) {
        let text = |id: &Value| id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let first = self.nodes.len();
        let mut place = |id: &Value| {
            let name = format!("c{number}-{}", text(id));
            let known = self.nodes[first..].iter().position(|it| *it == name);
            known.map_or_else(
                || {
                    self.nodes.push(name);
                    self.nodes.len() - 1
                },
                |place| first + place,
            )
        };
        for node in city["nodes"].as_array().expect("nodes") {
            place(&node["id"]);
        }
        for link in city["links"].as_array().expect("links") {
            let ends = ["source", "target"].map(|end| place(&link[end]));
            self.links.push(ends);
        }
    }

    /// Adds nodes and links until there are so many, the same ones every time.
    fn fill(&mut self, least: [usize; 2]) {
        for number in self.nodes.len()..least[0] {
            self.nodes.push(format!("more-{number}"));
        }
        let sorted = |[a, b]: [usize; 2]| [a.min(b), a.max(b)];
        let mut linked: BTreeSet<[usize; 2]> = self.links.iter().copied().map(sorted).collect();
        let nodes = self.nodes.len();
        let mut step = 0;
        while self.links.len() < least[1] {
            // From the last node on, since the new ones have no links yet.
            let from = nodes - 1 - step % nodes;
            let ends = [from, (31 * from + 17 * (step / nodes + 1)) % nodes];
            step += 1;
            if ends[0] != ends[1] && linked.insert(sorted(ends)) {
                self.links.push(ends);
            }
        }
    }

    fn json(&self) -> String {
        let nodes: Vec<Value> = self.nodes.iter().map(|name| json!({ "id": name })).collect();
        let name = |place: usize| &self.nodes[place];
        let link = |[a, b]: &[usize; 2]| json!({ "source": name(*a), "target": name(*b) });
        let links: Vec<Value> = self.links.iter().map(link).collect();
        json!({ "nodes": nodes, "links": links }).to_string()
    }
}
