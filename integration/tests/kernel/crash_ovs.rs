//! Killed in the middle of a change on Open vSwitch, the machine's and our own:
//! the next `up` converges and one more writes nothing, `down` leaves nothing,
//! and with all files lost as well `gc` leaves nothing.
//!
//! As in `crash`, `strace` kills before every request; what goes to a database
//! is one. Each test is there twice: with one way to go on after each moment, and
//! with all.

use world::{Inventory, Verdict, World, until};

use crate::faults::transactions;
use crate::own_ovs;

/// What changes the kernel, a database or our own files. Requests and files are
/// the main thread's, so this kills before each of them.
const REQUESTS: &str = "sendto,sendmsg,fsync,unlink,unlinkat,rename,mkdir,rmdir,symlink";
/// What the thread does that goes into namespaces. `strace` counts by thread, so
/// that these would be overtaken.
const NAMESPACES: &str = "mount,umount2,unshare";

/// n1 -- s1 -- s2 -- n2
const FIRST: &str = "
name: two
switches:
  s1: { backend: ovs, datapath: netdev, flows: ['priority=100,udp,actions=drop'] }
  s2: { backend: ovs, datapath: netdev }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s2]
  - endpoints: [s1, s2]
";

/// n1, n2 -- s1 -- s3 -- n3: s2 is gone, and n2 where it was not.
const SECOND: &str = "
name: two
switches:
  s1: { backend: ovs, datapath: netdev, ageing: 77, flows: ['priority=101,tcp,actions=normal'] }
  s3: { backend: ovs, datapath: netdev }
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.22/24] } } }
  n3: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n2:eth0, s1]
  - endpoints: [n3:eth0, s3]
  - endpoints: [s1, s3]
";

/// How the world is made whole again after a crash.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Up,
    Down,
    Gc,
}

pub(crate) const WAYS: [Way; 3] = [Way::Up, Way::Down, Way::Gc];

/// Which Open vSwitch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Machines,
    Own,
}

/// The command that is killed.
struct Case<'a> {
    world: &'a World,
    whose: Whose,
    /// The world without the lab.
    before: Inventory,
    /// The file of the lab that is there before.
    first: Option<&'static str>,
    /// Its words; `up FILE` if there is a file that it makes.
    words: &'static str,
}

impl Case<'_> {
    /// Kills it before every one of its steps, and makes the world whole in one
    /// way after the other, or in all of them each time. Returns how often.
    fn kill(&self, in_all_ways: bool) -> usize {
        let mut kills = 0;
        for calls in [REQUESTS, NAMESPACES] {
            for step in 1.. {
                let turn = [WAYS[step % WAYS.len()]];
                let ways = if in_all_ways { &WAYS[..] } else { &turn };
                let killed = ways.iter().take_while(|way| self.kill_at(calls, step, **way)).count();
                kills += killed;
                if killed == 0 {
                    break;
                }
            }
        }
        kills
    }

    /// Kills it before that step, and makes the world whole that way. `false` if
    /// it has fewer steps.
    fn kill_at(&self, calls: &str, step: usize, way: Way) -> bool {
        if let Some(first) = self.first {
            self.world.ovsns(&format!("up {first}")).ok();
        }
        let rule = format!("{calls}:signal=KILL:when={step}");
        let (finished, struck) = self.world.tampered(&rule, self.words);
        if struck == 0 {
            finished.ok();
            self.world.ovsns("down --all").ok();
            self.is_gone();
            return false;
        }
        // Shown if anything below fails.
        println!("`{}` killed before step {step} of {calls}, then {way:?}", self.words);
        match way {
            Way::Up => self.up(),
            Way::Down => drop(self.world.ovsns("down --all").ok()),
            Way::Gc => {
                self.world.sh("rm -rf /run/ovsns");
                self.world.ovsns("gc").ok();
            }
        }
        self.is_gone();
        true
    }

    /// Goes on, and then takes all down.
    fn up(&self) {
        let file = self.words.strip_prefix("up ").unwrap_or("first.yaml");
        let up = format!("up {file}");
        self.world.ovsns(&up).ok();
        self.world.pings("two.n1", "10.0.0.2");
        let database = match self.whose {
            Whose::Machines => "/run/openvswitch/conf.db",
            Whose::Own => "/run/ovsns/ovs/conf.db",
        };
        let before = transactions(database);
        assert_ne!(before, 0, "the change is in the database");
        let (again, trace) = self.world.traced(&up);
        again.ok().says("nothing to change");
        assert_eq!(trace.writes, [], "`up` writes");
        assert_eq!(transactions(database), before, "`up` commits");
        self.world.ovsns("down two").ok();
    }

    /// Fails the test unless nothing is left.
    fn is_gone(&self) {
        if self.whose == Whose::Own {
            // The keeper of a command that was killed ends by itself.
            own_ovs::all_ends(self.world);
        }
        until("the last namespace is gone", || {
            self.world.namespaces().iter().all(|name| !name.starts_with("two."))
        });
        self.world.inventory().must_equal(&self.before);
    }
}

/// Kills `up`, a change and `down`. Says how often.
fn kill_all(world: &World, whose: Whose, in_all_ways: bool) -> Verdict {
    world.needs("strace")?;
    world.file("first.yaml", FIRST);
    world.file("second.yaml", SECOND);
    let _foreign = world.foreign();
    let _ovs = match whose {
        Whose::Machines => Some(world.open_vswitch(&[])?),
        Whose::Own => {
            own_ovs::needs(world)?;
            None
        }
    };
    if whose == Whose::Machines {
        world.run("ovs-vsctl add-br theirs -- set bridge theirs datapath_type=netdev");
        world.settled();
    }
    for (first, words, least) in [
        (None, "up first.yaml", 30),
        (Some("first.yaml"), "up second.yaml", 30),
        (Some("first.yaml"), "down two", 10),
    ] {
        let case = Case { world, whose, before: world.inventory(), first, words };
        let kills = case.kill(in_all_ways);
        println!("`{words}` was killed {kills} times");
        assert!(least <= kills, "only {kills} times");
    }
    Ok(())
}

/// n1 -- s1 -- s2 -- n2
pub(crate) fn killed_at_every_request(world: &World) -> Verdict {
    kill_all(world, Whose::Machines, false)
}

/// n1 -- s1 -- s2 -- n2
pub(crate) fn killed_and_whole_in_every_way(world: &World) -> Verdict {
    kill_all(world, Whose::Machines, true)
}

/// n1 -- s1 -- s2 -- n2
pub(crate) fn killed_at_every_request_on_our_own(world: &World) -> Verdict {
    kill_all(world, Whose::Own, false)
}

/// n1 -- s1 -- s2 -- n2
pub(crate) fn killed_and_whole_in_every_way_on_our_own(world: &World) -> Verdict {
    kill_all(world, Whose::Own, true)
}
