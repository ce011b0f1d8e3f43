//! `ovsns trace`

use super::{CallError, Ending, ask, show};
use crate::api::FlowTrace;

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
    let (switch, lab) = (args.switch.clone(), args.lab.clone());
    let call = FlowTrace { switch, packet: args.flow.clone(), lab };
    let traced = ask::ask("trace", call).await?;
    if args.json {
        show::json(&traced);
    } else {
        show::line(traced.text.trim_end());
    }
    Ok(Ending::Well)
}
