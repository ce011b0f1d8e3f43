//! JSON-RPC a line a message, for those who would rather not speak HTTP: a shell
//! with `socat`, twenty lines of Python, and our own client.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jsonrpsee::Methods;
use serde_json::Value as Json;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::subscriptions::ENDS;
use super::{BATCH_MAX, REQUEST_BYTES_MAX};

/// How many messages of one client are answered at once; what is more stays unread.
const AT_ONCE_MAX: usize = 32;

/// How many messages of a subscription wait for a client.
const TOLD_MAX: usize = 64;

/// How long a client may take to say its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(30);

/// How long a client may leave an answer unread: long enough for somebody who has stopped
/// a command and thinks about it.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Answers a client until it goes, or `stopped`.
pub(super) async fn serve(stream: UnixStream, methods: Methods, stopped: impl Future<Output = ()>) {
    let Ok((stream, watched)) = twice(stream) else { return };
    let (read, write) = stream.into_split();
    let mut lines = FramedRead::new(read, LinesCodec::new_with_max_length(REQUEST_BYTES_MAX));
    let (answers, to_write) = mpsc::channel::<Box<RawValue>>(4);
    let mut writer = tokio::spawn(write_all(write, to_write));
    let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
    let late = tokio::time::sleep(FIRST_MESSAGE);
    let mut has_said_one = false;
    tokio::pin!(stopped, late);
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = &mut late, if !has_said_one => {
                let words = "no message in time: each is a line, with its end";
                let _ = answers.send(fault(&Json::Null, -32700, words)).await;
                break;
            }
            () = &mut stopped => break,
            // Nobody reads the answers.
            () = answers.closed() => break,
        };
        let line = match line {
            Some(Ok(line)) if line.trim().is_empty() => continue,
            Some(Ok(line)) => line,
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                let most = REQUEST_BYTES_MAX >> 20;
                let _ = answers
                    .send(fault(&Json::Null, -32700, &format!("longer than {most} MiB")))
                    .await;
                break;
            }
            Some(Err(LinesCodecError::Io(error)))
                if error.kind() == std::io::ErrorKind::InvalidData =>
            {
                let _ = answers.send(fault(&Json::Null, -32700, "not UTF-8")).await;
                break;
            }
            Some(Err(_)) | None => break,
        };
        has_said_one = true;
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        let (methods, answers) = (methods.clone(), answers.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = answer(&line, &methods, &answers) => {}
                // What waits for its turn is not done for nobody.
                () = answers.closed() => {}
            }
            drop(place);
        });
    }
    drop(answers);
    tokio::select! {
        // The last that was at work has answered.
        _ = &mut writer => {}
        // Nobody hears it: one that has only said all still listens.
        () = closed(&watched) => writer.abort(),
    }
}

/// The same socket twice, each with readiness of its own.
fn twice(stream: UnixStream) -> std::io::Result<(UnixStream, UnixStream)> {
    let stream = stream.into_std()?;
    let other = stream.try_clone()?;
    Ok((UnixStream::from_std(stream)?, UnixStream::from_std(other)?))
}

/// Waits until the other end is closed, not only for what it says.
async fn closed(watched: &UnixStream) {
    // `epoll(7)` tells of each change once, and of a hang-up with any of them.
    while watched.ready(Interest::WRITABLE).await.is_ok_and(|ready| !ready.is_write_closed()) {
        let wait = || Err::<(), _>(std::io::ErrorKind::WouldBlock.into());
        let _ = watched.try_io(Interest::WRITABLE, wait);
    }
}

