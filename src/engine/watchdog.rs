//! The watchdog: a process that brings NICs home if the one that changes them
//! dies, hangs, or is not confirmed.
//!
//! It is this program again, in a session of its own, so that the end of an ssh
//! connection does not take it along, and at the other end of a line from the
//! command: the kernel closes that whatever the command dies of. What to do it
//! reads from the state directory; the lab's lock decides between it and
//! everybody else who would.
//!
//! If it is killed as well, the next command of any kind does its work.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::state::{Held, State, StateError};
use super::{Engine, EngineError};
use crate::kernel::cut_short;
use crate::model::names::LabName;

/// How long it may take to be there.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long a command may take that does not say anything.
const SILENT_WITHIN: Duration = Duration::from_secs(180);
/// How often it tries to bring NICs home that do not come.
const TRIES_MAX: u32 = 10;

/// What it says when it watches.
const READY: u8 = b'r';
/// The words of a command to its watchdog.
const DISMISSED: u8 = b'd';
const WAIT: u8 = b'w';

/// The command's side.
#[derive(Debug)]
pub(super) struct Watchdog {
    line: Option<UnixStream>,
    child: Child,
}

impl Watchdog {
    /// Starts it for a lab whose change is about to be written down, and returns when it
    /// watches.
    pub(super) async fn start(state: &State, lab: &LabName) -> io::Result<Self> {
        let (mut ours, its) = UnixStream::pair()?;
        let its = its.into_std()?;
        its.set_nonblocking(false)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("ovsns").args(["keep-nic", "--lab", lab.as_str()]);
        command.env("OVSNS_STATE_DIR", std::path::absolute(state.directory())?);
        command.stdin(OwnedFd::from(its)).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir("/");
        cut_short::spare(&mut command);
        let child = command.spawn()?;
        // Its own end must not stay open here, or its death would not be heard.
        drop(command);
        match timeout(READY_WITHIN, ours.read_u8()).await {
            Ok(Ok(_)) => Ok(Self { line: Some(ours), child }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Tells it that there is nothing left to watch, and awaits its end.
    pub(super) async fn dismiss(&mut self) {
        if let Some(mut line) = self.line.take() {
            // One that was killed needs not be told.
            let _ = line.write_all(&[DISMISSED]).await;
        }
        // It has nothing left to do that could take long.
        let _ = timeout(READY_WITHIN, self.child.wait()).await;
    }

    /// Tells it that all was done, and has to be confirmed within so many
    /// seconds.
    pub(super) async fn wait_for_confirmation(&mut self, seconds: u64) -> io::Result<()> {
        let Some(mut line) = self.line.take() else { return Ok(()) };
        line.write_all(&[WAIT]).await?;
        line.write_u64(seconds).await?;
        // The end of the line is no end of the command from here on; that it was
        // heard is known when the other end is closed.
        line.shutdown().await
    }
}

/// Wakes the watchdog that listens at `path`. Says whether there is one.
pub(super) fn wake(path: &Path) -> bool {
    let woken = UnixDatagram::unbound().and_then(|socket| socket.send_to(&[0], path));
    woken.is_ok()
}

/// Where it listens, for as long as it lives.
struct Bed(PathBuf);

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Is the watchdog of a lab, until there is nothing left to watch. It must have
/// a session of its own by now.
///
/// # Errors
/// What could not be brought home.
pub async fn watch(state: &State, lab: &LabName) -> Result<(), EngineError> {
    let failed = |source: io::Error| EngineError::NoWatchdog(source);
    // Who is told to go and does not know it is not ended by it.
    let mut hangups = signal(SignalKind::hangup()).map_err(failed)?;
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut quits = signal(SignalKind::quit()).map_err(failed)?;
    let mut ends = signal(SignalKind::terminate()).map_err(failed)?;
    let path = state.watch(lab);
    let _ = std::fs::remove_file(&path);
    let socket = tokio::net::UnixDatagram::bind(&path).map_err(failed)?;
    let bed = Bed(path);
    let parent = nix::unistd::getppid();
    let input = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let input = std::os::unix::net::UnixStream::from(input);
    input.set_nonblocking(true).map_err(failed)?;
    let mut line = UnixStream::from_std(input).map_err(failed)?;
    line.write_all(&[READY]).await.map_err(failed)?;
    let mut until = Instant::now() + SILENT_WITHIN;
    let mut confirming = false;
    let mut note = [0; 8];
    loop {
        tokio::select! {
            word = hear(&mut line), if !confirming => match word {
                Some(Word::Dismissed) => return Ok(()),
                Some(Word::Wait(seconds)) => {
                    until = Instant::now() + Duration::from_secs(seconds);
                    confirming = true;
                }
                None => break,
            },
            _ = socket.recv(&mut note) => {
                // Somebody asks whether it lives, or has decided.
                if is_decided(state, lab) {
                    return Ok(());
                }
            }
            _ = sleep_until(until) => break,
            _ = ends.recv() => break,
            _ = hangups.recv() => {}
            _ = interrupts.recv() => {}
            _ = quits.recv() => {}
        }
    }
    if !confirming && Instant::now() >= until {
        // It hangs, and would go on where it stopped. Its end of the line is
        // open, so this is still its number.
        let _ = nix::sys::signal::kill(parent, nix::sys::signal::Signal::SIGKILL);
    }
    let brought = bring_home(state, lab).await;
    drop(bed);
    brought
}

enum Word {
    Dismissed,
    Wait(u64),
}

/// What the command says; `None` if it died.
async fn hear(line: &mut UnixStream) -> Option<Word> {
    match line.read_u8().await.ok()? {
        DISMISSED => Some(Word::Dismissed),
        WAIT => Some(Word::Wait(line.read_u64().await.ok()?)),
        _ => None,
    }
}

fn is_decided(state: &State, lab: &LabName) -> bool {
    state.attachments(lab).is_ok_and(|attached| attached.change.is_none())
}

async fn bring_home(state: &State, lab: &LabName) -> Result<(), EngineError> {
    let command = "ovsns watchdog";
    let held: Held = loop {
        match state.lock(lab, command) {
            Ok(held) => break held,
            // By a command that dies just now, or by another that minds the
            // same lab and has to end first.
            Err(StateError::Locked { .. }) => sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error.into()),
        }
        if is_decided(state, lab) {
            return Ok(());
        }
    };
    let mut tries = 0;
    loop {
        let taken_back = async {
            let mut engine = Engine::open(command).await?;
            let taken_back = engine.take_change_back(&held, lab).await;
            engine.leave(taken_back).await
        };
        tries += 1;
        match taken_back.await {
            Err(_) if tries < TRIES_MAX => sleep(Duration::from_secs(1)).await,
            other => return other,
        }
    }
}
