//! The connections that are no WebSocket: how many there may be, and who has to go for a
//! newcomer.
//!
//! A client that connects and sends nothing costs a file descriptor and some kilobytes until its
//! time is over, and ten thousand of them would cost everybody else the server. So these
//! connections have a limit of their own. At the limit, newcomers wait where the kernel keeps
//! them, and the connection that has kept us waiting longest goes, be it for its handshake, for
//! its request or for its next one. Who is given an answer stays, and so does whoever has been
//! waited for less than [`MANNERS`]: a client that means to say something does so well within it,
//! and whoever attacks has to come again every second for each place it wants to hold.

use super::idle::{WeakWire, Wire};
use crate::{
    node::Node,
    permit::{Permit, Quota},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How many connections there are that are no WebSocket, and which.
#[derive(Debug)]
pub struct Lobby {
    quota: Arc<Quota>,
    /// File descriptors for connections of both kinds.
    descriptors: usize,
    node: Arc<Node>,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    all: VecDeque<WeakWire>,
    /// The one asked to go last, and when.
    leaving: Option<(WeakWire, Instant)>,
}

/// The place of a connection that has just been accepted.
#[derive(Debug)]
pub struct Guest {
    pub(super) wire: Wire,
    pub(super) permit: Permit,
}

/// How long a client is waited for at least: some round trips of a slow network.
const MANNERS: Duration = Duration::from_secs(1);
/// How long the one asked to go is waited for before somebody else is asked, too. On a busy machine it takes a while
/// until a connection is closed, and one place needs only one of them.
const LEAVE_WAIT: Duration = Duration::from_millis(100);
/// Marks of guests who have gone are cleared away when they outnumber the others by this.
const GONE_MAX: usize = 64;

impl Lobby {
    /// At most `max` connections that are no WebSocket, and at most `descriptors` with those
    /// that are.
    #[must_use]
    pub fn new(max: usize, descriptors: usize, node: Arc<Node>) -> Self {
        Self { quota: Quota::new(max), descriptors, node, guests: Mutex::default() }
    }

    /// Sets another limit for the connections that are no WebSocket.
    pub fn set_max(&self, max: usize) {
        self.quota.set_max(max);
    }

    /// Takes a place for a newcomer. When all are taken, has somebody else go, as far as there
    /// is anybody who may be asked to; the place is free a little later.
    #[must_use]
    pub fn enter(&self, now: Instant) -> Option<Guest> {
        let has_room = self.quota.used() + self.node.connections_here() < self.descriptors;
        let Some(permit) = has_room.then(|| self.quota.take()).flatten() else {
            self.make_room(now);
            return None;
        };
        let wire = Wire::new(now);
        let all = &mut self.lock().all;
        if 2 * self.quota.used() + GONE_MAX < all.len() {
            all.retain(WeakWire::is_alive);
        }
        all.push_back(wire.downgrade());
        Some(Guest { wire, permit })
    }

    /// Asks the one to go who has been waited for longest, or nearly: whoever cannot go now is
    /// looked at again when it is its turn.
    fn make_room(&self, now: Instant) {
        let mut guests = self.lock();
        let is_leaving =
            |(wire, asked): &(WeakWire, Instant)| wire.is_alive() && now < *asked + LEAVE_WAIT;
        if guests.leaving.as_ref().is_some_and(is_leaving) {
            return;
        }
        for _ in 0..guests.all.len() {
            let Some(guest) = guests.all.pop_front() else { return };
            let Some(wire) = guest.upgrade() else { continue };
            if wire.waits_since().is_some_and(|since| since + MANNERS <= now) {
                guests.leaving = Some((guest, now));
                return wire.dismiss();
            }
            guests.all.push_back(guest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, shutdown::Shutdown, webhook::Webhooks};
    use futures_util::FutureExt;

    fn lobby(max: usize, descriptors: usize) -> Lobby {
        let config = Config::default();
        let webhooks = Arc::new(Webhooks::new(&config).unwrap());
        let node = Node::new(&config, 1, 0, Shutdown::new(), webhooks);
        Lobby::new(max, descriptors, Arc::new(node))
    }

    fn is_dismissed(guest: &Guest) -> bool {
        guest.wire.dismissed().now_or_never().is_some()
    }

    #[test]
    fn the_one_goes_who_has_been_waited_for_longest_and_long_enough() {
        let lobby = lobby(3, 100);
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let answered = lobby.enter(at(0)).unwrap();
        answered.wire.request_came();
        let idle = lobby.enter(at(100)).unwrap();
        let young = lobby.enter(at(500)).unwrap();
        assert!(lobby.enter(at(1_000)).is_none());
        assert!(!is_dismissed(&idle), "it has some time yet");
        assert!(lobby.enter(at(1_100)).is_none());
        assert!(is_dismissed(&idle));
        assert!(!is_dismissed(&answered) && !is_dismissed(&young), "one for one");
        drop(idle);
        assert!(lobby.enter(at(1_100)).is_some());
    }

    #[test]
    fn nobody_else_is_asked_to_go_while_one_is_leaving() {
        let lobby = lobby(2, 100);
        let start = Instant::now();
        let [first, second] = [lobby.enter(start).unwrap(), lobby.enter(start).unwrap()];
        let asked = start + MANNERS;
        assert!(lobby.enter(asked).is_none());
        assert!(is_dismissed(&first));
        assert!(lobby.enter(asked + LEAVE_WAIT - Duration::from_millis(1)).is_none());
        assert!(!is_dismissed(&second), "one for one");
        assert!(lobby.enter(asked + LEAVE_WAIT).is_none());
        assert!(is_dismissed(&second), "the first one does not go");
    }

    #[test]
    fn places_that_a_lower_limit_takes_away_are_given_up_one_after_another() {
        let lobby = lobby(2, 100);
        let start = Instant::now();
        let [first, second] = [lobby.enter(start).unwrap(), lobby.enter(start).unwrap()];
        lobby.set_max(1);
        assert!(lobby.enter(start + MANNERS).is_none());
        assert!(is_dismissed(&first));
        drop(first);
        assert!(lobby.enter(start + MANNERS).is_none());
        assert!(is_dismissed(&second));
    }

    #[test]
    fn both_kinds_together_do_not_outnumber_the_descriptors() {
        let lobby = lobby(0, 2);
        let now = Instant::now();
        let _guests = [lobby.enter(now).unwrap(), lobby.enter(now).unwrap()];
        assert!(lobby.enter(now).is_none());
    }

    #[test]
    fn whoever_has_gone_leaves_nothing_behind() {
        let lobby = lobby(0, usize::MAX);
        let stays = lobby.enter(Instant::now()).unwrap();
        for _ in 0..10_000 {
            drop(lobby.enter(Instant::now()).unwrap());
        }
        let marks = lobby.lock().all.len();
        assert!(marks <= GONE_MAX + 4, "{marks}");
        assert!(stays.wire.waits_since().is_some());
    }
}
