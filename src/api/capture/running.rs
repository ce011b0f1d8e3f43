//! Devices that are overheard, all at once and in the order of time.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::os::unix::fs::MetadataExt;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, iter};

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::order::InOrder;
use super::outbox::Outbox;
use super::points::namespace;
use super::{Capture, Piece};
use crate::api::CallError;
use crate::kernel::netns;
use crate::kernel::tap::{self, Heard, Manner, Tap};
use crate::kernel::worker::{Where, Worker};
use crate::model::frame;
use crate::model::names::LabName;
use crate::model::pcapng::{self, Interface, Packet, Statistics, Way};
use crate::plan::capture::Point;

/// How much waits for whoever takes the pieces before the kernel is left to count what
/// is lost, in bytes.
const WAITING_MAX: usize = 16 << 20;

/// How many packets of one device are read before others have their turn.
const TURN: usize = 1024;

/// How long a packet is held back where there are several devices: so much later
/// one of another device that came before it may be found.
const HELD: Duration = Duration::from_millis(2);

/// How often it is looked whether a node is still there: a capture would keep its
/// namespace alive.
const NAMED_EVERY: Duration = Duration::from_millis(250);

/// A point that is overheard.
pub(super) struct Overheard {
    name: String,
    description: String,
    tap: Option<Tap>,
    link_type: pcapng::LinkType,
    mac: Option<[u8; 6]>,
    /// The node's namespace, and which one it was.
    netns: Option<(String, (u64, u64))>,
    statistics: Statistics,
}

/// Opens all, a namespace at a time.
pub(super) async fn open(
    points: Vec<(LabName, Point)>,
    manner: &Manner,
    promiscuous: bool,
) -> Result<Vec<Overheard>, CallError> {
    let worker = Worker::start()?;
    let mut of_place: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
    for (at, (lab, point)) in points.iter().enumerate() {
        of_place.entry(namespace(lab, &point.place)).or_default().push(at);
    }
    let several = points.iter().any(|(lab, _)| *lab != points[0].0);
    let mut opened = BTreeMap::new();
    for (netns, here) in of_place {
        let (place, kept) = match &netns {
            None => (Where::Home, None),
            Some(name) => {
                let file = netns::open(name)?;
                let which = file.metadata().map_err(CallError::not_started)?;
                (Where::In(file), Some((name.clone(), (which.dev(), which.ino()))))
            }
        };
        let device = |at: &usize| {
            let Point { device, is_local, .. } = &points[*at].1;
            (device.to_string(), promiscuous && !is_local)
        };
        let devices = here.iter().map(device).collect();
        let taps = tap::open(&worker, place, devices, manner).await?;
        for (at, tap) in here.into_iter().zip(taps) {
            let (lab, point) = &points[at];
            let of = match &netns {
                Some(netns) => format!("device {} in namespace {netns}", point.device),
                None => format!("device {}", point.device),
            };
            let overheard = Overheard {
                name: if several { format!("{lab}/{}", point.name) } else { point.name.clone() },
                description: format!("lab {lab}, {of}"),
                link_type: tap.link_type,
                mac: tap.mac,
                tap: Some(tap),
                netns: kept.clone(),
                statistics: Statistics { times_ns: (now(), 0), ..Statistics::default() },
            };
            opened.insert(at, overheard);
        }
    }
    Ok(opened.into_values().collect())
}

impl Overheard {
    /// Whether the node is still there, with the same namespace.
    fn is_named(&self) -> bool {
        let Some((name, which)) = &self.netns else { return true };
        let now = std::fs::metadata(netns::path(name));
        now.is_ok_and(|now| (now.dev(), now.ino()) == *which)
    }

