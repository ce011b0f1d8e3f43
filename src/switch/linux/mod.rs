//! The bridge of the Linux kernel as a switch (`ip-link(8)`, `bridge(8)`).
//!
//! Everything that the kernel would decide by itself is set explicitly: a
//! bridge takes the lowest MAC and the lowest MTU of its ports until both are
//! set by hand, and snooping changes behaviour when a querier appears.
//!
//! What a bridge cannot do itself, and Open vSwitch can, is in `mirrors`.

mod fdb;
mod mirrors;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use netlink_packet_route::link::{
    AfSpecBridge, BridgePortState, BridgeStpState, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort,
    InfoData, InfoKind, InfoPortData, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use rtnetlink::{LinkBridgeVlan, MulticastGroup};

use super::{Counters, Learned, Switch, SwitchError, Traffic};
use crate::kernel::netlink::Netlink;
use crate::kernel::observe::{self, Link};
use crate::kernel::worker::{Where, Worker};
use crate::kernel::{KernelError, LinuxHost, cut_short, doctor, tc};
use crate::model::mark::{Mark, Thing};
use crate::model::names::{IfName, LabName, SwitchName};
use crate::model::packet::Frame;
use crate::model::topology::{
    Backend, FORWARD_DELAY_S_MAX, Policing, PortSettings, SwitchSettings, Vlan,
};
use crate::model::world::{Fabric, PortKind, PortSpec, SeenPort, SeenSwitch, SwitchSpec};
use crate::plan::why::facts::Way;
use crate::plan::{Abilities, FabricStep, Need};

/// The most ports of one bridge: `BR_MAX_PORTS` is 1024, and number 0 is
/// never given out.
pub const PORTS_MAX: usize = 1023;

/// How much longer than two forward delays a port may take to forward.
const FORWARDING_GRACE: Duration = Duration::from_secs(20);

/// Times in the bridge's attributes are in hundredths of a second (`USER_HZ`).
const TICKS_PER_S: u32 = 100;

/// The Linux bridges of the machine's own namespace.
pub struct LinuxBridge {
    worker: Worker,
    netlink: Netlink,
    /// Why some things cannot be done, if they cannot, once they were tried.
    tried: BTreeMap<Need, Option<String>>,
}

impl LinuxBridge {
    /// Works through the sockets of `host`.
    pub fn new(host: &LinuxHost) -> Self {
        Self { worker: host.worker().clone(), netlink: host.here().clone(), tried: BTreeMap::new() }
    }

    /// Takes back steps that were done, newest first, and returns in words
    /// what could not be.
    fn take_back(&mut self, done: &[FabricStep]) -> Vec<String> {
        let undos = done.iter().rev().flat_map(|step| step.undo().unwrap_or_default());
        undos.filter(|undo| self.perform(undo).is_err()).map(|undo| undo.line()).collect()
    }

    fn perform(&mut self, step: &FabricStep) -> Result<(), KernelError> {
        match step {
            FabricStep::AddSwitch(spec) => self.add_switch(spec),
            FabricStep::SetSwitch { before, after } => self.set_switch(before, after),
            FabricStep::RaiseSwitch(spec) => {
                let asked = || format!("raise bridge `{}`", spec.device);
                self.netlink.set_link(&spec.device, Some(true), Vec::new(), asked)
            }
            // All that is waited for is waited for at the end.
            FabricStep::SettleSwitch(_) => Ok(()),
            FabricStep::DeleteSwitch(spec) => self.netlink.delete_link(&spec.device),
            FabricStep::AddPort(port) => {
                self.plug(port)?;
                match self.set_new_port(port, None) {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        self.pull(port)?;
                        tc::clear(&self.netlink, &port.device)?;
                        Err(error)
                    }
                }
            }
            FabricStep::SetPort { before, after } => {
                if before.bridge == after.bridge {
                    return self.set_port(before, after);
                }
                self.plug(after)?;
                match self.set_new_port(after, before.settings.policing) {
                    Ok(()) => Ok(()),
                    Err(error) => {
                        self.plug(before)?;
                        self.set_new_port(before, after.settings.policing)?;
                        Err(error)
                    }
                }
            }
            FabricStep::DeletePort(port) => {
                match self.pull(port) {
                    // Namespaces that others delete take their links along a
                    // while later: this one was there when the plan was made.
                    Err(error) if error.errno == Errno::ENODEV => return Ok(()),
                    pulled => pulled?,
                }
                match tc::clear(&self.netlink, &port.device) {
                    Ok(()) => Ok(()),
                    Err(error) if error.errno == Errno::ENODEV => Ok(()),
                    Err(error) => {
                        self.plug(port)?;
                        self.set_new_port(port, None)?;
                        Err(error)
                    }
                }
            }
            FabricStep::AddMirror(mirror) => mirrors::add(&self.netlink, mirror),
            FabricStep::DeleteMirror(mirror) => mirrors::delete(&self.netlink, mirror),
            FabricStep::AddFlow(_) | FabricStep::DeleteFlow(_) | FabricStep::DeleteLeftover(_) => {
                Err(KernelError::new("do what a Linux bridge cannot", Errno::EOPNOTSUPP))
            }
        }
    }

