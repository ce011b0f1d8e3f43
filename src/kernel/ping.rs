//! Pinging from inside nodes, in this process, many pairs at once.
//!
//! Each node gets a raw socket for each family it needs, made inside it. The
//! sockets hear all ICMP of their node; what is not a reply to a probe of
//! ours is passed over. More pairs than the machine can know neighbours ask in
//! rounds, after each of which their nodes forget again whom they have asked.

mod neighbours;
mod rounds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType, sockopt};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::error::KernelError;
use super::netns;
use super::worker::{Where, Worker};
use crate::model::icmp::{BYTES, Echo};

/// Probes under way at a time, over all nodes: enough to keep both ends busy,
/// few enough that replies are read before a socket's buffer is full.
const IN_FLIGHT_MAX: usize = 2048;

/// Receive buffer of a socket in bytes. In a matrix of N nodes each hears
/// some N requests and N replies, at about 800 bytes of the kernel's each.
const BUFFER_BYTES: usize = 4 << 20;

/// Who asks whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The namespace that asks.
    pub netns: String,
    /// The namespace that should answer.
    pub answers_in: String,
    /// At which address.
    pub to: IpAddr,
}

/// How often, and how long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Requests for each probe, one after the other.
    pub count: u32,
    /// How long to wait for each answer.
    pub timeout: Duration,
}

/// What became of a probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests that were sent, or could not be.
    pub sent: u32,
    /// Answers that came in time.
    pub received: u32,
    /// The shortest and the longest time to an answer.
    pub times: Option<(Duration, Duration)>,
    /// Why a request could not be sent.
    pub refused: Option<Errno>,
}

impl Outcome {
    /// Whether every request was answered.
    pub fn all_answered(&self) -> bool {
        self.sent == self.received && 0 < self.received
    }

    fn answered(&mut self, time: Duration) {
        self.received += 1;
        let (least, most) = self.times.unwrap_or((time, time));
        self.times = Some((least.min(time), most.max(time)));
    }
}

/// Sends all probes and returns what became of each, in their order.
///
/// Like `ip netns exec NETNS ping -c COUNT -W TIMEOUT TO`, for each.
pub async fn ping(
    worker: &Worker,
    probes: &[Probe],
    patience: Patience,
) -> Result<Vec<Outcome>, KernelError> {
    let rounds = rounds::rounds(probes, rounds::room());
    let mut outcomes = vec![Outcome::default(); probes.len()];
    let several = 1 < rounds.len();
    for round in rounds {
        let asked: Vec<_> = round.iter().map(|place| (*place, &probes[*place])).collect();
        let mut before = BTreeMap::new();
        if several {
            let ends = asked.iter().flat_map(|(_, it)| [&*it.netns, &*it.answers_in]);
            before = neighbours::known(worker, &ends.collect::<BTreeSet<_>>()).await?;
        }
        for (place, outcome) in ask(worker, &asked, patience).await? {
            outcomes[place] = outcome;
        }
        neighbours::know_only(worker, before).await?;
    }
    Ok(outcomes)
}

/// Sends probes at once, each with its place, and returns what became of them.
async fn ask(
    worker: &Worker,
    asked: &[(usize, &Probe)],
    patience: Patience,
) -> Result<BTreeMap<usize, Outcome>, KernelError> {
    let mut by_node: BTreeMap<&str, Vec<(usize, IpAddr)>> = BTreeMap::new();
    for (place, probe) in asked {
        by_node.entry(&probe.netns).or_default().push((*place, probe.to));
    }
    let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut pingers = JoinSet::new();
    for (netns, probes) in by_node {
        let v4 = open(worker, netns, probes.iter().any(|(_, to)| to.is_ipv4()), true).await?;
        let v6 = open(worker, netns, probes.iter().any(|(_, to)| to.is_ipv6()), false).await?;
        let pinger = Pinger {
            v4,
            v6,
            // Several may ping from one node; the token tells our probes apart.
            id: u16::try_from(std::process::id() & 0xffff).expect("masked"),
            waiting: probes.iter().flat_map(|(i, to)| attempts(*i, *to, patience.count)).collect(),
            under_way: BTreeMap::new(),
            done: probes.iter().map(|(index, _)| (*index, Outcome::default())).collect(),
            timeout: patience.timeout,
            permits: permits.clone(),
            next_token: 0,
        };
        pingers.spawn(pinger.run());
    }
    let mut outcomes = BTreeMap::new();
    while let Some(done) = pingers.join_next().await {
        let done = done.map_err(|_| KernelError::new("ping", Errno::ECANCELED))?;
        outcomes.extend(done?);
    }
    Ok(outcomes)
}

fn attempts(index: usize, to: IpAddr, count: u32) -> impl Iterator<Item = (usize, IpAddr)> {
    (0..count).map(move |_| (index, to))
}

