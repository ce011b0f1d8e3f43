//! Nodes, their links, and what is set inside.
//!
//! ```text
//! a, b, blue (theirs) -- s1 -- s2 -- e
//! b (router) -- c
//! ```

use world::{Verdict, World};

use super::{Row, row, try_all};

const LAB: &str = "
name: d
switches: { s1: {}, s2: {} }
nodes:
  a:
    interfaces: { eth0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } }
    routes: [{ to: 10.9.0.0/16, via: 10.0.0.2 }]
    sysctls: { net.ipv4.ip_default_ttl: 70 }
  b:
    forwarding: true
    interfaces:
      eth0: { addresses: [10.0.0.2/24] }
      eth1: { addresses: [10.0.9.1/30] }
  c: { interfaces: { eth0: { addresses: [10.0.9.2/30] } } }
  e: { interfaces: { an-interface-of-a-long-name: { addresses: [10.0.0.5/24] } } }
  web: { adopt: { netns: blue }, interfaces: { lab0: { addresses: [10.0.0.4/24] } } }
links:
  - { endpoints: [a, s1], impairments: { rate: 20mbit } }
  - { endpoints: [b, s1] }
  - { endpoints: ['b:eth1', 'c:eth0'], mtu: 1400 }
  - { endpoints: ['e:an-interface-of-a-long-name', s2] }
  - { endpoints: [web, s1] }
  - { endpoints: [s1, s2] }
";

