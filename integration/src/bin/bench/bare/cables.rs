//! The floor of a city: namespaces, and cables between them with the addresses
//! that `ovsns plan` says, on the same interfaces.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::IpAddr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    CREATE, GROUP, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFALIAS, IFLA_LINKINFO, IFLA_MTU, IFLA_NET_NS_FD,
    INFO_DATA, INFO_KIND, Message, NEWLINK, Netlink, SETLINK, VETH_INFO_PEER, address_v4,
    address_v6, delete_names, fd, namespace, prepare,
};

/// What a plan says that is to be made.
#[derive(Debug, Default)]
struct Asked<'t> {
    nodes: Vec<&'t str>,
    cables: Vec<[End<'t>; 2]>,
    addresses: BTreeMap<End<'t>, Vec<(IpAddr, u8)>>,
}

/// `NODE:DEVICE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End<'t> {
    node: &'t str,
    device: &'t str,
}

struct Node {
    inside: Netlink,
    namespace: File,
    /// The index of its next interface, given so that it need not be asked for.
    next: u32,
}

/// Makes what the plan in a file says.
pub(crate) fn up(plan: &str) {
    let text = fs::read_to_string(plan).expect("a plan");
    let asked = Asked::read(&text);
    // A socket and a namespace for each node.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard one");
    prepare();
    let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
    for name in &asked.nodes {
        let (inside, namespace) = namespace(name);
        nodes.insert(name, Node { inside, namespace, next: 100 });
    }
    for (number, ends) in (1u32..).zip(&asked.cables) {
        let indices = ends.map(|end| {
            let node = nodes.get_mut(end.node).expect("a node of the plan");
            node.next += 1;
            node.next
        });
        let [a, b] = ends.map(|end| &nodes[end.node]);
        a.inside.ask(&[cable(number, ends, indices, &b.namespace)]);
        for (side, node) in [a, b].into_iter().enumerate() {
            let mark =
                format!("ovsns lab=bare interface={}:{}", ends[side].node, ends[side].device);
            let raise = Message::link(SETLINK, indices[side], Some(true));
            let mut messages = vec![raise.text(IFLA_IFALIAS, &mark)];
            let addresses = asked.addresses.get(&ends[side]).into_iter().flatten();
            messages.extend(addresses.map(|(address, prefix)| match address {
                IpAddr::V4(v4) => address_v4(indices[side], *v4, *prefix),
                IpAddr::V6(v6) => address_v6(indices[side], *v6, *prefix),
            }));
            node.inside.ask(&messages);
        }
    }
}

/// Removes what [`up`] made: a cable goes with its ends.
pub(crate) fn down() {
    delete_names();
}

fn cable(number: u32, ends: &[End; 2], indices: [u32; 2], other: &File) -> Message {
    let [_, n1, n2, n3] = number.to_be_bytes();
    let end = |message: Message, side: u8| {
        message
            .name(ends[usize::from(side)].device)
            .bytes(IFLA_ADDRESS, &[2, side, 0, n1, n2, n3])
            .u32(IFLA_MTU, 1500)
            .u32(IFLA_GROUP, GROUP)
    };
    let peer = end(Message::body_of_link(indices[1], None), 1).u32(IFLA_NET_NS_FD, fd(other));
    end(Message::link(NEWLINK | CREATE, indices[0], None), 0).nest(IFLA_LINKINFO, |info| {
        info.text(INFO_KIND, "veth").nest(INFO_DATA, |data| data.bytes(VETH_INFO_PEER, &peer.bytes))
    })
}

impl<'t> Asked<'t> {
    /// Reads what `ovsns plan` prints.
    fn read(text: &'t str) -> Self {
        let mut asked = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["+", "node", node, ..] => asked.nodes.push(node),
                ["+", "link", .., "(veth", a, "to", b, "mtu", _] => {
                    let b = b.strip_suffix(',').expect("the second end");
                    asked.cables.push([a, b].map(End::read));
                }
                ["+", "address", net, "on", end] => {
                    let (address, prefix) = net.split_once('/').expect("a prefix");
                    let address = address.parse().expect("an address");
                    let prefix = prefix.parse().expect("a length");
                    asked.addresses.entry(End::read(end)).or_default().push((address, prefix));
                }
                // Links are raised in any case.
                ["~", _, "up"] | ["lab", ..] => {}
                _ => panic!("not in a city: {line}"),
            }
        }
        asked
    }
}

impl<'t> End<'t> {
    fn read(text: &'t str) -> Self {
        let (node, device) = text.split_once(':').expect("NODE:DEVICE");
        Self { node, device }
    }
}
