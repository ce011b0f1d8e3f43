//! Why one node does not hear another: the way of a packet hop by hop, the
//! first hop that it does not pass, the cause, and the mend.
//!
//! Two things are put together. What was *seen* while a packet was sent, at
//! every device on the way, says where it dies. What *is* there (routes,
//! neighbours, filters, switches) says why. A cause is looked for only where
//! the packet was seen to die, so that what looks odd and does no harm
//! elsewhere is not blamed.
//!
//! Pure: it asks for facts ([`Question`]), the hands answer, and it goes on.
//! `walk` finds the way, `judge` where it ends, `cause` why.

mod cause;
pub mod facts;
mod judge;
pub mod switch;
mod walk;

pub use facts::{Facts, Question};
pub use judge::{Case, Death, Finding, Stage, Verdict, judge};
pub use walk::{Hop, NodeHop, Part, What, walk};
