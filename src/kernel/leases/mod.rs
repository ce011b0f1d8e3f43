//! Leases: addresses that a DHCP server gives for a time (RFC 2131), and who
//! keeps them.
//!
//! A command ends long before a lease does, so that is kept by a process of ours
//! (`keeper`), one for each lab, which is this program again. It has a thread for
//! each interface, born in the interface's namespace (`client`); the protocol is
//! `mozim`'s. What a lease brings are an address with our number and the lease's
//! time, and routes that the kernel takes away together with that address
//! (`apply`): if nobody renews it any more, nothing of it is left when its time
//! is over. Commands talk to the keeper over a socket whose name has the lab's in
//! it (`wire`), which is how it is found. It ends when it has nothing to keep:
//! when it is told to, when the interfaces are gone.
//!
//! The keeper writes nothing down. One that was killed is missed by the next
//! command, and the new one asks for the addresses that are still there.

mod apply;
mod client;
pub mod keeper;
mod solicit;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnet::Ipv4Net;
use nix::errno::Errno;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::KernelError;
use crate::model::mark::netns as netns_name;
use crate::model::names::{IfName, LabName, NodeName};
use crate::model::world::SeenLease;
use wire::{Ask, OfAnother, Tell, Whose};

pub(super) use solicit::{Asking, await_router};

/// What must hold for any message to or from the keeper (see `crate::fuzzing`).
pub(super) fn fuzz(input: &[u8]) {
    crate::model::fuzzing::equal::<wire::Ask>(input);
    crate::model::fuzzing::equal::<wire::Tell>(input);
}

/// How long a keeper may take to be there, or to answer what it knows.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a server may be silent: four times of asking, 3 to 5 s and then 7 to
/// 9 s apart, and the 3 s that some try an address before they give it.
const LEASE_WITHIN: Duration = Duration::from_secs(20);

/// The leases that are kept for the interfaces of a lab. None if there is no
/// keeper.
pub(super) async fn list(
    lab: &LabName,
) -> Result<BTreeMap<(NodeName, IfName), SeenLease>, KernelError> {
    let of_node = |(whose, lease): (Whose, SeenLease)| Some(((whose.node?, whose.device), lease));
    Ok(kept(lab).await?.into_iter().filter_map(of_node).collect())
}

/// The devices on which a lease of the host is renewed in its client's place.
pub async fn list_of_host(lab: &LabName) -> Result<BTreeSet<IfName>, KernelError> {
    let of_host = |(whose, _): (Whose, SeenLease)| whose.node.is_none().then_some(whose.device);
    Ok(kept(lab).await?.into_iter().filter_map(of_host).collect())
}

async fn kept(lab: &LabName) -> Result<Vec<(Whose, SeenLease)>, KernelError> {
    let Some(mut line) = wire::connect(lab)? else { return Ok(Vec::new()) };
    match line.ask(&Ask::List, ANSWER_WITHIN).await {
        Ok(Tell::Kept(leases)) => Ok(leases),
        Ok(_) => Err(KernelError::new("ask for leases", Errno::EBADMSG)),
        // It had nothing left to keep.
        Err(Errno::EPIPE) => Ok(Vec::new()),
        Err(errno) => Err(KernelError::new("ask for leases", errno)),
    }
}

/// Has a lease kept for an interface, by a new keeper if there is none.
///
/// Like `ip netns exec NETNS dhcpcd DEVICE`.
pub(super) async fn hold(
    lab: &LabName,
    node: &NodeName,
    device: &IfName,
) -> Result<(), KernelError> {
    let netns = Some(netns_name(lab, node));
    let ask = Ask::Hold { whose: whose(node, device), netns, of_another: None };
    ask_to_hold(lab, &ask, &format!("have a lease kept for `{node}:{device}`")).await
}

/// Has the lease renewed that a client of somebody else got for the host, where
/// its address is now: on `device`. Only its time changes.
pub async fn hold_for_host(
    lab: &LabName,
    device: &IfName,
    address: Ipv4Net,
    client_id: Vec<u8>,
) -> Result<(), KernelError> {
    let whose = Whose { node: None, device: device.clone() };
    let of_another = Some(OfAnother { address, client_id });
    let ask = Ask::Hold { whose, netns: None, of_another };
    ask_to_hold(lab, &ask, &format!("have the lease of {address} kept on `{device}`")).await
}

/// Leaves the host's lease to whoever had it.
pub async fn leave_to_host(lab: &LabName, device: &IfName) -> Result<(), KernelError> {
    let asked = format!("leave the lease of `{device}` to its client");
    ask_to_end(lab, Whose { node: None, device: device.clone() }, asked).await
}

