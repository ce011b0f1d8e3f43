//! Plans in words: a sign and a line for each step.
//!
//! `+` makes, `-` removes, `~` changes, `>` and `<` move. The same words stand in a dry run, in
//! the drift that `status` shows, and in what is left after a failure.

use std::fmt;

use super::nics::{Child, Loan};
use super::step::{FabricStep, LinkState, Place, Plan, Stage, Step};
use crate::model::exits::{self, GatewayState};
use crate::model::life::{Limits, Ready, Room};
use crate::model::mark::netns;
use crate::model::names::{IfName, LabName};
use crate::model::topology::{Backend, Dynamic, OpenFlow, PortSettings, Sealed, Vlan};
use crate::model::world::{KernelRoute, Leftover, MirrorSpec, PortKind, PortSpec, SwitchSpec};

/// How many a line names that a node does not hear.
const SENDERS_SHOWN: usize = 12;

impl Plan {
    /// One line a step, in their order.
    pub fn lines(&self) -> Vec<String> {
        let lab = &self.lab;
        let lines = |stage: &Stage| match stage {
            Stage::Host(steps) => steps.iter().map(|s| s.line(lab)).collect::<Vec<_>>(),
            Stage::Fabric(_, steps) => steps.iter().map(FabricStep::line).collect(),
        };
        self.stages.iter().flat_map(lines).collect()
    }
}

