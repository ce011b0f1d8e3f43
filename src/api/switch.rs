//! Switches, one at a time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::edit::{self, Changed, Settings, things};
use super::{Call, CallError, Desk};
use crate::model::names::SwitchName;
use crate::model::topology::Backend;

/// Adds a switch to a running lab, which is made if it is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchAdd {
    /// The switch's name.
    pub switch: String,
    /// Whether it speaks spanning tree, so that loops are cut.
    #[serde(default)]
    pub stp: bool,
    /// The name of its bridge in the kernel; derived from the names if not said.
    pub device: Option<String>,
    /// What it is made of if `set` does not say it. If nothing does it is as the lab's
    /// others, or the best that this machine has.
    pub backend: Option<Backend>,
    /// Keys of a switch in the topology file.
    #[serde(default)]
    pub set: Settings,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for SwitchAdd {
    const NAME: &'static str = "switch.add";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        let switch = SwitchName::new(&self.switch)?;
        edit::change_or_make(desk, "ovsns switch add", self.lab.as_deref(), |file| {
            if things(file, "switches").contains_key(switch.as_str()) {
                return Err(CallError::usage(
                    format!("there is a switch `{switch}` already"),
                    format!("give it another name, or remove the old: `ovsns switch rm {switch}`"),
                ));
            }
            let mut spec = json!({ "stp": self.stp });
            if let Some(device) = self.device {
                spec["device"] = device.into();
            }
            if let Some(backend) = self.backend {
                spec["backend"] = backend.to_string().into();
            }
            self.set.write(&mut spec)?;
            things(file, "switches").insert(switch.to_string(), spec);
            Ok(())
        })
        .await
    }
}

/// Removes a switch and its links from a running lab.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchRm {
    /// The switch.
    pub switch: String,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for SwitchRm {
    const NAME: &'static str = "switch.rm";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        let switch = SwitchName::new(&self.switch)?;
        edit::change(desk, "ovsns switch rm", self.lab.as_deref(), |file| {
            edit::remove_links(file, |link| edit::endpoints(link).contains(&switch.as_str()));
            match things(file, "switches").remove(switch.as_str()) {
                Some(_) => Ok(()),
                None => Err(no_switch(&switch)),
            }
        })
        .await
    }
}

/// Changes a switch of a running lab.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchSet {
    /// The switch.
    pub switch: String,
    /// Keys of a switch in the topology file.
    pub set: Settings,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for SwitchSet {
    const NAME: &'static str = "switch.set";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        let switch = SwitchName::new(&self.switch)?;
        edit::change(desk, "ovsns switch set", self.lab.as_deref(), |file| {
            if things(file, "nodes").contains_key(switch.as_str()) {
                return Err(CallError::usage(
                    format!("`{switch}` is a node, not a switch"),
                    format!(
                        "what can be set of a node is of its links: \
                         `ovsns link set {switch} SWITCH KEY=VALUE`"
                    ),
                ));
            }
            match things(file, "switches").get_mut(switch.as_str()) {
                Some(spec) => self.set.write(spec),
                None => Err(no_switch(&switch)),
            }
        })
        .await
    }
}

pub(crate) fn no_switch(switch: &SwitchName) -> CallError {
    no_switch_called(switch.as_str())
}

pub(crate) fn no_switch_called(switch: &str) -> CallError {
    CallError::usage(
        format!("there is no switch `{switch}`"),
        "`ovsns switch list` shows the switches",
    )
}
