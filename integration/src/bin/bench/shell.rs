//! The rival: a shell script around `ip`, as people write it.

use std::fmt::Write;
use std::process::Command;

use world::World;

/// Makes a bridge and `count` nodes on it.
pub(crate) fn up(world: &World, count: u32) -> Command {
    let mut script = String::from(
        "set -e
ip link add s1 type bridge stp_state 0 forward_delay 200
",
    );
    for number in 1..=count {
        let (high, low) = (number / 256, number % 256);
        let _ = write!(
            script,
            "ip netns add bare.h{number}
ip link add h{number} type veth peer name eth0 netns bare.h{number}
ip link set h{number} master s1 up
ip -n bare.h{number} link set lo up
ip -n bare.h{number} addr add 10.0.{high}.{low}/16 dev eth0
ip -n bare.h{number} addr add fd00:6f76::{number:x}/64 dev eth0 nodad
ip -n bare.h{number} link set eth0 up
"
        );
    }
    script.push_str("ip link set s1 up\n");
    written(world, "up.sh", &script)
}

/// Removes them.
pub(crate) fn down(world: &World, count: u32) -> Command {
    let mut script = String::from("set -e\n");
    for number in 1..=count {
        let _ = writeln!(script, "ip netns del bare.h{number}");
    }
    script.push_str("ip link del s1\n");
    written(world, "down.sh", &script)
}

fn written(world: &World, name: &str, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg(world.file(name, script));
    command
}
