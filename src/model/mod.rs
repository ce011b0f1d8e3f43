//! Nouns: what a lab is, what it may be called, and what was seen of it.
//!
//! Everything here is plain data and pure functions. This room does no IO and
//! knows no clock; a file's text comes in as a string, the observed world as a
//! value that the hands filled in.

mod addresses;
pub mod adopt;
mod check;
pub mod exits;
pub mod file;
pub mod flow;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod gateways;
pub mod graph;
mod graph_file;
mod holds;
pub mod hosts;
pub mod icmp;
pub mod impair;
pub mod laid;
pub mod life;
mod life_spec;
mod loops;
pub mod mark;
pub mod names;
pub mod nearest;
pub mod nic;
pub mod packet;
pub mod pcapng;
pub mod ports;
pub mod problem;
mod ranges;
pub mod routing;
pub mod segments;
mod shapes;
mod spec;
pub mod topology;
pub mod world;
mod yaml;
