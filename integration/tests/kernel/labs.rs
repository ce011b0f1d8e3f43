//! Labs: several at once, several commands at once, several kinds of users.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use world::{Skip, Verdict, World, until};

use crate::{FOUR_NODES, TWO_NODES};

/// n1 -- b.1.1 -- n2, twice, with the same names and addresses
pub(crate) fn two_labs_side_by_side(world: &World) -> Verdict {
    let foreign = world.foreign();
    world.file("a.yaml", &TWO_NODES.replace("name: two-nodes", "name: a"));
    world.file("b.yaml", &TWO_NODES.replace("name: two-nodes", "name: b"));
    world.ovsns("up a.yaml").ok();
    world.settled();
    let only_a = world.inventory();
    world.ovsns("up b.yaml").ok();
    world.pings("a.n1", "10.0.0.2");
    world.pings("b.n1", "10.0.0.2");
    // They are apart: what a's n2 hears is not what b's n2 hears.
    world.run("ip -n a.n2 link set eth0 down");
    world.silence("a.n1", "10.0.0.2");
    world.pings("b.n1", "10.0.0.2");
    world.run("ip -n a.n2 link set eth0 up");

    world.ovsns("exec n1 -- true").code(2).says("`a`").says("`b`").says("a/n1");
    world.ovsns("exec b/n1 -- true").ok();
    world.ovsns("exec --lab a n1 -- true").ok();
    world.ovsns("down").code(2).says("a").says("b");
    world.ovsns("down b").ok();
    world.ovsns("up a.yaml").ok();
    world.settled();
    world.inventory().must_equal(&only_a);

    world.ovsns("up b.yaml").ok();
    world.ovsns("down --all").ok();
    foreign.is_untouched(world);
    world.ovsns("down --all").ok();
    world.ovsns("down a").code(2).says("a");
    Ok(())
}

/// n1, n2, n3 -- s1; n1 -- n4
pub(crate) fn list_and_status_match_the_kernel(world: &World) -> Verdict {
    assert_eq!(world.ovsns("list --json").ok().json(), Value::Array(Vec::new()));
    world.file("four.yaml", FOUR_NODES);
    world.ovsns("up four.yaml").ok();
    world.run("ip netns exec four.n1 ping -n -c 3 -i 0.05 -W 2 10.0.0.2");
    let list = world.ovsns("list --json").ok().json();
    let labs = list.as_array().expect("a list of labs");
    assert_eq!(labs.len(), 1, "{list}");
    assert!(list.to_string().contains("\"four\""), "{list}");
    world.ovsns("list").ok().says("four");

    // Addresses and MACs are the kernel's, whatever the file said.
    world.run("ip -n four.n3 addr add 198.51.100.3/24 dev eth0");
    let status = world.ovsns("status four --json").ok().json().to_string();
    for (namespace, interface) in
        [("four.n1", "eth0"), ("four.n1", "eth1"), ("four.n2", "eth0"), ("four.n4", "eth0")]
    {
        let mac = world.setting(namespace, interface, "address");
        assert!(status.contains(mac.as_str().expect("a MAC")), "no {mac}: {status}");
        for address in world.addresses(namespace, interface) {
            assert!(status.contains(&address), "no {address}: {status}");
        }
    }
    assert!(status.contains("198.51.100.3/24"), "{status}");
    let text = world.ovsns("status").ok();
    for word in ["four", "n1", "n4", "s1", "10.0.0.1/24"] {
        assert!(text.stdout.contains(word), "no {word}\n{text}");
    }
    // Drift from the file is told.
    world.run("ip -n four.n2 addr del 10.0.0.2/24 dev eth0");
    world.run("ip link set four:n3:eth0 down");
    let text = world.ovsns("status four").says("n2").says("10.0.0.2/24");
    assert!(text.stdout.contains("n3"), "{text}");
    world.ovsns("status nobody").code(2).says("nobody");
    Ok(())
}

