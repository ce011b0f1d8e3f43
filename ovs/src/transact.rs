//! Sending transactions, once or until they fit.
//!
//! [`Client::transact`] sends once and says exactly what is known afterwards.
//! [`Client::edit`] makes the transaction from the replica and makes it again
//! when somebody else was faster or the connection was lost.
//! [`Client::edit_once`] does so too, and never twice.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::client::{Client, NotConnected};
use crate::column::Column;
use crate::operation::{Condition, Mutate, Mutation, Mutator, Operation, Select, Test, Wait};
use crate::replica::Replica;
use crate::reply::{Answer, Rejection};
use crate::session::CallError;
use crate::table::Table;
use crate::transaction::{Committed, Transaction};
use crate::value::{Atom, Uuid, Value};

/// Why it is not known that a transaction was committed, or known that it was not.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransactError {
    /// There was no server to send it to. Nothing was committed.
    #[error("the transaction was not sent")]
    NotSent(#[from] NotConnected),
    /// The server said no, or not quite yes.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The connection was lost before the reply.
    #[error("the connection was lost before the reply")]
    Lost {
        /// Whether it may have been committed all the same.
        maybe_committed: bool,
        /// What happened to the connection.
        source: CallError,
    },
    /// The time is up.
    #[error("no outcome within {within:?}")]
    Late {
        /// The bound.
        within: Duration,
        /// Whether it may have been committed, or may still be.
        maybe_committed: bool,
        /// Why the last attempt was not the end of it, if there was one.
        #[source]
        last: Option<Box<TransactError>>,
    },
    /// The request cannot be written, or the reply cannot be read.
    #[error(transparent)]
    Call(CallError),
}

impl TransactError {
    /// Whether the transaction did not fit what the database holds now: a
    /// guard failed, or the server asks to try again. Nothing was committed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Rejected(rejection) if rejection.is_conflict())
    }

    /// Whether it may have been committed.
    pub fn maybe_committed(&self) -> bool {
        match self {
            Self::NotSent(_) => false,
            Self::Rejected(Rejection::NoRow { committed, .. }) => *committed,
            Self::Rejected(Rejection::Malformed(_)) | Self::Call(_) => true,
            Self::Rejected(_) => false,
            Self::Lost { maybe_committed, .. } | Self::Late { maybe_committed, .. } => {
                *maybe_committed
            }
        }
    }
}

/// Why an edit did not come to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EditError<E> {
    /// The caller's own code could not make a transaction.
    #[error("the transaction could not be made")]
    Build {
        /// What it says.
        source: E,
        /// Whether some earlier attempt may have been committed.
        maybe_committed: bool,
    },
    /// The transaction failed for good, or the time is up.
    #[error("the edit failed")]
    Transact {
        /// What came of the last attempt.
        source: TransactError,
        /// Whether that, or some earlier attempt, may have been committed.
        maybe_committed: bool,
    },
}

impl<E> EditError<E> {
    pub(crate) fn transact(source: TransactError, unsure: bool) -> Self {
        let maybe_committed = unsure || source.maybe_committed();
        Self::Transact { source, maybe_committed }
    }

    /// Whether some attempt may have been committed.
    pub fn maybe_committed(&self) -> bool {
        match self {
            Self::Build { maybe_committed, .. } | Self::Transact { maybe_committed, .. } => {
                *maybe_committed
            }
        }
    }
}

/// What came of an edit.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// The answers; `None` if there was nothing to do, or if it was an
    /// earlier attempt that was committed.
    pub committed: Option<Committed>,
    /// How many transactions were sent.
    pub attempts: u32,
    /// Whether the reply to some attempt was lost, so that `committed` being
    /// `None` may mean that that one did it.
    pub unsure: bool,
}

/// Where [`Client::edit_once`] remembers which transaction was the last: a key
/// in a map of strings, such as `external_ids` of a row that stays.
///
/// No two writers may share a key. It stays in the map until somebody takes it
/// out; nobody but the writer cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    table: String,
    row: Uuid,
    column: String,
    key: String,
}

impl Marker {
    /// The key `key` in `column` of this row.
    pub fn new<T: Table>(
        column: Column<T, BTreeMap<String, String>>,
        row: Uuid,
        key: &str,
    ) -> Self {
        let (table, column) = (T::TABLE.to_owned(), column.name().to_owned());
        Self { table, row, column, key: key.to_owned() }
    }

    fn pair(&self, id: &str) -> Value {
        // One pair has no key twice.
        Value::map([(self.key.as_str().into(), id.into())]).unwrap_or(Value::empty_map())
    }

    fn rows_with(&self, id: &str) -> Vec<Condition> {
        let has = Condition::new(&self.column, Test::Includes, self.pair(id));
        vec![Condition::row::<()>(self.row), has]
    }

