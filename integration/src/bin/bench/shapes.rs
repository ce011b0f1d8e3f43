//! Whole fabrics, up and down: `linear,100`, `single,100` and `single,1000` by
//! ovsns on each backend, beside Mininet, and beside what `ovs-vswitchd` itself
//! needs for the same rows and the kernel for the same bridges.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use world::World;

use crate::Asked;
use crate::measure::{Answer, Spread, Without, all_namespaces_are_gone, ask, milliseconds, timed};
use crate::{bare, mininet, open_vswitch};

/// Mininet takes at least so many times as long.
const MININET_GOAL: f64 = 15.0;
/// `up` takes at most so many times as long as the switch itself.
const FLOOR_GOAL: f64 = 1.5;

/// A thousand nodes announce themselves to a thousand ports, and a userspace
/// datapath is busy with that for a quarter of a minute.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// A shape that both `ovsns --topo` and `mn --topo` know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// So many nodes on one switch.
    Single(u32),
    /// So many switches in a row, with a node on each.
    Linear(u32),
}

impl Shape {
    fn new(topology: &str) -> Self {
        let (shape, count) = topology.split_once(',').expect("a shape and a number");
        let count = count.parse().expect("a number");
        match shape {
            "single" => Self::Single(count),
            "linear" => Self::Linear(count),
            _ => panic!("no shape `{shape}`"),
        }
    }

    pub(crate) fn topology(self) -> String {
        match self {
            Self::Single(count) => format!("single,{count}"),
            Self::Linear(count) => format!("linear,{count}"),
        }
    }

    pub(crate) fn nodes(self) -> u32 {
        match self {
            Self::Single(count) | Self::Linear(count) => count,
        }
    }

    pub(crate) fn switches(self) -> u32 {
        match self {
            Self::Single(_) => 1,
            Self::Linear(count) => count,
        }
    }
}

/// Who makes the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Maker {
    Linux,
    Ovs,
    Mininet,
    /// The switch alone, rows written by hand.
    Floor,
    /// The kernel alone: as many bridges with no ports.
    Bridges,
}

impl Maker {
    const ALL: [Self; 5] = [Self::Linux, Self::Ovs, Self::Mininet, Self::Floor, Self::Bridges];

    fn name(self) -> &'static str {
        match self {
            Self::Linux => "ovsns linux",
            Self::Ovs => "ovsns ovs",
            Self::Mininet => "Mininet",
            Self::Floor => "switch alone",
            Self::Bridges => "bare bridges",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Ovs => "ovs",
            Self::Mininet => "mininet",
            Self::Floor => "floor",
            Self::Bridges => "bridges",
        }
    }
}

// ---- on the machine: rounds and the tables ----

/// Prints a table for each shape; returns whether nobody failed.
pub(crate) fn compare_all(asked: &Asked) -> bool {
    println!(
        "\nWhole fabrics, {} rounds, Mininet {}; ovsns starts and stops its own Open vSwitch \
         within",
        asked.rounds,
        asked.mininet_rounds.min(asked.rounds)
    );
    let shapes = [Shape::Linear(100), Shape::Single(100), Shape::Single(1000)];
    shapes.into_iter().filter(|shape| !compare(*shape, asked)).count() == 0
}

/// What came of each maker's rounds.
#[derive(Default)]
struct Runs {
    answers: Vec<Answer>,
    without: Option<Without>,
}

impl Runs {
    fn of(&self, figure: impl Fn(&[f64]) -> f64) -> Spread {
        self.answers.iter().map(|answer| figure(&answer.figures)).collect()
    }
}

