//! Control groups, which are no namespace's: a world has a part of the machine's
//! hierarchies to itself, named after it.
//!
//! Own file because they are the one thing of a test that does not end with its
//! world: whoever mounts them here takes away what is left in the end.

use std::path::Path;
use std::process::Command;

use crate::witness::finish;
use crate::{Skip, World};

/// What names it to the product (`OVSNS_CGROUP`), and so to every command here.
pub(crate) const BASE: &str = "OVSNS_CGROUP";

/// The base of a new world's groups: no other that runs has the same.
pub(crate) fn base_for_new() -> String {
    format!("ovsns-test-{}", std::process::id())
}

/// The hierarchies of the machine are mounted in the world; what is left in the part
/// that is the world's own goes with this.
#[must_use = "what is left in control groups goes with this"]
pub struct ControlGroups {
    base: String,
}

impl World {
    /// Mounts control groups of whatever version there is.
    pub fn control_groups(&self) -> Result<ControlGroups, Skip> {
        let base = std::env::var(BASE).expect("every world has a name for its groups");
        let found = self.sh("
            at=/sys/fs/cgroup
            mount -t tmpfs none $at
            mkdir $at/unified && mount -t cgroup2 none $at/unified
            for one in cpu memory pids; do
                grep -qw $one $at/unified/cgroup.controllers && continue
                mkdir $at/$one && mount -t cgroup -o $one none $at/$one || echo missing $one
            done
        ");
        if found.stdout.contains("missing") {
            return Err(Skip(format!("control groups: {}", found.stdout.trim())));
        }
        Ok(ControlGroups { base })
    }
}

impl Drop for ControlGroups {
    fn drop(&mut self) {
        let line = format!(
            "for d in $(find /sys/fs/cgroup -depth -type d -path '*/{}*'); do
                for p in $(cat $d/cgroup.procs); do kill -KILL $p; done
                for i in 1 2 3 4 5 6 7 8 9 10; do rmdir $d 2>/dev/null && break; sleep 0.05; done
            done",
            self.base
        );
        let _ = finish(Command::new("sh").args(["-c", &line]));
    }
}

/// A line for each of the world's groups, with how many processes it has.
pub(crate) fn list(lines: &mut Vec<String>) {
    let Ok(base) = std::env::var(BASE) else { return };
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let base = hierarchy.path().join(&base);
        let below = std::fs::read_dir(&base).into_iter().flatten().flatten();
        for group in below.map(|it| it.path()).chain([base.clone()]) {
            lines.extend(line(&group));
        }
    }
}

fn line(group: &Path) -> Option<String> {
    let ids = std::fs::read_to_string(group.join("cgroup.procs")).ok()?;
    Some(format!("control group {} of {}", group.display(), ids.lines().count()))
}
