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
    /// Adds a connection. If the user was offline, calls `went_online` while the user is locked, so
    /// that the transitions of a user are reported in order.
    fn come(
        &self,
        inboxes: &Inboxes,
        user_id: &Arc<str>,
        connection: ConnectionRef,
        went_online: impl FnOnce(),
    ) {
        let mut known = self.0.entry(Arc::clone(user_id)).or_default();
        let was_online = known.is_online();
        known.leaving_since = None;
        known.connections.insert(connection);
        if was_online {
            return;
        }
        went_online();
        if !known.watchers.is_empty() {
            known.tell_watchers(inboxes, &event::watchlist(&[user_id], &[]));
        }
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

    /// Makes the user offline, unless it has returned. Calls `went_offline` while the user is
    /// locked.
    fn go_offline(
        &self,
        inboxes: &Inboxes,
        user_id: &Arc<str>,
        now: Instant,
        went_offline: impl FnOnce(),
    ) {
        if let Some(mut known) = self.0.get_mut(user_id) {
            if known.leaving_since.is_none_or(|since| now < since + Hub::OFFLINE_GRACE) {
                return;
            }
            known.leaving_since = None;
            went_offline();
            if !known.watchers.is_empty() {
                known.tell_watchers(inboxes, &event::watchlist(&[], &[user_id]));
            }
        }
        self.0.remove_if(user_id, |_, known| known.is_disposable());
    }

    #[cfg(test)]
    pub(super) fn knows(&self, user_id: &str) -> bool {
        self.0.contains_key(user_id)
    }

    #[cfg(test)]
    pub(super) fn is_locked(&self, user_id: &str) -> bool {
        self.0.try_get_mut(user_id).is_locked()
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
        self.users.come(&self.inboxes, &user.id, connection, || {
            let user_id = Arc::clone(&user.id);
            self.decided(Kind::UserOnline, || HubEvent::UserOnline { user_id });
        });
        let (online, offline): (Vec<&Arc<str>>, Vec<&Arc<str>>) =
            user.watchlist.iter().partition(|watched| self.users.watch(watched, connection));
        let watchlist = (!user.watchlist.is_empty()).then(|| event::watchlist(&online, &offline));
        SignedIn { success: event::signin_success(user_data), watchlist }
    }

    /// Makes a user offline whose last connection has left, unless it has returned.
    pub(super) fn user_is_due(&self, user_id: &Arc<str>, now: Instant) {
        self.users.go_offline(&self.inboxes, user_id, now, || {
            let user_id = Arc::clone(user_id);
            self.decided(Kind::UserOffline, || HubEvent::UserOffline { user_id });
        });
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
