//! What must hold for any file in the state directory: see `crate::fuzzing`.

use super::attachments::Attachments;
use super::state::Journal;
use crate::model::fuzzing::{equal, same};
use crate::model::topology::Lab;
use crate::plan::Plan;

/// Each of the files of a lab. A plan can be told in words, and taken back.
pub(crate) fn files(input: &[u8]) {
    equal::<Lab>(input);
    same::<Journal>(input);
    same::<Attachments>(input);
    equal::<Plan>(input);
    if let Ok(plan) = serde_json::from_slice::<Plan>(input) {
        assert_eq!(plan.lines().len(), plan.len());
    }
}
