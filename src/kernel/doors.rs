//! The packet filter's tables of a lab with ways out through the machine (nft(8),
//! families `inet` and `arp`): what goes out does so under the machine's address,
//! nothing comes in but what answers, and who asks for the machine hears of it at
//! the door alone.
//!
//! All of it is made in one transaction, and made anew where anything in it is not
//! as it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use netlink_packet_core::DefaultNla;
use nix::errno::Errno;

use super::error::{self, KernelError, Tried};
use super::netlink::Netlink;
use super::nft::seen::{all_of, covers, dump, is_dormant, same_rule, steps};
use super::nft::wire::{self, Hook, Message, NFPROTO_ARP, NFPROTO_INET};
use super::raw::{Raw, attributes, find, text, text_of};
use super::worker::{Where, Worker};
use crate::model::exits::{Doors, SeenDoors, table, table_mark};
use crate::model::names::{IfName, LabName};

// linux/netfilter_ipv4.h
const NF_IP_PRI_RAW: i32 = -300;
const NF_IP_PRI_FILTER: i32 = 0;
const NF_IP_PRI_NAT_SRC: i32 = 100;
/// `ct state established,related`, as bits.
const ESTABLISHED_RELATED: u32 = 6;
// linux/netfilter_arp.h
const NF_ARP_IN: u32 = 0;
/// Where a request of ARP has the address that it asks for (RFC 826).
const ARP_TARGET: u32 = 24;

/// A chain of ours with its rules.
struct Chain {
    family: u8,
    name: &'static str,
    kind: &'static str,
    hook: u32,
    priority: i32,
    rules: Vec<Vec<DefaultNla>>,
}

/// The families in which there is a table.
const FAMILIES: [u8; 2] = [NFPROTO_INET, NFPROTO_ARP];

/// All of the tables.
///
/// The machine answers by each of its devices for the addresses of all: by other
/// bridges of a segment, and by ports of a switch in userspace, which it hears, too.
/// Who believed that would send what goes out where it is not awaited.
///
/// What crosses a Linux bridge is tracked there too where `br_netfilter` is in the
/// kernel, and what is tracked already is not looked at again at the door.
fn chains(doors: &Doors) -> [Chain; 4] {
    let by = |device: &IfName| [wire::meta(wire::NFT_META_IIFNAME), wire::equals(&padded(device))];
    let to = |device: &IfName| [wire::meta(wire::NFT_META_OIFNAME), wire::equals(&padded(device))];
    let not_to =
        |device: &IfName| [wire::meta(wire::NFT_META_OIFNAME), wire::differs(&padded(device))];
    let untracked =
        |device: &IfName| [&by(device)[..], &[wire::expression("notrack", &[])]].concat();
    let forwarded = |device: &IfName| {
        let answers = [
            wire::connection(wire::NFT_CT_STATE),
            wire::mask(ESTABLISHED_RELATED),
            wire::differs(&[0; 4]),
            wire::verdict(wire::NF_ACCEPT),
        ];
        [
            [&by(device)[..], &to(device), &[wire::verdict(wire::NF_ACCEPT)]].concat(),
            [&to(device)[..], &answers].concat(),
            [&to(device)[..], &[wire::verdict(wire::NF_DROP)]].concat(),
        ]
    };
    let masked = |device: &IfName| {
        [&by(device)[..], &not_to(device), &[wire::expression("masq", &[])]].concat()
    };
    let elsewhere = |(device, address): (&IfName, &Ipv4Addr)| {
        let from = [wire::meta(wire::NFT_META_IIFNAME), wire::differs(&padded(device))];
        let asked = [
            wire::payload(wire::NFT_PAYLOAD_NETWORK_HEADER, ARP_TARGET, 4),
            wire::equals(&address.octets()),
            wire::verdict(wire::NF_DROP),
        ];
        [&from[..], &asked].concat()
    };
    let addresses = doors.doors.iter();
    let addresses = addresses.flat_map(|(door, all)| all.iter().map(move |one| (door, one)));
    [
        Chain {
            family: NFPROTO_ARP,
            name: "input",
            kind: "filter",
            hook: NF_ARP_IN,
            priority: NF_IP_PRI_FILTER,
            rules: addresses.map(elsewhere).collect(),
        },
        Chain {
            family: NFPROTO_INET,
            name: "prerouting",
            kind: "filter",
            hook: wire::NF_INET_PRE_ROUTING,
            priority: NF_IP_PRI_RAW,
            rules: doors.halls.iter().map(untracked).collect(),
        },
        Chain {
            family: NFPROTO_INET,
            name: "forward",
            kind: "filter",
            hook: wire::NF_INET_FORWARD,
            priority: NF_IP_PRI_FILTER,
            rules: doors.doors.keys().flat_map(forwarded).collect(),
        },
        Chain {
            family: NFPROTO_INET,
            name: "postrouting",
            kind: "nat",
            hook: wire::NF_INET_POST_ROUTING,
            priority: NF_IP_PRI_NAT_SRC,
            rules: doors.doors.keys().map(masked).collect(),
        },
    ]
}

