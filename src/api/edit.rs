//! Changing a lab that runs, one thing at a time: the lab as remembered is
//! written out as a file, the file is changed, and what it says now is made.
//! So a thing that is added passes the same checks as one from a file.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::CallError;
use super::desk::{Desk, one_of};
use crate::engine::{Done, Engine, EngineError};
use crate::model::file;
use crate::model::names::LabName;
use crate::model::problem::Problems;
use crate::model::topology::Lab;

/// What a change of a lab came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// The lab.
    pub lab: String,
    /// What was done, each a line as `ovsns plan` prints it; none if all was so.
    pub steps: Vec<String>,
}

/// The lab that a thing is added to: the one that was named, the only one, or
/// else `default`; with all that there are. One whose file is lost is refused: it
/// would lose all that a change does not name.
pub(crate) async fn lab_to_change(
    engine: &mut Engine,
    named: Option<&str>,
) -> Result<(LabName, BTreeSet<LabName>), CallError> {
    let labs = engine.labs().await?;
    let default = LabName::default_lab();
    let is_new =
        named.is_none() && (labs.is_empty() || (1 < labs.len() && labs.contains(&default)));
    let name = if is_new { default } else { one_of(&labs, named)? };
    let known = || engine.state().read(&name).map(|state| state.lab.is_some());
    if labs.contains(&name) && !known().map_err(EngineError::from)? {
        return Err(not_remembered(&name));
    }
    Ok((name, labs))
}

/// Changes a lab that is there by its file, and says what that came to.
pub(crate) async fn change(
    desk: &mut Desk<'_>,
    command: &str,
    named: Option<&str>,
    edit: impl FnOnce(&mut Json) -> Result<(), CallError>,
) -> Result<Changed, CallError> {
    let (mut engine, name, there) = open(desk, command, named).await?;
    there?;
    change_in(desk, &mut engine, &name, edit).await
}

/// The same, where a lab that is not there is made.
pub(crate) async fn change_or_make(
    desk: &mut Desk<'_>,
    command: &str,
    named: Option<&str>,
    edit: impl FnOnce(&mut Json) -> Result<(), CallError>,
) -> Result<Changed, CallError> {
    let (mut engine, name, there) = open(desk, command, named).await?;
    if there.is_err() {
        desk.tell(format!("lab {name} is not there yet, and is made"));
    }
    change_in(desk, &mut engine, &name, edit).await
}

/// Makes a lab once more as it was made last, and says what it is.
pub(crate) async fn again(
    desk: &mut Desk<'_>,
    named: Option<&str>,
) -> Result<(Lab, Done), CallError> {
    let (mut engine, name, there) = open(desk, "ovsns up --again", named).await?;
    there?;
    apply(desk, &mut engine, &name, |_| Ok(())).await
}

/// The lab that a call changes, and the error to make if it is not there.
async fn open(
    desk: &mut Desk<'_>,
    command: &str,
    named: Option<&str>,
) -> Result<(Engine, LabName, Result<(), CallError>), CallError> {
    let mut engine = desk.engine(command).await?;
    let (name, labs) = lab_to_change(&mut engine, named).await?;
    let there = if labs.contains(&name) { Ok(()) } else { Err(no_lab(&name, &labs)) };
    Ok((engine, name, there))
}

pub(crate) fn not_remembered(name: &LabName) -> CallError {
    CallError::usage(
        format!("what lab `{name}` is to be is not remembered any more"),
        "`ovsns up` with its file first, or `ovsns down` to remove what is there",
    )
}

fn no_lab(name: &LabName, labs: &BTreeSet<LabName>) -> CallError {
    let names: Vec<_> = labs.iter().map(|lab| format!("`{lab}`")).collect();
    let hint = match names.as_slice() {
        [] => "there is none at all; make one: `ovsns up FILE`, `ovsns node add NODE`".to_owned(),
        names => format!("there is {}", names.join(", ")),
    };
    CallError::usage(format!("there is no lab `{name}`"), hint)
}

/// The same for a lab that has been found.
pub(crate) async fn change_in(
    desk: &mut Desk<'_>,
    engine: &mut Engine,
    name: &LabName,
    edit: impl FnOnce(&mut Json) -> Result<(), CallError>,
) -> Result<Changed, CallError> {
    let (_, done) = apply(desk, engine, name, edit).await?;
    Ok(Changed { lab: name.to_string(), steps: desk.steps(&done) })
}

/// Makes what a lab's file says when it is changed, and says what it is then.
pub(crate) async fn apply(
    desk: &mut Desk<'_>,
    engine: &mut Engine,
    name: &LabName,
    edit: impl FnOnce(&mut Json) -> Result<(), CallError>,
) -> Result<(Lab, Done), CallError> {
    let removes = removes(engine);
    let edit = |lab: Option<Lab>| changed(name, lab.as_ref(), removes, edit);
    engine.change(name, edit, &mut desk.progress()).await
}

