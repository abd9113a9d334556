//! Sends a sample of each event to each endpoint, for `campanile webhooks test`.

use super::{
    WebhookError,
    client::Post,
    endpoint::Endpoint,
    envelope::{self, WebhookRequest},
    name::names,
};
use crate::{
    clock::now,
    config::{Config, WebhookConfig, WebhookEvent},
    http_client::Connector,
    hub::HubEvent,
    protocol::{ChannelName, SocketId},
    signature::Signer,
    tls,
};
use arc_swap::ArcSwap;
use std::{sync::Arc, time::Duration};

/// One sample and its result.
#[derive(Debug)]
pub struct TestDelivery {
    /// The id of the app that has the webhook.
    pub app_id: String,
    /// The configured or derived name of the webhook.
    pub webhook: String,
    /// Host and port of the endpoint. Not the whole URL, which may hold a secret.
    pub host: String,
    /// The kind of the sample.
    pub event: WebhookEvent,
    /// The status and the first bytes of the response's body, or the error.
    pub response: Result<(u16, String), String>,
    /// The duration of the request.
    pub took: Duration,
}

impl TestDelivery {
    /// Whether the endpoint accepted the sample.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self.response, Ok((200..300, _)))
    }
}

/// Sends one sample of each event that each webhook of `config` is configured for, each in a
/// request of its own, and passes each result to `report`.
///
/// # Errors
///
/// If a webhook is unusable.
pub async fn send_test(
    config: &Config,
    mut report: impl FnMut(TestDelivery),
) -> Result<(), WebhookError> {
    let connector = Arc::new(ArcSwap::from_pointee(connector(config)?));
    for app in &config.apps {
        let signer = Signer::new(app.secret.expose());
        for (name, settings) in names(app).into_iter().zip(&app.webhooks) {
            let endpoint = Endpoint::new(app, &name, settings)?;
            let mut client = endpoint.client(Arc::clone(&connector));
            for &event in &settings.events {
                let text = envelope::event(&sample(event, settings));
                let begin = now();
                let request = WebhookRequest::new(&signer, (&text, 1), envelope::time_ms(), begin);
                let response = client.post(&request).await;
                report(TestDelivery {
                    app_id: app.id.clone(),
                    webhook: name.clone(),
                    host: endpoint.target.origin.authority().to_owned(),
                    event,
                    response: response.map_err(|error| error.to_string()).map(|response| {
                        let body = String::from_utf8_lossy(&response.body).into_owned();
                        (response.status.as_u16(), body)
                    }),
                    took: now().saturating_duration_since(begin),
                });
            }
        }
    }
    Ok(())
}

/// A connector for all webhooks of `config`.
pub(super) fn connector(config: &Config) -> Result<Connector, WebhookError> {
    let mut webhooks = config.apps.iter().flat_map(|app| &app.webhooks);
    let with_tls = webhooks.any(|webhook| {
        webhook.url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
    });
    let tls = if with_tls {
        Some(tls::client_config(tls::system_roots().map_err(WebhookError::NoRoots)?))
    } else {
        None
    };
    Ok(Connector::new(tls, config.webhooks.deny_private))
}

/// A possible event on a channel that passes the webhook's filter.
fn sample(event: WebhookEvent, webhook: &WebhookConfig) -> HubEvent {
    let prefix = match (webhook.channel_prefix.as_str(), event) {
        ("", WebhookEvent::MemberAdded | WebhookEvent::MemberRemoved) => "presence-",
        ("", WebhookEvent::ClientEvent) => "private-",
        ("", WebhookEvent::CacheMiss) => "cache-",
        (prefix, _) => prefix,
    };
    let name = format!("{prefix}campanile-test{}", webhook.channel_suffix);
    // A filter that no channel can pass has a sample that does not pass.
    let channel = ChannelName::parse(&name, name.len())
        .or_else(|_| ChannelName::parse("campanile-test", usize::MAX))
        .expect("it holds letters and a dash");
    let user_id: Arc<str> = "campanile-test".into();
    match event {
        WebhookEvent::ChannelOccupied => HubEvent::Occupied { channel },
        WebhookEvent::ChannelVacated => HubEvent::Vacated { channel },
        WebhookEvent::MemberAdded => HubEvent::MemberAdded { channel, user_id },
        WebhookEvent::MemberRemoved => HubEvent::MemberRemoved { channel, user_id },
        WebhookEvent::ClientEvent => HubEvent::ClientEvent {
            channel,
            name: "client-campanile-test".to_owned(),
            data: r#""{\"test\":true}""#.to_owned(),
            socket_id: SocketId::from_random(0x0000_0001_0000_0001),
            user_id: Some(user_id),
        },
        WebhookEvent::CacheMiss => HubEvent::CacheMiss { channel },
        WebhookEvent::SubscriptionCount => HubEvent::SubscriptionCount { channel, count: 1 },
        WebhookEvent::UserOnline => HubEvent::UserOnline { user_id },
        WebhookEvent::UserOffline => HubEvent::UserOffline { user_id },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::filter::Filter;

    #[test]
    fn only_2xx_is_success() {
        let test_delivery = |response| TestDelivery {
            app_id: String::new(),
            webhook: String::new(),
            host: String::new(),
            event: WebhookEvent::CacheMiss,
            response,
            took: Duration::ZERO,
        };
        for (status, succeeded) in [(199, false), (200, true), (299, true), (300, false)] {
            assert_eq!(
                test_delivery(Ok((status, String::new()))).succeeded(),
                succeeded,
                "{status}"
            );
        }
        assert!(!test_delivery(Err(String::new())).succeeded());
    }

    #[test]
    fn samples_have_channels_of_the_right_kind() {
        let prefixes = WebhookEvent::ALL.map(|event| {
            let sample = sample(event, &WebhookConfig::default());
            sample.channel().map(|channel| channel.as_str().to_owned())
        });
        let channel = |prefix: &str| Some(format!("{prefix}campanile-test"));
        let expected = [
            channel(""),
            channel(""),
            channel("presence-"),
            channel("presence-"),
            channel("private-"),
            channel("cache-"),
            channel(""),
            None,
            None,
        ];
        assert_eq!(prefixes, expected);
        let odd =
            WebhookConfig { channel_prefix: "no channel ".into(), ..WebhookConfig::default() };
        let sample = sample(WebhookEvent::ChannelOccupied, &odd);
        assert_eq!(sample.channel().map(ChannelName::as_str), Some("campanile-test"));
    }

    #[test]
    fn a_sample_passes_the_filter_of_its_webhook() {
        for (prefix, suffix) in [("", ""), ("private-", ""), ("presence-", "-log")] {
            let webhook = WebhookConfig {
                events: WebhookEvent::ALL.to_vec(),
                channel_prefix: prefix.into(),
                channel_suffix: suffix.into(),
                ..WebhookConfig::default()
            };
            for event in WebhookEvent::ALL {
                let sample = sample(event, &webhook);
                assert_eq!(sample.kind(), event);
                assert!(Filter::new(&webhook).passes(&sample), "{sample:?}");
            }
        }
    }
}
