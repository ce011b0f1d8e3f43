//! `ovsns attach`, `ovsns confirm` and `ovsns detach`

use std::net::IpAddr;

use serde_json::json;

use super::input::Choice;
use super::running::{self, things};
use super::show::{self, Meter};
use super::{CliError, Ending, input};
use crate::engine::Engine;
use crate::engine::attach::Wishes;
use crate::model::names::{IfName, LabName};

/// Attach a NIC of this machine to a switch
///
/// The NIC becomes a port of the switch, and the machine keeps its addresses,
/// routes and rules on the switch's local device: it stays reachable
/// throughout. If a check fails, the command dies, or nobody confirms in time,
/// all is taken back. Undo with `ovsns detach NIC`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns attach eth0 --confirm 120\n         ovsns attach eth1 --switch s1"
)]
pub(super) struct AttachArgs {
    /// The NIC
    #[arg(value_name = "NIC")]
    nic: String,
    /// The switch [default: one of the NIC's name, made for it]
    #[arg(long, value_name = "SWITCH")]
    switch: Option<String>,
    /// Take it back unless `ovsns confirm` comes within so many seconds
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    confirm: Option<u64>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Also as a second NIC without a spanning tree, or under VLAN devices
    #[arg(long)]
    force: bool,
    /// What a new switch is made of
    #[arg(long, value_name = "BACKEND", default_value = "auto", env = "OVSNS_BACKEND")]
    backend: Choice,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Keep what was attached with `--confirm`
///
/// From a new connection, so that it is known that one can be made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns confirm")]
pub(super) struct ConfirmArgs {
    /// What `ovsns attach --confirm` said [default: the only one]
    #[arg(value_name = "ID")]
    id: Option<String>,
}

/// Bring a NIC home
///
/// The machine gets its addresses, routes and rules back on the NIC, with what
/// became of them in between. A switch that was made for it goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns detach eth0")]
pub(super) struct DetachArgs {
    /// The NIC
    #[arg(value_name = "NIC")]
    nic: String,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn attach(args: &AttachArgs) -> Result<Ending, CliError> {
    let nic = IfName::new(&args.nic)?;
    let mut engine = input::engine(&format!("ovsns attach {nic}")).await?;
    let labs = engine.labs().await?;
    let lab = running::lab_to_change(&labs, args.lab.as_deref())?;
    running::is_known(&engine, &labs, &lab)?;
    engine.wish(Wishes { confirm_s: args.confirm, ssh: ssh_peer() });
    if let Some(switch) = engine.attachments(&lab)?.nics.get(&nic).map(|a| a.switch.name.clone())
        && args.switch.as_ref().is_none_or(|wanted| wanted == switch.as_str())
    {
        show::line(&format!("{nic} is attached to {lab}/{switch}: nothing to change"));
        return Ok(Ending::Well);
    }
    let switch = args.switch.as_deref().unwrap_or(nic.as_str());
    let edit = |file: &mut serde_json::Value| {
        let switches = things(file, "switches");
        if !switches.contains_key(switch) {
            if args.switch.is_some() {
                return Err(super::switch::no_switch_called(switch));
            }
            let backend = args.backend.backend();
            let backend = backend.map_or("auto".to_owned(), |backend| backend.to_string());
            switches.insert(switch.to_owned(), json!({ "backend": backend }));
        }
        file["uplinks"][nic.as_str()] = json!({ "switch": switch, "force": args.force });
        Ok(())
    };
    let planned = running::edited(&mut engine, &lab, edit)?;
    input::tell_backend(&mut engine, &planned).await?;
    if args.dry_run {
        let done = engine.plan(&planned).await?;
        warn(&done.moved.warnings);
        say_steps(&lab, &[done.plan.lines(), done.moved.lines].concat());
        return Ok(Ending::Well);
    }
    let mut meter = Meter::new(&format!("attach {nic}"));
    let done = running::apply(&mut engine, &lab, edit, &mut meter).await;
    drop(meter);
    let moved = done?.moved;
    warn(&moved.warnings);
    match (&moved.unconfirmed, args.confirm) {
        (Some(id), Some(seconds)) => show::line(&format!(
            "{nic} is attached to {lab}/{switch}; unless you say `ovsns confirm {id}` within \
             {seconds} s, it is taken back"
        )),
        _ => show::line(&format!("{nic} is attached to {lab}/{switch}")),
    }
    Ok(Ending::Well)
}

pub(super) async fn confirm(args: &ConfirmArgs) -> Result<Ending, CliError> {
    // Not by way of a recovery: what waits is to be kept, not taken back.
    input::allowed(&[crate::kernel::permissions::Capability::NetAdmin])?;
    let mut engine = Engine::open("ovsns confirm").await?;
    for nic in engine.confirm(args.id.as_deref()).await? {
        show::line(&format!("{nic} stays attached"));
    }
    Ok(Ending::Well)
}

pub(super) async fn detach(args: &DetachArgs) -> Result<Ending, CliError> {
    let nic = IfName::new(&args.nic)?;
    let mut engine = input::engine(&format!("ovsns detach {nic}")).await?;
    let Some(lab) = lab_of(&mut engine, &nic).await? else {
        return Err(CliError::usage(
            format!("`{nic}` is attached to no lab"),
            "`ovsns status` shows what is",
        ));
    };
    let edit = |file: &mut serde_json::Value| {
        if let Some(uplinks) = file["uplinks"].as_object_mut() {
            uplinks.remove(nic.as_str());
        }
        let linked = |link: &serde_json::Value| running::endpoints(link).contains(&nic.as_str());
        let linked = running::links(file).iter().any(linked);
        // The one that was made for it, unless it found other uses.
        if !linked {
            things(file, "switches").remove(nic.as_str());
        }
        Ok(())
    };
    let planned = running::edited(&mut engine, &lab, edit)?;
    if args.dry_run {
        let done = engine.plan(&planned).await?;
        say_steps(&lab, &[done.moved.lines, done.plan.lines()].concat());
        return Ok(Ending::Well);
    }
    let mut meter = Meter::new(&format!("detach {nic}"));
    let empty = planned.switches.is_empty() && planned.nodes.is_empty();
    let done = match empty {
        true => {
            let done = engine.down(&lab, &mut |done, all| meter.set(done, all)).await;
            done.map(drop).map_err(CliError::from)
        }
        false => running::apply(&mut engine, &lab, edit, &mut meter).await.map(drop),
    };
    drop(meter);
    done?;
    show::line(&format!("{nic} is home"));
    Ok(Ending::Well)
}

/// The lab that has a NIC, or is to have it.
async fn lab_of(engine: &mut Engine, nic: &IfName) -> Result<Option<LabName>, CliError> {
    for lab in engine.labs().await? {
        if engine.attachments(&lab)?.nics.contains_key(nic) {
            return Ok(Some(lab));
        }
    }
    Ok(None)
}

fn say_steps(lab: &LabName, lines: &[String]) {
    show::line(&format!("lab {lab}: {} steps\n  {}", lines.len(), lines.join("\n  ")));
}

pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        show::talk(&format!("warning: {warning}"));
    }
}

/// Where the ssh connection of this command comes from (`ssh(1)`).
pub(super) fn ssh_peer() -> Option<IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    connection.split(' ').next()?.parse().ok()
}
