//! The topology file: its text to a lab, a lab to its text, and its schema.
//!
//! The keys and what they hold are the tables in `spec.rs`, what makes sense
//! is in `check.rs`; here are the ways in and out. Nothing is opened: the
//! caller has read the bytes, and gives the name under which messages show
//! them.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::adopt::Adopt;
use super::check;
use super::graph_file;
use super::holds::{Holds, Object, Of, definition};
use super::impair::Impairments;
use super::laid::{self, FileSpec, Sources, of_file};
use super::life::{Bytes, Life, Limits, Process, Processors, Ready, Room};
use super::life_spec::{LimitsSpec, ProcessSpec, ReadySpec};
use super::names::LabName;
use super::problem::{Found, Position, Problems, quoted};
use super::shapes;
use super::spec::{
    AdoptSpec, BondSpec, CutSpec, DirectionSpec, ImpairmentsSpec, InterfaceSpec, IpfixSpec,
    LabSpec, LinkSpec, MirrorSpec, NetflowSpec, NodeSpec, PolicingSpec, QinqSpec, QueueSpec,
    RouteSpec, SealedSpec, SflowSpec, ShapingSpec, SwitchSpec, TunnelSpec, UplinkSpec,
};
use super::topology::{
    Bond, End, Export, Interface, Ipfix, Lab, Link, Macvlan, Mirror, Nat, NetFlow, Node, OpenFlow,
    Policing, PortSettings, Queue, Route, Sflow, Shaping, Share, Switch, SwitchSettings, Tunnel,
    Uplink, Vlan,
};
use super::yaml;

pub use super::yaml::BYTES_MAX;

/// Reads a topology file, or tells everything that is wrong with it.
///
/// `origin` is what messages call the file. `fallback_name` is the lab's name
/// if the file gives none: its stem, or what somebody said instead.
pub fn read(text: &[u8], origin: &str, fallback_name: Option<&str>) -> Result<Lab, Problems> {
    read_with(text, origin, fallback_name, &mut |_| Err("nothing is beside it".to_owned()))
}

/// The same, where `sources` opens what files of nodes are copies of.
pub fn read_with(
    text: &[u8],
    origin: &str,
    fallback_name: Option<&str>,
    sources: Sources<'_>,
) -> Result<Lab, Problems> {
    Ok(read_as(Some(Format::Lab), text, origin, fallback_name, sources)?.lab)
}

/// What a file is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A topology file.
    Lab,
    /// A graph of nodes and links, see `graph_file.rs`.
    Graph,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its lab.
    pub lab: Lab,
    /// What of it was read otherwise than it stands there, a line each.
    pub told: Vec<String>,
}

/// Reads a file of that format, or of the one that it has by its looks.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read_as(
    format: Option<Format>,
    text: &[u8],
    origin: &str,
    fallback_name: Option<&str>,
    sources: Sources<'_>,
) -> Result<Read, Problems> {
    let mut found = Found::default();
    let mut told = Vec::new();
    let lab = yaml::parse(text, &mut found).and_then(|tree| {
        let looks = if graph_file::is_graph(&tree) { Format::Graph } else { Format::Lab };
        match format.unwrap_or(looks) {
            Format::Lab => read_lab(&tree, fallback_name, sources, &mut found),
            Format::Graph => read_graph(&tree, fallback_name, &mut told, &mut found),
        }
    });
    // What is shown of the text need not be more than is fit to be shown.
    let shown = yaml::text(text, &mut Found::default()).unwrap_or_default();
    found.into_result(origin, shown)?;
    Ok(Read { lab: lab.expect("either a lab or a problem comes out"), told })
}

fn read_graph(
    tree: &yaml::Tree,
    fallback_name: Option<&str>,
    told: &mut Vec<String>,
    found: &mut Found,
) -> Option<Lab> {
    let (spec, oddities) = graph_file::spec(tree, found);
    *told = oddities;
    let name = lab_name(&spec, fallback_name, found);
    check::lab(&spec, name.unwrap_or_else(LabName::default_lab), found)
}

fn read_lab(
    tree: &yaml::Tree,
    fallback_name: Option<&str>,
    sources: Sources<'_>,
    found: &mut Found,
) -> Option<Lab> {
    if !matches!(tree.kind, yaml::Kind::Map(_)) {
        let message = format!("a lab is {}, not {}", Of::<LabSpec>::words(), tree.in_words());
        found.add(tree.at, message);
        return None;
    }
    let mut spec = Of::<LabSpec>::read(tree, LabSpec::NAME, found)?;
    laid::read_sources(&mut spec, sources, found);
    spec.write_out_exits();
    let name = lab_name(&spec, fallback_name, found);
    // Only things that are the lab's alone are made from its name.
    check::lab(&spec, name.unwrap_or_else(LabName::default_lab), found)
}

fn lab_name(spec: &LabSpec, fallback: Option<&str>, found: &mut Found) -> Option<LabName> {
    if spec.misnamed || spec.name.is_some() {
        return spec.name.clone();
    }
    let hint = "write `name: my-lab` at the top of the file, or give `--lab my-lab`";
    let Some(fallback) = fallback else {
        found.add(Position::NOWHERE, "the lab has no name").hint(hint);
        return None;
    };
    LabName::new(fallback)
        .map_err(|bad| {
            let message = format!("the lab cannot be called {}: {bad}", quoted(fallback));
            found.add(Position::NOWHERE, message).hint(hint);
        })
        .ok()
}

