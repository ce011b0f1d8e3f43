//! The client against a server that says exactly what a test wants it to say:
//! older servers, servers that are wrong, and moments too short to catch with
//! a real one.

use std::time::Duration;

use ovsdb::reply::ErrorKind;
use ovsdb::session::{CallError, SessionEnd};
use ovsdb::{
    Builder, Change, Client, Column, Remote, Replica, Session, SessionOptions, Status,
    TransactError, Transaction, Watch,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{UnixListener, UnixStream};

const SOON: Duration = Duration::from_secs(20);
const ROW: &str = "00000000-0000-0000-0000-000000000001";
const NIL: &str = "00000000-0000-0000-0000-000000000000";
const TXN_1: &str = "11111111-1111-1111-1111-111111111111";
const TXN_2: &str = "22222222-2222-2222-2222-222222222222";

ovsdb::tables! {
    /// The only table here.
    struct Thing = "Thing" {
        /// Its name.
        NAME name: String,
        /// Some numbers.
        NUMBERS numbers: std::collections::BTreeSet<i64>,
    }
}

fn schema() -> Value {
    json!({"name": "db", "version": "1.0.0", "tables": {"Thing": {"isRoot": true, "columns": {
        "name": {"type": "string"},
        "numbers": {"type": {"key": "integer", "min": 0, "max": "unlimited"}}}}}})
}

fn server_schema() -> Value {
    let optional = |kind: &str| json!({"type": {"key": kind, "min": 0}});
    json!({"name": "_Server", "version": "1.2.0", "tables": {"Database": {"columns": {
        "name": {"type": "string"},
        "model": {"type": "string"},
        "connected": {"type": "boolean"},
        "leader": {"type": "boolean"},
        "schema": optional("string"),
        "sid": optional("uuid"),
        "index": optional("integer")}}}})
}

/// What `_Server` says of a clustered database.
fn member(leader: bool, index: i64) -> Value {
    json!({"name": "db", "model": "clustered", "connected": true, "leader": leader,
        "schema": schema().to_string(), "index": index})
}

/// A socket that a test serves itself.
struct Fake {
    _dir: TempDir,
    listener: UnixListener,
    remote: Remote,
}

impl Fake {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        Self { _dir: dir, listener, remote: Remote::unix(path) }
    }

    fn client(&self) -> Builder {
        self.client_of_nothing().watch::<Thing>()
    }

    fn client_of_nothing(&self) -> Builder {
        let client = Client::builder("db").remote(self.remote.clone()).in_order();
        let client = client.backoff(Duration::from_millis(1), Duration::from_millis(10));
        client.signature("")
    }

    async fn accept(&self) -> Peer<UnixStream> {
        let accepted = tokio::time::timeout(SOON, self.listener.accept()).await;
        Peer { stream: accepted.expect("it connects").unwrap().0, buffer: Vec::new() }
    }
}

