//! What the clients of the simulated world receive.

use super::{World, history::ReceivedMessage, node::Sent};
use tokio::time::Instant;

impl World {
    /// Records what a session was sent.
    pub(super) fn receive(&mut self, number: usize, sent: Sent) {
        let now = Instant::now();
        let session = &mut self.history.sessions[number];
        if !session.is_open() {
            return;
        }
        let reader = session.reader.map(|reader| &mut self.history.readers[reader]);
        match sent {
            Sent::Text(text, logged) => {
                let Some(received) = read(&text) else { return };
                if let ReceivedMessage::Acknowledged(_) = received {
                    session.acknowledged = Some(now);
                }
                if let (ReceivedMessage::Event(event), Some(reader)) = (&received, reader) {
                    reader.on_event(*event, logged);
                }
                session.received.push((now, received));
            }
            Sent::Started(start) => {
                for replayed in start.replay.iter().flatten() {
                    let received =
                        replayed.frame.as_text().and_then(read).expect("an event is replayed");
                    session.received.push((now, received));
                }
                reader.expect("only readers use logs").on_started(&start, now);
            }
            Sent::Closed => {
                session.received.push((now, ReceivedMessage::Closed));
                session.ended = Some(now);
                self.on_session_ended(number);
            }
        }
    }
}

/// The number of the event in a frame.
pub(super) fn read_event(text: &str) -> Option<u64> {
    if let ReceivedMessage::Event(event) = read(text)? { Some(event) } else { None }
}

/// Parses a frame for a client of the test.
fn read(text: &str) -> Option<ReceivedMessage> {
    let frame: serde_json::Value = serde_json::from_str(text).expect("JSON");
    let data = frame["data"].as_str().unwrap_or_default();
    let inner: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    let user = || inner["user_id"].as_str().unwrap_or_default().to_owned();
    match frame["event"].as_str()? {
        "pusher_internal:subscription_succeeded" => {
            let ids = inner["presence"]["ids"].as_array().cloned().unwrap_or_default();
            let ids = ids.iter().filter_map(|id| id.as_str().map(str::to_owned));
            Some(ReceivedMessage::Acknowledged(ids.collect()))
        }
        "pusher_internal:member_added" => Some(ReceivedMessage::Added(user())),
        "pusher_internal:member_removed" => Some(ReceivedMessage::Removed(user())),
        "pusher_internal:subscription_count" => {
            let count = inner["subscription_count"].as_u64()?;
            Some(ReceivedMessage::Count(usize::try_from(count).ok()?))
        }
        "e" => Some(ReceivedMessage::Event(data.parse().expect("a number"))),
        _ => None,
    }
}
