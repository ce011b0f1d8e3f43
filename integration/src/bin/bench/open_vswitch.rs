//! An Open vSwitch as the distribution would run it, and its database spoken
//! to by hand: the floor under every `up` on Open vSwitch.
//!
//! The rows are written here once more, without the client in `ovs/`: what a
//! floor costs must not depend on code of ours.

use std::fs;
use std::io::{BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Deserializer, StreamDeserializer, Value, json};
use world::World;

use crate::measure::{Answer, Without, milliseconds, timed};
use crate::shapes::Shape;

/// Where the distribution's Open vSwitch has its sockets. `/run` is private.
const RUNDIR: &str = "/run/openvswitch";
/// The switch applies no change slower than this.
const APPLIED_WITHIN: Duration = Duration::from_secs(120);

/// Starts the daemons where every tool looks for them, with nothing in the
/// database; awaits that the switch runs. They end with the world.
pub(crate) fn start(world: &World) -> Result<(), Without> {
    for program in ["ovsdb-server", "ovs-vswitchd"] {
        world.needs(program).map_err(|skip| Without::Refused(skip.0))?;
    }
    fs::create_dir_all(RUNDIR).expect("a directory below /run");
    let schema = "/usr/share/openvswitch/vswitch.ovsschema";
    let (database, socket) = (format!("{RUNDIR}/conf.db"), format!("{RUNDIR}/db.sock"));
    world.run(&format!("ovsdb-tool create {database} {schema}"));
    let common = "--detach --no-chdir --pidfile -vconsole:off -vsyslog:off";
    detached(
        world,
        &format!(
            "ovsdb-server {database} --remote=punix:{socket} --log-file={RUNDIR}/db.log {common}"
        ),
    );
    world.run("ovs-vsctl --no-wait init");
    detached(world, &format!("ovs-vswitchd unix:{socket} --log-file={RUNDIR}/switch.log {common}"));
    // Without `--no-wait` it returns when the switch has taken its first change.
    world.run("ovs-vsctl --timeout=30 set Open_vSwitch . external_ids:bench=idle");
    Ok(())
}

/// A daemon keeps what it was given for output, so a pipe would not end.
fn detached(world: &World, command: &str) {
    world.sh(&format!("{command} >/dev/null 2>&1"));
}

