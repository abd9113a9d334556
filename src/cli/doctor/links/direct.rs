//! A client and a publisher at the address that the server listens on: connect, subscribe, publish,
//! receive.

use super::{
    super::{
        Checkup,
        causes::{
            api::{API_UNAVAILABLE, CLOCK_DIFFERS},
            local::{
                CONNECTION_CLOSED, EVENT_NOT_DELIVERED, SIGNATURE_DIFFERS, SUBSCRIPTION_FAILED,
                UNKNOWN_KEY,
            },
        },
        finding::Finding,
        probe::{
            ClientEnd, NotSubscribed, OpenClient, Opening, Peer, STEP_TIMEOUT, call, open_client,
        },
        report::Outcome,
    },
    api::{EVENT, channel},
    proxy::quote,
    stale::not_read_again,
};
use crate::{
    config::AppConfig,
    protocol::{explain_close, explain_handshake},
};
use hyper::Method;
use serde_json::json;
use std::time::Instant;

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let (Some(peer), Some(app)) = (&checkup.direct, checkup.inputs.app()) else {
        return Outcome::Skipped("the address of the server is not known".to_owned());
    };
    if !peer.is_tls && app.tls_only {
        let why = "the app accepts clients that use TLS only, so through the proxy only";
        return Outcome::Skipped(why.to_owned());
    }
    match try_out(peer, &app).await {
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
async fn try_out(peer: &Peer, app: &AppConfig) -> Result<String, Box<Finding>> {
    let opening = open_client(peer, &app.key, None).await;
    let mut client = established(peer, app, opening).map_err(Box::new)?;
    let tried = try_channel(peer, app, &mut client).await;
    // So that the server logs no lost client.
    client.socket.close().await;
    tried.map_err(Box::new)
}

async fn try_channel(
    peer: &Peer,
    app: &AppConfig,
    client: &mut OpenClient,
) -> Result<String, Finding> {
    let channel = channel();
    match client.subscribe(app, &channel, None).await {
        Ok(()) => {}
        Err(NotSubscribed::Rejected { data, .. }) if data["type"] == "AuthError" => {
            return Err(wrong_secret(app, data["error"].as_str().unwrap_or_default()));
        }
        Err(why) => return Err(SUBSCRIPTION_FAILED.found(format!("It was {why}."))),
    }
    let start = Instant::now();
    publish(peer, app, &channel).await?;
    match client.socket.next_event(|name| name == EVENT, STEP_TIMEOUT).await {
        Ok(_event) => {
            let ms = start.elapsed().as_millis();
            Ok(format!("connected, subscribed, published and received in {ms} ms"))
        }
        Err(ClientEnd::Timeout) => {
            let seen = format!("An event was published on {channel} and did not arrive.");
            Err(EVENT_NOT_DELIVERED.found(seen))
        }
        Err(end) => {
            let seen = format!("A client that waited for an event on {channel}: {end}.");
            Err(CONNECTION_CLOSED.found(seen))
        }
    }
}

/// Publishes an event on a channel.
async fn publish(peer: &Peer, app: &AppConfig, channel: &str) -> Result<(), Finding> {
    let body = json!({"name": EVENT, "channel": channel, "data": "{}"}).to_string();
    let answer = match call(peer, app, Method::POST, "events", body).await {
        Err(why) => {
            let seen = format!("A publish to {} was not answered: {why}.", peer.origin());
            return Err(API_UNAVAILABLE.found(seen));
        }
        Ok(called) => called.answer,
    };
    let error = answer.campanile_error().unwrap_or_default();
    match answer.status {
        200 => Ok(()),
        401 => Err(wrong_secret(app, &error)),
        404 => Err(UNKNOWN_KEY.found(format!(
            "The server at {} has no app {}: {error}.",
            peer.origin(),
            app.id
        ))),
        status => Err(API_UNAVAILABLE.found(format!(
            "A publish to {} was answered with {status}{}",
            peer.origin(),
            quote(&answer)
        ))),
    }
}

/// The client, or why there is no connection.
fn established(peer: &Peer, app: &AppConfig, opening: Opening) -> Result<Box<OpenClient>, Finding> {
    let (origin, key) = (peer.origin(), &app.key);
    let (why, explanation) = match opening {
        Opening::Established(client) => return Ok(client),
        Opening::Rejected { code: 4001, .. } => {
            let seen =
                format!("The server at {origin} closes connections with the key {key}: 4001.");
            return Err(UNKNOWN_KEY.found(seen));
        }
        Opening::Rejected { code, message, .. } => {
            let row = explain_close(code, &message).map(|row| (row.meaning, row.remedy));
            (format!("closed with {code} {message}"), row)
        }
        Opening::Answered(answer) => {
            let row = explain_handshake(answer.status).map(|row| (row.meaning, row.remedy));
            let why =
                format!("the handshake was answered with {}{}", answer.status, quote(&answer));
            (why.trim_end_matches('.').to_owned(), row)
        }
        Opening::BadUpgrade(header) => (format!("the header {header} is missing or wrong"), None),
        Opening::Silent(end) => (end.to_string(), None),
        Opening::NoAnswer(why) => (why.to_string(), None),
    };
    let finding = CONNECTION_CLOSED.found(format!("A client with the key {key}: {why}."));
    Err(match explanation {
        Some((meaning, remedy)) => finding.advice(format!("{meaning} {remedy}")),
        None => finding,
    })
}

/// The server has another secret for this key than the configuration.
fn wrong_secret(app: &AppConfig, said: &str) -> Finding {
    let said: String = said.chars().take(200).collect();
    if said.starts_with("Timestamp expired") {
        return CLOCK_DIFFERS.found(said);
    }
    let seen = format!("The app {} of the server has another id or secret: {said}", app.id);
    SIGNATURE_DIFFERS.found(seen)
}
