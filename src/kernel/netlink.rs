//! Route netlink: one request, one answer, and the kernel's own words when
//! that answer is no (`rtnetlink(7)`, `netlink(7)`).

use std::io;

use futures::StreamExt;
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, Prop};
use netlink_sys::{AsyncSocket, Socket, TokioSocket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use rtnetlink::Handle;

use super::error::KernelError;
use crate::model::names::IfName;

/// How often a dump is asked for again when others change the table under it.
const DUMPS_MAX: u32 = 20;

/// A socket of one namespace.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Drives `socket` on the current runtime until the last handle is gone.
    pub fn new(mut socket: TokioSocket) -> Result<Self, KernelError> {
        let fail = |e: io::Error| KernelError::from_io("set up a netlink socket", &e);
        // Without these the kernel answers with a number and our own request.
        socket.socket_mut().set_ext_ack(true).map_err(fail)?;
        socket.socket_mut().set_cap_ack(true).map_err(fail)?;
        let (connection, handle, _) = rtnetlink::from_socket(socket);
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Asks for a change of something that is there.
    pub async fn change(
        &self,
        message: RouteNetlinkMessage,
        asked: impl FnOnce() -> String,
    ) -> Result<(), KernelError> {
        self.request(message, NLM_F_REQUEST | NLM_F_ACK, asked).await.map(drop)
    }

    /// Asks for something new; it is an error if it exists.
    pub async fn create(
        &self,
        message: RouteNetlinkMessage,
        asked: impl FnOnce() -> String,
    ) -> Result<(), KernelError> {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        self.request(message, flags, asked).await.map(drop)
    }

    /// Asks for one thing.
    pub async fn get(
        &self,
        message: RouteNetlinkMessage,
        asked: impl FnOnce() -> String,
    ) -> Result<RouteNetlinkMessage, KernelError> {
        let mut answers = self.request(message, NLM_F_REQUEST, String::new).await;
        match &mut answers {
            Ok(answers) if !answers.is_empty() => Ok(answers.swap_remove(0)),
            Ok(_) => Err(KernelError::new(asked(), Errno::ENOENT)),
            Err(error) => Err(KernelError { asked: asked(), ..error.clone() }),
        }
    }

    /// Asks for all of a table, again if it changed meanwhile.
    pub async fn dump(
        &self,
        message: RouteNetlinkMessage,
        asked: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        for _ in 0..DUMPS_MAX {
            let dumped = self
                .request(message.clone(), NLM_F_REQUEST | NLM_F_DUMP, || asked.to_owned())
                .await;
            match dumped {
                Err(error) if error.errno == Errno::EINTR => continue,
                other => return other,
            }
        }
        Err(KernelError::new(asked, Errno::EINTR))
    }

    async fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        asked: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        let closed = || KernelError::new("reach the kernel by netlink", Errno::EPIPE);
        let mut answers = self.handle.clone().request(message).map_err(|_| closed())?;
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            if answer.header.flags & NLM_F_DUMP_INTR != 0 {
                return Err(KernelError::new(asked(), Errno::EINTR));
            }
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => found.push(inner),
                NetlinkPayload::Error(error) => match refused(&error) {
                    None => return Ok(found),
                    Some((errno, said)) => {
                        return Err(KernelError { asked: asked(), errno, said });
                    }
                },
                _ => {}
            }
            // One thing asked for, one thing answered, and no acknowledgement.
            if flags == NLM_F_REQUEST {
                return Ok(found);
            }
        }
        // An acknowledgement ends the stream without a message of its own.
        Ok(found)
    }

    /// Changes a link, found by its name.
    pub async fn set_link(
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
        self.change(RouteNetlinkMessage::SetLink(message), asked).await
    }

    /// Gives a link another name.
    ///
    /// Like `ip link property add dev DEVICE altname ALTNAME`.
    pub async fn add_altname(&self, device: &IfName, altname: &str) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(device.to_string()));
        let altnames = vec![Prop::AltIfName(altname.to_owned())];
        message.attributes.push(LinkAttribute::PropList(altnames));
        let asked = || format!("call device `{device}` also `{altname}`");
        self.create(RouteNetlinkMessage::NewLinkProp(message), asked).await
    }

    /// Deletes a link, and a veth's other end with it.
    ///
    /// Like `ip link delete DEVICE`.
    pub async fn delete_link(&self, device: &IfName) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(device.to_string()));
        let asked = || format!("delete device `{device}`");
        self.change(RouteNetlinkMessage::DelLink(message), asked).await
    }

    /// The index of a link.
    ///
    /// Like `cat /sys/class/net/DEVICE/ifindex`.
    pub async fn index_of(&self, device: &str) -> Result<u32, KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(device.to_owned()));
        let asked = || format!("look up device `{device}`");
        match self.get(RouteNetlinkMessage::GetLink(message), asked).await? {
            RouteNetlinkMessage::NewLink(link) => Ok(link.header.index),
            _ => Err(KernelError::new(asked(), Errno::EBADMSG)),
        }
    }
}

