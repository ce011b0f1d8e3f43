//! Looking at all labs, and telling what has happened since the look before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::api::view::LabView;
use crate::api::{CallError, Event, Happened, Kind, Thing, difference};
use crate::engine::news::Whom;
use crate::engine::state::State;
use crate::engine::{Engine, EngineError};
use crate::model::names::{LabName, NodeName};

/// What was seen last.
pub(super) struct Eyes {
    state: State,
    seen: BTreeMap<LabName, LabView>,
    /// Labs at which one could not look, and why.
    unseen: BTreeMap<LabName, String>,
}

impl Eyes {
    pub(super) fn new(state: State) -> Self {
        Self { state, seen: BTreeMap::new(), unseen: BTreeMap::new() }
    }

    /// Looks, and returns what has happened since. A lab at which a command is at work
    /// is left out until that is done: what is half done is no news.
    pub(super) async fn look(&mut self) -> Result<Vec<Event>, CallError> {
        let mut engine = Engine::open("ovsns serve").await?;
        let mut labs = engine.labs().await?;
        labs.extend(self.seen.keys().cloned());
        let mut events = Vec::new();
        for lab in labs {
            if self.state.is_at_work(&lab) {
                continue;
            }
            let after = match LabView::glance(&mut engine, &lab).await {
                Ok((view, _)) => Some(view),
                Err(EngineError::NoLab(_)) => None,
                Err(error) => {
                    events.extend(self.not_seen(&lab, error));
                    continue;
                }
            };
            // It may have begun meanwhile.
            if self.state.is_at_work(&lab) {
                continue;
            }
            self.unseen.remove(&lab);
            let happened = difference(self.seen.get(&lab), after.as_ref());
            events.extend(happened.into_iter().map(|what| event(&lab, what)));
            match after {
                Some(view) => drop(self.seen.insert(lab, view)),
                None => drop(self.seen.remove(&lab)),
            }
        }
        Ok(events)
    }

    /// The same thing is told once.
    fn not_seen(&mut self, lab: &LabName, error: EngineError) -> Option<Event> {
        let why = CallError::from(error).told().in_a_line();
        let text = format!("lab {lab} cannot be looked at: {why}");
        let before = self.unseen.insert(lab.clone(), text.clone());
        let is_new = before.as_ref() != Some(&text);
        is_new.then(|| event(lab, Happened::new(Kind::Error, Thing::Lab, "", text)))
    }

    /// Of whom to hear.
    pub(super) fn whom(&self) -> Whom {
        let mut whom = Whom { labs: self.seen.keys().cloned().collect(), ..Whom::default() };
        whom.labs.extend(self.unseen.keys().cloned());
        whom.labs.extend(self.state.labs().unwrap_or_default());
        for (lab, view) in &self.seen {
            whom.namespaces.extend(view.nodes.iter().map(|node| node.netns.clone()));
            let kept = view.nodes.iter().filter(|node| node.keeper.is_some());
            let names: BTreeSet<_> = kept.filter_map(|it| NodeName::new(&it.name).ok()).collect();
            whom.keepers.extend(names.into_iter().map(|node| (lab.clone(), node)));
        }
        whom
    }

    /// The labs that are not as they are to be, and all that is wrong with them: when
    /// that is something else, such as a switch that is there again, a try may do more
    /// than the one before.
    pub(super) fn drifted(&self) -> impl Iterator<Item = (&LabName, Vec<String>)> {
        self.seen.iter().filter_map(|(lab, view)| {
            let is_wrong = matches!(view.state.as_str(), "drifted" | "cut off");
            let all = || view.drift.iter().chain(&view.troubles).chain(&view.cut_off);
            is_wrong.then(|| (lab, all().cloned().collect()))
        })
    }
}

/// Something that has happened to a lab, now.
pub(super) fn event(lab: &LabName, what: Happened) -> Event {
    Event { at_ms: now_ms(), lab: Some(lab.to_string()), what }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
