//! `ovsns top`

mod screen;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::screen::{Pressed, Screen, Table};
use super::{CallError, Ending, input, show};
use crate::engine::{Engine, EngineError};
use crate::kernel::counters::{self, Counted};
use crate::kernel::netlink::Netlink;
use crate::kernel::netns;
use crate::kernel::worker::{Where, Worker};
use crate::model::names::LabName;
use crate::model::world::{Questions, SwitchSpec};
use crate::plan::top::{Counter, Passed, Rate, Watched, rate, watched};

/// Show how fast the links of a lab are, live
///
/// In bits and frames a second, there (`->`, from the first end to the second) and
/// back, with what was dropped or broken since it was last told, and how much of
/// its limit a link with a rate uses. It is read from the kernel's counters; ways
/// inside Open vSwitch (`*`) are counted by that. On a terminal it goes on until
/// `q`: `s` sorts by something else, `p` pauses, arrows and pages scroll. Where
/// standard output is no terminal it is one table after one interval.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns top two-nodes --interval 2\n         \
                  ovsns top --json | jq .links[0].bits_per_s")]
pub(super) struct Args {
    /// The lab [default: the only one]
    #[arg(value_name = "LAB")]
    lab: Option<String>,
    /// The same, as other commands have it
    #[arg(long = "lab", value_name = "LAB", conflicts_with = "lab")]
    named: Option<String>,
    /// Seconds between two readings
    #[arg(short, long, value_name = "SECS", default_value = "1", value_parser = secs)]
    interval: Duration,
    /// End after one interval
    #[arg(long)]
    once: bool,
    /// Which links come first
    #[arg(long, value_name = "BY", default_value = "rate")]
    sort: Sort,
    /// Print JSON: an object a line, one for each interval
    #[arg(long)]
    json: bool,
}

/// Which links come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// Those with most bits
    Rate,
    /// Those with most frames
    Packets,
    /// Those that drop or break most
    Drops,
    /// By name
    Name,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Rate => Self::Packets,
            Self::Packets => Self::Drops,
            Self::Drops => Self::Name,
            Self::Name => Self::Rate,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Packets => "packets",
            Self::Drops => "drops",
            Self::Name => "name",
        }
    }

    /// They come by name, and what is equal stays so.
    fn sort(self, rates: &mut [Rate]) {
        let sum = |two: [f64; 2]| two[0] + two[1];
        match self {
            Self::Name => rates.sort_by(|a, b| a.ends.cmp(&b.ends)),
            Self::Rate => {
                rates.sort_by(|a, b| sum(b.bits_per_s).total_cmp(&sum(a.bits_per_s)));
            }
            Self::Packets => {
                rates.sort_by(|a, b| sum(b.packets_per_s).total_cmp(&sum(a.packets_per_s)));
            }
            Self::Drops => rates.sort_by_key(|rate| std::cmp::Reverse(rate.dropped + rate.errors)),
        }
    }
}

fn secs(text: &str) -> Result<Duration, String> {
    let secs = text.parse::<f64>().ok().filter(|secs| (0.1..=3600.0).contains(secs));
    secs.map(Duration::from_secs_f64).ok_or_else(|| "seconds are from 0.1 to 3600".to_owned())
}

#[derive(Serialize)]
struct Reading<'r> {
    lab: &'r str,
    seconds: f64,
    links: &'r [Rate],
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let mut engine = input::engine("ovsns top").await?;
    let lab = input::one_lab(&mut engine, args.lab.as_deref().or(args.named.as_deref())).await?;
    let mut ends = Ends::new().map_err(CallError::not_started)?;
    let watch = Watch::new(engine, lab).await?;
    let mut ticks = interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    // A terminal that can only write lines gets lines.
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal() && !is_dumb;
    if is_terminal && !args.json && !args.once {
        live(args, watch, &mut ticks, &mut ends).await
    } else {
        lines(args, watch, &mut ticks, &mut ends).await
    }
}

/// One table, or objects until nobody reads them.
async fn lines(
    args: &Args,
    mut watch: Watch,
    ticks: &mut Interval,
    ends: &mut Ends,
) -> Result<Ending, CallError> {
    loop {
        tokio::select! {
            biased;
            () = ends.any() => return Ok(Ending::Well),
            _ = ticks.tick() => {}
        }
        let (seconds, mut rates) = watch.read().await?;
        args.sort.sort(&mut rates);
        let text = if args.json {
            let reading = Reading { lab: watch.lab.as_str(), seconds, links: &rates };
            serde_json::to_string(&reading).expect("our own types are JSON")
        } else {
            show::table(&table(&rates))
        };
        match show::try_out(&format!("{text}\n")) {
            // Whoever closed the pipe has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Ending::Well),
            Err(source) => {
                return Err(CallError::Output { to: "the rates".to_owned(), source });
            }
            Ok(()) => {}
        }
        if args.once || !args.json {
            return Ok(Ending::Well);
        }
        if watch.is_over {
            return Err(EngineError::NoLab(watch.lab).into());
        }
    }
}

