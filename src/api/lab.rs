//! Labs as wholes.

use std::net::IpAddr;
use std::time::Instant;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::desk::one_lab;
use super::view::LabView;
use super::{Call, CallError, Desk, Failure, edit};
use crate::engine::EngineError;
use crate::engine::attach::Wishes;
use crate::model::file;
use crate::model::names::LabName;
use crate::model::topology::{Backend, Lab};

/// What a lab is to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Topology {
    /// A topology file, in YAML or JSON.
    Text(String),
    /// The same, as JSON that has been read.
    Tree(Map<String, Json>),
    /// One that was read and checked by whoever asks.
    Read(Box<Lab>),
}

impl Serialize for Topology {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Tree(tree) => tree.serialize(serializer),
            Self::Read(lab) => file::to_file(lab).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Topology {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::String(text) => Ok(Self::Text(text)),
            Json::Object(tree) => Ok(Self::Tree(tree)),
            _ => Err(serde::de::Error::custom("a topology is a file's text, or an object")),
        }
    }
}

impl JsonSchema for Topology {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Topology".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A topology file: its text (YAML or JSON), or what it holds as an \
                            object. `ovsns schema` prints what it may hold.",
            "type": ["string", "object"],
        })
    }
}

impl Topology {
    fn lab(self, named: Option<LabName>) -> Result<Lab, CallError> {
        let text = match self {
            Self::Read(lab) => return Ok(*lab),
            Self::Text(text) => text.into_bytes(),
            Self::Tree(tree) => serde_json::to_vec_pretty(&tree).expect("JSON is JSON"),
        };
        // A server has no business with files of whoever asks.
        let mut beside =
            |_: &str| Err("files are not read for others; give its text: `text:`".to_owned());
        let fallback = named.as_ref().map(LabName::as_str);
        Ok(file::read_as(None, &text, "topology", fallback, &mut beside)?.lab)
    }
}

/// The lab that is asked for: a topology or a shape, by the name and of the backend
/// that are insisted on.
fn asked(
    topology: Option<Topology>,
    shape: Option<&str>,
    named: Option<&str>,
    backend: Option<Backend>,
) -> Result<Lab, CallError> {
    let named = named.map(LabName::new).transpose()?;
    let mut lab = match (topology, shape) {
        (Some(topology), None) => topology.lab(named.clone())?,
        (None, Some(shape)) => {
            file::shape(shape, named.as_ref().unwrap_or(&LabName::default_lab()))?
        }
        _ => {
            return Err(CallError::usage(
                "what the lab is to be is not said",
                "give one of `topology`, `shape` and `again`",
            ));
        }
    };
    lab.name = named.unwrap_or(lab.name);
    for switch in lab.switches.values_mut() {
        switch.backend = switch.backend.or(backend);
    }
    Ok(lab)
}

/// Makes the world match a topology: makes a lab, or changes what is there where it
/// differs. If a step fails, all is taken back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabUp {
    /// What it is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// A classic shape instead: `single,N`, `linear,N`, `tree,D,F`, `ring,N`.
    pub shape: Option<String>,
    /// The lab's name, whatever the topology says.
    pub lab: Option<String>,
    /// What the switches are made of that do not say it themselves; the best that
    /// this machine has if nothing is said.
    pub backend: Option<Backend>,
    /// Instead of all that: mend a lab, as it is to be by now.
    pub again: bool,
    /// From where the machine is administered: the way there is looked after while
    /// NICs are attached.
    pub ssh: Option<IpAddr>,
}

/// What a lab has become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Made {
    /// The lab.
    pub lab: String,
    /// What was done, each a line as `ovsns plan` prints it; none if all was so.
    pub steps: Vec<String>,
    /// How many nodes it has.
    pub nodes: usize,
    /// How many switches.
    pub switches: usize,
    /// How many links.
    pub links: usize,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

impl Call for LabUp {
    const NAME: &'static str = "lab.up";
    type Answer = Made;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Made, CallError> {
        let start = Instant::now();
        if self.again {
            alone(self.topology.is_some() || self.shape.is_some())?;
            let named = self.lab.as_deref();
            let (lab, done) = edit::again(desk, named).await?;
            return Ok(made(&lab, desk.steps(&done), start));
        }
        let lab = asked(self.topology, self.shape.as_deref(), self.lab.as_deref(), self.backend)?;
        let mut engine = desk.engine(&format!("ovsns up (lab {})", lab.name)).await?;
        engine.wish(Wishes { ssh: self.ssh, ..Wishes::default() });
        desk.tell_backend(&mut engine, &lab).await?;
        let start = Instant::now();
        let done = engine.up(&lab, &mut desk.progress()).await?;
        Ok(made(&lab, desk.steps(&done), start))
    }
}

/// A lab is what it was to be, or what is said now.
fn alone(something_is_said: bool) -> Result<(), CallError> {
    match something_is_said {
        false => Ok(()),
        true => Err(CallError::usage(
            "`again` is said, and what the lab is to be",
            "give one of `topology`, `shape` and `again`",
        )),
    }
}

