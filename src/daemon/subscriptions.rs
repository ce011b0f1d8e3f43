//! What a client can subscribe to besides a call: what happens to labs
//! (`fabric.events`), and how fast their links are (`fabric.stats`).

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jsonrpsee::types::Params;
use jsonrpsee::{PendingSubscriptionSink, RpcModule, SubscriptionMessage, SubscriptionSink};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::methods::{FOLLOW, error, refusal};
use super::watch::Watch;
use super::work::Refused;
use crate::api::{CallError, Desk, Rates, Reading, one_lab};

/// Names: of what subscribes, of what is told, of what ends it.
pub(super) const EVENTS: [&str; 3] = ["fabric.events", "fabric.event", "fabric.events.stop"];
pub(super) const STATS: [&str; 3] = ["fabric.stats", "fabric.rates", "fabric.stats.stop"];

/// What ends any subscription, by its number.
pub(super) const ENDS: [&str; 3] = [FOLLOW[2], EVENTS[2], STATS[2]];

/// How many may hear of rates at once: each has the counters read for itself.
const STATS_MAX: usize = 32;

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
    let taken = "no name is there twice";
    let watch = Arc::clone(watch);
    let [name, told, stop] = EVENTS;
    module
        .register_subscription(name, told, stop, move |params, pending, _, _| {
            events(params, pending, Arc::clone(&watch)).map(|_| ())
        })
        .expect(taken);
    let places = Arc::new(Semaphore::new(STATS_MAX));
    let [name, told, stop] = STATS;
    module
        .register_subscription(name, told, stop, move |params, pending, _, _| {
            stats(params, pending, Arc::clone(&places)).map(|_| ())
        })
        .expect(taken);
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
    let Ok(place) = places.try_acquire_owned() else {
        pending.reject(error(Refused::Busy)).await;
        return None;
    };
    let every = Duration::from_secs_f64(asked.interval);
    let (begun, begins) = oneshot::channel();
    let (readings, mut heard) = mpsc::channel(1);
    // The hands wait for the kernel without letting others run.
    let thread = std::thread::Builder::new().name("fabric.stats".to_owned());
    let started = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(count(asked.lab, every, begun, readings)),
            Err(source) => drop(begun.send(Err(CallError::not_started(source)))),
        }
        drop(place);
    });
    let begins = match started {
        Ok(_) => begins.await.unwrap_or_else(|_| {
            Err(CallError::not_started(std::io::Error::other("its thread has ended")))
        }),
        Err(source) => Err(CallError::not_started(source)),
    };
    if let Err(failure) = begins {
        pending.reject(error(Refused::Failed(failure.told()))).await;
        return None;
    }
    let sink = pending.accept().await.ok()?;
    loop {
        let reading = tokio::select! {
            reading = heard.recv() => reading?,
            () = sink.closed() => return None,
        };
        tell(&sink, &reading).await?;
    }
}

/// Reads counters until nobody hears it or the lab is gone. What is told to somebody
/// slow is not kept: the next reading tells of a longer time.
async fn count(
    lab: Option<String>,
    every: Duration,
    begun: oneshot::Sender<Result<(), CallError>>,
    readings: mpsc::Sender<Reading>,
) {
    let begin = async {
        let mut unheard = |_| {};
        let mut engine = Desk::new(&mut unheard).engine("ovsns top").await?;
        let lab = one_lab(&mut engine, lab.as_deref()).await?;
        Rates::of(engine, lab).await
    };
    let mut rates = match begin.await {
        Ok(rates) => rates,
        Err(error) => return drop(begun.send(Err(error))),
    };
    let _ = begun.send(Ok(()));
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
