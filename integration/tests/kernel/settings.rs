//! Settings of a switch on Open vSwitch, changed while it runs, and what
//! `status` tells of it. `ovs-vsctl`, `ovs-ofctl`, `ovs-appctl` and traffic are
//! the witnesses.
//!
//! ```text
//! n1, n2 -- s1 -- s2 -- n3
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use world::{Verdict, World, until};

/// n1, n2 -- s1 -- s2 -- n3
pub(crate) fn learned_addresses_and_counters_are_the_switchs(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    up(world, "vlan: 7");
    world.run("ip netns exec set.n1 ping -n -c 5 -i 0.02 -W 2 -s 1000 10.0.0.3");
    // Nodes speak by themselves too, so what is told lies between what was
    // there before and after. A port without a link counts when the switch next
    // looks at its flows.
    for switch in ["s1", "s2"] {
        let bridge = bridge(world, switch);
        until("five pings are counted wherever they passed", || {
            let seen = witnessed(world, &bridge).counters;
            seen.iter().filter(|(_, counted)| 5000 < counted[1]).count() == 2
        });
        let before = witnessed(world, &bridge);
        let told = told(world, switch);
        let after = witnessed(world, &bridge);
        let ports = told["ports"].as_array().expect("ports");
        assert_eq!(ports.len(), after.counters.len(), "{told:#}");
        for port in ports {
            let of = |seen: &Witnessed| {
                let mine = seen.counters.iter().find(|(device, _)| *device == port["device"]);
                mine.unwrap_or_else(|| panic!("no {port}")).1
            };
            let (least, most) = (of(&before), of(&after));
            let keys = ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"];
            for (at, key) in keys.into_iter().enumerate() {
                let told = port["counters"][key].as_u64().expect("a count");
                let range = least[at]..=most[at];
                assert!(range.contains(&told), "{key}: {told}, not in {range:?}: {port}");
            }
        }
        // One behind the link to the other switch, too.
        let learned: BTreeSet<_> = entries(&told["learned"]).map(learned).collect();
        assert!(before.learned.is_subset(&learned), "{:?}, {learned:?}", before.learned);
        assert!(learned.is_subset(&after.learned), "{:?}, {learned:?}", after.learned);
        for node in ["n1", "n3"] {
            let mac = world.setting(&format!("set.{node}"), "eth0", "address");
            let mac = mac.as_str().expect("an address");
            let is_it = |(_, vlan, known): &&(String, u64, String)| known == mac && *vlan == 7;
            assert_eq!(learned.iter().filter(is_it).count(), 1, "{node} on {switch}: {learned:?}");
        }
    }
    Ok(())
}

