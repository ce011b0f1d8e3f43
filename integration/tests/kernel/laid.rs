//! Files of a node over those of the machine: in the node, and nowhere else.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::{Verdict, World, until};

/// n -- s -- other
const FILES: &str = "
name: l
switches: { s: {} }
nodes:
  n:
    files:
      /etc/motd: \"over a file\\n\"
      /etc/linked: over a link
      /etc/new: { from: ./new.conf, mode: \"0600\" }
      /etc/deep/er/new: in new directories
      /etc/alias/inside: over a linked directory
      /var/run/own/new: in a directory of its own
      /tmp/new: in another
    run: [{ name: reads, command: cat /etc/motd /etc/linked /etc/new }]
  other: {}
links:
  - endpoints: [n, s]
  - endpoints: [other, s]
";

/// What is to be at which path in the node, with which permissions.
const WANTED: [(&str, &str, &str); 7] = [
    ("/etc/motd", "over a file\n", "644"),
    ("/etc/linked", "over a link", "644"),
    ("/etc/new", "from a file\n", "600"),
    ("/etc/deep/er/new", "in new directories", "644"),
    ("/etc/alias/inside", "over a linked directory", "644"),
    ("/var/run/own/new", "in a directory of its own", "644"),
    ("/tmp/new", "in another", "644"),
];

/// The machine's own files, in an `/etc` of the test's: one to lay over, a link to
/// a secret, and a link to a directory elsewhere.
fn machine(world: &World) {
    world.own_etc();
    fs::write("/etc/motd", "the machine's\n").expect("our own /etc");
    // Elsewhere, and not where a node has its own.
    world.run("mount -t tmpfs elsewhere /mnt");
    fs::write("/mnt/secret", "nobody's business\n").expect("our own /mnt");
    fs::create_dir("/mnt/elsewhere").expect("our own /mnt");
    symlink("/mnt/secret", "/etc/linked").expect("our own /etc");
    symlink("/mnt/elsewhere", "/etc/alias").expect("our own /etc");
    world.file("new.conf", "from a file\n");
    world.file("lab.yaml", FILES);
}

/// All there is in `/etc` and `/mnt`, to the byte.
fn all_files(world: &World) -> String {
    let all = world.sh("find /etc /mnt -printf '%p %y %m %U:%G %l %s %T@\\n' | sort; \
         find /etc /mnt -type f -exec sha256sum {} + | sort");
    all.stdout
}

#[track_caller]
fn all_are_laid(world: &World) {
    for (path, text, mode) in WANTED {
        assert_eq!(world.ovsns(&format!("exec n -- cat {path}")).ok().stdout, text, "{path}");
        let seen = world.ovsns(&format!("exec n -- stat -c %a:%U:%F {path}")).ok().stdout;
        assert_eq!(seen.trim_end(), format!("{mode}:root:regular file"), "{path}");
    }
}

fn keeper(world: &World) -> u32 {
    let all = world.processes();
    all.iter().find(|(_, line)| line.contains("keep-node")).expect("there is one").0
}

/// In the node, whoever enters it and however; and the machine has nothing of it.
pub(crate) fn files_lie_over_the_machines(world: &World) -> Verdict {
    machine(world);
    let (before, files) = (world.inventory(), all_files(world));
    world.ovsns("plan lab.yaml").ok().says("+ file /etc/new in n (12 bytes, mode 0600)");
    world.ovsns("up lab.yaml").ok();
    all_are_laid(world);
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    // What it runs has found them, and finds others by their names.
    until("it has read", || {
        world.ovsns("logs n").ok().stdout == "over a file\nover a linkfrom a file\n"
    });
    world.ovsns("exec n -- getent hosts other").ok().says("other.l");
    // The rest of the directory is there, as it was.
    let there = |whose: &str| world.sh(&format!("{whose} ls -A1 /etc /etc/ssl")).stdout;
    let in_node = format!("nsenter -t {} -m", keeper(world));
    let own = ["deep\n", "new\n"].iter().fold(there(&in_node), |all, it| all.replacen(it, "", 1));
    assert_eq!(own, there(""));
    let is = "stat -c %a:%U:%G /etc /etc/passwd /etc/shadow";
    assert_eq!(world.run(&format!("{in_node} {is}")).stdout, world.run(is).stdout);
    // Another node has what the machine has.
    assert_eq!(world.ovsns("exec other -- cat /etc/motd").ok().stdout, "the machine's\n");
    world.ovsns("exec other -- test -e /etc/new").code(1);
    // What the node writes stays in it, be it over, beside or in new directories.
    let write = "echo 1 >/etc/mine && echo 1 >>/etc/passwd && rm /etc/shadow && \
                 echo 1 >/etc/deep/x && echo 1 >/etc/alias/mine && echo 1 >>/etc/motd";
    world.sh(&format!("{in_node} sh -c '{write}'"));
    assert_eq!(all_files(world), files, "the machine's files");
    let json = world.ovsns("status --json").ok().json();
    let of_n = json["nodes"][0]["files"].as_array().expect("a list");
    assert_eq!(of_n.len(), WANTED.len());
    assert_eq!(of_n[5]["path"], "/tmp/new");
    assert_eq!(of_n[4]["mode"], "0600");
    assert_eq!(json["nodes"][1]["files"], serde_json::json!([]));
    world.ovsns("down").ok();
    world.inventory().must_equal(&before);
    assert_eq!(all_files(world), files, "the machine's files");
    Ok(())
}

/// What somebody does to them shows, and is mended; so is what the file says anew.
pub(crate) fn changed_files_are_mended(world: &World) -> Verdict {
    machine(world);
    let files = all_files(world);
    world.ovsns("up lab.yaml").ok();
    let pid = keeper(world);
    let mend = |how: &str, line: &str| {
        world.sh(&format!("nsenter -t {pid} -m sh -c '{how}'"));
        world.ovsns("status").ok().says(line);
        let up = world.ovsns("up lab.yaml").ok();
        up.says("1 step");
        all_are_laid(world);
        world.ovsns("up lab.yaml").ok().says("nothing to change");
    };
    mend("echo more >>/etc/motd", "~ file /etc/motd in n: other text");
    mend("echo more >>/etc/new", "~ file /etc/new in n: other text");
    mend("chmod 4755 /etc/deep/er/new", "~ file /etc/deep/er/new in n: mode 0644 (was 4755)");
    mend("chown 65534 /etc/motd", "+ file /etc/motd in n");
    mend("chgrp 65534 /etc/new", "+ file /etc/new in n");
    mend("umount /etc/motd", "~ file /etc/motd in n: other text");
    mend("umount /etc/linked", "~ file /etc/linked in n: other text");
    mend("umount /tmp/new && rm /tmp/new", "+ file /tmp/new in n");
    mend("mount --bind /etc/passwd /etc/new", "~ file /etc/new in n: other text, mode 0600");
    mend("head -c 300000 /dev/zero >/etc/motd", "+ file /etc/motd in n");
    // All at once: the layer that has them, and what is beneath it.
    world.sh(&format!("nsenter -t {pid} -m umount -l /etc"));
    world.ovsns("status").ok().says("+ file /etc/new in n").says("~ file /etc/motd in n");
    world.ovsns("up lab.yaml").ok().says("4 steps");
    all_are_laid(world);
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    // On the machine, a file that is replaced takes what was laid over it away.
    fs::write("/etc/motd.new", "the machine's\n").expect("our own /etc");
    fs::rename("/etc/motd.new", "/etc/motd").expect("our own /etc");
    world.ovsns("up lab.yaml").ok();
    all_are_laid(world);

    // The same keeper and the same processes, whatever is laid.
    world.file("new.conf", "other\n");
    world.ovsns("up lab.yaml").ok().says("1 step");
    assert_eq!(world.ovsns("exec n -- cat /etc/new").ok().stdout, "other\n");
    let fewer = FILES.replace("      /etc/linked: over a link\n", "");
    let fewer = fewer.replace("      /etc/deep/er/new: in new directories\n", "");
    let fewer = fewer.replace("      /etc/motd: \"over a file\\n\"\n", "      /etc/later: later\n");
    world.file("fewer.yaml", &fewer);
    world.ovsns("plan fewer.yaml").ok().says("- file /etc/linked in n").says("+ file /etc/later");
    world.ovsns("up fewer.yaml").ok().says("4 steps");
    assert_eq!(world.ovsns("exec n -- cat /etc/motd").ok().stdout, "the machine's\n");
    assert_eq!(world.ovsns("exec n -- cat /etc/later").ok().stdout, "later");
    let link = world.ovsns("exec n -- readlink /etc/linked").ok().stdout;
    assert!(link.ends_with("/secret\n"), "{link}");
    world.ovsns("exec n -- test -e /etc/deep").code(1);
    world.ovsns("up fewer.yaml").ok().says("nothing to change");
    assert_eq!(keeper(world), pid);

    // Killed, it takes all along, and all is laid anew, also what another file wants.
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), Signal::SIGKILL).expect("it runs");
    until("it is gone", || !world.processes().iter().any(|(_, line)| line.contains("keep-node")));
    world.file("new.conf", "from a file\n");
    world.ovsns("up lab.yaml").ok();
    all_are_laid(world);
    // With all memory lost it is found, and goes.
    world.run("rm -rf /run/ovsns");
    world.ovsns("gc").ok().says("removed lab l");
    assert!(!world.processes().iter().any(|(_, line)| line.contains("keep-node")));
    let same = |text: &str| -> Vec<String> {
        // `/etc` itself and the file that was replaced have another time.
        let aside = |line: &&str| !line.starts_with("/etc d") && !line.starts_with("/etc/motd f");
        text.lines().filter(aside).map(str::to_owned).collect()
    };
    assert_eq!(same(&all_files(world)), same(&files));
    Ok(())
}

