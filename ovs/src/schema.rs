//! The schema of a database (RFC 7047 section 3.2), as the server sends it.
//!
//! What a client needs of it: which tables and columns this server has, what
//! each column holds, and the value that an omitted column has. Constraints
//! that only the server checks (ranges, lengths, enumerations) are kept as
//! data and never enforced here.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::value::{Atom, AtomKind, Value};

/// A database as its server describes it (RFC 7047 section 3.2, `<database-schema>`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Schema {
    /// The name of the database, such as `Open_vSwitch`.
    pub name: String,
    /// Its version, `x.y.z`; Open vSwitch 3.1 has 8.3.1.
    pub version: String,
    /// The tables by name.
    pub tables: BTreeMap<String, TableSchema>,
}

/// One table (RFC 7047 section 3.2, `<table-schema>`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSchema {
    /// The columns by name, without `_uuid` and `_version`, which all tables have.
    pub columns: BTreeMap<String, ColumnSchema>,
    /// How many rows there may be, if bounded. 1 makes a singleton.
    #[serde(default)]
    pub max_rows: Option<u64>,
    /// Whether a row stays that no other row refers to. Rows of other tables
    /// vanish at commit, without an error, unless something links to them.
    #[serde(default)]
    pub is_root: bool,
    /// Sets of columns that no two rows may share.
    #[serde(default)]
    pub indexes: Vec<Vec<String>>,
}

/// One column (RFC 7047 section 3.2, `<column-schema>`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ColumnSchema {
    /// What the column holds.
    #[serde(rename = "type")]
    pub holds: ColumnType,
    /// Whether it may be lost when the server restarts.
    #[serde(default)]
    pub ephemeral: bool,
    /// Whether it may change after the insert.
    #[serde(default = "yes")]
    pub mutable: bool,
}

fn yes() -> bool {
    true
}

/// What a column holds (RFC 7047 section 3.2, `<type>`).
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnType {
    /// What the atoms are, or the keys of a map.
    pub key: BaseType,
    /// What a map has under its keys; `None` for atoms and sets.
    pub value: Option<BaseType>,
    /// The least number of atoms or pairs: 0 or 1.
    pub min: u32,
    /// The greatest number of atoms or pairs; [`ColumnType::UNLIMITED`] for no bound.
    pub max: u32,
}

/// What an atom may be (RFC 7047 section 3.2, `<base-type>`).
#[derive(Debug, Clone, PartialEq)]
pub struct BaseType {
    /// Its kind.
    pub kind: AtomKind,
    /// The values it is restricted to, if it is an enumeration.
    pub choices: Option<Value>,
    /// The least integer.
    pub min_integer: Option<i64>,
    /// The greatest integer.
    pub max_integer: Option<i64>,
    /// The table that a UUID points into.
    pub ref_table: Option<String>,
    /// Whether the reference is weak: it vanishes together with its row.
    pub weak: bool,
}

impl From<AtomKind> for BaseType {
    fn from(kind: AtomKind) -> Self {
        Self {
            kind,
            choices: None,
            min_integer: None,
            max_integer: None,
            ref_table: None,
            weak: false,
        }
    }
}

/// A value that does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value} is not {wanted}")]
pub struct Unfit {
    /// The value, as `ovs-vsctl` prints it, cut after 64 letters.
    pub value: String,
    /// What the column holds, in words.
    pub wanted: String,
}

impl Unfit {
    pub(crate) fn new(value: &Value, wanted: impl fmt::Display) -> Self {
        Self { value: value.to_string().chars().take(64).collect(), wanted: wanted.to_string() }
    }
}

impl ColumnType {
    /// The `max` of a column without a bound.
    pub const UNLIMITED: u32 = u32::MAX;

    /// A column of exactly one atom.
    pub fn scalar(kind: AtomKind) -> Self {
        Self { key: kind.into(), value: None, min: 1, max: 1 }
    }

