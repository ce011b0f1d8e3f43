//! What Open vSwitch says no with, in words.

use ovsdb::{ApplyError, EditError, InterfaceState};

use super::change::CannotWrite;

/// Open vSwitch did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OvsError {
    /// There is none, and none of our own can be started.
    #[error("there is no Open vSwitch: {0}")]
    NotThere(String),
    /// The database answers, the switch does not.
    #[error("the database of Open vSwitch answers at `{at}`, but `ovs-vswitchd` does not run")]
    NotRunning {
        /// Where the database is.
        at: String,
        /// Whether it is one of our own.
        own: bool,
    },
    /// The switch runs, its database does not.
    #[error("`ovs-vswitchd` runs, but its database does not answer at `{at}`")]
    NoDatabase {
        /// Where the database is to be.
        at: String,
    },
    /// The switch runs, and says nothing.
    #[error("`ovs-vswitchd` does not answer: it is suspended, or very busy")]
    Silent,
    /// The switch has not carried out what others wanted before.
    #[error("`ovs-vswitchd` has not carried out earlier changes after {seconds} s")]
    Behind {
        /// How long was waited.
        seconds: u64,
    },
    /// The database did not answer, or not as it should.
    #[error("could not talk with the database of Open vSwitch at `{at}`: {why}")]
    Database {
        /// Where the database is.
        at: String,
        /// Why.
        why: String,
    },
    /// The database did not take the change.
    #[error("Open vSwitch did not take the change: {0}")]
    Refused(String),
    /// The database took the change, the switch did not carry it out in time.
    #[error(
        "the change is in the database of Open vSwitch, but `ovs-vswitchd` has not carried it \
         out after {seconds} s"
    )]
    NotApplied {
        /// How long was waited.
        seconds: u64,
    },
    /// The switch carried the change out, but not all of it works.
    #[error("Open vSwitch cannot do it: {}", .0.join("; "))]
    Faults(Vec<String>),
    /// A program that comes with Open vSwitch failed.
    #[error("`{program}` failed: {why}")]
    Tool {
        /// The program with its subcommand.
        program: String,
        /// What it said.
        why: String,
    },
    /// An Open vSwitch of our own could not be started or stopped.
    #[error("{what}")]
    Own {
        /// What happened.
        what: String,
        /// A thing to do.
        hint: Option<String>,
    },
}

impl OvsError {
    /// A thing to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotThere(_) => "install it (package `openvswitch-switch`), or use `--backend \
                                  linux`"
                .into(),
            Self::NotRunning { own: true, .. } => {
                "it is started again, but does not stay; `ovsns doctor` says why".into()
            }
            Self::NotRunning { own: false, .. } => {
                "start it: `systemctl start openvswitch-switch`".into()
            }
            Self::NoDatabase { .. } => {
                "start it again: `systemctl start openvswitch-switch`; the userspace datapath \
                 passes nothing without it"
                    .into()
            }
            Self::Silent | Self::Behind { .. } => {
                "wait for it; its log says what it is at (`ovs-vswitchd.log`), and `ps` whether \
                 it is suspended"
                    .into()
            }
            Self::Database { .. } => "`ovsns doctor` says how Open vSwitch is".into(),
            Self::NotApplied { .. } => {
                "it will be carried out when `ovs-vswitchd` comes to it; `ovsns status` shows it, \
                 and `ovsns doctor` how Open vSwitch is"
                    .into()
            }
            Self::Faults(faults) if faults.iter().any(|fault| fault.contains("did not come")) => {
                "the datapath may not be there: try `datapath: netdev` for the switch; `ovsns \
                 doctor` says what this kernel can do"
                    .into()
            }
            Self::Refused(why) if why.contains("I/O error") => {
                "make room where that database is: `df` shows how full its disk is".into()
            }
            Self::Faults(faults) if faults.iter().any(|fault| fault.contains("(File exists)")) => {
                "give it another `key` if it is a tunnel: of those of one type, to one host, with \
                 one key, an Open vSwitch has one"
                    .into()
            }
            Self::Refused(_) | Self::Faults(_) | Self::Tool { .. } => return None,
            Self::Own { hint, .. } => return hint.clone(),
        })
    }
}

/// A whole chain of causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut last = words.clone();
    let mut next = error.source();
    while let Some(error) = next {
        let more = error.to_string();
        if more != last && !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        last = more;
        next = error.source();
    }
    words
}

/// How far a change came that failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing was changed.
    Nothing(OvsError),
    /// It is in the database, and has to be taken back.
    Changed(OvsError),
    /// It is in the database, and nobody can say what will come of it.
    Unsure(OvsError),
}

impl Failed {
    /// Why, however far it came.
    pub(super) fn into_error(self) -> OvsError {
        match self {
            Self::Nothing(error) | Self::Changed(error) | Self::Unsure(error) => error,
        }
    }

    pub(super) fn of(error: ApplyError<CannotWrite>, at: &str) -> Self {
        let database =
            |why: &dyn std::error::Error| OvsError::Database { at: at.to_owned(), why: chain(why) };
        match error {
            ApplyError::Blind(error) => Self::Nothing(database(&error)),
            ApplyError::Uninitialised => {
                Self::Nothing(OvsError::Refused(CannotWrite::Uninitialised.to_string()))
            }
            ApplyError::Edit(EditError::Build { source, .. }) => {
                Self::Nothing(OvsError::Refused(chain(&source)))
            }
            ApplyError::Edit(EditError::Transact { source, maybe_committed }) => {
                let error = OvsError::Refused(chain(&source));
                if maybe_committed { Self::Unsure(error) } else { Self::Nothing(error) }
            }
            ApplyError::NotApplied { within, .. } => {
                Self::Unsure(OvsError::NotApplied { seconds: within.as_secs() })
            }
            ApplyError::Faults(applied) => {
                let faults = applied.interfaces.iter().filter(|i| i.is_fault());
                Self::Changed(OvsError::Faults(faults.map(InterfaceState::to_string).collect()))
            }
        }
    }
}
