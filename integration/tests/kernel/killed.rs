//! Killed between any two steps, in one lab with a thing of every kind in it: the
//! next `up` converges and one more writes nothing, `down` leaves nothing, and with
//! all files lost as well `gc` leaves nothing.
//!
//! The process ends itself (`OVSNS_KILL_AT`, `kernel::cut_short`; only where it is
//! built with debug assertions), so a big lab can be had; what becomes of a step
//! that is done by half is seen in small ones by those who have `strace` kill at
//! every request (`crash`, `crash_ovs`). `at_every_step_*` try every step, and
//! all three ways to go on; `on_*` some steps, which ones `$OVSNS_SEED` says, and one
//! way after the other.
//!
//! ```text
//!            blue (theirs)   far (theirs), behind the machine
//!                 |            |
//! a -- ear ------ s1   out -- s2 (nat)   s3 -- p0 (NIC)   mv ~ m0 (NIC), q0 (NIC)
//! b --------------/|
//! |    c ---------/
//! +--- c
//! ```

use std::process::Stdio;

use world::{ControlGroups, Inventory, Skip, Verdict, World, note, until};

use crate::attach::watchdogs;
use crate::crash_ovs::{WAYS, Way};
use crate::{TWO_NODES, nat, own_ovs};

/// What the process says of the step before which it ended.
const NOTE: &str = "/run/world/killed";
/// What it says otherwise.
const SAID: &str = "/run/world/said";

/// One thing of every kind.
const FIRST: &str = "
name: all
hosts: true
switches:
  s1: { ageing: 200, mirrors: { span: { from: [a], output: ear } } }
  s2: { nat: true }
  s3: {}
nodes:
  a:
    isolation: [all]
    limits: { processes: 64, cpu: 0.5 }
    files: { /etc/motd: laid, /etc/new: laid }
    run:
      - { name: first, command: sleep 4731, ready: { command: cat /etc/new } }
      - { name: second, command: setsid sleep 4732 }
    sysctls: { net.ipv4.ip_default_ttl: 70 }
    interfaces: { eth0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } }
    routes: [{ to: 10.9.0.0/16, via: 10.0.0.3 }]
  b:
    sealed: true
    interfaces: { eth0: { addresses: [10.0.0.2/24] }, eth1: { addresses: [10.0.9.1/30] } }
  c: { interfaces: { eth0: { addresses: [10.0.9.2/30] }, eth1: { addresses: [10.0.0.3/24] } } }
  ear: { interfaces: { eth0: { addresses: [] } } }
  out: {}
  web: { adopt: { netns: blue }, interfaces: { lab0: { addresses: [10.0.0.4/24] } } }
  mv: { interfaces: { eth0: { addresses: [10.0.8.1/24] }, eth1: { addresses: [10.0.7.1/24] } } }
links:
  - { endpoints: [a, s1], impairments: { rate: 20mbit } }
  - { endpoints: [b, s1] }
  - { endpoints: [ear, s1] }
  - { endpoints: [web, s1] }
  - { endpoints: ['b:eth1', 'c:eth0'], mtu: 1400 }
  - { endpoints: ['c:eth1', s1], down: true }
  - { endpoints: [out, s2] }
  - { endpoints: ['mv:eth0', 'macvlan:m0'] }
  - { endpoints: ['mv:eth1', 'nic:q0'] }
uplinks: { p0: { switch: s3 } }
cuts: { wall: { nodes: [a], from: [b] } }
";

/// What is different in it afterwards, each in place of what.
const CHANGES: [(&str, &str); 17] = [
    ("ageing: 200", "ageing: 100"),
    ("from: [a], output", "from: [b], output"),
    ("nat: true", "nat: ipv4"),
    ("processes: 64", "processes: 48"),
    ("/etc/motd: laid, /etc/new: laid", "/etc/new: other, /etc/newer: laid"),
    ("sleep 4732", "sleep 4733"),
    ("ttl: 70", "ttl: 71"),
    ("10.0.0.1/24, ", "10.0.0.11/24, "),
    ("10.9.0.0/16", "10.8.0.0/16"),
    ("sealed: true", "sealed: { raw: true }"),
    ("  web: { adopt: { netns: blue }, interfaces: { lab0: { addresses: [10.0.0.4/24] } } }\n", ""),
    ("  - { endpoints: [web, s1] }\n", "  - { endpoints: ['out:eth1', s1] }\n"),
    ("rate: 20mbit", "rate: 10mbit"),
    ("mtu: 1400", "mtu: 1300"),
    (", down: true", ""),
    ("  - { endpoints: ['mv:eth1', 'nic:q0'] }\n", "  - { endpoints: ['mv:eth1', s3] }\n"),
    ("cuts: { wall: { nodes: [a], from: [b] } }", "cuts: { wall: { nodes: [c], from: [b] } }"),
];

