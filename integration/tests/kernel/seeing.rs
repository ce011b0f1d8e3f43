//! `ovsns top` and `ovsns graph` on a lab that runs.
//!
//! ```text
//! n1 -- s1 -- s2 -- n2,  n1 -- n3
//! ```

use std::process::Command;

use serde_json::{Value, json};
use world::{Running, Verdict, World, until};

const LAB: &str = "
name: seen
switches: { s1: {}, s2: {} }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] }, eth1: { addresses: [10.0.9.1/30] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  n3: { interfaces: { eth0: { addresses: [10.0.9.2/30] } } }
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s2]
  - endpoints: [s1, s2]
  - endpoints: [n1:eth1, n3:eth0]
";

fn up(world: &World) {
    world.file("seen.yaml", LAB);
    world.ovsns("up seen.yaml").ok();
    world.pings("seen.n1", "10.0.0.2");
    world.pings("seen.n1", "10.0.9.2");
}

/// What passed each link by what `top` says, from a reading on.
#[derive(Default)]
struct Sums(Vec<([String; 2], [f64; 2], [f64; 2])>);

impl Sums {
    fn add(&mut self, reading: &Value) {
        let seconds = reading["seconds"].as_f64().expect("seconds");
        for link in reading["links"].as_array().expect("links") {
            let end = |at: usize| link["ends"][at].as_str().expect("an end").to_owned();
            let ends = [end(0), end(1)];
            let passed = |key: &str| {
                [0, 1].map(|way: usize| link[key][way].as_f64().expect("a number") * seconds)
            };
            let (packets, bits) = (passed("packets_per_s"), passed("bits_per_s"));
            match self.0.iter_mut().find(|it| it.0 == ends) {
                None => self.0.push((ends, packets, bits)),
                Some((_, p, b)) => (0..2).for_each(|way| {
                    p[way] += packets[way];
                    b[way] += bits[way];
                }),
            }
        }
    }

    fn of(&self, ends: [&str; 2]) -> ([f64; 2], [f64; 2]) {
        let found = self.0.iter().find(|it| it.0 == ends);
        found.map(|it| (it.1, it.2)).unwrap_or_default()
    }
}

fn reading(top: &mut Running) -> Value {
    serde_json::from_str(&top.line_with("\"links\"")).expect("an object a line")
}

const ALL: [[&str; 2]; 4] =
    [["n1:eth0", "s1"], ["n2:eth0", "s2"], ["s1", "s2"], ["n1:eth1", "n3:eth0"]];

/// 300 pings with 1000 bytes are 300 frames of 1042 there, and as many back: on each
/// link, with and without a device, and counted at either end of it.
pub(crate) fn rates_are_what_was_sent(world: &World) -> Verdict {
    let _ovs = (world.backend() == "ovs").then(|| world.open_vswitch(&[])).transpose()?;
    up(world);
    let mut top =
        world.start(&format!("{} top seen --json --interval 0.2", world.binary().display()));
    reading(&mut top);
    let sent = "ping -q -c 300 -i 0.002 -s 1000";
    world.run(&format!("ip netns exec seen.n1 {sent} 10.0.0.2"));
    world.run(&format!("ip netns exec seen.n3 {sent} 10.0.9.1"));
    let mut sums = Sums::default();
    let mut last = Value::Null;
    // Told by bytes: the small frames of neighbours would make up for pings to come.
    until("all of them are told", || {
        last = reading(&mut top);
        sums.add(&last);
        ALL.iter().all(|ends| sums.of(*ends).1.iter().all(|bits| 299.5 * 1042.0 < bits / 8.0))
    });
    for ends in ALL {
        let (packets, bits) = sums.of(ends);
        for way in [0, 1] {
            // A neighbour may be looked for now and then, and groups.
            let (frames, bytes) = (packets[way], bits[way] / 8.0);
            assert!((299.5..330.0).contains(&frames), "{ends:?} {way}: {frames} frames");
            let range = 299.5 * 1042.0..300.0 * 1042.0 + 30.0 * 200.0;
            assert!(range.contains(&bytes), "{ends:?} {way}: {bytes} bytes");
        }
    }
    let counted = |ends: [&str; 2]| {
        let links = last["links"].as_array().expect("links");
        links.iter().find(|link| link["ends"] == json!(ends)).expect("it is there")["counted_by"]
            .clone()
    };
    assert_eq!(counted(["n1:eth0", "s1"]), "kernel");
    let trunk = if world.backend() == "ovs" { "open vswitch" } else { "kernel" };
    assert_eq!(counted(["s1", "s2"]), trunk);
    world.ovsns("top seen --once --interval 0.2").ok().says("n1:eth0 -- s1");
    world.ovsns("top nowhere --once").code(2).says("there is no lab `nowhere`");
    Ok(())
}

