//! Permits under a limit, released when they are dropped.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A limit, and the number of permits in use. A limit of 0 means no limit.
#[derive(Debug)]
pub struct Quota {
    used: AtomicUsize,
    max: AtomicUsize,
}

/// A permit of a [`Quota`]; dropping it releases it.
#[derive(Debug)]
pub struct Permit(Arc<Quota>);

impl Quota {
    /// A limit of `max` permits.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max: AtomicUsize::new(effective_limit(max)) })
    }

    /// Takes a permit atomically; `None` at the limit.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let max = self.max.load(Ordering::Relaxed);
        let taken = |used| (used < max).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// Changes the limit. Permits beyond it stay taken until they are released.
    pub fn set_max(&self, max: usize) {
        self.max.store(effective_limit(max), Ordering::Relaxed);
    }

    /// The limit; the largest number means none.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// The number of permits taken.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

/// `max`, or no limit for 0.
fn effective_limit(max: usize) -> usize {
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
    fn a_dropped_permit_is_released() {
        let quota = Quota::new(2);
        let first = quota.try_acquire().unwrap();
        let _second = quota.try_acquire().unwrap();
        assert!(quota.try_acquire().is_none());
        drop(first);
        assert_eq!(quota.in_use(), 1);
        assert!(quota.try_acquire().is_some());
    }

    #[test]
    fn a_lower_limit_revokes_no_permit_and_grants_none_until_it_is_met() {
        let quota = Quota::new(3);
        let mut permits: Vec<_> = (0..3).map(|_| quota.try_acquire().unwrap()).collect();
        quota.set_max(2);
        permits.pop();
        assert!(quota.try_acquire().is_none());
        permits.pop();
        assert!(quota.try_acquire().is_some());
        quota.set_max(0);
        assert!(quota.try_acquire().is_some());
    }

    #[test]
    fn zero_is_no_limit() {
        let quota = Quota::new(0);
        let permits: Vec<_> = (0..1_000).map(|_| quota.try_acquire().unwrap()).collect();
        assert_eq!(quota.in_use(), permits.len());
    }
}