    /// Makes a bridge that is down, and marks it.
    ///
    /// Like `ip link add BRIDGE address MAC mtu MTU group GROUP type bridge
    /// stp_state 0 forward_delay 200 ageing_time 30000 mcast_snooping 1`,
    /// `ip link set BRIDGE alias MARK` and `ip link property add dev BRIDGE
    /// altname NAME`.
    fn add_switch(&self, spec: &SwitchSpec) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(spec.device.to_string()),
            LinkAttribute::Address(spec.mac.0.to_vec()),
            // Not the one that is wanted: the kernel takes an MTU for the user's
            // will, which ports do not change, only when it is set to another
            // value than it has, and after the birth.
            LinkAttribute::Mtu(if spec.mtu == 68 { 69 } else { spec.mtu - 1 }),
            LinkAttribute::Group(spec.group),
            bridge_info(settings_info(spec, spec.vlan_filtering)),
        ];
        let asked = || format!("make bridge `{}`", spec.device);
        self.netlink.create(RouteNetlinkMessage::NewLink(message), asked)?;
        let marked = || {
            let mark =
                vec![LinkAttribute::IfAlias(spec.alias.clone()), LinkAttribute::Mtu(spec.mtu)];
            let asked = || format!("mark bridge `{}`", spec.device);
            self.netlink.set_link(&spec.device, None, mark, asked)?;
            self.netlink.add_altname(&spec.device, &spec.altname)
        };
        if let Err(error) = marked() {
            self.netlink.delete_link(&spec.device)?;
            return Err(error);
        }
        Ok(())
    }

    /// Like `ip link set BRIDGE address MAC mtu MTU type bridge ...`, with
    /// what differs.
    fn set_switch(&self, before: &SwitchSpec, after: &SwitchSpec) -> Result<(), KernelError> {
        let mut attributes = Vec::new();
        if before.mac != after.mac {
            attributes.push(LinkAttribute::Address(after.mac.0.to_vec()));
        }
        if before.mtu != after.mtu {
            attributes.push(LinkAttribute::Mtu(after.mtu));
        }
        if before.group != after.group {
            attributes.push(LinkAttribute::Group(after.group));
        }
        if before.alias != after.alias {
            attributes.push(LinkAttribute::IfAlias(after.alias.clone()));
        }
        let asked = || format!("change bridge `{}`", after.device);
        self.netlink.set_link(&after.device, None, attributes, asked)?;
        let same =
            before.settings == after.settings && before.vlan_filtering == after.vlan_filtering;
        if !same {
            // A setlink does not look at what kind of link it is; a newlink
            // that creates nothing does.
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName(after.device.to_string()),
                bridge_info(settings_info(after, before.vlan_filtering || after.vlan_filtering)),
            ];
            let message = RouteNetlinkMessage::NewLink(message);
            self.netlink.change(message, || format!("set bridge `{}`", after.device))?;
        }
        if before.altname != after.altname {
            self.netlink.add_altname(&after.device, &after.altname)?;
        }
        Ok(())
    }

    /// Like `ip link set DEVICE master BRIDGE`.
    fn plug(&self, port: &PortSpec) -> Result<(), KernelError> {
        let bridge = self.netlink.index_of(port.bridge.as_str())?;
        let asked = || format!("plug `{}` into bridge `{}`", port.device, port.bridge);
        let master = vec![LinkAttribute::Controller(bridge)];
        self.netlink.set_link(&port.device, None, master, asked)
    }

    /// Like `ip link set DEVICE nomaster`.
    fn pull(&self, port: &PortSpec) -> Result<(), KernelError> {
        let asked = || format!("pull `{}` out of bridge `{}`", port.device, port.bridge);
        let none = vec![LinkAttribute::Controller(0)];
        self.netlink.set_link(&port.device, None, none, asked)
    }

    /// Sets what differs, or nothing.
    fn set_port(&self, before: &PortSpec, after: &PortSpec) -> Result<(), KernelError> {
        let (old, new) = (before.settings.policing, after.settings.policing);
        mirrors::police(&self.netlink, &after.device, old, new)?;
        let set = self.set_membership(before, after);
        if set.is_err() {
            mirrors::police(&self.netlink, &after.device, new, old)?;
        }
        set
    }

    /// Like `bridge link set dev DEVICE isolated on` and `bridge vlan add dev
    /// DEVICE vid ID pvid untagged`, with what differs.
    fn set_membership(&self, before: &PortSpec, after: &PortSpec) -> Result<(), KernelError> {
        let (old, new) = (&before.settings, &after.settings);
        if old.isolated != new.isolated {
            self.isolate(after, new.isolated)?;
        }
        match (before.filtering, after.filtering) {
            (false, false) => return Ok(()),
            (true, true) if old.vlan == new.vlan => return Ok(()),
            (true, _) => self.set_vlans(after, &vlan_ranges(old.vlan.as_ref()), false)?,
            // Nobody saw which ones it had: a bridge that does not look at tags
            // keeps the VLANs of its ports, and they count as soon as it does.
            (false, true) => self.set_vlans(after, &[VlanRange::ALL], false)?,
        }
        if after.filtering {
            self.set_vlans(after, &vlan_ranges(new.vlan.as_ref()), true)?;
        }
        Ok(())
    }

    /// Settings of a port that was just plugged in. To the bridge it is a new
    /// one that has none; its policing is its device's, and comes along.
    fn set_new_port(&self, port: &PortSpec, policed: Option<Policing>) -> Result<(), KernelError> {
        mirrors::police(&self.netlink, &port.device, policed, port.settings.policing)?;
        if port.settings.isolated {
            self.isolate(port, true)?;
        }
        if port.filtering {
            self.set_vlans(port, &vlan_ranges(port.settings.vlan.as_ref()), true)?;
        }
        Ok(())
    }

    fn isolate(&self, port: &PortSpec, isolated: bool) -> Result<(), KernelError> {
        let infos = vec![InfoBridgePort::Isolated(isolated)];
        let asked = || format!("isolate port `{}`", port.device);
        mirrors::set_port(&self.netlink, &port.device, infos, asked)
    }

    fn set_vlans(
        &self,
        port: &PortSpec,
        ranges: &[VlanRange],
        member: bool,
    ) -> Result<(), KernelError> {
        let index = self.netlink.index_of(port.device.as_str())?;
        for range in ranges {
            let message = range.apply(LinkBridgeVlan::new(index)).build();
            let message = if member {
                RouteNetlinkMessage::SetLink(message)
            } else {
                RouteNetlinkMessage::DelLink(message)
            };
            let asked = || format!("set the VLANs of port `{}`", port.device);
            self.netlink.change(message, asked)?;
        }
        Ok(())
    }

    /// Waits until the ports that `steps` plugged in or raised forward.
    ///
    /// A port that has carrier is not at once known to the bridge as one that
    /// has: the kernel passes the news on by a queue (`linkwatch`), and until
    /// then drops every frame. Under STP it listens and learns for a forward
    /// delay each after that.
    async fn forwarding(&self, steps: &[FabricStep]) -> Result<(), SwitchError> {
        let Some(delay_s) = steps.iter().filter_map(forward_delay_s).max() else { return Ok(()) };
        let on_their_way = self.ports_on_their_way(steps)?;
        if on_their_way.is_empty() {
            return Ok(());
        }
        observe::hurry(&self.netlink, on_their_way.iter().map(|port| &port.device))
            .map_err(SwitchError::Observe)?;
        // Subscribed before the next look, so that no change falls between.
        let observe = SwitchError::Observe;
        let (connection, _handle, mut events) = self
            .worker
            .inside(Where::Home, || rtnetlink::new_multicast_connection(&[MulticastGroup::Link]))
            .await
            .map_err(observe)?
            .map_err(|e| observe(KernelError::from_io("listen for changes of links", &e)))?;
        let listening = tokio::spawn(connection);
        let limit = 2 * Duration::from_secs(u64::from(delay_s)) + FORWARDING_GRACE;
        let mut on_their_way = Vec::new();
        let settled = tokio::time::timeout(limit, async {
            loop {
                on_their_way = self.ports_on_their_way(steps)?;
                if on_their_way.is_empty() {
                    return Ok(());
                }
                // Something has to happen to a link first; then all that has
                // happened by now is one look.
                if events.next().await.is_none() {
                    return Err(observe(KernelError::new("listen for changes", Errno::EPIPE)));
                }
                while events.next().now_or_never().flatten().is_some() {}
            }
        });
        let settled = settled.await;
        listening.abort();
        match (settled, on_their_way.first()) {
            (Ok(settled), _) => settled,
            (Err(_), Some(port)) => Err(SwitchError::NotForwarding {
                switch: port.switch.clone(),
                port: port.device.to_string(),
                state: format!("{:?}", port.state).to_lowercase(),
                seconds: limit.as_secs(),
            }),
            (Err(_), None) => Ok(()),
        }
    }

    /// The ports with carrier, on bridges that are up, which do not yet know
    /// what they will be.
    fn ports_on_their_way(&self, steps: &[FabricStep]) -> Result<Vec<OnItsWay>, SwitchError> {
        let links = observe::links(&self.netlink).map_err(SwitchError::Observe)?;
        let raised = |link: &&Link| link.kind == Some(InfoKind::Bridge) && link.seen.up;
        let bridges: BTreeMap<u32, &str> =
            links.iter().filter(raised).map(|link| (link.index, link.name.as_str())).collect();
        let touched = Touched::new(steps);
        let found = links.iter().filter_map(|link| {
            let bridge = bridges.get(&link.master?)?;
            let switch = touched.switch(bridge, &link.name)?;
            let state = port_state(link).filter(|_| link.seen.up && link.seen.carrier)?;
            let settled = matches!(state, BridgePortState::Forwarding | BridgePortState::Blocking);
            let device = IfName::new(&link.name).ok().filter(|_| !settled)?;
            Some(OnItsWay { switch: switch.to_owned(), device, state })
        });
        Ok(found.collect())
    }
}

