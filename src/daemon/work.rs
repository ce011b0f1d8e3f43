//! Calls at work: each in a thread of its own, since the hands wait for the kernel
//! without letting others run; and only so many at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value as Json};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::aside;
use super::metrics::Counts;
use crate::api::{self, Call, Desk, Failure, News};

/// How many calls are at work at once; what is more waits.
const AT_ONCE_MAX: usize = 16;

/// How many that end when somebody wants it.
const OPEN_ENDED_MAX: usize = 64;

/// How many may wait. One more is refused.
const WAITING_MAX: usize = 1024;

/// How much news of a call is kept for somebody who does not take it.
pub(super) const NEWS_MAX: usize = 256;

/// What a call came to.
pub(super) type Outcome = Result<Box<RawValue>, Refused>;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refused {
    /// No call has that name.
    Unknown,
    /// The parameters are none of that call; why.
    Parameters(String),
    /// Too many wait already.
    Busy,
    /// The server ends.
    Ending,
    /// It was tried.
    Failed(Failure),
}

/// A call that was understood, to be worked on in a thread that stays with it.
type Work = Box<dyn FnOnce() -> LocalBoxFuture<'static, Outcome> + Send>;

type Read = fn(Json, mpsc::Sender<News>, CancellationToken) -> Result<Work, serde_json::Error>;

/// A call that there is.
struct Known {
    read: Read,
    is_open_ended: bool,
}

/// All calls, by their names, and who works on them.
pub(super) struct Works {
    calls: BTreeMap<&'static str, Known>,
    desks: Arc<Semaphore>,
    open_ended: Arc<Semaphore>,
    ending: CancellationToken,
    waiting: AtomicUsize,
    counts: Arc<Counts>,
}

impl Works {
    pub(super) fn new(counts: Arc<Counts>) -> Self {
        let mut works = Self {
            calls: BTreeMap::new(),
            desks: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            open_ended: Arc::new(Semaphore::new(OPEN_ENDED_MAX)),
            ending: CancellationToken::new(),
            waiting: AtomicUsize::new(0),
            counts,
        };
        api::visit(&mut works);
        works
    }

    /// The names of all calls.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<'_> {
        self.calls.keys().copied()
    }

    /// Whether there is a call of that name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.calls.contains_key(name)
    }

    /// Has a call done. What it says meanwhile goes to `news`; what nobody takes is
    /// lost, and keeps nothing waiting. A call that has begun goes on if nobody
    /// waits for it any more, unless it is open-ended.
    pub(super) async fn call(&self, name: &str, params: Json, news: mpsc::Sender<News>) -> Outcome {
        let (method, known) = self.calls.get_key_value(name).ok_or(Refused::Unknown)?;
        let began = Instant::now();
        let mut ended = Ended { counts: &self.counts, method, how: "abandoned", began };
        let outcome = self.have_done(method, known, params, news).await;
        ended.how = word(&outcome);
        outcome
    }

    async fn have_done(
        &self,
        name: &str,
        known: &Known,
        params: Json,
        news: mpsc::Sender<News>,
    ) -> Outcome {
        // Gone is who does not await this any more; and all are when the server ends.
        let asker = self.ending.child_token();
        let _gone = asker.clone().drop_guard();
        let work = (known.read)(params, news, asker)
            .map_err(|error| Refused::Parameters(error.to_string()))?;
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.waiting);
        if WAITING_MAX <= before {
            return Err(Refused::Busy);
        }
        let desks = if known.is_open_ended { &self.open_ended } else { &self.desks };
        let desk = Arc::clone(desks).acquire_owned().await.expect("it is never closed");
        drop(place);
        if self.ending.is_cancelled() {
            return Err(Refused::Ending);
        }
        let outcome = aside::begin(name, move |answer| async move {
            let outcome = work().await;
            drop(desk);
            // Whoever asked may be gone.
            let _ = answer.send(Ok(outcome));
        });
        outcome.await.unwrap_or_else(|failure| Err(Refused::Failed(failure)))
    }

    /// Waits until nothing is at work any more, and begins nothing new.
    pub(super) async fn finished(&self) {
        self.ending.cancel();
        let never = "it is never closed";
        self.desks.acquire_many(AT_ONCE_MAX as u32).await.expect(never).forget();
        self.open_ended.acquire_many(OPEN_ENDED_MAX as u32).await.expect(never).forget();
    }
}

/// How a call has come out, in a word.
fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(_) => "done",
        Err(Refused::Unknown | Refused::Parameters(_)) => "misunderstood",
        Err(Refused::Busy) => "busy",
        Err(Refused::Ending) => "ending",
        Err(Refused::Failed(failure)) => match failure.status {
            1 => "taken_back",
            2 => "refused",
            4 => "late",
            _ => "left",
        },
    }
}

/// Counts a call when it has ended, or nobody waits for it any more.
struct Ended<'a> {
    counts: &'a Counts,
    method: &'static str,
    how: &'static str,
    began: Instant,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.counts.called(self.method, self.how, self.began.elapsed());
    }
}

/// A place among those who wait, which ends with whoever has it.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl api::Visitor for Works {
    fn visit<C: Call>(&mut self) {
        let read: Read = |params, news, asker| {
            // No parameters are none of any.
            let params = if params.is_null() { Json::Object(Map::new()) } else { params };
            let call: C = serde_json::from_value(params)?;
            Ok(Box::new(move || work(call, news, asker).boxed_local()))
        };
        self.calls.insert(C::NAME, Known { read, is_open_ended: C::IS_OPEN_ENDED });
    }
}

async fn work<C: Call>(call: C, news: mpsc::Sender<News>, asker: CancellationToken) -> Outcome {
    let mut hear = |told| {
        // How far it has come may be left out, what is told not as long as there is
        // room.
        let spare = matches!(told, News::Progress { .. }) && news.capacity() < NEWS_MAX / 2;
        if !spare {
            let _ = news.try_send(told);
        }
    };
    let answer = call.run(&mut Desk::for_asker(&mut hear, asker)).await;
    let answer = answer.map_err(|error| Refused::Failed(error.told()))?;
    Ok(to_raw_value(&answer).expect("our own types are JSON"))
}
