//! Names of webhooks in metrics and logs.

use crate::{config::AppConfig, signature::Signer};
use hyper::Uri;

/// Number of hexadecimal digits of a digest that distinguishes webhooks of one host.
const DIGEST_LEN: usize = 8;

/// The names of an app's webhooks, in their order. Each is the configured name, or is derived from
/// the URL: the host, the host with the port, or that with a digest, whichever is first unique in
/// the app. A name therefore does not depend on the order, and contains no path and no query, which
/// may be secret.
pub(super) fn names(app: &AppConfig) -> Vec<String> {
    let candidates: Vec<Vec<String>> =
        (0..app.webhooks.len()).map(|at| candidates(app, at)).collect();
    let is_free = |at: usize, level: usize| {
        let others = candidates.iter().enumerate().filter(|(other, _)| *other != at);
        let mut taken = others.map(|(_, names)| names.get(level).or(names.first()));
        !taken.any(|name| name == candidates[at].get(level))
    };
    let mut names: Vec<String> = Vec::new();
    for (at, of_one) in candidates.iter().enumerate() {
        let level = (0..of_one.len()).find(|level| is_free(at, *level));
        let name = &of_one[level.unwrap_or(of_one.len() - 1)];
        // Webhooks that are equal in every setting.
        let twins = names.iter().filter(|known| known.split('*').next() == Some(name)).count();
        names.push(if twins == 0 { name.clone() } else { format!("{name}*{}", twins + 1) });
    }
    names
}

/// The possible names of a webhook, the shortest first.
fn candidates(app: &AppConfig, at: usize) -> Vec<String> {
    let webhook = &app.webhooks[at];
    if !webhook.name.is_empty() {
        return vec![webhook.name.clone()];
    }
    let url: Option<Uri> = webhook.url.parse().ok();
    let authority = url.as_ref().and_then(Uri::authority);
    let host = authority.map_or("unknown", |authority| authority.host()).to_ascii_lowercase();
    let port = authority.and_then(hyper::http::uri::Authority::port_u16);
    let with_port = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    let signer = Signer::new(app.secret.expose());
    let digest = |text: String| {
        let digest = signer.sign(&format!("webhook {text}"));
        format!("{with_port}#{}", &digest[..DIGEST_LEN])
    };
    let all = format!(
        "{} {:?} {:?} {:?}",
        webhook.url, webhook.events, webhook.channel_prefix, webhook.channel_suffix
    );
    vec![host, with_port.clone(), digest(webhook.url.clone()), digest(all)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{WebhookConfig, WebhookEvent};

    fn webhook(name: &str, url: &str) -> WebhookConfig {
        WebhookConfig { name: name.into(), url: url.into(), ..WebhookConfig::default() }
    }

    fn named(webhooks: &[WebhookConfig]) -> Vec<String> {
        names(&AppConfig { webhooks: webhooks.to_vec(), ..AppConfig::development() })
    }

    #[test]
    fn a_webhook_has_its_own_name_or_that_of_its_host() {
        let names = named(&[
            webhook("", "https://App.example.com/hooks?token=hunter2"),
            webhook("orders", "https://app.example.com/orders"),
            webhook("", "http://127.0.0.1:3000/a"),
            webhook("", "http://127.0.0.1:4000/a"),
        ]);
        assert_eq!(names, ["app.example.com", "orders", "127.0.0.1:3000", "127.0.0.1:4000"]);
    }

    #[test]
    fn webhooks_of_one_host_have_distinct_names_in_any_order_and_without_secrets() {
        let mut webhooks = vec![
            webhook("", "https://a.test/hooks/hunter2"),
            webhook("", "https://a.test/hooks?token=hunter2"),
            webhook("", "https://a.test/same"),
            webhook("", "https://a.test/same"),
            webhook("a.test", "https://b.test/"),
            webhook("", "https://c.test/"),
        ];
        webhooks[3].events = vec![WebhookEvent::CacheMiss];
        let before = named(&webhooks);
        let mut unique = before.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), webhooks.len(), "{before:?}");
        assert!(!before.concat().contains("hunter2"), "{before:?}");
        webhooks.rotate_left(2);
        let mut after = named(&webhooks);
        after.rotate_right(2);
        assert_eq!(before, after);
    }

    #[test]
    fn equal_webhooks_have_different_names() {
        let names = named(&[webhook("", "http://a/"), webhook("", "http://a/")]);
        assert_ne!(names[0], names[1]);
    }
}
