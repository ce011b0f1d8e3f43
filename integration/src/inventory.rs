//! All there is in a world, written down so that two looks can be compared.
//!
//! Own file because "nothing was touched" is the promise most tests end with,
//! and it is only worth what this looks at: links with every setting, their
//! addresses, routes of all tables, rules, queueing disciplines and packet filters
//! in every named namespace, the namespaces' identities, filters of traffic control
//! in the world's own, mounts, kernel parameters, the files below `/run` and the
//! machine's names, control groups of this world, the rows of the machine's own
//! Open vSwitch, and processes of ours. Neighbours, timers and what a switch counts
//! are left out: they change by themselves. So are processes of others, which tests
//! start and end between two looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::groups;
use crate::likeness::{OF_THE_ROW, follows_from_address, less_numbers, name_rows};
use crate::private::SCRATCH;
use crate::witness::{finish, until_within};

/// One look at everything. Lines, each naming one thing in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    lines: Vec<String>,
}

/// What the kernel changes without being asked to.
const VOLATILE: [&str; 19] = [
    "expires",
    "hello_timer",
    "tcn_timer",
    "topology_change_timer",
    "gc_timer",
    "topology_change",
    "topology_change_detected",
    "message_age_timer",
    "forward_delay_timer",
    "hold_timer",
    "message_age",
    "config_pending",
    "valid_life_time",
    "preferred_life_time",
    "multicast_router",
    "refcnt",
    "handle",
    "packets",
    "bytes",
];

/// Directories that stay when they are empty, like `ip netns add`'s. The last
/// is mount(8)'s own.
const MAY_STAY_EMPTY: [&str; 4] = ["/run/netns", "/run/ovsns", "/run/ovsns/labs", "/run/mount"];

impl Inventory {
    pub(crate) fn take() -> Self {
        let mut lines = Vec::new();
        let _ = carried_out();
        network(&mut lines, "");
        for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let inode = entry.metadata().map(|it| format!("{}:{}", it.dev(), it.ino()));
            lines.push(format!("namespace {name} {inode:?}"));
            // An entry that is no namespace (any more) has no network in it.
            network(&mut lines, &name);
        }
        filters(&mut lines);
        mounts(&mut lines);
        files(&mut lines, Path::new("/run"));
        file(&mut lines, Path::new("/etc/hosts"));
        groups::list(&mut lines);
        processes(&mut lines);
        rows(&mut lines);
        for place in ["ipv4/conf/all", "ipv4/conf/default", "ipv6/conf/all", "ipv6/conf/default"] {
            parameters(&mut lines, &Path::new("/proc/sys/net").join(place));
        }
        parameters(&mut lines, Path::new("/proc/sys/net/ipv4"));
        parameters(&mut lines, Path::new("/proc/sys/net/bridge"));
        lines.sort();
        Self { lines }
    }

    /// The same less the numbers that things were given as they were made: what was
    /// deleted and made again is as it was. Here an Open vSwitch of our own is
    /// looked at, too.
    pub(crate) fn take_likeness() -> Self {
        let Self { lines } = Self::take();
        let is_alike = |line: &&String| !line.starts_with("row of ") && !follows_from_address(line);
        let mut lines: Vec<_> =
            lines.iter().filter(is_alike).map(|line| less_numbers(line)).collect();
        for socket in [MACHINES_DATABASE, "/run/ovsns/ovs/db.sock"] {
            alike_rows(&mut lines, socket);
        }
        lines.sort();
        Self { lines }
    }

    /// Fails the test if this look differs from that one, and says in what.
    #[track_caller]
    pub fn must_equal(&self, before: &Self) {
        let differences = self.differences(before);
        assert!(differences.is_empty(), "not as it was before:\n{differences}");
    }

    /// What is here and was not there, and the other way round; of a link
    /// that is another than it was, only in what.
    pub fn differences(&self, before: &Self) -> String {
        let mut text = String::new();
        let mut gone = self.lost(before);
        for line in before.lost(self) {
            let was = gone
                .iter()
                .position(|was| link_of(was).is_some_and(|it| link_of(line) == Some(it)));
            match was {
                Some(was) => {
                    let (place, name) = link_of(line).expect("it was found by it");
                    let _ = writeln!(text, "  changed: {name} in {place}");
                    changes(&mut text, "", &json_of(line), &json_of(gone.remove(was)));
                }
                None => {
                    let _ = writeln!(text, "  now:    {line}");
                }
            }
        }
        for line in gone {
            let _ = writeln!(text, "  before: {line}");
        }
        text
    }

    /// What was there and is not here any more, or not as it was.
    pub fn lost<'a>(&self, before: &'a Self) -> Vec<&'a str> {
        let all = before.lines.iter().map(String::as_str);
        all.filter(|line| !self.lines.iter().any(|now| now == line)).collect()
    }

    /// The lines that hold `text`.
    pub fn with(&self, text: &str) -> Vec<&str> {
        self.lines.iter().map(String::as_str).filter(|line| line.contains(text)).collect()
    }
}

