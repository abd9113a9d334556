//! Names that no app of the database has.

use super::AppRef;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// How long a name counts as unknown without another query. A new app is served after this time at the
/// latest.
const TTL: Duration = Duration::from_secs(5);
/// Maximum number of names. Beyond it, all are forgotten.
const NAMES_MAX: usize = 10_000;

/// Names that were looked up lately without success.
#[derive(Debug, Default)]
pub(super) struct UnknownApps(Mutex<HashMap<AppRef, Instant>>);

impl UnknownApps {
    pub(super) fn contains(&self, name: &AppRef, now: Instant) -> bool {
        self.0.lock().get(name).is_some_and(|ends| now < *ends)
    }

    pub(super) fn insert(&self, name: AppRef, now: Instant) {
        let mut names = self.0.lock();
        if NAMES_MAX <= names.len() {
            names.clear();
        }
        names.insert(name, now + TTL);
    }

    /// Forgets all names: each is looked up again.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app_database::AppColumn;

    fn name(value: &str) -> AppRef {
        AppRef { column: AppColumn::Key, value: value.to_owned() }
    }

    #[test]
    fn a_name_is_unknown_for_five_seconds() {
        let (unknown, start) = (UnknownApps::default(), Instant::now());
        unknown.insert(name("a"), start);
        let contains = |value, after_ms| {
            unknown.contains(&name(value), start + Duration::from_millis(after_ms))
        };
        assert!(contains("a", 0) && contains("a", 4_999) && !contains("a", 5_000));
        assert!(!contains("b", 0));
        let id = AppRef { column: AppColumn::Id, ..name("a") };
        assert!(!unknown.contains(&id, start), "an id is not a key");
        unknown.clear();
        assert!(!contains("a", 0));
    }

    #[test]
    fn ten_thousand_names_are_kept_at_most() {
        let (unknown, start) = (UnknownApps::default(), Instant::now());
        for number in 0..NAMES_MAX {
            unknown.insert(name(&number.to_string()), start);
        }
        assert!(unknown.contains(&name("0"), start));
        unknown.insert(name("one more"), start);
        assert_eq!(unknown.0.lock().len(), 1);
        assert!(unknown.contains(&name("one more"), start));
    }
}
