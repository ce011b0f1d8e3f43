//! Performing: each step as the requests that do it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::LinkAttribute;
use nix::errno::Errno;

use super::{clients, facts, owners, probe, read, routers, wire};
use crate::kernel::error::{KernelError, StepError};
use crate::kernel::ethtool::Ethtool;
use crate::kernel::netlink::Netlink;
use crate::kernel::raw::{Raw, attribute, nest};
use crate::kernel::worker::Worker;
use crate::kernel::{LinuxHost, nft, observe};
use crate::model::names::IfName;
use crate::model::nic::{
    Client, Neighbour, Nic, NicAddress, NicLink, NicRoute, NicRule, Owner, Program,
};
use crate::plan::attach::step::Load;
use crate::plan::attach::{Facts, NicStep};

/// How long a device may take to use addresses that are not tried for
/// duplicates.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// How long a program may take to make rules of its own again.
const MADE_WITHIN: Duration = Duration::from_secs(1);

/// How often in a row a switch has to keep step to be taken to have caught up.
const CALM: u32 = 4;
/// How long that is waited for.
const DRAINED_WITHIN: Duration = Duration::from_millis(300);

/// The hands for what hangs on NICs of the machine's own namespace.
#[derive(Debug)]
pub struct NicHands {
    pub(super) netlink: Netlink,
    pub(super) worker: Worker,
    ethtool: Option<Ethtool>,
}

impl NicHands {
    /// Works through the socket of `host`.
    pub fn new(host: &LinuxHost) -> Self {
        Self { netlink: host.here().clone(), worker: host.worker().clone(), ethtool: None }
    }

    fn ethtool(&mut self) -> Result<&Ethtool, KernelError> {
        if self.ethtool.is_none() {
            self.ethtool = Some(Ethtool::find()?);
        }
        Ok(self.ethtool.as_ref().expect("filled in just above"))
    }

    /// All that hangs on a device. Changes nothing.
    pub fn read(&mut self, device: &IfName) -> Result<Nic, KernelError> {
        let mut nic = read::nic(&self.netlink, device)?;
        nic.link.checksums = match self.ethtool().and_then(Ethtool::checksums) {
            Ok(all) => all.get(device.as_str()).copied(),
            // Before Linux 5.6 it cannot be asked for by netlink.
            Err(error) if error.errno == Errno::EOPNOTSUPP => None,
            Err(error) => return Err(error),
        };
        Ok(nic)
    }

    /// What else there is to know about a NIC. Changes nothing.
    pub fn facts(&self, nic: &NicLink) -> Result<Facts, KernelError> {
        facts::facts(&self.netlink, nic)
    }

    /// The device over which packets to `remote` leave now, if any.
    pub fn way_to(&self, remote: IpAddr) -> Result<Option<u32>, KernelError> {
        observe::way_to(&self.netlink, remote)
    }

    /// Which of `neighbours` answer behind a device.
    ///
    /// Like `ip neigh change IP dev DEVICE nud probe`, and a look after it.
    pub async fn probe(
        &self,
        device: &IfName,
        neighbours: &BTreeSet<IpAddr>,
    ) -> Result<BTreeSet<IpAddr>, KernelError> {
        probe::probe(&self.netlink, device, neighbours).await
    }

    /// The DHCP clients that see to a NIC. Changes nothing.
    pub fn clients(&self, nic: &IfName) -> Vec<Client> {
        clients::of(nic)
    }

    /// The programs that see to a NIC and can be told to look away. Changes
    /// nothing.
    pub fn owners(&self, nic: &NicLink) -> Vec<Owner> {
        let mut all = owners::of(&nic.name, nic.index, nic.mac);
        all.retain(|owner| owners::can_be_told(&owner.program));
        all
    }

    /// All policy rules of this namespace. Changes nothing.
    ///
    /// Like `ip rule` and `ip -6 rule`.
    pub fn rules(&self) -> Result<Vec<NicRule>, KernelError> {
        read::rules(&self.netlink, "")
    }

    /// Holds DHCP clients where they are, or has them go on.
    pub fn hold_clients(&self, clients: &[Client], held: bool) -> Result<(), KernelError> {
        clients::hold(clients, held)
    }

    /// Has the kernel take routes from routers behind a device again, in the place
    /// of those that were moved there. A router that is silent is no failure: what
    /// was moved has the time that it had.
    ///
    /// Like `rdisc6 DEVICE`.
    pub async fn hear_routers(&self, device: &IfName) -> Result<(), KernelError> {
        routers::hear(&self.netlink, device).await
    }

