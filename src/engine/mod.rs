//! Doing: one command on one lab, from the lock to the second look.
//!
//! Observe, plan, write down what is about to be done, do it, look again. A
//! failure in the middle is taken back, newest first. What is decided here is
//! only the order of these; what to do is `plan`'s, how is the hands'.

pub mod apply;
pub mod attach;
pub mod attachments;
pub(crate) mod fuzzing;
mod host_leases;
pub mod news;
mod nics;
mod recall;
pub mod state;
pub mod watchdog;
pub mod why;

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::nic::NicHands;
use crate::kernel::{Host, KernelError, LinuxHost, cut_short, observe};
use crate::model::hosts::Names;
use crate::model::names::{IfName, LabName, NodeName, ProcessName};
use crate::model::topology::{Backend, Datapath, Lab};
use crate::model::world::{Fabric, Questions, SeenUplink, SwitchSpec, World};
use crate::plan::wanted::WantedNode;
use crate::plan::{self, Abilities, Plan, Refusal, Stage, Wanted};
use crate::switch::{self, Switch, SwitchError};
use apply::{Cause, Failure};
use attach::{Moved, Standing, Unproved, Wishes};
use state::{Held, LabState, State, StateError};

/// How often what is left to do after a second look is done again, before
/// somebody else is taken to be working against us.
const ROUNDS_MAX: usize = 3;

/// What a command could not do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Something stands in the way; nothing was touched.
    #[error("lab `{lab}` cannot be made as it is written")]
    Refused {
        /// The lab.
        lab: LabName,
        /// All that stands in the way.
        refusals: Vec<Refusal>,
    },
    /// Somebody has something on a switch of the lab that would go with it;
    /// nothing was touched.
    #[error("lab `{lab}` was not removed, and nothing was touched")]
    NotRemoved {
        /// The lab.
        lab: LabName,
        /// All that would be lost.
        refusals: Vec<Refusal>,
    },
    /// The process is in a node, where it would see and change another world.
    #[error("this is inside node `{0}`")]
    InsideNode(String),
    /// No lab of that name.
    #[error("there is no lab `{0}`")]
    NoLab(LabName),
    /// A step failed; all that was done before it was taken back.
    #[error(
        "lab `{lab}` was not changed: a step failed, and what was done before it was taken back"
    )]
    TakenBack {
        /// The lab.
        lab: LabName,
        /// Why.
        source: Cause,
    },
    /// A step failed, and something is left of what was done.
    #[error(
        "lab `{lab}` is half changed: a step failed, and this is still to be done or taken back"
    )]
    Left {
        /// The lab.
        lab: LabName,
        /// What is left, each a line.
        left: Vec<String>,
        /// Why.
        source: Cause,
    },
    /// The switch's database has the change, the switch has not carried it out
    /// yet: it is not taken back, since it may be at any moment.
    #[error("lab `{lab}` is not done yet")]
    NotApplied {
        /// The lab.
        lab: LabName,
        /// What is late.
        source: Cause,
    },
    /// All steps were done, but the second look shows something else.
    #[error("lab `{lab}` does not stay as it was made; somebody else may be changing it")]
    NotKept {
        /// The lab.
        lab: LabName,
        /// What would have to be done again, each a line.
        lines: Vec<String>,
    },
    /// A lab has switches that cannot be asked for; nothing was touched.
    #[error("lab `{lab}` has {backend} switches that cannot be seen: {why}")]
    Unseen {
        /// The lab.
        lab: LabName,
        /// What they are made of.
        backend: Backend,
        /// Why not.
        why: String,
    },
    /// A NIC could not be attached; it is home again.
    #[error("`{nic}` was not attached, and is as it was")]
    NotAttached {
        /// The NIC.
        nic: IfName,
        /// Why.
        source: Cause,
    },
    /// A NIC was attached, and the host is not what it was; it is home again.
    #[error("`{nic}` was not attached, and is as it was: a check failed")]
    Unproved {
        /// The NIC.
        nic: IfName,
        /// Which.
        source: Unproved,
    },
    /// A NIC could not be brought home whole.
    #[error("`{nic}` is not quite as it was")]
    NotDetached {
        /// The NIC.
        nic: IfName,
        /// The first thing that could not be done.
        source: Cause,
    },
    /// A change of NICs failed, and so did the way back.
    #[error("lab `{lab}` was to be as it was, and is not: {left}")]
    NotHome {
        /// The lab.
        lab: LabName,
        /// What could not be taken back.
        left: Box<EngineError>,
        /// Why it was to be.
        source: Box<EngineError>,
    },
    /// Nobody would take it back if this process died; nothing was touched.
    #[error("could not start the watchdog, without which no NIC is changed")]
    NoWatchdog(#[source] std::io::Error),
    /// Nothing waits to be confirmed, or several things do.
    #[error("{}", nothing_to_confirm(*.0))]
    NothingToConfirm(usize),
    /// The kernel could not be read.
    #[error("could not see what is there")]
    Observe(#[from] KernelError),
    /// The switches could not be read.
    #[error("could not see what is there")]
    ObserveSwitches(#[source] SwitchError),
    /// The state directory, or another command's lock on the lab.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What `up` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The steps, or what they would be.
    pub plan: Plan,
    /// Whether there was a lab before.
    pub was_there: bool,
    /// What became of NICs.
    pub moved: Moved,
    /// What will not be as somebody may expect, each a line.
    pub warnings: Vec<String>,
}

fn nothing_to_confirm(waiting: usize) -> String {
    match waiting {
        0 => "nothing waits to be confirmed".into(),
        many => format!("{many} changes wait to be confirmed"),
    }
}

/// One lab, looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What is there.
    pub world: World,
    /// What is remembered as wanted, if anything is.
    pub lab: Option<Lab>,
    /// What `up` would do to make it so again, each a line.
    pub drift: Vec<String>,
    /// What is wrong with what the lab depends on, each a line.
    pub troubles: Vec<String>,
    /// The command that was cut off in the middle of a change, if one was.
    pub cut_off: Option<String>,
    /// How the NICs do that are ports of its switches, or were.
    pub nics: BTreeMap<IfName, Standing>,
}

/// What switches that say `auto` are made of, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The backend.
    pub backend: Backend,
    /// In a few words.
    pub why: String,
}

