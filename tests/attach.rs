//! What becomes of a NIC, as text: what is done in which order, what is refused
//! and what its owner is told. No kernel is asked.

use std::collections::BTreeSet;

use ovsns::model::names::{IfName, SwitchName};
use ovsns::model::nic::{
    Master, Neighbour, Nic, NicAddress, NicHop, NicLink, NicRoute, NicRule, Owner, Program, Told,
};
use ovsns::model::topology::{Backend, Datapath, PortSettings, SwitchSettings};
use ovsns::model::world::{PortKind, PortSpec, SwitchSpec};
use ovsns::plan::attach::preflight::{Manager, Wish};
use ovsns::plan::attach::{
    Attached, Facts, Home, NicStage, attach, home, look_away, preflight, regain,
};

fn device(name: &str) -> IfName {
    IfName::new(name).expect("a device's name")
}

fn told() -> Told {
    Told(Vec::new())
}

fn address(net: &str, flags: u32) -> NicAddress {
    NicAddress { net: net.parse().expect("a network"), flags, valid_s: None, told: told() }
}

fn route(to: &str, via: &[&str], table: u32) -> NicRoute {
    let via = via.iter().map(|ip| ip.parse().expect("an address")).collect();
    let to = to.parse().expect("a network");
    NicRoute { to, table, metric: 0, via, protocol: 3, told: told() }
}

fn neighbour(ip: &str, permanent: bool) -> Neighbour {
    let mac = "02:00:00:00:00:fe".parse().expect("a MAC address");
    Neighbour { ip: ip.parse().expect("an address"), mac, permanent, router: false }
}

