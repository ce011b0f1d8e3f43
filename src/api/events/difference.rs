//! What has happened to a lab between two looks at it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::{Happened, Kind, Thing};
use crate::api::view::{LabView, LinkView, NodeView, ProcessView, SwitchView, UplinkView};

/// What has happened between two looks, in an order in which it can be told: what is
/// gone, what is new, what is otherwise; and what is wrong. No look is a lab that is not
/// there.
pub fn difference(before: Option<&LabView>, after: Option<&LabView>) -> Vec<Happened> {
    let mut told = Told::default();
    match (before, after) {
        (None, None) => {}
        (None, Some(lab)) => {
            told.say(Kind::Made, Thing::Lab, "", format!("lab {} is {}", lab.lab, lab.state));
            told.wrong(&Wrong::default(), &Wrong::of(lab));
        }
        (Some(lab), None) => {
            told.say(Kind::Gone, Thing::Lab, "", format!("lab {} is gone", lab.lab));
        }
        (Some(before), Some(after)) => {
            told.nodes(&before.nodes, &after.nodes);
            told.switches(&before.switches, &after.switches);
            told.links(&before.links, &after.links);
            told.uplinks(&before.uplinks, &after.uplinks);
            told.wrong(&Wrong::of(before), &Wrong::of(after));
        }
    }
    told.0
}

/// What is wrong with a lab.
#[derive(Default)]
struct Wrong<'l> {
    drift: &'l [String],
    troubles: &'l [String],
    cut_off: Option<&'l str>,
}

impl<'l> Wrong<'l> {
    fn of(lab: &'l LabView) -> Self {
        let LabView { drift, troubles, cut_off, .. } = lab;
        Self { drift, troubles, cut_off: cut_off.as_deref() }
    }
}

#[derive(Default)]
struct Told(Vec<Happened>);

impl Told {
    fn say(&mut self, kind: Kind, thing: Thing, name: impl Into<String>, text: impl Into<String>) {
        self.0.push(Happened::new(kind, thing, name, text));
    }

