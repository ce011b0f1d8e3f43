//! An Open vSwitch of our own: `ovsdb-server` and `ovs-vswitchd` of the
//! distribution, with a directory, a keeper and a life time of their own.
//!
//! This file is the side of commands: find it, have it started, use it, leave
//! it. `keeper` is the process behind it, `wire` what the two say to each
//! other. It lives in `switch` because it is how one kind of switch comes to be
//! on a machine that has none, and nothing outside this room starts processes
//! for it; what is on it is the business of the backend.
//!
//! **One in a network namespace.** The keeper listens at an abstract Unix
//! socket, `@ovsns-ovs`, whose name belongs to the network namespace and can be
//! taken only once: it is the lock of those who would start it, and how it is
//! found after its directory was deleted. Beside an Open vSwitch of somebody
//! else's it is never started.
//!
//! **For as long as it is needed.** A connection to the keeper is what keeps
//! it: who has a [`Running`] needs it, and who is killed needs it no more. When
//! the last connection ends and no bridge is in the database, the keeper ends
//! both daemons, deletes the directory and ends itself. A lock file would have
//! to be deleted by the last one to leave, under the feet of the next one to
//! come, and be held by nobody when it is deleted by somebody; a connection
//! leaves nothing.
//!
//! **Private.** The directory is `ovs` below the state directory, 0700, and all
//! files of both daemons are in it. With `OVS_RUNDIR` set to it, the tools of
//! Open vSwitch talk to ours: `ovs-vsctl show`, `ovs-appctl fdb/show b`,
//! `ovs-ofctl dump-flows b`.

mod beside;
mod daemon;
mod database;
mod error;
pub mod keeper;
mod log;
mod peers;
mod place;
mod programs;
mod wire;

use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::Instant;

pub use daemon::Which;
pub use error::OwnError;
pub use programs::Missing;

use beside::Orphans;
use place::Namespace;
use programs::Programs;
use wire::{Ask, Line, Lost, Tell};

/// What must hold for any message to or from the keeper (see `crate::fuzzing`).
pub(super) fn fuzz(input: &[u8]) {
    crate::model::fuzzing::equal::<wire::Ask>(input);
    crate::model::fuzzing::equal::<wire::Tell>(input);
}

/// The abstract socket of the keeper of a network namespace.
pub const ADDRESS: &str = "ovsns-ovs";
/// How long a command waits until Open vSwitch is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a command waits until it is gone: a bridge takes 35 ms to delete.
const GONE_WITHIN: Duration = Duration::from_secs(90);
/// How many keepers may end before ours is ready.
const ROUNDS_MAX: u32 = 20;
/// How many lines of each log a report has.
const LOG_LINES: usize = 8;

/// The Open vSwitch of our own in this network namespace, whether it runs or
/// not.
#[derive(Debug, Clone)]
pub struct Own {
    directory: PathBuf,
}

/// How it is to be started, if it does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOptions {
    /// Whether the userspace datapath does TSO, which makes it fast and the
    /// default offloads of nodes work, and breaks TCP through tunnels. It
    /// cannot be changed while it runs; a database that is found keeps what
    /// was chosen for it.
    pub tso: bool,
    /// Whether it stays without any bridge, until it is told to stop.
    pub keep: bool,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { tso: true, keep: false }
    }
}

/// What the keeper says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The keeper's process.
    pub keeper: u32,
    /// Where everything is.
    pub directory: PathBuf,
    /// The process of `ovsdb-server`, if it runs.
    pub server: Option<u32>,
    /// The process of `ovs-vswitchd`, if it runs.
    pub switch: Option<u32>,
    /// Whether the switch has applied its database.
    pub ready: bool,
    /// Whether something in the directory was deleted, which whoever uses it
    /// next has mended.
    pub damaged: bool,
    /// The version of the switch, once it is ready.
    pub version: Option<String>,
    /// Whether the switch does userspace TSO.
    pub tso: bool,
    /// Whether it stays without any bridge.
    pub kept: bool,
    /// How many commands use it.
    pub users: usize,
    /// How often a daemon was started again.
    pub restarts: u32,
}

