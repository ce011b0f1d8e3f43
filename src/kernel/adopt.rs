//! Namespaces of somebody else's: found, given a name of ours, and left.
//!
//! Nothing is changed in them. The name in `/run/netns` is ours, and by it all
//! that works for a node works for them; its mark is in the file beneath the
//! namespace (see [`netns::mark_beneath`]). The name keeps the namespace, so
//! that nobody else's can ever be taken for it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;

use super::containers;
use super::error::KernelError;
use super::host::LinuxHost;
use super::netlink::Netlink;
use super::netns;
use super::observe;
use super::worker::Where;
use crate::model::adopt::{Adopt, AdoptMark, NetnsId};
use crate::model::mark::{Mark, Thing, netns as netns_name};
use crate::model::names::{IfName, LabName, NodeName};
use crate::model::nic::AwayMark;
use crate::model::world::{Questions, SeenAdoption, Target, Whose};

/// The node that is adopted under the name `name`, if there is one.
pub(super) fn mark_of(name: &str) -> Option<AdoptMark> {
    let mark = AdoptMark::parse(&netns::mark_beneath(name)?)?;
    (netns_name(&mark.lab, &mark.node) == name).then_some(mark)
}

/// The adopted node that the calling thread is in, if it is in one.
pub(super) fn around() -> Result<Option<AdoptMark>, KernelError> {
    let fail = |e| KernelError::from_io("look at `/proc/thread-self/ns/net`", &e);
    let here = identity(&fs::metadata("/proc/thread-self/ns/net").map_err(fail)?);
    for name in netns::list()? {
        let is_here =
            |name: &str| fs::metadata(netns::path(name)).is_ok_and(|it| identity(&it) == here);
        if name.contains('.')
            && is_here(&name)
            && let Some(mark) = mark_of(&name)
        {
            return Ok(Some(mark));
        }
    }
    Ok(None)
}

/// What is known of the node that is adopted under the name `name`.
pub(super) fn seen(name: &str) -> Option<SeenAdoption> {
    let netns = identity(&fs::metadata(netns::path(name)).ok()?);
    Some(SeenAdoption { netns, from: mark_of(name)?.from })
}

/// What is where a node is to be adopted from. Changes nothing.
pub(super) async fn target(
    host: &LinuxHost,
    questions: &Questions,
    node: &NodeName,
    from: &Adopt,
) -> Result<Target, KernelError> {
    let file = match find(from).await {
        Ok(file) => file,
        Err(why) => return Ok(Target::Missing(why)),
    };
    let fail = |e| KernelError::from_io(format!("look at `{from}`"), &e);
    let netns = identity(&file.metadata().map_err(fail)?);
    let home = fs::metadata("/proc/self/ns/net").map_err(fail)?;
    let (questions, node) = (questions.clone(), node.clone());
    let adoption = SeenAdoption { netns, from: from.clone() };
    let look = move || -> Result<_, KernelError> {
        let mark = observe::node_mark(&Netlink::new()?)?;
        Ok((mark, observe::look_at_others(&questions, &node, adoption)?))
    };
    let (mark, inside) = match host.worker().inside(Where::In(file), look).await {
        Err(error) if error.errno == Errno::EINVAL => {
            return Ok(Target::Missing("it is no network namespace".into()));
        }
        looked => looked??,
    };
    let whose = match mark {
        _ if netns == identity(&home) => Whose::Machine,
        Some(mark) => Whose::Node(mark),
        None => Whose::Another,
    };
    Ok(Target::There { netns, whose, inside: Box::new(inside) })
}

