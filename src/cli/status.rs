//! `ovsns status`

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ask::ask;
use super::{CallError, Ending, cut, link, node, show, switch};
use crate::api::LabStatus;
use crate::api::view::{KindView, LabView};
use crate::model::topology::{Export, Sealed};
use crate::plan::text::words;

/// Show one lab: what is there, and what differs from its file
///
/// With addresses, routes, ports, counters and what the switches have
/// learned. What differs is shown as the steps that would mend it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns status two-nodes")]
pub(super) struct Args {
    /// The lab [default: the only one]
    #[arg(value_name = "LAB")]
    lab: Option<String>,
    /// The lab, for those who type it as with other commands
    #[arg(long = "lab", value_name = "LAB", conflicts_with = "lab")]
    lab_option: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let lab = args.lab.clone().or_else(|| args.lab_option.clone());
    let view = ask("status", LabStatus { lab }).await?;
    if args.json {
        show::json(&view);
    } else {
        show::out(&text(&view));
    }
    Ok(Ending::Well)
}

fn text(view: &LabView) -> String {
    let state = match (view.state.as_str(), &view.cut_off) {
        ("cut off", Some(command)) => {
            format!("a change was cut off: {command}; `ovsns up` goes on, `ovsns down` removes")
        }
        ("unremembered", _) => "its state is lost; `ovsns down` and `ovsns gc` remove it".into(),
        (state, _) => state.into(),
    };
    let mut text = format!("lab {}: {state}\n", view.lab);
    for (head, table) in [
        ("switches", switch::table(view)),
        ("openflow", openflow(view)),
        ("nodes", node::table(view)),
        ("adopted", adopted(view)),
        ("sealed", sealed(view)),
        ("of their own", keepers(view)),
        ("processes", processes(view)),
        ("files", files(view)),
        ("links", link::table(view)),
        ("cuts", cut::table(view)),
        ("uplinks", uplinks(view)),
        ("ways out", ways_out(view)),
        ("ports", ports(view)),
        ("bonds", bonds(view)),
        ("tunnels", tunnels(view)),
        ("mirrors", mirrors(view)),
        ("exports", exports(view)),
        ("routes", routes(view)),
        ("learned", learned(view)),
    ] {
        // The first row is the head of the table.
        if 1 < table.len() {
            let table = show::table(&table).replace('\n', "\n  ");
            write!(text, "\n{head}\n  {table}\n").expect("a string takes all");
        }
    }
    let (in_the_way, drift): (Vec<_>, Vec<_>) =
        view.drift.iter().cloned().partition(|line| line.starts_with("! "));
    for (head, lines) in [
        ("broken", broken(view)),
        ("trouble", view.troubles.clone()),
        ("in the way of `ovsns up`", in_the_way),
        ("drift, which `ovsns up --again` mends", drift),
    ] {
        if !lines.is_empty() {
            write!(text, "\n{head}\n  {}\n", lines.join("\n  ")).expect("a string takes all");
        }
    }
    text
}

/// What does not work, although all is set as it should be.
fn broken(view: &LabView) -> Vec<String> {
    let mut lines = Vec::new();
    for switch in &view.switches {
        let why = switch.broken.iter();
        lines.extend(why.map(|why| format!("switch {}: {why}", switch.name)));
        for port in &switch.ports {
            let to = port.across.as_deref().unwrap_or("(not ours)");
            let on = format!("port to {to} ({}) on switch {}", port.device, switch.name);
            lines.extend(port.broken.iter().map(|why| format!("{on}: {why}")));
        }
    }
    lines
}

fn head(names: &[&str]) -> Vec<Vec<String>> {
    vec![names.iter().map(|name| (*name).to_owned()).collect()]
}

/// A row a switch that speaks OpenFlow, and one more for each controller but
/// the first.
fn openflow(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["SWITCH", "DATAPATH", "ID", "FAIL MODE", "OUR FLOWS", "CONTROLLERS"]);
    for switch in &view.switches {
        let Some(openflow) = &switch.openflow else { continue };
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let mut controllers = openflow.controllers.iter().map(|controller| {
            let state = if controller.connected { "connected" } else { "not connected" };
            let way = if openflow.in_band { ", in-band" } else { "" };
            // One that is as good as all others has none.
            let role = controller.role.as_deref().filter(|role| *role != "other");
            let role = role.map(|role| format!(", {role}")).unwrap_or_default();
            format!("{} ({state}{way}{role})", controller.target)
        });
        rows.push(vec![
            switch.name.clone(),
            text(&switch.datapath),
            text(&openflow.datapath_id),
            text(&openflow.fail_mode),
            openflow.flows.to_string(),
            controllers.next().unwrap_or_else(|| "none".into()),
        ]);
        rows.extend(controllers.map(|more| {
            let mut row = vec![String::new(); 5];
            row.push(more);
            row
        }));
    }
    rows
}

