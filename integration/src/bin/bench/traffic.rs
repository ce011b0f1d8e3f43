//! What passes between two nodes, and how soon: on each backend and datapath,
//! beside two namespaces that a veth joins with nothing in between.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use serde_json::Value;
use world::World;

use crate::measure::{Answer, Spread, Without, ask};
use crate::{open_vswitch, shapes};

/// First arguments of this program as one of the two ends of [`round_trips`].
pub(crate) const PING: &str = "--ping";
pub(crate) const PONG: &str = "--pong";

const SECONDS: u32 = 2;
const ROUND_TRIPS: usize = 2000;
/// Before the first that counts: neighbours, flows and caches are made.
const WARMING_UP: usize = 100;

/// What is between the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Between {
    /// Nothing.
    Veth,
    /// A Linux bridge.
    Linux,
    /// The Open vSwitch that ovsns starts.
    Own,
    /// An Open vSwitch that was there before, as the distribution starts it.
    System,
}

impl Between {
    const ALL: [Self; 4] = [Self::Veth, Self::Linux, Self::Own, Self::System];

    fn name(self) -> &'static str {
        match self {
            Self::Veth => "bare veth",
            Self::Linux => "linux",
            Self::Own => "ovs, our own",
            Self::System => "ovs, the system's",
        }
    }
}

// ---- on the machine: rounds and the table ----

/// Prints the table; returns whether nobody failed.
pub(crate) fn compare(rounds: usize) -> bool {
    println!(
        "\nBetween two nodes, {rounds} rounds of {SECONDS} s of TCP, then {ROUND_TRIPS} round \
         trips of 64 bytes over UDP"
    );
    let mut answers: BTreeMap<Between, Vec<Answer>> = BTreeMap::new();
    let mut without: BTreeMap<Between, Without> = BTreeMap::new();
    for round in 0..rounds {
        for turn in 0..Between::ALL.len() {
            let between = Between::ALL[(round + turn) % Between::ALL.len()];
            if without.contains_key(&between) {
                continue;
            }
            match ask(&format!("traffic {between:?}")) {
                Ok(answer) => answers.entry(between).or_default().push(answer),
                Err(why) => drop(without.insert(between, why)),
            }
        }
    }
    println!(
        "{:18}  {:>22}   /veth  {:>24}   /veth  {:>14}",
        "", "TCP Gbit/s", "round trip us", "99th of 100 us"
    );
    let of = |between: Between, at: usize| -> Spread {
        answers.get(&between).into_iter().flatten().map(|answer| answer.figures[at]).collect()
    };
    for between in Between::ALL {
        if let Some(why) = without.get(&between) {
            println!("{:18}  {why}", between.name());
            continue;
        }
        let (rate, trip) = (of(between, 0), of(between, 1));
        println!(
            "{:18}  {:>22}  {:>6.2}  {:>24}  {:>6.2}  {:>14.0}",
            between.name(),
            rate.shown(2),
            rate.median() / of(Between::Veth, 0).median(),
            trip.shown(1),
            trip.median() / of(Between::Veth, 1).median(),
            of(between, 2).median(),
        );
        let said = answers.get(&between).and_then(|them| them.first()).map(|it| &it.said);
        said.into_iter().flatten().for_each(|line| println!("{:20}{line}", ""));
    }
    !without.values().any(|why| matches!(why, Without::Failed(_)))
}

// ---- in a world ----

