//! NICs into switches and home again: the way there, the checks after it, and
//! the way back.
//!
//! The order that keeps a host reachable: look and refuse; write down how all
//! was, synced; start the watchdog (`watchdog`); change; check; and only then
//! say that it is done. Whoever dies before that, or fails, or is not confirmed
//! in time, has it taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;

use super::apply::Cause;
use super::attachments::{Attachments, Change, Why};
use super::state::Held;
use super::watchdog::Watchdog;
use super::{Done, Engine, EngineError, Progress, questions};
use crate::kernel::nic::NicHands;
use crate::kernel::{KernelError, cut_short};
use crate::model::mark::Mark;
use crate::model::names::{IfName, LabName};
use crate::model::nic::{LentMark, Nic, NicAddress, NicLink, Owner};
use crate::model::topology::{Backend, Datapath, Lab, PortSettings, Uplink};
use crate::model::world::{PortKind, PortSpec, Questions, SwitchSpec, World};
use crate::plan::attach::preflight::Wish;
use crate::plan::attach::{self, Attached, Home, NicStage, NicStep, Preflight};
use crate::plan::{Abilities, Loan, Refusal, Wanted};

/// How long the local device of a switch may take to have the NIC's address.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

/// How a command wants its NICs attached.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// After so many seconds without a confirmation all is taken back.
    pub confirm_s: Option<u64>,
    /// The other end of the ssh connection that the command came by.
    pub ssh: Option<IpAddr>,
    /// Whether a NIC may go into a node on which this machine itself depends.
    pub force: bool,
}

/// A check that was not passed: the host would not be what it was.
#[derive(Debug, thiserror::Error)]
pub enum Unproved {
    /// Routers that answered before do not answer now.
    #[error("{0} answered before, and does not answer through the switch")]
    Silent(IpAddr),
    /// The way to the ssh peer leads elsewhere.
    #[error("the way to {0}, from where this ssh connection comes, does not lead over the switch")]
    Astray(IpAddr),
    /// An address cannot be used.
    #[error("no program can use {0}: {1}")]
    Unusable(String, String),
    /// The NIC has addresses that it was to lose.
    #[error("`{0}` still has {1}; is another program giving it addresses?")]
    Left(IfName, String),
    /// The local device has another Ethernet address.
    #[error("`{0}` did not take the address of `{1}`")]
    OtherMac(IfName, IfName),
}

/// What came of a change of NICs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// What was done or would be, each a line.
    pub lines: Vec<String>,
    /// What the NICs' owner should know.
    pub warnings: Vec<String>,
    /// The change that waits to be confirmed.
    pub unconfirmed: Option<String>,
}

/// How a NIC does that is to be a port of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is one.
    Attached,
    /// It is one, and somebody has set it down.
    Down,
    /// Somebody has taken it off its switch.
    Unplugged,
    /// The machine has no such device any more.
    Gone,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Attached => "attached",
            Self::Down => "down",
            Self::Unplugged => "taken off its switch",
            Self::Gone => "gone",
        })
    }
}

/// A NIC that is to be attached.
struct Missing {
    nic: IfName,
    uplink: Uplink,
    preflight: Preflight,
}

impl Engine {
    /// Says how NICs are to be attached from here on.
    pub fn wish(&mut self, wishes: Wishes) {
        self.wishes = wishes;
    }

    /// The NICs that are ports of a lab's switches, or on their way.
    pub fn attachments(&self, lab: &LabName) -> Result<Attachments, EngineError> {
        Ok(self.state.attachments(lab)?)
    }