/// A row a switch by which this machine is the way out.
fn ways_out(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["SWITCH", "BY", "GATEWAY"]);
    rows.extend(view.ways_out.iter().map(|way| {
        let switch = way.switch.clone().unwrap_or_else(|| "-".into());
        vec![switch, way.device.clone(), way.addresses.join(" ")]
    }));
    rows
}

/// A row a node whose processes cannot change its network.
fn sealed(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["NODE", "RAW SOCKETS"]);
    for node in &view.nodes {
        let raw = |sealed: &Sealed| if sealed.raw { "yes" } else { "no" };
        rows.extend(node.sealed.iter().map(|s| vec![node.name.clone(), raw(s).to_owned()]));
    }
    rows
}

/// A row a node that somebody else has made.
fn adopted(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["NODE", "ADOPTED FROM", "NAMESPACE"]);
    for node in &view.nodes {
        let from = node.adopted.iter();
        rows.extend(from.map(|from| vec![node.name.clone(), from.clone(), node.netns.clone()]));
    }
    rows
}

/// A row a NIC of the machine.
fn uplinks(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["NIC", "SWITCH OR NODE", "ADDRESSES ON", "STATE"]);
    for uplink in &view.uplinks {
        let state = match &uplink.unconfirmed {
            Some(id) => format!("to be confirmed: `ovsns confirm {id}`"),
            None => uplink.state.clone(),
        };
        let at = uplink
            .switch
            .clone()
            .or_else(|| Some(format!("{}:{}", uplink.node.as_ref()?, uplink.interface.as_ref()?)));
        let on = uplink.local.clone().unwrap_or_else(|| "-".to_owned());
        rows.push(vec![uplink.nic.clone(), at.unwrap_or_default(), on, state]);
    }
    rows
}

fn ports(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["SWITCH", "PORT TO", "DEVICE", "RX", "TX", "DROPPED", "SETTINGS"]);
    for switch in &view.switches {
        for port in &switch.ports {
            let amount = |packets: u64, bytes: u64| format!("{packets} ({bytes} B)");
            rows.push(vec![
                switch.name.clone(),
                port.across.clone().unwrap_or_else(|| "(not ours)".into()),
                port.device.clone(),
                amount(port.counters.rx_packets, port.counters.rx_bytes),
                amount(port.counters.tx_packets, port.counters.tx_bytes),
                port.counters.dropped.to_string(),
                port.settings.words.clone(),
            ]);
        }
    }
    rows
}

/// A row a cable of a bond.
fn bonds(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["SWITCH", "BOND TO", "MODE", "LACP", "CABLE", "STATE"]);
    for switch in &view.switches {
        for port in &switch.ports {
            let KindView::Bond { bond, cables } = &port.kind else { continue };
            let lacp = match bond.agreed {
                Some(true) => "agreed",
                Some(false) => "not agreed",
                None => bond.lacp.as_str(),
            };
            for cable in cables {
                let state = match (cable.enabled, cable.active) {
                    (None, _) => "not known",
                    (Some(false), _) => "out of use",
                    (Some(true), true) => "used",
                    (Some(true), false) if bond.mode == "active-backup" => "spare",
                    (Some(true), false) => "used",
                };
                rows.push(vec![
                    switch.name.clone(),
                    port.across.clone().unwrap_or_default(),
                    bond.mode.clone(),
                    lacp.to_owned(),
                    cable.device.clone(),
                    state.to_owned(),
                ]);
            }
        }
    }
    rows
}

fn tunnels(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["SWITCH", "TUNNEL", "TYPE", "REMOTE", "LOCAL", "KEY"]);
    for switch in &view.switches {
        for port in &switch.ports {
            let KindView::Tunnel { tunnel, remote, local, key, destination_port } = &port.kind
            else {
                continue;
            };
            rows.push(vec![
                switch.name.clone(),
                port.across.clone().unwrap_or_default(),
                tunnel.clone(),
                destination_port.map_or(remote.clone(), |port| format!("{remote} port {port}")),
                local.clone().unwrap_or_else(|| "-".into()),
                key.map_or("-".into(), |key| key.to_string()),
            ]);
        }
    }
    rows
}

