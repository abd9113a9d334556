//! Subscriptions of lost connections, which stay with the broker for a grace period.
//!
//! To the broker, a subscription simply ends later. A client that returns in time subscribes first, and then its
//! lingering subscription ends: the member has never left, on this node or on another.

use crate::{
    alarm::Alarm,
    hub::{Hub, ShardIndex},
    protocol::{ChannelName, SocketId},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

/// A subscription whose connection was lost.
#[derive(Clone, Debug)]
pub struct Lingering {
    /// The hub of the app.
    pub hub: Arc<Hub>,
    /// The channel.
    pub channel: ChannelName,
    /// The shard of the connection, by which the hub counts it.
    pub shard: ShardIndex,
    /// On a presence channel, the member.
    pub user_id: Option<Arc<str>>,
    /// The socket id of the connection, by which a client with a token is recognised.
    pub socket_id: SocketId,
}

/// All lingering subscriptions of this node.
#[derive(Debug, Default)]
pub struct GraceSubscriptions {
    state: Mutex<GraceState>,
    /// Their number, readable without the lock.
    len: AtomicUsize,
    /// Set to the end of each.
    alarm: Arc<Alarm>,
}

#[derive(Debug, Default)]
struct GraceState {
    /// By the time of their end, and a number that distinguishes them.
    by_end: BTreeMap<(Instant, u64), Lingering>,
    /// Which of them belong to a returning client.
    by_owner: HashMap<Owner, Vec<(Instant, u64)>>,
    numbers: u64,
}

/// Whose return ends a lingering subscription: that of the member, or of the connection.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Owner {
    app_id: Arc<str>,
    channel: ChannelName,
    who: Who,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Who {
    User(Arc<str>),
    Connection(SocketId),
}

impl Owner {
    /// The member of a presence channel, or on other channels the client with this socket id.
    #[must_use]
    pub fn new(
        app_id: Arc<str>,
        channel: ChannelName,
        user_id: Option<Arc<str>>,
        socket_id: SocketId,
    ) -> Self {
        Self { app_id, channel, who: user_id.map_or(Who::Connection(socket_id), Who::User) }
    }
}

impl Lingering {
    fn owner(&self) -> Owner {
        let (channel, user_id) = (self.channel.clone(), self.user_id.clone());
        Owner::new(self.hub.app_id(), channel, user_id, self.socket_id)
    }
}

impl GraceSubscriptions {
    /// Maximum number of lingering subscriptions: a network failure may take all clients of a node. Beyond
    /// it, the oldest end early.
    const MAX: usize = 200_000;

    /// None, with the alarm that is set to the end of each.
    #[must_use]
    pub fn new(alarm: &Arc<Alarm>) -> Self {
        Self { alarm: Arc::clone(alarm), ..Self::default() }
    }

    /// Adds a subscription that is to end at `end`. Returns one that must end now, if there are too many.
    #[must_use]
    pub fn add(&self, lingering: Lingering, end: Instant) -> Option<Lingering> {
        let mut state = self.state.lock();
        state.numbers += 1;
        let at = (end, state.numbers);
        state.by_owner.entry(lingering.owner()).or_default().push(at);
        state.by_end.insert(at, lingering);
        let over = (Self::MAX < state.by_end.len()).then(|| state.remove_first()).flatten();
        self.len.store(state.by_end.len(), Ordering::Relaxed);
        self.alarm.set(end);
        over
    }

    /// Takes the subscriptions that a new one of the same member, or of the same client, replaces.
    #[must_use]
    pub fn take_replaced(&self, returned: &Owner) -> Vec<Lingering> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let taken = state.by_owner.remove(returned).unwrap_or_default();
        let taken = taken.iter().filter_map(|at| state.by_end.remove(at)).collect();
        self.len.store(state.by_end.len(), Ordering::Relaxed);
        taken
    }

    /// Takes the subscriptions whose grace period is over.
    #[must_use]
    pub fn take_due(&self, now: Instant) -> Vec<Lingering> {
        let mut due = Vec::new();
        let mut state = self.state.lock();
        while let Some(((end, _), _)) = state.by_end.first_key_value()
            && *end <= now
        {
            due.extend(state.remove_first());
        }
        self.len.store(state.by_end.len(), Ordering::Relaxed);
        due
    }

    /// When the next grace period is over.
    #[must_use]
    pub fn next_end(&self) -> Option<Instant> {
        self.state.lock().by_end.first_key_value().map(|((end, _), _)| *end)
    }

    /// Takes all subscriptions.
    #[must_use]
    pub fn take_all(&self) -> Vec<Lingering> {
        let state = std::mem::take(&mut *self.state.lock());
        self.len.store(0, Ordering::Relaxed);
        state.by_end.into_values().collect()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

impl GraceState {
    fn remove_first(&mut self) -> Option<Lingering> {
        let (at, lingering) = self.by_end.pop_first()?;
        let owner = lingering.owner();
        if let Some(all) = self.by_owner.get_mut(&owner) {
            all.retain(|other| *other != at);
            if all.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        Some(lingering)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::App,
        config::AppConfig,
        hub::{Inboxes, hub_event_tests::channel, testing::NoopObserver},
    };
    use std::time::Duration;

    fn hub() -> Arc<Hub> {
        let (app, inboxes) = (App::new(AppConfig::development()), Arc::new(Inboxes::new(1)));
        Arc::new(Hub::new(app, inboxes, Arc::new(NoopObserver), Instant::now()))
    }

    fn lingering(hub: &Arc<Hub>, name: &str, user: Option<&str>, socket: u64) -> Lingering {
        Lingering {
            hub: Arc::clone(hub),
            channel: channel(name),
            shard: ShardIndex::new(0),
            user_id: user.map(Into::into),
            socket_id: SocketId::from_random(1 << 32 | socket),
        }
    }

    fn names(found: &[Lingering]) -> Vec<String> {
        found.iter().map(|lingering| lingering.channel.to_string()).collect()
    }

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn subscriptions_end_in_the_order_of_their_ends() {
        let (hub, now, grace) = (hub(), Instant::now(), GraceSubscriptions::default());
        for (name, after) in [("presence-b", 20), ("presence-a", 10), ("presence-c", 20)] {
            assert!(grace.add(lingering(&hub, name, Some("1"), 1), now + after * S).is_none());
        }
        assert!(grace.take_due(now + 9 * S).is_empty());
        assert_eq!(names(&grace.take_due(now + 10 * S)), ["presence-a"]);
        assert_eq!(grace.len(), 2);
        assert_eq!(names(&grace.take_due(now + 30 * S)), ["presence-b", "presence-c"]);
        assert!(grace.is_empty());
        assert!(grace.state.lock().by_owner.is_empty());
    }

    #[test]
    fn a_member_or_a_client_that_returns_replaces_its_own() {
        let (hub, now, grace) = (hub(), Instant::now(), GraceSubscriptions::default());
        for (name, user, socket) in [
            ("presence-a", Some("1"), 1),
            ("presence-a", Some("1"), 2),
            ("presence-a", Some("2"), 3),
            ("presence-b", Some("1"), 1),
            ("public", None, 1),
            ("public", None, 2),
        ] {
            assert!(grace.add(lingering(&hub, name, user, socket), now + S).is_none());
        }
        let taken = grace.take_replaced(&lingering(&hub, "presence-a", Some("1"), 9).owner());
        assert_eq!(names(&taken), ["presence-a", "presence-a"]);
        assert_eq!(
            names(&grace.take_replaced(&lingering(&hub, "public", None, 2).owner())),
            ["public"]
        );
        assert!(grace.take_replaced(&lingering(&hub, "public", None, 9).owner()).is_empty());
        assert_eq!(grace.len(), 3);
        assert_eq!(names(&grace.take_due(now + S)), ["presence-a", "presence-b", "public"]);
    }
}
