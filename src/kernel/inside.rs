//! Running a command in a node: the process becomes the command, so that its
//! terminal, its signals and its exit status need no passing on.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::error::KernelError;
use super::netns;

/// Where files for namespaces are kept, as `ip netns exec` has it.
const FILES: &str = "/etc/netns";

/// Moves this process into the namespace called `name`. It gets a mount
/// namespace of its own, in which `/sys` shows the namespace's devices and
/// the files of `/etc/netns/NAME` lie over those of `/etc`.
///
/// Only for a process that will become the command: no thread may go on
/// working for anybody else.
///
/// Like the first half of `ip netns exec NAME COMMAND`.
pub fn enter(name: &str) -> Result<(), KernelError> {
    let fail = |asked: String| move |errno: Errno| KernelError::new(asked, errno);
    let netns = netns::open(name)?;
    setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)
        .map_err(fail(format!("enter namespace `{name}`")))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(fail("make a mount namespace".into()))?;
    // What is mounted from here on is nobody else's business, but what others
    // mount outside still shows up here.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
        .map_err(fail("keep mounts to ourselves".into()))?;
    show_devices(name)?;
    lay_over(&Path::new(FILES).join(name))
}

/// A sysfs shows the devices of the namespace it was mounted in.
fn show_devices(name: &str) -> Result<(), KernelError> {
    let fail = |errno| KernelError::new(format!("mount `/sys` of namespace `{name}`"), errno);
    // The control groups are mounted below it and would be gone, too.
    let cgroups = Path::new("/sys/fs/cgroup");
    let kept = fs::File::open(cgroups).ok();
    let flags = MsFlags::empty();
    match umount2("/sys", MntFlags::MNT_DETACH) {
        // Where nothing is mounted there is nothing in the way. In a user
        // namespace the kernel keeps what it mounted for us, and lays over.
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM) => {}
        Err(errno) => return Err(fail(errno)),
    }
    mount(Some(name), "/sys", Some("sysfs"), flags, None::<&str>).map_err(fail)?;
    if let Some(kept) = kept {
        use std::os::fd::AsRawFd;
        let source = format!("/proc/self/fd/{}", kept.as_raw_fd());
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        // A comfort that `ip netns exec` does not have; without it the
        // command still runs.
        let _ = mount(Some(source.as_str()), cgroups, None::<&str>, bind, None::<&str>);
    }
    Ok(())
}

/// Binds each file of `directory` over the one of `/etc` that it stands for.
fn lay_over(directory: &Path) -> Result<(), KernelError> {
    // Most namespaces have none.
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let asked = || format!("read `{}`", directory.display());
        let entry = entry.map_err(|e| KernelError::from_io(asked(), &e))?;
        let over: PathBuf = Path::new("/etc").join(entry.file_name());
        mount(Some(&entry.path()), &over, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(
            |errno| {
                let asked = format!("lay `{}` over `{}`", entry.path().display(), over.display());
                KernelError::new(asked, errno)
            },
        )?;
    }
    Ok(())
}

/// Becomes the command, with some words more in its environment. Returns only
/// if that cannot be: ENOENT where there is no such command (a shell's 127),
/// anything else where it cannot be run (126).
pub fn become_command(command: &[OsString], environment: &[(&str, &str)]) -> KernelError {
    let Some((program, arguments)) = command.split_first() else {
        return KernelError::new("run a command", Errno::ENOENT);
    };
    // Unlike execvp(3) alone this puts back what Rust's start has changed: a
    // command of ours must die of a closed pipe like any other.
    let error = Command::new(program).args(arguments).envs(environment.iter().copied()).exec();
    KernelError::from_io(format!("run `{}`", program.to_string_lossy()), &error)
}
