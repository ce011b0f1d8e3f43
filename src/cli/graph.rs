//! `ovsns graph`

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{CallError, Ending, input, show};
use crate::api::running;
use crate::model::graph::{self, Graph};
use crate::model::names::LabName;

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
    Ok(running(&mut engine, &lab).await?)
}

/// No name of a lab has a dot or a slash in it.
fn is_file(what: &str) -> bool {
    what == "-" || LabName::new(what).is_err()
}
