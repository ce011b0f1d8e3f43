//! `ovsns switch`

use super::ask::{ListArgs, change};
use super::input::Choice;
use super::settings::{self, Setting};
use super::{CallError, Ending};
use crate::api::view::{LabView, SwitchView};
use crate::api::{SwitchAdd, SwitchRm, SwitchSet};

/// Add, remove, change or list switches of a running lab
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example: ovsns switch add s2\n         ovsns switch set s2 mtu=9000")]
pub(super) enum Command {
    Add(AddArgs),
    Rm(RmArgs),
    Set(SetArgs),
    /// List the switches of a lab
    #[command(after_help = "Example: ovsns switch list --json")]
    List(ListArgs),
}

/// Add a switch to a running lab
///
/// Undo with `ovsns switch rm SWITCH`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns switch add s2 --stp\n         \
                  ovsns switch add s3 backend=ovs fail_mode=secure")]
pub(super) struct AddArgs {
    /// The switch's name
    switch: String,
    /// Speak spanning tree, so that loops are cut
    #[arg(long)]
    stp: bool,
    /// The name of its bridge in the kernel [default: derived from the names]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// What it is made of, unless a key says it
    #[arg(long, value_name = "BACKEND", default_value = "auto", env = "OVSNS_BACKEND")]
    backend: Choice,
    /// Keys of a switch in the topology file (`ovsns schema` lists them)
    #[arg(value_name = "KEY=VALUE")]
    settings: Vec<Setting>,
    /// The lab, which is made if it is not there [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Remove a switch and its links from a running lab
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns switch rm s2")]
pub(super) struct RmArgs {
    /// The switch
    switch: String,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Change a switch of a running lab
///
/// Any key of a switch in the topology file, with its value as the file would
/// have it; `KEY=` takes it away. `ovsns schema` lists them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns switch set s1 rstp=true\n         \
                  ovsns switch set s1 controllers=[tcp:127.0.0.1:6653]\n         \
                  ovsns switch set s1 mirrors.span.from=[n1] mirrors.span.output=n3")]
pub(super) struct SetArgs {
    /// The switch
    switch: String,
    /// What to set
    #[arg(value_name = "KEY=VALUE", required = true)]
    settings: Vec<Setting>,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

pub(super) async fn run(command: &Command) -> Result<Ending, CallError> {
    match command {
        Command::Add(AddArgs { switch, stp, device, backend, settings, lab }) => {
            let (switch, device, lab) = (switch.clone(), device.clone(), lab.clone());
            let (backend, set) = (backend.backend(), settings::all(settings));
            change("switch add", SwitchAdd { switch, stp: *stp, device, backend, set, lab })
                .await?;
        }
        Command::Rm(RmArgs { switch, lab }) => {
            change("switch rm", SwitchRm { switch: switch.clone(), lab: lab.clone() }).await?;
        }
        Command::Set(SetArgs { switch, settings, lab }) => {
            let (switch, lab) = (switch.clone(), lab.clone());
            change("switch set", SwitchSet { switch, set: settings::all(settings), lab }).await?;
        }
        Command::List(args) => args.show(|view| &view.switches, table).await?,
    }
    Ok(Ending::Well)
}

/// A row a switch.
pub(super) fn table(view: &LabView) -> Vec<Vec<String>> {
    let head = ["SWITCH", "BACKEND", "STATE", "PORTS", "STP", "DEVICE", "MAC", "MTU"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for switch in &view.switches {
        rows.push(vec![
            switch.name.clone(),
            switch.backend.clone(),
            if switch.up { "up" } else { "down" }.to_owned(),
            switch.ports.len().to_string(),
            spanning_tree(switch).to_owned(),
            switch.device.clone(),
            switch.mac.clone(),
            switch.mtu.to_string(),
        ]);
    }
    rows
}

/// Which spanning tree protocol a switch speaks.
fn spanning_tree(switch: &SwitchView) -> &'static str {
    match (switch.rstp, switch.stp) {
        (true, _) => "rstp",
        (false, true) => "on",
        (false, false) => "off",
    }
}
