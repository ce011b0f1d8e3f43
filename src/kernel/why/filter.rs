//! The packet filter (nftables, and what `iptables-nft` enters there): which
//! chains and rules can drop, and a trace of one packet through them.

use netlink_packet_core::DefaultNla;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::wire::{self, Hook, NF_DROP, NFPROTO_INET, big, big_of, wide_of};
use crate::kernel::raw::{Raw, attributes, find, number_at, text, text_of};
use crate::model::icmp::MAGIC;
use crate::model::packet::{Carried, Packet, Spot};
use crate::plan::why::facts::{ChainFacts, Dropped, RuleFacts};

/// Before all that anybody else hooks in, connection tracking included.
const FIRST: i32 = -1000;

/// The table of ours, while a packet is traced.
const TABLE: &str = "ovsns-why";

/// The chains of the namespace of the calling thread that can drop, and for
/// each of its rules what it counted.
///
/// Like `nft -a list ruleset`.
pub(super) fn chains() -> Result<Vec<ChainFacts>, KernelError> {
    let Some(netlink) = wire::open()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for raw in dump(&netlink, wire::NFT_MSG_GETCHAIN)? {
        let Some((family, rest)) = wire::body(&raw) else { continue };
        let words = |path: &[u16]| find(rest, path).and_then(text_of).map(str::to_owned);
        let number = |path: &[u16]| find(rest, path).and_then(big_of);
        let named = (words(&[wire::NFTA_CHAIN_TABLE]), words(&[wire::NFTA_CHAIN_NAME]));
        let (Some(table), Some(name)) = named else { continue };
        let hook = number(&[wire::NFTA_CHAIN_HOOK, wire::NFTA_HOOK_HOOKNUM]);
        found.push(ChainFacts {
            family: family_name(family),
            table,
            name,
            hook: hook.map_or("", |hook| hook_name(family, hook)),
            device: words(&[wire::NFTA_CHAIN_HOOK, wire::NFTA_HOOK_DEV]),
            drops: hook.is_some() && number(&[wire::NFTA_CHAIN_POLICY]) == Some(NF_DROP),
            rules: Vec::new(),
        });
    }
    if found.is_empty() {
        return Ok(found);
    }
    for raw in dump(&netlink, wire::NFT_MSG_GETRULE)? {
        let Some((family, rest)) = wire::body(&raw) else { continue };
        let named = |kind| find(rest, &[kind]).and_then(text_of);
        let chain = found.iter_mut().find(|chain| {
            chain.family == family_name(family)
                && named(wire::NFTA_RULE_TABLE) == Some(&chain.table)
                && named(wire::NFTA_RULE_CHAIN) == Some(&chain.name)
        });
        let expressions = find(rest, &[wire::NFTA_RULE_EXPRESSIONS]);
        let (Some(chain), Some(expressions)) = (chain, expressions) else { continue };
        let handle = find(rest, &[wire::NFTA_RULE_HANDLE]).and_then(wide_of).unwrap_or_default();
        chain.rules.extend(dropping(expressions, handle));
    }
    found.retain(|chain| chain.drops || !chain.rules.is_empty());
    Ok(found)
}

/// A rule that drops, if it does.
pub(super) fn dropping(expressions: &[u8], handle: u64) -> Option<RuleFacts> {
    const VERDICT: [u16; 3] =
        [wire::NFTA_IMMEDIATE_DATA, wire::NFTA_DATA_VERDICT, wire::NFTA_VERDICT_CODE];
    let mut rule = RuleFacts { handle, packets: None, all: true };
    let mut drops = false;
    for (_, expression) in attributes(expressions) {
        let data = find(expression, &[wire::NFTA_EXPR_DATA]).unwrap_or_default();
        match find(expression, &[wire::NFTA_EXPR_NAME]).and_then(text_of).unwrap_or_default() {
            "immediate" => drops |= find(data, &VERDICT).and_then(big_of) == Some(NF_DROP),
            "reject" => drops = true,
            "target" => {
                let target = find(data, &[wire::NFTA_TARGET_NAME]).and_then(text_of);
                drops |= matches!(target, Some("DROP" | "REJECT"));
            }
            "counter" => {
                rule.packets = find(data, &[wire::NFTA_COUNTER_PACKETS]).and_then(wide_of);
            }
            _ => rule.all = false,
        }
    }
    drops.then_some(rule)
}

