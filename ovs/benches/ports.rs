//! Ports added and removed: this crate, `ovs-vsctl`, and the Python IDL.
//!
//! Like `cargo bench -p ovsns-ovsdb`. Prints medians of several runs, each on a
//! server of its own, without a switch: what is measured is the database and
//! its clients. `OVSDB_BENCH_RUNS` (5) and `OVSDB_BENCH_PORTS` (1000) set the size.

#[path = "../tests/daemons/lab.rs"]
#[allow(dead_code)]
mod lab;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lab::{Server, VSWITCH_SCHEMA, output};
use ovsdb::vswitch::{Bridge, Interface, OpenVswitch, Port};
use ovsdb::{Client, Ref, Remote, Table, Transaction, Uuid};

const PYTHON: &str = "/usr/bin/python3";
const BIG: usize = 5000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, hold, remote] = &args[..]
        && hold == "--hold"
    {
        return block(hold_replica(remote));
    }
    if args.iter().any(|arg| arg == "--list") {
        return;
    }
    for need in ["ovsdb-server", "ovsdb-tool", "ovs-vsctl", "setpriv", PYTHON, VSWITCH_SCHEMA] {
        if !lab::is_here(need) {
            println!("missing: {need}; nothing is measured");
            return;
        }
    }
    let number = |name: &str, default: usize| {
        std::env::var(name).map_or(default, |n| n.parse().expect("a number"))
    };
    let (runs, ports) = (number("OVSDB_BENCH_RUNS", 5), number("OVSDB_BENCH_PORTS", 1000));
    println!("{ports} ports, medians of {runs} runs (lowest to highest)\n");
    let one = compare_one_transaction(runs, ports);
    let each = compare_one_each(runs, ports);
    println!(
        "\nratios: all in one command, ovs-vsctl / this crate: add {:.1}, remove {:.1}",
        one.0, one.1
    );
    println!(
        "        all in one transaction, Python IDL / this crate: add {:.1}, remove {:.1}",
        one.2, one.3
    );
    println!(
        "        one by one, ovs-vsctl / this crate: {:.1}; Python IDL / this crate: {:.1}",
        each.0, each.1
    );
    big_transaction(runs);
    memory(runs);
}

fn block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// A server with a bridge.
fn server() -> Server {
    let server = Server::vswitch();
    server.vsctl(&["add-br", "br0"]);
    server
}

/// The median of `runs` measurements of `what`, printed with its spread.
fn median(what: &str, runs: usize, mut measure: impl FnMut() -> f64) -> f64 {
    let mut seconds: Vec<f64> = (0..runs).map(|_| measure()).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let (low, high) = (seconds[0], seconds[seconds.len() - 1]);
    println!("{what:<58} {:>9.1} ms ({:.1} to {:.1})", median * 1e3, low * 1e3, high * 1e3);
    median
}

async fn connect(remote: Remote) -> Client {
    let client = Client::builder("Open_vSwitch").remote(remote).watch::<OpenVswitch>();
    let client = client.watch::<Bridge>().watch::<Port>().watch::<Interface>();
    client.connect().await.expect("a server")
}

fn bridge(client: &Client) -> Uuid {
    client.read(|replica| replica.find(Bridge::NAME, "br0").unwrap().unwrap().uuid)
}

fn add(change: &mut Transaction, n: usize) -> Ref<Port> {
    let name = format!("p{n}");
    let interface = Interface { name: name.clone(), kind: "internal".into(), ..Default::default() };
    let interfaces = [change.insert(&interface)].into();
    change.insert(&Port { name, interfaces, ..Default::default() })
}

fn adding(bridge: Uuid, ports: std::ops::Range<usize>) -> Transaction {
    let mut change = Transaction::new();
    let ports: Vec<_> = ports.map(|n| add(&mut change, n)).collect();
    change.add(Bridge::PORTS, bridge, ports);
    change
}

fn removing(client: &Client, bridge: Uuid) -> Transaction {
    let ports = client.read(|replica| {
        let keep = replica.find(Port::NAME, "br0").unwrap().unwrap().uuid;
        let bridge = replica.get::<Bridge>(bridge).unwrap().unwrap();
        let gone = bridge.row.ports.into_iter().filter(|port| port.as_uuid() != Some(keep));
        gone.collect::<BTreeSet<_>>()
    });
    let mut change = Transaction::new();
    change.remove(Bridge::PORTS, bridge, ports);
    change
}

