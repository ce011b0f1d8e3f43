//! Sending one packet, and watching every namespace on its way meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sockopt,
};

use super::facts::counters;
use super::filter::{Trace, chains};
use super::tap::Ear;
use super::{Names, place, queue};
use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::worker::Worker;
use crate::model::icmp::Echo;
use crate::model::names::{LabName, NodeName};
use crate::model::packet::{Carried, Packet, Spot};
use crate::plan::why::facts::{Dropped, Outcome, Tried};

/// When requests are sent, and when it ends: the kernel asks for a neighbour
/// once a second, and a frame may get lost on a busy machine.
const SENT_AFTER: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_millis(800)];
const ENDS_AFTER: Duration = Duration::from_millis(1300);
/// How often it is looked whether an answer came.
const LOOK: Duration = Duration::from_millis(2);

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Asked {
    /// From this node.
    pub node: NodeName,
    /// The packet. The port that TCP and UDP come from is chosen here.
    pub packet: Packet,
    /// How long it is with its IP header, in bytes; 0 for no more than needed. A
    /// longer one is not to be cut up on the way.
    pub bytes: usize,
}

/// What one namespace had before.
struct Before {
    counted: BTreeMap<String, u64>,
    rules: BTreeMap<(String, String, u64), u64>,
    dropped: BTreeMap<String, u64>,
    ear: Ear,
    trace: Option<Trace>,
}

/// Sends a packet, and says what came of it and where it was seen.
///
/// Like `ping`, or `nc -z`, with `tcpdump` in every namespace beside it.
pub async fn probe(
    worker: &Worker,
    lab: &LabName,
    asked: &Asked,
    names: &Names,
) -> Result<Tried, KernelError> {
    let (mut sender, packet) = open(worker, lab, asked).await?;
    let mut watched: BTreeMap<Spot, Before> = BTreeMap::new();
    for (spot, names) in names {
        let Some(place) = place(lab, spot)? else { continue };
        let (names, here) = (names.clone(), spot.clone());
        let begin = move || before(&here, names, &packet);
        watched.insert(spot.clone(), worker.inside(place, begin).await??);
    }
    let mut tried = Tried {
        packet: Some(packet),
        bytes: asked.bytes,
        watched: watched.keys().cloned().collect(),
        ..Tried::default()
    };
    let start = Instant::now();
    let mut waiting = SENT_AFTER.iter();
    let mut next = waiting.next();
    loop {
        if let Some(after) = next.filter(|after| **after <= start.elapsed()) {
            let _ = after;
            next = waiting.next();
            if let Err(errno) = sender.send() {
                tried.outcome = Outcome::NotSent(errno as i32);
            }
        }
        tokio::time::sleep(LOOK).await;
        for before in watched.values() {
            before.ear.heard(&packet, &mut tried.seen);
        }
        if let Some(outcome) = sender.heard() {
            tried.outcome = outcome;
            break;
        }
        if ENDS_AFTER <= start.elapsed() {
            break;
        }
    }
    for before in watched.values() {
        before.ear.heard(&packet, &mut tried.seen);
    }
    for (spot, before) in watched {
        let Some(place) = place(lab, &spot)? else { continue };
        let (here, devices) = (spot.clone(), names[&spot].clone());
        let after = worker.inside(place, move || after(&here, before, &packet, &devices)).await??;
        tried.counted.extend(after.counted.into_iter().map(|(key, by)| ((spot.clone(), key), by)));
        tried.matched.extend(
            after
                .matched
                .into_iter()
                .map(|(table, chain, handle)| (spot.clone(), table, chain, handle)),
        );
        tried.lost_in.extend(after.lost_in.into_iter().map(|it| (spot.clone(), it)));
        tried.dropped.extend(after.dropped);
    }
    tried.dropped.sort();
    tried.dropped.dedup();
    Ok(tried)
}

fn before(
    spot: &Spot,
    names: BTreeMap<u32, String>,
    packet: &Packet,
) -> Result<Before, KernelError> {
    let chains = chains()?;
    // A namespace of somebody else's gets no table of ours.
    let traces = *spot != Spot::Home && !chains.is_empty();
    let trace = if traces { Trace::begin(spot, packet).ok() } else { None };
    Ok(Before {
        counted: counters(),
        rules: rules()?,
        dropped: dropped(&names)?,
        ear: Ear::open(spot, names)?,
        trace,
    })
}

