//! State and helpers that all requests to Redis share.

use super::{
    cache_updates::CacheUpdates,
    channel_logs::LogDrops,
    clock::now,
    console_peers::ConsolePeers,
    envelope::EnvelopeId,
    fencing_token::FencingToken,
    link::RedisConnection,
    link_state::{JoinedLink, LinkState, LinkStateWatch},
    list_reads::ListReads,
    metrics::BrokerMetrics,
    names::KeyNames,
    notifiers::AppNotifiers,
    partition::Partition,
    publish_groups::PublishGroups,
    random,
    ready::ReadyNodes,
    recent_sequences::{LOGGED_RETENTION, LOGGED_TOPICS_MAX, MIN_RETENTION, RecentSequences},
    reports::NodeReports,
    scripts::Scripts,
    session_requests::SessionRequests,
    unforwarded::Unforwarded,
};
use crate::{broker::logs::LogSettings, config::ConnectionConfig, throttle::LogThrottle};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::{self, timeout_at};

/// The state that all requests to Redis share.
#[derive(Debug)]
pub(super) struct ClusterState {
    pub(super) names: KeyNames,
    pub(super) scripts: Scripts,
    pub(super) is_redis_cluster: bool,
    pub(super) link_state: LinkStateWatch,
    pub(super) redis_clocks: RedisClocks,
    /// The highest sequences of the channels that this node has published to.
    pub(super) published_sequences: RecentSequences,
    /// The highest sequences of channels with a log that this node has published to, or had received when it left them.
    pub(super) logged_sequences: RecentSequences,
    pub(super) cache_updates: CacheUpdates,
    pub(super) publish_groups: PublishGroups,
    pub(super) metrics: BrokerMetrics,
    pub(super) broker_wait: Duration,
    pub(super) notifiers: AppNotifiers,
    pub(super) log_throttles: LogThrottles,
    pub(super) ready_nodes: ReadyNodes,
    pub(super) list_reads: ListReads,
    pub(super) reports: NodeReports,
    pub(super) console_peers: ConsolePeers,
    pub(super) session_requests: SessionRequests,
    pub(super) unforwarded: Unforwarded,
    /// Logged events of each app that were dropped before their time, by publishes of this node.
    log_drops: Mutex<HashMap<Box<str>, LogDrops>>,
    /// What the logs of channels keep.
    pub(super) logs: LogSettings,
    draining: AtomicBool,
    /// Whether the memory policy of Redis was checked.
    memory_policy_checked: AtomicBool,
    /// The number of the link whose writes Redis rejects; 0 for none.
    fenced_link: AtomicU64,
    /// The latest round trip of a heartbeat, in microseconds.
    round_trip_us: AtomicU64,
    process: u32,
    next_envelope: AtomicU64,
}

/// Throttles of frequent log lines.
#[derive(Debug, Default)]
pub(super) struct LogThrottles {
    /// Publishes that Redis rejects from a node that is joined.
    pub(super) publishes: LogThrottle,
    /// Cleanups that have failed and are retried.
    pub(super) cleanups: LogThrottle,
    /// Topics for which pub/sub messages were lost.
    pub(super) missed: LogThrottle,
}

/// The clocks of the Redis servers, in ms since 1970. Scripts check deadlines by them. Each server of
/// a Redis Cluster has its own.
#[derive(Debug)]
pub(super) struct RedisClocks {
    reference: Instant,
    /// The estimated time of each partition's server at `reference`.
    at_reference_ms: Vec<AtomicI64>,
    steps: LogThrottle,
}

/// The minimum time without a reply after which Redis is suspected to be down.
const SUSPECT_AFTER: Duration = Duration::from_millis(500);
/// The same for a distant Redis: three round trips of 400 ms, and some time to spare. One slow
/// reply does not extend it further.
const SUSPECT_AFTER_MAX: Duration = Duration::from_millis(1_500);
/// How far a clock of Redis may step before that is logged.
const LOGGED_CLOCK_STEP: Duration = Duration::from_secs(1);
/// How much longer than the request's deadline a reply is awaited, since it may be in transit.
pub(super) const REPLY_GRACE: Duration = Duration::from_millis(100);

impl RedisClocks {
    fn new(partitions: usize) -> Self {
        let at_reference_ms = (0..partitions).map(|_| AtomicI64::new(0)).collect();
        Self { reference: now(), at_reference_ms, steps: LogThrottle::default() }
    }

