//! NICs of the machine in nodes, as text: how a file says them, what is planned,
//! what is refused, and how one comes home. No kernel is asked.

use std::collections::{BTreeMap, BTreeSet};

use ovsns::kernel::Host;
use ovsns::kernel::fake::FakeMachine;
use ovsns::model::file::{read, to_file};
use ovsns::model::names::{IfName, LabName, NodeName};
use ovsns::model::nic::{
    AwayMark, Master, Neighbour, Nic, NicAddress, NicHop, NicLink, NicRoute, Told,
};
use ovsns::model::topology::{Backend, Lab, Macvlan, Share};
use ovsns::model::world::World;
use ovsns::plan::attach::moves::{furnish, house};
use ovsns::plan::attach::{Away, Belongings, Facts, NicStep, NodeWish, shared};
use ovsns::plan::{self, Loan, Plan, Stage, Step, Wanted};

const LAB: &str = "
nodes:
  a: { interfaces: { eth0: { addresses: [10.0.0.1/24] } } }
  b: {}
  c: { interfaces: { wan: { addresses: [10.0.0.3/24], mac: 02:00:00:00:00:99 } } }
  long: { interfaces: { an-interface-of-many-letters: { addresses: [] } } }
links:
  - endpoints: [a, macvlan:eth1]
  - { endpoints: [macvlan:eth1, b:eth5], mode: private, mtu: 1400 }
  - { endpoints: [c:wan, nic:eth2], mtu: 9000 }
  - { endpoints: ['long:an-interface-of-many-letters', macvlan:eth3], mode: passthru }
";

fn lab(text: &str) -> Lab {
    read(text.as_bytes(), "lab.yaml", Some("lab")).unwrap_or_else(|problems| panic!("{problems}"))
}

fn up(lab: &Lab, world: &World) -> Plan {
    plan::up(&lab.name, &Wanted::new(lab, Backend::Linux), world, &[]).expect("nothing in the way")
}

async fn perform(machine: &FakeMachine, plan: &Plan) {
    for stage in &plan.stages {
        let Stage::Host(steps) = stage else { panic!("there are no switches") };
        for step in steps {
            machine.clone().perform(&plan.lab, step).await.expect("it can be done");
        }
    }
}

fn world(machine: &FakeMachine) -> World {
    World { host: machine.memory().host.clone(), ..World::default() }
}

