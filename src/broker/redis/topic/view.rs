//! The view of a topic: the state of all nodes, from replies of Redis and pub/sub messages.

use super::{Effect, LastWrite, PubSubState, RESTORE_WINDOW, Synced, Topic, Waiter};
use crate::{
    broker::redis::{
        channel_logs::LogRead,
        envelope::{Change, Envelope, EnvelopeId, Message},
    },
    channel::{CountAction, LoggedEvent},
    hub::InitialMessages,
    protocol::{ChannelName, Frame, FrameKind, Member, SubscriptionRejection, event},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Maximum messages kept while a snapshot is being read; beyond them it is read again.
pub(super) const BUFFERED_MAX: usize = 4_096;

/// The state of all nodes, as of the latest reply or message.
#[derive(Debug)]
pub(super) struct TopicView {
    pub(super) epoch: String,
    pub(super) version: u64,
    pub(super) sequence: u64,
    /// The id of the event that has this sequence, if it is known. Two masters that were both active for a moment
    /// have given one sequence to different events.
    last_event_id: Option<EnvelopeId>,
    pub(super) total: usize,
    pub(super) members: BTreeMap<Arc<str>, Arc<str>>,
    /// The frame for new subscribers of a presence channel, valid until the members change.
    succeeded_frame: Option<Frame>,
    pub(super) cached_event: Option<CachedFrame>,
    /// Whether it was read while other nodes still had to restore their contributions: missing
    /// members have not left.
    is_provisional: bool,
}

/// The cached event of a cache channel.
#[derive(Debug)]
pub(super) struct CachedFrame {
    id: EnvelopeId,
    frame: Frame,
    expires_at: Instant,
}

impl TopicView {
    /// Frees the memory of an expired event.
    pub(super) fn expire(&mut self, now: Instant) {
        self.cached_event.take_if(|cached| cached.expires_at <= now);
    }

    /// Its approximate size in a reply of Redis, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let members = self.members.iter();
        let members: usize = members.map(|(id, info)| 32 + id.len() + info.len()).sum();
        members + self.cached_event.as_ref().map_or(0, |cached| cached.frame.bytes().len())
    }

    /// Ends the provisional state. Returns whether it was provisional.
    pub(super) fn end_provisional(&mut self) -> bool {
        std::mem::take(&mut self.is_provisional)
    }

    /// The channel's `subscription_succeeded` frame, encoded once until its members change.
    fn succeeded_frame(&mut self, channel: &ChannelName) -> Frame {
        if !channel.is_presence() {
            return event::subscription_succeeded(channel);
        }
        let encode = || event::presence_succeeded(channel, self.members.iter());
        self.succeeded_frame.get_or_insert_with(encode).clone()
    }
}

impl Topic {
    /// Handles the reply to a sync. `max_members` is for the rejection's text;
    /// `is_provisional`: other nodes still have to write their contributions.
    pub(in crate::broker::redis) fn on_synced(
        &mut self,
        mut synced: Synced,
        is_full: bool,
        (max_members, is_provisional): (usize, bool),
        now: Instant,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.acknowledged_total = synced.own_total;
        self.last_write = LastWrite::Stored;
        let received = self.readers.on_synced();
        let is_same = self.view.as_ref().is_some_and(|view| view.epoch == synced.epoch);
        if let Some(log) = synced.log.as_mut().filter(|_| is_same) {
            // The others have received these already.
            log.extend(received);
        }
        let waiters = self.in_flight_waiters.take().unwrap_or_default();
        let mut accepted = synced.accepted.clone();
        if is_full && self.has_pubsub_channel() {
            self.apply_snapshot(&synced, is_provisional, now, &mut effects);
        }
        for change in synced.changes {
            self.on_message(change, false, now, &mut effects);
        }
        if let Some(view) = &self.view
            && !is_full
            && (view.epoch != synced.epoch || view.version < synced.version)
        {
            self.needs_full_sync = true;
        }
        let decided = waiters.iter().filter(|waiter| waiter.is_decided_by_redis()).count();
        // Users that were only synced come first, and are never rejected.
        let mut verdicts = accepted.split_off(accepted.len().saturating_sub(decided)).into_iter();
        for waiter in waiters {
            let is_accepted = !waiter.is_decided_by_redis() || verdicts.next().unwrap_or(false);
            let log = synced.log.clone();
            effects.push(self.finish_waiter(waiter, is_accepted, (max_members, log), now));
        }
        if is_full && self.has_pubsub_channel() {
            for (message, is_duplicate) in std::mem::take(&mut self.buffered) {
                let is_later = match &message {
                    Message::Event { sequence, .. } => synced.sequence < *sequence,
                    Message::Evicted(_) => true,
                    // Of another epoch: the hash was created or replaced after the reply.
                    Message::Change { epoch, version, .. } => {
                        *epoch != synced.epoch || synced.version < *version
                    }
                };
                if is_later {
                    self.on_message(message, is_duplicate, now, &mut effects);
                }
            }
        }
        effects
    }