/// What cannot be laid is refused before anything is touched; what cannot be taken
/// from its source is a problem of the file, with its line.
pub(crate) fn files_that_cannot_be_laid(world: &World) -> Verdict {
    machine(world);
    symlink("/nowhere", "/etc/dangling").expect("our own /etc");
    symlink("/proc/sys", "/etc/kernel-link").expect("our own /etc");
    symlink("same", "/etc/circle").and_then(|()| symlink("circle", "/etc/same")).expect("ours");
    symlink(".", "/etc/self").expect("our own /etc");
    world.run("mkfifo /etc/pipe");
    let (before, files) = (world.inventory(), all_files(world));
    let wrong = [
        ("/etc", "there is a directory"),
        ("/tmp", "there is a directory"),
        ("/etc/pipe", "something that is no file"),
        ("/etc/motd/below", "`/etc/motd` is no directory"),
        ("/etc/dangling/x", "`/etc/dangling` is a link that leads nowhere"),
        ("/etc/circle/x", "`/etc/circle`"),
        ("/etc/kernel-link/kernel/hostname", "leads into `/proc`"),
        ("/new-at-the-top", "nothing can be added to `/` itself"),
        ("/new-at-the-top/x", "nothing can be added to `/` itself"),
    ];
    for (path, why) in wrong {
        world.file("wrong.yaml", &format!("name: l\nnodes: {{ n: {{ files: {{ {path}: x }} }} }}"));
        let told = world.ovsns("up wrong.yaml").code(2);
        told.says(&format!("no file can be laid at `{path}` in node `n`")).says(why);
    }
    let twice = "name: l\nnodes: { n: { files: { /etc/motd: x, /etc/self/motd: y } } }";
    world.file("wrong.yaml", twice);
    world.ovsns("up wrong.yaml").code(2).says("are one file here: `/etc/motd`");
    for (from, why) in [
        ("./missing", "there is no such thing"),
        ("/etc/pipe", "it is no file"),
        ("/etc", "it is no file"),
        ("/dev/zero", "it is no file"),
        ("/proc/self/exe", "it is bigger than 256 KiB"),
    ] {
        let text =
            format!("name: l\nnodes:\n  n:\n    files:\n      /etc/motd: {{ from: {from} }}");
        world.file("wrong.yaml", &text);
        let told = world.ovsns("up wrong.yaml").code(2);
        told.says(why).says("wrong.yaml:5:26");
    }
    // One that fails on the way takes all back.
    let failing = FILES.replace("command: cat /etc/motd /etc/linked /etc/new", "command: 'false'");
    world.file("failing.yaml", &failing);
    world.ovsns("up failing.yaml").code(1).says("taken back");
    assert!(!world.processes().iter().any(|(_, line)| line.contains("keep-node")));
    world.inventory().must_equal(&before);
    assert_eq!(all_files(world), files, "the machine's files");
    Ok(())
}