/// What switches are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Bridges,
    TheMachines,
    OurOwn,
}

/// A command that is killed, and how the world is before it.
struct Case<'a> {
    world: &'a World,
    made: Made,
    /// Which steps.
    steps: Steps,
    /// The world without the lab.
    before: &'a Inventory,
    /// The addresses that the kernel gives links by itself then.
    own: &'a str,
    /// The file of the lab that is there before.
    first: Option<&'static str>,
    words: &'static str,
}

/// Before which steps a command is killed, and how the world is made whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    /// Some, in one way after the other.
    Some,
    /// Each, in every way.
    All,
}

impl Case<'_> {
    /// Kills the command before each of its steps and goes on in every way, or
    /// before some of them and in one way after the other. Returns how often.
    fn kill(&self) -> usize {
        let (seed, stride) = (seed(), self.made.stride());
        let mut killed = 0;
        for step in 1.. {
            let turn = [WAYS[(step / stride + seed) % WAYS.len()]];
            let ways = match self.steps {
                Steps::All => &WAYS[..],
                Steps::Some if (step + seed).is_multiple_of(stride) => &turn,
                Steps::Some => continue,
            };
            for way in ways {
                let Some(what) = self.kill_before(step) else { return killed };
                killed += 1;
                // Shown if anything below fails.
                println!("`{}` killed before step {step}, `{what}`, then {way:?}", self.words);
                self.make_whole(*way, step);
            }
        }
        unreachable!("a command has an end")
    }

    /// Kills it before that step, and says what that would have been; `None` if it
    /// has come to its end.
    fn kill_before(&self, step: usize) -> Option<String> {
        if let Some(first) = self.first {
            self.world.ovsns(&format!("up {first}")).ok();
        }
        let mut command = self.world.command();
        command.args(self.words.split(' ')).env("OVSNS_KILL_AT", format!("{step},{NOTE}"));
        // Whatever it leaves running does not keep this waiting.
        let said = std::fs::File::create(SAID).expect("a file of the test's");
        let status = command.stdout(Stdio::null()).stderr(said).status().expect("it runs");
        if status.code().is_some() {
            let said = std::fs::read_to_string(SAID).expect("it was made");
            assert!(status.success(), "{said}");
            self.world.ovsns("down --all").ok();
            self.is_gone();
            return None;
        }
        until("the watchdog has done its work", || watchdogs(self.world).is_empty());
        let what = std::fs::read_to_string(NOTE).expect("it says what it was at");
        std::fs::remove_file(NOTE).expect("it was there");
        Some(what)
    }

    fn make_whole(&self, way: Way, step: usize) {
        match way {
            Way::Up => return self.up(step),
            Way::Down => drop(self.world.ovsns("down --all").ok()),
            Way::Gc => {
                self.world.run("rm -rf /run/ovsns");
                self.world.ovsns("gc").ok();
                // That a NIC was up before it went into a node is in a file only.
                self.world.run("ip link set q0 up");
            }
        }
        self.is_gone();
    }

    /// Goes on, and then, if the next is to find nothing, takes all down.
    fn up(&self, step: usize) {
        let file = self.words.strip_prefix("up ").unwrap_or("first.yaml");
        self.world.ovsns(&format!("up {file}")).ok();
        let from = if file == "first.yaml" { "all.web" } else { "all.a" };
        self.world.pings(from, "10.0.0.2");
        self.world.ovsns(&format!("plan {file}")).ok().says("nothing to change");
        // To look at every call takes time.
        if step.is_multiple_of(10) {
            self.no_address_is_tentative();
            let made = self.world.inventory();
            // What the kernel can do is tried, in namespaces that nobody else has; a
            // plan tries no less.
            let (_, mut plan) = self.world.traced(&format!("plan {file}"));
            let (again, up) = self.world.traced(&format!("up {file}"));
            again.ok().says("nothing to change");
            for write in up.writes {
                let tried = plan.writes.iter().position(|try_| *try_ == write);
                plan.writes.swap_remove(tried.unwrap_or_else(|| panic!("`up`: {write:?}")));
            }
            self.world.inventory().must_equal(&made);
        }
        if self.first.is_none() {
            self.world.ovsns("down --all").ok();
            self.is_gone();
        }
    }

    /// What [`World::settled`] awaits, less the carrier: a link is held down.
    fn no_address_is_tentative(&self) {
        let places = self.world.namespaces().into_iter().map(|name| format!("-n {name} "));
        let places: Vec<_> = places.chain([String::new()]).collect();
        until("no address is tentative", || {
            let look = |place: &String| format!("ip {place}-6 -o addr show tentative");
            places.iter().all(|place| self.world.run(&look(place)).stdout.is_empty())
        });
    }

    fn is_gone(&self) {
        if self.made == Made::OurOwn {
            // The keeper of a command that was killed ends by itself.
            own_ovs::all_ends(self.world);
        }
        until("the last namespace is gone", || {
            self.world.namespaces().iter().all(|name| !name.starts_with("all."))
        });
        self.world.settled();
        // The kernel hears of the carrier of a NIC that is home some time after that is
        // there, and only then gives it an address, which it looks for elsewhere first.
        until("links have the addresses of their own", || own_addresses(self.world) == self.own);
        self.world.inventory().must_equal(self.before);
    }
}

