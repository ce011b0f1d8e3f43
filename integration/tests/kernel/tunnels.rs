//! Tunnels between switches of two hosts, each with an Open vSwitch of its own:
//!
//! ```text
//! n1 -- s1 == br-phy -- p0 ------ p0 -- br-phy == s1 -- n2
//!       west, 172.31.0.1          east, 172.31.0.2
//! ```
//!
//! TCP and UDP are the witnesses, since no ping needs checksums that somebody
//! else has to finish, and what `tcpdump` hears on p0.

use world::{Finished, Host, Running, Skip, Tool, Verdict, World};

/// Kinds of tunnels, and how those with the key 77 look on the cable.
const KINDS: [(&str, &str); 3] = [
    ("vxlan", "VXLAN, flags [I] (0x08), vni 77"),
    ("geneve", "Geneve, Flags [none], vni 0x4d"),
    ("gre", "GREv0, key=0x4d"),
];

/// n1 -- s1 == s1 -- n2, by each kind of tunnel
pub(crate) fn tunnels_join_two_hosts(world: &World) -> Verdict {
    let hosts = Hosts::with_bridges(world)?;
    for (kind, said) in KINDS {
        hosts.up("far", &format!("type: {kind}, key: 77"), [1, 2]);
        hosts.everything_passes();
        let mut cable = hosts.overhear("");
        hosts.west.pings("far.n1", "10.0.0.2");
        cable.line_with(said);
        for host in hosts.both() {
            host.ovsns("status").ok().says("lab far: up").says("t0").says(kind);
            host.ovsns("up far.yaml").ok().says("nothing to change");
        }
        hosts.apart_without_it();
    }
    hosts.down(&["far"]);
    Ok(())
}

/// n1 -- s1 == s1 -- n2, by each kind of tunnel, where the kernel forwards and
/// wraps: the address is on the cable itself.
pub(crate) fn tunnels_of_the_kernel_join_two_hosts(world: &World) -> Verdict {
    let hosts = Hosts::new(world, "system")?;
    if !hosts.west.attempt("ovs-dpctl add-dp probe").status.success() {
        return Err(Skip("this kernel has no module `openvswitch`".into()));
    }
    hosts.west.run("ovs-dpctl del-dp probe");
    for (host, number) in [(&hosts.west, 1), (&hosts.east, 2)] {
        host.run(&format!("ip addr add 172.31.0.{number}/24 dev p0"));
    }
    for (kind, said) in KINDS {
        hosts.up("far", &format!("type: {kind}, key: 77"), [1, 2]);
        hosts.everything_passes();
        let mut cable = hosts.overhear("");
        hosts.west.pings("far.n1", "10.0.0.2");
        cable.line_with(said);
        hosts.apart_without_it();
    }
    hosts.down(&["far"]);
    Ok(())
}

/// n1 -- s1 == s1 -- n2: nobody finishes a checksum of what goes into a tunnel,
/// so nodes do it, also where their Open vSwitch could for its other ports.
pub(crate) fn nodes_finish_checksums_before_a_tunnel(world: &World) -> Verdict {
    let hosts = Hosts::with_bridges(world)?;
    for kind in ["vxlan", "geneve", "gre"] {
        hosts.up("far", &format!("type: {kind}"), [1, 2]);
        let [(west, east), _] = hosts.ways();
        west.run("ethtool -K eth0 tx on");
        west.run("ping -n -c 1 -W 2 10.0.0.2");
        let tcp = hosts.tcp(west, east, "10.0.0.2");
        assert!(!tcp.status.success(), "TCP passes {kind} with `tx on`");
        let udp = hosts.udp(west, east, "10.0.0.1", "10.0.0.2");
        assert!(!udp.status.success(), "UDP passes {kind} with `tx on`");
        hosts.west.ovsns("status").ok().says("n1:eth0 calculates");
        hosts.west.ovsns("up far.yaml").ok().says("1 step in");
        hosts.tcp(west, east, "10.0.0.2").ok();
        hosts.udp(west, east, "10.0.0.1", "10.0.0.2").ok();
    }
    Ok(())
}

