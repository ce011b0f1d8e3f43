//! Adopted nodes: namespaces that somebody else has made, joined to a lab and
//! left as they were found.
//!
//! The mark of an adopted node cannot be in its namespace, which is not ours.
//! It is in the file below the name that the namespace has with us, where only
//! who looks beneath the mount finds it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::holds::Wrong;
use super::names::{LabName, NodeName};
use super::problem::{At, Found, Position, quoted};
use super::spec::{AdoptSpec, NodeSpec};

/// Where the namespace of an adopted node is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Adopt {
    /// Under a name of `ip netns`, or at a path.
    Netns(String),
    /// With a process.
    Pid(u32),
    /// With the first process of a container, of this engine if it says so.
    Container(Option<ContainerEngine>, String),
}

/// Who runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerEngine {
    /// podman
    Podman,
    /// docker
    Docker,
}

impl ContainerEngine {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Podman, Self::Docker];
}

impl fmt::Display for ContainerEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Podman => "podman",
            Self::Docker => "docker",
        })
    }
}

/// Why a text does not say what to adopt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAdopt {
    /// No word before the colon that is known.
    #[error(
        "`{0}` says not what to adopt; write `netns:NAME`, `netns:/PATH`, `pid:NUMBER` or `container:NAME`"
    )]
    Shape(String),
    /// Not what can be the name of a namespace.
    #[error("`{0}` is no name of `ip netns` and no path from `/` on")]
    Netns(String),
    /// Not what can be the number of a process.
    #[error("`{0}` is no number of a process")]
    Pid(String),
    /// Not what can be the name of a container.
    #[error("`{0}` is no name of a container")]
    Container(String),
}

impl fmt::Display for Adopt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netns(netns) => write!(f, "netns:{netns}"),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
            Self::Container(None, name) => write!(f, "container:{name}"),
            Self::Container(Some(engine), name) => write!(f, "container:{engine}:{name}"),
        }
    }
}

impl FromStr for Adopt {
    type Err = BadAdopt;
    fn from_str(text: &str) -> Result<Self, BadAdopt> {
        match text.split_once(':') {
            Some(("netns", netns)) => Self::netns(netns),
            Some(("pid", pid)) => Self::pid(pid),
            Some(("container", name)) => Self::container(name),
            _ => Err(BadAdopt::Shape(shown(text))),
        }
    }
}

impl Adopt {
    /// The longest path, in bytes: it becomes a part of the mark.
    const PATH_BYTES_MAX: usize = 512;

    /// A name of `ip netns`, or a path from `/` on.
    pub fn netns(text: &str) -> Result<Self, BadAdopt> {
        let plain = !text.is_empty() && !text.chars().any(char::is_control);
        let name = !text.contains('/') && !matches!(text, "." | "..") && text.len() < 256;
        let path = text.starts_with('/') && text.len() <= Self::PATH_BYTES_MAX;
        match plain && (name || path) {
            true => Ok(Self::Netns(text.to_owned())),
            false => Err(BadAdopt::Netns(shown(text))),
        }
    }

    /// The number of a process.
    pub fn pid(text: &str) -> Result<Self, BadAdopt> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let pid = text.parse().ok().filter(|pid| digits && 0 < *pid && *pid <= PID_MAX);
        pid.map(Self::Pid).ok_or_else(|| BadAdopt::Pid(shown(text)))
    }

    /// `NAME`, `podman:NAME` or `docker:NAME`, or an id in place of a name.
    pub fn container(text: &str) -> Result<Self, BadAdopt> {
        let (engine, name) = match text.split_once(':') {
            Some(("podman", name)) => (Some(ContainerEngine::Podman), name),
            Some(("docker", name)) => (Some(ContainerEngine::Docker), name),
            _ => (None, text),
        };
        // As docker has it: [a-zA-Z0-9][a-zA-Z0-9_.-]+, and so podman.
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        match begins && name.bytes().all(fits) && name.len() <= 255 {
            true => Ok(Self::Container(engine, name.to_owned())),
            false => Err(BadAdopt::Container(shown(text))),
        }
    }
}

/// The greatest number of a process (`PID_MAX_LIMIT` of a 64-bit kernel).
const PID_MAX: u32 = 4_194_304;

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

impl TryFrom<String> for Adopt {
    type Error = BadAdopt;
    fn try_from(text: String) -> Result<Self, BadAdopt> {
        text.parse()
    }
}

impl From<Adopt> for String {
    fn from(adopt: Adopt) -> Self {
        adopt.to_string()
    }
}

impl From<BadAdopt> for Wrong {
    fn from(bad: BadAdopt) -> Self {
        Self::new(bad.to_string())
    }
}

/// Which namespace it is, as long as it is there: what `stat(2)` says of its
/// file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    /// The file system of namespaces.
    pub device: u64,
    /// Its number there; `ip netns` and `lsns` show it.
    pub inode: u64,
}

