//! Switches and their ports, as they are shown.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::across;
use crate::model::names::IfName;
use crate::model::topology::{Export, Policing, PortSettings, Shaping, Vlan};
use crate::model::world::{MirrorSpec, PortKind, SeenPort, SeenSwitch, World};
use crate::plan::text;
use crate::switch::{Bonding, Counters, Standing, Traffic};

/// A switch.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SwitchView {
    /// Its name.
    pub name: String,
    /// `ovs` or `linux`.
    pub backend: String,
    /// What the machine calls its bridge.
    pub device: String,
    /// Its Ethernet address.
    pub mac: String,
    /// In bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Why it has to be made anew.
    pub broken: Option<String>,
    /// Whether it speaks the spanning tree protocol.
    pub stp: bool,
    /// Whether it speaks the rapid one.
    pub rstp: bool,
    /// How long a port listens and learns each, in seconds.
    pub forward_delay_s: Option<u32>,
    /// How long an address is remembered, in seconds.
    pub ageing_s: u32,
    /// Whether groups go only where somebody listens.
    pub multicast_snooping: bool,
    /// Whether ports are of VLANs.
    pub vlan_filtering: bool,
    /// How Open vSwitch forwards: `system` or `netdev`.
    pub datapath: Option<String>,
    /// Its part in OpenFlow, if it has one.
    pub openflow: Option<OpenFlowView>,
    /// Where it reports its flows.
    pub export: Export,
    /// Its mirrors.
    pub mirrors: Vec<MirrorView>,
    /// The names of mirrors that others made.
    pub foreign_mirrors: Vec<String>,
    /// Its ports.
    pub ports: Vec<PortView>,
    /// The forwarding table.
    pub learned: Vec<LearnedView>,
}

/// A switch as controllers see it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct OpenFlowView {
    /// `standalone` or `secure`.
    pub fail_mode: Option<String>,
    /// Its number among switches, if it works.
    pub datapath_id: Option<String>,
    /// The versions it speaks; empty for all.
    pub protocols: Vec<String>,
    /// Whether controllers are reached through the switch itself.
    pub in_band: bool,
    /// Its controllers, those that others gave it among them.
    pub controllers: Vec<ControllerView>,
    /// How many flows of ours it has.
    pub flows: usize,
}

/// A controller.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ControllerView {
    /// Where it is, such as `tcp:127.0.0.1:6653`.
    pub target: String,
    /// As the switch saw it some seconds ago.
    pub connected: bool,
    /// `other`, `master` or `slave`, if it is connected.
    pub role: Option<String>,
}

/// A copy of some of a switch's frames. Ports go by what is at their other
/// ends.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct MirrorView {
    /// Its name.
    pub name: String,
    /// Whether all frames are copied.
    pub all: bool,
    /// What comes in by these ports.
    pub from: Vec<String>,
    /// What leaves by these.
    pub to: Vec<String>,
    /// Only these; empty for all.
    pub vlans: Vec<u16>,
    /// Where the copies go.
    pub output: String,
}

/// A port of a switch.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct PortView {
    /// What the machine calls it.
    pub device: String,
    /// What is at the other end, such as `n1:eth0`; nothing where the port is
    /// somebody else's.
    pub across: Option<String>,
    /// What is plugged into it.
    #[serde(flatten)]
    pub kind: KindView,
    /// What it does with frames.
    #[serde(flatten)]
    pub settings: SettingsView,
    /// Why it does not work, although all is set as it should be.
    pub broken: Option<String>,
    /// What has passed it.
    pub counters: CountersView,
}

/// What is plugged into a port.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KindView {
    /// A link of the kernel.
    Link,
    /// A way inside Open vSwitch.
    Patch {
        /// The port at the other end.
        peer: String,
    },
    /// Several links that pass for one.
    Bond {
        /// How they pass for one.
        #[serde(flatten)]
        bond: BondView,
        /// Each of them.
        cables: Vec<CableView>,
    },
    /// A way to another host.
    Tunnel {
        /// `vxlan`, `geneve` or `gre`.
        tunnel: String,
        /// The other host.
        remote: String,
        /// The address that it leaves by.
        local: Option<String>,
        /// What tells it from others between the same hosts.
        key: Option<u32>,
        /// The UDP port, if it is not the usual one.
        destination_port: Option<u16>,
    },
}

/// Several links that pass for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BondView {
    /// `active-backup`, `balance-slb` or `balance-tcp`.
    pub mode: String,
    /// `active` or `off`.
    pub lacp: String,
    /// Whether both ends agreed by LACP.
    pub agreed: Option<bool>,
    /// How many.
    pub members: usize,
}

/// A link of a bond.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CableView {
    /// What the machine calls it.
    pub device: String,
    /// Whether frames may take it; nothing where the switch does not say.
    pub enabled: Option<bool>,
    /// Whether it is the one that takes all, or what cannot be spread.
    pub active: bool,
}

/// What a port does with frames.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsView {
    /// Whether it hears only ports that are not isolated.
    pub isolated: bool,
    /// The VLAN of an access port.
    pub vlan: Option<u16>,
    /// The VLANs that pass it tagged.
    pub trunks: Vec<u16>,
    /// The VLAN that passes it untagged.
    pub native: Option<u16>,
    /// An outer tag.
    pub qinq: Option<QinqView>,
    /// How much may come in.
    pub policing: Option<Policing>,
    /// How much may leave.
    pub shaping: Option<Shaping>,
    /// All of these in words.
    pub words: String,
}

/// A port whose frames get an outer tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QinqView {
    /// The outer VLAN.
    pub vlan: u16,
    /// The inner ones that pass; empty for all.
    pub customers: Vec<u16>,
}

/// What has passed a port, since it was made.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
pub struct CountersView {
    /// Frames that came in.
    pub rx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Frames that left.
    pub tx_packets: u64,
    /// Bytes that left.
    pub tx_bytes: u64,
    /// Frames that were dropped.
    pub dropped: u64,
}

/// An entry of a forwarding table.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LearnedView {
    /// The Ethernet address.
    pub mac: String,
    /// The port that it is behind.
    pub port: String,
    /// What is at the other end of that.
    pub across: Option<String>,
    /// The VLAN it was seen in.
    pub vlan: Option<u16>,
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
            let mut expected = fields(SettingsView { words: words.into(), ..Default::default() });
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
