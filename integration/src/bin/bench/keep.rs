//! Keeping: how long it takes from a fault until pings pass again, where
//! `ovsns serve --keep` mends it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use world::{World, until};

use crate::measure::{Answer, Spread, ask};

/// Between two pings.
const EVERY: f64 = 0.002;

/// No answer for so long is a fault that was felt, in seconds.
const GAP: f64 = 0.010;

/// What is broken, on what.
const FAULTS: [(&str, &str); 9] = [
    ("linux", "veth"),
    ("linux", "namespace"),
    ("linux", "address"),
    ("linux", "switch"),
    ("ovs", "veth"),
    ("ovs", "namespace"),
    ("ovs", "address"),
    ("ovs", "port"),
    ("ovs", "vswitchd"),
];

const LAB: &str = "
name: keep
switches: { s1: { device: br-keep } }
nodes:
  b: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  c: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
links:
  - endpoints: [b, s1]
  - endpoints: [c, s1]
";

// ---- on the machine ----

/// Prints the table; returns whether nobody failed.
pub(crate) fn compare_all(faults: usize) -> bool {
    println!("\nFrom a fault to the first ping that passes, with `serve --keep`, {faults} of each");
    println!("{:<8}{:<12}{:>10}{:>10}", "", "", "median", "worst");
    let mut well = true;
    for (backend, fault) in FAULTS {
        match ask(&format!("keep {backend} {fault} {faults}")) {
            Ok(answer) => {
                let all = answer.figures;
                let median = all.iter().copied().collect::<Spread>().median();
                let worst = all.iter().copied().fold(0.0, f64::max);
                println!("{backend:<8}{fault:<12}{median:>10.0}{worst:>10.0}");
            }
            Err(without) => {
                println!("{backend:<8}{fault:<12}{without}");
                well = false;
            }
        }
    }
    well
}

// ---- in a world ----

/// `BACKEND FAULT COUNT`: milliseconds from each fault to the first ping that passes.
pub(crate) fn run(world: &World, words: &[&str]) -> Answer {
    let [backend, fault, count] = words else { panic!("a backend, a fault, a count: {words:?}") };
    world.file("keep.yaml", LAB);
    let mut server = Command::new(world.binary());
    let server = world.start_command(server.args(["serve", "--keep"]));
    until("the server takes clients", || {
        std::os::unix::net::UnixStream::connect("/run/ovsns/ovsns.sock").is_ok()
    });
    world.ovsns(&format!("up keep.yaml --backend {backend}")).ok();
    let mut pings = Pings::from_c();
    let count = count.parse().expect("a number");
    let figures: Vec<f64> = (0..count)
        .map(|_| {
            until("it is whole", || {
                let status = world.ovsns("status keep --json");
                status.status.success() && status.json()["state"] == "up"
            });
            pings.pass();
            // What is broken again within a second is taken for a quarrel.
            std::thread::sleep(Duration::from_millis(1200));
            let start = now();
            break_it(world, fault);
            pings.back(start)
        })
        .collect();
    drop(pings);
    world.ovsns("down keep").ok();
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.finish().ok();
    Answer { figures, said: Vec::new() }
}

fn break_it(world: &World, fault: &str) {
    match fault {
        "veth" => drop(world.run("ip -n keep.b link del eth0")),
        "namespace" => drop(world.run("ip netns del keep.b")),
        "address" => drop(world.run("ip -n keep.b addr del 10.0.0.2/24 dev eth0")),
        "switch" => drop(world.run("ip link del br-keep")),
        "port" => {
            let ports = world.ovsns("status keep --json").ok().json();
            let ports = ports["switches"][0]["ports"].as_array().cloned().expect("ports");
            let port = ports.iter().find(|port| port["across"] == "b:eth0").expect("a port");
            let device = port["device"].as_str().expect("a name");
            let database = "--db=unix:/run/ovsns/ovs/db.sock";
            world.run(&format!("ovs-vsctl {database} --no-wait del-port {device}"));
        }
        "vswitchd" => {
            let all = world.processes();
            let it = all.iter().find(|(_, line)| line.contains("ovs-vswitchd"));
            let pid = i32::try_from(it.expect("a switch").0).expect("a pid");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL)
                .expect("it runs");
        }
        other => panic!("no fault is called {other}"),
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// Pings from c to b, and when each answer came.
struct Pings {
    child: Child,
    answers: Receiver<f64>,
}

impl Drop for Pings {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pings {
    fn from_c() -> Self {
        let mut child = Command::new("ip")
            .args(["netns", "exec", "keep.c", "ping", "-D", "-i", &EVERY.to_string(), "10.0.0.2"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("ping");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (came, answers) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok).filter(|line| line.contains("bytes from")) {
                // `[SECONDS.MICROSECONDS] 64 bytes from ...`
                let at = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                let at = at.and_then(|(at, _)| at.parse().ok()).expect("a time");
                if came.send(at).is_err() {
                    return;
                }
            }
        });
        Self { child, answers }
    }

    fn next(&self) -> f64 {
        self.answers.recv_timeout(Duration::from_secs(60)).expect("an answer within a minute")
    }

    /// Awaits that they pass for a while.
    fn pass(&mut self) {
        let start = now();
        let (mut since, mut before) = (start, start);
        loop {
            let at = self.next();
            if at < start {
                continue;
            }
            if GAP < at - before {
                since = at;
            }
            if 0.1 < at - since {
                return;
            }
            before = at;
        }
    }

    /// Awaits that they pass again after a fault; returns how long that took, in
    /// milliseconds. What was mended before a ping was lost took no time.
    fn back(&mut self, start: f64) -> f64 {
        let mut before = start;
        loop {
            let at = self.next();
            if at < start {
                continue;
            }
            if GAP < at - before {
                return (at - start) * 1000.0;
            }
            if 2.0 < at - start {
                return 0.0;
            }
            before = at;
        }
    }
}
