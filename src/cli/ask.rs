//! Asking: by the same calls as any program, and with what they say meanwhile
//! on standard error.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::Serialize;

use super::CallError;
use super::show::{self, Meter};
use crate::api::view::LabView;
use crate::api::{Call, Changed, Desk, Failure, LabStatus, News};
use crate::daemon::{self, Client, Info};

/// How long a server may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(3);

/// How a shell tells that a signal has ended something: so much more than its number.
const BY_SIGNAL: u8 = 128;
const SIGINT: u8 = Signal::SIGINT as u8;

/// Whether servers are left alone.
static NO_SERVER: AtomicBool = AtomicBool::new(false);

/// Has calls done here, even if there is a server.
pub(super) fn set_no_server(no_server: bool) {
    NO_SERVER.store(no_server, Ordering::Relaxed);
}

/// Has a call done, by the server if there is one. `what` is what a long one is called meanwhile.
pub(super) async fn ask<C: Call>(what: &str, call: C) -> Result<C::Answer, CallError> {
    let mut meter = Meter::new(what);
    let mut hear = |news| match news {
        News::Progress { done, all } => meter.set(done, all),
        News::Told(line) => meter.beside(|| show::talk(&line)),
    };
    match server().await {
        Some(server) => tokio::select! {
            answer = server.follow(call, &mut hear) => answer,
            // It is not this process that is at work.
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
        },
        None => call.run(&mut Desk::new(&mut hear)).await,
    }
}

fn interrupted() -> CallError {
    let hint = "`ovsns status` shows what comes of it";
    let message = "interrupted; the server goes on with what it was asked";
    CallError::Told(Failure::new(message, Some(hint), BY_SIGNAL + SIGINT))
}

/// The server of this machine, if there is one that understands this command.
pub(super) async fn server() -> Option<Client> {
    if NO_SERVER.load(Ordering::Relaxed) {
        return None;
    }
    let client = Client::connect(&daemon::path()).await.ok()?;
    // One that does not take this client leaves it to itself.
    let Ok(info) = tokio::time::timeout(PATIENCE, client.info()).await else {
        show::talk("the server does not answer, and is not asked");
        return None;
    };
    let Info { version, pid } = info.ok()?;
    if version != env!("CARGO_PKG_VERSION") {
        show::talk(&format!("the server (process {pid}) is ovsns {version}, and is not asked"));
        return None;
    }
    Some(client)
}

/// Shows what is said by a piece of work that is no call.
pub(super) fn show(news: News) {
    if let News::Told(line) = news {
        show::talk(&line);
    }
}

/// Has a lab changed, and says what was done.
pub(super) async fn change(what: &str, call: impl Call<Answer = Changed>) -> Result<(), CallError> {
    show::changed(&ask(what, call).await?);
    Ok(())
}

/// What a list of the things of a lab takes.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The lab [default: the only one]
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    /// Prints the things of one kind.
    pub(super) async fn show<T: Serialize>(
        &self,
        things: impl Fn(&LabView) -> &[T],
        table: impl Fn(&LabView) -> Vec<Vec<String>>,
    ) -> Result<(), CallError> {
        let view = ask("status", LabStatus { lab: self.lab.clone() }).await?;
        if self.json {
            show::json(&things(&view));
        } else {
            show::line(&show::table(&table(&view)));
        }
        Ok(())
    }
}
