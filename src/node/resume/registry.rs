//! The clients with a token, and the sessions that wait for their return.

use crate::{
    channel::{Gap, ParkedSession},
    hub::ConnectionRef,
    protocol::{ClientName, SocketId},
    rate::{Rate, TokenBucket},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// All clients with a token of this node, connected or not.
#[derive(Debug, Default)]
pub struct ResumeRegistry {
    state: Mutex<RegistryState>,
    resumed: AtomicU64,
    evicted: AtomicU64,
    replayed: AtomicU64,
    gaps: [AtomicU64; Gap::ALL.len()],
}

#[derive(Debug, Default)]
struct RegistryState {
    clients: HashMap<ClientName, Client>,
    /// The parked sessions, the oldest first.
    parked: BTreeMap<u64, (ClientName, Instant)>,
    parked_ever: u64,
}

#[derive(Debug)]
struct Client {
    socket_id: SocketId,
    state: ClientState,
    /// Limits how often connections that live take the place of one another.
    takeovers: TokenBucket,
}

#[derive(Debug)]
enum ClientState {
    Connected(ConnectionRef),
    Parked { number: u64, session: Box<ParkedSession> },
}

/// What a connection finds in the place that it claims.
#[derive(Debug)]
pub enum ClaimResult {
    /// The client was not known.
    New,
    /// The session of its previous connection.
    Resumed(Box<ParkedSession>),
    /// The previous connection is still open: its shard is to close it, and its session follows.
    Open(ConnectionRef),
    /// Another connection has the token, with another socket id. The claimant is served without resuming.
    Refused,
}

impl ResumeRegistry {
    /// Maximum number of parked sessions. Beyond it, the oldest are forgotten.
    pub const PARKED_MAX: usize = 10_000;
    /// How long a session is kept. Events are logged for `resume_s` only: after that, a returning client receives a
    /// notice of the gap, as after a night in which a laptop slept.
    const KEPT_FOR: Duration = Duration::from_hours(24);
    /// How often open connections may take the place of one another: a page that is suspended and woken needs
    /// few. More means that several pages use one token.
    const TAKEOVER_RATE: fn() -> Rate = || Rate::per_minute(10).with_burst(20);

    /// A registry without clients.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The socket id that a client had on its previous connection. `None` if it is not known.
    ///
    /// # Errors
    ///
    /// The token changes hands too often: several clients use it.
    pub fn socket_id(&self, name: &ClientName, now: Instant) -> Result<Option<SocketId>, Shared> {
        let mut state = self.state.lock();
        let Some(client) = state.clients.get_mut(name) else { return Ok(None) };
        if let ClientState::Connected(_) = client.state {
            client.takeovers.take((Self::TAKEOVER_RATE)(), now).map_err(|_wait| Shared)?;
        }
        Ok(Some(client.socket_id))
    }

    /// Makes a connection the one of its client.
    pub fn claim(
        &self,
        name: &ClientName,
        connection: ConnectionRef,
        socket_id: SocketId,
        now: Instant,
    ) -> ClaimResult {
        let mut state = self.state.lock();
        let Some(client) = state.clients.get_mut(name) else {
            let state_of = ClientState::Connected(connection);
            let takeovers = TokenBucket::full(now);
            let client = Client { socket_id, state: state_of, takeovers };
            state.clients.insert(name.clone(), client);
            return ClaimResult::New;
        };
        if client.socket_id != socket_id {
            return ClaimResult::Refused;
        }
        match std::mem::replace(&mut client.state, ClientState::Connected(connection)) {
            ClientState::Connected(previous) => ClaimResult::Open(previous),
            ClientState::Parked { number, session } => {
                state.parked.remove(&number);
                self.resumed.fetch_add(1, Ordering::Relaxed);
                ClaimResult::Resumed(session)
            }
        }
    }

    /// Ends a connection that has claimed its place, with what is left of it; `None` if its client is to be
    /// forgotten. Returns the connection that has claimed the place meanwhile, which gets the session.
    #[must_use]
    pub fn end(
        &self,
        name: &ClientName,
        connection: ConnectionRef,
        session: Option<Box<ParkedSession>>,
        now: Instant,
    ) -> Option<(ConnectionRef, Option<Box<ParkedSession>>)> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let client = state.clients.get_mut(name)?;
        match (&client.state, session) {
            (ClientState::Connected(other), session) if *other != connection => {
                if session.is_some() {
                    self.resumed.fetch_add(1, Ordering::Relaxed);
                }
                return Some((*other, session));
            }
            (_, Some(session)) => {
                state.parked_ever += 1;
                let number = state.parked_ever;
                client.state = ClientState::Parked { number, session };
                state.parked.insert(number, (name.clone(), now));
                while Self::PARKED_MAX < state.parked.len() {
                    state.forget_oldest();
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                }
            }
            (_, None) => {
                state.clients.remove(name);
            }
        }
        None
    }

    /// Forgets the sessions of clients that have not returned for long.
    pub fn on_tick(&self, now: Instant) {
        let mut state = self.state.lock();
        while let Some((_, (_, parked_at))) = state.parked.first_key_value()
            && Self::KEPT_FOR <= now.saturating_duration_since(*parked_at)
        {
            state.forget_oldest();
        }
    }

    /// The number of parked sessions.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.state.lock().parked.len()
    }

    /// Counts events that a client has received after its return.
    pub fn count_replayed(&self, events: usize) {
        self.replayed.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// Counts a channel whose events were not replayed.
    pub fn count_gap(&self, gap: Gap) {
        self.gaps[gap as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What has come of the clients with a token.
    #[must_use]
    pub fn stats(&self) -> ResumeStats {
        let (parked, parked_ever) = {
            let state = self.state.lock();
            (state.parked.len(), state.parked_ever)
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ResumeStats {
            parked,
            parked_ever,
            resumed: read(&self.resumed),
            evicted: read(&self.evicted),
            replayed: read(&self.replayed),
            gaps: Gap::ALL.map(|gap| (gap, read(&self.gaps[gap as usize]))),
        }
    }
}

/// Counts of the clients with a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResumeStats {
    /// Sessions that wait for the return of their client.
    pub parked: usize,
    /// Sessions that were parked, ever.
    pub parked_ever: u64,
    /// Sessions whose client has returned.
    pub resumed: u64,
    /// Sessions that were forgotten because there were too many.
    pub evicted: u64,
    /// Events that clients have received after their return.
    pub replayed: u64,
    /// Channels whose events were not replayed, by the reason.
    pub gaps: [(Gap, u64); Gap::ALL.len()],
}

/// Several clients use one token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shared;

impl RegistryState {
    fn forget_oldest(&mut self) {
        if let Some((_, (name, _))) = self.parked.pop_first() {
            self.clients.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::{ConnectionKey, ShardIndex},
        protocol::ResumeToken,
    };

    fn name(token: &str) -> ClientName {
        let token = ResumeToken::parse(&format!("{token:0>16}")).unwrap();
        ClientName { app_id: "app".into(), token }
    }

    fn connection(slot: u32) -> ConnectionRef {
        ConnectionRef { shard: ShardIndex::new(0), key: ConnectionKey { slot, generation: 1 } }
    }

    fn socket(bits: u64) -> SocketId {
        SocketId::from_random(1 << 32 | bits)
    }

    fn session(now: Instant) -> ParkedSession {
        ParkedSession::new(now)
    }

    #[test]
    fn a_client_that_returns_finds_its_socket_id_and_its_session_once() {
        let (registry, now) = (ResumeRegistry::new(), Instant::now());
        assert_eq!(registry.socket_id(&name("a"), now), Ok(None));
        let claim = |slot| registry.claim(&name("a"), connection(slot), socket(7), now);
        assert!(matches!(claim(1), ClaimResult::New));
        assert!(
            registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now).is_none()
        );
        assert_eq!(
            (registry.parked(), registry.socket_id(&name("a"), now)),
            (1, Ok(Some(socket(7))))
        );
        assert_eq!(registry.socket_id(&name("b"), now), Ok(None));
        let other_app = ClientName { app_id: "other".into(), ..name("a") };
        assert_eq!(registry.socket_id(&other_app, now), Ok(None), "tokens belong to an app");
        assert!(matches!(claim(2), ClaimResult::Resumed(_)));
        assert_eq!(registry.parked(), 0);
        assert!(registry.end(&name("a"), connection(2), None, now).is_none());
        assert_eq!(registry.socket_id(&name("a"), now), Ok(None), "it was forgotten");
        let ResumeStats { parked_ever, resumed, evicted, .. } = registry.stats();
        assert_eq!((parked_ever, resumed, evicted), (1, 1, 0));
    }

    #[test]
    fn replays_and_gaps_are_counted() {
        let registry = ResumeRegistry::new();
        registry.count_replayed(3);
        registry.count_replayed(0);
        for gap in [Gap::TooMuch, Gap::Epoch, Gap::TooMuch] {
            registry.count_gap(gap);
        }
        let stats = registry.stats();
        assert_eq!(stats.replayed, 3);
        assert_eq!(stats.gaps.map(|(_, count)| count), [1, 0, 2, 0]);
    }

    #[test]
    fn an_open_connection_hands_its_session_over() {
        let (registry, now) = (ResumeRegistry::new(), Instant::now());
        let claim = |slot| registry.claim(&name("a"), connection(slot), socket(7), now);
        assert!(matches!(claim(1), ClaimResult::New));
        assert!(matches!(claim(2), ClaimResult::Open(previous) if previous == connection(1)));
        assert!(matches!(claim(3), ClaimResult::Open(previous) if previous == connection(2)));
        // The second one never had the session, and says nothing at its end.
        let (to, left) =
            registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now).unwrap();
        assert_eq!((to, left.is_some()), (connection(3), true));
        assert!(
            registry.end(&name("a"), connection(3), Some(Box::new(session(now))), now).is_none()
        );
        assert_eq!(registry.parked(), 1);
    }

    #[test]
    fn a_token_with_another_socket_id_is_not_taken_over() {
        let (registry, now) = (ResumeRegistry::new(), Instant::now());
        assert!(matches!(
            registry.claim(&name("a"), connection(1), socket(7), now),
            ClaimResult::New
        ));
        let other = registry.claim(&name("a"), connection(2), socket(8), now);
        assert!(matches!(other, ClaimResult::Refused));
        assert!(
            registry.end(&name("a"), connection(1), Some(Box::new(session(now))), now).is_none()
        );
    }

    #[test]
    fn a_token_of_several_pages_is_not_resumed_without_end() {
        let (registry, now) = (ResumeRegistry::new(), Instant::now());
        let claim = |slot| registry.claim(&name("a"), connection(slot), socket(7), now);
        claim(0);
        let takeovers = (1..100).take_while(|slot| {
            let is_found = registry.socket_id(&name("a"), now).is_ok();
            if is_found {
                claim(*slot);
            }
            is_found
        });
        assert_eq!(takeovers.count(), 20);
        assert!(registry.socket_id(&name("a"), now + Duration::from_secs(60)).is_ok());
        // Returns of a client that was lost are not limited.
        let _ = registry.end(&name("a"), connection(20), Some(Box::new(session(now))), now);
        for _ in 0..100 {
            assert_eq!(registry.socket_id(&name("a"), now), Ok(Some(socket(7))));
        }
    }

    #[test]
    fn sessions_are_bounded_in_number_and_age() {
        let (registry, now) = (ResumeRegistry::new(), Instant::now());
        for number in 0..=ResumeRegistry::PARKED_MAX {
            let name = name(&number.to_string());
            registry.claim(&name, connection(1), socket(7), now);
            let _ = registry.end(&name, connection(1), Some(Box::new(session(now))), now);
        }
        assert_eq!(registry.parked(), ResumeRegistry::PARKED_MAX);
        assert_eq!(registry.socket_id(&name("0"), now), Ok(None), "the oldest");
        assert_eq!(registry.socket_id(&name("1"), now), Ok(Some(socket(7))));
        assert_eq!(registry.stats().evicted, 1);
        registry.on_tick(now + ResumeRegistry::KEPT_FOR - Duration::from_millis(1));
        assert_eq!(registry.parked(), ResumeRegistry::PARKED_MAX);
        registry.on_tick(now + ResumeRegistry::KEPT_FOR);
        assert_eq!((registry.parked(), registry.state.lock().clients.len()), (0, 0));
    }
}
