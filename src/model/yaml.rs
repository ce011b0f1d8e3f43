//! YAML as a tree in which every piece knows its line and column.
//!
//! The events of `saphyr-parser` become lists, mappings and scalars. What a
//! scalar means (a number? a name? an address?) is not decided here: it keeps
//! its letters, and whether it was quoted. So `1.10` stays `1.10`, and the
//! switch `0x10` is called `0x10`.
//!
//! A file is input from outside, so the tree is bounded in depth and size.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use serde_json::Value as Json;

use super::problem::{At, Found, Position, quoted};

/// A piece of YAML and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    /// Where it begins.
    pub(super) at: Position,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a piece of YAML is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text, a number, true, nothing at all.
    Scalar {
        /// Its letters, without quotes and escapes.
        text: String,
        /// Whether it can be nothing but text.
        quoted: bool,
    },
    /// `[a, b]`, or lines that begin with a dash.
    List(Vec<Tree>),
    /// `{a: b}`, or lines with a colon.
    Map(Vec<Entry>),
}

/// A key and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: At<String>,
    /// What it holds.
    pub(super) value: Tree,
    /// Whether this mapping had the key before. That is a problem already.
    pub(super) again: bool,
}

impl Tree {
    /// Whether it is an unquoted nothing: `key:`, `~`, `null`.
    pub(super) fn is_null(&self) -> bool {
        let Kind::Scalar { text, quoted: false } = &self.kind else { return false };
        matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// What it is, in a message: "a list".
    pub(super) fn in_words(&self) -> String {
        match &self.kind {
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
            Kind::Scalar { .. } if self.is_null() => "empty".to_owned(),
            Kind::Scalar { text, quoted: true } => format!("the text {}", quoted(text)),
            Kind::Scalar { text, quoted: false } => quoted(text),
        }
    }
}

impl Tree {
    /// The same as JSON. A number is one that is written as we would write it,
    /// so that `0012` stays the text that it is.
    pub(super) fn to_json(&self) -> Json {
        match &self.kind {
            Kind::List(items) => items.iter().map(Tree::to_json).collect(),
            Kind::Map(entries) => {
                let entry = |entry: &Entry| (entry.key.value.clone(), entry.value.to_json());
                Json::Object(entries.iter().map(entry).collect())
            }
            Kind::Scalar { .. } if self.is_null() => Json::Null,
            Kind::Scalar { text, quoted: false } => match text.as_str() {
                "true" | "True" | "TRUE" => Json::Bool(true),
                "false" | "False" | "FALSE" => Json::Bool(false),
                text => match text.parse::<u64>() {
                    Ok(number) if number.to_string() == text => number.into(),
                    _ => text.into(),
                },
            },
            Kind::Scalar { text, quoted: true } => text.as_str().into(),
        }
    }
}

/// The biggest text that is read, in bytes. A lab of ten thousand nodes takes
/// one; what is bigger is a disk image with the wrong name. A caller that
/// reads a file may stop at one byte more.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;

/// How deep lists and mappings may lie in each other. A topology has six
/// levels; whoever walks the tree may recurse.
const DEPTH_MAX: usize = 32;

/// How many pieces a tree may have, with each alias counted as the copy that
/// it is: five lines of aliases to aliases stand for a billion pieces.
const PIECES_MAX: usize = 1_000_000;

/// Reads one document. `None` if there is none to go on with; why is in
/// `found`. Duplicate keys are problems, and stay in the tree.
pub(super) fn parse(bytes: &[u8], found: &mut Found) -> Option<Tree> {
    let text = text(bytes, found)?;
    let mut builder = Builder::default();
    let mut root = None;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                not_yaml(&error, text, found);
                return None;
            }
        };
        let at = position(&span.start);
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if 1 < documents {
                found
                    .add(at, "a second document begins here; a file holds one lab")
                    .hint("put the other lab in a file of its own");
                return None;
            }
        }
        match builder.take(event, at, found) {
            Ok(None) => {}
            Ok(Some(tree)) => root = Some(tree),
            Err(GivenUp) => return None,
        }
    }
    match root {
        Some(tree) if !tree.is_null() => Some(tree),
        _ => {
            found.add(Position::NOWHERE, "the file says nothing").hint(
                "begin with `switches:`, `nodes:` and `links:`; `ovsns schema` lists every key",
            );
            None
        }
    }
}

