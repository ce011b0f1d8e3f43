//! Open vSwitch as a switch: bridges are rows of its database (RFC 7047,
//! ovs-vswitchd.conf.db(5)), ports are rows that name links of the kernel.
//!
//! A batch of steps is one transaction (`change`), and is not done before
//! `ovs-vswitchd` has carried it out and every interface says that it works.
//! What is there is read from a replica of the database (`seen`). Only what
//! the database does not have goes elsewhere: the local devices of bridges are
//! marked and raised by netlink, flows (`openflow`) and the forwarding table go
//! through `tools`. Which Open vSwitch it is, `seek` finds out.

mod change;
mod error;
mod openflow;
pub mod report;
mod seek;
mod seen;
mod tools;
mod way;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use netlink_packet_route::link::LinkAttribute;
use ovsdb::Transaction;
use ovsdb::vswitch::{Bridge, Interface, Mirror, OpenVswitch as Root, Port};
use tokio::task::{JoinHandle, JoinSet};

use super::{Counters, Learned, OpenFlow, Switch, SwitchError, Traffic};
use crate::kernel::netlink::Netlink;
use crate::kernel::observe::{self, Link};
use crate::kernel::worker::Worker;
use crate::kernel::{KernelError, LinuxHost, tc};
use crate::model::names::{IfName, LabName};
use crate::model::packet::Frame;
use crate::model::topology::{Backend, Datapath, FORWARD_DELAY_S_MAX, Lacp};
use crate::model::world::{Fabric, PortKind, SwitchSpec};
use crate::plan::why::facts::Way;
use crate::plan::{Abilities, FabricStep, Need, Refusal};
use error::Failed;
use openflow::FlowChange;
use seek::Vswitch;
use seen::{FLOWS, Rows};

pub use error::OvsError;

/// How long `ovs-vswitchd` may take to carry out a change: a thousand ports
/// take a second or two on a busy machine. `OVSNS_APPLY_SECS` says otherwise.
const APPLIED_WITHIN: Duration = Duration::from_secs(60);

/// How long a daemon is believed to be at earlier changes before it is asked to
/// say again that it has carried them out.
const SAYS_WITHIN: Duration = Duration::from_secs(1);

/// How much longer than two forward delays a port may take to forward: as long
/// as what was heard before is believed, where protocols are mixed.
const FORWARDING_GRACE: Duration = Duration::from_secs(45);

/// How many switches are asked at a time for what they do: the daemon takes up
/// several questions each time round its loop, which is long with many switches.
const ASKED_AT_ONCE: usize = 64;

/// The greatest port number of OpenFlow 1.0, less the reserved ones.
const PORTS_MAX: usize = 0xfeff;

/// The bridges of this machine's Open vSwitch, or of one of our own.
pub struct OpenVswitch {
    worker: Worker,
    netlink: Netlink,
    /// What the tries said, once they were made.
    polices: Option<Result<(), String>>,
    shapes: Option<Result<(), String>>,
    /// Where our own is, or would be.
    state: PathBuf,
    /// Looked for once; nothing there is looked for again.
    vswitch: Option<Vswitch>,
    /// Why one that is there could not be talked with: to ask again would take
    /// a command as long again.
    silent: Option<OvsError>,
    /// One that is on its way.
    starting: Option<JoinHandle<Result<Vswitch, OvsError>>>,
    /// Whether `ovs-vswitchd` did not answer when it was last looked at.
    troubled: bool,
}

impl OpenVswitch {
    /// Works through the sockets of `host`; `state` is where one of our own
    /// would live.
    pub fn new(host: &LinuxHost, state: &Path) -> Self {
        let (worker, netlink) = (host.worker().clone(), host.here().clone());
        let (polices, shapes) = (None, None);
        let (state, vswitch, silent) = (state.to_owned(), None, None);
        let (starting, troubled) = (None, false);
        Self { worker, netlink, polices, shapes, state, vswitch, silent, starting, troubled }
    }

    /// The Open vSwitch that is there, if one is.
    async fn there(&mut self) -> Result<Option<&Vswitch>, SwitchError> {
        if let Some(error) = &self.silent {
            return Err(SwitchError::OpenVswitch(error.clone()));
        }
        if self.vswitch.is_none() {
            let there = seek::there(&self.state).await;
            if let Err(error @ OvsError::Database { .. }) = &there {
                self.silent = Some(error.clone());
            }
            self.vswitch = there.map_err(SwitchError::OpenVswitch)?;
        }
        Ok(self.vswitch.as_ref())
    }

    /// The Open vSwitch that is there, or one that is started.
    async fn needed(&mut self) -> Result<&Vswitch, OvsError> {
        if let Some(error) = &self.silent {
            return Err(error.clone());
        }
        if self.vswitch.is_none() {
            self.prepare();
        }
        if let Some(starting) = self.starting.take() {
            self.vswitch = Some(starting.await.expect("it neither panics nor is aborted")?);
        }
        Ok(self.vswitch.as_ref().expect("filled in just above"))
    }

    fn links(&self) -> Result<Vec<Link>, SwitchError> {
        observe::links(&self.netlink).map_err(SwitchError::Observe)
    }

