//! The front: one file a command, and the only room that prints.
//!
//! Results go to standard output, talk and progress to standard error, so
//! that a script can read the one and a person the other.

mod api;
mod ask;
mod attach;
mod capture;
mod cut;
mod doctor;
mod down;
mod exec;
mod flow;
pub(crate) mod fuzzing;
mod gc;
mod graph;
mod input;
mod keep_leases;
mod keep_nic;
mod keep_node;
mod keep_ovs;
mod link;
mod list;
mod logs;
mod node;
mod ping;
mod plan;
mod report;
mod schema;
mod serve;
mod settings;
mod show;
mod status;
mod switch;
mod top;
mod trace;
mod up;
mod watch;
mod why;

use std::process::ExitCode;

use crate::kernel::permissions;

use clap::{Parser, Subcommand};
use nix::sys::prctl;

use crate::api::CallError;

/// Make labs of network namespaces and switches
///
/// Nodes are Linux network namespaces, joined by veth to switches, from one
/// file or one command. What ovsns makes carries its mark; it never changes
/// anything that does not.
#[derive(Debug, Parser)]
#[command(
    name = "ovsns",
    version,
    max_term_width = 100,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Example: ovsns up examples/two-nodes.yaml && ovsns ping && ovsns down"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Do it here, even if a server is there (`ovsns serve`)
    #[arg(long, global = true, env = "OVSNS_NO_SERVER", value_parser = clap::builder::FalseyValueParser::new())]
    no_server: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    Plan(plan::Args),
    Down(down::Args),
    List(list::Args),
    Status(status::Args),
    #[command(subcommand)]
    Node(node::Command),
    #[command(subcommand)]
    Switch(switch::Command),
    #[command(subcommand)]
    Link(link::Command),
    Cut(cut::CutArgs),
    Heal(cut::HealArgs),
    #[command(subcommand)]
    Flow(flow::Command),
    Trace(trace::Args),
    Exec(exec::Args),
    Shell(exec::ShellArgs),
    Logs(logs::Args),
    Ping(ping::Args),
    Capture(capture::Args),
    Why(why::Args),
    Graph(graph::Args),
    Top(top::Args),
    Watch(watch::Args),
    Attach(attach::AttachArgs),
    Confirm(attach::ConfirmArgs),
    Detach(attach::DetachArgs),
    Serve(serve::Args),
    Api(api::Args),
    Doctor(doctor::Args),
    Gc(gc::Args),
    Schema(schema::Args),
    KeepOvs(keep_ovs::Args),
    KeepNic(keep_nic::Args),
    KeepLeases(keep_leases::Args),
    KeepNode(keep_node::Args),
    Become(keep_node::BecomeArgs),
}