    /// Why an address cannot be used by a program, if it cannot.
    pub fn unusable(&self, address: &NicAddress, scope: u32) -> Option<String> {
        let at: std::net::SocketAddr = match address.net.addr() {
            IpAddr::V4(v4) => (v4, 0).into(),
            IpAddr::V6(v6) => std::net::SocketAddrV6::new(v6, 0, 0, scope).into(),
        };
        UdpSocket::bind(at).err().map(|error| error.to_string())
    }

    /// Performs one step. A step that is done already is done.
    pub async fn perform(&mut self, step: &NicStep) -> Result<(), StepError> {
        let done = self.do_step(step).await;
        done.map_err(|cause| StepError { what: format!("`{step}` failed"), cause })
    }

    async fn do_step(&mut self, step: &NicStep) -> Result<(), KernelError> {
        match step {
            NicStep::Parameter { device, key, value } => set_parameter(device, key, value),
            NicStep::Generates { device, mode } => self.set_generates(device, *mode),
            NicStep::Checksums { device, leave } => self.ethtool()?.set_checksums(device, *leave),
            NicStep::Teach { device, neighbours } => {
                let index = self.netlink.index_of(device.as_str())?;
                let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
                let message = |n: &Neighbour| {
                    let state = wire::entered(n);
                    (wire::neighbour_for(n.ip, Some(n.mac), index, state, n.router), flags)
                };
                let messages: Vec<_> = neighbours.iter().map(message).collect();
                let asked = |place: usize| format!("enter neighbour {}", neighbours[place].ip);
                first(self.netlink.burst(&messages, asked)?)
            }
            NicStep::Forget { device, neighbours } => {
                let index = self.netlink.index_of(device.as_str())?;
                let message = |ip: &IpAddr| {
                    let raw = wire::neighbour_for(*ip, None, index, 0, false);
                    (Raw { kind: wire::RTM_DELNEIGH, ..raw }, NLM_F_ACK)
                };
                let messages: Vec<_> = neighbours.iter().map(message).collect();
                let asked = |place: usize| format!("forget neighbour {}", neighbours[place]);
                let refused = self.netlink.burst(&messages, asked)?;
                first_but(refused, &[Errno::ENOENT])
            }
            NicStep::Give { from, to, addresses } => {
                let index = self.netlink.index_of(to.as_str())?;
                let message = |address: &NicAddress| {
                    let bytes = wire::address_for(address, from.as_str(), to.as_str(), index);
                    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
                    (Raw { kind: wire::RTM_NEWADDR, bytes }, flags)
                };
                let messages: Vec<_> = addresses.iter().map(message).collect();
                let asked = |place: usize| format!("give `{to}` {}", addresses[place].net);
                first(self.netlink.burst(&messages, asked)?)
            }
            NicStep::Take { device, addresses } => {
                let index = self.netlink.index_of(device.as_str())?;
                let message = |address: &NicAddress| {
                    let name = device.as_str();
                    let bytes = wire::address_for(address, name, name, index);
                    (Raw { kind: wire::RTM_DELADDR, bytes }, NLM_F_ACK)
                };
                let messages: Vec<_> = addresses.iter().map(message).collect();
                let asked = |place: usize| format!("take {} off `{device}`", addresses[place].net);
                let refused = self.netlink.burst(&messages, asked)?;
                first_but(refused, &[Errno::EADDRNOTAVAIL])
            }
            NicStep::Settle { device, addresses } => self.settle(device, addresses).await,
            NicStep::Drain { nic, local } => self.drain(nic, local).await,
            NicStep::Carry { from, to, load } => self.carry(from, to, load),
            NicStep::Listen { nic, local, ear } => nft::listen(nic, local, *ear),
            NicStep::ListenToAll { nic } => nft::listen_to_all(nic),
            NicStep::LookAway { nic, local, program } => {
                let index = self.netlink.index_of(nic.as_str())?;
                owners::look_away(nic, index, local, program).await
            }
            NicStep::LookAgain { nic, program, rules } => {
                let index = self.netlink.index_of(nic.as_str())?;
                if matches!(program, Program::Networkd { .. }) {
                    self.announce(nic)?;
                }
                owners::look_again(nic, index, program).await?;
                self.leave_rules(rules).await
            }
            NicStep::Enter { device, load } => {
                self.add_all(entered(&self.netlink, device, device, load)?)
            }
            NicStep::Rename { from, to } => self.rename(from, to),
            NicStep::Link { device, mac, mtu, alias } => {
                let mac = mac.map(|mac| LinkAttribute::Address(mac.0.to_vec()));
                let mtu = mtu.map(LinkAttribute::Mtu);
                let alias = alias.clone().map(LinkAttribute::IfAlias);
                let attributes = [mac, mtu, alias].into_iter().flatten().collect();
                let asked = || format!("change device `{device}`");
                self.netlink.set_link(device, None, attributes, asked)
            }
            NicStep::Call { device, altnames } => {
                let mut called = altnames.iter();
                called.try_for_each(|altname| self.netlink.add_altname(device, altname))
            }
            NicStep::Raise { device, up } => {
                let word = if *up { "raise" } else { "take down" };
                self.netlink
                    .set_link(device, Some(*up), Vec::new(), || format!("{word} `{device}`"))
            }
        }
    }

