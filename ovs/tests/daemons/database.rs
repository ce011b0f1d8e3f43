//! One server, one database: operations, replies, the replica, witnesses.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use ovsdb::operation::{
    Columns, Delete, Insert, Mutate, Mutation, Mutator, Operation, Select, Update, Wait,
};
use ovsdb::reply::{Answer, ErrorKind, Rejection};
use ovsdb::vswitch::{
    Bridge, Controller, FlowSampleCollectorSet, Interface, Ipfix, Manager, Mirror, NetFlow,
    OpenVswitch, Port, Qos, Queue, Sflow, Ssl,
};
use ovsdb::{
    Change, Client, EditError, Entry, LockState, Marker, ReadError, Ref, Remote, Replica, Session,
    SessionOptions, Table, TransactError, Transaction, Uuid, UuidName, Value, Watch,
};

use crate::lab::{SOON, Server, VSWITCH_SCHEMA, free_port, output, quick};

crate::tests! { &["ovsdb-server", "ovsdb-tool", "ovsdb-client", "ovs-vsctl", "setpriv", VSWITCH_SCHEMA];
    every_operation_is_understood
    every_typed_column_is_in_the_schema
    what_we_write_others_read
    what_others_write_we_see
    two_thousand_requests_at_once
    a_row_that_is_missed_stops_everything
    errors_at_commit_are_seen
    unlinked_rows_vanish
    a_map_keeps_what_is_there
    names_of_rows_are_checked
    a_wait_without_hope_does_not_block
    an_abandoned_wait_is_cancelled
    the_update_is_there_before_the_reply
    the_log_says_who_did_it
    a_restart_is_neither_gap_nor_double
    a_restart_is_waited_for
    a_missing_column_is_left_out
    a_converted_database_is_watched_anew
    locks_are_passed_on
    a_stopped_server_ends_the_wait
    a_probed_connection_stays
    a_dead_tcp_server_is_noticed
    edits_meet_and_none_is_lost
    an_edit_is_done_once
    five_thousand_ports_at_once
    a_filter_is_the_servers
    no_such_server
}

/// The bridge, and all that makes it up, in one transaction.
pub(crate) fn add_bridge(transaction: &mut Transaction, root: Uuid, name: &str) -> Ref<Bridge> {
    let interface = Interface { name: name.into(), kind: "internal".into(), ..Default::default() };
    let interfaces = [transaction.insert(&interface)].into();
    let port = transaction.insert(&Port { name: name.into(), interfaces, ..Default::default() });
    let bridge = Bridge { name: name.into(), ports: [port].into(), ..Default::default() };
    let bridge = transaction.insert(&bridge);
    transaction.add(OpenVswitch::BRIDGES, root, [bridge.clone()]);
    bridge
}

pub(crate) fn root(replica: &Replica) -> Entry<OpenVswitch> {
    replica.only::<OpenVswitch>().expect("watched").expect("initialised")
}

/// Watches what most tests look at.
pub(crate) async fn connect(server: &Server) -> Client {
    let client = server.client().watch::<OpenVswitch>().watch::<Bridge>();
    client.watch::<Port>().watch::<Interface>().connect().await.expect("a server")
}

fn names(replica: &Replica) -> BTreeSet<String> {
    replica.rows::<Bridge>().expect("watched").into_iter().map(|b| b.row.name).collect()
}

