//! Rows of the database, read as switches of a lab.
//!
//! Pure: a replica and the kernel's links come in, a `Fabric` comes out.
//! Whatever `change` writes is read back here as it was written, so that a
//! second look finds nothing to do.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ovsdb::vswitch::{
    Bridge, Controller, Interface, Ipfix, Mirror, NetFlow, OpenVswitch as Root, Port, Qos, Queue,
    Sflow, Strings,
};
use ovsdb::{Entry, ReadError, Ref, Replica, Table, Uuid};

use crate::kernel::observe::Link;
use crate::model::mark::{Mac, Mark, Thing};
use crate::model::names::{IfName, LabName};
use crate::model::nic::LentMark;
use crate::model::topology::{
    self, Backend, BondMode, Datapath, Export, FailMode, Lacp, OpenFlow, Policing, PortSettings,
    Shaping, SwitchSettings, TunnelKind, Vlan,
};
use crate::model::world::{
    AstrayPort, ExportKind, Fabric, FlowSpec, Foreign, Leftover, MirrorSpec, PortKind, SeenPort,
    SeenSwitch, SwitchSpec,
};

/// The key of our mark in `external_ids`.
pub(super) const MARK: &str = "ovsns";
/// The kernel's index of each link that was plugged in, in `external_ids` of
/// its port: a link that was made again under the same name is another one,
/// which Open vSwitch does not notice (its socket stays bound to the old one).
pub(super) const LINKS: &str = "ovsns-links";
/// Whether ports of a bridge have a say about VLANs, in its `external_ids`.
pub(super) const VLANS: &str = "ovsns-vlans";
/// Whether a bridge was given flows of ours, in its `external_ids`. The flows
/// themselves are lost when the daemon restarts.
pub(super) const FLOWS: &str = "ovsns-flows";

/// The kernel's links by name.
pub(super) type Links<'a> = HashMap<&'a str, &'a Link>;

/// The rows that matter, each by its UUID.
pub(super) struct Rows {
    /// Whether the daemon has carried out all that is there.
    caught_up: bool,
    pub(super) bridges: Vec<Entry<Bridge>>,
    pub(super) ports: HashMap<Uuid, Entry<Port>>,
    pub(super) interfaces: HashMap<Uuid, Entry<Interface>>,
    mirrors: HashMap<Uuid, Entry<Mirror>>,
    qos: HashMap<Uuid, Entry<Qos>>,
    queues: HashMap<Uuid, Entry<Queue>>,
    pub(super) controllers: HashMap<Uuid, Entry<Controller>>,
    netflow: HashMap<Uuid, Entry<NetFlow>>,
    sflow: HashMap<Uuid, Entry<Sflow>>,
    ipfix: HashMap<Uuid, Entry<Ipfix>>,
}

/// The rows of a table.
pub(super) fn by_uuid<T: Table>(replica: &Replica) -> Result<HashMap<Uuid, Entry<T>>, ReadError> {
    Ok(replica.rows::<T>()?.into_iter().map(|entry| (entry.uuid, entry)).collect())
}

/// The rows that a column refers to.
pub(super) fn followed<'r, T: 'r>(
    refs: impl IntoIterator<Item = &'r Ref<T>>,
    rows: &'r HashMap<Uuid, Entry<T>>,
) -> impl Iterator<Item = &'r Entry<T>> {
    refs.into_iter().filter_map(|row| rows.get(&row.as_uuid()?))
}

/// The mark in `external_ids`, if it is one of ours.
pub(super) fn mark_of(external_ids: &Strings) -> Option<Mark> {
    Mark::parse(external_ids.get(MARK)?)
}

