//! What a process of a node says, kept in files of bounded size.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::unistd::geteuid;

use crate::model::names::ProcessName;

/// A file is put aside when it has grown beyond this, and the one that was put
/// aside before it goes.
pub const BYTES_MAX: u64 = 1 << 20;

/// The file of a process, and the one that was put aside.
pub fn files(directory: &Path, process: &ProcessName) -> [PathBuf; 2] {
    [directory.join(format!("{process}.log")), directory.join(format!("{process}.log.1"))]
}

/// The process whose file is called so.
pub fn process_of(file: &str) -> Option<ProcessName> {
    ProcessName::new(file.strip_suffix(".log")?).ok()
}

/// How far above the logs of a node is what the state directory is in: it stays
/// when all that is ours is deleted.
const LEVELS: usize = 5;

/// What the processes of one node say.
#[derive(Debug)]
pub(super) struct Logs {
    directory: PathBuf,
    all: Mutex<BTreeMap<ProcessName, Arc<Mutex<Log>>>>,
}

impl Logs {
    /// Makes the directory. It is found again although a `/run` of the node's own
    /// hides it, and made again if somebody deletes it.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        make(directory)?;
        let above = directory.ancestors().nth(LEVELS).unwrap_or(directory);
        let below = directory.strip_prefix(above).map_err(io::Error::other)?;
        let opened = OwnedFd::from(File::open(above)?);
        let directory = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())).join(below);
        // For as long as the keeper lives.
        std::mem::forget(opened);
        Ok(Self { directory, all: Mutex::default() })
    }

    /// That of one process, which goes on where it was.
    pub(super) fn of(&self, process: &ProcessName) -> io::Result<Arc<Mutex<Log>>> {
        let mut all = self.all.lock().expect("nothing panics with it");
        if let Some(log) = all.get(process) {
            return Ok(log.clone());
        }
        let log = Arc::new(Mutex::new(Log::open(&self.directory, process)?));
        all.insert(process.clone(), log.clone());
        Ok(log)
    }

    /// The last lines of what a process said.
    pub(super) fn last_lines(&self, process: &ProcessName, lines: usize) -> Vec<String> {
        last_lines(&self.directory, process, lines)
    }

    /// Has all be where it belongs, whoever has deleted it.
    pub(super) fn mend(&self) {
        for log in self.all.lock().expect("nothing panics with it").values() {
            // Told when something is said, too; there is nobody to tell it to.
            let _ = log.lock().expect("nothing panics with it").mend();
        }
    }
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Where what a process says goes.
#[derive(Debug)]
pub(super) struct Log {
    files: [PathBuf; 2],
    file: File,
    bytes: u64,
}

impl Log {
    /// Goes on with the file of a process.
    fn open(directory: &Path, process: &ProcessName) -> io::Result<Self> {
        let files = files(directory, process);
        let (file, bytes) = append(&files[0])?;
        Ok(Self { files, file, bytes })
    }

