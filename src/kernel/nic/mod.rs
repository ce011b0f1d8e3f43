//! Hands for NICs of the machine: what hangs on one is read as the kernel tells
//! it, and told to it again for another device.
//!
//! Own room because nothing here is ours: a NIC, its addresses and routes
//! belong to the machine, carry no mark, and have to come back to the letter.
//! `wire` rewrites messages, `read` looks, `hands` performs, `facts` finds what
//! else there is to know about a NIC before anybody touches it, `probe` asks
//! neighbours whether they are there, `away` looks for NICs in other namespaces,
//! `clients` and `owners` know the programs that see to NICs.

mod away;
mod clients;
mod facts;
pub(super) mod fuzzing;
mod hands;
mod owners;
mod probe;
mod processes;
mod read;
mod routers;
mod wire;

pub(super) use facts::managers;
pub use hands::NicHands;