/// The labs that have bridges, ports on others' bridges, or rows that no port
/// has any more.
pub(super) fn labs(replica: &Replica) -> Result<BTreeSet<LabName>, ReadError> {
    let (bridges, ports) = (replica.rows::<Bridge>()?, by_uuid::<Port>(replica)?);
    let (qos, queues) = (by_uuid(replica)?, by_uuid(replica)?);
    let marks = bridges.iter().map(|bridge| &bridge.external_ids);
    let marks = marks.chain(ports.values().map(|port| &port.external_ids)).filter_map(mark_of);
    let left = leftovers(&ports, &qos, &queues).filter_map(|(_, left)| Mark::parse(&left.mark));
    Ok(marks.chain(left).map(|mark| mark.lab).collect())
}

/// The QoS with which Open vSwitch leaves a device's own alone. Without any it
/// deletes what it finds when it opens the device, such as after a restart
/// (`netdev_linux_set_qos` of 3.1).
pub(super) const HANDS_OFF: &str = "linux-noop";

/// Rows of ours about shaping that no port has any more, neither ours nor
/// another's, each with its UUID.
fn leftovers(
    ports: &HashMap<Uuid, Entry<Port>>,
    qos: &HashMap<Uuid, Entry<Qos>>,
    queues: &HashMap<Uuid, Entry<Queue>>,
) -> impl Iterator<Item = (Uuid, Leftover)> {
    let leftover = |row: Uuid, external_ids: &Strings, is_queue| {
        let mark = mark_of(external_ids)?.to_string();
        Some((row, Leftover { is_queue, row: row.to_string(), mark }))
    };
    let shaping: HashSet<Uuid> =
        ports.values().filter_map(|port| port.qos.as_ref()?.as_uuid()).collect();
    let mut gone: Vec<_> = qos
        .values()
        .filter(|qos| !shaping.contains(&qos.uuid))
        .filter_map(|qos| leftover(qos.uuid, &qos.external_ids, false))
        .collect();
    let left: HashSet<Uuid> = gone.iter().map(|(row, _)| *row).collect();
    let stays = qos.values().filter(|qos| !left.contains(&qos.uuid));
    let filled: HashSet<Uuid> =
        stays.flat_map(|qos| qos.queues.values()).filter_map(Ref::as_uuid).collect();
    let empty = queues.values().filter(|queue| !filled.contains(&queue.uuid));
    gone.extend(empty.filter_map(|queue| leftover(queue.uuid, &queue.external_ids, true)));
    gone.into_iter()
}

impl Rows {
    pub(super) fn read(replica: &Replica) -> Result<Self, ReadError> {
        let root = replica.only::<Root>()?;
        Ok(Self {
            caught_up: root.is_some_and(|root| root.next_cfg <= root.cur_cfg),
            bridges: replica.rows::<Bridge>()?,
            ports: by_uuid(replica)?,
            interfaces: by_uuid(replica)?,
            mirrors: by_uuid(replica)?,
            qos: by_uuid(replica)?,
            queues: by_uuid(replica)?,
            controllers: by_uuid(replica)?,
            netflow: by_uuid(replica)?,
            sflow: by_uuid(replica)?,
            ipfix: by_uuid(replica)?,
        })
    }

    /// The bridge called `name`.
    pub(super) fn bridge(&self, name: &IfName) -> Option<&Entry<Bridge>> {
        self.bridges.iter().find(|bridge| bridge.name == name.as_str())
    }

    /// The port called `name`, and the bridge it is on.
    pub(super) fn port(&self, name: &IfName) -> Option<(&Entry<Bridge>, &Entry<Port>)> {
        self.bridges.iter().find_map(|bridge| {
            let mut ports = followed(&bridge.ports, &self.ports);
            Some((bridge, ports.find(|port| port.name == name.as_str())?))
        })
    }

    /// The numbers of those of a bridge's ports that are ours, without its local
    /// one.
    pub(super) fn numbers(&self, bridge: &Entry<Bridge>) -> Vec<u16> {
        let ours = |port: &&Entry<Port>| mark_of(&port.external_ids).is_some();
        let ports = followed(&bridge.ports, &self.ports).filter(|p| p.name != bridge.name);
        let interfaces =
            ports.filter(ours).flat_map(|port| followed(&port.interfaces, &self.interfaces));
        interfaces.filter_map(|interface| u16::try_from(interface.ofport?).ok()).collect()
    }

