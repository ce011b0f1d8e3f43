//! Why there is no Open vSwitch of our own, in words and with a thing to do.
//!
//! The keeper finds most of it out and the command that started it tells the
//! user, so an error is data that passes between the two.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::daemon::Which;
use super::programs::Missing;
use crate::kernel::KernelError;

/// There is no Open vSwitch of our own, or no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OwnError {
    /// Something that it is made of is not installed.
    #[error("there is no {0}, which an Open vSwitch of our own is made of")]
    Missing(Missing),
    /// Another one is here, and two in one network namespace take each other's
    /// devices.
    #[error("another Open vSwitch runs in this network namespace: {0}")]
    Beside(String),
    /// The directory is in use from another network namespace.
    #[error("`{directory}` is the directory of an Open vSwitch in another network namespace")]
    Elsewhere {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory is somebody's.
    #[error("`{directory}` was not made by ovsns: {why}")]
    NotOurs {
        /// The directory.
        directory: PathBuf,
        /// How that is known.
        why: String,
    },
    /// No socket fits into the directory.
    #[error(
        "the path `{directory}` is too long for a socket: {} bytes, and at most {most} will do",
        .directory.as_os_str().len()
    )]
    TooLong {
        /// The directory.
        directory: PathBuf,
        /// How long its path may be.
        most: usize,
    },
    /// Somebody else has our address.
    #[error("the socket `@{}` is in the hands of process {process} of user {user}", super::ADDRESS)]
    Stranger {
        /// Who listens there.
        process: u32,
        /// Whose process that is.
        user: u32,
    },
    /// Asked by somebody who has no say.
    #[error("this Open vSwitch belongs to user {owner}")]
    NotYours {
        /// Whose it is.
        owner: u32,
    },
    /// The keeper is a command of `ovsns`, and this program is another.
    #[error("there is no program `ovsns` that could watch over an Open vSwitch")]
    NoKeeper,
    /// It would run out of files, and say so to nobody.
    #[error("an Open vSwitch of our own may have {most} files open here, and needs {least}")]
    FewFiles {
        /// The limit.
        most: u64,
        /// How many it needs.
        least: u64,
    },
    /// A daemon did not come up.
    #[error("`{daemon}` did not come up: {why}")]
    Daemon {
        /// Which.
        daemon: Which,
        /// What became of it.
        why: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// The keeper ended and did not say why, or what has its address is none.
    #[error("the keeper of Open vSwitch ends without saying why")]
    Died,
    /// It took too long.
    #[error("Open vSwitch was not ready after {seconds} s")]
    Late {
        /// How long was waited.
        seconds: u64,
        /// The last lines of the logs.
        log: Vec<String>,
    },
    /// The database does not do as it should.
    #[error("the database of Open vSwitch is of no use: {0}")]
    Database(String),
    /// The kernel refused.
    #[error("{}", kernel(.asked, .errno))]
    Kernel {
        /// What was asked of it.
        asked: String,
        /// Its answer.
        errno: i32,
    },
}

impl OwnError {
    /// An answer of the kernel's that came as an I/O error.
    pub(super) fn io(asked: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let asked = asked.into();
        move |error| Self::Kernel {
            asked,
            errno: error.raw_os_error().unwrap_or(Errno::EIO as i32),
        }
    }

    /// An answer of the kernel's to what was done with a file.
    pub(super) fn file(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        Self::io(format!("{what} `{}`", path.display()))
    }

