//! The directory of an Open vSwitch of our own: what is in it, whose it is,
//! and how it comes and goes.
//!
//! It is made 0700, so that nothing in it has to be hidden one by one. It
//! belongs to one network namespace, written down in it; and whoever keeps it
//! holds a lock on the directory itself, not on a file in it, so that there is
//! none to be left or deleted.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;
use nix::sys::socket::sockopt::GetStruct;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, socket};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::OwnError;
use super::daemon::Which;
use crate::kernel::netns;

/// The usual place for the state, which goes when nothing is left in it; a
/// place that somebody chose stays. The same as `engine::state::DIRECTORY`.
const USUAL: &str = "/run/ovsns";
/// The database.
const DATABASE: &str = "conf.db";
/// Says which network namespace the directory belongs to.
const NAMESPACE: &str = "namespace";
/// Is there if Open vSwitch stays whether it is used or not.
const KEPT: &str = "kept";
/// The longest path of a socket (`unix(7)`, less its closing zero byte).
const SOCKET_BYTES_MAX: usize = 107;
/// A log that is longer is put aside, over the one before it: neither a daemon that
/// dies over and over nor one that lives for months is to fill the file system.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// A directory that this process keeps.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    lock: Flock<File>,
    /// Whether it was made just now.
    fresh: bool,
    /// Whether Open vSwitch stays when nobody uses it.
    kept: bool,
}

/// A network namespace, told from all others since this machine was booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Namespace {
    /// `/proc/sys/kernel/random/boot_id`.
    boot: String,
    /// Its inode, which is what `lsns` and `readlink` show. Another namespace
    /// may get it when this one is gone.
    inode: u64,
    /// Its cookie, which no other ever gets; 0 before Linux 5.14.
    cookie: u64,
}

/// The cookie of the network namespace of a socket (Linux 5.14).
#[derive(Debug, Clone, Copy)]
struct NetnsCookie;

nix::getsockopt_impl!(NetnsCookie, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, u64, GetStruct<u64>);

impl Namespace {
    /// That of the calling thread.
    pub(super) fn here() -> Result<Self, OwnError> {
        let asked = "ask which network namespace this is";
        let file = fs::metadata("/proc/thread-self/ns/net").map_err(OwnError::io(asked))?;
        let kind = (AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC);
        let cookie = socket(kind.0, kind.1, kind.2, None)
            .map_err(|errno| OwnError::io(asked)(errno.into()))
            .map(|socket| getsockopt(&socket, NetnsCookie).unwrap_or(0))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { boot: boot.trim().to_owned(), inode: file.ino(), cookie })
    }

    /// Whether process `pid` is in it.
    pub(super) fn has(&self, pid: u32) -> bool {
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|file| file.ino() == self.inode)
    }

    /// Whether it is still there: has a name, or a process in it.
    fn is_alive(&self, here: &Self) -> bool {
        let is_it = |path: PathBuf| fs::metadata(path).is_ok_and(|file| file.ino() == self.inode);
        let names = |place| fs::read_dir(place).into_iter().flatten().flatten();
        self.boot == here.boot
            && (names(netns::DIRECTORY).any(|name| is_it(name.path()))
                || names("/proc").any(|process| is_it(process.path().join("ns/net"))))
    }

    fn of(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(NAMESPACE)).ok()?).ok()
    }
}

/// The socket of the database in `directory`.
pub(super) fn db(directory: &Path) -> PathBuf {
    directory.join("db.sock")
}

/// The control socket of a daemon in `directory`.
pub(super) fn ctl(directory: &Path, which: Which) -> PathBuf {
    directory.join(format!("{which}.ctl"))
}

/// The log of a daemon in `directory`.
pub(super) fn log(directory: &Path, which: Which) -> PathBuf {
    directory.join(format!("{which}.log"))
}

/// The log of the keeper in `directory`.
pub(super) fn keeper_log(directory: &Path) -> PathBuf {
    directory.join("keeper.log")
}

/// Whether `directory` is one of ours in this network namespace, kept or not.
pub(super) fn is_of(directory: &Path, here: &Namespace) -> bool {
    Namespace::of(directory).as_ref() == Some(here)
}

