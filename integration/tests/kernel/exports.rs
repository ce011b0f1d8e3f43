//! What a switch reports of its flows, heard by a collector in the test itself:
//!
//! ```text
//! n1, n2 -- s1, which reports      n3, n4 -- s2, which does not
//! ```
//!
//! Here is as much of NetFlow version 5, sFlow version 5 and IPFIX (RFC 7011)
//! as it takes to read who sent something to whom over IPv4.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use world::{Verdict, World};

/// n1, n2 -- s1; n3, n4 -- s2
pub(crate) fn netflow_reaches_a_collector(world: &World) -> Verdict {
    reaches_a_collector(world, "netflow", "active_timeout: 1", &mut netflow)
}

/// n1, n2 -- s1; n3, n4 -- s2
pub(crate) fn sflow_reaches_a_collector(world: &World) -> Verdict {
    reaches_a_collector(world, "sflow", "sampling: 1", &mut sflow)
}

/// n1, n2 -- s1; n3, n4 -- s2
pub(crate) fn ipfix_reaches_a_collector(world: &World) -> Verdict {
    let mut templates = Templates::default();
    reaches_a_collector(world, "ipfix", "sampling: 1, domain: 7", &mut |bytes| {
        ipfix(bytes, 7, &mut templates)
    })
}

/// From whom to whom.
type Flows = BTreeSet<(Ipv4Addr, Ipv4Addr)>;

fn reaches_a_collector(
    world: &World,
    key: &str,
    settings: &str,
    read: &mut dyn FnMut(&[u8]) -> Option<Flows>,
) -> Verdict {
    let _ovs = world.open_vswitch(&[])?;
    let collector = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = collector.local_addr().expect("a socket that is bound").port();
    let mut collector = Collector { socket: collector, read };
    let reports = format!("{key}: {{ targets: ['127.0.0.1:{port}'], {settings} }}");
    world.file("lab.yaml", &lab(&reports));
    world.ovsns("up lab.yaml").ok();
    let talk = || {
        world.pings("report.n1", "10.0.0.2");
        world.pings("report.n3", "10.1.0.2");
    };
    let [n1, n2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];

    let heard = collector.hears(&[(n1, n2), (n2, n1)], talk);
    let others =
        heard.iter().filter(|(from, to)| ![from, to].iter().all(|it| [n1, n2].contains(it)));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&(Ipv4Addr, Ipv4Addr)>::new(), "of s2");
    world.ovsns("up lab.yaml").ok().says("nothing to change");

    // It stops when it is told to, and begins again.
    world.ovsns(&format!("switch set s1 {key}=")).ok();
    collector.hears_nothing(talk);
    world.ovsns("up lab.yaml").ok().says("1 step in");
    collector.hears(&[(n1, n2), (n2, n1)], talk);
    world.ovsns("down report").ok();
    let left = world.run(&format!("ovs-vsctl list {key}")).stdout;
    assert_eq!(left, "", "rows are left");
    Ok(())
}

fn lab(reports: &str) -> String {
    format!(
        "
name: report
switches:
  s1: {{ backend: ovs, {reports} }}
  s2: {{ backend: ovs }}
nodes:
  n[1-4]: {{}}
prefixes: [10.0.0.0/24, 10.1.0.0/24]
links:
  - endpoints: ['n[1-2]', s1]
  - endpoints: ['n[3-4]', s2]
"
    )
}

/// Who hears reports.
struct Collector<'r> {
    socket: UdpSocket,
    /// The flows in a report; `None` if it is none of the kind it should be.
    read: &'r mut dyn FnMut(&[u8]) -> Option<Flows>,
}

impl Collector<'_> {
    /// Has nodes talk until all of `wanted` is reported; returns whatever was.
    #[track_caller]
    fn hears(&mut self, wanted: &[(Ipv4Addr, Ipv4Addr)], talk: impl Fn()) -> Flows {
        let start = Instant::now();
        let mut heard = Flows::new();
        while !wanted.iter().all(|flow| heard.contains(flow)) {
            assert!(start.elapsed() < Duration::from_secs(60), "only {heard:?} was reported");
            talk();
            heard.extend(self.heard_for(Duration::from_millis(500)));
        }
        heard
    }

    /// Fails the test if anything is reported of what nodes say. NetFlow takes
    /// a second to do it.
    #[track_caller]
    fn hears_nothing(&mut self, talk: impl Fn()) {
        // What was on its way.
        self.heard_for(Duration::from_millis(500));
        talk();
        let heard = self.heard_for(Duration::from_secs(3));
        assert_eq!(heard, Flows::new(), "reported, and should not have been");
    }

    /// What is reported until nothing has been for so long.
    #[track_caller]
    fn heard_for(&mut self, silence: Duration) -> Flows {
        self.socket.set_read_timeout(Some(silence)).expect("more than zero");
        let mut heard = Flows::new();
        let mut datagram = [0; 65536];
        while let Ok((bytes, _)) = self.socket.recv_from(&mut datagram) {
            let report = &datagram[..bytes];
            heard.extend((self.read)(report).unwrap_or_else(|| panic!("no report: {report:x?}")));
        }
        heard
    }
}