/// n1, n2 -- s1 -- s2 -- n3, where a stranger is heard once
pub(crate) fn addresses_age_as_they_are_told_to(world: &World) -> Verdict {
    const STRANGER: &str = "02:00:5e:00:53:09";
    let _ovs = world.open_vswitch(&[])?;
    up(world, "");
    world.ovsns("switch set s1 ageing=15").ok().says("ageing 15 s (was 300)");
    let [s1, s2] = ["s1", "s2"].map(|switch| bridge(world, switch));
    let aging = world.run(&format!("ovs-vsctl get bridge {s1} other_config:mac-aging-time"));
    assert_eq!(aging.stdout.trim(), "\"15\"");
    world.broadcast_frame("set.n1", "eth0", STRANGER, "-");
    let heard = Instant::now();
    let knows = |bridge: &str| {
        world.run(&format!("ovs-appctl fdb/show {bridge}")).stdout.contains(STRANGER)
    };
    let told = |switch| told(world, switch)["learned"].to_string().contains(STRANGER);
    until("both know it", || knows(&s1) && knows(&s2));
    assert!(told("s1") && told("s2"));
    while knows(&s1) {
        assert!(heard.elapsed() < Duration::from_secs(60), "it is never forgotten");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Within a second either way, by its own clock.
    assert!(Duration::from_secs(13) < heard.elapsed(), "forgotten after {:?}", heard.elapsed());
    assert!(knows(&s2), "it is to keep it for 300 s");
    assert!(!told("s1") && told("s2"));
    Ok(())
}

/// n1, n2 -- s1 -- s2 -- n3
pub(crate) fn fail_mode_changes_while_it_runs(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    up(world, "");
    let s1 = bridge(world, "s1");
    let mode = || world.run(&format!("ovs-vsctl get-fail-mode {s1}")).stdout;
    assert_eq!(mode(), "standalone\n");
    world.pings("set.n1", "10.0.0.3");
    world.ovsns("switch set s1 fail_mode=secure").ok().says("fail mode secure");
    assert_eq!(mode(), "secure\n");
    world.silence("set.n1", "10.0.0.3");
    world.silence("set.n1", "10.0.0.2");
    world.ovsns("status").ok().says("secure");
    world.ovsns("switch set s1 fail_mode=").ok().says("fail mode standalone");
    assert_eq!(mode(), "standalone\n");
    world.pings("set.n1", "10.0.0.3");
    world.pings("set.n1", "10.0.0.2");
    Ok(())
}

/// n1, n2 -- s1 -- s2 -- n3
pub(crate) fn connections_to_controllers_are_as_told(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    up(world, "");
    let s1 = bridge(world, "s1");
    let get = |column: &str| {
        world.run(&format!("ovs-vsctl get controller {s1} {column}")).stdout.trim().to_owned()
    };
    let check = |settings: &str, rows: [&str; 4]| {
        world.ovsns(&format!("switch set s1 {settings}")).ok();
        let columns = ["target", "connection_mode", "max_backoff", "inactivity_probe"];
        assert_eq!(columns.map(get), rows, "{settings}");
        world.ovsns(&format!("switch set s1 {settings}")).ok().says("nothing to change");
    };
    let target = "\"tcp:127.0.0.1:6653\"";
    let set = "controllers=[tcp:127.0.0.1:6653] fail_mode=standalone";
    check(set, [target, "out-of-band", "1000", "[]"]);
    check("in_band=true", [target, "in-band", "1000", "[]"]);
    check("max_backoff=2000 inactivity_probe=0", [target, "in-band", "2000", "0"]);
    check("in_band= max_backoff=", [target, "out-of-band", "1000", "0"]);
    check(
        "controllers=[tcp:127.0.0.1:6654] inactivity_probe=7000",
        ["\"tcp:127.0.0.1:6654\"", "out-of-band", "1000", "7000"],
    );
    // There is one, not one of each.
    let ids = world.run("ovs-vsctl --bare --columns=_uuid list controller").stdout;
    assert_eq!(ids.split_whitespace().count(), 1, "{ids}");
    world.ovsns("status").ok().says("tcp:127.0.0.1:6654 (not connected)");
    world.ovsns("switch set s1 controllers= inactivity_probe=").ok();
    assert_eq!(world.run("ovs-vsctl list controller").stdout, "");
    Ok(())
}

/// n1, n2 -- s1 -- s2 -- n3
pub(crate) fn status_shows_what_ports_are_told(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    up(world, "");
    world.ovsns("switch set s1 rstp=true").ok();
    world.ovsns("link set n1 s1 shaping.rate=10000").ok();
    let status = world.ovsns("status").ok();
    let row = |table: &str, start: &str| {
        let lines = status.stdout.split_once(table).expect("the table").1.lines();
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut rows = lines.map(words);
        rows.find(|row| row.first().is_some_and(|it| it == start)).expect("a row")
    };
    assert_eq!(row("\nswitches", "s1")[4], "rstp", "{status}");
    assert_eq!(row("\nswitches", "s2")[4], "off", "{status}");
    assert!(row("\nports", "s1").join(" ").ends_with(" shaped to 10000 kbit/s"), "{status}");
    let json = told(world, "s1");
    assert_eq!(json["rstp"], true);
    assert_eq!(json["ports"][0]["shaping"]["rate_kbps"], 10000, "{json:#}");
    Ok(())
}

/// Brings the lab up, with something said of the links to nodes.
fn up(world: &World, link: &str) {
    let text = format!(
        "
name: set
switches: {{ s1: {{ backend: ovs }}, s2: {{ backend: ovs }} }}
nodes:
  n1: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.1/24] }} }} }}
  n2: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.2/24] }} }} }}
  n3: {{ interfaces: {{ eth0: {{ addresses: [10.0.0.3/24] }} }} }}
links:
  - {{ endpoints: ['n[1-2]', s1], {link} }}
  - {{ endpoints: [n3, s2], {link} }}
  - {{ endpoints: [s1, s2] }}
"
    );
    world.file("lab.yaml", &text);
    world.ovsns("up lab.yaml").ok();
}

/// Open vSwitch's name of a switch.
fn bridge(world: &World, switch: &str) -> String {
    let name = world.setting("", &format!("set:{switch}"), "ifname");
    name.as_str().expect("a name").to_owned()
}

/// What `status` tells of a switch.
fn told(world: &World, switch: &str) -> Value {
    let status = world.ovsns("status --json").ok().json();
    assert_eq!(status["troubles"], serde_json::json!([]), "{status:#}");
    let mut switches = entries(&status["switches"]);
    switches.find(|it| it["name"] == switch).expect("the switch").clone()
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().expect("a list").iter()
}

/// A device, a VLAN and a station behind it.
fn learned(entry: &Value) -> (String, u64, String) {
    let text = |key: &str| entry[key].as_str().expect("a text").to_owned();
    (text("port"), entry["vlan"].as_u64().unwrap_or_default(), text("mac"))
}

