//! `ovsns cut` and `ovsns heal`

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::running;
use super::view::LabView;
use super::{CliError, Ending};

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

pub(super) async fn cut(args: &CutArgs) -> Result<Ending, CliError> {
    running::change("ovsns cut", args.lab.as_deref(), |file| {
        let cuts = cuts(file);
        let mut free = (1..).map(|number| format!("cut{number}")).filter(|n| !cuts.contains_key(n));
        let name = args.name.clone().or_else(|| free.next()).expect("numbers do not end");
        if cuts.contains_key(&name) {
            return Err(CliError::usage(
                format!("there is a cut `{name}` already"),
                format!("give the new one another `--name`, or heal that: `ovsns heal {name}`"),
            ));
        }
        cuts.insert(name, json!({ "nodes": listed(&args.nodes), "from": listed(&args.from) }));
        Ok(())
    })
    .await?;
    Ok(Ending::Well)
}

pub(super) async fn heal(args: &HealArgs) -> Result<Ending, CliError> {
    running::change("ovsns heal", args.lab.as_deref(), |file| {
        let cuts = cuts(file);
        // Whoever says a name twice means it once.
        for name in args.names.iter().collect::<BTreeSet<_>>() {
            if cuts.remove(name).is_none() {
                let there: Vec<_> = cuts.keys().map(|name| format!("`{name}`")).collect();
                let hint = match there.as_slice() {
                    [] => "no node of the lab is cut from others".to_owned(),
                    some => format!("there is {}; without a name all are healed", some.join(", ")),
                };
                return Err(CliError::usage(format!("there is no cut `{name}`"), hint));
            }
        }
        if args.names.is_empty() {
            cuts.clear();
        }
        Ok(())
    })
    .await?;
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

fn cuts(file: &mut Json) -> &mut Map<String, Json> {
    if !file["cuts"].is_object() {
        file["cuts"] = json!({});
    }
    file["cuts"].as_object_mut().expect("made just above")
}

/// Takes a node that goes out of all cuts, and a cut away that has nobody left.
pub(super) fn remove_node(file: &mut Json, node: &str) {
    cuts(file).retain(|_, cut| {
        ["nodes", "from"].into_iter().all(|side| {
            let Some(nodes) = cut[side].as_array_mut() else { return true };
            nodes.retain(|name| name != node);
            !nodes.is_empty()
        })
    });
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
