//! Places under a limit, counted by ownership.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A limit on how many of something may exist, and how many do.
#[derive(Debug)]
pub struct Quota {
    used: AtomicUsize,
    max: AtomicUsize,
}

/// One place under a [`Quota`]; dropping it gives the place back, whatever the way out.
#[derive(Debug)]
pub struct Permit(Arc<Quota>);

impl Quota {
    /// A limit of `max` places; 0 means that there is none.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max: AtomicUsize::new(bound(max)) })
    }

    /// Takes a place, or nothing when all are taken. Asking and taking are one step.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        let max = self.max.load(Ordering::Relaxed);
        let taken = |used| (used < max).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// Sets another limit. Places beyond it stay taken until they are given back.
    pub fn set_max(&self, max: usize) {
        self.max.store(bound(max), Ordering::Relaxed);
    }

    /// How many places are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

/// The limit that `max` stands for.
fn bound(max: usize) -> usize {
    if max == 0 { usize::MAX } else { max }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_frees_its_place() {
        let quota = Quota::new(2);
        let first = quota.take().unwrap();
        let _second = quota.take().unwrap();
        assert!(quota.take().is_none());
        drop(first);
        assert_eq!(quota.used(), 1);
        assert!(quota.take().is_some());
    }

    #[test]
    fn a_lower_limit_takes_no_place_away_and_gives_none_until_it_is_met() {
        let quota = Quota::new(3);
        let mut permits: Vec<_> = (0..3).map(|_| quota.take().unwrap()).collect();
        quota.set_max(2);
        permits.pop();
        assert!(quota.take().is_none());
        permits.pop();
        assert!(quota.take().is_some());
        quota.set_max(0);
        assert!(quota.take().is_some());
    }

    #[test]
    fn zero_is_no_limit() {
        let quota = Quota::new(0);
        let permits: Vec<_> = (0..1_000).map(|_| quota.take().unwrap()).collect();
        assert_eq!(quota.used(), permits.len());
    }
}
