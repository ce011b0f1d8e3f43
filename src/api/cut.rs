//! Cuts: nodes that do not hear others.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::edit::{self, Changed};
use super::{Call, CallError, Desk};

/// Cuts nodes off from others of the lab: no frame of the one set reaches the
/// other, in either direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CutMake {
    /// The nodes of the one set; ranges such as `h[1-3]` too.
    pub nodes: Vec<String>,
    /// The nodes of the other.
    pub from: Vec<String>,
    /// What it is called; the first free of `cut1`, `cut2`... if it is not said.
    pub name: Option<String>,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for CutMake {
    const NAME: &'static str = "cut.make";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        edit::change(desk, "ovsns cut", self.lab.as_deref(), |file| {
            let cuts = cuts(file);
            let mut free =
                (1..).map(|number| format!("cut{number}")).filter(|n| !cuts.contains_key(n));
            let name = self.name.or_else(|| free.next()).expect("numbers do not end");
            if cuts.contains_key(&name) {
                return Err(CallError::usage(
                    format!("there is a cut `{name}` already"),
                    format!("give the new one another `--name`, or heal that: `ovsns heal {name}`"),
                ));
            }
            cuts.insert(name, json!({ "nodes": self.nodes, "from": self.from }));
            Ok(())
        })
        .await
    }
}

/// Takes cuts away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CutHeal {
    /// Their names; all if none is named.
    pub names: Vec<String>,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for CutHeal {
    const NAME: &'static str = "cut.heal";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        edit::change(desk, "ovsns heal", self.lab.as_deref(), |file| {
            let cuts = cuts(file);
            // Whoever says a name twice means it once.
            for name in self.names.iter().collect::<BTreeSet<_>>() {
                if cuts.remove(name).is_none() {
                    let there: Vec<_> = cuts.keys().map(|name| format!("`{name}`")).collect();
                    let hint = match there.as_slice() {
                        [] => "no node of the lab is cut from others".to_owned(),
                        some => {
                            format!("there is {}; without a name all are healed", some.join(", "))
                        }
                    };
                    return Err(CallError::usage(format!("there is no cut `{name}`"), hint));
                }
            }
            if self.names.is_empty() {
                cuts.clear();
            }
            Ok(())
        })
        .await
    }
}

fn cuts(file: &mut Json) -> &mut Map<String, Json> {
    if !file["cuts"].is_object() {
        file["cuts"] = json!({});
    }
    file["cuts"].as_object_mut().expect("made just above")
}

/// Takes a node that goes out of all cuts, and a cut away that has nobody left.
pub(super) fn remove_node(file: &mut Json, node: &str) {
    cuts(file).retain(|_, cut| {
        ["nodes", "from"].into_iter().all(|side| {
            let Some(nodes) = cut[side].as_array_mut() else { return true };
            nodes.retain(|name| name != node);
            !nodes.is_empty()
        })
    });
}
