//! The promises of `trait Switch`, over the Linux bridge. Over the fake they run
//! in `tests/contract.rs`; where the kernel filters VLANs, those are among them.

use std::path::Path;

use ovsns::kernel::{Host, LinuxHost};
use ovsns::model::names::{IfName, LabName};
use ovsns::plan::Step;
use ovsns::switch::Switch;
use ovsns::switch::contract::{self, Subject};
use ovsns::switch::linux::LinuxBridge;
use ovsns::switch::ovs::OpenVswitch;
use world::{Verdict, World, until};

pub(crate) fn the_linux_bridge_keeps_every_promise(world: &World) -> Verdict {
    keeps_every_promise(world, |host| Box::new(LinuxBridge::new(host)));
    Ok(())
}

pub(crate) fn open_vswitch_keeps_every_promise(world: &World) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let state = Path::new("/run/ovsns");
    keeps_every_promise(world, |host| Box::new(OpenVswitch::new(host, state)));
    Ok(())
}

/// a.x -- b.x, both ends in the machine's own namespace and plugged in nowhere.
fn keeps_every_promise(world: &World, switch: impl FnOnce(&LinuxHost) -> Box<dyn Switch>) {
    let before = world.inventory();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let lab = LabName::new("contract").expect("a good name");
        let mut host = LinuxHost::new().await.expect("a private world");
        let veth = contract::link(&lab);
        let links: [IfName; 2] = veth.ends.clone().map(|end| end.device);
        host.perform(&lab, &Step::AddVeth(veth.clone())).await.expect("it can be made");
        let mut switch = switch(&host);
        let mut subject = Subject { switch: &mut *switch, lab: lab.clone(), links };
        contract::all(&mut subject).await;
        let deleted = Step::DeleteVeth(veth);
        let delete = async || host.perform(&lab, &deleted).await.expect("it can be deleted");
        contract::a_port_without_its_link_is_deleted(&mut subject, delete).await;
    });
    // The datapath's own device goes when the switch has carried out the last
    // change, for which a deletion does not wait.
    until("the datapath is gone", || world.link("", "ovs-netdev").is_none());
    world.inventory().must_equal(&before);
}
