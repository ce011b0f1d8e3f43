//! How fast the links of a lab are, by what the kernel and Open vSwitch count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CallError;
use super::traffic::{Counting, Meter};
use crate::engine::{Engine, EngineError};
use crate::kernel::netns;
use crate::model::names::LabName;
use crate::model::world::Questions;
use crate::plan::top::{Passed, Rate, rate};

/// How often it is looked which links there are, when nothing seems to be new.
const LOOK: Duration = Duration::from_secs(5);

/// How fast the links of a lab are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reading {
    /// The lab.
    pub lab: String,
    /// What time was counted.
    pub seconds: f64,
    /// Its links.
    pub links: Vec<Rate>,
}

/// The counters of a lab's links, read again and again.
pub struct Rates {
    engine: Engine,
    meter: Meter,
    lab: LabName,
    /// By what it is seen that there is something new.
    there: BTreeSet<String>,
    before: BTreeMap<[String; 2], Passed>,
    at: Instant,
    /// When it is looked again without a reason.
    look_at: Instant,
    is_over: bool,
}

impl Rates {
    /// Begins to count.
    ///
    /// # Errors
    /// There is no such lab, or it cannot be looked at.
    pub async fn of(engine: Engine, lab: LabName) -> Result<Self, CallError> {
        let (meter, at) = (Meter::new().await?, Instant::now());
        let mut rates = Self {
            engine,
            meter,
            lab,
            there: BTreeSet::new(),
            before: BTreeMap::new(),
            at,
            look_at: at,
            is_over: false,
        };
        rates.look().await?;
        if rates.is_over {
            return Err(EngineError::NoLab(rates.lab).into());
        }
        rates.read().await?;
        Ok(rates)
    }

    /// Whose links these are.
    pub fn lab(&self) -> &LabName {
        &self.lab
    }

    /// How many links are there.
    pub fn links(&self) -> usize {
        self.meter.links()
    }

    /// Whether the lab is gone.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Sees which links there are.
    async fn look(&mut self) -> Result<(), CallError> {
        let began = Instant::now();
        let world = self.engine.observe(&Questions::about(&self.lab)).await?;
        self.is_over = world.is_empty();
        self.meter.see(&self.lab, &world);
        // What is set otherwise shows at no device; to look may take long.
        self.look_at = Instant::now() + LOOK.max(10 * began.elapsed());
        Ok(())
    }

    /// Reads all counters, and says what has passed since the last time.
    ///
    /// Like `ip -s link show`, twice, in all namespaces.
    pub async fn read(&mut self) -> Result<Reading, CallError> {
        let Counting { at, passed, mut there } = self.meter.read(&mut self.engine).await?;
        let seconds = at.duration_since(self.at).as_secs_f64();
        let (mut rates, mut now) = (Vec::new(), BTreeMap::new());
        for (link, passed) in passed {
            let before = self.before.get(&link.ends).unwrap_or(&passed);
            rates.push(rate(&link, before, &passed, seconds));
            now.insert(link.ends, passed);
        }
        (self.before, self.at) = (now, at);
        there.extend(netns::list()?);
        if there != self.there || self.look_at <= Instant::now() {
            self.there = there;
            self.look().await?;
        }
        Ok(Reading { lab: self.lab.to_string(), seconds, links: rates })
    }
}
