//! What this kernel can do: each thing tried, in a namespace that ends with
//! the try, because a module that is configured may still not be loadable.

mod devices;
mod inside;
mod machine;
mod rooms;

use std::fs;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressProtocol};
use nix::errno::Errno;

use super::error::{self, KernelError, Tried};
use super::ethtool::Ethtool;
use super::host::PROTOCOL;
use super::netlink::Netlink;
use super::worker::{Where, Worker};
use super::{deaf, doors, genl, tc};
use crate::model::world::Ability;

pub use devices::can_filter_vlans;
pub use rooms::try_user_namespace;

/// What a finding is about; they are told in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What this process may do.
    Process,
    /// What labs take of the kernel.
    Labs,
    /// What works in a network namespace, for what runs in nodes.
    Inside,
    /// Open vSwitch.
    OpenVswitch,
    /// What of this machine surprises labs, or is surprised by them.
    Machine,
    /// What was left.
    Left,
}

impl Part {
    /// What it is called.
    pub fn words(self) -> &'static str {
        match self {
            Self::Process => "this process",
            Self::Labs => "what labs take",
            Self::Inside => "what works in a node",
            Self::OpenVswitch => "Open vSwitch",
            Self::Machine => "this machine",
            Self::Left => "what was left",
        }
    }
}

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
    /// What it is about.
    pub part: Part,
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

/// What to do about a module that is missing.
const LOAD: &str = "load that module, or use a kernel that has it";

/// Looks at this machine. What cannot be tried is a finding, too, and ends nothing.
pub async fn examine() -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![kernel_version(release.trim())];
    match Worker::start() {
        Ok(worker) => in_namespaces(&worker, release.trim(), &mut findings).await,
        Err(error) => findings.push(no_namespaces(&error)),
    }
    findings.extend(rooms::examine());
    findings.push(kernel_datapath());
    findings.push(userspace_datapath());
    findings.push(ipv6());
    findings.sort_by_key(|finding| finding.part);
    findings
}

async fn in_namespaces(worker: &Worker, release: &str, findings: &mut Vec<Finding>) {
    // Without one nothing else can be tried, and one reason is enough.
    if let Err(error) = worker.inside(Where::Fresh, || ()).await {
        findings.push(no_namespaces(&error));
    } else {
        findings.extend(devices::examine(worker, release).await);
        features(worker, findings).await;
        findings.extend(inside::examine(worker).await);
    }
    match machine::examine(worker).await {
        Ok(more) => findings.extend(more),
        Err(error) => {
            let (what, needed_for) = ("this machine's network", "all labs");
            let bad = Verdict::Warning;
            findings.push(finding(Part::Machine, what, needed_for, bad, Err(error), ""));
        }
    }
}

/// What more labs take of the kernel, with the words of their refusals.
async fn features(worker: &Worker, findings: &mut Vec<Finding>) {
    let mut add = |what: &str, needed_for: &str, tried: Result<Tried, KernelError>, mend: &str| {
        findings.push(finding(Part::Labs, what, needed_for, Verdict::Lacking, tried, mend));
    };
    add(
        "bridge VLAN filtering",
        "`vlan`, `trunks` and `native` on linux switches",
        devices::can_filter_vlans(worker).await,
        "use a kernel that has it",
    );
    add(
        "checksum offload",
        "TCP between nodes on Open vSwitch's userspace datapath",
        checksums(worker).await,
        "use Linux 5.6 or newer, with CONFIG_ETHTOOL_NETLINK",
    );
    add("mirrors", "`mirrors` on linux switches", tc::can_mirror(worker).await, LOAD);
    add("policing", "`policing` on linux switches", tc::can_police(worker).await, LOAD);
    add(
        "policing as Open vSwitch does it",
        "`policing` on ovs switches with the datapath `system`",
        tc::can_police_like_ovs(worker).await,
        LOAD,
    );
    add(
        "shaping as Open vSwitch does it",
        "`shaping` on ovs switches",
        tc::can_shape(worker).await,
        LOAD,
    );
    let impaired = [
        (Ability::Rate, "rates of links", "`rate` alone in `impairments`"),
        (Ability::Netem, "delay and loss of links", "the other `impairments`"),
    ];
    for (ability, what, needed_for) in impaired {
        add(what, needed_for, tc::can_impair(worker, ability).await, LOAD);
    }
    add("cuts", "`ovsns cut`", deaf::can(worker).await, LOAD);
    let mend = "load the modules: `modprobe -a nft_chain_nat nft_masq nft_ct`";
    add("ways out", "`nat` of switches and nodes", doors::can(worker).await, mend);
    add(
        "marks on addresses",
        "taking away an address that a changed file no longer has",
        marked_addresses(worker).await,
        "use Linux 5.18 or newer",
    );
}

