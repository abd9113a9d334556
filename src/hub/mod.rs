//! The subscribers and signed-in connections of one app on this node, and their inboxes.
//!
//! Apps share nothing: each has its own hub, and no key can reach another app's channels. The hub
//! decides nothing about channels and users; the broker does. It locks a channel, decides, and
//! delivers under that lock. Code under a lock never blocks: it pushes frames to the inboxes of the
//! shards, so that all subscribers of a channel receive them in one order.
//!
//! Each delivery advances its channel's sequence. A subscription starts at a sequence, and its
//! shard delivers only later ones: no gap, no duplicate, nothing before the acknowledgement.

mod activity;
mod channel;
mod connections;
mod hub_event;
mod inbox;
mod results;
mod slow;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod users;
mod watch;

pub use activity::{ActivityOrder, ChannelActivity, ChannelSequences};
pub use channel::LockedChannel;
pub use connections::{
    ConnectionFilter, ConnectionState, ConnectionWatch, ConnectionWatcher, ConnectionsQuery,
    MessageCounts, WatchedMessage,
};
#[cfg(test)]
pub(crate) use hub_event::tests as hub_event_tests;
pub use hub_event::{HubEvent, Observer};
pub use inbox::{
    AcceptedSubscription, ClaimOutcome, ConnectionKey, ConnectionRef, Delivery, Inbox, Inboxes,
    ShardIndex, ShardSet,
};
pub use results::InitialMessages;
pub use slow::{SlowConnection, SlowConnectionsQuery};
pub use users::UserClose;
pub use watch::{ChannelWatcher, ChannelWatches, WatchedEvent};

