//! Marks: how a thing in the kernel says that it is ours.
//!
//! A mark is on the thing itself, so that it is known with every state file
//! lost. There are two:
//!
//! - The **birth mark** is part of the request that makes a link, because a
//!   process can be killed between two requests: the lab's link group
//!   together with a MAC address that follows from the device's name.
//! - The **full mark** is the link's alias (`ip link show` prints it), and for
//!   a node the alias of its loopback, set before the namespace gets its name
//!   under `/run/netns`. It says which lab and which thing.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::names::{IfName, InterfaceName, LabName, NodeName, SwitchName};
use super::topology::Sealed;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Why a text is no address that an interface can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMac {
    /// Not six pairs of hexadecimal digits.
    #[error("`{0}` is no MAC address; write it like `02:00:00:00:00:01`")]
    Shape(String),
    /// The group bit is set, or all is zero: the kernel takes neither.
    #[error("`{0}` is no address of one interface (it is a group's, or zero)")]
    NotOne(String),
}

impl std::str::FromStr for Mac {
    type Err = BadMac;
    fn from_str(text: &str) -> Result<Self, BadMac> {
        let shape = || BadMac::Shape(text.chars().take(64).collect());
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or_else(shape)?;
            if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(shape());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| shape())?;
        }
        if pairs.next().is_some() {
            return Err(shape());
        }
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(BadMac::NotOne(text.to_owned()));
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = BadMac;
    fn try_from(text: String) -> Result<Self, BadMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

/// What a link or namespace is to its lab.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Thing {
    /// A node: on the loopback of its namespace.
    Node(NodeName),
    /// A switch: on the bridge.
    Switch(SwitchName),
    /// The node's end of a link; for a cable also the interface across, since
    /// nothing else in the kernel names it for somebody who looks from here.
    Interface(NodeName, InterfaceName, Option<(NodeName, InterfaceName)>),
    /// The switch's end of a link, by its name (see `topology::Link::port`).
    Port(String),
}

/// The table of the packet filter in a node that is cut from others
/// (`ovsns cut`).
pub const CUT_TABLE: &str = "ovsns-cut";

/// The full mark of one thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The lab that owns the thing.
    pub lab: LabName,
    /// What it is to that lab.
    pub thing: Thing,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ovsns lab={} ", self.lab)?;
        match &self.thing {
            Thing::Node(node) => write!(f, "node={node}"),
            Thing::Switch(switch) => write!(f, "switch={switch}"),
            Thing::Interface(node, interface, None) => write!(f, "interface={node}:{interface}"),
            Thing::Interface(node, interface, Some((far, at))) => {
                write!(f, "interface={node}:{interface} across={far}:{at}")
            }
            Thing::Port(port) => write!(f, "port={port}"),
        }
    }
}

impl Mark {
    /// Reads an alias; `None` if it is not a mark of ours to the letter.
    pub fn parse(alias: &str) -> Option<Self> {
        let (lab, thing) = alias.strip_prefix("ovsns lab=")?.split_once(' ')?;
        let lab = LabName::new(lab).ok()?;
        let thing = match thing.split_once('=')? {
            ("node", node) => {
                let (node, _) = split_seal(node);
                Thing::Node(NodeName::new(node).ok()?)
            }
            ("switch", switch) => Thing::Switch(SwitchName::new(switch).ok()?),
            ("interface", interface) => {
                let (here, across) = match interface.split_once(" across=") {
                    None => (interface, None),
                    Some((here, across)) => (here, Some(parse_interface(across)?)),
                };
                let (node, interface) = parse_interface(here)?;
                Thing::Interface(node, interface, across)
            }
            ("port", port) if is_port(port) => Thing::Port(port.to_owned()),
            _ => return None,
        };
        Some(Self { lab, thing })
    }

    /// The alias of the loopback of a node, which says also how it is sealed.
    pub fn of_node(&self, sealed: Option<Sealed>) -> String {
        match sealed {
            None => self.to_string(),
            Some(Sealed { raw: false }) => format!("{self}{SEALED}"),
            Some(Sealed { raw: true }) => format!("{self}{SEALED_RAW}"),
        }
    }

