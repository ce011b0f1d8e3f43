//! A NIC that systemd-networkd or NetworkManager sees to: they look away while it
//! is a port, and see to it again when it is home.
//!
//! The world itself is the host (`World::lan`): `router:lan0 -- eth0`.

use std::fs;
use std::path::Path;

use world::lan::ROUTER;
use world::{Pinging, Verdict, World, until, until_within};

use crate::leases::{is_renewed, keepers, leased, local};

/// Counts in the router leases that are given back: the first option of such a
/// packet says so (RFC 2131, section 4.4.6).
fn count_releases(world: &World) -> Result<(), world::Skip> {
    world.needs("nft")?;
    let rule = "udp dport 67 @th,1984,24 0x350107 counter";
    world.sh(&format!(
        "ip netns exec {ROUTER} nft 'add table ip t;
            add chain ip t c {{ type filter hook prerouting priority 0; }}; add rule ip t c {rule}'"
    ));
    Ok(())
}

/// How many were.
fn releases(world: &World) -> String {
    let rules = world.run(&format!("ip netns exec {ROUTER} nft list table ip t")).stdout;
    let counted = rules.split_once("counter packets ").expect("a counter").1;
    counted.split(' ').next().expect("a number").to_owned()
}

/// Takes off `eth0` what was given to it by hand.
fn bare(world: &World) {
    world.sh("ip addr flush dev eth0 scope global
        for family in -4 -6; do
            ip $family route flush table all dev eth0 proto boot
            ip $family rule del pref 1077
        done
        ip neigh flush dev eth0 nud permanent");
}

/// What is in the directory of systemd-networkd beside the host's own file.
fn files() -> Vec<String> {
    let entries = fs::read_dir("/run/systemd/network").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "10-lan.network").collect()
}

/// All that it has comes from servers, and a rule that names no device from a file:
/// all of it goes on, no packet is lost, and no lease is given back.
///
/// router:lan0 -- eth0
pub(crate) fn systemd_networkd_on_a_bridge(world: &World) -> Verdict {
    world.lan()?;
    bare(world);
    count_releases(world)?;
    let _server = world.dhcp_server(&["--dhcp-option-force=58,4i"])?;
    let _router = world.advertisements()?;
    let rule = "[RoutingPolicyRule]\nFrom=203.0.113.9\nTable=99\n";
    let _networkd = world.networkd(&format!("[Network]\nDHCP=ipv4\nIPv6AcceptRA=yes\n{rule}"))?;
    until("there is an address of each family", || {
        leased(world, "", "eth0", "inet").is_some() && leased(world, "", "eth0", "inet6").is_some()
    });
    world.settled();
    let rules = world.run("ip -4 rule").stdout;
    assert!(rules.contains("from 203.0.113.9 lookup 99"), "{rules}");
    let before = world.inventory();
    let (v4, _) = leased(world, "", "eth0", "inet").expect("an address");
    let (v6, _) = leased(world, "", "eth0", "inet6").expect("an address");
    let pings = [&v4, &v6].map(|to| world.pinging(ROUTER, to.split('/').next().expect("one")));

    world
        .ovsns("attach eth0 --backend linux")
        .ok()
        .says("systemd-networkd sees to `eth0`: it is told to look away");
    assert_eq!(world.networkd_state(), "unmanaged");
    let local = local(world);
    assert_eq!(leased(world, "", &local, "inet").map(|(address, _)| address), Some(v4.clone()));
    assert_eq!(world.run("ip -4 rule").stdout, rules);
    is_renewed(world, &local, "inet", &v4);
    is_renewed(world, &local, "inet6", &v6);
    assert_eq!(keepers(world).len(), 1);
    assert_eq!(world.addresses("", "eth0"), Vec::<String>::new());

    world.ovsns("detach eth0").ok();
    until("systemd-networkd sees to it", || world.networkd_state() != "unmanaged");
    assert_eq!(files(), Vec::<String>::new());
    assert!(keepers(world).is_empty());
    for ping in pings {
        let lost = ping.lost();
        println!("lost: {lost}");
        assert!(lost < Pinging::A_SECOND, "{lost}");
    }
    until("it has its rule", || {
        let now = world.run("ip -4 rule").stdout;
        now.matches("from 203.0.113.9").count() == 1
    });
    until("its addresses are there", || {
        let now = world.addresses("", "eth0");
        now.contains(&v4) && now.contains(&v6)
    });
    world.pings(ROUTER, v4.trim_end_matches("/24"));
    println!("{}", world.inventory().differences(&before));
    assert_eq!(releases(world), "0");
    Ok(())
}

/// Addresses and routes out of a file: afterwards all is as it was.
///
/// router:lan0 -- eth0
pub(crate) fn systemd_networkd_on_open_vswitch(world: &World) -> Verdict {
    world.needs("ovs-vswitchd")?;
    world.lan()?;
    bare(world);
    let _networkd = world.networkd(
        "[Network]\nAddress=198.18.6.1/24\nAddress=fd00:6::1/64\nGateway=198.18.6.254\n\
         Gateway=fd00:6::fe\nIPv6AcceptRA=no\n[Route]\nDestination=192.0.2.0/24\n\
         Gateway=198.18.6.253\nTable=99\n[RoutingPolicyRule]\nFrom=203.0.113.9\nTable=99\nPriority=500\n",
    )?;
    until("it is done", || world.networkd_state() == "configured");
    world.settled();
    let before = world.inventory();
    let ping = world.pinging(ROUTER, "198.18.6.1");
    world.ovsns("attach eth0 --backend ovs").ok();
    assert_eq!(world.networkd_state(), "unmanaged");
    world.pings(ROUTER, "fd00:6::1");
    // It is restarted, or told to look again: that changes nothing.
    world.run("networkctl reload");
    assert_eq!(world.networkd_state(), "unmanaged");
    world.pings(ROUTER, "198.18.6.1");
    world.run("ip -4 rule").says("from 203.0.113.9 lookup 99");
    world.ovsns("up --topo single,2 --lab other --backend linux").ok();
    world.ovsns("down other").ok();

    world.ovsns("detach eth0").ok();
    until("it is done", || world.networkd_state() == "configured");
    let lost = ping.lost();
    println!("lost: {lost}");
    assert!(lost < Pinging::A_SECOND, "{lost}");
    world.settled();
    world.inventory().must_equal(&before);
    Ok(())
}