/// What the switch itself needs for the rows of a shape, in milliseconds:
/// bridges, node ports, patch ports, and all of them removed.
pub(crate) fn floor(world: &World, shape: Shape) -> Result<Answer, Without> {
    start(world)?;
    let mut database = Database::open();
    // A floor is quiet: nobody asks for neighbours on these links.
    world.sh("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    world.file("veths", &veths(shape.nodes()));
    timed(Command::new("ip").args(["-batch", "veths"]));

    let bridges = database.apply(bridges(shape));
    let ports = database.apply(node_ports(shape));
    // No links between switches, no time for them.
    let patches = patch_ports(shape);
    let patches = if patches.is_empty() { 0.0 } else { database.apply(patches) };
    database.every_interface_has_its_port();
    let none = json!({"bridges": ["set", []]});
    let removed =
        database.apply(vec![json!({"op": "update", "table": ROOT, "where": [], "row": none})]);
    Ok(Answer { figures: vec![bridges, ports, patches, removed], said: Vec::new() })
}

fn veths(count: u32) -> String {
    let lines = (1..=count).map(|number| {
        format!(
            "link add v{number} type veth peer name w{number}\n\
             link set v{number} up\nlink set w{number} up\n"
        )
    });
    lines.collect()
}

// ---- rows ----

const ROOT: &str = "Open_vSwitch";

fn bridges(shape: Shape) -> Vec<Value> {
    let mut operations = Vec::new();
    let mut added = Vec::new();
    for number in 1..=shape.switches() {
        let name = format!("s{number}");
        let port = port(&mut operations, &name, json!({"type": "internal"}));
        let row = json!({
            "name": name, "datapath_type": "netdev", "fail_mode": "standalone", "ports": port,
        });
        added.push(insert(&mut operations, "Bridge", row));
    }
    operations.push(json!({
        "op": "mutate", "table": ROOT, "where": [],
        "mutations": [["bridges", "insert", ["set", added]]],
    }));
    operations
}

fn node_ports(shape: Shape) -> Vec<Value> {
    let mut operations = Vec::new();
    for number in 1..=shape.nodes() {
        let switch = if shape.switches() == 1 { 1 } else { number };
        let port = port(&mut operations, &format!("v{number}"), json!({}));
        operations.push(plug(switch, &port));
    }
    operations
}

/// Both ends of the link between each switch and the next.
fn patch_ports(shape: Shape) -> Vec<Value> {
    let mut operations = Vec::new();
    for number in 1..shape.switches() {
        let next = number + 1;
        for (from, to) in [(number, next), (next, number)] {
            let options = json!(["map", [["peer", format!("s{to}-s{from}")]]]);
            let interface = json!({"type": "patch", "options": options});
            let port = port(&mut operations, &format!("s{from}-s{to}"), interface);
            operations.push(plug(from, &port));
        }
    }
    operations
}

/// Adds the rows of a port; returns what stands for it in the transaction.
fn port(operations: &mut Vec<Value>, name: &str, mut interface: Value) -> Value {
    interface["name"] = json!(name);
    let interface = insert(operations, "Interface", interface);
    insert(operations, "Port", json!({"name": name, "interfaces": interface}))
}

fn insert(operations: &mut Vec<Value>, table: &str, row: Value) -> Value {
    let name = format!("row{}", operations.len());
    operations.push(json!({"op": "insert", "table": table, "uuid-name": name, "row": row}));
    json!(["named-uuid", name])
}

fn plug(switch: u32, port: &Value) -> Value {
    json!({
        "op": "mutate", "table": "Bridge", "where": [["name", "==", format!("s{switch}")]],
        "mutations": [["ports", "insert", ["set", [port]]]],
    })
}

// ---- the database, as RFC 7047 has it ----

/// A connection on which one question is asked at a time.
struct Database {
    stream: UnixStream,
    answers: StreamDeserializer<'static, serde_json::de::IoRead<BufReader<UnixStream>>, Value>,
}

impl Database {
    fn open() -> Self {
        let stream = UnixStream::connect(format!("{RUNDIR}/db.sock")).expect("a server");
        let within = Some(APPLIED_WITHIN + Duration::from_secs(1));
        stream.set_read_timeout(within).expect("a deadline");
        let reader = BufReader::new(stream.try_clone().expect("the same socket"));
        Self { stream, answers: Deserializer::from_reader(reader).into_iter() }
    }

    /// One transaction; returns the result of each operation.
    fn transact(&mut self, operations: Vec<Value>) -> Vec<Value> {
        let count = operations.len();
        let mut params = vec![json!(ROOT)];
        params.extend(operations);
        let question = json!({"id": 0, "method": "transact", "params": params});
        self.stream.write_all(question.to_string().as_bytes()).expect("a server that reads");
        let answer = self.answers.next().expect("a server that stays").expect("an answer in time");
        let results = answer["result"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
        // A failure of the whole is one element more.
        let failed = results.iter().find(|it| it.get("error").is_some());
        assert!(failed.is_none() && results.len() == count, "{failed:?}");
        results
    }

    /// Commits and awaits that the switch has applied it; returns milliseconds.
    fn apply(&mut self, mut operations: Vec<Value>) -> f64 {
        let start = Instant::now();
        operations.push(json!({
            "op": "mutate", "table": ROOT, "where": [], "mutations": [["next_cfg", "+=", 1]],
        }));
        operations.push(json!({
            "op": "select", "table": ROOT, "where": [], "columns": ["next_cfg"],
        }));
        let results = self.transact(operations);
        let wanted = &results.last().expect("the select's")["rows"][0]["next_cfg"];
        self.transact(vec![json!({
            "op": "wait", "table": ROOT, "where": [], "columns": ["cur_cfg"], "until": "==",
            "rows": [{"cur_cfg": wanted}],
            "timeout": u64::try_from(APPLIED_WITHIN.as_millis()).expect("minutes"),
        })]);
        milliseconds(start.elapsed())
    }

    /// Applied is not the same as done: a port may have been refused.
    fn every_interface_has_its_port(&mut self) {
        let results = self.transact(vec![json!({
            "op": "select", "table": "Interface", "where": [],
            "columns": ["name", "ofport", "error"],
        })]);
        let rows = results[0]["rows"].as_array().expect("rows");
        let without = rows.iter().find(|row| row["ofport"].as_i64().is_none_or(|it| it < 1));
        assert_eq!(without, None, "an interface without a port");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