    fn finish_waiter(
        &mut self,
        waiter: Waiter,
        is_accepted: bool,
        (max_members, log_read): (usize, Option<LogRead>),
        now: Instant,
    ) -> Effect {
        if is_accepted {
            self.increment();
        }
        match waiter {
            Waiter::Connection(admission) => Effect::Admit(admission, is_accepted),
            Waiter::Subscriber { connection, ticket, .. } if !is_accepted => Effect::Reject {
                connection,
                ticket,
                rejection: SubscriptionRejection::RosterFull { max: max_members },
            },
            Waiter::Subscriber { connection, ticket, member, log } => {
                self.readers.add(&log);
                let initial = self.initial(member.as_ref(), now);
                let user_id = member.map(|member| {
                    self.users.add(&member);
                    // It may have left with another connection meanwhile.
                    self.removed_users.remove(&member.user_id);
                    member.user_id
                });
                Effect::Accept { connection, ticket, user_id, initial, log: (log, log_read) }
            }
        }
    }

    fn initial(&mut self, member: Option<&Member>, now: Instant) -> InitialMessages {
        let (Some(channel), true) = (self.channel().cloned(), self.view.is_some()) else {
            unreachable!("only channels have subscribers, and they are read first")
        };
        // Not reported again for a user of this node. For a user of another node this is unknown
        // here.
        let is_new = member.filter(|member| !self.users.contains(&member.user_id));
        let sends_count = self.sends_count;
        let view = self.view.as_mut().expect("checked above");
        if sends_count {
            self.total_throttle.on_subscribed(view.total, now);
        }
        let cached = view.cached_event.as_ref().filter(|cached| now < cached.expires_at);
        let broadcast_bytes = is_new
            .map(|member| view.members.len() * event::member_added(&channel, member).bytes().len());
        InitialMessages {
            cached: channel.is_cache().then(|| {
                cached.map_or_else(|| event::cache_miss(&channel), |cached| cached.frame.clone())
            }),
            is_cache_miss: channel.is_cache() && cached.is_none(),
            total: sends_count.then_some(view.total),
            broadcast_bytes: broadcast_bytes.unwrap_or_default(),
            succeeded_frame: view.succeeded_frame(&channel),
        }
    }

    /// Replaces the view by a snapshot, and sends the differences to clients.
    fn apply_snapshot(
        &mut self,
        synced: &Synced,
        is_provisional: bool,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let mut new = TopicView {
            epoch: synced.epoch.clone(),
            version: synced.version,
            sequence: synced.sequence,
            last_event_id: synced.last_event_id,
            total: synced.total,
            members: synced.members.iter().cloned().collect(),
            succeeded_frame: None,
            cached_event: synced.cached_event.clone().map(|(id, frame, ttl)| CachedFrame {
                id,
                frame,
                expires_at: now + ttl,
            }),
            is_provisional: false,
        };
        if let Some(old) = self.view.take() {
            self.compare_events(&old, synced, effects);
            // The sequence never decreases, even if Redis has lost events.
            if new.sequence < old.sequence {
                (new.sequence, new.last_event_id) = (old.sequence, old.last_event_id);
            }
            // The hash was deleted or evicted: the other nodes restore their contributions.
            let is_less = synced.total < old.total || synced.members.len() < old.members.len();
            let was_deleted = old.epoch != synced.epoch && is_less;
            if was_deleted && !is_provisional && self.restoring_until.is_none() {
                self.restoring_until = Some(now + RESTORE_WINDOW);
            }
            if is_provisional || self.restoring_until.is_some() {
                new.is_provisional = true;
                new.total = old.total;
                for (user_id, user_info) in &old.members {
                    new.members.entry(Arc::clone(user_id)).or_insert_with(|| Arc::clone(user_info));
                }
            }
            self.send_difference(&old, &new, effects);
            if old.total != new.total {
                self.send_total(new.total, now, effects);
            }
        }
        self.view = Some(new);
        self.is_live = true;
    }

