//! The keeper: the process behind an Open vSwitch of our own.
//!
//! It starts `ovsdb-server` and `ovs-vswitchd` as its children, starts each
//! again when it ends, and ends both when nobody needs them. Commands talk to
//! it over a socket (`wire`); it is one loop that does one thing at a time.
//!
//! **A keeper that is killed takes nothing with it.** The daemons could be made
//! to die with it (`PR_SET_PDEATHSIG`), which would be tidy and would stop every
//! lab on the machine because a process died that no frame passes through. So
//! they go on, and the next command puts a new keeper over them: it finds them
//! by the mark in their environment, holds them by pidfds, and is told of their
//! end as the parent would be. Only how they ended it is not told.
//!
//! **What is deleted comes back.** The database is an open file of
//! `ovsdb-server`, so it can be copied from `/proc` after its directory was
//! deleted, once the server has ended and writes no more; the file is held open
//! meanwhile. Then both daemons are started anew, for their sockets are gone. A
//! switch that is ended by a signal leaves its taps, and finds them again.
//!
//! It prints nothing: what it does is in `keeper.log`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{dup2_stdin, setsid};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

use super::beside::{self, Orphans};
use super::daemon::{self, Daemon, Turn, Which};
use super::database::{self, Settled};
use super::log::{self, Log};
use super::peers::{self, Event, Heard, Part, Peers, STARTER};
use super::place::{self, Namespace, Place};
use super::programs::Programs;
use super::wire::{self, Ask, Tell};
use super::{Facts, OwnError};
use crate::kernel::inherited::close_inherited;
use crate::kernel::netlink::Netlink;
use crate::kernel::permissions;
use crate::model::names::IfName;

/// How long the server may take to listen.
const SERVER_WITHIN: Duration = Duration::from_secs(15);
/// How long the switch may take to apply its database.
const SWITCH_WITHIN: Duration = Duration::from_secs(30);
/// How long the switch may take to delete what it made: a bridge takes it
/// 35 ms.
const CLEANUP_WITHIN: Duration = Duration::from_secs(60);
/// How long the server may take to say that the quick end will do.
const BRIDGES_WITHIN: Duration = Duration::from_secs(1);
/// How often logs and the database are looked after when nothing happens.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// How long a daemon may take to go on with a new log, or to begin a new database.
const TIDY_WITHIN: Duration = Duration::from_secs(1);
/// A database that is longer, and twice as long as it need be, is written anew: each
/// change is added to it, and `ovsdb-server` itself lets it grow to 10 MB and more.
const DATABASE_BYTES_MAX: u64 = 1 << 20;
/// How many lines of a log go with an error.
const LOG_LINES: usize = 6;

/// What a keeper is started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The directory; that of daemons without a keeper goes before it.
    pub directory: PathBuf,
    /// Whether a new database asks for userspace TSO.
    pub tso: bool,
}

