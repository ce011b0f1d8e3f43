//! Files that a keeper lays over those of the machine, in the mount namespace of
//! its node, where they are until the last process of the node is gone.
//!
//! Nothing is ever written to a file system of the machine. What is laid is in one
//! of the node's own that nobody sees; over a file that is there it is bound. Where
//! none is there, the directory that is to have it is covered with a layer of the
//! node's own first (overlayfs), and so it is for a symbolic link, which is not
//! followed: what runs in the node finds the file, and not what the link leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, fstat, mkdirat,
    openat, openat2, readlinkat, symlinkat, unlinkat,
};

use crate::kernel::error::words_of;
use crate::kernel::laid::{self, Spot, There};
use crate::model::laid::{BYTES_MAX, NodeFile};

/// What is laid in a node.
#[derive(Debug, Default)]
pub(super) struct Laid {
    /// Where what is laid is kept; `None` in a node without a mount namespace of
    /// its own.
    store: Option<OwnedFd>,
    /// The file systems that are the node's own.
    own: BTreeSet<u64>,
    files: BTreeMap<String, LaidFile>,
    /// How many things were made in the store.
    made: u64,
}

#[derive(Debug)]
struct LaidFile {
    /// Its name in the store.
    name: String,
    /// Its file system and number.
    id: (u64, u64),
    /// What had to be made to lay it over.
    made: Made,
}

/// What was made in a directory of the node's own.
#[derive(Debug, Default)]
struct Made {
    /// An empty file, in place of a link to this if there was one.
    file: bool,
    link: Option<std::ffi::CString>,
    /// Directories, the outermost one first.
    directories: Vec<PathBuf>,
}

impl Laid {
    /// Keeps what will be laid in the file system mounted at `place`, which may be
    /// covered from then on.
    pub(super) fn in_place(place: &str) -> io::Result<Self> {
        let store = openat(CWD, place, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { store: Some(store), ..Self::default() })
    }

    /// Takes what is mounted at `place` for the node's own.
    pub(super) fn is_own(&mut self, place: &str) -> io::Result<()> {
        self.own.insert(fs::metadata(place)?.dev());
        Ok(())
    }

    /// What was laid, as whoever is in the node finds it.
    pub(super) fn seen(&self) -> BTreeMap<String, Option<NodeFile>> {
        self.files.keys().map(|path| (path.clone(), read(path).ok().flatten())).collect()
    }

    /// Lays a file at a path. Why not, as a clause.
    pub(super) fn lay(&mut self, path: &str, file: &NodeFile) -> Result<(), String> {
        if let Some(laid) = self.files.get(path).filter(|laid| is_seen(path, laid.id)) {
            // In place: what has it open, or bound elsewhere, sees it change.
            let store = self.store()?;
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = openat(store, &laid.name, flags, Mode::empty());
            return opened
                .map_err(io::Error::from)
                .and_then(|opened| write(opened, file))
                .map_err(|error| format!("what was laid cannot be written: {}", words_of(&error)));
        }
        self.store()?;
        let (name, id, kept) =
            self.keep(file).map_err(|error| format!("it cannot be kept: {}", words_of(&error)))?;
        let laid = self.spot(path).and_then(|(target, made)| match bind(&kept, &target) {
            Ok(()) if is_seen(path, id) => Ok(made),
            Ok(()) => Err("something else lies over it".to_owned()),
            Err(error) => Err(format!("it cannot be covered: {}", words_of(&error))),
        });
        let before = self.files.remove(path);
        let gone = match &laid {
            Ok(_) => before.as_ref().map(|before| before.name.clone()),
            Err(_) => Some(name.clone()),
        };
        if let (Some(gone), Ok(store)) = (gone, self.store()) {
            // It goes with the node otherwise.
            let _ = unlinkat(store, gone, AtFlags::empty());
        }
        match laid {
            Ok(made) => {
                // What was made for the one before is still below this one.
                let made = before.map_or(Made::default(), |before| before.made).and(made);
                self.files.insert(path.to_owned(), LaidFile { name, id, made });
                Ok(())
            }
            Err(why) => {
                self.files.extend(before.map(|before| (path.to_owned(), before)));
                Err(why)
            }
        }
    }

