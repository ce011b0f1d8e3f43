//! Mirrors and policing in a lab: the same file on either backend, and what is
//! heard at the port that gets the copies.
//!
//! ```text
//! n1, n2, n3 -- s1 -- ear
//! ```

use std::process::Command;

use world::{Inventory, Running, Skip, Verdict, World};

/// The drawing at the top, with `MIRRORS` to be filled in.
const SPAN: &str = "
name: span
switches: { s1: { mirrors: MIRRORS } }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  n3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  ear: { interfaces: { eth0: { addresses: [10.0.0.9/24] } } }
links:
  - endpoints: [n1, s1]
  - endpoints: [n2, s1]
  - endpoints: [n3, s1]
  - endpoints: [ear, s1]
";

const OF_N1: &str = "{ m: { from: [n1], to: [n1], output: ear } }";
const ALL: &str = "{ m: { all: true, output: ear } }";

/// What the pings of [`Span::heard`] are when all of them are heard.
const EVERY_PING: [&str; 6] =
    ["1 asks 2", "2 tells 1", "2 asks 3", "3 tells 2", "3 asks 1", "1 tells 3"];

pub(crate) fn a_bridge_copies_what_it_is_to(world: &World) -> Verdict {
    let span = Span::on(world, "linux")?;
    span.copies_what_it_is_to();
    Ok(())
}

pub(crate) fn open_vswitch_copies_what_it_is_to(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let span = Span::on(world, "ovs")?;
    span.copies_what_it_is_to();
    Ok(())
}

pub(crate) fn the_port_of_a_bridge_with_the_copies_gets_nothing_else(world: &World) -> Verdict {
    let span = Span::on(world, "linux")?;
    span.copies_alone();
    // Nor what the machine itself sends to all. Both nodes are asked, and the
    // one that is no mirror's output answers.
    span.up("{ m: { from: [n2], output: ear } }");
    let bridge = world.setting("", "span:s1", "ifname");
    let bridge = bridge.as_str().expect("a name");
    world.run(&format!("ip addr add 10.0.0.254/24 dev {bridge}"));
    world.silence("span.ear", "10.0.0.254");
    let mut ear = span.listen("ear", "arp");
    world.attempt("ping -n -c 1 -W 1 10.0.0.9");
    world.run("ping -n -c 1 -W 2 10.0.0.1");
    world.attempt("ip netns exec span.ear ping -n -c 1 -W 1 10.0.0.99");
    let heard = ear.lines_to("who-has 10.0.0.99");
    let of_the_machine: Vec<_> =
        heard.iter().filter(|line| line.contains("tell 10.0.0.254")).collect();
    assert_eq!(of_the_machine, [""; 0]);
    Ok(())
}

pub(crate) fn the_port_of_open_vswitch_with_the_copies_gets_nothing_else(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let span = Span::on(world, "ovs")?;
    span.copies_alone();
    Ok(())
}

/// A node that comes is copied too, and one that goes leaves the others so.
pub(crate) fn a_mirror_of_all_follows_the_ports(world: &World) -> Verdict {
    let span = Span::on(world, "linux")?;
    span.up(ALL);
    world.ovsns("node rm n2 --lab span").ok();
    assert_eq!(span.heard_of(&[(1, 3)]), ["1 asks 3", "3 tells 1"]);
    world.ovsns("node add n2 --lab span --link s1 --address 10.0.0.2/24").ok();
    assert_eq!(span.heard(), EVERY_PING);
    span.nothing_to_change(ALL);
    assert_eq!(world.inventory().with("filters at").len(), 3 + 1);
    span.up("{}");
    assert_eq!(world.inventory().with("filters at"), [""; 0]);
    Ok(())
}

