//! Nodes by name, and nodes whose processes cannot change their network.

use std::os::unix::fs::PermissionsExt;

use world::{Verdict, World, until};

use crate::TWO_NODES;

/// What a program in a node finds under a name.
#[track_caller]
fn resolves(world: &World, node: &str, name: &str, address: &str) {
    let database = if address.contains(':') { "ahostsv6" } else { "ahostsv4" };
    let found = world.ovsns(&format!("exec {node} -- getent {database} {name}"));
    let found = found.ok();
    assert!(found.stdout.starts_with(&format!("{address} ")), "{name} in {node}: {found}");
}

/// n1 -- b.1.1 -- n2
pub(crate) fn nodes_have_names(world: &World) -> Verdict {
    world.own_etc();
    let machine = std::fs::read_to_string("/etc/hosts").expect("the machine's names");
    std::fs::write("/etc/hosts", format!("{machine}192.0.2.77\tn2 db\n")).expect("our own /etc");
    let before = std::fs::read("/etc/hosts").expect("the machine's names");
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    for name in ["n2", "n2.two-nodes"] {
        resolves(world, "n1", name, "10.0.0.2");
        resolves(world, "n1", name, "fd00::2");
        world.ovsns(&format!("exec n1 -- ping -c 1 -W 5 {name}")).ok();
    }
    resolves(world, "n1", "n1", "10.0.0.1");
    resolves(world, "n1", "localhost", "127.0.0.1");
    resolves(world, "n1", "db", "192.0.2.77");
    // Not on the machine, and not in its file.
    world.run("getent hosts db").says("192.0.2.77");
    world.attempt("getent hosts n1").code(2);
    assert_eq!(std::fs::read("/etc/hosts").expect("the machine's names"), before);
    // It cannot be written, since all nodes would see it.
    let written = world.ovsns("exec n1 -- tee -a /etc/hosts").code(1);
    written.says("Read-only file system");
    // What runs already sees what changes: the file in it is the same one.
    let inside = world.start_command(world.command().args(["exec", "n1", "--", "sleep", "600"]));
    let comm = format!("/proc/{}/comm", inside.id());
    until("it runs inside", || std::fs::read_to_string(&comm).is_ok_and(|it| it == "sleep\n"));
    world.ovsns("node add n3 --link b.1.1 --address 10.0.0.3/24").ok();
    resolves(world, "n1", "n3", "10.0.0.3");
    resolves(world, "n3", "n1", "fd00::1");
    world.run(&format!("nsenter -t {} -m cat /etc/hosts", inside.id())).says("n3.two-nodes");
    drop(inside);
    world.ovsns("node rm n3").ok();
    world.ovsns("exec n1 -- getent hosts n3").code(2);
    // What the machine learns, nodes learn, too.
    let more = [before.as_slice(), b"192.0.2.78\tlater\n"].concat();
    std::fs::write("/etc/hosts", more).expect("our own /etc");
    resolves(world, "n1", "later", "192.0.2.78");
    resolves(world, "n1", "n2", "10.0.0.2");
    // A user's own file for the node counts more.
    world.sh("mkdir -p /etc/netns/two-nodes.n1; echo 192.0.2.9 n2 >/etc/netns/two-nodes.n1/hosts");
    resolves(world, "n1", "n2", "192.0.2.9");
    resolves(world, "n2", "n1", "10.0.0.1");
    world.run("rm -r /etc/netns");
    // Written down, and so lost with all that is; the next `up` has it again.
    world.run("rm -rf /run/ovsns");
    resolves(world, "n1", "n2", "192.0.2.77");
    world.ovsns("status").ok().says("its state is lost");
    world.ovsns("up two.yaml").ok().says("nothing to change");
    resolves(world, "n1", "n2", "10.0.0.2");
    let mode = std::fs::metadata("/run/ovsns/labs/two-nodes/hosts").expect("it is there");
    assert_eq!(mode.permissions().mode() & 0o777, 0o644);
    world.ovsns("down").ok();
    assert!(!std::path::Path::new("/run/ovsns/labs").exists());
    Ok(())
}

