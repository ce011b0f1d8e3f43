//! The control API: the calls of `api` over JSON-RPC 2.0, on a Unix socket, and on TCP
//! if that is asked for.

mod aside;
mod client;
mod document;
mod http;
mod lines;
mod methods;
mod metrics;
mod settle;
mod socket;
mod subscriptions;
mod systemd;
mod tcp;
mod token;
mod watch;
mod web;
mod work;

use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{select_all, try_join};
use jsonrpsee::Methods;
use jsonrpsee::server::stop_channel;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

pub use client::{Client, ConnectError, Told};
pub use document::document;
use http::{Http, Said};
pub use methods::Info;
pub use metrics::Counts;
use metrics::Present;
pub use socket::{SocketError, path};
use tcp::Tcp;
pub use tcp::{TcpError, TcpOptions, TlsFiles};
pub use token::TokenError;
pub use watch::{Listener, Watch};
use web::Terminals;
use work::Works;

use crate::api::CallError;

/// The biggest request, in bytes: files of nodes may have 16 MiB in a lab, and JSON
/// may write each byte as several.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// How many requests a batch may hold.
const BATCH_MAX: u32 = 100;

/// How many clients there may be at once, on the Unix socket and on TCP each: those who
/// come from afar take nobody's place here.
const CLIENTS_MAX: usize = 512;

/// How long a client may take to say its first byte.
const FIRST_BYTE: Duration = Duration::from_secs(30);

/// How often at most it is said that there is no room for clients.
const A_SECOND: Duration = Duration::from_secs(1);

