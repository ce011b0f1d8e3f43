//! The neighbours of nodes: what they knew before they asked, and how they forget
//! what they have learned by it, so that the table that all namespaces share has
//! room for the next who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::super::error::KernelError;
use super::super::netlink::Netlink;
use super::super::raw::{Raw, attribute};
use super::super::worker::Worker;

/// `RTM_DELNEIGH` and `NDA_DST` of rtnetlink(7).
const DELETE: u16 = 29;
const DESTINATION: u16 = 1;

/// Who is known: behind which device, at which address.
type Known = BTreeSet<(u32, IpAddr)>;

/// Whom nodes know, by the namespace.
pub(super) async fn known(
    worker: &Worker,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, Known>, KernelError> {
    let names = names.iter().copied().map(str::to_owned).collect();
    let seen = worker.tour(names, |_| learned(&Netlink::new()?)).await?;
    Ok(seen.into_iter().filter_map(|(name, known)| Some((name, known?))).collect())
}

/// Has nodes know those neighbours, and none that the kernel has learned since.
///
/// Like `ip -n NETNS neigh del ADDRESS dev DEVICE`.
pub(super) async fn know_only(
    worker: &Worker,
    before: BTreeMap<String, Known>,
) -> Result<(), KernelError> {
    let names = before.keys().cloned().collect();
    let forget = move |name: &str| {
        let netlink = Netlink::new()?;
        let learned = learned(&netlink)?;
        let new: Vec<_> = learned.difference(&before[name]).collect();
        let messages: Vec<_> = new.iter().map(|it| (delete(it.0, it.1), NLM_F_ACK)).collect();
        let asked = |place: usize| format!("forget neighbour `{}` in `{name}`", new[place].1);
        let refused = netlink.burst(&messages, asked)?;
        // The kernel has forgotten it by itself, or its device is gone.
        let gone = |errno| matches!(errno, Errno::ENOENT | Errno::ENODEV | Errno::ENXIO);
        refused.into_values().find(|error| !gone(error.errno)).map_or(Ok(()), Err)
    };
    worker.tour(names, forget).await.map(drop)
}

/// Whom this namespace knows because somebody asked or was asked; not what was
/// written by hand.
fn learned(netlink: &Netlink) -> Result<Known, KernelError> {
    let mut found = Known::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        let all = RouteNetlinkMessage::GetNeighbour(message);
        for message in netlink.dump(&all, "list neighbours")? {
            let RouteNetlinkMessage::NewNeighbour(message) = message else { continue };
            let header = &message.header;
            if matches!(header.state, NeighbourState::Permanent | NeighbourState::Noarp)
                || header.flags.intersects(NeighbourFlags::ExtLearned | NeighbourFlags::Proxy)
            {
                continue;
            }
            found.extend(message.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    Some((header.ifindex, IpAddr::V4(*v4)))
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    Some((header.ifindex, IpAddr::V6(*v6)))
                }
                _ => None,
            }));
        }
    }
    Ok(found)
}

fn delete(device: u32, address: IpAddr) -> Raw {
    // struct ndmsg: family, padding, device, then state, flags and kind.
    let mut header = [0; 12];
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AddressFamily::Inet6, v6.octets().to_vec()),
    };
    header[0] = u8::from(family);
    header[4..8].copy_from_slice(&device.to_ne_bytes());
    Raw::new(DELETE, &header, &[attribute(DESTINATION, &bytes)])
}
