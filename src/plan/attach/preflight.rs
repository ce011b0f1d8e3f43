//! What stands in the way of attaching a NIC, and what its owner should know.
//!
//! Nothing has been touched yet when this is asked.

use std::net::IpAddr;

use crate::model::mark::Mark;
use crate::model::names::{IfName, SwitchName};
use crate::model::nic::{Nic, Program};
use crate::model::topology::Backend;
use crate::plan::Refusal;

/// What else there is to know about a NIC before anybody touches it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether it is a wireless one.
    pub wireless: bool,
    /// Whether a program sees its frames first (XDP).
    pub xdp: bool,
    /// Devices that sit on it, by name, with their kind.
    pub uppers: Vec<(String, String)>,
    /// What the root file system is fetched from over this NIC.
    pub root: Option<String>,
    /// The driver.
    pub driver: Option<String>,
    /// Programs that see to it.
    pub managers: Vec<Manager>,
    /// Whether the packet filter sees what bridges forward, and drops it.
    pub forward_drop: bool,
    /// Tables of the packet filter in which the NIC is named.
    pub filters: Vec<String>,
}

/// A program that configures NICs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manager {
    /// One that is told to look away meanwhile, if its command is there.
    Owner {
        /// The program.
        program: Program,
        /// Whether it can be told.
        listens: bool,
    },
    /// ifupdown has raised it.
    Ifupdown,
    /// A DHCP client keeps its lease: the program, and its process.
    Dhcp(String, u32),
}

impl Manager {
    /// Whether it sees to a NIC and cannot be told to look away.
    pub fn is_deaf(&self) -> bool {
        matches!(self, Self::Owner { listens: false, .. })
    }
}

/// What is to become of the NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The switch.
    pub switch: SwitchName,
    /// What that is made of.
    pub backend: Backend,
    /// Whether the switch forwards in userspace.
    pub userspace: bool,
    /// The NICs that the switch has or is to have beside this one.
    pub others: Vec<IfName>,
    /// Whether the switch speaks a spanning tree protocol.
    pub stp: bool,
    /// Whether what may go wrong is the user's own wish.
    pub force: bool,
    /// The bridge of Open vSwitch on which it is a port already.
    pub port_of: Option<String>,
    /// The other end of the ssh connection that the command came by.
    pub ssh: Option<IpAddr>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    /// What stands in the way.
    pub refusals: Vec<Refusal>,
    /// What its owner should know, each a sentence.
    pub warnings: Vec<String>,
}

impl Preflight {
    pub(super) fn refuse(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        self.refusals.push(Refusal { what: what.into(), hint: hint.into() });
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }
}

/// Kinds of devices that cannot be ports, each with the reason.
fn cannot_be_a_port(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "bridge" => "it is a bridge itself",
        "openvswitch" => "it is the local device of an Open vSwitch bridge",
        "macvlan" | "macvtap" | "ipvlan" | "ipvtap" => {
            "it shares another NIC's frames, and hears only those for its own address"
        }
        "vrf" => "it is a routing domain, and has no frames",
        _ => return None,
    })
}

/// Looks for reasons against attaching `nic` to a switch as a port.
pub fn preflight(nic: &Nic, facts: &Facts, wish: &Wish) -> Preflight {
    let mut found = Preflight::default();
    let name = &nic.link.name;
    is_fit(nic, facts, &mut found);
    is_free(nic, facts, wish, &mut found);
    can_be_held(nic, facts, wish, &mut found);
    if let Some(root) = &facts.root {
        found.refuse(
            format!("`{name}` carries the root file system ({root})"),
            "use another NIC: while this one changes, no program can be read",
        );
    }
    if let ([other, ..], false, false) = (wish.others.as_slice(), wish.stp, wish.force) {
        found.refuse(
            format!("switch `{}` has `{other}` already, and speaks no spanning tree", wish.switch),
            "two NICs in one network make a loop: set `stp: true` on the switch, or say `--force`",
        );
    }
    warnings(nic, facts, wish, &mut found);
    found
}