async fn write_all(mut write: OwnedWriteHalf, mut to_write: mpsc::Receiver<Box<RawValue>>) {
    while let Some(message) = to_write.recv().await {
        let whole = async {
            write.write_all(message.get().as_bytes()).await?;
            write.write_all(b"\n").await
        };
        match tokio::time::timeout(PATIENCE, whole).await {
            Ok(Ok(())) => {}
            // It is gone, or stopped reading.
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

async fn answer(line: &str, methods: &Methods, answers: &mpsc::Sender<Box<RawValue>>) {
    let refused = |code, words: &str| (Some(fault(&Json::Null, code, words)), Vec::new());
    let (said, told) = match serde_json::from_str::<Json>(line) {
        Err(error) => refused(-32700, &format!("no JSON: {error}")),
        Ok(Json::Array(batch)) if batch.is_empty() => refused(-32600, "an empty batch"),
        Ok(Json::Array(batch)) if (BATCH_MAX as usize) < batch.len() => {
            refused(-32600, &format!("a batch of more than {BATCH_MAX}"))
        }
        Ok(Json::Array(batch)) => {
            let (mut all, mut told) = (Vec::new(), Vec::new());
            for message in batch {
                let (said, tells) = one(message, methods).await;
                all.extend(said);
                told.extend(tells);
            }
            let said = (!all.is_empty()).then(|| to_raw_value(&all).expect("JSON is JSON"));
            (said, told)
        }
        Ok(message) => {
            let (said, told) = one(message, methods).await;
            (said, told.into_iter().collect())
        }
    };
    if let Some(said) = said {
        let _ = answers.send(said).await;
    }
    // Not before the answer, by which the client knows whose they are.
    for told in told {
        tokio::spawn(forward(told, answers.clone()));
    }
}

/// Passes on what a subscription tells.
async fn forward(mut told: Told, answers: mpsc::Sender<Box<RawValue>>) {
    loop {
        let message = tokio::select! {
            message = told.recv() => message,
            // It is over when the client goes, not when there is more to tell it.
            () = answers.closed() => return,
        };
        let Some(message) = message else { return };
        if answers.send(message).await.is_err() {
            return;
        }
    }
}

type Told = mpsc::Receiver<Box<RawValue>>;

/// What is answered to one message, nothing to a notification; and what is told
/// later, if that is a subscription.
async fn one(mut message: Json, methods: &Methods) -> (Option<Box<RawValue>>, Option<Told>) {
    let is_notification = message.is_object() && message.get("id").is_none();
    if is_notification {
        message["id"] = Json::Null;
    }
    let id = message.get("id").cloned().unwrap_or_default();
    if !(id.is_null() || id.is_string() || id.is_u64()) {
        let words = "`id` is a text, a whole number from 0 on, or null";
        return (Some(fault(&id, -32600, words)), None);
    }
    // By name like all others; jsonrpsee has it by position only.
    if message.get("method").and_then(Json::as_str).is_some_and(|method| ENDS.contains(&method))
        && let Some(subscription) = message["params"].get("subscription").cloned()
    {
        message["params"] = json!([subscription]);
    }
    let Ok((said, told)) = methods.raw_json_request(&message.to_string(), TOLD_MAX).await else {
        let words = "no request: it takes `jsonrpc`, `id`, `method` and `params`";
        return (Some(fault(&id, -32600, words)), None);
    };
    ((!is_notification).then_some(said), Some(told))
}

/// A failure that is no call's.
pub(super) fn fault(id: &Json, code: i32, message: &str) -> Box<RawValue> {
    let error = json!({ "code": code, "message": message });
    to_raw_value(&json!({ "jsonrpc": "2.0", "id": id, "error": error })).expect("JSON is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonrpsee::RpcModule;
    use tokio::io::AsyncReadExt;

    #[tokio::test(start_paused = true)]
    async fn who_says_half_a_message_goes() {
        let (near, mut far) = UnixStream::pair().expect("sockets");
        far.write_all(b"{\"jsonrpc\"").await.expect("it listens");
        let methods = RpcModule::new(()).into();
        // The clock goes on by itself when there is nothing else to do.
        serve(near, methods, std::future::pending()).await;
        let mut said = String::new();
        far.read_to_string(&mut said).await.expect("it is closed");
        assert!(said.contains("no message in time"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_loses_nothing() {
        let (near, mut far) = UnixStream::pair().expect("sockets");
        let mut module = RpcModule::new(());
        let big = |_: jsonrpsee::types::Params<'_>, _: &(), _: &_| "x".repeat(4 << 20);
        module.register_method("big", big).expect("it is the first");
        let serving = tokio::spawn(serve(near, module.into(), std::future::pending()));
        far.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"big\"}\n")
            .await
            .expect("it listens");
        tokio::time::sleep(Duration::from_secs(600)).await;
        far.shutdown().await.expect("it is there");
        let mut said = String::new();
        far.read_to_string(&mut said).await.expect("it is all there");
        assert!(4 << 20 < said.len() && said.ends_with("\n"), "{}", said.len());
        serving.await.expect("it ends");
    }

    #[tokio::test]
    async fn ids() {
        let methods: Methods = RpcModule::new(()).into();
        for (id, code) in
            [("1", -32601), ("\"a\"", -32601), ("-1", -32600), ("1.5", -32600), ("[]", -32600)]
        {
            let message = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"none\"}}");
            let (said, _) = one(serde_json::from_str(&message).expect("JSON"), &methods).await;
            let said: Json = serde_json::from_str(said.expect("an answer").get()).expect("JSON");
            assert_eq!(said["error"]["code"], code, "{said}");
            assert_eq!(said["id"].to_string(), id);
            let names_it = said["error"]["message"].as_str().is_some_and(|it| it.contains("`id`"));
            assert_eq!(names_it, code == -32600, "{said}");
        }
    }
}
