//! DHCP clients of others that keep the lease of a NIC.
//!
//! One that goes on while its NIC is a port hears the server all the same, and
//! does harm: at the next renewal dhcpcd has the address on the NIC again, beside
//! the switch's local device. None can be told to go on elsewhere, and each takes
//! the address off when it is told to end. So it is held (SIGSTOP) before the NIC
//! changes, its lease is renewed in its place (`kernel::leases`), and it goes on
//! (SIGCONT) when the address is home: it has missed nothing, and renews in time.
//! Seen with dhclient 4.4.3, udhcpc 1.35 and dhcpcd 9.4.1, the last of them not on a
//! Linux bridge: the kernel's word that a port left its bridge (`RTM_DELLINK` of
//! `AF_BRIDGE`) passes with it for the end of the NIC, and it takes the address off.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::processes;
use crate::kernel::error::KernelError;
use crate::model::names::IfName;
use crate::model::nic::Client;

/// The programs that are known.
const KNOWN: [&str; 4] = ["dhclient", "dhcpcd", "udhcpc", "dhcpcanon"];
/// The one that writes over its command line, and has several processes.
const OF_MANY: &str = "dhcpcd";

/// The clients in this network namespace that see to a NIC, by program.
pub(super) fn of(nic: &IfName) -> Vec<Client> {
    let known = |(process, path): (u32, PathBuf)| -> Option<(Client, bool)> {
        let line = fs::read(path.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split(|c: char| c == '\0' || c.is_whitespace());
        let program = program(&path)?;
        let started = started(&path)?;
        let all = program == OF_MANY && (line.contains("[manager]") || line.contains("[master]"));
        let named = all || words.any(|word| word == nic.as_str());
        Some((Client { program, process, started }, named))
    };
    let mut all: Vec<(Client, bool)> = processes::here().filter_map(known).collect();
    let many = all.iter().any(|(client, named)| *named && client.program == OF_MANY);
    all.retain(|(client, named)| *named || (many && client.program == OF_MANY));
    let mut clients: Vec<Client> = all.into_iter().map(|(client, _)| client).collect();
    clients.sort_by(|a, b| (&a.program, a.process).cmp(&(&b.program, b.process)));
    clients
}

/// Holds clients where they are, or has them go on. One that has ended is none.
///
/// Like `kill -STOP PROCESS` and `kill -CONT PROCESS`.
pub(super) fn hold(clients: &[Client], held: bool) -> Result<(), KernelError> {
    let signal = if held { Signal::SIGSTOP } else { Signal::SIGCONT };
    let word = if held { "hold" } else { "let go on" };
    for Client { program, process, started: since } in clients {
        let path = PathBuf::from(format!("/proc/{process}"));
        if started(&path) != Some(*since) {
            continue;
        }
        let fail = |errno| KernelError::new(format!("{word} {program} (process {process})"), errno);
        let pid = i32::try_from(*process).map_err(|_| fail(Errno::ESRCH))?;
        match kill(Pid::from_raw(pid), signal) {
            Err(Errno::ESRCH) => {}
            other => other.map_err(fail)?,
        }
    }
    Ok(())
}

/// Which known program a process is: by its name, or by what `busybox` is called.
fn program(process: &Path) -> Option<String> {
    let name = fs::read_to_string(process.join("comm")).ok()?;
    let is_known = |name: &str| KNOWN.contains(&name).then(|| name.to_owned());
    if name.trim() != "busybox" {
        return is_known(name.trim());
    }
    let line = fs::read(process.join("cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).into_owned();
    line.split('\0').take(2).find_map(is_known)
}

/// When a process was started (`proc(5)`, field 22 of `stat`, counted behind the
/// name, which may have spaces in it).
fn started(process: &Path) -> Option<u64> {
    let text = fs::read_to_string(process.join("stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