/// How long clients have to fetch their last answers when the server ends.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where its socket is.
    pub socket: PathBuf,
    /// A group whose members may connect, besides root and whoever runs it.
    pub group: Option<String>,
    /// Where clients may come in from afar, if they may.
    pub tcp: Option<TcpOptions>,
    /// Where the page is, if it is wanted.
    pub web: Option<TcpOptions>,
    /// Whether what is said is read by a person at a terminal, who may be told the token.
    pub tells_token: bool,
    /// Whether labs that drift are mended.
    pub keep: bool,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// No TCP.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// No thread to watch labs.
    #[error("could not watch labs")]
    Watch(#[source] io::Error),
    /// The socket does not take clients any more.
    #[error("could not take a client")]
    Accept(#[source] io::Error),
}

impl From<ServeError> for CallError {
    fn from(error: ServeError) -> Self {
        let hint = match &error {
            ServeError::Socket(SocketError::Taken(_)) => {
                "end that one first, or give this one another `--socket`".to_owned()
            }
            ServeError::Socket(SocketError::NoSocket(_)) => "give another `--socket`".to_owned(),
            ServeError::Socket(SocketError::Elsewhere { .. } | SocketError::Given(_)) => {
                "give the unit of the socket one `ListenStream=`, with that path".to_owned()
            }
            ServeError::Socket(SocketError::NoGroup(_)) => {
                "`getent group` lists the groups".to_owned()
            }
            ServeError::Watch(_) => "see `ulimit -u` and `ulimit -n`".to_owned(),
            ServeError::Socket(SocketError::File { .. }) | ServeError::Accept(_) => {
                "see to it that its directory can be written, and start it again".to_owned()
            }
            ServeError::Tcp(error) => error.hint(),
        };
        Self::Server { source: error.into(), hint }
    }
}

/// Serves until `stopped`; then it takes no more clients, finishes what it is at, and
/// goes. Labs stay as they are. `said` is called with what is worth a line in a log.
pub async fn serve(
    options: &Options,
    stopped: impl Future<Output = ()>,
    said: impl Fn(&str) + Send + Sync + 'static,
) -> Result<(), ServeError> {
    let said: Said = Arc::new(said);
    let counts = Arc::new(Counts::default());
    let (told, mending) = (Arc::clone(&said), Arc::clone(&counts));
    let watch =
        Watch::start(options.keep, move || mending.mended(), move |words: &str| told(words))
            .map_err(ServeError::Watch)?;
    let watch = Arc::new(watch);
    let listener = socket::listen(options)?;
    let (tcp, web) = match try_join(listen(&options.tcp), listen(&options.web)).await {
        Ok(both) => both,
        Err(error) => {
            listener.close();
            return Err(error.into());
        }
    };
    settle::settle(&|words: &str| said(words)).await;
    said(&format!("serving at {}", options.socket.display()));
    if let Some(tcp) = &tcp {
        said(&format!("serving at {}", tcp.url().map_err(ServeError::Accept)?));
    }
    if let (Some(web), Some(TcpOptions { token, .. })) = (&web, &options.web) {
        let url = web.url().map_err(ServeError::Accept)?;
        said(&match web.token().filter(|_| options.tells_token) {
            Some(token) => format!("page at {url}/#token={token}"),
            None => format!("page at {url}/ (the token is in {})", token.display()),
        });
    }
    let mut alive = JoinSet::new();
    alive.spawn(systemd::keep_alive(options.socket.clone(), Arc::clone(&said)));
    if let Err(error) = systemd::ready(&options.socket) {
        said(&format!("could not tell systemd that it serves: {error}"));
    }
    let works = Arc::new(Works::new(Arc::clone(&counts)));
    let methods: Methods = methods::module(&works, &watch).into();
    let (stop, stopping) = stop_channel();
    let (door, page, told) = (Arc::default(), None, Arc::clone(&said));
    let local = Http { door, methods, stop, page, counts, said: told };
    let behind = |tcp: Tcp, page| (Http { door: tcp.door(), page, ..local.clone() }, tcp);
    let page = Some(Terminals::default());
    let far: Vec<(Http, Tcp)> = tcp
        .map(|tcp| behind(tcp, None))
        .into_iter()
        .chain(web.map(|web| behind(web, page)))
        .collect();
    let places = [(); 2].map(|()| Arc::new(Semaphore::new(CLIENTS_MAX)));
    let [local_places, far_places] = &places;
    let (mut clients, mut complained) = (JoinSet::new(), None::<Instant>);
    tokio::pin!(stopped);
    loop {
        let came = tokio::select! {
            accepted = listener.accept() => accepted.map(Came::Local),
            accepted = from_afar(&far) => accepted.map(Came::Far),
            Some(_) = clients.join_next() => continue,
            () = &mut stopped => break,
        };
        let stream = match came {
            Ok(Came::Local(stream)) => stream,
            Ok(Came::Far((stream, by))) => {
                // One who is not known yet is not told that there are many.
                if let Ok(place) = Arc::clone(far_places).try_acquire_owned() {
                    let (http, tcp) = &far[by];
                    let present = http.counts.client("tcp");
                    clients.spawn(tcp.talk(stream, http.clone(), (place, present)));
                }
                continue;
            }
            // It went before it was taken, or there is no room: others go on.
            Err(error) if is_passing(&error) => {
                // It goes on being so until somebody goes, which is said now and then.
                if complained.is_none_or(|at| A_SECOND <= at.elapsed()) {
                    said(&format!("could not take a client: {error}"));
                    complained = Some(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => return Err(ServeError::Accept(error)),
        };
        if let Err(why) = listener.admits(&stream) {
            said(&format!("refused a client: {why}"));
            clients.spawn(refuse(stream, why));
            continue;
        }
        let Ok(place) = Arc::clone(local_places).try_acquire_owned() else {
            clients.spawn(refuse(stream, format!("there are {CLIENTS_MAX} clients already")));
            continue;
        };
        let present = local.counts.client("unix");
        clients.spawn(talk(stream, local.clone(), (place, present)));
    }
    said("ending: what is at work is finished first");
    drop(alive);
    if let Err(error) = systemd::stopping() {
        said(&format!("could not tell systemd that it ends: {error}"));
    }
    listener.close();
    drop(far);
    let _ = stopping.stop();
    works.finished().await;
    watch.end().await;
    let rest = async {
        while clients.join_next().await.is_some() {}
        // WebSockets have a place, and no task here.
        for places in &places {
            let _ = places.acquire_many(CLIENTS_MAX as u32).await;
        }
    };
    let _ = tokio::time::timeout(LAST_ANSWERS, rest).await;
    Ok(())
}

/// Somebody who has come.
enum Came {
    Local(UnixStream),
    Far((TcpStream, usize)),
}

/// Listens, if that is wanted.
async fn listen(options: &Option<TcpOptions>) -> Result<Option<Tcp>, TcpError> {
    match options {
        Some(options) => Tcp::listen(options).await.map(Some),
        None => Ok(None),
    }
}

/// The next client by TCP, and by which of several ways; none, if there is no TCP.
async fn from_afar(ways: &[(Http, Tcp)]) -> io::Result<(TcpStream, usize)> {
    if ways.is_empty() {
        return std::future::pending().await;
    }
    let (came, by, _) = select_all(ways.iter().map(|(_, tcp)| Box::pin(tcp.accept()))).await;
    came.map(|stream| (stream, by))
}

/// Whether the next client may fare better.
fn is_passing(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(
            Errno::ECONNABORTED
                | Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOBUFS
                | Errno::ENOMEM
                | Errno::EINTR
        )
    )
}

/// Tells a client why it is not served, in a line that is JSON-RPC.
async fn refuse(stream: UnixStream, why: String) {
    let told = lines::fault(&serde_json::Value::Null, -32000, &why);
    let _ = stream.writable().await;
    let _ = stream.try_write(format!("{told}\n").as_bytes());
}

/// Answers a client: HTTP and WebSocket, or a line a message, as its first byte tells.
async fn talk(stream: UnixStream, http: Http, place: (OwnedSemaphorePermit, Present)) {
    let first = tokio::time::timeout(FIRST_BYTE, first_byte(&stream)).await;
    let Ok(Ok(Some(first))) = first else { return };
    if first.is_ascii_uppercase() {
        http.serve(stream, place).await;
    } else {
        lines::serve(stream, http.methods, http.stop.shutdown()).await;
        drop(place);
    }
}

/// The first byte that a client says, which stays to be read.
async fn first_byte(stream: &UnixStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    let peek = || Ok(recv(stream.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK)?);
    let read = stream.async_io(Interest::READABLE, peek).await?;
    Ok((read == 1).then_some(byte[0]))
}
