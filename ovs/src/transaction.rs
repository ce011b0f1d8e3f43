//! A transaction as data: guards, operations, and what they are called.
//!
//! A transaction is built with typed columns or with plain operations, and is
//! sent by [`crate::Client`]. Two things are added when it is sent: before each
//! update, mutate and delete that must not miss, a `wait` that proves the row
//! is there; and a comment that says who did it.

use std::collections::BTreeSet;

use crate::column::{Collection, Column, Field, Ref, Scalar};
use crate::operation::{
    Columns, Condition, Delete, Insert, Mutate, Mutation, Operation, Select, Update, Wait,
};
use crate::replica::{Entry, ReadError};
use crate::reply::{Answer, ErrorKind, Rejection};
use crate::table::{Table, read_column};
use crate::value::{Atom, Uuid, UuidName};

/// Operations that happen all together or not at all (RFC 7047 section 4.1.3).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transaction {
    guards: Vec<Wait>,
    operations: Vec<Operation>,
    comments: Vec<String>,
    locks: Vec<String>,
    rows_named: usize,
    touched: BTreeSet<String>,
}

impl Transaction {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it would change nothing and read nothing. Guards do not count.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The operations put in so far, without what is added when it is sent.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Puts an operation in, and returns its place among the answers.
    pub fn push(&mut self, operation: impl Into<Operation>) -> usize {
        self.operations.push(operation.into());
        self.operations.len() - 1
    }

    /// Adds a row, and returns a reference for other rows of this transaction.
    ///
    /// A row of a table that is no root of its schema must be linked to one
    /// that stays, or it vanishes at commit **without an error**: see
    /// [`Insert`].
    pub fn insert<T: Table>(&mut self, row: &T) -> Ref<T> {
        let name = UuidName::numbered(self.rows_named);
        self.rows_named += 1;
        self.push(Insert::of(row).named(name.clone()));
        Ref::named(name)
    }

    /// Gives a column of a row a new value.
    pub fn set<T: Table, V: Field>(
        &mut self,
        column: Column<T, V>,
        row: impl Into<Ref<T>>,
        value: impl Into<V>,
    ) {
        let update = Update::new(T::TABLE).row(row);
        self.push(update.set(column.name(), value.into().to_value()));
    }

    /// Adds members to a set, or pairs to a map: a key that is there already
    /// **keeps its value**, see [`Transaction::put`]. What others put there stays.
    pub fn add<T: Table, V: Collection>(
        &mut self,
        column: Column<T, V>,
        row: impl Into<Ref<T>>,
        members: impl IntoIterator<Item = V::Member>,
    ) {
        self.push(Mutate::new(T::TABLE).row(row).by(column.insert(members)));
    }

    /// Sets keys of a map, whether they are there or not. Other keys stay.
    pub fn put<T: Table, K: Scalar + Clone, V: Scalar>(
        &mut self,
        column: Column<T, std::collections::BTreeMap<K, V>>,
        row: impl Into<Ref<T>>,
        pairs: impl IntoIterator<Item = (impl Into<K>, impl Into<V>)>,
    ) {
        let pairs: Vec<(K, V)> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let keys: Vec<K> = pairs.iter().map(|(key, _)| key.clone()).collect();
        // An insert alone does not overwrite; both in one operation do.
        let mutate = Mutate::new(T::TABLE).row(row).by(column.delete(keys));
        self.push(mutate.by(column.insert(pairs)));
    }

    /// Takes members out of a set, or keys out of a map. What is not there
    /// is no error.
    pub fn remove<T: Table, V: Collection>(
        &mut self,
        column: Column<T, V>,
        row: impl Into<Ref<T>>,
        keys: impl IntoIterator<Item = V::Key>,
    ) {
        self.push(Mutate::new(T::TABLE).row(row).by(column.delete(keys)));
    }

    /// Changes a row by a mutation of any kind.
    pub fn mutate<T: Table>(&mut self, row: impl Into<Ref<T>>, mutation: Mutation) {
        self.push(Mutate::new(T::TABLE).row(row).by(mutation));
    }

