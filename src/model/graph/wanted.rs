//! The graph of a lab as a file has it.

use super::{EdgeEnd, Graph, Kind, State, impaired};
use crate::model::names::IfName;
use crate::model::topology::{
    End, Lab, Link, Mirror, Nat, Node, PortSettings, Share, Switch, Vlan,
};

impl Graph {
    /// A lab as a file has it.
    pub fn wanted(lab: &Lab) -> Self {
        let mut graph = Self::new(&lab.name);
        for (name, switch) in &lab.switches {
            let backend = switch.backend.map(|backend| backend.to_string());
            let details = backend.into_iter().chain(part_of_switch(switch)).collect();
            graph.add(name.as_str(), Kind::Switch, details, State::Wanted);
        }
        for (name, node) in &lab.nodes {
            graph.add(name.as_str(), Kind::Node, part(node), State::Wanted);
        }
        for link in &lab.links {
            let ends = [0, 1].map(|side| graph.end(lab, &link.ends[side]));
            let state = if link.down { State::HeldDown } else { State::Wanted };
            graph.join_another(ends, link.parallel, notes(lab, link), state);
        }
        for (nic, uplink) in &lab.uplinks {
            let ends = [EdgeEnd::at(&uplink.switch), graph.nic(nic.as_str(), State::Wanted)];
            graph.join(ends, vec!["uplink".into()], State::Wanted);
        }
        for (switch, spec) in &lab.switches {
            for (tunnel, spec) in &spec.tunnels {
                let key = spec.key.map(|key| format!("key {key}"));
                let to = format!("{} {}", spec.kind, spec.remote);
                let details = [to].into_iter().chain(key).collect();
                graph.tunnel(switch.as_str(), tunnel.as_str(), details, State::Wanted);
            }
        }
        graph.notes = cuts(lab);
        graph.in_order()
    }

    fn end(&mut self, lab: &Lab, end: &End) -> EdgeEnd {
        match end {
            End::Switch(switch) => EdgeEnd::at(switch),
            End::Nic(nic, Share::Macvlan(_) | Share::Move) => self.nic(nic.as_str(), State::Wanted),
            End::Node(node, interface) => {
                let spec = lab.nodes.get(node).and_then(|it| it.interfaces.get(interface));
                let given = spec.iter().flat_map(|it| it.addresses.iter().map(ToString::to_string));
                let told = spec.iter().flat_map(|it| it.dynamic.iter().map(ToString::to_string));
                let addresses = given.chain(told).collect();
                EdgeEnd::on(node.as_str(), interface.as_str(), addresses)
            }
        }
    }
}

/// What a node is besides a node.
pub(super) fn part(node: &Node) -> Vec<String> {
    let is_on = |key: &str| node.sysctls.get(key).is_some_and(|value| value == "1");
    let routes = is_on("net.ipv4.ip_forward") || is_on("net.ipv6.conf.all.forwarding");
    let mut words = Vec::new();
    words.extend(routes.then(|| "router".to_owned()));
    words.extend(node.sealed.map(|_| "sealed".to_owned()));
    words.extend(node.adopt.as_ref().map(|from| format!("adopted from {from}")));
    let run: Vec<&str> = node.life.run.iter().map(|process| process.name.as_str()).collect();
    words.extend((!run.is_empty()).then(|| format!("runs {}", run.join(", "))));
    words
}

/// What a switch does besides switching.
fn part_of_switch(switch: &Switch) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(switch.nat.map(|nat| match nat {
        Nat::Both => "way out".to_owned(),
        Nat::Ipv4 => "way out of IPv4".to_owned(),
        Nat::Ipv6 => "way out of IPv6".to_owned(),
    }));
    let controllers = &switch.settings.openflow.controllers;
    words.extend(controllers.iter().map(|target| format!("controller {target}")));
    let mirror = |(name, mirror): (&IfName, &Mirror)| format!("mirror {name} to {}", mirror.output);
    words.extend(switch.mirrors.iter().map(mirror));
    words
}

/// Which nodes do not hear each other because that is wanted.
fn cuts(lab: &Lab) -> Vec<String> {
    let list = |nodes: &std::collections::BTreeSet<_>| -> String {
        let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        names.join(" ")
    };
    let cuts = lab.cuts.iter();
    cuts.map(|(name, cut)| format!("cut {name}: {} from {}", list(&cut.nodes), list(&cut.from)))
        .collect()
}

/// What is special about a link.
fn notes(lab: &Lab, link: &Link) -> Vec<String> {
    let PortSettings { isolated, vlan, policing, shaping, hands_off: _ } = &link.port;
    let mut notes = Vec::new();
    notes.extend(link.nic().map(|nic| match nic.share {
        Share::Macvlan(mode) => format!("macvlan {mode}"),
        Share::Move => "moved".to_owned(),
    }));
    match vlan {
        None => {}
        Some(Vlan::Access(id)) => notes.push(format!("vlan {id}")),
        Some(Vlan::Trunk { vlans, native }) => {
            let list: Vec<_> = vlans.iter().map(u16::to_string).collect();
            notes.push(format!("trunks {}", list.join(",")));
            notes.extend(native.map(|native| format!("native {native}")));
        }
        Some(Vlan::Tunnel { vlan, .. }) => notes.push(format!("qinq {vlan}")),
    }
    notes.extend(isolated.then(|| "isolated".to_owned()));
    notes.extend(policing.as_ref().map(|it| format!("policed to {} kbit/s", it.rate_kbps)));
    notes.extend(shaping.as_ref().map(|it| format!("shaped to {} kbit/s", it.rate_kbps)));
    notes.extend(link.bond.map(|bond| format!("bond of {}", bond.members)));
    let mtu = lab.mtu(link);
    notes.extend((mtu != Link::MTU_DEFAULT).then(|| format!("mtu {mtu}")));
    let ends = link.ends.each_ref().map(ToString::to_string);
    notes.extend(impaired([&ends[0], &ends[1]], link.impairments));
    notes
}
