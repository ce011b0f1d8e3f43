//! Refusals: what stands in the way, found before anything is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use super::adopt;
use super::exits;
use super::lives;
use super::step::Place;
use super::wanted::Wanted;
use crate::model::flow;
use crate::model::impair::Impairments;
use crate::model::mark::{CUT_TABLE, netns};
use crate::model::names::{IfName, LabName, SwitchName};
use crate::model::topology::{
    Backend, Datapath, Export, FailMode, OpenFlow, PortSettings, SwitchSettings, TunnelKind, Vlan,
};
use crate::model::world::{
    Ability, Egress, ExportKind, FlowSpec, Foreign, PortKind, PortSpec, SwitchSpec, World,
};

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
    /// Why it is not here, if it is not.
    pub missing: Option<String>,
    /// Of what was asked for, what cannot be done, and why.
    pub cannot: BTreeMap<Need, String>,
    /// The flows that it was asked to read and could.
    pub flows: BTreeMap<Need, flow::Form>,
    /// The most ports that one switch can have.
    pub ports_max: usize,
    /// Whether its switches and ports are links of the lab's group, and go
    /// with `Step::SweepLinks`.
    pub swept_with_links: bool,
    /// How a new switch forwards that does not say it itself.
    pub datapath: Option<Datapath>,
    /// Whether the userspace datapath copes with the unfinished checksums of
    /// veths.
    pub checksums: bool,
    /// Why nothing can be done with its switches at the moment, if nothing can.
    pub asleep: Option<Refusal>,
}

/// Something that not every backend can do on every machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Ports in VLANs.
    Vlans,
    /// VLANs wrapped in VLANs.
    Qinq,
    /// Ports that do not hear each other.
    Isolation,
    /// The rapid spanning tree protocol.
    Rstp,
    /// The spanning tree protocol, at so many ports.
    Stp(usize),
    /// A forward delay of so many seconds, under STP.
    ForwardDelay(u32),
    /// Addresses forgotten after so many seconds.
    Ageing(u32),
    /// Copies of frames.
    Mirrors,
    /// Copies of the frames of some VLANs.
    MirrorVlans,
    /// A limit to what comes in, on that datapath.
    Policing(Option<Datapath>),
    /// A limit to what goes out.
    Shaping,
    /// Queues of what goes out, on that datapath.
    Queues(Option<Datapath>),
    /// Flows and controllers.
    OpenFlow,
    /// To read a flow.
    Flow {
        /// The flow, with numbers in place of names.
        text: String,
        /// The versions of OpenFlow that the switch speaks; none for all.
        protocols: BTreeSet<String>,
    },
    /// NetFlow, sFlow, IPFIX.
    Export,
    /// Several cables in place of one.
    Bonds,
    /// A tunnel to that host, on that datapath.
    Tunnel(TunnelKind, IpAddr, Option<Datapath>),
    /// Tunnels from that address.
    From(IpAddr),
    /// The address of that device, for sFlow.
    Agent(String),
    /// To forward in that way.
    Datapath(Datapath),
}

impl Need {
    /// What a switch that cannot serve it cannot do.
    fn verb(&self) -> String {
        match self {
            Self::Vlans => "do VLANs".into(),
            Self::Qinq => "wrap VLANs in VLANs".into(),
            Self::Isolation => "isolate ports".into(),
            Self::Stp(ports) => format!("speak the spanning tree protocol at {ports} ports"),
            Self::Rstp => "speak the rapid spanning tree protocol".into(),
            Self::ForwardDelay(seconds) => format!("have a forward delay of {seconds} s"),
            Self::Ageing(seconds) => format!("forget addresses after {seconds} s"),
            Self::Mirrors => "mirror ports".into(),
            Self::MirrorVlans => "mirror single VLANs".into(),
            Self::Policing(_) => "police what comes in".into(),
            Self::Shaping => "shape what goes out".into(),
            Self::Queues(_) => "have queues".into(),
            Self::OpenFlow => "speak OpenFlow".into(),
            Self::Flow { text, .. } => format!("read the flow `{text}`"),
            Self::Export => "export flows".into(),
            Self::Bonds => "bond links".into(),
            Self::Tunnel(kind, remote, _) => format!("have a {kind} tunnel to {remote}"),
            Self::From(local) => format!("have a tunnel from {local}"),
            Self::Agent(device) => format!("call itself by the address of `{device}`"),
            Self::Datapath(datapath) => format!("have the datapath `{datapath}`"),
        }
    }

