//! What a command line names: a file or a shape, a lab, a node.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{CallError, ask, show};
use crate::api::{Desk, LabPlan, LabUp, Topology};
pub(super) use crate::api::{NodeWords, allowed, one_lab};
use crate::engine::Engine;
use crate::kernel::error::words_of;
use crate::model::file::{self, Format};
use crate::model::laid;
use crate::model::names::LabName;
use crate::model::topology::{Backend, Lab};

/// The file of commands that name none.
const FILE: &str = "ovsns.yaml";

/// Where a lab comes from.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// The topology file; `-` is standard input [default: ovsns.yaml]
    #[arg(value_name = "FILE", conflicts_with = "topo")]
    file: Option<PathBuf>,
    /// A classic shape instead of a file: single,N linear,N tree,D,F ring,N
    #[arg(long, value_name = "SHAPE")]
    topo: Option<String>,
    /// What the file is written as, if its looks do not tell
    #[arg(long, value_name = "FORMAT", conflicts_with = "topo")]
    format: Option<Written>,
    /// The lab's name, whatever the file says
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// What the switches are made of that do not say it themselves
    #[arg(long, value_name = "BACKEND", default_value = "auto", env = "OVSNS_BACKEND")]
    backend: Choice,
}

/// What a file is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Written {
    /// A topology file
    Lab,
    /// JSON: `{"nodes": [{"id"}], "links": [{"source", "target"}]}`, each link a cable
    Graph,
}

impl Written {
    fn format(self) -> Format {
        match self {
            Self::Lab => Format::Lab,
            Self::Graph => Format::Graph,
        }
    }
}

/// What the switches are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Choice {
    /// The best that this machine has
    Auto,
    /// Open vSwitch
    Ovs,
    /// The bridge of the Linux kernel
    Linux,
}

impl Choice {
    /// The backend, if one is insisted on.
    pub(super) fn backend(self) -> Option<Backend> {
        match self {
            Self::Auto => None,
            Self::Ovs => Some(Backend::Ovs),
            Self::Linux => Some(Backend::Linux),
        }
    }
}

impl Source {
    /// The call that makes it.
    pub(super) fn up(&self, again: bool) -> Result<LabUp, CallError> {
        let LabPlan { topology, shape, lab, backend, again } = self.planned(again)?;
        Ok(LabUp { topology, shape, lab, backend, again, ssh: None })
    }

    /// The call that says what that would do.
    pub(super) fn planned(&self, again: bool) -> Result<LabPlan, CallError> {
        let topology = match again {
            true => None,
            false => Some(Topology::Read(Box::new(self.lab()?))),
        };
        let (lab, backend) = (self.lab.clone(), self.backend.backend());
        Ok(LabPlan { topology, lab, backend, again, ..LabPlan::default() })
    }

    /// Reads the file, or draws the shape.
    fn lab(&self) -> Result<Lab, CallError> {
        let named = self.lab.as_deref().map(LabName::new).transpose()?;
        let format = self.format.map(Written::format);
        read_lab(self.file.as_deref(), format, self.topo.as_deref(), named.as_ref())
    }
}

/// The lab of a file, or of a shape, to be looked at and not made.
pub(super) fn drawn(file: Option<&Path>, topo: Option<&str>) -> Result<Lab, CallError> {
    read_lab(file, None, topo, None)
}

fn read_lab(
    file: Option<&Path>,
    format: Option<Format>,
    topo: Option<&str>,
    named: Option<&LabName>,
) -> Result<Lab, CallError> {
    if let Some(topo) = topo {
        return Ok(file::shape(topo, named.unwrap_or(&LabName::default_lab()))?);
    }
    let path = file.unwrap_or(Path::new(FILE));
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.filter(|_| path != Path::new("-"));
    let fallback = named.map(LabName::as_str).or(stem);
    let text = read(path)?;
    let mut beside = |from: &str| read_beside(path, from);
    let read = file::read_as(format, &text, &shown(path), fallback, &mut beside)?;
    for told in read.told {
        show::talk(&format!("{}: {told}", shown(path)));
    }
    Ok(read.lab)
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

/// Reads a file, and no more of it than can be a topology.
fn read(path: &Path) -> Result<Vec<u8>, CallError> {
    let fail = |source| CallError::File { path: path.to_owned(), source };
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(fail)?)
    };
    let mut text = Vec::new();
    reader.take(file::BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(fail)?;
    Ok(text)
}

/// Reads what a file of a node is a copy of: from the directory of the topology
/// file on, or the current one where that is standard input. Why not, as a clause.
fn read_beside(topology: &Path, from: &str) -> Result<Vec<u8>, String> {
    // Not as the path of `-` has it, whose parent is empty, too.
    let directory = topology.parent().unwrap_or(Path::new(""));
    // A pipe without a writer would be waited for.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let open = File::options().read(true).custom_flags(flags).open(directory.join(from));
    let opened = open.map_err(|error| words_of(&error))?;
    let metadata = opened.metadata().map_err(|error| words_of(&error))?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut bytes = Vec::new();
    opened
        .take(laid::BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| words_of(&error))?;
    Ok(bytes)
}

/// The engine, if this process may use one.
pub(super) async fn engine(command: &str) -> Result<Engine, CallError> {
    Desk::new(&mut ask::show).engine(command).await
}
