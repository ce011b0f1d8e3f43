//! A NIC of the machine and all that hangs on it, as it was seen.
//!
//! This is what has to move when the NIC becomes a port of a switch, and to
//! come back to the letter when it is taken off again; so it is also what is
//! written into the journal. Addresses, routes and rules are kept as the
//! kernel told them, byte for byte: what is not understood here comes back all
//! the same. Beside the bytes stands as much as a plan has to know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::mark::Mac;
use super::names::{IfName, LabName};

/// A NIC, or the local interface of a switch, with all that hangs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The device itself.
    pub link: NicLink,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<NicAddress>,
    /// Routes of all tables and both families that leave by it, less those
    /// that the kernel makes and deletes together with an address, and those
    /// that use a nexthop object.
    pub routes: Vec<NicRoute>,
    /// Nexthop objects that leave by it.
    pub hops: Vec<NicHop>,
    /// Policy rules that name it, and those of the same priority, whose order
    /// counts.
    pub rules: Vec<NicRule>,
    /// Neighbours behind it that have an address.
    pub neighbours: Vec<Neighbour>,
    /// Kernel parameters of its own by name, such as `ipv4.rp_filter`.
    pub parameters: BTreeMap<String, String>,
}

/// A device, as far as it matters to who would attach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicLink {
    /// Its index, by which it is known while the machine runs.
    pub index: u32,
    /// Its name.
    pub name: IfName,
    /// Its other names.
    pub altnames: BTreeSet<String>,
    /// Its address, if it is an Ethernet device.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether it has carrier.
    pub carrier: bool,
    /// Its alias.
    pub alias: String,
    /// What kind of device it is; `None` for hardware.
    pub kind: Option<String>,
    /// The device that it is enslaved to.
    pub master: Option<Master>,
    /// How the kernel makes link-local addresses (`addr_gen_mode`).
    pub generates: Option<u8>,
    /// Whether it leaves checksums to its hardware, if that could be asked.
    pub checksums: Option<bool>,
}

/// The mark of a NIC's port in a database that outlives the machine's running.
/// It is not that of a thing of the lab's: the NIC is lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LentMark {
    /// The NIC.
    pub nic: IfName,
    /// The lab that it is attached to.
    pub lab: LabName,
    /// In which life of the machine (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
}

impl fmt::Display for LentMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ovsns attach={} lab={} boot={}", self.nic, self.lab, self.boot)
    }
}

impl LentMark {
    /// Reads a mark; `None` if it is not one of these to the letter.
    pub fn parse(mark: &str) -> Option<Self> {
        let (nic, rest) = mark.strip_prefix("ovsns attach=")?.split_once(" lab=")?;
        let (lab, boot) = rest.split_once(" boot=")?;
        let (nic, lab) = (IfName::new(nic).ok()?, LabName::new(lab).ok()?);
        Some(Self { nic, lab, boot: boot.to_owned() })
    }
}

/// What a device is enslaved to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Master {
    /// The master's index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind: `bridge`, `bond`, `team`, `vrf`, `openvswitch`.
    pub kind: String,
}

/// What the kernel told, without the header of the message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Told(pub Vec<u8>);

/// A process that keeps the lease of a NIC's address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The program.
    pub program: String,
    /// The process.
    pub process: u32,
    /// When it was started, in the kernel's ticks: it is no other process that
    /// has its number since.
    pub started: u64,
}

/// A program that configures NICs, and is to look away from one that is a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Which.
    pub program: Program,
    /// By which it names itself to DHCP servers (RFC 2132, section 9.14), if it
    /// has a lease: the kind, and what is of that kind.
    pub client_id: Vec<u8>,
}

/// Programs that configure NICs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// NetworkManager(8).
    NetworkManager,
    /// systemd-networkd(8), which does by this file (systemd.network(5)).
    Networkd {
        /// Its path.
        file: String,
    },
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NetworkManager => "NetworkManager",
            Self::Networkd { .. } => "systemd-networkd",
        })
    }
}

impl Program {
    /// The command by which it is told to look away.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::NetworkManager => "nmcli",
            Self::Networkd { .. } => "networkctl",
        }
    }
}

/// An address of a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicAddress {
    /// The address with its prefix length.
    pub net: IpNet,
    /// Its flags (`IFA_F_*` in linux/if_addr.h).
    pub flags: u32,
    /// For how many more seconds it is valid; `None` for ever.
    pub valid_s: Option<u32>,
    /// All of it.
    pub told: Told,
}

