//! Nodes that are more than a network namespace: what they have of their own,
//! what they may use, and what runs in them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use world::{Verdict, World, until};

/// own -- s -- plain
const OWN: &str = "
name: l
switches: { s: {} }
nodes:
  own: { isolation: [all] }
  plain: {}
links:
  - endpoints: [own, s]
  - endpoints: [plain, s]
";

/// The keepers, by their numbers.
fn keepers(world: &World) -> Vec<u32> {
    let all = world.processes().into_iter();
    all.filter(|(_, line)| line.contains("keep-node")).map(|(pid, _)| pid).collect()
}

/// How many processes have `text` in their command line, keepers aside.
fn running(world: &World, text: &str) -> usize {
    let is_it = |line: &str| line.contains(text) && !line.contains("become");
    world.processes().iter().filter(|(_, line)| is_it(line)).count()
}

fn end(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    kill(pid, Signal::SIGKILL).expect("a process that runs");
}

/// What `status` says of a process of the lab.
fn process(world: &World, node: &str, name: &str) -> Value {
    let status = world.ovsns("status --json").ok().json();
    let find = |list: &Value, name: &str| {
        let all = list.as_array().expect("a list");
        all.iter().find(|it| it["name"] == name).cloned().unwrap_or_default()
    };
    find(&find(&status["nodes"], node)["processes"], name)
}

/// A host name, files, processes and shared memory of its own; and a plain node
/// has no process.
///
/// own -- s -- plain
pub(crate) fn a_node_has_what_is_its_own(world: &World) -> Verdict {
    let before = world.inventory();
    world.file("lab.yaml", OWN);
    world.ovsns("up lab.yaml").ok();
    assert_eq!(keepers(world).len(), 1, "one for the node that needs it");
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    assert_eq!(world.ovsns("exec own -- hostname").ok().stdout, "own\n");
    assert_eq!(world.ovsns("exec plain -- hostname").ok().stdout, "world\n");

    world.ovsns("exec own -- touch /tmp/mine /run/mine /var/log/mine").ok();
    for place in ["/tmp/mine", "/run/mine", "/var/log/mine"] {
        assert!(!std::path::Path::new(place).exists(), "{place} outside");
        world.ovsns(&format!("exec own -- test -e {place}")).ok();
        world.ovsns(&format!("exec plain -- test -e {place}")).code(1);
    }
    // It sees its first process and the one that looks, and its own devices.
    let seen = world.ovsns("exec own -- ps -e -o pid=,args=").ok();
    assert!(seen.stdout.lines().count() <= 3 && seen.stdout.contains("keep-node"), "{seen}");
    assert!(world.ovsns("exec plain -- ps -e -o args=").ok().stdout.contains("keep-node"));
    world.ovsns("exec own -- ls /sys/class/net").ok().says("eth0");
    let own = world.ovsns("exec own -- readlink /proc/self/ns/ipc").ok().stdout;
    assert_ne!(own, world.run("readlink /proc/self/ns/ipc").stdout);
    world.pings("l.own", "10.0.0.2");

    world.ovsns("down").ok();
    assert_eq!(keepers(world), [0; 0]);
    world.inventory().must_equal(&before);
    Ok(())
}

/// Exit status, signals and orphans of a command in a node with processes of its
/// own.
///
/// own -- s -- plain
pub(crate) fn commands_end_as_they_end(world: &World) -> Verdict {
    world.file("lab.yaml", OWN);
    world.ovsns("up lab.yaml").ok();
    let exec = |line: &str| {
        let mut command = world.command();
        command.args(["exec", "own", "--", "sh", "-c", line]);
        command
    };
    let ends = |line: &str| exec(line).status().expect("it runs");
    assert_eq!(ends("exit 7").code(), Some(7));
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(ends("kill -KILL $$").signal(), Some(Signal::SIGKILL as i32));
    assert_eq!(ends("kill -TERM $$").signal(), Some(Signal::SIGTERM as i32));
    world.ovsns("exec own -- no-such-command").code(127).says("no-such-command");
    world.ovsns("exec own -- /etc/passwd").code(126);

    for (signal, name, status) in
        [(Signal::SIGTERM, "TERM", 42), (Signal::SIGINT, "INT", 43), (Signal::SIGHUP, "HUP", 44)]
    {
        let line = format!("trap 'exit {status}' {name}; echo ready; while :; do sleep 0.02; done");
        let mut running = world.start_command(&mut exec(&line));
        running.line_with("ready");
        running.signal(signal);
        running.finish().code(status);
    }
    // Who is killed outside takes the command along.
    let mut outside = world.start_command(&mut exec("echo ready; exec sleep 4711"));
    outside.line_with("ready");
    outside.signal(Signal::SIGKILL);
    until("the command is gone", || running(world, "sleep 4711") == 0);

    // An orphan is taken in, and waited for when it ends.
    ends("(setsid sleep 4712 &)");
    until("it runs", || running(world, "sleep 4712") == 1);
    let orphan = world.processes().into_iter().find(|(_, line)| line.contains("sleep 4712"));
    let (orphan, _) = orphan.expect("it runs");
    end(orphan);
    until("nothing of it is left", || !std::path::Path::new(&format!("/proc/{orphan}")).exists());
    // And with the lab ends what does not end by itself.
    ends("(trap '' TERM HUP; setsid sleep 4713 &)");
    until("it runs", || running(world, "sleep 4713") == 1);
    world.ovsns("down").ok();
    assert_eq!(running(world, "sleep 4713"), 0);
    Ok(())
}

