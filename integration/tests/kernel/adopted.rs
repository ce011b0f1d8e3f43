//! Namespaces of others in a lab: joined to its switches, and left as they were
//! found, to the letter.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::signal::Signal;
use world::{Inventory, Running, Verdict, World, until};

use crate::crash::kill_at_every;

/// blue is somebody's namespace with a network of its own, `others:eth1`; and so
/// is one that has no name and a process in it.
struct Found {
    process: Running,
    before: Inventory,
    parameters: String,
}

impl Found {
    fn make(world: &World) -> Self {
        world.sh("
            ip netns add blue
            ip link add v0 type veth peer name eth0 netns blue
            ip -n blue link set lo up
            ip -n blue link set eth0 up alias 'their own'
            ip link set v0 up
            ip -n blue addr add 192.0.2.2/24 dev eth0
            ip -n blue addr add 2001:db8::2/64 dev eth0 nodad
            ip -n blue route add default via 192.0.2.1
            ip netns exec blue sysctl -qw net.ipv6.conf.default.disable_ipv6=1
        ");
        let process = container(world);
        // Under this name the test looks into it.
        world.run(&format!("ip netns attach look {}", process.id()));
        world.settled();
        let (before, parameters) = (world.inventory(), parameters(world));
        Self { process, before, parameters }
    }

    #[track_caller]
    fn is_as_found(&self, world: &World) {
        world.inventory().must_equal(&self.before);
        assert_eq!(parameters(world), self.parameters);
    }

    fn file(&self) -> String {
        let pid = self.process.id();
        format!(
            "name: lab
switches: {{ s1: {{}} }}
nodes:
  web:
    adopt: {{ netns: blue }}
    interfaces: {{ lab0: {{ addresses: [10.0.0.1/24, 'fd00::1/64'] }} }}
    routes: [{{ to: 10.9.0.0/16, via: 10.0.0.3 }}]
  box: {{ adopt: {{ pid: {pid} }}, interfaces: {{ lab0: {{ addresses: [10.0.0.2/24, 'fd00::2/64'] }} }} }}
  n1: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.3/24, 'fd00::3/64'] }} }} }}
links:
  - endpoints: [web, s1]
  - endpoints: [box, s1]
  - endpoints: [n1, s1]
  - endpoints: [web, box]
  - endpoints: [web, n1]
"
        )
    }
}

/// Every parameter of the networks of others.
fn parameters(world: &World) -> String {
    // What is about routes and neighbours of all is flushed by writing, not read.
    let read = "ip netns exec NAME grep -rs . /proc/sys/net/ipv4 /proc/sys/net/ipv6 | sort";
    ["blue", "look"].map(|name| world.sh(&read.replace("NAME", name)).stdout).concat()
}

