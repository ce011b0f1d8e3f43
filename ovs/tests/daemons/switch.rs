//! A real `ovs-vswitchd`, in namespaces of its own: applied, or not.

use std::time::Duration;

use ovsdb::session::CallError;
use ovsdb::vswitch::{Bridge, Interface, OpenVswitch, Port};
use ovsdb::{
    Applied, ApplyError, Change, Client, InterfaceState, Plug, ReadError, Replica, Session,
    SessionOptions, Transaction,
};

use crate::database::{connect, root};
use crate::lab::{SOON, Server, Switch, VSWITCH_SCHEMA};

crate::tests! {
    &["ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-vswitchd", "setpriv", "ip", "namespaces", "tun", VSWITCH_SCHEMA];
    a_change_is_applied
    the_example_of_the_front_page
    committed_is_not_applied
    a_lost_connection_does_not_end_the_wait
    a_missing_device_is_a_fault
    a_bridge_that_cannot_be_is_a_fault
    nothing_to_do_is_not_waited_for
    removed_and_added_at_once_is_the_same_port
    what_goes_wrong_later_is_told
    the_switch_answers_commands
    the_lock_of_the_switch_is_left_alone
    a_client_that_watches_too_little_says_so
}

type Build = Result<Transaction, ReadError>;

/// A bridge of the userspace datapath with internal ports, as one change.
fn bridge_with(replica: &Replica, name: &str, ports: &[&str], kind: &str) -> Build {
    let mut change = Transaction::new();
    let mut wished = 0..;
    let mut port = |name: &str, kind: &str| {
        // Without a wish, the switch numbers them in any order.
        let ofport_request = wished.next().filter(|n| 0 < *n);
        let (name, kind) = (name.to_owned(), kind.to_owned());
        let interface =
            Interface { name: name.clone(), kind, ofport_request, ..Default::default() };
        let interfaces = [change.insert(&interface)].into();
        change.insert(&Port { name, interfaces, ..Default::default() })
    };
    let mut all = vec![port(name, "internal")];
    all.extend(ports.iter().map(|name| port(name, kind)));
    let datapath_type = "netdev".into();
    let ports = all.into_iter().collect();
    let bridge = Bridge { name: name.into(), datapath_type, ports, ..Default::default() };
    let bridge = change.insert(&bridge);
    change.add(OpenVswitch::BRIDGES, root(replica).uuid, [bridge]);
    Ok(change)
}

fn show(interfaces: &[InterfaceState]) -> Vec<String> {
    interfaces.iter().map(ToString::to_string).collect()
}

fn is_at_work(replica: &Replica) -> Option<()> {
    (!root(replica).iface_types.is_empty()).then_some(())
}

fn cfg(client: &Client) -> (i64, i64) {
    let root = client.read(root);
    (root.next_cfg, root.cur_cfg)
}

async fn a_change_is_applied() {
    let server = Server::vswitch();
    let switch = Switch::start(&server);
    let client = connect(&server).await;
    let before = cfg(&client).0;
    let build = |replica: &Replica| bridge_with(replica, "br0", &["p1", "p2"], "internal");
    let applied = client.apply(SOON, build).await.unwrap();
    assert_eq!(applied.cfg, Some(before + 1));
    // The caller's own operations: three interfaces and ports, a bridge, the link to it.
    assert_eq!(applied.committed.unwrap().answers.len(), 8);
    assert_eq!(
        show(&applied.interfaces),
        ["`br0` is port 65534", "`p1` is port 1", "`p2` is port 2"]
    );
    // The switch itself says so, too.
    let control = Session::connect(&switch.control(), SessionOptions::default()).await.unwrap();
    let shown = control.unixctl("dpif/show", &[]).await.unwrap();
    assert!(shown.contains("br0 65534/") && shown.contains("p2 2/"), "{shown}");

    // A change of a port looks at its interfaces.
    let tag = |replica: &Replica| -> Build {
        let mut change = Transaction::new();
        let port = replica.find(Port::NAME, "p1")?.expect("it was added");
        change.set(Port::TAG, port.uuid, Some(7));
        change.touch_interface("br0");
        Ok(change)
    };
    let applied = client.apply(SOON, tag).await.unwrap();
    assert_eq!(show(&applied.interfaces), ["`br0` is port 65534", "`p1` is port 1"]);
}

#[path = "../../examples/bridge.rs"]
#[allow(dead_code)]
mod example;

