//! What switches tell of by themselves, beyond what the kernel tells of their links:
//! Open vSwitch writes into its database that a port does not work, that a controller
//! is connected, that others have changed something (RFC 7047, section 4.1.5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ovsdb::{Client, Remote, Watch};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::ovs;

/// What is told of, table by table; counters and what is told of them each five
/// seconds are left out.
const TOLD: [(&str, &[&str]); 6] = [
    ("Bridge", &["name", "ports", "datapath_type", "fail_mode", "controller", "mirrors"]),
    ("Port", &["name", "interfaces", "tag", "trunks", "vlan_mode", "qos"]),
    ("Interface", &["name", "type", "options", "ofport", "error", "admin_state", "link_state"]),
    ("Controller", &["target", "is_connected", "role"]),
    ("Mirror", &["name", "output_port", "select_all"]),
    ("QoS", &["type", "queues", "other_config"]),
];

/// How long it rests between two tries to find a database again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Never, for practical purposes.
const EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The databases that are listened to.
pub struct SwitchNews {
    state: PathBuf,
    told: Arc<Notify>,
    followed: BTreeMap<PathBuf, Followed>,
}

struct Followed {
    client: Client,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.client.close();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl SwitchNews {
    /// Listens to none yet. `state` is where an Open vSwitch of our own would be.
    pub fn begin(state: &Path) -> Self {
        let (told, followed) = (Arc::new(Notify::new()), BTreeMap::new());
        Self { state: state.to_owned(), told, followed }
    }

    /// Where a database may come to be.
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        ovs::directories(&self.state)
    }

    /// Listens to those that are there now.
    pub fn follow(&mut self) {
        let sockets = self.directories().into_iter().map(|place| place.join("db.sock"));
        let there: BTreeSet<PathBuf> = sockets.filter(|socket| socket.exists()).collect();
        self.followed.retain(|socket, _| there.contains(socket));
        for socket in there {
            self.followed.entry(socket).or_insert_with_key(|socket| listen(socket, &self.told));
        }
    }

    /// Awaits that something is told.
    pub async fn next(&mut self) {
        self.told.notified().await;
    }
}

fn listen(socket: &Path, told: &Arc<Notify>) -> Followed {
    let mut builder = Client::builder("Open_vSwitch").remote(Remote::unix(socket));
    for (table, columns) in TOLD {
        builder = builder.watch_table(Watch::columns(table, columns.iter().copied()).optional());
    }
    let client = builder.backoff(BACKOFF.0, BACKOFF.1).start();
    let (rows, status) = (client.clone(), client.status());
    let changed = Arc::clone(told);
    let changes = tokio::spawn(async move {
        // It is looked at each time, and never what is sought.
        let never = rows.wait_for(EVER, |_| {
            changed.notify_one();
            None::<()>
        });
        let _: Option<()> = never.await;
    });
    let (mut status, lost) = (status, Arc::clone(told));
    let connections = tokio::spawn(async move {
        while status.changed().await.is_ok() {
            lost.notify_one();
        }
    });
    Followed { client, tasks: [changes, connections] }
}