impl Place {
    /// Takes `directory` for this process, and makes it if it is not there.
    ///
    /// One that was left in this namespace is taken with all that is in it. One
    /// that was left in a namespace that is gone is emptied.
    pub(super) fn take(directory: &Path, here: &Namespace) -> Result<Self, OwnError> {
        let most = SOCKET_BYTES_MAX - "/ovs-vswitchd.ctl".len();
        if most < directory.as_os_str().len() {
            return Err(OwnError::TooLong { directory: directory.to_owned(), most });
        }
        loop {
            make(directory)?;
            let not_ours = |why: String| OwnError::NotOurs { directory: directory.to_owned(), why };
            let opened = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
                .open(directory);
            let opened = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => {
                    return Err(not_ours("it is no directory".into()));
                }
                other => other.map_err(OwnError::file("open", directory))?,
            };
            let owner = opened.metadata().map_err(OwnError::file("read", directory))?.uid();
            if owner != geteuid().as_raw() {
                return Err(not_ours(format!("it belongs to user {owner}")));
            }
            let lock = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                // The keeper of this namespace is ourselves.
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(OwnError::Elsewhere { directory: directory.to_owned() });
                }
                Err((_, errno)) => return Err(OwnError::file("lock", directory)(errno.into())),
            };
            let kept = directory.join(KEPT).exists();
            let mut place = Self { directory: directory.to_owned(), lock, fresh: false, kept };
            if !place.is_still_there() {
                continue;
            }
            match Namespace::of(directory) {
                Some(recorded) if recorded == *here => {}
                Some(recorded) if is_in_use(directory) || recorded.is_alive(here) => {
                    return Err(OwnError::Elsewhere { directory: directory.to_owned() });
                }
                Some(_) => {
                    place.empty()?;
                    place.record(here)?;
                }
                None => match something_in(directory)? {
                    Some(name) => return Err(not_ours(format!("there is a `{name}` in it"))),
                    None => place.record(here)?,
                },
            }
            // One that was there empty may have been open to all.
            let private = fs::Permissions::from_mode(0o700);
            place.lock.set_permissions(private).map_err(OwnError::file("close", directory))?;
            return Ok(place);
        }
    }

    /// Takes the directory again after somebody deleted it.
    pub(super) fn renew(&mut self, here: &Namespace) -> Result<(), OwnError> {
        if !self.is_still_there() {
            let (fresh, kept) = (self.fresh, self.kept);
            *self = Self::take(&self.directory, here)?;
            self.fresh = fresh;
            if kept {
                self.keep()?;
            }
        }
        Ok(())
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it was made for this process, so that nobody misses it.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.directory.join(DATABASE)
    }

    /// Whether the directory and the database are still there.
    pub(super) fn is_there(&self) -> bool {
        self.is_still_there() && self.database().exists()
    }

    /// Whether all that others need is there.
    pub(super) fn is_whole(&self) -> bool {
        let sockets = [
            db(&self.directory),
            ctl(&self.directory, Which::Server),
            ctl(&self.directory, Which::Switch),
        ];
        self.is_there() && sockets.iter().all(|socket| socket.exists())
    }

    /// Whether Open vSwitch stays when nobody uses it.
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Has Open vSwitch stay when nobody uses it.
    pub(super) fn keep(&mut self) -> Result<(), OwnError> {
        self.kept = true;
        let file = self.directory.join(KEPT);
        fs::write(&file, "").map_err(OwnError::file("write", &file))
    }

    /// Copies an open database into the directory, if it is not the file that
    /// is there.
    pub(super) fn rescue_database(&self, opened: &mut File) -> Result<(), OwnError> {
        let file = self.database();
        let fail = |path: &Path| OwnError::file("write", path);
        let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let source = opened.metadata().map_err(OwnError::file("read", &file))?;
        if fs::metadata(&file).is_ok_and(|there| same(there, source)) {
            return Ok(());
        }
        let beside = file.with_extension("new");
        let mut copy = File::create(&beside).map_err(fail(&beside))?;
        opened.rewind().and_then(|()| io::copy(opened, &mut copy)).map_err(fail(&beside))?;
        copy.sync_all().map_err(fail(&beside))?;
        fs::rename(&beside, &file).map_err(fail(&file))
    }

    /// Opens a log at its end. One that has grown too long is put aside, over
    /// the one before it.
    pub(super) fn open_log(path: &Path) -> io::Result<File> {
        if is_long(path) {
            fs::rename(path, aside(path))?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)
    }

    /// Deletes the directory and all that is in it, and the usual place above
    /// it if that is empty then.
    pub(super) fn remove(&self) -> Result<(), OwnError> {
        let mut rounds = 0;
        while let Err(error) = fs::remove_dir_all(&self.directory) {
            rounds += 1;
            match error.kind() {
                io::ErrorKind::NotFound => break,
                // What a keeper that was killed had started has made a file.
                io::ErrorKind::DirectoryNotEmpty if rounds < 4 => {}
                _ => return Err(OwnError::file("delete", &self.directory)(error)),
            }
        }
        if let Some(above) = self.directory.parent().filter(|above| *above == Path::new(USUAL)) {
            // Whoever has something in it still needs it.
            let _ = fs::remove_dir(above);
        }
        Ok(())
    }

    fn is_still_there(&self) -> bool {
        let (Ok(held), Ok(named)) = (self.lock.metadata(), fs::symlink_metadata(&self.directory))
        else {
            return false;
        };
        (held.dev(), held.ino()) == (named.dev(), named.ino())
    }

    fn empty(&mut self) -> Result<(), OwnError> {
        self.kept = false;
        let fail = |path: &Path| OwnError::file("delete", path);
        let entries = fs::read_dir(&self.directory).map_err(fail(&self.directory))?;
        for entry in entries {
            let path = entry.map_err(fail(&self.directory))?.path();
            let is_directory = fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir());
            let gone =
                if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            gone.map_err(fail(&path))?;
        }
        Ok(())
    }

    /// Written beside and renamed: the directory never belongs to half a name.
    fn record(&mut self, here: &Namespace) -> Result<(), OwnError> {
        let file = self.directory.join(NAMESPACE);
        let beside = file.with_extension("new");
        let text = serde_json::to_vec(here).expect("our own types have no maps with odd keys");
        let mut new = File::create(&beside).map_err(OwnError::file("write", &beside))?;
        new.write_all(&text).map_err(OwnError::file("write", &beside))?;
        self.fresh = true;
        fs::rename(&beside, &file).map_err(OwnError::file("write", &file))
    }
}

