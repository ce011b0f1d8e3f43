//! What must hold for anything that Open vSwitch prints, or that the keeper of our
//! own says: see `crate::fuzzing`.

use super::{ovs, own};

/// What the tools of Open vSwitch print.
pub fn openvswitch(input: &[u8]) {
    ovs::fuzzing::printed(&String::from_utf8_lossy(input));
}

/// What the keeper and commands say to each other.
pub(crate) fn messages(input: &[u8]) {
    own::fuzz(input);
}