/// own -- s -- plain
pub(crate) fn a_killed_keeper_is_mended(world: &World) -> Verdict {
    world.file("lab.yaml", OWN);
    world.ovsns("up lab.yaml").ok();
    let index = world.setting("l.own", "eth0", "ifindex");
    end(keepers(world)[0]);
    until("it is gone", || keepers(world).is_empty());

    world.ovsns("status").ok().says("drifted").says("+ keeper of own");
    world.ovsns("exec own -- true").code(1).says("no keeper").says("ovsns up");
    let told = world.ovsns("up lab.yaml").ok();
    assert_eq!(keepers(world).len(), 1, "{told}");
    assert_eq!(world.ovsns("exec own -- hostname").ok().stdout, "own\n");
    assert_eq!(world.setting("l.own", "eth0", "ifindex"), index, "its link stays");
    world.ovsns("up lab.yaml").ok().says("nothing to change");

    // With all memory lost, and the node gone, it is still found.
    world.sh("rm -rf /run/ovsns; ip netns del l.own");
    world.ovsns("gc").ok();
    assert_eq!(keepers(world), [0; 0]);
    Ok(())
}

/// Limits hold, for what runs and for what is executed, and can be changed; and
/// a killed keeper without processes of its own leaves nothing that is not found.
///
/// n -- s -- m
pub(crate) fn limits_hold(world: &World) -> Verdict {
    let _groups = world.control_groups()?;
    let ovsns = |words: &str| world.shell(&format!("{} {words}", world.binary().display()));
    let lab = "
name: l
switches: { s: {} }
nodes:
  n:
    limits: { processes: 12, cpu: 0.5 }
    run: [{ name: rest, command: [sh, -c, '(setsid sleep 4714 &) ; exec sleep 4715'] }]
  m: { limits: { memory: 32M } }
links: [{ endpoints: [n, s] }, { endpoints: [m, s] }]
";
    world.file("lab.yaml", lab);
    ovsns("up lab.yaml").ok();
    ovsns("up lab.yaml").ok().says("nothing to change");
    ovsns("status").ok().says("cpu 0.5, processes 12").says("memory 32M");
    // Twelve at most, and two run already.
    let forks = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1.5 & done; wait";
    let forked = ovsns(&format!("exec n -- bash -c '{forks}'"));
    assert!(forked.stderr.to_lowercase().contains("fork"), "{forked}");
    // `tail` holds what it will print, which is much more than it may.
    let eats = "exec m -- sh -c 'head -c 200M /dev/zero | tail -c 190M | wc -c'";
    let eaten = ovsns(eats).ok();
    assert!(!eaten.stdout.contains("199229440"), "{eaten}");
    // The limit of the processor is the kernel's business; that it has it is ours.
    let group = world.sh("cat /sys/fs/cgroup/*/ovsns-test-*/l.n/cpu.cfs_quota_us \
        /sys/fs/cgroup/*/ovsns-test-*/l.n/cpu.max 2>/dev/null || true");
    assert!(group.stdout.starts_with("50000"), "{group}");

    world.file("lab.yaml", &lab.replace("memory: 32M", "memory: 512M"));
    ovsns("up lab.yaml").ok().says("lab l");
    ovsns(eats).ok().says("199229440");

    let keeper = world.processes().into_iter().find(|(_, line)| line.ends_with("--node n"));
    end(keeper.expect("it has one").0);
    until("what it started itself is gone", || running(world, "sleep 4715") == 0);
    assert_eq!(running(world, "sleep 4714"), 1, "one that went its own way lives on");
    ovsns("status").ok().says("what is left of the keeper of n");
    ovsns("down").ok();
    assert_eq!(running(world, "sleep 4714"), 0);
    world.sh("! ls -d /sys/fs/cgroup/*/ovsns-test-*/l.n 2>/dev/null");
    Ok(())
}