impl Command {
    /// Whether it is there to change something.
    fn changes(&self) -> bool {
        match self {
            Self::Up(args) => !args.dry_run,
            Self::Down(_) | Self::Gc(_) => true,
            Self::Node(command) => !matches!(command, node::Command::List(_)),
            Self::Switch(command) => !matches!(command, switch::Command::List(_)),
            Self::Link(command) => !matches!(command, link::Command::List(_)),
            Self::Cut(_) | Self::Heal(_) => true,
            Self::Flow(command) => !matches!(command, flow::Command::Dump(_)),
            Self::Attach(args) => !args.dry_run,
            Self::Detach(args) => !args.dry_run,
            Self::Confirm(_) => true,
            Self::KeepOvs(_) | Self::KeepNic(_) | Self::KeepLeases(_) | Self::KeepNode(_) => true,
            Self::Plan(_)
            | Self::List(_)
            | Self::Status(_)
            | Self::Trace(_)
            | Self::Exec(_)
            | Self::Shell(_)
            | Self::Logs(_)
            | Self::Ping(_)
            | Self::Capture(_)
            | Self::Why(_)
            | Self::Graph(_)
            | Self::Top(_)
            | Self::Watch(_)
            | Self::Serve(_)
            | Self::Api(_)
            | Self::Doctor(_)
            | Self::Schema(_)
            | Self::Become(_) => false,
        }
    }
}

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// All is well.
    Well,
    /// It did its work, and the answer is no.
    No,
    /// A command in a node ended with this status.
    Status(u8),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    // What starts itself again by `/proc/self/exe` is `exe` in lists of processes.
    prctl::set_name(c"ovsns").expect("the kernel reads it from this program");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report::usage(&error),
    };
    ask::set_no_server(cli.no_server);
    // A command that becomes another must not have threads of its own.
    let result = match &cli.command {
        Command::KeepOvs(args) => keep_ovs::keep(args).unwrap_or_else(|| in_runtime(&cli.command)),
        Command::KeepLeases(args) => keep_leases::keep(args),
        Command::Exec(args) => exec::run(args),
        Command::Shell(args) => exec::shell(args),
        Command::Schema(args) => schema::run(args),
        Command::Api(args) => api::run(args),
        Command::Doctor(args) => {
            doctor::try_alone(args).unwrap_or_else(|| in_runtime(&cli.command))
        }
        Command::KeepNode(args) => keep_node::keep(args),
        Command::Become(args) => keep_node::become_command(args),
        other => in_runtime(other),
    };
    let result = result.and_then(|ending| match show::unwritten() {
        None => Ok(ending),
        Some(source) => Err(CallError::Untold { changed: cli.command.changes(), source }),
    });
    match result {
        Ok(Ending::Well) => ExitCode::SUCCESS,
        Ok(Ending::No) => ExitCode::from(1),
        Ok(Ending::Status(status)) => ExitCode::from(status),
        Err(error) => report::failure(&error),
    }
}

fn in_runtime(command: &Command) -> Result<Ending, CallError> {
    permissions::room_for_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CallError::not_started)?;
    runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(args).await,
            Command::Plan(args) => plan::run(args).await,
            Command::Down(args) => down::run(args).await,
            Command::List(args) => list::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Node(command) => node::run(command).await,
            Command::Switch(command) => switch::run(command).await,
            Command::Link(command) => link::run(command).await,
            Command::Cut(args) => cut::cut(args).await,
            Command::Heal(args) => cut::heal(args).await,
            Command::Flow(command) => flow::run(command).await,
            Command::Trace(args) => trace::run(args).await,
            Command::Logs(args) => logs::run(args).await,
            Command::Ping(args) => ping::run(args).await,
            Command::Capture(args) => capture::run(args).await,
            Command::Why(args) => why::run(args).await,
            Command::Graph(args) => graph::run(args).await,
            Command::Top(args) => top::run(args).await,
            Command::Watch(args) => watch::run(args).await,
            Command::Attach(args) => attach::attach(args).await,
            Command::Confirm(args) => attach::confirm(args).await,
            Command::Detach(args) => attach::detach(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Doctor(args) => doctor::run(args).await,
            Command::Gc(args) => gc::run(args).await,
            Command::KeepOvs(args) => keep_ovs::run(args).await,
            Command::KeepNic(args) => keep_nic::run(args).await,
            Command::KeepLeases(_)
            | Command::KeepNode(_)
            | Command::Become(_)
            | Command::Exec(_)
            | Command::Shell(_)
            | Command::Schema(_)
            | Command::Api(_) => unreachable!("run without a runtime"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_short_first_line_and_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && about.len() < 60, "{path}: {about:?}");
            assert!(!about.ends_with('.'), "{path}: {about:?}");
            let example = command.get_after_help().map(ToString::to_string);
            assert!(example.is_some_and(|e| e.contains("Example: ovsns ")), "{path}");
            command.get_subcommands().for_each(|sub| {
                check(sub, &format!("{path} {}", sub.get_name()));
            });
        }
        check(&Cli::command(), "ovsns");
    }
}