    /// Makes the world match `lab`, NICs included.
    pub(super) async fn up_held(
        &mut self,
        held: &Held,
        lab: &Lab,
        progress: Progress<'_>,
    ) -> Result<Done, EngineError> {
        let attached = self.state.attachments(&lab.name)?;
        let mut leaving = self.leaving(&attached, lab).await?;
        let missing = self.missing(lab, &attached, &leaving).await?;
        leaving.extend(self.coming_home(&attached, lab).await?);
        let to_lend = self.lendable(lab, &attached).await?;
        let mut moved = Moved::default();
        moved.warnings.extend(missing.iter().flat_map(|m| m.preflight.warnings.clone()));
        moved.warnings.extend(to_lend.warnings);
        if !leaving.is_empty() {
            let earlier = self.state.read(&lab.name)?.lab;
            let earlier = earlier.unwrap_or_else(|| lab.clone());
            let mut without = earlier.without_moved(&leaving);
            without.uplinks.retain(|nic, _| !leaving.contains(nic));
            let home = self.bring_home(held, &lab.name, leaving, Some(&without)).await?;
            moved.lines.extend(home);
        }
        let attached = self.state.attachments(&lab.name)?;
        for this in attached.nics.values() {
            // Who did may have been killed.
            self.keep_host_lease(&lab.name, &attached, this).await?;
        }
        for (nic, step) in self.set_down(&lab.name, &BTreeSet::new()).await? {
            moved.lines.push(step.to_string());
            self.put_back(&nic, &step).await?;
        }
        if missing.is_empty() && to_lend.loans.is_empty() {
            let done = self.make(held, lab, progress).await?;
            return Ok(Done { moved, ..done });
        }
        self.attach_all(held, lab, (missing, to_lend.loans), moved, progress).await
    }

    /// What `up` would do about NICs, in lines. They are planned as they are
    /// now, with a switch that may not be there yet.
    pub(super) async fn plan_uplinks(&mut self, lab: &Lab) -> Result<Moved, EngineError> {
        let attached = self.state.attachments(&lab.name)?;
        let leaving = self.leaving(&attached, lab).await?;
        let missing = self.missing(lab, &attached, &leaving).await?;
        let mut moved = Moved::default();
        moved.warnings.extend(self.lendable(lab, &attached).await?.warnings);
        moved.lines.extend(self.unkept_leases(&lab.name).await?);
        let raised = self.set_down(&lab.name, &leaving).await?;
        moved.lines.extend(raised.iter().map(|(_, step)| step.to_string()));
        for nic in &leaving {
            let attached = &attached.nics[nic];
            for stage in self.way_home(attached, Home::Detach)? {
                moved.lines.extend(stage.lines());
            }
        }
        let (settled, world, abilities) = self.settled(lab).await?;
        for Missing { nic, uplink, preflight } in missing {
            moved.warnings.extend(preflight.warnings);
            let spec = settled.switches[&uplink.switch].clone();
            let local = match self.nics()?.read(&spec.device) {
                Ok(local) => local,
                Err(error) if error.errno == Errno::ENODEV => unmade(&spec),
                Err(error) => return Err(error.into()),
            };
            let before = world.fabric.switches.get(&uplink.switch).map(|seen| seen.spec.clone());
            let checksums = copes(&abilities);
            let nic = self.nics()?.read(&nic)?;
            let owners = self.nics()?.owners(&nic.link);
            let spec = before.unwrap_or(spec);
            let attached = attachment(&lab.name, (nic, owners), local, spec, checksums);
            moved.lines.extend(attach::attach(&attached).iter().flat_map(NicStage::lines));
            moved.lines.extend(attach::look_away(&attached).iter().flat_map(NicStage::lines));
        }
        Ok(moved)
    }

    /// The NICs that are attached and not wanted so, and those that somebody
    /// pulled out, which have to come home before they can be attached again.
    async fn leaving(
        &mut self,
        attached: &Attachments,
        lab: &Lab,
    ) -> Result<BTreeSet<IfName>, EngineError> {
        if attached.nics.is_empty() {
            return Ok(BTreeSet::new());
        }
        let world = self.observe(&Questions::whose(&lab.name)).await?;
        let stays = |nic: &IfName| {
            let uplink = lab.uplinks.get(nic);
            uplink.is_some_and(|uplink| world.uplinks[nic].switch == uplink.switch)
                && is_plugged(&world, nic)
        };
        Ok(attached.nics.keys().filter(|nic| !stays(nic)).cloned().collect())
    }