    /// Whether it can hold several members, so that an update of it is a
    /// difference and not a new value (`ovsdb_type_is_composite`).
    pub fn is_composite(&self) -> bool {
        1 < self.max
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// What an insert that leaves the column out puts there, and what a
    /// monitor leaves out of a new row (RFC 7047 section 5.2.1).
    pub fn default_value(&self) -> Value {
        match &self.value {
            Some(_) if self.min == 0 => Value::empty_map(),
            None if self.min == 0 => Value::empty_set(),
            None => Atom::default_of(self.key.kind).into(),
            Some(under) => {
                let pair = (Atom::default_of(self.key.kind), Atom::default_of(under.kind));
                Value::map([pair]).unwrap_or(Value::empty_map())
            }
        }
    }

    /// Returns `value` in this column's terms: `0` in a column of reals is a
    /// real, `1.0` in one of integers an integer, as the server's own JSON
    /// writer mixes them. Anything else that does not fit is refused.
    pub fn accept(&self, value: Value) -> Result<Value, Unfit> {
        let too_many = !(self.max == Self::UNLIMITED || value.len() <= self.max as usize);
        if too_many || value.pairs().is_some() != self.is_map() {
            return Err(Unfit::new(&value, self));
        }
        let key_kind = self.key.kind;
        let value_kind = self.value.as_ref().map_or(key_kind, |under| under.kind);
        let fits = match (value.atoms(), value.pairs()) {
            (Some(atoms), _) => atoms.iter().all(|a| a.kind() == key_kind),
            (None, pairs) => pairs
                .unwrap_or_default()
                .iter()
                .all(|(k, v)| k.kind() == key_kind && v.kind() == value_kind),
        };
        if fits {
            return Ok(value);
        }
        self.coerce(value, key_kind, value_kind)
    }

    /// The rare path of `accept`: some number is written as the other kind.
    fn coerce(
        &self,
        value: Value,
        key_kind: AtomKind,
        value_kind: AtomKind,
    ) -> Result<Value, Unfit> {
        let refused = Unfit::new(&value, self);
        let (atoms, pairs) = value.into_parts();
        let as_kind = |atom: Atom, kind| match (atom, kind) {
            (Atom::Integer(n), AtomKind::Real) => Some(Atom::Real(n as f64)),
            (Atom::Real(x), AtomKind::Integer) if x == x.trunc() && x.abs() < 9.0e15 => {
                Some(Atom::Integer(x as i64))
            }
            (atom, kind) => (atom.kind() == kind).then_some(atom),
        };
        let coerced = if self.is_map() {
            let pairs = pairs
                .into_iter()
                .map(|(k, v)| Some((as_kind(k, key_kind)?, as_kind(v, value_kind)?)));
            pairs.collect::<Option<Vec<_>>>().and_then(|pairs| Value::map(pairs).ok())
        } else {
            let atoms = atoms.into_iter().map(|atom| as_kind(atom, key_kind));
            atoms.collect::<Option<Vec<_>>>().map(Value::set)
        };
        coerced.ok_or(refused)
    }
}

impl fmt::Display for ColumnType {
    /// In words: `an integer`, `an optional string`, `a set of uuid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.key.kind;
        match (&self.value, self.min, self.max) {
            (Some(under), ..) => write!(f, "a map of {kind} to {}", under.kind),
            (None, 1, 1) => write!(f, "one {kind}"),
            (None, 0, 1) => write!(f, "an optional {kind}"),
            (None, _, Self::UNLIMITED) => write!(f, "a set of {kind}"),
            (None, _, max) => write!(f, "a set of at most {max} {kind}"),
        }
    }
}

impl<'de> Deserialize<'de> for BaseType {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Long {
            #[serde(rename = "type")]
            kind: AtomKind,
            #[serde(rename = "enum")]
            choices: Option<Value>,
            min_integer: Option<i64>,
            max_integer: Option<i64>,
            ref_table: Option<String>,
            ref_type: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Short(AtomKind),
            Long(Long),
        }
        Ok(match Either::deserialize(from)? {
            Either::Short(kind) => kind.into(),
            Either::Long(long) => Self {
                kind: long.kind,
                choices: long.choices,
                min_integer: long.min_integer,
                max_integer: long.max_integer,
                ref_table: long.ref_table,
                weak: long.ref_type.as_deref() == Some("weak"),
            },
        })
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Max {
            Number(u32),
            Word(String),
        }
        #[derive(Deserialize)]
        struct Long {
            key: BaseType,
            value: Option<BaseType>,
            min: Option<u32>,
            max: Option<Max>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Short(AtomKind),
            Long(Box<Long>),
        }
        let long = match Either::deserialize(from)? {
            Either::Short(kind) => return Ok(Self::scalar(kind)),
            Either::Long(long) => long,
        };
        let max = match long.max {
            None => 1,
            Some(Max::Number(max)) => max,
            Some(Max::Word(word)) if word == "unlimited" => Self::UNLIMITED,
            Some(Max::Word(word)) => return Err(de::Error::custom(format!("a max of `{word}`"))),
        };
        Ok(Self { key: long.key, value: long.value, min: long.min.unwrap_or(1), max })
    }
}