    /// The way out on that backend.
    fn hint(&self, backend: Backend) -> String {
        let keys = match self {
            Self::Vlans => "`vlan`, `trunks` and `native` out of its links",
            Self::Qinq => "`qinq` out of its links",
            Self::Isolation => "`isolated` out of its links",
            Self::Stp(_) => {
                return "spread its links over two switches with a link between them".into();
            }
            Self::Rstp => return "say `stp: true`, or use another backend".into(),
            Self::ForwardDelay(_) => "`forward_delay` out",
            Self::Ageing(_) => "`ageing` out",
            Self::Mirrors => "`mirrors` out",
            Self::MirrorVlans => "`vlans` out of its mirrors",
            Self::Policing(_) => "`policing` out of its links",
            Self::Shaping => "`shaping` out of its links",
            Self::Queues(_) => "`queues` out of its links",
            Self::OpenFlow => {
                "`flows`, `controllers`, `protocols`, `fail_mode` and `datapath_id` out"
            }
            Self::Flow { .. } => {
                return "ovs-ofctl(8) and ovs-actions(7) say how flows are written; a port is \
                        `in_port=n1`, `output:n1`"
                    .into();
            }
            Self::Export => "`netflow`, `sflow` and `ipfix` out",
            Self::Bonds => "`bond` out of its links",
            Self::Tunnel(..) if backend == Backend::Ovs => {
                return "give this host the address where the userspace datapath finds it: on the \
                        local device of a bridge of its own that has the NIC as a port (README, \
                        Open vSwitch); or load the module `openvswitch`, and say `datapath: system`"
                    .into();
            }
            Self::Tunnel(..) => "its tunnel out",
            Self::From(_) => {
                return "give an address of this host (`ip address`), or leave `local` out".into();
            }
            Self::Agent(_) => {
                return "give a device of this host (`ip link`), or leave `agent` out".into();
            }
            Self::Datapath(_) => return "leave `datapath` out for the one there is".into(),
        };
        format!("leave {keys}, or use another backend")
    }
}

/// What `wanted` needs of the switches of each backend.
pub fn needs(wanted: &Wanted, world: &World) -> BTreeMap<Backend, BTreeSet<Need>> {
    let mut needs: BTreeMap<Backend, BTreeSet<Need>> = BTreeMap::new();
    for spec in wanted.switches.values() {
        let needs = needs.entry(spec.backend).or_default();
        needs.extend(needs_of(wanted, spec));
        for (flow, need) in flows_of(wanted, spec, world) {
            needs.insert(need);
            if flow::queues(&flow.text) {
                needs.insert(Need::Queues(spec.datapath));
            }
        }
    }
    needs
}

/// The flows of a switch in the order of the file, such as can be read without
/// a switch: [`flow::numbered`].
pub fn flow_texts(wanted: &Wanted, spec: &SwitchSpec, world: &World) -> Vec<String> {
    let flows = wanted.flows.iter().filter(|flow| flow.switch == spec.name);
    flow::numbered(flows.map(|flow| flow.text.as_str()), &wanted.numbers(spec, world))
}

/// The flows of a switch, each with the need to read it.
fn flows_of<'w>(wanted: &'w Wanted, spec: &SwitchSpec, world: &World) -> Vec<(&'w FlowSpec, Need)> {
    let flows = wanted.flows.iter().filter(|flow| flow.switch == spec.name);
    let texts = flow_texts(wanted, spec, world);
    let protocols = &spec.settings.openflow.protocols;
    let need = |text| Need::Flow { text, protocols: protocols.clone() };
    flows.zip(texts.into_iter().map(need)).collect()
}

/// The flow of the lab that takes the place of the one by which the switch
/// forwards by itself, if one does.
pub(super) fn in_place_of_own<'w>(
    wanted: &'w Wanted,
    spec: &SwitchSpec,
    world: &World,
    abilities: &[Abilities],
) -> Option<&'w FlowSpec> {
    let able = abilities.iter().find(|able| able.backend == spec.backend)?;
    let takes_it =
        |need: &Need| able.flows.get(need).is_some_and(|form| form.matches == "priority=0");
    flows_of(wanted, spec, world).into_iter().find(|(_, need)| takes_it(need)).map(|(flow, _)| flow)
}

