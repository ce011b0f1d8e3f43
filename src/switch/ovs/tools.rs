//! The programs and control sockets that come with Open vSwitch: flows go
//! through `ovs-ofctl(8)`, what the switch learned through its control socket
//! (`ovs-appctl(8)`). Everything else is the database's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ovsdb::session::CallError;
use ovsdb::{Remote, Session, SessionOptions};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::error::{OvsError, chain};
use crate::model::mark::Mac;
use crate::model::names::IfName;
use crate::switch::{Bonding, Counters, Member};

/// How long a program or a control command may take.
const WITHIN: Duration = Duration::from_secs(20);

/// The versions of OpenFlow that we speak: whatever the bridge speaks.
pub(super) const VERSIONS: &str =
    "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15";

/// Runs `ovs-ofctl` with `input` and returns what it prints.
pub(super) async fn ofctl(
    rundir: &Path,
    args: &[&str],
    input: Option<&str>,
) -> Result<String, OvsError> {
    ofctl_speaking(VERSIONS, rundir, args, input).await
}

/// The same in some versions of OpenFlow only.
pub(super) async fn ofctl_speaking(
    versions: &str,
    rundir: &Path,
    args: &[&str],
    input: Option<&str>,
) -> Result<String, OvsError> {
    let mut command = Command::new("ovs-ofctl");
    command.args(["-O", versions]).args(args).env("OVS_RUNDIR", rundir);
    let said = run(command, args, input).await?;
    match said.well {
        true => Ok(said.out),
        false => Err(OvsError::Tool { program: program(args), why: complaint(&said.err) }),
    }
}

/// What a program said.
pub(super) struct Said {
    /// Whether it ended well.
    pub(super) well: bool,
    /// Its standard output.
    pub(super) out: String,
    /// Its standard error.
    pub(super) err: String,
}

fn program(args: &[&str]) -> String {
    let subcommand = args.iter().find(|word| !word.starts_with('-')).copied();
    format!("ovs-ofctl {}", subcommand.unwrap_or_default())
}

/// Runs a command with `input`, however it ends; `args` are for what is told.
pub(super) async fn run(
    mut command: Command,
    args: &[&str],
    input: Option<&str>,
) -> Result<Said, OvsError> {
    let failed = |why: String| OvsError::Tool { program: program(args), why };
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed(
            "it is not installed (package `openvswitch-common`, or your distribution's)".into(),
        ),
        _ => failed(error.to_string()),
    })?;
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(text), Some(mut stdin)) = (input, stdin) {
            // One that has read enough says why.
            let _ = stdin.write_all(text.as_bytes()).await;
        }
    };
    let talk = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(WITHIN, talk).await;
    let output = output.map_err(|_| failed(format!("no answer within {} s", WITHIN.as_secs())))?;
    let output = output.map_err(|error| failed(error.to_string()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said { well: output.status.success(), out: text(&output.stdout), err: text(&output.stderr) })
}

/// What `ovs-ofctl` complains of, less what it was doing and its log. Of what
/// the switch refused the first is the reason; it refuses the rest for that.
pub(super) fn complaint(said: &str) -> String {
    let is_log = |line: &str| line.contains("|INFO|") || line.contains("|WARN|");
    let lines: Vec<&str> = said.trim().lines().filter(|line| !is_log(line)).collect();
    let refused = lines.iter().find_map(|line| {
        let (error, message) = line.strip_prefix("Error ")?.split_once(" for: ")?;
        let (_, flow) = message.split_once("): ").unwrap_or_default();
        Some(format!("{error} ({flow})"))
    });
    refused.unwrap_or_else(|| lines.join("; ").replace("ovs-ofctl: ", ""))
}

/// Runs a command of the switch over its control socket.
///
/// Like `ovs-appctl -t SOCKET COMMAND ARGS`.
pub(super) async fn control(
    socket: &Path,
    command: &str,
    args: &[&str],
) -> Result<String, OvsError> {
    let answer = answer(socket, command, args).await?;
    answer.map_err(|why| OvsError::Tool { program: format!("ovs-appctl {command}"), why })
}

/// The same, with what the switch itself says no with.
pub(super) async fn answer(
    socket: &Path,
    command: &str,
    args: &[&str],
) -> Result<Result<String, String>, OvsError> {
    let failed = |why: String| OvsError::Tool { program: format!("ovs-appctl {command}"), why };
    let talk = async {
        let remote = Remote::unix(socket);
        let session = Session::connect(&remote, SessionOptions::default()).await;
        let session = session.map_err(|error| failed(chain(&error)))?;
        match session.unixctl(command, args).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(CallError::Refused { source, .. }) => Ok(Err(source.to_string())),
            Err(error) => Err(failed(chain(&error))),
        }
    };
    let answer = tokio::time::timeout(WITHIN, talk).await;
    answer.map_err(|_| failed(format!("no answer within {} s", WITHIN.as_secs())))?
}

/// A line of the forwarding table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FdbEntry {
    /// The port's number.
    pub(super) number: u16,
    /// The VLAN it was heard in; 0 for none.
    pub(super) vlan: u16,
    /// The station.
    pub(super) mac: Mac,
}

