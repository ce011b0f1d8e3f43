//! What the server answers to a transaction (RFC 7047 section 4.1.3), and what
//! can be wrong with it.
//!
//! A reply is an array with one element for each operation. A failed operation
//! leaves an error in its place and nulls after it; an error at commit comes as
//! **one element more** than there were operations. And an operation that
//! matched no row at all succeeds, with `count: 0`: whoever does not look takes
//! it for done.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::operation::{Columns, Operation};
use crate::value::{Atom, Uuid, Value};

/// An error that the server sent (RFC 7047 section 3.1, `<error>`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The `error` member, classified.
    pub kind: ErrorKind,
    /// What the server says about it, in English.
    pub details: Option<String>,
    /// The piece of the request that was wrong, as JSON.
    pub syntax: Option<String>,
}

impl std::error::Error for ServerError {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(details) = &self.details {
            write!(f, ": {details}")?;
        }
        Ok(())
    }
}

/// Declares the error strings of the server: name, text, what can be done.
macro_rules! error_kinds {
    ($($(#[$doc:meta])* $kind:ident $text:literal $cure:ident;)*) => {
        /// The `error` string of a [`ServerError`] (RFC 7047 sections 3.1 and 5.2,
        /// ovsdb-server(7) section 4).
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* $kind,)*
            /// Any other text.
            Other(String),
        }

        impl ErrorKind {
            /// Classifies what the server wrote.
            pub fn of(text: &str) -> Self {
                match text {
                    $($text => Self::$kind,)*
                    _ => Self::Other(text.to_owned()),
                }
            }

            /// What the server wrote.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$kind => $text,)*
                    Self::Other(text) => text,
                }
            }

            /// What can be done about it.
            pub fn cure(&self) -> Cure {
                match self {
                    $(Self::$kind => Cure::$cure,)*
                    Self::Other(_) => Cure::Correct,
                }
            }
        }
    };
}
error_kinds! {
    /// A `wait` did not come true in time: somebody else changed the row.
    TimedOut "timed out" Retry;
    /// The request was given up, by `cancel` or because the database is going away.
    Canceled "canceled" Retry;
    /// This server does not have the database (now).
    UnknownDatabase "unknown database" Retry;
    /// The lock that an `assert` asked for is not held.
    NotOwner "not owner" Lock;
    /// An `abort` operation did its work.
    Aborted "aborted" Nothing;
    /// An index would have two rows alike, or a table too many or few.
    ConstraintViolation "constraint violation" Correct;
    /// A row would refer to one that is not there.
    ReferentialIntegrity "referential integrity violation" Correct;
    /// A UUID chosen for an insert is taken.
    DuplicateUuid "duplicate uuid" Correct;
    /// Two inserts have the same `uuid-name`.
    DuplicateUuidName "duplicate uuid-name" Correct;
    /// The request cannot be read, or a value does not fit its column.
    Syntax "syntax error" Correct;
    /// No such column in this server's schema.
    UnknownColumn "unknown column" Correct;
    /// No such table in this server's schema.
    UnknownTable "unknown table" Correct;
    /// The server speaks no such method.
    UnknownMethod "unknown method" Correct;
    /// The server has no such monitor.
    UnknownMonitor "unknown monitor" Correct;
    /// A division by zero.
    Domain "domain error" Correct;
    /// A number beyond its column's range.
    Range "range error" Correct;
    /// The server is read-only, or a backup.
    NotAllowed "not allowed" Correct;
    /// The role of this client must not do that.
    Permission "permission error" Correct;
    /// Something the server does not do, such as an ephemeral commit.
    NotSupported "not supported" Correct;
    /// The server is out of memory or disk.
    ResourcesExhausted "resources exhausted" Correct;
    /// The server could not write its file.
    Io "I/O error" Correct;
    /// A fault inside the server.
    Internal "internal error" Correct;
}