    /// Takes note of what was counted.
    fn count(&mut self) -> Result<(), CallError> {
        if let Some(tap) = &self.tap {
            let (received, dropped) = tap.counted()?;
            self.statistics.received += received;
            self.statistics.dropped += dropped;
        }
        Ok(())
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// A capture that goes on.
pub struct Capturing {
    taps: Vec<Overheard>,
    waiting: InOrder<(usize, Packet)>,
    outbox: Outbox,
    written: u64,
    left: Option<u64>,
    ends_at: Option<Instant>,
    as_lines: bool,
}

impl fmt::Debug for Capturing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capturing").field("on", &self.names()).finish_non_exhaustive()
    }
}

/// What a round of listening came to.
#[derive(PartialEq, Eq)]
enum Round {
    /// All that was there is heard.
    Quiet,
    /// There is more.
    More,
}

impl Capturing {
    /// One that has begun, with the head of the file.
    pub(super) fn new(taps: Vec<Overheard>, asked: &Capture) -> Self {
        let ends_at = asked.seconds.map(|it| Instant::now() + Duration::from_secs(it));
        let mut capturing = Self {
            taps,
            waiting: InOrder::default(),
            outbox: Outbox::new(asked.lines),
            written: 0,
            left: asked.count,
            ends_at,
            as_lines: asked.lines,
        };
        if !asked.lines {
            capturing.write_head(asked);
        }
        capturing
    }

    fn write_head(&mut self, asked: &Capture) {
        let os = system();
        let application = concat!("ovsns ", env!("CARGO_PKG_VERSION"));
        self.outbox.write(&pcapng::section(application, &os));
        for tap in &self.taps {
            self.outbox.write(&pcapng::interface(&Interface {
                name: tap.name.clone(),
                description: tap.description.clone(),
                mac: tap.mac,
                link_type: tap.link_type,
                snaplen: asked.snaplen,
                filter: asked.filter.clone(),
                os: os.clone(),
            }));
        }
    }

    /// What is overheard.
    pub fn names(&self) -> Vec<String> {
        self.taps.iter().map(|tap| tap.name.clone()).collect()
    }

