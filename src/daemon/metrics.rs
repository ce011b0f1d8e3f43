//! What the server has done and what there is, in numbers: `/metrics` as OpenMetrics has
//! it (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::aside;
use crate::api::{Desk, Failure, Figures, figures};
use crate::plan::top::Passed;
use crate::switch::ovs::{Transactions, transactions};

/// What it is, for whoever asks over HTTP.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The most links of a lab that are told of one by one: each is seven lines here and seven
/// series in whoever collects them. Of a lab that has more, only the sums are told.
const LINKS_MAX: usize = 500;

/// How long labs are not looked at again, whoever asks.
const FRESH: Duration = Duration::from_secs(2);

/// The most of the time that is spent looking.
const SHARE: u32 = 10;

/// How long who asks waits for a look; then what was seen before is told.
const PATIENCE: Duration = Duration::from_secs(8);

/// The upper ends of the classes of how long calls take, in seconds.
const SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 600.0];

type Labels<const N: usize> = [(&'static str, String); N];

/// What a server counts. It is shared by all who have something to count.
pub struct Counts {
    registry: Registry,
    calls: Family<Labels<2>, Counter>,
    durations: Family<Labels<1>, Histogram>,
    clients: Family<Labels<1>, Gauge>,
    mended: Counter,
    looks_failed: Counter,
    eye: Arc<Eye>,
}

/// Who counts a client as long as it is there.
pub(super) struct Present(Gauge);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Looks at the labs, for one at a time.
#[derive(Default)]
struct Eye {
    turn: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
}

/// What was seen of the labs when somebody looked last.
#[derive(Default)]
struct Seen {
    labs: Vec<Figures>,
    took: Duration,
    at: Option<(Instant, SystemTime)>,
}

impl Seen {
    /// Whether it is told again.
    fn is_fresh(&self) -> bool {
        self.at.is_some_and(|(at, _)| at.elapsed() < FRESH.max(SHARE * self.took))
    }
}

impl Eye {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all labs, unless somebody just has.
    async fn look(&self) -> Result<(), Failure> {
        let _turn = self.turn.lock().await;
        if self.seen().is_fresh() {
            return Ok(());
        }
        let began = Instant::now();
        let found = aside::begin("metrics", async |answer| {
            let found = figures(&mut Desk::new(&mut |_| {})).await;
            // Nobody may want to know any more.
            let _ = answer.send(found.map_err(|error| error.told()));
        });
        let found = found.await;
        let mut seen = self.seen();
        seen.took = began.elapsed();
        seen.at = Some((Instant::now(), SystemTime::now()));
        // What was there before is not told for what is there.
        let (labs, outcome) = match found {
            Ok(labs) => (labs, Ok(())),
            Err(failure) => (Vec::new(), Err(failure)),
        };
        seen.labs = labs;
        outcome
    }
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counts").finish_non_exhaustive()
    }
}

impl Default for Counts {
    fn default() -> Self {
        let mut registry = Registry::default();
        let (calls, mended) = (Family::default(), Counter::default());
        let new: fn() -> Histogram = || Histogram::new(SECONDS);
        let durations = Family::new_with_constructor(new);
        let clients: Family<Labels<1>, Gauge> = Family::default();
        let looks_failed = Counter::default();
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("ovsns_build", "What runs here", version);
        let help = "Calls that have ended, by how they did";
        registry.register("ovsns_calls", help, calls.clone());
        let help = "How long calls took, with their wait";
        registry.register_with_unit("ovsns_call_duration", help, Unit::Seconds, durations.clone());
        registry.register("ovsns_clients", "Clients that are there", clients.clone());
        let help = "Times that a lab was brought back to what its file says";
        registry.register("ovsns_drift_mended", help, mended.clone());
        let help = "Looks at the labs that came to nothing";
        registry.register("ovsns_looks_failed", help, looks_failed.clone());
        for by in ["unix", "tcp"] {
            clients.get_or_create(&[("by", by.to_owned())]).set(0);
        }
        let started: Gauge<f64, AtomicU64> = Gauge::default();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        started.set(since.unwrap_or_default().as_secs_f64());
        let help = "When it began, since 1970";
        registry.register_with_unit("process_start_time", help, Unit::Seconds, started);
        let eye = Arc::default();
        Self { registry, calls, durations, clients, mended, looks_failed, eye }
    }
}

impl Counts {
    /// Counts that a lab was brought back to what its file says.
    pub fn mended(&self) {
        self.mended.inc();
    }

    /// Counts a call that has ended.
    pub(super) fn called(&self, method: &'static str, outcome: &'static str, took: Duration) {
        let method = ("method", method.to_owned());
        let outcome = ("outcome", outcome.to_owned());
        self.calls.get_or_create(&[method.clone(), outcome]).inc();
        self.durations.get_or_create(&[method]).observe(took.as_secs_f64());
    }

    /// Counts a client, `unix` or `tcp`, until it goes.
    pub(super) fn client(&self, by: &'static str) -> Present {
        let gauge = self.clients.get_or_create(&[("by", by.to_owned())]).clone();
        gauge.inc();
        Present(gauge)
    }

    /// All of it, as OpenMetrics has it; and why the labs are not told of, if they are
    /// not.
    pub(super) async fn text(&self) -> (String, Option<Failure>) {
        let eye = Arc::clone(&self.eye);
        let look = tokio::spawn(async move { eye.look().await });
        // What takes longer goes on, and is told to whoever asks next.
        let failure = match tokio::time::timeout(PATIENCE, look).await {
            Ok(Ok(Err(failure))) => Some(failure),
            Ok(Ok(Ok(())) | Err(_)) | Err(_) => None,
        };
        if failure.is_some() {
            self.looks_failed.inc();
        }
        let mut text = String::new();
        let takes_all = "a string takes all";
        encode_registry(&mut text, &self.registry).expect(takes_all);
        encode_registry(&mut text, &of_labs(&self.eye.seen())).expect(takes_all);
        encode_registry(&mut text, &of_databases(transactions())).expect(takes_all);
        encode_registry(&mut text, &of_process()).expect(takes_all);
        encode_eof(&mut text).expect(takes_all);
        (text, failure)
    }
}

/// A name as the value of a label, which prometheus-client writes as it is.
fn label(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

/// The states of a lab.
const STATES: [&str; 5] = ["up", "drifted", "cut off", "unremembered", "damaged"];

fn of_labs(seen: &Seen) -> Registry {
    let mut registry = Registry::default();
    let Some((_, at)) = seen.at else { return registry };
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let seconds = |value: f64| {
        let gauge: Gauge<f64, AtomicU64> = Gauge::default();
        gauge.set(value);
        gauge
    };
    let help = "When the labs were looked at, since 1970";
    registry.register_with_unit("ovsns_look_timestamp", help, Unit::Seconds, seconds(since));
    let help = "How long that took";
    let took = seconds(seen.took.as_secs_f64());
    registry.register_with_unit("ovsns_look_duration", help, Unit::Seconds, took);
    let labs: Family<Labels<1>, Gauge> = Family::default();
    for state in STATES {
        let number_of = seen.labs.iter().filter(|it| it.state == state).count();
        labs.get_or_create(&[("state", state.to_owned())]).set(number(number_of));
    }
    registry.register("ovsns_labs", "Labs", labs);
    let nodes: Family<Labels<2>, Gauge> = Family::default();
    let switches: Family<Labels<1>, Gauge> = Family::default();
    let links: Family<Labels<2>, Gauge> = Family::default();
    let unlisted: Family<Labels<1>, Gauge> = Family::default();
    let sums = [(); 2].map(|()| Family::<Labels<1>, Counter>::default());
    let passed = [(); 4].map(|()| Family::<Labels<3>, Counter>::default());
    let [lab_bytes, lab_packets] = &sums;
    let [bytes, packets, dropped, errors] = &passed;
    let ups: Family<Labels<3>, Gauge> = Family::default();
    for lab in &seen.labs {
        let name = ("lab", label(&lab.lab));
        let of_lab = [name.clone()];
        let with = |state: &str| [name.clone(), ("state", state.to_owned())];
        nodes.get_or_create(&with("up")).set(number(lab.nodes - lab.lost.min(lab.nodes)));
        nodes.get_or_create(&with("lost")).set(number(lab.lost));
        switches.get_or_create(&of_lab).set(number(lab.switches));
        let up = lab.links.iter().filter(|(_, passed)| passed.up).count();
        links.get_or_create(&with("up")).set(number(up));
        links.get_or_create(&with("down")).set(number(lab.links.len() - up));
        let sum = |of: fn(&Passed) -> [u64; 2]| {
            lab.links.iter().flat_map(|(_, passed)| of(passed)).sum::<u64>()
        };
        lab_bytes.get_or_create(&of_lab).inc_by(sum(|it| it.bytes));
        lab_packets.get_or_create(&of_lab).inc_by(sum(|it| it.packets));
        let is_told = lab.links.len() <= LINKS_MAX;
        let untold = if is_told { 0 } else { lab.links.len() };
        unlisted.get_or_create(&of_lab).set(number(untold));
        for ([a, b], passed) in lab.links.iter().filter(|_| is_told) {
            let way =
                |from: &str, to: &str| [name.clone(), ("from", label(from)), ("to", label(to))];
            let ways = [way(a, b), way(b, a)];
            for (way, (of_bytes, of_packets)) in
                ways.iter().zip(passed.bytes.into_iter().zip(passed.packets))
            {
                bytes.get_or_create(way).inc_by(of_bytes);
                packets.get_or_create(way).inc_by(of_packets);
            }
            dropped.get_or_create(&ways[0]).inc_by(passed.dropped);
            errors.get_or_create(&ways[0]).inc_by(passed.errors);
            ups.get_or_create(&ways[0]).set(i64::from(passed.up));
        }
    }
    registry.register("ovsns_nodes", "Nodes, and those that have lost their keeper", nodes);
    registry.register("ovsns_switches", "Switches", switches);
    registry.register("ovsns_links", "Links", links);
    let help = "Links of labs that have too many to be told of one by one";
    registry.register("ovsns_links_unlisted", help, unlisted);
    let [lab_bytes, lab_packets] = sums;
    let help = "What passed all links of a lab, both ways";
    registry.register_with_unit("ovsns_lab", help, Unit::Bytes, lab_bytes);
    let help = "Frames that passed all links of a lab, both ways";
    registry.register("ovsns_lab_packets", help, lab_packets);
    let [bytes, packets, dropped, errors] = passed;
    let help = "What passed a link, one way";
    registry.register_with_unit("ovsns_link", help, Unit::Bytes, bytes);
    registry.register("ovsns_link_packets", "Frames that passed a link, one way", packets);
    registry.register("ovsns_link_dropped", "Frames dropped at a link, either way", dropped);
    registry.register("ovsns_link_errors", "Broken frames at a link, either way", errors);
    registry.register("ovsns_link_up", "Whether a link is up", ups);
    registry
}

/// What was asked of databases of Open vSwitch.
fn of_databases(asked: Transactions) -> Registry {
    let mut registry = Registry::default();
    let transactions: Family<Labels<1>, Counter> = Family::default();
    let Transactions { committed, rejected, unanswered } = asked;
    for (outcome, number_of) in
        [("committed", committed), ("rejected", rejected), ("unanswered", unanswered)]
    {
        let outcome = [("outcome", outcome.to_owned())];
        transactions.get_or_create(&outcome).inc_by(number_of);
    }
    let help = "Transactions with databases of Open vSwitch, by how they ended";
    registry.register("ovsns_ovsdb_transactions", help, transactions);
    registry
}

/// What Prometheus wants to know of every process; what the kernel does not say is left
/// out.
fn of_process() -> Registry {
    let mut registry = Registry::default();
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let cpu: Counter<f64, AtomicU64> = Counter::default();
        let spent = usage.user_time() + usage.system_time();
        cpu.inc_by(spent.num_microseconds() as f64 / 1e6);
        let help = "Time of processors that it took";
        registry.register_with_unit("process_cpu", help, Unit::Seconds, cpu);
    }
    let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, gauge),
            None => registry.register(name, help, gauge),
        }
    };
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is read.
        let open = files.count().saturating_sub(1) as u64;
        gauge("process_open_fds", "Open files", None, open);
    }
    if let Ok((most, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        gauge("process_max_fds", "The most open files", None, most);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    if let Some(kib) = field("VmRSS:") {
        let help = "Memory that it has";
        gauge("process_resident_memory", help, Some(Unit::Bytes), kib << 10);
    }
    if let Some(threads) = field("Threads:") {
        gauge("process_threads", "Threads", None, threads);
    }
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(links: usize) -> Seen {
        let end = |number: usize| [format!("n{number}:eth0"), "s\"1\"".to_owned()];
        let passed = Passed { packets: [1, 2], bytes: [30, 40], dropped: 5, errors: 6, up: true };
        let (lab, state) = ("two".to_owned(), "up".to_owned());
        let links = (0..links).map(|number| (end(number), passed)).collect();
        let labs = vec![Figures { lab, state, nodes: 2, lost: 1, switches: 1, links }];
        Seen {
            labs,
            took: Duration::from_millis(250),
            at: Some((Instant::now(), SystemTime::now())),
        }
    }

    fn lines(registry: &Registry) -> Vec<String> {
        let mut text = String::new();
        encode_registry(&mut text, registry).expect("a string");
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn labs_in_numbers() {
        let told = lines(&of_labs(&seen(1)));
        for line in [
            r#"ovsns_labs{state="up"} 1"#,
            r#"ovsns_labs{state="drifted"} 0"#,
            r#"ovsns_nodes{lab="two",state="lost"} 1"#,
            r#"ovsns_links{lab="two",state="up"} 1"#,
            r#"ovsns_link_bytes_total{lab="two",from="n0:eth0",to="s\"1\""} 30"#,
            r#"ovsns_link_bytes_total{lab="two",from="s\"1\"",to="n0:eth0"} 40"#,
            r#"ovsns_link_packets_total{lab="two",from="s\"1\"",to="n0:eth0"} 2"#,
            r#"ovsns_lab_bytes_total{lab="two"} 70"#,
            r#"ovsns_links_unlisted{lab="two"} 0"#,
        ] {
            assert!(told.iter().any(|it| it == line), "{line}: {told:#?}");
        }
    }

    #[test]
    fn of_big_labs_only_the_sums_are_told() {
        assert_eq!(lines(&of_labs(&seen(LINKS_MAX))).len(), 15 + 7 * LINKS_MAX);
        let told = lines(&of_labs(&seen(LINKS_MAX + 1)));
        assert!(told.len() < 20, "{}", told.len());
        for line in [
            format!(r#"ovsns_links_unlisted{{lab="two"}} {}"#, LINKS_MAX + 1),
            format!(r#"ovsns_lab_bytes_total{{lab="two"}} {}"#, 70 * (LINKS_MAX + 1)),
        ] {
            assert!(told.contains(&line), "{line}");
        }
    }

    #[test]
    fn transactions_are_told_by_how_they_ended() {
        let asked = Transactions { committed: 3, rejected: 2, unanswered: 1 };
        let mut told = lines(&of_databases(asked));
        told.sort();
        let expected = [("committed", 3), ("rejected", 2), ("unanswered", 1)].map(|(how, many)| {
            format!(r#"ovsns_ovsdb_transactions_total{{outcome="{how}"}} {many}"#)
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn calls_and_clients_are_counted() {
        let counts = Counts::default();
        let present = counts.client("tcp");
        counts.called("lab.up", "done", Duration::from_secs(2));
        counts.called("lab.up", "refused", Duration::from_secs(2));
        counts.mended();
        let check = |line: &str| {
            let told = lines(&counts.registry);
            assert!(told.iter().any(|it| it == line), "{line}: {told:#?}");
        };
        check(r#"ovsns_calls_total{method="lab.up",outcome="done"} 1"#);
        check(r#"ovsns_call_duration_seconds_count{method="lab.up"} 2"#);
        check("ovsns_drift_mended_total 1");
        check(r#"ovsns_clients{by="tcp"} 1"#);
        drop(present);
        check(r#"ovsns_clients{by="tcp"} 0"#);
        check(r#"ovsns_clients{by="unix"} 0"#);
    }
}
