//! The promises of `Switch`, each checked once and for every backend: over
//! the fake in `tests/`, over the real ones in `integration/`.
//!
//! Each promise takes a switch of a lab that is empty, and two links of that
//! lab that are there and plugged in nowhere. It leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Switch, Traffic};
use crate::model::mark::{Mac, Mark, Thing, birth_mac, flow_cookie, group};
use crate::model::names::{IfName, LabName, SwitchName};
use crate::model::packet::{Frame, Inside};
use crate::model::topology::{Backend, FailMode, Policing, PortSettings, SwitchSettings, Vlan};
use crate::model::world::{Fabric, FlowSpec, MirrorSpec, PortKind, PortSpec, SwitchSpec};
use crate::plan::why::facts::Way;
use crate::plan::{Abilities, FabricStep, Need, Place, Veth, VethEnd};

/// A link with both ends in the machine's own namespace, plugged in nowhere:
/// what has to be there before a promise is checked.
pub fn link(lab: &LabName) -> Veth {
    let ends = ["a:x", "b:x"].map(|port| {
        let mark = Mark { lab: lab.clone(), thing: Thing::Port(port.into()) };
        let device = mark.device();
        let mac = birth_mac(&device);
        VethEnd { at: Place::Host, mac, alias: mark.to_string(), altname: None, device }
    });
    Veth {
        link: "a:x".into(),
        group: group(lab),
        mtu: 1500,
        ends,
        down: None,
        impairments: Default::default(),
    }
}

/// What a promise is checked with.
pub struct Subject<'a> {
    /// The switch.
    pub switch: &'a mut dyn Switch,
    /// The lab that it and the links are of.
    pub lab: LabName,
    /// Both ends of [`link`].
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
            // It has one only with a protocol that counts with it.
            settings.forward_delay_s = None;
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

    /// A mirror of that switch that copies nothing yet, with the second port as
    /// its output.
    pub fn mirror(&self, spec: &SwitchSpec, name: &str) -> MirrorSpec {
        MirrorSpec {
            switch: spec.name.clone(),
            bridge: spec.device.clone(),
            name: IfName::new(name).expect("a good name"),
            all: false,
            from: BTreeSet::new(),
            to: BTreeSet::new(),
            vlans: BTreeSet::new(),
            output: self.links[1].clone(),
            mark: spec.alias.clone(),
        }
    }

    async fn abilities(&mut self) -> Abilities {
        let needs = [Need::Vlans, Need::Isolation, Need::Mirrors, POLICING];
        let needs = BTreeSet::from(needs);
        self.switch.abilities(&needs).await.expect("a switch knows what it can do")
    }

    async fn can(&mut self, need: Need) -> bool {
        !self.abilities().await.cannot.contains_key(&need)
    }

    async fn observe(&mut self) -> Fabric {
        self.switch.observe(&self.lab).await.expect("the switches can be read")
    }

    async fn way(&mut self, spec: &SwitchSpec, enters: &IfName, frame: &Frame) -> Way {
        self.switch.way(spec, enters, frame).await.expect("a way can be told")
    }

    async fn commit(&mut self, steps: &[FabricStep]) {
        self.switch.commit(steps).await.expect("the batch can be committed");
    }
}

const SOME_POLICING: Policing = Policing { rate_kbps: 1000, burst_kb: 800 };

/// On the best datapath.
const POLICING: Need = Need::Policing(None);

/// All promises, one after the other.
pub async fn all(subject: &mut Subject<'_>) {
    what_was_committed_is_observed(subject).await;
    settings_are_observed_as_they_were_set(subject).await;
    a_port_moves_and_its_settings_with_it(subject).await;
    a_failed_commit_changes_nothing(subject).await;
    every_step_is_taken_back_by_its_undo(subject).await;
    a_mirror_reads_back_and_goes(subject).await;
    a_mirror_that_cannot_be_is_none(subject).await;
    a_port_that_is_pulled_keeps_nothing(subject).await;
    counters_name_every_port(subject).await;
    a_frame_goes_the_way_that_is_told(subject).await;
    what_is_able_to_do_vlans_keeps_them_apart(subject).await;
    flows_are_known_again(subject).await;
}