/// The two or four bytes at `at`, in network order.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + width)?;
    Some(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(bytes.into())
}

/// A header of 24 bytes, then 48 a record.
fn netflow(report: &[u8]) -> Option<Flows> {
    if number(report, 0, 2)? != 5 {
        return None;
    }
    let records = report.get(24..)?.chunks(48);
    assert_eq!(records.len(), number(report, 2, 2)?, "records");
    records.map(|record| Some((address(record, 0)?, address(record, 4)?))).collect()
}

/// A header with the agent's IPv4 address, then samples, of which those of
/// flows have records, of which some are the beginnings of frames.
fn sflow(report: &[u8]) -> Option<Flows> {
    const FLOW_SAMPLE: usize = 1;
    const RAW_HEADER: usize = 1;
    if number(report, 0, 4)? != 5 || number(report, 4, 4)? != 1 {
        return None;
    }
    let mut flows = Flows::new();
    for (kind, sample) in pieces(report.get(28..)?)? {
        if kind != FLOW_SAMPLE {
            continue;
        }
        for (kind, record) in pieces(sample.get(32..)?)? {
            if kind == RAW_HEADER {
                flows.extend(ipv4(record.get(16..)?));
            }
        }
    }
    Some(flows)
}

/// What has a type and a length of four bytes each before it.
fn pieces(mut bytes: &[u8]) -> Option<Vec<(usize, &[u8])>> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (kind, length) = (number(bytes, 0, 4)?, number(bytes, 4, 4)?);
        pieces.push((kind, bytes.get(8..8 + length)?));
        bytes = bytes.get(8 + length..)?;
    }
    Some(pieces)
}

/// Who sends an Ethernet frame to whom, if it is IPv4.
fn ipv4(frame: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let is_ipv4 = number(frame, 12, 2)? == 0x0800;
    is_ipv4.then_some((address(frame, 26)?, address(frame, 30)?))
}

/// The fields of records, each a number and a width, by the number of their
/// template.
type Templates = BTreeMap<usize, Vec<(usize, usize)>>;

/// A header with the observation domain, then sets, of templates or of records.
fn ipfix(report: &[u8], domain: usize, templates: &mut Templates) -> Option<Flows> {
    const TEMPLATES: usize = 2;
    const SOURCE: usize = 8;
    const DESTINATION: usize = 12;
    if number(report, 0, 2)? != 10 {
        return None;
    }
    // What it counts of itself is of domain 0.
    let of_domain = number(report, 12, 4)? == domain;
    let mut flows = Flows::new();
    let mut rest = report.get(16..)?;
    while !rest.is_empty() {
        let (kind, length) = (number(rest, 0, 2)?, number(rest, 2, 2)?);
        let mut set = rest.get(4..length)?;
        rest = rest.get(length..)?;
        if kind == TEMPLATES {
            while !set.is_empty() {
                let (id, count) = (number(set, 0, 2)?, number(set, 2, 2)?);
                set = set.get(4..)?;
                let fields = templates.entry(id).or_default();
                fields.clear();
                for _ in 0..count {
                    let (field, width) = (number(set, 0, 2)?, number(set, 2, 2)?);
                    // Those of an enterprise have its number behind them.
                    set = set.get(if field & 0x8000 == 0 { 4 } else { 8 }..)?;
                    fields.push((field, width));
                }
            }
            continue;
        }
        let Some(fields) = templates.get(&kind) else { continue };
        while !set.is_empty() {
            let (mut from, mut to) = (None, None);
            for (field, width) in fields {
                // One whose width varies says it itself.
                if *width == 65535 {
                    set = set.get(1 + number(set, 0, 1)?..)?;
                    continue;
                }
                match *field {
                    SOURCE => from = address(set, 0),
                    DESTINATION => to = address(set, 0),
                    _ => {}
                }
                set = set.get(*width..)?;
            }
            flows.extend(from.zip(to));
        }
    }
    (of_domain || flows.is_empty()).then_some(flows)
}
