//! How the machine's own Open vSwitch stands, for `ovsns doctor`. Looking
//! changes nothing. One of our own has `own::Report`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ovsdb::vswitch::{Bridge, Interface, OpenVswitch as Root, Port};
use ovsdb::{Client, ReadError, Remote, Replica};

use super::error::{OvsError, chain};
use super::seek;
use super::seen::{by_uuid, followed, mark_of};

/// How long its database may take to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Nobody listens where its database would.
    Absent {
        /// Where that is.
        socket: PathBuf,
        /// Whether a socket is left of one that ended.
        was_there: bool,
    },
    /// Its switch runs, and nobody listens where its database would.
    Headless(OvsError),
    /// Somebody listens, and does not answer as its database would.
    Unreadable {
        /// Where.
        socket: PathBuf,
        /// Why it is of no use.
        why: String,
    },
    /// Its database answers.
    There(Facts),
}

/// What its database says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where the database is.
    pub socket: PathBuf,
    /// The version of the switch that started last.
    pub version: Option<String>,
    /// The version of its schema.
    pub schema: Option<String>,
    /// Whether `ovs-vswitchd` runs.
    pub alive: bool,
    /// Whether the database has been set up.
    pub initialised: bool,
    /// Whether `ovs-vswitchd` has carried out all that is in the database.
    pub caught_up: bool,
    /// The datapaths that it was built with.
    pub datapaths: BTreeSet<String>,
    /// How many bridges there are.
    pub bridges: usize,
    /// How many of them are ours.
    pub ours: usize,
    /// What does not work of ours, each in words.
    pub faults: Vec<String>,
}

impl Report {
    /// Looks how it stands.
    pub async fn look() -> Self {
        let place = match seek::rundir() {
            Ok(Some(place)) => place,
            Ok(None) => return Self::absent(),
            Err(error) => return Self::Headless(error),
        };
        let socket = place.join("db.sock");
        match tokio::time::timeout(WITHIN, read(&socket, &place)).await {
            Ok(Ok(facts)) => Self::There(facts),
            Ok(Err(why)) => Self::Unreadable { socket, why },
            Err(_) => {
                let why = format!("it does not answer within {} s", WITHIN.as_secs());
                Self::Unreadable { socket, why }
            }
        }
    }

    fn absent() -> Self {
        let sockets: Vec<_> = seek::places().iter().map(|place| place.join("db.sock")).collect();
        let stale = sockets.iter().find(|socket| socket.exists());
        let was_there = stale.is_some();
        Self::Absent { socket: stale.unwrap_or(&sockets[0]).clone(), was_there }
    }

    /// What to do, where something is wrong.
    pub fn mend(&self) -> Option<String> {
        let start = "`systemctl restart openvswitch-switch`, or `ovs-ctl start`";
        match self {
            Self::Absent { was_there: false, .. } => None,
            Self::Headless(error) => error.hint(),
            Self::Absent { was_there: true, .. } | Self::Unreadable { .. } => {
                Some(start.to_owned())
            }
            Self::There(facts) if !facts.alive => Some(start.to_owned()),
            Self::There(facts) if !facts.initialised => {
                Some("`ovs-vsctl --no-wait init`".to_owned())
            }
            Self::There(facts) if !facts.caught_up => {
                Some("`ovs-vswitchd.log` says what keeps it from it".to_owned())
            }
            Self::There(facts) if !facts.faults.is_empty() => {
                Some("`ovsns up` with the lab's file".to_owned())
            }
            Self::There(_) => None,
        }
    }
}

async fn read(socket: &Path, place: &Path) -> Result<Facts, String> {
    let client = Client::builder("Open_vSwitch")
        .remote(Remote::unix(socket))
        .watch::<Root>()
        .watch::<Bridge>()
        .watch::<Port>()
        .watch::<Interface>()
        .connect()
        .await
        .map_err(|error| chain(&error))?;
    let alive = seek::is_heard(&seek::control(place));
    let facts = client.read(|replica| facts(replica, socket, alive));
    let schema = client.ready().map(|ready| ready.schema.version.clone());
    client.close();
    facts.map(|facts| Facts { schema, ..facts }).map_err(|error| chain(&error))
}

fn facts(replica: &Replica, socket: &Path, alive: bool) -> Result<Facts, ReadError> {
    let root = replica.only::<Root>()?;
    let bridges = replica.rows::<Bridge>()?;
    let ours: Vec<_> = bridges.iter().filter(|b| mark_of(&b.external_ids).is_some()).collect();
    let mut faults = Vec::new();
    let (ports, interfaces) = (by_uuid::<Port>(replica)?, by_uuid::<Interface>(replica)?);
    for bridge in &ours {
        if alive && bridge.datapath_id.is_none() {
            faults.push(format!("bridge `{}` could not be made", bridge.name));
        }
        for port in followed(&bridge.ports, &ports) {
            let errors = followed(&port.interfaces, &interfaces).filter_map(|i| i.error.as_ref());
            faults.extend(errors.map(|error| format!("port `{}`: {error}", port.name)));
        }
    }
    Ok(Facts {
        socket: socket.to_owned(),
        schema: None,
        alive,
        initialised: root.is_some(),
        version: root.as_ref().and_then(|root| root.ovs_version.clone()),
        caught_up: root.as_ref().is_none_or(|root| root.next_cfg <= root.cur_cfg),
        datapaths: root.map(|root| root.row.datapath_types).unwrap_or_default(),
        bridges: bridges.len(),
        ours: ours.len(),
        faults,
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { socket, was_there: false } => {
                write!(f, "there is none, nobody listens at `{}`", socket.display())
            }
            Self::Absent { socket, was_there: true } => {
                write!(f, "its database does not run; `{}` is left of it", socket.display())
            }
            Self::Headless(error) => write!(f, "{error}"),
            Self::Unreadable { socket, why } => {
                write!(f, "its database at `{}` is of no use: {why}", socket.display())
            }
            Self::There(facts) => write!(f, "{facts}"),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("of unknown version");
        write!(f, "{version}, database at `{}`", self.socket.display())?;
        if let Some(schema) = &self.schema {
            write!(f, " with schema {schema}")?;
        }
        f.write_str(", ")?;
        match (self.alive, self.initialised, self.caught_up) {
            (false, ..) => f.write_str("`ovs-vswitchd` does not run")?,
            (true, false, _) => f.write_str("which has not been set up")?,
            (true, true, false) => {
                f.write_str("`ovs-vswitchd` has not carried out all that is in it")?;
            }
            (true, true, true) => f.write_str("`ovs-vswitchd` runs")?,
        }
        let datapaths: Vec<_> = self.datapaths.iter().map(String::as_str).collect();
        if !datapaths.is_empty() {
            write!(f, ", datapaths {}", datapaths.join(" and "))?;
        }
        let s = if self.bridges == 1 { "" } else { "s" };
        write!(f, ", {} bridge{s} ({} of ovsns)", self.bridges, self.ours)?;
        for fault in &self.faults {
            write!(f, "\n      {fault}")?;
        }
        Ok(())
    }
}
