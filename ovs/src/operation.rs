//! Operations as data (RFC 7047 section 5.2).
//!
//! Builders return operations and send nothing; a list of them is what
//! [`crate::Client::transact`] sends, and what an error gives back when one of
//! them failed.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeTuple, Serializer};

use crate::column::{Collection, Column, Field, Ref};
use crate::table::Table;
use crate::value::{Uuid, UuidName, Value};

/// Columns by name with what they hold or shall hold (RFC 7047 section 5.1, `<row>`).
pub type Columns = BTreeMap<String, Value>;

/// One operation of a transaction (RFC 7047 section 5.2).
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// Adds a row.
    Insert(Insert),
    /// Reads rows.
    Select(Select),
    /// Gives columns new values.
    Update(Update),
    /// Changes columns by what they hold.
    Mutate(Mutate),
    /// Removes rows.
    Delete(Delete),
    /// Lets the transaction go on only if rows are as expected.
    Wait(Wait),
    /// Asks that the commit be on disk before the reply (section 5.2.7).
    Commit {
        /// Whether to flush; a clustered database always does.
        durable: bool,
    },
    /// Takes the whole transaction back (section 5.2.8).
    Abort,
    /// A text for the database's log: `ovsdb-tool show-log` prints it (section 5.2.9).
    Comment(String),
    /// Takes the transaction back unless this session holds the lock (section 5.2.10).
    Assert {
        /// The name of the lock.
        lock: String,
    },
}

/// Declares the conversion of one kind of operation into any.
macro_rules! operation_from {
    ($($kind:ident)*) => {$(
        impl From<$kind> for Operation {
            fn from(operation: $kind) -> Self {
                Self::$kind(operation)
            }
        }
    )*};
}
operation_from! { Insert Select Update Mutate Delete Wait }

impl Operation {
    /// The word after `op` on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Insert(_) => "insert",
            Self::Select(_) => "select",
            Self::Update(_) => "update",
            Self::Mutate(_) => "mutate",
            Self::Delete(_) => "delete",
            Self::Wait(_) => "wait",
            Self::Commit { .. } => "commit",
            Self::Abort => "abort",
            Self::Comment(_) => "comment",
            Self::Assert { .. } => "assert",
        }
    }

    /// The table it works on, if it works on one.
    pub fn table(&self) -> Option<&str> {
        match self {
            Self::Insert(insert) => Some(&insert.table),
            Self::Select(select) => Some(&select.table),
            Self::Update(update) => Some(&update.table),
            Self::Mutate(mutate) => Some(&mutate.table),
            Self::Delete(delete) => Some(&delete.table),
            Self::Wait(wait) => Some(&wait.table),
            Self::Commit { .. } | Self::Abort | Self::Comment(_) | Self::Assert { .. } => None,
        }
    }

    /// The rows it must find, if finding none is a failure: the wait that
    /// proves beforehand that there is one. See [`Update::or_none`].
    pub(crate) fn proof_of_rows(&self) -> Option<Wait> {
        let (table, filter, may_miss) = match self {
            Self::Update(update) => (&update.table, &update.filter, update.may_miss),
            Self::Mutate(mutate) => (&mutate.table, &mutate.filter, mutate.may_miss),
            Self::Delete(delete) => (&delete.table, &delete.filter, delete.may_miss),
            Self::Insert(_)
            | Self::Select(_)
            | Self::Wait(_)
            | Self::Commit { .. }
            | Self::Abort
            | Self::Comment(_)
            | Self::Assert { .. } => return None,
        };
        (!may_miss).then(|| Wait::exists(table, filter.clone()))
    }

    /// The row that `filter` names by its UUID, for those that have one.
    pub(crate) fn target(&self) -> Option<Uuid> {
        let filter = match self {
            Self::Update(update) => &update.filter,
            Self::Mutate(mutate) => &mutate.filter,
            Self::Delete(delete) => &delete.filter,
            _ => return None,
        };
        filter.iter().find_map(|condition| match (&*condition.column, condition.test) {
            ("_uuid", Test::Equal) => Uuid::from_value(&condition.value).ok(),
            _ => None,
        })
    }
}

