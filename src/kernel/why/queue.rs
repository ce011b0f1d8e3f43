//! Queues and filters of traffic control at the devices of a namespace, as far
//! as they lose, drop or slow (tc(8), tc-netem(8)).

use std::collections::BTreeMap;

use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::raw::{Raw, attributes, find, number_at, text_of};
use crate::plan::why::facts::{QueueFacts, Queueing};

// linux/rtnetlink.h
const RTM_GETQDISC: u16 = 38;
const RTM_GETTFILTER: u16 = 46;
/// `struct tcmsg`: family, padding, then index, handle, parent and info.
const HEADER_BYTES: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;
// linux/pkt_sched.h
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// The actions of filters, by kind of filter (linux/pkt_cls.h).
const ACTIONS: [(&str, u16); 6] =
    [("u32", 7), ("flower", 3), ("matchall", 2), ("bpf", 1), ("basic", 3), ("fw", 4)];
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_STATS: u16 = 4;
const TCA_GACT_PARMS: u16 = 2;
const TC_ACT_SHOT: u32 = 2;

/// What is at the devices called `names`, by their numbers.
///
/// Like `tc -s qdisc show` and `tc -s filter show dev DEVICE ingress|egress`.
pub(super) fn queues(
    netlink: &Netlink,
    names: &BTreeMap<u32, String>,
) -> Result<Vec<QueueFacts>, KernelError> {
    let mut found = Vec::new();
    let all = Raw::new(RTM_GETQDISC, &[0; HEADER_BYTES], &[]);
    let mut hooks: Vec<(u32, u32, bool)> = Vec::new();
    for raw in netlink.raw_dump(&all, "list queueing disciplines")? {
        let Some((index, handle, parent)) = header(&raw.bytes) else { continue };
        let (Some(device), Some(rest)) = (names.get(&index), raw.bytes.get(HEADER_BYTES..)) else {
            continue;
        };
        let kind = find(rest, &[TCA_KIND]).and_then(text_of).unwrap_or_default();
        let options = find(rest, &[TCA_OPTIONS]).unwrap_or_default();
        let dropped = find(rest, &[TCA_STATS2, TCA_STATS_QUEUE]);
        let dropped = dropped.and_then(|queue| number_at(queue, 8)).unwrap_or_default();
        match kind {
            "clsact" => hooks.extend([(index, INGRESS, false), (index, EGRESS, true)]),
            "ingress" => hooks.push((index, TC_H_CLSACT, false)),
            "prio" | "htb" | "hfsc" => hooks.push((index, handle, true)),
            _ => {}
        }
        let place = match parent {
            TC_H_ROOT => "root".to_owned(),
            parent => format!("parent {:x}:{:x}", parent >> 16, parent & 0xffff),
        };
        let removed_by = format!("tc qdisc del dev {device} {place}");
        let does = match kind {
            "netem" => netem(options),
            "tbf" => tbf(options).into_iter().collect(),
            "blackhole" => vec![Queueing::Blackhole],
            _ => Vec::new(),
        };
        found.extend(does.into_iter().map(|does| QueueFacts {
            device: device.clone(),
            out: true,
            does,
            removed_by: removed_by.clone(),
            dropped: dropped.into(),
        }));
    }
    for (index, parent, out) in hooks {
        let Some(device) = names.get(&index) else { continue };
        let mut head = vec![0; HEADER_BYTES];
        head[4..8].copy_from_slice(&index.to_ne_bytes());
        head[12..16].copy_from_slice(&parent.to_ne_bytes());
        let message = Raw::new(RTM_GETTFILTER, &head, &[]);
        for raw in netlink.raw_dump(&message, "list filters")? {
            found.extend(filter(&raw.bytes, device, parent, out));
        }
    }
    Ok(found)
}

/// The number of the device, the handle and the parent.
fn header(bytes: &[u8]) -> Option<(u32, u32, u32)> {
    Some((number_at(bytes, 4)?, number_at(bytes, 8)?, number_at(bytes, 12)?))
}

/// `struct tc_netem_qopt`: latency, limit, loss, gap, duplicate, jitter. A share
/// is of 2^32.
pub(super) fn netem(options: &[u8]) -> Vec<Queueing> {
    let share = |of: u32| u32::try_from(u64::from(of) * 10_000 / u64::from(u32::MAX)).unwrap_or(0);
    let rest = options.get(24..).unwrap_or_default();
    let mut does = Vec::new();
    if let Some(loss) = number_at(options, 8).map(share).filter(|loss| *loss != 0) {
        does.push(Queueing::Loses(loss));
    }
    let corrupt = find(rest, &[TCA_NETEM_CORRUPT]).and_then(|value| number_at(value, 0));
    if let Some(corrupt) = corrupt.map(share).filter(|share| *share != 0) {
        does.push(Queueing::Corrupts(corrupt));
    }
    let nanoseconds = find(rest, &[TCA_NETEM_LATENCY64])
        .and_then(|value| Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?)));
    if let Some(delay) = nanoseconds.filter(|delay| *delay != 0) {
        does.push(Queueing::Delays(u32::try_from(delay / 1000).unwrap_or(u32::MAX)));
    }
    does
}

/// `struct tc_tbf_qopt`: two `struct tc_ratespec` of 12 bytes, limit, buffer and
/// mtu; a rate's last four bytes are bytes a second.
pub(super) fn tbf(options: &[u8]) -> Option<Queueing> {
    let parms = find(options, &[TCA_TBF_PARMS])?;
    let wide = find(options, &[TCA_TBF_RATE64])
        .and_then(|value| Some(u64::from_ne_bytes(value.get(..8)?.try_into().ok()?)));
    let rate = match wide {
        Some(rate) => rate,
        None => u64::from(number_at(parms, 8)?),
    };
    Some(Queueing::Limits(rate.saturating_mul(8), None))
}

/// A filter that drops, if it is one.
pub(super) fn filter(bytes: &[u8], device: &str, parent: u32, out: bool) -> Option<QueueFacts> {
    let info = number_at(bytes, 16)?;
    let rest = bytes.get(HEADER_BYTES..)?;
    let kind = find(rest, &[TCA_KIND]).and_then(text_of)?;
    let (_, actions) = ACTIONS.iter().find(|(name, _)| *name == kind)?;
    let actions = find(rest, &[TCA_OPTIONS, *actions])?;
    let drops = |action: &[u8]| {
        let is_gact = find(action, &[TCA_ACT_KIND]).and_then(text_of) == Some("gact");
        let parms = find(action, &[TCA_ACT_OPTIONS, TCA_GACT_PARMS]);
        is_gact && parms.and_then(|parms| number_at(parms, 8)) == Some(TC_ACT_SHOT)
    };
    let dropping = attributes(actions).map(|(_, action)| action).find(|action| drops(action))?;
    let dropped = find(dropping, &[TCA_ACT_STATS, TCA_STATS_QUEUE]);
    let hook = match parent {
        INGRESS | TC_H_CLSACT => "ingress".to_owned(),
        EGRESS => "egress".to_owned(),
        parent => format!("parent {:x}:{:x}", parent >> 16, parent & 0xffff),
    };
    Some(QueueFacts {
        device: device.to_owned(),
        out,
        does: Queueing::Drops,
        removed_by: format!("tc filter del dev {device} {hook} pref {}", info >> 16),
        dropped: dropped.and_then(|queue| number_at(queue, 8)).unwrap_or_default().into(),
    })
}
