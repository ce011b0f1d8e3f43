//! A host on a LAN: the world itself is the host, and `eth0` its NIC.
//!
//! ```text
//!   world (the host)                       namespace `router`
//!   eth0 ---------------------------------- lan0        lo
//!   198.18.6.1/24, 198.18.7.1/24           .254 .253 .252   203.0.113.1, 192.0.2.1
//!   fd00:6::1/64,  fd00:7::1/64            ::fe ::fd        2001:db8::1
//! ```
//!
//! What a host may have that is hard to move is there: two addresses of each
//! family, a default route of each, a routing table that only one address uses,
//! a route of two ways, a static neighbour.

use std::io::Write;
use std::process::ChildStdin;
use std::time::Duration;

use crate::{Running, Skip, Tool, World, until};

/// The namespace of the other side.
pub const ROUTER: &str = "router";
/// The MAC address of the host's NIC.
pub const MAC: &str = "02:00:5e:00:53:01";
/// The host's addresses.
pub const ADDRESSES: [&str; 4] = ["198.18.6.1/24", "198.18.7.1/24", "fd00:6::1/64", "fd00:7::1/64"];

/// One batch for `ip`: the host's addresses at a device.
const HOST: &str = "
addr add 198.18.6.1/24 dev eth0
addr add 198.18.7.1/24 dev eth0
addr add fd00:6::1/64 dev eth0 nodad
addr add fd00:7::1/64 dev eth0 nodad
route add default via 198.18.6.254 dev eth0
route add default via fd00:6::fe dev eth0
route add default via 198.18.6.253 dev eth0 table 77
route add default via fd00:6::fd dev eth0 table 77
rule add from 198.18.7.1 lookup 77 pref 1077
route add 192.0.2.0/24 nexthop via 198.18.6.252 dev eth0 weight 1 nexthop via 198.18.6.254 dev eth0 weight 2
neigh add 198.18.6.200 lladdr 02:00:5e:00:53:c8 dev eth0 nud permanent
neigh add fd00:6::c8 lladdr 02:00:5e:00:53:c8 dev eth0 nud permanent
";

/// And the other side's.
const FAR: &str = "
link set lo up
addr add 198.18.6.254/24 dev lan0
addr add 198.18.6.253/24 dev lan0
addr add 198.18.6.252/24 dev lan0
addr add 198.18.7.254/24 dev lan0
addr add fd00:6::fe/64 dev lan0 nodad
addr add fd00:6::fd/64 dev lan0 nodad
addr add fd00:7::fe/64 dev lan0 nodad
addr add 203.0.113.1/32 dev lo
addr add 192.0.2.1/32 dev lo
addr add 2001:db8::1/128 dev lo nodad
link set lan0 up
";

/// TCP connections, in which namespace they begin, and where they end.
const CONNECTIONS: [(Option<&str>, &str); 4] = [
    (Some(ROUTER), "198.18.6.1 4001"),
    (Some(ROUTER), "fd00:6::1 4002"),
    // By the default routes.
    (None, "203.0.113.1 4003"),
    (None, "2001:db8::1 4004"),
];

/// Where the router pings.
const PINGED: [&str; 4] = ["198.18.6.1", "198.18.7.1", "fd00:6::1", "fd00:7::1"];

/// How long everything is watched before and after what may disturb it.
const BEFORE: Duration = Duration::from_millis(300);
const AFTER: Duration = Duration::from_millis(1400);
const BRIEFLY: Duration = Duration::from_millis(100);

/// Who talks to the host, and whom it talks to.
pub struct Talk {
    echoes: Vec<Running>,
    /// By which those who measure are told when it matters.
    counting: Vec<ChildStdin>,
    drips: Vec<Running>,
    beats: Vec<Running>,
}

/// What a disturbance cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Toll {
    /// The longest that one line of a TCP connection took to come back, of those
    /// that went out meanwhile, in milliseconds; `None` if a connection ended.
    pub gap_ms: Option<f64>,
    /// Pings that were not answered, of one every 2 ms to each address.
    pub lost: usize,
    /// Pings that were answered more than once.
    pub doubled: usize,
    /// Pings that were answered.
    pub answered: usize,
}

