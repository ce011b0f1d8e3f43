//! Asking: by the same calls as any program, and with what they say meanwhile
//! on standard error.

use super::show::{self, Meter};
use serde::Serialize;

use super::CallError;
use crate::api::view::LabView;
use crate::api::{Call, Changed, Desk, LabStatus, News};

/// Has a call done. `what` is what a long one is called meanwhile.
pub(super) async fn ask<C: Call>(what: &str, call: C) -> Result<C::Answer, CallError> {
    let mut meter = Meter::new(what);
    let mut hear = |news| match news {
        News::Progress { done, all } => meter.set(done, all),
        News::Told(line) => meter.beside(|| show::talk(&line)),
    };
    call.run(&mut Desk::new(&mut hear)).await
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
