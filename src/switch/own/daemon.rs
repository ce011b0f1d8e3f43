//! One daemon: started or adopted, watched, ended.
//!
//! A process is held by a pidfd, which means this process and no other that
//! gets its number later, is readable when it has ended, and works for one that
//! is no child of ours as well.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, Signal as RustixSignal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::beside::{self, MARK};
use super::place::{self, Place};
use super::programs::Programs;
use crate::model::names::IfName;

/// A daemon that lived less than this has not come up.
const SOON: Duration = Duration::from_secs(1);
/// The pause before one that has not come up is started again, doubling.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long one has to end after SIGTERM, and after SIGKILL.
const END_WITHIN: Duration = Duration::from_secs(5);

/// One of the two daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// `ovsdb-server`
    Server,
    /// `ovs-vswitchd`
    Switch,
}

impl Which {
    /// Both, in the order in which they are started.
    pub const ALL: [Self; 2] = [Self::Server, Self::Switch];

    /// Its name, and that of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "ovsdb-server",
            Self::Switch => "ovs-vswitchd",
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A daemon that is to run, and is started again when it ends.
#[derive(Debug)]
pub(super) struct Daemon {
    which: Which,
    life: Life,
    patience: Patience,
    /// How often it was started again.
    pub(super) restarts: u32,
}

#[derive(Debug)]
enum Life {
    /// It is not to run now.
    Stopped,
    /// It runs.
    Runs(Process),
    /// It ended, and is to be started again then.
    Waits(Instant),
}

/// What happens to a daemon.
#[derive(Debug)]
pub(super) enum Turn {
    /// It ended.
    Died {
        /// Its process.
        pid: u32,
        /// How, as the end of a sentence.
        how: String,
        /// Whether it had not even come up.
        soon: bool,
        /// How long until it is started again.
        pause: Duration,
    },
    /// It is time to start it again.
    Due,
}

impl Daemon {
    /// One that does not run yet.
    pub(super) fn stopped(which: Which) -> Self {
        Self { which, life: Life::Stopped, patience: Patience::default(), restarts: 0 }
    }

    /// Takes over a process of ours whose keeper is gone. `false` if it is
    /// gone, too.
    pub(super) fn adopt(&mut self, pid: u32) -> bool {
        let process = Process::adopt(pid);
        // Asked again now that the pidfd keeps the number from being another's.
        let is_it = beside::is_daemon(pid) == Some(self.which) && beside::mark_of(pid).is_some();
        match process {
            Ok(process) if is_it => {
                // Its keeper may have been killed between stopping and killing it.
                let _ = pidfd_send_signal(process.pidfd.get_ref(), RustixSignal::CONT);
                self.life = Life::Runs(process);
                true
            }
            _ => false,
        }
    }

    /// Starts it in `directory`; tries later if it cannot be started now.
    pub(super) fn start(&mut self, programs: &Programs, directory: &Path) -> io::Result<u32> {
        let started =
            self.command(programs, directory).and_then(|mut command| Process::start(&mut command));
        let process = started.inspect_err(|_| self.try_later())?;
        let pid = process.pid;
        self.life = Life::Runs(process);
        self.link_for_appctl(directory, pid);
        Ok(pid)
    }

    /// Like `ovsdb-server CONF.DB --remote=... --pidfile ...`, or
    /// `ovs-vswitchd unix:DB.SOCK --pidfile ...`, without `--detach`.
    fn command(&self, programs: &Programs, directory: &Path) -> io::Result<Command> {
        let at = |name: &str| directory.join(name).display().to_string();
        let log = place::log(directory, self.which);
        // What a daemon says before it has opened its log.
        let early = Place::open_log(&log)?;
        let mut command = match self.which {
            Which::Server => {
                let mut command = Command::new(&programs.server);
                command
                    .arg(at("conf.db"))
                    .arg(format!("--remote=punix:{}", place::db(directory).display()))
                    // So that `ovs-vsctl set-manager` works as usual.
                    .arg("--remote=db:Open_vSwitch,Open_vSwitch,manager_options");
                command
            }
            Which::Switch => {
                let mut command = Command::new(&programs.switch);
                command.arg(format!("unix:{}", place::db(directory).display()));
                command
            }
        };
        command
            .arg(format!("--pidfile={}", at(&format!("{}.pid", self.which))))
            .arg(format!("--log-file={}", log.display()))
            .arg(format!("--unixctl={}", place::ctl(directory, self.which).display()))
            .args(["-vconsole:off", "-vsyslog:off"])
            .env(MARK, directory)
            .envs(
                ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"]
                    .map(|name| (format!("OVS_{name}"), directory)),
            )
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(early.try_clone()?)
            .stderr(early);
        Ok(command)
    }

