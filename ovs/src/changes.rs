//! Changes of a table, as a stream to subscribe to.
//!
//! A stream begins with the rows that are there, each as [`Change::Inserted`],
//! so that nothing falls between reading and subscribing. A subscriber that is
//! slow loses no row: what happens to one row before it is looked at is merged
//! into one change, so a queue is never longer than its table, and every
//! change is true when it is handed out.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::replica::{Entry, ReadError, Row, RowChange};
use crate::table::Table;
use crate::value::Uuid;

/// What became of a row of `T`.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<T> {
    /// It is there now.
    Inserted(Entry<T>),
    /// Some column that `T` has is different.
    Modified {
        /// As it was when it was last handed out.
        old: T,
        /// As it is.
        new: Entry<T>,
    },
    /// It is gone; as it last was.
    Deleted(Entry<T>),
}

impl<T> Change<T> {
    /// The row's `_uuid`.
    pub fn uuid(&self) -> Uuid {
        match self {
            Self::Inserted(entry) | Self::Deleted(entry) => entry.uuid,
            Self::Modified { new, .. } => new.uuid,
        }
    }
}

/// The changes of table `T`. Ends when the client is closed.
#[derive(Debug)]
pub struct Changes<T> {
    queue: Arc<Queue>,
    table: PhantomData<fn() -> T>,
}

/// What waits to be looked at: one change a row, in the order of the first.
#[derive(Debug)]
pub(crate) struct Queue {
    table: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<u64, RowChange>,
    places: HashMap<Uuid, u64>,
    next_place: u64,
    waker: Option<Waker>,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(table: &'static str) -> Self {
        Self { table, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the queue half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in those changes that are of this queue's table.
    pub(crate) fn push(&self, changes: &[RowChange]) {
        let mut state = self.state();
        for change in changes.iter().filter(|change| change.table() == self.table) {
            state.push(change.clone());
        }
        if !state.waiting.is_empty() {
            state.wake();
        }
    }

    /// Says that nothing more will come.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.wake();
    }

    fn poll_change(&self, context: &mut Context<'_>) -> Poll<Option<RowChange>> {
        let mut state = self.state();
        match state.waiting.pop_first() {
            Some((_, change)) => {
                state.places.remove(&change.uuid);
                Poll::Ready(Some(change))
            }
            None if state.closed => Poll::Ready(None),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn push(&mut self, change: RowChange) {
        let place = self.places.get(&change.uuid).copied();
        let Some((place, earlier)) = place.and_then(|at| Some((at, self.waiting.get_mut(&at)?)))
        else {
            self.places.insert(change.uuid, self.next_place);
            self.waiting.insert(self.next_place, change);
            self.next_place += 1;
            return;
        };
        earlier.new = change.new;
        // Came and went, or became what it was, before anybody looked.
        if earlier.old == earlier.new {
            let uuid = earlier.uuid;
            self.waiting.remove(&place);
            self.places.remove(&uuid);
        }
    }
}

impl<T: Table> Changes<T> {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self { queue, table: PhantomData }
    }

    /// The next change; `None` when the client is closed. An error says that
    /// the row cannot be read as a `T`, and skips it.
    pub async fn next(&mut self) -> Option<Result<Change<T>, ReadError>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Change<T>, ReadError>>> {
        loop {
            return match self.queue.poll_change(context) {
                Poll::Ready(Some(change)) => match typed(&change).transpose() {
                    Some(change) => Poll::Ready(Some(change)),
                    None => continue,
                },
                Poll::Ready(None) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            };
        }
    }
}

impl<T: Table> Stream for Changes<T> {
    type Item = Result<Change<T>, ReadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

/// The change in terms of `T`; `None` if no column that `T` has is different.
fn typed<T: Table>(change: &RowChange) -> Result<Option<Change<T>>, ReadError> {
    let read = |row: &Option<Arc<Row>>| row.as_ref().map(|row| T::from_row(row)).transpose();
    let uuid = change.uuid;
    Ok(match (read(&change.old)?, read(&change.new)?) {
        (None, None) => None,
        (None, Some(row)) => Some(Change::Inserted(Entry { uuid, row })),
        (Some(row), None) => Some(Change::Deleted(Entry { uuid, row })),
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(row)) => Some(Change::Modified { old, new: Entry { uuid, row } }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::{Layouts, Watch, table_updates2};
    use crate::replica::Replica;
    use serde_json::value::RawValue;

    crate::tables! {
        /// Two columns are watched; this knows one.
        struct Named = "T" {
            /// The name.
            NAME name: String,
        }
    }

    const SCHEMA: &str = r#"{"name":"d","version":"1.0.0","tables":{"T":{"columns":{
        "name":{"type":"string"},"noise":{"type":"integer"}}}}}"#;

    /// Updates of row 1, one after another, looked at only after the last.
    #[tokio::test]
    async fn what_a_slow_subscriber_sees() {
        check(&[], "").await;
        check(&[r#"{"insert":{"name":"a"}}"#], "+a").await;
        check(&[r#"{"insert":{"name":"a"}}"#, r#"{"modify":{"name":"b"}}"#], "+b").await;
        check(&[r#"{"insert":{"name":"a"}}"#, r#"{"delete":null}"#], "").await;
        check(
            &[
                r#"{"insert":{"name":"a"}}"#,
                "look",
                r#"{"modify":{"name":"b"}}"#,
                r#"{"modify":{"name":"c"}}"#,
            ],
            "+a a>c",
        )
        .await;
        check(
            &[
                r#"{"insert":{"name":"a"}}"#,
                "look",
                r#"{"modify":{"name":"b"}}"#,
                r#"{"modify":{"name":"a"}}"#,
            ],
            "+a",
        )
        .await;
        check(
            &[
                r#"{"insert":{"name":"a"}}"#,
                "look",
                r#"{"delete":null}"#,
                r#"{"insert":{"name":"b"}}"#,
            ],
            "+a a>b",
        )
        .await;
        check(&[r#"{"insert":{"name":"a"}}"#, "look", r#"{"modify":{"noise":7}}"#], "+a").await;
        check(&[r#"{"insert":{"name":"a"}}"#, "look", r#"{"delete":null}"#], "+a -a").await;

        async fn check(updates: &[&str], seen: &str) {
            let schema = serde_json::from_str(SCHEMA).unwrap();
            let layouts = Layouts::fit(&[Watch::all("T")], &schema).unwrap();
            let mut replica = Replica::default();
            replica.replace(&layouts, Default::default()).unwrap();
            let queue = Arc::new(Queue::new("T"));
            let mut changes = Changes::<Named>::new(queue.clone());
            let mut got = Vec::new();
            for update in updates {
                if *update == "look" {
                    got.push(show(changes.next().await));
                    continue;
                }
                let json = format!(r#"{{"T":{{"{}":{update}}}}}"#, Uuid::from_u128(1));
                let json = RawValue::from_string(json).unwrap();
                queue.push(&replica.apply(table_updates2(&json).unwrap()).unwrap());
            }
            queue.close();
            while let Some(change) = changes.next().await {
                got.push(show(Some(change)));
            }
            assert_eq!(got.join(" "), seen, "{updates:?}");
        }

        fn show(change: Option<Result<Change<Named>, ReadError>>) -> String {
            match change.unwrap().unwrap() {
                Change::Inserted(entry) => format!("+{}", entry.name),
                Change::Modified { old, new } => format!("{}>{}", old.name, new.name),
                Change::Deleted(entry) => format!("-{}", entry.name),
            }
        }
    }
}
