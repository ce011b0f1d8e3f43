//! Addresses for interfaces that name none, the same at every run.
//!
//! A *place* is what shares one network: a segment of nodes joined by
//! switches, or a cable between two nodes. In the order of the links each
//! place takes a network, and each of its interfaces the next host number.
//! What a link's interfaces get depends on the links before it, never on
//! those after it, so that a node added at the end renumbers nobody. The one
//! exception: an address written in the file is given to nobody else,
//! wherever it stands.
//!
//! A network comes from, in this order: the `prefixes` of a switch of the
//! segment; an address that an earlier interface of the same place has from
//! the file; the lab's `prefixes`, segments from their beginning and cables
//! from their upper half.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::holds::listed;
use super::problem::{Found, Position};

/// The prefixes of a lab that names none. The IPv6 one is a unique local one
/// (RFC 4193).
pub(super) fn default_prefixes() -> [IpNet; 2] {
    let v4 = Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), 8).expect("8 is at most 32");
    let v6 = Ipv6Addr::new(0xfd00, 0x6f76, 0, 0, 0, 0, 0, 0);
    [v4.into(), Ipv6Net::new(v6, 48).expect("48 is at most 128").into()]
}

/// What shares one network.
pub(super) struct Place {
    /// What a message calls it.
    pub(super) name: String,
    /// The link that made it.
    pub(super) at: Position,
    pub(super) cable: bool,
    /// Instead of the lab's.
    pub(super) prefixes: Vec<IpNet>,
}

/// An interface on its place.
pub(super) struct Host {
    pub(super) name: String,
    /// Its place, by number.
    pub(super) place: usize,
    /// The addresses that the file gives it; `None` asks for some.
    pub(super) explicit: Option<Vec<IpNet>>,
    /// Whether the MTU lets IPv6 work.
    pub(super) ipv6_fits: bool,
}

/// Returns the addresses given to each of `hosts`, which are in the order of
/// their links.
pub(super) fn give(
    prefixes: &[IpNet],
    places: &[Place],
    hosts: &[Host],
    found: &mut Found,
) -> Vec<Vec<IpNet>> {
    let mut given = vec![Vec::new(); hosts.len()];
    for family in [Family::V4, Family::V6] {
        let of_family = |nets: &[IpNet]| -> Vec<IpNet> {
            nets.iter().copied().filter(|net| Family::of(net) == family).collect()
        };
        let lab = of_family(prefixes);
        let local = places.iter().map(|place| of_family(&place.prefixes)).collect();
        Giving { family, places, hosts, lab, local, found }.run(&mut given);
    }
    given
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

/// A network as a span of numbers.
#[derive(Debug, Clone, Copy)]
struct Net {
    first: u128,
    last: u128,
    length: u8,
}

impl Net {
    fn of(net: &IpNet) -> Self {
        let family = Family::of(net);
        Self::new(family, number(net.network()), net.prefix_len())
    }

    fn new(family: Family, first: u128, length: u8) -> Self {
        let host_bits = u32::from(family.bits() - length);
        let last = first | 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1);
        Self { first, last, length }
    }
}

/// One family's round.
struct Giving<'g> {
    family: Family,
    places: &'g [Place],
    hosts: &'g [Host],
    /// The lab's prefixes of this family.
    lab: Vec<IpNet>,
    /// Each place's own prefixes of this family.
    local: Vec<Vec<IpNet>>,
    found: &'g mut Found,
}

