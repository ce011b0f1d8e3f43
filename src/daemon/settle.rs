//! What was cut off in the middle of a change, such as by the end of a server before,
//! is finished or taken back when a server starts.

use crate::api::{Call, CallError, Desk, LabDown, LabUp, Made, News};
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
    let named = Some(lab.to_string());
    match goes {
        true => at_desk(lab, LabDown { lab: named, ..LabDown::default() }, said).await.map(drop),
        false => up_again(lab, said).await.map(drop),
    }
}

/// Makes a lab what it is to be.
pub(super) async fn up_again(
    lab: &LabName,
    said: &(impl Fn(&str) + Sync + ?Sized),
) -> Result<Made, CallError> {
    let call = LabUp { again: true, lab: Some(lab.to_string()), ..LabUp::default() };
    at_desk(lab, call, said).await
}

/// Has a call done, what it says meanwhile said of its lab.
async fn at_desk<C: Call>(
    lab: &LabName,
    call: C,
    said: &(impl Fn(&str) + Sync + ?Sized),
) -> Result<C::Answer, CallError> {
    let mut hear = |news| {
        if let News::Told(line) = news {
            said(&format!("lab {lab}: {line}"));
        }
    };
    call.run(&mut Desk::new(&mut hear)).await
}