    /// Takes what was laid at a path away again. Why not, as a clause.
    pub(super) fn lift(&mut self, path: &str) -> Result<(), String> {
        let Some(laid) = self.files.get(path) else { return Ok(()) };
        if is_seen(path, laid.id) {
            // What has it open keeps it.
            umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                .map_err(|errno| format!("it cannot be uncovered: {}", errno.desc()))?;
        }
        let Some(LaidFile { name, made, id: _ }) = self.files.remove(path) else { return Ok(()) };
        let _ = unlinkat(self.store()?, name, AtFlags::empty());
        self.unmake(path, made)
            .map_err(|error| format!("what was below it stays: {}", words_of(&error)))
    }

    fn store(&self) -> Result<&OwnedFd, String> {
        self.store.as_ref().ok_or_else(|| "the node has no mount namespace of its own".to_owned())
    }

    /// Writes a file to the store: its name there, what it is known by, and a
    /// handle to it.
    fn keep(&mut self, file: &NodeFile) -> io::Result<(String, (u64, u64), OwnedFd)> {
        let name = self.name("file");
        let store = self.store.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let opened = openat(store, &name, flags, Mode::from_raw_mode(0o600))?;
        let stat = fstat(&opened)?;
        let kept = openat(store, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        write(opened, file)?;
        Ok((name, (stat.st_dev, stat.st_ino), kept))
    }

    fn name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}-{}", self.made)
    }

    /// Finds what a file at `path` will cover, or makes it.
    fn spot(&mut self, path: &str) -> Result<(OwnedFd, Made), String> {
        let Spot { directory, missing, name, there } = laid::spot(path)?;
        let words = |error: io::Error| format!("`{}`: {}", directory.display(), words_of(&error));
        let mut at = open_directory(&directory).map_err(words)?;
        if there == There::File {
            return Ok((open_file(&at, &name).map_err(words)?, Made::default()));
        }
        if !self.is_own_directory(&at).map_err(words)? {
            self.grow(&directory, &at).map_err(|error| {
                let shown = directory.display();
                format!("`{shown}` cannot get a layer of its own: {}", words_of(&error))
            })?;
            at = open_directory(&directory).map_err(words)?;
        }
        // Whatever somebody has done meanwhile: nothing is made elsewhere.
        if !self.is_own_directory(&at).map_err(words)? {
            return Err(format!("`{}` is not the node's own", directory.display()));
        }
        let mut made = Made { file: true, ..Made::default() };
        let mut below = directory.clone();
        for part in &missing {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let entered = mkdirat(&at, part, Mode::from_raw_mode(0o755))
                .and_then(|()| openat(&at, part, flags, Mode::empty()));
            at = entered.map_err(|errno| words(errno.into()))?;
            below.push(part);
            made.directories.push(below.clone());
        }
        if there == There::Link {
            let to = readlinkat(&at, &name, Vec::new());
            made.link = Some(to.map_err(|errno| words(errno.into()))?);
            unlinkat(&at, &name, AtFlags::empty()).map_err(|errno| words(errno.into()))?;
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&at, &name, flags, Mode::from_raw_mode(0o644))
            .map_err(|errno| words(errno.into()))?;
        Ok((open_file(&at, &name).map_err(words)?, made))
    }

    fn is_own_directory(&self, directory: &OwnedFd) -> io::Result<bool> {
        Ok(self.own.contains(&fstat(directory)?.st_dev))
    }

    /// Covers a directory with a layer of the node's own, in which all that is
    /// there still is. What is mounted below it is mounted there again.
    ///
    /// Like `mount -t overlay -o lowerdir=D,upperdir=U,workdir=W overlay D`.
    fn grow(&mut self, directory: &Path, opened: &OwnedFd) -> io::Result<()> {
        let layer = self.name("layer");
        let store = self.store.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let make = |at: BorrowedFd<'_>, name: &str| -> io::Result<OwnedFd> {
            mkdirat(at, name, Mode::from_raw_mode(0o700))?;
            Ok(openat(at, name, flags, Mode::empty())?)
        };
        use std::os::fd::AsFd;
        let layer = make(store.as_fd(), &layer)?;
        let (upper, work) = (make(layer.as_fd(), "upper")?, make(layer.as_fd(), "work")?);
        // The directory will be as this one is.
        let stat = fstat(opened)?;
        fchown(&upper, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        fchmod(&upper, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        let below = mounts_below(directory)?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            handle(opened),
            handle(&upper),
            handle(&work)
        );
        let over = handle(opened);
        let (kind, none) = (Some("overlay"), MsFlags::empty());
        mount(kind, over.as_str(), kind, none, Some(options.as_str()))?;
        for (place, mounted) in below {
            bind(&mounted, &open_any(&place)?)?;
        }
        self.own.insert(fs::metadata(directory)?.dev());
        Ok(())
    }

    /// Takes away what was made for a file that is lifted.
    fn unmake(&self, path: &str, made: Made) -> io::Result<()> {
        let Made { file, link, directories } = made;
        if !file {
            return Ok(());
        }
        let path = Path::new(path);
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        let at = open_directory(&fs::canonicalize(directory)?)?;
        // It may be another one by now.
        let stat = match open_file(&at, name).and_then(|file| Ok(fstat(&file)?)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if stat.st_size != 0 || !self.is_own_directory(&at)? {
            return Ok(());
        }
        unlinkat(&at, name, AtFlags::empty())?;
        if let Some(link) = link {
            symlinkat(link.as_c_str(), &at, name)?;
        }
        for directory in directories.iter().rev() {
            // Somebody may have put something there.
            let _ = fs::remove_dir(directory);
        }
        Ok(())
    }
}