    /// How the NICs do that are ports of a lab's switches, or were.
    pub(super) fn standing(
        &mut self,
        lab: &LabName,
        world: &World,
    ) -> Result<BTreeMap<IfName, Standing>, EngineError> {
        let mut standing = BTreeMap::new();
        for nic in self.state.attachments(lab)?.nics.into_keys() {
            let link = match self.nics.as_mut().map(|nics| nics.read(&nic)).transpose() {
                Err(error) if error.errno == Errno::ENODEV => {
                    standing.insert(nic, Standing::Gone);
                    continue;
                }
                other => other?,
            };
            let how = match link.is_none_or(|nic| nic.link.up) {
                _ if !is_plugged(world, &nic) => Standing::Unplugged,
                true => Standing::Attached,
                false => Standing::Down,
            };
            standing.insert(nic, how);
        }
        Ok(standing)
    }

    /// What raises the ports that somebody has set down, but for those that leave.
    async fn set_down(
        &mut self,
        lab: &LabName,
        leaving: &BTreeSet<IfName>,
    ) -> Result<Vec<(IfName, NicStep)>, EngineError> {
        if self.state.attachments(lab)?.nics.is_empty() {
            return Ok(Vec::new());
        }
        let world = self.observe(&Questions::whose(lab)).await?;
        let down = self.standing(lab, &world)?.into_iter();
        let down = down.filter(|(nic, how)| *how == Standing::Down && !leaving.contains(nic));
        Ok(down.map(|(nic, _)| (nic.clone(), NicStep::Raise { device: nic, up: true })).collect())
    }

    /// What `up` would do about NICs, each a line.
    pub(super) async fn uplink_drift(
        &self,
        lab: &Lab,
        standing: &BTreeMap<IfName, Standing>,
    ) -> Result<Vec<String>, EngineError> {
        let attached = self.state.attachments(&lab.name)?.nics;
        let missing = lab.uplinks.iter().filter(|(nic, _)| !attached.contains_key(nic));
        let missing =
            missing.map(|(nic, uplink)| format!("+ NIC {nic} on switch {}", uplink.switch));
        let pulled = attached.iter().filter_map(|(nic, attached)| {
            let switch = &attached.switch.name;
            match standing.get(nic)? {
                Standing::Attached => None,
                Standing::Down => {
                    Some(NicStep::Raise { device: nic.clone(), up: true }.to_string())
                }
                Standing::Unplugged => Some(format!("~ NIC {nic} back on switch {switch}")),
                Standing::Gone => Some(format!(
                    "! there is no NIC `{nic}` any more, which was on switch `{switch}`"
                )),
            }
        });
        let unkept = self.unkept_leases(&lab.name).await?;
        Ok(missing.chain(pulled).chain(unkept).collect())
    }

    /// A lab worked out for this machine, and what that takes to know.
    async fn settled(&mut self, lab: &Lab) -> Result<(Wanted, World, Vec<Abilities>), EngineError> {
        let wanted = self.wanted(lab).await?;
        let world = self.observe(&questions(lab, &wanted)).await?;
        let abilities = self.abilities(&wanted, &world).await?;
        Ok((wanted.settled(&world, &abilities), world, abilities))
    }

    pub(super) fn nics(&mut self) -> Result<&mut NicHands, EngineError> {
        let none = || KernelError::new("reach the machine's NICs", Errno::ENODEV);
        self.nics.as_mut().ok_or_else(|| none().into())
    }