    /// Why a tunnel to `remote` would swallow every frame, if it would. The
    /// userspace datapath wraps frames itself, and finds its way only over the
    /// local device of one of its own bridges; elsewhere the database says
    /// that all is well, and every frame is lost.
    async fn no_way_to(&mut self, remote: IpAddr) -> Result<Option<String>, SwitchError> {
        let links = self.links()?;
        let way = observe::way_to(&self.netlink, remote).map_err(SwitchError::Observe)?;
        let device = way.and_then(|index| links.iter().find(|link| link.index == index));
        let Some(device) = device.map(|link| link.name.as_str()) else {
            return Ok(Some("there is no route to it".into()));
        };
        let Some(vswitch) = self.there().await? else {
            return Ok(Some(not_over_a_bridge(device)));
        };
        let bridges = vswitch.client.read(|replica| replica.rows::<Bridge>());
        let bridges = bridges.map_err(|error| vswitch.unreadable(&error))?;
        let carries = |b: &Bridge| b.name == device && b.datapath_type == "netdev";
        Ok((!bridges.iter().any(|b| carries(b))).then(|| not_over_a_bridge(device)))
    }

    /// Why the kernel does not police as Open vSwitch asks it to, if it does
    /// not: the database would keep the limit and show no error.
    async fn no_policing(&mut self) -> Result<Option<String>, SwitchError> {
        if self.polices.is_none() {
            let tried = tc::can_police_like_ovs(&self.worker).await;
            self.polices = Some(tried.map_err(SwitchError::Observe)?);
        }
        Ok(self.polices.clone().and_then(Result::err))
    }

    /// The same about queues.
    async fn no_shaping(&mut self) -> Result<Option<String>, SwitchError> {
        if self.shapes.is_none() {
            let tried = tc::can_shape(&self.worker).await;
            self.shapes = Some(tried.map_err(SwitchError::Observe)?);
        }
        Ok(self.shapes.clone().and_then(Result::err))
    }

    /// Does all of `steps`, and says how far it came if not.
    async fn change(&mut self, steps: &[FabricStep]) -> Result<(), Failed> {
        let links = observe::links(&self.netlink).map_err(kernel).map_err(Failed::Nothing)?;
        let netlink = self.netlink.clone();
        let within = applied_within();
        let vswitch = self.needed().await.map_err(Failed::Nothing)?;
        let asleep = vswitch.asleep().await;
        if is_teardown(steps, asleep.is_none()) {
            return vswitch.commit(steps, &by_name(&links)).await;
        }
        if let Some(error) = asleep {
            return Err(Failed::Nothing(error));
        }
        // What an earlier teardown left to be carried out comes first: a port
        // that goes and comes back in between is, to the switch, the same
        // port, and stays bound to a link that is no more.
        vswitch.caught_up(within).await?;
        vswitch.apply(steps, &by_name(&links), within).await?;
        vswitch.decide_anew(steps).await.map_err(Failed::Changed)?;
        local_devices(&netlink, steps).map_err(kernel).map_err(Failed::Changed)?;
        vswitch.flood_again(steps).await.map_err(Failed::Changed)?;
        vswitch.change_flows(steps).await.map_err(Failed::Changed)?;
        let links = observe::links(&netlink).map_err(kernel).map_err(Failed::Changed)?;
        vswitch.forwarding(steps, &by_name(&links)).await.map_err(Failed::Changed)
    }

    /// Takes back all of `steps`, newest first, and returns in words what
    /// could not be.
    async fn take_back(&mut self, steps: &[FabricStep]) -> Vec<String> {
        let undos = steps.iter().rev().flat_map(|step| step.undo().unwrap_or_default());
        let undos: Vec<FabricStep> = undos.collect();
        match self.change(&undos).await {
            Ok(()) => Vec::new(),
            Err(_) => undos.iter().map(FabricStep::line).collect(),
        }
    }
}

fn applied_within() -> Duration {
    let said = std::env::var("OVSNS_APPLY_SECS").ok();
    let seconds = said.and_then(|text| text.parse().ok());
    seconds.map_or(APPLIED_WITHIN, Duration::from_secs)
}

fn abilities(datapath: Datapath, cannot: BTreeMap<Need, String>) -> Abilities {
    Abilities {
        backend: Backend::Ovs,
        missing: None,
        asleep: None,
        cannot,
        flows: BTreeMap::new(),
        ports_max: PORTS_MAX,
        swept_with_links: false,
        datapath: Some(datapath),
        checksums: true,
    }
}

/// Why nothing can come from `local`, if this host does not have it: the switch
/// would send with a sender that nobody can answer.
fn no_address(local: IpAddr) -> Option<String> {
    match std::net::UdpSocket::bind((local, 0)) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            Some("this host does not have that address".to_owned())
        }
        _ => None,
    }
}

fn not_over_a_bridge(device: &str) -> String {
    format!(
        "the route to it leads over `{device}`, and the userspace datapath reaches only what is \
         behind the local device of one of its own bridges"
    )
}

/// The kernel's refusal, where Open vSwitch's is expected.
fn kernel(error: KernelError) -> OvsError {
    OvsError::Own { what: error.to_string(), hint: error.hint().map(str::to_owned) }
}

fn by_name(links: &[Link]) -> HashMap<&str, &Link> {
    links.iter().map(|link| (link.name.as_str(), link)).collect()
}