/// A socket that waits for its answers, for the thread that enters
/// namespaces: it has nothing else to do, and the kernel answers while it
/// asks. A dump of a node costs a tenth so of what it costs through the
/// runtime's two tasks.
pub struct BlockingNetlink {
    socket: Socket,
}

impl BlockingNetlink {
    /// A socket in the namespace of the calling thread.
    pub fn new() -> Result<Self, KernelError> {
        let fail = |e: io::Error| KernelError::from_io("open a netlink socket", &e);
        let socket = Socket::new(NETLINK_ROUTE).map_err(fail)?;
        socket.set_ext_ack(true).map_err(fail)?;
        socket.set_cap_ack(true).map_err(fail)?;
        Ok(Self { socket })
    }

    /// Asks for a change of something that is there.
    pub fn change(&self, message: RouteNetlinkMessage, asked: &str) -> Result<(), KernelError> {
        self.get(message, asked).map(drop)
    }

    /// Asks for one thing; the answer is what the kernel says before it
    /// acknowledges.
    pub fn get(
        &self,
        message: RouteNetlinkMessage,
        asked: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        self.request(message, NLM_F_REQUEST | NLM_F_ACK, asked)
    }

    /// Asks for all of a table, again if it changed meanwhile.
    pub fn dump(
        &self,
        message: &RouteNetlinkMessage,
        asked: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        for _ in 0..DUMPS_MAX {
            match self.request(message.clone(), NLM_F_REQUEST | NLM_F_DUMP, asked) {
                Err(error) if error.errno == Errno::EINTR => {}
                other => return other,
            }
        }
        Err(KernelError::new(asked, Errno::EINTR))
    }

    fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        asked: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        let fail = |e: io::Error| KernelError::from_io(asked, &e);
        let garbled = |_| KernelError::new(asked, Errno::EBADMSG);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(fail)?;
        let (mut found, mut changed) = (Vec::new(), false);
        loop {
            let (bytes, _) = self.socket.recv_from_full().map_err(fail)?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
                let answer = answer.map_err(garbled)?;
                let length = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                changed |= answer.header.flags & NLM_F_DUMP_INTR != 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    NetlinkPayload::Error(error) => match refused(&error) {
                        None => return Ok(found),
                        Some((errno, said)) => {
                            return Err(KernelError { asked: asked.to_owned(), errno, said });
                        }
                    },
                    NetlinkPayload::Done(_) if changed => {
                        return Err(KernelError::new(asked, Errno::EINTR));
                    }
                    NetlinkPayload::Done(_) => return Ok(found),
                    _ => {}
                }
            }
        }
    }
}

/// What the kernel refused with; `None` if it did not refuse.
fn refused(error: &ErrorMessage) -> Option<(Errno, Option<String>)> {
    let code = error.code?;
    Some((Errno::from_raw(code.get().abs()), words(&error.header)))
}

/// The text in an extended acknowledgement: behind the header of the request
/// (16 bytes, since `NETLINK_CAP_ACK` leaves out the rest) come attributes
/// (`struct nlattr`), of which the first kind is the message.
fn words(header: &[u8]) -> Option<String> {
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