fn needs_of(wanted: &Wanted, spec: &SwitchSpec) -> BTreeSet<Need> {
    let mut needs = BTreeSet::new();
    let mut want = |need: Need, is_wanted: bool| {
        if is_wanted {
            needs.insert(need);
        }
    };
    let SwitchSettings { stp, rstp, forward_delay_s, ageing_s, openflow, export, .. } =
        &spec.settings;
    let has_flows = wanted.flows.iter().any(|flow| flow.switch == spec.name);
    let plain = OpenFlow { fail_mode: openflow.fail_mode, ..OpenFlow::default() };
    let asks_openflow = match spec.backend {
        // It is filled in for every switch.
        Backend::Ovs => *openflow != plain || openflow.fail_mode == Some(FailMode::Secure),
        Backend::Linux => *openflow != OpenFlow::default(),
    };
    want(Need::Vlans, spec.vlan_filtering);
    want(Need::Stp(wanted.ports_of(&spec.name).count()), *stp);
    want(Need::Rstp, *rstp);
    want(Need::ForwardDelay(forward_delay_s.unwrap_or_default()), *stp || *rstp);
    want(Need::Ageing(*ageing_s), true);
    want(Need::OpenFlow, has_flows || asks_openflow);
    want(Need::Export, *export != Export::default());
    if let Some(agent) = export.sflow.as_ref().and_then(|sflow| sflow.agent.as_ref()) {
        want(Need::Agent(agent.clone()), true);
    }
    if let Some(datapath) = spec.datapath {
        want(Need::Datapath(datapath), true);
    }
    for mirror in wanted.mirrors.iter().filter(|mirror| mirror.switch == spec.name) {
        want(Need::Mirrors, true);
        want(Need::MirrorVlans, !mirror.vlans.is_empty());
    }
    for port in wanted.ports_of(&spec.name) {
        let PortSettings { isolated, vlan, policing, shaping, hands_off: _ } = &port.settings;
        want(Need::Isolation, *isolated);
        want(Need::Qinq, matches!(vlan, Some(Vlan::Tunnel { .. })));
        want(Need::Policing(spec.datapath), policing.is_some());
        want(Need::Shaping, shaping.is_some());
        let queues = shaping.as_ref().is_some_and(|s| s.queues.keys().any(|queue| *queue != 0));
        want(Need::Queues(spec.datapath), queues);
        match &port.kind {
            PortKind::Link | PortKind::Patch { .. } => {}
            PortKind::Bond { .. } => want(Need::Bonds, true),
            PortKind::Tunnel { kind, remote, local, .. } => {
                want(Need::Tunnel(*kind, *remote, spec.datapath), true);
                if let Some(local) = local {
                    want(Need::From(*local), true);
                }
            }
        }
    }
    needs
}

/// Names of bridges and ports that others have in a database.
fn taken_rows(wanted: &Wanted, world: &World, found: &mut Vec<Refusal>) {
    let of_ovs = |switch: &SwitchName| wanted.switches[switch].backend == Backend::Ovs;
    let bridges = wanted.switches.values().map(|spec| (&spec.name, &spec.device));
    let ports = wanted.ports.iter().map(|port| (&port.switch, &port.device));
    for (switch, device) in bridges.chain(ports).filter(|(switch, _)| of_ovs(switch)) {
        let Some(what) = world.fabric.taken.get(device.as_str()) else { continue };
        let delete = if *what == "a bridge" { "del-br" } else { "del-port" };
        found.push(Refusal {
            what: format!(
                "Open vSwitch has {what} `{device}` that is not ours; switch `{switch}` would \
                 need that name"
            ),
            hint: format!(
                "if nobody needs it, `ovs-vsctl {delete} {device}`; or give the lab another name \
                 with `--lab`"
            ),
        });
    }
}

/// Links of ours in ports of others.
fn in_ports(wanted: &Wanted, world: &World, found: &mut Vec<Refusal>) {
    for port in wanted.ports.iter().filter(|p| wanted.switches[&p.switch].backend == Backend::Ovs) {
        let names: Vec<&IfName> = match &port.kind {
            PortKind::Bond { members, .. } => members.iter().collect(),
            PortKind::Link | PortKind::Patch { .. } | PortKind::Tunnel { .. } => vec![&port.device],
        };
        for name in names {
            let Some(theirs) = world.fabric.in_ports.get(name.as_str()) else { continue };
            found.push(Refusal {
                what: format!(
                    "Open vSwitch has an interface `{name}` that is not ours, in port `{theirs}`; \
                     switch `{}` would need that name",
                    port.switch
                ),
                hint: format!("if nobody needs it, `ovs-vsctl del-port {theirs}`"),
            });
        }
    }
}