/// Called with the number of steps done, and of all.
pub type Progress<'a> = &'a mut (dyn FnMut(usize, usize) + Send);

/// The hands, and where to remember.
pub struct Engine {
    host: Box<dyn Host>,
    switches: BTreeMap<Backend, Box<dyn Switch>>,
    state: State,
    command: String,
    /// Asked for once in a command.
    chosen: Option<(LabName, Choice)>,
    /// The hands for the machine's own NICs; a fake machine has none.
    nics: Option<NicHands>,
    wishes: Wishes,
}

impl Engine {
    /// This machine. `command` is what others read who find a lab locked.
    pub async fn open(command: &str) -> Result<Self, EngineError> {
        let state = State::from_environment();
        let host = LinuxHost::new().await?.keeping_logs_in(state.labs_directory());
        if let Some(mark) = observe::node_around(host.here())? {
            return Err(EngineError::InsideNode(mark.full_name()));
        }
        let switches = switch::open(&host, state.directory());
        let nics = Some(NicHands::new(&host));
        let (host, command) = (Box::new(host), command.to_owned());
        let wishes = Wishes::default();
        Ok(Self { host, switches, state, command, chosen: None, nics, wishes })
    }

    /// Other hands, such as those of a fake.
    pub fn with(
        host: Box<dyn Host>,
        switches: BTreeMap<Backend, Box<dyn Switch>>,
        state: State,
        command: &str,
    ) -> Self {
        let (command, wishes) = (command.to_owned(), Wishes::default());
        Self { host, switches, state, command, chosen: None, nics: None, wishes }
    }

    /// What each backend here can do of what `wanted` needs.
    async fn abilities(
        &mut self,
        wanted: &Wanted,
        world: &World,
    ) -> Result<Vec<Abilities>, EngineError> {
        let mut needs = plan::needs(wanted, world);
        let mut abilities = Vec::new();
        for (backend, switch) in &mut self.switches {
            let needs = needs.remove(backend).unwrap_or_default();
            let able = switch.abilities(&needs).await.map_err(EngineError::ObserveSwitches)?;
            abilities.push(able);
        }
        Ok(abilities)
    }

