//! A client at the public address: whether its page and its key are accepted, and its pings answered.

use super::super::{
    Checkup,
    causes::{
        local::{CONNECTION_CLOSED, UNKNOWN_KEY},
        way::{ORIGIN_REJECTED, PING_NOT_ANSWERED, PROXY_LEADS_ELSEWHERE},
    },
    finding::{Finding, Link},
    probe::{ClientMessage, OpenClient, Opening, Peer, STEP_TIMEOUT, open_client},
    public::NO_CONNECTION,
    report::Outcome,
};
use super::{
    health::diagnostics,
    proxy::{self, development_app_public},
};
use crate::{config::AppConfig, protocol::explain_close};
use serde_json::json;
use tokio::time::{self, Instant};

/// Whether the page's origin is accepted.
pub(in crate::cli::doctor) async fn origin(checkup: &mut Checkup<'_>) -> Outcome {
    if let Some(skipped) = checkup.blocked(NO_CONNECTION) {
        return skipped;
    }
    let opening = checkup.public.as_ref().and_then(|public| public.opening.as_ref());
    let page = checkup.page_origin();
    match (opening, page) {
        (None, _) => Outcome::Skipped("there is no connection".to_owned()),
        (Some(Opening::Rejected { code: 4009, message, .. }), page) => {
            if let Some(finding) = development_app_public(message) {
                return finding.into();
            }
            let allowed = allowed_origins(checkup).await;
            rejected_origin(checkup, page.as_ref(), message, allowed).into()
        }
        (Some(_), Some((origin, _))) => Outcome::Well(format!("pages of {origin} are accepted")),
        (Some(_), None) => Outcome::Skipped(
            "the address of the page is not known: pass --url or --origin".to_owned(),
        ),
    }
}

/// The origins that the running server allows, or else those of the configuration.
async fn allowed_origins(checkup: &Checkup<'_>) -> Vec<String> {
    let of_config = || checkup.inputs.app().map(|app| app.allowed_origins).unwrap_or_default();
    let Some(direct) = &checkup.direct else { return of_config() };
    let body = diagnostics(direct, &checkup.inputs).await;
    let of_server =
        body.and_then(|body| serde_json::from_value(body["allowed_origins"].clone()).ok());
    of_server.unwrap_or_else(of_config)
}

fn rejected_origin(
    checkup: &Checkup<'_>,
    page: Option<&(String, String)>,
    message: &str,
    mut allowed: Vec<String>,
) -> Finding {
    let seen = match page {
        Some((origin, from)) => {
            format!("A client of a page of {origin} ({from}) was closed with 4009: {message}.")
        }
        None => format!("A client without an origin was closed with 4009: {message}."),
    };
    let finding = ORIGIN_REJECTED.found(seen);
    let Some(app) = checkup.inputs.app() else { return finding };
    let host = page.and_then(|(origin, _)| {
        let authority = origin.split_once("://")?.1;
        Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned())
    });
    let Some(host) = host else { return finding };
    let now = allowed.join(", ");
    if !allowed.contains(&host) {
        allowed.push(host);
    }
    let finding = if checkup.inputs.variable("REVERB_ALLOWED_ORIGINS").is_some() {
        let text = format!("REVERB_ALLOWED_ORIGINS={}", allowed.join(","));
        finding.line(checkup.inputs.place("REVERB_ALLOWED_ORIGINS"), text)
    } else {
        finding.line(
            format!("config.toml, the app {}", app.id),
            format!("allowed_origins = {}", json!(allowed)),
        )
    };
    finding.advice(format!(
        "Now it is: {}. Reload the server afterwards.",
        if now.is_empty() { "empty" } else { &now }
    ))
}

/// Whether the server behind the public address has the app.
pub(in crate::cli::doctor) fn key(checkup: &mut Checkup<'_>) -> Outcome {
    if let Some(skipped) = checkup.blocked(NO_CONNECTION) {
        return skipped;
    }
    let Some(app) = checkup.inputs.app() else {
        return Outcome::Skipped("no app is configured".to_owned());
    };
    let key_works_directly = checkup.report.is_well(Link::Direct);
    match checkup.public.as_ref().and_then(|public| public.opening.as_ref()) {
        Some(Opening::Rejected { code: 4001, .. }) => {
            rejected_key(checkup, &app, key_works_directly).into()
        }
        Some(Opening::Rejected { code, message, .. }) => closed(*code, message).into(),
        Some(Opening::Established(client)) => {
            Outcome::Well(format!("the key {} is known; socket {}", app.key, client.socket_id))
        }
        Some(_) | None => Outcome::Skipped("there is no connection".to_owned()),
    }
}

fn closed(code: u16, message: &str) -> Finding {
    let finding = CONNECTION_CLOSED.found(format!("A client was closed with {code}: {message}."));
    match explain_close(code, message) {
        Some(row) => finding.advice(format!("{} {}", row.meaning, row.remedy)),
        None => finding,
    }
}

