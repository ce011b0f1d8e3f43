//! `ovsns why`

use super::{CallError, Ending, ask, show};
use crate::api::NodeWhy;

/// Say why one node does not hear another
///
/// Sends a packet from A to B and watches every device on its way, there and
/// back: the first at which it does not show is where it dies. Then it reads
/// what is there (links, addresses, routes, neighbours, filters, switches, queues)
/// for the cause, and says what mends it. It asks by IPv4 and by IPv6, where both
/// have addresses. Changes nothing. The exit status is 0 if all is well, and 1 if
/// something dies.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns why n1 n2\n         ovsns why n1 n2 --port 80/tcp")]
pub(super) struct Args {
    /// The node that asks: NODE, or LAB/NODE
    #[arg(value_name = "A")]
    from: String,
    /// The node that is to answer
    #[arg(value_name = "B")]
    to: String,
    /// Ask for a port, PORT/tcp or PORT/udp, in place of a ping
    #[arg(long, value_name = "PORT", value_parser = port)]
    port: Option<String>,
    /// Only by IPv4
    #[arg(long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Only by IPv6
    #[arg(long)]
    ipv6: bool,
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is no port is said before anything is asked.
fn port(text: &str) -> Result<String, String> {
    crate::api::port(text).map(|_| text.to_owned())
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let call = NodeWhy {
        from: args.from.clone(),
        to: args.to.clone(),
        port: args.port.clone(),
        ipv4: args.ipv4,
        ipv6: args.ipv6,
        lab: args.lab.clone(),
    };
    let mut all = ask::ask("why", call).await?;
    let well = all.iter().all(|told| told.well);
    if args.json {
        all.iter_mut().for_each(|told| told.text.clear());
        show::json(&all);
    } else {
        let texts: Vec<String> = all.into_iter().map(|told| told.text).collect();
        show::out(&texts.join("\n"));
    }
    Ok(if well { Ending::Well } else { Ending::No })
}
