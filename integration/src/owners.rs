//! Programs that configure the NICs of a host: the real ones, in a world of their
//! own (`World::lan` is the network).

use crate::{Running, Skip, World, until};

/// Where systemd-networkd is; it is no command.
const NETWORKD: &str = "/lib/systemd/systemd-networkd";

impl World {
    /// Starts systemd-networkd(8), which sees to `eth0` as `network` says (the
    /// sections after `[Match]` of systemd.network(5)), and does so.
    pub fn networkd(&self, network: &str) -> Result<Running, Skip> {
        self.needs("networkctl")?;
        self.bus()?;
        self.sh("mkdir -p -m 755 /run/systemd/network /run/systemd/netif");
        self.sh("mkdir -p -m 755 /run/systemd/netif/links /run/systemd/netif/leases");
        self.sh("chown -R systemd-network: /run/systemd/netif");
        let file = "/run/systemd/network/10-lan.network";
        self.file(file, &format!("[Match]\nName=eth0\n{network}"));
        self.sh(&format!("chmod 644 {file}"));
        let program = self.start(NETWORKD);
        until("systemd-networkd sees to eth0", || {
            let addresses = self.run("ip -4 addr show dev eth0 scope global").stdout;
            self.networkd_state() != "unmanaged" && !addresses.is_empty()
        });
        Ok(program)
    }

    /// What systemd-networkd has to do with `eth0`: `configured`, `unmanaged`.
    pub fn networkd_state(&self) -> String {
        let all = self.run("networkctl --no-pager --no-legend list").stdout;
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let of = all.lines().map(words).find(|words| words.get(1).is_some_and(|w| w == "eth0"));
        of.and_then(|words| words.last().cloned()).unwrap_or_default()
    }

    /// Starts NetworkManager(8), which sees to `eth0` by a profile with these
    /// sections (nm-settings-keyfile(5)), and does so.
    pub fn network_manager(&self, profile: &str) -> Result<Running, Skip> {
        self.needs("NetworkManager")?;
        self.bus()?;
        self.sh("mkdir -p /run/NetworkManager/system-connections /run/NetworkManager/conf.d");
        self.sh("mkdir -p /var/lib/NetworkManager; mount -t tmpfs none /var/lib/NetworkManager");
        let settings = "[main]\nplugins=keyfile\nauth-polkit=false\ndhcp=internal\ndns=none\n\
                        no-auto-default=*\n[device]\nmanaged=1\n";
        self.file("/run/NetworkManager/conf.d/test.conf", settings);
        let file = "/run/NetworkManager/system-connections/lan.nmconnection";
        let id = "id=lan\nuuid=b2eac6a2-3a32-4b66-8a12-0c4d6ae0a001\ntype=ethernet\n";
        self.file(file, &format!("[connection]\n{id}interface-name=eth0\n{profile}"));
        self.sh(&format!("chmod 600 {file}"));
        let program = self.start("NetworkManager --no-daemon --log-level=WARN");
        until("NetworkManager sees to eth0", || self.network_manager_state() == "connected");
        Ok(program)
    }

    /// What NetworkManager has to do with `eth0`: `connected`, `unmanaged`.
    pub fn network_manager_state(&self) -> String {
        let all = self.attempt("nmcli -t -f DEVICE,STATE device").stdout;
        let of = all.lines().find_map(|line| line.strip_prefix("eth0:"));
        of.unwrap_or_default().to_owned()
    }

    /// Starts the system's message bus, and has programs find that no udev(7) runs
    /// here: they take a `/sys` that is not to be written for a container's.
    fn bus(&self) -> Result<(), Skip> {
        self.needs("dbus-daemon")?;
        self.sh("mount -o remount,ro /sys");
        self.sh("mkdir -p -m 755 /run/dbus");
        self.sh("dbus-daemon --system --nopidfile --fork");
        Ok(())
    }
}
