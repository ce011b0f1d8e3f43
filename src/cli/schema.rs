//! `ovsns schema`

use super::{CallError, Ending, show};
use crate::model::file;

/// Print the JSON Schema of the topology file
///
/// Editors complete and check a file with it, for example through a first
/// line `# yaml-language-server: $schema=ovsns.schema.json`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns schema > ovsns.schema.json")]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> Result<Ending, CallError> {
    show::json(&file::json_schema());
    Ok(Ending::Well)
}
