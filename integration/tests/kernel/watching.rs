//! What the server hears by itself: what happens to labs is told, and what drifts is
//! mended if that is wished.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use world::{Running, Verdict, World, until, until_within};

const SOCKET: &str = "/run/ovsns/ovsns.sock";

/// a, b -- s1 -- s2 -- c; a runs something.
const LAB: &str = "
name: w
switches: { s1: {}, s2: {} }
nodes:
  a: { run: [{ name: web, command: [sleep, '1000'], restart: always }] }
  b: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  c: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
links:
  - endpoints: [a, s1]
  - endpoints: [b, s1]
  - endpoints: [c, s2]
  - endpoints: [s1, s2]
";

fn server(world: &World, words: &str) -> Running {
    let mut command = world.command();
    let running = world.start_command(command.arg("serve").args(words.split_whitespace()));
    until("the server takes clients", || UnixStream::connect(SOCKET).is_ok());
    running
}

/// Somebody who has subscribed.
struct Subscriber {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Subscriber {
    fn to(method: &str, params: Value) -> Self {
        let mut stream = UnixStream::connect(SOCKET).expect("a server");
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        stream.write_all(format!("{message}\n").as_bytes()).expect("it listens");
        let mut subscriber =
            Self { lines: BufReader::new(stream.try_clone().expect("a file")), stream };
        let answer = subscriber.message();
        assert!(answer["result"].is_number(), "{method}: {answer}");
        subscriber
    }

    fn message(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|cause| panic!("{cause}: {line:?}"))
    }

    fn next(&mut self) -> Value {
        self.message()["params"]["result"].clone()
    }

    /// Awaits an event; what comes before it is none of those that `never` names.
    #[track_caller]
    fn hears(&mut self, kind: &str, thing: &str, name: &str) -> Value {
        let limit = std::time::Duration::from_secs(15);
        self.stream.set_read_timeout(Some(limit)).expect("a limit");
        let mut heard = Vec::new();
        loop {
            let mut line = String::new();
            if !matches!(self.lines.read_line(&mut line), Ok(1..)) {
                panic!("no {kind} of {thing} {name:?}, but {heard:#?}");
            }
            let message: Value = serde_json::from_str(&line).expect("JSON");
            let event = message["params"]["result"].clone();
            if (&event["kind"], &event["thing"], &event["name"])
                == (&json!(kind), &json!(thing), &json!(name))
            {
                return event;
            }
            heard.push(event);
        }
    }
}