/// A device of that name on which nothing hangs.
fn bare(name: &str, mac: &str) -> Nic {
    let parameters = [("ipv4.rp_filter", "1"), ("ipv6.accept_ra", "1")];
    Nic {
        link: NicLink {
            index: 2,
            name: device(name),
            altnames: BTreeSet::new(),
            mac: Some(mac.parse().expect("a MAC address")),
            mtu: 1500,
            up: true,
            carrier: true,
            alias: String::new(),
            kind: None,
            master: None,
            generates: Some(0),
            checksums: Some(true),
        },
        addresses: Vec::new(),
        routes: Vec::new(),
        hops: Vec::new(),
        rules: Vec::new(),
        neighbours: Vec::new(),
        parameters: parameters.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

/// A NIC as hosts have it.
fn eth0() -> Nic {
    let mut nic = bare("eth0", "02:00:00:00:00:01");
    nic.addresses = vec![
        address("10.0.0.2/24", 0x80),
        address("10.0.0.3/24", 0x81),
        address("fd00::2/64", 0x80),
        address("fe80::2/64", 0x80),
    ];
    nic.routes = vec![
        route("0.0.0.0/0", &["10.0.0.1"], 254),
        route("10.0.0.0/24", &[], 254),
        route("0.0.0.0/0", &["10.0.0.9"], 77),
        route("::/0", &["fd00::1"], 254),
        route("fd00::/64", &[], 254),
    ];
    nic.hops =
        vec![NicHop { id: 5, via: Some("10.0.0.1".parse().expect("an address")), told: told() }];
    nic.rules = vec![NicRule { v6: false, priority: 100, names_it: true, told: told() }];
    nic.neighbours = vec![neighbour("10.0.0.1", false), neighbour("10.0.0.200", true)];
    nic.parameters.insert("ipv6.accept_ra".into(), "0".into());
    nic
}

fn attached(nic: Nic, backend: Backend) -> Attached {
    let switch = SwitchSpec {
        name: SwitchName::new("s1").expect("a name"),
        backend,
        datapath: (backend == Backend::Ovs).then_some(Datapath::Netdev),
        device: device("s1.local"),
        mac: "02:00:00:00:00:77".parse().expect("a MAC address"),
        mtu: 1500,
        group: 0,
        alias: String::new(),
        altname: String::new(),
        settings: SwitchSettings::default(),
        vlan_filtering: false,
    };
    let port = PortSpec {
        switch: switch.name.clone(),
        bridge: switch.device.clone(),
        device: nic.link.name.clone(),
        kind: PortKind::Link,
        settings: PortSettings::default(),
        filtering: false,
        number: None,
        mark: String::new(),
    };
    let userspace = backend == Backend::Ovs;
    let local = bare("s1.local", "02:00:00:00:00:77");
    Attached {
        nic,
        local,
        switch,
        port,
        userspace,
        whole_checksums: userspace,
        owners: Vec::new(),
        regained: Vec::new(),
    }
}

/// The host's NIC and the switch's local device when all was done.
fn done(attached: &Attached) -> (Nic, Nic) {
    let mut nic = bare("eth0", "02:00:00:00:00:01");
    nic.link.generates = Some(1);
    nic.parameters.clone_from(&attached.nic.parameters);
    let mut local = attached.nic.clone();
    local.link = NicLink { name: device("s1.local"), ..local.link };
    local.link.checksums = Some(!attached.whole_checksums);
    for address in &mut local.addresses {
        address.flags |= NicAddress::NOPREFIXROUTE | NicAddress::NODAD;
    }
    (nic, local)
}

fn lines(stages: &[NicStage]) -> String {
    stages.iter().flat_map(NicStage::lines).collect::<Vec<_>>().join("\n")
}

#[test]
fn into_a_linux_bridge() {
    insta::assert_snapshot!(lines(&attach(&attached(eth0(), Backend::Linux))));
}

#[test]
fn into_open_vswitch() {
    insta::assert_snapshot!(lines(&attach(&attached(eth0(), Backend::Ovs))));
}

#[test]
fn a_nic_on_which_nothing_hangs() {
    let mut nic = bare("eth0", "02:00:00:00:00:01");
    nic.link.up = false;
    insta::assert_snapshot!(lines(&attach(&attached(nic, Backend::Linux))));
}

/// What its program has heard of routers the kernel hears meanwhile, on the local
/// device; and rules that go with it come back.
#[test]
fn a_program_that_sees_to_the_nic() {
    let mut nic = eth0();
    nic.addresses[0].valid_s = Some(120);
    let v6 = nic.addresses.iter_mut().find(|a| a.net.addr().is_ipv6()).expect("one of IPv6");
    v6.valid_s = Some(1800);
    nic.parameters.insert("ipv6.accept_ra".into(), "0".into());
    let mut attached = attached(nic, Backend::Linux);
    attached.local.parameters.insert("ipv6.accept_ra".into(), "0".into());
    let program = Program::Networkd { file: "/etc/systemd/network/10-lan.network".into() };
    attached.owners = vec![Owner { program, client_id: vec![1, 2] }];
    let there = lines(&attach(&attached));
    let away = lines(&look_away(&attached));
    let (mut nic, mut local) = done(&attached);
    local.parameters.insert("ipv6.accept_ra".into(), "2".into());
    let rule = NicRule { v6: false, priority: 500, names_it: false, told: Told(vec![0; 12]) };
    let (had, mut has) = ((local.clone(), vec![rule]), (local.clone(), Vec::new()));
    has.0.addresses.pop();
    let regained = lines(&regain(&had, &has));
    nic.parameters.insert("ipv6.accept_ra".into(), "0".into());
    let back = lines(&home(&attached, &nic, Some(&local), Home::Detach));
    let all = [there, away, regained, back];
    insta::assert_snapshot!(all.join("\n---\n"));
}

#[test]
fn home_from_a_linux_bridge() {
    let attached = attached(eth0(), Backend::Linux);
    let (nic, local) = done(&attached);
    insta::assert_snapshot!(lines(&home(&attached, &nic, Some(&local), Home::Detach)));
}

#[test]
fn home_from_open_vswitch() {
    let attached = attached(eth0(), Backend::Ovs);
    let (nic, local) = done(&attached);
    insta::assert_snapshot!(lines(&home(&attached, &nic, Some(&local), Home::Detach)));
}

/// Cut off after the first addresses went: what is there is not touched, what
/// is not there comes back.
#[test]
fn taken_back_from_the_middle() {
    let attached = attached(eth0(), Backend::Ovs);
    let (_, local) = done(&attached);
    let mut nic = eth0();
    nic.addresses.truncate(2);
    nic.routes.clear();
    nic.hops.clear();
    nic.rules.clear();
    nic.parameters.insert("ipv4.rp_filter".into(), "2".into());
    insta::assert_snapshot!(lines(&home(&attached, &nic, Some(&local), Home::Undo)));
}

/// Somebody deleted the switch.
#[test]
fn home_from_a_switch_that_is_gone() {
    let attached = attached(eth0(), Backend::Linux);
    let (nic, _) = done(&attached);
    insta::assert_snapshot!(lines(&home(&attached, &nic, None, Home::Detach)));
}

/// Taken back before anything was done, there is next to nothing to do, and
/// nothing of the NIC's is taken off.
#[test]
fn taken_back_from_the_beginning() {
    let attached = attached(eth0(), Backend::Linux);
    let local = attached.local.clone();
    insta::assert_snapshot!(lines(&home(&attached, &eth0(), Some(&local), Home::Undo)));
}

// ---- what stands in the way ----

fn wish() -> Wish {
    Wish {
        switch: SwitchName::new("s1").expect("a name"),
        backend: Backend::Linux,
        userspace: false,
        others: Vec::new(),
        stp: false,
        force: false,
        port_of: None,
        ssh: None,
    }
}

#[test]
fn nothing_in_the_way() {
    let found = preflight(&eth0(), &Facts::default(), &wish());
    assert_eq!((found.refusals, found.warnings), (Vec::new(), Vec::new()));
}

#[test]
fn refusals() {
    let master = |name: &str, kind: &str| Master { index: 9, name: name.into(), kind: kind.into() };
    let nic = |change: &dyn Fn(&mut NicLink)| {
        let mut nic = eth0();
        change(&mut nic.link);
        (nic, Facts::default(), wish())
    };
    let facts = |facts: Facts| (eth0(), facts, wish());
    let wished = |change: &dyn Fn(&mut Wish)| {
        let mut wish = wish();
        change(&mut wish);
        (eth0(), Facts::default(), wish)
    };
    let upper = |kind: &str| Facts {
        uppers: vec![("eth0.7".to_owned(), kind.to_owned())],
        ..Facts::default()
    };
    let cases = [
        nic(&|link| link.name = device("lo")),
        nic(&|link| link.mac = None),
        nic(&|link| link.kind = Some("bridge".into())),
        nic(&|link| link.kind = Some("macvlan".into())),
        nic(&|link| link.alias = "ovsns lab=l port=n1:eth0".into()),
        nic(&|link| link.master = Some(master("br0", "bridge"))),
        nic(&|link| link.master = Some(master("bond0", "bond"))),
        nic(&|link| link.master = Some(master("red", "vrf"))),
        facts(Facts { wireless: true, ..Facts::default() }),
        facts(Facts { xdp: true, ..Facts::default() }),
        facts(Facts { root: Some("nfs4 from 10.0.0.1".into()), ..Facts::default() }),
        facts(upper("vlan")),
        facts(upper("macvlan")),
        wished(&|wish| wish.port_of = Some("br-ex".into())),
        wished(&|wish| wish.others = vec![device("eth1")]),
    ];
    let mut text = Vec::new();
    for (nic, facts, wish) in cases {
        let found = preflight(&nic, &facts, &wish).refusals;
        let [refusal] = found.as_slice() else { panic!("one, not {found:?}") };
        text.push(format!("{}\n hint: {}", refusal.what, refusal.hint));
    }
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn what_a_wish_overrides() {
    let mut forced = Wish { force: true, others: vec![device("eth1")], ..wish() };
    let facts = Facts { uppers: vec![("eth0.7".into(), "vlan".into())], ..Facts::default() };
    let found = preflight(&eth0(), &facts, &forced);
    assert_eq!(found.refusals, []);
    assert_eq!(found.warnings, ["`eth0.7` on `eth0` hears nothing any more"]);
    // Not what cannot work at all.
    let facts = Facts { wireless: true, xdp: true, ..Facts::default() };
    assert_eq!(preflight(&eth0(), &facts, &forced).refusals.len(), 2);
    // And a spanning tree needs no force.
    forced.force = false;
    forced.stp = true;
    assert_eq!(preflight(&eth0(), &Facts::default(), &forced).refusals, []);
}

#[test]
fn warnings() {
    let facts = Facts {
        driver: Some("vmxnet3".into()),
        managers: vec![
            Manager::Owner { program: Program::NetworkManager, listens: true },
            Manager::Owner { program: Program::Networkd { file: String::new() }, listens: true },
            Manager::Ifupdown,
            Manager::Dhcp("dhclient".into(), 42),
        ],
        forward_drop: true,
        filters: vec!["filter".into()],
        ..Facts::default()
    };
    let ssh = Some("192.0.2.7".parse().expect("an address"));
    let found = preflight(&eth0(), &facts, &Wish { ssh, ..wish() });
    assert_eq!(found.refusals, []);
    let ovs = Wish { backend: Backend::Ovs, userspace: true, ..wish() };
    let userspace = preflight(&eth0(), &Facts { forward_drop: true, ..Facts::default() }, &ovs);
    let stp = Wish { stp: true, ..wish() };
    let spanning = preflight(&eth0(), &Facts::default(), &stp);
    let none = preflight(&eth0(), &Facts::default(), &Wish { userspace: true, ..stp });
    assert!(!none.warnings.iter().any(|it| it.contains("forward delay")), "it hears the NIC");
    let all = [found.warnings, userspace.warnings, spanning.warnings];
    insta::assert_snapshot!(all.concat().join("\n"));
}

#[test]
fn routers_of_a_nic() {
    let routers: Vec<String> = eth0().gateways().iter().map(ToString::to_string).collect();
    assert_eq!(routers, ["10.0.0.1", "10.0.0.9", "fd00::1"]);
}