/// What a lab would be if its file were changed.
pub(crate) fn edited(
    engine: &mut Engine,
    name: &LabName,
    edit: impl FnOnce(&mut Json) -> Result<(), CallError>,
) -> Result<Lab, CallError> {
    let lab = engine.state().read(name).map_err(EngineError::from)?.lab;
    changed(name, lab.as_ref(), removes(engine), edit)
}

fn changed(
    name: &LabName,
    lab: Option<&Lab>,
    removes: bool,
    edit: impl FnOnce(&mut Json) -> Result<(), CallError>,
) -> Result<Lab, CallError> {
    let mut file = match lab {
        Some(lab) => file::to_file(lab),
        None => serde_json::json!({ "name": name, "switches": {}, "nodes": {}, "links": [] }),
    };
    edit(&mut file)?;
    let text = serde_json::to_vec_pretty(&file).expect("JSON is JSON");
    file::read(&text, &format!("lab {name} as changed"), None)
        .map_err(|problems| in_words(&problems, &file, removes))
}

/// Whether the command takes something away.
fn removes(engine: &Engine) -> bool {
    engine.command().ends_with(" rm")
}

/// What is wrong with a lab as changed, by the things that it is wrong with:
/// nobody has the file that was read. What still names a thing that was removed
/// is told with the way to remove that, too.
fn in_words(problems: &Problems, file: &Json, removes: bool) -> CallError {
    let text = serde_json::to_string_pretty(file).expect("JSON is JSON");
    let told = problems.problems().iter().map(|problem| {
        let path = path_at(&text, problem.line);
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["switches", switch, "mirrors", mirror, ..] if removes => (
                format!("mirror `{mirror}` of switch `{switch}` still names what would go"),
                Some(format!("first: `ovsns switch set {switch} mirrors.{mirror}=`")),
            ),
            ["switches", switch, "flows", index] if removes => {
                let index: usize = index.parse().unwrap_or_default();
                let flow = file["switches"][switch]["flows"][index].as_str().unwrap_or_default();
                (
                    format!("flow `{flow}` of switch `{switch}` still names what would go"),
                    Some(format!("first: `ovsns flow del {switch} '{flow}'`")),
                )
            }
            ["switches", switch, "nat"] if removes => (
                format!("switch `{switch}`: {}", problem.message),
                Some(format!("first: `ovsns switch set {switch} nat=`")),
            ),
            path => {
                let (place, message) = (place(path, file), &problem.message);
                let what =
                    if place.is_empty() { message.clone() } else { format!("{place}: {message}") };
                (what, problem.hint.clone())
            }
        }
    });
    let mut told: Vec<(String, Option<String>)> = told.collect();
    told.dedup();
    CallError::Changed(told)
}

/// The thing that a path in a file leads to, as a person calls it.
fn place(path: &[&str], file: &Json) -> String {
    let (thing, keys) = match path {
        ["switches", name, keys @ ..] => (format!("switch `{name}`"), keys),
        ["nodes", name, keys @ ..] => (format!("node `{name}`"), keys),
        ["links", index, keys @ ..] => {
            let link = index.parse().ok().and_then(|index: usize| file["links"].get(index));
            let [a, b] = link.map(endpoints).unwrap_or_default();
            (format!("link `{a} {b}`"), keys)
        }
        keys => (String::new(), keys),
    };
    match (thing.is_empty(), keys.is_empty()) {
        (_, true) => thing,
        (true, false) => format!("`{}`", keys.join(".")),
        (false, false) => format!("{thing}, `{}`", keys.join(".")),
    }
}

/// The keys, and places in lists, that lead to what stands on a line (from 1)
/// of JSON as `to_string_pretty` writes it: each level two spaces further in.
fn path_at(text: &str, line: usize) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    let mut next_in_list: Vec<usize> = Vec::new();
    for text in text.lines().take(line) {
        let inner = text.trim_start_matches(' ');
        let level = (text.len() - inner.len()) / 2;
        let closes = inner.starts_with(['}', ']']);
        path.truncate(if closes { level } else { level.saturating_sub(1) });
        next_in_list.resize(level + 1, 0);
        if closes || level == 0 {
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(inner).into_iter::<Json>();
        let key = match values.next() {
            Some(Ok(Json::String(key))) if inner[values.byte_offset()..].starts_with(':') => key,
            _ => {
                next_in_list[level] += 1;
                (next_in_list[level] - 1).to_string()
            }
        };
        path.push(key);
    }
    path
}

/// The things of one kind: `nodes` or `switches`.
pub(crate) fn things<'a>(file: &'a mut Json, kind: &str) -> &'a mut Map<String, Json> {
    file[kind].as_object_mut().expect("a lab's file has them")
}

/// The links.
pub(crate) fn links(file: &mut Json) -> &mut Vec<Json> {
    file["links"].as_array_mut().expect("a lab's file has them")
}

/// The two endpoints of a link in a file.
pub(crate) fn endpoints(link: &Json) -> [&str; 2] {
    let end = |index: usize| link["endpoints"][index].as_str().unwrap_or_default();
    [end(0), end(1)]
}

