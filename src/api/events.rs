//! What happens to labs, as it is told to whoever wants to hear of it.

mod difference;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use difference::difference;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// When it was seen, in milliseconds since 1970.
    pub at_ms: u64,
    /// The lab it happened to. None for `missed`.
    pub lab: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: Happened,
}

impl Event {
    /// Whether it is for somebody who wants to hear of one lab, or of all. What happened
    /// to no lab is for everybody.
    pub fn is_for(&self, lab: Option<&str>) -> bool {
        self.lab.as_deref().is_none_or(|it| lab.is_none_or(|lab| lab == it))
    }
}

/// What has happened, to what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Happened {
    /// Its kind.
    pub kind: Kind,
    /// What it happened to.
    pub thing: Thing,
    /// Its name: `n1`, `s1`, `n1:eth0 -- s1`, `n1/web`, `eth0`; empty for a whole lab.
    pub name: String,
    /// In words, a line.
    pub text: String,
}

/// What kind of thing has happened.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is there now.
    Made,
    /// It is there no more.
    Gone,
    /// It is otherwise than before.
    Changed,
    /// A link: frames pass.
    Up,
    /// A link: none do.
    Down,
    /// A process: it runs, and is not ready yet.
    Started,
    /// A process: it is ready.
    Ready,
    /// A process: it has ended.
    Ended,
    /// A lab is not as it is to be: what `ovsns up` would do.
    Drifted,
    /// It is again; `text` is what is no longer to be done.
    Mended,
    /// Something does not work.
    Error,
    /// The server tried to mend a lab, and could not.
    Failed,
    /// It tries no more until something changes.
    GivenUp,
    /// Events were left out for somebody who did not keep up: `lab.status` says how
    /// things are.
    Missed,
}

/// What things happen to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// A lab.
    Lab,
    /// A node.
    Node,
    /// An interface of a node.
    Interface,
    /// A link.
    Link,
    /// A switch.
    Switch,
    /// A port of a switch.
    Port,
    /// A controller of a switch.
    Controller,
    /// A NIC of the machine.
    Uplink,
    /// A process of a node.
    Process,
}

impl Happened {
    /// One, from its parts.
    pub fn new(kind: Kind, thing: Thing, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kind, thing, name: name.into(), text: text.into() }
    }
}

impl Kind {
    /// Its word, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Gone => "gone",
            Self::Changed => "changed",
            Self::Up => "up",
            Self::Down => "down",
            Self::Started => "started",
            Self::Ready => "ready",
            Self::Ended => "ended",
            Self::Drifted => "drifted",
            Self::Mended => "mended",
            Self::Error => "error",
            Self::Failed => "failed",
            Self::GivenUp => "given up",
            Self::Missed => "missed",
        }
    }
}

impl Thing {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Node => "node",
            Self::Interface => "interface",
            Self::Link => "link",
            Self::Switch => "switch",
            Self::Port => "port",
            Self::Controller => "controller",
            Self::Uplink => "uplink",
            Self::Process => "process",
        }
    }
}