    /// What a switch of `lab` is made of that says `auto`: what the lab's
    /// switches are made of already, or else the best that is there.
    pub async fn choose(&mut self, lab: &LabName) -> Result<Choice, EngineError> {
        if let Some((of, choice)) = &self.chosen
            && of == lab
        {
            return Ok(choice.clone());
        }
        let choice = self.choose_anew(lab).await?;
        self.chosen = Some((lab.clone(), choice.clone()));
        Ok(choice)
    }

    async fn choose_anew(&mut self, lab: &LabName) -> Result<Choice, EngineError> {
        for (backend, switch) in &mut self.switches {
            let seen = switch.observe(lab).await.map_err(EngineError::ObserveSwitches)?;
            if !seen.switches.is_empty() {
                let what = switch.available().await.unwrap_or_else(|why| why);
                let why = format!("{what}, as the lab has it");
                return Ok(Choice { backend: *backend, why });
            }
        }
        // Local devices of Open vSwitch tell of switches in a database that does
        // not answer.
        let host = self.host.observe(&Questions::whose(lab)).await?;
        if !host.locals.is_empty() {
            let why = "the lab has local devices of it".to_owned();
            return Ok(Choice { backend: Backend::Ovs, why });
        }
        let mut missing = Vec::new();
        for (backend, switch) in &mut self.switches {
            match switch.available().await {
                Ok(what) => {
                    missing.insert(0, what);
                    return Ok(Choice { backend: *backend, why: missing.join("; ") });
                }
                Err(why) => missing.push(why),
            }
        }
        Ok(Choice { backend: Backend::Linux, why: missing.join("; ") })
    }

    /// What others read who find a lab locked.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The state directory.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The switches of a backend.
    pub fn switch(&mut self, backend: Backend) -> Option<&mut Box<dyn Switch>> {
        self.switches.get_mut(&backend)
    }

    /// What `up` would do.
    pub async fn plan(&mut self, lab: &Lab) -> Result<Done, EngineError> {
        let moved = self.plan_uplinks(lab).await?;
        let wanted = self.wanted(lab).await?;
        let (done, _) = self.difference(lab, &wanted).await?;
        Ok(Done { moved, ..done })
    }

    /// Makes the world match `lab`, or leaves it as it was.
    pub async fn up(&mut self, lab: &Lab, progress: Progress<'_>) -> Result<Done, EngineError> {
        let held = self.state.lock(&lab.name, &self.command)?;
        let done = self.up_held(&held, lab, progress).await;
        self.leave(done).await
    }

    /// Works out `lab`.
    async fn wanted(&mut self, lab: &Lab) -> Result<Wanted, EngineError> {
        let says_auto = lab.switches.values().any(|switch| switch.backend.is_none());
        let auto = match says_auto {
            true => self.choose(&lab.name).await?.backend,
            false => Backend::Linux,
        };
        Ok(Wanted::new(lab, auto))
    }

    /// Leaves the switches, whatever came of the work.
    async fn leave<T>(&mut self, done: Result<T, EngineError>) -> Result<T, EngineError> {
        let mut failed = None;
        cut_short::before(|| "leave".into());
        for switch in self.switches.values_mut() {
            failed = switch.leave().await.err().or(failed);
        }
        match (done, failed) {
            (Ok(_), Some(error)) => Err(EngineError::ObserveSwitches(error)),
            (done, _) => done,
        }
    }

    /// Makes the world match what `edit` makes of the lab as remembered. The
    /// lab is locked meanwhile, so that of two changes at once none is lost.
    ///
    /// # Errors
    /// What `edit` says, or what `up` does.
    pub async fn change<E: From<EngineError>>(
        &mut self,
        name: &LabName,
        edit: impl FnOnce(Option<Lab>) -> Result<Lab, E>,
        progress: Progress<'_>,
    ) -> Result<(Lab, Done), E> {
        let held = self.state.lock(name, &self.command).map_err(EngineError::from)?;
        let remembered = self.state.read(name).map_err(EngineError::from).map(|state| state.lab);
        let lab = edit(remembered?)?;
        let done = self.up_held(&held, &lab, progress).await;
        let done = self.leave(done).await?;
        Ok((lab, done))
    }

