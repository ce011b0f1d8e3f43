//! What this kernel can do: each thing tried, in a namespace that ends with
//! the try, because a module that is configured may still not be loadable.

use std::fs;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressProtocol};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use nix::errno::Errno;

use super::deaf;
use super::error::KernelError;
use super::ethtool::Ethtool;
use super::host::PROTOCOL;
use super::netlink::Netlink;
use super::worker::{Where, Worker};
use super::{genl, tc};
use crate::model::world::Ability;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is there.
    Good,
    /// It is not there, and some labs need it.
    Lacking,
    /// It is there, and will surprise somebody.
    Warning,
    /// Nothing works without it.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub what: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is needed for.
    pub needed_for: String,
    /// What was found.
    pub said: String,
    /// What to do, if anything is to be done.
    pub mend: Option<String>,
}

/// Looks at this machine.
pub async fn examine() -> Result<Vec<Finding>, KernelError> {
    let worker = Worker::start()?;
    let netlink = worker.netlink(Where::Fresh).await?;
    let mut findings = vec![kernel_version()];
    findings.push(finding(
        "veth",
        "every link",
        Verdict::Bad,
        add(&netlink, "veth0", veth_info("veth1")).await,
        "load the module: `modprobe veth`",
    )?);
    findings.push(finding(
        "bridge",
        "switches of the linux backend",
        Verdict::Bad,
        add(&netlink, "br0", bridge_info(Vec::new())).await,
        "load the module: `modprobe bridge`",
    )?);
    findings.push(finding(
        "bridge VLAN filtering",
        "`vlan`, `trunks` and `native` on linux switches",
        Verdict::Lacking,
        add(&netlink, "br1", bridge_info(vec![InfoBridge::VlanFiltering(true)])).await,
        "use a kernel with CONFIG_BRIDGE_VLAN_FILTERING",
    )?);
    findings.push(finding(
        "checksum offload",
        "TCP between nodes on Open vSwitch's userspace datapath",
        Verdict::Lacking,
        worker.inside(Where::Fresh, Ethtool::find).await?.map(drop),
        "use Linux 5.6 or newer, with CONFIG_ETHTOOL_NETLINK",
    )?);
    findings.push(by_modules(
        "mirrors",
        "`mirrors` on linux switches",
        tc::can_mirror(&worker).await?,
    ));
    findings.push(by_modules(
        "policing",
        "`policing` on linux switches",
        tc::can_police(&worker).await?,
    ));
    findings.push(by_modules(
        "policing as Open vSwitch does it",
        "`policing` on ovs switches with the datapath `system`",
        tc::can_police_like_ovs(&worker).await?,
    ));
    findings.push(by_modules(
        "shaping as Open vSwitch does it",
        "`shaping` on ovs switches",
        tc::can_shape(&worker).await?,
    ));
    findings.push(by_modules(
        "rates of links",
        "`rate` alone in `impairments`",
        tc::can_impair(&worker, Ability::Rate).await?,
    ));
    findings.push(by_modules(
        "delay and loss of links",
        "the other `impairments`",
        tc::can_impair(&worker, Ability::Netem).await?,
    ));
    findings.push(by_modules("cuts", "`ovsns cut`", deaf::can(&worker).await?));
    findings.push(kernel_datapath()?);
    findings.push(userspace_datapath());
    findings.push(marked_addresses(&netlink).await?);
    findings.push(ipv6());
    findings.extend(bridged_packets_are_filtered(&worker).await?);
    Ok(findings)
}

fn veth_info(peer: &str) -> Vec<LinkInfo> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(peer.to_owned()));
    vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(message)))]
}

fn bridge_info(info: Vec<InfoBridge>) -> Vec<LinkInfo> {
    vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(info))]
}

async fn add(netlink: &Netlink, name: &str, info: Vec<LinkInfo>) -> Result<(), KernelError> {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(info)];
    let asked = || format!("make `{name}`");
    netlink.create(RouteNetlinkMessage::NewLink(message), asked)
}

fn finding(
    what: &str,
    needed_for: &str,
    if_missing: Verdict,
    tried: Result<(), KernelError>,
    mend: &str,
) -> Result<Finding, KernelError> {
    let missing = match tried {
        Ok(()) => false,
        Err(error) if error.errno == Errno::EOPNOTSUPP => true,
        Err(error) => return Err(error),
    };
    Ok(Finding {
        what: what.to_owned(),
        verdict: if missing { if_missing } else { Verdict::Good },
        needed_for: needed_for.to_owned(),
        said: if missing { "this kernel cannot do it" } else { "works" }.to_owned(),
        mend: missing.then(|| mend.to_owned()),
    })
}

