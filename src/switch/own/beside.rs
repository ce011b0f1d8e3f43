//! What else runs in this network namespace: an Open vSwitch of somebody
//! else's, beside which ours is never started, or daemons of ours whose keeper
//! was killed. `/proc` says it, whatever became of files.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::OwnError;
use super::daemon::Which;
use super::place::Namespace;

/// In the environment of our daemons: which directory they were started in.
pub(super) const MARK: &str = "OVSNS_KEPT";
/// Where the system's Open vSwitch is, unless `$OVS_RUNDIR` says otherwise.
const SYSTEM: &str = "/run/openvswitch";

/// Daemons of ours that run without a keeper.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Orphans {
    /// In which directory they were started.
    pub(super) directory: Option<PathBuf>,
    /// The database server.
    pub(super) server: Option<u32>,
    /// The switch.
    pub(super) switch: Option<u32>,
}

impl Orphans {
    /// Looks at all processes in this network namespace.
    ///
    /// # Errors
    /// `Beside` if somebody else's switch is among them.
    pub(super) fn find(here: &Namespace) -> Result<Self, OwnError> {
        let mut found = Self::default();
        for pid in processes().map_err(OwnError::file("read", Path::new("/proc")))? {
            let Some(which) = is_daemon(pid).filter(|_| here.has(pid)) else { continue };
            match (mark_of(pid), which) {
                (Some(directory), which) => {
                    let place = match which {
                        Which::Server => &mut found.server,
                        Which::Switch => &mut found.switch,
                    };
                    *place = Some(pid);
                    found.directory = Some(directory);
                }
                (None, Which::Switch) => {
                    return Err(OwnError::Beside(format!("process {pid} is `{which}`")));
                }
                // Any database may have a server, OVN's for one.
                (None, Which::Server) => {}
            }
        }
        Ok(found)
    }
}

/// Refuses if somebody listens at the socket of the system's Open vSwitch,
/// even if its switch does not run at the moment.
pub(super) async fn no_system_server(here: &Namespace) -> Result<(), OwnError> {
    let named = std::env::var_os("OVS_RUNDIR").filter(|text| !text.is_empty());
    for directory in named.map(PathBuf::from).into_iter().chain([SYSTEM.into()]) {
        nobody_serves(&directory.join("db.sock"), here).await?;
    }
    Ok(())
}

async fn nobody_serves(socket: &Path, here: &Namespace) -> Result<(), OwnError> {
    // One that is slow to accept a connection is there all the same.
    let server = match timeout(Duration::from_secs(1), UnixStream::connect(socket)).await {
        Ok(Ok(stream)) => stream.peer_cred().ok().and_then(|peer| peer.pid()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
        Ok(Err(_)) => return Ok(()),
        Err(_) => None,
    };
    let server = server.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| 0 < *pid);
    let known = server.filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
    match known {
        // A socket below a directory that several network namespaces share.
        Some(pid) if !here.has(pid) || mark_of(pid).is_some() => Ok(()),
        Some(pid) => {
            let words = format!("`{}` is served by process {pid}", socket.display());
            Err(OwnError::Beside(words))
        }
        None => Err(OwnError::Beside(format!("`{}` is served", socket.display()))),
    }
}

fn processes() -> io::Result<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// Which daemon process `pid` is: by its name, which is quick to read, and by
/// the program behind it, which cannot be made up.
pub(super) fn is_daemon(pid: u32) -> Option<Which> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let which = Which::ALL.into_iter().find(|which| name.starts_with(which.name()))?;
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    exe.file_name()?.to_str()?.starts_with(which.name()).then_some(which)
}

/// The directory that a daemon of ours was started in.
pub(super) fn mark_of(pid: u32) -> Option<PathBuf> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mark = environment.split(|byte| *byte == 0).find_map(|entry| {
        entry.strip_prefix(MARK.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(mark.to_vec())))
}
