//! Steps: what is to be done, never how.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::nics::{Child, Loan};
use crate::model::adopt::{Adopt, NetnsId};
use crate::model::exits::{Doors, GatewayState};
use crate::model::impair::Impairments;
use crate::model::laid::NodeFile;
use crate::model::life::{Life, Limits, Process, Room};
use crate::model::mark::Mac;
use crate::model::names::{IfName, LabName, NodeName};
use crate::model::topology::{Backend, Dynamic, Sealed};
use crate::model::world::{
    Deaf, FlowSpec, KernelRoute, Leftover, MirrorSpec, PortSpec, SwitchSpec,
};

/// All that one command does to one lab, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The lab.
    pub lab: LabName,
    /// What to do, one after the other.
    pub stages: Vec<Stage>,
}

/// A run of steps for one pair of hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// For the kernel.
    Host(Vec<Step>),
    /// For the switches of one backend, which takes all of them or none.
    Fabric(Backend, Vec<FabricStep>),
}

/// Where a link's end is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// In the machine's own namespace.
    Host,
    /// In a node.
    Node(NodeName),
}

/// One change to namespaces and links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Makes a namespace, gives it our mark, sets kernel parameters for the
    /// devices still to come, raises its loopback and names it.
    AddNode {
        /// The node.
        node: NodeName,
    },
    /// Takes the namespace's name away; it ends with its last process.
    DeleteNode {
        /// The node.
        node: NodeName,
    },
    /// Has all that is run in a node from now on able to change its network, or not.
    SealNode {
        /// The node.
        node: NodeName,
        /// How it was sealed.
        before: Option<Sealed>,
        /// How it is to be.
        after: Option<Sealed>,
    },
    /// Gives a namespace of somebody else's the name of a node, and changes nothing
    /// in it.
    AdoptNode {
        /// The node.
        node: NodeName,
        /// Where it is found.
        from: Adopt,
        /// Which it is; another that is found there meanwhile is not adopted.
        netns: NetnsId,
    },
    /// Takes what is ours out of an adopted namespace, and then the name away.
    LeaveNode {
        /// The node.
        node: NodeName,
        /// Where it was found, for the way back.
        from: Adopt,
        /// Which it is.
        netns: NetnsId,
    },
    /// Makes a pair of links, each end born where it belongs, and marks them.
    AddVeth(Veth),
    /// Deletes the pair; the veth is what it was, for the way back.
    DeleteVeth(Veth),
    /// Deletes what is left of a link of ours: an end whose other end went
    /// astray, or one that was never finished.
    DeleteEnd {
        /// Where it is.
        at: Place,
        /// The device.
        device: IfName,
    },
    /// Makes a child of a NIC in a node, marked and up.
    AddMacvlan(Child),
    /// Deletes it; the child is what it was, for the way back.
    DeleteMacvlan(Child),
    /// Puts a NIC into a node, where it is up. How it was is written down before.
    LendNic(Loan),
    /// Takes it out again. What hung on it is put back by who has written it down.
    ReturnNic(Loan),
    /// Deletes all links of the lab's group in the machine's own namespace
    /// with one request, bridges included.
    SweepLinks {
        /// The lab's link group.
        group: u32,
        /// The devices that will go, and no others.
        devices: Vec<IfName>,
    },
    /// Changes a link.
    SetLink {
        /// Where it is.
        at: Place,
        /// The device.
        device: IfName,
        /// How it was.
        before: LinkState,
        /// How it is to be.
        after: LinkState,
    },
    /// Impairs frames that leave by a device, in this way and no other.
    Impair {
        /// Where it is.
        at: Place,
        /// The device.
        device: IfName,
        /// What happened to them.
        before: Impairments,
        /// What is to happen.
        after: Impairments,
    },
    /// Has a node hear no frames of some others, and no more than these.
    Cut {
        /// The node.
        node: NodeName,
        /// What it did not hear.
        before: Option<Deaf>,
        /// What it is not to hear.
        after: Option<Deaf>,
        /// Whose that is, where it is known.
        #[serde(default)]
        from: BTreeSet<NodeName>,
    },
    /// Gives a link its full name too.
    AddAltname {
        /// Where it is.
        at: Place,
        /// The device.
        device: IfName,
        /// The other name.
        altname: String,
    },
    /// Gives an interface an address, usable at once.
    AddAddress {
        /// The node.
        node: NodeName,
        /// The device.
        device: IfName,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// Takes an address away.
    DeleteAddress {
        /// The node.
        node: NodeName,
        /// The device.
        device: IfName,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// Has a lease of an address kept for an interface: asked for, renewed, and
    /// asked for again if it is lost.
    HoldLease {
        /// The node.
        node: NodeName,
        /// The device.
        device: IfName,
    },
    /// Gives a lease back, and its address goes.
    EndLease {
        /// The node.
        node: NodeName,
        /// The device.
        device: IfName,
    },
    /// Waits until an interface was given an address.
    AwaitAddress {
        /// The node.
        node: NodeName,
        /// The device.
        device: IfName,
        /// By whom.
        by: Dynamic,
    },
    /// Adds a route to a node's main table.
    AddRoute {
        /// The node.
        node: NodeName,
        /// The route.
        route: KernelRoute,
    },
    /// Takes a route away.
    DeleteRoute {
        /// The node.
        node: NodeName,
        /// The route.
        route: KernelRoute,
    },
    /// Starts the keeper of a node, with what the node has of its own and may
    /// use.
    StartKeeper {
        /// The node.
        node: NodeName,
        /// What it has of its own.
        room: Room,
        /// What it may use.
        limits: Limits,
    },
    /// Ends it and all that runs with it, and what one that is gone has left.
    EndKeeper {
        /// The node.
        node: NodeName,
        /// What it kept, for the way back; `None` if it is of no use any more.
        life: Option<Life>,
    },
    /// Changes what a node may use.
    SetLimits {
        /// The node.
        node: NodeName,
        /// What it might.
        before: Limits,
        /// What it may.
        after: Limits,
    },
    /// Has a node with a host name of its own be called so.
    RenameNode {
        /// The node.
        node: NodeName,
        /// What it is called.
        before: String,
        /// What it is to be called.
        after: String,
    },
    /// Lays a file over the machine's in a node.
    LayFile {
        /// The node.
        node: NodeName,
        /// Where.
        path: String,
        /// What was laid there; `None` if nothing was, or it was taken away.
        before: Option<NodeFile>,
        /// What is to be.
        after: NodeFile,
    },
    /// Takes one away, so that the machine's is there again.
    LiftFile {
        /// The node.
        node: NodeName,
        /// Where.
        path: String,
        /// What was laid there, for the way back.
        before: Option<NodeFile>,
    },
    /// Has the machine's own file of names say these of the lab's nodes.
    WriteNames {
        /// What it says.
        before: Option<String>,
        /// What it is to say; `None` for nothing.
        after: Option<String>,
    },
    /// Has a process run in a node, and waits until it is ready.
    RunProcess {
        /// The node.
        node: NodeName,
        /// The process.
        process: Process,
    },
    /// Stops a process.
    StopProcess {
        /// The node.
        node: NodeName,
        /// The process as it was, for the way back.
        process: Process,
    },
    /// Makes the machine on the local device of a switch what it is to be.
    SetGateway {
        /// The device.
        device: IfName,
        /// What it was.
        before: GatewayState,
        /// What it is to be; parameters that it does not say stay.
        after: GatewayState,
    },
    /// Makes the packet filter's table of the lab anew, or deletes it.
    SetDoors {
        /// What it was for.
        before: Option<Doors>,
        /// What it is to be for.
        after: Option<Doors>,
    },
    /// Sets a kernel parameter in a node.
    SetSysctl {
        /// The node.
        node: NodeName,
        /// The parameter, dotted.
        key: String,
        /// What it was; `None` in a node that is new.
        before: Option<String>,
        /// What it is to be.
        after: String,
    },
    /// Says whether an interface leaves checksums to hardware, which a veth
    /// does not have: so it is born, and so the frames are not fit for a
    /// switch that is a program.
    SetChecksums {
        /// The node.
        node: NodeName,
        /// The device.
        device: IfName,
        /// Whether it left them.
        before: bool,
        /// Whether it is to.
        after: bool,
    },
}

/// What can change about a link while it stays the same link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Whether it is up.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its address.
    pub mac: Mac,
    /// Its alias: the full mark.
    pub alias: String,
}

