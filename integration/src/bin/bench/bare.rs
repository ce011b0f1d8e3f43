//! The floor: what the kernel takes for the same things, asked by one thread
//! with nothing in between.
//!
//! It knows no plan, reads nothing back, and takes nothing back: it sends the
//! requests in the cheapest order that is known, and waits for the answers.
//! What it makes is what `ovsns up --topo single,N` makes, to the last alias; in
//! `cables`, what `ovsns up` makes of a graph.

pub(crate) mod cables;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const NETNS: &str = "/run/netns";
/// Any group but 0, by which all links go at once.
const GROUP: u32 = 0x8000_b41e;
const BRIDGE: &str = "s1.bare";

/// Makes a bridge and `count` nodes on it.
pub(crate) fn up(count: u32) {
    prepare();
    // A socket stays in the namespace it was made in; this thread moves on.
    let home = Netlink::new();
    home.ask(&[
        bridge(BRIDGE, [2, 2, 0, 0, 0, 1]),
        alias(BRIDGE, "ovsns lab=bare switch=s1"),
        altname(BRIDGE, "bare:s1"),
    ]);
    let master = index_of(BRIDGE);
    for number in 1..=count {
        node(&home, master, number);
    }
    // Last: ports that come up on a bridge that is up announce themselves to
    // all the others.
    home.ask(&[Message::link(SETLINK, 0, Some(true)).name(BRIDGE)]);
}

/// Removes what [`up`] made.
pub(crate) fn down() {
    let home = Netlink::new();
    home.ask(&[Message::link(DELLINK, 0, None).u32(IFLA_GROUP, GROUP)]);
    delete_names();
}

/// Takes the names of all namespaces away, which end by that.
fn delete_names() {
    for entry in fs::read_dir(NETNS).expect("names").flatten() {
        umount2(&entry.path(), MntFlags::MNT_DETACH).expect("a mounted namespace");
        fs::remove_file(entry.path()).expect("a name");
    }
}

/// Makes the directory of names ready.
fn prepare() {
    let none: Option<&str> = None;
    fs::create_dir_all(NETNS).expect("a directory for names");
    mount(Some(NETNS), NETNS, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).expect("a mount");
    mount(none, NETNS, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).expect("shared");
}

/// Makes `count` bridges and raises them; returns how they all go at once.
pub(crate) fn bridges(count: u32) -> impl FnOnce() {
    let home = Netlink::new();
    for number in 1..=count {
        let device = format!("s{number}.bare");
        let [_, b1, b2, b3] = number.to_be_bytes();
        let raise = Message::link(SETLINK, 0, Some(true)).name(&device);
        home.ask(&[bridge(&device, [2, 2, 0, b1, b2, b3]), raise]);
    }
    move || home.ask(&[Message::link(DELLINK, 0, None).u32(IFLA_GROUP, GROUP)])
}

fn node(home: &Netlink, master: u32, number: u32) {
    let outside = format!("h{number}.bare");
    let [_, b1, b2, b3] = number.to_be_bytes();

    let (inside, namespace) = namespace(&format!("h{number}"));

    let mut peer = Message::body_of_link(INSIDE_INDEX, None).name("eth0");
    peer = peer.bytes(IFLA_ADDRESS, &[2, 1, 0, b1, b2, b3]).u32(IFLA_MTU, 1500);
    peer = peer.u32(IFLA_GROUP, GROUP).u32(IFLA_NET_NS_FD, fd(&namespace));
    // The peer gets the index it asks for only if this end asks for one too.
    let veth = Message::link(NEWLINK | CREATE, 10_000 + number, None)
        .name(&outside)
        .bytes(IFLA_ADDRESS, &[2, 0, 0, b1, b2, b3])
        .u32(IFLA_MTU, 1500)
        .u32(IFLA_GROUP, GROUP)
        .u32(IFLA_MASTER, master)
        .nest(IFLA_LINKINFO, |info| {
            info.text(INFO_KIND, "veth")
                .nest(INFO_DATA, |data| data.bytes(VETH_INFO_PEER, &peer.bytes))
        });
    let mark = Message::link(SETLINK, 0, Some(true))
        .name(&outside)
        .text(IFLA_IFALIAS, &format!("ovsns lab=bare port=h{number}:eth0"));
    home.ask(&[veth, mark, altname(&outside, &format!("bare:h{number}:eth0"))]);

    inside.ask(&[
        Message::link(SETLINK, INSIDE_INDEX, Some(true))
            .text(IFLA_IFALIAS, &format!("ovsns lab=bare interface=h{number}:eth0")),
        address_v4(INSIDE_INDEX, [10, 0, b2, b3].into(), 16),
        address_v6(
            INSIDE_INDEX,
            [0xfd00, 0x6f76, 0, 0, 0, 0, 0, u16::from_be_bytes([b2, b3])].into(),
            64,
        ),
    ]);
}

