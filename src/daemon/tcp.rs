//! TCP: HTTP and WebSocket for whoever knows the token, by TLS unless they stay on this
//! machine.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use super::http::{Door, Http};
use super::token::{Token, TokenError};

/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// After how long the kernel asks whether the other end is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Where clients may come in by TCP, and how.
#[derive(Debug, Clone)]
pub struct TcpOptions {
    /// At which address.
    pub address: SocketAddr,
    /// The file of the token that they have to know.
    pub token: PathBuf,
    /// The files of a certificate and its key.
    pub tls: Option<TlsFiles>,
}

/// By what a server is known. Both are PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Its certificate, and those between that and an authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why there is no TCP.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Others on the way would read the token.
    #[error("`{0}` is not a loopback address, and there is no certificate")]
    Plain(SocketAddr),
    /// A file cannot be read, or has nothing of that kind.
    #[error("could not read the {what} `{}`", path.display())]
    File {
        /// What it should hold.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Everybody on this machine can be this server.
    #[error("everybody can read the key `{}`: its mode is {mode:04o}", path.display())]
    OpenKey {
        /// Where it is.
        path: PathBuf,
        /// In the notation of chmod.
        mode: u32,
    },
    /// They do not belong together, or are of an unknown kind.
    #[error("could not use the certificate with its key")]
    Certificate(#[source] rustls::Error),
    /// Somebody else is there, or that address is none of this machine.
    #[error("could not listen at `{address}`")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl TcpError {
    /// A thing to do.
    pub(super) fn hint(&self) -> String {
        let make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                    -days 365 -subj /CN=ovsns";
        match self {
            Self::Token(error) => error.hint(),
            Self::Plain(address) => {
                let name = match address.ip() {
                    ip if ip.is_unspecified() => "DNS:$(hostname)".to_owned(),
                    ip => format!("IP:{ip}"),
                };
                format!(
                    "give `--cert cert.pem --key key.pem`; this makes them: `{make} \
                     -addext subjectAltName={name} -keyout key.pem -out cert.pem`"
                )
            }
            Self::OpenKey { path, .. } => {
                format!("`chmod o= {}`; whoever has read it still has it", path.display())
            }
            Self::File { .. } | Self::Certificate(_) => {
                "both are PEM, and of one pair: `openssl x509 -pubkey -noout -in CERT` and \
                 `openssl pkey -pubout -in KEY` print the same"
                    .to_owned()
            }
            Self::Bind { .. } => {
                "`ss -ltnp` shows who listens where, `ip -brief address` the addresses".to_owned()
            }
        }
    }
}

/// A socket that takes clients from afar.
pub(super) struct Tcp {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    door: Arc<Door>,
}

impl Tcp {
    /// Listens, if that is safe.
    pub(super) async fn listen(options: &TcpOptions) -> Result<Self, TcpError> {
        let TcpOptions { address, token, tls } = options;
        let token = Token::of_file(token)?;
        let tls = tls.as_ref().map(acceptor).transpose()?;
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(TcpError::Plain(*address));
        }
        let failed = |source| TcpError::Bind { address: *address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let door = Arc::new(Door { token: Some(token), by_loopback_name: tls.is_none() });
        Ok(Self { listener, tls, door })
    }

    /// Where it is, as clients write it.
    pub(super) fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// What clients have to know.
    pub(super) fn token(&self) -> Option<&str> {
        self.door.token.as_ref().map(Token::text)
    }

    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// What asks clients who come in here; the rest of it is as at the other door.
    pub(super) fn door(&self) -> Arc<Door> {
        Arc::clone(&self.door)
    }

    /// Answers a client until it goes, or the server ends.
    pub(super) fn talk(
        &self,
        stream: TcpStream,
        http: Http,
        place: impl Send + Sync + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let tls = self.tls.clone();
        async move {
            // Who has gone without a word keeps no place; answers are not held back.
            let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE);
            let _ = SockRef::from(&stream).set_tcp_keepalive(&keep_alive);
            let _ = stream.set_nodelay(true);
            let Some(tls) = tls else { return http.serve(stream, place).await };
            let agreed = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await;
            // It went, was slow, or speaks no TLS.
            let Ok(Ok(stream)) = agreed else { return };
            http.serve(stream, place).await;
        }
    }
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TcpError> {
    let TlsFiles { certificate, key } = files;
    let failed = |what, path: &Path, source| TcpError::File { what, path: path.into(), source };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(|source| failed("certificate", certificate, source))?;
    // A group may have it, such as `ssl-cert`.
    if let Ok(mode) = std::fs::metadata(key).map(|it| it.mode() & 0o7777)
        && mode & 0o006 != 0
    {
        return Err(TcpError::OpenKey { path: key.clone(), mode });
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|source| failed("key", key, source))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TcpError::Certificate)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
