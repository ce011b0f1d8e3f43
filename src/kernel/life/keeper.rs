//! The keeper of a node: the process that has the namespaces which are the node's
//! own and starts, watches and stops what runs in it. In a node with processes
//! of its own it is the first of them (PID 1): it takes in orphans, and with it
//! all of them end. In others it takes in the orphans of what it started, and the
//! node's control group tells what is left if it is killed.
//!
//! It writes nothing down but what the processes say: what it keeps it was told,
//! and tells whoever asks.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener as StdListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gethostname, pipe2, sethostname, setsid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::birth::Birth;
use super::files::Laid;
use super::log::{Log, Logs};
use super::ports;
use super::wire::{self, Ask, Begun, Charge, Keeps, Tell};
use crate::kernel::error::KernelError;
use crate::kernel::inherited::close_inherited;
use crate::kernel::line::{self, Line};
use crate::kernel::{inside, netns};
use crate::model::laid::OWN_PLACES;
use crate::model::life::{Isolation, Process, Ready, Restart, Room, SeenProcess, Standing};
use crate::model::mark::netns as netns_name;
use crate::model::names::{LabName, NodeName, ProcessName};

/// How long who started it may take to say what for.
const CHARGED_WITHIN: Duration = Duration::from_secs(10);
/// How long a process may take to end when it is asked to, before it is made to.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long a process rests before it is started again: at first, and at most.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(10);
/// What ran so long was well, and rests shortly.
const WELL_AFTER: Duration = Duration::from_secs(10);
/// How many lines are told of what a process said that does not get ready.
pub(super) const LINES_TOLD: usize = 10;

/// Becomes the keeper of a node; returns when it was told to end.
///
/// Only for a process that does nothing else and has no threads yet: its standard
/// input is a socket to the command that started it, all other files that it
/// inherited are closed, and it leaves its session. For a node with processes of
/// its own it must be the first one of a new process namespace.
pub fn run(lab: &LabName, node: &NodeName) -> Result<(), KernelError> {
    close_inherited();
    // A group leader cannot leave its session; nobody starts a keeper as one.
    let _ = setsid();
    let runtime = |begun: Place| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime
            .map_err(|e: io::Error| KernelError::from_io("start a runtime", &e))
            .map(|r| (r, begun))
    };
    let input = io::stdin().as_fd().try_clone_to_owned();
    let input = input.map_err(|error| KernelError::from_io("read its charge", &error))?;
    let mut starter = Starter(std::os::unix::net::UnixStream::from(input));
    let charge = starter.charge()?;
    let begun = begin(lab, node, &charge).and_then(runtime);
    starter.answer(&begun)?;
    drop(starter);
    let (runtime, begun) = begun?;
    let shared = Shared {
        lab: lab.clone(),
        node: node.clone(),
        room: charge.room,
        // `labs/LAB/logs/NODE` is below it.
        state: charge.logs.ancestors().nth(4).unwrap_or(&charge.logs).to_owned(),
        logs: begun.logs,
        all: Mutex::default(),
        laid: Mutex::new(begun.laid),
        changed: watch::Sender::new(()),
        done: Notify::new(),
    };
    runtime.block_on(live(begun.listener, Arc::new(shared)))
}

/// Who started the keeper, and waits until it listens.
struct Starter(std::os::unix::net::UnixStream);

impl Starter {
    fn charge(&self) -> Result<Charge, KernelError> {
        let fail = |error: io::Error| KernelError::from_io("read its charge", &error);
        self.0.set_read_timeout(Some(CHARGED_WITHIN)).map_err(fail)?;
        let mut text = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(&self.0), &mut text).map_err(fail)?;
        serde_json::from_str(&text).map_err(|_| KernelError::new("read its charge", Errno::EBADMSG))
    }

    fn answer<T>(&mut self, begun: &Result<T, KernelError>) -> Result<(), KernelError> {
        let answer = match begun {
            Ok(_) => Begun::Listens,
            Err(error) => Begun::Failed { asked: error.asked.clone(), errno: error.errno as i32 },
        };
        let mut text = serde_json::to_vec(&answer).expect("our own types have no odd keys");
        text.push(b'\n');
        io::Write::write_all(&mut self.0, &text)
            .map_err(|error| KernelError::from_io("answer who started it", &error))?;
        // The other end waits for this one to be closed if the keeper dies.
        let null = fs::File::open("/dev/null");
        let null = null.map_err(|error| KernelError::from_io("open `/dev/null`", &error))?;
        nix::unistd::dup2_stdin(null)
            .map_err(|errno| KernelError::new("let go of its input", errno))
    }
}

