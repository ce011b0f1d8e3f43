//! NICs of the machine for nodes: a child of one made in a node, or the NIC
//! itself put there and taken out again.
//!
//! Own file because here alone a device goes from one namespace to another.

use std::fs::File;
use std::os::fd::AsRawFd;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use nix::errno::Errno;

use super::error::KernelError;
use super::host::LinuxHost;
use super::netlink::Netlink;
use super::netns;
use crate::model::mark::{Mark, netns as netns_name};
use crate::model::names::LabName;
use crate::model::topology::Macvlan;
use crate::plan::{Child, Loan};

impl LinuxHost {
    /// Makes a child of a NIC in a node: born there by one request, then named,
    /// marked and raised by another. If that fails it is deleted.
    ///
    /// It is born under a name that nobody else has: some kernels (6.1) refuse one
    /// that is in use in the namespace of who asks, where `eth0` mostly is.
    ///
    /// Like `ip link add BORN link NIC netns NETNS address MAC mtu M group G type
    /// macvlan mode MODE`, and `ip -n NETNS link set BORN name DEVICE alias MARK up`.
    pub(super) async fn add_macvlan(
        &mut self,
        lab: &LabName,
        child: &Child,
    ) -> Result<(), KernelError> {
        let name = netns_name(lab, &child.node);
        let netns = netns::open(&name)?;
        let inside = self.netlink_in(&name).await?;
        let mark = Mark::parse(&child.alias);
        let born = mark.map_or_else(|| child.device.clone(), |mark| mark.device());
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(born.to_string()),
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
            // Read in the namespace of the one who asks.
            LinkAttribute::Link(self.here().index_of(child.nic.as_str())?),
            LinkAttribute::Group(child.group),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::MacVlan),
                LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode(child.mode))])),
            ]),
        ];
        message.attributes.extend(child.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        message.attributes.extend(child.mtu.map(LinkAttribute::Mtu));
        let asked = || format!("make a macvlan of `{}` in node `{}`", child.nic, child.node);
        self.here().create(RouteNetlinkMessage::NewLink(message), asked)?;
        let index = inside.index_of(born.as_str())?;
        let finished = finish(&inside, index, child);
        if finished.is_err() {
            let mut message = LinkMessage::default();
            message.header.index = index;
            let asked = || format!("delete the macvlan of `{}` again", child.nic);
            inside.change(RouteNetlinkMessage::DelLink(message), asked)?;
        }
        finished
    }

    /// Deletes a child of a NIC; one that is gone is deleted.
    ///
    /// Like `ip -n NETNS link delete DEVICE`.
    pub(super) async fn delete_macvlan(
        &mut self,
        lab: &LabName,
        child: &Child,
    ) -> Result<(), KernelError> {
        let inside = self.netlink_in(&netns_name(lab, &child.node)).await?;
        match inside.delete_link(&child.device) {
            Err(error) if error.errno == Errno::ENODEV => Ok(()),
            other => other,
        }
    }

    /// Puts a NIC into a node, under another name and with a mark that says where
    /// it belongs, by one request; then raises it there. If that fails it is taken
    /// out again.
    ///
    /// Like `ip link set NIC netns NETNS name DEVICE alias MARK`, and `ip -n NETNS
    /// link set DEVICE mtu M address MAC up`.
    pub(super) async fn lend_nic(&mut self, lab: &LabName, loan: &Loan) -> Result<(), KernelError> {
        let name = netns_name(lab, &loan.node);
        let netns = netns::open(&name)?;
        let inside = self.netlink_in(&name).await?;
        let index = self.here().index_of(loan.nic.as_str())?;
        let attributes = vec![
            LinkAttribute::NetNsFd(netns.as_raw_fd()),
            LinkAttribute::IfName(loan.device.to_string()),
            LinkAttribute::IfAlias(loan.mark.clone()),
        ];
        let asked = || format!("move `{}` into node `{}`", loan.nic, loan.node);
        send_away(self.here(), index, false, attributes, asked)?;
        let attributes = loan.mtu.map(LinkAttribute::Mtu).into_iter();
        let attributes = attributes.chain(loan.mac.map(|m| LinkAttribute::Address(m.0.to_vec())));
        let asked = || format!("raise `{}:{}`", loan.node, loan.device);
        let raised = inside.set_link(&loan.device, Some(true), attributes.collect(), asked);
        if raised.is_err() {
            self.return_nic(lab, loan).await?;
        }
        raised
    }

    /// Takes a NIC out of its node, under its name and without the mark. It is
    /// down, and nothing hangs on it; but one of which nothing else is remembered is up
    /// if it was up in the node.
    ///
    /// Like `ip -n NETNS link set DEVICE netns HOME name NIC alias ''`.
    pub(super) async fn return_nic(
        &mut self,
        lab: &LabName,
        loan: &Loan,
    ) -> Result<(), KernelError> {
        let inside = self.netlink_in(&netns_name(lab, &loan.node)).await?;
        let home = "/proc/thread-self/ns/net";
        let fail = |error| KernelError::from_io("open the machine's own namespace", &error);
        let netns = File::open(home).map_err(fail)?;
        let index = inside.index_of(loan.device.as_str())?;
        let was_up = loan.index.is_none() && is_up(&inside, index)?;
        let attributes = |at: Option<i32>| {
            let mut attributes = vec![
                LinkAttribute::NetNsFd(netns.as_raw_fd()),
                LinkAttribute::IfName(loan.nic.to_string()),
                LinkAttribute::IfAlias(String::new()),
            ];
            attributes.extend(at.map(LinkAttribute::NewIfIndex));
            attributes
        };
        let asked = || format!("move `{}` home from node `{}`", loan.nic, loan.node);
        let number = loan.index.and_then(|index| i32::try_from(index).ok());
        match send_away(&inside, index, was_up, attributes(number), asked) {
            // Somebody has its number by now.
            Err(error) if error.errno == Errno::EBUSY && number.is_some() => {
                send_away(&inside, index, was_up, attributes(None), asked)
            }
            other => other,
        }
    }
}