    /// How the node is sealed whose loopback has this alias.
    pub fn sealed(alias: &str) -> Option<Sealed> {
        Self::parse(alias).and_then(|_| split_seal(alias).1)
    }

    /// The thing's full name, which becomes an altname where the kernel's own
    /// name is a short one: `LAB:SWITCH`, `LAB:NODE:INTERFACE`, `LAB:PORT`.
    pub fn full_name(&self) -> String {
        match &self.thing {
            Thing::Node(node) => format!("{}:{node}", self.lab),
            Thing::Switch(switch) => format!("{}:{switch}", self.lab),
            Thing::Interface(node, interface, _) => format!("{}:{node}:{interface}", self.lab),
            Thing::Port(port) => format!("{}:{port}", self.lab),
        }
    }

    /// The device that carries this mark in the machine's own namespace: a
    /// few letters that a person recognises, a dot, and forty bits of hash.
    /// It depends on nothing but lab and thing, so it is the same at every run.
    pub fn device(&self) -> IfName {
        let hint = match &self.thing {
            Thing::Node(node) => node.as_str(),
            Thing::Switch(switch) => switch.as_str(),
            Thing::Interface(node, ..) => node.as_str(),
            Thing::Port(port) => port,
        };
        let hint: String = hint.chars().filter(|c| fits_a_device(*c)).take(6).collect();
        let hash = digest(&["device", self.kind(), &self.full_name()]);
        let short = format!("{hint}.{}", base32(&hash[..5]));
        IfName::new(&short).expect("six checked letters, a dot and eight of base 32 are 15")
    }

    /// The MAC address of the interface that carries this mark: locally
    /// administered, and the same whenever the thing is made again, so that
    /// its neighbours need not notice.
    pub fn mac(&self) -> Mac {
        derived_mac(&["mac", self.kind(), &self.full_name()])
    }

    /// The identity of the link that the thing is an end of, if it is one
    /// (see `topology::Link::id`).
    pub fn link(&self) -> Option<String> {
        match &self.thing {
            Thing::Node(_) | Thing::Switch(_) => None,
            Thing::Interface(node, interface, None) => Some(format!("{node}:{interface}")),
            Thing::Interface(node, interface, Some((far, at))) => {
                let (here, across) = (format!("{node}:{interface}"), format!("{far}:{at}"));
                let (a, b) =
                    if (node, interface) < (far, at) { (here, across) } else { (across, here) };
                Some(format!("{a}~{b}"))
            }
            // A tunnel's port, at the end of no link.
            Thing::Port(port) if port.contains('@') => None,
            Thing::Port(port) => {
                let Some((here, across)) = port.split_once('~') else { return Some(port.clone()) };
                let (across, parallel) = across.split_once('#')?;
                let (a, b) = if here < across { (here, across) } else { (across, here) };
                Some(format!("{a}~{b}#{parallel}"))
            }
        }
    }

    /// Which of the links between the same two switches the thing is an end of, if it
    /// is one of theirs: 0, 1, 2... (see `topology::Link::parallel`).
    pub fn number(&self) -> Option<u32> {
        let Thing::Port(port) = &self.thing else { return None };
        let (_, number) = port.split_once('~')?.1.split_once('#')?;
        number.split('.').next()?.parse().ok()
    }

    /// The first word of the thing, so that a node and a switch of one name
    /// in two labs never share a hash.
    fn kind(&self) -> &'static str {
        match &self.thing {
            Thing::Node(_) => "node",
            Thing::Switch(_) => "switch",
            Thing::Interface(..) => "interface",
            Thing::Port(_) => "port",
        }
    }
}

const SEALED: &str = " sealed";
const SEALED_RAW: &str = " sealed raw";

impl Mac {
    /// The address that an interface makes for itself of this one (RFC 4291,
    /// appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
    }
}

/// The name of a node, or a mark that ends with it, and how it is sealed.
fn split_seal(text: &str) -> (&str, Option<Sealed>) {
    if let Some(node) = text.strip_suffix(SEALED_RAW) {
        return (node, Some(Sealed { raw: true }));
    }
    match text.strip_suffix(SEALED) {
        Some(node) => (node, Some(Sealed { raw: false })),
        None => (text, None),
    }
}

