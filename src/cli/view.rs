//! What is there, in the shape in which it is shown: by `status`, by the
//! lists, as text and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{CliError, input, show};
use crate::engine::attachments::Attachments;
use crate::engine::{Engine, EngineError, Status};
use crate::model::mark::{Mark, Thing, netns};
use crate::model::names::{IfName, LabName};
use crate::model::topology::{Policing, PortSettings, Shaping, Vlan};
use crate::model::world::{KernelRoute, PortKind, SeenPort, SeenSwitch, World};
use crate::plan::attach::Attached;
use crate::plan::text;
use crate::switch::{Counters, Standing, Traffic};

/// What a list of the things of a lab takes.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Prints the things of one kind.
    pub(super) async fn show<T: Serialize>(
        &self,
        command: &str,
        things: impl Fn(&LabView) -> &[T],
        table: impl Fn(&LabView) -> Vec<Vec<String>>,
    ) -> Result<(), CliError> {
        let mut engine = input::engine(command).await?;
        let lab = input::one_lab(&mut engine, self.lab.as_deref()).await?;
        let view = LabView::look(&mut engine, &lab).await?;
        if self.json {
            show::json(&things(&view));
        } else {
            show::line(&show::table(&table(&view)));
        }
        Ok(())
    }
}

/// One lab.
#[derive(Debug, Serialize)]
pub(super) struct LabView {
    pub(super) lab: String,
    /// `up`, `drifted`, `cut off`, or `unremembered`.
    pub(super) state: &'static str,
    /// The command that was killed in the middle of a change.
    pub(super) cut_off: Option<String>,
    /// What `ovsns up` would do to mend it; behind `! `, what keeps it from that.
    pub(super) drift: Vec<String>,
    /// What is wrong with what the lab depends on.
    pub(super) troubles: Vec<String>,
    pub(super) switches: Vec<SwitchView>,
    pub(super) nodes: Vec<NodeView>,
    pub(super) links: Vec<LinkView>,
    pub(super) uplinks: Vec<UplinkView>,
}

#[derive(Debug, Serialize)]
pub(super) struct SwitchView {
    pub(super) name: String,
    pub(super) backend: String,
    pub(super) device: String,
    pub(super) mac: String,
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// Why it has to be made anew.
    pub(super) broken: Option<String>,
    pub(super) stp: bool,
    pub(super) rstp: bool,
    pub(super) forward_delay_s: Option<u32>,
    pub(super) ageing_s: u32,
    pub(super) multicast_snooping: bool,
    pub(super) vlan_filtering: bool,
    /// How Open vSwitch forwards: `system` or `netdev`.
    pub(super) datapath: Option<String>,
    /// Its part in OpenFlow, if it has one.
    pub(super) openflow: Option<OpenFlowView>,
    pub(super) ports: Vec<PortView>,
    /// The forwarding table.
    pub(super) learned: Vec<LearnedView>,
}

