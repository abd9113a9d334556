//! What everybody who asks Redis for something has in common.

use super::{
    accepted::Accepted, cache::Accounts, envelope::EnvelopeId, link::Connection,
    metrics::BrokerMetrics, names::Names, ready::ReadyNodes, scripts::Scripts, store::Bells,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{self, timeout_at},
};

/// How the node stands with the others.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// It does not hear them, and says nothing.
    Away(&'static str),
    /// It heard them until a moment ago, but Redis owes an answer.
    Suspect,
    /// It hears and is heard.
    Joined(Joined),
}

/// What a node has that is joined.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub(super) connection: Connection,
    /// The generation of Redis that it is joined in: what it publishes is not for another.
    pub(super) generation: Arc<str>,
}

/// Redis can't be asked now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unavailable;

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) names: Names,
    pub(super) scripts: Scripts,
    pub(super) is_cluster: bool,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) clock: Clock,
    pub(super) accepted: Accepted,
    pub(super) accounts: Accounts,
    pub(super) metrics: BrokerMetrics,
    pub(super) broker_wait: Duration,
    pub(super) bells: Bells,
    pub(super) others: ReadyNodes,
    draining: AtomicBool,
    process: u32,
    envelopes: AtomicU64,
}

/// The time as Redis has it, in ms since 1970: the scripts refuse what comes too late by it.
#[derive(Debug)]
pub(super) struct Clock {
    base: Instant,
    /// What Redis' clock showed at `base`, as far as we know.
    at_base_ms: AtomicI64,
}

/// How long an answer may take until Redis is suspected to be away.
pub(super) const SUSPECT_AFTER: Duration = Duration::from_millis(500);
/// How much longer than a request may wait its answer is waited for: on its way it may be still.
pub(super) const ANSWER_GRACE: Duration = Duration::from_millis(100);

impl Clock {
    fn new() -> Self {
        Self { base: Instant::now(), at_base_ms: AtomicI64::new(0) }
    }

    /// Learns what Redis' clock showed between the two instants.
    pub(super) fn learn(&self, redis_ms: u64, asked: Instant, answered: Instant) {
        let middle = asked + answered.saturating_duration_since(asked) / 2;
        let at_base = i64::try_from(redis_ms).unwrap_or(i64::MAX) - self.since_base(middle);
        self.at_base_ms.store(at_base, Ordering::Relaxed);
    }

    /// What Redis' clock shows at `instant`.
    pub(super) fn at(&self, instant: Instant) -> i64 {
        self.at_base_ms.load(Ordering::Relaxed) + self.since_base(instant)
    }

    fn since_base(&self, instant: Instant) -> i64 {
        i64::try_from(instant.saturating_duration_since(self.base).as_millis()).unwrap_or(i64::MAX)
    }
}

impl Shared {
    pub(super) fn new(prefix: &str, is_cluster: bool, broker_wait: Duration) -> Self {
        Self {
            names: Names::new(prefix),
            scripts: Scripts::new(is_cluster),
            is_cluster,
            standing: watch::Sender::new(Standing::Away("not joined yet")),
            clock: Clock::new(),
            accepted: Accepted::new(Instant::now()),
            accounts: Accounts::default(),
            metrics: BrokerMetrics::default(),
            broker_wait,
            bells: Bells::default(),
            others: ReadyNodes::default(),
            draining: AtomicBool::new(false),
            process: rand::random::<u32>() >> 8,
            envelopes: AtomicU64::new(0),
        }
    }

    /// This process's name among the others.
    pub(super) fn process(&self) -> String {
        format!("{:06x}", self.process)
    }

    /// Makes this node's heartbeats report from now on that it takes no more connections.
    pub(super) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// A name for an envelope that is given out once.
    pub(super) fn envelope_id(&self) -> EnvelopeId {
        let number = self.envelopes.fetch_add(1, Ordering::Relaxed);
        let number = number & ((1 << EnvelopeId::COUNTER_BITS) - 1);
        EnvelopeId(u64::from(self.process) << EnvelopeId::COUNTER_BITS | number)
    }

    /// Whether an id is this process's and has not been used yet.
    pub(super) fn has_yet_to_send(&self, id: EnvelopeId) -> bool {
        id.process() == self.process && self.envelopes.load(Ordering::Relaxed) <= id.number()
    }

    /// Why the node is not joined, or nothing if it is.
    pub(super) fn away_because(&self) -> Option<&'static str> {
        match &*self.standing.borrow() {
            Standing::Away(reason) => Some(reason),
            Standing::Suspect => Some("Redis does not answer"),
            Standing::Joined(_) => None,
        }
    }

    /// The way to Redis, if the node is joined now.
    pub(super) fn joined_now(&self) -> Option<Joined> {
        match &*self.standing.borrow() {
            Standing::Joined(joined) => Some(joined.clone()),
            Standing::Away(_) | Standing::Suspect => None,
        }
    }

    /// Waits until the node is joined, until `give_up` at most.
    pub(super) async fn joined(&self, give_up: Instant) -> Option<Joined> {
        if let Some(joined) = self.joined_now() {
            return Some(joined);
        }
        let _waiting = self.metrics.waiting();
        let mut standing = self.standing.subscribe();
        let joined = standing.wait_for(|standing| matches!(standing, Standing::Joined(_)));
        match timeout_at(give_up.into(), joined).await.ok()?.ok().as_deref() {
            Some(Standing::Joined(joined)) => Some(joined.clone()),
            Some(Standing::Away(_) | Standing::Suspect) | None => None,
        }
    }

    /// Notes that Redis owes an answer for too long. Nothing more is sent until it answers.
    pub(super) fn suspect(&self) {
        self.standing.send_if_modified(|standing| {
            let is_joined = matches!(standing, Standing::Joined(_));
            if is_joined {
                *standing = Standing::Suspect;
            }
            is_joined
        });
    }

    /// Runs `request`, and suspects Redis when it takes long. Nothing if there is no answer until
    /// `give_up`.
    pub(super) async fn answer<T>(
        &self,
        give_up: Instant,
        request: impl Future<Output = T>,
    ) -> Option<T> {
        let asked = Instant::now();
        let mut request = std::pin::pin!(request);
        let soon = time::timeout(SUSPECT_AFTER, &mut request).await;
        let answer = if let Ok(answer) = soon {
            answer
        } else {
            self.suspect();
            timeout_at((give_up + ANSWER_GRACE).into(), request).await.ok()?
        };
        self.metrics.answered_after(asked.elapsed());
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_redis_is_known_to_half_a_round_trip() {
        let clock = Clock::new();
        let asked = clock.base + Duration::from_millis(100);
        clock.learn(1_000_000, asked, asked + Duration::from_millis(20));
        assert_eq!(clock.at(asked + Duration::from_millis(10)), 1_000_000);
        assert_eq!(clock.at(asked + Duration::from_millis(510)), 1_000_500);
    }

    #[test]
    fn envelopes_have_names_of_their_own() {
        let shared = Shared::new("p", false, Duration::ZERO);
        let (first, second) = (shared.envelope_id(), shared.envelope_id());
        assert_ne!(first, second);
        assert_eq!(format!("{:06x}", first.process()), shared.process());
    }
}
