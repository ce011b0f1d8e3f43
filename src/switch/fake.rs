//! A switch in memory, over the devices of a `FakeMachine`.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use nix::errno::Errno;

use super::{Counters, Switch, SwitchError, Traffic};
use crate::kernel::KernelError;
use crate::kernel::fake::{FakeMachine, Memory};
use crate::model::mark::Mark;
use crate::model::names::{IfName, LabName, SwitchName};
use crate::model::packet::Frame;
use crate::model::topology::Backend;
use crate::model::world::{Fabric, FlowSpec, PortSpec, SeenPort, SeenSwitch, SwitchSpec};
use crate::plan::why::facts::Way;
use crate::plan::why::switch::{Port, bridge};
use crate::plan::{Abilities, FabricStep, Need};

/// A switch that can do all that a plan may ask for, unless told otherwise.
#[derive(Debug, Clone)]
pub struct FakeSwitch {
    machine: FakeMachine,
    abilities: Abilities,
}

impl FakeSwitch {
    /// Switches of `machine`, which pass for Linux bridges.
    pub fn new(machine: &FakeMachine) -> Self {
        let abilities = Abilities {
            backend: Backend::Linux,
            missing: None,
            cannot: BTreeMap::new(),
            flows: BTreeMap::new(),
            ports_max: 1023,
            swept_with_links: true,
            datapath: None,
            checksums: true,
            asleep: None,
        };
        Self { machine: machine.clone(), abilities }
    }

    /// The same with other abilities.
    pub fn with(mut self, abilities: Abilities) -> Self {
        self.abilities = abilities;
        self
    }
}

fn perform(memory: &mut Memory, step: &FabricStep) -> Result<(), Errno> {
    memory.count()?;
    match step {
        FabricStep::AddSwitch(spec) => {
            let taken = memory.fabric.switches.values().any(|s| s.spec.device == spec.device)
                || memory.host.ports.contains_key(&spec.device);
            if taken {
                return Err(Errno::EEXIST);
            }
            let seen = SeenSwitch {
                spec: spec.clone(),
                up: false,
                broken: None,
                ports: BTreeMap::new(),
                mirrors: BTreeMap::new(),
                foreign_mirrors: BTreeSet::new(),
                flows: BTreeMap::new(),
                table_miss: spec.forwards_by_itself().then(|| FlowSpec::OWN.to_owned()),
            };
            memory.fabric.switches.insert(spec.name.clone(), seen);
        }
        FabricStep::SetSwitch { after, .. } => switch(memory, after)?.spec = after.clone(),
        FabricStep::RaiseSwitch(spec) => switch(memory, spec)?.up = true,
        FabricStep::SettleSwitch(spec) => switch(memory, spec).map(drop)?,
        FabricStep::DeleteSwitch(spec) => {
            switch(memory, spec)?;
            memory.fabric.switches.retain(|_, seen| seen.spec.device != spec.device);
        }
        FabricStep::AddPort(port) => plug(memory, port)?,
        FabricStep::SetPort { before, after } => {
            let there =
                memory.fabric.switches.values().any(|s| {
                    s.spec.device == before.bridge && s.ports.contains_key(&before.device)
                });
            if !there {
                return Err(Errno::ENODEV);
            }
            plug(memory, after)?;
        }
        FabricStep::DeletePort(port) => {
            if !memory.host.ports.contains_key(&port.device) {
                return Err(Errno::ENODEV);
            }
            pull(memory, port, |_| true);
        }
        FabricStep::AddMirror(mirror) => {
            let seen = on_switch(memory, &mirror.switch)?;
            if seen.mirrors.contains_key(&mirror.name) {
                return Err(Errno::EEXIST);
            }
            let ports = mirror.from.iter().chain(&mirror.to).chain([&mirror.output]);
            if ports.into_iter().any(|port| !seen.ports.contains_key(port)) {
                return Err(Errno::ENODEV);
            }
            seen.mirrors.insert(mirror.name.clone(), mirror.clone());
        }
        FabricStep::DeleteMirror(mirror) => {
            let gone = on_switch(memory, &mirror.switch)?.mirrors.remove(&mirror.name);
            gone.ok_or(Errno::ENOENT)?;
        }
        FabricStep::AddFlow(flow) => {
            let seen = on_switch(memory, &flow.switch)?;
            // One takes the place of another with the same priority and match.
            if flow.text.starts_with("priority=0,actions=") {
                seen.table_miss = Some(flow.text.clone());
            }
            if !flow.is_own() {
                seen.flows.insert(flow.cookie, flow.text.clone());
            }
        }
        FabricStep::DeleteFlow(flow) => {
            let seen = on_switch(memory, &flow.switch)?;
            let gone = match flow.is_own() {
                true => seen.table_miss.clone(),
                false => seen.flows.remove(&flow.cookie),
            };
            let gone = gone.ok_or(Errno::ENOENT)?;
            seen.table_miss.take_if(|text| *text == gone);
        }
        FabricStep::DeleteLeftover(leftover) => {
            let was_there = memory.fabric.leftovers.remove(leftover);
            was_there.then_some(()).ok_or(Errno::ENOENT)?;
        }
    }
    Ok(())
}

