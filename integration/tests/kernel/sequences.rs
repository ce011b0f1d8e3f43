//! Random commands over random labs, on a machine full of other people's things:
//! whatever was typed, and wherever it was cut off, in the end all that is not ours
//! is as it was, and nothing of ours is left.
//!
//! A sequence is a script: what fails is made as short as it can be and printed, so
//! that a person can type it. A long run takes a seed of its own and says it, and
//! `OVSNS_SEED` takes it; any other run makes the same few sequences every time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use world::{Crowd, Finished, Verdict, World, in_new_world, note};

/// What changes the kernel, or files of ours.
const CALLS: &str = "sendto,sendmsg,mount,umount2,unshare,unlink,unlinkat,rename,mkdir,rmdir";

/// One line of a script.
#[derive(Debug, Clone)]
struct Line {
    /// What `ovsns` is told, and before which request it is killed, if it is.
    does: Does,
    killed_at: Option<u32>,
}

#[derive(Debug, Clone)]
enum Does {
    /// A command with its words.
    Command(String),
    /// `up` with a file.
    Up(String),
    /// All that was written down is lost.
    Forget,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ovsns = match self.killed_at {
            Some(at) => format!("killed {at} ovsns"),
            None => "ovsns".to_owned(),
        };
        match &self.does {
            Does::Command(words) => write!(f, "{ovsns} {words}"),
            Does::Up(file) => write!(f, "echo '{file}' | {ovsns} up -"),
            Does::Forget => f.write_str("rm -rf /run/ovsns"),
        }
    }
}

/// What lines of a script mean that no program of the machine knows.
fn prelude() -> String {
    format!(
        "killed() {{ at=$1; shift; strace -f -b execve -qq -e signal=none -o /dev/null \
         -e trace={CALLS} -e inject={CALLS}:signal=KILL:when=$at \"$@\"; }}"
    )
}

// ---- what is typed ----

const LABS: [&str; 2] = ["p", "q"];
const SWITCHES: [&str; 2] = ["s", "t"];
/// In lab `q` somebody else has the namespace of `d`.
const NODES: [&str; 4] = ["a", "b", "c", "d"];

fn lab() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(LABS[0]), 1 => Just(LABS[1])]
}

/// A topology file of one line, with so many switches and nodes. Of both backends is
/// said what both can do.
fn file(switches: Range<usize>, nodes: Range<usize>) -> impl Strategy<Value = String> {
    let node = prop_oneof![
        4 => Just("{}"),
        1 => Just("{forwarding: true}"),
        1 => Just("{isolation: [uts, mount]}"),
        1 => Just("{files: {/etc/motd: laid, /etc/new-one: laid}}"),
        1 => Just("{run: [sleep 4721]}"),
        1 => Just("{isolation: all, run: [{name: nap, command: sleep 4722}]}"),
        1 => Just("{sealed: true}"),
        1 => Just("{sysctls: {net.ipv4.ip_default_ttl: 77}}"),
        1 => Just("{nat: ipv4}"),
    ];
    let switch = prop_oneof![
        4 => Just("{}"),
        1 => Just("{ageing: 100}"),
        1 => Just("{stp: true}"),
        1 => Just("{multicast_snooping: false}"),
        1 => Just("{nat: ipv4}"),
    ];
    let link = prop_oneof![
        5 => Just(""),
        1 => Just(", mtu: 1400"),
        1 => Just(", impairments: {rate: 10mbit}"),
        1 => Just(", down: true"),
        1 => Just(", isolated: true"),
    ];
    let parts = (
        lab(),
        proptest::collection::vec(switch, switches),
        proptest::collection::vec((node, link, 0..6usize), nodes),
        prop_oneof![4 => Just(""), 1 => Just("hosts: true, ")],
        prop_oneof![3 => Just(false), 1 => Just(true)],
        prop_oneof![2 => Just(false), 1 => Just(true)],
    );
    parts.prop_map(|(lab, switches, nodes, hosts, is_cut, is_joined)| {
        let named = |all: Vec<String>| all.join(", ");
        let text_of = |names: &[&str], what: Vec<&str>| {
            named(names.iter().zip(what).map(|(name, it)| format!("{name}: {it}")).collect())
        };
        let mut links = Vec::new();
        for (index, (_, link, end)) in nodes.iter().enumerate() {
            let name = NODES[index];
            match (end, switches.len()) {
                (0, _) => {}
                (1, _) => links.push(format!("{{endpoints: [{name}:mac0, macvlan:nic1]}}")),
                (2, _) if index > 0 => {
                    links.push(format!("{{endpoints: [{name}, {}]{link}}}", NODES[index - 1]));
                }
                (_, 0) => {}
                (end, count) => {
                    let switch = SWITCHES[end % count];
                    links.push(format!("{{endpoints: [{name}, {switch}]{link}}}"));
                }
            }
        }
        if is_joined && switches.len() == 2 {
            links.push("{endpoints: [s, t]}".to_owned());
        }
        let cuts =
            if is_cut && nodes.len() > 1 { ", cuts: {x: {nodes: [a], from: [b]}}" } else { "" };
        format!(
            "{{name: {lab}, {hosts}switches: {{{}}}, nodes: {{{}}}, links: [{}]{cuts}}}",
            text_of(&SWITCHES, switches),
            text_of(&NODES, nodes.iter().map(|(node, ..)| *node).collect()),
            links.join(", ")
        )
    })
}