/// Open vSwitch that runs, and goes on as long as this is there.
#[derive(Debug)]
pub struct Running {
    /// The socket of its database, for `unix:PATH`.
    pub db: PathBuf,
    /// The control socket of its switch, for `ovs-appctl -t PATH`.
    pub vswitchd_ctl: PathBuf,
    /// Its directory, for `OVS_RUNDIR`: `BRIDGE.mgmt` is there, too.
    pub rundir: PathBuf,
    /// Its version.
    pub version: Option<String>,
    /// Whether its switch does userspace TSO.
    pub tso: bool,
    /// Its keeper's process.
    pub keeper: u32,
    line: Line,
}

/// What became of it when a command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Nothing of it is left.
    Stopped,
    /// It goes on, and why.
    Stays(String),
}

/// How it stands, for `ovsns doctor`. Looking changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it takes and is not installed.
    pub missing: Option<Missing>,
    /// How it stands.
    pub state: State,
    /// The last lines of each log, by its name, if there is a log.
    pub logs: Vec<(String, Vec<String>)>,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is none.
    Absent,
    /// It has a keeper.
    Kept(Facts),
    /// Its keeper was killed; the next command that uses it mends that.
    Abandoned(PathBuf),
    /// It cannot be told.
    Unknown(OwnError),
}