/// What a keeper works with.
struct Place {
    listener: StdListener,
    logs: Logs,
    laid: Laid,
}

/// Takes the node's name, and makes what is the node's own.
fn begin(lab: &LabName, node: &NodeName, charge: &Charge) -> Result<Place, KernelError> {
    // Outside, where commands look for it.
    let taken = |error: io::Error| KernelError::from_io("listen for commands", &error);
    let listener = line::listen(&wire::name(lab, node)).map_err(taken)?;
    let logs = Logs::open(&charge.logs);
    let logs = logs.map_err(|error| {
        KernelError::from_io(format!("make `{}`", charge.logs.display()), &error)
    })?;
    let name = netns_name(lab, node);
    if !netns::enter(&name)? {
        return Err(KernelError::new(format!("enter namespace `{name}`"), Errno::ENOENT));
    }
    let laid = own(&name, &charge.room)?;
    // Orphans come to the first process of a namespace by themselves.
    if std::process::id() != 1 {
        prctl::set_child_subreaper(true)
            .map_err(|errno| KernelError::new("take in orphans", errno))?;
    }
    std::env::set_current_dir("/").map_err(|e| KernelError::from_io("go to `/`", &e))?;
    Ok(Place { listener, logs, laid })
}

/// Gives this process namespaces as `room` says, furnished.
///
/// Like `unshare --uts --ipc --mount`, and what one mounts then.
fn own(netns: &str, room: &Room) -> Result<Laid, KernelError> {
    let has = |kind| room.kinds.contains(&kind);
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWUTS, has(Isolation::Uts));
    flags.set(CloneFlags::CLONE_NEWIPC, has(Isolation::Ipc));
    unshare(flags)
        .map_err(|errno| KernelError::of_namespace("make namespaces of the node's own", errno))?;
    // What cannot be laid over is told to those who enter.
    let _not_laid_over = inside::furnish(netns)?;
    if has(Isolation::Pid) {
        mount_own("proc", "/proc", "")?;
    }
    if has(Isolation::Ipc) {
        mount_own("tmpfs", "/dev/shm", "mode=1777")?;
    }
    let mut laid = Laid::default();
    if has(Isolation::Mount) {
        // Covered by the next one, and so in nobody's sight.
        mount_own("tmpfs", "/run", "mode=700")?;
        let failed = |e: io::Error| KernelError::from_io("open a place for files", &e);
        laid = Laid::in_place("/run").map_err(failed)?;
        for place in OWN_PLACES {
            mount_own("tmpfs", place, if place == "/tmp" { "mode=1777" } else { "mode=755" })?;
            laid.is_own(place).map_err(failed)?;
        }
    }
    if let Some(hostname) = &room.hostname {
        sethostname(hostname)
            .map_err(|errno| KernelError::new(format!("be called `{hostname}`"), errno))?;
    }
    Ok(laid)
}

/// Like `mount -t KIND -o OPTIONS KIND PLACE`.
fn mount_own(kind: &str, place: &str, options: &str) -> Result<(), KernelError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(kind), place, Some(kind), flags, Some(options))
        .map_err(|errno| KernelError::new(format!("mount a `{place}` of the node's own"), errno))
}

/// What connections and processes share.
struct Shared {
    lab: LabName,
    node: NodeName,
    room: Room,
    /// Where what is remembered of labs is.
    state: PathBuf,
    logs: Logs,
    all: Mutex<All>,
    laid: Mutex<Laid>,
    /// Something of a process is not what it was.
    changed: watch::Sender<()>,
    /// All have been stopped.
    done: Notify,
}

#[derive(Default)]
struct All {
    /// In the order in which they were first started.
    kept: Vec<Kept>,
    /// Names in that order, also of those that are stopped: one that is started
    /// anew takes its place again.
    order: Vec<ProcessName>,
    /// Who waits for the end of which process.
    awaited: BTreeMap<i32, oneshot::Sender<Ended>>,
    /// Nothing is started any more.
    ends: bool,
}