/// The mark of an adopted node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptMark {
    /// The lab.
    pub lab: LabName,
    /// The node.
    pub node: NodeName,
    /// Where its namespace was found.
    pub from: Adopt,
}

impl fmt::Display for AdoptMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ovsns lab={} adopted={} from={}", self.lab, self.node, self.from)
    }
}

impl AdoptMark {
    /// Reads a mark; `None` if it is not one to the letter.
    pub fn parse(text: &str) -> Option<Self> {
        let (lab, rest) = text.strip_prefix("ovsns lab=")?.split_once(" adopted=")?;
        let (node, from) = rest.split_once(" from=")?;
        let (lab, node) = (LabName::new(lab).ok()?, NodeName::new(node).ok()?);
        let mark = Self { lab, node, from: from.parse().ok()? };
        // One process can be written in several ways (`pid:07`).
        (mark.to_string() == text).then_some(mark)
    }
}

/// What a file says to be adopted, if it makes sense.
pub(super) fn adopted(spec: &NodeSpec, found: &mut Found) -> Option<Adopt> {
    let At { at, value: adopt } = spec.adopt.as_ref()?;
    let AdoptSpec { netns, pid, container, flawed } = adopt;
    let said: Vec<_> = [netns, pid, container].into_iter().flatten().collect();
    match said.as_slice() {
        [adopt] => {
            refuse_what_would_stay(spec, *at, found);
            Some((*adopt).clone())
        }
        [] if *flawed => None,
        [] => {
            found
                .add(*at, "`adopt` says not what")
                .hint("write `adopt: { netns: NAME }`, `{ pid: NUMBER }` or `{ container: NAME }`");
            None
        }
        _ => {
            found.add(*at, "`adopt` names more than one namespace").hint("leave one of them");
            None
        }
    }
}

/// What a node has that would not go with its links is refused: the namespace
/// is to be left as it was found.
fn refuse_what_would_stay(spec: &NodeSpec, adopted: Position, found: &mut Found) {
    let forwarding = spec.forwarding.map(|forwarding| ("forwarding", forwarding.at));
    let sysctl = spec.sysctls.first().map(|(key, _)| ("sysctls", key.at));
    let sealed = spec.sealed.filter(|sealed| sealed.value.is_some());
    let sealed = sealed.map(|sealed| ("sealed", sealed.at));
    let isolation = (!spec.isolation.is_empty()).then_some(("isolation", adopted));
    let limits = (!spec.limits.is_empty()).then_some(("limits", adopted));
    let hostname = spec.hostname.as_ref().map(|hostname| ("hostname", hostname.at));
    let run = spec.run.first().map(|process| ("run", process.at));
    let files = spec.files.first().map(|(path, _)| ("files", path.at));
    let nat = spec.nat.filter(|nat| nat.value.is_some()).map(|nat| ("nat", nat.at));
    let all = [nat, forwarding, sysctl, sealed, isolation, limits, hostname, run, files];
    for (key, at) in all.into_iter().flatten() {
        found.add(at, format!("{} is not for a node that is adopted", quoted(key))).hint(
            "it is left as it was found, so nothing is set in it but what goes with its links",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_adopted() {
        check("netns:blue", true);
        check("netns:/run/netns/blue", true);
        check("netns:/proc/12/ns/net", true);
        check("netns:run/netns/blue", false);
        check("netns:..", false);
        check("netns:", false);
        check("netns:a\nb", false);
        check("pid:12", true);
        check("pid:0", false);
        check("pid:+1", false);
        check("pid:-1", false);
        check("pid:4194305", false);
        check("container:web-1.x", true);
        check("container:podman:web", true);
        check("container:docker:0123abcd", true);
        check("container:lxc:web", false);
        check("container:../../info?", false);
        check("container:", false);
        check("blue", false);

        #[track_caller]
        fn check(text: &str, accepted: bool) {
            let adopt = text.parse::<Adopt>();
            assert_eq!(adopt.is_ok(), accepted, "{text:?}");
            if let Ok(adopt) = adopt {
                assert_eq!(adopt.to_string(), text);
            }
        }
    }

    #[test]
    fn marks_survive_being_written() {
        for from in ["netns:/a b/ from=c", "pid:7", "container:docker:web"] {
            let mark = AdoptMark {
                lab: LabName::new("l").expect("a good name"),
                node: NodeName::new("n.1").expect("a good name"),
                from: from.parse().expect("a good one"),
            };
            assert_eq!(AdoptMark::parse(&mark.to_string()), Some(mark));
        }
        for text in
            ["", "ovsns lab=l node=n", "ovsns lab=l adopted=n", "ovsns lab=l adopted=n from=x"]
        {
            assert_eq!(AdoptMark::parse(text), None, "{text:?}");
        }
    }
}
