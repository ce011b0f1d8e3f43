//! What a switch does alike on Open vSwitch and on a Linux bridge, shown by
//! frames: each with its control, the same without the setting.

use world::{Tool, Verdict, World, patience, until, until_within};

/// Who is learned.
const STATION: &str = "02:00:5e:00:53:01";
/// Who asks for it, and for all.
const ASKING: &str = "02:00:5e:00:53:02";
/// Who sends the last frame of all.
const LAST: &str = "02:00:5e:00:54:00";

fn on_open_vswitch(world: &World, test: impl FnOnce(&World, &str)) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let before = world.inventory();
    test(world, "ovs");
    world.inventory().must_equal(&before);
    Ok(())
}

fn on_a_linux_bridge(world: &World, test: impl FnOnce(&World, &str)) -> Verdict {
    let before = world.inventory();
    test(world, "linux");
    world.inventory().must_equal(&before);
    Ok(())
}

// ---- isolation ----

/// a, b (isolated) -- s1 -- gate, far (isolated) -- s2
const APART: &str = "
name: apart
switches: { s1: { backend: BACKEND }, s2: { backend: BACKEND } }
nodes:
  a: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  b: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  gate: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  far: { interfaces: { eth0: { addresses: [10.0.0.4/24] } } }
links:
  - { endpoints: [a, s1], isolated: true }
  - { endpoints: [b, s1], isolated: true }
  - { endpoints: [gate, s1] }
  - { endpoints: [far, s2], isolated: true }
  - { endpoints: [s1, s2] }
";

pub(crate) fn isolated_ports_are_apart_on_open_vswitch(world: &World) -> Verdict {
    on_open_vswitch(world, isolated_ports_are_apart)
}

pub(crate) fn isolated_ports_are_apart_on_a_linux_bridge(world: &World) -> Verdict {
    on_a_linux_bridge(world, isolated_ports_are_apart)
}

fn isolated_ports_are_apart(world: &World, backend: &str) {
    let apart = APART.replace("BACKEND", backend);
    let together = apart.replacen(", isolated: true", "", 1);
    for (file, isolated) in [(&apart, true), (&together, false), (&apart, true)] {
        world.file("apart.yaml", file);
        world.ovsns("up apart.yaml").ok();
        // Each from each, but a and b; those on another switch are no matter.
        for (from, to) in [("a", 3), ("gate", 1), ("b", 3), ("gate", 2), ("a", 4), ("far", 2)] {
            world.pings(&format!("apart.{from}"), &format!("10.0.0.{to}"));
        }
        for (from, to) in [("a", 2), ("b", 1)] {
            match isolated {
                true => world.silence(&format!("apart.{from}"), &format!("10.0.0.{to}")),
                false => world.pings(&format!("apart.{from}"), &format!("10.0.0.{to}")),
            }
        }
        world.ovsns("up apart.yaml").ok().says("nothing to change");
    }
    world.ovsns("down apart").ok();
}

// ---- MTU ----

/// a, b (jumbo frames), c -- s1 -- s2 -- d (jumbo frames)
const JUMBO: &str = "
name: jumbo
switches: { s1: { backend: BACKEND, mtu: SWITCH }, s2: { backend: BACKEND } }
nodes:
  a: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  b: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  c: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  d: { interfaces: { eth0: { addresses: [10.0.0.4/24] } } }
links:
  - { endpoints: [a, s1], mtu: 9000 }
  - { endpoints: [b, s1], mtu: 9000 }
  - { endpoints: [c, s1] }
  - { endpoints: [s1, s2], mtu: TRUNK }
  - { endpoints: [d, s2], mtu: 9000 }
";

pub(crate) fn big_frames_pass_as_told_on_open_vswitch(world: &World) -> Verdict {
    on_open_vswitch(world, |world, backend| {
        big_frames_pass_as_told(world, backend);
        // A patch has no MTU.
        world.ovsns("up jumbo.yaml").ok();
        assert!(is_answered_whole(world, "ip netns exec jumbo.a", "10.0.0.4"));
        world.ovsns("down jumbo").ok();
    })
}

