//! Programs of others that configure NICs: they are told to look away from a NIC
//! that is a port, and to see to it again.
//!
//! One that goes on gives the NIC its addresses again: when its lease is renewed,
//! when it is restarted, when the link comes up. What it is told has to come when
//! the addresses are on the switch's local device already, since it takes off
//! all that it gave. Seen with systemd 252 and NetworkManager 1.42:
//!
//! - systemd-networkd takes a file of ours that says `Unmanaged=yes`, and
//!   `networkctl reload`. It gives its lease back to the server then, whatever it
//!   finds on the NIC; that packet is stopped. And it deletes policy rules that it
//!   made, which name no device; those are entered again.
//! - NetworkManager takes `nmcli device set NIC managed no`, and leaves all as it
//!   is. A file in its `conf.d` would have it take the link down.
//!
//! The way home: systemd-networkd keeps what is there if its own file for the NIC
//! says `KeepConfiguration=yes` at that moment, and asks for the address that it
//! had. NetworkManager makes all of it anew, which takes some tenths of a second.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::processes;
use crate::kernel::error::KernelError;
use crate::kernel::nft;
use crate::model::mark::Mac;
use crate::model::names::IfName;
use crate::model::nic::{Owner, Program};

/// Where files for systemd-networkd are that do not outlive the machine's start.
const FILES: &str = "/run/systemd/network";
/// The first line of ours.
const MARK: &str = "# ovsns: goes when the NIC is detached";
/// How long a program may take to do as it is told.
const WITHIN: Duration = Duration::from_secs(10);

/// The programs that see to a NIC, or did until we told them to look away.
pub(super) fn of(nic: &IfName, index: u32, mac: Option<Mac>) -> Vec<Owner> {
    let mut found = Vec::new();
    let device = read(format!("/run/NetworkManager/devices/{index}"));
    if device.lines().any(|line| line == "managed=true") {
        let id = value(&device, "dhcp4.dhcp_client_identifier=").map(hex);
        // Its own default. Without a lease nobody is told.
        let id = id.or_else(|| Some([&[1], &mac?.0[..]].concat()));
        let client_id = id.unwrap_or_default();
        found.push(Owner { program: Program::NetworkManager, client_id });
    }
    let link = read(format!("/run/systemd/netif/links/{index}"));
    if is_seen_to(index) || is_ours(&file(nic)) {
        let lease = read(format!("/run/systemd/netif/leases/{index}"));
        let client_id = value(&lease, "CLIENTID=").map(hex).unwrap_or_default();
        let file = value(&link, "NETWORK_FILE=").unwrap_or_default().to_owned();
        found.push(Owner { program: Program::Networkd { file }, client_id });
    }
    found
}

/// Whether the command is there by which a program is told to look away.
pub(super) fn can_be_told(program: &Program) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program.tool()).exists())
}

/// Has a program look away from a NIC, and from `local`, which has all of it now.
///
/// Like `nmcli device set NIC managed no`, or `Unmanaged=yes` in a file of
/// `/run/systemd/network`, and `networkctl reload`.
pub(super) async fn look_away(
    nic: &IfName,
    index: u32,
    local: &IfName,
    program: &Program,
) -> Result<(), KernelError> {
    let asked = || format!("have {program} look away from `{nic}`");
    match program {
        Program::NetworkManager => {
            run(&["nmcli", "device", "set", nic.as_str(), "managed", "no"]).await?;
            let state = ["nmcli", "-g", "GENERAL.STATE", "device", "show", nic.as_str()];
            let start = Instant::now();
            // 10 is `unmanaged` (NMDeviceState), in the words of any language.
            while !run(&state).await?.starts_with("10 ") {
                late(start, WITHIN, asked)?;
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        }
        Program::Networkd { .. } => {
            let (path, text) = (file(nic), unmanaged(nic, local));
            if !is_ours(&path) && path.exists() {
                return Err(KernelError::new(format!("write `{}`", path.display()), Errno::EEXIST));
            }
            nft::silence(nic, index)?;
            let told = async {
                write(&path, &text)?;
                run(&["networkctl", "reload"]).await?;
                let start = Instant::now();
                while admin_state(index).as_deref() != Some("unmanaged") {
                    late(start, WITHIN, asked)?;
                    sleep(Duration::from_millis(5)).await;
                }
                Ok(())
            };
            let told: Result<(), KernelError> = told.await;
            nft::let_speak(nic)?;
            told
        }
    }
}

/// Has a program see to a NIC again that is home. One that never looked away is
/// told nothing, and one that does not run finds nothing of ours when it does.
///
/// Like `nmcli device set NIC managed yes`, or `rm` of that file, and `networkctl
/// reload`.
pub(super) async fn look_again(
    nic: &IfName,
    index: u32,
    program: &Program,
) -> Result<(), KernelError> {
    match program {
        Program::NetworkManager => {
            let device = read(format!("/run/NetworkManager/devices/{index}"));
            if !runs("NetworkManager") || device.lines().any(|line| line == "managed=true") {
                return Ok(());
            }
            run(&["nmcli", "device", "set", nic.as_str(), "managed", "yes"]).await.map(drop)
        }
        Program::Networkd { file: by } => {
            nft::let_speak(nic)?;
            let path = file(nic);
            let kept = keeping(nic, by);
            if !is_ours(&path) {
                return kept.map_or(Ok(()), |kept| remove(&kept));
            }
            if !runs("systemd-network") {
                return remove(&path);
            }
            if let Some(kept) = &kept {
                write(kept, &format!("{MARK}\n[Network]\nKeepConfiguration=yes\n"))?;
            }
            remove(&path)?;
            let told = run(&["networkctl", "reload"]).await;
            let start = Instant::now();
            // What it keeps it has read by then. That it has its lease again is not
            // waited for: what is on the NIC stays.
            while told.is_ok() && !is_seen_to(index) && start.elapsed() < WITHIN {
                sleep(Duration::from_millis(5)).await;
            }
            kept.map_or(Ok(()), |kept| remove(&kept))?;
            told.map(drop)
        }
    }
}

/// Our file for a NIC: before those of others, so that it counts.
fn file(nic: &IfName) -> PathBuf {
    Path::new(FILES).join(format!("00-ovsns-{nic}.network"))
}

fn unmanaged(nic: &IfName, local: &IfName) -> String {
    format!("{MARK}\n[Match]\nName={nic} {local}\n\n[Link]\nUnmanaged=yes\n")
}

/// What is added to its owner's own file while a NIC is given back.
fn keeping(nic: &IfName, by: &str) -> Option<PathBuf> {
    let name = Path::new(by).file_name()?.to_str()?;
    Some(Path::new(FILES).join(format!("{name}.d/ovsns-{nic}.conf")))
}

fn is_ours(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.starts_with(MARK))
}

