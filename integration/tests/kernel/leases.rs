//! Addresses that others give: to nodes by DHCP and by a router's
//! advertisements, and to the host whose NIC is attached.
//!
//! The world itself is the host (`World::lan`): `router:lan0 -- eth0`, and in
//! `router` are a real dnsmasq and a real radvd.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use world::lan::ROUTER;
use world::{Verdict, World, until, until_within};

/// n -- s -- eth0 -- router
const LAB: &str = "
name: l
switches: { s: {} }
nodes: { n: { interfaces: { eth0: { addresses: [dhcp] } } } }
links: [ { endpoints: [n, s] } ]
uplinks: { eth0: { switch: s } }
";

/// The processes that keep leases.
pub(crate) fn keepers(world: &World) -> Vec<u32> {
    let all = world.processes().into_iter();
    all.filter(|(_, command)| command.contains("keep-leases")).map(|(pid, _)| pid).collect()
}

/// The address of a device that is for a time, with the seconds that are left.
pub(crate) fn leased(
    world: &World,
    namespace: &str,
    device: &str,
    family: &str,
) -> Option<(String, u64)> {
    let at = if namespace.is_empty() { String::new() } else { format!("-n {namespace} ") };
    let links = world.json(&format!("ip {at}-j address show dev {device} scope global"));
    let all = links[0]["addr_info"].as_array()?;
    let of_family = |a: &&serde_json::Value| a["family"] == family && a["dynamic"] == true;
    let found = all.iter().find(of_family)?;
    let address = format!("{}/{}", found["local"].as_str()?, found["prefixlen"]);
    Some((address, found["valid_life_time"].as_u64()?))
}

fn node_address(world: &World) -> String {
    leased(world, "l.n", "eth0", "inet").expect("an address by DHCP").0
}

/// A node asks the DHCP server behind the NIC, and reaches it and the host.
///
/// n -- s -- eth0 -- router
pub(crate) fn a_node_has_a_lease(world: &World) -> Verdict {
    world.lan()?;
    let _server = world.dhcp_server(&[])?;
    let before = world.inventory();
    world.file("lab.yaml", LAB);
    world.ovsns("up lab.yaml").ok();

    let address = node_address(world);
    assert!(address.starts_with("198.18.6.1") && address.ends_with("/24"), "{address}");
    let (_, left) = leased(world, "l.n", "eth0", "inet").expect("an address");
    assert!((100..=120).contains(&left), "{left}");
    world.run("ip -n l.n -d address show dev eth0").says(&format!("inet {address}"));
    world
        .run("ip -n l.n route show default")
        .says("via 198.18.6.254")
        .says("proto 111")
        .says(&format!("src {}", address.trim_end_matches("/24")));
    world.pings("l.n", "198.18.6.254");
    world.pings("l.n", "198.18.6.1");
    // By the default route.
    world.pings("l.n", "203.0.113.1");
    world.pings(ROUTER, address.trim_end_matches("/24"));

    world.ovsns("up lab.yaml").ok().says("nothing to change");
    world.ovsns("status l").ok().says(&format!("{address} (dhcp, "));
    let status = world.ovsns("status l --json").ok().json();
    assert_eq!(status["drift"], serde_json::json!([]));
    let interface = &status["nodes"][0]["interfaces"][0];
    assert_eq!(interface["lease"]["server"], "198.18.6.254");
    assert_eq!(interface["lease"]["dns"], serde_json::json!(["198.18.6.253"]));
    assert_eq!(interface["foreign_addresses"], serde_json::json!([]));

    world.ovsns("down l").ok();
    assert!(keepers(world).is_empty());
    // It was given back, while there was a way to the server.
    until("the lease is given back", || {
        std::fs::read_to_string("leases").expect("the server's notes").trim().is_empty()
    });
    world.inventory().must_equal(&before);
    Ok(())
}

