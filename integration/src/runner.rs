//! Running tests: each in a process of its own, in a world of its own, with a
//! deadline, under the face of libtest (filters, `--list`, the closing line).
//!
//! The process that a person starts never enters a namespace. It starts
//! itself again for every test, collects what was printed, and at the end
//! looks whether the machine is as it was before.

use std::fmt::Write as _;
use std::io::Read;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{World, private, tools};

/// First argument of a process that leaves the machine's namespaces.
const LEAVE: &str = "--world-of";
/// First argument of PID 1 in a world.
pub(crate) const INSIDE: &str = "--inside-world-of";
/// Exit status of a test that cannot run here.
const SKIPPED: u8 = 77;
/// What switches are made of, for the product and for tests.
pub(crate) const BACKEND: &str = "OVSNS_BACKEND";
const LINUX: &str = "linux";
/// Set in the virtual machine, to the release of its kernel.
pub(crate) const VM: &str = "OVSNS_VM";
/// What comes before the reason, on the last line such a test prints.
const SKIP_LINE: &str = "cannot run here: ";

/// What comes before what a test that passed wants to be known.
const NOTE_LINE: &str = "to be known: ";

/// What tests that passed want to be known, with their names.
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Has a line shown after the closing line, if the test passes.
pub fn note(line: &str) {
    println!("\n{NOTE_LINE}{line}");
}

/// Why a test cannot run on this machine: says what is missing.
#[derive(Debug)]
pub struct Skip(pub String);

/// How a test that did not panic ended.
pub type Verdict = Result<(), Skip>;

/// One test.
#[derive(Clone, Copy)]
pub struct Test {
    /// Its name, for people and filters.
    pub name: &'static str,
    /// What it does. It fails by panicking.
    pub run: fn(&World) -> Verdict,
    /// After so many seconds its world is ended and it has failed.
    pub seconds_max: u64,
    /// Whether no other test may run beside it.
    pub alone: bool,
    /// Whether it is among those that the virtual machine runs unasked.
    pub vm: bool,
    /// Whether it is run only for those who have time.
    pub long: bool,
    /// Whether it has failed when it failed once.
    pub once: bool,
    /// What switches are made of whose file does not say so.
    pub backend: &'static str,
}

impl Test {
    /// A test with two minutes to run in, beside others.
    pub const fn new(name: &'static str, run: fn(&World) -> Verdict) -> Self {
        let (alone, vm, long, once) = (false, false, false, false);
        Self { name, run, seconds_max: 120, alone, vm, long, once, backend: LINUX }
    }

    /// The same test with switches of another backend. Over `ovs` the machine has
    /// an Open vSwitch of its own, and somebody else a bridge on it.
    pub const fn over(self, backend: &'static str) -> Self {
        Self { backend, ..self }
    }

    /// The same test with another deadline.
    pub const fn within(self, seconds_max: u64) -> Self {
        Self { seconds_max, ..self }
    }

    /// The same test, run while no other runs: worlds share the queues of the
    /// processors and the neighbour tables' limit, and a thousand nodes fill both.
    pub const fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// The same test without a second try: it does something else each time.
    pub const fn once(self) -> Self {
        Self { once: true, ..self }
    }

    /// The same test, of those that `integration/vm` runs unasked: it needs
    /// what the kernel there has and others may lack, or stands for its kind.
    pub const fn vm(self) -> Self {
        Self { vm: true, ..self }
    }

    /// The same test, for `integration/run --long` and for those who ask for
    /// it by name: it takes much time, or much to be installed.
    pub const fn long(self) -> Self {
        Self { long: true, ..self }
    }
}

/// Runs the tests that the command line asks for, as `main` of a test program.
pub fn main(groups: &[&[Test]]) -> ExitCode {
    main_or(|name| live(find(groups, name)), || run_all(groups))
}

/// `main` of a program that starts itself again in worlds: there it does
/// `inside` with the word it was started with, on the machine it does `outside`.
pub fn main_or(
    inside: impl FnOnce(&str) -> ExitCode,
    outside: impl FnOnce() -> ExitCode,
) -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    let second = arguments.next().unwrap_or_default();
    match first.as_str() {
        LEAVE => private::leave_the_machine(&second),
        INSIDE => inside(&second),
        tools::FLAG => tools::main(&second, &arguments.collect::<Vec<_>>()),
        _ => outside(),
    }
}

