//! What lies over the machine's files in a node: names of nodes over `/etc/hosts`.
//!
//! It is kept in the lab's directory, where who makes the lab writes it, and bound
//! by whoever enters a node; so entering costs no look at the lab. Files are
//! written in place: what is bound already is seen to change.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::error::KernelError;
use crate::model::hosts;

/// Where the state is unless `$OVSNS_STATE_DIR` says otherwise.
pub const DIRECTORY: &str = "/run/ovsns";

/// The machine's own names.
const MACHINE: &str = "/etc/hosts";

/// The state directory: what the environment names, or the usual one.
pub fn state_directory() -> PathBuf {
    let directory = std::env::var_os("OVSNS_STATE_DIR").filter(|text| !text.is_empty());
    directory.map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from)
}

/// The file with the names of a lab, in the lab's directory.
pub fn names(directory: &Path) -> PathBuf {
    directory.join("hosts")
}

/// Writes the names of a lab, if they are others than before.
pub fn write_names(directory: &Path, block: &str) -> io::Result<()> {
    // A machine without the file has no names.
    let machine = fs::read_to_string(MACHINE).unwrap_or_default();
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
    let machine = fs::read_to_string(MACHINE).map_err(fail)?;
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
