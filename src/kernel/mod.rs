//! Hands for namespaces, links, addresses and routes.
//!
//! The only callers of `setns(2)`, `unshare(2)` and `mount(2)`; with
//! `switch::linux` the only writers to netlink. They do what a step says and
//! decide nothing: what to do is found in `plan`.

mod adopt;
mod containers;
pub mod counters;
pub mod cut_short;
mod deaf;
pub mod doctor;
mod doors;
pub mod error;
pub mod ethtool;
mod exits;
pub mod fake;
#[doc(hidden)]
pub mod fuzzing;
pub mod genl;
pub mod host;
mod hosts;
pub mod inherited;
pub mod inside;
pub mod laid;
pub mod leases;
mod lend;
pub mod life;
mod line;
pub mod netlink;
pub mod netns;
pub mod news;
mod nft;
pub mod nic;
pub mod observe;
pub mod permissions;
pub mod ping;
pub mod raw;
mod rt;
mod seal;
pub mod tap;
pub mod tc;
pub mod why;
pub mod worker;

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::model::names::{LabName, NodeName};
use crate::model::world::{HostView, Questions};
use crate::plan::Step;

pub use error::{KernelError, StepError};
pub use host::LinuxHost;

/// A machine's namespaces and links: this one's, or a fake in memory.
#[async_trait]
pub trait Host: Send {
    /// Reads what is there of one lab. Changes nothing.
    async fn observe(&mut self, questions: &Questions) -> Result<HostView, KernelError>;

    /// Waits until these nodes can use the addresses that they have. Changes
    /// nothing.
    async fn settle(
        &mut self,
        lab: &LabName,
        nodes: &BTreeSet<NodeName>,
    ) -> Result<(), KernelError>;

    /// Every lab of which this machine shows a mark. Changes nothing.
    async fn labs(&mut self) -> Result<BTreeSet<LabName>, KernelError>;

    /// The links that were cut off at birth, before they said which lab they are
    /// of, if no command is at work.
    async fn orphans(&mut self) -> Result<Vec<String>, KernelError>;

    /// Deletes them, and returns their names. No command may be at work.
    async fn delete_orphans(&mut self) -> Result<Vec<String>, KernelError>;

    /// Performs one step, or nothing of it.
    async fn perform(&mut self, lab: &LabName, step: &Step) -> Result<(), StepError>;
}
