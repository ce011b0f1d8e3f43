//! What the keeper writes into and reads from the database: few things, each
//! over a connection of its own, so that it need not follow what labs do.

use std::path::Path;
use std::time::Duration;

use ovsdb::operation::{
    Columns, Condition, Insert, Mutate, Mutation, Mutator, Operation, Select, Test, Update, Wait,
};
use ovsdb::reply::{Answer, ErrorKind, Rejection};
use ovsdb::{Atom, Remote, Session, SessionOptions, Value};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::OwnError;

const DATABASE: &str = "Open_vSwitch";
/// The table with the settings of the switch as a whole. It has one row.
const TABLE: &str = "Open_vSwitch";
const TSO: &str = "userspace-tso-enable";
/// How many tags the switch looks at; by default one, and QinQ needs two.
const VLAN_LIMIT: &str = "vlan-limit";
/// How long any one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the switch says once it has applied the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    /// Its version.
    pub(super) version: Option<String>,
    /// Whether it was started with userspace TSO.
    pub(super) tso: bool,
}

/// Connects, once the server listens.
///
/// There is nothing to await before the socket is there, so connecting is
/// tried again: after 1 ms, and doubling to 50 ms.
pub(super) async fn connect(socket: &Path, until: Instant) -> Result<Session, OwnError> {
    let remote = Remote::unix(socket);
    let mut pause = Duration::from_millis(1);
    loop {
        let options = SessionOptions::default().connect_within(ANSWER_WITHIN);
        match timeout_at(until, Session::connect(&remote, options)).await {
            Ok(Ok(session)) => return Ok(session),
            Ok(Err(error)) if until <= Instant::now() + pause => {
                return Err(OwnError::database(&error));
            }
            Ok(Err(_)) => sleep(pause).await,
            Err(_) => return Err(OwnError::Database("it does not answer".into())),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Writes the one row of the main table, if it is not there yet. A switch looks
/// at `userspace-tso-enable` only when it starts, so this comes before that.
///
/// Like `ovs-vsctl --no-wait init` and
/// `ovs-vsctl --no-wait set Open_vSwitch . other_config:userspace-tso-enable=true`.
pub(super) async fn initialise(session: &Session, tso: bool) -> Result<(), OwnError> {
    let mut config = vec![(VLAN_LIMIT, "2")];
    config.extend(tso.then_some((TSO, "true")));
    let row = Insert::new(TABLE)
        .set("other_config", strings(&config))
        .set("external_ids", strings(&[("ovsns", "ovsns keeper")]));
    match transact(session, [Wait::absent(TABLE, Vec::new()).into(), row.into()]).await? {
        Ok(_) => Ok(()),
        // The row is there.
        Err(rejection) if is_timed_out(&rejection) => Ok(()),
        Err(rejection) => Err(OwnError::database(&rejection)),
    }
}

/// Awaits that the switch has applied all that is in the database: raises
/// `next_cfg`, and has the server wait until the switch follows with `cur_cfg`
/// (`ovs-vswitchd.conf.db(5)`).
///
/// Like `ovs-vsctl set Open_vSwitch . external_ids:ovsns=...` without
/// `--no-wait`.
pub(super) async fn settle(socket: &Path, ctl: &Path, until: Instant) -> Result<Settled, OwnError> {
    let session = connect(socket, until).await?;
    let raise = Mutate::new(TABLE).by(Mutation::new("next_cfg", Mutator::Plus, 1));
    let read = Select::new(TABLE).columns(["next_cfg"]);
    let raised = done(&session, [raise.into(), read.into()]).await?;
    let Some(Atom::Integer(next)) = column(&raised, "next_cfg") else {
        return Err(OwnError::Database("it has not been initialised".into()));
    };
    let time = until.saturating_duration_since(Instant::now());
    let applied = vec![Condition::new("cur_cfg", Test::GreaterOrEqual, *next)];
    let wait = Wait::exists(TABLE, applied).within(time);
    let read = Select::new(TABLE).columns(["ovs_version", "other_config"]);
    let operations = [wait.into(), read.into()];
    let call = session.transact(DATABASE, &operations);
    let reply = timeout(time + ANSWER_WITHIN, call).await;
    let reply = reply.map_err(|_| OwnError::Database("it does not answer".into()))?;
    let read =
        reply.map_err(|e| OwnError::database(&e))?.map_err(|rejection| {
            match is_timed_out(&rejection) {
                true => OwnError::Database("the switch does not apply what is in it".into()),
                false => OwnError::database(&rejection),
            }
        })?;
    let tso = row(&read).and_then(|row| row.get("other_config")?.get(&TSO.into()));
    let tso = tso == Some(&"true".into());
    // `ovs-vswitchd (Open vSwitch) 3.1.0`, and perhaps more lines.
    let said = order(ctl, "version", &[], ANSWER_WITHIN).await?;
    let version = said.split_whitespace().nth(3).map(str::to_owned);
    if let Some(version) = &version
        && column(&read, "ovs_version") != Some(&version.as_str().into())
    {
        // The switch leaves that to the scripts around it (`ovs-ctl(8)`).
        let update = Update::new(TABLE).set("ovs_version", version.as_str());
        done(&session, [update.into()]).await?;
    }
    Ok(Settled { version, tso })
}

/// How many bridges there are, whoever made them.
pub(super) async fn bridges(socket: &Path) -> Result<usize, OwnError> {
    let options = SessionOptions::default().connect_within(ANSWER_WITHIN);
    let session = Session::connect(&Remote::unix(socket), options).await;
    let session = session.map_err(|e| OwnError::database(&e))?;
    let select = Select::new("Bridge").columns(["name"]);
    match done(&session, [select.into()]).await?.first() {
        Some(Answer::Rows(rows)) => Ok(rows.len()),
        other => Err(OwnError::Database(format!("it answers {other:?}"))),
    }
}

/// Gives a daemon an order at its control socket, and returns what it says.
///
/// Like `ovs-appctl -t CTL COMMAND ARGS...`.
pub(super) async fn order(
    ctl: &Path,
    command: &str,
    args: &[&str],
    within: Duration,
) -> Result<String, OwnError> {
    let options = SessionOptions::default().connect_within(within);
    let session = Session::connect(&Remote::unix(ctl), options).await;
    let session = session.map_err(|e| OwnError::database(&e))?;
    let answer = timeout(within, session.unixctl(command, args)).await;
    let answer = answer.map_err(|_| OwnError::Database("it does not answer".into()))?;
    answer.map_err(|e| OwnError::database(&e))
}

async fn done(
    session: &Session,
    operations: impl Into<Vec<Operation>>,
) -> Result<Vec<Answer>, OwnError> {
    transact(session, operations).await?.map_err(|e| OwnError::database(&e))
}

async fn transact(
    session: &Session,
    operations: impl Into<Vec<Operation>>,
) -> Result<Result<Vec<Answer>, Rejection>, OwnError> {
    let operations = operations.into();
    let reply = timeout(ANSWER_WITHIN, session.transact(DATABASE, &operations)).await;
    let reply = reply.map_err(|_| OwnError::Database("it does not answer".into()))?;
    reply.map_err(|e| OwnError::database(&e))
}

/// The one row that the last operation read.
fn row(answers: &[Answer]) -> Option<&Columns> {
    match answers.last() {
        Some(Answer::Rows(rows)) => rows.first(),
        _ => None,
    }
}

fn column<'a>(answers: &'a [Answer], name: &str) -> Option<&'a Atom> {
    row(answers)?.get(name)?.atom()
}

fn is_timed_out(rejection: &Rejection) -> bool {
    rejection.server_error().is_some_and(|error| error.kind == ErrorKind::TimedOut)
}

fn strings(pairs: &[(&str, &str)]) -> Value {
    let pairs = pairs.iter().map(|(key, value)| (Atom::from(*key), Atom::from(*value)));
    Value::map(pairs).expect("no key is there twice")
}
