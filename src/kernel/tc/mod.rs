//! Traffic control: what Open vSwitch has as ingress policing and mirrors, at
//! a port of a bridge of the kernel's (tc(8), tc-police(8), tc-mirred(8)).
//!
//! Both are filters at the hooks of the port's device, which the qdisc `clsact`
//! provides. What comes in is policed first, so that no mirror shows a frame
//! that the switch never saw. Our filters let a frame go on to the filters
//! behind them, those of others included.
//!
//! A filter of ours carries two marks: a preference that is [`POLICE_PREF`] or
//! one of [`MIRROR_PREFS`], and in its action a cookie (`TCA_ACT_COOKIE`) that
//! says what it is. A qdisc cannot be marked, so the cookies say, too, whether
//! we brought it: then the last filter takes it along, unless somebody else
//! has a filter there by then. What carries no mark is never changed.
//!
//! What happens to frames that leave is another matter, in `egress`.
//!
//! `wire` has it all as bytes; `tries` finds out what a kernel can do.

pub mod egress;
pub(super) mod fuzzing;
mod tries;
mod wire;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use nix::errno::Errno;

use self::wire::{Header, What};
use super::error::KernelError;
use super::netlink::Netlink;
use crate::model::names::IfName;

pub use self::tries::{can_impair, can_mirror, can_police, can_police_like_ovs, can_shape};

/// The preference of the policing filter: low, since a filter of somebody
/// else's that is done with a frame keeps it from those behind.
pub const POLICE_PREF: u16 = 111;

/// The preferences of mirrors' filters, one for each.
pub const MIRROR_PREFS: RangeInclusive<u16> = 112..=239;

/// The longest name of a mirror: a cookie holds sixteen bytes.
pub const MIRROR_NAME_BYTES_MAX: usize = 15;

/// How much may come into a switch by one port; what is more is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policing {
    rate_kbit_per_s: u32,
    burst_kbit: u32,
}

/// Which of the frames at a port a mirror shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Those that come into the switch by the port.
    In,
    /// Those that leave the switch by the port.
    Out,
}

/// A mirror at one port, in one direction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mirror {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub direction: Direction,
    /// Where it shows it; `None` if that device is gone, even where there is
    /// another of its name by now.
    pub output: Option<IfName>,
}

/// What is set at one port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Its policing.
    pub policing: Option<Policing>,
    /// Its mirrors, sorted.
    pub mirrors: Vec<Mirror>,
}

impl Policing {
    /// Takes the numbers as Open vSwitch does in `ingress_policing_rate` and
    /// `ingress_policing_burst`: a rate of 0 polices nothing, and a burst of 0
    /// stands for 8000 kbit.
    pub fn new(rate_kbit_per_s: u32, burst_kbit: u32) -> Option<Self> {
        let burst_kbit = if burst_kbit == 0 { 8000 } else { burst_kbit };
        (rate_kbit_per_s != 0).then_some(Self { rate_kbit_per_s, burst_kbit })
    }

    /// The rate, in thousands of bits a second.
    pub fn rate_kbit_per_s(self) -> u32 {
        self.rate_kbit_per_s
    }

    /// How much may come at once, in units of 1024 bits: so Open vSwitch takes
    /// the number.
    pub fn burst_kbit(self) -> u32 {
        self.burst_kbit
    }
}

/// Sets how much may come into a switch by a port; `None` is all. While one
/// limit takes the place of another, for some microseconds there is none.
///
/// Like `tc qdisc add dev DEVICE clsact` and `tc filter add dev DEVICE ingress
/// pref 111 matchall action police rate RATE burst BURST mtu 65535
/// conform-exceed drop/continue`.
pub fn set_policing(
    netlink: &Netlink,
    device: &IfName,
    policing: Option<Policing>,
) -> Result<(), KernelError> {
    let port = Port::look(netlink, device)?;
    let before = port.ours().find_map(|(filter, ours)| match ours.what {
        What::Policing(before) => Some((filter, before)),
        What::Mirror { .. } => None,
    });
    if let Some((filter, _)) = before {
        port.delete(netlink, filter, || format!("end the policing of `{device}`"))?;
    }
    let police = |policing| {
        let asked = || format!("police what comes in by `{device}`");
        let action = |brought| wire::police(policing, &wire::police_cookie(policing, brought));
        Port::look(netlink, device)?.add(netlink, Direction::In, POLICE_PREF, action, asked)
    };
    let Some(Err(error)) = policing.map(police) else { return Ok(()) };
    match before.map(|(_, before)| police(before)) {
        None | Some(Ok(())) => Err(error),
        // Then nothing is policed any more.
        Some(Err(worse)) => Err(worse),
    }
}