/// A command with its words. Most fit a lab that is there; what does not is refused.
fn words() -> impl Strategy<Value = String> {
    let (node, switch) = (|| select(&NODES[..3]), || select(&SWITCHES[..]));
    let link_words = prop_oneof![
        Just("--mtu 1300"),
        Just("--rate 5mbit"),
        Just("--rate none"),
        Just("--isolated true"),
        Just("--isolated false"),
    ];
    let switch_words = prop_oneof![
        Just("ageing=200"),
        Just("ageing="),
        Just("nat=ipv4"),
        Just("nat="),
        Just("stp=true"),
        Just("multicast_snooping=false"),
    ];
    let end = || prop_oneof![2 => switch(), 1 => node()];
    prop_oneof![
        2 => (select(&NODES[..]), switch(), lab())
            .prop_map(|(n, s, l)| format!("node add {n} --link {s} --lab {l}")),
        1 => (node(), lab()).prop_map(|(n, l)| format!("node add {n} --isolate all --lab {l}")),
        2 => (node(), lab()).prop_map(|(n, l)| format!("node rm {n} --lab {l}")),
        1 => (node(), lab()).prop_map(|(n, l)| format!("node restart {l}/{n}")),
        2 => (node(), end(), lab()).prop_map(|(n, e, l)| format!("link add {n} {e} --lab {l}")),
        2 => (node(), end(), lab()).prop_map(|(n, e, l)| format!("link rm {n} {e} --lab {l}")),
        2 => (node(), end(), link_words, lab())
            .prop_map(|(n, e, w, l)| format!("link set {n} {e} {w} --lab {l}")),
        2 => (node(), end(), lab()).prop_map(|(n, e, l)| format!("link down {n} {e} --lab {l}")),
        1 => (node(), end(), lab()).prop_map(|(n, e, l)| format!("link up {n} {e} --lab {l}")),
        1 => (switch(), lab()).prop_map(|(s, l)| format!("switch add {s} --lab {l}")),
        1 => (switch(), lab()).prop_map(|(s, l)| format!("switch rm {s} --lab {l}")),
        2 => (switch(), switch_words, lab())
            .prop_map(|(s, w, l)| format!("switch set {s} {w} --lab {l}")),
        2 => (node(), node(), lab()).prop_map(|(a, b, l)| format!("cut {a} from {b} --lab {l}")),
        1 => lab().prop_map(|l| format!("heal --lab {l}")),
        1 => (node(), lab()).prop_map(|(n, l)| format!("exec {l}/{n} -- true")),
        1 => lab().prop_map(|l| format!("status {l}")),
        1 => lab().prop_map(|l| format!("up --again --lab {l}")),
        1 => Just("list --json".to_owned()),
        2 => Just("gc".to_owned()),
        2 => lab().prop_map(|l| format!("down {l}")),
        1 => Just("down --all".to_owned()),
        2 => Just("attach nic0 --lab p".to_owned()),
        2 => (switch(), lab()).prop_map(|(s, l)| format!("attach nic0 --switch {s} --lab {l}")),
        1 => (node(), lab())
            .prop_map(|(n, l)| format!("attach nic1 --mode macvlan --node {n} --lab {l}")),
        1 => (node(), lab())
            .prop_map(|(n, l)| format!("attach nic1 --mode move --node {n} --lab {l}")),
        2 => select(&["nic0", "nic1"][..]).prop_map(|nic| format!("detach {nic}")),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    let does = prop_oneof![
        8 => file(0..3, 0..4).prop_map(Does::Up),
        24 => words().prop_map(Does::Command),
        1 => Just(Does::Forget),
    ];
    let killed_at = prop_oneof![
        6 => Just(None),
        2 => (1..12u32).prop_map(Some),
        1 => (12..40u32).prop_map(Some),
    ];
    (does, killed_at).prop_map(|(does, killed_at)| {
        let killed_at = killed_at.filter(|_| !matches!(does, Does::Forget));
        Line { does, killed_at }
    })
}

/// A script. It begins with a lab, on which most of the rest can be done.
fn sequence() -> impl Strategy<Value = Vec<Line>> {
    let first = file(1..3, 2..4).prop_map(|file| Line { does: Does::Up(file), killed_at: None });
    (first, proptest::collection::vec(line(), 1..14)).prop_map(|(first, rest)| {
        let mut lines = vec![first];
        lines.extend(rest);
        lines
    })
}

// ---- what has to hold ----

/// How long a person tries again who is told that somebody else is at it: who watches
/// over a command that was killed takes back what that did.
const BUSY_FOR: Duration = Duration::from_secs(30);

/// Runs a line as a person would have.
fn run(world: &World, line: &str) -> Finished {
    let programs = world.binary().parent().expect("it is in a directory").display();
    let whole = format!("PATH={programs}:$PATH\n{}\n{line}", prelude());
    let start = Instant::now();
    loop {
        let ended = world.shell(&whole);
        let is_busy = ended.status.code() == Some(1)
            && ended.stderr.contains("is being changed by `ovsns watchdog`");
        if !is_busy || BUSY_FOR < start.elapsed() {
            return Finished { command: line.to_owned(), ..ended };
        }
    }
}

/// Runs a line, and returns its exit status, or what is wrong with how it ended.
fn typed(world: &World, line: &str) -> Result<Option<i32>, String> {
    // Shown if anything below fails, or takes too long.
    println!("{line}");
    let ended = run(world, line);
    let code = ended.status.code();
    let is_killed = line.contains("killed ") && code.is_none_or(|code| code == 137);
    // 1 is `no` for those who ask; nothing that is done may fail, or be left half done.
    let is_question = line.starts_with("ovsns status") || line.starts_with("ovsns exec");
    let is_well = match code {
        Some(0) => true,
        Some(2) => ended.stderr.contains("error: "),
        Some(1) => is_question,
        _ => false,
    };
    if ended.stderr.contains("panicked") || !(is_well || is_killed) {
        return Err(format!("it ended like this:\n{ended}"));
    }
    // What was made stays made.
    let up = line.strip_suffix(" | ovsns up -").filter(|_| code == Some(0));
    if let Some(file) = up {
        let again = run(world, line);
        let is_quiet = again.status.success() && again.stdout.contains("nothing to change");
        if !is_quiet {
            return Err(format!("a second `up` ended like this:\n{again}"));
        }
        let plan = run(world, &format!("{file} | ovsns plan -"));
        if !plan.status.success() {
            return Err(format!("the plan of what is there:\n{plan}"));
        }
    }
    Ok(code)
}

/// Lines of an inventory that change while NICs are attached and labs have names.
const MAY_CHANGE: [&str; 12] = [
    "nic0",
    "nic1",
    "/run/ovsns",
    "198.18.60",
    "fd00:60",
    "203.0.113.0",
    "row of Open_vSwitch ",
    " /etc/hosts",
    "br-int@",
    "fe80::",
    "route in \"\"",
    "ff00::",
];

/// How commands ended.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    refused: usize,
    killed: usize,
}

