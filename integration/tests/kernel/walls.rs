//! Walls: what names and texts of a file can reach, who may open what is ours, and
//! what a process in a node sees of it.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use world::{Finished, Verdict, World, until};

use crate::own_ovs;

/// Texts that are no names, and would lead somewhere, or do something, if they were
/// taken for paths, options, words of a shell or of a terminal.
const HOSTILE: [&str; 16] = [
    "../hostile",
    "../../../../run/hostile",
    "/run/hostile",
    "a/../../hostile",
    "hostile/",
    ".",
    "..",
    "",
    "-xhostile",
    "$(touch hostile)",
    "`touch hostile`",
    "hostile;touch hostile",
    "hostile\nhostile",
    "hostile\u{1b}[2J",
    "hostile\u{202e}elitsoh",
    "hostile\u{0}",
];

/// Runs `ovsns` under `strace`; returns how it ended, and what it did with files and
/// programs.
fn watched(world: &World, words: &[&str]) -> (Finished, String) {
    let mut command = Command::new("strace");
    // Keepers live on, and are let go as they become programs of their own.
    command.args(["-f", "-b", "execve", "-qq", "-s", "300", "-e", "trace=%file,execve"]);
    command.args(["-e", "signal=none"]);
    command.args(["-o", "/run/world/calls"]).arg(world.binary()).args(words);
    let mut line = Command::new("sh");
    line.args(["-c", "exec \"$@\" 2>/run/world/said", "sh"]);
    line.arg(command.get_program()).args(command.get_args());
    let mut finished = world.start_command(&mut line).finish();
    finished.stderr = std::fs::read_to_string("/run/world/said").expect("what it said");
    let calls = std::fs::read("/run/world/calls").expect("a trace");
    for file in ["calls", "said"] {
        std::fs::remove_file(Path::new("/run/world").join(file)).expect("the test's own file");
    }
    (finished, String::from_utf8_lossy(&calls).into_owned())
}

/// It was refused before anything was touched, and no file was asked for by such a
/// name but `except`.
#[track_caller]
fn led_nowhere(finished: &Finished, calls: &str, except: &str) {
    assert_eq!(finished.status.code(), Some(2), "{finished}");
    assert!(finished.stderr.contains("error: "), "{finished}");
    let is_raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!finished.stderr.contains(is_raw), "{:?}", finished.stderr);
    let programs = calls.lines().filter(|line| line.contains("execve(")).count();
    assert_eq!(programs, 1, "it started something:\n{calls}");
    for line in calls.lines().filter(|line| !line.contains("execve(")) {
        assert!(!line.contains("hostile") || line.contains(except), "{line}\n{finished}");
    }
}