/// Why this process cannot be a keeper.
#[derive(Debug, thiserror::Error)]
pub enum NotAKeeper {
    /// Standard input is no socket to the command that started it.
    #[error("a keeper is started by the command that needs it")]
    ByHand,
    /// It began, and has told the command that started it.
    #[error(transparent)]
    Failed(#[from] OwnError),
}

/// Becomes the keeper; returns when there is nothing to keep any more.
///
/// Only for a process that does nothing else and has no threads yet: its
/// standard input is a socket to the command that started it, all other files
/// that it inherited are closed, and it leaves its session.
pub fn run(asked: &Asked) -> Result<(), NotAKeeper> {
    close_inherited();
    let starter = starter().ok_or(NotAKeeper::ByHand)?;
    // A group leader cannot leave its session; nobody starts a keeper as one,
    // and it would be no worse than a command then.
    let _ = setsid();
    umask(Mode::from_bits_truncate(0o077));
    std::env::set_current_dir("/").map_err(OwnError::file("enter", Path::new("/")))?;
    let null = Path::new("/dev/null");
    let silence = File::options().read(true).write(true).open(null);
    silence
        .and_then(|null| Ok(dup2_stdin(&null)?).and_then(|()| log::speak_into(&null)))
        .map_err(OwnError::file("open", null))?;
    // A switch has several files open for each port.
    let files = permissions::raise_open_files_for_switch();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(OwnError::io("start a runtime"))?;
    Ok(runtime.block_on(live(starter, asked, files))?)
}

/// The socket that standard input is, if it is one.
fn starter() -> Option<StdStream> {
    let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    // Only a socket has another end.
    stream.peer_addr().ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

async fn live(starter: StdStream, asked: &Asked, files: u64) -> Result<(), OwnError> {
    let catch = |kind| signal(kind).map_err(OwnError::io("catch a signal"));
    // Caught and not looked at: a keeper is deaf to the end of a terminal.
    let _deaf = (catch(SignalKind::hangup())?, catch(SignalKind::interrupt())?);
    let mut told_to_stop = catch(SignalKind::terminate())?;
    let (events, mut heard) = mpsc::channel(16);
    let starter = UnixStream::from_std(starter).map_err(OwnError::io("read standard input"))?;
    tokio::spawn(peers::listen_to(STARTER, starter, events.clone()));
    let listener = match wire::listen() {
        Ok(listener) => listener,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Peers::default().refuse(&mut heard, &Tell::Taken).await;
            return Ok(());
        }
        Err(error) => {
            let error = OwnError::io(format!("listen at `@{}`", super::ADDRESS))(error);
            Peers::default().refuse(&mut heard, &Tell::Failed(error.clone())).await;
            return Err(error);
        }
    };
    tokio::spawn(peers::accept(listener, events));
    match Keeper::begin(asked, files).await {
        Ok(keeper) => {
            keeper.live(&mut heard, &mut told_to_stop).await;
            Ok(())
        }
        Err(error) => {
            Peers::default().refuse(&mut heard, &Tell::Failed(error.clone())).await;
            Err(error)
        }
    }
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Then {
    On,
    End,
}

/// All that is kept.
struct Keeper {
    here: Namespace,
    place: Place,
    programs: Programs,
    log: Log,
    server: Daemon,
    switch: Daemon,
    peers: Peers,
    /// What a database gets that has to be made again.
    tso: bool,
    settling: Option<JoinHandle<Result<Settled, OwnError>>>,
    /// What the switch said when it had applied its database, since either
    /// daemon was started last.
    settled: Option<Settled>,
    /// The switch for which `settled.tso` was read: it does not change while
    /// that runs, whatever the database says.
    tso_of: Option<(u32, bool)>,
    /// How long the database was when it was written anew.
    database_bytes: u64,
}

impl Keeper {
    /// Starts what does not run yet, and adopts what does.
    async fn begin(asked: &Asked, files: u64) -> Result<Self, OwnError> {
        let least = permissions::SWITCH_FILES_MIN;
        if files < least {
            return Err(OwnError::FewFiles { most: files, least });
        }
        let programs = Programs::find()?;
        let here = Namespace::here()?;
        beside::no_system_server(&here).await?;
        let orphans = Orphans::find(&here)?;
        let directory = orphans.directory.clone().unwrap_or_else(|| asked.directory.clone());
        let place = Place::take(&directory, &here)?;
        let mut keeper = Self {
            here,
            place,
            programs,
            log: Log::default(),
            server: Daemon::stopped(Which::Server),
            switch: Daemon::stopped(Which::Switch),
            peers: Peers::default(),
            tso: asked.tso,
            settling: None,
            settled: None,
            tso_of: None,
            database_bytes: 0,
        };
        keeper.log.open(keeper.place.directory());
        let begun = keeper.bring_up(&orphans).await;
        if let Err(error) = begun {
            keeper.log.line(&format!("gives up: {error}"));
            if keeper.place.is_fresh() {
                keeper.end().await;
            }
            return Err(error);
        }
        Ok(keeper)
    }

    async fn bring_up(&mut self, orphans: &Orphans) -> Result<(), OwnError> {
        let (server, switch) = (orphans.server, orphans.switch);
        let server = server.filter(|pid| self.server.adopt(*pid));
        let switch = switch.filter(|pid| self.switch.adopt(*pid));
        self.log.line(&match (server, switch) {
            (None, None) => format!("begins as process {}", std::process::id()),
            (server, switch) => {
                let [server, switch] = [server, switch]
                    .map(|pid| pid.map_or("none".to_owned(), |pid| format!("process {pid}")));
                format!(
                    "begins as process {}, over daemons without a keeper: {} ({server}), {} \
                     ({switch})",
                    std::process::id(),
                    Which::Server,
                    Which::Switch,
                )
            }
        });
        if (server.is_some() || switch.is_some()) && !self.place.is_whole() {
            return self.restore().await;
        }
        self.raise_server().await?;
        self.raise_switch()
    }

    /// Has the server run and answer, with a database that can be used.
    async fn raise_server(&mut self) -> Result<(), OwnError> {
        let directory = self.place.directory().to_owned();
        if !self.place.database().exists() {
            self.make_database().await?;
        }
        if self.server.pid().is_none() {
            self.start(Which::Server)?;
        }
        let until = Instant::now() + SERVER_WITHIN;
        let socket = place::db(&directory);
        let session = tokio::select! {
            session = database::connect(&socket, until) => session,
            turn = self.server.turn() => Err(OwnError::Database(match turn {
                Turn::Died { how, .. } => how,
                Turn::Due => unreachable!("it runs"),
            })),
        };
        let session = session.map_err(|error| self.did_not_come_up(Which::Server, &error))?;
        database::initialise(&session, self.tso).await
    }

    /// Has the switch run, and be asked when it is ready.
    fn raise_switch(&mut self) -> Result<(), OwnError> {
        if self.switch.pid().is_none() {
            self.start(Which::Switch)?;
        }
        self.settle();
        Ok(())
    }

    /// Like `ovsdb-tool create CONF.DB SCHEMA`.
    async fn make_database(&mut self) -> Result<(), OwnError> {
        let (file, log) =
            (self.place.database(), place::log(self.place.directory(), Which::Server));
        // A name of our own: the tool of a keeper that was killed may be at it.
        let name = format!("conf.{}", std::process::id());
        let beside = file.with_file_name(&name);
        let mut command = Command::new(&self.programs.tool);
        command.args(["-vsyslog:off", "create"]).args([&beside, &self.programs.schema]);
        let made = daemon::run(&mut command, SERVER_WITHIN, &log).await;
        if !made.map_err(OwnError::file("run", &self.programs.tool))? {
            let error = OwnError::Database("`ovsdb-tool create` failed".into());
            return Err(self.did_not_come_up(Which::Server, &error));
        }
        // Its lock, under the name that nobody has any more.
        let _ = std::fs::remove_file(file.with_file_name(format!(".{name}.~lock~")));
        std::fs::rename(&beside, &file).map_err(OwnError::file("make", &file))
    }

    fn start(&mut self, which: Which) -> Result<(), OwnError> {
        let daemon = match which {
            Which::Server => &mut self.server,
            Which::Switch => &mut self.switch,
        };
        let started = daemon.start(&self.programs, self.place.directory());
        let pid = started.map_err(OwnError::io(format!("start `{which}`")))?;
        self.log.line(&format!("{which} runs as process {pid}"));
        Ok(())
    }

    /// Asks the switch, beside all else, when it has applied its database.
    fn settle(&mut self) {
        self.unsettle();
        let directory = self.place.directory();
        let (db, ctl) = (place::db(directory), place::ctl(directory, Which::Switch));
        let until = Instant::now() + SWITCH_WITHIN;
        let settled = async move { database::settle(&db, &ctl, until).await };
        self.settling = Some(tokio::spawn(settled));
    }

    fn unsettle(&mut self) {
        self.settled = None;
        if let Some(before) = self.settling.take() {
            before.abort();
        }
    }

    async fn live(mut self, heard: &mut mpsc::Receiver<Event>, told_to_stop: &mut Signal) {
        let mut tidy = interval(TIDY_EVERY);
        loop {
            let then = tokio::select! {
                _ = tidy.tick() => Then::On,
                Some(event) = heard.recv() => self.hear(event).await,
                turn = self.server.turn() => self.turn(Which::Server, turn).await,
                turn = self.switch.turn() => self.turn(Which::Switch, turn).await,
                settled = finished(&mut self.settling) => self.has_settled(settled).await,
                _ = told_to_stop.recv() => {
                    self.log.line("is told to stop by SIGTERM");
                    Then::End
                }
            };
            if then == Then::End {
                break;
            }
            self.tidy().await;
        }
        self.end().await;
    }

    /// Has logs and the database stay short, however long all this runs.
    async fn tidy(&mut self) {
        let directory = self.place.directory().to_owned();
        let run = [self.server.pid(), self.switch.pid()].map(|pid| pid.is_some());
        for (which, runs) in Which::ALL.into_iter().zip(run) {
            let log = place::log(&directory, which);
            if runs && place::is_long(&log) {
                self.log_anew(which, &log).await;
            }
        }
        if place::is_long(&place::keeper_log(&directory)) {
            self.log.open(&directory);
        }
        let bytes = || std::fs::metadata(self.place.database()).map_or(0, |file| file.len());
        if self.server.pid().is_some()
            && self.database_bytes.max(DATABASE_BYTES_MAX / 2) * 2 < bytes()
        {
            // Like `ovs-appctl -t ovsdb-server ovsdb-server/compact`.
            let ctl = place::ctl(&directory, Which::Server);
            let told = database::order(&ctl, "ovsdb-server/compact", &[], TIDY_WITHIN).await;
            // Where there is no room for a second one, not before it is twice as long.
            self.database_bytes = bytes();
            if let Err(error) = told {
                self.log.line(&format!("the database was not written anew: {error}"));
            }
        }
    }

    /// Like logrotate(8) with `ovs-appctl vlog/reopen`.
    async fn log_anew(&mut self, which: Which, log: &Path) {
        let aside = place::aside(log);
        if std::fs::rename(log, &aside).is_err() {
            return;
        }
        let ctl = place::ctl(self.place.directory(), which);
        if let Err(error) = database::order(&ctl, "vlog/reopen", &[], TIDY_WITHIN).await {
            // It goes on with the old one, which is looked after under its name.
            let _ = std::fs::rename(&aside, log);
            self.log.line(&format!("{which} goes on with its log: {error}"));
        }
    }

    async fn hear(&mut self, Event { from, what }: Event) -> Then {
        match what {
            Heard::Came(out) => {
                self.peers.came(from, out);
                Then::On
            }
            Heard::Gone => match self.peers.gone(from) {
                // Who started us may be gone before it said what for.
                Part::None if from != STARTER => Then::On,
                Part::None | Part::Waits { .. } | Part::Holds => self.end_if_not_needed().await,
            },
            Heard::Asked(Ask::Show) => {
                self.peers.tell(from, &Tell::Shown(self.facts()));
                Then::On
            }
            Heard::Asked(Ask::Hold { keep }) => self.hold(from, keep).await,
            Heard::Asked(Ask::Leave) => {
                self.peers.play(from, Part::None);
                match self.needed_for().await {
                    Some(why) => {
                        self.peers.tell(from, &Tell::Stays { why });
                        Then::On
                    }
                    None => Then::End,
                }
            }
            Heard::Asked(Ask::Stop) => {
                self.log.line("is told to stop");
                Then::End
            }
        }
    }

    async fn hold(&mut self, from: u64, keep: bool) -> Then {
        self.peers.play(from, Part::Waits { keep });
        let mended = match self.is_damaged() {
            true => self.restore().await,
            false => Ok(()),
        };
        match (mended, &self.settled, &self.settling) {
            (Err(error), _, _) => self.fail(&error).await,
            (Ok(()), Some(_), _) => self.answer_waiting().await,
            (Ok(()), None, Some(_)) => Then::On,
            (Ok(()), None, None) => {
                self.settle();
                Then::On
            }
        }
    }

    /// Whether something that commands need is gone. Sockets come and go with
    /// their daemons, so they are only looked for when all is quiet.
    fn is_damaged(&self) -> bool {
        !self.place.is_there() || (self.settled.is_some() && !self.place.is_whole())
    }

    async fn turn(&mut self, which: Which, turn: Turn) -> Then {
        match turn {
            Turn::Died { pid, how, soon, pause } => {
                let when = match pause.is_zero() {
                    true => String::new(),
                    false => format!(", not before {} ms", pause.as_millis()),
                };
                self.log.line(&format!("{which} (process {pid}) {how}; it is started again{when}"));
                self.unsettle();
                if soon {
                    let error = OwnError::Database(how);
                    return self.fail(&self.did_not_come_up(which, &error)).await;
                }
                Then::On
            }
            Turn::Due => {
                let raised = match self.place.is_there() {
                    true => self.start(which),
                    false => self.restore().await,
                };
                let daemon = match which {
                    Which::Server => &mut self.server,
                    Which::Switch => &mut self.switch,
                };
                daemon.restarts += 1;
                if let Err(error) = raised {
                    self.log.line(&format!("{which} could not be started: {error}"));
                    return self.fail(&error).await;
                }
                self.settle();
                Then::On
            }
        }
    }

    async fn has_settled(&mut self, settled: Result<Settled, OwnError>) -> Then {
        self.settling = None;
        match settled {
            Ok(mut settled) => {
                let pid = self.switch.pid().unwrap_or_default();
                match self.tso_of {
                    Some((of, tso)) if of == pid => settled.tso = tso,
                    _ => self.tso_of = Some((pid, settled.tso)),
                }
                self.tso = settled.tso;
                self.log.line(&format!(
                    "Open vSwitch {} is ready, {} userspace TSO",
                    settled.version.as_deref().unwrap_or("of an unknown version"),
                    if settled.tso { "with" } else { "without" },
                ));
                self.settled = Some(settled);
                self.answer_waiting().await
            }
            Err(error) => {
                self.log.line(&format!("is not ready: {error}"));
                self.fail(&self.did_not_come_up(Which::Switch, &error)).await
            }
        }
    }

    /// Makes the directory again, with the database and the sockets in it. What
    /// does not run then is tried again later.
    async fn restore(&mut self) -> Result<(), OwnError> {
        let restored = self.try_to_restore().await;
        if let Err(error) = &restored {
            self.log.line(&format!("could not be made again: {error}"));
            self.server.try_later();
            self.switch.try_later();
        }
        restored
    }

    async fn try_to_restore(&mut self) -> Result<(), OwnError> {
        let directory = self.place.directory().to_owned();
        let mut database =
            self.server.pid().and_then(|pid| place::opened_database(pid, &directory));
        self.place.renew(&self.here)?;
        self.log.open(&directory);
        self.log.line("something was deleted of this directory, and is made again");
        // Where there is no room for a copy, nothing has been touched yet.
        if let Some(opened) = &mut database {
            self.place.rescue_database(opened)?;
        }
        self.unsettle();
        // What was committed since then is in the file when the server has ended.
        self.server.stop().await;
        match &mut database {
            Some(opened) => self.place.rescue_database(opened)?,
            None if self.place.database().exists() => {}
            None => self.log.line("the database was lost with its directory and its server"),
        }
        self.raise_server().await?;
        self.switch.stop().await;
        self.raise_switch()
    }

    // ---- who needs it ----

    /// Why Open vSwitch cannot be stopped, if it cannot.
    async fn needed_for(&self) -> Option<String> {
        if self.place.is_kept() {
            return Some("it is to stay until `ovsns keep-ovs --stop`".into());
        }
        match self.peers.users() {
            0 => {}
            users => return Some(format!("others use it: {users}")),
        }
        match database::bridges(&place::db(self.place.directory())).await {
            Ok(0) => None,
            Ok(bridges) => Some(format!("it has bridges: {bridges}")),
            // Who does not know throws nothing away.
            Err(error) => Some(format!("its bridges cannot be counted: {error}")),
        }
    }

    async fn end_if_not_needed(&mut self) -> Then {
        match self.needed_for().await {
            Some(_) => Then::On,
            None => Then::End,
        }
    }

    /// Tells all who wait that it is ready.
    async fn answer_waiting(&mut self) -> Then {
        if self.peers.want_it_kept()
            && let Err(error) = self.place.keep()
        {
            return self.fail(&error).await;
        }
        let held = Tell::Held(self.facts());
        self.peers.tell_waiting(&held, Part::Holds);
        Then::On
    }

    /// Tells all who wait that they wait in vain.
    async fn fail(&mut self, error: &OwnError) -> Then {
        self.peers.tell_waiting(&Tell::Failed(error.clone()), Part::None);
        self.end_if_not_needed().await
    }

    fn did_not_come_up(&self, daemon: Which, error: &OwnError) -> OwnError {
        let why = match error {
            OwnError::Database(why) => why.clone(),
            other => other.to_string(),
        };
        let log = place::tail(&place::log(self.place.directory(), daemon), LOG_LINES);
        OwnError::Daemon { daemon, why, log }
    }

    fn facts(&self) -> Facts {
        Facts {
            keeper: std::process::id(),
            directory: self.place.directory().to_owned(),
            server: self.server.pid(),
            switch: self.switch.pid(),
            ready: self.settled.is_some(),
            damaged: self.is_damaged(),
            version: self.settled.as_ref().and_then(|settled| settled.version.clone()),
            tso: self.settled.as_ref().map_or(self.tso, |settled| settled.tso),
            kept: self.place.is_kept(),
            users: self.peers.users(),
            restarts: self.server.restarts + self.switch.restarts,
        }
    }

    // ---- the end ----

    /// Ends the daemons, deletes what they left, and tells who is still there.
    async fn end(mut self) {
        self.log.line("ends");
        if self.tso_of.is_some() && (self.switch.pid().is_none() || self.is_damaged()) {
            // Only a switch that runs and can be spoken to cleans up.
            if self.restore().await.is_ok() {
                tokio::select! {
                    _ = finished(&mut self.settling) => {}
                    _ = self.switch.turn() => {}
                }
            }
        }
        self.unsettle();
        if self.has_nothing_left().await {
            let taps = self.switch.kill().await;
            self.delete_taps(taps);
        } else {
            self.clean_up().await;
            self.switch.stop().await;
        }
        self.server.stop().await;
        let answer = match self.place.remove() {
            Ok(()) => Tell::Stopped,
            Err(error) => Tell::Failed(error),
        };
        self.peers.part(&answer);
    }

    /// Whether no bridge is in the database, and none in the kernel's datapath:
    /// whoever took the last one away has deleted its links, too.
    ///
    /// Then the switch need not be asked to clean up, which takes it 13 ms for
    /// each port that it had (every packet socket waits for an RCU grace
    /// period), 13 s after a lab of a thousand nodes. It has to pay for them as
    /// it dies, too, but nobody has to wait for that.
    async fn has_nothing_left(&self) -> bool {
        let db = place::db(self.place.directory());
        // A server that does not answer at once is not worth the wait.
        let bridges = timeout(BRIDGES_WITHIN, database::bridges(&db)).await;
        bridges == Ok(Ok(0)) && if_nametoindex("ovs-system").is_err()
    }

    /// Deletes the taps that outlive their process: that of the userspace
    /// datapath, and those of bridges that it came to make when their rows were
    /// gone already.
    ///
    /// Like `ip link delete ovs-netdev`.
    fn delete_taps(&mut self, mut taps: BTreeSet<IfName>) {
        taps.insert(IfName::new("ovs-netdev").expect("a good name"));
        let netlink = match Netlink::new() {
            Ok(netlink) => netlink,
            Err(error) => return self.log.line(&error.to_string()),
        };
        for tap in taps {
            match netlink.delete_link(&tap) {
                Err(error) if error.errno != Errno::ENODEV => self.log.line(&error.to_string()),
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Has the switch delete its taps and end. One that is merely ended by a
    /// signal leaves them.
    ///
    /// Like `ovs-appctl exit --cleanup`.
    async fn clean_up(&mut self) {
        if self.switch.pid().is_none() {
            return;
        }
        let ctl = place::ctl(self.place.directory(), Which::Switch);
        let told = tokio::select! {
            told = database::order(&ctl, "exit", &["--cleanup"], CLEANUP_WITHIN) => told.is_ok(),
            ended = self.switch.ends_within(CLEANUP_WITHIN) => ended,
        };
        if told {
            self.switch.ends_within(SERVER_WITHIN).await;
        }
    }
}

/// Awaits a task, if there is one.
async fn finished(
    task: &mut Option<JoinHandle<Result<Settled, OwnError>>>,
) -> Result<Settled, OwnError> {
    match task {
        Some(task) => {
            task.await.unwrap_or_else(|_| Err(OwnError::Database("it was not asked".into())))
        }
        None => std::future::pending().await,
    }
}
