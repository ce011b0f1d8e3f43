//! Filters and qdiscs as bytes, and the mark that our filters carry.
//!
//! The libraries have types for some of it, and give up a whole list over one
//! filter of somebody's that they cannot read; what is needed here is little.

use netlink_packet_core::DefaultNla;

use super::{Direction, MIRROR_PREFS, POLICE_PREF, Policing};
use crate::kernel::raw::{Raw, attribute, find, nest, number_at, text, text_of};

// linux/rtnetlink.h
pub(super) const NEW_QDISC: u16 = 36;
pub(super) const DELETE_QDISC: u16 = 37;
pub(super) const GET_QDISC: u16 = 38;
const NEW_FILTER: u16 = 44;
const DELETE_FILTER: u16 = 45;
const GET_FILTER: u16 = 46;
pub(super) const TCA_KIND: u16 = 1;
pub(super) const TCA_OPTIONS: u16 = 2;
const TCA_CHAIN: u16 = 11;

// linux/pkt_sched.h
/// Where the qdisc of the hooks is (`TC_H_CLSACT`, `TC_H_INGRESS`), with the
/// handle that the kernel gives it.
pub(super) const HOOKS_PARENT: u32 = 0xffff_fff1;
const HOOKS_HANDLE: u32 = 0xffff_0000;
pub(super) const TC_H_ROOT: u32 = 0xffff_ffff;
const TCA_HTB_INIT: u16 = 2;

// linux/pkt_cls.h
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_COOKIE: u16 = 6;
const TC_ACT_UNSPEC: i32 = -1;
const TC_ACT_SHOT: i32 = 2;
const TCA_POLICE_TBF: u16 = 1;
const TCA_POLICE_RATE: u16 = 2;
const TCA_POLICE_RESULT: u16 = 5;
const TCA_POLICE_RATE64: u16 = 8;
const TCA_U32_SEL: u16 = 5;
/// The part of a handle that says which table of a `u32` it is.
const U32_TABLE: u32 = 0xfff0_0000;

// linux/tc_act/tc_mirred.h
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_MIRROR: u32 = 2;

// linux/if_ether.h
const ETH_P_ALL: u16 = 3;

/// What is before the attributes (`struct tcmsg`), less the address family,
/// which is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) index: u32,
    pub(super) handle: u32,
    pub(super) parent: u32,
    pub(super) info: u32,
}

const HEADER_BYTES: usize = 20;

/// A filter that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) direction: Direction,
    pub(super) pref: u16,
    pub(super) kind: String,
    pub(super) handle: u32,
    pub(super) ours: Option<Ours>,
}

/// What the mark of a filter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ours {
    /// Whether we brought the qdisc.
    pub(super) brought: bool,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Policing(Policing),
    /// The output is an index, 0 where that device is gone.
    Mirror {
        name: String,
        output: u32,
    },
}

impl Ours {
    /// What its filter does, as an attribute of a new one.
    pub(super) fn action(&self) -> DefaultNla {
        match &self.what {
            What::Policing(policing) => police(*policing, &police_cookie(*policing, self.brought)),
            What::Mirror { name, output } => mirror(*output, &mirror_cookie(name, self.brought)),
        }
    }
}

impl Filter {
    /// Whether the other is one more filter of the same preference, and not
    /// this one nor what the kernel lists besides: the preference itself, and
    /// the table that a `u32` is in.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        let beside = [0, self.handle, self.handle & U32_TABLE];
        other.pref == self.pref && !beside.contains(&other.handle)
    }
}

// ---- what is asked ----

pub(super) fn message(kind: u16, header: Header, attributes: &[DefaultNla]) -> Raw {
    let words = [0, header.index, header.handle, header.parent, header.info];
    Raw::new(kind, &words_of(&words), attributes)
}

