//! The client against the real `ovsdb-server` and `ovs-vswitchd`.
//!
//! Every test starts its own servers in a directory of its own and takes them
//! down again, also when it fails. A test whose programs are missing here is
//! counted as ignored, and its name says what is missing. `OVSDB_PROXY_RUNS`
//! asks for more runs through the faulty proxy.

mod cluster;
mod database;
mod faults;
mod lab;
mod ovn;
mod proxy;
mod switch;
mod tls;

use libtest_mimic::{Arguments, Trial};

/// A test, and what it needs to run.
pub(crate) struct Test {
    name: &'static str,
    needs: &'static [&'static str],
    run: fn(),
}

/// Declares the tests of a module, each with the programs that it needs.
macro_rules! tests {
    ($needs:expr; $($name:ident)*) => {
        pub(crate) const TESTS: &[crate::Test] = &[$(crate::Test {
            name: concat!(module_path!(), "::", stringify!($name)),
            needs: $needs,
            run: || crate::lab::run($name()),
        },)*];
    };
}
pub(crate) use tests;

fn main() {
    let arguments = Arguments::from_args();
    let modules: [&[Test]; 6] =
        [database::TESTS, switch::TESTS, tls::TESTS, ovn::TESTS, cluster::TESTS, faults::TESTS];
    let trials = modules.into_iter().flatten().map(|test| {
        let name = test.name.trim_start_matches("daemons::");
        let missing: Vec<&str> =
            test.needs.iter().copied().filter(|need| !lab::is_here(need)).collect();
        let run = test.run;
        let trial = Trial::test(name, move || {
            run();
            Ok(())
        });
        if missing.is_empty() {
            return trial;
        }
        trial.with_kind(format!("missing: {}", missing.join(", "))).with_ignored_flag(true)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