/// Who keeps a lease is killed: it is missed, and its successor asks for the same
/// address.
///
/// n -- s -- eth0 -- router
pub(crate) fn a_killed_keeper_is_missed(world: &World) -> Verdict {
    world.lan()?;
    let _server = world.dhcp_server(&[])?;
    world.file("lab.yaml", LAB);
    world.ovsns("up lab.yaml").ok();
    let address = node_address(world);
    let [keeper] = keepers(world)[..] else { panic!("one keeper") };
    let pid = Pid::from_raw(keeper.try_into().expect("a process"));
    kill(pid, Signal::SIGKILL).expect("the keeper is there");
    until("the keeper is gone", || keepers(world).is_empty());
    world.ovsns("status l").ok().says("drifted").says("+ lease for n:eth0, by DHCP");
    assert_eq!(node_address(world), address);
    world.ovsns("up lab.yaml").ok();
    assert_eq!(node_address(world), address);
    assert_eq!(keepers(world).len(), 1);
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    // What somebody takes off is put back.
    world.run(&format!("ip -n l.n address del {address} dev eth0"));
    world.ovsns("status l").ok().says("~ n:eth0 gets an address from a DHCP server");
    world.ovsns("up lab.yaml").ok();
    assert_eq!(node_address(world), address);
    world.run("ip -n l.n route show default").says("via 198.18.6.254");
    world.ovsns("down l").ok();
    assert!(keepers(world).is_empty());
    Ok(())
}

/// A lease of two minutes that is to be renewed every 4 s is.
///
/// n -- s -- eth0 -- router
pub(crate) fn a_lease_is_renewed(world: &World) -> Verdict {
    world.lan()?;
    let _server = world.dhcp_server(&["--dhcp-option-force=58,4i"])?;
    world.file("lab.yaml", LAB);
    world.ovsns("up lab.yaml").ok();
    let address = node_address(world);
    for _ in 0..2 {
        let mut least = u64::MAX;
        until_within(20, "the lease is renewed", || {
            let Some((now, left)) = leased(world, "l.n", "eth0", "inet") else { return false };
            assert_eq!(now, address);
            least = least.min(left);
            least < left
        });
        assert!((112..=117).contains(&least), "renewed with {least} s left");
    }
    Ok(())
}

/// The server is gone for longer than the lease: the address goes, and is there
/// again when the server is.
///
/// n -- s -- eth0 -- router
pub(crate) fn a_lease_runs_out(world: &World) -> Verdict {
    world.lan()?;
    let server = world.dhcp_server(&[])?;
    world.file("lab.yaml", LAB);
    world.ovsns("up lab.yaml").ok();
    server.signal(Signal::SIGTERM);
    server.finish();
    until_within(140, "the address is gone", || leased(world, "l.n", "eth0", "inet").is_none());
    until("its routes are gone", || world.run("ip -n l.n route show default").stdout.is_empty());
    until("it is told", || {
        let status = world.ovsns("status l").ok();
        status.stdout.contains("~ n:eth0 gets an address from a DHCP server")
    });
    assert_eq!(keepers(world).len(), 1);
    let _server = world.dhcp_server(&[])?;
    world.ovsns("up lab.yaml").ok();
    world.pings("l.n", "198.18.6.254");
    world.ovsns("down l").ok();
    assert!(keepers(world).is_empty());
    Ok(())
}

/// Nobody answers: all is taken back, the NIC too, and it is said why.
///
/// n -- s -- eth0 -- router
pub(crate) fn nobody_answers(world: &World) -> Verdict {
    world.lan()?;
    let before = world.inventory();
    world.file("lab.yaml", LAB);
    let failed = world.ovsns("up lab.yaml").code(1);
    assert!(
        failed.stderr.contains("by DHCP for `n:eth0` within 20 s: nobody answered"),
        "{failed}"
    );
    assert!(failed.stderr.contains("hint: "), "{failed}");
    assert!(keepers(world).is_empty());
    world.inventory().must_equal(&before);
    world.pings(ROUTER, "198.18.6.1");
    Ok(())
}