/// Each thing that happens, and in words.
pub(crate) fn what_happens_is_told(world: &World) -> Verdict {
    let _ovs = (world.backend() == "ovs").then(|| world.open_vswitch(&[])).transpose()?;
    let before = world.inventory();
    let server = server(world, "");
    world.file("w.yaml", LAB);
    let mut events = Subscriber::to("fabric.events", json!({ "lab": "w" }));
    world.ovsns("up w.yaml").ok();
    let made = events.hears("made", "lab", "");
    assert_eq!((&made["lab"], &made["text"]), (&json!("w"), &json!("lab w is up")));
    // Asked for.
    world.ovsns("link down b s1").ok();
    let down = events.hears("down", "link", "b:eth0 -- s1");
    assert_eq!(down["text"], "link b:eth0 -- s1 is down, as it was asked for");
    world.ovsns("link up b s1").ok();
    events.hears("up", "link", "b:eth0 -- s1");
    world.ovsns("node add d --link s1 --lab w").ok();
    events.hears("made", "node", "d");
    world.ovsns("node rm d --lab w").ok();
    events.hears("gone", "node", "d");
    // Behind our back: in a node, between switches, of the machine's names.
    world.run("ip -n w.c addr del 10.0.0.3/24 dev eth0");
    let changed = events.hears("changed", "interface", "c:eth0");
    assert!(
        changed["text"]
            .as_str()
            .is_some_and(|it| it.starts_with("interface c:eth0: addresses 10.")),
        "{changed}"
    );
    let drifted = events.hears("drifted", "lab", "");
    assert!(drifted["text"].as_str().is_some_and(|it| it.contains("10.0.0.3/24")), "{drifted}");
    world.ovsns("up w.yaml").ok();
    events.hears("mended", "lab", "");
    world.run("ip -n w.b link del eth0");
    events.hears("gone", "link", "b:eth0 -- s1");
    events.hears("drifted", "lab", "");
    world.run("ip netns del w.c");
    events.hears("gone", "node", "c");
    world.ovsns("up w.yaml").ok();
    events.hears("made", "node", "c");
    // A process, which is started again.
    let status = world.ovsns("status w --json").ok().json();
    let nodes = status["nodes"].as_array().expect("nodes");
    let node = nodes.iter().find(|node| node["name"] == "a").expect("a");
    let pid = node["processes"][0]["pid"].as_i64().expect("it runs");
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), Signal::SIGKILL).expect("it runs");
    let ended = events.hears("ended", "process", "a/web");
    assert!(ended["text"].as_str().is_some_and(|it| it.contains("SIGKILL")), "{ended}");
    events.hears("ready", "process", "a/web");
    world.ovsns("down w").ok();
    events.hears("gone", "lab", "");
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// What the database tells: a port that others have broken, a controller that comes.
pub(crate) fn what_a_database_tells_is_told(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let _server = server(world, "");
    world.file(
        "w.yaml",
        &format!("{LAB}\n").replace("s2: {}", "s2: { controllers: ['tcp:127.0.0.1:6653'] }"),
    );
    let mut events = Subscriber::to("fabric.events", json!({}));
    world.ovsns("up w.yaml --backend ovs").ok();
    events.hears("made", "lab", "");
    let _listener = world.start("ovs-testcontroller ptcp:6653:127.0.0.1");
    let target = "tcp:127.0.0.1:6653";
    let connected = events.hears("changed", "controller", &format!("s2/{target}"));
    assert!(
        connected["text"].as_str().is_some_and(|it| it.contains("is connected")),
        "{connected}"
    );
    let port = world.ovs_port("w", "b:eth0");
    world.vsctl(&format!("set port {port} tag=7"));
    events.hears("drifted", "lab", "");
    Ok(())
}

/// By itself and by the server, as lines and as JSON.
pub(crate) fn watch_prints_events(world: &World) -> Verdict {
    let at = |words: &str| {
        let line = format!("exec {} {words} 2>&1", world.binary().display());
        let mut watching =
            world.start_command(std::process::Command::new("sh").args(["-c", &line]));
        watching.line_with("watching");
        watching
    };
    world.file("w.yaml", LAB);
    for with_server in [false, true] {
        let server = with_server.then(|| server(world, ""));
        let (mut all, mut other) = (at("watch --json"), at("watch other"));
        let mut lines = at("watch w");
        world.ovsns("up w.yaml").ok();
        let made: Value = serde_json::from_str(&all.line_with("\"made\"")).expect("JSON");
        assert_eq!((&made["lab"], &made["thing"]), (&json!("w"), &json!("lab")));
        assert_eq!(lines.line_with("made"), "w  made      lab w is up");
        world.run("ip -n w.b link set eth0 down");
        lines.line_with("w  down      link b:eth0 -- s1 is down");
        lines.line_with("w  drifted   ");
        world.ovsns("down w").ok();
        lines.line_with("w  gone      lab w is gone");
        world.ovsns("up --topo single,2 --lab other").ok();
        assert_eq!(other.line_with("other"), "other  made      lab other is up", "nothing of w");
        world.ovsns("down other").ok();
        for watching in [all, other, lines] {
            watching.signal(Signal::SIGINT);
            watching.finish().ok();
        }
        if let Some(server) = server {
            server.signal(Signal::SIGTERM);
            server.finish().ok();
        }
    }
    world.ovsns("watch ../x").code(2).says("../x");
    Ok(())
}

