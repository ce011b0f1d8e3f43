//! `ovsns keep-ovs`: the process behind an Open vSwitch of our own, and a way
//! to talk to it at night.

use std::io::Read;
use std::path::PathBuf;

use serde::Serialize;

use super::input::allowed;
use super::{CallError, Ending, show};
use crate::api::own;
use crate::kernel::permissions::Capability;
use crate::switch::own::keeper::{self, NotAKeeper};
use crate::switch::own::{Facts, Left, Report, Running, StartOptions, State};

/// Keep an Open vSwitch of our own
///
/// Commands start it by themselves, and the last one stops it. For when that
/// is not enough: `--show` says how it stands, `--start` has it stay until
/// `--stop`, and with `OVS_RUNDIR` set to the directory that they name, the
/// tools of Open vSwitch talk to it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns keep-ovs --show")]
pub(super) struct Args {
    #[command(flatten)]
    what: What,
    /// Print JSON
    #[arg(long, conflicts_with = "directory")]
    json: bool,
    /// Whether its switch does userspace TSO, if it is started now
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    tso: bool,
}

/// One of these.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Say how it stands
    #[arg(long)]
    show: bool,
    /// Start it, and have it stay
    #[arg(long)]
    start: bool,
    /// Stop it, whatever is on it
    #[arg(long)]
    stop: bool,
    /// Use it until the end of standard input, and leave
    #[arg(long)]
    hold: bool,
    /// Mend and use it if there is one, and leave
    #[arg(long = "use")]
    use_it: bool,
    /// Be the keeper of this directory; for `ovsns` itself
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

/// Is the keeper, if that is asked for. It must not have threads yet.
pub(super) fn keep(args: &Args) -> Option<Result<Ending, CallError>> {
    let directory = args.what.directory.clone()?;
    Some(match keeper::run(&keeper::Asked { directory, tso: args.tso }) {
        Ok(()) => Ok(Ending::Well),
        Err(NotAKeeper::Failed(error)) => Err(error.into()),
        Err(error @ NotAKeeper::ByHand) => {
            Err(CallError::usage(error.to_string(), "use `ovsns keep-ovs --start`"))
        }
    })
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    allowed(&[Capability::NetAdmin])?;
    let own = own();
    if args.what.show {
        let report = own.report().await;
        if args.json {
            show::json(&ReportRow::from(&report));
        } else {
            show::line(&text(&report));
        }
        let is_there = report.state != State::Absent && !report.is_wrong();
        return Ok(if is_there { Ending::Well } else { Ending::No });
    }
    if args.what.stop {
        let was_there = own.stop().await?;
        show::line(if was_there { "stopped" } else { "there was none" });
        return Ok(Ending::Well);
    }
    if args.what.use_it {
        let Some(running) = own.running().await? else {
            show::line("there is none");
            return Ok(Ending::No);
        };
        tell(args, &running);
        leave(running).await?;
        return Ok(Ending::Well);
    }
    let running = own.start(StartOptions { tso: args.tso, keep: args.what.start }).await?;
    tell(args, &running);
    if args.what.hold {
        // Nothing else is done meanwhile; the keeper minds nobody's silence.
        std::io::stdin().read_to_end(&mut Vec::new()).map_err(CallError::not_started)?;
        leave(running).await?;
    }
    Ok(Ending::Well)
}

async fn leave(running: Running) -> Result<(), CallError> {
    match running.leave().await? {
        Left::Stopped => show::line("left: stopped"),
        Left::Stays(why) => show::line(&format!("left: {why}")),
    }
    Ok(())
}

#[derive(Serialize)]
struct RunningRow<'a> {
    db: &'a PathBuf,
    vswitchd_ctl: &'a PathBuf,
    rundir: &'a PathBuf,
    version: &'a Option<String>,
    tso: bool,
    keeper: u32,
}

fn tell(args: &Args, running: &Running) {
    let Running { db, vswitchd_ctl, rundir, version, tso, keeper, .. } = running;
    if args.json {
        show::json(&RunningRow { db, vswitchd_ctl, rundir, version, tso: *tso, keeper: *keeper });
    } else {
        show::line(&format!(
            "Open vSwitch {} runs, {} userspace TSO, keeper {keeper}\nexport OVS_RUNDIR={}",
            version.as_deref().unwrap_or("of an unknown version"),
            if *tso { "with" } else { "without" },
            rundir.display(),
        ));
    }
}

#[derive(Serialize)]
struct ReportRow<'a> {
    state: &'static str,
    facts: Option<&'a Facts>,
    directory: Option<&'a PathBuf>,
    error: Option<String>,
    missing: Option<String>,
    logs: &'a [(String, Vec<String>)],
}

impl<'a> From<&'a Report> for ReportRow<'a> {
    fn from(report: &'a Report) -> Self {
        let row = Self {
            state: "absent",
            facts: None,
            directory: None,
            error: None,
            missing: report.missing.as_ref().map(ToString::to_string),
            logs: &report.logs,
        };
        match &report.state {
            State::Absent => row,
            State::Kept(facts) => Self { state: "kept", facts: Some(facts), ..row },
            State::Abandoned(directory) => {
                Self { state: "abandoned", directory: Some(directory), ..row }
            }
            State::Unknown(error) => {
                Self { state: "unknown", error: Some(error.to_string()), ..row }
            }
        }
    }
}

fn text(report: &Report) -> String {
    let mut lines = vec![report.to_string()];
    for (name, log) in &report.logs {
        lines.push(format!("{name}:"));
        lines.extend(log.iter().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}
