//! Values as OVSDB keeps them: atoms, sets and maps, and their JSON.
//!
//! A [`Value`] always holds the canonical form that RFC 7047 section 5.1 asks
//! a writer for: a set of one is the bare atom, sets and maps are in order and
//! hold nothing twice. So two values are equal exactly when the server thinks
//! so, whichever of the two encodings of a set of one came over the wire.
//!
//! This module knows no schema. [`crate::schema::ColumnType::accept`] is where
//! a value is checked against the column it is meant for.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
pub use uuid::Uuid;

/// The name of a row that the same transaction inserts (RFC 7047 section 3.1, `<id>`).
///
/// The server takes `[a-zA-Z_][a-zA-Z0-9_]*` and calls anything else a syntax
/// error, so the name of an interface such as `v1-bad` or `eth0.10` cannot
/// serve as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct UuidName(String);

/// A text that cannot be a [`UuidName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` cannot name a row: a letter or `_` first, then letters, digits and `_`")]
pub struct BadUuidName(pub String);

impl UuidName {
    /// Returns `text` as the name of a row, or why it cannot be one.
    pub fn new(text: &str) -> Result<Self, BadUuidName> {
        let mut letters = text.chars();
        let first = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if first && letters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Ok(Self(text.to_owned()));
        }
        Err(BadUuidName(text.to_owned()))
    }

    /// The `n`th name that this crate gives to a row without one.
    pub(crate) fn numbered(n: usize) -> Self {
        Self(format!("row{n}"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UuidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One scalar (RFC 7047 section 5.1, `<atom>`).
///
/// Reals are compared by [`f64::total_cmp`], so that atoms can be ordered.
#[derive(Debug, Clone)]
pub enum Atom {
    /// A signed integer of 64 bits, exact.
    Integer(i64),
    /// A double. OVSDB has no infinities and no NaN: JSON cannot write them.
    Real(f64),
    /// A truth value.
    Boolean(bool),
    /// Unicode text.
    String(String),
    /// A row of the database, by its `_uuid`.
    Uuid(Uuid),
    /// A row that the same transaction inserts.
    NamedUuid(UuidName),
}

/// What an atom is, as a schema names it (RFC 7047 section 3.2, `<atomic-type>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AtomKind {
    /// `integer`
    Integer,
    /// `real`
    Real,
    /// `boolean`
    Boolean,
    /// `string`
    String,
    /// `uuid`
    Uuid,
}

impl fmt::Display for AtomKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Integer => "integer",
            Self::Real => "real",
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Uuid => "uuid",
        })
    }
}

impl Atom {
    /// What this atom is. A name that stands for a UUID counts as one.
    pub fn kind(&self) -> AtomKind {
        match self {
            Self::Integer(_) => AtomKind::Integer,
            Self::Real(_) => AtomKind::Real,
            Self::Boolean(_) => AtomKind::Boolean,
            Self::String(_) => AtomKind::String,
            Self::Uuid(_) | Self::NamedUuid(_) => AtomKind::Uuid,
        }
    }

    /// The atom that a column of `kind` starts with (RFC 7047 section 5.2.1).
    pub fn default_of(kind: AtomKind) -> Self {
        match kind {
            AtomKind::Integer => Self::Integer(0),
            AtomKind::Real => Self::Real(0.0),
            AtomKind::Boolean => Self::Boolean(false),
            AtomKind::String => Self::String(String::new()),
            AtomKind::Uuid => Self::Uuid(Uuid::nil()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Integer(_) => 0,
            Self::Real(_) => 1,
            Self::Boolean(_) => 2,
            Self::String(_) => 3,
            Self::Uuid(_) => 4,
            Self::NamedUuid(_) => 5,
        }
    }
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Uuid(a), Self::Uuid(b)) => a.cmp(b),
            (Self::NamedUuid(a), Self::NamedUuid(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Atom {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Atom {}

impl Hash for Atom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Self::Integer(n) => n.hash(state),
            Self::Real(x) => x.to_bits().hash(state),
            Self::Boolean(b) => b.hash(state),
            Self::String(s) => s.hash(state),
            Self::Uuid(u) => u.hash(state),
            Self::NamedUuid(name) => name.hash(state),
        }
    }
}

impl fmt::Display for Atom {
    /// The way `ovs-vsctl` prints an atom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Real(x) => write!(f, "{x}"),
            Self::Boolean(b) => write!(f, "{b}"),
            Self::String(s) => write!(f, "{s:?}"),
            Self::Uuid(u) => write!(f, "{u}"),
            Self::NamedUuid(name) => write!(f, "@{name}"),
        }
    }
}