/// web, box and n1 -- s1; web -- box; web -- n1
pub(crate) fn they_are_left_as_they_were_found(world: &World) -> Verdict {
    let found = Found::make(world);
    world.file("lab.yaml", &found.file());
    world.ovsns("plan lab.yaml").ok().says("+ node web (adopts netns:blue as namespace lab.web)");
    found.is_as_found(world);
    world.ovsns("up lab.yaml").ok();
    for to in ["10.0.0.2", "fd00::2", "10.0.0.3", "fd00::3"] {
        world.pings("blue", to);
    }
    world.pings("lab.n1", "10.0.0.1");
    world.pings("lab.box", "fd00::1");
    // The same by its name, and by ours.
    let ifindex = |namespace| world.setting(namespace, "lab0", "ifindex");
    assert_eq!(ifindex("blue"), ifindex("lab.web"));
    assert_eq!(world.setting("blue", "lab0", "ifalias"), "ovsns lab=lab interface=web:lab0");
    let route = world.run("ip -n blue route show proto 111").stdout;
    assert!(route.contains("10.9.0.0/16 via 10.0.0.3"), "{route}");
    world.ovsns("exec web -- ip -br link").ok().says("lab0");
    world.ovsns("exec web -- printenv OVSNS_NODE").ok().says("web");
    world.ovsns("ping web n1").ok();
    // Said again there is nothing to do; and nothing is said against it.
    world.settled();
    let made = world.inventory();
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    let status = world.ovsns("status").ok().says("netns:blue");
    assert!(status.stdout.starts_with("lab lab: up\n"), "{status}");
    let json = world.ovsns("node list --json").ok().json();
    assert_eq!(json[2]["adopted"], "netns:blue");
    let ovsns = world.binary().display();
    let inside = world.attempt(&format!("ip netns exec blue {ovsns} list"));
    inside.code(2).says("this is inside node `lab:web`");
    world.inventory().must_equal(&made);
    // Addresses come and go, and no parameter of theirs with them.
    world.file("lab.yaml", &found.file().replace("10.0.0.1/24", "10.0.0.11/24"));
    world.ovsns("up lab.yaml").ok();
    world.pings("lab.n1", "10.0.0.11");
    assert!(world.addresses("blue", "lab0").iter().all(|it| !it.starts_with("10.0.0.1/")));
    // What is wrong is put right.
    world.run("ip -n blue link del lab0");
    world.ovsns("status").ok().says("+ link web:lab0");
    world.ovsns("up lab.yaml").ok();
    world.pings("blue", "10.0.0.3");
    world.ovsns("node rm box").ok().says("- node box (pid:");
    assert!(!world.namespaces().contains(&"lab.box".to_owned()));
    assert!(world.link("look", "lab0").is_none() && world.link("look", "lab1").is_none());
    world.ovsns("down").ok();
    found.is_as_found(world);
    Ok(())
}

/// blue -- s1, by command
pub(crate) fn one_is_adopted_by_command(world: &World) -> Verdict {
    let found = Found::make(world);
    world.example("adopted.yaml");
    world.ovsns("up adopted.yaml").ok();
    world.pings("blue", "10.0.0.2");
    world.ovsns("down").ok();
    found.is_as_found(world);
    world.ovsns("switch add s1").ok();
    world.ovsns("node add n1 --link s1 --address 10.0.0.2/24").ok();
    let add = "node add web --link s1 --address 10.0.0.1/24 --adopt";
    world.ovsns(&format!("{add} blue")).code(2).says("write `netns:NAME`");
    world.ovsns(&format!("{add} netns:/run/netns/blue")).ok().says("adopts netns:/run/netns/blue");
    world.pings("blue", "10.0.0.2");
    world.ovsns("node rm web").ok();
    let box_ = format!("node add box --link s1 --link n1 --adopt pid:{}", found.process.id());
    world.ovsns(&box_).ok();
    world.pings("look", "10.0.0.2");
    world.ovsns("down").ok();
    found.is_as_found(world);
    Ok(())
}