async fn every_operation_is_understood() {
    let server = Server::vswitch();
    let session = Session::connect(&server.remote(), SessionOptions::default()).await.unwrap();
    let transact = |operations: Vec<Operation>| {
        let session = session.clone();
        async move { session.transact("Open_vSwitch", &operations).await.unwrap() }
    };
    let name = || UuidName::new("q").unwrap();
    let row = || Ref::<Qos>::named(name());
    let answers = transact(vec![
        Insert::new("QoS").set("type", "linux-htb").named(name()).into(),
        Update::new("QoS").row(row()).set("other_config", Value::empty_map()).into(),
        Mutate::new("QoS")
            .row(row())
            .by(Qos::OTHER_CONFIG.insert([("a".to_owned(), "1".to_owned())]))
            .by(Qos::OTHER_CONFIG.insert([("b".to_owned(), "2".to_owned())]))
            .by(Qos::OTHER_CONFIG.delete(["a".to_owned()]))
            .into(),
        Select::new("QoS").row(row()).columns(["type", "other_config"]).into(),
        Wait::exists("QoS", vec![Qos::TYPE.is("linux-htb")]).into(),
        Wait::absent("QoS", vec![Qos::TYPE.is("other")]).within(SOON).into(),
        Operation::Comment("all of them".into()),
        Operation::Commit { durable: true },
    ])
    .await
    .unwrap();
    let config = Value::map([("b".into(), "2".into())]).unwrap();
    let found =
        Columns::from([("other_config".into(), config), ("type".into(), "linux-htb".into())]);
    let Answer::Inserted(uuid) = answers[0] else { panic!("{answers:?}") };
    assert_eq!(
        answers[1..],
        [
            Answer::Count(1),
            Answer::Count(1),
            Answer::Rows(vec![found]),
            Answer::Done,
            Answer::Done,
            Answer::Done,
            Answer::Done,
        ]
    );

    let gone = transact(vec![Delete::new("QoS").uuid(uuid).into()]).await.unwrap();
    assert_eq!(gone, [Answer::Count(1)]);

    let aborted = transact(vec![Insert::new("QoS").into(), Operation::Abort]).await.unwrap_err();
    assert_eq!(aborted.server_error().unwrap().kind, ErrorKind::Aborted);
    let unowned = transact(vec![Operation::Assert { lock: "l".into() }]).await.unwrap_err();
    assert_eq!(unowned.server_error().unwrap().kind, ErrorKind::NotOwner);
    let chosen = Uuid::from_u128(0x11111111_2222_4333_8444_555555555555);
    let insert = || Insert::new("QoS").with_uuid(chosen).into();
    assert_eq!(transact(vec![insert()]).await.unwrap(), [Answer::Inserted(chosen)]);
    let twice = transact(vec![insert()]).await.unwrap_err();
    assert_eq!(twice.server_error().unwrap().kind, ErrorKind::DuplicateUuid);
    // A sum beyond 64 bits is an error, not a wrong number.
    let next_cfg = Mutation::new("next_cfg", Mutator::Plus, i64::MAX);
    let one = Mutation::new("next_cfg", Mutator::Plus, 1);
    let beyond = Mutate::new("Open_vSwitch").by(next_cfg).by(one).into();
    assert_eq!(
        transact(vec![beyond]).await.unwrap_err().server_error().unwrap().kind,
        ErrorKind::Range
    );
    let exact = Update::new("Open_vSwitch").set("next_cfg", i64::MAX - 1).into();
    let read = Select::new("Open_vSwitch").columns(["next_cfg"]).into();
    let answers = transact(vec![exact, read]).await.unwrap();
    let next_cfg = Columns::from([("next_cfg".into(), (i64::MAX - 1).into())]);
    assert_eq!(answers[1], Answer::Rows(vec![next_cfg]));
}

async fn every_typed_column_is_in_the_schema() {
    let server = Server::vswitch();
    let all = server.client().watch::<OpenVswitch>().watch::<Bridge>().watch::<Port>();
    let all = all.watch::<Interface>().watch::<Mirror>().watch::<Qos>().watch::<Queue>();
    let all = all.watch::<Controller>().watch::<Manager>().watch::<Sflow>().watch::<NetFlow>();
    let all = all.watch::<Ipfix>().watch::<FlowSampleCollectorSet>().watch::<Ssl>();
    let client = all.connect().await.unwrap();
    let ready = client.ready().unwrap();
    assert_eq!(ready.left_out, []);
    assert_eq!(ready.monitor, Some("monitor_cond_since"));
    assert_eq!(ready.schema.version, "8.3.1");
}

