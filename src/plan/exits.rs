//! Ways out through the machine: the steps that make them, what stands in their
//! way, and what they may not get through.
//!
//! No parameter of the machine is changed for them but those of our own devices.
//! So a machine that does not forward is told how it would; most that run
//! containers do.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::refuse::Refusal;
use super::step::Step;
use super::wanted::Wanted;
use crate::model::exits::{self, Doors, Drops, GatewayState, Outside};
use crate::model::names::{IfName, LabName, SwitchName};
use crate::model::routing::Ways;
use crate::model::topology::{Backend, Lab};
use crate::model::world::{Ability, SwitchSpec, World};

/// What the machine is on a switch, worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedGateway {
    /// The switch.
    pub switch: SwitchName,
    /// What its local device is to be.
    pub state: GatewayState,
}

/// What the machine is to be on the switches of a lab, by their local devices.
pub(super) fn wanted(
    ways: &Ways,
    switches: &BTreeMap<SwitchName, SwitchSpec>,
) -> BTreeMap<IfName, WantedGateway> {
    let mut gateways = BTreeMap::new();
    if ways.gateways.is_empty() {
        return gateways;
    }
    for (name, gateway) in &ways.gateways {
        let state = GatewayState {
            up: true,
            addresses: gateway.addresses.clone(),
            routes: ways.back.get(name).cloned().unwrap_or_default(),
            parameters: parameters(&gateway.addresses.iter().copied().collect::<Vec<_>>()),
        };
        let device = switches[name].device.clone();
        gateways.insert(device, WantedGateway { switch: name.clone(), state });
    }
    gateways
}

/// The Linux bridges of a lab with ways out that are none themselves: what goes out
/// may have crossed them before. Not those with a NIC: what goes by these is the
/// host's own.
pub(super) fn halls(
    lab: &Lab,
    ways: &Ways,
    switches: &BTreeMap<SwitchName, SwitchSpec>,
) -> BTreeMap<IfName, SwitchName> {
    if ways.gateways.is_empty() {
        return BTreeMap::new();
    }
    let is_hall = |spec: &&SwitchSpec| {
        let has_nic = lab.uplinks.values().any(|uplink| uplink.switch == spec.name);
        spec.backend == Backend::Linux && !ways.gateways.contains_key(&spec.name) && !has_nic
    };
    let bridges = switches.values().filter(is_hall);
    bridges.map(|spec| (spec.device.clone(), spec.name.clone())).collect()
}