/// The place and the name of the link that a line is about, if it is about one.
fn link_of(line: &str) -> Option<(&str, String)> {
    let place = line.strip_prefix("addr in ")?.split(": {").next()?;
    Some((place, json_of(line)["ifname"].as_str()?.to_owned()))
}

fn json_of(line: &str) -> Value {
    let json = line.find('{').map_or("null", |start| &line[start..]);
    serde_json::from_str(json).unwrap_or_default()
}

/// Writes down in which of their keys two values differ.
fn changes(text: &mut String, path: &str, now: &Value, before: &Value) {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            let keys: BTreeSet<&String> = now.keys().chain(before.keys()).collect();
            for key in keys {
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                changes(text, &format!("{path}.{key}"), &of(now), &of(before));
            }
        }
        _ if now == before => {}
        _ => {
            let _ =
                writeln!(text, "    {}: now {now}, before {before}", path.trim_start_matches('.'));
        }
    }
}

/// What `ip` shows of one network namespace; `""` is the world's own.
fn network(lines: &mut Vec<String>, namespace: &str) {
    for what in [
        &["-d", "-j", "addr", "show"][..],
        &["-j", "-4", "route", "show", "table", "all"],
        &["-j", "-6", "route", "show", "table", "all"],
        &["-j", "-4", "rule", "show"],
        &["-j", "-6", "rule", "show"],
    ] {
        let mut command = Command::new("ip");
        if !namespace.is_empty() {
            command.args(["-n", namespace]);
        }
        let answer = finish(command.args(what));
        if !answer.status.success() {
            lines.push(format!("network {namespace:?}: {}", answer.stderr.trim()));
            return;
        }
        // `ip -j` prints nothing at all where it has nothing to list.
        let things: Vec<Value> = serde_json::from_str(&answer.stdout).unwrap_or_default();
        for mut thing in things {
            forget_the_volatile(&mut thing);
            lines.push(format!("{} in {namespace:?}: {thing}", what[what.len() - 2]));
        }
    }
    let mut queues = Command::new("tc");
    if !namespace.is_empty() {
        queues.args(["-n", namespace]);
    }
    let queues = finish(queues.args(["-j", "qdisc", "show"])).stdout;
    for mut queue in serde_json::from_str::<Vec<Value>>(&queues).unwrap_or_default() {
        forget_the_volatile(&mut queue);
        lines.push(format!("qdisc in {namespace:?}: {queue}"));
    }
    packet_filter(lines, namespace);
}

/// What `nft` shows, where it is installed, less the numbers that the kernel gives
/// and what is counted.
fn packet_filter(lines: &mut Vec<String>, namespace: &str) {
    if !*HAS_NFT {
        return;
    }
    let mut command = match namespace {
        "" => Command::new("nft"),
        _ => Command::new("ip"),
    };
    if !namespace.is_empty() {
        command.args(["netns", "exec", namespace, "nft"]);
    }
    let answer = finish(command.args(["-j", "list", "ruleset"]));
    let rules: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    for mut rule in rules["nftables"].as_array().cloned().unwrap_or_default() {
        forget_the_volatile(&mut rule);
        if rule.get("metainfo").is_none() {
            lines.push(format!("nft in {namespace:?}: {rule}"));
        }
    }
}

static HAS_NFT: LazyLock<bool> =
    LazyLock::new(|| Command::new("nft").arg("--version").output().is_ok());

