//! What commands and the keeper of a node say to each other (`line`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::error::KernelError;
use super::super::line::Line;
use crate::model::laid::NodeFile;
use crate::model::life::{Process, Room, SeenProcess};
use crate::model::names::{LabName, NodeName, ProcessName};

/// What a keeper is started with: the first line on its standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Charge {
    pub(super) room: Room,
    /// Where what the processes say is kept.
    pub(super) logs: PathBuf,
}

/// What it answers to that.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Begun {
    /// It listens.
    Listens,
    /// It could not do that, with the kernel's number.
    Failed { asked: String, errno: i32 },
}

/// What a command asks of the keeper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Ask {
    /// What it keeps.
    Look,
    /// To be told each time when something of a process is not what it was.
    Watch,
    /// To run a process, unless that runs already, and to be told when it is
    /// ready.
    Run(Process),
    /// To stop a process and forget it.
    Stop(ProcessName),
    /// To lay a file over the one at a path.
    Lay(String, NodeFile),
    /// To take it away.
    Lift(String),
    /// To have the node called so.
    Rename(String),
    /// To stop all of them, the last one first, and to end.
    End,
}

/// What the keeper answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Tell {
    /// To `Look`.
    Keeps(Keeps),
    /// To `Watch`, at once and from then on.
    Changed,
    /// To `Run`.
    Ready,
    /// To `Run`: it is not, and was stopped and forgotten.
    NotReady {
        /// Why, as a clause.
        why: String,
        /// What it said last.
        said: Vec<String>,
    },
    /// To `Run`: another process of that name runs.
    Taken,
    /// To `Stop`.
    Stopped,
    /// To `Lay` and `Lift`.
    Laid,
    /// To `Lay` and `Lift`: it could not, and why, as a clause.
    NotLaid(String),
    /// To `Rename`.
    Renamed,
    /// To `Rename`: it could not, with the kernel's number.
    NotRenamed(i32),
    /// To `End`.
    Ends,
}

/// What a keeper keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Keeps {
    pub(super) room: Room,
    /// What the node is called, if it is not what its room says.
    #[serde(default)]
    pub(super) renamed: Option<String>,
    /// The number of the network namespace that it is in.
    pub(super) netns: u64,
    /// In the order in which they were started.
    pub(super) processes: Vec<SeenProcess>,
    /// What lies over the machine's files.
    pub(super) files: BTreeMap<String, Option<NodeFile>>,
}

/// Connects to the keeper of a node, if there is one.
pub(super) fn connect(lab: &LabName, node: &NodeName) -> Result<Option<Line>, KernelError> {
    Line::connect(&name(lab, node), &whom(lab, node))
}

/// What a message calls it.
pub(super) fn whom(lab: &LabName, node: &NodeName) -> String {
    format!("the keeper of node `{node}` of lab `{lab}`")
}

/// What all names of keepers begin with.
pub(super) const NAMES: &str = "ovsns/node/";

/// The name of its socket: 106 bytes at most, of 107 that fit.
pub(super) fn name(lab: &LabName, node: &NodeName) -> String {
    format!("{NAMES}{lab}/{node}")
}