/// What can be done about a [`ServerError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cure {
    /// Read again and try again.
    Retry,
    /// Get the lock first.
    Lock,
    /// Nothing is wrong.
    Nothing,
    /// Something must be put right: in the request, or at the server.
    Correct,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Both forms of an error: `{"error":…,"details":…}`, and the plain string that
/// `unknown method` and `ovs-appctl` come as.
impl<'de> Deserialize<'de> for ServerError {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object<'a> {
            #[serde(borrow)]
            error: Cow<'a, str>,
            details: Option<String>,
            syntax: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<'a> {
            Text(#[serde(borrow)] Cow<'a, str>),
            Object(#[serde(borrow)] Object<'a>),
        }
        Ok(match Either::deserialize(from)? {
            Either::Text(text) => Self { kind: ErrorKind::of(&text), details: None, syntax: None },
            Either::Object(object) => Self {
                kind: ErrorKind::of(&object.error),
                details: object.details,
                syntax: object.syntax,
            },
        })
    }
}

/// What one operation answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The UUID of the row that an insert made.
    Inserted(Uuid),
    /// The rows that a select found, with the columns it asked for.
    Rows(Vec<Columns>),
    /// How many rows an update, a mutate or a delete matched.
    Count(u64),
    /// Nothing to say: `wait`, `comment`, `commit`, `assert`.
    Done,
}

/// Why a transaction did not happen, or not as meant.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Rejection {
    /// An operation failed. Nothing was committed.
    #[error("operation {index} ({}) failed", describe(.operation))]
    Operation {
        /// Its place among those that were sent, from 0.
        index: usize,
        /// The operation itself.
        operation: Box<Operation>,
        /// What the server says.
        source: ServerError,
    },
    /// All operations went well, and the commit failed. Nothing was committed.
    #[error("the commit failed")]
    Commit {
        /// What the server says.
        source: ServerError,
    },
    /// The request as a whole was refused. Nothing was committed.
    #[error("the transaction was refused")]
    Request {
        /// What the server says.
        source: ServerError,
    },
    /// An operation matched no row.
    #[error("operation {index} ({}) found no row", describe(.operation))]
    NoRow {
        /// Its place among those that were sent, from 0.
        index: usize,
        /// The operation itself.
        operation: Box<Operation>,
        /// Whether the rest of the transaction was committed all the same.
        committed: bool,
    },
    /// The reply is none that RFC 7047 allows.
    #[error("the server's reply makes no sense: {0}")]
    Malformed(String),
}

impl Rejection {
    /// What the server said, if it said anything.
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Operation { source, .. } | Self::Commit { source } | Self::Request { source } => {
                Some(source)
            }
            Self::NoRow { .. } | Self::Malformed(_) => None,
        }
    }

    /// Whether fresh data and another try may mend it.
    pub fn is_conflict(&self) -> bool {
        self.server_error().is_some_and(|error| error.kind.cure() == Cure::Retry)
    }
}

/// `insert into Bridge`, for messages.
fn describe(operation: &Operation) -> String {
    match operation.table() {
        Some(table) => format!("`{}` on {table}", operation.name()),
        None => format!("`{}`", operation.name()),
    }
}

/// Reads the `result` of a `transact` against the operations that were sent.
///
/// Like the server, this takes a reply apart strictly: an element that is
/// missing, null or of the wrong shape where a result must be is a
/// [`Rejection::Malformed`], never a success.
pub fn answers(operations: &[Operation], result: &RawValue) -> Result<Vec<Answer>, Rejection> {
    let elements: Vec<&RawValue> = serde_json::from_str(result.get())
        .map_err(|e| Rejection::Malformed(format!("no array: {e}")))?;
    let mut answers = Vec::with_capacity(operations.len());
    for (index, element) in elements.iter().enumerate() {
        if let Some(source) = error_in(element)? {
            return Err(match operations.get(index) {
                Some(operation) => {
                    Rejection::Operation { index, operation: Box::new(operation.clone()), source }
                }
                None => Rejection::Commit { source },
            });
        }
        let Some(operation) = operations.get(index) else {
            return Err(Rejection::Malformed(format!("more results than operations: {element}")));
        };
        answers.push(answer(operation, element)?);
    }
    if answers.len() < operations.len() {
        let (got, sent) = (answers.len(), operations.len());
        return Err(Rejection::Malformed(format!("{got} results for {sent} operations")));
    }
    for (index, (operation, answer)) in operations.iter().zip(&answers).enumerate() {
        if matches!(answer, Answer::Count(0)) && operation.proof_of_rows().is_some() {
            let operation = Box::new(operation.clone());
            return Err(Rejection::NoRow { index, operation, committed: true });
        }
    }
    Ok(answers)
}