/// This program again, in a world of its own, with a word for it.
pub fn in_new_world(word: &str) -> Command {
    let program = std::env::current_exe().expect("the path of this program");
    // Who starts tests in the background, or by nohup(1), ignores signals, and so
    // would all that they start.
    let mut command = Command::new("env");
    command
        .arg("--default-signal=HUP,INT,QUIT")
        .arg(program)
        .args([LEAVE, word])
        .env_remove("OVSNS_STATE_DIR")
        .env_remove("NO_COLOR")
        // A test that wants another says so; most look at what `bridge` shows.
        .env(BACKEND, LINUX)
        .env("LC_ALL", "C.UTF-8")
        // Where a test failed is in the message: the checks track their caller.
        .env("RUST_BACKTRACE", "0")
        .env("PATH", path_with_sbin());
    command
}

/// Furnishes the world that this process is PID 1 of.
pub fn furnish() -> World {
    private::furnish();
    World::new()
}

fn find<'a>(groups: &'a [&[Test]], name: &str) -> &'a Test {
    groups
        .iter()
        .flat_map(|group| group.iter())
        .find(|test| test.name == name)
        .expect("the runner asks only for tests it has")
}

fn run_all(groups: &[&[Test]]) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = groups
        .iter()
        .flat_map(|group| group.iter().copied())
        .filter(|test| test.vm || all_are_wanted(&arguments))
        .filter(|test| !test.long || long_ones_are_wanted(&arguments))
        .map(|test| Trial::ignorable_test(test.name, move || in_turn(&test)))
        .collect();
    let before = Machine::look();
    let conclusion = libtest_mimic::run(&arguments, trials);
    for (name, said) in AGAIN.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("---- at its second try, alone, passed {name}; at the first:\n{said}");
    }
    for note in NOTES.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("{note}");
    }
    let left = Machine::look().differences(&before);
    if left.is_empty() {
        return conclusion.exit_code();
    }
    eprintln!("error: the machine is not as it was before the tests\n{left}");
    ExitCode::from(101)
}

/// Whether to run also what is not marked for the virtual machine: everywhere
/// but there, and there for whoever asks.
fn all_are_wanted(arguments: &Arguments) -> bool {
    let set = |name| std::env::var_os(name).is_some();
    !set(VM) || set("OVSNS_LONG") || arguments.filter.is_some()
}

/// Whether to run also what takes long.
fn long_ones_are_wanted(arguments: &Arguments) -> bool {
    std::env::var_os("OVSNS_LONG").is_some() || arguments.filter.is_some()
}

/// How many times longer than elsewhere things may take on this machine:
/// `$OVSNS_TEST_PATIENCE`, else once. It stretches the time that tests and waits
/// are given, and what a test measures only where the test says so.
pub fn patience() -> u32 {
    let Some(text) = std::env::var_os("OVSNS_TEST_PATIENCE") else { return 1 };
    let times = text.to_str().and_then(|text| text.parse().ok()).filter(|times| 0 < *times);
    times.unwrap_or_else(|| panic!("OVSNS_TEST_PATIENCE: {text:?} is no whole number from 1"))
}

/// How many tests may fail beside others and pass alone, where the machine is not
/// emulated: its processors are shared too, but more would be no accident.
const SECOND_TRIES_MAX: usize = 2;

/// The tests that failed beside others and have a second try, and what they said.
static AGAIN: Mutex<Vec<(&str, String)>> = Mutex::new(Vec::new());

/// Runs one test when others allow it. Called on one of the harness's threads.
///
/// A machine that is shared or emulated is now and then slower than what some
/// protocols ask of it (LACP wants a frame a second): what fails beside another test
/// has a second try alone, and is named in the end.
fn in_turn(test: &Test) -> Result<Completion, Failed> {
    static RUNNING: RwLock<()> = RwLock::new(());
    // Who panicked while holding it has left nothing half done: it holds nothing.
    if !test.alone {
        let _others = RUNNING.read().unwrap_or_else(PoisonError::into_inner);
        let failed = match in_a_world(test) {
            Err(failed) => failed,
            ended => return ended,
        };
        if test.once {
            return Err(failed);
        }
        let mut again = AGAIN.lock().unwrap_or_else(PoisonError::into_inner);
        if std::env::var_os(VM).is_none() && again.len() == SECOND_TRIES_MAX {
            return Err(failed);
        }
        again.push((test.name, failed.message().unwrap_or_default().to_owned()));
    }
    let _nobody = RUNNING.write().unwrap_or_else(PoisonError::into_inner);
    let ended = in_a_world(test);
    if ended.is_err() {
        AGAIN.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, _)| *name != test.name);
    }
    ended
}

