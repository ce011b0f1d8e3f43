//! NICs in nodes: what stands in the way of one, what is written down before it
//! goes, and how it comes home.
//!
//! A node whose NIC is not home yet is never deleted: the kernel would destroy
//! a virtual one with it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::apply::Cause;
use super::attachments::Attachments;
use super::state::Held;
use super::{Engine, EngineError};
use crate::kernel::{cut_short, netns};
use crate::model::mark::netns as netns_name;
use crate::model::names::{IfName, LabName, NodeName};
use crate::model::nic::{Nic, NicLink};
use crate::model::topology::{Lab, Macvlan, NodeNic, Share};
use crate::model::world::{Questions, World};
use crate::plan::attach::moves::{furnish, house};
use crate::plan::attach::{Away, NicStep, NodeWish, shared};
use crate::plan::{Loan, Refusal, Step};

/// How long the kernel may take to bring a NIC out of a namespace that ends.
const RETURNED_WITHIN: Duration = Duration::from_secs(3);

/// What nodes are to have of NICs and have not.
#[derive(Debug, Default)]
pub(super) struct ToLend {
    /// NICs that go into nodes.
    pub(super) loans: Vec<Loan>,
    /// What the NICs' owner should know.
    pub(super) warnings: Vec<String>,
}

/// Where a NIC is that was in a node.
enum Whereabouts {
    /// In a node, under that name.
    Node(NodeName, IfName),
    /// In the machine's own namespace, under that name.
    Here(IfName),
    /// Nowhere.
    Gone,
}

impl Engine {
    /// What the nodes of `lab` are to have of NICs, if nothing stands in the way.
    pub(super) async fn lendable(
        &mut self,
        lab: &Lab,
        attached: &Attachments,
    ) -> Result<ToLend, EngineError> {
        let mut found = ToLend::default();
        if lab.nics().next().is_none() || self.nics.is_none() {
            return Ok(found);
        }
        let world = self.observe(&Questions::about(&lab.name)).await?;
        let mut refusals = Vec::new();
        for at in lab.nics().filter(|at| !is_there(&world, *at)) {
            let refused = self.look_at(lab, at, attached, &world, &mut found).await?;
            refusals.extend(refused);
        }
        found.warnings.dedup();
        match refusals.is_empty() {
            true => Ok(found),
            false => Err(EngineError::Refused { lab: lab.name.clone(), refusals }),
        }
    }

    async fn look_at(
        &mut self,
        lab: &Lab,
        at: NodeNic<'_>,
        attached: &Attachments,
        world: &World,
        found: &mut ToLend,
    ) -> Result<Vec<Refusal>, EngineError> {
        let NodeNic { nic: name, share, node, interface, mtu } = at;
        let (force, peer) = (self.wishes.force, self.wishes.ssh);
        let here = attached.nics.contains_key(name) && lab.uplinks.contains_key(name);
        let other = self.lab_with(name, &lab.name)?.or_else(|| here.then(|| lab.name.clone()));
        if let Some(other) = other {
            return Ok(vec![Refusal {
                what: format!("`{name}` is attached to lab `{other}`"),
                hint: format!("take it off there first: `ovsns detach {name}`"),
            }]);
        }
        let nics = self.nics()?;
        let nic = match nics.read(name) {
            Ok(nic) => nic,
            Err(error) if error.errno == Errno::ENODEV => {
                // It is on its way home from another node.
                if attached.moved.contains_key(name) {
                    found.loans.extend((share == Share::Move).then(|| Loan::of(lab, at)));
                    return Ok(Vec::new());
                }
                return Ok(vec![Refusal {
                    what: format!("there is no device `{name}`"),
                    hint: "`ip link` lists the devices of this machine".into(),
                }]);
            }
            Err(error) => return Err(error.into()),
        };
        let facts = nics.facts(&nic.link)?;
        let this = format!("{}:", netns_name(&lab.name, node));
        let mut children = nics.children(nic.link.index).await?;
        // One of another kind that is made anew.
        children.retain(|(place, _)| !place.starts_with(&this));
        let ssh = match peer {
            Some(peer) if nics.way_to(peer)? == Some(nic.link.index) => Some(peer),
            _ => None,
        };
        let seen = world.fabric.switches.values();
        let mut seen = seen.filter(|seen| seen.ports.contains_key(name));
        let port_of = seen.next().map(|seen| seen.spec.device.to_string());
        let taken = world.fabric.taken.get(name.as_str()).map(|what| (*what).to_owned());
        let wish = NodeWish {
            who: format!("{node}:{interface}"),
            share,
            mtu,
            force,
            port_of: port_of.or(taken),
            children,
            ssh,
        };
        let preflight = shared(&nic, &facts, &wish);
        found.warnings.extend(preflight.warnings);
        found.loans.extend((share == Share::Move).then(|| Loan::of(lab, at)));
        Ok(preflight.refusals)
    }