fn on_switch<'a>(memory: &'a mut Memory, name: &SwitchName) -> Result<&'a mut SeenSwitch, Errno> {
    memory.fabric.switches.get_mut(name).ok_or(Errno::ENODEV)
}

/// A device has one master, and gets the new one in place of the old.
fn plug(memory: &mut Memory, port: &PortSpec) -> Result<(), Errno> {
    if !memory.host.ports.contains_key(&port.device) {
        return Err(Errno::ENODEV);
    }
    if !memory.fabric.switches.values().any(|seen| seen.spec.device == port.bridge) {
        return Err(Errno::ENODEV);
    }
    pull(memory, port, |seen| seen.spec.device != port.bridge);
    for seen in memory.fabric.switches.values_mut().filter(|s| s.spec.device == port.bridge) {
        let seen_port = SeenPort {
            kind: port.kind.clone(),
            settings: port.settings.clone(),
            number: port.number,
            mark: port.mark.clone(),
            lent: None,
            broken: None,
        };
        seen.ports.insert(port.device.clone(), seen_port);
    }
    Ok(())
}

/// Pulls a port out of some switches, where no mirror copies it any more.
fn pull(memory: &mut Memory, port: &PortSpec, of: impl Fn(&SeenSwitch) -> bool) {
    for seen in memory.fabric.switches.values_mut().filter(|seen| of(seen)) {
        seen.ports.remove(&port.device);
        for mirror in seen.mirrors.values_mut() {
            mirror.from.remove(&port.device);
            mirror.to.remove(&port.device);
            if mirror.output == port.device {
                mirror.output = seen.spec.device.clone();
            }
        }
    }
}

fn switch<'a>(memory: &'a mut Memory, spec: &SwitchSpec) -> Result<&'a mut SeenSwitch, Errno> {
    let mut switches = memory.fabric.switches.values_mut();
    switches.find(|seen| seen.spec.device == spec.device).ok_or(Errno::ENODEV)
}

#[async_trait]
impl Switch for FakeSwitch {
    async fn available(&mut self) -> Result<String, String> {
        Ok("switches in memory".into())
    }

    async fn abilities(&mut self, _needs: &BTreeSet<Need>) -> Result<Abilities, SwitchError> {
        Ok(self.abilities.clone())
    }

    async fn labs(&mut self) -> Result<BTreeSet<LabName>, SwitchError> {
        let memory = self.machine.memory();
        let marks = memory.fabric.switches.values().map(|s| Mark::parse(&s.spec.alias));
        Ok(marks.flatten().map(|mark| mark.lab).collect())
    }

    async fn observe(&mut self, _lab: &LabName) -> Result<Fabric, SwitchError> {
        Ok(self.machine.memory().fabric.clone())
    }

    async fn commit(&mut self, steps: &[FabricStep]) -> Result<(), SwitchError> {
        let mut memory = self.machine.memory();
        let before = memory.fabric.clone();
        for step in steps {
            if let Err(errno) = perform(&mut memory, step) {
                memory.fabric = before;
                return Err(SwitchError::Step {
                    step: step.line(),
                    source: KernelError::new("do that in memory", errno),
                });
            }
        }
        Ok(())
    }

    async fn traffic(&mut self, switch: &SwitchSpec) -> Result<Traffic, SwitchError> {
        let memory = self.machine.memory();
        let seen = memory.fabric.switches.get(&switch.name);
        let ports = seen.into_iter().flat_map(|seen| seen.ports.keys().cloned());
        let counters = ports.map(|port| (port, Counters::default())).collect();
        Ok(Traffic { counters, ..Traffic::default() })
    }
    async fn way(
        &mut self,
        switch: &SwitchSpec,
        enters: &IfName,
        frame: &Frame,
    ) -> Result<Way, SwitchError> {
        let memory = self.machine.memory();
        let seen = memory.fabric.switches.get(&switch.name);
        let ports = seen.into_iter().flat_map(|seen| &seen.ports);
        let port = |(name, seen): (&IfName, &SeenPort)| {
            (name.clone(), Port { isolated: seen.settings.isolated, ..Port::OPEN })
        };
        Ok(bridge(&ports.map(port).collect(), &[], enters, frame))
    }
}
