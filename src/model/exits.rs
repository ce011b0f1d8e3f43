//! The ways out through the machine (`nat`), as wanted and as seen: what it is on
//! switches of the lab, its packet filter's table for them, and what else of it
//! decides whether anything gets out; and what in a file makes no sense.
//!
//! The machine is on a switch by the switch's own local device, as a host is that
//! has lent a NIC to it. Between a bridge and a veth in the same namespace each
//! packet would be tracked twice where `br_netfilter` is in the kernel, and only
//! the first time could change its address.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::gateways;
use super::names::{IfName, LabName, SwitchName};
use super::problem::Found;
use super::segments::Segments;
use super::spec::SwitchSpec;
use super::topology::{End, Lab};

/// What the machine is on the local device of a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayState {
    /// Whether the device is up.
    pub up: bool,
    /// Its addresses of ours.
    pub addresses: BTreeSet<IpNet>,
    /// Routes of ours over it: where to, and by which router.
    pub routes: BTreeSet<(IpNet, IpAddr)>,
    /// Kernel parameters of the device, such as `ipv4.forwarding`.
    pub parameters: BTreeMap<String, String>,
}

impl GatewayState {
    /// The parameters that are looked at.
    pub const PARAMETERS: [&'static str; 4] =
        ["ipv4.forwarding", "ipv6.accept_ra", "ipv6.disable_ipv6", "ipv6.forwarding"];

    /// Where the machine finds nodes by it.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> {
        let own = self.addresses.iter().map(IpNet::trunc);
        own.chain(self.routes.iter().map(|(to, _)| *to))
    }
}

/// What the packet filter's table of a lab is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doors {
    /// The local devices of switches by which the outside is reached, each with
    /// the machine's IPv4 addresses there.
    pub doors: BTreeMap<IfName, BTreeSet<Ipv4Addr>>,
    /// Linux bridges that packets may cross on their way there: what is tracked at
    /// these is not looked at again at the door.
    pub halls: BTreeSet<IfName>,
}

/// The same as it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenDoors {
    /// What is there.
    pub doors: Doors,
    /// Whether anything in the table is not as it was made.
    pub altered: bool,
}

/// The packet filter's table of a lab, in the families `inet` and `arp`.
/// (`ovsns.NAME` is that of a NIC.)
pub fn table(lab: &LabName) -> String {
    format!("{TABLES}{lab}")
}

/// Whether a table is called like that of a lab.
pub fn is_of_a_lab(table: &str) -> bool {
    table.starts_with(TABLES)
}

const TABLES: &str = "ovsns-nat.";

/// The mark of that table: its comment.
pub fn table_mark(lab: &LabName) -> String {
    format!("ovsns lab={lab}")
}

/// What else decides whether anything gets out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Whether the machine forwards IPv4, and IPv6; `None` if it has no such
    /// family.
    pub forwards: [Option<bool>; 2],
    /// The device of its default route of IPv6, if that was told by a router: it
    /// would be told no more.
    pub listens: Option<String>,
    /// The networks to which it has addresses or routes but by devices of the lab,
    /// with the device of each; not those to everywhere.
    pub routes: BTreeSet<(IpNet, String)>,
    /// Chains of others that everything goes through that is forwarded, and that
    /// drop what no rule of theirs lets through.
    pub drops: BTreeSet<Drops>,
}

/// A chain that drops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drops {
    /// `ip`, `ip6` or `inet`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Whether there is a chain `DOCKER-USER` beside it.
    pub docker: bool,
    /// The devices of ours that rules beside it name.
    pub names: BTreeSet<IfName>,
}

/// The ways out as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeenExits {
    /// What the machine is on local devices of the lab's switches, as far as that
    /// was asked for or the table is there.
    pub gateways: BTreeMap<IfName, GatewayState>,
    /// The table of ours.
    pub doors: Option<SeenDoors>,
    /// Whether somebody else has a table of its name.
    pub table_taken: bool,
    /// The rest, if it was asked for.
    pub outside: Option<Outside>,
}