async fn ask_to_hold(lab: &LabName, ask: &Ask, asked: &str) -> Result<(), KernelError> {
    let fail = |errno| KernelError::new(asked, errno);
    // One that is about to end may be met at that.
    for _ in 0..3 {
        let mut line = match wire::connect(lab)? {
            Some(line) => line,
            None => {
                start(lab).await?;
                continue;
            }
        };
        match line.ask(ask, ANSWER_WITHIN).await {
            Ok(Tell::Holds) => return Ok(()),
            Ok(Tell::Failed(number)) => return Err(fail(Errno::from_raw(number))),
            Ok(_) => return Err(fail(Errno::EBADMSG)),
            Err(Errno::EPIPE) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Err(fail(Errno::EPIPE))
}

/// Waits until an interface has the address of its lease, and puts it back if
/// somebody took it off.
pub(super) async fn await_lease(
    lab: &LabName,
    node: &NodeName,
    device: &IfName,
) -> Result<(), KernelError> {
    let within_s = LEASE_WITHIN.as_secs();
    let asked = format!("get an address by DHCP for `{node}:{device}` within {within_s} s");
    let Some(mut line) = wire::connect(lab)? else {
        return Err(KernelError::new(asked, Errno::ESRCH));
    };
    let within_ms = u64::try_from(LEASE_WITHIN.as_millis()).expect("it is short");
    let ask = Ask::Await { whose: whose(node, device), within_ms };
    match line.ask(&ask, LEASE_WITHIN + ANSWER_WITHIN).await {
        Ok(Tell::Bound) => Ok(()),
        Ok(Tell::Silent { offered: false }) => Err(KernelError::new(asked, Errno::ENODATA)),
        Ok(Tell::Silent { offered: true }) => {
            let asked = format!("take the address that a DHCP server gave `{node}:{device}`");
            Err(KernelError::new(asked, Errno::EINVAL))
        }
        Ok(Tell::Failed(number)) => Err(KernelError::new(asked, Errno::from_raw(number))),
        Ok(_) => Err(KernelError::new(asked, Errno::EBADMSG)),
        Err(errno) => Err(KernelError::new(asked, errno)),
    }
}

/// Gives a lease back to its server. One that nobody keeps is none.
pub(super) async fn end(
    lab: &LabName,
    node: &NodeName,
    device: &IfName,
) -> Result<(), KernelError> {
    ask_to_end(lab, whose(node, device), format!("end the lease of `{node}:{device}`")).await
}

async fn ask_to_end(lab: &LabName, whose: Whose, asked: String) -> Result<(), KernelError> {
    let fail = |errno| KernelError::new(asked, errno);
    let Some(mut line) = wire::connect(lab)? else { return Ok(()) };
    match line.ask(&Ask::End { whose }, ANSWER_WITHIN).await {
        Ok(Tell::Ended { last }) => {
            if last {
                line.ended(ANSWER_WITHIN).await;
            }
            Ok(())
        }
        Err(Errno::EPIPE) => Ok(()),
        Ok(_) => Err(fail(Errno::EBADMSG)),
        Err(errno) => Err(fail(errno)),
    }
}

fn whose(node: &NodeName, device: &IfName) -> Whose {
    Whose { node: Some(node.clone()), device: device.clone() }
}

/// Starts the keeper of a lab, and returns when it listens.
async fn start(lab: &LabName) -> Result<(), KernelError> {
    let asked = || format!("start the keeper of the leases of lab `{lab}`");
    let fail = |error: std::io::Error| KernelError::from_io(asked(), &error);
    let (mut ours, its) = UnixStream::pair().map_err(fail)?;
    let its = its.into_std().map_err(fail)?;
    its.set_nonblocking(false).map_err(fail)?;
    let mut command = Command::new(program());
    command.arg0("ovsns").args(["keep-leases", "--lab", lab.as_str()]);
    command.stdin(OwnedFd::from(its)).stdout(Stdio::null()).stderr(Stdio::null());
    command.current_dir("/");
    let mut child = command.spawn().map_err(fail)?;
    // Its own end must not stay open here, or its death would not be heard.
    drop(command);
    // It outlives a command, but not every program that uses this library:
    // somebody must wait for it, or it stays in the list of processes.
    let _ = std::thread::Builder::new().spawn(move || child.wait());
    match timeout(ANSWER_WITHIN, ours.read_u8()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(fail(error)),
        Err(_) => Err(KernelError::new(asked(), Errno::ETIMEDOUT)),
    }
}

/// This program, also if that was replaced since; the one that is installed for
/// a program that uses this library.
pub(super) fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let is_ovsns = exe
        .file_name()
        .is_some_and(|name| name.to_string_lossy().trim_end_matches(" (deleted)") == "ovsns");
    if is_ovsns { Path::new("/proc/self/exe").to_owned() } else { PathBuf::from("ovsns") }
}