    /// The mirror of ours called `name` on `bridge`.
    pub(super) fn mirror<'r>(
        &'r self,
        bridge: &'r Entry<Bridge>,
        name: &IfName,
    ) -> Option<&'r Entry<Mirror>> {
        let ours = |mirror: &&Entry<Mirror>| mark_of(&mirror.external_ids).is_some();
        let mut mirrors = followed(&bridge.mirrors, &self.mirrors).filter(ours);
        mirrors.find(|mirror| mirror.name == name.as_str())
    }

    /// The shaping of ours that a port has: rows that outlive the port, and
    /// have to be deleted with it.
    pub(super) fn shaping(&self, port: &Port) -> Option<(Uuid, Vec<Uuid>)> {
        let qos = self.qos.get(&port.qos.as_ref()?.as_uuid()?)?;
        mark_of(&qos.external_ids)?;
        let queues = followed(qos.queues.values(), &self.queues);
        let ours = queues.filter(|queue| mark_of(&queue.external_ids).is_some());
        Some((qos.uuid, ours.map(|queue| queue.uuid).collect()))
    }

    /// Rows of ours that no port has any more, each with its UUID.
    pub(super) fn leftovers(&self) -> impl Iterator<Item = (Uuid, Leftover)> {
        leftovers(&self.ports, &self.qos, &self.queues)
    }

    /// The controllers of ours on a bridge.
    pub(super) fn controllers<'r>(
        &'r self,
        bridge: &'r Bridge,
    ) -> impl Iterator<Item = &'r Entry<Controller>> {
        let all = followed(&bridge.controller, &self.controllers);
        all.filter(|controller| mark_of(&controller.external_ids).is_some())
    }

    /// Whether anything is there of a lab.
    pub(super) fn have(&self, lab: &LabName) -> bool {
        let bridges = self.bridges.iter().map(|bridge| &bridge.external_ids);
        let ports = self.ports.values().map(|port| &port.external_ids);
        bridges.chain(ports).filter_map(mark_of).any(|mark| mark.lab == *lab)
    }

    /// The switches of `lab`, and what it has to know of others'.
    pub(super) fn fabric(&self, lab: &LabName, links: &Links, alive: bool) -> Fabric {
        let mut fabric = Fabric { in_ports: self.in_ports_of_others(), ..Fabric::default() };
        let look = Look { lab, links, settled: alive && self.caught_up };
        for bridge in &self.bridges {
            let device = IfName::new(&bridge.name);
            let (name, device) = match (mark_of(&bridge.external_ids), device) {
                (Some(Mark { lab: of, thing: Thing::Switch(name) }), Ok(device)) if of == *lab => {
                    (name, device)
                }
                _ => {
                    self.others(bridge, &look, &mut fabric);
                    continue;
                }
            };
            let device_of = device.clone();
            let spec = self.switch(bridge, name, device, links);
            let link = links.get(bridge.name.as_str());
            let broken = match (look.settled, &bridge.datapath_id, link) {
                (true, None, _) => Some("`ovs-vswitchd` could not make it".to_owned()),
                (true, Some(_), None) => Some("its local device is gone".to_owned()),
                _ => None,
            };
            let up = alive && bridge.datapath_id.is_some() && link.is_some_and(|link| link.seen.up);
            let ports = followed(&bridge.ports, &self.ports)
                .filter(|port| port.name != bridge.name)
                .filter_map(|port| {
                    let name = IfName::new(&port.name).ok()?;
                    Some((name, self.seen_port(port, spec.vlan_filtering, &look)))
                })
                .collect();
            fabric.foreign.extend(self.foreign(bridge, &device_of));
            let mirrors = followed(&bridge.mirrors, &self.mirrors)
                .filter_map(|mirror| self.seen_mirror(mirror, &spec))
                .map(|mirror| (mirror.name.clone(), mirror))
                .collect();
            let foreign_mirrors = followed(&bridge.mirrors, &self.mirrors)
                .filter(|mirror| mark_of(&mirror.external_ids).is_none())
                .map(|mirror| mirror.name.clone())
                .collect();
            let flows = BTreeMap::new();
            // As the switch has it, until that is asked.
            let table_miss = Some(FlowSpec::OWN.to_owned());
            let seen =
                SeenSwitch { up, broken, ports, mirrors, foreign_mirrors, flows, table_miss, spec };
            fabric.switches.insert(seen.spec.name.clone(), seen);
        }
        let of_the_lab = |left: &Leftover| Mark::parse(&left.mark).is_some_and(|m| m.lab == *lab);
        let leftovers = self.leftovers().map(|(_, leftover)| leftover);
        fabric.leftovers.extend(leftovers.filter(of_the_lab));
        fabric
    }

    /// What others gave a bridge of ours and the ports on it.
    fn foreign(&self, bridge: &Bridge, device: &IfName) -> Vec<Foreign> {
        fn theirs<T>(row: Option<&Entry<T>>, ids: impl Fn(&T) -> &Strings) -> bool {
            row.is_some_and(|row| mark_of(ids(row)).is_none())
        }
        let netflow = followed(&bridge.netflow, &self.netflow).next();
        let sflow = followed(&bridge.sflow, &self.sflow).next();
        let ipfix = followed(&bridge.ipfix, &self.ipfix).next();
        let exports = [
            (ExportKind::Netflow, theirs(netflow, |row| &row.external_ids)),
            (ExportKind::Sflow, theirs(sflow, |row| &row.external_ids)),
            (ExportKind::Ipfix, theirs(ipfix, |row| &row.external_ids)),
        ];
        let exports = exports.into_iter().filter(|(_, theirs)| *theirs);
        let exports = exports.map(|(kind, _)| Foreign::Export { bridge: device.clone(), kind });
        let ports = followed(&bridge.ports, &self.ports)
            .filter(|port| theirs(followed(&port.qos, &self.qos).next(), |row| &row.external_ids));
        let ports =
            ports.filter_map(|port| Some(Foreign::Qos { port: IfName::new(&port.name).ok()? }));
        exports.chain(ports).collect()
    }

    /// The links in ports of others that are called otherwise, such as bonds,
    /// each with its port. No other interface can have its name.
    fn in_ports_of_others(&self) -> BTreeMap<String, String> {
        let theirs = self.ports.values().filter(|port| mark_of(&port.external_ids).is_none());
        let interfaces = theirs.flat_map(|port| {
            let interfaces = followed(&port.interfaces, &self.interfaces);
            interfaces.map(|interface| (interface.name.clone(), port.name.clone()))
        });
        interfaces.filter(|(interface, port)| interface != port).collect()
    }

    /// Notes the names on a bridge that is not the lab's, and ports of the lab
    /// that somebody moved there.
    fn others(&self, bridge: &Entry<Bridge>, look: &Look, fabric: &mut Fabric) {
        fabric.taken.insert(bridge.name.clone(), "a bridge");
        for port in followed(&bridge.ports, &self.ports).filter(|p| p.name != bridge.name) {
            let ours = mark_of(&port.external_ids).is_some_and(|mark| mark.lab == *look.lab);
            match (ours, IfName::new(&port.name), IfName::new(&bridge.name)) {
                (true, Ok(device), Ok(bridge)) => {
                    let port = self.seen_port(port, false, look);
                    fabric.astray.insert(device, AstrayPort { bridge, port });
                }
                _ => drop(fabric.taken.insert(port.name.clone(), "a port")),
            }
        }
    }

    fn switch(
        &self,
        bridge: &Entry<Bridge>,
        name: crate::model::names::SwitchName,
        device: IfName,
        links: &Links,
    ) -> SwitchSpec {
        let local = followed(&bridge.ports, &self.ports)
            .filter(|port| port.name == bridge.name)
            .flat_map(|port| followed(&port.interfaces, &self.interfaces))
            .next();
        let link = links.get(bridge.name.as_str());
        let mark = mark_of(&bridge.external_ids);
        let altname = mark.map(|mark| mark.full_name()).unwrap_or_default();
        let altname = link.filter(|link| link.seen.altnames.contains(&altname)).map(|_| altname);
        let hwaddr = bridge.other_config.get("hwaddr").and_then(|text| text.parse::<Mac>().ok());
        SwitchSpec {
            name,
            backend: Backend::Ovs,
            datapath: Some(match bridge.datapath_type.as_str() {
                "netdev" => Datapath::Netdev,
                _ => Datapath::System,
            }),
            device,
            mac: hwaddr.or(link.map(|link| link.seen.mac)).unwrap_or(Mac([0; 6])),
            mtu: local.and_then(|local| u32::try_from(local.mtu_request?).ok()).unwrap_or_default(),
            group: link.map(|link| link.group).unwrap_or_default(),
            alias: link.map(|link| link.seen.alias.clone()).unwrap_or_default(),
            altname: altname.unwrap_or_default(),
            settings: self.settings(bridge),
            vlan_filtering: bridge.external_ids.contains_key(VLANS),
        }
    }

    fn settings(&self, bridge: &Bridge) -> SwitchSettings {
        let number = |key: &str| bridge.other_config.get(key).and_then(|text| text.parse().ok());
        let controllers: Vec<_> = self.controllers(bridge).collect();
        let first = controllers.first();
        let milliseconds = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
        let in_band = |c: &&Entry<Controller>| c.connection_mode.as_deref() == Some("in-band");
        SwitchSettings {
            stp: bridge.stp_enable,
            rstp: bridge.rstp_enable,
            forward_delay_s: match (bridge.stp_enable, bridge.rstp_enable) {
                (true, _) => number("stp-forward-delay"),
                (false, true) => number("rstp-forward-delay"),
                (false, false) => None,
            },
            ageing_s: number("mac-aging-time").unwrap_or_default(),
            multicast_snooping: bridge.mcast_snooping_enable,
            openflow: OpenFlow {
                fail_mode: match bridge.fail_mode.as_deref() {
                    Some("secure") => Some(FailMode::Secure),
                    Some("standalone") => Some(FailMode::Standalone),
                    _ => None,
                },
                controllers: controllers.iter().map(|c| c.target.clone()).collect(),
                in_band: controllers.iter().any(in_band),
                max_backoff_ms: first.and_then(|c| milliseconds(c.max_backoff)),
                inactivity_probe_ms: first.and_then(|c| milliseconds(c.inactivity_probe)),
                protocols: bridge.protocols.clone(),
                datapath_id: bridge.other_config.get("datapath-id").cloned(),
            },
            export: self.export(bridge),
        }
    }

    fn export(&self, bridge: &Bridge) -> Export {
        let narrow = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
        let netflow = followed(&bridge.netflow, &self.netflow).next();
        let sflow = followed(&bridge.sflow, &self.sflow).next();
        let ipfix = followed(&bridge.ipfix, &self.ipfix).next();
        Export {
            netflow: netflow.filter(|row| mark_of(&row.external_ids).is_some()).map(|row| {
                topology::NetFlow {
                    targets: row.targets.clone(),
                    active_timeout_s: narrow(Some(row.active_timeout)).filter(|s| *s != 0),
                }
            }),
            sflow: sflow.filter(|row| mark_of(&row.external_ids).is_some()).map(|row| {
                topology::Sflow {
                    targets: row.targets.clone(),
                    sampling: narrow(row.sampling),
                    polling_s: narrow(row.polling),
                    header_bytes: narrow(row.header),
                    agent: row.agent.clone(),
                }
            }),
            ipfix: ipfix.filter(|row| mark_of(&row.external_ids).is_some()).map(|row| {
                topology::Ipfix {
                    targets: row.targets.clone(),
                    sampling: narrow(row.sampling),
                    domain: narrow(row.obs_domain_id),
                    point: narrow(row.obs_point_id),
                    cache_timeout_s: narrow(row.cache_active_timeout),
                }
            }),
        }
    }

    fn seen_port(&self, port: &Entry<Port>, filtering: bool, look: &Look) -> SeenPort {
        let interfaces: Vec<_> = followed(&port.interfaces, &self.interfaces).collect();
        let first = interfaces.first();
        let policing = first.filter(|interface| interface.ingress_policing_rate != 0);
        let ofport = first.and_then(|interface| interface.ofport);
        SeenPort {
            kind: kind(port, &interfaces),
            settings: PortSettings {
                isolated: port.protected,
                vlan: vlan(port, filtering),
                policing: policing.map(|interface| Policing {
                    rate_kbps: u32::try_from(interface.ingress_policing_rate).unwrap_or(u32::MAX),
                    burst_kb: u32::try_from(interface.ingress_policing_burst).unwrap_or(u32::MAX),
                }),
                shaping: self.seen_shaping(port),
                hands_off: self.hands_off(port),
            },
            number: ofport
                .filter(|_| interfaces.len() == 1)
                .and_then(|ofport| u16::try_from(ofport).ok())
                .filter(|ofport| *ofport != 0),
            mark: mark_of(&port.external_ids)
                .filter(|mark| mark.lab == *look.lab)
                .map(|mark| mark.to_string())
                .unwrap_or_default(),
            lent: port.external_ids.get(MARK).and_then(|mark| {
                let mark = LentMark::parse(mark)?;
                (mark.lab == *look.lab && mark.nic.as_str() == port.name).then_some(mark.boot)
            }),
            broken: interfaces.iter().find_map(|interface| broken(port, interface, look)),
        }
    }

    /// Whether a port has the QoS of ours that does nothing.
    fn hands_off(&self, port: &Port) -> bool {
        let qos = followed(&port.qos, &self.qos).next();
        qos.is_some_and(|qos| qos.kind == HANDS_OFF && mark_of(&qos.external_ids).is_some())
    }

    fn seen_shaping(&self, port: &Port) -> Option<Shaping> {
        let qos = self.qos.get(&port.qos.as_ref()?.as_uuid()?)?;
        mark_of(&qos.external_ids).filter(|_| qos.kind != HANDS_OFF)?;
        let kbps = |config: &Strings, key: &str| {
            let bits: u64 = config.get(key)?.parse().ok()?;
            u32::try_from(bits / 1000).ok()
        };
        let queues = qos.queues.iter().filter_map(|(number, row)| {
            let queue = self.queues.get(&row.as_uuid()?)?;
            let queue = topology::Queue {
                min_kbps: kbps(&queue.other_config, "min-rate"),
                max_kbps: kbps(&queue.other_config, "max-rate"),
            };
            Some((u32::try_from(*number).ok()?, queue))
        });
        Some(Shaping {
            rate_kbps: kbps(&qos.other_config, "max-rate").unwrap_or_default(),
            queues: queues.collect(),
        })
    }

    fn seen_mirror(&self, mirror: &Entry<Mirror>, spec: &SwitchSpec) -> Option<MirrorSpec> {
        let mark = mark_of(&mirror.external_ids)?;
        let names = |refs: &BTreeSet<Ref<Port>>| {
            followed(refs, &self.ports).filter_map(|port| IfName::new(&port.name).ok()).collect()
        };
        let output = followed(&mirror.output_port, &self.ports).next();
        Some(MirrorSpec {
            switch: spec.name.clone(),
            bridge: spec.device.clone(),
            name: IfName::new(&mirror.name).ok()?,
            all: mirror.select_all,
            from: names(&mirror.select_src_port),
            to: names(&mirror.select_dst_port),
            vlans: mirror.select_vlan.iter().filter_map(|id| u16::try_from(*id).ok()).collect(),
            // Where the port is gone it is a mirror that copies nothing, which
            // is no mirror that anybody wants.
            output: output
                .and_then(|port| IfName::new(&port.name).ok())
                .unwrap_or_else(|| spec.device.clone()),
            mark: mark.to_string(),
        })
    }
}