    /// The NICs that `lab` has and that are not attached, if nothing stands in
    /// the way of any.
    async fn missing(
        &mut self,
        lab: &Lab,
        attached: &Attachments,
        leaving: &BTreeSet<IfName>,
    ) -> Result<Vec<Missing>, EngineError> {
        let is_there = |nic: &IfName| attached.nics.contains_key(nic) && !leaving.contains(nic);
        let wanted: Vec<_> = lab.uplinks.iter().filter(|(nic, _)| !is_there(nic)).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let (settled, world, _) = self.settled(lab).await?;
        let (mut missing, mut refusals) = (Vec::new(), Vec::new());
        for (name, uplink) in wanted {
            // Another lab may have it: then it has a master, or this does.
            if let Some(other) = self.lab_with(name, &lab.name)? {
                refusals.push(Refusal {
                    what: format!("`{name}` is attached to lab `{other}`"),
                    hint: format!("take it off there first: `ovsns detach {name}`"),
                });
                continue;
            }
            let nic = match self.nics()?.read(name) {
                Ok(nic) => nic,
                Err(error) if error.errno == Errno::ENODEV => {
                    refusals.push(Refusal {
                        what: format!("there is no device `{name}`"),
                        hint: "`ip link` lists the devices of this machine".into(),
                    });
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if attached.nics.contains_key(name) {
                // It is a port now, and will be none.
                missing.push(Missing {
                    nic: name.clone(),
                    uplink: uplink.clone(),
                    preflight: Preflight::default(),
                });
                continue;
            }
            let facts = self.nics()?.facts(&nic.link)?;
            refusals.extend(self.in_nodes(&nic.link).await?);
            let spec = &settled.switches[&uplink.switch];
            let same_switch =
                |other: &&IfName| *other != name && lab.uplinks[*other].switch == uplink.switch;
            let port_of = world.fabric.switches.values().find_map(|seen| {
                let has = seen.ports.contains_key(name);
                has.then(|| seen.spec.device.to_string())
            });
            let taken = world.fabric.taken.get(name.as_str()).map(|what| (*what).to_owned());
            let wish = Wish {
                switch: uplink.switch.clone(),
                backend: spec.backend,
                userspace: in_userspace(spec),
                others: lab.uplinks.keys().filter(same_switch).cloned().collect(),
                stp: spec.settings.stp || spec.settings.rstp,
                force: uplink.force,
                port_of: port_of.or(taken),
                ssh: self.wishes.ssh,
            };
            let preflight = attach::preflight(&nic, &facts, &wish);
            refusals.extend(preflight.refusals.iter().cloned());
            missing.push(Missing { nic: name.clone(), uplink: uplink.clone(), preflight });
        }
        match refusals.is_empty() {
            true => Ok(missing),
            false => Err(EngineError::Refused { lab: lab.name.clone(), refusals }),
        }
    }

    /// The other lab that a NIC is attached to, if there is one.
    pub(super) fn lab_with(
        &self,
        nic: &IfName,
        but: &LabName,
    ) -> Result<Option<LabName>, EngineError> {
        for lab in self.state.labs()? {
            if lab != *but && self.state.attachments(&lab)?.has(nic) {
                return Ok(Some(lab));
            }
        }
        Ok(None)
    }

    /// Makes the lab and attaches its missing NICs, or leaves all as it was.
    async fn attach_all(
        &mut self,
        held: &Held,
        lab: &Lab,
        (missing, loans): (Vec<Missing>, Vec<Loan>),
        mut moved: Moved,
        progress: Progress<'_>,
    ) -> Result<Done, EngineError> {
        let name = &lab.name;
        let mut attached = self.state.attachments(name)?;
        let change = Change {
            id: new_id(),
            command: self.command.clone(),
            nics: missing
                .iter()
                .map(|m| &m.nic)
                .chain(loans.iter().map(|l| &l.nic))
                .cloned()
                .collect(),
            why: Why::Undo,
            back_to: self.state.read(name)?.lab,
            proved: false,
        };
        let id = change.id.clone();
        attached.change = Some(change);
        cut_short::before(|| "watchdog".into());
        // It watches before there is anything to watch: who dies in between leaves
        // nothing that nobody sees to.
        let mut watchdog =
            Watchdog::start(&self.state, name).await.map_err(EngineError::NoWatchdog)?;
        held.write_attachments(&attached)?;
        let done = async {
            // How they are has to be known before any of them goes.
            for loan in &loans {
                self.note(held, loan, &mut attached)?;
            }
            self.attach_each(held, lab, &missing, &mut attached, &mut moved, progress).await
        };
        let done = done.await;
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                let back = self.take_change_back(held, name).await;
                watchdog.dismiss().await;
                return Err(match back {
                    Ok(()) => error,
                    Err(left) => EngineError::NotHome {
                        lab: name.clone(),
                        left: Box::new(left),
                        source: Box::new(error),
                    },
                });
            }
        };
        match self.wishes.confirm_s {
            None => {
                attached.change = None;
                held.write_attachments(&attached)?;
                watchdog.dismiss().await;
            }
            Some(seconds) => {
                if let Some(change) = &mut attached.change {
                    change.proved = true;
                }
                held.write_attachments(&attached)?;
                watchdog.wait_for_confirmation(seconds).await.map_err(EngineError::NoWatchdog)?;
                moved.unconfirmed = Some(id);
            }
        }
        Ok(Done { moved, ..done })
    }

