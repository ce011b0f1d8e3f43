//! Flows of switches, and the ways that packets take by them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::desk::one_lab;
use super::edit::{self, Changed, things};
use super::{Call, CallError, Desk, no_switch};
use crate::engine::{Engine, EngineError};
use crate::model::flow::{self, BadFlow, Form};
use crate::model::mark::{Mark, Thing};
use crate::model::names::{IfName, LabName, SwitchName};
use crate::model::ports::{NoPort, Ports};
use crate::model::topology::Lab;
use crate::model::world::{FlowSpec, Questions, SeenSwitch, World};
use crate::plan::{self, Wanted};
use crate::switch::{Flow, OpenFlow};

/// Adds a flow to a switch, in the place of one with the same table, priority and match.
/// The lab remembers it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowAdd {
    /// The switch.
    pub switch: String,
    /// The flow, as `ovs-ofctl add-flow` takes it, with `n1`, `n1:eth0`, the name of a
    /// switch or of a tunnel in place of a port's number.
    pub flow: String,
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

impl Call for FlowAdd {
    const NAME: &'static str = "flow.add";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        add(self, desk).await
    }
}

/// Deletes flows of ours from a switch. Those of a controller, and others that are not
/// ours, stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowDel {
    /// The switch.
    pub switch: String,
    /// The flow, by its table, priority and match; actions need not be said.
    pub flow: Option<String>,
    /// All of ours, instead.
    #[serde(default)]
    pub all: bool,
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

impl Call for FlowDel {
    const NAME: &'static str = "flow.del";
    type Answer = Changed;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
        del(self, desk).await
    }
}

/// Shows the flows of a switch, those of others among them, in the order in which they
/// count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowDump {
    /// The switch.
    pub switch: String,
    /// Also those that Open vSwitch makes for itself and hides.
    #[serde(default)]
    pub all: bool,
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

impl Call for FlowDump {
    const NAME: &'static str = "flow.dump";
    type Answer = Vec<FlowView>;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Vec<FlowView>, CallError> {
        let lab = self.lab.as_deref();
        let mut place = Place::find(desk, "ovsns flow dump", lab, &self.switch).await?;
        let called = place.ports();
        let spec = place.seen()?.spec.clone();
        let flows = place.openflow()?.flows(&spec, self.all).await;
        let flows = flows.map_err(EngineError::ObserveSwitches)?;
        Ok(flows.iter().map(|flow| FlowView::new(flow, &called)).collect())
    }
}

/// Says which way a packet would take through a switch, and through those behind. No
/// packet is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowTrace {
    /// The switch.
    pub switch: String,
    /// Which packet, as the match of a flow says it, such as `in_port=n1,icmp`.
    pub packet: String,
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

/// Which way a packet would take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traced {
    /// The lab.
    pub lab: String,
    /// The switch at which it comes in.
    pub switch: String,
    /// What Open vSwitch takes it for.
    pub packet: Option<String>,
    /// What becomes of it in the end, one for each time that it comes out of connection
    /// tracking.
    pub actions: Vec<String>,
    /// All of that, in Open vSwitch's words, with the names of the lab.
    pub text: String,
}

impl Call for FlowTrace {
    const NAME: &'static str = "flow.trace";
    type Answer = Traced;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Traced, CallError> {
        let lab = self.lab.as_deref();
        let mut place = Place::find(desk, "ovsns trace", lab, &self.switch).await?;
        let (ports, bridges) = (place.ports(), place.bridges());
        let packet = place.packet(&self.packet)?;
        let spec = place.seen()?.spec.clone();
        let traced = place.openflow()?.trace(&spec, &packet).await;
        let traced = traced.map_err(EngineError::ObserveSwitches)?.map_err(|why| {
            CallError::usage(
                format!("Open vSwitch cannot read the packet `{}`: {why}", self.packet),
                "write it like the match of a flow, such as `in_port=n1,icmp,nw_dst=10.0.0.2`",
            )
        })?;
        let text = in_words(&traced, &ports, &bridges);
        let said = |head: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(head));
            lines.map(|line| line.trim().to_owned()).collect()
        };
        Ok(Traced {
            lab: place.lab.to_string(),
            switch: place.switch.to_string(),
            packet: said("Flow:").into_iter().next(),
            actions: said("Datapath actions:"),
            text,
        })
    }
}

