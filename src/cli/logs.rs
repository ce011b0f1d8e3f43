//! `ovsns logs`

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{CallError, Ending, ask, show};
use crate::api::{Call, Desk, Following, NodeLogs, Said};
use crate::kernel::KernelError;

/// Show what the processes of a node said
///
/// That is what they wrote to standard output and standard error. Of each process
/// the last two million bytes are kept, one to two files of one, until the node
/// goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: ovsns logs n1 web --follow")]
pub(super) struct Args {
    /// The node: NODE, or LAB/NODE
    node: String,
    /// One of its processes [default: all, one after the other]
    process: Option<String>,
    /// The lab, where several have a node of that name
    #[arg(long, value_name = "LAB")]
    lab: Option<String>,
    /// Only the last N lines of each
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Go on with what they say from now on, until Ctrl-C or the end of the node
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn run(args: &Args) -> Result<Ending, CallError> {
    match tell(args).await {
        // Whoever closed the pipe has read enough.
        Err(CallError::Untold { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Ending::Well)
        }
        told => told.map(|()| Ending::Well),
    }
}

async fn tell(args: &Args) -> Result<(), CallError> {
    let asked = NodeLogs {
        node: args.node.clone(),
        process: args.process.clone(),
        tail: args.tail,
        lab: args.lab.clone(),
    };
    if !args.follow {
        let said = asked.run(&mut Desk::new(&mut ask::show)).await?;
        let several = args.process.is_none() && 1 < said.len();
        return said.iter().try_for_each(|said| say(said, several));
    }
    let several = args.process.is_none();
    let (mut following, said) = Following::begin(&asked).await?;
    said.iter().try_for_each(|said| say(said, several))?;
    while is_read(&following)?
        && let Some(said) = following.read()?
    {
        said.iter().try_for_each(|said| say(said, several))?;
    }
    following.end().iter().try_for_each(|said| say(said, several))
}

/// Awaits that something has changed, or is there already. `false` if by then
/// nobody reads what is told any more.
fn is_read(following: &Following) -> Result<bool, CallError> {
    let stdout = io::stdout();
    let mut ends = [
        PollFd::new(following.as_fd(), PollFlags::POLLIN),
        // Of the other end of a pipe the kernel tells without being asked.
        PollFd::new(stdout.as_fd(), PollFlags::empty()),
    ];
    poll(&mut ends, PollTimeout::NONE)
        .map_err(|errno| KernelError::new("hear of changes of a log", errno))?;
    Ok(!show::is_unread(&stdout))
}

fn say(said: &Said, several: bool) -> Result<(), CallError> {
    let Said { process, lines } = said;
    for line in lines {
        let told = match several {
            true => show::try_out(&format!("{process} | {line}\n")),
            false => show::try_out(&format!("{line}\n")),
        };
        told.map_err(|source| CallError::Untold { changed: false, source })?;
    }
    Ok(())
}
