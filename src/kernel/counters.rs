//! What the devices of several namespaces have counted, now: Open vSwitch writes
//! it into its database every 5 s at best.
//!
//! The counters are of 64 bits (`IFLA_STATS64`) and do not come round: at 100 Gbit/s
//! that takes 46 years. One that counts less than before was made anew.

use std::collections::BTreeMap;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::error::KernelError;
use super::netlink::Netlink;
use super::worker::Worker;

/// What a device has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Frames that came in, and their bytes.
    pub received: (u64, u64),
    /// Frames that went out, and their bytes.
    pub sent: (u64, u64),
    /// Frames dropped, either way.
    pub dropped: u64,
    /// Frames that were broken, either way.
    pub errors: u64,
    /// Whether it is up and has carrier.
    pub up: bool,
    /// Its number, and that of what it is plugged into: one that was made again, or is
    /// plugged in elsewhere, has others.
    pub place: (u32, u32),
}

/// The devices of the machine's own namespace, and of those that are named, each
/// by its namespace (empty for the machine's own) and its name. A namespace that
/// is gone has none. A socket that stayed open would keep one that is to go.
///
/// Like `ip -s link show`, in each.
pub async fn all(
    worker: &Worker,
    home: &Netlink,
    namespaces: Vec<String>,
) -> Result<BTreeMap<(String, String), Counted>, KernelError> {
    let here = read(home)?;
    let mut all: BTreeMap<_, _> =
        here.into_iter().map(|(name, it)| ((String::new(), name), it)).collect();
    for (namespace, seen) in worker.tour(namespaces, |_| read(&Netlink::new()?)).await? {
        let seen = seen.into_iter().flatten();
        all.extend(seen.map(|(name, it)| ((namespace.clone(), name), it)));
    }
    Ok(all)
}

fn read(netlink: &Netlink) -> Result<Vec<(String, Counted)>, KernelError> {
    let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let links = netlink.dump(&all, "list links with what they counted")?;
    let counted = links.into_iter().filter_map(|message| {
        let RouteNetlinkMessage::NewLink(link) = message else { return None };
        let (mut name, mut counted) = (None, Counted::default());
        let up = link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(it) => name = Some(it),
                LinkAttribute::Controller(it) => counted.place.1 = it,
                LinkAttribute::Stats64(it) => {
                    counted = Counted {
                        received: (it.rx_packets, it.rx_bytes),
                        sent: (it.tx_packets, it.tx_bytes),
                        dropped: it.rx_dropped + it.tx_dropped,
                        errors: it.rx_errors + it.tx_errors,
                        ..counted
                    };
                }
                _ => {}
            }
        }
        Some((name?, Counted { up, place: (link.header.index, counted.place.1), ..counted }))
    });
    Ok(counted.collect())
}
