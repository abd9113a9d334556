//! Sessions that this node has handed over to others a moment ago. If the answer was lost, the request is repeated.

use crate::{broker::Place, channel::ParkedSession, protocol::ClientName};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long a session is kept: longer than another node asks for it.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Maximum number of sessions that are kept.
const MAX: usize = 1_000;

/// The sessions, the oldest first, with their clients and the places that have got them.
#[derive(Debug, Default)]
pub(super) struct HandedOver(VecDeque<(Instant, ClientName, Place, Box<ParkedSession>)>);

impl HandedOver {
    pub(super) fn add(
        &mut self,
        client: &ClientName,
        to: &Place,
        session: &ParkedSession,
        now: Instant,
    ) {
        self.expire(now);
        if self.0.len() == MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, client.clone(), to.clone(), Box::new(session.clone())));
    }

    /// The session that the place `to` has got.
    pub(super) fn find(&self, client: &ClientName, to: &Place) -> Option<Box<ParkedSession>> {
        let mut sessions = self.0.iter().rev();
        let found = sessions.find(|(_, name, place, _)| name == client && place == to);
        found.map(|(.., session)| session.clone())
    }

    pub(super) fn expire(&mut self, now: Instant) {
        let is_old = |at: Instant| KEPT_FOR <= now.saturating_duration_since(at);
        while self.0.front().is_some_and(|(at, ..)| is_old(*at)) {
            self.0.pop_front();
        }
    }
}