/// A pair of links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Veth {
    /// The link's identity in its lab (`topology::Link::id`).
    pub link: String,
    /// The lab's link group, set at birth.
    pub group: u32,
    /// MTU of both ends in bytes.
    pub mtu: u32,
    /// The two ends. Where only one is at a switch, it is the first.
    pub ends: [VethEnd; 2],
    /// Which end is held down, so that none has carrier: 0 or 1.
    #[serde(default)]
    pub down: Option<usize>,
    /// What happens to frames that leave by each end.
    #[serde(default)]
    pub impairments: [Impairments; 2],
}

/// One end of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VethEnd {
    /// Where it is born.
    pub at: Place,
    /// Its name.
    pub device: IfName,
    /// Its address.
    pub mac: Mac,
    /// Its full mark.
    pub alias: String,
    /// Its other name, where the device's is a short one.
    pub altname: Option<String>,
}

/// One change to the switches of a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "a lab has few switches for each thousand steps")]
pub enum FabricStep {
    /// Makes a switch that does not forward yet.
    AddSwitch(SwitchSpec),
    /// Changes a switch.
    SetSwitch {
        /// How it was.
        before: SwitchSpec,
        /// How it is to be.
        after: SwitchSpec,
    },
    /// Lets a switch forward. Comes after its first ports, since every port
    /// that comes up on a bridge that is up costs about 5 ms of announcements
    /// to all other ports (kernel 6.18, 1000 ports; 1 ms with the bridge down).
    RaiseSwitch(SwitchSpec),
    /// Waits until a switch whose links were raised passes frames again: a
    /// spanning tree has decided, the cables of bonds have heard of each other.
    SettleSwitch(SwitchSpec),
    /// Deletes a switch.
    DeleteSwitch(SwitchSpec),
    /// Plugs a link into a switch.
    AddPort(PortSpec),
    /// Changes a port, or moves it to another switch.
    SetPort {
        /// How it was.
        before: PortSpec,
        /// How it is to be.
        after: PortSpec,
    },
    /// Pulls a link out of a switch.
    DeletePort(PortSpec),
    /// Copies frames. What is copied cannot be changed, only made anew: after
    /// a change Open vSwitch was seen to copy what it should not any more.
    AddMirror(MirrorSpec),
    /// Copies no more.
    DeleteMirror(MirrorSpec),
    /// Adds a flow.
    AddFlow(FlowSpec),
    /// Deletes a flow.
    DeleteFlow(FlowSpec),
    /// Deletes a row that no port has any more.
    DeleteLeftover(Leftover),
}

