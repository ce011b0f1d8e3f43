//! A machine full of other people's things, some of which look like ours.
//!
//! [`World::foreign`] has a few of them, for tests of other matters; here is
//! whatever `ovsns` could come across and take for its own: names, aliases,
//! `external_ids`, tables and files that are nearly ours, and processes that are
//! called like ours.

use crate::{Foreign, Running, Skip, World, until};

/// A machine with much on it.
#[must_use = "it is there to be compared at the end"]
pub struct Crowd {
    foreign: Foreign,
    more: Vec<String>,
    /// They end with the value.
    _processes: Vec<Running>,
}

/// In the machine's own namespaces and in those of others. Lab `p` and lab `q`
/// are what tests make here.
const THINGS: &str = "
    ip netns add p
    ip netns add p.looksours
    ip netns add q.d
    touch /run/netns/q.file
    ip link add p-br type bridge ageing_time 12345
    ip link set p-br alias 'ovsns lab=p'
    ip link property add dev p-br altname p:looks:ours
    ip link add p.abcdefgh type veth peer name eth0 netns p.looksours
    ip link set p.abcdefgh alias 'ovsns lab=p port=a:eth0 (copy)' master p-br
    ip -n p.looksours link set lo alias 'ovsns lab=p node=looksours, no more'
    ip -n p.looksours address add 10.0.0.77/16 dev eth0
    ip link add x0 type veth peer name x1
    ip link set x0 group 1077 up
    ip link set x1 up
    ip address add 192.0.2.129/25 dev x0
    tc qdisc add dev x0 root tbf rate 1mbit burst 10kb latency 50ms
    tc qdisc add dev x1 clsact
    ip -n others link add mv0 link eth0 type macvlan mode bridge
    ip neigh add 192.0.2.200 lladdr 02:00:5e:00:53:c8 dev x0 nud permanent
    ip -6 rule add pref 1001 to 2001:db8:99::/48 lookup 77
    ip route add blackhole 198.51.100.128/25 table 77
    nft add table inet ovsns
    nft 'add chain inet ovsns forward { type filter hook forward priority 5; }'
    nft add rule inet ovsns forward meta mark 7 drop
    nft 'add table inet ovsns-nat.p2 { comment \"ovsns lab=p\"; }'
    nft add table netdev ovsns.x0
    nft 'add chain netdev ovsns.x0 x0 { type filter hook ingress device x0 priority 0; }'
    ip netns exec p.looksours nft add table netdev ovsns-cut
    mkdir -p /run/others/ovsns /run/ovsns-of-mine /run/others/mount
    echo keep >/run/ovsns-of-mine/lab.json
    mount -t tmpfs -o size=64k theirs /run/others/mount
    echo keep >/run/others/mount/file
    mkdir -p /etc/netns/p.a
    echo '192.0.2.9 theirs' >/etc/netns/p.a/hosts
    printf '%s\\n' '192.0.2.10 a.p b.p  # not ovsns' '# ovsns lab=p of mine' >>/etc/hosts
    ip netns add far
    ip link add nic0 address 02:00:5e:00:53:01 type veth peer name lan0 netns far
    ip -n far link set lo up
    ip -n far address add 198.18.60.254/24 dev lan0
    ip -n far address add fd00:60::fe/64 dev lan0 nodad
    ip -n far link set lan0 up
    ip link set nic0 up
    ip address add 198.18.60.1/24 dev nic0
    ip address add fd00:60::1/64 dev nic0
    ip route add 203.0.113.0/24 via 198.18.60.254 dev nic0
    ip link add nic1 type veth peer name lan1 netns far
    ip -n far link set lan1 up
    ip link set nic1 up
    sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
";

