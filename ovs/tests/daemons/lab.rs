//! Servers that live no longer than the test that started them.

use std::fs;
use std::future::Future;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ovsdb::{Builder, Client, Remote};
use tempfile::TempDir;

/// No test takes longer than this, unless it hangs or was asked for more runs.
const TEST_WITHIN: Duration = Duration::from_secs(170);
const PROXY_RUNS_DEFAULT: u32 = 400;
/// Programs that start or stop take no longer than this.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) const VSWITCH_SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// Runs a test on a runtime of its own, and panics if it hangs.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let within = TEST_WITHIN * proxy_runs().div_ceil(PROXY_RUNS_DEFAULT).max(1);
    let bounded = async { tokio::time::timeout(within, test).await };
    runtime.expect("a runtime").block_on(bounded).expect("the test hangs");
}

/// How many runs over bad lines are asked for.
pub(crate) fn proxy_runs() -> u32 {
    let runs = std::env::var("OVSDB_PROXY_RUNS").ok();
    runs.map_or(PROXY_RUNS_DEFAULT, |runs| runs.parse().expect("OVSDB_PROXY_RUNS is a number"))
}

/// Whether a program, a file, or a right is to be had here.
pub(crate) fn is_here(need: &str) -> bool {
    match need {
        "namespaces" => succeeds(&["unshare", "--net", "--mount", "--pid", "--fork", "true"]),
        "tun" => Path::new("/dev/net/tun").exists(),
        path if path.starts_with('/') => Path::new(path).exists(),
        program => {
            let path = std::env::var("PATH").unwrap_or_default();
            path.split(':').any(|dir| Path::new(dir).join(program).exists())
        }
    }
}

fn succeeds(command: &[&str]) -> bool {
    let status = Command::new(command[0]).args(&command[1..]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Runs a program to its end and returns what it prints.
pub(crate) fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
}

/// A process that dies with its guard, and with the thread that started it.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(program: &str, args: &[String], dir: &Path) -> Self {
        // If the test itself is killed, no destructor runs: the kernel must do it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(args)
            .env("OVS_RUNDIR", dir)
            .env("OVS_LOGDIR", dir)
            .env("OVS_DBDIR", dir)
            .env("OVS_SYSCONFDIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|e| panic!("{program}: {e}")))
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(succeeds(&["kill", &format!("-{signal}"), &self.0.id().to_string()]), "{signal}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks every few milliseconds whether `state` has come about.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut state: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !state() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port of 127.0.0.1 that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its number").port()
}

/// A standalone `ovsdb-server` with one database.
pub(crate) struct Server {
    process: Option<Process>,
    args: Vec<String>,
    pub(crate) dir: TempDir,
}

impl Server {
    /// With the schema of Open vSwitch, and the one row of its main table.
    pub(crate) fn vswitch() -> Self {
        let server = Self::of(VSWITCH_SCHEMA, &[]);
        server.vsctl(&["init"]);
        server
    }

    /// With the schema in this file, and further options.
    pub(crate) fn of(schema: &str, options: &[String]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        output("ovsdb-tool", &["create", &file(&dir, "conf.db"), schema]);
        let mut args = vec![
            file(&dir, "conf.db"),
            format!("--remote=punix:{}", file(&dir, "db.sock")),
            format!("--unixctl={}", file(&dir, "server.ctl")),
            format!("--log-file={}", file(&dir, "server.log")),
        ];
        args.extend_from_slice(options);
        let mut server = Self { process: None, args, dir };
        server.start();
        server
    }

    pub(crate) fn start(&mut self) {
        let _ = fs::remove_file(self.path("db.sock"));
        self.process = Some(Process::start("ovsdb-server", &self.args, self.dir.path()));
        let socket = self.path("db.sock");
        wait_until("the server listens", || UnixStream::connect(&socket).is_ok());
    }

    /// Starts the server on another socket only.
    pub(crate) fn start_aside(&mut self, name: &str) {
        let socket = self.path(name);
        let mut args = self.args.clone();
        args[1] = format!("--remote=punix:{}", socket.display());
        self.process = Some(Process::start("ovsdb-server", &args, self.dir.path()));
        wait_until("the server listens", || UnixStream::connect(&socket).is_ok());
    }

    /// Kills the server with SIGKILL; what it has committed stays.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Stops the server in its tracks, or lets it go on.
    pub(crate) fn signal(&self, signal: &str) {
        self.process.as_ref().expect("a server").signal(signal);
    }

    #[allow(dead_code)] // the bench asks for it
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("a server").0.id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::unix(self.path("db.sock"))
    }

    pub(crate) fn vsctl(&self, args: &[&str]) -> String {
        let db = format!("--db={}", self.remote());
        output("ovs-vsctl", &[&[db.as_str(), "--no-wait", "--timeout=20"], args].concat())
    }

    /// A client that comes back quickly.
    pub(crate) fn client(&self) -> Builder {
        quick("Open_vSwitch").remote(self.remote())
    }
}

pub(crate) fn quick(database: &str) -> Builder {
    Client::builder(database).backoff(Duration::from_millis(10), Duration::from_millis(100))
}

fn file(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

/// An `ovs-vswitchd` in namespaces of its own, on a server's database.
pub(crate) struct Switch {
    _process: Process,
    control: PathBuf,
}

impl Switch {
    pub(crate) fn start(server: &Server) -> Self {
        Self::start_after("true", server)
    }

    /// With a device `veth0` that can be deleted.
    pub(crate) fn start_with_veth(server: &Server) -> Self {
        let fifo = server.path("delete-veth").display().to_string();
        output("mkfifo", &[&fifo]);
        let script = format!(
            "ip link add veth0 type veth peer name veth1 && \
             {{ (read word < {fifo} && ip link del veth0) & }}"
        );
        Self::start_after(&script, server)
    }

    /// Deletes `veth0`, which only those in the switch's namespaces can.
    pub(crate) fn delete_veth(&self) {
        fs::write(self.control.with_file_name("delete-veth"), "now\n").expect("somebody reads");
    }

    fn start_after(first: &str, server: &Server) -> Self {
        let dir = server.dir.path();
        let control = dir.join("switch.ctl");
        let _ = fs::remove_file(&control);
        // Its devices and its /run are nobody else's, and go with it.
        let script = format!(
            "mount -t tmpfs none /run && mount -t proc none /proc && ip link set lo up && \
             {first} && exec ovs-vswitchd {} --unixctl={} --log-file={} --pidfile={}",
            server.remote(),
            control.display(),
            dir.join("switch.log").display(),
            dir.join("switch.pid").display(),
        );
        let args = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation"];
        let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
        args.extend(["private".to_owned(), "sh".to_owned(), "-c".to_owned(), script]);
        let process = Process::start("unshare", &args, dir);
        wait_until("the switch listens", || UnixStream::connect(&control).is_ok());
        Self { _process: process, control }
    }

    /// Its control socket.
    pub(crate) fn control(&self) -> Remote {
        Remote::unix(&self.control)
    }
}