/// web, box and n1 -- s1; web -- box; web -- n1, and all that is written down is
/// lost; or the name.
pub(crate) fn they_are_found_by_their_marks(world: &World) -> Verdict {
    let found = Found::make(world);
    world.file("lab.yaml", &found.file());
    world.ovsns("up lab.yaml").ok();
    world.run("rm -rf /run/ovsns");
    world.ovsns("status").ok().says("netns:blue");
    world.ovsns("exec web -- true").ok();
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    world.run("rm -rf /run/ovsns");
    world.ovsns("gc").ok().says("lab lab");
    found.is_as_found(world);
    // Somebody deletes what is not theirs.
    world.ovsns("up lab.yaml").ok();
    world.run("ip netns del lab.web");
    world.ovsns("status").ok().says("+ node web (adopts netns:blue");
    world.ovsns("up lab.yaml").ok();
    world.pings("blue", "10.0.0.3");
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    // Their own name for it is gone: ours keeps it, and it is told.
    let pid = world.start("ip netns exec blue sleep 600");
    let comm = format!("/proc/{}/comm", pid.id());
    until("it runs inside", || std::fs::read_to_string(&comm).is_ok_and(|it| it == "sleep\n"));
    world.run("ip netns del blue");
    world.pings("lab.web", "10.0.0.3");
    world
        .ovsns("status")
        .ok()
        .says("! node `web` cannot adopt `netns:blue`: there is no such namespace");
    world.ovsns("up lab.yaml").code(2).says("there is no such namespace");
    world.run(&format!("ip netns attach blue {}", pid.id()));
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    world.ovsns("down").ok();
    assert_eq!(world.namespaces(), ["blue", "look"]);
    assert!(world.link("blue", "lab0").is_none() && world.link("look", "lab1").is_none());
    // It became another meanwhile.
    world.ovsns("up lab.yaml").ok();
    world.run("ip netns del blue");
    world.run("ip netns add blue");
    world.ovsns("status").ok().says("- node web (netns:blue stays, as it was found)");
    world.ovsns("up lab.yaml").ok();
    world.pings("blue", "10.0.0.3");
    world.pings("blue", "fd00::2");
    let left = world.run(&format!("nsenter -t {} -n ip -br link", pid.id())).stdout;
    assert!(!left.contains("lab"), "{left}");
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    // To be a namespace of its own from now on, and back.
    let own = found.file().replace("adopt: { netns: blue }", "sysctls: {}");
    let own = own.replace("[web, s1]", "['web:lab0', s1]");
    world.file("own.yaml", &own);
    world.ovsns("up own.yaml").ok().says("lab lab is up");
    world.pings("lab.web", "10.0.0.3");
    assert!(world.link("blue", "lab0").is_none());
    world.ovsns("up lab.yaml").code(2).says("node `web` is a namespace of its own");
    world.ovsns("down").ok();
    Ok(())
}

/// web, box and n1 -- s1; web -- box; web -- n1
pub(crate) fn killed_at_every_request(world: &World) -> Verdict {
    world.needs("strace")?;
    let found = Found::make(world);
    world.file("lab.yaml", &found.file());
    let steps = kill_at_every(world, "up lab.yaml", |step| {
        if step % 2 == 0 {
            world.ovsns("up lab.yaml").ok();
            world.pings("blue", "10.0.0.2");
            world.ovsns("up lab.yaml").ok().says("nothing to change");
        }
        if step % 3 == 0 {
            world.run("rm -rf /run/ovsns");
        }
        world.ovsns(if step % 4 == 0 { "gc" } else { "down --all" });
        world.ovsns("down --all").ok();
        found.is_as_found(world);
    });
    assert!(30 < steps, "only {steps} steps");
    let steps = kill_at_every(world, "down", |step| {
        if step % 2 == 0 {
            world.ovsns("down --all").ok();
            found.is_as_found(world);
        }
        world.ovsns("up lab.yaml").ok();
        world.pings("blue", "10.0.0.2");
    });
    assert!(5 < steps, "only {steps} steps");
    found.is_as_found(world);
    Ok(())
}

