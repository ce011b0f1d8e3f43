//! Refusals: what stands in the way, found before anything is touched.

use std::fmt;

use super::wanted::Wanted;
use crate::model::mark::netns;
use crate::model::names::LabName;
use crate::model::topology::Backend;
use crate::model::world::World;

/// Something that a plan will not do, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// What stands in the way.
    pub what: String,
    /// A thing to do.
    pub hint: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What the switches of one backend can do on this machine. Tried, not
/// looked up: see `Switch::abilities`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// The backend.
    pub backend: Backend,
    /// Whether ports can be in VLANs, or why not.
    pub vlan: Result<(), String>,
    /// Whether ports can be isolated from each other, or why not.
    pub isolation: Result<(), String>,
    /// The most ports that one switch can have.
    pub ports_max: usize,
    /// Whether its switches and ports are links of the lab's group, and go
    /// with `Step::SweepLinks`.
    pub swept_with_links: bool,
}

/// Everything about `wanted` that cannot be done here, all together.
pub fn refusals(
    lab: &LabName,
    wanted: &Wanted,
    world: &World,
    abilities: &[Abilities],
) -> Vec<Refusal> {
    let mut found = Vec::new();
    switches(wanted, abilities, &mut found);
    taken_names(lab, wanted, world, &mut found);
    for (node, wanted) in &wanted.nodes {
        for key in wanted.sysctls.keys().filter(|key| world.host.unknown_sysctls.contains(*key)) {
            found.push(Refusal {
                what: format!("node `{node}` sets `{key}`, which this kernel does not have"),
                hint: "`sysctl -a` lists what there is".into(),
            });
        }
    }
    routes_of_others(wanted, world, &mut found);
    found.sort();
    found
}

/// A route of somebody else's to the same place: IPv4 keeps one for each
/// destination and metric.
fn routes_of_others(wanted: &Wanted, world: &World, found: &mut Vec<Refusal>) {
    for (node, want) in &wanted.nodes {
        let Some(seen) = world.host.nodes.get(node) else { continue };
        for route in want.routes.iter().filter(|r| r.to.addr().is_ipv4()) {
            let theirs = seen.foreign_routes.iter().find(|other| {
                other.to == route.to && other.metric == route.metric && *other != route
            });
            if theirs.is_some() {
                found.push(Refusal {
                    what: format!(
                        "node `{node}` already has a route to `{}` that is not ours",
                        route.to
                    ),
                    hint: format!(
                        "delete it (`ovsns exec {node} -- ip route del {}`), or give ours a `metric`",
                        route.to
                    ),
                });
            }
        }
    }
}

fn switches(wanted: &Wanted, abilities: &[Abilities], found: &mut Vec<Refusal>) {
    for (name, spec) in &wanted.switches {
        let Some(able) = abilities.iter().find(|a| a.backend == spec.backend) else {
            found.push(Refusal {
                what: format!(
                    "switch `{name}` wants backend `{}`, which is not here",
                    spec.backend
                ),
                hint: "leave `backend` out, or say `linux`".into(),
            });
            continue;
        };
        let ports: Vec<_> = wanted
            .links
            .values()
            .flat_map(|link| &link.ports)
            .filter(|port| port.switch == *name)
            .collect();
        if able.ports_max < ports.len() {
            found.push(Refusal {
                what: format!(
                    "switch `{name}` would have {} ports; a {} switch has {} at most",
                    ports.len(),
                    able.backend,
                    able.ports_max
                ),
                hint: "spread the nodes over two switches with a link between them".into(),
            });
        }
        if let Err(reason) = &able.vlan
            && spec.vlan_filtering
        {
            found.push(Refusal {
                what: format!("switch `{name}` cannot do VLANs: {reason}"),
                hint:
                    "leave `vlan`, `trunks` and `native` out of its links, or use another backend"
                        .into(),
            });
        }
        if let Err(reason) = &able.isolation
            && ports.iter().any(|port| port.settings.isolated)
        {
            found.push(Refusal {
                what: format!("switch `{name}` cannot isolate ports: {reason}"),
                hint: "leave `isolated` out of its links, or use another backend".into(),
            });
        }
    }
}

/// A name that somebody else has is a conflict, never an invitation.
fn taken_names(lab: &LabName, wanted: &Wanted, world: &World, found: &mut Vec<Refusal>) {
    let taken = &world.host.taken;
    for node in wanted.nodes.keys() {
        let name = netns(lab, node);
        if taken.namespaces.contains(&name) {
            found.push(Refusal {
                what: format!(
                    "namespace `{name}` exists and is not ours; node `{node}` would need that name"
                ),
                hint: format!(
                    "if nobody needs it, `ip netns del {name}`; or give the lab another name with `--lab`"
                ),
            });
        }
    }
    let bridges =
        wanted.switches.values().map(|s| (&s.device, &s.altname, format!("switch `{}`", s.name)));
    let ends = wanted.links.values().flat_map(|link| {
        link.ports.iter().zip(&link.veth.ends).map(|(port, end)| {
            let altname = end.altname.as_ref().expect("an end at a switch has a full name");
            (&port.device, altname, format!("link `{}`", link.veth.link))
        })
    });
    for (device, altname, what) in bridges.chain(ends) {
        for name in [device.as_str(), altname] {
            let Some(alias) = taken.devices.get(name) else { continue };
            let whose =
                if alias.is_empty() { String::new() } else { format!(" (alias `{alias}`)") };
            found.push(Refusal {
                what: format!("device `{name}`{whose} exists and is not ours; {what} would need that name"),
                hint: format!(
                    "if nobody needs it, `ip link del {name}`; or give the lab another name with `--lab`"
                ),
            });
        }
    }
    for (node, seen) in &world.host.nodes {
        let Some(wanted) = wanted.nodes.get(node) else { continue };
        for device in wanted.addresses.keys().filter(|d| seen.foreign.contains(d.as_str())) {
            found.push(Refusal {
                what: format!("node `{node}` already has an interface `{device}` that is not ours"),
                hint: format!(
                    "rename or delete it: `ip -n {} link del {device}`",
                    netns(lab, node)
                ),
            });
        }
    }
}
