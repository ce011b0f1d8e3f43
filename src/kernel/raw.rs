//! Netlink messages as bytes, for what the libraries have no types: attributes
//! (`struct nlattr`, netlink(7)) to write and to read.
//!
//! Only what is needed is read, and nothing that was read is sent again.

use std::convert::Infallible;

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NetlinkDeserializable, NetlinkHeader,
    NetlinkSerializable, NlasIterator,
};

/// A message: its type and all that is behind its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// `nlmsg_type`.
    pub kind: u16,
    /// A header of the family's own, then attributes.
    pub bytes: Vec<u8>,
}

impl Raw {
    /// A message of a family's own header and attributes.
    pub fn new(kind: u16, header: &[u8], attributes: &[DefaultNla]) -> Self {
        Self { kind, bytes: [header, &emitted(attributes)].concat() }
    }
}

impl NetlinkSerializable for Raw {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.bytes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.bytes);
    }
}

impl NetlinkDeserializable for Raw {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self { kind: header.message_type, bytes: payload.to_vec() })
    }
}

/// An attribute with a value.
pub fn attribute(kind: u16, value: &[u8]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}

/// An attribute with a number, which the kernel takes in the machine's order.
pub fn number(kind: u16, value: u32) -> DefaultNla {
    attribute(kind, &value.to_ne_bytes())
}

/// An attribute with a text, which the kernel wants closed by a zero.
pub fn text(kind: u16, value: &str) -> DefaultNla {
    DefaultNla::new(kind, [value.as_bytes(), &[0]].concat())
}

/// An attribute made of attributes.
pub fn nest(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, emitted(inner))
}

fn emitted(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// The attributes in `bytes`, each with its kind; those that are cut off are
/// left out.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

/// The first attribute of a kind, down a path of them.
pub fn find<'a>(bytes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, wanted| {
        attributes(bytes).find(|(kind, _)| kind == wanted).map(|(_, value)| value)
    })
}

/// A number of 32 bits at `offset`.
pub fn number_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

/// A text up to its closing zero; `None` if it is not UTF-8.
pub fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|byte| *byte == 0).next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let inner = [number(1, 7), text(2, "five5")];
        let message = Raw::new(16, &[9; 4], &[attribute(3, &[1]), nest(4, &inner)]);
        let bytes = &message.bytes[4..];
        assert_eq!(bytes.len() % 4, 0, "attributes are padded");
        assert_eq!(find(bytes, &[3]), Some(&[1][..]));
        assert_eq!(find(bytes, &[4, 1]).and_then(|value| number_at(value, 0)), Some(7));
        assert_eq!(find(bytes, &[4, 2]).and_then(text_of), Some("five5"));
        assert_eq!(find(bytes, &[4, 3]), None);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let message = Raw::new(16, &[], &[number(1, 7), number(2, 8)]);
        let whole = &message.bytes;
        assert_eq!(attributes(whole).count(), 2);
        for length in 0..whole.len() {
            let kinds: Vec<u16> = attributes(&whole[..length]).map(|(kind, _)| kind).collect();
            assert_eq!(kinds, [1][..usize::from(8 <= length)], "{length}");
        }
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0, "shorter than its own header");
        assert_eq!(number_at(whole, usize::MAX), None);
    }
}
