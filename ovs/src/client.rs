//! A database that stays reachable: connecting, reconnecting, the replica.
//!
//! [`Client`] keeps one connection to one of several remotes, chooses servers
//! by what their `_Server` database says, watches the tables it was asked to
//! watch, and takes the watch up again where it broke off. One task drives all
//! of it; handles are cheap to clone, and when the last is dropped, the
//! connection is closed.
//!
//! A client has **one** monitor with all its tables. Resuming several monitors
//! over one transaction id would lose updates; another set of tables, or
//! another filter, is another client.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::changes::{Changes, Queue};
use crate::monitor::{
    BadUpdate, Layouts, LeftOut, SchemaMismatch, TableUpdates, Watch, since, table_updates,
    table_updates2,
};
use crate::pace::Backoff;
use crate::remote::{BadRemote, Remote};
use crate::replica::{Inconsistency, ReadError, Replica, RowChange};
use crate::reply::{ErrorKind, ServerError};
use crate::schema::Schema;
use crate::server::{Database, Unsuitable, judge};
use crate::session::{CallError, ConnectError, Session, SessionEnd, SessionOptions, Traffic};
use crate::table::Table;
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::transport::{Credentials, OpenError};
use crate::value::Uuid;

/// What a [`Client`] is to be. Made by [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `connect`"]
pub struct Builder {
    database: String,
    remotes: Vec<Remote>,
    watches: Vec<Watch>,
    leader_only: bool,
    in_order: bool,
    probe: Option<Option<Duration>>,
    backoff: (Duration, Duration),
    connect_within: Duration,
    handshake_within: Duration,
    deadline: Duration,
    signature: Option<String>,
    credentials: Credentials,
}

impl Builder {
    fn new(database: &str) -> Self {
        let program = std::env::args().next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        Self {
            database: database.to_owned(),
            remotes: Vec::new(),
            watches: Vec::new(),
            leader_only: false,
            in_order: false,
            probe: None,
            backoff: (Duration::from_secs(1), Duration::from_secs(8)),
            connect_within: Duration::from_secs(10),
            handshake_within: Duration::from_secs(30),
            deadline: Duration::from_secs(30),
            signature: Some(format!("{program} pid {}", std::process::id())),
            credentials: Credentials::default(),
        }
    }

    /// A place where the database may be. Several are tried in random order.
    pub fn remote(mut self, remote: Remote) -> Self {
        self.remotes.push(remote);
        self
    }

    /// Places as `ovs-vsctl --db` takes them: `tcp:10.0.0.1:6641,tcp:10.0.0.2:6641`.
    pub fn remotes(mut self, list: &str) -> Result<Self, BadRemote> {
        self.remotes.extend(Remote::list(list)?);
        Ok(self)
    }

    /// Tries the remotes in the order given, not in a random one.
    pub fn in_order(mut self) -> Self {
        self.in_order = true;
        self
    }

    /// Watches all columns that `T` has.
    pub fn watch<T: Table>(self) -> Self {
        self.watch_table(Watch::of::<T>())
    }

    /// Watches a table, possibly a part of it.
    pub fn watch_table(mut self, watch: Watch) -> Self {
        self.watches.push(watch);
        self
    }

    /// Stays only with the leader of a cluster. Only there does a read see all
    /// that has been committed; a write is safe anywhere.
    pub fn leader_only(mut self) -> Self {
        self.leader_only = true;
        self
    }

    /// Probes a server after this much silence, and gives it up after as long
    /// again; `None` never does. Default: 5 s on TCP and TLS, never on a Unix
    /// socket.
    pub fn probe(mut self, interval: Option<Duration>) -> Self {
        self.probe = Some(interval);
        self
    }

    /// The pauses between attempts to connect, after each remote had one at
    /// once: doubling from the first to the second. Default: 1 s to 8 s.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self
    }

    /// How long one connection may take to come about, TLS included, and how
    /// long [`Builder::connect`] goes on in all. Default: 10 s.
    pub fn connect_within(mut self, time: Duration) -> Self {
        self.connect_within = time;
        self
    }

    /// How long one server may take from the connection to the last of the
    /// watched rows. Default: 30 s.
    pub fn handshake_within(mut self, time: Duration) -> Self {
        self.handshake_within = time;
        self
    }

    /// How long [`Client::transact`] may take, connecting included. Default: 30 s.
    pub fn deadline(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }

    /// The comment that goes with each transaction and shows in
    /// `ovsdb-tool show-log`; the program and its process by default, but not
    /// its arguments, which the log would keep for everyone. Empty for none.
    pub fn signature(mut self, comment: &str) -> Self {
        self.signature = (!comment.is_empty()).then(|| comment.to_owned());
        self
    }

    /// Shows these certificates to `ssl:` remotes.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.credentials.tls = Some(tls);
        self
    }

    /// Connects, and returns when the replica is there. Must run on a tokio
    /// runtime, which also runs the client's task.
    pub async fn connect(self) -> Result<Client, NotConnected> {
        let within = self.connect_within;
        let client = Client::start(self);
        match timeout(within, client.first_ready()).await {
            Ok(Ok(())) => Ok(client),
            Ok(Err(troubles)) => Err(NotConnected { within: None, troubles }),
            Err(_) => Err(client.not_connected(within)),
        }
    }

    /// Starts connecting, and returns at once. Calls wait for the connection,
    /// each up to its own deadline; the replica is empty until then.
    pub fn start(self) -> Client {
        Client::start(self)
    }
}

