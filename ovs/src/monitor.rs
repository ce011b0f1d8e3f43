//! What to watch, and the updates that come of it (RFC 7047 sections 4.1.5 and
//! 4.1.6; ovsdb-server(7) sections 4.1.12 to 4.1.16).
//!
//! A [`Watch`] is a wish; together with the server's schema it becomes a
//! [`Layout`], and all layouts become the parameters of a monitor request.
//! Nothing here talks to a server or keeps a row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::operation::{Columns, Condition};
use crate::schema::{ColumnType, Schema, TableSchema, built_in_column};
use crate::table::{ColumnInfo, Table};
use crate::value::{Uuid, Value};

/// A table to keep a replica of. Several watches of one table add up.
#[derive(Debug, Clone)]
pub struct Watch {
    pub(crate) table: String,
    /// `None` for all columns that the schema lists.
    columns: Option<Vec<WantedColumn>>,
    except: BTreeSet<String>,
    required: BTreeSet<String>,
    filter: Vec<Condition>,
    optional: bool,
}

#[derive(Debug, Clone)]
struct WantedColumn {
    name: String,
    info: Option<ColumnInfo>,
}

impl WantedColumn {
    fn untyped(name: &str) -> Self {
        Self { name: name.to_owned(), info: None }
    }
}

impl Watch {
    /// All columns that `T` has, as far as the server has them.
    pub fn of<T: Table>() -> Self {
        let wanted = |info: &ColumnInfo| WantedColumn {
            info: Some(*info),
            ..WantedColumn::untyped(info.name)
        };
        Self { columns: Some(T::COLUMNS.iter().map(wanted).collect()), ..Self::all(T::TABLE) }
    }

    /// All columns of `table`, whatever they are.
    pub fn all(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            columns: None,
            except: BTreeSet::new(),
            required: BTreeSet::new(),
            filter: Vec::new(),
            optional: false,
        }
    }

    /// Some columns of `table`.
    pub fn columns<'a>(table: &str, columns: impl IntoIterator<Item = &'a str>) -> Self {
        let columns = columns.into_iter().map(WantedColumn::untyped).collect();
        Self { columns: Some(columns), ..Self::all(table) }
    }

    /// Leaves these columns out: reading a `T` needs them, but a smaller type may not.
    pub fn without<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.except.extend(columns.into_iter().map(str::to_owned));
        self
    }

    /// Also watches these columns, and refuses a server that lacks one. Other
    /// columns that it lacks are left out with a warning and read as their
    /// default.
    pub fn require<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.required.extend(columns.into_iter().map(str::to_owned));
        self
    }

    /// Only rows that match **one** of these conditions: unlike in an
    /// operation, several are alternatives. Needs `monitor_cond`, which Open
    /// vSwitch has since 2.6; a server without is refused, not left unfiltered.
    pub fn any_of(mut self, conditions: impl IntoIterator<Item = Condition>) -> Self {
        self.filter.extend(conditions);
        self
    }

    /// Accepts a server without the table, with a warning; it then has no rows.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The columns to ask a server for, if it has this table.
    fn wanted(&self, schema: &TableSchema) -> Vec<WantedColumn> {
        let every = || schema.columns.keys().map(|name| WantedColumn::untyped(name)).collect();
        let mut wanted: Vec<_> = self.columns.clone().unwrap_or_else(every);
        wanted.retain(|column| !self.except.contains(&column.name));
        wanted.extend(self.required.iter().map(|name| WantedColumn::untyped(name)));
        wanted
    }
}

/// The columns of one watched table, in the order of their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    pub(crate) table: String,
    pub(crate) columns: Vec<LayoutColumn>,
    /// Wanted, but not known to this server: read as defaults.
    pub(crate) missing: BTreeSet<String>,
    filter: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayoutColumn {
    pub(crate) name: String,
    pub(crate) holds: ColumnType,
    pub(crate) default: Value,
}

