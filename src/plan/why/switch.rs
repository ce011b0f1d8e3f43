//! What a bridge of the kernel's would do with a frame, by the states of its
//! ports and its forwarding table (`br_handle_frame`, `br_forward` in the
//! kernel's net/bridge).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Kept, Way};
use crate::model::mark::Mac;
use crate::model::names::IfName;
use crate::model::packet::{Frame, Inside};

/// A port of a bridge, as far as it decides about frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its state under a spanning tree; `forwarding` without one.
    pub state: &'static str,
    /// Whether it hears only ports that are not isolated.
    pub isolated: bool,
    /// Whether it gets what is for nobody known.
    pub floods: bool,
    /// Whether it gets what is for everybody.
    pub floods_broadcast: bool,
    /// Whether it takes frames of known stations alone.
    pub locked: bool,
    /// The VLANs that pass, where the bridge looks at tags.
    pub vlans: Option<BTreeSet<u16>>,
    /// The VLAN of untagged frames, where it does.
    pub untagged: Option<u16>,
}

/// An entry of the forwarding table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The station.
    pub mac: Mac,
    /// The port that it is behind.
    pub port: IfName,
    /// The VLAN, where the bridge looks at tags.
    pub vlan: Option<u16>,
    /// Whether somebody entered it for good.
    pub pinned: bool,
}

impl Port {
    /// A port that passes everything.
    pub const OPEN: Self = Self {
        state: "forwarding",
        isolated: false,
        floods: true,
        floods_broadcast: true,
        locked: false,
        vlans: None,
        untagged: None,
    };
}

/// Which way an untagged frame takes.
pub fn bridge(
    ports: &BTreeMap<IfName, Port>,
    table: &[Entry],
    enters: &IfName,
    frame: &Frame,
) -> Way {
    let mut way = Way::default();
    let Some(ingress) = ports.get(enters) else {
        way.kept.insert(enters.clone(), Kept::NoPort);
        return way;
    };
    let vlan = ingress.vlans.as_ref().map(|_| ingress.untagged);
    let known = |mac: Mac| {
        table.iter().find(|entry| entry.mac == mac && entry.vlan == vlan.flatten().and(entry.vlan))
    };
    if ingress.state != "forwarding" {
        way.kept.insert(enters.clone(), Kept::State(ingress.state));
        return way;
    }
    if ingress.locked && known(frame.source).is_none_or(|entry| entry.port != *enters) {
        way.kept.insert(enters.clone(), Kept::Locked);
        return way;
    }
    let for_all = frame.destination.0[0] & 1 == 1;
    let entry = if for_all { None } else { known(frame.destination) };
    for (name, port) in ports.iter().filter(|(name, _)| *name != enters) {
        let keeps = if port.state != "forwarding" {
            Some(Kept::State(port.state))
        } else if port.isolated && ingress.isolated {
            Some(Kept::Isolated)
        } else if let (Some(vlans), Some(vlan)) = (&port.vlans, vlan) {
            let outside = vlan.is_none_or(|vlan| !vlans.contains(&vlan));
            outside.then(|| Kept::Vlan(vlan.unwrap_or_default()))
        } else {
            None
        };
        let keeps = keeps.or_else(|| match entry {
            Some(entry) if entry.port == *name => None,
            Some(Entry { mac, port, pinned, .. }) => {
                Some(Kept::Behind { mac: *mac, port: port.clone(), pinned: *pinned })
            }
            None if for_all => (!floods_to_all(port, frame)).then_some(Kept::NoFlood),
            None => (!port.floods).then_some(Kept::NoFlood),
        });
        match keeps {
            Some(keeps) => drop(way.kept.insert(name.clone(), keeps)),
            None => drop(way.leaves.insert(name.clone())),
        }
    }
    way
}

/// Only ARP asks everybody; neighbour discovery asks a group.
fn floods_to_all(port: &Port, frame: &Frame) -> bool {
    match frame.inside {
        Inside::Ask { from, .. } if from.is_ipv4() => port.floods_broadcast,
        Inside::Ask { .. } | Inside::Request(_) | Inside::Reply(_) => true,
    }
}
