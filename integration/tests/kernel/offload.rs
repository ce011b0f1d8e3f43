//! Checksum offload of interfaces, set and seen by ovsns's hands; the witness
//! is `ethtool`.

use std::collections::BTreeMap;

use nix::errno::Errno;
use ovsns::kernel::netlink::Netlink;
use ovsns::kernel::raw::{Raw, find, nest, text};
use ovsns::kernel::{Host, LinuxHost, StepError};
use ovsns::model::names::{IfName, LabName, NodeName};
use ovsns::model::world::Questions;
use ovsns::plan::Step;
use world::{Verdict, World};

use crate::TWO_NODES;

/// n1 -- b.1.1 -- n2
pub(crate) fn checksums_end_as_ethtool_leaves_them(world: &World) -> Verdict {
    let hands = two_nodes(world)?;
    let born = features(world, "n2");
    assert!(born.contains("\ntx-checksumming: on\n"), "{born}");
    world.run("ip netns exec two-nodes.n2 ethtool -K eth0 tx off");
    let off = features(world, "n2");
    assert!(
        off.contains("\n\ttx-tcp-segmentation: off [requested on]\n"),
        "what needs them goes, too\n{off}"
    );

    hands.set("n1", "eth0", false).expect("a veth can be without");
    assert_eq!(features(world, "n1"), off);
    hands.set("n1", "eth0", false).expect("twice is as good");
    assert_eq!(features(world, "n1"), off);
    hands.set("n1", "eth0", true).expect("and with them again");
    assert_eq!(features(world, "n1"), born);
    assert_eq!(features(world, "n2"), off, "a step is about one node");
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn checksums_are_seen_where_asked_for(world: &World) -> Verdict {
    let hands = two_nodes(world)?;
    world.run("ip -n two-nodes.n1 link add tunnel0 type veth peer name tunnel1");
    assert_eq!(hands.seen(true), [("n1:eth0", true), ("n2:eth0", true)].map(owned).into());
    hands.set("n1", "eth0", false).expect("a veth can be without");
    assert_eq!(hands.seen(true), [("n1:eth0", false), ("n2:eth0", true)].map(owned).into());
    assert_eq!(hands.seen(false), BTreeMap::new());

    // Others may change them, and a link made again is as it was born.
    world.run("ip netns exec two-nodes.n2 ethtool -K eth0 tx off");
    world.run("ip -n two-nodes.n1 link delete eth0");
    world.ovsns("up two-nodes.yaml").ok();
    assert_eq!(hands.seen(true), [("n1:eth0", true), ("n2:eth0", false)].map(owned).into());
    Ok(())
}

/// n1 -- b.1.1 -- n2
pub(crate) fn checksums_that_cannot_be_set_are_told(world: &World) -> Verdict {
    let hands = two_nodes(world)?;
    let told = |failed: Result<(), StepError>| failed.expect_err("it cannot be").cause;
    let cause = told(hands.set("n1", "eth7", false)).to_string();
    let there = "could not have `eth7` calculate checksums itself: there is no such device";
    assert!(cause.starts_with(there), "{cause}");
    // The loopback's are fixed; the kernel passes the request over in silence.
    let cause = told(hands.set("n1", "lo", false));
    let fixed = "could not have `lo` calculate checksums itself: this kernel cannot do it";
    assert_eq!(cause.to_string(), fixed);
    assert!(cause.hint().is_some());
    let cause = told(hands.set("n9", "eth0", false)).to_string();
    assert_eq!(cause, "could not open namespace `two-nodes.n9`: there is no such thing");
    Ok(())
}

/// v0 -- v1, in the world's own namespace
///
/// The kernel gives an answer to a dump no more room than the reader asked
/// for, and lists of features by name need more: it then ends with an error
/// behind those that did fit (kernel 6.18; where they fit, all come).
pub(crate) fn a_dump_is_whole_or_an_error(world: &World) -> Verdict {
    world.run("ip link add v0 type veth peer name v1");
    let netlink = Netlink::generic().expect("a socket");
    // CTRL_CMD_GETFAMILY: 16 is the controller, 2 a family's name, 1 its number.
    let ask = Raw::new(16, &[3, 1, 0, 0], &[text(2, "ethtool")]);
    let answers = netlink.raw(ask, 0, || "find ethtool".into()).expect("a family");
    let family = find(&answers[0].bytes[4..], &[1]).expect("its number");
    let family = u16::from_ne_bytes(family.try_into().expect("of 16 bits"));
    // ETHTOOL_MSG_FEATURES_GET, with names.
    let ask = Raw::new(family, &[11, 1, 0, 0], &[nest(1, &[])]);
    match netlink.raw_dump(&ask, "list features") {
        Ok(devices) => assert_eq!(devices.len(), 3, "lo, v0 and v1"),
        Err(error) => assert_eq!(error.errno, Errno::EMSGSIZE, "{error}"),
    }
    Ok(())
}

/// Makes the lab, and hands to work on it.
fn two_nodes(world: &World) -> Result<Hands, world::Skip> {
    world.needs("ethtool")?;
    world.file("two-nodes.yaml", TWO_NODES);
    world.ovsns("up two-nodes.yaml").ok();
    Ok(Hands)
}

fn features(world: &World, node: &str) -> String {
    world.run(&format!("ip netns exec two-nodes.{node} ethtool -k eth0")).stdout
}

fn owned((name, leaves): (&str, bool)) -> (String, bool) {
    (name.to_owned(), leaves)
}

/// ovsns's hands, new for every step, as for every command.
struct Hands;

impl Hands {
    fn set(&self, node: &str, device: &str, after: bool) -> Result<(), StepError> {
        let node = NodeName::new(node).expect("a good name");
        let device = IfName::new(device).expect("a good name");
        let step = Step::SetChecksums { node, device, before: !after, after };
        with_host(async |host| host.perform(&lab(), &step).await)
    }

    /// Which interfaces of nodes leave checksums to hardware.
    fn seen(&self, checksums: bool) -> BTreeMap<String, bool> {
        let questions = Questions { checksums, ..Questions::about(&lab()) };
        let view = with_host(async |host| host.observe(&questions).await.expect("readable"));
        let nodes = view.nodes.iter();
        let all = nodes.flat_map(|(node, seen)| {
            seen.checksums.iter().map(move |(device, leaves)| (format!("{node}:{device}"), *leaves))
        });
        all.collect()
    }
}

fn lab() -> LabName {
    LabName::new("two-nodes").expect("a good name")
}

fn with_host<T>(work: impl AsyncFnOnce(&mut LinuxHost) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut host = LinuxHost::new().await.expect("a private world");
        work(&mut host).await
    })
}
