//! The promises of `Switch`, each checked once and for every backend: over
//! the fake in `tests/`, over the real ones in `integration/`.
//!
//! Each promise takes a switch of a lab that is empty, and two links of that
//! lab that are there and plugged in nowhere. It leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use super::Switch;
use crate::model::mark::{Mark, Thing, birth_mac, flow_cookie, group};
use crate::model::names::{IfName, LabName, SwitchName};
use crate::model::topology::{Backend, FailMode, PortSettings, SwitchSettings, Vlan};
use crate::model::world::{Fabric, FlowSpec, PortKind, PortSpec, SwitchSpec};
use crate::plan::{Abilities, FabricStep, Need};

/// What a promise is checked with.
pub struct Subject<'a> {
    /// The switch.
    pub switch: &'a mut dyn Switch,
    /// The lab that it and the links are of.
    pub lab: LabName,
    /// Two links of the lab in the machine's own namespace.
    pub links: [IfName; 2],
}

impl Subject<'_> {
    /// A switch of the lab, as a plan would want it.
    pub async fn spec(&mut self, name: &str) -> SwitchSpec {
        let name = SwitchName::new(name).expect("a good name");
        let mark = Mark { lab: self.lab.clone(), thing: Thing::Switch(name.clone()) };
        let device = mark.device();
        let able = self.abilities().await;
        let mut settings = SwitchSettings { forward_delay_s: Some(4), ..SwitchSettings::default() };
        if able.backend == Backend::Ovs {
            settings.openflow.fail_mode = Some(FailMode::Standalone);
        }
        SwitchSpec {
            name,
            backend: able.backend,
            datapath: able.datapath,
            mac: birth_mac(&device),
            device,
            mtu: 1500,
            group: group(&self.lab),
            alias: mark.to_string(),
            altname: mark.full_name(),
            settings,
            vlan_filtering: false,
        }
    }

    /// A port of that switch.
    pub fn port(&self, spec: &SwitchSpec, link: usize) -> PortSpec {
        let port = format!("n{link}:eth0");
        let mark = Mark { lab: self.lab.clone(), thing: Thing::Port(port) };
        let ovs = spec.backend == Backend::Ovs;
        PortSpec {
            switch: spec.name.clone(),
            bridge: spec.device.clone(),
            device: self.links[link].clone(),
            kind: PortKind::Link,
            settings: PortSettings::default(),
            filtering: spec.vlan_filtering,
            number: ovs.then(|| u16::try_from(link + 1).expect("a small number")),
            mark: if ovs { mark.to_string() } else { String::new() },
        }
    }

    async fn abilities(&mut self) -> Abilities {
        let needs = BTreeSet::from([Need::Vlans, Need::Isolation]);
        self.switch.abilities(&needs).await.expect("a switch knows what it can do")
    }

    async fn can(&mut self, need: Need) -> bool {
        !self.abilities().await.cannot.contains_key(&need)
    }

    async fn observe(&mut self) -> Fabric {
        self.switch.observe(&self.lab).await.expect("the switches can be read")
    }

    async fn commit(&mut self, steps: &[FabricStep]) {
        self.switch.commit(steps).await.expect("the batch can be committed");
    }
}

/// All promises, one after the other.
pub async fn all(subject: &mut Subject<'_>) {
    what_was_committed_is_observed(subject).await;
    settings_are_observed_as_they_were_set(subject).await;
    a_port_moves_and_its_settings_with_it(subject).await;
    a_failed_commit_changes_nothing(subject).await;
    every_step_is_taken_back_by_its_undo(subject).await;
    counters_name_every_port(subject).await;
    what_is_able_to_do_vlans_keeps_them_apart(subject).await;
    flows_are_known_again(subject).await;
}

