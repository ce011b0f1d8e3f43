//! `ovsns graph`

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{CallError, Ending, input, show};
use crate::api::view::{KindView, LabView, LinkView, NodeView};
use crate::model::graph::{self, EdgeEnd, Graph, Kind, State, impaired};
use crate::model::names::LabName;
use crate::model::topology::{Backend, Link};

/// Draw a lab
///
/// One that runs, with what is down, what is missing and what is not in its file;
/// or one of a FILE, for which nothing runs and no root is needed. The same lab is
/// the same picture every time.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns graph examples/tree.yaml --format svg -o tree.svg\n         \
                  ovsns graph two-nodes --format dot | dot -Tpdf > two-nodes.pdf"
)]
pub(super) struct Args {
    /// A lab that runs, or a topology file [default: the only lab]
    ///
    /// What has a dot or a slash in it is a file, and `-` is standard input.
    #[arg(value_name = "LAB|FILE", conflicts_with = "topo")]
    what: Option<String>,
    /// A lab that runs, as other commands name it
    #[arg(long, value_name = "LAB", conflicts_with_all = ["what", "topo"])]
    lab: Option<String>,
    /// A classic shape instead: single,N linear,N tree,D,F ring,N
    #[arg(long, value_name = "SHAPE")]
    topo: Option<String>,
    /// How it is drawn
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// Where to, if not to standard output; the file is written whole or not at all
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON: all things and what joins them
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines for a terminal
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown pages
    Mermaid,
    /// A picture
    Svg,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let graph = graph(args).await?;
    let text = match args.format {
        _ if args.json => {
            serde_json::to_string_pretty(&graph).expect("our own types are JSON") + "\n"
        }
        Format::Text => graph::text(&graph),
        Format::Dot => graph::dot(&graph),
        Format::Mermaid => graph::mermaid(&graph),
        Format::Svg => graph::svg(&graph),
    };
    match args.output.as_deref().filter(|path| *path != Path::new("-")) {
        None => show::out(&text),
        Some(path) => {
            let fail = |source| CallError::Output { to: format!("`{}`", path.display()), source };
            write_whole(path, &text).map_err(fail)?;
        }
    }
    Ok(Ending::Well)
}

/// Writes a file under another name first, so that a reader sees the old one or the
/// new one. What is no plain file (a pipe, a terminal) is written to as it is.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    // Behind a symbolic link is the file that is meant.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let known = fs::metadata(&path).ok();
    if known.as_ref().is_some_and(|it| !it.is_file()) {
        return fs::OpenOptions::new().write(true).open(&path)?.write_all(text.as_bytes());
    }
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&part)?;
        if let Some(known) = &known {
            file.set_permissions(known.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, &path)
    })();
    if written.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
        // It may not be there at all; the first failure is the one to tell.
        let _ = fs::remove_file(&part);
    }
    written
}

async fn graph(args: &Args) -> Result<Graph, CallError> {
    if args.topo.is_some() || args.what.as_deref().is_some_and(is_file) {
        let lab = input::drawn(args.what.as_deref().map(Path::new), args.topo.as_deref())?;
        return Ok(Graph::wanted(&lab));
    }
    let mut engine = input::engine("ovsns graph").await?;
    let lab = input::one_lab(&mut engine, args.what.as_deref().or(args.lab.as_deref())).await?;
    let known = engine.labs().await?;
    if !known.contains(&lab) {
        let hint = if Path::new(lab.as_str()).exists() {
            format!("if the file is meant: `ovsns graph ./{lab}`")
        } else {
            "`ovsns list` shows the labs; a file has a dot or a slash in its name".to_owned()
        };
        return Err(CallError::usage(format!("there is no lab `{lab}`"), hint));
    }
    let (view, wanted) = LabView::glance(&mut engine, &lab).await?;
    let graph = seen(&view).in_order();
    Ok(match wanted {
        Some(lab) => {
            let wanted = Graph::wanted(&lab);
            with_parts(graph, &wanted).beside(wanted).in_order()
        }
        None => graph,
    })
}

/// No name of a lab has a dot or a slash in it.
fn is_file(what: &str) -> bool {
    what == "-" || LabName::new(what).is_err()
}

