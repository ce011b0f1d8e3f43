//! What ovsns can be asked: a type for each call, with its parameters, what it
//! answers, and how it is done.
//!
//! The command line and the server both ask here and nowhere else, so that a
//! program over the socket and a person in a shell get the same.

mod capture;
mod cut;
mod desk;
mod doctor;
pub mod edit;
mod error;
mod events;
mod exec;
mod flow;
mod graph;
mod lab;
mod link;
mod logs;
mod nic;
mod node;
mod ping;
mod rates;
mod switch;
mod traffic;
pub mod view;
mod why;

use std::future::Future;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use capture::{Capture, CapturePoint, CapturePoints, Capturing, Piece};
pub use cut::{CutHeal, CutMake};
pub use desk::{Desk, News};
pub(crate) use desk::{NodeWords, allowed, one_lab};
pub(crate) use doctor::own;
pub use doctor::{Diagnosis, Doctor, Found};
pub use edit::Changed;
pub use error::{CallError, Failure};
pub use events::{Event, Happened, Kind, Thing, difference};
pub use exec::{NodeExec, Ran};
pub use flow::{FlowAdd, FlowDel, FlowDump, FlowTrace, FlowView, Traced};
pub use graph::LabGraph;
pub(crate) use graph::running;
pub use lab::{
    Gc, LabDown, LabList, LabPlan, LabRow, LabStatus, LabUp, Made, Planned, Removed, Topology,
};
pub use link::{Impair, LinkAdd, LinkDown, LinkRm, LinkSet, LinkUp};
pub(crate) use logs::Following;
pub use logs::{NodeLogs, Said, Spoken};
pub use nic::{Confirmed, How, NicAttach, NicConfirm, NicDetach, Shared};
pub use node::{NodeAdd, NodeRestart, NodeRm};
pub use ping::{NodePing, Pinged};
pub use rates::{Rates, Reading};
pub(crate) use switch::no_switch;
pub use switch::{SwitchAdd, SwitchRm, SwitchSet};
pub(crate) use traffic::{Figures, figures};

pub(crate) use why::port;
pub use why::{Cause, Dies, Explained, Hop, NodeWhy};

/// Something that ovsns can be asked. What its type says of itself is what the
/// document of the API says of it.
pub trait Call: Serialize + DeserializeOwned + JsonSchema + Send + 'static {
    /// What it is called, such as `lab.up`.
    const NAME: &'static str;

    /// Whether it may go on for as long as somebody wants, such as a command in a node:
    /// it takes no place of those that end, and ends with whoever asked.
    const IS_OPEN_ENDED: bool = false;

    /// What comes of it.
    type Answer: Serialize + DeserializeOwned + JsonSchema + Send + 'static;

    /// Does it, here and now.
    fn run(self, desk: &mut Desk<'_>) -> impl Future<Output = Result<Self::Answer, CallError>>;
}

/// Somebody who is shown each call there is: the server, which offers it, and the
/// document, which tells of it.
pub trait Visitor {
    /// Is shown one.
    fn visit<C: Call>(&mut self);
}

/// Shows all calls, in the order of their names.
pub fn visit(visitor: &mut impl Visitor) {
    visitor.visit::<CapturePoints>();
    visitor.visit::<CutHeal>();
    visitor.visit::<CutMake>();
    visitor.visit::<Doctor>();
    visitor.visit::<FlowAdd>();
    visitor.visit::<FlowDel>();
    visitor.visit::<FlowDump>();
    visitor.visit::<FlowTrace>();
    visitor.visit::<Gc>();
    visitor.visit::<LabDown>();
    visitor.visit::<LabGraph>();
    visitor.visit::<LabList>();
    visitor.visit::<LabPlan>();
    visitor.visit::<LabStatus>();
    visitor.visit::<LabUp>();
    visitor.visit::<LinkAdd>();
    visitor.visit::<LinkDown>();
    visitor.visit::<LinkRm>();
    visitor.visit::<LinkSet>();
    visitor.visit::<LinkUp>();
    visitor.visit::<NicAttach>();
    visitor.visit::<NicConfirm>();
    visitor.visit::<NicDetach>();
    visitor.visit::<NodeAdd>();
    visitor.visit::<NodeExec>();
    visitor.visit::<NodeLogs>();
    visitor.visit::<NodePing>();
    visitor.visit::<NodeRestart>();
    visitor.visit::<NodeRm>();
    visitor.visit::<NodeWhy>();
    visitor.visit::<SwitchAdd>();
    visitor.visit::<SwitchRm>();
    visitor.visit::<SwitchSet>();
}
