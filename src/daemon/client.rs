//! A client of the server, with a type for each call.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jsonrpsee::core::client::{
    Client as RpcClient, ClientBuilder, ClientT, Error as RpcError, ReceivedMessage, Subscription,
    SubscriptionClientT, TransportReceiverT, TransportSenderT,
};
use jsonrpsee::core::traits::ToRpcParams;
use jsonrpsee::types::ErrorObjectOwned;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::methods::{FOLLOW, Follow, Heard, INFO, Info};
use super::subscriptions::{CAPTURE, EVENTS, Events, LOGS, STATS, Stats};
use crate::api::{
    Call, CallError, Capture, Event, Failure, News, NodeLogs, Piece, Reading, Spoken,
};

/// A lab of thousands of nodes takes its time; who waits can end it himself.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[error("no server answers at `{path}`")]
pub struct ConnectError {
    /// Its socket.
    pub path: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    inner: Arc<RpcClient>,
}

impl Client {
    /// Connects to the server of that socket.
    pub async fn connect(path: &Path) -> Result<Self, ConnectError> {
        let stream = UnixStream::connect(path).await;
        let failed = |source| ConnectError { path: path.display().to_string(), source };
        let (read, write) = stream.map_err(failed)?.into_split();
        let builder = ClientBuilder::new().request_timeout(PATIENCE);
        let builder = builder.max_buffer_capacity_per_subscription(4096);
        let inner = builder.build_with_tokio(Sender(write), Receiver(BufReader::new(read)));
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Asks what the server is.
    pub async fn info(&self) -> Result<Info, CallError> {
        self.inner.request(INFO, Parameters(())).await.map_err(|error| told(&error))
    }

    /// Has a call done.
    ///
    /// # Errors
    /// What the call says, or that the server went away.
    pub async fn call<C: Call>(&self, call: C) -> Result<C::Answer, CallError> {
        self.inner.request(C::NAME, Parameters(call)).await.map_err(|error| told(&error))
    }

    /// The same, and hears what it says meanwhile.
    ///
    /// # Errors
    /// What the call says, or that the server went away.
    pub async fn follow<C: Call>(
        &self,
        call: C,
        hear: &mut (dyn FnMut(News) + Send),
    ) -> Result<C::Answer, CallError> {
        let params = serde_json::to_value(&call).expect("our own types are JSON");
        let asked = Follow { method: C::NAME.to_owned(), params };
        let mut heard = self.subscribe::<Heard>(FOLLOW, asked).await?;
        while let Some(next) = heard.next().await {
            match next? {
                Heard::News(news) => hear(news),
                Heard::Answer(answer) => {
                    let answer = serde_json::from_value(answer);
                    return answer.map_err(|error| misunderstood(&error.to_string()));
                }
                Heard::Failure(failure) => return Err(CallError::Told(failure)),
            }
        }
        Err(gone())
    }

    /// Begins to hear what happens to labs, or to one: what happens after this has
    /// returned is heard of.
    ///
    /// # Errors
    /// Why nothing can be watched, or that the server went away.
    pub async fn events(&self, lab: Option<String>) -> Result<Told<Event>, CallError> {
        self.subscribe(EVENTS, Events { lab }).await
    }

    /// Begins to hear how fast the links of a lab are, each `interval` (from 0.1 s to
    /// 3600 s).
    ///
    /// # Errors
    /// There is no such lab, or the server went away.
    pub async fn stats(
        &self,
        lab: Option<String>,
        interval: Duration,
    ) -> Result<Told<Reading>, CallError> {
        self.subscribe(STATS, Stats { lab, interval: interval.as_secs_f64() }).await
    }

    /// Begins to capture packets: what passes after this has returned is captured. It
    /// ends with what this returns, or by itself.
    ///
    /// # Errors
    /// As of [`Capture::begin`], or the server went away.
    pub async fn capture(&self, asked: Capture) -> Result<Told<Piece>, CallError> {
        self.subscribe(CAPTURE, asked).await
    }

    /// Begins to hear what processes of a node have said, and go on to say.
    ///
    /// # Errors
    /// Nothing has run in such a node, or the server went away.
    pub async fn logs(&self, asked: NodeLogs) -> Result<Told<Spoken>, CallError> {
        self.subscribe(LOGS, asked).await
    }

    async fn subscribe<T: DeserializeOwned>(
        &self,
        [name, _, stop]: [&'static str; 3],
        asked: impl Serialize + Send,
    ) -> Result<Told<T>, CallError> {
        let inner = self.inner.subscribe(name, Parameters(asked), stop).await;
        let inner = inner.map_err(|error| told(&error))?;
        Ok(Told { inner, _connection: Arc::clone(&self.inner) })
    }
}

/// What a subscription tells, until it is dropped.
#[derive(Debug)]
pub struct Told<T> {
    inner: Subscription<T>,
    /// Ends with the last who has it.
    _connection: Arc<RpcClient>,
}

impl<T: DeserializeOwned> Told<T> {
    /// Awaits the next; `None` when no more will come.
    ///
    /// # Errors
    /// It is not understood.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        let next = self.inner.next().await?;
        Some(next.map_err(|error| misunderstood(&error.to_string())))
    }
}

/// Parameters by their names.
struct Parameters<T>(T);

impl<T: Serialize> ToRpcParams for Parameters<T> {
    fn to_rpc_params(self) -> Result<Option<Box<RawValue>>, serde_json::Error> {
        to_raw_value(&self.0).map(Some)
    }
}

fn told(error: &RpcError) -> CallError {
    match error {
        RpcError::Call(refused) => CallError::Told(failure(refused)),
        RpcError::ParseError(error) => misunderstood(&error.to_string()),
        _ => gone(),
    }
}

fn failure(refused: &ErrorObjectOwned) -> Failure {
    let data = refused.data().and_then(|data| serde_json::from_str(data.get()).ok());
    data.unwrap_or_else(|| Failure::new(refused.message(), None, 2))
}

/// It was killed, or ended while this waited, or this was stopped for an hour.
fn gone() -> CallError {
    let hint = "`ovsns status` shows what is there; `--no-server` goes without it";
    CallError::Told(Failure::new("the server went away before it answered", Some(hint), 3))
}

fn misunderstood(why: &str) -> CallError {
    let hint = "it may be of another version: start it again";
    let failure = Failure::new("the server's answer is not understood", Some(hint), 3);
    CallError::Told(Failure { causes: vec![why.to_owned()], ..failure })
}

struct Sender(OwnedWriteHalf);

impl TransportSenderT for Sender {
    type Error = io::Error;
    async fn send(&mut self, mut message: String) -> io::Result<()> {
        message.push('\n');
        self.0.write_all(message.as_bytes()).await
    }
}

struct Receiver(BufReader<OwnedReadHalf>);

impl TransportReceiverT for Receiver {
    type Error = io::Error;
    async fn receive(&mut self) -> io::Result<ReceivedMessage> {
        let mut line = String::new();
        match self.0.read_line(&mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(ReceivedMessage::Text(line)),
        }
    }
}
