//! Printing: text and JSON to standard output, and how far a long piece of
//! work has come to standard error.

use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Prints a result. Whoever closes the pipe has read enough; what was done is
/// done all the same, so it is no failure of the command.
pub(super) fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        err(&format!("error: could not write the result: {error}\n"));
    }
}

/// Prints a part of a result that goes on, or says that nobody reads it.
pub(super) fn try_out(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
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

impl Drop for Meter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
