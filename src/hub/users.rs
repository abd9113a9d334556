//! Signed-in users and watchlists.

use super::{ConnectionRef, Delivery, Hub, HubEvent, Inboxes, timer_queue::TimerTask};
use crate::config::WebhookEvent as Kind;
use crate::protocol::{CloseCode, Frame, User, event};
use dashmap::DashMap;
use std::{collections::HashSet, sync::Arc, time::Instant};

/// The users of an app that are signed in or watched.
#[derive(Debug, Default)]
pub(super) struct Users(DashMap<Arc<str>, Known>);

/// The state of one user.
#[derive(Debug, Default)]
struct Known {
    connections: HashSet<ConnectionRef>,
    watchers: HashSet<ConnectionRef>,
    /// Since when the user has had no connection, until it is reported as offline.
    leaving_since: Option<Instant>,
}

/// The messages for a connection that has signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The `pusher:signin_success` message.
    pub success: Frame,
    /// The online state of the watched users, if there are any.
    pub watchlist: Option<Frame>,
}

impl Known {
    /// Whether the user is online for watchers: it remains online for a moment after it left.
    fn is_online(&self) -> bool {
        !self.connections.is_empty() || self.leaving_since.is_some()
    }

    fn is_disposable(&self) -> bool {
        !self.is_online() && self.watchers.is_empty()
    }

    fn tell_watchers(&self, inboxes: &Inboxes, frame: &Frame) {
        inboxes.push_to_each(self.watchers.iter().copied(), |keys| Delivery::Connections {
            keys,
            frame: frame.clone(),
        });
    }
}

impl Users {
    /// Adds a connection. Returns true if the user was offline.
    fn come(&self, inboxes: &Inboxes, user_id: &Arc<str>, connection: ConnectionRef) -> bool {
        let mut known = self.0.entry(Arc::clone(user_id)).or_default();
        let was_online = known.is_online();
        known.leaving_since = None;
        known.connections.insert(connection);
        if !was_online && !known.watchers.is_empty() {
            known.tell_watchers(inboxes, &event::watchlist(&[user_id], &[]));
        }
        !was_online
    }

    /// Removes a connection. Returns true for the last one: the user is then offline after a delay.
    fn leave(&self, user_id: &str, connection: ConnectionRef, now: Instant) -> bool {
        let Some(mut known) = self.0.get_mut(user_id) else { return false };
        let was_last = known.connections.remove(&connection) && known.connections.is_empty();
        if was_last {
            known.leaving_since = Some(now);
        }
        was_last
    }

    /// Reports the user as offline, unless it has returned. Returns true if it has not.
    pub(super) fn go_offline(&self, inboxes: &Inboxes, user_id: &Arc<str>, now: Instant) -> bool {
        let mut went = false;
        if let Some(mut known) = self.0.get_mut(user_id) {
            if known.leaving_since.is_none_or(|since| now < since + Hub::OFFLINE_GRACE) {
                return false;
            }
            went = true;
            known.leaving_since = None;
            if !known.watchers.is_empty() {
                known.tell_watchers(inboxes, &event::watchlist(&[], &[user_id]));
            }
        }
        self.0.remove_if(user_id, |_, known| known.is_disposable());
        went
    }

    #[cfg(test)]
    pub(super) fn knows(&self, user_id: &str) -> bool {
        self.0.contains_key(user_id)
    }

    /// Adds a watcher and returns whether the user is online, in one step, so that no change is
    /// missed.
    fn watch(&self, user_id: &Arc<str>, watcher: ConnectionRef) -> bool {
        let mut known = self.0.entry(Arc::clone(user_id)).or_default();
        known.watchers.insert(watcher);
        known.is_online()
    }

    fn unwatch(&self, user_id: &str, watcher: ConnectionRef) {
        if let Some(mut known) = self.0.get_mut(user_id) {
            known.watchers.remove(&watcher);
        }
        self.0.remove_if(user_id, |_, known| known.is_disposable());
    }
}

impl Hub {
    /// Signs `connection` in. `before` is its previous sign-in: the same user, possibly with
    /// another watchlist.
    #[must_use]
    pub fn sign_in(
        &self,
        connection: ConnectionRef,
        user: &User,
        user_data: &str,
        before: Option<&User>,
    ) -> SignedIn {
        for watched in before.iter().flat_map(|before| &before.watchlist) {
            self.users.unwatch(watched, connection);
        }
        if self.users.come(&self.inboxes, &user.id, connection) {
            self.user_turned(&user.id, true);
        }
        let (online, offline): (Vec<&Arc<str>>, Vec<&Arc<str>>) =
            user.watchlist.iter().partition(|watched| self.users.watch(watched, connection));
        let watchlist = (!user.watchlist.is_empty()).then(|| event::watchlist(&online, &offline));
        SignedIn { success: event::signin_success(user_data), watchlist }
    }

    /// Reports that a user went online or offline.
    pub(super) fn user_turned(&self, user_id: &Arc<str>, is_online: bool) {
        let user_id = Arc::clone(user_id);
        if is_online {
            self.decided(Kind::UserOnline, || HubEvent::UserOnline { user_id });
        } else {
            self.decided(Kind::UserOffline, || HubEvent::UserOffline { user_id });
        }
    }

    /// Signs a connection out that was signed in as `user`.
    pub fn sign_out(&self, connection: ConnectionRef, user: &User, now: Instant) {
        for watched in &user.watchlist {
            self.users.unwatch(watched, connection);
        }
        if self.users.leave(&user.id, connection, now) {
            self.timers.add(now + Self::OFFLINE_GRACE, TimerTask::GoOffline(Arc::clone(&user.id)));
        }
    }

    /// Closes all connections that are signed in as `user_id`.
    pub fn terminate(&self, user_id: &str) {
        let Some(known) = self.users.0.get(user_id) else { return };
        self.inboxes.push_to_each(known.connections.iter().copied(), |keys| Delivery::Close {
            keys,
            code: CloseCode::Terminated,
        });
    }
}
