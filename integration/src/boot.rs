//! A machine that boots: systemd is PID 1 of it, as on anybody's computer.
//!
//! Own file because it is a world in a world: it has the network of the test's world,
//! where the test sees what it leaves, and else its own of everything. Its root is a
//! directory of the test with this machine's `/usr` in it, so nothing is written but
//! there. It has journald and targets, and no other units but those that it is given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::groups::{self, ControlGroups};
use crate::private::SCRATCH;
use crate::runner::patience;
use crate::witness::finish;
use crate::{Finished, Running, Skip, World, until_within};

const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// How long it may take to come up.
const UP_WITHIN: u64 = 30;

/// Makes `$root` what a disk has on it.
const INSTALL: &str = r#"
    mkdir -p $root && cd $root
    mkdir dev etc proc root run sys tmp usr var var/lib var/log var/tmp
    for one in bin sbin lib lib32 lib64 libx32; do
        if [ -L /$one ]; then cp -P /$one .; fi
    done
    mount --bind $root $root
    mount --make-private $root
    cd $root
    mount --rbind /usr usr
    mount --make-rprivate usr
    # The product is where its units look for it.
    mount -t tmpfs none usr/local/bin
    touch usr/local/bin/ovsns
    mount --bind $product usr/local/bin/ovsns
    # No units of the distribution but these, and nothing that makes units.
    from=/usr/lib/systemd/system
    mount -t tmpfs none usr/lib/systemd/system-generators
    mount -t tmpfs none usr/lib/systemd/system
    cd usr/lib/systemd/system
    cp -a $from/*.target .
    for one in systemd-journald.service systemd-journald.socket \
        systemd-journald-dev-log.socket systemd-poweroff.service; do
        cp -a $from/$one .
    done
    mkdir sysinit.target.wants sockets.target.wants
    ln -s ../systemd-journald.service sysinit.target.wants/
    ln -s ../systemd-journald.socket ../systemd-journald-dev-log.socket sockets.target.wants/
    cd $root
    cp -a /etc/. etc
    rm -rf etc/systemd etc/fstab etc/machine-id
    mkdir -p etc/systemd/system
    ln -s /usr/lib/systemd/system/multi-user.target etc/systemd/system/default.target
    echo 0123456789abcdef0123456789abcdef >etc/machine-id
    cat >etc/systemd/system.conf <<END
[Manager]
DefaultLimitCORE=0
# A test starts and ends things more often than anybody else.
DefaultStartLimitBurst=100
StatusUnitFormat=combined
END
    cat >etc/systemd/journald.conf <<END
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
RateLimitBurst=0
END
"#;

/// Makes what a machine has only while it runs, and becomes its PID 1.
/// `/proc/sys` is everybody's, but for what a network namespace has of it.
const BOOT: &str = r#"
    cd $root
    rm -rf run/* run/.[!.]* dev/*
    mount --bind run run
    mount -t tmpfs -o mode=755 none dev
    for one in null zero full random urandom tty net/tun; do
        mkdir -p dev/net && touch dev/$one && mount --bind /dev/$one dev/$one
    done
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=666,mode=620 none dev/pts
    mount -t tmpfs none dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    ln -s fd/0 dev/stdin
    ln -s fd/1 dev/stdout
    ln -s fd/2 dev/stderr
    mount -t proc none proc
    mount --bind proc/sys proc/sys
    mount --bind proc/sys/net proc/sys/net
    mount -o remount,bind,ro proc/sys
    mount -t sysfs none sys
    echo $$ >$group/cgroup.procs
    exec unshare --cgroup sh -euc '
        mount -t cgroup2 none sys/fs/cgroup
        mkdir -p old
        pivot_root . old
        umount -l old
        mount --make-rshared /
        hostname machine
        exec env -i container=ovsns PATH=$PATH \
            '$systemd' --log-target=journal --show-status=no </dev/null >/dev/null 2>&1
    '
"#;

/// A machine that is off.
pub struct Machine {
    root: PathBuf,
    _groups: ControlGroups,
}

/// A machine that is up. Its power goes with the value.
pub struct Booted {
    first: Running,
    /// Its PID 1, as this world counts.
    id: u32,
    off: Machine,
}

impl World {
    /// A machine with systemd, on which ovsns is installed and nothing is enabled.
    pub fn machine(&self) -> Result<Machine, Skip> {
        self.needs(SYSTEMD)?;
        self.needs("systemctl")?;
        self.needs("pgrep")?;
        let groups = self.control_groups()?;
        let root = Path::new(SCRATCH).join("machine");
        let mut command = Command::new("sh");
        command.args(["-euc", INSTALL]).env("root", &root).env("product", self.binary());
        finish(&mut command).ok();
        Ok(Machine { root, _groups: groups })
    }
}

impl Machine {
    /// Writes a file onto its disk.
    pub fn file(&self, place: &str, text: &str) {
        let path = self.path(place);
        fs::create_dir_all(path.parent().expect("an absolute path")).expect("a directory");
        fs::write(path, text).expect("a file of its disk");
    }

    /// Where this world has a file of its disk.
    pub fn path(&self, place: &str) -> PathBuf {
        self.root.join(place.trim_start_matches('/'))
    }

    /// Has systemd start a unit from the next boot on.
    #[track_caller]
    pub fn enable(&self, unit: &str) {
        let mut command = Command::new("systemctl");
        command.arg("--root").arg(&self.root).args(["enable", unit]);
        finish(&mut command).ok();
    }

    /// Turns it on, and awaits that all is started that is to be.
    #[track_caller]
    pub fn boot(self, world: &World) -> Booted {
        let base = std::env::var(groups::BASE).expect("every world has a name for its groups");
        let group = format!("/sys/fs/cgroup/unified/{base}/machine");
        fs::create_dir_all(&group).expect("a control group");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc"]);
        command.args(["sh", "-euc", BOOT]).env("root", &self.root);
        command.env("group", group).env("systemd", SYSTEMD);
        let mut first = world.start_command(&mut command);
        let here = self.path("run/systemd/private");
        until_within(UP_WITHIN, "systemd can be asked", || {
            assert!(first.runs(), "its PID 1 ended");
            std::os::unix::net::UnixStream::connect(&here).is_ok()
        });
        let id = world.run(&format!("pgrep -P {}", first.id())).stdout;
        let id = id.trim().parse().expect("one child");
        let booted = Booted { first, id, off: self };
        let within = UP_WITHIN * u64::from(patience());
        let words = format!("timeout {within} systemctl is-system-running --wait");
        let state = booted.attempt(&words).stdout;
        let is_up = matches!(state.trim(), "running" | "degraded");
        assert!(is_up, "not up after {within} s: {state}\n{}", booted.off.journal());
        booted
    }

    /// What it has written down since it was last turned on, a line an entry.
    pub fn journal(&self) -> String {
        let mut command = Command::new("journalctl");
        command.args(["--quiet", "--no-pager", "--output=cat", "--directory"]);
        finish(command.arg(self.path("run/log/journal"))).ok().stdout
    }
}

impl Booted {
    /// Runs a command there that spaces separate, and fails the test if it fails.
    #[track_caller]
    pub fn run(&self, words: &str) -> Finished {
        self.attempt(words).ok()
    }

    /// Runs a command there that spaces separate, however it ends.
    pub fn attempt(&self, words: &str) -> Finished {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.id.to_string(), "--all", "--root", "--wd"]);
        // Whoever types there has nothing of the test's surroundings.
        command.args(["env", "-i", "HOME=/root", "LC_ALL=C.UTF-8"]);
        command.arg(format!("PATH={}", std::env::var("PATH").unwrap_or_default()));
        finish(command.args(words.split_whitespace()))
    }

    /// What systemd knows of a unit by the name of `property`.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        let words = format!("systemctl show --property={property} --value {unit}");
        self.run(&words).stdout.trim().to_owned()
    }

    /// The names below its `/run/netns`, sorted.
    pub fn namespaces(&self) -> Vec<String> {
        let list = self.run("ip netns list").stdout;
        let name = |line: &str| line.split_whitespace().next().map(str::to_owned);
        let mut names: Vec<String> = list.lines().filter_map(name).collect();
        names.sort();
        names
    }

    /// Fails the test unless a ping from a namespace there is answered, tried
    /// three times as by [`World::pings`].
    #[track_caller]
    pub fn pings(&self, namespace: &str, to: &str) {
        let line = format!("ip netns exec {namespace} ping -n -c 1 -W 2 {to}");
        let mut answers = (0..3).map(|_| self.attempt(&line));
        assert!(answers.any(|it| it.status.success()), "no answer to {namespace} by {to}");
    }

    /// Its disk and its journal.
    pub fn disk(&self) -> &Machine {
        &self.off
    }

    /// Turns it off in good order; returns when it is.
    #[track_caller]
    pub fn power_off(self) -> Machine {
        // It is told that there is no logind that could be asked instead.
        self.attempt("systemctl poweroff");
        self.first.finish();
        self.off
    }
}
