//! What is kept of a connection that was lost, for the client's return.

use super::Position;
use crate::protocol::ChannelName;
use serde_json::{Map, Value, json};
use std::{collections::HashMap, sync::Arc, time::Instant};

/// The channels of a lost connection, and how far its client has certainly received each.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParkedSession {
    /// When the connection was lost. `None` if its node ended without a word: then the channels are not known
    /// either, and the client may have missed events of any.
    pub lost_at: Option<Instant>,
    /// The process to which the client was connected, if it is another one: there its subscriptions stay for the grace period.
    pub process: Option<Arc<str>>,
    /// The position in each channel's log; `None` where no log was kept.
    pub positions: HashMap<ChannelName, Option<Position>>,
    /// The number of events that the client had acknowledged on the connection, and that are not replayed for this
    /// reason. For metrics: other nodes do not receive it.
    pub acknowledged: u64,
}

/// In JSON, stands for the channels of an unknown session. It is no name of a channel.
const ANY_CHANNEL: &str = "*";

impl ParkedSession {
    /// The session of a connection that was lost at `lost_at`.
    #[must_use]
    pub fn new(lost_at: Instant) -> Self {
        Self { lost_at: Some(lost_at), process: None, positions: HashMap::new(), acknowledged: 0 }
    }

    /// The session of a connection of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { lost_at: None, process: None, positions: HashMap::new(), acknowledged: 0 }
    }

    /// The positions as a JSON object, for other nodes: each `[EPOCH, SEQUENCE]` or `null`, by channel. Of an unknown
    /// session, `*` is one of them.
    #[must_use]
    pub fn positions_to_json(&self) -> String {
        let entry = |(channel, position): (&ChannelName, &Option<Position>)| {
            let position = position.as_ref().map(|at| json!([&*at.epoch, at.sequence]));
            (channel.as_str().to_owned(), position.unwrap_or_default())
        };
        let any = self.lost_at.is_none().then(|| (ANY_CHANNEL.to_owned(), Value::Null));
        Value::Object(self.positions.iter().map(entry).chain(any).collect()).to_string()
    }

    /// Reads what [`ParkedSession::positions_to_json`] has written; `None` if it is something else.
    #[must_use]
    pub fn from_json(positions: &str, lost_at: Instant) -> Option<Self> {
        let mut object: Map<String, Value> = serde_json::from_str(positions).ok()?;
        let lost_at = object.remove(ANY_CHANNEL).is_none().then_some(lost_at);
        let entry = |(channel, position): (String, Value)| {
            // Its length was checked when the client subscribed.
            let channel = ChannelName::parse(&channel, usize::MAX).ok()?;
            let position: Option<(String, u64)> = serde_json::from_value(position).ok()?;
            let position =
                position.map(|(epoch, sequence)| Position { epoch: epoch.into(), sequence });
            Some((channel, position))
        };
        let positions = object.into_iter().map(entry).collect::<Option<_>>()?;
        Some(Self { lost_at, process: None, positions, acknowledged: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_they_were_written() {
        let now = Instant::now();
        let mut session = ParkedSession::new(now);
        let channel = |name| ChannelName::parse(name, 200).unwrap();
        let position = Position { epoch: "a.1".into(), sequence: u64::MAX };
        session.positions.insert(channel("news"), Some(position));
        session.positions.insert(channel("private-a,b;c"), None);
        let read =
            |session: &ParkedSession| ParkedSession::from_json(&session.positions_to_json(), now);
        assert_eq!(read(&session).as_ref(), Some(&session));
        assert_eq!(read(&ParkedSession::new(now)), Some(ParkedSession::new(now)));
        assert_eq!(read(&ParkedSession::unknown()), Some(ParkedSession::unknown()));
        session.lost_at = None;
        assert_eq!(read(&session), Some(session), "some channels of an unknown session are known");
        for other in ["", "[]", r#"{"a":1}"#, r#"{"a":["e"]}"#, r#"{"a":["e",-1]}"#, r#"{"":null}"#]
        {
            assert_eq!(ParkedSession::from_json(other, now), None, "{other}");
        }
    }
}