/// Exports and QoS of others, where ours would take their place.
fn replaced(wanted: &Wanted, world: &World, found: &mut Vec<Refusal>) {
    for foreign in &world.fabric.foreign {
        let (what, clear) = match foreign {
            Foreign::Export { bridge, kind } => {
                let Some(spec) = wanted.switches.values().find(|spec| spec.device == *bridge)
                else {
                    continue;
                };
                let Export { netflow, sflow, ipfix } = &spec.settings.export;
                let (wanted, what, column) = match kind {
                    ExportKind::Netflow => (netflow.is_some(), "NetFlow", "netflow"),
                    ExportKind::Sflow => (sflow.is_some(), "sFlow", "sflow"),
                    ExportKind::Ipfix => (ipfix.is_some(), "IPFIX", "ipfix"),
                };
                if !wanted {
                    continue;
                }
                let what = format!("switch `{}` has {what} that is not ours", spec.name);
                (what, format!("bridge {bridge} {column}"))
            }
            Foreign::Qos { port } => {
                let wants = |p: &PortSpec| p.device == *port && p.settings.shaping.is_some();
                if !wanted.ports.iter().any(wants) {
                    continue;
                }
                (format!("port `{port}` has a QoS that is not ours"), format!("port {port} qos"))
            }
        };
        found
            .push(Refusal { what, hint: format!("if nobody needs it, `ovs-vsctl clear {clear}`") });
    }
}

/// Everything about `wanted` that cannot be done here, all together.
pub fn refusals(
    lab: &LabName,
    wanted: &Wanted,
    world: &World,
    abilities: &[Abilities],
) -> Vec<Refusal> {
    let mut found = Vec::new();
    daemons(wanted, world, abilities, &mut found);
    replaced(wanted, world, &mut found);
    in_ports(wanted, world, &mut found);
    switches(wanted, world, abilities, &mut found);
    // What is in a namespace that is left is in nobody's way.
    let without = adopt::without(world, &adopt::left(wanted, world));
    taken_names(lab, wanted, &without, &mut found);
    for (node, wanted) in &wanted.nodes {
        for key in wanted.sysctls.keys().filter(|key| world.host.unknown_sysctls.contains(*key)) {
            found.push(Refusal {
                what: format!("node `{node}` sets `{key}`, which this kernel does not have"),
                hint: "`sysctl -a` lists what there is".into(),
            });
        }
    }
    found.extend(lives::refusals(wanted, world));
    routes_of_others(wanted, &without, &mut found);
    adopt::refusals(wanted, world, &mut found);
    impairments(lab, wanted, world, &mut found);
    exits::refusals(lab, wanted, world, &mut found);
    found.sort();
    found
}

/// Daemons that the lab's switches need, and that do not run.
fn daemons(wanted: &Wanted, world: &World, abilities: &[Abilities], found: &mut Vec<Refusal>) {
    let is_wanted = |backend| wanted.switches.values().any(|spec| spec.backend == backend);
    let seen = |backend| world.fabric.switches.values().any(|s| s.spec.backend == backend);
    for able in abilities.iter().filter(|able| is_wanted(able.backend) || seen(able.backend)) {
        found.extend(able.asleep.clone());
    }
    // What is to be done about flows cannot be said without them.
    for (switch, why) in &world.fabric.blind {
        if wanted.switches.get(switch).is_some_and(|spec| spec.backend == Backend::Ovs) {
            found.push(Refusal {
                what: format!("the flows of switch `{switch}` cannot be read: {why}"),
                hint: "`ovsns doctor` says how Open vSwitch is".into(),
            });
        }
    }
    // Switches that the lab is to have no more, and that nobody can see.
    for (backend, why) in world.unseen() {
        if !is_wanted(backend) {
            found.push(Refusal {
                what: format!("the lab has {backend} switches, and they cannot be seen: {why}"),
                hint: "start the daemon, or take it away".into(),
            });
        }
    }
}

