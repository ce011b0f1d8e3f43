#![doc = include_str!("../README.md")]

pub mod applied;
pub mod changes;
pub mod client;
pub mod column;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
pub mod message;
pub mod monitor;
pub mod operation;
mod pace;
pub mod remote;
pub mod replica;
pub mod reply;
pub mod schema;
pub mod server;
pub mod session;
pub mod table;
#[cfg(feature = "tls")]
pub mod tls;
pub mod transact;
pub mod transaction;
pub mod transport;
pub mod value;
pub mod vswitch;

pub use applied::{Applied, ApplyError, InterfaceState, Plug};
pub use changes::{Change, Changes};
pub use client::{Builder, Client, LockState, NotConnected, Ready, Status, Trouble};
pub use column::{Column, Ref};
pub use monitor::Watch;
pub use remote::Remote;
pub use replica::{Entry, ReadError, Replica};
pub use session::{Session, SessionOptions};
pub use table::Table;
#[cfg(feature = "tls")]
pub use tls::Tls;
pub use transact::{EditError, Edited, Marker, TransactError};
pub use transaction::{Committed, Transaction};
pub use value::{Atom, Uuid, UuidName, Value};