/// A route of a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicRoute {
    /// Where to.
    pub to: IpNet,
    /// Its table.
    pub table: u32,
    /// Its metric.
    pub metric: u32,
    /// The next routers.
    pub via: BTreeSet<IpAddr>,
    /// Who made it (`rtm_protocol`).
    pub protocol: u8,
    /// All of it.
    pub told: Told,
}

/// A nexthop object (`ip nexthop`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicHop {
    /// Its number.
    pub id: u32,
    /// The next router.
    pub via: Option<IpAddr>,
    /// All of it.
    pub told: Told,
}

/// A policy rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicRule {
    /// Of IPv6, or of IPv4.
    pub v6: bool,
    /// Its priority.
    pub priority: u32,
    /// Whether it names the NIC itself.
    pub names_it: bool,
    /// All of it.
    pub told: Told,
}

/// A neighbour that has an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its IP address.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Whether somebody entered it for ever.
    pub permanent: bool,
    /// Whether it is a router (`NTF_ROUTER`).
    pub router: bool,
}

/// What a NIC says of itself, as its alias, while it is in a node: to which name
/// it goes home. No mark of a thing of ours, since nobody may delete it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwayMark {
    /// What it is called at home.
    pub nic: IfName,
    /// The lab that has it.
    pub lab: LabName,
}

impl fmt::Display for AwayMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ovsns attach={} lab={}", self.nic, self.lab)
    }
}

impl AwayMark {
    /// Reads an alias; `None` if it says nothing of that kind to the letter.
    pub fn parse(alias: &str) -> Option<Self> {
        let (nic, lab) = alias.strip_prefix("ovsns attach=")?.split_once(" lab=")?;
        Some(Self { nic: IfName::new(nic).ok()?, lab: LabName::new(lab).ok()? })
    }
}

impl NicAddress {
    /// Duplicate address detection is left out.
    pub const NODAD: u32 = 0x02;
    /// It failed duplicate address detection.
    pub const DADFAILED: u32 = 0x08;
    /// It cannot be used yet.
    pub const TENTATIVE: u32 = 0x40;
    /// The kernel makes no route to its network.
    pub const NOPREFIXROUTE: u32 = 0x200;
    /// Those that somebody can ask for: `NODAD`, `HOMEADDRESS`,
    /// `MANAGETEMPADDR`, `NOPREFIXROUTE`, `MCAUTOJOIN`.
    pub const ASKED: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;

    /// The flags as they have to be asked for to come out like this.
    pub fn asked_flags(&self) -> u32 {
        self.flags & Self::ASKED
    }

    /// Whether it is one that every interface has by itself.
    pub fn is_link_local(&self) -> bool {
        matches!(self.net, IpNet::V6(net) if net.addr().is_unicast_link_local())
    }

    /// The same address with these flags asked for.
    pub fn with_flags(&self, flags: u32) -> Self {
        Self { flags, ..self.clone() }
    }
}

impl NicRoute {
    /// The protocol of those that are made of what routers tell (`RTPROT_RA` in
    /// linux/rtnetlink.h).
    pub const ADVERTISED: u8 = 9;

    /// What makes it a route of its own in its table.
    pub fn key(&self) -> (u32, IpNet, u32, &BTreeSet<IpAddr>) {
        (self.table, self.to, self.metric, &self.via)
    }
}

impl fmt::Display for NicRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to.prefix_len() {
            0 => {
                f.write_str(if self.to.addr().is_ipv4() { "default" } else { "default (IPv6)" })?
            }
            _ => write!(f, "{}", self.to)?,
        }
        for via in &self.via {
            write!(f, " via {via}")?;
        }
        // `main` is the one that nobody has to be told of.
        if self.table != 254 {
            write!(f, " in table {}", self.table)?;
        }
        Ok(())
    }
}

impl Nic {
    /// The routers that its routes and nexthop objects lead to.
    pub fn gateways(&self) -> BTreeSet<IpAddr> {
        let of_routes = self.routes.iter().flat_map(|route| route.via.iter().copied());
        of_routes.chain(self.hops.iter().filter_map(|hop| hop.via)).collect()
    }

    /// Whether anything of IP hangs on it.
    pub fn is_bare(&self) -> bool {
        self.addresses.is_empty() && self.routes.is_empty() && self.hops.is_empty()
    }
}
