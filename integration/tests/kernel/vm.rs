//! What the kernel of the virtual machine is there for (`integration/vm`): were
//! it not so, the tests that need it would be skipped there too, unheard.

use world::{Verdict, World, until};

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

/// A command in the machine's first network namespace, where hardware is.
const FIRST: &str = "nsenter --net=/dev/first-net";

/// What is to be seen of a NIC there: its addresses and routes.
fn of_hardware(world: &World, nic: &str) -> String {
    let device = world.run(&format!("{FIRST} ip -o address show dev {nic}")).stdout;
    let routes = world.run(&format!("{FIRST} ip route show dev {nic}")).stdout;
    let link = world.run(&format!("{FIRST} ip -o link show dev {nic}")).stdout;
    let mtu = link.split_once("mtu ").expect("an MTU").1.split(' ').next().expect("a number");
    format!("{device}{routes}{mtu}")
}

/// A NIC of hardware goes into a switch and into a node. When its node is deleted
/// behind our back, the kernel puts it into the machine's first namespace, under
/// another name where its own is taken, down and without anything; the next command
/// of any kind puts all of it back.
///
/// far:eth0 -- eth1
pub(crate) fn a_nic_of_hardware_comes_home(world: &World) -> Verdict {
    world.virtual_machine()?;
    world.needs("nsenter")?;
    world.sh(&format!(
        "ip netns add far
        {FIRST} ip link set eth0 netns far
        ip -n far address add 192.0.2.1/24 dev eth0; ip -n far link set eth0 up
        {FIRST} ip link set eth1 mtu 1400
        {FIRST} ip address add 192.0.2.2/24 dev eth1; {FIRST} ip link set eth1 up
        {FIRST} ip route add 203.0.113.0/24 via 192.0.2.1 dev eth1"
    ));
    let binary = world.binary().display().to_string();
    let ovsns = |words: &str| world.run(&format!("{FIRST} {binary} {words}"));
    world.pings("far", "192.0.2.2");
    let settled = || !of_hardware(world, "eth1").contains("tentative");
    until("its addresses are usable", settled);
    let before = of_hardware(world, "eth1");

    for backend in ["linux", "ovs"] {
        ovsns(&format!("attach eth1 --backend {backend}"));
        world.pings("far", "192.0.2.2");
        assert!(!of_hardware(world, "eth1").contains("192.0.2.2"));
        ovsns("detach eth1");
        world.pings("far", "192.0.2.2");
        until("its addresses are usable", settled);
        assert_eq!(of_hardware(world, "eth1"), before);
    }

    ovsns("attach eth1 --mode move --node n --address 192.0.2.7/24");
    world.pings("far", "192.0.2.7");
    world.attempt(&format!("{FIRST} ip link show eth1")).code(1);
    // The name that it has in the node is taken when it comes.
    world.run(&format!("{FIRST} ip link add eth0 type dummy"));
    world.run("ip netns del default.n");
    let strayed = || {
        let links = world.run(&format!("{FIRST} ip -o link show")).stdout;
        links.lines().any(|line| line.contains("52:54:00:12:34:57"))
    };
    until("the kernel has put it somewhere", strayed);
    world.run(&format!("{FIRST} ip link show")).says("dev");
    world.run(&format!("{FIRST} ip link del eth0"));
    ovsns("list");
    until("its addresses are usable", settled);
    assert_eq!(of_hardware(world, "eth1"), before);
    world.pings("far", "192.0.2.2");
    ovsns("down --all");
    // The end of a namespace puts both back as they were when the machine started.
    world.sh(&format!(
        "{FIRST} ip link set eth1 down mtu 1500; {FIRST} ip link set eth1 netns far
        ip netns del far"
    ));
    until("both are back", || {
        let links = world.run(&format!("{FIRST} ip -o link show")).stdout;
        ["eth0:", "eth1:"].iter().all(|nic| links.contains(nic))
    });
    Ok(())
}
