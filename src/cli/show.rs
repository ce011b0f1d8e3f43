//! Printing: text and JSON to standard output, and how far a long piece of
//! work has come to standard error.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::Duration;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use crate::api::Changed;

/// Why a result was not written.
static UNWRITTEN: Mutex<Option<io::Error>> = Mutex::new(None);

/// Prints a result. Whoever closes the pipe has read enough, and that is no
/// failure; any other is told by [`unwritten`] in the end, since what was to be
/// done is done all the same.
pub(super) fn out(text: &str) {
    let mut unwritten = UNWRITTEN.lock().expect("nothing panics with it");
    // What comes after a gap is no result.
    if unwritten.is_none() {
        *unwritten = try_out(text).err();
    }
}

/// Why not all of the result was written, unless nobody wanted it.
pub(super) fn unwritten() -> Option<io::Error> {
    let unwritten = UNWRITTEN.lock().expect("nothing panics with it").take();
    unwritten.filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

/// Prints a part of a result that goes on, or says that nobody reads it.
pub(super) fn try_out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Whether nobody will ever read what is written there: the other end of the
/// pipe is closed.
pub(super) fn is_unread(output: &impl AsFd) -> bool {
    let mut asked = [PollFd::new(output.as_fd(), PollFlags::empty())];
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
    // What cannot be asked about is told by writing.
    poll(&mut asked, PollTimeout::ZERO)
        .is_ok_and(|_| asked[0].revents().is_some_and(|found| found.intersects(gone)))
}

/// Prints to standard error, where nobody can be told if that fails.
pub(super) fn err(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints a line of a result.
pub(super) fn line(text: &str) {
    out(&format!("{text}\n"));
}

/// Prints a result for programs.
pub(super) fn json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("our own types are JSON");
    line(&text);
}

/// Says something that is no result.
pub(super) fn talk(text: &str) {
    err(&format!("{text}\n"));
}

/// Prints what a change of a lab came to.
pub(super) fn changed(Changed { lab, steps }: &Changed) {
    match steps.as_slice() {
        [] => line(&format!("lab {lab}: nothing to change")),
        steps => line(&format!("lab {lab}:\n  {}", steps.join("\n  "))),
    }
}

/// Rows in columns, without lines; the first row is the head.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Shows how far the work has come, on a terminal and only if it is long.
pub(super) struct Meter(ProgressBar);

impl Meter {
    /// A meter for a piece of work of that name.
    pub(super) fn new(name: &str) -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len} steps")
            .expect("a good template");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style);
        bar.set_message(name.to_owned());
        Self(bar)
    }

    /// Takes note.
    pub(super) fn set(&mut self, done: usize, total: usize) {
        if self.0.is_hidden() && Duration::from_millis(300) < self.0.elapsed() {
            // Hidden all the same where standard error is no terminal.
            self.0.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
    }
}

impl Meter {
    /// Has something else printed, which it is not to stand in the way of.
    pub(super) fn beside(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