fn kind(port: &Port, interfaces: &[&Entry<Interface>]) -> PortKind {
    if interfaces.len() != 1 || port.bond_mode.is_some() {
        let names = interfaces.iter().filter_map(|interface| IfName::new(&interface.name).ok());
        return PortKind::Bond {
            members: names.collect(),
            mode: match port.bond_mode.as_deref() {
                Some("balance-tcp") => BondMode::BalanceTcp,
                Some("balance-slb") => BondMode::BalanceSlb,
                _ => BondMode::ActiveBackup,
            },
            lacp: match port.lacp.as_deref() {
                Some("active") => Lacp::Active,
                _ => Lacp::Off,
            },
            primary: port.other_config.get("bond-primary").and_then(|name| IfName::new(name).ok()),
        };
    }
    let Interface { kind, options, .. } = &interfaces[0].row;
    let tunnel = |kind: TunnelKind| {
        Some(PortKind::Tunnel {
            kind,
            remote: options.get("remote_ip")?.parse().ok()?,
            local: options.get("local_ip").and_then(|text| text.parse().ok()),
            key: options.get("key").and_then(|text| text.parse().ok()),
            destination_port: options.get("dst_port").and_then(|text| text.parse().ok()),
        })
    };
    let kind = match kind.as_str() {
        "patch" => options
            .get("peer")
            .and_then(|peer| IfName::new(peer).ok())
            .map(|peer| PortKind::Patch { peer }),
        "vxlan" => tunnel(TunnelKind::Vxlan),
        "geneve" => tunnel(TunnelKind::Geneve),
        "gre" => tunnel(TunnelKind::Gre),
        _ => None,
    };
    kind.unwrap_or(PortKind::Link)
}

