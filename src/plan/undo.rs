//! The way back: what takes a step back, and how the way back of many steps
//! is made short.

use std::collections::BTreeSet;

use super::step::{FabricStep, Place, Stage, Step};
use crate::model::life::Life;
use crate::model::names::NodeName;
use crate::model::topology::Backend;

impl Step {
    /// The steps that take this one back, if any can.
    pub fn undo(&self) -> Option<Vec<Step>> {
        match self {
            Self::AddNode { node } => Some(vec![Self::DeleteNode { node: node.clone() }]),
            Self::SealNode { node, before, after } => {
                let (before, after) = (*after, *before);
                Some(vec![Self::SealNode { node: node.clone(), before, after }])
            }
            Self::AdoptNode { node, from, netns } => {
                let (node, from) = (node.clone(), from.clone());
                Some(vec![Self::LeaveNode { node, from, netns: *netns }])
            }
            Self::LeaveNode { node, from, netns } => {
                let (node, from) = (node.clone(), from.clone());
                Some(vec![Self::AdoptNode { node, from, netns: *netns }])
            }
            Self::AddVeth(veth) => Some(vec![Self::DeleteVeth(veth.clone())]),
            Self::DeleteVeth(veth) => {
                let mut steps = vec![Self::AddVeth(veth.clone())];
                for (side, end) in veth.ends.iter().enumerate() {
                    let (before, after) = (veth.born(side), veth.raised(side));
                    if before != after {
                        let (at, device) = (end.at.clone(), end.device.clone());
                        steps.push(Self::SetLink { at, device, before, after });
                    }
                }
                Some(steps)
            }
            Self::AddMacvlan(child) => Some(vec![Self::DeleteMacvlan(child.clone())]),
            Self::DeleteMacvlan(child) => Some(vec![Self::AddMacvlan(child.clone())]),
            Self::LendNic(loan) => Some(vec![Self::ReturnNic(loan.clone())]),
            Self::ReturnNic(loan) => Some(vec![Self::LendNic(loan.clone())]),
            Self::SetLink { at, device, before, after } => Some(vec![Self::SetLink {
                at: at.clone(),
                device: device.clone(),
                before: after.clone(),
                after: before.clone(),
            }]),
            Self::Impair { at, device, before, after } => Some(vec![Self::Impair {
                at: at.clone(),
                device: device.clone(),
                before: *after,
                after: *before,
            }]),
            Self::Cut { node, before, after, from: _ } => Some(vec![Self::Cut {
                node: node.clone(),
                before: after.clone(),
                after: before.clone(),
                from: BTreeSet::new(),
            }]),
            Self::AddAddress { node, device, address } => Some(vec![Self::DeleteAddress {
                node: node.clone(),
                device: device.clone(),
                address: *address,
            }]),
            Self::DeleteAddress { node, device, address } => Some(vec![Self::AddAddress {
                node: node.clone(),
                device: device.clone(),
                address: *address,
            }]),
            Self::HoldLease { node, device } => {
                Some(vec![Self::EndLease { node: node.clone(), device: device.clone() }])
            }
            Self::EndLease { node, device } => {
                Some(vec![Self::HoldLease { node: node.clone(), device: device.clone() }])
            }
            Self::AddRoute { node, route } => {
                Some(vec![Self::DeleteRoute { node: node.clone(), route: route.clone() }])
            }
            Self::DeleteRoute { node, route } => {
                Some(vec![Self::AddRoute { node: node.clone(), route: route.clone() }])
            }
            Self::SetGateway { device, before, after } => Some(vec![Self::SetGateway {
                device: device.clone(),
                before: after.clone(),
                after: before.clone(),
            }]),
            Self::SetDoors { before, after } => {
                Some(vec![Self::SetDoors { before: after.clone(), after: before.clone() }])
            }
            Self::SetSysctl { node, key, before: Some(before), after } => {
                Some(vec![Self::SetSysctl {
                    node: node.clone(),
                    key: key.clone(),
                    before: Some(after.clone()),
                    after: before.clone(),
                }])
            }
            Self::SetChecksums { node, device, before, after } => Some(vec![Self::SetChecksums {
                node: node.clone(),
                device: device.clone(),
                before: *after,
                after: *before,
            }]),
            Self::StartKeeper { node, .. } => {
                Some(vec![Self::EndKeeper { node: node.clone(), life: None }])
            }
            Self::EndKeeper { node, life: Some(life) } => {
                let Life { room, limits, run, files } = life.clone();
                let started = Self::StartKeeper { node: node.clone(), room, limits };
                let run = run.into_iter();
                let run = run.map(|process| Self::RunProcess { node: node.clone(), process });
                let laid = files.into_iter().map(|(path, after)| Self::LayFile {
                    node: node.clone(),
                    path,
                    before: None,
                    after,
                });
                Some(std::iter::once(started).chain(laid).chain(run).collect())
            }
            Self::SetLimits { node, before, after } => Some(vec![Self::SetLimits {
                node: node.clone(),
                before: *after,
                after: *before,
            }]),
            Self::RenameNode { node, before, after } => Some(vec![Self::RenameNode {
                node: node.clone(),
                before: after.clone(),
                after: before.clone(),
            }]),
            Self::WriteNames { before, after } => {
                Some(vec![Self::WriteNames { before: after.clone(), after: before.clone() }])
            }
            Self::LayFile { node, path, before: Some(before), after } => Some(vec![Self::LayFile {
                node: node.clone(),
                path: path.clone(),
                before: Some(after.clone()),
                after: before.clone(),
            }]),
            Self::LayFile { node, path, before: None, after } => Some(vec![Self::LiftFile {
                node: node.clone(),
                path: path.clone(),
                before: Some(after.clone()),
            }]),
            Self::LiftFile { node, path, before: Some(before) } => Some(vec![Self::LayFile {
                node: node.clone(),
                path: path.clone(),
                before: None,
                after: before.clone(),
            }]),
            Self::RunProcess { node, process } => {
                Some(vec![Self::StopProcess { node: node.clone(), process: process.clone() }])
            }
            Self::StopProcess { node, process } => {
                Some(vec![Self::RunProcess { node: node.clone(), process: process.clone() }])
            }
            // Harmless where it stays: a new node's parameter goes with the
            // node, another name with its link, and half a link was broken.
            Self::SetSysctl { before: None, .. }
            | Self::AddAltname { .. }
            | Self::AwaitAddress { .. }
            // What it kept ran no more, or nobody could tell.
            | Self::EndKeeper { life: None, .. }
            // Somebody else had taken it away.
            | Self::LiftFile { before: None, .. }
            | Self::DeleteEnd { .. } => Some(Vec::new()),
            Self::DeleteNode { .. } | Self::SweepLinks { .. } => None,
        }
    }
}

