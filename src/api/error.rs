//! What a call could not do: what happened to which thing, why, and what to do.
//! The chain of causes is gone through here and nowhere else.

use std::error::Error;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::EngineError;
use crate::engine::apply::Cause;
use crate::engine::state::StateError;
use crate::kernel::KernelError;
use crate::kernel::permissions::Capability;
use crate::model::names::{BadName, LabName};
use crate::model::problem::Problems;
use crate::switch::SwitchError;
use crate::switch::ovs::OvsError;
use crate::switch::own::OwnError;

/// A failure as it is told, to a person or to a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// What happened to which thing.
    pub message: String,
    /// Lines that belong to it, such as all that stands in the way.
    pub details: Vec<String>,
    /// Why: the nearest cause first.
    pub causes: Vec<String>,
    /// Things to do.
    pub hints: Vec<String>,
    /// The exit status of a command that ends so: 1 failed and taken back, 2 bad
    /// input and nothing touched, 3 failed and something is left, 4 in the database
    /// and not yet carried out by the switch.
    pub status: u8,
}

impl Failure {
    /// One with nothing to add but a thing to do, if there is any.
    pub(crate) fn new(message: impl Into<String>, hint: Option<&str>, status: u8) -> Self {
        Self {
            message: message.into(),
            details: Vec::new(),
            causes: Vec::new(),
            hints: hint.map(str::to_owned).into_iter().collect(),
            status,
        }
    }
}

impl Failure {
    /// All but the hints in one line, for a log.
    pub(crate) fn in_a_line(&self) -> String {
        let all = std::iter::once(&self.message).chain(&self.details).chain(&self.causes);
        all.map(|line| line.trim()).collect::<Vec<_>>().join(": ")
    }
}

/// In lines, the last of which ends, too.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        self.details.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        self.causes.iter().try_for_each(|cause| writeln!(f, "  because: {cause}"))?;
        self.hints.iter().try_for_each(|hint| writeln!(f, " hint: {hint}"))
    }
}

/// What a call could not do.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// What a server answered.
    #[error("{}", .0.message)]
    Told(Failure),
    /// The topology file, or what was added to a lab, is not good.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// What a change would make of a lab is not good: each in words, with a
    /// thing to do.
    #[error("{}", changed(.0))]
    Changed(Vec<(String, Option<String>)>),
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
    /// There is no server.
    #[error("{source}")]
    Server {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
        /// A thing to do.
        hint: String,
    },
    /// There is no Open vSwitch of our own.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// What was captured cannot be written.
    #[error("could not write {to}")]
    Output {
        /// Where to.
        to: String,
        /// Why.
        source: std::io::Error,
    },
    /// The result could not be told.
    #[error("could not write to standard output")]
    Untold {
        /// Whether something was changed all the same.
        changed: bool,
        /// Why.
        source: std::io::Error,
    },
}

/// One problem is told at once, several in lines of their own.
fn changed(problems: &[(String, Option<String>)]) -> String {
    match problems {
        [(one, _)] => one.clone(),
        all => format!("the lab cannot be changed so: {} problems", all.len()),
    }
}

fn names(capabilities: &[Capability]) -> String {
    let names: Vec<_> = capabilities.iter().map(|c| c.name()).collect();
    names.join(" and ")
}

