#![doc = include_str!("../README.md")]

pub mod column;
pub mod frame;
pub mod message;
pub mod remote;
pub mod schema;
pub mod value;
