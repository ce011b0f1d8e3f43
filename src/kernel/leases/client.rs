//! One interface's part in DHCP: a thread that is in its namespace for life, and
//! asks, renews and gives back.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::pin::pin;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use mozim::{DhcpError, DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::super::error::KernelError;
use super::super::netlink::Netlink;
use super::super::netns;
use super::super::observe;
use super::apply::{self, Terms};
use super::wire::OfAnother;
use crate::model::names::IfName;
use crate::model::world::SeenLease;

/// How often it is looked whether the namespace still has its name: nobody says
/// when it loses that, and a thread inside would keep it.
const NAMED_EVERY: Duration = Duration::from_secs(5);
/// How long the server's address may take to be found, when a lease is given back.
const RELEASED_WITHIN: Duration = Duration::from_millis(500);
/// The pause after a failure that comes at once, such as of a link that is down.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What the keeper tells it.
#[derive(Debug)]
pub(super) enum Order {
    /// To put back what was taken off.
    Check(oneshot::Sender<()>),
    /// To give the lease back, and end.
    End,
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) lease: SeenLease,
    /// Whether a server gave an address that the kernel did not take.
    pub(super) offered: bool,
}

/// What it works with.
pub(super) struct Work {
    /// None for where the process is.
    pub(super) netns: Option<String>,
    pub(super) device: IfName,
    /// What is only renewed, in the place of its client.
    pub(super) of_another: Option<OfAnother>,
    pub(super) orders: UnboundedReceiver<Order>,
    pub(super) standing: watch::Sender<Standing>,
}

/// A thread that was started.
pub(super) struct Started {
    /// Says whether it works.
    pub(super) begun: oneshot::Receiver<Result<(), KernelError>>,
    /// Comes to nothing when it has ended.
    pub(super) ended: oneshot::Receiver<()>,
}

/// Starts the thread.
pub(super) fn start(work: Work) -> io::Result<Started> {
    let (begun, has_begun) = oneshot::channel();
    let (ends, has_ended) = oneshot::channel();
    thread::Builder::new().name("lease".into()).spawn(move || {
        let _ends: oneshot::Sender<()> = ends;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let error = KernelError::from_io("start a runtime", &error);
                let _ = begun.send(Err(error));
                return;
            }
        };
        runtime.block_on(async {
            // Nobody waits for the answer if the command was cut off.
            match Client::enter(work).await {
                Ok(client) => {
                    let _ = begun.send(Ok(()));
                    client.live().await;
                }
                Err(error) => drop(begun.send(Err(error))),
            }
        });
    })?;
    Ok(Started { begun: has_begun, ended: has_ended })
}

struct Client {
    work: Work,
    netlink: Netlink,
    links: UdpSocket,
    index: u32,
    config: DhcpV4Config,
    dhcp: DhcpV4Client,
    bound: Option<Bound>,
}

/// What the device has.
struct Bound {
    lease: DhcpV4Lease,
    terms: Terms,
    until: Instant,
}

/// What there is to do.
enum Turn {
    Dhcp(Result<DhcpV4State, DhcpError>),
    End,
    Gone,
}

impl Client {
    /// Goes into the namespace, for good.
    async fn enter(work: Work) -> Result<Self, KernelError> {
        if let Some(name) = &work.netns {
            let fail = |errno| KernelError::new(format!("enter namespace `{name}`"), errno);
            setns(netns::open(name)?.as_fd(), CloneFlags::CLONE_NEWNET).map_err(fail)?;
        }
        let netlink = Netlink::new()?;
        let links = watch_links().map_err(|error| KernelError::from_io("watch links", &error))?;
        let all = observe::links(&netlink)?;
        let link = all.iter().find(|link| link.name == work.device.as_str());
        let gone = || KernelError::new(format!("look up `{}`", work.device), Errno::ENODEV);
        let link = link.ok_or_else(gone)?;
        let mut config = DhcpV4Config::new(work.device.as_str());
        config.set_iface_index(link.index);
        let mac = config.set_iface_mac_raw(&link.seen.mac.0);
        let _ = mac.map_err(|_| KernelError::new("read an Ethernet address", Errno::EINVAL))?;
        let left = match &work.of_another {
            Some(other) => {
                if let Some((kind, id)) = other.client_id.split_first() {
                    config.set_client_id(*kind, id);
                }
                Some(other.address)
            }
            // What a keeper before this one got is asked for again.
            None => apply::bound(&netlink, link.index)?,
        };
        let begun = DhcpV4Client::init(config.clone(), left.map(remembered)).await;
        let dhcp = begun.map_err(|_| KernelError::new("begin with DHCP", Errno::EINVAL))?;
        if let Some(address) = left {
            work.standing.send_modify(|standing| standing.lease.address = Some(address.into()));
        }
        Ok(Self { work, netlink, links, index: link.index, config, dhcp, bound: None })
    }