/// In the machine's own Open vSwitch.
const ROWS: &str = "
    v() { ovs-vsctl --timeout=20 \"$@\"; }
    v add-br br-int -- set bridge br-int datapath_type=netdev external_ids:owner=neutron fail_mode=secure
    v set bridge br-int external_ids:ovsns='\"ovsns lab=p, said somebody\"' other_config:mac-aging-time=77
    v add-port br-int x1 -- set interface x1 external_ids:iface-id=vm-1 external_ids:ovsns=mine
    v add-port br-int in0 -- set interface in0 type=internal -- set port in0 tag=7
    v add-port br-int vx0 -- set interface vx0 type=vxlan options:remote_ip=192.0.2.9 options:key=7
    v -- --id=@m create Mirror name=ovsns select_all=true output_vlan=9 -- add bridge br-int mirrors @m
    v -- --id=@q create QoS type=linux-htb queues:0=@r -- --id=@r create Queue other_config:max-rate=1000 \\
        external_ids:ovsns=mine -- set port in0 qos=@q
    v set-controller br-int ptcp:6777:127.0.0.1
    v set Open_vSwitch . external_ids:ovsns-of-mine=yes external_ids:system-id=theirs
    ovs-ofctl add-flow br-int cookie=0x6f77000000000001,priority=7,in_port=in0,actions=drop
    ovs-ofctl add-flow br-int priority=0,actions=normal
";

/// What runs here, by the lines that [`World::processes`] has of it.
const PROGRAMS: [&str; 3] = [
    "ip netns exec others dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts --port=0 \
     --interface=eth0 --dhcp-range=192.0.2.10,192.0.2.20 --pid-file= \
     --dhcp-leasefile=/run/others/leases",
    // Called like keepers of ours.
    "exec -a 'ovsns keep-node p.a' sleep 100000",
    "exec -a 'ovsns keep-ovs' ip netns exec p.looksours sleep 100000",
];

impl World {
    /// Fills the world with things of others. `/etc` is the test's own from then on.
    /// `nic0`, of the machine, has addresses and a network behind it, `nic1` nothing.
    pub fn crowd(&self) -> Result<Crowd, Skip> {
        for program in ["nft", "tc", "dnsmasq", "bash"] {
            self.needs(program)?;
        }
        self.own_etc();
        drop(self.foreign());
        self.sh(THINGS);
        if self.backend() == "ovs" {
            self.sh(ROWS);
        }
        let start = |line: &&str| {
            let mut command = std::process::Command::new("bash");
            self.start_command(command.args(["-c", line]).stderr(std::process::Stdio::null()))
        };
        let processes: Vec<_> = PROGRAMS.iter().map(start).collect();
        until("they all run", || {
            let lines = self.processes();
            let runs = |name: &str| lines.iter().any(|(_, line)| line.contains(name));
            runs("dnsmasq --no-daemon") && runs("ovsns keep-node p.a") && !runs("bash -c")
        });
        self.settled();
        let foreign = self.foreign_now();
        Ok(Crowd { foreign, more: self.more(), _processes: processes })
    }

    /// What an inventory does not hold.
    fn more(&self) -> Vec<String> {
        let mut more = Vec::new();
        for place in ["", "ip netns exec p.looksours ", "ip netns exec others "] {
            more.push(self.run(&format!("{place}nft list ruleset")).stdout);
            more.push(self.run(&format!("{place}tc qdisc show")).stdout);
        }
        more.push(self.run("ip neigh show nud permanent").stdout);
        more.push(self.run("find /etc/netns").stdout);
        more.push(self.run("cat /etc/hosts /etc/netns/p.a/hosts").stdout);
        if self.backend() == "ovs" {
            more.push(self.run("ovs-ofctl --no-stats dump-flows br-int").stdout);
        }
        // Whoever asks is not counted, nor is the switch.
        let asks = ["ovs-vswitchd", "ovsdb-server"];
        let mut processes = self.processes();
        processes.retain(|(_, line)| !asks.iter().any(|it| line.starts_with(it)));
        processes.sort();
        more.extend(processes.into_iter().map(|(id, line)| format!("process {id} {line}")));
        more
    }
}

impl Crowd {
    /// What is not as it was: changed, gone or added; empty if nothing is.
    pub fn differences(&self, world: &World) -> String {
        let mut text = world.inventory().differences(self.foreign.before());
        let (now, before) = (world.more(), &self.more);
        let lines = |all: &[String]| -> Vec<String> {
            all.iter().flat_map(|it| it.lines()).map(str::to_owned).collect()
        };
        let (now, before) = (lines(&now), lines(before));
        for line in now.iter().filter(|line| !before.contains(line)) {
            text += &format!("  now:    {line}\n");
        }
        for line in before.iter().filter(|line| !now.contains(line)) {
            text += &format!("  before: {line}\n");
        }
        text
    }

    /// What was there at the beginning and is not any more as it was, while a lab is
    /// there. `except` are words in lines that may change with it.
    pub fn lost(&self, world: &World, except: &[&str]) -> Vec<String> {
        let now = world.inventory();
        let lost = now.lost(self.foreign.before()).into_iter();
        let lost = lost.filter(|line| !except.iter().any(|word| line.contains(word)));
        let mut lost: Vec<String> = lost.map(str::to_owned).collect();
        let more = world.more();
        let more: Vec<&str> = more.iter().flat_map(|it| it.lines()).collect();
        let before = self.more.iter().flat_map(|it| it.lines());
        let gone = before.filter(|line| !more.contains(line));
        lost.extend(
            gone.filter(|line| !except.iter().any(|w| line.contains(w))).map(str::to_owned),
        );
        lost
    }
}
