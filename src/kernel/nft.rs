//! What the host hears of two devices that get the same frames, by the packet
//! filter at their ingress (nft(8), family `netdev`).
//!
//! A switch in userspace takes frames from a packet socket, which only copies
//! them: the host hears each frame once from the NIC, and a second time from
//! the switch's local device. So it is made deaf to one of the two. Both have a
//! chain in a table of ours from the beginning, and a rule in one of them:
//! turning from one to the other is one transaction, and no frame is heard
//! twice or not at all for want of a rule.

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_CREATE};
use nix::errno::Errno;

use super::error::KernelError;
use super::netlink::Netlink;
use super::raw::{Raw, attribute, find, nest, text};
use crate::model::names::IfName;

// linux/netfilter/nfnetlink.h and nf_tables.h
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const SUBSYSTEM: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_DELRULE: u16 = 8;
const NFPROTO_NETDEV: u8 = 5;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NF_DROP: u32 = 0;
const NFT_REG_VERDICT: u32 = 0;
const NF_NETDEV_INGRESS: u32 = 0;

/// By which a table is known to be ours; `nft list ruleset` shows it.
const MARK: &str = "ovsns";

/// Has the host hear nothing from `deaf` and all from `hears`, in the table of
/// `nic`, which is made if it is not there.
///
/// Like `nft` with a table `netdev ovsns.NIC` that has a chain `filter hook
/// ingress` for each device, and `drop` in one of them.
pub(super) fn listen(nic: &IfName, hears: &IfName, deaf: &IfName) -> Result<(), KernelError> {
    let asked = |_| format!("have the host hear `{hears}`, and not `{deaf}`");
    let netlink = Netlink::netfilter()?;
    let table = table(nic);
    let mut batch = Vec::new();
    match owner(&netlink, &table)? {
        Owner::Nobody => {
            // A comment, as nft(8) writes it: its kind, its length, its letters.
            let letters = [MARK.as_bytes(), &[0]].concat();
            let length = u8::try_from(letters.len()).expect("it is short");
            let comment = [&[0, length], letters.as_slice()].concat();
            let named = text(NFTA_TABLE_NAME, &table);
            batch.push(message(
                NFT_MSG_NEWTABLE,
                &[named, attribute(NFTA_TABLE_USERDATA, &comment)],
            ));
            for device in [hears, deaf] {
                batch.push(new_chain(&table, device));
            }
        }
        Owner::Us => {}
        Owner::Others => return Err(KernelError::new(asked(0), Errno::EEXIST)),
    }
    for device in [hears, deaf] {
        let chain = text(NFTA_RULE_CHAIN, device.as_str());
        batch.push(message(NFT_MSG_DELRULE, &[text(NFTA_RULE_TABLE, &table), chain]));
    }
    batch.push(new_drop(&table, deaf));
    commit(&netlink, batch, asked)
}

/// Has the host hear all again. No table is as good.
///
/// Like `nft delete table netdev ovsns.NIC`.
pub(super) fn listen_to_all(nic: &IfName) -> Result<(), KernelError> {
    let asked = |_| format!("have the host hear `{nic}`");
    let netlink = match Netlink::netfilter() {
        // A kernel without it has no table of ours either.
        Err(error) if error.errno == Errno::EPROTONOSUPPORT => return Ok(()),
        other => other?,
    };
    let table = table(nic);
    match owner(&netlink, &table)? {
        Owner::Us => {
            let gone = message(NFT_MSG_DELTABLE, &[text(NFTA_TABLE_NAME, &table)]);
            commit(&netlink, vec![gone], asked)
        }
        Owner::Nobody | Owner::Others => Ok(()),
    }
}

fn table(nic: &IfName) -> String {
    format!("ovsns.{nic}")
}

enum Owner {
    Nobody,
    Us,
    Others,
}

fn owner(netlink: &Netlink, table: &str) -> Result<Owner, KernelError> {
    let (get, _) = message(NFT_MSG_GETTABLE, &[text(NFTA_TABLE_NAME, table)]);
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
fn commit(
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

fn message(kind: u16, attributes: &[DefaultNla]) -> (Raw, u16) {
    let raw = Raw::new(SUBSYSTEM << 8 | kind, &[NFPROTO_NETDEV, 0, 0, 0], attributes);
    (raw, NLM_F_ACK | NLM_F_CREATE)
}

/// The packet filter's numbers are in the network's order.
fn big(kind: u16, value: u32) -> DefaultNla {
    attribute(kind, &value.to_be_bytes())
}

fn new_chain(table: &str, device: &IfName) -> (Raw, u16) {
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

fn new_drop(table: &str, device: &IfName) -> (Raw, u16) {
    let verdict = nest(NFTA_DATA_VERDICT, &[big(NFTA_VERDICT_CODE, NF_DROP)]);
    let immediate = nest(
        NFTA_EXPR_DATA,
        &[big(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT), nest(NFTA_IMMEDIATE_DATA, &[verdict])],
    );
    let drop = nest(NFTA_LIST_ELEM, &[text(NFTA_EXPR_NAME, "immediate"), immediate]);
    let (table, chain) = (text(NFTA_RULE_TABLE, table), text(NFTA_RULE_CHAIN, device.as_str()));
    message(NFT_MSG_NEWRULE, &[table, chain, nest(NFTA_RULE_EXPRESSIONS, &[drop])])
}
