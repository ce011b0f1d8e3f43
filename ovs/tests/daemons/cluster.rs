//! A raft cluster of three servers that are killed under their writers.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ovsdb::operation::{Condition, Select};
use ovsdb::reply::Answer;
use ovsdb::vswitch::{OpenVswitch, Qos};
use ovsdb::{
    Change, Client, Marker, ReadError, Ref, Remote, Replica, Session, SessionOptions, Status,
    Table, Transaction,
};
use tempfile::TempDir;

use crate::database::{increment, root};
use crate::lab::{Process, SOON, VSWITCH_SCHEMA, output, quick, wait_until};

crate::tests! { &["ovsdb-server", "ovsdb-tool", "ovsdb-client", "ovs-vsctl", "setpriv", VSWITCH_SCHEMA];
    acknowledged_writes_outlive_the_servers
    a_watch_goes_on_at_another_server
    the_leader_is_followed
}

struct Cluster {
    dir: TempDir,
    servers: Vec<Option<Process>>,
}

impl Cluster {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Self { dir, servers: Vec::new() };
        for n in 0..3 {
            let (file, address) = (cluster.file(n, "db"), cluster.raft(n));
            if n == 0 {
                output("ovsdb-tool", &["create-cluster", &file, VSWITCH_SCHEMA, &address]);
            } else {
                let join = ["join-cluster", &file, "Open_vSwitch", &address, &cluster.raft(0)];
                output("ovsdb-tool", &join);
            }
            cluster.servers.push(None);
            cluster.start_server(n);
            wait_until("the server has joined", || cluster.status(n).contains("cluster member"));
        }
        output("ovs-vsctl", &["--no-wait", &format!("--db={}", cluster.list()), "init"]);
        cluster
    }

    fn file(&self, n: usize, what: &str) -> String {
        self.dir.path().join(format!("s{n}.{what}")).display().to_string()
    }

    fn raft(&self, n: usize) -> String {
        format!("unix:{}", self.file(n, "raft"))
    }

    fn remote(&self, n: usize) -> Remote {
        Remote::unix(self.file(n, "sock"))
    }

    fn list(&self) -> String {
        (0..3).map(|n| self.remote(n).to_string()).collect::<Vec<_>>().join(",")
    }

    fn start_server(&mut self, n: usize) {
        let socket = PathBuf::from(self.file(n, "sock"));
        let control = PathBuf::from(self.file(n, "ctl"));
        let _ = (std::fs::remove_file(&socket), std::fs::remove_file(&control));
        let args = [
            self.file(n, "db"),
            format!("--remote=punix:{}", socket.display()),
            format!("--unixctl={}", self.file(n, "ctl")),
            format!("--log-file={}", self.file(n, "log")),
        ];
        self.servers[n] = Some(Process::start("ovsdb-server", &args, self.dir.path()));
        for socket in [socket, control] {
            wait_until("the server listens", || UnixStream::connect(&socket).is_ok());
        }
    }

    fn kill(&mut self, n: usize) {
        self.servers[n] = None;
    }

    fn status(&self, n: usize) -> String {
        let control = self.file(n, "ctl");
        let status = std::process::Command::new("ovs-appctl")
            .args(["-t", &control, "cluster/status", "Open_vSwitch"])
            .output();
        String::from_utf8_lossy(&status.unwrap().stdout).into_owned()
    }

    /// The server that leads, by what it says itself.
    async fn leader(&self) -> usize {
        let until = tokio::time::Instant::now() + SOON;
        loop {
            for n in (0..3).filter(|n| self.servers[*n].is_some()) {
                let control = Remote::unix(self.file(n, "ctl"));
                let session = Session::connect(&control, SessionOptions::default()).await.unwrap();
                let status = session.unixctl("cluster/status", &["Open_vSwitch"]).await.unwrap();
                if status.contains("\nLeader: self") {
                    return n;
                }
            }
            assert!(tokio::time::Instant::now() < until, "no leader");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn client(&self) -> Client {
        let client = quick("Open_vSwitch").remotes(&self.list()).unwrap();
        let client = client.watch::<OpenVswitch>().watch::<Qos>();
        client.connect_within(SOON).connect().await.expect("a cluster")
    }
}

/// Rows that say who wrote them: each at most once, whatever happens.
fn write_row(replica: &Replica, writer: usize, n: usize) -> Transaction {
    let marks: BTreeMap<String, String> =
        [("writer".to_owned(), writer.to_string()), ("n".to_owned(), n.to_string())].into();
    let mut change = Transaction::new();
    let rows = replica.rows::<Qos>().unwrap();
    if rows.iter().all(|row| row.external_ids != marks) {
        change.guard_absent::<Qos>([Qos::EXTERNAL_IDS.is(marks.clone())]);
        change.insert(&Qos { kind: "test".into(), external_ids: marks, ..Default::default() });
    }
    change
}

/// Three writers; meanwhile, time after time, a server is killed (the leader,
/// more often than not) and started again when another leads.
async fn acknowledged_writes_outlive_the_servers() {
    const KILLS: usize = 6;
    let mut cluster = Cluster::start();
    let enough = Arc::new(AtomicBool::new(false));
    let acknowledged: Arc<Mutex<BTreeSet<(usize, usize)>>> = Arc::default();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..3 {
        let (enough, acknowledged) = (enough.clone(), acknowledged.clone());
        let client = cluster.client().await;
        let root = client.read(root).uuid;
        let marker = Marker::new(OpenVswitch::EXTERNAL_IDS, root, &format!("marker-{writer}"));
        writers.spawn(async move {
            let (mut attempts, mut unsure) = (0, 0);
            for n in 0.. {
                if enough.load(Relaxed) {
                    return (n, attempts, unsure);
                }
                let build = |replica: &Replica| write_row(replica, writer, n);
                let edited = client.edit_with(SOON, build).await.expect("acknowledged");
                acknowledged.lock().unwrap().insert((writer, n));
                let count = |replica: &Replica| Ok::<_, ReadError>(increment(replica, "n"));
                let counted = client.edit_once(SOON, &marker, count).await.expect("counted");
                attempts += edited.attempts + counted.attempts;
                unsure += u32::from(edited.unsure) + u32::from(counted.unsure);
            }
            unreachable!("the numbers do not end")
        });
    }
    let mut leaders = 0;
    for round in 0..KILLS {
        let before = acknowledged.lock().unwrap().len();
        let leader = cluster.leader().await;
        let victim = if round % 3 == 2 { (leader + 1) % 3 } else { leader };
        leaders += usize::from(victim == leader);
        cluster.kill(victim);
        cluster.leader().await;
        // Two of three go on writing.
        let until = tokio::time::Instant::now() + SOON;
        while acknowledged.lock().unwrap().len() < before + 30 {
            assert!(tokio::time::Instant::now() < until, "nothing is written any more");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cluster.start_server(victim);
    }
    enough.store(true, Relaxed);
    let done = writers.join_all().await;
    let (written, attempts, unsure) =
        done.iter().fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));

    // Ask the leader itself, not a replica: every row once, and every count.
    let leader = cluster.leader().await;
    let remote = cluster.remote(leader);
    let session = Session::connect(&remote, SessionOptions::default()).await.unwrap();
    let rows = Select::new(Qos::TABLE).columns(["external_ids"]).into();
    let count = Select::new(OpenVswitch::TABLE).columns(["external_ids"]).into();
    let answers = session.transact("Open_vSwitch", &[rows, count]).await.unwrap().unwrap();
    let [Answer::Rows(rows), Answer::Rows(count)] = &*answers else { panic!("{answers:?}") };
    let number = |row: &ovsdb::operation::Columns, key: &str| -> usize {
        let Some(ovsdb::Atom::String(text)) = row["external_ids"].get(&key.into()) else {
            panic!("{row:?}")
        };
        text.parse().unwrap()
    };
    let found: Vec<_> = rows.iter().map(|row| (number(row, "writer"), number(row, "n"))).collect();
    let acknowledged = acknowledged.lock().unwrap();
    assert_eq!(found.len(), acknowledged.len(), "a row is lost, or there twice");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), *acknowledged);
    assert_eq!(number(&count[0], "n"), written, "a count is lost, or was done twice");
    println!(
        "cluster: {KILLS} kills, {leaders} of the leader; {written} rows and as many counts \
         acknowledged, all there, none twice; {attempts} attempts, {unsure} edits unsure"
    );
}

