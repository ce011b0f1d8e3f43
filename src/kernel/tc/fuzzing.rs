//! What must hold for any message about traffic control: see `crate::fuzzing`.

use super::{Direction, egress, wire};
use crate::kernel::raw::Raw;

/// A message about a qdisc or a filter.
pub(in crate::kernel) fn message(raw: &Raw) {
    for direction in [Direction::In, Direction::Out] {
        let _ = wire::read_filter(raw, direction);
    }
    let Some((_, kind)) = wire::read(raw) else { return };
    if let Some(egress) = egress::read(raw, kind, 1500) {
        let _ = format!("{egress:?}");
    }
    // Whatever it calls itself.
    for kind in ["tbf", "netem"] {
        let _ = egress::read(raw, kind, 1500);
    }
}
