//! What `ovsns doctor` says of Open vSwitch and of the kernel, which others say
//! as well; and that looking changes nothing.

use std::fs;

use world::{Verdict, World};

use crate::TWO_NODES;

/// n1 -- b.1.1 -- n2 and somebody's br0, both on the machine's Open vSwitch,
/// which is taken apart bit by bit
pub(crate) fn it_tells_how_the_machines_open_vswitch_stands(world: &World) -> Verdict {
    told(world, "ok", "there is none, nobody listens at `/run/openvswitch/db.sock`");
    // Who starts it writes down which one it is.
    let mut ovs = world.open_vswitch(&["ovs_version=3.1.4"])?;
    let server = "unix:/run/openvswitch/db.sock";
    let schema = world.run(&format!("ovsdb-client get-schema-version {server}")).stdout;
    let at =
        format!("3.1.4, database at `/run/openvswitch/db.sock` with schema {}, ", schema.trim());
    let head = at.as_str();
    let runs = format!("{head}`ovs-vswitchd` runs, datapaths netdev and system, ");
    told(world, "ok", &format!("{runs}0 bridges (0 of"));
    world.run("ovs-vsctl add-br br0 -- set bridge br0 datapath_type=netdev");
    told(world, "ok", &format!("{runs}1 bridge (0 of"));
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml --backend ovs").ok();
    world.settled();
    let before = world.inventory();
    let said = told(world, "ok", "`ovs-vswitchd` runs");
    assert!(said.contains("2 bridges (1 of ovsns)"), "{said}");
    world.inventory().must_equal(&before);

    // Something else's trouble is nothing of ours; ours is.
    world.run("ovs-vsctl add-port br0 nothing");
    told(world, "ok", "`ovs-vswitchd` runs");
    let port = world.setting("", "two-nodes:n1:eth0", "ifname");
    let port = port.as_str().expect("a name");
    world.run(&format!("ip link delete {port}"));
    ovs.kill_switch();
    let said = told(world, "warn", &format!("{head}`ovs-vswitchd` does not run"));
    assert!(said.contains("mend: `systemctl restart openvswitch-switch`"), "{said}");
    ovs.start_switch(world);
    let said = told(world, "warn", &format!("{head}`ovs-vswitchd` runs"));
    let fault = format!("port `{port}`: could not open network device {port} (No such device)");
    assert!(said.contains(&fault), "{said}");
    assert!(said.contains("mend: `ovsns up` with the lab's file"), "{said}");
    world.ovsns("up two.yaml --backend ovs").ok();
    told(world, "ok", &format!("{head}`ovs-vswitchd` runs"));

    // A daemon that hangs, and one that is gone.
    let server = fs::read_to_string("/run/openvswitch/ovsdb-server.pid").expect("its id");
    world.run(&format!("kill -STOP {}", server.trim()));
    told(
        world,
        "warn",
        "its database at `/run/openvswitch/db.sock` is of no use: it does not answer",
    );
    world.run(&format!("kill -KILL {}", server.trim()));
    let headless = "`ovs-vswitchd` runs, but its database does not answer at `/run/openvswitch/";
    told(world, "warn", headless);
    ovs.kill_switch();
    told(world, "warn", "its database does not run; `/run/openvswitch/db.sock` is left of it");
    Ok(())
}

/// What the kernel is lacking in a lab, `doctor` has said before.
pub(crate) fn it_knows_what_plans_are_refused_for(world: &World) -> Verdict {
    let rows = rows(world);
    let row = |what: &str| {
        let row = rows.iter().find(|row| row["what"] == what);
        row.unwrap_or_else(|| panic!("no row `{what}`"))
    };
    for (what, port, switch) in [
        ("bridge VLAN filtering", "vlan: 10", "{}"),
        ("rates of links", "impairments: { rate: 1mbit }", "{}"),
        ("delay and loss of links", "impairments: { delay: 1ms }", "{}"),
        ("policing", "policing: { rate: 100 }", "{}"),
        ("mirrors", "mtu: 1500", "{ mirrors: { m: { from: [n1], output: n2 } } }"),
    ] {
        let text = TWO_NODES.replace("b.1.1: {}", &format!("b.1.1: {switch}"));
        let link = format!("  - {{ endpoints: [n1:eth0, b.1.1], {port} }}");
        world.file("plan.yaml", &text.replace("  - endpoints: [n1:eth0, b.1.1]", &link));
        let row = row(what);
        let planned = world.ovsns("plan plan.yaml");
        match row["verdict"].as_str() {
            Some("ok") => drop(planned.ok()),
            Some("lacks") => {
                assert!(row["mend"].is_string() && row["needed_for"].is_string(), "{row}");
                let said = row["said"].as_str().expect("words");
                let refused = planned.code(2);
                assert!(refused.stderr.contains(said), "{said}\n{refused}");
            }
            verdict => panic!("{what}: {verdict:?}"),
        }
    }
    let module = world.attempt("modprobe openvswitch").status.success();
    let datapath = row("Open vSwitch's datapath in the kernel");
    assert_eq!(
        datapath["verdict"] == "ok",
        module || fs::exists("/sys/module/openvswitch").is_ok_and(|it| it)
    );
    assert_eq!(
        row("/dev/net/tun")["verdict"] == "ok",
        fs::exists("/dev/net/tun").is_ok_and(|it| it)
    );
    Ok(())
}

