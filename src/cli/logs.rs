//! `ovsns logs`

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{CallError, Ending, show};
use crate::api::{NodeWords, log_directory, log_processes, no_log};
use crate::kernel::KernelError;
use crate::kernel::life::log;
use crate::model::names::ProcessName;

/// Show what the processes of a node said
///
/// That is what they wrote to standard output and standard error. Of each process
/// the last two million bytes are kept, one to two files of one, until the node
/// goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns logs n1 web --follow")]
pub(super) struct Args {
    /// The node: NODE, or LAB/NODE
    node: String,
    /// One of its processes [default: all, one after the other]
    process: Option<String>,
    /// The lab, where several have a node of that name
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Only the last N lines of each
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Go on with what they say from now on, until Ctrl-C or the end of the node
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    match tell(args).await {
        // Whoever closed the pipe has read enough.
        Err(CallError::Untold { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Ending::Well)
        }
        told => told.map(|()| Ending::Well),
    }
}

async fn tell(args: &Args) -> Result<(), CallError> {
    let words = NodeWords::new(&args.node, args.lab.as_deref())?;
    let only = args.process.as_deref().map(ProcessName::new).transpose()?;
    let directory = log_directory(&words).await?;
    // Watched first: what is said while the rest is shown is not lost.
    let watched = args.follow.then(|| watch(&directory)).transpose()?;
    let processes = log_processes(&directory, only.as_ref());
    if processes.is_empty() && !args.follow {
        return Err(no_log(&words.node, only.as_ref()));
    }
    let several = only.is_none() && (1 < processes.len() || args.follow);
    let lines = args.tail.unwrap_or(usize::MAX);
    let mut followed = BTreeMap::new();
    for process in processes {
        let last = log::last(&directory, &process, lines);
        for line in last.lines {
            say(&process, &line, several)?;
        }
        let passed = inode(&log::files(&directory, &process)[1]);
        let last = Followed { at: last.end, passed, begun: last.begun };
        match args.follow {
            true => drop(followed.insert(process, last)),
            false => last.end(&process, several)?,
        }
    }
    let Some(watched) = watched else { return Ok(()) };
    while is_read(&watched)? {
        let fail = |errno| KernelError::new("hear of changes of a log", errno);
        let events = watched.read_events().map_err(fail)?;
        // One of the same name may be there again already: it is another node.
        if events.iter().any(|it| it.mask.contains(AddWatchFlags::IN_IGNORED)) {
            break;
        }
        for process in log_processes(&directory, only.as_ref()) {
            followed.entry(process).or_insert_with(Followed::default);
        }
        // A file that is deleted is closed, too: as long as it is open the kernel
        // does not tell that the directory is gone.
        for (process, followed) in &mut followed {
            let [file, put_aside] = log::files(&directory, process);
            let stays = followed.is_at(&file);
            // It is complete when another is in its place.
            followed.news(process, several)?;
            if stays {
                continue;
            }
            // Two may have been put aside since; the first of them is gone.
            let aside = inode(&put_aside);
            if followed.at.is_some() && !followed.is_at(&put_aside) && followed.passed != aside {
                followed.turn_to(&put_aside);
                followed.news(process, several)?;
            }
            followed.turn_to(&file);
            followed.news(process, several)?;
        }
    }
    // What was said last: the files may be gone, and are read all the same.
    for (process, mut followed) in followed {
        followed.news(&process, several)?;
        followed.end(&process, several)?;
    }
    Ok(())
}

/// Awaits that something has changed, or is there already. `false` if by then
/// nobody reads what is told any more.
fn is_read(watched: &Inotify) -> Result<bool, CallError> {
    let stdout = io::stdout();
    let mut ends = [
        PollFd::new(watched.as_fd(), PollFlags::POLLIN),
        // Of the other end of a pipe the kernel tells without being asked.
        PollFd::new(stdout.as_fd(), PollFlags::empty()),
    ];
    poll(&mut ends, PollTimeout::NONE)
        .map_err(|errno| KernelError::new("hear of changes of a log", errno))?;
    Ok(!show::is_unread(&stdout))
}

/// What has been shown of the log of a process.
#[derive(Debug, Default)]
struct Followed {
    /// The file, at the place to which it has been shown. Held open, it can be
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

    /// Shows the whole lines that came since.
    fn news(&mut self, process: &ProcessName, several: bool) -> Result<(), CallError> {
        // What cannot be read has nothing new.
        let Some(Ok(_)) = self.at.as_mut().map(|file| file.read_to_end(&mut self.begun)) else {
            return Ok(());
        };
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.begun.split_off(end + 1);
        for line in String::from_utf8_lossy(&self.begun).lines() {
            say(process, line, several)?;
        }
        self.begun = rest;
        Ok(())
    }

    /// Shows a last line that was never ended.
    fn end(self, process: &ProcessName, several: bool) -> Result<(), CallError> {
        match self.begun.is_empty() {
            true => Ok(()),
            false => say(process, &String::from_utf8_lossy(&self.begun), several),
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|it| it.ino())
}

fn say(process: &ProcessName, line: &str, several: bool) -> Result<(), CallError> {
    let told = match several {
        true => show::try_out(&format!("{process} | {line}\n")),
        false => show::try_out(&format!("{line}\n")),
    };
    told.map_err(|source| CallError::Untold { changed: false, source })
}

fn watch(directory: &Path) -> Result<Inotify, CallError> {
    let fail = |errno| KernelError::new("hear of changes of a log", errno);
    let watched = Inotify::init(InitFlags::IN_CLOEXEC).map_err(fail)?;
    let changes = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF;
    watched.add_watch(directory, changes).map_err(fail)?;
    Ok(watched)
}
