//! Decisions: what has to be done to turn the world as seen into the lab as
//! wanted, as plain data, each step with its way back.
//!
//! Pure: no IO, no clock. `wanted` says in the kernel's terms what a lab
//! means, `diff` compares that with the world, `step` is the result, `undo`
//! the way back, `text` the words for a reader. Refusals are found here,
//! before anything is touched.

mod adopt;
pub mod attach;
pub mod capture;
pub mod diff;
pub mod dynamic;
pub mod exits;
pub mod lives;
pub mod nics;
pub mod refuse;
pub mod step;
pub mod text;
pub mod top;
pub mod undo;
pub mod wanted;
pub mod why;

pub use diff::{down, up};
pub use nics::{Child, Loan};
pub use refuse::{Abilities, Need, Refusal, abilities_of_links, flow_texts, needs};
pub use step::{FabricStep, LinkState, Place, Plan, Stage, Step, Veth, VethEnd};
pub use wanted::Wanted;