/// Makes the namespace of a node and moves into it; returns a socket there, and
/// the namespace opened.
fn namespace(node: &str) -> (Netlink, File) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
    fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("a parameter");
    fs::write("/proc/sys/net/ipv4/conf/all/promote_secondaries", "1").expect("a parameter");
    let inside = Netlink::new();
    let mark = format!("ovsns lab=bare node={node}");
    inside.ask(&[Message::link(SETLINK, 0, Some(true)).name("lo").text(IFLA_IFALIAS, &mark)]);
    (inside, name(&format!("bare.{node}"), &mark))
}

fn address_v4(index: u32, address: Ipv4Addr, prefix: u8) -> Message {
    let broadcast = u32::from(address) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    Message::address(AF_INET, prefix, index)
        .bytes(IFA_LOCAL, &address.octets())
        .bytes(IFA_ADDRESS, &address.octets())
        .bytes(IFA_BROADCAST, &broadcast.to_be_bytes())
        .bytes(IFA_PROTO, &[111])
}

fn address_v6(index: u32, address: Ipv6Addr, prefix: u8) -> Message {
    Message::address(AF_INET6, prefix, index)
        .bytes(IFA_ADDRESS, &address.octets())
        .u32(IFA_FLAGS, NODAD)
        .bytes(IFA_PROTO, &[111])
}

/// Names this thread's namespace, with a mark beneath, and returns it opened.
fn name(name: &str, mark: &str) -> File {
    let path = Path::new(NETNS).join(name);
    let mut stub = OpenOptions::new()
        .write(true)
        .custom_flags(nix::libc::O_TMPFILE)
        .mode(0o444)
        .open(NETNS)
        .expect("a file without a name");
    stub.write_all(mark.as_bytes()).expect("room for a mark");
    let unnamed = format!("/proc/self/fd/{}", stub.as_raw_fd());
    nix::unistd::linkat(AT_FDCWD, &*unnamed, AT_FDCWD, &path, AtFlags::AT_SYMLINK_FOLLOW)
        .expect("a new name");
    let none: Option<&str> = None;
    let own = Some("/proc/thread-self/ns/net");
    mount(own, &path, none, MsFlags::MS_BIND, none).expect("a named namespace");
    File::open(path).expect("the namespace just named")
}

fn fd(file: &File) -> u32 {
    u32::try_from(file.as_raw_fd()).expect("an open file")
}

fn index_of(device: &str) -> u32 {
    nix::net::if_::if_nametoindex(device).expect("a device just made")
}

fn bridge(device: &str, mac: [u8; 6]) -> Message {
    Message::link(NEWLINK | CREATE, 0, None)
        .name(device)
        .bytes(IFLA_ADDRESS, &mac)
        .u32(IFLA_MTU, 1500)
        .u32(IFLA_GROUP, GROUP)
        .nest(IFLA_LINKINFO, |info| {
            info.text(INFO_KIND, "bridge").nest(INFO_DATA, |data| {
                data.u32(BR_FORWARD_DELAY, 200)
                    .u32(BR_AGEING_TIME, 30000)
                    .u32(BR_STP_STATE, 0)
                    .bytes(BR_MCAST_SNOOPING, &[1])
            })
        })
}