impl Step {
    /// The step in words.
    pub fn line(&self, lab: &LabName) -> String {
        match self {
            Self::AddNode { node } => format!("+ node {node} (namespace {})", netns(lab, node)),
            Self::DeleteNode { node } => format!("- node {node} (namespace {})", netns(lab, node)),
            Self::SealNode { node, after, .. } => match after {
                None => format!("~ node {node} is not sealed any more"),
                Some(Sealed { raw: false }) => format!("~ node {node} is sealed"),
                Some(Sealed { raw: true }) => {
                    format!("~ node {node} is sealed, but for raw sockets")
                }
            },
            Self::AdoptNode { node, from, .. } => {
                format!("+ node {node} (adopts {from} as namespace {})", netns(lab, node))
            }
            Self::LeaveNode { node, from, .. } => {
                format!("- node {node} ({from} stays, as it was found)")
            }
            Self::AddVeth(veth) => {
                let [a, b] = &veth.ends;
                let (a, b) = (InPlace(&a.at, &a.device), InPlace(&b.at, &b.device));
                format!("+ link {} (veth {a} to {b}, mtu {})", veth.link, veth.mtu)
            }
            Self::DeleteVeth(veth) => format!("- link {}", veth.link),
            Self::DeleteEnd { at, device } => {
                format!("- half a link, {}", InPlace(at, device))
            }
            Self::AddMacvlan(Child { node, device, nic, mode, mtu, .. }) => {
                let mtu = mtu.map(|mtu| format!(", mtu {mtu}")).unwrap_or_default();
                format!("+ link {node}:{device} ({mode} macvlan of NIC {nic}{mtu})")
            }
            Self::DeleteMacvlan(Child { node, device, nic, .. }) => {
                format!("- link {node}:{device} (macvlan of NIC {nic})")
            }
            Self::LendNic(Loan { nic, node, device, mtu, mac, .. }) => {
                let mtu = mtu.map(|mtu| format!(", mtu {mtu}")).unwrap_or_default();
                let mac = mac.map(|mac| format!(", mac {mac}")).unwrap_or_default();
                format!("> NIC {nic} into node {node} (as {node}:{device}{mtu}{mac})")
            }
            Self::ReturnNic(Loan { nic, node, device, .. }) => {
                format!("< NIC {nic} home from node {node} (where it is {device})")
            }
            Self::SweepLinks { devices, .. } => {
                format!("- {} links and bridges of the lab, all at once", devices.len())
            }
            Self::SetLink { at, device, before, after } => {
                format!("~ {} {}", InPlace(at, device), changes(before, after))
            }
            Self::Impair { at, device, before, after } => {
                let was = match before.is_none() {
                    true => String::new(),
                    false => format!(" (was {before})"),
                };
                let at = InPlace(at, device);
                match after.is_none() {
                    true => format!("~ what leaves by {at} is impaired no more{was}"),
                    false => format!("~ what leaves by {at} is impaired: {after}{was}"),
                }
            }
            Self::Cut { node, after: None, .. } => format!("~ {node} hears all again"),
            Self::Cut { node, before, after: Some(deaf), .. } if before.as_ref() == Some(deaf) => {
                format!("~ {node} is cut again as it was")
            }
            Self::Cut { node, after: Some(deaf), from, .. } => {
                let names = from.iter().map(ToString::to_string);
                let macs = deaf.macs.iter().map(ToString::to_string);
                let addresses = deaf.addresses.iter().map(ToString::to_string);
                let all: Vec<String> = match from.is_empty() {
                    true => macs.chain(addresses).collect(),
                    false => names.collect(),
                };
                let (shown, rest) = all.split_at(all.len().min(SENDERS_SHOWN));
                let rest = match rest.len() {
                    0 => String::new(),
                    rest => format!(" and {rest} more"),
                };
                format!("~ {node} hears nothing from {}{rest}", shown.join(" "))
            }
            Self::AddAltname { at, device, altname } => {
                format!("~ {} is also called {altname}", InPlace(at, device))
            }
            Self::AddAddress { node, device, address } => {
                format!("+ address {address} on {node}:{device}")
            }
            Self::DeleteAddress { node, device, address } => {
                format!("- address {address} on {node}:{device}")
            }
            Self::HoldLease { node, device } => {
                format!("+ lease for {node}:{device}, by DHCP")
            }
            Self::EndLease { node, device } => format!("- lease of {node}:{device}"),
            Self::AwaitAddress { node, device, by } => {
                let who = match by {
                    Dynamic::Dhcp => "a DHCP server",
                    Dynamic::Slaac => "a router",
                };
                format!("~ {node}:{device} gets an address from {who}")
            }
            Self::AddRoute { node, route } => format!("+ route in {node}: {}", Words(route)),
            Self::DeleteRoute { node, route } => format!("- route in {node}: {}", Words(route)),
            Self::StartKeeper { node, room, limits } => {
                format!("+ keeper of {node}{}", of_its_own(room, limits))
            }
            Self::EndKeeper { node, life: Some(life) } => match life.run.len() {
                0 => format!("- keeper of {node}"),
                1 => format!("- keeper of {node}, with a process"),
                many => format!("- keeper of {node}, with {many} processes"),
            },
            Self::EndKeeper { node, life: None } => {
                format!("- what is left of the keeper of {node}")
            }
            Self::SetLimits { node, before, after } => {
                format!("~ {node} limits: {after} (were {before})")
            }
            Self::RenameNode { node, before, after } => {
                format!("~ {node} is called {after} (was {before})")
            }
            Self::LayFile { node, path, before: None, after } => {
                let bytes = after.text.len();
                let bytes = format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" });
                format!("+ file {path} in {node} ({bytes}, mode {:04o})", after.mode)
            }
            Self::LayFile { node, path, before: Some(before), after } => {
                let mut words = Vec::new();
                if before.text != after.text {
                    words.push("other text".to_owned());
                }
                if before.mode != after.mode {
                    words.push(format!("mode {:04o} (was {:04o})", after.mode, before.mode));
                }
                format!("~ file {path} in {node}: {}", words.join(", "))
            }
            Self::WriteNames { before: None, after: _ } => {
                "+ names of the nodes in the machine's /etc/hosts".to_owned()
            }
            Self::WriteNames { before: Some(_), after: Some(_) } => {
                "~ names of the nodes in the machine's /etc/hosts".to_owned()
            }
            Self::WriteNames { before: Some(_), after: None } => {
                "- names of the nodes in the machine's /etc/hosts".to_owned()
            }
            Self::LiftFile { node, path, .. } => format!("- file {path} in {node}"),
            Self::RunProcess { node, process } => {
                let ready = match &process.ready {
                    Some(Ready::Port(port)) => format!(", ready at port {port}"),
                    Some(Ready::Command(command)) => format!(", ready when {}", words(command)),
                    None => String::new(),
                };
                format!("+ process {} in {node}: {}{ready}", process.name, words(&process.command))
            }
            Self::StopProcess { node, process } => {
                format!("- process {} in {node}", process.name)
            }
            Self::SetGateway { device, before, after } => {
                format!("~ this machine on {device} {}", gateway_changes(before, after))
            }
            Self::SetDoors { before: _, after: None } => {
                format!("- way out (table inet {})", exits::table(lab))
            }
            Self::SetDoors { before, after: Some(doors) } => {
                let sign = if before.is_none() { '+' } else { '~' };
                let devices: Vec<&str> = doors.doors.keys().map(IfName::as_str).collect();
                let again = if before.as_ref() == Some(doors) { " as it was" } else { "" };
                format!(
                    "{sign} way out by {}{again} (table inet {})",
                    devices.join(", "),
                    exits::table(lab)
                )
            }
            Self::SetSysctl { node, key, before, after } => match before {
                Some(before) => format!("~ {node} {key} = {after} (was {before})"),
                None => format!("~ {node} {key} = {after}"),
            },
            Self::SetChecksums { node, device, before: _, after: true } => {
                format!("~ {node}:{device} leaves checksums to the device")
            }
            Self::SetChecksums { node, device, before: _, after: false } => {
                format!("~ {node}:{device} calculates checksums itself")
            }
        }
    }
}

