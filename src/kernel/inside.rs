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
use nix::sched::{CloneFlags, unshare};

use super::error::KernelError;
use super::{laid, netns, observe, seal};
use crate::model::mark::Mark;

/// Where files for namespaces are kept, as `ip netns exec` has it.
const FILES: &str = "/etc/netns";

/// The mark of the node in the namespace called `name`, if it is one of ours.
/// The calling thread moves into that namespace, and stays there.
pub fn mark_of(name: &str) -> Result<Option<Mark>, KernelError> {
    if netns::enter(name)? { observe::mark_here(name) } else { Ok(None) }
}

/// Moves this process into the node in the namespace called `name`, with all
/// that is the node's own.
///
/// Only for a process that will become the command: no thread may go on
/// working for anybody else.
///
/// Returns what could not be laid over, each as a clause.
///
/// Like the first half of `ip netns exec NAME COMMAND`.
pub fn enter(name: &str) -> Result<Vec<KernelError>, KernelError> {
    if !netns::enter(name)? {
        return Err(KernelError::new(format!("enter namespace `{name}`"), Errno::ENOENT));
    }
    furnish(name)
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
    unshare(CloneFlags::CLONE_NEWNS).map_err(fail("make a mount namespace".into()))?;
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

/// Becomes the command, sealed where the node is, with some words more in its environment. Returns only
/// if that cannot be: ENOENT where there is no such command (a shell's 127),
/// anything else where it cannot be run (126).
pub fn become_command(command: &[OsString], environment: &[(&str, &str)]) -> KernelError {
    let Some((program, arguments)) = command.split_first() else {
        return KernelError::new("run a command", Errno::ENOENT);
    };
    if let Err(error) = seal::seal_here() {
        return error;
    }
    // Unlike execvp(3) alone this puts back what Rust's start has changed: a
    // command of ours must die of a closed pipe like any other.
    let error = Command::new(program).args(arguments).envs(environment.iter().copied()).exec();
    KernelError::from_io(format!("run `{}`", program.to_string_lossy()), &error)
}