/// About the qdisc that provides the hooks of a device.
pub(super) fn qdisc(what: u16, index: u32, kind: &str) -> Raw {
    let header = Header { index, parent: HOOKS_PARENT, handle: HOOKS_HANDLE, info: 0 };
    message(what, header, &[text(TCA_KIND, kind)])
}

/// For a new qdisc `htb` in the place where Open vSwitch has one.
pub(super) fn new_htb(index: u32) -> Raw {
    let header = Header { index, parent: TC_H_ROOT, handle: 1 << 16, info: 0 };
    // struct tc_htb_glob: version, quantum, default class, debug, direct packets.
    let glob = attribute(TCA_HTB_INIT, &words_of(&[3, 10, 1, 0, 0]));
    message(NEW_QDISC, header, &[text(TCA_KIND, "htb"), nest(TCA_OPTIONS, &[glob])])
}

/// All filters at a hook.
pub(super) fn filters(index: u32, direction: Direction) -> Raw {
    let header = Header { index, parent: direction.hook(), ..Header::default() };
    message(GET_FILTER, header, &[])
}

/// For frames of any protocol.
pub(super) fn filter_header(index: u32, direction: Direction, pref: u16) -> Header {
    Header { index, handle: 0, parent: direction.hook(), info: info(pref) }
}

impl Direction {
    /// `TC_H_MIN_INGRESS` and `TC_H_MIN_EGRESS` of the hooks' handle.
    fn hook(self) -> u32 {
        match self {
            Self::In => HOOKS_HANDLE | 0xfff2,
            Self::Out => HOOKS_HANDLE | 0xfff3,
        }
    }
}

fn info(pref: u16) -> u32 {
    u32::from(pref) << 16 | u32::from(ETH_P_ALL.to_be())
}

pub(super) fn new_filter(
    header: Header,
    classifier: Classifier,
    action: Option<&DefaultNla>,
) -> Raw {
    let mut options = Vec::new();
    if classifier == Classifier::U32 {
        // struct tc_u32_sel: the last word on a frame (`TC_U32_TERMINAL`), by one
        // key, which is that none of the bits of its first word are set.
        let mut every_frame = [0; 32];
        every_frame[0] = 1;
        every_frame[2] = 1;
        options.push(attribute(TCA_U32_SEL, &every_frame));
    }
    options.extend(action.map(|action| nest(classifier.actions(), std::slice::from_ref(action))));
    let attributes = [text(TCA_KIND, classifier.kind()), nest(TCA_OPTIONS, &options)];
    message(NEW_FILTER, header, &attributes)
}

pub(super) fn delete_filter(header: Header, kind: &str) -> Raw {
    message(DELETE_FILTER, header, &[text(TCA_KIND, kind)])
}

/// A classifier that can be told to let every frame match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Classifier {
    Matchall,
    U32,
    Basic,
}

/// Those that we take: the second where a kernel has not the first.
pub(super) const OUR_CLASSIFIERS: [Classifier; 2] = [Classifier::Matchall, Classifier::U32];

impl Classifier {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Matchall => "matchall",
            Self::U32 => "u32",
            Self::Basic => "basic",
        }
    }

    /// The attribute that its actions are in.
    fn actions(self) -> u16 {
        match self {
            Self::Matchall => 2,
            Self::U32 => 7,
            Self::Basic => 3,
        }
    }
}

