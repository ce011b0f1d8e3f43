//! NICs of the machine: a port of a switch, the parent of a node's interface, and one
//! in a node.
//!
//! ```text
//! a -- s1 -- p0 = p1   mv ~ m0 = m1, q0 = q1
//! ```

use world::{Verdict, World};

use super::{Row, WORDS, row, try_all};

const LAB: &str = "
name: d
switches: { s1: {} }
nodes:
  a: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  mv: { interfaces: { eth0: { addresses: [10.0.8.1/24] }, eth1: { addresses: [10.0.7.1/24] } } }
links:
  - { endpoints: [a, s1] }
  - { endpoints: ['mv:eth0', 'macvlan:m0'] }
  - { endpoints: ['mv:eth1', 'nic:q0'] }
uplinks: { p0: { switch: s1 } }
";

const ROWS: &[Row] = &[
    row("ip link set p0 nomaster", &["~ NIC p0 back on switch s1"]).about(&["p0", "s1"]),
    row(
        "ip -n d.mv link del eth0",
        &["+ link mv:eth0 (bridge macvlan of NIC m0)", "+ address 10.0.8.1/24 on mv:eth0"],
    ),
    row("ip -n d.mv link set eth0 down", &["~ mv:eth0 up"]),
    row("ip link set p0 down", &["~ p0 is up"]),
    row("ip link set p0 netns far", &["! there is no NIC `p0` any more, which was on switch `s1`"])
        .refused("there is no device `p0`")
        .his("ip -n far link set p0 netns 1; ip link set p0 up"),
    row("ip link del p1", &["! there is no NIC `p0` any more, which was on switch `s1`"])
        .refused("there is no device `p0`")
        .his("nic p 1"),
    row(
        "ip link del m1",
        &["+ link mv:eth0 (bridge macvlan of NIC m0)", "+ address 10.0.8.1/24 on mv:eth0"],
    )
    .refused("m0")
    .his("nic m 2"),
    row(
        "ip -n d.mv link set eth1 netns 1; ip link set eth1 name q0 up",
        &["> NIC q0 into node mv (as mv:eth1)", "+ address 10.0.7.1/24 on mv:eth1"],
    ),
    row("ip -n d.mv link set eth1 down", &["~ mv:eth1 up"]),
];

/// The drawing at the top.
pub(crate) fn nics(world: &World) -> Verdict {
    world.sh(&format!(
        "{WORDS}
        ip netns add far
        nic p 1; nic m 2; nic q 3
        ip addr add 198.18.60.1/24 dev p0
        ip route add 198.18.61.0/24 dev p0
    "
    ));
    try_all(world, LAB, ROWS);
    Ok(())
}
