//! The keeper: the process that keeps the leases of a lab, for as long as there
//! are any.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::setsid;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::client::{self, Order, Standing, Started, Work};
use super::wire::{self, Ask, OfAnother, Tell, Whose};
use crate::kernel::error::KernelError;
use crate::kernel::inherited::close_inherited;
use crate::kernel::line::{self, Line};
use crate::kernel::permissions;
use crate::model::names::LabName;

/// How long who started it may take to say what for.
const ASKED_WITHIN: Duration = Duration::from_secs(10);
/// How long an interface may take to give its lease back.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// Becomes the keeper of a lab's leases; returns when there are none any more.
///
/// Only for a process that does nothing else and has no threads yet: its standard
/// input is a socket to the command that started it, all other files that it
/// inherited are closed, and it leaves its session.
pub fn run(lab: &LabName) -> Result<(), KernelError> {
    close_inherited();
    // A group leader cannot leave its session; nobody starts a keeper as one, and
    // it would be no worse than a command then.
    let _ = setsid();
    // An interface takes a handful.
    permissions::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let fail = |error: io::Error| KernelError::from_io("start a runtime", &error);
    runtime.map_err(fail)?.block_on(live(lab))
}

/// What is kept for one interface.
struct Kept {
    orders: UnboundedSender<Order>,
    standing: watch::Receiver<Standing>,
    /// Tells one from the next that is kept for the same interface.
    number: u64,
}

/// What connections share.
#[derive(Default)]
struct Shared {
    all: Mutex<All>,
    changed: Notify,
}

#[derive(Default)]
struct All {
    kept: BTreeMap<Whose, Kept>,
    number: u64,
    /// Questions that are not answered yet.
    asked: usize,
    /// Whether there was ever anything to keep.
    begun: bool,
}

impl Shared {
    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().expect("nothing panics with it")
    }

    fn is_done(&self) -> bool {
        let all = self.all();
        all.begun && all.kept.is_empty() && all.asked == 0
    }
}

async fn live(lab: &LabName) -> Result<(), KernelError> {
    let fail = |what: &'static str| move |error: io::Error| KernelError::from_io(what, &error);
    let catch = |kind| signal(kind).map_err(fail("catch a signal"));
    // Caught and not looked at: a keeper is deaf to the end of a terminal.
    let _deaf = (catch(SignalKind::hangup())?, catch(SignalKind::interrupt())?);
    let mut told_to_stop = catch(SignalKind::terminate())?;
    let listener = match wire::listen(lab) {
        // Another was faster, and will do.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            return say_ready().await.map_err(fail("answer who started it"));
        }
        other => other.map_err(fail("listen"))?,
    };
    say_ready().await.map_err(fail("answer who started it"))?;
    let shared = Arc::new(Shared::default());
    let mut idle = Box::pin(sleep(ASKED_WITHIN));
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                tokio::spawn(serve(stream, shared.clone()));
            },
            () = shared.changed.notified() => if shared.is_done() {
                return Ok(());
            },
            () = &mut idle, if !shared.all().begun => return Ok(()),
            _ = told_to_stop.recv() => return Ok(()),
        }
    }
}

/// Tells the command at the other end of standard input that somebody listens.
async fn say_ready() -> io::Result<()> {
    let starter = std::os::unix::net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Only a socket has another end.
    starter.peer_addr()?;
    starter.set_nonblocking(true)?;
    UnixStream::from_std(starter)?.write_all(b"r").await
}

async fn serve(stream: UnixStream, shared: Arc<Shared>) {
    let trusted = stream.peer_cred().is_ok_and(|peer| line::may_be_trusted(peer.uid()));
    if !trusted {
        return;
    }
    let mut line = Line::over(stream);
    while let Some(ask) = line.hear::<Ask>().await {
        shared.all().asked += 1;
        let answer = answer(ask, &shared).await;
        // Who asked may be gone.
        let said = line.say(&answer).await;
        shared.all().asked -= 1;
        shared.changed.notify_one();
        if said.is_err() {
            return;
        }
    }
}

async fn answer(ask: Ask, shared: &Arc<Shared>) -> Tell {
    match ask {
        Ask::List => {
            let all = shared.all();
            let kept = all.kept.iter();
            let lease = |kept: &Kept| kept.standing.borrow().lease.clone();
            Tell::Kept(kept.map(|(whose, kept)| (whose.clone(), lease(kept))).collect())
        }
        Ask::Hold { whose, netns, of_another } => {
            match hold(whose, netns, of_another, shared).await {
                Ok(()) => Tell::Holds,
                Err(errno) => Tell::Failed(errno as i32),
            }
        }
        Ask::Await { whose, within_ms } => {
            wait(&whose, Duration::from_millis(within_ms), shared).await
        }
        Ask::End { whose } => {
            let orders = shared.all().kept.get(&whose).map(|kept| kept.orders.clone());
            if let Some(orders) = orders {
                // One that has just ended hears nothing.
                let _ = orders.send(Order::End);
                let _ = timeout(ENDED_WITHIN, orders.closed()).await;
                shared.all().kept.remove(&whose);
            }
            let all = shared.all();
            Tell::Ended { last: all.kept.is_empty() && all.asked == 1 }
        }
    }
}

async fn hold(
    whose: Whose,
    netns: Option<String>,
    of_another: Option<OfAnother>,
    shared: &Arc<Shared>,
) -> Result<(), Errno> {
    if shared.all().kept.contains_key(&whose) {
        return Ok(());
    }
    let (orders, heard) = unbounded_channel();
    let (stands, standing) = watch::channel(Standing::default());
    let device = whose.device.clone();
    let work = Work { netns, device, of_another, orders: heard, standing: stands };
    let Started { begun, ended } = client::start(work).map_err(|_| Errno::EAGAIN)?;
    begun.await.map_err(|_| Errno::ECANCELED)?.map_err(|error| error.errno)?;
    let number = {
        let mut all = shared.all();
        all.begun = true;
        all.number += 1;
        let number = all.number;
        all.kept.insert(whose.clone(), Kept { orders, standing, number });
        number
    };
    tokio::spawn(forget(whose, number, ended, shared.clone()));
    Ok(())
}

/// Forgets what is kept for an interface when that has ended by itself.
async fn forget(whose: Whose, number: u64, ended: oneshot::Receiver<()>, shared: Arc<Shared>) {
    // There is nothing to be told but the end.
    let _ = ended.await;
    let mut all = shared.all();
    if all.kept.get(&whose).is_some_and(|kept| kept.number == number) {
        all.kept.remove(&whose);
    }
    drop(all);
    shared.changed.notify_one();
}

async fn wait(whose: &Whose, within: Duration, shared: &Arc<Shared>) -> Tell {
    let found = shared.all().kept.get(whose).map(|k| (k.orders.clone(), k.standing.clone()));
    let Some((orders, mut standing)) = found else { return Tell::Failed(Errno::ENODEV as i32) };
    let waiting = async {
        let (done, checked) = oneshot::channel();
        // One that has ended is known by its standing, which nobody changes then.
        let _ = orders.send(Order::Check(done));
        let _ = checked.await;
        standing.wait_for(|standing| standing.lease.address.is_some()).await.is_ok()
    };
    match timeout(within, waiting).await {
        Ok(true) => Tell::Bound,
        Ok(false) => Tell::Failed(Errno::ENODEV as i32),
        Err(_) => {
            let offered = shared.all().kept.get(whose).is_some_and(|k| k.standing.borrow().offered);
            Tell::Silent { offered }
        }
    }
}