/// What it says of a kernel's features is what `ip`, `nft` and `unshare` find.
pub(crate) fn its_tries_agree_with_others(world: &World) -> Verdict {
    world.needs("nft")?;
    world.needs("unshare")?;
    let rows = rows(world);
    world.run("ip netns add other");
    world.run("ip -n other link add below type veth peer name beyond");
    let mut tried = 0;
    let mut agrees = |what: &str, command: &str| {
        let row = rows.iter().find(|row| row["what"] == what);
        let row = row.unwrap_or_else(|| panic!("no row `{what}`"));
        let finished = world.attempt(&format!("ip netns exec other {command}"));
        assert_eq!(row["verdict"] == "ok", finished.status.success(), "{row}\n{finished}");
        tried += 1;
    };
    for (kind, words) in [
        ("veth", ""),
        ("bridge", ""),
        ("macvlan", "link below"),
        ("vxlan", "id 7 dstport 4789"),
        ("geneve", "id 7 remote 127.0.0.2"),
        ("gretap", "local 127.0.0.1 remote 127.0.0.2"),
        ("dummy", ""),
        ("vlan", "link below id 10"),
        ("vrf", "table 100"),
        ("bond", ""),
        ("ifb", ""),
        ("wireguard", ""),
        ("ipip", "local 127.0.0.1 remote 127.0.0.2"),
    ] {
        let (link, more) = match words.split_once("link below") {
            Some((_, more)) => ("link below", more),
            None => ("", words),
        };
        agrees(kind, &format!("ip link add {link} name try{kind} type {kind} {more}"));
    }
    agrees("bridge VLAN filtering", "ip link add name filters type bridge vlan_filtering 1");
    let key = format!("0x{}", "07".repeat(20));
    agrees(
        "IPsec",
        &format!(
            "ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi 0x101 mode transport aead \
             rfc4106(gcm(aes)) {key} 128"
        ),
    );
    agrees("multicast routing", "test -e /proc/self/net/ip_mr_vif");
    agrees("packet filter", "nft add table inet try");
    world.attempt(
        "ip netns exec other nft add chain inet try out { type filter hook output priority 0 ; }",
    );
    agrees("packet filter queues", "nft add rule inet try out queue num 0");
    agrees("packet filter traces", "nft add rule inet try out meta nftrace set 1");
    agrees("user namespaces", "unshare --user true");
    for room in ["pid", "mount", "uts", "ipc"] {
        agrees(&format!("{room} namespaces"), &format!("unshare --{room} --fork true"));
    }
    assert_eq!(tried, 24);
    Ok(())
}

