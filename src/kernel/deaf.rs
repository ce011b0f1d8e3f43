//! What a node does not hear: frames of other nodes that it is cut from, dropped
//! where they come in (nft(8), family `netdev`), before ARP, IP or a socket of
//! anybody's sees them.
//!
//! All of it is one table, made in one transaction. A plain node is not asked
//! whether it has it: while it does, its loopback has a second name that says
//! so, and names are in the list of links that is read anyway. The name comes
//! before the table and goes after it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use nix::errno::Errno;

use super::error::{self, KernelError, Tried};
use super::netlink::Netlink;
use super::nft::wire::{self, Message, NFPROTO_NETDEV, Owner, Set};
use super::nft::{self, seen};
use super::raw::{Raw, attribute, attributes, find, nest, text, text_of};
use super::worker::{Where, Worker};
use crate::model::mark::{CUT_TABLE, Mac};
use crate::model::names::IfName;
use crate::model::world::{Deaf, SeenDeaf};

/// The second name of the loopback of a node that does not hear all.
pub(super) const NAME: &str = "ovsns-cut";

/// The table's name, in the node.
const TABLE: &str = CUT_TABLE;

/// Who sends a frame, as its header says.
struct Sender {
    /// The set of those that are not heard, and its type as nft(8) numbers them.
    set: &'static str,
    kind: u32,
    /// The header, and the place and length in it.
    base: u32,
    offset: u32,
    bytes: u32,
    /// What the frame has to carry to have it (linux/if_ether.h).
    protocol: Option<u16>,
}

const SENDERS: [Sender; 3] = [
    Sender {
        set: "macs",
        kind: 9,
        base: wire::NFT_PAYLOAD_LL_HEADER,
        offset: 6,
        bytes: 6,
        protocol: None,
    },
    Sender {
        set: "v4",
        kind: 7,
        base: wire::NFT_PAYLOAD_NETWORK_HEADER,
        offset: 12,
        bytes: 4,
        protocol: Some(0x0800),
    },
    Sender {
        set: "v6",
        kind: 8,
        base: wire::NFT_PAYLOAD_NETWORK_HEADER,
        offset: 8,
        bytes: 16,
        protocol: Some(0x86dd),
    },
];

/// How many elements go in one message: its attributes are 64 KB at most.
const ELEMENTS_MAX: usize = 1000;

/// Has the node of the calling thread's namespace not hear this, and hear all
/// else.
///
/// Like `nft` with a table `netdev ovsns-cut` that has, for each device, a chain
/// `filter hook ingress device DEVICE` with `ether saddr @macs drop`, `ip saddr
/// @v4 drop` and `ip6 saddr @v6 drop`.
pub(super) fn set(deaf: Option<&Deaf>) -> Result<(), KernelError> {
    let asked = |_| "cut a node from others".to_owned();
    let (netlink, links) = (Netlink::netfilter()?, Netlink::new()?);
    let mut batch = Vec::new();
    match wire::owner(&netlink, NFPROTO_NETDEV, TABLE)? {
        Owner::Nobody => {}
        Owner::Us => batch.push(wire::delete_table(NFPROTO_NETDEV, TABLE)),
        // In its place, where there is nothing of ours, is nobody's trouble.
        Owner::Others if deaf.is_none() => {}
        Owner::Others => return Err(KernelError::new(asked(0), Errno::EEXIST)),
    }
    let loopback = IfName::new("lo").expect("a good name");
    let Some(deaf) = deaf else {
        if !batch.is_empty() {
            wire::commit(&netlink, batch, asked)?;
        }
        return match links.delete_altname(&loopback, NAME) {
            Err(error) if error.errno == Errno::EINVAL || error.errno == Errno::ENOENT => Ok(()),
            other => other,
        };
    };
    match links.add_altname(&loopback, NAME) {
        Err(error) if error.errno == Errno::EEXIST => {}
        other => other?,
    }
    batch.extend(table(deaf));
    wire::commit(&netlink, batch, asked)
}