/// A port whose link went while the plan was made is deleted like any other.
///
/// It takes the links along, so it is no part of [`all`]: `delete` deletes them.
pub async fn a_port_without_its_link_is_deleted(
    subject: &mut Subject<'_>,
    delete: impl AsyncFnOnce(),
) {
    let spec = subject.spec("sw").await;
    let port = subject.port(&spec, 0);
    let add = [FabricStep::AddSwitch(spec.clone()), FabricStep::AddPort(port.clone())];
    subject.commit(&add).await;
    delete().await;
    subject.commit(&[FabricStep::DeletePort(port)]).await;
    assert_eq!(subject.observe().await.switches[&spec.name].ports.len(), 0);
    subject.commit(&[FabricStep::DeleteSwitch(spec)]).await;
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
    if subject.can(POLICING).await {
        let limits = [(1000, 800), (1000, 128), (u32::MAX, u32::MAX), (1, 1)];
        let limits = limits.map(|(rate_kbps, burst_kb)| Some(Policing { rate_kbps, burst_kb }));
        for policing in limits.into_iter().chain([None]) {
            let before = port.clone();
            port.settings.policing = policing;
            subject.commit(&[FabricStep::SetPort { before, after: port.clone() }]).await;
            let seen = subject.observe().await;
            assert_eq!(seen.switches[&spec.name].ports[&port.device].settings, port.settings);
        }
    }
    subject.commit(&[FabricStep::DeletePort(port), FabricStep::DeleteSwitch(changed)]).await;
}

