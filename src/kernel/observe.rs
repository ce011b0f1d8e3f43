//! Looking: what the kernel has of one lab, and whose the rest is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage, MacVlanMode, Prop,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::unistd::User;

use super::adopt;
use super::deaf;
use super::doors;
use super::error::KernelError;
use super::ethtool::Ethtool;
use super::exits;
use super::host::{LinuxHost, PROTOCOL};
use super::hosts;
use super::laid;
use super::leases;
use super::life;
use super::netlink::Netlink;
use super::rt;
use super::worker::Where;
use super::{netns, tc};
use crate::model::adopt::AdoptMark;
use crate::model::mark::{GROUP_BIT, Mac, Mark, Thing, birth_mac, group, netns as netns_name};
use crate::model::names::{IfName, LabName, NodeName};
use crate::model::nic::AwayMark;
use crate::model::topology::{Dynamic, Macvlan, Sealed};
use crate::model::world::{
    Ability, Egress, HostView, KernelRoute, Questions, RouteOrigin, SeenAdoption, SeenDevice,
    SeenDynamic, SeenMacvlan, SeenNode,
};

/// How long nodes may take to use the addresses that they were given.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// A link as the kernel lists it.
#[derive(Debug, Clone)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What kind of device it is; `None` for hardware and the loopback.
    pub kind: Option<InfoKind>,
    /// Its link group.
    pub group: u32,
    /// The index of the bridge it is a port of.
    pub master: Option<u32>,
    /// The rest.
    pub seen: SeenDevice,
    /// All that the kernel said.
    pub message: LinkMessage,
}

/// Lists the links of the socket's namespace, without their counters.
///
/// Like `ip -d link show`.
pub fn links(netlink: &Netlink) -> Result<Vec<Link>, KernelError> {
    Ok(read_links(netlink.dump(&all_links(), "list links")?))
}

fn all_links() -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    RouteNetlinkMessage::GetLink(message)
}

/// Lists the links of the socket's namespace, those of `lab` with all that
/// happens to frames that leave by them. Where that is nothing, as on most,
/// nothing more is asked.
fn ours_whole(netlink: &Netlink, lab: &LabName) -> Result<Vec<Link>, KernelError> {
    let mut links = links(netlink)?;
    let ours = links.iter_mut().filter(|link| link.is_of(lab) && link.kind == Some(InfoKind::Veth));
    let mut impaired: Vec<_> = ours.filter(|link| link.seen.egress != Egress::Plain).collect();
    if impaired.is_empty() {
        return Ok(links);
    }
    let name =
        |link: &&mut Link| Some((link.index, (IfName::new(&link.name).ok()?, link.seen.mtu)));
    let names = impaired.iter().filter_map(name).collect();
    let mut found = tc::egress::egresses(netlink, &names)?;
    for link in &mut impaired {
        let name = names.get(&link.index);
        link.seen.egress = name.and_then(|(name, _)| found.remove(name)).unwrap_or_default();
    }
    Ok(links)
}

/// The index of the link over which the way to `remote` begins, if there is a
/// way.
///
/// Like `ip route get REMOTE`.
pub fn way_to(netlink: &Netlink, remote: IpAddr) -> Result<Option<u32>, KernelError> {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) =
        rt::family_of(remote);
    message.attributes.push(RouteAttribute::Destination(rt::route_address(remote)));
    let asked = || format!("ask for the way to {remote}");
    match netlink.get(RouteNetlinkMessage::GetRoute(message), asked) {
        Ok(RouteNetlinkMessage::NewRoute(route)) => {
            Ok(route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            }))
        }
        Err(error) if matches!(error.errno, Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Ok(None),
        Ok(_) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The loopback, which every namespace has.
fn loopback(netlink: &Netlink) -> Result<Link, KernelError> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName("lo".into()));
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let asked = || "look at the loopback of a namespace".to_owned();
    let found = netlink.get(RouteNetlinkMessage::GetLink(message), asked)?;
    let link = read_links(vec![found]).pop();
    link.ok_or_else(|| KernelError::new(asked(), Errno::EBADMSG))
}

pub(super) fn read_links(dump: Vec<RouteNetlinkMessage>) -> Vec<Link> {
    let links = dump.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(read_link(link)),
        _ => None,
    });
    links.collect()
}

