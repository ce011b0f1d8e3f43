//! Which counters tell of a link, and how fast it is by two of their readings.
//!
//! The end of a veth in the machine's own namespace counts both directions, so one
//! request there tells of all links of all switches. A cable between two nodes has no
//! such end: one of the two nodes is visited, and as few nodes as can be.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::impair::Impairments;
use crate::model::mark::{Mark, Thing, netns};
use crate::model::names::{IfName, LabName, SwitchName};
use crate::model::topology::PortSettings;
use crate::model::world::{PortKind, World};

/// A link whose traffic is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its two ends.
    pub ends: [String; 2],
    /// Who counts.
    pub counter: Counter,
    /// Whether what that counts as sent goes from the first end to the second.
    pub is_near: bool,
    /// How fast it may be, there and back, in kbit/s.
    pub limits_kbps: [Option<u32>; 2],
}

/// Who counts what passes a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counter {
    /// Devices of the kernel, in a namespace (empty for the machine's own).
    Devices(String, Vec<IfName>),
    /// Open vSwitch: the link has no device.
    Switch(SwitchName, IfName),
}

/// What passed until some moment, from the first end to the second and back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames.
    pub packets: [u64; 2],
    /// Their bytes.
    pub bytes: [u64; 2],
    /// Frames that were dropped.
    pub dropped: u64,
    /// Frames that were broken.
    pub errors: u64,
    /// Whether it is up.
    pub up: bool,
}

/// How fast a link is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// Its two ends.
    pub ends: [String; 2],
    /// Whether it is up.
    pub up: bool,
    /// Bits a second, from the first end to the second and back.
    pub bits_per_s: [f64; 2],
    /// Frames a second.
    pub packets_per_s: [f64; 2],
    /// Frames that were dropped meanwhile.
    pub dropped: u64,
    /// Frames that were broken meanwhile.
    pub errors: u64,
    /// Which part of its limit is used, in percent, where it has one; of the two
    /// ways the fuller.
    pub used_percent: Option<f64>,
    /// `kernel`, or `open vswitch` for what has no device.
    pub counted_by: String,
}

/// The links of a lab, by name.
pub fn watched(lab: &LabName, world: &World) -> Vec<Watched> {
    let mut all: BTreeMap<String, Watched> = BTreeMap::new();
    // Switches that are asked for a patch tell of all their others, too.
    let mut asked: BTreeSet<SwitchName> = BTreeSet::new();
    for (switch, seen) in &world.fabric.switches {
        for (device, port) in &seen.ports {
            let link = world.host.ports.get(device);
            let mark = [Some(&port.mark), link.map(|link| &link.alias)];
            let mark = mark.into_iter().flatten().find_map(|it| Mark::parse(it));
            let counter = match &port.kind {
                PortKind::Link => Counter::Devices(String::new(), vec![device.clone()]),
                PortKind::Bond { members, .. } => {
                    Counter::Devices(String::new(), members.iter().cloned().collect())
                }
                PortKind::Patch { .. } | PortKind::Tunnel { .. } => {
                    Counter::Switch(switch.clone(), device.clone())
                }
            };
            let PortSettings { policing, shaping, .. } = &port.settings;
            let leaving = link.map(|link| link.egress.impairments()).unwrap_or_default();
            let out = least([shaping.as_ref().map(|it| it.rate_kbps), limit(leaving)]);
            let into = policing.map(|it| it.rate_kbps);
            let name = match mark.map(|mark| mark.thing) {
                Some(Thing::Port(name)) => name,
                _ if world.uplinks.contains_key(device) => format!("{switch}@NIC {device}"),
                // Somebody else's.
                _ => continue,
            };
            let Some((_, across)) = name.split_once(['~', '@']) else {
                let entering = node_leaving(world, &name);
                let ends = [name.clone(), switch.to_string()];
                let limits_kbps = [least([into, entering]), out];
                all.insert(name, Watched { ends, counter, is_near: false, limits_kbps });
                continue;
            };
            let is_trunk = name.contains('~');
            let (across, number) = across.split_once('#').unwrap_or((across, "0"));
            let several = |end: &str| match number {
                "0" => end.to_owned(),
                number => format!("{end}#{number}"),
            };
            let is_second = is_trunk && across < switch.as_str();
            let key = match is_second {
                true => format!("{across}~{switch}#{number}"),
                false => name.clone(),
            };
            let ends = match is_second {
                true => [across.to_owned(), several(switch.as_str())],
                false => [switch.to_string(), several(across)],
            };
            let limits_kbps = if is_second { [into, out] } else { [out, into] };
            let is_near = !is_second;
            // Both ports of a trunk tell the same. The second one does, unless the
            // first switch is asked already.
            let asks = matches!(counter, Counter::Switch(..));
            let is_told = all.contains_key(&key);
            if is_told && (!asks || asked_for(&all[&key], &asked)) {
                continue;
            }
            if is_second || !is_trunk {
                asked.extend(asks.then(|| switch.clone()));
            }
            all.insert(key, Watched { ends, counter, is_near, limits_kbps });
        }
    }
    let mut visited = BTreeSet::new();
    for (node, seen) in &world.host.nodes {
        for (device, link) in &seen.devices {
            let (interface, far) = match Mark::parse(&link.alias).map(|mark| mark.thing) {
                Some(Thing::Interface(_, interface, far)) => (interface.to_string(), far),
                _ => (device.to_string(), None),
            };
            let here = format!("{node}:{interface}");
            let nic = seen.macvlans.get(device).and_then(|it| it.nic.as_ref());
            let nic = nic.or(seen.moved.get(device)).map(|nic| format!("NIC {nic}"));
            let counter = Counter::Devices(netns(lab, node), vec![device.clone()]);
            let leaving = limit(link.egress.impairments());
            let Some((far, at)) = far else {
                let Some(nic) = nic else { continue };
                let (ends, limits_kbps) = ([here.clone(), nic], [leaving, None]);
                visited.insert(node.clone());
                all.insert(here, Watched { ends, counter, is_near: true, limits_kbps });
                continue;
            };
            let across = format!("{far}:{at}");
            let (first, second) = if here < across { (&here, &across) } else { (&across, &here) };
            let key = format!("{first}~{second}");
            if let Some(told) = all.get_mut(&key) {
                told.limits_kbps[1] = told.limits_kbps[1].or(leaving);
                // One node that is visited already tells as well as another.
                if visited.contains(node) || visited.contains(&far) {
                    if !visited.contains(&far) {
                        (told.counter, told.is_near) = (counter, here == *first);
                    }
                    continue;
                }
                (told.counter, told.is_near) = (counter, here == *first);
                visited.insert(node.clone());
                continue;
            }
            let is_near = here == *first;
            let ends = [first.clone(), second.clone()];
            let limits_kbps = [leaving, None];
            all.insert(key, Watched { ends, counter, is_near, limits_kbps });
        }
    }
    all.into_values().collect()
}

