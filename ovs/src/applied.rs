//! Whether the switch has applied what the database has committed.
//!
//! A commit only says that `ovsdb-server` wrote it down. `ovs-vswitchd` applies
//! it afterwards, or is not running, or cannot. [`Client::apply`] asks: each
//! change raises `Open_vSwitch.next_cfg` in the same transaction, and the
//! switch sets `cur_cfg` to that number when it has looked at everything
//! (ovs-vswitchd.conf.db(5), `Open_vSwitch` table). Some columns it does not
//! even look at before `next_cfg` changes (`Port.trunks`, `Bridge.stp_enable`).
//! Then each interface that was touched tells by its `ofport` and its `error`
//! what became of it.
//!
//! An interface that is removed and added again in one change is, to the
//! switch, the same as before: to make it anew, apply the removal first and
//! the addition after it. An `ofport_request` is only sure to be honoured in
//! the change that adds the interface.
//!
//! An interface that is well now may fail later, when its device goes away:
//! subscribe to [`Client::changes`] of `Interface` to be told. And no error is
//! no proof: an interface whose device vanished keeps its `ofport`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client::Client;
use crate::column::{Field, Ref};
use crate::operation::{Condition, Mutate, Operation, Select};
use crate::replica::{ReadError, Replica};
use crate::reply::Answer;
use crate::table::Table;
use crate::tables;
use crate::transact::{Bound, EditError};
use crate::transaction::{Committed, Transaction};
use crate::value::{Atom, Uuid, Value};

tables! {
    /// The columns by which the switch tells how far it is.
    struct Progress = "Open_vSwitch" {
        /// Raised by whoever changes something.
        NEXT_CFG next_cfg: i64,
        /// What the switch has applied.
        CUR_CFG cur_cfg: i64,
    }
    /// Which ports a bridge has, and whether it came to be.
    struct BridgeState = "Bridge" {
        /// Its name.
        NAME name: String,
        /// Its ports.
        PORTS ports: BTreeSet<Ref<PortState>>,
        /// Set by the switch once the bridge is there.
        DATAPATH_ID datapath_id: Option<String>,
    }
    /// Which interfaces a port has.
    struct PortState = "Port" {
        /// Its interfaces.
        INTERFACES interfaces: BTreeSet<Ref<Plugged>>,
    }
    /// What became of an interface.
    struct Plugged = "Interface" {
        /// Its name.
        NAME name: String,
        /// Its OpenFlow port number, or -1.
        OFPORT ofport: Option<i64>,
        /// What is wrong with it.
        ERROR error: Option<String>,
    }
}

/// A change that the switch has applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The answers to the change; `None` if there was nothing to do, or if an
    /// earlier attempt, whose reply was lost, did it.
    pub committed: Option<Committed>,
    /// The `next_cfg` that was waited for; `None` if there was nothing to do.
    pub cfg: Option<i64>,
    /// The interfaces that the change touched, in the order of their names.
    pub interfaces: Vec<InterfaceState>,
}

/// What the switch says of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceState {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub state: Plug,
}

/// What became of an interface after a change was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plug {
    /// It is in its bridge, as this OpenFlow port: 1 to 65279, or 65534 for the
    /// bridge's own.
    In(i64),
    /// The switch could not take it; what it says.
    Refused(String),
    /// The switch says nothing of it, because its bridge did not come to be.
    NoBridge(String),
    /// The switch says nothing of it, although its bridge is there.
    Unknown,
    /// It is not in the database any more.
    Gone,
}

impl InterfaceState {
    /// Whether it is not as it should be. One that is gone is.
    pub fn is_fault(&self) -> bool {
        !matches!(self.state, Plug::In(_) | Plug::Gone)
    }
}

impl std::fmt::Display for InterfaceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.name;
        match &self.state {
            Plug::In(ofport) => write!(f, "`{name}` is port {ofport}"),
            Plug::Refused(error) => write!(f, "`{name}`: {error}"),
            Plug::NoBridge(bridge) => {
                write!(f, "`{name}` is out, because the bridge `{bridge}` did not come to be")
            }
            Plug::Unknown => write!(f, "`{name}` has no port number"),
            Plug::Gone => write!(f, "`{name}` is gone"),
        }
    }
}