/// A node that calls itself a router is not to turn the machine's own ways.
fn parameters(addresses: &[IpNet]) -> BTreeMap<String, String> {
    let has = |is_v4: bool| addresses.iter().any(|net| net.addr().is_ipv4() == is_v4);
    let v4: &[_] = &[("ipv4.forwarding", "1")];
    let v6: &[_] = &[("ipv6.accept_ra", "0"), ("ipv6.disable_ipv6", "0"), ("ipv6.forwarding", "1")];
    let families = [(has(true), v4), (has(false), v6)];
    let families = families.into_iter().filter(|(has, _)| *has).flat_map(|(_, keys)| keys);
    families.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Wanted {
    /// What the packet filter's table is to be for, if there is to be one.
    pub fn doors(&self) -> Option<Doors> {
        let v4 = |net: &IpNet| match net {
            IpNet::V4(net) => Some(net.addr()),
            IpNet::V6(_) => None,
        };
        let door = |(device, gateway): (&IfName, &WantedGateway)| {
            (device.clone(), gateway.state.addresses.iter().filter_map(v4).collect())
        };
        let doors = self.gateways.iter().map(door).collect();
        let halls = self.halls.keys().cloned().collect();
        (!self.gateways.is_empty()).then_some(Doors { doors, halls })
    }
}

/// The table comes before what it is for.
pub(super) fn doors(wanted: &Wanted, world: &World) -> Option<Step> {
    let after = Some(wanted.doors()?);
    let seen = world.host.exits.doors.as_ref();
    let before = seen.map(|seen| seen.doors.clone());
    let altered = seen.is_some_and(|seen| seen.altered);
    (before != after || altered).then_some(Step::SetDoors { before, after })
}

/// And goes after it.
pub(super) fn no_doors(wanted: &Wanted, world: &World) -> Option<Step> {
    let seen = world.host.exits.doors.as_ref()?;
    let before = Some(seen.doors.clone());
    wanted.doors().is_none().then_some(Step::SetDoors { before, after: None })
}

/// What local devices are to be; `anew` says which of them are made again.
pub(super) fn gateways(
    wanted: &Wanted,
    world: &World,
    anew: impl Fn(&SwitchName) -> bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for (device, gateway) in &wanted.gateways {
        let seen = world.host.exits.gateways.get(device).filter(|_| !anew(&gateway.switch));
        let before = seen.cloned().unwrap_or_default();
        let after = &gateway.state;
        let is_set = |(key, value): (&String, &String)| before.parameters.get(key) == Some(value);
        let same = before.up == after.up
            && before.addresses == after.addresses
            && before.routes == after.routes
            && after.parameters.iter().all(is_set);
        if !same {
            // What is not said stays, and is nobody's to bring back.
            let said = |key: &String| after.parameters.contains_key(key);
            let mut before = before;
            before.parameters.retain(|key, _| said(key));
            steps.push(Step::SetGateway { device: device.clone(), before, after: after.clone() });
        }
    }
    // Those that are none any more, and stay.
    for (device, before) in &world.host.exits.gateways {
        let stays =
            wanted.switches.values().any(|spec| spec.device == *device && !anew(&spec.name));
        let nothing = before.addresses.is_empty() && before.routes.is_empty();
        if wanted.gateways.contains_key(device) || !stays || nothing {
            continue;
        }
        let (mut before, up) = (before.clone(), before.up);
        before.parameters.clear();
        let after = GatewayState { up, ..GatewayState::default() };
        steps.push(Step::SetGateway { device: device.clone(), before, after });
    }
    steps
}

/// Why there can be no such way out here.
pub(super) fn refusals(lab: &LabName, wanted: &Wanted, world: &World, found: &mut Vec<Refusal>) {
    if wanted.doors().is_none() {
        return;
    }
    let mut refuse = |what: String, hint: String| found.push(Refusal { what, hint });
    if let Some(missing) = world.host.cannot.get(&Ability::Nat) {
        refuse(
            format!("`nat` needs to change addresses of what is forwarded: {missing}"),
            "load the modules: `modprobe -a nft_chain_nat nft_masq nft_ct`".into(),
        );
    }
    if world.host.exits.table_taken {
        let table = exits::table(lab);
        refuse(
            format!("the packet filter has a table `inet {table}` that is not ours"),
            format!(
                "if nobody needs it, `nft delete table inet {table}`; or give the lab another \
                 name with `--lab`"
            ),
        );
    }
    for (nic, uplink) in &world.uplinks {
        if wanted.gateways.values().any(|gateway| gateway.switch == uplink.switch) {
            refuse(
                format!("NIC `{nic}` is attached to switch `{}`, which has `nat`", uplink.switch),
                format!(
                    "what is on the network of a NIC has the way out of that network; leave `nat` \
                     out, or `ovsns detach {nic}`"
                ),
            );
        }
    }
    let new = |device: &IfName| !stands(world, device);
    found.extend(closed(wanted, world, new));
}

/// Whether there is a way out by a device already. What has come into its way since
/// is told, and is no reason not to change other things.
fn stands(world: &World, device: &IfName) -> bool {
    world.host.exits.doors.as_ref().is_some_and(|seen| seen.doors.doors.contains_key(device))
}

/// What of the machine is in the way of the ways out by some devices.
fn closed(wanted: &Wanted, world: &World, of: impl Fn(&IfName) -> bool) -> Vec<Refusal> {
    let Some(outside) = &world.host.exits.outside else { return Vec::new() };
    let mut found = Vec::new();
    let mut refuse = |what: String, hint: String| found.push(Refusal { what, hint });
    let nets: BTreeMap<IpNet, &WantedGateway> = wanted
        .gateways
        .iter()
        .filter(|(device, _)| of(device))
        .flat_map(|(_, gateway)| gateway.state.nets().map(move |net| (net, gateway)))
        .collect();
    for is_v4 in [true, false] {
        let of_family = |(net, _): &(&IpNet, _)| net.addr().is_ipv4() == is_v4;
        let Some((_, gateway)) = nets.iter().find(of_family) else { continue };
        if let Some((what, hint)) = no_way(&gateway.switch, is_v4, outside) {
            refuse(what, hint);
        }
    }
    let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
    for (net, gateway) in &nets {
        for (theirs, device) in outside.routes.iter().filter(|(theirs, _)| overlaps(net, theirs)) {
            refuse(
                format!(
                    "`{net}`, to which switch `{}` is the way, overlaps `{theirs}`, to which this \
                     machine's way is `{device}`",
                    gateway.switch
                ),
                "give the lab or the switch `prefixes` that are free, such as `172.30.0.0/16` and \
                 `fd00:30::/48`"
                    .into(),
            );
        }
    }
    found
}

/// What a machine lacks that does not forward, and how it would.
fn no_way(switch: &SwitchName, is_v4: bool, outside: &Outside) -> Option<(String, String)> {
    let (name, other) = if is_v4 { ("IPv4", "ipv6") } else { ("IPv6", "ipv4") };
    let Some(forwards) = outside.forwards[usize::from(!is_v4)] else {
        let what = format!("switch `{switch}` has `nat`, and this machine has no {name}");
        return Some((what, format!("write `nat: {other}`")));
    };
    if forwards {
        return None;
    }
    let what = format!("switch `{switch}` has `nat`, and this machine does not forward {name}");
    // A router listens to no other, and would lose its own way out.
    let mend = match (is_v4, &outside.listens) {
        (true, _) => "`sysctl -w net.ipv4.ip_forward=1`".to_owned(),
        (false, Some(device)) => format!(
            "`sysctl -w net/ipv6/conf/{device}/accept_ra=2 net/ipv6/conf/all/forwarding=1`, in this \
             order: a machine that forwards IPv6 hears routers no more, and would lose its default \
             route by `{device}`, unless `accept_ra` is 2"
        ),
        (false, None) => "`sysctl -w net.ipv6.conf.all.forwarding=1`".to_owned(),
    };
    Some((what, format!("{mend}; or write `nat: {other}`")))
}

/// What others do not let through, each a line.
pub fn warnings(wanted: &Wanted, world: &World) -> Vec<String> {
    let Some(Outside { drops, .. }) = &world.host.exits.outside else { return Vec::new() };
    let closed = closed(wanted, world, |device| stands(world, device)).into_iter();
    let mut warnings: Vec<String> =
        closed.map(|Refusal { what, hint }| format!("{what}; {hint}")).collect();
    for (device, gateway) in &wanted.gateways {
        let has = |is_v4: bool| gateway.state.nets().any(|net| net.addr().is_ipv4() == is_v4);
        for drops in drops.iter().filter(|drops| !drops.names.contains(device)) {
            let concerns = match drops.family.as_str() {
                "ip" => has(true),
                "ip6" => has(false),
                _ => true,
            };
            if concerns {
                warnings.push(format!(
                    "what switch `{}` sends out is dropped by chain `{}` of table `{} {}`, which \
                     is not ours and has no rule for `{device}`; to let it through: `{}`",
                    gateway.switch,
                    drops.chain,
                    drops.family,
                    drops.table,
                    let_through(drops, device)
                ));
            }
        }
    }
    warnings
}

/// The command that has a chain let through what comes and goes by a device.
fn let_through(drops: &Drops, device: &IfName) -> String {
    let Drops { family, table, chain, docker, .. } = drops;
    let command = match (family.as_str(), table.as_str()) {
        ("ip", "filter") => "iptables",
        ("ip6", "filter") => "ip6tables",
        _ => {
            let rule = format!("nft insert rule {family} {table} {chain}");
            return format!("{rule} iifname {device} accept; {rule} oifname {device} accept");
        }
    };
    let chain = if *docker { "DOCKER-USER" } else { chain };
    format!(
        "{command} -I {chain} -i {device} -j ACCEPT; {command} -I {chain} -o {device} -j ACCEPT"
    )
}