use crate::{
    app::App,
    channel::{ChannelState, LogStart},
    config::{AppConfig, WebhookEvent},
    permit::{Permit, Quota},
    protocol::{ChannelName, Frame, SocketId},
    rate::{Rate, TokenBucket},
};
use arc_swap::ArcSwap;
use channel::Channel;
use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use std::{
    any::Any,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use users::SignedInConnections;

/// Identifies a channel to the shards. Ids are not reused, so a late delivery for a removed channel
/// finds no subscribers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ChannelId(pub(crate) u64);

/// An app on this node: its configuration, channels, signed-in connections and counters.
#[derive(Debug)]
pub struct Hub {
    app: Arc<ArcSwap<App>>,
    app_id: Arc<str>,
    observer: Arc<dyn Observer>,
    is_enabled: AtomicBool,
    inboxes: Arc<Inboxes>,
    channels: DashMap<ChannelName, Channel>,
    signed_in: SignedInConnections,
    broker_state: OnceLock<Box<dyn Any + Send + Sync>>,
    connection_quota: Arc<Quota>,
    activity_quota: Arc<Quota>,
    request_bucket: Mutex<TokenBucket>,
    subscription_count: AtomicUsize,
    channel_count: AtomicUsize,
}

/// A registered subscription: where it starts, and what its client receives first.
#[derive(Clone, Debug)]
pub struct RegisteredSubscription {
    /// Identifies the channel to the shards. Not reused.
    pub channel: ChannelId,
    /// The sequence of the last delivery before the subscription: it receives the later ones.
    pub after_sequence: u64,
    /// The `subscription_succeeded` frame.
    pub succeeded_frame: Frame,
    /// On a cache channel, the cached event or `pusher:cache_miss`; sent directly after the
    /// acknowledgement.
    pub cached: Option<Frame>,
    /// The subscription count, unless it is sent to all subscribers anyway.
    pub count: Option<Frame>,
    /// The bytes that other subscribers receive because of this one.
    pub broadcast_bytes: usize,
    /// Where it begins in the channel's log, if it uses it. The replay is sent after the acknowledgement, and
    /// before later deliveries.
    pub log: Option<LogStart>,
}

impl Hub {
    /// A hub without channels, which delivers to `inboxes` and reports events to `observer`.
    #[must_use]
    pub fn new(app: App, inboxes: Arc<Inboxes>, observer: Arc<dyn Observer>, now: Instant) -> Self {
        Self {
            connection_quota: Quota::new(app.config.max_connections),
            activity_quota: Quota::new(activity::CONCURRENT_MAX),
            app_id: app.config.id.as_str().into(),
            is_enabled: AtomicBool::new(app.config.enabled),
            app: Arc::new(ArcSwap::from_pointee(app)),
            observer,
            inboxes,
            channels: DashMap::new(),
            signed_in: SignedInConnections::default(),
            broker_state: OnceLock::new(),
            request_bucket: Mutex::new(TokenBucket::full(now)),
            subscription_count: AtomicUsize::new(0),
            channel_count: AtomicUsize::new(0),
        }
    }

    /// The state that the broker keeps for the app besides the channels, made by `init` at its first
    /// use. The hub does not use it.
    ///
    /// # Panics
    ///
    /// If it was made with another type before.
    pub fn broker_state<T: Any + Send + Sync>(&self, init: impl FnOnce() -> T) -> &T {
        let state = self.broker_state.get_or_init(|| Box::new(init()));
        state.downcast_ref().expect("a hub has one broker")
    }

    /// Reports an event to the observer, if it is of interest.
    pub fn observe(&self, kind: WebhookEvent, hub_event: impl FnOnce() -> HubEvent) {
        if self.wants(kind) {
            self.observer.observe(&self.app_id, hub_event());
        }
    }

    /// Whether the observer is interested in this kind of event.
    #[must_use]
    pub fn wants(&self, kind: WebhookEvent) -> bool {
        self.observer.wants(&self.app_id, kind)
    }

    /// Like [`Hub::observe`], for an event that Redis has decided at `at_us`.
    pub fn observe_at(&self, kind: WebhookEvent, at_us: u64, hub_event: impl FnOnce() -> HubEvent) {
        if self.wants(kind) {
            self.observer.observe_at(&self.app_id, at_us, hub_event());
        }
    }

    /// The id from the configuration, which never changes.
    #[must_use]
    pub fn app_id(&self) -> Arc<str> {
        Arc::clone(&self.app_id)
    }

    /// The app with its current configuration; a reload replaces it.
    #[must_use]
    pub fn app(&self) -> Arc<App> {
        self.app.load_full()
    }

    /// Reads the app's current configuration; cheaper than [`Hub::app`].
    pub fn read_config<T>(&self, read: impl FnOnce(&AppConfig) -> T) -> T {
        read(&self.app.load().config)
    }

    /// A handle that always has the current configuration, also after a reload.
    #[must_use]
    pub fn app_handle(&self) -> Arc<ArcSwap<App>> {
        Arc::clone(&self.app)
    }

    /// Replaces the configuration; the id and the key are the same. If it disables the app,
    /// its connections are closed as by [`Hub::close`].
    pub fn reconfigure(self: &Arc<Self>, app: App) {
        self.connection_quota.set_max(app.config.max_connections);
        let is_enabled = app.config.enabled;
        self.app.store(Arc::new(app));
        if is_enabled {
            self.is_enabled.store(true, Ordering::SeqCst);
        } else {
            self.close();
        }
    }

    /// Disables the app: the shards close its connections.
    pub fn close(self: &Arc<Self>) {
        if !self.is_enabled.swap(false, Ordering::SeqCst) {
            return;
        }
        // Connections that are admitted later check the flag.
        for shard in self.inboxes.shards() {
            self.inboxes.inbox(shard).push(Delivery::CloseApp(Arc::clone(self)));
        }
    }

    /// False once the app is disabled, or removed from the configuration.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.is_enabled.load(Ordering::SeqCst)
    }

    /// Takes a permit of the app's `max_connections`; `None` at the limit.
    #[must_use]
    pub fn admit(&self) -> Option<Permit> {
        self.connection_quota.try_acquire()
    }

    /// Counts an authenticated request against the app's `requests_per_second`.
    ///
    /// # Errors
    ///
    /// The rate is exceeded. Contains the time until the next request is allowed.
    pub fn admit_request(&self, now: Instant) -> Result<(), Duration> {
        let rate = Rate::per_second(self.app.load().config.requests_per_second);
        self.request_bucket.lock().take(rate, now)
    }

    /// Locks a channel, and creates it if needed. The caller must add a subscriber, or the empty
    /// channel is never removed.
    #[must_use]
    pub fn lock_or_create<'a>(&'a self, name: &'a ChannelName) -> LockedChannel<'a> {
        let make = || Channel::new(ChannelId(self.inboxes.next_id()));
        let channel = self.channels.entry(name.clone()).or_insert_with(make);
        LockedChannel { hub: self, name, channel }
    }

    /// Locks a channel, if it has subscribers on this node.
    #[must_use]
    pub fn lock<'a>(&'a self, name: &'a ChannelName) -> Option<LockedChannel<'a>> {
        let channel = self.channels.get_mut(name)?;
        Some(LockedChannel { hub: self, name, channel })
    }

    /// Runs `decide` under the lock of a channel. It receives `None` if this node has no subscribers;
    /// the name is locked all the same, so that no connection subscribes meanwhile.
    pub fn with_lock<T>(
        &self,
        name: &ChannelName,
        decide: impl FnOnce(Option<&mut LockedChannel<'_>>) -> T,
    ) -> T {
        match self.channels.entry(name.clone()) {
            Entry::Occupied(entry) => {
                let channel = entry.into_ref();
                decide(Some(&mut LockedChannel { hub: self, name, channel }))
            }
            Entry::Vacant(_lock) => decide(None),
        }
    }

    /// Removes a subscriber of a channel on a shard.
    pub fn remove_subscriber(&self, shard: ShardIndex, name: &ChannelName) {
        if let Some(mut channel) = self.lock(name) {
            channel.remove_subscriber(shard);
            channel.remove_if_empty();
        }
    }

    /// Delivers `frame` to this node's subscribers of the channel except `except`.
    pub fn deliver(&self, name: &ChannelName, frame: &Frame, except: Option<SocketId>) {
        if let Some(mut channel) = self.lock(name) {
            channel.deliver(frame, except);
        }
    }

    /// The channels that are watched on this node, of all apps.
    #[must_use]
    pub fn watches(&self) -> &Arc<ChannelWatches> {
        self.inboxes.watches()
    }

    /// Reads the state of the local broker of a channel with subscribers.
    pub fn read<T>(&self, name: &ChannelName, read: impl FnOnce(&ChannelState) -> T) -> Option<T> {
        self.channels.get(name).map(|channel| read(channel.state()))
    }

    /// Reads the state of the local broker of each channel with subscribers.
    pub fn read_each<T>(&self, read: impl Fn(&ChannelName, &ChannelState) -> Option<T>) -> Vec<T> {
        self.channels.iter().filter_map(|entry| read(entry.key(), entry.state())).collect()
    }

    /// The shards with subscribers of a channel; empty if this node has none.
    #[must_use]
    pub fn shards_of(&self, name: &ChannelName) -> ShardSet {
        self.channels.get(name).map(|channel| channel.shards()).unwrap_or_default()
    }

    /// The number of admitted connections of this node. Rejected connections do not count.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connection_quota.in_use()
    }

    /// The number of subscriptions, server-to-user channels included.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subscription_count.load(Ordering::Relaxed)
    }

    /// The number of channels with subscribers, without server-to-user channels.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channel_count.load(Ordering::Relaxed)
    }

    /// Whether a thread holds the lock of a channel.
    #[cfg(test)]
    pub(crate) fn is_locked(&self, name: &ChannelName) -> bool {
        self.channels.try_get_mut(name).is_locked()
    }
}