/// Shows the frames at a port to another device too, which must not be the
/// port itself.
///
/// Like `tc qdisc add dev DEVICE clsact` and `tc filter add dev DEVICE
/// ingress|egress pref PREF matchall action mirred egress mirror dev OUTPUT
/// continue`.
pub fn add_mirror(
    netlink: &Netlink,
    device: &IfName,
    name: &str,
    direction: Direction,
    output: &IfName,
) -> Result<(), KernelError> {
    let asked = || format!("mirror `{device}` to `{output}` as `{name}`");
    let fail = |errno| Err(KernelError::new(asked(), errno));
    if name.len() > MIRROR_NAME_BYTES_MAX {
        return fail(Errno::ENAMETOOLONG);
    }
    if name.is_empty() || name.contains(char::is_control) {
        return fail(Errno::EINVAL);
    }
    let port = Port::look(netlink, device)?;
    if port.mirror(name, direction).is_some() {
        return fail(Errno::EEXIST);
    }
    // Free at both hooks: a `u32` lists those of its preference at the other hook
    // as well (they share their tables, kernel 6.18).
    let taken = |pref: &u16| port.all().any(|filter| filter.pref == *pref);
    let Some(pref) = MIRROR_PREFS.into_iter().find(|pref| !taken(pref)) else {
        return fail(Errno::ENOSPC);
    };
    let index = netlink.index_of(output.as_str())?;
    let action = |brought| wire::mirror(index, &wire::mirror_cookie(name, brought));
    port.add(netlink, direction, pref, action, asked)
}

/// Ends a mirror at a port, in one direction.
///
/// Like `tc filter delete dev DEVICE ingress|egress pref PREF`.
pub fn delete_mirror(
    netlink: &Netlink,
    device: &IfName,
    name: &str,
    direction: Direction,
) -> Result<(), KernelError> {
    let asked = || format!("end the mirror `{name}` of `{device}`");
    let port = Port::look(netlink, device)?;
    match port.mirror(name, direction) {
        Some(filter) => port.delete(netlink, filter, asked),
        None => Err(KernelError::new(asked(), Errno::ENOENT)),
    }
}

/// Takes all of ours off a device.
///
/// Like `tc filter delete dev DEVICE ingress|egress pref PREF` for each.
pub fn clear(netlink: &Netlink, device: &IfName) -> Result<(), KernelError> {
    let port = Port::look(netlink, device)?;
    for (filter, _) in port.ours() {
        port.delete(netlink, filter, || format!("end what is set at `{device}`"))?;
    }
    Ok(())
}

/// What is set at the devices where anything of ours is. `names` are the
/// devices of the socket's namespace by index, those among them to which
/// mirrors show frames.
///
/// Like `tc qdisc show`, and `tc filter show dev DEVICE ingress|egress` for
/// each that has the hooks.
pub fn rules(
    netlink: &Netlink,
    names: &BTreeMap<u32, IfName>,
) -> Result<BTreeMap<IfName, Rules>, KernelError> {
    let mut found = BTreeMap::new();
    let all = wire::message(wire::GET_QDISC, Header::default(), &[]);
    for message in netlink.raw_dump(&all, "list the queueing disciplines")? {
        let Some((header, kind)) = wire::read(&message) else { continue };
        let Some(device) = names.get(&header.index) else { continue };
        if header.parent == wire::HOOKS_PARENT {
            let port = Port::with_filters(netlink, device, header.index, Some(kind.to_owned()))?;
            let rules = port.rules(names);
            if rules != Rules::default() {
                found.insert(device.clone(), rules);
            }
        }
    }
    Ok(found)
}

