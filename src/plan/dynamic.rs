//! Addresses that somebody else gives: when a lease is begun, awaited, ended.
//!
//! A lease belongs to whoever keeps it (`kernel::leases`), who asks for it,
//! renews it, and sees to its address and routes; so those are no steps. What
//! is planned is that somebody keeps it, and that there is an address.

use std::collections::BTreeSet;

use super::diff::LinkDiff;
use super::step::{Place, Step};
use super::wanted::Wanted;
use crate::model::names::{IfName, NodeName};
use crate::model::topology::Dynamic;
use crate::model::world::World;

/// Begins leases that nobody keeps, and awaits addresses that are not there.
///
/// Nothing as long as a NIC is still to be attached: those who give addresses
/// are behind it, as a rule.
pub(super) fn ask(wanted: &Wanted, world: &World, links: &LinkDiff) -> Vec<Step> {
    if wanted.uplinks.iter().any(|nic| !world.uplinks.contains_key(nic)) {
        return Vec::new();
    }
    let (mut begun, mut awaited) = (Vec::new(), Vec::new());
    for (node, device, by) in all(wanted) {
        let (node, device) = (node.clone(), device.clone());
        if by == Dynamic::Dhcp && !is_kept(world, links, &node, &device) {
            begun.push(Step::HoldLease { node: node.clone(), device: device.clone() });
        }
        if !has_one(world, links, &node, &device, by) {
            awaited.push(Step::AwaitAddress { node, device, by });
        }
    }
    // All of them ask at the same time.
    begun.extend(awaited);
    begun
}

/// Ends leases that are not wanted or whose interface goes, and takes away what
/// is left of those that nobody keeps.
pub(super) fn end(wanted: &Wanted, world: &World, links: &LinkDiff) -> Vec<Step> {
    let wanted: BTreeSet<(&NodeName, &IfName)> = all(wanted)
        .filter(|(.., by)| *by == Dynamic::Dhcp)
        .map(|(node, device, _)| (node, device))
        .collect();
    let kept = world.host.leases.keys().filter(|(node, device)| {
        let goes = links.is_stray(&Place::Node(node.clone()), device);
        goes || !wanted.contains(&(node, device))
    });
    let mut steps: Vec<Step> = kept.map(|(node, device)| ended(node, device)).collect();
    for (node, seen) in &world.host.nodes {
        for (device, addresses) in &seen.dynamic {
            let key = (node.clone(), device.clone());
            if wanted.contains(&(node, device)) || world.host.leases.contains_key(&key) {
                continue;
            }
            let leased = addresses.iter().filter(|(_, seen)| seen.by == Dynamic::Dhcp);
            steps.extend(leased.map(|(address, _)| Step::DeleteAddress {
                node: node.clone(),
                device: device.clone(),
                address: *address,
            }));
        }
    }
    steps
}

/// Ends all leases.
pub fn end_all(world: &World) -> Vec<Step> {
    world.host.leases.keys().map(|(node, device)| ended(node, device)).collect()
}

fn ended(node: &NodeName, device: &IfName) -> Step {
    Step::EndLease { node: node.clone(), device: device.clone() }
}

fn all(wanted: &Wanted) -> impl Iterator<Item = (&NodeName, &IfName, Dynamic)> {
    wanted.nodes.iter().flat_map(|(node, want)| {
        want.dynamic
            .iter()
            .flat_map(move |(device, asked)| asked.iter().map(move |by| (node, device, *by)))
    })
}

fn is_kept(world: &World, links: &LinkDiff, node: &NodeName, device: &IfName) -> bool {
    let stays = !links.is_stray(&Place::Node(node.clone()), device);
    stays && world.host.leases.contains_key(&(node.clone(), device.clone()))
}

/// Whether an interface has an address of this kind that can be used: for DHCP
/// the one of the lease.
fn has_one(world: &World, links: &LinkDiff, node: &NodeName, device: &IfName, by: Dynamic) -> bool {
    if links.is_stray(&Place::Node(node.clone()), device) {
        return false;
    }
    let Some(seen) = world.host.nodes.get(node) else { return false };
    let mut of_kind = seen.dynamic.get(device).into_iter().flatten().filter(|(_, a)| a.by == by);
    let lease = world.host.leases.get(&(node.clone(), device.clone()));
    match by {
        Dynamic::Dhcp => {
            let leased = lease.and_then(|lease| lease.address);
            leased.is_some_and(|leased| of_kind.any(|(address, _)| *address == leased))
        }
        Dynamic::Slaac => of_kind.any(|(_, address)| !address.tentative),
    }
}
