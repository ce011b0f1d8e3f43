//! Failures, as a person reads them: what happened to which thing, why, and
//! what to do. The chain of causes is printed here and nowhere else.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::engine::EngineError;
use crate::engine::state::StateError;
use crate::kernel::KernelError;
use crate::kernel::permissions::Capability;
use crate::model::names::{BadName, LabName};
use crate::model::problem::Problems;

/// What a command could not do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The topology file, or what was added to a lab, is not good.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The file cannot be read.
    #[error("could not read `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A name on the command line is none.
    #[error(transparent)]
    Name(#[from] BadName),
    /// What was asked for does not make sense, or is not there.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// A thing to do.
        hint: String,
    },
    /// This process may not do it.
    #[error("this needs {}", names(.0))]
    NotAllowed(Vec<Capability>),
    /// The lab could not be made, removed or read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The command in a node could not be started; the status is a shell's.
    #[error("{source}")]
    Command {
        /// 127 where there is no such command, else 126.
        status: u8,
        /// Why.
        source: KernelError,
    },
    /// No runtime.
    #[error("could not start")]
    Runtime(#[source] std::io::Error),
}

fn names(capabilities: &[Capability]) -> String {
    let names: Vec<_> = capabilities.iter().map(|c| c.name()).collect();
    names.join(" and ")
}

impl CliError {
    /// Something that the user wrote, with a thing to do about it.
    pub(super) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: hint.into() }
    }

    /// The exit status: 1 failed and taken back, 2 bad input and nothing
    /// touched, 3 failed and something is left.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::Problems(_) | Self::File { .. } | Self::Name(_) | Self::Usage { .. } => 2,
            Self::Engine(EngineError::Refused { .. } | EngineError::NoLab(_)) => 2,
            Self::Engine(EngineError::Left { .. } | EngineError::NotKept { .. }) => 3,
            Self::Engine(_) | Self::NotAllowed(_) | Self::Kernel(_) | Self::Runtime(_) => 1,
            Self::Command { status, .. } => *status,
        }
    }

    /// Lines that belong to the message.
    fn details(&self) -> Vec<String> {
        match self {
            Self::Engine(EngineError::Refused { refusals, .. }) => {
                refusals.iter().map(|refusal| refusal.what.clone()).collect()
            }
            Self::Engine(EngineError::Left { left, .. }) => left.clone(),
            Self::Engine(EngineError::NotKept { lines, .. }) => lines.clone(),
            _ => Vec::new(),
        }
    }

    /// Things to do.
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Usage { hint, .. } => vec![hint.clone()],
            Self::NotAllowed(_) => {
                vec![
                    "run it as root: `sudo ovsns ...`; or in a user namespace: `unshare -rnm`"
                        .into(),
                ]
            }
            Self::Engine(EngineError::Refused { refusals, .. }) => {
                let mut hints: Vec<_> = refusals.iter().map(|r| r.hint.clone()).collect();
                hints.dedup();
                hints
            }
            Self::Engine(EngineError::NoLab(_)) => vec!["`ovsns list` shows the labs".into()],
            Self::Engine(EngineError::Left { lab, .. } | EngineError::NotKept { lab, .. }) => {
                vec![format!(
                    "`ovsns status {lab}` shows what is there; `ovsns down {lab}` removes it"
                )]
            }
            Self::Engine(EngineError::State(StateError::Locked { .. })) => {
                vec!["try again when it has ended".into()]
            }
            Self::Engine(EngineError::State(StateError::Damaged { path, .. })) => {
                vec![format!("delete `{}`; the lab itself is not touched", path.display())]
            }
            Self::Engine(EngineError::State(StateError::File { .. })) => {
                vec!["give another directory with `OVSNS_STATE_DIR=...`".into()]
            }
            Self::File { .. } => {
                vec!["give the topology file, or a shape: `ovsns up --topo single,3`".into()]
            }
            other => kernel_error(other)
                .and_then(KernelError::hint)
                .map(Into::into)
                .into_iter()
                .collect(),
        }
    }
}

/// The kernel's refusal at the bottom of a chain, if there is one.
fn kernel_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a KernelError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<KernelError>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The failure as text: message, details, causes, hints.
pub(super) fn text(error: &CliError) -> String {
    let mut text = format!("error: {error}\n");
    for line in error.details() {
        writeln!(text, "  {line}").expect("a string takes all");
    }
    let mut last = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // A transparent error says what its source says.
        if words != last {
            writeln!(text, "  because: {words}").expect("a string takes all");
        }
        last = words;
        cause = error.source();
    }
    for hint in error.hints() {
        writeln!(text, " hint: {hint}").expect("a string takes all");
    }
    text
}

/// Prints a failure and returns its status.
pub(super) fn failure(error: &CliError) -> ExitCode {
    eprint!("{}", text(error));
    ExitCode::from(error.status())
}

/// Prints what clap found; `--help` and `--version` are no failures.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    // Whoever reads the help through `head` has read enough.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}

/// No lab, or too many to choose from.
pub(super) fn which_lab(labs: &[LabName]) -> CliError {
    match labs {
        [] => CliError::usage("there is no lab", "make one: `ovsns up FILE`"),
        labs => {
            let names: Vec<_> = labs.iter().map(|lab| format!("`{lab}`")).collect();
            CliError::usage(
                format!("there are {} labs: {}", labs.len(), names.join(", ")),
                format!("say which, such as `--lab {}`", labs[0]),
            )
        }
    }
}
