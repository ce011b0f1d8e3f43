//! The calls as methods of JSON-RPC 2.0, each under its name, and what is there
//! besides: `server.info`, `rpc.discover`, and `call.follow` for those who want to
//! hear how far a call has come.

use std::sync::Arc;

use jsonrpsee::types::{ErrorObjectOwned, Params};
use jsonrpsee::{PendingSubscriptionSink, RpcModule, SubscriptionMessage, SubscriptionSink};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::mpsc;

use super::watch::Watch;
use super::work::{NEWS_MAX, Outcome, Refused, Works};
use super::{document, subscriptions};
use crate::api::{Failure, News};

/// What the server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Info {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
}

impl Info {
    /// Of this process.
    pub fn of_this() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
    }
}

/// What `call.follow` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Follow {
    /// The method.
    pub(super) method: String,
    /// Its parameters.
    #[serde(default)]
    pub(super) params: Json,
}

/// What one hears who follows a call. The last is an answer or a failure.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Heard {
    /// What it says meanwhile.
    News(News),
    /// What came of it.
    Answer(Json),
    /// Why nothing did.
    Failure(Failure),
}

/// Names that are no calls, for the document.
pub(super) const FOLLOW: [&str; 3] = ["call.follow", "call.news", "call.unfollow"];
pub(super) const INFO: &str = "server.info";
pub(super) const DISCOVER: &str = "rpc.discover";

/// What a server answers to.
pub(super) fn module(works: &Arc<Works>, watch: &Arc<Watch>) -> RpcModule<()> {
    let mut module = RpcModule::new(());
    let taken = "no name is there twice";
    for name in works.names() {
        let works = Arc::clone(works);
        let method = move |params: Params<'static>, _, _| {
            let works = Arc::clone(&works);
            async move {
                // Nobody hears it.
                let (news, _) = mpsc::channel(1);
                works.call(name, params.parse::<Json>()?, news).await.map_err(error)
            }
        };
        module.register_async_method(name, method).expect(taken);
    }
    module
        .register_method(INFO, |_, _, _| Ok::<_, ErrorObjectOwned>(Info::of_this()))
        .expect(taken);
    module
        .register_method(DISCOVER, |_, _, _| Ok::<_, ErrorObjectOwned>(document::text()))
        .expect(taken);
    let works = Arc::clone(works);
    subscriptions::add(&mut module, FOLLOW, move |params, pending| {
        follow_call(params, pending, Arc::clone(&works))
    });
    subscriptions::register(&mut module, watch);
    module
}

/// Tells of a call as it goes on.
async fn follow_call(
    params: Params<'static>,
    pending: PendingSubscriptionSink,
    works: Arc<Works>,
) -> Option<()> {
    let asked = match params.parse::<Follow>() {
        Ok(asked) if works.knows(&asked.method) => asked,
        Ok(asked) => {
            let words = format!("there is no method `{}` that can be followed", asked.method);
            pending.reject(refusal(-32602, &words)).await;
            return None;
        }
        Err(wrong) => {
            pending.reject(wrong).await;
            return None;
        }
    };
    let sink = pending.accept().await.ok()?;
    let (news, mut heard) = mpsc::channel(NEWS_MAX);
    let mut outcome = std::pin::pin!(works.call(&asked.method, asked.params, news));
    let outcome = loop {
        tokio::select! {
            biased;
            Some(news) = heard.recv() => tell(&sink, &Heard::News(news)).await?,
            outcome = &mut outcome => break outcome,
            // What has begun goes on.
            () = sink.closed() => return None,
        }
    };
    while let Ok(news) = heard.try_recv() {
        tell(&sink, &Heard::News(news)).await?;
    }
    tell(&sink, &last(outcome)).await
}

fn last(outcome: Outcome) -> Heard {
    match outcome {
        Ok(answer) => {
            Heard::Answer(serde_json::from_str(answer.get()).expect("it was made of JSON"))
        }
        Err(Refused::Failed(failure)) => Heard::Failure(failure),
        Err(refused) => Heard::Failure(Failure::new(error(refused).message(), None, 2)),
    }
}

async fn tell(sink: &SubscriptionSink, heard: &Heard) -> Option<()> {
    let text: Box<RawValue> = to_raw_value(heard).expect("our own types are JSON");
    sink.send(SubscriptionMessage::from(text)).await.ok()
}

/// A refusal as JSON-RPC has it: failures by their exit status, below -32000, and
/// with all that is told of them as `data`.
pub(super) fn error(refused: Refused) -> ErrorObjectOwned {
    match refused {
        Refused::Unknown => refusal(-32601, "there is no such method; `rpc.discover` lists all"),
        Refused::Parameters(why) => refusal(-32602, &format!("the parameters do not fit: {why}")),
        Refused::Busy => refusal(-32005, "too many calls wait; try again later"),
        Refused::Ending => refusal(-32005, "the server is ending, and begins nothing new"),
        Refused::Failed(failure) => ErrorObjectOwned::owned(
            -32000 - i32::from(failure.status),
            failure.message.clone(),
            Some(failure),
        ),
    }
}

pub(super) fn refusal(code: i32, message: &str) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, message, None::<()>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_tells_of_every_method() {
        let watch = Watch::start(false, || {}, |_| {}).expect("a thread");
        let module = module(&Arc::new(Works::new(Arc::default())), &Arc::new(watch));
        let there: BTreeSet<_> = module.method_names().collect();
        let document = document::document();
        let told = document["methods"].as_array().expect("a list");
        let told: BTreeSet<_> =
            told.iter().map(|method| method["name"].as_str().expect("a name")).collect();
        assert_eq!(told, there);
    }
}