fn mirrors(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["SWITCH", "MIRROR", "FROM", "TO", "VLANS", "OUTPUT"]);
    for switch in &view.switches {
        for mirror in &switch.mirrors {
            let ports = |ports: &[String]| match (mirror.all, ports) {
                (true, _) => "all".to_owned(),
                (false, []) => "-".to_owned(),
                (false, some) => some.join(" "),
            };
            let vlans: Vec<_> = mirror.vlans.iter().map(u16::to_string).collect();
            rows.push(vec![
                switch.name.clone(),
                mirror.name.clone(),
                ports(&mirror.from),
                ports(&mirror.to),
                if vlans.is_empty() { "all".to_owned() } else { vlans.join(",") },
                mirror.output.clone(),
            ]);
        }
        for name in &switch.foreign_mirrors {
            let mut row = vec![switch.name.clone(), name.clone()];
            row.resize(5, "-".into());
            row.push("(not ours)".into());
            rows.push(row);
        }
    }
    rows
}

/// A row a way in which a switch reports its flows.
fn exports(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["SWITCH", "EXPORT", "TO", "SAMPLES"]);
    for switch in &view.switches {
        let Export { netflow, sflow, ipfix } = &switch.export;
        let one_in = |every: Option<u32>| format!("one packet in {}", every.unwrap_or(400));
        let exports = [
            netflow.as_ref().map(|it| ("netflow", &it.targets, "every flow".to_owned())),
            sflow.as_ref().map(|it| ("sflow", &it.targets, one_in(it.sampling))),
            ipfix.as_ref().map(|it| ("ipfix", &it.targets, one_in(it.sampling))),
        ];
        for (kind, targets, samples) in exports.into_iter().flatten() {
            let targets: Vec<_> = targets.iter().map(String::as_str).collect();
            rows.push(vec![switch.name.clone(), kind.to_owned(), targets.join(" "), samples]);
        }
    }
    rows
}

/// A row a node that is more than a network namespace.
fn keepers(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["NODE", "OWN", "HOST NAME", "LIMITS", "KEEPER"]);
    for node in &view.nodes {
        let Some(keeper) = &node.keeper else { continue };
        let own = keeper.isolation.join(" ");
        rows.push(vec![
            node.name.clone(),
            if own.is_empty() { "-".into() } else { own },
            keeper.hostname.clone().unwrap_or_else(|| "-".into()),
            keeper.limits.words.clone(),
            match &keeper.lost {
                Some(why) => format!("{} ({why})", keeper.pid),
                None => keeper.pid.to_string(),
            },
        ]);
    }
    rows
}

/// A row a file of a node.
fn files(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["NODE", "FILE", "MODE", "BYTES"]);
    for node in &view.nodes {
        for file in &node.files {
            let bytes = file.bytes.map(|bytes| bytes.to_string());
            rows.push(vec![
                node.name.clone(),
                file.path.clone(),
                file.mode.clone().unwrap_or_else(|| "-".into()),
                bytes.unwrap_or_else(|| "gone".into()),
            ]);
        }
    }
    rows
}

fn processes(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["NODE", "PROCESS", "STATE", "PID", "RESTARTS", "SINCE", "COMMAND"]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for node in &view.nodes {
        for process in &node.processes {
            let state = match &process.ended {
                Some(ended) => format!("{} ({ended})", process.state),
                None => process.state.to_owned(),
            };
            rows.push(vec![
                node.name.clone(),
                process.name.clone(),
                state,
                process.pid.map_or("-".into(), |pid| pid.to_string()),
                process.restarts.to_string(),
                format!("{} s", now.saturating_sub(process.since)),
                short(&words(&process.command)),
            ]);
        }
    }
    rows
}

/// The beginning of what is too long for a table.
fn short(text: &str) -> String {
    const LETTERS_MAX: usize = 60;
    match text.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn routes(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["NODE", "TO", "VIA", "DEVICE", "METRIC"]);
    for node in &view.nodes {
        for route in &node.routes {
            rows.push(vec![
                node.name.clone(),
                route.to.clone(),
                route.via.clone().unwrap_or_default(),
                route.device.clone(),
                route.metric.to_string(),
            ]);
        }
    }
    rows
}

fn learned(view: &LabView) -> Vec<Vec<String>> {
    let mut rows = head(&["SWITCH", "MAC", "BEHIND", "VLAN"]);
    for switch in &view.switches {
        for entry in &switch.learned {
            rows.push(vec![
                switch.name.clone(),
                entry.mac.clone(),
                entry.across.clone().unwrap_or_else(|| entry.port.clone()),
                entry.vlan.map(|id| id.to_string()).unwrap_or_default(),
            ]);
        }
    }
    rows
}