impl FabricStep {
    /// The step in words.
    pub fn line(&self) -> String {
        match self {
            Self::AddSwitch(spec) => {
                format!("+ switch {} ({} bridge {})", spec.name, spec.backend, spec.device)
            }
            Self::SetSwitch { before, after } => {
                format!("~ switch {} {}", after.name, switch_changes(before, after))
            }
            Self::RaiseSwitch(spec) => format!("~ switch {} up", spec.name),
            Self::SettleSwitch(spec) => format!("~ switch {} settles", spec.name),
            Self::DeleteSwitch(spec) => {
                format!("- switch {} ({} bridge {})", spec.name, spec.backend, spec.device)
            }
            Self::AddPort(port) => {
                let (kind, settings) = (kind(port), settings(&port.settings));
                format!("+ port {} on switch {}{kind}{settings}", port.device, port.switch)
            }
            Self::SetPort { before, after } if before.switch != after.switch => {
                let settings = settings(&after.settings);
                format!(
                    "~ port {} from switch {} to {}{settings}",
                    after.device, before.switch, after.switch
                )
            }
            Self::SetPort { before, after }
                if before.settings == after.settings && before.filtering == after.filtering =>
            {
                format!("~ port {} on switch {} gets its mark", after.device, after.switch)
            }
            Self::SetPort { before, after } if only_hands_off(before, after) => {
                let whose =
                    if after.settings.hands_off { "the link's own" } else { "the switch's" };
                format!(
                    "~ port {} on switch {}: what is done to frames that leave is {whose} matter",
                    after.device, after.switch
                )
            }
            Self::SetPort { before, after } if before.settings == after.settings => {
                let untagged = match after.filtering {
                    true => "untagged frames are in VLAN 1 now",
                    false => "frames pass whatever their VLAN now",
                };
                format!("~ port {} on switch {}: {untagged}", after.device, after.switch)
            }
            Self::SetPort { after, .. } => {
                let settings = match settings(&after.settings) {
                    plain if plain.is_empty() => " an ordinary one".to_owned(),
                    settings => settings,
                };
                format!("~ port {} on switch {} is now{settings}", after.device, after.switch)
            }
            Self::DeletePort(port) => format!("- port {} on switch {}", port.device, port.switch),
            Self::AddMirror(mirror) => {
                let what = copied(mirror);
                format!(
                    "+ mirror {} on switch {}: {what} to port {}",
                    mirror.name, mirror.switch, mirror.output
                )
            }
            Self::DeleteMirror(mirror) => {
                format!("- mirror {} on switch {}", mirror.name, mirror.switch)
            }
            Self::AddFlow(flow) => format!("+ flow on switch {}: {}", flow.switch, flow.words),
            Self::DeleteFlow(flow) => format!("- flow on switch {}: {}", flow.switch, flow.words),
            Self::DeleteLeftover(Leftover { is_queue, row, mark }) => {
                let what = if *is_queue { "queue" } else { "shaping" };
                format!("- {what} that no port has any more ({mark}, row {row})")
            }
        }
    }
}

/// Whether the one thing that changes is who sees to what leaves by a port.
fn only_hands_off(before: &PortSpec, after: &PortSpec) -> bool {
    let PortSettings { hands_off, .. } = before.settings;
    before.settings != after.settings
        && before.settings == PortSettings { hands_off, ..after.settings.clone() }
        && before.filtering == after.filtering
}

/// What a node has of its own and may use.
fn of_its_own(room: &Room, limits: &Limits) -> String {
    let mut words = Vec::new();
    if !room.kinds.is_empty() {
        let kinds: Vec<_> = room.kinds.iter().map(ToString::to_string).collect();
        words.push(format!("own {}", kinds.join(" ")));
    }
    words.extend(room.hostname.iter().map(|name| format!("called {name}")));
    if !limits.is_empty() {
        words.push(format!("at most {limits}"));
    }
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}

