//! What must hold for any bytes that a server may send.
//!
//! The fuzz targets in `fuzz/` call these, and so does an ordinary test, over
//! the corpus that the fuzzer has gathered. A broken promise is a panic.

use serde_json::value::RawValue;

use crate::frame::{FrameError, Framer};
use crate::message::Message;
use crate::monitor::{Layouts, Watch, since, table_updates, table_updates2};
use crate::operation::{Delete, Insert, Mutate, Operation, Select, Update, Wait};
use crate::replica::Replica;
use crate::reply::{Rejection, answers};
use crate::schema::Schema;
use crate::value::Value;

const BYTES_MAX: usize = 1 << 16;

/// A stream is cut into the same messages however it comes in.
pub fn frame(input: &[u8]) {
    let whole = cut(input, usize::MAX);
    for bytes in [1, 2, 7] {
        assert_eq!(cut(input, bytes), whole, "in pieces of {bytes}");
    }
    let (messages, _) = whole;
    let length: usize = messages.iter().map(Vec::len).sum();
    assert!(length <= input.len());
}

fn cut(input: &[u8], bytes: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut framer = Framer::new(BYTES_MAX);
    let mut messages = Vec::new();
    for piece in input.chunks(bytes.min(input.len()).max(1)) {
        framer.push(piece);
        loop {
            match framer.next_message() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

/// Whatever is read as a value is written and read again as the same; and
/// nothing that comes makes a decoder panic.
pub fn decode(input: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<Value>(input) {
        let text = serde_json::to_string(&value).expect("a value can be written");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("and read"), value, "{text}");
    }
    let _ = serde_json::from_slice::<Schema>(input);
    let json = match Message::parse(input) {
        Ok(Message::Reply { outcome: Ok(result), .. }) => result,
        Ok(Message::Reply { outcome: Err(error), .. }) => {
            let _ = serde_json::from_str::<crate::reply::ServerError>(error.get());
            return;
        }
        Ok(Message::Notification { params, .. } | Message::Request { params, .. }) => params,
        Err(_) => match serde_json::from_slice::<&RawValue>(input) {
            Ok(json) => json,
            Err(_) => return,
        },
    };
    let _ = (table_updates(json), table_updates2(json), since(json));
    let operations: [Operation; 6] = [
        Wait::exists("T", Vec::new()).into(),
        Insert::new("T").into(),
        Select::new("T").into(),
        Update::new("T").into(),
        Mutate::new("T").into(),
        Delete::new("T").or_none().into(),
    ];
    for sent in 0..=operations.len() {
        match answers(&operations[..sent], json) {
            Ok(answers) => assert_eq!(answers.len(), sent, "an answer for each"),
            Err(Rejection::Operation { index, .. } | Rejection::NoRow { index, .. }) => {
                assert!(index < sent);
            }
            Err(_) => {}
        }
    }
}

const SCHEMA: &str = r#"{"name":"d","version":"1.0.0","tables":{"T":{"columns":{
    "i":{"type":"integer"},"r":{"type":"real"},"b":{"type":"boolean"},"s":{"type":"string"},
    "o":{"type":{"key":"integer","min":0}},
    "u":{"type":{"key":{"type":"uuid","refTable":"T"},"min":0,"max":3}},
    "m":{"type":{"key":"string","value":"integer","min":0,"max":"unlimited"}}}}}}"#;

/// Updates, one a line: each is taken whole, or leaves the copy as it was; and
/// the changes that it tells lead from the one to the other.
pub fn replica(input: &[u8]) {
    let schema: Schema = serde_json::from_str(SCHEMA).expect("a schema");
    let layouts = Layouts::fit(&[Watch::all("T")], &schema).expect("it fits");
    let mut copy = Replica::default();
    copy.replace(&layouts, Default::default()).expect("empty");
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(json) = serde_json::from_slice::<&RawValue>(line) else { continue };
        let Ok(updates) = table_updates2(json).or_else(|_| table_updates(json)) else { continue };
        let before = copy.clone();
        match copy.apply(updates) {
            Err(_) => assert_eq!(copy, before, "half of an update was taken"),
            Ok(changes) => {
                for change in changes {
                    let row =
                        |copy: &Replica| copy.row_of("T", change.uuid).expect("watched").cloned();
                    assert_eq!(
                        (row(&before), row(&copy)),
                        (change.old.clone(), change.new.clone())
                    );
                    assert_ne!(change.old, change.new, "a change that changes nothing");
                }
            }
        }
        for (_, row) in copy.rows_of("T").expect("watched") {
            for (_, value) in row.columns() {
                let text = serde_json::to_string(value).expect("it can be written");
                let again: Value = serde_json::from_str(&text).expect("and read");
                assert_eq!(&again, value);
            }
        }
    }
}
