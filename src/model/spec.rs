//! What a topology file says, key by key.
//!
//! One table for each kind of mapping: the key, what it holds, what it is
//! for, and its effect, side by side. Reading, the messages about unknown
//! keys and the JSON Schema all come from these tables; a new key is one
//! line here and one field.
//!
//! A `LabSpec` is what was said, with places, ranges and gaps; whether it
//! makes sense is asked in `check.rs`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::adopt::Adopt;
use super::holds::{
    Address, AddressOrWord, Choice, Collector, ContainerName, DatapathChoice, DatapathId,
    Destination, End, Ends, Exit, Filled, Flag, FlowText, Gateway, Holds, HostAddress, Key,
    Kilobits, List, Many, Map, Millis, Mtu, NetnsName, NicMode, Object, Of, Parameter, PortName,
    Prefix, Protocol, QueueNumber, Sealing, Seconds, Setting, Target, Text, VlanId, Whole, key,
};
use super::impair::{Impairments, Rate, Share, Time};
use super::laid::{FileOrText, FilePath, FileSpec};
use super::life::{Isolation, Limits};
use super::life_spec::{HostName, IsolationWord, LimitsSpec, ProcessSpec};
use super::mark::Mac;
use super::names::{IfName, InterfaceName, LabName};
use super::problem::At;
use super::ranges::Pattern;
use super::topology::{
    Backend, BondMode, Datapath, Dynamic, FailMode, Ipfix, Lacp, Macvlan, Nat, NetFlow, Routing,
    Sealed, Sflow, SwitchSettings, TunnelKind,
};

/// The whole file.
#[derive(Default)]
pub(super) struct LabSpec {
    pub(super) name: Option<LabName>,
    /// Whether a name was given that cannot be one.
    pub(super) misnamed: bool,
    /// `None`: the usual ones.
    pub(super) prefixes: Option<Vec<At<IpNet>>>,
    pub(super) switches: Vec<(At<Pattern>, SwitchSpec)>,
    pub(super) nodes: Vec<(At<Pattern>, NodeSpec)>,
    pub(super) links: Vec<At<LinkSpec>>,
    pub(super) uplinks: Vec<(At<IfName>, UplinkSpec)>,
    pub(super) routing: Option<Routing>,
    pub(super) cuts: Vec<(At<IfName>, CutSpec)>,
    pub(super) hosts: bool,
    /// Some switches or nodes could not be read, so that an end of a link
    /// that nobody knows may be one of them.
    pub(super) names_unsure: bool,
    /// Some links could not be read, so that an interface without a link may
    /// be on one of them.
    pub(super) links_unsure: bool,
}

impl Object for LabSpec {
    const NAME: &'static str = "lab";
    const HELP: &'static str = "A lab of ovsns: nodes, switches and the links between them.";
    const KEYS: &'static [Key<Self>] = &[
        key!("name": Text<LabName>,
            "The lab's name; without it, the file's name less its ending.",
            |lab, name| lab.name = Some(name.value)),
        key!("prefixes": List<Text<Prefix>>,
            "Networks out of which interfaces without `addresses` get theirs, one of each family \
             that is named here; without it, 10.0.0.0/8 and fd00:6f76::/48.",
            |lab, nets| lab.prefixes.get_or_insert_default().extend(nets.value.into_iter().map(net))),
        key!("switches": Map<Many, Of<SwitchSpec>>,
            "The switches by name; `s[1-3]` stands for three of them.",
            |lab, switches| lab.switches.extend(switches.value)),
        key!("nodes": Map<Many, Of<NodeSpec>>,
            "The nodes by name; `h[1-100]` stands for a hundred of them.",
            |lab, nodes| lab.nodes.extend(nodes.value)),
        key!("links": List<Of<LinkSpec>>,
            "The links, each between two ends.",
            |lab, links| lab.links.extend(links.value)),
        key!("uplinks": Map<IfName, Of<UplinkSpec>>,
            "NICs of this machine that are shared into the lab, by name.",
            |lab, uplinks| lab.uplinks.extend(uplinks.value)),
        key!("routing": Text<Routing>,
            "Who tells nodes the ways to each other: with `static` each gets the routes that follow \
             from the lab, by the shortest ways through nodes with `forwarding: true`, and \
             `routes` says only what is to be otherwise.",
            |lab, routing| lab.routing = Some(routing.value)),
        key!("hosts": Flag,
            "Whether the machine finds its nodes by their names, too, in a block of `/etc/hosts` that \
             goes away with the lab (default: no, only nodes do).",
            |lab, hosts| lab.hosts = hosts.value),
        key!("cuts": Map<IfName, Of<CutSpec>>,
            "Sets of nodes that do not hear each other, by name, as `ovsns cut` and `ovsns heal` \
             make and take them away.",
            |lab, cuts| lab.cuts.extend(cuts.value)),
    ];
    fn flawed(&mut self, key: &'static str, lost: bool) {
        match key {
            "name" => self.misnamed = true,
            "switches" | "nodes" => self.names_unsure |= lost,
            "links" => self.links_unsure = true,
            _ => {}
        }
    }
}

