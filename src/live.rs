//! A value that is replaced while others read it.

use std::{
    mem,
    sync::{Arc, PoisonError, RwLock},
};

/// What is configured, as it is now. Whoever reads takes a handle, which stays as it was when it
/// is replaced meanwhile: one look for each piece of work, so that the work sees one configuration.
#[derive(Debug)]
pub struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    /// Begins with `value`.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// What it is now.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces it.
    pub fn set(&self, value: T) {
        self.replace(Arc::new(value));
    }

    /// Replaces it with what `other` is now.
    pub fn share(&self, other: &Self) {
        self.replace(other.get());
    }

    fn replace(&self, value: Arc<T>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // The old one is dropped outside of the lock.
        let old = mem::replace(&mut *current, value);
        drop(current);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_looked_keeps_what_it_saw() {
        let live = Live::new(1);
        let before = live.get();
        live.set(2);
        assert_eq!((*before, *live.get()), (1, 2));
    }

    #[test]
    fn a_value_may_be_what_another_one_is_now() {
        let (live, other) = (Live::new(1), Live::new(2));
        live.share(&other);
        assert!(Arc::ptr_eq(&live.get(), &other.get()));
        other.set(3);
        assert_eq!(*live.get(), 2);
    }
}
