//! Kinds of devices, each made once, in a namespace that ends with the try.

use std::fs;
use std::path::Path;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;

use super::{Finding, LOAD, Part, Verdict, finding};
use crate::kernel::error::{self, KernelError, Tried};
use crate::kernel::netlink::Netlink;
use crate::kernel::raw::{Raw, attribute, nest, number, text};
use crate::kernel::worker::{Where, Worker};

/// A kind of device, as `ip link add type KIND` has it.
struct Kind {
    kind: &'static str,
    part: Part,
    needed_for: &'static str,
    module: &'static str,
    config: &'static str,
    /// Whether it sits on another device.
    on_another: bool,
    /// Devices that its module makes when it is loaded, in the machine's own
    /// namespace: looking must not bring them along.
    brings: Option<&'static str>,
    missing: Verdict,
}

impl Kind {
    const fn new(kind: &'static str, module: &'static str, config: &'static str) -> Self {
        let (part, missing) = (Part::Inside, Verdict::Lacking);
        let needed_for = "what you make in nodes yourself";
        Self { kind, part, needed_for, module, config, on_another: false, brings: None, missing }
    }

    const fn of_labs(self, needed_for: &'static str, missing: Verdict) -> Self {
        Self { part: Part::Labs, needed_for, missing, ..self }
    }

    const fn on_another(self) -> Self {
        Self { on_another: true, ..self }
    }

    const fn brings(self, devices: &'static str) -> Self {
        Self { brings: Some(devices), ..self }
    }

    fn words(&self) -> String {
        format!("the device `{}` (module {}, CONFIG_{})", self.kind, self.module, self.config)
    }

    /// What the kernel wants to be told of such a device, at least.
    fn data(&self) -> Vec<DefaultNla> {
        match self.kind {
            "macvlan" => vec![number(IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE)],
            "vlan" => vec![attribute(IFLA_VLAN_ID, &10u16.to_ne_bytes())],
            "vxlan" => vec![number(IFLA_VXLAN_ID, 7)],
            "geneve" => {
                vec![number(IFLA_GENEVE_ID, 7), attribute(IFLA_GENEVE_REMOTE, &[127, 0, 0, 2])]
            }
            "gretap" => vec![
                attribute(IFLA_GRE_LOCAL, &[127, 0, 0, 1]),
                attribute(IFLA_GRE_REMOTE, &[127, 0, 0, 2]),
            ],
            "vrf" => vec![number(IFLA_VRF_TABLE, 100)],
            _ => Vec::new(),
        }
    }
}

const KINDS: [Kind; 13] = [
    Kind::new("veth", "veth", "VETH").of_labs("every link", Verdict::Bad),
    Kind::new("bridge", "bridge", "BRIDGE").of_labs("switches of the linux backend", Verdict::Bad),
    Kind::new("macvlan", "macvlan", "MACVLAN")
        .on_another()
        .of_labs("`macvlan:NIC` at links, `attach --mode macvlan`", Verdict::Lacking),
    Kind::new("vxlan", "vxlan", "VXLAN")
        .of_labs("tunnels `vxlan` of ovs switches with the datapath `system`", Verdict::Lacking),
    Kind::new("geneve", "geneve", "GENEVE")
        .of_labs("tunnels `geneve` of ovs switches with the datapath `system`", Verdict::Lacking),
    Kind::new("gretap", "ip_gre", "NET_IPGRE")
        .brings("gre0, gretap0 and erspan0")
        .of_labs("tunnels `gre` of ovs switches with the datapath `system`", Verdict::Lacking),
    Kind::new("dummy", "dummy", "DUMMY").brings("dummy0"),
    Kind::new("vlan", "8021q", "VLAN_8021Q").on_another(),
    Kind::new("vrf", "vrf", "NET_VRF"),
    Kind::new("bond", "bonding", "BONDING").brings("bond0"),
    Kind::new("ifb", "ifb", "IFB").brings("ifb0 and ifb1"),
    Kind::new("wireguard", "wireguard", "WIREGUARD"),
    Kind::new("ipip", "ipip", "NET_IPIP").brings("tunl0"),
];

/// Tries each kind.
pub(super) async fn examine(worker: &Worker, release: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for kind in &KINDS {
        findings.push(match kind.brings.filter(|_| is_yet_to_be_loaded(kind.module, release)) {
            Some(devices) => Finding {
                part: kind.part,
                what: kind.kind.to_owned(),
                verdict: Verdict::Good,
                needed_for: kind.needed_for.to_owned(),
                said: format!(
                    "not tried: there is a module `{}`, and with it come {devices} in the \
                     machine's own namespace",
                    kind.module
                ),
                mend: None,
            },
            None => {
                let tried = try_kind(worker, kind).await;
                finding(kind.part, kind.kind, kind.needed_for, kind.missing, tried, LOAD)
            }
        });
    }
    findings
}

/// Tries a bridge that filters VLANs.
pub async fn can_filter_vlans(worker: &Worker) -> Result<Tried, KernelError> {
    let netlink = worker.netlink(Where::Fresh).await?;
    let data = [attribute(IFLA_BR_VLAN_FILTERING, &[1])];
    let made = make(&netlink, "try", "bridge", None, &data);
    let what = "VLAN filtering in its bridges (CONFIG_BRIDGE_VLAN_FILTERING)";
    error::tried(made, what, &[Errno::EOPNOTSUPP])
}

/// Whether there is a module that nobody has loaded. What is in the kernel itself
/// shows among the modules, or there are none.
fn is_yet_to_be_loaded(module: &str, release: &str) -> bool {
    let file = format!("/{module}.ko");
    let known = fs::read_to_string(format!("/lib/modules/{release}/modules.dep"));
    let takes_modules = Path::new("/proc/sys/kernel/modprobe").exists();
    let is_there = Path::new("/sys/module").join(module).exists();
    // Where they cannot be seen (in a container), the machine may have it.
    takes_modules && !is_there && known.map_or(true, |known| known.contains(&file))
}

async fn try_kind(worker: &Worker, kind: &Kind) -> Result<Tried, KernelError> {
    let netlink = worker.netlink(Where::Fresh).await?;
    let below = if kind.on_another {
        make(&netlink, "below", "veth", None, &[])?;
        Some(netlink.index_of("below")?)
    } else {
        None
    };
    let made = make(&netlink, "try", kind.kind, below, &kind.data());
    error::tried(made, &kind.words(), &[Errno::EOPNOTSUPP])
}

/// Like `ip link add NAME [link BELOW] type KIND DATA`.
fn make(
    netlink: &Netlink,
    name: &str,
    kind: &str,
    below: Option<u32>,
    data: &[DefaultNla],
) -> Result<(), KernelError> {
    let info = [text(IFLA_INFO_KIND, kind), nest(IFLA_INFO_DATA, data)];
    let mut attributes = vec![text(IFLA_IFNAME, name), nest(IFLA_LINKINFO, &info)];
    attributes.extend(below.map(|index| number(IFLA_LINK, index)));
    let message = Raw::new(RTM_NEWLINK, &[0; 16], &attributes);
    netlink.raw(message, NLM_F_CREATE | NLM_F_EXCL, || format!("make a {kind}")).map(drop)
}

// `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_tunnel.h`
const RTM_NEWLINK: u16 = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
const MACVLAN_MODE_BRIDGE: u32 = 4;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_GENEVE_ID: u16 = 1;
const IFLA_GENEVE_REMOTE: u16 = 2;
const IFLA_GRE_LOCAL: u16 = 6;
const IFLA_GRE_REMOTE: u16 = 7;
const IFLA_VRF_TABLE: u16 = 1;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