impl Veth {
    /// How end `side` (0 or 1) stands when all is done.
    pub fn raised(&self, side: usize) -> LinkState {
        let end = &self.ends[side];
        let up = self.down != Some(side);
        LinkState { up, mtu: self.mtu, mac: end.mac, alias: end.alias.clone() }
    }

    /// How end `side` stands when it is born: the second one down, because
    /// the kernel answers ENOTCONN to a peer that is to be up at birth; the
    /// first one up if that is in the machine's own namespace, where it saves
    /// a request for each link.
    pub fn born(&self, side: usize) -> LinkState {
        let raised = self.raised(side);
        let up = raised.up && side == 0 && self.ends[0].at == Place::Host;
        LinkState { up, ..raised }
    }
}

impl Plan {
    /// A plan that does nothing.
    pub fn nothing(lab: &LabName) -> Self {
        Self { lab: lab.clone(), stages: Vec::new() }
    }

    /// The backends that have something to do in it.
    pub fn backends(&self) -> impl Iterator<Item = Backend> {
        self.stages.iter().filter_map(|stage| match stage {
            Stage::Host(_) => None,
            Stage::Fabric(backend, _) => Some(*backend),
        })
    }

    /// Whether some node gets a keeper.
    pub fn starts_keepers(&self) -> bool {
        let of_host = self.stages.iter().filter_map(|stage| match stage {
            Stage::Host(steps) => Some(steps),
            Stage::Fabric(..) => None,
        });
        of_host.flatten().any(|step| matches!(step, Step::StartKeeper { .. }))
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.stages.iter().map(Stage::len).sum()
    }
}

impl Stage {
    /// The number of steps.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(steps) => steps.len(),
            Self::Fabric(_, steps) => steps.len(),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