    pub(super) fn write(&mut self, said: &[u8]) -> io::Result<()> {
        self.mend()?;
        let bytes = said.len() as u64;
        if self.bytes != 0 && BYTES_MAX < self.bytes + bytes {
            fs::rename(&self.files[0], &self.files[1])?;
            (self.file, self.bytes) = append(&self.files[0])?;
        }
        self.file.write_all(said)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Writes a file that was deleted again.
    fn mend(&mut self) -> io::Result<()> {
        if self.file.metadata()?.nlink() != 0 {
            return Ok(());
        }
        let mut said = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut said)?;
        let directory = self.files[0].parent().unwrap_or(Path::new("/"));
        make(directory)?;
        // Where anybody may make a directory, one may be there that is not ours.
        let state = directory.ancestors().nth(LEVELS - 1).unwrap_or(directory);
        let found = fs::symlink_metadata(state)?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        (self.file, self.bytes) = append(&self.files[0])?;
        self.file.write_all(&said)?;
        self.bytes += said.len() as u64;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// What a process said last, and where that ends.
#[derive(Debug)]
pub struct Last {
    /// The last whole lines.
    pub lines: Vec<String>,
    /// The beginning of one whose end has yet to come.
    pub begun: Vec<u8>,
    /// The file that is written to, read to that place; `None` if there is none.
    pub end: Option<File>,
}

/// The last lines of what a process said, one that has only begun among them.
pub(super) fn last_lines(directory: &Path, process: &ProcessName, lines: usize) -> Vec<String> {
    let mut last = last(directory, process, lines);
    if !last.begun.is_empty() {
        last.lines.push(String::from_utf8_lossy(&last.begun).into_owned());
    }
    last.lines
}

/// The last of what a process said, `lines` of it.
pub fn last(directory: &Path, process: &ProcessName, lines: usize) -> Last {
    let [file, put_aside] = files(directory, process);
    // Opened first: if it is put aside meanwhile, nothing is read twice.
    let end = File::open(file).ok();
    let aside = File::open(put_aside).ok().filter(|aside| {
        let inode = |file: &File| file.metadata().map(|it| it.ino()).ok();
        end.as_ref().is_none_or(|end| inode(end) != inode(aside))
    });
    let mut text = Vec::new();
    for mut file in aside.iter().chain(&end) {
        let bytes = file.metadata().map_or(0, |it| it.len());
        // No more than a file may have, whoever wrote into it.
        let _ = file.seek(SeekFrom::Start(bytes.saturating_sub(2 * BYTES_MAX)));
        let _ = file.read_to_end(&mut text);
    }
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let begun = text.split_off(whole);
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    // One that has begun is the last.
    let lines = lines.saturating_sub(usize::from(!begun.is_empty()));
    let all = all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned());
    Last { lines: all.collect(), begun, end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_stays_bounded() {
        let directory = tempfile::tempdir().expect("a directory");
        let name = ProcessName::new("talker").expect("a name");
        let mut log = Log::open(directory.path(), &name).expect("a file");
        let line = [b'x'; 65_535];
        for _ in 0..40 {
            log.write(&line).expect("there is room");
            log.write(b"\n").expect("there is room");
        }
        log.write(b"the end\n").expect("there is room");
        let sizes = files(directory.path(), &name).map(|f| fs::metadata(f).expect("there").len());
        assert!(sizes.iter().all(|size| *size <= BYTES_MAX), "{sizes:?}");
        assert_eq!(last_lines(directory.path(), &name, 1), ["the end"]);
        // One that is started again goes on where it was.
        Log::open(directory.path(), &name).expect("a file").write(b"again\n").expect("room");
        assert_eq!(last_lines(directory.path(), &name, 2), ["the end", "again"]);
        // A line that has only begun is one.
        Log::open(directory.path(), &name).expect("a file").write(b"and").expect("room");
        assert_eq!(last_lines(directory.path(), &name, 2), ["again", "and"]);
    }

    #[test]
    fn what_somebody_deletes_is_written_again() {
        let above = tempfile::tempdir().expect("a directory");
        let state = above.path().join("state");
        let directory = state.join("labs/l/logs/n");
        let logs = Logs::open(&directory).expect("a directory");
        let name = ProcessName::new("talker").expect("a name");
        let say = |text: &str| {
            let log = logs.of(&name).expect("a file");
            log.lock().expect("it lives").write(text.as_bytes())
        };
        let said = || last_lines(&directory, &name, 9);
        say("one\n").expect("room");
        fs::remove_dir_all(&state).expect("it is ours");
        logs.mend();
        assert_eq!(said(), ["one"]);
        fs::remove_dir_all(&state).expect("it is ours");
        say("two\n").expect("room");
        assert_eq!(said(), ["one", "two"]);
        // But not into what somebody has put in its place.
        let theirs = tempfile::tempdir().expect("a directory");
        fs::remove_dir_all(&state).expect("it is ours");
        std::os::unix::fs::symlink(theirs.path(), &state).expect("a link");
        say("three\n").expect_err("it is not ours");
        assert_eq!(said(), [""; 0]);
    }
}
