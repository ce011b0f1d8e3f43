//! The memory: a directory with what each lab should be, who is changing it,
//! and what was about to be done.
//!
//! The kernel is the truth and this only a help: every command works with all
//! of it lost, because each thing carries its mark. `labs/LAB/` holds
//! `lab.json` (the lab as wanted), `lock`, `journal.json` while a change is in
//! flight, and `attached.json` with the NICs that are in it: the one thing that
//! is known from nowhere else. Files are written beside, synced and renamed; 0700 and 0600.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::attachments::Attachments;
use crate::kernel::{cut_short, laid};
use crate::model::hosts::Names;
use crate::model::names::LabName;
use crate::model::topology::{Backend, Lab};
use crate::plan::Plan;

pub use crate::kernel::laid::DIRECTORY;

/// The file with a lab's NICs.
const ATTACHED: &str = "attached.json";
/// The directory with what the processes of a lab's nodes said
/// (`kernel::life::logs`).
const LOGS: &str = "logs";
/// How long a lock may be had by nobody that it names.
const NAMED_WITHIN: Duration = Duration::from_secs(1);
const LOOKED_AT_AGAIN: Duration = Duration::from_millis(2);
/// The socket of a lab's watchdog.
const WATCH: &str = "watch";

/// The state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another command is at work on the lab.
    #[error("lab `{lab}` is being changed by {holder}")]
    Locked {
        /// The lab.
        lab: LabName,
        /// The command and its process id.
        holder: String,
    },
    /// A file could not be read or written.
    #[error("could not {what} `{path}`")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("`{path}` is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What is remembered of a lab.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabState {
    /// The lab as it was last made.
    pub lab: Option<Lab>,
    /// The command that was cut off in the middle of a change.
    pub cut_off: Option<String>,
    /// Whether that, or one that failed, was to remove it.
    pub leaving: bool,
    /// What the switches are made of that a change was to make, of which
    /// nobody knows how far it came.
    pub begun: BTreeSet<Backend>,
}

/// The state directory.
#[derive(Debug, Clone)]
pub struct State {
    directory: PathBuf,
}

/// A change in flight.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    command: String,
    pid: u32,
    /// `/proc/sys/kernel/random/boot_id`: after a reboot nothing is in flight.
    boot: String,
    plan: Plan,
    /// Whether there is to be nothing of the lab in the end.
    #[serde(default)]
    removes: bool,
}

impl State {
    /// The directory that the environment names, or the usual one.
    pub fn from_environment() -> Self {
        Self { directory: laid::state_directory() }
    }

    /// A directory of somebody's choice.
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory in which each lab has its own.
    pub fn labs_directory(&self) -> PathBuf {
        self.directory.join("labs")
    }

    fn of(&self, lab: &LabName) -> PathBuf {
        self.labs_directory().join(lab.as_str())
    }