fn python(server: &Server, verb: &str, n: usize) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/idl.py");
    let (script, remote) = (script.display().to_string(), server.remote().to_string());
    output(PYTHON, &[&script, &remote, VSWITCH_SCHEMA, verb, &n.to_string()]).parse().unwrap()
}

/// One `ovs-vsctl` for all ports, through a relay that counts.
fn vsctl(remote: &Remote, verb: &str, ports: std::ops::Range<usize>) -> f64 {
    let start = Instant::now();
    let mut command = Command::new("ovs-vsctl");
    command.args(["--no-wait", &format!("--db={remote}")]);
    for n in ports {
        match verb {
            "add" => command.args([
                "--",
                "add-port",
                "br0",
                &format!("p{n}"),
                "--",
                "set",
                "interface",
                &format!("p{n}"),
                "type=internal",
            ]),
            _ => command.args(["--", "del-port", "br0", &format!("p{n}")]),
        };
    }
    assert!(command.status().expect("ovs-vsctl").success());
    start.elapsed().as_secs_f64()
}

fn compare_one_transaction(runs: usize, ports: usize) -> (f64, f64, f64, f64) {
    println!("all at once (ovs-vsctl includes its start, as it must; the others do not)");
    let mut removals = Vec::new();
    let ours = median("  this crate: add, one transaction", runs, || {
        let server = server();
        block(async {
            let client = connect(server.remote()).await;
            let start = Instant::now();
            let change = adding(bridge(&client), 0..ports);
            client.transact(&change).await.unwrap();
            let seconds = start.elapsed().as_secs_f64();
            let start = Instant::now();
            client.transact(&removing(&client, bridge(&client))).await.unwrap();
            removals.push(start.elapsed().as_secs_f64());
            seconds
        })
    });
    let mut removals = removals.into_iter();
    let ours_removed =
        median("  this crate: remove, one transaction", runs, || removals.next().unwrap());
    let mut removals = Vec::new();
    let theirs = median("  ovs-vsctl: add, one command", runs, || {
        let server = server();
        let seconds = vsctl(&server.remote(), "add", 0..ports);
        removals.push(vsctl(&server.remote(), "del", 0..ports));
        seconds
    });
    let mut removals = removals.into_iter();
    let theirs_removed =
        median("  ovs-vsctl: remove, one command", runs, || removals.next().unwrap());
    let mut removals = Vec::new();
    let idl = median("  Python IDL: add, one transaction", runs, || {
        let server = server();
        let seconds = python(&server, "add-all", ports);
        removals.push(python(&server, "del-all", ports));
        seconds
    });
    let mut removals = removals.into_iter();
    let idl_removed =
        median("  Python IDL: remove, one transaction", runs, || removals.next().unwrap());

    let bytes = |work: &dyn Fn(&Remote)| {
        let server = server();
        let relay = Relay::start(&server.path("db.sock"), server.path("relay.sock"));
        work(&relay.remote);
        relay.counted()
    };
    let crate_bytes = bytes(&|remote| {
        block(async {
            let client = connect(remote.clone()).await;
            let change = adding(bridge(&client), 0..ports);
            client.transact(&change).await.unwrap();
            println!("  (traffic() of the client: {:?})", client.traffic());
        });
    });
    let vsctl_bytes = bytes(&|remote| _ = vsctl(remote, "add", 0..ports));
    println!("  bytes for the addition, to and from the server, connecting included:");
    println!(
        "    this crate {} and {}; ovs-vsctl {} and {}",
        crate_bytes.0, crate_bytes.1, vsctl_bytes.0, vsctl_bytes.1
    );
    (theirs / ours, theirs_removed / ours_removed, idl / ours, idl_removed / ours_removed)
}