fn compare(shape: Shape, asked: &Asked) -> bool {
    let topology = shape.topology();
    let mut runs: BTreeMap<Maker, Runs> = BTreeMap::new();
    for round in 0..asked.rounds {
        // Who comes first pays for what the one before left to the kernel.
        for turn in 0..Maker::ALL.len() {
            let maker = Maker::ALL[(round + turn) % Maker::ALL.len()];
            let is_slow = maker == Maker::Mininet;
            if is_slow && (asked.mininet_rounds <= round || 1000 <= shape.nodes() && !asked.all) {
                continue;
            }
            let runs = runs.entry(maker).or_default();
            if runs.without.is_none() {
                match ask(&format!("shape {} {topology}", maker.word())) {
                    Ok(answer) => runs.answers.push(answer),
                    Err(without) => runs.without = Some(without),
                }
            }
        }
    }

    println!("\n{topology:12}  {:>22}  {:>22}  {:>22}  {:>22}", "up", "down", "both", "gone");
    for (maker, runs) in &runs {
        println!("{}", line(*maker, runs));
        let said = runs.answers.first().map_or(&[][..], |answer| &answer.said);
        said.iter().for_each(|line| println!("{:14}{line}", ""));
    }
    verdicts(&runs).iter().for_each(|line| println!("{line}"));
    !runs.values().any(|runs| matches!(runs.without, Some(Without::Failed(_))))
}

fn line(maker: Maker, runs: &Runs) -> String {
    if let Some(without) = &runs.without {
        return format!("{:12}  {without}", maker.name());
    }
    let columns = match maker {
        Maker::Linux | Maker::Ovs => {
            [runs.of(|it| it[0]), runs.of(|it| it[1]), runs.of(both), runs.of(|it| it[2])]
        }
        Maker::Bridges => {
            [runs.of(|it| it[0]), runs.of(|it| it[1]), runs.of(both), [].into_iter().collect()]
        }
        Maker::Mininet => [
            [].into_iter().collect(),
            [].into_iter().collect(),
            runs.of(|it| it[0]),
            [].into_iter().collect(),
        ],
        Maker::Floor => {
            [runs.of(rows), runs.of(|it| it[3]), [].into_iter().collect(), [].into_iter().collect()]
        }
    };
    let mut text = format!("{:12}", maker.name());
    for column in columns {
        text += &format!("  {:>22}", column.shown(0));
    }
    if maker == Maker::Floor {
        let part = |at: usize| runs.of(move |it| it[at]).shown(0);
        text += &format!(
            "\n{:14}bridges {}, node ports {}, patch ports {}",
            "",
            part(0),
            part(1),
            part(2)
        );
    }
    text
}

/// Up and down together.
fn both(figures: &[f64]) -> f64 {
    figures[0] + figures[1]
}

/// Bridges, node ports and patch ports.
fn rows(figures: &[f64]) -> f64 {
    figures[..3].iter().sum()
}