/// The machine is on each segment once, in no VLAN, with an address, and where it
/// is not already by a NIC.
pub(super) fn check<'s>(
    lab: &Lab,
    switches: impl Iterator<Item = (&'s SwitchName, &'s SwitchSpec)>,
    found: &mut Found,
) {
    let segments = Segments::new(lab);
    let gateways = gateways::of(lab, &segments);
    let nodes = lab.nodes.iter().flat_map(|(node, it)| {
        it.interfaces.iter().map(move |(interface, it)| (format!("{node}:{interface}"), it))
    });
    let taken: HashMap<IpAddr, String> = nodes
        .flat_map(|(name, it)| it.addresses.iter().map(move |net| (net.addr(), name.clone())))
        .collect();
    let mut first: HashMap<&SwitchName, &SwitchName> = HashMap::new();
    for (name, spec) in switches {
        let Some(gateway) = gateways.get(name) else {
            if let Some(said) = spec.gateway.first() {
                found
                    .add(said.at, format!("`gateway` on `{name}`, which has no `nat`"))
                    .hint("write `nat: true` beside it; a node's own gateway is in its `routes`");
            }
            continue;
        };
        let Some(nat) = &spec.nat else { continue };
        let root = &segments.roots[name];
        if let Some(other) = first.insert(root, name) {
            let message = format!("`{other}` and `{name}` hang together, and both have `nat`");
            found.add(nat.at, message).hint("one way out is enough for both");
        }
        let on = |end: &End| matches!(end, End::Switch(at) if segments.roots[at] == *root);
        let tagged =
            |link: &&super::topology::Link| link.port.vlan.is_some() && link.ends.iter().any(on);
        if let Some(link) = lab.links.iter().find(tagged) {
            found
                .add(nat.at, format!("`nat` where link `{}` is in VLANs", link.id()))
                .hint("give `nat` to a node that is a router between them");
        }
        let lent = |(_, uplink): &(&IfName, &super::topology::Uplink)| {
            segments.roots.get(&uplink.switch) == Some(root)
        };
        if let Some((nic, uplink)) = lab.uplinks.iter().find(lent) {
            let message = format!("`nat` on `{name}`, and NIC `{nic}` is on `{}`", uplink.switch);
            found.add(nat.at, message).hint(
                "what is on the network of a NIC has the way out of that network; leave one of \
                 the two",
            );
        }
        for net in &gateway.full {
            found
                .add(nat.at, format!("`{net}` on `{name}` has no address left for this machine"))
                .hint("take a bigger network, or `nat: ipv4` or `ipv6` for the other family alone");
        }
        if gateway.addresses.is_empty() && gateway.full.is_empty() {
            found
                .add(nat.at, format!("`nat` on `{name}`, where nobody has an address for that"))
                .hint("link a node to it, or say `gateway`, such as `[10.0.0.1/24]`");
        }
        for said in &spec.gateway {
            if let Some(why) = no_gateway(&said.value) {
                found
                    .add(said.at, format!("`{}` is no gateway: {why}", said.value))
                    .hint("an address with the length of its network, such as `10.0.0.1/24`");
            }
            if let Some(other) = taken.get(&said.value.addr()) {
                let ip = said.value.addr();
                found
                    .add(said.at, format!("`{ip}` is the address of `{other}` already"))
                    .hint("leave `gateway` out for one that is free");
            }
            if nat.value.is_some_and(|nat| !nat.takes(&said.value)) {
                let message = format!("`{}` is of the family that `nat` leaves out", said.value);
                found.add(said.at, message).hint("write `nat: true` for both");
            }
        }
    }
}

/// Why nodes cannot go out by an address, as a clause.
fn no_gateway(net: &IpNet) -> Option<&'static str> {
    let local = match net.addr() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_loopback() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_loopback() || ip.is_multicast(),
    };
    if local || net.addr().is_unspecified() {
        return Some("nobody has it for a network");
    }
    match net.prefix_len() {
        0 => Some("all there is would be on its switch"),
        length if net.max_prefix_len() < length + 2 => Some("its network has no room for nodes"),
        _ => None,
    }
}
