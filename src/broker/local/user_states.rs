//! Which users are online, and the connections that watch them.

use crate::{
    channel::OnlineState,
    config::WebhookEvent,
    hub::{ConnectionRef, Hub, HubEvent},
};
use dashmap::DashMap;
use std::{collections::HashSet, sync::Arc, time::Instant};

/// The users of an app that are signed in, or on the watchlist of a connection.
#[derive(Debug, Default)]
pub(super) struct UserStates(DashMap<Arc<str>, UserState>);

/// Whether one user is online, and the connections to notify of changes.
#[derive(Debug, Default)]
struct UserState {
    online: OnlineState,
    watchers: HashSet<ConnectionRef>,
}

impl UserState {
    fn is_unused(&self) -> bool {
        !self.online.is_online() && self.watchers.is_empty()
    }

    fn notify_watchers(&self, hub: &Hub, user_id: &Arc<str>, is_online: bool) {
        if !self.watchers.is_empty() {
            hub.notify_watchers(self.watchers.iter().copied(), user_id, is_online);
        }
    }
}

impl UserStates {
    /// Adds a connection of a user. If the user was offline, reports that it is online and notifies
    /// its watchers while the user is locked, so that its transitions have one order.
    pub(super) fn connect(&self, hub: &Hub, user_id: &Arc<str>) {
        let mut user = self.0.entry(Arc::clone(user_id)).or_default();
        if user.online.connect() {
            let online = || HubEvent::UserOnline { user_id: Arc::clone(user_id) };
            hub.observe(WebhookEvent::UserOnline, online);
            user.notify_watchers(hub, user_id, true);
        }
    }

    /// Removes a connection of a user. After the last one, returns when the user is due to go
    /// offline.
    pub(super) fn disconnect(&self, user_id: &str, now: Instant) -> Option<Instant> {
        self.0.get_mut(user_id)?.online.disconnect(now)
    }

    /// Makes a user offline whose last connection has left, unless it has returned. Reports and
    /// notifies like [`UserStates::connect`].
    pub(super) fn go_offline_if_due(&self, hub: &Hub, user_id: &Arc<str>, now: Instant) {
        if let Some(mut user) = self.0.get_mut(user_id) {
            if !user.online.go_offline_if_due(now) {
                return;
            }
            let offline = || HubEvent::UserOffline { user_id: Arc::clone(user_id) };
            hub.observe(WebhookEvent::UserOffline, offline);
            user.notify_watchers(hub, user_id, false);
        }
        self.0.remove_if(user_id, |_, user| user.is_unused());
    }

    /// Adds a watcher and returns whether the user is online, in one step, so that no change is
    /// missed.
    pub(super) fn watch(&self, user_id: &Arc<str>, watcher: ConnectionRef) -> bool {
        let mut user = self.0.entry(Arc::clone(user_id)).or_default();
        user.watchers.insert(watcher);
        user.online.is_online()
    }

    /// Removes a watcher.
    pub(super) fn unwatch(&self, user_id: &str, watcher: ConnectionRef) {
        if let Some(mut user) = self.0.get_mut(user_id) {
            user.watchers.remove(&watcher);
        }
        self.0.remove_if(user_id, |_, user| user.is_unused());
    }

    #[cfg(test)]
    pub(super) fn knows(&self, user_id: &str) -> bool {
        self.0.contains_key(user_id)
    }

    #[cfg(test)]
    pub(super) fn is_locked(&self, user_id: &str) -> bool {
        self.0.try_get_mut(user_id).is_locked()
    }
}
