//! Plans as text: what `ovsns plan` says for a lab, and for what changes in it.

use std::collections::BTreeMap;

use ovsns::model::adopt::NetnsId;
use ovsns::model::exits::Outside;
use ovsns::model::file::read;
use ovsns::model::flow::Form;
use ovsns::model::life::Standing;
use ovsns::model::names::NodeName;
use ovsns::model::topology::{Backend, Datapath, Lab, PortSettings};
use ovsns::model::world::{
    Ability, Controller, Egress, KernelRoute, PortKind, RouteOrigin, SeenPort, Target, Whose, World,
};
use ovsns::plan::{self, Abilities, Need, Plan, Refusal, Stage, Wanted};

const TWO_NODES: &str = include_str!("../examples/two-nodes.yaml");

fn lab(text: &str) -> Lab {
    read(text.as_bytes(), "lab.yaml", Some("lab")).unwrap_or_else(|problems| panic!("{problems}"))
}

fn able() -> Abilities {
    Abilities {
        backend: Backend::Linux,
        missing: None,
        cannot: BTreeMap::new(),
        flows: BTreeMap::new(),
        ports_max: 1023,
        swept_with_links: true,
        datapath: None,
        checksums: true,
        asleep: None,
    }
}

fn up(lab: &Lab, world: &World, able: Abilities) -> Result<Plan, Vec<Refusal>> {
    plan::up(&lab.name, &Wanted::new(lab, Backend::Linux), world, &[able])
}

/// The world in which `lab` is as it should be.
async fn made(lab: &Lab) -> World {
    let machine = ovsns::kernel::fake::FakeMachine::default();
    let plan = up(lab, &World::default(), able()).expect("nothing in the way");
    perform(&machine, &plan).await;
    let memory = machine.memory();
    World { host: memory.host.clone(), fabric: memory.fabric.clone(), ..World::default() }
}

async fn perform(machine: &ovsns::kernel::fake::FakeMachine, plan: &Plan) {
    use ovsns::kernel::Host;
    use ovsns::switch::Switch;
    for stage in &plan.stages {
        match stage {
            Stage::Host(steps) => {
                for step in steps {
                    machine.clone().perform(&plan.lab, step).await.expect("it can be done");
                }
            }
            Stage::Fabric(_, steps) => {
                let mut switch = ovsns::switch::fake::FakeSwitch::new(machine);
                switch.commit(steps).await.expect("it can be done");
            }
        }
    }
}

/// A way out is made, and taken away again with its key.
#[tokio::test]
async fn a_way_out() {
    let text = "{name: l, switches: {s1: {nat: true}, s2: {}}, nodes: {h1: {}}, links: [{endpoints: \
                [h1, s2]}, {endpoints: [s1, s2]}]}";
    let (with, without) = (lab(text), lab(&text.replace("nat: true", "")));
    let plan = up(&with, &World::default(), able()).expect("nothing in the way");
    let is_about =
        |line: &&String| ["way out", "this machine", "route"].iter().any(|it| line.contains(it));
    let mut lines: Vec<String> = plan.lines().iter().filter(is_about).cloned().collect();
    let world = made(&with).await;
    assert!(up(&with, &world, able()).expect("nothing in the way").is_empty());
    lines.push("---".into());
    lines.extend(up(&without, &world, able()).expect("nothing in the way").lines());
    lines.push("---".into());
    let down = plan::down(&with.name, &world, &[able()]).expect("nothing in the way");
    lines.extend(down.lines());
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn a_way_out_that_has_closed_hinders_no_other_change() {
    let text = "{name: l, switches: {s1: {nat: ipv4}}, nodes: {h1: {}, h2: {}}, links: [{endpoints: \
                [h1, s1]}, {endpoints: [h2, s1]}]}";
    let lab_with = lab(text);
    let shut = Outside { forwards: [Some(false); 2], ..Outside::default() };
    let mut nothing = World::default();
    nothing.host.exits.outside = Some(shut.clone());
    let refusals = up(&lab_with, &nothing, able()).expect_err("no way out can be made");
    let told = "switch `s1` has `nat`, and this machine does not forward IPv4";
    assert_eq!(refusals.iter().map(|refusal| &*refusal.what).collect::<Vec<_>>(), [told]);
    let mut world = made(&lab_with).await;
    world.host.exits.outside = Some(shut);
    let fewer = lab(&text.replace(", h2: {}", "").replace(", {endpoints: [h2, s1]}", ""));
    let plan = up(&fewer, &world, able()).expect("nothing in the way");
    assert!(plan.lines().contains(&"- node h2 (namespace l.h2)".to_owned()), "{plan:?}");
    let warnings = plan::exits::warnings(&Wanted::new(&fewer, Backend::Linux), &world);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with(&format!("{told}; `sysctl -w net.ipv4.ip_forward=1`")));
}