    /// Makes `transaction` one that turns the marker from `old` to `new`, and
    /// is refused if the marker is not `old`.
    ///
    /// So of all attempts under one `new`, one at most is ever committed, in
    /// whatever order they reach the server: also the one whose connection
    /// broke and that a server still has in hand.
    fn attach(&self, transaction: &mut Transaction, old: Option<&str>, new: &str) {
        let delete = |value: Value| Mutation::new(&self.column, Mutator::Delete, value);
        let mutate = Mutate::new(&self.table).uuid(self.row);
        let insert = Mutation::new(&self.column, Mutator::Insert, self.pair(new));
        match old {
            Some(old) => {
                transaction.guard(Wait::exists(&self.table, self.rows_with(old)));
                transaction.push(mutate.by(delete(self.pair(old))).by(insert));
            }
            None => {
                // No condition can say "this key is not there". But an insert
                // leaves a key that is there as it is, which shows afterwards.
                transaction.guard(Wait::absent(&self.table, self.rows_with(new)));
                transaction.push(mutate.by(insert));
                transaction.push(Wait::exists(&self.table, self.rows_with(new)));
            }
        }
    }
}

/// How often a guard may fail although the replica has not changed, before
/// the replica is doubted.
const CONFLICTS_MAX: u32 = 5;
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);

impl Client {
    /// Sends `transaction` once, within the client's deadline
    /// ([`Builder::deadline`](crate::Builder::deadline)).
    ///
    /// By the time this returns, the replica shows what the transaction did.
    pub async fn transact(&self, transaction: &Transaction) -> Result<Committed, TransactError> {
        self.transact_within(self.default_deadline(), transaction).await
    }

    /// Sends `transaction` once. A connection that is not there is waited for.
    pub async fn transact_within(
        &self,
        within: Duration,
        transaction: &Transaction,
    ) -> Result<Committed, TransactError> {
        self.send(transaction, Bound::new(within)).await
    }

    async fn send(
        &self,
        transaction: &Transaction,
        bound: Bound,
    ) -> Result<Committed, TransactError> {
        let compiled = transaction.compile(self.signature());
        if compiled.operations.is_empty() {
            return Ok(Committed::default());
        }
        let ready = self.ready_until(bound.until).await?;
        let call = ready.session.transact(self.database(), &compiled.operations);
        match timeout_at(bound.until, call).await {
            Ok(Ok(outcome)) => Ok(compiled.interpret(outcome)?),
            Ok(Err(source @ CallError::Lost { sent: maybe_committed, .. })) => {
                Err(TransactError::Lost { maybe_committed, source })
            }
            Ok(Err(other)) => Err(TransactError::Call(other)),
            Err(_) => Err(bound.late(true, None)),
        }
    }

    /// Makes a transaction from the replica and sends it, and does both again
    /// when it did not fit any more or the connection was lost.
    ///
    /// `build` is called with the replica each time and must say **what is
    /// still to be done**: an empty transaction for nothing. Guard every column
    /// that the decision was made from
    /// ([`Transaction::guard_unchanged`], [`Transaction::guard_absent`]): then
    /// an attempt whose reply was lost can do no harm, whether it was committed
    /// or not. What is not guarded can be done twice: a `next_cfg += 1` may,
    /// an account may not; see [`Client::edit_once`].
    ///
    /// An error that fresh data cannot mend ends it.
    pub async fn edit<E>(
        &self,
        within: Duration,
        build: impl FnMut(&Replica) -> Result<Transaction, E>,
    ) -> Result<Edited, EditError<E>> {
        self.edit_loop(Bound::new(within), None, build).await
    }

    /// Like [`Client::edit`], but whatever happens to connections and servers,
    /// the transaction is committed once or not at all: `marker` tells an
    /// attempt that was committed from one that was not, and bars any that is
    /// still under way. One more round trip, to read the marker.
    pub async fn edit_once<E>(
        &self,
        within: Duration,
        marker: &Marker,
        build: impl FnMut(&Replica) -> Result<Transaction, E>,
    ) -> Result<Edited, EditError<E>> {
        self.edit_loop(Bound::new(within), Some(marker), build).await
    }