/// Whatever the kernel answers, all is told: what it has not, and what could not
/// be tried.
pub(crate) fn it_bears_every_answer(world: &World) -> Verdict {
    world.needs("strace")?;
    let all = names(&rows(world));
    assert!(all.contains(&"veth".to_owned()) && 40 < all.len(), "{all:?}");
    let tampered = |rule: &str| {
        let (finished, struck) = world.tampered(rule, "doctor --json");
        let status = finished.status.code();
        assert!(matches!(status, Some(0 | 1)), "{rule}: {finished}");
        let rows = finished.json().as_array().expect("a list of rows").clone();
        let bad = rows.iter().any(|row| row["verdict"] == "bad");
        assert_eq!(status == Some(1), bad, "{rule}: {finished}");
        for row in &rows {
            let told = row["mend"].is_string() && !row["said"].as_str().expect("words").is_empty();
            assert!(row["verdict"] == "ok" || told, "{rule}: {row}");
        }
        (rows, struck)
    };
    // A kernel that knows nothing of what it is asked for.
    let (rows, struck) = tampered("sendto:error=EOPNOTSUPP");
    assert!(20 < struck, "{struck}");
    let verdict = |rows: &[serde_json::Value], what: &str| {
        let row = rows.iter().find(|row| row["what"] == what);
        row.unwrap_or_else(|| panic!("no row `{what}`"))["verdict"].clone()
    };
    for (what, wanted) in [
        ("veth", "bad"),
        ("bridge", "bad"),
        ("vxlan", "lacks"),
        ("geneve", "lacks"),
        ("gretap", "lacks"),
        ("dummy", "lacks"),
        ("vrf", "lacks"),
        ("bond", "lacks"),
        ("ifb", "lacks"),
        ("wireguard", "lacks"),
        ("bridge VLAN filtering", "lacks"),
        ("checksum offload", "lacks"),
        ("cuts", "lacks"),
        ("ways out", "lacks"),
        ("IPsec", "lacks"),
        ("multicast routing", "lacks"),
        ("packet filter", "lacks"),
        ("packet filter queues", "lacks"),
        ("packet filter traces", "lacks"),
        // What says this otherwise is told as what it is.
        ("marks on addresses", "warn"),
        ("this machine's network", "warn"),
    ] {
        assert_eq!(verdict(&rows, what), wanted, "{what}");
    }
    let (rows, _) = tampered("sendto:error=ENOENT");
    for what in ["mirrors", "policing", "shaping as Open vSwitch does it", "rates of links"] {
        assert_eq!(verdict(&rows, what), "lacks", "{what}");
    }
    // No namespaces of any kind.
    let (rows, _) = tampered("unshare:error=ENOSPC");
    assert_eq!(verdict(&rows, "network namespaces"), "bad");
    assert_eq!(verdict(&rows, "pid namespaces"), "warn");
    let row = rows.iter().find(|row| row["what"] == "network namespaces").expect("just seen");
    assert!(row["mend"].as_str().expect("words").contains("user.max_net_namespaces"), "{row}");
    let (rows, _) = tampered("unshare:error=EINVAL");
    assert_eq!(verdict(&rows, "uts namespaces"), "lacks");
    // And one answer alone, each in its turn.
    let mut last = 0;
    for turn in (1..60).step_by(3) {
        let (rows, struck) = tampered(&format!("sendto:error=EIO:when={turn}"));
        if struck == 0 {
            break;
        }
        last = turn;
        let others = names(&rows);
        let lost: Vec<_> = all.iter().filter(|what| !others.contains(what)).collect();
        // All of the machine's network is one question.
        assert!(lost.len() <= 4, "{turn}: {lost:?}");
    }
    assert!(20 < last, "{last}");
    Ok(())
}

