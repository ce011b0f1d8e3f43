//! Steps of a plan, written as one transaction.
//!
//! Pure: steps and a replica come in, a transaction comes out. It is built
//! anew when somebody else was faster, and finds less to do then. Keys of
//! other tools in maps that are shared stay as they are; rows of ours carry
//! the mark in `external_ids`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ovsdb::vswitch::{
    Bridge, Controller, Interface, Ipfix, Mirror, NetFlow, OpenVswitch, Port, Qos, Queue, Sflow,
    Strings,
};
use ovsdb::{Entry, ReadError, Ref, Replica, Transaction, Uuid};

use super::seen::{FLOWS, HANDS_OFF, LINKS, Links, MARK, Rows, VLANS, mark_of};
use crate::model::names::IfName;
use crate::model::topology::{Datapath, PortSettings, Shaping, SwitchSettings, Vlan, max_age_s};
use crate::model::world::{Leftover, MirrorSpec, PortKind, PortSpec, SwitchSpec};
use crate::plan::FabricStep;

/// How many ports can speak STP. They are numbered from 1 on whenever one comes
/// or goes, and those that get another number are down until STP has raised them
/// again. Numbers of our own (`stp-port-num` in ovs-vswitchd.conf.db(5)) would
/// spare them that; but then a single port of somebody else's without a number
/// ends STP on the whole bridge, with a line in the log, and loops are closed.
pub(super) const STP_PORTS_MAX: usize = 255;

/// Why steps cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum CannotWrite {
    /// The database is not what it is to be.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nobody has set the database up.
    #[error("the database of Open vSwitch has not been initialised")]
    Uninitialised,
    /// A name is somebody else's.
    #[error("Open vSwitch has {what} `{name}` already, and it is not ours")]
    Taken {
        /// What it is: a bridge, a port.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Something that was there when the plan was made is gone.
    #[error("Open vSwitch has no {what} `{name}` any more")]
    Gone {
        /// What it was.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

/// Writes `steps` as one transaction; `links` are the kernel's.
pub(super) fn write(
    steps: &[FabricStep],
    replica: &Replica,
    links: &Links,
) -> Result<Transaction, CannotWrite> {
    let root = replica.only::<OpenVswitch>()?.ok_or(CannotWrite::Uninitialised)?;
    let mut change = Change {
        transaction: Transaction::new(),
        rows: Rows::read(replica)?,
        links,
        new_bridges: HashMap::new(),
        new_ports: HashMap::new(),
        to_bridge: HashMap::new(),
        from_bridge: HashMap::new(),
        mirrors: HashMap::new(),
        without: BTreeSet::new(),
        deleted: BTreeSet::new(),
    };
    change.without = change.ports_without_qos(steps);
    let (mut bridges, mut gone) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            FabricStep::AddSwitch(spec) => bridges.extend(change.add_switch(spec)?),
            FabricStep::SetSwitch { before, after } => change.set_switch(before, after)?,
            FabricStep::DeleteSwitch(spec) => gone.extend(change.delete_switch(spec)),
            FabricStep::AddPort(port) => change.add_port(port)?,
            FabricStep::SetPort { before, after } => change.set_port(before, after)?,
            FabricStep::DeletePort(port) => change.delete_port(port),
            FabricStep::AddMirror(mirror) => change.add_mirror(mirror)?,
            FabricStep::DeleteMirror(mirror) => change.delete_mirror(mirror),
            FabricStep::AddFlow(flow) if flow.is_own() => {}
            FabricStep::AddFlow(flow) => change.note_flows(&flow.bridge)?,
            FabricStep::DeleteLeftover(leftover) => change.delete_leftover(leftover),
            // Not in the database.
            FabricStep::RaiseSwitch(_)
            | FabricStep::SettleSwitch(_)
            | FabricStep::DeleteFlow(_) => {}
        }
    }
    let mut transaction = change.finish();
    if !bridges.is_empty() {
        transaction.add(OpenVswitch::BRIDGES, root.uuid, bridges);
    }
    if !gone.is_empty() {
        transaction.remove(OpenVswitch::BRIDGES, root.uuid, gone);
    }
    Ok(transaction)
}

