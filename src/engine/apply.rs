//! Doing the steps of a plan, in order.

use super::state::StateError;
use super::{Engine, EngineError, Progress, total};
use crate::kernel::{KernelError, StepError, cut_short};
use crate::model::names::LabName;
use crate::model::topology::Backend;
use crate::plan::undo::Done;
use crate::plan::{FabricStep, Plan, Stage, Step};
use crate::switch::ovs::OvsError;
use crate::switch::{Switch, SwitchError};

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel refused it.
    #[error(transparent)]
    Host(#[from] StepError),
    /// A switch refused it.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// All was done, but it could not be seen how it turned out.
    #[error("could not see how it turned out")]
    Look(#[source] Box<EngineError>),
    /// All was done, but it could not be written down.
    #[error(transparent)]
    State(#[from] StateError),
    /// All was done, but the nodes do not come to use it.
    #[error(transparent)]
    Settle(KernelError),
    /// The plan is for a backend that is not here.
    #[error("there is no `{0}` backend here")]
    NoBackend(String),
}

impl Cause {
    pub(super) fn look(error: EngineError) -> Self {
        Self::Look(Box::new(error))
    }

    /// Whether the change is in the switch's database, and will be carried out.
    pub(super) fn is_in_database(&self) -> bool {
        matches!(self, Self::Switch(SwitchError::OpenVswitch(OvsError::NotApplied { .. })))
    }

    /// Whether a switch was told and has not carried it out yet. `untouched`
    /// says that nothing was done before: then what is late are earlier changes.
    pub(super) fn is_late(&self, untouched: bool) -> bool {
        match self {
            Self::Switch(SwitchError::OpenVswitch(OvsError::NotApplied { .. })) => true,
            Self::Switch(SwitchError::OpenVswitch(OvsError::Behind { .. })) => untouched,
            _ => false,
        }
    }
}

/// A plan that stopped in the middle.
#[derive(Debug)]
pub(super) struct Failure {
    /// Why.
    pub(super) cause: Cause,
    /// What was done before, oldest first.
    pub(super) done: Vec<Done>,
}

impl Engine {
    /// Does all steps, or stops at the first that fails. Each that is done is
    /// added to `done`.
    pub(super) async fn apply(
        &mut self,
        plan: &Plan,
        done: &mut Vec<Done>,
        progress: Progress<'_>,
    ) -> Result<(), Cause> {
        for stage in &plan.stages {
            if let Stage::Fabric(backend, steps) = stage
                && steps.iter().any(|step| matches!(step, FabricStep::AddSwitch(_)))
                && let Some(switch) = self.switches.get_mut(backend)
            {
                switch.prepare();
            }
        }
        let total = total(&plan.stages);
        let mut counted = 0;
        for stage in &plan.stages {
            match stage {
                Stage::Host(steps) => {
                    for step in steps {
                        self.perform(&plan.lab, step).await?;
                        done.push(Done::Host(step.clone()));
                        counted += 1;
                        progress(counted, total);
                    }
                }
                Stage::Fabric(backend, steps) => {
                    self.commit(*backend, steps).await?;
                    done.extend(steps.iter().map(|s| Done::Fabric(*backend, s.clone())));
                    counted += steps.len();
                    progress(counted, total);
                }
            }
        }
        Ok(())
    }

    /// Does all steps that can be done, and returns why the first of the
    /// others could not.
    pub(super) async fn apply_all(&mut self, plan: &Plan, progress: Progress<'_>) -> Option<Cause> {
        let total = total(&plan.stages);
        let sweep =
            |stage: &Stage| matches!(stage, Stage::Host(steps) if steps.iter().any(is_sweep));
        let swept_next = plan.stages.iter().any(sweep);
        let mut tried = 0;
        let mut first = None;
        for stage in &plan.stages {
            match stage {
                Stage::Host(steps) => {
                    for step in steps {
                        if let Err(error) = self.perform(&plan.lab, step).await {
                            first.get_or_insert(Cause::from(error));
                        }
                        tried += 1;
                        progress(tried, total);
                    }
                }
                Stage::Fabric(backend, steps) => {
                    let done = match swept_next {
                        true => self.tear_down(*backend, steps).await,
                        false => self.commit(*backend, steps).await,
                    };
                    if let Err(cause) = done {
                        first.get_or_insert(cause);
                    }
                    tried += steps.len();
                }
            }
        }
        first
    }

    /// Does what can be done, and returns a line for each step that could not
    /// be. For the way back, where nothing depends on how it ended.
    pub(super) async fn apply_each(&mut self, plan: &Plan) -> Vec<String> {
        let mut failed = Vec::new();
        for stage in &plan.stages {
            match stage {
                Stage::Host(steps) => {
                    for step in steps {
                        if let Err(error) = self.perform(&plan.lab, step).await {
                            failed.push(format!("{} ({})", step.line(&plan.lab), error.cause));
                        }
                    }
                }
                Stage::Fabric(backend, steps) => {
                    // All at once, since two ends of one thing need each other;
                    // else as many as can be.
                    if self.commit(*backend, steps).await.is_ok() {
                        continue;
                    }
                    for step in steps {
                        if let Err(cause) = self.commit(*backend, std::slice::from_ref(step)).await
                        {
                            failed.push(format!("{} ({cause})", step.line()));
                        }
                    }
                }
            }
        }
        failed
    }

    pub(super) async fn perform(&mut self, lab: &LabName, step: &Step) -> Result<(), StepError> {
        cut_short::before(|| step.line(lab));
        self.host.perform(lab, step).await
    }

    pub(super) async fn commit(
        &mut self,
        backend: Backend,
        steps: &[FabricStep],
    ) -> Result<(), Cause> {
        Ok(self.switch_for(backend, steps)?.commit(steps).await?)
    }

    async fn tear_down(&mut self, backend: Backend, steps: &[FabricStep]) -> Result<(), Cause> {
        Ok(self.switch_for(backend, steps)?.tear_down(steps).await?)
    }

    fn switch_for(
        &mut self,
        backend: Backend,
        steps: &[FabricStep],
    ) -> Result<&mut Box<dyn Switch>, Cause> {
        cut_short::before(|| steps.first().map_or_else(String::new, FabricStep::line));
        self.switches.get_mut(&backend).ok_or_else(|| Cause::NoBackend(backend.to_string()))
    }
}

fn is_sweep(step: &Step) -> bool {
    matches!(step, Step::SweepLinks { .. })
}