/// Whether it is a device that frames of others can pass.
fn is_fit(nic: &Nic, facts: &Facts, found: &mut Preflight) {
    let name = &nic.link.name;
    let another = "use a wired NIC, or route instead of bridging";
    if let Some(mark) = Mark::parse(&nic.link.alias) {
        found.refuse(
            format!("`{name}` is a device of lab `{}`", mark.lab),
            "join nodes and switches by `ovsns link add`",
        );
    } else if name.as_str() == "lo" {
        found.refuse("`lo` is the loopback, and leads nowhere", another);
    } else if let Some(why) = nic.link.kind.as_deref().and_then(cannot_be_a_port) {
        found.refuse(format!("`{name}` cannot be a port: {why}"), "name the NIC behind it");
    } else if nic.link.mac.is_none() {
        found.refuse(format!("`{name}` is no Ethernet device"), another);
    } else if facts.wireless {
        found.refuse(
            format!("`{name}` is wireless: its access point takes frames of one address only"),
            another,
        );
    }
    if facts.xdp {
        found.refuse(
            format!("a program (XDP) takes the frames of `{name}` before any switch"),
            format!("take it off first: `ip link set dev {name} xdp off`"),
        );
    }
}

/// The client that takes a port's leaving its bridge for the end of the NIC, and
/// the address with it.
const TAKES_IT_OFF: &str = "dhcpcd";

/// Whether who keeps its lease can be held meanwhile.
fn can_be_held(nic: &Nic, facts: &Facts, wish: &Wish, found: &mut Preflight) {
    let name = &nic.link.name;
    for manager in &facts.managers {
        if let (Manager::Owner { program, listens: false }, false) = (manager, wish.force) {
            found.refuse(
                format!("{program} sees to `{name}`, and there is no `{}` by which it could be told to look away", program.tool()),
                format!("install `{}`, or say `--force`", program.tool()),
            );
        }
    }
    let is_it = |manager: &Manager| matches!(manager, Manager::Dhcp(it, _) if it == TAKES_IT_OFF);
    if wish.backend == Backend::Linux && !wish.force && facts.managers.iter().any(is_it) {
        found.refuse(
            format!(
                "{TAKES_IT_OFF} keeps the lease of `{name}`, and would take the address off when the \
                 NIC leaves a Linux bridge"
            ),
            "attach it with `--backend ovs`, or have another DHCP client keep it",
        );
    }
}

/// Whether nobody else has it.
fn is_free(nic: &Nic, facts: &Facts, wish: &Wish, found: &mut Preflight) {
    let name = &nic.link.name;
    if let Some(master) = &nic.link.master {
        let what = match master.kind.as_str() {
            "bond" | "team" => format!("`{name}` is a member of bond `{}`", master.name),
            "vrf" => format!("`{name}` is in the routing domain `{}`", master.name),
            _ => format!("`{name}` is a port of `{}` already", master.name),
        };
        let hint = match master.kind.as_str() {
            "bond" | "team" => format!("attach the bond: `ovsns attach {}`", master.name),
            _ => format!("take it off first: `ip link set dev {name} nomaster`"),
        };
        found.refuse(what, hint);
    } else if let Some(bridge) = &wish.port_of {
        found.refuse(
            format!("`{name}` is a port of Open vSwitch bridge `{bridge}` already"),
            format!("take it off first: `ovs-vsctl del-port {bridge} {name}`"),
        );
    }
    for (upper, kind) in &facts.uppers {
        match kind.as_str() {
            "vlan" if wish.force => {
                found.warn(format!("`{upper}` on `{name}` hears nothing any more"));
            }
            "vlan" => found.refuse(
                format!("VLAN device `{upper}` sits on `{name}`, and would hear nothing any more"),
                "make it on the switch instead, or say `--force`",
            ),
            _ => found.refuse(
                format!("{kind} `{upper}` sits on `{name}`, which cannot be a port beside that"),
                format!("delete it first: `ip link delete {upper}`"),
            ),
        }
    }
}

