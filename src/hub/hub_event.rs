//! What happens in an app, and the bytes in which a log keeps it.

use crate::{
    config::WebhookEvent as Kind,
    protocol::{ChannelName, SocketId, repaired},
};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, sync::Arc};

/// Something that the application may want to be told.
///
/// These are plain facts, as the hub sees them: whoever leaves and comes back at once causes two.
/// What of it is told, and when, is decided later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HubEvent {
    /// The channel has its first subscriber.
    Occupied {
        /// The channel.
        channel: ChannelName,
    },
    /// The channel has lost its last subscriber.
    Vacated {
        /// The channel.
        channel: ChannelName,
    },
    /// The first connection of a user has joined a presence channel.
    MemberAdded {
        /// The channel.
        channel: ChannelName,
        /// The user.
        user_id: Arc<str>,
    },
    /// The last connection of a user has left a presence channel.
    MemberRemoved {
        /// The channel.
        channel: ChannelName,
        /// The user.
        user_id: Arc<str>,
    },
    /// A client event was accepted.
    ClientEvent {
        /// The channel that it goes to.
        channel: ChannelName,
        /// Its name.
        name: String,
        /// Its data as a JSON token, a string or `null`: what
        /// [`EventData::token`](crate::protocol::EventData::token) gives.
        data: String,
        /// The connection that sent it.
        socket_id: SocketId,
        /// On a presence channel, the member that sent it.
        user_id: Option<Arc<str>>,
    },
    /// Somebody has subscribed to a cache channel that holds no event.
    CacheMiss {
        /// The channel.
        channel: ChannelName,
    },
    /// The channel has another number of subscribers. Whoever observes it sees to it that it is not
    /// too often.
    SubscriptionCount {
        /// The channel.
        channel: ChannelName,
        /// How many there are.
        count: usize,
    },
    /// A user has signed in with the first of its connections.
    UserOnline {
        /// The user.
        user_id: Arc<str>,
    },
    /// A user has been away for longer than a reload takes.
    UserOffline {
        /// The user.
        user_id: Arc<str>,
    },
}

/// Who is told what occurs. Apps are named by their ids.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Whether occurrences of this kind matter to anybody. Need not be asked, but saves the making
    /// of what nobody wants.
    fn wants(&self, app_id: &str, kind: Kind) -> bool;

    /// Takes notice of an occurrence. Called under the lock of its channel: it must not wait.
    fn observe(&self, app_id: &str, hub_event: HubEvent);

    /// As [`Observer::observe`], of what was decided elsewhere: in µs since 1970 by a clock that is
    /// the same for all that is said of one channel or user.
    fn observe_at(&self, app_id: &str, at_us: u64, hub_event: HubEvent);
}

/// Nobody: for a hub whose application wants to be told nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn wants(&self, _app_id: &str, _kind: Kind) -> bool {
        false
    }

    fn observe(&self, _app_id: &str, _occurrence: HubEvent) {}

    fn observe_at(&self, _app_id: &str, _at_us: u64, _occurrence: HubEvent) {}
}

/// Bytes that are no occurrence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InvalidHubEvent;

/// The members of the JSON object that stands for an occurrence in a log. Names are short, because
/// there can be many.
#[derive(Default, Deserialize, Serialize)]
struct Record<'a> {
    #[serde(rename = "k", borrow)]
    kind: Cow<'a, str>,
    #[serde(rename = "c", borrow, skip_serializing_if = "Option::is_none")]
    channel: Option<Cow<'a, str>>,
    #[serde(rename = "u", borrow, skip_serializing_if = "Option::is_none")]
    user_id: Option<Cow<'a, str>>,
    #[serde(rename = "e", borrow, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(rename = "d", borrow, skip_serializing_if = "Option::is_none")]
    data: Option<Cow<'a, str>>,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    socket_id: Option<String>,
    #[serde(rename = "n", skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
}

