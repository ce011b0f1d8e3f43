//! Impairments: what happens to frames that leave by a device (tc(8),
//! tc-netem(8), tc-tbf(8)).
//!
//! One root qdisc does all of it: `netem`, or `tbf` where only a rate is asked
//! for, which more kernels have. (`netem` has a rate of its own. Under a `tbf`
//! as its child it counts wrong and stops before Linux 6.13, when that cuts up
//! what is too large: torvalds/linux f8d4bc455047.)
//!
//! A qdisc cannot be marked; ours is known by its handle. Another's root qdisc
//! is never replaced: the request that makes ours is refused where there is
//! one, and the one that deletes ours names it.

use std::collections::BTreeMap;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use nix::errno::Errno;

use super::wire::{self, Header, TC_H_ROOT, TCA_KIND, TCA_OPTIONS};
use crate::kernel::error::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::observe;
use crate::kernel::raw::{Raw, attribute, find, nest, number_at, text};
use crate::model::impair::Impairments;
use crate::model::names::IfName;
use crate::model::world::Egress;

/// `6f76:`, "ov". The kernel itself gives handles from `8001:` on, and people
/// write `1:`.
const HANDLE: u32 = 0x6f76_0000;

// linux/pkt_sched.h
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;

/// Has what leaves by a device impaired in this way and no other.
///
/// Like `tc qdisc replace dev DEVICE root handle 6f76: netem limit PACKETS delay
/// TIME JITTER loss SHARE ... rate RATE`, or `... tbf rate RATE burst BYTES
/// limit BYTES`, or `tc qdisc delete dev DEVICE root handle 6f76:`.
pub fn impair(
    netlink: &Netlink,
    device: &IfName,
    impairments: &Impairments,
) -> Result<(), KernelError> {
    let asked = || format!("have what leaves by `{device}` impaired ({impairments})");
    let (index, mtu) = index_and_mtu(netlink, device)?;
    let names = BTreeMap::from([(index, (device.clone(), mtu))]);
    let there = egresses(netlink, &names)?.remove(device).unwrap_or_default();
    let header = Header { index, handle: HANDLE, parent: TC_H_ROOT, info: 0 };
    match (there, impairments.is_none()) {
        (Egress::Others(kind), _) => {
            let why = format!("{}, where somebody's qdisc `{kind}` is", asked());
            Err(KernelError::new(why, Errno::EBUSY))
        }
        (Egress::Plain, true) => Ok(()),
        (Egress::Plain, false) => {
            netlink.raw(new(header, impairments, mtu), NLM_F_CREATE | NLM_F_EXCL, asked).map(drop)
        }
        (Egress::Impaired { .. }, true) => {
            netlink.raw(wire::message(wire::DELETE_QDISC, header, &[]), 0, asked).map(drop)
        }
        // What waits in one of the same kind stays there.
        (Egress::Impaired { .. }, false) => netlink
            .raw(new(header, impairments, mtu), NLM_F_CREATE | NLM_F_REPLACE, asked)
            .map(drop),
    }
}

/// What happens to frames that leave by these devices of the socket's
/// namespace, each with its MTU; those where nothing does are left out.
///
/// Like `tc qdisc show`.
pub fn egresses(
    netlink: &Netlink,
    names: &BTreeMap<u32, (IfName, u32)>,
) -> Result<BTreeMap<IfName, Egress>, KernelError> {
    let mut found = BTreeMap::new();
    let all = wire::message(wire::GET_QDISC, Header::default(), &[]);
    for message in netlink.raw_dump(&all, "list the queueing disciplines")? {
        let Some((header, kind)) = wire::read(&message) else { continue };
        let at_root = names.get(&header.index).filter(|_| header.parent == TC_H_ROOT);
        let Some((device, mtu)) = at_root else { continue };
        let egress = match header.handle {
            // What the kernel puts there itself.
            0 => continue,
            HANDLE => read(&message, kind, *mtu),
            _ => None,
        };
        let egress = egress.unwrap_or_else(|| Egress::Others(kind.to_owned()));
        found.insert(device.clone(), egress);
    }
    Ok(found)
}