impl FabricStep {
    /// The steps that take this one back, if any can.
    pub fn undo(&self) -> Option<Vec<FabricStep>> {
        match self {
            Self::AddSwitch(spec) => Some(vec![Self::DeleteSwitch(spec.clone())]),
            Self::DeleteSwitch(spec) => {
                Some(vec![Self::AddSwitch(spec.clone()), Self::RaiseSwitch(spec.clone())])
            }
            Self::SetSwitch { before, after } => {
                Some(vec![Self::SetSwitch { before: after.clone(), after: before.clone() }])
            }
            // It goes down with the switch that was added; waiting changes nothing.
            Self::RaiseSwitch(_) | Self::SettleSwitch(_) => Some(Vec::new()),
            Self::AddPort(port) => Some(vec![Self::DeletePort(port.clone())]),
            Self::DeletePort(port) => Some(vec![Self::AddPort(port.clone())]),
            Self::SetPort { before, after } => {
                Some(vec![Self::SetPort { before: after.clone(), after: before.clone() }])
            }
            Self::AddMirror(mirror) => Some(vec![Self::DeleteMirror(mirror.clone())]),
            Self::DeleteMirror(mirror) => Some(vec![Self::AddMirror(mirror.clone())]),
            Self::AddFlow(flow) => Some(vec![Self::DeleteFlow(flow.clone())]),
            Self::DeleteFlow(flow) => Some(vec![Self::AddFlow(flow.clone())]),
            // Nothing used it.
            Self::DeleteLeftover(_) => Some(Vec::new()),
        }
    }
}