impl CallError {
    /// Something that the user wrote, with a thing to do about it.
    pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: hint.into() }
    }

    /// No thread, runtime or signal, which a command begins with.
    pub(crate) fn not_started(error: std::io::Error) -> Self {
        Self::Kernel(KernelError::from_io("start", &error))
    }

    /// A command in a node that could not be run.
    pub(crate) fn command(source: KernelError) -> Self {
        let status = if source.errno == nix::errno::Errno::ENOENT { 127 } else { 126 };
        Self::Command { status, source }
    }

    /// The exit status: 1 failed and taken back, 2 bad input and nothing
    /// touched, 3 failed and something is left, 4 in the database and not yet
    /// carried out by the switch.
    pub fn status(&self) -> u8 {
        match self {
            Self::Problems(_)
            | Self::Changed(_)
            | Self::File { .. }
            | Self::Name(_)
            | Self::Usage { .. } => 2,
            Self::Engine(
                EngineError::Refused { .. }
                | EngineError::NotRemoved { .. }
                | EngineError::NoLab(_)
                | EngineError::InsideNode(_)
                | EngineError::NothingToConfirm(_),
            ) => 2,
            Self::Engine(
                EngineError::Left { .. }
                | EngineError::NotKept { .. }
                | EngineError::NotHome { .. }
                | EngineError::NotDetached { .. },
            )
            | Self::Untold { changed: true, .. } => 3,
            Self::Engine(EngineError::NotApplied { .. }) => 4,
            Self::Engine(_)
            | Self::NotAllowed(_)
            | Self::Kernel(_)
            | Self::Own(_)
            | Self::Server { .. }
            | Self::Output { .. }
            | Self::Untold { changed: false, .. } => 1,
            Self::Command { status, .. } => *status,
            Self::Told(failure) => failure.status,
        }
    }

    /// All that is told of it.
    pub fn told(&self) -> Failure {
        if let Self::Told(failure) = self {
            return failure.clone();
        }
        Failure {
            message: self.to_string(),
            details: self.details(),
            causes: self.causes(),
            hints: self.hints(),
            status: self.status(),
        }
    }

    /// Why, the nearest cause first.
    fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut last = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let words = without_number(&error.to_string());
            // A transparent error says what its source says.
            if words != last {
                causes.push(words.clone());
            }
            last = words;
            cause = error.source();
        }
        causes
    }

    /// Lines that belong to the message.
    fn details(&self) -> Vec<String> {
        match self {
            Self::Engine(
                EngineError::Refused { refusals, .. } | EngineError::NotRemoved { refusals, .. },
            ) => refusals.iter().map(|refusal| refusal.what.clone()).collect(),
            Self::Engine(EngineError::Left { left, .. }) => left.clone(),
            Self::Engine(EngineError::NotKept { lines, .. }) => lines.clone(),
            Self::Own(error) => error.log().to_vec(),
            Self::Changed(problems) if 1 < problems.len() => {
                problems.iter().map(|(what, _)| what.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Things to do.
    fn hints(&self) -> Vec<String> {
        match self {
            Self::Usage { hint, .. } | Self::Server { hint, .. } => vec![hint.clone()],
            Self::Changed(problems) => {
                let mut hints: Vec<_> =
                    problems.iter().filter_map(|(_, hint)| hint.clone()).collect();
                hints.dedup();
                hints
            }
            Self::NotAllowed(missing) => {
                let names = missing.iter().map(|it| it.name().trim_start_matches("CAP_"));
                let flags: Vec<_> = names.map(|name| format!("--cap-add {name}")).collect();
                vec![format!(
                    "run it as root: `sudo ovsns ...`; in a container, start that with `{}`",
                    flags.join(" ")
                )]
            }
            Self::Engine(
                EngineError::Refused { refusals, .. } | EngineError::NotRemoved { refusals, .. },
            ) => {
                let mut hints: Vec<_> = refusals.iter().map(|r| r.hint.clone()).collect();
                hints.dedup();
                hints
            }
            Self::Engine(EngineError::Unseen { .. }) => {
                vec![
                    "start it again: `systemctl start openvswitch-switch`; of one of our own \
                      `ovsns doctor` shows what it says"
                        .into(),
                ]
            }
            Self::Engine(EngineError::NoLab(_)) => vec!["`ovsns list` shows the labs".into()],
            Self::Engine(EngineError::InsideNode(_)) => {
                vec!["leave the node's shell first: labs are made from outside".into()]
            }
            Self::Command { status: 126, .. } => {
                vec!["give a program that may be executed, not a directory or a plain file".into()]
            }
            Self::Engine(EngineError::Left { lab, .. } | EngineError::NotKept { lab, .. }) => {
                vec![format!(
                    "`ovsns status {lab}` shows what is there; `ovsns down {lab}` removes it"
                )]
            }
            Self::Engine(EngineError::NotHome { .. } | EngineError::NotDetached { .. }) => {
                vec!["any command of ovsns tries again, such as `ovsns list`".into()]
            }
            Self::Engine(EngineError::NothingToConfirm(0)) => {
                vec!["it was confirmed before, or taken back".into()]
            }
            Self::Engine(EngineError::NothingToConfirm(_)) => {
                vec!["say which: `ovsns confirm ID`".into()]
            }
            Self::Engine(EngineError::State(StateError::Locked { .. })) => {
                vec!["try again when it has ended".into()]
            }
            Self::Engine(EngineError::State(StateError::Damaged { path, .. })) => {
                vec![format!("delete `{}`; the lab itself is not touched", path.display())]
            }
            Self::Engine(EngineError::State(StateError::File { path, source, .. })) => {
                vec![of_file(path, source)]
            }
            Self::Untold { changed: true, .. } => {
                vec!["what was to be done is done: `ovsns status` shows the lab".into()]
            }
            Self::Own(error) => error.hint().into_iter().collect(),
            Self::Kernel(error) => error.hint().map(str::to_owned).into_iter().collect(),
            Self::File { .. } => {
                vec!["give the topology file, or a shape: `ovsns up --topo single,3`".into()]
            }
            other => {
                let kernel = found::<KernelError>(other).and_then(KernelError::hint);
                let ovs = found::<OvsError>(other).and_then(OvsError::hint);
                let state = found::<StateError>(other).and_then(|error| match error {
                    StateError::File { path, source, .. } => Some(of_file(path, source)),
                    StateError::Locked { .. } | StateError::Damaged { .. } => None,
                });
                kernel.map(Into::into).or(ovs).or(state).into_iter().collect()
            }
        }
    }
}

/// A thing to do about a file of ours that cannot be read or written.
fn of_file(path: &Path, source: &std::io::Error) -> String {
    // In another directory no lab that runs is remembered.
    let elsewhere = "as long as no lab runs, another directory will do: `OVSNS_STATE_DIR=...`";
    let place = path.parent().unwrap_or(path).display();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("make room there; `df {place}` and `df -i {place}` show how much there is")
        }
        ErrorKind::ReadOnlyFilesystem => {
            format!(
                "make it writable: `mount -o remount,rw {place}` or what that is on; {elsewhere}"
            )
        }
        _ => elsewhere.to_owned(),
    }
}

/// The error of one kind in a chain of causes, if there is one.
fn found<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        // A transparent error hides the one that it stands for.
        if let Some(Cause::State(state)) = error.downcast_ref::<Cause>()
            && let Some(found) = (state as &dyn Error).downcast_ref::<E>()
        {
            return Some(found);
        }
        let switch = match error.downcast_ref::<Cause>() {
            Some(Cause::Switch(switch)) => Some(switch),
            _ => error.downcast_ref::<SwitchError>(),
        };
        if let Some(SwitchError::OpenVswitch(inner)) = switch
            && let Some(found) = (inner as &dyn Error).downcast_ref::<E>()
        {
            return Some(found);
        }
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Rust's words for an I/O error end in `(os error 2)`, which tells nobody
/// anything that the words do not.
fn without_number(words: &str) -> String {
    match words.split_once(" (os error ") {
        Some((words, _)) => words.to_lowercase(),
        None => words.to_owned(),
    }
}

/// No lab, or too many to choose from.
pub(crate) fn which_lab(labs: &[LabName]) -> CallError {
    match labs {
        [] => CallError::usage("there is no lab", "make one: `ovsns up FILE`"),
        labs => {
            let names: Vec<_> = labs.iter().map(|lab| format!("`{lab}`")).collect();
            CallError::usage(
                format!("there are {} labs: {}", labs.len(), names.join(", ")),
                format!("say which, such as `--lab {}`", labs[0]),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::StepError;
    use crate::plan::Refusal;
    use nix::errno::Errno;

    fn lab() -> LabName {
        LabName::new("two-nodes").expect("a good name")
    }

    fn step_failed(errno: Errno, said: Option<&str>) -> Cause {
        let cause = KernelError {
            said: said.map(str::to_owned),
            ..KernelError::new("make link `n1:eth0`", errno)
        };
        Cause::Host(StepError { what: "`+ link n1:eth0` failed".into(), cause })
    }

    /// Everything that goes wrong while it is being done, in one place, so
    /// that the tone stays the same.
    #[test]
    fn failures() {
        let errors = [
            CallError::NotAllowed(vec![Capability::NetAdmin, Capability::SysAdmin]),
            CallError::Engine(EngineError::NoLab(lab())),
            CallError::Engine(EngineError::Refused {
                lab: lab(),
                refusals: vec![Refusal {
                    what: "namespace `two-nodes.n1` exists and is not ours".into(),
                    hint: "give the lab another name".into(),
                }],
            }),
            CallError::Engine(EngineError::NotRemoved {
                lab: lab(),
                refusals: vec![Refusal {
                    what: "switch `s1` is to go, and port `mine` on it is not ours".into(),
                    hint: "take it off first: `ovs-vsctl del-port s1 mine`".into(),
                }],
            }),
            CallError::Engine(EngineError::TakenBack {
                lab: lab(),
                source: step_failed(Errno::EOPNOTSUPP, Some("Unknown device type")),
            }),
            CallError::Engine(EngineError::Left {
                lab: lab(),
                left: vec!["- node n1 (namespace two-nodes.n1)".into()],
                source: step_failed(Errno::EMFILE, None),
            }),
            CallError::Engine(EngineError::NotKept {
                lab: lab(),
                lines: vec!["+ address 10.0.0.1/24 on n1:eth0".into()],
            }),
            CallError::Engine(EngineError::State(StateError::Locked {
                lab: lab(),
                holder: "`ovsns up` (process 42)".into(),
            })),
            CallError::Engine(EngineError::State(StateError::File {
                what: "write",
                path: "/run/ovsns/labs/two-nodes/journal.json".into(),
                source: std::io::Error::from_raw_os_error(Errno::ENOSPC as i32),
            })),
            CallError::Command {
                status: 127,
                source: KernelError::new("run `no-such-program`", Errno::ENOENT),
            },
            CallError::Untold {
                changed: true,
                source: std::io::Error::from_raw_os_error(Errno::ENOSPC as i32),
            },
            which_lab(&[]),
            which_lab(&[lab(), LabName::default_lab()]),
        ];
        let shown = errors.iter().map(|error| format!("{}status {}", error.told(), error.status()));
        insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n\n"));
    }
}
