//! `ovsns flow`

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{CallError, Ending, ask, input, show};
use crate::api::edit::{self, things};
use crate::api::{Desk, no_switch};
use crate::engine::{Engine, EngineError};
use crate::model::flow::{self, BadFlow, Form};
use crate::model::mark::{Mark, Thing};
use crate::model::names::{IfName, LabName, SwitchName};
use crate::model::ports::{NoPort, Ports};
use crate::model::topology::Lab;
use crate::model::world::{FlowSpec, Questions, SeenSwitch, World};
use crate::plan::{self, Wanted};
use crate::switch::{Flow, OpenFlow};

/// Add, delete or show OpenFlow flows of a switch
#[derive(Debug, clap::Subcommand)]
#[command(
    after_help = "Example: ovsns flow add s1 'priority=100,icmp,in_port=n1,actions=drop'\n         ovsns flow dump s1"
)]
pub(super) enum Command {
    Add(AddArgs),
    Del(DelArgs),
    Dump(DumpArgs),
}

/// Add a flow to a switch
///
/// As `ovs-ofctl add-flow` takes it, with `n1`, `n1:eth0`, the name of a
/// switch or of a tunnel in place of a port's number; in quotes, Open
/// vSwitch's own name of a port. It takes the place of one with the same
/// table, priority and match. The lab remembers it: one that was lost, as by a
/// restart of the switch, shows in `ovsns status`, and comes back with the next
/// change of the lab. `ovsns up FILE` keeps what the file has (`flows:`). Undo
/// with `ovsns flow del SWITCH FLOW`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns flow add s1 priority=10,in_port=n1,icmp,actions=drop\n         \
                  ovsns flow add s1 in_port=n1,actions=output:n2,output:s2"
)]
pub(super) struct AddArgs {
    /// The switch
    switch: String,
    /// The flow
    flow: String,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Delete a flow of ours from a switch
///
/// A flow is known by its table, priority and match, however they are
/// written; `actions=` need not be said. Flows of a controller, and others
/// that are not ours, stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns flow del s1 priority=10,in_port=n1,icmp\n         \
                  ovsns flow del s1 --all")]
pub(super) struct DelArgs {
    /// The switch
    switch: String,
    /// The flow
    #[arg(required_unless_present = "all")]
    flow: Option<String>,
    /// Delete all flows of ours
    #[arg(long, conflicts_with = "flow")]
    all: bool,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Show the flows of a switch
///
/// All that it has, with what they counted; those of the lab are `ours`. The
/// first that matches in a table counts, and they are in that order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns flow dump s1 --json")]
pub(super) struct DumpArgs {
    /// The switch
    switch: String,
    /// Show flows, too, that Open vSwitch makes for itself and hides
    #[arg(long)]
    all: bool,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: &Command) -> Result<Ending, CallError> {
    match command {
        Command::Add(args) => add(args).await?,
        Command::Del(args) => del(args).await?,
        Command::Dump(args) => dump(args).await?,
    }
    Ok(Ending::Well)
}

async fn add(args: &AddArgs) -> Result<(), CallError> {
    let mut place = Place::find("ovsns flow add", args.lab.as_deref(), &args.switch).await?;
    let lab = place.lab_as_remembered()?;
    let flow = written(&lab, &place.switch, &args.flow)?;
    let (new, there) = place.read(&lab, &args.flow, &flow).await?;
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
        .change(|file| {
            let flows = flows_of(file, &switch)?;
            if !is_there {
                flows.retain(|flow| !replaced.iter().any(|old| *flow == **old));
                flows.push(json!(flow));
            }
            Ok(())
        })
        .await
}

async fn del(args: &DelArgs) -> Result<(), CallError> {
    let mut place = Place::find("ovsns flow del", args.lab.as_deref(), &args.switch).await?;
    let lab = place.lab_as_remembered()?;
    let gone = match &args.flow {
        None => lab.switches.get(&place.switch).map(|s| s.flows.clone()).unwrap_or_default(),
        Some(words) => {
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
        .change(|file| {
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
pub(super) fn with_full_names(ports: &Ports, words: &str) -> Result<String, CallError> {
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

async fn dump(args: &DumpArgs) -> Result<(), CallError> {
    let mut place = Place::find("ovsns flow dump", args.lab.as_deref(), &args.switch).await?;
    let called = place.ports();
    let spec = place.seen()?.spec.clone();
    let flows = place.openflow()?.flows(&spec, args.all).await;
    let flows = flows.map_err(EngineError::ObserveSwitches)?;
    let flows: Vec<FlowView> = flows.iter().map(|flow| FlowView::new(flow, &called)).collect();
    if args.json {
        show::json(&flows);
    } else if flows.is_empty() {
        show::line(&format!("switch {} has no flows", place.switch));
    } else {
        show::line(&show::table(&table(&flows)));
    }
    Ok(())
}

/// A flow, as it is shown.
#[derive(Debug, Serialize)]
struct FlowView {
    /// Whether it is of the lab.
    ours: bool,
    /// Whether Open vSwitch made it for itself.
    hidden: bool,
    cookie: Option<String>,
    table: u8,
    priority: u32,
    seconds: f64,
    packets: u64,
    bytes: u64,
    /// Such as `flow add` takes it.
    flow: String,
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

fn table(flows: &[FlowView]) -> Vec<Vec<String>> {
    let mut rows = vec![["WHOSE", "PACKETS", "BYTES", "FLOW"].map(str::to_owned).to_vec()];
    rows.extend(flows.iter().map(|flow| {
        let whose = match (flow.ours, flow.hidden) {
            (true, _) => "ours",
            (false, true) => "hidden",
            (false, false) => "-",
        };
        let (packets, bytes) = (flow.packets.to_string(), flow.bytes.to_string());
        vec![whose.to_owned(), packets, bytes, flow.flow.clone()]
    }));
    rows
}

/// What things are called, by their devices.
pub(super) type Called = BTreeMap<IfName, String>;

/// A switch that a command names, with the lab it is in.
pub(super) struct Place {
    engine: Engine,
    lab: LabName,
    /// The switch.
    pub(super) switch: SwitchName,
    world: World,
}

impl Place {
    /// Looks for a switch that has flows.
    pub(super) async fn find(
        command: &str,
        lab: Option<&str>,
        switch: &str,
    ) -> Result<Self, CallError> {
        let switch = SwitchName::new(switch)?;
        let mut engine = input::engine(command).await?;
        let lab = input::one_lab(&mut engine, lab).await?;
        let world = engine.observe(&Questions::whose(&lab)).await?;
        if world.is_empty() && engine.state().read(&lab).map_err(EngineError::from)?.lab.is_none() {
            return Err(EngineError::NoLab(lab).into());
        }
        let mut place = Self { engine, lab, switch, world };
        place.openflow()?;
        Ok(place)
    }

    /// The switch as it is there.
    pub(super) fn seen(&self) -> Result<&SeenSwitch, CallError> {
        self.world.fabric.switches.get(&self.switch).ok_or_else(|| no_switch(&self.switch))
    }

    /// The switches of its kind.
    pub(super) fn openflow(&mut self) -> Result<&mut dyn OpenFlow, CallError> {
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
        edit: impl FnOnce(&mut Json) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        let mut hear = ask::show;
        let desk = &mut Desk::new(&mut hear);
        show::changed(&edit::change_in(desk, &mut self.engine, &self.lab, edit).await?);
        Ok(())
    }

    /// What the ports of the lab are called.
    pub(super) fn ports(&self) -> Called {
        let switches = self.world.fabric.switches.values();
        switches.flat_map(|seen| Ports::seen(seen).devices(&self.lab)).collect()
    }

    /// What its bridges are called. One with a name that somebody gave it is
    /// called by that.
    pub(super) fn bridges(&self) -> Called {
        let made_up = |seen: &&SeenSwitch| {
            Mark::parse(&seen.spec.alias).is_some_and(|mark| mark.device() == seen.spec.device)
        };
        let switches = self.world.fabric.switches.values().filter(made_up);
        switches.map(|seen| (seen.spec.device.clone(), seen.spec.name.to_string())).collect()
    }

    /// A packet with Open vSwitch's own name of each port.
    pub(super) fn packet(&self, words: &str) -> Result<String, CallError> {
        let ports = Ports::seen(self.seen()?);
        let text = with_full_names(&ports, words)?;
        let device = |port: &str| {
            let thing = Thing::Port(port.to_owned());
            Mark { lab: self.lab.clone(), thing }.device()
        };
        Ok(flow::with_ports(&text, |port| format!("\"{}\"", device(port))))
    }

    /// The lab that the switch is in.
    pub(super) fn lab(&self) -> &LabName {
        &self.lab
    }
}