    async fn attach_each(
        &mut self,
        held: &Held,
        lab: &Lab,
        missing: &[Missing],
        attached: &mut Attachments,
        moved: &mut Moved,
        progress: Progress<'_>,
    ) -> Result<Done, EngineError> {
        let mut done = self.make(held, lab, progress).await?;
        for Missing { nic, uplink, .. } in missing {
            let routers = self.routers(nic).await?;
            self.hold_clients(held, attached, nic)?;
            let this = self.look_before(lab, nic, uplink).await?;
            attached.nics.insert(nic.clone(), this.clone());
            held.write_attachments(attached)?;
            for stage in attach::attach(&this) {
                moved.lines.extend(stage.lines());
                self.perform_stage(&stage)
                    .await
                    .map_err(|source| EngineError::NotAttached { nic: nic.clone(), source })?;
            }
            moved.lines.extend(self.have_owners_look_away(held, attached, &this).await?);
            let proved = self.prove(&this, &routers).await?;
            proved.map_err(|source| EngineError::Unproved { nic: nic.clone(), source })?;
            self.nics()?.hear_routers(&this.local.link.name).await?;
            self.keep_host_lease(&lab.name, attached, &this).await?;
        }
        // Now there is somebody who gives nodes their addresses.
        let mut interfaces = lab.nodes.values().flat_map(|node| node.interfaces.values());
        if interfaces.any(|interface| !interface.dynamic.is_empty()) {
            let asked = self.make(held, lab, progress).await?;
            done.plan.stages.extend(asked.plan.stages);
        }
        Ok(done)
    }

    /// Has the programs that see to a NIC look away from it, and puts back what
    /// they take with them. Returns what was done.
    async fn have_owners_look_away(
        &mut self,
        held: &Held,
        attached: &mut Attachments,
        this: &Attached,
    ) -> Result<Vec<String>, EngineError> {
        let (nic, local) = (&this.nic.link.name, &this.local.link.name);
        let failed = |source| EngineError::NotAttached { nic: nic.clone(), source };
        let mut lines = Vec::new();
        for away in attach::look_away(this) {
            let nics = self.nics()?;
            let before = (nics.read(local)?, nics.rules()?);
            lines.extend(away.lines());
            self.perform_stage(&away).await.map_err(failed)?;
            let nics = self.nics()?;
            let now = (nics.read(local)?, nics.rules()?);
            let gone = attach::gone(&before, &now);
            if let (Some(noted), false) = (attached.nics.get_mut(nic), gone.is_empty()) {
                noted.regained.extend(gone);
                held.write_attachments(attached)?;
            }
            for stage in attach::regain(&before, &now) {
                lines.extend(stage.lines());
                self.perform_stage(&stage).await.map_err(failed)?;
            }
        }
        Ok(lines)
    }

    /// The routers behind a NIC that answer. Those that do not answer now need
    /// not do so later.
    async fn routers(&mut self, nic: &IfName) -> Result<BTreeSet<IpAddr>, EngineError> {
        let nics = self.nics()?;
        let routers = nics.read(nic)?.gateways();
        Ok(nics.probe(nic, &routers).await?)
    }

    /// All there is to know about a NIC and its switch, now that the switch is
    /// there.
    async fn look_before(
        &mut self,
        lab: &Lab,
        nic: &IfName,
        uplink: &Uplink,
    ) -> Result<Attached, EngineError> {
        let (_, world, abilities) = self.settled(lab).await?;
        let seen = world.fabric.switches.get(&uplink.switch);
        let spec = seen.map(|seen| seen.spec.clone());
        let gone = || KernelError::new("find the switch", Errno::ENODEV);
        let spec = spec.ok_or_else(gone)?;
        let nics = self.nics()?;
        let (nic, local) = (nics.read(nic)?, nics.read(&spec.device)?);
        let owners = nics.owners(&nic.link);
        Ok(attachment(&lab.name, (nic, owners), local, spec, copes(&abilities)))
    }

