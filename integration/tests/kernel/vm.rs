//! What the kernel of the virtual machine is there for (`integration/vm`): were
//! it not so, the tests that need it would be skipped there too, unheard.

use world::{Verdict, World};

/// v0 -- v1, with what only modules can do on them and beside them
pub(crate) fn the_kernel_has_what_it_is_here_for(world: &World) -> Verdict {
    let release = world.virtual_machine()?;
    assert_eq!(world.run("uname -r").stdout.trim(), release);
    for command in [
        "ip link add v0 type veth peer name v1",
        "ip link add br0 type bridge vlan_filtering 1 vlan_protocol 802.1ad",
        "ip link add vlan0 link v0 type vlan id 10",
        "ip link add vxlan0 type vxlan id 1 remote 192.0.2.1 dstport 4789",
        "ip link add geneve0 type geneve id 1 remote 192.0.2.1",
        "ip link add gre9 type gretap remote 192.0.2.1",
        "ip link add bond9 type bond mode 802.3ad",
        "ip link add macvlan0 link v0 type macvlan mode bridge",
        "tc qdisc add dev v0 root handle 1: htb default 1",
        "tc class add dev v0 parent 1: classid 1:1 htb rate 10mbit",
        "tc qdisc add dev v0 parent 1:1 netem delay 10ms loss 1%",
        // As Open vSwitch does it for `ingress_policing_rate`.
        "tc qdisc add dev v1 ingress",
        "tc filter add dev v1 parent ffff: protocol all prio 49 basic police rate 1mbit burst 10k",
        "tc filter add dev v1 parent ffff: matchall action mirred egress mirror dev v0",
    ] {
        world.run(command);
    }
    Ok(())
}

/// a -- b, and what a sends comes later
pub(crate) fn netem_delays(world: &World) -> Verdict {
    world.virtual_machine()?;
    world.sh("
        ip netns add a; ip netns add b
        ip link add eth0 netns a type veth peer name eth0 netns b
        ip -n a addr add 10.0.0.1/24 dev eth0; ip -n a link set eth0 up
        ip -n b addr add 10.0.0.2/24 dev eth0; ip -n b link set eth0 up
        tc -n a qdisc add dev eth0 root netem delay 300ms
    ");
    world.pings("a", "10.0.0.2");
    let answer = world.run("ip netns exec a ping -n -c 1 -W 5 10.0.0.2").stdout;
    let (_, time) = answer.split_once("time=").expect("a time");
    let ms: f64 = time.split_whitespace().next().expect("a figure").parse().expect("a figure");
    assert!(300.0 <= ms, "{answer}");
    Ok(())
}

/// a -- br0 -- b, br0 of Open vSwitch on the kernel's datapath
pub(crate) fn open_vswitch_forwards_in_the_kernel(world: &World) -> Verdict {
    world.virtual_machine()?;
    // Nobody loads a module here: ovs-vswitchd asks for what it needs.
    world.sh("
        mkdir ovs; export OVS_RUNDIR=$PWD/ovs OVS_DBDIR=$PWD/ovs
        ovsdb-tool create ovs/conf.db /usr/share/openvswitch/vswitch.ovsschema
        ovsdb-server --remote=punix:$OVS_RUNDIR/db.sock --pidfile --detach ovs/conf.db
        ovs-vsctl --no-wait init
        ovs-vswitchd --pidfile --detach
        for n in a b; do
            ip netns add $n
            ip link add to-$n type veth peer name eth0 netns $n
            ip link set to-$n up
            ip -n $n link set eth0 up
        done
        ip -n a addr add 10.0.0.1/24 dev eth0
        ip -n b addr add 10.0.0.2/24 dev eth0
    ");
    let ovs = |words: &str| world.sh(&format!("export OVS_RUNDIR=$PWD/ovs; {words}"));
    ovs("ovs-vsctl -t 60 add-br br0 -- add-port br0 to-a -- add-port br0 to-b");
    world.pings("a", "10.0.0.2");
    ovs("ovs-appctl dpif/show").says("system@ovs-system");
    for kind in ["vxlan", "geneve", "gre"] {
        let add = format!("ovs-vsctl -t 60 add-port br0 {kind}0 -- set interface {kind}0");
        ovs(&format!("{add} type={kind} options:remote_ip=192.0.2.1"));
        let number = ovs(&format!("ovs-vsctl get interface {kind}0 ofport"));
        assert!(number.stdout.trim().parse::<u16>().is_ok(), "{number}");
    }
    Ok(())
}