struct Change<'a> {
    transaction: Transaction,
    rows: Rows,
    links: &'a Links<'a>,
    new_bridges: HashMap<IfName, Ref<Bridge>>,
    new_ports: HashMap<IfName, Ref<Port>>,
    /// What is to be added to a bridge's ports, and taken from them: one
    /// operation for a thousand.
    to_bridge: HashMap<IfName, Vec<Ref<Port>>>,
    from_bridge: HashMap<IfName, Vec<Ref<Port>>>,
    mirrors: HashMap<IfName, Vec<Ref<Mirror>>>,
    /// The ports that will not refer to the QoS any more that they have.
    without: BTreeSet<Uuid>,
    /// The QoS rows that are deleted already.
    deleted: BTreeSet<Uuid>,
}

impl Change<'_> {
    fn finish(mut self) -> Transaction {
        for (bridge, ports) in std::mem::take(&mut self.from_bridge) {
            if let Ok(row) = self.bridge(&bridge) {
                self.transaction.remove(Bridge::PORTS, row, ports);
            }
        }
        for (bridge, ports) in std::mem::take(&mut self.to_bridge) {
            if let Ok(row) = self.bridge(&bridge) {
                self.transaction.add(Bridge::PORTS, row, ports);
            }
        }
        for (bridge, mirrors) in std::mem::take(&mut self.mirrors) {
            if let Ok(row) = self.bridge(&bridge) {
                self.transaction.add(Bridge::MIRRORS, row, mirrors);
            }
        }
        self.transaction
    }

    /// A bridge that is there, or that this transaction makes.
    fn bridge(&self, name: &IfName) -> Result<Ref<Bridge>, CannotWrite> {
        if let Some(row) = self.new_bridges.get(name) {
            return Ok(row.clone());
        }
        let there = self.rows.bridge(name).map(|bridge| Ref::uuid(bridge.uuid));
        there.ok_or_else(|| CannotWrite::Gone { what: "bridge", name: name.to_string() })
    }

    /// A port that is there, or that this transaction makes.
    fn port(&self, name: &IfName) -> Result<Ref<Port>, CannotWrite> {
        if let Some(row) = self.new_ports.get(name) {
            return Ok(row.clone());
        }
        let there = self.rows.port(name).map(|(_, port)| Ref::uuid(port.uuid));
        there.ok_or_else(|| CannotWrite::Gone { what: "port", name: name.to_string() })
    }

    /// Like `ovs-vsctl add-br BRIDGE -- set bridge BRIDGE datapath_type=...
    /// fail_mode=... other_config:hwaddr=...`.
    fn add_switch(&mut self, spec: &SwitchSpec) -> Result<Option<Ref<Bridge>>, CannotWrite> {
        if let Some(there) = self.rows.bridge(&spec.device) {
            return match mark_of(&there.external_ids) {
                // An earlier attempt, whose answer was lost.
                Some(mark) if mark.to_string() == spec.alias => Ok(None),
                _ => Err(CannotWrite::Taken { what: "a bridge", name: spec.device.to_string() }),
            };
        }
        self.transaction.guard_absent::<Bridge>([Bridge::NAME.is(spec.device.as_str())]);
        let name = spec.device.to_string();
        let local = Interface {
            name: name.clone(),
            kind: "internal".into(),
            mtu_request: Some(spec.mtu.into()),
            external_ids: marked(&spec.alias),
            ..Interface::default()
        };
        let local = self.transaction.insert(&local);
        let port = Port {
            name: name.clone(),
            interfaces: [local].into(),
            external_ids: marked(&spec.alias),
            ..Port::default()
        };
        let port = self.transaction.insert(&port);
        let mut row = Bridge {
            name,
            datapath_type: spec.datapath.unwrap_or(Datapath::System).to_string(),
            ports: [port].into(),
            external_ids: marked(&spec.alias),
            ..Bridge::default()
        };
        let SwitchSettings { stp, rstp, multicast_snooping, openflow, export, .. } = &spec.settings;
        row.stp_enable = *stp;
        row.rstp_enable = *rstp;
        row.mcast_snooping_enable = *multicast_snooping;
        row.fail_mode = openflow.fail_mode.map(|mode| mode.to_string());
        row.protocols = openflow.protocols.clone();
        row.other_config = other_config(spec);
        if spec.vlan_filtering {
            row.external_ids.insert(VLANS.into(), "true".into());
        }
        row.controller = self.controllers(spec).into_iter().collect();
        row.netflow = export.netflow.is_some().then(|| self.netflow(spec)).flatten();
        row.sflow = export.sflow.is_some().then(|| self.sflow(spec)).flatten();
        row.ipfix = export.ipfix.is_some().then(|| self.ipfix(spec)).flatten();
        let bridge = self.transaction.insert(&row);
        self.new_bridges.insert(spec.device.clone(), bridge.clone());
        Ok(Some(bridge))
    }

    fn controllers(&mut self, spec: &SwitchSpec) -> Vec<Ref<Controller>> {
        let openflow = &spec.settings.openflow;
        let rows = openflow.controllers.iter().map(|target| {
            let band = if openflow.in_band { "in-band" } else { "out-of-band" };
            self.transaction.insert(&Controller {
                target: target.clone(),
                connection_mode: Some(band.into()),
                max_backoff: openflow.max_backoff_ms.map(i64::from),
                inactivity_probe: openflow.inactivity_probe_ms.map(i64::from),
                external_ids: marked(&spec.alias),
                ..Controller::default()
            })
        });
        rows.collect()
    }

    fn netflow(&mut self, spec: &SwitchSpec) -> Option<Ref<NetFlow>> {
        let wanted = spec.settings.export.netflow.as_ref()?;
        Some(self.transaction.insert(&NetFlow {
            targets: wanted.targets.clone(),
            active_timeout: wanted.active_timeout_s.map_or(0, i64::from),
            external_ids: marked(&spec.alias),
            ..NetFlow::default()
        }))
    }

    fn sflow(&mut self, spec: &SwitchSpec) -> Option<Ref<Sflow>> {
        let wanted = spec.settings.export.sflow.as_ref()?;
        Some(self.transaction.insert(&Sflow {
            targets: wanted.targets.clone(),
            sampling: wanted.sampling.map(i64::from),
            polling: wanted.polling_s.map(i64::from),
            header: wanted.header_bytes.map(i64::from),
            agent: wanted.agent.clone(),
            external_ids: marked(&spec.alias),
        }))
    }

    fn ipfix(&mut self, spec: &SwitchSpec) -> Option<Ref<Ipfix>> {
        let wanted = spec.settings.export.ipfix.as_ref()?;
        Some(self.transaction.insert(&Ipfix {
            targets: wanted.targets.clone(),
            sampling: wanted.sampling.map(i64::from),
            obs_domain_id: wanted.domain.map(i64::from),
            obs_point_id: wanted.point.map(i64::from),
            cache_active_timeout: wanted.cache_timeout_s.map(i64::from),
            external_ids: marked(&spec.alias),
            ..Ipfix::default()
        }))
    }

    /// Like `ovs-vsctl set bridge BRIDGE ...`, with what differs.
    fn set_switch(&mut self, before: &SwitchSpec, after: &SwitchSpec) -> Result<(), CannotWrite> {
        let there = self.rows.bridge(&after.device);
        let there = there
            .ok_or_else(|| CannotWrite::Gone { what: "bridge", name: after.device.to_string() })?;
        let (row, uuid) = (there.row.clone(), there.uuid);
        let (old, new) = (&before.settings, &after.settings);
        let change = &mut self.transaction;
        if old.stp != new.stp {
            change.set(Bridge::STP_ENABLE, uuid, new.stp);
        }
        if old.rstp != new.rstp {
            change.set(Bridge::RSTP_ENABLE, uuid, new.rstp);
        }
        if old.multicast_snooping != new.multicast_snooping {
            change.set(Bridge::MCAST_SNOOPING_ENABLE, uuid, new.multicast_snooping);
        }
        if old.openflow.fail_mode != new.openflow.fail_mode {
            let mode = new.openflow.fail_mode.map(|mode| mode.to_string());
            change.set(Bridge::FAIL_MODE, uuid, mode);
        }
        if old.openflow.protocols != new.openflow.protocols {
            change.set(Bridge::PROTOCOLS, uuid, new.openflow.protocols.clone());
        }
        let (was, is) = (other_config(before), other_config(after));
        let gone: Vec<String> = was.keys().filter(|key| !is.contains_key(*key)).cloned().collect();
        if !gone.is_empty() {
            change.remove(Bridge::OTHER_CONFIG, uuid, gone);
        }
        let differ: Strings = is
            .into_iter()
            .filter(|(key, value)| row.other_config.get(key) != Some(value))
            .collect();
        if !differ.is_empty() {
            change.put(Bridge::OTHER_CONFIG, uuid, differ);
        }
        if before.vlan_filtering != after.vlan_filtering {
            if after.vlan_filtering {
                change.put(Bridge::EXTERNAL_IDS, uuid, [(VLANS.to_owned(), "true".to_owned())]);
            } else {
                change.remove(Bridge::EXTERNAL_IDS, uuid, [VLANS.to_owned()]);
            }
        }
        if before.mtu != after.mtu {
            let local = self.local(&row);
            if let Some(local) = local {
                let mtu = Some(i64::from(after.mtu));
                self.transaction.set(Interface::MTU_REQUEST, local, mtu);
            }
        }
        let connection = |settings: &SwitchSettings| {
            let of = &settings.openflow;
            let how = (of.in_band, of.max_backoff_ms, of.inactivity_probe_ms);
            (of.controllers.clone(), how)
        };
        if connection(old) != connection(new) {
            let gone: Vec<_> = self.rows.controllers(&row).map(|c| Ref::uuid(c.uuid)).collect();
            let rows = self.controllers(after);
            if !gone.is_empty() {
                self.transaction.remove(Bridge::CONTROLLER, uuid, gone);
            }
            if !rows.is_empty() {
                self.transaction.add(Bridge::CONTROLLER, uuid, rows);
            }
        }
        if old.export.netflow != new.export.netflow {
            let netflow = self.netflow(after);
            self.transaction.set(Bridge::NETFLOW, uuid, netflow);
        }
        if old.export.sflow != new.export.sflow {
            let sflow = self.sflow(after);
            self.transaction.set(Bridge::SFLOW, uuid, sflow);
        }
        if old.export.ipfix != new.export.ipfix {
            let ipfix = self.ipfix(after);
            self.transaction.set(Bridge::IPFIX, uuid, ipfix);
        }
        Ok(())
    }

    /// The local interface of a bridge.
    fn local(&self, bridge: &Bridge) -> Option<ovsdb::Uuid> {
        let mut ports = super::seen::followed(&bridge.ports, &self.rows.ports);
        let port = ports.find(|port| port.name == bridge.name)?;
        let interface = super::seen::followed(&port.interfaces, &self.rows.interfaces).next()?;
        Some(interface.uuid)
    }

    /// Like `ovs-vsctl del-br BRIDGE`. QoS rows of ours, which would stay, go
    /// too.
    fn delete_switch(&mut self, spec: &SwitchSpec) -> Option<Ref<Bridge>> {
        let bridge = self.rows.bridge(&spec.device)?;
        mark_of(&bridge.external_ids)?;
        let uuid = bridge.uuid;
        let ports = super::seen::followed(&bridge.ports, &self.rows.ports);
        let shaped = ports.filter_map(|port| Some((port.uuid, self.rows.shaping(port)?)));
        let shaped: Vec<_> = shaped.collect();
        for (port, shaping) in shaped {
            self.clear_shaping(port, shaping);
        }
        Some(Ref::uuid(uuid))
    }

    /// Takes its shaping off a port that goes. Its row goes at commit, too late
    /// for the check whether anybody still refers to what is deleted here.
    fn clear_shaping(&mut self, port: ovsdb::Uuid, shaping: (ovsdb::Uuid, Vec<ovsdb::Uuid>)) {
        self.transaction.set(Port::QOS, port, None);
        self.delete_shaping(shaping);
    }

    /// The ports that `steps` take their QoS from.
    fn ports_without_qos(&self, steps: &[FabricStep]) -> BTreeSet<Uuid> {
        let named = |name| self.rows.port(name).map(|(_, port)| port.uuid).into_iter().collect();
        let ports = steps.iter().flat_map(|step| -> Vec<Uuid> {
            match step {
                FabricStep::DeleteSwitch(spec) => {
                    let bridge = self.rows.bridge(&spec.device).into_iter();
                    let ports = bridge.flat_map(|bridge| &bridge.ports);
                    ports.filter_map(|port| port.as_uuid()).collect()
                }
                FabricStep::DeletePort(port) => named(&port.device),
                FabricStep::SetPort { before, after }
                    if before.settings.shaping != after.settings.shaping
                        || before.settings.hands_off != after.settings.hands_off =>
                {
                    named(&after.device)
                }
                FabricStep::SetPort { .. }
                | FabricStep::AddSwitch(_)
                | FabricStep::SetSwitch { .. }
                | FabricStep::RaiseSwitch(_)
                | FabricStep::SettleSwitch(_)
                | FabricStep::AddPort(_)
                | FabricStep::AddMirror(_)
                | FabricStep::DeleteMirror(_)
                | FabricStep::DeleteLeftover(_)
                | FabricStep::AddFlow(_)
                | FabricStep::DeleteFlow(_) => Vec::new(),
            }
        });
        ports.collect()
    }

    /// Deletes a QoS of ours with its queues, once, unless somebody has lent it
    /// to a port that keeps it: the database would refuse the whole change.
    fn delete_shaping(&mut self, (qos, queues): (Uuid, Vec<Uuid>)) {
        let keeps = |port: &Entry<Port>| {
            port.qos == Some(Ref::uuid(qos)) && !self.without.contains(&port.uuid)
        };
        if self.rows.ports.values().any(keeps) || !self.deleted.insert(qos) {
            return;
        }
        self.transaction.delete(Ref::<Qos>::uuid(qos));
        for queue in queues {
            self.transaction.delete(Ref::<Queue>::uuid(queue));
        }
    }

    /// Like `ovs-vsctl destroy qos ROW`. One that is gone, or that a port has
    /// been given meanwhile, stays as it is.
    fn delete_leftover(&mut self, leftover: &Leftover) {
        let row = self.rows.leftovers().find(|(_, there)| there == leftover);
        match row {
            Some((row, _)) if leftover.is_queue => self.transaction.delete(Ref::<Queue>::uuid(row)),
            Some((row, _)) => self.transaction.delete(Ref::<Qos>::uuid(row)),
            None => {}
        }
    }

    /// Like `ovs-vsctl add-port BRIDGE DEVICE -- set ...`.
    fn add_port(&mut self, port: &PortSpec) -> Result<(), CannotWrite> {
        let bridge = self.bridge(&port.bridge)?;
        if let Some((on, there)) = self.rows.port(&port.device) {
            let ours = mark_of(&there.external_ids).is_some_and(|m| m.to_string() == port.mark);
            return match ours && Ref::uuid(on.uuid) == bridge {
                // An earlier attempt, whose answer was lost.
                true => Ok(()),
                false => Err(CannotWrite::Taken { what: "a port", name: port.device.to_string() }),
            };
        }
        self.transaction.guard_absent::<Port>([Port::NAME.is(port.device.as_str())]);
        let interfaces = self.interfaces(port);
        let mut row = Port {
            name: port.device.to_string(),
            interfaces,
            external_ids: self.port_ids(port),
            ..Port::default()
        };
        if let PortKind::Bond { mode, lacp, primary, .. } = &port.kind {
            let primary = primary.iter().map(|name| ("bond-primary".into(), name.to_string()));
            row.other_config.extend(primary);
            row.bond_mode = Some(mode.to_string());
            row.lacp = Some(lacp.to_string());
            // Without it a partner is asked every 30 s, and a cable that
            // passes nothing is found after 90.
            row.other_config.insert("lacp-time".into(), "fast".into());
        }
        let vlans = vlan_columns(&port.settings, port.filtering);
        (row.tag, row.trunks, row.cvlans) = (vlans.tag, vlans.trunks, vlans.cvlans);
        row.vlan_mode = vlans.mode.map(str::to_owned);
        row.protected = port.settings.isolated;
        row.qos = self.qos(port);
        let row = self.transaction.insert(&row);
        self.new_ports.insert(port.device.clone(), row.clone());
        self.to_bridge.entry(port.bridge.clone()).or_default().push(row);
        Ok(())
    }

    fn interfaces(&mut self, port: &PortSpec) -> BTreeSet<Ref<Interface>> {
        let (kind, options) = match &port.kind {
            PortKind::Link | PortKind::Bond { .. } => (String::new(), Strings::new()),
            PortKind::Patch { peer } => {
                ("patch".to_owned(), Strings::from([("peer".to_owned(), peer.to_string())]))
            }
            PortKind::Tunnel { kind, remote, local, key, destination_port } => {
                let mut options = Strings::from([("remote_ip".to_owned(), remote.to_string())]);
                options.extend(local.map(|local| ("local_ip".to_owned(), local.to_string())));
                options.extend(key.map(|key| ("key".to_owned(), key.to_string())));
                let port = destination_port.map(|port| ("dst_port".to_owned(), port.to_string()));
                options.extend(port);
                (kind.to_string(), options)
            }
        };
        let names: Vec<&IfName> = match &port.kind {
            PortKind::Bond { members, .. } => members.iter().collect(),
            PortKind::Link | PortKind::Patch { .. } | PortKind::Tunnel { .. } => vec![&port.device],
        };
        let policing = port.settings.policing;
        let rows = names.into_iter().map(|name| {
            self.transaction.insert(&Interface {
                name: name.to_string(),
                kind: kind.clone(),
                options: options.clone(),
                ofport_request: port.number.map(i64::from),
                ingress_policing_rate: policing.map_or(0, |p| p.rate_kbps.into()),
                ingress_policing_burst: policing.map_or(0, |p| p.burst_kb.into()),
                external_ids: marked(&port.mark),
                ..Interface::default()
            })
        });
        rows.collect()
    }

    /// The mark of a port, and the kernel's links that are plugged in.
    fn port_ids(&self, port: &PortSpec) -> Strings {
        let mut ids = marked(&port.mark);
        let index = |name: &IfName| {
            let link = self.links.get(name.as_str())?;
            Some(format!("{name}={}", link.index))
        };
        let links: Vec<String> = match &port.kind {
            PortKind::Link => index(&port.device).into_iter().collect(),
            PortKind::Bond { members, .. } => members.iter().filter_map(index).collect(),
            PortKind::Patch { .. } | PortKind::Tunnel { .. } => Vec::new(),
        };
        if !links.is_empty() {
            ids.insert(LINKS.into(), links.join(" "));
        }
        ids
    }

    /// What is done to frames that go out of a port, and by whom.
    fn qos(&mut self, port: &PortSpec) -> Option<Ref<Qos>> {
        if port.settings.hands_off {
            return Some(self.transaction.insert(&Qos {
                kind: HANDS_OFF.into(),
                external_ids: marked(&port.mark),
                ..Qos::default()
            }));
        }
        port.settings.shaping.as_ref().map(|shaping| self.shaping(port, shaping))
    }

    fn shaping(&mut self, port: &PortSpec, shaping: &Shaping) -> Ref<Qos> {
        let bits = |kbps: u32| (u64::from(kbps) * 1000).to_string();
        let mut queues = BTreeMap::new();
        for (number, queue) in &shaping.queues {
            let rates = [("min-rate", queue.min_kbps), ("max-rate", queue.max_kbps)];
            let rates = rates.into_iter().filter_map(|(k, v)| Some((k.to_owned(), bits(v?))));
            let row = self.transaction.insert(&Queue {
                other_config: rates.collect(),
                external_ids: marked(&port.mark),
                ..Queue::default()
            });
            queues.insert(i64::from(*number), row);
        }
        self.transaction.insert(&Qos {
            kind: "linux-htb".into(),
            queues,
            other_config: [("max-rate".to_owned(), bits(shaping.rate_kbps))].into(),
            external_ids: marked(&port.mark),
        })
    }

    /// Like `ovs-vsctl set port DEVICE ...`, with what differs.
    fn set_port(&mut self, before: &PortSpec, after: &PortSpec) -> Result<(), CannotWrite> {
        let gone = || CannotWrite::Gone { what: "port", name: after.device.to_string() };
        let (on, there) = self.rows.port(&after.device).ok_or_else(gone)?;
        let (bridge, row, uuid) = (on.name.clone(), there.row.clone(), there.uuid);
        if bridge != after.bridge.as_str() {
            self.bridge(&after.bridge)?;
            self.from_bridge.entry(before.bridge.clone()).or_default().push(Ref::uuid(uuid));
            self.to_bridge.entry(after.bridge.clone()).or_default().push(Ref::uuid(uuid));
        }
        let (old, new) = (&before.settings, &after.settings);
        if old.isolated != new.isolated {
            self.transaction.set(Port::PROTECTED, uuid, new.isolated);
        }
        if (&old.vlan, before.filtering) != (&new.vlan, after.filtering) {
            let vlans = vlan_columns(new, after.filtering);
            self.transaction.set(Port::TAG, uuid, vlans.tag);
            self.transaction.set(Port::TRUNKS, uuid, vlans.trunks);
            self.transaction.set(Port::CVLANS, uuid, vlans.cvlans);
            self.transaction.set(Port::VLAN_MODE, uuid, vlans.mode.map(str::to_owned));
        }
        if (&old.shaping, old.hands_off) != (&new.shaping, new.hands_off) {
            let gone = self.rows.shaping(&row);
            let qos = self.qos(after);
            self.transaction.set(Port::QOS, uuid, qos);
            if let Some(gone) = gone {
                self.delete_shaping(gone);
            }
        }
        if row.external_ids.get(MARK) != Some(&after.mark) {
            let mark = [(MARK.to_owned(), after.mark.clone())];
            self.transaction.put(Port::EXTERNAL_IDS, uuid, mark);
        }
        if old.policing != new.policing || before.number != after.number {
            let interfaces: Vec<_> =
                row.interfaces.iter().filter_map(|row| row.as_uuid()).collect();
            for interface in interfaces {
                let (rate, burst) = new.policing.map_or((0, 0), |p| (p.rate_kbps, p.burst_kb));
                let change = &mut self.transaction;
                change.set(Interface::INGRESS_POLICING_RATE, interface, i64::from(rate));
                change.set(Interface::INGRESS_POLICING_BURST, interface, i64::from(burst));
                let number = after.number.map(i64::from);
                change.set(Interface::OFPORT_REQUEST, interface, number);
            }
        }
        Ok(())
    }

    /// Like `ovs-vsctl del-port BRIDGE DEVICE`.
    fn delete_port(&mut self, port: &PortSpec) {
        // One that is gone is as it is to be.
        let Some((on, there)) = self.rows.port(&port.device) else { return };
        let (Ok(bridge), uuid) = (IfName::new(&on.name), there.uuid) else { return };
        if let Some(shaping) = self.rows.shaping(there) {
            self.clear_shaping(uuid, shaping);
        }
        self.from_bridge.entry(bridge).or_default().push(Ref::uuid(uuid));
    }

    /// Like `ovs-vsctl -- --id=@m create mirror name=NAME ... -- add bridge
    /// BRIDGE mirrors @m`.
    fn add_mirror(&mut self, mirror: &MirrorSpec) -> Result<(), CannotWrite> {
        let bridge = self.bridge(&mirror.bridge)?;
        if let (Some(uuid), Some(row)) = (bridge.as_uuid(), self.rows.bridge(&mirror.bridge))
            && row.uuid == uuid
            && let Some(old) = self.rows.mirror(row, &mirror.name)
        {
            let old = Ref::uuid(old.uuid);
            self.transaction.remove(Bridge::MIRRORS, uuid, [old]);
        }
        let ports = |names: &BTreeSet<IfName>| -> Result<BTreeSet<Ref<Port>>, CannotWrite> {
            names.iter().map(|name| self.port(name)).collect()
        };
        let row = Mirror {
            name: mirror.name.to_string(),
            select_all: mirror.all,
            select_src_port: ports(&mirror.from)?,
            select_dst_port: ports(&mirror.to)?,
            select_vlan: mirror.vlans.iter().copied().map(i64::from).collect(),
            output_port: Some(self.port(&mirror.output)?),
            external_ids: marked(&mirror.mark),
            ..Mirror::default()
        };
        let row = self.transaction.insert(&row);
        self.mirrors.entry(mirror.bridge.clone()).or_default().push(row);
        Ok(())
    }

    fn delete_mirror(&mut self, mirror: &MirrorSpec) {
        let Some(bridge) = self.rows.bridge(&mirror.bridge) else { return };
        let Some(row) = self.rows.mirror(bridge, &mirror.name) else { return };
        self.transaction.remove(Bridge::MIRRORS, bridge.uuid, [Ref::uuid(row.uuid)]);
    }

    /// Notes on the bridge that it was given flows.
    fn note_flows(&mut self, bridge: &IfName) -> Result<(), CannotWrite> {
        let noted = |bridge: &&Entry<Bridge>| bridge.external_ids.contains_key(FLOWS);
        if self.rows.bridge(bridge).filter(noted).is_none() {
            let row = self.bridge(bridge)?;
            let note = [(FLOWS.to_owned(), "true".to_owned())];
            self.transaction.put(Bridge::EXTERNAL_IDS, row, note);
        }
        Ok(())
    }
}

