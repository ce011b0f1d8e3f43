//! Flows: changed and read through `ovs-ofctl(8)`, traced through the control
//! socket of the switch. Their text is Open vSwitch's own, with its names of
//! ports; what people call those is nothing to this file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use async_trait::async_trait;
use tokio::process::Command;

use super::super::{Contact, Flow, OpenFlow, Standing, SwitchError};
use super::OpenVswitch;
use super::error::OvsError;
use super::seek::Vswitch;
use super::seen::{Rows, followed};
use super::tools::{self, Said, VERSIONS, complaint, ofctl, run};
use crate::model::flow::Form;
use crate::model::mark::is_flow_cookie;
use crate::model::world::{FlowSpec, SwitchSpec};
use crate::plan::Need;

/// What a flow may say about itself, which is no part of its match.
const FLAGS: [&str; 5] =
    ["send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts"];

/// The address of a bridge's management socket.
fn management(rundir: &Path, bridge: &str) -> String {
    format!("unix:{}/{bridge}.mgmt", rundir.display())
}

/// The flows of ours on a bridge, by cookie.
///
/// Like `ovs-ofctl --names dump-flows BRIDGE cookie=0x6f76.../0xffff...`.
pub(super) async fn ours(rundir: &Path, bridge: &str) -> Result<BTreeMap<u64, String>, OvsError> {
    let target = management(rundir, bridge);
    let args = ["--names", "--no-stats", "dump-flows", &target];
    let told = ofctl(rundir, &args, None).await?;
    let flows = told.lines().filter_map(read_counted).filter(|flow| flow.ours);
    Ok(flows.filter_map(|flow| Some((flow.cookie?, flow.text))).collect())
}

/// The flow of the first table that matches what no other does, if there is
/// one. A bridge that the switch does not know (yet) has what it makes with it.
///
/// Like `ovs-appctl bridge/dump-flows BRIDGE`, which is sooner there than a
/// connection of OpenFlow.
pub(super) async fn table_miss(control: &Path, bridge: &str) -> Result<Option<String>, OvsError> {
    match tools::answer(control, "bridge/dump-flows", &[bridge]).await? {
        Ok(told) => Ok(find_table_miss(&told)),
        Err(_) => Ok(Some(FlowSpec::OWN.to_owned())),
    }
}

pub(super) fn find_table_miss(told: &str) -> Option<String> {
    let mut flows = told.lines().filter_map(read_counted).map(|flow| flow.text);
    flows.find(|text| is_table_miss(text))
}

/// Whether a flow, as the switch writes it, is of the first table, last of
/// all, and for all packets.
fn is_table_miss(text: &str) -> bool {
    let (head, _) = text.split_once("actions=").unwrap_or_default();
    let mut said = head.split(',').filter(|word| !word.is_empty());
    let is_field = |word: &str| word.contains('=') || !FLAGS.contains(&word);
    said.clone().any(|word| word == "priority=0")
        && said.all(|word| word == "priority=0" || !is_field(word))
}

/// A change to the flows of a bridge.
pub(super) enum FlowChange<'a> {
    /// Adds a flow with a cookie.
    Add(u64, &'a str),
    /// Deletes the flows with a cookie.
    Delete(u64),
    /// Deletes the flow by which the switch forwards by itself.
    DeleteOwn,
}

/// Has a port flood, whatever it did before.
///
/// Like `ovs-ofctl mod-port BRIDGE PORT no-flood`, and then `flood`: only a
/// change is looked at. Later versions of OpenFlow do not know it.
pub(super) async fn flood_again(rundir: &Path, bridge: &str, port: u16) -> Result<(), OvsError> {
    let (target, port) = (management(rundir, bridge), port.to_string());
    for action in ["no-flood", "flood"] {
        let args = ["mod-port", &target, &port, action];
        tools::ofctl_speaking("OpenFlow10", rundir, &args, None).await?;
    }
    Ok(())
}

/// The ports that somebody told not to flood.
///
/// Like `ovs-ofctl show BRIDGE`.
pub(super) async fn no_flood(rundir: &Path, bridge: &str) -> Result<BTreeSet<u16>, OvsError> {
    let target = management(rundir, bridge);
    let told = tools::ofctl_speaking("OpenFlow10", rundir, &["show", &target], None).await?;
    Ok(read_no_flood(&told))
}