impl LabSpec {
    /// Writes out what `nat` at a node is short for: a switch that has it, and a
    /// link to that from the next free interface. The switch is a Linux bridge;
    /// there is nothing on it that another could do.
    pub(super) fn write_out_exits(&mut self) {
        for (node, spec) in &self.nodes {
            let Some(At { at, value: nat @ Some(_) }) = spec.nat else { continue };
            // A name that can be none is told of when the nodes are named.
            let Ok(out) = Pattern::new(&format!("{}-out", node.value.as_str())) else { continue };
            let out = At { at, value: out };
            let switch = SwitchSpec {
                backend: Some(Backend::Linux),
                nat: Some(At { at, value: nat }),
                ..SwitchSpec::default()
            };
            let endpoints = Some([At { at, value: node.value.clone() }, out.clone()]);
            self.switches.push((out, switch));
            self.links.push(At { at, value: LinkSpec { endpoints, ..LinkSpec::default() } });
        }
    }
}

/// Two sets of nodes that do not hear each other.
#[derive(Default)]
pub(super) struct CutSpec {
    pub(super) nodes: Vec<At<Pattern>>,
    pub(super) from: Vec<At<Pattern>>,
    pub(super) flawed: bool,
}

impl Object for CutSpec {
    const NAME: &'static str = "cut";
    const HELP: &'static str = "Two sets of nodes: no frame of one reaches the other.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "nodes": Filled<End>,
            "The nodes of the one set; `h[1-3]` stands for three of them.",
            |cut, nodes| cut.nodes = nodes.value),
        key!(needed "from": Filled<End>,
            "The nodes of the other.",
            |cut, nodes| cut.from = nodes.value),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}

/// A NIC of the machine.
#[derive(Default)]
pub(super) struct UplinkSpec {
    pub(super) mode: Option<At<NicMode>>,
    pub(super) switch: Option<At<String>>,
    pub(super) node: Option<At<Pattern>>,
    pub(super) force: bool,
    /// What the link to the node is, in the modes that have one.
    pub(super) link: LinkSpec,
    /// Not all of it could be read.
    pub(super) flawed: bool,
}

impl Object for UplinkSpec {
    const NAME: &'static str = "uplink";
    const HELP: &'static str = "A NIC of this machine that is shared into the lab.";
    const KEYS: &'static [Key<Self>] = &[
        key!("mode": Text<NicMode>,
            "How: it becomes a port of a switch, and the machine keeps its addresses on the \
             switch's local device (`bridge`, the default); a child of it is in a node \
             (`macvlan`); it goes into a node itself (`move`).",
            |uplink, mode| uplink.mode = Some(mode)),
        key!("switch": Text<PortName>,
        "The switch, with `bridge`.",
        |uplink, switch| {
            uplink.switch = Some(At { at: switch.at, value: switch.value.0 });
        }),
        key!("node": End,
            "The node, or its interface, with `macvlan` and `move`; `h[1-3]` stands for three of \
             them. The same as a link between it and `macvlan:NIC` or `nic:NIC`.",
            |uplink, node| uplink.node = Some(node)),
        key!("macvlan": Text<Macvlan>,
            "What children of the NIC hear of each other, with `macvlan` (default: `bridge`).",
            |uplink, mode| uplink.link.mode = Some(mode)),
        key!("force": Flag,
            "Whether it may be the second NIC of a switch without a spanning tree, and have VLAN \
             devices on it, which then hear nothing (default: no).",
            |uplink, force| uplink.force = force.value),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}

fn net(prefix: At<Prefix>) -> At<IpNet> {
    At { at: prefix.at, value: prefix.value.0 }
}

/// A switch.
#[derive(Default)]
pub(super) struct SwitchSpec {
    pub(super) backend: Option<Backend>,
    pub(super) device: Option<At<IfName>>,
    pub(super) mac: Option<At<Mac>>,
    pub(super) mtu: Option<u32>,
    pub(super) settings: SwitchSettings,
    pub(super) prefixes: Vec<At<IpNet>>,
    pub(super) nat: Option<At<Option<Nat>>>,
    pub(super) gateway: Vec<At<IpNet>>,
    pub(super) datapath: Option<Datapath>,
    pub(super) rstp: Option<At<bool>>,
    pub(super) netflow: Option<At<NetflowSpec>>,
    pub(super) sflow: Option<At<SflowSpec>>,
    pub(super) ipfix: Option<At<IpfixSpec>>,
    pub(super) mirrors: Vec<(At<IfName>, MirrorSpec)>,
    pub(super) tunnels: Vec<(At<IfName>, TunnelSpec)>,
    pub(super) flows: Vec<At<String>>,
}