fn alias(device: &str, mark: &str) -> Message {
    Message::link(SETLINK, 0, None).name(device).text(IFLA_IFALIAS, mark)
}

fn altname(device: &str, name: &str) -> Message {
    Message::link(NEWLINKPROP | CREATE, 0, None)
        .name(device)
        .nest(IFLA_PROP_LIST, |list| list.text(IFLA_ALT_IFNAME, name))
}

// ---- netlink, as netlink(7) and rtnetlink(7) have it ----

/// The index of a node's interface, given so that it need not be asked for.
const INSIDE_INDEX: u32 = 100;

/// Not the kernel's: asks [`Message`] for the flags of a new thing.
const CREATE: u16 = 0x8000;
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const SETLINK: u16 = 19;
const NEWADDR: u16 = 20;
const NEWLINKPROP: u16 = 108;
const ERROR: u16 = 2;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const BR_FORWARD_DELAY: u16 = 1;
const BR_AGEING_TIME: u16 = 4;
const BR_STP_STATE: u16 = 5;
const BR_MCAST_SNOOPING: u16 = 23;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
const NODAD: u32 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NESTED: u16 = 0x8000;

/// A request, or a part of one.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16) -> Self {
        // REQUEST | ACK, and CREATE | EXCL for what must be new.
        let flags: u16 = 0x5 | if kind & CREATE == 0 { 0 } else { 0x600 };
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&(kind & !CREATE).to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    /// A request about a link, by index or by the name that follows.
    fn link(kind: u16, index: u32, up: Option<bool>) -> Self {
        let mut message = Self::new(kind);
        message.bytes.extend(Self::body_of_link(index, up).bytes);
        message
    }

    fn body_of_link(index: u32, up: Option<bool>) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..8].copy_from_slice(&index.to_ne_bytes());
        if let Some(up) = up {
            bytes[8..12].copy_from_slice(&u32::from(up).to_ne_bytes());
            bytes[12..16].copy_from_slice(&1u32.to_ne_bytes());
        }
        Self { bytes }
    }

    fn address(family: u8, prefix: u8, index: u32) -> Self {
        let mut message = Self::new(NEWADDR | CREATE);
        message.bytes.extend([family, prefix, 0, 0]);
        message.bytes.extend(index.to_ne_bytes());
        message
    }

    fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("short attributes");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    fn text(self, kind: u16, text: &str) -> Self {
        self.bytes(kind, &[text.as_bytes(), &[0]].concat())
    }

    fn name(self, name: &str) -> Self {
        self.text(IFLA_IFNAME, name)
    }

    fn nest(self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let inner = fill(Self { bytes: Vec::new() });
        self.bytes(kind | NESTED, &inner.bytes)
    }
}

/// A blocking socket of rtnetlink.
struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    fn new() -> Self {
        let protocol = SockProtocol::NetlinkRoute;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
        Self { socket: socket.expect("a netlink socket") }
    }

    /// Sends requests in one datagram; each must succeed.
    fn ask(&self, messages: &[Message]) {
        let mut datagram = Vec::new();
        for message in messages {
            let start = datagram.len();
            datagram.extend(&message.bytes);
            let length = u32::try_from(message.bytes.len()).expect("short messages");
            datagram[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        }
        let socket = self.socket.as_raw_fd();
        send(socket, &datagram, MsgFlags::empty()).expect("a request the kernel reads");
        let mut answers = 0;
        let mut buffer = [0; 8192];
        while answers < messages.len() {
            let count = recv(socket, &mut buffer, MsgFlags::empty()).expect("an answer");
            let mut rest = &buffer[..count];
            while 20 <= rest.len() {
                let word = |at: usize| {
                    i32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]])
                };
                let kind = u16::from_ne_bytes([rest[4], rest[5]]);
                assert_eq!(kind, ERROR, "only acknowledgements were asked for");
                let errno = Errno::from_raw(-word(16));
                assert_eq!(word(16), 0, "request {answers} of a datagram: {errno}");
                answers += 1;
                let length = usize::try_from(word(0)).expect("a length");
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            }
        }
    }
}
