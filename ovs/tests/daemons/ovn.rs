//! OVN's northbound database: nothing here is tied to Open vSwitch's own.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::{Change, Ref, Transaction, Watch};

use crate::lab::{SOON, Server, output, quick};

const SCHEMA: &str = "/usr/share/ovn/ovn-nb.ovsschema";

crate::tests! { &["ovsdb-server", "ovsdb-tool", "ovn-nbctl", "setpriv", SCHEMA];
    northbound_rows_go_both_ways
    every_northbound_table_can_be_watched
}

ovsdb::tables! {
    /// A logical switch.
    pub(crate) struct LogicalSwitch = "Logical_Switch" {
        /// Its name.
        NAME name: String,
        /// Its ports.
        PORTS ports: BTreeSet<Ref<LogicalSwitchPort>>,
        /// Its marks.
        EXTERNAL_IDS external_ids: BTreeMap<String, String>,
    }
    /// A port of one.
    pub(crate) struct LogicalSwitchPort = "Logical_Switch_Port" {
        /// Its name.
        NAME name: String,
        /// Its kind.
        TYPE kind: String = "type",
        /// Who may send.
        ADDRESSES addresses: BTreeSet<String>,
        /// Whether it is up.
        UP up: Option<bool>,
        /// Its tag, 1 to 4095.
        TAG tag: Option<i64>,
    }
}

async fn northbound_rows_go_both_ways() {
    let server = Server::of(SCHEMA, &[]);
    let client = quick("OVN_Northbound").remote(server.remote());
    let client = client.watch::<LogicalSwitch>().watch::<LogicalSwitchPort>();
    let client = client.connect().await.unwrap();
    let mut change = Transaction::new();
    let addresses = ["02:00:00:00:00:01 10.9.0.1".to_owned(), "unknown".to_owned()].into();
    let port =
        LogicalSwitchPort { name: "n1".into(), addresses, tag: Some(9), ..Default::default() };
    let port = change.insert(&port);
    let switch = LogicalSwitch { name: "ls1".into(), ports: [port].into(), ..Default::default() };
    change.insert(&switch);
    client.transact(&change).await.unwrap();
    let db = format!("--db={}", server.remote());
    let nbctl = |args: &[&str]| output("ovn-nbctl", &[&[db.as_str()], args].concat());
    assert!(nbctl(&["lsp-list", "ls1"]).ends_with("(n1)"));
    assert_eq!(nbctl(&["lsp-get-addresses", "n1"]), "02:00:00:00:00:01 10.9.0.1\nunknown");
    assert_eq!(nbctl(&["get", "logical_switch_port", "n1", "tag"]), "9");

    let mut ports = client.changes::<LogicalSwitchPort>().unwrap();
    assert!(matches!(ports.next().await, Some(Ok(Change::Inserted(p))) if p.name == "n1"));
    nbctl(&["--", "lsp-add", "ls1", "n2", "--", "lsp-set-type", "n2", "router"]);
    let Some(Ok(Change::Inserted(port))) = ports.next().await else { panic!("no port") };
    assert_eq!((port.name.as_str(), port.kind.as_str(), port.up), ("n2", "router", None));
    nbctl(&["ls-del", "ls1"]);
    let empty =
        |replica: &ovsdb::Replica| (replica.count("Logical_Switch_Port") == Ok(0)).then_some(());
    client.wait_for(SOON, empty).await.expect("all gone");
}

async fn every_northbound_table_can_be_watched() {
    let server = Server::of(SCHEMA, &[]);
    let all: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(SCHEMA).unwrap()).unwrap();
    let tables = all["tables"].as_object().unwrap();
    let client = quick("OVN_Northbound").remote(server.remote());
    let client = tables.keys().fold(client, |client, table| client.watch_table(Watch::all(table)));
    let client = client.connect().await.unwrap();
    let db = format!("--db={}", server.remote());
    output(
        "ovn-nbctl",
        &[
            &db, "--", "lr-add", "r1", "--", "ls-add", "s1", "--", "acl-add", "s1", "to-lport",
            "100", "ip4", "drop",
        ],
    );
    let there = |replica: &ovsdb::Replica| {
        let router = replica.rows_of("Logical_Router").unwrap().next()?.1.get("name")?.to_string();
        let acl = replica.rows_of("ACL").unwrap().next()?.1.get("priority")?.to_string();
        Some((router, acl))
    };
    let seen = client.wait_for(SOON, there).await.expect("both");
    assert_eq!(seen, ("\"r1\"".to_owned(), "100".to_owned()));
}
