//! The Unix socket: where it is, who may connect, and that there is one server only.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{Gid, Group, Uid, User, chown, getgrouplist};
use tokio::net::{UnixListener, UnixStream};

use super::{Options, systemd};
use crate::kernel::error::words_of;
use crate::kernel::laid;

/// Where a server of this machine is: `ovsns.sock` in the state directory.
pub fn path() -> PathBuf {
    laid::state_directory().join("ovsns.sock")
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A server is there.
    #[error("a server is at `{}` already", .0.display())]
    Taken(PathBuf),
    /// What is there is no socket.
    #[error("`{}` is there, and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// No group of that name.
    #[error("there is no group `{0}`")]
    NoGroup(String),
    /// systemd has given another.
    #[error("systemd has given the socket `{}`, and not `{}`", given.display(), asked.display())]
    Elsewhere {
        /// Where that is.
        given: PathBuf,
        /// Where it was to be.
        asked: PathBuf,
    },
    /// systemd has given something else.
    #[error("could not take the socket that systemd has given")]
    Given(#[source] io::Error),
    /// It could not be made.
    #[error("could not make the socket `{}`", path.display())]
    File {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A socket that takes clients.
pub(super) struct Listener {
    inner: UnixListener,
    path: PathBuf,
    /// By which it is known to be the one that was made here, if it was.
    inode: Option<u64>,
    group: Option<Gid>,
    network: fs::Metadata,
    /// Its directory, if that is ours.
    ours: Option<PathBuf>,
    /// Whose that was before it was opened for the group.
    closed_to: Option<Gid>,
    /// Held as long as the server is there.
    _lock: Flock<File>,
}

/// Makes the socket: 0600, or 0660 and of the group whose members may connect.
pub(super) fn listen(options: &Options) -> Result<Listener, SocketError> {
    let path = options.socket.clone();
    let failed = |source: io::Error| SocketError::File { path: path.clone(), source };
    let group = options.group.as_deref().map(gid).transpose()?;
    if let Some(given) = systemd::given().map_err(SocketError::Given)? {
        return take(given, path, group);
    }
    let directory = match path.parent() {
        Some(directory) if directory != Path::new("") => directory.to_owned(),
        _ => PathBuf::from("."),
    };
    // Only what is ours is opened for others, and removed in the end.
    let is_ours = path == self::path();
    if is_ours {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
    }
    let lock_path = lock_path(&path);
    let lock = lock(&lock_path).map_err(failed)?;
    let lock = lock.ok_or_else(|| SocketError::Taken(path.clone()))?;
    let made = make(&path, group, is_ours.then_some(&*directory));
    let (inner, closed_to) = match made {
        Ok(made) => made,
        Err(error) => {
            let _ = fs::remove_file(&lock_path);
            return Err(error);
        }
    };
    let inode = fs::symlink_metadata(&path).map_err(failed)?.ino();
    let network = fs::metadata("/proc/self/ns/net").map_err(failed)?;
    let ours = is_ours.then_some(directory);
    let inode = Some(inode);
    Ok(Listener { inner, path, inode, group, network, ours, closed_to, _lock: lock })
}

/// Takes the socket that systemd has made, and that it removes, too.
fn take(given: StdListener, asked: PathBuf, group: Option<Gid>) -> Result<Listener, SocketError> {
    let address = given.local_addr().map_err(SocketError::Given)?;
    let path = address.as_pathname().map(Path::to_owned).unwrap_or_default();
    if path != asked {
        return Err(SocketError::Elsewhere { given: path, asked });
    }
    let failed = |source: io::Error| SocketError::File { path: path.clone(), source };
    let lock = lock(&lock_path(&path)).map_err(failed)?;
    let lock = lock.ok_or_else(|| SocketError::Taken(path.clone()))?;
    given.set_nonblocking(true).map_err(SocketError::Given)?;
    let inner = UnixListener::from_std(given).map_err(SocketError::Given)?;
    let network = fs::metadata("/proc/self/ns/net").map_err(failed)?;
    let (inode, ours, closed_to) = (None, None, None);
    Ok(Listener { inner, path, inode, group, network, ours, closed_to, _lock: lock })
}

/// Makes the socket, and opens the way to it for a group; returns whose its directory
/// was before that.
fn make(
    path: &Path,
    group: Option<Gid>,
    ours: Option<&Path>,
) -> Result<(UnixListener, Option<Gid>), SocketError> {
    let failed = |source: io::Error| SocketError::File { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(SocketError::NoSocket(path.to_owned()));
        }
        // Somebody else's, who has not our lock.
        Ok(_) if StdStream::connect(path).is_ok() => {
            return Err(SocketError::Taken(path.to_owned()));
        }
        // Who had the lock is gone, and what is left of it is only a name.
        Ok(_) => fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let inner = UnixListener::bind(path).map_err(failed)?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)?;
    let Some(group) = group else { return Ok((inner, None)) };
    chown(path, None, Some(group)).map_err(|errno| failed(errno.into()))?;
    // They have to get there: through our own directory, and no further.
    let Some(directory) = ours else { return Ok((inner, None)) };
    let own = fs::metadata(directory).map_err(failed)?;
    if own.uid() != Uid::effective().as_raw() || own.mode() & 0o777 != 0o700 {
        return Ok((inner, None));
    }
    chown(directory, None, Some(group)).map_err(|errno| failed(errno.into()))?;
    fs::set_permissions(directory, Permissions::from_mode(0o710)).map_err(failed)?;
    Ok((inner, Some(Gid::from_raw(own.gid()))))
}

/// `SOCKET.lock`.
fn lock_path(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// The lock of a server, unless another has it.
fn lock(path: &Path) -> io::Result<Option<Flock<File>>> {
    loop {
        let mut file = OpenOptions::new();
        file.create(true).truncate(false).write(true).mode(0o600);
        // A link would lead to a file of others.
        let file = file.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        };
        // Whoever had it before may have deleted it since it was opened.
        let here = fs::symlink_metadata(path).map(|there| there.ino());
        if here.is_ok_and(|ino| lock.metadata().is_ok_and(|ours| ours.ino() == ino)) {
            return Ok(Some(lock));
        }
    }
}

fn gid(name: &str) -> Result<Gid, SocketError> {
    let group = Group::from_name(name).ok().flatten();
    group.map(|group| group.gid).ok_or_else(|| SocketError::NoGroup(name.to_owned()))
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.inner.accept().await.map(|(stream, _)| stream)
    }

    /// Whether whoever connects may, by what the kernel says of it (`unix(7)`,
    /// `SO_PEERCRED`); why not.
    pub(super) fn admits(&self, stream: &UnixStream) -> Result<(), String> {
        let peer = stream.peer_cred().map_err(|error| words_of(&error))?;
        let uid = Uid::from_raw(peer.uid());
        let is_member = |group: Gid| Gid::from_raw(peer.gid()) == group || has(uid, group);
        if !uid.is_root() && uid != Uid::effective() && !self.group.is_some_and(is_member) {
            return Err(format!("user {uid} may not use this server"));
        }
        // A node shares the machine's files, unless it is sealed. What runs in it has
        // no business with the labs.
        let Some(pid) = peer.pid().filter(|pid| *pid != 0) else {
            return Err("its process cannot be seen from here".to_owned());
        };
        let place = match fs::metadata(format!("/proc/{pid}/ns/net")) {
            Ok(place) => place,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err("its process is gone".to_owned());
            }
            Err(error) => return Err(format!("its process: {}", words_of(&error))),
        };
        let is_here = |place: &fs::Metadata| -> bool {
            (place.dev(), place.ino()) == (self.network.dev(), self.network.ino())
        };
        if !is_here(&place) {
            return Err("it is in another network namespace, such as a node's".to_owned());
        }
        Ok(())
    }

    /// Takes no more clients. The name goes, if it is still that of this socket.
    pub(super) fn close(self) {
        let there = fs::symlink_metadata(&self.path);
        if there.is_ok_and(|there| self.inode == Some(there.ino())) {
            // Whoever starts next removes it else.
            let _ = fs::remove_file(&self.path);
        }
        let _ = fs::remove_file(lock_path(&self.path));
        let Some(directory) = &self.ours else { return };
        // As long as something is in it, it stays, and is closed again.
        if fs::remove_dir(directory).is_err()
            && let Some(group) = self.closed_to
        {
            let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
            let _ = chown(directory, None, Some(group));
        }
    }
}

/// Whether a user is in a group, by the machine's own lists.
fn has(uid: Uid, group: Gid) -> bool {
    let Some(user) = User::from_uid(uid).ok().flatten() else { return false };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group))
}