    fn send_difference(&self, old: &TopicView, new: &TopicView, effects: &mut Vec<Effect>) {
        let Some(channel) = self.channel() else {
            if (0 < old.total) != (0 < new.total) {
                effects.push(Effect::Online(0 < new.total));
            }
            return;
        };
        for user_id in old.members.keys().filter(|id| !new.members.contains_key(*id)) {
            effects.push(Effect::Deliver(event::member_removed(channel, user_id)));
        }
        for (user_id, user_info) in &new.members {
            if !old.members.contains_key(user_id) {
                let member =
                    Member { user_id: Arc::clone(user_id), user_info: Arc::clone(user_info) };
                effects.push(Effect::Deliver(event::member_added(channel, &member)));
            }
        }
    }

    /// Sends the total to the subscribers of this node, at once or when its interval has passed.
    fn send_total(&mut self, total: usize, now: Instant, effects: &mut Vec<Effect>) {
        if !self.sends_count || self.local_count == 0 {
            return;
        }
        effects.extend(match (self.total_throttle.action(total, now), self.channel()) {
            (CountAction::Send(total), Some(channel)) => {
                Some(Effect::Deliver(event::subscription_count(channel, total)))
            }
            (CountAction::CheckAt(until), _) => Some(Effect::SendTotalAt(until)),
            (CountAction::Skip, _) | (CountAction::Send(_), None) => None,
        });
    }

    /// Announces the total whose delay has ended.
    pub(in crate::broker::redis) fn send_due_total(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(view) = &self.view
            && self.total_throttle.take_due(now)
        {
            self.send_total(view.total, now, &mut effects);
        }
        effects
    }

    /// Delivers the buffered events up to the snapshot, or forces a resubscription if some are missing.
    fn compare_events(&mut self, old: &TopicView, synced: &Synced, effects: &mut Vec<Effect>) {
        if self.channel().is_none() || self.local_count == 0 {
            return;
        }
        let is_same = old.epoch == synced.epoch;
        let (mut received, mut received_id) = (old.sequence, old.last_event_id);
        let mut caught_up = Vec::new();
        for (message, is_duplicate) in &self.buffered {
            let Message::Event { sequence, envelope } = message else { continue };
            if synced.sequence < *sequence {
                continue;
            }
            let is_next = is_same && *sequence == received + 1;
            // Redis publishes each event once: while the hash is missing nothing is counted, and a new
            // hash counts from 0 again.
            if is_next || *sequence <= received {
                if received < *sequence {
                    (received, received_id) = (*sequence, Some(envelope.id));
                }
                if !is_duplicate {
                    let (frame, except) = (envelope.frame.clone(), envelope.except);
                    let logged = self.readers.logged(*sequence);
                    caught_up.push(Effect::DeliverEvent { frame, except, logged });
                }
            }
        }
        // Nodes with a higher sequence have written it to the new hash. The old hash was restored from
        // earlier data if its sequence is lower than this node's.
        let is_other =
            received_id.zip(synced.last_event_id).is_some_and(|(ours, theirs)| ours != theirs);
        let has_diverged = is_same && (synced.sequence < received || is_other);
        if received < synced.sequence || has_diverged {
            return effects.push(Effect::ForceResubscribe);
        }
        if !is_same {
            effects.push(Effect::Unverified);
        }
        effects.append(&mut caught_up);
    }