/// n1 -- s1 == s1 -- n2 of one lab, n1 -- s1 == s1 -- n3 of another
pub(crate) fn keys_keep_labs_apart(world: &World) -> Verdict {
    let hosts = Hosts::with_bridges(world)?;
    for kind in ["vxlan", "geneve", "gre"] {
        hosts.up("a", &format!("type: {kind}, key: 77"), [1, 2]);
        hosts.up("b", &format!("type: {kind}, key: 78"), [1, 3]);
        hosts.west.pings("a.n1", "10.0.0.2");
        hosts.west.pings("b.n1", "10.0.0.3");
        hosts.west.silence("a.n1", "10.0.0.3");
        hosts.west.silence("b.n1", "10.0.0.2");

        // It is the key that joins: at one end another, and all is silent.
        hosts.east.ovsns("switch set s1 tunnels.t0.key=79 --lab b").ok().says("port");
        hosts.west.silence("b.n1", "10.0.0.3");
        hosts.west.ovsns("switch set s1 tunnels.t0.key=79 --lab b").ok();
        hosts.west.pings("b.n1", "10.0.0.3");

        // Two tunnels to one host cannot have the same.
        let refused = hosts.west.ovsns("switch set s1 tunnels.t0.key=77 --lab b").code(1);
        refused.says("File exists").says(" hint: give it another `key`").says("was taken back");
        hosts.west.pings("a.n1", "10.0.0.2");
        hosts.west.pings("b.n1", "10.0.0.3");
        hosts.down(&["a", "b"]);
    }
    Ok(())
}

/// n1 -- s1 == s1 -- n2, at other UDP ports than the usual
pub(crate) fn tunnels_take_other_ports(world: &World) -> Verdict {
    let hosts = Hosts::with_bridges(world)?;
    for (kind, port) in [("vxlan", 4790), ("geneve", 6090)] {
        let tunnel = format!("type: {kind}, key: 77, destination_port: {port}");
        hosts.up("far", &tunnel, [1, 2]);
        hosts.everything_passes();
        let mut cable = hosts.overhear(&format!("udp dst port {port}"));
        hosts.west.pings("far.n1", "10.0.0.2");
        cable.line_with("172.31.0.1.");
        hosts.west.ovsns("switch set s1 tunnels.t0.destination_port=").ok();
        hosts.west.silence("far.n1", "10.0.0.2");
        hosts.down(&["far"]);
    }
    Ok(())
}

/// n1 -- s1 == s1 -- n2, where the way to the other host comes and goes
pub(crate) fn a_tunnel_without_a_way_is_told(world: &World) -> Verdict {
    let hosts = Hosts::new(world, "netdev")?;
    let west = &hosts.west;
    hosts.write(west, "far", "t0: { type: vxlan, remote: 172.31.0.2 }", 1);
    let cannot = "switch `s1` cannot have a vxlan tunnel to 172.31.0.2";
    let refused = west.ovsns("up far.yaml").code(2).says(cannot);
    refused.says("there is no route to it").says(" hint: give this host the address");
    west.run("ip addr add 172.31.0.1/24 dev p0");
    west.ovsns("up far.yaml").code(2).says(cannot).says("the route to it leads over `p0`");
    assert_eq!(west.run("ovs-vsctl list-br").stdout, "");
    west.run("ip addr del 172.31.0.1/24 dev p0");

    for (host, number) in [(west, 1), (&hosts.east, 2)] {
        underlay(host, number, "ovs-vsctl");
    }
    hosts.up("far", "type: vxlan", [1, 2]);
    west.pings("far.n1", "10.0.0.2");
    let told = |why: &str| {
        west.ovsns("status").ok().says(cannot).says(why);
        west.ovsns("up far.yaml").code(2).says(cannot);
        west.silence("far.n1", "10.0.0.2");
    };
    let well = || {
        let status = west.ovsns("status").ok().says("lab far: up");
        assert!(!status.stdout.contains(cannot), "{status}");
        west.pings("far.n1", "10.0.0.2");
    };
    well();
    west.run("ip addr del 172.31.0.1/24 dev br-phy");
    told("there is no route to it");
    west.run("ip addr add 172.31.0.1/24 dev br-phy");
    well();
    west.run("ip link set br-phy down");
    told("there is no route to it");
    west.run("ip link set br-phy up");
    well();
    west.sh("ip addr del 172.31.0.1/24 dev br-phy; ip addr add 172.31.0.1/24 dev p0");
    told("the route to it leads over `p0`");
    west.sh("ip addr del 172.31.0.1/24 dev p0; ip addr add 172.31.0.1/24 dev br-phy");
    well();

    // The example is one half of such a lab.
    west.ovsns("down far").ok();
    west.file("tunnel.yaml", &world.example("tunnel.yaml"));
    west.ovsns("up tunnel.yaml").ok();
    west.silence("tunnel.n1", "10.0.0.2");
    hosts.east.ovsns("switch set s1 tunnels.t0.key=77").ok();
    west.pings("tunnel.n1", "10.0.0.2");
    Ok(())
}

