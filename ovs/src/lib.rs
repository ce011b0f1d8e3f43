#![doc = include_str!("../README.md")]

pub mod column;
pub mod schema;
pub mod value;
