//! The server: the same as without it, to whom it may be, through all that clients
//! do to it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use world::{Finished, Running, Verdict, World, until};

use crate::TWO_NODES;

const SOCKET: &str = "/run/ovsns/ovsns.sock";

/// A server that takes clients.
fn server(world: &World, words: &str) -> Running {
    let mut command = world.command();
    let running = world.start_command(command.arg("serve").args(words.split_whitespace()));
    until("the server takes clients", || UnixStream::connect(SOCKET).is_ok());
    running
}

/// A client that says a line a message.
struct Client {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Client {
    fn new() -> Self {
        let stream = UnixStream::connect(SOCKET).expect("a server");
        let lines = BufReader::new(stream.try_clone().expect("a file"));
        Self { stream, lines }
    }

    fn say(&mut self, text: &str) {
        self.stream.write_all(format!("{text}\n").as_bytes()).expect("it listens");
    }

    fn hears(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|cause| panic!("{cause}: {line:?}"))
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let message = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        self.say(&message.to_string());
        self.hears()
    }

    #[track_caller]
    fn refused(&mut self, text: &str, code: i64) {
        self.say(text);
        let answer = self.hears();
        assert_eq!(answer["error"]["code"], code, "{text}: {answer}");
    }
}

/// Without the numbers: times, and of processes.
fn words(finished: &Finished) -> (Option<i32>, String, String) {
    let masked = |text: &str| {
        let mut masked = String::new();
        for letter in text.chars().map(|letter| if letter.is_ascii_digit() { '#' } else { letter })
        {
            if letter != '#' || !masked.ends_with('#') {
                masked.push(letter);
            }
        }
        masked
    };
    (finished.status.code(), masked(&finished.stdout), masked(&finished.stderr))
}

/// What is typed, one after the other.
const TYPED: [&str; 29] = [
    "up two.yaml",
    "up two.yaml",
    "up --again",
    "up bad.yaml",
    "up --topo single,3 --lab other",
    "plan two.yaml --json",
    "list",
    "status",
    "down other",
    "list --json",
    "node list",
    "switch list --json",
    "link list",
    "node add n3 --link b.1.1",
    "node add n3",
    "node restart n1",
    "link set n1 b.1.1 --mtu 1400 isolated=true",
    "link set n1 b.1.1",
    "link down n1 b.1.1",
    "link up n1 b.1.1",
    "cut n1 from n2",
    "heal nothing",
    "heal",
    "switch set b.1.1 ageing=100",
    "node rm nobody",
    "attach nobody0",
    "confirm",
    "down --all",
    "gc",
];