/// What goes one way is not told as going the other, and its limit is known.
pub(crate) fn a_way_is_told_from_the_way_back(world: &World) -> Verdict {
    world.needs("iperf3")?;
    up(world);
    world.ovsns("link set n1 s1 --rate 10mbit").ok();
    let _server = world.start("ip netns exec seen.n2 iperf3 -s -1");
    until("somebody listens", || {
        world.run("ip netns exec seen.n2 ss -Htln sport = 5201").stdout.contains("5201")
    });
    let _client = world.start("ip netns exec seen.n1 iperf3 -c 10.0.0.2 -u -b 12M -t 20");
    let mut top =
        world.start(&format!("{} top seen --json --interval 0.5", world.binary().display()));
    let link = |reading: &Value, ends: [&str; 2]| {
        let links = reading["links"].as_array().expect("links");
        links.iter().find(|link| link["ends"] == json!(ends)).expect("it is there").clone()
    };
    let bits = |link: &Value, way: usize| link["bits_per_s"][way].as_f64().expect("a number");
    // 10 Mbit/s of a limit, within 5 %, there; and next to nothing back.
    let mut seen = Value::Null;
    until("the limit is reached", || {
        seen = reading(&mut top);
        (9.5e6..10.5e6).contains(&bits(&link(&seen, ["n1:eth0", "s1"]), 0))
    });
    for (ends, way) in [(["n1:eth0", "s1"], 0), (["s1", "s2"], 0), (["n2:eth0", "s2"], 1)] {
        let link = link(&seen, ends);
        assert!(100.0 * bits(&link, 1 - way) < bits(&link, way), "{link}");
    }
    let used = link(&seen, ["n1:eth0", "s1"])["used_percent"].as_f64().expect("a limit");
    assert!((95.0..105.0).contains(&used), "{used}");
    Ok(())
}

/// A terminal is given back as it was, however `top` ends; it fits a small one, too.
pub(crate) fn a_terminal_is_given_back(world: &World) -> Verdict {
    up(world);
    let top = format!("{} top seen --interval 0.2", world.binary().display());
    for end in ["q", "\x03", "TERM", "INT", "HUP"] {
        let line = format!(
            "echo before $(stty -g); {top} < /dev/tty & echo $! > top.pid; wait $!; \
             echo ended $?; echo after $(stty -g)"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &line]).env("TERM", "xterm");
        let mut terminal = world.terminal(&command);
        until("all is shown", || {
            let shown = terminal.display();
            shown.contains("n1:eth1 -- n3:eth0") && shown.contains("sort: rate")
        });
        terminal.press("s");
        until("it is sorted otherwise", || terminal.display().contains("sort: packets"));
        terminal.press("p");
        until("it pauses", || terminal.display().contains("PAUSED"));
        terminal.resize(6, 40);
        until("it fits", || {
            let shown = terminal.display();
            shown.contains("-> BIT/S")
                && !shown.contains("PKT/S")
                && shown.contains(" 1 more")
                && shown.lines().nth(5).is_some_and(|line| line.starts_with("q quit"))
        });
        match end.len() {
            1 => terminal.press(end),
            _ => drop(world.sh(&format!("kill -{end} $(cat top.pid)"))),
        }
        let end = terminal.finish().ok().says("ended 0");
        let state = |word: &str| {
            let at = end.stdout.find(word).expect("it is told") + word.len();
            end.stdout[at..].split_whitespace().next().map(str::to_owned)
        };
        assert_eq!(state("before "), state("after "), "{end}");
        assert!(end.stdout.contains("\x1b[?1049l") && end.stdout.contains("\x1b[?25h"), "{end}");
    }
    Ok(())
}

