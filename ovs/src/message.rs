//! JSON-RPC 1.0 messages (RFC 7047 section 4): reading what came, writing what goes.
//!
//! Parameters and results stay raw JSON here. They are parsed once, by whoever
//! knows their shape.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A message as it came.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants a reply.
    Request {
        /// What to do.
        method: Cow<'a, str>,
        /// With what.
        params: &'a RawValue,
        /// What the reply must carry, verbatim.
        id: &'a RawValue,
    },
    /// Wants none.
    Notification {
        /// What happened.
        method: Cow<'a, str>,
        /// To what.
        params: &'a RawValue,
    },
    /// Answers a request.
    Reply {
        /// The request's.
        id: &'a RawValue,
        /// The result, or the error: `null` is a result if there is no error.
        outcome: Result<&'a RawValue, &'a RawValue>,
    },
}

/// A message that is no JSON, or no JSON-RPC.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    /// No JSON.
    #[error("a message is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Neither request nor notification nor reply.
    #[error("a message is neither request nor reply")]
    Shape,
}

/// An `id` or a `result` can be `null` or absent, and it matters which.
fn present<'de: 'a, 'a, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl<'a> Message<'a> {
    /// Takes one message apart.
    pub fn parse(text: &'a [u8]) -> Result<Self, BadMessage> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
            #[serde(borrow)]
            method: Option<Cow<'a, str>>,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "present")]
            result: Option<&'a RawValue>,
            #[serde(borrow)]
            error: Option<&'a RawValue>,
        }
        let wire: Wire<'a> = serde_json::from_slice(text)?;
        match (wire.method, wire.id) {
            (Some(method), id) => {
                let params = wire.params.ok_or(BadMessage::Shape)?;
                Ok(match id {
                    Some(id) => Self::Request { method, params, id },
                    None => Self::Notification { method, params },
                })
            }
            (None, Some(id)) => {
                let outcome = match (wire.error, wire.result) {
                    (Some(error), _) => Err(error),
                    (None, Some(result)) => Ok(result),
                    (None, None) => return Err(BadMessage::Shape),
                };
                Ok(Self::Reply { id, outcome })
            }
            (None, None) => Err(BadMessage::Shape),
        }
    }
}

/// Appends a request to `out`. `id: None` makes it a notification.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    method: &str,
    params: &impl Serialize,
    id: Option<u64>,
) -> serde_json::Result<()> {
    #[derive(Serialize)]
    struct Wire<'a, P> {
        method: &'a str,
        params: &'a P,
        id: Option<u64>,
    }
    serde_json::to_writer(out, &Wire { method, params, id })
}

/// Appends a reply to `out`.
pub(crate) fn write_reply(out: &mut Vec<u8>, id: &RawValue, outcome: Result<&RawValue, &str>) {
    #[derive(Serialize)]
    struct Wire<'a> {
        id: &'a RawValue,
        result: Option<&'a RawValue>,
        error: Option<&'a str>,
    }
    let (result, error) = (outcome.ok(), outcome.err());
    // Writing into memory cannot fail, and raw values are valid JSON already.
    let _ = serde_json::to_writer(out, &Wire { id, result, error });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_messages() {
        check(r#"{"id":1,"result":[],"error":null}"#, "reply 1 ok []");
        check(r#"{"id":"x","result":null,"error":null}"#, "reply \"x\" ok null");
        check(r#"{"id":1,"error":"unknown method"}"#, "reply 1 error \"unknown method\"");
        check(r#"{"error":{"error":"e"},"id":1,"result":null}"#, "reply 1 error {\"error\":\"e\"}");
        check(r#"{"id":null,"method":"update","params":[1]}"#, "notification update [1]");
        check(r#"{"method":"update2","params":[]}"#, "notification update2 []");
        check(r#"{"id":"echo","method":"echo","params":[]}"#, "request echo [] \"echo\"");
        check(r#"{"id":[1],"method":"a\u0062","params":{},"more":0}"#, "request ab {} [1]");
        check("{}", "a message is neither request nor reply");
        check(r#"{"id":1}"#, "a message is neither request nor reply");
        check(r#"{"method":"m"}"#, "a message is neither request nor reply");
        check(r#"{"id":1,]"#, "a message is not JSON: key must be a string at line 1 column 9");

        #[track_caller]
        fn check(text: &str, shape: &str) {
            let got = match Message::parse(text.as_bytes()) {
                Ok(Message::Request { method, params, id }) => {
                    format!("request {method} {params} {id}")
                }
                Ok(Message::Notification { method, params }) => {
                    format!("notification {method} {params}")
                }
                Ok(Message::Reply { id, outcome: Ok(result) }) => format!("reply {id} ok {result}"),
                Ok(Message::Reply { id, outcome: Err(e) }) => format!("reply {id} error {e}"),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, shape);
        }
    }

    #[test]
    fn what_is_written() {
        let mut out = Vec::new();
        write_request(&mut out, "list_dbs", &[(); 0], Some(7)).unwrap();
        write_request(&mut out, "cancel", &[7], None).unwrap();
        let id = RawValue::from_string("\"echo\"".into()).unwrap();
        let params = RawValue::from_string("[1]".into()).unwrap();
        write_reply(&mut out, &id, Ok(&params));
        write_reply(&mut out, &id, Err("unknown method"));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"method":"list_dbs","params":[],"id":7}"#,
                r#"{"method":"cancel","params":[7],"id":null}"#,
                r#"{"id":"echo","result":[1],"error":null}"#,
                r#"{"id":"echo","result":null,"error":"unknown method"}"#,
            )
        );
    }
}