/// What rules counted that count.
fn rules() -> Result<BTreeMap<(String, String, u64), u64>, KernelError> {
    let mut found = BTreeMap::new();
    for chain in chains()? {
        for rule in chain.rules {
            let key = (chain.table.clone(), chain.name.clone(), rule.handle);
            found.extend(rule.packets.map(|packets| (key, packets)));
        }
    }
    Ok(found)
}

/// What queues and filters dropped so far.
fn dropped(names: &BTreeMap<u32, String>) -> Result<BTreeMap<String, u64>, KernelError> {
    let mut found = BTreeMap::new();
    for queue in queue::queues(&Netlink::new()?, names)? {
        *found.entry(queue.removed_by).or_default() += queue.dropped;
    }
    Ok(found)
}

struct After {
    counted: BTreeMap<String, u64>,
    matched: BTreeSet<(String, String, u64)>,
    lost_in: BTreeSet<String>,
    dropped: Vec<Dropped>,
}

fn after(
    spot: &Spot,
    before: Before,
    packet: &Packet,
    names: &BTreeMap<u32, String>,
) -> Result<After, KernelError> {
    let rose = |before: &BTreeMap<String, u64>, after: BTreeMap<String, u64>| {
        let by = after.into_iter().map(|(key, now)| {
            let then = before.get(&key).copied().unwrap_or_default();
            (key, now.saturating_sub(then))
        });
        by.filter(|(_, by)| *by != 0).collect::<BTreeMap<_, _>>()
    };
    let matched = rules()?
        .into_iter()
        .filter(|(key, now)| before.rules.get(key).copied().unwrap_or_default() < *now);
    let matched = matched.map(|(key, _)| key).collect();
    let mut filtered = before.trace.map(|trace| trace.dropped(packet)).unwrap_or_default();
    for dropped in &mut filtered {
        dropped.text = rule_text(dropped);
    }
    let _ = spot;
    Ok(After {
        counted: rose(&before.counted, counters()),
        matched,
        lost_in: rose(&before.dropped, dropped(names)?).into_keys().collect(),
        dropped: filtered,
    })
}