async fn add(call: FlowAdd, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
    let FlowAdd { switch, flow: words, lab } = call;
    let mut place = Place::find(desk, "ovsns flow add", lab.as_deref(), &switch).await?;
    let lab = place.lab_as_remembered()?;
    let flow = written(&lab, &place.switch, &words)?;
    let (new, there) = place.read(&lab, &words, &flow).await?;
    let same = |(_, form): &&(String, Form)| form.matches == new.matches;
    let replaced: Vec<_> = there.iter().filter(same).collect();
    // Written in another way, it is the same flow.
    let is_there = replaced.iter().any(|(_, form)| *form == new);
    let replaced: Vec<String> = replaced.iter().map(|(text, _)| text.clone()).collect();
    if replaced.is_empty()
        && let Some(theirs) = place.taken(&lab, &new).await?
    {
        let bridge = &place.seen()?.spec.device;
        let matches = theirs.split("actions=").next().unwrap_or_default();
        let matches = matches.trim_end_matches([',', ' ']);
        return Err(CallError::usage(
            format!("switch `{}` has a flow of others with that match: `{theirs}`", place.switch),
            format!("if it may go: `ovs-ofctl --strict del-flows {bridge} '{matches}'`"),
        ));
    }
    let switch = place.switch.clone();
    place
        .change(desk, |file| {
            let flows = flows_of(file, &switch)?;
            if !is_there {
                flows.retain(|flow| !replaced.iter().any(|old| *flow == **old));
                flows.push(json!(flow));
            }
            Ok(())
        })
        .await
}

async fn del(call: FlowDel, desk: &mut Desk<'_>) -> Result<Changed, CallError> {
    let FlowDel { switch, flow, all, lab } = call;
    let mut place = Place::find(desk, "ovsns flow del", lab.as_deref(), &switch).await?;
    let lab = place.lab_as_remembered()?;
    let gone = match (&flow, all) {
        (None, true) => {
            lab.switches.get(&place.switch).map(|s| s.flows.clone()).unwrap_or_default()
        }
        (None, false) | (Some(_), true) => {
            let hint = "give one of `flow` and `all`";
            return Err(CallError::usage("which flows are meant is not said", hint));
        }
        (Some(words), false) => {
            let whole = match flow::has_actions(words) {
                true => words.clone(),
                false => format!("{words},actions=drop"),
            };
            let flow = written(&lab, &place.switch, &whole)?;
            let (meant, there) = place.read(&lab, words, &flow).await?;
            let same = |(_, form): &&(String, Form)| form.matches == meant.matches;
            let gone: Vec<_> = there.iter().filter(same).map(|(text, _)| text.clone()).collect();
            if gone.is_empty() {
                return Err(not_there(&place.switch, words, &meant, &there));
            }
            gone
        }
    };
    let switch = place.switch.clone();
    place
        .change(desk, |file| {
            flows_of(file, &switch)?.retain(|flow| !gone.iter().any(|old| *flow == **old));
            Ok(())
        })
        .await
}

/// No flow of ours has that table, priority and match.
fn not_there(
    switch: &SwitchName,
    words: &str,
    meant: &Form,
    there: &[(String, Form)],
) -> CallError {
    // Whoever forgets a priority means 32768.
    let fields = |form: &Form| -> Vec<String> {
        let fields = form.matches.split([' ', ',']).map(str::to_owned);
        fields.filter(|it| !it.starts_with("table:") && !it.starts_with("priority=")).collect()
    };
    let near = there.iter().find(|(_, form)| fields(form) == fields(meant));
    CallError::usage(
        format!("switch `{switch}` has no flow of ours with just the match of `{words}`"),
        match near {
            Some((near, _)) => format!("its flow `{near}` has another priority, or table"),
            None => format!(
                "`ovsns flow dump {switch}` shows its flows; those that are not ours are their \
                 controller's to delete"
            ),
        },
    )
}

/// The flows of a switch in a lab's file.
fn flows_of<'f>(file: &'f mut Json, switch: &SwitchName) -> Result<&'f mut Vec<Json>, CallError> {
    let spec = things(file, "switches").get_mut(switch.as_str());
    let spec = spec.and_then(Json::as_object_mut).ok_or_else(|| no_switch(switch))?;
    let flows = spec.entry("flows").or_insert_with(|| json!([]));
    Ok(flows.as_array_mut().expect("a list in every lab's file"))
}

/// A flow with its ports' full names.
fn written(lab: &Lab, switch: &SwitchName, words: &str) -> Result<String, CallError> {
    flow::check(words).map_err(|BadFlow { what, hint }| {
        CallError::usage(what, hint.unwrap_or_else(|| "write one flow, in one line".into()))
    })?;
    with_full_names(&Ports::of(lab, switch), words).map(|text| text.trim().to_owned())
}

