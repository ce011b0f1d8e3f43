//! Echo requests and replies on the wire: ICMP (RFC 792) and ICMPv6
//! (RFC 4443 section 4), as raw sockets send and deliver them (`raw(7)`).

/// An echo request or reply of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// Tells this process from others that ping in the same node.
    pub id: u16,
    /// Counts attempts; wraps.
    pub sequence: u16,
    /// Which probe it is, carried as data.
    pub token: u64,
}

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// What marks the data as ours, before the token.
pub const MAGIC: &[u8; 8] = b"ovsnspng";

/// Bytes of an echo message: header, magic, token.
pub const BYTES: usize = 8 + 8 + 8;

impl Echo {
    /// The request for IPv4, with its checksum.
    pub fn request_v4(&self) -> [u8; BYTES] {
        let mut bytes = self.message(ECHO_REQUEST_V4);
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The request for IPv6. The kernel fills in the checksum, which covers
    /// addresses that only it knows (RFC 3542 section 3.1).
    pub fn request_v6(&self) -> [u8; BYTES] {
        self.message(ECHO_REQUEST_V6)
    }

    /// The request for IPv4, so many bytes long, or as long as one is at least.
    pub fn long_request_v4(&self, bytes: usize) -> Vec<u8> {
        let mut message = self.long_message(ECHO_REQUEST_V4, bytes);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// The same for IPv6.
    pub fn long_request_v6(&self, bytes: usize) -> Vec<u8> {
        self.long_message(ECHO_REQUEST_V6, bytes)
    }

    fn long_message(&self, kind: u8, bytes: usize) -> Vec<u8> {
        let mut message = self.message(kind).to_vec();
        message.resize(bytes.max(BYTES), 0);
        message
    }

    fn message(&self, kind: u8) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0] = kind;
        bytes[4..6].copy_from_slice(&self.id.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..16].copy_from_slice(MAGIC);
        bytes[16..24].copy_from_slice(&self.token.to_be_bytes());
        bytes
    }

    /// Reads what a raw IPv4 socket delivers: the packet with its IP header, however
    /// long it is. `None` for anything but an echo reply to one of our requests.
    pub fn reply_v4(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let header_bytes = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header_bytes < 20 {
            return None;
        }
        Self::reply(packet.get(header_bytes..)?, ECHO_REPLY_V4)
    }

    /// Reads what a raw IPv6 socket delivers: the message alone.
    pub fn reply_v6(message: &[u8]) -> Option<Self> {
        Self::reply(message, ECHO_REPLY_V6)
    }

    fn reply(message: &[u8], kind: u8) -> Option<Self> {
        let message: &[u8; BYTES] = message.get(..BYTES)?.try_into().ok()?;
        if message[0] != kind || message[1] != 0 || &message[8..16] != MAGIC {
            return None;
        }
        Some(Self {
            id: u16::from_be_bytes([message[4], message[5]]),
            sequence: u16::from_be_bytes([message[6], message[7]]),
            token: u64::from_be_bytes(message[16..24].try_into().ok()?),
        })
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while 0xffff < sum {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ECHO: Echo = Echo { id: 0x1234, sequence: 7, token: 0x0102_0304_0506_0708 };

    #[test]
    fn a_request_sums_to_zero() {
        assert_eq!(checksum(&ECHO.request_v4()), 0);
    }

    #[test]
    fn a_reply_is_read_behind_any_header() {
        for options in [0, 4, 40] {
            let mut packet = vec![0; 20 + options];
            packet[0] = 0x40 | (5 + u8::try_from(options / 4).expect("small"));
            let mut message = ECHO.request_v4();
            message[0] = ECHO_REPLY_V4;
            packet.extend(message);
            assert_eq!(Echo::reply_v4(&packet), Some(ECHO));
        }
    }

    #[test]
    fn a_request_is_no_reply() {
        let mut packet = vec![0x45; 20];
        packet.extend(ECHO.request_v4());
        assert_eq!(Echo::reply_v4(&packet), None);
        assert_eq!(Echo::reply_v6(&ECHO.request_v6()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Echo::reply_v4(&bytes);
            let _ = Echo::reply_v6(&bytes);
        }
    }
}
