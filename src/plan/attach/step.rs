//! Steps of attaching a NIC: what is to be done, never how.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::mark::Mac;
use crate::model::names::IfName;
use crate::model::nic::{Neighbour, NicAddress, NicHop, NicRoute, NicRule, Program};
use crate::model::topology::Backend;
use crate::plan::FabricStep;

/// A thing to do for one pair of hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NicStage {
    /// For the kernel.
    Nic(NicStep),
    /// For the switches of one backend, which takes all of them or none.
    Fabric(Backend, Vec<FabricStep>),
}

/// One change to the machine's own addresses, routes and rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NicStep {
    /// Sets a kernel parameter of a device, by its short name
    /// (`ipv4.rp_filter`).
    Parameter {
        /// The device.
        device: IfName,
        /// The parameter.
        key: String,
        /// What it is to be.
        value: String,
    },
    /// Says how the kernel makes link-local addresses for a device, without
    /// having it make any.
    Generates {
        /// The device.
        device: IfName,
        /// The way (`addr_gen_mode`).
        mode: u8,
    },
    /// Has a device calculate checksums itself, or leave them to its hardware.
    Checksums {
        /// The device.
        device: IfName,
        /// Whether it leaves them.
        leave: bool,
    },
    /// Enters neighbours, so that nobody has to be asked for.
    Teach {
        /// The device that they are behind.
        device: IfName,
        /// The neighbours.
        neighbours: Vec<Neighbour>,
    },
    /// Deletes entries of neighbours.
    Forget {
        /// The device that they are behind.
        device: IfName,
        /// Their IP addresses.
        neighbours: Vec<IpAddr>,
    },
    /// Gives a device addresses; one that it has gets the flags that are asked
    /// for.
    Give {
        /// The device that had them when they were seen.
        from: IfName,
        /// The device that gets them.
        to: IfName,
        /// The addresses, in the order in which they are given.
        addresses: Vec<NicAddress>,
    },
    /// Awaits that a device can use addresses that it was given.
    Settle {
        /// The device.
        device: IfName,
        /// The addresses.
        addresses: Vec<IpNet>,
    },
    /// Awaits that a switch in userspace passes frames of a NIC on to its local
    /// device as they come. While it takes in a new port they pile up, and what
    /// the host has heard from the NIC it would hear again.
    Drain {
        /// The NIC.
        nic: IfName,
        /// The switch's local device.
        local: IfName,
    },
    /// Makes routes, nexthop objects and rules that leave by one device leave
    /// by another: all new ones at once, then all old ones away at once.
    Carry {
        /// The device by which they leave.
        from: IfName,
        /// The device by which they are to.
        to: IfName,
        /// What is carried.
        load: Load,
    },
    /// Enters routes, nexthop objects and rules that were by a device and are
    /// not any more.
    Enter {
        /// The device by which they were seen to leave.
        device: IfName,
        /// What is entered.
        load: Load,
    },
    /// Gives a device back its name.
    Rename {
        /// What the kernel has called it.
        from: IfName,
        /// What it is called.
        to: IfName,
    },
    /// Changes a device that nobody uses; what is `None` stays.
    Link {
        /// The device.
        device: IfName,
        /// Its address.
        mac: Option<Mac>,
        /// Its MTU in bytes.
        mtu: Option<u32>,
        /// Its alias.
        alias: Option<String>,
    },
    /// Gives a device other names.
    Call {
        /// The device.
        device: IfName,
        /// Its other names.
        altnames: BTreeSet<String>,
    },
    /// Raises a device, or takes it down.
    Raise {
        /// The device.
        device: IfName,
        /// Whether it is to be up.
        up: bool,
    },
    /// Takes addresses off a device.
    Take {
        /// The device.
        device: IfName,
        /// The addresses, in the order in which they go.
        addresses: Vec<NicAddress>,
    },
    /// Says what the host hears of a NIC and of the local device of a switch in
    /// userspace, which gets the same frames. All with one stroke.
    Listen {
        /// The NIC, whose name the filter has.
        nic: IfName,
        /// The switch's local device.
        local: IfName,
        /// What it hears of them.
        ear: Ear,
    },
    /// Has a program look away from a NIC, and from the local device that has all
    /// of it now.
    LookAway {
        /// The NIC.
        nic: IfName,
        /// The switch's local device.
        local: IfName,
        /// The program.
        program: Program,
    },
    /// Has a program see to a NIC again.
    LookAgain {
        /// The NIC.
        nic: IfName,
        /// The program.
        program: Program,
        /// Rules that went with it and were entered again: they go when it has
        /// made its own.
        rules: Vec<NicRule>,
    },
    /// Has the host hear all of a NIC and its switch.
    ListenToAll {
        /// The NIC.
        nic: IfName,
    },
}

