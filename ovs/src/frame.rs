//! Where one JSON message ends and the next begins.
//!
//! RFC 7047 section 4 puts nothing between messages: no length, no newline.
//! [`Framer`] finds the end of each by counting brackets outside strings, and
//! remembers how far it has looked, so that a message that comes in a thousand
//! pieces is looked at once and not a thousand times. It does no IO, and knows
//! JSON no further than that; what it cuts out may still be no JSON.

/// A stream that is not a sequence of JSON objects of bearable length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Something other than `{` begins a message.
    #[error("a message begins with {}, not with `{{`", show(*.0))]
    NotAnObject(u8),
    /// A message goes on beyond the bound.
    #[error("a message is longer than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
}

fn show(byte: u8) -> String {
    format!("`{}`", byte.escape_ascii())
}

/// Cuts a stream of bytes into JSON objects.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Where the message that is being looked at begins.
    start: usize,
    /// Up to where it has been looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    bytes_max: usize,
}

impl Framer {
    /// A framer with nothing in it. Messages may have up to `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            bytes_max,
        }
    }

    /// Where to put what was read: at the end. Nothing before that may change.
    pub(crate) fn spare(&mut self) -> &mut Vec<u8> {
        // What was handed out already goes first, once for each read.
        if 0 < self.start {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        // A burst of updates must not be paid for during a whole quiet life.
        if self.buffer.is_empty() && 1 << 20 < self.buffer.capacity() {
            self.buffer = Vec::new();
        }
        &mut self.buffer
    }

    /// Puts in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.spare().extend_from_slice(bytes);
    }

    /// Returns the next whole message, or `None` until more is put in.
    ///
    /// After an error the stream cannot be understood any more.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FrameError> {
        while self.scanned < self.buffer.len() {
            let byte = self.buffer[self.scanned];
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        self.scanned += 1;
                        self.start = self.scanned;
                        continue;
                    }
                    b'{' => {}
                    other => return Err(FrameError::NotAnObject(other)),
                }
            }
            self.scanned += 1;
            if self.bytes_max < self.scanned - self.start {
                return Err(FrameError::TooLong { bytes_max: self.bytes_max });
            }
            if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                match byte {
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
                if self.depth == 0 {
                    let message = self.start..self.scanned;
                    self.start = self.scanned;
                    return Ok(Some(&self.buffer[message]));
                }
            }
        }
        Ok(None)
    }

    /// Whether part of a message is in here.
    pub fn is_mid_message(&self) -> bool {
        self.start < self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All messages of `pieces`, put in one after another.
    fn cut(pieces: &[&[u8]], bytes_max: usize) -> Result<Vec<String>, FrameError> {
        let mut framer = Framer::new(bytes_max);
        let mut messages = Vec::new();
        for piece in pieces {
            framer.push(piece);
            while let Some(message) = framer.next_message()? {
                messages.push(String::from_utf8_lossy(message).into_owned());
            }
        }
        Ok(messages)
    }

    #[test]
    fn messages_are_cut_out() {
        check("", &[]);
        check("{}", &["{}"]);
        check("{}{}", &["{}", "{}"]);
        check(" \n{\"a\":[1,{}]}\t{} ", &["{\"a\":[1,{}]}", "{}"]);
        check(r#"{"a":"}"}{"b":"\"}"}"#, &[r#"{"a":"}"}"#, r#"{"b":"\"}"}"#]);
        check(r#"{"a":"\\"}{}"#, &[r#"{"a":"\\"}"#, "{}"]);
        check(r#"{"a":"{"#, &[]);

        #[track_caller]
        fn check(stream: &str, messages: &[&str]) {
            assert_eq!(cut(&[stream.as_bytes()], 100).unwrap(), messages, "whole");
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(cut(&bytes, 100).unwrap(), messages, "byte by byte");
        }
    }

    #[test]
    fn what_is_no_message() {
        check("x", "a message begins with `x`, not with `{`");
        check("{}]", "a message begins with `]`, not with `{`");
        check("[]", "a message begins with `[`, not with `{`");
        check("\"a\"", "a message begins with `\\\"`, not with `{`");
        check(&format!("{{\"a\":\"{}\"}}", "x".repeat(100)), "a message is longer than 100 bytes");

        #[track_caller]
        fn check(stream: &str, error: &str) {
            assert_eq!(cut(&[stream.as_bytes()], 100).unwrap_err().to_string(), error);
        }
    }

    /// A client that takes a short read for the end of a message hangs on
    /// replies whose length is a multiple of its buffer's.
    #[test]
    fn lengths_around_multiples_of_4096() {
        for pages in 1..5 {
            for bytes in pages * 4096 - 2..=pages * 4096 + 2 {
                let message = format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
                assert_eq!(message.len(), bytes);
                let reads: Vec<&[u8]> = message.as_bytes().chunks(4096).collect();
                assert_eq!(cut(&reads, 1 << 20).unwrap(), [message.as_str()]);
            }
        }
    }

    /// Looking at each byte once: 4 MB in single bytes would take hours otherwise.
    #[test]
    fn a_long_message_in_single_bytes_is_scanned_once() {
        let message = format!("{{\"a\":\"{}\"}}", "x".repeat(4 << 20));
        let bytes: Vec<&[u8]> = message.as_bytes().chunks(1).collect();
        assert_eq!(cut(&bytes, 8 << 20).unwrap(), [message.as_str()]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_messages(
            texts in proptest::collection::vec(".{0,20}", 1..6),
            split in 1usize..40,
        ) {
            let messages: Vec<String> =
                texts.iter().map(|text| serde_json::json!({ "t": text }).to_string()).collect();
            let stream = messages.concat();
            let pieces: Vec<&[u8]> = stream.as_bytes().chunks(split).collect();
            prop_assert_eq!(cut(&pieces, 1 << 20).unwrap(), messages);
        }

        #[test]
        fn any_bytes_end_in_messages_or_an_error(bytes: Vec<u8>) {
            let _ = cut(&[&bytes], 64);
        }
    }
}