/// A rule as `nft` shows it, where that is installed: the namespace of the
/// calling thread is that of the child, too.
///
/// Like `nft -a list chain FAMILY TABLE CHAIN`.
fn rule_text(dropped: &Dropped) -> Option<String> {
    let handle = dropped.handle?;
    let mut command = std::process::Command::new("nft");
    command.args(["-a", "list", "chain", dropped.family, &dropped.table, &dropped.chain]);
    let said = command.stdin(std::process::Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let end = format!(" # handle {handle}");
    let line = said.lines().find_map(|line| line.strip_suffix(end.as_str()))?;
    Some(line.trim().to_owned())
}

// ---- sending ----

enum Sender {
    Echo { socket: OwnedFd, echo: Echo, to: IpAddr, bytes: usize },
    Tcp { socket: OwnedFd, to: SocketAddr, begun: bool },
    Udp { socket: std::net::UdpSocket },
}

async fn open(
    worker: &Worker,
    lab: &LabName,
    asked: &Asked,
) -> Result<(Sender, Packet), KernelError> {
    let spot = Spot::Node(asked.node.clone());
    let Some(place) = place(lab, &spot)? else {
        return Err(KernelError::new(format!("enter node `{}`", asked.node), Errno::ENOENT));
    };
    let asked = asked.clone();
    worker.inside(place, move || open_here(&asked)).await?
}

fn open_here(asked: &Asked) -> Result<(Sender, Packet), KernelError> {
    let Asked { packet, bytes, .. } = asked;
    let fail = |errno| KernelError::new(format!("make a socket for {}", packet.carried), errno);
    let from_io = |error: std::io::Error| {
        KernelError::from_io(format!("make a socket for {}", packet.carried), &error)
    };
    let is_v4 = packet.to.is_ipv4();
    let family = if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    match packet.carried {
        Carried::Echo { id } => {
            let protocol = if is_v4 { SockProtocol::Icmp } else { SockProtocol::IcmpV6 };
            let socket = socket::socket(family, SockType::Raw, flags, protocol).map_err(fail)?;
            // The kernel forbids routers to cut up what is no longer than the way that
            // it knows of (`ip_no_pmtu_disc`), as it does for a connection.
            let echo = Echo { id, sequence: 1, token: u64::from(id) };
            Ok((Sender::Echo { socket, echo, to: packet.to, bytes: *bytes }, *packet))
        }
        Carried::Tcp { to, .. } => {
            let socket = socket::socket(family, SockType::Stream, flags, None).map_err(fail)?;
            let any: IpAddr = if is_v4 { [0; 4].into() } else { [0; 16].into() };
            let any = SockaddrStorage::from(SocketAddr::new(any, 0));
            socket::bind(socket.as_raw_fd(), &any).map_err(fail)?;
            let own: SockaddrStorage = socket::getsockname(socket.as_raw_fd()).map_err(fail)?;
            let v4 = own.as_sockaddr_in().map(|own| own.port());
            let from = v4.or(own.as_sockaddr_in6().map(|own| own.port())).unwrap_or_default();
            let packet = Packet { carried: Carried::Tcp { from, to }, ..*packet };
            let to = SocketAddr::new(packet.to, to);
            Ok((Sender::Tcp { socket, to, begun: false }, packet))
        }
        Carried::Udp { to, .. } => {
            let any: IpAddr = if is_v4 { [0; 4].into() } else { [0; 16].into() };
            let socket = std::net::UdpSocket::bind(SocketAddr::new(any, 0)).map_err(from_io)?;
            socket.set_nonblocking(true).map_err(from_io)?;
            let from = socket.local_addr().map_err(from_io)?.port();
            let packet = Packet { carried: Carried::Udp { from, to }, ..*packet };
            // Without a way it cannot be connected; what is sent says so again.
            let _ = socket.connect(SocketAddr::new(packet.to, to));
            Ok((Sender::Udp { socket }, packet))
        }
    }
}

impl Sender {
    fn send(&mut self) -> Result<(), Errno> {
        match self {
            Self::Echo { socket, echo, to, bytes } => {
                echo.sequence += 1;
                let message = match to {
                    IpAddr::V4(_) => echo.long_request_v4(bytes.saturating_sub(20)),
                    IpAddr::V6(_) => echo.long_request_v6(bytes.saturating_sub(40)),
                };
                let to = SockaddrStorage::from(SocketAddr::new(*to, 0));
                socket::sendto(socket.as_raw_fd(), &message, &to, MsgFlags::empty()).map(drop)
            }
            Self::Tcp { socket, to, begun } => {
                // The kernel sends again by itself, after a second.
                if *begun {
                    return Ok(());
                }
                *begun = true;
                let to = SockaddrStorage::from(*to);
                match socket::connect(socket.as_raw_fd(), &to) {
                    Ok(()) | Err(Errno::EINPROGRESS) => Ok(()),
                    Err(errno) => Err(errno),
                }
            }
            Self::Udp { socket } => {
                let sent = socket.send(b"ovsns why");
                sent.map(drop).map_err(|error| {
                    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32))
                })
            }
        }
    }

    /// What came of it, if anything has.
    fn heard(&mut self) -> Option<Outcome> {
        match self {
            Self::Echo { socket, echo, to, .. } => {
                let mut packet = [0; 2048];
                while let Ok((bytes, from)) =
                    socket::recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut packet)
                {
                    let packet = &packet[..bytes.min(packet.len())];
                    let reply = match to {
                        IpAddr::V4(_) => Echo::reply_v4(packet),
                        IpAddr::V6(_) => Echo::reply_v6(packet),
                    };
                    let _ = from;
                    if reply.is_some_and(|reply| reply.id == echo.id && reply.token == echo.token) {
                        return Some(Outcome::Answered);
                    }
                }
                None
            }
            Self::Tcp { socket, begun, .. } => {
                if !*begun {
                    return None;
                }
                match socket::getsockopt(&*socket, sockopt::SocketError).ok()? {
                    0 => {
                        let far = socket::getpeername::<SockaddrStorage>(socket.as_raw_fd());
                        far.is_ok().then_some(Outcome::Answered)
                    }
                    errno if errno == Errno::ECONNREFUSED as i32 => Some(Outcome::Refused),
                    errno => Some(Outcome::Undeliverable(errno)),
                }
            }
            Self::Udp { socket } => {
                let mut packet = [0; 64];
                match socket.recv(&mut packet) {
                    Ok(_) => Some(Outcome::Answered),
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                        Some(Outcome::Refused)
                    }
                    Err(_) => None,
                }
            }
        }
    }
}
