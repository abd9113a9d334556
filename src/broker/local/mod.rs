//! A single node: it has all subscribers, and decides at once, under the lock of the channel or user.
//!
//! A decision is delivered and reported under the lock that it was made under, so that subscribers
//! and observer receive the transitions in order.

mod cache;
mod publish_records;
#[cfg(test)]
mod tests;
mod timer_queue;
mod user_states;

pub use cache::CacheStats;

use super::{
    AcceptedClientEvent, AppEvent, HistoryRead, IDEMPOTENCY_WINDOW, LogRequest, LogStats,
    SignInMessages, SubscribeRequest,
    logs::{HistoryRule, Logs, NodeLogs},
};
use crate::{
    alarm::Alarm,
    channel::{
        ChannelState, ChannelSummary, CountAction, Counts, HistoryQuery,
        supports_subscription_count,
    },
    config::{ConnectionConfig, WebhookEvent},
    hub::{
        ConnectionRef, Hub, HubEvent, LockedChannel, RegisteredSubscription, ShardIndex, ShardSet,
    },
    protocol::{ChannelName, Frame, SubscriptionRejection, User, event},
};
use cache::{Cache, EventToCache};
use parking_lot::Mutex;
use publish_records::PublishRecords;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use timer_queue::{TimerQueue, TimerTask};
use user_states::UserStates;

/// What a single node has for all apps.
#[derive(Debug)]
pub struct LocalBroker {
    logs: Arc<NodeLogs>,
    /// Set when a tick has something to do.
    alarm: Arc<Alarm>,
    repeated_publishes: AtomicU64,
}

impl LocalBroker {
    /// A broker without apps. `connection` are the limits of its connections.
    pub(super) fn new(connection: &ConnectionConfig, alarm: &Arc<Alarm>) -> Self {
        Self {
            logs: NodeLogs::new(connection, alarm),
            alarm: Arc::clone(alarm),
            repeated_publishes: AtomicU64::new(0),
        }
    }

    pub(super) fn repeated_publishes(&self) -> u64 {
        self.repeated_publishes.load(Ordering::Relaxed)
    }
}

/// The state of one app that does not belong to one channel.
#[derive(Debug)]
struct AppState {
    cache: Cache,
    logs: Logs,
    /// Locked before a channel is.
    records: Mutex<PublishRecords>,
    users: UserStates,
    timers: TimerQueue,
}

fn app_state(hub: &Hub) -> &AppState {
    hub.broker_state(|| AppState {
        cache: Cache::new(hub.read_config(|config| config.max_cache_bytes)),
        logs: Logs::new(rand::random(), hub.read_config(HistoryRule::of_app)),
        records: Mutex::default(),
        users: UserStates::default(),
        timers: TimerQueue::default(),
    })
}

/// Applies a changed configuration of the hub's app.
pub(super) fn apply_config(broker: &LocalBroker, hub: &Hub, now: Instant) {
    let rules = hub.read_config(HistoryRule::of_app);
    app_state(hub).logs.set_rules(&broker.logs, rules, now);
    app_state(hub).cache.set_max_bytes(hub.read_config(|config| config.max_cache_bytes));
}

/// Registers a subscription, and notifies the other subscribers.
pub(super) fn subscribe(
    broker: &LocalBroker,
    hub: &Hub,
    request: SubscribeRequest<'_>,
    now: Instant,
) -> Result<RegisteredSubscription, SubscriptionRejection> {
    let SubscribeRequest { connection, socket_id, channel: name, member, log, .. } = request;
    let member = member.as_ref();
    let mut channel = hub.lock_or_create(name);
    // Only an existing channel can be full, so a rejection never creates one.
    let max_members = hub.read_config(|config| config.max_presence_members);
    let joined = channel.state().join(member, max_members)?;
    if joined.became_occupied && name.is_listed() {
        hub.observe(WebhookEvent::ChannelOccupied, || HubEvent::Occupied { channel: name.clone() });
    }
    let mut broadcast_bytes = 0;
    if let Some(member) = member.filter(|_| joined.member_added) {
        let member_added = event::member_added(name, member);
        let others = channel.state().counts().subscriptions - 1;
        broadcast_bytes = others * member_added.bytes().len();
        channel.deliver(&member_added, None);
        hub.observe(WebhookEvent::MemberAdded, || HubEvent::MemberAdded {
            channel: name.clone(),
            user_id: Arc::clone(&member.user_id),
        });
    }
    channel.add_subscriber(connection.shard);
    let log = app_state(hub).logs.subscribe(&broker.logs, name, log, socket_id, now);
    // The replay ends with the cached event, unless the client has it.
    let has_cached = log.as_ref().is_some_and(|start| {
        let resumes = matches!(request.log, LogRequest::After(_));
        start.replay.as_ref().is_ok_and(|replay| resumes || !replay.is_empty())
    });
    let subscribed = RegisteredSubscription {
        channel: channel.id(),
        after_sequence: channel.sequence(),
        succeeded_frame: channel.state().succeeded_frame(name),
        cached: (name.is_cache() && !has_cached).then(|| cached_or_miss(hub, name, now)),
        count: None,
        broadcast_bytes,
        log,
    };
    send_count(broker, hub, &mut channel, now);
    Ok(subscribed)
}

