//! The programs of the distribution that an Open vSwitch of our own is made of.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::OwnError;

/// Looked through after `PATH`: daemons are where not every user looks.
const PLACES: [&str; 4] = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin"];
/// Where the schema is, below a prefix.
const SCHEMA_PLACES: [&str; 2] = ["/usr/share/openvswitch", "/usr/local/share/openvswitch"];
const SCHEMA: &str = "vswitch.ovsschema";

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    /// The database server.
    pub(super) server: PathBuf,
    /// The switch.
    pub(super) switch: PathBuf,
    /// What makes a database.
    pub(super) tool: PathBuf,
    /// What the database is to hold.
    pub(super) schema: PathBuf,
}

/// What is not installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing(Vec<String>);

impl Programs {
    /// Looks where `PATH` says, and where such programs usually are.
    pub(super) fn find() -> Result<Self, OwnError> {
        let path = env::var_os("PATH").unwrap_or_default();
        let data = env::var_os("OVS_PKGDATADIR").map(PathBuf::from);
        let usual = PLACES.iter().map(PathBuf::from);
        let programs: Vec<PathBuf> = env::split_paths(&path).chain(usual).collect();
        let schemas: Vec<PathBuf> =
            data.into_iter().chain(SCHEMA_PLACES.iter().map(PathBuf::from)).collect();
        Self::find_in(&programs, &schemas).map_err(OwnError::Missing)
    }

    fn find_in(programs: &[PathBuf], schemas: &[PathBuf]) -> Result<Self, Missing> {
        let mut missing = Vec::new();
        let mut look = |name: &str, places: &[PathBuf], fits: fn(&Path) -> bool| {
            let found = places
                .iter()
                // The keeper works elsewhere than the command that starts it.
                .filter(|place| place.is_absolute())
                .map(|place| place.join(name))
                .find(|file| fits(file));
            found.unwrap_or_else(|| {
                missing.push(name.to_owned());
                PathBuf::new()
            })
        };
        let found = Self {
            server: look("ovsdb-server", programs, is_program),
            switch: look("ovs-vswitchd", programs, is_program),
            tool: look("ovsdb-tool", programs, is_program),
            schema: look(SCHEMA, schemas, Path::is_file),
        };
        if missing.is_empty() { Ok(found) } else { Err(Missing(missing)) }
    }
}

/// The `ovsns` that `PATH` finds, for a program that is not `ovsns` itself.
pub(super) fn ovsns() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|place| place.join("ovsns")).find(|file| is_program(file))
}

/// Whether this process is `ovsns`. A program that was replaced or deleted
/// while it runs has ` (deleted)` behind its name (`proc_pid_exe(5)`).
pub(super) fn is_ovsns(exe: &Path) -> bool {
    let name = exe.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.strip_suffix(" (deleted)").unwrap_or(name) == "ovsns"
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

impl Missing {
    /// What to install.
    pub fn hint(&self) -> String {
        "install the package `openvswitch-switch`: `apt-get install openvswitch-switch`".into()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let before = match index {
                0 => "",
                index if index + 1 == self.0.len() => " and no ",
                _ => ", no ",
            };
            write!(f, "{before}`{name}`")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let place = tempfile::tempdir().expect("a directory");
        let here = vec![place.path().to_owned()];
        check(
            &here,
            "`ovsdb-server`, no `ovs-vswitchd`, no `ovsdb-tool` and no `vswitch.ovsschema`",
        );
        put(place.path(), "ovsdb-server", 0o755);
        put(place.path(), "ovsdb-tool", 0o755);
        put(place.path(), SCHEMA, 0o644);
        check(&here, "`ovs-vswitchd`");
        put(place.path(), "ovs-vswitchd", 0o644);
        check(&here, "`ovs-vswitchd`");
        put(place.path(), "ovs-vswitchd", 0o755);
        let found = Programs::find_in(&here, &here).expect("all are there");
        assert_eq!(found.switch, place.path().join("ovs-vswitchd"));

        fn put(place: &Path, name: &str, mode: u32) {
            fs::write(place.join(name), "").expect("a file");
            fs::set_permissions(place.join(name), fs::Permissions::from_mode(mode)).expect("ours");
        }
        #[track_caller]
        fn check(places: &[PathBuf], said: &str) {
            let missing = Programs::find_in(places, places).expect_err("not all are there");
            assert_eq!(missing.to_string(), said);
        }
    }

    #[test]
    fn the_program_may_have_been_replaced() {
        check("/usr/bin/ovsns", true);
        check("/usr/bin/ovsns (deleted)", true);
        check("/build/deps/kernel-0123", false);
        check("/usr/bin/ovsns-bench", false);

        #[track_caller]
        fn check(exe: &str, is: bool) {
            assert_eq!(is_ovsns(Path::new(exe)), is, "{exe}");
        }
    }
}