fn write(path: &Path, text: &str) -> Result<(), KernelError> {
    let failed = |error| KernelError::from_io(format!("write `{}`", path.display()), &error);
    let directory = path.parent().unwrap_or(path);
    // It does not run as root, and has to read it, whatever our umask is.
    let readable = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    if !directory.exists() {
        fs::create_dir_all(directory).map_err(failed)?;
        readable(directory, 0o755).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)?;
    readable(path, 0o644).map_err(failed)
}

/// Removes a file of ours, and what it alone was in.
fn remove(path: &Path) -> Result<(), KernelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            let asked = format!("remove `{}`", path.display());
            return Err(KernelError::from_io(asked, &error));
        }
        _ => {}
    }
    if let Some(directory) = path.parent().filter(|directory| *directory != Path::new(FILES)) {
        // Others may have files in it, or it was never made.
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

fn read(path: String) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

/// Two digits a byte, with or without colons.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Whether systemd-networkd sees to a link.
fn is_seen_to(index: u32) -> bool {
    matches!(admin_state(index).as_deref(), Some("configured" | "configuring"))
}

fn admin_state(index: u32) -> Option<String> {
    let link = read(format!("/run/systemd/netif/links/{index}"));
    value(&link, "ADMIN_STATE=").map(str::to_owned)
}

/// Whether a program of that name runs in this network namespace.
fn runs(name: &str) -> bool {
    let is_it = |path: PathBuf| read(path.join("comm").display().to_string()).trim_end() == name;
    processes::here().any(|(_, path)| is_it(path))
}

fn late(start: Instant, within: Duration, asked: impl Fn() -> String) -> Result<(), KernelError> {
    match within < start.elapsed() {
        true => Err(KernelError::new(asked(), Errno::ETIMEDOUT)),
        false => Ok(()),
    }
}

/// Runs a program that comes with the one that is told, and returns what it
/// prints.
async fn run(words: &[&str]) -> Result<String, KernelError> {
    let asked = || format!("run `{}`", words.join(" "));
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).kill_on_drop(true);
    command.env("LC_ALL", "C").env("SYSTEMD_PAGER", "");
    let said = match timeout(WITHIN, command.output()).await {
        Ok(said) => said.map_err(|error| KernelError::from_io(asked(), &error))?,
        Err(_) => return Err(KernelError::new(asked(), Errno::ETIMEDOUT)),
    };
    if said.status.success() {
        return Ok(String::from_utf8_lossy(&said.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&said.stderr);
    let why = why.lines().next().unwrap_or("nothing").to_owned();
    Err(KernelError::new(format!("{}, which says `{why}`", asked()), Errno::ECANCELED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids() {
        assert_eq!(hex("01:e2:9d"), [1, 0xe2, 0x9d]);
        assert_eq!(hex("ff8cc883"), [0xff, 0x8c, 0xc8, 0x83]);
        assert!(hex("").is_empty());
    }

    #[test]
    fn what_systemd_networkd_is_told() {
        let [nic, local] = ["eth0", "eth0.x1"].map(|name| IfName::new(name).expect("a name"));
        let text = "# ovsns: goes when the NIC is detached\n[Match]\nName=eth0 eth0.x1\n\n[Link]\nUnmanaged=yes\n";
        assert_eq!(unmanaged(&nic, &local), text);
        let kept = keeping(&nic, "/etc/systemd/network/10-lan.network");
        let path = "/run/systemd/network/10-lan.network.d/ovsns-eth0.conf";
        assert_eq!(kept, Some(PathBuf::from(path)));
        assert_eq!(keeping(&nic, ""), None);
    }
}
