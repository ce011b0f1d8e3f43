//! Overhearing devices: packet sockets (`packet(7)`), made in the namespace of
//! the device and read from here, and filters for them.
//!
//! Nothing is changed but that a device is promiscuous as long as a socket asks
//! for that; the kernel takes it back with the socket, however this process ends.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrStorage, bind, getsockname, getsockopt, recvmsg, setsockopt, socket, sockopt,
};
use nix::{getsockopt_impl, setsockopt_impl, sockopt_impl};
use socket2::{SockFilter, SockRef};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::error::KernelError;
use super::worker::{Where, Worker};
use crate::model::frame;
use crate::model::pcapng::{LinkType, Packet, Way};

/// The longest packet there is: what a NIC may put together (BIG TCP).
pub const SNAPLEN_MAX: u32 = 524_288;

/// `ARPHRD_*` (linux/if_arp.h).
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;
const RAW_IP: u16 = 519;
const NONE: u16 = 65534;

/// `BPF_RET | BPF_K`: takes so much of a packet (linux/bpf_common.h).
const RETURN: u16 = 6;

/// `TP_STATUS_VLAN_VALID` and `TP_STATUS_VLAN_TPID_VALID` (linux/if_packet.h).
const HAS_TAG: u32 = 1 << 4;
const HAS_TAG_KIND: u32 = 1 << 6;

/// The type of a tag where the kernel does not say (IEEE 802.1Q).
const TAG_KIND: u16 = 0x8100;

sockopt_impl!(
    /// Whether the tag that was taken out of a frame is told beside it.
    Auxiliary, SetOnly, libc::SOL_PACKET, libc::PACKET_AUXDATA, bool
);
sockopt_impl!(
    /// Has a device take in all that passes.
    Membership, SetOnly, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, libc::packet_mreq
);
sockopt_impl!(
    /// What was counted since it was last asked.
    Counted, GetOnly, libc::SOL_PACKET, libc::PACKET_STATISTICS, libc::tpacket_stats
);

/// How to overhear.
#[derive(Debug, Clone)]
pub struct Manner {
    /// How much of a packet is kept, in bytes.
    pub snaplen: u32,
    /// How much may wait to be read, in bytes.
    pub buffer: usize,
    /// What is taken of what begins with an Ethernet header, and of IP.
    pub filters: Filters,
}

/// Programs for the kernel, by what packets begin with.
#[derive(Debug, Clone, Default)]
pub struct Filters(Arc<BTreeMap<u8, Vec<SockFilter>>>);

/// Why an expression is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The program that knows the language is not there.
    #[error("there is no `tcpdump`, which reads filters")]
    NoCompiler,
    /// It does not understand.
    #[error("`tcpdump` cannot read the filter `{filter}`: {why}")]
    Bad {
        /// The filter.
        filter: String,
        /// What it says.
        why: String,
    },
}

impl Filters {
    /// Compiles a filter in the language of `pcap-filter(7)`, by tcpdump(8),
    /// which has libpcap's own compiler of it. That is asked for a
    /// program for a device, since the kernel has the outermost tag of a frame
    /// beside it and not in it, and only such a program looks there.
    ///
    /// Like `tcpdump -i lo -ddd FILTER`.
    pub fn compile(filter: &str, snaplen: u32) -> Result<Self, FilterError> {
        let ethernet = compile(filter, snaplen, &["-i", "lo"])?;
        let mut all = BTreeMap::from([(LinkType::Ethernet as u8, ethernet)]);
        // `ether` and `vlan` mean nothing without Ethernet: whoever has no such
        // device needs no such program.
        if let Ok(ip) = compile(filter, snaplen, &["-y", "RAW"]) {
            all.insert(LinkType::Ip as u8, ip);
        }
        Ok(Self(Arc::new(all)))
    }

    /// What takes every packet.
    pub fn all(snaplen: u32) -> Self {
        let all = |kind: LinkType| (kind as u8, takes(snaplen));
        Self(Arc::new([LinkType::Ethernet, LinkType::Ip].map(all).into()))
    }

    fn of(&self, kind: LinkType) -> Option<&[SockFilter]> {
        self.0.get(&(kind as u8)).map(Vec::as_slice)
    }
}

fn takes(bytes: u32) -> Vec<SockFilter> {
    vec![SockFilter::new(RETURN, 0, 0, bytes)]
}

