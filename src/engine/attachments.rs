//! What is remembered of NICs that are ports of a lab's switches.
//!
//! Unlike nodes and links, a NIC is not ours and carries no mark: how it was is
//! known from here alone. So this is written and synced before anything of it
//! changes, together with what to do about it if whoever changes it dies.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::names::IfName;
use crate::model::nic::Client;
use crate::model::topology::Lab;
use crate::plan::attach::{Attached, Away, Home};

/// The NICs of one lab.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachments {
    /// `/proc/sys/kernel/random/boot_id`: after a reboot all of it is history.
    pub boot: String,
    /// Those whose change has begun, by name.
    pub nics: BTreeMap<IfName, Attached>,
    /// DHCP clients that are held as long as their NIC is a port.
    #[serde(default)]
    pub clients: BTreeMap<IfName, Vec<Client>>,
    /// Those that are in nodes, or on their way there, by name.
    #[serde(default)]
    pub moved: BTreeMap<IfName, Away>,
    /// What is not decided yet.
    pub change: Option<Change>,
}

impl Attachments {
    /// Whether a NIC is away from where it belongs.
    pub fn has(&self, nic: &IfName) -> bool {
        self.nics.contains_key(nic) || self.moved.contains_key(nic)
    }

    /// All that are.
    pub fn all(&self) -> BTreeSet<IfName> {
        self.nics.keys().chain(self.moved.keys()).cloned().collect()
    }
}

/// A change that is taken back, or gone on with, if nobody comes to say that it
/// is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// By which a person names it.
    pub id: String,
    /// The command.
    pub command: String,
    /// The NICs that go home.
    pub nics: BTreeSet<IfName>,
    /// How they do.
    pub why: Why,
    /// The lab as it is to be then; `None` if there is to be none.
    pub back_to: Option<Lab>,
    /// Whether all was done, and waits for somebody to confirm it.
    pub proved: bool,
}

/// Why NICs go home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// They were to be attached.
    Undo,
    /// They were on their way.
    Detach,
}

impl From<Why> for Home {
    fn from(why: Why) -> Self {
        match why {
            Why::Undo => Self::Undo,
            Why::Detach => Self::Detach,
        }
    }
}
