//! Ranges: one name that stands for many, such as `h[1-100]`.
//!
//! Brackets hold numbers and spans of numbers, `[1,3,5-7]`. A leading zero
//! asks for a width, `[01-10]`. Several brackets in one name are all of their
//! combinations, the last one turning fastest.

use super::problem::quoted;

/// A name with or without ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Letters(String),
    Numbers(Vec<Span>),
}

/// `from` to `to`, both included, padded to `width` digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u32,
    to: u32,
    width: usize,
}

impl Span {
    fn count(self) -> u64 {
        u64::from(self.to - self.from) + 1
    }
}

/// Why brackets are no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRange {
    #[error("{0} has a bracket that opens or closes nothing")]
    Unpaired(String),
    #[error("{0} has brackets without numbers")]
    NoNumbers(String),
    #[error("{0} counts backwards")]
    Backwards(String),
}

impl Pattern {
    /// How a schema writes a range.
    pub(super) const SCHEMA: &'static str = r"\[[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*\]";

    /// Reads a name. The letters around the brackets are not checked here.
    pub(super) fn new(text: &str) -> Result<Self, BadRange> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(bracket) = rest.find(['[', ']']) {
            let (letters, opened) = rest.split_at(bracket);
            if !letters.is_empty() {
                pieces.push(Piece::Letters(letters.to_owned()));
            }
            let inside = opened.strip_prefix('[').and_then(|opened| opened.split_once(']'));
            let (numbers, after) = inside.ok_or_else(|| BadRange::Unpaired(quoted(text)))?;
            let spans: Result<_, _> =
                numbers.split(',').map(|span| self::span(span, text)).collect();
            pieces.push(Piece::Numbers(spans?));
            rest = after;
        }
        if !rest.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Letters(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    /// A name that stands for itself, whatever its letters.
    pub(super) fn literal(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { pieces: vec![Piece::Letters(text.clone())], text }
    }

    /// The name as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// How many names it stands for; at least one.
    pub(super) fn count(&self) -> u64 {
        let of = |piece: &Piece| match piece {
            Piece::Letters(_) => 1,
            Piece::Numbers(spans) => {
                spans.iter().fold(0, |sum: u64, s| sum.saturating_add(s.count()))
            }
        };
        self.pieces.iter().fold(1, |product, piece| product.saturating_mul(of(piece)))
    }

    /// The names. The caller has looked at `count`.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = vec![String::new()];
        for piece in &self.pieces {
            match piece {
                Piece::Letters(letters) => names.iter_mut().for_each(|name| name.push_str(letters)),
                Piece::Numbers(spans) => {
                    let longer = |name: String| {
                        spans
                            .iter()
                            .flat_map(|s| (s.from..=s.to).map(|n| (n, s.width)))
                            .map(move |(number, width)| format!("{name}{number:0width$}"))
                            .collect::<Vec<_>>()
                    };
                    names = names.into_iter().flat_map(longer).collect();
                }
            }
        }
        names
    }
}

/// Reads `7` or `5-7`.
fn span(span: &str, text: &str) -> Result<Span, BadRange> {
    let number = |digits: &str| {
        let fits = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| digits.parse::<u32>().ok()).flatten()
    };
    let (from, to) = span.split_once('-').unwrap_or((span, span));
    let none = || BadRange::NoNumbers(quoted(text));
    let (first, last) = (number(from).ok_or_else(none)?, number(to).ok_or_else(none)?);
    if last < first {
        return Err(BadRange::Backwards(quoted(text)));
    }
    let width = if from.starts_with('0') && 1 < from.len() { from.len() } else { 0 };
    Ok(Span { from: first, to: last, width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_people_write_them() {
        check("n1", "n1");
        check("h[1-3]", "h1 h2 h3");
        check("h[08-10]", "h08 h09 h10");
        check("[1,3,5-6]x", "1x 3x 5x 6x");
        check("h[1-2]:eth[0-1]", "h1:eth0 h1:eth1 h2:eth0 h2:eth1");
        check("h[0]", "h0");
        check("", "");
        check("h[3-1]", "`h[3-1]` counts backwards");
        check("h[]", "`h[]` has brackets without numbers");
        check("h[a-b]", "`h[a-b]` has brackets without numbers");
        check("h[1-2-3]", "`h[1-2-3]` has brackets without numbers");
        check("h[1,]", "`h[1,]` has brackets without numbers");
        check("h[-1]", "`h[-1]` has brackets without numbers");
        check("h[9999999999]", "`h[9999999999]` has brackets without numbers");
        check("h[1", "`h[1` has a bracket that opens or closes nothing");
        check("h]1[", "`h]1[` has a bracket that opens or closes nothing");

        #[track_caller]
        fn check(text: &str, expected: &str) {
            let names = Pattern::new(text).map(|pattern| {
                let names = pattern.names();
                assert_eq!(names.len() as u64, pattern.count());
                names.join(" ")
            });
            assert_eq!(names.unwrap_or_else(|bad| bad.to_string()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_count_never_overflows() {
        let pattern = Pattern::new(&"[0-999999999]".repeat(9)).expect("a range");
        assert_eq!(pattern.count(), u64::MAX);
    }
}