/// A command as a person would type it, in one line.
pub fn words(command: &[String]) -> String {
    let plain = |word: &String| {
        let odd = |c: char| c.is_whitespace() || c.is_control() || "'\"\\$`|&;<>()*?".contains(c);
        !word.is_empty() && !word.contains(odd)
    };
    let words = command.iter().map(|word| match plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.escape_debug()),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What is plugged into a port, where it is not a link.
fn kind(port: &PortSpec) -> String {
    match &port.kind {
        PortKind::Link => String::new(),
        PortKind::Patch { peer } => format!(" (patch to {peer})"),
        PortKind::Bond { members, mode, lacp, primary: _ } => {
            let members: Vec<_> = members.iter().map(IfName::as_str).collect();
            format!(" (bond of {}, {mode}, lacp {lacp})", members.join(" "))
        }
        PortKind::Tunnel { kind, remote, key, .. } => match key {
            Some(key) => format!(" ({kind} tunnel to {remote}, key {key})"),
            None => format!(" ({kind} tunnel to {remote})"),
        },
    }
}

/// What a mirror copies.
fn copied(mirror: &MirrorSpec) -> String {
    let list = |ports: &std::collections::BTreeSet<IfName>| {
        ports.iter().map(IfName::as_str).collect::<Vec<_>>().join(" ")
    };
    let mut words = Vec::new();
    if mirror.all {
        words.push("all".to_owned());
    }
    if !mirror.all && !mirror.from.is_empty() {
        words.push(format!("from {}", list(&mirror.from)));
    }
    if !mirror.all && !mirror.to.is_empty() {
        words.push(format!("to {}", list(&mirror.to)));
    }
    if !mirror.vlans.is_empty() {
        let vlans: Vec<_> = mirror.vlans.iter().map(u16::to_string).collect();
        words.push(format!("in vlan {}", vlans.join(",")));
    }
    words.join(" ")
}

/// A device with the place it is in.
struct InPlace<'a>(&'a Place, &'a IfName);

impl fmt::Display for InPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Host => write!(f, "{}", self.1),
            Place::Node(node) => write!(f, "{node}:{}", self.1),
        }
    }
}

/// A route as `ip route` writes it.
struct Words<'a>(&'a KernelRoute);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = self.0;
        match route.to.prefix_len() {
            0 => f.write_str("default")?,
            _ => write!(f, "{}", route.to)?,
        }
        if let Some(via) = route.via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {}", route.device)?;
        match (route.metric, route.to.addr().is_ipv4()) {
            (0, true) | (1024, false) => Ok(()),
            (metric, _) => write!(f, " metric {metric}"),
        }
    }
}

/// What differs about the machine on the local device of a switch.
fn gateway_changes(before: &GatewayState, after: &GatewayState) -> String {
    let mut words = Vec::new();
    let route =
        |(to, via): &(ipnet::IpNet, std::net::IpAddr)| format!("the route to {to} via {via}");
    if before.up != after.up {
        words.push(if after.up { "is up" } else { "is down" }.to_owned());
    }
    words.extend(after.addresses.difference(&before.addresses).map(|a| format!("gets {a}")));
    words.extend(before.addresses.difference(&after.addresses).map(|a| format!("loses {a}")));
    words.extend(after.routes.difference(&before.routes).map(|r| format!("gets {}", route(r))));
    words.extend(before.routes.difference(&after.routes).map(|r| format!("loses {}", route(r))));
    for (key, value) in &after.parameters {
        if before.parameters.get(key) != Some(value) {
            words.push(format!("has {key} = {value}"));
        }
    }
    words.join(", ")
}

fn changes(before: &LinkState, after: &LinkState) -> String {
    let mut words = Vec::new();
    if before.up != after.up {
        words.push(if after.up { "up".to_owned() } else { "down".to_owned() });
    }
    if before.mtu != after.mtu {
        words.push(format!("mtu {} (was {})", after.mtu, before.mtu));
    }
    if before.mac != after.mac {
        words.push(format!("mac {} (was {})", after.mac, before.mac));
    }
    if before.alias != after.alias {
        words.push("gets its mark".to_owned());
    }
    words.join(", ")
}