    /// Records the time of the partition's server, taken between the two instants.
    pub(super) fn record(
        &self,
        partition: Partition,
        redis_ms: u64,
        (requested_at, replied_at): (Instant, Instant),
    ) {
        let middle = requested_at + replied_at.saturating_duration_since(requested_at) / 2;
        let at_reference =
            i64::try_from(redis_ms).unwrap_or(i64::MAX) - self.since_reference(middle);
        let before = self.at_reference_ms[partition.index()].swap(at_reference, Ordering::Relaxed);
        let step_ms = at_reference.saturating_sub(before);
        let is_step = before != 0 && is_step(step_ms, replied_at - requested_at);
        if let Some(count) = self.steps.record(u64::from(is_step), replied_at) {
            tracing::warn!(
                step_ms,
                count,
                %partition,
                "redis clock jumped (clock step or failover)"
            );
        }
    }

    /// The time of the partition's server at `instant`.
    pub(super) fn at(&self, partition: Partition, instant: Instant) -> i64 {
        self.at_reference_ms[partition.index()].load(Ordering::Relaxed)
            + self.since_reference(instant)
    }

    fn since_reference(&self, instant: Instant) -> i64 {
        i64::try_from(instant.saturating_duration_since(self.reference).as_millis())
            .unwrap_or(i64::MAX)
    }
}

/// Whether a change of a clock is larger than the error of half a round trip explains.
fn is_step(step_ms: i64, round_trip: Duration) -> bool {
    (LOGGED_CLOCK_STEP + round_trip).as_millis() <= u128::from(step_ms.unsigned_abs())
}

impl ClusterState {
    pub(super) fn new(prefix: &str, is_redis_cluster: bool, broker_wait: Duration) -> Self {
        let names = KeyNames::new(prefix, is_redis_cluster);
        Self {
            redis_clocks: RedisClocks::new(names.partitions().len()),
            names,
            scripts: Scripts::new(is_redis_cluster),
            is_redis_cluster,
            link_state: LinkStateWatch::new(LinkState::Unavailable("not joined yet".into())),
            published_sequences: RecentSequences::new(MIN_RETENTION, usize::MAX, now()),
            logged_sequences: RecentSequences::new(LOGGED_RETENTION, LOGGED_TOPICS_MAX, now()),
            cache_updates: CacheUpdates::default(),
            publish_groups: PublishGroups::default(),
            metrics: BrokerMetrics::default(),
            broker_wait,
            notifiers: AppNotifiers::default(),
            log_throttles: LogThrottles::default(),
            ready_nodes: ReadyNodes::default(),
            list_reads: ListReads::new(is_redis_cluster),
            reports: NodeReports::default(),
            console_peers: ConsolePeers::default(),
            session_requests: SessionRequests::default(),
            unforwarded: Unforwarded::default(),
            log_drops: Mutex::default(),
            logs: LogSettings::new(&ConnectionConfig::default()),
            draining: AtomicBool::new(false),
            memory_policy_checked: AtomicBool::new(false),
            fenced_link: AtomicU64::new(0),
            round_trip_us: AtomicU64::new(0),
            process: u32::try_from(random::random_u64() >> 40).expect("24 bits are left"),
            next_envelope: AtomicU64::new(0),
        }
    }

    /// Logs once that Redis may evict keys, if its memory policy allows it.
    pub(super) async fn warn_of_eviction(&self, connection: &RedisConnection) {
        if self.memory_policy_checked.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(warning) = connection.memory_warning().await {
            tracing::warn!("{warning}");
        }
    }

    /// Counts logged events that a publish has dropped.
    pub(super) fn count_log_drops(&self, app_id: &str, dropped: LogDrops) {
        if dropped != LogDrops::default() {
            let mut drops = self.log_drops.lock();
            let of_app = drops.entry(app_id.into()).or_default();
            of_app.of_channel += dropped.of_channel;
            of_app.of_partition += dropped.of_partition;
        }
    }

    /// The logged events of an app that publishes of this node have dropped.
    pub(super) fn log_drops(&self, app_id: &str) -> LogDrops {
        self.log_drops.lock().get(app_id).copied().unwrap_or_default()
    }

    /// This process's name in the cluster.
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

