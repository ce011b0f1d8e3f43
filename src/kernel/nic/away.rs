//! NICs of the machine, and children of them, in other namespaces: who has
//! some, and where one is that does not come home by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::hands::NicHands;
use super::{read, wire};
use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::raw::Raw;
use crate::kernel::worker::Where;
use crate::kernel::{netns, observe};
use crate::model::names::IfName;
use crate::model::nic::{Nic, NicRoute};
use crate::model::topology::Macvlan;
use crate::plan::attach::Belongings;

impl NicHands {
    /// Children of the link with that index in named namespaces: where, and what
    /// they hear. Changes nothing.
    ///
    /// Like `ip -all netns exec ip -d link show type macvlan`.
    pub async fn children(&self, nic: u32) -> Result<Vec<(String, Macvlan)>, KernelError> {
        let visit = move |_: &str| -> Result<Vec<(String, Macvlan)>, KernelError> {
            let known = BTreeMap::from([(nic, IfName::new("nic").expect("a good name"))]);
            let links = observe::links(&Netlink::new()?)?;
            let child = |link: &observe::Link| {
                let macvlan = observe::macvlan(link, &known).filter(|m| m.nic.is_some());
                Some((link.name.clone(), macvlan?.mode))
            };
            Ok(links.iter().filter_map(child).collect())
        };
        let mut found = Vec::new();
        for (name, seen) in self.worker.tour(netns::list()?, visit).await? {
            let seen = seen.into_iter().flatten();
            found.extend(seen.map(|(device, mode)| (format!("{name}:{device}"), mode)));
        }
        Ok(found)
    }

    /// All that a NIC would lose if it went. Changes nothing.
    pub fn belongings(&mut self, device: &IfName) -> Result<Belongings, KernelError> {
        // Whether it has carrier is told late of one that was raised just now.
        observe::hurry(&self.netlink, [device].into_iter())?;
        let nic = self.read(device)?;
        let parameters = read::all_parameters(device);
        let by_hops = self.routes_by_hops(&nic)?;
        Ok(Belongings { nic, parameters, by_hops })
    }

    /// The routes that leave by a NIC's nexthop objects.
    ///
    /// Like `ip route show table all`, those with `nhid`.
    fn routes_by_hops(&self, nic: &Nic) -> Result<Vec<NicRoute>, KernelError> {
        let hops = nic.hops.iter().map(|hop| hop.id).collect();
        let mut routes = Vec::new();
        for family in [wire::AF_INET, wire::AF_INET6] {
            let header = [&[family], &[0; 11][..]].concat();
            let message = Raw::new(wire::RTM_GETROUTE, &header, &[]);
            let all = self.netlink.raw_dump(&message, "list routes")?;
            routes.extend(all.iter().filter_map(|raw| wire::route_by_hop(raw, &hops)));
        }
        Ok(routes)
    }

    /// The device in the machine's own namespace with that alias. Changes
    /// nothing.
    pub fn called(&self, alias: &str) -> Result<Option<IfName>, KernelError> {
        let links = observe::links(&self.netlink)?;
        let link = links.iter().find(|link| link.seen.alias == alias);
        Ok(link.and_then(|link| IfName::new(&link.name).ok()))
    }

    /// Fetches a device with that alias from whatever namespace a process is in,
    /// which has no name any more. Says whether there was one.
    pub async fn fetch(&self, alias: &str) -> Result<bool, KernelError> {
        let fail = |error| KernelError::from_io("open the machine's own namespace", &error);
        let home = File::open("/proc/thread-self/ns/net").map_err(fail)?;
        let mut looked_at = BTreeSet::new();
        looked_at.extend(fs::read_link("/proc/thread-self/ns/net").ok());
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let path = entry.path().join("ns/net");
            // It may have ended just now.
            let (Ok(which), Ok(netns)) = (fs::read_link(&path), File::open(&path)) else {
                continue;
            };
            if !looked_at.insert(which) {
                continue;
            }
            let inside = self.worker.netlink(Where::In(netns)).await?;
            let links = observe::links(&inside)?;
            let Some(link) = links.iter().find(|link| link.seen.alias == alias) else { continue };
            let mut message = LinkMessage::default();
            message.header.index = link.index;
            message.attributes.push(LinkAttribute::NetNsFd(home.as_raw_fd()));
            // Where its name is taken.
            message.attributes.push(LinkAttribute::IfName("ovsns%d".to_owned()));
            let asked = || format!("fetch `{}` from a namespace without a name", link.name);
            inside.change(RouteNetlinkMessage::SetLink(message), asked)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Gives a device of nobody's its name back.
    ///
    /// Like `ip link set dev FROM down name TO`.
    pub(super) fn rename(&self, from: &IfName, to: &IfName) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.header.index = self.netlink.index_of(from.as_str())?;
        message.attributes.push(LinkAttribute::IfName(to.to_string()));
        let asked = || format!("call `{from}` `{to}` again");
        self.netlink.change(RouteNetlinkMessage::SetLink(message), asked)
    }
}
