//! Channels, counts, members and users of one app on this node.
//!
//! Apps share nothing: each has its own hub, and no key can reach another app's channels. Every
//! change of a channel and every publish to it happens under that channel's lock. Code under a lock
//! never blocks: frames are pushed to the inboxes of the shards, which gives a channel one order
//! for all its subscribers. Transitions are reported by the operation that makes them.
//!
//! Each delivery advances its channel's sequence. A subscription starts at a sequence, and its
//! shard delivers only later ones: no gap, no duplicate, nothing before the acknowledgement.

mod attach;
#[path = "../broker/local/cache.rs"]
mod cache;
mod channel;
mod hub_event;
mod inbox;
mod query;
#[cfg(test)]
mod tests;
#[path = "../broker/local/timer_queue.rs"]
mod timer_queue;
#[path = "../broker/local/watchlists.rs"]
mod users;

pub use attach::InitialState;
pub use cache::{CacheStats, ToCache};
#[cfg(test)]
pub(crate) use hub_event::tests as hub_event_tests;
pub use hub_event::{HubEvent, Observer};
pub use inbox::{
    Attached, ConnectionKey, ConnectionRef, Delivery, Inbox, Inboxes, ShardIndex, ShardSet,
};
pub use query::{ChannelSummary, Counts};
pub use users::SignedIn;

use crate::{
    app::App,
    config::WebhookEvent as Kind,
    permit::{Permit, Quota},
    protocol::{ChannelName, Frame, Member, SocketId, SubscriptionRefusal, event},
    rate::{Rate, TokenBucket},
};
use arc_swap::ArcSwap;
use cache::Cache;
use channel::Channel;
use dashmap::{DashMap, Entry, mapref::one::RefMut};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use timer_queue::{TimerQueue, TimerTask};
use users::Users;

/// Identifies a channel to the shards. Ids are not reused, so a late delivery for a removed channel
/// finds no subscribers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ChannelId(pub(crate) u64);

/// The state of one app on this node.
#[derive(Debug)]
pub struct Hub {
    app: Arc<ArcSwap<App>>,
    app_id: Arc<str>,
    observer: Arc<dyn Observer>,
    is_one_of_many: bool,
    is_served: AtomicBool,
    inboxes: Arc<Inboxes>,
    channels: DashMap<ChannelName, Channel>,
    cache: Cache,
    users: Users,
    timers: TimerQueue,
    connections: Arc<Quota>,
    requests: Mutex<TokenBucket>,
    subscriptions: AtomicUsize,
    occupied: AtomicUsize,
}

/// A registered subscription.
#[derive(Clone, Debug)]
pub struct Subscribed {
    /// The channel's id in deliveries.
    pub channel: ChannelId,
    /// The sequence at which the subscription starts, exclusive.
    pub since: u64,
    /// The `subscription_succeeded` frame.
    pub acknowledgement: Frame,
    /// On a cache channel, the last event or `pusher:cache_miss`; sent directly after the
    /// acknowledgement.
    pub cached: Option<Frame>,
    /// The subscription count, unless it is sent to all subscribers anyway.
    pub count: Option<Frame>,
    /// The bytes that other subscribers receive because of this one.
    pub announced: usize,
}

/// The result of publishing an event on one channel.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Published {
    /// The counts of the channel at that moment.
    pub counts: Counts,
    /// The shards that deliver the event.
    pub shards: ShardSet,
}

impl Hub {
    /// Minimum interval of a channel's subscription counts once it has more than
    /// [`Hub::COUNT_UNTHROTTLED_MAX`] subscribers. Source: Pusher Channels docs, "Events".
    pub const COUNT_INTERVAL: Duration = Duration::from_secs(5);
    /// Up to this many subscribers, each change of the count is sent at once.
    pub const COUNT_UNTHROTTLED_MAX: usize = 100;
    /// How long a user may be without a connection before it is reported as offline, so that a page
    /// reload is not reported. Pusher's webhooks have the same delay.
    pub const OFFLINE_GRACE: Duration = Duration::from_secs(3);

    /// An empty hub for `app`, which delivers to `inboxes` and reports events to `observer`.
    #[must_use]
    pub fn new(app: App, inboxes: Arc<Inboxes>, observer: Arc<dyn Observer>, now: Instant) -> Self {
        Self {
            connections: Quota::new(app.config.max_connections),
            app_id: app.config.id.as_str().into(),
            is_served: AtomicBool::new(app.config.enabled),
            cache: Cache::new(app.config.max_cache_bytes),
            app: Arc::new(ArcSwap::from_pointee(app)),
            observer,
            is_one_of_many: false,
            inboxes,
            channels: DashMap::new(),
            users: Users::default(),
            timers: TimerQueue::default(),
            requests: Mutex::new(TokenBucket::full(now)),
            subscriptions: AtomicUsize::new(0),
            occupied: AtomicUsize::new(0),
        }
    }

