//! The filter of one webhook.

use crate::config::{WebhookConfig, WebhookEvent};
use crate::hub::HubEvent;

/// A set of kinds, as a bit mask.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Kinds(u16);

impl Kinds {
    fn bit(kind: WebhookEvent) -> u16 {
        1 << kind as u8
    }

    pub(super) fn contains(self, kind: WebhookEvent) -> bool {
        self.0 & Self::bit(kind) != 0
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These kinds and their counterparts: debouncing needs both events of a pair.
    pub(super) fn with_counterparts(self) -> Self {
        let pairs = [
            (WebhookEvent::ChannelOccupied, WebhookEvent::ChannelVacated),
            (WebhookEvent::MemberAdded, WebhookEvent::MemberRemoved),
            (WebhookEvent::UserOnline, WebhookEvent::UserOffline),
        ];
        let needed =
            pairs.into_iter().map(|(arrival, departure)| Self::from_iter([arrival, departure]));
        needed.filter(|pair| pair.0 & self.0 != 0).fold(self, Self::union)
    }
}

impl FromIterator<WebhookEvent> for Kinds {
    fn from_iter<I: IntoIterator<Item = WebhookEvent>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |bits, kind| bits | Self::bit(kind)))
    }
}

/// The events that a webhook receives.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) kinds: Kinds,
    prefix: String,
    suffix: String,
}

impl Filter {
    pub(super) fn new(config: &WebhookConfig) -> Self {
        Self {
            kinds: config.events.iter().copied().collect(),
            prefix: config.channel_prefix.clone(),
            suffix: config.channel_suffix.clone(),
        }
    }

    /// Whether the webhook receives the event. Events without a channel are not filtered by
    /// channel.
    pub(super) fn passes(&self, hub_event: &HubEvent) -> bool {
        self.kinds.contains(hub_event.kind())
            && hub_event.channel().is_none_or(|channel| {
                let name = channel.as_str();
                // Prefix and suffix may overlap: "a-b" begins with "a-" and ends with "-b".
                name.starts_with(&self.prefix) && name.ends_with(&self.suffix)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::hub_event_tests::{channel, one_of_each};

    fn filter(events: &[WebhookEvent], prefix: &str, suffix: &str) -> Filter {
        Filter::new(&WebhookConfig {
            events: events.to_vec(),
            channel_prefix: prefix.into(),
            channel_suffix: suffix.into(),
            ..WebhookConfig::default()
        })
    }

    #[test]
    fn only_configured_kinds_pass() {
        for wanted in WebhookEvent::ALL {
            let filter = filter(&[wanted], "", "");
            for hub_event in one_of_each() {
                assert_eq!(filter.passes(&hub_event), hub_event.kind() == wanted);
            }
        }
    }

    #[test]
    fn channels_pass_by_prefix_and_suffix() {
        for (prefix, suffix, name, passes) in [
            ("", "", "anything", true),
            ("private-", "", "private-a", true),
            ("private-", "", "presence-a", false),
            ("private-", "", "a-private-", false),
            ("", "-log", "a-log", true),
            ("", "-log", "a-log-b", false),
            ("private-", "-log", "private-a-log", true),
            ("private-", "-log", "private-log", true),
            ("private-", "-log", "private-a", false),
            ("private-", "-log", "a-log", false),
        ] {
            let occupied = HubEvent::Occupied { channel: channel(name) };
            let filter = filter(&WebhookEvent::ALL, prefix, suffix);
            assert_eq!(filter.passes(&occupied), passes, "{prefix} {suffix} {name}");
        }
        let online = HubEvent::UserOnline { user_id: "7".into() };
        assert!(filter(&WebhookEvent::ALL, "private-", "-log").passes(&online));
    }

    #[test]
    fn a_kind_needs_its_counterpart() {
        let kinds = Kinds::from_iter([WebhookEvent::ChannelVacated, WebhookEvent::ClientEvent])
            .with_counterparts();
        let expected = [
            WebhookEvent::ChannelOccupied,
            WebhookEvent::ChannelVacated,
            WebhookEvent::ClientEvent,
        ];
        assert_eq!(kinds, Kinds::from_iter(expected));
        assert!(expected.into_iter().all(|kind| kinds.contains(kind)));
        assert!(!kinds.contains(WebhookEvent::MemberAdded));
        let pairs = [
            [WebhookEvent::ChannelOccupied, WebhookEvent::ChannelVacated],
            [WebhookEvent::MemberAdded, WebhookEvent::MemberRemoved],
            [WebhookEvent::UserOnline, WebhookEvent::UserOffline],
        ];
        for pair in pairs {
            for kind in pair {
                let needed = Kinds::from_iter([kind]).with_counterparts();
                assert_eq!(needed, Kinds::from_iter(pair));
                for other in WebhookEvent::ALL {
                    assert_eq!(needed.contains(other), pair.contains(&other));
                }
            }
        }
        for kind in
            [WebhookEvent::ClientEvent, WebhookEvent::CacheMiss, WebhookEvent::SubscriptionCount]
        {
            let alone = Kinds::from_iter([kind]);
            assert_eq!(alone.with_counterparts(), alone);
        }
    }
}
