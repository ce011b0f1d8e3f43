//! What commands and the keeper of a lab's leases say to each other (`line`).

use std::io;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::super::error::KernelError;
use super::super::line::{self, Line};
use crate::model::names::{IfName, LabName, NodeName};
use crate::model::world::SeenLease;

/// An interface of the keeper's lab, or of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Whose {
    /// None for the host.
    pub(super) node: Option<NodeName>,
    pub(super) device: IfName,
}

/// A lease that another client has got, to be renewed in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfAnother {
    pub(super) address: Ipv4Net,
    /// By which the server knows the client: empty for its Ethernet address.
    pub(super) client_id: Vec<u8>,
}

/// What a command asks of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// What it keeps.
    List,
    /// To keep a lease for an interface from here on.
    Hold {
        whose: Whose,
        /// The namespace's name.
        netns: Option<String>,
        /// The address that it has by another client, if it is that one's lease.
        of_another: Option<OfAnother>,
    },
    /// To be told when there is an address.
    Await { whose: Whose, within_ms: u64 },
    /// To give a lease back and take its address off.
    End { whose: Whose },
}

/// What the keeper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tell {
    /// To `List`.
    Kept(Vec<(Whose, SeenLease)>),
    /// To `Hold`.
    Holds,
    /// To `Await`.
    Bound,
    /// To `Await`: there is none in time.
    Silent {
        /// Whether a server gave one.
        offered: bool,
    },
    /// To `End`.
    Ended {
        /// Whether the keeper has nothing left to keep, and ends.
        last: bool,
    },
    /// It cannot be done, with the kernel's number.
    Failed(i32),
}

/// Connects to the keeper of a lab, if there is one.
pub(super) fn connect(lab: &LabName) -> Result<Option<Line>, KernelError> {
    Line::connect(&name(lab), &format!("the keeper of the leases of lab `{lab}`"))
}

/// Takes the name of a lab's keeper; `AddrInUse` if there is one.
pub(super) fn listen(lab: &LabName) -> io::Result<UnixListener> {
    UnixListener::from_std(line::listen(&name(lab))?)
}

fn name(lab: &LabName) -> String {
    format!("ovsns/leases/{lab}")
}
