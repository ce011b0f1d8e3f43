//! Who gives addresses on the LAN: a DHCP server and a router that advertises,
//! both in the namespace at the other end of `eth0` (`World::lan`).

use std::process::Command;

use crate::lan::ROUTER;
use crate::{Running, Skip, World, until};

impl World {
    /// Starts a DHCP server for `198.18.6.100` to `.150`, with leases of two
    /// minutes, and more `options`. What it has given stands in the file `leases`.
    /// Returns when it listens.
    pub fn dhcp_server(&self, options: &[&str]) -> Result<Running, Skip> {
        self.needs("dnsmasq")?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", ROUTER, "dnsmasq", "--no-daemon", "--user=root"]);
        command.args(["--conf-file=/dev/null", "--port=0", "--interface=lan0", "--bind-dynamic"]);
        // It would try an address for 3 s before it gives it.
        command.args(["--no-ping", "--dhcp-authoritative"]);
        command.arg("--dhcp-range=198.18.6.100,198.18.6.150,255.255.255.0,2m");
        command.args(["--dhcp-option=option:router,198.18.6.254", "--dhcp-option=6,198.18.6.253"]);
        let leases = std::env::current_dir().expect("the world's own").join("leases");
        command.arg(format!("--dhcp-leasefile={}", leases.display()));
        let server = self.start_command(command.args(options));
        until("the DHCP server listens", || {
            let sockets = self.run(&format!("ip netns exec {ROUTER} ss -Hlnu sport = 67"));
            !sockets.stdout.is_empty()
        });
        Ok(server)
    }

    /// Has a router advertise `2001:db8:6::/64`, for half an hour. Returns when it
    /// has begun.
    pub fn advertisements(&self) -> Result<Running, Skip> {
        self.needs("radvd")?;
        self.file(
            "radvd.conf",
            "interface lan0 {
                AdvSendAdvert on;
                MinRtrAdvInterval 3; MaxRtrAdvInterval 4; MinDelayBetweenRAs 3;
                AdvDefaultLifetime 1800;
                prefix 2001:db8:6::/64 { AdvValidLifetime 3600; AdvPreferredLifetime 1800; };
            };",
        );
        self.run(&format!("ip netns exec {ROUTER} sysctl -qw net.ipv6.conf.all.forwarding=1"));
        self.run(&format!("ip -n {ROUTER} addr add 2001:db8:6::fe/64 dev lan0 nodad"));
        let pid = std::env::current_dir().expect("the world's own").join("radvd.pid");
        let router = self.start(&format!(
            "ip netns exec {ROUTER} radvd --nodaemon -m none -C radvd.conf -p {}",
            pid.display()
        ));
        until("the router advertises", || pid.exists());
        Ok(router)
    }
}