fn made(lab: &Lab, steps: Vec<String>, start: Instant) -> Made {
    Made {
        lab: lab.name.to_string(),
        steps,
        nodes: lab.nodes.len(),
        switches: lab.switches.len(),
        links: lab.links.len(),
        ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// Says what `lab.up` would do, and does nothing. What would be refused is refused
/// here, too.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabPlan {
    /// What the lab is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
    /// A classic shape instead: `single,N`, `linear,N`, `tree,D,F`, `ring,N`.
    pub shape: Option<String>,
    /// The lab's name, whatever the topology says.
    pub lab: Option<String>,
    /// What the switches are made of that do not say it themselves.
    pub backend: Option<Backend>,
    /// Instead of all that: what would mend a lab.
    pub again: bool,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Planned {
    /// The lab.
    pub lab: String,
    /// Each a line: `+` makes, `-` removes, `~` changes.
    pub steps: Vec<String>,
}

impl Call for LabPlan {
    const NAME: &'static str = "lab.plan";
    type Answer = Planned;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Planned, CallError> {
        let lab = match self.again {
            true => {
                alone(self.topology.is_some() || self.shape.is_some())?;
                let mut engine = desk.engine("ovsns up --again --dry-run").await?;
                let (name, _) = edit::lab_to_change(&mut engine, self.lab.as_deref()).await?;
                edit::edited(&mut engine, &name, |_| Ok(()))?
            }
            false => {
                asked(self.topology, self.shape.as_deref(), self.lab.as_deref(), self.backend)?
            }
        };
        let mut engine = desk.engine("ovsns plan").await?;
        desk.tell_backend(&mut engine, &lab).await?;
        let done = engine.plan(&lab).await?;
        Ok(Planned { lab: lab.name.to_string(), steps: desk.steps(&done) })
    }
}

/// Removes a lab, and only it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabDown {
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
    /// All labs.
    pub all: bool,
    /// It is well if there is none.
    pub if_exists: bool,
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// The labs that are gone.
    pub labs: Vec<String>,
    /// Of all labs, those that could not be removed: why.
    pub failures: Vec<Failure>,
}

impl Call for LabDown {
    const NAME: &'static str = "lab.down";
    type Answer = Removed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Removed, CallError> {
        let mut engine = desk.engine("ovsns down").await?;
        let mut removed = Removed { labs: Vec::new(), failures: Vec::new() };
        if !self.all {
            if self.if_exists && self.lab.is_none() && engine.labs().await?.is_empty() {
                return Ok(removed);
            }
            let lab = one_lab(&mut engine, self.lab.as_deref()).await?;
            match engine.down(&lab, &mut desk.progress()).await {
                Ok(_) => removed.labs.push(lab.to_string()),
                Err(EngineError::NoLab(_)) if self.if_exists => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(removed);
        }
        if let Some(lab) = self.lab {
            return Err(CallError::usage(
                format!("`all` and the lab `{lab}` are both asked for"),
                "leave out one of them",
            ));
        }
        for lab in engine.labs().await? {
            match engine.down(&lab, &mut desk.progress()).await {
                Ok(_) => removed.labs.push(lab.to_string()),
                // One that cannot be removed keeps no other.
                Err(error) => removed.failures.push(CallError::from(error).told()),
            }
        }
        Ok(removed)
    }
}

/// Lists the labs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabList {}

/// A lab in few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabRow {
    /// The lab.
    pub lab: String,
    /// `up`, `drifted` (something differs from its file), `cut off` (a command was
    /// killed in the middle of a change), `unremembered` (its state is lost) or
    /// `damaged` (its state cannot be read).
    pub state: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// How many switches.
    pub switches: usize,
    /// How many links.
    pub links: usize,
}

impl Call for LabList {
    const NAME: &'static str = "lab.list";
    type Answer = Vec<LabRow>;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Vec<LabRow>, CallError> {
        let mut engine = desk.engine("ovsns list").await?;
        let mut rows = Vec::new();
        for lab in engine.labs().await? {
            match LabView::look(&mut engine, &lab).await {
                Ok(view) => rows.push(LabRow {
                    lab: view.lab,
                    state: view.state,
                    nodes: view.nodes.len(),
                    switches: view.switches.len(),
                    links: view.links.len(),
                }),
                // One that cannot be read hides no other.
                Err(EngineError::State(_)) => rows.push(LabRow {
                    lab: lab.to_string(),
                    state: "damaged".into(),
                    nodes: 0,
                    switches: 0,
                    links: 0,
                }),
                // It went away since it was listed.
                Err(EngineError::NoLab(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rows)
    }
}

/// Shows a lab: its state, addresses, counters, and what differs from its file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabStatus {
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

impl Call for LabStatus {
    const NAME: &'static str = "lab.status";
    type Answer = LabView;

    async fn run(self, desk: &mut Desk<'_>) -> Result<LabView, CallError> {
        let mut engine = desk.engine("ovsns status").await?;
        let lab = one_lab(&mut engine, self.lab.as_deref()).await?;
        Ok(LabView::look(&mut engine, &lab).await?)
    }
}

/// Removes what a crash left: labs that carry our mark and that no file remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gc {}

impl Call for Gc {
    const NAME: &'static str = "gc";
    type Answer = Vec<String>;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Vec<String>, CallError> {
        let mut engine = desk.engine("ovsns gc").await?;
        Ok(engine.gc(&mut desk.progress()).await?)
    }
}