/// 300 pings there and back, as they pass.
pub(crate) fn rates_are_told(world: &World) -> Verdict {
    let _server = server(world, "");
    world.file("w.yaml", LAB);
    world.ovsns("up w.yaml").ok();
    let mut rates = Subscriber::to("fabric.stats", json!({ "interval": 0.1 }));
    world.run("ip netns exec w.b ping -q -c 300 -i 0.002 10.0.0.3");
    let mut frames = 0.0;
    until("all of them are told", || {
        let reading = rates.next();
        let seconds = reading["seconds"].as_f64().expect("seconds");
        let links = reading["links"].as_array().expect("links");
        let link = links.iter().find(|link| link["ends"] == json!(["b:eth0", "s1"]));
        frames +=
            link.expect("it is there")["packets_per_s"][0].as_f64().expect("a rate") * seconds;
        299.5 < frames
    });
    assert!(frames < 350.0, "{frames} frames");
    // The lab is gone, and so is what is told of it.
    world.ovsns("down w").ok();
    until("nothing is told any more", || {
        rates.stream.set_read_timeout(Some(std::time::Duration::from_secs(1))).expect("a limit");
        let mut line = String::new();
        rates.lines.read_line(&mut line).is_err()
    });
    Ok(())
}

/// Packets through the server: a file that tcpdump reads, lines, an end by itself and by
/// who asked, and what there is to be overheard.
pub(crate) fn packets_are_told(world: &World) -> Verdict {
    world.needs("tcpdump")?;
    world.needs("base64")?;
    let server = server(world, "");
    world.file("w.yaml", LAB);
    world.ovsns("up w.yaml").ok();
    let files = || {
        let open = format!("/proc/{}/fd", server.id());
        std::fs::read_dir(open).expect("it runs").count()
    };
    let before = files();

    let asked = json!({ "points": ["b", "s2:c"], "filter": "icmp", "count": 8 });
    let mut pieces = Subscriber::to("capture.start", asked);
    assert_eq!(pieces.next(), json!({ "on": ["b:eth0", "s2:c:eth0"] }));
    world.run("ip netns exec w.b ping -q -c 3 -i 0.2 -s 1000 10.0.0.3");
    let mut file = String::new();
    let end = loop {
        let piece = pieces.next();
        match piece["pcapng"].as_str() {
            Some(bytes) => file.push_str(&format!("{bytes}\n")),
            None => break piece,
        }
        if file.lines().count() == 2 {
            // The first pings are told while the others have yet to come.
            world.run("ip netns exec w.b ping -q -c 1 10.0.0.3");
        }
    };
    assert_eq!(end, json!({ "ended": { "packets": 8, "dropped": 0 } }));
    // Each piece is padded by itself.
    world.file("pieces", &file);
    let decode = "while read piece; do echo $piece | base64 -d; done < pieces > all.pcapng";
    world.shell(decode).ok();
    let read = world.shell("tcpdump -n -r all.pcapng icmp").ok().stdout;
    for what in ["10.0.0.2 > 10.0.0.3: ICMP echo request", "10.0.0.3 > 10.0.0.2: ICMP echo reply"] {
        assert!(read.contains(what), "{read}");
    }
    assert_eq!(read.lines().count(), 8, "{read}");

    // Lines; a node that goes; and the end when nothing is left to be heard.
    let asked = json!({ "points": ["a", "b"], "lines": true, "filter": "arp or icmp" });
    let mut lines = Subscriber::to("capture.start", asked);
    assert_eq!(lines.next(), json!({ "on": ["a:eth0", "b:eth0"] }));
    world.run("ip netns exec w.b ping -q -c 1 10.0.0.3");
    until("the ping is told", || {
        let piece = lines.next();
        let told = piece["lines"].as_str().unwrap_or_else(|| panic!("no lines: {piece}"));
        told.contains("b:eth0 out") && told.contains("10.0.0.2") && told.ends_with('\n')
    });
    world.ovsns("node rm b").ok();
    until("that it is gone is told", || lines.next() == json!({ "told": "b:eth0 is gone" }));
    world.ovsns("node rm a").ok();
    let mut end = Value::Null;
    until("it ends", || {
        end = lines.next()["ended"].clone();
        end.is_object()
    });
    assert_eq!(end["dropped"], 0);

    // By time.
    let asked = json!({ "points": ["c"], "seconds": 1, "filter": "udp port 9" });
    let mut timed = Subscriber::to("capture.start", asked);
    timed.next();
    until("it ends", || timed.next() == json!({ "ended": { "packets": 0, "dropped": 0 } }));

    // Whoever goes leaves nothing, and what does not make sense begins nothing.
    drop((pieces, lines, timed));
    let mut left =
        Subscriber::to("capture.start", json!({ "points": ["c"], "filter": "udp port 9" }));
    left.next();
    drop(left);
    until("nothing is open any more", || files() <= before);
    let points: Vec<Value> = {
        let mut asking = UnixStream::connect(SOCKET).expect("a server");
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "capture.points" });
        asking.write_all(format!("{message}\n").as_bytes()).expect("it listens");
        let mut line = String::new();
        BufReader::new(asking).read_line(&mut line).expect("a line");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        answer["result"].as_array().expect("a list").clone()
    };
    let names: Vec<_> = points.iter().filter_map(|point| point["name"].as_str()).collect();
    assert!(["c:eth0", "s2:c:eth0", "s1:s2"].iter().all(|name| names.contains(name)), "{names:?}");
    for (asked, words) in [
        (json!({}), "it is not said where"),
        (json!({ "points": ["nobody"] }), "no `nobody`"),
        (json!({ "points": ["c"], "filter": "no such" }), "filter"),
        (json!({ "points": ["c"], "snaplen": 0 }), "`snaplen` is out of range"),
        (json!({ "points": ["c"], "count": "many" }), "invalid type"),
    ] {
        let told = refused("capture.start", &asked);
        assert!(told.contains(words), "{asked}: {told}");
    }
    Ok(())
}

