//! Columns with a Rust type, so that a typo is an error of the compiler.
//!
//! [`Field`] says which Rust types can stand for a column; [`Column`] is the
//! name of a column together with that type; [`Ref`] points at a row of a
//! known table, in the database or still to be inserted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use crate::schema::{ColumnType, Unfit};
use crate::value::{Atom, AtomKind, Uuid, UuidName, Value};

/// A Rust type that is one atom.
pub trait Scalar: Sized + Ord {
    /// What the schema must say of such a column.
    const KIND: AtomKind;
    /// This, as an atom.
    fn to_atom(&self) -> Atom;
    /// An atom, as this; `None` if it is of another kind.
    fn from_atom(atom: &Atom) -> Option<Self>;
}

/// A Rust type that can be the content of a column: a [`Scalar`], an `Option`
/// of one, a `BTreeSet`, or a `BTreeMap`.
pub trait Field: Sized {
    /// This, as a value.
    fn to_value(&self) -> Value;
    /// A value, as this, or why not.
    fn from_value(value: &Value) -> Result<Self, Unfit>;
    /// Whether every value of such a column can be read as this.
    fn fits(column: &ColumnType) -> bool;
    /// What this is, in words, for messages.
    fn in_words() -> String;
}

/// A real number that can be ordered, by [`f64::total_cmp`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Real(pub f64);

impl Ord for Real {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Real {}

/// Declares a Rust type as a scalar: its kind, the way there and the way back.
macro_rules! scalar {
    ($($rust:ty, $kind:ident, |$this:ident| $to:expr, $pattern:pat => $from:expr;)*) => {$(
        impl Scalar for $rust {
            const KIND: AtomKind = AtomKind::$kind;
            fn to_atom(&self) -> Atom {
                let $this = self;
                $to
            }
            fn from_atom(atom: &Atom) -> Option<Self> {
                match atom {
                    $pattern => Some($from),
                    _ => None,
                }
            }
        }
    )*};
}
scalar! {
    i64, Integer, |n| Atom::Integer(*n), Atom::Integer(n) => *n;
    bool, Boolean, |b| Atom::Boolean(*b), Atom::Boolean(b) => *b;
    String, String, |s| Atom::String(s.clone()), Atom::String(s) => s.clone();
    Uuid, Uuid, |u| Atom::Uuid(*u), Atom::Uuid(u) => *u;
}

impl Scalar for Real {
    const KIND: AtomKind = AtomKind::Real;

    fn to_atom(&self) -> Atom {
        Atom::Real(self.0)
    }

    fn from_atom(atom: &Atom) -> Option<Self> {
        match atom {
            Atom::Real(x) => Some(Self(*x)),
            // The server writes 0.0 as 0.
            Atom::Integer(n) => Some(Self(*n as f64)),
            _ => None,
        }
    }
}

/// A row of table `T`: one in the database, or one that this transaction inserts.
pub struct Ref<T> {
    target: Target,
    table: PhantomData<fn() -> T>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Target {
    Uuid(Uuid),
    Named(UuidName),
}

impl<T> Ref<T> {
    /// The row with this `_uuid`.
    pub fn uuid(uuid: Uuid) -> Self {
        Self { target: Target::Uuid(uuid), table: PhantomData }
    }

    /// The row that an insert of the same transaction calls `name`.
    pub fn named(name: UuidName) -> Self {
        Self { target: Target::Named(name), table: PhantomData }
    }

    /// The UUID, unless this is a row that has none yet. What a replica
    /// hands out always has one.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self.target {
            Target::Uuid(uuid) => Some(uuid),
            Target::Named(_) => None,
        }
    }
}

impl<T> Default for Ref<T> {
    /// The nil UUID, which no row has.
    fn default() -> Self {
        Self::uuid(Uuid::nil())
    }
}

impl<T> From<Uuid> for Ref<T> {
    fn from(uuid: Uuid) -> Self {
        Self::uuid(uuid)
    }
}

