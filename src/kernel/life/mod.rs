//! The life of a node: what it has of its own besides its network, what it may
//! use, and what runs in it.
//!
//! A node that is a network namespace alone needs none of this, and has no
//! process. Any other has a keeper (`keeper`), which is this program again: it
//! holds the namespaces and starts, watches and stops what runs there. Commands
//! talk to it over a socket whose name has the node's in it (`wire`), which is how
//! it is found. What it starts is in the node's control group (`groups`), which is
//! how that is found when the keeper was killed.

pub mod birth;
mod files;
pub mod forward;
pub(super) mod fuzzing;
mod groups;
pub mod keeper;
pub mod log;
pub mod news;
mod ports;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::KernelError;
use super::leases::program;
use super::line::{self, Line};
use super::netns;
use crate::model::laid::NodeFile;
use crate::model::life::{Isolation, Limits, Process, Room, SeenKeeper, Standing};
use crate::model::mark::netns as netns_name;
use crate::model::names::{LabName, NodeName, ProcessName};
use crate::model::world::Controller;
use groups::Groups;
use wire::{Ask, Begun, Charge, Keeps, Tell};

/// How long a keeper may take to be there, or to answer what it knows.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What of a lab's nodes lives.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The keepers.
    pub(super) keepers: BTreeMap<NodeName, SeenKeeper>,
    /// Nodes whose keeper is gone and has left something.
    pub(super) left: BTreeSet<NodeName>,
}

/// Looks for the keepers of a lab.
pub(super) async fn look(lab: &LabName) -> Result<Seen, KernelError> {
    let groups = Groups::find();
    let mut seen = Seen::default();
    for (of, node) in names()? {
        if of == *lab
            && let Some(keeper) = look_at(&groups, lab, &node).await?
        {
            seen.keepers.insert(node, keeper);
        }
    }
    let has_keeper = |node: &NodeName| seen.keepers.contains_key(node);
    seen.left = groups.nodes(lab).into_iter().filter(|node| !has_keeper(node)).collect();
    Ok(seen)
}

/// The labs of which a keeper or a control group is there.
pub(super) fn labs() -> Result<BTreeSet<LabName>, KernelError> {
    let mut labs = Groups::find().labs();
    labs.extend(names()?.into_iter().map(|(lab, _)| lab));
    Ok(labs)
}

/// What can be limited here.
pub(super) fn controllers() -> BTreeSet<Controller> {
    Groups::find().controllers()
}

/// By which version of control groups each can be.
pub(super) fn versions() -> BTreeMap<Controller, u8> {
    Groups::find().versions()
}

/// The nodes whose name as a keeper somebody has taken.
///
/// Like `ss -xl`.
fn names() -> Result<BTreeSet<(LabName, NodeName)>, KernelError> {
    let asked = |error: io::Error| KernelError::from_io("list local sockets", &error);
    let text = match fs::read("/proc/net/unix") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(asked)?,
    };
    // A socket may be called anything.
    let text = String::from_utf8_lossy(&text);
    let named = |line: &str| {
        let name = line.split_whitespace().nth(7)?.strip_prefix('@')?.strip_prefix(wire::NAMES)?;
        let (lab, node) = name.split_once('/')?;
        Some((LabName::new(lab).ok()?, NodeName::new(node).ok()?))
    };
    Ok(text.lines().filter_map(named).collect())
}

async fn look_at(
    groups: &Groups,
    lab: &LabName,
    node: &NodeName,
) -> Result<Option<SeenKeeper>, KernelError> {
    // Somebody else's is nobody's of ours.
    let found = match line::connect(&wire::name(lab, node), &wire::whom(lab, node)) {
        Err(error) if error.errno == Errno::EACCES => return Ok(None),
        other => other?,
    };
    let Some((stream, pid)) = found else { return Ok(None) };
    let asked = || format!("talk to {}", wire::whom(lab, node));
    let fail = |error: io::Error| KernelError::from_io(asked(), &error);
    stream.set_nonblocking(true).map_err(fail)?;
    let mut line = Line::over(UnixStream::from_std(stream).map_err(fail)?);
    let mut seen = SeenKeeper {
        limits: groups.limits(lab, node),
        pid: u32::try_from(pid).unwrap_or_default(),
        ..SeenKeeper::default()
    };
    match line.ask(&Ask::Look, ANSWER_WITHIN).await {
        Ok(Tell::Keeps(Keeps { room, renamed, netns, processes, files })) => {
            (seen.room, seen.processes, seen.files) = (room, processes, files);
            seen.renamed = renamed;
            let named = fs::metadata(netns::path(&netns_name(lab, node)));
            if named.map_or(0, |named| named.ino()) != netns {
                seen.lost = Some("it is in another namespace than the node".into());
            }
        }
        // It came to its end just now.
        Err(Errno::EPIPE) => return Ok(None),
        Ok(_) | Err(_) => seen.lost = Some("it does not answer".into()),
    }
    Ok(Some(seen))
}

