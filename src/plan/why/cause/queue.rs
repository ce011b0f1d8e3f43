//! Which queue of a device drops a packet.

use super::{called, run_in};
use crate::model::packet::Spot;
use crate::plan::why::facts::{Queueing, Tried};
use crate::plan::why::judge::{Case, Finding};

pub(super) fn queues(
    case: &Case<'_>,
    tried: &Tried,
    spot: &Spot,
    device: &str,
    out: bool,
    found: &mut Vec<Finding>,
) {
    let Some(there) = case.facts.spot(spot) else { return };
    let name = called(case, spot, device);
    for queue in there.queues.iter().filter(|queue| queue.device == device && queue.out == out) {
        let lost = tried.lost_in.contains(&(spot.clone(), queue.removed_by.clone()));
        let mend = Some(run_in(case, spot, &queue.removed_by));
        let way = if out { "leaves by" } else { "comes in by" };
        let (what, certain) = match &queue.does {
            Queueing::Loses(share) => (
                format!("{name} loses {} % of what {way} it (`netem`)", percent(*share)),
                lost || *share == 10_000,
            ),
            Queueing::Drops => (format!("a filter of `tc` drops what {way} {name}"), lost),
            Queueing::Blackhole => (format!("{name} keeps nothing of what {way} it"), true),
            Queueing::Limits(rate, at_once) => {
                let at_once = at_once.map(|it| format!(", and {it} bytes at once"));
                let what = format!(
                    "{name} lets through {} kbit/s{}",
                    rate / 1000,
                    at_once.unwrap_or_default()
                );
                (what, lost)
            }
            Queueing::Corrupts(share) => (
                format!("{name} spoils {} % of what {way} it (`netem`)", percent(*share)),
                *share == 10_000,
            ),
            Queueing::Delays(us) => {
                (format!("{name} delays by {} ms (`netem`)", us / 1000), 1_000_000 < *us)
            }
        };
        found.push(Finding { what, mend, certain });
    }
}

fn percent(of_ten_thousand: u32) -> String {
    let (whole, rest) = (of_ten_thousand / 100, of_ten_thousand % 100);
    if rest == 0 { whole.to_string() } else { format!("{whole}.{rest:02}") }
}
