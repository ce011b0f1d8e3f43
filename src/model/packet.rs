//! A packet that is asked after, and how it is known again on the wire: as it
//! was sent, as the answer to it, or as what is asked before it can be sent
//! (ARP, RFC 826; neighbour discovery, RFC 4861).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::icmp::MAGIC;
use super::mark::Mac;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carried {
    /// An echo request (ICMP, ICMPv6) of this process.
    Echo {
        /// Tells it from those of other processes.
        id: u16,
    },
    /// The first of a TCP connection.
    Tcp {
        /// The port that it comes from.
        from: u16,
        /// The port that it is for.
        to: u16,
    },
    /// A UDP datagram.
    Udp {
        /// The port that it comes from.
        from: u16,
        /// The port that it is for.
        to: u16,
    },
}

/// A packet, by its addresses and what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// Who sends it.
    pub from: IpAddr,
    /// Who is to answer.
    pub to: IpAddr,
    /// What it carries.
    pub carried: Carried,
}

/// What a frame is to the packet that is asked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// The packet itself.
    Request,
    /// The answer to it.
    Reply,
    /// The question who has an address.
    Ask(IpAddr),
    /// The answer to that.
    Told(IpAddr),
    /// Somebody says that it could not be delivered.
    Error {
        /// Who says so.
        by: IpAddr,
        /// The type of the ICMP message.
        kind: u8,
        /// Its code.
        code: u8,
    },
}

/// A packet in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// Which station sends it.
    pub source: Mac,
    /// Which station it is for.
    pub destination: Mac,
    /// What is in it.
    pub inside: Inside,
}

/// What a frame has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inside {
    /// The packet.
    Request(Packet),
    /// The answer to the packet.
    Reply(Packet),
    /// The question of `from` who has `to`.
    Ask {
        /// Who asks.
        from: IpAddr,
        /// What is asked for.
        to: IpAddr,
    },
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo { .. } => f.write_str("ping"),
            Self::Tcp { to, .. } => write!(f, "TCP port {to}"),
            Self::Udp { to, .. } => write!(f, "UDP port {to}"),
        }
    }
}

impl Frame {
    /// The frame as the match of an OpenFlow flow says it (`ovs-fields(7)`).
    pub fn as_match(&self) -> String {
        let head = format!("dl_src={},dl_dst={}", self.source, self.destination);
        match self.inside {
            Inside::Request(packet) => format!("{head},{}", packet.as_match(false)),
            Inside::Reply(packet) => format!("{head},{}", packet.as_match(true)),
            Inside::Ask { from: IpAddr::V4(from), to: IpAddr::V4(to) } => {
                format!("{head},arp,arp_op=1,arp_spa={from},arp_tpa={to},arp_sha={}", self.source)
            }
            Inside::Ask { from, to } => {
                format!("{head},icmp6,ipv6_src={from},icmp_type=135,icmp_code=0,nd_target={to}")
            }
        }
    }
}

impl Packet {
    fn as_match(&self, is_reply: bool) -> String {
        let (from, to) = if is_reply { (self.to, self.from) } else { (self.from, self.to) };
        let is_v4 = from.is_ipv4();
        let (name, addresses) = match is_v4 {
            true => ("", format!("nw_src={from},nw_dst={to}")),
            false => ("6", format!("ipv6_src={from},ipv6_dst={to}")),
        };
        match self.carried {
            Carried::Echo { .. } => {
                let kind = match (is_v4, is_reply) {
                    (true, false) => 8,
                    (true, true) => 0,
                    (false, false) => 128,
                    (false, true) => 129,
                };
                format!("icmp{name},{addresses},nw_ttl=64,icmp_type={kind},icmp_code=0")
            }
            Carried::Tcp { from, to } | Carried::Udp { from, to } => {
                let kind = if matches!(self.carried, Carried::Tcp { .. }) { "tcp" } else { "udp" };
                let (from, to) = if is_reply { (to, from) } else { (from, to) };
                format!("{kind}{name},{addresses},nw_ttl=64,tp_src={from},tp_dst={to}")
            }
        }
    }

    /// What a frame, as a packet socket hears it, is to this packet; `None` if
    /// it has nothing to do with it.
    pub fn sort(&self, frame: &[u8]) -> Option<Sort> {
        let mut at = 12;
        // Tags of VLANs (802.1Q, 802.1ad), where the kernel has not taken them off.
        while matches!(word(frame, at)?, 0x8100 | 0x88a8) {
            at += 4;
        }
        let inner = frame.get(at + 2..)?;
        match word(frame, at)? {
            0x0806 => arp(inner),
            0x0800 => {
                let header = usize::from(inner.first()? & 0x0f) * 4;
                let (from, to) = (v4(inner, 12)?, v4(inner, 16)?);
                self.sort_inside(from, to, *inner.get(9)?, inner.get(header..)?)
            }
            0x86dd => {
                let (from, to) = (v6(inner, 8)?, v6(inner, 24)?);
                self.sort_inside(from, to, *inner.get(6)?, inner.get(40..)?)
            }
            _ => None,
        }
    }

    /// The same of what a raw trace of a packet filter shows: the header of the
    /// transport alone. Says whether it is the packet itself.
    pub fn is_request(&self, transport: &[u8]) -> Option<bool> {
        match self.carried {
            Carried::Echo { .. } => match transport.first()? {
                8 | 128 => Some(true),
                0 | 129 => Some(false),
                _ => None,
            },
            Carried::Tcp { from, to } | Carried::Udp { from, to } => {
                match (word(transport, 0)?, word(transport, 2)?) {
                    ports if ports == (from, to) => Some(true),
                    ports if ports == (to, from) => Some(false),
                    _ => None,
                }
            }
        }
    }