impl Object for SwitchSpec {
    const NAME: &'static str = "switch";
    const HELP: &'static str = "A switch: a bridge to which nodes and other switches are linked.";
    const KEYS: &'static [Key<Self>] = &[
        key!("backend": Text<Choice>,
            "What the switch is made of: Open vSwitch, the Linux bridge, or the best there is.",
            |switch, choice| switch.backend = choice.value.0),
        key!("device": Text<IfName>,
            "The bridge's name in the kernel, where another program insists on one.",
            |switch, device| switch.device = Some(device)),
        key!("mac": Text<Mac>,
            "The bridge's own MAC address; without it, one that stays the same at every run.",
            |switch, mac| switch.mac = Some(mac)),
        key!("mtu": Mtu,
            "The bridge's MTU in bytes; without it, 1500.",
            |switch, mtu| switch.mtu = Some(mtu.value)),
        key!("stp": Flag,
            "Whether the switch speaks the spanning tree protocol, which cuts loops (default: no).",
            |switch, stp| switch.settings.stp = stp.value),
        key!("rstp": Flag,
        "Whether it speaks the rapid spanning tree protocol (Open vSwitch; default: no).",
        |switch, rstp| {
            switch.settings.rstp = rstp.value;
            switch.rstp = Some(rstp);
        }),
        key!("forward_delay": Seconds<2, 30>,
            "Seconds that a port listens and then learns before it forwards, under STP (default: \
             the least there is, 2 on a Linux bridge, 4 on Open vSwitch; 15 under RSTP, which \
             needs it only beside STP).",
            |switch, delay| switch.settings.forward_delay_s = Some(delay.value)),
        key!("ageing": Seconds<0, 1_000_000>,
            "Seconds after which a silent station's address is forgotten (default: 300).",
            |switch, ageing| switch.settings.ageing_s = ageing.value),
        key!("multicast_snooping": Flag,
            "Whether multicast goes only where somebody asked for it (default: yes).",
            |switch, snooping| switch.settings.multicast_snooping = snooping.value),
        key!("prefixes": List<Text<Prefix>>,
            "Networks for the interfaces on this switch, instead of the lab's.",
            |switch, nets| switch.prefixes.extend(nets.value.into_iter().map(net))),
        key!("nat": Exit,
            "Whether what is on it reaches the outside through this machine, under its address; \
             `ipv4` or `ipv6` for one family (default: no).",
            |switch, nat| switch.nat = Some(nat)),
        key!("gateway": List<Text<Address>>,
        "This machine's addresses there, with `nat`; without it, the highest free one of each \
         network.",
        |switch, addresses| {
            let nets = addresses.value.into_iter();
            switch.gateway.extend(nets.map(|net| At { at: net.at, value: net.value.0 }));
        }),
        key!("datapath": Text<DatapathChoice>,
            "How Open vSwitch forwards: in the kernel (`system`), in its own process (`netdev`), or \
             the best there is.",
            |switch, datapath| switch.datapath = datapath.value.0),
        key!("controllers": List<Text<Target>>,
        "OpenFlow controllers, such as `tcp:127.0.0.1:6653`.",
        |switch, targets| {
            let targets = targets.value.into_iter().map(|target| target.value.0);
            switch.settings.openflow.controllers.extend(targets);
        }),
        key!("fail_mode": Text<FailMode>,
            "What to do without a controller: switch by itself (`standalone`, the default where \
             there are to be none), or pass only what flows say (`secure`).",
            |switch, mode| switch.settings.openflow.fail_mode = Some(mode.value)),
        key!("in_band": Flag,
            "Whether the controllers are reached through the switch itself (default: no).",
            |switch, in_band| switch.settings.openflow.in_band = in_band.value),
        key!("max_backoff": Millis<1000, 3_600_000>,
            "The longest pause between attempts to reach a controller, in milliseconds (default: \
             1000).",
            |switch, pause| switch.settings.openflow.max_backoff_ms = Some(pause.value)),
        key!("inactivity_probe": Millis<0, 3_600_000>,
            "The silence after which a controller is asked whether it lives, in milliseconds; 0 for \
             never (default: 5000).",
            |switch, probe| switch.settings.openflow.inactivity_probe_ms = Some(probe.value)),
        key!("protocols": List<Text<Protocol>>,
        "The versions of OpenFlow that it speaks, such as `OpenFlow13` (default: all).",
        |switch, protocols| {
            let protocols = protocols.value.into_iter().map(|protocol| protocol.value.0);
            switch.settings.openflow.protocols.extend(protocols);
        }),
        key!("datapath_id": Text<DatapathId>,
            "Its number among switches, 16 hexadecimal digits (default: made from its MAC address).",
            |switch, id| switch.settings.openflow.datapath_id = Some(id.value.0)),
        key!("flows": List<Text<FlowText>>,
        "OpenFlow flows as `ovs-ofctl` writes them, with `n1`, `n1:eth0`, the name of a switch or \
         of a tunnel in place of a port's number.",
        |switch, flows| {
            let text = |flow: At<FlowText>| At { at: flow.at, value: flow.value.0 };
            switch.flows.extend(flows.value.into_iter().map(text));
        }),
        key!("mirrors": Map<IfName, Of<MirrorSpec>>,
            "Copies of its frames (SPAN), by name.",
            |switch, mirrors| switch.mirrors.extend(mirrors.value)),
        key!("tunnels": Map<IfName, Of<TunnelSpec>>,
            "Tunnels to switches of other hosts, by name.",
            |switch, tunnels| switch.tunnels.extend(tunnels.value)),
        key!("netflow": Of<NetflowSpec>,
            "Where NetFlow records of its flows go.",
            |switch, netflow| switch.netflow = Some(netflow)),
        key!("sflow": Of<SflowSpec>,
            "Where sFlow samples of its frames go.",
            |switch, sflow| switch.sflow = Some(sflow)),
        key!("ipfix": Of<IpfixSpec>,
            "Where IPFIX records of its flows go.",
            |switch, ipfix| switch.ipfix = Some(ipfix)),
    ];
}

/// NetFlow.
#[derive(Default)]
pub(super) struct NetflowSpec {
    pub(super) targets: Vec<At<String>>,
    pub(super) active_timeout: Option<u32>,
}

fn collectors(list: At<Vec<At<Collector>>>) -> Vec<At<String>> {
    let text = |collector: At<Collector>| At { at: collector.at, value: collector.value.0 };
    list.value.into_iter().map(text).collect()
}

impl Object for NetflowSpec {
    const NAME: &'static str = "netflow";
    const HELP: &'static str = "Where NetFlow records go.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "targets": Filled<Text<Collector>>,
            "The collectors, such as `127.0.0.1:2055`.",
            |netflow, targets| netflow.targets = collectors(targets)),
        key!("active_timeout": Seconds<1, 86_400>,
            "How often a flow that lives is reported, in seconds (default: 600).",
            |netflow, timeout| netflow.active_timeout = Some(timeout.value)),
    ];
}