/// Reads the answer to `fdb/show`: a head, then ` port VLAN MAC Age` a line.
pub(super) fn read_fdb(text: &str) -> Vec<FdbEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let vlan = words.next()?.parse().ok()?;
        Some(FdbEntry { number, vlan, mac: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

/// Reads the answer to `dump-ports`, port by number: ` port  2: rx pkts=7,
/// bytes=586, drop=?, ...`, and a line with `tx pkts=...`. A port that does not
/// count something says `?`.
pub(super) fn read_ports(text: &str) -> BTreeMap<u16, Counters> {
    let mut ports: BTreeMap<u16, Counters> = BTreeMap::new();
    let mut number = None;
    for line in text.lines().map(str::trim) {
        let counted = match line.strip_prefix("port ").and_then(|rest| rest.split_once(':')) {
            Some((port, counted)) => {
                number = port.trim().parse().ok();
                counted.trim()
            }
            None => line,
        };
        let (Some(number), Some((way, counted))) = (number, counted.split_once(' ')) else {
            continue;
        };
        let of = |key: &str| {
            let mut pairs = counted.split(", ").filter_map(|pair| pair.split_once('='));
            let value = pairs.find(|(name, _)| *name == key);
            value.and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
        };
        let counters = ports.entry(number).or_default();
        match way {
            "rx" => (counters.rx_packets, counters.rx_bytes) = (of("pkts"), of("bytes")),
            "tx" => (counters.tx_packets, counters.tx_bytes) = (of("pkts"), of("bytes")),
            _ => continue,
        }
        counters.dropped += of("drop");
    }
    ports
}

/// Reads the answer to `bond/show PORT`: `lacp_status: negotiated`, and for each
/// link `member NAME: enabled`, below which may stand `active member`.
pub(super) fn read_bond(text: &str) -> Bonding {
    let (mut bonding, mut last) = (Bonding::default(), None);
    for line in text.lines().map(str::trim) {
        if let Some(status) = line.strip_prefix("lacp_status: ") {
            bonding.agreed = (status != "off").then_some(status == "negotiated");
        } else if let Some((name, state)) =
            line.strip_prefix("member ").and_then(|rest| rest.rsplit_once(": "))
        {
            last = IfName::new(name).ok();
            let member = Member { enabled: state == "enabled", active: false };
            bonding.members.extend(last.clone().map(|name| (name, member)));
        } else if let ("active member", Some(name)) = (line, &last) {
            bonding.members.entry(name.clone()).or_default().active = true;
        }
    }
    bonding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_ports() {
        let text = "OFPST_PORT reply (OF1.5) (xid=0x2): 3 ports\n  \
                    port LOCAL: rx pkts=9, bytes=99, drop=9, errs=0, frame=0, over=0, crc=0\n           \
                    tx pkts=9, bytes=99, drop=1, errs=0, coll=0\n           duration=0.363s\n  \
                    port  1: rx pkts=4, bytes=336, drop=2, errs=0, frame=0, over=0, crc=0\n           \
                    tx pkts=6, bytes=512, drop=1, errs=0, coll=0\n           duration=0.363s\n  \
                    port  2: rx pkts=2, bytes=140, drop=?, errs=?, frame=?, over=?, crc=?\n           \
                    tx pkts=3, bytes=141, drop=?, errs=?, coll=?\n           duration=0.363s\n";
        let counters = |rx: (u64, u64), tx: (u64, u64), dropped| Counters {
            rx_packets: rx.0,
            rx_bytes: rx.1,
            tx_packets: tx.0,
            tx_bytes: tx.1,
            dropped,
        };
        let expected = [(1, counters((4, 336), (6, 512), 3)), (2, counters((2, 140), (3, 141), 0))];
        assert_eq!(read_ports(text), BTreeMap::from(expected));
    }

    #[test]
    fn bonds() {
        let text = "---- s1s20 ----\nbond_mode: active-backup\nlacp_status: negotiated\n\
                    active member mac: 32:ba:79:8a:44:39(a.1)\n\n\
                    member a.1: enabled\n  active member\n  may_enable: true\n\n\
                    member a.2: disabled\n  may_enable: false\n";
        let member = |name, enabled, active| {
            (IfName::new(name).expect("a good name"), Member { enabled, active })
        };
        let members = BTreeMap::from([member("a.1", true, true), member("a.2", false, false)]);
        assert_eq!(read_bond(text), Bonding { agreed: Some(true), members: members.clone() });
        let configured = text.replace("negotiated", "configured");
        assert_eq!(read_bond(&configured).agreed, Some(false));
        let off = text.replace("negotiated", "off");
        assert_eq!(read_bond(&off), Bonding { agreed: None, members });
    }

    #[test]
    fn forwarding_tables() {
        let text = " port  VLAN  MAC                Age\nLOCAL     0  02:00:00:00:00:09    1\n    \
                    2    10  02:00:00:00:00:01    3\n";
        let mac = "02:00:00:00:00:01".parse().expect("an address");
        assert_eq!(read_fdb(text), [FdbEntry { number: 2, vlan: 10, mac }]);
    }

    #[test]
    fn complaints() {
        check("ovs-ofctl: -:1: unknown keyword nonsense\n", "-:1: unknown keyword nonsense");
        check(
            "Error OFPBAC_BAD_OUT_GROUP for: OFPT_FLOW_MOD (OF1.5) (xid=0x6): ADD actions=group:7\n\
             Error OFPBFC_MSG_FAILED for: OFPT_BUNDLE_CONTROL (OF1.5) (xid=0x9):\n bundle_id=0\n\
             ovs-ofctl: talking to unix:s1.mgmt (Protocol error)\n",
            "OFPBAC_BAD_OUT_GROUP (ADD actions=group:7)",
        );
        check("2026-11-22T07:10:17Z|00001|ofp_match|INFO|pre: tp_dst=80\novs-ofctl: no\n", "no");

        #[track_caller]
        fn check(said: &str, expected: &str) {
            assert_eq!(complaint(said), expected);
        }
    }
}
