//! What a process of a node says, kept in files of bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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

/// Where what a process says goes.
#[derive(Debug)]
pub(super) struct Log {
    files: [PathBuf; 2],
    file: File,
    bytes: u64,
}

impl Log {
    /// Goes on with the file of a process.
    pub(super) fn open(directory: &Path, process: &ProcessName) -> io::Result<Self> {
        let files = files(directory, process);
        let (file, bytes) = append(&files[0])?;
        Ok(Self { files, file, bytes })
    }

    pub(super) fn write(&mut self, said: &[u8]) -> io::Result<()> {
        let bytes = said.len() as u64;
        if self.bytes != 0 && BYTES_MAX < self.bytes + bytes {
            fs::rename(&self.files[0], &self.files[1])?;
            (self.file, self.bytes) = append(&self.files[0])?;
        }
        self.file.write_all(said)?;
        self.bytes += bytes;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

/// The last lines of what a process said.
pub fn last_lines(directory: &Path, process: &ProcessName, lines: usize) -> Vec<String> {
    let mut text = Vec::new();
    for file in files(directory, process).iter().rev() {
        let Ok(mut file) = File::open(file) else { continue };
        let bytes = file.metadata().map_or(0, |it| it.len());
        // No more than a file may have, whoever wrote into it.
        let _ = file.seek(SeekFrom::Start(bytes.saturating_sub(2 * BYTES_MAX)));
        let _ = file.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
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
    }
}
