//! Who is signed in, and who watches whom.

use super::{ConnectionRef, Delivery, Hub, Inboxes, Occurrence, agenda::Task};
use crate::config::WebhookEvent as Kind;
use crate::protocol::{CloseCode, Frame, User, event};
use dashmap::DashMap;
use std::{collections::HashSet, sync::Arc, time::Instant};

/// The users of an app who are signed in, or watched by one who is.
#[derive(Debug, Default)]
pub(super) struct Users(DashMap<Arc<str>, Known>);

/// What is known of one user.
#[derive(Debug, Default)]
struct Known {
    connections: HashSet<ConnectionRef>,
    watchers: HashSet<ConnectionRef>,
    /// Since when the user has had no connection, while the watchers have not been told.
    leaving_since: Option<Instant>,
}

/// What a sign-in gives its connection to send.
#[derive(Debug)]
pub struct SignedIn {
    /// `pusher:signin_success`.
    pub success: Frame,
    /// Who of the watched users is online and who is not, if any are watched.
    pub watchlist: Option<Frame>,
}

impl Known {
    /// As the watchers see it: a user who left a moment ago has not left yet.
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
    /// True if the user was offline.
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

    /// True if it was the user's last connection: then the user goes offline in a while.
    fn leave(&self, user_id: &str, connection: ConnectionRef, now: Instant) -> bool {
        let Some(mut known) = self.0.get_mut(user_id) else { return false };
        let was_last = known.connections.remove(&connection) && known.connections.is_empty();
        if was_last {
            known.leaving_since = Some(now);
        }
        was_last
    }

    /// Tells the watchers, if the user has not come back meanwhile. True if it has not.
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

    /// Registers a watcher, and says whether the user is online: one step, so that no change
    /// between the two is missed.
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
    /// Signs `connection` in. `before` is who it was signed in as: the same user with maybe
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

    /// Tells the application that a user went online or offline.
    pub(super) fn user_turned(&self, user_id: &Arc<str>, is_online: bool) {
        let user_id = Arc::clone(user_id);
        if is_online {
            self.decided(Kind::UserOnline, || Occurrence::UserOnline { user_id });
        } else {
            self.decided(Kind::UserOffline, || Occurrence::UserOffline { user_id });
        }
    }

    /// Forgets a connection that was signed in as `user`.
    pub fn sign_out(&self, connection: ConnectionRef, user: &User, now: Instant) {
        for watched in &user.watchlist {
            self.users.unwatch(watched, connection);
        }
        if self.users.leave(&user.id, connection, now) {
            self.agenda.add(now + Self::OFFLINE_GRACE, Task::GoOffline(Arc::clone(&user.id)));
        }
    }

    /// Has every connection closed that is signed in as `user_id`.
    pub fn terminate(&self, user_id: &str) {
        let Some(known) = self.users.0.get(user_id) else { return };
        self.inboxes.push_to_each(known.connections.iter().copied(), |keys| Delivery::Close {
            keys,
            code: CloseCode::Terminated,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        app::App,
        config::AppConfig,
        hub::{ConnectionKey, Observer, ShardIndex},
    };
    use std::{
        collections::VecDeque,
        sync::{Mutex, PoisonError},
        time::Duration,
    };

    /// Notes who went online and who went offline.
    #[derive(Debug, Default)]
    struct Turns(Mutex<Vec<String>>);

    impl Turns {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }
    }

    impl Observer for Turns {
        fn wants(&self, _app_id: &str, _kind: Kind) -> bool {
            true
        }

        fn observe(&self, _app_id: &str, occurrence: Occurrence) {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.push(format!("{occurrence:?}"));
        }

        fn observe_at(&self, _app_id: &str, _at_us: u64, _occurrence: Occurrence) {}
    }

    fn user(id: &str, watchlist: &[&str]) -> User {
        let watchlist = watchlist.iter().map(|&id| id.into()).collect();
        User { id: id.into(), info: None, watchlist, watchlist_was_cut: false }
    }

    #[test]
    fn a_user_who_is_back_in_time_and_stays_is_not_told_offline() {
        let shard = ShardIndex::new(0);
        let connection =
            |place| ConnectionRef { shard, key: ConnectionKey { place, generation: 0 } };
        let [watcher, first, second] = [1, 2, 3].map(connection);
        let turns = Arc::new(Turns::default());
        let (inboxes, start) = (Arc::new(Inboxes::new(1)), Instant::now());
        let app = App::new(AppConfig::development());
        let hub = Hub::new(app, Arc::clone(&inboxes), Arc::clone(&turns) as _, start);
        let told = || {
            let mut told = VecDeque::new();
            inboxes.of(shard).take(&mut told);
            told.len()
        };
        let _ = hub.sign_in(first, &user("u", &[]), "{}", None);
        let _ = hub.sign_in(watcher, &user("w", &["u"]), "{}", None);
        assert_eq!((turns.take().len(), told()), (2, 0));

        hub.sign_out(first, &user("u", &[]), start);
        let _ = hub.sign_in(second, &user("u", &[]), "{}", None);
        for seconds in [3, 4, 600] {
            hub.on_time(start + Duration::from_secs(seconds));
            assert_eq!((turns.take(), told()), (Vec::new(), 0), "{seconds} s");
        }
        // Of two connections, the last one counts.
        let _ = hub.sign_in(first, &user("u", &[]), "{}", None);
        let left = start + Duration::from_secs(700);
        hub.sign_out(second, &user("u", &[]), left);
        hub.on_time(left + Duration::from_secs(60));
        assert_eq!((turns.take(), told()), (Vec::new(), 0));
        hub.sign_out(first, &user("u", &[]), left);
        hub.on_time(left + Hub::OFFLINE_GRACE);
        assert_eq!((turns.take().len(), told()), (1, 1), "to the application and to the watcher");
        hub.on_time(left + Duration::from_secs(60));
        assert_eq!((turns.take(), told()), (Vec::new(), 0), "once");
    }
}
