//! What the host hears of two devices that get the same frames, by the packet
//! filter at their ingress (nft(8), family `netdev`), and whether it sends by one.
//!
//! A switch in userspace takes frames from a packet socket, which only copies
//! them: the host hears each frame once from the NIC, and a second time from
//! the switch's local device. So it is made deaf to one of the two. Both have a
//! chain in a table of ours from the beginning, and turning from one to the
//! other is one transaction.
//!
//! That alone would lose what is inside the switch at that moment, or have it
//! heard twice. So for a while the host hears both, and each frame once, by
//! whichever of the two it comes first: what is heard is noted by its first
//! bytes, and dropped when the other brings it, late as that may be. Which one
//! is first is not certain: the packet socket is served before the filter, and
//! now and then the switch is quicker on another processor.

pub(super) mod seen;
pub(super) mod wire;

use netlink_packet_core::DefaultNla;
use nix::errno::Errno;

use self::wire::{Hook, Message, NFPROTO_INET, NFPROTO_NETDEV, Owner, Set, big, commit, verdict};
use super::error::KernelError;
use super::netlink::Netlink;
use super::raw::{attribute, nest, text};
use crate::model::names::IfName;
use crate::plan::attach::Ear;

/// By how many bytes behind the Ethernet header a frame is known: by the most
/// that it has. They hold the headers of TCP over either family, with the
/// checksum of all of it; the least is ARP.
const KNOWN_BY: [u8; 4] = [60, 48, 40, 28];
/// How long a frame is known; no switch keeps one so long.
const KNOWN_FOR_MS: u64 = 1000;
/// How many are, at most. One that finds no room may be heard twice.
const KNOWN_MAX: u32 = 65536;

/// Has the host hear of a NIC and of the local device of its switch what `ear`
/// says, in the table of the NIC, which is made if it is not there.
///
/// Like `nft` with a table `netdev ovsns.NIC` that has a chain `filter hook
/// ingress` for each device, and in it `drop`, or `@nh,0,480 @heard-local-60
/// drop` and `add @heard-nic-60 { @nh,0,480 } accept`.
pub(super) fn listen(nic: &IfName, local: &IfName, ear: Ear) -> Result<(), KernelError> {
    let asked = |_| format!("have the host hear each frame of `{nic}` and `{local}` once");
    let netlink = Netlink::netfilter()?;
    let table = table(nic);
    let mut batch = Vec::new();
    match wire::owner(&netlink, NFPROTO_NETDEV, &table)? {
        Owner::Nobody => {
            batch.push(wire::new_table(NFPROTO_NETDEV, &table));
            batch.extend([nic, local].map(|device| new_chain(&table, device)));
        }
        Owner::Us => {}
        Owner::Others => return Err(KernelError::new(asked(0), Errno::EEXIST)),
    }
    // Those that are there stay as they are.
    batch.extend(sets().map(|(heard, bytes)| new_set(&table, heard, bytes)));
    for device in [nic, local] {
        let chain = text(wire::NFTA_RULE_CHAIN, device.as_str());
        let all = [text(wire::NFTA_RULE_TABLE, &table), chain];
        batch.push(wire::message(NFPROTO_NETDEV, wire::NFT_MSG_DELRULE, &all));
    }
    let rule = |device: &IfName, expressions: &[DefaultNla]| {
        wire::new_rule(NFPROTO_NETDEV, &table, device.as_str(), expressions)
    };
    let drop_all = rule(nic, &[verdict(wire::NF_DROP)]);
    // What was heard of `other` is not heard of `device`.
    let but = |device: &IfName, other: Heard| {
        let again = |bytes| wire::lookup(&set(other, bytes));
        KNOWN_BY.map(|bytes| rule(device, &[load(bytes), again(bytes), verdict(wire::NF_DROP)]))
    };
    let noted = |device: &IfName, as_heard: Heard| {
        let first = |bytes| wire::note(&set(as_heard, bytes));
        KNOWN_BY.map(|bytes| rule(device, &[load(bytes), first(bytes), verdict(wire::NF_ACCEPT)]))
    };
    match ear {
        Ear::Either => {
            batch.extend(but(nic, Heard::Local));
            batch.extend(noted(nic, Heard::Nic));
            batch.extend(but(local, Heard::Nic));
            batch.extend(noted(local, Heard::Local));
        }
        Ear::LocalOnce => {
            batch.push(drop_all);
            batch.extend(but(local, Heard::Nic));
            batch.extend(noted(local, Heard::Local));
        }
        Ear::Local => {
            batch.push(drop_all);
            batch.extend(sets().map(|(heard, bytes)| {
                let named = text(wire::NFTA_SET_NAME, &set(heard, bytes));
                let it = [text(wire::NFTA_SET_TABLE, &table), named];
                wire::message(NFPROTO_NETDEV, wire::NFT_MSG_DELSET, &it)
            }));
        }
    }
    commit(&netlink, batch, asked)
}