impl Report {
    /// Whether something is wrong with it that should not be. Not to be there
    /// is nothing wrong.
    pub fn is_wrong(&self) -> bool {
        match &self.state {
            State::Absent => false,
            State::Kept(facts) => !facts.ready || facts.damaged,
            State::Abandoned(_) | State::Unknown(_) => true,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Absent => f.write_str("there is none")?,
            State::Kept(facts) => write!(f, "{facts}")?,
            State::Abandoned(directory) => {
                let directory = directory.display();
                write!(f, "its keeper is gone; the next command that uses it mends `{directory}`")?;
            }
            State::Unknown(error) => write!(f, "{error}")?,
        }
        match &self.missing {
            Some(missing) => write!(f, "; there is no {missing}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = |pid: Option<u32>| pid.map_or("does not run".into(), |pid| pid.to_string());
        write!(
            f,
            "{}{}{} in `{}`: keeper {}, {} {}, {} {}, {} TSO, {} users, {} restarts",
            if self.ready { "ready" } else { "not ready" },
            if self.damaged { ", damaged" } else { "" },
            if self.kept { ", to stay" } else { "" },
            self.directory.display(),
            self.keeper,
            Which::Server,
            process(self.server),
            Which::Switch,
            process(self.switch),
            if self.tso { "with" } else { "without" },
            self.users,
            self.restarts,
        )
    }
}

impl Own {
    /// The one whose directory is below `state`.
    pub fn of(state: &Path) -> Self {
        // The keeper works elsewhere.
        let state = std::path::absolute(state).unwrap_or_else(|_| state.to_owned());
        Self { directory: state.join("ovs") }
    }

    /// Its directory, whether it is there or not.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether what it takes is installed.
    pub fn missing() -> Option<Missing> {
        match Programs::find() {
            Err(OwnError::Missing(missing)) => Some(missing),
            Ok(_) | Err(_) => None,
        }
    }

    /// Uses it, if there is one. One whose keeper or daemons were killed or
    /// whose directory was deleted is mended first.
    pub async fn running(&self) -> Result<Option<Running>, OwnError> {
        let until = Instant::now() + READY_WITHIN;
        match self.hold(false, until).await? {
            Some(running) => Ok(Some(running)),
            None if self.abandoned()?.is_some() => {
                self.start_until(StartOptions::default(), until).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Uses it; if there is none, it is started.
    ///
    /// Like `ovs-ctl start`, in a directory of our own.
    pub async fn start(&self, options: StartOptions) -> Result<Running, OwnError> {
        self.start_until(options, Instant::now() + READY_WITHIN).await
    }

    /// Stops it, whatever is on it; says whether there was one.
    ///
    /// Like `ovs-ctl stop`, and nothing of it is left.
    pub async fn stop(&self) -> Result<bool, OwnError> {
        // Each round is a keeper that ended by itself.
        for _ in 0..ROUNDS_MAX {
            let line = match Line::connect().await? {
                Some(line) => Some(line),
                None if self.abandoned()?.is_none() => return Ok(false),
                // Without a keeper nobody could be told.
                None => self.running().await?.map(|running| running.line),
            };
            let Some(mut line) = line else { continue };
            match line.ask(&Ask::Stop, GONE_WITHIN).await {
                Err(_) => return Err(self.late(GONE_WITHIN)),
                Ok(Ok(Tell::Failed(error))) => return Err(error),
                Ok(Ok(Tell::Stopped)) => {
                    line.ended(GONE_WITHIN).await;
                    return Ok(true);
                }
                Ok(Ok(Tell::Shown(_) | Tell::Held(_) | Tell::Stays { .. } | Tell::Taken))
                | Ok(Err(Lost)) => {}
            }
        }
        Err(OwnError::Died)
    }

    /// Looks how it stands. Changes nothing.
    pub async fn report(&self) -> Report {
        let state = self.state().await.unwrap_or_else(State::Unknown);
        let directory = match &state {
            State::Kept(facts) => &facts.directory,
            State::Abandoned(directory) => directory,
            State::Absent | State::Unknown(_) => &self.directory,
        };
        Report { missing: Self::missing(), logs: logs(directory), state }
    }

    async fn state(&self) -> Result<State, OwnError> {
        if let Some(mut line) = Line::connect().await? {
            match line.ask(&Ask::Show, READY_WITHIN).await {
                Err(_) => return Err(self.late(READY_WITHIN)),
                Ok(Ok(Tell::Shown(facts))) => return Ok(State::Kept(facts)),
                Ok(Ok(Tell::Failed(error))) => return Err(error),
                // It ends just now.
                Ok(Ok(Tell::Held(_) | Tell::Stays { .. } | Tell::Stopped | Tell::Taken))
                | Ok(Err(Lost)) => {}
            }
        }
        Ok(self.abandoned()?.map_or(State::Absent, State::Abandoned))
    }

    /// The directory of one that has no keeper any more, if there is one: of
    /// this network namespace, with daemons that run or without.
    fn abandoned(&self) -> Result<Option<PathBuf>, OwnError> {
        let here = Namespace::here()?;
        if place::is_of(&self.directory, &here) {
            return Ok(Some(self.directory.clone()));
        }
        // Its directory may be gone, too. To look at all processes takes a
        // while, and a switch that has anything on it has one of these.
        let has_switch = ["ovs-netdev", "ovs-system"].iter().any(|it| if_nametoindex(*it).is_ok());
        match has_switch {
            // Somebody else's is found by those who would start one.
            true => Ok(Orphans::find(&here).ok().and_then(|orphans| orphans.directory)),
            false => Ok(None),
        }
    }

    async fn start_until(
        &self,
        options: StartOptions,
        until: Instant,
    ) -> Result<Running, OwnError> {
        // Each round is another's keeper that ended, or was faster than ours.
        for _ in 0..ROUNDS_MAX {
            if let Some(running) = self.hold(options.keep, until).await? {
                return Ok(running);
            }
            let line = self.start_keeper(options)?;
            if let Some(running) = self.held(line, options.keep, until).await? {
                return Ok(running);
            }
        }
        Err(OwnError::Died)
    }

    /// Uses the one that has a keeper; `None` if there is none.
    async fn hold(&self, keep: bool, until: Instant) -> Result<Option<Running>, OwnError> {
        match Line::connect().await? {
            Some(line) => self.held(line, keep, until).await,
            None => Ok(None),
        }
    }

    /// `None` if the keeper is none any more.
    async fn held(
        &self,
        mut line: Line,
        keep: bool,
        until: Instant,
    ) -> Result<Option<Running>, OwnError> {
        let within = until.saturating_duration_since(Instant::now());
        match line.ask(&Ask::Hold { keep }, within).await {
            Err(_) => Err(self.late(READY_WITHIN)),
            Ok(Ok(Tell::Held(facts))) => Ok(Some(Running::new(facts, line))),
            Ok(Ok(Tell::Failed(error))) => Err(error),
            Ok(Ok(Tell::Shown(_) | Tell::Stays { .. } | Tell::Stopped | Tell::Taken)) => Ok(None),
            Ok(Err(Lost)) => Ok(None),
        }
    }

    /// Starts a keeper, and returns its end of a pair of sockets.
    fn start_keeper(&self, options: StartOptions) -> Result<Line, OwnError> {
        let exe = std::env::current_exe().map_err(OwnError::io("find this program"))?;
        let program = match programs::is_ovsns(&exe) {
            // Also if that was replaced since.
            true => PathBuf::from("/proc/self/exe"),
            false => programs::ovsns().ok_or(OwnError::NoKeeper)?,
        };
        let (ours, keepers) = UnixStream::pair()
            .and_then(|(ours, keepers)| Ok((ours, keepers.into_std()?)))
            .map_err(OwnError::io("make a pair of sockets"))?;
        keepers.set_nonblocking(false).map_err(OwnError::io("make a pair of sockets"))?;
        let mut child = Command::new(program)
            .arg0("ovsns")
            .arg("keep-ovs")
            .arg("--directory")
            .arg(&self.directory)
            .arg(format!("--tso={}", options.tso))
            .stdin(Stdio::from(OwnedFd::from(keepers)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(OwnError::io("start `ovsns keep-ovs`"))?;
        // It outlives a command, but not every program that uses this library:
        // somebody must wait for it, or it stays in the list of processes.
        let _ = std::thread::Builder::new().spawn(move || child.wait());
        Ok(Line::over(ours))
    }

    fn late(&self, within: Duration) -> OwnError {
        let log = logs(&self.directory).into_iter().flat_map(|(_, lines)| lines).collect();
        OwnError::Late { seconds: within.as_secs(), log }
    }
}

impl Running {
    fn new(facts: Facts, line: Line) -> Self {
        Self {
            db: place::db(&facts.directory),
            vswitchd_ctl: place::ctl(&facts.directory, Which::Switch),
            rundir: facts.directory,
            version: facts.version,
            tso: facts.tso,
            keeper: facts.keeper,
            line,
        }
    }

    /// Leaves it; stops it if nobody else uses it and it has no bridge, and
    /// returns when it is gone then.
    ///
    /// Who does not call this leaves as well, when it is dropped, and does not
    /// see what comes of it.
    pub async fn leave(mut self) -> Result<Left, OwnError> {
        match self.line.ask(&Ask::Leave, GONE_WITHIN).await {
            Err(_) => Err(OwnError::Late { seconds: GONE_WITHIN.as_secs(), log: Vec::new() }),
            Ok(Ok(Tell::Stays { why })) => Ok(Left::Stays(why)),
            Ok(Ok(Tell::Failed(error))) => Err(error),
            Ok(Ok(Tell::Stopped)) => {
                self.line.ended(GONE_WITHIN).await;
                Ok(Left::Stopped)
            }
            Ok(Ok(Tell::Shown(_) | Tell::Held(_) | Tell::Taken) | Err(Lost)) => {
                self.leave_without_keeper().await
            }
        }
    }

    /// The keeper was killed while this was in use.
    async fn leave_without_keeper(self) -> Result<Left, OwnError> {
        let own = Own { directory: self.rundir };
        match own.running().await? {
            Some(running) => Box::pin(running.leave()).await,
            None => Ok(Left::Stopped),
        }
    }
}

/// The last lines of each log in `directory`.
fn logs(directory: &Path) -> Vec<(String, Vec<String>)> {
    let daemons = Which::ALL.map(|which| place::log(directory, which));
    [place::keeper_log(directory)]
        .into_iter()
        .chain(daemons)
        .filter_map(|log| {
            let lines = place::tail(&log, LOG_LINES);
            let name = log.file_name()?.to_str()?.to_owned();
            (!lines.is_empty()).then_some((name, lines))
        })
        .collect()
}
