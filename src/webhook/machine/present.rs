//! The subjects that were reported as present.

use super::Subject;
use std::collections::HashSet;

/// The subjects of one app that were reported as present and not yet as absent.
#[derive(Debug, Default)]
pub(super) struct PresentSubjects {
    here: HashSet<Subject>,
    lost: usize,
}

impl PresentSubjects {
    /// Maximum number of subjects of an app. Neither arrival nor departure of a further one is
    /// reported.
    pub(super) const SUBJECTS_MAX: usize = 1_000_000;
    /// Minimum capacity of a table that is worth shrinking.
    pub(super) const SHRINK_FROM: usize = 4_096;

    /// Adds a subject. Returns whether it was absent and has room; without room it is lost.
    pub(super) fn add(&mut self, subject: Subject) -> bool {
        if self.here.contains(&subject) {
            return false;
        }
        let has_room = self.here.len() < Self::SUBJECTS_MAX;
        if has_room {
            self.here.insert(subject);
        } else {
            self.lost += 1;
        }
        has_room
    }

    pub(super) fn has(&self, subject: &Subject) -> bool {
        self.here.contains(subject)
    }

    /// Removes a subject. Returns whether it was present.
    pub(super) fn remove(&mut self, subject: &Subject) -> bool {
        let was_here = self.here.remove(subject);
        let capacity = self.here.capacity();
        if Self::SHRINK_FROM < capacity && self.here.len() < capacity / 8 {
            self.here.shrink_to(self.here.len() * 2);
        }
        was_here
    }

    /// The number of lost subjects since the last call.
    pub(super) fn take_lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.here.capacity()
    }
}