    /// Listens until there have been as many packets, or seconds, as were asked for, all
    /// devices are gone, `ends` is done, or nobody takes the pieces any more. They are
    /// not all taken by then: [`Self::end`] has the rest.
    ///
    /// # Errors
    /// A device cannot be heard any more.
    pub async fn listen(
        &mut self,
        pieces: &mpsc::Sender<Piece>,
        ends: impl Future<Output = ()>,
    ) -> Result<(), CallError> {
        let mut looks = interval(NAMED_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let held = if self.taps.len() == 1 { Duration::ZERO } else { HELD };
        let time = time(self.ends_at);
        let mut ends = pin!(ends);
        let mut time = pin!(time);
        let mut more = false;
        while self.left != Some(0) && self.taps.iter().any(|tap| tap.tap.is_some()) {
            let has_room = self.outbox.bytes() < WAITING_MAX;
            tokio::select! {
                biased;
                () = &mut ends => return Ok(()),
                () = &mut time => return Ok(()),
                () = pieces.closed() => return Ok(()),
                _ = looks.tick() => self.look()?,
                place = pieces.reserve(), if !self.outbox.is_empty() => {
                    let Ok(place) = place else { return Ok(()) };
                    place.send(self.outbox.pop().expect("it is not empty"));
                }
                () = any(&self.taps), if has_room && !more => {}
                () = std::future::ready(()), if has_room && more => {}
                () = sleep(held), if has_room && !self.waiting.is_empty() => {}
            }
            if self.outbox.bytes() < WAITING_MAX {
                let until = now().saturating_sub(held.as_nanos() as u64);
                more = self.hear(until)? == Round::More;
            }
        }
        Ok(())
    }

    /// Hears all devices once; what is older than `until` is put in order.
    fn hear(&mut self, mut until: u64) -> Result<Round, CallError> {
        let mut round = Round::Quiet;
        for at in 0..self.taps.len() {
            let mut last = 0;
            let mut heard = 0;
            while heard < TURN {
                let Some(tap) = &mut self.taps[at].tap else { break };
                match tap.hear()? {
                    Heard::Nothing => break,
                    Heard::Packet(packet) => {
                        last = packet.time_ns;
                        self.waiting.push(packet.time_ns, (at, packet));
                    }
                    Heard::Gone => self.close(at)?,
                }
                heard += 1;
            }
            if heard == TURN {
                // Nothing older comes from here, but something as old may.
                until = until.min(last);
                round = Round::More;
            }
        }
        while let Some((at, packet)) = self.waiting.pop(until) {
            self.write(at, &packet);
        }
        Ok(round)
    }

    fn write(&mut self, at: usize, packet: &Packet) {
        if self.left == Some(0) {
            return;
        }
        self.left = self.left.map(|left| left - 1);
        self.written += 1;
        let tap = &mut self.taps[at];
        tap.statistics.delivered += 1;
        if self.as_lines {
            self.outbox.write(line(&tap.name, tap.link_type, packet).as_bytes());
        } else {
            self.outbox.write(&pcapng::packet(at as u32, packet));
        }
    }

    /// Lets go of nodes that are gone.
    fn look(&mut self) -> Result<(), CallError> {
        for at in 0..self.taps.len() {
            if self.taps[at].tap.is_some() && !self.taps[at].is_named() {
                self.close(at)?;
            }
        }
        Ok(())
    }

    /// One device is no more.
    fn close(&mut self, at: usize) -> Result<(), CallError> {
        let tap = &mut self.taps[at];
        tap.count()?;
        tap.tap = None;
        tap.statistics.times_ns.1 = now();
        self.outbox.tell(Piece::Told(format!("{} is gone", tap.name)));
        Ok(())
    }

    /// Hears what came until now, counts, and has all that was not taken yet, with the
    /// end of the file.
    ///
    /// # Errors
    /// A device cannot be heard any more.
    pub fn end(mut self) -> Result<Vec<Piece>, CallError> {
        for tap in &self.taps {
            if let Some(tap) = &tap.tap {
                tap.close()?;
            }
        }
        while self.hear(u64::MAX)? == Round::More {}
        let mut dropped = 0;
        for at in 0..self.taps.len() {
            let tap = &mut self.taps[at];
            tap.count()?;
            if tap.tap.take().is_some() {
                tap.statistics.times_ns.1 = now();
            }
            dropped += tap.statistics.dropped;
            if !self.as_lines {
                self.outbox.write(&pcapng::statistics(at as u32, &tap.statistics));
            }
        }
        let mut rest: Vec<Piece> = iter::from_fn(|| self.outbox.pop()).collect();
        rest.push(Piece::Ended { packets: self.written, dropped });
        Ok(rest)
    }
}

async fn time(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits until one of them hears something.
async fn any(taps: &[Overheard]) {
    poll_fn(|context| {
        let mut ready = Poll::Pending;
        for tap in taps.iter().filter_map(|tap| tap.tap.as_ref()) {
            // All are asked, so that any of them wakes us.
            if tap.poll(context).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    })
    .await;
}

/// A packet for a person: the time of day (UTC), where, which way, and what.
fn line(name: &str, link_type: pcapng::LinkType, packet: &Packet) -> String {
    let (seconds, micros) = (packet.time_ns / 1_000_000_000, packet.time_ns / 1000 % 1_000_000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    let way = if packet.way == Way::Out { "out" } else { "in" };
    let what = frame::in_a_line(&packet.bytes, link_type, packet.length);
    format!("{hours:02}:{minutes:02}:{:02}.{micros:06} {name} {way:3} {what}\n", seconds % 60)
}

/// The system, as `uname -sr` has it.
fn system() -> String {
    let name = nix::sys::utsname::uname();
    name.map_or_else(
        |_| "Linux".to_owned(),
        |it| format!("{} {}", it.sysname().to_string_lossy(), it.release().to_string_lossy()),
    )
}