/// What nodes and switches are besides being there is known of the file alone; what
/// a switch is made of was seen.
fn with_parts(mut graph: Graph, wanted: &Graph) -> Graph {
    let parts: BTreeMap<&str, &Vec<String>> =
        wanted.nodes.iter().map(|it| (it.id.as_str(), &it.details)).collect();
    let is_backend = |word: &str| {
        [Backend::Ovs, Backend::Linux].map(|it| it.to_string()).contains(&word.to_owned())
    };
    for vertex in graph.nodes.iter_mut().filter(|it| matches!(it.kind, Kind::Node | Kind::Switch)) {
        let more = parts.get(vertex.id.as_str()).into_iter().flat_map(|it| it.iter());
        let more = more.filter(|it| !is_backend(it) && !vertex.details.contains(it));
        let more: Vec<String> = more.cloned().collect();
        vertex.details.extend(more);
    }
    graph
}

/// A lab as it is there.
fn seen(view: &LabView) -> Graph {
    let mut graph = Graph::new(&view.lab);
    for switch in &view.switches {
        let kind = match &switch.datapath {
            Some(datapath) => format!("{} {datapath}", switch.backend),
            None => switch.backend.clone(),
        };
        let works = switch.up && switch.broken.is_none();
        graph.add(&switch.name, Kind::Switch, vec![kind], state(works));
    }
    for node in &view.nodes {
        let mut details = Vec::new();
        details.extend(node.sealed.map(|_| "sealed".to_owned()));
        details.extend(node.adopted.as_ref().map(|from| format!("adopted from {from}")));
        graph.add(&node.name, Kind::Node, details, State::Up);
    }
    let nodes: BTreeMap<&str, &NodeView> =
        view.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    for link in &view.links {
        let ends = [0, 1].map(|side| end(&mut graph, &nodes, &link.ends[side]));
        let state = if link.held_down { State::HeldDown } else { state(link.up) };
        graph.join(ends, notes(link), state);
    }
    for switch in &view.switches {
        for port in &switch.ports {
            let Some(across) = &port.across else { continue };
            let works = state(port.broken.is_none() && switch.up);
            if let KindView::Tunnel { tunnel, remote, key, .. } = &port.kind {
                let key = key.map(|key| format!("key {key}"));
                let details = [format!("{tunnel} {remote}")].into_iter().chain(key).collect();
                graph.tunnel(&switch.name, across, details, works);
            } else if let Some(nic) = across.strip_prefix("NIC ") {
                let ends = [EdgeEnd::at(&switch.name), graph.nic(nic, State::Up)];
                graph.join(ends, vec!["uplink".into()], works);
            }
        }
    }
    let list = |nodes: &std::collections::BTreeSet<_>| -> String {
        nodes.iter().map(ToString::to_string).collect::<Vec<String>>().join(" ")
    };
    let cuts = view.cuts.iter();
    graph.notes = cuts
        .map(|(name, cut)| format!("cut {name}: {} from {}", list(&cut.nodes), list(&cut.from)))
        .collect();
    graph
}

fn state(works: bool) -> State {
    if works { State::Up } else { State::Down }
}

fn end(graph: &mut Graph, nodes: &BTreeMap<&str, &NodeView>, words: &str) -> EdgeEnd {
    match words.split_once(':') {
        None => EdgeEnd::at(words),
        Some((node, interface)) => match nodes.get(node) {
            // `macvlan:eth1`, `nic:eth1`
            None => graph.nic(interface, State::Up),
            Some(seen) => {
                let seen = seen.interfaces.iter().find(|it| it.name == interface);
                let addresses = seen.into_iter().flat_map(|it| {
                    let dynamic = it.dynamic_addresses.iter().map(|it| &it.address);
                    it.addresses.iter().chain(dynamic).chain(&it.foreign_addresses).cloned()
                });
                EdgeEnd::on(node, interface, addresses.collect())
            }
        },
    }
}

/// What is special about a link.
fn notes(link: &LinkView) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(link.ends[1].starts_with("macvlan:").then(|| "macvlan".to_owned()));
    notes.extend(link.ends[1].starts_with("nic:").then(|| "moved".to_owned()));
    notes.extend(Some(link.settings.words.clone()).filter(|words| !words.is_empty()));
    notes.extend(link.bond.as_ref().map(|bond| format!("bond of {}", bond.members)));
    let mtu = link.mtu.filter(|mtu| *mtu != Link::MTU_DEFAULT);
    notes.extend(mtu.map(|mtu| format!("mtu {mtu}")));
    notes.extend(impaired([&link.ends[0], &link.ends[1]], link.impairments));
    notes
}
