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