fn marked(mark: &str) -> Strings {
    Strings::from([(MARK.to_owned(), mark.to_owned())])
}

/// What of a bridge is in its `other_config`.
fn other_config(spec: &SwitchSpec) -> Strings {
    let SwitchSettings { stp, rstp, forward_delay_s, ageing_s, openflow, .. } = &spec.settings;
    let mut config = Strings::from([
        ("hwaddr".to_owned(), spec.mac.to_string()),
        ("mac-aging-time".to_owned(), ageing_s.to_string()),
    ]);
    if let Some(seconds) = forward_delay_s.filter(|_| *stp || *rstp) {
        let protocol = if *rstp { "rstp" } else { "stp" };
        // What goes with it (IEEE 802.1D, 8.10.2): with the default of 20 s a
        // ring needs 22 s to settle, whatever the forward delay.
        let max_age = max_age_s(seconds);
        config.insert(format!("{protocol}-forward-delay"), seconds.to_string());
        config.insert(format!("{protocol}-max-age"), max_age.to_string());
        if *stp {
            config.insert("stp-hello-time".to_owned(), "1".to_owned());
        }
    }
    let id = openflow.datapath_id.as_ref();
    config.extend(id.map(|id| ("datapath-id".to_owned(), id.clone())));
    config
}

/// A port's columns about VLANs.
pub(super) struct VlanColumns {
    pub(super) mode: Option<&'static str>,
    pub(super) tag: Option<i64>,
    pub(super) trunks: BTreeSet<i64>,
    pub(super) cvlans: BTreeSet<i64>,
}

