//! A NIC into a switch, and home again: what is refused, what is done in which
//! order, and in which words.
//!
//! Pure. `preflight` says what stands in the way, `sequence` what is done,
//! `step` is one of those things.

pub mod preflight;
pub mod sequence;
pub mod step;

pub use preflight::{Facts, Preflight, preflight};
pub use sequence::{Attached, Home, attach, home};
pub use step::{Ear, NicStage, NicStep};
