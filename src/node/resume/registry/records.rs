//! What this node knows of the records of its clients in Redis.

use super::{Claimed, ClientState, ResumeRegistry};
use crate::{
    channel::ParkedSession,
    protocol::{ClientName, SocketId},
};
use std::{sync::atomic::Ordering, time::Instant};
use tokio::sync::watch;

impl ResumeRegistry {
    /// Takes connected clients whose records are to be renewed now, `max` at most, with their places and socket ids.
    #[must_use]
    pub fn take_renewals(&self, max: usize, now: Instant) -> Vec<(ClientName, u64, SocketId)> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut due = Vec::new();
        while due.len() < max
            && state.renewals.front().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, name, number)) = state.renewals.pop_front()
        {
            if let Some(client) = state.clients.get(&name)
                && client.number == number
                && matches!(client.state, ClientState::Connected(_))
            {
                let next = now + Self::RENEWAL_INTERVAL;
                state.renewals.push_back((next, name.clone(), number));
                due.push((name, number, client.socket_id));
            }
        }
        due
    }

    /// Makes the records of all connected clients due: Redis may have lost them.
    pub fn renew_all(&self, now: Instant) {
        for (at, ..) in &mut self.state.lock().renewals {
            *at = now;
        }
    }

    /// The sessions that records had, which Redis may have lost, with what is needed to store them again.
    #[must_use]
    pub fn park_all_again(&self) -> Vec<(ClientName, u64, SocketId, Box<ParkedSession>)> {
        let mut lost = Vec::new();
        for (name, client) in &mut self.state.lock().clients {
            if let ClientState::Parked { session, is_stored, .. } = &mut client.state
                && std::mem::take(is_stored)
            {
                lost.push((name.clone(), client.number, client.socket_id, session.clone()));
            }
        }
        lost
    }

    /// Takes the places of forgotten sessions, whose records are to be deleted.
    #[must_use]
    pub fn take_forgotten(&self) -> Vec<(ClientName, u64)> {
        std::mem::take(&mut self.state.lock().forgotten)
    }

    /// Takes the places and socket ids of evicted sessions: their records are to say that it is not known what is missing.
    #[must_use]
    pub fn take_evicted(&self) -> Vec<(ClientName, u64, SocketId)> {
        std::mem::take(&mut self.state.lock().evicted_places)
    }

    /// Records when a place was claimed among all nodes, by the clock of Redis.
    pub fn on_claimed(&self, name: &ClientName, number: u64, claimed_ms: u64) {
        if let Some(client) = self.state.lock().clients.get_mut(name)
            && client.number == number
        {
            client.claimed = Claimed::At(claimed_ms);
        }
    }

    /// Records that the claim of a place had no reply in time, and is to be made up for: the connection claimed it at `since`.
    pub fn on_claim_timeout(&self, name: &ClientName, number: u64, since: Instant) {
        if let Some(client) = self.state.lock().clients.get_mut(name)
            && client.number == number
        {
            client.claimed = Claimed::Late(since);
        }
    }

    /// When the connection in a place claimed it, if that is to be made up for.
    #[must_use]
    pub fn late_since(&self, name: &ClientName, number: u64) -> Option<Instant> {
        match self.state.lock().clients.get(name).filter(|client| client.number == number)?.claimed
        {
            Claimed::Late(since) => Some(since),
            Claimed::Pending | Claimed::At(_) => None,
        }
    }

    /// Whether the claim of a client is to be made up for: its record is of an earlier connection.
    #[must_use]
    pub fn is_late(&self, name: &ClientName) -> bool {
        let state = self.state.lock();
        state.clients.get(name).is_some_and(|client| matches!(client.claimed, Claimed::Late(_)))
    }

    /// When a place was claimed among all nodes; 0 if that is not known.
    #[must_use]
    pub fn claimed_ms(&self, name: &ClientName, number: u64) -> u64 {
        let state = self.state.lock();
        let client = state.clients.get(name).filter(|client| client.number == number);
        match client.map(|client| client.claimed) {
            Some(Claimed::At(claimed_ms)) => claimed_ms,
            Some(Claimed::Pending | Claimed::Late(_)) | None => 0,
        }
    }

    /// Whether Redis may have lost records since the last call: `losses` is how often it may have.
    pub fn has_new_losses(&self, losses: u64) -> bool {
        self.losses.swap(losses, Ordering::Relaxed) != losses
    }

    /// Begins to store a session, which is done once the result is dropped.
    #[must_use]
    pub fn start_parking(&self) -> watch::Receiver<()> {
        self.parking.subscribe()
    }

    /// Waits until no session is being stored.
    pub async fn wait_until_parked(&self) {
        self.parking.closed().await;
    }
}
