//! The order in which a NIC becomes a port, and in which it comes home.
//!
//! Three parts, and the host answers throughout:
//!
//! - **Stage.** The switch's local device gets the NIC's Ethernet address, its
//!   kernel parameters, its neighbours and its addresses. No packet goes
//!   another way yet: addresses bring no routes along, and nobody is asked
//!   whether he has them too.
//! - **Switch.** The NIC becomes a port, routes and rules change hands in one
//!   burst, the NIC loses its addresses.
//! - **Settle.** What was set only meanwhile goes back.
//!
//! Neighbours go first because a device that has to ask for its router while
//! its port comes up gets no answer, and asks again only after a second. A
//! reverse path filter that is strict would drop what comes in by the one
//! device while routes still leave by the other, so it is loose meanwhile.
//!
//! A switch in userspace only gets copies of the NIC's frames, and hands them on
//! when it comes to it. So the host hears the NIC until the new port works, then
//! the local device, and in between each frame once, from whichever it comes
//! first. What such a switch does while it takes in a port, which may be
//! nothing for a tenth of a second, costs nobody anything.
//!
//! The way home looks at what is there, not at how far anybody came: it is the
//! same whether it is gone on purpose, after a failure or after a crash, and
//! going it again finds nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::step::{Ear, Load, NicStage, NicStep};
use crate::model::names::IfName;
use crate::model::nic::{Neighbour, Nic, NicAddress, NicRoute, NicRule, Owner};
use crate::model::topology::Backend;
use crate::model::world::{PortSpec, SwitchSpec};
use crate::plan::FabricStep;

/// A NIC in a switch, with all it takes to bring it home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The NIC as it was.
    pub nic: Nic,
    /// The switch's local device as it was.
    pub local: Nic,
    /// The switch as it was.
    pub switch: SwitchSpec,
    /// The NIC's port.
    pub port: PortSpec,
    /// Whether the switch takes frames from a packet socket, so that the host
    /// hears them twice.
    pub userspace: bool,
    /// Whether that switch cannot cope with checksums that nobody has
    /// calculated yet.
    pub whole_checksums: bool,
    /// The programs that see to the NIC, and are to look away meanwhile.
    #[serde(default)]
    pub owners: Vec<Owner>,
    /// Rules that went when they did, and were entered again.
    #[serde(default)]
    pub regained: Vec<NicRule>,
}

/// Why a NIC goes home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// Somebody wants it back: what changed in between is carried along.
    Detach,
    /// It did not work, or nobody confirmed it: all is to be as it was.
    Undo,
}

/// The parameter that is loose while routes change hands.
const REVERSE_PATH: &str = "ipv4.rp_filter";
const LOOSE: &str = "2";
/// The parameter by which the kernel hears routers, also where it forwards.
const HEARS_ROUTERS: &str = "ipv6.accept_ra";
const ALWAYS: &str = "2";
const NEVER: &str = "0";
/// No link-local addresses (`IN6_ADDR_GEN_MODE_NONE`).
pub(super) const NO_ADDRESSES: u8 = 1;

impl Attached {
    /// The switch with the NIC's Ethernet address and MTU.
    pub fn switch_after(&self) -> SwitchSpec {
        let before = &self.switch;
        SwitchSpec {
            mac: self.nic.link.mac.unwrap_or(before.mac),
            mtu: self.nic.link.mtu,
            ..before.clone()
        }
    }

    fn backend(&self) -> Backend {
        self.switch.backend
    }

    /// Whether the NIC has something by routers that a program heard in the
    /// kernel's place. That looks away, so the kernel has to, or it would end with
    /// its time.
    fn was_heard_for(&self) -> bool {
        let for_a_time =
            |address: &NicAddress| address.net.addr().is_ipv6() && address.valid_s.is_some();
        !self.owners.is_empty()
            && self.nic.parameters.get(HEARS_ROUTERS).is_some_and(|value| value == NEVER)
            && (self.nic.addresses.iter().any(for_a_time)
                || self.nic.routes.iter().any(|route| route.protocol == NicRoute::ADVERTISED))
    }

    fn names(&self) -> (&IfName, &IfName) {
        (&self.nic.link.name, &self.local.link.name)
    }
}

fn parameter(device: &IfName, key: &str, value: &str) -> NicStep {
    NicStep::Parameter { device: device.clone(), key: key.to_owned(), value: value.to_owned() }
}