    /// Why a NIC cannot be a port, for what nodes have of it.
    pub(super) async fn in_nodes(&mut self, nic: &NicLink) -> Result<Vec<Refusal>, EngineError> {
        let children = self.nics()?.children(nic.index).await?;
        let refusal = |(place, _): &(String, Macvlan)| Refusal {
            what: format!(
                "macvlan `{place}` sits on `{}`, which cannot be a port beside that",
                nic.name
            ),
            hint: "take that away first: `ovsns link rm`, or `ip link delete` in that namespace"
                .into(),
        };
        Ok(children.iter().map(refusal).collect())
    }

    /// The NICs that are in nodes and are not to be there any more, and those
    /// that are to be and are not.
    pub(super) async fn coming_home(
        &mut self,
        attached: &Attachments,
        lab: &Lab,
    ) -> Result<BTreeSet<IfName>, EngineError> {
        if attached.moved.is_empty() {
            return Ok(BTreeSet::new());
        }
        let world = self.observe(&Questions::whose(&lab.name)).await?;
        let stays = |nic: &IfName| {
            lab.moved().any(|at| at.nic == nic && Loan::of(lab, at).is_there(&world))
        };
        Ok(attached.moved.keys().filter(|nic| !stays(nic)).cloned().collect())
    }

    /// Writes down how a NIC is, before it goes.
    pub(super) fn note(
        &mut self,
        held: &Held,
        loan: &Loan,
        attached: &mut Attachments,
    ) -> Result<(), EngineError> {
        let was = self.nics()?.belongings(&loan.nic)?;
        let loan = Loan { index: Some(was.nic.link.index), ..loan.clone() };
        attached.moved.insert(loan.nic.clone(), Away { was, loan });
        held.write_attachments(attached)?;
        Ok(())
    }

    /// Brings a NIC home from wherever it is, past every failure but that one.
    pub(super) async fn bring_back(
        &mut self,
        lab: &LabName,
        away: &Away,
    ) -> Result<Vec<String>, EngineError> {
        let name = &away.was.nic.link.name;
        let mut lines = Vec::new();
        match self.whereabouts(lab, away).await? {
            Whereabouts::Gone => {
                lines.push(format!("! NIC {name} is nowhere to be found any more"));
                return Ok(lines);
            }
            Whereabouts::Here(called) if called == *name => {}
            Whereabouts::Here(called) => {
                let step = NicStep::Rename { from: called, to: name.clone() };
                lines.push(step.to_string());
                self.put_back(name, &step).await?;
            }
            Whereabouts::Node(node, device) => {
                let step = Step::ReturnNic(Loan { node, device, ..away.loan.clone() });
                lines.push(step.line(lab));
                let done = self.perform(lab, &step).await;
                let failed = |source| EngineError::NotDetached {
                    nic: name.clone(),
                    source: Cause::Host(source),
                };
                done.map_err(failed)?;
            }
        }
        let mut failed = None;
        for part in [house, furnish] {
            let now = self.nics()?.belongings(name)?;
            for step in part(away, &now) {
                lines.push(step.to_string());
                if let Err(error) = self.put_back(name, &step).await {
                    failed.get_or_insert(error);
                }
            }
        }
        match failed {
            None => Ok(lines),
            Some(error) => Err(error),
        }
    }