/// The server's end of a connection.
struct Peer<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncReadExt + AsyncWriteExt + Unpin> Peer<S> {
    async fn next(&mut self) -> Option<Value> {
        loop {
            let mut messages =
                serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
            if let Some(Ok(message)) = messages.next() {
                let bytes = messages.byte_offset();
                self.buffer.drain(..bytes);
                return Some(message);
            }
            let read = tokio::time::timeout(SOON, self.stream.read_buf(&mut self.buffer)).await;
            match read.expect("it says something") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next message, which must call `method`: its parameters and its id.
    async fn expect(&mut self, method: &str) -> (Value, Value) {
        let message = self.next().await.unwrap_or_else(|| panic!("no {method}, but an end"));
        assert_eq!(message["method"], method, "{message}");
        (message["params"].clone(), message["id"].clone())
    }

    /// Sends all messages in one piece.
    async fn send(&mut self, messages: &[Value]) {
        let text: String = messages.iter().map(Value::to_string).collect();
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn answer(&mut self, method: &str, result: Value) -> Value {
        let (params, id) = self.expect(method).await;
        self.send(&[json!({"id": id, "result": result, "error": null})]).await;
        params
    }

    async fn refuse(&mut self, method: &str, error: Value) -> Value {
        let (params, id) = self.expect(method).await;
        self.send(&[json!({"id": id, "error": error})]).await;
        params
    }

    /// All that comes before the data are watched.
    async fn greet(&mut self, database: Value) {
        self.answer("set_db_change_aware", json!({})).await;
        self.answer("get_schema", server_schema()).await;
        let rows = json!({"Database": {ROW: {"initial": database}}});
        self.answer("monitor_cond", rows).await;
    }

    /// All up to the data; returns the id of the monitor.
    async fn serve(&mut self, found: bool, last: &str, rows: Value) -> Value {
        self.greet(member(true, 1)).await;
        self.answer("get_schema", schema()).await;
        let params = self.answer("monitor_cond_since", json!([found, last, rows])).await;
        params[1].clone()
    }

    /// The id from which the client wants to go on.
    async fn serve_and_see_last(&mut self, rows: Value) -> String {
        self.greet(member(true, 1)).await;
        self.answer("get_schema", schema()).await;
        let params = self.answer("monitor_cond_since", json!([false, TXN_1, rows])).await;
        params[3].as_str().unwrap().to_owned()
    }
}

fn update3(monitor: &Value, last: &str, row: Value) -> Value {
    json!({"id": null, "method": "update3", "params": [monitor, last, {"Thing": {ROW: row}}]})
}

fn named(name: &str) -> Value {
    json!({"Thing": {ROW: {"initial": {"name": name}}}})
}

fn name_is(name: &'static str) -> impl Fn(&Replica) -> Option<()> {
    move |replica| {
        let row = replica.rows_of("Thing").ok()?.next()?.1;
        (row.get("name")? == &ovsdb::Value::from(name)).then_some(())
    }
}

#[track_caller]
fn trouble(status: &Status) -> Option<String> {
    let Status::Connecting { troubles } = status else { return None };
    troubles.last().map(|(_, trouble)| trouble.to_string())
}

#[tokio::test]
async fn an_older_server_is_watched_by_older_methods() {
    let fake = Fake::new();
    let server = async {
        let mut peer = fake.accept().await;
        peer.refuse("set_db_change_aware", json!("unknown method")).await;
        peer.refuse("get_schema", json!({"error": "unknown database", "details": "_Server"})).await;
        peer.answer("get_schema", schema()).await;
        peer.refuse("monitor_cond_since", json!("unknown method")).await;
        peer.refuse("monitor_cond", json!("unknown method")).await;
        let rows = json!({"Thing": {ROW: {"new": {"name": "a", "numbers": ["set", []]}}}});
        let params = peer.answer("monitor", rows).await;
        assert_eq!(params[2], json!({"Thing": [{"columns": ["name", "numbers"]}]}));
        let update = json!({"old": {"name": "a"}, "new": {"name": "b", "numbers": 5}});
        let params = json!([params[1], {"Thing": {ROW: update}}]);
        peer.send(&[json!({"id": null, "method": "update", "params": params})]).await;
        peer
    };
    let (client, _peer) = tokio::join!(fake.client().connect(), server);
    let client = client.unwrap();
    assert_eq!(client.ready().unwrap().monitor, Some("monitor"));
    client.wait_for(SOON, name_is("b")).await.expect("the update");
    let numbers = client.read(|r| r.only::<Thing>().unwrap().unwrap().row.numbers);
    assert_eq!(numbers, [5].into());
}

#[tokio::test]
async fn the_middle_method_speaks_deltas() {
    let fake = Fake::new();
    let server = async {
        let mut peer = fake.accept().await;
        peer.greet(member(true, 1)).await;
        peer.answer("get_schema", schema()).await;
        peer.refuse("monitor_cond_since", json!("unknown method")).await;
        let params = peer.answer("monitor_cond", named("a")).await;
        let params = json!([params[1], {"Thing": {ROW: {"modify": {"name": "b"}}}}]);
        peer.send(&[json!({"id": null, "method": "update2", "params": params})]).await;
        peer
    };
    let (client, _peer) = tokio::join!(fake.client().connect(), server);
    let client = client.unwrap();
    assert_eq!(client.ready().unwrap().monitor, Some("monitor_cond"));
    client.wait_for(SOON, name_is("b")).await.expect("the update");
}

#[tokio::test]
async fn a_filter_is_never_left_out() {
    let fake = Fake::new();
    let name: Column<Thing, String> = Thing::NAME;
    let filtered = Watch::of::<Thing>().any_of([name.is("a")]);
    let client = fake.client_of_nothing().watch_table(filtered);
    let server = async {
        let mut peer = fake.accept().await;
        peer.greet(member(true, 1)).await;
        peer.answer("get_schema", schema()).await;
        peer.refuse("monitor_cond_since", json!("unknown method")).await;
        peer.refuse("monitor_cond", json!("unknown method")).await;
        assert_eq!(peer.next().await, None);
    };
    let (error, ()) = tokio::join!(client.connect(), server);
    let error = std::error::Error::source(&error.unwrap_err()).unwrap().to_string();
    assert_eq!(error, "the server cannot filter what is watched");
}

/// Contents, and updates of them, in one piece: all that is in the pipe when
/// the reply is read.
#[tokio::test]
async fn updates_on_the_heels_of_the_contents() {
    let fake = Fake::new();
    let server = async {
        let mut peer = fake.accept().await;
        peer.greet(member(true, 1)).await;
        peer.answer("get_schema", schema()).await;
        let (params, id) = peer.expect("monitor_cond_since").await;
        peer.send(&[
            json!({"id": id, "result": [false, TXN_1, named("a")], "error": null}),
            update3(&params[1], TXN_2, json!({"modify": {"numbers": 1}})),
            update3(
                &params[1],
                TXN_2,
                json!({"modify": {"name": "b", "numbers": ["set", [1, 2]]}}),
            ),
        ])
        .await;
        peer
    };
    let (client, _peer) = tokio::join!(fake.client().connect(), server);
    let client = client.unwrap();
    client.wait_for(SOON, name_is("b")).await.expect("both updates");
    let thing = client.read(|r| r.only::<Thing>().unwrap().unwrap());
    assert_eq!(thing.numbers, [2].into());
}

#[tokio::test]
async fn a_watch_goes_on_from_the_last_transaction() {
    let fake = Fake::new();
    let subscribed = tokio::sync::Notify::new();
    let server = async {
        let mut peer = fake.accept().await;
        peer.serve(false, TXN_1, named("a")).await;
        subscribed.notified().await;
        drop(peer);
        // Nothing came but the contents: their own id is the last.
        let mut peer = fake.accept().await;
        peer.greet(member(true, 1)).await;
        peer.answer("get_schema", schema()).await;
        let delta = json!({"Thing": {ROW: {"modify": {"name": "b"}}}});
        let params = peer.answer("monitor_cond_since", json!([true, TXN_1, delta])).await;
        assert_eq!(params[3], TXN_1);
        peer.send(&[update3(&params[1], TXN_2, json!({"modify": {"name": "c"}}))]).await;
        peer
    };
    let work = async {
        let client = fake.client().connect().await.unwrap();
        let mut changes = client.changes::<Thing>().unwrap();
        assert!(matches!(changes.next().await, Some(Ok(Change::Inserted(t))) if t.name == "a"));
        subscribed.notify_one();
        client.wait_for(SOON, name_is("c")).await.expect("the update");
        let seen = changes.next().await.unwrap().unwrap();
        assert!(matches!(seen, Change::Modified { .. }), "{seen:?}");
        client
    };
    let (client, mut peer) = tokio::join!(work, server);
    assert!(client.ready().unwrap().resumed);
    // From now on, the id of the update.
    peer.stream.shutdown().await.unwrap();
    drop(peer);
    let mut peer = fake.accept().await;
    assert_eq!(peer.serve_and_see_last(named("c")).await, TXN_2);
}

/// After an update that cannot be true, the copy is worth nothing, and neither
/// is the id that it goes up to.
#[tokio::test]
async fn what_cannot_be_true_is_fetched_anew() {
    for wrong in [
        json!({"insert": {"name": "twice"}}),
        json!({"modify": {"name": "a"}}),
        json!({"modify": {"nonsense": 1}}),
        json!({"modify": {"name": 7}}),
        json!("nonsense"),
    ] {
        let fake = Fake::new();
        let server = async {
            let mut peer = fake.accept().await;
            let monitor = peer.serve(false, TXN_1, named("a")).await;
            peer.send(&[update3(&monitor, TXN_2, wrong.clone())]).await;
            let mut again = fake.accept().await;
            assert_eq!(again.serve_and_see_last(named("b")).await, NIL, "{wrong}");
            (peer, again)
        };
        let work = async {
            let client = fake.client().connect().await.unwrap();
            client.wait_for(SOON, name_is("b")).await.expect("the truth");
        };
        tokio::join!(work, server);
    }
}

/// A guard is made from the copy. If it fails again and again and no update
/// says why, it is the copy that is wrong.
#[tokio::test]
async fn a_copy_that_does_not_fit_is_doubted() {
    let fake = Fake::new();
    let server = async {
        let mut peer = fake.accept().await;
        peer.serve(false, TXN_1, named("wrong")).await;
        let mut conflicts = 0;
        while let Some(message) = peer.next().await {
            assert_eq!(message["method"], "transact");
            conflicts += 1;
            let failed = json!([{"error": "timed out"}, null]);
            peer.send(&[json!({"id": message["id"], "result": failed, "error": null})]).await;
        }
        assert_eq!(conflicts, 5);
        let mut peer = fake.accept().await;
        assert_eq!(peer.serve_and_see_last(named("right")).await, NIL);
        let params = peer.answer("transact", json!([{}, {"count": 1}])).await;
        assert_eq!(params[1]["rows"], json!([{"name": "right"}]));
    };
    let work = async {
        let client = fake.client().connect().await.unwrap();
        let build = |replica: &Replica| {
            let thing = replica.only::<Thing>().unwrap().unwrap();
            let mut change = Transaction::new();
            change.guard_unchanged(Thing::NAME, thing.uuid, &thing.name);
            let update = ovsdb::operation::Update::new("Thing").set("name", "new");
            change.push(update.or_none());
            change
        };
        client.edit_with(SOON, build).await.unwrap()
    };
    let (edited, ()) = tokio::join!(work, server);
    assert_eq!(edited.attempts, 6);
}

#[tokio::test]
async fn a_cancelled_watch_begins_again() {
    let fake = Fake::new();
    let server = async {
        let mut peer = fake.accept().await;
        let first = peer.serve(false, TXN_1, named("a")).await;
        let canceled =
            |id: &Value| json!({"id": null, "method": "monitor_canceled", "params": [id]});
        peer.send(&[canceled(&json!("somebody else's")), canceled(&first)]).await;
        // On the same connection, with another id: the old one is history.
        peer.answer("get_schema", schema()).await;
        let params = peer.answer("monitor_cond_since", json!([false, TXN_2, named("b")])).await;
        assert_ne!(params[1], first);
        peer.send(&[update3(&first, TXN_2, json!({"modify": {"name": "from the past"}}))]).await;
        peer.send(&[update3(&params[1], TXN_2, json!({"modify": {"name": "c"}}))]).await;
        peer
    };
    let (client, _peer) = tokio::join!(fake.client().connect(), server);
    client.unwrap().wait_for(SOON, name_is("c")).await.expect("the new watch");
}

#[tokio::test]
async fn a_follower_is_left_for_the_leader() {
    let (first, second) = (Fake::new(), Fake::new());
    let client = first.client().remote(second.remote.clone()).leader_only();
    let server = async {
        let mut peer = first.accept().await;
        peer.greet(member(false, 5)).await;
        assert_eq!(peer.next().await, None, "it is left");
        let mut leader = second.accept().await;
        leader.serve(false, TXN_1, named("a")).await;
        leader
    };
    let (client, mut leader) = tokio::join!(client.connect(), server);
    let client = client.unwrap();
    assert_eq!(client.ready().unwrap().remote, second.remote);
    // The leader steps down: back to the first, which leads now.
    let down = json!({"Database": {ROW: {"modify": {"leader": false}}}});
    let update = json!({"id": null, "method": "update2", "params": ["server", down]});
    let mut status = client.status();
    leader.send(&[update]).await;
    let mut peer = first.accept().await;
    peer.serve(false, TXN_1, named("a")).await;
    let there = |status: &Status| match status {
        Status::Ready(ready) => ready.remote == first.remote,
        _ => false,
    };
    tokio::time::timeout(SOON, status.wait_for(there)).await.unwrap().unwrap();
}

/// Its connection may live on in somebody's hands; its updates must not count.
#[tokio::test]
async fn what_a_server_says_after_it_was_left_is_not_taken() {
    let (first, second) = (Fake::new(), Fake::new());
    let client = first.client().remote(second.remote.clone()).leader_only();
    let (client, (mut old, monitor)) = tokio::join!(client.connect(), async {
        let mut peer = first.accept().await;
        let monitor = peer.serve(false, TXN_1, named("a")).await;
        (peer, monitor)
    });
    let client = client.unwrap();
    let held = client.ready().unwrap();
    let down = json!({"Database": {ROW: {"modify": {"leader": false}}}});
    old.send(&[json!({"id": null, "method": "update2", "params": ["server", down]})]).await;
    let mut new = second.accept().await;
    new.serve(false, TXN_1, named("b")).await;
    client.wait_for(SOON, name_is("b")).await.expect("the new server's");
    old.send(&[update3(&monitor, TXN_2, json!({"modify": {"name": "c"}}))]).await;
    let (echo, _) = tokio::join!(held.session.call("echo", &[1]), old.answer("echo", json!([1])));
    echo.expect("the update has been heard before");
    assert_eq!(client.read(name_is("b")), Some(()));
}

#[tokio::test]
async fn a_server_that_lags_is_left_alone() {
    let (first, second) = (Fake::new(), Fake::new());
    let client = first.client().remote(second.remote.clone()).start();
    let mut status = client.status();
    let mut peer = first.accept().await;
    peer.greet(member(true, 10)).await;
    peer.answer("get_schema", schema()).await;
    peer.answer("monitor_cond_since", json!([false, TXN_1, named("a")])).await;
    status.wait_for(|s| matches!(s, Status::Ready(_))).await.unwrap();
    drop(peer);
    let mut stale = second.accept().await;
    stale.greet(member(true, 9)).await;
    assert_eq!(stale.next().await, None, "it is left");
    let told = |s: &Status| trouble(s).as_deref() == Some("the server is at index 9, behind 10");
    tokio::time::timeout(SOON, status.wait_for(told)).await.unwrap().unwrap();
    // Unless the client is told to forget.
    client.forget_index();
    let mut fresh = first.accept().await;
    fresh.greet(member(true, 3)).await;
    fresh.answer("get_schema", schema()).await;
}

/// Ready and gone, time after time: the pauses must still come.
#[tokio::test]
async fn a_server_that_fails_at_once_is_not_hammered() {
    let fake = Fake::new();
    let pause = Duration::from_millis(200);
    let client = fake.client().backoff(pause, pause).start();
    let start = std::time::Instant::now();
    for _ in 0..4 {
        fake.accept().await.serve(false, TXN_1, named("a")).await;
    }
    // The first remote is tried at once, and so is nothing after it.
    assert!(3 * pause <= start.elapsed(), "{:?}", start.elapsed());
    client.close();
    assert_eq!(client.wait_for(SOON, |_| None::<()>).await, None, "nothing to wait for");
}

#[tokio::test]
async fn the_servers_no_is_not_a_yes() {
    let fake = Fake::new();
    let (client, mut peer) = tokio::join!(fake.client().connect(), async {
        let mut peer = fake.accept().await;
        peer.serve(false, TXN_1, named("a")).await;
        peer
    });
    let client = client.unwrap();
    let mut change = Transaction::new();
    change.insert(&Thing::default());
    for (reply, kind) in [
        (json!({"error": "canceled"}), ErrorKind::Canceled),
        (json!("unknown database"), ErrorKind::UnknownDatabase),
    ] {
        let (outcome, _) = tokio::join!(client.transact(&change), peer.refuse("transact", reply));
        let error = outcome.unwrap_err();
        assert!(error.is_conflict(), "{error:?}");
        let TransactError::Rejected(rejection) = error else { panic!() };
        assert_eq!(rejection.server_error().unwrap().kind, kind);
    }
    // A reply that makes no sense may hide a commit.
    let (outcome, _) = tokio::join!(client.transact(&change), peer.answer("transact", json!([])));
    assert!(outcome.unwrap_err().maybe_committed());
    // So may one that never comes.
    let (outcome, ()) = tokio::join!(client.transact(&change), async {
        peer.expect("transact").await;
        drop(peer);
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error, TransactError::Lost { maybe_committed: true, .. }), "{error:?}");
}

// From here on: sessions alone, over a pipe.

fn pipe(options: SessionOptions) -> (Session, Peer<DuplexStream>) {
    let (near, far) = tokio::io::duplex(4096);
    (Session::over(near, options), Peer { stream: far, buffer: Vec::new() })
}

#[tokio::test]
async fn replies_come_in_any_order() {
    let (session, mut peer) = pipe(SessionOptions::default());
    let server = async {
        let mut calls = Vec::new();
        for _ in 0..3 {
            calls.push(peer.expect("ask").await);
        }
        // Other things in between, a reply that nobody waits for among them.
        peer.send(&[
            json!({"id": null, "method": "gossip", "params": []}),
            json!({"id": 4711, "result": [], "error": null}),
            json!({"id": "strange", "result": [], "error": null}),
        ])
        .await;
        for (params, id) in calls.into_iter().rev() {
            let reply = json!({"id": id, "result": params, "error": null});
            peer.send(&[reply.clone(), reply]).await;
        }
    };
    let ask = |n: i64| {
        let session = session.clone();
        async move { session.call_as::<Vec<i64>>("ask", &[n]).await.unwrap() }
    };
    let (a, b, c, ()) = tokio::join!(ask(1), ask(2), ask(3), server);
    assert_eq!((a, b, c), (vec![1], vec![2], vec![3]));
}

#[tokio::test]
async fn an_echo_is_answered_during_a_wait() {
    let (session, mut peer) = pipe(SessionOptions::default());
    let server = async {
        let (_, id) = peer.expect("wait").await;
        for (params, echo_id) in [(json!([]), json!("echo")), (json!([1, {"a": null}]), json!([7]))]
        {
            peer.send(&[json!({"method": "echo", "params": params, "id": echo_id})]).await;
            let answer = json!({"id": echo_id, "result": params, "error": null});
            assert_eq!(peer.next().await, Some(answer));
        }
        peer.send(&[json!({"method": "dance", "params": [], "id": 1})]).await;
        let answer = json!({"id": 1, "result": null, "error": "unknown method"});
        assert_eq!(peer.next().await, Some(answer));
        peer.send(&[json!({"id": id, "result": 5, "error": null})]).await;
    };
    let (result, ()) = tokio::join!(session.call_as::<i64>("wait", &[0; 0]), server);
    assert_eq!(result.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn silence_is_asked_about_and_then_the_end() {
    let (session, mut peer) = pipe(SessionOptions::default().probe(Some(Duration::from_secs(5))));
    let start = tokio::time::Instant::now();
    let (_, id) = peer.expect("echo").await;
    assert_eq!(start.elapsed().as_secs(), 5);
    peer.send(&[json!({"id": id, "result": [], "error": null})]).await;
    peer.expect("echo").await;
    assert_eq!(start.elapsed().as_secs(), 10);
    assert!(matches!(*session.ended().await, SessionEnd::Silent(_)));
    assert_eq!(start.elapsed().as_secs(), 15);
}

/// A long reply over a slow line is no silence, though no message is whole.
#[tokio::test(start_paused = true)]
async fn every_byte_is_a_sign_of_life() {
    let (session, mut peer) = pipe(SessionOptions::default().probe(Some(Duration::from_secs(5))));
    let server = async {
        let (_, id) = peer.expect("ask").await;
        let reply = json!({"id": id, "result": "x".repeat(40), "error": null}).to_string();
        for byte in reply.as_bytes() {
            tokio::time::sleep(Duration::from_secs(4)).await;
            peer.stream.write_all(&[*byte]).await.unwrap();
        }
    };
    let (result, ()) = tokio::join!(session.call_as::<String>("ask", &[0; 0]), server);
    assert_eq!(result.unwrap().len(), 40);
    assert_eq!(peer.buffer, b"", "it was not even asked");
}

/// What never left cannot have been done; what left may have been.
#[tokio::test]
async fn a_lost_call_knows_whether_it_was_sent() {
    let (session, mut peer) = pipe(SessionOptions::default());
    let (small, huge) = ([0; 0], ["x".repeat(100_000)]);
    let (first, second, ()) =
        tokio::join!(session.call("small", &small), session.call("huge", &huge), async {
            peer.expect("small").await;
            drop(peer);
        });
    let sent = |outcome: Result<_, CallError>| match outcome {
        Err(CallError::Lost { sent, .. }) => sent,
        other => panic!("{other:?}"),
    };
    assert!(sent(first));
    assert!(!sent(second));
    assert!(!sent(session.call("late", &small).await));
    assert!(session.is_over());
}

#[tokio::test]
async fn what_is_not_json_rpc_is_the_end() {
    check("HTTP/1.1 400 Bad Request", "a message begins with `H`, not with `{`").await;
    check(r#"{"id":1,]"#, "a message is not JSON").await;
    check("{}", "a message is neither request nor reply").await;
    check(r#"{"a": "much too long a message for this one"}"#, "a message is longer than 40 bytes")
        .await;

    async fn check(text: &str, why: &str) {
        let (session, mut peer) = pipe(SessionOptions::default().message_bytes_max(40));
        peer.stream.write_all(text.as_bytes()).await.unwrap();
        let end = session.ended().await;
        let source = std::error::Error::source(&*end).map(ToString::to_string).unwrap_or_default();
        assert!(source.starts_with(why), "{text}: {end}: {source}");
    }
}

#[tokio::test]
async fn a_dropped_transact_is_cancelled_and_others_are_not() {
    let (session, mut peer) = pipe(SessionOptions::default());
    for method in ["transact", "ask"] {
        let call = tokio::time::timeout(Duration::from_millis(20), session.call(method, &[0; 0]));
        let (outcome, (_, id)) = tokio::join!(call, peer.expect(method));
        assert!(outcome.is_err());
        if method == "transact" {
            let (params, none) = peer.expect("cancel").await;
            assert_eq!((params, none), (json!([id]), Value::Null));
        }
    }
    let (_, _) = tokio::join!(session.call("last", &[0; 0]), peer.answer("last", json!(0)));
}
