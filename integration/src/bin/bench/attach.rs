//! A NIC shared into a switch and taken back: what that costs those who talk to
//! the host meanwhile. By ovsns, by the sequence that a careful engineer would
//! type, and in the orders of steps of other tools.
//!
//! What else a machine does is no concern of theirs, and on a busy one it is
//! most of what is seen: a switch in userspace forwards when it gets a turn. So
//! those who talk, and the switches, run at real-time priority, and beside the
//! figures stands what the same connections see of a NIC that is attached and
//! left alone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use world::World;
use world::lan::{ADDRESSES, MAC, Toll};

use crate::measure::{Answer, Spread, Without, ask};
use crate::open_vswitch;

/// No line of a TCP connection takes longer.
const GAP_GOAL_MS: f64 = 10.0;

/// Who shares the NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Ovsns,
    /// Nobody: it is attached before anybody looks, and left alone.
    Nobody,
    /// Addresses and neighbours first at the bridge, then the port, then all
    /// routes at once, then the addresses off the NIC.
    Careful,
    /// Port, then each address off and on, then the default routes.
    OvnKubernetes,
    /// Addresses and default routes, then the port.
    KubeOvn,
    /// The NIC down, renamed and up again; the bridge takes its name.
    Antrea,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Ovsns,
        Self::Nobody,
        Self::Careful,
        Self::OvnKubernetes,
        Self::KubeOvn,
        Self::Antrea,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Ovsns => "ovsns",
            Self::Nobody => "nobody",
            Self::Careful => "careful",
            Self::OvnKubernetes => "ovn-k",
            Self::KubeOvn => "kube-ovn",
            Self::Antrea => "antrea",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ovsns => "ovsns",
            Self::Nobody => "left alone",
            Self::Careful => "careful, by hand",
            Self::OvnKubernetes => "as ovn-kubernetes",
            Self::KubeOvn => "as kube-ovn",
            Self::Antrea => "as antrea",
        }
    }

    /// How often it runs: what other tools' orders cost shows in a few runs.
    fn rounds(self, all: usize) -> usize {
        match self {
            Self::Ovsns | Self::Nobody | Self::Careful => all,
            Self::OvnKubernetes | Self::KubeOvn | Self::Antrea => all.div_ceil(4),
        }
    }
}

/// Into what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    Linux,
    /// An Open vSwitch that was there before, as the distribution starts it.
    System,
    /// The Open vSwitch that ovsns starts.
    Own,
}

impl Switch {
    const ALL: [Self; 3] = [Self::Linux, Self::System, Self::Own];

    fn word(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::System => "system",
            Self::Own => "own",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Linux => "Linux bridge",
            Self::System => "Open vSwitch",
            Self::Own => "Open vSwitch, our own",
        }
    }

    /// Nobody else has an Open vSwitch of ours.
    fn takes(self, way: Way) -> bool {
        self != Self::Own || matches!(way, Way::Ovsns | Way::Nobody)
    }
}

// ---- on the machine ----

/// Prints a table for each switch; returns whether nobody failed.
pub(crate) fn compare(rounds: usize, ordinary: bool) -> bool {
    let (built, priority) = (
        if cfg!(debug_assertions) { "without optimisation" } else { "with optimisation" },
        if ordinary { "ordinary" } else { "real-time" },
    );
    println!(
        "\nA NIC attached and detached, {rounds} rounds, {priority} priority, built {built}; load \
         {} before.\nThe longest that a line over TCP took (one every 5 ms on four connections), \
         pings lost and doubled (one every 2 ms to four addresses), neighbours that do not answer \
         right after it",
        load()
    );
    let mut well = true;
    for switch in Switch::ALL {
        let ways = Way::ALL.into_iter().filter(|way| switch.takes(*way));
        let mut runs: Vec<(Way, Vec<Answer>, Option<Without>)> =
            ways.map(|way| (way, Vec::new(), None)).collect();
        for round in 0..rounds {
            for (way, answers, without) in &mut runs {
                if without.is_none() && round < way.rounds(rounds) {
                    let how = if ordinary { "ordinary" } else { "realtime" };
                    match ask(&format!("attach {} {} {how}", way.word(), switch.word())) {
                        Ok(answer) => answers.push(answer),
                        Err(why) => *without = Some(why),
                    }
                }
            }
        }
        println!(
            "\n{:21} {:>4} {:>28} {:>20} {:>16} {:>12}",
            switch.name(),
            "runs",
            "gap, ms",
            "lost",
            "doubled",
            "silent"
        );
        for (way, answers, without) in &runs {
            well &= !matches!(without, Some(Without::Failed(_)));
            lines(*way, answers, without.as_ref()).iter().for_each(|line| println!("{line}"));
        }
    }
    println!("load {} after", load());
    well
}