/// Somebody pulls a port, deletes filters, has the output learn again: `status`
/// says so and `up` mends it; and of a mirror that lost all of its filters
/// nothing is left either.
pub(crate) fn what_others_did_to_a_mirror_is_mended(world: &World) -> Verdict {
    let span = Span::on(world, "linux")?;
    let both = "{ m: { from: [n1, n2], to: [n1], output: ear } }";
    let port = |node: &str| {
        let name = world.setting("", &format!("span:{node}:eth0"), "ifname");
        name.as_str().expect("a name").to_owned()
    };
    let inventory = || {
        world.settled();
        world.inventory()
    };
    span.up("{}");
    let plain = inventory();
    span.up(both);
    let before = inventory();
    for (what, plan) in [
        (format!("ip link set {} nomaster", port("n1")), "+ port"),
        (format!("tc qdisc delete dev {} clsact", port("n1")), "+ mirror m"),
        (format!("tc filter delete dev {} egress", port("n1")), "+ mirror m"),
        (format!("bridge link set dev {} learning on", port("ear")), "+ mirror m"),
        (format!("ip link set {} nomaster", port("ear")), "+ port"),
    ] {
        world.run(&what);
        world.ovsns("status span").ok().says(plan);
        span.up(both);
        let differences = inventory().differences(&before);
        assert!(differences.is_empty(), "{what}\n{differences}");
    }
    for node in ["n1", "n2"] {
        world.run(&format!("tc qdisc delete dev {} clsact", port(node)));
    }
    span.up("{}");
    inventory().must_equal(&plain);
    world.pings("span.n1", "10.0.0.9");
    Ok(())
}

/// Every request of making mirrors and of ending them fails once.
pub(crate) fn a_mirror_is_whole_or_not_there(world: &World) -> Verdict {
    world.needs("strace")?;
    let span = Span::on(world, "linux")?;
    let made = span.with_and_without();
    for (to, from) in [(0, 1), (1, 0)] {
        let [to_file, from_file] = [to, from].map(|file| format!("up {}.yaml", FILES[file]));
        let mut failed = 0;
        for step in 1.. {
            world.ovsns(&from_file).ok();
            let rule = format!("sendto:error=ENOBUFS:when={step}");
            let (finished, struck) = world.tampered(&rule, &to_file);
            if struck == 0 {
                finished.ok();
                break;
            }
            if finished.status.code() == Some(1) {
                failed += 1;
                assert_eq!(span.state(), made[from], "{rule}\n{finished}");
            } else {
                finished.ok();
            }
            world.ovsns(&to_file).ok();
            assert_eq!(span.state(), made[to], "{rule}");
        }
        assert!(10 < failed, "only {failed} requests could fail");
    }
    Ok(())
}

/// The command is killed before every request of making mirrors and of ending
/// them; another goes on with it, or back.
pub(crate) fn a_mirror_is_mended_after_a_crash(world: &World) -> Verdict {
    world.needs("strace")?;
    let span = Span::on(world, "linux")?;
    let made = span.with_and_without();
    for (to, from) in [(0, 1), (1, 0)] {
        let [to_file, from_file] = [to, from].map(|file| format!("up {}.yaml", FILES[file]));
        let mut killed = 0;
        for step in 1.. {
            world.ovsns(&from_file).ok();
            let rule = format!("sendto:signal=KILL:when={step}");
            if world.tampered(&rule, &to_file).1 == 0 {
                break;
            }
            killed += 1;
            let next = if step % 2 == 0 { to } else { from };
            world.ovsns(&format!("up {}.yaml", FILES[next])).ok();
            assert_eq!(span.state(), made[next], "{rule}");
        }
        assert!(10 < killed, "only {killed} were killed");
    }
    Ok(())
}

/// With mirrors, and without.
const FILES: [&str; 2] = ["with", "without"];

/// n1 is policed, n2 is not; the witness counts what comes to n3.
pub(crate) fn a_bridge_polices_or_says_why_not(world: &World) -> Verdict {
    let span = Span { world, backend: "linux" };
    let classifiers = ["matchall", "u32 match u32 0 0"];
    span.polices_or_says_why_not("clsact", &classifiers)
}

pub(crate) fn open_vswitch_polices_or_says_why_not(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let span = Span { world, backend: "ovs" };
    span.polices_or_says_why_not("ingress", &["matchall", "basic"])
}

/// The lab on one backend.
struct Span<'a> {
    world: &'a World,
    backend: &'static str,
}

