//! Those at the other end of the keeper's connections: who is there, who needs
//! Open vSwitch, and what they are told.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::OwnError;
use super::wire::{self, Ask, Tell};

/// The number of the connection to the command that started us.
pub(super) const STARTER: u64 = 0;
/// How long that may take to read that it was in vain.
const STARTER_WITHIN: Duration = Duration::from_secs(5);
/// The pause after a connection could not be accepted, for want of memory or
/// files: there is nothing to await.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Something came over a connection.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) from: u64,
    pub(super) what: Heard,
}

/// What came.
#[derive(Debug)]
pub(super) enum Heard {
    /// It is there; this is how to answer.
    Came(OwnedWriteHalf),
    /// It asks.
    Asked(Ask),
    /// It is gone.
    Gone,
}

/// Passes on what comes over all connections.
pub(super) async fn accept(listener: UnixListener, events: mpsc::Sender<Event>) {
    for number in STARTER + 1.. {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(listen_to(number, stream, events.clone()))),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Passes on what comes over a connection.
pub(super) async fn listen_to(from: u64, stream: UnixStream, events: mpsc::Sender<Event>) {
    let peer = stream.peer_cred().map(|peer| peer.uid());
    let (read, write) = stream.into_split();
    if !peer.is_ok_and(wire::may_be_trusted) {
        let owner = geteuid().as_raw();
        let refusal = wire::line(&Tell::Failed(OwnError::NotYours { owner }));
        let _ = write.writable().await.and_then(|()| write.try_write(&refusal));
        return;
    }
    let tell = async |what| events.send(Event { from, what }).await.is_ok();
    if !tell(Heard::Came(write)).await {
        return;
    }
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A word of another version is no reason to do anything.
        let Ok(ask) = serde_json::from_str(&line) else { break };
        if !tell(Heard::Asked(ask)).await {
            return;
        }
    }
    tell(Heard::Gone).await;
}

/// All who are there.
#[derive(Debug, Default)]
pub(super) struct Peers(BTreeMap<u64, Peer>);

#[derive(Debug)]
struct Peer {
    out: OwnedWriteHalf,
    part: Part,
}

/// What Open vSwitch is to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing that would keep it.
    None,
    /// It needs it, and waits until it is ready, perhaps to have it kept.
    Waits {
        /// Whether it is to stay afterwards.
        keep: bool,
    },
    /// It needs it, and has been told that it is ready.
    Holds,
}

impl Peers {
    /// Takes note of one.
    pub(super) fn came(&mut self, from: u64, out: OwnedWriteHalf) {
        self.0.insert(from, Peer { out, part: Part::None });
    }

    /// Forgets one; says what Open vSwitch was to it.
    pub(super) fn gone(&mut self, from: u64) -> Part {
        self.0.remove(&from).map_or(Part::None, |peer| peer.part)
    }

    /// Takes note of what Open vSwitch is to one now.
    pub(super) fn play(&mut self, from: u64, part: Part) {
        if let Some(peer) = self.0.get_mut(&from) {
            peer.part = part;
        }
    }

    /// How many need it.
    pub(super) fn users(&self) -> usize {
        self.0.values().filter(|peer| peer.part != Part::None).count()
    }

    /// Whether one waits to have it kept.
    pub(super) fn want_it_kept(&self) -> bool {
        self.0.values().any(|peer| peer.part == Part::Waits { keep: true })
    }

    /// Answers one.
    pub(super) fn tell(&self, to: u64, answer: &Tell) {
        if let Some(peer) = self.0.get(&to) {
            peer.tell(answer);
        }
    }

    /// Answers all who wait, and takes note of what they are then.
    pub(super) fn tell_waiting(&mut self, answer: &Tell, then: Part) {
        let all = self.0.values_mut();
        for peer in all.filter(|peer| matches!(peer.part, Part::Waits { .. })) {
            peer.part = then;
            peer.tell(answer);
        }
    }

    /// Tells all the last they hear. The kernel closes the connections when it
    /// has ended this process, and nothing of it is left for those who wait
    /// for that.
    pub(super) fn part(self, answer: &Tell) {
        for peer in self.0.values() {
            peer.tell(answer);
        }
        std::mem::forget(self);
    }

    /// Gives all who would use Open vSwitch the same answer, until the command
    /// that started us has heard it. Others see that there is none when this
    /// process ends.
    pub(super) async fn refuse(mut self, heard: &mut mpsc::Receiver<Event>, answer: &Tell) {
        let all = async {
            while let Some(Event { from, what }) = heard.recv().await {
                match what {
                    Heard::Came(out) => self.came(from, out),
                    Heard::Asked(Ask::Hold { .. }) => self.tell(from, answer),
                    Heard::Asked(Ask::Show | Ask::Leave | Ask::Stop) => {}
                    Heard::Gone if from == STARTER => return,
                    Heard::Gone => drop(self.gone(from)),
                }
            }
        };
        // A command that was killed meanwhile is gone, too, and one that sleeps
        // finds the answer when it wakes.
        let _ = timeout(STARTER_WITHIN, all).await;
    }
}

impl Peer {
    /// Says it. One line always fits into a socket that is read; whoever does
    /// not read misses it.
    fn tell(&self, answer: &Tell) {
        let _ = self.out.try_write(&wire::line(answer));
    }
}