/// One of each table, read back by `ovs-vsctl` and `ovsdb-client`.
async fn what_we_write_others_read() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let root = client.read(root).uuid;
    let strings = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let mut change = Transaction::new();
    let interface = Interface {
        name: "eth0.10-x".into(),
        kind: "patch".into(),
        options: strings("peer", "p"),
        ofport_request: Some(7),
        mtu_request: Some(9000),
        ..Default::default()
    };
    let interface = change.insert(&interface);
    let queue =
        Queue { dscp: Some(46), other_config: strings("max-rate", "1000"), ..Default::default() };
    let queue = change.insert(&queue);
    let qos = Qos { kind: "linux-htb".into(), queues: [(7, queue)].into(), ..Default::default() };
    let qos = change.insert(&qos);
    let port = change.insert(&Port {
        name: "eth0.10-x".into(),
        interfaces: [interface].into(),
        trunks: [1, 2, 4095].into(),
        tag: Some(4095),
        qos: Some(qos),
        external_ids: strings("mark", "a \"b\"\n{é}"),
        ..Default::default()
    });
    let mirror = Mirror {
        name: "m".into(),
        select_src_port: [port.clone()].into(),
        output_vlan: Some(9),
        ..Default::default()
    };
    let mirror = change.insert(&mirror);
    let controller = Controller {
        target: "tcp:127.0.0.1:6653".into(),
        max_backoff: Some(1000),
        ..Default::default()
    };
    let controller = change.insert(&controller);
    let netflow = NetFlow {
        targets: ["127.0.0.1:2055".into()].into(),
        active_timeout: -1,
        ..Default::default()
    };
    let netflow = change.insert(&netflow);
    let sflow = change.insert(&Sflow {
        targets: ["127.0.0.1:6343".into(), "127.0.0.2:6343".into()].into(),
        sampling: Some(64),
        ..Default::default()
    });
    let ipfix = Ipfix {
        targets: ["127.0.0.1:4739".into()].into(),
        sampling: Some(4_294_967_295),
        ..Default::default()
    };
    let ipfix = change.insert(&ipfix);
    let bridge = change.insert(&Bridge {
        name: "b.1.1".into(),
        ports: [port].into(),
        mirrors: [mirror].into(),
        controller: [controller].into(),
        netflow: Some(netflow),
        sflow: Some(sflow),
        ipfix: Some(ipfix),
        fail_mode: Some("secure".into()),
        protocols: ["OpenFlow10".into(), "OpenFlow15".into()].into(),
        ..Default::default()
    });
    let set = FlowSampleCollectorSet { id: 3, bridge: bridge.clone(), ..Default::default() };
    change.insert(&set);
    let manager =
        change.insert(&Manager { target: "ptcp:0:127.0.0.1".into(), ..Default::default() });
    let ssl = change.insert(&Ssl {
        private_key: "k".into(),
        certificate: "c".into(),
        ca_cert: "a".into(),
        ..Default::default()
    });
    change.add(OpenVswitch::MANAGER_OPTIONS, root, [manager]);
    change.set(OpenVswitch::SSL, root, Some(ssl));
    change.add(OpenVswitch::BRIDGES, root, [bridge.clone()]);
    let committed = client.transact(&change).await.unwrap();

    let get = |table: &str, row: &str, column: &str| server.vsctl(&["get", table, row, column]);
    assert_eq!(server.vsctl(&["list-ports", "b.1.1"]), "eth0.10-x");
    assert_eq!(get("port", "eth0.10-x", "trunks"), "[1, 2, 4095]");
    assert_eq!(get("port", "eth0.10-x", "tag"), "4095");
    assert_eq!(get("port", "eth0.10-x", "external_ids"), r#"{mark="a \"b\"\n{é}"}"#);
    assert_eq!(get("interface", "eth0.10-x", "options"), "{peer=p}");
    assert_eq!(get("interface", "eth0.10-x", "mtu_request"), "9000");
    assert_eq!(get("mirror", "m", "output_vlan"), "9");
    assert_eq!(get("bridge", "b.1.1", "_uuid"), committed.uuid_of(&bridge).unwrap().to_string());
    assert_eq!(get("bridge", "b.1.1", "protocols"), "[OpenFlow10, OpenFlow15]");
    assert_eq!(server.vsctl(&["get-fail-mode", "b.1.1"]), "secure");
    assert_eq!(server.vsctl(&["get-controller", "b.1.1"]), "tcp:127.0.0.1:6653");
    assert_eq!(server.vsctl(&["get-manager"]), "ptcp:0:127.0.0.1");
    assert_eq!(server.vsctl(&["--bare", "--columns=ca_cert", "list", "ssl"]), "a");
    for (table, column, shown) in [
        ("QoS", "type", "linux-htb"),
        ("Queue", "dscp", "46"),
        ("NetFlow", "active_timeout", "-1"),
        ("sFlow", "sampling", "64"),
        ("IPFIX", "sampling", "4294967295"),
        ("Flow_Sample_Collector_Set", "id", "3"),
    ] {
        let database = server.remote().to_string();
        let dump =
            output("ovsdb-client", &["dump", "--bare", &database, "Open_vSwitch", table, column]);
        assert!(dump.lines().any(|line| line == shown), "{table}: {dump}");
    }
}

async fn what_others_write_we_see() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let mut bridges = client.changes::<Bridge>().unwrap();
    let mut ports = client.changes::<Port>().unwrap();
    server.vsctl(&["--", "add-br", "br0", "--", "set", "bridge", "br0", "fail_mode=secure"]);
    let Some(Ok(Change::Inserted(bridge))) = bridges.next().await else { panic!("no bridge") };
    assert_eq!((bridge.name.as_str(), bridge.fail_mode.as_deref()), ("br0", Some("secure")));
    let Some(Ok(Change::Inserted(port))) = ports.next().await else { panic!("no port") };

    server.vsctl(&["set", "port", "br0", "trunks=1,2,3", "external_ids:a=1", "external_ids:b=2"]);
    server.vsctl(&["set", "port", "br0", "trunks=2,4", "tag=5"]);
    server.vsctl(&["remove", "port", "br0", "external_ids", "a"]);
    server.vsctl(&["set", "port", "br0", "external_ids:b=3"]);
    server.vsctl(&["clear", "port", "br0", "tag"]);
    let as_written = |replica: &Replica| {
        let port = replica.get::<Port>(port.uuid).unwrap()?;
        (port.external_ids.get("b")? == "3" && port.tag.is_none()).then_some(port)
    };
    let seen = client.wait_for(SOON, as_written).await.expect("the last change");
    assert_eq!(seen.trunks, [2, 4].into());
    assert_eq!(seen.external_ids.len(), 1);
    let Some(Ok(Change::Modified { old, new })) = ports.next().await else { panic!("no change") };
    assert_eq!((old, new), (port.row, seen));

    // A late subscriber begins with what is there.
    let mut late = client.changes::<Bridge>().unwrap();
    assert!(matches!(late.next().await, Some(Ok(Change::Inserted(b))) if b.name == "br0"));
    server.vsctl(&["del-br", "br0"]);
    for changes in [&mut bridges, &mut late] {
        assert!(matches!(changes.next().await, Some(Ok(Change::Deleted(b))) if b.name == "br0"));
    }
    client.close();
    assert_eq!(bridges.next().await, None);
}