    /// Removes a row of a root table. Others go by taking them out of their
    /// parent's column.
    pub fn delete<T: Table>(&mut self, row: impl Into<Ref<T>>) {
        self.push(Delete::new(T::TABLE).row(row));
    }

    /// Reads the rows of a table that match all of `filter`, as the
    /// transaction sees them at this point. Returns the place of the answer,
    /// for [`Committed::selected`].
    pub fn select<T: Table>(&mut self, filter: impl IntoIterator<Item = Condition>) -> usize {
        let columns = T::COLUMNS.iter().map(|info| info.name).chain(["_uuid"]);
        let select = Select::new(T::TABLE).columns(columns);
        self.push(filter.into_iter().fold(select, Select::filter))
    }

    /// Goes on only if this is so: guards come before all operations, with a
    /// timeout of 0 unless they say otherwise. One that fails is a
    /// [`TransactError::is_conflict`](crate::TransactError::is_conflict).
    pub fn guard(&mut self, wait: Wait) {
        self.guards.push(wait);
    }

    /// Goes on only if the column still holds what was read.
    pub fn guard_unchanged<T: Table, V: Field>(
        &mut self,
        column: Column<T, V>,
        row: Uuid,
        read: &V,
    ) {
        let columns = Columns::from([(column.name().to_owned(), read.to_value())]);
        self.guard(Wait::unchanged(T::TABLE, row, columns));
    }

    /// Goes on only if no row of `T` matches all of `filter`.
    pub fn guard_absent<T: Table>(&mut self, filter: impl IntoIterator<Item = Condition>) {
        self.guard(Wait::absent(T::TABLE, filter.into_iter().collect()));
    }

    /// Goes on only if some row of `T` matches all of `filter`.
    pub fn guard_present<T: Table>(&mut self, filter: impl IntoIterator<Item = Condition>) {
        self.guard(Wait::exists(T::TABLE, filter.into_iter().collect()));
    }

    /// Goes on only if this client holds the lock.
    pub fn assert_lock(&mut self, name: &str) {
        self.locks.push(name.to_owned());
    }

    /// A line for the database's log, after the client's own.
    pub fn comment(&mut self, text: &str) {
        self.comments.push(text.to_owned());
    }

    /// Has [`Client::apply`](crate::Client::apply) look at this interface too,
    /// although no operation names it.
    pub fn touch_interface(&mut self, name: &str) {
        self.touched.insert(name.to_owned());
    }

    pub(crate) fn touched(&self) -> &BTreeSet<String> {
        &self.touched
    }

    /// What goes over the wire, and which of it is whose.
    pub(crate) fn compile(&self, signature: Option<&str>) -> Compiled {
        let mut compiled = Compiled::default();
        for lock in &self.locks {
            compiled.add(Operation::Assert { lock: lock.clone() }, Origin::Added);
        }
        for guard in &self.guards {
            compiled.add(guard.clone().into(), Origin::Added);
        }
        for (index, operation) in self.operations.iter().enumerate() {
            // A row that this transaction inserts is there for certain.
            let proof = operation.proof_of_rows().filter(|wait| !names_new_row(wait));
            if let Some(proof) = proof {
                compiled.add(proof.into(), Origin::ProofOf(index));
            }
            compiled.add(operation.clone(), Origin::Own(index));
        }
        let lines: Vec<&str> =
            signature.into_iter().chain(self.comments.iter().map(String::as_str)).collect();
        if !lines.is_empty() && !self.is_empty() {
            compiled.add(Operation::Comment(lines.join("\n")), Origin::Added);
        }
        compiled
    }
}

fn names_new_row(wait: &Wait) -> bool {
    wait.filter.iter().any(|condition| matches!(condition.value.atom(), Some(Atom::NamedUuid(_))))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The caller's operation of this index.
    Own(usize),
    /// The proof that there are rows for it.
    ProofOf(usize),
    /// A guard, an assert, a comment.
    Added,
}

