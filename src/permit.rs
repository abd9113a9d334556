//! Places under a limit, counted by ownership.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A limit on how many of something may exist, and how many do.
#[derive(Debug)]
pub struct Quota {
    used: AtomicUsize,
    max: usize,
}

/// One place under a [`Quota`]; dropping it gives the place back, whatever the way out.
#[derive(Debug)]
pub struct Permit(Arc<Quota>);

impl Quota {
    /// A limit of `max` places; 0 means that there is none.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        let max = if max == 0 { usize::MAX } else { max };
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    /// Takes a place, or nothing when all are taken. Asking and taking are one step.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Permit> {
        let taken = |used| (used < self.max).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// How many places are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
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
    fn zero_is_no_limit() {
        let quota = Quota::new(0);
        let permits: Vec<_> = (0..1_000).map(|_| quota.take().unwrap()).collect();
        assert_eq!(quota.used(), permits.len());
    }
}
