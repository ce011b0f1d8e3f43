//! Linux bridges, their ports, and what is done to frames there.
//!
//! ```text
//! a, b, ear -- s1 -- s2 -- c   e -- s3   t0 -- theirs (not ours)
//! ```

use world::{Verdict, World};

use super::{Row, row, try_all};

const LAB: &str = "
name: d
switches:
  s1: { ageing: 200, mtu: 1450, mirrors: { span: { from: [a], to: [b], output: ear } } }
  s2: { device: br-two }
  s3: { stp: true }
nodes:
  a: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  b: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  c: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  e: {}
  ear: { interfaces: { eth0: { addresses: [] } } }
links:
  - { endpoints: [a, s1], impairments: { rate: 20mbit } }
  - { endpoints: [b, s1], isolated: true }
  - { endpoints: [ear, s1] }
  - { endpoints: [c, s2] }
  - { endpoints: [s1, s2] }
  - { endpoints: [e, s3] }
";

const ROWS: &[Row] = &[
    row(
        "ip link set d:a:eth0 nomaster",
        &[
            "- mirror span on switch s1",
            "+ port aeth0.enwyhxdg on switch s1",
            "+ mirror span on switch s1: from aeth0.enwyhxdg to beth0.uqpdzskh to port eareth.7bmrmkbi",
        ],
    ),
    row("ip link set d:c:eth0 nomaster", &["+ port ceth0.4y4ydsdj on switch s2"]),
    row("ip link set d:c:eth0 master theirs", &["+ port ceth0.4y4ydsdj on switch s2"]),
    row("ip link set d:c:eth0 master d:s1", &["~ port ceth0.4y4ydsdj from switch s1 to s2"]),
    row(
        "ip link set d:ear:eth0 nomaster",
        &[
            "- mirror span on switch s1",
            "+ port eareth.7bmrmkbi on switch s1",
            "+ mirror span on switch s1: from aeth0.enwyhxdg to beth0.uqpdzskh to port eareth.7bmrmkbi",
        ],
    ),
    row(
        "ip link del d:s2",
        &[
            "+ switch s2 (linux bridge br-two)",
            "+ port ceth0.4y4ydsdj on switch s2",
            "+ port s2s10.s5sni9pu on switch s2",
            "~ switch s2 up",
        ],
    ),
    row(
        "ip link del d:s1",
        &[
            "+ switch s1 (linux bridge s1.9mwipaf4)",
            "+ port aeth0.enwyhxdg on switch s1",
            "+ port beth0.uqpdzskh on switch s1 isolated",
            "+ port eareth.7bmrmkbi on switch s1",
            "+ port s1s20.uq2kvpcm on switch s1",
            "+ mirror span on switch s1: from aeth0.enwyhxdg to beth0.uqpdzskh to port eareth.7bmrmkbi",
            "~ switch s1 up",
        ],
    ),
    row("ip link set d:s1 down", &["~ switch s1 up"]),
    row("ip link set d:s1 type bridge ageing_time 1000", &["~ switch s1 ageing 200 s (was 10)"]),
    row("ip link set d:s1 type bridge stp_state 1", &["~ switch s1 stp off"]),
    row("ip link set d:s3 type bridge stp_state 0", &["~ switch s3 stp on"]),
    row(
        "ip link set d:s3 type bridge forward_delay 400",
        &["~ switch s3 forward delay 2 s (was 4)"],
    ),
    row("ip link set d:s1 type bridge mcast_snooping 0", &["~ switch s1 multicast snooping on"]),
    row("ip link set d:s1 mtu 1400", &["~ switch s1 mtu 1450 (was 1400)"]),
    row(
        "ip link set d:s1 address 02:00:00:00:00:99",
        &["~ switch s1 mac 4a:d2:a4:ac:a5:49 (was 02:00:00:00:00:99)"],
    ),
    row("ip link set d:s1 alias mine", &["~ switch s1 gets its mark"]),
    row("ip link property del dev d:s1 altname d:s1", &["~ switch s1 is also called d:s1"]),
    row(
        "ip link set br-two down; ip link set br-two name br-three up",
        &[
            "- port ceth0.4y4ydsdj on switch s2",
            "- port s2s10.s5sni9pu on switch s2",
            "- switch s2 (linux bridge br-three)",
            "+ switch s2 (linux bridge br-two)",
            "+ port ceth0.4y4ydsdj on switch s2",
            "+ port s2s10.s5sni9pu on switch s2",
            "~ switch s2 up",
        ],
    ),
    row(
        "bridge link set dev $(port b) isolated off",
        &["~ port beth0.uqpdzskh on switch s1 is now isolated"],
    ),
    row(
        "bridge link set dev $(port c) isolated on",
        &["~ port ceth0.4y4ydsdj on switch s2 is now an ordinary one"],
    ),
    row(
        "bridge link set dev $(port c) learning off",
        &["- port ceth0.4y4ydsdj on switch s2", "+ port ceth0.4y4ydsdj on switch s2"],
    )
    .says(&["port to c:eth0 (ceth0.4y4ydsdj) on switch s2: it does not learn addresses"]),
    row(
        "bridge link set dev $(port c) flood off",
        &["- port ceth0.4y4ydsdj on switch s2", "+ port ceth0.4y4ydsdj on switch s2"],
    )
    .says(&["port to c:eth0 (ceth0.4y4ydsdj) on switch s2: it gets no frames to unknown addresses"]),
    row(
        "bridge link set dev $(port c) hairpin on",
        &["- port ceth0.4y4ydsdj on switch s2", "+ port ceth0.4y4ydsdj on switch s2"],
    )
    .says(&["port to c:eth0 (ceth0.4y4ydsdj) on switch s2: it sends frames back to where they came from"]),
    row(
        "bridge link set dev $(port c) guard on",
        &["- port ceth0.4y4ydsdj on switch s2", "+ port ceth0.4y4ydsdj on switch s2"],
    )
    .says(&["port to c:eth0 (ceth0.4y4ydsdj) on switch s2: it stops at the first frame of a spanning tree"]),
    row(
        "bridge link set dev $(port ear) learning on",
        &[
            "- mirror span on switch s1",
            "+ mirror span on switch s1: from aeth0.enwyhxdg to beth0.uqpdzskh to port eareth.7bmrmkbi",
        ],
    ),
    row(
        "tc qdisc del dev $(port a) clsact",
        &[
            "- mirror span on switch s1",
            "+ mirror span on switch s1: from aeth0.enwyhxdg to beth0.uqpdzskh to port eareth.7bmrmkbi",
        ],
    ),
    row(
        "tc qdisc del dev $(port a) root",
        &["~ what leaves by aeth0.enwyhxdg is impaired: rate 20mbit"],
    ),
    row("ip link set s1s20.uq2kvpcm nomaster", &["+ port s1s20.uq2kvpcm on switch s1"]),
    row(
        "ip link del s1s20.uq2kvpcm",
        &[
            "+ link s1~s2#0 (veth s1s20.uq2kvpcm to s2s10.s5sni9pu, mtu 1500)",
            "~ s2s10.s5sni9pu up",
            "+ port s1s20.uq2kvpcm on switch s1",
            "+ port s2s10.s5sni9pu on switch s2",
        ],
    ),
];

/// The drawing at the top.
pub(crate) fn bridges(world: &World) -> Verdict {
    world.sh("
        ip link add theirs address 02:00:00:00:00:77 type bridge
        ip link add t0 type veth peer name t1
        ip link set t0 master theirs
        for device in theirs t0 t1; do ip link set $device up; done
    ");
    try_all(world, LAB, ROWS);
    Ok(())
}
