//! A topic on one node, as a state machine without I/O.
//!
//! The node's contribution is written to Redis as a whole, one sync at a time; later changes are
//! part of the next sync. Redis' replies and the messages of the pub/sub channel maintain a *view* of the
//! state of all nodes, from which new subscribers receive their first messages. After a lost link everything is
//! synced and read again, and clients receive the differences.

mod compare;
mod readers;
mod request;
#[cfg(test)]
mod tests;
mod values;
mod view;

pub(super) use compare::{Difference, LocalState, RedisState};
pub(super) use values::{Effect, LogUse, SyncRequest, Synced, TopicStep, UserJoin, Waiter};

use super::{
    envelope::{Envelope, Message},
    link::ServerId,
    names::{TopicName, TopicSubject},
    partition::Partition,
    random::SeededSet,
};
use crate::{
    broker::logs::HistoryRule,
    channel::{self, CountThrottle, Roster},
    config::AppConfig,
    hub::ConnectionRef,
    protocol::{ChannelName, event},
};
use readers::Readers;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use view::TopicView;

/// How long an unused topic stays subscribed: longer than a page reload takes.
pub(super) const UNSUBSCRIBE_DELAY: Duration = Duration::from_secs(1);
/// How long other nodes may take to restore their contributions after the loss of a hash.
const RESTORE_WINDOW: Duration = Duration::from_secs(3);

/// The state of the topic's subscription to its pub/sub channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PubSubState {
    Unsubscribed,
    Subscribing,
    Subscribed,
    Unsubscribing,
}

/// Whether Redis still has this node's last write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LastWrite {
    /// A missing contribution means that its keys were deleted.
    Stored,
    /// A new generation has begun, so Redis may have lost its data: a missing contribution of this node is written and
    /// reported as new.
    PossiblyLost,
}

/// A topic on this node.
#[derive(Debug)]
pub(in crate::broker::redis) struct Topic {
    pub(in crate::broker::redis) name: TopicName,
    pub(in crate::broker::redis) partition: Partition,
    /// The number of the subscription attempt; results of earlier attempts are discarded.
    pub(in crate::broker::redis) attempt: u32,
    /// The number of syncs made.
    syncs: u64,
    /// Whether subscribers receive the subscription count.
    sends_count: bool,
    /// The total that the subscribers of this node have received.
    total_throttle: CountThrottle,
    pubsub_state: PubSubState,
    /// The server of the latest subscription.
    server: Option<ServerId>,
    /// The number of subscriptions, sign-ins or connections of this node, without waiting ones.
    local_count: usize,
    /// Subscriptions that ended before their sync was acknowledged.
    early_ends: usize,
    /// The users of this node.
    users: Roster,
    removed_users: SeededSet<Arc<str>>,
    /// This node's contribution to the total, as last acknowledged by Redis.
    acknowledged_total: usize,
    last_write: LastWrite,
    /// The connections of this node that may resume in the channel.
    readers: Readers,
    /// Why the channel has a history, if it has one.
    history: Option<HistoryRule>,
    waiters: VecDeque<Waiter>,
    /// The waiters of the sync in flight.
    in_flight_waiters: Option<Vec<Waiter>>,
    /// Whether everything must be synced and read again.
    needs_full_sync: bool,
    view: Option<TopicView>,
    /// The deadline for other nodes to restore their contributions after the loss of the hash.
    restoring_until: Option<Instant>,
    /// Whether pub/sub messages have been applied without a gap since the last snapshot.
    is_live: bool,
    /// Messages of the pub/sub channel that arrived before the snapshot.
    buffered: Vec<(Message, bool)>,
    watchers: SeededSet<ConnectionRef>,
    /// The number of watchers that wait for a reply.
    pub(in crate::broker::redis) pending_watchers: usize,
    /// Ended sign-ins, by the time at which they count as ended.
    sign_out_times: VecDeque<Instant>,
    idle_since: Option<Instant>,
}

