//! When to mend a lab that has drifted, and when to let it be.
//!
//! At once, the first time. What cannot be mended is tried again after ever longer
//! rests, and then no more until it is another thing that is wrong. So is what comes
//! back as soon as it is mended: somebody else wants it otherwise.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::names::LabName;

/// The rest after the first try that failed; each is twice as long as the one before.
const REST_MIN: Duration = Duration::from_millis(250);

/// How often the same is tried.
pub(super) const TRIES_MAX: u32 = 6;

/// What comes back within that time was not mended.
const BACK_WITHIN: Duration = Duration::from_secs(1);

/// The labs in which something was not as it is to be.
#[derive(Debug, Default)]
pub(super) struct Keeping(BTreeMap<LabName, Trying>);

#[derive(Debug)]
struct Trying {
    drift: Vec<String>,
    /// How often it was tried in vain.
    failed: u32,
    next: Instant,
    mended: Option<Instant>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    /// Mend it.
    Mend,
    /// Wait for the next try.
    Rest,
    /// It was tried often enough. `first` the first time that this is said.
    Enough {
        /// Whether this is news.
        first: bool,
    },
}

impl Keeping {
    /// What to do about a lab whose drift is this. None is a lab that is as it is to be.
    pub(super) fn about(&mut self, lab: &LabName, drift: &[String], now: Instant) -> Now {
        let trying = self.0.entry(lab.clone()).or_insert_with(|| Trying {
            drift: drift.to_vec(),
            failed: 0,
            next: now,
            mended: None,
        });
        if let Some(mended) = trying.mended.take() {
            let is_back = now < mended + BACK_WITHIN && trying.drift == drift;
            trying.fail(if is_back { trying.failed } else { 0 }, now);
            if !is_back {
                trying.next = now;
            }
        }
        if trying.drift != drift {
            (trying.drift, trying.failed, trying.next) = (drift.to_vec(), 0, now);
        }
        match trying.failed {
            TRIES_MAX => {
                trying.failed += 1;
                Now::Enough { first: true }
            }
            tried if TRIES_MAX < tried => Now::Enough { first: false },
            _ if now < trying.next => Now::Rest,
            _ => Now::Mend,
        }
    }

    /// It could not be mended.
    pub(super) fn failed(&mut self, lab: &LabName, now: Instant) {
        if let Some(trying) = self.0.get_mut(lab) {
            trying.fail(trying.failed, now);
        }
    }

    /// It was mended, as far as can be told.
    pub(super) fn mended(&mut self, lab: &LabName, now: Instant) {
        if let Some(trying) = self.0.get_mut(lab) {
            trying.mended = Some(now);
        }
    }

    /// Labs that are as they are to be, or gone, need nothing any more, except those
    /// that were mended just now.
    pub(super) fn retain(&mut self, is_wrong: impl Fn(&LabName) -> bool, now: Instant) {
        self.0.retain(|lab, trying| {
            is_wrong(lab) || trying.mended.is_some_and(|mended| now < mended + BACK_WITHIN)
        });
    }

    /// When to try again, if that is to be.
    pub(super) fn next(&self) -> Option<Instant> {
        let waits = |it: &&Trying| it.failed < TRIES_MAX && it.mended.is_none();
        self.0.values().filter(waits).map(|it| it.next).min()
    }
}

impl Trying {
    fn fail(&mut self, before: u32, now: Instant) {
        self.failed = before + 1;
        self.next = now + REST_MIN * 2_u32.saturating_pow(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab() -> LabName {
        LabName::new("l").expect("a name")
    }

    fn lines(all: &[&str]) -> Vec<String> {
        all.iter().map(|it| (*it).to_owned()).collect()
    }

    /// How often it is tried, and how long that takes, if `come` says what comes of it.
    fn tries(mut come: impl FnMut(&mut Keeping, Instant)) -> (u32, Duration) {
        let (mut keeping, mut tries, began) = (Keeping::default(), 0, Instant::now());
        let mut now = began;
        loop {
            match keeping.about(&lab(), &lines(&["+ link"]), now) {
                Now::Mend => {
                    tries += 1;
                    come(&mut keeping, now);
                }
                Now::Rest => now = keeping.next().expect("it is to be tried again"),
                Now::Enough { first } => {
                    assert!(first);
                    let again = keeping.about(&lab(), &lines(&["+ link"]), now);
                    assert_eq!((again, keeping.next()), (Now::Enough { first: false }, None));
                    return (tries, now - began);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_mended_is_given_up() {
        let (tries, took) = tries(|keeping, now| keeping.failed(&lab(), now));
        assert_eq!(tries, TRIES_MAX);
        // 0.25 s, 0.5 s, ... 4 s between them.
        assert_eq!(took, REST_MIN * 31);
    }

    #[test]
    fn what_others_undo_is_given_up() {
        let (tries, _) = tries(|keeping, now| keeping.mended(&lab(), now));
        assert_eq!(tries, TRIES_MAX);
    }

    #[test]
    fn another_fault_is_mended_at_once() {
        let (mut keeping, now) = (Keeping::default(), Instant::now());
        for _ in 0..3 {
            keeping.about(&lab(), &lines(&["+ link"]), now);
            keeping.failed(&lab(), now);
        }
        assert_eq!(keeping.about(&lab(), &lines(&["+ link"]), now), Now::Rest);
        assert_eq!(keeping.about(&lab(), &lines(&["+ node"]), now), Now::Mend);
    }

    #[test]
    fn the_same_fault_later_is_a_new_one() {
        let (mut keeping, mut now) = (Keeping::default(), Instant::now());
        for _ in 0..50 {
            assert_eq!(keeping.about(&lab(), &lines(&["+ link"]), now), Now::Mend);
            keeping.mended(&lab(), now);
            keeping.retain(|_| false, now);
            now += BACK_WITHIN;
        }
    }

    #[test]
    fn a_lab_that_is_well_is_forgotten() {
        let (mut keeping, now) = (Keeping::default(), Instant::now());
        keeping.about(&lab(), &lines(&["+ link"]), now);
        keeping.failed(&lab(), now);
        keeping.retain(|_| false, now);
        assert_eq!(keeping.next(), None);
    }
}