/// What a subscription was refused with.
fn refused(method: &str, asked: &Value) -> String {
    let mut stream = UnixStream::connect(SOCKET).expect("a server");
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": asked });
    stream.write_all(format!("{message}\n").as_bytes()).expect("it listens");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("a line");
    let answer: Value = serde_json::from_str(&line).expect("JSON");
    assert!(answer["error"].is_object(), "{asked}: {answer}");
    answer["error"].to_string()
}

/// What was said before, what is said from now on, and the end of the node.
pub(crate) fn what_processes_say_is_told(world: &World) -> Verdict {
    let server = server(world, "");
    world.file(
        "w.yaml",
        "{ name: w, switches: { s: {} }, links: [{ endpoints: [n, s] }], nodes: { n: { run: [ \
         { name: echo, command: 'cat /mnt/pipe' }, { name: other, command: 'echo quiet' } ] } } }",
    );
    world.sh("mount -t tmpfs tmpfs /mnt && mkfifo /mnt/pipe");
    world.ovsns("up w.yaml").ok();
    let mut pipe = std::fs::OpenOptions::new().write(true).open("/mnt/pipe").expect("a pipe");
    pipe.write_all(b"first\nsecond\n").expect("it reads");
    until("it is written down", || world.ovsns("logs n echo").stdout.contains("second"));
    let files = || {
        let open = format!("/proc/{}/fd", server.id());
        std::fs::read_dir(open).expect("it runs").count()
    };
    let before = files();
    let asked = json!({ "node": "n", "process": "echo", "tail": 1 });
    let mut said = Subscriber::to("node.logs.follow", asked);
    let spoken = |lines: &[&str]| json!({ "said": { "process": "echo", "lines": lines } });
    assert_eq!(said.next(), spoken(&["second"]));
    pipe.write_all(b"thi").expect("it reads");
    pipe.write_all(b"rd\n").expect("it reads");
    assert_eq!(said.next(), spoken(&["third"]));
    for round in 0..100 {
        pipe.write_all(format!("{round}\n").as_bytes()).expect("it reads");
    }
    let mut heard = Vec::new();
    while heard.len() < 100 {
        let piece = said.next();
        let lines = piece["said"]["lines"].as_array().expect("lines").clone();
        heard.extend(lines.iter().map(|line| line.as_str().expect("a line").to_owned()));
    }
    assert_eq!(heard, (0..100).map(|round| round.to_string()).collect::<Vec<_>>());

    // Of all processes, by somebody who goes again.
    let of_one = files();
    let mut all = Subscriber::to("node.logs.follow", json!({ "node": "w/n", "tail": 1 }));
    let first = [all.next(), all.next()];
    let other = json!({ "said": { "process": "other", "lines": ["quiet"] } });
    assert_eq!(first, [spoken(&["99"]), other]);
    drop(all);
    until("nothing of it is open any more", || files() <= of_one);
    pipe.write_all(b"no end").expect("it reads");
    drop(pipe);
    world.ovsns("down w").ok();
    let mut last = Vec::new();
    until("it ends", || {
        last.push(said.next());
        last.last() == Some(&json!("ended"))
    });
    assert!(last.contains(&spoken(&["no end"])), "{last:?}");
    drop(said);
    until("nothing is open any more", || files() <= before);
    let told = refused("node.logs.follow", &json!({ "node": "n" }));
    assert!(told.contains("nothing has run in a node `n`"), "{told}");
    Ok(())
}

