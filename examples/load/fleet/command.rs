//! What a worker is told, and what it answers; the same words for a thread and for a process.

use crate::{fleet::tally::Counts, histogram::Packed, wire::Plan};
use serde::{Deserialize, Serialize};

/// Connections from one id up to, and without, another.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Range {
    /// The first.
    pub(crate) from: u32,
    /// The one after the last.
    pub(crate) to: u32,
}

impl Range {
    /// Every connection.
    pub(crate) const ALL: Self = Self { from: 0, to: u32::MAX };

    /// Whether `id` is one of them.
    pub(crate) fn holds(self, id: u32) -> bool {
        self.from <= id && id < self.to
    }

    /// How many they are.
    pub(crate) fn len(self) -> u32 {
        self.to.saturating_sub(self.from)
    }
}

/// An order to a worker. Each is answered once.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Command {
    /// Opens connections and subscribes them; answered when all are, or failed.
    Open(Open),
    /// Forgets all counts.
    Reset,
    /// Forgets latencies, so that a warm-up does not count.
    Mark,
    /// Tells all counts; the verdict is that on a range of connections.
    Read(Range),
    /// Closes connections.
    Close(Range),
    /// Ends subscriptions, without closing.
    Unsubscribe(Range),
    /// Stops reading.
    Pause(Range),
    /// Reads again.
    Resume(Range),
    /// Keeps doing something with connections in turn.
    Repeat(Repeat),
    /// Ends what [`Command::Repeat`] began.
    Rest,
}

/// Connections to open.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Open {
    /// Their ids.
    pub(crate) range: Range,
    /// What they subscribe to.
    pub(crate) plan: Plan,
    /// How many may be under way at a time.
    pub(crate) in_flight: u32,
    /// When to give up.
    pub(crate) timeout_s: u64,
}

/// Something that is done with one connection after the other.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Repeat {
    /// What.
    pub(crate) action: Action,
    /// With which.
    pub(crate) range: Range,
    /// How often per second.
    pub(crate) per_second: f64,
    /// Bytes of a client event's data.
    pub(crate) payload_bytes: usize,
}

/// See [`Repeat`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Action {
    /// Unsubscribe and subscribe the one time, disconnect and connect the other.
    Churn,
    /// Send a client event.
    Whisper,
}

/// What a worker answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Reply {
    /// All connections of an order are open, or have failed.
    Opened(Opened),
    /// What was counted.
    Counts(Box<Counts>),
    /// It is done.
    Done,
}

/// How opening went.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Opened {
    /// Connections that are subscribed.
    pub(crate) ready: u32,
    /// Connections that failed or were not ready in time.
    pub(crate) failed: u32,
    /// From first to last.
    pub(crate) elapsed_us: u64,
    /// Of each connection, from connecting to being subscribed.
    pub(crate) latency: Packed,
    /// Why the first one failed.
    pub(crate) fault: Option<String>,
}

/// What a worker in a process of its own writes, a line each.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Line {
    /// Deliveries since the line before.
    Delivered(u64),
    /// The answer to an order.
    Reply(Reply),
}
