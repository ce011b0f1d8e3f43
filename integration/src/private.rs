//! Making a private world and entering it.
//!
//! Own file because the order matters and is easy to get wrong: namespaces are
//! entered by a process that has one thread, and a PID namespace is entered
//! only by the next child. So a test takes two processes: the first leaves the
//! machine's namespaces and starts the second, which is PID 1 of its world and
//! furnishes it. Nothing here runs in the process that a person started.

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::groups;
use crate::runner::{INSIDE, Skip, exit_with_skip};

/// Where a test keeps its own files. Below `/run`, which is private.
pub(crate) const SCRATCH: &str = "/run/world";

/// Leaves the machine's namespaces and starts `test` as PID 1 of new ones.
/// Returns that process's exit status as our own.
pub(crate) fn leave_the_machine(test: &str) -> ExitCode {
    die_with_parent();
    let world = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    match unshare(world) {
        Ok(()) => {}
        Err(Errno::EPERM) => {
            return exit_with_skip(&Skip(
                "a private world takes root (unshare: operation not permitted)".into(),
            ));
        }
        Err(cause) => panic!("could not unshare namespaces: {cause}"),
    }
    let program = std::env::current_exe().expect("the path of this program");
    let status = Command::new(program)
        .args([INSIDE, test])
        .env(groups::BASE, groups::base_for_new())
        .status()
        .expect("could not start PID 1 of the world");
    match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).expect("an exit status is a byte")),
        None => panic!("PID 1 of the world ended by a signal: {status}"),
    }
}

/// Makes the world that this process is PID 1 of fit to live in.
pub(crate) fn furnish() {
    die_with_parent();
    assert_eq!(std::process::id(), 1, "only PID 1 of a world furnishes it");
    let none: Option<&str> = None;
    // Whatever is mounted from here on stays here.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .expect("mounts made private");
    fresh("proc", "/proc").expect("a fresh /proc");
    // sysfs shows the network namespace of whoever mounted it.
    fresh("sysfs", "/sys").expect("a fresh /sys");
    fresh("tmpfs", "/run").expect("a fresh /run");
    std::fs::create_dir(SCRATCH).expect("a scratch directory");
    std::env::set_current_dir(SCRATCH).expect("the scratch directory to be there");
    nix::unistd::sethostname("world").expect("a host name of our own");
    raise_loopback().expect("loopback up");
}

fn fresh(kind: &str, place: &str) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Programs are copied into /run/world to be run by other users.
    let flags = if kind == "tmpfs" { MsFlags::MS_NOSUID | MsFlags::MS_NODEV } else { flags };
    let options = (kind == "tmpfs").then_some("mode=755");
    mount(Some(kind), place, Some(kind), flags, options)
}

/// Like `ip link set lo up`.
fn raise_loopback() -> io::Result<()> {
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

/// Has the kernel end this process when the one that started it is gone. The
/// end of PID 1 is the end of everything in its world, so no way of stopping
/// a test run leaves one behind.
fn die_with_parent() {
    prctl::set_pdeathsig(Signal::SIGKILL).expect("a signal on the parent's death");
}

/// Lays a copy of `/etc` over `/etc`, so that a test may write there.
pub(crate) fn own_etc() {
    // A world in a world has the machine's files, and not those of its maker.
    let _ = nix::mount::umount("/etc");
    let copy = Path::new(SCRATCH).join("etc");
    let copied = Command::new("cp").args(["-a", "/etc"]).arg(&copy).status();
    assert!(copied.is_ok_and(|status| status.success()), "could not copy /etc");
    let none: Option<&str> = None;
    mount(Some(&copy), "/etc", none, MsFlags::MS_BIND, none).expect("the copy over /etc");
}
