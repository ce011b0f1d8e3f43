//! Commands in nodes.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::desk::{NodeWords, allowed};
use super::{Call, CallError, Desk};
use crate::kernel::error::words_of;
use crate::kernel::permissions::Capability;

/// How much of what a command says is kept, in bytes, of each of its outputs.
const SAID_BYTES_MAX: usize = 1 << 20;

/// How long is waited for the end of what a command has said, when it has ended itself.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs a command in a node until it ends, as `ovsns exec` does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeExec {
    /// The node: `NODE`, or `LAB/NODE`.
    pub node: String,
    /// The command and its words; no shell reads them.
    pub command: Vec<String>,
    /// What it reads from its standard input; nothing if it is not said.
    pub input: Option<String>,
    /// After how many seconds, more than 0, it is killed; never if it is not said.
    pub timeout: Option<f64>,
    /// The lab; the only one if none is named.
    pub lab: Option<String>,
}

/// How a command in a node ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ran {
    /// Its exit status; nothing if a signal ended it. 127 where there is no such
    /// command, 126 where it cannot be run.
    pub status: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it said. What is not UTF-8 is replaced.
    pub stdout: String,
    /// What it said of errors.
    pub stderr: String,
    /// Whether there was more of either than is kept (1 MiB).
    pub cut: bool,
    /// Whether it was killed because its time was over.
    pub timed_out: bool,
}

impl Call for NodeExec {
    const NAME: &'static str = "node.exec";
    const IS_OPEN_ENDED: bool = true;
    type Answer = Ran;

    async fn run(self, desk: &mut Desk<'_>) -> Result<Ran, CallError> {
        let words = NodeWords::new(&self.node, self.lab.as_deref())?;
        if self.command.is_empty() {
            return Err(CallError::usage(
                "no command was given",
                "say one: `[\"ip\", \"address\"]`",
            ));
        }
        let timeout = self.timeout.map(Duration::try_from_secs_f64).transpose();
        let Some(timeout) = timeout.ok().filter(|time| *time != Some(Duration::ZERO)) else {
            return Err(CallError::usage("`timeout` is no time", "give seconds, more than 0"));
        };
        allowed(&[Capability::SysAdmin])?;
        let lab = words.find()?;
        // A process cannot enter a node and come back; so it is one of its own, and
        // the same as on a command line.
        let mut command = Command::new("/proc/self/exe");
        command.arg("exec").arg(format!("{lab}/{}", words.node)).arg("--").args(&self.command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // What it has started itself is ended with it.
        command.process_group(0).kill_on_drop(true);
        let failed = |error: std::io::Error| {
            CallError::usage(
                format!("could not start the command: {}", words_of(&error)),
                "see whether there are too many processes, or files open",
            )
        };
        let mut child = command.spawn().map_err(failed)?;
        let group = child.id().map(|id| Pid::from_raw(id as i32));
        let mut input = child.stdin.take().expect("it was asked for");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (mut out, mut err) = (Kept::default(), Kept::default());
        let feed = async move {
            // A command that does not read all is none the worse for it.
            let _ = input.write_all(self.input.unwrap_or_default().as_bytes()).await;
        };
        let all = async {
            let said = async { tokio::join!(out.keep(stdout), err.keep(stderr), feed) };
            tokio::pin!(said);
            tokio::select! {
                _ = &mut said => child.wait().await,
                ended = child.wait() => {
                    // What it has said is there; what it leaves behind may hold the pipe
                    // for as long as it likes.
                    let _ = tokio::time::timeout(LAST_WORDS, said).await;
                    ended
                }
            }
        };
        let late = async {
            match timeout {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let abandoned = desk.abandoned();
        let ended = tokio::select! {
            ended = all => Some(ended),
            () = late => None,
            // It is killed as if its time was over; nobody reads that.
            () = abandoned => None,
        };
        let timed_out = ended.is_none();
        let status = match ended {
            Some(status) => status,
            None => {
                // It may have ended by itself just now.
                let _ = group.map(|group| killpg(group, Signal::SIGKILL));
                child.wait().await
            }
        };
        let status = status.map_err(failed)?;
        Ok(Ran {
            status: status.code(),
            signal: status.signal(),
            cut: out.cut || err.cut,
            stdout: out.text(),
            stderr: err.text(),
            timed_out,
        })
    }
}

/// What was said, as far as it is kept.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    cut: bool,
}

impl Kept {
    /// Reads to the end, so that nobody waits for it to be read.
    async fn keep(&mut self, said: Option<impl AsyncRead + Unpin>) {
        let Some(mut said) = said else { return };
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = said.read(&mut buffer).await {
            let room = SAID_BYTES_MAX - self.bytes.len();
            self.cut |= room < read;
            self.bytes.extend_from_slice(&buffer[..read.min(room)]);
        }
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
