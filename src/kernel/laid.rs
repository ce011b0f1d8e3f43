//! What lies over the machine's files in a node: names of nodes over `/etc/hosts`.
//!
//! It is kept in the lab's directory, where who makes the lab writes it, and bound
//! by whoever enters a node; so entering costs no look at the lab. Files are
//! written in place: what is bound already is seen to change.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::error::{KernelError, Tried, words_of};
use crate::model::hosts;
use crate::model::laid::{NO_FILES, OWN_PLACES, place_of};

/// Where the state is unless `$OVSNS_STATE_DIR` says otherwise.
pub const DIRECTORY: &str = "/run/ovsns";

/// The machine's own names.
pub(super) const MACHINE: &str = "/etc/hosts";
/// Far more than block lists of a hundred thousand names have.
const MACHINE_BYTES_MAX: u64 = 16 << 20;

/// The state directory: what the environment names, or the usual one.
pub fn state_directory() -> PathBuf {
    let directory = std::env::var_os("OVSNS_STATE_DIR").filter(|text| !text.is_empty());
    directory.map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from)
}

/// The file with the names of a lab, in the lab's directory.
pub fn names(directory: &Path) -> PathBuf {
    directory.join("hosts")
}

/// The machine's own file of names. It may be anything: what is no file, or a huge
/// one, is not read.
pub(super) fn machine() -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    // Nobody may write to what is no file, and that would be waited for.
    options.read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    let file = options.open(MACHINE)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(MACHINE_BYTES_MAX + 1).read_to_end(&mut text)?;
    match text.len() as u64 <= MACHINE_BYTES_MAX {
        true => Ok(text),
        false => Err(io::Error::other(format!("it has more than {MACHINE_BYTES_MAX} bytes"))),
    }
}

/// Writes the names of a lab, if they are others than before.
pub fn write_names(directory: &Path, block: &str) -> io::Result<()> {
    // A machine without the file has no names.
    let machine = machine().ok().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    write_in_place(&names(directory), &hosts::laid_over(block, &machine))
}

fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    if fs::read(path).is_ok_and(|before| before == text.as_bytes()) {
        return Ok(());
    }
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path);
    let mut file = open?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

/// Lays what is there for the node in the namespace called `name` over the files of
/// the machine, for this process alone: it has a mount namespace of its own.
///
/// Returns what could not be laid over.
///
/// Like `mount --bind -o ro FILE /etc/hosts`.
pub(super) fn lay(name: &str) -> Vec<KernelError> {
    let Some((lab, _)) = name.split_once('.') else { return Vec::new() };
    let names = names(&state_directory().join("labs").join(lab));
    // With its state lost a lab has no names until the next `up`.
    let Ok(written) = fs::metadata(&names) else { return Vec::new() };
    let Ok(machine) = fs::metadata(MACHINE) else { return Vec::new() };
    let mut failed = Vec::new();
    if written.modified().ok() < machine.modified().ok() {
        failed.extend(renew(&names).err());
    }
    failed.extend(bind_read_only(&names, Path::new(MACHINE)).err());
    failed
}

/// Takes in what the machine's file has come to say.
fn renew(names: &Path) -> Result<(), KernelError> {
    let fail = |e| KernelError::from_io(format!("bring `{}` up to date", names.display()), &e);
    let written = fs::read_to_string(names).map_err(fail)?;
    let machine = machine().and_then(|text| String::from_utf8(text).map_err(io::Error::other));
    let machine = machine.map_err(fail)?;
    let block: String = hosts::blocks(&written).into_iter().map(|(_, block)| block).collect();
    let text = hosts::laid_over(&block, &machine);
    write_in_place(names, &text).map_err(fail)?;
    // Also where it says the same: it was looked at.
    let touched = OpenOptions::new().write(true).open(names);
    touched.and_then(|file| file.set_modified(std::time::SystemTime::now())).map_err(fail)
}

fn bind_read_only(file: &Path, over: &Path) -> Result<(), KernelError> {
    let fail = |errno| {
        KernelError::new(format!("lay `{}` over `{}`", file.display(), over.display()), errno)
    };
    let none = None::<&str>;
    mount(Some(file), over, none, MsFlags::MS_BIND, none).map_err(fail)?;
    // What is written there would be seen in every node.
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, over, none, read_only, none).map_err(fail)
}

