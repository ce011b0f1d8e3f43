//! What a user reads when a topology file is wrong: every problem at once,
//! each with its place and, where there is one, a thing to do.

use ovsns::model::file::{read, read_with, shape};
use ovsns::model::names::LabName;

fn error(text: &str) -> String {
    let refused = read(text.as_bytes(), "lab.yaml", Some("lab"));
    format!("error: {}", refused.expect_err("the file is wrong"))
}

#[test]
fn all_at_once() {
    let text = "\
name: two-nodes
switchs:
  s1: {}
nodes:
  n1: { interfaces: { eth0: { addresses: [10.0.0.0/24], mtu: 9000 } } }
  n2: { interfaces: { eth0: { addresses: [10.0.0.2] } }, fowarding: yes }
links:
  - endpoints: [n1:eth0, s1]
    vlan: 4095
  - endpoints: [n22:eth0, s1]
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn names() {
    let text = "\
name: my lab
switches:
  '': {}
  s/1: {}
  n1: {}
  sssssssssssssssssssssssssssssssssssssssssssss: {}
nodes:
  n1: { interfaces: { lo: {}, eth 0: {}, -x: {} } }
  \"a\\eb\": {}
  n2: {}
  n[1-2]: {}
  n2: {}
  h[3-1]: {}
links:
  - endpoints: [s/1, n2]
  - endpoints: [\"n 3\", n2]
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn addresses() {
    let text = "\
prefixes: [10.0.0.1/8, 10.0.0.0/31, 224.0.0.0/4, fd00::/48, fd00::/64]
nodes:
  n1:
    interfaces:
      eth0:
        mac: 01:00:00:00:00:01
        addresses:
          - 10.0.0.1
          - fd00::1
          - 10.0.0.0/24
          - fd00::/64
          - 10.0.0.255/24
          - 255.255.255.255/24
          - 224.0.0.1/24
          - ff02::1/64
          - 127.0.0.1/8
          - 0.0.0.0/0
          - 10.0.0.1/3
          - 10.0.0.1/4
          - fd00::1/0
          - 10.0.0.1/33
          - 10.0.0/24
          - ten
          - 10.1.0.0/31
          - 10.2.0.1/32
          - fd01::/127
          - [10.0.0.1/24]
      eth1: { addresses: [10.9.0.1/24, 10.1.0.0/24], mac: 02:00:00:00:00:01 }
      eth2: { addresses: 10.9.0.2/24, mac: 02-00-00-00-00-01 }
  n2: { interfaces: { eth0: { addresses: [10.9.0.1/16], mac: 02:00:00:00:00:01 } } }
  n[3-4]: { interfaces: { eth0: { addresses: [10.9.0.3/16] } } }
switches:
  s1: {}
links:
  - endpoints: [\"n1:eth[0-2]\", s1]
  - endpoints: [\"n[2-4]:eth0\", s1]
    mtu: 1000
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn ipv6_needs_its_mtu() {
    let text = "\
nodes:
  a: { interfaces: { eth0: { addresses: [10.0.0.1/24, fd00::1/64] } } }
  b: {}
links:
  - { endpoints: [a, b], mtu: 1279 }
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn links() {
    let text = "\
switches: { s1: {}, s2: {} }
nodes:
  n1: { interfaces: { eth0: {}, eth7: {} } }
  n2: {}
links:
  - endpoints: [n1:eth0, s1]
  - endpoints: [n1:eth0, s2]
  - endpoints: [n1, s1:eth3]
  - endpoints: [n2, n2]
  - endpoints: [s1, s1]
  - endpoints: [n1, n2]
    isolated: true
    vlan: 7
  - endpoints: [n2, s1]
    vlan: 7
    trunks: [1, 2]
  - { endpoints: [n2, s1], native: 7 }
  - { endpoints: [n2, s1], trunks: [] }
  - { endpoints: [n2, nowhere] }
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn endpoints() {
    let text = "\
switches: { s1: {}, \"s[2-4]\": {} }
nodes: { n1: {}, \"h[1-3]\": {} }
links:
  - endpoints: [n1, s1, h1]
  - endpoints: n1
  - endpoints: [n1: eth0, s1]
  - endpoints: [\"h[1-3]\", \"s[2-3]\"]
  - endpoints: [\"h[1-9]\", s1]
  - endpoints: [\"n1:eth0\", \"s[2-4]\"]
  - mtu: 1500
  - endpoints: [n1:eth/0, s1]
";
    insta::assert_snapshot!(error(text));
}

/// A link with one end is no cable, and wants no network of its own.
#[test]
fn an_unknown_end_is_told_once() {
    let text = "\
prefixes: [192.168.0.0/30]
nodes: { n1: {}, n2: {} }
links:
  - endpoints: [n1, nowhere]
  - endpoints: [n2, nobody]
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn an_unquoted_range() {
    insta::assert_snapshot!(error("links:\n  - endpoints: [h[1-3], s1]\n"));
}

#[test]
fn routes() {
    let text = "\
nodes:
  a:
    interfaces: { eth0: { addresses: [10.0.0.1/24, fd00::1/64] } }
    routes:
      - { to: default }
      - { to: default, via: 10.0.1.254 }
      - { to: default, via: 10.0.0.254 }
      - { to: 0.0.0.0/0, via: 10.0.0.253 }
      - { to: 10.9.0.0/16, via: fd00::fe }
      - { to: 10.9.0.1/16, via: 10.0.0.254 }
      - { to: 10.9.0.1, via: 10.0.0.254 }
      - { to: 10.8.0.0/16 }
      - { to: 10.7.0.0/16, interface: eth1 }
      - { to: 10.6.0.0/16, via: 10.0.0.1 }
      - { to: fd01::/64, via: 'fe80::1' }
      - { to: fd02::/64, via: fd00::1/64 }
      - { via: 10.0.0.254 }
  b: {}
links:
  - endpoints: [a, b]
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn sysctls() {
    let text = "\
nodes:
  a:
    forwarding: true
    sysctls:
      kernel.hostname: x
      net/ipv4/ip_forward: 1
      net.ipv4.conf.eth0/1.rp_filter: 0
      net.ipv4..x: 0
      net.: 0
      net.ipv4.conf.all.rp_filter: false
      net.ipv4.ip_forward: 0
      net.ipv4.tcp_congestion_control: \"a\\nb\"
      net.ipv4.tcp_rmem: 4096 131072 6291456
      net.ipv4.tcp_wmem: [1, 2]
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn switches() {
    let text = "\
switches:
  s1: { backend: vos, device: sixteen-letters-, mac: aa, mtu: 67, stp: yes, forward_delay: 1 }
  s2: { ageing: '300', device: br0, prefixes: 10.0.0.0/8, frobnicate: 1 }
  s3: { device: br0, mac: '02:00:00:00:00:07', backend: ovs }
  s4: { device: lo, mac: '02:00:00:00:00:07', mtu: 1e3 }
  s5: [stp]
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn loops() {
    let text = "\
switches: { \"s[1-3]\": { stp: true }, \"t[1-3]\": {} }
links:
  - endpoints: [s1, s2]
  - endpoints: [s2, s3]
  - endpoints: [s3, s1]
  - endpoints: [t1, t2]
  - endpoints: [t2, t3]
  - endpoints: [t3, t1]
  - endpoints: [t1, t2]
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn exhausted() {
    let text = "\
prefixes: [192.168.0.0/30]
switches: { \"s[1-3]\": {} }
nodes: { \"h[1-3]\": {}, \"g[1-2]\": {} }
links:
  - endpoints: [\"h[1-3]\", s1]
  - endpoints: [\"g[1-2]\", \"s[2-3]\"]
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn wrong_types() {
    let text = "\
switches: [s1]
nodes: n1
links: { endpoints: [n1, s1] }
prefixes:
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn duplicate_keys() {
    let text = "\
nodes:
  n1: {}
  n1: {}
nodes:
  n2: {}
links:
  - endpoints: [n1, n2]
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn no_yaml() {
    let errors = ["", "# nothing\n", "hello", "a: [1", "a: \"b", "nodes:\n\tn1: {}\n", "a: b: c"];
    insta::assert_snapshot!(errors.map(error).join("\n"));
}

#[test]
fn no_text() {
    let of = |bytes: &[u8]| match read(bytes, "disk.img", Some("lab")) {
        Ok(lab) => panic!("{lab:?}"),
        Err(problems) => format!("error: {problems}"),
    };
    let errors = [
        of(b"\x7fELF\x02\x01\x01\0\0\0"),
        of(b"name: caf\xe9\n"),
        of(b"\xff\xfen\0"),
        of(&vec![b' '; 100_000_000]),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn no_name() {
    let of = |fallback| read(b"nodes: {}", "two.nodes.yaml", fallback).expect_err("no name");
    insta::assert_snapshot!(format!("error: {}\nerror: {}", of(Some("two.nodes")), of(None)));
}

#[test]
fn too_many() {
    let text = "nodes: { \"h[1-999999999]\": {} }";
    insta::assert_snapshot!(error(text));
}

#[test]
fn shapes() {
    let of = |topo| shape(topo, &LabName::default_lab()).expect_err("no shape");
    let errors =
        ["ring,2", "tree,3", "star,5", "single,70000"].map(|topo| format!("error: {}", of(topo)));
    insta::assert_snapshot!(errors.join("\n"));
}

/// Everything that is said to Open vSwitch and makes no sense.
#[test]
fn open_vswitch() {
    let text = "\
switches:
  s1:
    stp: true
    rstp: true
    datapath: user
    controllers: [127.0.0.1:6653, 'tcp:', 'tcp:host with blanks', 'tcp:127.0.0.1:99999']
    fail_mode: open
    protocols: [OpenFlow9]
    datapath_id: 0x10000000000000000
    flows:
      - in_port=n9,actions=output:n2
      - priority=10,in_port=n1
      - cookie=7,actions=normal
      - in_port=n1,actions=output:s2
    mirrors:
      none: { output: n2 }
      self: { from: [n1, n2], output: n2 }
      lost: { all: true }
      who: { to: [n8], output: n2 }
    tunnels:
      t0: { type: vlan, remote: here }
      t1: { type: gre, remote: 192.0.2.1, local: 'fd00::1', destination_port: 7 }
      t2: { type: vxlan, remote: 127.0.0.1, vlan: 5, trunks: [6] }
    netflow: { target: '127.0.0.1:1' }
    sflow: { targets: ['127.0.0.1'] }
  s2: {}
nodes: { n1: {}, n2: {}, n3: {}, n4: {} }
links:
  - { endpoints: [n1, s1], qinq: { vlan: 5 }, vlan: 6 }
  - { endpoints: [n1, s1], shaping: { rate: 100, queues: { 1: { max: 200 }, 2: { min: 80, max: 70 } } } }
  - { endpoints: [n2, s1], shaping: { rate: 100, queues: { 1: { min: 60 }, 2: { min: 60 }, x: {} } } }
  - { endpoints: [n2, s2], bond: { members: 9, mode: lacp } }
  - { endpoints: [s1, s2], bond: { mode: balance-tcp, lacp: off } }
  - { endpoints: [s1, s2] }
  - { endpoints: [n3, n4], policing: { rate: 0 }, shaping: { rate: 5 } }
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn uplinks() {
    let text = "\
switches: { s1: {}, '-': {} }
nodes: { n1: {} }
uplinks:
  eth1: { switch: s2 }
  eth2: { switch: n1 }
  eth3: {}
  eth4: { swich: s1 }
  lo: { switch: s1 }
  a-name-that-is-too-long: { switch: s1 }
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn exports_to_nobody() {
    let text = "switches: { s1: { netflow: { targets: [] }, sflow: { targets: [] } } }\n";
    insta::assert_snapshot!(error(text));
}

#[test]
fn adopted_and_sealed_nodes() {
    let text = "\
switches: { s1: {} }
nodes:
  a: { adopt: {} }
  b: { adopt: { netns: run/blue } }
  c: { adopt: { netns: blue, pid: 12 } }
  d: { adopt: { pid: 0 } }
  e: { adopt: { container: lxc:web } }
  f: { adopt: { netns: blue }, forwarding: true, sysctls: { net.ipv4.ip_forward: 1 } }
  g: { adopt: netns:blue }
  h: { adopt: { path: /run/netns/blue } }
  i: { adopt: { netns: .. } }
  j: { adopt: { netns: blue }, sealed: true }
  k: { sealed: { raw: maybe, cooked: true } }
  l: { sealed: [] }
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn impairments() {
    let text = "\
switches: { s1: {}, s2: {} }
nodes: { h1: {}, 'h[2-4]': {} }
links:
  - { endpoints: [h1, s1], impairments: { delay: 10, jitter: 2m, loss: 1, rate: 10m } }
  - endpoints: ['h[2-4]', s1]
    impairments:
      jitter: 1ms
      delay: 61s
      loss: 101%
      rate: 7kbit
      from:
        h2: { dely: 5ms }
        h9: { loss: 1% }
        s1: { duplicate: 0.00001%, reorder: 5% }
  - { endpoints: [h1, s2], impairments: { corrupt: 50%, reorder: 1% }, shaping: { rate: 100 } }
  - { endpoints: [h1, 'macvlan:eth9'], impairments: { rate: 1mbit } }
  - { endpoints: [s1, s2], impairments: fast }
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn lives() {
    let text = "\
nodes:
  n1:
    isolation: [uts, everything]
    limits: { cpu: a lot, memory: 10k, processes: 0, disk: 1G }
    run:
      - { command: 'echo a | grep a' }
      - { command: \"echo 'a\" }
      - { command: [] }
      - { name: x, command: sleep 1, ready: { port: 70000 } }
      - { name: x y, command: sleep 1 }
      - { command: sleep 1, ready: { port: 80, command: 'true' } }
      - { command: sleep 1, restart: sometimes, timeout: 0, directory: tmp, user: 'a:b' }
      - { command: sleep 1, timeout: 2s, environment: { 1A: b } }
      - ready: { port: 80 }
  n2:
    hostname: web
    limits:
    run:
      - { command: /bin/sleep 1 }
      - { command: sleep 2 }
  n3: { limits: {} }
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn files_of_nodes() {
    let text = "\
nodes:
  n1:
    files:
      etc/motd: relative
      /etc/../shadow: up
      /etc//motd: twice
      /proc/sys/kernel/hostname: kernel
      /run/ovsns/labs: ours
      /etc/a: { text: a, from: ./a }
      /etc/b: {}
      /etc/c: { from: ./missing }
      /etc/d: { text: d, mode: 1777 }
      /etc/e:
      /etc/f: [a, b]
      /etc/f/g: below
      /etc/h: one
      /etc/h/i: below
      /etc/j: { txt: typo }
      /etc/k: { from: ./big }
      /etc/l: { from: ./no-text }
      /etc/l: again
  n2: { adopt: { netns: blue }, files: { /etc/motd: hello } }
";
    let mut sources = |from: &str| match from {
        "./a" => Ok(b"a".to_vec()),
        "./big" => Ok(vec![b'x'; (256 << 10) + 1]),
        "./no-text" => Ok(vec![0xff]),
        _ => Err("there is no such thing".to_owned()),
    };
    let problems = read_with(text.as_bytes(), "lab.yaml", Some("lab"), &mut sources);
    insta::assert_snapshot!(problems.expect_err("it is no lab").to_string());
}

#[test]
fn cuts() {
    let text = "\
switches: { s1: {} }
nodes: { h1: {}, 'h[2-4]': {}, web: { adopt: { netns: blue } } }
links:
  - { endpoints: ['h[1-4]', s1] }
  - { endpoints: [web, s1] }
cuts:
  a: { nodes: [h1], from: ['h[2-3]'] }
  b: { nodes: [h1, h2], from: [h2] }
  c: { nodes: [s1, h9], from: [web] }
  d: { nodes: [] }
  e: { nodes: ['n[1-99999999]'], from: [h1] }
";
    insta::assert_snapshot!(error(text));
}

#[test]
fn gateways() {
    let text = "\
switches:
  s1: { nat: true, gateway: ['fe80::1/64'] }
  s2: { nat: true, gateway: [10.0.0.1/0, 'fd00::1/127'] }
  s3: { nat: true, gateway: [10.3.0.1/32, 'fd00:3::1/64'] }
nodes: { 'h[1-3]': {} }
links:
  - { endpoints: [h1, s1] }
  - { endpoints: [h2, s2] }
  - { endpoints: [h3, s3], impairments: { from: { 'h[1-99999999]': { delay: 5ms } } } }
";
    insta::assert_snapshot!(error(text));
}
