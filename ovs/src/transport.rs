//! Opening the stream of bytes to a [`Remote`].

use std::io;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::spawn_blocking;

use crate::remote::{HostPort, Remote};
#[cfg(feature = "tls")]
use crate::tls::Tls;

/// How long a thread waits for a place in the queue of a socket at a time.
const QUEUED: Duration = Duration::from_millis(500);

/// Any stream that a session can run over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Why no stream came to be.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The socket said no.
    #[error("could not connect to `{remote}`")]
    Socket {
        /// Where to.
        remote: Remote,
        /// The kernel's or the resolver's answer.
        source: io::Error,
    },
    /// An `ssl:` remote, and no certificates are given to speak TLS with.
    #[error("`{remote}` needs TLS, and no certificates are given")]
    NoTls {
        /// Where to.
        remote: Remote,
    },
    /// The two sides could not agree, or do not trust each other.
    #[error("no TLS with `{remote}`")]
    Tls {
        /// Where to.
        remote: Remote,
        /// What rustls says.
        source: io::Error,
    },
}

/// What a stream needs besides its remote.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
}

/// Connects, without a bound on the time it takes.
pub(crate) async fn open(
    remote: &Remote,
    credentials: &Credentials,
) -> Result<Box<dyn Stream>, OpenError> {
    let refused = |source| OpenError::Socket { remote: remote.clone(), source };
    match remote {
        Remote::Unix(path) => Ok(Box::new(unix(path).await.map_err(refused)?)),
        Remote::Tcp(to) => Ok(Box::new(tcp(to).await.map_err(refused)?)),
        #[cfg(feature = "tls")]
        Remote::Ssl(to) => {
            let Some(tls) = &credentials.tls else {
                return Err(OpenError::NoTls { remote: remote.clone() });
            };
            let stream = tcp(to).await.map_err(refused)?;
            let stream = tls.connect(to, stream).await;
            let failed = |source| OpenError::Tls { remote: remote.clone(), source };
            Ok(Box::new(stream.map_err(failed)?))
        }
        #[cfg(not(feature = "tls"))]
        Remote::Ssl(_) => {
            let _ = credentials;
            Err(OpenError::NoTls { remote: remote.clone() })
        }
    }
}

/// Connects to a Unix socket, and waits for a place in its queue.
///
/// `connect(2)` does not do that for a socket that does not block (`EAGAIN`), nor does
/// `poll(2)` tell when there is room: the queue of `ovs-vswitchd` takes ten.
async fn unix(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        let address = SockAddr::unix(path)?;
        let queued = spawn_blocking(move || -> io::Result<std::os::unix::net::UnixStream> {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // As long as the thread may be left alone with it by who waits no more.
            socket.set_write_timeout(Some(QUEUED))?;
            socket.connect(&address)?;
            socket.set_write_timeout(None)?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        });
        match queued.await.map_err(io::Error::other)? {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return UnixStream::from_std(done?),
        }
    }
}

async fn tcp(to: &HostPort) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    // Requests are small and each is waited for: Nagle would add a round trip.
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of one place (`listen(2)` takes the backlog and one more), which is
    /// taken: who comes next waits, and is served when it is empty.
    #[tokio::test(flavor = "current_thread")]
    async fn a_full_queue_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        listener.bind(&SockAddr::unix(&path).expect("short")).expect("a name");
        listener.listen(0).expect("it listens");
        let _first = UnixStream::connect(&path).await.expect("a place");
        let full = UnixStream::connect(&path).await.expect_err("no place");
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let (second, served) = tokio::join!(unix(&path), async {
            // Longer than a thread waits at a time.
            tokio::time::sleep(QUEUED * 2).await;
            spawn_blocking(move || listener.accept().map(|_| listener)).await
        });
        assert!(second.is_ok() && served.is_ok_and(|it| it.is_ok()));
    }
}
