//! What a switch and its ports are to be: VLANs, bonds, tunnels, mirrors, flows.

use std::collections::{BTreeMap, BTreeSet};

use super::SwitchDraft;
use super::addressing::values;
use crate::model::flow;
use crate::model::ports::{NoPort, Ports};
use crate::model::problem::{At, Found, Position};
use crate::model::spec::{
    BondSpec, MirrorSpec, PolicingSpec, PortKeys, QueueSpec, ShapingSpec, SwitchSpec, TunnelSpec,
};
use crate::model::topology::{
    Bond, BondMode, Lacp, Link, Mirror, Policing, PortSettings, Queue, Shaping, Switch, Tunnel,
    TunnelKind, Vlan,
};

impl SwitchDraft<'_> {
    /// The switch, with the ports that `links` give it.
    pub(super) fn build(&self, links: &[Link], found: &mut Found) -> Switch {
        let SwitchSpec { backend, datapath, device, mac, mtu, prefixes, .. } = self.spec;
        let mut settings = self.spec.settings.clone();
        let export = &mut settings.export;
        export.netflow = self.spec.netflow.as_ref().map(|netflow| netflow.value.meant());
        export.sflow = self.spec.sflow.as_ref().map(|sflow| sflow.value.meant());
        export.ipfix = self.spec.ipfix.as_ref().map(|ipfix| ipfix.value.meant());
        let tunnels: BTreeMap<_, _> = self
            .spec
            .tunnels
            .iter()
            .filter_map(|(name, spec)| Some((name.value.clone(), tunnel(spec, found)?)))
            .collect();
        let ports = OnPorts(Ports::new(&self.name, links, tunnels.keys()));
        let mirrors = self.spec.mirrors.iter().filter_map(|(name, spec)| {
            Some((name.value.clone(), ports.mirror(spec, name.at, found)?))
        });
        let mirrors = mirrors.collect();
        let flows = self.spec.flows.iter().map(|flow| ports.flow(flow, found)).collect();
        Switch {
            backend: *backend,
            datapath: *datapath,
            device: device.as_ref().map(|device| device.value.clone()),
            mac: mac.map(|mac| mac.value),
            mtu: *mtu,
            settings,
            prefixes: values(prefixes),
            nat: self.spec.nat.and_then(|nat| nat.value),
            gateway: self.spec.gateway.iter().map(|net| net.value).collect(),
            mirrors,
            tunnels,
            flows,
        }
    }
}

/// What a file says in terms of the ports of one switch.
struct OnPorts(Ports);

impl OnPorts {
    fn found(&self, words: &At<String>, found: &mut Found) -> Option<String> {
        let port = self.0.find(&words.value).map(str::to_owned);
        port.map_err(|NoPort { what, hint }| found.add(words.at, what).hint = hint).ok()
    }

    fn mirror(&self, spec: &MirrorSpec, at: Position, found: &mut Found) -> Option<Mirror> {
        let MirrorSpec { all, from, to, vlans, output, flawed } = spec;
        let mut ports = |list: &[At<String>]| -> BTreeSet<String> {
            list.iter().filter_map(|words| self.found(words, found)).collect()
        };
        let (from, to) = (ports(from), ports(to));
        let output_at = output.as_ref()?.at;
        let output = self.found(output.as_ref()?, found)?;
        if !flawed && !all && spec.from.is_empty() && spec.to.is_empty() {
            found.add(at, "this mirror copies nothing").hint("say `all: true`, `from` or `to`");
        }
        if from.contains(&output) || to.contains(&output) {
            found.add(output_at, format!("`{output}` would get copies of its own frames"));
        }
        let vlans = vlans.iter().copied().map(vlan_id).collect();
        Some(Mirror { all: *all, from, to, vlans, output })
    }

    /// A flow with its ports' full names.
    fn flow(&self, flow: &At<String>, found: &mut Found) -> String {
        let mut wrongs = Vec::new();
        let text = flow::with_output(&flow.value, |words| self.0.know(words));
        let text = flow::with_ports(&text, |words| {
            self.0.find_numbered(words).unwrap_or_else(|wrong| {
                wrongs.push(wrong);
                words.to_owned()
            })
        });
        for NoPort { what, hint } in wrongs {
            found.add(flow.at, what).hint = hint;
        }
        text
    }
}

pub(super) fn tunnel(spec: &TunnelSpec, found: &mut Found) -> Option<Tunnel> {
    check_port(&spec.port, found);
    let (kind, remote) = (spec.kind?, spec.remote?);
    if let Some(local) = spec.local
        && local.value.is_ipv4() != remote.value.is_ipv4()
    {
        found.add(local.at, "`local` and `remote` are not of one family");
    }
    if let (TunnelKind::Gre, Some(port)) = (kind, spec.destination_port) {
        found.add(port.at, "`destination_port` is for VXLAN and Geneve; GRE has no ports");
    }
    let destination_port = spec
        .destination_port
        .map(|port| u16::try_from(port.value).expect("the table says at most 65535"));
    Some(Tunnel {
        kind,
        remote: remote.value,
        local: spec.local.map(|local| local.value),
        key: spec.key,
        destination_port,
        port: port(&spec.port),
    })
}

pub(super) fn bond_of(spec: &BondSpec) -> Bond {
    Bond {
        members: spec.members.unwrap_or(2),
        mode: spec.mode.unwrap_or(BondMode::ActiveBackup),
        lacp: spec.lacp.unwrap_or(Lacp::Active),
    }
}

