//! Watching labs: what happens to them is told to whoever listens; and if it is wished,
//! what is no longer as it is to be is mended.
//!
//! Nothing is asked for again and again: `engine::news` says when to look, and what has
//! happened is the difference between two looks. Whoever listens has a bounded number
//! of events kept for him, and is told how many he has missed. While nobody listens
//! nobody looks.

mod eyes;
mod keeping;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use self::eyes::{Eyes, event, now_ms};
use self::keeping::{Keeping, Now};
use super::settle;
use crate::api::{CallError, Event, Failure, Happened, Kind, Thing};
use crate::engine::EngineError;
use crate::engine::news::News;
use crate::engine::state::{State, StateError};
use crate::model::names::LabName;

/// How many events are kept for somebody who is slow.
const KEPT_MAX: usize = 1024;

/// What comes within that time of what came before is looked at together with it.
const QUIET: Duration = Duration::from_millis(10);

/// But nothing is left unlooked at for longer.
const LOOKED_WITHIN: Duration = Duration::from_millis(100);

/// How long it rests when it cannot watch, before it tries again.
const REST: Duration = Duration::from_secs(1);

/// A watch over all labs of this machine, in a thread of its own.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    ended: watch::Sender<bool>,
}

struct Shared {
    told: broadcast::Sender<Arc<Event>>,
    standing: watch::Sender<Standing>,
    listeners: watch::Sender<usize>,
    keeps: bool,
    mended: Box<dyn Fn() + Send + Sync>,
    said: Box<dyn Fn(&str) + Send + Sync>,
    ending: CancellationToken,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("keeps", &self.keeps).finish_non_exhaustive()
    }
}

/// How the watch does.
#[derive(Debug, Clone)]
enum Standing {
    /// Nobody listens.
    Idle,
    /// What happens from now on is told.
    Watches,
    /// It cannot.
    Fails(Failure),
}

/// Somebody who hears of events.
#[derive(Debug)]
pub struct Listener {
    events: broadcast::Receiver<Arc<Event>>,
    shared: Arc<Shared>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.listeners.send_modify(|count| *count -= 1);
    }
}

impl Listener {
    /// Awaits the next event; `None` when the watch has ended.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        match self.events.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Closed) => None,
            Err(broadcast::error::RecvError::Lagged(count)) => {
                let text =
                    format!("{count} events were missed: `ovsns status` says how things are");
                let what = Happened::new(Kind::Missed, Thing::Lab, "", text);
                Some(Arc::new(Event { at_ms: now_ms(), lab: None, what }))
            }
        }
    }
}

impl Watch {
    /// Begins. `keeps`: what drifts is mended, and `mended` called each time; `said` is
    /// called with what is worth a line in a log.
    pub fn start(
        keeps: bool,
        mended: impl Fn() + Send + Sync + 'static,
        said: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            told: broadcast::Sender::new(KEPT_MAX),
            standing: watch::Sender::new(Standing::Idle),
            listeners: watch::Sender::new(0),
            keeps,
            mended: Box::new(mended),
            said: Box::new(said),
            ending: CancellationToken::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (watching, ended) = (Arc::clone(&shared), watch::Sender::new(false));
        let has_ended = Ended(ended.clone());
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || {
            runtime.block_on(watching.run());
            drop(has_ended);
        })?;
        Ok(Self { shared, ended })
    }

    /// Begins to listen: what happens after this has returned is heard of.
    ///
    /// # Errors
    /// Why nothing can be watched.
    pub async fn listen(&self) -> Result<Listener, Failure> {
        let events = self.shared.told.subscribe();
        self.shared.listeners.send_modify(|count| *count += 1);
        let listener = Listener { events, shared: Arc::clone(&self.shared) };
        let mut standing = self.shared.standing.subscribe();
        let standing = standing.wait_for(|it| !matches!(it, Standing::Idle)).await;
        match standing.as_deref() {
            Ok(Standing::Fails(failure)) => Err(failure.clone()),
            Ok(Standing::Watches) => Ok(listener),
            Ok(Standing::Idle) | Err(_) => {
                Err(Failure::new("the watch has ended", Some("start the server again"), 2))
            }
        }
    }

    /// Ends, after what is being mended is.
    pub async fn end(&self) {
        self.shared.ending.cancel();
        // One that panicked has said so, and what it had is gone.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// Says so when its thread ends, however that comes.
struct Ended(watch::Sender<bool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.ending.cancel();
    }
}