fn compare_one_each(runs: usize, ports: usize) -> (f64, f64) {
    println!("\none transaction a port");
    let per_second = |seconds: f64| ports as f64 / seconds;
    let ours = median("  this crate: one after another", runs, || {
        let server = server();
        block(async {
            let client = connect(server.remote()).await;
            let bridge = bridge(&client);
            let start = Instant::now();
            for n in 0..ports {
                client.transact(&adding(bridge, n..n + 1)).await.unwrap();
            }
            start.elapsed().as_secs_f64()
        })
    });
    let pipelined = median("  this crate: all under way at the same time", runs, || {
        let server = server();
        block(async {
            let client = connect(server.remote()).await;
            let bridge = bridge(&client);
            let start = Instant::now();
            let mut calls = tokio::task::JoinSet::new();
            for n in 0..ports {
                let client = client.clone();
                calls.spawn(async move { client.transact(&adding(bridge, n..n + 1)).await });
            }
            assert!(calls.join_all().await.iter().all(Result::is_ok));
            start.elapsed().as_secs_f64()
        })
    });
    let idl =
        median("  Python IDL: one after another", runs, || python(&server(), "add-each", ports));
    let theirs = median("  ovs-vsctl: one process a port", runs.min(3), || {
        let server = server();
        (0..ports).map(|n| vsctl(&server.remote(), "add", n..n + 1)).sum()
    });
    println!(
        "  transactions a second: this crate {:.0} and {:.0}, Python IDL {:.0}, ovs-vsctl {:.0}",
        per_second(ours),
        per_second(pipelined),
        per_second(idl),
        per_second(theirs)
    );
    (theirs / ours, idl / ours)
}

/// The time that each side has spent on a processor, from its `/proc/PID/stat`.
fn processor_time(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    // USER_HZ is 100 on Linux.
    Duration::from_millis(ticks * 10)
}

fn big_transaction(runs: usize) {
    println!("\n{BIG} ports in one transaction");
    let mut sides = Vec::new();
    median("  this crate: from nothing to the reply", runs, || {
        let server = server();
        block(async {
            let client = connect(server.remote()).await;
            let pid = server.pid().to_string();
            let before = (processor_time("self"), processor_time(&pid));
            let start = Instant::now();
            let change = adding(bridge(&client), 0..BIG);
            client.transact(&change).await.unwrap();
            let seconds = start.elapsed().as_secs_f64();
            assert_eq!(client.read(|replica| replica.count(Port::TABLE)), Ok(BIG + 1));
            sides.push((processor_time("self") - before.0, processor_time(&pid) - before.1));
            seconds
        })
    });
    sides.sort();
    let (ours, _) = sides[sides.len() / 2];
    sides.sort_by_key(|side| side.1);
    let (_, theirs) = sides[sides.len() / 2];
    println!("  of it on a processor, medians: the client {ours:?}, the server {theirs:?}");
}

fn memory(runs: usize) {
    println!(
        "\nmemory of a replica with {BIG} ports (resident, after less before), medians of {runs}"
    );
    let server = server();
    block(async {
        let client = connect(server.remote()).await;
        client.transact(&adding(bridge(&client), 0..BIG)).await.unwrap();
    });
    let own = std::env::current_exe().expect("a program").display().to_string();
    let middle = |mut kb: Vec<f64>| {
        kb.sort_by(f64::total_cmp);
        kb[kb.len() / 2] / 1024.0
    };
    let ours =
        (0..runs).map(|_| output(&own, &["--hold", &server.remote().to_string()]).parse().unwrap());
    let theirs = (0..runs).map(|_| python(&server, "hold", BIG));
    let (ours, theirs) = (middle(ours.collect()), middle(theirs.collect()));
    println!("  this crate {ours:.1} MiB, Python IDL {theirs:.1} MiB");
}

async fn hold_replica(remote: &str) {
    let resident = || -> i64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = resident();
    let client = connect(remote.parse().unwrap()).await;
    assert_eq!(client.read(|replica| replica.count(Port::TABLE)), Ok(BIG + 1));
    println!("{}", resident() - before);
}

/// A socket that leads to another and counts what goes each way.
struct Relay {
    remote: Remote,
    there: Arc<AtomicU64>,
    back: Arc<AtomicU64>,
}

impl Relay {
    fn start(server: &Path, socket: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).expect("a socket");
        let (there, back): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let (server, counters) = (server.to_owned(), (there.clone(), back.clone()));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&server)) else {
                    return;
                };
                pump(client.try_clone().unwrap(), server.try_clone().unwrap(), counters.0.clone());
                pump(server, client, counters.1.clone());
            }
        });
        Self { remote: Remote::unix(socket), there, back }
    }

    fn counted(&self) -> (u64, u64) {
        (self.there.load(Relaxed), self.back.load(Relaxed))
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream, counter: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            counter.fetch_add(bytes as u64, Relaxed);
            if to.write_all(&buffer[..bytes]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
