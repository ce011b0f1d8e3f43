//! Checksum offload in the fake machine, as `integration/` shows that the
//! kernel has it, and the way back of setting it.

use ovsns::kernel::Host;
use ovsns::kernel::fake::FakeMachine;
use ovsns::model::mark::{Mark, Thing};
use ovsns::model::names::{IfName, InterfaceName, LabName, NodeName};
use ovsns::model::world::Questions;
use ovsns::plan::undo::{Done, take_back};
use ovsns::plan::{Place, Stage, Step, Veth, VethEnd};

fn lab() -> LabName {
    LabName::new("l").expect("a good name")
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a good name")
}

fn eth0() -> IfName {
    IfName::new("eth0").expect("a good name")
}

/// a:eth0 -- b:eth0
fn cable() -> Veth {
    let interface = InterfaceName::new("eth0").expect("a good name");
    let ends = ["a", "b"].map(|name| {
        let thing = Thing::Interface(node(name), interface.clone(), None);
        let mark = Mark { lab: lab(), thing };
        let (mac, alias) = (mark.mac(), mark.to_string());
        VethEnd { at: Place::Node(node(name)), device: eth0(), mac, alias, altname: None }
    });
    Veth {
        link: "a:eth0~b:eth0".into(),
        group: 1,
        mtu: 1500,
        ends,
        down: None,
        impairments: Default::default(),
    }
}

fn set(name: &str, after: bool) -> Step {
    Step::SetChecksums { node: node(name), device: eth0(), before: !after, after }
}

async fn perform(machine: &mut FakeMachine, steps: &[Step]) {
    for step in steps {
        machine.perform(&lab(), step).await.expect("it can be done");
    }
}

#[tokio::test]
async fn a_veth_is_born_with_offload_and_can_be_without() {
    let mut machine = FakeMachine::default();
    let nodes = ["a", "b"].map(|name| Step::AddNode { node: node(name) });
    perform(&mut machine, &nodes).await;
    machine.perform(&lab(), &set("a", false)).await.expect_err("no such device yet");
    perform(&mut machine, &[Step::AddVeth(cable())]).await;
    assert_eq!(seen(&mut machine, true).await, [Some(true), Some(true)]);
    perform(&mut machine, &[set("a", false)]).await;
    assert_eq!(seen(&mut machine, true).await, [Some(false), Some(true)]);
    assert_eq!(seen(&mut machine, false).await, [None, None]);
    perform(&mut machine, &[Step::DeleteVeth(cable()), Step::AddVeth(cable())]).await;
    assert_eq!(seen(&mut machine, true).await, [Some(true), Some(true)]);

    async fn seen(machine: &mut FakeMachine, checksums: bool) -> [Option<bool>; 2] {
        let questions = Questions { checksums, ..Questions::about(&lab()) };
        let view = machine.observe(&questions).await.expect("a fake can be read");
        ["a", "b"].map(|name| view.nodes[&node(name)].checksums.get(&eth0()).copied())
    }
}

#[test]
fn it_is_taken_back_where_the_node_stays() {
    let (off, on) = (set("a", false), set("a", true));
    assert_eq!(off.line(&lab()), "~ a:eth0 calculates checksums itself");
    assert_eq!(on.line(&lab()), "~ a:eth0 leaves checksums to the device");
    let back = take_back(&[Done::Host(off.clone())]);
    assert_eq!(back, Some(vec![Stage::Host(vec![on])]));

    let added = Step::AddNode { node: node("a") };
    let back = take_back(&[Done::Host(added), Done::Host(off)]);
    assert_eq!(back, Some(vec![Stage::Host(vec![Step::DeleteNode { node: node("a") }])]));
}
