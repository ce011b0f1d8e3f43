//! Running a command in a node: the process becomes the command, so that its
//! terminal, its signals and its exit status need no passing on.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::error::KernelError;
use super::{laid, life, netns, observe, seal};
use crate::model::mark::Mark;
use crate::model::mark::netns as netns_name;
use crate::model::names::{LabName, NodeName};

/// Where files for namespaces are kept, as `ip netns exec` has it.
const FILES: &str = "/etc/netns";

/// The mark of the node in the namespace called `name`, if it is one of ours.
/// The calling thread goes there and comes back: keepers are found from home.
pub fn mark_of(name: &str) -> Result<Option<Mark>, KernelError> {
    let asked = "come home from a namespace";
    let home = fs::File::open("/proc/thread-self/ns/net");
    let home = home.map_err(|error| KernelError::from_io(asked, &error))?;
    let mark = if netns::enter(name)? { observe::mark_here(name) } else { Ok(None) };
    setns(&home, CloneFlags::CLONE_NEWNET).map_err(|errno| KernelError::new(asked, errno))?;
    mark
}

/// What came of entering a node.
#[derive(Debug)]
pub struct Entered {
    /// What could not be laid over, each as a clause.
    pub not_laid_over: Vec<KernelError>,
    /// Whether only a child of this process is quite inside: the node has
    /// processes of its own.
    pub children_only: bool,
}

/// Moves this process into a node, with all that is the node's own: its network,
/// and what its keeper holds, if it has one.
///
/// Only for a process that will become the command: no thread may go on
/// working for anybody else. A node that `had_keeper`, and has none any more,
/// cannot be entered: the command would be in another place than it thinks.
///
/// Like the first half of `ip netns exec NAME COMMAND`, or `nsenter`.
pub fn enter(
    lab: &LabName,
    node: &NodeName,
    had_keeper: impl Fn() -> bool,
) -> Result<Entered, KernelError> {
    if let Some(door) = life::door(lab, node)? {
        door.enter(lab, node)?;
        return Ok(Entered { not_laid_over: Vec::new(), children_only: door.own_processes });
    }
    if had_keeper() {
        return Err(KernelError::new(format!("enter node `{node}`"), Errno::EHOSTDOWN));
    }
    let name = netns_name(lab, node);
    if !netns::enter(&name)? {
        return Err(KernelError::new(format!("enter namespace `{name}`"), Errno::ENOENT));
    }
    Ok(Entered { not_laid_over: furnish(&name)?, children_only: false })
}

/// Gives this process, which is in the namespace called `name`, a mount
/// namespace as a node has it: `/sys` shows the namespace's devices, and the
/// files of `/etc/netns/NAME` lie over those of `/etc`.
///
/// Both for a process that becomes a command in a node without a mount namespace
/// of its own, and for the one that keeps such a namespace.
///
/// Returns what could not be laid over, each as a clause.
pub(super) fn furnish(name: &str) -> Result<Vec<KernelError>, KernelError> {
    let fail = |asked: String| move |errno: Errno| KernelError::new(asked, errno);
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| KernelError::of_namespace("make a mount namespace", errno))?;
    // What is mounted from here on is nobody else's business, but what others
    // mount outside still shows up here.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .map_err(fail("keep mounts to ourselves".into()))?;
    show_devices(name)?;
    let mut failed = laid::lay(name);
    // What a user has for this very node counts more.
    failed.extend(lay_over(&Path::new(FILES).join(name)));
    Ok(failed)
}

/// A sysfs shows the devices of the namespace it was mounted in; one of this
/// namespace goes over the one that is there.
fn show_devices(name: &str) -> Result<(), KernelError> {
    let fail = |errno| KernelError::new(format!("mount `/sys` of namespace `{name}`"), errno);
    // The control groups are mounted below `/sys`, and would be covered, too.
    let cgroups = Path::new("/sys/fs/cgroup");
    let kept = fs::File::open(cgroups).ok();
    mount(Some(name), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).map_err(fail)?;
    if let Some(kept) = kept {
        let source = format!("/proc/self/fd/{}", kept.as_raw_fd());
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        // A comfort that `ip netns exec` does not have; without it the
        // command still runs.
        let _ = mount(Some(source.as_str()), cgroups, None::<&str>, bind, None::<&str>);
    }
    Ok(())
}

/// Binds each file of `directory` over the one of `/etc` that it stands for.
/// One that has none there is told and passed over, as `ip netns exec` does:
/// the command is more important.
fn lay_over(directory: &Path) -> Vec<KernelError> {
    let mut failed = Vec::new();
    // Most namespaces have no directory.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (file, over) = (entry.path(), Path::new("/etc").join(entry.file_name()));
        let bound = mount(Some(&file), &over, None::<&str>, MsFlags::MS_BIND, None::<&str>);
        if let Err(errno) = bound {
            let asked = format!("lay `{}` over `{}`", file.display(), over.display());
            failed.push(KernelError::new(asked, errno));
        }
    }
    failed
}

/// Becomes the command, sealed where the node is, and so without sight of the
/// directory `state`, with some words more in its environment. Returns only if that
/// cannot be: ENOENT where there is no such command (a shell's 127), anything else
/// where it cannot be run (126).
pub fn become_command(
    command: &[OsString],
    environment: &[(&str, &str)],
    state: &Path,
) -> KernelError {
    let Some((program, arguments)) = command.split_first() else {
        return KernelError::new("run a command", Errno::ENOENT);
    };
    if let Err(error) = seal::seal_here(state) {
        return error;
    }
    // Unlike execvp(3) alone this puts back what Rust's start has changed: a
    // command of ours must die of a closed pipe like any other.
    let error = Command::new(program).args(arguments).envs(environment.iter().copied()).exec();
    KernelError::from_io(format!("run `{}`", program.to_string_lossy()), &error)
}
