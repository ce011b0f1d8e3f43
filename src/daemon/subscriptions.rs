//! What a client can subscribe to besides a call: what happens to labs
//! (`fabric.events`), how fast their links are (`fabric.stats`), their packets
//! (`capture.start`), and what the processes of a node say (`node.logs.follow`).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jsonrpsee::types::Params;
use jsonrpsee::{PendingSubscriptionSink, RpcModule, SubscriptionMessage, SubscriptionSink};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::aside::{self, Answer};
use super::methods::{FOLLOW, error, refusal};
use super::watch::Watch;
use super::work::Refused;
use crate::api::{
    CallError, Capture, Desk, Following, NodeLogs, Piece, Rates, Reading, Spoken, one_lab,
};

/// Names: of what subscribes, of what is told, of what ends it.
pub(super) const EVENTS: [&str; 3] = ["fabric.events", "fabric.event", "fabric.events.stop"];
pub(super) const STATS: [&str; 3] = ["fabric.stats", "fabric.rates", "fabric.stats.stop"];
pub(super) const CAPTURE: [&str; 3] = ["capture.start", "capture.piece", "capture.stop"];
pub(super) const LOGS: [&str; 3] = ["node.logs.follow", "node.logs.said", "node.logs.stop"];

/// What ends any subscription, by its number.
pub(super) const ENDS: [&str; 5] = [FOLLOW[2], EVENTS[2], STATS[2], CAPTURE[2], LOGS[2]];

/// How many may hear of rates, packets or logs at once, each: all have them read for
/// themselves.
const PLACES: usize = 32;

/// What `fabric.events` takes.
#[derive(Debug, Default, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Events {
    /// Only what happens to this lab, which need not be there yet.
    pub(super) lab: Option<String>,
}

/// What `fabric.stats` takes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Stats {
    /// The lab; the only one if none is named.
    pub(super) lab: Option<String>,
    /// Seconds between two readings, from 0.1 to 3600.
    pub(super) interval: f64,
}

impl Default for Stats {
    fn default() -> Self {
        Self { lab: None, interval: 1.0 }
    }
}

/// Adds them to what a server answers to.
pub(super) fn register(module: &mut RpcModule<()>, watch: &Arc<Watch>) {
    let watch = Arc::clone(watch);
    add(module, EVENTS, move |params, pending| events(params, pending, Arc::clone(&watch)));
    let places = || Arc::new(Semaphore::new(PLACES));
    let of = places();
    add(module, STATS, move |params, pending| stats(params, pending, Arc::clone(&of)));
    let of = places();
    add(module, CAPTURE, move |params, pending| capture(params, pending, Arc::clone(&of)));
    let of = places();
    add(module, LOGS, move |params, pending| logs(params, pending, Arc::clone(&of)));
}

