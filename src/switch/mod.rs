//! Hands for the fabric: what joins ports, behind one trait.
//!
//! Adding a backend is one file here and one line in `open`; the promises of
//! `contract` then run over it.

pub mod contract;
pub mod fake;
#[doc(hidden)]
pub mod fuzzing;
pub mod linux;
pub mod news;
pub mod ovs;
pub mod own;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use async_trait::async_trait;

use crate::kernel::{KernelError, LinuxHost};
use crate::model::flow::Form;
use crate::model::mark::Mac;
use crate::model::names::{IfName, LabName};
use crate::model::packet::Frame;
use crate::model::topology::Backend;
use crate::model::world::{Fabric, SwitchSpec};
use crate::plan::why::facts::Way;
use crate::plan::{Abilities, FabricStep, Need};

/// A way of joining ports: Open vSwitch, the Linux bridge, or a fake in memory.
#[async_trait]
pub trait Switch: Send {
    /// Says what of this is on this machine, in a few words, or why nothing is.
    /// Starts nothing.
    async fn available(&mut self) -> Result<String, String>;

    /// Says what this switch can do, so that a plan never asks for more. Some
    /// things have to be tried, in a place of their own; only what is in
    /// `needs` is. Starts nothing.
    async fn abilities(&mut self, needs: &BTreeSet<Need>) -> Result<Abilities, SwitchError>;

    /// Reads which labs have switches. Changes nothing.
    async fn labs(&mut self) -> Result<BTreeSet<LabName>, SwitchError>;

    /// Reads what is there of one lab. Changes nothing.
    async fn observe(&mut self, lab: &LabName) -> Result<Fabric, SwitchError>;

    /// Told that steps will come that make switches, while others are busy with
    /// what comes before: what has to be started for them starts. Whether that
    /// works shows in `commit`.
    fn prepare(&mut self) {}

    /// Performs all of `steps`, or none of them. Returns when every port that
    /// was plugged in or raised, and has carrier, forwards, and the devices of
    /// switches that go are gone.
    async fn commit(&mut self, steps: &[FabricStep]) -> Result<(), SwitchError>;

    /// The same for a lab that goes, whose links are swept next: what the sweep takes
    /// need not be gone yet.
    async fn tear_down(&mut self, steps: &[FabricStep]) -> Result<(), SwitchError> {
        self.commit(steps).await
    }

    /// Reads what one switch has learned and counted; nothing if it went since it was
    /// observed. Changes nothing.
    async fn traffic(&mut self, switch: &SwitchSpec) -> Result<Traffic, SwitchError>;

    /// Says what a switch would do with a frame that comes in at a port: by
    /// which ports it would leave, and what keeps it from others. Sends nothing,
    /// learns nothing, changes nothing.
    async fn way(
        &mut self,
        switch: &SwitchSpec,
        enters: &IfName,
        frame: &Frame,
    ) -> Result<Way, SwitchError>;

    /// The part that speaks OpenFlow, where the backend has one.
    fn openflow(&mut self) -> Option<&mut dyn OpenFlow> {
        None
    }

    /// Called when a command has done with the switches: a daemon of ours that
    /// no lab needs any more ends.
    async fn leave(&mut self) -> Result<(), SwitchError> {
        Ok(())
    }
}

/// What switches tell that speak OpenFlow. Nothing of it changes anything:
/// flows are added and deleted by steps, like all there is.
///
/// Ports go by Open vSwitch's own names here.
#[async_trait]
pub trait OpenFlow: Send {
    /// Reads the flows of one switch, those of its controllers among them,
    /// sorted by table and priority; and the `hidden` ones, which it made for
    /// itself, if they are asked for.
    async fn flows(&mut self, switch: &SwitchSpec, hidden: bool) -> Result<Vec<Flow>, SwitchError>;

    /// What would become of a packet, in the switch's own words; or why it
    /// cannot read which packet is meant.
    async fn trace(
        &mut self,
        switch: &SwitchSpec,
        packet: &str,
    ) -> Result<Result<String, String>, SwitchError>;

    /// How flows read, or why they do not, where these versions of OpenFlow
    /// are spoken; none for all. They have numbers in place of names.
    async fn read(
        &mut self,
        protocols: &BTreeSet<String>,
        texts: &[&str],
    ) -> Result<Vec<Result<Form, String>>, SwitchError>;

