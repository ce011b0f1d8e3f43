//! Sealed nodes: what runs in one cannot change its network.
//!
//! Capabilities are kept by a list, so that one that a later kernel adds is not
//! kept by mistake. This is no jail: whoever is root in a sealed node is root
//! before the files of the machine.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::error::KernelError;
use super::netlink::Netlink;
use super::observe;
use crate::model::topology::Sealed;

/// What is left to a process: its own files, users and ports, and no more.
fn kept(sealed: Sealed) -> CapabilitySet {
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::KILL
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::NET_BIND_SERVICE
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::AUDIT_WRITE;
    if sealed.raw { kept | CapabilitySet::NET_RAW } else { kept }
}

/// Seals this thread, if the node that it is in is a sealed one; it has the
/// node's mount namespace, and becomes the command. No way leads back.
///
/// Like `capsh --drop=CAP,... --no-new-privs -- -c COMMAND`, and `/proc/sys` of a
/// container.
///
/// Once is enough: whoever becomes another user is sealed before that, while it
/// may still give something up.
pub(super) fn seal_here(state: &Path) -> Result<(), KernelError> {
    let may = |one| capability_is_in_bounding_set(one).unwrap_or(true);
    if !may(CapabilitySet::SYS_ADMIN) && !may(CapabilitySet::NET_ADMIN) {
        return Ok(());
    }
    match observe::sealed_here(&Netlink::new()?)? {
        None => Ok(()),
        Some(sealed) => {
            for place in [state].into_iter().chain(HIDDEN.map(Path::new)) {
                hide(place)?;
            }
            seal(sealed)
        }
    }
}

/// Where the switches of all labs, and files of ours, could be reached through a
/// socket or as root: sockets of files know no network namespace (`unix(7)`).
const HIDDEN: [&str; 2] = ["/run/ovsns", "/run/openvswitch"];

/// Has nothing be seen in a directory.
///
/// Like `mount -t tmpfs -o ro,nr_inodes=1 none PLACE`.
fn hide(place: &Path) -> Result<(), KernelError> {
    let fail = |errno| KernelError::new(format!("hide `{}`", place.display()), errno);
    match statvfs(place) {
        // A node with mounts of its own keeps it from one command to the next, and
        // may have nothing there in the first place.
        Ok(seen) if seen.files() == 1 => return Ok(()),
        Err(Errno::ENOENT) => return Ok(()),
        seen => drop(seen.map_err(fail)?),
    }
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = Some("mode=555,nr_inodes=1");
    mount(Some("none"), place, Some("tmpfs"), flags, options).map_err(fail)
}

fn seal(sealed: Sealed) -> Result<(), KernelError> {
    // Root may write the parameters of a network without any capability.
    let fail = |errno| KernelError::new("make `/proc/sys` read-only", errno);
    let (bind, none) = (MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>);
    // A node with mounts of its own keeps it from one command to the next.
    let is_done = statvfs("/proc/sys").map_err(fail)?.flags().contains(FsFlags::ST_RDONLY);
    if !is_done {
        mount(Some("/proc/sys"), "/proc/sys", none, bind, none).map_err(fail)?;
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, "/proc/sys", none, read_only, none).map_err(fail)?;
    }
    let fail = |error: rustix::io::Errno| {
        KernelError::new("give up capabilities", Errno::from_raw(error.raw_os_error()))
    };
    let kept = kept(sealed);
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            // This kernel knows no more of them.
            Err(rustix::io::Errno::INVAL) => break,
            other => other.map_err(fail)?,
        }
    }
    clear_ambient_capability_set().map_err(fail)?;
    let inheritable = CapabilitySet::empty();
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable };
    set_capabilities(None, sets).map_err(fail)?;
    set_no_new_privs(true).map_err(fail)
}