/// Reads what `show` says: ` 1(p1): addr:...` and below it ` config: NO_FLOOD`.
pub(super) fn read_no_flood(told: &str) -> BTreeSet<u16> {
    let mut number: Option<u16> = None;
    let mut found = BTreeSet::new();
    for line in told.lines().map(str::trim) {
        if let Some((port, _)) = line.split_once('(').filter(|(_, rest)| rest.contains("): addr:"))
        {
            number = port.parse().ok();
        }
        let config = line.strip_prefix("config:").unwrap_or_default();
        if config.split_whitespace().any(|word| word == "NO_FLOOD") {
            found.extend(number);
        }
    }
    found
}

/// Changes flows, all or none; where the bridge speaks no version of OpenFlow
/// that has bundles (1.3 by an extension, 1.4 and 1.5), up to the first that
/// fails.
///
/// Like `ovs-ofctl --bundle add-flows BRIDGE -`.
pub(super) async fn change(
    rundir: &Path,
    bridge: &str,
    protocols: &BTreeSet<String>,
    changes: &[FlowChange<'_>],
) -> Result<(), OvsError> {
    let lines = changes.iter().map(|change| match change {
        FlowChange::Add(cookie, flow) => format!("add cookie={cookie:#x},{flow}\n"),
        FlowChange::Delete(cookie) => format!("delete cookie={cookie:#x}/-1\n"),
        FlowChange::DeleteOwn => "delete_strict cookie=0/-1,table=0,priority=0\n".to_owned(),
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
async fn read(
    protocols: &BTreeSet<String>,
    texts: &[&str],
) -> Result<Vec<Result<Form, String>>, OvsError> {
    let versions: Vec<&str> = protocols.iter().map(String::as_str).collect();
    let versions = if versions.is_empty() { VERSIONS.to_owned() } else { versions.join(",") };
    let parse = async |text: String| {
        let mut command = Command::new("ovs-ofctl");
        let args = ["parse-flows", "-"];
        command.args(["-O", &versions]).args(args);
        run(command, &args, Some(&text)).await
    };
    let forms = |said: &Said| -> Vec<Form> { said.out.lines().filter_map(read_form).collect() };
    let all = parse(texts.iter().map(|text| format!("{text}\n")).collect()).await?;
    let found = forms(&all);
    if all.well && left_out(&all.err).is_empty() && found.len() == texts.len() {
        return Ok(found.into_iter().map(Ok).collect());
    }
    // It stops at the first that is wrong, and says of others only that there
    // is one.
    let mut each = Vec::with_capacity(texts.len());
    for text in texts {
        let one = parse(format!("{text}\n")).await?;
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
pub(super) fn read_form(line: &str) -> Option<Form> {
    let (kind, flow) = line.split_once("): ADD ")?;
    if !kind.starts_with("OFPT_FLOW_MOD ") && !kind.starts_with("NXT_FLOW_MOD ") {
        return None;
    }
    let (head, actions) = flow.split_once("actions=")?;
    let is_match = |word: &&str| {
        let others =
            ["cookie:", "idle:", "hard:", "importance:", "buf:", "out_port:", "out_group:"];
        // The first table is meant where none is said, which reads as 255 among
        // flows that say one.
        !others.iter().any(|other| word.starts_with(other))
            && !FLAGS.contains(word)
            && !["table:0", "table:255"].contains(word)
    };
    let matches: Vec<_> = head.split_whitespace().filter(is_match).collect();
    Some(Form { matches: matches.join(" "), actions: actions.trim().to_owned() })
}

/// What `ovs-ofctl` says it left out of a match, because something else was
/// not said that it needs. Its log has the match as it was and as it is.
pub(super) fn left_out(said: &str) -> Vec<&str> {
    let fields = |word: &str| -> Vec<&str> {
        let line = said.lines().find_map(|line| line.split_once(word));
        line.map(|(_, fields)| fields.trim().split(',').collect()).unwrap_or_default()
    };
    let after = fields("|INFO|post: ");
    fields("|INFO| pre: ").into_iter().filter(|field| !after.contains(field)).collect()
}

/// Reads the flows among `needs`: how they read, and why not.
pub(super) async fn read_needed(
    needs: &BTreeSet<Need>,
) -> Result<(BTreeMap<Need, Form>, BTreeMap<Need, String>), OvsError> {
    let mut by_protocols: BTreeMap<&BTreeSet<String>, Vec<&str>> = BTreeMap::new();
    for need in needs {
        if let Need::Flow { text, protocols } = need {
            by_protocols.entry(protocols).or_default().push(text);
        }
    }
    let (mut flows, mut unread) = (BTreeMap::new(), BTreeMap::new());
    for (protocols, texts) in by_protocols {
        for (text, form) in texts.iter().zip(read(protocols, &texts).await?) {
            let need = Need::Flow { text: (*text).to_owned(), protocols: protocols.clone() };
            match form {
                Ok(form) => drop(flows.insert(need, form)),
                Err(reason) => drop(unread.insert(need, reason)),
            }
        }
    }
    Ok((flows, unread))
}

impl OpenVswitch {
    /// The Open vSwitch that has `switch`, if it runs.
    async fn running(&mut self) -> Result<&Vswitch, SwitchError> {
        let Some(vswitch) = self.there().await? else {
            return Err(OvsError::NotThere("none answers".into()).into());
        };
        match vswitch.asleep().await {
            None => Ok(vswitch),
            Some(error) => Err(error.into()),
        }
    }
}

#[async_trait]
impl OpenFlow for OpenVswitch {
    async fn flows(&mut self, switch: &SwitchSpec, hidden: bool) -> Result<Vec<Flow>, SwitchError> {
        let vswitch = self.running().await?;
        let target = management(&vswitch.rundir, switch.device.as_str());
        let told = ofctl(&vswitch.rundir, &["--names", "dump-flows", &target], None).await?;
        let mut flows: Vec<Flow> = told.lines().filter_map(read_counted).collect();
        if hidden {
            let bridge = [switch.device.as_str()];
            let all = tools::control(&vswitch.control, "bridge/dump-flows", &bridge).await?;
            let all = all.lines().filter_map(read_counted);
            flows.extend(all.filter(is_hidden).map(|flow| Flow { hidden: true, ..flow }));
        }
        flows.sort_by_key(|flow| (flow.table, std::cmp::Reverse(flow.priority), flow.text.clone()));
        Ok(flows)
    }

    async fn trace(
        &mut self,
        switch: &SwitchSpec,
        packet: &str,
    ) -> Result<Result<String, String>, SwitchError> {
        let vswitch = self.running().await?;
        let args = ["--names", switch.device.as_str(), packet];
        let answer = tools::answer(&vswitch.control, "ofproto/trace", &args).await?;
        // It repeats the whole packet before it comes to what is wrong.
        let repeated = format!("Bad openflow flow syntax: {packet}: ");
        Ok(answer.map_err(|why| why.strip_prefix(&repeated).unwrap_or(&why).to_owned()))
    }

    async fn read(
        &mut self,
        protocols: &BTreeSet<String>,
        texts: &[&str],
    ) -> Result<Vec<Result<Form, String>>, SwitchError> {
        Ok(read(protocols, texts).await?)
    }

    async fn standing(&mut self, switch: &SwitchSpec) -> Result<Standing, SwitchError> {
        let Some(vswitch) = self.there().await? else { return Ok(Standing::default()) };
        let rows = vswitch.client.read(Rows::read).map_err(|error| vswitch.unreadable(&error))?;
        let Some(bridge) = rows.bridge(&switch.device) else { return Ok(Standing::default()) };
        // What was connected when the switch died is in the database for ever.
        let alive = vswitch.is_alive();
        let controllers = followed(&bridge.controller, &rows.controllers).map(|controller| {
            let connected = alive && controller.is_connected;
            let role = controller.role.clone().filter(|_| connected);
            (controller.target.clone(), Contact { connected, role })
        });
        let datapath_id = bridge.datapath_id.clone();
        Ok(Standing { datapath_id, controllers: controllers.collect() })
    }
}

/// ` cookie=0x1, duration=9.2s, table=3, n_packets=1, n_bytes=98, idle_age=8,
/// priority=1,icmp actions=drop`, or the same with other commas and less.
pub(super) fn read_counted(line: &str) -> Option<Flow> {
    let (head, actions) = line.split_once("actions=")?;
    let mut flow = Flow { priority: 32768, ..Flow::default() };
    let mut said = Vec::new();
    for word in head.split_whitespace().map(|word| word.trim_matches(',')) {
        match word.split_once('=') {
            Some(("cookie", hex)) => {
                flow.cookie = u64::from_str_radix(hex.trim_start_matches("0x"), 16).ok();
                flow.ours = flow.cookie.is_some_and(is_flow_cookie);
            }
            Some(("duration", time)) => {
                flow.seconds = time.trim_end_matches('s').parse().unwrap_or_default();
            }
            Some(("table" | "table_id", table)) => flow.table = table.parse().unwrap_or_default(),
            Some(("n_packets", count)) => flow.packets = count.parse().unwrap_or_default(),
            Some(("n_bytes", count)) => flow.bytes = count.parse().unwrap_or_default(),
            Some(("n_offload_packets" | "n_offload_bytes" | "idle_age" | "hard_age", _)) => {}
            // That it was asked for once says nothing of what the flow does.
            _ if word.is_empty() || word == "reset_counts" => {}
            _ => said.push(word),
        }
    }
    let fields = said.iter().flat_map(|word| word.split(','));
    if let Some(priority) = fields.filter_map(|field| field.strip_prefix("priority=")).next_back() {
        flow.priority = priority.parse().ok()?;
    }
    let table = (flow.table != 0).then(|| format!("table={}", flow.table));
    let said: Vec<&str> = table.as_deref().into_iter().chain(said).collect();
    let actions = format!("actions={}", actions.trim());
    flow.text = [said.join(","), actions]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(",");
    Some(flow)
}

/// Whether a flow is one of those that Open vSwitch makes for itself: in the
/// last table, or above all priorities that others can give.
fn is_hidden(flow: &Flow) -> bool {
    flow.table == 254 || u32::from(u16::MAX) < flow.priority
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_with_what_they_counted() {
        let flow = Flow {
            cookie: Some(0x6f76_0000_0000_0001),
            ours: true,
            hidden: false,
            table: 3,
            priority: 1,
            seconds: 9.293,
            packets: 1,
            bytes: 98,
            text:
                "table=3,idle_timeout=60,send_flow_rem,importance=3,priority=1,arp,in_port=\"n1\",\
                   actions=output:\"n2\""
                    .into(),
        };
        check(
            " cookie=0x6f76000000000001, duration=9.293s, table=3, n_packets=1, n_bytes=98, \
             idle_timeout=60, send_flow_rem reset_counts importance=3, idle_age=9, priority=1,arp,\
             in_port=\"n1\" actions=output:\"n2\"",
            flow,
        );
        let plain =
            Flow { seconds: 12.0, priority: 32768, text: "actions=drop".into(), ..Flow::default() };
        check("duration=12s, n_packets=0, n_bytes=0, ,actions=drop", plain.clone());
        let hidden = Flow {
            table: 254,
            priority: 2,
            text: "table=254,priority=2,recirc_id=0,actions=drop".into(),
            ..plain.clone()
        };
        assert!(is_hidden(&hidden) && !is_hidden(&plain));
        check(
            "table_id=254, duration=12s, n_packets=0, n_bytes=0, priority=2,recirc_id=0,\
             actions=drop",
            hidden,
        );
        let text = "priority=180008,tcp,tp_src=6653,actions=NORMAL";
        let in_band = Flow { priority: 180_008, text: text.into(), ..plain };
        assert!(is_hidden(&in_band));
        check(&format!("duration=12s, n_packets=0, n_bytes=0, {text}"), in_band);

        assert_eq!(read_counted("NXST_FLOW reply (xid=0x4):"), None);

        #[track_caller]
        fn check(line: &str, expected: Flow) {
            assert_eq!(read_counted(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_no_other_flow_matches() {
        check("duration=0s, n_packets=0, n_bytes=0, priority=0,actions=NORMAL", true);
        check("duration=0s, n_packets=0, n_bytes=0, send_flow_rem priority=0,actions=drop", true);
        check("duration=0s, n_packets=0, n_bytes=0, priority=0,ip,actions=NORMAL", false);
        check("duration=0s, n_packets=0, n_bytes=0, priority=1,actions=NORMAL", false);
        check("duration=0s, n_packets=0, n_bytes=0, ,actions=NORMAL", false);
        check("table_id=3, duration=0s, n_packets=0, n_bytes=0, priority=0,actions=drop", false);
        check("", false);

        #[track_caller]
        fn check(line: &str, is_it: bool) {
            assert_eq!(find_table_miss(line).is_some(), is_it, "{line}");
        }
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
        check("ADD table:0 priority=10,icmp actions=NORMAL", "priority=10,icmp", "NORMAL");
        check("ADD table:255 priority=10,icmp actions=NORMAL", "priority=10,icmp", "NORMAL");
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
}
