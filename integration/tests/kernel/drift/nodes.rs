//! What nodes have of their own, who they hear, their names, and the way out.
//!
//! ```text
//! a, b, c -- s1   out -- s2 (nat)
//! ```

use world::{Verdict, World};

use super::{Row, row, try_all};
use crate::nat;

const LAB: &str = "
name: d
hosts: true
switches:
  s1: {}
  s2: { nat: true }
nodes:
  a:
    isolation: [all]
    limits: { processes: 64, cpu: 0.5, memory: 256M }
    files: { /etc/motd: laid, /etc/new: laid }
    run:
      - { name: first, command: sleep 4731 }
      - { name: second, command: sleep 4732 }
    interfaces: { eth0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } }
  b: { sealed: true, interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  c: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  out: {}
links:
  - { endpoints: [a, s1] }
  - { endpoints: [b, s1] }
  - { endpoints: [c, s1] }
  - { endpoints: [out, s2] }
cuts: { wall: { nodes: [a], from: [b] } }
";

const ROWS: &[Row] = &[
    row(
        "k=$(keeper); kill -KILL $k; gone $k",
        &[
            "- what is left of the keeper of a",
            "+ keeper of a (own uts mount pid ipc, called a, at most cpu 0.5, memory 256M, processes 64)",
            "+ file /etc/motd in a (4 bytes, mode 0644)",
            "+ file /etc/new in a (4 bytes, mode 0644)",
            "+ process first in a: sleep 4731",
            "+ process second in a: sleep 4732",
        ],
    ),
    row(
        "p=$(pgrep -f '^sleep 4731'); kill -KILL $p; gone $p",
        &["+ process first in a: sleep 4731"],
    ),
    row("nsenter -u -t $(keeper) hostname other", &["~ a is called a (was other)"]),
    row(
        "nsenter -m -t $(keeper) sh -c 'echo more >>/etc/motd'",
        &["~ file /etc/motd in a: other text"],
    ),
    row(
        "nsenter -m -t $(keeper) chmod 600 /etc/new",
        &["~ file /etc/new in a: mode 0644 (was 0600)"],
    ),
    row(
        "echo 32 >$(group pids)/pids.max",
        &[
            "~ a limits: cpu 0.5, memory 256M, processes 64 (were cpu 0.5, memory 256M, processes 32)",
        ],
    ),
    row(
        "echo 128M >$(ls $(group memory)/memory.max $(group memory)/memory.limit_in_bytes 2>/dev/null)",
        &[
            "~ a limits: cpu 0.5, memory 256M, processes 64 (were cpu 0.5, memory 128M, processes 64)",
        ],
    ),
    row("ip netns exec d.a nft flush ruleset", &["~ a hears nothing from b"]),
    row("ip netns exec d.a nft delete table netdev ovsns-cut", &["~ a hears nothing from b"]),
    row(
        "ip netns exec d.a nft 'add table netdev ovsns-cut { flags dormant; }'",
        &["~ a is cut again as it was"],
    ),
    row(
        "ip netns exec d.a nft delete element netdev ovsns-cut v4 '{ 10.0.0.2 }'",
        &["~ a hears nothing from b"],
    ),
    row(
        "ip netns exec d.a nft add element netdev ovsns-cut v4 '{ 10.0.0.3 }'",
        &["~ a hears nothing from b"],
    ),
    row(
        "ip netns exec d.a nft insert rule netdev ovsns-cut eth0 accept",
        &["~ a is cut again as it was"],
    ),
    row(
        "ip netns exec d.a nft 'flush chain netdev ovsns-cut eth0; add rule netdev ovsns-cut eth0 accept; add rule netdev ovsns-cut eth0 accept; add rule netdev ovsns-cut eth0 accept'",
        &["~ a is cut again as it was"],
    ),
    row(
        "ip netns exec d.a nft 'delete chain netdev ovsns-cut eth0; add chain netdev ovsns-cut eth0'",
        &["~ a hears nothing from b"],
    ),
    row("ip netns exec d.a nft add chain netdev ovsns-cut more", &["~ a is cut again as it was"]),
    row("ip -n d.a link property del dev lo altname ovsns-cut", &["~ a is cut again as it was"]),
    row(
        "ip -n d.a link set eth0 down; ip -n d.a link set eth0 up",
        &["+ address fd00::1/64 on a:eth0"],
    ),
    row("ip netns exec d.c nft add table netdev ovsns-cut", &[])
        .his("ip netns exec d.c nft delete table netdev ovsns-cut"),
    row("ip -n d.b link set lo alias 'ovsns lab=d node=b'", &["~ node b is sealed"]),
    row(
        "nft delete table inet ovsns-nat.d",
        &["~ way out by s2.uaw2w5au (table inet ovsns-nat.d)"],
    ),
    row(
        "nft 'add table arp ovsns-nat.d { flags dormant; }'",
        &["~ way out by s2.uaw2w5au as it was (table inet ovsns-nat.d)"],
    ),
    row(
        "ip addr flush dev d:s2 scope global",
        &["~ this machine on s2.uaw2w5au gets 10.1.255.254/16, gets fd00:6f76::fffe/64"],
    ),
    row(
        "sysctl -qw net/ipv4/conf/$(dev d:s2)/forwarding=0",
        &["~ this machine on s2.uaw2w5au has ipv4.forwarding = 1"],
    ),
    row(
        "sysctl -qw net.ipv4.ip_forward=0",
        &["~ this machine on s2.uaw2w5au has ipv4.forwarding = 1"],
    )
    .says(&["this machine does not forward IPv4"])
    .his("sysctl -qw net.ipv4.ip_forward=1"),
    row("ip -n d.out route del default", &["+ route in out: default via 10.1.255.254 dev eth0"]),
    row("sed -i '/10.0.0.1/d' /etc/hosts", &["~ names of the nodes in the machine's /etc/hosts"]),
    row(
        "sed -i '/# ovsns lab=d/,/# end of ovsns lab=d/d' /etc/hosts",
        &["+ names of the nodes in the machine's /etc/hosts"],
    ),
    row(
        "ip netns del d.b; while ip link show d:b:eth0; do sleep 0.01; done 2>/dev/null",
        &[
            "+ node b (namespace d.b)",
            "~ node b is sealed",
            "+ link b:eth0 (veth beth0.uqpdzskh to b:eth0, mtu 1500)",
            "~ b:eth0 up",
            "+ address 10.0.0.2/24 on b:eth0",
            "~ b hears nothing from a",
            "+ port beth0.uqpdzskh on switch s1",
        ],
    ),
    row(
        "ip netns del d.a",
        &[
            "- what is left of the keeper of a",
            "- port aeth0.enwyhxdg on switch s1",
            "- half a link, aeth0.enwyhxdg",
            "+ node a (namespace d.a)",
            "+ link a:eth0 (veth aeth0.enwyhxdg to a:eth0, mtu 1500)",
            "~ a:eth0 up",
            "+ address 10.0.0.1/24 on a:eth0",
            "+ address fd00::1/64 on a:eth0",
            "~ a hears nothing from b",
            "+ port aeth0.enwyhxdg on switch s1",
            "+ keeper of a (own uts mount pid ipc, called a, at most cpu 0.5, memory 256M, processes 64)",
            "+ file /etc/motd in a (4 bytes, mode 0644)",
            "+ file /etc/new in a (4 bytes, mode 0644)",
            "+ process first in a: sleep 4731",
            "+ process second in a: sleep 4732",
        ],
    ),
];

/// The drawing at the top.
pub(crate) fn nodes(world: &World) -> Verdict {
    world.needs("nft")?;
    let _groups = world.control_groups()?;
    world.own_etc();
    nat::outside(world);
    try_all(world, LAB, ROWS);
    Ok(())
}
