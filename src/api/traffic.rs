//! What has passed the links of labs, by whoever counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::view::state;
use super::{CallError, Desk};
use crate::engine::{Engine, EngineError};
use crate::kernel::KernelError;
use crate::kernel::counters::{self, Counted};
use crate::kernel::netlink::Netlink;
use crate::kernel::worker::{Where, Worker};
use crate::model::names::LabName;
use crate::model::world::{SwitchSpec, World};
use crate::plan::top::{Counter, Passed, Watched, watched};

/// Reads the counters of a lab's links.
pub(crate) struct Meter {
    worker: Worker,
    home: Netlink,
    links: Vec<Watched>,
    /// The switches that are asked for what has no device.
    asked: Vec<SwitchSpec>,
}

/// What was read at one time.
pub(crate) struct Counting {
    /// When.
    pub(crate) at: Instant,
    /// What has passed each link; nothing is known of one that is gone.
    pub(crate) passed: Vec<(Watched, Passed)>,
    /// By what it is seen that there is something new.
    pub(crate) there: BTreeSet<String>,
}

impl Meter {
    /// One that knows of no link yet.
    pub(crate) async fn new() -> Result<Self, KernelError> {
        let worker = Worker::start()?;
        let home = worker.netlink(Where::Home).await?;
        Ok(Self { worker, home, links: Vec::new(), asked: Vec::new() })
    }

    /// Turns to the links of a lab, as it was seen.
    pub(crate) fn see(&mut self, lab: &LabName, world: &World) {
        self.links = watched(lab, world);
        let asks = |spec: &SwitchSpec| {
            let mut counters = self.links.iter().map(|link| &link.counter);
            counters.any(|it| matches!(it, Counter::Switch(switch, _) if *switch == spec.name))
        };
        let specs = world.fabric.switches.values().map(|seen| seen.spec.clone());
        self.asked = specs.filter(asks).collect();
    }

    /// How many links it reads.
    pub(crate) fn links(&self) -> usize {
        self.links.len()
    }

    /// Reads all counters.
    pub(crate) async fn read(&self, engine: &mut Engine) -> Result<Counting, KernelError> {
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
            let Some(switch) = engine.switch(spec.backend) else { continue };
            match switch.traffic(spec).await {
                Ok(traffic) => drop(switches.insert(spec.name.clone(), traffic.counters)),
                // It may be gone: the next look tells, or fails.
                Err(_) => drop(there.insert(format!("silent {}", spec.name))),
            }
        }
        let passed = self.links.iter().filter_map(|link| {
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
            Some((link.clone(), passed(link, &counted?)))
        });
        Ok(Counting { at, passed: passed.collect(), there })
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

/// A lab in numbers.
pub(crate) struct Figures {
    /// The lab.
    pub(crate) lab: String,
    /// How it is, as `lab.list` has it.
    pub(crate) state: String,
    /// How many nodes it has.
    pub(crate) nodes: usize,
    /// How many of those have lost what keeps them.
    pub(crate) lost: usize,
    /// How many switches.
    pub(crate) switches: usize,
    /// Its links, by their ends, with what has passed them.
    pub(crate) links: Vec<([String; 2], Passed)>,
}

/// All labs in numbers.
pub(crate) async fn figures(desk: &mut Desk<'_>) -> Result<Vec<Figures>, CallError> {
    let mut engine = desk.engine("ovsns serve").await?;
    let mut meter = Meter::new().await?;
    let mut all = Vec::new();
    for lab in engine.labs().await? {
        let figures = match engine.status(&lab).await {
            Ok(status) => {
                meter.see(&lab, &status.world);
                let keepers = status.world.host.keepers.values();
                let reading = meter.read(&mut engine).await?;
                Figures {
                    lab: lab.to_string(),
                    state: state(&status),
                    nodes: status.world.host.nodes.len(),
                    lost: keepers.filter(|keeper| keeper.lost.is_some()).count(),
                    switches: status.world.fabric.switches.len(),
                    links: reading
                        .passed
                        .into_iter()
                        .map(|(it, passed)| (it.ends, passed))
                        .collect(),
                }
            }
            // One that cannot be read hides no other.
            Err(EngineError::State(_)) => Figures {
                lab: lab.to_string(),
                state: "damaged".into(),
                nodes: 0,
                lost: 0,
                switches: 0,
                links: Vec::new(),
            },
            // It went away since it was listed.
            Err(EngineError::NoLab(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        all.push(figures);
    }
    Ok(all)
}