    pub(crate) async fn edit_loop<E>(
        &self,
        bound: Bound,
        marker: Option<&Marker>,
        mut build: impl FnMut(&Replica) -> Result<Transaction, E>,
    ) -> Result<Edited, EditError<E>> {
        let id = Uuid::new_v4().to_string();
        let mut edited = Edited { committed: None, attempts: 0, unsure: false };
        let mut stale_conflicts = 0;
        let mut last: Option<Box<TransactError>> = None;
        loop {
            let unsure = edited.unsure;
            let failed = |error| EditError::transact(error, unsure);
            // Whoever asked with no time left gets one attempt all the same.
            if 0 < edited.attempts && bound.until <= Instant::now() {
                return Err(failed(bound.late(unsure, last)));
            }
            if let Err(not_connected) = self.ready_until(bound.until).await {
                let last = last.unwrap_or_else(|| Box::new(not_connected.into()));
                return Err(failed(bound.late(unsure, Some(last))));
            }
            let old = match marker {
                None => None,
                Some(marker) => match self.marked(marker, bound).await {
                    Ok(old) => old,
                    Err(error @ TransactError::Lost { .. }) => {
                        last = Some(Box::new(error));
                        continue;
                    }
                    // It only reads: the time that is up says nothing of a commit.
                    Err(TransactError::Late { .. } | TransactError::NotSent(_)) => {
                        return Err(failed(bound.late(unsure, last)));
                    }
                    Err(error) if error.is_conflict() => {
                        self.pause(self.read(Replica::generation), 1, bound).await;
                        continue;
                    }
                    Err(error) => return Err(failed(error)),
                },
            };
            if old.as_ref() == Some(&id) {
                return Ok(edited);
            }
            let (transaction, generation) =
                self.read(|replica| (build(replica), replica.generation()));
            let build_failed = |source| EditError::Build { source, maybe_committed: unsure };
            let mut transaction = transaction.map_err(build_failed)?;
            // With a marker, an attempt that may still be under way must be
            // barred, even if nothing else is left to do.
            if transaction.is_empty() && !(unsure && marker.is_some()) {
                return Ok(edited);
            }
            if let Some(marker) = marker {
                marker.attach(&mut transaction, old.as_deref(), &id);
            }
            edited.attempts += 1;
            let error = match self.send(&transaction, bound).await {
                Ok(committed) => {
                    edited.committed = Some(committed);
                    return Ok(edited);
                }
                Err(error) => error,
            };
            match &error {
                TransactError::Lost { maybe_committed, .. } => edited.unsure |= maybe_committed,
                TransactError::Late { .. } | TransactError::NotSent(_) => {
                    let maybe_committed = unsure || error.maybe_committed();
                    return Err(failed(bound.late(maybe_committed, last)));
                }
                _ if error.is_conflict() => {
                    // The update that is to blame has come before this reply.
                    if self.read(Replica::generation) == generation {
                        stale_conflicts += 1;
                        if stale_conflicts % CONFLICTS_MAX == 0 {
                            self.doubt();
                        }
                        self.pause(generation, stale_conflicts, bound).await;
                    }
                }
                _ => return Err(failed(error)),
            }
            last = Some(Box::new(error));
        }
    }

    /// Lets some time pass after the `n`th conflict, or the replica change.
    async fn pause(&self, generation: u64, n: u32, bound: Bound) {
        let pause = CONFLICT_PAUSE * (1 << n.min(6));
        self.changed_since(generation, bound.until.min(Instant::now() + pause)).await;
    }

    /// What the marker is now, at the server.
    async fn marked(&self, marker: &Marker, bound: Bound) -> Result<Option<String>, TransactError> {
        let mut look = Transaction::new();
        let columns = [marker.column.as_str()];
        look.push(Select::new(&marker.table).uuid(marker.row).columns(columns));
        let found = self.send(&look, bound).await?;
        let [Answer::Rows(rows)] = &*found.answers else {
            return Err(Rejection::Malformed("no rows for a select".to_owned()).into());
        };
        let Some(row) = rows.first() else {
            let operation =
                Box::new(Operation::Select(Select::new(&marker.table).uuid(marker.row)));
            return Err(Rejection::NoRow { index: 0, operation, committed: false }.into());
        };
        match row.get(&marker.column).and_then(|map| map.get(&marker.key.as_str().into())) {
            Some(Atom::String(id)) => Ok(Some(id.clone())),
            _ => Ok(None),
        }
    }

    /// An [`Client::edit`] whose `build` cannot fail.
    pub async fn edit_with(
        &self,
        within: Duration,
        mut build: impl FnMut(&Replica) -> Transaction,
    ) -> Result<Edited, EditError<Infallible>> {
        self.edit(within, |replica| Ok(build(replica))).await
    }
}

/// When `within` is over; a day of which nobody will see the end, if that is
/// later than the clock can say.
pub(crate) fn after(within: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(within).unwrap_or(now + FAR)
}

/// A deadline, and how long that was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) within: Duration,
    pub(crate) until: Instant,
}

impl Bound {
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, until: after(within) }
    }

    fn late(self, maybe_committed: bool, last: Option<Box<TransactError>>) -> TransactError {
        TransactError::Late { within: self.within, maybe_committed, last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_may_be_of_any_length() {
        for seconds in [0, 60, u64::from(u32::MAX), u64::MAX] {
            let bound = Bound::new(Duration::from_secs(seconds));
            assert!(Instant::now() <= bound.until + Duration::from_secs(1), "{seconds}");
        }
    }
}
