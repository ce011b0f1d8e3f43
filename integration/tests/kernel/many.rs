//! Commands at once, on one lab and on many: each works, or says who holds the lab;
//! what is there in the end is what they would have made one after the other; and who
//! only looks is never in anybody's way, nor troubled by what is half gone.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use world::{Finished, Inventory, Verdict, World, until};

use crate::own_ovs;

/// n1, n2 -- s1
const LAB: &str = "
name: one
switches: { s1: {} }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
links: [{ endpoints: ['n[1-2]', s1] }]
";

/// Starts all of these commands before the first can have ended, and awaits the end of
/// each.
fn at_once(world: &World, commands: &[String]) -> Vec<(String, Finished)> {
    let start = |words: &String| {
        let mut command: Command = world.command();
        command.args(words.split(' '));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        (words.clone(), command.spawn().expect("a process more"))
    };
    let started: Vec<_> = commands.iter().map(start).collect();
    let ended = started.into_iter().map(|(words, child)| {
        let output = child.wait_with_output().expect("a child of ours");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let finished = Finished {
            command: format!("ovsns {words}"),
            status: output.status,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        (words, finished)
    });
    ended.collect()
}

/// Which of them worked. Of each other says who had the lab, or one of `also`.
#[track_caller]
fn worked<'a>(all: &'a [(String, Finished)], also: &[&str]) -> Vec<&'a str> {
    let mut worked = Vec::new();
    for (words, finished) in all {
        if finished.status.success() {
            worked.push(words.as_str());
            continue;
        }
        let held = finished.stderr.contains("is being changed by `ovsns ")
            && finished.stderr.contains("(process ");
        let looks = LOOKS.iter().any(|look| words.starts_with(look));
        let other = also.iter().any(|text| finished.stderr.contains(text));
        assert!((held && !looks) || other, "{finished}");
    }
    worked
}

/// Commands that only look.
const LOOKS: [&str; 5] = ["list", "status", "plan", "node list", "link list"];

fn many(number: usize, words: impl Fn(usize) -> String) -> Vec<String> {
    (1..=number).map(words).collect()
}

/// Commands of several kinds, one of each kind after the other.
fn mixed(mut kinds: Vec<Vec<String>>) -> Vec<String> {
    let mut all = Vec::new();
    while kinds.iter().any(|kind| !kind.is_empty()) {
        all.extend(kinds.iter_mut().filter_map(Vec::pop));
    }
    all
}

/// A hundred commands at once that change different things of one lab, or the same.
///
/// n1, n2 -- s1
pub(crate) fn changes_of_one_lab(world: &World) -> Verdict {
    let before = world.inventory();
    world.file("one.yaml", LAB);
    world.ovsns("up one.yaml").ok();
    let all = at_once(
        world,
        &mixed(vec![
            many(30, |n| format!("node add x{n} --link s1")),
            many(20, |n| format!("link set n1 s1 --mtu {}", 1400 + n)),
            many(10, |n| format!("cut n1 from n2 --name c{n}")),
            many(10, |_| "list".to_owned()),
            many(10, |_| "status one".to_owned()),
            many(10, |_| "plan one.yaml".to_owned()),
            many(5, |_| "node list".to_owned()),
            many(5, |_| "link list".to_owned()),
        ]),
    );
    let worked = worked(&all, &[]);
    println!("{} of {} worked", worked.len(), all.len());
    // Whatever said that it did has done it, and nobody else.
    let said = |start: &str| -> Vec<String> {
        let words = worked.iter().filter_map(|words| words.strip_prefix(start));
        let mut words: Vec<_> =
            words.map(|rest| rest.split(' ').next().unwrap_or("").to_owned()).collect();
        words.sort();
        words
    };
    let status = world.ovsns("status --json").ok().json();
    let nodes = status["nodes"].as_array().expect("nodes");
    let names = nodes.iter().map(|node| node["name"].as_str().expect("a name").to_owned());
    let names: Vec<String> = names.filter(|name| name.starts_with('x')).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(sorted, said("node add "));
    for name in &names {
        assert!(world.namespaces().contains(&format!("one.{name}")), "{name}");
    }
    let mtus = said("link set n1 s1 --mtu ");
    let mtu = world.setting("one.n1", "eth0", "mtu").to_string();
    assert!(mtus.contains(&mtu) || (mtus.is_empty() && mtu == "1500"), "{mtu} of {mtus:?}");
    let cuts = status["cuts"].as_object().expect("cuts");
    let mut made: Vec<_> = worked
        .iter()
        .filter_map(|words| words.strip_prefix("cut n1 from n2 --name ").map(str::to_owned))
        .collect();
    made.sort();
    assert_eq!(cuts.keys().cloned().collect::<Vec<_>>(), made);
    assert_eq!((&status["state"], &status["drift"]), (&"up".into(), &serde_json::json!([])));
    world.ovsns("down one").ok();
    is_as(world, &before);
    Ok(())
}