/// How a condition compares (RFC 7047 section 5.1, `<function>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Test {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`, of integers and reals.
    Less,
    /// `<=`, of integers and reals.
    LessOrEqual,
    /// `>`, of integers and reals.
    Greater,
    /// `>=`, of integers and reals.
    GreaterOrEqual,
    /// The column has all these members or pairs.
    Includes,
    /// The column has none of these members or pairs.
    Excludes,
}

impl Test {
    fn text(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }
}

/// Which rows are meant (RFC 7047 section 5.1, `<condition>`).
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The column looked at.
    pub column: String,
    /// How it is compared.
    pub test: Test,
    /// With what.
    pub value: Value,
}

impl Condition {
    /// Rows whose `column` stands in this relation to `value`.
    pub fn new(column: &str, test: Test, value: impl Into<Value>) -> Self {
        Self { column: column.to_owned(), test, value: value.into() }
    }

    /// The one row with this UUID. The server finds it without a search;
    /// any other condition reads the whole table.
    pub fn row<T>(row: impl Into<Ref<T>>) -> Self {
        Self::new("_uuid", Test::Equal, row.into().to_value())
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (&self.column, self.test.text(), &self.value).serialize(to)
    }
}

/// How a mutation changes a column (RFC 7047 section 5.1, `<mutator>`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutator {
    /// `+=`
    Plus,
    /// `-=`
    Minus,
    /// `*=`
    Times,
    /// `/=`
    DividedBy,
    /// `%=`, of integers.
    Modulo,
    /// Adds members or pairs. A key that is already there **keeps its value**.
    Insert,
    /// Takes members, pairs or keys out. What is not there is no error.
    Delete,
}

impl Mutator {
    fn text(self) -> &'static str {
        match self {
            Self::Plus => "+=",
            Self::Minus => "-=",
            Self::Times => "*=",
            Self::DividedBy => "/=",
            Self::Modulo => "%=",
            Self::Insert => "insert",
            Self::Delete => "delete",
        }
    }
}

/// One change of one column (RFC 7047 section 5.1, `<mutation>`).
#[derive(Debug, Clone, PartialEq)]
pub struct Mutation {
    /// The column changed.
    pub column: String,
    /// How.
    pub mutator: Mutator,
    /// By what.
    pub value: Value,
}

impl Mutation {
    /// A change of `column` by `value`.
    pub fn new(column: &str, mutator: Mutator, value: impl Into<Value>) -> Self {
        Self { column: column.to_owned(), mutator, value: value.into() }
    }
}

impl Serialize for Mutation {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (&self.column, self.mutator.text(), &self.value).serialize(to)
    }
}

impl<T, V: Field> Column<T, V> {
    /// Rows where this column is exactly `value`.
    pub fn is(self, value: impl Into<V>) -> Condition {
        Condition::new(self.name(), Test::Equal, value.into().to_value())
    }

    /// Rows where this column is anything but `value`.
    pub fn is_not(self, value: impl Into<V>) -> Condition {
        Condition::new(self.name(), Test::NotEqual, value.into().to_value())
    }
}

impl<T, V: Collection> Column<T, V> {
    /// Rows where this column has all of `members`.
    pub fn includes(self, members: impl IntoIterator<Item = V::Member>) -> Condition {
        Condition::new(self.name(), Test::Includes, V::of_members(members))
    }

    /// Rows where this column has none of `members`.
    pub fn excludes(self, members: impl IntoIterator<Item = V::Member>) -> Condition {
        Condition::new(self.name(), Test::Excludes, V::of_members(members))
    }

    /// Adds `members`. In a map, a key that is already there keeps its value:
    /// put a [`Column::delete`] of the key before it to overwrite.
    pub fn insert(self, members: impl IntoIterator<Item = V::Member>) -> Mutation {
        Mutation::new(self.name(), Mutator::Insert, V::of_members(members))
    }

