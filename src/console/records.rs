//! The watches of records: failed authorizations, webhooks, and the warnings of the log.

use super::{
    context::{APP_CHANGED, Context, Extent, SeenApp},
    explain::explain_warning,
    output::{Closed, Output},
    request::WebhookParams,
};
use crate::recent::{self, FailedAuthorization, Recent, Recorded, Warning, WebhookAttempt};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tokio::time;

/// How often new records are sent.
const INTERVAL: Duration = Duration::from_millis(250);
/// Maximum number of records in the first answer.
const FIRST_MAX: usize = 50;
/// Maximum number of records for a page of another node at first, and the maximum size of a body for it.
const FOR_PEER_MAX: usize = 50;
const BODY_FOR_PEER_MAX: usize = 2 * 1_024;

/// Sends the records that `describe` shows, the oldest first, and then new ones until the page is gone.
async fn watch<T>(
    (recent, context): (&Recent<T>, &Context),
    app: Option<&SeenApp>,
    describe: impl Fn(&Recorded<T>) -> Option<Value>,
    output: &Output,
) -> Result<(), Closed> {
    let known = recent.since(0);
    let mut latest = known.last().map_or(0, |record| record.number);
    let mut shown: Vec<_> = known.iter().filter_map(|record| describe(record)).collect();
    if context.extent == Extent::ForPeer {
        shown.drain(..shown.len().saturating_sub(FOR_PEER_MAX));
    }
    drop(known);
    // Bodies may be large: the queue of the page is bounded, so all but the oldest follow one by one.
    let rest = shown.split_off(shown.len().min(FIRST_MAX));
    output.result(shown).await?;
    for item in rest {
        output.data(item).await?;
    }
    let mut ticks = time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if app.is_some_and(|app| !app.is_current()) {
            return output.error(APP_CHANGED).await;
        }
        for record in recent.since(latest) {
            latest = record.number;
            if let Some(item) = describe(&record) {
                output.data(item).await?;
            }
        }
    }
}

/// The watch `authorizations`.
pub(super) async fn authorizations(
    context: &Context,
    app: &SeenApp,
    output: &Output,
) -> Result<(), Closed> {
    let app_id = app.hub.app_id();
    let describe = |failed: &Recorded<FailedAuthorization>| {
        let is_of_app = failed.record.app == app_id;
        is_of_app.then(|| authorization(context, app, failed))
    };
    watch((&recent::AUTHORIZATIONS, context), Some(app), describe, output).await
}

fn authorization(
    context: &Context,
    app: &SeenApp,
    failed: &Recorded<FailedAuthorization>,
) -> Value {
    let Recorded { time_ms, record, .. } = failed;
    let kind = match record.channel.as_deref() {
        None => "signin",
        Some(channel) if channel.starts_with("presence-") => "presence",
        Some(_) => "private",
    };
    let received = record
        .key
        .as_ref()
        .map(|key| format!("{key}:{}", record.signature.as_deref().unwrap_or("\u{2026}")));
    let string_to_sign = record.string_to_sign.as_deref();
    let shown = string_to_sign.map(|text| shown(text, record, app.shows_payloads()));
    let is_complete = shown.as_deref() == string_to_sign
        && string_to_sign.is_some_and(|text| text.len() < recent::TEXT_MAX - 3);
    json!({
        "time": time_ms,
        "socket_id": record.socket_id.to_string(),
        "channel": record.channel,
        "kind": kind,
        "received": received,
        "string_to_sign": shown,
        // Of another key it is not known whose it is.
        "key": string_to_sign.and(record.key.as_ref()),
        "is_complete": is_complete,
        "why": record.why,
        "hint": hint(context, record),
    })
}

/// The string to sign, without the data of the member or the user unless it is shown.
fn shown(text: &str, record: &FailedAuthorization, shows_payloads: bool) -> String {
    let prefix = match &record.channel {
        Some(channel) => format!("{}:{channel}:", record.socket_id),
        None => format!("{}::user::", record.socket_id),
    };
    if shows_payloads || !text.starts_with(&prefix) { text.to_owned() } else { prefix + "***" }
}

fn hint(context: &Context, record: &FailedAuthorization) -> &'static str {
    let is_hex = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_known = |key: &String| context.sees_server() && context.node().hub_by_key(key).is_some();
    match (&record.key, &record.signature) {
        (Some(_), Some(signature)) if !is_hex(signature) => {
            "A signature has 64 hexadecimal digits: HMAC-SHA256 of the string, with the secret of the app."
        }
        (Some(_), Some(_)) => {
            "Most often the application signs with another secret: compare the secret in its \
             configuration with that of the app. The string must be signed byte for byte, and for \
             this socket id."
        }
        (Some(key), None) if is_known(key) => {
            "The key is that of another app of this server: page and application use different apps."
        }
        (Some(_), None) => "The application signs with the key of another server, or an old one.",
        (None, _) => {
            "The answer of the application's endpoint has no `auth`, or not in the form \
             KEY:SIGNATURE: an error page or a redirect is a frequent cause."
        }
    }
}