/// What the host hears of two devices that get the same frames. The switch
/// takes them before they are heard or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ear {
    /// Each frame once, by whichever of the two it comes first.
    Either,
    /// The local device, each frame once: not those that the NIC brought before,
    /// nor those from the NIC later.
    LocalOnce,
    /// The local device alone.
    Local,
}

/// What leaves by a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Routes.
    pub routes: Vec<NicRoute>,
    /// Nexthop objects.
    pub hops: Vec<NicHop>,
    /// Rules: all of a priority, in their order.
    pub rules: Vec<NicRule>,
}

impl Load {
    /// Whether there is nothing to carry.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.hops.is_empty() && self.rules.is_empty()
    }

    /// All of it in a few words.
    fn words(&self) -> String {
        let mut words: Vec<String> = self.routes.iter().map(ToString::to_string).collect();
        words.extend(self.hops.iter().map(|hop| format!("nexthop {}", hop.id)));
        // The others of a priority only keep their place, unless it is about them.
        let about_it = self.rules.iter().any(|rule| rule.names_it);
        let rules = self.rules.iter().filter(|rule| rule.names_it || !about_it);
        words.extend(rules.map(|rule| format!("rule {}", rule.priority)));
        words.join("; ")
    }
}

impl fmt::Display for NicStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter { device, key, value } => write!(f, "~ {device}: {key}={value}"),
            Self::Generates { device, mode } => {
                let way = ["eui64", "none", "stable-privacy", "random"].get(usize::from(*mode));
                write!(f, "~ {device}: link-local addresses {}", way.unwrap_or(&"unknown"))
            }
            Self::Checksums { device, leave } => {
                let word = if *leave { "leaves" } else { "calculates" };
                write!(f, "~ {device} {word} checksums")
            }
            Self::Teach { device, neighbours } => {
                let words: Vec<_> =
                    neighbours.iter().map(|n| format!("{} is {}", n.ip, n.mac)).collect();
                write!(f, "+ neighbours of {device}: {}", words.join(", "))
            }
            Self::Forget { device, neighbours } => {
                let words: Vec<_> = neighbours.iter().map(ToString::to_string).collect();
                write!(f, "- neighbours of {device}: {}", words.join(", "))
            }
            Self::Give { to, addresses, .. } => {
                write!(f, "+ addresses on {to}: {}", nets(addresses))
            }
            Self::Drain { nic, local } => {
                write!(f, "  wait until frames from {nic} reach {local} as they come")
            }
            Self::Settle { device, .. } => write!(f, "  wait until {device} can use its addresses"),
            Self::Carry { from, to, load } => {
                write!(f, "> from {from} to {to}, at once: {}", load.words())
            }
            Self::Enter { device, load } => write!(f, "+ by {device}: {}", load.words()),
            Self::Rename { from, to } => write!(f, "~ {from} is called {to} again"),
            Self::Link { device, mac, mtu, alias } => {
                let mac = mac.map(|mac| format!("mac {mac}"));
                let mtu = mtu.map(|mtu| format!("mtu {mtu}"));
                let alias = alias.as_ref().map(|alias| format!("alias `{alias}`"));
                let words: Vec<_> = [mac, mtu, alias].into_iter().flatten().collect();
                write!(f, "~ {device} has {} again", words.join(", "))
            }
            Self::Call { device, altnames } => {
                let words: Vec<_> = altnames.iter().map(String::as_str).collect();
                write!(f, "~ {device} is also called {}", words.join(", "))
            }
            Self::Raise { device, up } => {
                write!(f, "~ {device} is {}", if *up { "up" } else { "down" })
            }
            Self::Take { device, addresses } => {
                write!(f, "- addresses on {device}: {}", nets(addresses))
            }
            Self::Listen { nic, local, ear: Ear::Either } => {
                write!(f, "~ the host hears each frame once, from {nic} or {local}")
            }
            Self::Listen { local, ear: Ear::LocalOnce, .. } => {
                write!(f, "~ the host hears each frame once, from {local}")
            }
            Self::Listen { local, ear: Ear::Local, .. } => write!(f, "~ the host hears {local}"),
            Self::LookAway { nic, local, program } => {
                write!(f, "~ {program} looks away from {nic} and {local}")
            }
            Self::LookAgain { nic, program, .. } => write!(f, "~ {program} sees to {nic} again"),
            Self::ListenToAll { nic } => write!(f, "~ the host hears {nic}"),
        }
    }
}

fn nets(addresses: &[NicAddress]) -> String {
    let nets: Vec<_> = addresses.iter().map(|address| address.net.to_string()).collect();
    nets.join(", ")
}

impl NicStage {
    /// The stage in words, each step a line.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Nic(step) => vec![step.to_string()],
            Self::Fabric(_, steps) => steps.iter().map(FabricStep::line).collect(),
        }
    }
}