/// What a column of a row holds (RFC 7047 section 5.1, `<value>`).
///
/// An atom and a set of that one atom are the same value, and so are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Shape);

/// Invariant: `Set` never has exactly one member, is in order and without
/// repetition; `Map` is in the order of its keys, each there once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Shape {
    One(Atom),
    Set(Vec<Atom>),
    Map(Vec<(Atom, Atom)>),
}

/// A key that stands twice in one map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key {0} stands twice in one map")]
pub struct DuplicateKey(pub Atom);

impl Value {
    /// The set of `atoms`, each once. One alone becomes the bare atom.
    pub fn set(atoms: impl IntoIterator<Item = Atom>) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().collect();
        atoms.sort_unstable();
        atoms.dedup();
        if atoms.len() == 1 {
            return Self(Shape::One(atoms.remove(0)));
        }
        atoms.shrink_to_fit();
        Self(Shape::Set(atoms))
    }

    /// The map of `pairs`, or the first key that is there twice.
    pub fn map(pairs: impl IntoIterator<Item = (Atom, Atom)>) -> Result<Self, DuplicateKey> {
        let mut pairs: Vec<(Atom, Atom)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(DuplicateKey(twice[0].0.clone()));
        }
        pairs.shrink_to_fit();
        Ok(Self(Shape::Map(pairs)))
    }

    /// The set with nothing in it, which is how an optional column is unset.
    pub const fn empty_set() -> Self {
        Self(Shape::Set(Vec::new()))
    }

    /// The map with nothing in it.
    pub const fn empty_map() -> Self {
        Self(Shape::Map(Vec::new()))
    }

    /// The members, if this is an atom or a set.
    pub fn atoms(&self) -> Option<&[Atom]> {
        match &self.0 {
            Shape::One(atom) => Some(std::slice::from_ref(atom)),
            Shape::Set(atoms) => Some(atoms),
            Shape::Map(_) => None,
        }
    }

    /// The pairs in the order of their keys, if this is a map.
    pub fn pairs(&self) -> Option<&[(Atom, Atom)]> {
        match &self.0 {
            Shape::One(_) | Shape::Set(_) => None,
            Shape::Map(pairs) => Some(pairs),
        }
    }

    /// The atom, if there is exactly one and this is not a map.
    pub fn atom(&self) -> Option<&Atom> {
        match &self.0 {
            Shape::One(atom) => Some(atom),
            Shape::Set(_) | Shape::Map(_) => None,
        }
    }

    /// What a map holds under `key`.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        let pairs = self.pairs()?;
        let at = pairs.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        Some(&pairs[at].1)
    }

    /// How many atoms or pairs there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Shape::One(_) => 1,
            Shape::Set(atoms) => atoms.len(),
            Shape::Map(pairs) => pairs.len(),
        }
    }

    /// Whether this is the empty set or the empty map.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The atoms moved out; keys and values one after another for a map.
    pub(crate) fn into_parts(self) -> (Vec<Atom>, Vec<(Atom, Atom)>) {
        match self.0 {
            Shape::One(atom) => (vec![atom], Vec::new()),
            Shape::Set(atoms) => (atoms, Vec::new()),
            Shape::Map(pairs) => (Vec::new(), pairs),
        }
    }
}

impl From<Atom> for Value {
    fn from(atom: Atom) -> Self {
        Self(Shape::One(atom))
    }
}

/// Declares what turns into an atom, and so into a value, by itself.
macro_rules! atom_from {
    ($($from:ty => |$name:ident| $make:expr;)*) => {$(
        impl From<$from> for Atom {
            fn from($name: $from) -> Self {
                $make
            }
        }
        impl From<$from> for Value {
            fn from(atom: $from) -> Self {
                Self(Shape::One(atom.into()))
            }
        }
    )*};
}
atom_from! {
    i64 => |n| Self::Integer(n);
    i32 => |n| Self::Integer(n.into());
    u32 => |n| Self::Integer(n.into());
    u16 => |n| Self::Integer(n.into());
    bool => |b| Self::Boolean(b);
    f64 => |x| Self::Real(x);
    &str => |s| Self::String(s.to_owned());
    String => |s| Self::String(s);
    Uuid => |u| Self::Uuid(u);
    UuidName => |name| Self::NamedUuid(name);
}

