//! The rival for whole fabrics: Mininet, on an Open vSwitch like the system's.
//!
//! Mininet is not used to sharing a machine. Its clean-up removes every bridge
//! of the Open vSwitch it finds, ends processes by name, empties `/tmp` of logs
//! and raises limits of the whole machine: so the world around it is private in
//! these respects, too.

use std::process::Command;

use nix::mount::{MsFlags, mount};
use world::World;

use crate::measure::{Answer, Without, timed};
use crate::open_vswitch;
use crate::shapes::Shape;

/// Up and down in one, since `mn` does both; in milliseconds.
pub(crate) fn run(world: &World, shape: Shape) -> Result<Answer, Without> {
    world.needs("mn").map_err(|skip| Without::Refused(skip.0))?;
    open_vswitch::start(world)?;
    keep_from_the_machine();

    let topology = shape.topology();
    let words = ["--switch", "ovs,datapath=user", "--controller", "none", "--test", "none"];
    let mut mn = Command::new("mn");
    mn.args(words).args(["--topo", &topology]).env("HOME", "/tmp");
    let took = timed(&mut mn);

    let left = world.run("ovs-vsctl list-br").stdout;
    assert_eq!(left, "", "mn left bridges");
    // It says its version on standard error.
    let version = world.run("mn --version").stderr;
    Ok(Answer { figures: vec![took], said: vec![format!("Mininet {}", version.trim())] })
}

fn keep_from_the_machine() {
    let none: Option<&str> = None;
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), none).expect("a fresh /tmp");
    // Parameters that no namespace has for itself; `mn` lives without them.
    for of_the_machine in ["/proc/sys/kernel", "/proc/sys/fs"] {
        let bind = MsFlags::MS_BIND;
        mount(Some(of_the_machine), of_the_machine, none, bind, none).expect("a mount of its own");
        let read_only = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, of_the_machine, none, read_only, none).expect("read-only parameters");
    }
}