/// What a port's columns say about VLANs, the other way round from
/// `change::vlan_columns`.
fn vlan(port: &Port, filtering: bool) -> Option<Vlan> {
    let id = |id: i64| u16::try_from(id).ok();
    let ids =
        |ids: &BTreeSet<i64>| -> BTreeSet<u16> { ids.iter().copied().filter_map(id).collect() };
    let tag = port.tag.and_then(id);
    match (port.vlan_mode.as_deref(), tag) {
        (Some("dot1q-tunnel"), Some(vlan)) => {
            Some(Vlan::Tunnel { vlan, customers: ids(&port.cvlans) })
        }
        (Some("access") | None, Some(tag)) => Some(Vlan::Access(tag)),
        // All pass, untagged ones in VLAN 1: nothing was said.
        (Some("native-untagged"), Some(1)) if port.trunks.is_empty() && filtering => None,
        // Without filtering untagged frames are in VLAN 1 neither way.
        (None | Some("trunk"), _) if port.trunks.is_empty() && !filtering => None,
        // `trunk` takes untagged frames as in no VLAN, whatever the tag.
        (None | Some("trunk"), _) => Some(Vlan::Trunk { vlans: ids(&port.trunks), native: None }),
        (Some("native-untagged"), Some(native)) => {
            Some(Vlan::Trunk { vlans: ids(&port.trunks), native: Some(native) })
        }
        // What we never set, such as `native-tagged`: nobody wants a native VLAN
        // 0, so it is another than is wanted.
        _ => Some(Vlan::Trunk { vlans: ids(&port.trunks), native: Some(0) }),
    }
}

