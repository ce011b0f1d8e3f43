//! `ovsns top`

mod screen;

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::screen::{Pressed, Screen, Table};
use super::{CallError, Ending, input, show};
use crate::api::Rates;
use crate::engine::EngineError;
use crate::plan::top::Rate;

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

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let mut engine = input::engine("ovsns top").await?;
    let lab = input::one_lab(&mut engine, args.lab.as_deref().or(args.named.as_deref())).await?;
    let mut ends = Ends::new().map_err(CallError::not_started)?;
    let rates = Rates::of(engine, lab).await?;
    let mut ticks = interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    // A terminal that can only write lines gets lines.
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal() && !is_dumb;
    if is_terminal && !args.json && !args.once {
        live(args, rates, &mut ticks, &mut ends).await
    } else {
        lines(args, rates, &mut ticks, &mut ends).await
    }
}

/// One table, or objects until nobody reads them.
async fn lines(
    args: &Args,
    mut rates: Rates,
    ticks: &mut Interval,
    ends: &mut Ends,
) -> Result<Ending, CallError> {
    loop {
        tokio::select! {
            biased;
            () = ends.any() => return Ok(Ending::Well),
            _ = ticks.tick() => {}
        }
        let mut reading = rates.read().await?;
        args.sort.sort(&mut reading.links);
        let text = if args.json {
            serde_json::to_string(&reading).expect("our own types are JSON")
        } else {
            show::table(&table(&reading.links))
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
        if rates.is_over() {
            return Err(EngineError::NoLab(rates.lab().clone()).into());
        }
    }
}

/// On a screen, until somebody has seen enough.
async fn live(
    args: &Args,
    mut rates: Rates,
    ticks: &mut Interval,
    ends: &mut Ends,
) -> Result<Ending, CallError> {
    let fail = |source| CallError::Output { to: "to the terminal".to_owned(), source };
    let mut screen = Screen::enter().map_err(fail)?;
    let (mut sort, mut paused, mut links) = (args.sort, false, Vec::new());
    let mut seconds = args.interval.as_secs_f64();
    loop {
        sort.sort(&mut links);
        let table = Table {
            head: format!(
                "lab {}  {} {}  {}",
                rates.lab(),
                rates.links(),
                if rates.links() == 1 { "link" } else { "links" },
                if paused { "PAUSED".to_owned() } else { format!("every {seconds:.1} s") },
            ),
            foot: format!(
                "q quit  s sort: {}  p {}",
                sort.word(),
                if paused { "go on" } else { "pause" }
            ),
            rows: table(&links),
        };
        screen.show(&table).map_err(fail)?;
        tokio::select! {
            biased;
            () = ends.any() => return Ok(Ending::Well),
            pressed = screen.pressed() => match pressed {
                Pressed::Quit => return Ok(Ending::Well),
                Pressed::Sort => {
                    links.sort_by(|a: &Rate, b| a.ends.cmp(&b.ends));
                    sort = sort.next();
                }
                Pressed::Pause => paused = !paused,
                // What is on the screen is drawn anew.
                Pressed::Nothing => {}
            },
            _ = ticks.tick() => {
                // It is read all the same: what comes first afterwards is fresh.
                let reading = rates.read().await?;
                if !paused {
                    (seconds, links) = (reading.seconds, reading.links);
                }
            }
        }
        if rates.is_over() {
            drop(screen);
            show::talk(&format!("lab {} is gone", rates.lab()));
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
