//! `ovsns capture`

mod order;
mod sink;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use self::order::InOrder;
use self::sink::Sink;
use super::{CallError, Ending, input, show};
use crate::engine::Engine;
use crate::kernel::netns;
use crate::kernel::permissions::Capability;
use crate::kernel::tap::{self, FilterError, Filters, Heard, Manner, SNAPLEN_MAX, Tap};
use crate::kernel::worker::{Where, Worker};
use crate::model::frame;
use crate::model::mark::netns as netns_name;
use crate::model::names::LabName;
use crate::model::pcapng::{self, Interface, Packet, Statistics, Way};
use crate::model::world::Questions;
use crate::plan::Place;
use crate::plan::capture::{NoPoint, Point, Points};

/// Write down the packets of nodes and of switch ports
///
/// One file in the format pcapng, in which every interface has its name; straight
/// into Wireshark by `ovsns capture n1 | wireshark -k -i -`. A NODE by itself
/// means all its interfaces but `lo`, a SWITCH all its ports; SWITCH:LOCAL is the switch's
/// own device. On a terminal, without -w, a line a packet is printed.
///
/// The filter is that of tcpdump and Wireshark (pcap-filter(7)), and takes the
/// program `tcpdump`. It ends by Ctrl-C, and the file is complete then; it says
/// how many packets were lost for want of room, if any.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns capture n1:eth0 s1:n2 -w lab.pcapng --filter 'tcp port 80'")]
pub(super) struct Args {
    /// What to capture on: NODE, NODE:INTERFACE, SWITCH, SWITCH:PORT, SWITCH:LOCAL,
    /// each also as LAB/...
    #[arg(value_name = "WHERE", required_unless_present = "list")]
    points: Vec<String>,
    /// The file to write; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Which packets, as tcpdump says it
    #[arg(short, long, value_name = "FILTER")]
    filter: Option<String>,
    /// End after so many packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long = "for", value_name = "SECS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    secs: Option<u64>,
    /// Keep so many bytes of a packet
    #[arg(short, long, value_name = "BYTES", default_value_t = 262_144,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(SNAPLEN_MAX)))]
    snaplen: u32,
    /// Room for packets that wait to be read, for each interface
    #[arg(long, value_name = "KIB", default_value_t = 32_768,
        value_parser = clap::value_parser!(u32).range(4..=1_048_576))]
    buffer: u32,
    /// Do not ask NICs for packets that are for others
    #[arg(short = 'p', long)]
    no_promiscuous: bool,
    /// The lab [default: the only one that has it]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Show what can be captured on
    #[arg(long)]
    list: bool,
    /// With --list: print JSON
    #[arg(long, requires = "list")]
    json: bool,
}

/// How much waits for whoever reads before the kernel is left to count what is
/// lost, in bytes.
const WAITING_MAX: usize = 16 << 20;

/// How many packets of one device are read before others have their turn.
const TURN: usize = 1024;

/// How long a packet is held back where there are several devices: so much later
/// one of another device that came before it may be found.
const HELD: Duration = Duration::from_millis(2);

/// How often it is looked whether a node is still there: a capture would keep its
/// namespace alive.
const NAMED_EVERY: Duration = Duration::from_millis(250);

/// How long whoever reads may take for the rest.
const REST_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let mut engine = {
        let capabilities = [Capability::NetAdmin, Capability::SysAdmin, Capability::NetRaw];
        input::allowed(&capabilities)?;
        input::engine("ovsns capture").await?
    };
    let labs = Labs::look(&mut engine, args).await?;
    if args.list {
        labs.list(args.json);
        return Ok(Ending::Well);
    }
    let points = labs.find(&args.points)?;
    let to_terminal = io::stdout().is_terminal();
    let as_lines = args.write.is_none() && to_terminal;
    if to_terminal && args.write.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(CallError::usage(
            "a capture file is not for a terminal",
            "name a file, `-w lab.pcapng`, or give it to a program: `| wireshark -k -i -`; \
             without `-w` a line a packet is printed",
        ));
    }
    let filters = match &args.filter {
        None => Filters::all(args.snaplen),
        Some(filter) => Filters::compile(filter, args.snaplen).map_err(|error| {
            let hint = match &error {
                FilterError::NoCompiler => {
                    "install it: `apt install tcpdump`, or leave out --filter"
                }
                FilterError::Bad { .. } => {
                    "pcap-filter(7) says how, such as `tcp port 80 and host 10.0.0.1`"
                }
            };
            CallError::usage(error.to_string(), hint)
        })?,
    };
    let manner = Manner { snaplen: args.snaplen, buffer: args.buffer as usize * 1024, filters };
    // Whoever ends it has it ended well from the first moment.
    let mut ends = Ends::new(args.secs)?;
    let taps = open(points, &manner, !args.no_promiscuous).await?;
    let sink = match &args.write {
        Some(path) if path.as_os_str() != "-" => {
            if std::fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo()) {
                show::talk(&format!("waiting for a reader of `{}`", path.display()));
            }
            tokio::select! {
                biased;
                sink = Sink::file(path) => sink?,
                () = ends.come() => {
                    let to = format!("`{}`", path.display());
                    let source = io::Error::other("nobody has opened it to read");
                    return Err(CallError::Output { to, source });
                }
            }
        }
        _ => Sink::stdout()?,
    };
    let names: Vec<_> = taps.iter().map(|tap| tap.name.as_str()).collect();
    show::talk(&format!("capturing on {}", names.join(", ")));
    let mut capture = Capture::new(taps, sink, args.count, as_lines);
    capture.begin(&manner, args.filter.as_deref());
    capture.listen(&mut ends).await?;
    capture.end().await
}

