//! The life of nodes: which keepers start and end, which processes run and stop.
//!
//! What a node has of its own cannot change while it lives, so a change of that
//! ends its keeper and starts another. Limits change as they are, and so do single
//! processes: whatever else runs goes on, and all links stay.

use std::collections::{BTreeMap, BTreeSet};

use super::refuse::Refusal;
use super::step::Step;
use super::wanted::{Wanted, WantedNode};
use crate::model::life::{SeenKeeper, SeenProcess, Standing};
use crate::model::names::{NodeName, ProcessName};
use crate::model::world::{Controller, World};

/// What has to end before anything is taken from under it.
pub(super) fn end(wanted: &Wanted, world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    for (node, seen) in &world.host.keepers {
        match wanted.nodes.get(node).filter(|want| stays(world, node, want, seen)) {
            None => steps.push(ended(node, seen)),
            Some(want) => {
                let is_wanted_there = |path: &String| want.life.files.contains_key(path);
                let lifted = seen.files.iter().filter(|(path, _)| !is_wanted_there(path));
                let lifted = lifted.map(|(path, before)| Step::LiftFile {
                    node: node.clone(),
                    path: path.clone(),
                    before: before.clone(),
                });
                let gone = seen.processes.iter().rev().filter(|seen| !is_wanted(want, seen));
                steps.extend(gone.map(|seen| Step::StopProcess {
                    node: node.clone(),
                    process: seen.process.clone(),
                }));
                steps.extend(lifted);
            }
        }
    }
    let left = world.host.left.iter();
    steps.extend(left.map(|node| Step::EndKeeper { node: node.clone(), life: None }));
    steps
}

/// What is to run, each when all before it are ready.
pub(super) fn begin(wanted: &Wanted, world: &World) -> Vec<Step> {
    let mut steps = Vec::new();
    for (node, want) in wanted.nodes.iter().filter(|(_, want)| want.life.needs_keeper()) {
        let seen = world.host.keepers.get(node).filter(|seen| stays(world, node, want, seen));
        match seen {
            None => steps.push(Step::StartKeeper {
                node: node.clone(),
                room: want.life.room.clone(),
                limits: want.life.limits,
            }),
            Some(seen) if seen.limits != want.life.limits => steps.push(Step::SetLimits {
                node: node.clone(),
                before: seen.limits,
                after: want.life.limits,
            }),
            Some(_) => {}
        }
        let called =
            seen.and_then(|seen| Some((seen.renamed.clone()?, seen.room.hostname.clone()?)));
        steps.extend(called.map(|(before, after)| {
            let node = node.clone();
            Step::RenameNode { node, before, after }
        }));
        // What runs there may read them when it starts.
        for (path, after) in &want.life.files {
            let before = seen.and_then(|seen| seen.files.get(path)).cloned().flatten();
            if before.as_ref() != Some(after) {
                steps.push(Step::LayFile {
                    node: node.clone(),
                    path: path.clone(),
                    before,
                    after: after.clone(),
                });
            }
        }
    }
    // All keepers first: a process of one node may need one of another to be
    // there.
    for (node, want) in &wanted.nodes {
        let seen = world.host.keepers.get(node).filter(|seen| stays(world, node, want, seen));
        for process in &want.life.run {
            let runs = seen.is_some_and(|seen| {
                seen.processes.iter().any(|seen| seen.process == *process && is_well(seen))
            });
            if !runs {
                steps.push(Step::RunProcess { node: node.clone(), process: process.clone() });
            }
        }
    }
    steps
}

/// Ends all that lives.
pub(super) fn end_all(world: &World) -> Vec<Step> {
    let keepers = world.host.keepers.iter().map(|(node, seen)| ended(node, seen));
    let left = world.host.left.iter();
    keepers.chain(left.map(|node| Step::EndKeeper { node: node.clone(), life: None })).collect()
}

