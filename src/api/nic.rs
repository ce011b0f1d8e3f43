//! NICs of this machine.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::desk::{NodeWords, allowed};
use super::edit::{self, things};
use super::switch::no_switch_called;
use super::{Call, CallError, Desk};
use crate::engine::attach::{Moved, Wishes};
use crate::engine::{Done, Engine, EngineError};
use crate::kernel::permissions::Capability;
use crate::model::names::{IfName, LabName};
use crate::model::topology::{Backend, End, Lab, Macvlan, Share};

/// How a NIC is shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// As a port of a switch; the machine keeps its addresses on the switch's local
    /// device.
    #[default]
    Bridge,
    /// By a child of it in a node.
    Macvlan,
    /// It goes into a node itself.
    Move,
}

/// Shares a NIC of this machine into a lab. If a check fails, the server dies, or
/// nobody confirms in time, all is taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NicAttach {
    /// The NIC.
    pub nic: String,
    /// The switch; one of the NIC's name, made for it, if none is named.
    pub switch: Option<String>,
    /// How it is shared.
    #[serde(default)]
    pub mode: How,
    /// The node (`macvlan`, `move`), which is made if it is not there.
    pub node: Option<String>,
    /// What it is called in the node; the next free `ethN` if it is not said.
    pub interface: Option<String>,
    /// Addresses that it has in the node; the next free ones if there are none.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// What macvlans of one NIC hear of each other; all of it if it is not said.
    pub macvlan: Option<Macvlan>,
    /// Take it back unless `nic.confirm` comes within so many seconds.
    #[schemars(range(min = 1, max = 86400))]
    pub confirm: Option<u64>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Also as a second NIC without a spanning tree, under VLAN devices, or away
    /// from a machine that needs it.
    #[serde(default)]
    pub force: bool,
    /// What a new switch is made of.
    pub backend: Option<Backend>,
    /// The lab; the only one, or `default`, if none is named.
    pub lab: Option<String>,
    /// From where the machine is administered: the way there is looked after.
    pub ssh: Option<IpAddr>,
}

/// What became of a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shared {
    /// The lab.
    pub lab: String,
    /// In words; nothing if it was only to be said what would be done.
    pub said: Option<String>,
    /// What was done, or would be, each a line.
    pub steps: Vec<String>,
    /// What `nic.confirm` takes, if it is to be confirmed.
    pub unconfirmed: Option<String>,
}

impl Shared {
    fn planned(lab: &LabName, steps: Vec<String>) -> Self {
        Self { lab: lab.to_string(), said: None, steps, unconfirmed: None }
    }

    fn said(lab: &LabName, said: String) -> Self {
        Self { said: Some(said), ..Self::planned(lab, Vec::new()) }
    }

    /// Says what a NIC is now, and for how long if nobody confirms it.
    fn done(lab: &LabName, what: String, moved: Moved, confirm_s: Option<u64>) -> Self {
        let said = match (&moved.unconfirmed, confirm_s) {
            (Some(id), Some(seconds)) => format!(
                "{what}; unless you say `ovsns confirm {id}` within {seconds} s, it is taken back"
            ),
            _ => what,
        };
        let Moved { lines, unconfirmed, .. } = moved;
        Self { unconfirmed, ..Self { steps: lines, ..Self::said(lab, said) } }
    }
}