/// The steps by which a NIC becomes a port, and the switch's local device
/// becomes what the NIC was to the host.
pub fn attach(attached: &Attached) -> Vec<NicStage> {
    let Attached { nic, local, userspace, .. } = attached;
    let (name, stand_in) = attached.names();
    let mut stages = Stages::default();
    let after = attached.switch_after();
    // It gets the NIC's. One that the kernel made of the same Ethernet address
    // would be the same, and be tried for duplicates, which takes a second: Open
    // vSwitch takes its local device down and up to give it its address.
    stages.generates(local, stand_in, NO_ADDRESSES);
    if attached.switch != after {
        let (before, backend) = (attached.switch.clone(), attached.backend());
        stages.fabric(backend, FabricStep::SetSwitch { before, after });
    }
    if attached.whole_checksums && local.link.checksums == Some(true) {
        stages.push(NicStep::Checksums { device: stand_in.clone(), leave: false });
    }
    for (key, value) in &nic.parameters {
        let hears = key == HEARS_ROUTERS && attached.was_heard_for();
        let value = if hears { ALWAYS } else { value };
        if key != REVERSE_PATH && local.parameters.get(key).is_some_and(|has| has != value) {
            stages.push(parameter(stand_in, key, value));
        }
    }
    stages.loosen(&[nic, local]);
    stages.teach(stand_in, nic.neighbours.clone());
    let staged = |address: &NicAddress| {
        let nodad = if address.net.addr().is_ipv6() { NicAddress::NODAD } else { 0 };
        address.with_flags(address.asked_flags() | NicAddress::NOPREFIXROUTE | nodad)
    };
    let given = in_order_of_giving(&nic.addresses).map(staged).collect();
    stages.give(name, stand_in, given);
    if *userspace {
        stages.listen(attached, Ear::Either);
    }
    stages.generates(nic, name, NO_ADDRESSES);
    if !nic.link.up {
        stages.push(NicStep::Raise { device: name.clone(), up: true });
    }
    stages.fabric(attached.backend(), FabricStep::AddPort(attached.port.clone()));
    if !nic.addresses.is_empty() {
        let addresses = nic.addresses.iter().map(|address| address.net).collect();
        stages.push(NicStep::Settle { device: stand_in.clone(), addresses });
    }
    if *userspace {
        stages.drain(attached);
        stages.listen(attached, Ear::LocalOnce);
    }
    stages.carry(name, stand_in, load(nic));
    stages.take(name, &nic.addresses);
    if *userspace {
        stages.drain(attached);
        stages.listen(attached, Ear::Local);
    }
    if let (Some(mode), Some(_)) = (nic.link.generates, local.link.generates) {
        stages.push(NicStep::Generates { device: stand_in.clone(), mode });
    }
    if let Some(value) = nic.parameters.get(REVERSE_PATH) {
        for device in [name, stand_in] {
            stages.push(parameter(device, REVERSE_PATH, value));
        }
    }
    stages.0
}

/// The steps after that: who sees to the NIC looks away.
pub fn look_away(attached: &Attached) -> Vec<NicStage> {
    let (nic, local) = attached.names();
    let away = |owner: &Owner| NicStep::LookAway {
        nic: nic.clone(),
        local: local.clone(),
        program: owner.program.clone(),
    };
    attached.owners.iter().map(|owner| NicStage::Nic(away(owner))).collect()
}

/// What a local device, and policy rules, were and are.
pub type Held = (Nic, Vec<NicRule>);

/// The rules that went with somebody who looked away, whichever device they name.
pub fn gone((_, before): &Held, (_, now): &Held) -> Vec<NicRule> {
    before.iter().filter(|rule| !now.contains(rule)).cloned().collect()
}

/// The steps that put back what went with him: those rules, and what the local
/// device had.
pub fn regain(before: &Held, now: &Held) -> Vec<NicStage> {
    let (had, has) = (&before.0, &now.0);
    let device = &had.link.name;
    let mut stages = Stages::default();
    let is_gone = |address: &&NicAddress| !has.addresses.iter().any(|a| a.net == address.net);
    let addresses = in_order_of_giving(&had.addresses).filter(is_gone).cloned().collect();
    stages.give(device, device, addresses);
    let mut load = missing(&load(had), has, &Load::default());
    load.rules = gone(before, now);
    if !load.is_empty() {
        stages.push(NicStep::Enter { device: device.clone(), load });
    }
    stages.0
}