/// Why this server cannot be watched as wished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaMismatch {
    /// It lacks a table.
    #[error("the database has no table `{table}`")]
    NoTable {
        /// The table.
        table: String,
    },
    /// It lacks a column that [`Watch::require`] named.
    #[error("the table `{table}` has no column `{column}`")]
    NoColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column holds something that the Rust type cannot.
    #[error("the column `{column}` of `{table}` holds {holds}, and is read as {read_as}")]
    Type {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What the server's schema says.
        holds: String,
        /// What the Rust type takes.
        read_as: String,
    },
}

/// Something that was wished for and is not to be had from this server. It is
/// left out, and worth a warning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// The table.
    pub table: String,
    /// The column, or `None` for the whole table.
    pub column: Option<String>,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.column {
            Some(column) => write!(f, "the column `{column}` of `{}`", self.table),
            None => write!(f, "the table `{}`", self.table),
        }
    }
}

/// All that is watched, fitted to one server's schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Layouts {
    pub(crate) tables: BTreeMap<String, Arc<Layout>>,
    pub(crate) left_out: Vec<LeftOut>,
    /// Tables that were watched and that this server does not have.
    pub(crate) absent: BTreeMap<String, Arc<Layout>>,
}

impl Layouts {
    pub(crate) fn fit(watches: &[Watch], schema: &Schema) -> Result<Self, SchemaMismatch> {
        let mut layouts = Self::default();
        for watch in watches {
            let name = watch.table.as_str();
            let (layout, tables) = match schema.tables.get(name) {
                Some(table) => (Layout::fit(watch, table)?, &mut layouts.tables),
                None if watch.optional => (Layout::absent(watch), &mut layouts.absent),
                None => return Err(SchemaMismatch::NoTable { table: name.to_owned() }),
            };
            let layout = match tables.get(name) {
                Some(other) => Layout::clone(other).and(layout),
                None => layout,
            };
            tables.insert(name.to_owned(), Arc::new(layout));
        }
        let column = |table: &str, column: Option<&String>| LeftOut {
            table: table.to_owned(),
            column: column.cloned(),
        };
        for (name, layout) in &layouts.tables {
            layouts.left_out.extend(layout.missing.iter().map(|c| column(name, Some(c))));
        }
        layouts.left_out.extend(layouts.absent.keys().map(|name| column(name, None)));
        Ok(layouts)
    }

    /// Whether any table is filtered, which `monitor` cannot do.
    pub(crate) fn is_filtered(&self) -> bool {
        self.tables.values().any(|layout| !layout.filter.is_empty())
    }

    /// The `<monitor-requests>` of RFC 7047 section 4.1.5, with `where` as
    /// ovsdb-server(7) section 4.1.12 adds it.
    pub(crate) fn requests(&self) -> impl Serialize + use<> {
        #[derive(Serialize)]
        struct Request {
            columns: Vec<String>,
            #[serde(rename = "where", skip_serializing_if = "Vec::is_empty")]
            filter: Vec<Condition>,
        }
        let request = |layout: &Arc<Layout>| Request {
            columns: layout.columns.iter().map(|column| column.name.clone()).collect(),
            filter: layout.filter.clone(),
        };
        let tables = self.tables.iter();
        tables.map(|(name, layout)| (name.clone(), [request(layout)])).collect::<BTreeMap<_, _>>()
    }
}

impl Layout {
    fn fit(watch: &Watch, schema: &TableSchema) -> Result<Self, SchemaMismatch> {
        let table = &watch.table;
        let mut columns = BTreeMap::new();
        let mut missing = BTreeSet::new();
        for WantedColumn { name: column, info } in watch.wanted(schema) {
            let held = schema.columns.get(&column).map(|c| c.holds.clone());
            let Some(holds) = held.or_else(|| built_in_column(&column)) else {
                if watch.required.contains(&column) {
                    return Err(SchemaMismatch::NoColumn { table: table.clone(), column });
                }
                missing.insert(column);
                continue;
            };
            if let Some(info) = info.filter(|info| !(info.fits)(&holds)) {
                let (holds, read_as) = (holds.to_string(), (info.in_words)());
                return Err(SchemaMismatch::Type { table: table.clone(), column, holds, read_as });
            }
            columns.insert(column, holds);
        }
        let columns = columns.into_iter().map(|(name, holds)| LayoutColumn {
            default: holds.default_value(),
            name,
            holds,
        });
        let (table, filter) = (table.clone(), watch.filter.clone());
        Ok(Self { table, columns: columns.collect(), missing, filter })
    }

