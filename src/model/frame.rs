//! A frame, by its bytes: its VLAN tag put back, and what it is in one line.
//!
//! The line is for a person who looks on; whoever wants to know all has
//! Wireshark and tcpdump.

use std::fmt::Write as _;
use std::net::IpAddr;

use etherparse::{
    LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice, TransportSlice,
};

use super::mark::Mac;
use super::pcapng::LinkType;

/// Where the tag of a frame stands: behind its two addresses.
const TAG_AT: usize = 12;

/// Puts a VLAN tag back that the kernel took out of a frame (IEEE 802.1Q): its
/// type, and what it says. Of a frame that was cut before it nothing changes.
pub fn put_tag_back(bytes: &mut Vec<u8>, kind: u16, tag: u16) {
    if TAG_AT <= bytes.len() {
        bytes.splice(TAG_AT..TAG_AT, [kind.to_be_bytes(), tag.to_be_bytes()].concat());
    }
}

/// What a frame is, in one line: `10.0.0.1 > 10.0.0.2 ICMP, 98 bytes`.
pub fn in_a_line(bytes: &[u8], link_type: LinkType, length: u32) -> String {
    let parsed = match link_type {
        LinkType::Ethernet => LaxSlicedPacket::from_ethernet(bytes).ok(),
        LinkType::Ip => LaxSlicedPacket::from_ip(bytes).ok(),
    };
    let mut line = parsed.map(|packet| words(&packet)).unwrap_or_else(|| "cut short".into());
    write!(line, ", {length} bytes").expect("a string takes all");
    line
}

fn words(packet: &LaxSlicedPacket) -> String {
    let mut text = String::new();
    for extension in &packet.link_exts {
        if let LaxLinkExtSlice::Vlan(vlan) = extension {
            write!(text, "vlan {} ", vlan.vlan_identifier().value()).expect("a string takes all");
        }
    }
    let (from, to, protocol) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let (from, to) = (header.source_addr(), header.destination_addr());
            (from.into(), to.into(), header.protocol())
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let (from, to) = (header.source_addr(), header.destination_addr());
            (IpAddr::from(from), to.into(), ip.payload().ip_number)
        }
        Some(LaxNetSlice::Arp(arp)) => return text + &arp_words(arp),
        None => return text + &ethernet_words(packet),
    };
    let protocol = match protocol.0 {
        1 => "ICMP".to_owned(),
        58 => "ICMPv6".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        number => protocol.keyword_str().map_or(format!("protocol {number}"), str::to_owned),
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let (a, b) = (at(from, tcp.source_port()), at(to, tcp.destination_port()));
            text + &format!("{a} > {b} TCP {}", flags(tcp))
        }
        Some(TransportSlice::Udp(udp)) => {
            let (a, b) = (at(from, udp.source_port()), at(to, udp.destination_port()));
            text + &format!("{a} > {b} UDP")
        }
        _ => text + &format!("{from} > {to} {protocol}"),
    }
}

/// An address with a port.
fn at(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn flags(tcp: &TcpSlice) -> String {
    let all = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
    ];
    let set: Vec<_> = all.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name).collect();
    set.join(" ")
}

fn arp_words(arp: &etherparse::ArpPacketSlice) -> String {
    let address = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => IpAddr::from(v4).to_string(),
        Err(_) => "?".to_owned(),
    };
    let (from, to) = (address(arp.sender_protocol_addr()), address(arp.target_protocol_addr()));
    match arp.operation().0 {
        1 => format!("ARP who has {to}, asks {from}"),
        2 => {
            let mac = <[u8; 6]>::try_from(arp.sender_hw_addr());
            let mac = mac.map_or_else(|_| "?".to_owned(), |mac| Mac(mac).to_string());
            format!("ARP {from} is at {mac}")
        }
        other => format!("ARP operation {other}"),
    }
}

fn ethernet_words(packet: &LaxSlicedPacket) -> String {
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else {
        return "no packet that is known".into();
    };
    let (from, to) = (Mac(ethernet.source()), Mac(ethernet.destination()));
    let inner = packet.link_exts.iter().rev().find_map(|extension| match extension {
        LaxLinkExtSlice::Vlan(vlan) => Some(vlan.ether_type()),
        LaxLinkExtSlice::Macsec(_) => None,
    });
    let kind = inner.unwrap_or_else(|| ethernet.ether_type()).0;
    // Below that it is no type but a length (IEEE 802.3).
    let kind = if kind < 0x600 { "LLC".into() } else { format!("type {kind:#06x}") };
    format!("{from} > {to} {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

    #[test]
    fn a_tag_is_put_back() {
        let mut bytes = [&ADDRESSES[..], &[8, 0, 1, 2]].concat();
        put_tag_back(&mut bytes, 0x8100, 10);
        assert_eq!(bytes, [&ADDRESSES[..], &[0x81, 0, 0, 10, 8, 0, 1, 2]].concat());
        let mut short = ADDRESSES[..11].to_vec();
        put_tag_back(&mut short, 0x8100, 10);
        assert_eq!(short, ADDRESSES[..11]);
    }

    #[test]
    fn frames_in_a_line() {
        let of = |kind: [u8; 2], rest: &[u8]| [&ADDRESSES[..], &kind, rest].concat();
        let mut ipv4 = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        ipv4.extend([0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x12, 1, 0, 0, 0, 0, 0]);
        check(&of([8, 0], &ipv4), "10.0.0.1:12345 > 10.0.0.2:80 TCP SYN ACK, 60 bytes");
        let tagged = of([0x81, 0], &[&[0, 10, 8, 0][..], &ipv4].concat());
        check(&tagged, "vlan 10 10.0.0.1:12345 > 10.0.0.2:80 TCP SYN ACK, 60 bytes");
        ipv4[9] = 1;
        check(&of([8, 0], &ipv4), "10.0.0.1 > 10.0.0.2 ICMP, 60 bytes");
        ipv4[9] = 89;
        check(&of([8, 0], &ipv4[..20]), "10.0.0.1 > 10.0.0.2 OSPFIGP, 60 bytes");
        let arp =
            [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2];
        check(&of([8, 6], &arp), "ARP who has 10.0.0.2, asks 10.0.0.1, 60 bytes");
        let mut answer = arp;
        answer[7] = 2;
        check(&of([8, 6], &answer), "ARP 10.0.0.1 is at 02:00:00:00:00:01, 60 bytes");
        check(
            &of([0x88, 0xb5], &[0; 46]),
            "02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x88b5, 60 bytes",
        );
        check(&of([0, 38], &[0; 46]), "02:00:00:00:00:01 > 02:00:00:00:00:02 LLC, 60 bytes");
        check(&ADDRESSES[..5], "cut short, 60 bytes");

        #[track_caller]
        fn check(bytes: &[u8], expected: &str) {
            assert_eq!(in_a_line(bytes, LinkType::Ethernet, 60), expected);
        }
    }
}