fn compile(filter: &str, snaplen: u32, on: &[&str]) -> Result<Vec<SockFilter>, FilterError> {
    let bad = |why: &str| FilterError::Bad { filter: filter.to_owned(), why: why.to_owned() };
    let ran = Command::new("tcpdump")
        .args(on)
        .args(["-s", &snaplen.to_string(), "-ddd", "--", filter])
        .stdin(Stdio::null())
        .output();
    let ran = match ran {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FilterError::NoCompiler);
        }
        Err(error) => return Err(bad(&error.to_string())),
        Ok(ran) => ran,
    };
    let said = String::from_utf8_lossy(&ran.stderr);
    if !ran.status.success() {
        let line = said.lines().last().unwrap_or("it says nothing");
        return Err(bad(line.strip_prefix("tcpdump: ").unwrap_or(line)));
    }
    let text = String::from_utf8_lossy(&ran.stdout);
    read_program(&text).ok_or_else(|| bad("it writes no program"))
}

/// What `tcpdump -ddd` writes: how many instructions there are, then each as
/// its four numbers.
pub(super) fn read_program(text: &str) -> Option<Vec<SockFilter>> {
    let mut lines = text.lines();
    let count: usize = lines.next()?.trim().parse().ok()?;
    let instruction = |line: &str| {
        let mut words = line.split_whitespace();
        let code = words.next()?.parse().ok()?;
        let (if_true, if_false) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let operand = words.next()?.parse().ok()?;
        words.next().is_none().then(|| SockFilter::new(code, if_true, if_false, operand))
    };
    let program: Vec<SockFilter> = lines.map(instruction).collect::<Option<_>>()?;
    (program.len() == count && 0 < count).then_some(program)
}

/// A device that is overheard.
#[derive(Debug)]
pub struct Tap {
    /// A packet socket. What tokio does with one of UDP, to wait until it can be
    /// read, does as well for any.
    socket: UdpSocket,
    index: usize,
    /// What its packets begin with.
    pub link_type: LinkType,
    /// Its Ethernet address, if it has one.
    pub mac: Option<[u8; 6]>,
    snaplen: usize,
    buffer: Vec<u8>,
}

/// What listening came to.
#[derive(Debug)]
pub enum Heard {
    /// A packet.
    Packet(Packet),
    /// Nothing more for now.
    Nothing,
    /// The device is gone; nothing more at all.
    Gone,
}

/// A socket as the worker hands it out.
struct Made {
    socket: OwnedFd,
    index: usize,
    link_type: LinkType,
    mac: Option<[u8; 6]>,
}

/// Begins to overhear devices of one namespace; with each, whether it may be made
/// promiscuous. Needs the context of a tokio
/// runtime.
///
/// Like `tcpdump -i DEVICE`, for each.
pub async fn open(
    worker: &Worker,
    place: Where,
    devices: Vec<(String, bool)>,
    manner: &Manner,
) -> Result<Vec<Tap>, KernelError> {
    let asked = manner.clone();
    let made = worker.inside(place, move || make(&devices, &asked)).await??;
    let taps = made.into_iter().map(|made| {
        let Made { socket, index, link_type, mac } = made;
        let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))
            .map_err(|e| KernelError::from_io("wait for packets", &e))?;
        let buffer = vec![0; manner.snaplen as usize];
        Ok(Tap { socket, index, link_type, mac, snaplen: manner.snaplen as usize, buffer })
    });
    taps.collect()
}

fn make(devices: &[(String, bool)], manner: &Manner) -> Result<Vec<Made>, KernelError> {
    let addresses = getifaddrs().map_err(|errno| KernelError::new("list devices", errno))?;
    let links = addresses.filter_map(|it| Some((it.interface_name, *it.address?.as_link_addr()?)));
    let links: BTreeMap<String, LinkAddr> = links.collect();
    let make = |(device, promiscuous): &(String, bool)| {
        let asked = format!("capture on `{device}`");
        let link = links.get(device).ok_or_else(|| KernelError::new(&asked, Errno::ENODEV))?;
        make_one(link, manner, *promiscuous, &asked)
    };
    devices.iter().map(make).collect()
}