/// The steps that bring a NIC home: from what is on it and on the switch's
/// local device now, to what was, or to what became of that. `local` is `None`
/// where that device is gone.
pub fn home(attached: &Attached, nic: &Nic, local: Option<&Nic>, why: Home) -> Vec<NicStage> {
    let (name, stand_in) = attached.names();
    let was = &attached.nic;
    let undo = why == Home::Undo || local.is_none();
    let mut stages = Stages::default();
    if attached.userspace && undo {
        // First of all: should anything below fail, the host hears its NIC.
        stages.push(NicStep::ListenToAll { nic: name.clone() });
    }
    stages.loosen(&[nic]);
    stages.loosen(local.as_slice());
    let carried = local.map(|local| beyond(local, &attached.local)).unwrap_or_default();
    let mut neighbours: BTreeMap<_, Neighbour> =
        if undo { by_ip(&was.neighbours) } else { BTreeMap::new() };
    neighbours.extend(by_ip(&carried.neighbours));
    for known in &nic.neighbours {
        if neighbours.get(&known.ip) == Some(known) {
            neighbours.remove(&known.ip);
        }
    }
    stages.teach(name, neighbours.into_values().collect());
    stages.bring_addresses(attached, nic, &carried.addresses, undo);
    if local.is_some() && attached.was_heard_for() {
        // What the kernel has by routers goes like any other.
        stages.push(parameter(stand_in, HEARS_ROUTERS, NEVER));
    }
    stages.carry(stand_in, name, carried.load.clone());
    if undo {
        let missing = missing(&load(was), nic, &carried.load);
        if !missing.is_empty() {
            stages.push(NicStep::Enter { device: name.clone(), load: missing });
        }
    }
    if attached.userspace && !undo {
        if !carried.load.is_empty() {
            // What the local device brings just before the NIC is heard is known
            // then. Who comes again after a crash may find no port any more, and
            // must not listen to a switch alone.
            stages.listen(attached, Ear::LocalOnce);
        }
        stages.listen(attached, Ear::Either);
        // With its port goes what is still inside.
        stages.drain(attached);
    }
    if local.is_some() {
        let port = FabricStep::DeletePort(attached.port.clone());
        stages.fabric(attached.backend(), port);
        stages.take(stand_in, &carried.addresses);
        let gone = carried.neighbours.iter().filter(|n| n.permanent).map(|n| n.ip);
        stages.forget(stand_in, gone.collect());
    }
    stages.put_back(attached, nic, local, undo);
    if attached.userspace && !undo {
        stages.push(NicStep::ListenToAll { nic: name.clone() });
    }
    if let Some(local) = local {
        if local.link.checksums != attached.local.link.checksums
            && let Some(leave) = attached.local.link.checksums
        {
            stages.push(NicStep::Checksums { device: stand_in.clone(), leave });
        }
        let (before, after) = (attached.switch_after(), attached.switch.clone());
        if before != after {
            stages.fabric(attached.backend(), FabricStep::SetSwitch { before, after });
        }
    }
    for Owner { program, .. } in &attached.owners {
        let rules = attached.regained.clone();
        stages.push(NicStep::LookAgain { nic: name.clone(), program: program.clone(), rules });
    }
    stages.0
}

/// The order in which addresses have to be given to be listed like this: the
/// kernel lists those of IPv4 as they came, and those of IPv6 the other way
/// round.
pub(super) fn in_order_of_giving(addresses: &[NicAddress]) -> impl Iterator<Item = &NicAddress> {
    let v4 = addresses.iter().filter(|address| address.net.addr().is_ipv4());
    v4.chain(addresses.iter().rev().filter(|address| address.net.addr().is_ipv6()))
}

pub(super) fn load(nic: &Nic) -> Load {
    Load { routes: nic.routes.clone(), hops: nic.hops.clone(), rules: nic.rules.clone() }
}

fn by_ip(neighbours: &[Neighbour]) -> BTreeMap<IpAddr, Neighbour> {
    neighbours.iter().map(|neighbour| (neighbour.ip, neighbour.clone())).collect()
}

/// What the local device has now and had not before.
#[derive(Default)]
struct Carried {
    addresses: Vec<NicAddress>,
    neighbours: Vec<Neighbour>,
    load: Load,
}