/// What goes with a NIC that a program has no more to do with.
/// What becomes of a NIC and a program that sees to it.
pub fn manager_words(name: &IfName, manager: &Manager) -> String {
    match manager {
        Manager::Owner { program, listens: true } => format!(
            "{program} sees to `{name}`: it is told to look away until the NIC is detached{}",
            forgets(program)
        ),
        Manager::Owner { program, listens: false } => format!(
            "{program} sees to `{name}`, and may give it its addresses again; nobody tells it to \
             look away"
        ),
        Manager::Ifupdown => format!(
            "ifupdown has raised `{name}`: until it is detached, do not run `ifdown {name}`"
        ),
        Manager::Dhcp(program, process) => format!(
            "{program} (process {process}) keeps the lease of `{name}`: it is held until the NIC \
             is detached, and its lease renewed in its place"
        ),
    }
}

fn forgets(program: &Program) -> &'static str {
    match program {
        Program::NetworkManager => {
            "; name servers that it has from there are none meanwhile, and when it sees to the NIC \
             again it makes all anew, which takes a moment"
        }
        Program::Networkd { .. } => "; name servers that it has from there are none meanwhile",
    }
}

/// Drivers of virtual NICs whose other side, by default, drops frames of
/// addresses that it did not give.
const BEHIND_A_HYPERVISOR: [(&str, &str); 6] = [
    ("ena", "Amazon EC2"),
    ("gve", "Google Cloud"),
    ("hv_netvsc", "Hyper-V and Azure"),
    ("vmxnet3", "VMware"),
    ("virtio_net", "the hypervisor"),
    ("xen_netfront", "Xen"),
];

/// The driver of a virtual NIC, and whose its other side is that may drop frames.
pub(super) fn hypervisor(facts: &Facts) -> Option<(&'static str, &'static str)> {
    let driver = facts.driver.as_deref();
    BEHIND_A_HYPERVISOR.into_iter().find(|(known, _)| driver == Some(known))
}

fn warnings(nic: &Nic, facts: &Facts, wish: &Wish, found: &mut Preflight) {
    let (name, switch) = (&nic.link.name, &wish.switch);
    if wish.stp && !wish.userspace {
        // The kernel gives all frames of a port to its switch, which takes none
        // in until the tree has decided.
        found.warn(format!(
            "this host has no network on `{name}` for twice the forward delay of `{switch}`, while \
             its spanning tree looks at the new port"
        ));
    }
    for manager in &facts.managers {
        found.warn(manager_words(name, manager));
    }
    if let Some((driver, whose)) = hypervisor(facts) {
        found.warn(format!(
            "`{name}` is a virtual NIC ({driver}): {whose} may drop frames of nodes, whose \
             addresses it did not give; allow promiscuous mode and forged transmits there"
        ));
    }
    if facts.forward_drop && wish.backend == Backend::Linux {
        found.warn(
            "the packet filter sees what bridges forward and drops it (br_netfilter, policy of \
             FORWARD): nodes will not reach the network; `sysctl -w \
             net.bridge.bridge-nf-call-iptables=0` lets them",
        );
    }
    for table in &facts.filters {
        found.warn(format!(
            "table `{table}` of the packet filter names `{name}`: packets will come in by the \
             local device of `{switch}` instead"
        ));
    }
    if wish.userspace {
        found.warn(format!(
            "without `ovs-vswitchd` this host has no network on `{name}` until it runs again or \
             the NIC is detached"
        ));
    }
    if let (Some(peer), true) = (wish.ssh, nic.link.up) {
        found.warn(format!(
            "this command came by ssh from {peer}: the way there is looked at before it is done"
        ));
    }
}
