//! The host's own lease, while its NIC is a port: its client is held, or looks away,
//! and the lease is renewed in its place, on the switch's local device.

use ipnet::IpNet;

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
        let Some((address, _)) = leased else { return Ok(()) };
        Ok(leases::hold_for_host(lab, &this.local.link.name, address, client_id).await?)
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
