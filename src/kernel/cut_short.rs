//! The end of this process in the middle of a change, where a test wants it.
//!
//! Own file because it is for tests alone: in a build with debug assertions
//! `OVSNS_KILL_AT=K,FILE` has the process end before the K-th thing that it
//! does, as `kill -KILL` ends it, and FILE says what that was; in any other
//! build there is nothing of this. A thing is a step of a plan, one that a Linux
//! bridge does for its switch, or a file of the state directory that is written
//! or deleted. All before it is done, so this is also right after the one before.
//!
//! Whoever looks closer, at every request to the kernel, has `strace` kill.

/// Says that something is about to be done; returns unless the process is to end
/// before it.
#[cfg(debug_assertions)]
pub fn before(what: impl FnOnce() -> String) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    static AT: LazyLock<Option<(u64, String)>> = LazyLock::new(|| {
        let said = std::env::var(KILL_AT).ok()?;
        let (step, file) = said.split_once(',')?;
        Some((step.parse().ok()?, file.to_owned()))
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some((at, file)) = &*AT else { return };
    if COUNT.fetch_add(1, Ordering::Relaxed) + 1 == *at {
        let noted = std::fs::write(file, what());
        noted.expect("the test can read what it was");
        raise(Signal::SIGKILL).expect("every process may end itself");
    }
}

/// Nothing: this is no build for tests.
#[cfg(not(debug_assertions))]
pub fn before(_what: impl FnOnce() -> String) {}

/// Lets `command` live: it is another process, and not the one that is meant.
pub fn spare(command: &mut tokio::process::Command) {
    if cfg!(debug_assertions) {
        command.env_remove(KILL_AT);
    }
}

/// Where to end, and where to say so.
const KILL_AT: &str = "OVSNS_KILL_AT";