/// Why a bond does not work without LACP, if it does not.
pub(super) fn why_lacp(bond: Bond) -> Option<&'static str> {
    match (bond.lacp, bond.mode) {
        (Lacp::Active, _) => None,
        (Lacp::Off, BondMode::BalanceTcp) => Some("`balance-tcp` works by LACP alone"),
        (Lacp::Off, BondMode::BalanceSlb) => Some(
            "without LACP `balance-slb` loses broadcasts: the other switch takes them from one \
             cable only",
        ),
        (Lacp::Off, BondMode::ActiveBackup) if 2 < bond.members => Some(
            "without LACP the switches could take different cables of more than two, and pass \
             nothing",
        ),
        (Lacp::Off, BondMode::ActiveBackup) => None,
    }
}

impl PortKeys {
    /// What is said, and where.
    pub(super) fn said(&self) -> impl Iterator<Item = (&'static str, Position)> {
        let Self { isolated, vlan, trunks, native, qinq, policing, shaping, flawed: _ } = self;
        let isolated = isolated.filter(|isolated| isolated.value);
        [
            ("isolated", isolated.map(|i| i.at)),
            ("vlan", vlan.map(|v| v.at)),
            ("trunks", trunks.as_ref().map(|t| t.at)),
            ("native", native.map(|n| n.at)),
            ("qinq", qinq.as_ref().map(|q| q.at)),
            ("policing", policing.as_ref().map(|p| p.at)),
            ("shaping", shaping.as_ref().map(|s| s.at)),
        ]
        .into_iter()
        .filter_map(|(key, at)| Some((key, at?)))
    }
}

/// Checks what is said of a port.
pub(super) fn check_port(keys: &PortKeys, found: &mut Found) {
    let PortKeys { vlan, trunks, native, qinq, shaping, flawed, .. } = keys;
    match (vlan, trunks, native) {
        (Some(_), Some(trunks), _) => {
            found.add(trunks.at, "`vlan` and `trunks` exclude each other").hint(
                "a port is in one VLAN, untagged (`vlan`), or passes many, tagged (`trunks`)",
            );
        }
        (_, None, Some(native)) if !flawed => {
            found
                .add(native.at, "`native` without `trunks`")
                .hint(format!("for a port in one VLAN write `vlan: {}`", native.value));
        }
        (_, Some(trunks), _) if trunks.value.is_empty() && !flawed => {
            found.add(trunks.at, "`trunks` names no VLAN, so nothing would pass");
        }
        _ => {}
    }
    if let Some(qinq) = qinq.as_ref().filter(|_| vlan.is_some() || trunks.is_some()) {
        found
            .add(qinq.at, "`qinq` excludes `vlan` and `trunks`")
            .hint("all that comes in is wrapped in one VLAN, whatever tag it has");
    }
    let Some(At { at, value: ShapingSpec { rate: Some(rate), queues } }) = shaping else { return };
    for (number, queue) in queues {
        let most = queue.max.unwrap_or(*rate);
        if *rate < most {
            let message = format!("queue {} may have more than all of {rate} kbit/s", number.value);
            found.add(number.at, message);
        } else if queue.min.is_some_and(|min| most < min) {
            let message = format!("queue {} has a `min` above what it may have", number.value);
            found.add(number.at, message);
        }
    }
    let sum: u64 = queues.iter().filter_map(|(_, queue)| queue.min).map(u64::from).sum();
    if u64::from(*rate) < sum {
        found.add(*at, format!("the queues have {sum} kbit/s for sure, of {rate}"));
    }
}

fn vlan_id(id: u32) -> u16 {
    u16::try_from(id).expect("the table says at most 4094")
}

pub(super) fn port(keys: &PortKeys) -> PortSettings {
    let ids = |list: &[u32]| list.iter().copied().map(vlan_id).collect();
    let trunk = keys.trunks.as_ref().map(|trunks| Vlan::Trunk {
        vlans: trunks.value.iter().map(|vlan| vlan_id(vlan.value)).collect(),
        native: keys.native.map(|native| vlan_id(native.value)),
    });
    let qinq = keys.qinq.as_ref().and_then(|qinq| {
        let customers = ids(&qinq.value.customers);
        Some(Vlan::Tunnel { vlan: vlan_id(qinq.value.vlan?), customers })
    });
    let policing = |spec: &At<PolicingSpec>| {
        let rate_kbps = spec.value.rate?;
        let burst_kb = spec.value.burst.unwrap_or(Policing::burst_default(rate_kbps));
        Some(Policing { rate_kbps, burst_kb })
    };
    let shaping = |spec: &At<ShapingSpec>| {
        let queue = |(number, queue): &(At<u32>, QueueSpec)| {
            (number.value, Queue { min_kbps: queue.min, max_kbps: queue.max })
        };
        let queues = spec.value.queues.iter().map(queue).collect();
        Some(Shaping { rate_kbps: spec.value.rate?, queues })
    };
    PortSettings {
        isolated: keys.isolated.is_some_and(|isolated| isolated.value),
        vlan: trunk.or(qinq).or(keys.vlan.map(|vlan| Vlan::Access(vlan_id(vlan.value)))),
        policing: keys.policing.as_ref().and_then(policing),
        shaping: keys.shaping.as_ref().and_then(shaping),
        hands_off: false,
    }
}
