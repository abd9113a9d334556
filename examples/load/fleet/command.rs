//! The commands and replies of a worker; they are the same for a thread and for a process.

use crate::{fleet::tally::Counts, histogram::Packed, wire::Plan};
use serde::{Deserialize, Serialize};

/// A range of connection ids.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Range {
    /// The first id.
    pub(crate) from: u32,
    /// The id after the last one.
    pub(crate) to: u32,
}

impl Range {
    /// All connections.
    pub(crate) const ALL: Self = Self { from: 0, to: u32::MAX };

    /// Whether the range contains `id`.
    pub(crate) fn holds(self, id: u32) -> bool {
        self.from <= id && id < self.to
    }

    /// The number of ids.
    pub(crate) fn len(self) -> u32 {
        self.to.saturating_sub(self.from)
    }
}

/// A command to a worker. Each is answered once.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Command {
    /// Opens connections and subscribes them; answered when all are subscribed or have failed.
    Open(Open),
    /// Resets all counts.
    Reset,
    /// Resets the latencies, so that a warm-up does not count.
    Mark,
    /// Returns all counts, and the verdict on a range of connections.
    Read(Range),
    /// Closes connections.
    Close(Range),
    /// Unsubscribes connections without closing them.
    Unsubscribe(Range),
    /// Stops reading from connections.
    Pause(Range),
    /// Resumes reading from connections.
    Resume(Range),
    /// Repeats an action with one connection after the other.
    Repeat(Repeat),
    /// Ends the actions of [`Command::Repeat`].
    Rest,
}

/// A request to open connections.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Open {
    /// The ids of the connections.
    pub(crate) range: Range,
    /// The channels to subscribe to.
    pub(crate) plan: Plan,
    /// The maximum number of connections in progress.
    pub(crate) in_flight: u32,
    /// The timeout of the whole command, in seconds.
    pub(crate) timeout_s: u64,
}

/// An action that is repeated with one connection after the other.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Repeat {
    /// The kind of the action.
    pub(crate) action: Action,
    /// The ids of the connections.
    pub(crate) range: Range,
    /// The number of actions per second.
    pub(crate) per_second: f64,
    /// The size of a client event's data, in bytes.
    pub(crate) payload_bytes: usize,
}

/// The kind of a repeated action.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Action {
    /// Alternates between unsubscribing and subscribing, and disconnecting and connecting.
    Churn,
    /// Sends a client event.
    Whisper,
}

/// A reply of a worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Reply {
    /// All connections of a command are open, or have failed.
    Opened(Opened),
    /// The counts.
    Counts(Box<Counts>),
    /// The command was executed.
    Done,
}

/// The result of opening connections.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Opened {
    /// The number of subscribed connections.
    pub(crate) ready: u32,
    /// The number of connections that failed or were not ready in time.
    pub(crate) failed: u32,
    /// The time from the first to the last connection, in µs.
    pub(crate) elapsed_us: u64,
    /// The time of each connection from connecting to being subscribed.
    pub(crate) latency: Packed,
    /// The reason of the first failure.
    pub(crate) fault: Option<String>,
}

/// A line of output of a worker process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Line {
    /// The number of deliveries since the previous line.
    Delivered(u64),
    /// The reply to a command.
    Reply(Reply),
}