/// Whether nothing but bridges of userspace and rows that nothing uses go. They are gone when their
/// rows are, and waiting for the daemon would take 13 ms for each port (every
/// packet socket waits for an RCU grace period). Their local devices are taps
/// in the lab's link group; a sweep takes them at once, the daemon 20 ms each.
///
/// With no daemon there is nothing to wait for: what goes from the database
/// is not there for the next one.
fn is_teardown(steps: &[FabricStep], alive: bool) -> bool {
    steps.iter().all(|step| match step {
        FabricStep::DeleteSwitch(spec) => !alive || spec.datapath == Some(Datapath::Netdev),
        // Only the database has it.
        FabricStep::DeleteLeftover(_) => true,
        FabricStep::AddSwitch(_)
        | FabricStep::SetSwitch { .. }
        | FabricStep::RaiseSwitch(_)
        | FabricStep::SettleSwitch(_)
        | FabricStep::AddPort(_)
        | FabricStep::SetPort { .. }
        | FabricStep::DeletePort(_)
        | FabricStep::AddMirror(_)
        | FabricStep::DeleteMirror(_)
        | FabricStep::AddFlow(_)
        | FabricStep::DeleteFlow(_) => false,
    })
}

/// Marks and raises the local devices of bridges.
fn local_devices(netlink: &Netlink, steps: &[FabricStep]) -> Result<(), KernelError> {
    for step in steps {
        match step {
            FabricStep::AddSwitch(spec) => mark_local(netlink, None, spec)?,
            FabricStep::SetSwitch { before, after } => mark_local(netlink, Some(before), after)?,
            FabricStep::RaiseSwitch(spec) => {
                let asked = || format!("raise the local device of bridge `{}`", spec.device);
                netlink.set_link(&spec.device, Some(true), Vec::new(), asked)?;
            }
            FabricStep::SettleSwitch(_)
            | FabricStep::DeleteSwitch(_)
            | FabricStep::AddPort(_)
            | FabricStep::SetPort { .. }
            | FabricStep::DeletePort(_)
            | FabricStep::AddMirror(_)
            | FabricStep::DeleteMirror(_)
            | FabricStep::AddFlow(_)
            | FabricStep::DeleteFlow(_)
            | FabricStep::DeleteLeftover(_) => {}
        }
    }
    Ok(())
}

/// Like `ip link set BRIDGE group GROUP alias MARK` and `ip link property add
/// dev BRIDGE altname NAME`, with what differs from `before`.
fn mark_local(
    netlink: &Netlink,
    before: Option<&SwitchSpec>,
    spec: &SwitchSpec,
) -> Result<(), KernelError> {
    let mut attributes = Vec::new();
    if before.is_none_or(|before| before.group != spec.group) {
        attributes.push(LinkAttribute::Group(spec.group));
    }
    if before.is_none_or(|before| before.alias != spec.alias) {
        attributes.push(LinkAttribute::IfAlias(spec.alias.clone()));
    }
    if !attributes.is_empty() {
        let asked = || format!("mark the local device of bridge `{}`", spec.device);
        netlink.set_link(&spec.device, None, attributes, asked)?;
    }
    if before.is_none_or(|before| before.altname != spec.altname) && !spec.altname.is_empty() {
        match netlink.add_altname(&spec.device, &spec.altname) {
            // A tap that outlived its daemon has it already.
            Err(error) if error.errno == nix::errno::Errno::EEXIST => {}
            other => other?,
        }
    }
    Ok(())
}

impl Vswitch {
    /// Writes `steps` in one transaction and waits until they are carried out.
    async fn apply(
        &self,
        steps: &[FabricStep],
        links: &seen::Links<'_>,
        within: Duration,
    ) -> Result<(), Failed> {
        let write = |replica: &ovsdb::Replica| change::write(steps, replica, links);
        let applied = self.client.apply(within, write).await;
        applied.map(drop).map_err(|error| Failed::of(error, &self.at()))
    }

    /// Writes `steps` in one transaction, and leaves it to the daemon to carry
    /// them out.
    async fn commit(&self, steps: &[FabricStep], links: &seen::Links<'_>) -> Result<(), Failed> {
        let write = |replica: &ovsdb::Replica| {
            let mut transaction = change::write(steps, replica, links)?;
            if let (false, Some(root)) = (transaction.is_empty(), replica.only::<Root>()?) {
                transaction.mutate::<Root>(root.uuid, Root::NEXT_CFG.plus(1));
            }
            Ok(transaction)
        };
        let edited = self.client.edit(applied_within(), write).await;
        edited.map(drop).map_err(|error| Failed::of(error.into(), &self.at()))
    }

    /// Waits until the daemon has carried out all that is in the database.
    async fn caught_up(&self, within: Duration) -> Result<(), Failed> {
        let caught_up = |replica: &ovsdb::Replica| {
            let root = replica.only::<Root>().ok()??;
            (root.next_cfg <= root.cur_cfg).then_some(())
        };
        if self.client.wait_for(within.min(SAYS_WITHIN), caught_up).await.is_some() {
            return Ok(());
        }
        // It says so once, and what it says is lost if the database has no room
        // for it. With the next change it is said again.
        let again = |replica: &ovsdb::Replica| {
            let mut transaction = Transaction::new();
            if let Some(root) = replica.only::<Root>()? {
                transaction.mutate::<Root>(root.uuid, Root::NEXT_CFG.plus(1));
            }
            Ok(transaction)
        };
        let asked = self.client.edit(within, again).await;
        asked.map_err(|error| match Failed::of(error.into(), &self.at()) {
            Failed::Nothing(error) | Failed::Changed(error) | Failed::Unsure(error) => {
                Failed::Nothing(error)
            }
        })?;
        let seconds = within.as_secs();
        let late = || Failed::Nothing(OvsError::Behind { seconds });
        self.client.wait_for(within, caught_up).await.ok_or_else(late)
    }

