//! What this process may do. Never "is it root": a capability is what counts
//! (`capabilities(7)`), in a user namespace as on the bare machine.

use std::fs;

use super::error::KernelError;

/// A capability that some command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Links, addresses, routes.
    NetAdmin,
    /// Raw sockets, for ping.
    NetRaw,
    /// Namespaces and mounts.
    SysAdmin,
    /// Another namespace of mounts.
    SysChroot,
}

impl Capability {
    /// Its name in `capabilities(7)`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysChroot => "CAP_SYS_CHROOT",
        }
    }

    /// Its bit (`linux/capability.h`).
    fn bit(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::SysAdmin => 21,
            Self::SysChroot => 18,
        }
    }
}

/// Those of `wanted` that are not effective in this process.
pub fn missing(wanted: &[Capability]) -> Vec<Capability> {
    let effective = fs::read_to_string("/proc/self/status").map(|s| effective(&s)).unwrap_or(0);
    wanted.iter().copied().filter(|c| effective >> c.bit() & 1 == 0).collect()
}

/// The set `CapEff` in the text of `/proc/PID/status` (`proc(5)`).
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// How many files any command opens by itself, whatever the lab: the runtime's, what
/// it reads, sockets to the kernel, to a switch and to keepers.
const FILES_MIN: usize = 24;

/// Says why not, where this process cannot open the few files that every command
/// opens. Asked before anything is done: a runtime that gets none panics, and what is
/// half-way in is worse to tell.
pub fn room_for_files() -> Result<(), KernelError> {
    raise_open_files();
    let open = || {
        let null = fs::File::open("/dev/null")?;
        (1..FILES_MIN).map(|_| null.try_clone()).collect::<std::io::Result<Vec<_>>>()
    };
    let asked = || format!("open the {FILES_MIN} files that every command needs");
    open().map(drop).map_err(|error| KernelError::from_io(asked(), &error))
}

/// How many files an Open vSwitch has open, at the least: its own two dozen, and some
/// for each port.
pub const SWITCH_FILES_MIN: u64 = 256;
/// How many it may have where that is ours to say, as in `ovs-ctl(8)`.
const SWITCH_FILES: u64 = 65_536;

/// Raises the limit of open files to what an Open vSwitch needs, beyond the hard one
/// where that is allowed (`CAP_SYS_RESOURCE`): the limit is that of the shell in which
/// the first lab was made, and what is started now serves others, too. Returns the
/// limit as it is then.
pub fn raise_open_files_for_switch() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && hard < SWITCH_FILES
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, SWITCH_FILES, SWITCH_FILES);
    }
    raise_open_files();
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft)
}

/// Raises the soft limit of open files to the hard one: a lab of a thousand
/// nodes needs a socket in each.
pub fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Where it is refused, fewer sockets are kept open at a time.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000201000\n"), 1 << 21 | 1 << 12);
        assert_eq!(effective("Name:\tx\n"), 0);
    }
}