#[test]
fn from_nothing() {
    let plan = up(&lab(TWO_NODES), &World::default(), able()).expect("nothing in the way");
    insta::assert_snapshot!(plan.lines().join("\n"));
}

#[tokio::test]
async fn nothing_to_do() {
    let lab = lab(TWO_NODES);
    let plan = up(&lab, &made(&lab).await, able()).expect("nothing in the way");
    assert_eq!(plan, Plan::nothing(&lab.name));
}

#[tokio::test]
async fn what_differs_and_no_more() {
    let before = "
switches: { s1: {}, s2: {} }
nodes:
  stays: { interfaces: { eth0: { addresses: [10.0.0.9/24] } } }
  n1:
    interfaces: { eth0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } }
    routes: [{ to: default, via: 10.0.0.9 }]
  moves: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  goes: { interfaces: { eth0: { addresses: [10.0.0.4/24] } } }
links:
  - endpoints: [stays, s1]
  - endpoints: [n1, s1]
  - endpoints: [moves, s1]
  - endpoints: [goes, s1]
  - endpoints: [s1, s2]
";
    let after = "
switches: { s1: { ageing: 60 }, s2: {} }
nodes:
  stays: { interfaces: { eth0: { addresses: [10.0.0.9/24] } } }
  n1:
    interfaces: { eth0: { addresses: [10.0.0.5/24, 'fd00::1/64'] } }
    routes: [{ to: default, via: 10.0.0.3 }]
    forwarding: true
  moves: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  comes: { interfaces: { eth0: { addresses: [10.0.0.6/24] } } }
links:
  - endpoints: [stays, s1]
  - { endpoints: [n1, s1], mtu: 1400 }
  - { endpoints: [moves, s2], isolated: true }
  - endpoints: [comes, s2]
  - endpoints: [s1, s2]
";
    let world = made(&lab(before)).await;
    let plan = up(&lab(after), &world, able()).expect("nothing in the way");
    insta::assert_snapshot!(plan.lines().join("\n"));
}

#[tokio::test]
async fn all_that_is_ours_goes() {
    let lab = lab(TWO_NODES);
    let plan = plan::down(&lab.name, &made(&lab).await, &[able()]).expect("all is ours");
    insta::assert_snapshot!(plan.lines().join("\n"));
}

/// A port and a mirror of others on a bridge of Open vSwitch are rows that would
/// go with it; a device on a Linux bridge only loses its master.
#[tokio::test]
async fn what_others_have_on_a_switch_keeps_it() {
    let text = "switches: { s1: {}, s2: {} }\nnodes: { n1: {} }\nlinks: [{ endpoints: [n1, s2] }]";
    let before = lab(text);
    let mut world = made(&before).await;
    let s1 = "s1".parse().expect("a switch's name");
    let seen = world.fabric.switches.get_mut(&s1).expect("it is there");
    let theirs = SeenPort {
        kind: PortKind::Link,
        settings: PortSettings::default(),
        number: None,
        mark: String::new(),
        lent: None,
        broken: None,
    };
    seen.ports.insert("mine".parse().expect("a device's name"), theirs);
    seen.foreign_mirrors.insert("watch".into());
    let without = lab(&text.replace("s1: {}, ", ""));
    up(&without, &world, able()).expect("nothing would be lost");
    plan::down(&before.name, &world, &[able()]).expect("nothing would be lost");

    let seen = world.fabric.switches.get_mut(&s1).expect("it is there");
    seen.spec.backend = Backend::Ovs;
    seen.spec.datapath = Some(Datapath::Netdev);
    let gone = up(&without, &world, able()).expect_err("two rows would be lost");
    let anew = up(&before, &world, able()).expect_err("two rows would be lost");
    let down = plan::down(&before.name, &world, &[able()]).expect_err("two rows would be lost");
    assert_eq!(down, gone);
    let text = gone.iter().chain(&anew).map(|r| format!("{r}\n  hint: {}", r.hint));
    insta::assert_snapshot!(text.collect::<Vec<_>>().join("\n"));
}