/// On a screen, until somebody has seen enough.
async fn live(
    args: &Args,
    mut watch: Watch,
    ticks: &mut Interval,
    ends: &mut Ends,
) -> Result<Ending, CallError> {
    let fail = |source| CallError::Output { to: "to the terminal".to_owned(), source };
    let mut screen = Screen::enter().map_err(fail)?;
    let (mut sort, mut paused, mut rates) = (args.sort, false, Vec::new());
    let mut seconds = args.interval.as_secs_f64();
    loop {
        sort.sort(&mut rates);
        let table = Table {
            head: format!(
                "lab {}  {} {}  {}",
                watch.lab,
                watch.links.len(),
                if watch.links.len() == 1 { "link" } else { "links" },
                if paused { "PAUSED".to_owned() } else { format!("every {seconds:.1} s") },
            ),
            foot: format!(
                "q quit  s sort: {}  p {}",
                sort.word(),
                if paused { "go on" } else { "pause" }
            ),
            rows: table(&rates),
        };
        screen.show(&table).map_err(fail)?;
        tokio::select! {
            biased;
            () = ends.any() => return Ok(Ending::Well),
            pressed = screen.pressed() => match pressed {
                Pressed::Quit => return Ok(Ending::Well),
                Pressed::Sort => {
                    rates.sort_by(|a: &Rate, b| a.ends.cmp(&b.ends));
                    sort = sort.next();
                }
                Pressed::Pause => paused = !paused,
                // What is on the screen is drawn anew.
                Pressed::Nothing => {}
            },
            _ = ticks.tick() => {
                // It is read all the same: what comes first afterwards is fresh.
                let (passed, fresh) = watch.read().await?;
                if !paused {
                    (seconds, rates) = (passed, fresh);
                }
            }
        }
        if watch.is_over {
            drop(screen);
            show::talk(&format!("lab {} is gone", watch.lab));
            return Ok(Ending::Well);
        }
    }
}

/// Signals that end it.
struct Ends([Signal; 3]);

impl Ends {
    fn new() -> io::Result<Self> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn any(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {} }
    }
}

/// How often it is looked which links there are, when nothing seems to be new.
const LOOK: Duration = Duration::from_secs(5);

/// A lab that is watched.
struct Watch {
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

impl Watch {
    async fn new(engine: Engine, lab: LabName) -> Result<Self, CallError> {
        let (worker, at) = (Worker::start()?, Instant::now());
        let home = worker.netlink(Where::Home).await?;
        let mut watch = Self {
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
        watch.look().await?;
        if watch.is_over {
            return Err(EngineError::NoLab(watch.lab).into());
        }
        watch.read().await?;
        Ok(watch)
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

    /// Reads all counters; returns what passed since the last time, and how long
    /// that was.
    async fn read(&mut self) -> Result<(f64, Vec<Rate>), CallError> {
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
        Ok((seconds, rates))
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

fn table(rates: &[Rate]) -> Vec<Vec<String>> {
    let head =
        ["LINK", "-> BIT/S", "<- BIT/S", "-> PKT/S", "<- PKT/S", "DROPPED", "ERRORS", "USED"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(rates.iter().map(|rate| {
        let [a, b] = &rate.ends;
        let star = if rate.counted_by == "kernel" { "" } else { " *" };
        let state = if rate.up { "" } else { " (down)" };
        vec![
            format!("{a} -- {b}{star}{state}"),
            amount(rate.bits_per_s[0]),
            amount(rate.bits_per_s[1]),
            amount(rate.packets_per_s[0]),
            amount(rate.packets_per_s[1]),
            rate.dropped.to_string(),
            rate.errors.to_string(),
            rate.used_percent.map(|used| format!("{used:.0} %")).unwrap_or_default(),
        ]
    }));
    rows
}

/// A number with three digits that count: `0`, `980`, `1.25 k`, `10.4 G`.
fn amount(number: f64) -> String {
    let (mut number, mut unit) = (number, 0);
    while 999.5 <= number && unit < 4 {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    let unit = ["", " k", " M", " G", " T"][unit];
    match number {
        _ if unit.is_empty() => format!("{number:.0}"),
        ..9.995 => format!("{number:.2}{unit}"),
        ..99.95 => format!("{number:.1}{unit}"),
        _ => format!("{number:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (number, expected) in [
            (0.0, "0"),
            (980.4, "980"),
            (999.6, "1.00 k"),
            (1250.0, "1.25 k"),
            (99_960.0, "100 k"),
            (10_400_000_000.0, "10.4 G"),
            (1e16, "10000 T"),
        ] {
            assert_eq!(amount(number), expected);
        }
    }
}
