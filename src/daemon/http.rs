//! HTTP: the one place where it is decided whether a request is answered, and by whom.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    SEC_WEBSOCKET_PROTOCOL, WWW_AUTHENTICATE,
};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::Methods;
use jsonrpsee::server::{
    BatchRequestConfig, HttpBody, HttpResponse, PingConfig, Server, ServerConfig, StopHandle,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::metrics::{self, Counts};
use super::token::{Token, subprotocols};
use super::web::{self, Terminals};
use super::{BATCH_MAX, REQUEST_BYTES_MAX};

/// How long a client may take for the head of a request, and may say nothing between
/// two of them; and how long it may say nothing in the middle of one.
const PATIENCE: Duration = Duration::from_secs(30);

/// The subprotocol of a WebSocket to this server.
const SUBPROTOCOL: &str = "ovsns";

/// The way by which clients come in, and what is asked of them there.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// What they have to know.
    pub(super) token: Option<Token>,
    /// Whether they have to have come by a name of this machine's loopback: where there
    /// is no certificate, a page of anybody may have its own name lead here.
    pub(super) by_loopback_name: bool,
}

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// A page of another site made a browser ask.
    Origin,
    /// It came by a name that is none of this machine's.
    Host,
    /// It does not know the token.
    Token,
}

impl Door {
    /// Whether a request with these headers is nothing that a browser sends on behalf of
    /// a foreign page. It is asked first, so that such a page learns nothing of the token.
    fn is_no_trick(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = only(headers, HOST).map_err(|()| Refusal::Host)?;
        if let Some(origin) = only(headers, ORIGIN).map_err(|()| Refusal::Origin)? {
            let of_site = ["http://", "https://"].iter().find_map(|it| origin.strip_prefix(it));
            let is_own = |host: &str| of_site.is_some_and(|it| it.eq_ignore_ascii_case(host));
            if !host.is_some_and(is_own) {
                return Err(Refusal::Origin);
            }
        }
        if self.by_loopback_name && !host.is_some_and(is_loopback) {
            return Err(Refusal::Host);
        }
        Ok(())
    }

    /// Whether it knows the token, if there is one.
    fn is_known(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.token {
            Some(token) if !token.admits(headers) => Err(Refusal::Token),
            Some(_) | None => Ok(()),
        }
    }
}

/// The value of a header that may be there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().map_err(drop)).transpose()?;
    if values.next().is_some() { Err(()) } else { Ok(value) }
}

/// Whether a `Host` is this machine's loopback, by a name that nobody else can give.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    // Somebody's name before an `@` is none of a `Host`.
    if host.contains('@') {
        return false;
    }
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

impl Refusal {
    fn answer(self) -> HttpResponse {
        let (status, words) = match self {
            Self::Origin => (StatusCode::FORBIDDEN, "pages of other sites may not ask this server"),
            Self::Host => (StatusCode::FORBIDDEN, "ask by `localhost` or a loopback address"),
            Self::Token => (StatusCode::UNAUTHORIZED, "the token is missing or wrong"),
        };
        let mut answer = text(status, words);
        let headers = answer.headers_mut();
        // Whoever may not come in keeps no place here.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if self == Self::Token {
            let scheme = HeaderValue::from_static("Bearer realm=\"ovsns\"");
            headers.insert(WWW_AUTHENTICATE, scheme);
        }
        answer
    }
}

/// An answer in words.
fn text(status: StatusCode, words: &str) -> HttpResponse {
    let mut answer = Response::new(HttpBody::from(format!("{words}\n")));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, plain);
    answer
}

/// What is called with what is worth a line in a log.
pub(super) type Said = Arc<dyn Fn(&str) + Send + Sync>;

/// Answers those who come in by one door.
#[derive(Clone)]
pub(super) struct Http {
    /// That door.
    pub(super) door: Arc<Door>,
    /// What can be called.
    pub(super) methods: Methods,
    /// Until when.
    pub(super) stop: StopHandle,
    /// The terminals of the page, if that is served at this door.
    pub(super) page: Option<Terminals>,
    /// What is counted.
    pub(super) counts: Arc<Counts>,
    /// What is called with what is worth a line in a log.
    pub(super) said: Said,
}