/// Ports that nobody asked to change say what becomes of them.
#[tokio::test]
async fn a_first_vlan_is_told_of_at_the_other_ports() {
    let text = "
switches: { s1: { stp: true, forward_delay: 4 } }
nodes: { n1: {}, n2: {} }
links: [{ endpoints: [n1, s1] }, { endpoints: [n2, s1] }]
";
    let after =
        text.replace("[n1, s1]", "[n1, s1], vlan: 7").replace("stp: true, forward_delay: 4", "");
    let lines = |plan: Plan| plan.lines().join("\n");
    let there = up(&lab(&after), &made(&lab(text)).await, able()).expect("nothing in the way");
    let back = up(&lab(text), &made(&lab(&after)).await, able()).expect("nothing in the way");
    insta::assert_snapshot!(format!("{}\n\n{}", lines(there), lines(back)));
}

#[tokio::test]
async fn an_end_that_went_astray_is_made_again() {
    let lab = lab(TWO_NODES);
    let mut world = made(&lab).await;
    // Somebody deleted n1 with `ip netns del` while a process was inside: the
    // end at the switch is still there.
    let n1 = lab.nodes.keys().next().expect("two nodes").clone();
    world.host.nodes.remove(&n1);
    let plan = up(&lab, &world, able()).expect("nothing in the way");
    insta::assert_snapshot!(plan.lines().join("\n"));
}

#[tokio::test]
async fn a_tree_settles_when_a_link_is_raised() {
    let text = "
switches: { s1: { stp: true }, s2: {}, s3: { stp: true } }
nodes: { n1: , n2: }
links:
  - endpoints: [n1, s1]
  - endpoints: [n2, s2]
  - endpoints: [s1, s2]
  - endpoints: [s1, s3]
";
    let lab = lab(text);
    let mut world = made(&lab).await;
    let lower = |world: &mut World, start: &str| {
        let ports =
            world.host.ports.iter_mut().filter(|(name, _)| name.as_str().starts_with(start));
        ports.for_each(|(_, seen)| seen.up = false);
    };
    lower(&mut world, "s1s20");
    lower(&mut world, "n2eth0");
    let plan = up(&lab, &world, able()).expect("nothing in the way");
    insta::assert_snapshot!(plan.lines().join("\n"));
}

/// A Linux bridge has no word for `all`, and copies port by port.
#[tokio::test]
async fn a_mirror_of_all_follows_the_ports() {
    let text = "
switches: { s1: { mirrors: { span: { all: true, output: probe }, other: { from: [n1], output: n2 } } } }
nodes: { 'n[1-2]': {}, probe: {} }
links: [{ endpoints: ['n[1-2]', s1] }, { endpoints: [probe, s1] }]
";
    let world = made(&lab(text)).await;
    let plan = up(&lab(text), &world, able()).expect("nothing in the way");
    assert_eq!(plan.lines(), [""; 0]);
    let more = text.replace("n[1-2]", "n[1-3]");
    let plan = up(&lab(&more), &world, able()).expect("nothing in the way");
    insta::assert_snapshot!(plan.lines().join("\n"));
}

#[tokio::test]
async fn a_mirror_is_made_again_with_its_ports() {
    let text = "
switches: { s1: { mirrors: { span: { from: [n1], output: probe }, other: { from: [n2], output: n3 } } } }
nodes: { 'n[1-3]': {}, probe: {} }
links: [{ endpoints: ['n[1-3]', s1] }, { endpoints: [probe, s1] }]
";
    let lab = lab(text);
    for port in ["n1", "probe"] {
        let mut world = made(&lab).await;
        let node = port.parse().expect("a node's name");
        let seen = world.host.nodes.get_mut(&node).expect("it is there");
        // Somebody moved the interface elsewhere: half a link is left.
        seen.devices.clear();
        let plan = up(&lab, &world, able()).expect("nothing in the way").lines();
        let mirrors: Vec<_> = plan.iter().filter(|line| line.contains("mirror")).collect();
        let place = |start: &str| {
            let found = plan.iter().position(|line| line.starts_with(start));
            found.unwrap_or_else(|| panic!("{start}\n{}", plan.join("\n")))
        };
        assert_eq!(mirrors.len(), 2, "{mirrors:?}");
        assert!(place("- mirror span") < place("- port "), "{}", plan.join("\n"));
        assert!(place("+ port ") < place("+ mirror span"), "{}", plan.join("\n"));
    }
}