/// Nobody confirms.
///
/// router:lan0 -- eth0
pub(crate) fn systemd_networkd_sees_to_an_unconfirmed_nic_again(world: &World) -> Verdict {
    world.lan()?;
    bare(world);
    let _networkd = world.networkd("[Network]\nAddress=198.18.6.1/24\nIPv6AcceptRA=no\n")?;
    until("it is done", || world.networkd_state() == "configured");
    world.settled();
    let before = world.inventory();
    world.ovsns("attach eth0 --backend linux --confirm 1").ok();
    assert_eq!(world.networkd_state(), "unmanaged");
    until_within(20, "it is taken back", || world.networkd_state() == "configured");
    until("nobody of ours is left", || {
        world.processes().iter().all(|(_, command)| !command.contains("keep-nic"))
    });
    world.settled();
    world.inventory().must_equal(&before);
    Ok(())
}

/// Another file comes before ours: it does not look away, and all is taken back.
///
/// router:lan0 -- eth0
pub(crate) fn systemd_networkd_that_does_not_listen(world: &World) -> Verdict {
    world.lan()?;
    bare(world);
    let network = "[Network]\nAddress=198.18.6.1/24\nIPv6AcceptRA=no\n";
    let _networkd = world.networkd(network)?;
    until("it is done", || world.networkd_state() == "configured");
    let first = "/run/systemd/network/00-a.network";
    world.file(first, &format!("[Match]\nName=eth0\n{network}"));
    world.run(&format!("chmod 644 {first}"));
    world.run("networkctl reload");
    until("it is done", || world.networkd_state() == "configured");
    world.settled();
    let before = world.inventory();
    let refused = world.ovsns("attach eth0 --backend linux").code(1);
    assert!(
        refused.stderr.contains("could not have systemd-networkd look away from `eth0`"),
        "{refused}"
    );
    assert_eq!(files(), ["00-a.network"]);
    until("it is done", || world.networkd_state() == "configured");
    world.settled();
    world.inventory().must_equal(&before);
    world.pings(ROUTER, "198.18.6.1");
    Ok(())
}

/// A leased address, renewed in its place with its own identity; afterwards it is
/// NetworkManager's again.
///
/// router:lan0 -- eth0
pub(crate) fn network_manager_on_open_vswitch(world: &World) -> Verdict {
    world.needs("ovs-vswitchd")?;
    world.lan()?;
    bare(world);
    count_releases(world)?;
    let _server = world.dhcp_server(&["--dhcp-option-force=58,4i"])?;
    let profile =
        "[ipv4]\nmethod=auto\ndhcp-client-id=a-name-of-its-own\n[ipv6]\nmethod=link-local\n";
    let _manager = world.network_manager(profile)?;
    let (address, _) = leased(world, "", "eth0", "inet").expect("an address");
    let plain = address.trim_end_matches("/24").to_owned();

    let ping = world.pinging(ROUTER, &plain);
    world
        .ovsns("attach eth0 --backend ovs")
        .ok()
        .says("NetworkManager sees to `eth0`: it is told to look away");
    assert_eq!(world.network_manager_state(), "unmanaged");
    let local = local(world);
    is_renewed(world, &local, "inet", &address);
    is_renewed(world, &local, "inet", &address);
    let lost = ping.lost();
    println!("lost: {lost}");
    assert!(lost < Pinging::A_SECOND, "{lost}");
    let notes = fs::read_to_string("leases").expect("the server's notes");
    // 00, and the letters.
    assert!(notes.contains("00:61:2d:6e:61:6d:65"), "{notes}");

    world.ovsns("detach eth0").ok();
    until_within(20, "it is NetworkManager's", || world.network_manager_state() == "connected");
    until("it has its address", || {
        leased(world, "", "eth0", "inet").is_some_and(|(it, _)| it == address)
    });
    assert!(keepers(world).is_empty());
    world.pings(ROUTER, &plain);
    assert_eq!(releases(world), "0");
    Ok(())
}

/// Without its command nobody can tell it anything.
///
/// router:lan0 -- eth0
pub(crate) fn a_program_that_cannot_be_told_is_refused(world: &World) -> Verdict {
    world.lan()?;
    bare(world);
    let _networkd = world.networkd("[Network]\nAddress=198.18.6.1/24\n")?;
    until("it is done", || world.networkd_state() != "unmanaged");
    world.settled();
    let before = world.inventory();
    let mut command = world.command();
    fs::create_dir_all("bin").expect("the world's own directory");
    let bin = Path::new("bin").canonicalize().expect("just made");
    let refused = command.args(["attach", "eth0", "--backend", "linux"]).env("PATH", bin).output();
    let refused = refused.expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("there is no `networkctl` by which it could be told"), "{said}");
    world.inventory().must_equal(&before);
    Ok(())
}