/// How many processes wanted to run in the last minute.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn lines(way: Way, answers: &[Answer], without: Option<&Without>) -> Vec<String> {
    if let Some(without) = without {
        return vec![format!("{:21} {without}", way.name())];
    }
    let mut lines = Vec::new();
    for (at, verb) in ["attach", "detach"].into_iter().enumerate() {
        let of = |figure: usize| -> Spread {
            answers.iter().filter_map(|it| it.figures.get(at * FIGURES + figure).copied()).collect()
        };
        let name = if at == 0 { way.name() } else { "" };
        let verb = if way == Way::Nobody { "" } else { verb };
        let (gaps, lost, doubled, silent) = (of(0), of(1), of(2), of(3));
        if gaps.median().is_nan() {
            continue;
        }
        let mut line = format!(
            "{name:21} {:4} {verb:6} {:>21} {:>20} {:>16} {:>12}",
            answers.len(),
            gaps.shown(1),
            lost.shown(0),
            doubled.shown(0),
            silent.shown(0)
        );
        let runs = |wrong: &dyn Fn(&[f64]) -> bool| {
            answers.iter().filter(|it| wrong(&it.figures[at * FIGURES..])).count()
        };
        if matches!(way, Way::Ovsns | Way::Nobody) {
            line += &format!(
                "  {} over {GAP_GOAL_MS} ms, {} with a ping lost, {} with one doubled",
                runs(&|figures| GAP_GOAL_MS <= figures[0]),
                runs(&|figures| 0.0 < figures[1]),
                runs(&|figures| 0.0 < figures[2]),
            );
        }
        lines.push(line);
    }
    let left: Vec<&String> = answers.iter().flat_map(|it| &it.said).collect();
    if let Some(first) = left.first() {
        lines.push(format!("{:21} {} of {} runs: {first}", "", left.len(), answers.len()));
    }
    lines
}

// ---- in a world ----

/// Figures of one disturbance.
const FIGURES: usize = 4;

/// How long a connection is given that ended: longer than any that lives.
const CUT_MS: f64 = 99_999.0;

/// How long a NIC that is left alone is looked at, as long as a command takes.
const LEFT_ALONE: Duration = Duration::from_millis(300);

/// `WAY SWITCH PRIORITY`: attached and detached once.
pub(crate) fn run(world: &World, words: &[&str]) -> Result<Answer, Without> {
    let [way, switch, priority] = words else { panic!("three words, not {words:?}") };
    let way = Way::ALL.into_iter().find(|it| it.word() == *way).expect("a way");
    let switch = Switch::ALL.into_iter().find(|it| it.word() == *switch).expect("a switch");
    if *priority != "realtime" {
        return run_with(world, way, switch);
    }
    world.needs("chrt").map_err(|skip| Without::Refused(skip.0))?;
    let allowed = world.attempt("chrt --fifo 3 true");
    if !allowed.status.success() {
        let why = allowed.stderr.trim();
        return Err(Without::Refused(format!("real-time priority: {why}; try --ordinary")));
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| raise(world, &over));
        let answer = run_with(world, way, switch);
        over.store(true, Ordering::Relaxed);
        answer
    })
}