    /// Tells which of some things are gone and which are new; returns those that are
    /// there before and after.
    fn both<'t, T>(
        &mut self,
        thing: Thing,
        before: &'t [T],
        after: &'t [T],
        name: impl Fn(&T) -> String,
    ) -> Vec<(String, &'t T, &'t T)> {
        let by_name = |all: &'t [T]| -> BTreeMap<String, &'t T> {
            all.iter().map(|it| (name(it), it)).collect()
        };
        let (before, after) = (by_name(before), by_name(after));
        let word = thing.word();
        for gone in before.keys().filter(|name| !after.contains_key(*name)) {
            self.say(Kind::Gone, thing, gone, format!("{word} {gone} is gone"));
        }
        for made in after.keys().filter(|name| !before.contains_key(*name)) {
            self.say(Kind::Made, thing, made, format!("{word} {made} is there"));
        }
        let both = before.into_iter();
        both.filter_map(|(name, it)| Some((name.clone(), it, *after.get(&name)?))).collect()
    }

    /// Tells if something is not what it was.
    fn changed<V: PartialEq>(
        &mut self,
        thing: Thing,
        name: &str,
        what: &str,
        [before, after]: [V; 2],
        words: impl Fn(&V) -> String,
    ) {
        if before != after {
            let text =
                format!("{} {name}: {what} {} -> {}", thing.word(), words(&before), words(&after));
            self.say(Kind::Changed, thing, name, text);
        }
    }

    fn nodes(&mut self, before: &[NodeView], after: &[NodeView]) {
        for (name, old, new) in self.both(Thing::Node, before, after, |it| it.name.clone()) {
            let named = |it: &crate::api::view::InterfaceView| format!("{name}:{}", it.name);
            let pairs = self.both(Thing::Interface, &old.interfaces, &new.interfaces, named);
            for (end, old, new) in pairs {
                let thing = Thing::Interface;
                self.changed(thing, &end, "addresses", [&old.addresses, &new.addresses], |it| {
                    list(it)
                });
                let foreign = [&old.foreign_addresses, &new.foreign_addresses];
                self.changed(thing, &end, "addresses of others", foreign, |it| list(it));
                let dynamic = [&old.dynamic_addresses, &new.dynamic_addresses];
                let dynamic = dynamic.map(|all| {
                    all.iter().map(|it| format!("{} ({})", it.address, it.by)).collect::<Vec<_>>()
                });
                self.changed(thing, &end, "addresses for a time", dynamic, |it| list(it));
                self.changed(thing, &end, "MAC", [&old.mac, &new.mac], |it| (*it).clone());
                self.changed(thing, &end, "MTU", [old.mtu, new.mtu], u32::to_string);
            }
            let routes = [old, new].map(|node| {
                let route = |it: &crate::api::view::RouteView| match &it.via {
                    Some(via) => format!("{} via {via}", it.to),
                    None => format!("{} dev {}", it.to, it.device),
                };
                node.routes.iter().map(route).collect::<Vec<_>>()
            });
            self.changed(Thing::Node, &name, "routes", routes, |it| list(it));
            self.processes(&name, &old.processes, &new.processes);
        }
        for node in after.iter().filter(|it| before.iter().all(|old| old.name != it.name)) {
            self.processes(&node.name, &[], &node.processes);
        }
    }

    fn processes(&mut self, node: &str, before: &[ProcessView], after: &[ProcessView]) {
        for new in after {
            let old = before.iter().find(|old| old.name == new.name);
            if old.is_some_and(|old| {
                (&old.state, old.pid, old.restarts) == (&new.state, new.pid, new.restarts)
            }) {
                continue;
            }
            let (name, pid) = (format!("{node}/{}", new.name), new.pid.unwrap_or_default());
            let (kind, text) = match (new.state.as_str(), &new.ended) {
                ("starting", _) => (Kind::Started, format!("process {name} was started ({pid})")),
                ("running", _) => (Kind::Ready, format!("process {name} is ready ({pid})")),
                (state, ended) => {
                    let ended = ended.as_deref().unwrap_or("has ended");
                    let then = if state == "waiting" { ", and is started again" } else { "" };
                    (Kind::Ended, format!("process {name} {ended}{then}"))
                }
            };
            self.say(kind, Thing::Process, name, text);
        }
        for old in before.iter().filter(|old| after.iter().all(|new| new.name != old.name)) {
            let name = format!("{node}/{}", old.name);
            self.say(Kind::Gone, Thing::Process, &name, format!("process {name} is gone"));
        }
    }

    fn switches(&mut self, before: &[SwitchView], after: &[SwitchView]) {
        for (name, old, new) in self.both(Thing::Switch, before, after, |it| it.name.clone()) {
            self.changed(Thing::Switch, &name, "up", [old.up, new.up], bool::to_string);
            self.broken(Thing::Switch, &name, old.broken.as_ref(), new.broken.as_ref());
            // Several links may lead to the same switch.
            let mut devices: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for port in old.ports.iter().chain(&new.ports) {
                let Some(across) = &port.across else { continue };
                devices.entry(across).or_default().insert(&port.device);
            }
            let named = |it: &crate::api::view::PortView| match it.across.as_deref() {
                Some(across) if 1 < devices[across].len() => {
                    format!("{name}/{across} ({})", it.device)
                }
                across => format!("{name}/{}", across.unwrap_or(&it.device)),
            };
            for (port, old, new) in self.both(Thing::Port, &old.ports, &new.ports, named) {
                self.broken(Thing::Port, &port, old.broken.as_ref(), new.broken.as_ref());
                let differs = old.settings != new.settings;
                if differs {
                    let text = format!("port {port}: what it does with frames is set otherwise");
                    self.say(Kind::Changed, Thing::Port, &port, text);
                }
            }
            let controllers = [old, new].map(|it| {
                let all = it.openflow.iter().flat_map(|it| &it.controllers);
                all.map(|it| (it.target.clone(), (it.connected, it.role.clone())))
                    .collect::<BTreeMap<_, _>>()
            });
            for (target, (connected, role)) in &controllers[1] {
                if controllers[0].get(target) == Some(&(*connected, role.clone())) {
                    continue;
                }
                let how = match (connected, role) {
                    (true, Some(role)) => format!("is connected as {role}"),
                    (true, None) => "is connected".to_owned(),
                    (false, _) => "is not connected".to_owned(),
                };
                let thing = Thing::Controller;
                let text = format!("controller {target} of switch {name} {how}");
                self.say(Kind::Changed, thing, format!("{name}/{target}"), text);
            }
        }
    }

    fn broken(
        &mut self,
        thing: Thing,
        name: &str,
        before: Option<&String>,
        after: Option<&String>,
    ) {
        match after {
            Some(why) if before != after => {
                self.say(Kind::Error, thing, name, format!("{} {name}: {why}", thing.word()));
            }
            None if before.is_some() => {
                self.say(Kind::Mended, thing, name, format!("{} {name} works", thing.word()));
            }
            Some(_) | None => {}
        }
    }

    fn links(&mut self, before: &[LinkView], after: &[LinkView]) {
        let named = |it: &LinkView| it.ends.join(" -- ");
        for (name, old, new) in self.both(Thing::Link, before, after, named) {
            match (old.up, new.up) {
                (false, true) => {
                    self.say(Kind::Up, Thing::Link, &name, format!("link {name} is up"));
                }
                (true, false) => {
                    let why = if new.held_down { ", as it was asked for" } else { "" };
                    self.say(Kind::Down, Thing::Link, &name, format!("link {name} is down{why}"));
                }
                (true, true) | (false, false) => {}
            }
            if old.impairments != new.impairments || old.settings != new.settings {
                let text = format!("link {name}: what it does with frames is set otherwise");
                self.say(Kind::Changed, Thing::Link, &name, text);
            }
            let mtus = [old.mtu, new.mtu];
            let words = |it: &Option<u32>| it.map_or("none".to_owned(), |mtu| mtu.to_string());
            self.changed(Thing::Link, &name, "MTU", mtus, words);
        }
    }

    fn uplinks(&mut self, before: &[UplinkView], after: &[UplinkView]) {
        for (name, old, new) in self.both(Thing::Uplink, before, after, |it| it.nic.clone()) {
            self.changed(Thing::Uplink, &name, "state", [&old.state, &new.state], |it| {
                (*it).clone()
            });
            let waits = [&old.unconfirmed, &new.unconfirmed];
            self.changed(Thing::Uplink, &name, "to confirm", waits, |it| {
                it.as_deref().unwrap_or("nothing").to_owned()
            });
        }
    }

    fn wrong(&mut self, before: &Wrong<'_>, after: &Wrong<'_>) {
        let kinds = [
            (Kind::Drifted, before.drift, after.drift),
            (Kind::Error, before.troubles, after.troubles),
        ];
        for (kind, before, after) in kinds {
            for line in before.iter().filter(|line| !after.contains(line)) {
                self.say(Kind::Mended, Thing::Lab, "", line);
            }
            for line in after.iter().filter(|line| !before.contains(line)) {
                self.say(kind, Thing::Lab, "", line);
            }
        }
        if let Some(command) = after.cut_off.filter(|_| before.cut_off.is_none()) {
            let text = format!("`{command}` was killed in the middle of a change");
            self.say(Kind::Error, Thing::Lab, "", text);
        }
    }
}

fn list(all: &[impl Display]) -> String {
    match all {
        [] => "none".to_owned(),
        all => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}