/// A text as YAML has it between double quotes.
fn in_yaml(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

/// Names come from files and from command lines; what is none leads nowhere.
pub(crate) fn hostile_names_lead_nowhere(world: &World) -> Verdict {
    world.needs("strace")?;
    let before = world.inventory();
    for text in HOSTILE {
        let name = in_yaml(text);
        let files = [
            format!("name: {name}\nnodes: {{ a: }}\n"),
            format!("name: l\nnodes: {{ {name}: }}\n"),
            format!("name: l\nswitches: {{ {name}: {{}} }}\n"),
            format!("name: l\nnodes: {{ a: {{ interfaces: {{ {name}: {{}} }} }} }}\n"),
            format!("name: l\nswitches: {{ s: {{ device: {name} }} }}\n"),
            format!("name: l\nnodes: {{ a: {{ sysctls: {{ {name}: 1 }} }} }}\n"),
            format!("name: l\nnodes: {{ a: {{ run: [{{ name: {name}, command: 'true' }}] }} }}\n"),
            format!("name: l\nnodes: {{ a: , b: }}\nlinks: [{{ endpoints: [a, {name}] }}]\n"),
            format!("name: l\nnodes: {{ a: {{ isolation: [uts], hostname: {name} }} }}\n"),
            format!(
                "name: l\nnodes: {{ a: {{ adopt: {} }} }}\n",
                in_yaml(&format!("netns:{text}"))
            ),
        ];
        for (nth, file) in files.iter().enumerate() {
            // A path, and a name of `ip netns`, are what can be adopted.
            let is_path = nth == 9 && text.starts_with('/');
            // Nothing given is nothing asked for.
            if is_path || (text.is_empty() && nth == 8) {
                continue;
            }
            world.file("lab.yaml", file);
            let (finished, calls) = watched(world, &["plan", "lab.yaml"]);
            assert_ne!(finished.status.code(), Some(0), "{file}\n{finished}");
            led_nowhere(&finished, &calls, "lab.yaml");
        }
        if text.contains('\0') {
            continue;
        }
        for words in [
            &["up", "--topo", "single,2", "--lab", text][..],
            &["down", text],
            &["status", text],
            &["exec", text, "--", "true"],
            &["logs", text],
            &["ping", text, "n1"],
            &["node", "add", text, "--lab", "l"],
            &["switch", "add", text, "--lab", "l"],
            &["link", "rm", text, "s", "--lab", "l"],
            &["flow", "dump", text],
        ] {
            let (finished, calls) = watched(world, words);
            if finished.status.code() == Some(0) && words[0] == "down" {
                continue;
            }
            led_nowhere(&finished, &calls, "nothing");
        }
    }
    let long = "x".repeat(100_000);
    for words in [&["down", &long][..], &["exec", &long, "--", "true"]] {
        let (finished, _) = watched(world, words);
        assert_eq!(finished.status.code(), Some(2));
        assert!(finished.stderr.len() < 1_000, "{} bytes are said", finished.stderr.len());
    }
    world.sh("! ls hostile 2>/dev/null; rm -f lab.yaml");
    world.inventory().must_equal(&before);
    Ok(())
}

/// What a file says beside names: texts with all that a shell would act on.
const TEXTS: &str = r#"
name: l
switches: { s: {} }
nodes:
  a:
    isolation: [pid, uts, mount]
    run:
      - name: says
        command: [echo, '$(touch /run/world/hostile)', ';', 'touch /run/world/hostile | `x`']
        environment: { WORDS: '$(touch /run/world/hostile); touch /run/world/hostile' }
    files:
      /etc/motd: '$(touch /run/world/hostile)'
  b: {}
links:
  - endpoints: [a, s]
  - endpoints: [b, s]
"#;

/// No text of a file is given to a shell: `command` is words for a program, and who
/// wants a shell writes `[sh, -c, ...]`.
pub(crate) fn no_shell_is_given_a_text(world: &World) -> Verdict {
    world.needs("strace")?;
    let before = world.inventory();
    world.file("lab.yaml", TEXTS);
    let mut programs = String::new();
    for words in [
        &["up", "lab.yaml"][..],
        &["status"],
        &["exec", "a", "--", "echo", "$(touch /run/world/hostile)"],
        &["exec", "b", "--", "echo", ";touch /run/world/hostile"],
        &["ping", "a", "b"],
        &["why", "a", "b"],
    ] {
        let (finished, calls) = watched(world, words);
        // Whether a ping under `strace` is answered in time is another matter.
        let is_asking = ["ping", "why"].contains(&words[0]);
        assert!(finished.status.success() || is_asking, "{finished}");
        programs +=
            &calls.lines().filter(|it| it.contains("execve(")).collect::<Vec<_>>().join("\n");
    }
    for shell in ["/sh\"", "/bash\"", "/dash\"", "\"-c\""] {
        assert!(!programs.contains(shell), "{shell}:\n{programs}");
    }
    // Words that only a shell understands are refused, with a word of how to have one.
    world.file("shell.yaml", "name: m\nnodes: { a: { run: [{ command: 'echo a ; touch b' }] } }\n");
    world.ovsns("plan shell.yaml").code(2).says("is for a shell, and none is run").says("sh, -c");
    std::fs::remove_file("shell.yaml").expect("the test's own file");
    until("it has spoken", || world.ovsns("logs a").stdout.contains("touch"));
    let said = world.ovsns("logs a").ok().stdout;
    assert_eq!(said, "$(touch /run/world/hostile) ; touch /run/world/hostile | `x`\n");
    assert!(!Path::new("/run/world/hostile").exists());
    world.ovsns("down").ok();
    std::fs::remove_file("lab.yaml").expect("the test's own file");
    world.inventory().must_equal(&before);
    Ok(())
}

/// All that is below a directory of ours, with what everybody else may do there.
fn open_to_others(directory: &Path, found: &mut Vec<String>) -> usize {
    let mut all = 0;
    for entry in std::fs::read_dir(directory).expect("it is there").flatten() {
        let metadata = entry.path().symlink_metadata().expect("it is there");
        let (kind, mode) = (metadata.file_type(), metadata.permissions().mode() & 0o7777);
        all += 1;
        let shown = format!("{} {mode:o}", entry.path().display());
        if kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            all += open_to_others(&entry.path(), found);
        }
        // Whoever is in a node reads the names of the others, whichever user they are.
        let most = match kind.is_dir() {
            true => 0o700,
            false if entry.file_name() == "hosts" => 0o644,
            false => 0o600,
        };
        // Daemons of Open vSwitch make sockets 0750 and files as they like, in a
        // directory that is root's alone.
        let is_of_others = directory.ends_with("ovs") && !kind.is_dir();
        let is_socket = kind.is_socket();
        let is_open =
            mode & 0o007 & !most != 0 || (!is_of_others && mode & !most != 0 && !is_socket);
        if is_open || mode & 0o6000 != 0 || metadata.uid() != 0 {
            found.push(shown);
        }
    }
    all
}

