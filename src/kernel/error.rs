//! What the kernel says no with, in words.

use std::io;

use nix::errno::Errno;

/// The kernel refused a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelError {
    /// What was asked of it, as a clause: `open namespace `x``.
    pub asked: String,
    /// Its answer.
    pub errno: Errno,
    /// Its own words, where it has any (the `NLMSGERR_ATTR_MSG` of an
    /// extended acknowledgement).
    pub said: Option<String>,
    /// What a process said last, where it was one that failed.
    pub heard: Vec<String>,
}

impl KernelError {
    /// A refusal without words of the kernel's own.
    pub fn new(asked: impl Into<String>, errno: Errno) -> Self {
        Self { asked: asked.into(), errno, said: None, heard: Vec::new() }
    }

    /// A refusal of a new namespace. The kernel says ENOSPC where there are as many as
    /// `user.max_*_namespaces` allows (`namespaces(7)`), and no disk is full.
    pub fn of_namespace(asked: impl Into<String>, errno: Errno) -> Self {
        Self::new(asked, if errno == Errno::ENOSPC { Errno::EUSERS } else { errno })
    }

    /// A process that does not do what it should: why, as a clause, and what it
    /// said last.
    pub fn of_process(asked: String, why: String, heard: Vec<String>) -> Self {
        Self { asked, errno: Errno::ECHILD, said: Some(why), heard }
    }

    /// A refusal that came as an I/O error.
    pub fn from_io(asked: impl Into<String>, error: &io::Error) -> Self {
        Self::new(asked, Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32)))
    }

    /// A thing to do about it, if the number says enough.
    pub fn hint(&self) -> Option<&'static str> {
        hint(match (self.errno, &self.said) {
            // What could not even be started ends with what the kernel said.
            (Errno::ECHILD, Some(why)) => [Errno::ENOSPC, Errno::EMFILE, Errno::EAGAIN]
                .into_iter()
                .find(|errno| why.ends_with(&words(*errno)))?,
            (errno, _) => errno,
        })
    }
}

/// A thing to do about an error, if its number says enough.
fn hint(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::EPERM | Errno::EACCES => {
            "run it as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN: `sudo ovsns ...`"
        }
        Errno::EMFILE | Errno::ENFILE => "raise the limit of open files: `ulimit -n 65536`",
        Errno::ENOSPC => "make room: a table or a file system is full (`df -h /run`, `df -i /run`)",
        Errno::EXFULL => {
            "take ports off it, or give some links another switch; one on Open vSwitch \
             has no such limit"
        }
        Errno::EUSERS => {
            "raise the limit: `sysctl user` shows it, and \
                 `sysctl -w user.max_net_namespaces=65536` sets that of networks"
        }
        Errno::EAGAIN => {
            "if it is a process that could not be started, let there be more: `ulimit -u`, \
                 `kernel.pid_max`, `pids.max` of the control group"
        }
        Errno::EROFS => "make it writable: `mount -o remount,rw` the file system named above",
        Errno::ENODATA => {
            "see who gives addresses there, and that a NIC in `uplinks:` leads to that network; \
                 or write the addresses yourself"
        }
        Errno::EHOSTDOWN => "start it again: `ovsns up` with the lab's file",
        Errno::EOPNOTSUPP => "`ovsns doctor` says what this kernel can do",
        _ => return None,
    })
}

impl std::error::Error for KernelError {}

impl std::fmt::Display for KernelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.errno == Errno::ECHILD {
            let why = self.said.as_deref().unwrap_or("it failed");
            write!(f, "could not {}: {why}", self.asked)?;
            return self.heard.iter().try_for_each(|line| write!(f, "\n    | {line}"));
        }
        write!(f, "could not {}: {}", self.asked, words(self.errno))?;
        match &self.said {
            Some(said) => write!(f, " (the kernel says: {said})"),
            None => Ok(()),
        }
    }
}

/// An error number as a clause. Nobody should meet a bare number.
fn words(errno: Errno) -> String {
    match errno {
        Errno::EPERM | Errno::EACCES => "not allowed".into(),
        Errno::EEXIST => "it exists already".into(),
        Errno::ENODEV | Errno::ENXIO => "there is no such device".into(),
        Errno::ENOENT => "there is no such thing".into(),
        Errno::EBUSY => "it is in use".into(),
        Errno::EOPNOTSUPP => "this kernel cannot do it".into(),
        Errno::EINVAL => "the kernel does not take these values".into(),
        Errno::ENETUNREACH => "the next router is on no network of this node".into(),
        Errno::EADDRNOTAVAIL => "there is no such address".into(),
        Errno::ESRCH => "there is no such route".into(),
        Errno::EMFILE => "too many files are open in this process".into(),
        Errno::ENFILE => "too many files are open on this machine".into(),
        Errno::ENOSPC => "there is no room left".into(),
        Errno::EUSERS => "there are as many namespaces of this kind as are allowed here".into(),
        Errno::EAGAIN => "there are too many of them already".into(),
        Errno::EROFS => "the file system is read-only".into(),
        Errno::EHOSTDOWN => "the node has no keeper".into(),
        Errno::ENODATA => "nobody answered".into(),
        Errno::ESTALE => "it is another one now".into(),
        Errno::EXFULL => "the bridge has no port left (1023 at most)".into(),
        other => other.desc().to_lowercase(),
    }
}

/// The same of an I/O error, which would say its number.
pub fn words_of(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => words(Errno::from_raw(number)),
        None => error.to_string(),
    }
}

/// A step that could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct StepError {
    /// What was not done, as a sentence.
    pub what: String,
    /// Why.
    #[source]
    pub cause: KernelError,
}

/// What a try says: that it works, or what the kernel has not.
pub type Tried = Result<(), String>;

/// What it means that a kernel does not know a thing, which it says by one of
/// `signs`. Any other error is no answer to the question.
pub(super) fn tried<T>(
    tried: Result<T, KernelError>,
    what: &str,
    signs: &[Errno],
) -> Result<Tried, KernelError> {
    match tried {
        Ok(_) => Ok(Ok(())),
        Err(error) if signs.contains(&error.errno) => {
            Ok(Err(format!("this kernel has not {what}")))
        }
        Err(error) => Err(error),
    }
}