/// What is taken away, or put in the way, is told with the mend.
pub(crate) fn it_tells_what_this_machine_lacks(world: &World) -> Verdict {
    world.needs("nft")?;
    let row = |what: &str| {
        let rows = rows(world);
        let row = rows.iter().find(|row| row["what"] == what);
        row.unwrap_or_else(|| panic!("no row `{what}` in {:?}", names(&rows))).clone()
    };
    let is = |what: &str, verdict: &str, words: &str| {
        let row = row(what);
        assert_eq!(row["verdict"], verdict, "{row}");
        assert!(row["said"].as_str().expect("words").contains(words), "{words}\n{row}");
        assert_eq!(row["mend"].is_string(), verdict != "ok", "{row}");
    };
    is("/dev/net/tun", "ok", "works");
    world.run("mount -t tmpfs tmpfs /dev/net");
    is("/dev/net/tun", "lacks", "it cannot be opened: entity not found");
    world.run("umount /dev/net");

    is("forwarding of IPv4", "lacks", "this machine does not forward IPv4");
    world.file(
        "nat.yaml",
        "switches: { s1: { nat: ipv4 } }\nnodes: { n1: {} }\nlinks: [{ endpoints: [n1, s1] }]\n",
    );
    let refused = world.ovsns("plan nat.yaml").code(2);
    refused.says("this machine does not forward IPv4").says("sysctl -w net.ipv4.ip_forward=1");
    world.run("sysctl -qw net.ipv4.ip_forward=1");
    is("forwarding of IPv4", "ok", "this machine forwards IPv4");

    is("what is forwarded", "ok", "no chain of others drops");
    world.run("nft add table ip filter");
    world.run(
        "nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
    );
    is("what is forwarded", "warn", "chain `FORWARD` of table `ip filter` drops");
    if std::fs::exists("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|it| it) {
        let what = "bridge-nf-call-iptables, bridge-nf-call-ip6tables";
        is(what, "warn", "are dropped by chain `FORWARD` of table `ip filter`");
        // The mend mends.
        let mend = row(what)["mend"].as_str().expect("words").to_owned();
        world.sh(mend.trim_matches('`'));
        assert!(!names(&rows(world)).contains(&what.to_owned()));
    }
    world.run("nft delete table ip filter");

    // Control groups that are not there any more, and still in the list of mounts: in
    // the words of the refusal.
    world.run("mount -t cgroup2 none /sys/fs/cgroup");
    world.run("mount -t tmpfs tmpfs /sys/fs/cgroup");
    assert!(world.run("cat /proc/self/mountinfo").stdout.contains("/sys/fs/cgroup rw"));
    is("control groups for `cpu`", "lacks", "no control groups for `cpu` are mounted");
    world.file("limits.yaml", "nodes: { n1: { isolation: [pid], limits: { cpu: 1 } } }\n");
    world.ovsns("plan limits.yaml").code(2).says("no control groups for `cpu` are mounted");
    Ok(())
}

/// What a crash left is told with the command that removes it.
pub(crate) fn it_tells_what_was_left(world: &World) -> Verdict {
    world.needs("strace")?;
    world.file("two.yaml", TWO_NODES);
    let left = || {
        let rows = rows(world);
        let left = rows.iter().filter(|row| row["part"] == "what was left");
        let words =
            |row: &serde_json::Value| format!("{} {} {}", row["what"], row["said"], row["mend"]);
        left.map(words).collect::<Vec<_>>().join("\n")
    };
    let nothing = "\"leftovers\" \"nothing was left\" null";
    assert_eq!(left(), nothing);
    let (mut cut_off, mut forgotten) = (0, 0);
    for turn in (4..40).step_by(6) {
        let (_, struck) = world.tampered(&format!("sendto:signal=KILL:when={turn}"), "up two.yaml");
        if struck == 0 {
            break;
        }
        let said = left();
        if said.contains("`ovsns down two-nodes` removes it") {
            assert!(said.contains("ovsns up (lab two-nodes) was cut off"), "{said}");
            cut_off += 1;
        }
        world.run("rm -rf /run/ovsns");
        let said = left();
        if said != nothing {
            assert!(said.contains("`ovsns gc` removes it"), "{said}");
            forgotten += 1;
        }
        world.ovsns("gc").ok();
        assert_eq!(left(), nothing);
    }
    assert!(2 <= cut_off && 2 <= forgotten, "{cut_off} {forgotten}");
    Ok(())
}

fn names(rows: &[serde_json::Value]) -> Vec<String> {
    rows.iter().map(|row| row["what"].as_str().expect("a name").to_owned()).collect()
}

/// What it says of the machine's Open vSwitch, which must be as bad as
/// `verdict` and begin with `words`.
#[track_caller]
fn told(world: &World, verdict: &str, words: &str) -> String {
    let row = rows(world);
    let row = row.iter().find(|row| row["what"] == "Open vSwitch of this machine");
    let row = row.expect("it is always told");
    let said = row["said"].as_str().expect("words");
    assert_eq!(row["verdict"], verdict, "{row}");
    assert!(said.contains(words), "{words}\n{said}");
    assert_eq!(row["mend"].is_string(), verdict != "ok", "{row}");
    // People are told the same.
    let text = world.ovsns("doctor").ok().stdout;
    let line = format!("{verdict:<5} Open vSwitch of this machine: {said}");
    assert!(text.contains(&line), "{line}\n{text}");
    let rest = text.split(&line).nth(1).expect("just seen").to_owned();
    format!("{said}{}", rest.lines().take(2).collect::<Vec<_>>().join("\n"))
}

fn rows(world: &World) -> Vec<serde_json::Value> {
    let told = world.ovsns("doctor --json").ok().json();
    told.as_array().expect("a list of rows").clone()
}
