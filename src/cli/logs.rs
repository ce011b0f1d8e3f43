//! `ovsns logs`

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::input::NodeWords;
use super::{CliError, Ending, show};
use crate::engine::EngineError;
use crate::engine::state::State;
use crate::kernel::KernelError;
use crate::kernel::life::{self, log};
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

pub(super) fn run(args: &Args) -> Result<Ending, CliError> {
    let words = NodeWords::new(&args.node, args.lab.as_deref())?;
    let only = args.process.as_deref().map(ProcessName::new).transpose()?;
    let directory = find(&words)?;
    // Watched first: what is said while the rest is shown is not lost.
    let watched = args.follow.then(|| watch(&directory)).transpose()?;
    let mut shown = BTreeMap::new();
    let processes = processes(&directory, only.as_ref());
    if processes.is_empty() && !args.follow {
        return Err(match only {
            Some(only) => CliError::usage(
                format!("node `{}` has no log of a process `{only}`", words.node),
                format!("`ovsns logs {}` shows all it has", words.node),
            ),
            None => CliError::usage(
                format!("nothing has run in node `{}`", words.node),
                "have something run: `run:` in the lab's file",
            ),
        });
    }
    let several = only.is_none() && (1 < processes.len() || args.follow);
    let lines = args.tail.unwrap_or(usize::MAX);
    for process in processes {
        let file = log::files(&directory, &process)[0].clone();
        shown.insert(process.clone(), end_of(&file));
        for line in log::last_lines(&directory, &process, lines) {
            say(&process, &line, several);
        }
    }
    let Some(watched) = watched else { return Ok(Ending::Well) };
    while directory.is_dir() {
        // Returns when something in the directory has changed, or it is gone.
        let fail = |errno| KernelError::new("hear of changes of a log", errno);
        watched.read_events().map_err(fail)?;
        for process in self::processes(&directory, only.as_ref()) {
            let before = shown.entry(process.clone()).or_default();
            let [file, put_aside] = log::files(&directory, &process);
            let now = end_of(&file);
            if before.inode != now.inode && before.inode == end_of(&put_aside).inode {
                news(&put_aside, before, &process, several);
            }
            if before.inode != now.inode {
                *before = Shown { inode: now.inode, ..Shown::default() };
            }
            news(&file, before, &process, several);
        }
    }
    Ok(Ending::Well)
}

/// How much of a file has been shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shown {
    inode: u64,
    bytes: u64,
}

fn end_of(file: &Path) -> Shown {
    let seen = fs::metadata(file);
    seen.map(|it| Shown { inode: it.ino(), bytes: it.len() }).unwrap_or_default()
}

/// Shows the whole lines that came since.
fn news(file: &Path, shown: &mut Shown, process: &ProcessName, several: bool) {
    let Ok(mut file) = File::open(file) else { return };
    let mut text = Vec::new();
    if file.seek(SeekFrom::Start(shown.bytes)).and_then(|_| file.read_to_end(&mut text)).is_err() {
        return;
    }
    let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { return };
    shown.bytes += end as u64 + 1;
    for line in String::from_utf8_lossy(&text[..end]).lines() {
        say(process, line, several);
    }
}

fn say(process: &ProcessName, line: &str, several: bool) {
    match several {
        true => show::line(&format!("{process} | {line}")),
        false => show::line(line),
    }
}

fn watch(directory: &Path) -> Result<Inotify, CliError> {
    let fail = |errno| KernelError::new("hear of changes of a log", errno);
    let watched = Inotify::init(InitFlags::IN_CLOEXEC).map_err(fail)?;
    let changes = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF;
    watched.add_watch(directory, changes).map_err(fail)?;
    Ok(watched)
}

fn processes(directory: &Path, only: Option<&ProcessName>) -> Vec<ProcessName> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| log::process_of(entry.file_name().to_str()?));
    let mut named: Vec<_> = named.filter(|name| only.is_none_or(|only| name == only)).collect();
    named.sort();
    named
}

/// The directory with the logs of the node that is meant.
fn find(words: &NodeWords) -> Result<PathBuf, CliError> {
    let state = State::from_environment();
    let labs = match &words.lab {
        Some(lab) => [lab.clone()].into(),
        None => state.labs().map_err(EngineError::from)?,
    };
    let directories = labs.iter().map(|lab| life::logs(&state.labs_directory(), lab, &words.node));
    let mut directories: Vec<_> = directories.filter(|path| path.is_dir()).collect();
    match directories.len() {
        1 => Ok(directories.swap_remove(0)),
        0 => Err(CliError::usage(
            format!("nothing has run in a node `{}`", words.node),
            "`ovsns node list` shows the nodes, and what runs in them",
        )),
        _ => Err(CliError::usage(
            format!("several labs have a node `{}`", words.node),
            format!("say which: `ovsns logs LAB/{}`", words.node),
        )),
    }
}