/// What cannot be adopted, each for another reason.
pub(crate) fn what_cannot_be_adopted_is_refused(world: &World) -> Verdict {
    let found = Found::make(world);
    world.sh("ip netns add host; mkfifo pipe; echo >plain");
    world.sh("umount /run/netns/host; mount --bind /proc/self/ns/net /run/netns/host");
    world.file("other.yaml", "name: other\nnodes: { o: {} }");
    world.ovsns("up other.yaml").ok();
    let here = std::env::current_dir().expect("a directory");
    let here = here.display();
    let before = world.inventory();
    for (adopt, why) in [
        ("netns: green", "there is no such namespace"),
        ("netns: host", "it is the machine's own namespace"),
        ("pid: 1", "it is the machine's own namespace"),
        ("pid: 4000000", "there is no such process"),
        ("netns: other.o", "it is node `other:o`"),
        (&format!("netns: {here}/pipe"), "it is no network namespace"),
        (&format!("netns: {here}/plain"), "it is no network namespace"),
        (&format!("netns: {here}"), "it is no network namespace"),
        ("netns: /proc/1/ns/uts", "it is no network namespace"),
        ("container: web", "podman does not answer at `/run/podman/podman.sock`"),
    ] {
        world.file(
            "lab.yaml",
            &format!("name: lab\nnodes: {{ n1: {{}}, web: {{ adopt: {{ {adopt} }} }} }}"),
        );
        world.ovsns("up lab.yaml").code(2).says(why);
        world.inventory().must_equal(&before);
    }
    let two = "name: lab
switches: { s1: {} }
nodes:
  a: { adopt: { netns: blue } }
  b: { adopt: { netns: /run/netns/blue } }
  c: { adopt: { netns: blue }, routes: [{ to: 0.0.0.0/0, interface: lab0 }] }
links:
  - endpoints: ['a:eth0', s1]
  - endpoints: [c, s1]
";
    world.file("lab.yaml", two);
    let refused = world.ovsns("up lab.yaml").code(2);
    let refused = refused.says("nodes `a` and `b` adopt the same namespace");
    let refused = refused.says("node `a` already has an interface `eth0` that is not ours");
    refused.says("node `c` already has a route to `0.0.0.0/0` that is not ours, by `eth0`");
    world.inventory().must_equal(&before);
    // Two labs may have it both, side by side.
    for (lab, last) in [("one", 1), ("two", 2)] {
        world.file(
            "lab.yaml",
            &format!(
                "name: {lab}\nswitches: {{ s: {{}} }}
nodes:
  web: {{ adopt: {{ netns: blue }}, interfaces: {{ {lab}: {{ addresses: [10.0.{last}.1/24] }} }} }}
  n: {{ interfaces: {{ eth0: {{ addresses: [10.0.{last}.2/24] }} }} }}
links: [{{ endpoints: ['web:{lab}', s] }}, {{ endpoints: [n, s] }}]"
            ),
        );
        world.ovsns("up lab.yaml").ok();
        world.pings("blue", &format!("10.0.{last}.2"));
    }
    world.ovsns("down one").ok();
    world.pings("blue", "10.0.2.2");
    world.ovsns("down two").ok();
    world.inventory().must_equal(&before);
    drop(found);
    Ok(())
}