    /// Has the switch decide anew what becomes of frames, where mirrors come or
    /// go. Otherwise it goes on with what it decided before, and neither copies
    /// nor gives an output back, until a station moves or something else makes
    /// it look again (Open vSwitch 3.1).
    ///
    /// Like `ovs-appctl revalidator/purge`.
    async fn decide_anew(&self, steps: &[FabricStep]) -> Result<(), OvsError> {
        let is_new = |bridge: &IfName| {
            steps.iter().any(|s| matches!(s, FabricStep::AddSwitch(spec) if spec.device == *bridge))
        };
        let decides = |step: &FabricStep| match step {
            FabricStep::AddMirror(mirror) | FabricStep::DeleteMirror(mirror) => {
                !is_new(&mirror.bridge)
            }
            FabricStep::AddSwitch(_)
            | FabricStep::SetSwitch { .. }
            | FabricStep::RaiseSwitch(_)
            | FabricStep::SettleSwitch(_)
            | FabricStep::DeleteSwitch(_)
            | FabricStep::AddPort(_)
            | FabricStep::SetPort { .. }
            | FabricStep::DeletePort(_)
            | FabricStep::AddFlow(_)
            | FabricStep::DeleteFlow(_)
            | FabricStep::DeleteLeftover(_) => false,
        };
        if steps.iter().any(decides) {
            tools::control(&self.control, "revalidator/purge", &[]).await?;
        }
        Ok(())
    }

    /// Has ports flood again after the spanning tree was switched off. Those
    /// that forwarded under STP or RSTP keep away what goes to all and to
    /// unknown addresses from then on (Open vSwitch 3.1: broadcasts out of
    /// such a port 0 of 3, in 5 of 5 runs), until anything about them changes.
    /// Ports of others are theirs to set.
    async fn flood_again(&self, steps: &[FabricStep]) -> Result<(), OvsError> {
        for step in steps {
            let FabricStep::SetSwitch { before, after } = step else { continue };
            let has_tree = |spec: &SwitchSpec| spec.settings.stp || spec.settings.rstp;
            if !has_tree(before) || has_tree(after) {
                continue;
            }
            let rows = self.client.read(Rows::read);
            let rows = rows.map_err(|error| self.unread(&error))?;
            let bridge = rows.bridge(&after.device).into_iter();
            let numbers: Vec<u16> = bridge.flat_map(|bridge| rows.numbers(bridge)).collect();
            let spoken = &after.settings.openflow.protocols;
            let mut lent = spoken.clone();
            // Only that version has a message for it.
            lent.insert("OpenFlow10".to_owned());
            let lend = !spoken.is_empty() && lent != *spoken;
            if lend {
                self.set_protocols(&after.device, &lent).await?;
            }
            let flooded = self.flood(&after.device, &numbers).await;
            if lend {
                self.set_protocols(&after.device, spoken).await?;
            }
            flooded?;
        }
        Ok(())
    }

    /// Has ports flood, but for those that were told not to.
    async fn flood(&self, bridge: &IfName, numbers: &[u16]) -> Result<(), OvsError> {
        let told_not_to = openflow::no_flood(&self.rundir, bridge.as_str()).await?;
        let mut flooded = Ok(());
        for number in numbers.iter().filter(|number| !told_not_to.contains(number)) {
            let told = openflow::flood_again(&self.rundir, bridge.as_str(), *number).await;
            flooded = flooded.and(told);
        }
        flooded
    }

    async fn set_protocols(
        &self,
        bridge: &IfName,
        protocols: &BTreeSet<String>,
    ) -> Result<(), OvsError> {
        let write = |replica: &ovsdb::Replica| {
            let mut transaction = ovsdb::Transaction::new();
            if let Some(bridge) = Rows::read(replica)?.bridge(bridge) {
                transaction.set(Bridge::PROTOCOLS, bridge.uuid, protocols.clone());
            }
            Ok(transaction)
        };
        let applied = self.client.apply(applied_within(), write).await;
        applied.map(drop).map_err(|error| Failed::of(error, &self.at()).into_error())
    }

