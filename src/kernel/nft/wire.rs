//! The packet filter's netlink language (nfnetlink, and nf_tables in it): the
//! messages that make and delete tables, chains, sets and rules, the expressions
//! that rules are made of, and the numbers that stand in what the kernel answers.
//!
//! What is dropped, and why, is said by those who have a table: nothing here
//! knows it. Expressions that hand on a value do so in the first register.

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use nix::errno::Errno;

use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::raw::{Raw, attribute, find, nest, text, text_of};
use crate::model::names::IfName;

// linux/netfilter.h
pub(crate) const NFPROTO_UNSPEC: u8 = 0;
pub(crate) const NFPROTO_INET: u8 = 1;
pub(crate) const NFPROTO_IPV4: u8 = 2;
pub(crate) const NFPROTO_ARP: u8 = 3;
pub(crate) const NFPROTO_NETDEV: u8 = 5;
pub(crate) const NFPROTO_BRIDGE: u8 = 7;
pub(crate) const NFPROTO_IPV6: u8 = 10;
pub(crate) const NF_DROP: u32 = 0;
pub(crate) const NF_ACCEPT: u32 = 1;
pub(crate) const NF_INET_PRE_ROUTING: u32 = 0;
pub(crate) const NF_INET_FORWARD: u32 = 2;
pub(crate) const NF_INET_LOCAL_OUT: u32 = 3;
pub(crate) const NF_INET_POST_ROUTING: u32 = 4;
pub(crate) const NF_NETDEV_INGRESS: u32 = 0;

// linux/netfilter/nfnetlink.h
pub(crate) const NFNLGRP_NFTRACE: u32 = 9;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

// linux/netfilter/nf_tables.h
pub(crate) const NFT_MSG_NEWTABLE: u16 = 0;
pub(crate) const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
pub(crate) const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_NEWRULE: u16 = 6;
pub(crate) const NFT_MSG_GETRULE: u16 = 7;
pub(crate) const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_NEWSET: u16 = 9;
pub(crate) const NFT_MSG_DELSET: u16 = 11;
pub(crate) const NFT_MSG_NEWSETELEM: u16 = 12;
pub(crate) const NFT_MSG_GETSET: u16 = 10;
pub(crate) const NFT_MSG_GETSETELEM: u16 = 13;
pub(crate) const NFT_MSG_GETOBJ: u16 = 19;
pub(crate) const NFT_MSG_GETFLOWTABLE: u16 = 23;
const NFT_MSG_TRACE: u16 = 17;

pub(crate) const NFTA_TABLE_NAME: u16 = 1;
pub(crate) const NFTA_TABLE_FLAGS: u16 = 2;
pub(crate) const NFTA_TABLE_USERDATA: u16 = 6;
pub(crate) const NFT_TABLE_F_OWNER: u32 = 2;

pub(crate) const NFTA_CHAIN_TABLE: u16 = 1;
pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
pub(crate) const NFTA_CHAIN_HOOK: u16 = 4;
pub(crate) const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
pub(crate) const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
pub(crate) const NFTA_HOOK_DEV: u16 = 3;

pub(crate) const NFTA_RULE_TABLE: u16 = 1;
pub(crate) const NFTA_RULE_CHAIN: u16 = 2;
pub(crate) const NFTA_RULE_HANDLE: u16 = 3;
pub(crate) const NFTA_RULE_EXPRESSIONS: u16 = 4;

pub(crate) const NFTA_SET_TABLE: u16 = 1;
pub(crate) const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
pub(crate) const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
pub(crate) const NFTA_SET_TIMEOUT: u16 = 11;
pub(crate) const NFTA_SET_DESC_SIZE: u16 = 1;
pub(crate) const NFT_SET_TIMEOUT: u32 = 0x10;
pub(crate) const NFT_SET_EVAL: u32 = 0x20;
pub(crate) const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
pub(crate) const NFTA_SET_ELEM_LIST_SET: u16 = 2;
pub(crate) const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
pub(crate) const NFTA_SET_ELEM_KEY: u16 = 1;

