//! The packet filter (nftables, and what `iptables-nft` enters there): which
//! chains and rules can drop, and a trace of one packet through them.

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::raw::{Raw, attribute, attributes, find, nest, text, text_of};
use crate::model::icmp::MAGIC;
use crate::model::packet::{Carried, Packet, Spot};
use crate::plan::why::facts::{ChainFacts, Dropped, RuleFacts};

// linux/netfilter/nfnetlink.h and nf_tables.h
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFNLGRP_NFTRACE: u32 = 9;
const SUBSYSTEM: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_TRACE: u16 = 17;
const NFT_TABLE_F_OWNER: u32 = 2;
const NFPROTO_INET: u8 = 1;
const NF_DROP: u32 = 0;
const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;
/// Before all that anybody else hooks in, connection tracking included.
const FIRST: i32 = -1000;
const NFT_META_NFTRACE: u32 = 12;

/// The table of ours, while a packet is traced.
const TABLE: &str = "ovsns-why";

/// The chains of the namespace of the calling thread that can drop, and for
/// each of its rules what it counted.
///
/// Like `nft -a list ruleset`.
pub(super) fn chains() -> Result<Vec<ChainFacts>, KernelError> {
    let netlink = match Netlink::netfilter() {
        // A kernel without it filters nothing.
        Err(error) if error.errno == Errno::EPROTONOSUPPORT => return Ok(Vec::new()),
        other => other?,
    };
    let all = |kind| Raw::new(SUBSYSTEM << 8 | kind, &[0; 4], &[]);
    let mut found = Vec::new();
    for raw in dump(&netlink, &all(NFT_MSG_GETCHAIN))? {
        let (Some(family), Some(rest)) = (raw.bytes.first(), raw.bytes.get(4..)) else { continue };
        let named = |kind| find(rest, &[kind]).and_then(text_of).map(str::to_owned);
        let (Some(table), Some(name)) = (named(1), named(3)) else { continue };
        let hook = find(rest, &[4, 1]).and_then(big);
        found.push(ChainFacts {
            family: family_name(*family),
            table,
            name,
            hook: hook.map_or("", |hook| hook_name(*family, hook)),
            device: find(rest, &[4, 3]).and_then(text_of).map(str::to_owned),
            drops: hook.is_some() && find(rest, &[5]).and_then(big) == Some(NF_DROP),
            rules: Vec::new(),
        });
    }
    if found.is_empty() {
        return Ok(found);
    }
    for raw in dump(&netlink, &all(NFT_MSG_GETRULE))? {
        let (Some(family), Some(rest)) = (raw.bytes.first(), raw.bytes.get(4..)) else { continue };
        let named = |kind| find(rest, &[kind]).and_then(text_of);
        let chain = found.iter_mut().find(|chain| {
            chain.family == family_name(*family)
                && named(1) == Some(&chain.table)
                && named(2) == Some(&chain.name)
        });
        let (Some(chain), Some(expressions)) = (chain, find(rest, &[4])) else { continue };
        let handle = find(rest, &[3]).and_then(big_wide).unwrap_or_default();
        chain.rules.extend(dropping(expressions, handle));
    }
    found.retain(|chain| chain.drops || !chain.rules.is_empty());
    Ok(found)
}

/// A rule that drops, if it does.
fn dropping(expressions: &[u8], handle: u64) -> Option<RuleFacts> {
    let mut rule = RuleFacts { handle, packets: None, all: true };
    let mut drops = false;
    for (_, expression) in attributes(expressions) {
        let data = find(expression, &[2]).unwrap_or_default();
        match find(expression, &[1]).and_then(text_of).unwrap_or_default() {
            "immediate" => drops |= find(data, &[2, 2, 1]).and_then(big) == Some(NF_DROP),
            "reject" => drops = true,
            "target" => {
                let target = find(data, &[1]).and_then(text_of);
                drops |= matches!(target, Some("DROP" | "REJECT"));
            }
            "counter" => rule.packets = find(data, &[2]).and_then(big_wide),
            _ => rule.all = false,
        }
    }
    drops.then_some(rule)
}

fn dump(netlink: &Netlink, message: &Raw) -> Result<Vec<Raw>, KernelError> {
    match netlink.raw_dump(message, "list the packet filter's rules") {
        Err(error) if matches!(error.errno, Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Vec::new()),
        other => other,
    }
}

/// A packet that is being traced through the packet filter of one namespace.
/// The kernel takes the table away when this goes.
pub(super) struct Trace {
    spot: Spot,
    heard: Socket,
    _owner: Netlink,
}