    /// The labs that are remembered.
    pub fn labs(&self) -> Result<BTreeSet<LabName>, StateError> {
        let directory = self.labs_directory();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            other => other.map_err(|source| file("read", &directory, source))?,
        };
        let names =
            entries.filter_map(|entry| LabName::new(entry.ok()?.file_name().to_str()?).ok());
        Ok(names.collect())
    }

    /// What is remembered of `lab`.
    pub fn read(&self, lab: &LabName) -> Result<LabState, StateError> {
        let directory = self.of(lab);
        let journal: Option<Journal> = read_json(&directory.join("journal.json"))?;
        // A database may outlive a reboot, and keep what the change wrote.
        let begun = journal.iter().flat_map(|journal| journal.plan.backends()).collect();
        let leaving = journal.as_ref().is_some_and(|journal| journal.removes);
        let cut_off = journal.filter(|journal| journal.boot == boot_id() && !is_held(&directory));
        Ok(LabState {
            lab: read_json(&directory.join("lab.json"))?,
            cut_off: cut_off.map(|journal| journal.command),
            leaving,
            begun,
        })
    }

    /// Whether a command is at work on `lab`.
    pub fn is_at_work(&self, lab: &LabName) -> bool {
        is_held(&self.of(lab))
    }

    /// What is remembered of the NICs of `lab`; nothing of an earlier life of
    /// the machine.
    pub fn attachments(&self, lab: &LabName) -> Result<Attachments, StateError> {
        let read: Option<Attachments> = read_json(&self.of(lab).join(ATTACHED))?;
        Ok(read.filter(|attached| attached.boot == boot_id()).unwrap_or_default())
    }

    /// Whether NICs of `lab` were attached in an earlier life of the machine, as
    /// far as is remembered.
    pub fn is_of_before(&self, lab: &LabName) -> Result<bool, StateError> {
        let read: Option<Attachments> = read_json(&self.of(lab).join(ATTACHED))?;
        Ok(read.is_some_and(|attached| attached.boot != boot_id()))
    }

    /// Where the watchdog of `lab` can be woken.
    pub fn watch(&self, lab: &LabName) -> PathBuf {
        self.of(lab).join(WATCH)
    }

    /// The same as [`Self::lock`]; `None` if somebody is at it.
    pub fn lock_if_free(&self, lab: &LabName, command: &str) -> Result<Option<Held>, StateError> {
        match self.lock(lab, command) {
            Err(StateError::Locked { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Takes the lab for this process, until the result is dropped.
    ///
    /// # Errors
    /// `Locked` at once if another process has it: the caller decides whether
    /// to wait.
    pub fn lock(&self, lab: &LabName, command: &str) -> Result<Held, StateError> {
        let directory = self.of(lab);
        let was_there = directory.exists();
        cut_short::before(|| format!("lock {lab}"));
        let locked = self.lock_in(&directory, lab, command);
        if locked.is_err() && !was_there {
            prune(&directory);
        }
        locked.map(|lock| Held { directory, was_there, command: command.to_owned(), lock })
    }

    fn lock_in(
        &self,
        directory: &Path,
        lab: &LabName,
        command: &str,
    ) -> Result<Flock<File>, StateError> {
        let path = directory.join("lock");
        let start = Instant::now();
        loop {
            make_directory(directory)?;
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path);
            let opened = match opened {
                // Whoever let the lab go took the directory along just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|source| file("open", &path, source))?,
            };
            let mut lock = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((mut opened, Errno::EWOULDBLOCK)) => {
                    let mut holder = String::new();
                    let _ = opened.read_to_string(&mut holder);
                    let holder = holder.trim();
                    // Between its lock and its name nobody can say who has it; and who
                    // only looks whether somebody has it has it for a moment, too.
                    if !is_alive(holder) && start.elapsed() < NAMED_WITHIN {
                        std::thread::sleep(LOOKED_AT_AGAIN);
                        continue;
                    }
                    let holder = if holder.is_empty() { "another command" } else { holder };
                    let holder = holder.to_owned();
                    return Err(StateError::Locked { lab: lab.clone(), holder });
                }
                Err((_, errno)) => return Err(file("lock", &path, errno.into())),
            };
            // The file may have been deleted by the one who held it, and the
            // name may be another's by now.
            if !is_the_same(&lock, &path) {
                continue;
            }
            let name = format!("`{command}` (process {})\n", std::process::id());
            // Without a name it is a lock all the same: a lab can be taken down
            // on a full file system.
            let _ = lock.set_len(0).and_then(|()| lock.write_all(name.as_bytes()));
            return Ok(lock);
        }
    }
}

/// Whether the process runs that a lock names.
fn is_alive(holder: &str) -> bool {
    let number = holder.rsplit_once("(process ").and_then(|(_, rest)| rest.strip_suffix(')'));
    number.is_some_and(|number| Path::new("/proc").join(number).exists())
}

/// A lab that this process has for itself. If nothing is remembered of it in
/// the end, nothing is left of its directory.
#[derive(Debug)]
pub struct Held {
    directory: PathBuf,
    was_there: bool,
    command: String,
    lock: Flock<File>,
}

impl Held {
    /// Whether there was a directory of the lab before, with a memory in it or
    /// left by a command that was cut off.
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// Writes down what is about to be done.
    pub fn begin(&self, plan: &Plan) -> Result<(), StateError> {
        self.note(plan, false)
    }

    /// The same of what ends with nothing left of the lab.
    pub fn begin_to_remove(&self, plan: &Plan) -> Result<(), StateError> {
        self.note(plan, true)
    }

    fn note(&self, plan: &Plan, removes: bool) -> Result<(), StateError> {
        let journal = Journal {
            command: self.command.clone(),
            pid: std::process::id(),
            boot: boot_id(),
            plan: plan.clone(),
            removes,
        };
        write_json(&self.directory.join("journal.json"), &journal)
    }

    /// Writes down what the lab should be, although it is not yet.
    pub fn intend(&self, lab: &Lab) -> Result<(), StateError> {
        let path = self.directory.join("lab.json");
        if read_json::<Lab>(&path).ok().flatten().as_ref() != Some(lab) {
            write_json(&path, lab)?;
        }
        Ok(())
    }

    /// Writes down what the nodes are called, for all who enter one.
    pub fn write_names(&self, names: &Names) -> Result<(), StateError> {
        cut_short::before(|| "write the names".into());
        let written = laid::write_names(&self.directory, &names.inside());
        written.map_err(|source| file("write", &laid::names(&self.directory), source))
    }

    /// Writes down what the lab should be, now that it is.
    pub fn remember(&self, lab: &Lab) -> Result<(), StateError> {
        self.intend(lab)?;
        remove(&self.directory.join("journal.json"))
    }

    /// Writes down how NICs were, and what becomes of them if this process dies.
    /// When this returns it is on the disk.
    pub fn write_attachments(&self, attached: &Attachments) -> Result<(), StateError> {
        let path = self.directory.join(ATTACHED);
        if attached.all().is_empty() && attached.change.is_none() {
            return remove(&path);
        }
        write_json(&path, &Attachments { boot: boot_id(), ..attached.clone() })?;
        // The name, too, and not only what is behind it.
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| file("write", &self.directory, source))
    }

    /// Forgets the change that was taken back.
    pub fn abandon(&self) -> Result<(), StateError> {
        remove(&self.directory.join("journal.json"))
    }

    /// Forgets the lab, now that it is gone.
    pub fn forget(&self) -> Result<(), StateError> {
        remove(&laid::names(&self.directory))?;
        remove(&self.directory.join("lab.json"))?;
        remove(&self.directory.join("journal.json"))?;
        // What the processes of its nodes said.
        let logs = self.directory.join(LOGS);
        cut_short::before(|| "delete the logs".into());
        match fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file("delete", &logs, error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let files = ["lab.json", "journal.json", ATTACHED];
        let used = files.iter().any(|f| self.directory.join(f).exists());
        if !used {
            // Left by a command that was killed while it wrote.
            for name in ["hosts", "lab.new", "journal.new", "attached.new", WATCH] {
                let _ = fs::remove_file(self.directory.join(name));
            }
            // What a lab that was taken back has said was told with the reason.
            let _ = fs::remove_dir_all(self.directory.join(LOGS));
            cut_short::before(|| "delete the lock".into());
            // The lock file is deleted while it is held: who waits for it sees
            // that it has no name any more, and looks again. If it cannot be
            // deleted, an empty directory is left, which hurts nobody.
            let _ = fs::remove_file(self.directory.join("lock"));
            cut_short::before(|| "delete the directory".into());
            prune(&self.directory);
        }
        // Who finds it locked from here on finds no name of one who is gone.
        let _ = self.lock.set_len(0);
    }
}

/// Deletes the directory of a lab and those above it, as far as they are empty.
fn prune(directory: &Path) {
    // `labs/LAB`, `labs`, and above them the usual place, which is ours; a place
    // that somebody chose stays.
    let levels = if directory.starts_with(DIRECTORY) { 3 } else { 2 };
    for directory in directory.ancestors().take(levels) {
        if fs::remove_dir(directory).is_err() {
            break;
        }
    }
}

fn file(what: &'static str, path: &Path, source: io::Error) -> StateError {
    StateError::File { what, path: path.to_owned(), source }
}

fn make_directory(path: &Path) -> Result<(), StateError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| file("make", path, source))
}