/// The database as process `server` has it open, whatever became of its name.
pub(super) fn opened_database(server: u32, directory: &Path) -> Option<File> {
    let path = directory.join(DATABASE);
    let deleted = PathBuf::from(format!("{} (deleted)", path.display()));
    let entries = fs::read_dir(format!("/proc/{server}/fd")).ok()?;
    let is_it = |link: PathBuf| link == path || link == deleted;
    let mut files = entries.flatten().map(|entry| entry.path());
    let file = files.find(|file| fs::read_link(file).is_ok_and(is_it))?;
    File::open(file).ok()
}

/// Makes the directory and what is above it, if it is not there.
fn make(directory: &Path) -> Result<(), OwnError> {
    let fail = |path: &Path| OwnError::file("make", path);
    if let Some(above) = directory.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(fail(above))?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Somebody took the one above along just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(directory),
        Err(error) => Err(fail(directory)(error)),
    }
}

/// A name in the directory that does not come from a keeper that was cut off
/// before it could write down whose it is.
fn something_in(directory: &Path) -> Result<Option<String>, OwnError> {
    let fail = |path: &Path| OwnError::file("read", path);
    for entry in fs::read_dir(directory).map_err(fail(directory))? {
        let name = entry.map_err(fail(directory))?.file_name();
        if name != "namespace.new" {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// Whether a daemon runs in the directory, in whatever namespace: it holds a
/// lock on its pid file as long as it lives (`lib/daemon-unix.c`).
fn is_in_use(directory: &Path) -> bool {
    Which::ALL.iter().any(|which| {
        let file = directory.join(format!("{which}.pid"));
        let Ok(file) = OpenOptions::new().read(true).write(true).open(file) else { return false };
        let mut lock = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let asked = fcntl(file.as_fd(), FcntlArg::F_GETLK(&mut lock));
        asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
    })
}

/// Whether a log has grown too long.
pub(super) fn is_long(log: &Path) -> bool {
    fs::metadata(log).is_ok_and(|log| LOG_BYTES_MAX < log.len())
}

/// Where a log goes that has grown too long.
pub(super) fn aside(log: &Path) -> PathBuf {
    log.with_extension("log.old")
}

/// The last lines of a log; none if there is no log.
pub(super) fn tail(log: &Path, lines: usize) -> Vec<String> {
    use std::os::unix::fs::FileExt;
    const BYTES: u64 = 8 << 10;
    let Ok(file) = File::open(log) else { return Vec::new() };
    let from = file.metadata().map_or(0, |it| it.len()).saturating_sub(BYTES);
    let mut bytes = vec![0; BYTES as usize];
    let got = file.read_at(&mut bytes, from).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..got]);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}