impl Trace {
    /// Begins, in the namespace of the calling thread.
    ///
    /// Like `nft` with a table `inet ovsns-why`, owned, that has chains at
    /// prerouting and output, and in them `meta nftrace set 1` for the packet,
    /// and `nft monitor trace`.
    pub(super) fn begin(spot: &Spot, packet: &Packet) -> Result<Self, KernelError> {
        let asked = || "trace a packet through the packet filter".to_owned();
        let fail = |error: std::io::Error| KernelError::from_io(asked(), &error);
        let mut heard = Socket::new(NETLINK_NETFILTER).map_err(fail)?;
        heard.bind(&SocketAddr::new(0, 0)).map_err(fail)?;
        heard.add_membership(NFNLGRP_NFTRACE).map_err(fail)?;
        heard.set_non_blocking(true).map_err(fail)?;
        let owner = Netlink::netfilter()?;
        let frame = |kind: u16| {
            let [high, low] = SUBSYSTEM.to_be_bytes();
            (Raw::new(kind, &[0, 0, high, low], &[]), 0)
        };
        let mut batch = vec![frame(NFNL_MSG_BATCH_BEGIN)];
        batch.push(message(
            NFT_MSG_NEWTABLE,
            &[text(1, TABLE), attribute(2, &NFT_TABLE_F_OWNER.to_be_bytes())],
        ));
        for (name, hook) in [("in", HOOK_PREROUTING), ("out", HOOK_OUTPUT)] {
            let at = [attribute(1, &hook.to_be_bytes()), attribute(2, &FIRST.to_be_bytes())];
            let chain = [text(1, TABLE), text(3, name), nest(4, &at), text(7, "filter")];
            batch.push(message(NFT_MSG_NEWCHAIN, &chain));
            for expressions in matches(packet) {
                let rule = [text(1, TABLE), text(2, name), nest(4, &expressions)];
                let (raw, flags) = message(NFT_MSG_NEWRULE, &rule);
                batch.push((raw, flags | NLM_F_APPEND));
            }
        }
        batch.push(frame(NFNL_MSG_BATCH_END));
        let refused = owner.burst(&batch, |_| asked())?;
        match refused.into_values().next() {
            Some(error) => Err(error),
            None => Ok(Self { spot: spot.clone(), heard, _owner: owner }),
        }
    }

    /// What was dropped since.
    pub(super) fn dropped(&self, packet: &Packet) -> Vec<Dropped> {
        let mut found = Vec::new();
        while let Ok((bytes, _)) = self.heard.recv_from_full() {
            let mut rest = bytes.as_slice();
            // `struct nlmsghdr`: length, type; then `struct nfgenmsg`.
            while let (Some(length), Some(kind)) = (word(rest, 0), word(rest, 4)) {
                let length = length as usize;
                let Some(message) = rest.get(16..length) else { break };
                if kind & 0xffff == u32::from(SUBSYSTEM << 8 | NFT_MSG_TRACE) {
                    found.extend(self.read(message, packet));
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        found
    }

    fn read(&self, message: &[u8], packet: &Packet) -> Option<Dropped> {
        const POLICY: u32 = 1;
        let family = family_name(*message.first()?);
        let rest = message.get(4..)?;
        let kind = find(rest, &[4]).and_then(big)?;
        let verdict = find(rest, &[5, 1]).and_then(big);
        let policy = find(rest, &[16]).and_then(big);
        let drops = if kind == POLICY { policy == Some(NF_DROP) } else { verdict == Some(NF_DROP) };
        if !drops {
            return None;
        }
        let handle = find(rest, &[3]).and_then(big_wide).filter(|_| kind != POLICY);
        let named = |kind| find(rest, &[kind]).and_then(text_of).map(str::to_owned);
        // The kernel shows headers once for each packet, at its first rule.
        let transport = find(rest, &[9]);
        let is_request = transport.and_then(|bytes| packet.is_request(bytes));
        Some(Dropped {
            spot: self.spot.clone(),
            family,
            table: named(1)?,
            chain: named(2)?,
            handle,
            text: None,
            is_request: is_request.unwrap_or(true),
        })
    }
}

/// What the packet and its answer are known by, as rules that have them traced.
fn matches(packet: &Packet) -> Vec<Vec<DefaultNla>> {
    let of = |offset: u32, wanted: &[u8]| {
        let length = u32::try_from(wanted.len()).expect("some bytes");
        let load = [
            attribute(1, &1u32.to_be_bytes()),
            // From the header of the transport on.
            attribute(2, &2u32.to_be_bytes()),
            attribute(3, &offset.to_be_bytes()),
            attribute(4, &length.to_be_bytes()),
        ];
        let equal = [
            attribute(1, &1u32.to_be_bytes()),
            attribute(2, &0u32.to_be_bytes()),
            nest(3, &[attribute(1, wanted)]),
        ];
        let one = [attribute(1, &1u32.to_be_bytes()), nest(2, &[attribute(1, &[1, 0, 0, 0])])];
        let trace =
            [attribute(2, &NFT_META_NFTRACE.to_be_bytes()), attribute(3, &1u32.to_be_bytes())];
        vec![
            expression("payload", &load),
            expression("cmp", &equal),
            expression("immediate", &one),
            expression("meta", &trace),
        ]
    };
    match packet.carried {
        Carried::Echo { .. } => vec![of(8, MAGIC)],
        Carried::Tcp { from, to } | Carried::Udp { from, to } => {
            let ports = |a: u16, b: u16| [a.to_be_bytes(), b.to_be_bytes()].concat();
            vec![of(0, &ports(from, to)), of(0, &ports(to, from))]
        }
    }
}

fn expression(name: &str, data: &[DefaultNla]) -> DefaultNla {
    nest(1, &[text(1, name), nest(2, data)])
}

fn message(kind: u16, attributes: &[DefaultNla]) -> (Raw, u16) {
    let raw = Raw::new(SUBSYSTEM << 8 | kind, &[NFPROTO_INET, 0, 0, 0], attributes);
    (raw, NLM_F_ACK | NLM_F_CREATE)
}

fn family_name(family: u8) -> &'static str {
    match family {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "",
    }
}

fn hook_name(family: u8, hook: u32) -> &'static str {
    match (family, hook) {
        (5, 0) => "ingress",
        (5, 1) => "egress",
        (3, 0) => "input",
        (3, 1) => "output",
        (_, 0) => "prerouting",
        (_, 1) => "input",
        (_, 2) => "forward",
        (_, 3) => "output",
        (_, 4) => "postrouting",
        _ => "ingress",
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    crate::kernel::raw::number_at(bytes, at)
}

fn big(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn big_wide(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}
