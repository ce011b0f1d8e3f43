//! What keepers tell of by themselves: that a process of theirs was started, is ready,
//! has ended; and that they are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::wire::{self, Ask, Tell};
use crate::model::names::{LabName, NodeName};

/// The keepers that are listened to.
#[derive(Default)]
pub struct LifeNews {
    told: Arc<Notify>,
    followed: BTreeMap<(LabName, NodeName), JoinHandle<()>>,
}

impl LifeNews {
    /// Listens to these keepers, and to no others.
    pub fn follow(&mut self, keepers: BTreeSet<(LabName, NodeName)>) {
        self.followed.retain(|keeper, task| {
            let stays = keepers.contains(keeper) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for keeper in keepers {
            let start = |(lab, node): &(LabName, NodeName)| {
                tokio::spawn(listen(lab.clone(), node.clone(), Arc::clone(&self.told)))
            };
            self.followed.entry(keeper).or_insert_with_key(start);
        }
    }

    /// Awaits that something is told.
    pub async fn next(&mut self) {
        self.told.notified().await;
    }
}

impl Drop for LifeNews {
    fn drop(&mut self) {
        self.followed.values().for_each(JoinHandle::abort);
    }
}

async fn listen(lab: LabName, node: NodeName, told: Arc<Notify>) {
    // One that is gone, or somebody else's, is seen as that by whoever looks.
    let Ok(Some(mut line)) = wire::connect(&lab, &node) else { return };
    if line.say(&Ask::Watch).await.is_ok() {
        // The first comes at once: what was seen before may be old by now.
        while let Some(Tell::Changed) = line.hear().await {
            told.notify_one();
        }
    }
    // It was killed, or is too old to tell anything. Of its end others tell, too.
    told.notify_one();
}
