//! What the logs in memory and in Redis have in common: their limits.

use crate::{broker::redis, hub::HubEvent};

/// Maximum size of the log of one app, in bytes: in memory about 200,000 pairs of events, which take
/// seconds without a reader.
pub(in crate::webhook) const LOG_BYTES_MAX: usize = redis::LOG_BYTES_MAX;
/// Momentary events may fill half of it; the rest is for events that come in pairs.
pub(in crate::webhook) const MOMENTARY_BYTES_MAX: usize = LOG_BYTES_MAX / 2;

/// The error of a full log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::webhook) struct Full;

/// The maximum size of a log including this event, in bytes.
pub(super) fn bytes_max(hub_event: &HubEvent) -> usize {
    if hub_event.is_transition() { LOG_BYTES_MAX } else { MOMENTARY_BYTES_MAX }
}