/// Returns the text, if `bytes` are text of a bearable size.
pub(super) fn text<'b>(bytes: &'b [u8], found: &mut Found) -> Option<&'b str> {
    if BYTES_MAX < bytes.len() {
        let mib = BYTES_MAX / 1024 / 1024;
        found.add(Position::NOWHERE, format!("the file is bigger than {mib} MiB")).hint(
            "a topology is a few lines of YAML; many like nodes are one line, such as `h[1-1000]: {}`",
        );
        return None;
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        found.add(Position::NOWHERE, "the file is UTF-16").hint("save it as UTF-8");
        return None;
    }
    // Editors on other systems begin UTF-8 with a mark that nobody sees.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let (before, after) = bytes.split_at(error.valid_up_to());
            let before = std::str::from_utf8(before).expect("it is valid up to here");
            if !before.contains('\0') {
                found
                    .add(end_of(before), format!("the byte 0x{:02x} is not UTF-8", after[0]))
                    .hint("a topology is a text file in UTF-8");
                return None;
            }
            before
        }
    };
    if let Some(zero) = valid.find('\0') {
        found
            .add(end_of(&valid[..zero]), "a zero byte; this is no text file")
            .hint("a topology is a text file in UTF-8");
        return None;
    }
    Some(valid)
}

/// The place right after `text`.
fn end_of(text: &str) -> Position {
    let crlf = text.matches("\r\n").count();
    let line = 1 + text.matches(['\n', '\r']).count() - crlf;
    let last = text.rfind(['\n', '\r']).map_or(0, |end| end + 1);
    Position { line, column: 1 + text[last..].chars().count() }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

/// Says in our words what the parser says in its own.
fn not_yaml(error: &ScanError, text: &str, found: &mut Found) {
    // The parser ends every text with a line break.
    let at = position(error.marker()).min(end_of(text));
    let info = error.info();
    if info.contains("tab") && !info.contains("table") {
        found.add(at, "a tab; YAML is indented with spaces").hint("replace it by spaces");
        return;
    }
    let what = match info.split_once(", ") {
        Some((context, what)) if context.starts_with("while ") => what,
        _ => info,
    };
    let what = match what {
        "recursion limit exceeded" => "brackets lie too deep in each other",
        "mapping values are not allowed in this context" => "a `:` where no key can be",
        "found unexpected end of stream" => "a quote is opened and never closed",
        "simple key expect ':'" | "simple key expected" => "a key without its `:`",
        what => what,
    };
    let problem = found.add(at, format!("not YAML: {}", what.replace('`', "'")));
    let line = at.line.checked_sub(1).and_then(|line| text.lines().nth(line)).unwrap_or_default();
    if has_bare_range(line) {
        problem.hint("a range inside a list is quoted: [\"h[1-3]\", s1]");
    }
}

/// Whether a line has something like `[h[1-3], s1]`.
fn has_bare_range(line: &str) -> bool {
    line.match_indices('[').any(|(open, _)| {
        let before = line[..open].chars().next_back();
        let after = line[open + 1..].chars().next();
        before.is_some_and(|c| c.is_ascii_alphanumeric())
            && after.is_some_and(|c| c.is_ascii_digit())
    })
}

/// The problem is told; there is no tree.
struct GivenUp;

/// A finished piece, and what a copy of it costs.
#[derive(Clone)]
struct Built {
    tree: Tree,
    pieces: usize,
    /// Levels of lists and mappings, itself included.
    height: usize,
}

/// A list or mapping that is not at its end yet.
struct Open {
    at: Position,
    anchor: usize,
    pieces: usize,
    height: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Tree>),
    Map { entries: Vec<Entry>, first: HashMap<String, Position>, key: Option<Key> },
}

/// The key that waits for its value.
enum Key {
    Text(At<String>),
    /// A list or a mapping as a key; the entry is left out.
    Refused,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Built>,
    pieces: usize,
}

