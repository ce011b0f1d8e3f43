//! Switches and their ports, as they are shown.

use std::collections::BTreeSet;

use serde::Serialize;

use super::across;
use crate::model::names::IfName;
use crate::model::topology::{Export, Policing, PortSettings, Shaping, Vlan};
use crate::model::world::{MirrorSpec, PortKind, SeenPort, SeenSwitch, World};
use crate::plan::text;
use crate::switch::{Bonding, Counters, Standing, Traffic};

#[derive(Debug, Serialize)]
pub(in crate::cli) struct SwitchView {
    pub(in crate::cli) name: String,
    pub(in crate::cli) backend: String,
    pub(in crate::cli) device: String,
    pub(in crate::cli) mac: String,
    pub(in crate::cli) mtu: u32,
    pub(in crate::cli) up: bool,
    /// Why it has to be made anew.
    pub(in crate::cli) broken: Option<String>,
    pub(in crate::cli) stp: bool,
    pub(in crate::cli) rstp: bool,
    pub(in crate::cli) forward_delay_s: Option<u32>,
    pub(in crate::cli) ageing_s: u32,
    pub(in crate::cli) multicast_snooping: bool,
    pub(in crate::cli) vlan_filtering: bool,
    /// How Open vSwitch forwards: `system` or `netdev`.
    pub(in crate::cli) datapath: Option<String>,
    /// Its part in OpenFlow, if it has one.
    pub(in crate::cli) openflow: Option<OpenFlowView>,
    /// Where it reports its flows.
    pub(in crate::cli) export: Export,
    pub(in crate::cli) mirrors: Vec<MirrorView>,
    /// The names of mirrors that others made.
    pub(in crate::cli) foreign_mirrors: Vec<String>,
    pub(in crate::cli) ports: Vec<PortView>,
    /// The forwarding table.
    pub(in crate::cli) learned: Vec<LearnedView>,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct OpenFlowView {
    /// `standalone` or `secure`.
    pub(in crate::cli) fail_mode: Option<String>,
    /// Its number among switches, if it works.
    pub(in crate::cli) datapath_id: Option<String>,
    /// The versions it speaks; empty for all.
    pub(in crate::cli) protocols: Vec<String>,
    /// Whether controllers are reached through the switch itself.
    pub(in crate::cli) in_band: bool,
    /// Its controllers, those that others gave it among them.
    pub(in crate::cli) controllers: Vec<ControllerView>,
    /// How many flows of ours it has.
    pub(in crate::cli) flows: usize,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct ControllerView {
    pub(in crate::cli) target: String,
    /// As the switch saw it some seconds ago.
    pub(in crate::cli) connected: bool,
    /// `other`, `master` or `slave`, if it is connected.
    pub(in crate::cli) role: Option<String>,
}

/// A copy of some of a switch's frames. Ports go by what is at their other
/// ends.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct MirrorView {
    pub(in crate::cli) name: String,
    /// Whether all frames are copied.
    pub(in crate::cli) all: bool,
    pub(in crate::cli) from: Vec<String>,
    pub(in crate::cli) to: Vec<String>,
    /// Only these; empty for all.
    pub(in crate::cli) vlans: Vec<u16>,
    pub(in crate::cli) output: String,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct PortView {
    pub(in crate::cli) device: String,
    /// What is at the other end, such as `n1:eth0`; nothing where the port is
    /// somebody else's.
    pub(in crate::cli) across: Option<String>,
    #[serde(flatten)]
    pub(in crate::cli) kind: KindView,
    #[serde(flatten)]
    pub(in crate::cli) settings: SettingsView,
    /// Why it does not work, although all is set as it should be.
    pub(in crate::cli) broken: Option<String>,
    pub(in crate::cli) counters: CountersView,
}

/// What is plugged into a port.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(in crate::cli) enum KindView {
    /// A link of the kernel.
    Link,
    /// A way inside Open vSwitch.
    Patch { peer: String },
    /// Several links that pass for one.
    Bond {
        #[serde(flatten)]
        bond: BondView,
        cables: Vec<CableView>,
    },
    /// A way to another host.
    Tunnel {
        /// `vxlan`, `geneve` or `gre`.
        tunnel: String,
        remote: String,
        local: Option<String>,
        key: Option<u32>,
        destination_port: Option<u16>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct BondView {
    /// `active-backup`, `balance-slb` or `balance-tcp`.
    pub(in crate::cli) mode: String,
    /// `active` or `off`.
    pub(in crate::cli) lacp: String,
    /// Whether both ends agreed by LACP.
    pub(in crate::cli) agreed: Option<bool>,
    pub(in crate::cli) members: usize,
}

/// A link of a bond.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct CableView {
    pub(in crate::cli) device: String,
    /// Whether frames may take it; nothing where the switch does not say.
    pub(in crate::cli) enabled: Option<bool>,
    /// Whether it is the one that takes all, or what cannot be spread.
    pub(in crate::cli) active: bool,
}

/// What a port does with frames.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct SettingsView {
    pub(in crate::cli) isolated: bool,
    pub(in crate::cli) vlan: Option<u16>,
    pub(in crate::cli) trunks: Vec<u16>,
    pub(in crate::cli) native: Option<u16>,
    pub(in crate::cli) qinq: Option<QinqView>,
    pub(in crate::cli) policing: Option<Policing>,
    pub(in crate::cli) shaping: Option<Shaping>,
    /// All of these in words.
    #[serde(skip)]
    pub(in crate::cli) words: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct QinqView {
    /// The outer VLAN.
    pub(in crate::cli) vlan: u16,
    /// The inner ones that pass; empty for all.
    pub(in crate::cli) customers: Vec<u16>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(in crate::cli) struct CountersView {
    pub(in crate::cli) rx_packets: u64,
    pub(in crate::cli) rx_bytes: u64,
    pub(in crate::cli) tx_packets: u64,
    pub(in crate::cli) tx_bytes: u64,
    pub(in crate::cli) dropped: u64,
}

#[derive(Debug, Serialize)]
pub(in crate::cli) struct LearnedView {
    pub(in crate::cli) mac: String,
    pub(in crate::cli) port: String,
    pub(in crate::cli) across: Option<String>,
    pub(in crate::cli) vlan: Option<u16>,
}

impl SwitchView {
    pub(super) fn new(
        world: &World,
        seen: &SeenSwitch,
        traffic: &Traffic,
        standing: Option<Standing>,
    ) -> Self {
        let spec = &seen.spec;
        let ports = seen.ports.iter().map(|(device, port)| {
            let counters = traffic.counters.get(device).copied().unwrap_or_default();
            let bonding = traffic.bonds.get(device).cloned().unwrap_or_default();
            PortView::new(device, across(world, device), port, counters, &bonding)
        });
        let learned = traffic.learned.iter().map(|entry| LearnedView {
            mac: entry.mac.to_string(),
            port: entry.port.to_string(),
            across: across(world, &entry.port),
            vlan: entry.vlan,
        });
        Self {
            name: spec.name.to_string(),
            backend: spec.backend.to_string(),
            device: spec.device.to_string(),
            mac: spec.mac.to_string(),
            mtu: spec.mtu,
            up: seen.up,
            broken: seen.broken.clone(),
            stp: spec.settings.stp,
            rstp: spec.settings.rstp,
            forward_delay_s: spec.settings.forward_delay_s,
            ageing_s: spec.settings.ageing_s,
            multicast_snooping: spec.settings.multicast_snooping,
            vlan_filtering: spec.vlan_filtering,
            datapath: spec.datapath.map(|datapath| datapath.to_string()),
            openflow: standing.map(|standing| OpenFlowView::new(seen, standing)),
            export: spec.settings.export.clone(),
            mirrors: seen.mirrors.values().map(|mirror| MirrorView::new(world, mirror)).collect(),
            foreign_mirrors: seen.foreign_mirrors.iter().cloned().collect(),
            ports: ports.collect(),
            learned: learned.collect(),
        }
    }
}

impl OpenFlowView {
    fn new(seen: &SeenSwitch, standing: Standing) -> Self {
        let openflow = &seen.spec.settings.openflow;
        let controllers = standing.controllers.into_iter();
        Self {
            fail_mode: openflow.fail_mode.map(|mode| mode.to_string()),
            datapath_id: standing.datapath_id,
            protocols: openflow.protocols.iter().cloned().collect(),
            in_band: openflow.in_band,
            controllers: controllers
                .map(|(target, contact)| ControllerView {
                    target,
                    connected: contact.connected,
                    role: contact.role,
                })
                .collect(),
            flows: seen.flows.len(),
        }
    }
}

impl MirrorView {
    fn new(world: &World, mirror: &MirrorSpec) -> Self {
        let name = |port: &IfName| across(world, port).unwrap_or_else(|| port.to_string());
        let names = |ports: &BTreeSet<IfName>| ports.iter().map(name).collect();
        Self {
            name: mirror.name.to_string(),
            all: mirror.all,
            from: names(&mirror.from),
            to: names(&mirror.to),
            vlans: mirror.vlans.iter().copied().collect(),
            output: name(&mirror.output),
        }
    }
}

impl PortView {
    fn new(
        device: &IfName,
        across: Option<String>,
        port: &SeenPort,
        counters: Counters,
        bonding: &Bonding,
    ) -> Self {
        let Counters { rx_packets, rx_bytes, tx_packets, tx_bytes, dropped } = counters;
        Self {
            device: device.to_string(),
            across,
            kind: KindView::new(&port.kind, bonding),
            settings: SettingsView::new(&port.settings),
            broken: port.broken.clone(),
            counters: CountersView { rx_packets, rx_bytes, tx_packets, tx_bytes, dropped },
        }
    }
}

impl KindView {
    fn new(kind: &PortKind, bonding: &Bonding) -> Self {
        match kind {
            PortKind::Link => Self::Link,
            PortKind::Patch { peer } => Self::Patch { peer: peer.to_string() },
            PortKind::Bond { members, mode, lacp, primary: _ } => {
                let cables = members.iter().map(|device| {
                    let state = bonding.members.get(device);
                    CableView {
                        device: device.to_string(),
                        enabled: state.map(|state| state.enabled),
                        active: state.is_some_and(|state| state.active),
                    }
                });
                let bond = BondView {
                    mode: mode.to_string(),
                    lacp: lacp.to_string(),
                    agreed: bonding.agreed,
                    members: members.len(),
                };
                Self::Bond { bond, cables: cables.collect() }
            }
            PortKind::Tunnel { kind, remote, local, key, destination_port } => Self::Tunnel {
                tunnel: kind.to_string(),
                remote: remote.to_string(),
                local: local.map(|local| local.to_string()),
                key: *key,
                destination_port: *destination_port,
            },
        }
    }
}

impl SettingsView {
    fn new(port: &PortSettings) -> Self {
        let PortSettings { isolated, vlan, policing, shaping, hands_off: _ } = port;
        let (vlan, trunks, native, qinq) = match vlan {
            None => (None, Vec::new(), None, None),
            Some(Vlan::Access(id)) => (Some(*id), Vec::new(), None, None),
            Some(Vlan::Trunk { vlans, native }) => {
                (None, vlans.iter().copied().collect(), *native, None)
            }
            Some(Vlan::Tunnel { vlan, customers }) => {
                let customers = customers.iter().copied().collect();
                (None, Vec::new(), None, Some(QinqView { vlan: *vlan, customers }))
            }
        };
        Self {
            isolated: *isolated,
            vlan,
            trunks,
            native,
            qinq,
            policing: *policing,
            shaping: shaping.clone(),
            words: text::settings(port).trim_start().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::model::topology::{BondMode, Lacp, Queue, TunnelKind};
    use crate::switch::Member;

    #[test]
    fn settings_of_ports() {
        let none = PortSettings::default;
        check(none(), "", json!({}));
        check(
            PortSettings { isolated: true, vlan: Some(Vlan::Access(7)), ..none() },
            "isolated vlan 7",
            json!({ "isolated": true, "vlan": 7 }),
        );
        let trunk = Vlan::Trunk { vlans: BTreeSet::from([7, 8]), native: Some(8) };
        check(
            PortSettings { vlan: Some(trunk), ..none() },
            "trunks 7,8 native 8",
            json!({ "trunks": [7, 8], "native": 8 }),
        );
        let qinq = Vlan::Tunnel { vlan: 100, customers: BTreeSet::from([7, 8]) };
        check(
            PortSettings { vlan: Some(qinq), ..none() },
            "qinq 100 for 7,8",
            json!({ "qinq": { "vlan": 100, "customers": [7, 8] } }),
        );
        let policing = Some(Policing { rate_kbps: 1000, burst_kb: 800 });
        let queue = Queue { min_kbps: Some(500), max_kbps: None };
        let shaping = Some(Shaping { rate_kbps: 2000, queues: BTreeMap::from([(1, queue)]) });
        check(
            PortSettings { policing, shaping, ..none() },
            "policed to 1000 kbit/s (burst 800 kbit) shaped to 2000 kbit/s (queues 1)",
            json!({
                "policing": { "rate_kbps": 1000, "burst_kb": 800 },
                "shaping": {
                    "rate_kbps": 2000,
                    "queues": { "1": { "min_kbps": 500, "max_kbps": null } },
                },
            }),
        );

        /// `json` is what differs from an ordinary port.
        #[track_caller]
        fn check(settings: PortSettings, words: &str, json: serde_json::Value) {
            let seen = SettingsView::new(&settings);
            assert_eq!(seen.words, words);
            let fields = |view| serde_json::to_value(view).expect("JSON");
            let mut expected = fields(SettingsView::default());
            for (key, value) in json.as_object().expect("an object") {
                expected[key] = value.clone();
            }
            assert_eq!(fields(seen), expected);
        }
    }

    #[test]
    fn kinds_of_ports() {
        let name = |name| IfName::new(name).expect("a good name");
        check(PortKind::Link, json!({ "kind": "link" }));
        check(PortKind::Patch { peer: name("p") }, json!({ "kind": "patch", "peer": "p" }));
        let bond = PortKind::Bond {
            members: BTreeSet::from([name("a.1"), name("a.2")]),
            mode: BondMode::BalanceSlb,
            lacp: Lacp::Active,
            primary: None,
        };
        check(
            bond,
            json!({
                "kind": "bond", "mode": "balance-slb", "lacp": "active", "agreed": true,
                "members": 2,
                "cables": [
                    { "device": "a.1", "enabled": true, "active": true },
                    { "device": "a.2", "enabled": null, "active": false },
                ],
            }),
        );

        let tunnel = PortKind::Tunnel {
            kind: TunnelKind::Geneve,
            remote: "fd00::2".parse().expect("an address"),
            local: None,
            key: Some(77),
            destination_port: None,
        };
        check(
            tunnel,
            json!({
                "kind": "tunnel", "tunnel": "geneve", "remote": "fd00::2", "local": null,
                "key": 77, "destination_port": null,
            }),
        );

        #[track_caller]
        fn check(kind: PortKind, expected: serde_json::Value) {
            let one = IfName::new("a.1").expect("a good name");
            let members = BTreeMap::from([(one, Member { enabled: true, active: true })]);
            let view = KindView::new(&kind, &Bonding { agreed: Some(true), members });
            assert_eq!(serde_json::to_value(view).expect("JSON"), expected);
        }
    }
}