/// Whether a text is what a port is called in its mark: `n1:eth0`, a trunk's
/// `s1~s2#1` or a cable of it `s1~s2#1.2`, a tunnel's `s1@vx0`.
fn is_port(text: &str) -> bool {
    let is_switch = |name| SwitchName::new(name).is_ok();
    if let Some((switch, tunnel)) = text.split_once('@') {
        return is_switch(switch) && IfName::new(tunnel).is_ok();
    }
    let Some((here, across)) = text.split_once('~') else { return parse_interface(text).is_some() };
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    across.split_once('#').is_some_and(|(across, parallel)| {
        let (parallel, cable) = parallel.split_once('.').unwrap_or((parallel, "0"));
        is_switch(here) && is_switch(across) && is_number(parallel) && is_number(cable)
    })
}

fn parse_interface(text: &str) -> Option<(NodeName, InterfaceName)> {
    let (node, interface) = text.split_once(':')?;
    Some((NodeName::new(node).ok()?, InterfaceName::new(interface).ok()?))
}

/// The namespace of a node, as `ip netns` shows it. A lab's name has no dot,
/// so the first one separates.
pub fn netns(lab: &LabName, node: &NodeName) -> String {
    format!("{lab}.{node}")
}

/// The device that an interface of a node is, inside its namespace: its own
/// name where the kernel can hold it, else a short one.
pub fn device_inside(lab: &LabName, node: &NodeName, interface: &InterfaceName) -> IfName {
    let thing = Thing::Interface(node.clone(), interface.clone(), None);
    IfName::new(interface.as_str()).unwrap_or_else(|_| Mark { lab: lab.clone(), thing }.device())
}

fn fits_a_device(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// The MAC address with which a device of ours is born in the machine's own
/// namespace. Together with [`group`] it is the birth mark.
pub fn birth_mac(device: &IfName) -> Mac {
    derived_mac(&["birth", device.as_str()])
}

/// Set in the number of every link group of ours. Not the highest bit: `ip`
/// would show the number as negative.
pub const GROUP_BIT: u32 = 0x4000_0000;

/// The link group (`IFLA_GROUP`) of a lab's links, set as they are made, by
/// which they are deleted all at once. Never 0, where every other link is;
/// [`GROUP_BIT`] is set, so that it is far from numbers that people choose.
pub fn group(lab: &LabName) -> u32 {
    let hash = digest(&["group", lab.as_str()]);
    (u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) >> 2) | GROUP_BIT
}

/// The cookie of a flow of ours (`ovs-ofctl(8)`): two letters by which it is
/// known, and 48 bits of hash of what it says.
pub fn flow_cookie(text: &str) -> u64 {
    let hash = digest(&["flow", text]);
    let [a, b, c, d, e, f, ..] = hash;
    u64::from_be_bytes([FLOW_COOKIE[0], FLOW_COOKIE[1], a, b, c, d, e, f])
}

/// Whether a flow with this cookie is ours.
pub fn is_flow_cookie(cookie: u64) -> bool {
    cookie.to_be_bytes()[..2] == FLOW_COOKIE
}

const FLOW_COOKIE: [u8; 2] = *b"ov";

fn derived_mac(words: &[&str]) -> Mac {
    let hash = digest(words);
    // IEEE 802: bit 1 of the first byte says locally administered, bit 0 clear
    // says one station's.
    Mac([(hash[0] & 0xfc) | 0x02, hash[1], hash[2], hash[3], hash[4], hash[5]])
}

fn digest(words: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for word in words {
        hasher.update(word.as_bytes());
        // No word holds a zero byte, so `a|bc` and `ab|c` stay apart.
        hasher.update([0]);
    }
    hasher.finalize().into()
}