/// Takes away the links that `gone` says, and the interfaces they were on.
pub(crate) fn remove_links(file: &mut Json, gone: impl Fn(&Json) -> bool) -> usize {
    let (removed, kept): (Vec<_>, Vec<_>) = links(file).drain(..).partition(|link| gone(link));
    *links(file) = kept;
    for link in &removed {
        for end in endpoints(link) {
            let Some((node, interface)) = end.split_once(':') else { continue };
            // `macvlan:eth0` is no interface of a node.
            if !things(file, "nodes").contains_key(node) {
                continue;
            }
            let interfaces = file["nodes"][node]["interfaces"].as_object_mut();
            interfaces.and_then(|interfaces| interfaces.remove(interface));
            let interfaces = file["nodes"][node]["interfaces"].as_object();
            let nets: Vec<IpNet> = interfaces.into_iter().flatten().flat_map(addresses).collect();
            // A route that leaves by it leads nowhere now.
            if let Some(routes) = file["nodes"][node]["routes"].as_array_mut() {
                let via = |route: &Json| route["via"].as_str()?.parse::<IpAddr>().ok();
                let leads = |route: &Json| match (route["interface"].as_str(), via(route)) {
                    (Some(by), _) => by != interface,
                    (None, Some(via)) => nets.iter().any(|net| net.contains(&via)),
                    (None, None) => true,
                };
                routes.retain(leads);
            }
        }
    }
    removed.len()
}

/// The addresses that a file gives to an interface.
fn addresses((_, interface): (&String, &Json)) -> Vec<IpNet> {
    let addresses = interface["addresses"].as_array().into_iter().flatten();
    addresses.filter_map(|address| address.as_str()?.parse().ok()).collect()
}

/// Keys that say what VLANs pass a port: one stands in the way of another.
const OF_VLANS: [&str; 4] = ["vlan", "trunks", "native", "qinq"];

/// Keys of a thing in the topology file, with what the file would say. `a.b` is the
/// key `b` of the mapping `a`; `null` takes a key away.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settings(pub Map<String, Json>);

impl Settings {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them into a switch or a link of a file.
    ///
    /// # Errors
    /// A key below one that holds no mapping.
    pub(crate) fn write(&self, thing: &mut Json) -> Result<(), CallError> {
        let set = |key: &str| self.0.keys().any(|path| path.split('.').next() == Some(key));
        if let (true, Some(map)) = (OF_VLANS.iter().any(|key| set(key)), thing.as_object_mut()) {
            // What is said now stands for all that was said about VLANs; but
            // `native` alone goes with the `trunks` that are there.
            let native_alone = OF_VLANS.iter().filter(|key| set(key)).eq([&"native"]);
            map.retain(|key, _| native_alone || set(key) || !OF_VLANS.contains(&key.as_str()));
        }
        for (path, value) in &self.0 {
            let (above, last) = path.rsplit_once('.').unwrap_or(("", path));
            let mut place = &mut *thing;
            for key in above.split('.').filter(|_| !above.is_empty()) {
                if place.get(key).is_none_or(Json::is_null) {
                    place[key] = Json::Object(Map::new());
                }
                place = &mut place[key];
                if !place.is_object() {
                    return Err(CallError::usage(
                        format!("`{key}` holds no keys of its own"),
                        format!("write `{key}=VALUE`"),
                    ));
                }
            }
            match value {
                Json::Null => drop(place.as_object_mut().and_then(|map| map.remove(last))),
                value => place[last] = value.clone(),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_of_a_file_in_words() {
        let file = json!({
            "name": "lab",
            "nodes": { "n1": {} },
            "switches": {
                "s1": { "flows": ["a: b", "c"], "rstp": true, "stp": true, "queues": [] },
                "s.2": { "mirrors": { "m": { "from": ["n1"], "output": "n2" } } },
            },
            "links": [
                { "endpoints": ["n1:eth0", "s1"], "vlan": 1 },
                { "endpoints": ["n2:eth0", "s1"], "shaping": { "rate": "10M" } },
            ],
        });
        let text = serde_json::to_string_pretty(&file).expect("JSON is JSON");
        check_in(&text, &file, "\"lab\"", "`name`");
        check_in(&text, &file, "\"a: b\"", "switch `s1`, `flows.0`");
        check_in(&text, &file, "\"c\"", "switch `s1`, `flows.1`");
        check_in(&text, &file, "\"rstp\"", "switch `s1`, `rstp`");
        check_in(&text, &file, "\"stp\"", "switch `s1`, `stp`");
        check_in(&text, &file, "\"output\"", "switch `s.2`, `mirrors.m.output`");
        check_in(&text, &file, "\"n1\": {}", "node `n1`");
        check_in(&text, &file, "\"vlan\"", "link `n1:eth0 s1`, `vlan`");
        check_in(&text, &file, "10M", "link `n2:eth0 s1`, `shaping.rate`");
        assert_eq!(place(&[], &file), "");

        #[track_caller]
        fn check_in(text: &str, file: &Json, words: &str, expected: &str) {
            let line = text.lines().position(|line| line.contains(words)).expect("it is there");
            let path = path_at(text, line + 1);
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            assert_eq!(place(&path, file), expected, "{path:?}");
        }
    }
}
