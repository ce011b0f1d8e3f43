//! Adds a bridge with one port, waits until the switch has applied it, and says
//! what became of each interface.

use std::time::Duration;

use ovsdb::vswitch::{Bridge, Interface, OpenVswitch, Port};
use ovsdb::{Applied, Client, ReadError, Ref, Replica, Transaction};

pub(crate) async fn add_bridge(remote: &str) -> Result<Applied, Box<dyn std::error::Error>> {
    let client = Client::builder("Open_vSwitch")
        .remotes(remote)?
        .watch::<OpenVswitch>()
        .watch::<Bridge>()
        .watch::<Port>()
        .watch::<Interface>()
        .connect()
        .await?;

    // Says what is still to be done, from what is there now. It is asked again
    // when somebody else was faster or the connection broke.
    let build = |now: &Replica| -> Result<Transaction, ReadError> {
        let mut change = Transaction::new();
        let Some(switch) = now.only::<OpenVswitch>()? else { return Ok(change) };
        if now.find(Bridge::NAME, "br0")?.is_some() {
            return Ok(change); // nothing to do
        }
        change.guard_absent::<Bridge>([Bridge::NAME.is("br0")]);
        let mut port = |name: &str| -> Ref<Port> {
            let (name, kind) = (name.to_owned(), "internal".to_owned());
            let interface = Interface { name: name.clone(), kind, ..Default::default() };
            let interfaces = [change.insert(&interface)].into();
            change.insert(&Port { name, interfaces, ..Default::default() })
        };
        let ports = [port("br0"), port("p1")].into();
        let (name, datapath_type) = ("br0".into(), "netdev".into());
        let bridge = change.insert(&Bridge { name, datapath_type, ports, ..Default::default() });
        // What nothing links to vanishes at commit.
        change.add(OpenVswitch::BRIDGES, switch.uuid, [bridge]);
        Ok(change)
    };
    Ok(client.apply(Duration::from_secs(10), build).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let remote = std::env::args().nth(1);
    let remote = remote.as_deref().unwrap_or("unix:/run/openvswitch/db.sock");
    for interface in add_bridge(remote).await?.interfaces {
        println!("{interface}");
    }
    Ok(())
}