impl<'g> Giving<'g> {
    fn run(mut self, given: &mut [Vec<IpNet>]) {
        let networks = self.networks();
        let mut taken: HashSet<u128> = self.explicit().map(|(_, net)| number(net.addr())).collect();
        let mut next: Vec<u128> =
            networks.iter().map(|net| net.map_or(0, |net| net.first + 1)).collect();
        let mut full = HashSet::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let Some(net) = networks[host.place].filter(|_| self.asks(host)) else { continue };
            let next = &mut next[host.place];
            while !taken.insert(*next) {
                *next += 1;
            }
            // The last number is the broadcast address of IPv4.
            if *next < net.last {
                given[index].push(self.net(*next, net.length));
            } else if full.insert(host.place) {
                let Place { name, at, .. } = &self.places[host.place];
                let network = self.net(net.first, net.length);
                let message =
                    format!("`{network}` of {name} has no address left for `{}`", host.name);
                self.found
                    .add(*at, message)
                    .hint("give `prefixes` a bigger network, or some nodes their `addresses`");
            }
        }
    }

    /// Whether a host is to be given an address.
    fn asks(&self, host: &Host) -> bool {
        host.explicit.is_none() && (self.family == Family::V4 || host.ipv6_fits)
    }

    /// The file's addresses of this family, each with its host's number.
    fn explicit(&self) -> impl Iterator<Item = (usize, &'g IpNet)> + use<'g> {
        let (hosts, family) = (self.hosts, self.family);
        hosts
            .iter()
            .enumerate()
            .flat_map(|(index, host)| host.explicit.iter().flatten().map(move |net| (index, net)))
            .filter(move |(_, net)| Family::of(net) == family)
    }

    /// The network of each place that needs one.
    fn networks(&mut self) -> Vec<Option<Net>> {
        let mut asking: Vec<(usize, usize)> = Vec::new();
        let mut first_asking = vec![usize::MAX; self.places.len()];
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| self.asks(host)) {
            if first_asking[host.place] == usize::MAX {
                first_asking[host.place] = index;
                asking.push((index, host.place));
            }
        }
        let mut networks = self.neighbours(&first_asking);
        let mut pools =
            Pools { family: self.family, given: BTreeMap::new(), cursors: BTreeMap::new() };
        let mut without = Vec::new();
        // What somebody chose for a switch goes first, so that it is not
        // given away as a part of the lab's.
        for &(_, place) in asking.iter().filter(|(_, place)| !self.local[*place].is_empty()) {
            networks[place] = pools.take(&self.local[place], Share::Own, &BTreeSet::new());
            if networks[place].is_none() {
                without.push(place);
            }
        }
        let explicit: Vec<_> = self.explicit().collect();
        let mut explicit = explicit.into_iter().peekable();
        let mut avoid = BTreeSet::new();
        for (first, place) in asking {
            while let Some((_, net)) = explicit.next_if(|(index, _)| *index < first) {
                avoid.insert(number(net.addr()));
            }
            let settled = networks[place].is_some() || !self.local[place].is_empty();
            if settled || self.lab.is_empty() {
                continue;
            }
            let share = if self.places[place].cable { Share::Cable } else { Share::Segment };
            networks[place] = pools.take(&self.lab, share, &avoid);
            if networks[place].is_none() {
                without.push(place);
            }
        }
        self.tell_exhausted(&without);
        networks
    }

    /// Networks that places have already, by an address from the file on an
    /// interface before the first that asks, or at the same cable.
    fn neighbours(&self, first_asking: &[usize]) -> Vec<Option<Net>> {
        let mut networks = vec![None; self.places.len()];
        for (index, net) in self.explicit() {
            let place = self.hosts[index].place;
            let wanted = !self.lab.is_empty() && self.local[place].is_empty();
            let before = index < first_asking[place] || self.places[place].cable;
            let roomy = net.prefix_len() + 2 <= net.max_prefix_len();
            if wanted && before && roomy && !is_link_local(net.addr()) {
                networks[place].get_or_insert_with(|| Net::of(net));
            }
        }
        networks
    }

    fn tell_exhausted(&mut self, without: &[usize]) {
        let Some(first) = without.first() else { return };
        let Place { name, at, .. } = &self.places[*first];
        let family = if self.family == Family::V4 { "IPv4" } else { "IPv6" };
        let others = match without.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let nets = if self.local[*first].is_empty() { &self.lab } else { &self.local[*first] };
        let nets: Vec<_> = nets.iter().map(|net| format!("`{net}`")).collect();
        let nets = listed(&nets, "and");
        self.found
            .add(*at, format!("no {family} network is left in {nets} for {name}{others}"))
            .hint(
                "give `prefixes` one more network or a bigger one, or the nodes their `addresses`",
            );
    }

    fn net(&self, ip: u128, length: u8) -> IpNet {
        let ip = match self.family {
            Family::V4 => IpAddr::V4(u32::try_from(ip).expect("it is inside 32 bits").into()),
            Family::V6 => IpAddr::V6(ip.into()),
        };
        IpNet::new(ip, length).expect("the length is one of this family's")
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Which part of a prefix a network is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    /// A segment's, of the prefixes of its own switch.
    Own,
    /// A segment's, of the lab's.
    Segment,
    /// A cable's, of the lab's.
    Cable,
}

