//! `ovsns keep-node` and `ovsns become`, which no help page lists: the process
//! that keeps what is a node's own, and the moment before a command of it runs.

use std::ffi::OsString;

use super::{CallError, Ending};
use crate::kernel::life::{birth, keeper};
use crate::model::names::{LabName, NodeName};

/// Keep what a node has of its own, and what runs in it
///
/// Commands start it by themselves, at the other end of its standard input, and
/// it ends when it is told to.
#[derive(Debug, clap::Args)]
#[command(hide = true, after_help = "Example: ovsns keep-node --lab default --node n1")]
pub(super) struct Args {
    /// The lab
    #[arg(long, value_name = "LAB")]
    lab: String,
    /// The node
    #[arg(long, value_name = "NODE")]
    node: String,
}

/// Become a command of a node
///
/// Keepers and `ovsns exec` start it by themselves.
#[derive(Debug, clap::Args)]
#[command(hide = true, after_help = "Example: ovsns become '{...}' -- sleep 10")]
pub(super) struct BecomeArgs {
    /// What it is born with
    birth: String,
    /// The command and its arguments
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// Is the keeper. It must not have threads yet.
pub(super) fn keep(args: &Args) -> Result<Ending, CallError> {
    keeper::run(&LabName::new(&args.lab)?, &NodeName::new(&args.node)?)?;
    Ok(Ending::Well)
}

/// Becomes the command.
pub(super) fn become_command(args: &BecomeArgs) -> Result<Ending, CallError> {
    let birth = serde_json::from_str(&args.birth).map_err(|error| {
        CallError::usage(
            format!("this is nothing to be born with: {error}"),
            "run a command in a node with `ovsns exec NODE -- CMD`",
        )
    })?;
    let source = birth::become_command(&birth, &args.command);
    Err(CallError::command(source))
}
