//! A change as Open vSwitch carries it out: written in one transaction, waited for,
//! and what the switch has to be told besides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ovsdb::Transaction;
use ovsdb::vswitch::{Bridge, Interface, Mirror, OpenVswitch as Root, Port};

use super::error::{Failed, OvsError};
use super::openflow::FlowChange;
use super::seek::Vswitch;
use super::seen::Rows;
use super::{applied_within, change, openflow, seen, tools};
use crate::model::names::IfName;
use crate::model::topology::{FORWARD_DELAY_S_MAX, Lacp};
use crate::model::world::{PortKind, SwitchSpec};
use crate::plan::FabricStep;

/// How long a daemon is believed to be at earlier changes before it is asked to
/// say again that it has carried them out.
const SAYS_WITHIN: Duration = Duration::from_secs(1);

/// How much longer than two forward delays a port may take to forward: as long
/// as what was heard before is believed, where protocols are mixed.
const FORWARDING_GRACE: Duration = Duration::from_secs(45);

/// How many switches are asked at a time for what they do: the daemon takes up
/// several questions each time round its loop, which is long with many switches.
pub(super) const ASKED_AT_ONCE: usize = 64;

impl Vswitch {
    /// Writes `steps` in one transaction and waits until they are carried out.
    pub(super) async fn apply(
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
    pub(super) async fn commit(
        &self,
        steps: &[FabricStep],
        links: &seen::Links<'_>,
    ) -> Result<(), Failed> {
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
    pub(super) async fn caught_up(&self, within: Duration) -> Result<(), Failed> {
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
    pub(super) async fn decide_anew(&self, steps: &[FabricStep]) -> Result<(), OvsError> {
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
    pub(super) async fn flood_again(&self, steps: &[FabricStep]) -> Result<(), OvsError> {
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
    pub(super) async fn change_flows(&self, steps: &[FabricStep]) -> Result<(), OvsError> {
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
    pub(super) async fn forwarding(
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
