//! A machine in memory, for tests of plans and of the engine without root.
//!
//! It keeps what the kernel keeps and refuses what the kernel refuses, as far
//! as an integration test shows that the kernel does. `switch::fake` shares
//! its devices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use ipnet::IpNet;
use nix::errno::Errno;

use super::{Host, KernelError, StepError};
use crate::model::exits::SeenDoors;
use crate::model::life::{SeenKeeper, SeenProcess, Standing};
use crate::model::mark::{Mac, Mark, netns};
use crate::model::names::{IfName, LabName, NodeName};
use crate::model::topology::Dynamic;
use crate::model::world::{
    Egress, Fabric, HostView, Questions, SeenAdoption, SeenDeaf, SeenDevice, SeenDynamic,
    SeenLease, SeenMacvlan, SeenNode, Target,
};
use crate::plan::{Place, Step, Veth, VethEnd};

/// What two fakes, a host and its switches, know together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Namespaces and links.
    pub host: HostView,
    /// Switches.
    pub fabric: Fabric,
    /// Which end is at the other end.
    pub across: BTreeMap<(Place, IfName), (Place, IfName)>,
    /// The step that fails, counted from 0 over all that is performed; later
    /// ones work again.
    pub fails_at: Option<usize>,
    /// How many steps were performed, or failed.
    pub performed: usize,
}

/// A machine in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct FakeMachine(Arc<Mutex<Memory>>);

impl FakeMachine {
    /// What is there.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().expect("a test that panicked with the lock has failed already")
    }
}

impl Memory {
    /// Counts a step, and fails if it is its turn.
    pub fn count(&mut self) -> Result<(), Errno> {
        let turn = self.fails_at == Some(self.performed);
        self.performed += 1;
        if turn { Err(Errno::EIO) } else { Ok(()) }
    }

    fn node(&mut self, node: &NodeName) -> Result<&mut SeenNode, Errno> {
        self.host.nodes.get_mut(node).ok_or(Errno::ENOENT)
    }

    fn keeper(&mut self, node: &NodeName) -> Result<&mut SeenKeeper, Errno> {
        self.host.keepers.get_mut(node).ok_or(Errno::EHOSTDOWN)
    }

    fn devices(&mut self, at: &Place) -> Result<&mut BTreeMap<IfName, SeenDevice>, Errno> {
        match at {
            Place::Host => Ok(&mut self.host.ports),
            Place::Node(node) => Ok(&mut self.node(node)?.devices),
        }
    }

    fn device(&mut self, at: &Place, device: &IfName) -> Result<&mut SeenDevice, Errno> {
        self.devices(at)?.get_mut(device).ok_or(Errno::ENODEV)
    }

    fn add_end(&mut self, veth: &Veth, side: usize) -> Result<(), Errno> {
        let end: &VethEnd = &veth.ends[side];
        let seen = SeenDevice {
            mac: end.mac,
            mtu: veth.mtu,
            up: veth.born(side).up,
            carrier: false,
            alias: end.alias.clone(),
            altnames: end.altname.iter().cloned().collect(),
            egress: Egress::Plain,
        };
        if self.devices(&end.at)?.insert(end.device.clone(), seen).is_some() {
            return Err(Errno::EEXIST);
        }
        if let Place::Node(node) = &end.at {
            self.node(node)?.checksums.insert(end.device.clone(), true);
        }
        Ok(())
    }

    /// Something of a NIC's in a node, up.
    fn add_device(
        &mut self,
        node: &NodeName,
        device: &IfName,
        alias: &str,
        mtu: u32,
    ) -> Result<&mut SeenDevice, Errno> {
        let devices = &mut self.node(node)?.devices;
        if devices.contains_key(device) {
            return Err(Errno::EEXIST);
        }
        let (mac, altnames) = (Mac([2, 0, 0, 0, 0, 1]), BTreeSet::new());
        let (alias, egress) = (alias.to_owned(), Egress::Plain);
        let seen = SeenDevice { mac, mtu, up: true, carrier: true, alias, altnames, egress };
        Ok(devices.entry(device.clone()).or_insert(seen))
    }