impl Builder {
    /// Takes the next event; the answer is the whole tree at its end.
    fn take(
        &mut self,
        event: Event<'_>,
        at: Position,
        found: &mut Found,
    ) -> Result<Option<Tree>, GivenUp> {
        let (anchor, built) = match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => return Ok(None),
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), at, found);
                self.push(at, anchor, Inside::List(Vec::new()), found)?;
                return Ok(None);
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), at, found);
                let inside = Inside::Map { entries: Vec::new(), first: HashMap::new(), key: None };
                self.push(at, anchor, inside, found)?;
                return Ok(None);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let open = self.open.pop().expect("the parser pairs starts and ends");
                let kind = match open.inside {
                    Inside::List(items) => Kind::List(items),
                    Inside::Map { entries, .. } => Kind::Map(entries),
                };
                let tree = Tree { at: open.at, kind };
                (open.anchor, Built { tree, pieces: open.pieces, height: open.height })
            }
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != ScalarStyle::Plain || is_text(tag.as_deref());
                check_tag(tag.as_deref(), at, found);
                self.count(1, at, found)?;
                let kind = Kind::Scalar { text: text.into_owned(), quoted };
                (anchor, Built { tree: Tree { at, kind }, pieces: 1, height: 0 })
            }
            Event::Alias(anchor) => (0, self.copy(anchor, at, found)?),
        };
        if anchor != 0 {
            self.count(built.pieces, at, found)?;
            self.anchors.insert(anchor, built.clone());
        }
        Ok(self.place(built, found))
    }

    fn push(
        &mut self,
        at: Position,
        anchor: usize,
        inside: Inside,
        found: &mut Found,
    ) -> Result<(), GivenUp> {
        self.count(1, at, found)?;
        self.open.push(Open { at, anchor, pieces: 1, height: 1, inside });
        self.check_depth(0, at, found)
    }

    fn copy(&mut self, anchor: usize, at: Position, found: &mut Found) -> Result<Built, GivenUp> {
        let Some(built) = self.anchors.get(&anchor) else {
            found.add(at, "an alias inside the very thing that it names");
            return Err(GivenUp);
        };
        let (pieces, height) = (built.pieces, built.height);
        self.check_depth(height, at, found)?;
        self.count(pieces, at, found)?;
        Ok(self.anchors[&anchor].clone())
    }

    fn check_depth(&self, more: usize, at: Position, found: &mut Found) -> Result<(), GivenUp> {
        if DEPTH_MAX < self.open.len() + more {
            found.add(at, format!("more than {DEPTH_MAX} levels deep"));
            return Err(GivenUp);
        }
        Ok(())
    }

    fn count(&mut self, pieces: usize, at: Position, found: &mut Found) -> Result<(), GivenUp> {
        self.pieces += pieces;
        if PIECES_MAX < self.pieces {
            let message = format!("more than {PIECES_MAX} pieces, counting what aliases stand for");
            found.add(at, message).hint("like nodes and links are written as ranges: `h[1-1000]`");
            return Err(GivenUp);
        }
        Ok(())
    }

    /// Puts a finished piece where it belongs; at the end, returns it.
    fn place(&mut self, built: Built, found: &mut Found) -> Option<Tree> {
        let Some(open) = self.open.last_mut() else { return Some(built.tree) };
        open.pieces += built.pieces;
        open.height = open.height.max(built.height + 1);
        match &mut open.inside {
            Inside::List(items) => items.push(built.tree),
            Inside::Map { entries, first, key } => match key.take() {
                None => *key = Some(as_key(built.tree, found)),
                Some(Key::Refused) => {}
                Some(Key::Text(key)) => entries.push(entry(key, built.tree, first, found)),
            },
        }
        None
    }
}

fn as_key(tree: Tree, found: &mut Found) -> Key {
    match tree.kind {
        Kind::Scalar { text, .. } => Key::Text(At { at: tree.at, value: text }),
        Kind::List(_) | Kind::Map(_) => {
            found.add(tree.at, format!("a key is a text, not {}", tree.in_words()));
            Key::Refused
        }
    }
}

fn entry(
    key: At<String>,
    mut value: Tree,
    first: &mut HashMap<String, Position>,
    found: &mut Found,
) -> Entry {
    if value.is_null() {
        // The parser notices on a later line that nothing came.
        value.at = key.at;
    }
    let before = first.get(&key.value).copied();
    match before {
        Some(before) => {
            let name = quoted(&key.value);
            found.add(key.at, format!("{name} is here a second time; the first is at {before}"));
        }
        None => {
            first.insert(key.value.clone(), key.at);
        }
    }
    Entry { key, value, again: before.is_some() }
}

fn is_text(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.suffix == "str" || (tag.handle.is_empty() && tag.suffix == "!"))
}