/// A port's device as it is now.
struct Port {
    device: IfName,
    index: u32,
    /// What provides its hooks, if anything does: `clsact`, or `ingress`, which
    /// has only one.
    qdisc: Option<String>,
    ingress: Vec<wire::Filter>,
    egress: Vec<wire::Filter>,
}

impl Port {
    fn look(netlink: &Netlink, device: &IfName) -> Result<Self, KernelError> {
        let index = netlink.index_of(device.as_str())?;
        let header = Header { index, parent: wire::HOOKS_PARENT, ..Header::default() };
        let asked = || format!("look at the hooks of `{device}`");
        let message = wire::message(wire::GET_QDISC, header, &[]);
        // Whoever does not ask for an echo as well gets no answer (kernel 6.18).
        let answers = match netlink.raw(message, NLM_F_ECHO, asked) {
            Err(error) if error.errno == Errno::ENOENT => Vec::new(),
            other => other?,
        };
        // There is neither an error nor an answer where there was one once.
        let qdisc = answers.iter().find_map(wire::read).map(|(_, kind)| kind.to_owned());
        Self::with_filters(netlink, device, index, qdisc)
    }

    fn with_filters(
        netlink: &Netlink,
        device: &IfName,
        index: u32,
        qdisc: Option<String>,
    ) -> Result<Self, KernelError> {
        let mut port =
            Self { device: device.clone(), index, qdisc, ingress: Vec::new(), egress: Vec::new() };
        let look = |direction| {
            let asked = format!("list the filters of `{device}`");
            let dump = netlink.raw_dump(&wire::filters(index, direction), &asked)?;
            Ok(dump.iter().filter_map(|message| wire::read_filter(message, direction)).collect())
        };
        if port.has_hook(Direction::In) {
            port.ingress = look(Direction::In)?;
        }
        if port.has_hook(Direction::Out) {
            port.egress = look(Direction::Out)?;
        }
        Ok(port)
    }

    /// Whether filters can be at the hook. A qdisc `ingress` takes a filter for
    /// the other direction as well, and puts it at its only hook.
    fn has_hook(&self, direction: Direction) -> bool {
        match direction {
            Direction::In => matches!(self.qdisc.as_deref(), Some("clsact" | "ingress")),
            Direction::Out => self.qdisc.as_deref() == Some("clsact"),
        }
    }

    fn filters(&self, direction: Direction) -> &[wire::Filter] {
        match direction {
            Direction::In => &self.ingress,
            Direction::Out => &self.egress,
        }
    }

    fn all(&self) -> impl Iterator<Item = &wire::Filter> {
        self.ingress.iter().chain(&self.egress)
    }

    fn ours(&self) -> impl Iterator<Item = (&wire::Filter, &wire::Ours)> {
        self.all().filter_map(|filter| Some((filter, filter.ours.as_ref()?)))
    }

    fn mirror(&self, wanted: &str, direction: Direction) -> Option<&wire::Filter> {
        self.filters(direction).iter().find(|filter| match &filter.ours {
            Some(wire::Ours { what: What::Mirror { name, .. }, .. }) => name == wanted,
            Some(wire::Ours { what: What::Policing(_), .. }) | None => false,
        })
    }

    fn rules(&self, names: &BTreeMap<u32, IfName>) -> Rules {
        let mut rules = Rules::default();
        for (filter, ours) in self.ours() {
            match &ours.what {
                What::Policing(policing) => rules.policing = Some(*policing),
                What::Mirror { name, output } => rules.mirrors.push(Mirror {
                    name: name.clone(),
                    direction: filter.direction,
                    output: names.get(output).cloned(),
                }),
            }
        }
        rules.mirrors.sort();
        rules
    }

