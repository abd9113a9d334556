//! A record of an app's log: an event as JSON, after its time.
//!
//! This is the only Rust code that writes or reads records. `lua/sync.lua` writes those of the
//! changes that it makes, in the same form: a test compares both.

use crate::{
    config::WebhookEvent,
    hub::HubEvent,
    protocol::{ChannelName, SocketId, replace_lone_surrogates},
};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::Arc};

/// The members of the JSON object, in order. The names are short, because logs can be long.
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

/// The JSON of an event. Redis adds the time.
pub(super) fn encode(hub_event: &HubEvent) -> String {
    let mut record = Record {
        kind: Cow::Borrowed(hub_event.kind().as_str()),
        channel: hub_event.channel().map(|channel| Cow::Borrowed(channel.as_str())),
        user_id: hub_event.user_id().map(|user_id| Cow::Borrowed(&**user_id)),
        ..Record::default()
    };
    if let HubEvent::ClientEvent { name, data, socket_id, .. } = hub_event {
        record.name = Some(Cow::Borrowed(name));
        record.data = Some(Cow::Borrowed(data));
        record.socket_id = Some(socket_id.to_string());
    }
    if let HubEvent::SubscriptionCount { count, .. } = hub_event {
        record.count = Some(*count);
    }
    serde_json::to_string(&record).expect("text can always be written as JSON")
}

/// An event, and the number before it: its time in µs, or for a delayed event its deadline in ms.
/// `None` for other bytes.
pub(super) fn parse(record: &[u8]) -> Option<(u64, HubEvent)> {
    let space = record.iter().position(|byte| *byte == b' ')?;
    let number = std::str::from_utf8(&record[..space]).ok()?.parse().ok()?;
    let record: Record<'_> = serde_json::from_slice(&record[space + 1..]).ok()?;
    Some((number, record.hub_event()?))
}

impl Record<'_> {
    /// The event, if the members that its kind needs are present.
    fn hub_event(self) -> Option<HubEvent> {
        // It was within the app's limit when it was written.
        let channel = self.channel.map(|name| ChannelName::parse(&name, name.len()));
        let channel = channel.transpose().ok()?;
        let user_id = self.user_id.map(|user_id| Arc::<str>::from(&*user_id));
        Some(match WebhookEvent::from_name(&self.kind)? {
            WebhookEvent::ChannelOccupied => HubEvent::Occupied { channel: channel? },
            WebhookEvent::ChannelVacated => HubEvent::Vacated { channel: channel? },
            WebhookEvent::MemberAdded => {
                HubEvent::MemberAdded { channel: channel?, user_id: user_id? }
            }
            WebhookEvent::MemberRemoved => {
                HubEvent::MemberRemoved { channel: channel?, user_id: user_id? }
            }
            WebhookEvent::ClientEvent => HubEvent::ClientEvent {
                channel: channel?,
                name: self.name?.into_owned(),
                data: data_token(&self.data?)?,
                socket_id: SocketId::parse(&self.socket_id?).ok()??,
                user_id,
            },
            WebhookEvent::CacheMiss => HubEvent::CacheMiss { channel: channel? },
            WebhookEvent::SubscriptionCount => {
                HubEvent::SubscriptionCount { channel: channel?, count: self.count? }
            }
            WebhookEvent::UserOnline => HubEvent::UserOnline { user_id: user_id? },
            WebhookEvent::UserOffline => HubEvent::UserOffline { user_id: user_id? },
        })
    }
}

/// Data as a JSON token for a webhook's body; invalid JSON would make the whole body unreadable.
fn data_token(data: &str) -> Option<String> {
    let token = replace_lone_surrogates(data);
    let is_text = serde_json::from_str::<Option<Cow<'_, str>>>(&token).is_ok();
    is_text.then(|| token.trim().to_owned())
}

#[cfg(test)]
mod tests;
