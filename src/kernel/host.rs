//! The hands: each step as the requests that perform it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use async_trait::async_trait;
use ipnet::IpNet;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::Host;
use super::deaf;
use super::doors;
use super::error::{KernelError, StepError};
use super::ethtool::Ethtool;
use super::exits;
use super::hosts;
use super::leases;
use super::life;
use super::netlink::Netlink;
use super::netns;
use super::observe;
use super::rt;
use super::tc;
use super::worker::{Where, Worker};
use crate::model::life::Process;
use crate::model::mark::{Mark, Thing, netns as netns_name};
use crate::model::names::{IfName, LabName, NodeName, ProcessName};
use crate::model::topology::Dynamic;
use crate::model::world::{HostView, KernelRoute, Questions};
use crate::plan::{LinkState, Place, Step, Veth, VethEnd};

/// The number by which addresses (`IFA_PROTO`, Linux 5.18) and routes
/// (`rtm_protocol`) say that they are ours. `ip route show proto 111` lists
/// them. Numbers from 192 on and below 16 have owners
/// (`/etc/iproute2/rt_protos`).
pub const PROTOCOL: u8 = 111;

/// This machine.
#[derive(Debug)]
pub struct LinuxHost {
    worker: Worker,
    here: Netlink,
    /// Sockets in nodes, kept because the steps of one node seldom come alone.
    inside: BTreeMap<String, Netlink>,
    inside_max: usize,
    ethtool: Option<Ethtool>,
    /// The directory of the labs, in which what processes say is kept.
    labs: PathBuf,
    /// Processes that this command has started.
    run: BTreeSet<(NodeName, ProcessName)>,
}

impl LinuxHost {
    /// Takes the namespace of the calling thread for the machine's own.
    pub async fn new() -> Result<Self, KernelError> {
        super::permissions::raise_open_files();
        let worker = Worker::start()?;
        let here = worker.netlink(Where::Home).await?;
        Ok(Self {
            worker,
            here,
            inside: BTreeMap::new(),
            inside_max: sockets_max(),
            ethtool: None,
            labs: PathBuf::from("/run/ovsns/labs"),
            run: BTreeSet::new(),
        })
    }

    /// The same, where what processes of nodes say is kept below `labs`.
    pub fn keeping_logs_in(self, labs: PathBuf) -> Self {
        Self { labs, ..self }
    }

    /// The thread that enters namespaces.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    /// The socket of the machine's own namespace.
    pub fn here(&self) -> &Netlink {
        &self.here
    }

    /// The socket of the namespace called `name`.
    pub(super) async fn netlink_in(&mut self, name: &str) -> Result<Netlink, KernelError> {
        if let Some(netlink) = self.inside.get(name) {
            return Ok(netlink.clone());
        }
        if self.inside_max <= self.inside.len() {
            self.inside.clear();
        }
        let netlink = self.worker.netlink(Where::In(netns::open(name)?)).await?;
        self.inside.insert(name.to_owned(), netlink.clone());
        Ok(netlink)
    }

    /// Closes the socket of the namespace called `name`.
    pub(super) fn forget_socket(&mut self, name: &str) {
        self.inside.remove(name);
    }

    /// The kernel's `ethtool`, looked for when it is first needed.
    pub(super) fn ethtool(&mut self) -> Result<Ethtool, KernelError> {
        match self.ethtool {
            Some(ref ethtool) => Ok(ethtool.clone()),
            None => Ok(self.ethtool.insert(Ethtool::find()?).clone()),
        }
    }

    async fn netlink_at(&mut self, lab: &LabName, at: &Place) -> Result<Netlink, KernelError> {
        match at {
            Place::Host => Ok(self.here.clone()),
            Place::Node(node) => self.netlink_in(&netns_name(lab, node)).await,
        }
    }