/// What other programs tell of a bridge.
struct Witnessed {
    /// Packets and bytes in, then out, by device.
    counters: Vec<(String, [u64; 4])>,
    /// Device, VLAN and station.
    learned: BTreeSet<(String, u64, String)>,
}

fn witnessed(world: &World, bridge: &str) -> Witnessed {
    let ports = world.run(&format!("ovs-vsctl list-ports {bridge}")).stdout;
    let numbered = ports.lines().map(|device| {
        let number = world.run(&format!("ovs-vsctl get interface {device} ofport")).stdout;
        (number.trim().to_owned(), device.to_owned())
    });
    let numbered: Vec<_> = numbered.collect();
    let counters = numbered.iter().map(|(number, device)| {
        let said = world.run(&format!("ovs-ofctl --no-names dump-ports {bridge} {number}")).stdout;
        let count = |way: &str, key: &str| {
            let rest = said.split_once(&format!("{way} pkts=")).expect("a line").1;
            let rest = if key == "pkts" { rest } else { rest.split_once("bytes=").expect("it").1 };
            rest.split(',').next().and_then(|word| word.parse().ok()).expect("a number")
        };
        let of = |way| [count(way, "pkts"), count(way, "bytes")];
        let ([a, b], [c, d]) = (of("rx"), of("tx"));
        (device.clone(), [a, b, c, d])
    });
    let fdb = world.run(&format!("ovs-appctl fdb/show {bridge}")).stdout;
    let learned = fdb.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let device = numbered.iter().find(|(number, _)| number == words[0])?.1.clone();
        Some((device, words[1].parse().expect("a VLAN"), words[2].to_owned()))
    });
    Witnessed { counters: counters.collect(), learned: learned.collect() }
}

/// n1, n2 -- s1 -- s2 -- n3, and what is asked of it cannot be
pub(crate) fn changes_that_cannot_be_are_told_in_words(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    up(world, "");
    world.ovsns("switch set s1 mirrors.m.from=[s2] mirrors.m.output=n2").ok();
    world.ovsns("flow add s1 in_port=n1,tcp,actions=drop").ok();
    world.settled();
    let made = world.inventory();
    let check = |words: &str, says: &[&str]| {
        let mut said = world.ovsns(words).code(2);
        assert!(!said.stderr.contains("as changed"), "nobody has that file: {}", said.stderr);
        for text in says {
            said = said.says(text);
        }
    };
    check("switch set s1 stp=true rstp=true", &["switch `s1`, `rstp`: `stp` and", "`stp: false`"]);
    check(
        "link set n1 s1 shaping.rate=10M",
        &["`n1:eth0 s1`, `shaping.rate`", "10 Mbit/s is 10000"],
    );
    check("link set n1 s1 --trunks 10-20", &["--trunks 10,11,12"]);
    check("switch set n1 stp=true", &["`n1` is a node, not a switch"]);
    // What something else names.
    let mirror = ["mirror `m` of switch `s1` still names", "`ovsns switch set s1 mirrors.m=`"];
    check("link rm s1 s2", &mirror);
    check("node rm n2", &mirror);
    check("node rm n1", &["flow `in_port=n1:eth0,tcp", "`ovsns flow del s1 'in_port=n1:eth0,tcp"]);
    // A lab that is not there.
    for words in
        ["switch set s1 stp=true", "link set n1 s1 mtu=1400", "link add n1 s2", "node rm n1"]
    {
        check(&format!("{words} --lab nolab"), &["there is no lab `nolab`", "there is `set`"]);
    }
    // What the machine does not have.
    check("switch set s1 controllers=[tcp:127.0.0.1:99999]", &["from 1 to 65535"]);
    check(
        "switch set s1 sflow.targets=[127.0.0.1:6343] sflow.agent=eth99",
        &["call itself by the address of `eth99`: this host has no such device"],
    );
    let tunnel = "tunnels.x.type=vxlan tunnels.x.remote=192.0.2.1 tunnels.x.local=192.0.2.7";
    check(&format!("switch set s1 {tunnel}"), &["tunnel from 192.0.2.7: this host does not have"]);
    world.inventory().must_equal(&made);

    world.run("ip link add agent0 type veth peer name agent1");
    world.ovsns("switch set s1 sflow.targets=[127.0.0.1:6343] sflow.agent=agent0").ok();
    let told = world.ovsns("link set n2 s1 vlan=7").ok().says("has ports in VLANs now");
    assert!(!told.stdout.contains("ordinary one"), "{}", told.stdout);
    world.ovsns("flow del s1 in_port=n1,tcp").ok();
    world.ovsns("switch set s1 mirrors.m=").ok();
    world.ovsns("node rm n1").ok();
    world.ovsns("node add h9 --lab other").ok().says("lab other is not there yet, and is made");
    Ok(())
}