/// A port that does not forward yet.
struct OnItsWay {
    switch: String,
    device: IfName,
    state: BridgePortState,
}

/// The bridges that steps raised or have settle, and the ports that they plugged in, each
/// with its switch.
struct Touched<'a> {
    bridges: BTreeMap<&'a str, &'a str>,
    ports: BTreeMap<(&'a str, &'a str), &'a str>,
}

impl<'a> Touched<'a> {
    fn new(steps: &'a [FabricStep]) -> Self {
        let (mut bridges, mut ports) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                FabricStep::RaiseSwitch(spec) | FabricStep::SettleSwitch(spec) => {
                    bridges.insert(spec.device.as_str(), spec.name.as_str());
                }
                FabricStep::AddPort(port) | FabricStep::SetPort { after: port, .. } => {
                    let place = (port.bridge.as_str(), port.device.as_str());
                    ports.insert(place, port.switch.as_str());
                }
                FabricStep::AddSwitch(_)
                | FabricStep::SetSwitch { .. }
                | FabricStep::DeleteSwitch(_)
                | FabricStep::DeletePort(_)
                | FabricStep::AddMirror(_)
                | FabricStep::DeleteMirror(_)
                | FabricStep::AddFlow(_)
                | FabricStep::DeleteFlow(_)
                | FabricStep::DeleteLeftover(_) => {}
            }
        }
        Self { bridges, ports }
    }

    fn switch(&self, bridge: &str, port: &str) -> Option<&'a str> {
        self.bridges.get(bridge).or_else(|| self.ports.get(&(bridge, port))).copied()
    }
}

