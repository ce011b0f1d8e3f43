//! Private worlds: an integration test has a machine of its own.
//!
//! A *world* is a set of namespaces (network, mount, PID, UTS, IPC) with an
//! empty network, its own `/proc` and `/sys` and nothing below `/run`. A test
//! is a function that gets one, draws its lab, runs the product there and asks
//! the kernel what came of it. When the function ends, however it ends, the
//! kernel takes the whole world down: nothing a test made can outlive it.
//!
//! ```no_run
//! use world::{Verdict, World, tests};
//!
//! /// n1 -- b.1.1 -- n2
//! fn two_nodes(world: &World) -> Verdict {
//!     world.ovsns("up examples/two-nodes.yaml").ok();
//!     world.pings("two-nodes.n1", "10.0.0.2");
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     world::main(&[tests![two_nodes]])
//! }
//! ```
//!
//! The pieces: `runner` starts every test in a process of its own and keeps
//! its deadline, `private` makes that process's world, `witness` is what a test
//! does there, `inventory` writes down all there is, `trace` reads system calls,
//! `crowd` fills it with things of others, `monitor` hears every change, `capture`
//! every frame, `groups` are control groups, `host` is a second
//! machine, `boot` one that systemd brings up, `lan` makes the world a host with a
//! NIC, `leases` has somebody there give addresses, `likeness` is an inventory less its
//! numbers, `terminal` is a person at a keyboard, `browser` one before a page, `tools`
//! are small programs that run in nodes.

mod boot;
mod browser;
mod capture;
mod crowd;
mod groups;
mod host;
mod inventory;
pub mod lan;
mod leases;
mod likeness;
mod monitor;
pub mod ovs;
mod owners;
mod private;
mod runner;
mod terminal;
mod tools;
mod trace;
mod witness;

pub use boot::{Booted, Machine};
pub use browser::{Browser, keys};
pub use capture::{Capture, Frame};
pub use crowd::Crowd;
pub use groups::ControlGroups;
pub use host::Host;
pub use inventory::Inventory;
pub use monitor::Monitor;
pub use runner::{Skip, Test, Verdict, furnish, in_new_world, main, main_or, note, patience};
pub use terminal::Terminal;
pub use tools::Tool;
pub use trace::{Trace, Write};
pub use witness::{Finished, Foreign, Pinging, Running, World, until, until_within};

/// Lists test functions under their own names: `tests![two_nodes, cable]`, or
/// of a module, `tests![examples: two_nodes, cable]`. What is special about one
/// is said by a method of [`Test`], and last how many seconds it has, if not
/// 120: `tests![switches: vlans_keep_apart.vm(), a_thousand_ports.alone() @ 300]`.
///
/// `tests![labs over ovs: two_labs]` is the same test with switches of that
/// backend; it is called `labs::two_labs_over_ovs`.
#[macro_export]
macro_rules! tests {
    ($($name:ident $(.$mark:ident())* $(@ $seconds:literal)?),* $(,)?) => {
        const {
            &[$(
                $crate::Test::new(stringify!($name), $name)$(.within($seconds))?$(.$mark())*
            ),*] as &[$crate::Test]
        }
    };
    ($module:ident over $backend:ident:
        $($name:ident $(.$mark:ident())* $(@ $seconds:literal)?),* $(,)?) => {
        const {
            &[$(
                $crate::Test::new(
                    concat!(
                        stringify!($module), "::", stringify!($name), "_over_", stringify!($backend)
                    ),
                    $module::$name,
                )$(.within($seconds))?$(.$mark())*.over(stringify!($backend))
            ),*] as &[$crate::Test]
        }
    };
    ($module:ident: $($name:ident $(.$mark:ident())* $(@ $seconds:literal)?),* $(,)?) => {
        const {
            &[$(
                $crate::Test::new(
                    concat!(stringify!($module), "::", stringify!($name)),
                    $module::$name,
                )$(.within($seconds))?$(.$mark())*
            ),*] as &[$crate::Test]
        }
    };
}