fn error_in(element: &RawValue) -> Result<Option<ServerError>, Rejection> {
    #[derive(Deserialize)]
    struct Probe {
        error: Option<serde::de::IgnoredAny>,
    }
    let is_error = serde_json::from_str::<Option<Probe>>(element.get())
        .map_err(|_| Rejection::Malformed(format!("not a result: {element}")))?
        .is_some_and(|probe| probe.error.is_some());
    if !is_error {
        return Ok(None);
    }
    let error = serde_json::from_str(element.get());
    error.map(Some).map_err(|_| Rejection::Malformed(format!("not an error: {element}")))
}

fn answer(operation: &Operation, element: &RawValue) -> Result<Answer, Rejection> {
    #[derive(Deserialize)]
    struct Wire {
        uuid: Option<Value>,
        rows: Option<Vec<Columns>>,
        count: Option<u64>,
    }
    let malformed = || {
        let name = operation.name();
        Rejection::Malformed(format!("`{element}` cannot be the result of `{name}`"))
    };
    let wire =
        serde_json::from_str::<Option<Wire>>(element.get()).ok().flatten().ok_or_else(malformed)?;
    match operation {
        Operation::Insert(_) => match wire.uuid.as_ref().and_then(Value::atom) {
            Some(Atom::Uuid(uuid)) => Ok(Answer::Inserted(*uuid)),
            _ => Err(malformed()),
        },
        Operation::Select(_) => wire.rows.map(Answer::Rows).ok_or_else(malformed),
        Operation::Update(_) | Operation::Mutate(_) | Operation::Delete(_) => {
            wire.count.map(Answer::Count).ok_or_else(malformed)
        }
        Operation::Wait(_)
        | Operation::Commit { .. }
        | Operation::Abort
        | Operation::Comment(_)
        | Operation::Assert { .. } => Ok(Answer::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Delete, Insert, Mutate, Select, Update, Wait};

    const UUID: &str = "550e8400-e29b-41d4-a716-446655440000";

    /// Every shape of reply in the checklist, as a real server wrote it.
    #[test]
    fn shapes_of_replies() {
        let insert = || Insert::new("Bridge").into();
        let comment = || Operation::Comment("c".into());
        let wait = || Wait::exists("Bridge", vec![]).into();

        check(&[], "[]", "[]");
        check(
            &[insert(), comment()],
            &format!(r#"[{{"uuid":["uuid","{UUID}"]}},{{}}]"#),
            &format!("[Inserted({UUID}), Done]"),
        );
        check(
            &[Select::new("Bridge").into()],
            r#"[{"rows":[{"name":"b","ports":["set",[]]}]}]"#,
            r#"[Rows([{"name": Value(One(String("b"))), "ports": Value(Set([]))}])]"#,
        );
        check(&[Update::new("T").into()], r#"[{"count":3}]"#, "[Count(3)]");
        check(&[Delete::new("T").or_none().into()], r#"[{"count":0}]"#, "[Count(0)]");
        check(&[wait()], "[{}]", "[Done]");
        // An operation fails; what comes after it was never tried.
        check(
            &[wait(), insert()],
            r#"[{"details":"\"where\" clause test failed","error":"timed out"},null]"#,
            "operation 0 (`wait` on Bridge) failed: timed out: \"where\" clause test failed",
        );
        check(
            &[insert(), insert()],
            &format!(r#"[{{"uuid":["uuid","{UUID}"]}},{{"error":"syntax error","syntax":"x"}}]"#),
            "operation 1 (`insert` on Bridge) failed: syntax error",
        );
        // The commit fails: one element more than operations.
        check(
            &[insert()],
            &format!(
                r#"[{{"uuid":["uuid","{UUID}"]}},{{"error":"constraint violation","details":"two"}}]"#
            ),
            "the commit failed: constraint violation: two",
        );
        check(
            &[Operation::Abort, comment()],
            r#"[{"details":"aborted by request","error":"aborted"},null]"#,
            "operation 0 (`abort`) failed: aborted: aborted by request",
        );
        // Nothing matched, which the server takes for a success.
        check(
            &[Update::new("T").into()],
            r#"[{"count":0}]"#,
            "operation 0 (`update` on T) found no row",
        );
        check(
            &[Mutate::new("T").into()],
            r#"[{"count":0}]"#,
            "operation 0 (`mutate` on T) found no row",
        );
        check(
            &[Delete::new("T").into()],
            r#"[{"count":0}]"#,
            "operation 0 (`delete` on T) found no row",
        );
        // What no server should send.
        let no_sense = "the server's reply makes no sense";
        check(&[insert()], "[]", &format!("{no_sense}: 0 results for 1 operations"));
        check(
            &[insert()],
            "[null]",
            &format!("{no_sense}: `null` cannot be the result of `insert`"),
        );
        check(&[insert()], "[{}]", &format!("{no_sense}: `{{}}` cannot be the result of `insert`"));
        check(
            &[Update::new("T").into()],
            "[{}]",
            &format!("{no_sense}: `{{}}` cannot be the result of `update`"),
        );
        check(
            &[Update::new("T").into()],
            r#"[{"count":-1}]"#,
            &format!("{no_sense}: `{{\"count\":-1}}` cannot be the result of `update`"),
        );
        check(
            &[insert()],
            "7",
            &format!(
                "{no_sense}: no array: invalid type: integer `7`, expected a sequence at line 1 column 1"
            ),
        );
        check(&[wait()], r#"["x"]"#, &format!("{no_sense}: not a result: \"x\""));
        check(&[], "[{}]", &format!("{no_sense}: more results than operations: {{}}"));

        #[track_caller]
        fn check(operations: &[Operation], result: &str, outcome: &str) {
            let raw = RawValue::from_string(result.to_owned()).unwrap();
            let got = match answers(operations, &raw) {
                Ok(answers) => format!("{answers:?}"),
                Err(error) => match error.server_error() {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                },
            };
            assert_eq!(got, outcome);
        }
    }

    #[test]
    fn errors_come_in_two_forms() {
        check(r#""unknown method""#, "unknown method", Cure::Correct);
        check(
            r#"{"syntax":"[\"nope\"]","details":"no such","error":"unknown database"}"#,
            "unknown database: no such",
            Cure::Retry,
        );
        check(r#"{"error":"timed out"}"#, "timed out", Cure::Retry);
        check(r#""canceled""#, "canceled", Cure::Retry);
        check(r#"{"error":"not owner"}"#, "not owner", Cure::Lock);
        check(r#"{"error":"aborted"}"#, "aborted", Cure::Nothing);
        check(r#"{"error":"not allowed"}"#, "not allowed", Cure::Correct);
        check(r#"{"error":"something new"}"#, "something new", Cure::Correct);

        #[track_caller]
        fn check(json: &str, text: &str, cure: Cure) {
            let error: ServerError = serde_json::from_str(json).expect(json);
            assert_eq!(error.to_string(), text);
            assert_eq!(error.kind.cure(), cure);
        }
    }
}
