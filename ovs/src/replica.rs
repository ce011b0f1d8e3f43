//! A copy of the watched tables, kept by deltas.
//!
//! An update is taken in whole or not at all. Whatever cannot be true of the
//! copy (a row inserted twice, a change that changes nothing, an unknown
//! column) is an [`Inconsistency`], after which the copy is fetched anew: a
//! wrong copy would poison every transaction that is made from it.
//!
//! Rows keep only what is not at its default, as the server sends it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::column::{Column, Field};
use crate::monitor::{Layout, Layouts, RowUpdate, TableUpdates};
use crate::operation::Columns;
use crate::schema::{ColumnType, Unfit};
use crate::table::Table;
use crate::value::{Atom, Uuid, Value};

/// A row as the replica has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    layout: Arc<Layout>,
    /// By the column's place in the layout, in order, without defaults.
    cells: Box<[(u16, Value)]>,
}

/// Why a row or a table cannot be read as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The client does not watch the table.
    #[error("the table `{table}` is not watched")]
    TableNotWatched {
        /// The table.
        table: String,
    },
    /// The client watches the table without this column.
    #[error("the column `{column}` of `{table}` is not watched")]
    ColumnNotWatched {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The column holds something that the Rust type cannot.
    #[error("could not read the column `{column}` of `{table}`")]
    Unfit {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What is there, and what was wanted.
        source: Unfit,
    },
}

impl Row {
    /// What `column` holds; `None` if it is not watched, or not in this
    /// server's schema.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.layout.index_of(column).map(|at| self.at(at))
    }

    fn at(&self, at: usize) -> &Value {
        match self.cells.binary_search_by(|(index, _)| usize::from(*index).cmp(&at)) {
            Ok(found) => &self.cells[found].1,
            Err(_) => &self.layout.columns[at].default,
        }
    }

    /// Reads `column` as its Rust type. A column that this server's schema
    /// lacks is at the type's default.
    pub fn read<T, V: Field + Default>(&self, column: Column<T, V>) -> Result<V, ReadError> {
        let name = column.name();
        let table = || self.layout.table.clone();
        match self.get(name) {
            Some(value) => V::from_value(value).map_err(|source| ReadError::Unfit {
                table: table(),
                column: name.to_owned(),
                source,
            }),
            None if self.layout.missing.contains(name) => Ok(V::default()),
            None => Err(ReadError::ColumnNotWatched { table: table(), column: name.to_owned() }),
        }
    }

    /// All watched columns with what they hold.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Value)> {
        let columns = self.layout.columns.iter().enumerate();
        columns.map(|(at, column)| (column.name.as_str(), self.at(at)))
    }

    /// The name of the table.
    pub fn table(&self) -> &str {
        &self.layout.table
    }
}

/// A row with its UUID.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<T> {
    /// The row's `_uuid`.
    pub uuid: Uuid,
    /// The row.
    pub row: T,
}

impl<T> std::ops::Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.row
    }
}

/// What an update says that cannot be true of the copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the update of row {uuid} of `{table}` does not fit the copy: {what}")]
pub struct Inconsistency {
    /// The table.
    pub table: String,
    /// The row.
    pub uuid: Uuid,
    /// What is wrong.
    pub what: String,
}

/// What became of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    /// The row's `_uuid`.
    pub uuid: Uuid,
    /// As it was; `None` if it is new.
    pub old: Option<Arc<Row>>,
    /// As it is; `None` if it is gone.
    pub new: Option<Arc<Row>>,
}

impl RowChange {
    /// The name of the table.
    pub fn table(&self) -> &str {
        let row = self.new.as_ref().or(self.old.as_ref());
        row.map_or("", |row| row.table())
    }
}

#[derive(Debug, Clone, PartialEq)]
struct TableCopy {
    layout: Arc<Layout>,
    rows: BTreeMap<Uuid, Arc<Row>>,
}

/// The copy of all watched tables, as of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replica {
    tables: BTreeMap<String, TableCopy>,
    generation: u64,
}