/// The watch `webhooks`.
pub(super) async fn webhooks(
    context: &Context,
    app: &SeenApp,
    output: &Output,
) -> Result<(), Closed> {
    let app_id = app.hub.app_id();
    let describe = |attempt: &Recorded<WebhookAttempt>| {
        let is_of_app = attempt.record.app == app_id;
        let body_max = match context.extent {
            _ if !app.shows_payloads() => 0,
            Extent::AllNodes | Extent::OfThisNode => recent::BODY_MAX,
            Extent::ForPeer => BODY_FOR_PEER_MAX,
        };
        is_of_app.then(|| webhook(attempt, body_max))
    };
    watch((&recent::WEBHOOKS, context), Some(app), describe, output).await
}

fn webhook(attempt: &Recorded<WebhookAttempt>, body_max: usize) -> Value {
    let Recorded { id, time_ms, record, .. } = attempt;
    let is_delivered = record.status.is_some_and(|status| (200..300).contains(&status));
    let state = match (is_delivered, record.is_given_up) {
        (true, _) => "delivered",
        (false, true) => "failed",
        (false, false) => "retrying",
    };
    let body = record.body.as_ref().and_then(|body| std::str::from_utf8(body).ok());
    json!({
        "id": id,
        "time": time_ms,
        "webhook": record.webhook,
        "url": record.endpoint,
        "events": event_names(body.unwrap_or_default()),
        "attempt": if record.is_retry { 2 } else { 1 },
        "status": record.status,
        "error": record.error,
        "took_ms": record.took_ms,
        "state": state,
        "can_resend": record.body.is_some(),
        "body": body.filter(|body| body.len() <= body_max),
    })
}

/// The distinct names of the events in a body.
fn event_names(body: &str) -> BTreeSet<String> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let events = body["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter_map(|event| event["name"].as_str()).map(str::to_owned).collect()
}

/// Sends the body of a recorded attempt again.
pub(super) async fn resend(
    context: &Context,
    app: &SeenApp,
    params: &WebhookParams,
) -> Result<Value, String> {
    if !params.node.is_empty() && params.node != context.node().name() {
        return Err("the node of the attempt does not answer".to_owned());
    }
    if !app.hub.is_enabled() {
        return Err("the app is disabled".to_owned());
    }
    if context.node().is_draining() {
        return Err("the server is shutting down".to_owned());
    }
    let app_id = app.hub.app_id();
    let recorded = recent::WEBHOOKS.since(0);
    let found = recorded.iter().find(|attempt| attempt.id == params.id);
    let found = found.filter(|attempt| attempt.record.app == app_id);
    let attempt = &found.ok_or("the attempt is not kept any more")?.record;
    let body = attempt.body.clone().ok_or("the body was too large to be kept")?;
    let status = context.node().webhooks().resend(&app_id, &attempt.url, body).await?;
    tracing::info!(
        app = &*app_id,
        webhook = attempt.webhook,
        status,
        "console sent a webhook again"
    );
    Ok(json!({"status": status}))
}

/// The watch `log`.
pub(super) async fn log(context: &Context, output: &Output) -> Result<(), Closed> {
    let describe = |warning: &Recorded<Warning>| {
        let Recorded { time_ms, record, .. } = warning;
        Some(json!({
            "time": time_ms,
            "level": record.level,
            "message": record.message,
            "fields": record.fields,
            "explanation": explain_warning(&record.message),
        }))
    };
    watch((&recent::WARNINGS, context), None, describe, output).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::SocketId;

    #[test]
    fn the_data_of_a_member_is_masked_in_the_string_to_sign() {
        let record = |channel: Option<&str>| FailedAuthorization {
            app: "1".into(),
            socket_id: SocketId::from_random(7),
            address: [127, 0, 0, 1].into(),
            channel: channel.map(str::to_owned),
            key: None,
            signature: None,
            string_to_sign: None,
            why: String::new(),
        };
        let id = SocketId::from_random(7);
        let member = format!("{id}:presence-a:{{\"user_id\":\"7\"}}");
        let shown_for = |text: &str, channel, shows| shown(text, &record(channel), shows);
        let masked = format!("{id}:presence-a:***");
        assert_eq!(shown_for(&member, Some("presence-a"), false), masked);
        assert_eq!(shown_for(&member, Some("presence-a"), true), member);
        let user = format!("{id}::user::{{\"id\":\"7\"}}");
        assert_eq!(shown_for(&user, None, false), format!("{id}::user::***"));
        let private = format!("{id}:private-a");
        assert_eq!(shown_for(&private, Some("private-a"), false), private);
    }

    #[test]
    fn events_of_a_body_are_named_once() {
        let body = r#"{"time_ms":1,"events":[{"name":"b"},{"name":"a"},{"name":"b"},{}]}"#;
        assert_eq!(event_names(body).into_iter().collect::<String>(), "ab");
        assert!(event_names("").is_empty());
    }
}