    /// Makes the world match `lab`, all but its NICs.
    async fn make(
        &mut self,
        held: &Held,
        lab: &Lab,
        progress: Progress<'_>,
    ) -> Result<Done, EngineError> {
        let wanted = self.wanted(lab).await?;
        let (done, before) = self.difference(lab, &wanted).await?;
        if done.plan.is_empty() {
            held.write_names(&Names::new(lab, &before))?;
            held.remember(lab)?;
            return Ok(done);
        }
        held.begin(&done.plan)?;
        // A keeper lays over what is there when it starts, and what it runs looks
        // for others. Addresses that are yet to be given follow in place.
        if done.plan.starts_keepers()
            && let Err(error) = held.write_names(&Names::new(lab, &before))
        {
            // Nothing has been done yet that anybody could go on with.
            held.abandon()?;
            return Err(error.into());
        }
        let mut left = done.plan.clone();
        let mut performed = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let round = match self.apply(&left, &mut performed, progress).await {
                Ok(()) => self.look_again(lab, &wanted, held).await,
                Err(cause) => Err(cause),
            };
            left = match round {
                Ok(left) => left,
                Err(source) if source.is_late(performed.is_empty()) => {
                    // It comes to be, so the next change builds on it; the
                    // journal stays, since it is not known when.
                    if source.is_in_database() {
                        held.intend(lab)?;
                    }
                    return Err(EngineError::NotApplied { lab: lab.name.clone(), source });
                }
                Err(cause) => {
                    let failure = Failure { cause, done: performed };
                    let error = self.take_back(lab, &wanted, failure, &before).await;
                    if matches!(error, EngineError::TakenBack { .. }) {
                        if let Some(lab) = self.state.read(&lab.name)?.lab {
                            held.write_names(&Names::new(&lab, &before))?;
                        }
                        held.abandon()?;
                    }
                    return Err(error);
                }
            };
            if left.is_empty() {
                return Ok(done);
            }
        }
        held.remember(lab)?;
        Err(EngineError::NotKept { lab: lab.name.clone(), lines: left.lines() })
    }

    /// Removes the lab, and only it.
    pub async fn down(
        &mut self,
        lab: &LabName,
        progress: Progress<'_>,
    ) -> Result<Plan, EngineError> {
        let held = self.state.lock(lab, &self.command)?;
        let done = self.down_held(&held, lab, progress).await;
        self.leave(done).await
    }

    async fn down_held(
        &mut self,
        held: &Held,
        lab: &LabName,
        progress: Progress<'_>,
    ) -> Result<Plan, EngineError> {
        let nics = self.state.attachments(lab)?.all();
        if !nics.is_empty() {
            // As long as there is a way to who gave them.
            self.end_leases(lab).await?;
            self.bring_home(held, lab, nics, None).await?;
        }
        self.take_down(held, lab, progress).await
    }

    /// Removes the lab, whose NICs are home.
    async fn take_down(
        &mut self,
        held: &Held,
        lab: &LabName,
        progress: Progress<'_>,
    ) -> Result<Plan, EngineError> {
        let was_there = held.was_there();
        let plan = self.plan_down(lab).await?;
        if plan.is_empty() {
            held.forget()?;
            return if was_there { Ok(plan) } else { Err(EngineError::NoLab(lab.clone())) };
        }
        // A teardown needs no journal to be gone on with: the marks tell what is
        // left. It must work where nothing can be written any more.
        let _ = held.begin_to_remove(&plan);
        // Teardown goes on past failures: one thing that cannot be deleted is
        // no reason to keep the others.
        let mut cause = None;
        let mut rest = plan.clone();
        for _ in 0..ROUNDS_MAX {
            cause = self.apply_all(&rest, progress).await.or(cause);
            rest = self.plan_down(lab).await?;
            if rest.is_empty() {
                held.forget()?;
                return Ok(plan);
            }
        }
        let (lab, left) = (lab.clone(), rest.lines());
        Err(match cause {
            Some(source) => EngineError::Left { lab, left, source },
            None => EngineError::NotKept { lab, lines: left },
        })
    }

    /// Gives back what leases the nodes have. One that cannot be is no reason to
    /// keep a lab.
    async fn end_leases(&mut self, lab: &LabName) -> Result<(), EngineError> {
        let world = self.observe(&Questions::whose(lab)).await?;
        let steps = plan::dynamic::end_all(&world);
        let plan = Plan { lab: lab.clone(), stages: vec![Stage::Host(steps)] };
        let _ = self.apply_all(&plan, &mut |_, _| {}).await;
        Ok(())
    }

    /// Stops processes of a node, the last one first, and starts them again. All
    /// links and all other processes stay as they are.
    pub async fn restart(
        &mut self,
        lab: &LabName,
        node: &NodeName,
        only: Option<&ProcessName>,
        progress: Progress<'_>,
    ) -> Result<Vec<String>, EngineError> {
        let _held = self.state.lock(lab, &self.command)?;
        let world = self.observe(&Questions::about(lab)).await?;
        let steps = plan::lives::restart(&world, node, only);
        let plan = Plan { lab: lab.clone(), stages: vec![Stage::Host(steps)] };
        let mut done = Vec::new();
        match self.apply(&plan, &mut done, progress).await {
            Ok(()) => Ok(plan.lines()),
            Err(source) => {
                let left = plan.lines().split_off(done.len());
                Err(EngineError::Left { lab: lab.clone(), left, source })
            }
        }
    }

    async fn plan_down(&mut self, lab: &LabName) -> Result<Plan, EngineError> {
        let world = self.observe(&Questions::whose(lab)).await?;
        if let Some((backend, why)) = world.unseen().next() {
            return Err(EngineError::Unseen { lab: lab.clone(), backend, why: why.to_owned() });
        }
        let abilities = self.abilities(&Wanted::default(), &world).await?;
        let refused = |refusals| EngineError::NotRemoved { lab: lab.clone(), refusals };
        plan::down(lab, &world, &abilities).map_err(refused)
    }

    /// Every lab that something is left of: on this machine by its marks, or
    /// in the state directory.
    pub async fn labs(&mut self) -> Result<BTreeSet<LabName>, EngineError> {
        let mut labs = self.host.labs().await?;
        for switch in self.switches.values_mut() {
            labs.extend(switch.labs().await.map_err(EngineError::ObserveSwitches)?);
        }
        labs.extend(self.state.labs()?);
        Ok(labs)
    }

    /// Looks at one lab.
    pub async fn status(&mut self, lab: &LabName) -> Result<Status, EngineError> {
        let LabState { lab: wanted, cut_off, leaving: _, begun: _ } = self.state.read(lab)?;
        let mut shut = Vec::new();
        let (world, drift, nics) = match &wanted {
            None => {
                let world = self.observe(&Questions::about(lab)).await?;
                let nics = self.standing(lab, &world)?;
                (world, Vec::new(), nics)
            }
            Some(lab) => {
                let wanted = self.wanted(lab).await?;
                let world = self.observe(&questions(lab, &wanted)).await?;
                let abilities = self.abilities(&wanted, &world).await?;
                let mut drift = match plan::up(&lab.name, &wanted, &world, &abilities) {
                    Ok(plan) => plan.lines(),
                    Err(refusals) => refusals.iter().map(|r| format!("! {r}")).collect(),
                };
                let nics = self.standing(&lab.name, &world)?;
                drift.extend(self.uplink_drift(lab, &nics).await?);
                shut = plan::exits::warnings(&wanted, &world);
                (world, drift, nics)
            }
        };
        if wanted.is_none() && world.is_empty() {
            return Err(EngineError::NoLab(lab.clone()));
        }
        let unseen = world.unseen().map(|(_, why)| why.to_owned());
        let troubles = world.fabric.troubles.iter().cloned().chain(unseen).chain(shut);
        let told = |trouble: &String| drift.iter().any(|line| line.ends_with(trouble));
        let troubles = troubles.filter(|trouble| !told(trouble)).collect();
        Ok(Status { world, lab: wanted, drift, troubles, cut_off, nics })
    }

    /// Removes what crashes left: labs that no file remembers or that were to be
    /// removed already, and links that were cut off at birth. Returns their names.
    pub async fn gc(&mut self, progress: Progress<'_>) -> Result<Vec<String>, EngineError> {
        let removed = self.gc_held(progress).await;
        self.leave(removed).await
    }

    async fn gc_held(&mut self, progress: Progress<'_>) -> Result<Vec<String>, EngineError> {
        let mut removed = Vec::new();
        let (mut is_anybody_at_work, mut refused) = (false, None);
        for lab in self.labs().await? {
            // Looked at under the lock: what an `up` has not written down yet
            // is no leftover.
            let Some(held) = self.state.lock_if_free(&lab, &self.command)? else {
                is_anybody_at_work = true;
                continue;
            };
            let state = self.state.read(&lab)?;
            if state.lab.is_some() && !state.leaving {
                continue;
            }
            match self.down_held(&held, &lab, progress).await {
                Ok(plan) => {
                    let what = if plan.is_empty() { "directory of lab" } else { "lab" };
                    removed.push(format!("{what} {lab}"));
                }
                // It went away since it was listed.
                Err(EngineError::NoLab(_)) => {}
                // One that cannot go keeps no other.
                Err(error @ (EngineError::NotRemoved { .. } | EngineError::Unseen { .. })) => {
                    refused = refused.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        // A link that is being born has no mark yet, and is no orphan.
        if is_anybody_at_work {
            return Ok(removed);
        }
        let orphans = self.host.delete_orphans().await?;
        removed.extend(orphans.into_iter().map(|device| format!("device {device}")));
        Ok(removed)
    }

    /// Links that were cut off at birth. While a command is at work one may only be
    /// on its way.
    pub async fn orphans(&mut self) -> Result<Vec<String>, EngineError> {
        for lab in self.labs().await? {
            if self.state.is_at_work(&lab) {
                return Ok(Vec::new());
            }
        }
        Ok(self.host.orphans().await?)
    }

    /// What is there of one lab.
    pub async fn observe(&mut self, questions: &Questions) -> Result<World, EngineError> {
        let host = self.host.observe(questions).await?;
        let mut fabric = Fabric::default();
        for switch in self.switches.values_mut() {
            let seen = switch.observe(&questions.lab).await;
            fabric.extend(seen.map_err(EngineError::ObserveSwitches)?);
        }
        let uplinks = self.uplinks(&questions.lab)?;
        let remembered = self.remembered(&questions.lab, &fabric)?;
        let mut world = World { host, fabric, uplinks, remembered };
        // The local device of a bridge that somebody else has is theirs, whatever
        // it is called otherwise.
        let World { host, fabric, uplinks: _, remembered: _ } = &mut world;
        host.locals.retain(|device, _| !fabric.taken.contains_key(device.as_str()));
        // A bridge of ours is nobody else's name.
        for seen in world.fabric.switches.values() {
            let taken = &mut world.host.taken.devices;
            taken.remove(seen.spec.device.as_str());
            taken.remove(&seen.spec.altname);
        }
        Ok(world)
    }

    /// The NICs that are ports of a lab's switches.
    fn uplinks(&self, lab: &LabName) -> Result<BTreeMap<IfName, SeenUplink>, EngineError> {
        let attached = self.state.attachments(lab)?.nics.into_iter();
        let seen = attached.map(|(nic, attached)| {
            let after = attached.switch_after();
            (nic, SeenUplink { switch: after.name, mac: after.mac, mtu: after.mtu })
        });
        Ok(seen.collect())
    }

    /// What the lab's switches are made of that are nowhere to be seen, by what
    /// is remembered of it, where some backend cannot be asked.
    fn remembered(&self, lab: &LabName, seen: &Fabric) -> Result<BTreeSet<Backend>, EngineError> {
        let mut remembered = BTreeSet::new();
        if seen.unseen.is_empty() {
            return Ok(remembered);
        }
        let state = self.state.read(lab)?;
        let switches = state.lab.iter().flat_map(|lab| &lab.switches);
        for (_, switch) in switches.filter(|(name, _)| !seen.switches.contains_key(*name)) {
            match switch.backend {
                Some(backend) => drop(remembered.insert(backend)),
                // Whatever it was made of, it is not where one can look.
                None => remembered.extend(seen.unseen.keys()),
            }
        }
        remembered.extend(state.begun);
        Ok(remembered)
    }

    async fn difference(
        &mut self,
        lab: &Lab,
        wanted: &Wanted,
    ) -> Result<(Done, World), EngineError> {
        let world = self.observe(&questions(lab, wanted)).await?;
        let abilities = self.abilities(wanted, &world).await?;
        let was_there = !world.is_empty();
        match plan::up(&lab.name, wanted, &world, &abilities) {
            Ok(plan) => {
                let (moved, warnings) = (Moved::default(), wanted.warnings(&world));
                Ok((Done { plan, was_there, moved, warnings }, world))
            }
            Err(refusals) => Err(EngineError::Refused { lab: lab.name.clone(), refusals }),
        }
    }

    /// What is still to do. If nothing is, the lab is remembered as made, and
    /// every node can use its addresses.
    async fn look_again(&mut self, lab: &Lab, wanted: &Wanted, held: &Held) -> Result<Plan, Cause> {
        let (done, world) = self.difference(lab, wanted).await.map_err(Cause::look)?;
        if done.plan.is_empty() {
            let unsettled = &world.host.unsettled;
            self.host.settle(&lab.name, unsettled).await.map_err(Cause::Settle)?;
            held.write_names(&Names::new(lab, &world))?;
            held.remember(lab)?;
        }
        Ok(done.plan)
    }

    /// Takes back what was done before `failure`, unless some of it can never
    /// be: then there is no way but on, and what is still to do is told.
    async fn take_back(
        &mut self,
        lab: &Lab,
        wanted: &Wanted,
        failure: Failure,
        before: &World,
    ) -> EngineError {
        let Failure { cause, done } = failure;
        let name = lab.name.clone();
        let Some(stages) = plan::undo::take_back(&done) else {
            let left = match self.difference(lab, wanted).await {
                Ok((rest, _)) => rest.plan.lines(),
                Err(error) => vec![format!("! {error}")],
            };
            return EngineError::Left { lab: name, left, source: cause };
        };
        // Where nothing was there, what is there now is ours, and goes as
        // `down` would have it, all links with one request. If that cannot be
        // seen, step by step, like what is taken back from a lab that was.
        let seen = if before.is_empty() { self.plan_down(&name).await.ok() } else { None };
        let back = seen.unwrap_or(Plan { lab: name.clone(), stages });
        let left = self.apply_each(&back).await;
        if left.is_empty() {
            EngineError::TakenBack { lab: name, source: cause }
        } else {
            EngineError::Left { lab: name, left, source: cause }
        }
    }
}

/// What has to be known to compare the world with `lab`.
fn questions(lab: &Lab, wanted: &Wanted) -> Questions {
    let sysctls = wanted
        .nodes
        .iter()
        .filter(|(_, node)| !node.sysctls.is_empty())
        .map(|(name, node)| (name.clone(), node.sysctls.keys().cloned().collect()))
        .collect();
    // Only Open vSwitch in userspace cares.
    let cares =
        |spec: &SwitchSpec| spec.backend == Backend::Ovs && spec.datapath != Some(Datapath::System);
    let checksums = wanted.switches.values().any(cares);
    let adopt = wanted.nodes.iter().filter_map(|(name, n)| Some((name.clone(), n.adopt.clone()?)));
    let adopt = adopt.collect();
    let abilities = plan::abilities_of_links(wanted);
    let controllers = wanted.nodes.values().any(|node| !node.life.limits.is_empty());
    let processes = wanted.nodes.values().flat_map(|node| &node.life.run);
    let users = processes.filter_map(|process| process.user.clone()).collect();
    let files = wanted.nodes.values().flat_map(|node| node.life.files.keys()).cloned().collect();
    let exits = wanted.doors().is_some();
    let is_deaf = |(name, node): (&NodeName, &WantedNode)| node.deaf.as_ref().map(|_| name.clone());
    let deaf = wanted.nodes.iter().filter_map(is_deaf).collect();
    Questions {
        adopt,
        abilities,
        sysctls,
        checksums,
        controllers,
        users,
        files,
        names: wanted.names_on_machine,
        exits,
        deaf,
        ..Questions::about(&lab.name)
    }
}

/// The stages of a plan, for `apply`.
fn total(stages: &[Stage]) -> usize {
    stages.iter().map(Stage::len).sum()
}