/// Drops what is too much, and lets the rest go on to the next filter.
pub(super) fn police(policing: Policing, cookie: &[u8]) -> DefaultNla {
    let bytes_per_s = policing.bytes_per_s();
    let rate = u32::try_from(bytes_per_s).unwrap_or(u32::MAX);
    // struct tc_police: index, action, limit, burst, mtu; struct tc_ratespec
    // with the bits by which sizes up to that mtu are shifted, the link layer
    // Ethernet, two fields of none, the smallest frame, and the rate.
    let mut tbf =
        words_of(&[0, TC_ACT_SHOT.cast_unsigned(), 0, policing.burst_ticks(), u16::MAX.into()]);
    tbf.extend([9, 1, 0, 0, 0, 0]);
    tbf.extend(64u16.to_ne_bytes());
    tbf.extend(rate.to_ne_bytes());
    // The rate of peaks, two counters and a field of none.
    tbf.resize(56, 0);
    let mut options = vec![
        attribute(TCA_POLICE_TBF, &tbf),
        // Times by size. Since Linux 3.8 the kernel calculates them, and still
        // wants a table.
        attribute(TCA_POLICE_RATE, &[0; 1024]),
        attribute(TCA_POLICE_RESULT, &TC_ACT_UNSPEC.to_ne_bytes()),
    ];
    if u64::from(rate) < bytes_per_s {
        options.push(attribute(TCA_POLICE_RATE64, &bytes_per_s.to_ne_bytes()));
    }
    action("police", &options, cookie)
}

/// Shows a frame to a device, and lets it go on to the next filter.
pub(super) fn mirror(output: u32, cookie: &[u8]) -> DefaultNla {
    // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
    let words = [0, 0, TC_ACT_UNSPEC.cast_unsigned(), 0, 0, TCA_EGRESS_MIRROR, output];
    action("mirred", &[attribute(TCA_MIRRED_PARMS, &words_of(&words))], cookie)
}

/// The first of a filter's actions.
fn action(kind: &str, options: &[DefaultNla], cookie: &[u8]) -> DefaultNla {
    let mut attributes = vec![text(TCA_ACT_KIND, kind), nest(TCA_ACT_OPTIONS, options)];
    if !cookie.is_empty() {
        attributes.push(attribute(TCA_ACT_COOKIE, cookie));
    }
    nest(1, &attributes)
}

fn words_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

impl Policing {
    fn bytes_per_s(self) -> u64 {
        u64::from(self.rate_kbit_per_s) * 1000 / 8
    }

    /// The burst as the kernel counts it: the time that it takes at the rate,
    /// in units of 64 ns (`PSCHED_SHIFT`).
    fn burst_ticks(self) -> u32 {
        let bytes = u64::from(self.burst_kbit) * 1024 / 8;
        u32::try_from(bytes * TICKS_PER_S / self.bytes_per_s()).unwrap_or(u32::MAX)
    }
}

pub(super) const TICKS_PER_S: u64 = 1_000_000_000 >> 6;

// ---- the mark ----

type Cookie = [u8; 16];

/// `P` if we brought the qdisc, else `p`; rate, burst, our name.
pub(super) fn police_cookie(policing: Policing, brought: bool) -> Cookie {
    let mut cookie = *b"p........ovsns\0\0";
    cookie[1..5].copy_from_slice(&policing.rate_kbit_per_s.to_be_bytes());
    cookie[5..9].copy_from_slice(&policing.burst_kbit.to_be_bytes());
    if brought {
        cookie[0] = b'P';
    }
    cookie
}

/// `M` if we brought the qdisc, else `m`; the name, which must fit.
pub(super) fn mirror_cookie(name: &str, brought: bool) -> Cookie {
    let mut cookie = [0; 16];
    cookie[0] = if brought { b'M' } else { b'm' };
    cookie[1..=name.len()].copy_from_slice(name.as_bytes());
    cookie
}

// ---- what is answered ----

/// The header and the kind in a message about a qdisc or a filter.
pub(super) fn read(message: &Raw) -> Option<(Header, &str)> {
    let word = |place: usize| number_at(&message.bytes, place * 4);
    let header = Header { index: word(1)?, handle: word(2)?, parent: word(3)?, info: word(4)? };
    let kind = find(attributes_of(message), &[TCA_KIND]).and_then(text_of)?;
    Some((header, kind))
}

pub(super) fn attributes_of(message: &Raw) -> &[u8] {
    message.bytes.get(HEADER_BYTES..).unwrap_or_default()
}