impl NetflowSpec {
    pub(super) fn meant(&self) -> NetFlow {
        NetFlow { targets: texts(&self.targets), active_timeout_s: self.active_timeout }
    }
}

fn texts<C: FromIterator<String>>(list: &[At<String>]) -> C {
    list.iter().map(|text| text.value.clone()).collect()
}

/// sFlow.
#[derive(Default)]
pub(super) struct SflowSpec {
    pub(super) targets: Vec<At<String>>,
    pub(super) sampling: Option<u32>,
    pub(super) polling: Option<u32>,
    pub(super) header: Option<u32>,
    pub(super) agent: Option<String>,
}

impl Object for SflowSpec {
    const NAME: &'static str = "sflow";
    const HELP: &'static str = "Where sFlow samples go.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "targets": Filled<Text<Collector>>,
            "The collectors, such as `127.0.0.1:6343`.",
            |sflow, targets| sflow.targets = collectors(targets)),
        key!("sampling": Whole<1, { u32::MAX }>,
            "One packet in so many is sampled (default: 400).",
            |sflow, sampling| sflow.sampling = Some(sampling.value)),
        key!("polling": Seconds<0, 86_400>,
            "How often counters are sent, in seconds; 0 for never (default: 30).",
            |sflow, polling| sflow.polling = Some(polling.value)),
        key!("header": Whole<14, 65_535>,
            "How much of a packet is sent, in bytes (default: 128).",
            |sflow, header| sflow.header = Some(header.value)),
        key!("agent": Text<IfName>,
            "The device whose address stands for the switch.",
            |sflow, agent| sflow.agent = Some(agent.value.to_string())),
    ];
}

impl SflowSpec {
    pub(super) fn meant(&self) -> Sflow {
        Sflow {
            targets: texts(&self.targets),
            sampling: self.sampling,
            polling_s: self.polling,
            header_bytes: self.header,
            agent: self.agent.clone(),
        }
    }
}

/// IPFIX.
#[derive(Default)]
pub(super) struct IpfixSpec {
    pub(super) targets: Vec<At<String>>,
    pub(super) sampling: Option<u32>,
    pub(super) domain: Option<u32>,
    pub(super) point: Option<u32>,
    pub(super) cache_timeout: Option<u32>,
}

impl Object for IpfixSpec {
    const NAME: &'static str = "ipfix";
    const HELP: &'static str = "Where IPFIX records go.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "targets": Filled<Text<Collector>>,
            "The collectors, such as `127.0.0.1:4739`.",
            |ipfix, targets| ipfix.targets = collectors(targets)),
        key!("sampling": Whole<1, { u32::MAX }>,
            "One packet in so many is sampled (default: 400).",
            |ipfix, sampling| ipfix.sampling = Some(sampling.value)),
        key!("domain": Whole<0, { u32::MAX }>,
            "The observation domain (default: 0).",
            |ipfix, domain| ipfix.domain = Some(domain.value)),
        key!("point": Whole<0, { u32::MAX }>,
            "The observation point (default: 0).",
            |ipfix, point| ipfix.point = Some(point.value)),
        key!("cache_timeout": Seconds<0, 4200>,
            "How long a flow is kept before it is sent, in seconds (default: 0).",
            |ipfix, timeout| ipfix.cache_timeout = Some(timeout.value)),
    ];
}

impl IpfixSpec {
    pub(super) fn meant(&self) -> Ipfix {
        Ipfix {
            targets: texts(&self.targets),
            sampling: self.sampling,
            domain: self.domain,
            point: self.point,
            cache_timeout_s: self.cache_timeout,
        }
    }
}

/// A mirror.
#[derive(Default)]
pub(super) struct MirrorSpec {
    pub(super) all: bool,
    pub(super) from: Vec<At<String>>,
    pub(super) to: Vec<At<String>>,
    pub(super) vlans: Vec<u32>,
    pub(super) output: Option<At<String>>,
    pub(super) flawed: bool,
}

fn port_names(list: At<Vec<At<PortName>>>) -> Vec<At<String>> {
    let text = |name: At<PortName>| At { at: name.at, value: name.value.0 };
    list.value.into_iter().map(text).collect()
}

impl Object for MirrorSpec {
    const NAME: &'static str = "mirror";
    const HELP: &'static str = "A copy of some frames of a switch. Ports are named by what is at \
         their other end: `n1`, `n1:eth0`, a switch, a tunnel.";
    const KEYS: &'static [Key<Self>] = &[
        key!("all": Flag,
            "Whether every frame is copied (default: no).",
            |mirror, all| mirror.all = all.value),
        key!("from": List<Text<PortName>>,
            "Frames that come in at these ports.",
            |mirror, ports| mirror.from = port_names(ports)),
        key!("to": List<Text<PortName>>,
            "Frames that go out at these ports. On a Linux bridge one that goes out at several \
             is copied as often.",
            |mirror, ports| mirror.to = port_names(ports)),
        key!("vlans": List<VlanId>,
            "Of those, only frames in these VLANs (default: all).",
            |mirror, vlans| mirror.vlans = vlans.value.iter().map(|vlan| vlan.value).collect()),
        key!(needed "output": Text<PortName>,
            "The port that gets the copies, and nothing else.",
            |mirror, port| mirror.output = Some(At { at: port.at, value: port.value.0 })),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}

