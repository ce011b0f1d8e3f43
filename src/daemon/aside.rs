//! Work aside: the hands wait for the kernel without letting others run, so what is
//! done with them has a thread of its own.

use std::future::Future;

use tokio::sync::oneshot;

use crate::api::{CallError, Failure};

/// Where a piece of work has to answer.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// Begins a piece of work, and awaits its answer, which it may give long before it ends.
/// It goes on if nobody waits for that any more.
///
/// # Errors
/// What it answers; it could not be begun; it ended without an answer, by a fault of
/// ovsns.
pub(super) async fn begin<T, F>(
    name: &str,
    work: impl FnOnce(Answer<T>) -> F + Send + 'static,
) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = ()>,
{
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(work(answer)),
            // Whoever asked may be gone.
            Err(source) => drop(answer.send(Err(CallError::not_started(source).told()))),
        }
    });
    if let Err(source) = started {
        return Err(CallError::not_started(source).told());
    }
    answered.await.unwrap_or_else(|_| {
        let message = format!("`{name}` ended without an answer, which is a fault of ovsns");
        let hint = "what it was at is in the log of the server";
        Err(Failure::new(message, Some(hint), 3))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_answers_or_that_is_told() {
        let answer = begin("work", async |answer| drop(answer.send(Ok(7)))).await;
        assert_eq!(answer.ok(), Some(7));
        let none = begin("work", async |answer: Answer<()>| drop(answer)).await;
        let failure = none.expect_err("there is no answer");
        assert!(failure.message.contains("`work` ended without an answer"), "{failure:?}");
    }
}