/// A transaction ready to be sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compiled {
    pub(crate) operations: Vec<Operation>,
    origins: Vec<Origin>,
}

impl Compiled {
    fn add(&mut self, operation: Operation, origin: Origin) {
        self.operations.push(operation);
        self.origins.push(origin);
    }

    /// The reply in terms of the caller's operations.
    pub(crate) fn interpret(
        &self,
        outcome: Result<Vec<Answer>, Rejection>,
    ) -> Result<Committed, Rejection> {
        let answers = match outcome {
            Ok(answers) => answers,
            Err(rejection) => return Err(self.translate(rejection)),
        };
        let mut committed = Committed::default();
        for (at, answer) in answers.into_iter().enumerate() {
            if !matches!(self.origins.get(at), Some(Origin::Own(_))) {
                continue;
            }
            if let (Some(Operation::Insert(insert)), Answer::Inserted(uuid)) =
                (self.operations.get(at), &answer)
            {
                committed.rows.extend(insert.name.clone().map(|name| (name, *uuid)));
            }
            committed.answers.push(answer);
        }
        Ok(committed)
    }

    fn translate(&self, rejection: Rejection) -> Rejection {
        let origin = |index: usize| self.origins.get(index).copied().unwrap_or(Origin::Added);
        let own = |index: usize| self.origins.iter().position(|o| *o == Origin::Own(index));
        match rejection {
            Rejection::Operation { index, operation, source } => match origin(index) {
                Origin::ProofOf(own_index) if source.kind == ErrorKind::TimedOut => {
                    let missed = own(own_index).and_then(|at| self.operations.get(at));
                    let operation = missed.cloned().map_or(operation, Box::new);
                    Rejection::NoRow { index: own_index, operation, committed: false }
                }
                Origin::Own(index) | Origin::ProofOf(index) => {
                    Rejection::Operation { index, operation, source }
                }
                Origin::Added => Rejection::Operation { index, operation, source },
            },
            Rejection::NoRow { index, operation, committed } => match origin(index) {
                Origin::Own(index) | Origin::ProofOf(index) => {
                    Rejection::NoRow { index, operation, committed }
                }
                Origin::Added => Rejection::NoRow { index, operation, committed },
            },
            other => other,
        }
    }
}

/// A transaction that the server has committed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Committed {
    /// One answer for each operation that was put in, in that order.
    pub answers: Vec<Answer>,
    rows: Vec<(UuidName, Uuid)>,
}

impl Committed {
    /// The rows that [`Transaction::select`] found; none if the answer at this
    /// place is not one of a select.
    pub fn selected<T: Table>(&self, place: usize) -> Result<Vec<Entry<T>>, ReadError> {
        let Some(Answer::Rows(rows)) = self.answers.get(place) else { return Ok(Vec::new()) };
        let uuid = |row| read_column(T::TABLE, row, Column::<T, Uuid>::new("_uuid"));
        rows.iter().map(|row| Ok(Entry { uuid: uuid(row)?, row: T::from_columns(row)? })).collect()
    }