/// A tunnel.
#[derive(Default)]
pub(super) struct TunnelSpec {
    pub(super) kind: Option<TunnelKind>,
    pub(super) remote: Option<At<IpAddr>>,
    pub(super) local: Option<At<IpAddr>>,
    pub(super) key: Option<u32>,
    pub(super) destination_port: Option<At<u32>>,
    pub(super) port: PortKeys,
}

impl Object for TunnelSpec {
    const NAME: &'static str = "tunnel";
    const HELP: &'static str = "A tunnel to a switch of another host. On the userspace datapath the \
         way there leads over the local device of a bridge of that datapath.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "type": Text<TunnelKind>,
            "What frames are wrapped in.",
            |tunnel, kind| tunnel.kind = Some(kind.value)),
        key!(needed "remote": Text<HostAddress>,
            "The address of the other host.",
            |tunnel, remote| tunnel.remote = Some(At { at: remote.at, value: remote.value.0 })),
        key!("local": Text<HostAddress>,
            "The address of this host, where the routes do not say.",
            |tunnel, local| tunnel.local = Some(At { at: local.at, value: local.value.0 })),
        key!("key": Whole<0, 16_777_215>,
            "The number of the network (VNI), the same at both ends.",
            |tunnel, key| tunnel.key = Some(key.value)),
        key!("destination_port": Whole<1, 65_535>,
            "The UDP port of the other host (default: 4789 for VXLAN, 6081 for Geneve).",
            |tunnel, port| tunnel.destination_port = Some(port)),
        key!("isolated": Flag,
            "Whether its port hears only ports that are not isolated (default: no).",
            |tunnel, isolated| tunnel.port.isolated = Some(isolated)),
        key!("vlan": VlanId,
            "The VLAN of its port; frames are untagged in the tunnel.",
            |tunnel, vlan| tunnel.port.vlan = Some(vlan)),
        key!("trunks": List<VlanId>,
            "The VLANs that pass its port; frames are tagged in the tunnel.",
            |tunnel, trunks| tunnel.port.trunks = Some(trunks)),
        key!("native": VlanId,
            "The VLAN that is untagged in a tunnel with `trunks`.",
            |tunnel, native| tunnel.port.native = Some(native)),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.port.flawed = true;
    }
}

/// What is said of a port, on a link or a tunnel.
#[derive(Default)]
pub(super) struct PortKeys {
    pub(super) isolated: Option<At<bool>>,
    pub(super) vlan: Option<At<u32>>,
    pub(super) trunks: Option<At<Vec<At<u32>>>>,
    pub(super) native: Option<At<u32>>,
    pub(super) qinq: Option<At<QinqSpec>>,
    pub(super) policing: Option<At<PolicingSpec>>,
    pub(super) shaping: Option<At<ShapingSpec>>,
    /// Not all of it could be read.
    pub(super) flawed: bool,
}

/// VLANs in a VLAN.
#[derive(Default)]
pub(super) struct QinqSpec {
    pub(super) vlan: Option<u32>,
    pub(super) customers: Vec<u32>,
}

impl Object for QinqSpec {
    const NAME: &'static str = "qinq";
    const HELP: &'static str = "VLANs wrapped in a VLAN (802.1ad).";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "vlan": VlanId,
            "The outer VLAN.",
            |qinq, vlan| qinq.vlan = Some(vlan.value)),
        key!("customers": List<VlanId>,
            "The inner VLANs that pass (default: all).",
            |qinq, vlans| qinq.customers = vlans.value.iter().map(|vlan| vlan.value).collect()),
    ];
}

/// A limit to what comes in.
#[derive(Default)]
pub(super) struct PolicingSpec {
    pub(super) rate: Option<u32>,
    pub(super) burst: Option<u32>,
}

impl Object for PolicingSpec {
    const NAME: &'static str = "policing";
    const HELP: &'static str =
        "A limit to what comes into a switch at a port; the rest is dropped.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "rate": Kilobits,
            "In kilobits a second.",
            |policing, rate| policing.rate = Some(rate.value)),
        key!("burst": Kilobits,
            "How much more at once, in kilobits (default: 80 % of the rate, 128 at least).",
            |policing, burst| policing.burst = Some(burst.value)),
    ];
}

/// A limit to what goes out.
#[derive(Default)]
pub(super) struct ShapingSpec {
    pub(super) rate: Option<u32>,
    pub(super) queues: Vec<(At<u32>, QueueSpec)>,
}

impl Object for ShapingSpec {
    const NAME: &'static str = "shaping";
    const HELP: &'static str = "A limit to what goes out of a switch at a port; the rest waits.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "rate": Kilobits,
            "In kilobits a second.",
            |shaping, rate| shaping.rate = Some(rate.value)),
        key!("queues": Map<QueueNumber, Of<QueueSpec>>,
            "Shares of it by number, which flows choose with `set_queue`; 0 is what chooses none.",
            |shaping, queues| shaping.queues.extend(queues.value)),
    ];
}

/// A share of what goes out.
#[derive(Default)]
pub(super) struct QueueSpec {
    pub(super) min: Option<u32>,
    pub(super) max: Option<u32>,
}

impl Object for QueueSpec {
    const NAME: &'static str = "queue";
    const HELP: &'static str = "A share of what goes out at a port.";
    const KEYS: &'static [Key<Self>] = &[
        key!("min": Kilobits,
            "What it has for sure, in kilobits a second.",
            |queue, min| queue.min = Some(min.value)),
        key!("max": Kilobits,
            "What it may have of what others leave, in kilobits a second.",
            |queue, max| queue.max = Some(max.value)),
    ];
}

