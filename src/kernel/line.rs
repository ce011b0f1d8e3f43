//! What commands and the processes that keep something say to each other: a line
//! of JSON each way over a Unix socket. The socket is an abstract one: its name
//! belongs to the network namespace (`unix(7)`), can be taken only once, is free
//! again when its holder is gone, and is no file that somebody deletes.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::KernelError;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: BufReader<UnixStream>,
}

impl Line {
    /// Connects to whoever has taken `name`, if anybody has. `whom` is what a
    /// message calls it.
    pub(super) fn connect(name: &str, whom: &str) -> Result<Option<Self>, KernelError> {
        let Some((stream, _)) = connect(name, whom)? else { return Ok(None) };
        let fail = |error: io::Error| KernelError::from_io(format!("talk to {whom}"), &error);
        stream.set_nonblocking(true).map_err(fail)?;
        Ok(Some(Self::over(UnixStream::from_std(stream).map_err(fail)?)))
    }

    pub(super) fn over(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Asks and awaits the answer: `EPIPE` if the other end was closed first.
    pub(super) async fn ask<T: DeserializeOwned>(
        &mut self,
        ask: &impl Serialize,
        within: Duration,
    ) -> Result<T, Errno> {
        let answer = timeout(within, async {
            self.say(ask).await?;
            self.hear().await.ok_or(Errno::EPIPE)
        });
        answer.await.unwrap_or(Err(Errno::ETIMEDOUT))
    }

    pub(super) async fn say(&mut self, message: &impl Serialize) -> Result<(), Errno> {
        let mut text = serde_json::to_vec(message).expect("our own types have no odd keys");
        text.push(b'\n');
        self.stream.get_mut().write_all(&text).await.map_err(|_| Errno::EPIPE)
    }

    /// The next message; `None` at the end of the connection.
    pub(super) async fn hear<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut text = String::new();
        match self.stream.read_line(&mut text).await {
            Ok(1..) => serde_json::from_str(&text).ok(),
            Ok(0) | Err(_) => None,
        }
    }

    /// Awaits that the other end is gone.
    pub(super) async fn ended(mut self, within: Duration) {
        // One that takes long to end is none of a command's business.
        let _ = timeout(within, self.hear::<serde_json::Value>()).await;
    }
}

/// Connects to whoever has taken `name`, and tells its process id as this
/// process sees it.
pub(super) fn connect(name: &str, whom: &str) -> Result<Option<(StdStream, i32)>, KernelError> {
    let asked = || format!("talk to {whom}");
    let fail = |error: io::Error| KernelError::from_io(asked(), &error);
    let address = SocketAddr::from_abstract_name(name).map_err(fail)?;
    let stream = match StdStream::connect_addr(&address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
        other => other.map_err(fail)?,
    };
    let peer = getsockopt(&stream, sockopt::PeerCredentials);
    let peer = peer.map_err(|errno| KernelError::new(asked(), errno))?;
    // Anybody can take a name; what they say there is not believed.
    if !may_be_trusted(peer.uid()) {
        return Err(KernelError::new(asked(), Errno::EACCES));
    }
    Ok(Some((stream, peer.pid())))
}

/// Takes a name; `AddrInUse` if somebody has it.
pub(super) fn listen(name: &str) -> io::Result<StdListener> {
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whether this user may order us about, or keep something: ourselves or root.
pub(super) fn may_be_trusted(user: u32) -> bool {
    user == geteuid().as_raw() || user == 0
}