    async fn do_step(&mut self, lab: &LabName, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::AddNode { node } => self.add_node(lab, node).await,
            Step::DeleteNode { node } => self.delete_node(lab, node),
            Step::SealNode { node, after, .. } => {
                let mark = Mark { lab: lab.clone(), thing: Thing::Node(node.clone()) };
                let netlink = self.netlink_in(&netns_name(lab, node)).await?;
                mark_loopback(&netlink, &mark.of_node(*after))
            }
            Step::AdoptNode { node, from, netns } => self.adopt_node(lab, node, from, *netns).await,
            Step::LeaveNode { node, .. } => self.leave_node(lab, node).await,
            Step::AddVeth(veth) => self.add_veth(lab, veth).await,
            Step::DeleteVeth(veth) => {
                let [end, _] = &veth.ends;
                self.delete_end(lab, &end.at, &end.device).await
            }
            Step::DeleteEnd { at, device } => self.delete_end(lab, at, device).await,
            Step::AddMacvlan(child) => self.add_macvlan(lab, child).await,
            Step::DeleteMacvlan(child) => self.delete_macvlan(lab, child).await,
            Step::LendNic(loan) => self.lend_nic(lab, loan).await,
            Step::ReturnNic(loan) => self.return_nic(lab, loan).await,
            Step::SweepLinks { group, devices } => self.sweep(*group, devices),
            Step::SetLink { at, device, before, after } => {
                let netlink = self.netlink_at(lab, at).await?;
                set_link(&netlink, device, before, after)
            }
            Step::Impair { at, device, after, .. } => {
                tc::egress::impair(&self.netlink_at(lab, at).await?, device, after)
            }
            Step::Cut { node, after, .. } => {
                let place = Where::In(netns::open(&netns_name(lab, node))?);
                let after = after.clone();
                self.worker.inside(place, move || deaf::set(after.as_ref())).await?
            }
            Step::AddAltname { at, device, altname } => {
                self.netlink_at(lab, at).await?.add_altname(device, altname)
            }
            Step::AddAddress { node, device, address } => {
                let netlink = self.netlink_in(&netns_name(lab, node)).await?;
                let message = address_message(netlink.index_of(device.as_str())?, *address);
                let asked = || format!("give `{node}:{device}` the address `{address}`");
                netlink.create(RouteNetlinkMessage::NewAddress(message), asked)
            }
            Step::DeleteAddress { node, device, address } => {
                let netlink = self.netlink_in(&netns_name(lab, node)).await?;
                let message = address_message(netlink.index_of(device.as_str())?, *address);
                let asked = || format!("take the address `{address}` off `{node}:{device}`");
                netlink.change(RouteNetlinkMessage::DelAddress(message), asked)
            }
            Step::HoldLease { node, device } => leases::hold(lab, node, device).await,
            Step::EndLease { node, device } => leases::end(lab, node, device).await,
            Step::StartKeeper { node, room, limits } => {
                life::start(lab, node, room, limits, &self.labs).await
            }
            Step::EndKeeper { node, life } => {
                life::end(lab, node).await?;
                // What was said before a keeper was killed may tell why.
                if life.is_some() {
                    life::forget(lab, node, &self.labs)?;
                }
                Ok(())
            }
            Step::SetLimits { node, before: _, after } => life::limit(lab, node, after),
            Step::RenameNode { node, before: _, after } => life::rename(lab, node, after).await,
            Step::LayFile { node, path, before: _, after } => {
                life::lay(lab, node, path, after).await
            }
            Step::WriteNames { before: _, after } => hosts::write(lab, after.as_deref()).await,
            Step::LiftFile { node, path, .. } => life::lift(lab, node, path).await,
            Step::RunProcess { node, process } => self.run_process(lab, node, process).await,
            Step::StopProcess { node, process } => life::stop(lab, node, &process.name).await,
            Step::AwaitAddress { node, device, by: Dynamic::Dhcp } => {
                leases::await_lease(lab, node, device).await
            }
            Step::AwaitAddress { node, device, by: Dynamic::Slaac } => {
                let netns = netns_name(lab, node);
                leases::await_router(&self.worker, &netns, &format!("{node}:{device}"), device)
                    .await
            }
            Step::AddRoute { node, route } => {
                let netlink = self.netlink_in(&netns_name(lab, node)).await?;
                let index = netlink.index_of(route.device.as_str())?;
                let asked = || format!("add the route to `{}` in node `{node}`", route.to);
                let message = RouteNetlinkMessage::NewRoute(route_message(index, route));
                netlink.create(message, asked)
            }
            Step::DeleteRoute { node, route } => {
                let netlink = self.netlink_in(&netns_name(lab, node)).await?;
                let index = netlink.index_of(route.device.as_str())?;
                let asked = || format!("delete the route to `{}` in node `{node}`", route.to);
                let message = RouteNetlinkMessage::DelRoute(route_message(index, route));
                netlink.change(message, asked)
            }
            Step::SetGateway { device, before, after } => {
                exits::set(self, device, before, after).await
            }
            Step::SetDoors { after, .. } => {
                let (lab, after) = (lab.clone(), after.clone());
                self.worker.inside(Where::Home, move || doors::set(&lab, after.as_ref())).await?
            }
            Step::SetSysctl { node, key, after, .. } => {
                let place = Where::In(netns::open(&netns_name(lab, node))?);
                let (key, value) = (key.clone(), after.clone());
                self.worker.inside(place, move || write_sysctl(&key, &value)).await?
            }
            Step::SetChecksums { node, device, after, .. } => {
                let place = Where::In(netns::open(&netns_name(lab, node))?);
                let (ethtool, device, leave) = (self.ethtool()?, device.clone(), *after);
                // One request a node, as a rule: a socket is not worth keeping.
                self.worker.inside(place, move || ethtool.set_checksums(&device, leave)).await?
            }
        }
    }

    /// Has a process run. One that was ready once and has failed since is told of,
    /// and not started again and again.
    async fn run_process(
        &mut self,
        lab: &LabName,
        node: &NodeName,
        process: &Process,
    ) -> Result<(), KernelError> {
        if !self.run.insert((node.clone(), process.name.clone()))
            && let Some(failed) = life::failed(lab, node, &process.name, &self.labs).await?
        {
            return Err(failed);
        }
        life::run(lab, node, process).await
    }

    /// Makes a namespace and names it when it is marked: a process killed
    /// before that leaves nothing, since a namespace without a name ends with
    /// its last process.
    ///
    /// Like `ip netns add NETNS; ip -n NETNS link set lo up alias MARK`.
    async fn add_node(&mut self, lab: &LabName, node: &NodeName) -> Result<(), KernelError> {
        netns::prepare()?;
        let name = netns_name(lab, node);
        let mark = Mark { lab: lab.clone(), thing: Thing::Node(node.clone()) }.to_string();
        let marked = self
            .worker
            .inside(Where::Fresh, {
                let (name, mark) = (name.clone(), mark.clone());
                move || -> Result<Netlink, KernelError> {
                    let netlink = Netlink::new()?;
                    mark_loopback(&netlink, &mark)?;
                    netns::name_mine(&name, &mark)?;
                    Ok(netlink)
                }
            })
            .await??;
        if self.inside_max <= self.inside.len() {
            self.inside.clear();
        }
        self.inside.insert(name, marked);
        Ok(())
    }

    /// Takes a node's name away. Its links in the machine's own namespace are
    /// deleted by other steps, because a process that is still inside would
    /// keep them alive.
    ///
    /// Like `ip netns delete NETNS`.
    fn delete_node(&mut self, lab: &LabName, node: &NodeName) -> Result<(), KernelError> {
        let name = netns_name(lab, node);
        self.inside.remove(&name);
        netns::delete(&name)
    }

    /// Makes a pair of links, each end born in its place with its name, its
    /// address and the lab's group, and marks both. If a mark cannot be set
    /// the pair is deleted.
    ///
    /// Like `ip link add A address MAC group G mtu M type veth peer name B
    /// address MAC mtu M netns NETNS`, `ip link set A alias MARK` and `ip link
    /// property add dev A altname NAME`.
    async fn add_veth(&mut self, lab: &LabName, veth: &Veth) -> Result<(), KernelError> {
        let [first, second] = &veth.ends;
        let at_first = self.netlink_at(lab, &first.at).await?;
        // The peer's namespace by file: it may never have met the first's.
        let netns = match &second.at {
            Place::Node(node) => Some(netns::open(&netns_name(lab, node))?),
            Place::Host => None,
        };
        let mut peer = end_message(veth, second, false);
        peer.attributes.extend(netns.as_ref().map(|n| LinkAttribute::NetNsFd(n.as_raw_fd())));
        let mut message = end_message(veth, first, veth.born(0).up);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let asked = || format!("make link `{}`", veth.link);
        at_first.create(RouteNetlinkMessage::NewLink(message), asked)?;
        let marked = async {
            let at_second = self.netlink_at(lab, &second.at).await?;
            mark_end(&at_first, first)?;
            mark_end(&at_second, second)
        };
        if let Err(error) = marked.await {
            at_first.delete_link(&first.device)?;
            return Err(error);
        }
        Ok(())
    }

    /// Deletes one end of a pair, and the other with it. One that is gone
    /// already was taken along by its other end, or by the end of a namespace,
    /// which comes in the kernel's own time.
    ///
    /// Like `ip link delete DEVICE`.
    async fn delete_end(
        &mut self,
        lab: &LabName,
        at: &Place,
        device: &IfName,
    ) -> Result<(), KernelError> {
        match self.netlink_at(lab, at).await?.delete_link(device) {
            Err(error) if error.errno == Errno::ENODEV => Ok(()),
            other => other,
        }
    }

    /// Deletes all links of a group with one request: each costs a third of a
    /// millisecond so, and 18 one by one, because the kernel waits for its
    /// readers once (kernel 6.18, 1000 links).
    ///
    /// Like `ip link delete group GROUP`.
    fn sweep(&mut self, group: u32, devices: &[IfName]) -> Result<(), KernelError> {
        let links = observe::links(&self.here)?;
        // Somebody may have put a link of theirs into our group; then it is
        // one by one, and theirs stays.
        let strangers = links
            .iter()
            .any(|link| link.group == group && !devices.iter().any(|d| d.as_str() == link.name));
        if strangers {
            for device in devices {
                match self.here.delete_link(device) {
                    // Its other end was deleted before it.
                    Err(error) if error.errno == Errno::ENODEV => {}
                    other => other?,
                }
            }
            return Ok(());
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        let asked = || format!("delete the links of group {group:#x}");
        match self.here.change(RouteNetlinkMessage::DelLink(message), asked) {
            // All gone already.
            Err(error) if error.errno == Errno::ENODEV => {}
            other => other?,
        }
        // One that somebody moved out of the group is ours all the same.
        let moved = links.iter().filter(|link| link.group != group);
        for device in moved.filter_map(|link| devices.iter().find(|d| d.as_str() == link.name)) {
            match self.here.delete_link(device) {
                Err(error) if error.errno == Errno::ENODEV => {}
                other => other?,
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Host for LinuxHost {
    async fn observe(&mut self, questions: &Questions) -> Result<HostView, KernelError> {
        observe::lab(self, questions).await
    }

    async fn settle(
        &mut self,
        lab: &LabName,
        nodes: &BTreeSet<NodeName>,
    ) -> Result<(), KernelError> {
        observe::settle(self, lab, nodes).await
    }

    async fn labs(&mut self) -> Result<BTreeSet<LabName>, KernelError> {
        observe::labs(self).await
    }

    async fn orphans(&mut self) -> Result<Vec<String>, KernelError> {
        let orphans = observe::links(&self.here)?.into_iter().filter(observe::Link::is_orphan);
        Ok(orphans.map(|link| link.name).collect())
    }

    async fn delete_orphans(&mut self) -> Result<Vec<String>, KernelError> {
        let mut deleted = Vec::new();
        for name in self.orphans().await? {
            let device = IfName::new(&name).expect("an orphan's name is one of ours");
            match self.here.delete_link(&device) {
                // Its other end was deleted before it.
                Err(error) if error.errno == Errno::ENODEV => {}
                other => other?,
            }
            deleted.push(name);
        }
        Ok(deleted)
    }

    async fn perform(&mut self, lab: &LabName, step: &Step) -> Result<(), StepError> {
        self.do_step(lab, step)
            .await
            .map_err(|cause| StepError { what: format!("`{}` failed", step.line(lab)), cause })
    }
}

/// How many sockets in nodes are kept open: half of what the process may have.
fn sockets_max() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft / 2).unwrap_or(usize::MAX).clamp(1, 65_536)
}

/// Writes a kernel parameter of the namespace of the calling thread.
///
/// Like `sysctl -w KEY=VALUE`.
fn write_sysctl(key: &str, value: &str) -> Result<(), KernelError> {
    fs::write(observe::sysctl_path(key), value).map_err(|e: io::Error| {
        KernelError::from_io(format!("set kernel parameter `{key}` to `{value}`"), &e)
    })
}

/// Raises the loopback of the calling thread's namespace with our mark as its
/// alias.
fn mark_loopback(netlink: &Netlink, mark: &str) -> Result<(), KernelError> {
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes.push(LinkAttribute::IfName("lo".into()));
    link.attributes.push(LinkAttribute::IfAlias(mark.to_owned()));
    let message = RouteNetlinkMessage::SetLink(link);
    netlink.change(message, || "mark the loopback of a node".to_owned())
}

/// One end of a pair, as it is born.
fn end_message(veth: &Veth, end: &VethEnd, up: bool) -> LinkMessage {
    let mut message = LinkMessage::default();
    if up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes = vec![
        LinkAttribute::IfName(end.device.to_string()),
        LinkAttribute::Address(end.mac.0.to_vec()),
        LinkAttribute::Mtu(veth.mtu),
        LinkAttribute::Group(veth.group),
    ];
    message
}

/// Sets an end's alias and altname. The alias is not honoured in the request
/// that makes a link (kernel 6.18), nor is an altname.
fn mark_end(netlink: &Netlink, end: &VethEnd) -> Result<(), KernelError> {
    let alias = vec![LinkAttribute::IfAlias(end.alias.clone())];
    netlink.set_link(&end.device, None, alias, || format!("mark device `{}`", end.device))?;
    match &end.altname {
        Some(altname) => netlink.add_altname(&end.device, altname),
        None => Ok(()),
    }
}

/// Like `ip link set DEVICE up|down mtu MTU address MAC alias MARK`, with what
/// differs.
fn set_link(
    netlink: &Netlink,
    device: &IfName,
    before: &LinkState,
    after: &LinkState,
) -> Result<(), KernelError> {
    let mut attributes = Vec::new();
    if before.mtu != after.mtu {
        attributes.push(LinkAttribute::Mtu(after.mtu));
    }
    if before.mac != after.mac {
        attributes.push(LinkAttribute::Address(after.mac.0.to_vec()));
    }
    if before.alias != after.alias {
        attributes.push(LinkAttribute::IfAlias(after.alias.clone()));
    }
    let flags = (before.up != after.up).then_some(after.up);
    netlink.set_link(device, flags, attributes, || format!("change device `{device}`"))
}

/// Like `ip address add ADDRESS dev DEVICE broadcast + nodad proto 111`.
pub(super) fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = address.prefix_len();
    message.attributes = vec![
        AddressAttribute::Address(address.addr()),
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Protocol(AddressProtocol::from(PROTOCOL)),
    ];
    match address {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            if net.prefix_len() < 31 {
                message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
            }
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

/// Like `ip route add TO via VIA dev DEVICE metric METRIC proto 111`.
pub(super) fn route_message(index: u32, route: &KernelRoute) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: rt::family_of(route.to.addr()).0,
        destination_prefix_length: route.to.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(PROTOCOL),
        scope: match (route.via, route.to) {
            (None, IpNet::V4(_)) => RouteScope::Link,
            _ => RouteScope::Universe,
        },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Oif(index));
    let everywhere = route.to.prefix_len() == 0;
    if !everywhere {
        message.attributes.push(RouteAttribute::Destination(rt::route_address(route.to.network())));
    }
    message.attributes.extend(route.via.map(|via| RouteAttribute::Gateway(rt::route_address(via))));
    let zero = route.metric == 0 && route.to.addr() == IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if !zero {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}
