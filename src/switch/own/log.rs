//! The keeper's own log, which reads like those of the daemons beside it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{dup2_stderr, dup2_stdout};

use super::place::{self, Place};

/// A log that may not be there: without one the keeper works all the same.
#[derive(Debug, Default)]
pub(super) struct Log(Option<File>);

impl Log {
    /// Opens the log in `directory`. Should this process panic, that goes
    /// there, too.
    pub(super) fn open(&mut self, directory: &Path) {
        self.0 = Place::open_log(&place::keeper_log(directory)).ok();
        if let Some(file) = &self.0 {
            let _ = speak_into(file);
        }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, text: &str) {
        if let Some(file) = &mut self.0 {
            let _ = file.write_all(format!("{} {text}\n", stamp(SystemTime::now())).as_bytes());
        }
    }
}

/// Has what this process would say on its output and its error go into `file`.
pub(super) fn speak_into(file: &File) -> io::Result<()> {
    dup2_stdout(file)?;
    Ok(dup2_stderr(file)?)
}

/// A time as the daemons write it, so that the logs can be read side by side:
/// `2026-11-22T06:07:17.675Z`.
fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years begin in March, so that the day that some have more is their last;
    // day 0 is 1 March of the year 0 (Hinnant, "chrono-Compatible Low-Level
    // Date Algorithms").
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month < 3);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let ms = since.subsec_millis();
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_the_daemons_do() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_795_327_637_675, "2026-11-22T06:07:17.675Z");
        check(4_107_542_399_000, "2100-02-28T23:59:59.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");

        #[track_caller]
        fn check(ms: u64, written: &str) {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_millis(ms)), written);
        }
    }
}