/// n1 -- s1 == s1 -- n2, in the west on an Open vSwitch of ovsns's own, which
/// is there as soon as a lab is.
pub(crate) fn a_tunnel_of_our_own_open_vswitch(world: &World) -> Verdict {
    let hosts = Hosts::joined(world, "netdev")?;
    let (west, east) = (&hosts.west, &hosts.east);
    east.open_vswitch(world)?;
    underlay(east, 2, "ovs-vsctl");
    hosts.write(east, "far", "t0: { type: vxlan, remote: 172.31.0.1 }", 2);
    east.ovsns("up far.yaml").ok();

    hosts.write(west, "far", "", 1);
    west.ovsns("up far.yaml").ok();
    let ovs_vsctl = "OVS_RUNDIR=/run/ovsns/ovs ovs-vsctl";
    underlay(west, 1, ovs_vsctl);
    hosts.write(west, "far", "t0: { type: vxlan, remote: 172.31.0.2 }", 1);
    west.ovsns("up far.yaml").ok();
    hosts.everything_passes();
    // It finishes checksums for whoever asks, and nobody does.
    let tso = format!("{ovs_vsctl} get Open_vSwitch . other_config:userspace-tso-enable");
    assert_eq!(west.sh(&tso).stdout.trim(), "\"true\"");
    hosts.apart_without_it();
    Ok(())
}

/// West and east, and a cable between them.
struct Hosts<'a> {
    world: &'a World,
    west: Host,
    east: Host,
    datapath: &'static str,
}

impl<'a> Hosts<'a> {
    /// Two hosts and a cable, and no address.
    fn joined(world: &'a World, datapath: &'static str) -> Result<Self, Skip> {
        for program in ["nsenter", "ethtool", "tcpdump", "ovs-vswitchd"] {
            world.needs(program)?;
        }
        let (west, east) = (world.host(), world.host());
        world.cable("p0", [&west, &east]);
        west.run("ip link set p0 up");
        east.run("ip link set p0 up");
        Ok(Self { world, west, east, datapath })
    }

    /// The same with an Open vSwitch each, as a distribution has it.
    fn new(world: &'a World, datapath: &'static str) -> Result<Self, Skip> {
        let hosts = Self::joined(world, datapath)?;
        hosts.west.open_vswitch(world)?;
        hosts.east.open_vswitch(world)?;
        Ok(hosts)
    }

    /// Two hosts whose addresses are where the userspace datapath finds them.
    fn with_bridges(world: &'a World) -> Result<Self, Skip> {
        let hosts = Self::new(world, "netdev")?;
        underlay(&hosts.west, 1, "ovs-vsctl");
        underlay(&hosts.east, 2, "ovs-vsctl");
        Ok(hosts)
    }

    fn both(&self) -> [&Host; 2] {
        [&self.west, &self.east]
    }

    /// Brings a lab up on both, with one node each that has this number, and a
    /// tunnel between the switches.
    fn up(&self, lab: &str, tunnel: &str, [west, east]: [u8; 2]) {
        for (host, remote, number) in [(&self.west, 2, west), (&self.east, 1, east)] {
            let tunnel = format!("t0: {{ {tunnel}, remote: 172.31.0.{remote} }}");
            self.write(host, lab, &tunnel, number);
            host.ovsns(&format!("up {lab}.yaml")).ok();
        }
    }

