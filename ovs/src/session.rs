//! One connection that speaks JSON-RPC 1.0 (RFC 7047 section 4).
//!
//! A task of its own owns the socket, so that the server's `echo` is answered
//! while nobody calls, and while somebody waits. Requests are written as they
//! come and replies taken in any order. Everything that arrives is delivered in
//! the order of its arrival, on that task: a notification that the server sent
//! before a reply has been seen before the reply's caller wakes up. The replica
//! stands on this: the update that a transaction causes comes before its reply.
//!
//! The task never waits for the socket to take what it writes: the server stops
//! reading while its own output is backed up, and two sides that both wait to
//! write wait for ever.
//!
//! A session knows no database and never reconnects; [`crate::Client`] does.
//! The control sockets of the daemons (`ovs-appctl`) speak the same protocol:
//! [`Session::unixctl`].

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::frame::{FrameError, Framer};
use crate::message::{BadMessage, Message, write_reply, write_request};
use crate::operation::{Operation, TransactParams};
use crate::pace::{Probe, Silence};
use crate::remote::Remote;
use crate::reply::{Answer, ErrorKind, Rejection, ServerError, answers};
#[cfg(feature = "tls")]
use crate::tls::Tls;
use crate::transport::{Credentials, OpenError, Stream, open};

/// Output beyond this is not added to: requests wait in their queue instead.
const OUT_BYTES_HIGH: usize = 1 << 20;
/// Room made for each read.
const READ_BYTES: usize = 64 << 10;

/// What is done with each notification: its method and its parameters.
type OnNotification = Box<dyn FnMut(&str, &RawValue) + Send>;
/// What is done with the outcome of a call, on the session's task.
type OnReply = Box<dyn FnOnce(Result<&RawValue, CallError>) + Send>;

/// How a [`Session`] is to behave.
pub struct SessionOptions {
    probe: Option<Option<Duration>>,
    connect_within: Duration,
    message_bytes_max: usize,
    credentials: Credentials,
    on_notification: OnNotification,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            probe: None,
            connect_within: Duration::from_secs(10),
            message_bytes_max: 1 << 30,
            credentials: Credentials::default(),
            on_notification: Box::new(|_, _| {}),
        }
    }
}

impl std::fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionOptions").field("probe", &self.probe).finish_non_exhaustive()
    }
}

impl SessionOptions {
    /// Probes the server after this much silence; `None` never does. The
    /// default is 5 s on TCP and TLS, and never on a Unix socket. A server
    /// that stays silent for as long again after the `echo` is given up.
    pub fn probe(mut self, interval: Option<Duration>) -> Self {
        self.probe = Some(interval);
        self
    }

    /// Gives up connecting, TLS included, after this time. 10 s by default.
    pub fn connect_within(mut self, time: Duration) -> Self {
        self.connect_within = time;
        self
    }

    /// Gives up on a server that sends a longer message. 1 GiB by default.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Shows these certificates on `ssl:` remotes.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.credentials.tls = Some(tls);
        self
    }

    pub(crate) fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Calls this with the method and the parameters of each notification, in
    /// order, on the session's task. It must not block.
    pub fn on_notification(mut self, f: impl FnMut(&str, &RawValue) + Send + 'static) -> Self {
        self.on_notification = Box::new(f);
        self
    }
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket or TLS said no.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nothing was decided in time.
    #[error("`{remote}` did not answer within {within:?}")]
    Slow {
        /// Where to.
        remote: Remote,
        /// The bound, [`SessionOptions::connect_within`].
        within: Duration,
    },
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionEnd {
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The socket broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The server did not answer a probe.
    #[error("the server has been silent for {0:?}")]
    Silent(Duration),
    /// What came is not JSON-RPC.
    #[error("the server does not speak JSON-RPC")]
    Frame(#[from] FrameError),
    /// What came is not JSON-RPC.
    #[error("the server does not speak JSON-RPC")]
    Message(#[from] BadMessage),
    /// This side let go of it.
    #[error("the session was dropped")]
    Dropped,
}

/// Why a call has no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The server refused.
    #[error("the server refused `{method}`")]
    Refused {
        /// The method called.
        method: String,
        /// What the server says.
        source: ServerError,
    },
    /// The session ended before the reply.
    #[error("the connection was lost before the reply to `{method}`")]
    Lost {
        /// The method called.
        method: String,
        /// Whether the whole request had been given to the kernel, so that the
        /// server may have done what it asks. `false` means that it has not.
        sent: bool,
        /// Why the session ended.
        source: Arc<SessionEnd>,
    },
    /// The parameters cannot be written as JSON.
    #[error("the parameters of `{method}` cannot be written")]
    Unwritable {
        /// The method called.
        method: String,
        /// What is wrong with them.
        source: Arc<serde_json::Error>,
    },
    /// The result is not of the shape it should have.
    #[error("the result of `{method}` makes no sense")]
    Malformed {
        /// The method called.
        method: String,
        /// What is wrong with it.
        source: Arc<serde_json::Error>,
    },
}

/// How many bytes and messages went over a session, without TLS around them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read from the server.
    pub bytes_in: u64,
    /// Bytes given to the kernel for it.
    pub bytes_out: u64,
    /// Messages read from the server.
    pub messages_in: u64,
}