/// A route of somebody else's to the same place: IPv4 keeps one for each
/// destination and metric.
fn routes_of_others(wanted: &Wanted, world: &World, found: &mut Vec<Refusal>) {
    for (node, want) in &wanted.nodes {
        let Some(seen) = world.host.nodes.get(node) else { continue };
        for route in want.routes.iter().filter(|r| r.to.addr().is_ipv4()) {
            let theirs = seen.foreign_routes.keys().find(|other| {
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

/// The abilities that the links of a lab need of the kernel.
pub fn abilities_of_links(wanted: &Wanted) -> BTreeSet<Ability> {
    let impaired = wanted.links.values().flat_map(|veth| &veth.impairments);
    let cut = wanted.nodes.values().any(|node| node.deaf.is_some());
    let nat = wanted.doors().map(|_| Ability::Nat);
    impaired.filter_map(ability).chain(cut.then_some(Ability::Cut)).chain(nat).collect()
}

fn ability(impairments: &Impairments) -> Option<Ability> {
    match (impairments.is_none(), impairments.is_rate()) {
        (true, _) => None,
        (false, true) => Some(Ability::Rate),
        (false, false) => Some(Ability::Netem),
    }
}

/// Impairments that the kernel cannot do, and those where somebody else has a
/// queueing discipline.
fn impairments(lab: &LabName, wanted: &Wanted, world: &World, found: &mut Vec<Refusal>) {
    let is_cut = wanted.nodes.iter().filter(|(_, node)| node.deaf.is_some());
    if let (Some(missing), Some((node, _))) =
        (world.host.cannot.get(&Ability::Cut), is_cut.into_iter().next())
    {
        found.push(Refusal {
            what: format!("node `{node}` cannot be cut from others: {missing}"),
            hint: "load that module, or use a kernel that has it; or take links down".into(),
        });
    }
    for (node, _) in wanted.nodes.iter().filter(|(_, node)| node.deaf.is_some()) {
        if world.host.nodes.get(node).is_some_and(|seen| seen.cut_taken) {
            let place = format!("ip netns exec {}", netns(lab, node));
            found.push(Refusal {
                what: format!(
                    "node `{node}` cannot be cut from others: it has a table `netdev {CUT_TABLE}` \
                     that is not ours"
                ),
                hint: format!("if nobody needs it, `{place} nft delete table netdev {CUT_TABLE}`"),
            });
        }
    }
    for veth in wanted.links.values() {
        let mut said = BTreeSet::new();
        for (end, impairments) in veth.ends.iter().zip(&veth.impairments) {
            let Some(ability) = ability(impairments) else { continue };
            if let Some(missing) = world.host.cannot.get(&ability) {
                let keys: Vec<_> = impairments.said().map(|(key, _)| key).collect();
                let keys =
                    keys.into_iter().filter(|key| *key != "rate" || ability == Ability::Rate);
                let keys: Vec<_> = keys.map(|key| format!("`{key}`")).collect();
                let what =
                    format!("link `{}` cannot have {}: {missing}", veth.link, keys.join(", "));
                let hint = match ability {
                    Ability::Rate | Ability::Cut | Ability::Nat => {
                        "load that module, or use a kernel that has it"
                    }
                    Ability::Netem => {
                        "load that module (`modprobe sch_netem`), or use a kernel that has it; \
                         `rate` alone needs another one"
                    }
                };
                if said.insert(what.clone()) {
                    found.push(Refusal { what, hint: hint.into() });
                }
            }
            let (seen, place) = match &end.at {
                Place::Host => (world.host.ports.get(&end.device), String::new()),
                Place::Node(node) => {
                    let node_seen = world.host.nodes.get(node);
                    let seen = node_seen.and_then(|seen| seen.devices.get(&end.device));
                    (seen, format!("ip netns exec {} ", netns(lab, node)))
                }
            };
            if let Some(Egress::Others(kind)) = seen.map(|seen| &seen.egress) {
                let device = &end.device;
                found.push(Refusal {
                    what: format!(
                        "link `{}` cannot be impaired: `{device}` has a queueing discipline \
                         `{kind}` that is not ours",
                        veth.link
                    ),
                    hint: format!(
                        "if nobody needs it, `{place}tc qdisc del dev {device} root`; if it is \
                         `shaping` of this lab, take that off first"
                    ),
                });
            }
        }
    }
}

fn switches(wanted: &Wanted, world: &World, abilities: &[Abilities], found: &mut Vec<Refusal>) {
    for (name, spec) in &wanted.switches {
        let able = abilities.iter().find(|able| able.backend == spec.backend);
        let missing = match able {
            None => Some("this machine has none"),
            Some(able) => able.missing.as_deref(),
        };
        if let Some(missing) = missing {
            found.push(Refusal {
                what: format!(
                    "switch `{name}` wants backend `{}`, which is not here: {missing}",
                    spec.backend
                ),
                hint: "`ovsns doctor` says what is missing; or leave `backend` out, or say `linux`"
                    .into(),
            });
        }
        let Some(able) = able.filter(|able| able.missing.is_none()) else { continue };
        let ports = wanted.ports_of(name).count();
        if able.ports_max < ports {
            found.push(Refusal {
                what: format!(
                    "switch `{name}` would have {ports} ports; a {} switch has {} at most",
                    able.backend, able.ports_max
                ),
                hint: "spread the nodes over two switches with a link between them".into(),
            });
        }
        for need in needs_of(wanted, spec) {
            if let Some(reason) = able.cannot.get(&need) {
                found.push(Refusal {
                    what: format!("switch `{name}` cannot {}: {reason}", need.verb()),
                    hint: need.hint(spec.backend),
                });
            }
        }
        if spec.backend == Backend::Ovs {
            flows(wanted, spec, world, able, found);
        }
    }
}

/// Flows that the switch cannot read, that name what is not there, or that
/// take each other's place.
fn flows(
    wanted: &Wanted,
    spec: &SwitchSpec,
    world: &World,
    able: &Abilities,
    found: &mut Vec<Refusal>,
) {
    let switch = &spec.name;
    let there = devices_on(wanted, spec, world);
    let mut read: BTreeMap<&str, &FlowSpec> = BTreeMap::new();
    for (flow, need) in flows_of(wanted, spec, world) {
        let words = &flow.words;
        for device in flow::devices(&flow.text).filter(|device| !there.contains(device)) {
            found.push(Refusal {
                what: format!(
                    "the flow `{words}` names `\"{device}\"`, which is not plugged into switch \
                     `{switch}`"
                ),
                hint: "without quotes it is a name of the lab, such as `n1`".into(),
            });
        }
        if let Some(reason) = able.cannot.get(&need) {
            found.push(Refusal {
                what: format!("switch `{switch}` cannot read the flow `{words}`: {reason}"),
                hint: need.hint(spec.backend),
            });
        }
        let queues = able.cannot.get(&Need::Queues(spec.datapath));
        if let Some(reason) = queues.filter(|_| flow::queues(&flow.text)) {
            found.push(Refusal {
                what: format!(
                    "the flow `{words}` uses a queue, and switch `{switch}` cannot have queues: \
                     {reason}"
                ),
                hint: "leave `set_queue` and `enqueue` out; queue 0 is the default one".into(),
            });
        }
        let Some(form) = able.flows.get(&need) else { continue };
        if let Some(other) = read.insert(&form.matches, flow)
            && other.cookie != flow.cookie
        {
            found.push(Refusal {
                what: format!(
                    "two flows of switch `{switch}` match the same packets: `{}` and `{words}`",
                    other.words
                ),
                hint: "it keeps one flow for each table, priority and match; take one out, or \
                       give it another `priority`"
                    .into(),
            });
        }
    }
}

/// What Open vSwitch calls the ports of a switch: the lab's as wanted, and
/// those that others plugged in.
fn devices_on<'w>(wanted: &'w Wanted, spec: &'w SwitchSpec, world: &'w World) -> BTreeSet<&'w str> {
    let mut devices = BTreeSet::from([spec.device.as_str()]);
    for port in wanted.ports_of(&spec.name) {
        match &port.kind {
            PortKind::Bond { members, .. } => devices.extend(members.iter().map(IfName::as_str)),
            PortKind::Link | PortKind::Patch { .. } | PortKind::Tunnel { .. } => {
                devices.insert(port.device.as_str());
            }
        }
    }
    let seen = world.fabric.switches.get(&spec.name);
    let others = seen.into_iter().flat_map(|seen| &seen.ports);
    devices.extend(others.filter(|(_, port)| port.mark.is_empty()).map(|(d, _)| d.as_str()));
    devices
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
    let ends = wanted.links.values().flat_map(|veth| {
        veth.ends.iter().filter(|end| end.at == Place::Host).map(|end| {
            let altname = end.altname.as_ref().expect("an end at a switch has a full name");
            (&end.device, altname, format!("link `{}`", veth.link))
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
    taken_rows(wanted, world, found);
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