/// Five bits a letter, lower case, without the letters that look alike.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bits = bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let letters = bytes.len() * 8 / 5;
    (0..letters).rev().map(|i| LETTERS[(bits >> (i * 5) & 31) as usize] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(thing: Thing) -> Mark {
        Mark { lab: LabName::new("two-nodes").expect("a good name"), thing }
    }

    #[test]
    fn marks_survive_the_kernel() {
        let n1 = NodeName::new("n1").expect("a good name");
        let eth0 = InterfaceName::new("eth0").expect("a good name");
        for thing in [
            Thing::Node(n1.clone()),
            Thing::Switch(SwitchName::new("b.1.1").expect("a good name")),
            Thing::Interface(n1.clone(), eth0.clone(), None),
            Thing::Interface(n1.clone(), eth0.clone(), Some((n1, eth0))),
            Thing::Port("n1:eth0".into()),
            Thing::Port("s1~s2#1".into()),
            Thing::Port("s1~s2#1.2".into()),
            Thing::Port("s1@vx0".into()),
        ] {
            let mark = mark(thing);
            assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        }
    }

    #[test]
    fn a_seal_is_in_the_mark() {
        let node = mark(Thing::Node(NodeName::new("n1").expect("a good name")));
        for sealed in [None, Some(Sealed { raw: false }), Some(Sealed { raw: true })] {
            let alias = node.of_node(sealed);
            assert_eq!(Mark::parse(&alias), Some(node.clone()), "{alias}");
            assert_eq!(Mark::sealed(&alias), sealed, "{alias}");
        }
        assert_eq!(Mark::sealed("somebody's sealed"), None);
    }

    #[test]
    fn both_ends_of_a_link_know_it() {
        check(&["interface=n1:eth0", "port=n1:eth0"], "n1:eth0");
        check(&["interface=b:x across=a:y", "interface=a:y across=b:x"], "a:y~b:x");
        check(&["interface=n.2:x across=n:y", "interface=n:y across=n.2:x"], "n:y~n.2:x");
        check(&["port=s2~s1#3", "port=s1~s2#3"], "s1~s2#3");

        #[track_caller]
        fn check(ends: &[&str], link: &str) {
            for end in ends {
                let mark = Mark::parse(&format!("ovsns lab=l {end}")).expect("a mark");
                assert_eq!(mark.link().as_deref(), Some(link), "{end}");
            }
        }
    }

    #[test]
    fn other_peoples_aliases_are_no_marks() {
        for alias in [
            "",
            "ovsns",
            "ovsns lab=x",
            "ovsns lab=a/b node=x",
            "uplink to ovsns lab=x node=y",
            "ovsns lab=x port=",
            "ovsns lab=x port=n1:eth0 (copy)",
            "ovsns lab=x port=n1",
            "ovsns lab=x port=s1~s2",
            "ovsns lab=x port=s1@vx0 of mine",
        ] {
            assert_eq!(Mark::parse(alias), None, "{alias:?}");
        }
    }

    #[test]
    fn device_names_are_short_readable_and_stable() {
        let bridge = mark(Thing::Switch(SwitchName::new("b.1.1").expect("a good name")));
        assert_eq!(bridge.device().as_str(), "b.1.1.64rgczie");
        let long = mark(Thing::Port(format!("{}:eth0", "n".repeat(63))));
        assert_eq!(long.device().as_str().len(), 15);
    }

    #[test]
    fn what_interfaces_make_of_mac_addresses() {
        let mac: Mac = "12:d7:ec:6b:44:27".parse().expect("a good one");
        assert_eq!(mac.link_local().to_string(), "fe80::10d7:ecff:fe6b:4427");
    }

    #[test]
    fn mac_addresses_as_people_write_them() {
        check("02:00:00:00:00:01", true);
        check("02:00:00:00:00:0G", false);
        check("02:00:00:00:00", false);
        check("02:00:00:00:00:01:02", false);
        check("2:0:0:0:0:1", false);
        check("+2:00:00:00:00:01", false);
        check("ff:ff:ff:ff:ff:ff", false);
        check("00:00:00:00:00:00", false);

        #[track_caller]
        fn check(text: &str, accepted: bool) {
            assert_eq!(text.parse::<Mac>().is_ok(), accepted, "{text:?}");
        }
    }
}
