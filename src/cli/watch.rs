//! `ovsns watch`

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use super::{CallError, Ending, ask, show};
use crate::api::{Event, Failure};
use crate::daemon::{Listener, Told, Watch};
use crate::model::names::LabName;

/// Show what happens to labs, as it happens
///
/// Things that are made, changed and gone, links that go up and down, processes of
/// nodes that start and end, and what is not as it is to be: a line each, until it is
/// ended. By the server if there is one, else by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns watch two-nodes\n         \
                  ovsns watch --json | jq -r 'select(.kind == \"drifted\").text'")]
pub(super) struct Args {
    /// The lab, which need not be there yet [default: all]
    #[arg(value_name = "LAB")]
    lab: Option<String>,
    /// Print JSON: an object a line
    #[arg(long)]
    json: bool,
}

/// Who tells.
enum Source {
    Server(Box<Told<Event>>),
    /// The watch ends with this.
    Here {
        _watch: Watch,
        listener: Box<Listener>,
    },
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    if let Some(lab) = &args.lab {
        LabName::new(lab)?;
    }
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CallError::not_started)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CallError::not_started)?;
    let mut source = match ask::server().await {
        Some(server) => Source::Server(Box::new(server.events(args.lab.clone()).await?)),
        None => {
            let watch = Watch::start(false, || {}, show::talk).map_err(CallError::not_started)?;
            let listener = watch.listen().await.map_err(CallError::Told)?;
            Source::Here { _watch: watch, listener: Box::new(listener) }
        }
    };
    show::talk("watching");
    loop {
        let event = tokio::select! {
            _ = interrupt.recv() => return Ok(Ending::Well),
            _ = terminate.recv() => return Ok(Ending::Well),
            event = source.next() => event?,
        };
        if !event.is_for(args.lab.as_deref()) {
            continue;
        }
        match show::try_out(&format!("{}\n", words(args, &event))) {
            // Whoever closed the pipe has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Ending::Well),
            Err(source) => {
                return Err(CallError::Output { to: "what happens".to_owned(), source });
            }
            Ok(()) => {}
        }
    }
}

fn words(args: &Args, event: &Event) -> String {
    if args.json {
        return serde_json::to_string(event).expect("our own types are JSON");
    }
    let lab = event.lab.as_deref().unwrap_or("-");
    format!("{lab}  {:<8}  {}", event.what.kind.word(), event.what.text)
}

impl Source {
    async fn next(&mut self) -> Result<Event, CallError> {
        match self {
            Self::Server(told) => match told.next().await {
                Some(event) => event,
                None => Err(ended("start the server again, or watch without it: `--no-server`")),
            },
            Self::Here { listener, .. } => match listener.next().await {
                Some(event) => Ok(Event::clone(&event)),
                None => Err(ended("try it again")),
            },
        }
    }
}

fn ended(hint: &str) -> CallError {
    CallError::Told(Failure::new("nobody watches any more", Some(hint), 2))
}