fn switch_changes(before: &SwitchSpec, after: &SwitchSpec) -> String {
    let (old, new) = (&before.settings, &after.settings);
    let on = |yes: bool| if yes { "on" } else { "off" };
    let mut words = Vec::new();
    if before.mac != after.mac {
        words.push(format!("mac {} (was {})", after.mac, before.mac));
    }
    if before.mtu != after.mtu {
        words.push(format!("mtu {} (was {})", after.mtu, before.mtu));
    }
    if old.stp != new.stp {
        words.push(format!("stp {}", on(new.stp)));
    }
    match (old.forward_delay_s, new.forward_delay_s) {
        (Some(was), Some(is)) if was != is => {
            words.push(format!("forward delay {is} s (was {was})"));
        }
        (None, Some(is)) => words.push(format!("forward delay {is} s")),
        // It goes with the spanning tree.
        (Some(_), None) if old.stp == new.stp && old.rstp == new.rstp => {
            words.push("no forward delay".to_owned());
        }
        (Some(_) | None, Some(_) | None) => {}
    }
    if old.rstp != new.rstp {
        words.push(format!("rstp {}", on(new.rstp)));
    }
    if old.ageing_s != new.ageing_s {
        words.push(format!("ageing {} s (was {})", new.ageing_s, old.ageing_s));
    }
    if old.multicast_snooping != new.multicast_snooping {
        words.push(format!("multicast snooping {}", on(new.multicast_snooping)));
    }
    let (of_old, of_new) = (&old.openflow, &new.openflow);
    if let (true, Some(mode)) = (of_old.fail_mode != of_new.fail_mode, of_new.fail_mode) {
        words.push(format!("fail mode {mode}"));
    }
    if of_old.controllers != of_new.controllers {
        words.push(format!("controllers {}", list(&of_new.controllers)));
    }
    if of_old.protocols != of_new.protocols {
        words.push(format!("protocols {}", list(&of_new.protocols)));
    }
    if of_old.datapath_id != of_new.datapath_id {
        let id = of_new.datapath_id.as_deref().unwrap_or("its own");
        words.push(format!("datapath id {id}"));
    }
    let connection = |of: &OpenFlow| (of.in_band, of.max_backoff_ms, of.inactivity_probe_ms);
    if connection(of_old) != connection(of_new) {
        words.push("other connections to its controllers".to_owned());
    }
    if old.export.netflow != new.export.netflow {
        words.push(format!("netflow {}", on(new.export.netflow.is_some())));
    }
    if old.export.sflow != new.export.sflow {
        words.push(format!("sflow {}", on(new.export.sflow.is_some())));
    }
    if old.export.ipfix != new.export.ipfix {
        words.push(format!("ipfix {}", on(new.export.ipfix.is_some())));
    }
    if before.vlan_filtering != after.vlan_filtering {
        words.push(match (after.backend, after.vlan_filtering) {
            (Backend::Linux, filtering) => format!("vlan filtering {}", on(filtering)),
            // It has no such switch: ports say what they want.
            (Backend::Ovs, true) => "has ports in VLANs now".to_owned(),
            (Backend::Ovs, false) => "has no ports in VLANs any more".to_owned(),
        });
    }
    if before.alias != after.alias || before.group != after.group {
        words.push("gets its mark".to_owned());
    }
    if before.altname != after.altname {
        words.push(format!("is also called {}", after.altname));
    }
    words.join(", ")
}

fn list(texts: &std::collections::BTreeSet<String>) -> String {
    if texts.is_empty() {
        return "none".to_owned();
    }
    texts.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// What is special about a port, with a space before; nothing for an ordinary
/// one.
pub fn settings(port: &PortSettings) -> String {
    let mut words = String::new();
    if port.isolated {
        words.push_str(" isolated");
    }
    match &port.vlan {
        None => {}
        Some(Vlan::Access(id)) => words.push_str(&format!(" vlan {id}")),
        Some(Vlan::Trunk { vlans, native }) => {
            let list: Vec<_> = vlans.iter().map(u16::to_string).collect();
            words.push_str(&format!(" trunks {}", list.join(",")));
            if let Some(native) = native {
                words.push_str(&format!(" native {native}"));
            }
        }
        Some(Vlan::Tunnel { vlan, customers }) => {
            words.push_str(&format!(" qinq {vlan}"));
            if !customers.is_empty() {
                let list: Vec<_> = customers.iter().map(u16::to_string).collect();
                words.push_str(&format!(" for {}", list.join(",")));
            }
        }
    }
    if let Some(policing) = port.policing {
        let (rate, burst) = (policing.rate_kbps, policing.burst_kb);
        words.push_str(&format!(" policed to {rate} kbit/s (burst {burst} kbit)"));
    }
    if let Some(shaping) = &port.shaping {
        words.push_str(&format!(" shaped to {} kbit/s", shaping.rate_kbps));
        if !shaping.queues.is_empty() {
            let list: Vec<_> = shaping.queues.keys().map(u32::to_string).collect();
            words.push_str(&format!(" (queues {})", list.join(",")));
        }
    }
    words
}