    /// Adds a filter with an action, which is told whether the qdisc that it
    /// hangs on is ours.
    fn add(
        &self,
        netlink: &Netlink,
        direction: Direction,
        pref: u16,
        action: impl Fn(bool) -> DefaultNla,
        asked: impl Fn() -> String,
    ) -> Result<(), KernelError> {
        let brings = self.qdisc.is_none();
        if brings {
            add_qdisc(netlink, self.index, "clsact", &asked)?;
        } else if !self.has_hook(direction) {
            let why = "somebody's qdisc `ingress` is in the place of `clsact`";
            return Err(KernelError::new(format!("{}, where {why}", asked()), Errno::EBUSY));
        }
        let brought = brings || self.ours().any(|(_, ours)| ours.brought);
        let header = wire::filter_header(self.index, direction, pref);
        let classifiers = &wire::OUR_CLASSIFIERS;
        let added = add_filter(netlink, header, classifiers, Some(&action(brought)), asked);
        if added.is_err() && brings {
            self.delete_qdisc(netlink)?;
        }
        added
    }

    /// Deletes a filter of ours, and the qdisc if we brought it and there is no
    /// filter left; or neither.
    fn delete(
        &self,
        netlink: &Netlink,
        filter: &wire::Filter,
        asked: impl FnOnce() -> String,
    ) -> Result<(), KernelError> {
        let header = wire::filter_header(self.index, filter.direction, filter.pref);
        // A `u32` leaves its table behind while there are others of that kind at
        // the hook; all that has a preference goes where no filter is named.
        let alone = !self.filters(filter.direction).iter().any(|other| filter.shares_with(other));
        let handle = if alone { 0 } else { filter.handle };
        let message = wire::delete_filter(Header { handle, ..header }, &filter.kind);
        netlink.raw(message, 0, asked)?;
        let Some(ours) = filter.ours.as_ref().filter(|ours| ours.brought) else { return Ok(()) };
        let tidied = Self::look(netlink, &self.device).and_then(|now| {
            let unused = now.ingress.is_empty() && now.egress.is_empty();
            match unused && now.qdisc.as_deref() == Some("clsact") {
                true => self.delete_qdisc(netlink),
                false => Ok(()),
            }
        });
        if let Err(error) = tidied {
            // With its mark, or nothing says that the qdisc is ours.
            let asked = || format!("put back what is set at `{}`", self.device);
            let classifiers = &wire::OUR_CLASSIFIERS;
            add_filter(netlink, header, classifiers, Some(&ours.action()), asked)?;
            return Err(error);
        }
        Ok(())
    }

    /// Like `tc qdisc delete dev DEVICE clsact`.
    fn delete_qdisc(&self, netlink: &Netlink) -> Result<(), KernelError> {
        let message = wire::qdisc(wire::DELETE_QDISC, self.index, "clsact");
        let asked = || format!("take the qdisc `clsact` off `{}`", self.device);
        netlink.raw(message, 0, asked).map(drop)
    }
}

fn add_qdisc(
    netlink: &Netlink,
    index: u32,
    kind: &str,
    asked: impl FnOnce() -> String,
) -> Result<(), KernelError> {
    let message = wire::qdisc(wire::NEW_QDISC, index, kind);
    netlink.raw(message, NLM_F_CREATE | NLM_F_EXCL, asked).map(drop)
}

/// Adds a filter with the first of the classifiers that the kernel has.
fn add_filter(
    netlink: &Netlink,
    header: Header,
    classifiers: &[wire::Classifier],
    action: Option<&DefaultNla>,
    asked: impl Fn() -> String,
) -> Result<(), KernelError> {
    let mut missing = KernelError::new(asked(), Errno::ENOENT);
    for classifier in classifiers {
        let message = wire::new_filter(header, *classifier, action);
        match netlink.raw(message, NLM_F_CREATE | NLM_F_EXCL, &asked) {
            Err(error) if error.errno == Errno::ENOENT => missing = error,
            other => return other.map(drop),
        }
    }
    Err(missing)
}
