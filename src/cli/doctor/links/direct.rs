//! A client and a publisher at the address that the server listens on: connect, subscribe, publish,
//! receive.

use super::{
    super::{
        Checkup,
        causes::{
            api::CLOCK_DIFFERS,
            local::{CONNECTION_CLOSED, EVENT_NOT_DELIVERED, SIGNATURE_DIFFERS, UNKNOWN_KEY},
        },
        finding::Finding,
        report::Outcome,
        socket::{PusherSocket, SocketError, data_of},
    },
    stale::not_read_again,
};
use crate::cli::target::AppTarget;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Instant;

/// The event that is published.
const EVENT: &str = "campanile-doctor";

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let Some(target) = &checkup.direct else {
        return Outcome::Skipped("the address of the server is not known".to_owned());
    };
    if !target.origin.is_tls() && checkup.inputs.app().is_some_and(|app| app.tls_only) {
        let why = "the app accepts clients that use TLS only, so through the proxy only";
        return Outcome::Skipped(why.to_owned());
    }
    match try_out(target).await {
        Ok(seen) => Outcome::Well(seen),
        // A server that has not read the files again does not know their key or secret.
        Err(finding) if is_credentials(&finding) => {
            not_read_again(&checkup.inputs).unwrap_or(*finding).into()
        }
        Err(finding) => Outcome::from(*finding),
    }
}

/// Whether the server rejects the key or the secret.
fn is_credentials(finding: &Finding) -> bool {
    [UNKNOWN_KEY.id, SIGNATURE_DIFFERS.id].contains(&finding.cause.id)
}

/// Connects, subscribes, publishes and receives. Returns what was seen.
async fn try_out(target: &AppTarget) -> Result<String, Box<Finding>> {
    let opened = PusherSocket::open_direct(target).await;
    let mut socket = opened.map_err(|error| Box::new(ended(target, &error)))?;
    let channel = format!("private-campanile-doctor-{:x}", rand::random::<u64>());
    let subscribed = socket.subscribe(target, &channel, None).await;
    let subscribed = subscribed.map_err(|error| Box::new(ended(target, &error)))?;
    if subscribed["event"] == "pusher:subscription_error" {
        return Err(Box::new(rejected_subscription(target, &subscribed)));
    }
    let start = Instant::now();
    publish(target, &channel).await?;
    match socket.event(|event| event["event"] == EVENT && event["channel"] == channel).await {
        Ok(_event) => {
            let ms = start.elapsed().as_millis();
            socket.close().await;
            Ok(format!("connected, subscribed, published and received in {ms} ms"))
        }
        Err(SocketError::Silence) => Err(Box::new(
            EVENT_NOT_DELIVERED
                .found(format!("An event was published on {channel} and did not arrive.")),
        )),
        Err(error) => Err(Box::new(ended(target, &error))),
    }
}

/// Publishes an event on a channel.
async fn publish(target: &AppTarget, channel: &str) -> Result<(), Box<Finding>> {
    let body = json!({"name": EVENT, "channel": channel, "data": "{}"}).to_string();
    let finding = match target.call(Method::POST, "events", &[], body).await {
        Err(error) => EVENT_NOT_DELIVERED.found(format!("A publish was not answered: {error}.")),
        Ok(answer) => {
            let text = String::from_utf8_lossy(&answer.body);
            match answer.status {
                StatusCode::OK => return Ok(()),
                StatusCode::UNAUTHORIZED => wrong_secret(target, &text),
                status => EVENT_NOT_DELIVERED
                    .found(format!("A publish was answered with {status}: {}", text.trim())),
            }
        }
    };
    Err(Box::new(finding))
}

/// Why there is no connection, or none any more.
fn ended(target: &AppTarget, error: &SocketError) -> Finding {
    let AppTarget { origin, key, .. } = target;
    if let SocketError::Closed(4001, _) = error {
        let seen = format!("The server at {origin} closes connections with the key {key}: 4001.");
        return UNKNOWN_KEY.found(seen);
    }
    let finding = CONNECTION_CLOSED.found(format!("A client with the key {key}: {error}."));
    match error.explanation() {
        Some(explanation) => finding.advice(explanation),
        None => finding,
    }
}

fn rejected_subscription(target: &AppTarget, event: &Value) -> Finding {
    let error = data_of(event)["error"].as_str().unwrap_or_default().to_owned();
    wrong_secret(target, &error)
}

/// The server has another secret for this key than the configuration.
fn wrong_secret(target: &AppTarget, said: &str) -> Finding {
    let error: Value = serde_json::from_str(said).unwrap_or_default();
    let said = error["error"].as_str().unwrap_or(said);
    let said: String = said.chars().take(200).collect();
    if said.starts_with("Timestamp expired") {
        return CLOCK_DIFFERS.found(said);
    }
    let seen = format!("The app {} of the server has another id or secret: {said}", target.app_id);
    SIGNATURE_DIFFERS.found(seen)
}
