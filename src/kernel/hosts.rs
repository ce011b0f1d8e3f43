//! Names of nodes in the machine's own `/etc/hosts`, in a block of each lab that
//! asks for it.
//!
//! The file is written in place, never replaced: it keeps its inode, owner and
//! permissions, may be a link, or a mount as in a container; and nodes that have
//! names of theirs laid over it keep these, which would come off a file that is
//! renamed over. What is written in which order is `model::hosts::edit`'s: no byte of
//! anybody else's is missing at any time.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};

use super::error::{KernelError, words_of};
use super::laid::{MACHINE, machine};
use crate::model::hosts::{Edit, edit, on_machine};
use crate::model::names::LabName;

/// How often another command is waited for that writes to the file, and how long.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// The names of all labs that are there. What cannot be read has none: a lab that
/// wants to be in it is refused (`fixed`), and others go on.
pub(super) fn blocks() -> BTreeMap<LabName, String> {
    machine().map(|text| on_machine(&text)).unwrap_or_default()
}

/// Why the file cannot be written, as a clause, if it cannot.
pub(super) fn fixed() -> Option<String> {
    let why = |errno: Errno| words_of(&errno.into());
    match access(MACHINE, AccessFlags::R_OK | AccessFlags::W_OK) {
        Err(Errno::ENOENT) if fs::symlink_metadata(MACHINE).is_ok() => {
            Some("it is a link that leads nowhere".to_owned())
        }
        Err(Errno::ENOENT) => access("/etc", AccessFlags::W_OK).err().map(why),
        Err(errno) => Some(why(errno)),
        Ok(()) => machine().err().map(|error| words_of(&error)),
    }
}

/// Writes the names of a lab, or takes them away.
pub(super) async fn write(lab: &LabName, block: Option<&str>) -> Result<(), KernelError> {
    let fail = |error: io::Error| {
        KernelError::from_io(format!("write names of nodes to `{MACHINE}`"), &error)
    };
    // Root's rights of others make no difference: the file stays as it is.
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(block.is_some()).mode(0o644);
    options.custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
    let opened = match options.open(MACHINE) {
        // There are none in a file that is not there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && block.is_none() => return Ok(()),
        other => other.map_err(fail)?,
    };
    // Of two labs at once neither is to lose what the other writes.
    let mut locked = lock(opened).await.map_err(fail)?;
    let mut text = Vec::new();
    if !locked.metadata().map_err(fail)?.is_file() {
        return Err(fail(Errno::EINVAL.into()));
    }
    locked.read_to_end(&mut text).map_err(fail)?;
    let Some(edit) = edit(&text, lab, block) else { return Ok(()) };
    perform(&locked, &edit).map_err(fail)
}

fn perform(mut file: &File, edit: &Edit) -> io::Result<()> {
    let Edit { turned, cut, added } = edit;
    if let Some((at, bytes)) = turned {
        file.write_all_at(bytes, *at as u64)?;
    }
    file.set_len(*cut as u64)?;
    if !added.is_empty() {
        io::Seek::seek(&mut file, io::SeekFrom::Start(*cut as u64))?;
        file.write_all(added)?;
    }
    // It is not ours alone.
    file.sync_all()
}

async fn lock(mut file: File) -> io::Result<Flock<File>> {
    for _ in 0..TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((unlocked, Errno::EWOULDBLOCK)) => file = unlocked,
            Err((_, errno)) => return Err(errno.into()),
        }
        // The kernel tells nobody that a lock is free who does not block for it.
        tokio::time::sleep(PAUSE).await;
    }
    Err(Errno::EBUSY.into())
}