    /// Takes out these members, or what a map has under these keys.
    pub fn delete(self, keys: impl IntoIterator<Item = V::Key>) -> Mutation {
        Mutation::new(self.name(), Mutator::Delete, V::of_keys(keys))
    }
}

impl<T> Column<T, i64> {
    /// Adds `n`. Beyond 64 bits is a `range error` of the server.
    pub fn plus(self, n: i64) -> Mutation {
        Mutation::new(self.name(), Mutator::Plus, n)
    }
}

/// Adds a row (RFC 7047 section 5.2.1).
///
/// A row of a table that is not a root of its schema **vanishes at commit,
/// without an error**, unless the same transaction links it to one that stays:
/// a port to its bridge, a bridge to `Open_vSwitch.bridges`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Insert {
    /// The table.
    pub table: String,
    /// The columns; others take their default.
    pub row: Columns,
    /// What other operations of the transaction call the row.
    #[serde(rename = "uuid-name", skip_serializing_if = "Option::is_none")]
    pub name: Option<UuidName>,
    /// The UUID it shall have, instead of a random one. Servers before Open
    /// vSwitch 2.13 do not know this; one that is taken is a `duplicate uuid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
}

impl Insert {
    /// A row of `table` with nothing but defaults.
    pub fn new(table: &str) -> Self {
        Self { table: table.to_owned(), row: Columns::new(), name: None, uuid: None }
    }

    /// `row`, without the columns that are at their default.
    pub fn of<T: Table>(row: &T) -> Self {
        Self { row: row.columns_set(), ..Self::new(T::TABLE) }
    }

    /// Sets a column.
    pub fn set(mut self, column: &str, value: impl Into<Value>) -> Self {
        self.row.insert(column.to_owned(), value.into());
        self
    }

    /// Lets other operations of the transaction refer to the row.
    pub fn named(mut self, name: UuidName) -> Self {
        self.name = Some(name);
        self
    }

    /// Chooses the UUID of the row.
    pub fn with_uuid(mut self, uuid: Uuid) -> Self {
        self.uuid = Some(uuid);
        self
    }
}

/// Declares the builder methods that several operations share.
macro_rules! filtered {
    ($kind:ident) => {
        impl $kind {
            /// Only rows for which this holds; several conditions must all hold.
            pub fn filter(mut self, condition: Condition) -> Self {
                self.filter.push(condition);
                self
            }

            /// Only the row with this UUID.
            pub fn row<T>(self, row: impl Into<Ref<T>>) -> Self {
                self.filter(Condition::row(row))
            }

            /// Only the row with this UUID, for a table without a Rust type.
            pub fn uuid(self, uuid: Uuid) -> Self {
                self.row::<()>(uuid)
            }
        }
    };
    ($kind:ident that can miss) => {
        filtered!($kind);
        impl $kind {
            /// Takes it for a success if no row matches.
            ///
            /// Without this, [`crate::Client::transact`] puts a `wait` before
            /// the operation that proves a row is there, and if none is,
            /// nothing is committed: the server itself answers `count: 0`.
            pub fn or_none(mut self) -> Self {
                self.may_miss = true;
                self
            }
        }
    };
}

/// Reads rows (RFC 7047 section 5.2.2).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Select {
    /// The table.
    pub table: String,
    /// Which rows.
    #[serde(rename = "where")]
    pub filter: Vec<Condition>,
    /// Which columns; all, `_uuid` and `_version` included, if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
}
filtered!(Select);

impl Select {
    /// All rows of `table` with all columns.
    pub fn new(table: &str) -> Self {
        Self { table: table.to_owned(), filter: Vec::new(), columns: None }
    }

    /// Only these columns.
    pub fn columns<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.columns = Some(columns.into_iter().map(str::to_owned).collect());
        self
    }
}

