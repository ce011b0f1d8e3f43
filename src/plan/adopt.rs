//! Adopted nodes: which namespaces of somebody else's are taken up, which are
//! left, and what is refused before either.
//!
//! A container that was started again has another namespace under the same
//! name: then the old one is left, and the new one adopted, links and all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::refuse::Refusal;
use super::step::Step;
use super::wanted::{Wanted, WantedNode};
use crate::model::adopt::{Adopt, NetnsId};
use crate::model::names::NodeName;
use crate::model::world::{SeenNode, Target, Whose, World};

/// Adopted nodes that are to be there, and as another namespace than they are.
pub(super) fn left<'w>(wanted: &Wanted, world: &'w World) -> BTreeSet<&'w NodeName> {
    let is_another = |node: &NodeName, seen: &SeenNode| {
        let Some(adopted) = &seen.adopted else { return false };
        match wanted.nodes.get(node).map(|want| want.adopt.is_some()) {
            Some(true) => match world.host.targets.get(node) {
                Some(Target::There { netns, .. }) => *netns != adopted.netns,
                Some(Target::Missing(_)) | None => false,
            },
            Some(false) => true,
            // It goes last, like all that go.
            None => false,
        }
    };
    let nodes = world.host.nodes.iter().filter(|(node, seen)| is_another(node, seen));
    nodes.map(|(node, _)| node).collect()
}

/// The world when these nodes are left.
pub(super) fn without<'w>(world: &'w World, left: &BTreeSet<&NodeName>) -> Cow<'w, World> {
    if left.is_empty() {
        return Cow::Borrowed(world);
    }
    let mut without = world.clone();
    without.host.nodes.retain(|node, _| !left.contains(node));
    Cow::Owned(without)
}

/// The step that makes a node, or takes it up.
pub(super) fn begin(node: &NodeName, want: &WantedNode, world: &World) -> Step {
    let node = node.clone();
    match (&want.adopt, world.host.targets.get(&node)) {
        (Some(from), Some(Target::There { netns, .. })) => {
            Step::AdoptNode { node, from: from.clone(), netns: *netns }
        }
        // One that is missing was refused.
        (Some(_) | None, _) => Step::AddNode { node },
    }
}

/// The step that removes a node that is there, or leaves it.
pub(super) fn end(node: &NodeName, world: &World) -> Step {
    let adopted = world.host.nodes.get(node).and_then(|seen| seen.adopted.as_ref());
    let node = node.clone();
    match adopted {
        Some(seen) => Step::LeaveNode { node, from: seen.from.clone(), netns: seen.netns },
        None => Step::DeleteNode { node },
    }
}

/// What keeps nodes from being adopted.
pub(super) fn refusals(wanted: &Wanted, world: &World, found: &mut Vec<Refusal>) {
    let mut taken: BTreeMap<NetnsId, &NodeName> = BTreeMap::new();
    for (node, want) in &wanted.nodes {
        let Some(from) = &want.adopt else { continue };
        let seen = world.host.nodes.get(node);
        if seen.is_some_and(|seen| seen.adopted.is_none()) {
            found.push(Refusal {
                what: format!("node `{node}` is a namespace of its own, and is to be `{from}`"),
                hint: format!("what runs in it would be lost; first: `ovsns node rm {node}`"),
            });
            continue;
        }
        let Some(target) = world.host.targets.get(node) else { continue };
        let refused = match target {
            Target::Missing(why) => Some((
                format!("node `{node}` cannot adopt `{from}`: {why}"),
                match from {
                    Adopt::Netns(_) => "`ip netns list` shows what there is".to_owned(),
                    Adopt::Pid(_) => "`lsns --type net` shows what there is".to_owned(),
                    Adopt::Container(..) => {
                        "start it, or take the node out: `ovsns node rm` and its name".to_owned()
                    }
                },
            )),
            Target::There { whose: Whose::Machine, .. } => Some((
                format!("node `{node}` cannot adopt `{from}`: it is the machine's own namespace"),
                "a container needs a network of its own, and not the host's".to_owned(),
            )),
            Target::There { whose: Whose::Node(mark), .. } => Some((
                format!("node `{node}` cannot adopt `{from}`: it is node `{}`", mark.full_name()),
                "link that node itself".to_owned(),
            )),
            Target::There { netns, whose: Whose::Another, inside } => {
                in_the_way(node, want, seen, *netns, inside, found);
                taken.insert(*netns, node).map(|other| {
                    (
                        format!("nodes `{other}` and `{node}` adopt the same namespace"),
                        "one node can have several interfaces".to_owned(),
                    )
                })
            }
        };
        found.extend(refused.map(|(what, hint)| Refusal { what, hint }));
    }
    for node in left(wanted, world) {
        for nic in world.host.nodes[node].moved.values() {
            found.push(Refusal {
                what: format!("node `{node}` is to be another namespace, and `{nic}` is in it"),
                hint: format!("take it home first: `ovsns detach {nic}`"),
            });
        }
    }
}

/// What is in a namespace that is still to be adopted, and in the way.
fn in_the_way(
    node: &NodeName,
    want: &WantedNode,
    seen: Option<&SeenNode>,
    netns: NetnsId,
    inside: &SeenNode,
    found: &mut Vec<Refusal>,
) {
    let adopted = seen.and_then(|seen| seen.adopted.as_ref());
    if adopted.is_some_and(|adopted| adopted.netns == netns) {
        return;
    }
    for device in want.addresses.keys().filter(|device| inside.foreign.contains(device.as_str())) {
        found.push(Refusal {
            what: format!("node `{node}` already has an interface `{device}` that is not ours"),
            hint: format!("name another: `{node}:lab0`, or leave the name out"),
        });
    }
    for route in &want.routes {
        let same = |other: &&crate::model::world::KernelRoute| {
            other.to == route.to && other.metric == route.metric
        };
        if let Some(other) = inside.foreign_routes.keys().find(same) {
            found.push(Refusal {
                what: format!(
                    "node `{node}` already has a route to `{}` that is not ours, by `{}`",
                    route.to, other.device
                ),
                hint: "give ours another `metric`, or take it out".to_owned(),
            });
        }
    }
}