/// a and b -- s; what runs in a starts in order, and writes down when
const RUNS: &str = "
name: l
switches: { s: {} }
nodes:
  a:
    run:
      - name: first
        command: [sh, -c, 'trap \"echo first ends >> /run/world/order; exit 0\" TERM;
          echo first begins >> /run/world/order; echo hello from first; touch /run/world/flag;
          while :; do sleep 0.05; done']
        ready: { command: [test, -e, /run/world/flag] }
      - name: second
        command: [sh, -c, 'trap \"echo second ends >> /run/world/order; exit 0\" TERM;
          echo second begins >> /run/world/order; while :; do sleep 0.05; done']
  b:
    isolation: [pid]
    run:
      - { name: web, command: 'python3 -u -m http.server 80', ready: { port: 80/tcp }, restart: always }
links:
  - endpoints: [a, s]
  - endpoints: [b, s]
";

/// a -- s -- b
pub(crate) fn processes_run_in_order(world: &World) -> Verdict {
    world.needs("python3")?;
    let before = world.inventory();
    world.file("lab.yaml", RUNS);
    world.ovsns("up lab.yaml").ok();
    // Ready when `up` returns: somebody answers at once.
    let get = "exec a -- python3 -c \"import urllib.request as u; \
               print(u.urlopen('http://10.0.0.2/').status)\"";
    let got = world.sh(&format!("{} {get}", world.binary().display()));
    assert_eq!(got.stdout, "200\n");
    assert_eq!(world.ovsns("logs a first").ok().stdout, "hello from first\n");
    until("the server has told of it", || world.ovsns("logs b").ok().stdout.contains("GET /"));
    world.ovsns("logs b nobody").code(2).says("nobody");

    let first = process(world, "a", "first");
    assert_eq!(first["state"], "running", "{first}");
    world.ovsns("node list").ok().says("first running, second running").says("web running");

    // One that ends is started again, and its log goes on.
    let web = process(world, "b", "web");
    world.ovsns(&format!("exec b -- kill -KILL {}", web["pid"])).ok();
    until("it runs again", || {
        let again = process(world, "b", "web");
        again["state"] == "running" && again["restarts"] == 1 && again["pid"] != web["pid"]
    });
    world.ovsns("up lab.yaml").ok().says("nothing to change");

    // Restarted by hand: links and the other process stay.
    let index = world.setting("l.a", "eth0", "ifindex");
    world.ovsns("node restart a second").ok().says("- process second in a");
    assert_eq!(process(world, "a", "first")["pid"], first["pid"]);
    assert_eq!(world.setting("l.a", "eth0", "ifindex"), index);

    // A definition that changes: only that one.
    let second = process(world, "a", "second");
    world.file("lab.yaml", &RUNS.replace("hello from first", "good morning"));
    world.ovsns("up lab.yaml").ok();
    assert_ne!(process(world, "a", "first")["pid"], first["pid"]);
    assert_eq!(process(world, "a", "second")["pid"], second["pid"]);
    world.ovsns("logs a first --tail 1").ok().says("good morning");

    world.sh("> /run/world/order");
    world.ovsns("down").ok();
    let order = std::fs::read_to_string("/run/world/order").expect("it was written");
    assert_eq!(order, "second ends\nfirst ends\n");
    assert_eq!((keepers(world), running(world, "http.server")), (Vec::new(), 0));
    world.sh("rm /run/world/order /run/world/flag");
    world.inventory().must_equal(&before);
    Ok(())
}

/// a -- s -- b
pub(crate) fn what_does_not_get_ready_is_taken_back(world: &World) -> Verdict {
    let before = world.inventory();
    let lab = |process: &str| {
        format!(
            "
name: l
switches: {{ s: {{}} }}
nodes: {{ a: {{ run: [{process}] }}, b: {{}} }}
links: [{{ endpoints: [a, s] }}, {{ endpoints: [b, s] }}]
"
        )
    };
    let slow = "{ name: slow, command: [sh, -c, 'echo not today; exec sleep 4716'],
                  ready: { port: 80 }, timeout: 1 }";
    world.file("slow.yaml", &lab(slow));
    world.ovsns("up slow.yaml").code(1).says("not ready after 1 s").says("| not today");
    assert_eq!((keepers(world), running(world, "sleep 4716")), (Vec::new(), 0));
    let fails = "{ name: fails, command: [sh, -c, 'echo alas; exit 3'], ready: { port: 80 } }";
    world.file("fails.yaml", &lab(fails));
    world.ovsns("up fails.yaml").code(1).says("ended with status 3").says("| alas");
    world.file("none.yaml", &lab("{ command: no-such-program }"));
    world.ovsns("up none.yaml").code(1).says("no-such-program");
    world.file("user.yaml", &lab("{ command: sleep 1, user: nobody-of-that-name }"));
    world.ovsns("up user.yaml").code(2).says("nobody-of-that-name");
    world.inventory().must_equal(&before);
    Ok(())
}

/// a -- s -- b
pub(crate) fn up_killed_while_it_waits(world: &World) -> Verdict {
    let before = world.inventory();
    world.file(
        "lab.yaml",
        "
name: l
switches: { s: {} }
nodes:
  a: { isolation: [pid], run: [{ name: slow, command: [sleep, '4717'], ready: { command: [test, -e, /run/world/flag] } }] }
  b: {}
links: [{ endpoints: [a, s] }, { endpoints: [b, s] }]
",
    );
    let mut command = world.command();
    let up = world.start_command(command.args(["up", "lab.yaml"]));
    until("it has begun to wait", || running(world, "sleep 4717") == 1);
    up.signal(Signal::SIGKILL);
    drop(up);
    world.ovsns("status l").ok().says("cut off");
    world.sh("touch /run/world/flag");
    world.ovsns("up lab.yaml").ok();
    assert_eq!((keepers(world).len(), running(world, "sleep 4717")), (1, 1));
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    world.ovsns("down").ok();
    assert_eq!((keepers(world), running(world, "sleep 4717")), (Vec::new(), 0));
    world.sh("rm /run/world/flag");
    world.inventory().must_equal(&before);
    Ok(())
}

/// What a file has run in a sealed node is sealed as well, under whichever user;
/// the node's mounts do not grow with each command.
///
/// n
pub(crate) fn what_runs_in_a_sealed_node_is_sealed(world: &World) -> Verdict {
    let tries = "sh -c 'grep CapBnd /proc/self/status; grep NoNewPrivs /proc/self/status; \
                 ip link add v0 type veth; echo ended $?'";
    world.file(
        "lab.yaml",
        &format!(
            "name: l\nnodes:\n  n:\n    sealed: true\n    isolation: [mount, pid]\n    run:\n      \
             - {{ name: root, command: \"{tries}\" }}\n      - {{ name: other, user: nobody, \
             command: \"{tries}\" }}\n"
        ),
    );
    world.ovsns("up lab.yaml").ok();
    for name in ["root", "other"] {
        until("it has ended", || world.ovsns(&format!("logs n {name}")).stdout.contains("ended"));
        let said = world.ovsns(&format!("logs n {name}")).ok().stdout;
        assert!(said.contains("NoNewPrivs:\t1") && said.contains("ended 2"), "{said}");
        let bound = said.split_once("CapBnd:\t").expect("a line of it").1;
        let bound = u64::from_str_radix(&bound[..16], 16).expect("a set of capabilities");
        // CAP_NET_ADMIN and CAP_SYS_ADMIN, capabilities(7)
        assert_eq!(bound & (1 << 12 | 1 << 21), 0, "{said}");
    }
    let mounts = || world.ovsns("exec n -- cat /proc/self/mounts").ok().stdout.lines().count();
    assert_eq!(mounts(), mounts());
    Ok(())
}

/// What a process says is shown as it is said: of one that is started again, of
/// a file that is put aside in the middle of a line, to the last word of a node
/// that goes; and no longer than somebody wants to see it.
///
/// n
pub(crate) fn logs_are_followed(world: &World) -> Verdict {
    world.sh("mkfifo told");
    // It does what it is told; a trap waits for no command but a built-in one.
    world.file(
        "talker.sh",
        "trap 'printf bye' EXIT; trap 'exit 0' TERM; echo begins; exec 3<>told
         while read -r line <&3; do eval \"$line\"; done",
    );
    let script = std::fs::canonicalize("talker.sh").expect("it is there");
    let place = script.parent().expect("a directory").display();
    let talker = format!("cd {place} && exec sh talker.sh");
    let lab = "
name: f
nodes:
  n:
    isolation: [pid]
    run:
      - { name: talker, command: [sh, -c, 'TALKER'], restart: always }
      - { name: other, command: [sh, -c, 'echo other; exec sleep 4714'] }
";
    world.file("f.yaml", &lab.replace("TALKER", &talker));
    world.ovsns("up f.yaml").ok();
    let say = |line: &str| {
        std::fs::write("told", format!("{line}\n")).expect("somebody reads");
    };
    let mut one = world.command();
    let mut one = world.start_command(one.args(["logs", "n", "talker", "--follow"]));
    one.line_with("begins");
    say("echo first");
    assert_eq!(one.line_with("first"), "first");
    // All of them say who it is.
    let mut all = world.command();
    let mut all = world.start_command(all.args(["logs", "n", "--follow", "--tail", "1"]));
    let mut lines = [all.line_with("|"), all.line_with("|")];
    lines.sort();
    assert_eq!(lines, ["other | other", "talker | first"]);

    // A line in two pieces is one line.
    say("printf half-");
    until("half of it is there", || world.ovsns("logs n talker").ok().stdout.ends_with("half-\n"));
    say("echo whole");
    assert_eq!(one.line_with("whole"), "half-whole");
    // It ends, and is started again: the keeper goes on with the file.
    say("exit 1");
    one.line_with("begins");
    // More than a file holds: it is put aside in the middle of a line, and not one
    // is lost or cut.
    say("i=0; while [ $i -lt 6000 ]; do i=$((i+1)); printf '%s %0250d\\n' line-$i 0; done");
    say("echo enough");
    for (running, before) in [(&mut one, ""), (&mut all, "talker | ")] {
        let lines = running.lines_to("enough");
        let numbers: Vec<_> = lines.iter().filter(|line| line.contains("line-")).collect();
        let expected = (1..=6000).map(|n| format!("{before}line-{n} {:0250}", 0));
        let missing: Vec<_> = expected.filter(|line| !numbers.contains(&line)).take(3).collect();
        assert_eq!((numbers.len(), missing), (6000, Vec::new()), "{before}");
    }
    // Who has seen enough ends it.
    all.signal(Signal::SIGINT);
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(all.finish().status.signal(), Some(Signal::SIGINT as i32));
    // The last word, and the end.
    world.ovsns("down").ok();
    let said = one.finish().code(0);
    assert_eq!(said.stdout, "bye\n");
    Ok(())
}

/// Whoever reads has gone, there is no room for what is told, or somebody has
/// deleted all that is written down.
pub(crate) fn logs_that_nobody_reads(world: &World) -> Verdict {
    let lab = "
name: f
nodes:
  n:
    isolation: [mount]
    run:
      - { name: talker, command: [sh, -c, 'echo begins; exec cat /mnt/pipe'] }
";
    // Where nothing of the node's own hides it.
    world.sh("mount -t tmpfs tmpfs /mnt && mkfifo /mnt/pipe");
    world.file("f.yaml", lab);
    world.ovsns("up f.yaml").ok();
    let mut said = std::fs::File::options().write(true).open("/mnt/pipe").expect("it is read");
    let mut say = |line: &str| {
        use std::io::Write;
        writeln!(said, "{line}").expect("somebody reads");
    };
    until("it has begun", || world.ovsns("logs n").stdout.contains("begins"));

    let read = "logs n --follow | head -n 1 && echo ended";
    let mut shell = std::process::Command::new("bash");
    let line = format!("{} {read}", world.binary().display());
    let mut reader = world.start_command(shell.args(["-o", "pipefail", "-c", &line]));
    reader.line_with("begins");
    // Nothing more is said.
    reader.line_with("ended");
    reader.finish().ok();

    let full = |words: &str, code: i32| {
        let line = format!("{} {words} >/dev/full", world.binary().display());
        world.shell(&line).code(code).says("because: no space left on device")
    };
    full("logs n", 1);
    full("logs n --follow", 1);
    full("status", 1);
    full("list --json", 1);
    full("up f.yaml --dry-run", 1);
    full("up f.yaml", 3).says("`ovsns status` shows the lab");
    full("node add x --lab f", 3);
    world.ovsns("status f").ok().says("lab f: up").says("x ");
    world.ovsns("node rm x --lab f").ok();

    for _ in 0..2 {
        world.sh("rm -rf /run/ovsns/*");
        let logs = world.ovsns("logs n").ok();
        assert_eq!(logs.stdout, "begins\n");
    }
    world.sh("rm -rf /run/ovsns");
    say("more");
    until("it is written", || world.ovsns("logs f/n").stdout == "begins\nmore\n");
    let directory = "/run/ovsns/labs/f/logs/n";
    let modes = world.run(&format!("stat -c %a {directory} {directory}/talker.log")).stdout;
    assert_eq!(modes, "700\n600\n");
    world.ovsns("down f").ok();
    assert!(!std::path::Path::new("/run/ovsns/labs").exists());
    Ok(())
}