fn index_and_mtu(netlink: &Netlink, device: &IfName) -> Result<(u32, u32), KernelError> {
    let link = observe::links(netlink)?.into_iter().find(|link| link.name == device.as_str());
    let link =
        link.ok_or_else(|| KernelError::new(format!("look up device `{device}`"), Errno::ENODEV))?;
    Ok((link.index, link.seen.mtu))
}

/// Whether a kind of root qdisc is one that the kernel puts there itself, on a
/// device without a queue of its own such as a veth.
pub fn is_plain(kind: &str) -> bool {
    matches!(kind, "noqueue" | "noop")
}

/// A new one, with which the try is made, too.
pub(super) fn new(header: Header, impairments: &Impairments, mtu: u32) -> Raw {
    let attributes = match impairments.is_rate() {
        true => tbf(&Tbf::of(impairments, mtu)),
        false => netem(&Netem::of(impairments)),
    };
    wire::message(wire::NEW_QDISC, header, &attributes)
}

pub(super) fn read(message: &Raw, kind: &str, mtu: u32) -> Option<Egress> {
    let options = find(wire::attributes_of(message), &[TCA_OPTIONS])?;
    let (impairments, altered) = match kind {
        "tbf" => {
            let seen = Tbf::read(options)?;
            (seen.impairments(), !seen.is_like(&Tbf::of(&seen.impairments(), mtu)))
        }
        "netem" => {
            let seen = Netem::read(options)?;
            (seen.impairments(), seen != Netem::of(&seen.impairments()))
        }
        _ => return None,
    };
    Some(Egress::Impaired { impairments, altered })
}

// ---- tbf ----

/// The parameters of a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tbf {
    bytes_per_s: u64,
    /// What may go at once after a rest.
    burst_bytes: u64,
    /// What may wait.
    limit_bytes: u64,
}

/// What may go at once: what the rate passes in 10 ms. The kernel cuts up what
/// is larger (TCP hands over up to 64 KB in one piece), so it is only a matter
/// of work, and of how much more than the rate a short measurement finds.
const BURST_MS: u64 = 10;

/// What a frame has beside what the MTU counts: its header, with a VLAN's tag.
const HEADER_BYTES: u64 = 18;

/// What may wait: what the rate passes in 100 ms, as in the routers of a home,
/// and two pieces of 64 KB in any case where they are not cut up.
const QUEUE_MS: u64 = 100;

const PIECE_BYTES: u64 = 65_536;

impl Tbf {
    fn of(impairments: &Impairments, mtu: u32) -> Self {
        let bytes_per_s = u64::from(impairments.rate_kbps) * 125;
        // A frame that is larger than the burst never passes.
        let frame = u64::from(mtu) + HEADER_BYTES;
        let burst_bytes = (bytes_per_s * BURST_MS / 1000).max(2 * frame);
        let pieces = if PIECE_BYTES <= burst_bytes { 2 * PIECE_BYTES } else { 32 * frame };
        let limit_bytes = burst_bytes + (bytes_per_s * QUEUE_MS / 1000).max(pieces);
        let most = u64::from(u32::MAX);
        Self { bytes_per_s, burst_bytes: burst_bytes.min(most), limit_bytes: limit_bytes.min(most) }
    }

    fn impairments(&self) -> Impairments {
        let rate_kbps = u32::try_from(self.bytes_per_s / 125).unwrap_or(u32::MAX);
        Impairments { rate_kbps, ..Impairments::default() }
    }

    /// The burst in the kernel's units of time, 64 ns (`PSCHED_SHIFT`).
    fn burst_ticks(&self) -> u32 {
        let ticks = u128::from(self.burst_bytes) * u128::from(wire::TICKS_PER_S);
        u32::try_from(ticks / u128::from(self.bytes_per_s.max(1))).unwrap_or(u32::MAX)
    }