/// A process that is kept.
struct Kept {
    seen: SeenProcess,
    /// Set to have it stopped.
    stop: watch::Sender<bool>,
    /// Whether it is started again, or stopped; false when all is over.
    lives: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Status(i32),
    Signal(Signal),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal(signal) => write!(f, "ended by {signal}"),
        }
    }
}

impl Shared {
    fn laid(&self) -> MutexGuard<'_, Laid> {
        self.laid.lock().expect("nothing panics with it")
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().expect("nothing panics with it")
    }

    /// Changes what is told of a process.
    fn note(&self, name: &ProcessName, change: impl FnOnce(&mut Kept)) {
        if let Some(kept) = self.all().kept.iter_mut().find(|kept| kept.seen.process.name == *name)
        {
            change(kept);
        }
        self.changed.send_replace(());
    }

    fn stand(&self, name: &ProcessName, standing: Standing, pid: Option<i32>) {
        self.note(name, |kept| {
            kept.seen.standing = standing;
            kept.seen.pid = pid.and_then(|pid| u32::try_from(pid).ok());
            kept.seen.since_s = now_s();
        });
    }

    /// Starts a program in the node.
    fn start(
        &self,
        process: &Process,
        command: &[String],
        says: Option<OwnedFd>,
    ) -> io::Result<Child<'_>> {
        let birth = Birth {
            lab: self.lab.clone(),
            node: self.node.clone(),
            detached: true,
            user: process.user.clone(),
            directory: process.directory.clone(),
            state: self.state.clone(),
        };
        let birth = serde_json::to_string(&birth).expect("our own types have no odd keys");
        let mut program = Command::new("/proc/self/exe");
        program
            .arg0("ovsns")
            .args(["become", &birth, "--"])
            .args(command.iter().map(OsString::from));
        program.env_clear().envs(self.environment(process)).stdin(Stdio::null());
        match says {
            Some(says) => {
                program.stdout(Stdio::from(says.try_clone()?)).stderr(Stdio::from(says));
            }
            None => {
                program.stdout(Stdio::null()).stderr(Stdio::null());
            }
        }
        let mut all = self.all();
        // The end of any process is heard in one place.
        let child = program.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let (ended, end) = oneshot::channel();
        all.awaited.insert(pid, ended);
        drop(all);
        Ok(Child { shared: self, pid, end })
    }

    fn environment(&self, process: &Process) -> BTreeMap<String, String> {
        let path = std::env::var("PATH").ok().filter(|path| !path.is_empty());
        let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut environment = BTreeMap::from([
            ("PATH".to_owned(), path.unwrap_or_else(|| usual.to_owned())),
            ("OVSNS_LAB".to_owned(), self.lab.to_string()),
            ("OVSNS_NODE".to_owned(), self.node.to_string()),
        ]);
        // Where the groups are is for the child to know, too.
        environment.extend(std::env::var("OVSNS_CGROUP").map(|base| ("OVSNS_CGROUP".into(), base)));
        environment.extend(process.environment.clone());
        environment
    }
}

/// A child that runs, unless its end was heard of already. It is killed if
/// nobody wants to know any more.
struct Child<'s> {
    shared: &'s Shared,
    pid: i32,
    end: oneshot::Receiver<Ended>,
}

impl Child<'_> {
    async fn ended(&mut self) -> Ended {
        // Only `reap` has the other end, and it sends before it drops it.
        (&mut self.end).await.unwrap_or(Ended::Signal(Signal::SIGKILL))
    }

    /// Asks it to end, and all that it has started with it.
    async fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        if timeout(GRACE, self.ended()).await.is_err() {
            self.signal(Signal::SIGKILL);
            self.ended().await;
        }
    }

    fn signal(&self, signal: Signal) {
        if self.shared.all().awaited.contains_key(&self.pid) {
            let pid = Pid::from_raw(self.pid);
            // Its group is its own as soon as it has left our session.
            let _ = kill(pid, signal);
            let _ = killpg(pid, signal);
        }
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        // What it leaves of its group is nobody's any more.
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn live(listener: StdListener, shared: Arc<Shared>) -> Result<(), KernelError> {
    let fail = |what: &'static str| move |error: io::Error| KernelError::from_io(what, &error);
    let catch = |kind| signal(kind).map_err(fail("catch a signal"));
    // Caught and not looked at: a keeper is deaf to the end of a terminal.
    let _deaf = (catch(SignalKind::hangup())?, catch(SignalKind::interrupt())?);
    let mut told_to_stop = catch(SignalKind::terminate())?;
    tokio::spawn(reap(catch(SignalKind::child())?, shared.clone()));
    let listener = UnixListener::from_std(listener).map_err(fail("listen"))?;
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                tokio::spawn(serve(stream, shared.clone()));
            },
            _ = told_to_stop.recv() => {
                let shared = shared.clone();
                tokio::spawn(async move { end(&shared).await; shared.done.notify_one() });
            }
            () = shared.done.notified() => return Ok(()),
        }
    }
}