impl Call for NicAttach {
    const NAME: &'static str = "nic.attach";
    type Answer = Shared;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Shared, CallError> {
        let nic = IfName::new(&self.nic)?;
        if self.confirm.is_some_and(|seconds| !(1..=86400).contains(&seconds)) {
            return Err(CallError::usage(
                "`confirm` is out of range",
                "give 1 to 86400 seconds, or leave it out",
            ));
        }
        if self.mode != How::Bridge {
            return self.into_node(desk, &nic).await;
        }
        if self.node.is_some() {
            return Err(CallError::usage(
                "`--node` is for the modes `macvlan` and `move`",
                "say `--mode`; or link the node to the switch: `ovsns link add`",
            ));
        }
        let mut engine = desk.engine(&format!("ovsns attach {nic}")).await?;
        let (lab, _) = edit::lab_to_change(&mut engine, self.lab.as_deref()).await?;
        engine.wish(Wishes { confirm_s: self.confirm, ssh: self.ssh, force: self.force });
        let there = engine.attachments(&lab)?.nics.get(&nic).map(|a| a.switch.name.clone());
        if let Some(switch) = there
            && self.switch.as_ref().is_none_or(|wanted| wanted == switch.as_str())
        {
            let unkept = engine.unkept_leases(&lab).await?;
            if unkept.is_empty() || self.dry_run {
                let nothing = format!("{nic} is attached to {lab}/{switch}: nothing to change");
                let said = if unkept.is_empty() { nothing } else { unkept.join("\n") };
                return Ok(Shared::said(&lab, said));
            }
            // Who renewed its lease was killed.
            make(desk, &mut engine, &lab, |_| Ok(())).await?;
            let said = format!("{nic} is attached to {lab}/{switch}, and its lease renewed again");
            return Ok(Shared::said(&lab, said));
        }
        let switch = self.switch.as_deref().unwrap_or(nic.as_str());
        let edit = |file: &mut Json| {
            let switches = things(file, "switches");
            if !switches.contains_key(switch) {
                if self.switch.is_some() {
                    return Err(no_switch_called(switch));
                }
                let backend = self.backend.map_or("auto".to_owned(), |it| it.to_string());
                switches.insert(switch.to_owned(), json!({ "backend": backend }));
            }
            file["uplinks"][nic.as_str()] = json!({ "switch": switch, "force": self.force });
            Ok(())
        };
        let planned = edit::edited(&mut engine, &lab, edit)?;
        desk.tell_backend(&mut engine, &planned).await?;
        if self.dry_run {
            return plan(desk, &mut engine, &planned).await;
        }
        let Done { moved, .. } = make(desk, &mut engine, &lab, edit).await?;
        let what = format!("{nic} is attached to {lab}/{switch}");
        Ok(Shared::done(&lab, what, moved, self.confirm))
    }
}

impl NicAttach {
    /// A NIC, or a child of it, into a node.
    async fn into_node(self, desk: &mut Desk<'_>, nic: &IfName) -> Result<Shared, CallError> {
        let Some(words) = &self.node else {
            return Err(CallError::usage(
                "the modes `macvlan` and `move` need a node",
                "say which: `node`; it is made if it is not there",
            ));
        };
        let words = NodeWords::new(words, self.lab.as_deref())?;
        let mut engine = desk.engine(&format!("ovsns attach {nic}")).await?;
        let (lab, _) = edit::lab_to_change(&mut engine, words.lab()).await?;
        let node = &words.node;
        let share = match self.mode {
            How::Move => Share::Move,
            How::Bridge | How::Macvlan => Share::Macvlan(self.macvlan.unwrap_or(Macvlan::Bridge)),
        };
        let end = End::Nic(nic.clone(), share).to_string();
        engine.wish(Wishes { confirm_s: self.confirm, ssh: self.ssh, force: self.force });
        let called = |file: &Json| -> String {
            let interfaces = &file["nodes"][node.as_str()]["interfaces"];
            let free = |name: &String| interfaces.get(name).is_none();
            let free = (0..).map(|number| format!("eth{number}")).find(free);
            self.interface.clone().or(free).expect("numbers do not end")
        };
        let edit = |file: &mut Json| {
            let is_it = |link: &Json| {
                let ends = edit::endpoints(link);
                let of_node =
                    |end: &&str| end.split_once(':').is_some_and(|(of, _)| of == node.as_str());
                ends.contains(&end.as_str()) && ends.iter().any(of_node)
            };
            let there = edit::links(file).iter().any(is_it);
            if there {
                return Ok(());
            }
            let interface = called(file);
            let nodes = things(file, "nodes");
            let node_there = nodes.entry(node.as_str()).or_insert_with(|| json!({}));
            if !self.addresses.is_empty() {
                node_there["interfaces"][&interface] = json!({ "addresses": self.addresses });
            }
            let mut link = json!({ "endpoints": [format!("{node}:{interface}"), end] });
            if let Share::Macvlan(mode) = share {
                link["mode"] = json!(mode);
            }
            edit::links(file).push(link);
            Ok(())
        };
        if self.dry_run {
            let planned = edit::edited(&mut engine, &lab, edit)?;
            return plan(desk, &mut engine, &planned).await;
        }
        let Done { moved, plan, .. } = make(desk, &mut engine, &lab, edit).await?;
        if plan.is_empty() && moved.lines.is_empty() {
            let said = format!("node {lab}/{node} has {end}: nothing to change");
            return Ok(Shared::said(&lab, said));
        }
        let what = match share {
            Share::Move => format!("{nic} is in node {lab}/{node}"),
            Share::Macvlan(mode) => format!("node {lab}/{node} has a {mode} macvlan of {nic}"),
        };
        Ok(Shared::done(&lab, what, moved, self.confirm))
    }
}