/// A switch with two ports is seen with two ports, up, under its mark; and a
/// switch that was deleted is not seen.
pub async fn what_was_committed_is_observed(subject: &mut Subject<'_>) {
    let spec = subject.spec("sw").await;
    let ports = [subject.port(&spec, 0), subject.port(&spec, 1)];
    subject
        .commit(&[
            FabricStep::AddSwitch(spec.clone()),
            FabricStep::AddPort(ports[0].clone()),
            FabricStep::AddPort(ports[1].clone()),
            FabricStep::RaiseSwitch(spec.clone()),
        ])
        .await;
    let fabric = subject.observe().await;
    let seen = &fabric.switches[&spec.name];
    assert_eq!(seen.spec, spec);
    assert!(seen.up, "a switch that was raised is up");
    let expected: BTreeMap<_, _> =
        ports.iter().map(|port| (port.device.clone(), (&port.settings, port.number))).collect();
    let ports_seen: BTreeMap<_, _> = seen
        .ports
        .iter()
        .map(|(device, port)| (device.clone(), (&port.settings, port.number)))
        .collect();
    assert_eq!(ports_seen, expected);
    assert!(seen.ports.values().all(|port| port.broken.is_none()), "{:?}", seen.ports);
    subject
        .commit(&[
            FabricStep::DeletePort(ports[0].clone()),
            FabricStep::DeletePort(ports[1].clone()),
            FabricStep::DeleteSwitch(spec),
        ])
        .await;
    assert_eq!(subject.observe().await, Fabric::default());
}

/// What was changed reads back changed, so that a second look finds nothing
/// to do.
pub async fn settings_are_observed_as_they_were_set(subject: &mut Subject<'_>) {
    let spec = subject.spec("sw").await;
    let mut changed = spec.clone();
    changed.mtu = 1400;
    changed.mac = "02:00:00:00:12:34".parse().expect("a good address");
    changed.settings.stp = true;
    changed.settings.forward_delay_s = Some(5);
    changed.settings.ageing_s = 60;
    changed.settings.multicast_snooping = false;
    let mut port = subject.port(&spec, 0);
    subject.commit(&[FabricStep::AddSwitch(spec.clone()), FabricStep::AddPort(port.clone())]).await;
    let set = FabricStep::SetSwitch { before: spec.clone(), after: changed.clone() };
    subject.commit(&[set]).await;
    if subject.can(Need::Isolation).await {
        let before = port.clone();
        port.settings.isolated = true;
        subject.commit(&[FabricStep::SetPort { before, after: port.clone() }]).await;
    }
    let fabric = subject.observe().await;
    assert_eq!(fabric.switches[&spec.name].spec, changed);
    assert_eq!(fabric.switches[&spec.name].ports[&port.device].settings, port.settings);
    subject.commit(&[FabricStep::DeletePort(port), FabricStep::DeleteSwitch(changed)]).await;
}

/// A port is on one switch at a time.
pub async fn a_port_moves_and_its_settings_with_it(subject: &mut Subject<'_>) {
    let (from, to) = (subject.spec("from").await, subject.spec("to").await);
    let before = subject.port(&from, 0);
    let mut after = subject.port(&to, 0);
    after.settings.isolated = subject.can(Need::Isolation).await;
    subject
        .commit(&[
            FabricStep::AddSwitch(from.clone()),
            FabricStep::AddSwitch(to.clone()),
            FabricStep::AddPort(before.clone()),
        ])
        .await;
    subject.commit(&[FabricStep::SetPort { before, after: after.clone() }]).await;
    let fabric = subject.observe().await;
    assert!(fabric.switches[&from.name].ports.is_empty(), "the port has left");
    assert_eq!(fabric.switches[&to.name].ports[&after.device].settings, after.settings);
    subject
        .commit(&[
            FabricStep::DeletePort(after),
            FabricStep::DeleteSwitch(from),
            FabricStep::DeleteSwitch(to),
        ])
        .await;
}