/// What came of a try. One that says neither yes nor no is told as it is.
fn finding(
    part: Part,
    what: &str,
    needed_for: &str,
    if_missing: Verdict,
    tried: Result<Tried, KernelError>,
    mend: &str,
) -> Finding {
    let (verdict, said, mend) = match tried {
        Ok(Ok(())) => (Verdict::Good, "works".to_owned(), None),
        Ok(Err(missing)) => (if_missing, missing, Some(mend.to_owned())),
        Err(error) => {
            let mend = "what it says is no answer; `dmesg` may know more".to_owned();
            (Verdict::Warning, format!("could not be tried: {error}"), Some(mend))
        }
    };
    let (what, needed_for) = (what.to_owned(), needed_for.to_owned());
    Finding { part, what, verdict, needed_for, said, mend }
}

fn no_namespaces(error: &KernelError) -> Finding {
    let mend = match error.errno {
        Errno::ENOSPC | Errno::EUSERS => {
            "allow more of them: `sysctl -w user.max_net_namespaces=100000`"
        }
        _ => "use a kernel with CONFIG_NET_NS",
    };
    Finding {
        part: Part::Labs,
        what: "network namespaces".to_owned(),
        verdict: Verdict::Bad,
        needed_for: "every node".to_owned(),
        said: format!("none can be made: {error}"),
        mend: Some(mend.to_owned()),
    }
}

async fn checksums(worker: &Worker) -> Result<Tried, KernelError> {
    let found = worker.inside(Where::Fresh, Ethtool::find).await?;
    let what = "checksum offload that can be set (CONFIG_ETHTOOL_NETLINK)";
    error::tried(found, what, &[Errno::EOPNOTSUPP])
}

/// The kernel's own datapath for Open vSwitch. It is loaded by the question.
fn kernel_datapath() -> Finding {
    let found = Netlink::generic().and_then(|netlink| genl::family(&netlink, "ovs_datapath"));
    let tried = found.map(|family| match family {
        Some(_) => Ok(()),
        None => Err("this kernel has no module `openvswitch`".to_owned()),
    });
    finding(
        Part::Labs,
        "Open vSwitch's datapath in the kernel",
        "ovs switches with the datapath `system`, the faster one",
        Verdict::Lacking,
        tried,
        "use a kernel with CONFIG_OPENVSWITCH",
    )
}

/// What its datapath in userspace takes of the kernel.
fn userspace_datapath() -> Finding {
    let opened = fs::File::options().read(true).write(true).open("/dev/net/tun");
    finding(
        Part::Labs,
        "/dev/net/tun",
        "ovs switches with the datapath `netdev`",
        Verdict::Lacking,
        Ok(opened.map(drop).map_err(|error| format!("it cannot be opened: {}", error.kind()))),
        "load the module: `modprobe tun`",
    )
}

fn kernel_version(release: &str) -> Finding {
    Finding {
        part: Part::Labs,
        what: "kernel".to_owned(),
        verdict: Verdict::Good,
        needed_for: "everything".to_owned(),
        said: release.to_owned(),
        mend: None,
    }
}

/// Whether an address keeps our mark (`IFA_PROTO`, Linux 5.18).
async fn marked_addresses(worker: &Worker) -> Result<Tried, KernelError> {
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::address::AddressMessage;
    let netlink = worker.netlink(Where::Fresh).await?;
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
    Ok(if kept { Ok(()) } else { Err("this kernel has not marks on addresses".to_owned()) })
}

fn ipv6() -> Finding {
    let there = fs::exists("/proc/sys/net/ipv6").unwrap_or(false);
    finding(
        Part::Labs,
        "IPv6",
        "IPv6 addresses of nodes",
        Verdict::Lacking,
        Ok(if there { Ok(()) } else { Err("this kernel has none".to_owned()) }),
        "start the kernel without `ipv6.disable=1`",
    )
}