    /// By netlink, which only notes the way; the file of the parameter of that
    /// name would have an address made at once.
    ///
    /// Like `ip link set dev DEVICE addrgenmode MODE`.
    fn set_generates(&self, device: &IfName, mode: u8) -> Result<(), KernelError> {
        // linux/rtnetlink.h and if_link.h
        const RTM_SETLINK: u16 = 19;
        const IFLA_AF_SPEC: u16 = 26;
        const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
        let index = self.netlink.index_of(device.as_str())?;
        let header = [&[0; 4], &index.to_ne_bytes()[..], &[0; 8]].concat();
        let inet6 = attribute(IFLA_INET6_ADDR_GEN_MODE, &[mode]);
        let inet6 = nest(u16::from(wire::AF_INET6), &[inet6]);
        let message = Raw::new(RTM_SETLINK, &header, &[nest(IFLA_AF_SPEC, &[inet6])]);
        let asked = || format!("say how `{device}` gets link-local addresses");
        self.netlink.raw(message, 0, asked).map(drop)
    }

    /// Looks again and again: what there is to wait for is a worker of the
    /// kernel's that takes less than a millisecond, as a rule, and seconds on a
    /// machine with more to do.
    ///
    /// It is not enough that an address is none to be tried. Packets for one of
    /// IPv6 are taken in by a route, and that worker enters it, also for an
    /// address that is not tried for duplicates (`addrconf_dad_work`, seen with
    /// kernel 6.18). Until then the old device's is the only one.
    async fn settle(&self, device: &IfName, nets: &[IpNet]) -> Result<(), KernelError> {
        let start = Instant::now();
        loop {
            observe::hurry(&self.netlink, [device].into_iter())?;
            let nic = read::nic(&self.netlink, device)?;
            let given = || nic.addresses.iter().filter(|address| nets.contains(&address.net));
            let has = |flag| given().find(|address| address.flags & flag != 0);
            if let Some(taken) = has(NicAddress::DADFAILED) {
                let asked = format!("use {} on `{device}`, which another host has", taken.net);
                return Err(KernelError::new(asked, Errno::EADDRINUSE));
            }
            let taken_in = read::taken_in(&self.netlink, nic.link.index)?;
            let reached = |net: &IpNet| {
                net.addr().is_ipv4() || taken_in.contains(&net.addr()) || !nic.link.up
            };
            let tried = has(NicAddress::TENTATIVE);
            let Some(waiting) = tried.or_else(|| given().find(|address| !reached(&address.net)))
            else {
                return Ok(());
            };
            if SETTLED_WITHIN < start.elapsed() {
                let asked = format!("use {} on `{device}`", waiting.net);
                return Err(KernelError::new(asked, Errno::ETIMEDOUT));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Compares what came in by both: as long as more comes out at the local
    /// device than comes in at the NIC, or nothing does, it piled up.
    ///
    /// A bound and no failure: with traffic that is not for this host the two
    /// never agree, and what is late is heard twice.
    async fn drain(&self, nic: &IfName, local: &IfName) -> Result<(), KernelError> {
        let counted = || -> Result<(u64, u64), KernelError> {
            let one = |device: &IfName| received(device);
            Ok((one(nic)?, one(local)?))
        };
        let (start, mut last, mut calm) = (Instant::now(), counted()?, 0);
        while calm < CALM && start.elapsed() < DRAINED_WITHIN {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let now = counted()?;
            let (came, left) = (now.0 - last.0, now.1 - last.1);
            let in_step = left <= came && (came == 0 || 0 < left);
            calm = if in_step { calm + 1 } else { 0 };
            last = now;
        }
        Ok(())
    }

    /// First all that is new is entered, then all that is old is deleted: at no
    /// moment is there no way, and a new one that is refused costs nothing.
    fn carry(&self, from: &IfName, to: &IfName, load: &Load) -> Result<(), KernelError> {
        // What was entered before one was refused stays for whoever takes this
        // back: he looks.
        self.add_all(entered(&self.netlink, from, to, load)?)?;
        let old = self.netlink.index_of(from.as_str())?;
        let heard = are_heard(from, to);
        let mut deletes: Vec<(Raw, u16)> = load
            .routes
            .iter()
            .filter(|route| !is_replaced(route) || (heard && routers::is_advertised(route)))
            .map(|route| {
                let bytes = wire::route_for(route, old, old);
                (Raw { kind: wire::RTM_DELROUTE, bytes }, NLM_F_ACK)
            })
            .collect();
        deletes.extend(load.rules.iter().map(|rule| {
            let bytes = wire::rule_for(rule, from.as_str(), from.as_str());
            (Raw { kind: wire::RTM_DELRULE, bytes }, NLM_F_ACK)
        }));
        let asked = |_| format!("delete the routes by `{from}`");
        let refused = self.netlink.burst(&deletes, asked)?;
        first_but(refused, &[Errno::ESRCH, Errno::ENOENT])
    }

    /// Has the kernel tell everybody of a NIC's addresses once more. The kernel's
    /// word that a port left its bridge (`RTM_DELLINK` of `AF_BRIDGE`) passes with
    /// systemd-networkd 252 for the end of the NIC; it finds the NIC again, but not
    /// what is on it, and would wait for a link-local address for ever.
    ///
    /// Like `ip address change ADDRESS dev NIC` for each.
    fn announce(&self, nic: &IfName) -> Result<(), KernelError> {
        let now = read::nic(&self.netlink, nic)?;
        let message = |address: &NicAddress| {
            let address = address.with_flags(address.asked_flags());
            let bytes = wire::address_for(&address, nic.as_str(), nic.as_str(), now.link.index);
            (Raw { kind: wire::RTM_NEWADDR, bytes }, NLM_F_ACK | NLM_F_REPLACE)
        };
        let messages: Vec<_> = now.addresses.iter().map(message).collect();
        let asked = |place: usize| format!("tell of {}", now.addresses[place].net);
        first(self.netlink.burst(&messages, asked)?)
    }

    /// Deletes rules that somebody has made again, at another priority. One that
    /// nobody has made again within a second is kept.
    ///
    /// Like `ip rule del pref PRIORITY ...`.
    async fn leave_rules(&self, rules: &[NicRule]) -> Result<(), KernelError> {
        let start = Instant::now();
        let mut left: Vec<&NicRule> = rules.iter().collect();
        while !left.is_empty() && start.elapsed() < MADE_WITHIN {
            let now = read::rules(&self.netlink, "")?;
            let (made, not_yet): (Vec<_>, Vec<_>) = left.into_iter().partition(|rule| {
                now.iter().any(|other| other != *rule && wire::are_twins(other, rule))
            });
            let delete = |rule: &&NicRule| {
                let bytes = wire::rule_for(rule, "", "");
                (Raw { kind: wire::RTM_DELRULE, bytes }, NLM_F_ACK)
            };
            let deletes: Vec<_> = made.iter().map(delete).collect();
            let asked = |place: usize| format!("delete rule {}", made[place].priority);
            first_but(self.netlink.burst(&deletes, asked)?, &[Errno::ENOENT])?;
            left = not_yet;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Enters all of it at once, and again what needed what came after it, as
    /// long as that gets anywhere.
    fn add_all(&self, mut adds: Vec<Request>) -> Result<(), KernelError> {
        loop {
            let messages: Vec<_> = adds.iter().map(|(message, _)| message.clone()).collect();
            let asked = |place: usize| format!("enter {}", adds[place].1);
            let mut refused = self.netlink.burst(&messages, asked)?;
            refused.retain(|_, error| error.errno != Errno::EEXIST);
            if refused.is_empty() {
                return Ok(());
            }
            if refused.len() == adds.len() {
                return first(refused);
            }
            let mut place = 0;
            adds.retain(|_| {
                place += 1;
                refused.contains_key(&(place - 1))
            });
        }
    }
}

/// A message with its flags, and what it enters, in words.
type Request = ((Raw, u16), String);

/// The requests that enter `load`, which leaves by `from`, as leaving by `to`.
fn entered(
    netlink: &Netlink,
    from: &IfName,
    to: &IfName,
    load: &Load,
) -> Result<Vec<Request>, KernelError> {
    let (old, new) = (netlink.index_of(from.as_str())?, netlink.index_of(to.as_str())?);
    let mut adds = Vec::new();
    // The networks first: a router is looked for in them.
    let (through, near): (Vec<&NicRoute>, Vec<&NicRoute>) =
        load.routes.iter().partition(|route| !route.via.is_empty());
    let heard = are_heard(from, to);
    let route = |route: &&NicRoute| (added(route, old, new, heard), route.to_string());
    adds.extend(near.iter().map(route));
    adds.extend(load.hops.iter().map(|hop| {
        let bytes = wire::hop_for(hop, new);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        ((Raw { kind: wire::RTM_NEWNEXTHOP, bytes }, flags), format!("nexthop {}", hop.id))
    }));
    adds.extend(through.iter().map(route));
    // A crash may have left a rule for each of the two devices, which are one
    // in the end.
    let mut said = BTreeSet::new();
    for rule in &load.rules {
        let bytes = wire::rule_for(rule, from.as_str(), to.as_str());
        if said.insert(bytes.clone()) {
            let words = format!("rule {}", rule.priority);
            adds.push(((Raw { kind: wire::RTM_NEWRULE, bytes }, NLM_F_ACK | NLM_F_CREATE), words));
        }
    }
    Ok(adds)
}

/// Whether the kernel makes routes of what routers tell, or will, when these
/// devices change places.
fn are_heard(from: &IfName, to: &IfName) -> bool {
    [from, to].into_iter().any(routers::are_heard)
}

/// Whether a route's new form takes the place of the old one by itself.
///
/// All routes of IPv6 to one network with one metric that lead through routers
/// are one route with several ways to the kernel; the new ways would join the
/// old ones. Every other route stands beside those that differ in the device,
/// and a request to replace would hit whichever is the first.
fn is_replaced(route: &NicRoute) -> bool {
    route.to.addr().is_ipv6() && !route.via.is_empty()
}

fn added(route: &NicRoute, old: u32, new: u32, heard: bool) -> (Raw, u16) {
    let mut bytes = wire::route_for(route, old, new);
    if heard && routers::is_advertised(route) {
        bytes = wire::with_metric(&bytes, routers::aside(route));
    }
    let how = if is_replaced(route) { NLM_F_REPLACE } else { NLM_F_APPEND };
    (Raw { kind: wire::RTM_NEWROUTE, bytes }, NLM_F_ACK | NLM_F_CREATE | how)
}

fn first(refused: BTreeMap<usize, KernelError>) -> Result<(), KernelError> {
    first_but(refused, &[])
}

fn first_but(refused: BTreeMap<usize, KernelError>, fine: &[Errno]) -> Result<(), KernelError> {
    let mut bad = refused.into_values().filter(|error| !fine.contains(&error.errno));
    bad.next().map_or(Ok(()), Err)
}

/// How many frames a device has received.
fn received(device: &IfName) -> Result<u64, KernelError> {
    let asked = || format!("count the frames of `{device}`");
    let path = format!("/sys/class/net/{device}/statistics/rx_packets");
    let text = fs::read_to_string(path).map_err(|e| KernelError::from_io(asked(), &e))?;
    text.trim().parse().map_err(|_| KernelError::new(asked(), Errno::EBADMSG))
}

/// Like `sysctl -w net.FAMILY.conf.DEVICE.KEY=VALUE`.
fn set_parameter(device: &IfName, key: &str, value: &str) -> Result<(), KernelError> {
    let asked = || format!("set `{key}` of `{device}` to {value}");
    let path = read::parameter_path(device, key);
    let path = path.ok_or_else(|| KernelError::new(asked(), Errno::EINVAL))?;
    fs::write(path, value).map_err(|error| KernelError::from_io(asked(), &error))
}
