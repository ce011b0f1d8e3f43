//! What was cut off in the middle of a change, such as by the end of a server before,
//! is finished or taken back when a server starts.

use crate::api::{Call, CallError, Desk, LabDown, LabUp, News};
use crate::engine::state::State;
use crate::model::names::LabName;

/// Brings every lab that was cut off to an end: one that was to go goes, and so does
/// one that was never whole; any other becomes what it is to be.
pub(super) async fn settle(said: &(impl Fn(&str) + Sync)) {
    let state = State::from_environment();
    for lab in state.labs().unwrap_or_default() {
        let Ok(there) = state.read(&lab) else { continue };
        let Some(command) = there.cut_off else { continue };
        let goes = there.leaving || there.lab.is_none();
        let how = if goes { "removed" } else { "made whole" };
        match end(&lab, goes, said).await {
            Ok(()) => said(&format!("`{command}` was cut off: lab {lab} is {how}")),
            Err(error) => {
                let why = error.told().in_a_line();
                said(&format!("`{command}` was cut off, and lab {lab} cannot be {how}: {why}"));
            }
        }
    }
}

async fn end(lab: &LabName, goes: bool, said: &(impl Fn(&str) + Sync)) -> Result<(), CallError> {
    let mut hear = |news| {
        if let News::Told(line) = news {
            said(&format!("lab {lab}: {line}"));
        }
    };
    let (mut desk, lab) = (Desk::new(&mut hear), Some(lab.to_string()));
    if goes {
        LabDown { lab, all: false }.run(&mut desk).await.map(drop)
    } else {
        LabUp { again: true, lab, ..LabUp::default() }.run(&mut desk).await.map(drop)
    }
}