/// Gives columns new values (RFC 7047 section 5.2.3).
///
/// For a set or a map that others write too, use [`Mutate`]: an update of
/// `external_ids` takes away what somebody else put there meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Update {
    /// The table.
    pub table: String,
    /// Which rows.
    #[serde(rename = "where")]
    pub filter: Vec<Condition>,
    /// The columns to set.
    pub row: Columns,
    /// See [`Update::or_none`].
    #[serde(skip)]
    pub may_miss: bool,
}
filtered!(Update that can miss);

impl Update {
    /// An update of all rows of `table` that sets nothing yet.
    pub fn new(table: &str) -> Self {
        let (filter, row) = (Vec::new(), Columns::new());
        Self { table: table.to_owned(), filter, row, may_miss: false }
    }

    /// Sets a column.
    pub fn set(mut self, column: &str, value: impl Into<Value>) -> Self {
        self.row.insert(column.to_owned(), value.into());
        self
    }
}

/// Changes columns by what they hold (RFC 7047 section 5.2.4).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mutate {
    /// The table.
    pub table: String,
    /// Which rows.
    #[serde(rename = "where")]
    pub filter: Vec<Condition>,
    /// The changes, done in this order.
    pub mutations: Vec<Mutation>,
    /// See [`Mutate::or_none`].
    #[serde(skip)]
    pub may_miss: bool,
}
filtered!(Mutate that can miss);

impl Mutate {
    /// A mutation of all rows of `table` that changes nothing yet.
    pub fn new(table: &str) -> Self {
        let (filter, mutations) = (Vec::new(), Vec::new());
        Self { table: table.to_owned(), filter, mutations, may_miss: false }
    }

    /// Adds a change.
    pub fn by(mut self, mutation: Mutation) -> Self {
        self.mutations.push(mutation);
        self
    }
}

/// Removes rows (RFC 7047 section 5.2.5).
///
/// A row that another still refers to cannot go: take it out of its parent's
/// column, and it vanishes by itself unless its table is a root.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Delete {
    /// The table.
    pub table: String,
    /// Which rows.
    #[serde(rename = "where")]
    pub filter: Vec<Condition>,
    /// See [`Delete::or_none`].
    #[serde(skip)]
    pub may_miss: bool,
}
filtered!(Delete that can miss);

impl Delete {
    /// A removal of all rows of `table`.
    pub fn new(table: &str) -> Self {
        Self { table: table.to_owned(), filter: Vec::new(), may_miss: false }
    }
}

/// Lets the transaction go on only if rows are as expected (RFC 7047 section 5.2.6).
///
/// Always written with a `timeout`, 0 unless [`Wait::within`] says otherwise:
/// the server takes a missing one for "for ever", and holds the whole
/// transaction, and its client, that long.
#[derive(Debug, Clone, PartialEq)]
pub struct Wait {
    /// The table.
    pub table: String,
    /// Which rows.
    pub filter: Vec<Condition>,
    /// Which columns are compared.
    pub columns: Vec<String>,
    /// Whether the rows found must equal `rows`, or must not.
    pub equal: bool,
    /// What is compared with, in any order.
    pub rows: Vec<Columns>,
    /// How long the server may wait for it to come true, in milliseconds.
    pub timeout_ms: u64,
}

impl Wait {
    /// Some row of `table` matches `filter`.
    pub fn exists(table: &str, filter: Vec<Condition>) -> Self {
        Self { equal: false, ..Self::absent(table, filter) }
    }

    /// No row of `table` matches `filter`.
    pub fn absent(table: &str, filter: Vec<Condition>) -> Self {
        let (columns, rows) = (vec!["_uuid".to_owned()], Vec::new());
        Self { table: table.to_owned(), filter, columns, equal: true, rows, timeout_ms: 0 }
    }

    /// The row still has these columns as they were read.
    pub fn unchanged(table: &str, row: Uuid, read: Columns) -> Self {
        Self {
            columns: read.keys().cloned().collect(),
            rows: vec![read],
            ..Self::absent(table, vec![Condition::row::<()>(row)])
        }
    }

