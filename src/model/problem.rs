//! Problems: what is wrong in a topology file, where, and what to do about it.
//!
//! Reading never stops at the first mistake. Everything that reads or checks
//! adds to one [`Found`]; at the end it becomes one [`Problems`], which knows
//! the lines of the file and so can show each mistake in its place. Nothing
//! here prints.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// A place in a file, both counted from 1. Line 0 is no place at all: the
/// problem is with the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl Position {
    /// Where something is that no file says, such as a switch of `--topo`.
    pub const NOWHERE: Self = Self { line: 0, column: 0 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where the file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At<T> {
    /// Where.
    pub at: Position,
    /// What.
    pub value: T,
}

impl<T> At<T> {
    /// A value that no file says.
    pub fn nowhere(value: T) -> Self {
        Self { at: Position::NOWHERE, value }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, from 1; 0 if the problem is with the whole.
    pub line: usize,
    /// The column in characters, from 1; 0 if the problem is with the whole.
    pub column: usize,
    /// What is wrong with which thing.
    pub message: String,
    /// A thing to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Adds a thing to do.
    pub(super) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(still(hint.into()));
    }

    fn at(&self) -> Position {
        Position { line: self.line, column: self.column }
    }
}

/// The problems found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    problems: Vec<Problem>,
    /// How many more there were than are kept.
    beyond: usize,
    /// The one that takes the hints of those.
    unkept: Option<Problem>,
}

impl Found {
    /// More than anybody reads, and few enough that a file with a mistake in
    /// each of a million lines does not fill the memory with messages.
    const KEPT_MAX: usize = 10_000;

    /// Adds a problem; the answer takes its hint.
    pub(super) fn add(&mut self, at: Position, message: impl Into<String>) -> &mut Problem {
        let message = still(message.into());
        let problem = Problem { line: at.line, column: at.column, message, hint: None };
        if self.problems.len() < Self::KEPT_MAX {
            self.problems.push(problem);
            self.problems.last_mut().expect("it was pushed just now")
        } else {
            self.beyond += 1;
            self.unkept.insert(problem)
        }
    }

    /// Adds a problem that may have been told before: of an entry that stands for
    /// many links, once.
    pub(super) fn add_once(&mut self, at: Position, message: &str, hint: &str) {
        let same = |problem: &Problem| {
            (problem.line, problem.column) == (at.line, at.column) && problem.message == message
        };
        // Those of one entry come one after the other.
        if !self.problems.iter().rev().take(8).any(same) {
            self.add(at, message).hint(hint);
        }
    }

    /// Adds a hint to the problem that was added last.
    pub(super) fn last_hint(&mut self, hint: impl FnOnce() -> String) {
        if let Some(last) = self.unkept.as_mut().or(self.problems.last_mut()) {
            last.hint(hint());
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.problems.len() + self.beyond
    }

    /// Whether there are so many that another suggestion would not be shown.
    pub(super) fn has_plenty(&self) -> bool {
        Problems::SHOWN_MAX < self.problems.len()
    }

    /// Ends the search: all problems in the file's order, or none.
    pub(super) fn into_result(self, origin: &str, text: &str) -> Result<(), Problems> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let mut problems = self.problems;
        problems.sort_by_key(Problem::at);
        problems.dedup_by(|b, a| a.at() == b.at() && a.message == b.message);
        let excerpts = Excerpt::of_each(&problems[..problems.len().min(Problems::SHOWN_MAX)], text);
        Err(Problems { origin: origin.to_owned(), problems, beyond: self.beyond, excerpts })
    }
}

/// Everything that is wrong with a file, or with a `--topo`.
///
/// Displayed, it is a headline and each problem with its line and hint; the
/// front sets `error: ` before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    origin: String,
    problems: Vec<Problem>,
    beyond: usize,
    /// Of the problems that are shown, in their order.
    excerpts: Vec<Option<Excerpt>>,
}

impl Problems {
    /// How many problems are shown; the others are only counted.
    pub const SHOWN_MAX: usize = 50;

    /// A single problem with the whole of `origin`, such as a file that is
    /// too big to be read.
    pub fn of_the_whole(origin: &str, message: &str, hint: Option<&str>) -> Self {
        let problem = Problem {
            line: 0,
            column: 0,
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
        };
        Self { origin: origin.to_owned(), problems: vec![problem], beyond: 0, excerpts: vec![None] }
    }

    /// What was read, as a person would call it: `lab.yaml`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The problems in the file's order. Never empty.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = escaped(&self.origin);
        let count = self.problems.len() + self.beyond;
        let s = if count == 1 { "" } else { "s" };
        write!(f, "`{origin}` has {count} problem{s}")?;
        for (problem, excerpt) in self.problems.iter().zip(&self.excerpts) {
            match problem.line {
                0 => write!(f, "\n  {origin}: {}", problem.message)?,
                _ => write!(f, "\n  {origin}:{}: {}", problem.at(), problem.message)?,
            }
            if let Some(Excerpt { text, caret }) = excerpt {
                write!(f, "\n{:>6} | {text}", problem.line)?;
                write!(f, "\n{:>6} | {:>caret$}", "", "^", caret = caret + 1)?;
            }
            if let Some(hint) = &problem.hint {
                write!(f, "\n    hint: {hint}")?;
            }
        }
        match count - self.excerpts.len() {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// The part of a line that shows a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    text: String,
    /// How many letters stand before the place.
    caret: usize,
}

impl Excerpt {
    /// A line up to this long is shown whole, in characters.
    const WHOLE_MAX: usize = 100;
    /// Of a longer one: what is shown before the place, and all in all.
    const BEFORE: usize = 40;