/// How the transactions of all sessions of this process have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transactions {
    /// The server has carried them out.
    pub committed: u64,
    /// It has refused them, as a whole or one of their operations.
    pub rejected: u64,
    /// There was no reply that is understood: the session ended, or nobody waited longer.
    pub unanswered: u64,
}

/// Counts a transaction when it is dropped, as what it has come to by then.
struct Tally(&'static AtomicU64);

impl Drop for Tally {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}

static COMMITTED: AtomicU64 = AtomicU64::new(0);
static REJECTED: AtomicU64 = AtomicU64::new(0);
static UNANSWERED: AtomicU64 = AtomicU64::new(0);

/// How the transactions of all sessions of this process have ended so far.
pub fn transactions() -> Transactions {
    Transactions {
        committed: COMMITTED.load(Relaxed),
        rejected: REJECTED.load(Relaxed),
        unanswered: UNANSWERED.load(Relaxed),
    }
}

#[derive(Debug, Default)]
struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    messages_in: AtomicU64,
}

enum Command {
    Call { id: u64, method: String, text: Vec<u8>, on_reply: OnReply },
    Abandon { id: u64 },
    Notify { text: Vec<u8> },
}

/// A handle on one connection. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub struct Session {
    commands: mpsc::UnboundedSender<Command>,
    end: watch::Receiver<Option<Arc<SessionEnd>>>,
    next_id: Arc<AtomicU64>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("end", &*self.end.borrow()).finish_non_exhaustive()
    }
}

impl Session {
    /// Connects to `remote`. Must run on a tokio runtime.
    pub async fn connect(remote: &Remote, options: SessionOptions) -> Result<Self, ConnectError> {
        let within = options.connect_within;
        let Ok(opened) = timeout(within, open(remote, &options.credentials)).await else {
            return Err(ConnectError::Slow { remote: remote.clone(), within });
        };
        let default = remote.needs_probe().then_some(PROBE_DEFAULT);
        let probe = options.probe.unwrap_or(default);
        Ok(Self::start(opened?, SessionOptions { probe: Some(probe), ..options }))
    }

    /// Speaks over a stream that is open already. Not probed by default.
    pub fn over(stream: impl Stream + 'static, options: SessionOptions) -> Self {
        Self::start(Box::new(stream), options)
    }

    fn start(stream: Box<dyn Stream>, options: SessionOptions) -> Self {
        let (commands, requests) = mpsc::unbounded_channel();
        let (end_sender, end) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let wire = Wire {
            out: Vec::new(),
            out_taken: 0,
            bytes_queued: 0,
            bytes_written: 0,
            pending: HashMap::new(),
            on_notification: options.on_notification,
            counters: counters.clone(),
        };
        let framer = Framer::new(options.message_bytes_max);
        let probe = options.probe.flatten();
        tokio::spawn(run(stream, wire, framer, probe, requests, end_sender));
        Self { commands, end, next_id: Arc::new(AtomicU64::new(1)), counters }
    }

    /// Calls `method` and waits for the result, for as long as it takes.
    ///
    /// When the future is dropped, the reply is no longer waited for; a
    /// `transact` is cancelled at the server too (RFC 7047 section 4.1.4).
    pub async fn call(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<Box<RawValue>, CallError> {
        let keep = |outcome: Result<&RawValue, CallError>| outcome.map(ToOwned::to_owned);
        self.call_with(method, params, keep).await?
    }

    /// Calls `method` and reads the result as a `T`.
    pub async fn call_as<T: DeserializeOwned + Send + 'static>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, CallError> {
        let owned_method = method.to_owned();
        let read = move |outcome: Result<&RawValue, CallError>| {
            serde_json::from_str(outcome?.get())
                .map_err(|e| CallError::Malformed { method: owned_method, source: Arc::new(e) })
        };
        self.call_with(method, params, read).await?
    }