/// Stops what a node runs, or one process of it, and starts it again.
pub fn restart(world: &World, node: &NodeName, only: Option<&ProcessName>) -> Vec<Step> {
    let seen = world.host.keepers.get(node).into_iter().flat_map(|seen| &seen.processes);
    let processes: Vec<_> = seen
        .map(|seen| &seen.process)
        .filter(|process| only.is_none_or(|only| process.name == *only))
        .collect();
    let stopped = processes
        .iter()
        .rev()
        .map(|process| Step::StopProcess { node: node.clone(), process: (*process).clone() });
    let run = processes
        .iter()
        .map(|process| Step::RunProcess { node: node.clone(), process: (*process).clone() });
    stopped.chain(run).collect()
}

/// That a controller of control groups is missing.
pub fn no_groups(controller: &str) -> String {
    format!("no control groups for `{controller}` are mounted")
}

/// What to do about it.
pub fn mount_groups(controller: &str) -> String {
    format!(
        "mount them, such as with `mount -t cgroup2 none /sys/fs/cgroup` or `mount -t cgroup -o \
         {controller} none /sys/fs/cgroup/{controller}`"
    )
}

/// What a node is to have and this machine cannot give.
pub(super) fn refusals(wanted: &Wanted, world: &World) -> Vec<Refusal> {
    let mut found = Vec::new();
    let mut users = BTreeSet::new();
    if let Some(why) = &world.host.names_fixed {
        found.push(Refusal {
            what: format!("the lab has `hosts: true`, and `/etc/hosts` cannot be written: {why}"),
            hint: "make it writable, or leave `hosts` out".to_owned(),
        });
    }
    for (node, want) in &wanted.nodes {
        let limits = &want.life.limits;
        for (controller, is_limited, key) in [
            (Controller::Cpu, limits.cpu_permille.is_some(), "cpu"),
            (Controller::Memory, limits.memory_bytes.is_some(), "memory"),
            (Controller::Pids, limits.processes.is_some(), "processes"),
        ] {
            if is_limited && !world.host.controllers.contains(&controller) {
                let name = controller.name();
                found.push(Refusal {
                    what: format!("node `{node}` limits `{key}`, and {}", no_groups(name)),
                    hint: format!("{}, or leave the limit out", mount_groups(name)),
                });
            }
        }
        let mut over: BTreeMap<&str, &str> = BTreeMap::new();
        for path in want.life.files.keys() {
            match world.host.lies.get(path) {
                Some(Ok(place)) => {
                    if let Some(other) = over.insert(place, path) {
                        found.push(Refusal {
                            what: format!("`{other}` and `{path}` of node `{node}` are one file here: `{place}`"),
                            hint: "leave one of them out".to_owned(),
                        });
                    }
                }
                Some(Err(why)) => found.push(Refusal {
                    what: format!("no file can be laid at `{path}` in node `{node}`: {why}"),
                    hint: "choose another path, or leave the file out".to_owned(),
                }),
                None => {}
            }
        }
        let named = want.life.run.iter().filter_map(|process| process.user.as_ref());
        for user in named.filter(|user| world.host.unknown_users.contains(*user)) {
            if users.insert((node, user)) {
                found.push(Refusal {
                    what: format!(
                        "node `{node}` runs something as user `{user}`, and there is none"
                    ),
                    hint: "name one of `getent passwd`".to_owned(),
                });
            }
        }
    }
    found
}

fn ended(node: &NodeName, seen: &SeenKeeper) -> Step {
    let life = seen.lost.is_none().then(|| seen.life());
    Step::EndKeeper { node: node.clone(), life }
}

/// Whether a keeper that is there can go on.
fn stays(world: &World, node: &NodeName, want: &WantedNode, seen: &SeenKeeper) -> bool {
    want.life.needs_keeper()
        && seen.lost.is_none()
        && seen.room == want.life.room
        && world.host.nodes.contains_key(node)
}

fn is_wanted(want: &WantedNode, seen: &SeenProcess) -> bool {
    want.life.run.contains(&seen.process)
}

/// Whether a process does what it is to do, or will as soon as it can.
fn is_well(seen: &SeenProcess) -> bool {
    match seen.standing {
        Standing::Running | Standing::Waiting { .. } | Standing::Done => true,
        Standing::Starting | Standing::Failed { .. } => false,
    }
}
