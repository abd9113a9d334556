//! The clients with a token, and the sessions that wait for their return.

mod records;
#[cfg(test)]
mod tests;

use super::handed_over::HandedOver;
use crate::{
    broker::Place,
    channel::{Gap, ParkedSession},
    hub::{ClaimOutcome, ConnectionRef},
    protocol::{ClientName, SocketId},
    rate::{Rate, TokenBucket},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The number of renewals of earlier places from which on they are removed.
const OLD_RENEWALS_MIN: usize = 1_024;

/// All clients with a token of this node, connected or not.
#[derive(Debug)]
pub struct ResumeRegistry {
    /// Whether clients may return to other nodes.
    is_shared: bool,
    state: Mutex<RegistryState>,
    /// Its receivers are the sessions that are being stored.
    parking: watch::Sender<()>,
    /// The number of losses of data after which all records were renewed.
    losses: AtomicU64,
    resumed: AtomicU64,
    evicted: AtomicU64,
    replayed: AtomicU64,
    acknowledged: AtomicU64,
    counted: AtomicU64,
    gaps: [AtomicU64; Gap::ALL.len()],
}

#[derive(Debug, Default)]
struct RegistryState {
    clients: HashMap<ClientName, Client>,
    /// The parked sessions, the oldest first.
    parked: BTreeMap<u64, (ClientName, Instant)>,
    /// The same of which only the client is known, since there were too many sessions.
    evicted: BTreeMap<u64, (ClientName, Instant)>,
    parked_ever: u64,
    /// The last number of a place.
    numbers: u64,
    /// Where the sessions of connections go whose clients have returned to other nodes.
    leaving: HashMap<ClientName, Place>,
    handed_over: HandedOver,
    /// When the record of each connected client is to be renewed, the earliest first, and the number of its place.
    renewals: VecDeque<(Instant, ClientName, u64)>,
    /// The places of forgotten sessions, whose records are to be deleted.
    forgotten: Vec<(ClientName, u64)>,
    /// The places and socket ids of evicted sessions, whose records are to be replaced.
    evicted_places: Vec<(ClientName, u64, SocketId)>,
}

#[derive(Debug)]
struct Client {
    socket_id: SocketId,
    state: ClientState,
    /// The number of its place. Connections of this node that take over from one another keep it.
    number: u64,
    /// When the place was claimed among all nodes.
    claimed: Claimed,
    /// Limits how often connections that live take the place of one another.
    takeovers: TokenBucket,
}

#[derive(Clone, Copy, Debug)]
enum Claimed {
    /// The claim has had no reply yet.
    Pending,
    /// Redis was unavailable for too long, and the claim is made up for: when the connection claimed the place.
    Late(Instant),
    /// In ms, by the clock of Redis.
    At(u64),
}

#[derive(Debug)]
enum ClientState {
    Connected(ConnectionRef),
    Parked {
        order: u64,
        session: Box<ParkedSession>,
        /// Whether the record of the client has it, too.
        is_stored: bool,
    },
}

/// What a connection finds in the place that it claims.
#[derive(Debug)]
pub enum ClaimResult {
    /// How it begins.
    Done(ClaimOutcome),
    /// The previous connection is still open: its shard is to close it, and its session follows.
    Open(ConnectionRef),
    /// The other nodes may know the client. What this one knows of its session may be outdated.
    Shared {
        /// The number of its new place.
        number: u64,
        /// The number of its previous place on this node, and when it claimed that, if the claim had no reply.
        unclaimed: Option<(u64, Instant)>,
        /// The session of its previous connection to this node.
        session: Option<Box<ParkedSession>>,
    },
}

/// What is to be done at the end of a client's connection.
#[derive(Debug)]
pub enum EndOfClient {
    /// Nothing more.
    Done,
    /// Another connection of this node has claimed the place: it gets the session.
    ToConnection(ConnectionRef, Option<Box<ParkedSession>>),
    /// The client has returned to another node, which gets the session.
    ToPlace(Place, Option<Box<ParkedSession>>),
    /// The record of the client gets the session.
    Park {
        /// The number of its place.
        number: u64,
        /// Its socket id.
        socket_id: SocketId,
        /// What is left of its connection.
        session: Box<ParkedSession>,
    },
    /// The record of the client is to be deleted.
    Forget {
        /// The number of its place.
        number: u64,
    },
}

/// What this node has of a client that has returned to another one.
#[derive(Debug)]
pub enum Leaving {
    /// A connection, which is to be closed: its session follows.
    Open(ConnectionRef),
    /// A session, or nothing.
    Session(Option<Box<ParkedSession>>),
    /// It is leaving already, and its session follows: the request was repeated.
    Started,
}

impl ResumeRegistry {
    /// Maximum number of parked sessions. Of the oldest beyond it, only the clients are kept: it is not known what they have
    /// missed.
    pub const PARKED_MAX: usize = 10_000;
    /// Maximum number of these clients.
    const EVICTED_MAX: usize = 5 * Self::PARKED_MAX;
    /// How long a session is kept. Events are logged for `resume_s` only: after that, a returning client receives a
    /// notice of the gap, as after a night in which a laptop slept.
    const KEPT_FOR: Duration = Duration::from_hours(24);
    /// How often the record of a connected client is renewed, which is kept as long as a session.
    const RENEWAL_INTERVAL: Duration = Duration::from_hours(8);
    /// How often open connections may take the place of one another: a page that is suspended and woken needs
    /// few. More means that several pages use one token.
    const TAKEOVER_RATE: fn() -> Rate = || Rate::per_minute(10).with_burst(20);

    /// A registry without clients. They may return to other nodes if it `is_shared`.
    #[must_use]
    pub fn new(is_shared: bool) -> Self {
        Self {
            is_shared,
            state: Mutex::default(),
            parking: watch::Sender::new(()),
            losses: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            replayed: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            gaps: Default::default(),
        }
    }

    /// The socket id that a client had on its previous connection to this node. `None` if it is not known.
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
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.numbers += 1;
        let number = state.numbers;
        let Some(client) = state.clients.get_mut(name) else {
            let state_of = ClientState::Connected(connection);
            let takeovers = TokenBucket::full(now);
            let claimed = Claimed::Pending;
            let client = Client { socket_id, state: state_of, number, claimed, takeovers };
            state.clients.insert(name.clone(), client);
            return if self.is_shared {
                state.add_renewal(now + Self::RENEWAL_INTERVAL, name, number);
                ClaimResult::Shared { number, unclaimed: None, session: None }
            } else {
                ClaimResult::Done(ClaimOutcome::New)
            };
        };
        if client.socket_id != socket_id {
            return ClaimResult::Done(ClaimOutcome::Refused);
        }
        match std::mem::replace(&mut client.state, ClientState::Connected(connection)) {
            ClientState::Connected(previous) => {
                if let Claimed::Late(since) = &mut client.claimed {
                    *since = now;
                }
                ClaimResult::Open(previous)
            }
            ClientState::Parked { order, session, .. } => {
                state.parked.remove(&order);
                state.evicted.remove(&order);
                if self.is_shared {
                    let claimed = std::mem::replace(&mut client.claimed, Claimed::Pending);
                    let previous = std::mem::replace(&mut client.number, number);
                    let unclaimed = match claimed {
                        Claimed::Late(since) => Some((previous, since)),
                        Claimed::Pending | Claimed::At(_) => None,
                    };
                    state.add_renewal(now + Self::RENEWAL_INTERVAL, name, number);
                    return ClaimResult::Shared { number, unclaimed, session: Some(session) };
                }
                self.count_resumed(Some(&session));
                ClaimResult::Done(ClaimOutcome::Resumed(session))
            }
        }
    }

    /// Ends a connection that has claimed its place, with what is left of it; `None` if its client is to be
    /// forgotten.
    #[must_use]
    pub fn end(
        &self,
        name: &ClientName,
        connection: ConnectionRef,
        session: Option<Box<ParkedSession>>,
        now: Instant,
    ) -> EndOfClient {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(place) = state.leaving.remove(name) {
            if let Some(session) = &session {
                state.handed_over.add(name, &place, session, now);
            }
            return EndOfClient::ToPlace(place, session);
        }
        let Some(client) = state.clients.get_mut(name) else { return EndOfClient::Done };
        let (number, socket_id) = (client.number, client.socket_id);
        match (&client.state, session) {
            (ClientState::Connected(other), session) if *other != connection => {
                if let Some(session) = &session {
                    self.count_resumed(Some(session));
                }
                EndOfClient::ToConnection(*other, session)
            }
            (_, Some(session)) => {
                state.parked_ever += 1;
                let order = state.parked_ever;
                let kept = session.clone();
                client.state = ClientState::Parked { order, session: kept, is_stored: false };
                state.parked.insert(order, (name.clone(), now));
                while Self::PARKED_MAX < state.parked.len() {
                    state.evict_oldest(self.is_shared);
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                }
                while Self::EVICTED_MAX < state.evicted.len() {
                    let oldest = state.evicted.pop_first();
                    state.forget(oldest, self.is_shared);
                }
                if self.is_shared {
                    EndOfClient::Park { number, socket_id, session }
                } else {
                    EndOfClient::Done
                }
            }
            (_, None) => {
                state.clients.remove(name);
                if self.is_shared { EndOfClient::Forget { number } } else { EndOfClient::Done }
            }
        }
    }

    /// Forgets a client whose token another one has. Returns the connection that has its place, if that is another one
    /// than `connection`.
    pub fn refuse(&self, name: &ClientName, connection: ConnectionRef) -> Option<ConnectionRef> {
        let client = self.state.lock().clients.remove(name)?;
        match client.state {
            ClientState::Connected(other) => (other != connection).then_some(other),
            ClientState::Parked { .. } => None,
        }
    }

    /// Records that the session of a place is in the client's record.
    pub fn on_parked(&self, name: &ClientName, number: u64) {
        let mut state = self.state.lock();
        if let Some(client) = state.clients.get_mut(name)
            && client.number == number
            && let ClientState::Parked { is_stored, .. } = &mut client.state
        {
            *is_stored = true;
        }
    }

    /// Whether the session of a place is not in the client's record yet.
    #[must_use]
    pub fn is_parking(&self, name: &ClientName, number: u64) -> bool {
        self.state.lock().clients.get(name).is_some_and(|client| {
            let is_parking = matches!(client.state, ClientState::Parked { is_stored: false, .. });
            client.number == number && is_parking
        })
    }

    /// Lets a client go that has returned to the `claimant` on another node, from its place `number` on this one.
    #[must_use]
    pub fn leave(&self, name: &ClientName, number: u64, claimant: &Place, now: Instant) -> Leaving {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.leaving.get(name) == Some(claimant) {
            return Leaving::Started;
        }
        if let Some(session) = state.handed_over.find(name, claimant) {
            return Leaving::Session(Some(session));
        }
        if state.clients.get(name).is_none_or(|client| client.number != number) {
            return Leaving::Session(None);
        }
        match state.clients.remove(name).map(|client| client.state) {
            Some(ClientState::Connected(connection)) => {
                state.leaving.insert(name.clone(), claimant.clone());
                Leaving::Open(connection)
            }
            Some(ClientState::Parked { order, session, .. }) => {
                state.parked.remove(&order);
                state.evicted.remove(&order);
                state.handed_over.add(name, claimant, &session, now);
                Leaving::Session(Some(session))
            }
            None => Leaving::Session(None),
        }
    }

    /// Counts a client that has returned.
    pub fn count_resumed(&self, session: Option<&ParkedSession>) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
        let acknowledged = session.map_or(0, |session| session.acknowledged);
        self.acknowledged.fetch_add(acknowledged, Ordering::Relaxed);
    }

    /// Forgets the sessions of clients that have not returned for long.
    pub fn on_tick(&self, now: Instant) {
        let mut state = self.state.lock();
        state.handed_over.expire(now);
        let is_old =
            |parked_at: Instant| Self::KEPT_FOR <= now.saturating_duration_since(parked_at);
        while state.parked.first_key_value().is_some_and(|(_, (_, at))| is_old(*at)) {
            let oldest = state.parked.pop_first();
            state.forget(oldest, self.is_shared);
        }
        while state.evicted.first_key_value().is_some_and(|(_, (_, at))| is_old(*at)) {
            let oldest = state.evicted.pop_first();
            state.forget(oldest, self.is_shared);
        }
    }

    /// The number of parked sessions.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.state.lock().parked.len()
    }

    /// Counts events that were not replayed because the page had counted them itself.
    pub fn count_counted(&self, events: u64) {
        self.counted.fetch_add(events, Ordering::Relaxed);
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
            acknowledged: read(&self.acknowledged),
            counted: read(&self.counted),
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
    /// Events that clients had acknowledged before their return.
    pub acknowledged: u64,
    /// Events that pages had counted themselves, and had not acknowledged.
    pub counted: u64,
    /// Channels whose events were not replayed, by the reason.
    pub gaps: [(Gap, u64); Gap::ALL.len()],
}

