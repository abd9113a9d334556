//! Delivers from the inbox to the outboxes.

use super::{admitted::SubscriptionState, connection::Phase, dirty::Urgency, event_loop::Shard};
use crate::{
    hub::{
        AcceptedSubscription, ChannelId, ConnectionKey, Delivery, Inbox, SlowConnection,
        SlowConnectionsQuery,
    },
    protocol::{ChannelName, CloseCode, Frame, FrameKind, SocketId, SubscriptionRejection},
};
use std::sync::Arc;

/// Frames queued in outboxes in one turn, before a slice is flushed: about a millisecond of work.
const FRAMES_PER_TURN: usize = 16 * 1024;

impl Shard {
    /// Delivers the content of the inbox.
    pub(super) fn deliver(&mut self, inbox: &Inbox) {
        if self.batch.is_empty() {
            inbox.drain_into(&mut self.batch);
        }
        let mut remaining = FRAMES_PER_TURN;
        while 0 < remaining {
            let Some(delivery) = self.batch.pop_front() else { return };
            let count = match delivery {
                Delivery::Channel { channel, sequence, frame, except, logged } => {
                    if 0 < logged {
                        self.logged_deliveries += 1;
                        self.subscribers.on_logged(channel, self.logged_deliveries, logged);
                    }
                    let sent = self.fan_out(channel, sequence, &frame, except);
                    if 0 < logged && frame.kind() == FrameKind::ClientEvent {
                        self.tell_uncounted(channel, logged);
                    } else if let Some(excluded) = except.filter(|_| 0 < logged) {
                        self.tell_excluded(channel, excluded, logged);
                    }
                    sent
                }
                Delivery::Connections { keys, frame } => self.send_each(&keys, &frame),
                Delivery::Subscription { key, ticket, name, result } => {
                    self.on_subscription_result(key, ticket, &name, result)
                }
                Delivery::CloseSubscribers { channel, code } => {
                    self.close_subscribers(channel, &code)
                }
                Delivery::CloseApp(hub) => self.evict_all(&hub),
                Delivery::ReportSlow(query) => self.report_slow(&query),
                Delivery::ReportConnections(query) => self.report_connections(&query),
                Delivery::WatchConnection(watch) => self.watch_connection(watch),
                Delivery::Disconnect { app_id, socket_id } => self.disconnect(&app_id, socket_id),
                Delivery::Close { keys, code } => self.close_each(&keys, &code),
                Delivery::Replace(key) => self.on_replaced(key),
                Delivery::Evict(key) => self.evict_http(key),
                Delivery::Response { key, response, reached } => {
                    self.respond_later(key, &response, reached)
                }
                Delivery::Resume { key, client, outcome } => self.on_claimed(key, &client, outcome),
            };
            remaining = remaining.saturating_sub(count + 1);
        }
    }

    /// Queues one frame for the subscribers of a channel, and returns their number. For each
    /// subscriber this copies a handle and appends to two queues: no allocation in the common case,
    /// no lock, no log line, no clock.
    fn fan_out(
        &mut self,
        channel: ChannelId,
        sequence: u64,
        frame: &Frame,
        except: Option<SocketId>,
    ) -> usize {
        let subscribers = self.subscribers.get(channel);
        let urgency = Urgency::of_fan_out(subscribers.len());
        let max = self.config.max_outbox_bytes;
        let mut full = Vec::new();
        let mut sent = 0;
        for subscriber in subscribers {
            if sequence <= subscriber.after_sequence || Some(subscriber.socket_id) == except {
                continue;
            }
            let Some(connection) = self.connections.get_mut(subscriber.connection as usize) else {
                continue;
            };
            connection.outbox.push(frame.clone());
            self.dirty.add(subscriber.connection, &mut connection.queued, urgency);
            if max < connection.outbox.bytes() {
                full.push(subscriber.connection);
            }
            sent += 1;
        }
        self.metrics().sent(frame.kind(), sent, frame.bytes().len());
        self.watch_fan_out(channel, sequence, frame, except);
        for slot in full {
            self.flush_or_close(slot);
        }
        sent
    }

    fn send_each(&mut self, keys: &[ConnectionKey], frame: &Frame) -> usize {
        for key in keys {
            if self.is_open(*key) {
                self.send(key.slot, frame.clone());
            }
        }
        keys.len()
    }

    /// Completes a subscription that waited for the broker. If the client has unsubscribed or was lost meanwhile,
    /// its subscription ends.
    fn on_subscription_result(
        &mut self,
        key: ConnectionKey,
        ticket: u32,
        name: &ChannelName,
        result: Result<Box<AcceptedSubscription>, SubscriptionRejection>,
    ) -> usize {
        let pending = SubscriptionState::Pending { ticket };
        // If the app was removed and added again, only the result of the new hub counts.
        let hub = result.as_ref().ok().map(|accepted| &accepted.hub);
        let is_waiting = self.is_open(key)
            && self.client(key.slot).is_some_and(|client| {
                hub.is_none_or(|hub| Arc::ptr_eq(hub, &client.hub))
                    && client.session.handle_mut(name).is_some_and(|handle| handle.0 == pending)
            });
        if self.is_open(key) {
            self.refund_expected_response(key.slot, name);
        }
        let lost = self.lost_pending.remove((key, ticket));
        match result {
            Ok(accepted) if is_waiting => {
                let AcceptedSubscription { user_id, subscribed, .. } = *accepted;
                self.on_subscribed(key.slot, name, user_id.as_ref(), subscribed);
            }
            Ok(accepted) => self.end_late(*accepted, name, lost),
            Err(rejection) if is_waiting => {
                if let Some(client) = self.client(key.slot) {
                    client.session.remove_subscription(name);
                }
                self.on_rejected(key.slot, name, rejection);
            }
            Err(_late_rejection) => {}
        }
        if self.is_alive(key) {
            self.read_if_unthrottled(key.slot);
        }
        1
    }

    /// Answers which connections of an app are slow. An idle connection costs a comparison.
    fn report_slow(&self, query: &SlowConnectionsQuery) -> usize {
        let blocked = self.connections.iter().map(|(_, connection)| connection);
        let slow = blocked.filter(|connection| connection.is_blocked).filter_map(|connection| {
            let Phase::Open(client) = &connection.phase else { return None };
            (client.hub.app_id() == query.app_id).then(|| SlowConnection {
                socket_id: client.session.socket_id(),
                address: client.info.address,
                waiting_bytes: connection.outbox.bytes(),
            })
        });
        query.answer(slow);
        0
    }

    fn close_subscribers(&mut self, channel: ChannelId, code: &CloseCode) -> usize {
        let slots: Vec<u32> =
            self.subscribers.get(channel).iter().map(|subscriber| subscriber.connection).collect();
        for slot in &slots {
            self.close(*slot, code);
        }
        slots.len()
    }

    fn close_each(&mut self, keys: &[ConnectionKey], code: &CloseCode) -> usize {
        for key in keys {
            if self.is_open(*key) {
                self.close(key.slot, code);
            }
        }
        keys.len()
    }
}