/// A raw socket for ICMP inside a namespace, if it is needed.
async fn open(
    worker: &Worker,
    netns: &str,
    needed: bool,
    is_v4: bool,
) -> Result<Option<UdpSocket>, KernelError> {
    if !needed {
        return Ok(None);
    }
    let (family, protocol) = if is_v4 {
        (AddressFamily::Inet, SockProtocol::Icmp)
    } else {
        (AddressFamily::Inet6, SockProtocol::IcmpV6)
    };
    let asked = format!("open a raw socket in namespace `{netns}`");
    let fail = |errno| KernelError::new(asked.clone(), errno);
    let place = Where::In(netns::open(netns)?);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let make = move || socket::socket(family, SockType::Raw, flags, protocol);
    let socket = worker.inside(place, make).await?.map_err(fail)?;
    // Refused without CAP_NET_ADMIN in the first user namespace; then the
    // buffer is what everybody has, which is enough for a few hundred nodes.
    let _ = socket::setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES);
    // A raw socket is read and written by the same calls as a UDP socket, which
    // tokio knows how to wait for.
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket));
    socket.map(Some).map_err(|e| KernelError::from_io(asked.clone(), &e))
}

/// A request that waits for its answer.
struct UnderWay {
    index: usize,
    to: IpAddr,
    sent: Instant,
    _permit: OwnedSemaphorePermit,
}

/// All probes of one node.
struct Pinger {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    id: u16,
    waiting: VecDeque<(usize, IpAddr)>,
    /// By token, which grows: the first is the oldest.
    under_way: BTreeMap<u64, UnderWay>,
    done: BTreeMap<usize, Outcome>,
    timeout: Duration,
    permits: Arc<Semaphore>,
    next_token: u64,
}

impl Pinger {
    async fn run(mut self) -> Result<BTreeMap<usize, Outcome>, KernelError> {
        loop {
            if self.waiting.is_empty() && self.under_way.is_empty() {
                return Ok(self.done);
            }
            let oldest = self.under_way.values().next().map(|probe| probe.sent + self.timeout);
            let expiry = oldest.map_or_else(far_away, tokio::time::Instant::from_std);
            tokio::select! {
                // Answers first: a probe that was answered in time counts,
                // however late we come to read it.
                biased;
                () = readable(self.v4.as_ref()) => self.read(true)?,
                () = readable(self.v6.as_ref()) => self.read(false)?,
                () = tokio::time::sleep_until(expiry) => self.expire(),
                permit = self.may_send(), if !self.waiting.is_empty() => self.send_next(permit),
            }
        }
    }

    /// Waits for a turn and for room in the sockets.
    async fn may_send(&self) -> OwnedSemaphorePermit {
        let permit = self.permits.clone().acquire_owned().await.expect("never closed");
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            // An error shows again when the socket is written.
            let _ = socket.writable().await;
        }
        permit
    }

    fn send_next(&mut self, permit: OwnedSemaphorePermit) {
        let Some((index, to)) = self.waiting.pop_front() else { return };
        let token = self.next_token;
        self.next_token += 1;
        let sequence = u16::try_from(token & 0xffff).expect("masked");
        let echo = Echo { id: self.id, sequence, token };
        let outcome = self.done.get_mut(&index).expect("one for each probe");
        outcome.sent += 1;
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let socket = socket.as_ref().expect("opened for this family");
        let sent_at = Instant::now();
        let request = if to.is_ipv4() { echo.request_v4() } else { echo.request_v6() };
        let sent = socket.try_send_to(&request, SocketAddr::new(to, 0));
        let sent =
            sent.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(Errno::EAGAIN as i32)));
        match sent {
            Ok(_) => {
                let under_way = UnderWay { index, to, sent: sent_at, _permit: permit };
                self.under_way.insert(token, under_way);
            }
            // The buffer is full of frames that wait for an address to be
            // resolved. It empties with the answers and with time.
            Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                outcome.sent -= 1;
                self.waiting.push_back((index, to));
            }
            // No route, no such network, filtered: an answer of its own kind.
            Err(errno) => outcome.refused = Some(errno),
        }
    }

    fn read(&mut self, is_v4: bool) -> Result<(), KernelError> {
        let socket = if is_v4 { &self.v4 } else { &self.v6 };
        let Some(socket) = socket else { return Ok(()) };
        // A longer message is cut, and none of ours is longer.
        let mut packet = [0; 60 + BYTES];
        loop {
            let read = socket.try_recv_from(&mut packet);
            let (bytes, from) = match read {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // An unreachable that came back for one of the probes.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::HostUnreachable
                            | io::ErrorKind::NetworkUnreachable
                            | io::ErrorKind::ConnectionRefused
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(KernelError::from_io("read echo replies", &error)),
            };
            let packet = &packet[..bytes];
            let echo = if is_v4 { Echo::reply_v4(packet) } else { Echo::reply_v6(packet) };
            let Some(echo) = echo.filter(|echo| echo.id == self.id) else { continue };
            let answers = |probe: &UnderWay| from.ip() == probe.to;
            if !self.under_way.get(&echo.token).is_some_and(answers) {
                continue;
            }
            if let Some(probe) = self.under_way.remove(&echo.token) {
                let outcome = self.done.get_mut(&probe.index).expect("one for each probe");
                outcome.answered(probe.sent.elapsed());
            }
        }
    }

    /// Gives up on the oldest probes.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(oldest) = self.under_way.first_entry() {
            if now < oldest.get().sent + self.timeout {
                break;
            }
            oldest.remove();
        }
    }
}

fn far_away() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(3600)
}

async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        // An error shows again when the socket is read.
        Some(socket) => drop(socket.readable().await),
        None => std::future::pending().await,
    }
}
