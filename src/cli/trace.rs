//! `ovsns trace`

use serde_json::json;

use super::flow::{Called, Place};
use super::{CallError, Ending, show};
use crate::engine::EngineError;
use crate::model::flow;

/// Show which way a packet would take through a switch
///
/// Which flow it meets in each table, what that does with it, and where it
/// leaves; also through the switches behind. FLOW says which packet, as the
/// match of a flow does. No packet is sent. Like `ovs-appctl ofproto/trace`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: ovsns trace s1 in_port=n1,icmp,nw_src=10.0.0.1,nw_dst=10.0.0.2\n         \
                  ovsns trace s1 in_port=n1,dl_dst=ff:ff:ff:ff:ff:ff"
)]
pub(super) struct Args {
    /// The switch
    switch: String,
    /// The packet
    flow: String,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let mut place = Place::find("ovsns trace", args.lab.as_deref(), &args.switch).await?;
    let (ports, bridges, packet) = (place.ports(), place.bridges(), place.packet(&args.flow)?);
    let spec = place.seen()?.spec.clone();
    let traced = place.openflow()?.trace(&spec, &packet).await;
    let traced = traced.map_err(EngineError::ObserveSwitches)?.map_err(|why| {
        CallError::usage(
            format!("Open vSwitch cannot read the packet `{}`: {why}", args.flow),
            "write it like the match of a flow, such as `in_port=n1,icmp,nw_dst=10.0.0.2`",
        )
    })?;
    let text = in_words(&traced, &ports, &bridges);
    if args.json {
        let said = |head: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(head));
            lines.map(|line| line.trim().to_owned()).collect()
        };
        show::json(&json!({
            "lab": place.lab(),
            "switch": place.switch,
            "packet": said("Flow:").first(),
            // One for each time that it comes out of connection tracking.
            "actions": said("Datapath actions:"),
            "text": text,
        }));
    } else {
        show::line(text.trim_end());
    }
    Ok(Ending::Well)
}

/// What Open vSwitch says, with names; its lines below heads fit those again.
fn in_words(traced: &str, ports: &Called, bridges: &Called) -> String {
    // Where frames leave, the name of a bridge is its own device.
    let local = bridges.iter().map(|(device, name)| (device.clone(), format!("{name}:LOCAL")));
    let leaves: Called = ports.clone().into_iter().chain(local).collect();
    let all: Called = ports.clone().into_iter().chain(bridges.clone()).collect();
    let mut text = String::new();
    let mut head = 0;
    for line in traced.lines() {
        let line = match line {
            _ if line.starts_with("Datapath actions:") => flow::with_devices(line, &leaves),
            _ if !line.is_empty() && line.bytes().all(|byte| byte == b'-') => "-".repeat(head),
            _ => flow::with_devices(line, &all),
        };
        head = line.chars().count();
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::IfName;

    #[test]
    fn names_in_a_trace() {
        let traced = "Flow: in_port=\"n1eth0.ienan3v2\"\n\nbridge(\"s1.j4wykquh\")\n\
                      ---------------------\n 0. priority 0\n    NORMAL\n\n\
                      Datapath actions: n2eth0.t8z3aitx,s1.j4wykquh\n";
        let called = |device: &str, called: &str| {
            (IfName::new(device).expect("a good name"), called.to_owned())
        };
        let ports = [called("n1eth0.ienan3v2", "n1:eth0"), called("n2eth0.t8z3aitx", "n2:eth0")];
        let bridges = [called("s1.j4wykquh", "s1")];
        assert_eq!(
            in_words(traced, &ports.into(), &bridges.into()),
            "Flow: in_port=n1:eth0\n\nbridge(\"s1\")\n------------\n 0. priority 0\n    NORMAL\n\n\
             Datapath actions: n2:eth0,s1:LOCAL\n"
        );
    }
}