    /// Changes flows, all of one bridge at once. Those of a bridge that goes
    /// went with it.
    async fn change_flows(&self, steps: &[FabricStep]) -> Result<(), OvsError> {
        let mut changes: BTreeMap<&IfName, Vec<FlowChange<'_>>> = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for step in steps {
            match step {
                FabricStep::AddFlow(flow) => {
                    let change = FlowChange::Add(flow.cookie, &flow.text);
                    changes.entry(&flow.bridge).or_default().push(change);
                }
                FabricStep::DeleteFlow(flow) => {
                    let change = match flow.is_own() {
                        true => FlowChange::DeleteOwn,
                        false => FlowChange::Delete(flow.cookie),
                    };
                    changes.entry(&flow.bridge).or_default().push(change);
                }
                FabricStep::DeleteSwitch(spec) => {
                    gone.insert(&spec.device);
                }
                FabricStep::AddSwitch(spec) => {
                    gone.remove(&spec.device);
                }
                FabricStep::SetSwitch { .. }
                | FabricStep::RaiseSwitch(_)
                | FabricStep::SettleSwitch(_)
                | FabricStep::AddPort(_)
                | FabricStep::SetPort { .. }
                | FabricStep::DeletePort(_)
                | FabricStep::AddMirror(_)
                | FabricStep::DeleteMirror(_)
                | FabricStep::DeleteLeftover(_) => {}
            }
        }
        changes.retain(|bridge, _| !gone.contains(bridge));
        for (bridge, changes) in changes {
            let protocols = self.protocols(bridge);
            openflow::change(&self.rundir, bridge.as_str(), &protocols, &changes).await?;
        }
        Ok(())
    }

    /// The versions of OpenFlow that a bridge speaks; none for all.
    fn protocols(&self, bridge: &IfName) -> BTreeSet<String> {
        self.client.read(|replica| {
            let bridges = replica.rows::<Bridge>().unwrap_or_default();
            let bridge = bridges.into_iter().find(|row| row.name == bridge.as_str());
            bridge.map(|bridge| bridge.row.protocols).unwrap_or_default()
        })
    }

    /// Waits until the ports that `steps` plugged in or raised forward, where
    /// a spanning tree has to decide that first.
    async fn forwarding(
        &self,
        steps: &[FabricStep],
        links: &seen::Links<'_>,
    ) -> Result<(), OvsError> {
        let mut delay_s = 0;
        let mut bridges = BTreeMap::new();
        // Where ports came or went: under STP that is news for the others.
        let mut crowds = BTreeSet::new();
        for step in steps {
            let (FabricStep::RaiseSwitch(spec)
            | FabricStep::SettleSwitch(spec)
            | FabricStep::AddSwitch(spec)
            | FabricStep::SetSwitch { after: spec, .. }) = step
            else {
                continue;
            };
            if spec.settings.stp || spec.settings.rstp {
                delay_s = delay_s.max(spec.settings.forward_delay_s.unwrap_or(15));
                bridges.insert(spec.device.as_str(), spec.name.as_str());
            }
        }
        let mut ports = BTreeSet::new();
        for step in steps {
            match step {
                FabricStep::AddPort(port) | FabricStep::SetPort { after: port, .. } => {
                    ports.insert(port.device.as_str());
                    crowds.insert(port.bridge.as_str());
                    delay_s = FORWARD_DELAY_S_MAX;
                }
                FabricStep::DeletePort(port) => {
                    crowds.insert(port.bridge.as_str());
                    delay_s = FORWARD_DELAY_S_MAX;
                }
                _ => {}
            }
        }
        let mut bonds: BTreeSet<String> =
            steps.iter().filter_map(speaks_lacp).map(str::to_owned).collect();
        let settling = |step: &FabricStep| {
            let FabricStep::SettleSwitch(spec) = step else { return None };
            Some(spec.device.clone())
        };
        let settling: Vec<IfName> = steps.iter().filter_map(settling).collect();
        if !settling.is_empty() {
            let rows = self.client.read(Rows::read).map_err(|error| self.unread(&error))?;
            let bridges = settling.iter().filter_map(|device| rows.bridge(device));
            let ports = bridges.flat_map(|bridge| seen::followed(&bridge.ports, &rows.ports));
            let speaking = ports.filter(|port| port.lacp.as_deref() == Some("active"));
            bonds.extend(speaking.map(|port| port.name.clone()));
        }
        let mut on_their_way = Vec::new();
        let look = |replica: &ovsdb::Replica| {
            let mut found = waiting(replica, &bridges, &crowds, &ports, links).ok()?;
            found.extend(alone(replica, &bonds, links).ok()?);
            on_their_way = found;
            on_their_way.is_empty().then_some(())
        };
        let delay = Duration::from_secs(u64::from(delay_s.max(4)));
        let within = 2 * delay + FORWARDING_GRACE;
        if self.client.wait_for(within, look).await.is_some() {
            // What they learned may lead the old way, until a word of the
            // change has gone round.
            for bridge in &settling {
                tools::control(&self.control, "fdb/flush", &[bridge.as_str()]).await?;
            }
            return Ok(());
        }
        let ports: Vec<_> = on_their_way
            .iter()
            .map(|(port, state)| format!("port `{port}` is still {state}"))
            .collect();
        Err(OvsError::Faults(ports))
    }
}

/// The bond that a step plugs in, if it speaks LACP.
fn speaks_lacp(step: &FabricStep) -> Option<&str> {
    let (FabricStep::AddPort(port) | FabricStep::SetPort { after: port, .. }) = step else {
        return None;
    };
    let speaks = matches!(port.kind, PortKind::Bond { lacp: Lacp::Active, .. });
    speaks.then_some(port.device.as_str())
}

/// The links with carrier of bonds whose other end has not spoken LACP yet.
fn alone(
    replica: &ovsdb::Replica,
    bonds: &BTreeSet<String>,
    links: &seen::Links<'_>,
) -> Result<Vec<(String, String)>, ovsdb::ReadError> {
    if bonds.is_empty() {
        return Ok(Vec::new());
    }
    let rows = Rows::read(replica)?;
    let bonds = rows.ports.values().filter(|port| bonds.contains(port.name.as_str()));
    let waits = |interface: &&ovsdb::Entry<Interface>| {
        let link = links.get(interface.name.as_str());
        let works = link.is_some_and(|link| link.seen.up && link.seen.carrier);
        works && interface.lacp_current != Some(true)
    };
    let found = bonds.flat_map(|port| seen::followed(&port.interfaces, &rows.interfaces));
    let words = || "without a word by LACP".to_owned();
    Ok(found.filter(waits).map(|interface| (interface.name.clone(), words())).collect())
}