/// A writer that waits for the server to read, while the server waits for it
/// to read, waits for ever.
async fn two_thousand_requests_at_once() {
    let server = Server::vswitch();
    let session = Session::connect(&server.remote(), SessionOptions::default()).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..2000 {
        let session = session.clone();
        calls.spawn(async move {
            // The reply of each is the whole schema.
            session.call("get_schema", &["Open_vSwitch"]).await.unwrap().get().len()
        });
    }
    let lengths = calls.join_all().await;
    assert!(lengths.len() == 2000 && lengths.iter().all(|bytes| *bytes == lengths[0]));
}

async fn a_row_that_is_missed_stops_everything() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let root = client.read(root).uuid;
    let nobody = Uuid::from_u128(7);
    for missing in [
        Operation::from(Update::new("Port").uuid(nobody).set("tag", 1)),
        Mutate::new("Port").uuid(nobody).by(Port::TRUNKS.insert([1])).into(),
        Delete::new("QoS").uuid(nobody).into(),
    ] {
        let mut change = Transaction::new();
        change.put(OpenVswitch::EXTERNAL_IDS, root, [("first", "done")]);
        change.push(missing.clone());
        let error = client.transact(&change).await.unwrap_err();
        let TransactError::Rejected(Rejection::NoRow { index, operation, committed }) = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!((*index, &**operation, *committed), (1, &missing, false));
        assert!(!error.maybe_committed() && !error.is_conflict());
        assert_eq!(server.vsctl(&["get", "open", ".", "external_ids"]), "{}");

        // Sent without the proof, it is committed and still no success.
        let session = &client.ready().unwrap().session;
        let outcome = session.transact("Open_vSwitch", &[missing]).await.unwrap();
        assert!(matches!(outcome, Err(Rejection::NoRow { committed: true, .. })), "{outcome:?}");
    }
    let mut change = Transaction::new();
    change.push(Delete::new("QoS").uuid(nobody).or_none());
    assert_eq!(client.transact(&change).await.unwrap().answers, [Answer::Count(0)]);
}

async fn errors_at_commit_are_seen() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let root = client.read(root).uuid;
    let kind = |change: Transaction| {
        let client = client.clone();
        async move {
            let error = client.transact(&change).await.unwrap_err();
            let TransactError::Rejected(Rejection::Commit { source }) = error else {
                panic!("{error:?}")
            };
            source.kind
        }
    };
    let mut twice = Transaction::new();
    add_bridge(&mut twice, root, "br0");
    add_bridge(&mut twice, root, "br0");
    assert_eq!(kind(twice).await, ErrorKind::ConstraintViolation);
    let mut dangling = Transaction::new();
    let bridge = Ref::uuid(Uuid::from_u128(7));
    dangling.insert(&FlowSampleCollectorSet { id: 1, bridge, ..Default::default() });
    assert_eq!(kind(dangling).await, ErrorKind::ReferentialIntegrity);
}

async fn unlinked_rows_vanish() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let mut change = Transaction::new();
    let bridge = change.insert(&Bridge { name: "lost".into(), ..Default::default() });
    let qos = change.insert(&Qos { kind: "linux-htb".into(), ..Default::default() });
    let committed = client.transact(&change).await.expect("the server says nothing");
    assert!(committed.uuid_of(&bridge).is_some());
    assert_eq!(client.read(names), BTreeSet::new());
    // A root stays, and must be deleted.
    assert_eq!(server.vsctl(&["--bare", "--columns=type", "list", "qos"]), "linux-htb");
    let mut change = Transaction::new();
    change.delete::<Qos>(committed.uuid_of(&qos).unwrap());
    client.transact(&change).await.unwrap();
    assert_eq!(server.vsctl(&["list", "qos"]), "");
}

async fn a_map_keeps_what_is_there() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let root = client.read(root).uuid;
    server.vsctl(&["set", "open", ".", "external_ids:theirs=1", "external_ids:ours=old"]);
    let get = || server.vsctl(&["get", "open", ".", "external_ids"]);
    let pair = || [("ours".to_owned(), "new".to_owned())];
    let mut change = Transaction::new();
    change.add(OpenVswitch::EXTERNAL_IDS, root, pair());
    client.transact(&change).await.unwrap();
    assert_eq!(get(), "{ours=old, theirs=\"1\"}");
    let mut change = Transaction::new();
    change.put(OpenVswitch::EXTERNAL_IDS, root, pair());
    client.transact(&change).await.unwrap();
    assert_eq!(get(), "{ours=new, theirs=\"1\"}");
    let mut change = Transaction::new();
    change.remove(OpenVswitch::EXTERNAL_IDS, root, ["ours".to_owned(), "nobody's".to_owned()]);
    let place = change.select::<OpenVswitch>([]);
    let committed = client.transact(&change).await.unwrap();
    let selected = committed.selected::<OpenVswitch>(place).unwrap();
    assert_eq!(selected, [client.read(self::root)]);
    assert_eq!(get(), "{theirs=\"1\"}");
}