/// What is given of the prefixes. No two networks given overlap.
struct Pools {
    family: Family,
    /// First and last number of each network given.
    given: BTreeMap<u128, u128>,
    /// Where to look on, by the first number of the part and its share;
    /// `None` at the end of all numbers.
    cursors: BTreeMap<(u128, Share), Option<u128>>,
}

impl Pools {
    /// Takes the next network in which none of `avoid` lies.
    fn take(&mut self, pools: &[IpNet], share: Share, avoid: &BTreeSet<u128>) -> Option<Net> {
        pools.iter().find_map(|pool| self.take_of(Net::of(pool), share, avoid))
    }

    fn take_of(&mut self, pool: Net, share: Share, avoid: &BTreeSet<u128>) -> Option<Net> {
        let (part, length) = self.part(pool, share);
        let cursor = self.cursors.entry((part.first, share)).or_insert(Some(part.first));
        while let Some(first) = cursor.filter(|first| *first <= part.last) {
            let net = Net::new(self.family, first, length);
            let before = self.given.range(..=net.last).next_back();
            let overlap = before.map(|(_, last)| *last).filter(|last| net.first <= *last);
            if let Some(last) = overlap {
                // Past the end of what is there, at the next multiple.
                *cursor = (last | (net.last - net.first)).checked_add(1);
                continue;
            }
            *cursor = net.last.checked_add(1);
            if avoid.range(net.first..=net.last).next().is_none() {
                self.given.insert(net.first, net.last);
                return Some(net);
            }
        }
        None
    }