/// Several cables in place of one.
#[derive(Default)]
pub(super) struct BondSpec {
    pub(super) members: Option<u32>,
    pub(super) mode: Option<BondMode>,
    pub(super) lacp: Option<Lacp>,
}

impl Object for BondSpec {
    const NAME: &'static str = "bond";
    const HELP: &'static str = "Several cables between two switches that pass for one.";
    const KEYS: &'static [Key<Self>] = &[
        key!("members": Whole<2, 8>,
            "How many cables (default: 2).",
            |bond, members| bond.members = Some(members.value)),
        key!("mode": Text<BondMode>,
            "How frames are spread over them (default: `active-backup`).",
            |bond, mode| bond.mode = Some(mode.value)),
        key!("lacp": Text<Lacp>,
            "Whether the ends agree by LACP on the cables that work (default: `active`); `off` is for \
             two cables and `active-backup` alone.",
            |bond, lacp| bond.lacp = Some(lacp.value)),
    ];
}

/// What happens to frames, as it was said.
#[derive(Default, Clone, Copy)]
pub(super) struct ImpairmentKeys {
    pub(super) delay: Option<At<u32>>,
    pub(super) jitter: Option<At<u32>>,
    pub(super) loss: Option<At<u32>>,
    pub(super) duplicate: Option<At<u32>>,
    pub(super) reorder: Option<At<u32>>,
    pub(super) corrupt: Option<At<u32>>,
    pub(super) rate: Option<At<u32>>,
    pub(super) flawed: bool,
}

impl ImpairmentKeys {
    /// The same where what is not said is as in `common`.
    pub(super) fn or(&self, common: &Self) -> Self {
        Self {
            delay: self.delay.or(common.delay),
            jitter: self.jitter.or(common.jitter),
            loss: self.loss.or(common.loss),
            duplicate: self.duplicate.or(common.duplicate),
            reorder: self.reorder.or(common.reorder),
            corrupt: self.corrupt.or(common.corrupt),
            rate: self.rate.or(common.rate),
            flawed: self.flawed || common.flawed,
        }
    }

    pub(super) fn meant(&self) -> Impairments {
        let number = |said: Option<At<u32>>| said.map_or(0, |said| said.value);
        Impairments {
            delay_us: number(self.delay),
            jitter_us: number(self.jitter),
            loss_ppm: number(self.loss),
            duplicate_ppm: number(self.duplicate),
            reorder_ppm: number(self.reorder),
            corrupt_ppm: number(self.corrupt),
            rate_kbps: number(self.rate),
        }
    }
}

/// The keys of impairments, for both directions and for one.
macro_rules! impairment_keys {
    ($($more:expr)?) => {
        &[
            key!("delay": Text<Time>,
                "How long each frame is kept, such as `10ms` (`us`, `ms`, `s`).",
                |said, time| said.keys.delay = Some(At { at: time.at, value: time.value.0 })),
            key!("jitter": Text<Time>,
                "By how much that varies, up and down; frames overtake each other by it.",
                |said, time| said.keys.jitter = Some(At { at: time.at, value: time.value.0 })),
            key!("loss": Text<Share>,
                "How many frames are lost, such as `1%`, by chance.",
                |said, share| said.keys.loss = Some(At { at: share.at, value: share.value.0 })),
            key!("duplicate": Text<Share>,
                "How many arrive twice, such as `0.1%`.",
                |said, share| said.keys.duplicate = Some(At { at: share.at, value: share.value.0 })),
            key!("reorder": Text<Share>,
                "How many are not kept for the delay, and so overtake those that are.",
                |said, share| said.keys.reorder = Some(At { at: share.at, value: share.value.0 })),
            key!("corrupt": Text<Share>,
                "How many have one bit turned round.",
                |said, share| said.keys.corrupt = Some(At { at: share.at, value: share.value.0 })),
            key!("rate": Text<Rate>,
                "How much passes in a second, such as `10mbit` (`kbit`, `mbit`, `gbit`).",
                |said, rate| said.keys.rate = Some(At { at: rate.at, value: rate.value.0 })),
            $($more)?
        ]
    };
}

/// What happens to frames that pass a link.
#[derive(Default)]
pub(super) struct ImpairmentsSpec {
    pub(super) keys: ImpairmentKeys,
    pub(super) from: Vec<(At<Pattern>, DirectionSpec)>,
}

impl Object for ImpairmentsSpec {
    const NAME: &'static str = "impairments";
    const HELP: &'static str = "What happens to frames that pass a link, in both directions or by \
         the end from which they come. `none` takes a value away.";
    const KEYS: &'static [Key<Self>] = impairment_keys!(key!("from": Map<End, Of<DirectionSpec>>,
            "The same for frames that come from one end, `node`, `node:interface` or `switch`; \
             what is said there goes before what is said for both.",
            |said, from| said.from.extend(from.value)));
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.keys.flawed = true;
    }
}

/// What happens to frames that come from one end.
#[derive(Default)]
pub(super) struct DirectionSpec {
    pub(super) keys: ImpairmentKeys,
}

impl Object for DirectionSpec {
    const NAME: &'static str = "direction";
    const HELP: &'static str = "What happens to frames that come from one end of a link.";
    const KEYS: &'static [Key<Self>] = impairment_keys!();
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.keys.flawed = true;
    }
}