/// No server could be used.
#[derive(Debug, Clone)]
pub struct NotConnected {
    /// How long it was tried, or `None` if trying longer is no use.
    pub within: Option<Duration>,
    /// What was wrong with each remote, at the last attempt.
    pub troubles: Vec<(Remote, Arc<Trouble>)>,
}

impl std::fmt::Display for NotConnected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no server can be used")?;
        if let Some(within) = self.within {
            write!(f, " within {within:?}")?;
        }
        // One trouble is this error's source; more have no place there.
        if 1 < self.troubles.len() {
            for (remote, trouble) in &self.troubles {
                write!(f, "; `{remote}`: {}", chain(trouble))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for NotConnected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.troubles {
            [(_, trouble)] => Some(&**trouble),
            _ => None,
        }
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Why a connection is not there, or was given up.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended.
    #[error("the connection ended")]
    Ended(#[source] Arc<SessionEnd>),
    /// The server refused something that it must know.
    #[error("the handshake failed")]
    Handshake(#[from] CallError),
    /// The handshake took too long.
    #[error("the handshake took longer than {0:?}")]
    Slow(Duration),
    /// Another server may do better.
    #[error(transparent)]
    Unsuitable(#[from] Unsuitable),
    /// The server's schema lacks something that is needed.
    #[error(transparent)]
    Schema(#[from] SchemaMismatch),
    /// A watch has a filter, and the server only knows `monitor`.
    #[error("the server cannot filter what is watched")]
    NoFilter,
    /// An update cannot be read.
    #[error(transparent)]
    Update(#[from] BadUpdate),
    /// The replica cannot be right any more, and is fetched anew.
    #[error("the replica is fetched anew")]
    Inconsistent(#[from] Inconsistency),
    /// Transactions made from the replica fail as if it were not what the
    /// server has; it is fetched anew.
    #[error("the replica is doubted and fetched anew")]
    Doubted,
}

impl Trouble {
    /// Whether trying again cannot help: something must be put right first.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::Schema(_)
                | Self::NoFilter
                | Self::Unsuitable(Unsuitable::NoDatabase(_))
                | Self::Connect(ConnectError::Open(OpenError::NoTls { .. }))
        )
    }
}

/// What a client is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Status {
    /// It has no server (any more), and tries.
    Connecting {
        /// What was wrong with each remote, at the last attempt.
        troubles: Vec<(Remote, Arc<Trouble>)>,
    },
    /// The replica is up to date, and transactions are taken.
    Ready(Arc<Ready>),
    /// The client is closed.
    Closed,
}

/// A server that is being used.
#[derive(Debug)]
pub struct Ready {
    /// Where it is.
    pub remote: Remote,
    /// Its schema of the database.
    pub schema: Arc<Schema>,
    /// What was to be watched and is not in its schema.
    pub left_out: Vec<LeftOut>,
    /// The method that watches: `monitor_cond_since`, `monitor_cond`,
    /// `monitor`, or nothing at all.
    pub monitor: Option<&'static str>,
    /// Whether the replica was taken up where it broke off, by changes only.
    /// Otherwise it was fetched anew; subscribers cannot tell.
    pub resumed: bool,
    /// The connection.
    pub session: Session,
}

/// Whether this client has the lock that it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// It wants none.
    None,
    /// Somebody else has it, or there is no connection.
    Waiting,
    /// It has it.
    Held,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct WantedLock {
    name: String,
    steal: bool,
}

/// The copy, and from where to take it up again.
#[derive(Debug, Default)]
struct World {
    replica: Replica,
    layouts: Layouts,
    /// The transaction up to which `replica` goes; nil if it must come anew.
    last: Uuid,
    /// The connection that may change this. One that was left must not.
    link: u64,
}

pub(crate) struct Shared {
    options: Builder,
    world: RwLock<World>,
    queues: Mutex<Vec<Weak<Queue>>>,
    version: watch::Sender<u64>,
    status: watch::Sender<Status>,
    lock_wanted: watch::Sender<Option<WantedLock>>,
    lock_state: watch::Sender<LockState>,
    index_seen: Mutex<i64>,
    doubt: Notify,
}

/// A handle on a database. Clones share it.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    task: Arc<Task>,
}

/// Ends the driving task with the last handle.
struct Task {
    abort: AbortHandle,
    shared: Arc<Shared>,
}

impl Task {
    fn end(&self) {
        self.abort.abort();
        self.shared.status.send_replace(Status::Closed);
        // Whoever waits for a change must look once more.
        self.shared.version.send_modify(|_| {});
        for queue in lock(&self.shared.queues).drain(..).filter_map(|queue| queue.upgrade()) {
            queue.close();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = self.shared.status.borrow();
        f.debug_struct("Client").field("status", &*status).finish_non_exhaustive()
    }
}

/// A panic while the lock was held cannot leave these half-changed: each is
/// assigned whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client for `database`, such as `Open_vSwitch` or `OVN_Northbound`.
    pub fn builder(database: &str) -> Builder {
        Builder::new(database)
    }

    fn start(options: Builder) -> Self {
        let connecting = Status::Connecting { troubles: Vec::new() };
        let shared = Arc::new(Shared {
            options,
            world: RwLock::default(),
            queues: Mutex::default(),
            version: watch::Sender::new(0),
            status: watch::Sender::new(connecting),
            lock_wanted: watch::Sender::new(None),
            lock_state: watch::Sender::new(LockState::None),
            index_seen: Mutex::new(0),
            doubt: Notify::new(),
        });
        let abort = tokio::spawn(drive(shared.clone())).abort_handle();
        let task = Arc::new(Task { abort, shared: shared.clone() });
        Self { shared, task }
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        &self.shared.options.database
    }

    /// Ends the connection. All handles are then of no use any more.
    pub fn close(&self) {
        self.task.end();
    }

    /// What the client is doing, now and from now on.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// The server in use, if there is one now.
    pub fn ready(&self) -> Option<Arc<Ready>> {
        match &*self.shared.status.borrow() {
            Status::Ready(ready) => Some(ready.clone()),
            Status::Connecting { .. } | Status::Closed => None,
        }
    }

    /// What went over the connection in use so far.
    pub fn traffic(&self) -> Traffic {
        self.ready().map_or(Traffic::default(), |ready| ready.session.traffic())
    }

    /// Looks at the replica. `look` runs under a lock that updates need: keep
    /// it short, and call nothing of the client in it.
    ///
    /// While there is no connection, this is what was last known.
    pub fn read<R>(&self, look: impl FnOnce(&Replica) -> R) -> R {
        look(&self.world().replica)
    }

    fn world(&self) -> std::sync::RwLockReadGuard<'_, World> {
        self.shared.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the replica as it is now. Rows are shared, not copied.
    pub fn snapshot(&self) -> Replica {
        self.read(Replica::clone)
    }

    /// Subscribes to the rows of `T`: first those that are there, then
    /// whatever becomes of them. Reconnecting adds nothing and leaves nothing
    /// out: what changed meanwhile comes as changes.
    pub fn changes<T: Table>(&self) -> Result<Changes<T>, ReadError> {
        // Updates are published under the write lock, so none falls between.
        let world = self.world();
        let queue = Arc::new(Queue::new(T::TABLE));
        let rows = world.replica.rows_of(T::TABLE);
        let watched = self.shared.options.watches.iter().any(|watch| watch.table == T::TABLE);
        match rows {
            Ok(rows) => {
                let there =
                    rows.map(|(uuid, row)| RowChange { uuid, old: None, new: Some(row.clone()) });
                let there: Vec<RowChange> = there.collect();
                world.replica.can_read::<T>()?;
                queue.push(&there);
            }
            // Not connected for the first time yet.
            Err(_) if watched => {}
            Err(not_watched) => return Err(not_watched),
        }
        let mut queues = lock(&self.shared.queues);
        queues.retain(|queue| 0 < queue.strong_count());
        queues.push(Arc::downgrade(&queue));
        if matches!(*self.shared.status.borrow(), Status::Closed) {
            queue.close();
        }
        Ok(Changes::new(queue))
    }

    /// Looks at the replica again and again, at each change, until `look`
    /// finds what it is after; `None` if it has not `within` that time, or if
    /// the client is closed. Goes on over lost connections.
    pub async fn wait_for<R>(
        &self,
        within: Duration,
        look: impl FnMut(&Replica) -> Option<R>,
    ) -> Option<R> {
        self.wait_until(crate::transact::after(within), look).await
    }

    pub(crate) async fn wait_until<R>(
        &self,
        until: Instant,
        mut look: impl FnMut(&Replica) -> Option<R>,
    ) -> Option<R> {
        let mut version = self.shared.version.subscribe();
        loop {
            version.borrow_and_update();
            if let Some(found) = self.read(&mut look) {
                return Some(found);
            }
            if matches!(*self.shared.status.borrow(), Status::Closed) {
                return None;
            }
            timeout_at(until, version.changed()).await.ok()?.ok()?;
        }
    }

    /// Waits for a server that can be used.
    pub(crate) async fn ready_until(&self, until: Instant) -> Result<Arc<Ready>, NotConnected> {
        let start = Instant::now();
        let mut status = self.shared.status.subscribe();
        let usable = |status: &Status| match status {
            // The driving task may not have noticed yet that it is over.
            Status::Ready(ready) => !ready.session.is_over(),
            Status::Connecting { .. } => false,
            Status::Closed => true,
        };
        match timeout_at(until, status.wait_for(usable)).await {
            Ok(Ok(status)) => match &*status {
                Status::Ready(ready) => Ok(ready.clone()),
                Status::Connecting { .. } | Status::Closed => {
                    Err(NotConnected { within: None, troubles: Vec::new() })
                }
            },
            _ => Err(self.not_connected(start.elapsed())),
        }
    }

    /// Resolves when the client is ready for the first time, or never can be.
    async fn first_ready(&self) -> Result<(), Vec<(Remote, Arc<Trouble>)>> {
        let remotes = self.shared.options.remotes.len();
        let hopeless = |troubles: &[(Remote, Arc<Trouble>)]| {
            troubles.len() == remotes && troubles.iter().all(|(_, t)| t.is_permanent())
        };
        let decided = |status: &Status| match status {
            Status::Ready(_) | Status::Closed => true,
            Status::Connecting { troubles } => hopeless(troubles),
        };
        let mut status = self.shared.status.subscribe();
        match status.wait_for(decided).await {
            Ok(status) => match &*status {
                Status::Ready(_) => Ok(()),
                Status::Connecting { troubles } => Err(troubles.clone()),
                Status::Closed => Err(Vec::new()),
            },
            Err(_) => Err(Vec::new()),
        }
    }

    fn not_connected(&self, within: Duration) -> NotConnected {
        let troubles = match &*self.shared.status.borrow() {
            Status::Connecting { troubles } => troubles.clone(),
            Status::Ready(_) | Status::Closed => Vec::new(),
        };
        NotConnected { within: Some(within), troubles }
    }

    pub(crate) fn default_deadline(&self) -> Duration {
        self.shared.options.deadline
    }

    pub(crate) fn signature(&self) -> Option<&str> {
        self.shared.options.signature.as_deref()
    }

    /// Waits until the replica is another than `generation`, or the time is up.
    pub(crate) async fn changed_since(&self, generation: u64, until: Instant) {
        self.wait_until(until, |replica| (replica.generation() != generation).then_some(())).await;
    }

    /// Has the replica fetched anew, because it cannot be what the server has.
    pub(crate) fn doubt(&self) {
        self.shared.doubt.notify_one();
    }

    /// Wants the lock `name` from now on, over lost connections too, and waits
    /// until it is held (RFC 7047 section 4.1.8). A client has one lock; a
    /// second name gives the first back. `ovs-vswitchd` holds `ovs_vswitchd`:
    /// taking that one stops the switch.
    ///
    /// Holding it is no promise that it is still held at the next commit:
    /// [`Transaction::assert_lock`](crate::Transaction::assert_lock) is.
    pub async fn lock(&self, name: &str, within: Duration) -> bool {
        self.want_lock(Some(WantedLock { name: name.to_owned(), steal: false }), within).await
    }

    /// Takes the lock `name` from whoever has it (RFC 7047 section 4.1.8).
    pub async fn steal_lock(&self, name: &str, within: Duration) -> bool {
        self.want_lock(Some(WantedLock { name: name.to_owned(), steal: true }), within).await
    }

    async fn want_lock(&self, wanted: Option<WantedLock>, within: Duration) -> bool {
        let mut state = self.lock_state();
        let changed = self.shared.lock_wanted.send_if_modified(|now| {
            let changed = *now != wanted;
            *now = wanted;
            changed
        });
        if changed {
            // What is held now is not what is wanted.
            self.shared.lock_state.send_replace(LockState::Waiting);
        }
        let held = state.wait_for(|state| *state == LockState::Held);
        timeout(within, held).await.is_ok_and(|held| held.is_ok())
    }

    /// Gives the lock back, or wants it no more.
    pub fn unlock(&self) {
        self.shared.lock_state.send_replace(LockState::None);
        self.shared.lock_wanted.send_replace(None);
    }

    /// Whether the lock is held, now and from now on.
    pub fn lock_state(&self) -> watch::Receiver<LockState> {
        self.shared.lock_state.subscribe()
    }

    /// Forgets how far the cluster had come, so that one that was rebuilt from
    /// a backup is accepted (`ovsdb-cs` calls this `reset-min-index`).
    pub fn forget_index(&self) {
        *lock(&self.shared.index_seen) = 0;
    }
}

impl Shared {
    /// Changes the world for connection `link`, and tells everyone. Nothing
    /// happens if that connection was left meanwhile.
    fn change(
        &self,
        link: u64,
        change: impl FnOnce(&mut World) -> Result<Vec<RowChange>, Inconsistency>,
    ) -> Result<(), Inconsistency> {
        let mut world = self.world.write().unwrap_or_else(PoisonError::into_inner);
        if world.link != link {
            return Ok(());
        }
        let changes = change(&mut world).inspect_err(|_| world.last = Uuid::nil())?;
        for queue in lock(&self.queues).iter().filter_map(Weak::upgrade) {
            queue.push(&changes);
        }
        self.version.send_replace(world.replica.generation());
        Ok(())
    }
}

/// What a connection tells the driving task.
enum Event {
    /// The `_Server` database changed.
    Server,
    /// The data are no longer watched.
    Canceled,
    /// An update could not be taken in.
    Broken(Trouble),
}

/// What belongs to one connection.
struct Link {
    shared: Arc<Shared>,
    number: u64,
    state: Mutex<LinkState>,
    events: mpsc::UnboundedSender<Event>,
}

#[derive(Default)]
struct LinkState {
    server: Replica,
    /// The id of the data monitor, which is new each time.
    monitor: Option<String>,
    lock: Option<String>,
    /// The schema of the data as `_Server` had it when they were last watched.
    schema: Option<String>,
}

const SERVER_MONITOR: &str = "server";

impl Link {
    /// Takes a notification in, on the session's task.
    fn hear(&self, method: &str, params: &RawValue) {
        let heard = match method {
            "update" | "update2" | "update3" => self.update(method, params),
            "monitor_canceled" => self.canceled(params),
            "locked" => self.lock_moved(params, LockState::Held),
            "stolen" => self.lock_moved(params, LockState::Waiting),
            _ => {
                tracing::debug!(method, "an unknown notification");
                Ok(())
            }
        };
        if let Err(trouble) = heard {
            let _ = self.events.send(Event::Broken(trouble));
        }
    }

    fn update(&self, method: &str, params: &RawValue) -> Result<(), Trouble> {
        let (id, last, updates): (MonitorId, Uuid, &RawValue) = if method == "update3" {
            parse(params)?
        } else {
            let (id, updates) = parse(params)?;
            (id, Uuid::nil(), updates)
        };
        let updates =
            if method == "update" { table_updates(updates)? } else { table_updates2(updates)? };
        let mut state = lock(&self.state);
        if id.is(SERVER_MONITOR) {
            state.server.apply(updates)?;
            let _ = self.events.send(Event::Server);
        } else if state.monitor.as_deref().is_some_and(|monitor| id.is(monitor)) {
            drop(state);
            self.shared.change(self.number, |world| {
                let changes = world.replica.apply(updates)?;
                world.last = last;
                Ok(changes)
            })?;
        }
        Ok(())
    }

    fn canceled(&self, params: &RawValue) -> Result<(), Trouble> {
        let (id,): (MonitorId,) = parse(params)?;
        let state = lock(&self.state);
        if state.monitor.as_deref().is_some_and(|monitor| id.is(monitor)) {
            let _ = self.events.send(Event::Canceled);
        }
        Ok(())
    }

    fn lock_moved(&self, params: &RawValue, to: LockState) -> Result<(), Trouble> {
        let (name,): (String,) = parse(params)?;
        self.lock_is(&name, to);
        Ok(())
    }

    /// Sets the state of lock `name`, if that is the one wanted here.
    fn lock_is(&self, name: &str, is: LockState) {
        let asked = lock(&self.state).lock.as_deref() == Some(name);
        let wanted = self.shared.lock_wanted.borrow();
        if asked && wanted.as_ref().is_some_and(|wanted| wanted.name == name) {
            self.shared.lock_state.send_replace(is);
        }
    }
}

/// The id of a monitor. Ours are strings; any other JSON is not ours.
struct MonitorId(serde_json::Value);

impl MonitorId {
    fn is(&self, id: &str) -> bool {
        self.0.as_str() == Some(id)
    }
}

impl<'de> Deserialize<'de> for MonitorId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(from).map(Self)
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Result<T, Trouble> {
    serde_json::from_str(json.get()).map_err(|e| Trouble::Update(e.into()))
}

/// Random order, from the randomness of a UUID.
fn shuffle(remotes: &mut [Remote]) {
    for i in (1..remotes.len()).rev() {
        let random = (Uuid::new_v4().as_u128() >> 64) as usize;
        remotes.swap(i, random % (i + 1));
    }
}

/// Connects for ever, until the task is aborted.
async fn drive(shared: Arc<Shared>) {
    let mut remotes = shared.options.remotes.clone();
    if !shared.options.in_order {
        shuffle(&mut remotes);
    }
    let (min, max) = shared.options.backoff;
    let mut backoff = Backoff::new(min, max, remotes.len());
    let mut troubles = BTreeMap::new();
    for number in 1.. {
        let Some(at) = (number as usize - 1).checked_rem(remotes.len()) else { return };
        sleep(backoff.pause()).await;
        let remote = &remotes[at];
        let mut link = Driver { shared: &shared, remote, number, ready_since: None };
        let trouble = Arc::new(link.live().await);
        // A server that gets ready and fails at once, time after time, must not
        // be hammered; one that was left on purpose is no failure.
        let on_purpose = matches!(*trouble, Trouble::Unsuitable(_));
        if link.ready_since.is_some_and(|since| on_purpose || min <= since.elapsed()) {
            backoff.reset();
        }
        tracing::info!(%remote, trouble = chain(&*trouble), "no connection");
        troubles.insert(at, (remote.clone(), trouble));
        let troubles = troubles.values().cloned().collect();
        shared.status.send_replace(Status::Connecting { troubles });
        if shared.lock_wanted.borrow().is_some() {
            shared.lock_state.send_replace(LockState::Waiting);
        }
    }
}

/// One connection, from its beginning to its end.
struct Driver<'a> {
    shared: &'a Arc<Shared>,
    remote: &'a Remote,
    number: u64,
    ready_since: Option<Instant>,
}

impl Driver<'_> {
    /// Connects and stays, and says at last why not.
    async fn live(&mut self) -> Trouble {
        match self.try_live().await {
            Ok(never) => match never {},
            Err(trouble) => trouble,
        }
    }

    async fn try_live(&mut self) -> Result<std::convert::Infallible, Trouble> {
        let options = &self.shared.options;
        let (events, mut heard) = mpsc::unbounded_channel();
        let state = Mutex::default();
        let link =
            Arc::new(Link { shared: self.shared.clone(), number: self.number, state, events });
        let hear = link.clone();
        let mut session_options = SessionOptions::default()
            .connect_within(options.connect_within)
            .credentials(options.credentials.clone())
            .on_notification(move |method, params| hear.hear(method, params));
        if let Some(probe) = options.probe {
            session_options = session_options.probe(probe);
        }
        let session = Session::connect(self.remote, session_options).await?;
        let slow = |_| Trouble::Slow(options.handshake_within);
        let mut until = Instant::now() + options.handshake_within;
        timeout_at(until, greet(&session, &link)).await.map_err(slow)??;
        loop {
            self.shared.world.write().unwrap_or_else(PoisonError::into_inner).link = self.number;
            let watched = timeout_at(until, self.watch(&session, &link)).await;
            let ready = Arc::new(watched.map_err(slow)??);
            timeout_at(until, want_lock(&session, &link)).await.map_err(slow)??;
            for left_out in &ready.left_out {
                tracing::warn!(%left_out, remote = %self.remote, "not known to the server");
            }
            tracing::info!(remote = %self.remote, monitor = ready.monitor, "connected");
            self.ready_since.get_or_insert_with(Instant::now);
            self.shared.status.send_replace(Status::Ready(ready.clone()));
            self.stay(&session, &link, &mut heard).await?;
            // The server let go of the data, to convert them perhaps: once more.
            let troubles = Vec::new();
            self.shared.status.send_replace(Status::Connecting { troubles });
            until = Instant::now() + options.handshake_within;
        }
    }

    /// Stays until the data must be watched anew, or there is trouble.
    async fn stay(
        &self,
        session: &Session,
        link: &Arc<Link>,
        heard: &mut mpsc::UnboundedReceiver<Event>,
    ) -> Result<(), Trouble> {
        let mut lock_wanted = self.shared.lock_wanted.subscribe();
        loop {
            // Wanted before this receiver was there? Then nothing changes for it.
            want_lock(session, link).await?;
            tokio::select! {
                why = session.ended() => return Err(Trouble::Ended(why)),
                () = self.shared.doubt.notified() => {
                    self.forget_place();
                    return Err(Trouble::Doubted);
                }
                changed = lock_wanted.changed() => {
                    if changed.is_err() {
                        return Err(Trouble::Ended(Arc::new(SessionEnd::Dropped)));
                    }
                }
                event = heard.recv() => match event {
                    Some(Event::Server) => {
                        let schema = self.judge(link)?;
                        if schema != lock(&link.state).schema {
                            return Ok(());
                        }
                    }
                    Some(Event::Canceled) => return Ok(()),
                    Some(Event::Broken(trouble)) => {
                        self.forget_place();
                        return Err(trouble);
                    }
                    None => return Err(Trouble::Ended(Arc::new(SessionEnd::Dropped))),
                },
            }
        }
    }

    fn forget_place(&self) {
        let mut world = self.shared.world.write().unwrap_or_else(PoisonError::into_inner);
        if world.link == self.number {
            world.last = Uuid::nil();
        }
    }

    /// Whether to stay with this server; the schema as `_Server` tells it, if
    /// the server has that database.
    fn judge(&self, link: &Link) -> Result<Option<String>, Trouble> {
        let options = &self.shared.options;
        let state = lock(&link.state);
        if state.server.count(Database::TABLE).is_err() {
            return Ok(None);
        }
        let row = state.server.find(Database::NAME, options.database.as_str());
        // The columns were fitted when the monitor began.
        let row = row.ok().flatten().map(|entry| entry.row);
        let mut seen = lock(&self.shared.index_seen);
        let schema = judge(&options.database, row.as_ref(), options.leader_only, *seen)?.to_owned();
        *seen = row.and_then(|row| row.index).unwrap_or(0).max(*seen);
        Ok(Some(schema))
    }

    /// Finds the schema, and watches the data.
    async fn watch(&self, session: &Session, link: &Arc<Link>) -> Result<Ready, Trouble> {
        let options = &self.shared.options;
        // Only the server's own answer is sure: measured, after a conversion
        // `_Server` of Open vSwitch 3.1 goes on showing the old schema.
        let told = self.judge(link)?;
        let schema = session.call_as("get_schema", &[&options.database]).await;
        let schema: Schema = schema.map_err(|error| no_database(error, &options.database))?;
        lock(&link.state).schema = told;
        let layouts = Arc::new(Layouts::fit(&options.watches, &schema)?);
        let (monitor, resumed) = match layouts.tables.is_empty() {
            true => (None, false),
            false => {
                let (method, found) = self.monitor(session, link, &layouts).await?;
                (Some(method), found)
            }
        };
        if monitor.is_none() {
            // Nothing is watched, or only what this server does not have.
            self.shared.change(self.number, |world| {
                world.layouts = (*layouts).clone();
                world.replica.replace(&layouts, TableUpdates::new())
            })?;
        }
        Ok(Ready {
            remote: self.remote.clone(),
            schema: Arc::new(schema),
            left_out: layouts.left_out.clone(),
            monitor,
            resumed,
            session: session.clone(),
        })
    }

    /// Asks for the data by the best method that the server has.
    async fn monitor(
        &self,
        session: &Session,
        link: &Arc<Link>,
        layouts: &Arc<Layouts>,
    ) -> Result<(&'static str, bool), Trouble> {
        for method in ["monitor_cond_since", "monitor_cond", "monitor"] {
            if method == "monitor" && layouts.is_filtered() {
                return Err(Trouble::NoFilter);
            }
            match self.monitor_by(method, session, link, layouts).await {
                Err(Trouble::Handshake(CallError::Refused { source, .. }))
                    if source.kind == ErrorKind::UnknownMethod =>
                {
                    tracing::debug!(method, "not known to the server");
                }
                Err(other) => return Err(other),
                Ok(found) => return Ok((method, found)),
            }
        }
        let source = ServerError { kind: ErrorKind::UnknownMethod, details: None, syntax: None };
        Err(CallError::Refused { method: "monitor".to_owned(), source }.into())
    }

    async fn monitor_by(
        &self,
        method: &'static str,
        session: &Session,
        link: &Arc<Link>,
        layouts: &Arc<Layouts>,
    ) -> Result<bool, Trouble> {
        let last = {
            let world = self.shared.world.read().unwrap_or_else(PoisonError::into_inner);
            // Another set of columns has another history.
            if world.layouts == **layouts { world.last } else { Uuid::nil() }
        };
        // A new id each time: what still comes for the old one is not taken.
        let id = format!("data-{}", Uuid::new_v4());
        lock(&link.state).monitor = Some(id.clone());
        let (shared, number, layouts) = (self.shared.clone(), self.number, layouts.clone());
        let database = &self.shared.options.database;
        let requests = layouts.requests();
        // On the session's task, before the first update after it.
        let begin = move |outcome: Result<&RawValue, CallError>| -> Result<bool, Trouble> {
            let reply = outcome?;
            let (found, last, updates) = match method {
                "monitor_cond_since" => {
                    let since = since(reply)?;
                    (since.found, since.last, since.updates)
                }
                "monitor_cond" => (false, Uuid::nil(), table_updates2(reply)?),
                _ => (false, Uuid::nil(), table_updates(reply)?),
            };
            shared.change(number, |world| {
                let changes = if found {
                    world.replica.apply(updates)?
                } else {
                    world.replica.replace(&layouts, updates)?
                };
                world.layouts = (*layouts).clone();
                world.last = last;
                Ok(changes)
            })?;
            Ok(found)
        };
        if method == "monitor_cond_since" {
            let params = (database, &id, &requests, last.hyphenated().to_string());
            session.call_with(method, &params, begin).await?
        } else {
            session.call_with(method, &(database, &id, &requests), begin).await?
        }
    }
}

/// The first words on a connection: notices of changed databases are
/// understood, and the `_Server` database is watched.
async fn greet(session: &Session, link: &Arc<Link>) -> Result<(), Trouble> {
    match session.call("set_db_change_aware", &[true]).await {
        // A server before Open vSwitch 2.9 does not know the method.
        Ok(_) | Err(CallError::Refused { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    let schema: Schema = match session.call_as("get_schema", &["_Server"]).await {
        Ok(schema) => schema,
        Err(CallError::Refused { .. }) => return Ok(()),
        Err(other) => return Err(other.into()),
    };
    let layouts = Layouts::fit(&[Watch::of::<Database>()], &schema)?;
    let params = ("_Server", SERVER_MONITOR, layouts.requests());
    let hear = link.clone();
    let begin = move |outcome: Result<&RawValue, CallError>| -> Result<(), Trouble> {
        let updates = table_updates2(outcome?)?;
        lock(&hear.state).server.replace(&layouts, updates)?;
        Ok(())
    };
    session.call_with("monitor_cond", &params, begin).await?
}

fn no_database(error: CallError, database: &str) -> Trouble {
    match error {
        CallError::Refused { source, .. } if source.kind == ErrorKind::UnknownDatabase => {
            Unsuitable::NoDatabase(database.to_owned()).into()
        }
        other => other.into(),
    }
}

/// Makes the lock of this connection the one that is wanted.
async fn want_lock(session: &Session, link: &Arc<Link>) -> Result<(), Trouble> {
    loop {
        let wanted = link.shared.lock_wanted.borrow().clone();
        let has = lock(&link.state).lock.clone();
        if has == wanted.as_ref().map(|wanted| wanted.name.clone()) {
            // The same name again, and by force now.
            let Some(WantedLock { name, steal: true }) = wanted else { return Ok(()) };
            if *link.shared.lock_state.borrow() == LockState::Held {
                return Ok(());
            }
            ask(session, link, "unlock", &name).await?;
            lock(&link.state).lock = None;
            continue;
        }
        if let Some(name) = has {
            ask(session, link, "unlock", &name).await?;
            lock(&link.state).lock = None;
        }
        if let Some(wanted) = wanted {
            let method = if wanted.steal { "steal" } else { "lock" };
            lock(&link.state).lock = Some(wanted.name.clone());
            ask(session, link, method, &wanted.name).await?;
            if wanted.steal {
                // Once is meant, and not again after somebody stole it back.
                link.shared.lock_wanted.send_if_modified(|now| {
                    now.iter_mut().for_each(|now| now.steal &= now.name != wanted.name);
                    false
                });
            }
        }
    }
}

/// Calls `lock`, `steal` or `unlock` (RFC 7047 sections 4.1.8 and 4.1.9).
async fn ask(
    session: &Session,
    link: &Arc<Link>,
    method: &'static str,
    name: &str,
) -> Result<(), Trouble> {
    #[derive(Deserialize)]
    struct Reply {
        locked: Option<bool>,
    }
    let (hear, name_owned) = (link.clone(), name.to_owned());
    // In order with the `locked` and `stolen` that come after it.
    let heard = move |outcome: Result<&RawValue, CallError>| -> Result<(), Trouble> {
        let reply: Reply = parse(outcome?)?;
        if let Some(locked) = reply.locked {
            let state = if locked { LockState::Held } else { LockState::Waiting };
            hear.lock_is(&name_owned, state);
        }
        Ok(())
    };
    session.call_with(method, &[name], heard).await?
}