impl fmt::Display for Value {
    /// The way `ovs-vsctl` prints a column.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Shape::One(atom) => write!(f, "{atom}"),
            Shape::Set(atoms) => {
                let atoms: Vec<String> = atoms.iter().map(Atom::to_string).collect();
                write!(f, "[{}]", atoms.join(", "))
            }
            Shape::Map(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "{{{}}}", pairs.join(", "))
            }
        }
    }
}

impl Serialize for Atom {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(n) => to.serialize_i64(*n),
            Self::Real(x) => to.serialize_f64(*x),
            Self::Boolean(b) => to.serialize_bool(*b),
            Self::String(s) => to.serialize_str(s),
            Self::Uuid(u) => {
                ("uuid", u.hyphenated().encode_lower(&mut Uuid::encode_buffer())).serialize(to)
            }
            Self::NamedUuid(name) => ("named-uuid", name.as_str()).serialize(to),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Shape::One(atom) => atom.serialize(to),
            Shape::Set(atoms) => {
                let mut pair = to.serialize_seq(Some(2))?;
                pair.serialize_element("set")?;
                pair.serialize_element(atoms)?;
                pair.end()
            }
            Shape::Map(pairs) => {
                let mut pair = to.serialize_seq(Some(2))?;
                pair.serialize_element("map")?;
                pair.serialize_element(pairs)?;
                pair.end()
            }
        }
    }
}

/// Takes both encodings of a set of one, and a set in any order.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ValueVisitor)
    }
}

impl<'de> Deserialize<'de> for Atom {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AtomVisitor)
    }
}

/// The scalars that JSON writes by themselves; shared by both visitors.
macro_rules! visit_scalars {
    ($($make:tt)*) => {
        fn visit_bool<E: de::Error>(self, b: bool) -> Result<Self::Value, E> {
            Ok($($make)*(Atom::Boolean(b)))
        }
        fn visit_i64<E: de::Error>(self, n: i64) -> Result<Self::Value, E> {
            Ok($($make)*(Atom::Integer(n)))
        }
        fn visit_u64<E: de::Error>(self, n: u64) -> Result<Self::Value, E> {
            let n = i64::try_from(n).map_err(|_| E::custom("an integer beyond 64 signed bits"))?;
            Ok($($make)*(Atom::Integer(n)))
        }
        fn visit_f64<E: de::Error>(self, x: f64) -> Result<Self::Value, E> {
            Ok($($make)*(Atom::Real(x)))
        }
        fn visit_str<E: de::Error>(self, s: &str) -> Result<Self::Value, E> {
            Ok($($make)*(Atom::String(s.to_owned())))
        }
        fn visit_string<E: de::Error>(self, s: String) -> Result<Self::Value, E> {
            Ok($($make)*(Atom::String(s)))
        }
    };
}

struct AtomVisitor;

impl<'de> Visitor<'de> for AtomVisitor {
    type Value = Atom;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OVSDB atom")
    }

    visit_scalars!(std::convert::identity);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Atom, A::Error> {
        let tag: String =
            seq.next_element()?.ok_or_else(|| de::Error::custom("an atom that is `[]`"))?;
        let atom = tagged_atom(&tag, &mut seq)?;
        end_of(&mut seq)?;
        Ok(atom)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an OVSDB value")
    }

    visit_scalars!(Value::from);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let tag: String =
            seq.next_element()?.ok_or_else(|| de::Error::custom("a value that is `[]`"))?;
        let value = match tag.as_str() {
            "set" => Value::set(content::<Vec<Atom>, A>("set", &mut seq)?),
            "map" => Value::map(content::<Vec<(Atom, Atom)>, A>("map", &mut seq)?)
                .map_err(de::Error::custom)?,
            _ => tagged_atom(&tag, &mut seq)?.into(),
        };
        end_of(&mut seq)?;
        Ok(value)
    }
}

/// What stands after the tag in `["uuid", …]` or `["named-uuid", …]`.
fn tagged_atom<'de, A: SeqAccess<'de>>(tag: &str, seq: &mut A) -> Result<Atom, A::Error> {
    let text: String = content("uuid", seq)?;
    match tag {
        "uuid" => {
            let uuid = Uuid::try_parse(&text);
            Ok(Atom::Uuid(uuid.map_err(|_| de::Error::custom(format!("a bad UUID `{text}`")))?))
        }
        "named-uuid" => Ok(Atom::NamedUuid(UuidName::new(&text).map_err(de::Error::custom)?)),
        _ => Err(de::Error::custom(format!("an unknown tag `{tag}`"))),
    }
}

fn content<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    tag: &str,
    seq: &mut A,
) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::custom(format!("a `{tag}` without content")))
}