fn beyond(now: &Nic, before: &Nic) -> Carried {
    let had = |address: &&NicAddress| before.addresses.iter().any(|b| b.net == address.net);
    let keys: BTreeSet<_> = before.routes.iter().map(|route| route.key()).collect();
    let ids: BTreeSet<u32> = before.hops.iter().map(|hop| hop.id).collect();
    let knew = by_ip(&before.neighbours);
    Carried {
        addresses: now.addresses.iter().filter(|a| !had(a)).cloned().collect(),
        neighbours: now.neighbours.iter().filter(|n| !knew.contains_key(&n.ip)).cloned().collect(),
        load: Load {
            routes: now.routes.iter().filter(|r| !keys.contains(&r.key())).cloned().collect(),
            hops: now.hops.iter().filter(|hop| !ids.contains(&hop.id)).cloned().collect(),
            rules: now.rules.clone(),
        },
    }
}

/// What became of a parameter of the local device while it stood in for the
/// NIC. One that is as before it did is so because it was put back, or because
/// it is the NIC's, too.
fn became<'a>(attached: &Attached, local: Option<&'a Nic>, key: &str) -> Option<&'a String> {
    let now = local?.parameters.get(key)?;
    (attached.local.parameters.get(key) != Some(now)).then_some(now)
}

/// What was by the NIC and is neither by it nor on its way to it.
pub(super) fn missing(was: &Load, nic: &Nic, coming: &Load) -> Load {
    let routes = nic.routes.iter().chain(&coming.routes).map(|route| route.key());
    let routes: BTreeSet<_> = routes.collect();
    let hops = nic.hops.iter().chain(&coming.hops).map(|hop| hop.id);
    let hops: BTreeSet<u32> = hops.collect();
    let rules = nic.rules.iter().chain(&coming.rules).map(|rule| (rule.v6, rule.priority));
    let rules: BTreeSet<_> = rules.collect();
    Load {
        routes: was.routes.iter().filter(|r| !routes.contains(&r.key())).cloned().collect(),
        hops: was.hops.iter().filter(|hop| !hops.contains(&hop.id)).cloned().collect(),
        rules: was
            .rules
            .iter()
            .filter(|rule| !rules.contains(&(rule.v6, rule.priority)))
            .cloned()
            .collect(),
    }
}

#[derive(Default)]
struct Stages(Vec<NicStage>);

impl Stages {
    fn push(&mut self, step: NicStep) {
        self.0.push(NicStage::Nic(step));
    }

    fn fabric(&mut self, backend: Backend, step: FabricStep) {
        self.0.push(NicStage::Fabric(backend, vec![step]));
    }

    fn loosen(&mut self, nics: &[&Nic]) {
        for nic in nics {
            if nic.parameters.get(REVERSE_PATH).is_some_and(|value| value != LOOSE) {
                self.push(parameter(&nic.link.name, REVERSE_PATH, LOOSE));
            }
        }
    }

    /// Says how `device`, which is or was like `nic`, gets link-local addresses.
    fn generates(&mut self, nic: &Nic, device: &IfName, mode: u8) {
        if nic.link.generates.is_some_and(|is| is != mode) {
            self.push(NicStep::Generates { device: device.clone(), mode });
        }
    }

    fn teach(&mut self, device: &IfName, neighbours: Vec<Neighbour>) {
        if !neighbours.is_empty() {
            self.push(NicStep::Teach { device: device.clone(), neighbours });
        }
    }

    fn forget(&mut self, device: &IfName, neighbours: Vec<IpAddr>) {
        if !neighbours.is_empty() {
            self.push(NicStep::Forget { device: device.clone(), neighbours });
        }
    }

    fn give(&mut self, from: &IfName, to: &IfName, addresses: Vec<NicAddress>) {
        if !addresses.is_empty() {
            self.push(NicStep::Give { from: from.clone(), to: to.clone(), addresses });
        }
    }

    /// The last one given goes first: whatever happens in between, what is left
    /// is in its old order.
    fn take(&mut self, device: &IfName, addresses: &[NicAddress]) {
        let mut order: Vec<NicAddress> = in_order_of_giving(addresses).cloned().collect();
        order.reverse();
        if !order.is_empty() {
            self.push(NicStep::Take { device: device.clone(), addresses: order });
        }
    }