#[test]
fn a_file_says_it_in_two_ways() {
    let by_links = lab("
nodes: { 'h[1-2]': {}, n: {} }
links:
  - { endpoints: ['h[1-2]', macvlan:eth1], mode: vepa }
  - endpoints: [n:wan, nic:eth2]
");
    let by_uplinks = lab("
nodes: { 'h[1-2]': {}, n: {} }
uplinks:
  eth1: { mode: macvlan, node: 'h[1-2]', macvlan: vepa }
  eth2: { mode: move, node: n:wan }
");
    assert_eq!(by_links, by_uplinks);
    let text = serde_json::to_vec(&to_file(&by_links)).expect("JSON");
    assert_eq!(read(&text, "again", None).expect("a lab"), by_links);
    // Children of one NIC are in one network.
    let addresses = |node: &str| {
        let node = &by_links.nodes[&NodeName::new(node).expect("a name")];
        node.interfaces.values().flat_map(|i| &i.addresses).map(|net| net.trunc()).collect()
    };
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (addresses("h1"), addresses("h2"));
    assert_eq!(one, other);
    // A node that is called so is that node.
    let named = lab("{ nodes: { nic: {}, n: {} }, links: [{ endpoints: [n, nic:eth0] }] }");
    assert_eq!(named.nics().count(), 0);
}

#[test]
fn what_is_wrong_with_a_file() {
    let text = "\
switches: { s: {} }
nodes: { a: {}, b: {}, c: {} }
links:
  - endpoints: [a, macvlan]
  - endpoints: [a, macvlan:lo]
  - endpoints: [s, macvlan:eth1]
  - endpoints: [nic:eth1, nic:eth2]
  - { endpoints: [a, b], mode: vepa }
  - { endpoints: [a, macvlan:eth3], mode: bride, vlan: 7 }
  - { endpoints: [a, macvlan:eth4], mode: passthru, down: true }
  - { endpoints: [b, macvlan:eth4] }
  - { endpoints: [a, nic:eth5] }
  - { endpoints: [b, macvlan:eth5] }
uplinks:
  eth6: { mode: macvlan }
  eth7: { mode: move, switch: s }
  eth8: { node: a }
  eth9: { mode: move, node: d }
  eth4: { switch: s }
  eth10: { switch: s, macvlan: vepa }
";
    let refused = read(text.as_bytes(), "lab.yaml", Some("lab"));
    insta::assert_snapshot!(format!("error: {}", refused.expect_err("the file is wrong")));
}

#[tokio::test]
async fn there_and_back() {
    let lab = lab(LAB);
    let machine = FakeMachine::default();
    let there = up(&lab, &World::default());
    perform(&machine, &there).await;
    let made = world(&machine);
    assert_eq!(up(&lab, &made), Plan::nothing(&lab.name));
    // What others do to them.
    {
        let mut memory = machine.memory();
        let mut node = |name: &str| {
            memory.host.nodes.remove_entry(&NodeName::new(name).expect("a name")).expect("there")
        };
        let (a, mut seen) = node("a");
        let (c, mut moved) = node("c");
        let eth0 = IfName::new("eth0").expect("a name");
        seen.devices.remove(&eth0);
        seen.macvlans.remove(&eth0);
        seen.addresses.clear();
        moved.devices.values_mut().for_each(|device| device.mtu = 1500);
        memory.host.nodes.extend([(a, seen), (c, moved)]);
    }
    let drift = up(&lab, &world(&machine));
    perform(&machine, &drift).await;
    assert_eq!(world(&machine), made);
    // Every NIC is home before its node goes, and no child outlives its own.
    let away = plan::down(&lab.name, &made, &[]).expect("nothing in the way");
    let steps: Vec<&Step> = away
        .stages
        .iter()
        .flat_map(|stage| match stage {
            Stage::Host(steps) => steps.iter().collect::<Vec<_>>(),
            Stage::Fabric(..) => Vec::new(),
        })
        .collect();
    let last = steps.iter().rposition(|s| matches!(s, Step::ReturnNic(_) | Step::DeleteMacvlan(_)));
    let first = steps.iter().position(|step| matches!(step, Step::DeleteNode { .. }));
    assert!(last.expect("some go") < first.expect("nodes go"));
    let empty = Lab { nodes: BTreeMap::new(), links: Vec::new(), ..lab.clone() };
    let lines = |plan: &Plan| plan.lines().join("\n");
    insta::assert_snapshot!(format!(
        "there\n{}\n\ndrift\n{}\n\ndown\n{}\n\nup without them\n{}",
        lines(&there),
        lines(&drift),
        lines(&away),
        lines(&up(&empty, &made)),
    ));
}

#[test]
fn what_a_lent_nic_says_of_itself() {
    let name = LabName::new("lab").expect("a name");
    let lent = AwayMark { nic: IfName::new("eth1").expect("a name"), lab: name };
    assert_eq!(AwayMark::parse(&lent.to_string()), Some(lent));
    // What a port of a switch says, and what others may.
    for alias in
        ["", "ovsns attach=eth1", "ovsns attach=eth1 lab=lab boot=7", "x ovsns attach=a lab=b"]
    {
        assert_eq!(AwayMark::parse(alias), None, "{alias:?}");
    }
}

// ---- what stands in the way ----

fn nic() -> Nic {
    let told = || Told(Vec::new());
    let route = |to: &str, via: &str| NicRoute {
        to: to.parse().expect("a network"),
        table: 254,
        metric: 0,
        via: BTreeSet::from([via.parse().expect("an address")]),
        protocol: 3,
        told: told(),
    };
    let address = |net: &str| NicAddress {
        net: net.parse().expect("a network"),
        flags: 0x80,
        valid_s: None,
        told: told(),
    };
    let mac = "02:00:00:00:00:01".parse().expect("a MAC address");
    let ip = "10.0.0.200".parse().expect("an address");
    Nic {
        link: NicLink {
            index: 2,
            name: IfName::new("eth1").expect("a name"),
            altnames: BTreeSet::from(["enp1s0".to_owned()]),
            mac: Some(mac),
            mtu: 1500,
            up: true,
            carrier: true,
            alias: "uplink".into(),
            kind: None,
            master: None,
            generates: Some(0),
            checksums: Some(true),
        },
        addresses: vec![address("10.0.0.2/24"), address("fd00::2/64")],
        routes: vec![route("0.0.0.0/0", "10.0.0.1"), route("::/0", "fd00::1")],
        hops: vec![NicHop { id: 5, via: None, told: told() }],
        rules: Vec::new(),
        neighbours: vec![Neighbour { ip, mac, permanent: true, router: false }],
        parameters: BTreeMap::new(),
    }
}

fn wish(share: Share) -> NodeWish {
    NodeWish {
        who: "n1:eth0".into(),
        share,
        mtu: None,
        force: false,
        port_of: None,
        children: Vec::new(),
        ssh: None,
    }
}

const BRIDGE: Share = Share::Macvlan(Macvlan::Bridge);
const PASSTHRU: Share = Share::Macvlan(Macvlan::Passthru);

#[test]
fn refusals_and_warnings() {
    let master = Master { index: 9, name: "br0".into(), kind: "bridge".into() };
    let link = |change: &dyn Fn(&mut NicLink), share: Share| {
        let mut nic = nic();
        change(&mut nic.link);
        (nic, Facts::default(), wish(share))
    };
    let facts = |facts: Facts, share: Share| (nic(), facts, wish(share));
    let wished = |change: &dyn Fn(&mut NodeWish), share: Share| {
        let mut wish = wish(share);
        change(&mut wish);
        (nic(), Facts::default(), wish)
    };
    let upper = |kind: &str| Facts {
        uppers: vec![("eth1.7".to_owned(), kind.to_owned())],
        ..Facts::default()
    };
    let child = |mode: Macvlan| vec![("x:eth0".to_owned(), mode)];
    let peer = "192.0.2.7".parse().ok();
    let cases = [
        link(&|_| {}, BRIDGE),
        link(&|_| {}, PASSTHRU),
        link(&|_| {}, Share::Move),
        link(&|link| link.up = false, BRIDGE),
        link(&|link| link.mac = None, BRIDGE),
        link(&|link| link.kind = Some("macvlan".into()), BRIDGE),
        link(&|link| link.kind = Some("bond".into()), BRIDGE),
        link(&|link| link.kind = Some("bond".into()), Share::Move),
        link(&|link| link.alias = "ovsns lab=l port=n1:eth0".into(), Share::Move),
        link(&|link| link.master = Some(master.clone()), BRIDGE),
        wished(&|wish| wish.port_of = Some("br-int".into()), BRIDGE),
        wished(&|wish| wish.mtu = Some(9000), BRIDGE),
        wished(&|wish| wish.mtu = Some(9000), Share::Move),
        wished(&|wish| wish.children = child(Macvlan::Bridge), BRIDGE),
        wished(&|wish| wish.children = child(Macvlan::Passthru), BRIDGE),
        wished(&|wish| wish.children = child(Macvlan::Bridge), PASSTHRU),
        wished(&|wish| wish.children = child(Macvlan::Vepa), Share::Move),
        wished(&|wish| wish.ssh = peer, BRIDGE),
        wished(&|wish| wish.ssh = peer, PASSTHRU),
        wished(&|wish| wish.ssh = peer, Share::Move),
        wished(&|wish| (wish.ssh, wish.force) = (peer, true), Share::Move),
        facts(upper("vlan"), BRIDGE),
        facts(upper("vlan"), Share::Move),
        facts(upper("ipvlan"), BRIDGE),
        facts(Facts { wireless: true, ..Facts::default() }, BRIDGE),
        facts(Facts { wireless: true, ..Facts::default() }, Share::Move),
        facts(Facts { root: Some("nfs4 from 10.0.0.1".into()), ..Facts::default() }, BRIDGE),
        facts(Facts { root: Some("nfs4 from 10.0.0.1".into()), ..Facts::default() }, Share::Move),
        facts(Facts { driver: Some("virtio_net".into()), ..Facts::default() }, BRIDGE),
    ];
    let mut text = String::new();
    for (nic, facts, wish) in &cases {
        let found = shared(nic, facts, wish);
        text += &format!("{:?}\n", wish.share);
        for refusal in &found.refusals {
            text += &format!("  refused: {}\n     hint: {}\n", refusal.what, refusal.hint);
        }
        for warning in &found.warnings {
            text += &format!("  warning: {warning}\n");
        }
    }
    insta::assert_snapshot!(text);
}

// ---- home ----

fn belongings(nic: Nic) -> Belongings {
    let parameters = [
        ("ipv4.rp_filter", "1"),
        ("ipv4.neigh.gc_stale_time", "77"),
        ("ipv6.addr_gen_mode", "0"),
        ("ipv6.stable_secret", "2001:db8::1"),
    ];
    let parameters = parameters.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Belongings { nic, parameters: parameters.into(), by_hops: Vec::new() }
}

fn away() -> Away {
    let mut was = belongings(nic());
    let to = "198.51.100.0/24".parse().expect("a network");
    let (via, told) = (BTreeSet::new(), Told(Vec::new()));
    was.by_hops = vec![NicRoute { to, table: 254, metric: 0, via, protocol: 3, told }];
    let node = NodeName::new("n1").expect("a name");
    let device = IfName::new("eth0").expect("a name");
    let (nic, mark) = (was.nic.link.name.clone(), String::new());
    let loan = Loan { nic, node, device, mac: None, mtu: None, index: Some(2), mark };
    Away { was, loan }
}

fn lines(steps: &[NicStep]) -> String {
    steps.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What the kernel leaves of it, and what is done about that in two parts.
#[test]
fn home_with_all_it_had() {
    let away = away();
    let mut bare = nic();
    bare.link.altnames.clear();
    (bare.link.mtu, bare.link.up, bare.link.carrier) = (9000, false, false);
    bare.link.alias = "ovsns attach=eth1 lab=lab".into();
    (bare.addresses, bare.routes, bare.hops, bare.neighbours) = Default::default();
    let mut now = belongings(bare);
    now.parameters.remove("ipv6.stable_secret");
    now.parameters.insert("ipv4.rp_filter".into(), "0".into());
    now.parameters.insert("ipv6.addr_gen_mode".into(), "1".into());
    let first = lines(&house(&away, &now));
    // Then it has its addresses, and the routes that come with them.
    let mut nic = nic();
    (nic.routes, nic.hops, nic.neighbours) = Default::default();
    nic.link.generates = Some(1);
    let second = lines(&furnish(&away, &belongings(nic)));
    insta::assert_snapshot!(format!("{first}\n--\n{second}"));
}

/// One that never left, or is home already.
#[test]
fn nothing_is_touched_that_is_as_it_was() {
    let away = away();
    assert_eq!(house(&away, &away.was), []);
    let settle = furnish(&away, &away.was);
    assert!(matches!(settle.as_slice(), [NicStep::Settle { .. }]), "{settle:?}");
}