fn table(deaf: &Deaf) -> Vec<Message> {
    let mut batch = vec![wire::new_table(NFPROTO_NETDEV, TABLE)];
    for (sender, id) in SENDERS.iter().zip(1..) {
        batch.push(new_set(sender, id));
        let elements = elements(deaf, sender);
        batch.extend(elements.chunks(ELEMENTS_MAX).map(|some| new_elements(sender, some)));
    }
    for device in &deaf.devices {
        batch.push(nft::new_chain(TABLE, device));
        for sender in &SENDERS {
            batch.push(wire::new_rule(NFPROTO_NETDEV, TABLE, device.as_str(), &rule(sender)));
        }
    }
    batch
}

fn elements(deaf: &Deaf, sender: &Sender) -> Vec<Vec<u8>> {
    let addresses = deaf.addresses.iter().map(|address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    });
    let all = deaf.macs.iter().map(|mac| mac.0.to_vec()).chain(addresses);
    all.filter(|bytes| bytes.len() == sender.bytes as usize).collect()
}

fn new_set(sender: &Sender, id: u32) -> Message {
    let Sender { set: name, kind: key_type, bytes: key_bytes, .. } = *sender;
    let set = Set { name, flags: 0, key_type, key_bytes, id };
    wire::new_set(NFPROTO_NETDEV, TABLE, &set, &[])
}

fn new_elements(sender: &Sender, some: &[Vec<u8>]) -> Message {
    let element = |bytes: &Vec<u8>| {
        let key = nest(wire::NFTA_SET_ELEM_KEY, &[attribute(wire::NFTA_DATA_VALUE, bytes)]);
        nest(wire::NFTA_LIST_ELEM, &[key])
    };
    let elements: Vec<_> = some.iter().map(element).collect();
    let [table, set] = set_of(sender);
    let elements = nest(wire::NFTA_SET_ELEM_LIST_ELEMENTS, &elements);
    wire::message(NFPROTO_NETDEV, wire::NFT_MSG_NEWSETELEM, &[table, set, elements])
}

/// Which set it is about, in a message about elements.
fn set_of(sender: &Sender) -> [DefaultNla; 2] {
    let table = text(wire::NFTA_SET_ELEM_LIST_TABLE, TABLE);
    [table, text(wire::NFTA_SET_ELEM_LIST_SET, sender.set)]
}

fn rule(sender: &Sender) -> Vec<DefaultNla> {
    let mut expressions = Vec::new();
    if let Some(protocol) = sender.protocol {
        let carried = wire::meta(wire::NFT_META_PROTOCOL);
        expressions.extend([carried, wire::equals(&protocol.to_be_bytes())]);
    }
    expressions.push(wire::payload(sender.base, sender.offset, sender.bytes));
    expressions.push(wire::lookup(sender.set));
    expressions.push(wire::verdict(wire::NF_DROP));
    expressions
}

/// What the node of the calling thread's namespace does not hear, and whether a
/// table of that name is somebody else's; `named` says whether its loopback has the
/// name that says so.
///
/// Like `nft list table netdev ovsns-cut`.
pub(super) fn look(named: bool) -> Result<(Option<SeenDeaf>, bool), KernelError> {
    let Some(netlink) = wire::open()? else { return Ok((None, false)) };
    let owner = wire::owner(&netlink, NFPROTO_NETDEV, TABLE)?;
    if !matches!(owner, Owner::Us) {
        // The name alone is what was cut off in the middle.
        let altered = SeenDeaf { altered: true, ..SeenDeaf::default() };
        return Ok((named.then_some(altered), matches!(owner, Owner::Others)));
    }
    let mut deaf = Deaf::default();
    for sender in &SENDERS {
        for key in keys(&netlink, sender)? {
            match <[u8; 6]>::try_from(key.as_slice()) {
                Ok(mac) => drop(deaf.macs.insert(Mac(mac))),
                Err(_) => deaf.addresses.extend(address(&key)),
            }
        }
    }
    let of = |kind| seen::all_of(&netlink, NFPROTO_NETDEV, TABLE, kind);
    let (chains, rules) = (of(wire::NFT_MSG_GETCHAIN)?, of(wire::NFT_MSG_GETRULE)?);
    deaf.devices = chains.iter().filter_map(chain_of).collect();
    let more = of(wire::NFT_MSG_GETOBJ)?.len() + of(wire::NFT_MSG_GETFLOWTABLE)?.len();
    let as_made = named
        && !seen::is_dormant(&netlink, NFPROTO_NETDEV, TABLE)?
        && more == 0
        && of(wire::NFT_MSG_GETSET)?.len() == SENDERS.len()
        && chains.len() == deaf.devices.len()
        && rules.len() == SENDERS.len() * deaf.devices.len()
        && deaf.devices.iter().all(|device| has_rules(&rules, device));
    Ok((Some(SeenDeaf { deaf, altered: !as_made }), false))
}

