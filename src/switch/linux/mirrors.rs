//! Mirrors and policing at the ports of a bridge, by the kernel's traffic
//! control (`kernel::tc`).
//!
//! A mirror is a filter at every port that it copies. One of all frames is at
//! the bridge's own device as well, for what the machine itself sends, and by
//! that it is known again. The port that gets the copies is set apart, as Open
//! vSwitch does it: it gets nothing else, and what comes in there is dropped.
//! The bridge has no word for that but these together:
//!
//! - `proxy_arp` keeps all that is flooded from it, also what the machine
//!   itself sends (the flags for flooding let that pass);
//! - without `learning`, and with what was learned forgotten, nothing is sent
//!   to it alone;
//! - `locked` drops what comes in (Linux 5.18; an older kernel lets it in).
//!
//! Some things are other than on Open vSwitch:
//!
//! - Where there is a spanning tree the port takes part in it, and its frames
//!   go out there.
//! - A frame is copied at each port of a mirror that it passes: twice where it
//!   comes in at one of `from` and goes out at one of `to`, and a flooded one
//!   for each of `to`. A mirror of all copies every frame once, as it comes in.
//! - Of two mirrors with one output each shows a frame there.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkInfo, LinkMessage,
};
use nix::errno::Errno;

use super::port_infos;
use crate::kernel::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::observe::{self, Link};
use crate::kernel::tc::{self, Direction, Rules};
use crate::model::names::IfName;
use crate::model::topology::Policing;
use crate::model::world::{MirrorSpec, SeenSwitch, SwitchSpec};

/// Where a filter of a mirror is.
type Place = (IfName, Direction);

fn places(mirror: &MirrorSpec) -> Vec<Place> {
    let at = |direction| move |port: &IfName| (port.clone(), direction);
    let mut places: Vec<Place> = mirror.from.iter().map(at(Direction::In)).collect();
    places.extend(mirror.to.iter().map(at(Direction::Out)));
    // What the machine sends leaves by the bridge's device.
    places.extend(mirror.all.then(|| (mirror.bridge.clone(), Direction::Out)));
    places
}

/// Like `tc filter add dev PORT ingress|egress matchall action mirred egress
/// mirror dev OUTPUT continue` for each port, and `ip link set OUTPUT type
/// bridge_slave learning off flood off mcast_flood off bcast_flood off
/// proxy_arp on locked on fdb_flush`.
pub(super) fn add(netlink: &Netlink, mirror: &MirrorSpec) -> Result<(), KernelError> {
    at_each(&places(mirror), &|place| add_at(netlink, mirror, place), &|place| {
        delete_at(netlink, mirror, place)
    })?;
    // Last, so that no port is set apart and nothing says why.
    if let Err(error) = set_apart(netlink, &mirror.output, true) {
        places(mirror).iter().try_for_each(|place| delete_at(netlink, mirror, place))?;
        return Err(error);
    }
    Ok(())
}

/// The other way round.
pub(super) fn delete(netlink: &Netlink, mirror: &MirrorSpec) -> Result<(), KernelError> {
    let was_apart = mirror.output != mirror.bridge && !others_show_there(netlink, mirror)?;
    if was_apart {
        set_apart(netlink, &mirror.output, false)?;
    }
    let deleted = at_each(&places(mirror), &|place| delete_at(netlink, mirror, place), &|place| {
        add_at(netlink, mirror, place)
    });
    if deleted.is_err() && was_apart {
        set_apart(netlink, &mirror.output, true)?;
    }
    deleted
}

/// Does something at all of `places`, or at none.
fn at_each(
    places: &[Place],
    act: &dyn Fn(&Place) -> Result<(), KernelError>,
    back: &dyn Fn(&Place) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    for (done, place) in places.iter().enumerate() {
        if let Err(error) = act(place) {
            places[..done].iter().rev().try_for_each(back)?;
            return Err(error);
        }
    }
    Ok(())
}

fn add_at(netlink: &Netlink, mirror: &MirrorSpec, place: &Place) -> Result<(), KernelError> {
    let (device, direction) = place;
    let name = mirror.name.as_str();
    match tc::add_mirror(netlink, device, name, *direction, &mirror.output) {
        // Somebody pulled the port, and with it what was set there.
        Err(error) if error.errno == Errno::EEXIST => {
            tc::delete_mirror(netlink, device, name, *direction)?;
            tc::add_mirror(netlink, device, name, *direction, &mirror.output)
        }
        other => other,
    }
}

fn delete_at(netlink: &Netlink, mirror: &MirrorSpec, place: &Place) -> Result<(), KernelError> {
    let (device, direction) = place;
    tc::delete_mirror(netlink, device, mirror.name.as_str(), *direction)
}

/// Whether another mirror has the same output.
fn others_show_there(netlink: &Netlink, mirror: &MirrorSpec) -> Result<bool, KernelError> {
    let links = observe::links(netlink)?;
    let bridge = links.iter().find(|link| link.name == mirror.bridge.as_str());
    let Some(bridge) = bridge.map(|bridge| bridge.index) else { return Ok(false) };
    let of_bridge = |link: &&Link| link.index == bridge || link.master == Some(bridge);
    let rules = rules(netlink, links.iter().filter(of_bridge))?;
    let mut mirrors = rules.values().flat_map(|rules| &rules.mirrors);
    Ok(mirrors.any(|other| {
        other.name != mirror.name.as_str() && other.output.as_ref() == Some(&mirror.output)
    }))
}