/// Runs a script on a machine, and says what is wrong, if something is.
fn holds(world: &World, crowd: &Crowd, lines: &[String]) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for line in lines {
        match typed(world, line).map_err(|why| format!("`{line}`: {why}"))? {
            Some(0) => tally.done += 1,
            Some(1 | 2) => tally.refused += 1,
            _ => tally.killed += 1,
        }
    }
    let lost = crowd.lost(world, &MAY_CHANGE);
    if !lost.is_empty() {
        return Err(format!("while labs were there, this was lost:\n{}", lost.join("\n")));
    }
    for line in ["ovsns down --all", "ovsns gc", "ovsns list"] {
        let ended = run(world, line);
        let left = line == "ovsns list" && !ended.stdout.contains("there is no lab");
        if !ended.status.success() || left {
            return Err(format!("`{line}`, at the end:\n{ended}"));
        }
    }
    world.settled();
    let mut differences = crowd.differences(world);
    // What ends is gone a moment later.
    let start = Instant::now();
    while !differences.is_empty() && start.elapsed() < Duration::from_secs(3) {
        differences = crowd.differences(world);
    }
    match differences.is_empty() {
        true => Ok(tally),
        false => Err(format!("at the end it is not as it was:\n{differences}")),
    }
}

/// A script for [`a_script_as_printed`].
const SCRIPT: &str = "OVSNS_SCRIPT";

/// How long sequences are made in a long run.
const LONG: Duration = Duration::from_secs(900);
/// How many there are in one that is not, and their seed: the same every time.
const SOME: u32 = 8;
const SEED: u64 = 2205;