    /// `ovs-appctl` and its like look for `NAME.PID.ctl` in `$OVS_RUNDIR`.
    /// With that name beside the one that stays, one variable makes all tools
    /// of Open vSwitch work on ours.
    fn link_for_appctl(&self, directory: &Path, pid: u32) {
        let start = format!("{}.", self.which);
        let is_old = |name: &str| {
            let middle = name.strip_prefix(&start).and_then(|rest| rest.strip_suffix(".ctl"));
            middle.is_some_and(|middle| middle.parse::<u32>().is_ok())
        };
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_old) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        // A comfort, without which everything works.
        let link = directory.join(format!("{}.{pid}.ctl", self.which));
        let _ = std::os::unix::fs::symlink(format!("{}.ctl", self.which), link);
    }

    /// Has it started again after a pause, unless it runs.
    pub(super) fn try_later(&mut self) {
        if self.pid().is_none() {
            let pause = self.patience.after(Duration::ZERO);
            self.life = Life::Waits(Instant::now() + pause);
        }
    }

    /// Its process, if it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.life {
            Life::Runs(process) => Some(process.pid),
            Life::Stopped | Life::Waits(_) => None,
        }
    }

    /// Awaits what happens to it next. May be dropped and called again.
    pub(super) async fn turn(&mut self) -> Turn {
        match &mut self.life {
            Life::Stopped => std::future::pending().await,
            Life::Waits(until) => {
                sleep_until(*until).await;
                Turn::Due
            }
            Life::Runs(process) => {
                let how = process.ended().await;
                let (pid, lived) = (process.pid, process.lived());
                let pause = self.patience.after(lived);
                self.life = Life::Waits(Instant::now() + pause);
                Turn::Died { pid, how, soon: lived < SOON, pause }
            }
        }
    }

    /// Ends it, and awaits its end: SIGTERM, and SIGKILL for one that does not
    /// care.
    pub(super) async fn stop(&mut self) {
        if let Life::Runs(mut process) = std::mem::replace(&mut self.life, Life::Stopped) {
            for signal in [RustixSignal::TERM, RustixSignal::KILL] {
                // It may have ended just now.
                let _ = pidfd_send_signal(process.pidfd.get_ref(), signal);
                if timeout(END_WITHIN, process.ended()).await.is_ok() {
                    return;
                }
            }
        }
    }

    /// Kills it, and awaits that it does nothing of its own any more. What it
    /// held, the kernel takes back in its own time; all but taps, which outlive
    /// it, and are returned.
    pub(super) async fn kill(&mut self) -> BTreeSet<IfName> {
        let mut taps = BTreeSet::new();
        if let Life::Runs(mut process) = std::mem::replace(&mut self.life, Life::Stopped) {
            // It may be making one just now.
            let _ = pidfd_send_signal(process.pidfd.get_ref(), RustixSignal::STOP);
            let stands_still = async {
                while !stands_still(process.pid) {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            let _ = timeout(END_WITHIN, stands_still).await;
            taps = taps_of(process.pid);
            let _ = pidfd_send_signal(process.pidfd.get_ref(), RustixSignal::KILL);
            // A process that dies gives up its memory, and the program in it,
            // before it closes its files. Nothing tells of that; its pidfd
            // tells of the end of it all.
            let program = format!("/proc/{}/exe", process.pid);
            let undead = async {
                while std::fs::read_link(&program).is_ok() {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            let died = async {
                tokio::select! {
                    _ = process.ended() => {}
                    () = undead => {}
                }
            };
            let _ = timeout(END_WITHIN, died).await;
        }
        taps
    }

    /// Awaits its end after it was asked for in another way. Says whether it
    /// came in time.
    pub(super) async fn ends_within(&mut self, time: Duration) -> bool {
        let Life::Runs(process) = &mut self.life else { return true };
        let ended = timeout(time, process.ended()).await.is_ok();
        if ended {
            self.life = Life::Stopped;
        }
        ended
    }
}

/// Whether no thread of a process runs: stopped, or dead (proc_pid_stat(5)).
fn stands_still(pid: u32) -> bool {
    let stats = files(&format!("/proc/{pid}/task")).map(|task| task.join("stat"));
    let states = stats.filter_map(|stat| {
        let text = std::fs::read_to_string(stat).ok()?;
        // The name before it may have spaces.
        text.rsplit_once(") ")?.1.chars().next()
    });
    states.into_iter().all(|state| matches!(state, 'T' | 'Z' | 'X'))
}

/// The taps that a process has open: `iff: NAME` in `/proc/PID/fdinfo`.
fn taps_of(pid: u32) -> BTreeSet<IfName> {
    let is_tap = |file: &PathBuf| {
        std::fs::read_link(file).is_ok_and(|opened| opened == Path::new("/dev/net/tun"))
    };
    let open = files(&format!("/proc/{pid}/fd")).filter(is_tap);
    let names = open.filter_map(|file| {
        let info = Path::new("/proc").join(pid.to_string()).join("fdinfo").join(file.file_name()?);
        let info = std::fs::read_to_string(info).ok()?;
        IfName::new(info.lines().find_map(|line| line.strip_prefix("iff:"))?.trim()).ok()
    });
    names.collect()
}

fn files(directory: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.flatten().map(|entry| entry.path())
}

/// A process that has not been waited for.
#[derive(Debug)]
struct Process {
    pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    /// Of one that we started ourselves.
    child: Option<Child>,
    since: Instant,
}

/// One that was adopted came up before, however long ago.
const LONG: Duration = Duration::from_secs(3600);

impl Process {
    fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        // A child that has not been waited for keeps its number.
        match Self::open(child.id()) {
            Ok(process) => Ok(Self { child: Some(child), ..process }),
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    }

    fn adopt(pid: u32) -> io::Result<Self> {
        Self::open(pid)
    }

    fn open(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())?;
        // Deprecated for what may close its file behind tokio's back; an
        // `OwnedFd` cannot, and the way that came instead is an unsafe one.
        #[allow(deprecated)]
        let pidfd = AsyncFd::new(pidfd)?;
        Ok(Self { pid, pidfd, child: None, since: Instant::now() })
    }

    fn lived(&self) -> Duration {
        if self.child.is_some() { self.since.elapsed() } else { LONG }
    }

    /// Awaits its end, and says how it came. May be dropped and called again.
    async fn ended(&mut self) -> String {
        // A pidfd stays readable once it is.
        let _ = self.pidfd.readable().await;
        match self.child.as_mut().map(Child::wait) {
            Some(Ok(status)) => in_words(status),
            Some(Err(_)) | None => "ended".to_owned(),
        }
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal().and_then(|number| Signal::try_from(number).ok())) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// How long to wait before a daemon is started again: not at all, unless it
/// ends as soon as it is started.
#[derive(Debug, Default)]
struct Patience {
    last: Duration,
}

impl Patience {
    fn after(&mut self, lived: Duration) -> Duration {
        self.last = match lived < SOON {
            true => (self.last * 2).clamp(PAUSE_MIN, PAUSE_MAX),
            false => Duration::ZERO,
        };
        self.last
    }
}

/// Runs a short-lived program to its end, and no longer than that is good for.
pub(super) async fn run(command: &mut Command, within: Duration, log: &Path) -> io::Result<bool> {
    let said = OpenOptions::new().append(true).create(true).open(log)?;
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    let mut process = Process::start(command)?;
    if timeout(within, process.ended()).await.is_err() {
        let _ = pidfd_send_signal(process.pidfd.get_ref(), RustixSignal::KILL);
        process.ended().await;
        return Ok(false);
    }
    // Waited for already; the child remembers.
    let child = process.child.as_mut().expect("it was started here");
    child.wait().map(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience() {
        let mut patience = Patience::default();
        let mut check = |lived_ms, pause_ms| {
            let pause = patience.after(Duration::from_millis(lived_ms));
            assert_eq!(pause, Duration::from_millis(pause_ms), "after {lived_ms} ms");
        };
        check(60_000, 0);
        check(999, 100);
        check(0, 200);
        check(0, 400);
        for pause in [800, 1600, 3200, 6400, 10_000, 10_000] {
            check(5, pause);
        }
        check(1000, 0);
        check(10, 100);
    }
}