async fn the_example_of_the_front_page() {
    let server = Server::vswitch();
    let _switch = Switch::start(&server);
    let remote = server.remote().to_string();
    let applied = example::add_bridge(&remote).await.unwrap();
    assert_eq!(show(&applied.interfaces), ["`br0` is port 65534", "`p1` is port 1"]);
    let again = example::add_bridge(&remote).await.unwrap();
    assert_eq!((again.cfg, again.interfaces), (None, vec![]));
    assert_eq!(server.vsctl(&["list-ports", "br0"]), "p1");
}

async fn committed_is_not_applied() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    let within = Duration::from_millis(300);
    let build = |replica: &Replica| bridge_with(replica, "br0", &["p1"], "internal");
    let error = client.apply(within, build).await.unwrap_err();
    let ApplyError::NotApplied { cfg: next, cur_cfg: 0, within: bound } = error else {
        panic!("{error:?}")
    };
    assert_eq!((bound, next), (within, cfg(&client).0));
    // It is in the database all the same, and is applied when the switch comes.
    assert_eq!(server.vsctl(&["list-br"]), "br0");
    let _switch = Switch::start(&server);
    let caught_up = |replica: &Replica| (next <= root(replica).cur_cfg).then_some(());
    client.wait_for(SOON, caught_up).await.expect("the switch applies it");
    let p1 = client.read(|r| r.find(Interface::NAME, "p1").unwrap().unwrap());
    assert_eq!(p1.ofport, Some(1));
}

async fn a_lost_connection_does_not_end_the_wait() {
    let mut server = Server::vswitch();
    let client = connect(&server).await;
    let applying = tokio::spawn({
        let client = client.clone();
        // The server may go after the update and before the reply: then it is asked
        // for once more, and there is nothing left to do.
        let build = |replica: &Replica| match replica.find(Bridge::NAME, "br0")? {
            Some(_) => Ok(Transaction::new()),
            None => bridge_with(replica, "br0", &[], ""),
        };
        async move { client.apply(SOON, build).await }
    });
    let committed = |replica: &Replica| replica.find(Bridge::NAME, "br0").unwrap();
    client.wait_for(SOON, committed).await.expect("it is committed");
    server.kill();
    server.start();
    let _switch = Switch::start(&server);
    let applied = applying.await.unwrap().unwrap();
    assert_eq!(show(&applied.interfaces), ["`br0` is port 65534"]);
}

async fn a_missing_device_is_a_fault() {
    let server = Server::vswitch();
    let _switch = Switch::start(&server);
    let client = connect(&server).await;
    let build = |replica: &Replica| bridge_with(replica, "br0", &["nosuch0"], "");
    let error = client.apply(SOON, build).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "applied, with `nosuch0`: could not open network device nosuch0 (No such device) at fault"
    );
    let ApplyError::Faults(Applied { interfaces, .. }) = error else { panic!("{error:?}") };
    assert_eq!(interfaces[0].state, Plug::In(65534));
    assert!(!interfaces[0].is_fault() && interfaces[1].is_fault());
}

/// Such a bridge leaves `ofport` and `error` of its interfaces empty.
async fn a_bridge_that_cannot_be_is_a_fault() {
    let server = Server::vswitch();
    let _switch = Switch::start(&server);
    let client = connect(&server).await;
    let build = |replica: &Replica| -> Build {
        let mut change = Transaction::new();
        let interface =
            Interface { name: "br0".into(), kind: "internal".into(), ..Default::default() };
        let interfaces = [change.insert(&interface)].into();
        let port = change.insert(&Port { name: "br0".into(), interfaces, ..Default::default() });
        let (name, datapath_type) = ("br0".into(), "nonsense".into());
        let bridge = Bridge { name, datapath_type, ports: [port].into(), ..Default::default() };
        let bridge = change.insert(&bridge);
        change.add(OpenVswitch::BRIDGES, root(replica).uuid, [bridge]);
        Ok(change)
    };
    let error = client.apply(SOON, build).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "applied, with `br0` is out, because the bridge `br0` did not come to be at fault"
    );
}

async fn nothing_to_do_is_not_waited_for() {
    let server = Server::vswitch();
    let client = connect(&server).await;
    // There is no switch to wait for.
    let before = cfg(&client);
    let applied = client.apply(SOON, |_| Build::Ok(Transaction::new())).await.unwrap();
    assert_eq!(applied, Applied { committed: None, cfg: None, interfaces: vec![] });
    assert_eq!(cfg(&client), before);
}