/// The forward delay of the switch on which a step makes ports forward, if it
/// does; of a port alone the longest that there is.
fn forward_delay_s(step: &FabricStep) -> Option<u32> {
    match step {
        FabricStep::RaiseSwitch(spec) | FabricStep::SettleSwitch(spec) => {
            spec.settings.forward_delay_s
        }
        FabricStep::AddPort(_) | FabricStep::SetPort { .. } => Some(FORWARD_DELAY_S_MAX),
        FabricStep::AddSwitch(_)
        | FabricStep::SetSwitch { .. }
        | FabricStep::DeleteSwitch(_)
        | FabricStep::DeletePort(_)
        | FabricStep::AddMirror(_)
        | FabricStep::DeleteMirror(_)
        | FabricStep::AddFlow(_)
        | FabricStep::DeleteFlow(_)
        | FabricStep::DeleteLeftover(_) => None,
    }
}

/// Why a Linux bridge does not serve what only Open vSwitch can.
fn only_open_vswitch(need: &Need) -> Option<&'static str> {
    Some(match need {
        // A switch that needs to read flows needs to speak OpenFlow.
        Need::Vlans
        | Need::Isolation
        | Need::Stp(_)
        | Need::ForwardDelay(_)
        | Need::Ageing(_)
        | Need::Flow { .. }
        | Need::Mirrors
        | Need::Policing(_)
        // Refused with the tunnel, and with the export.
        | Need::From(_)
        | Need::Agent(_) => return None,
        Need::Qinq => "a Linux bridge does not wrap tags in tags",
        Need::Rstp => "a Linux bridge speaks STP alone",
        Need::MirrorVlans => "a Linux bridge mirrors whole ports",
        Need::Shaping | Need::Queues(_) => "a Linux bridge has no queues of its own",
        Need::OpenFlow => "a Linux bridge has no flows and no controllers",
        Need::Export => "a Linux bridge reports no flows",
        Need::Bonds => "a Linux bridge has no bonds of its own",
        Need::Tunnel(..) => "a Linux bridge has no tunnels of its own",
        Need::Datapath(_) => "a Linux bridge has one datapath, the kernel's",
    })
}

