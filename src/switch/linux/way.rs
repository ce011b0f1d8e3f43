//! What a bridge would do with a frame: its ports and its forwarding table, as
//! the kernel has them, put before `plan::why::switch`.

use std::collections::BTreeMap;

use netlink_packet_route::link::{InfoBridgePort, InfoPortData, LinkAttribute, LinkInfo};
use netlink_packet_route::neighbour::NeighbourState;

use super::{LinuxBridge, fdb};
use crate::kernel::observe::{self, Link};
use crate::kernel::why::state_name;
use crate::model::names::IfName;
use crate::model::packet::Frame;
use crate::model::world::SwitchSpec;
use crate::plan::why::facts::Way;
use crate::plan::why::switch::{Entry, Port, bridge};
use crate::switch::SwitchError;

impl LinuxBridge {
    /// Like `bridge -d link show`, `bridge vlan show` and `bridge fdb show`, and
    /// somebody who reads them.
    pub(super) fn way_of(
        &self,
        switch: &SwitchSpec,
        enters: &IfName,
        frame: &Frame,
    ) -> Result<Way, SwitchError> {
        let observe = SwitchError::Observe;
        let number = self.netlink.index_of(switch.device.as_str()).map_err(observe)?;
        let vlans = if switch.vlan_filtering { self.vlans()? } else { BTreeMap::new() };
        let (mut ports, mut names) = (BTreeMap::new(), BTreeMap::new());
        for link in observe::links(&self.netlink).map_err(observe)? {
            let (Some(true), Ok(name)) =
                (link.master.map(|it| it == number), IfName::new(&link.name))
            else {
                continue;
            };
            let mut port = port(&link);
            if switch.vlan_filtering {
                let seen = vlans.get(&link.index).cloned().unwrap_or_default();
                port.untagged = seen.native;
                port.vlans = Some(seen.tagged.into_iter().chain(seen.native).collect());
            }
            names.insert(link.index, name.clone());
            ports.insert(name, port);
        }
        let table = fdb::entries(&self.netlink, number, &names).map_err(observe)?;
        let table: Vec<Entry> = table.into_iter().map(entry).collect();
        Ok(bridge(&ports, &table, enters, frame))
    }
}

fn port(link: &Link) -> Port {
    let mut port = Port::OPEN;
    let data = link.message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::PortData(InfoPortData::BridgePort(data)) => Some(data),
            _ => None,
        }),
        _ => None,
    });
    for data in data.flatten() {
        match data {
            InfoBridgePort::State(state) => port.state = state_name(*state),
            InfoBridgePort::Isolated(isolated) => port.isolated = *isolated,
            InfoBridgePort::UnicastFlood(floods) => port.floods = *floods,
            InfoBridgePort::BroadcastFlood(floods) => port.floods_broadcast = *floods,
            InfoBridgePort::Locked(locked) => port.locked = *locked,
            _ => {}
        }
    }
    port
}

fn entry(seen: fdb::Entry) -> Entry {
    let pinned = matches!(seen.state, NeighbourState::Noarp | NeighbourState::Permanent);
    Entry { mac: seen.mac, port: seen.port, vlan: seen.vlan, pinned }
}