/// A lease begins and ends with what a lab is to be, and with what becomes of
/// nodes behind our back.
///
/// n -- s -- eth0 -- router
pub(crate) fn a_lease_ends_with_its_interface(world: &World) -> Verdict {
    world.lan()?;
    let _server = world.dhcp_server(&[])?;
    world.file("lab.yaml", LAB);
    world.file("static.yaml", &LAB.replace("[dhcp]", "[198.18.6.9/24]"));
    world.ovsns("up static.yaml").ok();
    assert!(keepers(world).is_empty());
    world.ovsns("up lab.yaml").ok();
    let address = node_address(world);
    assert_eq!(world.addresses("l.n", "eth0"), [address.as_str()]);
    world.ovsns("up static.yaml").ok();
    assert_eq!(world.addresses("l.n", "eth0"), ["198.18.6.9/24"]);
    assert_eq!(world.run("ip -n l.n route show default").stdout, "");
    assert!(keepers(world).is_empty());
    // Another address beside it.
    world.file("both.yaml", &LAB.replace("[dhcp]", "[dhcp, 198.18.7.9/24]"));
    world.ovsns("up both.yaml").ok();
    assert_eq!(world.addresses("l.n", "eth0").len(), 2);
    world.ovsns("up both.yaml").ok().says("nothing to change");
    // One more by command, and away.
    world.ovsns("node add m --link s --address dhcp").ok();
    assert!(leased(world, "l.m", "eth0", "inet").is_some());
    assert_eq!(keepers(world).len(), 1);
    world.ovsns("node rm m").ok();
    assert_eq!(keepers(world).len(), 1);
    // The link goes under it, the keeper goes with the last.
    world.run("ip -n l.n link del eth0");
    until("the keeper ends", || keepers(world).is_empty());
    world.ovsns("up both.yaml").ok();
    assert_eq!(world.addresses("l.n", "eth0").len(), 2);
    // And where only the name goes, nobody keeps the namespace.
    world.run("ip netns del l.n");
    until_within(20, "the keeper ends", || keepers(world).is_empty());
    world.ovsns("up both.yaml").ok();
    assert_eq!(world.addresses("l.n", "eth0").len(), 2);
    world.ovsns("down l").ok();
    assert!(keepers(world).is_empty());
    Ok(())
}

/// A router gives a node its address, whatever else the node is: also one that
/// forwards, and one of which nobody would ask by itself.
///
/// n, f -- s -- eth0 -- router
pub(crate) fn a_router_gives_addresses(world: &World) -> Verdict {
    world.lan()?;
    world.run("sysctl -qw net.ipv6.conf.eth0.accept_ra=0");
    let _router = world.advertisements()?;
    world.file(
        "lab.yaml",
        "
name: l
switches: { s: {} }
nodes:
  n: { interfaces: { eth0: { addresses: [slaac, fd00:6::99/64] } } }
  f: { interfaces: { eth0: { addresses: [slaac] } }, forwarding: true }
links: [ { endpoints: [n, s] }, { endpoints: [f, s] } ]
uplinks: { eth0: { switch: s } }
",
    );
    world.ovsns("up lab.yaml").ok();
    for node in ["l.n", "l.f"] {
        let (address, left) = leased(world, node, "eth0", "inet6").expect("an address");
        assert!(address.starts_with("2001:db8:6:"), "{address}");
        assert!((3500..=3600).contains(&left), "{left}");
        world.run(&format!("ip -n {node} -6 route show default")).says("proto ra");
        world.pings(node, "2001:db8::1");
        world.pings(node, "fd00:6::fe");
    }
    world.ovsns("up lab.yaml").ok().says("nothing to change");
    let status = world.ovsns("status l").ok().says("(slaac, ");
    assert!(!status.stdout.contains("not ours"), "{status}");
    // One that was taken away is asked for.
    let (address, _) = leased(world, "l.f", "eth0", "inet6").expect("an address");
    world.run(&format!("ip -n l.f address del {address} dev eth0"));
    world.ovsns("up lab.yaml").ok();
    assert_eq!(leased(world, "l.f", "eth0", "inet6").map(|a| a.0), Some(address));
    world.ovsns("down l").ok();
    Ok(())
}

/// No router: it is said, and taken back.
///
/// n -- s -- eth0 -- router
pub(crate) fn no_router_answers(world: &World) -> Verdict {
    world.lan()?;
    let before = world.inventory();
    world.file("lab.yaml", &LAB.replace("dhcp", "slaac"));
    let failed = world.ovsns("up lab.yaml").code(1);
    assert!(
        failed.stderr.contains("from a router for `n:eth0` within 15 s: nobody answered"),
        "{failed}"
    );
    assert!(failed.stderr.contains("hint: "), "{failed}");
    world.inventory().must_equal(&before);
    Ok(())
}

/// The local device of the switch that was made for `eth0`.
pub(crate) fn local(world: &World) -> String {
    let links = world.json("ip -j link show");
    let mark = |link: &&serde_json::Value| link["ifalias"] == "ovsns lab=default switch=eth0";
    let link = links.as_array().expect("links").iter().find(mark).expect("a switch `eth0`");
    link["ifname"].as_str().expect("a name").to_owned()
}

/// Awaits that an address of the host is given more time.
#[track_caller]
pub(crate) fn is_renewed(world: &World, device: &str, family: &str, address: &str) {
    let mut least = u64::MAX;
    until_within(20, "the address is renewed", || {
        let (now, left) = leased(world, "", device, family).expect("an address");
        assert_eq!(now, address);
        least = least.min(left);
        least < left
    });
}

