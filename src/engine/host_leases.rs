//! The host's own lease, while its NIC is a port: its client is held, or looks away,
//! and the lease is renewed in its place, on the switch's local device.

use ipnet::{IpNet, Ipv4Net};

use super::attachments::Attachments;
use super::state::Held;
use super::{Engine, EngineError};
use crate::kernel::leases;
use crate::model::names::{IfName, LabName};
use crate::plan::attach::Attached;

impl Engine {
    /// Holds the clients that see to a NIC: noted first, so that whoever takes the
    /// change back lets them go on.
    pub(super) fn hold_clients(
        &mut self,
        held: &Held,
        attached: &mut Attachments,
        nic: &IfName,
    ) -> Result<(), EngineError> {
        let clients = self.nics()?.clients(nic);
        if clients.is_empty() {
            return Ok(());
        }
        attached.clients.insert(nic.clone(), clients.clone());
        held.write_attachments(attached)?;
        Ok(self.nics()?.hold_clients(&clients, true)?)
    }

    /// Has the lease renewed that held clients cannot renew. Done where it is done.
    pub(super) async fn keep_host_lease(
        &mut self,
        lab: &LabName,
        attached: &Attachments,
        this: &Attached,
    ) -> Result<(), EngineError> {
        let Some((address, client_id)) = lease_of(attached, this) else { return Ok(()) };
        Ok(leases::hold_for_host(lab, &this.local.link.name, address, client_id).await?)
    }

    /// The leases of the host that nobody renews although their clients cannot, each
    /// a line: who did was killed. `up` has them renewed again.
    pub async fn unkept_leases(&self, lab: &LabName) -> Result<Vec<String>, EngineError> {
        let attached = &self.state.attachments(lab)?;
        let mut to_keep = attached.nics.values().filter_map(|this| {
            let (address, _) = lease_of(attached, this)?;
            Some((address, &this.local.link.name))
        });
        let Some(first) = to_keep.next() else { return Ok(Vec::new()) };
        let kept = leases::list_of_host(lab).await?;
        let all = std::iter::once(first).chain(to_keep);
        let unkept = all.filter(|(_, device)| !kept.contains(*device));
        Ok(unkept
            .map(|(address, device)| format!("~ lease of {address} on {device}, renewed again"))
            .collect())
    }

    /// Leaves the lease to the clients that were held, whose NIC comes home.
    pub(super) async fn leave_host_lease(
        &mut self,
        lab: &LabName,
        attached: &Attachments,
        this: &Attached,
    ) -> Result<(), EngineError> {
        if !attached.clients.contains_key(&this.nic.link.name) && this.owners.is_empty() {
            return Ok(());
        }
        Ok(leases::leave_to_host(lab, &this.local.link.name).await?)
    }

    /// Has the clients go on that were held, now that their NIC is home.
    pub(super) fn release_clients(
        &mut self,
        attached: &mut Attachments,
        nic: &IfName,
    ) -> Result<(), EngineError> {
        match attached.clients.remove(nic) {
            Some(clients) => Ok(self.nics()?.hold_clients(&clients, false)?),
            None => Ok(()),
        }
    }
}

/// The lease of the host that is renewed in its client's place, with the id of that
/// client as far as it is known: there is a client that is held, or looks away.
fn lease_of(attached: &Attachments, this: &Attached) -> Option<(Ipv4Net, Vec<u8>)> {
    let nic = &this.nic;
    let client = attached.clients.get(&nic.link.name).and_then(|all| all.first());
    let owner = this.owners.first();
    let v4 = || {
        nic.addresses.iter().filter_map(|address| match address.net {
            IpNet::V4(net) => Some((net, address.valid_s.is_some())),
            IpNet::V6(_) => None,
        })
    };
    let for_a_time = v4().find(|(_, for_a_time)| *for_a_time);
    let (leased, client_id) = match (client, owner, nic.link.mac) {
        // It gives its address no time. Its own default; the others send none,
        // or one that only they know.
        (Some(client), _, Some(mac)) if client.program == "udhcpc" => {
            (for_a_time.or_else(|| v4().next()), [&[1], &mac.0[..]].concat())
        }
        (Some(_), _, _) => (for_a_time.or_else(|| v4().next()), Vec::new()),
        (None, Some(owner), _) => (for_a_time, owner.client_id.clone()),
        (None, None, _) => (None, Vec::new()),
    };
    leased.map(|(address, _)| (address, client_id))
}