fn read_link(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        group: 0,
        master: None,
        seen: SeenDevice {
            mac: Mac([0; 6]),
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            alias: String::new(),
            altnames: BTreeSet::new(),
            egress: Egress::default(),
        },
        message: LinkMessage::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::IfAlias(alias) => link.seen.alias.clone_from(alias),
            LinkAttribute::Group(group) => link.group = *group,
            LinkAttribute::Controller(index) => link.master = Some(*index).filter(|i| *i != 0),
            LinkAttribute::Mtu(mtu) => link.seen.mtu = *mtu,
            LinkAttribute::Address(bytes) => {
                // Other kinds of link have longer addresses; none is ours.
                link.seen.mac = Mac(bytes.as_slice().try_into().unwrap_or_default());
            }
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.clone()),
                    _ => None,
                });
            }
            // More than its kind is asked for where there is one of somebody's.
            LinkAttribute::Qdisc(kind) if !tc::egress::is_plain(kind) => {
                link.seen.egress = Egress::Others(kind.clone());
            }
            LinkAttribute::PropList(props) => {
                link.seen.altnames.extend(props.iter().filter_map(|prop| match prop {
                    Prop::AltIfName(name) => Some(name.clone()),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    link.message = message;
    link
}

impl Link {
    /// Whether the link was born ours and never came to say of which lab.
    pub fn is_orphan(&self) -> bool {
        let numbered_by_us = self.group & GROUP_BIT != 0;
        let born_ours = IfName::new(&self.name).is_ok_and(|n| birth_mac(&n) == self.seen.mac);
        Mark::parse(&self.seen.alias).is_none() && numbered_by_us && born_ours
    }

    /// Whether the link, which is in a node, was born with the mark of `lab`.
    pub fn is_born_in(&self, lab: &LabName) -> bool {
        self.group == group(lab) && self.seen.alias.is_empty()
    }

    /// Whether the link carries the mark of `lab`, or was born with it and
    /// cut off before the full mark was set.
    pub fn is_of(&self, lab: &LabName) -> bool {
        match Mark::parse(&self.seen.alias) {
            Some(mark) => mark.lab == *lab,
            None => {
                self.group == group(lab)
                    && IfName::new(&self.name).is_ok_and(|n| birth_mac(&n) == self.seen.mac)
            }
        }
    }
}

/// The mark of the node that the calling thread, and the socket, is in, if it is
/// in one.
pub fn node_around(netlink: &Netlink) -> Result<Option<Mark>, KernelError> {
    if let Some(mark) = node_mark(netlink)? {
        return Ok(Some(mark));
    }
    let adopted = adopt::around()?;
    Ok(adopted.map(|mark| Mark { lab: mark.lab, thing: Thing::Node(mark.node) }))
}

/// How the node is sealed that the socket is in.
pub(super) fn sealed_here(netlink: &Netlink) -> Result<Option<Sealed>, KernelError> {
    Ok(Mark::sealed(&loopback(netlink)?.seen.alias))
}

/// The mark in the socket's namespace, if that was made for a node.
pub(super) fn node_mark(netlink: &Netlink) -> Result<Option<Mark>, KernelError> {
    Ok(Mark::parse(&loopback(netlink)?.seen.alias))
}

/// The mark of the node in the namespace of the calling thread, called `name`,
/// if it is one of ours: the mark and the name must agree.
pub(super) fn mark_here(name: &str) -> Result<Option<Mark>, KernelError> {
    let mark = node_mark(&Netlink::new()?)?.filter(|mark| match &mark.thing {
        Thing::Node(node) => netns_name(&mark.lab, node) == name,
        Thing::Switch(_) | Thing::Interface(..) | Thing::Port(_) => false,
    });
    // In a namespace that is not ours there is none; it is beneath the name.
    let adopted = || adopt::mark_of(name);
    Ok(mark.or_else(|| adopted().map(|it| Mark { lab: it.lab, thing: Thing::Node(it.node) })))
}

/// Every lab that a link here or a named namespace carries the mark of.
pub(super) async fn labs(host: &LinuxHost) -> Result<BTreeSet<LabName>, KernelError> {
    let links = links(host.here())?;
    let marks = links.iter().filter_map(|link| Mark::parse(&link.seen.alias));
    let mut labs: BTreeSet<LabName> = marks.map(|mark| mark.lab).collect();
    labs.extend(life::labs()?);
    labs.extend(hosts::blocks().into_keys());
    labs.extend(host.worker().inside(Where::Home, doors::labs).await??);
    // One node is enough to know a lab, but only the mark says that it is one.
    let unknown = |name: &String| {
        let lab = name.split_once('.').and_then(|(lab, _)| LabName::new(lab).ok());
        lab.is_some_and(|lab| !labs.contains(&lab))
    };
    let names = netns::list()?.into_iter().filter(unknown).collect();
    for (name, mark) in host.worker().tour(names, mark_here).await? {
        let mark = mark.flatten();
        let text = || netns::stub_mark(&name);
        let stub = || text().and_then(|text| Some(Mark::parse(&text)?.lab));
        let adopted = || text().and_then(|text| Some(AdoptMark::parse(&text)?.lab));
        labs.extend(mark.map(|mark| mark.lab).or_else(stub).or_else(adopted));
    }
    Ok(labs)
}

/// Sees to the questions.
pub(super) async fn lab(
    host: &mut LinuxHost,
    questions: &Questions,
) -> Result<HostView, KernelError> {
    let lab = &questions.lab;
    let mut view = HostView::default();
    let mut nics = BTreeMap::new();
    let links = ours_whole(host.here(), lab)?;
    view.exits = exits::look(host, questions, &links).await?;
    for link in links {
        nics.extend(IfName::new(&link.name).ok().map(|name| (link.index, name)));
        match IfName::new(&link.name) {
            Ok(name) if link.is_of(lab) => {
                // Bridges are the business of `switch::linux`, and a loopback
                // with a mark is that of a node which we are in.
                match link.kind {
                    Some(InfoKind::Veth) => drop(view.ports.insert(name, link.seen)),
                    Some(InfoKind::Bridge) | None => {}
                    // A tap of the userspace datapath, or the kernel's
                    // `openvswitch`.
                    Some(_) => drop(view.locals.insert(name, link.seen)),
                }
            }
            _ => {
                let alias = link.seen.alias;
                let names = link.seen.altnames.into_iter().chain([link.name]);
                view.taken.devices.extend(names.map(|name| (name, alias.clone())));
            }
        }
    }
    let ours = format!("{lab}.");
    let is_ours =
        |name: &String| name.strip_prefix(&ours).is_some_and(|node| NodeName::new(node).is_ok());
    let names = netns::list()?.into_iter().filter(is_ours).collect();
    let visit = {
        let questions = questions.clone();
        let ethtool = if questions.checksums { Some(host.ethtool()?) } else { None };
        move |name: &str| look_inside(name, &questions, &nics, ethtool.as_ref())
    };
    for (name, seen) in host.worker().tour(names, visit).await? {
        let node = name.strip_prefix(&ours).and_then(|node| NodeName::new(node).ok());
        let node = node.expect("filtered just above");
        match seen {
            Some(Some(seen)) => {
                if seen.unsettled {
                    view.unsettled.insert(node.clone());
                }
                view.nodes.insert(node, seen);
            }
            None if netns::stub_mark(&name).is_some_and(|text| is_stub(&text, lab, &node)) => {
                view.stubs.insert(node);
            }
            Some(None) | None => drop(view.taken.namespaces.insert(name)),
        }
    }
    for (node, from) in &questions.adopt {
        let target = adopt::target(host, questions, node, from).await?;
        view.targets.insert(node.clone(), target);
    }
    view.leases = leases::list(lab).await?;
    let life::Seen { keepers, left } = life::look(lab).await?;
    (view.keepers, view.left) = (keepers, left);
    if questions.controllers {
        view.controllers = life::controllers();
    }
    let unknown = |user: &&String| User::from_name(user).is_ok_and(|user| user.is_none());
    view.unknown_users = questions.users.iter().filter(unknown).cloned().collect();
    view.lies = questions.files.iter().map(|path| (path.clone(), laid::place(path))).collect();
    view.names = hosts::blocks().remove(lab);
    if questions.names {
        view.names_fixed = hosts::fixed();
    }
    view.unknown_sysctls = unknown_sysctls(questions);
    for ability in &questions.abilities {
        let tried = match ability {
            Ability::Cut => deaf::can(host.worker()).await?,
            Ability::Nat => doors::can(host.worker()).await?,
            Ability::Rate | Ability::Netem => tc::can_impair(host.worker(), *ability).await?,
        };
        if let Err(missing) = tried {
            view.cannot.insert(*ability, missing);
        }
    }
    Ok(view)
}

/// Waits until `nodes` can use their addresses.
pub(super) async fn settle(
    host: &LinuxHost,
    lab: &LabName,
    nodes: &BTreeSet<NodeName>,
) -> Result<(), KernelError> {
    let mut names: Vec<String> = nodes.iter().map(|node| netns_name(lab, node)).collect();
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    while let Some(first) = names.first() {
        if SETTLED_WITHIN < start.elapsed() {
            let asked = format!("use the addresses in namespace `{first}`");
            return Err(KernelError::new(asked, Errno::ETIMEDOUT));
        }
        // A socket in each of a thousand nodes would tell of a change; looking
        // again costs less, and only those that are not ready are looked at.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
        let questions = Questions::about(lab);
        let visit = move |name: &str| {
            let seen = look_inside(name, &questions, &BTreeMap::new(), None)?;
            let Some(seen) = seen.filter(|seen| seen.unsettled) else { return Ok(false) };
            hurry(&Netlink::new()?, seen.devices.keys())?;
            Ok(true)
        };
        let visited = host.worker().tour(names, visit).await?;
        names = visited
            .into_iter()
            .filter(|(_, unsettled)| unsettled.unwrap_or(false))
            .map(|(name, _)| name)
            .collect();
    }
    Ok(())
}

/// Makes the kernel take note at once of links that got their carrier: it
/// passes such news on by a worker that may be busy for a second, but asking
/// for one link does that link's part in line (`linkwatch_sync_dev`, seen with
/// kernel 6.18).
pub(crate) fn hurry<'a>(
    netlink: &Netlink,
    devices: impl Iterator<Item = &'a IfName>,
) -> Result<(), KernelError> {
    for device in devices {
        match netlink.index_of(device.as_str()) {
            // Gone meanwhile, and in no hurry any more.
            Err(error) if error.errno == Errno::ENODEV => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Whether a link is one of a pair.
pub(super) fn is_veth(link: &Link) -> bool {
    link.kind == Some(InfoKind::Veth)
}

/// Whether a file that was cut off before a namespace was behind it is of that
/// node.
fn is_stub(text: &str, lab: &LabName, node: &NodeName) -> bool {
    let adopted = AdoptMark::parse(text).is_some_and(|it| it.lab == *lab && it.node == *node);
    adopted || text == mark_of(lab, node).to_string()
}

fn mark_of(lab: &LabName, node: &NodeName) -> Mark {
    Mark { lab: lab.clone(), thing: Thing::Node(node.clone()) }
}

/// What is in the namespace of the calling thread, called `name`; nothing if
/// it does not carry the mark of that node. `nics` are the links of the
/// machine's own namespace by index.
fn look_inside(
    name: &str,
    questions: &Questions,
    nics: &BTreeMap<u32, IfName>,
    ethtool: Option<&Ethtool>,
) -> Result<Option<SeenNode>, KernelError> {
    let lab = &questions.lab;
    let node = name.split_once('.').and_then(|(_, node)| NodeName::new(node).ok());
    let Some(node) = node else { return Ok(None) };
    let netlink = Netlink::new()?;
    let links = ours_whole(&netlink, lab)?;
    let mark = Some(mark_of(lab, &node));
    let mut seen = SeenNode::default();
    let lo = links.iter().find(|link| link.name == "lo" && Mark::parse(&link.seen.alias) == mark);
    if let Some(lo) = lo {
        seen.sealed = Mark::sealed(&lo.seen.alias);
        seen.loopback = Some(lo.seen.clone());
    } else {
        seen.adopted = adopt::seen(name);
        if seen.adopted.is_none() {
            return Ok(None);
        }
    }
    look_at(&netlink, links, seen, &node, questions, nics, ethtool).map(Some)
}

/// What is in the namespace of the calling thread, which somebody else has made
/// and a node of ours is to be.
pub(super) fn look_at_others(
    questions: &Questions,
    node: &NodeName,
    adoption: SeenAdoption,
) -> Result<SeenNode, KernelError> {
    let netlink = Netlink::new()?;
    let links = links(&netlink)?;
    let seen = SeenNode { adopted: Some(adoption), ..SeenNode::default() };
    let questions = Questions { inside: true, sysctls: BTreeMap::new(), ..questions.clone() };
    look_at(&netlink, links, seen, node, &questions, &BTreeMap::new(), None)
}

fn look_at(
    netlink: &Netlink,
    links: Vec<Link>,
    mut seen: SeenNode,
    node: &NodeName,
    questions: &Questions,
    nics: &BTreeMap<u32, IfName>,
    ethtool: Option<&Ethtool>,
) -> Result<SeenNode, KernelError> {
    let (lab, others) = (&questions.lab, seen.adopted.is_some());
    let deafened = links.iter().any(|it| it.name == "lo" && it.seen.altnames.contains(deaf::NAME));
    let mut names: BTreeMap<u32, IfName> = BTreeMap::new();
    let mut all: BTreeMap<u32, IfName> = BTreeMap::new();
    for link in links {
        all.extend(IfName::new(&link.name).ok().map(|name| (link.index, name)));
        // Whoever works in a node may have made bridges and tunnels there.
        let ours = match others {
            true => adopt::is_of(&link, lab, node),
            false => link.group == group(lab) || link.is_of(lab),
        };
        let lent = AwayMark::parse(&link.seen.alias).filter(|lent| lent.lab == *lab);
        let Ok(device) = IfName::new(&link.name) else {
            seen.foreign.insert(link.name);
            continue;
        };
        if let Some(lent) = lent {
            seen.moved.insert(device.clone(), lent.nic);
        } else if let Some(macvlan) = macvlan(&link, nics).filter(|_| ours) {
            seen.macvlans.insert(device.clone(), macvlan);
        } else if !ours || link.kind != Some(InfoKind::Veth) {
            seen.foreign.insert(link.name);
            continue;
        }
        names.insert(link.index, device.clone());
        seen.devices.insert(device, link.seen);
    }
    if !questions.inside {
        return Ok(seen);
    }
    if deafened || questions.deaf.contains(node) {
        (seen.deaf, seen.cut_taken) = deaf::look(deafened)?;
    }
    addresses(netlink, &names, &mut seen)?;
    // A route to the same place is in the way of ours, whatever it leaves by.
    routes(netlink, if others { &all } else { &names }, &mut seen)?;
    seen.sysctls = read_sysctls(questions.sysctls.get(node));
    if let Some(ethtool) = ethtool {
        let mut checksums = ethtool.checksums()?;
        let ours = |device: &IfName| Some((device.clone(), checksums.remove(device.as_str())?));
        seen.checksums = seen.devices.keys().filter_map(ours).collect();
    }
    Ok(seen)
}

/// What a link is to which of `nics`, if it is a macvlan.
pub(crate) fn macvlan(link: &Link, nics: &BTreeMap<u32, IfName>) -> Option<SeenMacvlan> {
    let (mut mode, mut nic, mut elsewhere) = (None, None, false);
    for attribute in &link.message.attributes {
        match attribute {
            LinkAttribute::Link(index) => nic = nics.get(index).cloned(),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                mode = infos.iter().find_map(|info| match info {
                    LinkInfo::Data(InfoData::MacVlan(data)) => {
                        data.iter().find_map(|data| match data {
                            InfoMacVlan::Mode(mode) => Some(*mode),
                            _ => None,
                        })
                    }
                    _ => None,
                });
            }
            _ => {}
        }
    }
    let mode = match mode? {
        MacVlanMode::Private => Macvlan::Private,
        MacVlanMode::Vepa => Macvlan::Vepa,
        MacVlanMode::Passthrough => Macvlan::Passthru,
        // `source` is nobody's of ours.
        _ => Macvlan::Bridge,
    };
    Some(SeenMacvlan { nic: nic.filter(|_| elsewhere), mode })
}

fn addresses(
    netlink: &Netlink,
    names: &BTreeMap<u32, IfName>,
    seen: &mut SeenNode,
) -> Result<(), KernelError> {
    let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut with_ipv6 = BTreeSet::new();
    for message in netlink.dump(&all, "list addresses")? {
        let RouteNetlinkMessage::NewAddress(message) = message else { continue };
        let Some(device) = names.get(&message.header.index) else { continue };
        if message.header.family == AddressFamily::Inet6 {
            with_ipv6.insert(device);
        }
        let (mut ours, mut tentative, mut valid_s, mut by_router) = (false, false, u32::MAX, true);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Flags(flags) => {
                    tentative = flags.contains(AddressFlags::Tentative);
                }
                AddressAttribute::CacheInfo(times) => valid_s = times.ifa_valid,
                AddressAttribute::Protocol(protocol) => {
                    ours = u8::from(*protocol) == PROTOCOL;
                    by_router = *protocol == AddressProtocol::RouterAnnouncement;
                }
                _ => {}
            }
        }
        let Some(net) = rt::net_of(&message) else { continue };
        // The kernel gives every interface one of these by itself.
        if matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local()) && !ours {
            continue;
        }
        // A router's are for a time, and so are leased ones; before Linux 5.18 that
        // is all that tells them.
        let by = match net {
            _ if valid_s == u32::MAX => None,
            IpNet::V4(_) if ours => Some(Dynamic::Dhcp),
            IpNet::V6(_) if by_router => Some(Dynamic::Slaac),
            IpNet::V4(_) | IpNet::V6(_) => None,
        };
        if let Some(by) = by {
            let seen = seen.dynamic.entry(device.clone()).or_default();
            seen.insert(net, SeenDynamic { by, valid_s, tentative });
            continue;
        }
        // Also an address that is not tried for duplicates is tentative until a
        // worker of the kernel's has joined its solicited-node group. Without
        // carrier that worker waits.
        let carrier = seen.devices.get(device).is_some_and(|link| link.up && link.carrier);
        seen.unsettled |= ours && tentative && carrier;
        let set = if ours { &mut seen.addresses } else { &mut seen.foreign_addresses };
        set.entry(device.clone()).or_default().insert(net);
    }
    // One that has no address of it is asked why: as a rule that is because of its
    // carrier.
    let bare = names.values().filter(|device| !with_ipv6.contains(device));
    let is_off = |device: &&IfName| {
        let off = fs::read_to_string(sysctl_path(&format!("net.ipv6.conf.{device}.disable_ipv6")));
        let up = seen.devices.get(*device).is_some_and(|link| link.up);
        up && !device.as_str().contains('.') && off.is_ok_and(|off| off.trim() == "1")
    };
    seen.without_ipv6 = bare.filter(is_off).cloned().collect();
    Ok(())
}

fn routes(
    netlink: &Netlink,
    names: &BTreeMap<u32, IfName>,
    seen: &mut SeenNode,
) -> Result<(), KernelError> {
    let all = RouteNetlinkMessage::GetRoute(RouteMessage::default());
    for message in netlink.dump(&all, "list routes")? {
        let RouteNetlinkMessage::NewRoute(message) = message else { continue };
        let ours = message.header.protocol == RouteProtocol::Other(PROTOCOL);
        // One that came with a lease says from which address it leaves, and goes
        // with that.
        let is_leased = |a: &RouteAttribute| matches!(a, RouteAttribute::PrefSource(_));
        if ours && message.attributes.iter().any(is_leased) {
            continue;
        }
        let Some(route) = read_route(&message, names) else { continue };
        if ours {
            seen.routes.insert(route);
        } else {
            let by = RouteOrigin(message.header.protocol.into());
            // Of two that differ in what is not looked at, the one that would be lost.
            let known = seen.foreign_routes.entry(route).or_insert(by);
            if known.comes_again() {
                *known = by;
            }
        }
    }
    Ok(())
}

/// A unicast route of the main table through one of our devices, if it is one.
fn read_route(message: &RouteMessage, names: &BTreeMap<u32, IfName>) -> Option<KernelRoute> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let to = rt::destination(message)?;
    let (mut via, mut device, mut metric) = (None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => via = rt::ip_of(address),
            RouteAttribute::Oif(index) => device = names.get(index).cloned(),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    Some(KernelRoute { to, via, device: device?, metric })
}

/// The file of a kernel parameter (`sysctl(8)`: dots for slashes). The checks
/// of the model let no `/` and no empty part through.
pub(super) fn sysctl_path(key: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/{}", key.replace('.', "/")))
}

/// Reads kernel parameters of the namespace of the calling thread; those that
/// cannot be read are left out.
fn read_sysctls(keys: Option<&BTreeSet<String>>) -> BTreeMap<String, String> {
    let read = |key: &String| {
        let value = fs::read_to_string(sysctl_path(key)).ok()?;
        Some((key.clone(), value.trim_end().to_owned()))
    };
    keys.into_iter().flatten().filter_map(read).collect()
}

/// Parameters that were asked for and that this kernel has in no namespace:
/// an interface's are looked for at `default`.
fn unknown_sysctls(questions: &Questions) -> BTreeSet<String> {
    let known = |key: &str| {
        let mut parts: Vec<&str> = key.split('.').collect();
        if parts.len() == 5 && matches!(parts[2], "conf" | "neigh") {
            parts[3] = "default";
        }
        sysctl_path(&parts.join(".")).exists()
    };
    questions.sysctls.values().flatten().filter(|key| !known(key)).cloned().collect()
}