pub(crate) const NFTA_LIST_ELEM: u16 = 1;
pub(crate) const NFTA_EXPR_NAME: u16 = 1;
pub(crate) const NFTA_EXPR_DATA: u16 = 2;
pub(crate) const NFTA_DATA_VALUE: u16 = 1;
pub(crate) const NFTA_DATA_VERDICT: u16 = 2;
pub(crate) const NFTA_VERDICT_CODE: u16 = 1;
const NFT_REG_VERDICT: u32 = 0;
pub(crate) const NFT_REG_1: u32 = 1;
const NFTA_IMMEDIATE_DREG: u16 = 1;
pub(crate) const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
pub(crate) const NFT_META_PROTOCOL: u32 = 1;
pub(crate) const NFT_META_OIF: u32 = 5;
pub(crate) const NFT_META_IIFNAME: u32 = 6;
pub(crate) const NFT_META_OIFNAME: u32 = 7;
pub(crate) const NFT_META_NFTRACE: u32 = 12;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
pub(crate) const NFTA_CMP_DATA: u16 = 3;
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
pub(crate) const NFT_CT_STATE: u32 = 0;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
pub(crate) const NFT_PAYLOAD_LL_HEADER: u32 = 0;
pub(crate) const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
pub(crate) const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_DYNSET_SET_NAME: u16 = 1;
const NFTA_DYNSET_OP: u16 = 3;
const NFTA_DYNSET_SREG_KEY: u16 = 4;
const NFT_DYNSET_OP_ADD: u32 = 0;
pub(crate) const NFTA_TARGET_NAME: u16 = 1;
pub(crate) const NFTA_COUNTER_PACKETS: u16 = 2;

pub(crate) const NFTA_TRACE_TABLE: u16 = 1;
pub(crate) const NFTA_TRACE_CHAIN: u16 = 2;
pub(crate) const NFTA_TRACE_RULE_HANDLE: u16 = 3;
pub(crate) const NFTA_TRACE_TYPE: u16 = 4;
pub(crate) const NFTA_TRACE_VERDICT: u16 = 5;
pub(crate) const NFTA_TRACE_TRANSPORT_HEADER: u16 = 9;
pub(crate) const NFTA_TRACE_POLICY: u16 = 16;
pub(crate) const NFT_TRACETYPE_POLICY: u32 = 1;

/// By which a table is known to be ours; `nft list ruleset` shows it.
const MARK: &str = "ovsns";

/// A message with its flags, as [`Netlink::burst`] takes them.
pub(crate) type Message = (Raw, u16);

/// By which a kernel says that it has not what a table takes.
pub(crate) const LACKING: [Errno; 4] =
    [Errno::ENOENT, Errno::EOPNOTSUPP, Errno::EPROTONOSUPPORT, Errno::EAFNOSUPPORT];

/// A socket to the packet filter, in the namespace of the calling thread; `None`
/// where the kernel has none, and so no table of anybody's.
pub(crate) fn open() -> Result<Option<Netlink>, KernelError> {
    match Netlink::netfilter() {
        Err(error) if error.errno == Errno::EPROTONOSUPPORT => Ok(None),
        other => other.map(Some),
    }
}

/// Whose a table is.
pub(crate) enum Owner {
    Nobody,
    Us,
    Others,
}

/// Whose the table of that name is.
pub(crate) fn owner(netlink: &Netlink, family: u8, table: &str) -> Result<Owner, KernelError> {
    let get = request(family, NFT_MSG_GETTABLE, &[text(NFTA_TABLE_NAME, table)]);
    let asked = || "look at the packet filter".to_owned();
    match netlink.raw(get, 0, asked) {
        Ok(found) => {
            let comment = found.iter().find_map(|raw| comment(body(raw)?.1));
            let ours = comment == Some(MARK);
            Ok(if ours { Owner::Us } else { Owner::Others })
        }
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP) => {
            Ok(Owner::Nobody)
        }
        Err(error) => Err(error),
    }
}

/// The comment of a table, in a message of the kernel's about it: behind its kind
/// and its length.
pub(crate) fn comment(body: &[u8]) -> Option<&str> {
    text_of(find(body, &[NFTA_TABLE_USERDATA])?.get(2..)?)
}

/// Sends all of `messages` as one transaction: all of it, or nothing.
pub(crate) fn commit(
    netlink: &Netlink,
    messages: Vec<Message>,
    asked: impl Fn(usize) -> String,
) -> Result<(), KernelError> {
    let frame = |kind: u16| {
        let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        (Raw::new(kind, &[0, 0, high, low], &[]), 0)
    };
    let mut batch = vec![frame(NFNL_MSG_BATCH_BEGIN)];
    batch.extend(messages);
    // What is refused is told in any case, and all are answered when all are done.
    let Some((_, flags)) = batch[1..].last_mut() else { return Ok(()) };
    *flags |= NLM_F_ACK;
    batch.push(frame(NFNL_MSG_BATCH_END));
    let refused = netlink.transaction(&batch, asked)?;
    refused.into_values().next().map_or(Ok(()), Err)
}

/// A message that asks; of [`NFPROTO_UNSPEC`] it asks about all families.
pub(crate) fn request(family: u8, kind: u16, attributes: &[DefaultNla]) -> Raw {
    Raw::new(NFNL_SUBSYS_NFTABLES << 8 | kind, &[family, 0, 0, 0], attributes)
}