/// a (a keeper, a log, files of its own), b -- s, on an Open vSwitch of our own, made
/// by somebody whose files are open to all
pub(crate) fn what_is_ours_is_closed(world: &World) -> Verdict {
    own_ovs::needs(world)?;
    let before = world.inventory();
    world.file("lab.yaml", &TEXTS.replace("s: {}", "s: { backend: ovs }"));
    world.sh(&format!("umask 0; {} up lab.yaml", world.binary().display()));
    let mut capture = world.command();
    let capture = world.start_command(capture.args(["capture", "a", "-w", "/run/world/a.pcapng"]));
    until("it is written", || Path::new("/run/world/a.pcapng").exists());
    let mut open = Vec::new();
    let all = open_to_others(Path::new("/run/ovsns"), &mut open);
    assert!(12 < all, "only {all}");
    assert_eq!(open, [""; 0]);
    let top = std::fs::metadata("/run/ovsns").expect("it is there").permissions().mode();
    assert_eq!(top & 0o7777, 0o700);
    let product = std::fs::metadata(world.binary()).expect("it is there").permissions().mode();
    assert_eq!(product & 0o6000, 0, "the program is setuid");
    // Somebody else is let in nowhere, whatever the socket's own mode says.
    let nobody = |line: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", line]);
        world.start_command(&mut command).finish()
    };
    for line in ["ls /run/ovsns", "cat /run/ovsns/labs/l/lab.json", "ls /run/ovsns/ovs"] {
        assert_ne!(nobody(line).status.code(), Some(0), "{line}");
    }
    let vsctl = "ovs-vsctl --timeout=2 --db=unix:/run/ovsns/ovs/db.sock --no-wait list-br";
    assert_ne!(nobody(vsctl).status.code(), Some(0));
    drop(capture);
    world.sh("rm -f a.pcapng lab.yaml");
    world.ovsns("down").ok();
    own_ovs::all_ends(world);
    until("the last namespace is gone", || world.namespaces().is_empty());
    world.inventory().must_equal(&before);
    Ok(())
}

/// Plain, with everything of its own, and sealed in either way.
const WALLS: &str = "
name: l
switches: { s: {} }
nodes:
  plain: { }
  apart: { isolation: [pid, mount, ipc, uts] }
  sealed: { sealed: true }
  both: { sealed: true, isolation: [pid] }
  runs:
    run: [{ name: rests, command: [sleep, '4723'] }]
links: [{ endpoints: [plain, s] }, { endpoints: [apart, s] }, { endpoints: [sealed, s] },
        { endpoints: [both, s] }, { endpoints: [runs, s] }]
";

/// What a command in a node has from outside: three streams, its own namespace, and
/// no word more than it should.
pub(crate) fn what_a_process_is_given(world: &World) -> Verdict {
    world.file("walls.yaml", WALLS);
    world.ovsns("up walls.yaml").ok();
    for node in ["plain", "apart", "sealed", "both"] {
        let given = world.ovsns(&format!("exec {node} -- ls /proc/self/fd")).ok().stdout;
        let names =
            given.lines().filter_map(|line| line.split(" -> ").next()?.split(' ').next_back());
        let files: Vec<_> = names.collect();
        // One of them is the directory that is being read; and what was open in the
        // shell of whoever called is theirs to give.
        let outside = world.run("ls /proc/self/fd").stdout;
        assert_eq!(files, outside.lines().collect::<Vec<_>>(), "{node}: {given}");
        let own = world.ovsns(&format!("exec {node} -- env")).ok().stdout;
        let ours: Vec<_> = own.lines().filter(|line| line.starts_with("OVSNS_")).collect();
        for word in ours {
            // What the caller's own environment has is theirs to give.
            let name = word.split_once('=').map_or(word, |(name, _)| name);
            let is_told =
                ["OVSNS_LAB", "OVSNS_NODE"].contains(&name) || std::env::var_os(name).is_some();
            assert!(is_told, "{node}: {word}");
        }
    }
    // What the file runs has no word of whoever called `up`, and none of its files.
    world.ovsns("node restart runs").ok();
    let mut command = world.command();
    command.env("SECRET", "hostile").args(["node", "restart", "runs"]);
    world.start_command(&mut command).finish().ok();
    let rests = |id: &u32| {
        std::fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|it| it.contains("4723"))
    };
    let ids = world.processes();
    let id = ids.iter().map(|(id, _)| id).find(|id| rests(id)).expect("it runs");
    let files = std::fs::read_dir(format!("/proc/{id}/fd")).expect("it runs").count();
    assert_eq!(files, 3);
    let words = std::fs::read_to_string(format!("/proc/{id}/environ")).expect("it runs");
    let names: Vec<_> =
        words.split('\0').filter_map(|word| word.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(names, ["OVSNS_CGROUP", "OVSNS_LAB", "OVSNS_NODE", "PATH"], "{words}");
    world.ovsns("down").ok();
    Ok(())
}