/// What a port's VLANs are. One that says nothing, on a switch where others
/// do, lets all pass, untagged ones in VLAN 1, as on a Linux bridge.
pub(super) fn vlan_columns(settings: &PortSettings, filtering: bool) -> VlanColumns {
    let ids = |ids: &BTreeSet<u16>| ids.iter().copied().map(i64::from).collect();
    let none = BTreeSet::new;
    match &settings.vlan {
        None if filtering => VlanColumns {
            mode: Some("native-untagged"),
            tag: Some(1),
            trunks: none(),
            cvlans: none(),
        },
        None => VlanColumns { mode: None, tag: None, trunks: none(), cvlans: none() },
        Some(Vlan::Access(id)) => VlanColumns {
            mode: Some("access"),
            tag: Some((*id).into()),
            trunks: none(),
            cvlans: none(),
        },
        Some(Vlan::Trunk { vlans, native }) => VlanColumns {
            mode: Some(if native.is_some() { "native-untagged" } else { "trunk" }),
            tag: native.map(i64::from),
            trunks: ids(vlans),
            cvlans: none(),
        },
        Some(Vlan::Tunnel { vlan, customers }) => VlanColumns {
            mode: Some("dot1q-tunnel"),
            tag: Some((*vlan).into()),
            trunks: none(),
            cvlans: ids(customers),
        },
    }
}
