//! What must hold for any attributes that say why a packet was lost: see
//! `crate::fuzzing`.

use super::{filter, queue};

/// Attributes of a rule of the packet filter, of a queueing discipline, of a filter.
pub(in crate::kernel) fn attributes(bytes: &[u8]) {
    let _ = filter::dropping(bytes, 1);
    for queueing in queue::netem(bytes).into_iter().chain(queue::tbf(bytes)) {
        let _ = format!("{queueing:?}");
    }
    let _ = queue::filter(bytes, "eth0", 1, true);
}