/// How the rows are looked at.
struct Look<'a> {
    lab: &'a LabName,
    links: &'a Links<'a>,
    /// Whether the daemon runs and has nothing left to do: then what it does
    /// not say, it will not say.
    settled: bool,
}

/// Why an interface does not work, if it does not.
fn broken(port: &Port, interface: &Interface, look: &Look) -> Option<String> {
    if let Some(error) = &interface.error {
        return Some(error.clone());
    }
    match interface.ofport {
        Some(ofport) if ofport < 0 => return Some("the switch could not take it".to_owned()),
        None if look.settled => return Some("the switch has not taken it".to_owned()),
        Some(_) | None => {}
    }
    let link = look.links.get(interface.name.as_str());
    let is_link = matches!(interface.kind.as_str(), "" | "system");
    let ours = mark_of(&port.external_ids).is_some_and(|mark| mark.lab == *look.lab)
        || link.is_some_and(|link| link.is_of(look.lab));
    if !is_link || !ours {
        return None;
    }
    let Some(there) = link else { return Some("its link is gone".to_owned()) };
    match plugged_links(&port.external_ids).get(&interface.name) {
        Some(before) if *before == there.index => None,
        Some(_) => Some("its link was made again behind the switch's back".to_owned()),
        None => Some("it is not known which link the switch listens to".to_owned()),
    }
}