/// A port is on one switch at a time.
pub async fn a_port_moves_and_its_settings_with_it(subject: &mut Subject<'_>) {
    let (from, to) = (subject.spec("from").await, subject.spec("to").await);
    let before = subject.port(&from, 0);
    let mut after = subject.port(&to, 0);
    after.settings.isolated = subject.can(Need::Isolation).await;
    if subject.can(POLICING).await {
        after.settings.policing = Some(SOME_POLICING);
    }
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
    let back = subject.port(&from, 0);
    let move_back = FabricStep::SetPort { before: after, after: back.clone() };
    subject.commit(&[move_back]).await;
    let fabric = subject.observe().await;
    assert_eq!(fabric.switches[&from.name].ports[&back.device].settings, back.settings);
    subject
        .commit(&[
            FabricStep::DeletePort(back),
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
    let ports = [subject.port(&spec, 0), subject.port(&spec, 1)];
    let mut quiet = spec.clone();
    quiet.settings.multicast_snooping = false;
    let mut steps = vec![
        FabricStep::AddSwitch(spec.clone()),
        FabricStep::AddPort(ports[0].clone()),
        FabricStep::AddPort(ports[1].clone()),
        FabricStep::SetSwitch { before: spec.clone(), after: quiet },
    ];
    if subject.can(Need::Mirrors).await {
        let mut mirror = subject.mirror(&spec, "m");
        mirror.from.insert(ports[0].device.clone());
        steps.push(FabricStep::AddMirror(mirror.clone()));
        steps.push(FabricStep::DeleteMirror(mirror));
    }
    let mut set = ports[0].clone();
    set.settings.isolated = subject.can(Need::Isolation).await;
    set.settings.policing = subject.can(POLICING).await.then_some(SOME_POLICING);
    steps.push(FabricStep::SetPort { before: ports[0].clone(), after: set.clone() });
    steps.push(FabricStep::DeletePort(set));
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

/// Mirrors read back as they were made, each goes by itself, and when the last
/// has gone the ports are as before.
pub async fn a_mirror_reads_back_and_goes(subject: &mut Subject<'_>) {
    if !subject.can(Need::Mirrors).await {
        return;
    }
    let spec = subject.spec("sw").await;
    let ports = [subject.port(&spec, 0), subject.port(&spec, 1)];
    subject
        .commit(&[
            FabricStep::AddSwitch(spec.clone()),
            FabricStep::AddPort(ports[0].clone()),
            FabricStep::AddPort(ports[1].clone()),
        ])
        .await;
    let before = subject.observe().await;
    let kinds = ["from", "to", "both", "all"].map(|kind| {
        let mut mirror = subject.mirror(&spec, kind);
        let port = ports[0].device.clone();
        mirror.all = kind == "all";
        if kind == "from" || kind == "both" || (mirror.all && spec.backend == Backend::Linux) {
            mirror.from.insert(port.clone());
        }
        if kind == "to" || kind == "both" {
            mirror.to.insert(port);
        }
        mirror
    });
    for mirror in &kinds {
        subject.commit(&[FabricStep::AddMirror(mirror.clone())]).await;
        let mirrors = subject.observe().await.switches[&spec.name].mirrors.clone();
        assert_eq!(mirrors, BTreeMap::from([(mirror.name.clone(), mirror.clone())]));
        subject.commit(&[FabricStep::DeleteMirror(mirror.clone())]).await;
        assert_eq!(subject.observe().await, before);
    }
    // All at once, in one batch and out of it one by one.
    let mut left: BTreeMap<_, _> = kinds.iter().map(|m| (m.name.clone(), m.clone())).collect();
    subject.commit(&kinds.clone().map(FabricStep::AddMirror)).await;
    for mirror in kinds {
        assert_eq!(subject.observe().await.switches[&spec.name].mirrors, left);
        left.remove(&mirror.name);
        subject.commit(&[FabricStep::DeleteMirror(mirror)]).await;
    }
    assert_eq!(subject.observe().await, before);
    let [first, second] = ports.map(FabricStep::DeletePort);
    subject.commit(&[first, second, FabricStep::DeleteSwitch(spec)]).await;
}

/// All or nothing, of mirrors too: of the batch, and of all the ports of one.
pub async fn a_mirror_that_cannot_be_is_none(subject: &mut Subject<'_>) {
    if !subject.can(Need::Mirrors).await {
        return;
    }
    let spec = subject.spec("sw").await;
    let ports = [subject.port(&spec, 0), subject.port(&spec, 1)];
    let mut there = subject.mirror(&spec, "there");
    there.from.insert(ports[0].device.clone());
    subject
        .commit(&[
            FabricStep::AddSwitch(spec.clone()),
            FabricStep::AddPort(ports[0].clone()),
            FabricStep::AddPort(ports[1].clone()),
            FabricStep::AddMirror(there.clone()),
        ])
        .await;
    let before = subject.observe().await;
    let no_port = IfName::new("no-such-device").expect("a good name");
    let mut of_no_port = subject.mirror(&spec, "new");
    of_no_port.from.insert(ports[0].device.clone());
    of_no_port.to.insert(no_port.clone());
    let mut to_no_port = subject.mirror(&spec, "new");
    to_no_port.from.insert(ports[0].device.clone());
    to_no_port.output = no_port;
    for doomed in [of_no_port, to_no_port] {
        let steps = [FabricStep::DeleteMirror(there.clone()), FabricStep::AddMirror(doomed)];
        subject.switch.commit(&steps).await.expect_err("it has no such port");
        assert_eq!(subject.observe().await, before);
    }
    let [first, second] = ports.map(FabricStep::DeletePort);
    let end = [FabricStep::DeleteMirror(there), first, second, FabricStep::DeleteSwitch(spec)];
    subject.commit(&end).await;
}

/// A port that was pulled and plugged in again is as if it were another: it
/// lets all pass, and no mirror copies it or shows it any.
pub async fn a_port_that_is_pulled_keeps_nothing(subject: &mut Subject<'_>) {
    let spec = subject.spec("sw").await;
    let plain = [subject.port(&spec, 0), subject.port(&spec, 1)];
    let mut set = plain[0].clone();
    set.settings.isolated = subject.can(Need::Isolation).await;
    set.settings.policing = subject.can(POLICING).await.then_some(SOME_POLICING);
    for pulled in [0, 1] {
        subject
            .commit(&[
                FabricStep::AddSwitch(spec.clone()),
                FabricStep::AddPort(set.clone()),
                FabricStep::AddPort(plain[1].clone()),
            ])
            .await;
        let mut mirror = subject.mirror(&spec, "m");
        mirror.from.insert(set.device.clone());
        mirror.to.insert(set.device.clone());
        let mirrors = subject.can(Need::Mirrors).await;
        if mirrors {
            subject.commit(&[FabricStep::AddMirror(mirror.clone())]).await;
        }
        let port = [&set, &plain[1]][pulled].clone();
        subject.commit(&[FabricStep::DeletePort(port)]).await;
        subject.commit(&[FabricStep::AddPort(plain[pulled].clone())]).await;
        let seen = subject.observe().await.switches[&spec.name].clone();
        let again = &seen.ports[&plain[pulled].device];
        assert_eq!((&again.settings, &again.broken), (&plain[pulled].settings, &None));
        if let (true, Some(left)) = (mirrors, seen.mirrors.get(&mirror.name)) {
            assert_ne!(*left, mirror);
            subject.commit(&[FabricStep::DeleteMirror(left.clone())]).await;
        }
        subject
            .commit(&[
                FabricStep::DeletePort(if pulled == 0 { plain[0].clone() } else { set.clone() }),
                FabricStep::DeletePort(plain[1].clone()),
                FabricStep::DeleteSwitch(spec.clone()),
            ])
            .await;
    }
    assert_eq!(subject.observe().await, Fabric::default());
}

/// Whoever asks for traffic hears of every port.
pub async fn counters_name_every_port(subject: &mut Subject<'_>) {
    let spec = subject.spec("sw").await;
    let port = subject.port(&spec, 0);
    subject.commit(&[FabricStep::AddSwitch(spec.clone()), FabricStep::AddPort(port.clone())]).await;
    let traffic = subject.switch.traffic(&spec).await.expect("traffic can be read");
    let ports: Vec<_> = traffic.counters.keys().cloned().collect();
    assert_eq!(ports, std::slice::from_ref(&port.device));
    let gone = [FabricStep::DeletePort(port), FabricStep::DeleteSwitch(spec.clone())];
    subject.commit(&gone).await;
    // One that others removed since it was observed.
    let traffic = subject.switch.traffic(&spec).await.expect("nothing is no failure");
    assert_eq!(traffic, Traffic::default());
}

/// What is for everybody leaves by all other ports, or it is said what keeps it: on
/// a Linux bridge that a link is down, as these are. What comes in where there is no
/// port goes nowhere.
pub async fn a_frame_goes_the_way_that_is_told(subject: &mut Subject<'_>) {
    let spec = subject.spec("sw").await;
    let ports = [0, 1].map(|link| subject.port(&spec, link));
    let [enters, other] = ports.each_ref().map(|port| port.device.clone());
    let [from, to] = [1, 2].map(|host| IpAddr::from([192, 0, 2, host]));
    let asks = Frame {
        source: birth_mac(&enters),
        destination: Mac([0xff; 6]),
        inside: Inside::Ask { from, to },
    };
    subject
        .commit(&[
            FabricStep::AddSwitch(spec.clone()),
            FabricStep::AddPort(ports[0].clone()),
            FabricStep::AddPort(ports[1].clone()),
            FabricStep::RaiseSwitch(spec.clone()),
        ])
        .await;
    let way = subject.way(&spec, &enters, &asks).await;
    assert!(!way.leaves.contains(&enters), "{way:?}");
    assert!(way.leaves.contains(&other) == way.kept.is_empty(), "{way:?}");

    let nowhere = IfName::new("nowhere0").expect("a good name");
    let way = subject.way(&spec, &nowhere, &asks).await;
    assert!(way.leaves.is_empty() && way.kept.contains_key(&nowhere), "{way:?}");

    let mut last = ports.clone();
    if subject.can(Need::Isolation).await {
        last.iter_mut().for_each(|port| port.settings.isolated = true);
        let set = |(before, after): (&PortSpec, &PortSpec)| FabricStep::SetPort {
            before: before.clone(),
            after: after.clone(),
        };
        let both: Vec<_> = ports.iter().zip(&last).map(set).collect();
        subject.commit(&both).await;
        let way = subject.way(&spec, &enters, &asks).await;
        let is_said = !way.kept.is_empty() || !way.words.is_empty();
        assert!(!way.leaves.contains(&other) && is_said, "{way:?}");
    }
    let [first, second] = last.map(FabricStep::DeletePort);
    subject.commit(&[first, second, FabricStep::DeleteSwitch(spec)]).await;
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