    /// Of a table that the server does not have.
    fn absent(watch: &Watch) -> Self {
        let wanted = watch.columns.iter().flatten().map(|column| column.name.clone());
        let (missing, filter) = (wanted.collect(), watch.filter.clone());
        Self { table: watch.table.clone(), columns: Vec::new(), missing, filter }
    }

    /// What both watch: the columns of either, and the rows of either.
    fn and(mut self, other: Self) -> Self {
        for column in other.columns {
            if self.index_of(&column.name).is_none() {
                self.columns.push(column);
                self.columns.sort_by(|a, b| a.name.cmp(&b.name));
            }
        }
        self.missing.extend(other.missing);
        if self.filter.is_empty() || other.filter.is_empty() {
            self.filter.clear();
        } else {
            self.filter.extend(other.filter);
        }
        self
    }

    /// The name of the table.
    pub fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn index_of(&self, column: &str) -> Option<usize> {
        self.columns.binary_search_by(|c| c.name.as_str().cmp(column)).ok()
    }
}

/// What an update says of one row.
#[derive(Debug, Clone, PartialEq)]
pub enum RowUpdate {
    /// The row is there, with these columns; others are at their default.
    Present(Columns),
    /// The row is new, with these columns; others are at their default.
    Insert(Columns),
    /// Columns changed, each by this difference (`update2`).
    Modify(Columns),
    /// The row is now this, whole (`update` of RFC 7047).
    Replace(Columns),
    /// The row is gone.
    Delete,
}

/// Rows by table and UUID.
pub type TableUpdates = BTreeMap<String, BTreeMap<Uuid, RowUpdate>>;

/// The second version of an update: `<table-updates2>` of ovsdb-server(7).
#[derive(Deserialize)]
struct RowUpdate2 {
    initial: Option<Columns>,
    insert: Option<Columns>,
    modify: Option<Columns>,
    #[serde(default, deserialize_with = "is_there")]
    delete: bool,
}

/// `"delete": null` means that the row is gone; no `delete` that it is not.
fn is_there<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(from).map(|_| true)
}

/// The first version of an update: `<table-updates>` of RFC 7047 section 4.1.6.
#[derive(Deserialize)]
struct RowUpdate1 {
    old: Option<Columns>,
    new: Option<Columns>,
}

impl TryFrom<RowUpdate2> for RowUpdate {
    type Error = &'static str;

    fn try_from(wire: RowUpdate2) -> Result<Self, Self::Error> {
        match (wire.initial, wire.insert, wire.modify, wire.delete) {
            (Some(row), None, None, false) => Ok(Self::Present(row)),
            (None, Some(row), None, false) => Ok(Self::Insert(row)),
            (None, None, Some(row), false) => Ok(Self::Modify(row)),
            (None, None, None, true) => Ok(Self::Delete),
            _ => Err("a row update must be one of initial, insert, modify, delete"),
        }
    }
}

impl TryFrom<RowUpdate1> for RowUpdate {
    type Error = &'static str;

    fn try_from(wire: RowUpdate1) -> Result<Self, Self::Error> {
        match (wire.old, wire.new) {
            (None, Some(row)) => Ok(Self::Insert(row)),
            (Some(_), Some(row)) => Ok(Self::Replace(row)),
            (Some(_), None) => Ok(Self::Delete),
            (None, None) => Err("a row update has neither old nor new"),
        }
    }
}