    /// Whether it is the same but for what the kernel loses by counting in time.
    fn is_like(&self, other: &Self) -> bool {
        let near = self.burst_bytes.abs_diff(other.burst_bytes) <= 1 + other.burst_bytes / 100;
        near && (self.bytes_per_s, self.limit_bytes) == (other.bytes_per_s, other.limit_bytes)
    }

    fn read(options: &[u8]) -> Option<Self> {
        // struct tc_tbf_qopt: the rate (12 bytes), that of peaks, limit, burst.
        let parameters = find(options, &[TCA_TBF_PARMS])?;
        let bytes_per_s = match find(options, &[TCA_TBF_RATE64]) {
            Some(rate) => u64::from_ne_bytes(rate.try_into().ok()?),
            None => u64::from(number_at(parameters, 8)?),
        };
        let (limit, ticks) = (number_at(parameters, 24)?, number_at(parameters, 28)?);
        let bytes = u128::from(ticks) * u128::from(bytes_per_s) / u128::from(wire::TICKS_PER_S);
        Some(Self {
            bytes_per_s,
            burst_bytes: u64::try_from(bytes).ok()?,
            limit_bytes: limit.into(),
        })
    }
}

fn tbf(tbf: &Tbf) -> Vec<DefaultNla> {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let mut parameters = rate_spec(small(tbf.bytes_per_s)).to_vec();
    parameters.extend([0; 12]);
    let numbers = [small(tbf.limit_bytes), tbf.burst_ticks(), 0];
    parameters.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
    let mut options = vec![
        attribute(TCA_TBF_PARMS, &parameters),
        attribute(TCA_TBF_BURST, &small(tbf.burst_bytes).to_ne_bytes()),
    ];
    if u64::from(u32::MAX) <= tbf.bytes_per_s {
        options.push(attribute(TCA_TBF_RATE64, &tbf.bytes_per_s.to_ne_bytes()));
    }
    vec![text(TCA_KIND, "tbf"), nest(TCA_OPTIONS, &options)]
}

/// `struct tc_ratespec`: the link layer Ethernet, and the rate.
fn rate_spec(bytes_per_s: u32) -> [u8; 12] {
    let mut spec = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    spec[8..].copy_from_slice(&bytes_per_s.to_ne_bytes());
    spec
}

// ---- netem ----

/// The parameters of `netem`, shares as parts of 2^32 less one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Netem {
    delay_ns: u64,
    jitter_ns: u64,
    /// How many frames may wait.
    limit: u32,
    loss: u32,
    /// Every which frame of those that could overtake does.
    gap: u32,
    duplicate: u32,
    reorder: u32,
    corrupt: u32,
    bytes_per_s: u64,
}

/// How many frames a second pass at most where there is no limit to the rate:
/// a million is what one processor forwards between veths.
const FRAMES_PER_S_MAX: u64 = 1_000_000;

/// The mean size of frames under way, in bytes. A flood of the smallest ones at
/// the full rate of a link does not fit; with room for that, full-sized ones
/// would queue for seconds.
const FRAME_BYTES: u64 = 300;

/// What `tc` takes, and what others expect as the least.
const LIMIT_MIN: u64 = 1000;
const LIMIT_MAX: u64 = 10_000_000;