impl World {
    /// Makes this world a host on a LAN.
    pub fn lan(&self) -> Result<(), Skip> {
        self.needs("ethtool")?;
        self.needs("ping")?;
        self.run(&format!("ip netns add {ROUTER}"));
        self.run(&format!(
            "ip link add eth0 address {MAC} type veth peer name lan0 address 02:00:5e:00:53:fe \
             netns {ROUTER}"
        ));
        // On a wire every frame has its checksum; a veth leaves that to a device
        // that it is not, and a switch in userspace would pass it on like that.
        self.run(&format!("ip netns exec {ROUTER} ethtool -K lan0 tx off"));
        // As distributions set it, and what makes the order of steps matter.
        self.run("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1");
        self.file("far", FAR);
        self.run(&format!("ip -n {ROUTER} -batch far"));
        self.run("ip link set eth0 up");
        until("there is carrier", || self.setting("", "eth0", "operstate") == "UP");
        self.file("host", HOST);
        self.run("ip -batch host");
        // A batch takes rules of one family.
        self.run("ip -6 rule add from fd00:7::1 lookup 77 pref 1077");
        until("link-local addresses are usable", || {
            let here = self.run("ip -6 addr show tentative").stdout;
            let there = self.run(&format!("ip -n {ROUTER} -6 addr show tentative")).stdout;
            here.is_empty() && there.is_empty()
        });
        Ok(())
    }

    /// Starts to talk: TCP both ways in both families, a line every 5 ms, and a
    /// ping to each address every 2 ms. Returns when all are answered.
    pub fn talk(&self) -> Talk {
        let echoes = CONNECTIONS.map(|(from, at)| {
            let other = if from.is_none() { Some(ROUTER) } else { None };
            let mut echo = self.start_command(&mut Tool::Echo.command(other, at));
            echo.line_with("ready");
            echo
        });
        let drips = CONNECTIONS.map(|(from, to)| {
            let mut drip = self.start_command(&mut Tool::Drip.command(from, to));
            drip.line_with("20");
            drip
        });
        let beats = PINGED.map(|to| {
            let mut beat = self.start_command(&mut Tool::Beat.command(Some(ROUTER), to));
            beat.line_with("answered");
            beat
        });
        std::thread::sleep(BEFORE);
        let mut drips = drips;
        let counting: Vec<ChildStdin> = drips.each_mut().map(Running::input).into();
        count(&counting);
        Talk { counting, echoes: echoes.into(), drips: drips.into(), beats: beats.into() }
    }
}

/// Has those who measure begin to, or end.
fn count(counting: &[ChildStdin]) {
    for mut one in counting {
        // One that has ended says so itself, by its exit status.
        let _ = one.write_all(b"\n");
    }
}

impl Talk {
    /// Goes on for a while, ends, and says what it cost.
    pub fn end(self) -> Toll {
        // What was held up by the last step.
        std::thread::sleep(BRIEFLY);
        count(&self.counting);
        drop(self.counting);
        // Nobody who was cut off for a second has to be missed.
        std::thread::sleep(AFTER);
        let gaps = self.drips.into_iter().map(|drip| {
            let ended = drip.finish();
            let most = ended.stdout.lines().find_map(|line| line.strip_prefix("most "))?;
            ended.status.success().then_some(())?;
            most.parse::<f64>().ok()
        });
        let gap_ms = gaps.collect::<Option<Vec<f64>>>();
        drop(self.echoes);
        let mut toll = Toll { gap_ms: None, lost: 0, doubled: 0, answered: 0 };
        toll.gap_ms = gap_ms.and_then(|gaps| gaps.into_iter().reduce(f64::max));
        for beat in self.beats {
            let said = beat.finish().ok().stdout;
            let last = said.lines().last().unwrap_or_default();
            let numbers: Vec<usize> = last.split(' ').filter_map(|it| it.parse().ok()).collect();
            let [lost, doubled, once] = numbers[..] else { panic!("`{last}` instead of counts") };
            toll.lost += lost;
            toll.doubled += doubled;
            toll.answered += once;
        }
        toll
    }
}