/// The ports with carrier whose spanning tree has not decided yet.
fn waiting(
    replica: &ovsdb::Replica,
    bridges: &BTreeMap<&str, &str>,
    crowds: &BTreeSet<&str>,
    ports: &BTreeSet<&str>,
    links: &seen::Links<'_>,
) -> Result<Vec<(String, String)>, ovsdb::ReadError> {
    let mut found = Vec::new();
    if bridges.is_empty() && crowds.is_empty() {
        return Ok(found);
    }
    for bridge in replica.rows::<Bridge>()? {
        if !bridge.stp_enable && !bridge.rstp_enable {
            continue;
        }
        let renumbered = bridge.stp_enable && crowds.contains(bridge.name.as_str());
        let whole = renumbered || bridges.contains_key(bridge.name.as_str());
        // Neither takes part in a spanning tree: a port that gets copies, and
        // one of several links.
        let mirrors: Vec<_> = replica.rows::<Mirror>()?;
        let gets_copies = |port: ovsdb::Uuid| {
            mirrors.iter().any(|mirror| mirror.output_port == Some(ovsdb::Ref::uuid(port)))
        };
        for row in &bridge.ports {
            let Some(port) = row.as_uuid().map(|uuid| replica.get::<Port>(uuid)).transpose()?
            else {
                continue;
            };
            let Some(port) = port else { continue };
            let touched = whole || ports.contains(port.name.as_str());
            let local = port.name == bridge.name;
            let link = links.get(port.name.as_str());
            let down = link.is_some_and(|link| !link.seen.up || !link.seen.carrier);
            let apart = port.interfaces.len() != 1 || gets_copies(port.uuid);
            // Of what others plugged in some never gets a state, such as the
            // local devices of userspace. A NIC that is lent has no mark of
            // ours, and does.
            let theirs =
                seen::mark_of(&port.external_ids).is_none() && !ports.contains(port.name.as_str());
            if !touched || local || down || apart || theirs {
                continue;
            }
            let state = match bridge.stp_enable {
                true => port.status.get("stp_state"),
                false => port.rstp_status.get("rstp_port_state"),
            };
            let state = state.map(|state| state.to_lowercase()).unwrap_or_default();
            // One that is disabled is not with its link up: the switch has yet
            // to see that.
            let settled = ["forwarding", "blocking", "discarding"];
            // Under RSTP a port begins by discarding, and one that is to go on
            // so has the role of an alternate or a backup.
            let role = port.rstp_status.get("rstp_port_role").map(String::as_str);
            let undecided = state == "discarding" && !matches!(role, Some("Alternate" | "Backup"));
            if !settled.contains(&state.as_str()) || undecided {
                let words = if state.is_empty() { "without a state".to_owned() } else { state };
                found.push((port.name.clone(), words));
            }
        }
    }
    Ok(found)
}

#[async_trait]
impl Switch for OpenVswitch {
    async fn available(&mut self) -> Result<String, String> {
        // Kept for what comes next.
        self.there().await.map_err(|error| error::chain(&error))?;
        seek::available(self.vswitch.as_ref()).await
    }

    async fn abilities(&mut self, needs: &BTreeSet<Need>) -> Result<Abilities, SwitchError> {
        if needs.is_empty() {
            // Nobody wants a switch, and nobody has to be asked.
            return Ok(abilities(Datapath::Netdev, BTreeMap::new()));
        }
        let none = abilities(Datapath::Netdev, BTreeMap::new());
        let asleep = match self.there().await {
            Ok(Some(vswitch)) => vswitch.asleep().await,
            Ok(None) => None,
            Err(SwitchError::OpenVswitch(error)) => Some(error),
            Err(error) => return Err(error),
        };
        if let Some(error) = asleep {
            let (what, hint) = (error.to_string(), error.hint().unwrap_or_default());
            return Ok(Abilities { asleep: Some(Refusal { what, hint }), ..none });
        }
        if let Err(missing) = self.available().await {
            return Ok(Abilities { missing: Some(missing), ..none });
        }
        let (datapath, no_system) = seek::datapath().map_err(SwitchError::Observe)?;
        let there = self.there().await?;
        let checksums = there.is_none_or(|vswitch| vswitch.tso);
        let no_qinq = there.and_then(Vswitch::no_qinq);
        let mut cannot = BTreeMap::new();
        for need in needs {
            let reason = match need {
                Need::Stp(ports) if change::STP_PORTS_MAX < *ports => {
                    Some(format!("Open vSwitch speaks it at {} at most", change::STP_PORTS_MAX))
                }
                Need::ForwardDelay(seconds) if *seconds < 4 => {
                    Some("Open vSwitch takes 4 to 30 s".to_owned())
                }
                Need::Ageing(seconds) if !(15..=3600).contains(seconds) => {
                    Some("Open vSwitch takes 15 to 3600 s".to_owned())
                }
                Need::Datapath(Datapath::System) => no_system.clone(),
                Need::Datapath(Datapath::Netdev) => seek::no_tun(),
                Need::Queues(wanted) if wanted.unwrap_or(datapath) == Datapath::Netdev => Some(
                    "frames of the userspace datapath all go into the default queue".to_owned(),
                ),
                Need::Qinq => no_qinq.clone(),
                Need::Policing(wanted) => match wanted.unwrap_or(datapath) {
                    Datapath::System => self.no_policing().await?,
                    // By the kernel as well, but that lets the packet socket of
                    // the datapath see a frame before it polices it.
                    Datapath::Netdev => Some(
                        "frames reach the userspace datapath before they are policed".to_owned(),
                    ),
                },
                Need::Shaping => self.no_shaping().await?,
                Need::Vlans
                | Need::Isolation
                | Need::Stp(_)
                | Need::Rstp
                | Need::ForwardDelay(_)
                | Need::Ageing(_)
                | Need::Mirrors
                | Need::MirrorVlans
                | Need::Queues(_)
                | Need::OpenFlow
                // Below, all at once.
                | Need::Flow { .. }
                | Need::Export
                | Need::Bonds => None,
                Need::From(local) => no_address(*local),
                // What it says otherwise goes by the address of another device,
                // or of none, and the database shows no error.
                Need::Agent(device) => {
                    let is_there = self.links()?.iter().any(|link| link.name == *device);
                    (!is_there).then(|| "this host has no such device".to_owned())
                }
                Need::Tunnel(_, remote, wanted) => match wanted.unwrap_or(datapath) {
                    Datapath::System => None,
                    Datapath::Netdev => self.no_way_to(*remote).await?,
                },
            };
            if let Some(reason) = reason {
                cannot.insert(need.clone(), reason);
            }
        }
        let (flows, unread) = openflow::read_needed(needs).await?;
        cannot.extend(unread);
        Ok(Abilities { checksums, flows, ..abilities(datapath, cannot) })
    }