impl<T> From<&Ref<T>> for Ref<T> {
    fn from(same: &Self) -> Self {
        same.clone()
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Self { target: self.target.clone(), table: PhantomData }
    }
}

impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_atom())
    }
}

impl<T> PartialEq for Ref<T> {
    fn eq(&self, other: &Self) -> bool {
        self.target == other.target
    }
}

impl<T> Eq for Ref<T> {}

impl<T> PartialOrd for Ref<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Ref<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.target.cmp(&other.target)
    }
}

impl<T> Hash for Ref<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.target.hash(state);
    }
}

impl<T> Scalar for Ref<T> {
    const KIND: AtomKind = AtomKind::Uuid;

    fn to_atom(&self) -> Atom {
        match &self.target {
            Target::Uuid(uuid) => Atom::Uuid(*uuid),
            Target::Named(name) => Atom::NamedUuid(name.clone()),
        }
    }

    fn from_atom(atom: &Atom) -> Option<Self> {
        match atom {
            Atom::Uuid(uuid) => Some(Self::uuid(*uuid)),
            Atom::NamedUuid(name) => Some(Self::named(name.clone())),
            _ => None,
        }
    }
}

impl<S: Scalar> Field for S {
    fn to_value(&self) -> Value {
        self.to_atom().into()
    }

    fn from_value(value: &Value) -> Result<Self, Unfit> {
        value.atom().and_then(S::from_atom).ok_or_else(|| Unfit::new(value, Self::in_words()))
    }

    fn fits(column: &ColumnType) -> bool {
        !column.is_map() && column.key.kind == S::KIND && (column.min, column.max) == (1, 1)
    }

    fn in_words() -> String {
        format!("one {}", S::KIND)
    }
}

impl<S: Scalar> Field for Option<S> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::empty_set(), Field::to_value)
    }

    fn from_value(value: &Value) -> Result<Self, Unfit> {
        match value.atoms() {
            Some([]) => Ok(None),
            _ => S::from_value(value).map(Some).map_err(|_| Unfit::new(value, Self::in_words())),
        }
    }

    fn fits(column: &ColumnType) -> bool {
        !column.is_map() && column.key.kind == S::KIND && column.max == 1
    }

    fn in_words() -> String {
        format!("an optional {}", S::KIND)
    }
}

impl<S: Scalar> Field for BTreeSet<S> {
    fn to_value(&self) -> Value {
        Value::set(self.iter().map(S::to_atom))
    }

    fn from_value(value: &Value) -> Result<Self, Unfit> {
        let members = value.atoms().and_then(|atoms| atoms.iter().map(S::from_atom).collect());
        members.ok_or_else(|| Unfit::new(value, Self::in_words()))
    }

    fn fits(column: &ColumnType) -> bool {
        !column.is_map() && column.key.kind == S::KIND
    }

    fn in_words() -> String {
        format!("a set of {}", S::KIND)
    }
}

impl<K: Scalar, V: Scalar> Field for BTreeMap<K, V> {
    fn to_value(&self) -> Value {
        // Two keys that differ in Rust differ as atoms, so none is there twice.
        Value::map(self.iter().map(|(k, v)| (k.to_atom(), v.to_atom())))
            .unwrap_or(Value::empty_map())
    }

    fn from_value(value: &Value) -> Result<Self, Unfit> {
        let pairs = value.pairs().and_then(|pairs| {
            pairs.iter().map(|(k, v)| Some((K::from_atom(k)?, V::from_atom(v)?))).collect()
        });
        pairs.ok_or_else(|| Unfit::new(value, Self::in_words()))
    }

    fn fits(column: &ColumnType) -> bool {
        column.key.kind == K::KIND && column.value.as_ref().is_some_and(|v| v.kind == V::KIND)
    }

    fn in_words() -> String {
        format!("a map of {} to {}", K::KIND, V::KIND)
    }
}

