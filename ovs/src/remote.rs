//! Where a server listens: `unix:…`, `tcp:…`, `ssl:…`.
//!
//! The texts are those of ovsdb(7) "Connection Methods", active ones only.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One place where a database may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Remote {
    /// A Unix domain socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(HostPort),
    /// A TCP port with TLS.
    Ssl(HostPort),
}

/// A name or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A host name, or an address; an IPv6 address is without brackets here.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// The port of OVSDB, if none is given (RFC 7047 section 6).
    pub const PORT_DEFAULT: u16 = 6640;
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(to) => write!(f, "tcp:{to}"),
            Self::Ssl(to) => write!(f, "ssl:{to}"),
        }
    }
}

/// A text that names no remote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRemote {
    /// Nothing at all.
    #[error("no remote is given")]
    Empty,
    /// Not one of the methods.
    #[error("`{0}` is no remote: `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT`")]
    Method(String),
    /// The host or the port is wrong.
    #[error("`{0}` has no host and port: `HOST:PORT`, an IPv6 address in brackets")]
    HostPort(String),
}

impl Remote {
    /// The socket at `path`.
    pub fn unix(path: impl AsRef<Path>) -> Self {
        Self::Unix(path.as_ref().to_owned())
    }

    /// Several remotes with commas between, as the `--db` option of the
    /// programs of Open vSwitch takes them.
    pub fn list(text: &str) -> Result<Vec<Self>, BadRemote> {
        // A comma may also stand in the path of a socket: only one that a
        // method follows separates.
        let mut texts: Vec<String> = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            match texts.last_mut() {
                Some(before) if !Self::begins_with_method(part) => {
                    before.push(',');
                    before.push_str(part);
                }
                _ => texts.push(part.to_owned()),
            }
        }
        texts.iter().map(|text| text.parse()).collect()
    }

    fn begins_with_method(text: &str) -> bool {
        ["unix:", "tcp:", "ssl:"].iter().any(|method| text.starts_with(method))
    }

    /// Whether the server may vanish without a word, so that it must be
    /// probed. The kernel tells when the other end of a Unix socket dies.
    pub fn needs_probe(&self) -> bool {
        !matches!(self, Self::Unix(_))
    }
}

impl FromStr for Remote {
    type Err = BadRemote;

    fn from_str(text: &str) -> Result<Self, BadRemote> {
        if text.is_empty() {
            return Err(BadRemote::Empty);
        }
        let host_port =
            |rest: &str| parse_host_port(rest).ok_or_else(|| BadRemote::HostPort(text.to_owned()));
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::unix(path)),
            Some(("tcp", rest)) => Ok(Self::Tcp(host_port(rest)?)),
            Some(("ssl", rest)) => Ok(Self::Ssl(host_port(rest)?)),
            _ => Err(BadRemote::Method(text.to_owned())),
        }
    }
}

fn parse_host_port(text: &str) -> Option<HostPort> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None if rest.is_empty() => HostPort::PORT_DEFAULT,
        None => return None,
    };
    let host = host.to_owned();
    (!host.is_empty()).then_some(HostPort { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_read() {
        check("unix:/run/openvswitch/db.sock", Ok("unix:/run/openvswitch/db.sock"));
        check("tcp:127.0.0.1:6641", Ok("tcp:127.0.0.1:6641"));
        check("tcp:ovn.example.org", Ok("tcp:ovn.example.org:6640"));
        check("ssl:[fd00::1]:6642", Ok("ssl:[fd00::1]:6642"));
        check("tcp:[::1]", Ok("tcp:[::1]:6640"));
        check("", Err("no remote is given"));
        check("/run/db.sock", Err("`/run/db.sock` is no remote"));
        check("unix:", Err("`unix:` is no remote"));
        check("ptcp:6640", Err("`ptcp:6640` is no remote"));
        check("tcp::6640", Err("`tcp::6640` has no host and port"));
        check("tcp:h:0", Err("`tcp:h:0` has no host and port"));
        check("tcp:h:70000", Err("`tcp:h:70000` has no host and port"));
        check("tcp:fd00::1:6640", Err("`tcp:fd00::1:6640` has no host and port"));
        check("ssl:[::1]6640", Err("`ssl:[::1]6640` has no host and port"));

        #[track_caller]
        fn check(text: &str, outcome: Result<&str, &str>) {
            match (text.parse::<Remote>(), outcome) {
                (Ok(remote), Ok(shown)) => assert_eq!(remote.to_string(), shown),
                (Err(error), Err(why)) => assert!(error.to_string().starts_with(why), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn lists_of_remotes() {
        check("tcp:a:1,tcp:b:2, ssl:c:3", &["tcp:a:1", "tcp:b:2", "ssl:c:3"]);
        check("unix:/run/a,b,tcp:c:3", &["unix:/run/a,b", "tcp:c:3"]);

        #[track_caller]
        fn check(text: &str, remotes: &[&str]) {
            let shown: Vec<String> =
                Remote::list(text).unwrap().iter().map(Remote::to_string).collect();
            assert_eq!(shown, remotes);
        }
    }
}
