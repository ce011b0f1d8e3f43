//! Two clients, each over a bad line, and one server that keeps the truth.
//!
//! Each run has a seed. Whatever the lines do: no update is lost, none is done
//! twice, no row is there twice, and nothing takes longer than its deadline.
//! `OVSDB_PROXY_RUNS` sets the number of runs, 400 by default.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ovsdb::operation::{Columns, Delete, Operation, Select, Update};
use ovsdb::reply::Answer;
use ovsdb::{
    Client, Entry, Marker, ReadError, Remote, Replica, Session, SessionOptions, Table, Transaction,
    Value,
};

use crate::lab::{Server, proxy_runs, quick};
use crate::proxy::{Counts, FAULTS, Proxy};

crate::tests! { &["ovsdb-server", "ovsdb-tool", "setpriv"];
    bad_lines_first_part
    bad_lines_second_part
    bad_lines_where_updates_come_twice
}

/// No edit may take longer, whatever its line does.
const EDIT_WITHIN: Duration = Duration::from_secs(20);
const COUNTS: usize = 4;
const ITEMS: usize = 4;

const SCHEMA: &str = r#"{"name": "Faults", "version": "1.0.0", "tables": {
    "Root": {"isRoot": true, "maxRows": 1, "columns": {
        "count": {"type": "integer"},
        "marks": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}},
    "Item": {"isRoot": true, "columns": {
        "owner": {"type": "string", "mutable": false}}}}}"#;

ovsdb::tables! {
    /// What all clients count on.
    struct Root = "Root" {
        /// A number that each adds to.
        COUNT count: i64,
        /// The markers of edits that must be done once.
        MARKS marks: BTreeMap<String, String>,
    }
    /// A row that one client adds.
    struct Item = "Item" {
        /// Which client, and which of its rows.
        OWNER owner: String,
    }
}

fn runs() -> u64 {
    proxy_runs().into()
}

async fn bad_lines_first_part() {
    bad_lines(0..runs() / 2, false).await;
}

async fn bad_lines_second_part() {
    bad_lines(1_000_000..1_000_000 + runs() / 2, false).await;
}

/// TCP never does this, but a client whose copy went wrong in any other way
/// would be in the same place. Its guards fail, it doubts the copy, and
/// fetches it anew.
async fn bad_lines_where_updates_come_twice() {
    bad_lines(2_000_000..2_000_000 + runs() / 8, true).await;
}

async fn bad_lines(seeds: std::ops::Range<u64>, updates_twice: bool) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SCHEMA).unwrap();
    let server = Server::of(file.path().to_str().unwrap(), &[]);
    let direct = Session::connect(&server.remote(), SessionOptions::default()).await.unwrap();
    let insert = ovsdb::operation::Insert::new(Root::TABLE).into();
    direct.transact("Faults", &[insert]).await.unwrap().unwrap();
    let counts = Arc::new(Mutex::new(Counts::default()));
    let (mut attempts, mut unsure, mut slowest) = (0, 0, Duration::ZERO);
    let runs = seeds.end - seeds.start;
    for seed in seeds {
        let start = std::time::Instant::now();
        let told = run(seed, &server, updates_twice, &counts).await;
        slowest = slowest.max(start.elapsed());
        attempts += told.attempts;
        unsure += told.unsure;
        check(seed, &direct).await;
    }
    let counts = counts.lock().unwrap().clone();
    println!(
        "bad lines: {runs} runs (updates twice: {updates_twice}), {} edits in {attempts} attempts, \
         {unsure} of unknown outcome; {} connections, {} echoes answered; slowest run {slowest:?}; {:?}",
        runs as usize * 2 * (COUNTS + ITEMS),
        counts.connections,
        counts.echoes_answered,
        counts.faults,
    );
    assert_eq!(counts.echoes_wrong, 0);
    // A proxy that does nothing would prove nothing.
    if 50 <= runs {
        for fault in FAULTS {
            assert!(0 < counts.faults.get(&fault).copied().unwrap_or(0), "never: {fault:?}");
        }
        assert!(0 < counts.echoes_answered && 0 < unsure);
    }
}

#[derive(Default)]
struct Told {
    attempts: u32,
    unsure: u32,
}