/// An engine that runs containers, as far as it is asked.
struct Engine {
    answers: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Engine {
    fn at(socket: &str) -> Self {
        let directory = Path::new(socket).parent().expect("a directory");
        std::fs::create_dir_all(directory).expect("a directory");
        let listener = UnixListener::bind(socket).expect("a socket");
        let answers = Arc::new(Mutex::new(BTreeMap::<String, String>::new()));
        let known = Arc::clone(&answers);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut asked = Vec::new();
                let mut bytes = [0; 1024];
                while !asked.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut bytes) {
                        Ok(read) if 0 < read => asked.extend(&bytes[..read]),
                        _ => break,
                    }
                }
                let asked = String::from_utf8_lossy(&asked);
                let path = asked.split(' ').nth(1).unwrap_or_default();
                let answer = known.lock().expect("a lock").get(path).cloned();
                let answer = answer.unwrap_or_else(|| {
                    let body = r#"{"message":"No such container"}"#;
                    format!(
                        "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                });
                // Whoever asked may be gone.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { answers }
    }

    fn says(&self, name: &str, answer: &str) {
        let path = format!("/containers/{name}/json");
        self.answers.lock().expect("a lock").insert(path, answer.to_owned());
    }

    /// As docker says it, in chunks, with much that nobody asked for.
    fn has(&self, name: &str, running: bool, pid: u32) {
        let body = format!(
            r#"{{"Id":"0123","State":{{"Status":"x","Running":{running},"Pid":{pid},"Error":""}},"Name":"/{name}"}}"#
        );
        let (a, b) = body.split_at(20);
        self.says(name, &format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len()
        ));
    }

    fn forgets(&self) {
        self.answers.lock().expect("a lock").clear();
    }
}

/// Somebody's container, as far as its network goes.
fn container(world: &World) -> Running {
    world.file("container.sh", "ip link set lo up; echo ready; exec sleep 600");
    let mut process = world.start("unshare -n sh container.sh");
    process.line_with("ready");
    process
}

/// web -- s1 -- n1, and web is a container that is stopped and started
pub(crate) fn containers_are_asked_for(world: &World) -> Verdict {
    let lab = |container: &str| {
        let web = format!("adopt: {{ container: '{container}' }}");
        let web = format!("{web}, interfaces: {{ lab0: {{ addresses: [10.0.0.1/24] }} }}");
        let n1 = "interfaces: { eth0: { addresses: [10.0.0.2/24] } }";
        let links = "[{ endpoints: [web, s1] }, { endpoints: [n1, s1] }]";
        format!(
            "name: lab\nswitches: {{ s1: {{}} }}\nnodes: {{ web: {{ {web} }}, n1: {{ {n1} }} }}\nlinks: {links}"
        )
    };
    world.file("lab.yaml", &lab("web"));
    let (podman, docker) = (Engine::at("/run/podman/podman.sock"), Engine::at("/run/docker.sock"));
    let refused = world.ovsns("up lab.yaml").code(2);
    refused.says("podman has no such container; docker has no such container");
    podman.has("web", false, 0);
    world.ovsns("up lab.yaml").code(2).says("the container of podman does not run");
    podman.says("web", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    world.ovsns("up lab.yaml").code(2).says("it says 500");
    podman.says("web", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
    world.ovsns("up lab.yaml").code(2).says("what it says is no answer");
    podman.says("web", "nonsense");
    world.ovsns("up lab.yaml").code(2).says("podman does not answer");
    assert!(world.namespaces().is_empty());
    // One that runs.
    let first = container(world);
    podman.has("web", true, first.id());
    world.ovsns("up lab.yaml").ok();
    world.pings("lab.n1", "10.0.0.1");
    let devices =
        |of: &Running| world.run(&format!("nsenter -t {} -n ip -br link", of.id())).stdout;
    assert!(devices(&first).contains("lab0"));
    // It is started again: another process, another namespace, the same name.
    let second = container(world);
    podman.has("web", true, second.id());
    world.ovsns("status").ok().says("- node web (container:web stays, as it was found)");
    world.ovsns("up lab.yaml").ok();
    assert!(devices(&second).contains("lab0") && !devices(&first).contains("lab0"));
    world.pings("lab.n1", "10.0.0.1");
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    // It is stopped.
    podman.has("web", false, 0);
    world
        .ovsns("status")
        .ok()
        .says("! node `web` cannot adopt `container:web`: the container of podman");
    // Both have one of that name.
    podman.has("web", true, second.id());
    docker.has("web", true, first.id());
    world.ovsns("up lab.yaml").code(2).says("say `podman:web` or `docker:web`");
    world.file("lab.yaml", &lab("docker:web"));
    world.ovsns("up lab.yaml").ok();
    assert!(!devices(&second).contains("lab0") && devices(&first).contains("lab0"));
    // Its network is that of the machine.
    podman.forgets();
    docker.has("web", true, std::process::id());
    world.ovsns("down").ok();
    world.ovsns("up lab.yaml").code(2).says("it is the machine's own namespace");
    // It is elsewhere.
    docker.forgets();
    let elsewhere = Engine::at("/run/elsewhere.sock");
    elsewhere.has("web", true, first.id());
    let mut up = world.command();
    up.args(["up", "lab.yaml"]).env("DOCKER_HOST", "unix:///run/elsewhere.sock");
    world.start_command(&mut up).finish().ok();
    world.pings("lab.n1", "10.0.0.1");
    // Nobody answers there any more, and it can be left all the same.
    world.ovsns("down").ok();
    assert!(world.namespaces().is_empty() && devices(&first) == devices(&second));
    first.signal(Signal::SIGKILL);
    until("the container has ended", || !Path::new(&format!("/proc/{}/root", first.id())).exists());
    Ok(())
}