/// A device's name as the packet filter compares it.
fn padded(device: &IfName) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..device.as_str().len()].copy_from_slice(device.as_str().as_bytes());
    bytes
}

impl Chain {
    fn message(&self, table: &str) -> Message {
        let hook =
            Hook { kind: self.kind, number: self.hook, priority: self.priority, device: None };
        wire::new_chain(self.family, table, self.name, &hook)
    }

    fn rules(&self, table: &str) -> impl Iterator<Item = Message> {
        self.rules.iter().map(|rule| wire::new_rule(self.family, table, self.name, rule))
    }
}

/// Whether the table of a lab is ours: `None` if there is none.
fn is_ours(netlink: &Netlink, family: u8, lab: &LabName) -> Result<Option<bool>, KernelError> {
    let name = table(lab);
    let asked = [text(wire::NFTA_TABLE_NAME, &name)];
    let get = wire::request(family, wire::NFT_MSG_GETTABLE, &asked);
    match netlink.raw(get, 0, || "look at the packet filter".to_owned()) {
        Ok(found) => {
            let mut bodies = found.iter().filter_map(wire::body);
            Ok(Some(bodies.any(|(_, body)| wire::comment(body) == Some(&table_mark(lab)))))
        }
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::EINVAL | Errno::EOPNOTSUPP) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Has the table of a lab be for this and nothing else, in the namespace of the
/// calling thread.
///
/// Like `nft` with a table `arp ovsns-nat.LAB` that has, for each address, `iifname
/// != DOOR arp daddr ip ADDRESS drop` at `input`, and a table `inet
/// ovsns-nat.LAB` that has, for each door,
/// `iifname DOOR oifname DOOR accept`, `oifname DOOR ct state
/// established,related accept` and `oifname DOOR drop` at `forward`, and `iifname
/// DOOR oifname != DOOR masquerade` at `postrouting`; and for each hall `iifname
/// HALL notrack` at `prerouting`.
pub(super) fn set(lab: &LabName, doors: Option<&Doors>) -> Result<(), KernelError> {
    let asked = |_| "have the packet filter let a lab out".to_owned();
    let netlink = match (wire::open()?, doors) {
        (Some(netlink), _) => netlink,
        (None, None) => return Ok(()),
        (None, Some(_)) => return Err(KernelError::new(asked(0), Errno::EPROTONOSUPPORT)),
    };
    let name = table(lab);
    let mut batch = Vec::new();
    for family in FAMILIES {
        match is_ours(&netlink, family, lab)? {
            None => {}
            Some(true) => batch.push(wire::delete_table(family, &name)),
            Some(false) => return Err(KernelError::new(asked(0), Errno::EEXIST)),
        }
    }
    if let Some(doors) = doors {
        let tables = FAMILIES.map(|it| wire::new_table_called(it, &name, &table_mark(lab)));
        batch.extend(tables);
        for chain in chains(doors) {
            batch.push(chain.message(&name));
            batch.extend(chain.rules(&name));
        }
    }
    if batch.is_empty() {
        return Ok(());
    }
    wire::commit(&netlink, batch, asked)
}

/// The tables of a lab in the namespace of the calling thread, and whether one of
/// that name is somebody else's.
///
/// Like `nft list table inet ovsns-nat.LAB; nft list table arp ovsns-nat.LAB`.
pub(super) fn look(lab: &LabName) -> Result<(Option<SeenDoors>, bool), KernelError> {
    let Some(netlink) = wire::open()? else { return Ok((None, false)) };
    let name = table(lab);
    let (mut chains, mut rules, mut there, mut more) = (Vec::new(), Vec::new(), 0, false);
    for family in FAMILIES {
        match is_ours(&netlink, family, lab)? {
            None => continue,
            Some(false) => return Ok((None, true)),
            Some(true) => there += 1,
        }
        chains.extend(all_of(&netlink, family, &name, wire::NFT_MSG_GETCHAIN)?);
        rules.extend(all_of(&netlink, family, &name, wire::NFT_MSG_GETRULE)?);
        more |= is_dormant(&netlink, family, &name)?;
        // We have none of these there: sets and maps, counters, flow tables.
        for kind in [wire::NFT_MSG_GETSET, wire::NFT_MSG_GETOBJ, wire::NFT_MSG_GETFLOWTABLE] {
            more |= !all_of(&netlink, family, &name, kind)?.is_empty();
        }
    }
    if there == 0 {
        return Ok((None, false));
    }
    let seen = Seen { chains, rules };
    let doors = seen.doors();
    let altered = there != FAMILIES.len() || more || !seen.is_as_made(&name, &doors);
    Ok((Some(SeenDoors { doors, altered }), false))
}

/// What is in the tables.
struct Seen {
    chains: Vec<Raw>,
    rules: Vec<Raw>,
}

impl Seen {
    fn rules(&self, family: u8, chain: &str) -> Vec<&[u8]> {
        let bodies = self.rules.iter().filter_map(wire::body);
        let here = bodies.filter(|(of, body)| {
            let name = find(body, &[wire::NFTA_RULE_CHAIN]).and_then(text_of);
            *of == family && name == Some(chain)
        });
        here.map(|(_, body)| body).collect()
    }

    /// What the tables are for, as their rules say.
    fn doors(&self) -> Doors {
        let masked = self.rules(NFPROTO_INET, "postrouting").into_iter().filter_map(device_of);
        let mut doors: BTreeMap<_, _> = masked.map(|door| (door, BTreeSet::new())).collect();
        for rule in self.rules(NFPROTO_ARP, "input") {
            let address = compared(rule).nth(1).and_then(|it| <[u8; 4]>::try_from(it).ok());
            if let (Some(device), Some(address)) = (device_of(rule), address) {
                let of: &mut BTreeSet<Ipv4Addr> = doors.entry(device).or_default();
                of.insert(address.into());
            }
        }
        let halls = self.rules(NFPROTO_INET, "prerouting");
        Doors { doors, halls: halls.into_iter().filter_map(device_of).collect() }
    }

    /// Whether all is as it was made for that, and nothing more.
    fn is_as_made(&self, table: &str, doors: &Doors) -> bool {
        let made = chains(doors);
        let chain_is_there = |chain: &Chain| {
            let as_made = chain.message(table).0;
            let mut bodies = self.chains.iter().filter_map(wire::body);
            bodies.any(|(family, body)| {
                let policy = find(body, &[wire::NFTA_CHAIN_POLICY]).and_then(wire::big_of);
                let same = covers(as_made.bytes.get(4..), Some(body));
                family == chain.family && policy == Some(wire::NF_ACCEPT) && same
            })
        };
        let rules_are_there = |chain: &Chain| {
            let seen = self.rules(chain.family, chain.name);
            let mut pairs = chain.rules(table).zip(&seen);
            let same = pairs.all(|((made, _), seen)| {
                same_rule(made.bytes.get(4..).and_then(steps), steps(seen))
            });
            seen.len() == chain.rules.len() && same
        };
        let count = made.iter().map(|chain| chain.rules.len()).sum::<usize>();
        self.chains.len() == made.len()
            && self.rules.len() == count
            && made.iter().all(|chain| chain_is_there(chain) && rules_are_there(chain))
    }
}

/// Reads any rule (see `crate::fuzzing`).
pub(super) fn fuzz(rule: &[u8]) {
    let _ = (device_of(rule), compared(rule).count());
    let steps = steps(rule);
    let _ = (covers(steps, Some(rule)), same_rule(steps, steps));
}

/// The device whose name a rule of ours compares first.
fn device_of(rule: &[u8]) -> Option<IfName> {
    IfName::new(text_of(compared(rule).next()?)?).ok()
}

/// What a rule compares with, one after the other.
fn compared(rule: &[u8]) -> impl Iterator<Item = &[u8]> {
    let path = [wire::NFTA_EXPR_DATA, wire::NFTA_CMP_DATA, wire::NFTA_DATA_VALUE];
    let steps = attributes(steps(rule).unwrap_or_default());
    steps.filter_map(move |(_, step)| find(step, &path))
}

/// Every lab that has a table here, in the namespace of the calling thread.
pub(super) fn labs() -> Result<Vec<LabName>, KernelError> {
    let Some(netlink) = wire::open()? else { return Ok(Vec::new()) };
    let get = |family| wire::request(family, wire::NFT_MSG_GETTABLE, &[]);
    let [mut found, more] =
        [dump(&netlink, &get(FAMILIES[0]))?, dump(&netlink, &get(FAMILIES[1]))?];
    found.extend(more);
    let lab = |raw| {
        let (_, body) = wire::body(raw)?;
        let lab = LabName::new(wire::comment(body)?.strip_prefix("ovsns lab=")?).ok()?;
        let name = find(body, &[wire::NFTA_TABLE_NAME]).and_then(text_of)?;
        (name == table(&lab)).then_some(lab)
    };
    Ok(found.iter().filter_map(lab).collect())
}

/// Tries such a table, in a namespace that ends with the try.
pub(super) async fn can(worker: &Worker) -> Result<Tried, KernelError> {
    let lab = LabName::default_lab();
    let device = IfName::new("lo").expect("a good name");
    let address = [Ipv4Addr::LOCALHOST].into();
    let doors = Doors { doors: [(device.clone(), address)].into(), halls: [device].into() };
    let what = "a packet filter with masquerading and connection tracking (modules nf_tables, \
                nft_chain_nat, nft_masq, nft_ct)";
    let tried = worker.inside(Where::Fresh, move || set(&lab, Some(&doors))).await?;
    error::tried(tried, what, &wire::LACKING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(names: &str) -> Doors {
        let name = |name| IfName::new(name).expect("a good name");
        let door = |text| (name(text), [Ipv4Addr::LOCALHOST].into());
        let halls = [name("hall")].into();
        Doors { doors: names.split(' ').map(door).collect(), halls }
    }

    #[test]
    fn a_rule_that_says_something_else_is_another() {
        let of = |names: &str| -> Vec<Raw> {
            let chains = chains(&doors(names));
            chains.iter().flat_map(|chain| chain.rules("t").map(|(raw, _)| raw)).collect()
        };
        let expressions =
            |raw: &Raw| find(&raw.bytes[4..], &[wire::NFTA_RULE_EXPRESSIONS]).map(<[u8]>::to_vec);
        let (a, b) = (of("a"), of("b"));
        for (here, rule) in a.iter().enumerate() {
            for (there, other) in a.iter().enumerate() {
                let same = same_rule(expressions(rule).as_deref(), expressions(other).as_deref());
                assert_eq!(same, here == there, "{here} {there}");
            }
            let other = expressions(&b[here]);
            let names_hall = here == 1;
            assert!(
                names_hall || !same_rule(expressions(rule).as_deref(), other.as_deref()),
                "{here}"
            );
        }
    }
}