/// What `tc` shows at devices that have hooks for frames, less the numbers that
/// it gives to things as they are made.
fn filters(lines: &mut Vec<String>) {
    let qdiscs = finish(Command::new("tc").args(["-j", "qdisc", "show"]));
    let qdiscs: Vec<Value> = serde_json::from_str(&qdiscs.stdout).unwrap_or_default();
    let hooked = |qdisc: &&Value| qdisc["kind"] == "clsact" || qdisc["kind"] == "ingress";
    for device in qdiscs.iter().filter(hooked).filter_map(|qdisc| qdisc["dev"].as_str()) {
        for hook in ["ingress", "egress"] {
            let answer = finish(Command::new("tc").args(["filter", "show", "dev", device, hook]));
            let all = answer.stdout.lines().map(|line| line.split(" fh ").next().unwrap_or(line));
            let mut text: Vec<_> =
                all.map(str::trim).filter(|line| !line.starts_with("index ")).collect();
            text.dedup();
            if !text.is_empty() {
                lines.push(format!("filters at {device} {hook}: {}", text.join(" ")));
            }
        }
    }
}

fn forget_the_volatile(thing: &mut Value) {
    match thing {
        Value::Object(entries) => {
            entries.retain(|key, _| !VOLATILE.contains(&key.as_str()));
            entries.values_mut().for_each(forget_the_volatile);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_the_volatile),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn mounts(lines: &mut Vec<String>) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("this world's mounts");
    for line in table.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let place = words[4];
        // `ip netns add` mounts /run/netns over itself once and leaves it.
        if place != "/run/netns" {
            lines.push(format!("mount {place} {} {}", words[3], words[5..].join(" ")));
        }
    }
}

fn files(lines: &mut Vec<String>, directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        // A switch keeps its sockets there, and one that was killed leaves them.
        if path == Path::new(SCRATCH) || path.starts_with("/run/openvswitch") {
            continue;
        }
        if metadata.is_dir() {
            let (mode, owner) = (metadata.permissions().mode(), metadata.uid());
            if !MAY_STAY_EMPTY.contains(&&*path.to_string_lossy()) {
                lines.push(format!("directory {} {mode:o} {owner}", path.display()));
            }
            files(lines, &path);
        } else {
            file(lines, &path);
        }
    }
}

fn file(lines: &mut Vec<String>, path: &Path) {
    let Ok(metadata) = path.symlink_metadata() else { return };
    // Reading a namespace's file fails; its identity is noted apart.
    // A lock says who had it last, and a switch of ours writes what it likes.
    let is_lock = path.ends_with("lock") && path.starts_with("/run/ovsns");
    let content = match is_lock || path.starts_with("/run/ovsns/ovs") {
        true => Vec::new(),
        false => std::fs::read(path).unwrap_or_default(),
    };
    let (mode, owner) = (metadata.permissions().mode(), metadata.uid());
    let text = String::from_utf8_lossy(&content);
    lines.push(format!("file {} {mode:o} {owner} {text:?}", path.display()));
}

/// What our own processes that stay are started as.
const KEEPERS: [&str; 4] = ["keep-node", "keep-ovs --", "keep-nic", "keep-leases"];

/// Those, what runs in nodes because of them, and the daemons of an Open vSwitch of
/// our own.
fn processes(lines: &mut Vec<String>) {
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let is_keeper = KEEPERS.iter().any(|keeper| command.contains(keeper));
        let is_daemon = command.starts_with("ovs") && command.contains("/run/ovsns/");
        let environment = read("environ");
        let mut variables = environment.split(|byte| *byte == 0);
        let is_in_node = variables.any(|variable| variable.starts_with(b"OVSNS_NODE="));
        if is_keeper || is_daemon || (is_in_node && !command.is_empty()) {
            lines.push(format!("process {}", command.trim_end()));
        }
    }
}

/// Where the machine's own Open vSwitch is asked.
const MACHINES_DATABASE: &str = "/run/openvswitch/db.sock";

/// The tables that people write to.
const TABLES: [&str; 12] = [
    "Open_vSwitch",
    "Bridge",
    "Port",
    "Interface",
    "Mirror",
    "QoS",
    "Queue",
    "Controller",
    "Manager",
    "NetFlow",
    "sFlow",
    "IPFIX",
];