    /// A unique id for an envelope.
    pub(super) fn envelope_id(&self) -> EnvelopeId {
        let number = self.next_envelope.fetch_add(1, Ordering::Relaxed);
        let number = number & ((1 << EnvelopeId::COUNTER_BITS) - 1);
        EnvelopeId(u64::from(self.process) << EnvelopeId::COUNTER_BITS | number)
    }

    /// Whether an id belongs to this process and has not been used yet.
    pub(super) fn is_unassigned(&self, id: EnvelopeId) -> bool {
        id.process() == self.process && self.next_envelope.load(Ordering::Relaxed) <= id.counter()
    }

    /// The reason why the node is not joined; `None` if it is.
    pub(super) fn unavailable_reason(&self) -> Option<Arc<str>> {
        match &*self.link_state.borrow() {
            LinkState::Unavailable(reason) => Some(Arc::clone(&reason.text)),
            LinkState::Suspect => Some("redis does not answer".into()),
            LinkState::Joined(_) => None,
        }
    }

    /// Connection and fencing token, if the node is joined now.
    pub(super) fn joined_now(&self) -> Option<JoinedLink> {
        match &*self.link_state.borrow() {
            LinkState::Joined(joined) => Some(joined.clone()),
            LinkState::Unavailable(_) | LinkState::Suspect => None,
        }
    }

    /// Waits until the node is joined, until `deadline` at most.
    pub(super) async fn wait_joined(&self, deadline: Instant) -> Option<JoinedLink> {
        if let Some(joined) = self.joined_now() {
            return Some(joined);
        }
        let _waiting = self.metrics.start_waiting();
        timeout_at(deadline.into(), self.link_state.wait_joined()).await.ok()
    }

    /// How long a reply may take until Redis is suspected to be down.
    pub(super) fn suspect_after(&self) -> Duration {
        SUSPECT_AFTER.max(3 * self.round_trip()).min(SUSPECT_AFTER_MAX)
    }

