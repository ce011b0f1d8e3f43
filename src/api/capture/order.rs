//! Packets of several devices, in the order of their times: each device tells its
//! own in order, but one may be heard later than another.

use std::collections::BTreeMap;

/// What waits for its turn.
#[derive(Debug)]
pub(super) struct InOrder<T> {
    /// By time, and by when it was heard.
    waiting: BTreeMap<(u64, u64), T>,
    heard: u64,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), heard: 0 }
    }
}

impl<T> InOrder<T> {
    /// Adds what is of a time.
    pub(super) fn push(&mut self, time: u64, what: T) {
        self.waiting.insert((time, self.heard), what);
        self.heard += 1;
    }

    /// The oldest, if it is as old as that.
    pub(super) fn pop(&mut self, until: u64) -> Option<T> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= until).then(|| first.remove())
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_comes_first_when_it_is_old_enough() {
        let mut order = InOrder::default();
        for (time, what) in [(5, "a5"), (7, "a7"), (6, "b6"), (7, "b7")] {
            order.push(time, what);
        }
        assert_eq!(order.pop(4), None);
        let until = |order: &mut InOrder<_>, time| {
            std::iter::from_fn(|| order.pop(time)).collect::<Vec<_>>()
        };
        assert_eq!(until(&mut order, 6), ["a5", "b6"]);
        order.push(6, "late");
        assert_eq!(until(&mut order, 7), ["late", "a7", "b7"]);
        assert!(order.is_empty());
    }
}