/// Hears of the end of every process that is ours, or was left to us.
async fn reap(mut children: SignalStream, shared: Arc<Shared>) {
    loop {
        let ended = waitpid(None, Some(WaitPidFlag::WNOHANG));
        let (pid, ended) = match ended {
            Ok(WaitStatus::Exited(pid, status)) => (pid, Ended::Status(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Ended::Signal(signal)),
            Err(Errno::EINTR) | Ok(WaitStatus::Stopped(..) | WaitStatus::Continued(_)) => continue,
            _ => {
                children.recv().await;
                continue;
            }
        };
        if let Some(awaited) = shared.all().awaited.remove(&pid.as_raw()) {
            let _ = awaited.send(ended);
        }
    }
}

/// Answers one command.
async fn serve(stream: UnixStream, shared: Arc<Shared>) {
    if !stream.peer_cred().is_ok_and(|peer| line::may_be_trusted(peer.uid())) {
        return;
    }
    let mut line = Line::over(stream);
    while let Some(ask) = line.hear::<Ask>().await {
        let tell = match ask {
            Ask::Look => Tell::Keeps(keeps(&shared)),
            Ask::Watch => return tell_changes(&shared, line).await,
            Ask::Lay(path, file) => told(shared.laid().lay(&path, &file)),
            Ask::Lift(path) => told(shared.laid().lift(&path)),
            Ask::Rename(name) => match sethostname(&name) {
                Ok(()) => Tell::Renamed,
                Err(errno) => Tell::NotRenamed(errno as i32),
            },
            Ask::Run(process) => get_ready(&shared, process).await,
            Ask::Stop(name) => {
                stop(&shared, &name).await;
                Tell::Stopped
            }
            Ask::End => {
                end(&shared).await;
                let _ = line.say(&Tell::Ends).await;
                shared.done.notify_one();
                // The connection is closed by the end.
                return std::future::pending().await;
            }
        };
        if line.say(&tell).await.is_err() {
            return;
        }
    }
}

/// Tells each time when something of a process has changed, until nobody hears it.
async fn tell_changes(shared: &Shared, mut line: Line) {
    let mut changed = shared.changed.subscribe();
    // Changes that come while one is told are one.
    while line.say(&Tell::Changed).await.is_ok() {
        tokio::select! {
            // The sender is in `shared`.
            _ = changed.changed() => {}
            _ = line.hear::<Ask>() => return,
        }
    }
}

fn told(laid: Result<(), String>) -> Tell {
    laid.map_or_else(Tell::NotLaid, |()| Tell::Laid)
}

fn keeps(shared: &Shared) -> Keeps {
    let netns = fs::metadata("/proc/self/ns/net").map_or(0, |netns| netns.ino());
    let processes = shared.all().kept.iter().map(|kept| kept.seen.clone()).collect();
    // Whoever looks may want to read them.
    shared.logs.mend();
    let files = shared.laid().seen();
    let room = shared.room.clone();
    let name = gethostname().map(|name| name.to_string_lossy().into_owned()).ok();
    let renamed = name.filter(|name| room.hostname.as_ref().is_some_and(|it| it != name));
    Keeps { room, renamed, netns, processes, files }
}

/// Stops all processes, the last one first, and what they have left behind.
async fn end(shared: &Shared) {
    let names: Vec<ProcessName> = {
        let mut all = shared.all();
        all.ends = true;
        all.kept.iter().rev().map(|kept| kept.seen.process.name.clone()).collect()
    };
    for name in names {
        stop(shared, &name).await;
    }
    // Who left our sessions has come to us as an orphan, and so will its children.
    let start = Instant::now();
    while start.elapsed() < GRACE {
        let pid = std::process::id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children: Vec<i32> = children
            .iter()
            .flat_map(|c| c.split_whitespace())
            .filter_map(|c| c.parse().ok())
            .collect();
        if children.is_empty() {
            break;
        }
        for child in children {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        // Woken by the end of one of them, but not by that of a child's child.
        sleep(Duration::from_millis(1)).await;
    }
}

/// Stops a process and forgets it.
async fn stop(shared: &Shared, name: &ProcessName) {
    let mut changed = shared.changed.subscribe();
    shared.note(name, |kept| {
        // It may be over by itself.
        let _ = kept.stop.send(true);
    });
    loop {
        let lives = shared.all().kept.iter().any(|k| k.seen.process.name == *name && k.lives);
        if !lives {
            break;
        }
        // The sender is in `shared`.
        let _ = changed.changed().await;
    }
    shared.all().kept.retain(|kept| kept.seen.process.name != *name);
}

/// Runs a process unless it runs, and tells when it is ready.
async fn get_ready(shared: &Arc<Shared>, process: Process) -> Tell {
    let mut changed = shared.changed.subscribe();
    let name = process.name.clone();
    {
        let mut all = shared.all();
        if all.ends {
            return Tell::NotReady {
                why: "the node is coming to its end".into(),
                said: Vec::new(),
            };
        }
        let known = all.kept.iter().position(|kept| kept.seen.process.name == name);
        let runs = known.is_some_and(|known| all.kept[known].lives);
        if runs && known.is_some_and(|known| all.kept[known].seen.process != process) {
            return Tell::Taken;
        }
        if !runs {
            let (stop, stopped) = watch::channel(false);
            let seen = SeenProcess {
                process: process.clone(),
                standing: Standing::Starting,
                pid: None,
                restarts: 0,
                since_s: now_s(),
            };
            let kept = Kept { seen, stop, lives: true };
            match known {
                Some(known) => all.kept[known] = kept,
                None => {
                    if !all.order.contains(&name) {
                        all.order.push(name.clone());
                    }
                    let All { kept: others, order, .. } = &mut *all;
                    others.push(kept);
                    let place =
                        |kept: &Kept| order.iter().position(|name| *name == kept.seen.process.name);
                    others.sort_by_key(place);
                }
            }
            tokio::spawn(keep(shared.clone(), process.clone(), stopped));
        }
    }
    let standing = |name: &ProcessName| {
        let all = shared.all();
        all.kept.iter().find(|k| k.seen.process.name == *name).map(|k| k.seen.standing.clone())
    };
    let ready = async {
        loop {
            match standing(&name) {
                Some(Standing::Running | Standing::Done) => return Ok(()),
                Some(Standing::Failed { ended }) => return Err(ended),
                None => return Err("it was stopped".to_owned()),
                Some(Standing::Starting | Standing::Waiting { .. }) => {}
            }
            let _ = changed.changed().await;
        }
    };
    let within = Duration::from_secs(u64::from(process.timeout_s));
    let why = match timeout(within, ready).await {
        Ok(Ok(())) => return Tell::Ready,
        Ok(Err(ended)) => format!("it {ended}").replacen("it it", "it", 1),
        Err(_) => match standing(&name) {
            Some(Standing::Waiting { ended }) => {
                format!("it is not ready after {} s, and last {ended}", process.timeout_s)
            }
            _ => format!("it is not ready after {} s", process.timeout_s),
        },
    };
    stop(shared, &name).await;
    let said = shared.logs.last_lines(&name, LINES_TOLD);
    Tell::NotReady { why, said }
}

/// Keeps one process, until it is stopped or not started again.
async fn keep(shared: Arc<Shared>, process: Process, mut stopped: watch::Receiver<bool>) {
    let name = process.name.clone();
    let mut rest = REST_MIN;
    loop {
        let began = Instant::now();
        let ended = once(&shared, &process, stopped.clone()).await;
        let Some(ended) = ended else { break };
        let well = ended == Ok(Ended::Status(0));
        let words = match &ended {
            Ok(ended) => ended.to_string(),
            Err(error) => error.to_string(),
        };
        let again = match process.restart {
            Restart::Never => false,
            Restart::OnFailure => !well,
            Restart::Always => true,
        };
        if !again {
            let standing = if well { Standing::Done } else { Standing::Failed { ended: words } };
            shared.note(&name, |kept| kept.lives = false);
            return shared.stand(&name, standing, None);
        }
        if WELL_AFTER < began.elapsed() {
            rest = REST_MIN;
        }
        shared.stand(&name, Standing::Waiting { ended: words }, None);
        tokio::select! {
            () = sleep(rest) => {}
            () = is_set(&mut stopped) => break,
        }
        rest = (rest * 2).min(REST_MAX);
        shared.note(&name, |kept| kept.seen.restarts += 1);
    }
    shared.note(&name, |kept| kept.lives = false);
}

/// Returns when a process is to be stopped.
async fn is_set(stopped: &mut watch::Receiver<bool>) {
    // Who could set it has forgotten the process: it is to be stopped, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Runs a process once. `None` if it was stopped.
async fn once(
    shared: &Arc<Shared>,
    process: &Process,
    mut stopped: watch::Receiver<bool>,
) -> Option<Result<Ended, KernelError>> {
    let name = &process.name;
    let fail = |error: io::Error| KernelError::from_io(format!("start `{name}`"), &error);
    let started = || {
        let log = shared.logs.of(name)?;
        let (heard, says) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(io::Error::from)?;
        // What it writes into must wait for us like any other pipe.
        let flags = nix::fcntl::FcntlArg::F_SETFL(OFlag::empty());
        nix::fcntl::fcntl(&says, flags).map_err(io::Error::from)?;
        let heard = pipe::Receiver::from_owned_fd(heard)?;
        Ok((shared.start(process, &process.command, Some(says))?, heard, log))
    };
    let (mut child, heard, log) = match started() {
        Ok(started) => started,
        Err(error) => return Some(Err(fail(error))),
    };
    // It may be heard for longer than it lives, by what it has left.
    let listening = tokio::spawn(listen(heard, log));
    shared.stand(name, Standing::Starting, Some(child.pid));
    let pid = child.pid;
    let mut is_ready = std::pin::pin!(async {
        await_birth(pid).await;
        if let Some(ready) = &process.ready {
            await_ready(shared, process, ready).await;
        }
    });
    let mut known = false;
    loop {
        tokio::select! {
            ended = child.ended() => {
                drop(child);
                // All that it said is in the log before its end is told.
                let _ = timeout(Duration::from_millis(200), listening).await;
                return Some(Ok(ended));
            }
            () = &mut is_ready, if !known => {
                known = true;
                shared.stand(name, Standing::Running, Some(pid));
            }
            () = is_set(&mut stopped) => {
                child.stop().await;
                drop(child);
                let _ = timeout(Duration::from_millis(200), listening).await;
                return None;
            }
        }
    }
}

/// Writes down what a process says, until nobody can say anything any more.
async fn listen(mut heard: pipe::Receiver, log: Arc<Mutex<Log>>) {
    let mut said = vec![0; 65_536];
    while let Ok(bytes @ 1..) = heard.read(&mut said).await {
        // On a full file system it goes on unheard.
        let _ = log.lock().expect("nothing panics with it").write(&said[..bytes]);
    }
}

/// Returns when a child of ours has become its command. One for which there is
/// no program ends before.
async fn await_birth(pid: i32) {
    let is_born = || {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // Empty between the end and the moment when that is heard of.
        !line.is_empty() && !line.starts_with(b"ovsns\0become\0")
    };
    // The kernel tells nobody of an exec. Before its own the child is a copy of
    // this process.
    let ours = fs::read("/proc/self/cmdline").unwrap_or_default();
    let is_copy = || fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == ours);
    while !is_born() || is_copy() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Returns when a process is ready. The kernel tells nobody that a socket
/// listens, so it is looked for again and again.
async fn await_ready(shared: &Shared, process: &Process, ready: &Ready) {
    let mut pause = Duration::from_millis(5);
    loop {
        let is_ready = match ready {
            Ready::Port(port) => ports::is_open(*port),
            Ready::Command(command) => match shared.start(process, command, None) {
                Ok(mut child) => child.ended().await == Ended::Status(0),
                Err(_) => false,
            },
        };
        if is_ready {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
