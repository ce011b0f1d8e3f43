//! The promises of `Switch` over the fake. Over the Linux bridge they run in
//! `integration/`.

use ovsns::kernel::Host;
use ovsns::kernel::fake::FakeMachine;
use ovsns::model::mark::{Mark, Thing, birth_mac, group};
use ovsns::model::names::{IfName, LabName};
use ovsns::plan::{Place, Step, Veth, VethEnd};
use ovsns::switch::contract::{self, Subject};
use ovsns::switch::fake::FakeSwitch;

/// The host's ends of a pair that is plugged in nowhere.
async fn links(machine: &mut FakeMachine, lab: &LabName) -> [IfName; 2] {
    let devices = ["a:x", "b:x"].map(|port| {
        let mark = Mark { lab: lab.clone(), thing: Thing::Port(port.into()) };
        (mark.device(), mark.to_string())
    });
    let ends = devices.clone().map(|(device, alias)| VethEnd {
        at: Place::Host,
        mac: birth_mac(&device),
        device,
        alias,
        altname: None,
    });
    let veth = Veth {
        link: "a:x".into(),
        group: group(lab),
        mtu: 1500,
        ends,
        down: None,
        impairments: Default::default(),
    };
    machine.perform(lab, &Step::AddVeth(veth)).await.expect("it can be made");
    devices.map(|(device, _)| device)
}

#[tokio::test]
async fn the_fake_keeps_every_promise() {
    let lab = LabName::new("contract").expect("a good name");
    let mut machine = FakeMachine::default();
    let links = links(&mut machine, &lab).await;
    let mut switch = FakeSwitch::new(&machine);
    contract::all(&mut Subject { switch: &mut switch, lab, links }).await;
}
