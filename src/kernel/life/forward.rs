//! A command in a node with processes of its own. Only a child can be among those
//! (`setns(2)` moves the children of a process, never itself), so the process that
//! was started stays outside: it passes signals on, stops when the command stops,
//! and ends as it ended.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::birth::Birth;
use crate::kernel::error::KernelError;

/// Signals that are meant for the command. The rest either cannot be passed on,
/// or are this process's own.
const PASSED_ON: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGALRM,
];

/// Runs a command as a child, and returns its exit status, as a shell tells it.
/// If it was ended by a signal, so is this process.
pub fn run(
    birth: &Birth,
    command: &[OsString],
    environment: &[(&str, &str)],
) -> Result<u8, KernelError> {
    let fail = |asked: &'static str| move |errno: Errno| KernelError::new(asked, errno);
    let mut heard = SigSet::empty();
    PASSED_ON.into_iter().for_each(|signal| heard.add(signal));
    heard.add(Signal::SIGCHLD);
    // The child has them blocked, too, until it becomes the command.
    heard.thread_block().map_err(fail("hold back signals"))?;
    let signals =
        SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC).map_err(fail("hear signals"))?;
    let birth = serde_json::to_string(birth).expect("our own types have no odd keys");
    let mut program = Command::new("/proc/self/exe");
    program.arg0("ovsns").args(["become", &birth, "--"]).args(command);
    program.envs(environment.iter().copied());
    let started = |error: io::Error| KernelError::from_io("start a command in the node", &error);
    let child = program.spawn().map_err(started)?;
    let child =
        Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other).map_err(started)?);
    loop {
        let Some(signal) = signals.read_signal().map_err(fail("hear signals"))? else { continue };
        let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
        let Ok(number) = Signal::try_from(number) else { continue };
        if number != Signal::SIGCHLD {
            // What the terminal sends (`SI_KERNEL`) goes to the whole group, and
            // the command has it already.
            if signal.ssi_code <= 0 {
                let _ = kill(child, number);
            }
            continue;
        }
        match waitpid(child, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(u8::try_from(status).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                let _ = SigSet::empty().thread_set_mask();
                let _ = raise(signal);
                // It is not deadly to us.
                return Ok(128 + u8::try_from(signal as i32).unwrap_or_default());
            }
            Ok(WaitStatus::Stopped(..)) => {
                // Whoever waits for us sees that, and wakes both.
                let _ = raise(Signal::SIGSTOP);
                let _ = kill(child, Signal::SIGCONT);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(KernelError::new("wait for the command", errno)),
        }
    }
}