/// Reads a single value, as it would stand behind a key of a file.
///
/// # Errors
/// A text that is no YAML.
pub fn value(text: &[u8]) -> Result<Json, Problems> {
    let mut found = Found::default();
    let tree = yaml::parse(text, &mut found);
    found.into_result("the value", "")?;
    Ok(tree.map_or(Json::Null, |tree| tree.to_json()))
}

/// Returns the lab of a `--topo`, such as `tree,2,3`.
pub fn shape(topo: &str, name: &LabName) -> Result<Lab, Problems> {
    let mut found = Found::default();
    let lab =
        shapes::spec(topo, &mut found).and_then(|spec| check::lab(&spec, name.clone(), &mut found));
    found.into_result(&format!("--topo {topo}"), "")?;
    Ok(lab.expect("either a lab or a problem comes out"))
}

/// The JSON Schema of the topology file (draft 2020-12), made from the same
/// tables by which it is read.
pub fn json_schema() -> Json {
    let mut schema = definition::<LabSpec>();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "ovsns topology".into();
    schema["type"] = "object".into();
    schema["$defs"] = json!({
        (SwitchSpec::NAME): definition::<SwitchSpec>(),
        (NodeSpec::NAME): definition::<NodeSpec>(),
        (AdoptSpec::NAME): definition::<AdoptSpec>(),
        (SealedSpec::NAME): definition::<SealedSpec>(),
        (InterfaceSpec::NAME): definition::<InterfaceSpec>(),
        (RouteSpec::NAME): definition::<RouteSpec>(),
        (LinkSpec::NAME): definition::<LinkSpec>(),
        (MirrorSpec::NAME): definition::<MirrorSpec>(),
        (TunnelSpec::NAME): definition::<TunnelSpec>(),
        (NetflowSpec::NAME): definition::<NetflowSpec>(),
        (SflowSpec::NAME): definition::<SflowSpec>(),
        (IpfixSpec::NAME): definition::<IpfixSpec>(),
        (QinqSpec::NAME): definition::<QinqSpec>(),
        (PolicingSpec::NAME): definition::<PolicingSpec>(),
        (ShapingSpec::NAME): definition::<ShapingSpec>(),
        (QueueSpec::NAME): definition::<QueueSpec>(),
        (BondSpec::NAME): definition::<BondSpec>(),
        (UplinkSpec::NAME): definition::<UplinkSpec>(),
        (CutSpec::NAME): definition::<CutSpec>(),
        (ImpairmentsSpec::NAME): definition::<ImpairmentsSpec>(),
        (DirectionSpec::NAME): definition::<DirectionSpec>(),
        (LimitsSpec::NAME): definition::<LimitsSpec>(),
        (ProcessSpec::NAME): definition::<ProcessSpec>(),
        (ReadySpec::NAME): definition::<ReadySpec>(),
        (FileSpec::NAME): definition::<FileSpec>(),
    });
    schema
}

/// Writes a lab as a topology file that leaves nothing to be filled in.
/// Reading it gives the same lab.
pub fn to_file(lab: &Lab) -> Json {
    let switches = lab.switches.iter().map(|(name, switch)| (name.to_string(), of_switch(switch)));
    let nodes = lab.nodes.iter().map(|(name, node)| (name.to_string(), of_node(node)));
    let mut file = json!({
        "name": lab.name,
        "switches": switches.collect::<Map<_, _>>(),
        "nodes": nodes.collect::<Map<_, _>>(),
        "links": lab.links.iter().map(of_link).collect::<Vec<_>>(),
    });
    put(&mut file, "prefixes", lab.prefixes.as_ref());
    put(&mut file, "routing", lab.routing.as_ref());
    put(&mut file, "hosts", lab.hosts.then_some(&true));
    let uplinks: Map<_, _> =
        lab.uplinks.iter().map(|(nic, uplink)| (nic.to_string(), of_uplink(uplink))).collect();
    put(&mut file, "uplinks", some(&uplinks, uplinks.is_empty()));
    put(&mut file, "cuts", some(&lab.cuts, lab.cuts.is_empty()));
    file
}

fn of_uplink(uplink: &Uplink) -> Json {
    let Uplink { switch, force } = uplink;
    let mut file = json!({ "switch": switch });
    put(&mut file, "force", force.then_some(&true));
    file
}

