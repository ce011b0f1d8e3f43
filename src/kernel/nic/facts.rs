//! What else there is to know about a NIC before anybody touches it: who sees
//! to it, what sits on it, what depends on it. Files and messages are read,
//! nothing is changed, and what cannot be read is not known to be so.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use netlink_packet_route::link::{LinkAttribute, LinkXdp, XdpAttached};

use super::read::kind_words;
use super::{clients, owners};
use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::wire;
use crate::kernel::observe;
use crate::kernel::raw::{Raw, find, text_of};
use crate::model::names::IfName;
use crate::model::nic::NicLink;
use crate::plan::attach::Facts;
use crate::plan::attach::preflight::Manager;

/// Looks at the surroundings of a NIC.
pub(super) fn facts(netlink: &Netlink, nic: &NicLink) -> Result<Facts, KernelError> {
    let links = observe::links(netlink)?;
    let device = Path::new("/sys/class/net").join(nic.name.as_str());
    let mut facts = Facts {
        wireless: device.join("phy80211").exists(),
        driver: fs::read_link(device.join("device/driver"))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
        root: root(netlink, nic.index)?,
        managers: managers(&nic.name, nic.index),
        ..Facts::default()
    };
    for link in &links {
        let on_it = |attribute: &LinkAttribute| *attribute == LinkAttribute::Link(nic.index);
        let elsewhere =
            |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkNetNsId(_));
        let attributes = &link.message.attributes;
        if link.index == nic.index {
            let attached =
                |xdp: &LinkXdp| matches!(xdp, LinkXdp::Attached(how) if *how != XdpAttached::None);
            facts.xdp = attributes.iter().any(|attribute| match attribute {
                LinkAttribute::Xdp(xdp) => xdp.iter().any(attached),
                _ => false,
            });
        } else if attributes.iter().any(on_it) && !attributes.iter().any(elsewhere) {
            let kind = link.kind.as_ref().map(kind_words).unwrap_or_default();
            if matches!(
                kind.as_str(),
                "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "macsec"
            ) {
                facts.uppers.push((link.name.clone(), kind));
            }
        }
    }
    let filter = Filter::read();
    facts.forward_drop = calls_the_filter() && filter.drops_forwarded;
    facts.filters = filter.tables_naming(&nic.name);
    Ok(facts)
}

/// Where the root file system comes from over the link with that index.
fn root(netlink: &Netlink, index: u32) -> Result<Option<String>, KernelError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let servers = mounts.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, "/", kind, options, ..] = words.as_slice() else { return None };
        if !kind.starts_with("nfs") && *kind != "cifs" && *kind != "9p" {
            return None;
        }
        let address = options.split(',').find_map(|option| option.strip_prefix("addr="))?;
        Some((format!("{kind} from {address}"), address.parse().ok()?))
    });
    let mut servers: Vec<(String, IpAddr)> = servers.collect();
    // Which disk is the root's may be hidden behind several layers; a machine
    // with a disk over the network is careful enough a reason.
    let sessions = fs::read_dir("/sys/class/iscsi_connection").into_iter().flatten().flatten();
    servers.extend(sessions.filter_map(|entry| {
        let address = fs::read_to_string(entry.path().join("persistent_address")).ok()?;
        Some((format!("iSCSI at {}", address.trim()), address.trim().parse().ok()?))
    }));
    for (words, server) in servers {
        if observe::way_to(netlink, server)? == Some(index) {
            return Ok(Some(words));
        }
    }
    Ok(None)
}

/// The programs that see to a NIC.
pub(in crate::kernel) fn managers(nic: &IfName, index: u32) -> Vec<Manager> {
    let mut found = Vec::new();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    found.extend(owners::of(nic, index, None).into_iter().map(|owner| {
        let listens = owners::can_be_told(&owner.program);
        Manager::Owner { program: owner.program, listens }
    }));
    let raised = read("/run/network/ifstate");
    if raised.lines().any(|line| line.split('=').next() == Some(nic.as_str())) {
        found.push(Manager::Ifupdown);
    }
    let mut clients = clients::of(nic);
    clients.dedup_by(|a, b| a.program == b.program);
    found.extend(clients.into_iter().map(|it| Manager::Dhcp(it.program, it.process)));
    found
}

fn calls_the_filter() -> bool {
    let calls = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    calls.is_ok_and(|value| value.trim() == "1")
}

/// The packet filter's rules and chains, as far as they can be read.
struct Filter {
    drops_forwarded: bool,
    rules: Vec<Raw>,
}

impl Filter {
    fn read() -> Self {
        let dump = |kind: u16| -> Vec<Raw> {
            // A kernel without it filters nothing by it.
            let Ok(netlink) = Netlink::netfilter() else { return Vec::new() };
            let all = wire::request(wire::NFPROTO_UNSPEC, kind, &[]);
            netlink.raw_dump(&all, "read the packet filter").unwrap_or_default()
        };
        let drops = |raw: &Raw| {
            let Some((family, bytes)) = wire::body(raw) else { return false };
            let number = |path: &[u16]| find(bytes, path).and_then(wire::big_of);
            let hook = number(&[wire::NFTA_CHAIN_HOOK, wire::NFTA_HOOK_HOOKNUM]);
            let policy = number(&[wire::NFTA_CHAIN_POLICY]);
            // `inet` chains see IPv4, too.
            let v4 = matches!(family, wire::NFPROTO_IPV4 | wire::NFPROTO_INET);
            v4 && hook == Some(wire::NF_INET_FORWARD) && policy == Some(wire::NF_DROP)
        };
        let drops_forwarded = dump(wire::NFT_MSG_GETCHAIN).iter().any(drops);
        Self { drops_forwarded, rules: dump(wire::NFT_MSG_GETRULE) }
    }

    /// The tables with rules in which the NIC's name stands: as a name of its
    /// own, closed by a zero.
    fn tables_naming(&self, nic: &IfName) -> Vec<String> {
        let name = [nic.as_str().as_bytes(), &[0]].concat();
        let names = |raw: &&Raw| {
            let windows = raw.bytes.windows(name.len() + 1);
            // What is before it is no letter, or it is the end of a longer name.
            windows.into_iter().any(|w| w[1..] == name[..] && !w[0].is_ascii_graphic())
        };
        let table = |raw: &Raw| {
            let table = find(wire::body(raw)?.1, &[wire::NFTA_RULE_TABLE])?;
            Some(text_of(table)?.to_owned()).filter(|table| !table.starts_with("ovsns."))
        };
        let mut tables: Vec<String> = self.rules.iter().filter(names).filter_map(table).collect();
        tables.sort();
        tables.dedup();
        tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_rule_stands_alone() {
        check(b"\x04eth0\0\0\0", true);
        check(b"\x04veth0\0\0\0", false);
        check(b"\x04eth01\0\0\0", false);

        #[track_caller]
        fn check(data: &[u8], expected: bool) {
            let table = crate::kernel::raw::text(1, "filter");
            let data = crate::kernel::raw::attribute(4, data);
            let rules = vec![Raw::new(0, &[0; 4], &[table, data])];
            let filter = Filter { drops_forwarded: false, rules };
            let named = filter.tables_naming(&IfName::new("eth0").expect("a name"));
            assert_eq!(!named.is_empty(), expected, "{data:?}", data = filter.rules[0].bytes);
        }
    }
}