fn is_long() -> bool {
    std::env::var_os("OVSNS_LONG").is_some()
}

/// How long one that fails is made shorter.
const SHORTER_FOR: Duration = Duration::from_secs(150);

fn seed() -> u64 {
    let Ok(text) = std::env::var("OVSNS_SEED") else {
        if !is_long() {
            return SEED;
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        return now.map_or(0, |now| now.as_secs() ^ u64::from(now.subsec_micros()));
    };
    text.trim().parse().unwrap_or_else(|_| panic!("OVSNS_SEED: {text:?} is no number"))
}

/// Labs `p` and `q`, whatever they are, among things of others
pub(crate) fn nothing_foreign_is_touched(world: &World) -> Verdict {
    world.needs("strace")?;
    let crowd = world.crowd()?;
    let (start, seed) = (Instant::now(), seed());
    println!("OVSNS_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { failure_persistence: None, max_shrink_iters: 1000, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let sequence = sequence();
    let (mut sequences, all) = (0_u32, RefCell::new(Tally::default()));
    let goes_on = |made: u32| if is_long() { start.elapsed() < LONG } else { made < SOME };
    while goes_on(sequences) {
        println!("---- sequence {sequences}");
        let tree = sequence.new_tree(&mut runner).expect("there is always one");
        sequences += 1;
        let failed: Cell<Option<Instant>> = Cell::new(None);
        let why = RefCell::new(String::new());
        let ended = runner.run_one(tree, |lines| {
            let lines: Vec<String> = lines.iter().map(Line::to_string).collect();
            let held = match failed.get() {
                None => holds(world, &crowd, &lines).map(|tally| {
                    let mut all = all.borrow_mut();
                    all.done += tally.done;
                    all.refused += tally.refused;
                    all.killed += tally.killed;
                }),
                Some(since) if SHORTER_FOR < since.elapsed() => Ok(()),
                // Once something is wrong nothing more is known of this world.
                Some(_) => in_a_new_world(world, &lines),
            };
            held.map_err(|cause| {
                failed.set(failed.get().or(Some(Instant::now())));
                why.replace(cause);
                TestCaseError::fail("it does not hold")
            })
        });
        match ended {
            Ok(_) => {}
            Err(TestError::Fail(_, lines)) => panic!(
                "{}\n---- OVSNS_SEED={seed}, sequence {}, as a script:\n{}\n{}----\nonce more: \
                 {SCRIPT}=\"$(cat FILE)\" cargo test -p ovsns-integration --test kernel a_script",
                why.borrow(),
                sequences - 1,
                prelude(),
                lines.iter().map(|line| format!("{line}\n")).collect::<String>(),
            ),
            Err(TestError::Abort(cause)) => panic!("{cause}"),
        }
    }
    let seconds = start.elapsed().as_secs();
    let Tally { done, refused, killed } = all.into_inner();
    let commands = done + refused + killed;
    note(&format!(
        "{sequences} sequences of {commands} commands in {seconds} s ({done} done, {refused} \
         refused, {killed} killed), seed {seed}"
    ));
    Ok(())
}

/// The same in a world of its own: what the one where it failed is like nobody knows.
fn in_a_new_world(world: &World, lines: &[String]) -> Result<(), String> {
    let backend = world.backend();
    let over = if backend == "ovs" { "_over_ovs" } else { "" };
    let mut command = in_new_world(&format!("sequences::a_script_as_printed{over}"));
    let ended = command.env("OVSNS_BACKEND", backend).env(SCRIPT, lines.join("\n")).output();
    let ended = ended.map_err(|cause| format!("no new world: {cause}"))?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned()),
    }
}

/// What was printed when a sequence failed, or one of each kind of command.
pub(crate) fn a_script_as_printed(world: &World) -> Verdict {
    world.needs("strace")?;
    let crowd = world.crowd()?;
    let script = std::env::var(SCRIPT).unwrap_or_else(|_| EACH.to_owned());
    let lines = script.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("killed()"));
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    let tally = holds(world, &crowd, &lines).unwrap_or_else(|why| panic!("{why}"));
    assert_ne!(tally.done, 0, "{tally:?}");
    Ok(())
}

const EACH: &str = "
echo '{name: p, switches: {s: {}}, nodes: {a: {}, b: {}}, links: [{endpoints: [a, s]}]}' | ovsns up -
ovsns link add b s --lab p
killed 9 ovsns node add c --link s --lab p
ovsns cut a from b --lab p
ovsns attach nic0 --switch s --lab p
killed 3 ovsns heal --lab p
rm -rf /run/ovsns
ovsns gc
";
