//! Which Open vSwitch: the machine's, or one of our own. One at a time in a
//! network namespace, so ours is never started beside another.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use ovsdb::vswitch::{
    Bridge, Controller, Interface, Ipfix, Mirror, NetFlow, OpenVswitch as Root, Port, Qos, Queue,
    Sflow,
};
use ovsdb::{Client, ReadError, Remote};

use super::super::SwitchError;
use super::super::own::{Own, OwnError, Running, StartOptions};
use super::error::{OvsError, chain};
use super::tools;
use crate::kernel::netlink::Netlink;
use crate::kernel::{KernelError, genl};
use crate::model::topology::Datapath;

/// Where the machine's own keeps its sockets, unless `OVS_RUNDIR` says
/// otherwise (ovs-vsctl(8)).
const RUNDIRS: [&str; 2] = ["/run/openvswitch", "/var/run/openvswitch"];

/// How long `ovs-vswitchd` may take to say which version it is. While it takes
/// hundreds of ports away it says nothing for seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How long a database may take to tell what is in it. A command asks once, and
/// goes on without it: who has no switch in it waits for nothing else.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// How long the keeper may take to start one of our own again.
const STARTED_AGAIN_WITHIN: Duration = Duration::from_secs(5);

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
    /// If it is one of our own, what keeps it: it ends when nobody has this
    /// any more and no bridge is left.
    own: Option<Running>,
}

impl Vswitch {
    /// Where its database is, for people.
    pub(super) fn at(&self) -> String {
        self.socket.display().to_string()
    }

    pub(super) fn unread(&self, error: &ReadError) -> OvsError {
        OvsError::Database { at: self.at(), why: chain(error) }
    }

    pub(super) fn unreadable(&self, error: &ReadError) -> SwitchError {
        SwitchError::OpenVswitch(self.unread(error))
    }

    /// Whether `ovs-vswitchd` is there: somebody listens at its control socket.
    pub(super) fn is_alive(&self) -> bool {
        is_heard(&self.control)
    }

