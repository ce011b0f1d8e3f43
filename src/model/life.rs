//! What a node is besides a network namespace: what it has of its own, what it
//! may use, and what runs in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::laid::NodeFile;
use super::names::ProcessName;

/// Something of the machine that a node can have of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// The host name.
    Uts,
    /// `/tmp`, `/run` and `/var/log`.
    Mount,
    /// Processes: it sees only its own.
    Pid,
    /// Shared memory, semaphores and message queues.
    Ipc,
}

impl Isolation {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Uts, Self::Mount, Self::Pid, Self::Ipc];
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Uts => "uts",
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
        })
    }
}

/// What a node has of its own. It is born with that, so none of it can change
/// without the end of all that runs in the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The kinds.
    pub kinds: BTreeSet<Isolation>,
    /// Its host name, if it has one of its own.
    pub hostname: Option<String>,
}

/// What a node may use; `None` for as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a processor.
    pub cpu_permille: Option<u32>,
    /// Memory in bytes, whole pages.
    pub memory_bytes: Option<u64>,
    /// The number of processes and threads.
    pub processes: Option<u32>,
}

impl Limits {
    /// Whether there is no limit at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Commas between what is limited, as a person writes it.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if let Some(permille) = self.cpu_permille {
            words.push(format!("cpu {}", Processors(permille)));
        }
        words.extend(self.memory_bytes.map(|bytes| format!("memory {}", Bytes(bytes))));
        words.extend(self.processes.map(|most| format!("processes {most}")));
        f.pad(&if words.is_empty() { "none".to_owned() } else { words.join(", ") })
    }
}

/// Thousandths of a processor, as a person writes them: `0.5`.
pub struct Processors(pub u32);

impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        match part {
            0 => write!(f, "{whole}"),
            part => write!(f, "{whole}.{}", format!("{part:03}").trim_end_matches('0')),
        }
    }
}

/// Bytes, as a person writes them: `256M`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = [(30, "G"), (20, "M"), (10, "K")];
        let fits = unit.iter().find(|(bits, _)| self.0 != 0 && self.0.trailing_zeros() >= *bits);
        match fits {
            Some((bits, letter)) => write!(f, "{}{letter}", self.0 >> bits),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A process that is to run in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name, unique in the node.
    pub name: ProcessName,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// When it is ready; `None`: as soon as it runs.
    pub ready: Option<Ready>,
    /// How long it may take to be ready, in seconds.
    pub timeout_s: u32,
    /// What becomes of it when it ends.
    pub restart: Restart,
    /// What is added to its environment.
    pub environment: BTreeMap<String, String>,
    /// Where it runs; `None` for `/`.
    pub directory: Option<String>,
    /// As whom; `None` for whom `ovsns` runs as.
    pub user: Option<String>,
}

impl Process {
    /// How long one may take to be ready that does not say it, in seconds.
    pub const TIMEOUT_S_DEFAULT: u32 = 30;
}

/// By what a process is known to be ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// Somebody listens at a port of the node.
    Port(Port),
    /// A command that is run in the node ends well.
    Command(Vec<String>),
}

/// A port of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its number.
    pub number: u16,
    /// Whether it is one of UDP, and not of TCP.
    pub udp: bool,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, if self.udp { "udp" } else { "tcp" })
    }
}

/// What becomes of a process that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Nothing.
    #[default]
    Never,
    /// It is started again unless it ended well.
    OnFailure,
    /// It is started again.
    Always,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        })
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// What the node has of its own.
    pub room: Room,
    /// What it may use.
    pub limits: Limits,
    /// What runs in it, in the order in which it starts.
    pub run: Vec<Process>,
    /// Files that it has in place of the machine's, by path.
    #[serde(default)]
    pub files: BTreeMap<String, NodeFile>,
}

impl Life {
    /// Whether the node needs a process of ours: a network namespace alone
    /// lives without.
    pub fn needs_keeper(&self) -> bool {
        *self != Self::default()
    }
}

/// How a process does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It runs, and nobody knows that it is ready.
    Starting,
    /// It runs, and was ready.
    Running,
    /// It ended, and is about to be started again.
    Waiting {
        /// How it ended.
        ended: String,
    },
    /// It ended well, and is not started again.
    Done,
    /// It ended otherwise, and is not started again.
    Failed {
        /// How.
        ended: String,
    },
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.pad("starting"),
            Self::Running => f.pad("running"),
            Self::Waiting { ended } => write!(f, "waiting ({ended})"),
            Self::Done => f.pad("done"),
            Self::Failed { ended } => write!(f, "failed ({ended})"),
        }
    }
}

/// A process that a node's keeper has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenProcess {
    /// What it was started as.
    pub process: Process,
    /// How it does.
    pub standing: Standing,
    /// Its number in the node, while it runs.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
    /// Since when it runs or does not, in seconds since 1970.
    pub since_s: u64,
}

/// The keeper of a node that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenKeeper {
    /// What the node has of its own.
    pub room: Room,
    /// What it may use, as the kernel has it.
    pub limits: Limits,
    /// What runs in it, in the order in which it was started.
    pub processes: Vec<SeenProcess>,
    /// The files that were laid over the machine's, as whoever is in the node
    /// finds them; `None` for what is not there, or no text.
    pub files: BTreeMap<String, Option<NodeFile>>,
    /// What the node is called by those in it, where that is not what it was called:
    /// somebody there has changed it.
    #[serde(default)]
    pub renamed: Option<String>,
    /// Its number on the machine.
    pub pid: u32,
    /// Why it is of no use any more, if it is not: its node was made anew, or it
    /// does not answer.
    pub lost: Option<String>,
}

impl SeenKeeper {
    /// The life that it keeps.
    pub fn life(&self) -> Life {
        let run = self.processes.iter().map(|seen| seen.process.clone()).collect();
        let file = |(path, file): (&String, &Option<NodeFile>)| Some((path.clone(), file.clone()?));
        let files = self.files.iter().filter_map(file).collect();
        Life { room: self.room.clone(), limits: self.limits, run, files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_they_are_read() {
        let limits = |cpu, memory, processes| {
            Limits { cpu_permille: cpu, memory_bytes: memory, processes }.to_string()
        };
        assert_eq!(
            limits(Some(500), Some(256 << 20), Some(100)),
            "cpu 0.5, memory 256M, processes 100"
        );
        assert_eq!(limits(Some(2000), Some(3 << 30), None), "cpu 2, memory 3G");
        assert_eq!(limits(Some(1250), Some(1536 << 10), None), "cpu 1.25, memory 1536K");
        assert_eq!(limits(None, None, None), "none");
    }
}
