//! Netlink: one request, one answer, and the kernel's own words when that
//! answer is no (`rtnetlink(7)`, `netlink(7)`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage, Prop};
use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_XFRM};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use super::error::KernelError;
use super::raw::Raw;
use crate::model::names::IfName;

/// How often a dump is asked for again when others change the table under it.
const DUMPS_MAX: u32 = 20;

/// How many messages are sent at once: the answers to all of them have to fit
/// into the socket before the first is read, and 212 KB hold some 270.
const BURST_MAX: usize = 128;

/// How many bytes any socket sends at once; `net.core.wmem_default` is 212 KB.
const SEND_MAX: usize = 128 * 1024;

/// A socket of one namespace. Clones share it.
///
/// Its calls block, and nothing is lost by that: the kernel does all of the
/// work while the request is being sent, in the thread that sends it, and the
/// answer is there when the call returns. Through a task of its own each
/// request cost twice as much, and a request that could not be sent ended the
/// connection for all others.
#[derive(Debug, Clone)]
pub struct Netlink {
    socket: Arc<Mutex<Numbered>>,
}

#[derive(Debug)]
struct Numbered {
    socket: Socket,
    /// The number of the last request. An answer that was left behind when a
    /// read failed carries another.
    last: u32,
}

impl Netlink {
    /// A socket in the namespace of the calling thread, for any thread.
    pub fn new() -> Result<Self, KernelError> {
        Self::open(NETLINK_ROUTE)
    }

    /// The same for the families of generic netlink, to which only raw
    /// messages can be sent.
    pub fn generic() -> Result<Self, KernelError> {
        Self::open(NETLINK_GENERIC)
    }

    /// The same for the packet filter, to which only raw messages can be sent.
    pub fn netfilter() -> Result<Self, KernelError> {
        Self::open(NETLINK_NETFILTER)
    }

    /// The same for IPsec, to which only raw messages can be sent.
    pub fn ipsec() -> Result<Self, KernelError> {
        Self::open(NETLINK_XFRM)
    }

    fn open(protocol: isize) -> Result<Self, KernelError> {
        let fail = |e: io::Error| KernelError::from_io("open a netlink socket", &e);
        let socket = Socket::new(protocol).map_err(fail)?;
        // Without these the kernel answers with a number and our own request.
        socket.set_ext_ack(true).map_err(fail)?;
        socket.set_cap_ack(true).map_err(fail)?;
        Ok(Self { socket: Arc::new(Mutex::new(Numbered { socket, last: 0 })) })
    }

    /// Asks for a change of something that is there.
    pub fn change(
        &self,
        message: RouteNetlinkMessage,
        asked: impl FnOnce() -> String,
    ) -> Result<(), KernelError> {
        self.request(message, NLM_F_ACK, asked).map(drop)
    }

    /// Asks for something new; it is an error if it exists.
    pub fn create(
        &self,
        message: RouteNetlinkMessage,
        asked: impl FnOnce() -> String,
    ) -> Result<(), KernelError> {
        self.request(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, asked).map(drop)
    }

    /// Asks for one thing.
    pub fn get(
        &self,
        message: RouteNetlinkMessage,
        asked: impl Fn() -> String,
    ) -> Result<RouteNetlinkMessage, KernelError> {
        let found = self.request(message, NLM_F_ACK, &asked)?.pop();
        found.ok_or_else(|| KernelError::new(asked(), Errno::ENOENT))
    }

    /// Asks for all of a table, again if it changed meanwhile.
    pub fn dump(
        &self,
        message: &RouteNetlinkMessage,
        asked: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        self.dump_any(message, asked)
    }

    /// Sends a raw message with flags of its own, and returns what comes back
    /// before the acknowledgement.
    pub fn raw(
        &self,
        message: Raw,
        flags: u16,
        asked: impl FnOnce() -> String,
    ) -> Result<Vec<Raw>, KernelError> {
        self.request(message, NLM_F_ACK | flags, asked)
    }