    /// Calls `method` and runs `on_reply` over the outcome **on the session's
    /// task**, before anything that arrived later is delivered.
    pub(crate) async fn call_with<R: Send + 'static>(
        &self,
        method: &str,
        params: &impl Serialize,
        on_reply: impl FnOnce(Result<&RawValue, CallError>) -> R + Send + 'static,
    ) -> Result<R, CallError> {
        let id = self.next_id.fetch_add(1, Relaxed);
        let mut text = Vec::new();
        write_request(&mut text, method, params, Some(id)).map_err(unwritable(method))?;
        let (done, reply) = oneshot::channel();
        let on_reply: OnReply = Box::new(move |outcome| {
            let _ = done.send(on_reply(outcome));
        });
        // If the task is gone, the command goes with it, and `reply` says so.
        let _ = self.commands.send(Command::Call { id, method: method.to_owned(), text, on_reply });
        let mut abandon = Abandon { session: self, id: Some(id) };
        let outcome = reply.await;
        abandon.id = None;
        let lost =
            |_| CallError::Lost { method: method.to_owned(), sent: false, source: self.why() };
        outcome.map_err(lost)
    }

    /// Sends a notification: a request that gets no reply.
    pub fn notify(&self, method: &str, params: &impl Serialize) -> Result<(), CallError> {
        let mut text = Vec::new();
        write_request(&mut text, method, params, None).map_err(unwritable(method))?;
        self.commands.send(Command::Notify { text }).map_err(|_| CallError::Lost {
            method: method.to_owned(),
            sent: false,
            source: self.why(),
        })
    }

    /// Sends `operations` as one transaction and reads the reply against them
    /// (RFC 7047 section 4.1.3). Adds nothing: no guard, no comment, no retry.
    pub async fn transact(
        &self,
        database: &str,
        operations: &[Operation],
    ) -> Result<Result<Vec<Answer>, Rejection>, CallError> {
        let params = TransactParams { database, operations };
        // Whoever waits no longer drops this, and it counts all the same.
        let mut tally = Tally(&UNANSWERED);
        let answered = match self.call("transact", &params).await {
            Ok(result) => answers(operations, &result),
            Err(CallError::Refused { source, .. }) => Err(Rejection::Request { source }),
            Err(other) => return Err(other),
        };
        match &answered {
            Ok(_) | Err(Rejection::NoRow { committed: true, .. }) => tally.0 = &COMMITTED,
            Err(Rejection::Malformed(_)) => {}
            Err(_) => tally.0 = &REJECTED,
        }
        Ok(answered)
    }

    /// Runs a command of a daemon over its control socket, like
    /// `ovs-appctl -t SOCKET COMMAND ARGS…`. A command that the daemon refuses
    /// is [`CallError::Refused`] with its text.
    pub async fn unixctl(&self, command: &str, args: &[&str]) -> Result<String, CallError> {
        self.call_as(command, &args).await.map_err(|error| match error {
            // The daemons end their complaints with a newline.
            CallError::Refused { method, mut source } => {
                source.kind = ErrorKind::of(source.kind.as_str().trim_end());
                CallError::Refused { method, source }
            }
            other => other,
        })
    }

    /// Resolves when the session is over, with the reason.
    pub async fn ended(&self) -> Arc<SessionEnd> {
        let mut end = self.end.clone();
        let _ = end.wait_for(Option::is_some).await;
        self.why()
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// What went over the session so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            bytes_in: self.counters.bytes_in.load(Relaxed),
            bytes_out: self.counters.bytes_out.load(Relaxed),
            messages_in: self.counters.messages_in.load(Relaxed),
        }
    }

    fn why(&self) -> Arc<SessionEnd> {
        self.end.borrow().clone().unwrap_or_else(|| Arc::new(SessionEnd::Dropped))
    }
}

fn unwritable(method: &str) -> impl Fn(serde_json::Error) -> CallError {
    |e| CallError::Unwritable { method: method.to_owned(), source: Arc::new(e) }
}

/// The pause before a probe on TCP and TLS, as in Open vSwitch.
pub(crate) const PROBE_DEFAULT: Duration = Duration::from_secs(5);

/// Tells the task that nobody waits for a reply any more.
struct Abandon<'a> {
    session: &'a Session,
    id: Option<u64>,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let _ = self.session.commands.send(Command::Abandon { id });
        }
    }
}

/// A request whose reply is not there yet.
struct Pending {
    method: String,
    /// How many bytes must have been written for all of it to be sent.
    bytes_end: u64,
    on_reply: OnReply,
}

/// The task's state besides the socket and the framer.
struct Wire {
    out: Vec<u8>,
    out_taken: usize,
    bytes_queued: u64,
    bytes_written: u64,
    pending: HashMap<u64, Pending>,
    on_notification: OnNotification,
    counters: Arc<Counters>,
}

