//! What a key of the topology file can hold.
//!
//! Each kind of value is a type, and says three things in one place: how it
//! is read, how a message names it, and how a JSON Schema describes it. The
//! tables in `spec.rs` put a kind beside each key, so that what is read and
//! what editors are told cannot drift apart.

mod addresses;
mod choices;
mod names;
mod numbers;
mod openflow;
mod settings;

use std::marker::PhantomData;

use serde_json::{Value as Json, json};

use super::names::BadName;
use super::nearest::nearest;
use super::problem::{At, Found, quoted};
use super::topology::Nat;
use super::yaml::{Entry, Kind, Tree};

pub(super) use self::addresses::{
    Address, AddressOrWord, Destination, Gateway, HostAddress, Prefix,
};
pub(super) use self::choices::{Choice, DatapathChoice, NicMode, Protocol};
pub(super) use self::names::{ContainerName, End, Ends, Many, NetnsName, PortName, QueueNumber};
pub(super) use self::numbers::{Kilobits, Millis, Mtu, Seconds, VlanId, Whole};
pub(super) use self::openflow::{Collector, DatapathId, FlowText, Target};
pub(super) use self::settings::{Parameter, Sealing, Setting};

/// A kind of value.
pub(super) trait Holds {
    /// What it becomes.
    type Value;
    /// What a message says that the key holds: "true or false".
    fn words() -> String;
    /// Reads the value of `key`; `None` if it is of another kind. Whatever is
    /// wrong is in `found`.
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Self::Value>;
    /// The same as a JSON Schema.
    fn schema() -> Json;
}

/// A kind of key, in a mapping whose keys are names.
pub(super) trait Label {
    /// What the key becomes.
    type Name;
    /// The regular expression of its text.
    fn pattern() -> String;
    /// Reads a key; `None` if it can be none. Why is in `found`.
    fn read(key: &At<String>, found: &mut Found) -> Option<Self::Name>;
}

/// A mapping with known keys.
pub(super) trait Object: Default + Sized + 'static {
    /// What a message calls it: "switch".
    const NAME: &'static str;
    /// What it is, in a sentence.
    const HELP: &'static str;
    /// Its keys.
    const KEYS: &'static [Key<Self>];
    /// Whether it is of no use without any of its keys.
    const SAYS_SOMETHING: bool = false;
    /// Notes that not all of `key` could be read or, if it is `lost`, nothing
    /// of it; checks that would only repeat that are left out.
    fn flawed(&mut self, _key: &'static str, _lost: bool) {}
}

/// A key: its name, what it is for, what it holds, and its effect.
pub(super) struct Key<S> {
    pub(super) name: &'static str,
    /// Whether the object is nothing without it.
    pub(super) needed: bool,
    pub(super) help: &'static str,
    pub(super) schema: fn() -> Json,
    pub(super) read: fn(&mut S, &Tree, &mut Found),
}

/// Makes a [`Key`]: `key!("name": Kind, "what it is for", effect)`.
macro_rules! key {
    ($name:literal: $kind:ty, $help:literal, $effect:expr) => {
        key!(@ $name, $kind, $help, $effect, false)
    };
    (needed $name:literal: $kind:ty, $help:literal, $effect:expr) => {
        key!(@ $name, $kind, $help, $effect, true)
    };
    (@ $name:literal, $kind:ty, $help:literal, $effect:expr, $needed:literal) => {
        Key {
            name: $name,
            needed: $needed,
            help: $help,
            schema: <$kind as Holds>::schema,
            read: |object, tree, found| {
                let effect: fn(&mut Self, At<<$kind as Holds>::Value>) = $effect;
                let before = found.count();
                let value = <$kind as Holds>::read(tree, $name, found);
                if before < found.count() {
                    object.flawed($name, value.is_none());
                }
                if let Some(value) = value {
                    effect(object, At { at: tree.at, value });
                }
            },
        }
    };
}

pub(super) use key;

/// Says that `key` holds something of another kind.
pub(super) fn other_kind<H: Holds>(tree: &Tree, key: &str, found: &mut Found) {
    match tree.is_null() {
        true => found.add(tree.at, format!("`{key}` is empty; it holds {}", H::words())),
        false => {
            found.add(tree.at, format!("`{key}` holds {}, not {}", H::words(), tree.in_words()))
        }
    };
}

/// The letters of a scalar that is not empty.
pub(super) fn text<'t, H: Holds>(tree: &'t Tree, key: &str, found: &mut Found) -> Option<&'t str> {
    match &tree.kind {
        Kind::Scalar { text, .. } if !tree.is_null() => Some(text),
        _ => {
            other_kind::<H>(tree, key, found);
            None
        }
    }
}