    /// How one switch stands to its controllers.
    async fn standing(&mut self, switch: &SwitchSpec) -> Result<Standing, SwitchError>;
}

/// A flow, with what it has counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flow {
    /// Its cookie, where that is told.
    pub cookie: Option<u64>,
    /// Whether it is of the lab.
    pub ours: bool,
    /// Whether the switch made it for itself.
    pub hidden: bool,
    /// The table it is in.
    pub table: u8,
    /// Its priority; hidden ones go beyond 16 bits.
    pub priority: u32,
    /// How long it has been there.
    pub seconds: f64,
    /// Packets that matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The flow, such as can be added again.
    pub text: String,
}

/// How a switch stands to its controllers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its number among switches, if it works.
    pub datapath_id: Option<String>,
    /// How it stands to each, by where that is. Some seconds old.
    pub controllers: BTreeMap<String, Contact>,
}

/// How a switch stands to one controller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contact {
    /// Whether it is connected.
    pub connected: bool,
    /// Its part beside others, if it is connected: `other` (as good as all),
    /// `master` or `slave` (`OFPCR_ROLE_*`).
    pub role: Option<String>,
}

/// What a switch has learned and counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Which address was last heard at which port.
    pub learned: Vec<Learned>,
    /// Counters by port, since the port was made.
    pub counters: BTreeMap<IfName, Counters>,
    /// What its bonds do, by port.
    pub bonds: BTreeMap<IfName, Bonding>,
}

/// What a bond does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bonding {
    /// Whether both ends agreed by LACP; `None` where they do not speak it.
    pub agreed: Option<bool>,
    /// Its links.
    pub members: BTreeMap<IfName, Member>,
}

/// What a bond does with a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Member {
    /// Whether frames may take it.
    pub enabled: bool,
    /// Whether it is the one that takes all, or what cannot be spread.
    pub active: bool,
}

/// An entry of the forwarding table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Learned {
    /// The station.
    pub mac: Mac,
    /// The port it is behind.
    pub port: IfName,
    /// The VLAN it was heard in; `None` where the switch does not look at tags.
    pub vlan: Option<u16>,
}

/// What passed a port, as the switch sees it: `rx` came into the switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames into the switch.
    pub rx_packets: u64,
    /// Bytes into the switch.
    pub rx_bytes: u64,
    /// Frames out of the switch.
    pub tx_packets: u64,
    /// Bytes out of the switch.
    pub tx_bytes: u64,
    /// Frames dropped, either way.
    pub dropped: u64,
}

/// A batch that was not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// A step failed; what came before it was taken back.
    #[error("`{step}` failed")]
    Step {
        /// The step in words.
        step: String,
        /// Why.
        source: KernelError,
    },
    /// A step failed, and something could not be taken back.
    #[error("`{step}` failed, and this is left: {}", .left.join("; "))]
    Left {
        /// The step in words.
        step: String,
        /// What is left, each a step in words.
        left: Vec<String>,
        /// Why.
        source: KernelError,
    },
    /// All was set and then did not come to work, and something could not be
    /// taken back.
    #[error("the switches do not work, and this is left: {}", .left.join("; "))]
    StillThere {
        /// What is left, each a step in words.
        left: Vec<String>,
        /// Why.
        source: Box<SwitchError>,
    },
    /// The switches could not be read.
    #[error("could not read the switches")]
    Observe(#[source] KernelError),
    /// Open vSwitch did not do it; nothing of it is left.
    #[error(transparent)]
    OpenVswitch(#[from] ovs::OvsError),
    /// All was set, but a port had not come to forward by the deadline.
    #[error(
        "switch `{switch}` did not begin to forward within {seconds} s: port `{port}` is still \
         {state}"
    )]
    NotForwarding {
        /// The switch.
        switch: String,
        /// One of its ports.
        port: String,
        /// The port's state under STP.
        state: String,
        /// How long was waited.
        seconds: u64,
    },
}

/// Opens the backends of this machine, the best first. `state` is where a
/// backend keeps what it runs.
pub fn open(host: &LinuxHost, state: &Path) -> BTreeMap<Backend, Box<dyn Switch>> {
    let ovs: Box<dyn Switch> = Box::new(ovs::OpenVswitch::new(host, state));
    let linux: Box<dyn Switch> = Box::new(linux::LinuxBridge::new(host));
    BTreeMap::from([(Backend::Ovs, ovs), (Backend::Linux, linux)])
}