/// The ratios, each with its goal.
fn verdicts(runs: &BTreeMap<Maker, Runs>) -> Vec<String> {
    let median = |maker: Maker, figure: fn(&[f64]) -> f64| {
        let median = runs.get(&maker).map_or(f64::NAN, |runs| runs.of(figure).median());
        (!median.is_nan()).then_some(median)
    };
    let mut lines = Vec::new();
    for maker in [Maker::Linux, Maker::Ovs] {
        if let (Some(ours), Some(theirs)) =
            (median(maker, both), median(Maker::Mininet, |it| it[0]))
        {
            let ratio = theirs / ours;
            let verdict = verdict(MININET_GOAL <= ratio);
            lines.push(format!(
                "Mininet / {}: {ratio:.1} (goal: {MININET_GOAL} or more; {verdict})",
                maker.name()
            ));
        }
    }
    if let (Some(up), Some(floor)) = (median(Maker::Ovs, |it| it[0]), median(Maker::Floor, rows)) {
        let ratio = up / floor;
        let verdict = verdict(ratio <= FLOOR_GOAL);
        lines.push(format!(
            "up, ovsns ovs / switch alone: {ratio:.2} (goal: {FLOOR_GOAL} or less; {verdict})"
        ));
    }
    if let (Some(ours), Some(floor)) =
        (median(Maker::Linux, |it| it[1]), median(Maker::Bridges, |it| it[1]))
    {
        lines.push(format!("down, ovsns linux / bare bridges: {:.2}", ours / floor));
    }
    lines
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

// ---- in a world ----

/// `MAKER TOPOLOGY`: up and down once.
pub(crate) fn run(world: &World, words: &[&str]) -> Result<Answer, Without> {
    let [maker, topology] = words else { panic!("a maker and a shape, not {words:?}") };
    let shape = Shape::new(topology);
    match Maker::ALL.into_iter().find(|it| it.word() == *maker).expect("a maker") {
        Maker::Linux => ovsns(world, "linux", shape),
        Maker::Ovs => ovsns(world, "ovs", shape),
        Maker::Mininet => mininet::run(world, shape),
        Maker::Floor => open_vswitch::floor(world, shape),
        Maker::Bridges => Ok(bridges(shape)),
    }
}

/// As many bridges with nothing at them: for each that goes, the kernel waits
/// for its readers (`rcu_barrier` in `br_multicast_dev_del`), 17 ms on Linux 6.18,
/// however they are deleted.
fn bridges(shape: Shape) -> Answer {
    let start = Instant::now();
    let delete = bare::bridges(shape.switches());
    let up = milliseconds(start.elapsed());
    let start = Instant::now();
    delete();
    Answer { figures: vec![up, milliseconds(start.elapsed())], said: Vec::new() }
}

/// Up, down, and until the last namespace and the last process are gone.
fn ovsns(world: &World, backend: &str, shape: Shape) -> Result<Answer, Without> {
    let start = Instant::now();
    let mut said = up(world, backend, &shape.topology())?;
    let up = milliseconds(start.elapsed());
    the_lab_is_there(world, shape);
    let answers = milliseconds(start.elapsed()) - up;
    said.push(format!(
        "all looked at, and the last node answered the first, {answers:.0} ms later"
    ));

    let start = Instant::now();
    let down = timed(world.command().args(["down", "bench"]));
    all_namespaces_are_gone(world);
    world::until("no process of the lab is left", || world.processes().is_empty());
    let gone = milliseconds(start.elapsed());
    let links = world.json("ip -j link show");
    assert_eq!(links.as_array().map(Vec::len), Some(1), "{backend} left links: {links}");
    Ok(Answer { figures: vec![up, down, gone], said })
}

/// Runs `ovsns up` for the lab `bench`; returns what it says of the backend.
pub(crate) fn up(world: &World, backend: &str, topology: &str) -> Result<Vec<String>, Without> {
    let mut up = world.command();
    up.args(["up", "--lab", "bench", "--topo", topology, "--backend", backend]);
    let output = up.stdin(Stdio::null()).output().expect("ovsns");
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => {}
        // Bad input, nothing touched: this version cannot do it, or not here.
        Some(2) => return Err(Without::Refused(refusal(&said))),
        _ => return Err(Without::Failed(format!("{up:?}: {}\n{said}", output.status))),
    }
    Ok(said.lines().filter(|line| line.starts_with("backend")).map(str::to_owned).collect())
}

/// The first reason of a refusal: a large lab has one for each switch.
fn refusal(said: &str) -> String {
    let mut lines = said.lines();
    let error = lines.next().unwrap_or("no reason given");
    match lines.next() {
        Some(reason) => format!("{error}: {}", reason.trim()),
        None => error.to_owned(),
    }
}

/// Whoever is fast must also be right: every node has its link, and the last
/// answers the first in both families.
fn the_lab_is_there(world: &World, shape: Shape) {
    let count = usize::try_from(shape.nodes()).expect("a few nodes");
    assert_eq!(world.namespaces().len(), count, "namespaces");
    let veths = world.json("ip -j link show type veth");
    assert!(count <= veths.as_array().map_or(0, Vec::len), "links of nodes: {veths}");
    let last = format!("bench.h{count}");
    let addresses = world.addresses(&last, "eth0");
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for address in addresses {
        let to = address.split('/').next().expect("an address");
        let start = Instant::now();
        while !world.ping_once("bench.h1", to).status.success() {
            assert!(start.elapsed() < ANSWERS_WITHIN, "h{count} never answers h1 at {to}");
        }
    }
}
