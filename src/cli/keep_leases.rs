//! `ovsns keep-leases`, which no help page lists: the process that renews the
//! addresses which a lab's nodes have by DHCP.

use super::{CallError, Ending};
use crate::kernel::leases::keeper;
use crate::model::names::LabName;

/// Keep the leases of a lab's nodes
///
/// Commands start it by themselves, at the other end of its standard input, and
/// it ends by itself.
#[derive(Debug, clap::Args)]
#[command(hide = true, after_help = "Example: ovsns keep-leases --lab default")]
pub(super) struct Args {
    /// The lab
    #[arg(long, value_name = "LAB")]
    lab: String,
}

/// Is the keeper. It must not have threads yet.
pub(super) fn keep(args: &Args) -> Result<Ending, CallError> {
    keeper::run(&LabName::new(&args.lab)?)?;
    Ok(Ending::Well)
}