    /// Sends raw messages, each with flags of its own, in one buffer: the kernel
    /// goes through all of them in one call, and nothing of this process comes
    /// between. Returns what it refused, by the place of the message.
    ///
    /// Of messages that need no acknowledgement only a refusal is heard.
    pub fn burst(
        &self,
        messages: &[(Raw, u16)],
        asked: impl Fn(usize) -> String,
    ) -> Result<BTreeMap<usize, KernelError>, KernelError> {
        let mut refused = BTreeMap::new();
        for (chunk, some) in messages.chunks(BURST_MAX).enumerate() {
            let first = chunk * BURST_MAX;
            let answered = self.transaction(some, |place| asked(first + place))?;
            refused.extend(answered.into_iter().map(|(place, error)| (first + place, error)));
        }
        Ok(refused)
    }

    /// Sends raw messages that are one transaction, however many they are: in one
    /// buffer, or the kernel would take them for several. Only the last has to ask
    /// for an acknowledgement, so the answers fit into the socket. Returns what the
    /// kernel refused, by the place of the message.
    pub fn transaction(
        &self,
        messages: &[(Raw, u16)],
        asked: impl Fn(usize) -> String,
    ) -> Result<BTreeMap<usize, KernelError>, KernelError> {
        let answered = self.socket.lock().expect("no request panics").burst(messages);
        let answered = answered.map_err(|errno| KernelError::new(asked(0), errno))?;
        let refused = answered.into_iter().map(|(place, (errno, said))| {
            (place, KernelError { said, ..KernelError::new(asked(place), errno) })
        });
        Ok(refused.collect())
    }

    /// Asks for all of a table by a raw message.
    pub fn raw_dump(&self, message: &Raw, asked: &str) -> Result<Vec<Raw>, KernelError> {
        self.dump_any(message, asked)
    }

    fn dump_any<M: Message>(&self, message: &M, asked: &str) -> Result<Vec<M>, KernelError> {
        for _ in 0..DUMPS_MAX {
            match self.request(message.clone(), NLM_F_DUMP, || asked.to_owned()) {
                Err(error) if error.errno == Errno::EINTR => {}
                other => return other,
            }
        }
        Err(KernelError::new(asked, Errno::EINTR))
    }

    fn request<M: Message>(
        &self,
        message: M,
        flags: u16,
        asked: impl FnOnce() -> String,
    ) -> Result<Vec<M>, KernelError> {
        let answered = self.socket.lock().expect("no request panics").request(message, flags);
        answered.map_err(|(errno, said)| KernelError { said, ..KernelError::new(asked(), errno) })
    }

    /// Changes a link, found by its name.
    pub fn set_link(
        &self,
        device: &IfName,
        flags: Option<bool>,
        attributes: Vec<LinkAttribute>,
        asked: impl FnOnce() -> String,
    ) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        if let Some(up) = flags {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        message.attributes.push(LinkAttribute::IfName(device.to_string()));
        message.attributes.extend(attributes);
        self.change(RouteNetlinkMessage::SetLink(message), asked)
    }

    /// Gives a link another name.
    ///
    /// Like `ip link property add dev DEVICE altname ALTNAME`.
    pub fn add_altname(&self, device: &IfName, altname: &str) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(device.to_string()));
        let altnames = vec![Prop::AltIfName(altname.to_owned())];
        message.attributes.push(LinkAttribute::PropList(altnames));
        let asked = || format!("call device `{device}` also `{altname}`");
        self.create(RouteNetlinkMessage::NewLinkProp(message), asked)
    }

    /// Takes that name away again.
    ///
    /// Like `ip link property del dev DEVICE altname ALTNAME`.
    pub fn delete_altname(&self, device: &IfName, altname: &str) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(device.to_string()));
        let altnames = vec![Prop::AltIfName(altname.to_owned())];
        message.attributes.push(LinkAttribute::PropList(altnames));
        let asked = || format!("call device `{device}` no more `{altname}`");
        self.change(RouteNetlinkMessage::DelLinkProp(message), asked)
    }

    /// Deletes a link, and a veth's other end with it.
    ///
    /// Like `ip link delete DEVICE`.
    pub fn delete_link(&self, device: &IfName) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(device.to_string()));
        let asked = || format!("delete device `{device}`");
        self.change(RouteNetlinkMessage::DelLink(message), asked)
    }

    /// The index of a link.
    ///
    /// Like `cat /sys/class/net/DEVICE/ifindex`.
    pub fn index_of(&self, device: &str) -> Result<u32, KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(device.to_owned()));
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let asked = || format!("look up device `{device}`");
        match self.get(RouteNetlinkMessage::GetLink(message), asked)? {
            RouteNetlinkMessage::NewLink(link) => Ok(link.header.index),
            _ => Err(KernelError::new(asked(), Errno::EBADMSG)),
        }
    }
}