async fn names_of_rows_are_checked() {
    let server = Server::vswitch();
    assert!(UuidName::new("v1-bad").is_err());
    let session = Session::connect(&server.remote(), SessionOptions::default()).await.unwrap();
    // What a client without the check would see.
    let params = serde_json::json!(["Open_vSwitch",
        {"op": "insert", "table": "QoS", "uuid-name": "v1-bad", "row": {}}]);
    let reply = session.call("transact", &params).await.unwrap();
    assert!(reply.get().contains("Type mismatch for member 'uuid-name'"), "{reply}");
}

async fn a_wait_without_hope_does_not_block() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let mut change = Transaction::new();
    change.guard_present::<Bridge>([Bridge::NAME.is("nowhere")]);
    let error = client.transact_within(SOON, &change).await.unwrap_err();
    assert!(error.is_conflict() && !error.maybe_committed(), "{error:?}");
    // A singleton is inserted only into an empty table.
    let mut change = Transaction::new();
    change.guard_absent::<OpenVswitch>([]);
    change.insert(&OpenVswitch::default());
    assert!(client.transact(&change).await.unwrap_err().is_conflict());
}

async fn an_abandoned_wait_is_cancelled() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let session = client.ready().unwrap().session.clone();
    let root = client.read(root).uuid;
    let mut change = Transaction::new();
    let hour = Duration::from_secs(3600);
    change.guard(Wait::exists("Bridge", vec![Bridge::NAME.is("later")]).within(hour));
    change.put(OpenVswitch::EXTERNAL_IDS, root, [("woken", "yes")]);
    let within = Duration::from_millis(100);
    let error = client.transact_within(within, &change).await.unwrap_err();
    assert!(matches!(error, TransactError::Late { maybe_committed: true, .. }), "{error:?}");
    // Had it not been cancelled, this would wake it.
    session.call("echo", &["after the cancel"]).await.unwrap();
    server.vsctl(&["add-br", "later"]);
    session.call("echo", &["after the bridge"]).await.unwrap();
    assert_eq!(server.vsctl(&["get", "open", ".", "external_ids"]), "{}");
}

async fn the_update_is_there_before_the_reply() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let root = client.read(root).uuid;
    for n in 0..200 {
        let mut change = Transaction::new();
        change.put(OpenVswitch::EXTERNAL_IDS, root, [("n", n.to_string())]);
        client.transact(&change).await.unwrap();
        let seen = client.read(|replica| self::root(replica).external_ids["n"].clone());
        assert_eq!(seen, n.to_string());
    }
}

async fn the_log_says_who_did_it() {
    let server = Server::vswitch();
    let client = server.client().signature("a test of ovsdb").watch::<OpenVswitch>();
    let client = client.connect().await.unwrap();
    let mut change = Transaction::new();
    change.put(OpenVswitch::EXTERNAL_IDS, client.read(root).uuid, [("a", "b")]);
    change.comment("because of this");
    client.transact(&change).await.unwrap();
    let file = server.path("conf.db").display().to_string();
    let log = output("ovsdb-tool", &["show-log", &file]);
    assert!(log.contains("a test of ovsdb") && log.contains("because of this"), "{log}");
    // By default, the program and its process.
    let mut change = Transaction::new();
    change.put(OpenVswitch::EXTERNAL_IDS, client.read(root).uuid, [("a", "c")]);
    connect(&server).await.transact(&change).await.unwrap();
    let log = output("ovsdb-tool", &["show-log", &file]);
    assert!(log.contains(&format!("pid {}", std::process::id())), "{log}");
}

async fn a_restart_is_neither_gap_nor_double() {
    let mut server = Server::vswitch();
    for bridge in ["stays", "changes", "goes"] {
        server.vsctl(&["add-br", bridge]);
    }
    let client = connect(&server).await;
    let mut bridges = client.changes::<Bridge>().unwrap();
    for _ in 0..3 {
        assert!(matches!(bridges.next().await, Some(Ok(Change::Inserted(_)))));
    }
    let mut status = client.status();
    server.kill();
    status.wait_for(|status| !matches!(status, ovsdb::Status::Ready(_))).await.unwrap();
    // What was last known can still be read.
    assert_eq!(client.read(names).len(), 3);
    // While the client is away, the world goes on: without the client's socket.
    let aside = server.path("aside.sock");
    let socket = server.path("db.sock");
    let _ = fs::remove_file(&socket);
    let mut elsewhere = server;
    elsewhere.start_aside("aside.sock");
    let db = format!("--db=unix:{}", aside.display());
    let vsctl = |args: &[&str]| output("ovs-vsctl", &[&[&db, "--no-wait"], args].concat());
    vsctl(&["set", "bridge", "changes", "external_ids:a=1"]);
    vsctl(&["del-br", "goes"]);
    vsctl(&["add-br", "comes"]);
    elsewhere.kill();
    elsewhere.start();

    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        seen.insert(match bridges.next().await.unwrap().unwrap() {
            Change::Inserted(bridge) => format!("+{}", bridge.row.name),
            Change::Modified { new, .. } => format!("~{}", new.row.name),
            Change::Deleted(bridge) => format!("-{}", bridge.row.name),
        });
    }
    assert_eq!(seen, ["+comes", "-goes", "~changes"].map(str::to_owned).into());
    // And nothing more: the next change is the next thing that happens.
    elsewhere.vsctl(&["add-br", "last"]);
    assert!(matches!(bridges.next().await, Some(Ok(Change::Inserted(b))) if b.name == "last"));
}