/// n1 (sealed), n2 (sealed, with raw sockets) and n3 -- s1
pub(crate) fn a_sealed_node_keeps_its_network(world: &World) -> Verdict {
    let file = "name: lab
switches: { s1: {} }
nodes:
  n1: { sealed: true, interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  n2: { sealed: { raw: true }, interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  n3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
links:
  - endpoints: ['n[1-3]', s1]
";
    world.file("lab.yaml", file);
    world.ovsns("up lab.yaml").ok();
    // The network works.
    world.pings("lab.n3", "10.0.0.1");
    world.ovsns("exec n2 -- ping -c 1 -W 5 10.0.0.3").ok();
    // What has capabilities of its own is not begun without them.
    world.ovsns("exec n1 -- ping -c 1 -W 5 10.0.0.3").code(126).says("not allowed");
    let tries = |node: &str| {
        let mut wrong = Vec::new();
        for (words, why) in [
            ("ip link add x0 type veth peer name x1", "Operation not permitted"),
            ("ip address del 10.0.0.0/24 dev eth0", "Operation not permitted"),
            ("ip link set eth0 down", "Operation not permitted"),
            ("ip route add 10.7.0.0/16 dev eth0", "Operation not permitted"),
            ("sysctl -w net.ipv4.ip_forward=1", "permission denied"),
            ("tee /proc/sys/net/ipv4/ip_forward", "Read-only file system"),
            ("mount -o remount,rw /proc/sys", "permission denied"),
            ("umount /proc/sys", "must be superuser"),
            ("mount -t proc proc /mnt", "permission denied"),
            ("nsenter --net=/run/netns/lab.n3 true", "Operation not permitted"),
            ("nsenter -t 1 -n true", "ermi"),
            ("unshare -n true", "Operation not permitted"),
            ("nft add table inet x", "Operation not permitted"),
            ("cat /proc/1/environ", "Permission denied"),
            ("tc qdisc add dev eth0 root pfifo", "Operation not permitted"),
            ("ip link set eth0 netns 1", "Operation not permitted"),
            ("ip link set lo alias mine", "Operation not permitted"),
        ] {
            let words =
                words.replace("10.0.0.0", if node == "n1" { "10.0.0.1" } else { "10.0.0.2" });
            let tried = world.ovsns(&format!("exec {node} -- {words}"));
            let said = format!("{}{}", tried.stdout, tried.stderr);
            if !said.contains(why) || tried.status.code() == Some(0) {
                wrong.push(format!("{why:?} expected: {tried}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    };
    world.settled();
    let before = world.inventory();
    tries("n1");
    tries("n2");
    // A program that makes its caller root finds nothing to give: as nobody ...
    let scratch = std::env::current_dir().expect("a directory");
    world.sh("cp $(readlink -f $(command -v ip)) setuid-ip; chmod 4755 setuid-ip; chmod 755 .");
    let setuid = format!("{}/setuid-ip link set eth0 down", scratch.display());
    let tried = world.ovsns(&format!("exec n1 -- setpriv --reuid=65534 --clear-groups {setuid}"));
    assert!(tried.status.code() != Some(0), "{tried}");
    tried.says("Operation not permitted");
    // ... and all that it has says so.
    let status = world.ovsns("exec n1 -- cat /proc/self/status").ok().stdout;
    let line = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).expect("it is there");
        line.split_whitespace().nth(1).expect("a value").to_owned()
    };
    assert_eq!(line("NoNewPrivs:"), "1");
    assert_eq!(line("CapAmb:"), "0000000000000000");
    assert_eq!(line("CapInh:"), "0000000000000000");
    let bounding = u64::from_str_radix(&line("CapBnd:"), 16).expect("a number");
    // CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_PTRACE,
    // CAP_SYS_ADMIN, CAP_MKNOD, CAP_BPF, CAP_DAC_READ_SEARCH, and all beyond.
    for bit in [12, 13, 16, 17, 19, 21, 27, 39, 2].into_iter().chain(37..64) {
        assert_eq!(bounding >> bit & 1, 0, "bit {bit} of {bounding:x}");
    }
    assert_eq!(line("CapPrm:"), line("CapBnd:"));
    world.inventory().must_equal(&before);
    // Another node is as it was, and a sealed one is known by its mark.
    world.ovsns("exec n3 -- ip link set eth0 mtu 1499").ok();
    world.ovsns("up lab.yaml").ok();
    world.run("rm -rf /run/ovsns");
    world.ovsns("exec n1 -- ip link set eth0 down").says("Operation not permitted");
    let json = world.ovsns("node list --json").ok().json();
    assert_eq!(json[0]["sealed"]["raw"], false);
    assert_eq!(json[1]["sealed"]["raw"], true);
    assert!(json[2]["sealed"].is_null());
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    // Somebody breaks the seal; it shows, and is put back.
    world.sh("ip -n lab.n1 link set lo alias 'ovsns lab=lab node=n1'");
    world.ovsns("status").ok().says("~ node n1 is sealed");
    world.ovsns("up lab.yaml").ok().says("1 step");
    world.ovsns("exec n1 -- ip link set eth0 down").says("Operation not permitted");
    world.file("open.yaml", &file.replace("sealed: true", "sealed: false"));
    world.ovsns("up open.yaml").ok();
    world.ovsns("exec n1 -- ip link set eth0 mtu 1400").ok();
    world.ovsns("down").ok();
    Ok(())
}

/// Two labs, each a -- s -- b, whose names the machine is to have.
fn named(lab: &str, network: &str) -> String {
    format!(
        "name: {lab}
hosts: true
switches: {{ s: {{}} }}
nodes:
  a: {{ interfaces: {{ eth0: {{ addresses: [{network}.1/24] }} }} }}
  b: {{ interfaces: {{ eth0: {{ addresses: [{network}.2/24, 'fd00::2/64'] }} }} }}
links:
  - endpoints: [a, s]
  - endpoints: [b, s]
"
    )
}

/// The machine finds nodes by their names, as long as the lab is there, and not a
/// byte of anybody else's in its file is another.
pub(crate) fn names_on_the_machine(world: &World) -> Verdict {
    const HOSTS: &str = "/etc/hosts";
    world.own_etc();
    // No text, and behind a link; with permissions of its own.
    let theirs: &[u8] = b"127.0.0.1\tlocalhost\n\n# \xff\r\n192.0.2.7\tb.x # theirs\n";
    std::fs::write("/etc/hosts.real", theirs).expect("our own /etc");
    std::fs::remove_file(HOSTS).expect("our own /etc");
    std::os::unix::fs::symlink("hosts.real", HOSTS).expect("our own /etc");
    world.sh("chmod 640 /etc/hosts.real; chown 1:2 /etc/hosts.real");
    let is = || world.run("stat -c %i:%a:%u:%g:%h /etc/hosts.real /etc").stdout;
    let (before, as_it_was) = (world.inventory(), is());
    let has = || std::fs::read(HOSTS).expect("the machine's names");
    let finds = |name: &str, address: &str| {
        // Not `ahosts`, which passes over IPv4 on a machine without an address of it.
        world.run(&format!("getent hosts {name}")).says(address);
    };
    world.file("one.yaml", &named("one", "10.1.0"));
    world.file("two.yaml", &named("two", "10.2.0"));
    world.ovsns("plan one.yaml").ok().says("+ names of the nodes in the machine's /etc/hosts");
    assert_eq!(has(), theirs, "a plan writes nothing");
    world.ovsns("up one.yaml").ok();
    let of_one = has();
    finds("a.one", "10.1.0.1");
    finds("b", "fd00::2");
    finds("b.one", "fd00::2");
    finds("b.x", "192.0.2.7");
    world.ovsns("up one.yaml").ok().says("nothing to change");
    // In its nodes they are there once.
    let inside = world.ovsns("exec a -- grep -c one /etc/hosts").ok();
    assert_eq!(inside.stdout, "5\n", "two marks and three addresses");
    world.ovsns("up two.yaml").ok();
    finds("a.two", "10.2.0.1");
    finds("a.one", "10.1.0.1");
    world.ovsns("node add c --lab one --link s --address 10.1.0.3/24").ok();
    finds("c.one", "10.1.0.3");
    finds("a.two", "10.2.0.1");
    assert_eq!(world.ovsns("status one --json").ok().json()["hosts"], true);
    assert!(has().starts_with(theirs));
    world.ovsns("down two").ok();
    world.attempt("getent hosts a.two").code(2);
    finds("c.one", "10.1.0.3");
    world.ovsns("node rm c --lab one").ok();
    assert_eq!(has(), of_one, "as if there had been no other lab");

    // What others do to the block shows, and what they put beside it stays.
    let mend = |how: &str| {
        world.sh(how);
        world.ovsns("status").ok().says("names of the nodes in the machine's /etc/hosts");
        world.ovsns("up one.yaml").ok().says("1 step");
        world.ovsns("up one.yaml").ok().says("nothing to change");
        finds("a.one", "10.1.0.1");
        finds("b.one", "fd00::2");
    };
    mend("sed -i 's/10.1.0.1/10.9.9.9/' /etc/hosts.real");
    mend("sed -i '/^# end of ovsns/d' /etc/hosts.real");
    mend("sed -i '/^# ovsns/d' /etc/hosts.real");
    // Whose lab is called like a domain of somebody's.
    mend("sed -i '/^# end of/d' /etc/hosts.real; printf '192.0.2.6\tnas.one\n' >>/etc/hosts.real");
    finds("nas.one", "192.0.2.6");
    world.sh("sed -i '/nas.one/d' /etc/hosts.real");
    mend("sed -i 's/^fd00::2/192.0.2.8 within\\n&/' /etc/hosts.real");
    mend("cp /etc/hosts.real twice; cat twice >>/etc/hosts.real");
    finds("within", "192.0.2.8");
    // Where `sed` has replaced the file, and somebody has bound one over it, as in
    // a container.
    std::fs::write("bound", theirs).expect("the test's own file");
    world.run("mount --bind bound /etc/hosts.real");
    world.ovsns("up one.yaml").ok().says("1 step");
    std::fs::write("more", [has().as_slice(), b"192.0.2.9\tlater\n"].concat()).expect("ours");
    world.sh("cat more >/etc/hosts");
    world.ovsns("node add c --lab one --link s --address 10.1.0.3/24").ok();
    finds("later", "192.0.2.9");
    finds("c.one", "10.1.0.3");
    world.ovsns("down one").ok();
    assert_eq!(has(), [theirs, b"192.0.2.9\tlater\n"].concat());
    world.run("umount /etc/hosts.real");

    // A read-only file is told of before anything is touched.
    std::fs::write("/etc/hosts.real", theirs).expect("our own /etc");
    world.run("mount --bind /etc/hosts.real /etc/hosts.real");
    world.run("mount -o remount,ro,bind /etc/hosts.real");
    world.ovsns("up one.yaml").code(2).says("`/etc/hosts` cannot be written").says("read-only");
    world.run("umount /etc/hosts.real");
    world.sh("chmod 640 /etc/hosts.real; chown 1:2 /etc/hosts.real");
    // What is no file is nobody else's trouble.
    world.sh("mkfifo pipe; mount --bind pipe /etc/hosts.real");
    world.file("plain.yaml", &named("plain", "10.3.0").replace("hosts: true", "hosts: false"));
    world.ovsns("up plain.yaml").ok();
    world.ovsns("up plain.yaml").ok().says("nothing to change");
    world.ovsns("up one.yaml").code(2).says("`/etc/hosts` cannot be written: it is no file");
    world.ovsns("down plain").ok();
    world.run("umount /etc/hosts.real");

    // With all memory lost, and every node gone, the names are still found.
    let as_it_was = [as_it_was, is()];
    world.ovsns("up one.yaml").ok();
    assert_ne!(has(), theirs);
    world.run("rm -rf /run/ovsns");
    world.ovsns("status one").ok().says("its state is lost");
    world.ovsns("gc").ok().says("removed lab one");
    assert_eq!(has(), theirs);
    world.ovsns("up one.yaml").ok();
    world.file("without.yaml", &named("one", "10.1.0").replace("hosts: true", "hosts: false"));
    world.ovsns("up without.yaml").ok().says("1 step");
    assert_eq!(has(), theirs);
    world.ovsns("up one.yaml").ok();
    world.ovsns("down").ok();
    assert_eq!(has(), theirs);
    let owner = |text: &str| text.split_once(':').expect("a number").1.to_owned();
    assert_eq!(owner(&as_it_was[0]), owner(&is()));
    assert_eq!(as_it_was[1], is(), "the same file, and no other beside it");
    world.inventory().must_equal(&before);
    Ok(())
}