fn of_switch(switch: &Switch) -> Json {
    let Switch {
        backend,
        datapath,
        device,
        mac,
        mtu,
        settings,
        prefixes,
        nat,
        gateway,
        mirrors,
        tunnels,
        flows,
    } = switch;
    let SwitchSettings {
        stp,
        rstp,
        forward_delay_s,
        ageing_s,
        multicast_snooping,
        openflow,
        export,
    } = settings;
    let OpenFlow {
        fail_mode,
        controllers,
        in_band,
        max_backoff_ms,
        inactivity_probe_ms,
        protocols,
        datapath_id,
    } = openflow;
    let Export { netflow, sflow, ipfix } = export;
    let mut file = json!({
        "backend": backend.map_or("auto".to_owned(), |backend| backend.to_string()),
        "stp": stp,
        "ageing": ageing_s,
        "multicast_snooping": multicast_snooping,
    });
    put(&mut file, "prefixes", some(prefixes, prefixes.is_empty()));
    let nat = nat.map(|nat| match nat {
        Nat::Both => Json::Bool(true),
        Nat::Ipv4 => "ipv4".into(),
        Nat::Ipv6 => "ipv6".into(),
    });
    put(&mut file, "nat", nat.as_ref());
    put(&mut file, "gateway", some(gateway, gateway.is_empty()));
    put(&mut file, "device", device.as_ref());
    put(&mut file, "mac", mac.as_ref());
    put(&mut file, "mtu", mtu.as_ref());
    put(&mut file, "datapath", datapath.as_ref());
    put(&mut file, "rstp", rstp.then_some(&true));
    put(&mut file, "forward_delay", forward_delay_s.as_ref());
    put(&mut file, "fail_mode", fail_mode.as_ref());
    put(&mut file, "controllers", some(controllers, controllers.is_empty()));
    put(&mut file, "in_band", in_band.then_some(&true));
    put(&mut file, "max_backoff", max_backoff_ms.as_ref());
    put(&mut file, "inactivity_probe", inactivity_probe_ms.as_ref());
    put(&mut file, "protocols", some(protocols, protocols.is_empty()));
    put(&mut file, "datapath_id", datapath_id.as_ref());
    put(&mut file, "flows", some(flows, flows.is_empty()));
    let mirrors: Map<_, _> = mirrors.iter().map(|(k, v)| (k.to_string(), of_mirror(v))).collect();
    put(&mut file, "mirrors", some(&mirrors, mirrors.is_empty()));
    let tunnels: Map<_, _> = tunnels.iter().map(|(k, v)| (k.to_string(), of_tunnel(v))).collect();
    put(&mut file, "tunnels", some(&tunnels, tunnels.is_empty()));
    put(&mut file, "netflow", netflow.as_ref().map(of_netflow).as_ref());
    put(&mut file, "sflow", sflow.as_ref().map(of_sflow).as_ref());
    put(&mut file, "ipfix", ipfix.as_ref().map(of_ipfix).as_ref());
    file
}

/// Nothing in place of what is empty.
fn some<T>(value: &T, is_empty: bool) -> Option<&T> {
    (!is_empty).then_some(value)
}

fn of_mirror(mirror: &Mirror) -> Json {
    let Mirror { all, from, to, vlans, output } = mirror;
    json!({ "all": all, "from": from, "to": to, "vlans": vlans, "output": output })
}

fn of_tunnel(tunnel: &Tunnel) -> Json {
    let Tunnel { kind, remote, local, key, destination_port, port } = tunnel;
    let mut file = json!({ "type": kind, "remote": remote });
    put(&mut file, "local", local.as_ref());
    put(&mut file, "key", key.as_ref());
    put(&mut file, "destination_port", destination_port.as_ref());
    put_port(&mut file, port);
    file
}

fn of_netflow(netflow: &NetFlow) -> Json {
    let NetFlow { targets, active_timeout_s } = netflow;
    let mut file = json!({ "targets": targets });
    put(&mut file, "active_timeout", active_timeout_s.as_ref());
    file
}

fn of_sflow(sflow: &Sflow) -> Json {
    let Sflow { targets, sampling, polling_s, header_bytes, agent } = sflow;
    let mut file = json!({ "targets": targets });
    put(&mut file, "sampling", sampling.as_ref());
    put(&mut file, "polling", polling_s.as_ref());
    put(&mut file, "header", header_bytes.as_ref());
    put(&mut file, "agent", agent.as_ref());
    file
}

fn of_ipfix(ipfix: &Ipfix) -> Json {
    let Ipfix { targets, sampling, domain, point, cache_timeout_s } = ipfix;
    let mut file = json!({ "targets": targets });
    put(&mut file, "sampling", sampling.as_ref());
    put(&mut file, "domain", domain.as_ref());
    put(&mut file, "point", point.as_ref());
    put(&mut file, "cache_timeout", cache_timeout_s.as_ref());
    file
}

fn of_node(node: &Node) -> Json {
    let Node { interfaces, routes, sysctls, sealed, life, adopt } = node;
    let interfaces = interfaces.iter().map(|(name, i)| (name.to_string(), of_interface(i)));
    let mut file = json!({
        "interfaces": interfaces.collect::<Map<_, _>>(),
        "routes": routes.iter().map(of_route).collect::<Vec<_>>(),
        "sysctls": sysctls,
    });
    put(&mut file, "sealed", sealed.as_ref());
    put(&mut file, "adopt", adopt.as_ref().map(of_adopt).as_ref());
    let Life { room: Room { kinds, hostname }, limits, run, files } = life;
    put(&mut file, "isolation", some(kinds, kinds.is_empty()));
    put(&mut file, "hostname", hostname.as_ref());
    put(&mut file, "limits", (!limits.is_empty()).then(|| of_limits(limits)).as_ref());
    let run: Vec<_> = run.iter().map(of_process).collect();
    put(&mut file, "run", some(&run, run.is_empty()));
    let files: Map<_, _> = files.iter().map(|(path, f)| (path.clone(), of_file(f))).collect();
    put(&mut file, "files", some(&files, files.is_empty()));
    file
}

/// What a node adopts, as a file says it.
pub fn of_adopt(adopt: &Adopt) -> Json {
    match adopt {
        Adopt::Netns(netns) => json!({ "netns": netns }),
        Adopt::Pid(pid) => json!({ "pid": pid }),
        Adopt::Container(None, name) => json!({ "container": name }),
        Adopt::Container(Some(engine), name) => json!({ "container": format!("{engine}:{name}") }),
    }
}

