//! What commands and the keeper say to each other: lines of JSON over a Unix
//! socket. The socket is an abstract one: such a name belongs to the network
//! namespace (`unix(7)`, `network_namespaces(7)`), can be taken only once, is
//! free again when its holder is gone, and is no file that somebody deletes.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::time::Duration;

use nix::unistd::geteuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::{ADDRESS, Facts, OwnError};

/// What a command asks of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// How it stands. Changes nothing.
    Show,
    /// To be told when Open vSwitch can be used, and that it stays until the
    /// connection ends; with `keep`, until it is told to stop.
    Hold {
        /// Whether it stays afterwards, used or not.
        keep: bool,
    },
    /// To stop Open vSwitch if nobody else needs it.
    Leave,
    /// To stop Open vSwitch.
    Stop,
}

/// What the keeper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tell {
    /// To `Show`.
    Shown(Facts),
    /// To `Hold`.
    Held(Facts),
    /// To `Leave`: it is needed.
    Stays {
        /// For what.
        why: String,
    },
    /// To `Leave` and `Stop`: nothing is left but the keeper, which ends now.
    Stopped,
    /// To the command that started it: another keeper was faster.
    Taken,
    /// It cannot be done.
    Failed(OwnError),
}

/// The connection ended.
#[derive(Debug)]
pub(super) struct Lost;

/// The command's end of a connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: BufReader<UnixStream>,
}

impl Line {
    /// Connects to the keeper of this network namespace, if there is one.
    pub(super) async fn connect() -> Result<Option<Self>, OwnError> {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset};
        let stream = match UnixStream::connect(format!("\0{ADDRESS}")).await {
            // Reset by one that ended before it had answered.
            Err(error) if matches!(error.kind(), ConnectionRefused | ConnectionReset) => {
                return Ok(None);
            }
            other => other.map_err(OwnError::io(format!("connect to `@{ADDRESS}`")))?,
        };
        let peer = stream.peer_cred().map_err(OwnError::io("ask who the keeper is"))?;
        if !may_be_trusted(peer.uid()) {
            let process = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
            return Err(OwnError::Stranger { process, user: peer.uid() });
        }
        Ok(Some(Self::over(stream)))
    }

    /// The command's end of a pair of sockets, of which a keeper that it
    /// starts has the other.
    pub(super) fn over(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Asks and awaits the answer: `Ok(Err(Lost))` if the keeper ended first,
    /// `Err` if there was none in time.
    pub(super) async fn ask(
        &mut self,
        ask: &Ask,
        within: Duration,
    ) -> Result<Result<Tell, Lost>, tokio::time::error::Elapsed> {
        timeout(within, async {
            self.stream.get_mut().write_all(&line(ask)).await.map_err(|_| Lost)?;
            self.next().await
        })
        .await
    }

    /// Awaits that the keeper is gone.
    pub(super) async fn ended(mut self, within: Duration) {
        let gone = async { while self.next::<Tell>().await.is_ok() {} };
        let _ = timeout(within, gone).await;
    }

    async fn next<T: DeserializeOwned>(&mut self) -> Result<T, Lost> {
        let mut text = String::new();
        match self.stream.read_line(&mut text).await {
            Ok(1..) => serde_json::from_str(&text).map_err(|_| Lost),
            Ok(0) | Err(_) => Err(Lost),
        }
    }
}

/// Takes the name in this network namespace; `AddrInUse` if a keeper has it.
pub(super) fn listen() -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(ADDRESS)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// One message as it goes over the socket.
pub(super) fn line(message: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(message).expect("our own types have no maps with odd keys");
    text.push(b'\n');
    text
}

/// Whether this user may order the keeper about, or be one: ourselves or root.
pub(super) fn may_be_trusted(user: u32) -> bool {
    user == geteuid().as_raw() || user == 0
}
