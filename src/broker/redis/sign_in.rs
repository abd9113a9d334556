//! The signed-in connections of this node, and their watchlists.

use super::{names::TopicSubject, topic::Topic, topics::Topics};
use crate::{channel::OFFLINE_GRACE, hub::ConnectionRef};
use std::{collections::HashMap, sync::Arc, time::Instant};

/// The signed-in connections of this node; the coordinator owns them.
#[derive(Debug, Default)]
pub(super) struct SignIns {
    all: HashMap<ConnectionRef, SignedInConnection>,
    /// Connections that have not received the state of their watchlist yet.
    pending: Vec<ConnectionRef>,
}

#[derive(Debug)]
struct SignedInConnection {
    app_id: Arc<str>,
    /// The topic of the user.
    user_topic: Arc<str>,
    watched: Vec<Watched>,
    watchlist_sent: bool,
}

#[derive(Debug)]
struct Watched {
    user_id: Arc<str>,
    topic: Arc<str>,
}

impl SignIns {
    /// Records a sign-in, or another watchlist of a signed-in connection.
    pub(super) fn add(
        &mut self,
        topics: &mut Topics,
        app_id: &Arc<str>,
        connection: ConnectionRef,
        user_id: Arc<str>,
        watchlist: &[Arc<str>],
    ) {
        let own = topics.get_or_create(app_id, TopicSubject::User(user_id));
        match self.all.remove(&connection) {
            // The same user, possibly with another watchlist.
            Some(before) => self.unwatch(topics, connection, &before),
            None => topics.update_by_name(&own, Topic::increment),
        }
        let watched: Vec<Watched> = watchlist
            .iter()
            .map(|user_id| Watched {
                user_id: Arc::clone(user_id),
                topic: topics.get_or_create(app_id, TopicSubject::User(Arc::clone(user_id))),
            })
            .collect();
        for Watched { topic, .. } in &watched {
            topics.update_by_name(topic, |topic| topic.pending_watchers += 1);
        }
        let is_sent = watched.is_empty();
        if !is_sent {
            self.pending.push(connection);
        }
        let signed_in = SignedInConnection {
            app_id: Arc::clone(app_id),
            user_topic: own,
            watched,
            watchlist_sent: is_sent,
        };
        self.all.insert(connection, signed_in);
        self.send_ready_watchlists(topics);
    }

    /// Records the end of a signed-in connection.
    pub(super) fn remove(&mut self, topics: &mut Topics, connection: ConnectionRef, now: Instant) {
        let Some(signed_in) = self.all.remove(&connection) else { return };
        self.unwatch(topics, connection, &signed_in);
        let ends_at = now + OFFLINE_GRACE;
        topics.update_by_name(&signed_in.user_topic, |topic| topic.sign_out_at(ends_at));
    }

    fn unwatch(
        &mut self,
        topics: &mut Topics,
        connection: ConnectionRef,
        signed_in: &SignedInConnection,
    ) {
        self.pending.retain(|pending| *pending != connection);
        for Watched { topic, .. } in &signed_in.watched {
            topics.update_by_name(topic, |topic| {
                if signed_in.watchlist_sent {
                    topic.unwatch(connection);
                } else {
                    topic.pending_watchers -= 1;
                }
            });
        }
    }

    /// Sends the state of the watchlists that is complete now: first the whole list, then changes.
    pub(super) fn send_ready_watchlists(&mut self, topics: &mut Topics) {
        if self.pending.is_empty() {
            return;
        }
        let all = &topics.all;
        let is_online = |watched: &Watched| all.get(&watched.topic).and_then(Topic::is_online);
        let mut sent = Vec::new();
        for connection in &self.pending {
            let Some(signed_in) = self.all.get(connection) else { continue };
            if signed_in.watched.iter().all(|watched| is_online(watched).is_some()) {
                let (online, offline): (Vec<&Watched>, Vec<&Watched>) =
                    signed_in.watched.iter().partition(|watched| is_online(watched) == Some(true));
                let ids = |list: Vec<&Watched>| -> Vec<Arc<str>> {
                    list.into_iter().map(|watched| Arc::clone(&watched.user_id)).collect()
                };
                if let Some(hub) = topics.hubs.get(&signed_in.app_id) {
                    hub.send_watchlist(*connection, &ids(online), &ids(offline));
                }
                sent.push(*connection);
            }
        }
        for connection in sent {
            self.pending.retain(|pending| *pending != connection);
            let Some(signed_in) = self.all.get_mut(&connection) else { continue };
            signed_in.watchlist_sent = true;
            for Watched { topic, .. } in &signed_in.watched {
                if let Some(topic) = topics.all.get_mut(topic) {
                    topic.pending_watchers -= 1;
                    topic.watch(connection);
                }
            }
        }
    }
}
