//! NICs that are ports of a lab's switches, and of which nothing is written down.
//!
//! The database of the machine's own Open vSwitch outlives a reboot. When the
//! machine starts, the switch takes the NIC again, while the machine gives the
//! NIC its addresses, as it always does: nothing would reach them. The mark of
//! the port tells in which life of the machine it was made. One of an earlier
//! life is taken off the switch.
//!
//! In this life what is written down may have been deleted. How the NIC was is
//! lost then, but all that it had is on the switch's local device, so it can go
//! home with that.

use std::collections::BTreeSet;

use super::Engine;
use super::EngineError;
use super::attach::{in_userspace, port_of};
use super::state::boot_id;
use crate::model::mark::{Mark, birth_mac};
use crate::model::names::{IfName, LabName};
use crate::model::nic::{Nic, NicAddress};
use crate::model::topology::Backend;
use crate::model::world::{Questions, SeenPort, SeenSwitch, SwitchSpec};
use crate::plan::FabricStep;
use crate::plan::attach::Attached;

/// `RTPROT_KERNEL` (rtnetlink(7)).
const BY_KERNEL: u8 = 2;

/// What a port is that is no link of the lab's.
enum Lent {
    /// A NIC that was attached before the machine was started.
    Before,
    /// A NIC that was attached since.
    Now,
}

impl Engine {
    /// Looks for such NICs, where there may be any; says what became of them.
    pub(super) async fn recall(&mut self) -> Result<Vec<String>, EngineError> {
        let mut told = Vec::new();
        for lab in self.labs_to_recall().await? {
            let world = self.observe(&Questions::whose(&lab)).await?;
            let mut lent = Vec::new();
            for seen in world.fabric.switches.values() {
                for (nic, port) in &seen.ports {
                    if let Some(what) = self.lent(seen, nic, port)? {
                        lent.push((seen, nic, what));
                    }
                }
            }
            if lent.is_empty() {
                continue;
            }
            let Some(held) = self.state.lock_if_free(&lab, &self.command)? else { continue };
            let mut attached = self.state.attachments(&lab)?;
            for (seen, nic, what) in lent {
                let switch = &seen.spec;
                match what {
                    Lent::Before => {
                        let port = FabricStep::DeletePort(port_of(&lab, nic, switch));
                        let failed = |source| EngineError::NotDetached { nic: nic.clone(), source };
                        self.commit(switch.backend, &[port]).await.map_err(failed)?;
                        told.push(format!(
                            "`{nic}` was a port of switch `{}` before this machine was started, and \
                             is not now",
                            switch.name
                        ));
                    }
                    Lent::Now => {
                        let this = self.as_it_is(&lab, nic, switch)?;
                        attached.nics.insert(nic.clone(), this);
                        // Those that are held are to go on, too.
                        let clients = self.nics()?.clients(nic);
                        if !clients.is_empty() {
                            attached.clients.insert(nic.clone(), clients);
                        }
                    }
                }
            }
            held.write_attachments(&attached)?;
        }
        Ok(told)
    }

    /// The labs of which something may be there and is not written down.
    async fn labs_to_recall(&mut self) -> Result<BTreeSet<LabName>, EngineError> {
        let remembered = self.state.labs()?;
        if remembered.is_empty() {
            return self.labs().await;
        }
        let mut labs = BTreeSet::new();
        for lab in remembered {
            if self.state.is_of_before(&lab)? {
                labs.insert(lab);
            }
        }
        Ok(labs)
    }

    /// What a port of a lab's switch is, if it is a NIC that was lent to it. In
    /// Open vSwitch its mark tells. A Linux bridge keeps none; but the local
    /// device of ours has an address of its own, or that of the NIC.
    fn lent(
        &mut self,
        seen: &SeenSwitch,
        nic: &IfName,
        port: &SeenPort,
    ) -> Result<Option<Lent>, EngineError> {
        let spec = &seen.spec;
        match spec.backend {
            Backend::Ovs => {
                let before = |boot: &String| match *boot == boot_id() {
                    true => Lent::Now,
                    false => Lent::Before,
                };
                Ok(port.lent.as_ref().map(before))
            }
            Backend::Linux if spec.mac == birth_mac(&spec.device) => Ok(None),
            Backend::Linux => {
                let link = self.nics()?.read(nic)?.link;
                let is_it = link.mac == Some(spec.mac) && Mark::parse(&link.alias).is_none();
                Ok(is_it.then_some(Lent::Now))
            }
        }
    }

    /// A NIC that is attached, as if nobody had ever given it anything: all that
    /// is on the local device is to go home with it.
    fn as_it_is(
        &mut self,
        lab: &LabName,
        nic: &IfName,
        switch: &SwitchSpec,
    ) -> Result<Attached, EngineError> {
        let (mut nic, local) = (self.nics()?.read(nic)?, self.nics()?.read(&switch.device)?);
        nic.link.generates = local.link.generates.or(nic.link.generates);
        // Staged addresses brought no routes along. One whose network has a route
        // of the kernel's had one before, and is tried for duplicates as usual.
        let staged = NicAddress::NOPREFIXROUTE | NicAddress::NODAD;
        let has_route = |address: &NicAddress| {
            let to = address.net.trunc();
            local.routes.iter().any(|route| route.to == to && route.protocol == BY_KERNEL)
        };
        let as_before = |address: &NicAddress| match has_route(address) {
            true => address.with_flags(address.asked_flags() & !staged),
            false => address.clone(),
        };
        // One that the local device made of an Ethernet address of its own, before it
        // got the NIC's, was never the NIC's.
        let own = birth_mac(&switch.device).link_local();
        let (own, lent): (Vec<_>, Vec<_>) =
            local.addresses.iter().partition(|address| address.net.addr() == own);
        nic.addresses = lent.into_iter().map(as_before).collect();
        let bare = Nic {
            addresses: own.into_iter().cloned().collect(),
            routes: Vec::new(),
            hops: Vec::new(),
            rules: Vec::new(),
            neighbours: Vec::new(),
            ..local
        };
        let owners = self.nics()?.owners(&nic.link);
        Ok(Attached {
            port: port_of(lab, &nic.link.name, switch),
            owners,
            regained: Vec::new(),
            nic,
            local: bare,
            userspace: in_userspace(switch),
            whole_checksums: false,
            switch: switch.clone(),
        })
    }
}