#[test]
fn names_of_others_are_refused_all_together() {
    let lab = lab(TWO_NODES);
    let mut world = World::default();
    let bridge = Wanted::new(&lab, Backend::Linux).switches.values().next().cloned();
    let bridge = bridge.expect("one switch");
    let taken = &mut world.host.taken;
    taken.namespaces.insert("two-nodes.n1".into());
    taken.devices.insert(bridge.device.to_string(), "their bridge".into());
    taken.devices.insert("two-nodes:n2:eth0".into(), String::new());
    let refused = up(&lab, &world, able()).expect_err("three names are taken");
    let text: Vec<_> = refused.iter().map(|r| format!("{r}\n  hint: {}", r.hint)).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn what_a_backend_cannot_do_is_refused() {
    let text = "
switches: { s1: {}, s2: { backend: ovs } }
nodes: { 'h[1-4]': {} }
links:
  - { endpoints: ['h[1-2]', s1], vlan: 10 }
  - { endpoints: [h3, s1], isolated: true }
  - { endpoints: [h4, s2] }
";
    let unable = Abilities {
        cannot: BTreeMap::from([
            (Need::Vlans, "no VLANs here".into()),
            (Need::Isolation, "no isolation here".into()),
        ]),
        ports_max: 2,
        ..able()
    };
    let refused = up(&lab(text), &World::default(), unable).expect_err("it is unable");
    let text: Vec<_> = refused.iter().map(|r| format!("{r}\n  hint: {}", r.hint)).collect();
    insta::assert_snapshot!(text.join("\n"));
}

/// Flows are read before anything is touched; here, by a table of what
/// `ovs-ofctl` says.
#[test]
fn flows_that_cannot_be_are_refused() {
    let text = "
switches:
  s1:
    backend: ovs
    protocols: [OpenFlow13]
    flows:
      - priority=10,in_port=n1,nonsense=3,actions=drop
      - in_port=n1,priority=7,actions=output:n2
      - priority=7,in_port=n1,actions=drop
      - in_port=n2,actions=output:s2
      - in_port=n2,actions=output:s2
      - in_port=2,priority=9,actions=drop
      - arp,actions=set_queue:3,normal
      - rarp,actions=enqueue:n1:2
      - ipv6,actions=enqueue:n1:0
      - in_port=n2,priority=9,actions=drop
      - in_port=\"veth7\",actions=normal
  s2: { backend: ovs }
nodes: { n1: {}, n2: {} }
links: [{ endpoints: [n1, s1] }, { endpoints: [n2, s1] }, { endpoints: [s1, s2] }]
";
    let lab = lab(text);
    let mut able = Abilities { backend: Backend::Ovs, ..able() };
    let needs =
        plan::needs(&Wanted::new(&lab, Backend::Linux), &World::default()).remove(&Backend::Ovs);
    for need in needs.expect("two switches of Open vSwitch") {
        let Need::Flow { text, protocols } = &need else { continue };
        assert_eq!(protocols.iter().collect::<Vec<_>>(), ["OpenFlow13"]);
        assert!(!text.contains("n1") && !text.contains('"'), "numbers for names: {text}");
        if text.contains("nonsense") {
            able.cannot.insert(need, "unknown keyword nonsense".into());
        } else {
            let (matches, actions) = text.split_once("actions=").expect("it has actions");
            let mut fields: Vec<_> = matches.split(',').collect();
            fields.sort_unstable();
            let (matches, actions) = (fields.join(","), actions.to_owned());
            able.flows.insert(need, Form { matches, actions });
        }
    }
    let able = Abilities {
        cannot: able.cannot.into_iter().chain([(Need::Queues(None), "no queues".into())]).collect(),
        ..able
    };
    let refused = up(&lab, &World::default(), able).expect_err("it cannot be");
    let text: Vec<_> = refused.iter().map(|r| format!("{r}\n  hint: {}", r.hint)).collect();
    insta::assert_snapshot!(text.join("\n"));
}

/// A switch of Open vSwitch makes the flow by which it forwards by itself once;
/// whoever takes it away, or takes its place, leaves a switch that forwards
/// nothing.
#[tokio::test]
async fn a_switch_keeps_the_flow_of_its_own() {
    let text = |keys: &str| {
        lab(&format!(
            "switches: {{ s1: {{ backend: ovs, {keys} }} }}\nnodes: {{ n1: {{}} }}\n\
             links: [{{ endpoints: [n1, s1] }}]\n"
        ))
    };
    let plan = |lab: &Lab, world: &World| {
        let mut able = Abilities { backend: Backend::Ovs, ..able() };
        let needs = plan::needs(&Wanted::new(lab, Backend::Ovs), world).remove(&Backend::Ovs);
        for need in needs.unwrap_or_default() {
            let Need::Flow { text, .. } = &need else { continue };
            let (matches, actions) = text.split_once(",actions=").expect("it has actions");
            let form = Form { matches: matches.to_owned(), actions: actions.to_owned() };
            able.flows.insert(need, form);
        }
        up(lab, world, able).expect("nothing in the way")
    };
    let made = async |lab: &Lab| {
        let machine = ovsns::kernel::fake::FakeMachine::default();
        perform(&machine, &plan(lab, &World::default())).await;
        machine
    };
    let world = |machine: &ovsns::kernel::fake::FakeMachine| {
        let memory = machine.memory();
        World { host: memory.host.clone(), fabric: memory.fabric.clone(), ..World::default() }
    };
    let nothing = [""; 0];

    // What was lost comes back, where it is the switch's to forward.
    for (keys, lost) in [
        ("", "+ flow on switch s1: priority=0,actions=NORMAL, by which it forwards by itself"),
        ("fail_mode: secure", ""),
        ("controllers: ['tcp:127.0.0.1:6653']", ""),
        ("fail_mode: standalone, controllers: ['tcp:127.0.0.1:6653']", ""),
        ("flows: ['priority=0,actions=drop']", "+ flow on switch s1: priority=0,actions=drop"),
    ] {
        let lab = text(keys);
        let mut world = world(&made(&lab).await);
        assert_eq!(plan(&lab, &world).lines(), nothing, "{keys}");
        for seen in world.fabric.switches.values_mut() {
            seen.flows.clear();
            seen.table_miss = None;
        }
        assert_eq!(plan(&lab, &world).lines().join("\n"), lost, "{keys}");
    }

    // A flow of the lab takes its place, and gives it back.
    let (without, with) = (text(""), text("flows: ['priority=0,actions=drop']"));
    let machine = made(&without).await;
    let mut told = Vec::new();
    for lab in [&with, &without] {
        let steps = plan(lab, &world(&machine));
        told.extend(steps.lines());
        perform(&machine, &steps).await;
        assert_eq!(plan(lab, &world(&machine)).lines(), nothing);
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// Where more than a hundred would ask all others for routers, those who need
/// nothing from one do not.
#[test]
fn a_crowd_does_not_ask_for_routers() {
    let quiet = |count: usize, keys: &str| {
        let lab = lab(&format!(
            "name: lab\nswitches: {{ s: {{}} }}\nnodes:\n  h[1-{count}]: {{}}\n  other: {{ {keys} }}\n\
             links:\n  - endpoints: ['h[1-{count}]:eth0', s]\n  - endpoints: [other:eth0, s]\n"
        ));
        let plan = up(&lab, &World::default(), able()).expect("nothing in the way");
        let text = plan.lines().join("\n");
        let others = text.contains("~ other net.ipv6.conf.default.router_solicitations = 0");
        (text.matches("router_solicitations = 0").count(), others)
    };
    assert_eq!(quiet(99, ""), (0, false));
    assert_eq!(quiet(100, ""), (101, true));
    let by_router = "interfaces: { eth0: { addresses: [10.9.9.9/24] } }";
    assert_eq!(quiet(100, by_router), (100, false));
    let asks = "sysctls: { net.ipv6.conf.eth0.router_solicitations: 3 }";
    assert_eq!(quiet(100, asks), (100, false));
}

/// Leases are begun when the ports are there, and end before their links go; as
/// long as a NIC is still to come there is nobody to ask.
#[tokio::test]
async fn addresses_that_others_give() {
    let text = "
switches: { s: {} }
nodes: { n: { interfaces: { eth0: { addresses: [dhcp, slaac] } } } }
links: [ { endpoints: [n, s] } ]
";
    let given = lab(text);
    let plan = up(&given, &World::default(), able()).expect("nothing in the way");
    insta::assert_snapshot!(plan.lines().join("\n"));
    let world = made(&given).await;
    let plan = up(&given, &world, able()).expect("nothing in the way");
    assert_eq!(plan, Plan::nothing(&given.name));
    let fixed = lab(&text.replace("dhcp, slaac", "10.0.0.1/24"));
    let plan = up(&fixed, &world, able()).expect("nothing in the way");
    assert_eq!(
        plan.lines(),
        ["- lease of n:eth0", "+ address 10.0.0.1/24 on n:eth0"],
        "a router's address is the kernel's"
    );
    let uplink = lab(&format!("{text}uplinks: {{ eth9: {{ switch: s }} }}"));
    let plan = up(&uplink, &World::default(), able()).expect("nothing in the way");
    assert!(!plan.lines().iter().any(|line| line.contains("lease") || line.contains("router")));
    let down = plan::down(&given.name, &world, &[able()]).expect("nothing in the way");
    assert_eq!(down.lines()[0], "- lease of n:eth0");
}

const HELD: &str = "
switches: { s1: {}, s2: {} }
nodes:
  h1: { interfaces: { eth0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } } }
  h2:
    interfaces:
      eth0: { addresses: [10.0.0.2/24, 'fd00::2/64'] }
      eth1: { addresses: [10.1.0.2/24, 'fd01::2/64'] }
    routes: [{ to: 10.9.0.0/16, via: 10.1.0.3 }]
  h3:
    interfaces: { eth0: { addresses: [10.1.0.3/24, 'fd01::3/64'] } }
    routes: [{ to: default, via: 10.1.0.2 }]
links:
  - { endpoints: [h1, s1], down: false }
  - { endpoints: [s1, s2], down: false }
  - { endpoints: [h2, s2], down: false }
  - { endpoints: ['h2:eth1', h3], down: false }
";

/// The end at a switch goes down, or one in a node with what it will lose, and
/// all of it comes again.
#[tokio::test]
async fn links_are_held_down_and_come_up() {
    let (up_, down) = (lab(HELD), lab(&HELD.replace("false", "true")));
    let there = made(&up_).await;
    let lowered = up(&down, &there, able()).expect("nothing in the way");
    let raised = up(&up_, &made(&down).await, able()).expect("nothing in the way");
    let born = up(&down, &World::default(), able()).expect("nothing in the way");
    let text = [("down", lowered), ("up", raised), ("born down", born)]
        .map(|(head, plan)| format!("{head}\n  {}", plan.lines().join("\n  ")));
    insta::assert_snapshot!(text.join("\n\n"));
    let again = up(&down, &made(&down).await, able()).expect("nothing in the way");
    assert_eq!(again, Plan::nothing(&down.name));
}

/// What others have on an end would be lost with it for good.
#[tokio::test]
async fn what_others_have_on_an_end_keeps_it_up() {
    let mut there = made(&lab(HELD)).await;
    let seen = there.host.nodes.get_mut(&"h3".parse().expect("a name")).expect("it is there");
    let device = seen.devices.keys().next().expect("it has one").clone();
    let net = |text: &str| text.parse().expect("a network");
    seen.foreign_addresses.insert(device.clone(), ["fd09::3/64", "10.9.0.3/24"].map(net).into());
    let (kernel, by_hand, static_, ospf) = (2, 3, 4, 188);
    seen.foreign_routes = [
        ("10.6.0.0/16", None, by_hand),
        ("10.7.0.0/16", Some("10.1.0.9"), static_),
        ("10.8.0.0/16", Some("10.1.0.9"), ospf),
        ("10.9.0.0/24", None, kernel),
    ]
    .map(|(to, via, by)| {
        let via = via.map(|via| via.parse().expect("an address"));
        let route = KernelRoute { to: net(to), via, device: device.clone(), metric: 0 };
        (route, RouteOrigin(by))
    })
    .into();
    let held = lab(&HELD.replace("['h2:eth1', h3], down: false", "['h2:eth1', h3], down: true"));
    let refused = up(&held, &there, able()).expect_err("it would be lost");
    insta::assert_snapshot!(refusal_text(&refused));
}

fn refusal_text(refused: &[Refusal]) -> String {
    refused.iter().map(|r| format!("{}\n  hint: {}\n", r.what, r.hint)).collect()
}

const ADOPTED: &str = "
name: lab
switches: { s1: {} }
nodes:
  web: { adopt: { container: web }, interfaces: { lab0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } } }
  n1: { interfaces: { eth0: { addresses: [10.0.0.2/24] }, eth1: { addresses: [] } } }
links:
  - endpoints: [web, s1]
  - endpoints: [n1:eth0, s1]
  - endpoints: [web:lab1, n1:eth1]
";

fn target(inode: u64) -> Target {
    let netns = NetnsId { device: 4, inode };
    Target::There { netns, whose: Whose::Another, inside: Box::default() }
}

/// A container that is started again has another namespace.
#[tokio::test]
async fn an_adopted_node() {
    let lab = lab(ADOPTED);
    let web = NodeName::new("web").expect("a good name");
    let machine = ovsns::kernel::fake::FakeMachine::default();
    let look = |inode| {
        machine.memory().host.targets.insert(web.clone(), target(inode));
        let memory = machine.memory();
        World { host: memory.host.clone(), fabric: memory.fabric.clone(), ..World::default() }
    };
    let first = up(&lab, &look(1), able()).expect("nothing in the way");
    perform(&machine, &first).await;
    assert_eq!(up(&lab, &look(1), able()), Ok(Plan::nothing(&lab.name)));
    let again = up(&lab, &look(2), able()).expect("nothing in the way");
    perform(&machine, &again).await;
    assert_eq!(up(&lab, &look(2), able()), Ok(Plan::nothing(&lab.name)));
    let down = plan::down(&lab.name, &look(2), &[able()]).expect("nothing in the way");
    let parts = [first, again, down].map(|plan| plan.lines().join("\n"));
    insta::assert_snapshot!(parts.join("\n\n"));
}

const SLOW: &str = "
switches: { s1: {}, s2: {} }
nodes: { h1: {}, h2: {}, h3: {} }
links:
  - endpoints: [h1, s1]
    impairments: { delay: 10ms, loss: 0.5%, from: { s1: { delay: none, rate: 10mbit } } }
  - { endpoints: [s1, s2], impairments: { rate: 1gbit } }
  - { endpoints: [h2, s2] }
  - { endpoints: ['h2:eth1', h3], impairments: { from: { h3: { loss: 100% } } } }
";

/// Each direction at the end that frames come from; only what differs is done.
#[tokio::test]
async fn links_are_impaired() {
    let slow = lab(SLOW);
    let said =
        "impairments: { delay: 10ms, loss: 0.5%, from: { s1: { delay: none, rate: 10mbit } } }";
    let other = lab(&SLOW.replace(said, "impairments: { delay: 10ms }"));
    let there = made(&slow).await;
    let again = up(&slow, &there, able()).expect("nothing in the way");
    assert_eq!(again, Plan::nothing(&slow.name));
    let born = up(&slow, &World::default(), able()).expect("nothing in the way");
    let changed = up(&other, &there, able()).expect("nothing in the way");
    let lines = |plan: &Plan| {
        let lines = plan.lines();
        lines.into_iter().filter(|line| line.contains("impaired")).collect::<Vec<_>>().join("\n  ")
    };
    let (born, changed) = (lines(&born), lines(&changed));
    insta::assert_snapshot!(format!("born\n  {born}\n\nchanged\n  {changed}"));
}

/// What the kernel has not, and what somebody else has there.
#[tokio::test]
async fn links_that_cannot_be_impaired_are_refused() {
    let slow = lab(SLOW);
    let plain = "switches: { s1: {}, s2: {} }\nnodes: { h1: {}, h2: {}, h3: {} }\nlinks: [{ endpoints: \
                 [s1, s2] }]";
    let mut there = made(&lab(plain)).await;
    there.host.cannot =
        [(Ability::Netem, "this kernel has not `netem` (module sch_netem)".into())].into();
    let port = there.host.ports.values_mut().find(|seen| seen.alias.contains("s1~s2"));
    port.expect("a trunk").egress = Egress::Others("htb".into());
    let refused = up(&slow, &there, able()).expect_err("it cannot be");
    insta::assert_snapshot!(refusal_text(&refused));
}

#[tokio::test]
async fn what_lives_in_nodes() {
    let before = "
nodes:
  n1:
    isolation: [pid, uts]
    limits: { processes: 10 }
    run:
      - { name: web, command: [httpd, -f], ready: { port: 80 }, restart: always }
      - { name: stays, command: sleep 100, ready: { command: [test, -e, a b] } }
  n2: { isolation: [mount], run: [{ command: sleep 3 }] }
  n3: {}
  n4: { files: { /etc/motd: hello, /etc/gone: x, /etc/mode: { text: x, mode: 600 } } }
";
    let after = "
hosts: true
nodes:
  n1:
    isolation: [pid, uts]
    limits: { processes: 20, cpu: 0.5 }
    run:
      - { name: web, command: [httpd, -f, -p, '8080'], ready: { port: 8080 } }
      - { name: stays, command: sleep 100, ready: { command: [test, -e, a b] } }
  n2: { isolation: [mount, ipc], run: [{ command: sleep 3 }] }
  n3: {}
  n4: { files: { /etc/motd: bye, /etc/new: x, /etc/mode: x } }
";
    let (before, after) = (lab(before), lab(after));
    let all = [Controller::Cpu, Controller::Memory, Controller::Pids];
    let mut empty = World::default();
    empty.host.controllers.extend(all);
    let first = up(&before, &empty, able()).expect("nothing in the way");
    let machine = ovsns::kernel::fake::FakeMachine::default();
    perform(&machine, &first).await;
    let host = machine.memory().host.clone();
    let mut world = World { host, ..World::default() };
    world.host.controllers.extend(all);
    assert!(up(&before, &world, able()).expect("nothing in the way").is_empty());
    let then = up(&after, &world, able()).expect("nothing in the way");
    world.host.names = Some("# ovsns lab=lab\n# end of ovsns lab=lab\n".into());
    let named = up(&after, &world, able()).expect("nothing in the way");
    assert_eq!(named.len() + 1, then.len(), "its names are there");
    let down = plan::down(&before.name, &world, &[able()]).expect("nothing in the way");
    // Its keeper was killed, and left something; a process failed.
    let n2 = before.nodes.keys().nth(1).expect("it is there");
    world.host.keepers.remove(n2);
    world.host.left.insert(n2.clone());
    let n4 = before.nodes.keys().nth(3).expect("it is there");
    let files = &mut world.host.keepers.get_mut(n4).expect("it is there").files;
    files.insert("/etc/motd".into(), None);
    let n1 = before.nodes.keys().next().expect("it is there");
    let processes = &mut world.host.keepers.get_mut(n1).expect("it is there").processes;
    processes[0].standing = Standing::Failed { ended: "ended with status 1".into() };
    let mended = up(&before, &world, able()).expect("nothing in the way");
    world.host.controllers.clear();
    let lies = [
        ("/etc/motd", Ok("/etc/motd".to_owned())),
        ("/etc/new", Ok("/etc/motd".to_owned())),
        ("/etc/mode", Err("there is a directory".to_owned())),
    ];
    world.host.names_fixed = Some("the file system is read-only".into());
    world.host.lies = lies.map(|(path, over)| (path.to_owned(), over)).into();
    let refused = up(&after, &world, able()).expect_err("nothing can be limited");
    let refused: Vec<_> = refused.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(format!(
        "first:\n{}\nthen:\n{}\nmended:\n{}\nrefused:\n{}\ndown:\n{}",
        first.lines().join("\n"),
        then.lines().join("\n"),
        mended.lines().join("\n"),
        refused.join("\n"),
        down.lines().join("\n"),
    ));
}

/// Each side drops what comes from the other; who is not named is not touched.
#[tokio::test]
async fn nodes_are_cut_from_each_other() {
    let whole = "
switches: { s1: {} }
nodes:
  h1: { interfaces: { eth0: { addresses: [10.0.0.1/24, 'fd00::1/64'] } } }
  h2: { interfaces: { eth0: { addresses: [10.0.0.2/24] } } }
  h3: { interfaces: { eth0: { addresses: [10.0.0.3/24] } } }
  h4: { interfaces: { eth0: { addresses: [10.0.0.4/24] } } }
links: [{ endpoints: ['h[1-4]', s1] }]
";
    let cut = lab(&format!("{whole}cuts: {{ a: {{ nodes: [h1, h2], from: [h3] }} }}"));
    let whole = lab(whole);
    let made_cut = up(&cut, &made(&whole).await, able()).expect("nothing in the way");
    let again = up(&cut, &made(&cut).await, able()).expect("nothing in the way");
    assert_eq!(again, Plan::nothing(&cut.name));
    // Somebody else has the table by which it would be done.
    let mut taken = made(&whole).await;
    let h3 = NodeName::new("h3").expect("a good name");
    taken.host.nodes.get_mut(&h3).expect("it is there").cut_taken = true;
    let refusals = up(&cut, &taken, able()).expect_err("it is somebody else's");
    assert_eq!(
        refusals.iter().map(|it| format!("{}; {}", it.what, it.hint)).collect::<Vec<_>>(),
        [format!(
            "node `h3` cannot be cut from others: it has a table `netdev ovsns-cut` that is not ours; \
             if nobody needs it, `ip netns exec {}.h3 nft delete table netdev ovsns-cut`",
            cut.name
        )]
    );
    let healed = up(&whole, &made(&cut).await, able()).expect("nothing in the way");
    let lines = [made_cut, healed].map(|plan| plan.lines().join("\n"));
    insta::assert_snapshot!(lines.join("\n\n"));
}
