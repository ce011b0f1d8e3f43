//! No room where the database of an Open vSwitch is, the machine's or our own:
//! what cannot be done is told and taken back, `status` tells the truth, and
//! with room again the next command mends.

use std::fs::File;
use std::io::Write;

use nix::sys::signal::Signal;
use serde_json::json;
use world::{Finished, Verdict, World, until};

use crate::own_ovs;

/// s1 with fifty nodes: more rows than fit into the rest of any block.
const UP: &str = "up --topo single,50 --lab big --backend ovs";
/// And with fifty more.
const MORE: &str = "up --topo single,100 --lab big --backend ovs";

/// What keeps the room. It is on the same disk, and in the test's directory.
const HOG: &str = "small/hog";

/// Puts `place` on a disk of its own, of two megabytes.
fn on_a_small_disk(world: &World, place: &str) {
    world.sh(&format!(
        "mkdir -p small {place}
         mount -t tmpfs -o size=2m tmpfs small
         mkdir small/in && mount --bind small/in {place}"
    ));
}

/// Takes all the room that is left.
fn fill() {
    let mut hog = File::options().create(true).append(true).open(HOG).expect("our own disk");
    while hog.write_all(&[0; 512]).is_ok() {}
}

fn make_room(world: &World) {
    world.run(&format!("rm {HOG}"));
}

/// The lab is there and as it should be, whatever was tried.
#[track_caller]
fn it_is_up(world: &World) {
    let now = world.ovsns("status big --json").ok().json();
    assert_eq!((&now["state"], &now["drift"]), (&json!("up"), &json!([])), "{now:#}");
    world.pings("big.h1", "10.0.0.50");
    world.ovsns(UP).ok().says("nothing to change");
}

/// `down` cannot delete rows where there is no room for the news.
#[track_caller]
fn it_goes_as_far_as_it_can(world: &World) {
    world.ovsns("down big").code(3).says("write failed").says("- switch s1");
    let now = world.ovsns("status big --json").ok().json();
    assert_ne!(now["state"], "up", "{now:#}");
    assert_eq!((&now["nodes"], &now["switches"][0]["up"]), (&json!([]), &json!(false)), "{now:#}");
}

/// s1 with fifty nodes
pub(crate) fn under_the_machines_database(world: &World) -> Verdict {
    on_a_small_disk(world, "/run/openvswitch");
    let ovs = world.open_vswitch(&[])?;
    world.run("ovs-vsctl add-br theirs -- set bridge theirs datapath_type=netdev");
    world.settled();
    let before = world.inventory();
    let refused = |words: &str| -> Finished {
        world.ovsns(words).code(1).says("write failed").says("hint: make room")
    };
    fill();
    refused(UP);
    until("the last namespace is gone", || world.namespaces().is_empty());
    world.inventory().must_equal(&before);
    world.ovsns("status").code(2).says("there is no lab");
    make_room(world);
    world.ovsns(UP).ok();
    it_is_up(world);

    fill();
    refused(MORE);
    it_is_up(world);
    make_room(world);

    // The change still has room, and what the switch has to say of it has none.
    ovs.signal_switch(Signal::SIGSTOP);
    let hurried = || {
        let mut command = world.command();
        command.args(MORE.split(' ')).env("OVSNS_APPLY_SECS", "3");
        world.start_command(&mut command)
    };
    let running = hurried();
    let ports = || world.run("ovs-vsctl --no-wait --columns=name list Port").stdout;
    until("the change is in the database", || ports().contains("h100e"));
    fill();
    ovs.signal_switch(Signal::SIGCONT);
    running.finish().code(4);
    let now = world.ovsns("status big --json").ok().json();
    assert_eq!(now["state"], "cut off", "{now:#}");
    assert!(matches!(hurried().finish().status.code(), Some(1 | 4)));
    make_room(world);
    world.ovsns(MORE).ok();
    world.pings("big.h1", "10.0.0.100");
    world.ovsns(MORE).ok().says("nothing to change");
    world.ovsns(UP).ok();
    it_is_up(world);

    fill();
    it_goes_as_far_as_it_can(world);
    make_room(world);
    world.ovsns("down big").ok();
    ovs.caught_up(world);
    world.run("ovs-vsctl --no-wait remove Open_vSwitch . external_ids test");
    world.inventory().must_equal(&before);
    Ok(())
}

/// s1 with fifty nodes
pub(crate) fn under_our_own_database(world: &World) -> Verdict {
    own_ovs::needs(world)?;
    on_a_small_disk(world, "/run/ovsns");
    let before = world.inventory();
    // No room for anything.
    fill();
    world.ovsns(UP).code(1).says("no space left on device").says("hint: make room there; `df");
    world.inventory().must_equal(&before);
    // Room for what is about to be done, and none for a database.
    let hog = File::options().write(true).open(HOG).expect("our own file");
    let length = hog.metadata().expect("our own file").len();
    hog.set_len(length - (72 << 10)).expect("it can be shorter");
    drop(hog);
    world.ovsns(UP).code(1).says("`ovsdb-server` did not come up").says("`df` shows");
    own_ovs::all_ends(world);
    until("the last namespace is gone", || world.namespaces().is_empty());
    world.inventory().must_equal(&before);
    make_room(world);
    world.ovsns(UP).ok();
    it_is_up(world);

    fill();
    world.ovsns(MORE).code(1).says("no space left on device");
    it_is_up(world);
    // Neither daemon needs any to be started again.
    for daemon in ["switch", "server"] {
        let killed = own_ovs::facts(world);
        own_ovs::end(&killed[daemon], Signal::SIGKILL);
        until("it is back", || {
            let now = own_ovs::facts(world);
            now[daemon].is_u64() && now[daemon] != killed[daemon] && now["ready"] == true
        });
        it_is_up(world);
    }
    it_goes_as_far_as_it_can(world);
    make_room(world);
    world.ovsns("down big").ok();
    own_ovs::all_ends(world);
    world.inventory().must_equal(&before);
    Ok(())
}
