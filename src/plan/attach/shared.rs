//! What stands in the way of a node's having a NIC: a child of it, or itself.
//!
//! Nothing has been touched yet when this is asked.

use std::net::IpAddr;

use super::preflight::{Facts, Manager, Preflight, hypervisor};
use crate::model::mark::Mark;
use crate::model::nic::Nic;
use crate::model::topology::{Macvlan, Share};

/// What is to become of the NIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeWish {
    /// Who is to have it, as `n1:eth0`.
    pub who: String,
    /// How.
    pub share: Share,
    /// The MTU that it is to have there in bytes, if not the NIC's own.
    pub mtu: Option<u32>,
    /// Whether what may cut the machine off is the user's own wish.
    pub force: bool,
    /// The bridge of Open vSwitch on which it is a port.
    pub port_of: Option<String>,
    /// Children of it in other namespaces: where, and how.
    pub children: Vec<(String, Macvlan)>,
    /// The other end of the ssh connection that the command came by, if the way
    /// there leads over this NIC.
    pub ssh: Option<IpAddr>,
}

impl NodeWish {
    fn takes_all(&self) -> bool {
        matches!(self.share, Share::Move | Share::Macvlan(Macvlan::Passthru))
    }
}

/// Looks for reasons against letting a node have `nic`.
pub fn shared(nic: &Nic, facts: &Facts, wish: &NodeWish) -> Preflight {
    let mut found = Preflight::default();
    is_fit(nic, facts, wish, &mut found);
    is_free(nic, facts, wish, &mut found);
    stays_reachable(nic, facts, wish, &mut found);
    warnings(nic, facts, wish, &mut found);
    found
}

/// Whether it is a device of which that can be made.
fn is_fit(nic: &Nic, facts: &Facts, wish: &NodeWish, found: &mut Preflight) {
    let (name, moves) = (&nic.link.name, wish.share == Share::Move);
    if let Some(mark) = Mark::parse(&nic.link.alias) {
        found.refuse(
            format!("`{name}` is a device of lab `{}`", mark.lab),
            "join nodes and switches by `ovsns link add`",
        );
        return;
    }
    match nic.link.kind.as_deref() {
        Some("macvlan" | "macvtap" | "ipvlan" | "ipvtap") => {
            found.refuse(
                format!("`{name}` shares another NIC's frames itself"),
                "name the NIC behind it",
            );
        }
        Some(kind @ ("bridge" | "openvswitch" | "vrf" | "bond" | "team")) if moves => {
            found.refuse(
                format!("`{name}` is a {kind}, and does not go into a node"),
                "give the node a child of it: `--mode macvlan`",
            );
        }
        _ if nic.link.mac.is_none() => {
            found.refuse(format!("`{name}` is no Ethernet device"), "name a wired NIC");
        }
        _ if facts.wireless && moves => found.refuse(
            format!("`{name}` is wireless, and goes into a node only with all of its radio"),
            "route instead; or `iw phy PHY set netns name NAMESPACE`",
        ),
        _ if facts.wireless => found.refuse(
            format!("`{name}` is wireless: its access point takes frames of one address only"),
            "use a wired NIC, or route instead",
        ),
        _ => {}
    }
    if let (Share::Macvlan(_), Some(mtu)) = (wish.share, wish.mtu)
        && nic.link.mtu < mtu
    {
        found.refuse(
            format!("`{}` would have an MTU of {mtu}, and `{name}` has {}", wish.who, nic.link.mtu),
            format!("leave `mtu` out, or `ip link set {name} mtu {mtu}`"),
        );
    }
}