/// Starts the keeper of a node, and returns when it listens.
///
/// Like `ip netns exec NETNS unshare --pid --fork --uts --ipc --mount`.
pub(super) async fn start(
    lab: &LabName,
    node: &NodeName,
    room: &Room,
    limits: &Limits,
    labs: &Path,
) -> Result<(), KernelError> {
    let asked = || format!("start {}", wire::whom(lab, node));
    let fail = |error: io::Error| KernelError::from_io(asked(), &error);
    let groups = Groups::find();
    groups.make(lab, node);
    let limited = groups.limit(lab, node, limits);
    let started = match limited {
        Ok(()) => spawn(lab, node, room).map_err(fail),
        Err(error) => Err(error),
    };
    let begun = match started {
        Ok(mut line) => {
            let charge = Charge { room: room.clone(), logs: logs(labs, lab, node) };
            line.ask(&charge, ANSWER_WITHIN).await.map_err(|errno| KernelError::new(asked(), errno))
        }
        Err(error) => Err(error),
    };
    let failed = match begun {
        Ok(Begun::Listens) => return Ok(()),
        Ok(Begun::Failed { asked: what, errno }) => {
            KernelError::new(format!("{}: could not {what}", asked()), Errno::from_raw(errno))
        }
        Err(error) => error,
    };
    // Nothing of it is to be left.
    let _ = end(lab, node).await;
    Err(failed)
}

