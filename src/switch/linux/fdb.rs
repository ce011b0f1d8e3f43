//! The forwarding table of a bridge, as the kernel has it. What an entry is good
//! for is said by those who read it: the addresses of ports themselves are in it
//! beside the stations that were heard.

use std::collections::BTreeMap;

use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::kernel::KernelError;
use crate::kernel::netlink::Netlink;
use crate::model::mark::Mac;
use crate::model::names::IfName;

/// An entry of the table.
pub(super) struct Entry {
    pub(super) mac: Mac,
    pub(super) port: IfName,
    /// `None` where the bridge does not look at tags.
    pub(super) vlan: Option<u16>,
    pub(super) state: NeighbourState,
}

/// The table of the bridge with that index, of the ports that are named.
///
/// Like `bridge fdb show br BRIDGE`.
pub(super) fn entries(
    netlink: &Netlink,
    bridge: u32,
    ports: &BTreeMap<u32, IfName>,
) -> Result<Vec<Entry>, KernelError> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.attributes.push(NeighbourAttribute::Controller(bridge));
    let message = RouteNetlinkMessage::GetNeighbour(message);
    let found = netlink.dump(&message, "list what the bridges learned")?;
    let read = |message: &RouteNetlinkMessage| match message {
        RouteNetlinkMessage::NewNeighbour(entry) => read(entry, bridge, ports),
        _ => None,
    };
    Ok(found.iter().filter_map(read).collect())
}

fn read(entry: &NeighbourMessage, bridge: u32, ports: &BTreeMap<u32, IfName>) -> Option<Entry> {
    // Every bridge's entries come if the kernel does not filter.
    if !entry.attributes.contains(&NeighbourAttribute::Controller(bridge)) {
        return None;
    }
    let port = ports.get(&entry.header.ifindex)?.clone();
    let (mut mac, mut vlan) = (None, None);
    for attribute in &entry.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            NeighbourAttribute::Vlan(id) => vlan = Some(*id),
            _ => {}
        }
    }
    Some(Entry { mac: mac?, port, vlan, state: entry.header.state })
}