impl Replica {
    /// How often the copy has changed. Grows with every update.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The names of the watched tables.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    fn table(&self, table: &str) -> Result<&TableCopy, ReadError> {
        let not_watched = || ReadError::TableNotWatched { table: table.to_owned() };
        self.tables.get(table).ok_or_else(not_watched)
    }

    /// All rows of a table, whatever its columns, in the order of their UUIDs.
    pub fn rows_of(
        &self,
        table: &str,
    ) -> Result<impl Iterator<Item = (Uuid, &Arc<Row>)>, ReadError> {
        Ok(self.table(table)?.rows.iter().map(|(uuid, row)| (*uuid, row)))
    }

    /// One row of a table, whatever its columns.
    pub fn row_of(&self, table: &str, uuid: Uuid) -> Result<Option<&Arc<Row>>, ReadError> {
        Ok(self.table(table)?.rows.get(&uuid))
    }

    /// How many rows a table has.
    pub fn count(&self, table: &str) -> Result<usize, ReadError> {
        Ok(self.table(table)?.rows.len())
    }

    /// All rows of a table, in the order of their UUIDs.
    pub fn rows<T: Table>(&self) -> Result<Vec<Entry<T>>, ReadError> {
        let rows = self.table(T::TABLE)?.rows.iter();
        rows.map(|(uuid, row)| Ok(Entry { uuid: *uuid, row: T::from_row(row)? })).collect()
    }

    /// The row with this UUID.
    pub fn get<T: Table>(&self, uuid: Uuid) -> Result<Option<Entry<T>>, ReadError> {
        let row = self.table(T::TABLE)?.rows.get(&uuid);
        row.map(|row| Ok(Entry { uuid, row: T::from_row(row)? })).transpose()
    }

    /// The first row whose `column` is `value`. Looks at every row.
    pub fn find<T: Table, V: Field>(
        &self,
        column: Column<T, V>,
        value: impl Into<V>,
    ) -> Result<Option<Entry<T>>, ReadError> {
        let copy = self.table(T::TABLE)?;
        let Some(at) = copy.layout.index_of(column.name()) else {
            let (table, column) = (T::TABLE.to_owned(), column.name().to_owned());
            return Err(ReadError::ColumnNotWatched { table, column });
        };
        let value = value.into().to_value();
        match copy.rows.iter().find(|(_, row)| row.at(at) == &value) {
            Some((uuid, row)) => Ok(Some(Entry { uuid: *uuid, row: T::from_row(row)? })),
            None => Ok(None),
        }
    }

    /// The only row of a table that has at most one, such as `Open_vSwitch`.
    pub fn only<T: Table>(&self) -> Result<Option<Entry<T>>, ReadError> {
        let row = self.table(T::TABLE)?.rows.iter().next();
        row.map(|(uuid, row)| Ok(Entry { uuid: *uuid, row: T::from_row(row)? })).transpose()
    }

    /// Whether all that `T` has is watched, so that every row can be read.
    pub fn can_read<T: Table>(&self) -> Result<(), ReadError> {
        let layout = &self.table(T::TABLE)?.layout;
        let unseen = |name: &str| layout.index_of(name).is_none() && !layout.missing.contains(name);
        match T::COLUMNS.iter().find(|column| unseen(column.name)) {
            Some(column) => {
                let (table, column) = (T::TABLE.to_owned(), column.name.to_owned());
                Err(ReadError::ColumnNotWatched { table, column })
            }
            None => Ok(()),
        }
    }

    /// Takes `contents` for all there is, and returns what that changes: rows
    /// that stayed as they were are no change, although they came again.
    pub(crate) fn replace(
        &mut self,
        layouts: &Layouts,
        contents: TableUpdates,
    ) -> Result<Vec<RowChange>, Inconsistency> {
        let every = layouts.tables.iter().chain(&layouts.absent);
        let empty =
            |layout: &Arc<Layout>| TableCopy { layout: layout.clone(), rows: BTreeMap::new() };
        let mut next = Self {
            tables: every.map(|(name, layout)| (name.clone(), empty(layout))).collect(),
            generation: self.generation,
        };
        next.apply(contents)?;
        let changes = self.differences(&mut next);
        next.generation = self.generation + 1;
        *self = next;
        Ok(changes)
    }

    /// What turns this copy into `next`. Rows that are alike become the same
    /// in memory, too.
    fn differences(&self, next: &mut Self) -> Vec<RowChange> {
        let mut changes = Vec::new();
        for (name, copy) in &self.tables {
            let next_rows = next.tables.get(name).map(|copy| &copy.rows);
            for (uuid, old) in &copy.rows {
                if next_rows.is_none_or(|rows| !rows.contains_key(uuid)) {
                    let old = Some(old.clone());
                    changes.push(RowChange { uuid: *uuid, old, new: None });
                }
            }
        }
        for (name, copy) in &mut next.tables {
            let old_rows = self.tables.get(name).map(|copy| &copy.rows);
            for (uuid, new) in &mut copy.rows {
                match old_rows.and_then(|rows| rows.get(uuid)) {
                    Some(old) if old == new => *new = old.clone(),
                    old => {
                        let (old, new) = (old.cloned(), Some(new.clone()));
                        changes.push(RowChange { uuid: *uuid, old, new });
                    }
                }
            }
        }
        changes
    }

    /// Takes an update in, all of it or nothing, and returns what it changed.
    pub(crate) fn apply(&mut self, updates: TableUpdates) -> Result<Vec<RowChange>, Inconsistency> {
        let mut changes = Vec::new();
        for (table, rows) in updates {
            for (uuid, update) in rows {
                let inconsistent = |what| Inconsistency { table: table.clone(), uuid, what };
                let Some(copy) = self.tables.get(&table) else {
                    return Err(inconsistent("the table is not watched".to_owned()));
                };
                let old = copy.rows.get(&uuid);
                let new = updated(&copy.layout, old, update).map_err(inconsistent)?;
                // RFC 7047 sends rows whole, perhaps the same once more.
                if new.as_ref() != old {
                    changes.push((table.clone(), RowChange { uuid, old: old.cloned(), new }));
                }
            }
        }
        self.generation += 1;
        for (table, change) in &changes {
            let Some(copy) = self.tables.get_mut(table) else { continue };
            match &change.new {
                Some(row) => copy.rows.insert(change.uuid, row.clone()),
                None => copy.rows.remove(&change.uuid),
            };
        }
        Ok(changes.into_iter().map(|(_, change)| change).collect())
    }
}

