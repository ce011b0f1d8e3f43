//! Opening the stream of bytes to a [`Remote`].

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::remote::{HostPort, Remote};
#[cfg(feature = "tls")]
use crate::tls::Tls;

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
        Remote::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(refused)?)),
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

async fn tcp(to: &HostPort) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    // Requests are small and each is waited for: Nagle would add a round trip.
    stream.set_nodelay(true)?;
    Ok(stream)
}
