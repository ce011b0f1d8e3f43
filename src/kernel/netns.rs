//! Named namespaces, kept as `ip netns` keeps them: a bind mount of the
//! namespace's file under `/run/netns` (`ip-netns(8)`), so that all that a
//! user knows works inside ours.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::unistd::linkat;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::error::KernelError;

/// Where names of namespaces are. `ip` writes here whatever mount namespace
/// it runs in, and so do we.
pub const DIRECTORY: &str = "/run/netns";

/// The file of the namespace called `name`.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The names in use, each a namespace or somebody's plain file.
///
/// Like `ip netns list`.
pub fn list() -> Result<Vec<String>, KernelError> {
    let fail = |e: io::Error| KernelError::from_io(format!("read `{DIRECTORY}`"), &e);
    let entries = match fs::read_dir(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(fail)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not UTF-8 is nobody's of ours.
        if let Ok(name) = entry.map_err(fail)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The namespace called `name`, opened.
pub fn open(name: &str) -> Result<File, KernelError> {
    File::open(path(name)).map_err(|e| KernelError::from_io(format!("open namespace `{name}`"), &e))
}

/// Moves the calling thread into the namespace called `name`; says `false`,
/// and stays, if the name leads to no namespace, or nowhere any more.
pub(super) fn enter(name: &str) -> Result<bool, KernelError> {
    let netns = match open(name) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(false),
        other => other?,
    };
    match setns(netns.as_fd(), CloneFlags::CLONE_NEWNET) {
        Ok(()) => Ok(true),
        // Somebody's plain file, or one of ours that was cut off.
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(KernelError::new(format!("enter namespace `{name}`"), errno)),
    }
}

/// Makes the directory ready, as `ip netns` does: a mount point of its own
/// that is shared, so that a namespace named in one mount namespace can be
/// deleted in another.
pub fn prepare() -> Result<(), KernelError> {
    let asked = || format!("make `{DIRECTORY}` ready");
    let fail = |errno| KernelError::new(asked(), errno);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(DIRECTORY)
        .map_err(|e| KernelError::from_io(asked(), &e))?;
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, DIRECTORY, None::<&str>, flags, None::<&str>)
    };
    match share() {
        Ok(()) => Ok(()),
        // Not a mount point yet.
        Err(Errno::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(DIRECTORY), DIRECTORY, None::<&str>, flags, None::<&str>).map_err(fail)?;
            share().map_err(fail)
        }
        Err(errno) => Err(fail(errno)),
    }
}

/// Gives the namespace of the calling thread the name `name`. Until the
/// namespace is behind it, the file holds `mark`, so that a name that was cut
/// off half-way is known as ours.
///
/// Like the second half of `ip netns add NAME`.
pub fn name_mine(name: &str, mark: &str) -> Result<(), KernelError> {
    let asked = || format!("name a namespace `{name}` in `{DIRECTORY}`");
    let fail = |e: io::Error| KernelError::from_io(asked(), &e);
    let file = path(name);
    // Written without a name and linked when it is complete: no moment in
    // which it has the name and not the mark.
    let mut stub = OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_TMPFILE)
        .mode(0o444)
        .open(DIRECTORY)
        .map_err(fail)?;
    stub.write_all(mark.as_bytes()).map_err(fail)?;
    let unnamed = format!("/proc/self/fd/{}", stub.as_raw_fd());
    linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, &file, AtFlags::AT_SYMLINK_FOLLOW)
        .map_err(|errno| KernelError::new(asked(), errno))?;
    let mine = Some("/proc/thread-self/ns/net");
    mount(mine, &file, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| {
        // A name that leads nowhere is of no use; if it cannot be taken away
        // now, its mark says whose it is.
        let _ = fs::remove_file(&file);
        KernelError::new(asked(), errno)
    })
}

/// The longest mark: that of an adopted node has a path in it.
const MARK_BYTES_MAX: u64 = 1024;

/// What the file called `name` holds beneath the namespace that is mounted on
/// it: for a name of ours, the mark with which it was made. A copy of the
/// directory's mount has no other mounts on it (`open_tree(2)`, Linux 5.2).
pub fn mark_beneath(name: &str) -> Option<String> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let beneath = open_tree(rustix::fs::CWD, DIRECTORY, flags).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&beneath, name, flags, Mode::empty()).ok()?;
    let mut mark = String::new();
    File::from(file).take(MARK_BYTES_MAX).read_to_string(&mut mark).ok()?;
    Some(mark)
}

/// The mark in the file called `name`, if it is one that was cut off before
/// the namespace was behind it.
pub fn stub_mark(name: &str) -> Option<String> {
    // Whoever opened a pipe here has not cut anything off.
    let file = path(name);
    let plain = fs::symlink_metadata(&file)
        .is_ok_and(|m| m.is_file() && 0 < m.len() && m.len() < MARK_BYTES_MAX);
    plain.then(|| fs::read_to_string(&file).ok()).flatten()
}

/// Takes the name away. The namespace ends with its last process and socket.
///
/// Like `ip netns delete NAME`.
pub fn delete(name: &str) -> Result<(), KernelError> {
    let asked = || format!("delete namespace `{name}`");
    let file = path(name);
    match umount2(&file, MntFlags::MNT_DETACH) {
        // Not mounted: cut off between file and mount, or unmounted by hand.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(errno) => return Err(KernelError::new(asked(), errno)),
    }
    fs::remove_file(&file).map_err(|e| KernelError::from_io(asked(), &e))
}