const ROWS: &[Row] = &[
    row(
        "ip -n d.a link del eth0",
        &[
            "+ link a:eth0 (veth aeth0.enwyhxdg to a:eth0, mtu 1500)",
            "~ what leaves by aeth0.enwyhxdg is impaired: rate 20mbit",
            "~ a:eth0 up",
            "~ what leaves by a:eth0 is impaired: rate 20mbit",
            "+ address 10.0.0.1/24 on a:eth0",
            "+ address fd00::1/64 on a:eth0",
            "+ route in a: 10.9.0.0/16 via 10.0.0.2 dev eth0",
            "+ port aeth0.enwyhxdg on switch s1",
        ],
    ),
    row(
        "ip link del d:a:eth0",
        &[
            "+ link a:eth0 (veth aeth0.enwyhxdg to a:eth0, mtu 1500)",
            "~ what leaves by aeth0.enwyhxdg is impaired: rate 20mbit",
            "~ a:eth0 up",
            "~ what leaves by a:eth0 is impaired: rate 20mbit",
            "+ address 10.0.0.1/24 on a:eth0",
            "+ address fd00::1/64 on a:eth0",
            "+ route in a: 10.9.0.0/16 via 10.0.0.2 dev eth0",
            "+ port aeth0.enwyhxdg on switch s1",
        ],
    ),
    row("ip link set d:a:eth0 down", &["~ aeth0.enwyhxdg up"]),
    row(
        "ip -n d.a link set eth0 down",
        &[
            "~ a:eth0 up",
            "+ address fd00::1/64 on a:eth0",
            "+ route in a: 10.9.0.0/16 via 10.0.0.2 dev eth0",
        ],
    ),
    row("ip -n d.a link set lo down", &["~ a:lo up"]),
    row("ip -n d.b link set eth1 mtu 1300", &["~ b:eth1 mtu 1400 (was 1300)"]),
    row("ip link set d:b:eth0 mtu 1300", &["~ beth0.uqpdzskh mtu 1500 (was 1300)"]),
    row(
        "ip -n d.a link set eth0 down; ip -n d.a link set eth0 name eth9 up",
        &[
            "~ what leaves by aeth0.enwyhxdg is impaired no more (was rate 20mbit)",
            "- address 10.0.0.1/24 on a:eth9",
            "~ what leaves by a:eth9 is impaired no more (was rate 20mbit)",
            "- port aeth0.enwyhxdg on switch s1",
            "- link a:eth0",
            "+ link a:eth0 (veth aeth0.enwyhxdg to a:eth0, mtu 1500)",
            "~ what leaves by aeth0.enwyhxdg is impaired: rate 20mbit",
            "~ a:eth0 up",
            "~ what leaves by a:eth0 is impaired: rate 20mbit",
            "+ address 10.0.0.1/24 on a:eth0",
            "+ address fd00::1/64 on a:eth0",
            "+ route in a: 10.9.0.0/16 via 10.0.0.2 dev eth0",
            "+ port aeth0.enwyhxdg on switch s1",
        ],
    ),
    row(
        "ip -n d.a link set eth0 name eth7 netns d.c",
        &[
            "~ what leaves by aeth0.enwyhxdg is impaired no more (was rate 20mbit)",
            "- port aeth0.enwyhxdg on switch s1",
            "- link a:eth0",
            "+ link a:eth0 (veth aeth0.enwyhxdg to a:eth0, mtu 1500)",
            "~ what leaves by aeth0.enwyhxdg is impaired: rate 20mbit",
            "~ a:eth0 up",
            "~ what leaves by a:eth0 is impaired: rate 20mbit",
            "+ address 10.0.0.1/24 on a:eth0",
            "+ address fd00::1/64 on a:eth0",
            "+ route in a: 10.9.0.0/16 via 10.0.0.2 dev eth0",
            "+ port aeth0.enwyhxdg on switch s1",
        ],
    ),
    row(
        "ip -n d.b link set eth1 address 02:00:00:00:00:99",
        &["~ b:eth1 mac e6:ec:e3:04:dd:81 (was 02:00:00:00:00:99)"],
    ),
    row(
        "ip link set d:b:eth0 address 02:00:00:00:00:99",
        &["~ beth0.uqpdzskh mac 86:0a:5b:cb:98:f9 (was 02:00:00:00:00:99)"],
    ),
    row("ip link set d:b:eth0 alias mine", &["~ beth0.uqpdzskh gets its mark"]),
    row("ip -n d.b link set eth0 alias mine", &["~ b:eth0 gets its mark"]),
    row(
        "ip link property del dev d:b:eth0 altname d:b:eth0",
        &["~ beth0.uqpdzskh is also called d:b:eth0"],
    ),
    row(
        "ip -n d.e link property del dev an-interface-of-a-long-name altname an-interface-of-a-long-name",
        &["~ e:e.bvbkzb7a is also called an-interface-of-a-long-name"],
    ),
    row(
        "ip -n d.c link del eth0",
        &[
            "+ link b:eth1~c:eth0 (veth b:eth1 to c:eth0, mtu 1400)",
            "~ b:eth1 up",
            "~ c:eth0 up",
            "+ address 10.0.9.1/30 on b:eth1",
            "+ address 10.0.9.2/30 on c:eth0",
        ],
    ),
    row(
        "ip -n d.a addr del 10.0.0.1/24 dev eth0",
        &["+ address 10.0.0.1/24 on a:eth0", "+ route in a: 10.9.0.0/16 via 10.0.0.2 dev eth0"],
    ),
    row("ip -n d.a addr del fd00::1/64 dev eth0", &["+ address fd00::1/64 on a:eth0"]),
    row(
        "ip -n d.b addr del 10.0.0.2/24 dev eth0; ip -n d.b addr add 10.0.0.2/25 dev eth0",
        &["+ address 10.0.0.2/24 on b:eth0"],
    )
    .his("ip -n d.b addr del 10.0.0.2/25 dev eth0"),
    row(
        "ip -n d.a addr flush dev eth0 scope global",
        &[
            "+ address 10.0.0.1/24 on a:eth0",
            "+ address fd00::1/64 on a:eth0",
            "+ route in a: 10.9.0.0/16 via 10.0.0.2 dev eth0",
        ],
    ),
    row("ip -n d.a route del 10.9.0.0/16", &["+ route in a: 10.9.0.0/16 via 10.0.0.2 dev eth0"]),
    row(
        "ip -n d.a route change 10.9.0.0/16 via 10.0.0.4",
        &["! node `a` already has a route to `10.9.0.0/16` that is not ours"],
    )
    .refused("already has a route to `10.9.0.0/16` that is not ours")
    .his("ip -n d.a route del 10.9.0.0/16 via 10.0.0.4"),
    row(
        "ip netns exec d.a sysctl -qw net.ipv4.ip_default_ttl=64",
        &["~ a net.ipv4.ip_default_ttl = 70 (was 64)"],
    ),
    row(
        "ip netns exec d.b sysctl -qw net.ipv4.ip_forward=0",
        &["~ b net.ipv4.ip_forward = 1 (was 0)"],
    ),
    row(
        "ip netns exec d.b sysctl -qw net.ipv6.conf.all.forwarding=0",
        &["~ b net.ipv6.conf.all.forwarding = 1 (was 0)"],
    ),
    row(
        "ip netns exec d.a sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
        &["~ a net.ipv6.conf.eth0.disable_ipv6 = 0 (was 1)", "+ address fd00::1/64 on a:eth0"],
    ),
    row(
        "tc qdisc del dev $(ip -br link show d:a:eth0 | sed 's/[@ ].*//') root",
        &["~ what leaves by aeth0.enwyhxdg is impaired: rate 20mbit"],
    ),
    row("tc -n d.a qdisc del dev eth0 root", &["~ what leaves by a:eth0 is impaired: rate 20mbit"]),
    row(
        "tc -n d.a qdisc change dev eth0 root handle 6f76: tbf rate 10mbit burst 32k limit 64k",
        &["~ what leaves by a:eth0 is impaired: rate 20mbit (was rate 10mbit)"],
    ),
    row(
        "ip netns del d.c; while ip -n d.b link show eth1; do sleep 0.01; done 2>/dev/null",
        &[
            "+ node c (namespace d.c)",
            "+ link b:eth1~c:eth0 (veth b:eth1 to c:eth0, mtu 1400)",
            "~ b:eth1 up",
            "~ c:eth0 up",
            "+ address 10.0.9.1/30 on b:eth1",
            "+ address 10.0.9.2/30 on c:eth0",
        ],
    ),
    row(
        "ip netns del d.b; while ip -n d.c link show eth0; do sleep 0.01; done 2>/dev/null",
        &[
            "+ node b (namespace d.b)",
            "~ b net.ipv4.ip_forward = 1",
            "~ b net.ipv6.conf.all.forwarding = 1",
            "~ b net.ipv6.conf.default.accept_dad = 0",
            "+ link b:eth0 (veth beth0.uqpdzskh to b:eth0, mtu 1500)",
            "+ link b:eth1~c:eth0 (veth b:eth1 to c:eth0, mtu 1400)",
            "~ b:eth0 up",
            "~ b:eth1 up",
            "~ c:eth0 up",
            "+ address 10.0.0.2/24 on b:eth0",
            "+ address 10.0.9.1/30 on b:eth1",
            "+ address 10.0.9.2/30 on c:eth0",
            "+ port beth0.uqpdzskh on switch s1",
        ],
    ),
    row(
        "umount /run/netns/d.c; while ip -n d.b link show eth1; do sleep 0.01; done 2>/dev/null",
        &[
            "- node c (namespace d.c)",
            "+ node c (namespace d.c)",
            "+ link b:eth1~c:eth0 (veth b:eth1 to c:eth0, mtu 1400)",
            "~ b:eth1 up",
            "~ c:eth0 up",
            "+ address 10.0.9.1/30 on b:eth1",
            "+ address 10.0.9.2/30 on c:eth0",
        ],
    ),
    row(
        "ip -n d.c link set lo alias mine",
        &["! namespace `d.c` exists and is not ours; node `c` would need that name"],
    )
    .refused("namespace `d.c` exists and is not ours")
    .his("ip -n d.c link set lo alias 'ovsns lab=d node=c'"),
    row(
        "ip -n blue link del lab0",
        &[
            "+ link web:lab0 (veth weblab.8mcdduq5 to web:lab0, mtu 1500)",
            "~ web:lab0 up",
            "+ address 10.0.0.4/24 on web:lab0",
            "+ port weblab.8mcdduq5 on switch s1",
        ],
    ),
    row("ip -n blue link set lab0 down", &["~ web:lab0 up"]),
    row(
        "ip netns del d.web",
        &[
            "- port weblab.8mcdduq5 on switch s1",
            "- half a link, weblab.8mcdduq5",
            "+ node web (adopts netns:blue as namespace d.web)",
            "+ link web:lab0 (veth weblab.8mcdduq5 to web:lab0, mtu 1500)",
            "~ web:lab0 up",
            "+ address 10.0.0.4/24 on web:lab0",
            "+ port weblab.8mcdduq5 on switch s1",
        ],
    ),
    row(
        "ip netns del blue; ip netns add blue; ip -n blue link set lo up",
        &[
            "- address 10.0.0.4/24 on web:lab0",
            "- port weblab.8mcdduq5 on switch s1",
            "- link web:lab0",
            "- node web (netns:blue stays, as it was found)",
            "+ node web (adopts netns:blue as namespace d.web)",
            "+ link web:lab0 (veth weblab.8mcdduq5 to web:lab0, mtu 1500)",
            "~ web:lab0 up",
            "+ address 10.0.0.4/24 on web:lab0",
            "+ port weblab.8mcdduq5 on switch s1",
        ],
    ),
    row("rm -rf /run/ovsns/labs", &[]).says(&["lab d: its state is lost"]),
    row("rm /run/ovsns/labs/d/hosts", &[]).says(&["lab d: up"]),
];

/// The drawing at the top.
pub(crate) fn links(world: &World) -> Verdict {
    world.sh("ip netns add blue; ip -n blue link set lo up");
    try_all(world, LAB, ROWS);
    Ok(())
}