    /// Handles a message of the pub/sub channel. `is_duplicate`: its envelope was received before.
    pub(in crate::broker::redis) fn on_message(
        &mut self,
        message: Message,
        is_duplicate: bool,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_live {
            if self.pubsub_state == PubSubState::Subscribed
                || self.pubsub_state == PubSubState::Subscribing
            {
                self.buffered.push((message, is_duplicate));
                if BUFFERED_MAX < self.buffered.len() {
                    self.buffered.clear();
                    self.needs_full_sync = true;
                }
            }
            return;
        }
        match message {
            Message::Event { sequence, envelope } => {
                self.on_event(sequence, envelope, is_duplicate, now, effects);
            }
            Message::Evicted(id) => {
                if let Some(view) = &mut self.view {
                    view.cached_event.take_if(|cached| cached.id == id);
                }
            }
            Message::Change { epoch, version, change } => {
                self.on_change(&epoch, (version, change), now, effects);
            }
        }
    }

    fn on_event(
        &mut self,
        sequence: u64,
        envelope: Envelope,
        is_duplicate: bool,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let is_cache = self.channel().is_some_and(ChannelName::is_cache);
        let Some(view) = &mut self.view else { return };
        if view.sequence < sequence {
            if view.sequence + 1 < sequence {
                effects.push(Effect::ForceResubscribe);
            }
            (view.sequence, view.last_event_id) = (sequence, Some(envelope.id));
            self.readers.on_event(sequence, || {
                let is_replayed = !is_duplicate && envelope.frame.kind() == FrameKind::Event;
                let (frame, except) = (envelope.frame.clone(), envelope.except);
                is_replayed.then_some(LoggedEvent { sequence, published_at: now, frame, except })
            });
        } else {
            // The hash is missing, or a new one.
            self.needs_full_sync = true;
        }
        if is_duplicate {
            return;
        }
        if is_cache && envelope.frame.kind() == FrameKind::Event {
            let expires_at = now + Duration::from_millis(envelope.retention_ms);
            let (id, frame) = (envelope.id, envelope.frame.clone());
            // An event too large to be kept replaces the previous one.
            view.cached_event =
                (0 < envelope.retention_ms).then_some(CachedFrame { id, frame, expires_at });
        }
        let (frame, except, logged) =
            (envelope.frame, envelope.except, self.readers.logged(sequence));
        effects.push(Effect::DeliverEvent { frame, except, logged });
    }

    fn on_change(
        &mut self,
        epoch: &str,
        (version, change): (u64, Change),
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let channel = self.channel().cloned();
        let Some(view) = &mut self.view else { return };
        if view.epoch != epoch {
            self.needs_full_sync = true;
            return;
        }
        if version <= view.version {
            return;
        }
        if view.version + 1 < version {
            self.needs_full_sync = true;
        }
        view.version = version;
        match (change, channel) {
            (Change::Added(member), Some(channel)) => {
                let Member { user_id, user_info } = member.clone();
                view.succeeded_frame = None;
                if view.members.insert(user_id, user_info).is_none() {
                    effects.push(Effect::Deliver(event::member_added(&channel, &member)));
                }
            }
            (Change::Removed(user_id), Some(channel)) => {
                view.succeeded_frame = None;
                if view.members.remove(&user_id).is_some() {
                    effects.push(Effect::Deliver(event::member_removed(&channel, &user_id)));
                }
            }
            // It lacks the contributions that are still to be written.
            (Change::Total(_), _) if view.is_provisional => {}
            (Change::Total(total), channel) => {
                let was_online = 0 < std::mem::replace(&mut view.total, total);
                if channel.is_some() {
                    self.send_total(total, now, effects);
                } else if was_online != (0 < total) {
                    effects.push(Effect::Online(0 < total));
                }
            }
            (Change::Sequence(sequence), _) if view.sequence < sequence => {
                (view.sequence, view.last_event_id) = (sequence, None);
                effects.push(Effect::ForceResubscribe);
            }
            (Change::Sequence(_), _) | (Change::Added(_) | Change::Removed(_), None) => {}
        }
    }
}
