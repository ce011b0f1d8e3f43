//! What is meant by the words for places to overhear, in the labs that are there.

use std::collections::BTreeMap;

use super::CapturePoint;
use crate::api::CallError;
use crate::engine::{Engine, EngineError};
use crate::model::mark::netns as netns_name;
use crate::model::names::LabName;
use crate::model::world::Questions;
use crate::plan::Place;
use crate::plan::capture::{NoPoint, Point, Points};

/// The labs that are meant, with what can be overheard of each.
pub(super) struct Labs(BTreeMap<LabName, Points>);

impl Labs {
    /// Looks at the labs that are named; at all if one word names none.
    pub(super) async fn look(
        engine: &mut Engine,
        points: &[String],
        named: Option<&str>,
    ) -> Result<Self, CallError> {
        let mut names = Vec::new();
        for words in points {
            names.push(words.split_once('/').map(|(lab, _)| lab).or(named));
        }
        if points.is_empty() {
            names.push(named);
        }
        let there = engine.labs().await?;
        let named: Option<Vec<&str>> = names.into_iter().collect();
        let wanted = match named {
            None => there.clone(),
            Some(named) => named.into_iter().map(LabName::new).collect::<Result<_, _>>()?,
        };
        if let Some(lab) = wanted.iter().find(|lab| !there.contains(lab)) {
            return Err(EngineError::NoLab(lab.clone()).into());
        }
        if wanted.is_empty() {
            return Err(CallError::usage("there is no lab", "make one: `ovsns up FILE`"));
        }
        let mut labs = BTreeMap::new();
        for lab in wanted {
            let world = engine.observe(&Questions::about(&lab)).await?;
            labs.insert(lab.clone(), Points::of(&lab, &world));
        }
        Ok(Self(labs))
    }

    /// The points that words mean, each once.
    pub(super) fn find(&self, all: &[String]) -> Result<Vec<(LabName, Point)>, CallError> {
        let mut found: Vec<(LabName, Point)> = Vec::new();
        for words in all {
            let (lab, points) = self.find_one(words)?;
            for point in points {
                let point = (lab.clone(), point.clone());
                if !found.contains(&point) {
                    found.push(point);
                }
            }
        }
        Ok(found)
    }

    fn find_one(&self, words: &str) -> Result<(&LabName, Vec<&Point>), CallError> {
        let (named, rest) = match words.split_once('/') {
            Some((lab, rest)) => (Some(LabName::new(lab)?), rest),
            None => (None, words),
        };
        let labs = self.0.iter().filter(|(lab, _)| named.as_ref().is_none_or(|it| it == *lab));
        let mut found = Vec::new();
        let mut none: Option<NoPoint> = None;
        for (lab, points) in labs {
            match points.find(rest) {
                Ok(points) => found.push((lab, points)),
                Err(why) => none = none.or(Some(why)),
            }
        }
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 => {
                let NoPoint { what, hint } = none.expect("one lab at least was asked");
                Err(CallError::usage(what, hint))
            }
            _ => {
                let labs: Vec<_> = found.iter().map(|(lab, _)| format!("`{lab}`")).collect();
                Err(CallError::usage(
                    format!("several labs have a `{rest}`: {}", labs.join(", ")),
                    format!("say which, such as `{}/{rest}`", found[0].0),
                ))
            }
        }
    }

    /// All there are, lab by lab.
    pub(super) fn all(&self) -> Vec<CapturePoint> {
        let points = self.0.iter().flat_map(|(lab, points)| {
            points.all().iter().map(|point| CapturePoint {
                lab: lab.to_string(),
                name: point.name.clone(),
                netns: namespace(lab, &point.place),
                device: point.device.to_string(),
            })
        });
        points.collect()
    }
}

/// The name of the namespace of a place, if it is not the machine's own.
pub(super) fn namespace(lab: &LabName, place: &Place) -> Option<String> {
    match place {
        Place::Host => None,
        Place::Node(node) => Some(netns_name(lab, node)),
    }
}