/// Why a change is not known to be applied. They call for different things:
/// to try again, to look at the switch, to look at an interface.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<E> {
    /// The client does not watch what this needs: `next_cfg` and `cur_cfg` of
    /// `Open_vSwitch`; `name`, `ofport` and `error` of `Interface`;
    /// `interfaces` of `Port`; `name`, `ports` and `datapath_id` of `Bridge`.
    /// Nothing was sent.
    #[error("the client does not watch what it takes to see a change applied")]
    Blind(#[source] ReadError),
    /// The table `Open_vSwitch` has no row: nobody has set the database up
    /// (`ovs-vsctl init`). Nothing was sent.
    #[error("the database has not been initialised")]
    Uninitialised,
    /// The change was not committed, or that is not known.
    #[error(transparent)]
    Edit(#[from] EditError<E>),
    /// **Committed, but not applied** in time: the switch is not running, is
    /// slow, or another has its lock. It will apply the change when it can, so
    /// do not take it back blindly.
    #[error("committed as {cfg}, but the switch has only applied {cur_cfg} after {within:?}")]
    NotApplied {
        /// The `next_cfg` of the change.
        cfg: i64,
        /// The switch's `cur_cfg` at last.
        cur_cfg: i64,
        /// How long all of it took.
        within: Duration,
    },
    /// Committed and applied, but some interface is not as it should be.
    #[error("applied, with {} at fault", faults(.0))]
    Faults(Applied),
}

fn faults(applied: &Applied) -> String {
    let shown: Vec<String> =
        applied.interfaces.iter().filter(|i| i.is_fault()).map(|i| i.to_string()).collect();
    shown.join(", ")
}

impl Client {
    /// Makes a change by [`Client::edit`], waits until the switch has applied
    /// it, and looks at each interface that it touched: those it inserts, those
    /// it changes, those of a port it changes, and those named by
    /// [`Transaction::touch_interface`]. Like `ovs-vsctl` without `--no-wait`,
    /// which looks at no interface.
    ///
    /// The bound holds for all of it. While it waits, a lost connection is made
    /// anew. Nothing to do is nothing to wait for.
    pub async fn apply<E>(
        &self,
        within: Duration,
        mut build: impl FnMut(&Replica) -> Result<Transaction, E>,
    ) -> Result<Applied, ApplyError<E>> {
        let bound = Bound::new(within);
        self.ready_until(bound.until)
            .await
            .map_err(|error| EditError::transact(error.into(), false))?;
        self.read(sees_everything).map_err(ApplyError::Blind)?;
        let mut touched = BTreeSet::new();
        let counted = |replica: &Replica| {
            let mut transaction = build(replica).map_err(Stop::Build)?;
            if !transaction.is_empty() {
                let progress = replica.only::<Progress>().map_err(Stop::Blind)?;
                let row = progress.ok_or(Stop::Uninitialised)?.uuid;
                touched.extend(touched_interfaces(&transaction, replica));
                count_up(&mut transaction, row);
            }
            Ok(transaction)
        };
        let edited = match self.edit_loop(bound, None, counted).await {
            Ok(edited) => edited,
            Err(EditError::Transact { source, maybe_committed }) => {
                return Err(EditError::Transact { source, maybe_committed }.into());
            }
            Err(EditError::Build { source, maybe_committed }) => {
                return Err(match source {
                    Stop::Build(source) => EditError::Build { source, maybe_committed }.into(),
                    Stop::Blind(error) => ApplyError::Blind(error),
                    Stop::Uninitialised => ApplyError::Uninitialised,
                });
            }
        };
        let progress =
            || self.read(|replica| replica.only::<Progress>()).map_err(ApplyError::Blind);
        let cfg = match &edited.committed {
            Some(committed) => counted_to(committed),
            // Some earlier attempt raised it, if any did; the replica shows it.
            None if edited.unsure => progress()?.map(|progress| progress.next_cfg),
            None => None,
        };
        let committed = edited.committed.map(without_count);
        let Some(cfg) = cfg else {
            return Ok(Applied { committed, cfg: None, interfaces: Vec::new() });
        };
        let applied = |replica: &Replica| {
            let progress = replica.only::<Progress>().ok()??;
            (cfg <= progress.cur_cfg).then(|| states(replica, &touched))
        };
        let Some(interfaces) = self.wait_until(bound.until, applied).await else {
            let cur_cfg = progress()?.map_or(0, |progress| progress.cur_cfg);
            return Err(ApplyError::NotApplied { cfg, cur_cfg, within });
        };
        let interfaces = interfaces.map_err(ApplyError::Blind)?;
        let applied = Applied { committed, cfg: Some(cfg), interfaces };
        if applied.interfaces.iter().any(InterfaceState::is_fault) {
            return Err(ApplyError::Faults(applied));
        }
        Ok(applied)
    }
}

/// What ends a change before it is sent.
enum Stop<E> {
    Build(E),
    Blind(ReadError),
    Uninitialised,
}

fn sees_everything(replica: &Replica) -> Result<(), ReadError> {
    replica.can_read::<Progress>()?;
    replica.can_read::<BridgeState>()?;
    replica.can_read::<PortState>()?;
    replica.can_read::<Plugged>()
}

/// Raises `next_cfg`, and reads it back in the same transaction.
fn count_up(transaction: &mut Transaction, row: Uuid) {
    transaction.push(Mutate::new(Progress::TABLE).uuid(row).by(Progress::NEXT_CFG.plus(1)));
    let select = Select::new(Progress::TABLE).filter(Condition::row::<()>(row));
    transaction.push(select.columns([Progress::NEXT_CFG.name()]));
}

fn counted_to(committed: &Committed) -> Option<i64> {
    let Some(Answer::Rows(rows)) = committed.answers.last() else { return None };
    i64::from_value(rows.first()?.get(Progress::NEXT_CFG.name())?).ok()
}

/// The answers to the caller's own operations.
fn without_count(mut committed: Committed) -> Committed {
    committed.answers.truncate(committed.answers.len().saturating_sub(2));
    committed
}

/// The names of the interfaces that a transaction is about.
fn touched_interfaces(transaction: &Transaction, replica: &Replica) -> BTreeSet<String> {
    let mut names = transaction.touched().clone();
    let name_of = |uuid: Uuid| Some(replica.get::<Plugged>(uuid).ok()??.row.name);
    for operation in transaction.operations() {
        match (operation, operation.table()) {
            (Operation::Insert(insert), Some(Plugged::TABLE)) => {
                let name = insert.row.get(Plugged::NAME.name()).and_then(Value::atom);
                if let Some(Atom::String(name)) = name {
                    names.insert(name.clone());
                }
            }
            (Operation::Update(_) | Operation::Mutate(_), Some(Plugged::TABLE)) => {
                names.extend(operation.target().and_then(name_of));
            }
            (Operation::Update(_) | Operation::Mutate(_), Some(PortState::TABLE)) => {
                let port =
                    operation.target().and_then(|uuid| replica.get::<PortState>(uuid).ok()?);
                let interfaces = port.map(|port| port.row.interfaces).unwrap_or_default();
                names.extend(interfaces.iter().filter_map(Ref::as_uuid).filter_map(name_of));
            }
            _ => {}
        }
    }
    names
}

/// What the replica says of each of `names`.
fn states(replica: &Replica, names: &BTreeSet<String>) -> Result<Vec<InterfaceState>, ReadError> {
    let plugged = replica.rows::<Plugged>()?;
    let by_name: std::collections::HashMap<&str, _> =
        plugged.iter().map(|entry| (entry.name.as_str(), entry)).collect();
    let state = |name: &String| {
        let Some(entry) = by_name.get(name.as_str()) else { return Ok(Plug::Gone) };
        Ok(match (entry.ofport, &entry.error) {
            (_, Some(error)) => Plug::Refused(error.clone()),
            (Some(ofport), None) if 1 <= ofport => Plug::In(ofport),
            (Some(_), None) => Plug::Refused("the switch refused it and does not say why".into()),
            (None, None) => match bridge_that_is_not(replica, entry.uuid)? {
                Some(bridge) => Plug::NoBridge(bridge),
                None => Plug::Unknown,
            },
        })
    };
    names
        .iter()
        .map(|name| Ok(InterfaceState { name: name.clone(), state: state(name)? }))
        .collect()
}

/// The bridge of an interface, if it has no datapath. Measured: a bridge that
/// cannot be created leaves `ofport` and `error` of its interfaces unset.
fn bridge_that_is_not(replica: &Replica, interface: Uuid) -> Result<Option<String>, ReadError> {
    let ports = replica.rows::<PortState>()?;
    let has = |port: &PortState| port.interfaces.contains(&Ref::uuid(interface));
    let Some(port) = ports.iter().find(|port| has(&port.row)) else { return Ok(None) };
    let bridges = replica.rows::<BridgeState>()?;
    let bridge = bridges.into_iter().find(|bridge| bridge.ports.contains(&Ref::uuid(port.uuid)));
    Ok(bridge.filter(|bridge| bridge.datapath_id.is_none()).map(|bridge| bridge.row.name))
}
