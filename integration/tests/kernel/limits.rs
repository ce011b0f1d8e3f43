//! Limits: of files, processes, namespaces, ports, room and rights. What runs into
//! one is told what is missing and what to do, and finds all as it was before.

use world::{Finished, Inventory, Verdict, World, until};

use crate::own_ovs;

/// n1 (with a process) -- s1 -- n2
const LAB: &str = "
name: two
switches: { s1: {} }
nodes:
  n1:
    isolation: [pid]
    run: [{ name: rests, command: [sleep, '4720'] }]
    interfaces: { eth0: { addresses: [10.0.0.1/24] } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
links: [{ endpoints: [n1, s1] }, { endpoints: [n2, s1] }]
";

/// It failed as things fail: status 1, in words, with a thing to do.
#[track_caller]
fn refused(failed: &Finished, says: &[&str]) {
    assert_eq!(failed.status.code(), Some(1), "{failed}");
    for text in ["error: ", " hint: "] {
        assert!(failed.stderr.contains(text), "it does not say {text:?}\n{failed}");
    }
    assert!(says.iter().any(|text| failed.stderr.contains(text)), "none of {says:?}\n{failed}");
    assert!(!failed.stderr.contains("panicked"), "{failed}");
}

/// Runs `ovsns` with `words` under a limit that `prlimit` sets.
fn limited(world: &World, limit: &str, words: &str) -> Finished {
    world.attempt(&format!("prlimit {limit} {} {words}", world.binary().display()))
}

/// Nothing else was touched, nor is anything left of the lab.
#[track_caller]
fn as_before(world: &World, before: &Inventory) {
    until("the last namespace is gone", || world.namespaces().is_empty());
    world.inventory().must_equal(before);
}

/// n1 -- s1 -- n2, by processes that may open few files
pub(crate) fn files_run_out(world: &World) -> Verdict {
    world.file("two.yaml", LAB);
    let before = world.inventory();
    let mut taken_back = [0; 2];
    for limit in [4, 5, 6, 7, 9, 12, 16, 22, 26, 27, 28, 29, 30, 34] {
        let up = limited(world, &format!("--nofile={limit}"), "up two.yaml");
        if up.status.code() == Some(0) {
            world.ovsns("down two").ok();
        } else {
            refused(&up, &["open files"]);
            taken_back[usize::from(up.stderr.contains("taken back"))] += 1;
        }
        world.inventory().must_equal(&before);
    }
    assert!(0 < taken_back[0], "no limit was low enough: {taken_back:?}");

    world.ovsns("up two.yaml").ok();
    world.settled();
    let up = world.inventory();
    for words in [
        "status two",
        "list",
        "plan two.yaml",
        "exec n2 -- true",
        "exec n1 -- true",
        "ping n1 n2",
        "why n1 n2",
        "node add n3 --link s1",
        "logs n1",
        "gc",
        "doctor",
        "down two",
    ] {
        let mut failed = 0;
        for limit in [4, 7, 10, 14, 18, 26, 27, 29] {
            let ran = limited(world, &format!("--nofile={limit}"), words);
            match (ran.status.code(), words) {
                (Some(0), "down two") => {
                    as_before(world, &before);
                    world.ovsns("up two.yaml").ok();
                    world.settled();
                    continue;
                }
                (Some(0), "node add n3 --link s1") => drop(world.ovsns("node rm n3").ok()),
                (Some(0), _) => continue,
                _ => {
                    refused(&ran, &["open files"]);
                    failed += 1;
                }
            }
            world.settled();
            world.inventory().must_equal(&up);
        }
        assert!(0 < failed, "`{words}` never ran out of files");
        if words == "down two" {
            world.ovsns("down two").ok();
        }
    }
    as_before(world, &before);
    Ok(())
}

/// s1 on an Open vSwitch of our own, which somebody starts who may open few files
pub(crate) fn files_of_our_own_open_vswitch(world: &World) -> Verdict {
    own_ovs::needs(world)?;
    let before = world.inventory();
    let up = "up --topo single,30 --lab big --backend ovs";
    // It serves others, too, and has as many as such a daemon gets elsewhere.
    if world.attempt("prlimit --nofile=48 prlimit --nofile=49 true").status.success() {
        limited(world, "--nofile=48", up).ok();
        world.pings("big.h1", "10.0.0.30");
        world.ovsns("down big").ok();
        own_ovs::all_ends(world);
        as_before(world, &before);
    }
    // Who may not raise the limit is told before anything is started.
    let binary = world.binary().display();
    let weak = "setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource";
    let few = world.attempt(&format!("prlimit --nofile=128 {weak} {binary} {up}"));
    refused(&few, &["may have 128 files open here, and needs 256"]);
    own_ovs::all_ends(world);
    as_before(world, &before);
    // And who has some has a lab of some size.
    let some = world.attempt(&format!("prlimit --nofile=300 {weak} {binary} {up}"));
    if some.status.code() == Some(0) {
        world.ovsns("down big").ok();
    } else {
        refused(&some, &["open files", "Too many"]);
    }
    own_ovs::all_ends(world);
    as_before(world, &before);
    Ok(())
}

/// s1 with more ports than a Linux bridge has, of which others have most
pub(crate) fn others_have_the_ports(world: &World) -> Verdict {
    let before = world.inventory();
    let refused = world.ovsns("up --topo single,1025 --lab big --backend linux").code(2);
    refused.says("1023").says(" hint: ");
    world.inventory().must_equal(&before);

    world.file("two.yaml", LAB);
    world.ovsns("up two.yaml").ok();
    let bridge = world.setting("", "two:s1", "ifname");
    let bridge = bridge.as_str().expect("a name");
    let cables = 0..511;
    let add = |n| {
        let second = format!("link set y{n} master {bridge}\n");
        let second = if n == 0 { String::new() } else { second };
        format!(
            "link add x{n} group 77 type veth peer name y{n} group 77\n\
             link set x{n} master {bridge}\n{second}"
        )
    };
    world.file("others", &cables.map(add).collect::<String>());
    world.run("ip -batch others");
    world.settled();
    let full = world.inventory();
    let add = world.ovsns("node add n3 --link s1");
    assert!(matches!(add.status.code(), Some(1 | 2)), "{add}");
    add.says("1023").says(" hint: ");
    world.inventory().must_equal(&full);
    world.run("ip link set y1 nomaster");
    world.ovsns("node add n3 --link s1").ok();
    world.ovsns("down two").ok();
    world.run("ip link del group 77");
    as_before(world, &before);
    Ok(())
}

/// What is done in a user namespace, whose limits are nobody else's: a lab within a
/// limit of namespaces, and what became of it.
const FEW_NAMESPACES: &str = r#"
mount -t tmpfs tmpfs /run
mkdir /run/netns
limit() { echo $2 >/proc/sys/user/max_$1_namespaces; }
look() { ip netns list; ip -br link; find /run -mindepth 1 | sort; ps -eo args | grep '[o]vsns keep' || true; }
fails() {
    status=0
    "$@" >out 2>&1 || status=$?
    echo "status $status"
    cat out
}
# Of networks: this one, and three more.
look >before
limit net 4
fails $OVSNS up --topo single,5 --lab big
look >after
cmp before after
# What is gone is counted until the kernel has come to it.
limit net 100
$OVSNS up two.yaml
# Of mounts: that of the node with a process of its own is no other.
limit mnt 1
fails $OVSNS exec n2 -- true
limit mnt 1000
$OVSNS exec n2 -- true
$OVSNS down two
# Of processes: this one, and no more.
limit pid 1
look >before
fails $OVSNS up two.yaml
look >after
cmp before after
limit pid 1000
$OVSNS up two.yaml
$OVSNS down two
look >after
cmp before after
echo all is well
"#;

/// n1 -- s1 -- n2, where there are as many namespaces as are allowed
pub(crate) fn namespaces_run_out(world: &World) -> Verdict {
    if !world.attempt("unshare -Urnm true").status.success() {
        return Err(world::Skip("this kernel gives no user namespaces".into()));
    }
    world.file("two.yaml", LAB);
    world.file("all.sh", FEW_NAMESPACES);
    let ovsns = world.binary().display();
    let line = format!("OVSNS={ovsns} unshare -Urnmpf --mount-proc sh -eu all.sh");
    let ran = world.shell(&line);
    assert!(ran.stdout.ends_with("all is well\n"), "{ran}");
    let parts: Vec<&str> = ran.stdout.split("status ").skip(1).collect();
    for (part, asked) in parts.iter().zip([
        "could not make a namespace: ",
        "could not make a mount namespace: ",
        "could not start the keeper of node `n1` of lab `two`: ",
    ]) {
        assert!(part.starts_with("1\n"), "{ran}");
        let says = format!("{asked}there are as many namespaces of this kind as are allowed here");
        assert!(part.contains(&says), "{says}: {ran}");
        assert!(part.contains("hint: raise the limit: `sysctl user`"), "{ran}");
    }
    assert_eq!(parts.len(), 3, "{ran}");
    Ok(())
}

/// n1 -- s1 -- n2, by somebody who may have few processes
pub(crate) fn processes_run_out(world: &World) -> Verdict {
    let _groups = world.control_groups()?;
    world.file("two.yaml", LAB);
    let base = std::env::var("OVSNS_CGROUP").expect("every world has a name for its groups");
    let group = world.sh(&format!(
        "cd /sys/fs/cgroup
         test -d pids && at=$PWD/pids/{base}-few || at=$PWD/unified/{base}-few
         test -d pids || echo +pids >unified/cgroup.subtree_control
         mkdir $at && echo $at"
    ));
    let group = group.stdout.trim();
    let within = |most: u32, words: &str| {
        world.shell(&format!(
            "echo {most} >{group}/pids.max
             sh -euc 'echo $$ >{group}/cgroup.procs; exec {} {words}'",
            world.binary().display()
        ))
    };
    let before = world.inventory();
    let mut failed = 0;
    for most in 1..=8 {
        let up = within(most, "up two.yaml");
        if up.status.code() == Some(0) {
            world.ovsns("down two").ok();
        } else {
            refused(&up, &["too many of them", "pids.max"]);
            failed += 1;
        }
        as_before(world, &before);
    }
    assert!((1..8).contains(&failed), "{failed} of 8");
    world.ovsns("up two.yaml").ok();
    world.settled();
    let up = world.inventory();
    for words in ["exec n1 -- true", "exec n2 -- true", "ping n1 n2", "status", "down two"] {
        for most in 1..=4 {
            let ran = within(most, words);
            match ran.status.code() {
                Some(0) => break,
                _ => refused(&ran, &["too many of them", "pids.max"]),
            }
            world.inventory().must_equal(&up);
        }
    }
    world.ovsns("down --all").ok();
    as_before(world, &before);
    Ok(())
}

/// n1 -- s1 -- n2, with no room for another file in one place or the other
pub(crate) fn inodes_run_out(world: &World) -> Verdict {
    world.file("two.yaml", LAB);
    world.sh("mkdir -p /run/ovsns /run/netns");
    let mut failed = [0; 2];
    for (nth, place) in ["/run/ovsns", "/run/netns"].into_iter().enumerate() {
        for inodes in 2..=12 {
            world.run(&format!("mount -t tmpfs -o mode=755,nr_inodes={inodes} tmpfs {place}"));
            let before = world.inventory();
            let up = world.ovsns("up two.yaml");
            if up.status.code() == Some(0) {
                world.pings("two.n1", "10.0.0.2");
                world.ovsns("down two").ok();
            } else {
                refused(&up, &["no space left on device", "there is no room left"]);
                assert!(up.stderr.contains("df -i"), "{up}");
                failed[nth] += 1;
            }
            as_before(world, &before);
            world.run(&format!("umount -l {place}"));
        }
    }
    assert!(failed.iter().all(|times| (1..11).contains(times)), "{failed:?}");
    Ok(())
}

/// n1 -- s1 -- n2, under which the place of its state becomes read-only
pub(crate) fn the_state_becomes_read_only(world: &World) -> Verdict {
    world.file("two.yaml", LAB);
    let before = world.inventory();
    for place in ["/run/ovsns", "/run"] {
        world.ovsns("up two.yaml").ok();
        world.settled();
        // Over what is there, where nobody writes yet; what is mounted below goes along,
        // and does not go from below when this does.
        world.sh(&format!(
            "mount --rbind {place} {place}
             mount --make-rprivate {place}
             mount -o remount,ro,bind {place}"
        ));
        let up = world.inventory();
        let looks = ["status two", "list", "node list", "exec n1 -- true", "ping n1 n2"];
        for words in looks {
            world.ovsns(words).ok();
        }
        world.ovsns("up two.yaml --dry-run").ok();
        for words in ["up two.yaml", "node add n3 --link s1", "link rm n2 s1", "gc", "down two"] {
            let failed = world.ovsns(words);
            refused(&failed, &["read-only"]);
            assert!(failed.stderr.contains("mount -o remount,rw"), "{failed}");
            world.inventory().must_equal(&up);
        }
        world.run(&format!("umount -l {place}"));
        world.ovsns("up two.yaml").ok().says("nothing to change");
        world.ovsns("down two").ok();
        as_before(world, &before);
    }
    Ok(())
}

/// n1 -- s1 -- n2, by root that lacks something of root
pub(crate) fn a_capability_is_missing(world: &World) -> Verdict {
    world.needs("setpriv")?;
    world.file("two.yaml", LAB);
    let without = |capability: &str, words: &str| {
        let less = format!("--bounding-set=-{capability} --inh-caps=-{capability}");
        world.attempt(&format!("setpriv {less} {} {words}", world.binary().display()))
    };
    let before = world.inventory();
    for capability in ["net_admin", "sys_admin"] {
        refused(
            &without(capability, "up two.yaml"),
            &[&format!("CAP_{}", capability.to_uppercase())],
        );
        world.inventory().must_equal(&before);
    }
    world.ovsns("up two.yaml").ok();
    world.settled();
    let up = world.inventory();
    for (capability, words) in [
        ("net_admin", "up two.yaml"),
        ("net_admin", "down two"),
        ("net_admin", "status"),
        ("sys_admin", "exec n2 -- true"),
        ("sys_admin", "exec n1 -- true"),
        ("sys_admin", "node add n3 --link s1"),
        ("sys_chroot", "exec n1 -- true"),
        ("net_raw", "ping n1 n2"),
    ] {
        let name = capability.to_uppercase();
        let failed = without(capability, words);
        refused(&failed, &[&format!("this needs CAP_{name}")]);
        assert!(failed.stderr.contains(&format!("`--cap-add {name}`")), "{failed}");
        world.inventory().must_equal(&up);
    }
    world.ovsns("down two").ok();
    // Whatever else there is of root, a lab does not take.
    for capability in [
        "chown",
        "fowner",
        "kill",
        "setuid",
        "setgid",
        "setpcap",
        "sys_ptrace",
        "sys_resource",
        "net_bind_service",
        "mknod",
        "sys_module",
        "dac_read_search",
        "sys_chroot",
    ] {
        for words in ["up two.yaml", "ping n1 n2", "exec n2 -- true", "status two", "down two"] {
            without(capability, words).ok();
        }
    }
    as_before(world, &before);
    Ok(())
}