/// n1, n2 -- s1 = s2 -- n3, and what else there is on Open vSwitch
const ALL_OF_IT: &str = "
name: all
switches:
  s1:
    backend: ovs
    in_band: true
    controllers: ['ptcp:6653:127.0.0.1']
    fail_mode: standalone
    mirrors: { span: { from: [n1], output: n2 } }
    sflow: { targets: ['127.0.0.1:6343'], sampling: 64 }
  s2: { backend: ovs }
nodes: { n1: , n2: , n3: }
links:
  - { endpoints: [n1, s1], vlan: 10 }
  - { endpoints: [n2, s1] }
  - { endpoints: [n3, s2], isolated: true }
  - { endpoints: [s1, s2], bond: { members: 2, mode: active-backup } }
";

/// n1, n2 -- s1 = s2 -- n3
pub(crate) fn status_shows_what_open_vswitch_has(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    world.file("all.yaml", ALL_OF_IT);
    world.ovsns("up all.yaml").ok();
    let switch = || world.ovsns("status --json").ok().json()["switches"][0].take();
    let port = |switch: &Value, across: &str| {
        let ports = switch["ports"].as_array().expect("ports").iter();
        ports.clone().find(|port| port["across"] == across).expect("the port").clone()
    };
    let s1 = switch();
    assert_eq!(s1["openflow"]["in_band"], true);
    assert_eq!(s1["export"]["sflow"]["sampling"], 64);
    let mirror = &s1["mirrors"][0];
    assert_eq!((&mirror["name"], &mirror["from"][0]), (&"span".into(), &"n1:eth0".into()));
    assert_eq!((&mirror["output"], &s1["foreign_mirrors"][0]), (&"n2:eth0".into(), &Value::Null));
    assert_eq!(
        (&port(&s1, "n1:eth0")["kind"], &port(&s1, "n1:eth0")["vlan"]),
        (&"link".into(), &10.into())
    );

    // A bond as the switch has it: the used cable fails, and the other is used.
    let device = world.ovs_port("all", "s1~s2#0");
    let active = || {
        let shown = world.appctl(&format!("bond/show {device}"));
        let line = shown.lines().find(|line| line.starts_with("active member mac:"));
        let name = line.and_then(|line| line.split(['(', ')']).nth(1)).unwrap_or_default();
        name.to_owned()
    };
    let cables = |switch: &Value| {
        let bond = port(switch, "s2");
        assert_eq!((&bond["kind"], &bond["agreed"]), (&"bond".into(), &true.into()), "{bond}");
        bond["cables"].as_array().expect("cables").clone()
    };
    let used = active();
    for cable in cables(&s1) {
        let is_used = cable["device"] == used.as_str();
        assert_eq!((&cable["active"], &cable["enabled"]), (&is_used.into(), &true.into()));
    }
    world.ovsns("status").says("spare").says("span").says("one packet in 64").says("in-band");
    world.run(&format!("ip link set {used} down"));
    until("the other cable is used", || !["", &used].contains(&active().as_str()));
    for cable in cables(&switch()) {
        let failed = cable["device"] == used.as_str();
        assert_eq!((&cable["active"], &cable["enabled"]), (&(!failed).into(), &(!failed).into()));
    }
    world.ovsns("status").says("out of use");
    world.run(&format!("ip link set {used} up"));

    // Mirrors of others show as such.
    let bridge = world.setting("", "all:s1", "ifname");
    let bridge = bridge.as_str().expect("a name");
    world.vsctl(&format!("-- --id=@m create Mirror name=theirs -- add Bridge {bridge} mirrors @m"));
    assert_eq!(switch()["foreign_mirrors"][0], "theirs");
    world.ovsns("status").says("theirs");

    let links = world.ovsns("link list --json").ok().json();
    let bonds = links.as_array().expect("links").iter().filter(|link| !link["bond"].is_null());
    assert_eq!(bonds.map(|link| &link["bond"]["members"]).collect::<Vec<_>>(), [2]);
    world.ovsns("link list").says("vlan 10").says("isolated").says("bond of 2, active-backup");
    Ok(())
}

