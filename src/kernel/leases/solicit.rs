//! Routers: an interface is given addresses of IPv6 by what they advertise
//! (RFC 4861, RFC 4862). The kernel does all of it by itself; who cannot wait for
//! the next advertisement asks.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType, sockopt};
use tokio::net::UdpSocket;

use super::super::error::KernelError;
use super::super::netlink::Netlink;
use super::super::netns;
use super::super::worker::{Where, Worker};
use crate::model::names::IfName;

/// How long routers may be silent. A link-local address takes a second or two
/// to be tried, an advertisement comes half a second late, and its address is
/// tried again.
const ADDRESS_WITHIN: Duration = Duration::from_secs(15);
/// How often routers are asked. The kernel asks three times, 4 s apart.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked at what came of it.
const LOOKED_EVERY: Duration = Duration::from_millis(50);

/// A router solicitation without options (RFC 4861, section 4.1). The kernel
/// fills in the checksum.
const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
/// All routers of a link.
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Waits until an interface, which people call `called`, has an address that a
/// router gave it and that can be used.
///
/// Like `rdisc6 DEVICE`.
pub(crate) async fn await_router(
    worker: &Worker,
    netns: &str,
    called: &str,
    device: &IfName,
) -> Result<(), KernelError> {
    let within_s = ADDRESS_WITHIN.as_secs();
    let (netlink, socket) =
        worker.inside(Where::In(netns::open(netns)?), || Ok((Netlink::new()?, open()?))).await??;
    let index = netlink.index_of(device.as_str())?;
    let mut asking = Asking { socket, index, next: Instant::now() };
    let start = Instant::now();
    let mut heard = false;
    loop {
        match address(&netlink, index)? {
            Some(Usable::Now) => return Ok(()),
            Some(Usable::Later) => heard = true,
            None => {}
        }
        if ADDRESS_WITHIN < start.elapsed() {
            return Err(match heard {
                true => {
                    let asked = format!("use the address that a router gave `{called}`");
                    KernelError::new(asked, Errno::EADDRINUSE)
                }
                false => {
                    let asked =
                        format!("get an address from a router for `{called}` within {within_s} s");
                    KernelError::new(asked, Errno::ENODATA)
                }
            });
        }
        asking.ask().await;
        tokio::time::sleep(LOOKED_EVERY).await;
    }
}

/// Who asks the routers behind a device.
pub(crate) struct Asking {
    socket: UdpSocket,
    index: u32,
    next: Instant,
}

impl Asking {
    /// Asks in the namespace of the calling thread.
    pub(crate) fn new(index: u32) -> Result<Self, KernelError> {
        Ok(Self { socket: open()?, index, next: Instant::now() })
    }

    /// Asks, if it is time.
    pub(crate) async fn ask(&mut self) {
        let routers = SocketAddr::V6(SocketAddrV6::new(ROUTERS, 0, 0, self.index));
        // Refused as long as the link-local address is being tried.
        if self.next <= Instant::now() && self.socket.send_to(&SOLICITATION, routers).await.is_ok()
        {
            self.next = Instant::now() + ASKED_EVERY;
        }
    }
}

enum Usable {
    Now,
    Later,
}

/// The address of IPv6 that a device has for a time and not by us, if any.
fn address(netlink: &Netlink, index: u32) -> Result<Option<Usable>, KernelError> {
    let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut found = None;
    for message in netlink.dump(&all, "list addresses")? {
        let RouteNetlinkMessage::NewAddress(message) = message else { continue };
        let is_v6 = message.header.family == netlink_packet_route::AddressFamily::Inet6;
        if !is_v6 || message.header.index != index {
            continue;
        }
        let (mut tentative, mut for_a_time) = (false, false);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Flags(flags) => {
                    tentative = flags.contains(AddressFlags::Tentative);
                }
                AddressAttribute::CacheInfo(times) => for_a_time = times.ifa_valid != u32::MAX,
                _ => {}
            }
        }
        match (for_a_time, tentative) {
            (true, false) => return Ok(Some(Usable::Now)),
            (true, true) => found = Some(Usable::Later),
            (false, _) => {}
        }
    }
    Ok(found)
}

/// A raw socket of ICMPv6 in the namespace of the calling thread. What it sends
/// to routers has to have the hop limit of who is on the link.
fn open() -> Result<UdpSocket, KernelError> {
    let fail = |errno| KernelError::new("open a socket to ask routers", errno);
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket =
        socket::socket(AddressFamily::Inet6, SockType::Raw, flags, Some(SockProtocol::IcmpV6))
            .map_err(fail)?;
    socket::setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).map_err(fail)?;
    let socket = std::net::UdpSocket::from(socket);
    UdpSocket::from_std(socket)
        .map_err(|error| KernelError::from_io("open a socket to ask routers", &error))
}