    /// Deletes a link and all that hangs on it, on both sides.
    fn delete_link(&mut self, at: &Place, device: &IfName) -> Result<(), Errno> {
        self.devices(at)?.remove(device).ok_or(Errno::ENODEV)?;
        for switch in self.fabric.switches.values_mut().filter(|_| *at == Place::Host) {
            switch.ports.remove(device);
        }
        if let Place::Node(node) = at {
            let node = self.node(node)?;
            node.addresses.remove(device);
            node.checksums.remove(device);
            node.macvlans.remove(device);
            node.moved.remove(device);
            node.foreign_addresses.remove(device);
            node.dynamic.remove(device);
            node.routes.retain(|route| route.device != *device);
        }
        if let Some((far, far_device)) = self.across.remove(&(at.clone(), device.clone())) {
            self.across.remove(&(far.clone(), far_device.clone()));
            self.delete_link(&far, &far_device)?;
        }
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<(), Errno> {
        self.count()?;
        match step {
            Step::AddNode { node } => {
                if self.host.stubs.contains(node) || self.host.nodes.contains_key(node) {
                    return Err(Errno::EEXIST);
                }
                self.host.nodes.insert(node.clone(), SeenNode::default());
            }
            Step::DeleteNode { node } => {
                let ends: Vec<_> = match self.host.nodes.get(node) {
                    Some(seen) => seen.devices.keys().cloned().collect(),
                    None if self.host.stubs.remove(node) => return Ok(()),
                    None => return Err(Errno::ENOENT),
                };
                for device in ends {
                    self.delete_link(&Place::Node(node.clone()), &device)?;
                }
                self.host.nodes.remove(node);
            }
            Step::SealNode { node, after, .. } => self.node(node)?.sealed = *after,
            Step::AdoptNode { node, from, netns } => {
                let Some(Target::There { netns: there, .. }) = self.host.targets.get(node) else {
                    return Err(Errno::ENOENT);
                };
                if there != netns {
                    return Err(Errno::ESTALE);
                }
                if self.host.nodes.contains_key(node) {
                    return Err(Errno::EEXIST);
                }
                let adopted = Some(SeenAdoption { netns: *netns, from: from.clone() });
                self.host.nodes.insert(node.clone(), SeenNode { adopted, ..SeenNode::default() });
            }
            Step::LeaveNode { node, .. } => {
                let seen = self.host.nodes.get(node).ok_or(Errno::ENOENT)?;
                let ends: Vec<_> = seen.devices.keys().cloned().collect();
                for device in ends {
                    self.delete_link(&Place::Node(node.clone()), &device)?;
                }
                self.host.nodes.remove(node);
            }
            Step::AddVeth(veth) => {
                let [a, b] = &veth.ends;
                self.add_end(veth, 0)?;
                if let Err(errno) = self.add_end(veth, 1) {
                    self.delete_link(&a.at, &a.device)?;
                    return Err(errno);
                }
                let (a, b) = ((a.at.clone(), a.device.clone()), (b.at.clone(), b.device.clone()));
                self.across.insert(a.clone(), b.clone());
                self.across.insert(b, a);
            }
            Step::DeleteVeth(veth) => {
                gone(self.delete_link(&veth.ends[0].at, &veth.ends[0].device))?;
            }
            Step::DeleteEnd { at, device } => gone(self.delete_link(at, device))?,
            Step::AddMacvlan(child) => {
                let mtu = child.mtu.unwrap_or(1500);
                let there = self.add_device(&child.node, &child.device, &child.alias, mtu)?;
                there.mac = child.mac.unwrap_or(there.mac);
                there.altnames.extend(child.altname.clone());
                let seen = SeenMacvlan { nic: Some(child.nic.clone()), mode: child.mode };
                self.node(&child.node)?.macvlans.insert(child.device.clone(), seen);
            }
            Step::DeleteMacvlan(child) => {
                gone(self.delete_link(&Place::Node(child.node.clone()), &child.device))?;
            }
            Step::LendNic(loan) => {
                let mtu = loan.mtu.unwrap_or(1500);
                let there = self.add_device(&loan.node, &loan.device, &loan.mark, mtu)?;
                there.mac = loan.mac.unwrap_or(there.mac);
                self.node(&loan.node)?.moved.insert(loan.device.clone(), loan.nic.clone());
            }
            Step::ReturnNic(loan) => {
                self.delete_link(&Place::Node(loan.node.clone()), &loan.device)?;
            }
            Step::SweepLinks { devices, .. } => {
                let bridges: BTreeSet<_> = devices.iter().collect();
                self.fabric.switches.retain(|_, seen| !bridges.contains(&seen.spec.device));
                for device in devices {
                    // Its other end took it along, or it was a bridge.
                    if self.host.ports.contains_key(device) {
                        self.delete_link(&Place::Host, device)?;
                    }
                }
            }
            Step::SetLink { at, device, after, .. } => {
                let seen = self.device(at, device)?;
                seen.up = after.up;
                seen.mtu = after.mtu;
                seen.mac = after.mac;
                seen.alias.clone_from(&after.alias);
            }
            Step::Impair { at, device, after, .. } => {
                let seen = self.device(at, device)?;
                if matches!(seen.egress, Egress::Others(_)) {
                    return Err(Errno::EBUSY);
                }
                let impaired = Egress::Impaired { impairments: *after, altered: false };
                seen.egress = if after.is_none() { Egress::Plain } else { impaired };
            }
            Step::Cut { node, after, .. } => {
                let seen = after.clone().map(|deaf| SeenDeaf { deaf, altered: false });
                self.node(node)?.deaf = seen;
            }
            Step::AddAltname { at, device, altname } => {
                if !self.device(at, device)?.altnames.insert(altname.clone()) {
                    return Err(Errno::EEXIST);
                }
            }
            Step::AddAddress { node, device, address } => {
                self.device(&Place::Node(node.clone()), device)?;
                let addresses = &mut self.node(node)?.addresses;
                if !addresses.entry(device.clone()).or_default().insert(*address) {
                    return Err(Errno::EEXIST);
                }
            }
            Step::DeleteAddress { node, device, address } => {
                let node = self.node(node)?;
                let there = node.addresses.get_mut(device).ok_or(Errno::EADDRNOTAVAIL)?;
                if !there.remove(address) {
                    return Err(Errno::EADDRNOTAVAIL);
                }
                if there.is_empty() {
                    node.addresses.remove(device);
                }
            }
            Step::HoldLease { node, device } => {
                self.device(&Place::Node(node.clone()), device)?;
                self.host.leases.insert((node.clone(), device.clone()), SeenLease::default());
            }
            Step::EndLease { node, device } => {
                let lease = self.host.leases.remove(&(node.clone(), device.clone()));
                let address = lease.and_then(|lease| lease.address);
                if let (Some(address), Ok(node)) = (address, self.node(node)) {
                    node.dynamic.entry(device.clone()).or_default().remove(&address);
                    node.dynamic.retain(|_, addresses| !addresses.is_empty());
                }
            }
            Step::StartKeeper { node, room, limits } => {
                self.node(node)?;
                if self.host.keepers.contains_key(node) {
                    return Err(Errno::EADDRINUSE);
                }
                let (room, limits) = (room.clone(), *limits);
                let keeper = SeenKeeper { room, limits, ..SeenKeeper::default() };
                self.host.keepers.insert(node.clone(), keeper);
            }
            Step::EndKeeper { node, life: _ } => {
                self.host.keepers.remove(node);
                self.host.left.remove(node);
            }
            Step::SetLimits { node, before: _, after } => self.keeper(node)?.limits = *after,
            Step::RenameNode { node, before: _, after } => {
                let keeper = self.keeper(node)?;
                let said = keeper.room.hostname.as_ref();
                keeper.renamed = said.filter(|said| *said != after).map(|_| after.clone());
            }
            Step::LayFile { node, path, before: _, after } => {
                self.keeper(node)?.files.insert(path.clone(), Some(after.clone()));
            }
            Step::WriteNames { before: _, after } => self.host.names.clone_from(after),
            Step::LiftFile { node, path, .. } => {
                self.keeper(node)?.files.remove(path);
            }
            Step::RunProcess { node, process } => {
                let processes = &mut self.keeper(node)?.processes;
                processes.retain(|seen| seen.process.name != process.name);
                processes.push(SeenProcess {
                    process: process.clone(),
                    standing: Standing::Running,
                    pid: Some(2),
                    restarts: 0,
                    since_s: 0,
                });
            }
            Step::StopProcess { node, process } => {
                if let Ok(keeper) = self.keeper(node) {
                    keeper.processes.retain(|seen| seen.process.name != process.name);
                }
            }
            Step::AwaitAddress { node, device, by } => {
                let address: IpNet = match by {
                    Dynamic::Dhcp => "198.18.0.100/24",
                    Dynamic::Slaac => "2001:db8::100/64",
                }
                .parse()
                .map_err(|_| Errno::EINVAL)?;
                if *by == Dynamic::Dhcp {
                    let lease = self.host.leases.get_mut(&(node.clone(), device.clone()));
                    lease.ok_or(Errno::ESRCH)?.address = Some(address);
                }
                let seen = SeenDynamic { by: *by, valid_s: 120, tentative: false };
                let dynamic = &mut self.node(node)?.dynamic;
                dynamic.entry(device.clone()).or_default().insert(address, seen);
            }
            Step::AddRoute { node, route } => {
                if !self.node(node)?.routes.insert(route.clone()) {
                    return Err(Errno::EEXIST);
                }
            }
            Step::DeleteRoute { node, route } => {
                if !self.node(node)?.routes.remove(route) {
                    return Err(Errno::ESRCH);
                }
            }
            Step::SetGateway { device, after, .. } => {
                self.host.exits.gateways.insert(device.clone(), after.clone());
            }
            Step::SetDoors { after, .. } => {
                let seen = after.clone().map(|doors| SeenDoors { doors, altered: false });
                self.host.exits.doors = seen;
            }
            Step::SetSysctl { node, key, after, .. } => {
                self.node(node)?.sysctls.insert(key.clone(), after.clone());
            }
            Step::SetChecksums { node, device, after, .. } => {
                *self.node(node)?.checksums.get_mut(device).ok_or(Errno::ENODEV)? = *after;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Host for FakeMachine {
    async fn observe(&mut self, questions: &Questions) -> Result<HostView, KernelError> {
        let mut view = self.memory().host.clone();
        for (node, seen) in &mut view.nodes {
            let asked = questions.sysctls.get(node);
            seen.sysctls.retain(|key, _| asked.is_some_and(|asked| asked.contains(key)));
            seen.checksums.retain(|_, _| questions.checksums);
        }
        view.targets.retain(|node, _| questions.adopt.contains_key(node));
        view.taken.namespaces.retain(|name| name.starts_with(&format!("{}.", questions.lab)));
        Ok(view)
    }

    async fn settle(
        &mut self,
        _lab: &LabName,
        _nodes: &BTreeSet<NodeName>,
    ) -> Result<(), KernelError> {
        Ok(())
    }

    async fn labs(&mut self) -> Result<BTreeSet<LabName>, KernelError> {
        let memory = self.memory();
        let marks = memory.host.ports.values().filter_map(|seen| Mark::parse(&seen.alias));
        Ok(marks.map(|mark| mark.lab).collect())
    }

    async fn orphans(&mut self) -> Result<Vec<String>, KernelError> {
        Ok(Vec::new())
    }

    async fn delete_orphans(&mut self) -> Result<Vec<String>, KernelError> {
        Ok(Vec::new())
    }

    async fn perform(&mut self, lab: &LabName, step: &Step) -> Result<(), StepError> {
        let mut memory = self.memory();
        if let Step::AddNode { node } = step
            && memory.host.taken.namespaces.contains(&netns(lab, node))
        {
            return Err(failed(lab, step, Errno::EEXIST));
        }
        memory.perform(step).map_err(|errno| failed(lab, step, errno))
    }
}

/// A link that is gone already is as good as deleted.
fn gone(deleted: Result<(), Errno>) -> Result<(), Errno> {
    deleted.or_else(|errno| if errno == Errno::ENODEV { Ok(()) } else { Err(errno) })
}

fn failed(lab: &LabName, step: &Step, errno: Errno) -> StepError {
    let what = format!("`{}` failed", step.line(lab));
    StepError { what, cause: KernelError::new("do that in memory", errno) }
}
