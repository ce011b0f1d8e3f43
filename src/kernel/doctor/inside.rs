//! What works in a network namespace of this kernel, for what runs in nodes: the
//! questions that lists of others answer by kernel versions, asked of this one.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;

use super::{Finding, LOAD, Part, Verdict, finding};
use crate::kernel::error::{self, KernelError, Tried};
use crate::kernel::netlink::Netlink;
use crate::kernel::nft::wire::{self, Hook, NFPROTO_INET};
use crate::kernel::raw::{Raw, attribute};
use crate::kernel::worker::{Where, Worker};

/// Tries each.
pub(super) async fn examine(worker: &Worker) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |what: &str, needed_for: &str, tried: Result<Tried, KernelError>| {
        findings.push(finding(Part::Inside, what, needed_for, Verdict::Lacking, tried, LOAD));
    };
    add("IPsec", "nodes that encrypt, as in examples/ipsec.yaml", fresh(worker, ipsec).await);
    add("multicast routing", "nodes that forward IPv4 multicast", fresh(worker, multicast).await);
    add("packet filter", "`nft` in nodes", fresh(worker, filter).await);
    add(
        "packet filter queues",
        "programs in nodes that decide about packets",
        fresh(worker, queue).await,
    );
    add(
        "packet filter traces",
        "`ovsns why`, where a packet filter drops",
        fresh(worker, trace).await,
    );
    findings
}

/// Runs a try in a namespace that ends with it.
async fn fresh(
    worker: &Worker,
    tried: fn() -> Result<Tried, KernelError>,
) -> Result<Tried, KernelError> {
    worker.inside(Where::Fresh, tried).await?
}

/// A security association that nobody uses.
///
/// Like `ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x101 mode
/// transport aead 'rfc4106(gcm(aes))' KEY 128`.
fn ipsec() -> Result<Tried, KernelError> {
    let what = "IPsec with AES-GCM (modules xfrm_user, esp4, gcm; CONFIG_XFRM_USER, \
                CONFIG_INET_ESP)";
    let signs = [
        Errno::EPROTONOSUPPORT,
        Errno::ENOSYS,
        Errno::ENOENT,
        Errno::EOPNOTSUPP,
        Errno::ENOPROTOOPT,
    ];
    let netlink = match Netlink::ipsec() {
        Ok(netlink) => netlink,
        Err(error) => return error::tried::<()>(Err(error), what, &signs),
    };
    // struct xfrm_usersa_info, field by field
    let mut state = vec![0; 56];
    let (from, to) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let address = |short: [u8; 4]| [&short[..], &[0; 12]].concat();
    state.extend(address(to));
    state.extend(0x101u32.to_be_bytes());
    state.extend([IPPROTO_ESP, 0, 0, 0]);
    state.extend(address(from));
    // No limit by bytes and packets, none by time; and nothing counted.
    state.extend([0xff; 32]);
    state.extend([0; 32 + 32 + 12 + 8]);
    state.extend(AF_INET.to_ne_bytes());
    state.extend([XFRM_MODE_TRANSPORT, 0, 0]);
    state.resize(224, 0);
    // struct xfrm_algo_aead
    let mut algorithm = b"rfc4106(gcm(aes))".to_vec();
    algorithm.resize(64, 0);
    algorithm.extend(160u32.to_ne_bytes());
    algorithm.extend(128u32.to_ne_bytes());
    algorithm.extend([7; 20]);
    let message = Raw::new(XFRM_MSG_NEWSA, &state, &[attribute(XFRMA_ALG_AEAD, &algorithm)]);
    let made = netlink.raw(message, NLM_F_CREATE | NLM_F_EXCL, || "try IPsec".to_owned());
    error::tried(made, what, &signs)
}