/// A filter at the hook that was asked about, or something else that has a
/// preference there.
pub(super) fn read_filter(message: &Raw, direction: Direction) -> Option<Filter> {
    let (header, kind) = read(message)?;
    let attributes = attributes_of(message);
    let (handle, kind) = (header.handle, kind.to_owned());
    let pref = u16::try_from(header.info >> 16).ok()?;
    let mut filter = Filter { direction, pref, kind, handle, ours: None };
    // Ours look at every frame, and from the first chain.
    let chain = find(attributes, &[TCA_CHAIN]).and_then(|value| number_at(value, 0));
    if header.info == info(pref) && chain.unwrap_or(0) == 0 {
        filter.ours = read_mark(&filter, find(attributes, &[TCA_OPTIONS]).unwrap_or_default());
    }
    Some(filter)
}

fn read_mark(filter: &Filter, options: &[u8]) -> Option<Ours> {
    let classifier = OUR_CLASSIFIERS.into_iter().find(|it| it.kind() == filter.kind)?;
    let action = find(options, &[classifier.actions(), 1])?;
    let cookie: &Cookie = find(action, &[TCA_ACT_COOKIE])?.try_into().ok()?;
    let kind = find(action, &[TCA_ACT_KIND]).and_then(text_of)?;
    let does = find(action, &[TCA_ACT_OPTIONS])?;
    let what = match (cookie[0], kind) {
        (b'P' | b'p', "police") if filter.pref == POLICE_PREF => read_policing(cookie, does)?,
        (b'M' | b'm', "mirred") if MIRROR_PREFS.contains(&filter.pref) => {
            read_mirror(cookie, does)?
        }
        _ => return None,
    };
    Some(Ours { brought: cookie[0].is_ascii_uppercase(), what })
}

/// The numbers in the cookie, because the kernel's are rounded; unless somebody
/// has changed what the action does, which then counts.
fn read_policing(cookie: &Cookie, does: &[u8]) -> Option<What> {
    let number = |place: usize| cookie[place..place + 4].try_into().ok().map(u32::from_be_bytes);
    let said = Policing::new(number(1)?, number(5)?)?;
    if cookie[9..] != *b"ovsns\0\0" {
        return None;
    }
    let tbf = find(does, &[TCA_POLICE_TBF])?;
    let rate64 = find(does, &[TCA_POLICE_RATE64]).and_then(|value| value.try_into().ok());
    let rate = rate64.map(u64::from_ne_bytes).or(number_at(tbf, 28).map(u64::from))?;
    let burst = number_at(tbf, 12)?;
    if rate == said.bytes_per_s() && burst == said.burst_ticks() {
        return Some(What::Policing(said));
    }
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let burst_bytes = rate.saturating_mul(burst.into()) / TICKS_PER_S;
    let (rate_kbit_per_s, burst_kbit) = (small(rate / 125), small(burst_bytes / 128));
    Some(What::Policing(Policing { rate_kbit_per_s, burst_kbit }))
}

