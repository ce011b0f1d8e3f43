//! `ovsns cut` and `ovsns heal`

use std::collections::BTreeSet;

use super::ask::change;
use super::{CallError, Ending};
use crate::api::view::LabView;
use crate::api::{CutHeal, CutMake};

/// Cut nodes off from others of the lab
///
/// No frame of the one set reaches the other, in either direction: IPv4, IPv6,
/// ARP and all else, also through a router. Everybody else still talks to both.
/// Each node drops what comes in from those that it is cut from. A cut is a part
/// of what the lab is to be; undo it with `ovsns heal`, or `ovsns up` with a file
/// that does not have it.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ovsns cut [OPTIONS] <NODES> from <NODES>")]
#[command(after_help = "Example: ovsns cut h1,h2 from h3\n         \
                  ovsns cut 'h[1-3]' from 'h[4-5]' --name split")]
pub(super) struct CutArgs {
    /// The nodes of the one set, with commas between
    #[arg(value_name = "NODES")]
    nodes: String,
    /// The word itself
    #[arg(value_name = "from", value_parser = ["from"], hide = true)]
    word: String,
    /// The nodes of the other
    #[arg(value_name = "NODES")]
    from: String,
    /// What it is called [default: the first free of `cut1`, `cut2`...]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

/// Take cuts away
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns heal\n         ovsns heal cut1")]
pub(super) struct HealArgs {
    /// The cuts [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The lab [default: the only one, or `default`]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
}

pub(super) async fn cut(args: &CutArgs) -> Result<Ending, CallError> {
    let CutArgs { nodes, word: _, from, name, lab } = args;
    let (nodes, from) = (listed(nodes), listed(from));
    change("cut", CutMake { nodes, from, name: name.clone(), lab: lab.clone() }).await?;
    Ok(Ending::Well)
}

pub(super) async fn heal(args: &HealArgs) -> Result<Ending, CallError> {
    let HealArgs { names, lab } = args;
    change("heal", CutHeal { names: names.clone(), lab: lab.clone() }).await?;
    Ok(Ending::Well)
}

/// Nodes with commas between; not the commas of a range, `h[1,3]`.
fn listed(words: &str) -> Vec<String> {
    let (mut nodes, mut in_range) = (vec![String::new()], false);
    for letter in words.chars() {
        in_range = (in_range || letter == '[') && letter != ']';
        match nodes.last_mut() {
            Some(last) if letter != ',' || in_range => last.push(letter),
            _ => nodes.push(String::new()),
        }
    }
    nodes
}

/// A row a cut.
pub(super) fn table(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = vec![["CUT", "NODES", "FROM"].map(str::to_owned).to_vec()];
    for (name, cut) in &view.cuts {
        let list = |nodes: &BTreeSet<crate::model::names::NodeName>| {
            nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        rows.push(vec![name.to_string(), list(&cut.nodes), list(&cut.from)]);
    }
    rows
}