/// Gbit/s, and the median and the 99th of 100 of the round trips in us.
pub(crate) fn run(world: &World, words: &[&str]) -> Result<Answer, Without> {
    let [word] = words else { panic!("what is between, not {words:?}") };
    let between = Between::ALL.into_iter().find(|it| format!("{it:?}") == *word);
    world.needs("iperf3").map_err(|skip| Without::Refused(skip.0))?;
    let mut said = match between.expect("something known") {
        Between::Veth => {
            veth(world);
            Vec::new()
        }
        Between::Linux => shapes::up(world, "linux", "single,2")?,
        Between::Own => shapes::up(world, "ovs", "single,2")?,
        Between::System => {
            open_vswitch::start(world)?;
            shapes::up(world, "ovs", "single,2")?
        }
    };
    if world.needs("ethtool").is_ok() {
        said.push(offload(world));
    }
    let addresses = world.addresses("bench.h2", "eth0");
    let address = addresses.iter().find(|it| it.contains('.')).expect("an IPv4 address");
    let to = address.split('/').next().expect("an address");
    let rate = tcp(world, to)?;
    let trips = round_trips(world, to)?;
    Ok(Answer { figures: vec![rate, trips.median(), trips.percentile_99()], said })
}

/// `h1 -- h2`
fn veth(world: &World) {
    world.sh("
        ip netns add bench.h1
        ip netns add bench.h2
        ip link add eth0 netns bench.h1 type veth peer name eth0 netns bench.h2
        for number in 1 2; do
            ip -n bench.h$number address add 10.0.0.$number/16 dev eth0
            ip -n bench.h$number link set eth0 up
        done
    ");
}

/// Whether the nodes leave checksums to others, which is half of the story.
fn offload(world: &World) -> String {
    let features = world.run("ip netns exec bench.h2 ethtool -k eth0").stdout;
    let found = features.lines().find(|line| line.starts_with("tx-checksumming"));
    format!("in the nodes: {}", found.unwrap_or("ethtool names no tx-checksumming"))
}

fn tcp(world: &World, to: &str) -> Result<f64, Without> {
    let mut server = world.start("ip netns exec bench.h2 iperf3 -s -1 --forceflush");
    server.line_with("Server listening");
    let client = world.attempt(&format!(
        "ip netns exec bench.h1 iperf3 -c {to} -t {SECONDS} -J --connect-timeout 5000"
    ));
    let report: Value = serde_json::from_str(&client.stdout).unwrap_or_default();
    match report["end"]["sum_received"]["bits_per_second"].as_f64() {
        Some(bits) if client.status.success() => Ok(bits / 1e9),
        _ => Err(Without::Failed(format!("no TCP to {to}: {}", report["error"]))),
    }
}

fn round_trips(world: &World, to: &str) -> Result<Spread, Without> {
    let here = std::env::current_exe().expect("the path of this program");
    let at = format!("{to}:7");
    let end = |node: &str, flag: &str| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", node]).arg(&here).args([flag, &at]);
        command
    };
    let mut pong = world.start_command(&mut end("bench.h2", PONG));
    pong.line_with("ready");
    let output = end("bench.h1", PING).output().expect("this program again");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Without::Failed(format!("no UDP to {to}: {said}")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(|line| line.parse::<f64>().expect("a figure")).collect())
}

// ---- in a node ----

/// Is one end, at the address or towards it.
pub(crate) fn end(flag: &str, address: &str) -> ExitCode {
    let address = address.parse().expect("an address with a port");
    let ended = if flag == PING { ping(address) } else { pong(address) };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("{cause}");
            ExitCode::FAILURE
        }
    }
}

/// Sends back what it hears, until it is ended.
fn pong(at: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    println!("ready");
    let mut datagram = [0; 64];
    loop {
        let (bytes, from) = socket.recv_from(&mut datagram)?;
        socket.send_to(&datagram[..bytes], from)?;
    }
}

/// Prints the microseconds of each round trip.
fn ping(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut trips = Vec::with_capacity(ROUND_TRIPS);
    for number in 0..WARMING_UP + ROUND_TRIPS {
        let start = Instant::now();
        socket.send(&[0; 64])?;
        socket.recv(&mut [0; 64])?;
        if WARMING_UP <= number {
            trips.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    trips.iter().for_each(|trip| println!("{trip:.2}"));
    Ok(())
}