fn read_mirror(cookie: &Cookie, does: &[u8]) -> Option<What> {
    let name = text_of(&cookie[1..])?;
    let brought = cookie[0].is_ascii_uppercase();
    if name.is_empty() || name.contains(char::is_control) || *cookie != mirror_cookie(name, brought)
    {
        return None;
    }
    let parameters = find(does, &[TCA_MIRRED_PARMS])?;
    let mirrors = number_at(parameters, 20)? == TCA_EGRESS_MIRROR;
    let output = if mirrors { number_at(parameters, 24)? } else { 0 };
    Some(What::Mirror { name: name.to_owned(), output })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a request as if the kernel had answered with it: it lists a filter
    /// with the attributes that made it, and some more.
    fn seen(pref: u16, classifier: Classifier, action: &DefaultNla) -> Option<Ours> {
        let header = filter_header(7, Direction::Out, pref);
        read_filter(&new_filter(header, classifier, Some(action)), Direction::Out)?.ours
    }

    #[test]
    fn marks_are_read_back() {
        for classifier in OUR_CLASSIFIERS {
            for brought in [true, false] {
                let name = "fifteen-letters";
                let action = mirror(3, &mirror_cookie(name, brought));
                let what = What::Mirror { name: name.into(), output: 3 };
                assert_eq!(seen(112, classifier, &action), Some(Ours { brought, what }));
                for (rate, burst) in [(1, u32::MAX), (u32::MAX, 1), (10_000, 0), (7, 7)] {
                    let policing = Policing::new(rate, burst).expect("it polices");
                    let action = police(policing, &police_cookie(policing, brought));
                    let what = What::Policing(policing);
                    assert_eq!(seen(111, classifier, &action), Some(Ours { brought, what }));
                }
            }
        }
    }

    #[test]
    fn what_carries_half_a_mark_is_not_ours() {
        let [matchall, _] = OUR_CLASSIFIERS;
        let cookie = mirror_cookie("m", false);
        assert!(seen(112, matchall, &mirror(3, &cookie)).is_some());
        assert_eq!(seen(111, matchall, &mirror(3, &cookie)), None, "another preference");
        assert_eq!(seen(240, matchall, &mirror(3, &cookie)), None, "another preference");
        assert_eq!(seen(112, Classifier::Basic, &mirror(3, &cookie)), None, "another kind");
        assert_eq!(seen(112, matchall, &mirror(3, &[])), None, "no cookie");
        assert_eq!(seen(112, matchall, &mirror(3, &cookie[..15])), None, "a short one");
        assert_eq!(seen(112, matchall, &mirror(3, b"m\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")), None);
        assert_eq!(seen(112, matchall, &mirror(3, b"mname\0\0\0\0\0\0\0more")), None);
        assert_eq!(seen(112, matchall, &mirror(3, b"m\xff\xfe\0\0\0\0\0\0\0\0\0\0\0\0\0")), None);
        let policing = Policing::new(1000, 100).expect("it polices");
        let ours = police_cookie(policing, false);
        assert!(seen(111, matchall, &police(policing, &ours)).is_some());
        assert_eq!(
            seen(111, matchall, &police(policing, b"p\0\0\x03\xe8\0\0\0\x64others\0")),
            None
        );
        assert_eq!(seen(111, matchall, &mirror(3, &ours)), None, "another action");

        let header = filter_header(7, Direction::In, 112);
        let mut other_protocol = header;
        other_protocol.info = 112 << 16 | u32::from(0x0800u16.to_be());
        let message = new_filter(other_protocol, matchall, Some(&mirror(3, &cookie)));
        assert_eq!(read_filter(&message, Direction::In).expect("a filter").ours, None);
        let mut message = new_filter(header, matchall, Some(&mirror(3, &cookie)));
        message.bytes.extend([8, 0, 11, 0, 1, 0, 0, 0]);
        assert_eq!(
            read_filter(&message, Direction::In).expect("a filter").ours,
            None,
            "another chain"
        );
    }

    #[test]
    fn what_an_action_does_counts() {
        let policing = |rate, burst| Policing::new(rate, burst).expect("it polices");
        let action = police(policing(2000, 200), &police_cookie(policing(1000, 100), true));
        let seen = seen(111, Classifier::Matchall, &action).map(|ours| ours.what);
        assert_eq!(seen, Some(What::Policing(policing(2000, 200))));
    }

    #[test]
    fn a_short_message_is_passed_over() {
        let action = mirror(3, &mirror_cookie("m", false));
        let header = filter_header(7, Direction::In, 112);
        let whole = new_filter(header, Classifier::Matchall, Some(&action));
        for length in 0..whole.bytes.len() {
            let short = Raw { kind: whole.kind, bytes: whole.bytes[..length].to_vec() };
            assert_eq!(
                read_filter(&short, Direction::In).and_then(|filter| filter.ours),
                None,
                "{length}"
            );
        }
    }
}
