//! What is meant by `NODE:INTERFACE` and `SWITCH:PORT` where somebody wants to
//! overhear: the devices of the kernel behind the words, in the world as seen.

use std::collections::BTreeMap;

use super::step::Place;
use crate::model::mark::{Mark, Thing};
use crate::model::names::{IfName, LabName, NodeName, SwitchName};
use crate::model::nearest::nearest;
use crate::model::ports::Ports;
use crate::model::world::{PortKind, SeenSwitch, World};

/// What a switch's own device is called, as Open vSwitch does.
const LOCAL: &str = "LOCAL";

/// A device that can be overheard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// What it is called: `n1:eth0`, `s1:n1:eth0`, `s1:LOCAL`.
    pub name: String,
    /// Where the device is.
    pub place: Place,
    /// The device.
    pub device: IfName,
    /// Whether it is a switch's own. A bridge whose own device is promiscuous
    /// gives it every frame there is, and no more what is the machine's.
    pub is_local: bool,
}

/// Nothing like that can be overheard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoPoint {
    /// What is wrong.
    pub what: String,
    /// A thing to do.
    pub hint: String,
}

/// All that can be overheard of a lab, and ports that cannot, with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Points {
    points: Vec<Point>,
    /// Other words for a point, by its place in the list.
    aliases: BTreeMap<String, Vec<usize>>,
    without: BTreeMap<String, String>,
}

impl Points {
    /// Those of a lab as it is there.
    pub fn of(lab: &LabName, world: &World) -> Self {
        let mut all = Self::default();
        for (node, seen) in &world.host.nodes {
            for (device, link) in &seen.devices {
                let interface = match Mark::parse(&link.alias).map(|mark| mark.thing) {
                    Some(Thing::Interface(_, interface, _)) => interface.to_string(),
                    _ => device.to_string(),
                };
                let at = all.add(format!("{node}:{interface}"), in_node(node), device);
                all.aliases.entry(node.to_string()).or_default().push(at);
                all.aliases.entry(format!("{node}:{device}")).or_default().push(at);
            }
            // Devices that others made there, and its loopback, are meant only
            // by whoever names them.
            let foreign = seen.foreign.iter().filter_map(|name| IfName::new(name).ok());
            for device in foreign {
                all.add(format!("{node}:{device}"), in_node(node), &device);
            }
        }
        for (switch, seen) in &world.fabric.switches {
            all.add_switch(lab, switch, seen, world);
        }
        all
    }

    fn add(&mut self, name: String, place: Place, device: &IfName) -> usize {
        let is_local = false;
        self.points.push(Point { name, place, device: device.clone(), is_local });
        self.points.len() - 1
    }

    fn add_switch(&mut self, lab: &LabName, switch: &SwitchName, seen: &SeenSwitch, world: &World) {
        let full_name = |device: &IfName| {
            let port = seen.ports.get(device).map(|port| port.mark.as_str());
            let link = world.host.ports.get(device).map(|link| link.alias.as_str());
            let mark = port.into_iter().chain(link).find_map(Mark::parse)?;
            match mark.thing {
                Thing::Port(name) if mark.lab == *lab => Some(name),
                _ => None,
            }
        };
        let ports = Ports::named(switch, seen.ports.keys().filter_map(full_name));
        for (device, port) in &seen.ports {
            let full = full_name(device).unwrap_or_else(|| device.to_string());
            let name = format!("{switch}:{}", ports.call(&full));
            let mut found = Vec::new();
            match &port.kind {
                PortKind::Link => found.push(self.add(name, Place::Host, device)),
                PortKind::Bond { members, .. } => {
                    // By the order of their names, as flows call them.
                    for (cable, member) in (1..).zip(members) {
                        let cable = self.add(format!("{name}.{cable}"), Place::Host, member);
                        found.push(cable);
                    }
                    self.aliases.entry(name).or_default().extend(&found);
                }
                PortKind::Patch { .. } => {
                    let why = "is a way inside Open vSwitch, and no device of the kernel";
                    self.without.insert(name, why.to_owned());
                }
                PortKind::Tunnel { .. } => {
                    let why = "is a tunnel, which has no device of its own";
                    self.without.insert(name, why.to_owned());
                }
            }
            self.aliases.entry(switch.to_string()).or_default().extend(&found);
            let short = full.split([':', '~', '@']).next().filter(|_| full.contains(':'));
            let words = [Some(full.as_str()), Some(device.as_str()), short];
            for words in words.into_iter().flatten() {
                let meant = ports.find(words).is_ok_and(|meant| meant == full);
                if meant || words == device.as_str() {
                    self.aliases.entry(format!("{switch}:{words}")).or_default().extend(&found);
                }
            }
        }
        // A switch without a device is one that is broken.
        let local = self.add(format!("{switch}:{LOCAL}"), Place::Host, &seen.spec.device);
        self.points[local].is_local = true;
    }

    /// Every one, in the order of nodes and switches.
    pub fn all(&self) -> &[Point] {
        &self.points
    }

    /// Those that `words` mean: of a node by itself all its interfaces, of a
    /// switch all its ports that have a device.
    pub fn find(&self, words: &str) -> Result<Vec<&Point>, NoPoint> {
        if let Some(point) = self.points.iter().find(|point| point.name == words) {
            return Ok(vec![point]);
        }
        if let Some(found) = self.aliases.get(words).filter(|found| !found.is_empty()) {
            let mut found = found.clone();
            found.dedup();
            return Ok(found.iter().map(|at| &self.points[*at]).collect());
        }
        if let Some(why) = self.without.get(words) {
            return Err(NoPoint {
                what: format!("`{words}` {why}"),
                hint: "capture on a port behind it, or have a mirror copy what passes: \
                       `ovsns switch set SWITCH mirrors.m.all=true mirrors.m.output=NODE`"
                    .into(),
            });
        }
        let names = self.points.iter().map(|point| point.name.as_str());
        let known = names.chain(self.aliases.keys().map(String::as_str));
        let near = nearest(words, known);
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Err(NoPoint {
            what: format!("there is no `{words}` to capture on{near}"),
            hint: "`ovsns capture --list` shows what there is".into(),
        })
    }
}

fn in_node(node: &NodeName) -> Place {
    Place::Node(node.clone())
}