impl HubEvent {
    /// What kind of thing it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Occupied { .. } => Kind::ChannelOccupied,
            Self::Vacated { .. } => Kind::ChannelVacated,
            Self::MemberAdded { .. } => Kind::MemberAdded,
            Self::MemberRemoved { .. } => Kind::MemberRemoved,
            Self::ClientEvent { .. } => Kind::ClientEvent,
            Self::CacheMiss { .. } => Kind::CacheMiss,
            Self::SubscriptionCount { .. } => Kind::SubscriptionCount,
            Self::UserOnline { .. } => Kind::UserOnline,
            Self::UserOffline { .. } => Kind::UserOffline,
        }
    }

    /// The channel that it concerns. What is said of a user concerns none.
    #[must_use]
    pub fn channel(&self) -> Option<&ChannelName> {
        match self {
            Self::Occupied { channel }
            | Self::Vacated { channel }
            | Self::MemberAdded { channel, .. }
            | Self::MemberRemoved { channel, .. }
            | Self::ClientEvent { channel, .. }
            | Self::CacheMiss { channel }
            | Self::SubscriptionCount { channel, .. } => Some(channel),
            Self::UserOnline { .. } | Self::UserOffline { .. } => None,
        }
    }

    /// The user that it concerns, if it does.
    #[must_use]
    pub fn user_id(&self) -> Option<&Arc<str>> {
        match self {
            Self::MemberAdded { user_id, .. }
            | Self::MemberRemoved { user_id, .. }
            | Self::UserOnline { user_id }
            | Self::UserOffline { user_id } => Some(user_id),
            Self::ClientEvent { user_id, .. } => user_id.as_ref(),
            Self::Occupied { .. }
            | Self::Vacated { .. }
            | Self::CacheMiss { .. }
            | Self::SubscriptionCount { .. } => None,
        }
    }

    /// Whether it is half of a pair: something came or went, and whoever hears only of the one is
    /// misled for good. The others are of the moment.
    #[must_use]
    pub fn is_transition(&self) -> bool {
        match self {
            Self::Occupied { .. }
            | Self::Vacated { .. }
            | Self::MemberAdded { .. }
            | Self::MemberRemoved { .. }
            | Self::UserOnline { .. }
            | Self::UserOffline { .. } => true,
            Self::ClientEvent { .. } | Self::CacheMiss { .. } | Self::SubscriptionCount { .. } => {
                false
            }
        }
    }

    /// How much memory it takes at most, in bytes: names may be shared with those who are there.
    #[must_use]
    pub fn weight(&self) -> usize {
        let channel = self.channel().map_or(0, |channel| channel.as_str().len());
        let user_id = self.user_id().map_or(0, |user_id| user_id.len());
        let text = if let Self::ClientEvent { name, data, .. } = self {
            name.len() + data.len()
        } else {
            0
        };
        size_of::<Self>() + channel + user_id + text
    }

    /// The occurrence for a log. [`HubEvent::from_bytes`] reads it back.
    ///
    /// # Panics
    ///
    /// Never: text can always be written as JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut record = Record {
            kind: Cow::Borrowed(self.kind().as_str()),
            channel: self.channel().map(|channel| Cow::Borrowed(channel.as_str())),
            user_id: self.user_id().map(|user_id| Cow::Borrowed(&**user_id)),
            ..Record::default()
        };
        if let Self::ClientEvent { name, data, socket_id, .. } = self {
            record.name = Some(Cow::Borrowed(name));
            record.data = Some(Cow::Borrowed(data));
            record.socket_id = Some(socket_id.to_string());
        }
        if let Self::SubscriptionCount { count, .. } = self {
            record.count = Some(*count);
        }
        serde_json::to_vec(&record).expect("text can always be written as JSON")
    }

    /// Reads what [`HubEvent::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`InvalidHubEvent`] when it was written by somebody else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidHubEvent> {
        let record: Record<'_> = serde_json::from_slice(bytes).map_err(|_| InvalidHubEvent)?;
        record.hub_event().ok_or(InvalidHubEvent)
    }
}

impl Record<'_> {
    /// The occurrence, if everything is there that its kind takes.
    fn hub_event(self) -> Option<HubEvent> {
        // It was within the app's limit when it was written.
        let channel = self.channel.map(|name| ChannelName::parse(&name, name.len()));
        let channel = channel.transpose().ok()?;
        let user_id = self.user_id.map(|user_id| Arc::<str>::from(&*user_id));
        Some(match Kind::from_name(&self.kind)? {
            Kind::ChannelOccupied => HubEvent::Occupied { channel: channel? },
            Kind::ChannelVacated => HubEvent::Vacated { channel: channel? },
            Kind::MemberAdded => HubEvent::MemberAdded { channel: channel?, user_id: user_id? },
            Kind::MemberRemoved => HubEvent::MemberRemoved { channel: channel?, user_id: user_id? },
            Kind::ClientEvent => HubEvent::ClientEvent {
                channel: channel?,
                name: self.name?.into_owned(),
                data: data_token(&self.data?)?,
                socket_id: SocketId::parse(&self.socket_id?).ok()??,
                user_id,
            },
            Kind::CacheMiss => HubEvent::CacheMiss { channel: channel? },
            Kind::SubscriptionCount => {
                HubEvent::SubscriptionCount { channel: channel?, count: self.count? }
            }
            Kind::UserOnline => HubEvent::UserOnline { user_id: user_id? },
            Kind::UserOffline => HubEvent::UserOffline { user_id: user_id? },
        })
    }
}