async fn a_restart_is_waited_for() {
    let mut server = Server::vswitch();
    let client = connect(&server).await;
    server.kill();
    let mut change = Transaction::new();
    add_bridge(&mut change, client.read(root).uuid, "br0");
    // Without a server, a deadline is a deadline.
    let error = client.transact_within(Duration::from_millis(200), &change).await.unwrap_err();
    assert!(!error.maybe_committed(), "{error:?}");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.transact_within(SOON, &change).await }
    });
    tokio::task::yield_now().await;
    server.start();
    waiting.await.unwrap().expect("the server is back");
    assert_eq!(server.vsctl(&["list-br"]), "br0");
}

async fn a_missing_column_is_left_out() {
    let mut schema: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(VSWITCH_SCHEMA).unwrap()).unwrap();
    let tables = schema["tables"].as_object_mut().unwrap();
    tables["Port"]["columns"].as_object_mut().unwrap().remove("protected");
    tables.remove("Flow_Sample_Collector_Set");
    // And one that this crate has never heard of.
    tables["Port"]["columns"]["from_the_future"] = serde_json::json!({"type": "integer"});
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), schema.to_string()).unwrap();
    let server = Server::of(file.path().to_str().unwrap(), &[]);
    server.vsctl(&["--", "init", "--", "add-br", "br0"]);

    let client = server.client().watch::<Port>();
    let optional = Watch::of::<FlowSampleCollectorSet>().optional();
    let client = client.watch_table(optional).connect().await.unwrap();
    let left_out: Vec<String> =
        client.ready().unwrap().left_out.iter().map(ToString::to_string).collect();
    assert_eq!(
        left_out,
        ["the column `protected` of `Port`", "the table `Flow_Sample_Collector_Set`"]
    );
    let port = client.read(|r| r.find(Port::NAME, "br0").unwrap().unwrap());
    assert!(!port.protected);
    assert_eq!(client.read(|r| r.rows::<FlowSampleCollectorSet>()).unwrap(), []);

    let required = server.client().watch_table(Watch::of::<Port>().require(["protected"]));
    let error = required.connect().await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the table `Port` has no column `protected`");
    let table = server.client().watch::<FlowSampleCollectorSet>().connect().await.unwrap_err();
    let source = std::error::Error::source(&table).unwrap().to_string();
    assert_eq!(source, "the database has no table `Flow_Sample_Collector_Set`");
    // To write it is the server's error, and says which operation.
    let mut change = Transaction::new();
    change.set(Port::PROTECTED, port.uuid, true);
    let error = client.transact(&change).await.unwrap_err();
    let TransactError::Rejected(Rejection::Operation { index: 0, source, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(source.kind, ErrorKind::UnknownColumn);
}

async fn a_converted_database_is_watched_anew() {
    let server = Server::vswitch();
    server.vsctl(&["add-br", "br0"]);
    let client = connect(&server).await;
    let session = client.ready().unwrap().session.clone();
    let mut schema: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(VSWITCH_SCHEMA).unwrap()).unwrap();
    schema["version"] = "8.99.0".into();
    schema["tables"]["Bridge"]["columns"]["added"] = serde_json::json!({"type": "integer"});
    fs::write(server.path("new.ovsschema"), schema.to_string()).unwrap();
    let file = server.path("new.ovsschema").display().to_string();
    let mut status = client.status();
    output("ovsdb-client", &["convert", &server.remote().to_string(), &file]);
    let converted = |status: &ovsdb::Status| match status {
        ovsdb::Status::Ready(ready) => ready.schema.version == "8.99.0",
        _ => false,
    };
    status.wait_for(converted).await.unwrap();
    // On the same connection: it is the data that are watched anew.
    assert!(!session.is_over());
    server.vsctl(&["add-br", "br1"]);
    let both = |replica: &Replica| (names(replica).len() == 2).then_some(());
    client.wait_for(SOON, both).await.expect("updates go on");
}