/// Where a file that is to be laid over the machine's would lie.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// A directory that is there, without symbolic links in its path.
    pub(super) directory: PathBuf,
    /// Directories below it that are not there yet.
    pub(super) missing: Vec<String>,
    /// The file.
    pub(super) name: String,
    /// What is there of that name.
    pub(super) there: There,
}

/// What is there of a file that is to be laid over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    /// A file.
    File,
    /// A symbolic link.
    Link,
    /// Nothing.
    Nothing,
}

/// Finds where a file at `path` would lie, as this process sees things. The
/// directories are followed where they are links, the file itself is not. Why it
/// can lie nowhere, as a clause.
pub(super) fn spot(path: &str) -> Result<Spot, String> {
    let (parent, name) = path.rsplit_once('/').ok_or("it is no path from `/` on")?;
    let mut missing = Vec::new();
    let mut parent = Path::new(if parent.is_empty() { "/" } else { parent });
    let directory = loop {
        match fs::canonicalize(parent) {
            Ok(directory) => break directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(format!("`{}`: {}", parent.display(), words_of(&error))),
        }
        if fs::symlink_metadata(parent).is_ok() {
            return Err(format!("`{}` is a link that leads nowhere", parent.display()));
        }
        let part = parent.file_name().and_then(|part| part.to_str());
        missing.push(part.ok_or("it is no plain path")?.to_owned());
        parent = parent.parent().ok_or("it is no path from `/` on")?;
    };
    missing.reverse();
    if !directory.is_dir() {
        return Err(format!("`{}` is no directory", parent.display()));
    }
    let shown = directory.to_str().ok_or("the path of its directory is no text")?;
    if let Some(place) = place_of(shown, &NO_FILES) {
        return Err(format!("`{}` leads into `{place}`", parent.display()));
    }
    let there = match fs::symlink_metadata(directory.join(name)) {
        _ if !missing.is_empty() => There::Nothing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => There::Nothing,
        Err(error) => return Err(words_of(&error)),
        Ok(it) if it.is_file() => There::File,
        Ok(it) if it.is_symlink() => There::Link,
        Ok(it) if it.is_dir() => return Err("there is a directory".to_owned()),
        Ok(_) => return Err("there is something that is no file".to_owned()),
    };
    Ok(Spot { directory, missing, name: name.to_owned(), there })
}

/// Over what a file at `path` would lie in a node of this machine that has a mount
/// namespace of its own, or why it could not, as a clause.
pub(super) fn place(path: &str) -> Result<String, String> {
    if let Some(own) = place_of(path, &OWN_PLACES) {
        return match own == path {
            true => Err("there is a directory".to_owned()),
            false => Ok(path.to_owned()),
        };
    }
    let Spot { directory, missing, name, there } = spot(path)?;
    let shown = directory.display().to_string();
    if let Some(own) = place_of(&shown, &OWN_PLACES) {
        if own != shown {
            return Err(format!(
                "its directory leads into `{own}`, which is the node's own, and empty there"
            ));
        }
    } else if there != There::File {
        if directory == Path::new("/") {
            return Err("it is not there, and nothing can be added to `/` itself".to_owned());
        }
        if let Err(missing) = can_layer() {
            return Err(format!("it is not there, and cannot be added to `{shown}`: {missing}"));
        }
    }
    let below = missing.iter().map(String::as_str).chain([name.as_str()]);
    let below: Vec<&str> = below.collect();
    Ok(format!("{}/{}", shown.trim_end_matches('/'), below.join("/")))
}

/// Whether this kernel has overlayfs, or a module that brings it.
pub(super) fn can_layer() -> Tried {
    // Mounts nothing.
    match rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC) {
        Err(rustix::io::Errno::NODEV) => {
            let what = "layers over directories (module overlay, CONFIG_OVERLAY_FS)";
            Err(format!("this kernel has not {what}"))
        }
        _ => Ok(()),
    }
}
