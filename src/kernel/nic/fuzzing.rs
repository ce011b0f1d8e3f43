//! What must hold for any message about what hangs on a NIC: see `crate::fuzzing`.

use std::collections::BTreeSet;

use super::wire;
use crate::kernel::raw::Raw;

/// Device 1 has everything; the other takes it over. What was told of the one can be
/// told again of the other.
pub(in crate::kernel) fn message(raw: &Raw) {
    const ONE: u32 = 1;
    const OTHER: u32 = 2;
    if let Some(address) = wire::address(raw, ONE) {
        let bytes = wire::address_for(&address, "eth0", "other", OTHER);
        let moved = wire::address(&Raw { kind: wire::RTM_NEWADDR, bytes }, OTHER);
        assert_eq!(moved.expect("it is of the other").net, address.net);
    }
    if let Some(route) = wire::route(raw, ONE) {
        let bytes = wire::route_for(&route, ONE, OTHER);
        let bytes = wire::with_metric(&bytes, route.metric);
        let moved = wire::route(&Raw { kind: wire::RTM_NEWROUTE, bytes }, OTHER);
        let moved = moved.expect("it leaves by the other");
        assert_eq!(moved.key(), route.key());
    }
    let _ = wire::taken_for_own(raw, ONE);
    let _ = wire::route_by_hop(raw, &BTreeSet::from([ONE]));
    if let Some(hop) = wire::hop(raw, ONE) {
        let bytes = wire::hop_for(&hop, OTHER);
        let moved = wire::hop(&Raw { kind: wire::RTM_NEWNEXTHOP, bytes }, OTHER);
        assert_eq!(moved.expect("it leaves by the other").id, hop.id);
    }
    if let Some(rule) = wire::rule(raw, "eth0") {
        let bytes = wire::rule_for(&rule, "eth0", "other");
        let moved = wire::rule(&Raw { kind: raw.kind, bytes }, "other").expect("it is one");
        assert_eq!((moved.v6, moved.priority), (rule.v6, rule.priority));
        assert!(wire::are_twins(&rule, &rule));
    }
    let _ = (wire::neighbour(raw, ONE), wire::neighbour_state(raw, ONE));
}
