//! Which Open vSwitch: the machine's, or one of our own. One at a time in a
//! network namespace, so ours is never started beside another.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use ovsdb::vswitch::{
    Bridge, Controller, Interface, Ipfix, Mirror, NetFlow, OpenVswitch, Port, Qos, Queue, Sflow,
};
use ovsdb::{Client, ReadError, Remote};

use super::super::SwitchError;
use super::error::{OvsError, chain};
use crate::kernel::netlink::Netlink;
use crate::kernel::{KernelError, genl};
use crate::model::topology::Datapath;

/// Where the machine's own keeps its sockets, unless `OVS_RUNDIR` says
/// otherwise (ovs-vsctl(8)).
const RUNDIRS: [&str; 2] = ["/run/openvswitch", "/var/run/openvswitch"];

/// An Open vSwitch that answers.
pub(super) struct Vswitch {
    /// Its database.
    pub(super) client: Client,
    /// Where its bridges' sockets are.
    pub(super) rundir: PathBuf,
    /// The control socket of `ovs-vswitchd`.
    pub(super) control: PathBuf,
    /// Whether it was started with support for segmentation offload.
    pub(super) tso: bool,
    socket: PathBuf,
}

impl Vswitch {
    /// Where its database is, for people.
    pub(super) fn at(&self) -> String {
        self.socket.display().to_string()
    }

    pub(super) fn unreadable(&self, error: &ReadError) -> SwitchError {
        SwitchError::OpenVswitch(OvsError::Database { at: self.at(), why: chain(error) })
    }

    /// Whether `ovs-vswitchd` is there: somebody listens at its control socket.
    pub(super) async fn is_alive(&self) -> bool {
        UnixStream::connect(&self.control).is_ok()
    }

    /// Why tags cannot be wrapped in tags, if they cannot.
    pub(super) fn no_qinq(&self) -> Option<String> {
        let limit = self.client.read(|replica| {
            let root = replica.only::<OpenVswitch>().ok()??;
            root.other_config.get("vlan-limit").cloned()
        });
        match limit.as_deref() {
            Some(limit) if limit != "1" => None,
            _ => Some(
                "Open vSwitch looks at one tag only (set `other_config:vlan-limit` of its table \
                 `Open_vSwitch` to 2)"
                    .to_owned(),
            ),
        }
    }

    /// Ends it, if it is ours and nobody needs it any more.
    pub(super) async fn leave(self) -> Result<(), OvsError> {
        self.client.close();
        Ok(())
    }
}

/// The Open vSwitch that answers, if one does.
pub(super) async fn there(_state: &Path) -> Result<Option<Vswitch>, OvsError> {
    match rundir() {
        None => Ok(None),
        Some(rundir) => connect(&rundir).await.map(Some),
    }
}

/// The Open vSwitch that answers, or one of our own that is started.
pub(super) async fn there_or_started(state: &Path) -> Result<Vswitch, OvsError> {
    match there(state).await? {
        Some(vswitch) => Ok(vswitch),
        None => Err(OvsError::NotThere("none is running".into())),
    }
}

/// What of Open vSwitch is here, or why nothing is.
pub(super) async fn available(state: &Path, connected: Option<&Vswitch>) -> Result<String, String> {
    let found;
    let vswitch = match connected {
        Some(vswitch) => Some(vswitch),
        None => {
            found = there(state).await.map_err(|error| chain(&error))?;
            found.as_ref()
        }
    };
    let Some(vswitch) = vswitch else { return Err("no Open vSwitch answers".into()) };
    if !vswitch.is_alive().await {
        return Err(OvsError::NotRunning { at: vswitch.at() }.to_string());
    }
    let version =
        vswitch.client.read(|replica| replica.only::<OpenVswitch>().ok()??.row.ovs_version);
    let version = version.unwrap_or_default();
    Ok(format!("Open vSwitch {version} of this machine, at {}", vswitch.at()))
}

/// The directory of an Open vSwitch whose database answers.
fn rundir() -> Option<PathBuf> {
    let named = std::env::var_os("OVS_RUNDIR").filter(|text| !text.is_empty());
    let places = match named {
        Some(place) => vec![PathBuf::from(place)],
        None => RUNDIRS.iter().map(PathBuf::from).collect(),
    };
    places.into_iter().find(|place| UnixStream::connect(place.join("db.sock")).is_ok())
}

async fn connect(rundir: &Path) -> Result<Vswitch, OvsError> {
    let socket = rundir.join("db.sock");
    let client = Client::builder("Open_vSwitch")
        .remote(Remote::unix(&socket))
        .watch::<OpenVswitch>()
        .watch::<Bridge>()
        .watch::<Port>()
        .watch::<Interface>()
        .watch::<Mirror>()
        .watch::<Qos>()
        .watch::<Queue>()
        .watch::<Controller>()
        .watch::<NetFlow>()
        .watch::<Sflow>()
        .watch::<Ipfix>()
        .connect()
        .await
        .map_err(|error| OvsError::Database {
            at: socket.display().to_string(),
            why: chain(&error),
        })?;
    let tso = client.read(|replica| {
        let root = replica.only::<OpenVswitch>().ok()??;
        Some(root.other_config.get("userspace-tso-enable").is_some_and(|on| on == "true"))
    });
    let pid = std::fs::read_to_string(rundir.join("ovs-vswitchd.pid")).unwrap_or_default();
    let control = rundir.join(format!("ovs-vswitchd.{}.ctl", pid.trim()));
    let tso = tso.unwrap_or(false);
    Ok(Vswitch { client, rundir: rundir.to_owned(), control, tso, socket })
}

/// The best datapath here, and why it is not the kernel's, if it is not.
///
/// The kernel is asked for the family of requests by which `ovs-vswitchd`
/// makes datapaths; it loads the module then, if there is one. Whether bridges
/// come to be in it shows when the first are made: one that does not has no
/// datapath id, and is taken back.
pub(super) fn datapath() -> Result<(Datapath, Option<String>), KernelError> {
    Ok(match genl::family(&Netlink::generic()?, "ovs_datapath")? {
        Some(_) => (Datapath::System, None),
        None => (Datapath::Netdev, Some("this kernel has no module `openvswitch`".to_owned())),
    })
}

/// Why there cannot be a userspace datapath, if there cannot.
pub(super) fn no_tun() -> Option<String> {
    let open = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    open.err().map(|error| {
        let why = error.kind().to_string();
        format!("the userspace datapath needs `/dev/net/tun`: {why} (module `tun`)")
    })
}