    async fn live(mut self) {
        loop {
            match self.turn().await {
                Turn::Dhcp(Ok(DhcpV4State::Done(lease))) if self.work.of_another.is_some() => {
                    self.prolong(*lease);
                }
                Turn::Dhcp(Ok(DhcpV4State::Done(lease))) => self.bind(*lease),
                Turn::Dhcp(Ok(DhcpV4State::Renewing)) if self.work.of_another.is_some() => {
                    self.ask_again().await;
                }
                Turn::Dhcp(Ok(DhcpV4State::InitReboot)) => self.lost(),
                Turn::Dhcp(Ok(_)) => {}
                Turn::Dhcp(Err(_)) => {
                    self.dhcp.clean_up();
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
                Turn::End => return self.give_back().await,
                Turn::Gone => return,
            }
        }
    }

    /// Waits for what comes next. The orders that change nothing about the
    /// protocol are seen to meanwhile: what it waits for is not asked for anew.
    async fn turn(&mut self) -> Turn {
        let Self { work, netlink, links, index, dhcp, bound, config: _ } = self;
        let mut dhcp = pin!(dhcp.run());
        let mut named = interval(NAMED_EVERY);
        let mut said = [0; 4096];
        named.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                state = &mut dhcp => return Turn::Dhcp(state),
                order = work.orders.recv() => match order {
                    Some(Order::Check(done)) => {
                        check(work, netlink, *index, bound.as_ref());
                        // Who asked may be gone.
                        let _ = done.send(());
                    }
                    Some(Order::End) | None => return Turn::End,
                },
                // What was said is looked up; that too much was said is an error, and
                // says no less.
                _ = links.recv(&mut said) => {
                    if is_gone(netlink, &work.device, *index) {
                        return Turn::Gone;
                    }
                }
                _ = named.tick() => {
                    if work.netns.as_deref().is_some_and(|name| !has_name(name)) {
                        return Turn::Gone;
                    }
                }
            }
        }
    }

    fn bind(&mut self, lease: DhcpV4Lease) {
        let terms = Terms::of(&lease);
        let left = self.bound.take().map(|bound| bound.terms);
        let recovered = match &left {
            Some(_) => None,
            None => apply::bound(&self.netlink, self.index).ok().flatten(),
        };
        let mut done = Ok(());
        if let Some(left) = left {
            done = left.leave_for(Some(&terms), &self.netlink, self.index);
        }
        if let Some(other) = recovered.filter(|other| *other != terms.address) {
            done = done.and(apply::unbind(&self.netlink, self.index, other));
        }
        let done = done.and(terms.bind(&self.netlink, self.index, terms.valid_s));
        self.work.standing.send_replace(match done {
            Ok(()) => Standing { lease: terms.seen(), offered: false },
            Err(_) => Standing { lease: SeenLease::default(), offered: true },
        });
        let until = Instant::now() + Duration::from_secs(terms.valid_s.into());
        self.bound = Some(Bound { lease, terms, until });
    }

    /// Gives another client's address the time that the server gives it. One that
    /// the server gives in its place is not taken: it would be news to everybody.
    fn prolong(&mut self, lease: DhcpV4Lease) {
        let terms = Terms::of(&lease);
        let same =
            self.work.of_another.as_ref().is_some_and(|other| other.address == terms.address);
        let done = same && apply::prolong(&self.netlink, self.index, &terms).is_ok();
        let lease_seen = if done { terms.seen() } else { SeenLease::default() };
        self.work.standing.send_replace(Standing { lease: lease_seen, offered: !done });
        let until = Instant::now() + Duration::from_secs(terms.valid_s.into());
        self.bound = Some(Bound { lease, terms, until });
    }

    /// Asks for the time of another client's lease as if after a reboot, by
    /// broadcast: the port from which a lease is renewed may be that client's.
    async fn ask_again(&mut self) {
        let Some(bound) = &self.bound else { return };
        let lease = Some(bound.lease.clone());
        // It fails only where a device is to be looked up, which was done.
        if let Ok(dhcp) = DhcpV4Client::init(self.config.clone(), lease).await {
            self.dhcp = dhcp;
        }
    }

    /// The lease is over, or was refused. The address goes when its time is over.
    fn lost(&mut self) {
        if self.work.of_another.is_some() {
            return;
        }
        let over = self.bound.as_ref().is_some_and(|bound| bound.until <= Instant::now());
        if over && let Some(bound) = self.bound.take() {
            // It has gone by itself, as a rule.
            let _ = bound.terms.leave_for(None, &self.netlink, self.index);
        }
        self.work.standing.send_modify(|standing| standing.lease = SeenLease::default());
    }

    async fn give_back(mut self) {
        if self.work.of_another.is_some() {
            return;
        }
        let left = apply::bound(&self.netlink, self.index).ok().flatten();
        if let Some(bound) = &self.bound {
            // It is a courtesy: a lease that is not given back runs out.
            let _ = timeout(RELEASED_WITHIN, self.dhcp.release(&bound.lease)).await;
            // The server's own address may have to be asked for first, and what
            // waits for that would go with the address.
            let until = Instant::now() + RELEASED_WITHIN;
            while Instant::now() < until && apply::is_sought(&self.netlink, bound.lease.srv_id) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let address = self.bound.map(|bound| bound.terms.address).or(left);
        if let Some(address) = address {
            // A link that is gone has none.
            let _ = apply::unbind(&self.netlink, self.index, address);
        }
    }
}