/// A flow, or a packet, with the full name of each port.
fn with_full_names(ports: &Ports, words: &str) -> Result<String, CallError> {
    let mut wrong = None;
    let words = flow::with_output(words, |port| ports.know(port));
    let text = flow::with_ports(&words, |port| {
        ports.find_numbered(port).unwrap_or_else(|no| {
            wrong.get_or_insert(no);
            port.to_owned()
        })
    });
    match wrong {
        None => Ok(text),
        Some(NoPort { what, hint }) => Err(CallError::usage(
            what,
            hint.unwrap_or_else(|| "`ovsns status` shows what is linked to each switch".into()),
        )),
    }
}

/// A flow, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlowView {
    /// Whether it is of the lab.
    pub ours: bool,
    /// Whether Open vSwitch made it for itself.
    pub hidden: bool,
    /// Its cookie, in hexadecimal, where that is told.
    pub cookie: Option<String>,
    /// The table it is in.
    pub table: u8,
    /// The higher goes first.
    pub priority: u32,
    /// How long it has been there.
    pub seconds: f64,
    /// Packets that matched.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Such as `flow add` takes it.
    pub flow: String,
}

impl FlowView {
    fn new(flow: &Flow, called: &Called) -> Self {
        let Flow { cookie, ours, hidden, table, priority, seconds, packets, bytes, text } = flow;
        Self {
            ours: *ours,
            hidden: *hidden,
            cookie: cookie.map(|cookie| format!("{cookie:#x}")),
            table: *table,
            priority: *priority,
            seconds: *seconds,
            packets: *packets,
            bytes: *bytes,
            flow: flow::with_devices(text, called),
        }
    }
}

/// What things are called, by their devices.
type Called = BTreeMap<IfName, String>;

/// A switch that a command names, with the lab it is in.
struct Place {
    engine: Engine,
    lab: LabName,
    /// The switch.
    switch: SwitchName,
    world: World,
}

impl Place {
    /// Looks for a switch that has flows.
    async fn find(
        desk: &mut Desk<'_>,
        command: &str,
        lab: Option<&str>,
        switch: &str,
    ) -> Result<Self, CallError> {
        let switch = SwitchName::new(switch)?;
        let mut engine = desk.engine(command).await?;
        let lab = one_lab(&mut engine, lab).await?;
        let world = engine.observe(&Questions::whose(&lab)).await?;
        if world.is_empty() && engine.state().read(&lab).map_err(EngineError::from)?.lab.is_none() {
            return Err(EngineError::NoLab(lab).into());
        }
        let mut place = Self { engine, lab, switch, world };
        place.openflow()?;
        Ok(place)
    }

    /// The switch as it is there.
    fn seen(&self) -> Result<&SeenSwitch, CallError> {
        self.world.fabric.switches.get(&self.switch).ok_or_else(|| no_switch(&self.switch))
    }

    /// The switches of its kind.
    fn openflow(&mut self) -> Result<&mut dyn OpenFlow, CallError> {
        let backend = self.seen()?.spec.backend;
        let switch = self.engine.switch(backend);
        switch.and_then(|switch| switch.openflow()).ok_or_else(|| {
            CallError::usage(
                format!(
                    "switch `{}` is of the backend `{backend}`, which has no flows",
                    self.switch
                ),
                "make the lab with Open vSwitch: `ovsns down`, then `ovsns up FILE --backend ovs`",
            )
        })
    }

    fn lab_as_remembered(&self) -> Result<Lab, CallError> {
        let state = self.engine.state().read(&self.lab).map_err(EngineError::from)?;
        state.lab.ok_or_else(|| edit::not_remembered(&self.lab))
    }

    /// How a flow reads, and those that the lab gives to the switch.
    async fn read(
        &mut self,
        lab: &Lab,
        words: &str,
        flow: &str,
    ) -> Result<(Form, Vec<(String, Form)>), CallError> {
        let backend = self.seen()?.spec.backend;
        let mut with = lab.clone();
        let switch = with.switches.get_mut(&self.switch).ok_or_else(|| no_switch(&self.switch))?;
        switch.flows.push(flow.to_owned());
        let wanted = Wanted::new(&with, backend);
        let spec = &wanted.switches[&self.switch];
        let texts = plan::flow_texts(&wanted, spec, &self.world);
        let numbered: Vec<&str> = texts.iter().map(String::as_str).collect();
        let protocols = &spec.settings.openflow.protocols;
        let forms = self.openflow()?.read(protocols, &numbered).await;
        let mut forms = forms.map_err(EngineError::ObserveSwitches)?;
        let form = forms.pop().expect("one for each flow").map_err(|why| {
            CallError::usage(
                format!("Open vSwitch cannot read the flow `{words}`: {why}"),
                "ovs-ofctl(8) and ovs-actions(7) say how flows are written; a port is \
                 `in_port=n1`, `output:n1`",
            )
        })?;
        let there = lab.switches[&self.switch].flows.iter().cloned().zip(forms);
        Ok((form, there.filter_map(|(text, form)| Some((text, form.ok()?))).collect()))
    }

