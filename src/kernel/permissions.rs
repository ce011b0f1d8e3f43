//! What this process may do. Never "is it root": a capability is what counts
//! (`capabilities(7)`), in a user namespace as on the bare machine.

use std::fs;

/// A capability that some command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Links, addresses, routes.
    NetAdmin,
    /// Raw sockets, for ping.
    NetRaw,
    /// Namespaces and mounts.
    SysAdmin,
}

impl Capability {
    /// Its name in `capabilities(7)`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }

    /// Its bit (`linux/capability.h`).
    fn bit(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::SysAdmin => 21,
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
