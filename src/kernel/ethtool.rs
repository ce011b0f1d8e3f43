//! What a device leaves to its hardware: checksum offload, by the `ethtool`
//! family of generic netlink (Linux 5.6; ethtool-netlink in the kernel's
//! documentation).
//!
//! A veth has no hardware. It passes frames with unfinished checksums on to
//! whatever is at its other end, which is fine while that is the kernel, and
//! not where a program takes the frames, as Open vSwitch's userspace datapath
//! does: then no TCP connection comes about.

use std::collections::BTreeMap;

use netlink_packet_core::DefaultNla;
use nix::errno::Errno;

use super::error::KernelError;
use super::genl::{self, behind_header, request};
use super::netlink::Netlink;
use super::raw::{Raw, attribute, attributes, find, nest, number, number_at, text, text_of};
use crate::model::names::IfName;

/// The features that `ethtool -K DEVICE tx on|off` means. A veth has the
/// second and the last; what needs them (segmentation) the kernel turns off
/// and on with them.
const CHECKSUMS: [&str; 5] = [
    "tx-checksum-ipv4",
    "tx-checksum-ip-generic",
    "tx-checksum-ipv6",
    "tx-checksum-fcoe-crc",
    "tx-checksum-sctp",
];

// linux/ethtool_netlink.h
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_HW: u16 = 2;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
const ETHTOOL_FLAG_COMPACT_BITSETS: u32 = 1;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_VALUE: u16 = 4;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_INDEX: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BIT_VALUE: u16 = 3;

/// The family as this kernel has it: the same in every namespace, until the
/// machine starts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ethtool {
    family: u16,
    /// The places of [`CHECKSUMS`] in a set of features.
    places: Vec<u32>,
}

impl Ethtool {
    /// Asks what number the kernel gave the family, and in what order it has
    /// the features.
    ///
    /// Like `genl ctrl get name ethtool`.
    pub fn find() -> Result<Self, KernelError> {
        let asked = || "reach the `ethtool` family of netlink, of Linux 5.6 and newer".to_owned();
        let garbled = || KernelError::new(asked(), Errno::EBADMSG);
        let netlink = Netlink::generic()?;
        let family = genl::family(&netlink, "ethtool")?;
        let family = family.ok_or_else(|| KernelError::new(asked(), Errno::EOPNOTSUPP))?;
        // Of each feature, by name, it is told whether a device's hardware
        // could have it; every namespace has a loopback.
        let device = nest(ETHTOOL_A_FEATURES_HEADER, &[text(ETHTOOL_A_HEADER_DEV_NAME, "lo")]);
        let message = request(family, ETHTOOL_MSG_FEATURES_GET, &[device]);
        let answers = netlink.raw(message, 0, asked)?;
        let features = answers.iter().flat_map(|answer| bits_in(answer, ETHTOOL_A_FEATURES_HW));
        let ours = features.filter(|(_, name)| CHECKSUMS.contains(name));
        let places: Vec<u32> = ours.map(|(place, _)| place).collect();
        if places.is_empty() { Err(garbled()) } else { Ok(Self { family, places }) }
    }

    /// Says whether a device of the calling thread's namespace leaves
    /// checksums to its hardware, real or not.
    ///
    /// Like `ethtool -K DEVICE tx on|off`.
    pub fn set_checksums(&self, device: &IfName, leave: bool) -> Result<(), KernelError> {
        let asked = || match leave {
            true => format!("have `{device}` leave checksums to its hardware"),
            false => format!("have `{device}` calculate checksums itself"),
        };
        let bits: Vec<DefaultNla> = CHECKSUMS.iter().map(|name| bit(name, leave)).collect();
        let attributes = [
            nest(ETHTOOL_A_FEATURES_HEADER, &[text(ETHTOOL_A_HEADER_DEV_NAME, device.as_str())]),
            nest(ETHTOOL_A_FEATURES_WANTED, &[nest(ETHTOOL_A_BITSET_BITS, &bits)]),
        ];
        let message = request(self.family, ETHTOOL_MSG_FEATURES_SET, &attributes);
        let answers = Netlink::generic()?.raw(message, 0, asked)?;
        // A feature that a device has not, or cannot be without, is passed over
        // without an error; the answer lists those that are not as asked.
        let differ = answers.iter().flat_map(|answer| bits_in(answer, ETHTOOL_A_FEATURES_WANTED));
        let differ: Vec<&str> = differ.map(|(_, name)| name).collect();
        let differs = |name: &&str| differ.contains(name);
        let in_vain = match leave {
            true => CHECKSUMS.iter().all(differs),
            false => CHECKSUMS.iter().any(differs),
        };
        if in_vain { Err(KernelError::new(asked(), Errno::EOPNOTSUPP)) } else { Ok(()) }
    }

    /// The devices of the calling thread's namespace, each with whether it
    /// leaves checksums to its hardware.
    ///
    /// Like `ethtool -k DEVICE`, of all devices.
    pub fn checksums(&self) -> Result<BTreeMap<String, bool>, KernelError> {
        let asked = "ask devices whether they leave checksums to their hardware";
        // With names an answer is twenty times the size, and does not fit into
        // what a dump comes in.
        let compact = number(ETHTOOL_A_HEADER_FLAGS, ETHTOOL_FLAG_COMPACT_BITSETS);
        let header = nest(ETHTOOL_A_FEATURES_HEADER, &[compact]);
        let message = request(self.family, ETHTOOL_MSG_FEATURES_GET, &[header]);
        let answers = Netlink::generic()?.raw_dump(&message, asked)?;
        let devices = answers.iter().filter_map(|answer| {
            let bytes = behind_header(answer);
            let name = find(bytes, &[ETHTOOL_A_FEATURES_HEADER, ETHTOOL_A_HEADER_DEV_NAME])?;
            let active = find(bytes, &[ETHTOOL_A_FEATURES_ACTIVE, ETHTOOL_A_BITSET_VALUE])?;
            let leaves = self.places.iter().any(|place| is_set(active, *place));
            Some((text_of(name)?.to_owned(), leaves))
        });
        Ok(devices.collect())
    }
}

/// A feature with what it is to be.
fn bit(name: &str, on: bool) -> DefaultNla {
    let mut inner = vec![text(ETHTOOL_A_BITSET_BIT_NAME, name)];
    inner.extend(on.then(|| attribute(ETHTOOL_A_BITSET_BIT_VALUE, &[])));
    nest(ETHTOOL_A_BITSET_BITS_BIT, &inner)
}

/// The features that a set in an answer lists by name, each with its place.
fn bits_in(answer: &Raw, set: u16) -> impl Iterator<Item = (u32, &str)> {
    let bits = find(behind_header(answer), &[set, ETHTOOL_A_BITSET_BITS]).unwrap_or_default();
    attributes(bits).filter_map(|(_, bit)| {
        let place = find(bit, &[ETHTOOL_A_BITSET_BIT_INDEX])?;
        let name = find(bit, &[ETHTOOL_A_BITSET_BIT_NAME])?;
        Some((number_at(place, 0)?, text_of(name)?))
    })
}

/// Whether a bit is set in a row of words of 32 bits.
pub(super) fn is_set(words: &[u8], place: u32) -> bool {
    let word = number_at(words, (place / 32) as usize * 4);
    word.is_some_and(|word| word >> (place % 32) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_in_words() {
        let words: Vec<u8> = [1u32 << 3, 1 << 1].into_iter().flat_map(u32::to_ne_bytes).collect();
        let set: Vec<u32> = (0..80).filter(|place| is_set(&words, *place)).collect();
        assert_eq!(set, [3, 33], "and nothing behind the end");
    }
}