    fn carry(&mut self, from: &IfName, to: &IfName, load: Load) {
        if !load.is_empty() {
            self.push(NicStep::Carry { from: from.clone(), to: to.clone(), load });
        }
    }

    fn listen(&mut self, attached: &Attached, ear: Ear) {
        let (nic, local) = attached.names();
        self.push(NicStep::Listen { nic: nic.clone(), local: local.clone(), ear });
    }

    fn drain(&mut self, attached: &Attached) {
        let (nic, local) = attached.names();
        self.push(NicStep::Drain { nic: nic.clone(), local: local.clone() });
    }

    /// Gives the NIC its addresses: with the flags that each had, but usable at
    /// once. For IPv6 that takes two requests, since what is not tried for
    /// duplicates says so for ever, unless it is told otherwise.
    fn bring_addresses(
        &mut self,
        attached: &Attached,
        nic: &Nic,
        carried: &[NicAddress],
        undo: bool,
    ) {
        let (name, stand_in) = attached.names();
        let was = |address: &NicAddress| {
            attached.nic.addresses.iter().find(|before| before.net == address.net)
        };
        let has = |wanted: &NicAddress| {
            let same = |there: &NicAddress| {
                there.net == wanted.net
                    && there.asked_flags() == wanted.asked_flags()
                    && there.flags & (NicAddress::TENTATIVE | NicAddress::DADFAILED) == 0
            };
            nic.addresses.iter().any(same)
        };
        let of_old = |address: &NicAddress| {
            was(address).map_or(address.asked_flags(), NicAddress::asked_flags)
        };
        let carried_now = |net| carried.iter().find(|address| address.net == net);
        // In their old order, then what is new.
        let mut wanted: Vec<(&IfName, NicAddress)> = Vec::new();
        for before in in_order_of_giving(&attached.nic.addresses) {
            match carried_now(before.net) {
                Some(now) => wanted.push((stand_in, now.with_flags(of_old(now)))),
                None if undo => wanted.push((name, before.with_flags(before.asked_flags()))),
                None => {}
            }
        }
        for new in in_order_of_giving(carried).filter(|address| was(address).is_none()) {
            wanted.push((stand_in, new.with_flags(new.asked_flags())));
        }
        wanted.retain(|(_, address)| !has(address));
        if wanted.is_empty() {
            return;
        }
        for from in [name, stand_in] {
            let these = || wanted.iter().filter(|(of, _)| *of == from).map(|(_, address)| address);
            let is_tried = |address: &NicAddress| {
                address.net.addr().is_ipv6() && address.flags & NicAddress::NODAD == 0
            };
            let at_once = |address: &NicAddress| match is_tried(address) {
                true => address.with_flags(address.flags | NicAddress::NODAD),
                false => address.clone(),
            };
            self.give(from, name, these().map(at_once).collect());
            self.give(from, name, these().filter(|a| is_tried(a)).cloned().collect());
        }
        if nic.link.up {
            let addresses = wanted.iter().map(|(_, address)| address.net).collect();
            self.push(NicStep::Settle { device: name.clone(), addresses });
        }
    }

    /// Puts back kernel parameters and the like, on both devices.
    fn put_back(&mut self, attached: &Attached, nic: &Nic, local: Option<&Nic>, undo: bool) {
        let (name, stand_in) = attached.names();
        for (key, was) in &attached.nic.parameters {
            let its_own = key == REVERSE_PATH || (key == HEARS_ROUTERS && attached.was_heard_for());
            let value = match undo || its_own {
                true => was,
                false => became(attached, local, key).or(nic.parameters.get(key)).unwrap_or(was),
            };
            let is = nic.parameters.get(key);
            if key == REVERSE_PATH || is.is_some_and(|is| is != value) {
                self.push(parameter(name, key, value));
            }
        }
        if let Some(local) = local {
            for (key, was) in &attached.local.parameters {
                let is = local.parameters.get(key);
                if key == REVERSE_PATH || is.is_some_and(|is| is != was) {
                    self.push(parameter(stand_in, key, was));
                }
            }
            if let Some(mode) = attached.local.link.generates {
                self.generates(local, stand_in, mode);
            }
        }
        if !attached.nic.link.up && nic.link.up {
            self.push(NicStep::Raise { device: name.clone(), up: false });
        }
        if let Some(mode) = attached.nic.link.generates {
            self.generates(nic, name, mode);
        }
    }
}