pub(crate) fn big_frames_pass_as_told_on_a_linux_bridge(world: &World) -> Verdict {
    on_a_linux_bridge(world, |world, backend| {
        big_frames_pass_as_told(world, backend);
        world.ovsns("up jumbo.yaml").ok();
        assert!(!is_answered_whole(world, "ip netns exec jumbo.a", "10.0.0.4"));
        let jumbo = JUMBO.replace("BACKEND", backend).replace("SWITCH", "1500");
        world.file("jumbo.yaml", &jumbo.replace("TRUNK", "9000"));
        world.ovsns("up jumbo.yaml").ok();
        assert!(is_answered_whole(world, "ip netns exec jumbo.a", "10.0.0.4"));
        world.ovsns("down jumbo").ok();
    })
}

fn big_frames_pass_as_told(world: &World, backend: &str) {
    for mtu in [9000, 1500, 9000] {
        let jumbo = JUMBO.replace("BACKEND", backend).replace("TRUNK", "1500");
        world.file("jumbo.yaml", &jumbo.replace("SWITCH", &mtu.to_string()));
        world.ovsns("up jumbo.yaml").ok();
        let device = world.setting("", "jumbo:s1", "ifname");
        let device = device.as_str().expect("a name");
        assert_eq!(world.setting("", device, "mtu"), mtu);
        assert!(is_answered_whole(world, "ip netns exec jumbo.a", "10.0.0.2"));
        assert!(!is_answered_whole(world, "ip netns exec jumbo.a", "10.0.0.3"));
        // The machine itself, on the switch.
        world.run(&format!("ip addr add 10.0.0.100/24 dev {device}"));
        world.run("ping -n -c 1 -W 2 10.0.0.1");
        assert_eq!(is_answered_whole(world, "", "10.0.0.1"), mtu == 9000);
        world.run(&format!("ip addr del 10.0.0.100/24 dev {device}"));
        world.ovsns("up jumbo.yaml").ok().says("nothing to change");
    }
    world.ovsns("down jumbo").ok();
}

/// Whether a ping of 9000 bytes that must not be cut to pieces is answered.
fn is_answered_whole(world: &World, inside: &str, to: &str) -> bool {
    // One datagram may be lost while the neighbour is asked for.
    world.attempt(&format!("{inside} ping -n -c 2 -i 0.2 -W 1 -M do -s 8972 {to}")).status.success()
}

// ---- the forwarding table ----

/// x, y, z -- s1 (forgets early); x, y, z -- s2 (forgets late)
const AGEING: &str = "
name: age
switches: { early: { backend: BACKEND, ageing: SECONDS }, late: { backend: BACKEND } }
nodes: { 'x[1-2]': , 'y[1-2]': , 'z[1-2]': }
links:
  - { endpoints: [x1, early] }
  - { endpoints: [y1, early] }
  - { endpoints: [z1, early] }
  - { endpoints: [x2, late] }
  - { endpoints: [y2, late] }
  - { endpoints: [z2, late] }
";

pub(crate) fn silent_stations_are_forgotten_on_open_vswitch(world: &World) -> Verdict {
    world.needs("tcpdump")?;
    on_open_vswitch(world, |world, backend| silent_stations_are_forgotten(world, backend, 15))
}

pub(crate) fn silent_stations_are_forgotten_on_a_linux_bridge(world: &World) -> Verdict {
    world.needs("tcpdump")?;
    on_a_linux_bridge(world, |world, backend| silent_stations_are_forgotten(world, backend, 4))
}