#[derive(Debug, Serialize)]
pub(super) struct OpenFlowView {
    /// `standalone` or `secure`.
    pub(super) fail_mode: Option<String>,
    /// Its number among switches, if it works.
    pub(super) datapath_id: Option<String>,
    /// The versions it speaks; empty for all.
    pub(super) protocols: Vec<String>,
    /// Its controllers, those that others gave it among them.
    pub(super) controllers: Vec<ControllerView>,
    /// How many flows of ours it has.
    pub(super) flows: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct ControllerView {
    pub(super) target: String,
    /// As the switch saw it some seconds ago.
    pub(super) connected: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct PortView {
    pub(super) device: String,
    /// What is at the other end, such as `n1:eth0`; nothing where the port is
    /// somebody else's.
    pub(super) across: Option<String>,
    pub(super) isolated: bool,
    pub(super) vlan: Option<u16>,
    pub(super) trunks: Vec<u16>,
    pub(super) native: Option<u16>,
    pub(super) qinq: Option<QinqView>,
    pub(super) policing: Option<Policing>,
    pub(super) shaping: Option<Shaping>,
    /// All of these in words.
    #[serde(skip)]
    pub(super) settings: String,
    /// Why it does not work, although all is set as it should be.
    pub(super) broken: Option<String>,
    pub(super) counters: CountersView,
}

#[derive(Debug, Serialize)]
pub(super) struct QinqView {
    /// The outer VLAN.
    pub(super) vlan: u16,
    /// The inner ones that pass; empty for all.
    pub(super) customers: Vec<u16>,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct CountersView {
    pub(super) rx_packets: u64,
    pub(super) rx_bytes: u64,
    pub(super) tx_packets: u64,
    pub(super) tx_bytes: u64,
    pub(super) dropped: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct LearnedView {
    pub(super) mac: String,
    pub(super) port: String,
    pub(super) across: Option<String>,
    pub(super) vlan: Option<u16>,
}

#[derive(Debug, Serialize)]
pub(super) struct NodeView {
    pub(super) name: String,
    pub(super) netns: String,
    pub(super) interfaces: Vec<InterfaceView>,
    pub(super) routes: Vec<RouteView>,
}

#[derive(Debug, Serialize)]
pub(super) struct InterfaceView {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) mac: String,
    pub(super) mtu: u32,
    pub(super) up: bool,
    pub(super) carrier: bool,
    /// With our mark.
    pub(super) addresses: Vec<String>,
    /// Added by others.
    pub(super) foreign_addresses: Vec<String>,
    /// The switch or interface at the other end.
    pub(super) to: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct RouteView {
    pub(super) to: String,
    pub(super) via: Option<String>,
    pub(super) device: String,
    pub(super) metric: u32,
}

/// A NIC of the machine that is a port of a switch.
#[derive(Debug, Serialize)]
pub(super) struct UplinkView {
    pub(super) nic: String,
    pub(super) switch: String,
    /// The local device, which has the machine's addresses.
    pub(super) local: String,
    /// What to confirm within how long, if that is still to be done.
    pub(super) unconfirmed: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LinkView {
    pub(super) ends: [String; 2],
    /// Of its links in the kernel; a way inside Open vSwitch has none.
    pub(super) mtu: Option<u32>,
    /// Whether both ends are up and have carrier.
    pub(super) up: bool,
}

impl LabView {
    /// Looks at a lab, with what its switches have counted and learned.
    pub(super) async fn look(engine: &mut Engine, lab: &LabName) -> Result<Self, EngineError> {
        let status = engine.status(lab).await?;
        let mut switches = Vec::new();
        for seen in status.world.fabric.switches.values() {
            let (mut traffic, mut standing) = (Traffic::default(), None);
            if let Some(switch) = engine.switch(seen.spec.backend) {
                let failed = EngineError::ObserveSwitches;
                traffic = switch.traffic(&seen.spec).await.map_err(failed)?;
                if let Some(openflow) = switch.openflow() {
                    standing = Some(openflow.standing(&seen.spec).await.map_err(failed)?);
                }
            }
            switches.push(switch_view(&status.world, seen, &traffic, standing));
        }
        let uplinks = uplinks(engine, lab)?;
        let nodes = nodes(lab, &status.world);
        let links = links(&status.world, &nodes);
        Ok(Self {
            lab: lab.to_string(),
            state: state(&status),
            cut_off: status.cut_off,
            drift: status.drift,
            troubles: status.troubles,
            switches,
            nodes,
            links,
            uplinks,
        })
    }
}

fn uplinks(engine: &Engine, lab: &LabName) -> Result<Vec<UplinkView>, EngineError> {
    let Attachments { nics, change, boot: _ } = engine.attachments(lab)?;
    let change = change.filter(|change| change.proved);
    let view = |(nic, attached): (&IfName, &Attached)| UplinkView {
        nic: nic.to_string(),
        switch: attached.switch.name.to_string(),
        local: attached.local.link.name.to_string(),
        unconfirmed: change.as_ref().filter(|c| c.nics.contains(nic)).map(|c| c.id.clone()),
    };
    Ok(nics.iter().map(view).collect())
}

fn state(status: &Status) -> &'static str {
    match status {
        Status { cut_off: Some(_), .. } => "cut off",
        Status { lab: None, .. } => "unremembered",
        Status { drift, .. } if !drift.is_empty() => "drifted",
        Status { .. } => "up",
    }
}

/// What a port of ours leads to, by its mark.
fn across(world: &World, device: &IfName) -> Option<String> {
    if world.uplinks.contains_key(device) {
        return Some(format!("NIC {device}"));
    }
    let by_switch = world.fabric.switches.values().find_map(|seen| seen.ports.get(device));
    let mark = by_switch.map(|port| port.mark.as_str()).filter(|mark| !mark.is_empty());
    let mark = match mark {
        Some(mark) => mark,
        None => &world.host.ports.get(device)?.alias,
    };
    match Mark::parse(mark)?.thing {
        Thing::Port(port) => Some(match port.split_once(['~', '@']) {
            // A trunk's port is called `HERE~ACROSS#NUMBER`, a tunnel's
            // `HERE@TUNNEL`.
            Some((_, across)) => across.split('#').next().unwrap_or(across).to_owned(),
            None => port,
        }),
        Thing::Node(_) | Thing::Switch(_) | Thing::Interface(..) => None,
    }
}

fn switch_view(
    world: &World,
    seen: &SeenSwitch,
    traffic: &Traffic,
    standing: Option<Standing>,
) -> SwitchView {
    let spec = &seen.spec;
    let ports = seen.ports.iter().map(|(device, port)| {
        let counters = traffic.counters.get(device).copied().unwrap_or_default();
        port_view(device, across(world, device), port, counters)
    });
    let learned = traffic.learned.iter().map(|entry| LearnedView {
        mac: entry.mac.to_string(),
        port: entry.port.to_string(),
        across: across(world, &entry.port),
        vlan: entry.vlan,
    });
    SwitchView {
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
        openflow: standing.map(|standing| openflow_view(seen, standing)),
        ports: ports.collect(),
        learned: learned.collect(),
    }
}

fn openflow_view(seen: &SeenSwitch, standing: Standing) -> OpenFlowView {
    let openflow = &seen.spec.settings.openflow;
    let controllers = standing.controllers.into_iter();
    OpenFlowView {
        fail_mode: openflow.fail_mode.map(|mode| mode.to_string()),
        datapath_id: standing.datapath_id,
        protocols: openflow.protocols.iter().cloned().collect(),
        controllers: controllers
            .map(|(target, connected)| ControllerView { target, connected })
            .collect(),
        flows: seen.flows.len(),
    }
}

fn port_view(
    device: &IfName,
    across: Option<String>,
    port: &SeenPort,
    counters: Counters,
) -> PortView {
    let Counters { rx_packets, rx_bytes, tx_packets, tx_bytes, dropped } = counters;
    let PortSettings { isolated, vlan, policing, shaping } = &port.settings;
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
    PortView {
        device: device.to_string(),
        across,
        isolated: *isolated,
        vlan,
        trunks,
        native,
        qinq,
        policing: *policing,
        shaping: shaping.clone(),
        settings: text::settings(&port.settings).trim_start().to_owned(),
        broken: port.broken.clone(),
        counters: CountersView { rx_packets, rx_bytes, tx_packets, tx_bytes, dropped },
    }
}

fn nodes(lab: &LabName, world: &World) -> Vec<NodeView> {
    // Which switch each port device is plugged into.
    let plugged: BTreeMap<&IfName, &str> = world
        .fabric
        .switches
        .values()
        .flat_map(|seen| seen.ports.keys().map(|device| (device, seen.spec.name.as_str())))
        .collect();
    let switch_of: BTreeMap<String, &str> = plugged
        .iter()
        .filter_map(|(device, switch)| Some((across(world, device)?, *switch)))
        .collect();
    let node = |(name, seen): (&crate::model::names::NodeName, &crate::model::world::SeenNode)| {
        let interfaces = seen.devices.iter().map(|(device, link)| {
            let (interface, far) = match Mark::parse(&link.alias).map(|mark| mark.thing) {
                Some(Thing::Interface(_, interface, far)) => (interface.to_string(), far),
                _ => (device.to_string(), None),
            };
            let to = match far {
                Some((node, interface)) => Some(format!("{node}:{interface}")),
                None => switch_of.get(&format!("{name}:{interface}")).map(|s| (*s).to_owned()),
            };
            let texts = |set: Option<&std::collections::BTreeSet<ipnet::IpNet>>| {
                set.into_iter().flatten().map(ToString::to_string).collect()
            };
            InterfaceView {
                name: interface,
                device: device.to_string(),
                mac: link.mac.to_string(),
                mtu: link.mtu,
                up: link.up,
                carrier: link.carrier,
                addresses: texts(seen.addresses.get(device)),
                foreign_addresses: texts(seen.foreign_addresses.get(device)),
                to,
            }
        });
        NodeView {
            name: name.to_string(),
            netns: netns(lab, name),
            interfaces: interfaces.collect(),
            routes: seen.routes.iter().map(route_view).collect(),
        }
    };
    world.host.nodes.iter().map(node).collect()
}

fn route_view(route: &KernelRoute) -> RouteView {
    let to = if route.to.prefix_len() == 0 { "default".into() } else { route.to.to_string() };
    RouteView {
        to,
        via: route.via.map(|via| via.to_string()),
        device: route.device.to_string(),
        metric: route.metric,
    }
}

/// Links as their ends tell of them: interfaces with what is across, and
/// trunks by their ports.
fn links(world: &World, nodes: &[NodeView]) -> Vec<LinkView> {
    let mut links = Vec::new();
    for node in nodes {
        for interface in &node.interfaces {
            let here = format!("{}:{}", node.name, interface.name);
            let Some(to) = &interface.to else { continue };
            // A cable is told of by both its ends.
            if to.contains(':') && *to < here {
                continue;
            }
            let up = interface.up && interface.carrier;
            links.push(LinkView { ends: [here, to.clone()], mtu: Some(interface.mtu), up });
        }
    }
    for seen in world.fabric.switches.values() {
        let here = seen.spec.name.to_string();
        for (device, port) in &seen.ports {
            let Some(across) = across(world, device) else { continue };
            if across.contains(':') || across < here {
                continue;
            }
            let link = |device: &IfName| world.host.ports.get(device);
            let is_up = |device: &IfName| link(device).is_some_and(|it| it.up && it.carrier);
            let mtu = |device: &IfName| Some(link(device)?.mtu);
            let (mtu, up) = match &port.kind {
                PortKind::Link => (mtu(device), is_up(device)),
                PortKind::Bond { members, .. } => {
                    (members.iter().filter_map(mtu).min(), members.iter().any(is_up))
                }
                PortKind::Patch { .. } => (None, seen.up && port.broken.is_none()),
                PortKind::Tunnel { .. } => continue,
            };
            links.push(LinkView { ends: [here.clone(), across], mtu, up });
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::json;

    use super::*;
    use crate::model::topology::Queue;

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
            let device = IfName::new("v0").expect("a good name");
            let view = |settings: PortSettings| {
                let (kind, mark) = (PortKind::Link, String::new());
                let port = SeenPort { kind, settings, number: None, mark, broken: None };
                port_view(&device, None, &port, Counters::default())
            };
            let seen = view(settings);
            assert_eq!(seen.settings, words);
            let fields = |view| serde_json::to_value(view).expect("JSON");
            let mut expected = fields(view(PortSettings::default()));
            for (key, value) in json.as_object().expect("an object") {
                expected[key] = value.clone();
            }
            assert_eq!(fields(seen), expected);
        }
    }
}