/// All or nothing: a batch whose last step must fail leaves the switches as
/// they were.
pub async fn a_failed_commit_changes_nothing(subject: &mut Subject<'_>) {
    let (kept, new) = (subject.spec("kept").await, subject.spec("new").await);
    let port = subject.port(&kept, 0);
    subject.commit(&[FabricStep::AddSwitch(kept.clone()), FabricStep::AddPort(port.clone())]).await;
    let before = subject.observe().await;
    let mut changed = kept.clone();
    changed.settings.ageing_s = 77;
    let other = subject.port(&new, 1);
    let moved = PortSpec { bridge: new.device.clone(), switch: new.name.clone(), ..port.clone() };
    let mut ghost = subject.port(&new, 1);
    ghost.device = IfName::new("no-such-device").expect("a good name");
    ghost.number = ghost.number.map(|number| number + 1);
    subject
        .switch
        .commit(&[
            FabricStep::AddSwitch(new.clone()),
            FabricStep::SetSwitch { before: kept.clone(), after: changed },
            FabricStep::SetPort { before: port.clone(), after: moved },
            FabricStep::AddPort(other),
            FabricStep::AddPort(ghost),
        ])
        .await
        .expect_err("a device that is not there cannot be plugged in");
    assert_eq!(subject.observe().await, before);
    subject.commit(&[FabricStep::DeletePort(port), FabricStep::DeleteSwitch(kept)]).await;
}

/// A step and its undo, one after the other, are as if nothing had been.
pub async fn every_step_is_taken_back_by_its_undo(subject: &mut Subject<'_>) {
    let spec = subject.spec("sw").await;
    let port = subject.port(&spec, 0);
    let mut quiet = spec.clone();
    quiet.settings.multicast_snooping = false;
    let steps = [
        FabricStep::AddSwitch(spec.clone()),
        FabricStep::AddPort(port),
        FabricStep::SetSwitch { before: spec, after: quiet },
    ];
    let mut worlds = vec![subject.observe().await];
    for step in &steps {
        subject.commit(std::slice::from_ref(step)).await;
        worlds.push(subject.observe().await);
    }
    for step in steps.iter().rev() {
        assert_eq!(subject.observe().await, worlds.pop().expect("one for each step"));
        let undo = step.undo().expect("these can be taken back");
        subject.commit(&undo).await;
    }
    assert_eq!(subject.observe().await, worlds.pop().expect("the first"));
}

/// Whoever asks for traffic hears of every port.
pub async fn counters_name_every_port(subject: &mut Subject<'_>) {
    let spec = subject.spec("sw").await;
    let port = subject.port(&spec, 0);
    subject.commit(&[FabricStep::AddSwitch(spec.clone()), FabricStep::AddPort(port.clone())]).await;
    let traffic = subject.switch.traffic(&spec).await.expect("traffic can be read");
    let ports: Vec<_> = traffic.counters.keys().cloned().collect();
    assert_eq!(ports, std::slice::from_ref(&port.device));
    subject.commit(&[FabricStep::DeletePort(port), FabricStep::DeleteSwitch(spec)]).await;
}