/// The row after an update; `None` if it is gone.
fn updated(
    layout: &Arc<Layout>,
    old: Option<&Arc<Row>>,
    update: RowUpdate,
) -> Result<Option<Arc<Row>>, String> {
    let row = match (old, update) {
        (None, RowUpdate::Present(columns) | RowUpdate::Insert(columns)) => {
            whole_row(layout, columns)?
        }
        (Some(_), RowUpdate::Replace(columns)) => whole_row(layout, columns)?,
        (Some(old), RowUpdate::Modify(difference)) => modified(old, difference)?,
        (Some(_), RowUpdate::Delete) => return Ok(None),
        (Some(_), RowUpdate::Present(_) | RowUpdate::Insert(_)) => {
            return Err("it is inserted, and there already".to_owned());
        }
        (None, RowUpdate::Replace(_) | RowUpdate::Modify(_) | RowUpdate::Delete) => {
            return Err("it is changed, and not there".to_owned());
        }
    };
    Ok(Some(Arc::new(row)))
}

fn whole_row(layout: &Arc<Layout>, columns: Columns) -> Result<Row, String> {
    let mut cells = Vec::with_capacity(columns.len());
    for (name, value) in columns {
        let (at, value) = accepted(layout, &name, value)?;
        if value != layout.columns[at].default {
            cells.push((index(at)?, value));
        }
    }
    // `Columns` and layouts are both in the order of the names, so this is in order.
    Ok(Row { layout: layout.clone(), cells: cells.into() })
}

fn modified(old: &Row, difference: Columns) -> Result<Row, String> {
    let layout = &old.layout;
    let mut cells: BTreeMap<u16, Value> = old.cells.iter().cloned().collect();
    for (name, value) in difference {
        let Some(at) = layout.index_of(&name) else {
            return Err(format!("the column `{name}` is not watched"));
        };
        let value = merged(&layout.columns[at].holds, old.at(at), value)?;
        if value == layout.columns[at].default {
            cells.remove(&index(at)?);
        } else {
            cells.insert(index(at)?, value);
        }
    }
    let new = Row { layout: layout.clone(), cells: cells.into_iter().collect() };
    // The server never sends such a thing. A delta that comes twice does this.
    if &new == old {
        return Err("it is changed, and stays as it was".to_owned());
    }
    Ok(new)
}