    /// Lets the server wait this long, rounded down to milliseconds.
    pub fn within(mut self, time: Duration) -> Self {
        self.timeout_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

impl Serialize for Wait {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            table: &'a str,
            timeout: u64,
            #[serde(rename = "where")]
            filter: &'a [Condition],
            columns: &'a [String],
            until: &'static str,
            rows: &'a [Columns],
        }
        let (filter, columns, rows) = (&*self.filter, &*self.columns, &*self.rows);
        let until = if self.equal { "==" } else { "!=" };
        Wire { table: &self.table, timeout: self.timeout_ms, filter, columns, until, rows }
            .serialize(to)
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Tagged<'a, O> {
            op: &'a str,
            #[serde(flatten)]
            rest: O,
        }
        let op = self.name();
        match self {
            Self::Insert(rest) => Tagged { op, rest }.serialize(to),
            Self::Select(rest) => Tagged { op, rest }.serialize(to),
            Self::Update(rest) => Tagged { op, rest }.serialize(to),
            Self::Mutate(rest) => Tagged { op, rest }.serialize(to),
            Self::Delete(rest) => Tagged { op, rest }.serialize(to),
            Self::Wait(rest) => Tagged { op, rest }.serialize(to),
            Self::Commit { durable } => tagged(to, op, Some(("durable", durable))),
            Self::Abort => tagged(to, op, None::<(_, bool)>),
            Self::Comment(comment) => tagged(to, op, Some(("comment", comment))),
            Self::Assert { lock } => tagged(to, op, Some(("lock", lock))),
        }
    }
}

/// An operation with at most one member besides `op`.
fn tagged<S: Serializer>(
    to: S,
    op: &str,
    member: Option<(&str, impl Serialize)>,
) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(None)?;
    map.serialize_entry("op", op)?;
    if let Some((name, value)) = member {
        map.serialize_entry(name, &value)?;
    }
    map.end()
}

/// The parameters of `transact` (RFC 7047 section 4.1.3): a database, then operations.
pub(crate) struct TransactParams<'a> {
    pub(crate) database: &'a str,
    pub(crate) operations: &'a [Operation],
}

