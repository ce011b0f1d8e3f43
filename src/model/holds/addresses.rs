//! Addresses, with a length or without, and where routes lead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde_json::Value as Json;

use super::{Written, Wrong, a, text_schema};
use crate::model::mark::Mac;
use crate::model::nearest::nearest;
use crate::model::problem::quoted;
use crate::model::topology::Dynamic;

/// The address of a host.
pub(in crate::model) struct HostAddress(pub(in crate::model) IpAddr);

impl Written for HostAddress {
    const WORDS: &'static str = "the address of a host";
    fn schema() -> Json {
        text_schema("^[0-9A-Fa-f.:]+$", &["192.0.2.1", "2001:db8::1"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let ip: IpAddr = text.parse().map_err(|_| {
            Wrong::new(format!("{} is not the address of a host", quoted(text)))
                .hint("write it like `192.0.2.1` or `2001:db8::1`")
        })?;
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
            return Err(Wrong::new(format!("{} is no other host's address", quoted(text))));
        }
        Ok(Self(ip))
    }
}

impl Written for Mac {
    const WORDS: &'static str = "a MAC address";
    fn schema() -> Json {
        text_schema("^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$", &["02:00:00:00:00:01"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        Self::from_str(text).map_err(|bad| Wrong::new(bad.to_string()))
    }
}

/// A network in a notation that both families share.
const CIDR: &str = "^[0-9A-Fa-f.:]+/[0-9]{1,3}$";

/// An address of a host, with the length of its network's prefix.
pub(in crate::model) struct Address(pub(in crate::model) IpNet);

impl Written for Address {
    const WORDS: &'static str = "an address";
    fn schema() -> Json {
        text_schema(CIDR, &["10.0.0.1/24", "fd00::1/64"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let shown = quoted(text);
        let net = with_length(text, "address", 24, 64)?;
        let ip = net.addr();
        if ip.is_unspecified() {
            return Err(Wrong::new(format!("{shown} means no address at all")));
        }
        if ip.is_multicast() {
            return Err(Wrong::new(format!("{shown} is a multicast address, no host's"))
                .hint("nodes join groups themselves; give the node an address of its own"));
        }
        if ip.is_loopback() {
            return Err(Wrong::new(format!("{shown} is a loopback address"))
                .hint("every node has its loopback anyway; give the interface another address"));
        }
        if matches!(ip, IpAddr::V4(ip) if ip.is_broadcast()) {
            return Err(Wrong::new(format!("{shown} is the broadcast address, no host's")));
        }
        if has_no_hosts(&net) {
            let v = if ip.is_ipv4() { 24 } else { 64 };
            return Err(Wrong::new(format!("{shown} is in a network of almost everything"))
                .hint(format!("say how long the prefix of its own network is: `{ip}/{v}`")));
        }
        // A network of two or of one has no address to spare (RFC 3021, RFC 6164).
        let roomy = net.prefix_len() + 2 <= net.max_prefix_len();
        if roomy && ip == net.network() {
            let mut first = net.hosts();
            let example = match first.find(|host| *host != ip) {
                Some(host) => format!("`{host}/{}`", net.prefix_len()),
                None => "one".to_owned(),
            };
            return Err(Wrong::new(format!("{shown} is a network, not an address of a host"))
                .hint(format!("write the node's own address, such as {example}")));
        }
        if roomy && matches!(ip, IpAddr::V4(_)) && ip == net.broadcast() {
            let message = format!("{shown} is the broadcast address of `{}`", net.trunc());
            return Err(Wrong::new(message));
        }
        Ok(Self(net))
    }
}

/// An address, or a word for who gives one.
pub(in crate::model) enum AddressOrWord {
    Address(Address),
    Word(Dynamic),
}

impl Written for AddressOrWord {
    const WORDS: &'static str = "an address, `dhcp` or `slaac`";
    fn schema() -> Json {
        let words = Dynamic::ALL.map(|word| format!("^{word}$")).join("|");
        text_schema(&format!("{CIDR}|{words}"), &["10.0.0.1/24", "fd00::1/64", "dhcp", "slaac"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(word) = Dynamic::ALL.into_iter().find(|word| word.to_string() == text) {
            return Ok(Self::Word(word));
        }
        if text.starts_with(|c: char| c.is_ascii_alphabetic()) && !text.contains([':', '.', '/']) {
            let words = Dynamic::ALL.map(|word| word.to_string());
            let near = nearest(text, words.iter().map(String::as_str));
            let meant = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let message = format!("{} is neither `dhcp` nor `slaac` nor an address", quoted(text));
            return Err(Wrong::new(message + &meant)
                .hint("write an address like `10.0.0.1/24` or `fd00::1/64`"));
        }
        Address::parse(text).map(Self::Address)
    }
}

/// Reads an address with its `/length`.
fn with_length(text: &str, what: &str, v4: u8, v6: u8) -> Result<IpNet, Wrong> {
    let shown = quoted(text);
    if let Ok(ip) = text.parse::<IpAddr>() {
        let length = if ip.is_ipv4() { v4 } else { v6 };
        return Err(Wrong::new(format!("{shown} has no prefix length"))
            .hint(format!("write `{ip}/{length}`")));
    }
    if let Some((ip, length)) = text.split_once('/')
        && let Ok(ip) = ip.parse::<IpAddr>()
        && text.parse::<IpNet>().is_err()
    {
        let max = if ip.is_ipv4() { 32 } else { 128 };
        let message = format!("{} is no prefix length; it goes from 0 to {max}", quoted(length));
        return Err(Wrong::new(message));
    }
    text.parse().map_err(|_| {
        Wrong::new(format!("{shown} is not {}", a(what)))
            .hint(format!("write it like `10.0.0.1/{v4}` or `fd00::1/{v6}`"))
    })
}

/// Whether a network is so big that addresses in it are everybody's own, or nobody's:
/// a neighbour would get `::1`, or `0.0.0.1`.
fn has_no_hosts(net: &IpNet) -> bool {
    let ends: [IpAddr; 2] = match net {
        IpNet::V4(_) => [Ipv4Addr::new(0, 0, 0, 1).into(), Ipv4Addr::LOCALHOST.into()],
        IpNet::V6(_) => [Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    net.prefix_len() < 4 || ends.iter().any(|end| net.contains(end))
}

/// A network out of which addresses are given.
pub(in crate::model) struct Prefix(pub(in crate::model) IpNet);

impl Written for Prefix {
    const WORDS: &'static str = "a network";
    fn schema() -> Json {
        text_schema(CIDR, &["10.0.0.0/8", "fd00:6f76::/48"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let net = with_length(text, "network", 24, 64)?;
        let shown = quoted(text);
        if net.addr() != net.network() {
            return Err(Wrong::new(format!("{shown} has bits beyond its length"))
                .hint(format!("write the network: `{}`", net.trunc())));
        }
        if net.max_prefix_len() < net.prefix_len() + 2 {
            return Err(Wrong::new(format!("{shown} has no room for two hosts")));
        }
        if net.addr().is_multicast() || has_no_hosts(&net) {
            return Err(Wrong::new(format!("{shown} has addresses that are no host's"))
                .hint("take a private network, such as `10.0.0.0/8` or `fd00:6f76::/48`"));
        }
        Ok(Self(net))
    }
}

/// The next router of a route.
pub(in crate::model) struct Gateway(pub(in crate::model) IpAddr);

impl Written for Gateway {
    const WORDS: &'static str = "the address of a router";
    fn schema() -> Json {
        text_schema("^[0-9A-Fa-f.:]+$", &["10.0.0.254", "fd00::fe"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        let ip: IpAddr = text.parse().map_err(|_| {
            let wrong = Wrong::new(format!("{} is not the address of a router", quoted(text)));
            match text.split_once('/') {
                Some((ip, _)) => wrong.hint(format!("write it without its length: {}", quoted(ip))),
                None => wrong.hint("write it like `10.0.0.254` or `fd00::fe`"),
            }
        })?;
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
            return Err(Wrong::new(format!("{} is no address of a router", quoted(text))));
        }
        Ok(Self(ip))
    }
}

/// Where a route goes.
pub(in crate::model) enum Destination {
    /// Everywhere else, in the family of its router.
    Default,
    /// To a network, or to one address.
    Net(IpNet),
}

impl Written for Destination {
    const WORDS: &'static str = "`default` or a network";
    fn schema() -> Json {
        let pattern = format!("^default$|{CIDR}");
        text_schema(&pattern, &["default", "10.1.0.0/16", "fd00:1::/64"])
    }
    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let net = with_length(text, "network", 32, 128)?;
        if net.addr() != net.network() {
            return Err(Wrong::new(format!("{} has bits beyond its length", quoted(text)))
                .hint(format!("write the network: `{}`", net.trunc())));
        }
        Ok(Self::Net(net))
    }
}