/// The link-local addresses of the machine's links that are known to be nobody else's.
fn own_addresses(world: &World) -> String {
    world.run("ip -6 -br addr show scope link -tentative").stdout
}

impl Made {
    /// Of how many steps one is tried where there is no time for all: on Open
    /// vSwitch a try takes three times as long.
    fn stride(self) -> usize {
        match self {
            Self::Bridges => 4,
            Self::TheMachines | Self::OurOwn => 13,
        }
    }
}

/// Which of them, and what is done after which (`$OVSNS_SEED`).
fn seed() -> usize {
    let said = std::env::var("OVSNS_SEED").ok();
    said.map_or(0, |text| text.parse().expect("OVSNS_SEED is a whole number"))
}

/// What of others the lab is joined to.
fn machine(world: &World) -> Result<ControlGroups, Skip> {
    world.needs("nft")?;
    let groups = world.control_groups()?;
    world.own_etc();
    nat::outside(world);
    world.sh("
        for nic in p m q; do
            ip link add ${nic}0 type veth peer name ${nic}1
            ip link set ${nic}0 up
            ip link set ${nic}1 up
        done
        ip addr add 198.18.60.1/24 dev p0
        ip route add 198.18.61.0/24 dev p0
        ip netns add blue
        ip link add v7 type veth peer name eth0 netns blue
        ip link set v7 up
        ip -n blue link set lo up
        ip -n blue link set eth0 up
        ip -n blue addr add 198.18.62.2/24 dev eth0
    ");
    Ok(groups)
}

fn kill_all(world: &World, made: Made, steps: Steps) -> Verdict {
    let _groups = machine(world)?;
    world.needs("strace")?;
    let _ovs = match made {
        Made::TheMachines => {
            let ovs = world.somebodys_open_vswitch()?;
            // What tunnels go by.
            world.run("ovs-vsctl add-br br-phy -- set bridge br-phy datapath_type=netdev");
            world.sh("ip addr add 172.31.0.1/24 dev br-phy; ip link set br-phy up");
            Some(ovs)
        }
        Made::Bridges => None,
        Made::OurOwn => {
            own_ovs::needs(world)?;
            None
        }
    };
    let foreign = world.foreign();
    let own = own_addresses(world);
    let [first, second] = labs(made);
    world.file("first.yaml", &first);
    world.file("second.yaml", &second);
    for (before, words, least) in [
        (None, "up first.yaml", 30),
        (Some("first.yaml"), "up second.yaml", 30),
        (Some("first.yaml"), "down all", 10),
    ] {
        let before_it = foreign.before();
        let case = Case { world, made, steps, before: before_it, own: &own, first: before, words };
        let start = std::time::Instant::now();
        let kills = case.kill();
        let seconds = start.elapsed().as_secs_f64();
        note(&format!("`{words}` on {made:?} was killed {kills} times; {seconds:.0} s"));
        assert!(least <= kills * made.stride(), "only {kills} times");
    }
    Ok(())
}

/// What only Open vSwitch has, or can be told in a minute: each in place of what.
const OPEN_VSWITCH: [(&str, &str); 7] = [
    (
        "  s1: { ",
        "  s1: { backend: ovs, flows: ['priority=100,udp,in_port=b,actions=drop'], \
         netflow: { targets: ['127.0.0.1:2055'] }, ",
    ),
    ("  s2: { ", "  s2: { backend: ovs, "),
    (
        "  s3: {}\n",
        "  s3: { backend: ovs }
  s4: { backend: ovs, controllers: ['tcp:127.0.0.1:6653'], fail_mode: secure }\n",
    ),
    ("links:\n", "links:\n  - { endpoints: [s1, s4], bond: { members: 2, lacp: off } }\n"),
    ("links:\n", "links:\n  - { endpoints: ['ear:eth1', s4], vlan: 10 }\n"),
    ("links:\n", "links:\n  - { endpoints: ['ear:eth2', s4], trunks: [10, 20], native: 20 }\n"),
    ("endpoints: [b, s1]", "endpoints: [b, s1], shaping: { rate: 50000 }"),
];

/// What is different in that afterwards.
const OPEN_VSWITCH_CHANGES: [(&str, &str); 6] = [
    ("priority=100,udp", "priority=101,tcp"),
    ("127.0.0.1:2055", "127.0.0.1:2056"),
    ("fail_mode: secure", "fail_mode: standalone"),
    (
        "  - { endpoints: [s1, s4], bond: { members: 2, lacp: off } }\n",
        "  - { endpoints: [s1, s4] }\n",
    ),
    ("vlan: 10", "vlan: 11"),
    ("shaping: { rate: 50000 }", "isolated: true"),
];

/// What an Open vSwitch in userspace has that others have given a bridge for it.
const TUNNEL: (&str, &str) =
    ("  s1: { ", "  s1: { tunnels: { far: { type: vxlan, remote: 172.31.0.2, key: 77 } }, ");

/// The lab, and how it is to be afterwards.
fn labs(made: Made) -> [String; 2] {
    let edit = |text: String, edits: &[(&str, &str)]| {
        edits.iter().fold(text, |text, (before, after)| {
            assert!(text.contains(before), "{before}");
            text.replacen(before, after, 1)
        })
    };
    let first = FIRST.to_owned();
    match made {
        Made::Bridges => [first.clone(), edit(first, &CHANGES)],
        Made::TheMachines | Made::OurOwn => {
            let mut first = edit(first, &OPEN_VSWITCH);
            let mut changes = [&CHANGES[..], &OPEN_VSWITCH_CHANGES].concat();
            if made == Made::TheMachines {
                first = edit(first, &[TUNNEL]);
                changes.push(("key: 77", "key: 78"));
            }
            [first.clone(), edit(first, &changes)]
        }
    }
}

/// The drawing at the top, on Linux bridges.
pub(crate) fn on_bridges(world: &World) -> Verdict {
    kill_all(world, Made::Bridges, Steps::Some)
}

/// The same on the machine's Open vSwitch.
pub(crate) fn on_open_vswitch(world: &World) -> Verdict {
    kill_all(world, Made::TheMachines, Steps::Some)
}

/// The same on an Open vSwitch of our own.
pub(crate) fn on_our_own(world: &World) -> Verdict {
    kill_all(world, Made::OurOwn, Steps::Some)
}

/// The drawing at the top, on Linux bridges.
pub(crate) fn at_every_step_on_bridges(world: &World) -> Verdict {
    kill_all(world, Made::Bridges, Steps::All)
}

/// The same on the machine's Open vSwitch.
pub(crate) fn at_every_step_on_open_vswitch(world: &World) -> Verdict {
    kill_all(world, Made::TheMachines, Steps::All)
}

/// The same on an Open vSwitch of our own.
pub(crate) fn at_every_step_on_our_own(world: &World) -> Verdict {
    kill_all(world, Made::OurOwn, Steps::All)
}

/// What was to be gone and was cut off is no lab that stays: `gc` goes on with it.
///
/// n1 -- b.1.1 -- n2
pub(crate) fn gc_goes_on_with_a_down(world: &World) -> Verdict {
    world.file("first.yaml", TWO_NODES);
    let before = world.inventory();
    let own = own_addresses(world);
    let case = Case {
        world,
        steps: Steps::Some,
        made: Made::Bridges,
        before: &before,
        own: &own,
        first: Some("first.yaml"),
        words: "down two-nodes",
    };
    let mut gone = 0;
    for step in 1.. {
        let Some(what) = case.kill_before(step) else { break };
        println!("killed before step {step}, `{what}`");
        let said = world.ovsns("gc").ok();
        if said.stdout.contains("nothing was left") && !world.namespaces().is_empty() {
            // It had not begun.
            world.ovsns("up first.yaml").ok().says("nothing to change");
            assert_eq!(gone, 0, "it had begun, and is there");
            continue;
        }
        case.is_gone();
        world.ovsns("list").ok().says("no lab");
        gone += 1;
    }
    assert!(3 < gone, "only {gone} times");
    Ok(())
}
