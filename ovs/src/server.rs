//! Whether a server is one to stay with, by what its `_Server` database says.
//!
//! Decisions only, as `ovsdb_cs_check_server_db` in Open vSwitch makes them:
//! [`crate::Client`] asks, and moves on to the next remote if the answer is no.

use crate::tables;
use crate::value::Uuid;

tables! {
    /// A database of this server (ovsdb-server(5) of `_Server`, table `Database`).
    pub(crate) struct Database = "Database" {
        /// Its name.
        NAME name: String,
        /// `standalone`, `clustered` or `relay`.
        MODEL model: String,
        /// Whether the storage (or, for a relay, its source) is reachable.
        CONNECTED connected: bool,
        /// Whether this server leads the cluster.
        LEADER leader: bool,
        /// The schema as JSON, once the server has one.
        SCHEMA schema: Option<String>,
        /// Which server of the cluster this is.
        SID sid: Option<Uuid>,
        /// How far the log of the cluster has come here.
        INDEX index: Option<i64>,
    }
}

/// Why a server is left for the next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// It has no such database.
    #[error("the server has no database `{0}`")]
    NoDatabase(String),
    /// It is out of touch with its cluster or its source.
    #[error("the server is cut off from its cluster")]
    Disconnected,
    /// It is still joining its cluster.
    #[error("the server has no schema yet")]
    NoSchema,
    /// It has not caught up with what this client has seen already.
    #[error("the server is at index {index}, behind {seen}")]
    Stale {
        /// How far it is.
        index: i64,
        /// How far another server was.
        seen: i64,
    },
    /// Another server leads the cluster, or this one is a relay.
    #[error("the server is not the leader")]
    NotLeader,
}

/// Judges the row of database `name`, and returns the schema that is in it.
pub(crate) fn judge<'a>(
    name: &str,
    row: Option<&'a Database>,
    leader_only: bool,
    index_seen: i64,
) -> Result<&'a str, Unsuitable> {
    let Some(row) = row else { return Err(Unsuitable::NoDatabase(name.to_owned())) };
    let (clustered, relay) = (row.model == "clustered", row.model == "relay");
    if (clustered || relay) && !row.connected {
        return Err(Unsuitable::Disconnected);
    }
    let Some(schema) = &row.schema else { return Err(Unsuitable::NoSchema) };
    if leader_only && (relay || clustered && !row.leader) {
        return Err(Unsuitable::NotLeader);
    }
    match row.index {
        Some(index) if clustered && index < index_seen => {
            Err(Unsuitable::Stale { index, seen: index_seen })
        }
        _ => Ok(schema),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_stayed_with() {
        let clustered = Database {
            model: "clustered".into(),
            connected: true,
            leader: true,
            schema: Some("{}".into()),
            index: Some(10),
            ..Default::default()
        };
        let follower = Database { leader: false, ..clustered.clone() };
        let relay = Database { model: "relay".into(), index: None, ..clustered.clone() };
        let standalone = Database {
            model: "standalone".into(),
            schema: Some("{}".into()),
            ..Default::default()
        };
        let cut_off = Database { connected: false, ..clustered.clone() };
        let joining = Database { schema: None, ..clustered.clone() };

        check(Some(&clustered), true, 10, "stay");
        check(Some(&clustered), true, 11, "the server is at index 10, behind 11");
        check(Some(&follower), false, 0, "stay");
        check(Some(&follower), true, 0, "the server is not the leader");
        check(Some(&relay), false, 99, "stay");
        check(Some(&relay), true, 0, "the server is not the leader");
        check(Some(&standalone), true, 99, "stay");
        check(Some(&cut_off), false, 0, "the server is cut off from its cluster");
        check(Some(&joining), false, 0, "the server has no schema yet");
        check(None, false, 0, "the server has no database `db`");

        #[track_caller]
        fn check(row: Option<&Database>, leader_only: bool, seen: i64, verdict: &str) {
            let got = match judge("db", row, leader_only, seen) {
                Ok(_) => "stay".to_owned(),
                Err(why) => why.to_string(),
            };
            assert_eq!(got, verdict);
        }
    }
}