/// What comes and goes while it is watched comes and goes in what is told.
pub(crate) fn links_come_and_go_while_they_are_watched(world: &World) -> Verdict {
    up(world);
    let mut top =
        world.start(&format!("{} top seen --json --interval 0.1", world.binary().display()));
    let mut ends = |wanted: &[[&str; 2]]| {
        let mut wanted: Vec<Value> = wanted.iter().map(|ends| json!(ends)).collect();
        wanted.sort_by_key(ToString::to_string);
        until(&format!("{wanted:?} are told"), || {
            let reading = reading(&mut top);
            let links = reading["links"].as_array().expect("links");
            let all = |link: &Value| {
                (0..2).all(|way| link["bits_per_s"][way].as_f64().is_some_and(|it| it < 1e9))
            };
            assert!(links.iter().all(all), "{reading}");
            let mut seen: Vec<Value> = links.iter().map(|link| link["ends"].clone()).collect();
            seen.sort_by_key(ToString::to_string);
            seen == wanted
        });
    };
    ends(&ALL);
    world.ovsns("node rm n3").ok();
    ends(&ALL[..3]);
    world.ovsns("node add n4 --link s1").ok();
    ends(&[&ALL[..3], &[["n4:eth0", "s1"]]].concat());
    world.ovsns("node rm n4").ok();
    world.ovsns("node add n4 --link s2").ok();
    ends(&[&ALL[..3], &[["n4:eth0", "s2"]]].concat());
    world.ovsns("down seen").ok();
    top.finish().code(2);
    Ok(())
}

/// What somebody broke shows in the picture, and Graphviz reads it.
pub(crate) fn a_picture_shows_what_is_down(world: &World) -> Verdict {
    let _ovs = (world.backend() == "ovs").then(|| world.open_vswitch(&[])).transpose()?;
    world.needs("dot")?;
    up(world);
    let states = || {
        let graph = world.ovsns("graph seen --json").ok().json();
        let bad = |kind: &str| -> Vec<String> {
            let all = graph[kind].as_array().expect("a list").iter();
            let bad = all.filter(|it| it["state"] != "up");
            bad.map(|it| format!("{} {}", it["id"], it["state"]).replace('"', "")).collect()
        };
        [bad("nodes"), bad("edges")].concat()
    };
    world.settled();
    until("all is up", || states().is_empty());
    world.run("ip -n seen.n2 link set eth0 down");
    assert_eq!(states(), ["n2:eth0 -- s2 down"]);
    world.ovsns("graph seen").ok().says("[down]");
    world.run("ip -n seen.n2 link set eth0 up");
    world.ovsns("link down n2 s2").ok();
    until("it is held down", || states() == ["n2:eth0 -- s2 held_down"]);
    world.ovsns("link up n2 s2").ok();
    world.ovsns("cut n1 from n2").ok();
    world.ovsns("graph seen").ok().says("n1 from n2");
    world.ovsns("heal").ok();
    let backend = if world.backend() == "ovs" { "ovs netdev" } else { "linux" };
    world.ovsns("graph seen").ok().says(&format!("s1  switch  {backend}"));
    world.run("ip netns delete seen.n3");
    until("n3 is missing", || states() == ["n3 missing", "n1:eth1 -- n3:eth0 missing"]);
    for format in ["text", "dot", "mermaid", "svg"] {
        world.ovsns(&format!("graph seen --format {format}")).ok().says("missing");
    }
    world.ovsns("graph seen --format dot -o seen.dot").ok();
    world.run("dot -Tsvg seen.dot").says("<svg").says("n1");
    world.ovsns("graph nowhere").code(2).says("there is no lab `nowhere`");
    Ok(())
}