/// Runs one test in a new process and a new world.
fn in_a_world(test: &Test) -> Result<Completion, Failed> {
    let (mut said, end) = std::io::pipe().map_err(|cause| format!("no pipe: {cause}"))?;
    let mut child = in_new_world(test.name)
        .env(BACKEND, test.backend)
        .stdin(Stdio::null())
        .stdout(end.try_clone().map_err(|cause| format!("no pipe: {cause}"))?)
        .stderr(end)
        .spawn()
        .map_err(|cause| format!("could not start: {cause}"))?;

    // The pipe ends when the last process of the world does.
    let (finished, ended) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = said.read_to_end(&mut bytes);
        let _ = finished.send(());
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let seconds_max = test.seconds_max * u64::from(patience());
    let late = match ended.recv_timeout(Duration::from_secs(seconds_max)) {
        Ok(()) => false,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            // PID 1 of the world dies with this one, and the world with it.
            let _ = child.kill();
            true
        }
    };
    let status = child.wait().map_err(|cause| format!("could not wait: {cause}"))?;
    let said = reader.join().map_err(|_| "the reader of its output panicked")?;
    if late {
        return Err(format!("{said}no end after {seconds_max} s: world ended").into());
    }
    match status.code() {
        Some(0) => {
            let notes = said.lines().filter_map(|line| line.strip_prefix(NOTE_LINE));
            let notes = notes.map(|note| format!("{}: {note}", test.name));
            NOTES.lock().unwrap_or_else(PoisonError::into_inner).extend(notes);
            Ok(Completion::Completed)
        }
        Some(code) if code == i32::from(SKIPPED) => {
            let reason = said.lines().rev().find_map(|line| line.strip_prefix(SKIP_LINE));
            Ok(Completion::ignored_with(reason.unwrap_or("it does not say why")))
        }
        _ => Err(said.into()),
    }
}

/// Debian keeps `ip` and `bridge` in directories that not every user's PATH has.
fn path_with_sbin() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

/// Is PID 1 of a new world: furnishes it, runs the test, says how it ended.
fn live(test: &Test) -> ExitCode {
    let world = furnish();
    let run = || {
        let _ovs = match test.backend {
            "ovs" => Some(world.somebodys_open_vswitch()?),
            _ => None,
        };
        (test.run)(&world)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(skip) => exit_with_skip(&skip),
    }
}

/// Says why a test cannot run, in the way that [`in_a_world`] understands.
pub(crate) fn exit_with_skip(skip: &Skip) -> ExitCode {
    println!("\n{SKIP_LINE}{}", skip.0.replace('\n', " "));
    ExitCode::from(SKIPPED)
}

/// What the machine's own namespaces hold that tests could have left there.
struct Machine {
    lines: Vec<String>,
}

impl Machine {
    fn look() -> Self {
        let mut lines = Vec::new();
        let links = Command::new("ip")
            .args(["-o", "link", "show"])
            .env("PATH", path_with_sbin())
            .output()
            .map(|output| output.stdout)
            .unwrap_or_default();
        lines.extend(String::from_utf8_lossy(&links).lines().map(|link| format!("link {link}")));
        for place in ["/run/netns", "/run/ovsns"] {
            // A place that is not there is one line fewer.
            let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
            lines.extend(entries.map(|entry| format!("file {}", entry.path().display())));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        lines.extend(mounts.lines().map(|mount| format!("mount {mount}")));
        lines.sort();
        Self { lines }
    }

    fn differences(&self, before: &Self) -> String {
        let mut text = String::new();
        for line in self.lines.iter().filter(|line| !before.lines.contains(line)) {
            let _ = writeln!(text, "  now:  {line}");
        }
        for line in before.lines.iter().filter(|line| !self.lines.contains(line)) {
            let _ = writeln!(text, "  gone: {line}");
        }
        text
    }
}