/// A client that does not read misses some, is told so, and harms nobody.
pub(crate) fn who_does_not_read_is_told_that_he_missed(world: &World) -> Verdict {
    let server = server(world, "");
    world.ovsns("up --topo single,60 --lab w --backend linux").ok();
    let mut slow = Subscriber::to("fabric.events", json!({}));
    let mut quick = Subscriber::to("fabric.events", json!({}));
    let status =
        || std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let resident = || -> u64 {
        let status = status();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
        line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
    };
    let mut after_some = 0;
    // 120 events each time, of some 250 bytes: links, and what is to be done about them.
    for how in ["down", "up"] {
        let lines = (1..=60).map(|node| format!("link set w:h{node}:eth0 {how}\n"));
        world.file(how, &lines.collect::<String>());
    }
    for round in 0..60 {
        for how in ["down", "up"] {
            world.run(&format!("ip -batch {how}"));
            quick.hears(how, "link", "h60:eth0 -- s1");
        }
        if round == 29 {
            after_some = resident();
        }
    }
    let all = resident();
    assert!(all < after_some + 4096, "the server grew from {after_some} to {all} KiB");
    let missed = slow.hears("missed", "lab", "");
    assert!(missed["text"].as_str().is_some_and(|it| it.contains("were missed")), "{missed}");
    // And then it hears again.
    world.run("ip -n w.h1 link set eth0 down");
    quick.hears("down", "link", "h1:eth0 -- s1");
    slow.hears("drifted", "lab", "");
    Ok(())
}