impl<'a> Span<'a> {
    /// The lab without mirrors, where mirrors can be.
    fn on(world: &'a World, backend: &'static str) -> Result<Self, Skip> {
        world.needs("tc")?;
        world.needs("tcpdump")?;
        let span = Self { world, backend };
        let classifiers = ["matchall", "u32 match u32 0 0"];
        let mirred = "mirred egress mirror dev try1";
        if backend == "linux" && !span.tc_can("clsact", &classifiers, mirred) {
            return Err(Skip("this kernel cannot mirror by tc".into()));
        }
        span.up("{}");
        Ok(span)
    }

    fn file(&self, mirrors: &str) -> String {
        SPAN.replace("MIRRORS", &format!("{mirrors}, backend: {}", self.backend))
    }

    /// Writes [`FILES`], and returns how it looks with each.
    fn with_and_without(&self) -> [Vec<String>; 2] {
        let mirrors = "{ m: { from: [n1], to: [n2], output: ear }, a: { all: true, output: n3 } }";
        let mut files = FILES.iter().zip([mirrors, "{}"]);
        let made = FILES.map(|_| {
            let (file, mirrors) = files.next().expect("two of each");
            self.world.file(&format!("{file}.yaml"), &self.file(mirrors));
            self.world.ovsns(&format!("up {file}.yaml")).ok();
            self.state()
        });
        assert_ne!(made[0], made[1]);
        made
    }

    /// The flags of the ports, and the filters there. Their order does not
    /// matter, nor the mark that says whose the hooks are: who is killed between
    /// the last filter and its hooks leaves hooks without filters, which are
    /// nobody's any more until the port goes.
    fn state(&self) -> Vec<String> {
        let links = self.world.json("ip -d -j link show type veth");
        let links = links.as_array().expect("a list").iter();
        let flags = links.flat_map(|link| {
            let data = &link["linkinfo"]["info_slave_data"];
            ["learning", "flood", "mcast_flood", "bcast_flood", "proxy_arp", "locked"].map(|flag| {
                assert!(data[flag].is_boolean(), "{flag} in {data}");
                format!("{}: {flag} {}", link["ifname"], data[flag])
            })
        });
        let inventory = self.world.inventory();
        let filters = inventory.with("filters at").into_iter().flat_map(|line| {
            let mut parts = line.split("filter protocol all pref ");
            let place = parts.next().expect("the first").to_owned();
            let less = |filter: &str| filter[3..].replace("cookie 6d", "cookie 4d");
            parts.map(move |filter| format!("{place}{}", less(filter).trim()))
        });
        let mut state: Vec<_> = flags.chain(filters).collect();
        state.sort();
        state.dedup();
        state
    }

    fn up(&self, mirrors: &str) {
        self.world.file("span.yaml", &self.file(mirrors));
        self.world.ovsns("up span.yaml").ok();
    }

    #[track_caller]
    fn nothing_to_change(&self, mirrors: &str) {
        self.world.file("span.yaml", &self.file(mirrors));
        // A plan only tries things, in a namespace of its own.
        let (_, planned) = self.world.traced("plan span.yaml");
        let (finished, trace) = self.world.traced("up span.yaml");
        finished.ok().says("nothing to change");
        assert_eq!(trace.writes, planned.writes);
    }

    /// Takes the mirrors away, and nothing is left of them.
    #[track_caller]
    fn is_as_before(&self, before: &Inventory) {
        self.up("{}");
        self.world.settled();
        self.world.inventory().must_equal(before);
        assert_eq!(self.heard(), [""; 0]);
    }