/// A hundred commands at once that make one lab, another of that name, and none.
///
/// n1, n2 -- s1
pub(crate) fn one_lab_comes_and_goes(world: &World) -> Verdict {
    let before = world.inventory();
    world.file("one.yaml", LAB);
    world.file(
        "two.yaml",
        &LAB.replace("10.0.0.2/24", "10.0.0.3/24").replace("s1: {}", "s1: { ageing: 77 }"),
    );
    world.file("three.yaml", &LAB.replace("[1-2]', s1]", "[1-2]', s1], mtu: 1400"));
    for round in 0..2 {
        let kinds = vec![
            many(15, |_| "up one.yaml".to_owned()),
            many(15, |_| "up two.yaml".to_owned()),
            many(15, |_| "up three.yaml".to_owned()),
            many(20, |_| "down one".to_owned()),
            many(10, |_| "list".to_owned()),
            many(10, |_| "status one".to_owned()),
            many(5, |_| "plan two.yaml".to_owned()),
            many(10, |_| "gc".to_owned()),
        ];
        let all = at_once(world, &mixed(kinds));
        let worked = worked(&all, &["there is no lab"]);
        println!("round {round}: {} of {} worked", worked.len(), all.len());
        assert!(worked.iter().any(|words| words.starts_with("up ")), "{worked:?}");
        // One of them was the last.
        let nothing = world.ovsns("list").ok().stdout.contains("there is no lab");
        let is = |file: &str| {
            let plan = world.ovsns(&format!("plan {file}.yaml")).ok();
            plan.stdout.contains("nothing to change")
        };
        let files: Vec<_> = ["one", "two", "three"].into_iter().filter(|file| is(file)).collect();
        match nothing {
            true => is_as(world, &before),
            false => assert_eq!(files.len(), 1, "it is {files:?}"),
        }
    }
    world.ovsns("down --all");
    is_as(world, &before);
    Ok(())
}

/// Many labs that are made, changed and removed at once: nothing of one is in another,
/// and nothing is left.
fn many_labs(world: &World, count: usize, file: &str) {
    let all_work = |kind: &str, words: &dyn Fn(usize) -> String| {
        let commands: Vec<String> =
            many(count, words).into_iter().chain(many(4, |_| "list".into())).collect();
        for (_, finished) in at_once(world, &commands) {
            assert!(finished.status.success(), "{kind}\n{finished}");
        }
    };
    for n in 1..=count {
        let text = file.replace("name: one", &format!("name: lab{n}"));
        world.file(&format!("{n}.yaml"), &text.replace("10.0.0.", &format!("10.0.{n}.")));
    }
    all_work("up", &|n| format!("up {n}.yaml"));
    all_work("node add", &|n| format!("node add n3 --link s1 --lab lab{n}"));
    all_work("link set", &|n| format!("link set n1 s1 --mtu {} --lab lab{n}", 1300 + n));
    let states: BTreeMap<String, String> = states(world);
    assert_eq!(states.len(), count);
    for n in 1..=count {
        let lab = format!("lab{n}");
        assert_eq!(states[&lab], "up 3", "{lab}");
        assert_eq!(world.setting(&format!("{lab}.n1"), "eth0", "mtu"), 1300 + n);
        assert_eq!(world.addresses(&format!("{lab}.n1"), "eth0"), [format!("10.0.{n}.1/24")]);
    }
    world.pings("lab1.n1", "10.0.1.2");
    world.silence("lab1.n1", "10.0.2.1");
    all_work("down", &|n| format!("down lab{n}"));
}

