//! `ovsns attach`, `ovsns confirm` and `ovsns detach`

use std::net::IpAddr;

use super::ask::ask;
use super::input::Choice;
use super::{CallError, Ending, show};
use crate::api::{How, NicAttach, NicConfirm, NicDetach, Shared};
use crate::model::topology::Macvlan;

/// Attach a NIC of this machine to a switch, or to a node
///
/// The NIC becomes a port of the switch, and the machine keeps its addresses,
/// routes and rules on the switch's local device: it stays reachable
/// throughout. With `--mode macvlan` a node gets a child of the NIC, with
/// `--mode move` the NIC itself. If a check fails, the command dies, or nobody
/// confirms in time, all is taken back. Undo with `ovsns detach NIC`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns attach eth0 --confirm 120\n         ovsns attach eth1 --switch s1\n         \
                  ovsns attach eth1 --mode macvlan --node n1 --address 192.0.2.7/24"
)]
pub(super) struct AttachArgs {
    /// The NIC
    #[arg(value_name = "NIC")]
    nic: String,
    /// The switch [default: one of the NIC's name, made for it]
    #[arg(long, value_name = "SWITCH", conflicts_with = "node")]
    switch: Option<String>,
    /// How it is shared
    #[arg(long, value_name = "MODE", default_value = "bridge")]
    mode: Mode,
    /// The node, which is made if it is not there
    #[arg(long, value_name = "NODE", required_if_eq_any = [("mode", "macvlan"), ("mode", "move")])]
    node: Option<String>,
    /// What it is called in the node [default: the next free ethN]
    #[arg(long, value_name = "INTERFACE", requires = "node")]
    interface: Option<String>,
    /// An address that it has in the node [default: the next free ones of the lab]; repeatable
    #[arg(long = "address", value_name = "ADDRESS/LENGTH", requires = "node")]
    addresses: Vec<String>,
    /// What macvlans of one NIC hear of each other [default: bridge]
    #[arg(long, value_name = "KIND", requires = "node")]
    macvlan: Option<Siblings>,
    /// Take it back unless `ovsns confirm` comes within so many seconds
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    confirm: Option<u64>,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Also as a second NIC without a spanning tree, under VLAN devices, or away
    /// from a machine that needs it
    #[arg(long)]
    force: bool,
    /// What a new switch is made of
    #[arg(long, value_name = "BACKEND", default_value = "auto", env = "OVSNS_BACKEND")]
    backend: Choice,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// How a NIC is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// As a port of a switch
    Bridge,
    /// By a child of it in a node
    Macvlan,
    /// It goes into a node itself
    Move,
}

/// What macvlans of one NIC hear of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Siblings {
    /// Everything
    Bridge,
    /// Nothing
    Private,
    /// What the switch behind the NIC sends back
    Vepa,
    /// There is one alone, with the NIC's own address
    Passthru,
}

impl From<Siblings> for Macvlan {
    fn from(siblings: Siblings) -> Self {
        match siblings {
            Siblings::Bridge => Self::Bridge,
            Siblings::Private => Self::Private,
            Siblings::Vepa => Self::Vepa,
            Siblings::Passthru => Self::Passthru,
        }
    }
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
    pub(super) dry_run: bool,
}

pub(super) async fn attach(args: &AttachArgs) -> Result<Ending, CallError> {
    let shared = ask(&format!("attach {}", args.nic), args.call()).await?;
    show_shared(&shared);
    Ok(Ending::Well)
}

impl AttachArgs {
    fn call(&self) -> NicAttach {
        NicAttach {
            nic: self.nic.clone(),
            switch: self.switch.clone(),
            mode: match self.mode {
                Mode::Bridge => How::Bridge,
                Mode::Macvlan => How::Macvlan,
                Mode::Move => How::Move,
            },
            node: self.node.clone(),
            interface: self.interface.clone(),
            addresses: self.addresses.clone(),
            macvlan: self.macvlan.map(Macvlan::from),
            confirm: self.confirm,
            dry_run: self.dry_run,
            force: self.force,
            backend: self.backend.backend(),
            lab: self.lab.clone(),
            ssh: ssh_peer(),
        }
    }
}

pub(super) async fn confirm(args: &ConfirmArgs) -> Result<Ending, CallError> {
    for nic in ask("confirm", NicConfirm { id: args.id.clone() }).await?.nics {
        show::line(&format!("{nic} stays attached"));
    }
    Ok(Ending::Well)
}

pub(super) async fn detach(args: &DetachArgs) -> Result<Ending, CallError> {
    let DetachArgs { nic, dry_run } = args;
    let call = NicDetach { nic: nic.clone(), dry_run: *dry_run };
    show_shared(&ask(&format!("detach {nic}"), call).await?);
    Ok(Ending::Well)
}

fn show_shared(Shared { lab, said, steps, unconfirmed: _ }: &Shared) {
    match said {
        Some(said) => show::line(said),
        None => {
            show::line(&format!("lab {lab}: {} steps\n  {}", steps.len(), steps.join("\n  ")));
        }
    }
}

/// Where the ssh connection of this command comes from (`ssh(1)`).
pub(super) fn ssh_peer() -> Option<IpAddr> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    connection.split(' ').next()?.parse().ok()
}