/// One step that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "they are few, and live as long as one command")]
pub enum Done {
    /// By the kernel's hands.
    Host(Step),
    /// By a backend's.
    Fabric(Backend, FabricStep),
}

/// The way back from `done` (oldest first): stages to perform in their order.
/// `None` if there was a step that nothing takes back, such as the removal of
/// a node: what ran in it is gone. Plans have these last.
///
/// What is inside a node that was added goes with the node, and so do links
/// that end there; taking each address off first would cost a request a piece.
pub fn take_back(done: &[Done]) -> Option<Vec<Stage>> {
    let added: BTreeSet<&NodeName> = done
        .iter()
        .filter_map(|done| match done {
            Done::Host(Step::AddNode { node }) => Some(node),
            Done::Host(_) | Done::Fabric(..) => None,
        })
        .collect();
    let mut stages: Vec<Stage> = Vec::new();
    for done in done.iter().rev() {
        match done {
            Done::Host(step) if goes_with_a_node(step, &added) => {}
            Done::Host(step) => append_host(&mut stages, step.undo()?),
            Done::Fabric(backend, step) => append_fabric(&mut stages, *backend, step.undo()?),
        }
    }
    stages.retain(|stage| !stage.is_empty());
    Some(stages)
}

/// Whether taking back the nodes in `added` takes `step` back, too.
fn goes_with_a_node(step: &Step, added: &BTreeSet<&NodeName>) -> bool {
    match step {
        Step::SetLink { at: Place::Node(node), .. }
        | Step::Impair { at: Place::Node(node), .. }
        | Step::AddAltname { at: Place::Node(node), .. }
        | Step::AddAddress { node, .. }
        | Step::SealNode { node, .. }
        | Step::Cut { node, .. }
        | Step::AddRoute { node, .. }
        | Step::SetSysctl { node, .. }
        | Step::SetChecksums { node, .. } => added.contains(node),
        // Not so a veth: a node's name goes at once, but its links only when
        // the kernel gets round to it, or never while a process is inside. And
        // least of all a NIC.
        Step::AddVeth(_)
        | Step::AddMacvlan(_)
        | Step::DeleteMacvlan(_)
        | Step::LendNic(_)
        | Step::ReturnNic(_)
        | Step::SetGateway { .. }
        | Step::SetDoors { .. }
        | Step::AddNode { .. }
        | Step::DeleteNode { .. }
        | Step::AdoptNode { .. }
        | Step::LeaveNode { .. }
        | Step::DeleteVeth(_)
        | Step::DeleteEnd { .. }
        | Step::SweepLinks { .. }
        // A keeper is in the node, and would keep it.
        | Step::StartKeeper { .. }
        | Step::EndKeeper { .. }
        | Step::SetLimits { .. }
        | Step::RenameNode { .. }
        | Step::LayFile { .. }
        | Step::LiftFile { .. }
        | Step::WriteNames { .. }
        | Step::RunProcess { .. }
        | Step::StopProcess { .. }
        // Whoever keeps a lease is in the node, and would keep it.
        | Step::HoldLease { .. }
        | Step::EndLease { .. }
        | Step::AwaitAddress { .. }
        | Step::SetLink { at: Place::Host, .. }
        | Step::Impair { at: Place::Host, .. }
        | Step::AddAltname { at: Place::Host, .. }
        | Step::DeleteAddress { .. }
        | Step::DeleteRoute { .. } => false,
    }
}

fn append_host(stages: &mut Vec<Stage>, undo: Vec<Step>) {
    match stages.last_mut() {
        Some(Stage::Host(steps)) => steps.extend(undo),
        _ => stages.push(Stage::Host(undo)),
    }
}

fn append_fabric(stages: &mut Vec<Stage>, backend: Backend, undo: Vec<FabricStep>) {
    match stages.last_mut() {
        Some(Stage::Fabric(last, steps)) if *last == backend => steps.extend(undo),
        _ => stages.push(Stage::Fabric(backend, undo)),
    }
}