/// n1, n2, n3 -- s1; n1 -- n4
pub(crate) fn counters_and_learned_addresses_are_the_kernels(world: &World) -> Verdict {
    world.file("four.yaml", FOUR_NODES);
    world.ovsns("up four.yaml").ok();
    world.settled();
    world.run("ip netns exec four.n1 ping -n -c 5 -i 0.02 -W 1 -s 1000 10.0.0.2");
    // Nodes and the bridge speak by themselves too, so what is told lies between
    // what the kernel has counted before and after.
    let counted = || world.json("ip -s -j link show");
    let before = counted();
    let status = world.ovsns("status four --json").ok().json();
    let after = counted();
    let switch = &status["switches"][0];
    let ports = switch["ports"].as_array().expect("ports");
    assert_eq!(ports.len(), 3, "{switch}");
    for port in ports {
        for (way, what) in [("rx", "packets"), ("rx", "bytes"), ("tx", "packets"), ("tx", "bytes")]
        {
            let count = |links: &Value| {
                let links = links.as_array().expect("links");
                let link = links.iter().find(|link| link["ifname"] == port["device"]);
                link.expect("the port's device")["stats64"][way][what].as_u64().expect("a count")
            };
            let told = port["counters"][format!("{way}_{what}")].as_u64().expect("a count");
            let range = count(&before)..=count(&after);
            assert!(range.contains(&told), "{way} {what}: {told}, not in {range:?}: {port}");
            assert!(port["across"] == "n3:eth0" || what == "packets" || 5000 < told, "{port}");
        }
    }
    let bridge = switch["device"].as_str().expect("a device");
    let mut known: Vec<String> = if world.backend() == "ovs" {
        // ` port  VLAN  MAC                Age`
        let table = world.run(&format!("ovs-appctl fdb/show {bridge}")).stdout;
        // What the machine itself sent came from no port of a node.
        let of_nodes = table.lines().skip(1).filter(|line| !line.contains("LOCAL"));
        let macs = of_nodes.filter_map(|line| line.split_whitespace().nth(2));
        macs.map(|mac| format!("{mac:?}")).collect()
    } else {
        let dynamic = world.json(&format!("bridge -j fdb show br {bridge} dynamic"));
        dynamic.as_array().expect("entries").iter().map(|it| it["mac"].to_string()).collect()
    };
    let mut told: Vec<String> = switch["learned"]
        .as_array()
        .expect("learned addresses")
        .iter()
        .map(|it| it["mac"].to_string())
        .collect();
    known.sort();
    told.sort();
    assert_eq!(told, known);
    assert!(2 <= told.len(), "{told:?}");
    Ok(())
}

/// n1, n2, n3 -- s1; n1 -- n4
pub(crate) fn lists_match_the_kernel(world: &World) -> Verdict {
    world.file("four.yaml", FOUR_NODES);
    world.ovsns("up four.yaml").ok();
    for (words, kinds) in [
        ("node list", &["n1", "n2", "n3", "n4"][..]),
        ("switch list", &["s1"]),
        ("link list", &["n1:eth0", "n2:eth0", "n3:eth0", "n1:eth1", "n4:eth0"]),
    ] {
        let json = world.ovsns(&format!("{words} --json")).ok().json();
        assert!(json.is_array(), "{words}: {json}");
        let text = world.ovsns(words).ok();
        for kind in kinds {
            assert!(json.to_string().contains(kind), "{words}: no {kind} in {json}");
            assert!(text.stdout.contains(kind), "no {kind}\n{text}");
        }
    }
    let count =
        |words: &str| world.ovsns(&format!("{words} --json")).ok().json().as_array().map(Vec::len);
    assert_eq!(count("node list"), Some(world.namespaces().len()));
    assert_eq!(
        count("switch list"),
        world.json("ip -j link show type bridge").as_array().map(Vec::len)
    );
    Ok(())
}

