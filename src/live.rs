//! A value that is replaced while others read it.

use std::{
    mem,
    sync::{Arc, PoisonError, RwLock},
};

/// A current value that readers share, such as the configuration. A reader takes a handle, which
/// keeps the old value after a replacement: read it once for each piece of work, so that the work
/// sees one configuration.
#[derive(Debug)]
pub struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    /// Creates it with an initial value.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        self.replace(Arc::new(value));
    }

    /// Replaces the value by the current one of `other`.
    pub fn share(&self, other: &Self) {
        self.replace(other.get());
    }

    fn replace(&self, value: Arc<T>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // The old value is dropped outside of the lock.
        let old = mem::replace(&mut *current, value);
        drop(current);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_keeps_its_value() {
        let live = Live::new(1);
        let before = live.get();
        live.set(2);
        assert_eq!((*before, *live.get()), (1, 2));
    }

    #[test]
    fn a_value_can_be_shared_with_another() {
        let (live, other) = (Live::new(1), Live::new(2));
        live.share(&other);
        assert!(Arc::ptr_eq(&live.get(), &other.get()));
        other.set(3);
        assert_eq!(*live.get(), 2);
    }
}
