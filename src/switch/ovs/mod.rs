//! Open vSwitch as a switch: bridges are rows of its database (RFC 7047,
//! ovs-vswitchd.conf.db(5)), ports are rows that name links of the kernel.
//!
//! A batch of steps is one transaction (`change`), and is not done before
//! `ovs-vswitchd` has carried it out and every interface says that it works.
//! What is there is read from a replica of the database (`seen`). Only what
//! the database does not have goes elsewhere: the local devices of bridges are
//! marked and raised by netlink, flows (`openflow`) and the forwarding table go
//! through `tools`. Which Open vSwitch it is, `seek` finds out.

mod apply;
mod change;
mod error;
pub(super) mod fuzzing;
mod openflow;
pub mod report;
mod seek;
mod seen;
mod tools;
mod traffic;
mod way;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use netlink_packet_route::link::LinkAttribute;
use ovsdb::vswitch::Bridge;
use tokio::task::{JoinHandle, JoinSet};

use self::apply::ASKED_AT_ONCE;
use self::error::Failed;
use self::seek::Vswitch;
use self::seen::{FLOWS, Rows};
use super::{OpenFlow, Switch, SwitchError, Traffic};
use crate::kernel::netlink::Netlink;
use crate::kernel::observe::{self, Link};
use crate::kernel::worker::Worker;
use crate::kernel::{KernelError, LinuxHost, cut_short, tc};
use crate::model::mark::Mark;
use crate::model::names::{IfName, LabName};
use crate::model::packet::Frame;
use crate::model::topology::{Backend, Datapath};
use crate::model::world::{Fabric, SwitchSpec};
use crate::plan::why::facts::Way;
use crate::plan::{Abilities, FabricStep, Need, Refusal};

pub use error::OvsError;
pub use ovsdb::session::{Transactions, transactions};
pub(super) use seek::directories;

/// How long `ovs-vswitchd` may take to carry out a change: a thousand ports
/// take a second or two on a busy machine. `OVSNS_APPLY_SECS` says otherwise.
const APPLIED_WITHIN: Duration = Duration::from_secs(60);

/// How long it may take to take away what cannot be swept.
const GONE_WITHIN: Duration = Duration::from_secs(5);

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

    /// Does all of `steps`, and says how far it came if not. Where a sweep of the lab's
    /// links comes next, what it takes need not be gone.
    async fn change(&mut self, steps: &[FabricStep], swept_next: bool) -> Result<(), Failed> {
        let links = observe::links(&self.netlink).map_err(kernel).map_err(Failed::Nothing)?;
        let netlink = self.netlink.clone();
        let within = applied_within();
        let vswitch = self.needed().await.map_err(Failed::Nothing)?;
        let asleep = vswitch.asleep().await;
        if (swept_next || asleep.is_some()) && is_teardown(steps, asleep.is_none()) {
            vswitch.commit(steps, &by_name(&links)).await?;
            if asleep.is_none() && !are_swept(steps, &by_name(&links)) {
                // One that is late keeps nobody.
                let _ = vswitch.caught_up(GONE_WITHIN).await;
            }
            return Ok(());
        }
        if let Some(error) = asleep {
            return Err(Failed::Nothing(error));
        }
        // What an earlier teardown left to be carried out comes first: a port
        // that goes and comes back in between is, to the switch, the same
        // port, and stays bound to a link that is no more.
        vswitch.caught_up(within).await?;
        vswitch.apply(steps, &by_name(&links), within).await?;
        cut_short::before(|| "what goes with the rows".into());
        vswitch.decide_anew(steps).await.map_err(Failed::Changed)?;
        local_devices(&netlink, steps).map_err(kernel).map_err(Failed::Changed)?;
        vswitch.flood_again(steps).await.map_err(Failed::Changed)?;
        cut_short::before(|| "flows".into());
        vswitch.change_flows(steps).await.map_err(Failed::Changed)?;
        let links = observe::links(&netlink).map_err(kernel).map_err(Failed::Changed)?;
        vswitch.forwarding(steps, &by_name(&links)).await.map_err(Failed::Changed)
    }

    /// Does all of `steps`, or takes back what was done.
    async fn all_or_none(
        &mut self,
        steps: &[FabricStep],
        swept_next: bool,
    ) -> Result<(), SwitchError> {
        if steps.is_empty() {
            return Ok(());
        }
        match self.change(steps, swept_next).await {
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

    /// Takes back all of `steps`, newest first, and returns in words what
    /// could not be.
    async fn take_back(&mut self, steps: &[FabricStep]) -> Vec<String> {
        let undos = steps.iter().rev().flat_map(|step| step.undo().unwrap_or_default());
        let undos: Vec<FabricStep> = undos.collect();
        match self.change(&undos, false).await {
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

/// Whether the local devices of all bridges that go are marked, and can be swept. One
/// whose birth was cut off is not, and until the daemon takes it away the next
/// command would think that it is somebody else's.
fn are_swept(steps: &[FabricStep], links: &HashMap<&str, &Link>) -> bool {
    steps.iter().all(|step| match step {
        FabricStep::DeleteSwitch(spec) => links
            .get(spec.device.as_str())
            .is_some_and(|link| Mark::parse(&link.seen.alias).is_some()),
        FabricStep::DeleteLeftover(_)
        | FabricStep::AddSwitch(_)
        | FabricStep::SetSwitch { .. }
        | FabricStep::RaiseSwitch(_)
        | FabricStep::SettleSwitch(_)
        | FabricStep::AddPort(_)
        | FabricStep::SetPort { .. }
        | FabricStep::DeletePort(_)
        | FabricStep::AddMirror(_)
        | FabricStep::DeleteMirror(_)
        | FabricStep::AddFlow(_)
        | FabricStep::DeleteFlow(_) => true,
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
        self.all_or_none(steps, false).await
    }

    async fn tear_down(&mut self, steps: &[FabricStep]) -> Result<(), SwitchError> {
        self.all_or_none(steps, true).await
    }

    async fn traffic(&mut self, switch: &SwitchSpec) -> Result<Traffic, SwitchError> {
        traffic::traffic(self, switch).await
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