/// VLANs read back as they were set. A switch that cannot do them says so in
/// its abilities, and no plan asks.
pub async fn what_is_able_to_do_vlans_keeps_them_apart(subject: &mut Subject<'_>) {
    if !subject.can(Need::Vlans).await {
        return;
    }
    let mut spec = subject.spec("sw").await;
    spec.vlan_filtering = true;
    let mut access = subject.port(&spec, 0);
    access.settings.vlan = Some(Vlan::Access(10));
    let mut trunk = subject.port(&spec, 1);
    let vlans = [5, 10, 11, 12].into_iter().collect();
    trunk.settings.vlan = Some(Vlan::Trunk { vlans, native: Some(5) });
    subject
        .commit(&[
            FabricStep::AddSwitch(spec.clone()),
            FabricStep::AddPort(access.clone()),
            FabricStep::AddPort(trunk.clone()),
        ])
        .await;
    for vlan in [Some(Vlan::Access(1)), None, Some(Vlan::Access(20))] {
        let before = access.clone();
        access.settings.vlan = vlan;
        subject.commit(&[FabricStep::SetPort { before, after: access.clone() }]).await;
        let seen = &subject.observe().await.switches[&spec.name];
        assert_eq!(seen.spec, spec);
        assert_eq!(seen.ports[&access.device].settings, access.settings);
        assert_eq!(seen.ports[&trunk.device].settings, trunk.settings);
    }
    // VLANs that were given up do not come back with those that come next.
    let mut plain = spec.clone();
    plain.vlan_filtering = false;
    let (tagged, untagged) = (access.clone(), subject.port(&plain, 0));
    let (old, new) = (trunk.clone(), subject.port(&plain, 1));
    subject
        .commit(&[
            FabricStep::SetSwitch { before: spec.clone(), after: plain.clone() },
            FabricStep::SetPort { before: tagged, after: untagged.clone() },
            FabricStep::SetPort { before: old, after: new.clone() },
        ])
        .await;
    access.settings.vlan = Some(Vlan::Access(30));
    trunk.settings.vlan = Some(Vlan::Trunk { vlans: [40].into_iter().collect(), native: None });
    subject
        .commit(&[
            FabricStep::SetSwitch { before: plain, after: spec.clone() },
            FabricStep::SetPort { before: untagged, after: access.clone() },
            FabricStep::SetPort { before: new, after: trunk.clone() },
        ])
        .await;
    let seen = &subject.observe().await.switches[&spec.name];
    assert_eq!(seen.ports[&access.device].settings, access.settings);
    assert_eq!(seen.ports[&trunk.device].settings, trunk.settings);
    subject
        .commit(&[
            FabricStep::DeletePort(access),
            FabricStep::DeletePort(trunk),
            FabricStep::DeleteSwitch(spec),
        ])
        .await;
}

/// A flow of ours is seen as such, among others, until it is deleted. A switch
/// that speaks no OpenFlow says so, and no plan asks.
pub async fn flows_are_known_again(subject: &mut Subject<'_>) {
    if subject.switch.openflow().is_none() {
        return;
    }
    let spec = subject.spec("sw").await;
    let port = subject.port(&spec, 0);
    let text = format!("priority=9,in_port=\"{}\",actions=drop", port.device);
    let (switch, bridge) = (spec.name.clone(), spec.device.clone());
    let cookie = flow_cookie(&text);
    let flow = FlowSpec { switch, bridge, cookie, words: text.clone(), text };
    subject
        .commit(&[
            FabricStep::AddSwitch(spec.clone()),
            FabricStep::AddPort(port.clone()),
            FabricStep::AddFlow(flow.clone()),
        ])
        .await;
    let seen = subject.observe().await.switches[&spec.name].flows.clone();
    assert_eq!(seen.keys().collect::<Vec<_>>(), [&cookie]);
    let openflow = subject.switch.openflow().expect("asked above");
    let told = openflow.flows(&spec, true).await.expect("flows can be read");
    let ours: Vec<_> = told.iter().filter(|flow| flow.ours).map(|flow| &flow.text).collect();
    assert_eq!(ours, seen.values().collect::<Vec<_>>());
    assert!(told.iter().any(|flow| !flow.ours && !flow.hidden), "it also switches by itself");
    assert!(told.iter().any(|flow| flow.hidden), "that it does not tell of unless asked");
    let packet = format!("in_port=\"{}\",arp", port.device);
    let traced = openflow.trace(&spec, &packet).await.expect("packets can be traced");
    assert!(traced.expect("a packet it can read").contains("drop"));
    let unread = openflow.trace(&spec, "nonsense=1").await.expect("it answers");
    assert_eq!(unread, Err("unknown field nonsense".to_owned()));
    subject.commit(&[FabricStep::DeleteFlow(flow)]).await;
    assert!(subject.observe().await.switches[&spec.name].flows.is_empty(), "the flow is gone");
    subject.commit(&[FabricStep::DeletePort(port), FabricStep::DeleteSwitch(spec)]).await;
}
