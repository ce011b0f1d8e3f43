//! What a test does in its world: run things, ask the kernel, await a state.
//!
//! Witnesses are other people's programs (`ip`, `bridge`, `ping`): the product
//! is never believed on its own word.

use std::fmt;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::private::{self, SCRATCH};
use crate::runner::{BACKEND, VM, patience};
use crate::{Inventory, Skip, Terminal, Tool};

/// The machine of one test.
pub struct World {
    /// Looked for when it is first used: the harness's own tests need none.
    binary: LazyLock<PathBuf>,
}

/// A command that has ended, with all it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was run, as a person would type it.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Things of other people, as they were when [`World::foreign`] made them.
#[must_use = "foreign things are there to be compared at the end"]
pub struct Foreign {
    before: Inventory,
}

/// A command that runs beside the test, and is ended when it goes out of scope.
pub struct Running {
    child: Child,
    command: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { binary: LazyLock::new(product) }
    }

    // ---- the product ----

    /// Runs `ovsns` with `words`, which spaces separate.
    pub fn ovsns(&self, words: &str) -> Finished {
        finish(self.command().args(words.split_whitespace()))
    }

    /// `ovsns` as a command, for what [`World::ovsns`] cannot say.
    pub fn command(&self) -> Command {
        Command::new(self.binary())
    }

    /// Where the product's program is.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A copy of the product that users other than root can reach.
    pub fn binary_for_all(&self) -> PathBuf {
        let copy = Path::new(SCRATCH).join("ovsns");
        if !copy.exists() {
            std::fs::copy(self.binary(), &copy).expect("a copy of the product");
        }
        copy
    }

    /// Writes a file into the test's directory; returns its name there.
    pub fn file<'a>(&self, name: &'a str, text: &str) -> &'a str {
        std::fs::write(Path::new(SCRATCH).join(name), text).expect("the test's own file");
        name
    }

    /// Copies `examples/NAME` into the test's directory; returns its text.
    pub fn example(&self, name: &str) -> String {
        let source = workspace().join("examples").join(name);
        let text = std::fs::read_to_string(&source)
            .unwrap_or_else(|cause| panic!("{}: {cause}", source.display()));
        self.file(name, &text);
        text
    }

    /// What switches are made of whose file does not say so.
    pub fn backend(&self) -> String {
        std::env::var(BACKEND).expect("set for every test")
    }

    // ---- other programs ----

    /// Runs a command that spaces separate, and fails the test if it fails.
    #[track_caller]
    pub fn run(&self, words: &str) -> Finished {
        self.attempt(words).ok()
    }

    /// Runs a command that spaces separate, however it ends.
    pub fn attempt(&self, words: &str) -> Finished {
        let mut words = words.split_whitespace();
        finish(Command::new(words.next().expect("a command")).args(words))
    }

    /// Runs a line of shell, and fails the test if it fails.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Finished {
        finish(Command::new("sh").args(["-euc", line])).ok()
    }

    /// Runs a line of shell, which may fail.
    pub fn shell(&self, line: &str) -> Finished {
        finish(Command::new("sh").args(["-euc", line]))
    }

    /// Runs a command of the `ip -j` kind and reads what it prints.
    #[track_caller]
    pub fn json(&self, words: &str) -> Value {
        self.run(words).json()
    }

    /// Starts a command that spaces separate, to run beside the test.
    pub fn start(&self, words: &str) -> Running {
        let mut words = words.split_whitespace();
        self.start_command(Command::new(words.next().expect("a command")).args(words))
    }

    /// Starts a command to run beside the test, its input and output piped.
    pub fn start_command(&self, command: &mut Command) -> Running {
        let text = as_typed(command);
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|cause| panic!("{text}: {cause}"));
        Running { child, command: text }
    }

    /// Starts a command on a terminal.
    pub fn terminal(&self, command: &Command) -> Terminal {
        Terminal::start(command)
    }

    /// Starts one of this package's own small programs in a namespace.
    pub fn tool(&self, namespace: &str, tool: Tool, words: &str) -> Running {
        self.start_command(&mut tool.command(Some(namespace), words))
    }

    /// Says that the test needs a program, or cannot run here.
    pub fn needs(&self, program: &str) -> Result<(), Skip> {
        let found = finish(Command::new("sh").args(["-c", &format!("command -v {program}")]));
        if found.status.success() {
            return Ok(());
        }
        Err(Skip(format!("there is no `{program}`; integration/run installs it")))
    }

    /// Says that the test is about the kernel of the virtual machine, and which
    /// one that is, or cannot run here.
    pub fn virtual_machine(&self) -> Result<String, Skip> {
        std::env::var(VM).map_err(|_| Skip("only in the virtual machine: integration/vm".into()))
    }

    // ---- what the kernel says ----

    /// Fails the test unless a ping from a namespace is answered. It tries
    /// three times: on a machine with much else to do a frame may be dropped
    /// before any lab sees it. Whether the first is answered has its own test.
    #[track_caller]
    pub fn pings(&self, namespace: &str, to: &str) {
        let mut answers = String::new();
        for _ in 0..3 {
            let answer = self.ping_once(namespace, to);
            if answer.status.success() {
                return;
            }
            answers += &answer.to_string();
        }
        let mut seen = self.attempt("bridge -d link show").stdout;
        for what in ["addr", "route", "neigh"] {
            seen += &self.attempt(&format!("ip -n {namespace} {what} show")).stdout;
        }
        panic!("no answer\n{answers}{seen}");
    }

    /// Fails the test if a ping from a namespace is answered.
    #[track_caller]
    pub fn silence(&self, namespace: &str, to: &str) {
        let answer = self.ping_within(1, namespace, to);
        assert!(!answer.status.success(), "answered, and should not have been\n{answer}");
    }

    /// One ping by the distribution's program, which waits two seconds: a
    /// neighbour may have to be asked for twice.
    pub fn ping_once(&self, namespace: &str, to: &str) -> Finished {
        self.ping_within(2, namespace, to)
    }

    /// One ping that waits so many seconds. A neighbour that does not answer
    /// at once is asked for again after one.
    pub fn ping_within(&self, seconds: u32, namespace: &str, to: &str) -> Finished {
        self.attempt(&format!("ip netns exec {namespace} ping -n -c 1 -W {seconds} {to}"))
    }

    /// The names below `/run/netns`, as `ip netns` lists them, sorted.
    pub fn namespaces(&self) -> Vec<String> {
        let list = self.run("ip netns list").stdout;
        let mut names: Vec<String> = list
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect();
        names.sort();
        names
    }

    /// What `ip -d -j link` and `ip -j addr` know of one link; `namespace` is
    /// empty for the world's own.
    pub fn link(&self, namespace: &str, name: &str) -> Option<Value> {
        let place = if namespace.is_empty() { String::new() } else { format!("-n {namespace} ") };
        let answer = self.attempt(&format!("ip {place}-d -j addr show dev {name}"));
        if !answer.status.success() {
            return None;
        }
        answer.json().as_array()?.first().cloned()
    }

    /// One setting of a link as `ip -d -j link` has it: keys joined by dots,
    /// such as `linkinfo.info_data.stp_state`.
    #[track_caller]
    pub fn setting(&self, namespace: &str, name: &str, keys: &str) -> Value {
        let link = self.link(namespace, name);
        let link = link.unwrap_or_else(|| panic!("no link `{name}` in `{namespace}`"));
        keys.split('.').fold(link, |value, key| value[key].clone())
    }

    /// The addresses of a link, as `10.0.0.1/24`, without link-local ones.
    pub fn addresses(&self, namespace: &str, name: &str) -> Vec<String> {
        let link = self.link(namespace, name).unwrap_or_else(|| panic!("no {namespace} {name}"));
        let mut addresses: Vec<String> = link["addr_info"]
            .as_array()
            .expect("a list of addresses")
            .iter()
            .map(|address| {
                let local = address["local"].as_str().expect("an address");
                format!("{local}/{}", address["prefixlen"])
            })
            .filter(|address| !address.starts_with("fe80:"))
            .collect();
        addresses.sort();
        addresses
    }

    /// Everything there is in this world, to be compared.
    pub fn inventory(&self) -> Inventory {
        Inventory::take()
    }

    /// The same, in which what was made again is as it was, whatever numbers it has.
    pub fn likeness(&self) -> Inventory {
        Inventory::take_likeness()
    }

    /// The ids and command lines of all processes of this world but this one
    /// and the dead.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let entries = std::fs::read_dir("/proc").expect("/proc");
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id| *id != std::process::id())
            .filter_map(|id: u32| {
                let line = std::fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
                (!line.is_empty()).then(|| (id, line.replace('\0', " ").trim_end().to_owned()))
            })
            .collect()
    }

    // ---- the test's surroundings ----

    /// Lays a copy over `/etc`, so that the test may write there.
    pub fn own_etc(&self) {
        private::own_etc();
    }

    /// Puts things of other people into the world: a bridge with a port, an
    /// address and a route, namespaces and links whose names look like ours,
    /// an alias that is nearly a mark.
    pub fn foreign(&self) -> Foreign {
        self.sh("
            ip netns add others
            ip netns add two-nodes
            ip netns add two-nodes.n3
            ip link add br0 type bridge stp_state 0 forward_delay 1500
            ip link add v0 type veth peer name eth0 netns others
            ip link set v0 master br0 alias 'ovsns lab=two-nodes is what I test'
            ip link property add dev br0 altname two-nodes:br0
            ip link add b.1.1.looksours type veth peer name eth1 netns two-nodes.n3
            ip link set br0 up
            ip link set v0 up
            ip -n others link set lo up
            ip -n others link set eth0 up
            ip addr add 192.0.2.1/24 dev br0
            ip -n others addr add 192.0.2.2/24 dev eth0
            ip -n others addr add 2001:db8::2/64 dev eth0 nodad
            ip route add 198.51.100.0/24 via 192.0.2.2 proto 111
            ip rule add pref 1000 to 203.0.113.0/24 lookup 77
            mkdir -p /run/others && echo keep >/run/others/file
        ");
        self.settled();
        self.foreign_now()
    }

    /// Takes all that there is now for other people's.
    pub(crate) fn foreign_now(&self) -> Foreign {
        Foreign { before: self.inventory() }
    }

    /// Awaits the end of duplicate address detection everywhere, after which
    /// nothing changes by itself any more.
    pub fn settled(&self) {
        until("no address is tentative and every raised link has its carrier", || {
            let mut places = vec![String::new()];
            places.extend(self.namespaces().into_iter().map(|name| format!("-n {name} ")));
            places.iter().all(|place| {
                let tentative = self.attempt(&format!("ip {place}-6 -o addr show tentative"));
                let links = self.attempt(&format!("ip {place}-o link show up"));
                // An entry that is no namespace has nothing in it.
                let is_none = !place.is_empty() && !links.status.success();
                let is_quiet = tentative.stdout.trim().is_empty();
                is_none || (is_quiet && !links.ok().stdout.contains("state DOWN"))
            })
        });
    }
}

