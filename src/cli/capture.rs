//! `ovsns capture`

mod sink;

use std::io::{self, IsTerminal};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use self::sink::Sink;
use super::{CallError, Ending, ask, show};
use crate::api::{Capture, CapturePoint, CapturePoints, Desk, Piece};
use crate::kernel::tap::SNAPLEN_MAX;

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

/// How long whoever reads may take for the rest.
const REST_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    if args.list {
        list(&ask::ask("capture", CapturePoints { lab: args.lab.clone() }).await?, args.json);
        return Ok(Ending::Well);
    }
    let to_terminal = io::stdout().is_terminal();
    if to_terminal && args.write.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        return Err(CallError::usage(
            "a capture file is not for a terminal",
            "name a file, `-w lab.pcapng`, or give it to a program: `| wireshark -k -i -`; \
             without `-w` a line a packet is printed",
        ));
    }
    let asked = Capture {
        points: args.points.clone(),
        filter: args.filter.clone(),
        count: args.count,
        // From when the file is open, or is not for want of a reader.
        seconds: None,
        snaplen: args.snaplen,
        buffer: args.buffer,
        promiscuous: !args.no_promiscuous,
        lines: args.write.is_none() && to_terminal,
        lab: args.lab.clone(),
    };
    // Whoever ends it has it ended well from the first moment.
    let mut ends = Ends::new(args.secs)?;
    let mut capturing = asked.begin(&mut Desk::new(&mut ask::show)).await?;
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
    show::talk(&format!("capturing on {}", capturing.names().join(", ")));
    let ended = async {
        tokio::select! {
            () = ends.come() => {}
            () = sink.unread() => {}
        }
    };
    capturing.listen(sink.pieces(), ended).await?;
    let mut rest = capturing.end()?;
    let last = rest.pop();
    if sink.end(rest, REST_WITHIN).await?
        && let Some(Piece::Ended { packets, dropped }) = last
    {
        let are = if packets == 1 { "packet" } else { "packets" };
        show::talk(&format!("{packets} {are} captured, {dropped} dropped"));
    }
    Ok(Ending::Well)
}

fn list(points: &[CapturePoint], json: bool) {
    if json {
        return show::json(&points);
    }
    let mut table = vec![["LAB", "NAME", "NAMESPACE", "DEVICE"].map(str::to_owned).to_vec()];
    table.extend(points.iter().map(|point| {
        let netns = point.netns.clone().unwrap_or_else(|| "-".to_owned());
        vec![point.lab.clone(), point.name.clone(), netns, point.device.clone()]
    }));
    show::line(&show::table(&table));
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