/// Puts back the address and the routes of a lease, if they were taken off.
fn check(work: &Work, netlink: &Netlink, index: u32, bound: Option<&Bound>) {
    let Some(bound) = bound.filter(|_| work.of_another.is_none()) else { return };
    let left = bound.until.saturating_duration_since(Instant::now()).as_secs();
    let left = u32::try_from(left).unwrap_or(u32::MAX - 1);
    if left != 0 && bound.terms.bind(netlink, index, left).is_ok() {
        let standing = Standing { lease: bound.terms.seen(), offered: false };
        work.standing.send_replace(standing);
    }
}

/// A lease as far as it is known by its address: enough to ask for it again
/// (INIT-REBOOT, RFC 2131, section 4.4.2).
fn remembered(address: Ipv4Net) -> DhcpV4Lease {
    let mut lease = DhcpV4Lease::default();
    lease.yiaddr = address.addr();
    lease.subnet_mask = address.netmask();
    (lease.t1_sec, lease.t2_sec, lease.lease_time_sec) = (1, 2, 3);
    lease
}

/// A socket that hears of links that come and go.
fn watch_links() -> io::Result<UdpSocket> {
    /// `RTMGRP_LINK` in linux/rtnetlink.h.
    const LINKS: u32 = 1;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let route = SockProtocol::NetlinkRoute;
    let links = socket(AddressFamily::Netlink, SockType::Raw, flags, route)?;
    bind(links.as_raw_fd(), &NetlinkAddr::new(0, LINKS))?;
    // Of what is made for UDP only `recv(2)` is used.
    UdpSocket::from_std(links.into())
}

fn is_gone(netlink: &Netlink, device: &IfName, index: u32) -> bool {
    match netlink.index_of(device.as_str()) {
        Ok(now) => now != index,
        Err(error) => error.errno == Errno::ENODEV,
    }
}

/// Whether the namespace of the calling thread is still called so.
fn has_name(name: &str) -> bool {
    let this = fs::metadata("/proc/thread-self/ns/net").map(|it| (it.dev(), it.ino()));
    let named = fs::metadata(netns::path(name)).map(|it| (it.dev(), it.ino()));
    match (this, named) {
        (Ok(this), Ok(named)) => this == named,
        (_, Err(error)) => error.kind() != io::ErrorKind::NotFound,
        (Err(_), _) => true,
    }
}