/// A node.
#[derive(Default)]
pub(super) struct NodeSpec {
    pub(super) interfaces: Vec<(At<InterfaceName>, InterfaceSpec)>,
    pub(super) routes: Vec<At<RouteSpec>>,
    pub(super) forwarding: Option<At<bool>>,
    pub(super) nat: Option<At<Option<Nat>>>,
    pub(super) sysctls: Vec<(At<String>, String)>,
    pub(super) adopt: Option<At<AdoptSpec>>,
    pub(super) sealed: Option<At<Option<Sealed>>>,
    pub(super) isolation: Vec<Isolation>,
    pub(super) hostname: Option<At<String>>,
    pub(super) limits: Limits,
    pub(super) run: Vec<At<ProcessSpec>>,
    pub(super) files: Vec<(At<String>, FileSpec)>,
    /// Not all of its interfaces could be read.
    pub(super) flawed: bool,
}

impl Object for NodeSpec {
    const NAME: &'static str = "node";
    const HELP: &'static str = "A node: a network namespace with interfaces of its own.";
    const KEYS: &'static [Key<Self>] = &[
        key!("interfaces": Map<InterfaceName, Of<InterfaceSpec>>,
            "What is known of its interfaces, by name; each is at the end of one link.",
            |node, interfaces| node.interfaces.extend(interfaces.value)),
        key!("routes": List<Of<RouteSpec>>,
            "Its static routes.",
            |node, routes| node.routes.extend(routes.value)),
        key!("forwarding": Flag,
            "Whether it forwards between its interfaces, IPv4 and IPv6, as a router does.",
            |node, forwarding| node.forwarding = Some(forwarding)),
        key!("nat": Exit,
            "Whether it reaches the outside through this machine by an interface of its own: short \
             for a link to a switch `NODE-out` with this `nat` (default: no).",
            |node, nat| node.nat = Some(nat)),
        key!("sysctls": Map<Parameter, Text<Setting>>,
        "Kernel parameters below `net.`, as `sysctl` names them.",
        |node, sysctls| {
            node.sysctls.extend(sysctls.value.into_iter().map(|(key, value)| (key, value.0)));
        }),
        key!("sealed": Sealing,
            "Whether its processes cannot change its network: they run without CAP_NET_ADMIN, \
             CAP_SYS_ADMIN and all the like, and cannot get them (default: no).",
            |node, sealed| node.sealed = Some(sealed)),
        key!("adopt": Of<AdoptSpec>,
            "The namespace that it is, made by somebody else, which is left as it was found; \
             without it, one of its own.",
            |node, adopt| node.adopt = Some(adopt)),
        key!("isolation": List<Text<IsolationWord>>,
        "What else it has of its own: the host name (`uts`), `/tmp`, `/run` and `/var/log` \
         (`mount`), processes (`pid`), shared memory (`ipc`), or `all`; without it, its network \
         only.",
        |node, kinds| {
            node.isolation.extend(kinds.value.into_iter().flat_map(|word| word.value.0));
        }),
        key!("hostname": Text<HostName>,
        "Its host name, with `uts`; without it, its name.",
        |node, name| {
            node.hostname = Some(At { at: name.at, value: name.value.0 });
        }),
        key!("limits": Of<LimitsSpec>,
            "What all its processes may use together.",
            |node, limits| node.limits = limits.value.0),
        key!("run": List<Of<ProcessSpec>>,
            "What runs in it, started in this order, each when the one before is ready.",
            |node, processes| node.run.extend(processes.value)),
        key!("files": Map<FilePath, FileOrText>,
            "Files that it has in place of the machine's, by path, each a text or `{ from: FILE }`. A \
             node with files has `mount` in its `isolation`.",
            |node, files| node.files.extend(files.value)),
    ];
    fn flawed(&mut self, key: &'static str, _lost: bool) {
        self.flawed |= key == "interfaces";
    }
}

/// What the processes of a sealed node may do all the same.
#[derive(Default)]
pub(super) struct SealedSpec {
    pub(super) raw: bool,
}

impl Object for SealedSpec {
    const NAME: &'static str = "seal";
    const HELP: &'static str = "What the processes of a sealed node may do all the same.";
    const KEYS: &'static [Key<Self>] = &[key!("raw": Flag,
            "Whether they may open raw sockets (CAP_NET_RAW), as `ping` does (default: no).",
            |sealed, raw| sealed.raw = raw.value)];
}

/// A namespace of somebody else's: one of these.
#[derive(Default)]
pub(super) struct AdoptSpec {
    pub(super) netns: Option<Adopt>,
    pub(super) pid: Option<Adopt>,
    pub(super) container: Option<Adopt>,
    pub(super) flawed: bool,
}

impl Object for AdoptSpec {
    const NAME: &'static str = "adoption";
    const HELP: &'static str = "Where the namespace of an adopted node is found: one of these. Its interfaces without a \
         name are called `lab0`, `lab1`...";
    const KEYS: &'static [Key<Self>] = &[
        key!("netns": Text<NetnsName>,
            "A name of `ip netns`, or a path from `/` on.",
            |adopt, netns| adopt.netns = Some(netns.value.0)),
        key!("pid": Whole<1, 4_194_304>,
            "A process that is in it.",
            |adopt, pid| adopt.pid = Some(Adopt::Pid(pid.value))),
        key!("container": Text<ContainerName>,
            "A container of podman or docker that runs, by name or id; `podman:NAME` or \
             `docker:NAME` where both have one.",
            |adopt, container| adopt.container = Some(container.value.0)),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}

/// An interface of a node.
#[derive(Default)]
pub(super) struct InterfaceSpec {
    /// `None`: let it be given some.
    pub(super) addresses: Option<Vec<At<IpNet>>>,
    pub(super) dynamic: Vec<At<Dynamic>>,
    pub(super) mac: Option<At<Mac>>,
}

