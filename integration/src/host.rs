//! More hosts than one: a test of what goes on between hosts has each of
//! them with a network and a `/run` of its own, joined by cables.

use std::path::PathBuf;
use std::process::Command;

use crate::witness::finish;
use crate::{Finished, Running, Skip, Tool, World};

/// A machine beside the world's own. Its processes are the world's, and end
/// with it; everything else ends with the value.
pub struct Host {
    /// In whose namespaces it is.
    holder: Running,
    binary: PathBuf,
}

/// Leaves the world's network and mounts, and stays there.
const HOLD: &str = "
    mount -t sysfs sysfs /sys
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir /run/host && cd /run/host
    ip link set lo up
    echo ready
    exec sleep infinity
";

/// The Open vSwitch of a distribution: [`World::open_vswitch`] for a host.
const OPEN_VSWITCH: &str = "
    run=/run/openvswitch
    mkdir $run
    export OVS_RUNDIR=$run OVS_LOGDIR=$run OVS_DBDIR=$run OVS_SYSCONFDIR=$run
    ovsdb-tool create $run/conf.db /usr/share/openvswitch/vswitch.ovsschema
    exec >$run/said 2>&1
    ovsdb-server $run/conf.db --remote=punix:$run/db.sock --detach --no-chdir --pidfile --log-file
    ovs-vsctl --no-wait init
    ovs-vswitchd unix:$run/db.sock --detach --no-chdir --pidfile --log-file
    ovs-vsctl --timeout=30 set Open_vSwitch . external_ids:test=caught-up
";

impl World {
    /// A new host, with nothing but a loopback.
    pub fn host(&self) -> Host {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-euc", HOLD]);
        let mut holder = self.start_command(&mut command);
        holder.line_with("ready");
        Host { holder, binary: self.binary().to_owned() }
    }

    /// Lays a cable between two hosts; at either end it is called `name`.
    pub fn cable(&self, name: &str, [a, b]: [&Host; 2]) {
        let (a, b) = (a.holder.id(), b.holder.id());
        self.run(&format!("ip link add {name} netns {a} type veth peer name {name} netns {b}"));
    }
}

impl Host {
    /// Runs `ovsns` there with `words`, which spaces separate.
    pub fn ovsns(&self, words: &str) -> Finished {
        let mut command = self.command(&Command::new(&self.binary));
        finish(command.args(words.split_whitespace()))
    }

    /// Runs a command there that spaces separate, and fails the test if it fails.
    #[track_caller]
    pub fn run(&self, words: &str) -> Finished {
        self.attempt(words).ok()
    }

    /// Runs a command there that spaces separate, however it ends.
    pub fn attempt(&self, words: &str) -> Finished {
        finish(&mut self.command(&words_of(words)))
    }

    /// Runs a line of shell there, and fails the test if it fails.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Finished {
        finish(self.command(&Command::new("sh")).args(["-euc", line])).ok()
    }

    /// Starts a line of shell there, to run beside the test.
    pub fn start(&self, world: &World, line: &str) -> Running {
        world.start_command(self.command(&Command::new("sh")).args(["-euc", line]))
    }

    /// Starts one of this package's own small programs in a namespace there.
    pub fn tool(&self, world: &World, namespace: &str, tool: Tool, words: &str) -> Running {
        world.start_command(&mut self.command(&tool.command(Some(namespace), words)))
    }

    /// Writes a file into the directory where commands run there; returns its
    /// name.
    pub fn file<'a>(&self, name: &'a str, text: &str) -> &'a str {
        let place = PathBuf::from(format!("/proc/{}/cwd", self.holder.id()));
        std::fs::write(place.join(name), text).expect("the host's own file");
        name
    }

    /// Starts an Open vSwitch there, as a distribution would run it.
    pub fn open_vswitch(&self, world: &World) -> Result<(), Skip> {
        world.needs("ovs-vswitchd")?;
        world.needs("ovsdb-tool")?;
        self.sh(OPEN_VSWITCH);
        Ok(())
    }

    /// Fails the test unless a ping from a namespace there is answered, tried
    /// three times as by [`World::pings`].
    #[track_caller]
    pub fn pings(&self, namespace: &str, to: &str) {
        let mut answers = (0..3).map(|_| self.ping(namespace, to, 2));
        assert!(answers.any(|answer| answer.status.success()), "no answer to {namespace} by {to}");
    }

    /// Fails the test if a ping from a namespace there is answered.
    #[track_caller]
    pub fn silence(&self, namespace: &str, to: &str) {
        let answer = self.ping(namespace, to, 1);
        assert!(!answer.status.success(), "answered, and should not have been\n{answer}");
    }

    fn ping(&self, namespace: &str, to: &str, seconds: u32) -> Finished {
        self.attempt(&format!("ip netns exec {namespace} ping -n -c 1 -W {seconds} {to}"))
    }

    /// `command`, run there.
    fn command(&self, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there.args(["-t", &self.holder.id().to_string(), "--net", "--mount", "--wd"]);
        there.arg(command.get_program()).args(command.get_args());
        there
    }
}

fn words_of(words: &str) -> Command {
    let mut words = words.split_whitespace();
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words);
    command
}