/// Whether the link with that index is set up.
fn is_up(netlink: &Netlink, index: u32) -> Result<bool, KernelError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let asked = || format!("look at link {index}");
    let found = netlink.get(RouteNetlinkMessage::GetLink(message), asked)?;
    let RouteNetlinkMessage::NewLink(link) = found else { return Ok(false) };
    Ok(link.header.flags.contains(LinkFlags::Up))
}

fn finish(inside: &Netlink, index: u32, child: &Child) -> Result<(), KernelError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    (message.header.change_mask, message.header.flags) = (LinkFlags::Up, LinkFlags::Up);
    message.attributes = vec![
        LinkAttribute::IfName(child.device.to_string()),
        LinkAttribute::IfAlias(child.alias.clone()),
    ];
    let asked = || format!("raise `{}:{}`", child.node, child.device);
    inside.change(RouteNetlinkMessage::SetLink(message), asked)?;
    match &child.altname {
        Some(altname) => inside.add_altname(&child.device, altname),
        None => Ok(()),
    }
}

/// Changes the link with that index, among other things its namespace, and raises it
/// there if that is to be: in one request, behind which nobody has to come.
fn send_away(
    netlink: &Netlink,
    index: u32,
    up: bool,
    attributes: Vec<LinkAttribute>,
    asked: impl FnOnce() -> String,
) -> Result<(), KernelError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if up {
        (message.header.change_mask, message.header.flags) = (LinkFlags::Up, LinkFlags::Up);
    }
    message.attributes = attributes;
    netlink.change(RouteNetlinkMessage::SetLink(message), asked)
}

fn mode(mode: Macvlan) -> MacVlanMode {
    match mode {
        Macvlan::Bridge => MacVlanMode::Bridge,
        Macvlan::Private => MacVlanMode::Private,
        Macvlan::Vepa => MacVlanMode::Vepa,
        Macvlan::Passthru => MacVlanMode::Passthrough,
    }
}
