//! TLS as `ovs-pki` sets it up: both sides show a certificate of one authority.
//!
//! A certificate made by `ovs-pki` names no host: its subject alternative name
//! is `DNS:` and a made-up identity. So a server is trusted here if its chain
//! leads to the given authority, which is what Open vSwitch itself checks; the
//! name is looked at only when [`Tls::expect_name`] asks for it. Whoever holds
//! any certificate of that authority can stand in for the server: give the
//! authority to nobody else, as ovs-pki(8) says.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime,
};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::remote::HostPort;

/// The three files that the programs of Open vSwitch call `--private-key`,
/// `--certificate` and `--ca-cert`, ready for use.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
    parts: Arc<Parts>,
}

/// Kept so that [`Tls::expect_name`] can make another configuration of them.
struct Parts {
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or has no PEM block of the right kind.
    #[error("could not read the {what} `{}`", path.display())]
    File {
        /// What the file should hold.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Key and certificate do not belong together, or are of an unknown kind.
    #[error("could not use the certificate with its key")]
    Certificate {
        /// What rustls says.
        source: rustls::Error,
    },
    /// The expected name cannot be a name.
    #[error("`{0}` cannot be the name in a certificate")]
    Name(String, #[source] InvalidDnsNameError),
}

impl std::fmt::Debug for Tls {
    /// Says nothing of the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads three PEM files: this client's private key, its certificate (with
    /// any intermediate ones after it), and the authority that signed the
    /// server's: for `ovs-pki`, `sc-privkey.pem`, `sc-cert.pem` and
    /// `switchca/cacert.pem` or `controllerca/cacert.pem`.
    pub fn from_files(
        private_key: impl AsRef<Path>,
        certificate: impl AsRef<Path>,
        ca_cert: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let key_path = private_key.as_ref();
        let key = PrivateKeyDer::from_pem_file(key_path).map_err(|source| TlsError::File {
            what: "private key",
            path: key_path.into(),
            source,
        })?;
        let chain = certificates("certificate", certificate.as_ref())?;
        let mut roots = RootCertStore::empty();
        for anchor in certificates("CA certificate", ca_cert.as_ref())? {
            roots.add(anchor).map_err(|source| TlsError::Certificate { source })?;
        }
        let parts = Parts { roots: Arc::new(roots), chain, key };
        let config = Arc::new(configure(&parts, false)?);
        Ok(Self { config, name: None, parts: Arc::new(parts) })
    }

    /// Also asks that the server's certificate be for `name`.
    pub fn expect_name(self, name: &str) -> Result<Self, TlsError> {
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|source| TlsError::Name(name.to_owned(), source))?;
        let config = Arc::new(configure(&self.parts, true)?);
        Ok(Self { config, name: Some(server_name), parts: self.parts })
    }

    pub(crate) async fn connect(
        &self,
        to: &HostPort,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        // Without an expected name, the host goes along as a hint for the
        // server; what cannot be a host name becomes an address that says nothing.
        let hint = || {
            let unspecified = std::net::Ipv4Addr::UNSPECIFIED;
            ServerName::try_from(to.host.clone())
                .unwrap_or(ServerName::IpAddress(std::net::IpAddr::from(unspecified).into()))
        };
        let name = self.name.clone().unwrap_or_else(hint);
        TlsConnector::from(self.config.clone()).connect(name, stream).await
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { what, path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn configure(parts: &Parts, check_name: bool) -> Result<ClientConfig, TlsError> {
    let failed = |source| TlsError::Certificate { source };
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = if check_name {
        builder.with_root_certificates(parts.roots.clone())
    } else {
        let verifier = ChainOnly { roots: parts.roots.clone(), provider };
        builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
    };
    builder.with_client_auth_cert(parts.chain.clone(), parts.key.clone_key()).map_err(failed)
}

/// Trusts any certificate that the authority signed, whatever name is in it.
#[derive(Debug)]
struct ChainOnly {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
