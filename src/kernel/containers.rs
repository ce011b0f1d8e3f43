//! Asking podman and docker for a container, over their own sockets.
//!
//! Both speak HTTP on a Unix socket, and podman answers as docker does. Only
//! one thing is asked: which process is the container's first one.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::model::adopt::ContainerEngine;

/// How long one of them may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// More than what is told of any container.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What is told of a container.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    state: ContainerState,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerState {
    #[serde(default)]
    running: bool,
    #[serde(default)]
    pid: i64,
}

/// The first process of the container called `name`, or why there is none, in
/// words.
///
/// Like `podman inspect -f '{{.State.Pid}}' NAME`.
pub(super) async fn first_process(
    engine: Option<ContainerEngine>,
    name: &str,
) -> Result<u32, String> {
    let engines = match engine {
        Some(engine) => vec![engine],
        None => ContainerEngine::ALL.to_vec(),
    };
    let (mut found, mut reasons) = (Vec::new(), Vec::new());
    for engine in engines {
        match ask(engine, name).await {
            Ok(pid) => found.push(pid),
            Err(why) => reasons.push(why),
        }
    }
    // The socket of one may be a link to the other's.
    found.dedup();
    match found.as_slice() {
        [pid] => Ok(*pid),
        [] => Err(reasons.join("; ")),
        _ => Err(format!("both have one; say `podman:{name}` or `docker:{name}`")),
    }
}

async fn ask(engine: ContainerEngine, name: &str) -> Result<u32, String> {
    let socket = socket(engine)?;
    let asked = inspect(&socket, name);
    match timeout(ANSWERED_WITHIN, asked).await {
        Ok(Ok(Some(Container { state }))) => match u32::try_from(state.pid) {
            Ok(pid) if state.running && 0 < pid => Ok(pid),
            _ => Err(format!("the container of {engine} does not run")),
        },
        Ok(Ok(None)) => Err(format!("{engine} has no such container")),
        Ok(Err(why)) => Err(format!("{engine} does not answer at `{}` ({why})", socket.display())),
        Err(_) => Err(format!("{engine} says nothing at `{}`", socket.display())),
    }
}

/// Where an engine listens: where its own variable says, or at the usual place.
fn socket(engine: ContainerEngine) -> Result<PathBuf, String> {
    let (variable, usual) = match engine {
        ContainerEngine::Podman => ("CONTAINER_HOST", "/run/podman/podman.sock"),
        ContainerEngine::Docker => ("DOCKER_HOST", "/run/docker.sock"),
    };
    match env::var(variable).ok().filter(|text| !text.is_empty()) {
        None => Ok(PathBuf::from(usual)),
        Some(place) => match place.strip_prefix("unix://") {
            Some(path) => Ok(PathBuf::from(path)),
            None => Err(format!("{engine} is not on this machine (`{variable}` is `{place}`)")),
        },
    }
}

/// What an engine tells of a container, if it has it.
async fn inspect(socket: &Path, name: &str) -> Result<Option<Container>, String> {
    let words = |error: hyper::Error| error.to_string();
    let stream = UnixStream::connect(socket).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        _ => e.to_string(),
    })?;
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(words)?;
    let connection = tokio::spawn(connection);
    // The name was checked: no letter in it has a meaning in a path.
    let request = Request::get(format!("/containers/{name}/json"))
        .header(header::HOST, "localhost")
        .body(Empty::new())
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(words)?;
    let status = response.status();
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !status.is_success() {
        return Err(format!("it says {status}"));
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|e| e.to_string())?.to_bytes();
    connection.abort();
    read(&body).map(Some)
}

/// Reads the body of an answer.
pub(super) fn read(body: &[u8]) -> Result<Container, String> {
    serde_json::from_slice(body).map_err(|e| format!("what it says is no answer: {e}"))
}
