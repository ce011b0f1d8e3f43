//! What the processes of a node said.

mod follow;

use std::fs;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::follow::Following;
use super::desk::NodeWords;
use super::{Call, CallError, Desk, Failure};
use crate::engine::EngineError;
use crate::engine::state::State;
use crate::kernel::life::{self, log};
use crate::model::names::{NodeName, ProcessName};

/// Reads what the processes of a node wrote to standard output and standard error, as
/// far as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeLogs {
    /// The node: `NODE`, or `LAB/NODE`.
    pub node: String,
    /// One of its processes; all if none is named.
    pub process: Option<String>,
    /// Only the last lines of each; so many.
    pub tail: Option<usize>,
    /// The lab, where several have a node of that name.
    pub lab: Option<String>,
}

/// What a process said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Said {
    /// The process.
    pub process: String,
    /// Its lines. What is not UTF-8 is replaced; the last may have no end yet.
    pub lines: Vec<String>,
}

/// What is told of processes that are followed, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spoken {
    /// One of them has said this; at first what it said before.
    Said(Said),
    /// The node is gone; the last there is to tell.
    Ended,
    /// Its logs cannot be read any more; the last there is to tell.
    Failed(Failure),
}

impl Call for NodeLogs {
    const NAME: &'static str = "node.logs";
    type Answer = Vec<Said>;

    async fn run(self, _: &mut Desk<'_>) -> Result<Vec<Said>, CallError> {
        let words = NodeWords::new(&self.node, self.lab.as_deref())?;
        let only = self.process.as_deref().map(ProcessName::new).transpose()?;
        let directory = log_directory(&words).await?;
        let processes = log_processes(&directory, only.as_ref());
        if processes.is_empty() {
            return Err(no_log(&words.node, only.as_ref()));
        }
        let said = |process: ProcessName| {
            let mut last = log::last(&directory, &process, self.tail.unwrap_or(usize::MAX));
            if !last.begun.is_empty() {
                last.lines.push(String::from_utf8_lossy(&last.begun).into_owned());
            }
            Said { process: process.to_string(), lines: last.lines }
        };
        Ok(processes.into_iter().map(said).collect())
    }
}

/// A node of which nothing is there to be read.
fn no_log(node: &NodeName, only: Option<&ProcessName>) -> CallError {
    match only {
        Some(only) => CallError::usage(
            format!("node `{node}` has no log of a process `{only}`"),
            format!("`ovsns logs {node}` shows all it has"),
        ),
        None => CallError::usage(
            format!("nothing has run in node `{node}`"),
            "have something run: `run:` in the lab's file",
        ),
    }
}

/// The processes of which there are logs, by name.
fn log_processes(directory: &Path, only: Option<&ProcessName>) -> Vec<ProcessName> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| log::process_of(entry.file_name().to_str()?));
    let mut named: Vec<_> = named.filter(|name| only.is_none_or(|only| name == only)).collect();
    named.sort();
    named
}

/// The directory with the logs of the node that is meant.
async fn log_directory(words: &NodeWords) -> Result<PathBuf, CallError> {
    let mut directories = directories(words)?;
    if directories.is_empty() {
        // Somebody may have deleted them, and whoever writes them has them still.
        life::mend_logs(&words.node).await?;
        directories = self::directories(words)?;
    }
    match directories.len() {
        1 => Ok(directories.swap_remove(0)),
        0 => Err(CallError::usage(
            format!("nothing has run in a node `{}`", words.node),
            "`ovsns node list` shows the nodes, and what runs in them",
        )),
        _ => Err(CallError::usage(
            format!("several labs have a node `{}`", words.node),
            format!("say which: `ovsns logs LAB/{}`", words.node),
        )),
    }
}

fn directories(words: &NodeWords) -> Result<Vec<PathBuf>, CallError> {
    let state = State::from_environment();
    let labs = match &words.lab {
        Some(lab) => [lab.clone()].into(),
        None => state.labs().map_err(EngineError::from)?,
    };
    let directories = labs.iter().map(|lab| life::logs(&state.labs_directory(), lab, &words.node));
    Ok(directories.filter(|path| path.is_dir()).collect())
}