    async fn labs(&mut self) -> Result<BTreeSet<LabName>, SwitchError> {
        // Labs are known by their nodes too; which switches they have, `observe`
        // says, or why it cannot.
        let Ok(Some(vswitch)) = self.there().await else { return Ok(BTreeSet::new()) };
        vswitch.client.read(seen::labs).map_err(|error| vswitch.unreadable(&error))
    }

    async fn observe(&mut self, lab: &LabName) -> Result<Fabric, SwitchError> {
        let links = self.links()?;
        let vswitch = match self.there().await {
            Ok(Some(vswitch)) => vswitch,
            Ok(None) => return Ok(Fabric::default()),
            Err(error) => {
                let unseen = BTreeMap::from([(Backend::Ovs, error.to_string())]);
                return Ok(Fabric { unseen, ..Fabric::default() });
            }
        };
        let rows = vswitch.client.read(Rows::read).map_err(|error| vswitch.unreadable(&error))?;
        // Where the lab has nothing, nobody has to wait for a daemon that is busy
        // with what it had.
        let trouble = if rows.have(lab) { vswitch.trouble().await } else { None };
        let alive = !matches!(trouble, Some(OvsError::NotRunning { .. }));
        let mut fabric = rows.fabric(lab, &by_name(&links), alive);
        fabric.troubles.extend(trouble.as_ref().map(OvsError::to_string));
        let mut forwarding = Vec::new();
        // A bridge that could not be made has none.
        for seen in fabric.switches.values_mut().filter(|seen| alive && seen.broken.is_none()) {
            let bridge = rows.bridge(&seen.spec.device);
            if bridge.is_some_and(|bridge| bridge.external_ids.contains_key(FLOWS)) {
                let flows = match &trouble {
                    Some(OvsError::Silent) => Err(OvsError::Silent),
                    _ => openflow::ours(&vswitch.rundir, seen.spec.device.as_str()).await,
                };
                match flows {
                    Ok(flows) => seen.flows = flows,
                    Err(error) => {
                        fabric.blind.insert(seen.spec.name.clone(), error.to_string());
                    }
                }
            }
            let is_made = bridge.is_some_and(|bridge| bridge.datapath_id.is_some());
            if is_made && trouble.is_none() && seen.spec.forwards_by_itself() {
                forwarding.push((seen.spec.name.clone(), seen.spec.device.clone()));
            }
        }
        for some in forwarding.chunks(ASKED_AT_ONCE) {
            let mut asked = JoinSet::new();
            for (name, device) in some.iter().cloned() {
                let control = vswitch.control.clone();
                asked.spawn(async move {
                    (name, openflow::table_miss(&control, device.as_str()).await)
                });
            }
            while let Some(told) = asked.join_next().await {
                let (name, told) = told.expect("it neither panics nor is aborted");
                match (told, fabric.switches.get_mut(&name)) {
                    (Ok(table_miss), Some(seen)) => seen.table_miss = table_miss,
                    (Ok(_), None) => {}
                    (Err(error), _) => {
                        fabric.blind.insert(name, error.to_string());
                    }
                }
            }
        }
        self.troubled = trouble.is_some();
        Ok(fabric)
    }

    async fn commit(&mut self, steps: &[FabricStep]) -> Result<(), SwitchError> {
        if steps.is_empty() {
            return Ok(());
        }
        match self.change(steps).await {
            Ok(()) => Ok(()),
            Err(Failed::Nothing(error) | Failed::Unsure(error)) => {
                Err(SwitchError::OpenVswitch(error))
            }
            Err(Failed::Changed(error)) => match self.take_back(steps).await {
                left if left.is_empty() => Err(SwitchError::OpenVswitch(error)),
                left => Err(SwitchError::StillThere {
                    left,
                    source: Box::new(SwitchError::OpenVswitch(error)),
                }),
            },
        }
    }

