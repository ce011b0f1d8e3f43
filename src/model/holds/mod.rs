//! What a key of the topology file can hold.
//!
//! Each kind of value is a type, and says three things in one place: how it
//! is read, how a message names it, and how a JSON Schema describes it. The
//! tables in `spec.rs` put a kind beside each key, so that what is read and
//! what editors are told cannot drift apart.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde_json::{Value as Json, json};

use super::adopt::Adopt;
use super::flow::{self, BadFlow};
use super::mark::Mac;
use super::names::{BadName, IfName, InterfaceName, LabName};
use super::nearest::nearest;
use super::problem::{At, Found, quoted};
use super::ranges::Pattern;
use super::spec::SealedSpec;
use super::topology::{
    Backend, BondMode, Datapath, Dynamic, FailMode, Lacp, Macvlan, Routing, Sealed, TunnelKind,
};
use super::yaml::{Entry, Kind, Tree};

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

/// A whole number from `MIN` to `MAX`.
pub(super) struct Whole<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> Holds for Whole<MIN, MAX> {
    type Value = u32;
    fn words() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<u32> {
        let digits = text::<Self>(tree, key, found)?;
        let is_quoted = matches!(tree.kind, Kind::Scalar { quoted: true, .. });
        match digits.parse::<u32>() {
            Ok(number) if !is_quoted && (MIN..=MAX).contains(&number) => return Some(number),
            Ok(_) if is_quoted => {
                other_kind::<Self>(tree, key, found);
                found.last_hint(|| format!("write it without quotes: {digits}"));
            }
            _ => other_kind::<Self>(tree, key, found),
        }
        None
    }
    fn schema() -> Json {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A rate, or what it may be exceeded by.
pub(super) struct Kilobits;

impl Holds for Kilobits {
    type Value = u32;
    fn words() -> String {
        "a whole number of kilobits".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<u32> {
        let before = found.count();
        let number = Whole::<1, { u32::MAX }>::read(tree, key, found);
        if number.is_none() && before < found.count() {
            found.last_hint(|| "it is in kilobits, without a unit: 10 Mbit/s is 10000".to_owned());
        }
        number
    }
    fn schema() -> Json {
        Whole::<1, { u32::MAX }>::schema()
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
fn dotted(bytes_max: usize) -> String {
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
pub(super) struct QueueNumber;

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

/// Whether a node is sealed, and how.
pub(super) struct Sealing;

impl Holds for Sealing {
    type Value = Option<Sealed>;
    fn words() -> String {
        format!("{} or {}", Flag::words(), Of::<SealedSpec>::words())
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Self::Value> {
        match &tree.kind {
            Kind::Map(_) => {
                let spec = Of::<SealedSpec>::read(tree, key, found)?;
                Some(Some(Sealed { raw: spec.raw }))
            }
            Kind::Scalar { quoted: false, text } if matches!(text.as_str(), "true" | "false") => {
                Some((text == "true").then_some(Sealed { raw: false }))
            }
            _ => {
                other_kind::<Self>(tree, key, found);
                None
            }
        }
    }
    fn schema() -> Json {
        json!({ "anyOf": [Flag::schema(), Of::<SealedSpec>::schema()] })
    }
}

/// A name of `ip netns`, or a path.
pub(super) struct NetnsName(pub(super) Adopt);

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
pub(super) struct ContainerName(pub(super) Adopt);

impl Written for ContainerName {
    const WORDS: &'static str = "the name of a container";
    fn schema() -> Json {
        text_schema("^((podman|docker):)?[A-Za-z0-9][A-Za-z0-9_.-]*$", &["web", "podman:web"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        Ok(Self(Adopt::container(text)?))
    }
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

/// The datapath asked for; `None` is `auto`.
pub(super) struct DatapathChoice(pub(super) Option<Datapath>);

one_of!(DatapathChoice, "the datapath", "`auto`, `system` or `netdev`",
    "auto" => Self(None),
    "system" => Self(Some(Datapath::System)),
    "netdev" => Self(Some(Datapath::Netdev)));
one_of!(FailMode, "the mode without a controller", "`standalone` or `secure`",
    "standalone" => Self::Standalone,
    "secure" => Self::Secure);
one_of!(TunnelKind, "the type of a tunnel", "`vxlan`, `geneve` or `gre`",
    "vxlan" => Self::Vxlan,
    "geneve" => Self::Geneve,
    "gre" => Self::Gre);
one_of!(BondMode, "the mode of a bond", "`active-backup`, `balance-slb` or `balance-tcp`",
    "active-backup" => Self::ActiveBackup,
    "balance-slb" => Self::BalanceSlb,
    "balance-tcp" => Self::BalanceTcp);
one_of!(Macvlan, "the mode of a macvlan", "`bridge`, `private`, `vepa` or `passthru`",
    "bridge" => Self::Bridge,
    "private" => Self::Private,
    "vepa" => Self::Vepa,
    "passthru" => Self::Passthru);

/// How a NIC of the machine is shared into the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NicMode {
    Bridge,
    Macvlan,
    Move,
}

one_of!(NicMode, "the mode of a NIC", "`bridge`, `macvlan` or `move`",
    "bridge" => Self::Bridge,
    "macvlan" => Self::Macvlan,
    "move" => Self::Move);
one_of!(Routing, "a way of `routing`", "`static`",
    "static" => Self::Static);
one_of!(Lacp, "`lacp`", "`off` or `active`",
    "off" => Self::Off,
    "active" => Self::Active);

/// A version of OpenFlow.
pub(super) struct Protocol(pub(super) String);

one_of!(Protocol, "a version of OpenFlow",
    "`OpenFlow10`, `OpenFlow11`, `OpenFlow12`, `OpenFlow13`, `OpenFlow14` or `OpenFlow15`",
    "OpenFlow10" => Self("OpenFlow10".into()),
    "OpenFlow11" => Self("OpenFlow11".into()),
    "OpenFlow12" => Self("OpenFlow12".into()),
    "OpenFlow13" => Self("OpenFlow13".into()),
    "OpenFlow14" => Self("OpenFlow14".into()),
    "OpenFlow15" => Self("OpenFlow15".into()));

/// Where a controller is (`ovs-vswitchd.conf.db(5)`, `Controller.target`).
pub(super) struct Target(pub(super) String);

/// How a controller is reached, or reaches us.
const SCHEMES: [&str; 6] = ["tcp", "ssl", "unix", "ptcp", "pssl", "punix"];

impl Written for Target {
    const WORDS: &'static str = "where a controller is, such as `tcp:127.0.0.1:6653`";
    fn schema() -> Json {
        let pattern = format!("^({}):[!-~]*$", SCHEMES.join("|"));
        text_schema(&pattern, &["tcp:127.0.0.1:6653", "ssl:[fd00::1]:6653", "ptcp:6654"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = || {
            Wrong::new(format!("{} is not where a controller could be", quoted(text))).hint(
                "write `tcp:ADDRESS:PORT`, `ssl:ADDRESS:PORT`, `unix:FILE`, or with a `p` before it \
                 to wait for the controller (`ptcp:PORT`)",
            )
        };
        let (scheme, place) = text.split_once(':').ok_or_else(wrong)?;
        let printable = place.bytes().all(|byte| byte.is_ascii_graphic());
        let passive = scheme.starts_with('p');
        if !SCHEMES.contains(&scheme) || !printable || (place.is_empty() && !passive) {
            return Err(wrong());
        }
        if let Some(port) = port_of(scheme, place)
            && !port.parse::<u16>().is_ok_and(|port| port != 0)
        {
            let message = format!("{} has no port from 1 to 65535", quoted(text));
            return Err(Wrong::new(message).hint("write one, such as `tcp:127.0.0.1:6653`"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The port in a place of that scheme, if it says one: without it is 6653.
fn port_of<'a>(scheme: &str, place: &'a str) -> Option<&'a str> {
    match scheme {
        "tcp" | "ssl" => {
            let behind = place.rfind(']').map_or(place, |end| &place[end..]);
            behind.rsplit_once(':').map(|(_, port)| port)
        }
        "ptcp" | "pssl" => Some(place.split(':').next().unwrap_or(place)).filter(|p| !p.is_empty()),
        _ => None,
    }
}

/// The number of a switch among switches.
pub(super) struct DatapathId(pub(super) String);

impl Written for DatapathId {
    const WORDS: &'static str = "up to 16 hexadecimal digits";
    fn schema() -> Json {
        json!({ "type": ["string", "number"], "examples": ["0000000000000001"] })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        match digits.len() <= 16 && hex && digits.bytes().any(|b| b != b'0') {
            true => Ok(Self(format!("{:0>16}", digits.to_ascii_lowercase()))),
            false => {
                let shown = quoted(text);
                Err(Wrong::new(format!("a datapath id is {}, not {shown}", Self::WORDS)))
            }
        }
    }
}

/// Where records of flows go.
pub(super) struct Collector(pub(super) String);

impl Written for Collector {
    const WORDS: &'static str = "where a collector is, such as `127.0.0.1:2055`";
    fn schema() -> Json {
        text_schema("^.+:[0-9]{1,5}$", &["127.0.0.1:2055", "[fd00::1]:2055"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        match text.parse::<std::net::SocketAddr>() {
            Ok(place) if place.port() != 0 => Ok(Self(place.to_string())),
            _ => Err(Wrong::new(format!("{} is not where a collector could be", quoted(text)))
                .hint("write `ADDRESS:PORT`, such as `127.0.0.1:2055` or `[fd00::1]:2055`")),
        }
    }
}

/// A flow, less what only Open vSwitch understands.
pub(super) struct FlowText(pub(super) String);

impl Written for FlowText {
    const WORDS: &'static str = "a flow, such as `priority=10,in_port=n1,actions=output:n2`";
    fn schema() -> Json {
        text_schema("actions?=", &["priority=10,in_port=n1,actions=output:n2"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        flow::check(text).map_err(|BadFlow { what, hint }| Wrong { message: what, hint })?;
        Ok(Self(text.trim().to_owned()))
    }
}

/// A port of a switch, by what is at its other end.
pub(super) struct PortName(pub(super) String);

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

/// The address of a host.
pub(super) struct HostAddress(pub(super) IpAddr);

impl Written for HostAddress {
    const WORDS: &'static str = "the address of a host";
    fn schema() -> Json {
        text_schema("^[0-9A-Fa-f.:]+$", &["192.0.2.1", "2001:db8::1"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let ip: IpAddr = text.parse().map_err(|_| {
            Wrong::new(format!("{} is not the address of a host", quoted(text)))
                .hint("write it like `192.0.2.1` or `2001:db8::1`")
        })?;
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
            return Err(Wrong::new(format!("{} is no other host's address", quoted(text))));
        }
        Ok(Self(ip))
    }
}

impl Written for Mac {
    const WORDS: &'static str = "a MAC address";
    fn schema() -> Json {
        text_schema("^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$", &["02:00:00:00:00:01"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::from_str(text).map_err(|bad| Wrong::new(bad.to_string()))
    }
}

/// The backend asked for; `None` is `auto`.
pub(super) struct Choice(pub(super) Option<Backend>);

impl Written for Choice {
    const WORDS: &'static str = "`auto`, `ovs` or `linux`";
    fn schema() -> Json {
        json!({ "enum": ["auto", "ovs", "linux"] })
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "auto" => Ok(Self(None)),
            "ovs" => Ok(Self(Some(Backend::Ovs))),
            "linux" => Ok(Self(Some(Backend::Linux))),
            _ => Err(Wrong::new(format!("the backend is {}, not {}", Self::WORDS, quoted(text)))),
        }
    }
}

/// A network in a notation that both families share.
const CIDR: &str = "^[0-9A-Fa-f.:]+/[0-9]{1,3}$";

/// An address of a host, with the length of its network's prefix.
pub(super) struct Address(pub(super) IpNet);

impl Written for Address {
    const WORDS: &'static str = "an address";
    fn schema() -> Json {
        text_schema(CIDR, &["10.0.0.1/24", "fd00::1/64"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let shown = quoted(text);
        let net = with_length(text, "address", 24, 64)?;
        let ip = net.addr();
        if ip.is_unspecified() {
            return Err(Wrong::new(format!("{shown} means no address at all")));
        }
        if ip.is_multicast() {
            return Err(Wrong::new(format!("{shown} is a multicast address, no host's"))
                .hint("nodes join groups themselves; give the node an address of its own"));
        }
        if ip.is_loopback() {
            return Err(Wrong::new(format!("{shown} is a loopback address"))
                .hint("every node has its loopback anyway; give the interface another address"));
        }
        if matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
            return Err(Wrong::new(format!("{shown} is the broadcast address, no host's")));
        }
        // A network of two or of one has no address to spare (RFC 3021, RFC 6164).
        let roomy = net.prefix_len() + 2 <= net.max_prefix_len();
        if roomy && ip == net.network() {
            let mut first = net.hosts();
            let example = match first.find(|host| *host != ip) {
                Some(host) => format!("`{host}/{}`", net.prefix_len()),
                None => "one".to_owned(),
            };
            return Err(Wrong::new(format!("{shown} is a network, not an address of a host"))
                .hint(format!("write the node's own address, such as {example}")));
        }
        if roomy && matches!(ip, IpAddr::V4(_)) && ip == net.broadcast() {
            let message = format!("{shown} is the broadcast address of `{}`", net.trunc());
            return Err(Wrong::new(message));
        }
        Ok(Self(net))
    }
}

/// An address, or a word for who gives one.
pub(super) enum AddressOrWord {
    Address(Address),
    Word(Dynamic),
}

impl Written for AddressOrWord {
    const WORDS: &'static str = "an address, `dhcp` or `slaac`";
    fn schema() -> Json {
        let words = Dynamic::ALL.map(|word| format!("^{word}$")).join("|");
        text_schema(&format!("{CIDR}|{words}"), &["10.0.0.1/24", "fd00::1/64", "dhcp", "slaac"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(word) = Dynamic::ALL.into_iter().find(|word| word.to_string() == text) {
            return Ok(Self::Word(word));
        }
        if text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains([':', '.', '/']) {
            let words = Dynamic::ALL.map(|word| word.to_string());
            let near = nearest(text, words.iter().map(String::as_str));
            let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let message = format!("{} is neither `dhcp` nor `slaac` nor an address", quoted(text));
            return Err(Wrong::new(message + &meant)
                .hint("write an address like `10.0.0.1/24` or `fd00::1/64`"));
        }
        Address::parse(text).map(Self::Address)
    }
}

/// Reads an address with its `/length`.
fn with_length(text: &str, what: &str, v4: u8, v6: u8) -> Result<IpNet, Wrong> {
    let shown = quoted(text);
    if let Ok(ip) = text.parse::<IpAddr>() {
        let length = if ip.is_ipv4() { v4 } else { v6 };
        return Err(Wrong::new(format!("{shown} has no prefix length"))
            .hint(format!("write `{ip}/{length}`")));
    }
    if let Some((ip, length)) = text.split_once('/')
        && let Ok(ip) = ip.parse::<IpAddr>()
        && text.parse::<IpNet>().is_err()
    {
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let message = format!("{} is no prefix length; it goes from 0 to {max}", quoted(length));
        return Err(Wrong::new(message));
    }
    text.parse().map_err(|_| {
        Wrong::new(format!("{shown} is not {}", a(what)))
            .hint(format!("write it like `10.0.0.1/{v4}` or `fd00::1/{v6}`"))
    })
}

/// A network out of which addresses are given.
pub(super) struct Prefix(pub(super) IpNet);

impl Written for Prefix {
    const WORDS: &'static str = "a network";
    fn schema() -> Json {
        text_schema(CIDR, &["10.0.0.0/8", "fd00:6f76::/48"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let net = with_length(text, "network", 24, 64)?;
        let shown = quoted(text);
        if net.addr() != net.network() {
            return Err(Wrong::new(format!("{shown} has bits beyond its length"))
                .hint(format!("write the network: `{}`", net.trunc())));
        }
        if net.max_prefix_len() < net.prefix_len() + 2 {
            return Err(Wrong::new(format!("{shown} has no room for two hosts")));
        }
        if net.addr().is_multicast() || net.addr().is_loopback() || net.prefix_len() < 4 {
            return Err(Wrong::new(format!("{shown} has addresses that are no host's"))
                .hint("take a private network, such as `10.0.0.0/8` or `fd00:6f76::/48`"));
        }
        Ok(Self(net))
    }
}

/// The next router of a route.
pub(super) struct Gateway(pub(super) IpAddr);

impl Written for Gateway {
    const WORDS: &'static str = "the address of a router";
    fn schema() -> Json {
        text_schema("^[0-9A-Fa-f.:]+$", &["10.0.0.254", "fd00::fe"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let ip: IpAddr = text.parse().map_err(|_| {
            let wrong = Wrong::new(format!("{} is not the address of a router", quoted(text)));
            match text.split_once('/') {
                Some((ip, _)) => wrong.hint(format!("write it without its length: {}", quoted(ip))),
                None => wrong.hint("write it like `10.0.0.254` or `fd00::fe`"),
            }
        })?;
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
            return Err(Wrong::new(format!("{} is no address of a router", quoted(text))));
        }
        Ok(Self(ip))
    }
}

/// Where a route goes.
pub(super) enum Destination {
    /// Everywhere else, in the family of its router.
    Default,
    /// To a network, or to one address.
    Net(IpNet),
}

impl Written for Destination {
    const WORDS: &'static str = "`default` or a network";
    fn schema() -> Json {
        let pattern = format!("^default$|{CIDR}");
        text_schema(&pattern, &["default", "10.1.0.0/16", "fd00:1::/64"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let net = with_length(text, "network", 32, 128)?;
        if net.addr() != net.network() {
            return Err(Wrong::new(format!("{} has bits beyond its length", quoted(text)))
                .hint(format!("write the network: `{}`", net.trunc())));
        }
        Ok(Self::Net(net))
    }
}

/// A kernel parameter below `net.`.
pub(super) struct Parameter;

impl Label for Parameter {
    type Name = String;
    fn pattern() -> String {
        r"^net(\.[A-Za-z0-9_-]+)+$".to_owned()
    }
    fn read(key: &At<String>, found: &mut Found) -> Option<String> {
        let shown = quoted(&key.value);
        let letters = |part: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            !part.is_empty() && part.bytes().all(fits)
        };
        if key.value.contains('/') {
            let problem = found.add(key.at, format!("the parameter {shown} has a slash in it"));
            if !key.value.contains('.') {
                let dotted = quoted(&key.value.replace('/', "."));
                problem.hint(format!("write it as `sysctl` does: {dotted}"));
            }
        } else if !key.value.starts_with("net.") {
            found
                .add(key.at, format!("{shown} is not below `net.`"))
                .hint("only what begins with `net.` is a node's own; the rest is the machine's");
        } else if !key.value.split('.').all(letters) {
            found
                .add(key.at, format!("{shown} is not the name of a kernel parameter"))
                .hint("write it like `net.ipv4.ip_forward`");
        } else {
            return Some(key.value.clone());
        }
        None
    }
}

/// What a kernel parameter is set to.
pub(super) struct Setting(pub(super) String);

/// More than any parameter below `net.` takes; the kernel's own limit is a
/// page.
const SETTING_BYTES_MAX: usize = 1024;

impl Holds for Text<Setting> {
    type Value = Setting;
    fn words() -> String {
        "a number or a text".to_owned()
    }
    fn read(tree: &Tree, key: &str, found: &mut Found) -> Option<Setting> {
        let value = text::<Self>(tree, key, found)?;
        let plain = matches!(tree.kind, Kind::Scalar { quoted: false, .. });
        let number = match value.to_ascii_lowercase().as_str() {
            "true" if plain => Some(1),
            "false" if plain => Some(0),
            _ => None,
        };
        if let Some(number) = number {
            other_kind::<Self>(tree, key, found);
            found.last_hint(|| format!("write {number}"));
            return None;
        }
        if value.is_empty() || value.chars().any(char::is_control) {
            found.add(tree.at, format!("{} cannot be the value of `{key}`", quoted(value)));
            return None;
        }
        if SETTING_BYTES_MAX < value.len() {
            let message = format!("`{key}` is longer than {SETTING_BYTES_MAX} bytes");
            found.add(tree.at, message);
            return None;
        }
        Some(Setting(value.to_owned()))
    }
    fn schema() -> Json {
        json!({ "type": ["string", "number"], "minLength": 1, "maxLength": SETTING_BYTES_MAX })
    }
}

/// The name of a node or a switch, or of many.
pub(super) struct Many;

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
pub(super) struct End;

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
pub(super) struct Ends;

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

/// The id of a VLAN; 0 and 4095 are reserved (IEEE 802.1Q).
pub(super) type VlanId = Whole<1, 4094>;
/// An MTU in bytes: the least that IPv4 works with, the most the kernel takes.
pub(super) type Mtu = Whole<68, 65535>;