    /// The same hub as part of a cluster, which makes the decisions for all nodes.
    #[must_use]
    pub fn clustered(mut self) -> Self {
        self.is_one_of_many = true;
        self
    }

    /// Reports an event to the observer, if it is of interest.
    pub fn observe(&self, kind: Kind, hub_event: impl FnOnce() -> HubEvent) {
        if self.wants(kind) {
            self.observer.observe(&self.app_id, hub_event());
        }
    }

    /// Whether the observer is interested in this kind of event.
    #[must_use]
    pub fn wants(&self, kind: Kind) -> bool {
        self.observer.wants(&self.app_id, kind)
    }

    /// Like [`Hub::observe`], for an event that was decided for all nodes at `at_us`.
    pub fn observe_at(&self, kind: Kind, at_us: u64, hub_event: impl FnOnce() -> HubEvent) {
        if self.wants(kind) {
            self.observer.observe_at(&self.app_id, at_us, hub_event());
        }
    }

    /// Reports an event that this hub decided. In a cluster it does nothing: the cluster reports
    /// the event for all nodes.
    fn decided(&self, kind: Kind, hub_event: impl FnOnce() -> HubEvent) {
        if !self.is_one_of_many {
            self.observe(kind, hub_event);
        }
    }

    /// The app's id.
    #[must_use]
    pub fn app_id(&self) -> Arc<str> {
        Arc::clone(&self.app_id)
    }

    /// The app's current configuration.
    #[must_use]
    pub fn app(&self) -> Arc<App> {
        self.app.load_full()
    }

    /// The app's configuration as a handle, for users that outlive a reload.
    #[must_use]
    pub fn live_app(&self) -> Arc<ArcSwap<App>> {
        Arc::clone(&self.app)
    }

    /// Applies another configuration of the app with the same id and key. If it disables the app,
    /// its connections are closed as by [`Hub::close`].
    pub fn reconfigure(self: &Arc<Self>, app: App) {
        self.connections.set_max(app.config.max_connections);
        self.cache.set_max_bytes(app.config.max_cache_bytes);
        let is_enabled = app.config.enabled;
        self.app.store(Arc::new(app));
        if is_enabled {
            self.is_served.store(true, Ordering::SeqCst);
        } else {
            self.close();
        }
    }

    /// Makes the shards close all connections of the app, which is not served any more.
    pub fn close(self: &Arc<Self>) {
        if !self.is_served.swap(false, Ordering::SeqCst) {
            return;
        }
        // Connections that are admitted later check the flag.
        for shard in self.inboxes.shards() {
            self.inboxes.of(shard).push(Delivery::CloseHub(Arc::clone(self)));
        }
    }

