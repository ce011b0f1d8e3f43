//! What hears whom: which interfaces are on one network, by the links alone.

use std::collections::BTreeMap;

use super::names::{IfName, InterfaceName, NodeName, SwitchName};
use super::topology::{End, Lab, Link, Vlan};

/// A place that several interfaces share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Switches that hang together, by the first of them, in one VLAN.
    Segment(SwitchName, Option<u16>),
    /// A cable, by its identity.
    Cable(String),
    /// The network of a NIC of the machine.
    Nic(IfName),
}

/// Where the interfaces and switches of a lab are.
#[derive(Debug)]
pub struct Segments {
    /// Each interface's place.
    pub places: BTreeMap<(NodeName, InterfaceName), Place>,
    /// The first of the switches that each hangs together with.
    pub roots: BTreeMap<SwitchName, SwitchName>,
}

impl Segments {
    /// Works it out.
    pub fn new(lab: &Lab) -> Self {
        let roots = roots(lab);
        let mut places = BTreeMap::new();
        for link in &lab.links {
            for (side, end) in link.ends.iter().enumerate() {
                let End::Node(node, interface) = end else { continue };
                let place = match &link.ends[1 - side] {
                    End::Switch(switch) => Place::Segment(roots[switch].clone(), untagged(link)),
                    End::Node(..) => Place::Cable(link.id()),
                    End::Nic(nic, _) => Place::Nic(nic.clone()),
                };
                places.insert((node.clone(), interface.clone()), place);
            }
        }
        Self { places, roots }
    }
}

/// The VLAN in which frames without a tag are on a link.
fn untagged(link: &Link) -> Option<u16> {
    match &link.port.vlan {
        None => None,
        Some(Vlan::Access(vlan) | Vlan::Tunnel { vlan, .. }) => Some(*vlan),
        Some(Vlan::Trunk { native, .. }) => *native,
    }
}

fn roots(lab: &Lab) -> BTreeMap<SwitchName, SwitchName> {
    let mut near: BTreeMap<&SwitchName, Vec<&SwitchName>> = BTreeMap::new();
    for link in &lab.links {
        if let [End::Switch(a), End::Switch(b)] = &link.ends {
            near.entry(a).or_default().push(b);
            near.entry(b).or_default().push(a);
        }
    }
    let mut roots = BTreeMap::new();
    for root in lab.switches.keys() {
        let mut queue = vec![root];
        while let Some(switch) = queue.pop() {
            if !roots.contains_key(switch) {
                roots.insert(switch.clone(), root.clone());
                queue.extend(near.get(switch).into_iter().flatten());
            }
        }
    }
    roots
}