/// The namespace, opened, or why there is none, in words.
async fn find(from: &Adopt) -> Result<File, String> {
    let path = match from {
        Adopt::Netns(path) if path.starts_with('/') => PathBuf::from(path),
        Adopt::Netns(name) => netns::path(name),
        Adopt::Pid(pid) => of_process(*pid),
        Adopt::Container(engine, name) => {
            of_process(containers::first_process(*engine, name).await?)
        }
    };
    let missing = match from {
        Adopt::Netns(_) => "there is no such namespace",
        Adopt::Pid(_) | Adopt::Container(..) => "there is no such process",
    };
    let words = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => missing.to_owned(),
        _ => format!("`{}`: {error}", path.display()),
    };
    // A pipe would keep us waiting, and a device would notice.
    if !fs::metadata(&path).map_err(words)?.is_file() {
        return Err("it is no network namespace".into());
    }
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(words)
}

fn of_process(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

fn identity(metadata: &fs::Metadata) -> NetnsId {
    NetnsId { device: metadata.dev(), inode: metadata.ino() }
}

impl LinuxHost {
    /// Gives a namespace of somebody else's the name of a node.
    ///
    /// Like `ip netns attach LAB.NODE PID`.
    pub(super) async fn adopt_node(
        &mut self,
        lab: &LabName,
        node: &NodeName,
        from: &Adopt,
        netns: NetnsId,
    ) -> Result<(), KernelError> {
        let asked = || format!("adopt `{from}`");
        let fail = |e| KernelError::from_io(asked(), &e);
        netns::prepare()?;
        let file = find(from).await.map_err(|why| {
            let said = Some(why);
            KernelError { said, ..KernelError::new(asked(), Errno::ENOENT) }
        })?;
        // What was looked at is adopted, and nothing else.
        if identity(&file.metadata().map_err(fail)?) != netns {
            let error = KernelError::new(asked(), Errno::ESTALE);
            return Err(KernelError {
                said: Some("another namespace is there now".into()),
                ..error
            });
        }
        let name = netns_name(lab, node);
        let mark = AdoptMark { lab: lab.clone(), node: node.clone(), from: from.clone() };
        let named = move || {
            // What is left of ours of a time when it had a name already, that
            // somebody has taken away.
            delete_ours(&Netlink::new()?, &mark.lab, &mark.node)?;
            netns::name_mine(&name, &mark.to_string())
        };
        self.worker().inside(Where::In(file), named).await?
    }

    /// Takes what is left of ours out of an adopted namespace, and then its name
    /// away.
    ///
    /// Like `ip -n LAB.NODE link delete DEVICE`, for each of ours, and `umount
    /// /run/netns/LAB.NODE; rm /run/netns/LAB.NODE`.
    pub(super) async fn leave_node(
        &mut self,
        lab: &LabName,
        node: &NodeName,
    ) -> Result<(), KernelError> {
        let name = netns_name(lab, node);
        let inside = self.netlink_in(&name).await?;
        delete_ours(&inside, lab, node)?;
        self.forget_socket(&name);
        netns::delete(&name)
    }
}

/// Deletes the links of a node in the socket's namespace.
fn delete_ours(inside: &Netlink, lab: &LabName, node: &NodeName) -> Result<(), KernelError> {
    for link in observe::links(inside)? {
        if AwayMark::parse(&link.seen.alias).is_some_and(|lent| lent.lab == *lab) {
            let asked = format!("leave node `{node}` before NIC `{}` is home", link.name);
            return Err(KernelError::new(asked, Errno::EBUSY));
        }
        let Ok(device) = IfName::new(&link.name) else { continue };
        if is_of(&link, lab, node) {
            match inside.delete_link(&device) {
                // Its other end went just now.
                Err(error) if error.errno == Errno::ENODEV => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// Whether a link in an adopted namespace is ours, and of that node: another
/// lab, and another node of the same, may have some there, too.
pub(super) fn is_of(link: &observe::Link, lab: &LabName, node: &NodeName) -> bool {
    match Mark::parse(&link.seen.alias) {
        Some(Mark { lab: its, thing: Thing::Interface(of, ..) }) => its == *lab && of == *node,
        Some(_) => false,
        // Cut off between birth and mark.
        None => link.is_born_in(lab),
    }
}