    async fn traffic(&mut self, switch: &SwitchSpec) -> Result<Traffic, SwitchError> {
        let counted = super::linux::all_counters(&self.netlink)?;
        let troubled = self.troubled;
        let Some(vswitch) = self.there().await? else { return Ok(Traffic::default()) };
        let rows = vswitch.client.read(Rows::read).map_err(|error| vswitch.unreadable(&error))?;
        let fabric = switch_alone(&rows, switch);
        let mut traffic = Traffic::default();
        let mut by_number = BTreeMap::new();
        for (name, port) in &fabric {
            by_number.extend(port.numbers.iter().map(|number| (*number, name.clone())));
            let of_links = port.links.iter().filter_map(|link| counted.get(link.as_str()));
            let counters = of_links.copied().chain(port.counted).fold(Counters::default(), sum);
            traffic.counters.insert(name.clone(), counters);
        }
        if troubled {
            return Ok(traffic);
        }
        if fabric.values().any(|port| port.links.is_empty()) {
            // One that goes away meanwhile is told of by `observe`; what the
            // database has will do.
            let asked = ["--no-names", "dump-ports", switch.device.as_str()];
            let said = tools::ofctl(&vswitch.rundir, &asked, None).await.unwrap_or_default();
            let counted = tools::read_ports(&said);
            for (name, port) in fabric.iter().filter(|(_, port)| port.links.is_empty()) {
                let now = port.numbers.first().and_then(|number| counted.get(number));
                traffic.counters.extend(now.map(|counters| (name.clone(), *counters)));
            }
        }
        for (name, _) in fabric.iter().filter(|(_, port)| 1 < port.links.len()) {
            // As above: one that is gone by now has no state.
            let said = tools::answer(&vswitch.control, "bond/show", &[name.as_str()]).await;
            let bond = said.ok().and_then(Result::ok).map(|said| tools::read_bond(&said));
            traffic.bonds.extend(bond.map(|bond| (name.clone(), bond)));
        }
        let asked = tools::answer(&vswitch.control, "fdb/show", &[switch.device.as_str()]).await;
        let learned = match asked {
            Ok(Ok(learned)) => learned,
            // It has no such bridge, or `observe` tells what is wrong with it;
            // nobody knows what the switch has learned.
            Ok(Err(_)) => return Ok(traffic),
            Err(_) if vswitch.trouble().await.is_some() => return Ok(traffic),
            Err(error) => return Err(error.into()),
        };
        traffic.learned.extend(tools::read_fdb(&learned).into_iter().filter_map(|entry| {
            let port = by_number.get(&entry.number)?.clone();
            let vlan = Some(entry.vlan).filter(|_| switch.vlan_filtering);
            Some(Learned { mac: entry.mac, port, vlan })
        }));
        traffic.learned.sort();
        Ok(traffic)
    }

    async fn way(
        &mut self,
        switch: &SwitchSpec,
        enters: &IfName,
        frame: &Frame,
    ) -> Result<Way, SwitchError> {
        way::way(self, switch, enters, frame).await
    }

    fn openflow(&mut self) -> Option<&mut dyn OpenFlow> {
        Some(self)
    }

    fn prepare(&mut self) {
        if self.vswitch.is_none() && self.starting.is_none() {
            let state = self.state.clone();
            let start = async move { seek::there_or_started(&state).await };
            self.starting = Some(tokio::spawn(start));
        }
    }

    async fn leave(&mut self) -> Result<(), SwitchError> {
        // Nobody came to need it, and nobody holds it any more.
        if let Some(starting) = self.starting.take() {
            starting.abort();
        }
        match self.vswitch.take() {
            None => Ok(()),
            Some(vswitch) => vswitch.leave().await.map_err(SwitchError::OpenVswitch),
        }
    }
}

/// A port, as far as its counters go.
struct Counted {
    /// Its numbers: one for each link of a bond.
    numbers: Vec<u16>,
    /// The kernel's links that are plugged in, whose counters are up to date.
    links: Vec<String>,
    /// What the database has of a port without a link, some seconds old: all
    /// there is where the daemon does not answer.
    counted: Option<Counters>,
}

fn switch_alone(rows: &Rows, switch: &SwitchSpec) -> BTreeMap<IfName, Counted> {
    let Some(bridge) = rows.bridge(&switch.device) else { return BTreeMap::new() };
    let ports = seen::followed(&bridge.ports, &rows.ports).filter(|p| p.name != bridge.name);
    let counted = ports.filter_map(|port| {
        let interfaces: Vec<_> = seen::followed(&port.interfaces, &rows.interfaces).collect();
        let has_link = |interface: &str| matches!(interface, "" | "system");
        let links = interfaces.iter().filter(|interface| has_link(&interface.kind));
        let links: Vec<String> = links.map(|interface| interface.name.clone()).collect();
        let counted = interfaces.first().filter(|_| links.is_empty()).map(|interface| {
            let of = |key: &str| {
                let value = interface.statistics.get(key).copied().unwrap_or_default();
                u64::try_from(value).unwrap_or_default()
            };
            Counters {
                rx_packets: of("rx_packets"),
                rx_bytes: of("rx_bytes"),
                tx_packets: of("tx_packets"),
                tx_bytes: of("tx_bytes"),
                dropped: of("rx_dropped") + of("tx_dropped"),
            }
        });
        let numbers =
            interfaces.iter().filter_map(|interface| u16::try_from(interface.ofport?).ok());
        let counted = Counted { numbers: numbers.collect(), links, counted };
        Some((IfName::new(&port.name).ok()?, counted))
    });
    counted.collect()
}

fn sum(a: Counters, b: Counters) -> Counters {
    Counters {
        rx_packets: a.rx_packets + b.rx_packets,
        rx_bytes: a.rx_bytes + b.rx_bytes,
        tx_packets: a.tx_packets + b.tx_packets,
        tx_bytes: a.tx_bytes + b.tx_bytes,
        dropped: a.dropped + b.dropped,
    }
}