/// Whether nobody has it whose use does not go with this one.
fn is_free(nic: &Nic, facts: &Facts, wish: &NodeWish, found: &mut Preflight) {
    let name = &nic.link.name;
    let port_of = nic.link.master.as_ref().map(|master| (master.name.clone(), &*master.kind));
    let port_of = port_of.or_else(|| Some((wish.port_of.clone()?, "openvswitch")));
    if let Some((master, kind)) = port_of {
        let hint = match kind {
            "openvswitch" => format!(
                "take it off first: `ovsns detach {name}`, or `ovs-vsctl del-port {name}` if it \
                 is not ours"
            ),
            _ => format!(
                "take it off first: `ovsns detach {name}`, or `ip link set dev {name} nomaster` if \
                 it is not ours"
            ),
        };
        found.refuse(format!("`{name}` is a port of `{master}`"), hint);
    }
    let here = facts.uppers.iter().map(|(upper, kind)| (upper.clone(), kind.as_str()));
    let there = wish.children.iter().map(|(place, _)| (place.clone(), "macvlan"));
    for (upper, kind) in here.chain(there) {
        let in_the_way = match wish.share {
            Share::Move => true,
            Share::Macvlan(Macvlan::Passthru) => kind != "vlan",
            Share::Macvlan(_) => kind.starts_with("ipv"),
        };
        if in_the_way {
            let what = match wish.share {
                Share::Move => format!("{kind} `{upper}` sits on `{name}`, and would stay behind"),
                Share::Macvlan(mode) => {
                    format!(
                        "{kind} `{upper}` sits on `{name}`, which has no {mode} macvlan beside that"
                    )
                }
            };
            found.refuse(what, "take that away first, or use another NIC");
        }
    }
    if let (Share::Macvlan(mode), Some((place, _))) =
        (wish.share, wish.children.iter().find(|(_, mode)| *mode == Macvlan::Passthru))
        && mode != Macvlan::Passthru
    {
        found.refuse(
            format!("`{place}` has all of `{name}` (passthru), and no other child can be"),
            "take that away first, or use another NIC",
        );
    }
}

/// Whether the machine can do without it.
fn stays_reachable(nic: &Nic, facts: &Facts, wish: &NodeWish, found: &mut Preflight) {
    let name = &nic.link.name;
    if !wish.takes_all() {
        return;
    }
    if let Some(root) = &facts.root {
        found.refuse(
            format!("`{name}` carries the root file system ({root})"),
            "use another NIC, or share this one with `--mode bridge`",
        );
    }
    if wish.force {
        return;
    }
    let keeps =
        "share it with `--mode bridge`, which keeps this machine reachable; or say `--force`";
    let routes = |v6: bool| {
        let all = |r: &&crate::model::nic::NicRoute| r.to.prefix_len() == 0 && r.table == 254;
        nic.routes.iter().filter(all).any(|r| r.to.addr().is_ipv6() == v6)
    };
    match (wish.ssh, wish.share) {
        (Some(peer), _) => found.refuse(
            format!("the ssh connection of this command, from {peer}, comes by `{name}`"),
            keeps,
        ),
        (None, Share::Macvlan(_)) if nic.addresses.iter().any(|a| !a.is_link_local()) => found
            .refuse(
                format!("`{name}` has addresses of this machine, and beside a passthru macvlan it hears nothing"),
                keeps,
            ),
        (None, Share::Move) if routes(false) || routes(true) => found.warn(format!(
            "this machine has no default route by `{name}` as long as `{}` has it",
            wish.who
        )),
        (None, _) => {}
    }
}

fn warnings(nic: &Nic, facts: &Facts, wish: &NodeWish, found: &mut Preflight) {
    let (name, who) = (&nic.link.name, &wish.who);
    if wish.share == Share::Move {
        for manager in &facts.managers {
            let program = match manager {
                Manager::Owner { program, .. } => program.to_string(),
                Manager::Ifupdown => "ifupdown".into(),
                Manager::Dhcp(program, _) => program.clone(),
            };
            found.warn(format!(
                "{program} sees to `{name}`, finds it gone, and may configure it anew when it \
                 comes home"
            ));
        }
        return;
    }
    if !nic.link.up {
        found.warn(format!(
            "`{name}` is down, and `{who}` has no carrier until somebody raises it: `ip link set \
             {name} up`"
        ));
    }
    if wish.share == Share::Macvlan(Macvlan::Passthru) {
        return;
    }
    if !nic.addresses.is_empty() {
        found.warn(format!(
            "this machine and `{who}` do not hear each other: no frame turns round between a NIC \
             and its macvlans; by a switch (`--mode bridge`) they do"
        ));
    }
    if let Some((_, whose)) = hypervisor(facts) {
        found.warn(format!(
            "`{name}` is a virtual NIC: {whose} may drop frames of `{who}`, whose address it did \
             not give; allow promiscuous mode and forged transmits there"
        ));
    }
}