impl Shared {
    async fn run(&self) {
        let mut listeners = self.listeners.subscribe();
        loop {
            tokio::select! {
                () = self.ending.cancelled() => return,
                _ = listeners.wait_for(|count| self.keeps || 0 < *count) => {}
            }
            let Err(error) = self.attend(&mut listeners).await else {
                self.standing.send_replace(Standing::Idle);
                continue;
            };
            let failure = error.told();
            (self.said)(&format!("cannot watch: {}", failure.in_a_line()));
            self.standing.send_replace(Standing::Fails(failure));
            tokio::select! {
                () = self.ending.cancelled() => return,
                () = tokio::time::sleep(REST) => {}
            }
            self.standing.send_replace(Standing::Idle);
        }
    }

    /// Watches as long as somebody wants it.
    async fn attend(&self, listeners: &mut watch::Receiver<usize>) -> Result<(), CallError> {
        let state = State::from_environment();
        let mut news = News::begin(&state)?;
        let (mut eyes, mut keeping) = (Eyes::new(state), Keeping::default());
        let mut whom = eyes.whom();
        let mut is_first = true;
        loop {
            if !self.keeps && *listeners.borrow_and_update() == 0 {
                let before = self.standing.send_replace(Standing::Idle);
                // Whoever came just now may have seen that it watches.
                if *listeners.borrow_and_update() == 0 {
                    return Ok(());
                }
                self.standing.send_replace(before);
            }
            let began = Instant::now();
            let events = eyes.look().await?;
            let took = began.elapsed();
            // How things were when it began is no event.
            if !is_first {
                self.tell(events);
            }
            let now = eyes.whom();
            let is_new = now != whom;
            if is_new {
                whom = now;
                news.follow(&whom)?;
            }
            if self.keeps && self.mend(&eyes, &mut keeping).await || is_new {
                // Whoever is followed from now on may have changed before.
                continue;
            }
            if std::mem::take(&mut is_first) {
                self.standing.send_replace(Standing::Watches);
            }
            let next = keeping.next();
            let is_due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.ending.cancelled() => return Ok(()),
                _ = listeners.changed() => {}
                () = is_due => {}
                told = news.next() => {
                    told?;
                    let until = Instant::now() + LOOKED_WITHIN;
                    while let Ok(told) = timeout_at(until.min(Instant::now() + QUIET), news.next()).await {
                        told?;
                    }
                    // To look at big labs is work, which is not to keep others from theirs.
                    sleep_until((began + 2 * took).min(Instant::now() + took)).await;
                }
            }
        }
    }

    fn tell(&self, events: Vec<Event>) {
        for event in events {
            // Nobody may listen, only keep.
            let _ = self.told.send(Arc::new(event));
        }
    }

    /// Mends what has drifted, where it is time to; whether anything was done.
    async fn mend(&self, eyes: &Eyes, keeping: &mut Keeping) -> bool {
        let mut done = false;
        keeping.retain(|lab| eyes.drifted().any(|(it, _)| it == lab), Instant::now());
        for (lab, drift) in eyes.drifted() {
            match keeping.about(lab, &drift, Instant::now()) {
                Now::Rest | Now::Enough { first: false } => {}
                Now::Enough { first: true } => {
                    let text = format!(
                        "lab {lab} is not mended any more before something changes: {}",
                        drift.join("; ")
                    );
                    self.say(lab, Kind::GivenUp, text);
                }
                Now::Mend => match self.up_again(lab).await {
                    Ok(true) => {
                        keeping.mended(lab, Instant::now());
                        done = true;
                    }
                    // It is told when that is done.
                    Ok(false) => {}
                    Err(text) => {
                        keeping.failed(lab, Instant::now());
                        self.say(lab, Kind::Failed, text);
                        done = true;
                    }
                },
            }
        }
        done
    }

    fn say(&self, lab: &LabName, kind: Kind, text: String) {
        (self.said)(&text);
        self.tell(vec![event(lab, Happened::new(kind, Thing::Lab, "", text))]);
    }

    /// Mends a lab; whether that was done, or a command is at work on it. Else why not.
    async fn up_again(&self, lab: &LabName) -> Result<bool, String> {
        match settle::up_again(lab, &*self.said).await {
            Ok(made) => {
                if !made.steps.is_empty() {
                    (self.said)(&format!("lab {lab}: mended: {}", made.steps.join("; ")));
                    (self.mended)();
                }
                Ok(true)
            }
            Err(CallError::Engine(EngineError::State(StateError::Locked { .. }))) => Ok(false),
            Err(error) => {
                let why = error.told().in_a_line();
                Err(format!("lab {lab} could not be mended: {why}"))
            }
        }
    }
}