impl Topic {
    pub(in crate::broker::redis) fn new(
        name: TopicName,
        partition: Partition,
        config: &AppConfig,
    ) -> Self {
        Self {
            sends_count: sends_count(&name.subject, config),
            history: history_of(&name.subject, config),
            total_throttle: CountThrottle::default(),
            name,
            partition,
            attempt: 0,
            syncs: 0,
            pubsub_state: PubSubState::Unsubscribed,
            server: None,
            local_count: 0,
            early_ends: 0,
            users: Roster::default(),
            removed_users: SeededSet::default(),
            acknowledged_total: 0,
            last_write: LastWrite::Stored,
            readers: Readers::default(),
            waiters: VecDeque::new(),
            in_flight_waiters: None,
            needs_full_sync: false,
            view: None,
            restoring_until: None,
            is_live: false,
            buffered: Vec::new(),
            watchers: SeededSet::default(),
            pending_watchers: 0,
            sign_out_times: VecDeque::new(),
            idle_since: None,
        }
    }

    /// Applies another configuration of its app.
    pub(in crate::broker::redis) fn set_config(&mut self, config: &AppConfig) {
        self.sends_count = sends_count(&self.name.subject, config);
        self.history = history_of(&self.name.subject, config);
    }

    /// Why the channel has a history, if it has one.
    pub(in crate::broker::redis) fn history(&self) -> Option<&HistoryRule> {
        self.history.as_ref()
    }

    /// Records that Redis has no contribution of this node under its current name.
    pub(in crate::broker::redis) fn forget_acknowledged(&mut self) {
        self.acknowledged_total = 0;
        self.readers.forget_acknowledged();
        self.needs_full_sync = true;
    }

    /// Records that Redis may have lost its data, and with it the webhook logs: a missing contribution of this node is reported
    /// again.
    pub(in crate::broker::redis) fn mark_data_lost(&mut self) {
        self.last_write = LastWrite::PossiblyLost;
    }

    /// Ends at once the sign-ins that are within their grace period: the node is shutting down.
    pub(in crate::broker::redis) fn end_grace_periods(&mut self) {
        self.local_count = self.local_count.saturating_sub(self.sign_out_times.len());
        self.sign_out_times.clear();
    }

    /// Whether Redis has no contribution of this node, and none is pending.
    pub(in crate::broker::redis) fn is_withdrawn(&self) -> bool {
        self.acknowledged_total == 0
            && self.local_count == 0
            && self.in_flight_waiters.is_none()
            && self.waiters.is_empty()
    }

    /// Whether the topic has a pub/sub channel, to which this node subscribes.
    pub(in crate::broker::redis) fn has_pubsub_channel(&self) -> bool {
        self.name.subject != TopicSubject::Connections
    }

    /// Whether an event belongs to the channel on whose pub/sub channel it was received.
    pub(in crate::broker::redis) fn is_for(&self, envelope: &Envelope) -> bool {
        self.channel().is_some_and(|channel| {
            envelope.frame.as_text().is_some_and(|text| event::is_on_channel(text, channel))
        })
    }

    /// Whether an event may have this sequence in Redis: the next one, or a later one while the
    /// sequences have not been read yet.
    pub(in crate::broker::redis) fn expects(&self, sequence: u64) -> bool {
        let later = sequence.checked_sub(self.received_sequence());
        if self.is_live { later == Some(1) } else { later.is_some_and(|later| 0 < later) }
    }

    fn channel(&self) -> Option<&ChannelName> {
        match &self.name.subject {
            TopicSubject::Channel(channel) => Some(channel),
            TopicSubject::User(_) | TopicSubject::Connections => None,
        }
    }

    pub(in crate::broker::redis) fn enqueue(&mut self, waiter: Waiter) {
        self.waiters.push_back(waiter);
    }

