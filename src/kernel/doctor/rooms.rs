//! What nodes are made of besides a network: other namespaces, control groups,
//! layers over directories.

use std::process::{Command, Stdio};
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::{Finding, Part, Verdict, finding};
use crate::kernel::error::{self, KernelError};
use crate::kernel::{laid, life};
use crate::model::world::Controller;
use crate::plan::lives;

/// Tries each.
pub(super) fn examine() -> Vec<Finding> {
    let rooms = [
        ("pid", CloneFlags::CLONE_NEWPID, "PID_NS"),
        ("mount", CloneFlags::CLONE_NEWNS, "NAMESPACES"),
        ("uts", CloneFlags::CLONE_NEWUTS, "UTS_NS"),
        ("ipc", CloneFlags::CLONE_NEWIPC, "IPC_NS"),
    ];
    let mut findings: Vec<Finding> =
        rooms.map(|(kind, flag, config)| room(kind, flag, config)).into();
    let versions = life::versions();
    let all = [
        (Controller::Cpu, "`limits: { cpu }`"),
        (Controller::Memory, "`limits: { memory }`"),
        (Controller::Pids, "`limits: { processes }`"),
    ];
    findings.extend(all.map(|(controller, needed_for)| {
        let name = controller.name();
        let version = versions.get(&controller);
        let tried = version.map(drop).ok_or_else(|| lives::no_groups(name));
        let (what, mend) = (format!("control groups for `{name}`"), lives::mount_groups(name));
        let mut finding =
            finding(Part::Labs, &what, needed_for, Verdict::Lacking, Ok(tried), &mend);
        if let Some(version) = version {
            finding.said = format!("mounted, version {version}");
        }
        finding
    }));
    let needed_for = "`files` of nodes that are not on the machine";
    let mend = "load the module: `modprobe overlay`";
    findings.push(finding(
        Part::Labs,
        "overlayfs",
        needed_for,
        Verdict::Lacking,
        Ok(laid::can_layer()),
        mend,
    ));
    findings.push(user_namespaces());
    findings
}

/// Tries a namespace, in a thread that ends with it.
fn room(kind: &str, flag: CloneFlags, config: &str) -> Finding {
    let tried = thread::spawn(move || unshare(flag)).join().unwrap_or(Err(Errno::EAGAIN));
    let tried = tried.map_err(|errno| KernelError::new(format!("make a {kind} namespace"), errno));
    let words = format!("{kind} namespaces (CONFIG_{config})");
    let (what, needed_for) =
        (format!("{kind} namespaces"), format!("`isolation: [{kind}]` of nodes"));
    let tried = error::tried(tried, &words, &[Errno::EINVAL]);
    let mend = "use a kernel that has it";
    finding(Part::Labs, &what, &needed_for, Verdict::Lacking, tried, mend)
}

/// Nothing of ours needs them, but whoever is not root does. Only a process with a
/// single thread can make one, so another tries.
fn user_namespaces() -> Finding {
    let mut command = Command::new("/proc/self/exe");
    command.args(["doctor", "--try-user-namespace"]);
    let ran = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let tried = match ran {
        Ok(output) if output.status.success() => Ok(Ok(())),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Ok(Err(format!("none can be made: {}", said.trim())))
        }
        Err(error) => Err(KernelError::from_io("try a user namespace", &error)),
    };
    let needed_for = "labs of somebody who is not root: `unshare --user --map-root-user --net \
                      --mount`";
    let mend = "`sysctl user.max_user_namespaces` says whether they are allowed; a kernel has them \
                with CONFIG_USER_NS";
    finding(Part::Labs, "user namespaces", needed_for, Verdict::Lacking, tried, mend)
}

/// Moves this process, which has one thread, into a new user namespace.
pub fn try_user_namespace() -> Result<(), KernelError> {
    let asked = "make a user namespace";
    unshare(CloneFlags::CLONE_NEWUSER).map_err(|errno| KernelError::new(asked, errno))
}