impl Made {
    /// What was made first, and what was made then.
    fn and(self, then: Self) -> Self {
        match self.file {
            true => self,
            false => then,
        }
    }
}

/// A path that leads to what is open.
fn handle(opened: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", opened.as_raw_fd())
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
}

fn open_any(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
}

/// A file, and nothing else, in a directory.
fn open_file(at: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(at, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(io::Error::other("it is no file any more")),
    }
}

/// Like `mount --bind WHAT OVER`.
fn bind(what: &OwnedFd, over: &OwnedFd) -> io::Result<()> {
    let none = None::<&str>;
    let (what, over) = (handle(what), handle(over));
    Ok(mount(Some(what.as_str()), over.as_str(), none, MsFlags::MS_BIND, none)?)
}

/// What is mounted below a directory, each with its place; the outer ones first.
fn mounts_below(directory: &Path) -> io::Result<Vec<(PathBuf, OwnedFd)>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let mut seen = BTreeSet::new();
    let mut mounts = Vec::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let Some(place) = line.split(' ').nth(4).map(unescaped) else { continue };
        if place == directory || !place.starts_with(directory) || !seen.insert(place.clone()) {
            continue;
        }
        // What cannot be reached is covered by something.
        if let Ok(mounted) = open_any(&place) {
            mounts.push((place, mounted));
        }
    }
    Ok(mounts)
}

/// A path of `/proc/self/mountinfo`, which has `\040` for a space.
pub(super) fn unescaped(text: &str) -> PathBuf {
    let mut path = text.to_owned();
    for (escaped, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        path = path.replace(escaped, plain);
    }
    PathBuf::from(path)
}

/// Whether it is this file that is found at a path.
fn is_seen(path: &str, id: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|seen| seen.is_file() && (seen.dev(), seen.ino()) == id)
}

fn write(opened: OwnedFd, file: &NodeFile) -> io::Result<()> {
    let mut opened = fs::File::from(opened);
    let seen = opened.metadata()?;
    // Somebody may have given it away. To say what is so may be refused.
    let (user, group) = own();
    if (seen.uid(), seen.gid()) != (user, group) {
        fchown(&opened, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    opened.write_all(file.text.as_bytes())?;
    opened.set_len(file.text.len() as u64)?;
    Ok(fchmod(&opened, Mode::from_raw_mode(file.mode))?)
}

/// To whom what is laid belongs: to the keeper's own user and group.
fn own() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// What is found at a path; `None` for what is no text that could be laid, or is
/// somebody else's.
fn read(path: &str) -> io::Result<Option<NodeFile>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    let is_own = (metadata.uid(), metadata.gid()) == own();
    if !metadata.is_file() || !is_own || BYTES_MAX as u64 <= metadata.len().saturating_sub(1) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() <= BYTES_MAX);
    Ok(text.map(|text| NodeFile { text, mode: metadata.mode() & 0o7777 }))
}
