//! `ovsns serve`

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ArgGroup;
use tokio::signal::unix::{SignalKind, signal};

use super::{CallError, Ending, input, show};
use crate::daemon::{self, Options, TcpOptions, TlsFiles};

/// Serve the control API (JSON-RPC 2.0)
///
/// On a Unix socket, to root and to whoever runs it: a JSON-RPC message a line, or
/// HTTP and WebSocket. `ovsns api` prints what can be asked. The other commands ask
/// it as long as it is there, unless they are told `--no-server`. When it is ended
/// (SIGTERM), it finishes what it is at; labs stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns serve --group netdev --keep\n         \
                        ovsns serve --web 127.0.0.1:8080 --token ~/.ovsns-token")]
#[command(group(ArgGroup::new("by_tcp").args(["tcp", "web"]).multiple(true)))]
pub(super) struct Args {
    /// Where its socket is [default: `ovsns.sock` in the state directory]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Let the members of this group use it, too; they can do with the machine's
    /// network what root can
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Serve HTTP and WebSocket here, too, to whoever knows the token; without a
    /// certificate on a loopback address only
    #[arg(long, value_name = "ADDR:PORT", requires = "token")]
    tcp: Option<SocketAddr>,
    /// Serve a page for browsers here: labs drawn live, with buttons for links, pings
    /// and terminals; whoever knows the token can do there what root can
    #[arg(long, value_name = "ADDR:PORT", requires = "token")]
    web: Option<SocketAddr>,
    /// The file of that token, which nobody else may read (mode 0600); clients say
    /// `Authorization: Bearer TOKEN`
    #[arg(long, value_name = "FILE", requires = "by_tcp")]
    token: Option<PathBuf>,
    /// A certificate for TLS, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["key", "by_tcp"])]
    cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Mend labs that are not as they are to be, as soon as that happens
    #[arg(long)]
    keep: bool,
}

impl Args {
    /// How to listen there, if that is wanted.
    fn at(&self, address: Option<SocketAddr>) -> Option<TcpOptions> {
        let files = self.cert.clone().zip(self.key.clone());
        let tls = files.map(|(certificate, key)| TlsFiles { certificate, key });
        Some(TcpOptions { address: address?, token: self.token.clone()?, tls })
    }
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    let mut term = signal(SignalKind::terminate()).map_err(CallError::not_started)?;
    let mut int = signal(SignalKind::interrupt()).map_err(CallError::not_started)?;
    let stopped = async {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    };
    // What another server left in the middle of a change is mended by whoever comes
    // first; and who may not serve is told now, not the first client.
    drop(input::engine("ovsns serve").await?);
    let socket = args.socket.clone().unwrap_or_else(daemon::path);
    let options = Options {
        socket,
        group: args.group.clone(),
        tcp: args.at(args.tcp),
        web: args.at(args.web),
        keep: args.keep,
        tells_token: io::stderr().is_terminal(),
    };
    daemon::serve(&options, stopped, show::talk).await?;
    Ok(Ending::Well)
}