fn silent_stations_are_forgotten(world: &World, backend: &str, seconds: u64) {
    // Long enough for a slow machine to look while it is known.
    let seconds = seconds * u64::from(patience());
    let file = AGEING.replace("BACKEND", backend).replace("SECONDS", &seconds.to_string());
    world.file("age.yaml", &file);
    world.ovsns("up age.yaml").ok();
    let mut ears = [1, 2].map(|number| world.capture(&format!("age.z{number}"), "eth0", ""));
    // Whether a frame to the station is heard by those whom it is not for.
    let mut flooded = || {
        let mut heard = [false, false];
        for (number, ear) in ears.iter_mut().enumerate() {
            let asking = format!("age.x{}", number + 1);
            world.send_frame(&asking, "eth0", ASKING, STATION, "-");
            world.broadcast_frame(&asking, "eth0", LAST, "-");
            heard[number] = ear.hears(LAST).iter().any(|frame| frame.to == STATION);
        }
        heard
    };
    assert_eq!(flooded(), [true, true], "nobody knows it");
    for number in [1, 2] {
        world.broadcast_frame(&format!("age.y{number}"), "eth0", STATION, "-");
    }
    // Open vSwitch goes on with what it has decided on for the kernel until it has looked
    // at that once more.
    until_within(seconds, "it was heard", || flooded() == [false, false]);
    until_within(2 * seconds + 10, "the one switch has forgotten it", || flooded()[0]);
    assert_eq!(flooded(), [true, false], "the other has not");
    world.ovsns("down age").ok();
}

// ---- multicast ----

/// n1 (sends), n2 (joins), n3 (does not) -- s1
const GROUP: &str = "
name: group
switches: { s1: { backend: BACKEND, multicast_snooping: SNOOPS } }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24, fd00::1/64] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24, fd00::2/64] } } }
  n3: { interfaces: { eth0: { addresses: [10.0.0.3/24, fd00::3/64] } } }
links:
  - endpoints: ['n[1-3]', s1]
";

pub(crate) fn groups_reach_members_alone_on_open_vswitch(world: &World) -> Verdict {
    world.needs("tcpdump")?;
    on_open_vswitch(world, |world, backend| {
        groups_reach_members_alone(world, backend, |bridge| {
            world.appctl(&format!("mdb/show {bridge}"))
        });
    })
}

pub(crate) fn groups_reach_members_alone_on_a_linux_bridge(world: &World) -> Verdict {
    world.needs("tcpdump")?;
    on_a_linux_bridge(world, |world, backend| {
        groups_reach_members_alone(world, backend, |bridge| {
            // A bridge holds nothing back before somebody asks for members, and then for
            // as long as members may take to answer. In one request the querier would
            // begin before the shorter time is known, and it would be 10 s.
            for set in ["mcast_query_response_interval 100", "mcast_querier 1"] {
                world.run(&format!("ip link set {bridge} type bridge {set}"));
            }
            world.run(&format!("bridge mdb show dev {bridge}")).stdout
        });
    })
}

fn groups_reach_members_alone(world: &World, backend: &str, members: impl Fn(&str) -> String) {
    let file = |snoops: &str| GROUP.replace("BACKEND", backend).replace("SNOOPS", snoops);
    for snoops in ["true", "false", "true"] {
        world.file("group.yaml", &file(snoops));
        world.ovsns("up group.yaml").ok();
        world.ovsns("up group.yaml").ok().says("nothing to change");
        world.settled();
        let bridge = world.setting("", "group:s1", "ifname");
        let bridge = bridge.as_str().expect("a name");
        for (group, from, at) in
            [("239.1.2.3", "10.0.0.1", "10.0.0.2"), ("ff15::1234", "fd00::1", "eth0")]
        {
            let mut member = world.tool("group.n2", Tool::Hear, &format!("5000 1000 {group} {at}"));
            member.line_with("ready");
            if snoops == "true" {
                let what = format!("{bridge} knows who is in {group}");
                until_within(20, &what, || members(bridge).contains(group));
            }
            let filter = format!("dst host {group} or ether src {LAST}");
            let ears = ["group.n2", "group.n3"];
            let mut ears = ears.map(|ear| world.capture(ear, "eth0", &filter));
            let mut reaches = || {
                let words = format!("{from} {group} 5000 hello");
                world.tool("group.n1", Tool::Say, &words).finish().ok();
                world.broadcast_frame("group.n1", "eth0", LAST, "-");
                let heard = |frame: &world::Frame| frame.line.contains(group);
                ears.each_mut().map(|ear| ear.hears(LAST).iter().any(heard))
            };
            let expected = [true, snoops == "false"];
            until(&format!("{group} reaches n2 alone, if that"), || reaches() == expected);
            for _ in 0..3 {
                assert_eq!(reaches(), expected, "{group}, snooping: {snoops}");
            }
        }
    }
    world.ovsns("down group").ok();
}