fn asked_for(link: &Watched, asked: &BTreeSet<SwitchName>) -> bool {
    matches!(&link.counter, Counter::Switch(switch, _) if asked.contains(switch))
}

fn limit(impairments: Impairments) -> Option<u32> {
    Some(impairments.rate_kbps).filter(|rate| *rate != 0)
}

fn least(limits: [Option<u32>; 2]) -> Option<u32> {
    limits.into_iter().flatten().min()
}

/// How much leaves an interface of a node.
fn node_leaving(world: &World, end: &str) -> Option<u32> {
    let (node, interface) = end.split_once(':')?;
    let devices = world.host.nodes.iter().find(|(name, _)| name.as_str() == node)?.1;
    let is_it = |alias: &str| match Mark::parse(alias).map(|mark| mark.thing) {
        Some(Thing::Interface(_, name, _)) => name.as_str() == interface,
        _ => false,
    };
    let device = devices.devices.values().find(|link| is_it(&link.alias))?;
    limit(device.egress.impairments())
}

/// How fast a link was between two readings.
pub fn rate(watched: &Watched, before: &Passed, after: &Passed, seconds: f64) -> Rate {
    // One that counts less than before was made anew.
    let is_new = (0..2).any(|way| {
        after.bytes[way] < before.bytes[way] || after.packets[way] < before.packets[way]
    });
    let before = if is_new { after } else { before };
    let per_s = |after: u64, before: u64| (after - before) as f64 / seconds.max(1e-9);
    let bits = [0, 1].map(|way| per_s(after.bytes[way], before.bytes[way]) * 8.0);
    let packets = [0, 1].map(|way| per_s(after.packets[way], before.packets[way]));
    let used = (0..2).filter_map(|way| {
        let limit = f64::from(watched.limits_kbps[way]?) * 1000.0;
        Some(bits[way] / limit.max(1.0) * 100.0)
    });
    Rate {
        ends: watched.ends.clone(),
        up: after.up,
        bits_per_s: bits,
        packets_per_s: packets,
        dropped: after.dropped.saturating_sub(before.dropped),
        errors: after.errors.saturating_sub(before.errors),
        used_percent: used.fold(None, |most, it| Some(most.map_or(it, |most: f64| most.max(it)))),
        counted_by: match watched.counter {
            Counter::Devices(..) => "kernel".to_owned(),
            Counter::Switch(..) => "open vswitch".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Watched {
        Watched {
            ends: ["n1:eth0".into(), "s1".into()],
            counter: Counter::Devices(String::new(), Vec::new()),
            is_near: false,
            limits_kbps: [None, Some(16)],
        }
    }

    #[test]
    fn rates_are_by_the_time_that_passed() {
        let before = Passed { packets: [1, 2], bytes: [100, 200], dropped: 1, errors: 0, up: true };
        let after =
            Passed { packets: [5, 4], bytes: [1100, 2200], dropped: 4, errors: 2, up: true };
        let rate = rate(&link(), &before, &after, 2.0);
        assert_eq!(rate.bits_per_s, [4000.0, 8000.0]);
        assert_eq!(rate.packets_per_s, [2.0, 1.0]);
        assert_eq!((rate.dropped, rate.errors), (3, 2));
        assert_eq!(rate.used_percent, Some(50.0));
    }

    #[test]
    fn a_link_that_was_made_again_is_not_faster_than_light() {
        let before = Passed { packets: [1000, 2], bytes: [100_000, 200], ..Passed::default() };
        let after = Passed { packets: [1, 3], bytes: [60, 300], ..Passed::default() };
        let rate = rate(&link(), &before, &after, 1.0);
        assert_eq!(rate.bits_per_s, [0.0, 0.0]);
    }
}