#[async_trait]
impl Switch for LinuxBridge {
    async fn available(&mut self) -> Result<String, String> {
        Ok("Linux bridges".into())
    }

    async fn abilities(&mut self, needs: &BTreeSet<Need>) -> Result<Abilities, SwitchError> {
        let mut cannot = BTreeMap::new();
        for need in needs {
            let reason = match only_open_vswitch(need) {
                Some(reason) => Some(reason.to_owned()),
                None => self.tried(need).await.map_err(SwitchError::Observe)?,
            };
            if let Some(reason) = reason {
                cannot.insert(need.clone(), reason);
            }
        }
        Ok(Abilities {
            backend: Backend::Linux,
            missing: None,
            cannot,
            flows: BTreeMap::new(),
            ports_max: PORTS_MAX,
            swept_with_links: true,
            datapath: None,
            asleep: None,
            checksums: true,
        })
    }

    async fn labs(&mut self) -> Result<BTreeSet<LabName>, SwitchError> {
        let links = observe::links(&self.netlink).map_err(SwitchError::Observe)?;
        let bridges = links.iter().filter(|link| link.kind == Some(InfoKind::Bridge));
        Ok(bridges.filter_map(|l| Mark::parse(&l.seen.alias)).map(|mark| mark.lab).collect())
    }

    async fn observe(&mut self, lab: &LabName) -> Result<Fabric, SwitchError> {
        let links = observe::links(&self.netlink).map_err(SwitchError::Observe)?;
        let mut fabric = Fabric::default();
        let mut by_index = BTreeMap::new();
        for link in links.iter().filter(|l| l.kind == Some(InfoKind::Bridge) && l.is_of(lab)) {
            if let Some(seen) = seen_switch(link) {
                by_index.insert(link.index, seen.spec.name.clone());
                fabric.switches.insert(seen.spec.name.clone(), seen);
            }
        }
        let filtering = fabric.switches.values().any(|seen| seen.spec.vlan_filtering);
        let vlans = if filtering { self.vlans()? } else { BTreeMap::new() };
        let switch_of = |link: &Link| by_index.get(&link.master?);
        let ours = |link: &&Link| {
            by_index.contains_key(&link.index) || (link.is_of(lab) && switch_of(link).is_some())
        };
        let rules = mirrors::rules(&self.netlink, links.iter().filter(ours));
        let rules = rules.map_err(SwitchError::Observe)?;
        let mut apart: BTreeMap<&SwitchName, BTreeSet<IfName>> = BTreeMap::new();
        for link in &links {
            let Some(switch) = switch_of(link) else { continue };
            let Ok(device) = IfName::new(&link.name) else { continue };
            let seen = fabric.switches.get_mut(switch).expect("listed just above");
            let vlan = if seen.spec.vlan_filtering { vlans.get(&link.index) } else { None };
            let settings = PortSettings {
                isolated: is_isolated(link),
                vlan: vlan.and_then(Vlans::meaning),
                policing: rules.get(&device).and_then(mirrors::seen_policing),
                shaping: None,
                hands_off: false,
            };
            if mirrors::is_apart(link) {
                apart.entry(switch).or_default().insert(device.clone());
            }
            // The link itself carries the mark.
            let (kind, mark) = (PortKind::Link, String::new());
            let broken = keeps_back(link).filter(|_| link.is_of(lab));
            let port = SeenPort { kind, settings, number: None, mark, lent: None, broken };
            seen.ports.insert(device, port);
        }
        for (name, seen) in &mut fabric.switches {
            mirrors::put_together(seen, &rules, apart.get(name).unwrap_or(&BTreeSet::new()));
        }
        Ok(fabric)
    }

