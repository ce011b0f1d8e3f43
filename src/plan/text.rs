//! Plans in words: a sign and a line for each step.
//!
//! `+` makes, `-` removes, `~` changes. The same words stand in a dry run, in
//! the drift that `status` shows, and in what is left after a failure.

use std::fmt;

use super::step::{FabricStep, LinkState, Place, Plan, Stage, Step};
use crate::model::mark::netns;
use crate::model::names::{IfName, LabName};
use crate::model::topology::{PortSettings, Vlan};
use crate::model::world::{KernelRoute, SwitchSpec};

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
            Self::AddVeth(veth) => {
                let [a, b] = &veth.ends;
                let (a, b) = (InPlace(&a.at, &a.device), InPlace(&b.at, &b.device));
                format!("+ link {} (veth {a} to {b}, mtu {})", veth.link, veth.mtu)
            }
            Self::DeleteVeth(veth) => format!("- link {}", veth.link),
            Self::DeleteEnd { at, device } => {
                format!("- half a link, {}", InPlace(at, device))
            }
            Self::SweepLinks { devices, .. } => {
                format!("- {} links and bridges of the lab, all at once", devices.len())
            }
            Self::SetLink { at, device, before, after } => {
                format!("~ {} {}", InPlace(at, device), changes(before, after))
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
            Self::AddRoute { node, route } => format!("+ route in {node}: {}", Words(route)),
            Self::DeleteRoute { node, route } => format!("- route in {node}: {}", Words(route)),
            Self::SetSysctl { node, key, before, after } => match before {
                Some(before) => format!("~ {node} {key} = {after} (was {before})"),
                None => format!("~ {node} {key} = {after}"),
            },
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
            Self::DeleteSwitch(spec) => {
                format!("- switch {} ({} bridge {})", spec.name, spec.backend, spec.device)
            }
            Self::AddPort(port) => {
                let settings = settings(&port.settings);
                format!("+ port {} on switch {}{settings}", port.device, port.switch)
            }
            Self::SetPort { before, after } if before.switch != after.switch => {
                let settings = settings(&after.settings);
                format!(
                    "~ port {} from switch {} to {}{settings}",
                    after.device, before.switch, after.switch
                )
            }
            Self::SetPort { after, .. } => {
                let settings = match settings(&after.settings) {
                    plain if plain.is_empty() => " an ordinary one".to_owned(),
                    settings => settings,
                };
                format!("~ port {} on switch {} is now{settings}", after.device, after.switch)
            }
            Self::DeletePort(port) => format!("- port {} on switch {}", port.device, port.switch),
        }
    }
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
    if old.forward_delay_s != new.forward_delay_s {
        words
            .push(format!("forward delay {} s (was {})", new.forward_delay_s, old.forward_delay_s));
    }
    if old.ageing_s != new.ageing_s {
        words.push(format!("ageing {} s (was {})", new.ageing_s, old.ageing_s));
    }
    if old.multicast_snooping != new.multicast_snooping {
        words.push(format!("multicast snooping {}", on(new.multicast_snooping)));
    }
    if before.vlan_filtering != after.vlan_filtering {
        words.push(format!("vlan filtering {}", on(after.vlan_filtering)));
    }
    if before.alias != after.alias || before.group != after.group {
        words.push("gets its mark".to_owned());
    }
    if before.altname != after.altname {
        words.push(format!("is also called {}", after.altname));
    }
    words.join(", ")
}

/// What is special about a port; nothing for an ordinary one.
fn settings(port: &PortSettings) -> String {
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
    }
    words
}