/// Tags of YAML itself say nothing new; those of others nothing we know.
fn check_tag(tag: Option<&Tag>, at: Position, found: &mut Found) {
    if let Some(tag) = tag
        && !tag.is_yaml_core_schema()
        && !is_text(Some(tag))
    {
        found.add(at, format!("the tag {} means nothing here", quoted(&tag.to_string())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(yaml: &[u8], expected: &str) {
        let start = String::from_utf8_lossy(&yaml[..yaml.len().min(100)]);
        let mut found = Found::default();
        let tree = parse(yaml, &mut found);
        let shown = match found.into_result("f", "") {
            Ok(()) => text_of(&tree.expect("a tree or a problem")),
            Err(problems) => {
                let lines: Vec<_> = problems
                    .problems()
                    .iter()
                    .map(|p| format!("{}:{} {}", p.line, p.column, p.message))
                    .collect();
                lines.join("; ")
            }
        };
        assert_eq!(shown, expected, "{start:?}");
    }

    fn text_of(tree: &Tree) -> String {
        let text = match &tree.kind {
            Kind::Scalar { text, quoted: true } => format!("{text:?}"),
            Kind::Scalar { text, quoted: false } => text.clone(),
            Kind::List(items) => {
                format!("[{}]", items.iter().map(text_of).collect::<Vec<_>>().join(" "))
            }
            Kind::Map(entries) => {
                let entry =
                    |e: &Entry| format!("{}@{}={}", e.key.value, e.key.at, text_of(&e.value));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        };
        format!("{text}@{}", tree.at)
    }

    #[test]
    fn every_piece_knows_its_place() {
        check(b"a: 1\nb:\n  - x\n  - 'y'\n", "{a@1:1=1@1:4 b@2:1=[x@3:5 \"y\"@4:5]@3:3}@1:1");
        check(b"n1: { a: [fd00::1/64] }", "{n1@1:1={a@1:7=[fd00::1/64@1:11]@1:10}@1:5}@1:1");
        check(b"\xef\xbb\xbf{\"a\":1.10}", "{a@1:2=1.10@1:6}@1:1");
        check(b"# hi\r\n\r\na:\r\nb: ~\r\n", "{a@3:1=@3:1 b@4:1=~@4:1}@3:1");
    }

    #[test]
    fn aliases_are_copies() {
        check(b"a: &x [1]\nb: *x\n", "{a@1:1=[1@1:8]@1:4 b@2:1=[1@1:8]@1:4}@1:1");
        check(b"a: &x [*x]\n", "1:8 an alias inside the very thing that it names");
        check(b"a: *y\n", "1:4 not YAML: found unknown anchor");
    }

    #[test]
    fn no_document_is_bigger_than_it_looks() {
        let laughs = "a: &a [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n".to_owned()
            + &('b'..='i')
                .map(|c| {
                    let before = (c as u8 - 1) as char;
                    format!("{c}: &{c} [{}]\n", [format!("*{before}")].repeat_joined(9))
                })
                .collect::<String>();
        let mut found = Found::default();
        assert_eq!(parse(laughs.as_bytes(), &mut found), None);
        assert_eq!(found.count(), 1);

        // Each step is one level; the whole would be a thousand.
        let tower = "k0: &k0 [x]\n".to_owned()
            + &(1..1000).map(|i| format!("k{i}: &k{i} [*k{}]\n", i - 1)).collect::<String>();
        check(tower.as_bytes(), "32:12 more than 32 levels deep");
        // The parser looks ahead, and has a bound of its own.
        check(
            "[".repeat(100_000).as_bytes(),
            "1:256 not YAML: brackets lie too deep in each other",
        );
        check("[\n".repeat(33).as_bytes(), "33:1 more than 32 levels deep");
    }

    trait RepeatJoined {
        fn repeat_joined(&self, times: usize) -> String;
    }
    impl RepeatJoined for [String; 1] {
        fn repeat_joined(&self, times: usize) -> String {
            vec![self[0].clone(); times].join(",")
        }
    }

    #[test]
    fn what_is_no_yaml_is_said_in_words() {
        check(b"", "0:0 the file says nothing");
        check(b"# only talk\n", "0:0 the file says nothing");
        check(b"a: 1\n---\nb: 2\n", "2:1 a second document begins here; a file holds one lab");
        check(b"a:\n\tb: 1\n", "2:2 a tab; YAML is indented with spaces");
        check(b"a: 1\na: 2\n", "2:1 `a` is here a second time; the first is at 1:1");
        check(b"[a]: 1\n", "1:1 a key is a text, not a list");
        check(b"a: !include x\n", "1:4 the tag `!include` means nothing here");
        check(b"a: !!str 5\n", "{a@1:1=\"5\"@1:4}@1:1");
        check(b"a: 1\nb\0: 2", "2:2 a zero byte; this is no text file");
        check(b"\x7fELF\x02\x01\x00\x00\xff", "1:7 a zero byte; this is no text file");
        check(b"a: 1\nb: \xff", "2:4 the byte 0xff is not UTF-8");
        check(b"\xff\xfea\0", "0:0 the file is UTF-16");
        check(&vec![b'#'; BYTES_MAX + 1], "0:0 the file is bigger than 8 MiB");
    }

    #[test]
    fn json_on_one_line_is_yaml() {
        let json = format!("{{\"a\":[{}]}}", vec!["{\"b\":\"c\"}"; 2000].join(","));
        let mut found = Found::default();
        let tree = parse(json.as_bytes(), &mut found).expect("it is YAML");
        assert_eq!(found.count(), 0);
        let Kind::Map(entries) = &tree.kind else { panic!("{tree:?}") };
        let Kind::List(items) = &entries[0].value.kind else { panic!("{tree:?}") };
        assert_eq!(items.len(), 2000);
    }
}