    async fn perform_stage(&mut self, stage: &NicStage) -> Result<(), Cause> {
        match stage {
            NicStage::Nic(step) => {
                let nics = self.nics.as_mut().ok_or(Cause::NoBackend("NIC".into()))?;
                cut_short::before(|| step.to_string());
                Ok(nics.perform(step).await?)
            }
            NicStage::Fabric(backend, steps) => self.commit(*backend, steps).await,
        }
    }

    /// Looks whether the host is what it was, with the switch's local device in
    /// the NIC's place.
    async fn prove(
        &mut self,
        attached: &Attached,
        routers: &BTreeSet<IpAddr>,
    ) -> Result<Result<(), Unproved>, EngineError> {
        let ssh = self.wishes.ssh;
        let nics = self.nics()?;
        let (nic, local) = (&attached.nic.link, &attached.local.link);
        let start = Instant::now();
        let now = loop {
            let now = nics.read(&local.name)?;
            if now.link.mac == nic.mac {
                break now;
            }
            if FOLLOWS_WITHIN < start.elapsed() {
                return Ok(Err(Unproved::OtherMac(local.name.clone(), nic.name.clone())));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let bare = nics.read(&nic.name)?;
        let left =
            |address: &&NicAddress| attached.nic.addresses.iter().any(|a| a.net == address.net);
        if let Some(left) = bare.addresses.iter().find(left) {
            return Ok(Err(Unproved::Left(nic.name.clone(), left.net.to_string())));
        }
        for address in &attached.nic.addresses {
            if !now.addresses.iter().any(|there| there.net == address.net) {
                let gone = "it is gone".to_owned();
                return Ok(Err(Unproved::Unusable(address.net.to_string(), gone)));
            }
            if let Some(why) = nics.unusable(address, now.link.index) {
                return Ok(Err(Unproved::Unusable(address.net.to_string(), why)));
            }
        }
        let answer = nics.probe(&local.name, routers).await?;
        if let Some(silent) = routers.difference(&answer).next() {
            return Ok(Err(Unproved::Silent(*silent)));
        }
        // Before it was changed, the way there may have led elsewhere.
        if let Some(peer) = ssh
            && nics.way_to(peer)? == Some(attached.nic.link.index)
        {
            return Ok(Err(Unproved::Astray(peer)));
        }
        Ok(Ok(()))
    }

    /// Brings NICs home on purpose, under the eyes of a watchdog that goes on
    /// with it if this process dies. Returns what was done.
    pub(super) async fn bring_home(
        &mut self,
        held: &Held,
        lab: &LabName,
        nics: BTreeSet<IfName>,
        back_to: Option<&Lab>,
    ) -> Result<Vec<String>, EngineError> {
        let mut attached = self.state.attachments(lab)?;
        attached.change = Some(Change {
            id: new_id(),
            command: self.command.clone(),
            nics: nics.clone(),
            why: Why::Detach,
            back_to: back_to.cloned(),
            proved: false,
        });
        // A NIC that is to come home comes home, also where no process can be
        // started.
        let watchdog = Watchdog::start(&self.state, lab).await;
        held.write_attachments(&attached)?;
        let mut lines = Vec::new();
        for nic in nics {
            lines.extend(self.bring_any_home(held, lab, &mut attached, &nic, Home::Detach).await?);
        }
        if let Some(lab) = back_to {
            held.remember(lab)?;
        }
        attached.change = None;
        held.write_attachments(&attached)?;
        if let Ok(mut watchdog) = watchdog {
            watchdog.dismiss().await;
        }
        Ok(lines)
    }

    /// Takes back, or goes on with, a change of a lab's NICs that was cut off.
    /// Finds nothing to do where it is decided.
    pub async fn take_change_back(
        &mut self,
        held: &Held,
        lab: &LabName,
    ) -> Result<(), EngineError> {
        let mut attached = self.state.attachments(lab)?;
        let Some(change) = attached.change.clone() else { return Ok(()) };
        for nic in &change.nics {
            self.bring_any_home(held, lab, &mut attached, nic, change.why.into()).await?;
        }
        // The NICs are home; what is left is a lab like any other.
        match &change.back_to {
            Some(lab) => {
                // One that has come home does not go again unwatched.
                self.make(held, &lab.without_moved(&change.nics), &mut |_, _| {}).await?;
                held.intend(lab)?;
            }
            None => match self.take_down(held, lab, &mut |_, _| {}).await {
                Ok(_) | Err(EngineError::NoLab(_)) => {}
                Err(error) => return Err(error),
            },
        }
        attached.change = None;
        held.write_attachments(&attached)?;
        Ok(())
    }

    /// Brings one NIC home, however it is attached, with who keeps its lease, and
    /// strikes it out.
    async fn bring_any_home(
        &mut self,
        held: &Held,
        lab: &LabName,
        attached: &mut Attachments,
        nic: &IfName,
        why: Home,
    ) -> Result<Vec<String>, EngineError> {
        let lines = match (attached.nics.get(nic), attached.moved.get(nic)) {
            (Some(this), _) => {
                self.leave_host_lease(lab, attached, this).await?;
                self.bring_one_home(this, why).await?
            }
            (None, Some(away)) => self.bring_back(lab, away).await?,
            (None, None) => Vec::new(),
        };
        self.release_clients(attached, nic)?;
        attached.nics.remove(nic);
        attached.moved.remove(nic);
        held.write_attachments(attached)?;
        Ok(lines)
    }

    fn way_home(&mut self, attached: &Attached, why: Home) -> Result<Vec<NicStage>, EngineError> {
        let local = self.local_now(attached)?;
        let nic = self.nics()?.read(&attached.nic.link.name)?;
        Ok(attach::home(attached, &nic, local.as_ref(), why))
    }

    fn local_now(&mut self, attached: &Attached) -> Result<Option<Nic>, EngineError> {
        match self.nics()?.read(&attached.local.link.name) {
            Ok(local) => Ok(Some(local)),
            Err(error) if error.errno == Errno::ENODEV => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Brings one NIC home, past every failure, and looks whether something is
    /// left to do.
    async fn bring_one_home(
        &mut self,
        attached: &Attached,
        why: Home,
    ) -> Result<Vec<String>, EngineError> {
        let nic = &attached.nic.link.name;
        let mut lines = Vec::new();
        let stages = match self.way_home(attached, why) {
            // It was pulled out of the machine: there is nothing to bring home.
            Err(EngineError::Observe(error)) if error.errno == Errno::ENODEV => {
                return Ok(lines);
            }
            other => other?,
        };
        let mut failed = None;
        for stage in stages {
            lines.extend(stage.lines());
            if let Err(cause) = self.perform_stage(&stage).await {
                failed.get_or_insert(cause);
            }
        }
        self.nics()?.hear_routers(nic).await?;
        match failed {
            None => Ok(lines),
            Some(source) => Err(EngineError::NotDetached { nic: nic.clone(), source }),
        }
    }

    /// Keeps the change of NICs that waits to be confirmed: the one called `id`,
    /// or the only one. Returns its NICs.
    pub async fn confirm(&mut self, id: Option<&str>) -> Result<Vec<IfName>, EngineError> {
        let mut waiting = Vec::new();
        for lab in self.state.labs()? {
            let change = self.state.attachments(&lab)?.change;
            let change = change.filter(|change| change.proved);
            waiting.extend(change.filter(|c| id.is_none_or(|id| c.id == id)).map(|c| (lab, c)));
        }
        let (lab, change) = match <[_; 1]>::try_from(waiting) {
            Ok([one]) => one,
            Err(all) => return Err(EngineError::NothingToConfirm(all.len())),
        };
        let held = self.state.lock(&lab, &self.command)?;
        let mut attached = self.state.attachments(&lab)?;
        // It may have been taken back a moment ago.
        if attached.change.as_ref() != Some(&change) {
            return Err(EngineError::NothingToConfirm(0));
        }
        attached.change = None;
        held.write_attachments(&attached)?;
        super::watchdog::wake(&self.state.watch(&lab));
        Ok(change.nics.into_iter().collect())
    }

    /// Takes back what was cut off together with its watchdog.
    pub async fn recover(&mut self) -> Result<Vec<String>, EngineError> {
        let mut told = self.recall().await?;
        for lab in self.state.labs()? {
            let attached = self.state.attachments(&lab)?;
            told.extend(self.fetch_lost(&lab, &attached).await?);
            let Some(change) = attached.change else { continue };
            if super::watchdog::wake(&self.state.watch(&lab)) {
                continue;
            }
            let Some(held) = self.state.lock_if_free(&lab, &self.command)? else { continue };
            let taken_back = self.take_change_back(&held, &lab).await;
            self.leave(taken_back).await?;
            let nics: Vec<_> = change.nics.iter().map(|nic| format!("`{nic}`")).collect();
            told.push(format!(
                "`{}` was cut off; {} is home again",
                change.command,
                nics.join(", ")
            ));
        }
        Ok(told)
    }
}

/// Whether a NIC is a port of the switch that it is attached to. Of a switch
/// that cannot be seen nobody knows.
fn is_plugged(world: &World, nic: &IfName) -> bool {
    let Some(uplink) = world.uplinks.get(nic) else { return false };
    match world.fabric.switches.get(&uplink.switch) {
        Some(switch) => switch.ports.contains_key(nic),
        None => !world.fabric.unseen.is_empty(),
    }
}

pub(super) fn in_userspace(spec: &SwitchSpec) -> bool {
    spec.backend == Backend::Ovs && spec.datapath != Some(Datapath::System)
}

/// Whether Open vSwitch in userspace copes with unfinished checksums.
fn copes(abilities: &[Abilities]) -> bool {
    abilities.iter().any(|able| able.backend == Backend::Ovs && able.checksums)
}

fn attachment(
    lab: &LabName,
    (nic, owners): (Nic, Vec<Owner>),
    local: Nic,
    switch: SwitchSpec,
    copes: bool,
) -> Attached {
    let userspace = in_userspace(&switch);
    let port = port_of(lab, &nic.link.name, &switch);
    Attached {
        nic,
        local,
        port,
        userspace,
        whole_checksums: userspace && !copes,
        switch,
        owners,
        regained: Vec::new(),
    }
}

/// The port that a NIC of a lab is, or becomes.
pub(super) fn port_of(lab: &LabName, nic: &IfName, switch: &SwitchSpec) -> PortSpec {
    let mark = LentMark { nic: nic.clone(), lab: lab.clone(), boot: super::state::boot_id() };
    let mark = mark.to_string();
    debug_assert!(Mark::parse(&mark).is_none(), "nobody takes the NIC for a thing of ours");
    PortSpec {
        switch: switch.name.clone(),
        bridge: switch.device.clone(),
        device: nic.clone(),
        kind: PortKind::Link,
        settings: PortSettings::default(),
        filtering: switch.vlan_filtering,
        number: None,
        mark,
    }
}

/// The local device of a switch that is not there yet, for the words of a plan.
fn unmade(spec: &SwitchSpec) -> Nic {
    Nic {
        link: NicLink {
            index: 0,
            name: spec.device.clone(),
            altnames: BTreeSet::new(),
            mac: Some(spec.mac),
            mtu: spec.mtu,
            up: true,
            carrier: false,
            alias: spec.alias.clone(),
            kind: None,
            master: None,
            generates: None,
            checksums: None,
        },
        addresses: Vec::new(),
        routes: Vec::new(),
        hops: Vec::new(),
        rules: Vec::new(),
        neighbours: Vec::new(),
        parameters: BTreeMap::new(),
    }
}

/// By which a person names a change: six letters, of the time.
fn new_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:06x}", now.as_micros() & 0xff_ffff)
}
