//! The promises of `Switch` over the fake. Over the Linux bridge they run in
//! `integration/`.

use ovsns::kernel::Host;
use ovsns::kernel::fake::FakeMachine;
use ovsns::model::names::LabName;
use ovsns::plan::Step;
use ovsns::switch::contract::{self, Subject};
use ovsns::switch::fake::FakeSwitch;

#[tokio::test]
async fn the_fake_keeps_every_promise() {
    let lab = LabName::new("contract").expect("a good name");
    let mut machine = FakeMachine::default();
    let veth = contract::link(&lab);
    let links = veth.ends.clone().map(|end| end.device);
    machine.perform(&lab, &Step::AddVeth(veth)).await.expect("it can be made");
    let mut switch = FakeSwitch::new(&machine);
    contract::all(&mut Subject { switch: &mut switch, lab, links }).await;
}
