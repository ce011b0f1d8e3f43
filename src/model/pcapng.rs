//! A capture file in the format pcapng, as bytes: what Wireshark, tshark and
//! tcpdump read, with the names of the interfaces in it.
//!
//! Of draft-ietf-opsawg-pcapng (its sections are named below) only the four
//! blocks that a capture needs, and only written. Every block is whole by
//! itself, so that whoever reads a pipe can show a packet as soon as it is
//! there. Four kinds of block are less code than a crate for all of the format
//! would be to carry.

/// What is captured on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, such as `n1:eth0`.
    pub name: String,
    /// More about it, for people.
    pub description: String,
    /// Its Ethernet address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// What its packets begin with.
    pub link_type: LinkType,
    /// How much of a packet is kept, in bytes.
    pub snaplen: u32,
    /// The filter, as it was written.
    pub filter: Option<String>,
    /// The system.
    pub os: String,
}

/// What packets begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkType {
    /// The header of Ethernet (`LINKTYPE_ETHERNET`).
    Ethernet,
    /// That of IPv4 or IPv6 (`LINKTYPE_RAW`).
    Ip,
}

/// A packet that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// How long it was.
    pub length: u32,
    /// What was kept of it.
    pub bytes: Vec<u8>,
    /// Which way it went.
    pub way: Way,
}

/// Which way a packet went, as the interface sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It came in, for this one.
    In,
    /// It came in, for a group.
    Multicast,
    /// It came in, for all.
    Broadcast,
    /// It came in, for another.
    ForAnother,
    /// It went out.
    Out,
}

impl Way {
    /// The value of `epb_flags` (4.3): direction in bits 0 and 1, reception in
    /// bits 2 to 4.
    fn flags(self) -> u32 {
        match self {
            Self::In => 1 | 1 << 2,
            Self::Multicast => 1 | 2 << 2,
            Self::Broadcast => 1 | 3 << 2,
            Self::ForAnother => 1 | 4 << 2,
            Self::Out => 2,
        }
    }
}

/// What became of all packets of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// When it began and ended, in nanoseconds since 1970.
    pub times_ns: (u64, u64),
    /// How many passed the filter.
    pub received: u64,
    /// How many of these were lost for want of room.
    pub dropped: u64,
    /// How many are in the file.
    pub delivered: u64,
}

/// The block that begins a file (4.1).
pub fn section(application: &str, os: &str) -> Vec<u8> {
    let mut body = Vec::new();
    // The reader learns by this how numbers are written.
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend(1u16.to_le_bytes());
    body.extend(0u16.to_le_bytes());
    // How long the section is; not known.
    body.extend(u64::MAX.to_le_bytes());
    option(&mut body, 3, os.as_bytes());
    option(&mut body, 4, application.as_bytes());
    block(0x0a0d_0d0a, body)
}

/// The block about an interface (4.2). They are numbered as they come, from 0.
pub fn interface(interface: &Interface) -> Vec<u8> {
    let mut body = Vec::new();
    let link_type: u16 = match interface.link_type {
        LinkType::Ethernet => 1,
        LinkType::Ip => 101,
    };
    body.extend(link_type.to_le_bytes());
    body.extend([0; 2]);
    body.extend(interface.snaplen.to_le_bytes());
    option(&mut body, 2, interface.name.as_bytes());
    option(&mut body, 3, interface.description.as_bytes());
    if let Some(mac) = interface.mac {
        option(&mut body, 6, &mac);
    }
    // Times are in units of 10^-9 s.
    option(&mut body, 9, &[9]);
    if let Some(filter) = &interface.filter {
        // 0 says that it is in the language of libpcap.
        option(&mut body, 11, &[&[0], filter.as_bytes()].concat());
    }
    option(&mut body, 12, interface.os.as_bytes());
    block(1, body)
}

/// The block of a packet (4.3) of the interface of that number.
pub fn packet(interface: u32, packet: &Packet) -> Vec<u8> {
    let mut body = Vec::with_capacity(packet.bytes.len() + 40);
    body.extend(interface.to_le_bytes());
    body.extend(time(packet.time_ns));
    body.extend(length(&packet.bytes).to_le_bytes());
    body.extend(packet.length.to_le_bytes());
    body.extend(&packet.bytes);
    pad(&mut body);
    option(&mut body, 2, &packet.way.flags().to_le_bytes());
    block(6, body)
}

