//! What commands and the keeper of a lab's leases say to each other: a line of
//! JSON each way over a Unix socket. The socket is an abstract one: its name
//! belongs to the network namespace (`unix(7)`), can be taken only once, is free
//! again when its holder is gone, and is no file that somebody deletes.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::time::Duration;

use ipnet::Ipv4Net;
use nix::errno::Errno;
use nix::unistd::geteuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::super::error::KernelError;
use crate::model::names::{IfName, LabName, NodeName};
use crate::model::world::SeenLease;

/// An interface of the keeper's lab, or of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Whose {
    /// None for the host.
    pub(super) node: Option<NodeName>,
    pub(super) device: IfName,
}

/// A lease that another client has got, to be renewed in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfAnother {
    pub(super) address: Ipv4Net,
    /// By which the server knows the client: empty for its Ethernet address.
    pub(super) client_id: Vec<u8>,
}

/// What a command asks of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// What it keeps.
    List,
    /// To keep a lease for an interface from here on.
    Hold {
        whose: Whose,
        /// The namespace's name.
        netns: Option<String>,
        /// The address that it has by another client, if it is that one's lease.
        of_another: Option<OfAnother>,
    },
    /// To be told when there is an address.
    Await { whose: Whose, within_ms: u64 },
    /// To give a lease back and take its address off.
    End { whose: Whose },
}

/// What the keeper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tell {
    /// To `List`.
    Kept(Vec<(Whose, SeenLease)>),
    /// To `Hold`.
    Holds,
    /// To `Await`.
    Bound,
    /// To `Await`: there is none in time.
    Silent {
        /// Whether a server gave one.
        offered: bool,
    },
    /// To `End`.
    Ended {
        /// Whether the keeper has nothing left to keep, and ends.
        last: bool,
    },
    /// It cannot be done, with the kernel's number.
    Failed(i32),
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: BufReader<UnixStream>,
}

impl Line {
    /// Connects to the keeper of a lab, if there is one.
    pub(super) async fn connect(lab: &LabName) -> Result<Option<Self>, KernelError> {
        let asked = || format!("talk to the keeper of the leases of lab `{lab}`");
        let stream = match UnixStream::connect(format!("\0{}", name(lab))).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
            other => other.map_err(|error| KernelError::from_io(asked(), &error))?,
        };
        let peer = stream.peer_cred().map_err(|error| KernelError::from_io(asked(), &error))?;
        // Anybody can take a name; what they say there is not believed.
        if !may_be_trusted(peer.uid()) {
            return Err(KernelError::new(asked(), Errno::EACCES));
        }
        Ok(Some(Self::over(stream)))
    }

    pub(super) fn over(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Asks and awaits the answer: `EPIPE` if the keeper ended first.
    pub(super) async fn ask(&mut self, ask: &Ask, within: Duration) -> Result<Tell, Errno> {
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
        // A keeper that takes long to end is none of a command's business.
        let _ = timeout(within, self.hear::<Tell>()).await;
    }
}

/// Takes the name of a lab's keeper; `AddrInUse` if there is one.
pub(super) fn listen(lab: &LabName) -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(name(lab))?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn name(lab: &LabName) -> String {
    format!("ovsns/leases/{lab}")
}

/// Whether this user may order the keeper about, or be one: ourselves or root.
pub(super) fn may_be_trusted(user: u32) -> bool {
    user == geteuid().as_raw() || user == 0
}
