//! Hands for `plan::why`: what a namespace has, what its kernel says about
//! routes, and what passes its devices while a packet is sent.
//!
//! All of it reads. What it makes is gone with the process: packet sockets, and
//! in nodes that filter packets a table of ours that traces the one packet,
//! owned by the socket that made it (`NFT_TABLE_F_OWNER`, Linux 5.12), so that
//! the kernel takes it away however this process ends.

mod facts;
mod filter;
pub(super) mod fuzzing;
mod probe;
mod queue;
mod route;
mod tap;

use std::collections::BTreeMap;

pub use facts::look;
pub(crate) use facts::state_name;
pub use probe::{Asked, probe};
pub use route::route;

use super::error::KernelError;
use super::netns;
use super::worker::Where;
use crate::model::mark::netns as netns_name;
use crate::model::names::LabName;
use crate::model::packet::Spot;

/// The names of devices by number, of every namespace that is watched.
pub type Names = BTreeMap<Spot, BTreeMap<u32, String>>;

/// The namespace of a spot; `None` if there is none of that name any more.
fn place(lab: &LabName, spot: &Spot) -> Result<Option<Where>, KernelError> {
    match spot {
        Spot::Home => Ok(Some(Where::Home)),
        Spot::Node(node) => match netns::open(&netns_name(lab, node)) {
            Ok(file) => Ok(Some(Where::In(file))),
            Err(error) if error.errno == nix::errno::Errno::ENOENT => Ok(None),
            Err(error) => Err(error),
        },
    }
}