/// Several clients use one token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shared;

impl RegistryState {
    /// Adds the renewal of a record. Those of earlier places are removed once they are many.
    fn add_renewal(&mut self, at: Instant, name: &ClientName, number: u64) {
        if 2 * self.clients.len() + OLD_RENEWALS_MIN < self.renewals.len() {
            let clients = &self.clients;
            self.renewals.retain(|(_, name, number)| {
                clients.get(name).is_some_and(|client| client.number == *number)
            });
        }
        self.renewals.push_back((at, name.clone(), number));
    }

    /// Forgets what the client of the oldest session has, and keeps that something is missing.
    fn evict_oldest(&mut self, is_shared: bool) {
        if let Some((order, (name, parked_at))) = self.parked.pop_first()
            && let Some(client) = self.clients.get_mut(&name)
            && let ClientState::Parked { session, .. } = &mut client.state
        {
            **session = ParkedSession::unknown();
            if is_shared {
                self.evicted_places.push((name.clone(), client.number, client.socket_id));
            }
            self.evicted.insert(order, (name, parked_at));
        }
    }

    fn forget(&mut self, parked: Option<(u64, (ClientName, Instant))>, is_shared: bool) {
        if let Some((_, (name, _))) = parked
            && let Some(client) = self.clients.remove(&name)
        {
            self.forgotten.extend(is_shared.then_some((name, client.number)));
        }
    }
}
