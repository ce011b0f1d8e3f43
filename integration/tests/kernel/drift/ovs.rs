//! What is in the database of the machine's Open vSwitch, and its flows.
//!
//! ```text
//! a, b, c, ear -- s1 == s2 (a bond)   c -- s3 (controller)   s1 -- s3 (a patch)
//! ```

use world::{Verdict, World};

use super::{Row, row, try_all};

const LAB: &str = "
name: d
switches:
  s1:
    backend: ovs
    flows: ['priority=100,udp,in_port=b,actions=drop']
    mirrors: { span: { from: [a], output: ear } }
    netflow: { targets: ['127.0.0.1:2055'] }
    sflow: { targets: ['127.0.0.1:6343'] }
    ipfix: { targets: ['127.0.0.1:4739'] }
  s2: { backend: ovs, ageing: 200 }
  s3: { backend: ovs, controllers: ['tcp:127.0.0.1:6653'], fail_mode: secure }
nodes:
  a: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  b: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  c: { interfaces: { eth0: { addresses: [10.0.0.3/24] }, eth1: { addresses: [] } } }
  ear: { interfaces: { eth0: { addresses: [] } } }
links:
  - { endpoints: [a, s1] }
  - { endpoints: [b, s1], isolated: true }
  - { endpoints: ['c:eth0', s1], trunks: [10, 20], native: 20 }
  - { endpoints: [ear, s1] }
  - { endpoints: [s1, s2], bond: { members: 2, lacp: off } }
  - { endpoints: ['c:eth1', s3], vlan: 10, shaping: { rate: 50000 } }
  - { endpoints: [s1, s3] }
";

const ROWS: &[Row] = &[
    row("ovs-vsctl del-port $(port a)", &["- mirror span on switch s1", "+ port aeth0.enwyhxdg on switch s1", "+ mirror span on switch s1: from aeth0.enwyhxdg to port eareth.7bmrmkbi"]),
    row("ip -n d.b link del eth0", &["- port beth0.uqpdzskh on switch s1", "+ link b:eth0 (veth beth0.uqpdzskh to b:eth0, mtu 1500)", "~ b:eth0 up", "~ b:eth0 calculates checksums itself", "+ address 10.0.0.2/24 on b:eth0", "+ port beth0.uqpdzskh on switch s1 isolated"]),
    row("ip link del d:b:eth0", &["- port beth0.uqpdzskh on switch s1", "+ link b:eth0 (veth beth0.uqpdzskh to b:eth0, mtu 1500)", "~ b:eth0 up", "~ b:eth0 calculates checksums itself", "+ address 10.0.0.2/24 on b:eth0", "+ port beth0.uqpdzskh on switch s1 isolated"]),
    row("ip link set d:b:eth0 down", &["~ beth0.uqpdzskh up"]),
    row("ovs-vsctl set port $(port b) protected=false", &["~ port beth0.uqpdzskh on switch s1 is now isolated"]),
    row("ovs-vsctl clear port $(port c) trunks", &["~ port ceth0.4y4ydsdj on switch s1 is now trunks 10,20 native 20"]),
    row("ovs-vsctl set port $(port c) tag=30", &["~ port ceth0.4y4ydsdj on switch s1 is now trunks 10,20 native 20"]),
    row("ovs-vsctl clear port $(dev d:c:eth1) tag", &["~ port ceth1.2q4mkf3t on switch s3 is now vlan 10 shaped to 50000 kbit/s"]),
    row("ovs-vsctl set qos $(ovs-vsctl get port $(dev d:c:eth1) qos) other_config:max-rate=1000000", &["~ port ceth1.2q4mkf3t on switch s3 is now vlan 10 shaped to 50000 kbit/s"]),
    row("ovs-vsctl remove port $(port a) external_ids ovsns", &["~ port aeth0.enwyhxdg on switch s1 gets its mark"]),
    row("ovs-vsctl remove bridge $(dev d:s2) external_ids ovsns", &["! Open vSwitch has a bridge `s2.uaw2w5au` that is not ours; switch `s2` would need that name"])
        .refused("is not ours")
        .his("ovs-vsctl set bridge $(dev d:s2) external_ids:ovsns='\"ovsns lab=d switch=s2\"'"),
    row("ovs-vsctl clear bridge $(dev d:s1) mirrors", &["+ mirror span on switch s1: from aeth0.enwyhxdg to port eareth.7bmrmkbi"]),
    row("ovs-vsctl clear bridge $(dev d:s1) netflow", &["~ switch s1 netflow on"]),
    row("ovs-vsctl clear bridge $(dev d:s1) sflow", &["~ switch s1 sflow on"]),
    row("ovs-vsctl clear bridge $(dev d:s1) ipfix", &["~ switch s1 ipfix on"]),
    row("ovs-vsctl del-controller $(dev d:s3)", &["~ switch s3 controllers tcp:127.0.0.1:6653, other connections to its controllers"]),
    row("ovs-vsctl set bridge $(dev d:s3) fail_mode=standalone", &["~ switch s3 fail mode secure"]),
    row("ovs-vsctl set bridge $(dev d:s2) stp_enable=true", &["~ switch s2 stp off"]),
    row("ovs-vsctl set bridge $(dev d:s2) other_config:mac-aging-time=10", &["~ switch s2 ageing 200 s (was 10)"]),
    row("ovs-vsctl set bridge $(dev d:s2) other_config:hwaddr=02:00:00:00:00:99", &["~ switch s2 mac 12:b4:16:df:aa:c2 (was 02:00:00:00:00:99)"]),
    row("ovs-ofctl del-flows $(dev d:s1)", &["+ flow on switch s1: priority=0,actions=NORMAL, by which it forwards by itself", "+ flow on switch s1: priority=100,udp,in_port=b:eth0,actions=drop"]),
    row("ovs-ofctl del-flows $(dev d:s1) udp", &["+ flow on switch s1: priority=100,udp,in_port=b:eth0,actions=drop"]),
    row("ovs-vsctl del-br $(dev d:s2)", &["+ switch s2 (ovs bridge s2.uaw2w5au)", "+ port s2s10.s5sni9pu on switch s2 (bond of s2s10..fpgbzyra s2s10..redcegtd, active-backup, lacp off)", "~ switch s2 up"]),
    row("ip link set d:s1 down", &["~ switch s1 up"]),
    row("ip link del d:s2", &["- port s2s10.s5sni9pu on switch s2", "- switch s2 (ovs bridge s2.uaw2w5au)", "+ switch s2 (ovs bridge s2.uaw2w5au)", "+ port s2s10.s5sni9pu on switch s2 (bond of s2s10..fpgbzyra s2s10..redcegtd, active-backup, lacp off)", "~ switch s2 up"]),
];

/// The drawing at the top.
pub(crate) fn open_vswitch(world: &World) -> Verdict {
    let _ovs = world.somebodys_open_vswitch()?;
    try_all(world, LAB, ROWS);
    Ok(())
}