impl Netem {
    fn of(impairments: &Impairments) -> Self {
        let Impairments {
            delay_us,
            jitter_us,
            loss_ppm,
            duplicate_ppm,
            reorder_ppm,
            corrupt_ppm,
            rate_kbps,
        } = *impairments;
        let bytes_per_s = u64::from(rate_kbps) * 125;
        // The default of 1000 frames is 12 ms of a full gigabit, and what is kept
        // longer would be lost: all that is under way has to fit, and where
        // there is a rate also what waits for its turn.
        let kept_us = u64::from(delay_us) + u64::from(jitter_us);
        let frames_per_s = match rate_kbps {
            0 => FRAMES_PER_S_MAX,
            _ => (bytes_per_s / FRAME_BYTES).clamp(1, FRAMES_PER_S_MAX),
        };
        let queued = bytes_per_s * QUEUE_MS / 1000 / 1518;
        let limit = (frames_per_s * kept_us).div_ceil(1_000_000) + queued;
        Self {
            delay_ns: u64::from(delay_us) * 1000,
            jitter_ns: u64::from(jitter_us) * 1000,
            limit: u32::try_from(limit.clamp(LIMIT_MIN, LIMIT_MAX)).unwrap_or(u32::MAX),
            loss: part(loss_ppm),
            gap: u32::from(reorder_ppm != 0),
            duplicate: part(duplicate_ppm),
            reorder: part(reorder_ppm),
            corrupt: part(corrupt_ppm),
            bytes_per_s,
        }
    }

    fn impairments(&self) -> Impairments {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Impairments {
            delay_us: small(self.delay_ns / 1000),
            jitter_us: small(self.jitter_ns / 1000),
            loss_ppm: ppm(self.loss),
            duplicate_ppm: ppm(self.duplicate),
            reorder_ppm: ppm(self.reorder),
            corrupt_ppm: ppm(self.corrupt),
            rate_kbps: small(self.bytes_per_s / 125),
        }
    }

    fn read(options: &[u8]) -> Option<Self> {
        // struct tc_netem_qopt: delay, limit, loss, gap, duplicate, jitter; then
        // attributes.
        let word = |place: usize| number_at(options, place * 4);
        let more = options.get(QOPT_BYTES..)?;
        let long = |kind: u16| {
            let value = find(more, &[kind])?;
            Some(u64::from_ne_bytes(value.try_into().ok()?))
        };
        let short = |kind: u16| find(more, &[kind]).and_then(|value| number_at(value, 0));
        let ticks = |ticks: u32| u64::from(ticks) << 6;
        let rate = short(TCA_NETEM_RATE).unwrap_or_default();
        Some(Self {
            delay_ns: long(TCA_NETEM_LATENCY64).unwrap_or(ticks(word(0)?)),
            jitter_ns: long(TCA_NETEM_JITTER64).unwrap_or(ticks(word(5)?)),
            limit: word(1)?,
            loss: word(2)?,
            gap: word(3)?,
            duplicate: word(4)?,
            reorder: short(TCA_NETEM_REORDER).unwrap_or_default(),
            corrupt: short(TCA_NETEM_CORRUPT).unwrap_or_default(),
            bytes_per_s: long(TCA_NETEM_RATE64).unwrap_or(rate.into()),
        })
    }
}

const QOPT_BYTES: usize = 24;

/// A share of 2^32 less one, which is all.
fn part(ppm: u32) -> u32 {
    let part = (u64::from(ppm) * u64::from(u32::MAX) + 500_000) / 1_000_000;
    u32::try_from(part).unwrap_or(u32::MAX)
}

fn ppm(part: u32) -> u32 {
    let half = u64::from(u32::MAX) / 2;
    let ppm = (u64::from(part) * 1_000_000 + half) / u64::from(u32::MAX);
    u32::try_from(ppm).unwrap_or(1_000_000)
}

