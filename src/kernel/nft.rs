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

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use nix::errno::Errno;

use super::error::KernelError;
use super::netlink::Netlink;
use super::raw::{Raw, attribute, find, nest, text};
use crate::model::names::IfName;
use crate::plan::attach::Ear;

// linux/netfilter/nfnetlink.h and nf_tables.h
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10;
pub(super) const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
pub(super) const NFT_MSG_DELTABLE: u16 = 2;
pub(super) const NFT_MSG_NEWCHAIN: u16 = 3;
pub(super) const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_DELRULE: u16 = 8;
pub(super) const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_DELSET: u16 = 11;
const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_NETDEV: u8 = 5;
pub(super) const NFTA_TABLE_NAME: u16 = 1;
pub(super) const NFTA_TABLE_USERDATA: u16 = 6;
pub(super) const NFTA_CHAIN_TABLE: u16 = 1;
pub(super) const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
pub(super) const NFTA_RULE_TABLE: u16 = 1;
pub(super) const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(super) const NFTA_SET_TABLE: u16 = 1;
pub(super) const NFTA_SET_NAME: u16 = 2;
pub(super) const NFTA_SET_FLAGS: u16 = 3;
pub(super) const NFTA_SET_KEY_TYPE: u16 = 4;
pub(super) const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DESC: u16 = 9;
pub(super) const NFTA_SET_ID: u16 = 10;
const NFTA_SET_TIMEOUT: u16 = 11;
const NFTA_SET_DESC_SIZE: u16 = 1;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_EVAL: u32 = 0x20;
pub(super) const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
pub(super) const NFTA_PAYLOAD_DREG: u16 = 1;
pub(super) const NFTA_PAYLOAD_BASE: u16 = 2;
pub(super) const NFTA_PAYLOAD_OFFSET: u16 = 3;
pub(super) const NFTA_PAYLOAD_LEN: u16 = 4;
pub(super) const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFTA_DYNSET_SET_NAME: u16 = 1;
const NFTA_DYNSET_OP: u16 = 3;
const NFTA_DYNSET_SREG_KEY: u16 = 4;
const NFT_DYNSET_OP_ADD: u32 = 0;
pub(super) const NFTA_LOOKUP_SET: u16 = 1;
pub(super) const NFTA_LOOKUP_SREG: u16 = 2;
pub(super) const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFT_REG_VERDICT: u32 = 0;
pub(super) const NFT_REG_1: u32 = 1;
const NF_NETDEV_INGRESS: u32 = 0;
const NF_INET_LOCAL_OUT: u32 = 3;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFT_META_OIF: u32 = 5;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFT_CMP_EQ: u32 = 0;
const NFTA_DATA_VALUE: u16 = 1;