/// Says what would be done.
async fn plan(
    desk: &mut Desk<'_>,
    engine: &mut Engine,
    planned: &Lab,
) -> Result<Shared, CallError> {
    let done = engine.plan(planned).await?;
    desk.warn(&done.moved.warnings);
    Ok(Shared::planned(&planned.name, [done.plan.lines(), done.moved.lines].concat()))
}

/// Makes what a lab's file says when it is changed, and warns of what a NIC's owner
/// should know.
async fn make(
    desk: &mut Desk<'_>,
    engine: &mut Engine,
    lab: &LabName,
    edit: impl FnOnce(&mut Json) -> Result<(), CallError>,
) -> Result<Done, CallError> {
    let (_, done) = edit::apply(desk, engine, lab, edit).await?;
    desk.warn(&done.moved.warnings);
    Ok(done)
}

/// Keeps what was attached with a time to confirm it in. From a new connection, so
/// that it is known that one can be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NicConfirm {
    /// What `nic.attach` said; the only one if it is not said.
    pub id: Option<String>,
}

/// What stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmed {
    /// The NICs.
    pub nics: Vec<String>,
}

impl Call for NicConfirm {
    const NAME: &'static str = "nic.confirm";
    type Answer = Confirmed;

    async fn run(self, _: &mut Desk<'_>) -> Result<Confirmed, CallError> {
        // Not by way of a recovery: what waits is to be kept, not taken back.
        allowed(&[Capability::NetAdmin])?;
        let mut engine = Engine::open("ovsns confirm").await?;
        let nics = engine.confirm(self.id.as_deref()).await?;
        Ok(Confirmed { nics: nics.iter().map(ToString::to_string).collect() })
    }
}

/// Brings a NIC home, with its addresses, routes and rules, and with what became of
/// them in between.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NicDetach {
    /// The NIC.
    pub nic: String,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl Call for NicDetach {
    const NAME: &'static str = "nic.detach";
    type Answer = Shared;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Shared, CallError> {
        let nic = IfName::new(&self.nic)?;
        let mut engine = desk.engine(&format!("ovsns detach {nic}")).await?;
        let Some(lab) = lab_of(&mut engine, &nic).await? else {
            return Err(CallError::usage(
                format!("`{nic}` is attached to no lab"),
                "`ovsns status` shows what is",
            ));
        };
        let edit = |file: &mut Json| {
            if let Some(uplinks) = file["uplinks"].as_object_mut() {
                uplinks.remove(nic.as_str());
            }
            let ends = [Share::Move, Share::Macvlan(Macvlan::Bridge)];
            let ends = ends.map(|share| End::Nic(nic.clone(), share).to_string());
            edit::remove_links(file, |link| {
                let mut at = edit::endpoints(link).into_iter();
                at.any(|end| ends.iter().any(|nic| nic == end))
            });
            let linked = |link: &Json| edit::endpoints(link).contains(&nic.as_str());
            let linked = edit::links(file).iter().any(linked);
            // The one that was made for it, unless it found other uses.
            if !linked {
                things(file, "switches").remove(nic.as_str());
            }
            Ok(())
        };
        let planned = edit::edited(&mut engine, &lab, edit)?;
        let lent = engine.attachments(&lab)?.has(&nic);
        if self.dry_run {
            let done = engine.plan(&planned).await?;
            return Ok(Shared::planned(&lab, [done.moved.lines, done.plan.lines()].concat()));
        }
        if planned.switches.is_empty() && planned.nodes.is_empty() {
            engine.down(&lab, &mut desk.progress()).await?;
        } else {
            edit::apply(desk, &mut engine, &lab, edit).await?;
        }
        let said = match lent {
            true => format!("{nic} is home"),
            false => format!("lab {lab} has no macvlan of {nic} any more"),
        };
        Ok(Shared::said(&lab, said))
    }
}

/// The lab that has a NIC, or is to have it, or has a child of it.
async fn lab_of(engine: &mut Engine, nic: &IfName) -> Result<Option<LabName>, CallError> {
    let mut shared = None;
    for lab in engine.labs().await? {
        if engine.attachments(&lab)?.has(nic) {
            return Ok(Some(lab));
        }
        let remembered = engine.state().read(&lab).map_err(EngineError::from)?.lab;
        if remembered.is_some_and(|lab| lab.nics().any(|at| at.nic == nic)) {
            shared.get_or_insert(lab);
        }
    }
    Ok(shared)
}