fn rejected_key(checkup: &Checkup<'_>, app: &AppConfig, key_works_directly: bool) -> Finding {
    let Some(public) = &checkup.public else { return UNKNOWN_KEY.found("") };
    let seen =
        format!("{} closes clients with the key {} with 4001", public.peer.ws_url(""), app.key);
    match checkup.upstream().filter(|_| key_works_directly) {
        Some(own) => {
            PROXY_LEADS_ELSEWHERE.found(format!("{seen}; the server at {own} accepts it."))
        }
        None => UNKNOWN_KEY.found(format!("{seen}.")),
    }
}

/// Whether both kinds of pings are answered.
pub(in crate::cli::doctor) async fn ping(checkup: &mut Checkup<'_>) -> Outcome {
    if let Some(skipped) = checkup.blocked(NO_CONNECTION) {
        return skipped;
    }
    let opening = checkup.public.as_mut().and_then(|public| public.opening.take());
    let Some(Opening::Established(mut client)) = opening else {
        return Outcome::Skipped("there is no connection".to_owned());
    };
    let start = Instant::now();
    client.socket.send("pusher:ping", json!({})).await;
    let answered = client.socket.next_event(|name| name == "pusher:pong", STEP_TIMEOUT).await;
    let ms = start.elapsed().as_millis();
    if let Err(end) = answered {
        let seen = format!("pusher:ping was sent, and then: {end}.");
        return PING_NOT_ANSWERED.found(seen).into();
    }
    client.socket.ping().await;
    if !is_pong_received(&mut client).await {
        let seen = "A ping of the WebSocket layer was sent, and no pong came back.";
        return PING_NOT_ANSWERED.found(seen).into();
    }
    client.socket.close().await;
    Outcome::Well(format!("answered in {ms} ms"))
}

async fn is_pong_received(client: &mut OpenClient) -> bool {
    let wait = async {
        loop {
            match client.socket.next(STEP_TIMEOUT).await {
                Ok(ClientMessage::Pong) => return true,
                Ok(ClientMessage::Ping | ClientMessage::Event { .. }) => {}
                Err(_) => return false,
            }
        }
    };
    time::timeout(STEP_TIMEOUT, wait).await.unwrap_or(false)
}

/// Opens another client at the public address. That one is not opened as the first was is a finding:
/// one of several servers behind a proxy may be down.
pub(super) async fn another(checkup: &Checkup<'_>) -> Result<Box<OpenClient>, Outcome> {
    let Some(public) = &checkup.public else {
        let why = "the address that browsers connect to is not known";
        return Err(Outcome::Skipped(why.to_owned()));
    };
    open(checkup, &public.peer).await.map_err(|outcome| outcome.map(later))
}

/// Whether the other addresses of the name lead to the server as well.
pub(in crate::cli::doctor) async fn other_addresses(checkup: &Checkup<'_>) -> Option<Outcome> {
    let public = checkup.public.as_ref()?;
    for address in public.accepting.iter().skip(1) {
        match open(checkup, &public.peer.at(*address)).await {
            Ok(client) => client.socket.close().await,
            Err(Outcome::Skipped(_) | Outcome::Well(_)) => {}
            Err(found @ Outcome::Found(_)) => {
                return Some(found.map(|finding| public.at_address(*address, finding)));
            }
        }
    }
    None
}

async fn open(checkup: &Checkup<'_>, peer: &Peer) -> Result<Box<OpenClient>, Outcome> {
    let Some(app) = checkup.inputs.app() else {
        return Err(Outcome::Skipped("no app is configured".to_owned()));
    };
    let origin = checkup.page_origin().map(|(origin, _)| origin);
    let finding = match open_client(peer, &app.key, origin.as_deref()).await {
        Opening::Established(client) => return Ok(client),
        Opening::Rejected { code, message, .. }
            if (4000..4100).contains(&code) || message.starts_with("Over capacity") =>
        {
            closed(code, &message)
        }
        // The doctor's own clients may exceed a limit, and servers restart.
        Opening::Rejected { code, message, .. } => {
            return Err(Outcome::Skipped(format!("closed with {code}: {message}")));
        }
        Opening::Answered(answer) => proxy::answered(checkup, peer, &answer),
        Opening::BadUpgrade(header) => proxy::bad_upgrade(checkup, peer, header),
        Opening::Silent(end) => proxy::silent(peer, &end),
        Opening::NoAnswer(why) => proxy::unanswered(peer, &why),
    };
    Err(finding.into())
}

/// A finding about a request that succeeded before.
pub(super) fn later(mut finding: Finding) -> Finding {
    finding.seen = format!("The first one succeeded, and a later one did not: {}", finding.seen);
    finding
}