/// The column `name` of table `T`, which holds a `V`.
///
/// Made by [`tables!`](crate::tables): `vswitch::Port::TAG`.
pub struct Column<T, V> {
    name: &'static str,
    types: PhantomData<fn() -> (T, V)>,
}

impl<T, V> Clone for Column<T, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, V> Copy for Column<T, V> {}

impl<T, V> fmt::Debug for Column<T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<T, V> Column<T, V> {
    /// Names a column. Nothing checks here that the table has it; connecting does.
    pub const fn new(name: &'static str) -> Self {
        Self { name, types: PhantomData }
    }

    /// The name in the schema.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// What a set or a map takes in at once: [`Transaction::add`](crate::Transaction::add).
pub trait Collection: Field {
    /// A member, or a pair of key and value.
    type Member;
    /// What a member is taken out by: itself, or the key.
    type Key;
    /// The value that holds these members.
    fn of_members(members: impl IntoIterator<Item = Self::Member>) -> Value;
    /// The set of these keys.
    fn of_keys(keys: impl IntoIterator<Item = Self::Key>) -> Value;
}

impl<S: Scalar> Collection for BTreeSet<S> {
    type Member = S;
    type Key = S;

    fn of_members(members: impl IntoIterator<Item = S>) -> Value {
        Value::set(members.into_iter().map(|m| m.to_atom()))
    }

    fn of_keys(keys: impl IntoIterator<Item = S>) -> Value {
        Self::of_members(keys)
    }
}

impl<K: Scalar, V: Scalar> Collection for BTreeMap<K, V> {
    type Member = (K, V);
    type Key = K;

    fn of_members(members: impl IntoIterator<Item = (K, V)>) -> Value {
        members.into_iter().collect::<Self>().to_value()
    }

    fn of_keys(keys: impl IntoIterator<Item = K>) -> Value {
        Value::set(keys.into_iter().map(|k| k.to_atom()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn survives<V: Field + PartialEq + fmt::Debug>(field: V) -> Result<(), TestCaseError> {
        let text = serde_json::to_string(&field.to_value()).unwrap();
        let back = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(V::from_value(&back).unwrap(), field);
        Ok(())
    }

    proptest! {
        #[test]
        fn fields_survive_a_round_trip(
            integer: i64,
            boolean: bool,
            text: String,
            uuid: u128,
            optional: Option<i64>,
            set: BTreeSet<String>,
            map: BTreeMap<i64, String>,
        ) {
            survives(integer)?;
            survives(boolean)?;
            survives(text)?;
            survives(Uuid::from_u128(uuid))?;
            survives(Ref::<()>::uuid(Uuid::from_u128(uuid)))?;
            survives(optional)?;
            survives(set)?;
            survives(map)?;
        }
    }

    #[test]
    fn what_fits_which_column() {
        let column = |json: &str| serde_json::from_str::<ColumnType>(json).unwrap();
        let optional = column(r#"{"key":"integer","min":0}"#);
        let set = column(r#"{"key":"integer","min":0,"max":4096}"#);
        let map = column(r#"{"key":"string","value":"integer","min":0,"max":"unlimited"}"#);
        assert!(Option::<i64>::fits(&optional) && !i64::fits(&optional));
        assert!(BTreeSet::<i64>::fits(&optional) && BTreeSet::<i64>::fits(&set));
        assert!(!Option::<i64>::fits(&set) && !BTreeSet::<String>::fits(&set));
        assert!(BTreeMap::<String, i64>::fits(&map) && !BTreeMap::<String, String>::fits(&map));
        assert!(i64::fits(&column(r#""integer""#)) && !bool::fits(&column(r#""integer""#)));
    }

    #[test]
    fn a_wrong_value_says_what_was_wanted() {
        let value: Value = serde_json::from_str(r#"["set",[1,2]]"#).unwrap();
        let error = Option::<i64>::from_value(&value).unwrap_err();
        assert_eq!(error.to_string(), "[1, 2] is not an optional integer");
    }
}