/// True or false.
pub(super) struct Flag;

impl Holds for Flag {
    type Value = bool;
    fn words() -> String {
        "true or false".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<bool> {
        if let Kind::Scalar { text, quoted: false } = &tree.kind {
            match text.as_str() {
                "true" | "True" | "TRUE" => return Some(true),
                "false" | "False" | "FALSE" => return Some(false),
                _ => {}
            }
        }
        other_kind::<Self>(tree, key, found);
        None
    }
    fn schema() -> Json {
        json!({ "type": "boolean" })
    }
}

/// Whether there is a way out, or of which family.
pub(super) struct Exit;

impl Holds for Exit {
    type Value = Option<Nat>;
    fn words() -> String {
        "true, false, `ipv4` or `ipv6`".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Option<Nat>> {
        if let Kind::Scalar { text, quoted } = &tree.kind {
            match (text.as_str(), quoted) {
                ("true" | "True" | "TRUE", false) => return Some(Some(Nat::Both)),
                ("false" | "False" | "FALSE", false) => return Some(None),
                ("ipv4", _) => return Some(Some(Nat::Ipv4)),
                ("ipv6", _) => return Some(Some(Nat::Ipv6)),
                _ => {}
            }
        }
        other_kind::<Self>(tree, key, found);
        None
    }
    fn schema() -> Json {
        json!({ "enum": [true, false, "ipv4", "ipv6"] })
    }
}

/// One of a few words, or something with a notation of its own.
pub(super) trait Written: Sized {
    const WORDS: &'static str;
    fn schema() -> Json;
    fn parse(text: &str) -> Result<Self, Wrong>;
}

/// What is wrong with a text, and what to do.
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Wrong {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A text in the notation of `T`.
pub(super) struct Text<T>(PhantomData<T>);

impl<T: Written> Holds for Text<T> {
    type Value = T;
    fn words() -> String {
        T::WORDS.to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<T> {
        match T::parse(text::<Self>(tree, key, found)?) {
            Ok(value) => Some(value),
            Err(wrong) => {
                found.add(tree.at, wrong.message).hint = wrong.hint;
                None
            }
        }
    }
    fn schema() -> Json {
        T::schema()
    }
}

/// A list.
pub(super) struct List<H>(PhantomData<H>);

impl<H: Holds> Holds for List<H> {
    type Value = Vec<At<H::Value>>;
    fn words() -> String {
        "a list".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Self::Value> {
        let Kind::List(items) = &tree.kind else {
            other_kind::<Self>(tree, key, found);
            found.last_hint(|| match tree.is_null() {
                true => format!("write `{key}: []` for none"),
                false => "write brackets around it, or a dash before each entry".to_owned(),
            });
            return None;
        };
        let item = |item: &Tree| Some(At { at: item.at, value: H::read(item, key, found)? });
        Some(items.iter().filter_map(item).collect())
    }
    fn schema() -> Json {
        json!({ "type": "array", "items": H::schema() })
    }
}

/// A list that is of no use without an entry.
pub(super) struct Filled<H>(PhantomData<H>);

impl<H: Holds> Holds for Filled<H> {
    type Value = Vec<At<H::Value>>;
    fn words() -> String {
        List::<H>::words()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Self::Value> {
        if matches!(&tree.kind, Kind::List(items) if items.is_empty()) {
            found.add(tree.at, format!("`{key}` is empty")).hint("name one at least");
            return None;
        }
        List::<H>::read(tree, key, found)
    }
    fn schema() -> Json {
        json!({ "type": "array", "minItems": 1, "items": H::schema() })
    }
}

/// A mapping from names to things. Nothing at all is an empty one.
pub(super) struct Map<L, H>(PhantomData<(L, H)>);

impl<L: Label, H: Holds> Holds for Map<L, H> {
    type Value = Vec<(At<L::Name>, H::Value)>;
    fn words() -> String {
        "a mapping of names".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Self::Value> {
        let entries = entries::<Self>(tree, key, found)?;
        let mut things = Vec::with_capacity(entries.len());
        for Entry { key: name, value, .. } in entries.iter().filter(|entry| !entry.again) {
            let label = L::read(name, found);
            let thing = H::read(value, &name.value, found);
            if let (Some(label), Some(thing)) = (label, thing) {
                things.push((At { at: name.at, value: label }, thing));
            }
        }
        Some(things)
    }
    fn schema() -> Json {
        json!({
            "type": ["object", "null"],
            "patternProperties": { L::pattern(): H::schema() },
            "additionalProperties": false,
        })
    }
}

fn entries<'t, H: Holds>(tree: &'t Tree, key: &str, found: &mut Found) -> Option<&'t [Entry]> {
    match &tree.kind {
        Kind::Map(entries) => Some(entries),
        _ if tree.is_null() => Some(&[]),
        Kind::List(_) | Kind::Scalar { .. } => {
            other_kind::<H>(tree, key, found);
            None
        }
    }
}

/// An [`Object`], and where it begins.
pub(super) struct Of<S>(PhantomData<S>);

impl<S: Object> Holds for Of<S> {
    type Value = S;
    fn words() -> String {
        let keys: Vec<_> = S::KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
        format!("a mapping with {}", listed(&keys, "and"))
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<S> {
        let entries = entries::<Self>(tree, key, found)?;
        if S::SAYS_SOMETHING && entries.is_empty() {
            let keys: Vec<_> = S::KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
            found
                .add(tree.at, format!("`{key}` is empty"))
                .hint(format!("say {}, or leave it out", listed(&keys, "or")));
            return None;
        }
        let mut object = S::default();
        for entry in entries {
            if let Some(key) = known_key::<S>(entry, entries, found) {
                (key.read)(&mut object, &entry.value, found);
            }
        }
        for key in S::KEYS.iter().filter(|key| key.needed) {
            if !entries.iter().any(|entry| entry.key.value == key.name) {
                found.add(tree.at, format!("{} without `{}`", a(S::NAME), key.name));
                object.flawed(key.name, true);
            }
        }
        Some(object)
    }
    fn schema() -> Json {
        json!({ "$ref": format!("#/$defs/{}", S::NAME) })
    }
}

/// The schema of an object itself, to which [`Of`] refers.
pub(super) fn definition<S: Object>() -> Json {
    let property = |key: &Key<S>| {
        let mut schema = (key.schema)();
        schema["description"] = key.help.into();
        (key.name.to_owned(), schema)
    };
    let needed: Vec<_> = S::KEYS.iter().filter(|key| key.needed).map(|key| key.name).collect();
    let mut schema = json!({
        "description": S::HELP,
        "type": ["object", "null"],
        "properties": S::KEYS.iter().map(property).collect::<serde_json::Map<_, _>>(),
        "additionalProperties": false,
    });
    if S::SAYS_SOMETHING {
        schema["type"] = "object".into();
        schema["minProperties"] = 1.into();
    }
    if !needed.is_empty() {
        schema["type"] = "object".into();
        schema["required"] = needed.into();
    }
    schema
}

/// Finds the key of an entry. A near miss is told, and then read as what it
/// surely means, so that what is wrong below it is told at the same time.
fn known_key<S: Object>(
    entry: &Entry,
    entries: &[Entry],
    found: &mut Found,
) -> Option<&'static Key<S>> {
    let word = &entry.key.value;
    if let Some(key) = S::KEYS.iter().find(|key| key.name == word) {
        return Some(key);
    }
    if entry.again {
        return None;
    }
    let near = nearest(word, S::KEYS.iter().map(|key| key.name));
    let Some(near) = near else {
        let names: Vec<_> = S::KEYS.iter().map(|key| format!("`{}`", key.name)).collect();
        let hint = match word.as_str() {
            "<<" => "merge keys are not read; an alias can stand for a whole mapping".to_owned(),
            _ => format!("{} has {}", a(S::NAME), listed(&names, "and")),
        };
        found.add(entry.key.at, format!("unknown key {}", quoted(word))).hint(hint);
        return None;
    };
    found.add(entry.key.at, format!("unknown key {}; did you mean `{near}`?", quoted(word)));
    let taken = entries.iter().any(|other| other.key.value == near);
    S::KEYS.iter().find(|key| key.name == near && !taken)
}

/// `a switch`, `an interface`.
fn a(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// `a, b and c`.
pub(super) fn listed(words: &[String], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [some @ .., one] => format!("{} {last} {one}", some.join(", ")),
    }
}

impl From<BadName> for Wrong {
    fn from(bad: BadName) -> Self {
        Self::new(bad.to_string())
    }
}

fn text_schema(pattern: &str, examples: &[&str]) -> Json {
    json!({ "type": "string", "pattern": pattern, "examples": examples })
}

/// Makes a type one of a few words.
macro_rules! one_of {
    ($type:ty, $what:literal, $words:literal, $($text:literal => $value:expr),+ $(,)?) => {
        impl Written for $type {
            const WORDS: &'static str = $words;
            fn schema() -> Json {
                json!({ "enum": [$($text),+] })
            }
            fn parse(text: &str) -> Result<Self, Wrong> {
                match text {
                    $($text => Ok($value),)+
                    _ => {
                        let shown = quoted(text);
                        Err(Wrong::new(format!("{} is {}, not {shown}", $what, Self::WORDS)))
                    }
                }
            }
        }
    };
}

pub(super) use one_of;