/// Data as a JSON token for a webhook's body; invalid JSON would make the whole body unreadable.
fn data_token(data: &str) -> Option<String> {
    let token = repaired(data);
    let is_text = serde_json::from_str::<Option<Cow<'_, str>>>(&token).is_ok();
    is_text.then(|| token.trim().to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name, 200).unwrap()
    }

    pub(crate) fn one_of_each() -> [HubEvent; Kind::ALL.len()] {
        let user_id: Arc<str> = "ann \"the\" 1st".into();
        let room = channel("presence-room");
        [
            HubEvent::Occupied { channel: channel("t") },
            HubEvent::Vacated { channel: channel("t") },
            HubEvent::MemberAdded { channel: room.clone(), user_id: Arc::clone(&user_id) },
            HubEvent::MemberRemoved { channel: room.clone(), user_id: Arc::clone(&user_id) },
            HubEvent::ClientEvent {
                channel: room,
                name: "client-\"x\"".into(),
                data: r#""{\"a\":1}""#.into(),
                socket_id: SocketId::from_random(0x0000_007b_0000_01c8),
                user_id: Some(Arc::clone(&user_id)),
            },
            HubEvent::CacheMiss { channel: channel("cache-x") },
            HubEvent::SubscriptionCount { channel: channel("t"), count: 13 },
            HubEvent::UserOnline { user_id: Arc::clone(&user_id) },
            HubEvent::UserOffline { user_id },
        ]
    }

    #[test]
    fn an_occurrence_reads_back_as_it_was_written() {
        for (hub_event, kind) in one_of_each().into_iter().zip(Kind::ALL) {
            assert_eq!(hub_event.kind(), kind);
            let bytes = hub_event.to_bytes();
            assert_eq!(HubEvent::from_bytes(&bytes), Ok(hub_event));
        }
        let bytes = one_of_each()[0].to_bytes();
        assert_eq!(bytes, br#"{"k":"channel_occupied","c":"t"}"#);
    }

    #[test]
    fn data_from_a_log_is_json_that_every_parser_reads() {
        let text =
            r#"{"k":"client_event","c":"private-x","e":"client-a","d":"\"\\ud800\"","s":"1.1"}"#;
        let read = HubEvent::from_bytes(text.as_bytes());
        let Ok(HubEvent::ClientEvent { data, .. }) = read else { panic!("{read:?}") };
        assert_eq!(data, r#""\ufffd""#);
    }

    #[test]
    fn what_is_no_occurrence_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"k":"nothing","c":"t"}"#,
            r#"{"k":"channel_occupied"}"#,
            r#"{"k":"channel_occupied","c":"a b"}"#,
            r#"{"k":"member_added","c":"presence-x"}"#,
            r#"{"k":"client_event","c":"private-x","e":"client-a","d":"null","s":"0.1"}"#,
            r#"{"k":"user_online","c":"t"}"#,
            r#"{"k":"client_event","c":"private-x","e":"client-a","d":"\"\"],","s":"1.1"}"#,
            r#"{"k":"client_event","c":"private-x","e":"client-a","d":"{}","s":"1.1"}"#,
        ] {
            assert_eq!(HubEvent::from_bytes(text.as_bytes()), Err(InvalidHubEvent), "{text}");
        }
    }

    #[test]
    fn an_occurrence_weighs_what_its_texts_take() {
        let extra = |hub_event: &HubEvent| hub_event.weight() - size_of::<HubEvent>();
        assert_eq!(extra(&HubEvent::UserOnline { user_id: "ann".into() }), 3);
        assert_eq!(extra(&HubEvent::Occupied { channel: channel("news") }), 4);
        let [_, _, member, _, event, ..] = one_of_each();
        assert_eq!(extra(&member), "presence-room".len() + "ann \"the\" 1st".len());
        let texts = r#"client-"x""{\"a\":1}""#.len();
        assert_eq!(extra(&event), extra(&member) + texts);
    }
}