    async fn commit(&mut self, steps: &[FabricStep]) -> Result<(), SwitchError> {
        for (done, step) in steps.iter().enumerate() {
            if 0 < done {
                cut_short::before(|| step.line());
            }
            let Err(source) = self.perform(step) else { continue };
            let step = step.line();
            let left = self.take_back(&steps[..done]);
            return Err(if left.is_empty() {
                SwitchError::Step { step, source }
            } else {
                SwitchError::Left { step, left, source }
            });
        }
        match self.forwarding(steps).await {
            Ok(()) => Ok(()),
            Err(error) => match self.take_back(steps) {
                left if left.is_empty() => Err(error),
                left => Err(SwitchError::StillThere { left, source: Box::new(error) }),
            },
        }
    }

    async fn traffic(&mut self, switch: &SwitchSpec) -> Result<Traffic, SwitchError> {
        let observed = SwitchError::Observe;
        // With counters, unlike `observe`.
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let links = self.netlink.dump(&all, "list links").map_err(observed)?;
        let links = links.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        let bridge = match self.netlink.index_of(switch.device.as_str()) {
            // It went since it was observed: nothing passes it.
            Err(error) if error.errno == Errno::ENODEV => return Ok(Traffic::default()),
            other => other.map_err(observed)?,
        };
        let mut traffic = Traffic::default();
        let mut names = BTreeMap::new();
        for link in links {
            let is_port = link.attributes.contains(&LinkAttribute::Controller(bridge));
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => IfName::new(name).ok(),
                _ => None,
            });
            if let (true, Some(name)) = (is_port, name) {
                names.insert(link.header.index, name.clone());
                traffic.counters.insert(name, counters(&link));
            }
        }
        let table = match fdb::entries(&self.netlink, bridge, &names) {
            Err(error) if error.errno == Errno::ENODEV => return Ok(Traffic::default()),
            other => other.map_err(observed)?,
        };
        // Not the bridge's own addresses.
        let heard = table.into_iter().filter(|entry| entry.state != NeighbourState::Permanent);
        traffic.learned.extend(heard.map(|fdb::Entry { mac, port, vlan, .. }| Learned {
            mac,
            port,
            vlan,
        }));
        traffic.learned.sort();
        Ok(traffic)
    }

    async fn way(
        &mut self,
        switch: &SwitchSpec,
        enters: &IfName,
        frame: &Frame,
    ) -> Result<Way, SwitchError> {
        self.way_of(switch, enters, frame)
    }
}

impl LinuxBridge {
    /// Tries what not every kernel can do, once; returns why not, if it cannot.
    async fn tried(&mut self, need: &Need) -> Result<Option<String>, KernelError> {
        if let Some(reason) = self.tried.get(need) {
            return Ok(reason.clone());
        }
        let tried = match need {
            Need::Vlans => doctor::can_filter_vlans(&self.worker).await?,
            Need::Mirrors => tc::can_mirror(&self.worker).await?,
            Need::Policing(_) => tc::can_police(&self.worker).await?,
            // Every kernel can, or `only_open_vswitch`.
            Need::Isolation
            | Need::ForwardDelay(_)
            | Need::Ageing(_)
            | Need::Flow { .. }
            | Need::MirrorVlans
            | Need::Qinq
            | Need::Stp(_)
            | Need::Rstp
            | Need::Shaping
            | Need::Queues(_)
            | Need::OpenFlow
            | Need::Export
            | Need::Bonds
            | Need::Tunnel(..)
            | Need::From(_)
            | Need::Agent(_)
            | Need::Datapath(_) => Ok(()),
        };
        self.tried.insert(need.clone(), tried.clone().err());
        Ok(tried.err())
    }
}

fn bridge_info(info: Vec<InfoBridge>) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(info)),
    ])
}

/// What a bridge does with frames. Its part in VLANs is only said where it has
/// or had one: a kernel without filtering refuses even a `false`.
fn settings_info(spec: &SwitchSpec, filtering_matters: bool) -> Vec<InfoBridge> {
    let settings = &spec.settings;
    let stp = if settings.stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled };
    let mut info = vec![
        InfoBridge::ForwardDelay(settings.forward_delay_s.unwrap_or(2) * TICKS_PER_S),
        InfoBridge::AgeingTime(settings.ageing_s * TICKS_PER_S),
        InfoBridge::StpState(stp),
        InfoBridge::MulticastSnooping(settings.multicast_snooping),
    ];
    if filtering_matters {
        info.push(InfoBridge::VlanFiltering(spec.vlan_filtering));
        // Otherwise the kernel puts every port into VLAN 1 by itself.
        info.push(InfoBridge::VlanDefaultPvid(0));
    }
    info
}