fn accepted(layout: &Layout, name: &str, value: Value) -> Result<(usize, Value), String> {
    let Some(at) = layout.index_of(name) else {
        return Err(format!("the column `{name}` is not watched"));
    };
    let holds = &layout.columns[at].holds;
    Ok((at, holds.accept(value).map_err(|unfit| format!("`{name}`: {unfit}"))?))
}

fn index(at: usize) -> Result<u16, String> {
    u16::try_from(at).map_err(|_| "the table has too many columns".to_owned())
}

/// What `old` becomes by `difference`, as `ovsdb_datum_apply_diff` has it: in a
/// column of at most one, the difference is the new value; in a set, each
/// member goes in or out; in a map, a pair that is there goes out, a key that
/// is there with another value takes the new one, any other pair goes in.
fn merged(holds: &ColumnType, old: &Value, difference: Value) -> Result<Value, String> {
    if !holds.is_composite() {
        return holds.accept(difference).map_err(|unfit| unfit.to_string());
    }
    // A difference may have more members than the column may hold.
    let unbounded = ColumnType { max: ColumnType::UNLIMITED, ..holds.clone() };
    let difference = unbounded.accept(difference).map_err(|unfit| unfit.to_string())?;
    let new = match (old.pairs(), difference.pairs()) {
        (Some(old), Some(difference)) => {
            let mut pairs: BTreeMap<&Atom, &Atom> = old.iter().map(|(k, v)| (k, v)).collect();
            for (key, value) in difference {
                if pairs.get(key) == Some(&value) {
                    pairs.remove(key);
                } else {
                    pairs.insert(key, value);
                }
            }
            let pairs = pairs.into_iter().map(|(k, v)| (k.clone(), v.clone()));
            Value::map(pairs).map_err(|twice| twice.to_string())?
        }
        _ => toggled(old.atoms().unwrap_or_default(), difference.atoms().unwrap_or_default()),
    };
    holds.accept(new).map_err(|unfit| unfit.to_string())
}