impl Http {
    /// Answers a client until it goes, or the server ends. Its `place` is given back
    /// then, too, if it has become a WebSocket.
    pub(super) async fn serve<I, P>(self, io: I, place: P)
    where
        P: Send + Sync + 'static,
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stopped = self.stop.clone().shutdown();
        let place = Arc::new(place);
        let service = service_fn(move |request| {
            let (http, place) = (self.clone(), Arc::clone(&place));
            async move { Ok::<_, Infallible>(http.answer(request, place).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
        let connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
        tokio::pin!(connection, stopped);
        tokio::select! {
            // It went, or talked nonsense.
            _ = connection.as_mut() => {}
            () = stopped => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        place: Arc<impl Send + Sync + 'static>,
    ) -> HttpResponse {
        if let Err(refusal) = self.door.is_no_trick(request.headers()) {
            return refusal.answer();
        }
        if let Some(part) = self.page.as_ref().and_then(|_| web::asset(&request)) {
            return part;
        }
        if let Err(refusal) = self.door.is_known(request.headers()) {
            return refusal.answer();
        }
        let mut offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
        let offers_ours = offered.any(|value| subprotocols(value).any(|it| it == SUBPROTOCOL));
        let mut answer = match &self.page {
            Some(terminals) if request.uri().path() == web::TERMINAL => {
                terminals.open(request, place, self.stop.clone())
            }
            Some(_) | None => match (request.method(), request.uri().path()) {
                (&Method::GET | &Method::HEAD, "/metrics") => self.metrics().await,
                _ => self.call(request, place).await,
            },
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS && offers_ours {
            // A browser goes if it has offered some, and none is taken.
            let taken = HeaderValue::from_static(SUBPROTOCOL);
            answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, taken);
        }
        answer
    }

    /// What Prometheus asks for.
    async fn metrics(&self) -> HttpResponse {
        let (numbers, failure) = self.counts.text().await;
        if let Some(failure) = failure {
            (self.said)(failure.to_string().trim_end());
        }
        let mut answer = text(StatusCode::OK, "");
        *answer.body_mut() = HttpBody::from(numbers);
        let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer
    }

    /// JSON-RPC: a message that is posted, or a WebSocket.
    async fn call(
        &self,
        request: Request<Incoming>,
        place: Arc<impl Send + Sync + 'static>,
    ) -> HttpResponse {
        let mut config = ServerConfig::builder()
            .max_request_body_size(REQUEST_BYTES_MAX as u32)
            .max_response_body_size(u32::MAX)
            .set_message_buffer_capacity(64)
            .set_batch_request_config(BatchRequestConfig::Limit(BATCH_MAX));
        if self.door.token.is_some() {
            // Who has gone from a network without a word is noticed.
            config = config.enable_ws_ping(PingConfig::new());
        }
        let service = Server::builder().set_config(config.build()).to_service_builder();
        let mut service = service.build(self.methods.clone(), self.stop.clone());
        let closed = service.on_session_closed();
        let answer = service.call(request.map(Impatient::new)).await;
        let answer = answer
            .unwrap_or_else(|error| text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()));
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            tokio::spawn(async move {
                closed.await;
                drop(place);
            });
        }
        answer
    }
}

/// A body that ends with an error when nothing comes of it for long.
struct Impatient {
    body: Incoming,
    until: Pin<Box<Sleep>>,
}

impl Impatient {
    fn new(body: Incoming) -> Self {
        Self { body, until: Box::pin(tokio::time::sleep(PATIENCE)) }
    }
}

impl Body for Impatient {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(context) {
            self.until.as_mut().reset(Instant::now() + PATIENCE);
            return Poll::Ready(next.map(|next| next.map_err(io::Error::other)));
        }
        ready!(self.until.as_mut().poll(context));
        Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Door {
        fn admits(&self, headers: &HeaderMap) -> Result<(), Refusal> {
            self.is_no_trick(headers).and_then(|()| self.is_known(headers))
        }
    }
    use jsonrpsee::RpcModule;
    use jsonrpsee::server::stop_channel;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Semaphore;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a value");
        let mut headers = HeaderMap::new();
        for (name, text) in all {
            headers.append(*name, value(text));
        }
        headers
    }

    fn token() -> Token {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("token");
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create_new(true);
        let file = std::os::unix::fs::OpenOptionsExt::mode(options, 0o600).open(&path);
        std::io::Write::write_all(&mut file.expect("a file"), TOKEN.as_bytes()).expect("room");
        Token::of_file(&path).expect("a good token")
    }

    #[test]
    fn pages_of_others_may_not_ask() {
        let check = |all: &[(&'static str, &str)], expected| {
            assert_eq!(Door::default().admits(&headers(all)), expected, "{all:?}");
        };
        let (foreign, host) = (Err(Refusal::Origin), ("host", "lab.test:8080"));
        check(&[], Ok(()));
        check(&[host], Ok(()));
        check(&[host, ("origin", "http://lab.test:8080")], Ok(()));
        check(&[host, ("origin", "https://Lab.Test:8080")], Ok(()));
        check(&[host, ("origin", "http://lab.test")], foreign);
        check(&[host, ("origin", "http://lab.test:8081")], foreign);
        check(&[host, ("origin", "http://evil.test")], foreign);
        check(&[host, ("origin", "http://lab.test:8080.evil.test")], foreign);
        check(&[host, ("origin", "lab.test:8080")], foreign);
        check(&[host, ("origin", "null")], foreign);
        check(&[host, ("origin", "")], foreign);
        check(&[("origin", "http://lab.test:8080")], foreign);
        check(&[host, ("origin", "http://lab.test:8080"), ("origin", "http://evil.test")], foreign);
        check(&[host, ("host", "evil.test")], Err(Refusal::Host));
    }

    #[test]
    fn names_of_others_do_not_lead_here() {
        check("localhost", Ok(()));
        check("LOCALHOST:80", Ok(()));
        check("127.0.0.1:8080", Ok(()));
        check("127.8.8.8", Ok(()));
        check("[::1]:8080", Ok(()));
        check("evil.test:8080", Err(Refusal::Host));
        check("localhost.evil.test", Err(Refusal::Host));
        check("localhost@evil.test", Err(Refusal::Host));
        check("evil@localhost", Err(Refusal::Host));
        check("10.0.0.1:8080", Err(Refusal::Host));
        check("", Err(Refusal::Host));

        #[track_caller]
        fn check(host: &str, expected: Result<(), Refusal>) {
            let door = Door { token: None, by_loopback_name: true };
            assert_eq!(door.admits(&headers(&[("host", host)])), expected, "{host:?}");
        }
    }

    #[test]
    fn the_token_is_asked_for_last() {
        let door = Door { token: Some(token()), by_loopback_name: true };
        let (host, bearer) = (("host", "localhost"), format!("Bearer {TOKEN}"));
        let known = ("authorization", bearer.as_str());
        assert_eq!(door.admits(&headers(&[host])), Err(Refusal::Token));
        assert_eq!(door.admits(&headers(&[host, known])), Ok(()));
        let evil = ("origin", "http://evil.test");
        assert_eq!(door.admits(&headers(&[host, evil])), Err(Refusal::Origin));
        assert_eq!(door.admits(&headers(&[host, evil, known])), Err(Refusal::Origin));
        assert_eq!(door.admits(&headers(&[("host", "a.test"), known])), Err(Refusal::Host));
    }

    /// What is answered to a client that says this and no more.
    async fn said(text: &str) -> String {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (stop, _server) = stop_channel();
        let door = Arc::new(Door { token: Some(token()), by_loopback_name: false });
        let methods = RpcModule::new(()).into();
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().expect("it is free");
        far.write_all(text.as_bytes()).await.expect("it listens");
        // The clock goes on by itself when there is nothing else to do.
        let (counts, said) = (Arc::default(), Arc::new(|_: &str| {}));
        Http { door, methods, stop, page: None, counts, said }.serve(near, place).await;
        let mut answer = [0; 1024];
        let length = far.read(&mut answer).await.expect("it is closed or has answered");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_half_a_request_goes() {
        assert_eq!(said("").await, "");
        said("P").await;
        said("POST / HTTP/1.1\r\nhost: a\r\n").await;
        let known = format!("POST / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n");
        let body = "content-type: application/json\r\ncontent-length: 100\r\n\r\n{";
        said(&format!("{known}{body}")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn answers() {
        let answer = said("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.contains("www-authenticate: Bearer realm=\"ovsns\"\r\n"), "{answer}");
        let answer = said("GET / HTTP/1.1\r\nhost: a\r\norigin: null\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        let offered = format!("sec-websocket-protocol: ovsns, ovsns.token.{TOKEN}\r\n\r\n");
        let answer = said(&format!("{upgrade}{offered}")).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("sec-websocket-protocol: ovsns\r\n"), "{answer}");
    }
}
