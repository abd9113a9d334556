//! From the inbox to the outboxes.

use super::{dirty::Urgency, engine::Engine};
use crate::{
    hub::{ChannelId, ConnectionKey, Delivery, Inbox},
    protocol::{CloseCode, Frame, SocketId},
};

/// Frames handed to outboxes in one turn, before a slice is flushed: about a millisecond's work.
const HANDED_PER_TURN: usize = 16 * 1024;

impl Engine {
    /// Hands what the hub has put into the inbox to the outboxes.
    pub(super) fn deliver(&mut self, inbox: &Inbox) {
        if self.batch.is_empty() {
            inbox.take(&mut self.batch);
        }
        let mut left = HANDED_PER_TURN;
        while 0 < left {
            let Some(delivery) = self.batch.pop_front() else { return };
            let handed = match delivery {
                Delivery::Channel { channel, sequence, frame, except } => {
                    self.fan_out(channel, sequence, &frame, except)
                }
                Delivery::Connections { keys, frame } => self.send_each(&keys, &frame),
                Delivery::Close { keys, code } => self.close_each(&keys, &code),
            };
            left = left.saturating_sub(handed + 1);
        }
    }

    /// Hands one frame to the subscribers of a channel, and says to how many. Per subscriber this copies a handle and
    /// appends to two queues: no allocation in the common case, no lock, no log line, no clock.
    fn fan_out(
        &mut self,
        channel: ChannelId,
        sequence: u64,
        frame: &Frame,
        except: Option<SocketId>,
    ) -> usize {
        let subscribers = self.subscribers.of(channel);
        let urgency = Urgency::of_fan_out(subscribers.len());
        let max = self.config.max_outbox_bytes;
        let mut full = Vec::new();
        let mut sent = 0;
        for subscriber in subscribers {
            if sequence <= subscriber.since || Some(subscriber.socket_id) == except {
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
        for place in full {
            self.relieve(place);
        }
        sent
    }

    fn send_each(&mut self, keys: &[ConnectionKey], frame: &Frame) -> usize {
        for key in keys {
            if self.is_open(*key) {
                self.send(key.place, frame.clone());
            }
        }
        keys.len()
    }

    fn close_each(&mut self, keys: &[ConnectionKey], code: &CloseCode) -> usize {
        for key in keys {
            if self.is_open(*key) {
                self.close(key.place, code);
            }
        }
        keys.len()
    }
}