fn remove(path: &Path) -> Result<(), StateError> {
    cut_short::before(|| format!("delete {}", path.display()));
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| file("delete", path, source)),
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Option<T>, StateError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| file("read", path, source))?,
    };
    let read = serde_json::from_slice(&text);
    read.map(Some).map_err(|source| StateError::Damaged { path: path.to_owned(), source })
}

/// Written beside, synced and renamed: a reader finds the old or the new.
fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    let beside = path.with_extension("new");
    cut_short::before(|| format!("write {}", beside.display()));
    let fail = |source| file("write", path, source);
    let text = serde_json::to_vec(value).expect("our own types have no maps with odd keys");
    let mut new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(fail)?;
    let written = new.write_all(&text).and_then(|()| new.sync_all()).and_then(|()| {
        cut_short::before(|| format!("name it {}", path.display()));
        fs::rename(&beside, path)
    });
    written.map_err(|source| {
        let _ = fs::remove_file(&beside);
        fail(source)
    })
}

fn is_the_same(lock: &File, path: &Path) -> bool {
    let (Ok(held), Ok(named)) = (lock.metadata(), fs::metadata(path)) else { return false };
    (held.dev(), held.ino()) == (named.dev(), named.ino())
}

/// Whether some process has the lab.
fn is_held(directory: &Path) -> bool {
    let Ok(opened) = File::open(directory.join("lock")) else { return false };
    matches!(Flock::lock(opened, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
