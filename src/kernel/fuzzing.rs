//! What must hold for any bytes that the kernel, or a program, may answer with: see
//! `crate::fuzzing`. Most of it is that nothing panics or goes on for ever.

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use netlink_packet_route::RouteNetlinkMessage;

use super::raw::{self, Raw};
use super::{
    containers, deaf, doors, ethtool, leases, life, netlink, nic, observe, rt, tap, tc, why,
};

/// A message of netlink: two bytes of its type, then what is behind its header.
pub fn netlink(input: &[u8]) {
    let _ = netlink::words(input);
    let Some((kind, bytes)) = input.split_first_chunk() else { return };
    let message = Raw { kind: u16::from_ne_bytes(*kind), bytes: bytes.to_vec() };
    for header in [0, 4, 8, 12, 16, 20] {
        let body = bytes.get(header..).unwrap_or_default();
        let held: usize = raw::attributes(body).map(|(_, value)| 4 + value.len()).sum();
        assert!(held <= body.len(), "attributes that are longer than what they are in");
        for (kind, value) in raw::attributes(body) {
            assert!(raw::find(body, &[kind]).is_some());
            let _ = (raw::text_of(value), raw::number_at(value, 0), deaf::address(value));
            let _ = ethtool::is_set(value, u32::from(kind));
        }
        doors::fuzz(body);
        why::fuzzing::attributes(body);
    }
    nic::fuzzing::message(&message);
    tc::fuzzing::message(&message);
    let mut header = NetlinkHeader::default();
    header.message_type = message.kind;
    match RouteNetlinkMessage::deserialize(&header, bytes) {
        Ok(RouteNetlinkMessage::NewAddress(address)) => drop(rt::net_of(&address)),
        Ok(RouteNetlinkMessage::NewRoute(route)) => drop(rt::destination(&route)),
        Ok(message) => {
            for link in observe::read_links(vec![message]) {
                let _ = link.is_orphan();
            }
        }
        Err(_) => {}
    }
}

/// What `tcpdump -ddd` writes, and what stands beside a packet.
pub fn capture(input: &[u8]) {
    if let Some((_, Some((_, tag)))) = tap::auxiliary(input) {
        assert_eq!(tag.to_ne_bytes(), input[16..18]);
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(program) = tap::read_program(text) {
        assert!(program.len() < text.lines().count());
    }
}

/// Lists of `/proc`.
pub fn proc(input: &[u8]) {
    life::fuzzing::proc(&String::from_utf8_lossy(input));
}

/// What keepers and commands say to each other, and engines of containers to us.
pub(crate) fn messages(input: &[u8]) {
    life::fuzzing::messages(input);
    leases::fuzz(input);
    let _ = containers::read(input);
}
