//! Where a capture goes, written by a thread of its own: whoever reads a pipe may
//! stop reading, and a capture has to be ended all the same.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::super::{CallError, show};
use crate::api::Piece;

/// How many pieces wait for the thread.
const PIECES: usize = 4;

/// How often it is looked whether anybody reads.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The way to the thread that writes.
#[derive(Debug)]
pub(super) struct Sink {
    to: String,
    reader: OwnedFd,
    pieces: mpsc::Sender<Piece>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Sink {
    /// A file, new and empty. A pipe is there as soon as somebody opens it to
    /// read, which may be never.
    pub(super) async fn file(path: &Path) -> Result<Self, CallError> {
        let to = format!("`{}`", path.display());
        let (tell, opened) = oneshot::channel();
        let path = path.to_owned();
        // Nobody waits for this thread if the capture is ended before.
        let open = move || drop(tell.send(File::create(path)));
        thread::Builder::new().name("opener".into()).spawn(open).map_err(CallError::not_started)?;
        let opened = opened.await.unwrap_or_else(|_| Err(io::Error::other("it was not opened")));
        let file = opened.map_err(|source| CallError::Output { to: to.clone(), source })?;
        Self::start(to, file)
    }

    /// Standard output, past the buffer that Rust has there.
    pub(super) fn stdout() -> Result<Self, CallError> {
        let to = "to standard output".to_owned();
        let file = io::stdout().as_fd().try_clone_to_owned();
        let file = file.map_err(|source| CallError::Output { to: to.clone(), source })?;
        Self::start(to, File::from(file))
    }

    fn start(to: String, mut file: File) -> Result<Self, CallError> {
        let (pieces, mut queue) = mpsc::channel::<Piece>(PIECES);
        let (tell, ended) = oneshot::channel();
        let reader = file.try_clone().map_err(CallError::not_started)?.into();
        let write = move || {
            let mut written = Ok(());
            while let Some(piece) = queue.blocking_recv() {
                written = match piece {
                    Piece::Pcapng(bytes) => file.write_all(&bytes),
                    Piece::Lines(lines) => file.write_all(lines.as_bytes()),
                    Piece::Told(line) => {
                        show::talk(&line);
                        Ok(())
                    }
                    Piece::On(_) | Piece::Ended { .. } | Piece::Failed(_) => Ok(()),
                };
                if written.is_err() {
                    break;
                }
            }
            // Nobody waits if whoever read was too slow.
            let _ = tell.send(written);
        };
        thread::Builder::new()
            .name("writer".into())
            .spawn(write)
            .map_err(CallError::not_started)?;
        Ok(Self { to, reader, pieces, ended })
    }

    /// The way to where it goes.
    pub(super) fn pieces(&self) -> &mpsc::Sender<Piece> {
        &self.pieces
    }

    /// Awaits that whoever read has closed the other end: of that nobody is told as
    /// long as nothing is written.
    pub(super) async fn unread(&self) {
        while !show::is_unread(&self.reader) {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Writes the rest, and awaits that it is written. Says whether it was;
    /// whoever closed the pipe has read enough.
    pub(super) async fn end(self, rest: Vec<Piece>, within: Duration) -> Result<bool, CallError> {
        let Self { to, pieces, ended, reader: _ } = self;
        let finish = async move {
            for piece in rest {
                // What cannot be sent is told by the thread.
                let _ = pieces.send(piece).await;
            }
            drop(pieces);
            ended.await
        };
        match timeout(within, finish).await {
            Ok(Ok(Ok(()))) => Ok(true),
            Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Ok(Ok(Err(source))) => Err(CallError::Output { to, source }),
            Ok(Err(_)) => {
                let source = io::Error::other("the thread that writes is gone");
                Err(CallError::Output { to, source })
            }
            Err(_) => {
                let source = io::Error::other("whoever reads does not take the rest");
                Err(CallError::Output { to, source })
            }
        }
    }
}