/// The block of what became of an interface's packets (4.6).
pub fn statistics(interface: u32, all: &Statistics) -> Vec<u8> {
    let Statistics { times_ns: (start, end), received, dropped, delivered } = all;
    let mut body = Vec::new();
    body.extend(interface.to_le_bytes());
    body.extend(time(*end));
    option(&mut body, 2, &time(*start));
    option(&mut body, 3, &time(*end));
    option(&mut body, 4, &received.to_le_bytes());
    // Where programs look for what was lost, and where the draft has it.
    option(&mut body, 5, &dropped.to_le_bytes());
    option(&mut body, 7, &dropped.to_le_bytes());
    option(&mut body, 8, &delivered.to_le_bytes());
    block(5, body)
}

/// A time: the higher half comes first.
fn time(ns: u64) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h] = ns.to_le_bytes();
    [e, f, g, h, a, b, c, d]
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("no packet is that long")
}

/// An option (3.5). One that is longer than its length can say is cut.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// A block (3.1): its options end with an empty one, and its length stands at
/// both ends.
fn block(kind: u32, mut body: Vec<u8>) -> Vec<u8> {
    body.extend([0; 4]);
    let length = (length(&body) + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, &body, &length].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section() {
        check(
            &section("ovsns", "Linux"),
            "0a0d0d0a 38000000 4d3c2b1a 01000000 ffffffff ffffffff \
             03000500 4c696e75 78000000 04000500 6f76736e 73000000 00000000 38000000",
        );
    }

    #[test]
    fn an_interface() {
        let mut eth0 = Interface {
            name: "n1:eth0".into(),
            description: "d".into(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            link_type: LinkType::Ethernet,
            snaplen: 96,
            filter: Some("arp".into()),
            os: "Linux".into(),
        };
        check(
            &interface(&eth0),
            "01000000 54000000 01000000 60000000 02000700 6e313a65 74683000 03000100 64000000 \
             06000600 02000000 00010000 09000100 09000000 0b000400 00617270 0c000500 4c696e75 \
             78000000 00000000 54000000",
        );
        (eth0.link_type, eth0.mac, eth0.filter) = (LinkType::Ip, None, None);
        let bytes = interface(&eth0);
        assert_eq!(bytes[8..10], [101, 0]);
        assert_eq!(bytes.len(), 0x54 - 12 - 8, "what is not known is not said");
    }

    #[test]
    fn a_packet() {
        let mut heard = Packet {
            time_ns: 0x0102_0304_0506_0708,
            length: 60,
            bytes: vec![1, 2, 3, 4, 5],
            way: Way::Out,
        };
        check(
            &packet(1, &heard),
            "06000000 34000000 01000000 04030201 08070605 05000000 3c000000 01020304 05000000 \
             02000400 02000000 00000000 34000000",
        );
        for (way, flags) in
            [(Way::In, 5), (Way::Multicast, 9), (Way::Broadcast, 13), (Way::ForAnother, 17)]
        {
            heard.way = way;
            assert_eq!(packet(1, &heard)[40], flags, "{way:?}");
        }
    }

    #[test]
    fn the_statistics() {
        let all = Statistics { times_ns: (1, 2), received: 7, dropped: 3, delivered: 4 };
        check(
            &statistics(2, &all),
            "05000000 64000000 02000000 00000000 02000000 02000800 00000000 01000000 \
             03000800 00000000 02000000 04000800 07000000 00000000 05000800 03000000 00000000 \
             07000800 03000000 00000000 08000800 04000000 00000000 00000000 64000000",
        );
    }

    #[test]
    fn what_is_too_long_for_an_option_is_cut() {
        let bytes = section(&"x".repeat(70_000), "");
        let length = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes"));
        assert_eq!(length as usize, bytes.len());
        assert_eq!(bytes.len() % 4, 0);
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let words = bytes
            .chunks(4)
            .map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let expected: Vec<_> = expected.split_whitespace().collect();
        assert_eq!(words.collect::<Vec<_>>(), expected);
        let length = u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes"));
        assert_eq!(length as usize, bytes.len(), "the length is true");
    }
}
