//! The programs and control sockets that come with Open vSwitch: flows go
//! through `ovs-ofctl(8)`, what the switch learned through its control socket
//! (`ovs-appctl(8)`). Everything else is the database's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ovsdb::{Remote, Session, SessionOptions};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::error::{OvsError, chain};
use crate::model::flow::Form;
use crate::model::mark::{Mac, is_flow_cookie};

/// How long a program or a control command may take.
const WITHIN: Duration = Duration::from_secs(20);

/// The versions of OpenFlow that we speak: whatever the bridge speaks.
const VERSIONS: &str = "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15";

/// Runs `ovs-ofctl` with `input` and returns what it prints.
async fn ofctl(rundir: &Path, args: &[&str], input: Option<&str>) -> Result<String, OvsError> {
    let mut command = Command::new("ovs-ofctl");
    command.args(["-O", VERSIONS]).args(args).env("OVS_RUNDIR", rundir);
    let said = run(command, args, input).await?;
    match said.well {
        true => Ok(said.out),
        false => Err(OvsError::Tool { program: program(args), why: complaint(&said.err) }),
    }
}

/// What a program said.
struct Said {
    well: bool,
    out: String,
    err: String,
}

fn program(args: &[&str]) -> String {
    let subcommand = args.iter().find(|word| !word.starts_with('-')).copied();
    format!("ovs-ofctl {}", subcommand.unwrap_or_default())
}

