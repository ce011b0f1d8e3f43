//! Why large packets die where small ones pass, and those with checksums where
//! others do; and what is odd though all passes.

use std::net::IpAddr;

use super::queue::queues;
use super::{called, ip, run_in};
use crate::model::packet::{Sort, Spot};
use crate::plan::why::facts::Tried;
use crate::plan::why::judge::{Case, Finding};
use crate::plan::why::walk::{What, owners};

/// A large packet dies where a small one does not.
pub(in crate::plan::why) fn of_large(case: &Case<'_>, tried: &Tried, hop: usize) -> Vec<Finding> {
    let mut found = Vec::new();
    let bytes = tried.bytes;
    for hop in &case.hops[hop.saturating_sub(1)..] {
        let mut devices = Vec::new();
        match &hop.what {
            What::Wire { from, to } => devices.extend([from.clone(), to.clone()]),
            What::Node(node) => {
                let spot = Spot::Node(node.node.clone());
                let both = node.enters.iter().chain(&node.leaves);
                devices.extend(both.map(|device| (spot.clone(), device.clone())));
            }
            What::Switch { enters, leaves, .. } => {
                devices.extend([enters, leaves].map(|port| (Spot::Home, port.to_string())));
            }
            What::Lost(_) => {}
        }
        for (spot, device) in devices {
            let Some(link) = case.facts.link(&spot, &device) else { continue };
            if (link.mtu as usize) < bytes {
                let what = format!(
                    "small packets pass, and those of {bytes} bytes do not: {} has an MTU of {}",
                    called(case, &spot, &device),
                    link.mtu
                );
                let mend = ip(case, &spot, &format!("link set {device} mtu {bytes}"));
                found.push(Finding::sure(what, mend));
                return found;
            }
        }
    }
    let error = tried.seen.iter().find_map(|(_, sort)| match sort {
        Sort::Error { by, .. } => Some(by),
        _ => None,
    });
    if let Some(by) = error {
        let what =
            format!("{by} says that packets of {bytes} bytes are too long for what is behind it");
        found.push(Finding::perhaps(what, None));
    }
    found
}

/// A TCP connection dies of its checksums where a ping does not.
pub(in crate::plan::why) fn of_checksums(case: &Case<'_>, tried: &Tried) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in [case.ends.0, case.ends.1] {
        bad_checksums(case, tried, &Spot::Node(node.clone()), &mut found);
    }
    found.dedup();
    found
}

/// Checksums that nobody finished, and who should have.
pub(super) fn bad_checksums(case: &Case<'_>, tried: &Tried, spot: &Spot, found: &mut Vec<Finding>) {
    let bad = |key: &str| tried.counted.contains_key(&(spot.clone(), key.to_owned()));
    if !["TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors"].iter().any(|key| bad(key)) {
        return;
    }
    let Spot::Node(hears) = spot else { return };
    let sender = if hears == case.ends.0 { case.ends.1 } else { case.ends.0 };
    let far = Spot::Node(sender.clone());
    let at = case.facts.spot(&far);
    let leaves = at.into_iter().flat_map(|at| &at.checksums).filter(|(_, hardware)| **hardware);
    for (device, _) in leaves {
        let what = format!(
            "`{hears}` drops what has a wrong checksum: `{sender}:{device}` leaves checksums to \
             hardware, and a switch in userspace finishes none, so that pings pass and TCP and UDP \
             do not"
        );
        let mend = run_in(case, &far, &format!("ethtool -K {device} tx off"));
        found.push(Finding::sure(what, mend));
    }
}

/// Whether a datagram came to somebody who listens.
pub(in crate::plan::why) fn udp_arrives(case: &Case<'_>, tried: &Tried, port: u16) -> bool {
    let node = case.ends.1;
    let spot = Spot::Node(node.clone());
    let arrived =
        tried.seen.iter().any(|(tap, sort)| tap.spot == spot && !tap.out && *sort == Sort::Request);
    let Some(there) = case.facts.spot(&spot) else { return false };
    let takes = |at: &IpAddr| *at == case.packet.to || at.is_unspecified();
    let heard = there.listening.iter().any(|it| !it.tcp && it.port == port && takes(&it.at));
    let dropped = tried.dropped.iter().any(|dropped| dropped.spot == spot);
    let spoilt = ["UdpInCsumErrors", "Udp6InCsumErrors"];
    let spoilt =
        spoilt.iter().any(|key| tried.counted.contains_key(&(spot.clone(), (*key).to_owned())));
    arrived && heard && !dropped && !spoilt
}

/// What is on the way that slows or loses, and what looks odd.
pub(in crate::plan::why) fn notes(case: &Case<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let mut queued = Vec::new();
    let mut known = Vec::new();
    for hop in case.hops {
        for tap in &hop.shows {
            known.push((tap.spot.clone(), tap.device.clone(), tap.out));
            if let What::Wire { from, .. } = &hop.what {
                known.push((from.0.clone(), from.1.clone(), true));
            }
        }
    }
    known.sort();
    known.dedup();
    for (spot, device, out) in &known {
        queues(case, &Tried::default(), spot, device, *out, &mut queued);
    }
    notes.extend(queued.into_iter().map(|finding| finding.what));
    for ip in [case.packet.from, case.packet.to] {
        let owners = owners(case.world, case.facts, ip);
        let nodes: std::collections::BTreeSet<_> = owners.iter().map(|(node, _)| node).collect();
        if 1 < nodes.len() {
            let nodes: Vec<String> = nodes.into_iter().map(|node| format!("`{node}`")).collect();
            notes.push(format!(
                "{ip} is the address of {}: one of them has to have another",
                nodes.join(" and ")
            ));
        }
    }
    notes.dedup();
    notes
}