/// Sets a port apart for copies, or has it be a port like others again.
fn set_apart(netlink: &Netlink, port: &IfName, apart: bool) -> Result<(), KernelError> {
    let mut infos = apart_infos(apart).to_vec();
    infos.extend(apart.then_some(InfoBridgePort::Flush));
    let asked = || match apart {
        true => format!("set port `{port}` apart for copies"),
        false => format!("have port `{port}` forward again"),
    };
    set_port(netlink, port, infos, asked)
}

/// The flags of a port that is set apart, or of one that is not. The first
/// alone would do; the next three say so to whoever looks.
fn apart_infos(apart: bool) -> [InfoBridgePort; 6] {
    [
        InfoBridgePort::ProxyARP(apart),
        InfoBridgePort::UnicastFlood(!apart),
        InfoBridgePort::MulticastFlood(!apart),
        InfoBridgePort::BroadcastFlood(!apart),
        InfoBridgePort::Learning(!apart),
        InfoBridgePort::Locked(apart),
    ]
}

/// Whether a port is set apart. A flag that this kernel does not know is not
/// among them.
pub(super) fn is_apart(link: &Link) -> bool {
    let [plain, apart] = [false, true].map(apart_infos);
    let flags: Vec<_> =
        port_infos(link).filter(|info| plain.contains(info) || apart.contains(info)).collect();
    !flags.is_empty() && flags.iter().all(|info| apart.contains(info))
}

/// Sets something about a port of a bridge.
pub(super) fn set_port(
    netlink: &Netlink,
    port: &IfName,
    infos: Vec<InfoBridgePort>,
    asked: impl FnOnce() -> String,
) -> Result<(), KernelError> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(port.to_string()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(infos)),
        ]),
    ];
    netlink.change(RouteNetlinkMessage::NewLink(message), asked)
}

/// Sets how much may come in by a port, if it is another limit than before.
pub(super) fn police(
    netlink: &Netlink,
    port: &IfName,
    before: Option<Policing>,
    after: Option<Policing>,
) -> Result<(), KernelError> {
    if before == after {
        return Ok(());
    }
    let policing = after.and_then(|after| tc::Policing::new(after.rate_kbps, after.burst_kb));
    tc::set_policing(netlink, port, policing)
}

/// How much may come in, as it was seen.
pub(super) fn seen_policing(rules: &Rules) -> Option<Policing> {
    let seen = rules.policing?;
    Some(Policing { rate_kbps: seen.rate_kbit_per_s(), burst_kb: seen.burst_kbit() })
}

/// What is set at the devices of our switches.
///
/// Like `tc qdisc show`, and `tc filter show` where there are hooks.
pub(super) fn rules<'a>(
    netlink: &Netlink,
    links: impl Iterator<Item = &'a Link>,
) -> Result<BTreeMap<IfName, Rules>, KernelError> {
    let names: BTreeMap<u32, IfName> =
        links.filter_map(|link| Some((link.index, IfName::new(&link.name).ok()?))).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    tc::rules(netlink, &names)
}

/// Puts the mirrors of a switch together from what is set at its devices.
/// `apart` are its ports that are set apart; one that no mirror has any use
/// for is deaf and dumb, until it is pulled and plugged in again.
pub(super) fn put_together(
    seen: &mut SeenSwitch,
    rules: &BTreeMap<IfName, Rules>,
    apart: &BTreeSet<IfName>,
) {
    let SeenSwitch { spec, ports, mirrors, .. } = seen;
    for (device, rules) in rules {
        if *device != spec.device && !ports.contains_key(device) {
            continue;
        }
        for mirror in &rules.mirrors {
            let Ok(name) = IfName::new(&mirror.name) else { continue };
            let output = mirror.output.as_ref().filter(|output| ports.contains_key(*output));
            let output = output.unwrap_or(&spec.device);
            let whole = mirrors.entry(name.clone());
            let whole = whole.or_insert_with(|| nothing_yet(spec, name, output, apart));
            if whole.output != *output {
                whole.output = spec.device.clone();
            }
            match mirror.direction {
                Direction::In => drop(whole.from.insert(device.clone())),
                Direction::Out if *device == spec.device => whole.all = true,
                Direction::Out => drop(whole.to.insert(device.clone())),
            }
        }
    }
    for (device, port) in ports {
        let is_output = mirrors.values().any(|mirror| mirror.output == *device);
        match (apart.contains(device), is_output) {
            (true, false) => {
                let why = "it is set apart for copies, and no mirror shows any";
                port.broken = Some(why.to_owned());
            }
            // As it is to be, or made so with its mirror.
            (true | false, true) => port.broken = None,
            (false, false) => {}
        }
    }
}

/// A mirror that copies nothing yet. One whose output is gone shows it at the
/// bridge itself, and one whose output is not set apart has no mark: no mirrors
/// that anybody wants.
fn nothing_yet(
    spec: &SwitchSpec,
    name: IfName,
    output: &IfName,
    apart: &BTreeSet<IfName>,
) -> MirrorSpec {
    MirrorSpec {
        switch: spec.name.clone(),
        bridge: spec.device.clone(),
        name,
        all: false,
        from: BTreeSet::new(),
        to: BTreeSet::new(),
        vlans: BTreeSet::new(),
        output: output.clone(),
        mark: if apart.contains(output) { spec.alias.clone() } else { String::new() },
    }
}
