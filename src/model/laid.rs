//! Files of a node, laid over those of the machine for whoever is in it: what a
//! topology file says of them, and what they are then.
//!
//! A file that is a copy of another one (`from`) is read when the topology is,
//! by whoever has opened that; a lab has texts only.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::holds::{Holds, Key, Label, Object, Of, Text, Written, Wrong, key, other_kind};
use super::problem::{At, Found, Position, quoted};
use super::spec::LabSpec;
use super::yaml::{Kind, Tree};

/// A file as it is, or is to be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// What is in it.
    pub text: String,
    /// Its permissions, as for chmod(1).
    pub mode: u32,
}

/// Without the text: it may be long, and a secret.
impl fmt::Debug for NodeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeFile({} bytes, {:04o})", self.text.len(), self.mode)
    }
}

/// The permissions of one that says none.
const MODE_DEFAULT: u32 = 0o644;

/// How much may be in one, in bytes: it is a part of what is remembered of a lab.
pub const BYTES_MAX: usize = 256 << 10;

/// How much may be in all of a lab.
const ALL_BYTES_MAX: usize = 16 << 20;

/// Directories of which a node with `mount` in its `isolation` has its own, empty
/// at first.
pub const OWN_PLACES: [&str; 3] = ["/tmp", "/run", "/var/log"];

/// Where no file can be laid: what is there is made by the kernel, or is what
/// `ovsns` works with.
pub const NO_FILES: [&str; 5] = ["/proc", "/sys", "/dev", "/run/ovsns", "/run/netns"];

/// Which of these places a path is in, or is.
pub fn place_of<'p>(path: &str, places: &[&'p str]) -> Option<&'p str> {
    let is_in = |place: &&&str| {
        path.strip_prefix(**place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    places.iter().find(is_in).copied()
}

/// The longest path, in bytes.
const PATH_BYTES_MAX: usize = 1024;

/// Where a file is in a node: from `/` down, and nowhere else.
pub(super) struct FilePath;

impl Label for FilePath {
    type Name = String;
    fn pattern() -> String {
        "^/".to_owned()
    }
    fn read(key: &At<String>, found: &mut Found) -> Option<String> {
        let text = &key.value;
        let shown = quoted(text);
        let Some(below) = text.strip_prefix('/') else {
            found
                .add(key.at, format!("{shown} does not begin with `/`"))
                .hint("write where the file is in the node, such as `/etc/motd`");
            return None;
        };
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
        if !below.split('/').all(is_plain)
            || text.chars().any(char::is_control)
            || PATH_BYTES_MAX < text.len()
        {
            found.add(key.at, format!("{shown} is no plain path of a file")).hint(
                "names with one `/` between them, none of them `.` or `..`, as in `/etc/motd`",
            );
            return None;
        }
        if let Some(place) = place_of(text, &NO_FILES) {
            found.add(key.at, format!("{shown} is in `{place}`, where no file can be laid"));
            return None;
        }
        Some(text.clone())
    }
}

/// Permissions in the notation of chmod(1).
struct Mode(u32);

impl Written for Mode {
    const WORDS: &'static str = "permissions, such as \"0640\"";
    fn schema() -> Json {
        json!({ "type": ["string", "integer"], "pattern": "^0?[0-7]{3}$" })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let digits = text.strip_prefix('0').filter(|rest| rest.len() == 3).unwrap_or(text);
        let octal = digits.len() == 3 && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|_| octal);
        mode.map(Self).ok_or_else(|| {
            Wrong::new(format!("`mode` is {}, not {}", Self::WORDS, quoted(text)))
                .hint("three digits from 0 to 7, as for chmod")
        })
    }
}

/// What is in a file.
struct FileText(String);

impl Written for FileText {
    const WORDS: &'static str = "a text";
    fn schema() -> Json {
        json!({ "type": ["string", "number", "boolean"] })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        fits(text.len()).map_err(Wrong::new)?;
        Ok(Self(text.to_owned()))
    }
}

fn fits(bytes: usize) -> Result<(), String> {
    match bytes <= BYTES_MAX {
        true => Ok(()),
        false => Err(format!("it is bigger than {} KiB", BYTES_MAX >> 10)),
    }
}

/// The path of a file of the machine.
struct Source(String);

impl Written for Source {
    const WORDS: &'static str = "the path of a file, such as `./frr.conf`";
    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        match text.is_empty() || text.contains('\0') {
            true => Err(Wrong::new(format!("`from` is {}, not {}", Self::WORDS, quoted(text)))),
            false => Ok(Self(text.to_owned())),
        }
    }
}

/// A file, as it is said.
#[derive(Default)]
pub(super) struct FileSpec {
    text: Option<String>,
    from: Option<At<String>>,
    mode: Option<u32>,
    flawed: bool,
}