fn end_of<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<(), A::Error> {
    match seq.next_element::<de::IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(de::Error::custom("more after the end of a value")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The wire text read, and the canonical text written back.
    #[test]
    fn wire_texts() {
        check("10", "10");
        check("-9223372036854775808", "-9223372036854775808");
        check("9223372036854775807", "9223372036854775807");
        check("0.5", "0.5");
        check("true", "true");
        check(r#""a \"b\" \u00e9 \n""#, r#""a \"b\" é \n""#);
        check(r#"["set",[]]"#, r#"["set",[]]"#);
        check(r#"["set",[10]]"#, "10");
        check(r#"["set",["b","a","b"]]"#, r#"["set",["a","b"]]"#);
        check(
            r#"["uuid","550e8400-e29b-41d4-a716-446655440000"]"#,
            r#"["uuid","550e8400-e29b-41d4-a716-446655440000"]"#,
        );
        check(
            r#"["set",[["uuid","550e8400-e29b-41d4-a716-446655440000"]]]"#,
            r#"["uuid","550e8400-e29b-41d4-a716-446655440000"]"#,
        );
        check(r#"["named-uuid","row0"]"#, r#"["named-uuid","row0"]"#);
        check(r#"["map",[]]"#, r#"["map",[]]"#);
        check(r#"["map",[["b",2],["a",1]]]"#, r#"["map",[["a",1],["b",2]]]"#);
        check(
            r#"["map",[[7,["uuid","550e8400-e29b-41d4-a716-446655440000"]]]]"#,
            r#"["map",[[7,["uuid","550e8400-e29b-41d4-a716-446655440000"]]]]"#,
        );

        #[track_caller]
        fn check(read: &str, written: &str) {
            let value: Value = serde_json::from_str(read).expect(read);
            assert_eq!(serde_json::to_string(&value).unwrap(), written);
        }
    }

    #[test]
    fn what_is_no_value() {
        check("null", "null");
        check("{}", "map");
        check("[]", "`[]`");
        check("[1]", "integer");
        check(r#"["set"]"#, "without content");
        check(r#"["set",[],1]"#, "more after the end");
        check(r#"["set",[["set",[]]]]"#, "sequence");
        check(r#"["map",[["a",1],["a",2]]]"#, "stands twice");
        check(r#"["map",[["a"]]]"#, "tuple of size 2");
        check(r#"["uuid","nonsense"]"#, "a bad UUID");
        check(r#"["named-uuid","v1-bad"]"#, "cannot name a row");
        check(r#"["neither","x"]"#, "an unknown tag");
        check("9223372036854775808", "64 signed bits");
        check(r#"["set",[18446744073709551615]]"#, "64 signed bits");

        #[track_caller]
        fn check(text: &str, why: &str) {
            let error = serde_json::from_str::<Value>(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn row_names() {
        check("row0", true);
        check("_r", true);
        check("", false);
        check("0row", false);
        check("v1-bad", false);
        check("eth0.10", false);
        check("é", false);

        #[track_caller]
        fn check(text: &str, accepted: bool) {
            assert_eq!(UuidName::new(text).is_ok(), accepted, "{text:?}");
        }
    }

    pub(crate) fn an_atom() -> impl Strategy<Value = Atom> {
        prop_oneof![
            any::<i64>().prop_map(Atom::Integer),
            any::<f64>().prop_filter("JSON has no such", |x| x.is_finite()).prop_map(Atom::Real),
            any::<bool>().prop_map(Atom::Boolean),
            any::<String>().prop_map(Atom::String),
            any::<u128>().prop_map(|n| Atom::Uuid(Uuid::from_u128(n))),
            "[a-zA-Z_][a-zA-Z0-9_]{0,9}"
                .prop_map(|name| Atom::NamedUuid(UuidName::new(&name).unwrap())),
        ]
    }

    pub(crate) fn a_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            an_atom().prop_map(Value::from),
            proptest::collection::vec(an_atom(), 0..6).prop_map(Value::set),
            proptest::collection::btree_map(an_atom(), an_atom(), 0..6)
                .prop_map(|pairs| Value::map(pairs).expect("a map's keys are unique")),
        ]
    }

    proptest! {
        #[test]
        fn a_value_survives_a_round_trip(value in a_value()) {
            let text = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), &value, "{}", text);
        }

        #[test]
        fn the_wordy_form_of_one_is_the_atom(atom in an_atom()) {
            let wordy = serde_json::to_string(&("set", [&atom])).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&wordy).unwrap(), Value::from(atom));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,64}") {
            let _ = serde_json::from_str::<Value>(&text);
        }
    }
}
