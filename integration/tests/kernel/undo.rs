//! Failures in the middle of a change: what was done is taken back.
//!
//! Most are made by `strace`, which has one system call answer an error as a
//! kernel out of memory or a full disk would: the first, the second, and so
//! on to the last, so that no step of a change goes without its failure.

use world::{Finished, Inventory, Verdict, World};

use crate::{FOUR_NODES, TWO_NODES};

/// Has the first, second, ... of `calls` fail until none is left to fail,
/// each time with `words` in a world that is as it was in `before`.
fn fail_at_every(world: &World, calls: &str, error: &str, words: &str, before: &Inventory) -> u32 {
    for step in 1.. {
        let rule = format!("{calls}:error={error}:when={step}");
        let (finished, struck) = world.tampered(&rule, words);
        if struck == 0 {
            finished.ok();
            return step - 1;
        }
        world.settled();
        let differences = world.inventory().differences(before);
        match finished.status.code() {
            Some(1) => {
                assert!(finished.stderr.contains("error: "), "{rule}\n{finished}");
                assert!(differences.is_empty(), "{rule}\n{finished}{differences}");
            }
            // Not needed after all: a look that may fail, a courtesy.
            Some(0) => {
                world.ovsns(words).ok().says("nothing to change");
                undo(world, words, before, &rule, &finished);
            }
            // The failure may strike a second thread in the middle of the way
            // back. Then it says what is left.
            Some(3) if 1 < struck => {
                let told = finished.stderr.contains("still to be done or taken back");
                assert!(told, "{rule}\n{finished}");
                undo(world, words, before, &rule, &finished);
            }
            _ => panic!("{rule}\n{finished}"),
        }
    }
    unreachable!("a command has an end")
}

fn undo(world: &World, words: &str, before: &Inventory, rule: &str, finished: &Finished) {
    if std::path::Path::new("before.yaml").exists() {
        world.ovsns("up before.yaml").ok();
    } else {
        world.ovsns("down --all").ok();
    }
    world.settled();
    let differences = world.inventory().differences(before);
    assert!(differences.is_empty(), "{words}, {rule}\n{finished}{differences}");
}

/// n1 -- b.1.1 -- n2
pub(crate) fn every_failing_request_is_taken_back(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("two.yaml", TWO_NODES);
    let foreign = world.foreign();
    let steps = fail_at_every(world, "sendto,sendmsg", "ENOBUFS", "up two.yaml", foreign.before());
    assert!(10 < steps, "only {steps} requests could fail");
    world.pings("two-nodes.n1", "10.0.0.2");
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn every_failing_mount_is_taken_back(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("two.yaml", TWO_NODES);
    let foreign = world.foreign();
    for (calls, error) in [
        ("mount", "ENOSPC"),
        ("unshare", "ENOSPC"),
        ("socket", "EMFILE"),
        ("rename,renameat,renameat2", "ENOSPC"),
        ("fsync,fdatasync", "EIO"),
        ("mkdir,mkdirat", "EROFS"),
        ("bind", "ENOMEM"),
    ] {
        let steps = fail_at_every(world, calls, error, "up two.yaml", foreign.before());
        // A namespace has to be made and named: these cannot go unused.
        assert!(0 < steps || !["mount", "unshare", "socket"].contains(&calls), "{calls}");
        world.ovsns("down two-nodes").ok();
        foreign.is_untouched(world);
    }
    Ok(())
}

/// n1 -- b.1.1 -- n2, of which the kernel refuses a part
pub(crate) fn a_setting_the_kernel_refuses(world: &World) -> Verdict {
    let foreign = world.foreign();
    for (from, to, says) in [
        ("  n2: {", "  n2: { sysctls: { net.ipv4.no_such_thing: 1 },", "net.ipv4.no_such_thing"),
        ("  n2: {", "  n2: { sysctls: { net.ipv4.ip_forward: banana },", "net.ipv4.ip_forward"),
        ("  n2: {", "  n2: { routes: [{ to: default, via: 172.16.0.1 }],", "172.16.0.1"),
        // IPv6 needs 1280 bytes, so the interface takes no such address.
        ("[n2:eth0, b.1.1]", "[n2:eth0, b.1.1]\n    mtu: 1000", "fd00::2"),
    ] {
        world.file("bad.yaml", &TWO_NODES.replace(from, to));
        let refused = world.ovsns("up bad.yaml");
        // Before anything is touched, or in the middle: taken back either way.
        assert!(matches!(refused.status.code(), Some(1 | 2)), "{to}\n{refused}");
        assert!(refused.stderr.contains(says), "{to}\n{refused}");
        foreign.is_untouched(world);
    }
    Ok(())
}

/// s1 with a hundred nodes, and few files that may be open
pub(crate) fn no_room_for_open_files(world: &World) -> Verdict {
    let before = world.inventory();
    let mut taken_back = 0;
    for limit in [12, 16, 24, 48, 96] {
        let binary = world.binary().display();
        let run = world
            .attempt(&format!("prlimit --nofile={limit} {binary} up --topo single,100 --lab big"));
        match run.status.code() {
            Some(0) => {
                world.ovsns("down big").ok();
            }
            Some(1) => {
                assert!(run.stderr.contains("open files"), "{run}");
                taken_back += 1;
            }
            _ => panic!("{run}"),
        }
        world.inventory().must_equal(&before);
    }
    assert!(0 < taken_back, "no limit was low enough");
    Ok(())
}

/// n1 -- b.1.1 -- n2, with nowhere to put them
pub(crate) fn a_place_that_cannot_be_written(world: &World) -> Verdict {
    world.file("two.yaml", TWO_NODES);
    for place in ["/run/netns", "/run/ovsns"] {
        world.run(&format!("mkdir -p {place}"));
        world.run(&format!("mount -t tmpfs -o ro tmpfs {place}"));
        let before = world.inventory();
        let failed = world.ovsns("up two.yaml").code(1);
        assert!(failed.stderr.contains(place), "{failed}");
        assert!(
            failed.stderr.contains("read-only") || failed.stderr.contains("Read-only"),
            "{failed}"
        );
        world.inventory().must_equal(&before);
        world.run(&format!("umount {place}"));
    }
    // A full one.
    world.run("mount -t tmpfs -o size=4k,nr_inodes=3 tmpfs /run/ovsns");
    let before = world.inventory();
    world.ovsns("up two.yaml").code(1).says("error: ");
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1, n2, n3 -- s1; n1 -- n4, of which much is to change
pub(crate) fn a_failed_change_leaves_the_lab_as_it_was(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("before.yaml", FOUR_NODES);
    let after = FOUR_NODES
        .replace("s1: {}", "s1: { ageing: 100 }")
        .replace("10.0.0.3/24", "10.0.0.33/24")
        .replace("n4: {", "n5: { interfaces: { eth0: { addresses: [10.0.0.5/24] } } }\n  n4: {")
        + "  - endpoints: [n5:eth0, s1]\n";
    world.file("after.yaml", &after);
    world.ovsns("up before.yaml").ok();
    world.settled();
    let before = world.inventory();
    let steps = fail_at_every(world, "sendto,sendmsg", "ENOBUFS", "up after.yaml", &before);
    assert!(10 < steps, "only {steps} requests could fail");
    world.pings("four.n1", "10.0.0.33");
    world.pings("four.n1", "10.0.0.5");
    Ok(())
}