    fn copies_what_it_is_to(&self) {
        let world = self.world;
        world.settled();
        let before = world.inventory();
        // Nobody sees what is not his, until he is shown it.
        assert_eq!(self.heard(), [""; 0]);
        for (mirrors, expected) in [
            (OF_N1, &["1 asks 2", "2 tells 1", "3 asks 1", "1 tells 3"][..]),
            ("{ m: { from: [n2], output: ear } }", &["2 tells 1", "2 asks 3"]),
            (
                "{ m: { to: [n2, n3], output: ear } }",
                &["1 asks 2", "2 asks 3", "3 tells 2", "1 tells 3"],
            ),
            (ALL, &EVERY_PING),
            (
                "{ a: { from: [n1], output: ear }, b: { to: [n1], output: ear } }",
                &["1 asks 2", "2 tells 1", "3 asks 1", "1 tells 3"],
            ),
        ] {
            self.up(mirrors);
            assert_eq!(self.heard(), expected, "{mirrors}");
            self.nothing_to_change(mirrors);
            assert!(
                world.ovsns("status span").ok().stdout.starts_with("lab span: up"),
                "{mirrors}"
            );
        }
        self.is_as_before(&before);
        world.pings("span.n1", "10.0.0.9");
        // By command.
        world.ovsns("switch set s1 mirrors.m.from=[n1] mirrors.m.output=ear --lab span").ok();
        assert_eq!(self.heard(), ["1 asks 2", "1 tells 3"]);
        world.ovsns("down span").ok();
    }

    /// What is not copied does not come to the ear, be it sent to it or to all;
    /// and what the ear says goes nowhere.
    fn copies_alone(&self) {
        let world = self.world;
        world.pings("span.n1", "10.0.0.9");
        world.pings("span.ear", "10.0.0.2");
        self.up("{ m: { from: [n2], output: ear } }");
        let mut ear = self.listen("ear", "icmp or arp");
        let mut n3 = self.listen("n3", "icmp or arp");
        world.silence("span.n1", "10.0.0.9");
        world.silence("span.n1", "10.0.0.98");
        world.silence("span.ear", "10.0.0.3");
        world.run("ip netns exec span.n2 ping -n -c 1 -s 99 10.0.0.3");
        let said = |lines: &[String], node: u8| {
            let by = [format!("IP 10.0.0.{node} >"), format!("tell 10.0.0.{node},")];
            lines.iter().filter(|line| by.iter().any(|by| line.contains(by))).count()
        };
        let heard = ear.lines_to("length 107");
        assert_eq!(said(&heard, 1), 0, "{heard:#?}");
        assert_ne!(said(&heard, 2), 0, "{heard:#?}");
        let heard = n3.lines_to("length 107");
        assert_eq!(said(&heard, 9), 0, "{heard:#?}");
        assert_ne!(said(&heard, 1), 0, "{heard:#?}");
        self.up("{}");
        world.pings("span.n1", "10.0.0.9");
        world.pings("span.ear", "10.0.0.3");
    }

    fn polices_or_says_why_not(&self, qdisc: &str, classifiers: &[&str]) -> Verdict {
        let world = self.world;
        world.needs("tc")?;
        let police = "police rate 1mbit burst 10k conform-exceed drop/continue";
        let modules = self.tc_can(qdisc, classifiers, police);
        let limit = "{ endpoints: [n1, s1], policing: { rate: 100, burst: 240 } }";
        let file = self.file("{}").replace("endpoints: [n1, s1]", limit);
        world.file("policed.yaml", &file);
        let datapath = || {
            let bridges = world.attempt("ovs-vsctl --bare --columns=datapath_type list bridge");
            bridges.stdout.trim().to_owned()
        };
        self.up("{}");
        if self.backend == "ovs" && datapath() == "netdev" {
            // Where it does not work, whatever the kernel has.
            let refused = world.ovsns("up policed.yaml").code(2);
            refused.says("switch `s1` cannot police what comes in").says("userspace datapath");
            return Err(Skip("frames reach the userspace datapath before they are policed".into()));
        }
        if !modules {
            let refused = world.ovsns("up policed.yaml").code(2);
            refused.says("switch `s1` cannot police what comes in: this kernel has not");
            return Err(Skip("this kernel cannot police".into()));
        }
        world.settled();
        let before = world.inventory();
        let all = 100..=104;
        let came = self.came_of_a_hundred("n1");
        assert!(all.contains(&came), "{came} of 100 without policing");
        world.ovsns("up policed.yaml").ok();
        // A burst of twenty, and what the rate lets pass meanwhile.
        let came = self.came_of_a_hundred("n1");
        assert!((15..=60).contains(&came), "{came} of 100 of n1");
        let came = self.came_of_a_hundred("n2");
        assert!(all.contains(&came), "{came} of 100 of n2");
        world.ovsns("up policed.yaml").ok().says("nothing to change");
        self.up("{}");
        let came = self.came_of_a_hundred("n1");
        assert!(all.contains(&came), "{came} of 100 without policing again");
        world.settled();
        world.inventory().must_equal(&before);
        Ok(())
    }