/// What a device has by routers, without the seconds.
fn by_routers(world: &World, device: &str) -> Vec<String> {
    let routes = world.run(&format!("ip -6 route show dev {device}")).stdout;
    let words = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "expires");
        let seconds = at.map(|at| at + 1);
        let kept = words.iter().enumerate().filter(|(place, _)| Some(*place) != seconds);
        kept.map(|(_, word)| *word).collect::<Vec<_>>().join(" ")
    };
    let mut routes: Vec<String> = routes.lines().map(words).collect();
    routes.sort();
    routes
}

/// A host whose IPv6 address and default route a router gives: both go on being
/// renewed where they are then, and after they came home.
///
/// router:lan0 -- eth0
fn a_host_of_routers(world: &World, backend: &str) -> Verdict {
    world.lan()?;
    let _router = world.advertisements()?;
    world.run("ip -6 route del default via fd00:6::fe");
    until("there is an address", || leased(world, "", "eth0", "inet6").is_some());
    world.settled();
    let (address, _) = leased(world, "", "eth0", "inet6").expect("an address");
    let addresses = world.addresses("", "eth0");
    let routes = by_routers(world, "eth0");
    assert!(routes.iter().any(|r| r.starts_with("default via fe80:") && r.contains("proto ra")));

    let talk = world.talk();
    world.ovsns(&format!("attach eth0 --backend {backend}")).ok();
    let toll = talk.end();
    println!("attach: {toll:?}");
    assert!(toll.gap_ms.is_some_and(|gap| gap < 900.0), "{toll:?}");
    let local = local(world);
    assert_eq!(world.addresses("", &local), addresses);
    assert_eq!(by_routers(world, &local), routes);
    is_renewed(world, &local, "inet6", &address);
    world.pings(ROUTER, address.trim_end_matches("/64"));

    let talk = world.talk();
    world.ovsns("detach eth0").ok();
    let toll = talk.end();
    println!("detach: {toll:?}");
    assert!(toll.gap_ms.is_some_and(|gap| gap < 900.0), "{toll:?}");
    assert_eq!(world.addresses("", "eth0"), addresses);
    assert_eq!(by_routers(world, "eth0"), routes);
    is_renewed(world, "eth0", "inet6", &address);
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn a_host_of_routers_on_a_bridge(world: &World) -> Verdict {
    a_host_of_routers(world, "linux")
}

/// router:lan0 -- eth0
pub(crate) fn a_host_of_routers_on_open_vswitch(world: &World) -> Verdict {
    world.needs("ovs-vswitchd")?;
    a_host_of_routers(world, "ovs")
}

/// How each client is started for `eth0`, in the foreground.
const CLIENTS: [(&str, &str); 3] = [
    ("dhclient", "dhclient -4 -d -lf /var/lib/dhcp/test.leases -pf /run/dhclient.pid eth0"),
    ("udhcpc", "udhcpc -f -i eth0 -s /etc/udhcpc/default.script"),
    ("dhcpcd", "dhcpcd -4 -B --noarp eth0"),
];

/// The state of a process, as `ps` has it: `T` is stopped.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// A host with a client of its own: that is held while the NIC is a port, the
/// lease is renewed all the same, and the client goes on when it is home.
///
/// router:lan0 -- eth0
fn a_host_with_a_lease(world: &World, program: &str, backend: &str) -> Verdict {
    world.needs(program)?;
    world.lan()?;
    let (_, line) = CLIENTS.into_iter().find(|(name, _)| *name == program).expect("a known one");
    world.own_etc();
    world
        .sh("for d in /var/lib/dhcp /var/lib/dhcpcd; do mkdir -p $d; mount -t tmpfs none $d; done");
    // All that it has of IPv4 comes from the server.
    world.sh("ip -4 addr flush dev eth0; ip -4 rule del pref 1077");
    let _server = world.dhcp_server(&["--dhcp-option-force=58,4i"])?;
    let mut client = world.start(line);
    let v4 = |device: &str| {
        let all = world.addresses("", device);
        all.into_iter().find(|address| address.starts_with("198.18.6."))
    };
    until("there is a lease", || {
        let route = world.run("ip -4 route show default").stdout;
        v4("eth0").is_some() && !route.is_empty()
    });
    world.settled();
    let address = v4("eth0").expect("an address");
    let plain = address.trim_end_matches("/24").to_owned();
    let route = world.run("ip -4 route show default").stdout;
    let timed = leased(world, "", "eth0", "inet").is_some();

    let ping = world.pinging(ROUTER, &plain);
    world
        .ovsns(&format!("attach eth0 --backend {backend}"))
        .ok()
        .says("its lease renewed in its place");
    let local = local(world);
    assert!(is_stopped(client.id()), "{program} runs");
    assert_eq!(v4(&local), Some(address.clone()));
    if timed {
        is_renewed(world, &local, "inet", &address);
        is_renewed(world, &local, "inet", &address);
    }
    assert_eq!(v4("eth0"), None, "nobody gave it back meanwhile");

    // Who renews it is killed: missed, and there again with the next command.
    let [keeper] = keepers(world)[..] else { panic!("{:?}", keepers(world)) };
    let drift = format!("~ lease of {address} on {local}, renewed again");
    assert!(!world.ovsns("status").ok().stdout.contains(&drift));
    world.run(&format!("kill -9 {keeper}"));
    until("it is gone", || keepers(world).is_empty());
    world.ovsns("status").says(&drift);
    world.ovsns(&format!("attach eth0 --backend {backend}")).ok().says("its lease renewed again");
    assert!(!world.ovsns("status").ok().stdout.contains(&drift));
    assert_eq!(keepers(world).len(), 1);
    if timed {
        is_renewed(world, &local, "inet", &address);
    }

    world.ovsns("detach eth0").ok();
    assert!(keepers(world).is_empty());
    assert!(client.runs() && !is_stopped(client.id()), "{program} goes on");
    assert_eq!(v4("eth0"), Some(address.clone()));
    if timed {
        is_renewed(world, "eth0", "inet", &address);
    }
    assert_eq!(v4("eth0"), Some(address));
    assert_eq!(world.run("ip -4 route show default").stdout, route);
    let lost = ping.lost();
    println!("lost: {lost}");
    assert!(lost < world::Pinging::A_SECOND, "{lost}");
    Ok(())
}

/// router:lan0 -- eth0
pub(crate) fn dhclient_on_a_bridge(world: &World) -> Verdict {
    a_host_with_a_lease(world, "dhclient", "linux")
}

/// router:lan0 -- eth0
pub(crate) fn dhclient_on_open_vswitch(world: &World) -> Verdict {
    world.needs("ovs-vswitchd")?;
    a_host_with_a_lease(world, "dhclient", "ovs")
}

/// router:lan0 -- eth0
pub(crate) fn udhcpc_on_a_bridge(world: &World) -> Verdict {
    a_host_with_a_lease(world, "udhcpc", "linux")
}

/// router:lan0 -- eth0
pub(crate) fn dhcpcd_on_open_vswitch(world: &World) -> Verdict {
    world.needs("ovs-vswitchd")?;
    a_host_with_a_lease(world, "dhcpcd", "ovs")
}

/// Nobody confirms: the NIC comes home, and the client goes on there.
///
/// router:lan0 -- eth0
pub(crate) fn an_unconfirmed_host_has_its_client_again(world: &World) -> Verdict {
    world.needs("udhcpc")?;
    world.lan()?;
    world.own_etc();
    let _server = world.dhcp_server(&[])?;
    let mut client = world.start(CLIENTS[1].1);
    let leased =
        || world.addresses("", "eth0").iter().any(|a| a.starts_with("198.18.6.1") && a.len() > 13);
    until("there is a lease", leased);
    world.ovsns("attach eth0 --backend linux --confirm 1").ok();
    assert!(is_stopped(client.id()));
    until_within(20, "it is taken back", || !is_stopped(client.id()));
    until("nobody of ours is left", || keepers(world).is_empty());
    assert!(client.runs());
    until("the NIC is home", leased);
    Ok(())
}

/// dhcpcd takes the end of a port for the end of its NIC.
///
/// router:lan0 -- eth0
pub(crate) fn dhcpcd_on_a_bridge_is_refused(world: &World) -> Verdict {
    world.needs("dhcpcd")?;
    world.lan()?;
    world.own_etc();
    world.sh("mkdir -p /var/lib/dhcpcd; mount -t tmpfs none /var/lib/dhcpcd");
    let _server = world.dhcp_server(&[])?;
    let client = world.start(CLIENTS[2].1);
    until("there is a lease", || leased(world, "", "eth0", "inet").is_some());
    let before = world.inventory();
    let refused = world.ovsns("attach eth0 --backend linux").code(2);
    assert!(refused.stderr.contains("dhcpcd keeps the lease of `eth0`"), "{refused}");
    assert!(!is_stopped(client.id()));
    world.inventory().must_equal(&before);
    Ok(())
}
