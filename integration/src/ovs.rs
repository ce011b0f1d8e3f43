//! The machine's own Open vSwitch, as a distribution would run it: in the
//! private world, at the usual place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::witness::finish;
use crate::{Skip, World, until};

/// Where a distribution has its sockets.
const RUNDIR: &str = "/run/openvswitch";

/// `ovsdb-server` and `ovs-vswitchd`; they end with the value, or the world.
pub struct OpenVswitch {
    server: Option<Child>,
    vswitchd: Option<Child>,
}

impl World {
    /// Starts the machine's own Open vSwitch. `config` is what is set in its
    /// table `Open_vSwitch` before the switch starts, as `ovs-vsctl set` takes
    /// it.
    pub fn open_vswitch(&self, config: &[&str]) -> Result<OpenVswitch, Skip> {
        self.needs("ovs-vswitchd")?;
        self.needs("ovsdb-tool")?;
        fs::create_dir_all(RUNDIR).expect("a private /run");
        let database = Path::new(RUNDIR).join("conf.db");
        if !database.exists() {
            let schema = "/usr/share/openvswitch/vswitch.ovsschema";
            self.run(&format!("ovsdb-tool create {} {schema}", database.display()));
        }
        let mut ovs = OpenVswitch { server: None, vswitchd: None };
        ovs.start_server();
        self.run("ovs-vsctl --no-wait init");
        for setting in config {
            self.run(&format!("ovs-vsctl --no-wait set Open_vSwitch . {setting}"));
        }
        ovs.start_switch(self);
        Ok(ovs)
    }
}

// ---- what Open vSwitch says ----
impl World {
    /// What `ovs-vsctl` prints, less the space around it.
    #[track_caller]
    pub fn vsctl(&self, words: &str) -> String {
        self.run(&format!("ovs-vsctl --timeout=20 {words}")).stdout.trim().to_owned()
    }

    /// What a command of `ovs-vswitchd` prints.
    #[track_caller]
    pub fn appctl(&self, words: &str) -> String {
        self.run(&format!("ovs-appctl --timeout=20 {words}")).stdout
    }

    /// The port of a lab that is called `port` in its mark, such as `n1:eth0`
    /// or `s1~s2#0`.
    #[track_caller]
    pub fn ovs_port(&self, lab: &str, port: &str) -> String {
        let mut command = Command::new("ovs-vsctl");
        command.args(["--bare", "--columns=name", "find", "Port"]);
        command.arg(format!("external_ids:ovsns=\"ovsns lab={lab} port={port}\""));
        let found = finish(&mut command).ok().stdout.trim().to_owned();
        assert!(!found.is_empty(), "Open vSwitch has no port `{port}` of lab `{lab}`");
        found
    }

    /// One column of a row, as `ovs-vsctl get` prints it.
    #[track_caller]
    pub fn column(&self, table: &str, record: &str, column: &str) -> String {
        self.vsctl(&format!("get {table} {record} {column}"))
    }

    /// How many rows a table has.
    #[track_caller]
    pub fn row_count(&self, table: &str) -> usize {
        self.vsctl(&format!("--bare --columns=_uuid list {table}")).split_whitespace().count()
    }

    /// How often the switch was told that something changed: the same number
    /// later means that nobody wrote anything that it has to carry out.
    #[track_caller]
    pub fn next_cfg(&self) -> String {
        self.column("Open_vSwitch", ".", "next_cfg")
    }
}

impl World {
    /// The machine's own Open vSwitch with a bridge of somebody else's, on the
    /// datapath that labs get as well: its devices are there before them, and
    /// stay.
    pub fn somebodys_open_vswitch(&self) -> Result<OpenVswitch, Skip> {
        let ovs = self.open_vswitch(&[])?;
        let kernels = self.attempt("ovs-dpctl add-dp probe").status.success();
        let datapath = if kernels { "system" } else { "netdev" };
        if kernels {
            self.run("ovs-dpctl del-dp probe");
        }
        self.run(&format!("ovs-vsctl add-br theirs -- set bridge theirs datapath_type={datapath}"));
        self.settled();
        Ok(ovs)
    }
}

fn server() -> Child {
    let database = format!("{RUNDIR}/conf.db");
    let socket = format!("--remote=punix:{RUNDIR}/db.sock");
    daemon("ovsdb-server", &[&database, &socket])
}

/// Starts a daemon as a child, with its pid file and log at the usual place.
fn daemon(program: &str, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(args).arg(format!("--pidfile={RUNDIR}/{program}.pid"));
    command.arg(format!("--log-file={RUNDIR}/{program}.log"));
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, RUNDIR);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("it is installed")
}

impl OpenVswitch {
    /// Kills `ovs-vswitchd` with SIGKILL.
    pub fn kill_switch(&mut self) {
        let mut vswitchd = self.vswitchd.take().expect("it runs");
        vswitchd.kill().expect("a child of ours");
        vswitchd.wait().expect("a child of ours");
    }

    /// Starts `ovs-vswitchd` again, and waits until it has caught up.
    pub fn start_switch(&mut self, world: &World) {
        let remote = format!("unix:{RUNDIR}/db.sock");
        self.vswitchd = Some(daemon("ovs-vswitchd", &[&remote]));
        self.caught_up(world);
    }

    /// Waits until all that is in the database is carried out.
    pub fn caught_up(&self, world: &World) {
        // A change is waited for, and only a change.
        let change = "external_ids test=caught-up";
        world.run(&format!("ovs-vsctl --timeout=30 add Open_vSwitch . {change}"));
        world.run(&format!("ovs-vsctl --timeout=30 remove Open_vSwitch . {change}"));
    }

    /// Kills `ovsdb-server` with SIGKILL.
    pub fn kill_server(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.kill().expect("a child of ours");
        server.wait().expect("a child of ours");
    }

    /// Starts `ovsdb-server` again, and waits until it answers.
    pub fn start_server(&mut self) {
        self.server = Some(server());
        let socket = self.rundir().join("db.sock");
        until("the database answers", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    }

    /// Where its sockets and logs are.
    pub fn rundir(&self) -> PathBuf {
        PathBuf::from(RUNDIR)
    }

    /// What `ovs-vswitchd` wrote into its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.rundir().join("ovs-vswitchd.log")).unwrap_or_default()
    }

    /// Sends `ovs-vswitchd` a signal.
    pub fn signal_switch(&self, signal: nix::sys::signal::Signal) {
        let id = i32::try_from(self.switch_id()).expect("a pid");
        let id = nix::unistd::Pid::from_raw(id);
        nix::sys::signal::kill(id, signal).expect("a child of ours");
    }

    /// Whether `ovs-vswitchd` has not ended by itself.
    pub fn switch_runs(&mut self) -> bool {
        matches!(self.vswitchd.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// The process id of `ovs-vswitchd`.
    pub fn switch_id(&self) -> u32 {
        self.vswitchd.as_ref().expect("it runs").id()
    }
}

impl Drop for OpenVswitch {
    fn drop(&mut self) {
        for child in self.vswitchd.iter_mut().chain(&mut self.server) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(RUNDIR);
    }
}
