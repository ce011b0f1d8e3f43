//! Control groups of nodes: `ovsns/LAB.NODE` in the machine's hierarchies
//! (`cgroups(7)`), one of version 2 or several of version 1, whatever is mounted.
//!
//! A group holds what runs in a node, and limits it. It outlives the keeper: what
//! a killed keeper leaves is found by it, and ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::error::KernelError;
use crate::model::life::Limits;
use crate::model::mark::netns as group_name;
use crate::model::names::{LabName, NodeName};
use crate::model::world::Controller;

/// Names the group in each hierarchy below which those of nodes are. For one who
/// may only use a part of a hierarchy.
const BASE: &str = "OVSNS_CGROUP";
/// How long what is in a group may take to end when it is killed.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);
/// The period within which processor time is given out, in microseconds: the
/// kernel's default.
const PERIOD_US: u32 = 100_000;

/// Where a controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hierarchy {
    /// In a hierarchy of version 1.
    V1(PathBuf),
    /// In the one of version 2.
    V2(PathBuf),
}

impl Hierarchy {
    fn mount(&self) -> &Path {
        match self {
            Self::V1(path) | Self::V2(path) => path,
        }
    }
}

/// The hierarchies that there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Groups {
    controllers: BTreeMap<Controller, Hierarchy>,
    /// The one that is only there to hold processes.
    home: Option<Hierarchy>,
    base: PathBuf,
}

