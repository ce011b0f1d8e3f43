//! A NIC into a switch, and home again: what is refused, what is done in which
//! order, and in which words.
//!
//! Pure. `preflight` says what stands in the way, `sequence` what is done,
//! `step` is one of those things. `shared` and `moves` are the same for a NIC that
//! a node has without a switch.

pub mod moves;
pub mod preflight;
pub mod sequence;
pub mod shared;
pub mod step;

pub use moves::{Away, Belongings};
pub use preflight::{Facts, Preflight, preflight};
pub use sequence::{Attached, Home, attach, gone, home, look_away, regain};
pub use shared::{NodeWish, shared};
pub use step::{Ear, NicStage, NicStep};