    /// Sends a hundred pings at once to n3, of 1442 bytes each, and returns how
    /// many frames came there.
    fn came_of_a_hundred(&self, from: &str) -> u64 {
        let received = || {
            let link = self.world.json("ip -n span.n3 -s -j link show dev eth0");
            link[0]["stats64"]["rx"]["packets"].as_u64().expect("a counter")
        };
        self.world.pings(&format!("span.{from}"), "10.0.0.3");
        let before = received();
        let ping = "ping -n -q -l 100 -c 100 -s 1400 -W 1 10.0.0.3";
        self.world.attempt(&format!("ip netns exec span.{from} {ping}"));
        received() - before
    }

    /// Whether `tc` can add such a filter.
    fn tc_can(&self, qdisc: &str, classifiers: &[&str], action: &str) -> bool {
        self.world.run("ip link add try0 type veth peer name try1");
        self.world.run(&format!("tc qdisc add dev try0 {qdisc}"));
        let can = classifiers.iter().any(|classifier| {
            let add =
                format!("tc filter add dev try0 ingress protocol all {classifier} action {action}");
            self.world.attempt(&add).status.success()
        });
        self.world.run("ip link delete try0");
        can
    }

    /// What the ear hears of a ping from each node to the next.
    fn heard(&self) -> Vec<String> {
        self.heard_of(&[(1, 2), (2, 3), (3, 1)])
    }

    /// What the ear hears of pings between nodes.
    fn heard_of(&self, pings: &[(u8, u8)]) -> Vec<String> {
        let ping = |from: u8, to: u8, bytes: u8| {
            let ping = format!("ping -n -c 1 -W 5 -s {bytes} 10.0.0.{to}");
            self.world.run(&format!("ip netns exec span.n{from} {ping}"));
        };
        // They know each other, and the switch knows where they are.
        for (from, to) in pings {
            self.world.pings(&format!("span.n{from}"), &format!("10.0.0.{to}"));
        }
        let mut ear = self.listen("ear", "icmp");
        pings.iter().for_each(|(from, to)| ping(*from, *to, 56));
        // Of whatever is copied, some comes after all of that: so one that is
        // copied is the end. Where nothing is, what the ear itself says.
        pings.iter().for_each(|(from, to)| ping(*from, *to, 99));
        self.world.run("ip -n span.ear neigh replace 10.0.0.77 lladdr 02:00:00:00:00:77 dev eth0");
        self.world.attempt("ip netns exec span.ear ping -n -c 1 -W 0.1 -s 98 10.0.0.77");
        let heard = ear.lines_to("length 106");
        let heard: Vec<_> = heard.iter().take_while(|line| !line.contains("length 107")).collect();
        let heard = heard.into_iter().filter(|line| line.contains("length 64"));
        heard.map(|line| in_words(line)).collect()
    }

    /// What passes a node's interface.
    fn listen(&self, node: &str, filter: &str) -> Running {
        let dump = format!(
            "exec ip netns exec span.{node} tcpdump -Z root -lnq --immediate-mode -i eth0 {filter} 2>&1"
        );
        let mut ear = self.world.start_command(Command::new("sh").args(["-c", &dump]));
        ear.line_with("listening on");
        ear
    }
}

/// `1 asks 2` for an echo request that tcpdump shows.
fn in_words(line: &str) -> String {
    let words = || -> Option<String> {
        let (_, rest) = line.split_once("IP 10.0.0.")?;
        let (from, rest) = rest.split_once(" > 10.0.0.")?;
        let (to, rest) = rest.split_once(": ICMP echo ")?;
        let verb = if rest.starts_with("request") { "asks" } else { "tells" };
        Some(format!("{from} {verb} {to}"))
    };
    words().unwrap_or_else(|| line.to_owned())
}