/// What is tried in a node, and has to fail there.
fn tries(world: &World, node: &str, lines: &[&str]) {
    let wrong: Vec<String> = lines
        .iter()
        .filter_map(|line| {
            let mut command = world.command();
            let command = command.args(["exec", node, "--", "sh", "-c", line]);
            let tried = world.start_command(command).finish();
            (tried.status.code() == Some(0)).then(|| format!("{node}: {tried}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// a, b -- s on an Open vSwitch of our own and on one of the machine: sealed nodes reach
/// neither, nor what is remembered of labs, nor our processes.
pub(crate) fn a_sealed_node_reaches_nothing_of_ours(world: &World) -> Verdict {
    own_ovs::needs(world)?;
    let over = WALLS.replace("s: {}", "s: { backend: ovs }");
    world.file("walls.yaml", &over);
    world.ovsns("up walls.yaml").ok();
    world.sh("mkdir -p /run/openvswitch; touch /run/openvswitch/db.sock");
    let keeper = world.processes().into_iter().find(|(_, line)| line.contains("--node both"));
    let keeper = keeper.expect("it has one").0;
    let daemon = own_ovs::facts(world)["switch"].as_u64().expect("it runs");
    let bridge = world.setting("", "l:s", "ifname");
    let bridge = bridge.as_str().expect("a name");
    let vsctl = "ovs-vsctl --timeout=2 --no-wait --db=unix:/run/ovsns/ovs/db.sock";
    let lines = [
        // What is ours is not seen, nor made.
        "ls /run/ovsns | grep .".to_owned(),
        "ls /run/openvswitch | grep .".into(),
        "cat /run/ovsns/labs/l/lab.json".into(),
        "touch /run/ovsns/hostile".into(),
        "umount /run/ovsns".into(),
        // Switches are not spoken to.
        format!("{vsctl} del-br {bridge}"),
        "ovs-appctl -t /run/ovsns/ovs/ovs-vswitchd.ctl exit".into(),
        // Nor other namespaces.
        "ip netns exec l.plain true".into(),
        "nsenter --net=/run/netns/l.plain true".into(),
        format!("nsenter -t {keeper} -n true"),
        // Nor what keepers and daemons have open.
        format!("readlink /proc/{keeper}/fd/4"),
        format!("ls /proc/{keeper}/root/ | grep ."),
        format!("readlink /proc/{daemon}/fd/4"),
        format!("ls /proc/{daemon}/root/ | grep ."),
        "ip link add v0 type veth peer name v1 netns l.plain".into(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    for node in ["sealed", "both"] {
        tries(world, node, &lines);
    }
    // With processes of its own it does not even see them.
    tries(world, "both", &["ps -e -o args | grep '[k]eep-ovs\\|[o]vs-vswitchd'"]);
    tries(world, "apart", &["ps -e -o args | grep '[k]eep-ovs\\|[o]vs-vswitchd'", "ls /run/ovsns"]);
    // Sockets of keepers have their names in the machine's own network.
    for node in ["plain", "apart", "sealed", "both"] {
        tries(world, node, &["grep ovsns /proc/net/unix"]);
    }
    // Nor does any of that hold for long, or too long: it is so the second time, and
    // nothing was mounted twice.
    let mounts = || world.ovsns("exec both -- cat /proc/self/mounts").ok().stdout.lines().count();
    assert_eq!(mounts(), mounts());
    // All goes on.
    world.ovsns("status l").ok().says("lab l: up");
    world.ovsns("up walls.yaml").ok().says("nothing to change");
    world.ovsns("exec sealed -- getent hosts plain").ok();
    world.ovsns("down").ok();
    own_ovs::all_ends(world);
    Ok(())
}
