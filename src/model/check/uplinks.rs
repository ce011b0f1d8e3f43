//! NICs of the machine that are shared into the lab, and the devices and Ethernet
//! addresses that nothing else may have.

use std::collections::{BTreeMap, HashMap};

use super::{Draft, Named};
use crate::model::holds::NicMode;
use crate::model::mark::{Mac, Thing};
use crate::model::names::IfName;
use crate::model::nearest::nearest;
use crate::model::problem::{At, Found, Position, quoted};
use crate::model::spec::UplinkSpec;
use crate::model::topology::{Lab, Tunnel, Uplink};

impl<'s> Draft<'s, '_> {
    /// Writes the draft down as a lab, which is one if there is no problem.
    /// The NICs of the machine, each with its switch.
    pub(super) fn uplinks(&mut self) -> BTreeMap<IfName, Uplink> {
        let mut uplinks = BTreeMap::new();
        for (nic, spec) in &self.spec.uplinks {
            check_uplink(nic, spec, self.found);
            if !is_port(spec) {
                continue;
            }
            // A switch that is not said was told of.
            let Some(At { at, value }) = &spec.switch else { continue };
            match self.things.get(value) {
                Some(Named::Switch(switch)) => {
                    let switch = self.switches[*switch].name.clone();
                    uplinks.insert(nic.value.clone(), Uplink { switch, force: spec.force });
                }
                Some(Named::Bad) => {}
                Some(Named::Node(_)) => {
                    let message = format!("`{value}` is a node; a NIC becomes a port of a switch");
                    self.found.add(*at, message).hint(format!(
                        "name a switch, and link the node to it; or write `mode: macvlan` (or \
                         `move`) and `node: {value}`"
                    ));
                }
                None if self.names_unsure => {}
                None => {
                    let known = self.switches.iter().map(|switch| switch.name.as_str());
                    let near =
                        nearest(value, known).map(|near| format!("; did you mean `{near}`?"));
                    let near = near.unwrap_or_default();
                    self.found.add(*at, format!("no switch is called {}{near}", quoted(value)));
                }
            }
        }
        uplinks
    }

    /// Names of devices and MAC addresses, some from the file and some made
    /// from names, are each one thing's.
    pub(super) fn check_devices_and_macs(&mut self, lab: &Lab) {
        let mut devices: HashMap<String, Thing> = HashMap::new();
        let mut macs: HashMap<Mac, Thing> = HashMap::new();
        for draft in &self.switches {
            let thing = Thing::Switch(draft.name.clone());
            let mark = lab.mark(thing.clone());
            let (device, at) = match &draft.spec.device {
                Some(device) => (device.value.clone(), device.at),
                None => (mark.device(), draft.at),
            };
            clash(&mut devices, device.to_string(), &thing, "device", at, self.found);
            let (mac, at) = match draft.spec.mac {
                Some(mac) => (mac.value, mac.at),
                None => (mark.mac(), draft.at),
            };
            clash(&mut macs, mac, &thing, "MAC address", at, self.found);
        }
        for (link, draft) in lab.links.iter().zip(&self.links) {
            for port in [link.port(0), link.port(1)].into_iter().flatten() {
                let members = link.bond.map_or(0, |bond| bond.members);
                let members = (1..=members).map(|member| format!("{port}.{member}"));
                for port in members.chain([port.clone()]) {
                    let thing = Thing::Port(port);
                    let device = lab.mark(thing.clone()).device().to_string();
                    clash(&mut devices, device, &thing, "device", draft.at, self.found);
                }
            }
        }
        for draft in &self.switches {
            for (tunnel, _) in &draft.spec.tunnels {
                let thing = Thing::Port(Tunnel::port(&draft.name, &tunnel.value));
                let device = lab.mark(thing.clone()).device().to_string();
                clash(&mut devices, device, &thing, "device", tunnel.at, self.found);
            }
        }
        for node in &self.nodes {
            let mut devices: HashMap<String, Thing> = HashMap::new();
            for (name, interface) in &node.interfaces {
                let thing = Thing::Interface(node.name.clone(), name.clone(), None);
                let mark = lab.mark(thing.clone());
                let (mac, at) = match interface.spec.and_then(|spec| spec.mac) {
                    Some(mac) => (mac.value, mac.at),
                    None => (mark.mac(), interface.at),
                };
                clash(&mut macs, mac, &thing, "MAC address", at, self.found);
                let fits = name.as_str().len() <= IfName::BYTES_MAX;
                let device = if fits { name.to_string() } else { mark.device().to_string() };
                clash(&mut devices, device, &thing, "device", interface.at, self.found);
            }
        }
    }
}

/// Tells of a device or MAC address that another thing has already.
fn clash<K: std::hash::Hash + Eq + std::fmt::Display>(
    owners: &mut HashMap<K, Thing>,
    key: K,
    thing: &Thing,
    what: &str,
    at: Position,
    found: &mut Found,
) {
    let called = |thing: &Thing| match thing {
        Thing::Node(node) => format!("`{node}`"),
        Thing::Switch(switch) => format!("`{switch}`"),
        Thing::Interface(node, interface, _) => format!("`{node}:{interface}`"),
        Thing::Port(port) => format!("the port `{port}`"),
    };
    if let Some(other) = owners.get(&key) {
        if other != thing {
            let (one, other) = (called(thing), called(other));
            found.add(at, format!("`{key}` would be the {what} of {other} and of {one}"));
        }
        return;
    }
    owners.insert(key, thing.clone());
}

/// Whether a NIC is to be a port of a switch.
pub(super) fn is_port(uplink: &UplinkSpec) -> bool {
    uplink.mode.is_none_or(|mode| mode.value == NicMode::Bridge)
}

/// Checks that the keys of an uplink fit its mode.
fn check_uplink(nic: &At<IfName>, spec: &UplinkSpec, found: &mut Found) {
    let UplinkSpec { mode, switch, node, force: _, link, flawed } = spec;
    let (name, port) = (&nic.value, is_port(spec));
    match (port, switch, node) {
        (true, None, None) if !flawed => {
            found
                .add(nic.at, format!("`{name}` has no `switch`"))
                .hint("name the switch of which it becomes a port, or say another `mode`");
        }
        (true, _, Some(node)) => {
            found.add(node.at, "`node` is for the modes `macvlan` and `move`").hint(
                "say `mode`; a node that is linked to the switch is on the NIC's network, too",
            );
        }
        (false, Some(switch), _) => {
            found.add(switch.at, "`switch` is for the mode `bridge`").hint("name a `node`");
        }
        (false, None, None) if !flawed => {
            found.add(nic.at, format!("`{name}` has no `node`")).hint("name the node that gets it");
        }
        (true, _, None) | (false, None, _) => {}
    }
    let is_macvlan = mode.is_some_and(|mode| mode.value == NicMode::Macvlan);
    if let Some(hears) = link.mode.filter(|_| !is_macvlan) {
        found.add(hears.at, "`macvlan` is for the mode `macvlan`").hint("write `mode: macvlan`");
    }
}