    /// How long the last heartbeat took; zero before the first.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us.load(Ordering::Relaxed))
    }

    /// Records how long a heartbeat took.
    pub(super) fn set_round_trip(&self, round_trip: Duration) {
        let us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
        self.round_trip_us.store(us, Ordering::Relaxed);
    }

    /// Records that Redis rejects the writes of this link: the node has to join again.
    pub(super) fn on_fenced(&self, token: &FencingToken) {
        self.fenced_link.fetch_max(token.link_number, Ordering::Relaxed);
        self.mark_suspect();
    }

    /// Whether Redis rejects the writes of this link.
    pub(super) fn is_fenced(&self, link: u64) -> bool {
        self.fenced_link.load(Ordering::Relaxed) == link && link != 0
    }

    /// Clears the rejections of earlier links.
    pub(super) fn clear_fenced(&self) {
        self.fenced_link.store(0, Ordering::Relaxed);
    }

    /// Records that a reply of Redis is overdue. Nothing more is sent until it answers.
    pub(super) fn mark_suspect(&self) {
        self.link_state.mark_suspect();
    }

    /// Runs `request`, and suspects Redis when it takes long. `None` without a reply until `deadline`.
    pub(super) async fn await_reply<T>(
        &self,
        deadline: Instant,
        request: impl Future<Output = T>,
    ) -> Option<T> {
        let requested_at = now();
        let mut request = std::pin::pin!(request);
        let soon = time::timeout(self.suspect_after(), &mut request).await;
        let reply = if let Ok(reply) = soon {
            reply
        } else {
            self.mark_suspect();
            timeout_at((deadline + REPLY_GRACE).into(), request).await.ok()?
        };
        self.metrics.observe_latency(now().saturating_duration_since(requested_at));
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_redis_is_known_to_half_a_round_trip() {
        let clock = RedisClocks::new(2);
        let requested_at = clock.reference + Duration::from_millis(100);
        let after = |ms| requested_at + Duration::from_millis(ms);
        let mut partitions = Partition::all(2);
        let (first, second) = (partitions.next().unwrap(), partitions.next().unwrap());
        clock.record(first, 1_000_000, (requested_at, after(20)));
        clock.record(second, 5_000_000, (requested_at, after(20)));
        assert_eq!(clock.at(first, after(10)), 1_000_000);
        assert_eq!(clock.at(first, after(510)), 1_000_500);
        assert_eq!(clock.at(second, after(10)), 5_000_000);
    }

    #[test]
    fn a_clock_steps_where_no_round_trip_explains_it() {
        let ms = Duration::from_millis;
        for (step_ms, round_trip, expected) in [
            (1_000, ms(0), true),
            (-600_000, ms(400), true),
            (999, ms(0), false),
            (-1_300, ms(400), false),
            (i64::MIN, ms(400), true),
        ] {
            assert_eq!(is_step(step_ms, round_trip), expected, "{step_ms} {round_trip:?}");
        }
    }

    #[test]
    fn envelope_ids_are_unique() {
        let shared = ClusterState::new("p", false, Duration::ZERO);
        let (first, second) = (shared.envelope_id(), shared.envelope_id());
        assert_ne!(first, second);
        assert_eq!(format!("{:06x}", first.process()), shared.process());
    }

    fn token(link: u64) -> FencingToken {
        FencingToken {
            node: "a.1".into(),
            link_number: link,
            generations: vec!["g1".into(), "g2".into()],
        }
    }

    #[test]
    fn only_later_ids_of_this_process_are_unused() {
        let shared = ClusterState::new("p", false, Duration::ZERO);
        let (first, second) = (shared.envelope_id(), shared.envelope_id());
        assert_eq!(second.counter(), first.counter() + 1);
        let next = EnvelopeId(second.0 + 1);
        assert!(!shared.is_unassigned(first) && !shared.is_unassigned(second));
        assert!(shared.is_unassigned(next) && shared.is_unassigned(EnvelopeId(next.0 + 9)));
        let unexpected_data = EnvelopeId(next.0 ^ (1 << EnvelopeId::COUNTER_BITS));
        assert!(!shared.is_unassigned(unexpected_data));
        assert_eq!(shared.envelope_id(), next);
    }

    #[test]
    fn a_rejection_applies_to_one_link() {
        let shared = ClusterState::new("p", false, Duration::ZERO);
        assert!(!shared.is_fenced(0) && !shared.is_fenced(1), "none is");
        shared.on_fenced(&token(4));
        shared.on_fenced(&token(3));
        assert!(shared.is_fenced(4), "the latest");
        assert!(!shared.is_fenced(3) && !shared.is_fenced(5));
        shared.clear_fenced();
        assert!(!shared.is_fenced(4));
    }

    #[test]
    fn redis_is_suspected_later_on_a_slow_link() {
        let shared = ClusterState::new("p", false, Duration::ZERO);
        let ms = Duration::from_millis;
        for (round_trip, expected) in
            [(ms(1), SUSPECT_AFTER), (ms(300), ms(900)), (ms(9_000), SUSPECT_AFTER_MAX)]
        {
            shared.set_round_trip(round_trip);
            assert_eq!(shared.suspect_after(), expected, "{round_trip:?}");
        }
    }

    #[test]
    fn a_node_drains_from_its_decision_on() {
        let shared = ClusterState::new("p", false, Duration::ZERO);
        assert!(!shared.is_draining());
        shared.set_draining();
        assert!(shared.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_is_awaited_a_little_longer_than_its_deadline() {
        let shared = ClusterState::new("p", false, Duration::ZERO);
        let after = |ms| async move {
            time::sleep(Duration::from_millis(ms)).await;
            ms
        };
        let deadline = now() + Duration::from_secs(2);
        assert_eq!(shared.await_reply(deadline, after(100)).await, Some(100));
        let deadline = now() + Duration::from_secs(2);
        assert_eq!(shared.await_reply(deadline, after(2_050)).await, Some(2_050), "in transit");
        let (requested_at, deadline) = (now(), now() + Duration::from_secs(2));
        assert_eq!(shared.await_reply(deadline, after(9_000)).await, None);
        assert_eq!(now() - requested_at, Duration::from_secs(2) + REPLY_GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_join_ends_after_the_given_time() {
        let shared = ClusterState::new("p", false, Duration::ZERO);
        assert_eq!(shared.unavailable_reason().as_deref(), Some("not joined yet"));
        assert!(shared.joined_now().is_none());
        let started = now();
        assert!(shared.wait_joined(started + Duration::from_secs(2)).await.is_none());
        assert_eq!(now() - started, Duration::from_secs(2));
        shared.mark_suspect();
        assert_eq!(
            shared.unavailable_reason().as_deref(),
            Some("not joined yet"),
            "it is away already"
        );
    }
}