impl Foreign {
    /// Fails the test if anything in the world is not as it was when the
    /// foreign things were made: changed, gone, or added.
    #[track_caller]
    pub fn is_untouched(&self, world: &World) {
        world.inventory().must_equal(&self.before);
    }

    /// The inventory as it was when the foreign things were made.
    pub fn before(&self) -> &Inventory {
        &self.before
    }
}

impl Finished {
    /// Fails the test unless the exit status is 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Fails the test unless this is the exit status.
    #[track_caller]
    pub fn code(self, wanted: i32) -> Self {
        assert_eq!(self.status.code(), Some(wanted), "exit status (left: seen)\n{self}");
        self
    }

    /// Fails the test unless `text` is in what was printed, on either stream.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "it does not say {text:?}\n{self}"
        );
        self
    }

    /// Standard output as JSON, and as nothing else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|cause| panic!("standard output is no JSON: {cause}\n{self}"))
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        writeln!(f, "$ {command}\n{status}\n--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, once.
    pub fn input(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("taken only once")
    }

    /// Awaits a line of its output that holds `text`; returns that line.
    #[track_caller]
    pub fn line_with(&mut self, text: &str) -> String {
        self.lines_to(text).pop().expect("the line itself is the last")
    }

    /// Awaits a line of its output that holds `text`; returns all that was
    /// not read before, to that line.
    #[track_caller]
    pub fn lines_to(&mut self, text: &str) -> Vec<String> {
        use std::io::Read;
        let stdout = self.child.stdout.as_mut().expect("a piped output");
        let mut lines = Vec::new();
        let mut line = Vec::new();
        // A byte at a time: what follows stays in the pipe. The test's own
        // deadline bounds the wait.
        let mut byte = [0];
        while stdout.read(&mut byte).expect("readable output") == 1 {
            if byte != [b'\n'] {
                line.extend(byte);
                continue;
            }
            lines.push(String::from_utf8_lossy(&line).into_owned());
            line.clear();
            if lines.last().is_some_and(|line| line.contains(text)) {
                return lines;
            }
        }
        panic!("`{}` never said {text:?}, but\n{}", self.command, lines.join("\n"));
    }

    /// Awaits its end.
    pub fn finish(mut self) -> Finished {
        drop(self.child.stdin.take());
        let mut stdout = String::new();
        if let Some(mut pipe) = self.child.stdout.take() {
            let _ = std::io::Read::read_to_string(&mut pipe, &mut stdout);
        }
        let status = self.child.wait().expect("a child of ours");
        Finished { command: self.command.clone(), status, stdout, stderr: String::new() }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(id, signal).expect("a child that still runs");
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A ping every 50 ms from one node to another.
pub struct Pinging {
    process: Running,
}

impl World {
    /// Starts to ping from a namespace; returns at the first answer.
    pub fn pinging(&self, namespace: &str, to: &str) -> Pinging {
        let mut process = self.start(&format!("ip netns exec {namespace} ping -n -i 0.05 {to}"));
        process.line_with("from");
        Pinging { process }
    }
}

impl Pinging {
    /// How often it pings in a second.
    pub const A_SECOND: u32 = 20;

    /// Ends it, and returns how many were never answered. An answer that is
    /// late on a busy machine is an answer; the last may have been on its way.
    #[track_caller]
    pub fn lost(self) -> u32 {
        self.process.signal(nix::sys::signal::Signal::SIGINT);
        let told = self.process.finish();
        // 36 packets transmitted, 36 received, 0% packet loss, time 1750ms
        let number = |word: &str| -> Option<u32> {
            let line = told.stdout.lines().find(|line| line.contains(" packets transmitted"))?;
            line.split(", ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
        };
        let sent = number(" packets transmitted").unwrap_or_else(|| panic!("{told}"));
        sent - number(" received").unwrap_or_else(|| panic!("{told}"))
    }
}

/// Awaits a state, ten seconds at most, or more on a machine that takes patience.
#[track_caller]
pub fn until(state: &str, reached: impl FnMut() -> bool) {
    until_within(10, state, reached);
}

/// Awaits a state, so many seconds at most, or more on a machine that takes patience.
#[track_caller]
pub fn until_within(seconds: u64, state: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    let most = Duration::from_secs(seconds) * patience();
    while !reached() {
        assert!(start.elapsed() < most, "waited {} s until {state}", most.as_secs());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end.
pub(crate) fn finish(command: &mut Command) -> Finished {
    let text = as_typed(command);
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|cause| panic!("could not run `{text}`: {cause}"));
    let text_of = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Finished { command: text, status, stdout: text_of(stdout), stderr: text_of(stderr) }
}

pub(crate) fn as_typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The product's program: `$OVSNS_BIN`, else the one built beside this test.
fn product() -> PathBuf {
    if let Some(path) = std::env::var_os("OVSNS_BIN") {
        return path.into();
    }
    // target/debug/deps/kernel-0123 -> target/debug/ovsns
    let here = std::env::current_exe().expect("the path of this program");
    let mut places = here.ancestors().skip(1).take(2).map(|place| place.join("ovsns"));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!("no `ovsns` beside {}: run `cargo build`, or set OVSNS_BIN", here.display())
    })
}

/// The root of the source tree.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in a workspace")
}