/// A route of multicast. Without an interface of a router's it is refused: there
/// is no room for it (`ENFILE`), where there are such routes at all.
fn multicast() -> Result<Tried, KernelError> {
    let what = "multicast routing (CONFIG_IP_MROUTE)";
    // struct rtmsg
    let mut header = vec![RTNL_FAMILY_IPMR, 32, 32, 0, RT_TABLE_DEFAULT, RTPROT_MROUTED];
    header.extend([RT_SCOPE_UNIVERSE, RTN_MULTICAST, 0, 0, 0, 0]);
    let ends = [attribute(RTA_DST, &[239, 1, 1, 1]), attribute(RTA_SRC, &[127, 0, 0, 1])];
    let message = Raw::new(RTM_NEWROUTE, &header, &ends);
    let asked = || "try a multicast route".to_owned();
    match Netlink::new()?.raw(message, NLM_F_CREATE, asked) {
        Err(error) if error.errno == Errno::ENFILE => Ok(Ok(())),
        other => error::tried(other, what, &[Errno::EOPNOTSUPP]),
    }
}

/// Like `nft add chain inet try out { type filter hook output priority 0; }`
fn filter() -> Result<Tried, KernelError> {
    let what = "a packet filter (module nf_tables, CONFIG_NF_TABLES_INET)";
    error::tried(rule(&[]), what, &wire::LACKING)
}

/// Like that, with a rule `queue num 0`.
fn queue() -> Result<Tried, KernelError> {
    let what = "queues at the packet filter (modules nft_queue, nfnetlink_queue; \
                CONFIG_NFT_QUEUE, CONFIG_NETFILTER_NETLINK_QUEUE)";
    let number = attribute(NFTA_QUEUE_NUM, &0u16.to_be_bytes());
    let made = rule(&[wire::expression("queue", &[number])]);
    if let Err(missing) = error::tried(made, what, &wire::LACKING)? {
        return Ok(Err(missing));
    }
    // And somebody who listens to it, until this socket is closed.
    let bind = attribute(NFQA_CFG_CMD, &[NFQNL_CFG_CMD_BIND, 0, 0, 0]);
    let message = Raw::new(NFQNL_MSG_CONFIG, &[0, 0, 0, 0], &[bind]);
    let bound = Netlink::netfilter()?.raw(message, 0, || "listen to a queue".to_owned());
    error::tried(bound, what, &[&wire::LACKING[..], &[Errno::EINVAL]].concat())
}

/// Like that, with a rule `meta nftrace set 1`, in a table that has an owner.
fn trace() -> Result<Tried, KernelError> {
    let what = "a packet filter that traces (Linux 5.12, CONFIG_NF_TABLES_INET)";
    let made = rule(&[wire::load(&[1, 0, 0, 0]), wire::set_meta(wire::NFT_META_NFTRACE)]);
    error::tried(made, what, &wire::LACKING)
}

fn rule(expressions: &[DefaultNla]) -> Result<(), KernelError> {
    let netlink = Netlink::netfilter()?;
    let hook = Hook { kind: "filter", number: wire::NF_INET_LOCAL_OUT, priority: 0, device: None };
    let mut batch = vec![
        wire::new_table(NFPROTO_INET, "try"),
        wire::new_chain(NFPROTO_INET, "try", "out", &hook),
    ];
    if !expressions.is_empty() {
        batch.push(wire::new_rule(NFPROTO_INET, "try", "out", expressions));
    }
    wire::commit(&netlink, batch, |_| "try the packet filter".to_owned())
}

// `linux/xfrm.h`
const XFRM_MSG_NEWSA: u16 = 0x10;
const XFRMA_ALG_AEAD: u16 = 18;
const XFRM_MODE_TRANSPORT: u8 = 0;
const IPPROTO_ESP: u8 = 50;
const AF_INET: u16 = 2;
// `linux/rtnetlink.h`
const RTM_NEWROUTE: u16 = 24;
const RTNL_FAMILY_IPMR: u8 = 128;
const RT_TABLE_DEFAULT: u8 = 253;
const RTPROT_MROUTED: u8 = 17;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RTN_MULTICAST: u8 = 5;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
// `linux/netfilter/nf_tables.h`, `nfnetlink_queue.h`
const NFTA_QUEUE_NUM: u16 = 1;
const NFQNL_MSG_CONFIG: u16 = 3 << 8 | 2;
const NFQA_CFG_CMD: u16 = 1;
const NFQNL_CFG_CMD_BIND: u8 = 1;
