//! Hearing what passes all devices of a namespace (packet(7)).

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};

use crate::kernel::error::KernelError;
use crate::model::packet::{Packet, Sort, Spot, Tap};

/// Receive buffer in bytes: a machine may have other traffic, too.
const BUFFER_BYTES: usize = 4 << 20;
/// As much of a frame as has all headers.
const HEAD_BYTES: usize = 256;
// linux/if_packet.h
const PACKET_OUTGOING: u8 = 4;

/// A socket that hears all devices of one namespace.
pub(super) struct Ear {
    spot: Spot,
    socket: OwnedFd,
    names: BTreeMap<u32, String>,
}

impl Ear {
    /// Opens it in the namespace of the calling thread.
    pub(super) fn open(spot: &Spot, names: BTreeMap<u32, String>) -> Result<Self, KernelError> {
        let fail = |errno| KernelError::new("open a packet socket", errno);
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
            .map_err(fail)?;
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES);
        Ok(Self { spot: spot.clone(), socket, names })
    }

    /// What of a packet was heard since, and where.
    pub(super) fn heard(&self, packet: &Packet, seen: &mut impl Extend<(Tap, Sort)>) {
        let mut frame = [0; HEAD_BYTES];
        while let Ok((bytes, from)) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) {
            let Some(from) = from else { continue };
            let Some(sort) = packet.sort(&frame[..bytes]) else { continue };
            let index = u32::try_from(from.ifindex()).unwrap_or_default();
            let Some(device) = self.names.get(&index) else { continue };
            let tap = Tap {
                spot: self.spot.clone(),
                device: device.clone(),
                out: from.pkttype() == PACKET_OUTGOING,
            };
            seen.extend([(tap, sort)]);
        }
    }
}
