//! What a switch has learned and counted, from whoever knows it best: the kernel of
//! its links, the daemon of all else.

use std::collections::BTreeMap;

use super::seen::Rows;
use super::{OpenVswitch, seen, tools};
use crate::model::names::IfName;
use crate::model::world::SwitchSpec;
use crate::switch::{Counters, Learned, SwitchError, Traffic};

/// Like `ovs-appctl fdb/show BRIDGE`, `ovs-ofctl dump-ports BRIDGE`, `ovs-appctl
/// bond/show`, and `ip -s link` for what the kernel counts itovs.
pub(in crate::switch) async fn traffic(
    ovs: &mut OpenVswitch,
    switch: &SwitchSpec,
) -> Result<Traffic, SwitchError> {
    let counted = crate::switch::linux::all_counters(&ovs.netlink)?;
    let troubled = ovs.troubled;
    let Some(vswitch) = ovs.there().await? else { return Ok(Traffic::default()) };
    let rows = vswitch.client.read(Rows::read).map_err(|error| vswitch.unreadable(&error))?;
    let fabric = switch_alone(&rows, switch);
    let mut traffic = Traffic::default();
    let mut by_number = BTreeMap::new();
    for (name, port) in &fabric {
        by_number.extend(port.numbers.iter().map(|number| (*number, name.clone())));
        let of_links = port.links.iter().filter_map(|link| counted.get(link.as_str()));
        let counters = of_links.copied().chain(port.counted).fold(Counters::default(), sum);
        traffic.counters.insert(name.clone(), counters);
    }
    if troubled {
        return Ok(traffic);
    }
    if fabric.values().any(|port| port.links.is_empty()) {
        // One that goes away meanwhile is told of by `observe`; what the
        // database has will do.
        let asked = ["--no-names", "dump-ports", switch.device.as_str()];
        let said = tools::ofctl(&vswitch.rundir, &asked, None).await.unwrap_or_default();
        let counted = tools::read_ports(&said);
        for (name, port) in fabric.iter().filter(|(_, port)| port.links.is_empty()) {
            let now = port.numbers.first().and_then(|number| counted.get(number));
            traffic.counters.extend(now.map(|counters| (name.clone(), *counters)));
        }
    }
    for (name, _) in fabric.iter().filter(|(_, port)| 1 < port.links.len()) {
        // As above: one that is gone by now has no state.
        let said = tools::answer(&vswitch.control, "bond/show", &[name.as_str()]).await;
        let bond = said.ok().and_then(Result::ok).map(|said| tools::read_bond(&said));
        traffic.bonds.extend(bond.map(|bond| (name.clone(), bond)));
    }
    let asked = tools::answer(&vswitch.control, "fdb/show", &[switch.device.as_str()]).await;
    let learned = match asked {
        Ok(Ok(learned)) => learned,
        // It has no such bridge, or `observe` tells what is wrong with it;
        // nobody knows what the switch has learned.
        Ok(Err(_)) => return Ok(traffic),
        Err(_) if vswitch.trouble().await.is_some() => return Ok(traffic),
        Err(error) => return Err(error.into()),
    };
    traffic.learned.extend(tools::read_fdb(&learned).into_iter().filter_map(|entry| {
        let port = by_number.get(&entry.number)?.clone();
        let vlan = Some(entry.vlan).filter(|_| switch.vlan_filtering);
        Some(Learned { mac: entry.mac, port, vlan })
    }));
    traffic.learned.sort();
    Ok(traffic)
}

/// A port, as far as its counters go.
struct Counted {
    /// Its numbers: one for each link of a bond.
    numbers: Vec<u16>,
    /// The kernel's links that are plugged in, whose counters are up to date.
    links: Vec<String>,
    /// What the database has of a port without a link, some seconds old: all
    /// there is where the daemon does not answer.
    counted: Option<Counters>,
}

fn switch_alone(rows: &Rows, switch: &SwitchSpec) -> BTreeMap<IfName, Counted> {
    let Some(bridge) = rows.bridge(&switch.device) else { return BTreeMap::new() };
    let ports = seen::followed(&bridge.ports, &rows.ports).filter(|p| p.name != bridge.name);
    let counted = ports.filter_map(|port| {
        let interfaces: Vec<_> = seen::followed(&port.interfaces, &rows.interfaces).collect();
        let has_link = |interface: &str| matches!(interface, "" | "system");
        let links = interfaces.iter().filter(|interface| has_link(&interface.kind));
        let links: Vec<String> = links.map(|interface| interface.name.clone()).collect();
        let counted = interfaces.first().filter(|_| links.is_empty()).map(|interface| {
            let of = |key: &str| {
                let value = interface.statistics.get(key).copied().unwrap_or_default();
                u64::try_from(value).unwrap_or_default()
            };
            Counters {
                rx_packets: of("rx_packets"),
                rx_bytes: of("rx_bytes"),
                tx_packets: of("tx_packets"),
                tx_bytes: of("tx_bytes"),
                dropped: of("rx_dropped") + of("tx_dropped"),
            }
        });
        let numbers =
            interfaces.iter().filter_map(|interface| u16::try_from(interface.ofport?).ok());
        let counted = Counted { numbers: numbers.collect(), links, counted };
        Some((IfName::new(&port.name).ok()?, counted))
    });
    counted.collect()
}

fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        rx_packets: a.rx_packets + b.rx_packets,
        rx_bytes: a.rx_bytes + b.rx_bytes,
        tx_packets: a.tx_packets + b.tx_packets,
        tx_bytes: a.tx_bytes + b.tx_bytes,
        dropped: a.dropped + b.dropped,
    }
}
