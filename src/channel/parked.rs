//! What is kept of a connection that was lost, for the client's return.

use super::Position;
use crate::protocol::ChannelName;
use std::{collections::HashMap, time::Instant};

/// The channels of a lost connection, and how far its client has certainly received each.
#[derive(Clone, Debug)]
pub struct ParkedSession {
    /// When the connection was lost.
    pub lost_at: Instant,
    /// The position in each channel's log; `None` where no log was kept.
    pub positions: HashMap<ChannelName, Option<Position>>,
}

impl ParkedSession {
    /// The session of a connection that was lost at `lost_at`.
    #[must_use]
    pub fn new(lost_at: Instant) -> Self {
        Self { lost_at, positions: HashMap::new() }
    }
}