async fn run(mut command: Command, args: &[&str], input: Option<&str>) -> Result<Said, OvsError> {
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
fn complaint(said: &str) -> String {
    let is_log = |line: &str| line.contains("|INFO|") || line.contains("|WARN|");
    let lines: Vec<&str> = said.trim().lines().filter(|line| !is_log(line)).collect();
    let refused = lines.iter().find_map(|line| {
        let (error, message) = line.strip_prefix("Error ")?.split_once(" for: ")?;
        let (_, flow) = message.split_once("): ").unwrap_or_default();
        Some(format!("{error} ({flow})"))
    });
    refused.unwrap_or_else(|| lines.join("; ").replace("ovs-ofctl: ", ""))
}

/// The address of a bridge's management socket.
fn management(rundir: &Path, bridge: &str) -> String {
    format!("unix:{}/{bridge}.mgmt", rundir.display())
}

/// The flows of ours on a bridge, by cookie.
///
/// Like `ovs-ofctl dump-flows BRIDGE cookie=0x6f76.../0xffff...`.
pub(super) async fn flows(rundir: &Path, bridge: &str) -> Result<BTreeMap<u64, String>, OvsError> {
    let target = management(rundir, bridge);
    let args = ["--names", "--no-stats", "dump-flows", &target];
    Ok(ofctl(rundir, &args, None).await?.lines().filter_map(read_flow).collect())
}

/// ` cookie=0x6f76..., priority=10,in_port="n1" actions=NORMAL`
fn read_flow(line: &str) -> Option<(u64, String)> {
    let (cookie, flow) = line.trim().strip_prefix("cookie=0x")?.split_once(", ")?;
    let cookie = u64::from_str_radix(cookie, 16).ok().filter(|cookie| is_flow_cookie(*cookie))?;
    Some((cookie, flow.trim().to_owned()))
}

/// A change to the flows of a bridge.
pub(super) enum FlowChange<'a> {
    /// Adds a flow with a cookie.
    Add(u64, &'a str),
    /// Deletes the flows with a cookie.
    Delete(u64),
}

/// Changes flows, all or none; where the bridge speaks no version of OpenFlow
/// that has bundles (1.3 by an extension, 1.4 and 1.5), up to the first that
/// fails.
///
/// Like `ovs-ofctl --bundle add-flows BRIDGE -`.
pub(super) async fn change_flows(
    rundir: &Path,
    bridge: &str,
    protocols: &BTreeSet<String>,
    changes: &[FlowChange<'_>],
) -> Result<(), OvsError> {
    let lines = changes.iter().map(|change| match change {
        FlowChange::Add(cookie, flow) => format!("add cookie={cookie:#x},{flow}\n"),
        FlowChange::Delete(cookie) => format!("delete cookie={cookie:#x}/-1\n"),
    });
    let text: String = lines.collect();
    let target = management(rundir, bridge);
    let has_bundles =
        |version: &String| matches!(version.as_str(), "OpenFlow13" | "OpenFlow14" | "OpenFlow15");
    let mut args = vec!["add-flows", &target, "-"];
    if protocols.is_empty() || protocols.iter().any(has_bundles) {
        args.insert(0, "--bundle");
    }
    ofctl(rundir, &args, Some(&text)).await.map(drop)
}

/// Reads flows without a switch; `protocols` are the versions of OpenFlow that
/// it would speak, none for all. Returns for each how it reads, or why not.
///
/// Like `ovs-ofctl parse-flows -`.
pub(super) async fn read_flows(
    protocols: &BTreeSet<String>,
    texts: &[&str],
) -> Result<Vec<Result<Form, String>>, OvsError> {
    let versions: Vec<&str> = protocols.iter().map(String::as_str).collect();
    let versions = if versions.is_empty() { VERSIONS.to_owned() } else { versions.join(",") };
    let read = async |text: String| {
        let mut command = Command::new("ovs-ofctl");
        let args = ["parse-flows", "-"];
        command.args(["-O", &versions]).args(args);
        run(command, &args, Some(&text)).await
    };
    let forms = |said: &Said| -> Vec<Form> { said.out.lines().filter_map(read_form).collect() };
    let all = read(texts.iter().map(|text| format!("{text}\n")).collect()).await?;
    let found = forms(&all);
    if all.well && left_out(&all.err).is_empty() && found.len() == texts.len() {
        return Ok(found.into_iter().map(Ok).collect());
    }
    // It stops at the first that is wrong, and says of others only that there
    // is one.
    let mut each = Vec::with_capacity(texts.len());
    for text in texts {
        let one = read(format!("{text}\n")).await?;
        let left_out = left_out(&one.err);
        each.push(match forms(&one).pop() {
            Some(_) if !left_out.is_empty() => Err(format!(
                "it would leave out `{}`, which needs more to be said (as `tp_dst=80` needs `tcp`)",
                left_out.join(",")
            )),
            Some(form) if one.well => Ok(form),
            _ => Err(unread(&one)),
        });
    }
    Ok(each)
}

/// Why a flow could not be read.
fn unread(said: &Said) -> String {
    let why = complaint(&said.err).replace("-:1: ", "");
    let versions = said.out.lines().find_map(|line| line.strip_prefix("usable protocols: "));
    match versions.filter(|_| why == "no usable protocol") {
        Some(versions) => format!("{why}; it takes one of {versions}"),
        None => why,
    }
}

/// `OFPT_FLOW_MOD (xid=0x1): ADD table:3 priority=7,tcp idle:5 actions=drop`
fn read_form(line: &str) -> Option<Form> {
    let (kind, flow) = line.split_once("): ADD ")?;
    if !kind.starts_with("OFPT_FLOW_MOD ") && !kind.starts_with("NXT_FLOW_MOD ") {
        return None;
    }
    let (head, actions) = flow.split_once("actions=")?;
    let is_match = |word: &&str| {
        let others =
            ["cookie:", "idle:", "hard:", "importance:", "buf:", "out_port:", "out_group:"];
        let flags = [
            "send_flow_rem",
            "check_overlap",
            "reset_counts",
            "no_packet_counts",
            "no_byte_counts",
        ];
        !others.iter().any(|other| word.starts_with(other)) && !flags.contains(word)
    };
    let matches: Vec<_> = head.split_whitespace().filter(is_match).collect();
    Some(Form { matches: matches.join(" "), actions: actions.trim().to_owned() })
}

/// What `ovs-ofctl` says it left out of a match, because something else was
/// not said that it needs. Its log has the match as it was and as it is.
fn left_out(said: &str) -> Vec<&str> {
    let fields = |word: &str| -> Vec<&str> {
        let line = said.lines().find_map(|line| line.split_once(word));
        line.map(|(_, fields)| fields.trim().split(',').collect()).unwrap_or_default()
    };
    let after = fields("|INFO|post: ");
    fields("|INFO| pre: ").into_iter().filter(|field| !after.contains(field)).collect()
}

/// Runs a command of the switch over its control socket.
///
/// Like `ovs-appctl -t SOCKET COMMAND ARGS`.
pub(super) async fn control(
    socket: &Path,
    command: &str,
    args: &[&str],
) -> Result<String, OvsError> {
    let failed = |why: String| OvsError::Tool { program: format!("ovs-appctl {command}"), why };
    let talk = async {
        let options = SessionOptions::default();
        let remote = Remote::unix(socket);
        let session = Session::connect(&remote, options).await;
        let session = session.map_err(|error| failed(chain(&error)))?;
        session.unixctl(command, args).await.map_err(|error| failed(chain(&error)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_tables() {
        let text = " port  VLAN  MAC                Age\nLOCAL     0  02:00:00:00:00:09    1\n    \
                    2    10  02:00:00:00:00:01    3\n";
        let mac = "02:00:00:00:00:01".parse().expect("an address");
        assert_eq!(read_fdb(text), [FdbEntry { number: 2, vlan: 10, mac }]);
    }

    #[test]
    fn forms_of_flows() {
        check("ADD priority=10,in_port=1 actions=output:2", "priority=10,in_port=1", "output:2");
        check("ADD actions=drop", "", "drop");
        check(
            "ADD table:3 tcp,tp_dst=80 idle:5 hard:9 importance:3 send_flow_rem \
             actions=resubmit(1,2),clone(output:3)",
            "table:3 tcp,tp_dst=80",
            "resubmit(1,2),clone(output:3)",
        );
        check(
            "ADD dl_src=02:00:00:00:00:01 cookie:0x5 actions=IN_PORT",
            "dl_src=02:00:00:00:00:01",
            "IN_PORT",
        );

        #[track_caller]
        fn check(flow: &str, matches: &str, actions: &str) {
            let expected = Form { matches: matches.to_owned(), actions: actions.to_owned() };
            for kind in ["OFPT_FLOW_MOD", "NXT_FLOW_MOD", "OFPT_FLOW_MOD (OF1.5)"] {
                let line = format!("{kind} (xid=0x1): {flow}");
                assert_eq!(read_form(&line), Some(expected.clone()), "{line}");
            }
        }
    }

    #[test]
    fn fields_that_are_left_out() {
        let log = "T|00001|ofp_match|INFO|normalization changed ofp_match, details:\n\
                   T|00002|ofp_match|INFO| pre: in_port=1,tp_src=1,tp_dst=80\n\
                   T|00003|ofp_match|INFO|post: in_port=1\n";
        assert_eq!(left_out(log), ["tp_src=1", "tp_dst=80"]);
        assert!(left_out("").is_empty());
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

    #[test]
    fn flows_of_ours() {
        check(
            " cookie=0x6f76000000000001, priority=10,in_port=\"n1\" actions=output:\"n2\"",
            Some((0x6f76_0000_0000_0001, "priority=10,in_port=\"n1\" actions=output:\"n2\"")),
        );
        check(" cookie=0x1, priority=10 actions=NORMAL", None);
        check("NXST_FLOW reply (xid=0x4):", None);

        #[track_caller]
        fn check(line: &str, expected: Option<(u64, &str)>) {
            let read = read_flow(line);
            assert_eq!(read.as_ref().map(|(cookie, flow)| (*cookie, flow.as_str())), expected);
        }
    }
}