/// The members of one of two sets but not of the other. Both are in order.
fn toggled(old: &[Atom], difference: &[Atom]) -> Value {
    let only = |a: &[Atom], b: &[Atom]| -> Vec<Atom> {
        a.iter().filter(|atom| b.binary_search(atom).is_err()).cloned().collect()
    };
    Value::set(only(old, difference).into_iter().chain(only(difference, old)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;
    use crate::monitor::{Watch, table_updates, table_updates2};
    use crate::schema::Schema;

    crate::tables! {
        /// One column of each kind.
        struct Sample = "T" {
            /// A scalar.
            NAME name: String,
            /// An option.
            TAG tag: Option<i64>,
            /// A set.
            TRUNKS trunks: BTreeSet<i64>,
            /// A map.
            IDS ids: BTreeMap<String, String>,
        }
    }

    const SCHEMA: &str = r#"{"name":"d","version":"1.0.0","tables":{"T":{"columns":{
        "name":{"type":"string"},
        "tag":{"type":{"key":"integer","min":0}},
        "trunks":{"type":{"key":"integer","min":0,"max":4}},
        "ids":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}}}}}}"#;
    const UUID: Uuid = Uuid::from_u128(1);

    fn layouts() -> Layouts {
        let schema: Schema = serde_json::from_str(SCHEMA).unwrap();
        Layouts::fit(&[Watch::of::<Sample>()], &schema).unwrap()
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn update(row: &str) -> TableUpdates {
        table_updates2(&raw(&format!(r#"{{"T":{{"{UUID}":{row}}}}}"#))).unwrap()
    }

    fn replica(row: &str) -> Replica {
        let mut replica = Replica::default();
        let contents = if row.is_empty() { TableUpdates::new() } else { update(row) };
        replica.replace(&layouts(), contents).unwrap();
        replica
    }

    fn shown(replica: &Replica) -> String {
        match replica.get::<Sample>(UUID).unwrap() {
            None => "gone".to_owned(),
            Some(e) => format!("{:?} {:?} {:?} {:?}", e.name, e.tag, e.trunks, e.ids),
        }
    }

    /// Each delta of `update2`, applied to a row.
    #[test]
    fn deltas() {
        let full = r#"{"initial":{"name":"n","tag":5,"trunks":["set",[1,2]],"ids":["map",[["a","1"],["b","2"]]]}}"#;
        let rest = r#"{1, 2} {"a": "1", "b": "2"}"#;
        check("", r#"{"insert":{}}"#, r#""" None {} {}"#);
        check("", r#"{"insert":{"name":"n","trunks":7}}"#, r#""n" None {7} {}"#);
        check("", r#"{"initial":{"tag":["set",[5]]}}"#, r#""" Some(5) {} {}"#);
        check(full, r#"{"delete":null}"#, "gone");
        // At most one: the new value, and `[]` for none.
        check(full, r#"{"modify":{"name":"m"}}"#, &format!(r#""m" Some(5) {rest}"#));
        check(full, r#"{"modify":{"tag":6}}"#, &format!(r#""n" Some(6) {rest}"#));
        check(full, r#"{"modify":{"tag":["set",[]]}}"#, &format!(r#""n" None {rest}"#));
        // A set: in if it was out, out if it was in.
        check(
            full,
            r#"{"modify":{"trunks":["set",[2,3]]}}"#,
            r#""n" Some(5) {1, 3} {"a": "1", "b": "2"}"#,
        );
        check(full, r#"{"modify":{"trunks":1}}"#, r#""n" Some(5) {2} {"a": "1", "b": "2"}"#);
        check(
            full,
            r#"{"modify":{"trunks":["set",[1,2,3,4,5]]}}"#,
            r#""n" Some(5) {3, 4, 5} {"a": "1", "b": "2"}"#,
        );
        // A map: the same pair goes out, another value replaces, a new key comes in.
        check(
            full,
            r#"{"modify":{"ids":["map",[["a","1"],["b","9"],["c","3"]]]}}"#,
            r#""n" Some(5) {1, 2} {"b": "9", "c": "3"}"#,
        );

        #[track_caller]
        fn check(before: &str, delta: &str, after: &str) {
            let mut replica = replica(before);
            let changes = replica.apply(update(delta)).expect(delta);
            assert_eq!((shown(&replica).as_str(), changes.len()), (after, 1));
        }
    }

    #[test]
    fn updates_of_rfc_7047() {
        let mut replica = replica("");
        let mut apply = |row: &str| {
            let json = raw(&format!(r#"{{"T":{{"{UUID}":{row}}}}}"#));
            replica.apply(table_updates(&json).unwrap()).unwrap();
            shown(&replica)
        };
        assert_eq!(
            apply(r#"{"new":{"name":"n","tag":5,"trunks":["set",[]],"ids":["map",[]]}}"#),
            r#""n" Some(5) {} {}"#
        );
        assert_eq!(
            apply(r#"{"old":{"tag":5},"new":{"name":"n","tag":["set",[]],"trunks":9}}"#),
            r#""n" None {9} {}"#
        );
        assert_eq!(apply(r#"{"old":{},"new":{"name":"n","trunks":9}}"#), r#""n" None {9} {}"#);
        assert_eq!(apply(r#"{"old":{"name":"n"}}"#), "gone");
    }

    #[test]
    fn what_cannot_be_true_changes_nothing() {
        let there = r#"{"initial":{"name":"n","trunks":["set",[1,2,3]]}}"#;
        check(there, r#"{"insert":{"name":"n"}}"#, "it is inserted, and there already");
        check("", r#"{"modify":{"name":"m"}}"#, "it is changed, and not there");
        check("", r#"{"delete":null}"#, "it is changed, and not there");
        check(there, r#"{"modify":{"name":"n"}}"#, "it is changed, and stays as it was");
        check(there, r#"{"modify":{"nonsense":1}}"#, "the column `nonsense` is not watched");
        check(there, r#"{"modify":{"name":1}}"#, "1 is not one string");
        check(
            there,
            r#"{"modify":{"trunks":["set",[4,5]]}}"#,
            "[1, 2, 3, 4, 5] is not a set of at most 4 integer",
        );
        check(
            "",
            r#"{"insert":{"trunks":["map",[]]}}"#,
            "`trunks`: {} is not a set of at most 4 integer",
        );

        #[track_caller]
        fn check(before: &str, delta: &str, what: &str) {
            let mut replica = replica(before);
            let untouched = replica.clone();
            assert_eq!(replica.apply(update(delta)).unwrap_err().what, what);
            assert_eq!(replica, untouched);
        }
    }

    #[test]
    fn an_update_is_taken_whole_or_not_at_all() {
        let mut replica = replica("");
        let untouched = replica.clone();
        let json = format!(
            r#"{{"T":{{"{}":{{"insert":{{"name":"good"}}}},"{}":{{"delete":null}}}}}}"#,
            Uuid::from_u128(1),
            Uuid::from_u128(2),
        );
        replica.apply(table_updates2(&raw(&json)).unwrap()).unwrap_err();
        assert_eq!(replica, untouched);
    }

    #[test]
    fn fetching_anew_tells_only_differences() {
        let mut replica = replica(r#"{"initial":{"name":"n"}}"#);
        let same = replica.replace(&layouts(), update(r#"{"initial":{"name":"n"}}"#)).unwrap();
        assert_eq!(same, []);
        let other = replica.replace(&layouts(), update(r#"{"initial":{"name":"m"}}"#)).unwrap();
        assert!(other.len() == 1 && other[0].old.is_some() && other[0].new.is_some());
        let gone = replica.replace(&layouts(), TableUpdates::new()).unwrap();
        assert!(gone.len() == 1 && gone[0].new.is_none() && gone[0].table() == "T");
    }

    #[test]
    fn reading_what_is_not_watched_is_an_error() {
        crate::tables! {
            /// Of a table that nobody watches.
            struct Other = "Other" {
                /// A name.
                NAME name: String,
            }
            /// With a column that nobody watches.
            struct More = "T" {
                /// Not asked for.
                MORE more: String,
            }
        }
        let replica = replica(r#"{"initial":{"name":"n"}}"#);
        assert_eq!(
            replica.rows::<Other>().unwrap_err().to_string(),
            "the table `Other` is not watched"
        );
        assert_eq!(
            replica.rows::<More>().unwrap_err().to_string(),
            "the column `more` of `T` is not watched"
        );
        assert!(replica.find(Sample::NAME, "n").unwrap().is_some());
        assert!(replica.find(Sample::TAG, None).unwrap().is_some());
        assert!(replica.find(Sample::NAME, "x").unwrap().is_none());
    }

    proptest! {
        /// A difference made as the server makes it leads to the new value.
        #[test]
        fn a_difference_leads_from_old_to_new(
            old: BTreeMap<u8, u8>,
            new: BTreeMap<u8, u8>,
            old_set: BTreeSet<u8>,
            new_set: BTreeSet<u8>,
        ) {
            let number = |n: u8| Atom::Integer(n.into());
            let map = |m: &BTreeMap<u8, u8>| {
                Value::map(m.iter().map(|(k, v)| (number(*k), number(*v)))).unwrap()
            };
            let set = |s: &BTreeSet<u8>| Value::set(s.iter().map(|n| number(*n)));
            let mut difference: BTreeMap<u8, u8> =
                old.iter().filter(|(k, _)| !new.contains_key(k)).map(|(k, v)| (*k, *v)).collect();
            difference.extend(new.iter().filter(|(k, v)| old.get(k) != Some(v)));
            let maps: ColumnType = serde_json::from_str(
                r#"{"key":"integer","value":"integer","min":0,"max":"unlimited"}"#).unwrap();
            prop_assert_eq!(merged(&maps, &map(&old), map(&difference)).unwrap(), map(&new));
            let sets: ColumnType =
                serde_json::from_str(r#"{"key":"integer","min":0,"max":"unlimited"}"#).unwrap();
            let difference = old_set.symmetric_difference(&new_set).copied().collect();
            prop_assert_eq!(
                merged(&sets, &set(&old_set), set(&difference)).unwrap(),
                set(&new_set)
            );
        }
    }
}