impl Groups {
    /// Looks where they are mounted.
    pub(super) fn find() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let base = std::env::var(BASE).unwrap_or_default();
        let base = base.trim_matches('/');
        let base = if base.is_empty() { "ovsns" } else { base };
        // One that another file system was mounted over is still in the list.
        let is_there = |line: &&str| {
            let at = line.split(' ').nth(4).unwrap_or_default();
            Path::new(at).join("cgroup.procs").exists()
        };
        let mounts: Vec<&str> = mounts.lines().filter(is_there).collect();
        Self::read(&mounts.join("\n"), base, |path| fs::read_to_string(path).unwrap_or_default())
    }

    pub(super) fn read(mounts: &str, base: &str, read: impl Fn(&Path) -> String) -> Self {
        let mut groups = Self { base: PathBuf::from(base), ..Self::default() };
        let all = [Controller::Cpu, Controller::Memory, Controller::Pids];
        // 31 24 0:27 / /sys/fs/cgroup/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu
        for line in mounts.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let (front, back): (Vec<_>, Vec<_>) =
                (front.split(' ').collect(), back.split(' ').collect());
            let (Some(at), Some(kind)) = (front.get(4), back.first()) else { continue };
            let at = PathBuf::from(at);
            match *kind {
                "cgroup2" => {
                    let has = read(&at.join("cgroup.controllers"));
                    let has: BTreeSet<&str> = has.split_whitespace().collect();
                    for controller in all.into_iter().filter(|c| has.contains(c.name())) {
                        groups.controllers.insert(controller, Hierarchy::V2(at.clone()));
                    }
                    // What is mounted over it hides it: the last one counts.
                    groups.home = Some(Hierarchy::V2(at));
                }
                "cgroup" => {
                    let has: BTreeSet<&str> =
                        back.get(2).map(|o| o.split(',').collect()).unwrap_or_default();
                    for controller in all.into_iter().filter(|c| has.contains(c.name())) {
                        groups.controllers.insert(controller, Hierarchy::V1(at.clone()));
                    }
                }
                _ => {}
            }
        }
        if groups.home.is_none() {
            groups.home = groups.controllers.get(&Controller::Pids).cloned();
        }
        groups
    }

    /// What can be limited.
    pub(super) fn controllers(&self) -> BTreeSet<Controller> {
        self.controllers.keys().copied().collect()
    }

    /// By which version each can be limited.
    pub(super) fn versions(&self) -> BTreeMap<Controller, u8> {
        let version = |hierarchy: &Hierarchy| match hierarchy {
            Hierarchy::V1(_) => 1,
            Hierarchy::V2(_) => 2,
        };
        self.controllers.iter().map(|(controller, it)| (*controller, version(it))).collect()
    }

    fn in_hierarchy(&self, hierarchy: &Hierarchy, lab: &LabName, node: &NodeName) -> PathBuf {
        hierarchy.mount().join(&self.base).join(group_name(lab, node))
    }

    fn hierarchies(&self) -> Vec<&Hierarchy> {
        let mut all: Vec<&Hierarchy> = self.home.iter().collect();
        for hierarchy in self.controllers.values() {
            if !all.contains(&hierarchy) {
                all.push(hierarchy);
            }
        }
        all
    }

    /// The directories of a node's groups that are there.
    fn of(&self, lab: &LabName, node: &NodeName) -> Vec<PathBuf> {
        let all = self.hierarchies().into_iter().map(|it| self.in_hierarchy(it, lab, node));
        all.filter(|path| path.is_dir()).collect()
    }

    /// The nodes of a lab that have a group.
    pub(super) fn nodes(&self, lab: &LabName) -> BTreeSet<NodeName> {
        let ours = format!("{lab}.");
        let node = |name: String| NodeName::new(name.strip_prefix(&ours)?).ok();
        self.names().into_iter().filter_map(node).collect()
    }

    /// The labs that have a group.
    pub(super) fn labs(&self) -> BTreeSet<LabName> {
        let lab = |name: String| LabName::new(name.split_once('.')?.0).ok();
        self.names().into_iter().filter_map(lab).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for hierarchy in self.hierarchies() {
            let entries = fs::read_dir(hierarchy.mount().join(&self.base));
            let entries = entries.into_iter().flatten().flatten().filter(|entry| {
                // One that holds processes of another world is that world's.
                entry.file_type().is_ok_and(|kind| kind.is_dir()) && !is_foreign(&entry.path())
            });
            names.extend(entries.filter_map(|entry| entry.file_name().into_string().ok()));
        }
        names
    }

    /// Makes the group in which a node's processes are held. Where that cannot
    /// be, there is none, and nobody needs one but limits.
    pub(super) fn make(&self, lab: &LabName, node: &NodeName) {
        if let Some(home) = &self.home {
            let _ = fs::create_dir_all(self.in_hierarchy(home, lab, node));
        }
    }

    /// Limits a node.
    ///
    /// Like `mkdir GROUP; echo 50000 100000 > GROUP/cpu.max`.
    pub(super) fn limit(
        &self,
        lab: &LabName,
        node: &NodeName,
        limits: &Limits,
    ) -> Result<(), KernelError> {
        let Limits { cpu_permille, memory_bytes, processes } = limits;
        let quota = cpu_permille.map(|permille| permille * (PERIOD_US / 1000));
        for (controller, is_limited) in [
            (Controller::Cpu, quota.is_some()),
            (Controller::Memory, memory_bytes.is_some()),
            (Controller::Pids, processes.is_some()),
        ] {
            let what = controller.name();
            let asked = || format!("limit `{what}` of node `{node}`");
            let fail = |error: io::Error| KernelError::from_io(asked(), &error);
            let Some(hierarchy) = self.controllers.get(&controller) else {
                if is_limited {
                    return Err(KernelError::new(asked(), Errno::EOPNOTSUPP));
                }
                continue;
            };
            let group = self.in_hierarchy(hierarchy, lab, node);
            if !is_limited && !group.is_dir() {
                continue;
            }
            if let Hierarchy::V2(mount) = hierarchy {
                delegate(mount, &self.base, what).map_err(fail)?;
            }
            if !group.is_dir() {
                fs::create_dir_all(&group).map_err(fail)?;
                self.move_into(&group, lab, node);
            }
            let none = |version2: &str, version1: &str| match hierarchy {
                Hierarchy::V2(_) => version2.to_owned(),
                Hierarchy::V1(_) => version1.to_owned(),
            };
            let (file, value) = match (controller, hierarchy) {
                (Controller::Cpu, Hierarchy::V2(_)) => {
                    let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
                    ("cpu.max", format!("{quota} {PERIOD_US}"))
                }
                (Controller::Cpu, Hierarchy::V1(_)) => {
                    ("cpu.cfs_quota_us", quota.map_or("-1".to_owned(), |quota| quota.to_string()))
                }
                (Controller::Memory, it) => {
                    let file = match it {
                        Hierarchy::V2(_) => "memory.max",
                        Hierarchy::V1(_) => "memory.limit_in_bytes",
                    };
                    (file, memory_bytes.map_or_else(|| none("max", "-1"), |b| b.to_string()))
                }
                (Controller::Pids, _) => {
                    ("pids.max", processes.map_or("max".to_owned(), |most| most.to_string()))
                }
            };
            // A version 2 group without the controller has no such file.
            if is_limited || group.join(file).exists() {
                fs::write(group.join(file), value).map_err(fail)?;
            }
        }
        Ok(())
    }

    /// Moves what is in the node's other groups into a new one.
    fn move_into(&self, group: &Path, lab: &LabName, node: &NodeName) {
        for other in self.of(lab, node).iter().filter(|other| *other != group) {
            for pid in members(other) {
                // One that ended meanwhile need not be moved.
                let _ = fs::write(group.join("cgroup.procs"), pid.to_string());
            }
        }
    }

    /// The limits that a node has.
    pub(super) fn limits(&self, lab: &LabName, node: &NodeName) -> Limits {
        let read = |controller: Controller, version2: &str, version1: &str| {
            let hierarchy = self.controllers.get(&controller)?;
            let file = match hierarchy {
                Hierarchy::V2(_) => version2,
                Hierarchy::V1(_) => version1,
            };
            let text =
                fs::read_to_string(self.in_hierarchy(hierarchy, lab, node).join(file)).ok()?;
            // `max`, and `-1`, are no number.
            text.split_whitespace().next()?.parse::<u64>().ok()
        };
        let quota = read(Controller::Cpu, "cpu.max", "cpu.cfs_quota_us");
        let memory = read(Controller::Memory, "memory.max", "memory.limit_in_bytes");
        let most = read(Controller::Pids, "pids.max", "pids.max");
        Limits {
            cpu_permille: quota.and_then(|us| u32::try_from(us * 1000 / u64::from(PERIOD_US)).ok()),
            // Version 1 says a number of its own for no limit.
            memory_bytes: memory.filter(|bytes| *bytes < 1 << 60),
            processes: most.and_then(|most| u32::try_from(most).ok()),
        }
    }

    /// Puts this process into the node's groups.
    ///
    /// Like `echo $$ > GROUP/cgroup.procs`.
    pub(super) fn join(&self, lab: &LabName, node: &NodeName) -> Result<(), KernelError> {
        for group in self.of(lab, node) {
            fs::write(group.join("cgroup.procs"), "0").map_err(|error| {
                KernelError::from_io(format!("join the control group of node `{node}`"), &error)
            })?;
        }
        Ok(())
    }

    /// Ends all that is in a node's groups, and deletes them.
    pub(super) async fn end(&self, lab: &LabName, node: &NodeName) -> Result<(), KernelError> {
        let asked = || format!("end what is in the control group of node `{node}`");
        let groups = self.of(lab, node);
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let left: Vec<i32> = groups.iter().flat_map(|group| members(group)).collect();
            if left.is_empty() {
                break;
            }
            if groups.iter().any(|group| is_foreign(group)) {
                return Err(KernelError::new(asked(), Errno::EBUSY));
            }
            if EMPTY_WITHIN < start.elapsed() {
                return Err(KernelError::new(asked(), Errno::ETIMEDOUT));
            }
            for group in &groups {
                // All at once where the kernel can (Linux 5.14), so that none
                // is born meanwhile.
                let _ = fs::write(group.join("cgroup.kill"), "1");
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            // Nothing in version 1 tells of the last one's end.
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        for group in groups {
            match fs::remove_dir(&group) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|error| KernelError::from_io(asked(), &error))?,
            }
        }
        for hierarchy in self.hierarchies() {
            // The last one takes the directory along.
            for base in self.base.ancestors().filter(|base| !base.as_os_str().is_empty()) {
                let _ = fs::remove_dir(hierarchy.mount().join(base));
            }
        }
        Ok(())
    }
}