async fn locks_are_passed_on() {
    let mut server = Server::vswitch();
    let (first, second) = (connect(&server).await, connect(&server).await);
    assert!(first.lock("ovsns", SOON).await);
    assert!(!second.lock("ovsns", Duration::from_millis(100)).await);
    let root = first.read(root).uuid;
    let mut guarded = Transaction::new();
    guarded.assert_lock("ovsns");
    guarded.put(OpenVswitch::EXTERNAL_IDS, root, [("a", "b")]);
    first.transact(&guarded).await.expect("it holds the lock");
    let error = second.transact(&guarded).await.unwrap_err();
    let TransactError::Rejected(rejection) = error else { panic!("{error:?}") };
    assert_eq!(rejection.server_error().unwrap().kind, ErrorKind::NotOwner);

    // Given back, it goes to whoever waits.
    let mut state = second.lock_state();
    first.unlock();
    state.wait_for(|state| *state == LockState::Held).await.unwrap();
    second.transact(&guarded).await.expect("it holds the lock now");
    // Stolen, it is lost, and comes back when the thief lets go.
    assert!(first.steal_lock("ovsns", SOON).await);
    state.wait_for(|state| *state == LockState::Waiting).await.unwrap();
    first.unlock();
    state.wait_for(|state| *state == LockState::Held).await.unwrap();

    // A new connection asks again.
    server.kill();
    state.wait_for(|state| *state == LockState::Waiting).await.unwrap();
    server.start();
    state.wait_for(|state| *state == LockState::Held).await.unwrap();
    second.transact(&guarded).await.expect("it holds the lock again");
}

async fn a_stopped_server_ends_the_wait() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    server.signal("STOP");
    let mut change = Transaction::new();
    change.put(OpenVswitch::EXTERNAL_IDS, client.read(root).uuid, [("a", "b")]);
    let within = Duration::from_millis(300);
    let error = client.transact_within(within, &change).await.unwrap_err();
    assert!(matches!(error, TransactError::Late { maybe_committed: true, .. }), "{error:?}");
    server.signal("CONT");
    client.ready().unwrap().session.call("echo", &[1]).await.expect("it goes on");
}

/// The server probes on TCP, here after 1 s of silence, and drops who does not
/// answer. We do, while nobody calls and while a call waits.
async fn a_probed_connection_stays() {
    let port = free_port();
    let remotes = "--remote=db:Open_vSwitch,Open_vSwitch,manager_options".to_owned();
    let server = Server::of(VSWITCH_SCHEMA, &[remotes]);
    let manager = format!("target=\"ptcp:{port}:127.0.0.1\"");
    server.vsctl(&[
        "--",
        "init",
        "--",
        "--id=@m",
        "create",
        "manager",
        &manager,
        "inactivity_probe=1000",
        "--",
        "set",
        "open",
        ".",
        "manager_options=@m",
    ]);
    let remote: Remote = format!("tcp:127.0.0.1:{port}").parse().unwrap();
    let options = || SessionOptions::default().probe(None);
    let (idle, waiting) = (
        Session::connect(&remote, options()).await.unwrap(),
        Session::connect(&remote, options()).await.unwrap(),
    );
    let wait = Wait::exists("Bridge", vec![]).within(Duration::from_secs(5)).into();
    let outcome = waiting.transact("Open_vSwitch", &[wait]).await.expect("not dropped");
    assert_eq!(outcome.unwrap_err().server_error().unwrap().kind, ErrorKind::TimedOut);
    // Five seconds: a probe a second, and silence after it would have been the end.
    assert!(3 <= idle.traffic().messages_in, "{:?}", idle.traffic());
    idle.call("list_dbs", &[(); 0]).await.expect("not dropped");
}

async fn a_dead_tcp_server_is_noticed() {
    let port = free_port();
    let server = Server::of(VSWITCH_SCHEMA, &[format!("--remote=ptcp:{port}:127.0.0.1")]);
    server.vsctl(&["init"]);
    let remote: Remote = format!("tcp:127.0.0.1:{port}").parse().unwrap();
    let probe = Some(Duration::from_millis(300));
    let client = quick("Open_vSwitch").remote(remote).probe(probe).watch::<Bridge>();
    let client = client.connect().await.unwrap();
    let session = client.ready().unwrap().session.clone();
    // Probed and answered, it stays.
    let quiet = tokio::time::timeout(Duration::from_secs(2), session.ended()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    server.signal("STOP");
    let why = tokio::time::timeout(SOON, session.ended()).await.expect("it is noticed");
    assert!(matches!(*why, ovsdb::session::SessionEnd::Silent(_)), "{why}");
    server.signal("CONT");
    let mut status = client.status();
    status.wait_for(|status| matches!(status, ovsdb::Status::Ready(_))).await.unwrap();
}

/// Four writers, one number: read, add one, write.
async fn edits_meet_and_none_is_lost() {
    let server = Server::vswitch();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let client = connect(&server).await;
        writers.spawn(async move {
            let mut attempts = 0;
            for _ in 0..25 {
                let edited =
                    client.edit_with(SOON, |replica| increment(replica, "n")).await.unwrap();
                attempts += edited.attempts;
            }
            attempts
        });
    }
    let attempts: u32 = writers.join_all().await.into_iter().sum();
    assert_eq!(server.vsctl(&["get", "open", ".", "external_ids:n"]), "\"100\"");
    assert!(100 < attempts, "nobody ever met anybody");
}