    fn sort_inside(&self, from: IpAddr, to: IpAddr, protocol: u8, inner: &[u8]) -> Option<Sort> {
        let kind = *inner.first()?;
        match (protocol, self.carried) {
            (58, _) if kind == 135 => return Some(Sort::Ask(v6(inner, 8)?)),
            (58, _) if kind == 136 => return Some(Sort::Told(v6(inner, 8)?)),
            (1, _) if matches!(kind, 3 | 11) => return self.error(from, inner),
            (58, _) if matches!(kind, 1..=3) => return self.error(from, inner),
            (1 | 58, Carried::Echo { id }) => {
                if word(inner, 4)? != id || inner.get(8..16)? != MAGIC {
                    return None;
                }
            }
            // TCP's and UDP's ports are at the same place.
            (6, Carried::Tcp { .. }) | (17, Carried::Udp { .. }) => {}
            _ => return None,
        }
        // Addresses may be translated on the way, and ours are known without.
        let _ = to;
        self.is_request(inner).map(|is| if is { Sort::Request } else { Sort::Reply })
    }

    /// An error about our packet has its first bytes within.
    fn error(&self, by: IpAddr, message: &[u8]) -> Option<Sort> {
        let inner = message.get(8..)?;
        let to = if by.is_ipv4() { v4(inner, 16)? } else { v6(inner, 24)? };
        let kind = message[0];
        (to == self.to).then_some(Sort::Error { by, kind, code: *message.get(1)? })
    }
}

fn arp(message: &[u8]) -> Option<Sort> {
    match word(message, 6)? {
        1 => Some(Sort::Ask(v4(message, 24)?)),
        2 => Some(Sort::Told(v4(message, 14)?)),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn v4(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(bytes).into())
}

fn v6(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(bytes).into())
}

/// Where somebody looks: the machine's own namespace, or a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Spot {
    /// The machine's own namespace, where ports of switches are.
    Home,
    /// A node.
    Node(super::names::NodeName),
}

/// A device, and which way frames pass it: into the stack behind it, or out of
/// it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tap {
    /// Where the device is.
    pub spot: Spot,
    /// The device.
    pub device: String,
    /// Whether the frame leaves by it.
    pub out: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ECHO: Packet = Packet {
        from: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        to: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        carried: Carried::Echo { id: 7 },
    };

    /// An Ethernet frame, a VLAN tag before its type where there is one.
    fn frame(tag: &[u8], kind: u16, inner: &[u8]) -> Vec<u8> {
        [&[0; 12][..], tag, &kind.to_be_bytes(), inner].concat()
    }

    fn v4_packet(protocol: u8, inner: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
        packet.extend(inner);
        packet
    }

    fn echo(kind: u8, id: u16) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0];
        message.extend(id.to_be_bytes());
        message.extend([0, 1]);
        message.extend(MAGIC);
        message
    }

    #[test]
    fn frames_are_known_again() {
        let ask = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[0; 16], &[10, 0, 0, 9]].concat();
        let told = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &[0; 6], &[10, 0, 0, 9], &[0; 10]].concat();
        let nine = "10.0.0.9".parse().expect("an address");
        check(&frame(&[], 0x0806, &ask), Some(Sort::Ask(nine)));
        check(&frame(&[], 0x0806, &told), Some(Sort::Told(nine)));
        check(&frame(&[], 0x0800, &v4_packet(1, &echo(8, 7))), Some(Sort::Request));
        check(&frame(&[0x81, 0, 0, 9], 0x0800, &v4_packet(1, &echo(0, 7))), Some(Sort::Reply));
        check(&frame(&[], 0x0800, &v4_packet(1, &echo(8, 8))), None);
        check(&frame(&[], 0x0800, &v4_packet(6, &[0, 1, 0, 2])), None);
        let inner = v4_packet(1, &echo(8, 7));
        let error = v4_packet(1, &[&[3, 4, 0, 0, 0, 0, 0, 0], inner.as_slice()].concat());
        check(&frame(&[], 0x0800, &error), Some(Sort::Error { by: ECHO.from, kind: 3, code: 4 }));

        #[track_caller]
        fn check(frame: &[u8], sort: Option<Sort>) {
            assert_eq!(ECHO.sort(frame), sort);
        }
    }

    #[test]
    fn ports_tell_the_way() {
        let packet = Packet { carried: Carried::Tcp { from: 5, to: 80 }, ..ECHO };
        let there = frame(&[], 0x0800, &v4_packet(6, &[0, 5, 0, 80]));
        let back = frame(&[], 0x0800, &v4_packet(6, &[0, 80, 0, 5]));
        let others = frame(&[], 0x0800, &v4_packet(6, &[0, 80, 0, 6]));
        assert_eq!(packet.sort(&there), Some(Sort::Request));
        assert_eq!(packet.sort(&back), Some(Sort::Reply));
        assert_eq!(packet.sort(&others), None);
    }

    #[test]
    fn a_frame_as_a_match() {
        let frame = Frame {
            source: Mac([2, 0, 0, 0, 0, 1]),
            destination: Mac([2, 0, 0, 0, 0, 2]),
            inside: Inside::Reply(ECHO),
        };
        assert_eq!(
            frame.as_match(),
            "dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,icmp,nw_src=10.0.0.2,\
             nw_dst=10.0.0.1,nw_ttl=64,icmp_type=0,icmp_code=0"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = ECHO.sort(&bytes);
            for kind in [0x0800, 0x0806, 0x86dd] {
                let _ = ECHO.sort(&frame(&[], kind, &bytes));
            }
        }
    }
}