    /// One excerpt for each of `problems`, which are in the file's order.
    fn of_each(problems: &[Problem], text: &str) -> Vec<Option<Self>> {
        if text.is_empty() {
            return vec![None; problems.len()];
        }
        let mut lines = lines(text).enumerate();
        let mut current: Option<(usize, &str)> = None;
        let mut excerpts = Vec::with_capacity(problems.len());
        for problem in problems {
            while problem.line != 0 && current.is_none_or(|(line, _)| line < problem.line) {
                match lines.next() {
                    Some((index, text)) => current = Some((index + 1, text)),
                    None => break,
                }
            }
            let line = current.filter(|(line, _)| *line == problem.line);
            excerpts.push(line.map(|(_, text)| Self::of(text, problem.column)));
        }
        excerpts
    }

    fn of(line: &str, column: usize) -> Self {
        let place = column.saturating_sub(1);
        let long = line.chars().nth(Self::WHOLE_MAX).is_some();
        let start = if long { place.saturating_sub(Self::BEFORE) } else { 0 };
        let mut text = String::new();
        if start != 0 {
            text.push_str("...");
        }
        let mut caret = None;
        let mut rest = line.chars().skip(start);
        for (offset, letter) in rest.by_ref().take(Self::WHOLE_MAX).enumerate() {
            if start + offset == place {
                caret = Some(text.chars().count());
            }
            // A tab would put the caret elsewhere.
            match letter {
                '\t' => text.push(' '),
                letter => push_escaped(&mut text, letter),
            }
        }
        let caret = caret.unwrap_or_else(|| text.chars().count());
        if rest.next().is_some() {
            text.push_str("...");
        }
        Self { text, caret }
    }
}

/// The lines of a text as YAML counts them: a lone carriage return ends one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let broken = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + broken..]);
        Some(&text[..end])
    })
}

/// A text from outside inside a message: in backticks, nothing in it that
/// moves the cursor, cut if it is long.
pub(super) fn quoted(text: &str) -> String {
    let mut shown = String::from("`");
    push_cut(&mut shown, text);
    shown.push('`');
    shown
}

/// The same without backticks.
fn escaped(text: &str) -> String {
    let mut shown = String::new();
    push_cut(&mut shown, text);
    shown
}

fn push_cut(shown: &mut String, text: &str) {
    const LETTERS_MAX: usize = 64;
    let mut letters = text.chars();
    letters.by_ref().take(LETTERS_MAX).for_each(|letter| push_escaped(shown, letter));
    if letters.next().is_some() {
        shown.push_str("...");
    }
}

/// The same text with nothing in it that moves the cursor: a message may have a key
/// of the file in it, and YAML can write any character as that (`"\e[2J"`).
fn still(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut shown = String::new();
    text.chars().for_each(|letter| push_escaped(&mut shown, letter));
    shown
}

/// Control characters, and those that turn the direction of writing.
fn push_escaped(shown: &mut String, letter: char) {
    match letter {
        '"' | '\'' | '\\' => shown.push(letter),
        letter => write!(shown, "{}", letter.escape_debug()).expect("a string takes all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_moves_the_cursor() {
        let mut found = Found::default();
        found.add(Position::NOWHERE, "`\u{1b}[2J` holds \u{9b}1A").hint("write `\u{7f}`");
        let problems = found.into_result("file", "").expect_err("one was added");
        let shown = "`file` has 1 problem\n  file: `\\u{1b}[2J` holds \\u{9b}1A\n    hint: write \
                     `\\u{7f}`";
        assert_eq!(problems.to_string(), shown);
    }

    fn shown(text: &str, places: &[(usize, usize, &str)]) -> String {
        let mut found = Found::default();
        for (line, column, message) in places {
            found.add(Position { line: *line, column: *column }, *message);
        }
        found.into_result("lab.yaml", text).expect_err("there are some").to_string()
    }

    #[test]
    fn problems_come_in_the_files_order_each_once() {
        let text = "a: 1\r\nb: 2\rc: 3";
        let shown = shown(text, &[(3, 4, "three"), (1, 1, "one"), (0, 0, "all"), (1, 1, "one")]);
        insta::assert_snapshot!(shown, @r"
        `lab.yaml` has 3 problems
          lab.yaml: all
          lab.yaml:1:1: one
             1 | a: 1
               | ^
          lab.yaml:3:4: three
             3 | c: 3
               |    ^
        ");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let Excerpt { text, caret } = Excerpt::of(&text, 5001);
        assert_eq!(text.len(), 3 + Excerpt::WHOLE_MAX + 3);
        assert_eq!(text.chars().nth(caret), Some('X'));
    }

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        let shown = shown("n: \u{1b}[31m\u{202e}\t!", &[(1, 11, &quoted("\u{1b}]0;x\u{7}"))]);
        insta::assert_snapshot!(shown, @r"
        `lab.yaml` has 1 problem
          lab.yaml:1:11: `\u{1b}]0;x\u{7}`
             1 | n: \u{1b}[31m\u{202e} !
               |                       ^
        ");
    }

    #[test]
    fn too_many_are_counted() {
        let text = "x\n".repeat(20_000);
        let places: Vec<_> = (1..=20_000).map(|line| (line, 1, "no")).collect();
        let shown = shown(&text, &places);
        assert!(shown.starts_with("`lab.yaml` has 20000 problems\n"), "{shown}");
        assert!(shown.ends_with("\n  and 19950 more"), "{shown}");
    }
}