async fn run(
    stream: Box<dyn Stream>,
    mut wire: Wire,
    mut framer: Framer,
    probe_interval: Option<Duration>,
    mut requests: mpsc::UnboundedReceiver<Command>,
    end: watch::Sender<Option<Arc<SessionEnd>>>,
) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut probe = Probe::new(probe_interval, Instant::now());
    let mut flushed = true;
    let why = loop {
        let spare = framer.spare();
        spare.reserve(READ_BYTES);
        let backlog = wire.out.len() - wire.out_taken;
        let probe_due = probe.due();
        tokio::select! {
            read = reader.read_buf(spare) => match read {
                Ok(0) => break SessionEnd::Closed,
                Ok(bytes) => {
                    probe.heard(Instant::now());
                    wire.counters.bytes_in.fetch_add(bytes as u64, Relaxed);
                    if let Err(end) = wire.take_in(&mut framer) {
                        break end;
                    }
                }
                Err(e) => break SessionEnd::Io(e),
            },
            written = write_or_flush(&mut writer, &wire.out[wire.out_taken..]),
                if 0 < backlog || !flushed => match written {
                    Ok(bytes) => {
                        flushed = backlog == 0;
                        wire.gave_out(bytes);
                    }
                    Err(e) => break SessionEnd::Io(e),
                },
            command = requests.recv(), if backlog < OUT_BYTES_HIGH => match command {
                Some(command) => wire.obey(command),
                None => break SessionEnd::Dropped,
            },
            () = sleep_until(probe_due.unwrap_or_else(Instant::now)), if probe_due.is_some() => {
                match probe.look(Instant::now()) {
                    Silence::Bearable => {}
                    Silence::Ask => wire.queue(br#"{"method":"echo","params":[],"id":"echo"}"#),
                    Silence::Dead => {
                        break SessionEnd::Silent(2 * probe_interval.unwrap_or_default());
                    }
                }
            }
        }
    };
    tracing::debug!(%why, "session over");
    let why = Arc::new(why);
    end.send_replace(Some(why.clone()));
    for pending in wire.pending.into_values() {
        let sent = pending.bytes_end <= wire.bytes_written;
        let lost = CallError::Lost { method: pending.method, sent, source: why.clone() };
        (pending.on_reply)(Err(lost));
    }
}

/// Gives some of `out` to the kernel. If there is nothing left, makes TLS let
/// go of what it still holds back. Either can be dropped half-way.
async fn write_or_flush(writer: &mut (impl AsyncWrite + Unpin), out: &[u8]) -> io::Result<usize> {
    if out.is_empty() { writer.flush().await.map(|()| 0) } else { writer.write(out).await }
}

impl Wire {
    fn queue(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
        self.bytes_queued += text.len() as u64;
    }

    fn gave_out(&mut self, bytes: usize) {
        self.counters.bytes_out.fetch_add(bytes as u64, Relaxed);
        self.bytes_written += bytes as u64;
        self.out_taken += bytes;
        if self.out_taken == self.out.len() {
            self.out.clear();
            self.out.shrink_to(OUT_BYTES_HIGH);
            self.out_taken = 0;
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Call { id, method, text, on_reply } => {
                self.queue(&text);
                let bytes_end = self.bytes_queued;
                self.pending.insert(id, Pending { method, bytes_end, on_reply });
            }
            Command::Notify { text } => self.queue(&text),
            Command::Abandon { id } => {
                let Some(pending) = self.pending.get_mut(&id) else { return };
                // The entry stays until the reply: it must not surprise anyone.
                pending.on_reply = Box::new(|_| {});
                if pending.method == "transact" {
                    let cancel = format!(r#"{{"method":"cancel","params":[{id}],"id":null}}"#);
                    self.queue(cancel.as_bytes());
                }
            }
        }
    }

    fn take_in(&mut self, framer: &mut Framer) -> Result<(), SessionEnd> {
        while let Some(text) = framer.next_message()? {
            self.counters.messages_in.fetch_add(1, Relaxed);
            match Message::parse(text)? {
                Message::Reply { id, outcome } => self.deliver(id, outcome),
                Message::Notification { method, params } => (self.on_notification)(&method, params),
                Message::Request { method, params, id } => {
                    let mut reply = Vec::new();
                    let known = if method == "echo" { Ok(params) } else { Err("unknown method") };
                    write_reply(&mut reply, id, known);
                    self.queue(&reply);
                }
            }
        }
        Ok(())
    }

    fn deliver(&mut self, id: &RawValue, outcome: Result<&RawValue, &RawValue>) {
        let pending = id.get().parse().ok().and_then(|id: u64| self.pending.remove(&id));
        let Some(Pending { method, on_reply, .. }) = pending else {
            // The answer to our own probe, or one that came twice.
            tracing::trace!(%id, "a reply that nobody waits for");
            return;
        };
        on_reply(outcome.map_err(|error| match serde_json::from_str(error.get()) {
            Ok(source) => CallError::Refused { method, source },
            Err(e) => CallError::Malformed { method, source: Arc::new(e) },
        }));
    }
}