async fn a_watch_goes_on_at_another_server() {
    let mut cluster = Cluster::start();
    let client = cluster.client().await;
    let mut rows = client.changes::<Qos>().unwrap();
    for n in 0..100 {
        client.edit_with(SOON, |replica| write_row(replica, 0, n)).await.unwrap();
        assert!(matches!(rows.next().await, Some(Ok(Change::Inserted(_)))));
    }
    let first = client.ready().unwrap();
    assert!(!first.resumed);
    let at = (0..3).find(|n| cluster.remote(*n) == first.remote).unwrap();
    let mut status = client.status();
    cluster.kill(at);
    let elsewhere = |status: &Status| match status {
        Status::Ready(ready) => ready.remote != first.remote,
        _ => false,
    };
    status.wait_for(elsewhere).await.unwrap();
    // The history since the last transaction, and not 100 rows again.
    assert!(client.ready().unwrap().resumed);
    client.edit_with(SOON, |replica| write_row(replica, 0, 100)).await.unwrap();
    let Some(Ok(Change::Inserted(row))) = rows.next().await else { panic!("no row") };
    assert_eq!(row.external_ids["n"], "100");
    assert_eq!(client.read(|replica| replica.count(Qos::TABLE)), Ok(101));
    let row: Condition = Condition::row(Ref::<Qos>::uuid(row.uuid));
    let mut look = Transaction::new();
    look.push(Select::new(Qos::TABLE).filter(row));
    assert!(matches!(&client.transact(&look).await.unwrap().answers[..],
        [Answer::Rows(rows)] if rows.len() == 1));
}

async fn the_leader_is_followed() {
    let mut cluster = Cluster::start();
    let client = quick("Open_vSwitch").remotes(&cluster.list()).unwrap().leader_only();
    let client = client.watch::<OpenVswitch>().connect_within(SOON).connect().await.unwrap();
    for _ in 0..2 {
        let until = tokio::time::Instant::now() + SOON;
        let leader = loop {
            // Who leads may change while we look.
            let leader = cluster.leader().await;
            if client.ready().is_some_and(|ready| ready.remote == cluster.remote(leader)) {
                break leader;
            }
            assert!(tokio::time::Instant::now() < until, "the leader is not followed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        cluster.kill(leader);
        cluster.leader().await;
        cluster.start_server(leader);
    }
}