    /// The part of `pool` for `share`, and the length of one network in it.
    /// A pool no bigger than a segment is one segment's, or the cables'.
    fn part(&self, pool: Net, share: Share) -> (Net, u8) {
        let (segment, cable) = match self.family {
            Family::V4 => (16, 30),
            Family::V6 => (64, 64),
        };
        let length = if share == Share::Cable { cable } else { segment };
        if length <= pool.length {
            return (pool, pool.length);
        }
        let lower = Net::new(self.family, pool.first, pool.length + 1);
        let upper = Net::new(self.family, pool.last & !(lower.last - lower.first), pool.length + 1);
        match share {
            Share::Own => (pool, length),
            Share::Segment => (lower, length),
            Share::Cable => (upper, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hosts as `place` or `place=address`; places from `c` on are cables.
    #[track_caller]
    fn check(prefixes: &str, hosts: &str, expected: &str) {
        let nets = |text: &str| -> Vec<IpNet> {
            text.split_whitespace().map(|net| net.parse().expect("a network")).collect()
        };
        let place = |letter: char| Place {
            name: format!("place {letter}"),
            at: Position::NOWHERE,
            cable: 'c' <= letter,
            prefixes: Vec::new(),
        };
        let places: Vec<_> = ('a'..='f').map(place).collect();
        let hosts: Vec<_> = hosts
            .split_whitespace()
            .map(|host| {
                let (place, address) = host.split_once('=').unwrap_or((host, ""));
                Host {
                    name: host.to_owned(),
                    place: usize::from(place.as_bytes()[0] - b'a'),
                    explicit: host.contains('=').then(|| nets(address)),
                    ipv6_fits: true,
                }
            })
            .collect();
        let mut found = Found::default();
        let given = give(&nets(prefixes), &places, &hosts, &mut found);
        let given: Vec<_> = given
            .iter()
            .map(|nets| nets.iter().map(IpNet::to_string).collect::<Vec<_>>().join("+"))
            .collect();
        let shown = match found.into_result("", "") {
            Ok(()) => given.join(" "),
            Err(problems) => problems.problems()[0].message.clone(),
        };
        assert_eq!(shown, expected, "{hosts}", hosts = hosts.len());
    }

    const USUAL: &str = "10.0.0.0/8 fd00:6f76::/48";

    #[test]
    fn each_place_has_its_network() {
        check(
            USUAL,
            "a a b",
            "10.0.0.1/16+fd00:6f76::1/64 10.0.0.2/16+fd00:6f76::2/64 10.1.0.1/16+fd00:6f76:0:1::1/64",
        );
        check("10.0.0.0/8", "c c d d", "10.128.0.1/30 10.128.0.2/30 10.128.0.5/30 10.128.0.6/30");
        check("fd00:6f76::/48", "c d", "fd00:6f76:0:8000::1/64 fd00:6f76:0:8001::1/64");
        check("", "a c", " ");
    }

    #[test]
    fn small_prefixes_are_one_segments() {
        check("192.168.7.0/24", "a a", "192.168.7.1/24 192.168.7.2/24");
        check("192.168.7.0/24", "a b", "no IPv4 network is left in `192.168.7.0/24` for place b");
        check("192.168.7.0/24 10.0.0.0/8", "a b", "192.168.7.1/24 10.0.0.1/16");
        check("192.168.7.0/24", "c d", "192.168.7.129/30 192.168.7.133/30");
        check("192.168.7.0/30", "c c", "192.168.7.1/30 192.168.7.2/30");
        check("192.168.7.0/30", "a a a", "`192.168.7.0/30` of place a has no address left for `a`");
        check("10.0.0.0/15", "a b", "no IPv4 network is left in `10.0.0.0/15` for place b");
        check("fd00::/64", "a a", "fd00::1/64 fd00::2/64");
    }

    #[test]
    fn addresses_of_the_file_are_not_given_again() {
        check("10.0.0.0/8", "a b=10.0.0.1/16 a", "10.0.0.2/16  10.0.0.3/16");
        check("10.0.0.0/8", "b=10.0.3.3/24 a", " 10.1.0.1/16");
        check("10.0.0.0/8", "d=10.128.0.1/30 d=10.128.0.2/30 c", "  10.128.0.5/30");
    }

    #[test]
    fn a_neighbours_network_is_joined() {
        check("10.0.0.0/8", "a=192.168.1.1/24 a a", " 192.168.1.2/24 192.168.1.3/24");
        check("10.0.0.0/8", "c c=192.168.1.1/24", "192.168.1.2/24 ");
        check("10.0.0.0/8", "a=192.168.1.1/32 a", " 10.0.0.1/16");
        check("10.0.0.0/8", "a=169.254.1.1/16 a", " 10.0.0.1/16");
        check("10.0.0.0/8", "a a=192.168.1.1/24", "10.0.0.1/16 ");
    }

    #[test]
    fn the_end_of_all_numbers_is_no_trouble() {
        check("255.255.0.0/16", "a", "255.255.0.1/16");
        check(
            "ffff:ffff:ffff:ffff::/64",
            "a c",
            "no IPv6 network is left in `ffff:ffff:ffff:ffff::/64` for place c",
        );
    }
}