/// The device of a chain, if it is one of ours as it was made.
fn chain_of(chain: &Raw) -> Option<IfName> {
    let (_, body) = wire::body(chain)?;
    let named = |path: &[u16]| find(body, path).and_then(text_of);
    let number = |path: &[u16]| find(body, path).and_then(wire::big_of);
    let device = IfName::new(named(&[wire::NFTA_CHAIN_NAME])?).ok()?;
    // A device of that name may be another by now; without one nothing comes in.
    let comes_in = named(&[wire::NFTA_CHAIN_HOOK, wire::NFTA_HOOK_DEV]) == Some(device.as_str())
        && number(&[wire::NFTA_CHAIN_HOOK, wire::NFTA_HOOK_HOOKNUM])
            == Some(wire::NF_NETDEV_INGRESS)
        && number(&[wire::NFTA_CHAIN_POLICY]) == Some(wire::NF_ACCEPT);
    comes_in.then_some(device)
}

/// Whether the chain of a device has the rules that it was made with, in their order.
fn has_rules(rules: &[Raw], device: &IfName) -> bool {
    let bodies = rules.iter().filter_map(wire::body).map(|(_, body)| body);
    let here: Vec<_> = bodies
        .filter(|body| {
            find(body, &[wire::NFTA_RULE_CHAIN]).and_then(text_of) == Some(device.as_str())
        })
        .collect();
    here.len() == SENDERS.len()
        && SENDERS.iter().zip(here).all(|(sender, there)| {
            let (made, _) = wire::new_rule(NFPROTO_NETDEV, TABLE, device.as_str(), &rule(sender));
            seen::same_rule(made.bytes.get(4..).and_then(seen::steps), seen::steps(there))
        })
}

pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// What is in a set. A set that is gone has nothing.
fn keys(netlink: &Netlink, sender: &Sender) -> Result<Vec<Vec<u8>>, KernelError> {
    let mut found = Vec::new();
    for message in dump(netlink, wire::NFT_MSG_GETSETELEM, &set_of(sender))? {
        let body = message.bytes.get(4..).unwrap_or_default();
        let elements = find(body, &[wire::NFTA_SET_ELEM_LIST_ELEMENTS]).unwrap_or_default();
        let key = |element| find(element, &[wire::NFTA_SET_ELEM_KEY, wire::NFTA_DATA_VALUE]);
        found.extend(attributes(elements).filter_map(|(_, it)| Some(key(it)?.to_vec())));
    }
    Ok(found)
}

fn dump(netlink: &Netlink, kind: u16, about: &[DefaultNla]) -> Result<Vec<Raw>, KernelError> {
    let get = wire::request(NFPROTO_NETDEV, kind, about);
    match netlink.raw_dump(&get, "look at what a node does not hear") {
        Err(error) if error.errno == Errno::ENOENT => Ok(Vec::new()),
        other => other,
    }
}

/// Tries a cut, in a namespace that ends with the try.
pub(super) async fn can(worker: &Worker) -> Result<Tried, KernelError> {
    let loopback = IfName::new("lo").expect("a good name");
    let devices = BTreeSet::from([loopback]);
    let tried =
        worker.inside(Where::Fresh, move || set(Some(&Deaf { devices, ..Deaf::default() })));
    let what = "a packet filter at the ingress of devices (module nf_tables, \
                CONFIG_NF_TABLES_NETDEV)";
    error::tried(tried.await?, what, &wire::LACKING)
}
