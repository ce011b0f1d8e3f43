//! Where a call is worked on: what it says meanwhile, and the engine it uses.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::CallError;
use super::error::which_lab;
use crate::engine::{Done, Engine};
use crate::kernel::permissions::{self, Capability};
use crate::kernel::{inside, netns};
use crate::model::names::{LabName, NodeName};
use crate::model::topology::Lab;

/// What a call says before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// A line for a person.
    Told(String),
    /// How far it has come.
    Progress {
        /// Steps that are done.
        done: usize,
        /// All there are.
        all: usize,
    },
}

/// A call's place of work.
pub struct Desk<'a> {
    hear: &'a mut (dyn FnMut(News) + Send),
    asker: CancellationToken,
}

impl<'a> Desk<'a> {
    /// One whose news `hear` is called with.
    pub fn new(hear: &'a mut (dyn FnMut(News) + Send)) -> Self {
        Self { hear, asker: CancellationToken::new() }
    }

    /// The same, for somebody who may be gone before it is done: `asker` says when.
    pub fn for_asker(hear: &'a mut (dyn FnMut(News) + Send), asker: CancellationToken) -> Self {
        Self { hear, asker }
    }

    /// Waits until nobody waits for the answer any more, which may be never.
    pub(crate) fn abandoned(&self) -> impl Future<Output = ()> + use<> {
        self.asker.clone().cancelled_owned()
    }

    /// Says something that is no answer.
    pub(crate) fn tell(&mut self, text: impl Into<String>) {
        (self.hear)(News::Told(text.into()));
    }

    /// Says what will not be as somebody may expect.
    pub(crate) fn warn(&mut self, warnings: &[String]) {
        warnings.iter().for_each(|warning| self.tell(format!("warning: {warning}")));
    }

    /// Says the warnings of what was done, or would be, and returns its steps.
    pub(crate) fn steps(&mut self, done: &Done) -> Vec<String> {
        self.warn(&done.warnings);
        self.warn(&done.moved.warnings);
        [done.plan.lines(), done.moved.lines.clone()].concat()
    }

    /// Says how far the work has come.
    pub(crate) fn progress(&mut self) -> impl FnMut(usize, usize) + Send + use<'_, 'a> {
        |done, all| (self.hear)(News::Progress { done, all })
    }

    /// The engine, if this process may use one. `command` is what others read who
    /// find a lab locked.
    pub(crate) async fn engine(&mut self, command: &str) -> Result<Engine, CallError> {
        allowed(&[Capability::NetAdmin, Capability::SysAdmin])?;
        let mut engine = Engine::open(command).await?;
        for told in engine.recover().await? {
            self.tell(told);
        }
        Ok(engine)
    }

    /// Says which backend `auto` stands for, and why, if a switch asks.
    pub(crate) async fn tell_backend(
        &mut self,
        engine: &mut Engine,
        lab: &Lab,
    ) -> Result<(), CallError> {
        if lab.switches.values().any(|switch| switch.backend.is_none()) {
            let choice = engine.choose(&lab.name).await?;
            self.tell(format!("backend: {} ({})", choice.backend, choice.why));
        }
        Ok(())
    }
}

/// Whether this process may do what needs `wanted`.
pub(crate) fn allowed(wanted: &[Capability]) -> Result<(), CallError> {
    match permissions::missing(wanted) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(CallError::NotAllowed(missing)),
    }
}

/// The lab that was named, or the only one there is.
pub(crate) async fn one_lab(
    engine: &mut Engine,
    named: Option<&str>,
) -> Result<LabName, CallError> {
    match named {
        Some(named) => Ok(LabName::new(named)?),
        None => one_of(&engine.labs().await?, None),
    }
}

/// The same, of labs that were asked for already.
pub(crate) fn one_of(labs: &BTreeSet<LabName>, named: Option<&str>) -> Result<LabName, CallError> {
    if let Some(named) = named {
        return Ok(LabName::new(named)?);
    }
    let labs: Vec<LabName> = labs.iter().cloned().collect();
    match <[LabName; 1]>::try_from(labs) {
        Ok([lab]) => Ok(lab),
        Err(labs) => Err(which_lab(&labs)),
    }
}

/// A node as it is named by a person: `n1`, or `LAB/n1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeWords {
    /// The lab, if it was named.
    pub(crate) lab: Option<LabName>,
    /// The node.
    pub(crate) node: NodeName,
}

impl NodeWords {
    /// Reads `text`, with the lab of `--lab` where it names none.
    pub(crate) fn new(text: &str, lab: Option<&str>) -> Result<Self, CallError> {
        let (lab, node) = match text.split_once('/') {
            Some((lab, node)) => (Some(lab), node),
            None => (lab, text),
        };
        Ok(Self { lab: lab.map(LabName::new).transpose()?, node: NodeName::new(node)? })
    }

    /// The lab of the node that is meant.
    pub(crate) fn find(&self) -> Result<LabName, CallError> {
        let mut found = Vec::new();
        for name in netns::list()? {
            let Some((lab, node)) = name.split_once('.') else { continue };
            let is_meant = node == self.node.as_str()
                && self.lab.as_ref().is_none_or(|named| named.as_str() == lab);
            if is_meant && let Some(mark) = inside::mark_of(&name)? {
                found.push(mark.lab);
            }
        }
        let node = &self.node;
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 => {
                let lab = self.lab.as_ref().map(|lab| format!(" in lab `{lab}`"));
                Err(CallError::usage(
                    format!("there is no node `{node}`{}", lab.unwrap_or_default()),
                    "`ovsns node list` shows the nodes",
                ))
            }
            _ => {
                let labs: Vec<_> = found.iter().map(|lab| format!("`{lab}`")).collect();
                Err(CallError::usage(
                    format!("several labs have a node `{node}`: {}", labs.join(", ")),
                    format!("say which, such as `{}/{node}`", found[0]),
                ))
            }
        }
    }

    /// The name of the lab.
    pub(crate) fn lab(&self) -> Option<&str> {
        self.lab.as_ref().map(LabName::as_str)
    }
}