/// Two clients at work at the same time.
async fn run(seed: u64, server: &Server, updates_twice: bool, counts: &Arc<Mutex<Counts>>) -> Told {
    let rarity = 4 + seed % 12;
    let line = |name: &str, seed: u64| {
        let socket = server.path(name);
        let to = server.path("db.sock");
        let proxy = Proxy::start(&socket, &to, seed, rarity, updates_twice, counts.clone());
        (proxy, Remote::unix(socket))
    };
    let (line_a, a) = line("a.sock", seed * 2);
    let (line_b, b) = line("b.sock", seed * 2 + 1);
    let both = async { tokio::join!(work(seed, "a", a), work(seed, "b", b)) };
    let (a, b) = both.await;
    drop((line_a, line_b));
    for client in [&a.0, &b.0] {
        client.close();
    }
    Told { attempts: a.1.attempts + b.1.attempts, unsure: a.1.unsure + b.1.unsure }
}

/// Counts, and adds rows, all of it acknowledged or a failure of the test.
async fn work(seed: u64, name: &str, remote: Remote) -> (Client, Told) {
    let client = quick("Faults")
        .remote(remote)
        .backoff(Duration::from_millis(1), Duration::from_millis(20))
        // The line may fall silent, even on a Unix socket.
        .probe(Some(Duration::from_millis(40)))
        .handshake_within(Duration::from_secs(2))
        .watch::<Root>()
        .watch::<Item>()
        .start();
    let root = client.wait_for(EDIT_WITHIN, |replica| replica.only::<Root>().ok()?).await;
    let root = root.unwrap_or_else(|| panic!("seed {seed}: {name} never saw anything")).uuid;
    let marker = Marker::new(Root::MARKS, root, name);
    let mut told = Told::default();
    for n in 0..COUNTS.max(ITEMS) {
        if n < COUNTS {
            let count = if n % 2 == 0 { add_one } else { read_and_write };
            let edited = client.edit_once(EDIT_WITHIN, &marker, count).await;
            let edited = edited.unwrap_or_else(|e| panic!("seed {seed}: {name} counts {n}: {e:?}"));
            told.attempts += edited.attempts;
            told.unsure += u32::from(edited.unsure);
        }
        if n < ITEMS {
            let owner = format!("{name}{n}");
            let edited = client.edit_with(EDIT_WITHIN, |replica| item(replica, &owner)).await;
            let edited = edited.unwrap_or_else(|e| panic!("seed {seed}: {name} adds {n}: {e:?}"));
            told.attempts += edited.attempts;
            told.unsure += u32::from(edited.unsure);
        }
    }
    (client, told)
}

fn the_row(replica: &Replica) -> Result<Entry<Root>, ReadError> {
    Ok(replica.only()?.expect("the row stays"))
}

/// Reads, adds one, writes, with a guard.
fn read_and_write(replica: &Replica) -> Result<Transaction, ReadError> {
    let Entry { uuid, row } = the_row(replica)?;
    let mut change = Transaction::new();
    change.guard_unchanged(Root::COUNT, uuid, &row.count);
    change.set(Root::COUNT, uuid, row.count + 1);
    Ok(change)
}

/// Adds one, whatever there is: only the marker keeps it from being done twice.
fn add_one(replica: &Replica) -> Result<Transaction, ReadError> {
    let mut change = Transaction::new();
    change.mutate::<Root>(the_row(replica)?.uuid, Root::COUNT.plus(1));
    Ok(change)
}

/// Adds a row unless it is there. No index of the database would object.
fn item(replica: &Replica, owner: &str) -> Transaction {
    let mut change = Transaction::new();
    if replica.find(Item::OWNER, owner).expect("watched").is_none() {
        change.guard_absent::<Item>([Item::OWNER.is(owner)]);
        change.insert(&Item { owner: owner.to_owned() });
    }
    change
}

/// What the server has, asked over a good line; and all of it away again.
async fn check(seed: u64, direct: &Session) {
    let zero =
        Columns::from([("count".to_owned(), 0.into()), ("marks".to_owned(), Value::empty_map())]);
    let operations: [Operation; 4] = [
        Select::new(Root::TABLE).columns(["count"]).into(),
        Select::new(Item::TABLE).columns(["owner"]).into(),
        Update { row: zero, ..Update::new(Root::TABLE) }.into(),
        Delete::new(Item::TABLE).or_none().into(),
    ];
    let answers = direct.transact("Faults", &operations).await.unwrap().unwrap();
    let [Answer::Rows(root), Answer::Rows(items), ..] = &*answers else { panic!("{answers:?}") };
    let counted = Value::from(2 * COUNTS as i64);
    assert_eq!(root[0]["count"], counted, "seed {seed}: an update was lost, or done twice");
    let mut owners: Vec<String> = items.iter().map(|row| row["owner"].to_string()).collect();
    owners.sort();
    let each = |name: &'static str| (0..ITEMS).map(move |n| format!("\"{name}{n}\""));
    let all: Vec<String> = each("a").chain(each("b")).collect();
    assert_eq!(owners, all, "seed {seed}: a row was lost, or is there twice");
}
