//! ovsns: network namespaces as nodes, joined to switches, from one file.
//!
//! The rooms, and who may use whom: `cli -> daemon -> api -> engine -> switch, kernel
//! -> plan -> model`. Nothing points back. `model` and `plan` are pure; `switch` and
//! `kernel` are the hands; only `cli` prints.

pub mod api;
pub mod cli;
pub mod daemon;
pub mod engine;
#[doc(hidden)]
pub mod fuzzing;
pub mod kernel;
pub mod model;
pub mod plan;
pub mod switch;
