//! `ovsns exec` and `ovsns shell`

use std::ffi::OsString;

use nix::errno::Errno;

use super::input::{NodeWords, allowed};
use super::{CallError, Ending, show};
use crate::engine::state::State;
use crate::kernel::inside;
use crate::kernel::life::birth::Birth;
use crate::kernel::life::{self, forward};
use crate::kernel::permissions::{self, Capability};

/// Run a command in a node
///
/// The command takes this process's place: terminal, signals and exit status
/// are its own. It sees the node's devices in `/sys`, and the files of
/// `/etc/netns/LAB.NODE/` over those of `/etc`; where the node has a host name,
/// files, processes or limits of its own, those. `OVSNS_LAB` and `OVSNS_NODE`
/// say where it runs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns exec n1 -- ip address\n         ovsns exec two-nodes/n1 -- ping -c 1 10.0.0.2"
)]
pub(super) struct Args {
    /// The node: NODE, or LAB/NODE
    node: String,
    /// The lab, where several have a node of that name
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Open a shell in a node
///
/// Runs `$SHELL`, or `/bin/sh`, as `ovsns exec` does.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns shell n1")]
pub(super) struct ShellArgs {
    /// The node: NODE, or LAB/NODE
    node: String,
    /// The lab, where several have a node of that name
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<Ending, CallError> {
    become_command(&NodeWords::new(&args.node, args.lab.as_deref())?, &args.command)
}

pub(super) fn shell(args: &ShellArgs) -> Result<Ending, CallError> {
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
    let shell = shell.unwrap_or_else(|| "/bin/sh".into());
    become_command(&NodeWords::new(&args.node, args.lab.as_deref())?, &[shell])
}

fn become_command(words: &NodeWords, command: &[OsString]) -> Result<Ending, CallError> {
    allowed(&[Capability::SysAdmin])?;
    let (lab, node) = (words.find()?, &words.node);
    // It leads into the machine's own files, as long as they can be seen.
    let state = State::from_environment();
    let logs = life::logs(&state.labs_directory(), &lab, node);
    let state = state.directory().to_owned();
    let entered = inside::enter(&lab, node, || logs.is_dir()).map_err(|error| {
        // Only who enters mounts that somebody else holds needs it.
        match permissions::missing(&[Capability::SysChroot]) {
            missing if error.errno == Errno::EPERM && !missing.is_empty() => {
                CallError::NotAllowed(missing)
            }
            _ => error.into(),
        }
    })?;
    for not_laid_over in entered.not_laid_over {
        show::talk(&format!("warning: {not_laid_over}"));
    }
    let names = [("OVSNS_LAB", lab.as_str()), ("OVSNS_NODE", node.as_str())];
    if entered.children_only {
        let (lab, node) = (lab.clone(), node.clone());
        let birth = Birth { lab, node, detached: false, user: None, directory: None, state };
        return Ok(Ending::Status(forward::run(&birth, command, &names)?));
    }
    Err(CallError::command(inside::become_command(command, &names, &state)))
}
