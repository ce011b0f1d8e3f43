//! The one thread that enters namespaces.
//!
//! A socket belongs for life to the namespace it was made in. So this thread
//! enters a namespace, makes a socket there, hands it out and comes home,
//! and the socket works from any thread. A thread of tokio's never calls
//! `setns(2)`: other work would wake up in the wrong namespace.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::runtime;
use tokio::sync::oneshot;

use super::error::KernelError;
use super::netlink::Netlink;
use super::netns;

type Job = Box<dyn FnOnce(&File) + Send>;

/// The thread, by its queue of jobs. It ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
}

/// Where a job runs.
#[derive(Debug)]
pub enum Where {
    /// In the namespace of the process.
    Home,
    /// In the namespace behind this file.
    In(File),
    /// In a namespace of its own, new with the job.
    Fresh,
}

impl Worker {
    /// Starts the thread. Needs the context of a tokio runtime, with which
    /// the sockets made inside are registered.
    pub fn start() -> Result<Self, KernelError> {
        let fail = |error: io::Error| KernelError::from_io("start a thread", &error);
        let tokio = runtime::Handle::current();
        let (jobs, queue) = mpsc::channel::<Job>();
        let home = File::open("/proc/thread-self/ns/net")
            .map_err(|e| KernelError::from_io("open `/proc/thread-self/ns/net`", &e))?;
        let run = move || {
            let _context = tokio.enter();
            for job in queue {
                job(&home);
            }
        };
        thread::Builder::new().name("namespaces".into()).spawn(run).map_err(fail)?;
        Ok(Self { jobs })
    }

    /// Runs `work` in a namespace and returns what it returns.
    ///
    /// Like `ip netns exec`, for a piece of code.
    pub async fn inside<T: Send + 'static>(
        &self,
        place: Where,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, KernelError> {
        let (reply, answer) = oneshot::channel();
        let job = move |home: &File| {
            let entered = match &place {
                Where::Home => Ok(()),
                Where::In(netns) => setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)
                    .map_err(|e| KernelError::new("enter a namespace", e)),
                Where::Fresh => unshare(CloneFlags::CLONE_NEWNET)
                    .map_err(|e| KernelError::of_namespace("make a namespace", e)),
            };
            let done = entered.map(|()| work());
            if !matches!(place, Where::Home) {
                // A thread that cannot come home must not do another job.
                setns(home.as_fd(), CloneFlags::CLONE_NEWNET).expect("home is still there");
            }
            // Nobody waits any more if the command was cancelled.
            let _ = reply.send(done);
        };
        let gone = |_| KernelError::new("reach the namespace thread", nix::errno::Errno::ESRCH);
        self.jobs.send(Box::new(job)).map_err(|e| gone(e.to_string()))?;
        answer.await.map_err(|e| gone(e.to_string()))?
    }

    /// Runs `visit` in each of the named namespaces, in one go: a turn of its
    /// own for each would cost more than most visits. `None` is the result for
    /// a name that leads to no namespace, or nowhere any more.
    ///
    /// Like `ip -all netns exec`, for a piece of code.
    pub async fn tour<T: Send + 'static>(
        &self,
        names: Vec<String>,
        visit: impl Fn(&str) -> Result<T, KernelError> + Send + 'static,
    ) -> Result<Vec<(String, Option<T>)>, KernelError> {
        let (reply, answer) = oneshot::channel();
        let job = move |home: &File| {
            let visit_one = |name: String| {
                let entered = netns::enter(&name)?;
                let seen = if entered { Some(visit(&name)?) } else { None };
                Ok((name, seen))
            };
            let visited: Result<Vec<_>, KernelError> = names.into_iter().map(visit_one).collect();
            setns(home.as_fd(), CloneFlags::CLONE_NEWNET).expect("home is still there");
            let _ = reply.send(visited);
        };
        let gone = |_| KernelError::new("reach the namespace thread", nix::errno::Errno::ESRCH);
        self.jobs.send(Box::new(job)).map_err(|e| gone(e.to_string()))?;
        answer.await.map_err(|e| gone(e.to_string()))?
    }

    /// A route netlink socket made in a namespace, to be used from here.
    pub async fn netlink(&self, place: Where) -> Result<Netlink, KernelError> {
        self.inside(place, Netlink::new).await?
    }
}