    /// Removes a subscription, sign-in or connection that was accepted.
    pub(in crate::broker::redis) fn decrement(&mut self, user_id: Option<&Arc<str>>) {
        match self.local_count.checked_sub(1) {
            Some(count) => {
                self.local_count = count;
                if count == 0 {
                    self.total_throttle.reset();
                }
            }
            // It ended before its reply arrived.
            None => self.early_ends += 1,
        }
        let Some(user_id) = user_id else { return };
        if self.users.leave(user_id) {
            self.removed_users.insert(Arc::clone(user_id));
        }
    }

    /// Adds a subscription, sign-in or connection without a waiter.
    pub(in crate::broker::redis) fn increment(&mut self) {
        match self.early_ends.checked_sub(1) {
            Some(early_ends) => self.early_ends = early_ends,
            None => self.local_count += 1,
        }
    }

    /// Removes a reader of the channel's log.
    pub(in crate::broker::redis) fn release_log(&mut self) {
        self.readers.remove();
    }

    /// The latest sequence that its subscribers have received, if the channel has a history or some of them may resume.
    pub(in crate::broker::redis) fn left_sequence(&self) -> Option<u64> {
        let has_log = self.readers.were_any() || self.history.is_some();
        has_log.then(|| self.received_sequence())
    }

    /// Ends a sign-in at `at`.
    pub(in crate::broker::redis) fn sign_out_at(&mut self, at: Instant) {
        self.sign_out_times.push_back(at);
    }

    pub(in crate::broker::redis) fn next_end(&self) -> Option<Instant> {
        self.sign_out_times.front().copied()
    }

    pub(in crate::broker::redis) fn watch(&mut self, watcher: ConnectionRef) {
        self.watchers.insert(watcher);
    }

    pub(in crate::broker::redis) fn unwatch(&mut self, watcher: ConnectionRef) {
        self.watchers.remove(&watcher);
    }

    pub(in crate::broker::redis) fn watchers(&self) -> impl Iterator<Item = ConnectionRef> {
        self.watchers.iter().copied()
    }

    /// Whether the user is signed in on any node; `None` while that is unknown.
    pub(in crate::broker::redis) fn is_online(&self) -> Option<bool> {
        self.view.as_ref().filter(|_| self.is_live).map(|view| 0 < view.total)
    }