/// Adds one to a number in `external_ids`, guarded by all of the column.
pub(crate) fn increment(replica: &Replica, key: &str) -> Transaction {
    let root = root(replica);
    let number = root.external_ids.get(key).map_or(0, |n| n.parse::<i64>().unwrap());
    let mut change = Transaction::new();
    change.guard_unchanged(OpenVswitch::EXTERNAL_IDS, root.uuid, &root.external_ids);
    change.put(OpenVswitch::EXTERNAL_IDS, root.uuid, [(key, (number + 1).to_string())]);
    change
}

async fn an_edit_is_done_once() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let uuid = client.read(root).uuid;
    let marker = Marker::new(OpenVswitch::EXTERNAL_IDS, uuid, "writer-1");
    let build = |replica: &Replica| Ok::<_, ReadError>(increment(replica, "n"));
    for n in 1..=3 {
        let edited = client.edit_once(SOON, &marker, build).await.unwrap();
        assert!(edited.committed.is_some() && edited.attempts == 1 && !edited.unsure);
        assert_eq!(server.vsctl(&["get", "open", ".", "external_ids:n"]), format!("\"{n}\""));
    }
    // A marker in a row that is not there is an error and not a hang.
    let nowhere = Marker::new(OpenVswitch::EXTERNAL_IDS, Uuid::from_u128(9), "writer-1");
    let error = client.edit_once(SOON, &nowhere, build).await.unwrap_err();
    assert!(matches!(
        error,
        EditError::Transact { source: TransactError::Rejected(Rejection::NoRow { .. }), .. }
    ));
    // Nor is an error of the caller's own.
    let error = client.edit(SOON, |_| Err::<Transaction, _>("mine")).await.unwrap_err();
    assert!(matches!(error, EditError::Build { source: "mine", maybe_committed: false }));
}

/// One by one takes minutes, at once a second or two, most of it the server's.
async fn five_thousand_ports_at_once() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let mut change = Transaction::new();
    let bridge = add_bridge(&mut change, client.read(root).uuid, "br0");
    for n in 0..5000 {
        let name = format!("p{n}");
        let interface =
            Interface { name: name.clone(), kind: "internal".into(), ..Default::default() };
        let interfaces = [change.insert(&interface)].into();
        let port = change.insert(&Port { name, interfaces, ..Default::default() });
        change.add(Bridge::PORTS, &bridge, [port]);
    }
    let bridge = client.transact(&change).await.unwrap().uuid_of(&bridge).unwrap();
    let ports = client.read(|replica| replica.get::<Bridge>(bridge).unwrap().unwrap().row.ports);
    assert_eq!(ports.len(), 5001);
    assert_eq!(client.read(|replica| replica.count(Interface::TABLE).unwrap()), 5001);
    assert_eq!(server.vsctl(&["list-ports", "br0"]).lines().count(), 5000);
    let mut change = Transaction::new();
    change.set(Bridge::PORTS, bridge, BTreeSet::new());
    client.transact(&change).await.unwrap();
    assert_eq!(client.read(|replica| replica.count(Port::TABLE).unwrap()), 0);
}

async fn a_filter_is_the_servers() {
    let server = Server::vswitch();
    for bridge in ["br0", "br1", "br2"] {
        server.vsctl(&["add-br", bridge]);
    }
    let some = Watch::of::<Bridge>().any_of([Bridge::NAME.is("br0"), Bridge::NAME.is("br2")]);
    let client = server.client().watch_table(some).connect().await.unwrap();
    assert_eq!(client.read(names), ["br0".to_owned(), "br2".to_owned()].into());
}

async fn no_such_server() {
    let server = Server::vswitch();
    let nowhere = Remote::unix(server.path("nowhere.sock"));
    let within = Duration::from_millis(300);
    let error = quick("Open_vSwitch").remote(nowhere).connect_within(within).connect().await;
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "no server can be used within 300ms");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("could not connect to `unix:"), "{cause}");
    // What cannot get better is not waited for.
    let error = quick("Nonsense").remote(server.remote()).connect().await.unwrap_err();
    assert_eq!(error.to_string(), "no server can be used");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "the server has no database `Nonsense`");
    let tls: Remote = "ssl:127.0.0.1:1".parse().unwrap();
    let error = quick("Open_vSwitch").remote(tls).connect().await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "`ssl:127.0.0.1:1` needs TLS, and no certificates are given");
    // Several troubles are all told.
    let several =
        quick("Nonsense").remote(server.remote()).remote("ssl:127.0.0.1:1".parse().unwrap());
    let error = several.connect().await.unwrap_err().to_string();
    assert!(error.contains("has no database") && error.contains("needs TLS"), "{error}");
}