/// `n1eth0.y5ac99rd=7 n2eth0.nge9r5bm=9`, as a map.
fn plugged_links(external_ids: &Strings) -> BTreeMap<String, u32> {
    let text = external_ids.get(LINKS).map(String::as_str).unwrap_or_default();
    let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(name, index)| Some((name.to_owned(), index.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::change::vlan_columns;
    use super::*;

    #[test]
    fn vlans_are_read_as_they_are() {
        let trunk = |native| Some(Vlan::Trunk { vlans: [7, 9].into(), native });
        let any = |native| Some(Vlan::Trunk { vlans: BTreeSet::new(), native });
        check("native-untagged", Some(5), &[7, 9], trunk(Some(5)));
        check("trunk", None, &[7, 9], trunk(None));
        check("", None, &[7, 9], trunk(None));
        check("access", Some(5), &[], Some(Vlan::Access(5)));
        check("", Some(5), &[], Some(Vlan::Access(5)));
        check("native-untagged", Some(1), &[], None);
        // Of others: the tag of a trunk says nothing, and a native VLAN that
        // goes out with a tag is none that a node understands.
        check("trunk", Some(5), &[7, 9], trunk(None));
        check("native-tagged", Some(5), &[7, 9], trunk(Some(0)));
        check("native-tagged", Some(1), &[], any(Some(0)));
        check("access", None, &[], any(Some(0)));
        check("trunk", None, &[], any(None));

        #[track_caller]
        fn check(mode: &str, tag: Option<i64>, trunks: &[i64], expected: Option<Vlan>) {
            let port = Port {
                vlan_mode: Some(mode.to_owned()).filter(|mode| !mode.is_empty()),
                tag,
                trunks: trunks.iter().copied().collect(),
                ..Port::default()
            };
            assert_eq!(vlan(&port, true), expected, "{mode:?} {tag:?} {trunks:?}");
        }
    }

    #[test]
    fn vlans_that_were_set_are_read_back() {
        let trunk = |native| Some(Vlan::Trunk { vlans: [7, 9].into(), native });
        let tunnel = Some(Vlan::Tunnel { vlan: 5, customers: [7].into() });
        for wanted in [None, Some(Vlan::Access(5)), trunk(None), trunk(Some(5)), tunnel] {
            for filtering in [true, false] {
                let settings = PortSettings { vlan: wanted.clone(), ..PortSettings::default() };
                let columns = vlan_columns(&settings, filtering);
                let port = Port {
                    vlan_mode: columns.mode.map(str::to_owned),
                    tag: columns.tag,
                    trunks: columns.trunks,
                    cvlans: columns.cvlans,
                    ..Port::default()
                };
                assert_eq!(vlan(&port, filtering), wanted);
            }
        }
    }
}
