//! How fast the links of a lab are, by what the kernel and Open vSwitch count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CallError;
use crate::engine::{Engine, EngineError};
use crate::kernel::counters::{self, Counted};
use crate::kernel::netlink::Netlink;
use crate::kernel::netns;
use crate::kernel::worker::{Where, Worker};
use crate::model::names::LabName;
use crate::model::world::{Questions, SwitchSpec};
use crate::plan::top::{Counter, Passed, Rate, Watched, rate, watched};

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
    worker: Worker,
    home: Netlink,
    lab: LabName,
    links: Vec<Watched>,
    /// The switches that are asked for what has no device.
    asked: Vec<SwitchSpec>,
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
        let (worker, at) = (Worker::start()?, Instant::now());
        let home = worker.netlink(Where::Home).await?;
        let mut rates = Self {
            engine,
            worker,
            home,
            lab,
            links: Vec::new(),
            asked: Vec::new(),
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
        self.links.len()
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
        self.links = watched(&self.lab, &world);
        let asks = |spec: &SwitchSpec| {
            let mut counters = self.links.iter().map(|link| &link.counter);
            counters.any(|it| matches!(it, Counter::Switch(switch, _) if *switch == spec.name))
        };
        let specs = world.fabric.switches.values().map(|seen| seen.spec.clone());
        self.asked = specs.filter(asks).collect();
        // What is set otherwise shows at no device; to look may take long.
        self.look_at = Instant::now() + LOOK.max(10 * began.elapsed());
        Ok(())
    }

    /// Reads all counters, and says what has passed since the last time.
    ///
    /// Like `ip -s link show`, twice, in all namespaces.
    pub async fn read(&mut self) -> Result<Reading, CallError> {
        let visits = self.links.iter().filter_map(|link| match &link.counter {
            Counter::Devices(namespace, _) => Some(namespace.clone()),
            Counter::Switch(..) => None,
        });
        let visits: BTreeSet<String> = visits.filter(|namespace| !namespace.is_empty()).collect();
        let visits = visits.into_iter().collect();
        let counted = counters::all(&self.worker, &self.home, visits).await?;
        let at = Instant::now();
        let mut switches = BTreeMap::new();
        let name = |((namespace, device), it): (&(String, String), &Counted)| {
            format!("{namespace}/{device} {:?}", it.place)
        };
        let mut there: BTreeSet<String> = counted.iter().map(name).collect();
        for spec in &self.asked {
            let Some(switch) = self.engine.switch(spec.backend) else { continue };
            match switch.traffic(spec).await {
                Ok(traffic) => drop(switches.insert(spec.name.clone(), traffic.counters)),
                // It may be gone: the next look tells, or fails.
                Err(_) => drop(there.insert(format!("silent {}", spec.name))),
            }
        }
        let seconds = at.duration_since(self.at).as_secs_f64();
        let (mut rates, mut now) = (Vec::new(), BTreeMap::new());
        for link in &self.links {
            let counted = match &link.counter {
                Counter::Devices(namespace, devices) => {
                    let of = |device: &_| counted.get(&(namespace.clone(), format!("{device}")));
                    devices.iter().filter_map(of).copied().reduce(sum)
                }
                Counter::Switch(switch, port) => {
                    switches.get(switch).and_then(|ports| ports.get(port)).map(|it| Counted {
                        // A switch hears what its port gets.
                        received: (it.rx_packets, it.rx_bytes),
                        sent: (it.tx_packets, it.tx_bytes),
                        dropped: it.dropped,
                        up: true,
                        ..Counted::default()
                    })
                }
            };
            let Some(counted) = counted else { continue };
            let passed = passed(link, &counted);
            let before = self.before.get(&link.ends).unwrap_or(&passed);
            rates.push(rate(link, before, &passed, seconds));
            now.insert(link.ends.clone(), passed);
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

fn sum(a: Counted, b: Counted) -> Counted {
    Counted {
        received: (a.received.0 + b.received.0, a.received.1 + b.received.1),
        sent: (a.sent.0 + b.sent.0, a.sent.1 + b.sent.1),
        dropped: a.dropped + b.dropped,
        errors: a.errors + b.errors,
        up: a.up || b.up,
        place: a.place,
    }
}

/// From the first end to the second, and back.
fn passed(link: &Watched, counted: &Counted) -> Passed {
    let Counted { received, sent, dropped, errors, up, place: _ } = *counted;
    let (there, back) = if link.is_near { (sent, received) } else { (received, sent) };
    Passed { packets: [there.0, back.0], bytes: [there.1, back.1], dropped, errors, up }
}
