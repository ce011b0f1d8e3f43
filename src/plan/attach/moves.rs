//! A NIC that comes home from a node: what it had is put back, by what is
//! missing of it.
//!
//! The kernel takes everything off a device that goes from one namespace to
//! another: addresses, routes, neighbours, parameters. So all of it was written
//! down before the NIC left, and how far anybody came does not matter: what is
//! as it was is not touched.
//!
//! In two parts, with a look in between: with its addresses the NIC gets routes
//! by itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::sequence::{NO_ADDRESSES, in_order_of_giving, load, missing};
use super::step::{Load, NicStep};
use crate::model::nic::{Nic, NicAddress, NicRoute};
use crate::plan::nics::Loan;

/// All that the kernel takes off a NIC that goes into another namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Belongings {
    /// The NIC with what hangs on it.
    pub nic: Nic,
    /// All kernel parameters of its own, and not only those that a stand-in
    /// would have to have.
    pub parameters: BTreeMap<String, String>,
    /// Routes that leave by its nexthop objects, and go with those.
    pub by_hops: Vec<NicRoute>,
}

/// A NIC in a node, with all it takes to bring it home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// As it was.
    pub was: Belongings,
    /// Where it is.
    pub loan: Loan,
}

/// Read only where it was set, and it changes how addresses are made.
const SECRET: &str = "ipv6.stable_secret";
/// The way in which addresses are made, which has a step of its own.
const GENERATES: &str = "ipv6.addr_gen_mode";

fn parameters(away: &Away, now: &BTreeMap<String, String>, steps: &mut Vec<NicStep>) {
    let device = &away.was.nic.link.name;
    let differs = |(key, was): &(&String, &String)| match now.get(*key) {
        Some(is) => *key != GENERATES && is != *was,
        None => *key == SECRET,
    };
    let wrong = away.was.parameters.iter().filter(differs);
    steps.extend(wrong.map(|(key, value)| NicStep::Parameter {
        device: device.clone(),
        key: key.clone(),
        value: value.clone(),
    }));
}

/// The steps that make a NIC what it was, with its addresses.
pub fn house(away: &Away, now: &Belongings) -> Vec<NicStep> {
    let (was, nic) = (&away.was.nic, &now.nic);
    let device = &was.link.name;
    let mut steps = Vec::new();
    let mac = was.link.mac.filter(|mac| nic.link.mac != Some(*mac));
    let mtu = Some(was.link.mtu).filter(|mtu| nic.link.mtu != *mtu);
    let alias = Some(was.link.alias.clone()).filter(|alias| nic.link.alias != *alias);
    if mac.is_some() || mtu.is_some() || alias.is_some() {
        steps.push(NicStep::Link { device: device.clone(), mac, mtu, alias });
    }
    let lost: BTreeSet<_> = was.link.altnames.difference(&nic.link.altnames).cloned().collect();
    if !lost.is_empty() {
        steps.push(NicStep::Call { device: device.clone(), altnames: lost });
    }
    parameters(away, &now.parameters, &mut steps);
    if was.link.up && !nic.link.up {
        // It gets those that it had, and in their order.
        if nic.link.generates.is_some_and(|mode| mode != NO_ADDRESSES) {
            steps.push(NicStep::Generates { device: device.clone(), mode: NO_ADDRESSES });
        }
        steps.push(NicStep::Raise { device: device.clone(), up: true });
    }
    let has = |wanted: &NicAddress| {
        let same = |there: &NicAddress| {
            there.net == wanted.net && there.asked_flags() == wanted.asked_flags()
        };
        nic.addresses.iter().any(same)
    };
    let lost: Vec<_> = in_order_of_giving(&was.addresses).filter(|a| !has(a)).collect();
    // Usable at once; what is not tried for duplicates would say so for ever,
    // if it were not told otherwise after that.
    let is_tried = |address: &NicAddress| {
        address.net.addr().is_ipv6() && address.flags & NicAddress::NODAD == 0
    };
    let asked = |address: &NicAddress| address.with_flags(address.asked_flags());
    let at_once = |address: &&NicAddress| match is_tried(address) {
        true => address.with_flags(address.asked_flags() | NicAddress::NODAD),
        false => asked(address),
    };
    let tried = lost.iter().filter(|address| is_tried(address)).map(|address| asked(address));
    for addresses in [lost.iter().map(at_once).collect(), tried.collect::<Vec<_>>()] {
        if !addresses.is_empty() {
            let (from, to) = (device.clone(), device.clone());
            steps.push(NicStep::Give { from, to, addresses });
        }
    }
    steps
}

/// The steps that put back what hangs on its addresses.
pub fn furnish(away: &Away, now: &Belongings) -> Vec<NicStep> {
    let (was, nic) = (&away.was.nic, &now.nic);
    let device = &was.link.name;
    let mut steps = Vec::new();
    if nic.link.carrier && !was.addresses.is_empty() {
        let addresses = was.addresses.iter().map(|address| address.net).collect();
        steps.push(NicStep::Settle { device: device.clone(), addresses });
    }
    let knows = |ip| nic.neighbours.iter().any(|neighbour| neighbour.ip == ip);
    let lost = was.neighbours.iter().filter(|neighbour| !knows(neighbour.ip));
    let neighbours: Vec<_> = lost.cloned().collect();
    if !neighbours.is_empty() {
        steps.push(NicStep::Teach { device: device.clone(), neighbours });
    }
    let mut load = missing(&load(was), nic, &Load::default());
    let there: BTreeSet<_> = now.by_hops.iter().map(NicRoute::key).collect();
    let lost = away.was.by_hops.iter().filter(|route| !there.contains(&route.key()));
    load.routes.extend(lost.cloned());
    if !load.is_empty() {
        steps.push(NicStep::Enter { device: device.clone(), load });
    }
    parameters(away, &now.parameters, &mut steps);
    if let Some(mode) = was.link.generates.filter(|mode| nic.link.generates != Some(*mode)) {
        steps.push(NicStep::Generates { device: device.clone(), mode });
    }
    steps
}