/// A message of a transaction: a change.
pub(crate) fn message(family: u8, kind: u16, attributes: &[DefaultNla]) -> Message {
    (request(family, kind, attributes), NLM_F_CREATE)
}

/// The family that a message of the kernel's is of, and its attributes.
pub(crate) fn body(raw: &Raw) -> Option<(u8, &[u8])> {
    Some((*raw.bytes.first()?, raw.bytes.get(4..)?))
}

/// Whether a message of that type (`nlmsg_type`) is of a trace.
pub(crate) fn is_trace(kind: u16) -> bool {
    kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_TRACE
}

/// A table with our mark: a comment, as nft(8) writes one, by its kind, its
/// length and its letters.
///
/// Like `nft add table FAMILY TABLE { comment "ovsns"; }`.
pub(crate) fn new_table(family: u8, table: &str) -> Message {
    new_table_called(family, table, MARK)
}

/// The same with more in its mark; of its length 127 letters count.
pub(crate) fn new_table_called(family: u8, table: &str, mark: &str) -> Message {
    let letters: Vec<u8> = mark.bytes().take(127).chain([0]).collect();
    let length = u8::try_from(letters.len()).expect("it is short");
    let comment = attribute(NFTA_TABLE_USERDATA, &[&[0, length], letters.as_slice()].concat());
    message(family, NFT_MSG_NEWTABLE, &[text(NFTA_TABLE_NAME, table), comment])
}

/// Like `nft delete table FAMILY TABLE`.
pub(crate) fn delete_table(family: u8, table: &str) -> Message {
    message(family, NFT_MSG_DELTABLE, &[text(NFTA_TABLE_NAME, table)])
}

/// Where packets come into a chain.
pub(crate) struct Hook<'a> {
    /// What the chain is for: `filter`, `nat`, `route`.
    pub(crate) kind: &'a str,
    pub(crate) number: u32,
    /// Those with less go first.
    pub(crate) priority: i32,
    /// In the family `netdev`: the device.
    pub(crate) device: Option<&'a IfName>,
}

/// A chain that packets come into, and go on from unless a rule drops them.
///
/// Like `nft add chain FAMILY TABLE NAME { type filter hook output priority 0; }`.
pub(crate) fn new_chain(family: u8, table: &str, name: &str, hook: &Hook) -> Message {
    let priority = attribute(NFTA_HOOK_PRIORITY, &hook.priority.to_be_bytes());
    let mut at = vec![big(NFTA_HOOK_HOOKNUM, hook.number), priority];
    at.extend(hook.device.map(|device| text(NFTA_HOOK_DEV, device.as_str())));
    let chain = [
        text(NFTA_CHAIN_TABLE, table),
        text(NFTA_CHAIN_NAME, name),
        nest(NFTA_CHAIN_HOOK, &at),
        text(NFTA_CHAIN_TYPE, hook.kind),
    ];
    message(family, NFT_MSG_NEWCHAIN, &chain)
}

/// A set of values that rules look up.
pub(crate) struct Set<'a> {
    pub(crate) name: &'a str,
    pub(crate) flags: u32,
    /// The type of the values as nft(8) numbers them; 0 for bytes without a
    /// meaning.
    pub(crate) key_type: u32,
    pub(crate) key_bytes: u32,
    /// By which rules of the same transaction could name it.
    pub(crate) id: u32,
}

/// Like `nft add set FAMILY TABLE NAME { type ...; }`.
pub(crate) fn new_set(family: u8, table: &str, set: &Set, more: &[DefaultNla]) -> Message {
    let named = [text(NFTA_SET_TABLE, table), text(NFTA_SET_NAME, set.name)];
    let numbers = [
        big(NFTA_SET_FLAGS, set.flags),
        big(NFTA_SET_KEY_TYPE, set.key_type),
        big(NFTA_SET_KEY_LEN, set.key_bytes),
        big(NFTA_SET_ID, set.id),
    ];
    message(family, NFT_MSG_NEWSET, &[&named, &numbers[..], more].concat())
}

/// A rule behind those that the chain has.
///
/// Like `nft add rule FAMILY TABLE CHAIN ...`.
pub(crate) fn new_rule(
    family: u8,
    table: &str,
    chain: &str,
    expressions: &[DefaultNla],
) -> Message {
    let rule = [
        text(NFTA_RULE_TABLE, table),
        text(NFTA_RULE_CHAIN, chain),
        nest(NFTA_RULE_EXPRESSIONS, expressions),
    ];
    let (raw, flags) = message(family, NFT_MSG_NEWRULE, &rule);
    (raw, flags | NLM_F_APPEND)
}