impl Serialize for TransactParams<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut params = to.serialize_tuple(1 + self.operations.len())?;
        params.serialize_element(self.database)?;
        for operation in self.operations {
            params.serialize_element(operation)?;
        }
        params.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: Uuid = Uuid::from_u128(0x550e8400_e29b_41d4_a716_446655440000);

    /// Every operation, as the server must read it.
    #[test]
    fn wire_texts() {
        check(Insert::new("Bridge"), r#"{"op":"insert","table":"Bridge","row":{}}"#);
        check(
            Insert::new("Port").set("name", "p").set("tag", 10).named(UuidName::numbered(1)),
            r#"{"op":"insert","table":"Port","row":{"name":"p","tag":10},"uuid-name":"row1"}"#,
        );
        check(
            Insert::new("QoS").with_uuid(UUID),
            r#"{"op":"insert","table":"QoS","row":{},"uuid":"550e8400-e29b-41d4-a716-446655440000"}"#,
        );
        check(
            Select::new("Bridge").columns(["name"]).filter(Condition::new(
                "name",
                Test::Equal,
                "b",
            )),
            r#"{"op":"select","table":"Bridge","where":[["name","==","b"]],"columns":["name"]}"#,
        );
        check(Select::new("Bridge"), r#"{"op":"select","table":"Bridge","where":[]}"#);
        check(
            Update::new("Port").uuid(UUID).set("tag", Value::empty_set()),
            r#"{"op":"update","table":"Port","where":[["_uuid","==",["uuid","550e8400-e29b-41d4-a716-446655440000"]]],"row":{"tag":["set",[]]}}"#,
        );
        check(
            Mutate::new("Open_vSwitch")
                .by(Mutation::new("next_cfg", Mutator::Plus, 1))
                .by(Mutation::new("external_ids", Mutator::Delete, Value::set(["k".into()])))
                .by(Mutation::new(
                    "external_ids",
                    Mutator::Insert,
                    Value::map([("k".into(), "v".into())]).unwrap(),
                )),
            r#"{"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["next_cfg","+=",1],["external_ids","delete","k"],["external_ids","insert",["map",[["k","v"]]]]]}"#,
        );
        check(
            Delete::new("QoS").row::<()>(Ref::named(UuidName::numbered(0))).or_none(),
            r#"{"op":"delete","table":"QoS","where":[["_uuid","==",["named-uuid","row0"]]]}"#,
        );
        check(
            Wait::unchanged("Port", UUID, Columns::from([("tag".to_owned(), 10.into())])),
            r#"{"op":"wait","table":"Port","timeout":0,"where":[["_uuid","==",["uuid","550e8400-e29b-41d4-a716-446655440000"]]],"columns":["tag"],"until":"==","rows":[{"tag":10}]}"#,
        );
        check(
            Wait::absent("Bridge", vec![Condition::new("name", Test::Equal, "b")]),
            r#"{"op":"wait","table":"Bridge","timeout":0,"where":[["name","==","b"]],"columns":["_uuid"],"until":"==","rows":[]}"#,
        );
        check(
            Wait::exists("Bridge", vec![]).within(Duration::from_micros(2_500)),
            r#"{"op":"wait","table":"Bridge","timeout":2,"where":[],"columns":["_uuid"],"until":"!=","rows":[]}"#,
        );
        check(Operation::Commit { durable: true }, r#"{"op":"commit","durable":true}"#);
        check(Operation::Abort, r#"{"op":"abort"}"#);
        check(Operation::Comment("why".into()), r#"{"op":"comment","comment":"why"}"#);
        check(Operation::Assert { lock: "l".into() }, r#"{"op":"assert","lock":"l"}"#);

        #[track_caller]
        fn check(operation: impl Into<Operation>, text: &str) {
            assert_eq!(serde_json::to_string(&operation.into()).unwrap(), text);
        }
    }

    #[test]
    fn tests_and_mutators() {
        use Mutator::*;
        use Test::*;
        let tests =
            [Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual, Includes, Excludes];
        let texts = tests.map(|test| serde_json::to_string(&Condition::new("c", test, 1)).unwrap());
        assert_eq!(
            texts.join(" "),
            r#"["c","==",1] ["c","!=",1] ["c","<",1] ["c","<=",1] ["c",">",1] ["c",">=",1] ["c","includes",1] ["c","excludes",1]"#
        );
        let mutators = [Plus, Minus, Times, DividedBy, Modulo, Insert, Delete];
        let texts = mutators.map(|m| serde_json::to_string(&Mutation::new("c", m, 1)).unwrap());
        assert_eq!(
            texts.join(" "),
            r#"["c","+=",1] ["c","-=",1] ["c","*=",1] ["c","/=",1] ["c","%=",1] ["c","insert",1] ["c","delete",1]"#
        );
    }

    #[test]
    fn only_what_can_miss_needs_a_proof() {
        check(Update::new("T"), true);
        check(Update::new("T").or_none(), false);
        check(Mutate::new("T"), true);
        check(Delete::new("T"), true);
        check(Delete::new("T").or_none(), false);
        check(Insert::new("T"), false);
        check(Select::new("T"), false);
        check(Wait::absent("T", vec![]), false);
        check(Operation::Abort, false);

        #[track_caller]
        fn check(operation: impl Into<Operation>, needed: bool) {
            assert_eq!(operation.into().proof_of_rows().is_some(), needed);
        }
    }

    #[test]
    fn transact_takes_the_database_first() {
        let params = TransactParams { database: "db", operations: &[Operation::Abort] };
        assert_eq!(serde_json::to_string(&params).unwrap(), r#"["db",{"op":"abort"}]"#);
    }
}