/// A thing that takes modules, which the try has named if there is one missing.
fn by_modules(what: &str, needed_for: &str, tried: Result<(), String>) -> Finding {
    let works = tried.is_ok();
    Finding {
        what: what.to_owned(),
        verdict: if works { Verdict::Good } else { Verdict::Lacking },
        needed_for: needed_for.to_owned(),
        said: tried.err().unwrap_or_else(|| "works".to_owned()),
        mend: (!works).then(|| "load that module, or use a kernel that has it".to_owned()),
    }
}

/// The kernel's own datapath for Open vSwitch. It is loaded by the question.
fn kernel_datapath() -> Result<Finding, KernelError> {
    let there = genl::family(&Netlink::generic()?, "ovs_datapath")?.is_some();
    Ok(Finding {
        what: "Open vSwitch's datapath in the kernel".to_owned(),
        verdict: if there { Verdict::Good } else { Verdict::Lacking },
        needed_for: "ovs switches with the datapath `system`, the faster one".to_owned(),
        said: if there { "there" } else { "this kernel has no module `openvswitch`" }.to_owned(),
        mend: (!there).then(|| "use a kernel with CONFIG_OPENVSWITCH".to_owned()),
    })
}

/// What its datapath in userspace takes of the kernel.
fn userspace_datapath() -> Finding {
    let opened = fs::File::options().read(true).write(true).open("/dev/net/tun");
    Finding {
        what: "/dev/net/tun".to_owned(),
        verdict: if opened.is_ok() { Verdict::Good } else { Verdict::Lacking },
        needed_for: "ovs switches with the datapath `netdev`".to_owned(),
        mend: opened.is_err().then(|| "load the module: `modprobe tun`".to_owned()),
        said: match opened {
            Ok(_) => "there".to_owned(),
            Err(error) => format!("it cannot be opened: {}", error.kind()),
        },
    }
}

fn kernel_version() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Finding {
        what: "kernel".to_owned(),
        verdict: Verdict::Good,
        needed_for: "everything".to_owned(),
        said: release.trim().to_owned(),
        mend: None,
    }
}

/// Whether an address keeps our mark (`IFA_PROTO`, Linux 5.18).
async fn marked_addresses(netlink: &Netlink) -> Result<Finding, KernelError> {
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::address::AddressMessage;
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = netlink.index_of("lo")?;
    message.header.prefix_len = 32;
    let address = std::net::Ipv4Addr::new(127, 99, 99, 99).into();
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Protocol(AddressProtocol::from(PROTOCOL)),
    ];
    let asked = || "try a marked address".to_owned();
    netlink.create(RouteNetlinkMessage::NewAddress(message), asked)?;
    let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let kept = netlink.dump(&all, "list addresses")?.iter().any(|message| match message {
        RouteNetlinkMessage::NewAddress(message) => message
            .attributes
            .contains(&AddressAttribute::Protocol(AddressProtocol::from(PROTOCOL))),
        _ => false,
    });
    Ok(Finding {
        what: "marks on addresses".to_owned(),
        verdict: if kept { Verdict::Good } else { Verdict::Lacking },
        needed_for: "taking away an address that a changed file no longer has".to_owned(),
        said: if kept { "works" } else { "this kernel cannot do it" }.to_owned(),
        mend: (!kept).then(|| "use Linux 5.18 or newer".to_owned()),
    })
}

fn ipv6() -> Finding {
    let there = fs::exists("/proc/sys/net/ipv6").unwrap_or(false);
    Finding {
        what: "IPv6".to_owned(),
        verdict: if there { Verdict::Good } else { Verdict::Lacking },
        needed_for: "IPv6 addresses of nodes".to_owned(),
        said: if there { "works" } else { "this kernel has none" }.to_owned(),
        mend: (!there).then(|| "start the kernel without `ipv6.disable=1`".to_owned()),
    }
}

/// `br_netfilter` sends bridged packets through the machine's packet filter,
/// where Docker's `FORWARD DROP` ends them.
async fn bridged_packets_are_filtered(worker: &Worker) -> Result<Option<Finding>, KernelError> {
    let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let read = worker.inside(Where::Home, move || fs::read_to_string(path)).await?;
    let on = read.is_ok_and(|value| value.trim() == "1");
    Ok(on.then(|| Finding {
        what: "bridge-nf-call-iptables".to_owned(),
        verdict: Verdict::Warning,
        needed_for: "pings between nodes where the packet filter drops what it forwards".to_owned(),
        said: "packets on linux switches pass this machine's iptables FORWARD chain".to_owned(),
        mend: Some(
            "if pings fail and `iptables -S FORWARD` says DROP: `sysctl -w \
             net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0`"
                .to_owned(),
        ),
    }))
}
