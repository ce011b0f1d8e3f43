//! Doing the steps of a plan, in order.

use super::{Engine, Progress, total};
use crate::kernel::StepError;
use crate::plan::undo::Done;
use crate::plan::{Plan, Stage};
use crate::switch::SwitchError;

/// Why a step was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The kernel refused it.
    #[error(transparent)]
    Host(#[from] StepError),
    /// A switch refused it.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The plan is for a backend that is not here.
    #[error("there is no `{0}` backend here")]
    NoBackend(String),
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
    /// Does all steps, or stops at the first that fails.
    pub(super) async fn apply(
        &mut self,
        plan: &Plan,
        progress: Progress<'_>,
    ) -> Result<(), Failure> {
        let total = total(&plan.stages);
        let mut done = Vec::with_capacity(total);
        for stage in &plan.stages {
            match stage {
                Stage::Host(steps) => {
                    for step in steps {
                        if let Err(error) = self.host.perform(&plan.lab, step).await {
                            return Err(Failure { cause: error.into(), done });
                        }
                        done.push(Done::Host(step.clone()));
                        progress(done.len(), total);
                    }
                }
                Stage::Fabric(backend, steps) => {
                    let Some(switch) = self.switches.get_mut(backend) else {
                        let cause = Cause::NoBackend(backend.to_string());
                        return Err(Failure { cause, done });
                    };
                    if let Err(error) = switch.commit(steps).await {
                        // Set, but not forwarding yet: it has to be taken back
                        // like all that was done.
                        if let SwitchError::NotForwarding { .. } = error {
                            done.extend(steps.iter().map(|s| Done::Fabric(*backend, s.clone())));
                        }
                        return Err(Failure { cause: error.into(), done });
                    }
                    done.extend(steps.iter().map(|s| Done::Fabric(*backend, s.clone())));
                    progress(done.len(), total);
                }
            }
        }
        Ok(())
    }

    /// Does all steps that can be done, and returns why the first of the
    /// others could not.
    pub(super) async fn apply_all(&mut self, plan: &Plan, progress: Progress<'_>) -> Option<Cause> {
        let total = total(&plan.stages);
        let mut tried = 0;
        let mut first = None;
        for stage in &plan.stages {
            match stage {
                Stage::Host(steps) => {
                    for step in steps {
                        if let Err(error) = self.host.perform(&plan.lab, step).await {
                            first.get_or_insert(Cause::from(error));
                        }
                        tried += 1;
                        progress(tried, total);
                    }
                }
                Stage::Fabric(backend, steps) => {
                    let result = match self.switches.get_mut(backend) {
                        None => Err(Cause::NoBackend(backend.to_string())),
                        Some(switch) => switch.commit(steps).await.map_err(Cause::from),
                    };
                    if let Err(cause) = result {
                        first.get_or_insert(cause);
                    }
                    tried += steps.len();
                }
            }
        }
        first
    }

    /// Does each step by itself, and returns a line for each that could not
    /// be done. For the way back, where nothing depends on how it ended.
    pub(super) async fn apply_each(&mut self, plan: &Plan) -> Vec<String> {
        let mut failed = Vec::new();
        for stage in &plan.stages {
            match stage {
                Stage::Host(steps) => {
                    for step in steps {
                        if let Err(error) = self.host.perform(&plan.lab, step).await {
                            failed.push(format!("{} ({})", step.line(&plan.lab), error.cause));
                        }
                    }
                }
                Stage::Fabric(backend, steps) => {
                    for step in steps {
                        let result = match self.switches.get_mut(backend) {
                            None => Err(Cause::NoBackend(backend.to_string())),
                            Some(switch) => {
                                let one = std::slice::from_ref(step);
                                switch.commit(one).await.map_err(Cause::from)
                            }
                        };
                        if let Err(cause) = result {
                            failed.push(format!("{} ({cause})", step.line()));
                        }
                    }
                }
            }
        }
        failed
    }
}