/// All chains, or rules, of all families.
fn dump(netlink: &Netlink, kind: u16) -> Result<Vec<Raw>, KernelError> {
    let all = wire::request(wire::NFPROTO_UNSPEC, kind, &[]);
    match netlink.raw_dump(&all, "list the packet filter's rules") {
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
        heard.add_membership(wire::NFNLGRP_NFTRACE).map_err(fail)?;
        heard.set_non_blocking(true).map_err(fail)?;
        let owner = Netlink::netfilter()?;
        let table = [
            text(wire::NFTA_TABLE_NAME, TABLE),
            big(wire::NFTA_TABLE_FLAGS, wire::NFT_TABLE_F_OWNER),
        ];
        let mut batch = vec![wire::message(NFPROTO_INET, wire::NFT_MSG_NEWTABLE, &table)];
        for (name, number) in [("in", wire::NF_INET_PRE_ROUTING), ("out", wire::NF_INET_LOCAL_OUT)]
        {
            let hook = Hook { kind: "filter", number, priority: FIRST, device: None };
            batch.push(wire::new_chain(NFPROTO_INET, TABLE, name, &hook));
            let rules = matches(packet);
            batch.extend(rules.iter().map(|it| wire::new_rule(NFPROTO_INET, TABLE, name, it)));
        }
        wire::commit(&owner, batch, |_| asked())?;
        Ok(Self { spot: spot.clone(), heard, _owner: owner })
    }

    /// What was dropped since.
    pub(super) fn dropped(&self, packet: &Packet) -> Vec<Dropped> {
        let mut found = Vec::new();
        while let Ok((bytes, _)) = self.heard.recv_from_full() {
            let mut rest = bytes.as_slice();
            // `struct nlmsghdr`: length, type; then `struct nfgenmsg`.
            while let (Some(length), Some(kind)) = (number_at(rest, 0), number_at(rest, 4)) {
                let length = length as usize;
                let Some(message) = rest.get(16..length) else { break };
                let kind = kind & 0xffff;
                if u16::try_from(kind).is_ok_and(wire::is_trace) {
                    found.extend(self.read(message, packet));
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        found
    }

    fn read(&self, message: &[u8], packet: &Packet) -> Option<Dropped> {
        let family = family_name(*message.first()?);
        let rest = message.get(4..)?;
        let number = |path: &[u16]| find(rest, path).and_then(big_of);
        let by_policy = number(&[wire::NFTA_TRACE_TYPE])? == wire::NFT_TRACETYPE_POLICY;
        let verdict = if by_policy {
            number(&[wire::NFTA_TRACE_POLICY])
        } else {
            number(&[wire::NFTA_TRACE_VERDICT, wire::NFTA_VERDICT_CODE])
        };
        if verdict != Some(NF_DROP) {
            return None;
        }
        let rule = find(rest, &[wire::NFTA_TRACE_RULE_HANDLE]).and_then(wide_of);
        let named = |kind| find(rest, &[kind]).and_then(text_of).map(str::to_owned);
        // The kernel shows headers once for each packet, at its first rule.
        let transport = find(rest, &[wire::NFTA_TRACE_TRANSPORT_HEADER]);
        let is_request = transport.and_then(|bytes| packet.is_request(bytes));
        Some(Dropped {
            spot: self.spot.clone(),
            family,
            table: named(wire::NFTA_TRACE_TABLE)?,
            chain: named(wire::NFTA_TRACE_CHAIN)?,
            handle: rule.filter(|_| !by_policy),
            text: None,
            is_request: is_request.unwrap_or(true),
        })
    }
}

/// What the packet and its answer are known by, as rules that have them traced.
fn matches(packet: &Packet) -> Vec<Vec<DefaultNla>> {
    let of = |offset: u32, wanted: &[u8]| {
        let length = u32::try_from(wanted.len()).expect("some bytes");
        vec![
            wire::payload(wire::NFT_PAYLOAD_TRANSPORT_HEADER, offset, length),
            wire::equals(wanted),
            wire::load(&[1, 0, 0, 0]),
            wire::set_meta(wire::NFT_META_NFTRACE),
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

fn family_name(family: u8) -> &'static str {
    match family {
        NFPROTO_INET => "inet",
        wire::NFPROTO_IPV4 => "ip",
        wire::NFPROTO_ARP => "arp",
        wire::NFPROTO_NETDEV => "netdev",
        wire::NFPROTO_BRIDGE => "bridge",
        wire::NFPROTO_IPV6 => "ip6",
        _ => "",
    }
}

fn hook_name(family: u8, hook: u32) -> &'static str {
    match (family, hook) {
        (wire::NFPROTO_NETDEV, 0) => "ingress",
        (wire::NFPROTO_NETDEV, 1) => "egress",
        (wire::NFPROTO_ARP, 0) => "input",
        (wire::NFPROTO_ARP, 1) => "output",
        (_, 0) => "prerouting",
        (_, 1) => "input",
        (_, 2) => "forward",
        (_, 3) => "output",
        (_, 4) => "postrouting",
        _ => "ingress",
    }
}
