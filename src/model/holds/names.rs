//! Names of things in a file, and of many at once: keys of mappings and ends of links.

use serde_json::{Value as Json, json};

use super::{Holds, Label, Written, Wrong, other_kind, text, text_schema};
use crate::model::adopt::Adopt;
use crate::model::names::{IfName, InterfaceName, LabName};
use crate::model::problem::{At, Found, quoted};
use crate::model::ranges::Pattern;
use crate::model::yaml::{Entry, Kind, Tree};

impl Written for LabName {
    const WORDS: &'static str = "a name";
    fn schema() -> Json {
        text_schema(
            &format!("^[A-Za-z0-9][A-Za-z0-9_-]{{0,{}}}$", Self::BYTES_MAX - 1),
            &["my-lab"],
        )
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        Ok(Self::new(text)?)
    }
}

/// The letters of a name that may hold dots.
pub(super) fn dotted(bytes_max: usize) -> String {
    format!("^[A-Za-z0-9][A-Za-z0-9._-]{{0,{}}}$", bytes_max - 1)
}

/// Names that the kernel gives a meaning of their own: the loopback, and the
/// folders beside the devices' under `/proc/sys/net/ipv4/conf`.
const TAKEN: [&str; 3] = ["lo", "all", "default"];

impl Written for IfName {
    const WORDS: &'static str = "the name of a network device";
    fn schema() -> Json {
        text_schema(&dotted(Self::BYTES_MAX), &["br0"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        if TAKEN.contains(&text) {
            return Err(Wrong::new(format!("`{text}` is a name that the kernel uses itself")));
        }
        Ok(Self::new(text)?)
    }
}

impl Written for InterfaceName {
    const WORDS: &'static str = "the name of an interface";
    fn schema() -> Json {
        text_schema(&dotted(Self::BYTES_MAX), &["eth0"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        if TAKEN.contains(&text) {
            return Err(Wrong::new(format!("`{text}` is a name that the kernel uses itself")));
        }
        Ok(Self::new(text)?)
    }
}

impl Label for InterfaceName {
    type Name = Self;
    fn pattern() -> String {
        dotted(Self::BYTES_MAX)
    }
    fn read(key: &At<String>, found: &mut Found) -> Option<Self> {
        written(key, found)
    }
}

impl Label for IfName {
    type Name = Self;
    fn pattern() -> String {
        dotted(Self::BYTES_MAX)
    }
    fn read(key: &At<String>, found: &mut Found) -> Option<Self> {
        written(key, found)
    }
}

/// Reads a key that is a name.
fn written<T: Written>(key: &At<String>, found: &mut Found) -> Option<T> {
    match T::parse(&key.value) {
        Ok(name) => Some(name),
        Err(wrong) => {
            found.add(key.at, wrong.message).hint = wrong.hint;
            None
        }
    }
}

/// The number of a queue.
pub(in crate::model) struct QueueNumber;

impl Label for QueueNumber {
    type Name = u32;
    fn pattern() -> String {
        "^[0-9]{1,5}$".to_owned()
    }
    fn read(key: &At<String>, found: &mut Found) -> Option<u32> {
        let number = key.value.parse().ok().filter(|number| *number <= 61_439);
        if number.is_none() || 5 < key.value.len() {
            let shown = quoted(&key.value);
            found.add(key.at, format!("a queue has a number from 0 to 61439, not {shown}"));
            return None;
        }
        number
    }
}

/// A name of `ip netns`, or a path.
pub(in crate::model) struct NetnsName(pub(in crate::model) Adopt);

impl Written for NetnsName {
    const WORDS: &'static str = "a name of `ip netns` or a path";
    fn schema() -> Json {
        text_schema("^(/.*|[^/]+)$", &["blue", "/run/netns/blue"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        Ok(Self(Adopt::netns(text)?))
    }
}

/// A container by name or id.
pub(in crate::model) struct ContainerName(pub(in crate::model) Adopt);

impl Written for ContainerName {
    const WORDS: &'static str = "the name of a container";
    fn schema() -> Json {
        text_schema("^((podman|docker):)?[A-Za-z0-9][A-Za-z0-9_.-]*$", &["web", "podman:web"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        Ok(Self(Adopt::container(text)?))
    }
}

/// A port of a switch, by what is at its other end.
pub(in crate::model) struct PortName(pub(in crate::model) String);

impl Written for PortName {
    const WORDS: &'static str = "a port, by what is at its other end";
    fn schema() -> Json {
        text_schema("^[A-Za-z0-9][A-Za-z0-9._:~#@-]*$", &["n1", "n1:eth0", "s2"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"._:~#@-".contains(&b);
        let good = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        match good && text.bytes().all(letter) {
            true => Ok(Self(text.to_owned())),
            false => Err(Wrong::new(format!("{} cannot be a port", quoted(text)))
                .hint("name what is at its other end: `n1`, `n1:eth0`, a switch, a tunnel")),
        }
    }
}

/// The name of a node or a switch, or of many.
pub(in crate::model) struct Many;

/// What names and endpoints are made of, with ranges.
fn ranged(start: &str, letters: &str) -> String {
    let range = Pattern::SCHEMA;
    format!("(?:{start}|{range})(?:{letters}|{range})*")
}

impl Label for Many {
    type Name = Pattern;
    fn pattern() -> String {
        format!("^{}$", ranged("[A-Za-z0-9]", "[A-Za-z0-9._-]"))
    }
    fn read(key: &At<String>, found: &mut Found) -> Option<Pattern> {
        many(key, found)
    }
}

impl Label for End {
    type Name = Pattern;
    fn pattern() -> String {
        let name = ranged("[A-Za-z0-9]", "[A-Za-z0-9._-]");
        format!("^{name}(:{name})?$")
    }
    fn read(key: &At<String>, found: &mut Found) -> Option<Pattern> {
        many(key, found)
    }
}

fn many(text: &At<String>, found: &mut Found) -> Option<Pattern> {
    Pattern::new(&text.value)
        .map_err(|bad| {
            found
                .add(text.at, bad.to_string())
                .hint("a range is written `h[1-100]`, `h[01-10]` or `h[1,3,5-7]`");
        })
        .ok()
}

/// An end of a link, or of many: `n1:eth0`, `n1`, `s1`, `h[1-100]`.
pub(in crate::model) struct End;

impl Holds for End {
    type Value = Pattern;
    fn words() -> String {
        "two ends, such as `[n1:eth0, s1]`".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Pattern> {
        if let Kind::Map(entries) = &tree.kind
            && let [Entry { key: node, value: Tree { kind: Kind::Scalar { text, .. }, .. }, .. }] =
                entries.as_slice()
        {
            let end = quoted(&format!("{}:{text}", node.value));
            found
                .add(tree.at, "this end of a link is a mapping")
                .hint(format!("write {end} without a space after the colon"));
            return None;
        }
        let value = text::<Self>(tree, key, found)?.to_owned();
        many(&At { at: tree.at, value }, found)
    }
    fn schema() -> Json {
        let name = ranged("[A-Za-z0-9]", "[A-Za-z0-9._-]");
        text_schema(&format!("^{name}(:{name})?$"), &["n1:eth0", "n1", "s1", "h[1-100]"])
    }
}

/// Both ends of a link. One that cannot be read is `None`.
pub(in crate::model) struct Ends;

impl Holds for Ends {
    type Value = [At<Pattern>; 2];
    fn words() -> String {
        End::words()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Self::Value> {
        let Kind::List(items) = &tree.kind else {
            other_kind::<Self>(tree, key, found);
            return None;
        };
        if items.len() != 2 {
            let message = format!("`{key}` holds {}, not {}", Self::words(), items.len());
            found.add(tree.at, message);
        }
        let end =
            |item: &Tree| Some(At { at: item.at, value: <End as Holds>::read(item, key, found)? });
        let ends: Vec<_> = items.iter().map(end).collect();
        let ends: Vec<_> = ends.into_iter().collect::<Option<_>>()?;
        ends.try_into().ok()
    }
    fn schema() -> Json {
        json!({ "type": "array", "items": End::schema(), "minItems": 2, "maxItems": 2 })
    }
}