/// Columns that every table has and no schema lists (RFC 7047 section 3.2).
pub(crate) fn built_in_column(name: &str) -> Option<ColumnType> {
    matches!(name, "_uuid" | "_version").then(|| ColumnType::scalar(AtomKind::Uuid))
}

impl TableSchema {
    /// What column `name` holds, `_uuid` and `_version` included.
    pub fn column_type(&self, name: &str) -> Option<ColumnType> {
        self.columns.get(name).map(|c| c.holds.clone()).or_else(|| built_in_column(name))
    }
}

/// A version of a schema, for comparing: `"8.3.1"` is less than `"8.10.0"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SchemaVersion(pub u32, pub u32, pub u32);

impl Schema {
    /// The version as numbers, if it is written `x.y.z`.
    pub fn version_numbers(&self) -> Option<SchemaVersion> {
        let mut parts = self.version.splitn(3, '.').map(|part| part.parse().ok());
        Some(SchemaVersion(parts.next()??, parts.next()??, parts.next()??))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_columns() {
        check(r#""integer""#, "one integer", "0");
        check(r#"{"key":"string"}"#, "one string", "\"\"");
        check(r#"{"key":{"type":"string"},"min":0}"#, "an optional string", "[]");
        check(r#"{"key":"uuid","min":0,"max":"unlimited"}"#, "a set of uuid", "[]");
        check(
            r#"{"key":{"type":"integer","minInteger":0,"maxInteger":4095},"min":0,"max":4096}"#,
            "a set of at most 4096 integer",
            "[]",
        );
        check(
            r#"{"key":"string","value":{"type":"uuid","refTable":"Queue"},"min":0,"max":"unlimited"}"#,
            "a map of string to uuid",
            "{}",
        );
        check(r#"{"key":"boolean"}"#, "one boolean", "false");
        check(r#"{"key":"real"}"#, "one real", "0");
        check(
            r#"{"key":{"type":"string","enum":["set",["a","b"]]},"min":1,"max":"unlimited"}"#,
            "a set of string",
            "\"\"",
        );

        #[track_caller]
        fn check(json: &str, words: &str, default: &str) {
            let holds: ColumnType = serde_json::from_str(json).expect(json);
            assert_eq!(holds.to_string(), words);
            assert_eq!(holds.default_value().to_string(), default);
        }
    }

    #[test]
    fn what_a_column_accepts() {
        let integers = r#"{"key":"integer","min":0,"max":3}"#;
        let real = r#"{"key":"real"}"#;
        let weights = r#"{"key":"string","value":"real","min":0,"max":"unlimited"}"#;
        check(integers, "5", Some("5"));
        check(integers, "[\"set\",[5]]", Some("5"));
        check(integers, "[\"set\",[1,2,3,4]]", None);
        check(integers, "1.0", Some("1"));
        check(integers, "1.5", None);
        check(integers, "\"5\"", None);
        check(integers, "[\"map\",[]]", None);
        check(real, "0", Some("0.0"));
        check(
            weights,
            "[\"map\",[[\"a\",1],[\"b\",0.5]]]",
            Some("[\"map\",[[\"a\",1.0],[\"b\",0.5]]]"),
        );
        check(weights, "[\"map\",[[\"a\",\"b\"]]]", None);
        check(weights, "[\"set\",[]]", None);

        #[track_caller]
        fn check(column: &str, value: &str, accepted: Option<&str>) {
            let column: ColumnType = serde_json::from_str(column).unwrap();
            let value: Value = serde_json::from_str(value).unwrap();
            let got = column.accept(value).ok().map(|v| serde_json::to_string(&v).unwrap());
            assert_eq!(got.as_deref(), accepted);
        }
    }

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text: &str| {
            let json = format!(r#"{{"name":"d","version":"{text}","tables":{{}}}}"#);
            serde_json::from_str::<Schema>(&json).unwrap().version_numbers()
        };
        assert!(version("8.3.1") < version("8.10.0"));
        assert_eq!(version("8.3.1"), Some(SchemaVersion(8, 3, 1)));
        assert_eq!(version("8.3"), None);
    }
}
