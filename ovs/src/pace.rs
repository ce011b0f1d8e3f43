//! When to ask a silent server whether it lives, and when to try again.
//!
//! Both are plain arithmetic on instants; [`crate::Session`] and
//! [`crate::Client`] own the clock. The numbers are those of
//! `lib/reconnect.c` in Open vSwitch.

use std::time::Duration;

use tokio::time::Instant;

/// Watches a connection for silence.
///
/// After [`Probe::interval`] without a byte an `echo` is due; after as long
/// again the connection is dead. Any byte counts, not only whole messages: a
/// reply of many megabytes is no silence.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    interval: Option<Duration>,
    heard: Instant,
    asked: bool,
}

/// What a silence asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing yet.
    Bearable,
    /// Send an `echo`.
    Ask,
    /// Give the connection up.
    Dead,
}

impl Probe {
    /// Starts watching. `None` never asks.
    pub(crate) fn new(interval: Option<Duration>, now: Instant) -> Self {
        Self { interval, heard: now, asked: false }
    }

    /// Some bytes came.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = false;
    }

    /// When [`Probe::look`] will next have something to say.
    pub(crate) fn due(&self) -> Option<Instant> {
        let intervals = if self.asked { 2 } else { 1 };
        Some(self.heard + self.interval? * intervals)
    }

    /// What the silence asks for now.
    pub(crate) fn look(&mut self, now: Instant) -> Silence {
        match self.due() {
            Some(due) if due <= now && self.asked => Silence::Dead,
            Some(due) if due <= now => {
                self.asked = true;
                Silence::Ask
            }
            _ => Silence::Bearable,
        }
    }
}

/// How long to wait between attempts to connect.
///
/// Every remote gets one attempt without a wait; then the wait doubles from
/// `min` to `max`. A connection that worked for a while starts all over.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    free: usize,
    free_max: usize,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration, remotes: usize) -> Self {
        Self { min, max: max.max(min), next: min, free: remotes, free_max: remotes }
    }

    /// The connection came to work, so a failure after this is a new story.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
        self.free = self.free_max;
    }

    /// How long to wait before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        if 0 < self.free {
            self.free -= 1;
            return Duration::ZERO;
        }
        let pause = self.next;
        self.next = (self.next * 2).min(self.max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_is_asked_once_and_then_given_up() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut probe = Probe::new(Some(Duration::from_secs(5)), start);
        assert_eq!(probe.look(at(4)), Silence::Bearable);
        assert_eq!(probe.look(at(5)), Silence::Ask);
        assert_eq!(probe.due(), Some(at(10)));
        assert_eq!(probe.look(at(9)), Silence::Bearable);
        assert_eq!(probe.look(at(10)), Silence::Dead);
    }

    #[test]
    fn any_byte_ends_the_silence() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut probe = Probe::new(Some(Duration::from_secs(5)), start);
        assert_eq!(probe.look(at(5)), Silence::Ask);
        probe.heard(at(9));
        assert_eq!(probe.look(at(10)), Silence::Bearable);
        assert_eq!(probe.look(at(14)), Silence::Ask);
        assert_eq!(Probe::new(None, start).due(), None);
    }

    #[test]
    fn pauses_double_up_to_the_bound() {
        let secs = Duration::from_secs;
        let mut backoff = Backoff::new(secs(1), secs(8), 2);
        let pauses: Vec<u64> = (0..8).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 8, 8]);
        backoff.reset();
        let pauses: Vec<u64> = (0..4).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(pauses, [0, 0, 1, 2]);
    }
}