/// The cached event of a cache channel, or a cache miss, which is reported to the observer.
fn cached_or_miss(hub: &Hub, name: &ChannelName, now: Instant) -> Frame {
    app_state(hub).cache.frame(name, now).unwrap_or_else(|| {
        hub.observe(WebhookEvent::CacheMiss, || HubEvent::CacheMiss { channel: name.clone() });
        event::cache_miss(name)
    })
}

/// Ends a subscription, and notifies the remaining subscribers.
pub(super) fn unsubscribe(
    broker: &LocalBroker,
    hub: &Hub,
    shard: ShardIndex,
    name: &ChannelName,
    user_id: Option<&Arc<str>>,
    now: Instant,
) {
    let Some(mut channel) = hub.lock(name) else { return };
    channel.remove_subscriber(shard);
    let left = channel.state().leave(user_id.map(|id| &**id));
    if let Some(user_id) = user_id.filter(|_| left.member_removed) {
        channel.deliver(&event::member_removed(name, user_id), None);
        hub.observe(WebhookEvent::MemberRemoved, || HubEvent::MemberRemoved {
            channel: name.clone(),
            user_id: Arc::clone(user_id),
        });
    }
    if !left.became_vacant {
        send_count(broker, hub, &mut channel, now);
    } else if name.is_listed() {
        hub.observe(WebhookEvent::ChannelVacated, || HubEvent::Vacated { channel: name.clone() });
    }
    channel.remove_if_empty();
}

/// Sends the subscription count, at once or when its interval has passed.
fn send_count(broker: &LocalBroker, hub: &Hub, channel: &mut LockedChannel<'_>, now: Instant) {
    let name = channel.name();
    if !supports_subscription_count(name) || !hub.read_config(|config| config.subscription_count) {
        return;
    }
    match channel.state().count_action(now) {
        CountAction::Send(count) => {
            channel.deliver(&event::subscription_count(name, count), None);
            hub.observe(WebhookEvent::SubscriptionCount, || HubEvent::SubscriptionCount {
                channel: name.clone(),
                count,
            });
        }
        CountAction::CheckAt(until) => {
            app_state(hub).timers.add(until, TimerTask::SendCount(name.clone()), &broker.alarm);
        }
        CountAction::Skip => {}
    }
}

/// Publishes events, each on its channels, in this order. Returns the counts of each channel, and
/// the shards that have deliveries.
pub(super) fn publish(
    broker: &LocalBroker,
    hub: &Hub,
    events: &[AppEvent<'_>],
    now: Instant,
) -> (Vec<Counts>, ShardSet) {
    let state = app_state(hub);
    let mut shards = ShardSet::default();
    let mut counts = Vec::new();
    for event in events {
        let is_cached = event.channels.iter().any(ChannelName::is_cache);
        let to_cache = is_cached.then(|| {
            let ttl = Duration::from_secs(hub.read_config(|config| config.cache_ttl_s));
            (EventToCache::new(&event.name, &event.data), now + ttl)
        });
        let mut publish = |name: &ChannelName| {
            let (counts, reached) =
                publish_on((broker, hub, state), event, name, to_cache.as_ref(), now);
            shards = shards.union(reached);
            counts
        };
        if event.idempotency_key.is_none() {
            counts.extend(event.channels.iter().map(publish));
            continue;
        }
        // Locked until the event is published, so that a repetition at the same time receives the same counts.
        let mut records = state.records.lock();
        for name in &event.channels {
            let Some(id) = event.publish_id(name) else { continue };
            if let Some(earlier) = records.get(id, now) {
                broker.repeated_publishes.fetch_add(1, Ordering::Relaxed);
                counts.push(earlier);
                continue;
            }
            let published = publish(name);
            records.insert(id, published, now);
            broker.alarm.set(now + IDEMPOTENCY_WINDOW);
            counts.push(published);
        }
    }
    (counts, shards)
}

/// Publishes an event on one channel. Returns the channel's counts, and the shards that have deliveries.
fn publish_on(
    (broker, hub, state): (&LocalBroker, &Hub, &AppState),
    event: &AppEvent<'_>,
    name: &ChannelName,
    to_cache: Option<&(EventToCache, Instant)>,
    now: Instant,
) -> (Counts, ShardSet) {
    let AppState { cache, logs, .. } = state;
    let frame = event::app_event(&event.name, name, &event.data, now);
    if hub.watches().is_active() {
        hub.watches().event(&hub.app_id(), name, &frame, event.except);
    }
    let deliver = |channel: &mut LockedChannel<'_>, logged: u64| {
        channel.deliver_logged(&frame, event.except, logged);
        (channel.state().counts(), channel.shards())
    };
    let log = || logs.append(&broker.logs, name, &frame, event.except, now);
    let to_cache = to_cache.filter(|_| name.is_cache());
    let delivered = if to_cache.is_some() || logs.is_active() {
        // It is cached and logged even without subscribers, and under the lock, so that no new
        // subscriber misses the event or receives it twice.
        hub.with_lock(name, |channel| {
            if let Some((to_cache, expires_at)) = to_cache {
                cache.insert(name, to_cache, &frame, *expires_at);
                broker.alarm.set(*expires_at);
            }
            let logged = log();
            channel.map(|channel| deliver(channel, logged))
        })
    } else {
        // Under the lock again: a first subscriber may have begun a log.
        hub.lock(name).map(|mut channel| deliver(&mut channel, log()))
    };
    delivered.unwrap_or_default()
}