async fn removed_and_added_at_once_is_the_same_port() {
    let server = Server::vswitch();
    let _switch = Switch::start(&server);
    let client = connect(&server).await;
    let build = |replica: &Replica| bridge_with(replica, "br0", &["p1"], "internal");
    client.apply(SOON, build).await.unwrap();
    // The switch writes it a moment after `cur_cfg`.
    let ifindex = async || {
        let there = |r: &Replica| r.find(Interface::NAME, "p1").unwrap()?.row.ifindex;
        client.wait_for(SOON, there).await.expect("a device")
    };
    let first = ifindex().await;

    let remove = |replica: &Replica, change: &mut Transaction| {
        let bridge = replica.find(Bridge::NAME, "br0").unwrap().unwrap().uuid;
        let port = replica.find(Port::NAME, "p1").unwrap().unwrap().uuid;
        change.remove(Bridge::PORTS, bridge, [port.into()]);
    };
    let add = |replica: &Replica, change: &mut Transaction| {
        let bridge = replica.find(Bridge::NAME, "br0").unwrap().unwrap().uuid;
        let p1 = Interface { name: "p1".into(), kind: "internal".into(), ..Default::default() };
        let interfaces = [change.insert(&p1)].into();
        let port = change.insert(&Port { name: "p1".into(), interfaces, ..Default::default() });
        change.add(Bridge::PORTS, bridge, [port]);
    };
    let both = |replica: &Replica| -> Build {
        let mut change = Transaction::new();
        remove(replica, &mut change);
        add(replica, &mut change);
        Ok(change)
    };
    client.apply(SOON, both).await.unwrap();
    assert_eq!(ifindex().await, first, "the switch saw no difference");

    type Step<'a> = &'a dyn Fn(&Replica, &mut Transaction);
    for step in [&remove as Step<'_>, &add] {
        let one = |replica: &Replica| -> Build {
            let mut change = Transaction::new();
            step(replica, &mut change);
            Ok(change)
        };
        client.apply(SOON, one).await.unwrap();
    }
    assert_ne!(ifindex().await, first, "with a wait between, it is a new device");
}

async fn what_goes_wrong_later_is_told() {
    let server = Server::vswitch();
    let switch = Switch::start_with_veth(&server);
    let client = connect(&server).await;
    let build = |replica: &Replica| bridge_with(replica, "br0", &["veth0"], "");
    client.apply(SOON, build).await.unwrap();
    let mut changes = client.changes::<Interface>().unwrap();
    switch.delete_veth();
    loop {
        let change = tokio::time::timeout(SOON, changes.next()).await.expect("it is told");
        if let Change::Modified { new, .. } = change.unwrap().unwrap()
            && new.name == "veth0"
            && new.ifindex == Some(0)
        {
            // No error, and the old number: only the ifindex tells.
            assert!(new.error.is_none() && new.ofport == Some(1), "{new:?}");
            return;
        }
    }
}

async fn the_switch_answers_commands() {
    let server = Server::vswitch();
    let switch = Switch::start(&server);
    let control = Session::connect(&switch.control(), SessionOptions::default()).await.unwrap();
    let version = control.unixctl("version", &[]).await.unwrap();
    assert!(version.starts_with("ovs-vswitchd (Open vSwitch) "), "{version}");
    // It listens before it knows all of its commands.
    let client = connect(&server).await;
    client.wait_for(SOON, is_at_work).await.expect("the switch is at work");
    let error = control.unixctl("fdb/show", &["no such bridge"]).await.unwrap_err();
    let CallError::Refused { method, source } = &error else { panic!("{error:?}") };
    assert_eq!((method.as_str(), source.to_string().as_str()), ("fdb/show", "no such bridge"));
}

async fn the_lock_of_the_switch_is_left_alone() {
    let server = Server::vswitch();
    let _switch = Switch::start(&server);
    let client = connect(&server).await;
    client.wait_for(SOON, is_at_work).await.expect("the switch is at work");
    assert!(!client.lock("ovs_vswitchd", Duration::from_millis(200)).await);
    client.unlock();
    let build = |replica: &Replica| bridge_with(replica, "br0", &[], "");
    client.apply(SOON, build).await.expect("the switch goes on");
}

async fn a_client_that_watches_too_little_says_so() {
    let server = Server::vswitch();
    let client = server.client().watch::<OpenVswitch>().connect().await.unwrap();
    let build = |_: &Replica| -> Build { panic!("nothing is made, let alone sent") };
    let error = client.apply(SOON, build).await.unwrap_err();
    let ApplyError::Blind(source) = error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "the table `Bridge` is not watched");
    let empty = Server::of(VSWITCH_SCHEMA, &[]);
    let client = connect(&empty).await;
    let build = |_: &Replica| -> Build {
        let mut change = Transaction::new();
        change.insert(&OpenVswitch::default());
        Ok(change)
    };
    let error = client.apply(SOON, build).await.unwrap_err();
    assert_eq!(error.to_string(), "the database has not been initialised");
}