impl Object for FileSpec {
    const NAME: &'static str = "file";
    const HELP: &'static str = "A file that a node has in place of the machine's.";
    const KEYS: &'static [Key<Self>] = &[
        key!("text": Text<FileText>,
            "What is in it.",
            |file, text| file.text = Some(text.value.0)),
        key!("from": Text<Source>,
            "The file that it is a copy of, with a path from the topology file's directory on. It is \
             read when the topology is.",
            |file, from| file.from = Some(At { at: from.at, value: from.value.0 })),
        key!("mode": Text<Mode>,
            "Its permissions, as for chmod (default: 0644). It belongs to root.",
            |file, mode| file.mode = Some(mode.value.0)),
    ];
    fn flawed(&mut self, _key: &'static str, _lost: bool) {
        self.flawed = true;
    }
}

/// What is in a file, or more about it.
pub(super) struct FileOrText;

impl Holds for FileOrText {
    type Value = FileSpec;
    fn words() -> String {
        "a text, or `from: FILE`".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<FileSpec> {
        match &tree.kind {
            Kind::Map(_) => Of::<FileSpec>::read(tree, key, found),
            Kind::Scalar { text, .. } if !tree.is_null() => match fits(text.len()) {
                Ok(()) => Some(FileSpec { text: Some(text.clone()), ..FileSpec::default() }),
                Err(why) => {
                    found.add(tree.at, format!("the text of `{key}` cannot be laid: {why}"));
                    None
                }
            },
            _ => {
                other_kind::<Self>(tree, key, found);
                None
            }
        }
    }
    fn schema() -> Json {
        json!({ "anyOf": [FileText::schema(), Of::<FileSpec>::schema()] })
    }
}

/// Opens what a file is a copy of: the bytes, or why there are none, as a clause.
/// Of one that is too big a byte more than fits is enough.
pub type Sources<'s> = &'s mut dyn FnMut(&str) -> Result<Vec<u8>, String>;

/// Fills in what files are copies of.
pub(super) fn read_sources(lab: &mut LabSpec, sources: Sources<'_>, found: &mut Found) {
    for (_, node) in &mut lab.nodes {
        for (At { value: path, .. }, file) in &mut node.files {
            let (Some(from), None) = (&file.from, &file.text) else { continue };
            let (why, hint) = match sources(&from.value) {
                Err(why) => (why, Some("it is looked for from the topology file's directory on")),
                Ok(bytes) => match fits(bytes.len()).and_then(|()| {
                    String::from_utf8(bytes).map_err(|_| "it is no text (UTF-8)".to_owned())
                }) {
                    Err(why) => (why, None),
                    Ok(text) => {
                        file.text = Some(text);
                        file.from = None;
                        continue;
                    }
                },
            };
            let shown = quoted(&from.value);
            let problem = found.add(from.at, format!("could not take {shown} for `{path}`: {why}"));
            problem.hint = hint.map(str::to_owned);
            file.flawed = true;
            file.from = None;
        }
    }
}

/// The files of a node, as far as they make sense.
pub(super) fn files(
    specs: &[(At<String>, FileSpec)],
    found: &mut Found,
) -> BTreeMap<String, NodeFile> {
    let mut files: BTreeMap<String, NodeFile> = BTreeMap::new();
    for (At { at, value: path }, file) in specs {
        let FileSpec { text, from, mode, flawed } = file;
        match (text, from) {
            (Some(_), Some(from)) => {
                let what = format!("`{path}` with both `text` and `from`");
                found.add(from.at, what).hint("leave one of them out");
            }
            (None, _) if !flawed => {
                found
                    .add(*at, format!("`{path}` says neither `text` nor `from`"))
                    .hint("write what is in it, or which file it is a copy of");
            }
            _ => {}
        }
        let is_below = |a: &str, b: &str| a != b && place_of(a, &[b]).is_some();
        if let Some(other) = files.keys().find(|it| is_below(it, path) || is_below(path, it)) {
            found.add(*at, format!("`{path}` and `{other}` cannot both be files"));
        }
        let text = text.clone().unwrap_or_default();
        let mode = mode.unwrap_or(MODE_DEFAULT);
        files.insert(path.clone(), NodeFile { text, mode });
    }
    files
}

/// Whether the files of all nodes are more than fits into what is remembered.
pub(super) fn check_all<'f>(
    all: impl Iterator<Item = &'f NodeFile>,
    at: Position,
    found: &mut Found,
) {
    let bytes: usize = all.map(|file| file.text.len()).sum();
    if ALL_BYTES_MAX < bytes {
        let most = ALL_BYTES_MAX >> 20;
        found.add(at, format!("the files of all nodes together are bigger than {most} MiB"));
    }
}

/// A file as a topology says it.
pub(super) fn of_file(file: &NodeFile) -> Json {
    let NodeFile { text, mode } = file;
    match *mode == MODE_DEFAULT {
        true => json!(text),
        false => json!({ "text": text, "mode": format!("{mode:04o}") }),
    }
}