    /// The latest sequence that its subscribers have received; 0 if none is known.
    pub(in crate::broker::redis) fn received_sequence(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.sequence)
    }

    pub(in crate::broker::redis) fn is_synced(&self) -> bool {
        self.is_live && !self.needs_full_sync
    }

    /// Requests that provisional state is read again. Returns false if there is none.
    pub(in crate::broker::redis) fn end_provisional(&mut self) -> bool {
        // Topics without a pub/sub channel have no view.
        let was_provisional = !self.has_pubsub_channel()
            || self.view.as_mut().is_some_and(TopicView::end_provisional);
        self.needs_full_sync |= was_provisional;
        was_provisional
    }

    pub(in crate::broker::redis) fn is_removable(&self) -> bool {
        self.pubsub_state == PubSubState::Unsubscribed
            && !self.is_needed()
            && self.acknowledged_total == 0
    }

    fn is_needed(&self) -> bool {
        0 < self.local_count
            || !self.waiters.is_empty()
            || self.in_flight_waiters.is_some()
            || !self.watchers.is_empty()
            || 0 < self.pending_watchers
    }

    /// Resets the topic after the link is lost, or its partition has moved.
    pub(in crate::broker::redis) fn reset(&mut self) {
        self.pubsub_state = PubSubState::Unsubscribed;
        self.attempt = self.attempt.wrapping_add(1);
        for waiter in self.in_flight_waiters.take().into_iter().flatten().rev() {
            self.waiters.push_front(waiter);
        }
        self.needs_full_sync = true;
        self.is_live = false;
        self.buffered.clear();
        if !self.is_needed() {
            // Only the withdrawal remains, which a full sync includes.
            self.removed_users.clear();
        }
    }

    /// Queues the waiters again, after a sync was not executed.
    pub(in crate::broker::redis) fn on_sync_rejected(&mut self) {
        for waiter in self.in_flight_waiters.take().into_iter().flatten().rev() {
            self.waiters.push_front(waiter);
        }
        self.needs_full_sync = true;
    }

    pub(in crate::broker::redis) fn on_subscribed(&mut self, server: ServerId) {
        self.pubsub_state = PubSubState::Subscribed;
        self.server = Some(server);
    }

    /// Whether messages of this server are accepted. A master that was replaced may still publish; its
    /// messages are not part of the state that was read from the new one.
    pub(in crate::broker::redis) fn accepts_from(&self, server: ServerId) -> bool {
        self.pubsub_state != PubSubState::Subscribed || self.server == Some(server)
    }

    pub(in crate::broker::redis) fn on_unsubscribed(&mut self) {
        self.pubsub_state = PubSubState::Unsubscribed;
        self.view = None;
        self.is_live = false;
        self.needs_full_sync = false;
        self.buffered.clear();
    }

    /// Frees the memory of an expired cached event.
    pub(in crate::broker::redis) fn expire(&mut self, now: Instant) {
        if let Some(view) = &mut self.view {
            view.expire(now);
        }
    }

    /// The time of the next step, if nothing else happens.
    pub(in crate::broker::redis) fn wake_at(&self) -> Option<Instant> {
        let linger = self.idle_since.map(|since| since + UNSUBSCRIBE_DELAY);
        [linger, self.next_end(), self.restoring_until].into_iter().flatten().min()
    }

    /// The next step to take, if any.
    pub(in crate::broker::redis) fn next_step(&mut self, now: Instant) -> Option<TopicStep> {
        while self.sign_out_times.front().is_some_and(|at| *at <= now) {
            self.sign_out_times.pop_front();
            self.local_count = self.local_count.saturating_sub(1);
        }
        if self.restoring_until.take_if(|at| *at <= now).is_some() {
            self.end_provisional();
        }
        let is_needed = self.is_needed();
        if self.pubsub_state == PubSubState::Unsubscribed
            && (is_needed || 0 < self.acknowledged_total)
        {
            self.pubsub_state = if self.has_pubsub_channel() {
                PubSubState::Subscribing
            } else {
                PubSubState::Subscribed
            };
            if self.has_pubsub_channel() {
                return Some(TopicStep::Subscribe);
            }
        }
        match self.pubsub_state {
            PubSubState::Subscribed if self.in_flight_waiters.is_some() => None,
            PubSubState::Subscribed if self.must_sync() => {
                Some(TopicStep::Sync(self.sync_request()))
            }
            PubSubState::Subscribed if is_needed => {
                self.idle_since = None;
                None
            }
            PubSubState::Subscribed => {
                let since = *self.idle_since.get_or_insert(now);
                if now < since + UNSUBSCRIBE_DELAY {
                    return None;
                }
                self.idle_since = None;
                self.pubsub_state = if self.has_pubsub_channel() {
                    PubSubState::Unsubscribing
                } else {
                    PubSubState::Unsubscribed
                };
                self.has_pubsub_channel().then_some(TopicStep::Unsubscribe)
            }
            PubSubState::Unsubscribed | PubSubState::Subscribing | PubSubState::Unsubscribing => {
                None
            }
        }
    }

    fn must_sync(&self) -> bool {
        self.needs_full_sync
            || !self.waiters.is_empty()
            || !self.removed_users.is_empty()
            || self.local_count != self.acknowledged_total
            || self.readers.must_sync()
            || (self.has_pubsub_channel() && !self.is_live)
    }
}

fn sends_count(subject: &TopicSubject, config: &AppConfig) -> bool {
    match subject {
        TopicSubject::Channel(channel) => channel::sends_subscription_count(channel, config),
        TopicSubject::User(_) | TopicSubject::Connections => false,
    }
}

fn history_of(subject: &TopicSubject, config: &AppConfig) -> Option<HistoryRule> {
    match subject {
        TopicSubject::Channel(channel) => HistoryRule::of_channel(config, channel),
        TopicSubject::User(_) | TopicSubject::Connections => None,
    }
}
