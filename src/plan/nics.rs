//! NICs of the machine that nodes have: children of a NIC (macvlan), and NICs
//! that go into a node themselves.
//!
//! Own room because neither is a link of two ends: what is at the other end is
//! not the lab's. A child is ours, is made and deleted; a NIC is lent, and goes
//! home before its node does, since the kernel destroys a virtual one together
//! with the namespace that it is in.

use serde::{Deserialize, Serialize};

use super::step::{LinkState, Place, Step};
use super::wanted::Wanted;
use crate::model::mark::{Mac, Mark, Thing, device_inside, group};
use crate::model::names::{IfName, NodeName};
use crate::model::nic::AwayMark;
use crate::model::topology::{Lab, Macvlan, NodeNic, Share};
use crate::model::world::{SeenDevice, World};

/// A child of a NIC, in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The link's identity in its lab.
    pub link: String,
    /// The node.
    pub node: NodeName,
    /// What it is called there.
    pub device: IfName,
    /// The NIC, in the machine's own namespace.
    pub nic: IfName,
    /// What it hears of its siblings.
    pub mode: Macvlan,
    /// Its address; `None` for the NIC's own, which `passthru` has.
    pub mac: Option<Mac>,
    /// Its MTU in bytes; `None` for the NIC's.
    pub mtu: Option<u32>,
    /// The lab's link group, set at birth.
    pub group: u32,
    /// Its full mark.
    pub alias: String,
    /// Its other name, where the device's is a short one.
    pub altname: Option<String>,
}

/// A NIC that goes into a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// What it is called at home.
    pub nic: IfName,
    /// The node.
    pub node: NodeName,
    /// What it is called there.
    pub device: IfName,
    /// Its address there; `None` for its own.
    pub mac: Option<Mac>,
    /// Its MTU there in bytes; `None` for its own.
    pub mtu: Option<u32>,
    /// The number that it had at home, if it is to have that again.
    pub index: Option<u32>,
    /// What it says of itself while it is away ([`AwayMark`]).
    pub mark: String,
}

impl Child {
    pub(super) fn of(lab: &Lab, link: &str, at: NodeNic, mode: Macvlan) -> Self {
        let mark = lab.mark(Thing::Interface(at.node.clone(), at.interface.clone(), None));
        let device = device_inside(&lab.name, at.node, at.interface);
        let said = lab.nodes[at.node].interfaces[at.interface].mac;
        let short = device.as_str() != at.interface.as_str();
        Self {
            link: link.to_owned(),
            node: at.node.clone(),
            nic: at.nic.clone(),
            mode,
            mac: (mode != Macvlan::Passthru).then(|| said.unwrap_or_else(|| mark.mac())),
            mtu: at.mtu,
            group: group(&lab.name),
            alias: mark.to_string(),
            altname: short.then(|| at.interface.to_string()),
            device,
        }
    }

    /// The child as it is there.
    pub(super) fn seen(node: &NodeName, device: &IfName, world: &World) -> Option<Self> {
        let there = world.host.nodes.get(node)?;
        let (macvlan, seen) = (there.macvlans.get(device)?, there.devices.get(device)?);
        let mark = Mark::parse(&seen.alias);
        Some(Self {
            link: mark.as_ref().and_then(Mark::link).unwrap_or_else(|| format!("{node}:{device}")),
            node: node.clone(),
            device: device.clone(),
            // One whose NIC is gone is only ever deleted.
            nic: macvlan.nic.clone().unwrap_or_else(|| device.clone()),
            mode: macvlan.mode,
            mac: (macvlan.mode != Macvlan::Passthru).then_some(seen.mac),
            mtu: Some(seen.mtu),
            group: mark.as_ref().map_or(0, |mark| group(&mark.lab)),
            alias: seen.alias.clone(),
            altname: seen.altnames.first().cloned(),
        })
    }

    fn is_there(&self, world: &World) -> bool {
        let there = world.host.nodes.get(&self.node);
        let there = there.and_then(|node| node.macvlans.get(&self.device));
        there.is_some_and(|seen| seen.nic.as_ref() == Some(&self.nic) && seen.mode == self.mode)
    }
}

