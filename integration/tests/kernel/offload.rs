//! Checksum offload of interfaces; and what lists of it taught about dumps.

use nix::errno::Errno;
use ovsns::kernel::netlink::Netlink;
use ovsns::kernel::raw::{Raw, find, nest, text};
use world::{Verdict, World};

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