fn seen_switch(link: &Link) -> Option<SeenSwitch> {
    let device = IfName::new(&link.name).ok()?;
    let mut settings = SwitchSettings::default();
    let mut vlan_filtering = false;
    for info in link_infos(link) {
        let LinkInfo::Data(InfoData::Bridge(bridge)) = info else { continue };
        for info in bridge {
            match info {
                InfoBridge::ForwardDelay(ticks) => {
                    settings.forward_delay_s = Some(ticks / TICKS_PER_S);
                }
                InfoBridge::AgeingTime(ticks) => settings.ageing_s = ticks / TICKS_PER_S,
                InfoBridge::StpState(state) => settings.stp = *state != BridgeStpState::Disabled,
                InfoBridge::MulticastSnooping(on) => settings.multicast_snooping = *on,
                InfoBridge::VlanFiltering(on) => vlan_filtering = *on,
                _ => {}
            }
        }
    }
    let mark = Mark::parse(&link.seen.alias);
    let name = match mark.as_ref().map(|mark| &mark.thing) {
        Some(Thing::Switch(name)) => name.clone(),
        // Cut off between birth and mark: the device stands for the name, and
        // whoever wants the switch wants it under the same device.
        _ => SwitchName::new(&link.name).ok()?,
    };
    let altnames = &link.seen.altnames;
    let altname = match mark.map(|mark| mark.full_name()) {
        Some(full) => altnames.get(&full),
        // One whose mark somebody took has its name of the kind `LAB:SWITCH` still.
        None => altnames.iter().find(|name| name.contains(':')),
    };
    let altname = altname.cloned().unwrap_or_default();
    let spec = SwitchSpec {
        name,
        backend: Backend::Linux,
        datapath: None,
        device,
        mac: link.seen.mac,
        mtu: link.seen.mtu,
        group: link.group,
        alias: link.seen.alias.clone(),
        altname,
        settings,
        vlan_filtering,
    };
    Some(SeenSwitch {
        spec,
        up: link.seen.up,
        broken: None,
        ports: BTreeMap::new(),
        mirrors: BTreeMap::new(),
        foreign_mirrors: BTreeSet::new(),
        flows: BTreeMap::new(),
        table_miss: None,
    })
}

fn link_infos(link: &Link) -> impl Iterator<Item = &LinkInfo> {
    let infos = link.message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos.flatten()
}

fn port_infos(link: &Link) -> impl Iterator<Item = &InfoBridgePort> {
    let infos = link_infos(link).filter_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(infos)) => Some(infos),
        _ => None,
    });
    infos.flatten()
}

fn port_state(link: &Link) -> Option<BridgePortState> {
    port_infos(link).find_map(|info| match info {
        InfoBridgePort::State(state) => Some(*state),
        _ => None,
    })
}

/// By what a port keeps frames back, or sends them where they come from, that was born
/// like any other: somebody has set it so. Pulled and plugged in again it is as born.
fn keeps_back(link: &Link) -> Option<String> {
    let words: Vec<_> = port_infos(link)
        .filter_map(|info| match info {
            InfoBridgePort::Learning(false) => Some("it does not learn addresses"),
            InfoBridgePort::UnicastFlood(false) => Some("it gets no frames to unknown addresses"),
            InfoBridgePort::MulticastFlood(false) => Some("it gets no unknown multicast"),
            InfoBridgePort::BroadcastFlood(false) => Some("it gets no broadcasts"),
            InfoBridgePort::HairpinMode(true) => {
                Some("it sends frames back to where they came from")
            }
            InfoBridgePort::Guard(true) => Some("it stops at the first frame of a spanning tree"),
            InfoBridgePort::Locked(true) => {
                Some("it is locked for addresses that it does not know")
            }
            _ => None,
        })
        .collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn is_isolated(link: &Link) -> bool {
    port_infos(link).any(|info| *info == InfoBridgePort::Isolated(true))
}

/// The counters of all links, by name.
pub(super) fn all_counters(netlink: &Netlink) -> Result<BTreeMap<String, Counters>, SwitchError> {
    let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let links = netlink.dump(&all, "list links").map_err(SwitchError::Observe)?;
    let named = links.into_iter().filter_map(|message| {
        let RouteNetlinkMessage::NewLink(link) = message else { return None };
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
        Some((name?, counters(&link)))
    });
    Ok(named.collect())
}

fn counters(link: &LinkMessage) -> Counters {
    let stats = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(stats) => Some(stats),
        _ => None,
    });
    let Some(stats) = stats else { return Counters::default() };
    Counters {
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        dropped: stats.rx_dropped + stats.tx_dropped,
    }
}