/// The labs that are meant, with what can be overheard of each.
struct Labs(BTreeMap<LabName, Points>);

#[derive(Serialize)]
struct Row<'p> {
    lab: &'p str,
    name: &'p str,
    netns: Option<String>,
    device: &'p str,
}

impl Labs {
    /// Looks at the labs that are named; at all if one word names none.
    async fn look(engine: &mut Engine, args: &Args) -> Result<Self, CallError> {
        let mut names = Vec::new();
        for words in &args.points {
            names.push(words.split_once('/').map(|(lab, _)| lab).or(args.lab.as_deref()));
        }
        if args.points.is_empty() {
            names.push(args.lab.as_deref());
        }
        let there = engine.labs().await?;
        let named: Option<Vec<&str>> = names.into_iter().collect();
        let wanted = match named {
            None => there.clone(),
            Some(named) => named.into_iter().map(LabName::new).collect::<Result<_, _>>()?,
        };
        if let Some(lab) = wanted.iter().find(|lab| !there.contains(lab)) {
            return Err(crate::engine::EngineError::NoLab(lab.clone()).into());
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
    fn find(&self, all: &[String]) -> Result<Vec<(LabName, Point)>, CallError> {
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

    fn list(&self, json: bool) {
        let rows = self.0.iter().flat_map(|(lab, points)| {
            points.all().iter().map(|point| Row {
                lab: lab.as_str(),
                name: &point.name,
                netns: namespace(lab, &point.place),
                device: point.device.as_str(),
            })
        });
        let rows: Vec<Row> = rows.collect();
        if json {
            return show::json(&rows);
        }
        let mut table = vec![["LAB", "NAME", "NAMESPACE", "DEVICE"].map(str::to_owned).to_vec()];
        table.extend(rows.iter().map(|row| {
            let netns = row.netns.clone().unwrap_or_else(|| "-".to_owned());
            vec![row.lab.to_owned(), row.name.to_owned(), netns, row.device.to_owned()]
        }));
        show::line(&show::table(&table));
    }
}

fn namespace(lab: &LabName, place: &Place) -> Option<String> {
    match place {
        Place::Host => None,
        Place::Node(node) => Some(netns_name(lab, node)),
    }
}

/// A point that is overheard.
struct Overheard {
    name: String,
    description: String,
    tap: Option<Tap>,
    link_type: pcapng::LinkType,
    mac: Option<[u8; 6]>,
    /// The node's namespace, and which one it was.
    netns: Option<(String, (u64, u64))>,
    statistics: Statistics,
}

/// Opens all, a namespace at a time.
async fn open(
    points: Vec<(LabName, Point)>,
    manner: &Manner,
    promiscuous: bool,
) -> Result<Vec<Overheard>, CallError> {
    let worker = Worker::start()?;
    let mut of_place: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
    for (at, (lab, point)) in points.iter().enumerate() {
        of_place.entry(namespace(lab, &point.place)).or_default().push(at);
    }
    let several = points.iter().any(|(lab, _)| *lab != points[0].0);
    let mut opened = BTreeMap::new();
    for (netns, here) in of_place {
        let (place, kept) = match &netns {
            None => (Where::Home, None),
            Some(name) => {
                let file = netns::open(name)?;
                let which = file.metadata().map_err(CallError::not_started)?;
                (Where::In(file), Some((name.clone(), (which.dev(), which.ino()))))
            }
        };
        let device = |at: &usize| {
            let Point { device, is_local, .. } = &points[*at].1;
            (device.to_string(), promiscuous && !is_local)
        };
        let devices = here.iter().map(device).collect();
        let taps = tap::open(&worker, place, devices, manner).await?;
        for (at, tap) in here.into_iter().zip(taps) {
            let (lab, point) = &points[at];
            let of = match &netns {
                Some(netns) => format!("device {} in namespace {netns}", point.device),
                None => format!("device {}", point.device),
            };
            let overheard = Overheard {
                name: if several { format!("{lab}/{}", point.name) } else { point.name.clone() },
                description: format!("lab {lab}, {of}"),
                link_type: tap.link_type,
                mac: tap.mac,
                tap: Some(tap),
                netns: kept.clone(),
                statistics: Statistics { times_ns: (now(), 0), ..Statistics::default() },
            };
            opened.insert(at, overheard);
        }
    }
    Ok(opened.into_values().collect())
}

impl Overheard {
    /// Whether the node is still there, with the same namespace.
    fn is_named(&self) -> bool {
        let Some((name, which)) = &self.netns else { return true };
        let now = std::fs::metadata(netns::path(name));
        now.is_ok_and(|now| (now.dev(), now.ino()) == *which)
    }

    /// Takes note of what was counted.
    fn count(&mut self) -> Result<(), CallError> {
        if let Some(tap) = &self.tap {
            let (received, dropped) = tap.counted()?;
            self.statistics.received += received;
            self.statistics.dropped += dropped;
        }
        Ok(())
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// What ends a capture.
struct Ends {
    signals: [tokio::signal::unix::Signal; 3],
    at: Option<Instant>,
}

impl Ends {
    fn new(secs: Option<u64>) -> Result<Self, CallError> {
        let on = |kind| signal(kind).map_err(CallError::not_started);
        Ok(Self {
            signals: [
                on(SignalKind::interrupt())?,
                on(SignalKind::terminate())?,
                on(SignalKind::hangup())?,
            ],
            at: secs.map(|secs| Instant::now() + Duration::from_secs(secs)),
        })
    }

    async fn come(&mut self) {
        let [a, b, c] = &mut self.signals;
        let at = self.at;
        let time = async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
            () = time => {}
        }
    }
}

/// A capture that goes on.
struct Capture {
    taps: Vec<Overheard>,
    sink: Sink,
    waiting: InOrder<(usize, Packet)>,
    /// What is written next.
    outbox: Vec<u8>,
    written: u64,
    left: Option<u64>,
    as_lines: bool,
}

/// What a round of listening came to.
#[derive(PartialEq, Eq)]
enum Round {
    /// All that was there is heard.
    Quiet,
    /// There is more.
    More,
}

impl Capture {
    fn new(taps: Vec<Overheard>, sink: Sink, count: Option<u64>, as_lines: bool) -> Self {
        let waiting = InOrder::default();
        Self { taps, sink, waiting, outbox: Vec::new(), written: 0, left: count, as_lines }
    }

    /// The head of the file.
    fn begin(&mut self, manner: &Manner, filter: Option<&str>) {
        if self.as_lines {
            return;
        }
        let os = system();
        let application = concat!("ovsns ", env!("CARGO_PKG_VERSION"));
        self.outbox = pcapng::section(application, &os);
        for tap in &self.taps {
            self.outbox.extend(pcapng::interface(&Interface {
                name: tap.name.clone(),
                description: tap.description.clone(),
                mac: tap.mac,
                link_type: tap.link_type,
                snaplen: manner.snaplen,
                filter: filter.map(str::to_owned),
                os: os.clone(),
            }));
        }
    }

    /// Listens until something ends it.
    async fn listen(&mut self, ends: &mut Ends) -> Result<(), CallError> {
        let mut looks = interval(NAMED_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let held = if self.taps.len() == 1 { Duration::ZERO } else { HELD };
        let mut more = false;
        while self.left != Some(0) && self.taps.iter().any(|tap| tap.tap.is_some()) {
            let has_room = self.outbox.len() < WAITING_MAX;
            tokio::select! {
                biased;
                () = ends.come() => return Ok(()),
                () = self.sink.closed() => return Ok(()),
                _ = looks.tick() => {
                    if self.sink.is_unread() {
                        return Ok(());
                    }
                    self.look()?;
                }
                sent = self.sink.send(&mut self.outbox), if !self.outbox.is_empty() => {
                    if !sent {
                        return Ok(());
                    }
                }
                () = any(&self.taps), if has_room && !more => {}
                () = std::future::ready(()), if has_room && more => {}
                () = sleep(held), if has_room && !self.waiting.is_empty() => {}
            }
            if self.outbox.len() < WAITING_MAX {
                let until = now().saturating_sub(held.as_nanos() as u64);
                more = self.hear(until)? == Round::More;
            }
        }
        Ok(())
    }

    /// Hears all devices once; what is older than `until` is put in order.
    fn hear(&mut self, mut until: u64) -> Result<Round, CallError> {
        let mut round = Round::Quiet;
        for at in 0..self.taps.len() {
            let mut last = 0;
            let mut heard = 0;
            while heard < TURN {
                let Some(tap) = &mut self.taps[at].tap else { break };
                match tap.hear()? {
                    Heard::Nothing => break,
                    Heard::Packet(packet) => {
                        last = packet.time_ns;
                        self.waiting.push(packet.time_ns, (at, packet));
                    }
                    Heard::Gone => self.close(at)?,
                }
                heard += 1;
            }
            if heard == TURN {
                // Nothing older comes from here, but something as old may.
                until = until.min(last);
                round = Round::More;
            }
        }
        while let Some((at, packet)) = self.waiting.pop(until) {
            self.write(at, &packet);
        }
        Ok(round)
    }

    fn write(&mut self, at: usize, packet: &Packet) {
        if self.left == Some(0) {
            return;
        }
        self.left = self.left.map(|left| left - 1);
        self.written += 1;
        let tap = &mut self.taps[at];
        tap.statistics.delivered += 1;
        if self.as_lines {
            self.outbox.extend(line(&tap.name, tap.link_type, packet).bytes());
        } else {
            self.outbox.extend(pcapng::packet(at as u32, packet));
        }
    }

    /// Lets go of nodes that are gone.
    fn look(&mut self) -> Result<(), CallError> {
        for at in 0..self.taps.len() {
            if self.taps[at].tap.is_some() && !self.taps[at].is_named() {
                self.close(at)?;
            }
        }
        Ok(())
    }

    /// One device is no more.
    fn close(&mut self, at: usize) -> Result<(), CallError> {
        let tap = &mut self.taps[at];
        tap.count()?;
        tap.tap = None;
        tap.statistics.times_ns.1 = now();
        show::talk(&format!("{} is gone", tap.name));
        Ok(())
    }

    /// Hears what came until now, counts, and writes the end of the file.
    async fn end(mut self) -> Result<Ending, CallError> {
        for tap in &self.taps {
            if let Some(tap) = &tap.tap {
                tap.close()?;
            }
        }
        while self.hear(u64::MAX)? == Round::More {}
        let mut dropped = 0;
        for at in 0..self.taps.len() {
            let tap = &mut self.taps[at];
            tap.count()?;
            if tap.tap.take().is_some() {
                tap.statistics.times_ns.1 = now();
            }
            dropped += tap.statistics.dropped;
            if !self.as_lines {
                self.outbox.extend(pcapng::statistics(at as u32, &tap.statistics));
            }
        }
        let Self { sink, outbox, written, .. } = self;
        let told = sink.end(outbox, REST_WITHIN).await?;
        let packets = if written == 1 { "packet" } else { "packets" };
        if told {
            show::talk(&format!("{written} {packets} captured, {dropped} dropped"));
        }
        Ok(Ending::Well)
    }
}

/// Waits until one of them hears something.
async fn any(taps: &[Overheard]) {
    poll_fn(|context| {
        let mut ready = Poll::Pending;
        for tap in taps.iter().filter_map(|tap| tap.tap.as_ref()) {
            // All are asked, so that any of them wakes us.
            if tap.poll(context).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    })
    .await;
}

/// A packet for a person: the time of day (UTC), where, which way, and what.
fn line(name: &str, link_type: pcapng::LinkType, packet: &Packet) -> String {
    let (seconds, micros) = (packet.time_ns / 1_000_000_000, packet.time_ns / 1000 % 1_000_000);
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    let way = if packet.way == Way::Out { "out" } else { "in" };
    let what = frame::in_a_line(&packet.bytes, link_type, packet.length);
    format!("{hours:02}:{minutes:02}:{:02}.{micros:06} {name} {way:3} {what}\n", seconds % 60)
}

/// The system, as `uname -sr` has it.
fn system() -> String {
    let name = nix::sys::utsname::uname();
    name.map_or_else(
        |_| "Linux".to_owned(),
        |it| format!("{} {}", it.sysname().to_string_lossy(), it.release().to_string_lossy()),
    )
}
