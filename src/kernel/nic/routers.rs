//! Routes that the kernel has from routers' advertisements (`proto ra`).
//!
//! Nobody but the kernel can enter such a route so that it knows it as its own
//! again. One that was moved like any other stands in its way: it finds no default
//! route of its own, cannot enter one beside that which is there, and leaves the
//! rest of each advertisement unread, so that addresses are not renewed any more
//! and end with their time (`ndisc_router_discovery`; seen with Linux 6.18). So it
//! is moved with another metric, and goes when the kernel has its own.

use std::fs;
use std::time::{Duration, Instant};

use netlink_packet_core::NLM_F_ACK;
use nix::errno::Errno;

use super::{read, wire};
use crate::kernel::error::KernelError;
use crate::kernel::leases::Asking;
use crate::kernel::netlink::Netlink;
use crate::kernel::raw::Raw;
use crate::model::names::IfName;
use crate::model::nic::NicRoute;

/// The metric of such routes, where no parameter says another.
const METRIC: u32 = 1024;
/// How long routers are asked: they answer within half a second. One that does
/// not is heard later.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

/// Whether the kernel makes routes of what routers tell a device. Where it does
/// not, another program has made them.
pub(super) fn are_heard(device: &IfName) -> bool {
    read_parameter(device, "ipv6.accept_ra").is_some_and(|value| value != "0")
}

/// Whether a route is one that the kernel made of that.
pub(super) fn is_advertised(route: &NicRoute) -> bool {
    route.protocol == NicRoute::ADVERTISED && !route.via.is_empty()
}

/// The metric with which such a route stands aside.
pub(super) fn aside(route: &NicRoute) -> u32 {
    route.metric + 1
}

/// Awaits that the kernel has its own of the routes that stand aside, and takes
/// those away.
pub(super) async fn hear(netlink: &Netlink, device: &IfName) -> Result<(), KernelError> {
    if !are_heard(device) {
        return Ok(());
    }
    let metric = read_parameter(device, "ipv6.ra_defrtr_metric");
    let metric = metric.and_then(|text| text.parse().ok()).filter(|metric| *metric != 0);
    let metric = metric.unwrap_or(METRIC);
    let index = netlink.index_of(device.as_str())?;
    let mut asking = None;
    let start = Instant::now();
    loop {
        let advertised: Vec<NicRoute> =
            read::nic(netlink, device)?.routes.into_iter().filter(is_advertised).collect();
        let (own, aside): (Vec<_>, Vec<_>) = advertised
            .into_iter()
            .partition(|route| matches!(route.metric, m if m == metric || m == METRIC));
        let is_there =
            |route: &NicRoute| own.iter().any(|own| own.to == route.to && own.via == route.via);
        let (done, left): (Vec<_>, Vec<_>) = aside.into_iter().partition(is_there);
        for route in done {
            let bytes = wire::route_for(&route, index, index);
            let asked = || format!("delete the route {route} that stands aside");
            match netlink.raw(Raw { kind: wire::RTM_DELROUTE, bytes }, NLM_F_ACK, asked) {
                Err(error) if error.errno == Errno::ESRCH => {}
                other => drop(other?),
            }
        }
        if left.is_empty() || HEARD_WITHIN < start.elapsed() {
            return Ok(());
        }
        let asking = match &mut asking {
            Some(asking) => asking,
            none => none.insert(Asking::new(index)?),
        };
        asking.ask().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn read_parameter(device: &IfName, key: &str) -> Option<String> {
    let value = fs::read_to_string(read::parameter_path(device, key)?).ok()?;
    Some(value.trim_end().to_owned())
}