/// Each lab with its state and the number of its nodes.
fn states(world: &World) -> BTreeMap<String, String> {
    let rows = world.ovsns("list --json").ok().json();
    let rows = rows.as_array().expect("rows");
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
    rows.iter()
        .map(|row| (text(row, "lab"), format!("{} {}", text(row, "state"), row["nodes"])))
        .collect()
}

/// Labs on Linux bridges.
fn on_bridges(world: &World, count: usize) -> Verdict {
    let before = world.inventory();
    many_labs(world, count, LAB);
    is_as(world, &before);
    Ok(())
}

pub(crate) fn many_labs_on_bridges(world: &World) -> Verdict {
    on_bridges(world, 20)
}

pub(crate) fn sixty_labs_on_bridges(world: &World) -> Verdict {
    on_bridges(world, 60)
}

/// The same on the machine's Open vSwitch.
fn on_open_vswitch(world: &World, count: usize) -> Verdict {
    let _ovs = world.somebodys_open_vswitch()?;
    let before = world.inventory();
    many_labs(world, count, &LAB.replace("s1: {}", "s1: { backend: ovs }"));
    is_as(world, &before);
    Ok(())
}

pub(crate) fn many_labs_on_open_vswitch(world: &World) -> Verdict {
    on_open_vswitch(world, 10)
}

pub(crate) fn sixty_labs_on_open_vswitch(world: &World) -> Verdict {
    on_open_vswitch(world, 60)
}

/// The same on one of our own, which all of them start at once, and the last of them
/// ends.
fn on_our_own(world: &World, count: usize) -> Verdict {
    own_ovs::needs(world)?;
    let before = world.inventory();
    many_labs(world, count, &LAB.replace("s1: {}", "s1: { backend: ovs }"));
    own_ovs::all_ends(world);
    is_as(world, &before);
    Ok(())
}

pub(crate) fn many_labs_on_our_own(world: &World) -> Verdict {
    on_our_own(world, 10)
}

pub(crate) fn sixty_labs_on_our_own(world: &World) -> Verdict {
    on_our_own(world, 60)
}

/// Who looks at labs, and at what a crash left, beside those who make and remove them.
pub(crate) fn who_looks_is_not_troubled(world: &World) -> Verdict {
    world.file("one.yaml", LAB);
    let before = world.inventory();
    let ovsns = world.binary().display();
    let both = format!("{ovsns} up one.yaml >>said 2>&1 && {ovsns} down one >>said 2>&1");
    let line = format!("for i in 1 2 3 4 5 6 7 8; do {both} || exit 1; done; touch done");
    let worker = world.start_command(Command::new("sh").args(["-c", &line]));
    let mut looked = 0;
    let is_done = || std::path::Path::new("/run/world/done").exists();
    while !is_done() && looked < 400 {
        for words in ["list", "status one", "list --json", "status one --json", "gc", "doctor"] {
            let finished = world.ovsns(words);
            let there_is_none = finished.stderr.contains("there is no lab");
            let is_well =
                finished.status.success() || (words.starts_with("status") && there_is_none);
            assert!(is_well, "{finished}");
            looked += 1;
        }
    }
    let said = std::fs::read_to_string("/run/world/said").unwrap_or_default();
    assert!(worker.finish().status.success(), "{said}");
    assert!(10 < looked, "only {looked} looks");
    is_as(world, &before);
    Ok(())
}

/// Awaits that all is as it was: the kernel takes its time with namespaces that end.
#[track_caller]
fn is_as(world: &World, before: &Inventory) {
    until("the last namespace is gone", || {
        world.namespaces().iter().all(|name| !name.contains('.'))
    });
    world.settled();
    world.inventory().must_equal(before);
}
