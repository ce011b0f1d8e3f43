//! What the processes of a node said, and go on to say.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{NodeLogs, Said, log_directory, log_processes};
use crate::api::CallError;
use crate::api::desk::NodeWords;
use crate::kernel::KernelError;
use crate::kernel::life::log;
use crate::model::names::ProcessName;

/// Follows the logs of a node. That there may be more to read shows at its file
/// descriptor.
#[derive(Debug)]
pub(crate) struct Following {
    directory: PathBuf,
    only: Option<ProcessName>,
    watched: Inotify,
    logs: BTreeMap<ProcessName, Followed>,
}

impl AsFd for Following {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}

impl AsRawFd for Following {
    fn as_raw_fd(&self) -> RawFd {
        self.watched.as_fd().as_raw_fd()
    }
}

impl Following {
    /// Begins with what has been said by now. A node in which nothing has run yet may
    /// begin to say something.
    ///
    /// Like `tail -F` of its logs.
    pub(crate) async fn begin(asked: &NodeLogs) -> Result<(Self, Vec<Said>), CallError> {
        let words = NodeWords::new(&asked.node, asked.lab.as_deref())?;
        let only = asked.process.as_deref().map(ProcessName::new).transpose()?;
        let directory = log_directory(&words).await?;
        // Watched first: what is said while the rest is read is not lost.
        let watched = watch(&directory)?;
        let (mut logs, mut said) = (BTreeMap::new(), Vec::new());
        for process in log_processes(&directory, only.as_ref()) {
            let last = log::last(&directory, &process, asked.tail.unwrap_or(usize::MAX));
            said.push(Said { process: process.to_string(), lines: last.lines });
            let passed = inode(&log::files(&directory, &process)[1]);
            logs.insert(process, Followed { at: last.end, passed, begun: last.begun });
        }
        said.retain(|it| !it.lines.is_empty());
        Ok((Self { directory, only, watched, logs }, said))
    }

    /// Reads what was said since, as whole lines, and leaves nothing to be read at the
    /// file descriptor. Nothing if the node is gone: then [`Self::end`] has what is left.
    pub(crate) fn read(&mut self) -> Result<Option<Vec<Said>>, CallError> {
        loop {
            let events = match self.watched.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(unheard(errno).into()),
            };
            // One of the same name may be there again already: it is another node.
            if events.iter().any(|it| it.mask.contains(AddWatchFlags::IN_IGNORED)) {
                return Ok(None);
            }
        }
        for process in log_processes(&self.directory, self.only.as_ref()) {
            self.logs.entry(process).or_default();
        }
        // A file that is deleted is closed, too: as long as it is open the kernel
        // does not tell that the directory is gone.
        let mut said = Vec::new();
        for (process, followed) in &mut self.logs {
            let mut lines = Vec::new();
            followed.go_on(&log::files(&self.directory, process), &mut lines);
            if !lines.is_empty() {
                said.push(Said { process: process.to_string(), lines });
            }
        }
        Ok(Some(said))
    }

    /// What was said last: the files may be gone, and are read all the same.
    pub(crate) fn end(self) -> Vec<Said> {
        let last = self.logs.into_iter().map(|(process, mut followed)| {
            let mut lines = Vec::new();
            followed.news(&mut lines);
            lines.extend(followed.end());
            Said { process: process.to_string(), lines }
        });
        last.filter(|said| !said.lines.is_empty()).collect()
    }
}

/// What has been read of the log of a process.
#[derive(Debug, Default)]
struct Followed {
    /// The file, at the place to which it has been read. Held open, it can be
    /// read to its end when it was put aside or deleted.
    at: Option<File>,
    /// The one before it, by its inode.
    passed: Option<u64>,
    /// The beginning of a line whose end has yet to come, be it in another file.
    begun: Vec<u8>,
}

impl Followed {
    fn is_at(&self, path: &Path) -> bool {
        self.inode() == inode(path)
    }

    fn inode(&self) -> Option<u64> {
        self.at.as_ref().and_then(|file| file.metadata().ok()).map(|it| it.ino())
    }

    /// Goes on at the beginning of another file. One that is gone again is none.
    fn turn_to(&mut self, path: &Path) {
        self.passed = self.inode();
        self.at = File::open(path).ok();
    }

    /// Adds the whole lines that came since.
    fn news(&mut self, lines: &mut Vec<String>) {
        // What cannot be read has nothing new.
        let Some(Ok(_)) = self.at.as_mut().map(|file| file.read_to_end(&mut self.begun)) else {
            return;
        };
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return };
        let rest = self.begun.split_off(end + 1);
        lines.extend(String::from_utf8_lossy(&self.begun).lines().map(str::to_owned));
        self.begun = rest;
    }

    /// Goes on to the files that are there by now, with all that was said meanwhile.
    fn go_on(&mut self, [file, put_aside]: &[PathBuf; 2], lines: &mut Vec<String>) {
        let stays = self.is_at(file);
        // It is complete when another is in its place.
        self.news(lines);
        if stays {
            return;
        }
        // Two may have been put aside since; the first of them is gone.
        let aside = inode(put_aside);
        if self.at.is_some() && !self.is_at(put_aside) && self.passed != aside {
            self.turn_to(put_aside);
            self.news(lines);
        }
        self.turn_to(file);
        self.news(lines);
    }

    /// The last line, if it was never ended.
    fn end(self) -> Option<String> {
        (!self.begun.is_empty()).then(|| String::from_utf8_lossy(&self.begun).into_owned())
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|it| it.ino())
}

fn unheard(errno: Errno) -> KernelError {
    KernelError::new("hear of changes of a log", errno)
}

fn watch(directory: &Path) -> Result<Inotify, CallError> {
    let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
    let watched = Inotify::init(flags).map_err(unheard)?;
    let changes = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF;
    watched.add_watch(directory, changes).map_err(unheard)?;
    Ok(watched)
}
