//! Packets of nodes and of switch ports, as they pass.

mod order;
mod outbox;
mod points;
mod running;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::points::Labs;
pub use self::running::Capturing;
use super::desk::allowed;
use super::{Call, CallError, Desk, Failure};
use crate::kernel::permissions::Capability;
use crate::kernel::tap::{FilterError, Filters, Manner, SNAPLEN_MAX};

/// Lists what can be captured on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapturePoints {
    /// The lab; all if none is named.
    pub lab: Option<String>,
}

/// A device that can be captured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CapturePoint {
    /// Its lab.
    pub lab: String,
    /// What it is called: `n1:eth0`, `s1:n1:eth0`, `s1:LOCAL`.
    pub name: String,
    /// The namespace it is in; nothing if that is the machine's own.
    pub netns: Option<String>,
    /// The device.
    pub device: String,
}

impl Call for CapturePoints {
    const NAME: &'static str = "capture.points";
    type Answer = Vec<CapturePoint>;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Vec<CapturePoint>, CallError> {
        let mut engine = desk.engine("ovsns capture").await?;
        Ok(Labs::look(&mut engine, &[], self.lab.as_deref()).await?.all())
    }
}

/// Which packets to capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// Where: `NODE`, `NODE:INTERFACE`, `SWITCH`, `SWITCH:PORT`, `SWITCH:LOCAL`, each
    /// also as `LAB/...`.
    pub points: Vec<String>,
    /// Which, as pcap-filter(7) says it.
    pub filter: Option<String>,
    /// It ends after so many packets, 1 or more.
    pub count: Option<u64>,
    /// It ends after so many seconds, 1 or more.
    pub seconds: Option<u64>,
    /// How many bytes of a packet are kept, from 1 to 524288.
    pub snaplen: u32,
    /// Room for packets that wait to be read, for each interface, in KiB, from 4 to
    /// 1048576.
    pub buffer: u32,
    /// Whether NICs are asked for packets that are for others.
    pub promiscuous: bool,
    /// A line a packet, instead of a file.
    pub lines: bool,
    /// The lab; the only one that has it if none is named.
    pub lab: Option<String>,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            filter: None,
            count: None,
            seconds: None,
            snaplen: 262_144,
            buffer: 32_768,
            promiscuous: true,
            lines: false,
            lab: None,
        }
    }
}

/// What comes of a capture, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// What is overheard: the first piece.
    On(Vec<String>),
    /// The next bytes of a file in the format pcapng, in base64 (RFC 4648 section 4).
    /// The file is complete after the last piece.
    #[serde(with = "base64_text")]
    #[schemars(with = "String")]
    Pcapng(Vec<u8>),
    /// Lines, each a packet, with their ends.
    Lines(String),
    /// A line for a person, such as that a node is gone.
    Told(String),
    /// It is over; the last piece.
    Ended {
        /// How many packets were captured.
        packets: u64,
        /// How many were lost for want of room.
        dropped: u64,
    },
    /// It is over, by this; the last piece.
    Failed(Failure),
}

impl Capture {
    /// Begins to capture: what passes from now on is heard.
    ///
    /// Like `tcpdump -i DEVICE -w FILE` in each of the namespaces.
    ///
    /// # Errors
    /// There is no such place, or more than one; the filter is none; devices cannot be
    /// overheard.
    pub async fn begin(&self, desk: &mut Desk<'_>) -> Result<Capturing, CallError> {
        self.check()?;
        allowed(&[Capability::NetAdmin, Capability::SysAdmin, Capability::NetRaw])?;
        let mut engine = desk.engine("ovsns capture").await?;
        let labs = Labs::look(&mut engine, &self.points, self.lab.as_deref()).await?;
        let points = labs.find(&self.points)?;
        let buffer = self.buffer as usize * 1024;
        let manner = Manner { snaplen: self.snaplen, buffer, filters: self.filters()? };
        let taps = running::open(points, &manner, self.promiscuous).await?;
        Ok(Capturing::new(taps, self))
    }

    fn check(&self) -> Result<(), CallError> {
        let wrong = |what: &str, hint: &str| Err(CallError::usage(what, hint));
        if self.points.is_empty() {
            return wrong("it is not said where to capture", "name a node or a switch");
        }
        if self.count == Some(0) {
            return wrong("`count` is 0", "say how many packets, 1 or more");
        }
        if self.seconds.is_some_and(|it| !(1..=31_536_000).contains(&it)) {
            return wrong("`seconds` is out of range", "say for how long, from 1 to 31536000");
        }
        if !(1..=SNAPLEN_MAX).contains(&self.snaplen) {
            return wrong("`snaplen` is out of range", "give bytes, from 1 to 524288");
        }
        if !(4..=1_048_576).contains(&self.buffer) {
            return wrong("`buffer` is out of range", "give KiB, from 4 to 1048576");
        }
        Ok(())
    }

    fn filters(&self) -> Result<Filters, CallError> {
        let Some(filter) = &self.filter else { return Ok(Filters::all(self.snaplen)) };
        Filters::compile(filter, self.snaplen).map_err(|error| {
            let hint = match &error {
                FilterError::NoCompiler => {
                    "install it: `apt install tcpdump`, or leave out the filter"
                }
                FilterError::Bad { .. } => {
                    "pcap-filter(7) says how, such as `tcp port 80 and host 10.0.0.1`"
                }
            };
            CallError::usage(error.to_string(), hint)
        })
    }
}

/// Bytes in JSON.
mod base64_text {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(from)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_opened() {
        let good = Capture { points: vec!["n1".into()], ..Capture::default() };
        assert!(good.check().is_ok());
        for wrong in [
            Capture::default(),
            Capture { count: Some(0), ..good.clone() },
            Capture { seconds: Some(0), ..good.clone() },
            Capture { seconds: Some(31_536_001), ..good.clone() },
            Capture { snaplen: 0, ..good.clone() },
            Capture { snaplen: SNAPLEN_MAX + 1, ..good.clone() },
            Capture { buffer: 3, ..good.clone() },
        ] {
            let error = wrong.check().expect_err("it is not taken").told();
            assert_eq!((error.status, error.hints.len()), (2, 1), "{wrong:?}: {error:?}");
        }
    }

    #[test]
    fn bytes_are_told_in_base64() {
        let piece = Piece::Pcapng(vec![0, 0xff, 7]);
        let text = serde_json::to_string(&piece).expect("JSON");
        assert_eq!(text, r#"{"pcapng":"AP8H"}"#);
        assert_eq!(serde_json::from_str::<Piece>(&text).expect("a piece"), piece);
    }
}