/// Adds one: `begin` is called for each who subscribes, and serves him to the end.
pub(super) fn add<F>(
    module: &mut RpcModule<()>,
    [name, told, stop]: [&'static str; 3],
    begin: impl Fn(Params<'static>, PendingSubscriptionSink) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Option<()>> + Send + 'static,
{
    module
        .register_subscription(name, told, stop, move |params, pending, _, _| {
            begin(params, pending).map(|_| ())
        })
        .expect("no name is there twice");
}

/// Reads parameters, or says what is wrong with them.
async fn read<T: DeserializeOwned + Default>(
    params: &Params<'static>,
    pending: PendingSubscriptionSink,
) -> Option<(T, PendingSubscriptionSink)> {
    match params.parse::<Option<T>>() {
        Ok(asked) => Some((asked.unwrap_or_default(), pending)),
        Err(wrong) => {
            pending.reject(wrong).await;
            None
        }
    }
}

async fn tell(sink: &SubscriptionSink, told: &impl Serialize) -> Option<()> {
    let text = to_raw_value(told).expect("our own types are JSON");
    sink.send(SubscriptionMessage::from(text)).await.ok()
}

async fn events(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    watch: Arc<Watch>,
) -> Option<()> {
    let (asked, pending) = read::<Events>(&params, pending).await?;
    let mut listener = match watch.listen().await {
        Ok(listener) => listener,
        Err(failure) => {
            pending.reject(error(Refused::Failed(failure))).await;
            return None;
        }
    };
    let sink = pending.accept().await.ok()?;
    loop {
        let event = tokio::select! {
            event = listener.next() => event?,
            () = sink.closed() => return None,
        };
        if event.is_for(asked.lab.as_deref()) {
            tell(&sink, &*event).await?;
        }
    }
}

async fn stats(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    places: Arc<Semaphore>,
) -> Option<()> {
    let (asked, pending) = read::<Stats>(&params, pending).await?;
    if !(0.1..=3600.0).contains(&asked.interval) {
        pending.reject(refusal(-32602, "the interval is from 0.1 to 3600 seconds")).await;
        return None;
    }
    let (place, pending) = placed(places, pending).await?;
    let every = Duration::from_secs_f64(asked.interval);
    relay(STATS, pending, place, move |begun, readings| count(asked.lab, every, begun, readings))
        .await
}

/// Tells what a piece of work comes to, one after the other, until that ends or nobody
/// hears it any more: then nobody takes what it sends.
async fn relay<T, F>(
    [name, ..]: [&'static str; 3],
    pending: PendingSubscriptionSink,
    place: OwnedSemaphorePermit,
    work: impl FnOnce(Answer<()>, mpsc::Sender<T>) -> F + Send + 'static,
) -> Option<()>
where
    T: Serialize + Send + 'static,
    F: Future<Output = ()>,
{
    let (things, mut heard) = mpsc::channel(1);
    let begun = aside::begin(name, move |begun| async move {
        work(begun, things).await;
        drop(place);
    });
    if let Err(failure) = begun.await {
        pending.reject(error(Refused::Failed(failure))).await;
        return None;
    }
    let sink = pending.accept().await.ok()?;
    loop {
        let thing = tokio::select! {
            thing = heard.recv() => thing?,
            () = sink.closed() => return None,
        };
        tell(&sink, &thing).await?;
    }
}

/// Reads counters until nobody hears it or the lab is gone. What is told to somebody
/// slow is not kept: the next reading tells of a longer time.
async fn count(
    lab: Option<String>,
    every: Duration,
    begun: Answer<()>,
    readings: mpsc::Sender<Reading>,
) {
    let begin = async {
        let mut unheard = |_| {};
        let mut engine = Desk::new(&mut unheard).engine("ovsns top").await?;
        let lab = one_lab(&mut engine, lab.as_deref()).await?;
        Rates::of(engine, lab).await
    };
    let Some(mut rates) = answered(begin.await, begun) else { return };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = readings.closed() => return,
        }
        // Whoever subscribed sees its end by there being no more.
        let Ok(place) = readings.reserve().await else { return };
        match rates.read().await {
            Ok(reading) => place.send(reading),
            Err(_) => return,
        }
        if rates.is_over() {
            return;
        }
    }
}

/// Answers whether something has begun, which is nothing if it has not.
fn answered<T>(begun: Result<T, CallError>, answer: Answer<()>) -> Option<T> {
    let (thing, told) = match begun {
        Ok(thing) => (Some(thing), Ok(())),
        Err(error) => (None, Err(error.told())),
    };
    // Whoever asked may be gone: that shows when there is something to tell.
    let _ = answer.send(told);
    thing
}

async fn capture(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    places: Arc<Semaphore>,
) -> Option<()> {
    let (asked, pending) = read::<Capture>(&params, pending).await?;
    let (place, pending) = placed(places, pending).await?;
    relay(CAPTURE, pending, place, move |begun, pieces| overhear(asked, begun, pieces)).await
}

/// Captures until that ends or nobody takes what comes of it.
async fn overhear(asked: Capture, begun: Answer<()>, pieces: mpsc::Sender<Piece>) {
    let mut unheard = |_| {};
    let begin = asked.begin(&mut Desk::new(&mut unheard)).await;
    let Some(mut capturing) = answered(begin, begun) else { return };
    let tell_all = async {
        let _ = pieces.send(Piece::On(capturing.names())).await;
        capturing.listen(&pieces, std::future::pending()).await?;
        capturing.end()
    };
    let rest = tell_all.await.unwrap_or_else(|error| vec![Piece::Failed(error.told())]);
    for piece in rest {
        // Who is gone misses nothing.
        let _ = pieces.send(piece).await;
    }
}

async fn logs(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    places: Arc<Semaphore>,
) -> Option<()> {
    let (asked, pending) = read::<NodeLogs>(&params, pending).await?;
    let (place, pending) = placed(places, pending).await?;
    relay(LOGS, pending, place, move |begun, lines| follow_logs(asked, begun, lines)).await
}

/// Reads logs as they grow, until the node goes or nobody hears it.
async fn follow_logs(asked: NodeLogs, begun: Answer<()>, told: mpsc::Sender<Spoken>) {
    let begin = async {
        let (following, said) = Following::begin(&asked).await?;
        // As for `switch::own::daemon`: it closes its file behind nobody's back.
        #[allow(deprecated)]
        let following = AsyncFd::new(following);
        Ok((following.map_err(CallError::not_started)?, said))
    };
    let Some((mut following, mut said)) = answered(begin.await, begun) else { return };
    let last = loop {
        for said in said {
            if told.send(Spoken::Said(said)).await.is_err() {
                return;
            }
        }
        let ready = tokio::select! {
            ready = following.readable_mut() => ready,
            () = told.closed() => return,
        };
        let read = match ready {
            Ok(mut ready) => {
                // It is all read then; what comes in between makes it ready again.
                ready.clear_ready();
                ready.get_inner_mut().read()
            }
            Err(error) => Err(CallError::not_started(error)),
        };
        match read {
            Ok(Some(more)) => said = more,
            Ok(None) => break Spoken::Ended,
            Err(error) => break Spoken::Failed(error.told()),
        }
    };
    let rest = following.into_inner().end().into_iter().map(Spoken::Said);
    for spoken in rest.chain([last]) {
        let _ = told.send(spoken).await;
    }
}

/// A place among those who have something read for themselves.
async fn placed(
    places: Arc<Semaphore>,
    pending: PendingSubscriptionSink,
) -> Option<(OwnedSemaphorePermit, PendingSubscriptionSink)> {
    match places.try_acquire_owned() {
        Ok(place) => Some((place, pending)),
        Err(_) => {
            pending.reject(error(Refused::Busy)).await;
            None
        }
    }
}
