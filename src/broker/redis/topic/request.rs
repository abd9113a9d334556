//! The sync of a topic: what this node contributes to it, and what it reads.

use super::{LastWrite, LogUse, SyncRequest, Topic, UserJoin, Waiter};
use crate::{broker::redis::names::TopicSubject, protocol::ChannelName};

/// Maximum number of joins in one sync.
pub(super) const JOINS_MAX: usize = 512;
/// The approximate size of the reply to a sync without a snapshot, in bytes.
pub(super) const REPLY_BYTES: usize = 256;
/// The assumed size of the log in a reply.
const REPLAY_BYTES: usize = 16 * 1_024;
/// The assumed size of a presence channel's snapshot while it is unknown.
pub(super) const UNKNOWN_ROSTER_BYTES: usize = 64 * 1_024;

impl Topic {
    /// The approximate size of a snapshot in bytes.
    fn snapshot_bytes(&self) -> usize {
        REPLY_BYTES
            + match &self.view {
                Some(view) => view.bytes(),
                None if self.channel().is_some_and(ChannelName::is_presence) => {
                    UNKNOWN_ROSTER_BYTES
                }
                None => 0,
            }
    }

    /// Whether other nodes contribute. Without published totals, only members show it.
    fn has_other_contributions(&self) -> bool {
        let has_totals = self.sends_count || matches!(self.name.subject, TopicSubject::User(_));
        self.view.as_ref().is_some_and(|view| {
            (has_totals && self.acknowledged_total < view.total)
                || self.users.count() < view.members.len()
        })
    }

    /// The maximum of events of the history that some of the waiters receive.
    fn first_history(&self, waiters: &[Waiter]) -> Option<usize> {
        let rule = self.history.as_ref().filter(|rule| rule.replays_first)?;
        waiters.iter().any(Waiter::begins_with_history).then_some(rule.limits.events)
    }

    pub(super) fn sync_request(&mut self) -> SyncRequest {
        self.idle_since = None;
        self.syncs += 1;
        let is_full = self.needs_full_sync || (self.has_pubsub_channel() && !self.is_live);
        self.needs_full_sync = false;
        let waiters: Vec<Waiter> =
            self.waiters.drain(..self.waiters.len().min(JOINS_MAX)).collect();
        let history = self.first_history(&waiters);
        let mut request = SyncRequest {
            own_total_without_joins: self.local_count,
            is_full,
            had_contribution: self.last_write == LastWrite::Stored && 0 < self.acknowledged_total,
            has_other_contributions: self.last_write == LastWrite::Stored
                && self.has_other_contributions(),
            received: self.view.as_ref().map(|view| (view.epoch.clone(), view.sequence)),
            reply_bytes: if is_full { self.snapshot_bytes() } else { REPLY_BYTES },
            log: self.readers.on_sync(&waiters, history.is_some()),
            history,
            ..SyncRequest::default()
        };
        if matches!(request.log, LogUse::From(_)) || request.history.is_some() {
            request.reply_bytes += REPLAY_BYTES;
        }
        if is_full {
            // Messages that arrive from now on are compared with the reply.
            self.is_live = false;
            let users = self.users.members();
            request.joins = users.map(|(id, info)| UserJoin::existing(id, info)).collect();
            self.removed_users.clear();
        }
        for waiter in &waiters {
            match waiter {
                Waiter::Subscriber { member: Some(member), .. } => {
                    // A user who returned before the departure was synced has not left.
                    self.removed_users.remove(&member.user_id);
                    request.joins.push(UserJoin::new(&member.user_id, &member.user_info));
                }
                Waiter::Subscriber { member: None, .. } => request.own_total_without_joins += 1,
                Waiter::Connection(_) => {
                    request.joins.push(UserJoin::new(&"".into(), &"".into()));
                }
            }
        }
        request.removed_users = self.removed_users.drain().collect();
        self.in_flight_waiters = Some(waiters);
        request
    }
}