/// Delivers a client event to the other subscribers.
pub(super) fn publish_client_event(hub: &Hub, event: AcceptedClientEvent<'_>, now: Instant) {
    let frame = event.frame(now);
    if hub.watches().is_active() {
        hub.watches().event(&hub.app_id(), event.channel, &frame, Some(event.sender));
    }
    hub.deliver(event.channel, &frame, Some(event.sender));
    hub.observe(WebhookEvent::ClientEvent, || event.hub_event());
}

/// Signs a connection in. `previous` is its sign-in until now.
pub(super) fn sign_in(
    hub: &Hub,
    connection: ConnectionRef,
    user: &User,
    user_data: &str,
    previous: Option<&User>,
) -> SignInMessages {
    let users = &app_state(hub).users;
    for watched in previous.iter().flat_map(|user| &user.watchlist) {
        users.unwatch(watched, connection);
    }
    if hub.sign_in(&user.id, connection) {
        users.connect(hub, &user.id);
    }
    let (online, offline): (Vec<&Arc<str>>, Vec<&Arc<str>>) =
        user.watchlist.iter().partition(|watched| users.watch(watched, connection));
    let watchlist = (!user.watchlist.is_empty()).then(|| event::watchlist(&online, &offline));
    SignInMessages { success: event::signin_success(user_data), watchlist }
}

/// Signs a connection out that was signed in as `user`.
pub(super) fn sign_out(
    broker: &LocalBroker,
    hub: &Hub,
    connection: ConnectionRef,
    user: &User,
    now: Instant,
) {
    let state = app_state(hub);
    for watched in &user.watchlist {
        state.users.unwatch(watched, connection);
    }
    if hub.sign_out(&user.id, connection)
        && let Some(due) = state.users.disconnect(&user.id, now)
    {
        state.timers.add(due, TimerTask::GoOffline(Arc::clone(&user.id)), &broker.alarm);
    }
}

/// The channels with subscribers whose names begin with `prefix`, without server-to-user channels.
pub(super) fn occupied_channels(hub: &Hub, prefix: &str) -> Vec<(ChannelName, Counts)> {
    hub.read_each(|name, state| {
        let counts = state.counts();
        let is_wanted =
            name.as_str().starts_with(prefix) && 0 < counts.subscriptions && name.is_listed();
        is_wanted.then(|| (name.clone(), counts))
    })
}

/// The state of one channel, whether or not it has subscribers.
pub(super) fn channel(hub: &Hub, name: &ChannelName, now: Instant) -> ChannelSummary {
    ChannelSummary {
        counts: hub.read(name, ChannelState::counts).unwrap_or_default(),
        cached: app_state(hub).cache.data(name, now),
    }
}

/// The distinct members of a presence channel and their infos, sorted by id.
pub(super) fn users(hub: &Hub, name: &ChannelName) -> Vec<(Arc<str>, Arc<str>)> {
    hub.read(name, ChannelState::members).unwrap_or_default()
}

/// Counters of the cached events of cache channels.
pub(super) fn cache_stats(hub: &Hub) -> CacheStats {
    app_state(hub).cache.stats()
}

/// Ends the use of a channel's log by a subscription.
pub(super) fn release_log(broker: &LocalBroker, hub: &Hub, channel: &ChannelName, now: Instant) {
    app_state(hub).logs.release(&broker.logs, channel, now);
}

/// The events of a channel that are kept.
pub(super) fn history(
    hub: &Hub,
    name: &ChannelName,
    query: &HistoryQuery,
    now: Instant,
) -> HistoryRead {
    app_state(hub).logs.history(name, query, now)
}

/// Counters of the logs of channels.
pub(super) fn log_stats(hub: &Hub) -> LogStats {
    app_state(hub).logs.stats()
}

/// Runs the due timers, and removes expired events. Returns when the next ones are due.
pub(super) fn on_tick(broker: &LocalBroker, hub: &Hub, now: Instant) -> Option<Instant> {
    let state = app_state(hub);
    let next_expiry = [
        state.cache.expire(now),
        state.logs.expire(&broker.logs, now),
        state.records.lock().expire(now),
    ];
    while let Some(task) = state.timers.pop_due(now) {
        match task {
            TimerTask::SendCount(name) => {
                if let Some(mut channel) = hub.lock(&name)
                    && channel.state().take_due_count(now)
                {
                    send_count(broker, hub, &mut channel, now);
                }
            }
            TimerTask::GoOffline(user_id) => state.users.go_offline_if_due(hub, &user_id, now),
        }
    }
    next_expiry.into_iter().chain([state.timers.next_due()]).flatten().min()
}
