//! `ovsns down`

use super::show::{self, Meter};
use super::{CliError, Ending, input, report};
use crate::model::names::LabName;

/// Remove a lab, and only it
///
/// Removes all that carries the lab's mark, also what a crash left half made.
/// A process that still runs in a node keeps its namespace, without a name
/// and without links, until it ends.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns down two-nodes")]
pub(super) struct Args {
    /// The lab [default: the only one]
    #[arg(value_name = "LAB", conflicts_with = "all")]
    lab: Option<String>,
    /// The lab, for those who type it as with other commands
    #[arg(long = "lab", value_name = "LAB", conflicts_with_all = ["lab", "all"])]
    lab_option: Option<String>,
    /// All labs
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CliError> {
    let named = args.lab.as_deref().or(args.lab_option.as_deref());
    let mut engine = input::engine("ovsns down").await?;
    let labs: Vec<LabName> = if args.all {
        engine.labs().await?.into_iter().collect()
    } else {
        vec![input::one_lab(&mut engine, named).await?]
    };
    if labs.is_empty() {
        show::line("there is no lab");
    }
    let mut failed = None;
    for lab in labs {
        let mut meter = Meter::new(&format!("down {lab}"));
        let removed = engine.down(&lab, &mut |done, all| meter.set(done, all)).await;
        drop(meter);
        match removed {
            Ok(_) => show::line(&format!("lab {lab} is gone")),
            // Of all labs, one that cannot be removed keeps no other.
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    show::err(&report::text(&earlier.into()));
                }
            }
        }
    }
    failed.map_or(Ok(Ending::Well), |error| Err(error.into()))
}