fn of_limits(limits: &Limits) -> Json {
    let Limits { cpu_permille, memory_bytes, processes } = limits;
    let mut file = json!({});
    put(&mut file, "cpu", cpu_permille.map(|cpu| Processors(cpu).to_string()).as_ref());
    put(&mut file, "memory", memory_bytes.map(|bytes| Bytes(bytes).to_string()).as_ref());
    put(&mut file, "processes", processes.as_ref());
    file
}

fn of_process(process: &Process) -> Json {
    let Process { name, command, ready, timeout_s, restart, environment, directory, user } =
        process;
    let mut file = json!({ "name": name, "command": command, "restart": restart });
    put(&mut file, "timeout", Some(timeout_s).filter(|s| **s != Process::TIMEOUT_S_DEFAULT));
    let ready = ready.as_ref().map(|ready| match ready {
        Ready::Port(port) => json!({ "port": port.to_string() }),
        Ready::Command(command) => json!({ "command": command }),
    });
    put(&mut file, "ready", ready.as_ref());
    put(&mut file, "environment", some(environment, environment.is_empty()));
    put(&mut file, "directory", directory.as_ref());
    put(&mut file, "user", user.as_ref());
    file
}

fn of_interface(interface: &Interface) -> Json {
    let Interface { mac, addresses, dynamic } = interface;
    let addresses = addresses.iter().map(ToString::to_string);
    let words = dynamic.iter().map(ToString::to_string);
    let mut file = json!({ "addresses": addresses.chain(words).collect::<Vec<_>>() });
    put(&mut file, "mac", mac.as_ref());
    file
}

fn of_route(route: &Route) -> Json {
    let Route { to, via, interface, metric } = route;
    let mut file = json!({ "to": to });
    put(&mut file, "via", via.as_ref());
    put(&mut file, "interface", interface.as_ref());
    put(&mut file, "metric", metric.as_ref());
    file
}

fn of_link(link: &Link) -> Json {
    // `parallel` follows from the order of the links.
    let Link { ends, parallel: _, mtu, port, bond, down, impairments } = link;
    let mut file = json!({ "endpoints": ends.each_ref().map(ToString::to_string) });
    put(&mut file, "mtu", mtu.as_ref());
    if let Some(Share::Macvlan(mode)) = link.nic().map(|nic| nic.share) {
        put(&mut file, "mode", Some(&mode).filter(|mode| **mode != Macvlan::Bridge));
    }
    put_port(&mut file, port);
    let bond = bond.map(
        |Bond { members, mode, lacp }| json!({ "members": members, "mode": mode, "lacp": lacp }),
    );
    put(&mut file, "bond", bond.as_ref());
    put(&mut file, "down", down.then_some(&true));
    put(&mut file, "impairments", of_impairments(ends, impairments).as_ref());
    file
}

/// What both directions have in common, and what each has of its own.
fn of_impairments(ends: &[End; 2], impairments: &[Impairments; 2]) -> Option<Json> {
    if impairments.iter().all(Impairments::is_none) {
        return None;
    }
    let said = impairments.map(|it| it.said().collect::<BTreeMap<_, _>>());
    let mut file = json!({});
    for (side, end) in ends.iter().enumerate() {
        for (key, value) in &said[side] {
            match said[1 - side].get(key) == Some(value) {
                true => file[*key] = json!(value),
                false => file["from"][end.to_string()][*key] = json!(value),
            }
        }
    }
    Some(file)
}

fn put_port(file: &mut Json, port: &PortSettings) {
    let PortSettings { isolated, vlan, policing, shaping, hands_off: _ } = port;
    put(file, "isolated", isolated.then_some(&true));
    match vlan {
        None => {}
        Some(Vlan::Access(vlan)) => put(file, "vlan", Some(vlan)),
        Some(Vlan::Trunk { vlans, native }) => {
            put(file, "trunks", Some(vlans));
            put(file, "native", native.as_ref());
        }
        Some(Vlan::Tunnel { vlan, customers }) => {
            file["qinq"] = json!({ "vlan": vlan, "customers": customers });
        }
    }
    if let Some(Policing { rate_kbps, burst_kb }) = policing {
        file["policing"] = json!({ "rate": rate_kbps, "burst": burst_kb });
    }
    if let Some(Shaping { rate_kbps, queues }) = shaping {
        let queue = |(number, queue): (&u32, &Queue)| {
            let mut file = json!({});
            put(&mut file, "min", queue.min_kbps.as_ref());
            put(&mut file, "max", queue.max_kbps.as_ref());
            (number.to_string(), file)
        };
        let queues: Map<_, _> = queues.iter().map(queue).collect();
        file["shaping"] = json!({ "rate": rate_kbps, "queues": queues });
    }
}

