//! Terminals for the page: a shell in a node, as `ovsns shell` opens it, on a terminal of
//! its own that ends with its WebSocket. Bytes go both ways as they are; what is said
//! besides is JSON: at first [`Asked::Open`], later [`Asked::Size`], and by the server
//! at last how it ended.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use futures::io::{BufReader, BufWriter};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use jsonrpsee::server::{HttpBody, HttpResponse, StopHandle};
use pty_process::{OwnedReadPty, OwnedWritePty, Pty, Size};
use serde::Deserialize;
use serde_json::json;
use soketto::handshake::http::Server;
use soketto::{Data, Incoming as Heard, connection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use crate::api::NodeWords;
use crate::kernel::error::words_of;

/// Where they are asked for.
pub(crate) const PATH: &str = "/terminal";

/// How many there may be at once.
const TERMINALS_MAX: usize = 32;

/// The most that is pasted at once, in bytes.
const PASTED_MAX: usize = 1 << 20;

/// The biggest screen, in letters a side.
const SIDE_MAX: u16 = 1000;

/// How long a browser may take to say what it wants, and to take what is shown.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a browser is asked whether it is still there.
const PULSE: Duration = Duration::from_secs(20);

/// How long a shell that was hung up on may take to end before it is killed.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a browser says as text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Asked {
    /// Of which node, and how big it is.
    Open { lab: String, node: String, size: [u16; 2] },
    /// How big it is by now: columns and rows.
    Size([u16; 2]),
}

type Socket = BufReader<BufWriter<Compat<TokioIo<Upgraded>>>>;
type Sender = connection::Sender<Socket>;
type Receiver = connection::Receiver<Socket>;

/// All terminals of a server.
#[derive(Clone)]
pub(crate) struct Terminals(Arc<Semaphore>);

impl Default for Terminals {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TERMINALS_MAX)))
    }
}