/// One step of a rule, by its kind and what that kind wants to know.
pub(crate) fn expression(kind: &str, data: &[DefaultNla]) -> DefaultNla {
    nest(NFTA_LIST_ELEM, &[text(NFTA_EXPR_NAME, kind), nest(NFTA_EXPR_DATA, data)])
}

/// Loads what is known about a packet besides its bytes.
pub(crate) fn meta(key: u32) -> DefaultNla {
    expression("meta", &[big(NFTA_META_KEY, key), big(NFTA_META_DREG, NFT_REG_1)])
}

/// Notes what is loaded, where [`meta`] would find it.
pub(crate) fn set_meta(key: u32) -> DefaultNla {
    expression("meta", &[big(NFTA_META_KEY, key), big(NFTA_META_SREG, NFT_REG_1)])
}

/// Loads bytes of a header (`NFT_PAYLOAD_...`); the rule ends here for a packet
/// that has fewer.
pub(crate) fn payload(header: u32, offset: u32, bytes: u32) -> DefaultNla {
    let from = [big(NFTA_PAYLOAD_BASE, header), big(NFTA_PAYLOAD_OFFSET, offset)];
    let [base, offset] = from;
    let (to, length) = (big(NFTA_PAYLOAD_DREG, NFT_REG_1), big(NFTA_PAYLOAD_LEN, bytes));
    expression("payload", &[to, base, offset, length])
}

/// Loads these bytes themselves.
pub(crate) fn load(value: &[u8]) -> DefaultNla {
    let data = nest(NFTA_IMMEDIATE_DATA, &[attribute(NFTA_DATA_VALUE, value)]);
    expression("immediate", &[big(NFTA_IMMEDIATE_DREG, NFT_REG_1), data])
}

/// Ends the rule here unless this is what is loaded.
pub(crate) fn equals(value: &[u8]) -> DefaultNla {
    let value = nest(NFTA_CMP_DATA, &[attribute(NFTA_DATA_VALUE, value)]);
    expression("cmp", &[big(NFTA_CMP_SREG, NFT_REG_1), big(NFTA_CMP_OP, NFT_CMP_EQ), value])
}

/// Ends the rule here if this is what is loaded.
pub(crate) fn differs(value: &[u8]) -> DefaultNla {
    let value = nest(NFTA_CMP_DATA, &[attribute(NFTA_DATA_VALUE, value)]);
    expression("cmp", &[big(NFTA_CMP_SREG, NFT_REG_1), big(NFTA_CMP_OP, NFT_CMP_NEQ), value])
}

/// Loads what the connection is known by that a packet is of.
pub(crate) fn connection(key: u32) -> DefaultNla {
    expression("ct", &[big(NFTA_CT_DREG, NFT_REG_1), big(NFTA_CT_KEY, key)])
}

/// Leaves of the 32 bits that are loaded these alone.
pub(crate) fn mask(bits: u32) -> DefaultNla {
    let value = |kind, bits: u32| nest(kind, &[attribute(NFTA_DATA_VALUE, &bits.to_ne_bytes())]);
    let registers = [big(NFTA_BITWISE_SREG, NFT_REG_1), big(NFTA_BITWISE_DREG, NFT_REG_1)];
    let [from, to] = registers;
    let (of, xor) = (value(NFTA_BITWISE_MASK, bits), value(NFTA_BITWISE_XOR, 0));
    expression("bitwise", &[from, to, big(NFTA_BITWISE_LEN, 4), of, xor])
}

/// Ends the rule here unless what is loaded is in a set.
pub(crate) fn lookup(set: &str) -> DefaultNla {
    expression("lookup", &[text(NFTA_LOOKUP_SET, set), big(NFTA_LOOKUP_SREG, NFT_REG_1)])
}

/// Puts what is loaded into a set.
pub(crate) fn note(set: &str) -> DefaultNla {
    let (name, how) = (text(NFTA_DYNSET_SET_NAME, set), big(NFTA_DYNSET_OP, NFT_DYNSET_OP_ADD));
    expression("dynset", &[name, how, big(NFTA_DYNSET_SREG_KEY, NFT_REG_1)])
}

/// Says what becomes of the packet: [`NF_DROP`] or [`NF_ACCEPT`].
pub(crate) fn verdict(code: u32) -> DefaultNla {
    let verdict = nest(NFTA_DATA_VERDICT, &[big(NFTA_VERDICT_CODE, code)]);
    let data = nest(NFTA_IMMEDIATE_DATA, &[verdict]);
    expression("immediate", &[big(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT), data])
}

/// An attribute with a number: the packet filter's are in the network's order.
pub(crate) fn big(kind: u16, value: u32) -> DefaultNla {
    attribute(kind, &value.to_be_bytes())
}

/// A number of the packet filter's.
pub(crate) fn big_of(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// A number of 64 bits of the packet filter's.
pub(crate) fn wide_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}