    /// The UUID of a row that [`Transaction::insert`] added.
    pub fn uuid_of<T>(&self, row: &Ref<T>) -> Option<Uuid> {
        let atom = row.to_atom();
        self.rows.iter().find(|(name, _)| atom == Atom::NamedUuid(name.clone())).map(|(_, u)| *u)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::reply::ServerError;

    crate::tables! {
        /// A parent.
        struct Parent = "Parent" {
            /// Its name.
            NAME name: String,
            /// Its children.
            CHILDREN children: BTreeSet<Ref<Child>>,
            /// Its marks.
            MARKS marks: BTreeMap<String, String>,
        }
        /// A child.
        struct Child = "Child" {
            /// Its age.
            AGE age: i64,
        }
    }

    const UUID: Uuid = Uuid::from_u128(1);

    fn sent(transaction: &Transaction, signature: Option<&str>) -> String {
        let operations = transaction.compile(signature).operations;
        let lines = operations.iter().map(|o| serde_json::to_string(o).unwrap());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn guards_come_first_and_the_comment_last() {
        let mut transaction = Transaction::new();
        let child = transaction.insert(&Child { age: 3 });
        transaction.set(Child::AGE, &child, 4);
        transaction.guard_absent::<Parent>([Parent::NAME.is("p")]);
        transaction.insert(&Parent {
            name: "p".into(),
            children: [child].into(),
            ..Default::default()
        });
        transaction.assert_lock("l");
        transaction.comment("because");
        assert_eq!(
            sent(&transaction, Some("me")),
            r#"{"op":"assert","lock":"l"}
{"op":"wait","table":"Parent","timeout":0,"where":[["name","==","p"]],"columns":["_uuid"],"until":"==","rows":[]}
{"op":"insert","table":"Child","row":{"age":3},"uuid-name":"row0"}
{"op":"update","table":"Child","where":[["_uuid","==",["named-uuid","row0"]]],"row":{"age":4}}
{"op":"insert","table":"Parent","row":{"children":["named-uuid","row0"],"name":"p"},"uuid-name":"row1"}
{"op":"comment","comment":"me\nbecause"}"#
        );
    }

    #[test]
    fn what_must_not_miss_is_proved_first() {
        let mut transaction = Transaction::new();
        transaction.put(Parent::MARKS, UUID, [("k", "v")]);
        transaction.push(Delete::new("Child").uuid(UUID).or_none());
        assert_eq!(
            sent(&transaction, None),
            r#"{"op":"wait","table":"Parent","timeout":0,"where":[["_uuid","==",["uuid","00000000-0000-0000-0000-000000000001"]]],"columns":["_uuid"],"until":"!=","rows":[]}
{"op":"mutate","table":"Parent","where":[["_uuid","==",["uuid","00000000-0000-0000-0000-000000000001"]]],"mutations":[["marks","delete","k"],["marks","insert",["map",[["k","v"]]]]]}
{"op":"delete","table":"Child","where":[["_uuid","==",["uuid","00000000-0000-0000-0000-000000000001"]]]}"#
        );
    }

    #[test]
    fn replies_are_told_in_the_callers_terms() {
        let mut transaction = Transaction::new();
        transaction.guard_unchanged(Child::AGE, UUID, &3);
        let child = transaction.insert(&Child { age: 1 });
        transaction.mutate::<Child>(UUID, Child::AGE.plus(1));
        let compiled = transaction.compile(Some("me"));
        assert_eq!(
            compiled.origins,
            [Origin::Added, Origin::Own(0), Origin::ProofOf(1), Origin::Own(1), Origin::Added]
        );

        let answers = vec![
            Answer::Done,
            Answer::Inserted(UUID),
            Answer::Done,
            Answer::Count(1),
            Answer::Done,
        ];
        let committed = compiled.interpret(Ok(answers)).unwrap();
        assert_eq!(committed.answers, [Answer::Inserted(UUID), Answer::Count(1)]);
        assert_eq!(committed.uuid_of(&child), Some(UUID));

        let failed = |index: usize| {
            let operation = Box::new(compiled.operations[index].clone());
            let source = ServerError { kind: ErrorKind::TimedOut, details: None, syntax: None };
            compiled.interpret(Err(Rejection::Operation { index, operation, source })).unwrap_err()
        };
        assert!(failed(0).is_conflict());
        assert_eq!(failed(2).to_string(), "operation 1 (`mutate` on Child) found no row");
        assert!(matches!(failed(2), Rejection::NoRow { committed: false, .. }));
    }

    #[test]
    fn nothing_to_do_is_nothing() {
        let mut transaction = Transaction::new();
        transaction.comment("why");
        transaction.guard_absent::<Child>([]);
        assert!(transaction.is_empty());
    }
}