    /// What the client of the database says, with its causes.
    pub(super) fn database(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            text = format!("{text}: {error}");
            next = error.source();
        }
        Self::Database(text)
    }

    /// A thing to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Missing(missing) => missing.hint(),
            Self::Beside(_) => {
                "use that one, or stop it: `systemctl stop openvswitch-switch`".into()
            }
            Self::Elsewhere { .. } => {
                "give this namespace a directory of its own: `OVSNS_STATE_DIR=...`".into()
            }
            Self::NotOurs { directory, .. } => format!(
                "move it away: `mv {0} {0}.old`, or give another directory: `OVSNS_STATE_DIR=...`",
                directory.display()
            ),
            Self::TooLong { .. } => "give a shorter one: `OVSNS_STATE_DIR=...`".into(),
            Self::Stranger { process, .. } => {
                format!("see what it is, and end it: `ps -fp {process}`")
            }
            Self::NotYours { .. } => "run it as that user, or as root: `sudo ovsns ...`".into(),
            Self::FewFiles { .. } => "raise the limit of open files: `ulimit -n 65536`".into(),
            Self::NoKeeper => "put `ovsns` where `PATH` finds it: `cargo install --path .`".into(),
            // On a full disk it cannot even say so.
            Self::Daemon { log, .. } if log.is_empty() => {
                "it has written nothing down: `df` shows whether there is room for it".into()
            }
            Self::Daemon { .. } => {
                "what it says is above; `ovsns keep-ovs --start` tries it by itself".into()
            }
            Self::Late { .. } | Self::Died | Self::Database(_) => {
                "`ovsns doctor` shows what the daemons say".into()
            }
            Self::Kernel { asked, errno } => kernel(asked, errno).hint()?.to_owned(),
        })
    }

    /// The last lines of a log, where they say more than the error.
    pub fn log(&self) -> &[String] {
        match self {
            Self::Daemon { log, .. } | Self::Late { log, .. } => log,
            _ => &[],
        }
    }
}

fn kernel(asked: &str, errno: &i32) -> KernelError {
    KernelError::new(asked, Errno::from_raw(*errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that keeps an Open vSwitch of our own from running, in one
    /// place, so that the tone stays the same.
    #[test]
    fn failures() {
        let missing = serde_json::from_str(r#"["ovs-vswitchd", "vswitch.ovsschema"]"#);
        let directory = PathBuf::from("/run/ovsns/ovs");
        let errors = [
            OwnError::Missing(missing.expect("names")),
            OwnError::Beside("process 42 is `ovs-vswitchd`".into()),
            OwnError::Elsewhere { directory: directory.clone() },
            OwnError::NotOurs { directory: directory.clone(), why: "it is no directory".into() },
            OwnError::TooLong { directory, most: 90 },
            OwnError::Stranger { process: 42, user: 1000 },
            OwnError::NotYours { owner: 0 },
            OwnError::NoKeeper,
            OwnError::FewFiles { most: 64, least: 256 },
            OwnError::Daemon {
                daemon: Which::Switch,
                why: "ended with exit status 1".into(),
                log: vec!["ovs-vswitchd: could not create pidfile".into()],
            },
            OwnError::Daemon {
                daemon: Which::Server,
                why: "`ovsdb-tool create` failed".into(),
                log: Vec::new(),
            },
            OwnError::Died,
            OwnError::Late { seconds: 60, log: Vec::new() },
            OwnError::database(&io::Error::other("the switch does not apply what is in it")),
            OwnError::file("make", Path::new("/run/ovsns/ovs"))(Errno::EROFS.into()),
        ];
        let shown = errors.iter().map(|error| {
            let log = error.log().iter().map(|line| format!("\n  {line}")).collect::<String>();
            let hint = error.hint().map(|hint| format!("\n hint: {hint}")).unwrap_or_default();
            format!("error: {error}{log}{hint}")
        });
        insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n\n"));
    }

    /// The keeper finds it out, and the command tells the user.
    #[test]
    fn an_error_passes_over_the_wire() {
        let error = OwnError::Daemon {
            daemon: Which::Server,
            why: "was ended by SIGKILL".into(),
            log: vec!["a \"line\"".into()],
        };
        let text = serde_json::to_string(&error).expect("JSON");
        assert_eq!(serde_json::from_str::<OwnError>(&text).expect("the same"), error);
    }
}