    /// Whether the app is configured and enabled.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.is_served.load(Ordering::SeqCst)
    }

    /// Takes a permit of the app's `max_connections`; `None` at the limit.
    #[must_use]
    pub fn admit(&self) -> Option<Permit> {
        self.connections.take()
    }

    /// Counts an authenticated request against the app's `requests_per_second`.
    ///
    /// # Errors
    ///
    /// The rate is exceeded. Contains the time until the next request is allowed.
    pub fn admit_request(&self, now: Instant) -> Result<(), Duration> {
        let rate = Rate::per_second(self.app.load().config.requests_per_second);
        self.requests.lock().take(rate, now)
    }

    /// Registers a subscription of a connection of `shard`, and notifies the other subscribers.
    ///
    /// # Errors
    ///
    /// [`SubscriptionRefusal::RosterFull`] if `member` exceeds the limit; nothing has changed.
    pub fn subscribe(
        &self,
        shard: ShardIndex,
        name: &ChannelName,
        member: Option<&Member>,
        now: Instant,
    ) -> Result<Subscribed, SubscriptionRefusal> {
        let mut entry = self.enter(name);
        let channel = entry.value_mut();
        // Only an existing channel can be full, so a rejection never creates one.
        let announced = channel.join(name, member, self.app.load().config.max_presence_members)?;
        let is_first = channel.subscribers() == 0;
        self.count_subscription(name, is_first);
        if is_first && name.server_to_user().is_none() {
            self.decided(Kind::ChannelOccupied, || HubEvent::Occupied { channel: name.clone() });
        }
        let mut announced_bytes = 0;
        if let Some(member_added) = announced {
            announced_bytes = channel.subscribers() * member_added.bytes().len();
            channel.deliver(&self.inboxes, &member_added, None);
            if let Some(member) = member {
                self.decided(Kind::MemberAdded, || HubEvent::MemberAdded {
                    channel: name.clone(),
                    user_id: Arc::clone(&member.user_id),
                });
            }
        }
        channel.add_subscriber(shard);
        let subscribed = Subscribed {
            channel: channel.id(),
            since: channel.sequence(),
            acknowledgement: channel.acknowledgement(name),
            cached: name.is_cache().then(|| self.cached_or_miss(name, now)),
            count: None,
            announced: announced_bytes,
        };
        self.count_changed(name, channel, now);
        Ok(subscribed)
    }

    /// The last event of a cache channel, or a cache miss, which is reported to the observer.
    fn cached_or_miss(&self, name: &ChannelName, now: Instant) -> Frame {
        self.cache.frame(name, now).unwrap_or_else(|| {
            self.observe(Kind::CacheMiss, || HubEvent::CacheMiss { channel: name.clone() });
            event::cache_miss(name)
        })
    }

    fn count_subscription(&self, name: &ChannelName, is_first: bool) {
        if is_first && name.server_to_user().is_none() {
            self.occupied.fetch_add(1, Ordering::Relaxed);
        }
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
    }

    /// The locked channel, created if it does not exist.
    fn enter(&self, name: &ChannelName) -> RefMut<'_, ChannelName, Channel> {
        self.channels
            .entry(name.clone())
            .or_insert_with(|| Channel::new(ChannelId(self.inboxes.next_id())))
    }

    /// Ends a subscription, and notifies the remaining subscribers.
    pub fn unsubscribe(
        &self,
        shard: ShardIndex,
        name: &ChannelName,
        user_id: Option<&str>,
        now: Instant,
    ) {
        let Some(mut entry) = self.channels.get_mut(name) else { return };
        let channel = entry.value_mut();
        channel.remove_subscriber(shard);
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
        if let Some(member_removed) = user_id.and_then(|user_id| channel.leave(name, user_id)) {
            channel.deliver(&self.inboxes, &member_removed, None);
            if let Some(user_id) = user_id {
                self.decided(Kind::MemberRemoved, || HubEvent::MemberRemoved {
                    channel: name.clone(),
                    user_id: user_id.into(),
                });
            }
        }
        if channel.subscribers() == 0 {
            if name.server_to_user().is_none() {
                self.occupied.fetch_sub(1, Ordering::Relaxed);
                self.decided(Kind::ChannelVacated, || HubEvent::Vacated { channel: name.clone() });
            }
            drop(entry);
            self.channels.remove_if(name, |_, channel| channel.is_disposable());
        } else {
            self.count_changed(name, channel, now);
        }
    }

    /// Delivers `frame` to every subscriber of the channel except `except`. A cache channel keeps
    /// `to_cache`, even without subscribers.
    pub fn publish(
        &self,
        name: &ChannelName,
        frame: &Frame,
        except: Option<SocketId>,
        to_cache: Option<&ToCache>,
        now: Instant,
    ) -> Published {
        let Some(event) = to_cache.filter(|_| name.is_cache()) else {
            let channel = self.channels.get_mut(name);
            return channel.map_or_else(Published::default, |mut channel| {
                self.deliver(&mut channel, frame, except)
            });
        };
        let expires_at = now + Duration::from_secs(self.app.load().config.cache_ttl_s);
        // The lock blocks subscriptions even if the channel does not exist, so that no subscriber
        // misses the event or receives it twice.
        let mut entry = self.channels.entry(name.clone());
        self.cache.keep(name, event, frame, expires_at);
        match &mut entry {
            Entry::Occupied(channel) => self.deliver(channel.get_mut(), frame, except),
            Entry::Vacant(_) => Published::default(),
        }
    }

    fn deliver(&self, channel: &mut Channel, frame: &Frame, except: Option<SocketId>) -> Published {
        channel.deliver(&self.inboxes, frame, except);
        Published { counts: channel.counts(), shards: channel.shards() }
    }

    /// Sends the subscription count, at once or when its interval has passed.
    fn count_changed(&self, name: &ChannelName, channel: &mut Channel, now: Instant) {
        let is_counted = !name.is_presence() && name.server_to_user().is_none();
        if !is_counted || self.is_one_of_many || !self.app.load().config.subscription_count {
            return;
        }
        match channel.announce_count(&self.inboxes, name, now) {
            Ok(Some(count)) => {
                let channel = name.clone();
                let told = || HubEvent::SubscriptionCount { channel, count };
                self.decided(Kind::SubscriptionCount, told);
            }
            Ok(None) => {}
            Err(not_before) => self.timers.add(not_before, TimerTask::AnnounceCount(name.clone())),
        }
    }

    /// Runs the due timers, and removes expired events.
    pub fn on_time(&self, now: Instant) {
        self.cache.expire(now);
        while let Some(task) = self.timers.take_due(now) {
            match task {
                TimerTask::AnnounceCount(name) => {
                    if let Some(mut channel) = self.channels.get_mut(&name) {
                        channel.count_is_due();
                        self.count_changed(&name, &mut channel, now);
                    }
                }
                TimerTask::GoOffline(user_id) => self.user_is_due(&user_id, now),
            }
        }
    }
}