/// Has the host hear all again. No table is as good.
///
/// Like `nft delete table netdev ovsns.NIC`.
pub(super) fn listen_to_all(nic: &IfName) -> Result<(), KernelError> {
    delete(NFPROTO_NETDEV, nic, |_| format!("have the host hear `{nic}`"))
}

/// Deletes the table of a NIC in one family, if it is there and ours.
fn delete(family: u8, nic: &IfName, asked: impl Fn(usize) -> String) -> Result<(), KernelError> {
    let Some(netlink) = wire::open()? else { return Ok(()) };
    let table = table(nic);
    match wire::owner(&netlink, family, &table)? {
        Owner::Us => commit(&netlink, vec![wire::delete_table(family, &table)], asked),
        Owner::Nobody | Owner::Others => Ok(()),
    }
}

/// Has this host send nothing by a NIC itself, which is a port: frames of the
/// switch are sent on.
///
/// Like `nft` with a table `inet ovsns.NIC` that has a chain `filter hook output`,
/// and in it `oif NIC drop`.
pub(super) fn silence(nic: &IfName, index: u32) -> Result<(), KernelError> {
    let asked = |_| format!("have the host send nothing by `{nic}`");
    let netlink = Netlink::netfilter()?;
    let (table, chain) = (table(nic), nic.as_str());
    match wire::owner(&netlink, NFPROTO_INET, &table)? {
        Owner::Us => return Ok(()),
        Owner::Nobody => {}
        Owner::Others => return Err(KernelError::new(asked(0), Errno::EEXIST)),
    }
    let hook = Hook { kind: "filter", number: wire::NF_INET_LOCAL_OUT, priority: 0, device: None };
    // The number of a device is of this machine's, and in its order.
    let leaves_by_it = [wire::meta(wire::NFT_META_OIF), wire::equals(&index.to_ne_bytes())];
    let rule = [&leaves_by_it[..], &[verdict(wire::NF_DROP)]].concat();
    let batch = vec![
        wire::new_table(NFPROTO_INET, &table),
        wire::new_chain(NFPROTO_INET, &table, chain, &hook),
        wire::new_rule(NFPROTO_INET, &table, chain, &rule),
    ];
    commit(&netlink, batch, asked)
}

/// Has this host send by a NIC again.
///
/// Like `nft delete table inet ovsns.NIC`.
pub(super) fn let_speak(nic: &IfName) -> Result<(), KernelError> {
    delete(NFPROTO_INET, nic, |_| format!("have the host send by `{nic}`"))
}

fn table(nic: &IfName) -> String {
    format!("ovsns.{nic}")
}

/// A chain, named as the device, that its frames come into.
pub(super) fn new_chain(table: &str, device: &IfName) -> Message {
    let number = wire::NF_NETDEV_INGRESS;
    let hook = Hook { kind: "filter", number, priority: 0, device: Some(device) };
    wire::new_chain(NFPROTO_NETDEV, table, device.as_str(), &hook)
}

/// By which of the two a frame was heard.
#[derive(Debug, Clone, Copy)]
enum Heard {
    Nic,
    Local,
}

/// A set of frames that were heard and are known by so many bytes.
fn set(heard: Heard, bytes: u8) -> String {
    match heard {
        Heard::Nic => format!("heard-nic-{bytes}"),
        Heard::Local => format!("heard-local-{bytes}"),
    }
}

fn sets() -> impl Iterator<Item = (Heard, u8)> {
    let of = |heard| KNOWN_BY.map(|bytes| (heard, bytes));
    of(Heard::Nic).into_iter().chain(of(Heard::Local))
}

fn new_set(table: &str, heard: Heard, bytes: u8) -> Message {
    let set = Set {
        name: &set(heard, bytes),
        flags: wire::NFT_SET_EVAL | wire::NFT_SET_TIMEOUT,
        key_type: 0,
        key_bytes: bytes.into(),
        id: bytes.into(),
    };
    let most = nest(wire::NFTA_SET_DESC, &[big(wire::NFTA_SET_DESC_SIZE, KNOWN_MAX)]);
    let how_long = attribute(wire::NFTA_SET_TIMEOUT, &KNOWN_FOR_MS.to_be_bytes());
    wire::new_set(NFPROTO_NETDEV, table, &set, &[most, how_long])
}

/// The first bytes of a frame.
fn load(bytes: u8) -> DefaultNla {
    wire::payload(wire::NFT_PAYLOAD_NETWORK_HEADER, 0, bytes.into())
}
