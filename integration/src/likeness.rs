//! What is like another: an inventory less the numbers that the kernel and a
//! database give to things as they make them.
//!
//! Own file because most tests want to know whether a thing is the same one. Here
//! a thing that was deleted and made again is the same, if nothing else of it
//! differs. That an address is still tried for duplicates is no difference either.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// What the kernel numbers, and what follows from such a number.
const NUMBERS: [&str; 11] = [
    "tentative",
    "ifindex",
    "link_index",
    "link_netnsid",
    "iif",
    "port_id",
    "port_no",
    "designated_port",
    "root_port",
    "fdb_n_learned",
    "parentbus",
];

/// Columns that say which row it is, and what a switch does at the moment.
pub(crate) const OF_THE_ROW: [&str; 3] = ["_version", "bond_active_slave", "lacp_status"];

/// Whether a line is about a route that the kernel makes of an address by itself, when
/// it can be used.
pub(crate) fn follows_from_address(line: &str) -> bool {
    let words = ["\"protocol\":\"kernel\"", "\"table\":\"local\""];
    line.starts_with("table in ") && words.iter().all(|word| line.contains(word))
}

/// Less those of one line of an inventory that is not a row of a database.
pub(crate) fn less_numbers(line: &str) -> String {
    if let Some(rest) = line.strip_prefix("namespace ") {
        let name = rest.split(' ').next().unwrap_or(rest);
        return format!("namespace {name}");
    }
    if let Some((start, rest)) = line.split_once(" net:[") {
        let end = rest.split_once(']').map_or("", |(_, end)| end);
        // Mounts have groups, which have numbers.
        let words = end.split(' ').filter(|word| !word.starts_with("shared:"));
        return format!("{start} net:[]{}", words.collect::<Vec<_>>().join(" "));
    }
    if let Some(rest) = line.strip_prefix("file ") {
        let words: Vec<_> = rest.splitn(4, ' ').collect();
        let told = if is_of_numbers(Path::new(words[0])) { 3 } else { 4 };
        return format!("file {}", words[..told.min(words.len())].join(" "));
    }
    let of_json = ["addr in ", "table in ", "all in ", "rule in ", "qdisc in ", "nft in "];
    let Some((start, json)) = line.split_once(": {") else { return line.to_owned() };
    if !of_json.iter().any(|what| start.starts_with(what)) {
        return line.to_owned();
    }
    let Ok(mut thing) = serde_json::from_str(&format!("{{{json}")) else { return line.to_owned() };
    forget(&mut thing);
    format!("{start}: {thing}")
}

fn forget(thing: &mut Value) {
    match thing {
        Value::Object(entries) => {
            entries.retain(|key, _| !NUMBERS.contains(&key.as_str()));
            entries.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether what is in a file of ours tells of numbers: how a NIC was, and what
/// processes said.
fn is_of_numbers(path: &Path) -> bool {
    let inside = |name: &str| path.components().any(|part| part.as_os_str() == name);
    path.starts_with("/run/ovsns") && (inside("logs") || path.ends_with("attached.json"))
}

/// In place of the number of a row, what it is: by the numbers of all rows.
pub(crate) fn name_rows(cell: &mut Value, names: &BTreeMap<String, String>) {
    let Value::Array(items) = cell else { return };
    match items.as_mut_slice() {
        [Value::String(kind), Value::String(row)] if kind == "uuid" => {
            if let Some(name) = names.get(row) {
                row.clone_from(name);
            }
        }
        // Which links they were, by their numbers.
        [Value::String(key), Value::String(links)] if key == "ovsns-links" => {
            let names = links.split(' ').filter_map(|link| link.split('=').next());
            *links = names.collect::<Vec<_>>().join(" ");
        }
        items => items.iter_mut().for_each(|item| name_rows(item, names)),
    }
    if let [Value::String(kind), Value::Array(members)] = items.as_mut_slice()
        && kind == "set"
    {
        members.sort_by_key(ToString::to_string);
    }
}
