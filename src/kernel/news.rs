//! What the kernel tells of by itself: of links, addresses, routes and rules
//! (`rtnetlink(7)`), and of files (`inotify(7)`).
//!
//! That something happened is all that is taken from it. What is there is read
//! afterwards, all at once: messages can be lost (`ENOBUFS`), and by the time one is
//! read it may be true no longer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use super::error::KernelError;
use super::netlink::Netlink;
use super::netns;

/// Of what is told: links, addresses of both families, routes, rules, and numbers of
/// namespaces (linux/rtnetlink.h, `RTNLGRP_*`). Not of neighbours, which come and go
/// with traffic.
const GROUPS: [u32; 8] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NSID,
];

/// What is told of links, addresses and routes, in the namespace in which this was
/// begun and in all that have a number in it.
pub struct LinkNews {
    heard: AsyncFd<Socket>,
    netlink: Netlink,
    /// Namespaces that were given a number, by what tells them from all others.
    numbered: BTreeSet<(u64, u64)>,
}

impl LinkNews {
    /// Begins, in the namespace of the calling thread.
    ///
    /// Like `ip monitor all-nsid link address route rule`.
    pub fn begin() -> Result<Self, KernelError> {
        let fail = |error: io::Error| KernelError::from_io("hear of changes of links", &error);
        let mut heard = Socket::new(NETLINK_ROUTE).map_err(fail)?;
        heard.bind(&SocketAddr::new(0, 0)).map_err(fail)?;
        for group in GROUPS {
            heard.add_membership(group).map_err(fail)?;
        }
        heard.set_listen_all_namespaces(true).map_err(fail)?;
        heard.set_non_blocking(true).map_err(fail)?;
        // As for `switch::own::daemon`: it closes its file behind nobody's back.
        #[allow(deprecated)]
        let heard = AsyncFd::new(heard).map_err(fail)?;
        Ok(Self { heard, netlink: Netlink::new()?, numbered: BTreeSet::new() })
    }

    /// Hears from these namespaces, too. One that is gone is left out. Most have a
    /// number already: the kernel gives one to whatever is at the other end of a
    /// link.
    ///
    /// Like `ip netns set NAME auto` for each.
    pub fn follow<'n>(
        &mut self,
        namespaces: impl Iterator<Item = &'n str>,
    ) -> Result<(), KernelError> {
        let mut numbered = BTreeSet::new();
        for name in namespaces {
            let Ok(there) = netns::open(name) else { continue };
            let Ok(key) = rustix::fs::fstat(&there).map(|it| (it.st_dev, it.st_ino)) else {
                continue;
            };
            numbered.insert(key);
            if self.numbered.contains(&key) {
                continue;
            }
            let mut message = NsidMessage::default();
            let number = u32::try_from(there.as_raw_fd()).unwrap_or_default();
            message.attributes = vec![NsidAttribute::Fd(number), NsidAttribute::Id(-1)];
            let asked = || format!("number namespace `{name}`");
            match self.netlink.change(RouteNetlinkMessage::NewNsId(message), asked) {
                // It has one.
                Err(error) if error.errno == Errno::EEXIST => {}
                other => other?,
            }
        }
        self.numbered = numbered;
        Ok(())
    }

    /// Awaits that something is told. All that was told by then is one.
    pub async fn next(&mut self) -> Result<(), KernelError> {
        let fail = |error: io::Error| KernelError::from_io("hear of changes of links", &error);
        let mut ready = self.heard.readable_mut().await.map_err(fail)?;
        let mut buffer = Vec::with_capacity(32 << 10);
        loop {
            buffer.clear();
            match ready.get_inner().recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                    return Ok(());
                }
                // More was told than it could hold.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(fail(error)),
            }
        }
    }
}

/// What is told of directories: names that come and go, and files that were written.
pub struct FileNews {
    heard: AsyncFd<Handle>,
    followed: BTreeMap<PathBuf, WatchDescriptor>,
}

/// The crate's own has no number to wait by.
struct Handle(Inotify);

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl FileNews {
    /// Begins, with no directory.
    pub fn begin() -> Result<Self, KernelError> {
        let fail = |error: io::Error| KernelError::from_io("hear of changes of files", &error);
        let handle = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let handle = Handle(handle.map_err(|errno| fail(errno.into()))?);
        // Nor does this.
        #[allow(deprecated)]
        let heard = AsyncFd::new(handle).map_err(fail)?;
        Ok(Self { heard, followed: BTreeMap::new() })
    }

    /// Hears of these directories, and of no others. Those that are not there are left
    /// out: their parents tell when they come.
    pub fn follow(&mut self, directories: BTreeSet<PathBuf>) -> Result<(), KernelError> {
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            // Whoever had a lock to change something closes it.
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ONLYDIR;
        let handle = &self.heard.get_ref().0;
        let mut followed = BTreeMap::new();
        for directory in directories {
            match handle.add_watch(&directory, events) {
                // The same number again, unless another directory has that name now.
                Ok(watch) => drop(followed.insert(directory, watch)),
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(not_followed(&directory, errno)),
            }
        }
        let is_followed = |watch: &WatchDescriptor| followed.values().any(|it| it == watch);
        for gone in self.followed.values().filter(|watch| !is_followed(watch)) {
            // The kernel forgets what is gone by itself.
            let _ = handle.rm_watch(*gone);
        }
        self.followed = followed;
        Ok(())
    }

    /// Awaits that something is told. All that was told by then is one.
    pub async fn next(&mut self) -> Result<(), KernelError> {
        let fail = |error: io::Error| KernelError::from_io("hear of changes of files", &error);
        let mut ready = self.heard.readable_mut().await.map_err(fail)?;
        loop {
            match ready.get_inner().0.read_events() {
                Ok(_) => {}
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(errno) => return Err(fail(errno.into())),
            }
        }
    }
}

fn not_followed(directory: &Path, errno: Errno) -> KernelError {
    KernelError::new(format!("hear of changes in `{}`", directory.display()), errno)
}
