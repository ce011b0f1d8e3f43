#![doc = include_str!("../README.md")]

pub mod column;
pub mod frame;
pub mod message;
pub mod monitor;
pub mod operation;
mod pace;
pub mod remote;
pub mod replica;
pub mod reply;
pub mod schema;
pub mod session;
pub mod table;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transport;
pub mod value;