/// n1 -- b.1.1 -- n2
pub(crate) fn it_is_the_same_as_without(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    world.file("bad.yaml", "nodes: { a: { interface: {} } }");
    let before = world.inventory();
    let alone: Vec<_> = TYPED.iter().map(|typed| words(&world.ovsns(typed))).collect();
    world.inventory().must_equal(&before);
    let server = server(world, "");
    // Whoever may not do it himself has it done.
    let ask = |typed: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(world.binary());
        let output = command.args(typed.split(' ')).output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Finished { command: typed.to_owned(), status: output.status, stdout, stderr }
    };
    for (typed, alone) in TYPED.iter().zip(alone) {
        assert_eq!(words(&ask(typed)), alone, "`ovsns {typed}`");
    }
    assert_eq!(ask("--no-server list").status.code(), Some(1), "not without it");
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// Each message as the standard has it, and each that is none.
pub(crate) fn a_message_a_line(world: &World) -> Verdict {
    let _server = server(world, "");
    let mode = |path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(SOCKET), mode("/run/ovsns")), (0o600, 0o700));
    let mut client = Client::new();

    // The document is what the command prints, and says of every method how it is
    // called.
    let document = client.call("rpc.discover", Value::Null)["result"].clone();
    assert_eq!(document, world.ovsns("api").ok().json());
    let methods = document["methods"].as_array().expect("methods");
    for name in ["lab.up", "lab.down", "lab.plan", "lab.list", "lab.status", "node.exec"]
        .into_iter()
        .chain(["link.set", "nic.attach", "nic.confirm", "nic.detach", "doctor", "call.follow"])
    {
        let method = methods.iter().find(|method| method["name"] == name);
        let method = method.unwrap_or_else(|| panic!("no {name}"));
        assert!(!method["description"].as_str().expect("words").is_empty(), "{method}");
    }

    // Nothing but refusals of what is no message, and the client stays.
    client.refused("{", -32700);
    client.refused("{}", -32600);
    client.refused("[]", -32600);
    client.refused(r#"{"jsonrpc":"2.0","id":1,"method":"lab.upp"}"#, -32601);
    client.refused(r#"{"jsonrpc":"2.0","id":1,"method":"lab.up","params":{"lib":1}}"#, -32602);
    client.refused(r#"{"jsonrpc":"2.0","id":1,"method":"lab.up","params":{}}"#, -32002);
    for method in ["lab.up", "lab.plan"] {
        let params = json!({ "again": true, "shape": "single,2" });
        let refused = client.call(method, params);
        assert_eq!(refused["error"]["code"], -32002, "{refused}");
    }
    let deep = "[".repeat(100_000);
    client.refused(&deep, -32700);
    let refused = client.call("lab.up", json!({ "topology": "nodes: { a: { x: 1 } }" }));
    let failure = &refused["error"]["data"];
    assert_eq!(failure["status"], 2, "{refused}");
    assert!(failure["message"].as_str().is_some_and(|it| it.contains("unknown key")), "{refused}");

    // As a tree, and as text; heard all the while.
    let made = client
        .call("lab.up", json!({ "topology": { "name": "t", "nodes": { "a": {}, "b": {} } } }));
    assert_eq!(made["result"]["nodes"], 2, "{made}");
    let follow = json!({ "method": "lab.up", "params": { "topology": TWO_NODES } });
    let subscription = client.call("call.follow", follow)["result"].clone();
    let (mut progress, mut told) = (0, Vec::new());
    let answer = loop {
        let heard = client.hears()["params"].clone();
        assert_eq!(heard["subscription"], subscription);
        match &heard["result"] {
            it if it["news"]["progress"].is_object() => progress += 1,
            it if it["news"]["told"].is_string() => told.push(it["news"]["told"].to_string()),
            last => break last.clone(),
        }
    };
    assert_eq!(answer["answer"]["lab"], "two-nodes", "{answer}");
    // By name and by position.
    let subscription = |client: &mut Client| {
        let follow = json!({ "method": "node.exec", "params": { "node": "n1", "command": ["sleep", "4754"] } });
        client.call("call.follow", follow)["result"].clone()
    };
    let id = subscription(&mut client);
    assert_eq!(client.call("call.unfollow", json!({ "subscription": id }))["result"], true);
    let id = subscription(&mut client);
    assert_eq!(client.call("call.unfollow", json!([id]))["result"], true);
    assert!(0 < progress && told.iter().any(|told| told.contains("backend: ")), "{told:?}");
    world.pings("two-nodes.n1", "10.0.0.2");

    // Several at once, of which one wants no answer.
    client.say(
        r#"[{"jsonrpc":"2.0","id":"x","method":"lab.list"},
            {"jsonrpc":"2.0","method":"server.info"}, 3]"#
            .replace('\n', " ")
            .as_str(),
    );
    let both = client.hears();
    let both = both.as_array().expect("a list");
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!((&both[0]["id"], both[0]["result"][0]["state"].as_str()), (&json!("x"), Some("up")));

    // What runs in a node is what `exec` runs there.
    let command = json!({ "node": "two-nodes/n1", "command": ["cat"], "input": "heard" });
    assert_eq!(client.call("node.exec", command)["result"]["stdout"], "heard");
    let sleep = json!({ "node": "two-nodes/n1", "command": ["sleep", "60"], "timeout": 0.1 });
    assert_eq!(client.call("node.exec", sleep)["result"]["timed_out"], true);
    // What it leaves behind is not waited for.
    let command = ["sh", "-c", "echo before; sleep 4753 & exit 3"];
    let behind = client.call("node.exec", json!({ "node": "n1", "command": command }));
    assert_eq!(
        (&behind["result"]["stdout"], &behind["result"]["status"]),
        (&json!("before\n"), &json!(3))
    );
    for wrong in [
        json!({ "node": "two-nodes/n9", "command": ["true"] }),
        json!({ "node": "n9", "command": ["true"] }),
        json!({ "node": "n1", "command": ["true"], "timeout": 0 }),
    ] {
        assert_eq!(client.call("node.exec", wrong)["error"]["code"], -32002);
    }
    let none = json!({ "node": "two-nodes/n1", "command": ["no-such-program"] });
    assert_eq!(client.call("node.exec", none)["result"]["status"], 127);
    let gone = client.call("lab.down", json!({ "all": true }));
    assert_eq!(gone["result"]["failures"], json!([]), "{gone}");
    Ok(())
}

pub(crate) fn a_program_with_nothing_but_python(world: &World) -> Verdict {
    world.needs("python3")?;
    let before = world.inventory();
    let server = server(world, "");
    let ran = {
        world.file("api.py", &world.example("api.py"));
        world.run("python3 api.py")
    };
    for line in ["up: 2 nodes, 2 links", "ping: answered", "link down: not answered", "by-program"]
    {
        assert!(ran.stdout.contains(line), "{ran}");
    }
    // The same by HTTP.
    let script = "
import http.client, json, socket
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect('/run/ovsns/ovsns.sock')
http = Local('localhost')
http.request('POST', '/', json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': 'lab.list'}),
             {'Content-Type': 'application/json'})
print(json.loads(http.getresponse().read())['result'])
";
    world.file("by_http.py", script);
    assert_eq!(world.run("python3 by_http.py").stdout, "[]\n");
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// Root, whoever is in the group, and nobody else; and nobody in a node.
pub(crate) fn not_everybody_may(world: &World) -> Verdict {
    world.needs("setpriv")?;
    world.own_etc();
    world.sh("echo 'labs:x:4321:' >> /etc/group");
    let binary = world.binary_for_all();
    let somebody = |group: u32, words: &str| {
        let user = format!("--reuid=1234 --regid={group} --clear-groups --bounding-set=-all");
        world.attempt(&format!("setpriv {user} {} {words}", binary.display()))
    };
    world.file("two.yaml", TWO_NODES);
    let first = server(world, "");
    somebody(4321, "list").code(1).says("CAP_NET_ADMIN");
    // There is one server, and the second says so.
    world.ovsns("serve").code(1).says("is at `/run/ovsns/ovsns.sock` already");
    first.signal(Signal::SIGINT);
    first.finish().ok();

    world.ovsns("serve --group nobodys").code(1).says("there is no group `nobodys`");
    let _server = server(world, "--group labs");
    somebody(4321, "up --topo single,2 --lab theirs").ok();
    somebody(1233, "list").code(1).says("CAP_NET_ADMIN");
    assert_eq!(world.namespaces(), ["theirs.h1", "theirs.h2"]);
    // A node's root is not the machine's as far as labs are concerned.
    let inside = format!("ip netns exec theirs.h1 {} list", world.binary().display());
    world.attempt(&inside).code(2).says("this is inside node");
    let script = "
import socket
client = socket.socket(socket.AF_UNIX)
client.connect('/run/ovsns/ovsns.sock')
print(client.makefile().readline())
";
    world.file("client.py", script);
    let said = world.run("ip netns exec theirs.h1 python3 client.py");
    assert!(said.stdout.contains("another network namespace"), "{said}");
    world.ovsns("down --all").ok();
    Ok(())
}

/// A server elsewhere changes nothing of the place it is in, and takes no name of
/// others.
pub(crate) fn elsewhere_nothing_of_others_is_touched(world: &World) -> Verdict {
    world.own_etc();
    world.sh("echo 'labs:x:4321:' >> /etc/group");
    world.sh("mkdir -m 700 /run/theirs; touch /run/theirs/a.lock /run/theirs/b.sock.lock");
    world.sh("ln -s /run/theirs/a.lock /run/theirs/c.sock.lock");
    let before = world.inventory();
    let mut command = world.command();
    command.args(["serve", "--socket", "/run/theirs/a.sock", "--group", "labs"]);
    let elsewhere = world.start_command(&mut command);
    until("it takes clients", || UnixStream::connect("/run/theirs/a.sock").is_ok());
    elsewhere.signal(Signal::SIGTERM);
    elsewhere.finish().ok();
    world.inventory().must_equal(&before);
    // The lock would be a file of others; the name is a live socket of others.
    world.ovsns("serve --socket /run/theirs/c.sock").code(1).says("c.sock");
    let theirs = std::os::unix::net::UnixListener::bind("/run/theirs/d.sock").expect("a name");
    world.ovsns("serve --socket /run/theirs/d.sock").code(1).says("already");
    UnixStream::connect("/run/theirs/d.sock").expect("it is still there");
    drop(theirs);
    world.run("rm /run/theirs/d.sock");
    world.inventory().must_equal(&before);
    Ok(())
}

/// Commands in nodes end with whoever asked for them, keep nobody else waiting, and
/// do not keep the server.
pub(crate) fn commands_in_nodes_end_with_who_asked(world: &World) -> Verdict {
    let server = server(world, "");
    world.ovsns("up --topo single,1 --lab l").ok();
    let runs = |what: &str| world.processes().iter().any(|(_, command)| command.contains(what));
    let sleep = |seconds: &str| {
        let command = json!({ "node": "l/h1", "command": ["sleep", seconds] });
        json!({ "jsonrpc": "2.0", "id": 1, "method": "node.exec", "params": command }).to_string()
    };
    let mut gone = Client::new();
    gone.say(&sleep("4751"));
    until("it runs", || runs("sleep 4751"));
    drop(gone);
    until("it has ended", || !runs("sleep 4751"));
    // More of them than calls there may be at once.
    let mut many: Vec<_> = (0..30).map(|_| Client::new()).collect();
    many.iter_mut().for_each(|client| client.say(&sleep("4752")));
    until("they run", || runs("sleep 4752"));
    world.ovsns("list").ok().says("up");
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    assert!(!runs("sleep 4752"));
    world.ovsns("down").ok();
    Ok(())
}

/// Who interrupts a command is told that it is the server's.
pub(crate) fn what_is_interrupted_goes_on(world: &World) -> Verdict {
    let _server = server(world, "");
    let ovsns = world.binary().display();
    let line = format!("exec {ovsns} up --topo single,150 --lab big --backend linux 2>&1");
    let asking = world.start_command(Command::new("sh").args(["-c", &line]));
    until("it is at work", || std::path::Path::new("/run/ovsns/labs/big/journal.json").exists());
    asking.signal(Signal::SIGINT);
    asking.finish().code(130).says("the server goes on").says("`ovsns status`");
    until("it is done", || {
        let listed: Value = world.ovsns("list --json").ok().json();
        listed[0]["state"] == "up"
    });
    world.ovsns("plan --topo single,150 --lab big --backend linux").ok().says("nothing to change");
    world.ovsns("down").ok();
    Ok(())
}

/// What it is at when it is told to end is done; when it is killed, whoever comes
/// next goes on.
pub(crate) fn it_ends_as_it_should(world: &World) -> Verdict {
    let before = world.inventory();
    let first = server(world, "");
    let mut client = Client::new();
    let up = json!({ "method": "lab.up", "params": { "shape": "single,150", "lab": "big", "backend": "linux" } });
    client.call("call.follow", up);
    let at_work = |client: &mut Client| {
        while client.hears()["params"]["result"]["news"]["progress"].is_null() {}
    };
    at_work(&mut client);
    first.signal(Signal::SIGTERM);
    let last = loop {
        let heard = client.hears()["params"]["result"].clone();
        if heard["news"].is_null() {
            break heard;
        }
    };
    assert_eq!(last["answer"]["nodes"], 150, "{last}");
    first.finish().ok();
    assert!(!std::path::Path::new(SOCKET).exists());
    world.ovsns("plan --topo single,150 --lab big --backend linux").ok().says("nothing to change");

    // Killed in the middle, it leaves its socket and a journal.
    let second = server(world, "");
    let mut client = Client::new();
    client.call("call.follow", json!({ "method": "lab.down", "params": { "lab": "big" } }));
    at_work(&mut client);
    second.signal(Signal::SIGKILL);
    second.finish();
    world.ovsns("list").ok().says("cut off");
    let third = server(world, "");
    world.ovsns("up --topo single,150 --lab big --backend linux").ok();
    world.ovsns("plan --topo single,150 --lab big --backend linux").ok().says("nothing to change");
    world.ovsns("down").ok();
    third.signal(Signal::SIGTERM);
    third.finish().ok();
    until("the last namespace is gone", || world.namespaces().is_empty());
    world.inventory().must_equal(&before);
    Ok(())
}

/// Clients that talk nonsense, stop reading, go in the middle, and say too much:
/// others are served, and the server is not the bigger for it.
pub(crate) fn bad_clients_harm_nobody(world: &World) -> Verdict {
    let server = server(world, "");
    let id = server.id();
    let files = || std::fs::read_dir(format!("/proc/{id}/fd")).expect("it runs").count();
    let threads = || std::fs::read_dir(format!("/proc/{id}/task")).expect("it runs").count();
    let of_its_own = threads();
    world.ovsns("up --topo single,20 --lab l").ok();
    until("the first call has ended", || threads() == of_its_own);
    let at_rest = (files(), threads());
    let status = json!({ "jsonrpc": "2.0", "id": 1, "method": "lab.status" }).to_string();

    // They ask, and never read.
    let mut deaf: Vec<Client> = (0..20).map(|_| Client::new()).collect();
    for client in &mut deaf {
        client.stream.set_nonblocking(true).expect("a socket");
        for _ in 0..200 {
            if client.stream.write_all(format!("{status}\n").as_bytes()).is_err() {
                break;
            }
        }
    }
    // They go as soon as they have asked, or in the middle of it.
    for _ in 0..50 {
        Client::new().say(&status);
        Client::new().stream.write_all(&status.as_bytes()[..20]).expect("it listens");
    }
    // One says more than any topology.
    let mut endless = Client::new();
    let piece = vec![b'x'; 1 << 20];
    let said = (0..100).take_while(|_| endless.stream.write_all(&piece).is_ok()).count();
    assert!(said < 100, "100 MiB were taken");
    for rubbish in ["\0\0\0\0", "GET / HTTP/1.1\r\n\r\n", "POST / HTTP/9", "\u{fffd}\n\n\n"] {
        Client::new().stream.write_all(rubbish.as_bytes()).expect("it listens");
    }

    // Meanwhile many are served at once.
    let served = std::thread::scope(|threads| {
        let client = || {
            let mut client = Client::new();
            (0..5).filter(|_| client.call("lab.list", json!({}))["result"].is_array()).count()
        };
        let clients: Vec<_> = (0..40).map(|_| threads.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().expect("served")).sum::<usize>()
    });
    assert_eq!(served, 200);
    drop(deaf);
    drop(endless);
    let open = || {
        let files = std::fs::read_dir(format!("/proc/{id}/fd")).expect("it runs");
        let file = |file: std::io::Result<std::fs::DirEntry>| file.ok()?.path().read_link().ok();
        files.filter_map(file).map(|file| file.display().to_string()).collect::<Vec<_>>()
    };
    until(&format!("it is as at rest, {at_rest:?}"), || {
        let reached = files() <= at_rest.0 && threads() <= at_rest.1;
        if !reached {
            println!("{} threads, {:?}", threads(), open());
        }
        reached
    });
    let said = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let peak = said.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    let peak: u32 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 400 << 10, "{peak} KiB");
    world.ovsns("down").ok();
    server.signal(Signal::SIGTERM);
    server.finish().ok();
    Ok(())
}