/// Columns that the switch writes, or that say how often it was told.
const OF_THE_SWITCH: [&str; 21] = [
    "admin_state",
    "bfd_status",
    "cur_cfg",
    "datapath_types",
    "error",
    "iface_types",
    "ifindex",
    "is_connected",
    "lacp_current",
    "link_resets",
    "link_speed",
    "link_state",
    "mac_in_use",
    "mtu",
    "next_cfg",
    "ofport",
    "role",
    "rstp_statistics",
    "rstp_status",
    "statistics",
    "status",
];

/// Awaits that the machine's own Open vSwitch has carried out what is in its
/// database, if it runs: devices and sockets of a bridge outlive its row.
fn carried_out() -> Option<()> {
    let id = std::fs::read_to_string("/run/openvswitch/ovs-vswitchd.pid").ok()?;
    let runs = || Path::new("/proc").join(id.trim()).exists();
    until_within(30, "Open vSwitch has carried out what it was told", || {
        let mut command = Command::new("ovs-vsctl");
        command.args(["--timeout=10", "--no-wait", "get", "Open_vSwitch", "."]);
        let said = finish(command.args(["cur_cfg", "next_cfg"])).stdout;
        let mut numbers = said.lines();
        !runs() || numbers.next() == numbers.next()
    });
    Some(())
}

/// The rows of the machine's own Open vSwitch, if it runs.
fn rows(lines: &mut Vec<String>) {
    for (table, cells) in rows_of(MACHINES_DATABASE) {
        lines.push(row(table, &cells));
    }
}

/// The rows of an Open vSwitch, each known by what it is and not by its number.
fn alike_rows(lines: &mut Vec<String>, socket: &str) {
    let rows = rows_of(socket);
    let text = |cells: &Cells, name: &str| {
        let cell = cells.iter().find(|(of, _)| of == name).map(|(_, cell)| cell);
        cell.and_then(|cell| cell.as_str().or_else(|| cell[1].as_str()).map(str::to_owned))
    };
    let mut names = BTreeMap::new();
    for (table, cells) in &rows {
        let name = text(cells, "name").or_else(|| text(cells, "target")).unwrap_or_default();
        names.extend(text(cells, "_uuid").map(|uuid| (uuid, format!("{table} {name}"))));
    }
    for (table, mut cells) in rows {
        cells.retain(|(name, _)| !OF_THE_ROW.contains(&name.as_str()));
        cells.iter_mut().for_each(|(_, cell)| name_rows(cell, &names));
        lines.push(row(table, &cells));
    }
}

type Cells = Vec<(String, Value)>;

fn row(table: &str, cells: &Cells) -> String {
    let cells: Vec<_> = cells.iter().map(|(name, cell)| format!("{name:?}={cell}")).collect();
    format!("row of {table} {}", cells.join(" "))
}

/// The rows in a database by their tables, if that answers.
fn rows_of(socket: &str) -> Vec<(&'static str, Cells)> {
    let mut rows = Vec::new();
    if std::os::unix::net::UnixStream::connect(socket).is_err() {
        return rows;
    }
    for table in TABLES {
        let mut command = Command::new("ovs-vsctl");
        command.arg(format!("--db=unix:{socket}"));
        command.args(["--timeout=10", "--no-wait", "--format=json", "list", table]);
        let found = finish(&mut command).ok().json();
        let headings = found["headings"].as_array().expect("names of columns");
        for row in found["data"].as_array().expect("rows") {
            let cells = headings.iter().zip(row.as_array().expect("cells"));
            let cells = cells.map(|(name, cell)| {
                (name.as_str().expect("the name of a column").to_owned(), cell.clone())
            });
            let cells = cells.filter(|(name, _)| !OF_THE_SWITCH.contains(&name.as_str()));
            rows.push((table, cells.collect()));
        }
    }
    rows
}

fn parameters(lines: &mut Vec<String>, directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        // Some can only be written, and directories are not read as files.
        if let Ok(value) = std::fs::read_to_string(entry.path()) {
            lines.push(format!("parameter {} {}", entry.path().display(), value.trim()));
        }
    }
}