/// Writes `key` if there is something to write.
fn put<T: serde::Serialize>(file: &mut Json, key: &str, value: Option<&T>) {
    if let Some(value) = value {
        file[key] = serde_json::to_value(value).expect("names and numbers are JSON");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mark::Thing;
    use std::collections::BTreeSet;

    /// A lab in a few lines: settings aside, what is where.
    fn shown(lab: &Lab) -> String {
        let mut lines = Vec::new();
        for (name, node) in &lab.nodes {
            for (interface, Interface { addresses, dynamic, .. }) in &node.interfaces {
                let words = dynamic.iter().map(ToString::to_string);
                let addresses: Vec<_> =
                    addresses.iter().map(ToString::to_string).chain(words).collect();
                lines.push(format!("{name}:{interface} {}", addresses.join(" ")));
            }
        }
        lines.extend(lab.links.iter().map(|link| format!("{} -- {}", link.ends[0], link.ends[1])));
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn lab(yaml: &str) -> Lab {
        read(yaml.as_bytes(), "lab.yaml", Some("lab"))
            .unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[track_caller]
    fn check(yaml: &str, expected: &str) {
        let expected: Vec<_> = expected.lines().map(str::trim).collect();
        assert_eq!(shown(&lab(yaml)), expected.join("\n"), "{yaml}");
    }

    #[test]
    fn ends_without_an_interface_take_the_next_free_one() {
        check(
            "{nodes: {a: {}, b: {}}, prefixes: [], links: [{endpoints: [a, b]}, {endpoints: [b, a]}]}",
            "a:eth0
             a:eth1
             b:eth0
             b:eth1
             a:eth0 -- b:eth0
             b:eth1 -- a:eth1",
        );
        // One that was declared is free until a link names it; a link further
        // down that names one keeps it.
        check(
            "{nodes: {a: {interfaces: {eth0: {}, wan: {}}}, b: {}, c: {}}, prefixes: [],
              links: [{endpoints: [a, b]}, {endpoints: [a:eth1, b]}, {endpoints: [a, c]}, {endpoints: [a:wan, c]}]}",
            "a:eth0
             a:eth1
             a:eth2
             a:wan
             b:eth0
             b:eth1
             c:eth0
             c:eth1
             a:eth0 -- b:eth0
             a:eth1 -- b:eth1
             a:eth2 -- c:eth0
             a:wan -- c:eth1",
        );
    }

    #[test]
    fn ranges_in_keys_and_ends() {
        check(
            "{switches: {s: {}, 't[1-2]': {}}, nodes: {'h[08-10]': {}}, prefixes: [],
              links: [{endpoints: ['h[08-10]', s]}, {endpoints: ['t[1-2]', s]}, {endpoints: ['h[08,10]:up', 't[1-2]']}]}",
            "h08:eth0
             h08:up
             h09:eth0
             h10:eth0
             h10:up
             h08:eth0 -- s
             h09:eth0 -- s
             h10:eth0 -- s
             t1 -- s
             t2 -- s
             h08:up -- t1
             h10:up -- t2",
        );
    }

    #[test]
    fn addresses_are_given_where_none_are_named() {
        check(
            "{switches: {s: {}, t: {}}, nodes: {a: {}, b: {interfaces: {eth0: {addresses: []}}}, r: {}, z: {}},
              links: [{endpoints: [a, s]}, {endpoints: [b, s]}, {endpoints: [r, s]}, {endpoints: [r, t]},
                      {endpoints: [r, z]}]}",
            "a:eth0 10.0.0.1/16 fd00:6f76::1/64
             b:eth0
             r:eth0 10.0.0.2/16 fd00:6f76::2/64
             r:eth1 10.1.0.1/16 fd00:6f76:0:1::1/64
             r:eth2 10.128.0.1/30 fd00:6f76:0:8000::1/64
             z:eth0 10.128.0.2/30 fd00:6f76:0:8000::2/64
             a:eth0 -- s
             b:eth0 -- s
             r:eth0 -- s
             r:eth1 -- t
             r:eth2 -- z:eth0",
        );
    }

    #[test]
    fn a_segment_spans_switches_and_has_their_prefixes() {
        check(
            "{switches: {s: {}, t: {prefixes: [172.16.9.0/24]}, u: {}}, nodes: {a: {}, b: {}, c: {}},
              prefixes: [192.168.0.0/16],
              links: [{endpoints: [c, u]}, {endpoints: [a, s]}, {endpoints: [b, t]}, {endpoints: [s, t]}]}",
            "a:eth0 172.16.9.1/24
             b:eth0 172.16.9.2/24
             c:eth0 192.168.0.1/16
             c:eth0 -- u
             a:eth0 -- s
             b:eth0 -- t
             s -- t",
        );
    }

    #[test]
    fn a_small_mtu_leaves_ipv6_out() {
        check(
            "{nodes: {a: {}, b: {}}, links: [{endpoints: [a, b], mtu: 1279}]}",
            "a:eth0 10.128.0.1/30
             b:eth0 10.128.0.2/30
             a:eth0 -- b:eth0",
        );
    }

    #[test]
    fn a_router_says_so_in_its_sysctls() {
        let of = |yaml: &str| lab(yaml).nodes.into_values().next().expect("one node").sysctls;
        let sysctls = of("nodes: { r: { forwarding: true } }");
        let sysctls: Vec<_> = sysctls.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(sysctls, ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
        assert!(of("nodes: { r: {} }").is_empty());
    }

    /// What is written out reads as the same lab, with every key there is.
    #[test]
    fn every_key_survives_being_written() {
        let yaml = "
name: all
prefixes: [10.0.0.0/8]
switches:
  s1:
    backend: ovs
    datapath: netdev
    device: br7
    mac: 02:00:00:00:00:77
    mtu: 9000
    stp: false
    rstp: true
    forward_delay: 5
    ageing: 60
    multicast_snooping: false
    prefixes: [172.16.0.0/16]
    controllers: [tcp:127.0.0.1:6653, 'ssl:[fd00::1]:6653', ptcp:6654]
    fail_mode: standalone
    in_band: true
    max_backoff: 2000
    inactivity_probe: 0
    protocols: [OpenFlow10, OpenFlow13]
    datapath_id: 00000000000000A1
    flows:
      - priority=10,in_port=n1,actions=output:s1~s2#0.1,output:t0
      - in_port=LOCAL actions=normal
    mirrors:
      m1: { all: true, output: n2 }
      m2: { from: ['n1:eth0', t0], to: [s2], vlans: [10], output: n2 }
    tunnels:
      t0: { type: vxlan, remote: 192.0.2.2, local: 192.0.2.1, key: 7, destination_port: 4790, vlan: 10 }
      t1: { type: gre, remote: 'fd00::2', isolated: true, trunks: [1, 2], native: 2 }
    netflow: { targets: ['127.0.0.1:2055'], active_timeout: 9 }
    sflow: { targets: ['127.0.0.1:6343'], sampling: 9, polling: 8, header: 77, agent: eth0 }
    ipfix: { targets: ['[fd00::1]:4739'], sampling: 9, domain: 8, point: 7, cache_timeout: 6 }
  s2: { rstp: true }
  s3: { nat: ipv4, gateway: [192.0.2.1/24] }
nodes:
  n1:
    interfaces: { eth0: { addresses: [10.0.0.1/24], mac: 02:00:00:00:00:01 } }
    routes: [{ to: default, via: 10.0.0.2, metric: 7 }]
    sysctls: { net.ipv4.ip_forward: 1 }
  n2: {}
  n3: { adopt: { netns: /run/netns/blue } }
  n4: { adopt: { pid: 12 } }
  n5: { adopt: { container: docker:web } }
  n6: { sealed: true }
  n7: { sealed: { raw: true } }
links:
  - { endpoints: [n1, s1], mtu: 1400, isolated: true, vlan: 10, policing: { rate: 1000, burst: 99 } }
  - endpoints: [n2, s1]
    qinq: { vlan: 100, customers: [10, 20] }
    shaping: { rate: 1000, queues: { 0: { min: 10 }, 7: { min: 5, max: 500 } } }
  - { endpoints: [s1, s2], trunks: [10, 20], native: 10, bond: { members: 3, mode: balance-tcp, lacp: active } }
  - { endpoints: ['n1:eth1', 'n2:eth1'], down: true, impairments: { loss: 12.5%, rate: 1.5mbit } }
  - endpoints: ['n1:eth2', s2]
    impairments:
      delay: 10ms
      jitter: 500us
      rate: 1gbit
      from:
        n1: { loss: 0.0001%, delay: 20ms, duplicate: 1%, reorder: 25%, corrupt: 100% }
        s2: { rate: none }
cuts: { split: { nodes: [n1], from: [n2] } }
uplinks: { eth1: { switch: s1, force: true }, enp3s0: { switch: s2 } }
";
        let lab = lab(yaml);
        let written = serde_json::to_vec(&to_file(&lab)).expect("JSON");
        let again = read(&written, "written", None).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again, lab);
        let s1 = &lab.switches[&"s1".parse().expect("a name")];
        assert_eq!(
            s1.flows[0],
            "priority=10,in_port=n1:eth0,actions=output:s1~s2#0.1,output:s1@t0"
        );
        let said: BTreeSet<String> = lab
            .switches
            .values()
            .filter_map(|switch| of_switch(switch).as_object().cloned())
            .flat_map(|keys| keys.into_iter().map(|(key, _)| key))
            .collect();
        let keys = definition::<SwitchSpec>()["properties"].as_object().map(Map::len);
        assert_eq!(Some(said.len()), keys, "every key of a switch is said");
    }

    #[test]
    fn links_between_the_same_switches_are_numbered() {
        let lab = lab("{switches: {'s[1-3]': {stp: true}}, links: [{endpoints: [s1, s2]}, \
             {endpoints: [s2, s1]}, {endpoints: [s2, s3]}, {endpoints: [s1, s2]}]}");
        let numbers: Vec<_> = lab.links.iter().map(|link| link.parallel).collect();
        assert_eq!(numbers, [0, 1, 0, 2]);
    }

    #[test]
    fn the_files_name_goes_before_the_fallback() {
        let named = |yaml: &str| lab(yaml).name.to_string();
        assert_eq!(named("{name: mine, nodes: }"), "mine");
        assert_eq!(named("nodes:"), "lab");
    }

    /// Names of devices are made from forty bits of a hash, and another
    /// switch may insist on just those.
    #[test]
    fn devices_called_alike_are_a_problem() {
        let device =
            lab("switches: { s1: {} }").mark(Thing::Switch("s1".parse().expect("a name"))).device();
        let yaml = format!("switches: {{ a: {{ device: {device} }}, s1: {{}} }}");
        let problems = read(yaml.as_bytes(), "", Some("lab")).expect_err("they clash");
        let [problem] = problems.problems() else { panic!("{problems}") };
        let expected = format!("`{device}` would be the device of `a` and of `s1`");
        assert_eq!(problem.message, expected);
    }

    mod schema {
        use std::path::Path;

        use super::super::super::holds::Key;
        use super::*;
        use crate::model::yaml::{Kind, Tree};

        /// YAML as an editor sees it, by the core schema.
        fn json_of(tree: &Tree) -> Json {
            match &tree.kind {
                Kind::List(items) => items.iter().map(json_of).collect(),
                Kind::Map(entries) => entries
                    .iter()
                    .map(|entry| (entry.key.value.clone(), json_of(&entry.value)))
                    .collect::<Map<_, _>>()
                    .into(),
                Kind::Scalar { .. } if tree.is_null() => Json::Null,
                Kind::Scalar { text, quoted: false } => match text.as_str() {
                    "true" => true.into(),
                    "false" => false.into(),
                    text => text.parse::<i64>().map_or_else(
                        |_| text.parse::<f64>().map_or_else(|_| text.into(), Json::from),
                        Json::from,
                    ),
                },
                Kind::Scalar { text, quoted: true } => text.as_str().into(),
            }
        }

        /// A validator of the keywords that our schema uses, and no others.
        fn valid(root: &Json, schema: &Json, value: &Json) -> bool {
            let schema = schema.as_object().expect("a schema is an object");
            schema.iter().all(|(keyword, rule)| match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" | "examples" => true,
                "$ref" => {
                    let pointer = rule.as_str().and_then(|r| r.strip_prefix('#')).expect("#/...");
                    valid(root, root.pointer(pointer).expect("every $ref leads somewhere"), value)
                }
                "type" => match rule {
                    Json::Array(types) => types.iter().any(|rule| is_of_type(value, rule)),
                    rule => is_of_type(value, rule),
                },
                "anyOf" => {
                    let rules = rule.as_array().expect("an array");
                    rules.iter().any(|rule| valid(root, rule, value))
                }
                "enum" => rule.as_array().expect("an array").contains(value),
                "pattern" => value.as_str().is_none_or(|text| matches(rule, text)),
                "minLength" => value.as_str().is_none_or(|t| rule.as_u64() <= Some(t.len() as u64)),
                "maxLength" => value.as_str().is_none_or(|t| Some(t.len() as u64) <= rule.as_u64()),
                "minimum" => value.as_f64().is_none_or(|number| rule.as_f64() <= Some(number)),
                "maximum" => value.as_f64().is_none_or(|number| Some(number) <= rule.as_f64()),
                "minItems" => {
                    value.as_array().is_none_or(|a| rule.as_u64() <= Some(a.len() as u64))
                }
                "maxItems" => {
                    value.as_array().is_none_or(|a| Some(a.len() as u64) <= rule.as_u64())
                }
                "items" => {
                    value.as_array().is_none_or(|a| a.iter().all(|item| valid(root, rule, item)))
                }
                "required" => value.as_object().is_none_or(|object| {
                    let keys = rule.as_array().expect("an array");
                    keys.iter().all(|key| object.contains_key(key.as_str().expect("a text")))
                }),
                "properties" => value.as_object().is_none_or(|object| {
                    let rule_of = |key: &str| rule.get(key);
                    object
                        .iter()
                        .all(|(key, v)| rule_of(key).is_none_or(|rule| valid(root, rule, v)))
                }),
                "patternProperties" => value.as_object().is_none_or(|object| {
                    let (pattern, rule) =
                        rule.as_object().and_then(|r| r.iter().next()).expect("one");
                    let pattern = pattern.as_str().into();
                    object.iter().all(|(key, v)| !matches(&pattern, key) || valid(root, rule, v))
                }),
                "additionalProperties" => value.as_object().is_none_or(|object| {
                    assert_eq!(rule, &Json::Bool(false));
                    let known = schema.get("properties").and_then(Json::as_object);
                    let pattern = schema.get("patternProperties").and_then(Json::as_object);
                    let pattern: Option<Json> =
                        pattern.map(|p| p.keys().next().expect("one").as_str().into());
                    object.keys().all(|key| {
                        known.is_some_and(|known| known.contains_key(key))
                            || pattern.as_ref().is_some_and(|pattern| matches(pattern, key))
                    })
                }),
                keyword => panic!("a new keyword: {keyword}"),
            })
        }

        fn is_of_type(value: &Json, rule: &Json) -> bool {
            match rule.as_str().expect("the name of a type") {
                "null" => value.is_null(),
                "boolean" => value.is_boolean(),
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                other => panic!("a new type: {other}"),
            }
        }

        fn matches(pattern: &Json, text: &str) -> bool {
            let pattern = pattern.as_str().expect("a pattern is a text");
            regex_lite::Regex::new(pattern).expect("a pattern that works").is_match(text)
        }

        fn tree(yaml: &[u8]) -> Tree {
            yaml::parse(yaml, &mut Found::default()).expect("it is YAML")
        }

        fn examples() -> Vec<(String, Vec<u8>)> {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
            let files = std::fs::read_dir(folder).expect("there are examples");
            let paths = files.map(|file| file.expect("readable").path());
            paths
                .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
                .map(|path| {
                    let stem = path.file_stem().expect("a name").to_str().expect("UTF-8");
                    (stem.to_owned(), std::fs::read(&path).expect("readable"))
                })
                .collect()
        }

        #[test]
        fn every_example_is_a_lab_and_fits() {
            let schema = json_schema();
            let examples = examples();
            assert!(5 <= examples.len());
            for (name, yaml) in examples {
                let mut beside = |from: &str| {
                    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/");
                    Ok(std::fs::read(format!("{directory}{from}")).expect("an example is whole"))
                };
                let lab = read_with(&yaml, &name, None, &mut beside);
                let lab = lab.unwrap_or_else(|problems| panic!("{problems}"));
                assert_eq!(lab.name.as_str(), name, "an example is called like its file");
                assert!(valid(&schema, &schema, &json_of(&tree(&yaml))), "{name}");
                assert!(valid(&schema, &schema, &to_file(&lab)), "{name}");
            }
        }

        #[test]
        fn every_key_is_in_the_schema_with_its_help() {
            let schema = json_schema();
            check::<LabSpec>(&schema);
            check::<SwitchSpec>(&schema["$defs"]["switch"]);
            check::<NodeSpec>(&schema["$defs"]["node"]);
            check::<InterfaceSpec>(&schema["$defs"]["interface"]);
            check::<RouteSpec>(&schema["$defs"]["route"]);
            check::<LinkSpec>(&schema["$defs"]["link"]);
            check::<MirrorSpec>(&schema["$defs"]["mirror"]);
            check::<TunnelSpec>(&schema["$defs"]["tunnel"]);
            check::<ShapingSpec>(&schema["$defs"]["shaping"]);
            check::<UplinkSpec>(&schema["$defs"]["uplink"]);

            #[track_caller]
            fn check<S: Object>(definition: &Json) {
                let properties = definition["properties"].as_object().expect("properties");
                assert_eq!(properties.len(), S::KEYS.len());
                for Key { name, help, .. } in S::KEYS {
                    assert_eq!(properties[*name]["description"], *help);
                    assert!(help.ends_with('.'), "{help}");
                }
            }
        }

        /// What the table refuses by itself, the schema refuses, and nothing
        /// else. (That a name is nobody's is more than a schema can know.)
        #[test]
        fn schema_and_table_agree() {
            check("nodes: { n1: {}, 'h[1-3].x': {}, n2: }", true);
            check("nodes: { 'n 1': {} }", false);
            check("nodes: { -n: {} }", false);
            check("nodes: { 'h[a]': {} }", false);
            check("nodes: []", false);
            check("nodes:", true);
            check("links:", false);
            check("links: []", true);
            check("name: a.b", false);
            check("name: [a]", false);
            check("uplinks: {}", true);
            check("{ switches: { s: }, uplinks: { eth1: { switch: s, force: true } } }", true);
            check("{ nodes: { n: }, uplinks: { eth1: { mode: move, node: 'n:x' } } }", true);
            check("{ nodes: { n: }, uplinks: { eth1: { mode: in, node: n } } }", false);
            check("{ nodes: { n: }, links: [{ endpoints: [n, macvlan:e], mode: vepa }] }", true);
            check("{ nodes: { n: }, links: [{ endpoints: [n, macvlan:e], mode: x }] }", false);
            check("{ switches: { s: }, uplinks: { lo/1: { switch: s } } }", false);
            check("{ switches: { s: }, uplinks: { eth1: s } }", false);
            check("prefixes: [10.0.0.0/8, 'fd00::/48']", true);
            check("prefixes: [ten]", false);
            check("switches: { s: { backend: ovs, mtu: 9000, stp: true, ageing: 0 } }", true);
            check("switches: { s: { backend: best } }", false);
            check("switches: { s: { mtu: 67 } }", false);
            check("switches: { s: { mtu: 65536 } }", false);
            check("switches: { s: { mtu: '1500' } }", false);
            check("switches: { s: { mtu: 1500.5 } }", false);
            check("switches: { s: { stp: yes } }", false);
            check("switches: { s: { forward_delay: 31 } }", false);
            check("switches: { s: { device: br0, mac: '02:00:00:00:00:01' } }", true);
            check("switches: { s: { device: a/b } }", false);
            check("switches: { s: { mac: '02:00:00:00:00' } }", false);
            check("nodes: { n: { sysctls: { net.ipv4.ip_forward: 1, net.core.x: a b } } }", true);
            check("nodes: { n: { sysctls: { kernel.x: 1 } } }", false);
            check("nodes: { n: { sysctls: { net.ipv4.ip_forward: true } } }", false);
            check("nodes: { n: { sysctls: { net.ipv4.ip_forward: [1] } } }", false);
            check("nodes: { n: { interfaces: { eth0: { addresses: [10.0.0.1] } } } }", false);
            check("nodes: { n: { routes: [{ to: default, via: 10.0.0.1, metric: 5 }] } }", true);
            check("nodes: { n: { routes: [{ via: 10.0.0.1 }] } }", false);
            check("nodes: { n: { routes: [{ to: default, via: here }] } }", false);
            check("nodes: { n: { routes: [] , forwarding: false } }", true);
            check("links: [{ endpoints: [a, 'h[1-3,7]:eth0'], isolated: true, vlan: 4094 }]", true);
            check("links: [{ endpoints: [a, b, c] }]", false);
            check("links: [{ endpoints: [a] }]", false);
            check("links: [{ endpoints: a }]", false);
            check("{ nodes: { a: , b: }, links: [{ endpoints: [a, 'b:c:d'] }] }", false);
            check("links: [{ mtu: 1500 }]", false);
            check("links: [{ endpoints: [a, b], vlan: 4095 }]", false);
            check("links: [{ endpoints: [a, b], trunks: [1, 2], native: 3 }]", true);
            check("links: [{ endpoints: [a, b], trunks: 1 }]", false);

            #[track_caller]
            fn check(yaml: &str, expected: bool) {
                let (tree, schema) = (tree(yaml.as_bytes()), json_schema());
                assert_eq!(valid(&schema, &schema, &json_of(&tree)), expected, "schema: {yaml}");
                let mut found = Found::default();
                let spec = Of::<LabSpec>::read(&tree, "lab", &mut found).expect("a mapping");
                let name = LabName::default_lab();
                check::lab(&spec, name, &mut found);
                let problems = found.into_result("", "").err();
                let problems = problems.iter().flat_map(Problems::problems);
                let told: Vec<_> = problems
                    .map(|problem| problem.message.as_str())
                    .filter(|message| !message.starts_with("no node or switch is called"))
                    .filter(|message| !message.contains("is on no"))
                    .collect();
                assert_eq!(told.is_empty(), expected, "table: {yaml}: {told:?}");
            }
        }
    }
}