fn make_one(
    link: &LinkAddr,
    manner: &Manner,
    promiscuous: bool,
    asked: &str,
) -> Result<Made, KernelError> {
    let fail = |errno| KernelError::new(asked, errno);
    let said = |errno, said: &str| KernelError {
        asked: asked.to_owned(),
        errno,
        heard: Vec::new(),
        said: Some(said.to_owned()),
    };
    let link_type = match link.hatype() {
        ETHERNET | LOOPBACK => LinkType::Ethernet,
        NONE | RAW_IP => LinkType::Ip,
        _ => {
            return Err(said(Errno::EOPNOTSUPP, "what passes it is neither Ethernet nor plain IP"));
        }
    };
    let filter = manner.filters.of(link_type);
    let filter =
        filter.ok_or_else(|| said(Errno::EINVAL, "the filter is for Ethernet, and this is not"))?;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::EthAll,
    )
    .map_err(fail)?;
    // Until it is bound it hears every device; so it takes nothing yet, and what
    // was quicker than that is passed over by where it came from.
    attach(&socket, &takes(0), asked)?;
    setsockopt(&socket, Auxiliary, &true).map_err(fail)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).map_err(fail)?;
    // Beyond the limit of the machine only with rights that may be wanting.
    if setsockopt(&socket, sockopt::RcvBufForce, &manner.buffer).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &manner.buffer).map_err(fail)?;
    }
    bind(socket.as_raw_fd(), link).map_err(fail)?;
    if promiscuous {
        let all = libc::packet_mreq {
            mr_ifindex: link.ifindex() as libc::c_int,
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        setsockopt(&socket, Membership, &all).map_err(fail)?;
    }
    let mut first = [0; 1];
    while nix::sys::socket::recv(socket.as_raw_fd(), &mut first, MsgFlags::MSG_DONTWAIT).is_ok() {}
    // What was counted until now was not for us.
    getsockopt(&socket, Counted).map_err(fail)?;
    attach(&socket, filter, asked)?;
    let mac = link.addr().filter(|_| link.hatype() == ETHERNET);
    Ok(Made { socket, index: link.ifindex(), link_type, mac })
}

fn attach(socket: &OwnedFd, filter: &[SockFilter], asked: &str) -> Result<(), KernelError> {
    SockRef::from(socket).attach_filter(filter).map_err(|e| KernelError::from_io(asked, &e))
}

impl Tap {
    /// Whether there is something to hear; if not, the task is woken when there
    /// is.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        // An error shows again when it is listened.
        self.socket.poll_recv_ready(context).map(drop)
    }

    /// Listens.
    pub fn hear(&mut self) -> Result<Heard, KernelError> {
        loop {
            let buffer = &mut self.buffer;
            let socket = self.socket.as_raw_fd();
            let mut is_asked = false;
            let mut received = self.socket.try_io(Interest::READABLE, || {
                is_asked = true;
                receive(socket, buffer).map_err(io::Error::from)
            });
            // As long as tokio was told of nothing new it does not ask.
            if !is_asked {
                received = receive(socket, buffer).map_err(io::Error::from);
            }
            match received {
                Ok(heard) if heard.index != self.index => {}
                Ok(heard) => return Ok(Heard::Packet(self.packet(heard))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Heard::Nothing);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It is down, and will be heard again when it is up; or it is
                // gone.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                    if self.is_gone()? {
                        return Ok(Heard::Gone);
                    }
                }
                Err(error) => return Err(KernelError::from_io("read a packet", &error)),
            }
        }
    }

    /// The kernel takes a device that goes away off the socket.
    fn is_gone(&self) -> Result<bool, KernelError> {
        // How long the address is depends on the device, which `LinkAddr` by
        // itself does not take.
        let bound = getsockname::<SockaddrStorage>(self.socket.as_raw_fd());
        let bound = bound.map_err(|errno| KernelError::new("see what is captured on", errno))?;
        Ok(bound.as_link_addr().is_none_or(|bound| bound.ifindex() != self.index))
    }

    fn packet(&self, heard: Received) -> Packet {
        let Received { time_ns, kept, mut length, tag, way, index: _ } = heard;
        let mut bytes = self.buffer[..kept].to_vec();
        if let Some((kind, tag)) = tag
            && self.link_type == LinkType::Ethernet
        {
            frame::put_tag_back(&mut bytes, kind, tag);
            bytes.truncate(self.snaplen);
            length += 4;
        }
        Packet { time_ns, length, bytes, way }
    }

    /// Takes nothing more in. What is there can still be heard.
    pub fn close(&self) -> Result<(), KernelError> {
        SockRef::from(&self.socket)
            .attach_filter(&takes(0))
            .map_err(|e| KernelError::from_io("end a capture", &e))
    }

    /// How many packets passed the filter since this was last asked, and how
    /// many of these were lost.
    pub fn counted(&self) -> Result<(u64, u64), KernelError> {
        let counted = getsockopt(&self.socket.as_fd(), Counted)
            .map_err(|errno| KernelError::new("ask how many packets there were", errno))?;
        Ok((counted.tp_packets.into(), counted.tp_drops.into()))
    }
}

