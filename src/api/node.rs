//! Nodes, one at a time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::desk::{NodeWords, one_lab};
use super::edit::{self, Changed, things};
use super::{Call, CallError, Desk, cut};
use crate::model::adopt::Adopt;
use crate::model::file;
use crate::model::names::{NodeName, ProcessName};

/// Adds a node to a running lab, which is made if it is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeAdd {
    /// The node's name: `NODE`, or `LAB/NODE`.
    pub node: String,
    /// The switches, or interfaces of nodes, that it is joined to.
    #[serde(default)]
    pub links: Vec<String>,
    /// Addresses of its first interface, with their lengths; `dhcp` and `slaac` ask
    /// for one. The next free ones if there are none.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether it is a router.
    #[serde(default)]
    pub forwarding: bool,
    /// A namespace that is there, which it takes: `netns:NAME`, `netns:/PATH`,
    /// `pid:NUMBER`, `container:NAME`.
    pub adopt: Option<String>,
    /// What it has of its own besides its network: `uts`, `mount`, `pid`, `ipc`, or
    /// `all`.
    #[serde(default)]
    pub isolation: Vec<String>,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for NodeAdd {
    const NAME: &'static str = "node.add";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        let words = NodeWords::new(&self.node, self.lab.as_deref())?;
        let node = &words.node;
        let hint = "such as `netns:NAME`, `pid:NUMBER` or `container:NAME`";
        let adopt = self.adopt.as_deref().map(str::parse::<Adopt>).transpose();
        let adopt = adopt.map_err(|wrong| CallError::usage(wrong.to_string(), hint))?;
        edit::change_or_make(desk, "ovsns node add", words.lab(), |file| {
            if things(file, "nodes").contains_key(node.as_str()) {
                return Err(CallError::usage(
                    format!("there is a node `{node}` already"),
                    format!(
                        "give the new one another name, or remove the old: `ovsns node rm {node}`"
                    ),
                ));
            }
            let mut spec = json!({});
            if self.forwarding {
                spec["forwarding"] = true.into();
            }
            if let Some(adopt) = &adopt {
                spec["adopt"] = file::of_adopt(adopt);
            }
            // As in a file: what somebody else has made is likely to have an `eth0`.
            let letters = if adopt.is_some() { "lab" } else { "eth" };
            if !self.isolation.is_empty() {
                spec["isolation"] = json!(self.isolation);
            }
            if !self.addresses.is_empty() {
                spec["interfaces"][format!("{letters}0")] = json!({ "addresses": self.addresses });
            }
            things(file, "nodes").insert(node.to_string(), spec);
            for (index, end) in self.links.iter().enumerate() {
                let link = json!({ "endpoints": [format!("{node}:{letters}{index}"), end] });
                edit::links(file).push(link);
            }
            Ok(())
        })
        .await
    }
}

/// Removes a node and its links from a running lab.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeRm {
    /// The node: `NODE`, or `LAB/NODE`.
    pub node: String,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
}

impl Call for NodeRm {
    const NAME: &'static str = "node.rm";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        let words = NodeWords::new(&self.node, self.lab.as_deref())?;
        let node = &words.node;
        edit::change(desk, "ovsns node rm", words.lab(), |file| {
            edit::remove_links(file, |link| {
                edit::endpoints(link).iter().any(|end| is_of(end, node))
            });
            cut::remove_node(file, node.as_str());
            match things(file, "nodes").remove(node.as_str()) {
                Some(_) => Ok(()),
                None => Err(CallError::usage(
                    format!("there is no node `{node}`"),
                    "`ovsns node list` shows the nodes",
                )),
            }
        })
        .await
    }
}

/// Whether an endpoint is an interface of the node.
fn is_of(end: &str, node: &NodeName) -> bool {
    end.split_once(':').is_some_and(|(name, _)| name == node.as_str())
}

/// Stops what runs in a node, the last one first, and starts it again in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeRestart {
    /// The node: `NODE`, or `LAB/NODE`.
    pub node: String,
    /// One of its processes; all if none is named.
    pub process: Option<String>,
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

impl Call for NodeRestart {
    const NAME: &'static str = "node.restart";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        let words = NodeWords::new(&self.node, self.lab.as_deref())?;
        let node = &words.node;
        let only = self.process.as_deref().map(ProcessName::new).transpose()?;
        let mut engine = desk.engine("ovsns node restart").await?;
        let lab = one_lab(&mut engine, words.lab()).await?;
        let steps = engine.restart(&lab, node, only.as_ref(), &mut desk.progress()).await?;
        if steps.is_empty() {
            return Err(match only {
                Some(only) => CallError::usage(
                    format!("no process `{only}` runs in node `{node}`"),
                    "`ovsns status` shows what does",
                ),
                None => CallError::usage(
                    format!("nothing runs in node `{node}`"),
                    "have something run: `run:` in the lab's file",
                ),
            });
        }
        Ok(Changed { lab: lab.to_string(), steps })
    }
}