/// Has those who talk, and the switches, run before all else, as they do of
/// their own accord where a processor is free: whoever sleeps most of the time
/// gets his turn at once. Commands run as they do; in front of them would be in
/// front of the kernel's own workers, which they wait for.
fn raise(world: &World, over: &AtomicBool) {
    let mut raised = BTreeSet::new();
    while !over.load(Ordering::Relaxed) {
        for (id, line) in world.processes() {
            let switch = line.contains("ovs-vswitchd") || line.contains("ovsdb-server");
            let priority = if line.contains("--tool") { 3 } else { 2 };
            if (switch || priority == 3) && raised.insert(id) {
                world.attempt(&format!("chrt --all-tasks --fifo --pid {priority} {id}"));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn run_with(world: &World, way: Way, switch: Switch) -> Result<Answer, Without> {
    let ovs = switch != Switch::Linux;
    if switch == Switch::System {
        open_vswitch::start(world)?;
    }
    if ovs && way == Way::Careful {
        world.needs("nft").map_err(|skip| Without::Refused(skip.0))?;
    }
    world.lan().map_err(|skip| Without::Refused(skip.0))?;
    let before = network(world);
    if way == Way::Nobody {
        attach(world, Way::Ovsns, ovs)?;
        let talk = world.talk();
        std::thread::sleep(LEFT_ALONE);
        let silent = silent(world);
        return Ok(Answer { figures: figures(talk.end(), silent), said: Vec::new() });
    }

    let talk = world.talk();
    attach(world, way, ovs)?;
    let unheard = silent(world);
    let mut figures = figures(talk.end(), unheard);
    let mut said = lost_routes(world);

    // Nobody goes back but the two that know how.
    if matches!(way, Way::Ovsns | Way::Careful) {
        let talk = world.talk();
        detach(world, way, ovs);
        let unheard = silent(world);
        figures.extend(self::figures(talk.end(), unheard));
        if way == Way::Ovsns {
            let now = network(world);
            let differ: Vec<_> = now.symmetric_difference(&before).collect();
            assert!(differ.is_empty(), "the host is not as it was: {differ:#?}");
        }
    }
    said.truncate(1);
    Ok(Answer { figures, said })
}

fn figures(toll: Toll, silent: usize) -> Vec<f64> {
    let count = |number: usize| f64::from(u32::try_from(number).expect("a few thousand"));
    let gap = toll.gap_ms.unwrap_or(CUT_MS);
    vec![gap, count(toll.lost), count(toll.doubled), count(silent)]
}

/// How many neighbours were asked for and have not answered: the next question
/// is a second after the first.
fn silent(world: &World) -> usize {
    let asked = ["incomplete", "failed"].map(|state| {
        let told = world.json(&format!("ip -j neigh show nud {state}"));
        told.as_array().map_or(0, Vec::len)
    });
    asked.into_iter().sum()
}

fn attach(world: &World, way: Way, ovs: bool) -> Result<(), Without> {
    let plug = |world: &World| {
        if ovs {
            world.run("ovs-vsctl add-port br0 eth0");
        } else {
            world.run("ip link set eth0 master br0");
        }
    };
    if way == Way::Ovsns {
        let backend = if ovs { "ovs" } else { "linux" };
        let mut command = world.command();
        let output = command.args(["attach", "eth0"]).env("OVSNS_BACKEND", backend).output();
        let output = output.expect("ovsns");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return match output.status.code() {
            Some(0) => Ok(()),
            Some(2) => Err(Without::Refused(said)),
            _ => Err(Without::Failed(said)),
        };
    }
    if way == Way::Antrea {
        world.sh("ip link set eth0 down; ip link set eth0 name eth0~; ip link set eth0~ up");
        bridge(world, ovs, "eth0");
        world.sh(&batch("eth0", &["addr add", DEFAULTS]));
        if ovs {
            world.run("ovs-vsctl add-port eth0 eth0~");
        } else {
            world.run("ip link set eth0~ master eth0");
        }
        world.run("ip addr flush dev eth0~");
        return Ok(());
    }
    bridge(world, ovs, "br0");
    match way {
        Way::Careful => {
            world.sh(&(neighbours(world, "eth0", "br0") + &batch("br0", &["addr add"])));
            plug(world);
            if ovs {
                world.sh(DROP);
            }
            world.sh(&(batch("br0", &[ALL_ROUTES]) + &batch("eth0", &["addr del"])));
        }
        Way::OvnKubernetes => {
            plug(world);
            for address in ADDRESSES {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                world.run(&format!("ip addr del {address} dev eth0"));
                world.run(&format!("ip addr add {address} dev br0 {nodad}"));
            }
            world.sh(&batch("br0", &[DEFAULTS]));
        }
        Way::KubeOvn => {
            world.sh(&(batch("eth0", &["addr del"]) + &batch("br0", &["addr add", DEFAULTS])));
            plug(world);
        }
        Way::Ovsns | Way::Nobody | Way::Antrea => unreachable!("above"),
    }
    Ok(())
}

fn detach(world: &World, way: Way, ovs: bool) {
    if way == Way::Ovsns {
        let output = world.command().args(["detach", "eth0"]).output().expect("ovsns");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    if ovs {
        world.run("nft delete table netdev byhand");
    }
    world.sh(&(neighbours(world, "br0", "eth0")
        + &batch("eth0", &["addr add", ALL_ROUTES])
        + &batch("br0", &["addr del"])));
    if ovs {
        world.run("ovs-vsctl del-br br0");
    } else {
        world.sh("ip link set eth0 nomaster; ip link del br0");
    }
}

/// Without it the host answers every frame twice: it still hears the NIC
/// itself, beside what the userspace datapath hands to its local device.
const DROP: &str = "nft 'table netdev byhand { chain nic { type filter hook ingress device eth0 \
                    priority 0; drop; }; }'\n";

const DEFAULTS: &str = "
route replace default via 198.18.6.254 dev DEV
route replace default via fd00:6::fe dev DEV
";

const ALL_ROUTES: &str = "
route replace default via 198.18.6.254 dev DEV
route replace default via fd00:6::fe dev DEV
route replace default via 198.18.6.253 dev DEV table 77
route replace default via fd00:6::fd dev DEV table 77
route replace 192.0.2.0/24 nexthop via 198.18.6.252 dev DEV weight 1 nexthop via 198.18.6.254 dev DEV weight 2
";

/// A bridge with the NIC's MAC address, up.
fn bridge(world: &World, ovs: bool, name: &str) {
    if ovs {
        world.run(&format!(
            "ovs-vsctl add-br {name} -- set bridge {name} datapath_type=netdev \
             other_config:hwaddr=\"{MAC}\""
        ));
        world.run(&format!("ethtool -K {name} tx off"));
    } else {
        world.run(&format!(
            "ip link add {name} address {MAC} type bridge stp_state 0 forward_delay 0"
        ));
    }
    world.run(&format!("ip link set {name} up"));
}

/// A line of shell that has `ip` do all of it at once. A part is a verb for
/// each of the addresses, or lines with DEV for the device.
fn batch(device: &str, parts: &[&str]) -> String {
    let mut lines = String::new();
    for part in parts {
        if part.contains('\n') {
            lines += part.replace("DEV", device).trim_start();
            continue;
        }
        for address in ADDRESSES {
            let nodad = if address.contains(':') && *part == "addr add" { " nodad" } else { "" };
            lines += &format!("{part} {address} dev {device}{nodad}\n");
        }
    }
    format!("ip -batch - <<'END'\n{lines}END\n")
}

/// A line of shell that has one device know the neighbours of another.
fn neighbours(world: &World, from: &str, to: &str) -> String {
    let known = world.json(&format!("ip -j neigh show dev {from}"));
    let mut lines = String::new();
    for neighbour in known.as_array().into_iter().flatten() {
        if let (Some(at), Some(mac)) = (neighbour["dst"].as_str(), neighbour["lladdr"].as_str()) {
            let permanent = neighbour["state"][0] == "PERMANENT";
            let state = if permanent { "permanent" } else { "reachable" };
            lines += &format!("neigh replace {at} lladdr {mac} dev {to} nud {state}\n");
        }
    }
    format!("ip -batch - <<'END'\n{lines}END\n")
}

/// What the host's network was and is no more: routes of tables that few look
/// at, in the words of `ip`.
fn lost_routes(world: &World) -> Vec<String> {
    let mut lost = Vec::new();
    for (what, command) in [
        ("the IPv4 default route of table 77", "ip -j -4 route show table 77"),
        ("the IPv6 default route of table 77", "ip -j -6 route show table 77"),
        ("the route of two ways", "ip -j route show 192.0.2.0/24"),
    ] {
        if world.attempt(command).stdout.trim().trim_matches(['[', ']']).trim().is_empty() {
            lost.push(what.to_owned());
        }
    }
    if lost.is_empty() { lost } else { vec![format!("lost {}", lost.join(", "))] }
}

/// Addresses, routes of all tables, rules, and neighbours that stay, each in
/// words.
fn network(world: &World) -> BTreeSet<String> {
    let all = [
        "ip -j addr show dev eth0",
        "ip -j -4 route show table all",
        "ip -j -6 route show table all",
        "ip -j -4 rule show",
        "ip -j -6 rule show",
        "ip -j neigh show nud permanent",
    ];
    let mut seen = BTreeSet::new();
    for command in all {
        let mut told = world.json(command);
        forget_clocks(&mut told);
        let addresses = told[0]["addr_info"].as_array().cloned();
        let things = addresses.or_else(|| told.as_array().cloned()).unwrap_or_default();
        seen.extend(things.iter().map(|thing| format!("{command}: {thing}")));
    }
    seen
}

/// Takes out what counts by itself.
fn forget_clocks(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in ["expires", "used", "confirmed", "updated", "preferred_life_time"] {
                map.remove(key);
            }
            map.values_mut().for_each(forget_clocks);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_clocks),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
