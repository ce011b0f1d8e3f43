//! systemd, where it has started the server: the socket that it gives, and what it is
//! told (`sd_notify(3)`, `sd_listen_fds(3)`). Elsewhere nothing of this does anything.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::http::Said;
use super::methods::INFO;

/// The socket that it has given, if it has.
pub(super) fn given() -> io::Result<Option<UnixListener>> {
    ListenFd::from_env().take_unix_listener(0)
}

/// Tells it that clients are served at `place` from now on.
pub(super) fn ready(place: &Path) -> io::Result<()> {
    let status = format!("serving at {}", place.display());
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)])
}

/// Tells it that no more clients are served, and that what is at work is finished.
pub(super) fn stopping() -> io::Result<()> {
    let status = "ending: what is at work is finished first";
    sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(status)])
}

/// Tells its watchdog that the server lives, as often as a client at `socket` is
/// answered; never, if there is no watchdog. `said` is called with what is wrong.
pub(super) async fn keep_alive(socket: PathBuf, said: Said) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let tell = || sd_notify::notify(&[NotifyState::Watchdog]);
    watch(patience / 3, || ask(&socket), tell, |words| said(words)).await;
}

async fn watch<A: Future<Output = io::Result<()>>>(
    every: Duration,
    ask: impl Fn() -> A,
    tell: impl Fn() -> io::Result<()>,
    said: impl Fn(&str),
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answered = timeout(every, ask()).await;
        let answered = answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match answered.map(|()| tell()) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => said(&format!("could not tell systemd that it lives: {error}")),
            Err(error) => said(&format!("it does not answer itself: {error}")),
        }
    }
}

/// Has the server answer, as any client would.
async fn ask(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    let message = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{INFO}\"}}\n");
    stream.write_all(message.as_bytes()).await?;
    let mut line = String::new();
    // That there are too many clients already is an answer, too.
    match BufReader::new(stream).read_line(&mut line).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn only_a_server_that_answers_is_alive() {
        let (asked, told) = (Cell::new(0), Cell::new(0));
        let ask = || {
            asked.set(asked.get() + 1);
            let number = asked.get();
            async move {
                match number {
                    // It fails, then answers, and then never does.
                    1 => Err(io::ErrorKind::ConnectionRefused.into()),
                    2 | 3 => Ok(()),
                    _ => std::future::pending().await,
                }
            }
        };
        let tell = || {
            told.set(told.get() + 1);
            Ok(())
        };
        let wrong = Cell::new(0);
        let watched = watch(Duration::from_secs(10), ask, tell, |_| wrong.set(wrong.get() + 1));
        let _ = timeout(Duration::from_secs(300), watched).await;
        assert_eq!(told.get(), 2);
        assert!(
            3 < asked.get() && wrong.get() == asked.get() - 3 || wrong.get() == asked.get() - 2
        );
    }
}