impl Loan {
    /// What a lab wants to be done with a NIC.
    pub fn of(lab: &Lab, at: NodeNic) -> Self {
        let lent = AwayMark { nic: at.nic.clone(), lab: lab.name.clone() };
        Self {
            nic: at.nic.clone(),
            node: at.node.clone(),
            device: device_inside(&lab.name, at.node, at.interface),
            mac: lab.nodes[at.node].interfaces[at.interface].mac,
            mtu: at.mtu,
            index: None,
            mark: lent.to_string(),
        }
    }

    /// Whether the NIC is in its node, called as it should be.
    pub fn is_there(&self, world: &World) -> bool {
        let there = world.host.nodes.get(&self.node);
        there.is_some_and(|node| node.moved.get(&self.device) == Some(&self.nic))
    }
}

/// What a lab wants of NICs in its nodes.
pub(super) fn wanted(lab: &Lab) -> (Vec<Child>, Vec<Loan>) {
    let (mut children, mut loans) = (Vec::new(), Vec::new());
    for link in &lab.links {
        let Some(at) = link.nic() else { continue };
        match at.share {
            Share::Macvlan(mode) => children.push(Child::of(lab, &link.id(), at, mode)),
            Share::Move => loans.push(Loan::of(lab, at)),
        }
    }
    (children, loans)
}

/// The children that are there as they are wanted.
pub(super) fn present<'w>(wanted: &'w Wanted, world: &World) -> impl Iterator<Item = &'w Child> {
    wanted.children.iter().filter(|child| child.is_there(world))
}

/// NICs that are in nodes and not to be there, on their way home.
pub(super) fn leaving(wanted: &Wanted, world: &World) -> Vec<Step> {
    let stays = |loan: &Loan| {
        let same = |w: &&Loan| w.nic == loan.nic && w.node == loan.node && w.device == loan.device;
        wanted.loans.iter().any(|wanted| same(&wanted))
    };
    loans(world).filter(|loan| !stays(loan)).map(Step::ReturnNic).collect()
}

/// The NICs that are in nodes.
fn loans(world: &World) -> impl Iterator<Item = Loan> {
    world.host.nodes.iter().flat_map(|(node, seen)| {
        seen.moved.iter().map(|(device, nic)| Loan {
            nic: nic.clone(),
            node: node.clone(),
            device: device.clone(),
            mac: None,
            mtu: None,
            index: None,
            mark: seen.devices.get(device).map(|seen| seen.alias.clone()).unwrap_or_default(),
        })
    })
}

/// All that nodes have of NICs goes: children are deleted, although a process
/// that stays in its node would keep it alive, and NICs go home.
pub(super) fn all_leave(world: &World) -> Vec<Step> {
    let mut steps = leaving(&Wanted::default(), world);
    for (node, seen) in &world.host.nodes {
        let children = seen.macvlans.keys();
        let children = children.filter_map(|device| Child::seen(node, device, world));
        steps.extend(children.map(Step::DeleteMacvlan));
    }
    steps
}

/// What is missing, and what is there and has changed.
pub(super) fn build(wanted: &Wanted, world: &World, steps: &mut Vec<Step>) {
    for child in &wanted.children {
        if !child.is_there(world) {
            steps.push(Step::AddMacvlan(child.clone()));
            continue;
        }
        let (node, device) = (&child.node, &child.device);
        set(node, device, child.mac, child.mtu, &child.alias, world, steps);
    }
    for loan in &wanted.loans {
        if loan.is_there(world) {
            set(&loan.node, &loan.device, loan.mac, loan.mtu, &loan.mark, world, steps);
        } else {
            steps.push(Step::LendNic(loan.clone()));
        }
    }
}

/// Makes a device that is there as it should be; what is `None` stays.
fn set(
    node: &NodeName,
    device: &IfName,
    mac: Option<Mac>,
    mtu: Option<u32>,
    alias: &str,
    world: &World,
    steps: &mut Vec<Step>,
) {
    let there = world.host.nodes.get(node).and_then(|node| node.devices.get(device));
    let Some(SeenDevice { mac: m, mtu: t, up, alias: a, .. }) = there else { return };
    let before = LinkState { up: *up, mtu: *t, mac: *m, alias: a.clone() };
    let (mac, mtu) = (mac.unwrap_or(*m), mtu.unwrap_or(*t));
    let after = LinkState { up: true, mtu, mac, alias: alias.to_owned() };
    if before != after {
        let (at, device) = (Place::Node(node.clone()), device.clone());
        steps.push(Step::SetLink { at, device, before, after });
    }
}