impl Terminals {
    /// Answers whoever asks for one, who has come in already. `place` is the client's
    /// among all clients.
    pub(crate) fn open(
        &self,
        mut request: Request<Incoming>,
        place: Arc<impl Send + Sync + 'static>,
        stop: StopHandle,
    ) -> HttpResponse {
        let mut server = Server::new();
        let Ok(answer) = server.receive_request(&request) else {
            let mut refusal = HttpResponse::new(HttpBody::from("a terminal is a WebSocket\n"));
            *refusal.status_mut() = StatusCode::UPGRADE_REQUIRED;
            return refusal;
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let own = Arc::clone(&self.0).try_acquire_owned().ok();
        tokio::spawn(async move {
            // It ends with the server, and has nothing that would have to be finished.
            tokio::select! {
                () = serve(upgrade, server, own) => {}
                () = stop.shutdown() => {}
            }
            drop(place);
        });
        answer.map(|()| HttpBody::empty())
    }
}

/// One terminal, until its shell or its browser is gone.
async fn serve(upgrade: OnUpgrade, server: Server, own: Option<OwnedSemaphorePermit>) {
    let Ok(upgraded) = upgrade.await else { return };
    let io = TokioIo::new(upgraded).compat();
    let mut builder = server.into_builder(BufReader::new(BufWriter::new(io)));
    builder.set_max_message_size(PASTED_MAX);
    builder.set_max_frame_size(PASTED_MAX);
    let (mut sender, mut receiver) = builder.finish();
    let ended = match own {
        Some(_) => live(&mut sender, &mut receiver).await,
        None => Some(format!("there are {TERMINALS_MAX} terminals already; close one")),
    };
    // Nothing is said to who has gone.
    let Some(ended) = ended else { return };
    let farewell = async {
        sender.send_text_owned(json!({ "ended": ended }).to_string()).await?;
        sender.close().await
    };
    let _ = timeout(PATIENCE, farewell).await;
}

/// Has a shell, and returns how it ended; nothing if the browser went first.
async fn live(sender: &mut Sender, receiver: &mut Receiver) -> Option<String> {
    let (pty, mut shell) = match timeout(PATIENCE, wanted(receiver)).await.ok()?? {
        Ok(opened) => opened,
        Err(why) => return Some(why),
    };
    let (read, write) = pty.into_split();
    let has_ended = tokio::select! {
        has_ended = show(read, sender) => has_ended,
        () = type_in(receiver, write) => false,
    };
    // Both halves are gone: whoever is on that terminal is hung up on.
    let ended = match timeout(FAREWELL, shell.wait()).await {
        Ok(ended) => ended,
        Err(_) => match shell.kill().await {
            Ok(()) => shell.wait().await,
            Err(error) => Err(error),
        },
    };
    has_ended.then(|| farewell(&ended))
}

/// Opens what is asked for, or says why not; nothing if nothing is asked.
async fn wanted(receiver: &mut Receiver) -> Option<Result<(Pty, Child), String>> {
    let mut said = Vec::new();
    receiver.receive_data(&mut said).await.ok()?;
    let Ok(Asked::Open { lab, node, size }) = serde_json::from_slice(&said) else {
        return Some(Err("the first message is `open`, with `lab`, `node` and `size`".to_owned()));
    };
    let words = match NodeWords::new(&node, Some(&lab)) {
        Ok(words) => words,
        Err(error) => return Some(Err(error.to_string())),
    };
    let place = format!("{lab}/{}", words.node);
    Some(open(&place, size).map_err(|error| format!("could not open a terminal: {error}")))
}

/// A shell in a node, on a terminal of its own.
fn open(place: &str, [columns, rows]: [u16; 2]) -> Result<(Pty, Child), String> {
    let told = |error: pty_process::Error| match &error {
        pty_process::Error::Io(error) => words_of(error),
        pty_process::Error::Rustix(errno) => words_of(&io::Error::from(*errno)),
        _ => error.to_string(),
    };
    let (pty, inside) = pty_process::open().map_err(told)?;
    pty.resize(size(columns, rows)).map_err(told)?;
    // No thread of a server can enter a node and come back, so it is a process of its
    // own, and the same as on a command line.
    let command = pty_process::Command::new("/proc/self/exe");
    let command = command.args(["shell", place]).env("TERM", "xterm-256color").kill_on_drop(true);
    Ok((pty, command.spawn(inside).map_err(told)?))
}

fn size(columns: u16, rows: u16) -> Size {
    Size::new(rows.clamp(1, SIDE_MAX), columns.clamp(1, SIDE_MAX))
}

/// Shows what comes from the terminal, until nobody is left on it (then true) or at the
/// other end.
async fn show(mut read: OwnedReadPty, sender: &mut Sender) -> bool {
    let mut bytes = vec![0; 16 << 10];
    let mut pulse = interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let said = tokio::select! {
            read = read.read(&mut bytes) => match read {
                Ok(count @ 1..) => Some(count),
                // EIO is how a terminal says that nobody is left on it.
                Ok(0) | Err(_) => return true,
            },
            _ = pulse.tick() => None,
        };
        let sent = async {
            match said {
                Some(count) => sender.send_binary(&bytes[..count]).await?,
                None => sender.send_ping((&[][..]).try_into().expect("it is short")).await?,
            }
            sender.flush().await
        };
        if !timeout(PATIENCE, sent).await.is_ok_and(|sent| sent.is_ok()) {
            return false;
        }
    }
}

/// Types what the browser says, until it goes.
async fn type_in(receiver: &mut Receiver, mut write: OwnedWritePty) {
    let mut said = Vec::new();
    loop {
        said.clear();
        let kind = match receiver.receive(&mut said).await {
            Ok(Heard::Data(kind)) => kind,
            Ok(Heard::Pong(_)) => continue,
            Ok(Heard::Closed(_)) | Err(_) => return,
        };
        let typed = match kind {
            Data::Binary(_) => write.write_all(&said).await.is_ok(),
            Data::Text(_) => match serde_json::from_slice(&said) {
                Ok(Asked::Size([columns, rows])) => write.resize(size(columns, rows)).is_ok(),
                Ok(Asked::Open { .. }) | Err(_) => false,
            },
        };
        if !typed {
            return;
        }
    }
}

/// How a shell ended, in words.
fn farewell(ended: &io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) if status.success() => "the shell has ended".to_owned(),
        Ok(status) => match status.code() {
            Some(code) => format!("the shell has ended with status {code}"),
            None => format!("the shell was ended: {status}"),
        },
        Err(error) => format!("the shell has ended: {}", words_of(error)),
    }
}
