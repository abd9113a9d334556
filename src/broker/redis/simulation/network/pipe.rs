//! One direction of a wire.

use std::collections::VecDeque;
use tokio::time::Instant;

/// The parts in transit, in order, each with its arrival time.
#[derive(Debug)]
pub(super) struct Pipe<T> {
    parts: VecDeque<Chunk<T>>,
    bytes: usize,
    /// The arrival time of the last part.
    last: Instant,
}

#[derive(Debug)]
struct Chunk<T> {
    due: Instant,
    len: usize,
    what: T,
}

impl<T> Pipe<T> {
    pub(super) fn new() -> Self {
        Self { parts: VecDeque::new(), bytes: 0, last: Instant::now() }
    }

    /// Adds a part that arrives at `due`, but not before the previous part.
    pub(super) fn push(&mut self, due: Instant, len: usize, what: T) {
        self.last = self.last.max(due);
        self.bytes += len;
        self.parts.push_back(Chunk { due: self.last, len, what });
    }

    /// The arrival time of the last part.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// The arrival time of the first part.
    pub(super) fn next(&self) -> Option<Instant> {
        self.parts.front().map(|part| part.due)
    }

    /// Removes and returns the first part if it has arrived.
    pub(super) fn take(&mut self, now: Instant) -> Option<T> {
        let part = self.parts.pop_front_if(|part| part.due <= now)?;
        self.bytes -= part.len;
        Some(part.what)
    }

    /// The number of bytes in transit.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.parts.clear();
        self.bytes = 0;
    }

    /// Delays everything in transit until a time.
    pub(super) fn delay(&mut self, until: Instant) {
        for part in &mut self.parts {
            part.due = part.due.max(until);
        }
        self.last = self.last.max(until);
    }
}