/// Starts this program again as a keeper, at the other end of the line.
fn spawn(lab: &LabName, node: &NodeName, room: &Room) -> io::Result<Line> {
    let (ours, its) = UnixStream::pair()?;
    let its = its.into_std()?;
    its.set_nonblocking(false)?;
    let mut command = Command::new(program());
    command.arg0("ovsns").args(["keep-node", "--lab", lab.as_str(), "--node", node.as_str()]);
    command.stdin(OwnedFd::from(its)).stdout(Stdio::null()).stderr(Stdio::null());
    command.current_dir("/");
    let own_processes = room.kinds.contains(&Isolation::Pid);
    let (started, start) = std::sync::mpsc::channel();
    // On a thread made for it: the next child of a thread that has left its
    // process namespace is the first process of the new one. The thread waits
    // for it, too: a program that uses this library may outlive it.
    std::thread::Builder::new().spawn(move || {
        let born = match own_processes {
            true => unshare(CloneFlags::CLONE_NEWPID)
                .map_err(|errno| KernelError::of_namespace("", errno).errno.into()),
            false => Ok(()),
        };
        let child = born.and_then(|()| command.spawn());
        // Its own end must not stay open here, or its death would not be heard.
        drop(command);
        match child {
            Ok(mut child) => {
                let _ = started.send(Ok(()));
                let _ = child.wait();
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    start.recv().map_err(io::Error::other)??;
    Ok(Line::over(ours))
}

/// Ends a node's keeper and all that it has started, and whatever else is in the
/// node's control group. A keeper that does not want to is killed.
pub(super) async fn end(lab: &LabName, node: &NodeName) -> Result<(), KernelError> {
    if let Some((stream, pid)) = line::connect(&wire::name(lab, node), &wire::whom(lab, node))? {
        let asked = || format!("end {}", wire::whom(lab, node));
        let fail = |error: io::Error| KernelError::from_io(asked(), &error);
        let keeper = Pid::from_raw(pid).ok_or_else(|| KernelError::new(asked(), Errno::ESRCH))?;
        // It may be gone by now, but then its number is nobody's: see `Door`.
        let handle = pidfd_open(keeper, PidfdFlags::empty());
        stream.set_nonblocking(true).map_err(fail)?;
        let mut line = Line::over(UnixStream::from_std(stream).map_err(fail)?);
        let kept = match line.ask(&Ask::Look, ANSWER_WITHIN).await {
            Ok(Tell::Keeps(keeps)) => u32::try_from(keeps.processes.len()).unwrap_or(u32::MAX),
            _ => 0,
        };
        let within = ANSWER_WITHIN + (keeper::GRACE + Duration::from_secs(1)) * kept;
        let ended: Result<Tell, Errno> = match kept {
            _ if handle.is_err() => Err(Errno::ESRCH),
            _ => line.ask(&Ask::End, within).await,
        };
        if let Ok(handle) = handle {
            if ended.is_err() {
                let _ = pidfd_send_signal(&handle, Signal::KILL);
            }
            await_end(handle).await.map_err(|errno| KernelError::new(asked(), errno))?;
        }
    }
    Groups::find().end(lab, node).await
}

/// Waits until a process is gone; kills it if it takes its time.
async fn await_end(handle: OwnedFd) -> Result<(), Errno> {
    // As for `switch::own::daemon`: an `OwnedFd` closes its file behind nobody's back.
    // A thread that waits would be one that may not be had any more.
    #[allow(deprecated)]
    let handle = AsyncFd::new(handle);
    let handle = handle.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    for _ in 0..2 {
        if timeout(ANSWER_WITHIN, handle.readable()).await.is_ok() {
            return Ok(());
        }
        let _ = pidfd_send_signal(handle.get_ref(), Signal::KILL);
    }
    Err(Errno::ETIMEDOUT)
}

/// Changes what a node may use.
pub(super) fn limit(lab: &LabName, node: &NodeName, limits: &Limits) -> Result<(), KernelError> {
    Groups::find().limit(lab, node, limits)
}

/// Runs a process in a node, and returns when it is ready.
pub(super) async fn run(
    lab: &LabName,
    node: &NodeName,
    process: &Process,
) -> Result<(), KernelError> {
    let asked = format!("run process `{}` in node `{node}`", process.name);
    let fail = |errno| KernelError::new(&asked, errno);
    let Some(mut line) = wire::connect(lab, node)? else { return Err(fail(Errno::EHOSTDOWN)) };
    let ready_within = Duration::from_secs(u64::from(process.timeout_s));
    let within = ready_within + keeper::GRACE + ANSWER_WITHIN;
    match line.ask(&Ask::Run(process.clone()), within).await {
        Ok(Tell::Ready) => Ok(()),
        Ok(Tell::NotReady { why, said }) => Err(KernelError::of_process(asked, why, said)),
        Ok(Tell::Taken) => Err(fail(Errno::EEXIST)),
        Ok(_) => Err(fail(Errno::EBADMSG)),
        Err(errno) => Err(fail(errno)),
    }
}

/// Lays a file over the machine's in a node.
pub(super) async fn lay(
    lab: &LabName,
    node: &NodeName,
    path: &str,
    file: &NodeFile,
) -> Result<(), KernelError> {
    let asked = format!("lay file `{path}` in node `{node}`");
    let Some(line) = wire::connect(lab, node)? else {
        return Err(KernelError::new(asked, Errno::EHOSTDOWN));
    };
    laid(line, asked, &Ask::Lay(path.to_owned(), file.clone())).await
}

/// Takes away what was laid over a file of the machine in a node. Where nobody
/// keeps the node, nothing is laid.
pub(super) async fn lift(lab: &LabName, node: &NodeName, path: &str) -> Result<(), KernelError> {
    let Some(line) = wire::connect(lab, node)? else { return Ok(()) };
    let asked = format!("take file `{path}` away in node `{node}`");
    laid(line, asked, &Ask::Lift(path.to_owned())).await
}

async fn laid(mut line: Line, asked: String, ask: &Ask) -> Result<(), KernelError> {
    match line.ask(ask, ANSWER_WITHIN).await {
        Ok(Tell::Laid) => Ok(()),
        Ok(Tell::NotLaid(why)) => Err(KernelError::of_process(asked, why, Vec::new())),
        Ok(_) => Err(KernelError::new(asked, Errno::EBADMSG)),
        Err(errno) => Err(KernelError::new(asked, errno)),
    }
}

/// Has a node be called so by whoever is in it.
///
/// Like `hostname NAME` in the node.
pub(super) async fn rename(lab: &LabName, node: &NodeName, name: &str) -> Result<(), KernelError> {
    let fail = |errno| KernelError::new(format!("have node `{node}` be called `{name}`"), errno);
    let Some(mut line) = wire::connect(lab, node)? else { return Err(fail(Errno::EHOSTDOWN)) };
    match line.ask(&Ask::Rename(name.to_owned()), ANSWER_WITHIN).await {
        Ok(Tell::Renamed) => Ok(()),
        Ok(Tell::NotRenamed(errno)) => Err(fail(Errno::from_raw(errno))),
        Ok(_) => Err(fail(Errno::EBADMSG)),
        Err(errno) => Err(fail(errno)),
    }
}

/// How a process of a node has failed, if it has.
pub(super) async fn failed(
    lab: &LabName,
    node: &NodeName,
    process: &ProcessName,
    labs: &Path,
) -> Result<Option<KernelError>, KernelError> {
    let Some(seen) = look_at(&Groups::find(), lab, node).await? else { return Ok(None) };
    let seen = seen.processes.into_iter().find(|seen| seen.process.name == *process);
    let Some(Standing::Failed { ended }) = seen.map(|seen| seen.standing) else { return Ok(None) };
    let heard = log::last_lines(&logs(labs, lab, node), process, keeper::LINES_TOLD);
    let asked = format!("keep process `{process}` in node `{node}` running");
    Ok(Some(KernelError::of_process(asked, format!("it {ended}"), heard)))
}

/// Stops a process of a node. One that nobody keeps is stopped.
pub(super) async fn stop(
    lab: &LabName,
    node: &NodeName,
    process: &ProcessName,
) -> Result<(), KernelError> {
    let fail =
        |errno| KernelError::new(format!("stop process `{process}` of node `{node}`"), errno);
    let Some(mut line) = wire::connect(lab, node)? else { return Ok(()) };
    match line.ask(&Ask::Stop(process.clone()), keeper::GRACE + ANSWER_WITHIN).await {
        Ok(Tell::Stopped) | Err(Errno::EPIPE) => Ok(()),
        Ok(_) => Err(fail(Errno::EBADMSG)),
        Err(errno) => Err(fail(errno)),
    }
}

/// The directory in which what the processes of a node say is kept, below that of
/// the labs.
pub fn logs(labs: &Path, lab: &LabName, node: &NodeName) -> PathBuf {
    labs.join(lab.as_str()).join("logs").join(node.as_str())
}

/// Has the keepers of all nodes of this name write again what somebody has deleted
/// of what their processes said.
pub async fn mend_logs(node: &NodeName) -> Result<(), KernelError> {
    let groups = Groups::find();
    for (lab, _) in names()?.iter().filter(|(_, of)| of == node) {
        // Each does, whoever looks at it.
        look_at(&groups, lab, node).await?;
    }
    Ok(())
}

/// Deletes what the processes of a node have said.
pub(super) fn forget(lab: &LabName, node: &NodeName, labs: &Path) -> Result<(), KernelError> {
    let directory = logs(labs, lab, node);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::from_io(format!("delete `{}`", directory.display()), &error))
        }
        _ => Ok(()),
    }
}

/// The way into a node that has a keeper.
#[derive(Debug)]
pub(super) struct Door {
    keeper: OwnedFd,
    /// Whether the node has processes of its own.
    pub(super) own_processes: bool,
}

/// Finds the way into a node, if it has a keeper.
pub(super) fn door(lab: &LabName, node: &NodeName) -> Result<Option<Door>, KernelError> {
    let whom = wire::whom(lab, node);
    let Some((stream, pid)) = line::connect(&wire::name(lab, node), &whom)? else {
        return Ok(None);
    };
    let fail = |errno| KernelError::new(format!("find {whom}"), errno);
    let gone = || fail(Errno::ESRCH);
    let keeper = Pid::from_raw(pid).ok_or_else(gone)?;
    let handle = pidfd_open(keeper, PidfdFlags::empty()).map_err(|_| gone())?;
    let namespace = |of: &str| fs::metadata(format!("/proc/{of}/ns/pid")).map(|ns| ns.ino()).ok();
    let own_processes = namespace(&pid.to_string()) != namespace("self");
    // If it still holds its end, the number was its own all the while.
    let mut ends = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    poll(&mut ends, PollTimeout::ZERO).map_err(fail)?;
    let closed = PollFlags::POLLHUP | PollFlags::POLLERR;
    if ends[0].revents().is_some_and(|seen| seen.intersects(closed)) {
        return Err(gone());
    }
    Ok(Some(Door { keeper: handle, own_processes }))
}

impl Door {
    /// Moves this process through: into all namespaces of the node but that of
    /// processes, where only its next child is.
    ///
    /// Like `nsenter --all --target KEEPER`.
    pub(super) fn enter(&self, lab: &LabName, node: &NodeName) -> Result<(), KernelError> {
        let all = CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID;
        // The group first: the node may have no control groups in sight.
        Groups::find().join(lab, node)?;
        setns(self.keeper.as_fd(), all)
            .map_err(|errno| KernelError::new(format!("enter node `{node}`"), errno))
    }
}