/// An update that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadUpdate {
    /// Not of the shape that RFC 7047 or ovsdb-server(7) gives.
    #[error("an update cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Of the shape, and yet makes no sense.
    #[error("{0}")]
    Row(&'static str),
}

fn convert<W>(wire: BTreeMap<String, BTreeMap<Uuid, W>>) -> Result<TableUpdates, BadUpdate>
where
    RowUpdate: TryFrom<W, Error = &'static str>,
{
    let mut updates = TableUpdates::new();
    for (table, rows) in wire {
        let rows = rows.into_iter().map(|(uuid, row)| Ok((uuid, row.try_into()?)));
        updates.insert(table, rows.collect::<Result<_, _>>().map_err(BadUpdate::Row)?);
    }
    Ok(updates)
}

/// Reads the `<table-updates>` of `monitor` and `update` (RFC 7047 section 4.1.6).
pub fn table_updates(json: &RawValue) -> Result<TableUpdates, BadUpdate> {
    convert::<RowUpdate1>(serde_json::from_str(json.get())?)
}

/// Reads the `<table-updates2>` of `monitor_cond`, `update2` and their
/// successors (ovsdb-server(7) section 4.1.14).
pub fn table_updates2(json: &RawValue) -> Result<TableUpdates, BadUpdate> {
    convert::<RowUpdate2>(serde_json::from_str(json.get())?)
}

/// A reply to `monitor_cond_since` (ovsdb-server(7) section 4.1.15).
#[derive(Debug, Clone, PartialEq)]
pub struct Since {
    /// Whether the server still had the history since the transaction asked
    /// for, so that `updates` are changes and not everything.
    pub found: bool,
    /// The transaction up to which the updates go; nil if the server keeps none.
    pub last: Uuid,
    /// The updates.
    pub updates: TableUpdates,
}