    /// Why nothing can be changed at the moment, if nothing can. One of our own
    /// that was killed is started again by its keeper, which is waited for.
    pub(super) async fn asleep(&self) -> Option<OvsError> {
        let start = Instant::now();
        while !self.is_alive() {
            if self.own.is_none() || STARTED_AGAIN_WITHIN < start.elapsed() {
                return Some(OvsError::NotRunning { at: self.at(), own: self.own.is_some() });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }

    /// What is wrong with the daemons, if anything is.
    pub(super) async fn trouble(&self) -> Option<OvsError> {
        if let Some(error) = self.asleep().await {
            return Some(error);
        }
        let asked = tools::control(&self.control, "version", &[]);
        match tokio::time::timeout(ANSWERS_WITHIN, asked).await {
            Ok(Ok(_)) => None,
            // It may have ended just now.
            Ok(Err(_)) | Err(_) => Some(self.asleep().await.unwrap_or(OvsError::Silent)),
        }
    }

    /// Why tags cannot be wrapped in tags, if they cannot.
    pub(super) fn no_qinq(&self) -> Option<String> {
        let limit = self.client.read(|replica| {
            let root = replica.only::<Root>().ok()??;
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

    /// Leaves it. One of our own ends if nobody needs it any more.
    pub(super) async fn leave(self) -> Result<(), OvsError> {
        self.client.close();
        match self.own {
            Some(running) => Ok(running.leave().await.map(drop)?),
            None => Ok(()),
        }
    }

    /// What it is, in a few words.
    fn words(&self) -> String {
        let version = self.client.read(|replica| replica.only::<Root>().ok()??.row.ovs_version);
        let version = version.map(|version| format!(" {version}")).unwrap_or_default();
        match self.own {
            Some(_) => format!("Open vSwitch{version} of our own"),
            None => format!("Open vSwitch{version} of this machine"),
        }
    }
}

impl From<OwnError> for OvsError {
    fn from(error: OwnError) -> Self {
        Self::Own { what: chain(&error), hint: error.hint() }
    }
}

/// The Open vSwitch that answers, if one does: one of our own that runs
/// already, or else the machine's. Only one of them is there, unless somebody
/// started the machine's later; and then our labs are on ours.
pub(super) async fn there(state: &Path) -> Result<Option<Vswitch>, OvsError> {
    if let Some(running) = Own::of(state).running().await? {
        return own(running).await.map(Some);
    }
    match rundir()? {
        None => Ok(None),
        Some(rundir) => {
            connect(&rundir.join("db.sock"), &rundir, control(&rundir), None).await.map(Some)
        }
    }
}

/// The Open vSwitch that answers, or one of our own that is started.
pub(super) async fn there_or_started(state: &Path) -> Result<Vswitch, OvsError> {
    match there(state).await? {
        Some(vswitch) => Ok(vswitch),
        None => own(Own::of(state).start(StartOptions::default()).await?).await,
    }
}

async fn own(running: Running) -> Result<Vswitch, OvsError> {
    let (db, rundir) = (running.db.clone(), running.rundir.clone());
    let control = running.vswitchd_ctl.clone();
    connect(&db, &rundir, control, Some(running)).await
}

/// What of Open vSwitch is here, or could be started, in a few words; or why
/// there is none.
pub(super) async fn available(connected: Option<&Vswitch>) -> Result<String, String> {
    let Some(vswitch) = connected else {
        let place = places()[0].join("db.sock");
        let place = place.display();
        return match Own::missing() {
            None => Ok(format!("an Open vSwitch of our own, since none answers at `{place}`")),
            Some(missing) => Err(format!(
                "no Open vSwitch answers at `{place}`, and there is no {missing} to start one"
            )),
        };
    };
    if let Some(error) = vswitch.asleep().await {
        return Err(error.to_string());
    }
    Ok(vswitch.words())
}

/// The directory of an Open vSwitch of the machine's whose database answers, if
/// there is one.
///
/// # Errors
/// `NoDatabase` if a switch runs without: it goes on as it was told last, and
/// nobody can say what that was.
pub(super) fn rundir() -> Result<Option<PathBuf>, OvsError> {
    let places = places();
    let answers = |place: &&PathBuf| is_heard(&place.join("db.sock"));
    if let Some(place) = places.iter().find(answers) {
        return Ok(Some(place.clone()));
    }
    let runs = |place: &&PathBuf| is_heard(&control(place));
    match places.iter().find(runs) {
        Some(place) => {
            Err(OvsError::NoDatabase { at: place.join("db.sock").display().to_string() })
        }
        None => Ok(None),
    }
}

/// Whether somebody listens at a socket. What keeps us from asking, such as a
/// limit of open files, is no sign that nobody does; nor is it that so many
/// wait there already that no more are let in (`EAGAIN`; a socket that blocks
/// would wait with them, without end if the daemon is suspended).
pub(super) fn is_heard(socket: &Path) -> bool {
    !matches!(knock(socket), Err(Errno::ENOENT | Errno::ECONNREFUSED))
}

fn knock(socket: &Path) -> nix::Result<()> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let ours = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(ours.as_raw_fd(), &UnixAddr::new(socket)?)
}

/// The directories in which the socket of a database may come to be that has switches
/// of ours. `state` is where one of our own would have its own.
pub(in crate::switch) fn directories(state: &Path) -> BTreeSet<PathBuf> {
    let own = Own::of(state).directory().to_owned();
    // Two names of one directory are one.
    let machines = places().into_iter().map(|place| place.canonicalize().unwrap_or(place));
    machines.chain([own]).collect()
}

/// Where its directory would be.
pub(super) fn places() -> Vec<PathBuf> {
    let named = std::env::var_os("OVS_RUNDIR").filter(|text| !text.is_empty());
    match named {
        Some(place) => vec![PathBuf::from(place)],
        None => RUNDIRS.iter().map(PathBuf::from).collect(),
    }
}

/// The control socket of the `ovs-vswitchd` that has its files in `rundir`.
pub(super) fn control(rundir: &Path) -> PathBuf {
    let pid = std::fs::read_to_string(rundir.join("ovs-vswitchd.pid")).unwrap_or_default();
    rundir.join(format!("ovs-vswitchd.{}.ctl", pid.trim()))
}

async fn connect(
    socket: &Path,
    rundir: &Path,
    control: PathBuf,
    own: Option<Running>,
) -> Result<Vswitch, OvsError> {
    let client = Client::builder("Open_vSwitch")
        .remote(Remote::unix(socket))
        .watch::<Root>()
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
        .connect_within(CONNECTED_WITHIN)
        .connect()
        .await
        .map_err(|error| OvsError::Database {
            at: socket.display().to_string(),
            why: chain(&error),
        })?;
    let tso = client.read(|replica| {
        let root = replica.only::<Root>().ok()??;
        Some(root.other_config.get("userspace-tso-enable").is_some_and(|on| on == "true"))
    });
    let tso = tso.unwrap_or(false);
    let (rundir, socket) = (rundir.to_owned(), socket.to_owned());
    Ok(Vswitch { client, rundir, control, tso, socket, own })
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