type Refused = (Errno, Option<String>);

/// What can be sent and read back.
trait Message: Clone + NetlinkSerializable + NetlinkDeserializable {}

impl<M: Clone + NetlinkSerializable + NetlinkDeserializable> Message for M {}

impl Numbered {
    fn request<M: Message>(&mut self, message: M, flags: u16) -> Result<Vec<M>, Refused> {
        let failed =
            |e: io::Error| (Errno::from_raw(e.raw_os_error().unwrap_or(Errno::EIO as i32)), None);
        self.last = self.last.wrapping_add(1);
        let payload = NetlinkPayload::InnerMessage(message);
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.last;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(failed)?;
        let (mut found, mut changed) = (Vec::new(), false);
        loop {
            let (bytes, _) = self.socket.recv_from_full().map_err(failed)?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let answer =
                    NetlinkMessage::<M>::deserialize(rest).map_err(|_| (Errno::EBADMSG, None))?;
                let length = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if answer.header.sequence_number != self.last {
                    continue;
                }
                changed |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    NetlinkPayload::Error(error) => return refused(&error).map_or(Ok(found), Err),
                    // A dump can end in the middle with an error.
                    NetlinkPayload::Done(done) if done.code != 0 => {
                        return Err((Errno::from_raw(done.code.abs()), None));
                    }
                    NetlinkPayload::Done(_) if changed => return Err((Errno::EINTR, None)),
                    NetlinkPayload::Done(_) => return Ok(found),
                    _ => {}
                }
            }
        }
    }
}

impl Numbered {
    /// Sends all of `messages` at once, and awaits the answer to each that asks
    /// for one.
    fn burst(&mut self, messages: &[(Raw, u16)]) -> Result<BTreeMap<usize, Refused>, Errno> {
        let failed = |e: io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(Errno::EIO as i32));
        let first = self.last.wrapping_add(1);
        let mut bytes = Vec::new();
        for (raw, flags) in messages {
            self.last = self.last.wrapping_add(1);
            let mut message = NetlinkMessage::new(
                NetlinkHeader::default(),
                NetlinkPayload::InnerMessage(raw.clone()),
            );
            message.header.flags = NLM_F_REQUEST | flags;
            message.header.sequence_number = self.last;
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[start..start + message.buffer_len()]);
        }
        let asks = |place: &usize| messages[*place].1 & NLM_F_ACK != 0;
        let mut awaited: BTreeSet<usize> = (0..messages.len()).filter(asks).collect();
        let mut found = BTreeMap::new();
        if SEND_MAX < bytes.len() {
            // The kernel doubles it for what it needs itself.
            setsockopt(&self.socket, sockopt::SndBufForce, &bytes.len())?;
        }
        self.socket.send(&bytes, 0).map_err(failed)?;
        while !awaited.is_empty() {
            let (bytes, _) = self.socket.recv_from_full().map_err(failed)?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let answer =
                    NetlinkMessage::<Raw>::deserialize(rest).map_err(|_| Errno::EBADMSG)?;
                let length = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                let place = answer.header.sequence_number.wrapping_sub(first) as usize;
                let NetlinkPayload::Error(error) = answer.payload else { continue };
                if place < messages.len() {
                    awaited.remove(&place);
                    found.extend(refused(&error).map(|refused| (place, refused)));
                    if !asks(&place) {
                        // What stands for the whole of them was refused, and none
                        // of the others is answered.
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// What the kernel refused with; `None` if it did not refuse.
fn refused(error: &ErrorMessage) -> Option<Refused> {
    let code = error.code?;
    Some((Errno::from_raw(code.get().abs()), words(&error.header)))
}

/// The text in an extended acknowledgement: behind the header of the request
/// (16 bytes, since `NETLINK_CAP_ACK` leaves out the rest) come attributes
/// (`struct nlattr`), of which the first kind is the message.
pub(super) fn words(header: &[u8]) -> Option<String> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let mut rest = header.get(16..)?;
    while let [l0, l1, k0, k1, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) & 0x3fff == NLMSGERR_ATTR_MSG {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}