/// A packet as it came, less its bytes.
struct Received {
    index: usize,
    time_ns: u64,
    kept: usize,
    length: u32,
    tag: Option<(u16, u16)>,
    way: Way,
}

fn receive(socket: i32, buffer: &mut [u8]) -> Result<Received, Errno> {
    let mut beside = nix::cmsg_space!(nix::sys::time::TimeSpec, libc::tpacket_auxdata);
    let room = buffer.len();
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<LinkAddr>(
        socket,
        &mut slices,
        Some(&mut beside),
        MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC,
    )?;
    let from = message.address.ok_or(Errno::EBADMSG)?;
    let mut received = Received {
        index: from.ifindex(),
        time_ns: 0,
        kept: message.bytes.min(room),
        length: u32::try_from(message.bytes).unwrap_or(u32::MAX),
        tag: None,
        way: match from.pkttype() {
            libc::PACKET_OUTGOING => Way::Out,
            libc::PACKET_BROADCAST => Way::Broadcast,
            libc::PACKET_MULTICAST => Way::Multicast,
            libc::PACKET_OTHERHOST => Way::ForAnother,
            _ => Way::In,
        },
    };
    for note in message.cmsgs()? {
        match note {
            ControlMessageOwned::ScmTimestampns(time) => {
                received.time_ns = time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64;
            }
            ControlMessageOwned::Unknown(note)
                if note.cmsg_header.cmsg_level == libc::SOL_PACKET
                    && note.cmsg_header.cmsg_type == libc::PACKET_AUXDATA =>
            {
                if let Some((length, tag)) = auxiliary(&note.data_bytes) {
                    (received.length, received.tag) = (length, tag);
                }
            }
            _ => {}
        }
    }
    Ok(received)
}

/// Reads a `struct tpacket_auxdata`: how long the packet was, and the tag that
/// was taken out of it, with its type.
pub(super) fn auxiliary(bytes: &[u8]) -> Option<(u32, Option<(u16, u16)>)> {
    let long = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let short = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (status, length) = (long(0)?, long(4)?);
    let (tag, kind) = (short(16)?, short(18)?);
    let kind = if status & HAS_TAG_KIND != 0 { kind } else { TAG_KIND };
    Some((length, (status & HAS_TAG != 0).then_some((kind, tag))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_as_tcpdump_writes_them() {
        check("1\n6 0 0 262144\n", Some(1));
        check("2\n40 0 0 12\n6 0 0 4294963248\n", Some(2));
        check("2\n6 0 0 262144\n", None);
        check("0\n", None);
        check("1\n6 0 0\n", None);
        check("1\n6 0 0 1 1\n", None);
        check("", None);

        #[track_caller]
        fn check(text: &str, expected: Option<usize>) {
            assert_eq!(read_program(text).map(|program| program.len()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_told_beside_a_packet() {
        let bytes = |status: u32, tag: u16, kind: u16| {
            let mut bytes = [status, 60, 60].map(u32::to_ne_bytes).concat();
            bytes.extend([0u16, 14, tag, kind].map(u16::to_ne_bytes).concat());
            bytes
        };
        assert_eq!(auxiliary(&bytes(1, 0, 0)), Some((60, None)));
        assert_eq!(auxiliary(&bytes(0x11, 10, 0)), Some((60, Some((0x8100, 10)))));
        assert_eq!(auxiliary(&bytes(0x51, 10, 0x88a8)), Some((60, Some((0x88a8, 10)))));
        // A tag of 0 is one, too: a priority.
        assert_eq!(auxiliary(&bytes(0x51, 0, 0x8100)), Some((60, Some((0x8100, 0)))));
        assert_eq!(auxiliary(&bytes(1, 0, 0)[..18]), None);
    }
}