/// s1 with many nodes, wanted by two at once
pub(crate) fn two_commands_on_one_lab(world: &World) -> Verdict {
    let before = world.inventory();
    let namespaces = || std::fs::read_dir("/run/netns").map_or(0, Iterator::count);
    let words = "up --topo single,300 --lab big";
    let start = || {
        // What it says of another goes to standard error.
        let line = format!("exec {} {words} 2>&1", world.binary().display());
        world.start_command(Command::new("sh").args(["-c", &line]))
    };
    let mut first = start();
    // In the middle of its work it stops, and holds what it holds.
    until("the first has begun", || 10 < namespaces());
    first.signal(Signal::SIGSTOP);
    let second = start();
    let holder = first.id().to_string();
    // It says who has the lab, and goes.
    let refused = second.finish().code(1);
    assert!(refused.stdout.contains(&holder), "{refused}");
    assert!(first.runs(), "the first was not in the middle of it");
    first.signal(Signal::SIGCONT);
    first.finish().ok();
    assert_eq!(namespaces(), 300);
    world.pings("big.h1", world.addresses("big.h300", "eth0")[0].split('/').next().expect("one"));
    // Another lab is nobody's business.
    world.ovsns("up --topo single,2 --lab small").ok();
    world.ovsns("down --all").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 (in which a process sleeps) -- b.1.1 -- n2
pub(crate) fn a_process_left_in_a_node(world: &World) -> Verdict {
    let before = world.inventory();
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    let mut orphan = world.start("ip netns exec two-nodes.n1 sleep 1000");
    until("it is inside", || {
        let id = orphan.id();
        let place = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/net")).ok();
        place(&id.to_string()) != place("self")
    });
    world.ovsns("down two-nodes").ok();
    assert_eq!(world.namespaces(), [""; 0]);
    world.inventory().must_equal(&before);
    // If it lives on, it is alone: the veth is gone from under it.
    if orphan.runs() {
        let links = world.run(&format!("nsenter -t {} -n ip -j link show", orphan.id())).json();
        assert_eq!(links.as_array().map(Vec::len), Some(1), "{links}");
    }
    Ok(())
}

/// n1 -- b.1.1 -- n2, made by somebody who is not root
pub(crate) fn a_capability_is_what_counts(world: &World) -> Verdict {
    world.needs("setpriv")?;
    let binary = world.binary_for_all();
    world.file("two.yaml", TWO_NODES);
    world.sh("mkdir -p /run/netns /run/world/state && chown 4321 /run/netns /run/world/state");
    let before = world.inventory();
    let run = |words: &str| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=4321", "--regid=4321", "--clear-groups"])
            .args(["--inh-caps=-all,+net_admin,+sys_admin,+net_raw"])
            .args(["--ambient-caps=-all,+net_admin,+sys_admin,+net_raw"])
            .arg(&binary)
            .args(words.split(' '))
            .env("OVSNS_STATE_DIR", "/run/world/state");
        world.start_command(&mut command).finish()
    };
    run("up two.yaml").ok();
    world.pings("two-nodes.n1", "10.0.0.2");
    run("up two.yaml").ok().says("nothing to change");
    run("exec n1 -- ip -o addr show dev eth0").ok().says("10.0.0.1/24");
    run("exec n1 -- id -u").ok().says("4321");
    run("ping n1 n2").ok();
    run("down two-nodes").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// h1, h2 -- s1, made by somebody who is root of nothing but a namespace
pub(crate) fn a_user_namespace_will_do(world: &World) -> Verdict {
    let somebody = "setpriv --reuid=4321 --regid=4321 --clear-groups unshare -rnm";
    if !world.attempt(&format!("{somebody} true")).status.success() {
        return Err(Skip("this kernel gives no user namespaces to users".into()));
    }
    let ovsns = world.binary_for_all();
    let before = world.inventory();
    std::fs::write(
        "all.sh",
        format!(
            "set -e
            mount -t tmpfs tmpfs /run
            {0} up --topo single,2 --lab mine
            ip netns exec mine.h1 ping -n -c 1 -W 1 10.0.0.2
            {0} ping
            {0} exec h2 -- ls /sys/class/net
            {0} down mine
            test -z \"$(ip netns list)\"",
            ovsns.display()
        )
        .replace("/run/world/ovsns", "/tmp/.ovsns/ovsns"),
    )
    .expect("the test's own file");
    // A tmpfs over /run hides the scratch directory: a second place for it.
    world.sh("mount -t tmpfs tmpfs /tmp && mkdir -m 755 /tmp/.ovsns");
    world.sh("cp /run/world/ovsns /run/world/all.sh /tmp/.ovsns");
    let all = world.run(&format!("{somebody} sh /tmp/.ovsns/all.sh"));
    assert!(all.stdout.contains("lab mine is up: 2 nodes") && all.stdout.contains("eth0"), "{all}");
    world.run("umount /tmp");
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2, wanted by somebody who may not
pub(crate) fn another_user_gets_a_clear_error(world: &World) -> Verdict {
    world.needs("setpriv")?;
    let binary = world.binary_for_all();
    world.file("two.yaml", TWO_NODES);
    let before = world.inventory();
    let user = "--reuid=4321 --regid=4321 --clear-groups --bounding-set=-all";
    let run = |words: &str| world.attempt(&format!("setpriv {user} {} {words}", binary.display()));
    let refused = run("up two.yaml");
    assert!(matches!(refused.status.code(), Some(1 | 2)), "{refused}");
    assert!(refused.stderr.contains("error: ") && refused.stderr.contains("hint: "), "{refused}");
    let words = refused.stderr.to_lowercase();
    assert!(
        words.contains("root") || words.contains("sudo") || words.contains("cap_"),
        "{refused}"
    );
    // Nothing needs a privilege to read a file and say what it means.
    run("--version").ok();
    run("schema").ok();
    world.inventory().must_equal(&before);
    Ok(())
}

/// n1 -- b.1.1 -- n2, and a link of others that has our link group
pub(crate) fn a_stranger_in_our_group(world: &World) -> Verdict {
    let foreign = world.foreign();
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    let group = world.setting("", "two-nodes:b.1.1", "group");
    let group = group.as_str().expect("a group");
    // It keeps its name and carries no mark: not ours, whatever its group.
    world.run(&format!("ip link set v0 group {group}"));
    world.ovsns("up two.yaml").ok().says("nothing to change");
    world.ovsns("down two-nodes").ok();
    assert!(world.link("", "v0").is_some(), "a link of others was deleted with ours");
    assert!(world.link("", "two-nodes:b.1.1").is_none());
    world.run("ip link set v0 group default");
    foreign.is_untouched(world);
    Ok(())
}

/// n1 -- b.1.1 -- n2, with nothing remembered
pub(crate) fn every_state_file_lost(world: &World) -> Verdict {
    let foreign = world.foreign();
    world.file("two.yaml", TWO_NODES);
    world.ovsns("up two.yaml").ok();
    world.run("rm -r /run/ovsns");
    world.ovsns("list").ok().says("two-nodes");
    world.ovsns("status two-nodes").ok().says("n1").says("b.1.1");
    world.ovsns("exec n1 -- true").ok();
    // What is not named would go: nothing is known of it.
    world.settled();
    let whole = world.inventory();
    for words in ["node add n3 --link b.1.1", "switch add s9", "link rm n1 b.1.1", "node rm n1"] {
        world.ovsns(words).code(2).says("not remembered any more").says("`ovsns up`");
    }
    world.inventory().must_equal(&whole);
    world.ovsns("up two.yaml").ok();
    world.pings("two-nodes.n1", "10.0.0.2");
    world.run("rm -r /run/ovsns");
    world.ovsns("down two-nodes").ok();
    foreign.is_untouched(world);
    // And with half of the lab gone as well.
    world.ovsns("up two.yaml").ok();
    world.run("rm -r /run/ovsns");
    world.run("ip netns del two-nodes.n1");
    world.ovsns("down two-nodes").ok();
    foreign.is_untouched(world);
    // `gc` leaves alone what is whole.
    world.ovsns("up two.yaml").ok();
    world.settled();
    let whole = world.inventory();
    world.ovsns("gc").ok();
    world.inventory().must_equal(&whole);
    Ok(())
}

pub(crate) fn doctor_looks_at_this_machine(world: &World) -> Verdict {
    let before = world.inventory();
    let told = world.ovsns("doctor").ok();
    assert!(told.stdout.to_lowercase().contains("bridge"), "{told}");
    world.ovsns("doctor --json").ok().json();
    world.inventory().must_equal(&before);
    Ok(())
}