    /// The flow of others that one of this form would take the place of.
    async fn taken(&mut self, lab: &Lab, new: &Form) -> Result<Option<String>, CallError> {
        let seen = self.seen()?;
        let (spec, own) = (seen.spec.clone(), seen.table_miss.clone());
        let flows = self.openflow()?.flows(&spec, false).await;
        let flows = flows.map_err(EngineError::ObserveSwitches)?;
        // That by which it forwards by itself is there to be replaced.
        let is_own = |flow: &Flow| flow.text == FlowSpec::OWN && own.is_some();
        let theirs = flows.into_iter().filter(|flow| !flow.ours && !is_own(flow));
        let theirs: Vec<String> = theirs.map(|flow| flow.text).collect();
        let wanted = Wanted::new(lab, spec.backend);
        let numbers = wanted.numbers(&spec, &self.world);
        let texts = flow::numbered(theirs.iter().map(String::as_str), &numbers);
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let forms = self.openflow()?.read(&spec.settings.openflow.protocols, &texts).await;
        let forms = forms.map_err(EngineError::ObserveSwitches)?;
        let same =
            |form: &Result<Form, String>| form.as_ref().is_ok_and(|it| it.matches == new.matches);
        Ok(forms.iter().position(same).map(|at| theirs[at].clone()))
    }

    async fn change(
        mut self,
        desk: &mut Desk<'_>,
        edit: impl FnOnce(&mut Json) -> Result<(), CallError>,
    ) -> Result<Changed, CallError> {
        edit::change_in(desk, &mut self.engine, &self.lab, edit).await
    }

    /// What the ports of the lab are called.
    fn ports(&self) -> Called {
        let switches = self.world.fabric.switches.values();
        switches.flat_map(|seen| Ports::seen(seen).devices(&self.lab)).collect()
    }

    /// What its bridges are called. One with a name that somebody gave it is
    /// called by that.
    fn bridges(&self) -> Called {
        let made_up = |seen: &&SeenSwitch| {
            Mark::parse(&seen.spec.alias).is_some_and(|mark| mark.device() == seen.spec.device)
        };
        let switches = self.world.fabric.switches.values().filter(made_up);
        switches.map(|seen| (seen.spec.device.clone(), seen.spec.name.to_string())).collect()
    }

    /// A packet with Open vSwitch's own name of each port.
    fn packet(&self, words: &str) -> Result<String, CallError> {
        let ports = Ports::seen(self.seen()?);
        let text = with_full_names(&ports, words)?;
        let device = |port: &str| {
            let thing = Thing::Port(port.to_owned());
            Mark { lab: self.lab.clone(), thing }.device()
        };
        Ok(flow::with_ports(&text, |port| format!("\"{}\"", device(port))))
    }
}

/// What Open vSwitch says, with names; its lines below heads fit those again.
fn in_words(traced: &str, ports: &Called, bridges: &Called) -> String {
    // Where frames leave, the name of a bridge is its own device.
    let local = bridges.iter().map(|(device, name)| (device.clone(), format!("{name}:LOCAL")));
    let leaves: Called = ports.clone().into_iter().chain(local).collect();
    let all: Called = ports.clone().into_iter().chain(bridges.clone()).collect();
    let mut text = String::new();
    let mut head = 0;
    for line in traced.lines() {
        let line = match line {
            _ if line.starts_with("Datapath actions:") => flow::with_devices(line, &leaves),
            _ if !line.is_empty() && line.bytes().all(|byte| byte == b'-') => "-".repeat(head),
            _ => flow::with_devices(line, &all),
        };
        head = line.chars().count();
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::IfName;

    #[test]
    fn names_in_a_trace() {
        let traced = "Flow: in_port=\"n1eth0.ienan3v2\"\n\nbridge(\"s1.j4wykquh\")\n\
                      ---------------------\n 0. priority 0\n    NORMAL\n\n\
                      Datapath actions: n2eth0.t8z3aitx,s1.j4wykquh\n";
        let called = |device: &str, called: &str| {
            (IfName::new(device).expect("a good name"), called.to_owned())
        };
        let ports = [called("n1eth0.ienan3v2", "n1:eth0"), called("n2eth0.t8z3aitx", "n2:eth0")];
        let bridges = [called("s1.j4wykquh", "s1")];
        assert_eq!(
            in_words(traced, &ports.into(), &bridges.into()),
            "Flow: in_port=n1:eth0\n\nbridge(\"s1\")\n------------\n 0. priority 0\n    NORMAL\n\n\
             Datapath actions: n2:eth0,s1:LOCAL\n"
        );
    }
}