    /// The file of a lab with one node.
    fn write(&self, host: &Host, lab: &str, tunnels: &str, number: u8) {
        let datapath = self.datapath;
        let addresses = format!("addresses: [10.0.0.{number}/24, fd00::{number}/64]");
        let text = format!(
            "
name: {lab}
switches: {{ s1: {{ backend: ovs, datapath: {datapath}, tunnels: {{ {tunnels} }} }} }}
nodes: {{ n{number}: {{ interfaces: {{ eth0: {{ {addresses} }} }} }} }}
links: [{{ endpoints: [n{number}, s1] }}]
"
        );
        host.file(&format!("{lab}.yaml"), &text);
    }

    /// Takes labs down, after which only what was there before is there.
    fn down(&self, labs: &[&str]) {
        for host in self.both() {
            for lab in labs {
                host.ovsns(&format!("down {lab}")).ok();
            }
            let left = host.run("ovs-vsctl list-br").stdout;
            assert!(left.lines().all(|bridge| bridge == "br-phy"), "{left}");
        }
    }

    /// TCP and UDP, over IPv4 and IPv6, either way, and the largest frame.
    #[track_caller]
    fn everything_passes(&self) {
        for (from, to) in self.ways() {
            for family in ["10.0.0.", "fd00::"] {
                let [here, there] = [from, to].map(|node| format!("{family}{}", node.number));
                self.tcp(from, to, &there).ok();
                self.udp(from, to, &here, &there).ok();
            }
            from.run(&format!("ping -n -c 1 -W 2 -M do -s 1372 10.0.0.{}", to.number));
        }
    }

    /// Fails the test if anything passes when there is no tunnel.
    #[track_caller]
    fn apart_without_it(&self) {
        self.west.ovsns("switch set s1 tunnels=").ok().says("- port");
        self.west.silence("far.n1", "10.0.0.2");
        self.east.silence("far.n2", "fd00::1");
        self.west.ovsns("up far.yaml").ok();
        self.west.pings("far.n1", "10.0.0.2");
    }

    /// From n1 to n2, and back.
    fn ways(&self) -> [(Node<'_>, Node<'_>); 2] {
        let west = Node { host: &self.west, number: 1 };
        let east = Node { host: &self.east, number: 2 };
        [(west, east), (east, west)]
    }

    /// Half a megabyte over TCP to `address`, and back.
    fn tcp(&self, from: Node, to: Node, address: &str) -> Finished {
        let mut echo = to.tool(self.world, Tool::Echo, &format!("{address} 7007"));
        echo.line_with("ready");
        from.tool(self.world, Tool::Pour, &format!("{address} 7007 524288")).finish()
    }

    /// Three datagrams. Fails with the listener, whom one is missing.
    fn udp(&self, from: Node, to: Node, here: &str, there: &str) -> Finished {
        let mut hear = to.tool(self.world, Tool::Hear, "7009 3");
        hear.line_with("ready");
        for number in 0..3 {
            let words = format!("{here} {there} 7009 {number}");
            from.tool(self.world, Tool::Say, &words).finish().ok();
        }
        hear.finish()
    }

    /// What passes the cable.
    fn overhear(&self, filter: &str) -> Running {
        let line = format!("exec tcpdump -l -n -i p0 {filter} 2>&1");
        let mut cable = self.west.start(self.world, &line);
        cable.line_with("listening on");
        cable
    }
}

/// A node of the lab `far`.
#[derive(Clone, Copy)]
struct Node<'h> {
    host: &'h Host,
    number: u8,
}

impl Node<'_> {
    #[track_caller]
    fn run(&self, words: &str) -> Finished {
        self.host.run(&format!("ip netns exec far.n{} {words}", self.number))
    }

    fn tool(&self, world: &World, tool: Tool, words: &str) -> Running {
        self.host.tool(world, &format!("far.n{}", self.number), tool, words)
    }
}

/// Puts the cable on a bridge of userspace, and the host's address on the
/// bridge's local device.
fn underlay(host: &Host, number: u8, ovs_vsctl: &str) {
    host.sh(&format!(
        "{ovs_vsctl} -- add-br br-phy -- set bridge br-phy datapath_type=netdev \
            -- add-port br-phy p0
        ip addr add 172.31.0.{number}/24 dev br-phy
        ip link set br-phy up"
    ));
}