    pub(super) async fn put_back(
        &mut self,
        nic: &IfName,
        step: &NicStep,
    ) -> Result<(), EngineError> {
        cut_short::before(|| step.to_string());
        let done = self.nics()?.perform(step).await;
        let failed =
            |source| EngineError::NotDetached { nic: nic.clone(), source: Cause::Host(source) };
        done.map_err(failed)
    }

    /// Looks for a NIC that was to be in a node: there, or where the kernel puts
    /// one whose namespace has ended.
    async fn whereabouts(
        &mut self,
        lab: &LabName,
        away: &Away,
    ) -> Result<Whereabouts, EngineError> {
        let start = Instant::now();
        let name = &away.was.nic.link.name;
        loop {
            let world = self.host.observe(&Questions::whose(lab)).await?;
            let mut moved = world.nodes.iter().flat_map(|(node, seen)| {
                seen.moved.iter().map(move |(device, nic)| (node, device, nic))
            });
            if let Some((node, device, _)) = moved.find(|(_, _, nic)| *nic == name) {
                return Ok(Whereabouts::Node(node.clone(), device.clone()));
            }
            let nics = self.nics()?;
            if let Some(called) = nics.called(&away.loan.mark)? {
                return Ok(Whereabouts::Here(called));
            }
            match nics.read(name) {
                Ok(nic) if is_it(&nic, away) => return Ok(Whereabouts::Here(name.clone())),
                Err(error) if error.errno != Errno::ENODEV => return Err(error.into()),
                // Another device of that name.
                Ok(_) | Err(_) => {}
            }
            if nics.fetch(&away.loan.mark).await? {
                continue;
            }
            // A virtual one has gone with its namespace; any other comes home,
            // in the kernel's own time.
            if away.was.nic.link.kind.is_some() || RETURNED_WITHIN < start.elapsed() {
                return Ok(Whereabouts::Gone);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sees to NICs whose node somebody else has deleted. Says which are home
    /// again.
    pub(super) async fn fetch_lost(
        &mut self,
        lab: &LabName,
        attached: &Attachments,
    ) -> Result<Vec<String>, EngineError> {
        let is_lost = |away: &Away| !netns::path(&netns_name(lab, &away.loan.node)).exists();
        if attached.change.is_some() || !attached.moved.values().any(is_lost) {
            return Ok(Vec::new());
        }
        let Some(held) = self.state.lock_if_free(lab, &self.command)? else {
            return Ok(Vec::new());
        };
        let mut told = Vec::new();
        let mut attached = self.state.attachments(lab)?;
        let lost: Vec<Away> = attached.moved.values().filter(|a| is_lost(a)).cloned().collect();
        for away in lost {
            let (nic, node) = (&away.was.nic.link.name, &away.loan.node);
            let lines = self.bring_back(lab, &away).await?;
            attached.moved.remove(nic);
            held.write_attachments(&attached)?;
            let gone = lines.iter().any(|line| line.starts_with('!'));
            let what = if gone { "went with it" } else { "is home again" };
            told.push(format!("somebody deleted node `{node}`; `{nic}` {what}"));
        }
        Ok(told)
    }
}

/// Whether a node has what a link says of a NIC.
fn is_there(world: &World, at: NodeNic) -> bool {
    let Some(node) = world.host.nodes.get(at.node) else { return false };
    match at.share {
        Share::Move => node.moved.values().any(|nic| nic == at.nic),
        Share::Macvlan(mode) => {
            let is_it = |seen: &crate::model::world::SeenMacvlan| {
                seen.nic.as_ref() == Some(at.nic) && seen.mode == mode
            };
            node.macvlans.values().any(is_it)
        }
    }
}

/// Whether a device of a NIC's name is that NIC.
fn is_it(nic: &Nic, away: &Away) -> bool {
    let was = &away.was.nic.link;
    let mac = nic.link.mac == was.mac || away.loan.mac.is_some_and(|mac| nic.link.mac == Some(mac));
    nic.link.index == was.index || (mac && nic.link.kind == was.kind)
}
