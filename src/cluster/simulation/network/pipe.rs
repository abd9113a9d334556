//! One direction of a wire.

use std::collections::VecDeque;
use tokio::time::Instant;

/// What travels, in order, with the time at which each part arrives.
#[derive(Debug)]
pub(super) struct Pipe<T> {
    parts: VecDeque<Part<T>>,
    bytes: usize,
    /// When the last part arrives.
    last: Instant,
}

#[derive(Debug)]
struct Part<T> {
    due: Instant,
    len: usize,
    what: T,
}

impl<T> Pipe<T> {
    pub(super) fn new() -> Self {
        Self { parts: VecDeque::new(), bytes: 0, last: Instant::now() }
    }

    /// Adds a part that arrives at `due`, but after what is before it.
    pub(super) fn push(&mut self, due: Instant, len: usize, what: T) {
        self.last = self.last.max(due);
        self.bytes += len;
        self.parts.push_back(Part { due: self.last, len, what });
    }

    /// When the last part arrives.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// When the first part arrives.
    pub(super) fn next(&self) -> Option<Instant> {
        self.parts.front().map(|part| part.due)
    }

    /// Takes the first part if it has arrived.
    pub(super) fn take(&mut self, now: Instant) -> Option<T> {
        let part = self.parts.pop_front_if(|part| part.due <= now)?;
        self.bytes -= part.len;
        Some(part.what)
    }

    /// Bytes on their way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.parts.clear();
        self.bytes = 0;
    }

    /// Puts off everything that is on its way.
    pub(super) fn delay(&mut self, until: Instant) {
        for part in &mut self.parts {
            part.due = part.due.max(until);
        }
        self.last = self.last.max(until);
    }
}