impl Object for InterfaceSpec {
    const NAME: &'static str = "interface";
    const HELP: &'static str = "An interface of a node.";
    const KEYS: &'static [Key<Self>] = &[
        key!("addresses": List<Text<AddressOrWord>>,
        "Its addresses with their prefix lengths; `dhcp` for one of IPv4 from a DHCP server, \
         `slaac` for those of IPv6 that a router advertises; without it, the next free ones of the \
         lab's prefixes; `[]` for none.",
        |interface, addresses| {
            let nets = interface.addresses.get_or_insert_default();
            for At { at, value } in addresses.value {
                match value {
                    AddressOrWord::Address(Address(value)) => nets.push(At { at, value }),
                    AddressOrWord::Word(value) => interface.dynamic.push(At { at, value }),
                }
            }
        }),
        key!("mac": Text<Mac>,
            "Its MAC address; without it, one that stays the same at every run.",
            |interface, mac| interface.mac = Some(mac)),
    ];
}

/// A static route.
#[derive(Default)]
pub(super) struct RouteSpec {
    pub(super) to: Option<At<Destination>>,
    pub(super) via: Option<At<IpAddr>>,
    pub(super) interface: Option<At<InterfaceName>>,
    pub(super) metric: Option<u32>,
    pub(super) flawed: bool,
}

impl Object for RouteSpec {
    const NAME: &'static str = "route";
    const HELP: &'static str = "A static route of a node.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "to": Text<Destination>,
            "Where it goes: a network, or `default` for everything else.",
            |route, to| route.to = Some(to)),
        key!("via": Text<Gateway>,
            "The next router, which is on one of the node's own networks.",
            |route, via| route.via = Some(At { at: via.at, value: via.value.0 })),
        key!("interface": Text<InterfaceName>,
            "The interface, where `via` alone does not say.",
            |route, interface| route.interface = Some(interface)),
        key!("metric": Whole<0, { u32::MAX }>,
            "Of several routes to one place the one with the least metric is taken.",
            |route, metric| route.metric = Some(metric.value)),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}

/// A link, or many.
#[derive(Default)]
pub(super) struct LinkSpec {
    pub(super) endpoints: Option<[At<Pattern>; 2]>,
    pub(super) mtu: Option<u32>,
    pub(super) mode: Option<At<Macvlan>>,
    pub(super) port: PortKeys,
    pub(super) bond: Option<At<BondSpec>>,
    pub(super) down: Option<At<bool>>,
    pub(super) impairments: Option<At<ImpairmentsSpec>>,
}

impl Object for LinkSpec {
    const NAME: &'static str = "link";
    const HELP: &'static str = "A link between two ends, or many if the ends hold ranges.";
    const KEYS: &'static [Key<Self>] = &[
        key!(needed "endpoints": Ends,
            "Its two ends: `node:interface`, `node` (then the next free `ethN`) or `switch`; or, \
             beside a node, `macvlan:NIC` for a child of a NIC of this machine, and `nic:NIC` for \
             the NIC itself. Two ranges of one length are paired, a single one is repeated.",
            |link, ends| link.endpoints = Some(ends.value)),
        key!("mtu": Mtu,
            "The MTU of both ends in bytes; without it, 1500, or 1400 in a lab with tunnels, and a \
             NIC's own.",
            |link, mtu| link.mtu = Some(mtu.value)),
        key!("mode": Text<Macvlan>,
            "What children of one NIC hear of each other, for a link to `macvlan:NIC`: everything \
             (`bridge`, the default), nothing (`private`), what the switch behind the NIC sends \
             back (`vepa`); or the node has the NIC's own address, and no other child may be \
             (`passthru`).",
            |link, mode| link.mode = Some(mode)),
        key!("isolated": Flag,
            "Whether its port hears only ports that are not isolated (default: no).",
            |link, isolated| link.port.isolated = Some(isolated)),
        key!("vlan": VlanId,
            "The VLAN of its port; frames are untagged on the link.",
            |link, vlan| link.port.vlan = Some(vlan)),
        key!("trunks": List<VlanId>,
            "The VLANs that pass its port; frames are tagged on the link.",
            |link, trunks| link.port.trunks = Some(trunks)),
        key!("native": VlanId,
            "The VLAN that is untagged on a link with `trunks`.",
            |link, native| link.port.native = Some(native)),
        key!("qinq": Of<QinqSpec>,
            "What comes in at its port is wrapped in a VLAN, tags and all.",
            |link, qinq| link.port.qinq = Some(qinq)),
        key!("policing": Of<PolicingSpec>,
            "How much may come into a switch from the link.",
            |link, policing| link.port.policing = Some(policing)),
        key!("shaping": Of<ShapingSpec>,
            "How much goes out of a switch to the link.",
            |link, shaping| link.port.shaping = Some(shaping)),
        key!("bond": Of<BondSpec>,
            "Several cables in place of one, between two switches.",
            |link, bond| link.bond = Some(bond)),
        key!("down": Flag,
            "Whether it is there, but down: no end has carrier (default: no). `ovsns link down` and \
             `ovsns link up` say it of a lab that runs.",
            |link, down| link.down = Some(down)),
        key!("impairments": Of<ImpairmentsSpec>,
            "What happens to frames that pass it: delay, loss, a limit to the rate and more.",
            |link, impairments| link.impairments = Some(impairments)),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.port.flawed = true;
    }
}