/// What is broken, and when it is whole again.
pub(crate) fn what_drifts_is_mended(world: &World) -> Verdict {
    let mut ovs = (world.backend() == "ovs").then(|| world.open_vswitch(&[])).transpose()?;
    let before = world.inventory();
    let server = server(world, "--keep");
    world.file("w.yaml", LAB);
    world.ovsns("up w.yaml").ok();
    world.settled();
    let likeness = world.likeness();
    let is_whole = |world: &World| {
        let status = world.ovsns("status w --json");
        status.status.success() && status.json()["state"] == "up"
    };
    let faults = [
        "ip -n w.b link del eth0",
        "ip -n w.c addr del 10.0.0.3/24 dev eth0",
        "ip -n w.c link set eth0 down",
        "ip netns del w.c",
        "ip link set w:s1 down",
    ];
    for fault in faults {
        world.run(fault);
        until_within(20, &format!("`{fault}` is mended"), || {
            world.ping_once("w.b", "10.0.0.3").status.success() && is_whole(world)
        });
    }
    // The keeper of a node, with all that runs there.
    let keeper = world.processes().into_iter().find(|(_, line)| line.contains("keep-node"));
    let keeper = keeper.expect("a keeper").0;
    kill(Pid::from_raw(i32::try_from(keeper).expect("a pid")), Signal::SIGKILL).expect("it runs");
    until_within(20, "there is another keeper", || {
        let mut all = world.processes().into_iter();
        all.any(|(pid, line)| line.contains("keep-node") && pid != keeper) && is_whole(world)
    });
    if let Some(ovs) = &mut ovs {
        ovs.kill_switch();
        ovs.start_switch(world);
        until_within(30, "the switch is whole again", || {
            world.ping_once("w.b", "10.0.0.3").status.success() && is_whole(world)
        });
    }
    world.settled();
    world.likeness().must_equal(&likeness);
    // What is asked for is no drift.
    world.ovsns("down w").ok();
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    if ovs.is_none() {
        world.inventory().must_equal(&before);
    }
    Ok(())
}

/// Somebody has taken a name that is needed: it is tried, and given up; and tried again
/// when the name is free.
pub(crate) fn what_cannot_be_mended_is_given_up(world: &World) -> Verdict {
    let server = server(world, "--keep");
    world.file("w.yaml", &LAB.replace("s1: {}", "s1: { device: br-w }"));
    world.ovsns("up w.yaml --backend linux").ok();
    let mut events = Subscriber::to("fabric.events", json!({}));
    // It would be mended in between.
    server.signal(Signal::SIGSTOP);
    world.run("ip link del br-w");
    world.run("ip link add br-w type veth peer name br-x");
    server.signal(Signal::SIGCONT);
    let failed = events.hears("failed", "lab", "");
    assert!(failed["text"].as_str().is_some_and(|it| it.contains("br-w")), "{failed}");
    let given_up = events.hears("given_up", "lab", "");
    assert!(given_up["text"].as_str().is_some_and(|it| it.contains("br-w")), "{given_up}");
    world.run("ip link del br-w");
    until_within(20, "it is mended", || world.ping_once("w.b", "10.0.0.3").status.success());
    Ok(())
}

/// A server that is killed in the middle of a change leaves it to the next one, which
/// makes an end of it.
pub(crate) fn killed_in_a_change_and_started_again(world: &World) -> Verdict {
    world.file("w.yaml", LAB);
    let before = world.inventory();
    let killed_at = |step: usize, typed: &str| {
        let mut command = world.command();
        command.arg("serve").env("OVSNS_KILL_AT", format!("{step},steps"));
        let doomed = world.start_command(&mut command);
        until("the server takes clients", || UnixStream::connect(SOCKET).is_ok());
        let asked = world.ovsns(typed);
        let ended = doomed.finish();
        assert!(ended.status.code().is_none(), "killed at step {step}: {ended:?}");
        asked.code(3).says("the server went away");
        std::fs::remove_file("steps").expect("it was killed");
    };
    for step in [8, 20, 33] {
        // A first one was never whole: it goes.
        killed_at(step, "up w.yaml");
        let next = server(world, "");
        assert_eq!(world.ovsns("list --json").ok().json(), json!([]), "killed at step {step}");
        next.signal(Signal::SIGTERM);
        next.finish().ok();
        world.inventory().must_equal(&before);
    }
    for step in [5, 12] {
        // One that was whole becomes so again.
        world.ovsns("up w.yaml").ok();
        world.run("ip netns del w.c");
        world.run("ip -n w.b link del eth0");
        killed_at(step, "up --again");
        let next = server(world, "");
        assert_eq!(world.ovsns("list --json").ok().json()[0]["state"], "up", "step {step}");
        world.ping_once("w.b", "10.0.0.3").ok();
        world.ovsns("down w").ok();
        next.signal(Signal::SIGTERM);
        next.finish().ok();
    }
    world.inventory().must_equal(&before);
    Ok(())
}
