//! The moment between a process of ours and the command that it becomes: all
//! that a program has from whoever started it is set here, without code that
//! runs between fork and exec.

use std::ffi::{CString, OsString};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{User, chdir, initgroups, setgid, setsid, setuid};
use serde::{Deserialize, Serialize};

use super::groups::Groups;
use crate::kernel::error::KernelError;
use crate::kernel::{inside, seal};
use crate::model::names::{LabName, NodeName};

/// What a command is born with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Birth {
    /// The lab of the node that it is born in.
    pub lab: LabName,
    /// The node.
    pub node: NodeName,
    /// Whether it leaves the session and the terminal of who started it.
    pub detached: bool,
    /// As whom it runs, if not as whoever started it.
    pub user: Option<String>,
    /// Where it runs, if not where it was started.
    pub directory: Option<String>,
    /// Where what is remembered of labs is, which a sealed node does not see.
    pub state: PathBuf,
}

/// Becomes a command. Returns only if that cannot be.
///
/// Only for a process that does nothing else and has no threads.
pub fn become_command(birth: &Birth, command: &[OsString]) -> KernelError {
    match prepare(birth) {
        Ok(()) => inside::become_command(command, &[], &birth.state),
        Err(error) => error,
    }
}

fn prepare(birth: &Birth) -> Result<(), KernelError> {
    let fail = |asked: &str| {
        let asked = asked.to_owned();
        move |errno: Errno| KernelError::new(asked, errno)
    };
    if birth.detached {
        setsid().map_err(fail("leave the session"))?;
    }
    Groups::find().join(&birth.lab, &birth.node)?;
    seal::seal_here(&birth.state)?;
    if let Some(name) = &birth.user {
        let user = User::from_name(name).map_err(fail(&format!("look for user `{name}`")))?;
        let none = || KernelError::new(format!("find user `{name}`"), Errno::ENOENT);
        let user = user.ok_or_else(none)?;
        let asked = format!("become user `{name}`");
        let called = CString::new(name.as_str()).map_err(|_| none())?;
        initgroups(&called, user.gid).map_err(fail(&asked))?;
        setgid(user.gid).map_err(fail(&asked))?;
        setuid(user.uid).map_err(fail(&asked))?;
    }
    if let Some(directory) = &birth.directory {
        chdir(directory.as_str()).map_err(fail(&format!("go to `{directory}`")))?;
    }
    // Who was started by somebody that is gone is of no use to anybody. Set last:
    // a change of user clears it.
    set_pdeathsig(Signal::SIGKILL).map_err(fail("ask to be ended"))?;
    // Who forwards signals had them blocked.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(fail("hear signals"))
}