/// The processes in a group, by their numbers; 0 for one of another world.
fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether a group holds processes that cannot be seen from here: those of
/// somebody who has the same hierarchies and other processes.
fn is_foreign(group: &Path) -> bool {
    members(group).contains(&0)
}

/// Has a controller of version 2 work in the groups below `base`.
fn delegate(mount: &Path, base: &Path, controller: &str) -> io::Result<()> {
    let mut group = mount.to_owned();
    let mut parts = base.components();
    loop {
        fs::create_dir_all(&group)?;
        let file = group.join("cgroup.subtree_control");
        if !fs::read_to_string(&file)?.split_whitespace().any(|has| has == controller) {
            fs::write(&file, format!("+{controller}"))?;
        }
        match parts.next() {
            Some(part) => group.push(part),
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_where_they_are_mounted() {
        let v1 = "31 24 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let groups = Groups::read(v1, "ovsns", |_| String::new());
        assert_eq!(groups.controllers(), BTreeSet::from([Controller::Cpu, Controller::Memory]));
        assert_eq!(groups.home, Some(Hierarchy::V2("/sys/fs/cgroup/unified".into())));
        let v2 = "33 24 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        let groups = Groups::read(v2, "ovsns", |_| "cpuset cpu io memory pids\n".to_owned());
        assert_eq!(groups.controllers().len(), 3);
        assert_eq!(groups.hierarchies().len(), 1);
        let none = Groups::read("1 1 0:1 / / rw - ext4 /dev/vda rw", "ovsns", |_| String::new());
        assert_eq!((none.controllers().len(), none.home), (0, None));
    }
}