/// Reads a reply to `monitor_cond_since`.
pub fn since(json: &RawValue) -> Result<Since, BadUpdate> {
    let (found, last, updates): (bool, Uuid, &RawValue) = serde_json::from_str(json.get())?;
    Ok(Since { found, last, updates: table_updates2(updates)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r#"{"name":"d","version":"1.0.0","tables":{"T":{"columns":{
        "name":{"type":"string"},
        "tag":{"type":{"key":"integer","min":0}}}}}}"#;

    fn fit(watches: &[Watch]) -> Result<Layouts, SchemaMismatch> {
        Layouts::fit(watches, &serde_json::from_str(SCHEMA).unwrap())
    }

    crate::tables! {
        /// As the schema has it, and one column more.
        struct Newer = "T" {
            /// A name.
            NAME name: String,
            /// A tag.
            TAG tag: Option<i64>,
            /// From a later schema.
            LATER later: bool,
        }
        /// Not as the schema has it.
        struct Wrong = "T" {
            /// Two tags where there is room for one.
            TAG tag: bool,
        }
    }

    #[test]
    fn requests_ask_for_what_there_is() {
        check(Watch::all("T"), r#"{"T":[{"columns":["name","tag"]}]}"#);
        check(Watch::of::<Newer>(), r#"{"T":[{"columns":["name","tag"]}]}"#);
        check(Watch::of::<Newer>().without(["tag"]), r#"{"T":[{"columns":["name"]}]}"#);
        check(
            Watch::columns("T", ["tag", "_version"]),
            r#"{"T":[{"columns":["_version","tag"]}]}"#,
        );
        check(
            Watch::columns("T", ["tag"]).any_of([Newer::NAME.is("a"), Newer::TAG.is(3)]),
            r#"{"T":[{"columns":["tag"],"where":[["name","==","a"],["tag","==",3]]}]}"#,
        );
        check(Watch::all("T").without(["tag"]), r#"{"T":[{"columns":["name"]}]}"#);
        check(Watch::all("T").require(["tag"]), r#"{"T":[{"columns":["name","tag"]}]}"#);
        check(Watch::all("Other").optional(), "{}");

        #[track_caller]
        fn check(watch: Watch, json: &str) {
            let layouts = fit(&[watch]).unwrap();
            assert_eq!(serde_json::to_string(&layouts.requests()).unwrap(), json);
        }
    }

    #[test]
    fn watches_of_one_table_add_up() {
        let named = || Watch::columns("T", ["name"]);
        let tagged = || Watch::columns("T", ["tag"]);
        let (a, b) = (|| Newer::NAME.is("a"), || Newer::TAG.is(3));
        check(&[named(), tagged()], r#"{"T":[{"columns":["name","tag"]}]}"#);
        check(&[tagged(), Watch::all("T")], r#"{"T":[{"columns":["name","tag"]}]}"#);
        check(
            &[named().any_of([a()]), named().any_of([b()])],
            r#"{"T":[{"columns":["name"],"where":[["name","==","a"],["tag","==",3]]}]}"#,
        );
        check(&[named().any_of([a()]), named()], r#"{"T":[{"columns":["name"]}]}"#);

        #[track_caller]
        fn check(watches: &[Watch], json: &str) {
            let layouts = fit(watches).unwrap();
            assert_eq!(serde_json::to_string(&layouts.requests()).unwrap(), json);
        }
    }

    #[test]
    fn what_a_server_lacks_is_left_out_or_refused() {
        let left_out = fit(&[Watch::of::<Newer>(), Watch::all("U").optional()]).unwrap().left_out;
        let shown: Vec<String> = left_out.iter().map(LeftOut::to_string).collect();
        assert_eq!(shown, ["the column `later` of `T`", "the table `U`"]);
        refused(Watch::of::<Newer>().require(["later"]), "the table `T` has no column `later`");
        refused(Watch::all("U"), "the database has no table `U`");
        refused(
            Watch::of::<Wrong>(),
            "the column `tag` of `T` holds an optional integer, and is read as one boolean",
        );

        #[track_caller]
        fn refused(watch: Watch, why: &str) {
            assert_eq!(fit(&[watch]).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn updates_of_both_versions() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        let row = |json: &str| format!(r#"{{"T":{{"{uuid}":{json}}}}}"#);
        check2(&row(r#"{"initial":{"tag":1}}"#), "Present({\"tag\": Value(One(Integer(1)))})");
        check2(&row(r#"{"insert":{}}"#), "Insert({})");
        check2(&row(r#"{"modify":{"tag":["set",[]]}}"#), "Modify({\"tag\": Value(Set([]))})");
        check2(&row(r#"{"delete":null}"#), "Delete");
        check2(&row("{}"), "a row update must be one of initial, insert, modify, delete");
        check2(
            &row(r#"{"insert":{},"delete":null}"#),
            "a row update must be one of initial, insert, modify, delete",
        );
        check1(&row(r#"{"new":{"tag":1}}"#), "Insert({\"tag\": Value(One(Integer(1)))})");
        check1(&row(r#"{"old":{},"new":{}}"#), "Replace({})");
        check1(&row(r#"{"old":{"tag":1}}"#), "Delete");
        check1(&row("{}"), "a row update has neither old nor new");

        #[track_caller]
        fn check1(json: &str, shown: &str) {
            compare(table_updates(&RawValue::from_string(json.into()).unwrap()), shown);
        }
        #[track_caller]
        fn check2(json: &str, shown: &str) {
            compare(table_updates2(&RawValue::from_string(json.into()).unwrap()), shown);
        }
        #[track_caller]
        fn compare(updates: Result<TableUpdates, BadUpdate>, shown: &str) {
            let got = match updates {
                Ok(updates) => format!("{:?}", updates["T"].values().next().unwrap()),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, shown);
        }
    }

    #[test]
    fn replies_of_monitor_cond_since() {
        let json = r#"[true,"550e8400-e29b-41d4-a716-446655440000",{"T":{}}]"#;
        let since = since(&RawValue::from_string(json.into()).unwrap()).unwrap();
        assert!(since.found && !since.last.is_nil() && since.updates["T"].is_empty());
    }
}