/// By which a table is known to be ours; `nft list ruleset` shows it.
const MARK: &str = "ovsns";

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
    match owner(&netlink, NFPROTO_NETDEV, &table)? {
        Owner::Nobody => {
            batch.push(message(NFT_MSG_NEWTABLE, &marked(&table)));
            for device in [nic, local] {
                batch.push(new_chain(&table, device));
            }
        }
        Owner::Us => {}
        Owner::Others => return Err(KernelError::new(asked(0), Errno::EEXIST)),
    }
    // Those that are there stay as they are.
    batch.extend(sets().map(|(heard, bytes)| new_set(&table, heard, bytes)));
    for device in [nic, local] {
        let chain = text(NFTA_RULE_CHAIN, device.as_str());
        batch.push(message(NFT_MSG_DELRULE, &[text(NFTA_RULE_TABLE, &table), chain]));
    }
    let drop_all = new_rule(&table, nic, &[immediate(NF_DROP)]);
    // What was heard of `other` is not heard of `device`.
    let but = |device: &IfName, other: Heard| {
        let again = |bytes| [load(bytes), known(other, bytes), immediate(NF_DROP)];
        KNOWN_BY.map(|bytes| new_rule(&table, device, &again(bytes)))
    };
    let noted = |device: &IfName, as_heard: Heard| {
        let first = |bytes| [load(bytes), note(as_heard, bytes), immediate(NF_ACCEPT)];
        KNOWN_BY.map(|bytes| new_rule(&table, device, &first(bytes)))
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
                let named = text(NFTA_SET_NAME, &set(heard, bytes));
                message(NFT_MSG_DELSET, &[text(NFTA_SET_TABLE, &table), named])
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
    let netlink = match Netlink::netfilter() {
        // A kernel without it has no table of ours either.
        Err(error) if error.errno == Errno::EPROTONOSUPPORT => return Ok(()),
        other => other?,
    };
    let table = table(nic);
    match owner(&netlink, family, &table)? {
        Owner::Us => {
            let named = [text(NFTA_TABLE_NAME, &table)];
            commit(&netlink, vec![message_of(family, NFT_MSG_DELTABLE, &named)], asked)
        }
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
    let table = table(nic);
    match owner(&netlink, NFPROTO_INET, &table)? {
        Owner::Us => return Ok(()),
        Owner::Nobody => {}
        Owner::Others => return Err(KernelError::new(asked(0), Errno::EEXIST)),
    }
    let hook = nest(
        NFTA_CHAIN_HOOK,
        &[big(NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_OUT), big(NFTA_HOOK_PRIORITY, 0)],
    );
    let chain = [
        text(NFTA_CHAIN_TABLE, &table),
        text(NFTA_CHAIN_NAME, nic.as_str()),
        hook,
        text(NFTA_CHAIN_TYPE, "filter"),
    ];
    let leaves_by =
        expression("meta", &[big(NFTA_META_DREG, NFT_REG_1), big(NFTA_META_KEY, NFT_META_OIF)]);
    // A number of this machine's, and in its order.
    let value = nest(NFTA_CMP_DATA, &[attribute(NFTA_DATA_VALUE, &index.to_ne_bytes())]);
    let it =
        expression("cmp", &[big(NFTA_CMP_SREG, NFT_REG_1), big(NFTA_CMP_OP, NFT_CMP_EQ), value]);
    let rule = [
        text(NFTA_RULE_TABLE, &table),
        text(NFTA_RULE_CHAIN, nic.as_str()),
        nest(NFTA_RULE_EXPRESSIONS, &[leaves_by, it, immediate(NF_DROP)]),
    ];
    let new = |kind, attributes: &[DefaultNla]| message_of(NFPROTO_INET, kind, attributes);
    let batch = vec![
        new(NFT_MSG_NEWTABLE, &marked(&table)),
        new(NFT_MSG_NEWCHAIN, &chain),
        new(NFT_MSG_NEWRULE, &rule),
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

/// What a table of ours is born with: its name, and our mark as a comment, as
/// nft(8) writes one: its kind, its length, its letters.
fn marked(table: &str) -> [DefaultNla; 2] {
    let letters = [MARK.as_bytes(), &[0]].concat();
    let length = u8::try_from(letters.len()).expect("it is short");
    let comment = [&[0, length], letters.as_slice()].concat();
    [text(NFTA_TABLE_NAME, table), attribute(NFTA_TABLE_USERDATA, &comment)]
}

pub(super) enum Owner {
    Nobody,
    Us,
    Others,
}

pub(super) fn owner(netlink: &Netlink, family: u8, table: &str) -> Result<Owner, KernelError> {
    let (get, _) = message_of(family, NFT_MSG_GETTABLE, &[text(NFTA_TABLE_NAME, table)]);
    let asked = || "look at the packet filter".to_owned();
    match netlink.raw(get, 0, asked) {
        Ok(found) => {
            let comment =
                found.iter().find_map(|raw| find(raw.bytes.get(4..)?, &[NFTA_TABLE_USERDATA]));
            let ours = comment
                .is_some_and(|comment| comment.get(2..2 + MARK.len()) == Some(MARK.as_bytes()));
            Ok(if ours { Owner::Us } else { Owner::Others })
        }
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP) => {
            Ok(Owner::Nobody)
        }
        Err(error) => Err(error),
    }
}

/// Sends all of `messages` as one transaction: all of it, or nothing.
pub(super) fn commit(
    netlink: &Netlink,
    messages: Vec<(Raw, u16)>,
    asked: impl Fn(usize) -> String,
) -> Result<(), KernelError> {
    let frame = |kind: u16| {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        (Raw::new(kind, &[0, 0, high, low], &[]), 0)
    };
    let mut batch = vec![frame(NFNL_MSG_BATCH_BEGIN)];
    batch.extend(messages);
    batch.push(frame(NFNL_MSG_BATCH_END));
    let refused = netlink.burst(&batch, asked)?;
    refused.into_values().next().map_or(Ok(()), Err)
}

pub(super) fn message(kind: u16, attributes: &[DefaultNla]) -> (Raw, u16) {
    message_of(NFPROTO_NETDEV, kind, attributes)
}

fn message_of(family: u8, kind: u16, attributes: &[DefaultNla]) -> (Raw, u16) {
    let raw = Raw::new(SUBSYSTEM << 8 | kind, &[family, 0, 0, 0], attributes);
    (raw, NLM_F_ACK | NLM_F_CREATE)
}

/// A table with our mark.
pub(super) fn new_table(table: &str) -> (Raw, u16) {
    // A comment, as nft(8) writes it: its kind, its length, its letters.
    let letters = [MARK.as_bytes(), &[0]].concat();
    let length = u8::try_from(letters.len()).expect("it is short");
    let comment = [&[0, length], letters.as_slice()].concat();
    let named = text(NFTA_TABLE_NAME, table);
    message(NFT_MSG_NEWTABLE, &[named, attribute(NFTA_TABLE_USERDATA, &comment)])
}

/// The packet filter's numbers are in the network's order.
pub(super) fn big(kind: u16, value: u32) -> DefaultNla {
    attribute(kind, &value.to_be_bytes())
}

pub(super) fn new_chain(table: &str, device: &IfName) -> (Raw, u16) {
    let hook = nest(
        NFTA_CHAIN_HOOK,
        &[
            big(NFTA_HOOK_HOOKNUM, NF_NETDEV_INGRESS),
            big(NFTA_HOOK_PRIORITY, 0),
            text(NFTA_HOOK_DEV, device.as_str()),
        ],
    );
    let (table, name) = (text(NFTA_CHAIN_TABLE, table), text(NFTA_CHAIN_NAME, device.as_str()));
    message(NFT_MSG_NEWCHAIN, &[table, name, hook, text(NFTA_CHAIN_TYPE, "filter")])
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

fn new_set(table: &str, heard: Heard, bytes: u8) -> (Raw, u16) {
    message(
        NFT_MSG_NEWSET,
        &[
            text(NFTA_SET_TABLE, table),
            text(NFTA_SET_NAME, &set(heard, bytes)),
            big(NFTA_SET_FLAGS, NFT_SET_EVAL | NFT_SET_TIMEOUT),
            // Bytes without a meaning.
            big(NFTA_SET_KEY_TYPE, 0),
            big(NFTA_SET_KEY_LEN, bytes.into()),
            // By which rules of the same transaction could name it.
            big(NFTA_SET_ID, bytes.into()),
            nest(NFTA_SET_DESC, &[big(NFTA_SET_DESC_SIZE, KNOWN_MAX)]),
            attribute(NFTA_SET_TIMEOUT, &KNOWN_FOR_MS.to_be_bytes()),
        ],
    )
}

pub(super) fn new_rule(table: &str, device: &IfName, expressions: &[DefaultNla]) -> (Raw, u16) {
    let (table, chain) = (text(NFTA_RULE_TABLE, table), text(NFTA_RULE_CHAIN, device.as_str()));
    // Behind those that are there.
    let (raw, flags) =
        message(NFT_MSG_NEWRULE, &[table, chain, nest(NFTA_RULE_EXPRESSIONS, expressions)]);
    (raw, flags | NLM_F_APPEND)
}

pub(super) fn expression(name: &str, data: &[DefaultNla]) -> DefaultNla {
    nest(NFTA_LIST_ELEM, &[text(NFTA_EXPR_NAME, name), nest(NFTA_EXPR_DATA, data)])
}

pub(super) fn immediate(verdict: u32) -> DefaultNla {
    let verdict = nest(NFTA_DATA_VERDICT, &[big(NFTA_VERDICT_CODE, verdict)]);
    let data = nest(NFTA_IMMEDIATE_DATA, &[verdict]);
    expression("immediate", &[big(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT), data])
}

/// The first bytes of a frame; a rule ends here for one that has fewer.
fn load(bytes: u8) -> DefaultNla {
    let from = [big(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER), big(NFTA_PAYLOAD_OFFSET, 0)];
    let [base, offset] = from;
    let (to, length) = (big(NFTA_PAYLOAD_DREG, NFT_REG_1), big(NFTA_PAYLOAD_LEN, bytes.into()));
    expression("payload", &[to, base, offset, length])
}

/// Notes what was loaded.
fn note(heard: Heard, bytes: u8) -> DefaultNla {
    let name = text(NFTA_DYNSET_SET_NAME, &set(heard, bytes));
    let how = big(NFTA_DYNSET_OP, NFT_DYNSET_OP_ADD);
    expression("dynset", &[name, how, big(NFTA_DYNSET_SREG_KEY, NFT_REG_1)])
}

/// Whether what was loaded is known; a rule ends here if it is not.
fn known(heard: Heard, bytes: u8) -> DefaultNla {
    let name = text(NFTA_LOOKUP_SET, &set(heard, bytes));
    expression("lookup", &[name, big(NFTA_LOOKUP_SREG, NFT_REG_1)])
}