fn netem(netem: &Netem) -> Vec<DefaultNla> {
    let Netem { delay_ns, jitter_ns, limit, loss, gap, duplicate, reorder, corrupt, bytes_per_s } =
        netem;
    let ticks = |ns: &u64| u32::try_from(ns >> 6).unwrap_or(u32::MAX);
    let qopt = [ticks(delay_ns), *limit, *loss, *gap, *duplicate, ticks(jitter_ns)];
    let qopt: Vec<u8> = qopt.iter().flat_map(|word| word.to_ne_bytes()).collect();
    // Each with no correlation.
    let random =
        |kind, part: &u32| attribute(kind, &[part.to_ne_bytes(), 0u32.to_ne_bytes()].concat());
    let mut more = vec![
        // Since Linux 4.15 to the nanosecond.
        attribute(TCA_NETEM_LATENCY64, &delay_ns.to_ne_bytes()),
        attribute(TCA_NETEM_JITTER64, &jitter_ns.to_ne_bytes()),
        random(TCA_NETEM_REORDER, reorder),
        random(TCA_NETEM_CORRUPT, corrupt),
    ];
    // struct tc_netem_rate: the rate, and no overheads.
    let small = u32::try_from(*bytes_per_s).unwrap_or(u32::MAX);
    let mut rate = small.to_ne_bytes().to_vec();
    rate.resize(16, 0);
    more.push(attribute(TCA_NETEM_RATE, &rate));
    if u64::from(u32::MAX) <= *bytes_per_s {
        more.push(attribute(TCA_NETEM_RATE64, &bytes_per_s.to_ne_bytes()));
    }
    let more = Raw::new(0, &qopt, &more).bytes;
    vec![text(TCA_KIND, "netem"), DefaultNla::new(TCA_OPTIONS, more)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written reads the same, from the least to the most.
    #[test]
    fn what_is_set_is_seen() {
        let rate = |rate_kbps| Impairments { rate_kbps, ..Impairments::default() };
        for impairments in [
            rate(8),
            rate(10_000),
            rate(34_359_738),
            rate(34_359_739),
            rate(100_000_000),
            Impairments { delay_us: 1, ..rate(0) },
            Impairments { delay_us: 60_000_000, jitter_us: 60_000_000, ..rate(100_000_000) },
            Impairments {
                delay_us: 10_000,
                jitter_us: 2500,
                loss_ppm: 10_000,
                duplicate_ppm: 1,
                reorder_ppm: 250_000,
                corrupt_ppm: 1_000_000,
                rate_kbps: 1500,
            },
            Impairments { loss_ppm: 999_999, ..rate(0) },
        ] {
            let message =
                new(Header { index: 7, handle: HANDLE, ..Header::default() }, &impairments, 1500);
            let (header, kind) = wire::read(&message).expect("a qdisc");
            assert_eq!(header.handle, HANDLE);
            let seen = read(&message, kind, 1500);
            assert_eq!(seen, Some(Egress::Impaired { impairments, altered: false }));
        }
    }

    #[test]
    fn what_others_changed_of_it_is_seen() {
        let impairments = Impairments { delay_us: 10_000, ..Impairments::default() };
        let few = Netem { limit: 10, ..Netem::of(&impairments) };
        let message = wire::message(wire::NEW_QDISC, Header::default(), &netem(&few));
        assert_eq!(
            read(&message, "netem", 1500),
            Some(Egress::Impaired { impairments, altered: true })
        );
        let impairments = Impairments { rate_kbps: 10_000, ..Impairments::default() };
        let more = Tbf { burst_bytes: 100_000, ..Tbf::of(&impairments, 1500) };
        let message = wire::message(wire::NEW_QDISC, Header::default(), &tbf(&more));
        assert_eq!(
            read(&message, "tbf", 1500),
            Some(Egress::Impaired { impairments, altered: true })
        );
        assert_eq!(read(&message, "htb", 1500), None);
    }

    /// Room for what is under way, and not for seconds of what waits.
    #[test]
    fn limits() {
        check(10, 0, 10_000);
        check(10, 10_000, 1000);
        check(100, 1_000_000, 41_667 + 8234);
        check(0, 0, 1000);
        check(60_000, 0, 10_000_000);

        #[track_caller]
        fn check(delay_ms: u32, rate_kbps: u32, limit: u32) {
            let delay_us = delay_ms * 1000;
            let impairments = Impairments { delay_us, rate_kbps, ..Impairments::default() };
            assert_eq!(Netem::of(&impairments).limit, limit, "{impairments}");
        }
    }
}