/// A run of VLANs as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct VlanRange {
    first: u16,
    last: u16,
    /// The VLAN that untagged frames come into, and leave untagged.
    native: bool,
}

impl VlanRange {
    const ALL: Self = Self { first: 1, last: 4094, native: false };

    fn apply(
        self,
        builder: rtnetlink::LinkMessageBuilder<LinkBridgeVlan>,
    ) -> rtnetlink::LinkMessageBuilder<LinkBridgeVlan> {
        let flags = if self.native {
            BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged
        } else {
            BridgeVlanInfoFlags::empty()
        };
        if self.first == self.last {
            builder.vlan(self.first, flags)
        } else {
            builder.vlan_range_start(self.first, flags).vlan_range_end(self.last, flags)
        }
    }
}

/// What a port's VLANs are on a bridge that looks at tags. A port without
/// settings lets all pass, as Open vSwitch does it: tagged frames as they are,
/// untagged ones in VLAN 1.
fn vlan_ranges(vlan: Option<&Vlan>) -> Vec<VlanRange> {
    let native = |id| VlanRange { first: id, last: id, native: true };
    match vlan {
        None => vec![native(1), VlanRange { first: 2, last: 4094, native: false }],
        Some(Vlan::Access(id)) => vec![native(*id)],
        Some(Vlan::Trunk { vlans, native: untagged }) => {
            let mut ranges: Vec<VlanRange> = untagged.iter().copied().map(native).collect();
            for id in vlans.iter().copied().filter(|id| Some(*id) != *untagged) {
                match ranges.last_mut() {
                    Some(range) if !range.native && range.last + 1 == id => range.last = id,
                    _ => ranges.push(VlanRange { first: id, last: id, native: false }),
                }
            }
            ranges
        }
        // No plan asks for it, see `only_open_vswitch`.
        Some(Vlan::Tunnel { .. }) => Vec::new(),
    }
}

/// The VLANs of a port as the kernel lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Vlans {
    tagged: std::collections::BTreeSet<u16>,
    native: Option<u16>,
}

impl Vlans {
    /// What they mean in a file; nothing where all pass.
    fn meaning(&self) -> Option<Vlan> {
        match (self.native, self.tagged.len()) {
            (Some(1), 4093) => None,
            (Some(id), 0) => Some(Vlan::Access(id)),
            (native, _) => {
                let vlans = self.tagged.iter().copied().chain(native).collect();
                Some(Vlan::Trunk { vlans, native })
            }
        }
    }
}

impl LinuxBridge {
    /// The VLANs of all ports, by index.
    ///
    /// Like `bridge vlan show`.
    fn vlans(&self) -> Result<BTreeMap<u32, Vlans>, SwitchError> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
        let message = RouteNetlinkMessage::GetLink(message);
        let dump = self.netlink.dump(&message, "list VLANs").map_err(SwitchError::Observe)?;
        let mut found: BTreeMap<u32, Vlans> = BTreeMap::new();
        for message in dump {
            let RouteNetlinkMessage::NewLink(link) = message else { continue };
            let vlans = found.entry(link.header.index).or_default();
            for attribute in &link.attributes {
                let LinkAttribute::AfSpecBridge(specs) = attribute else { continue };
                for spec in specs {
                    let AfSpecBridge::VlanInfo(info) = spec else { continue };
                    if info.flags.contains(BridgeVlanInfoFlags::Pvid) {
                        vlans.native = Some(info.vid);
                    } else {
                        vlans.tagged.insert(info.vid);
                    }
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn vlans_as_the_kernel_takes_them() {
        let trunk = |vlans: &[u16], native| {
            Some(Vlan::Trunk { vlans: vlans.iter().copied().collect::<BTreeSet<_>>(), native })
        };
        check(None, &[(1, 1, true), (2, 4094, false)]);
        check(Some(Vlan::Access(10)), &[(10, 10, true)]);
        check(trunk(&[10, 11, 12, 20], None), &[(10, 12, false), (20, 20, false)]);
        check(trunk(&[5, 10], Some(5)), &[(5, 5, true), (10, 10, false)]);

        #[track_caller]
        fn check(vlan: Option<Vlan>, ranges: &[(u16, u16, bool)]) {
            let got: Vec<_> = vlan_ranges(vlan.as_ref())
                .into_iter()
                .map(|range| (range.first, range.last, range.native))
                .collect();
            assert_eq!(got, ranges, "{vlan:?}");
        }
    }
}
