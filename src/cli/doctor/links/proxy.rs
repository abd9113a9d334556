//! A handshake at the public address: 101, or who answered what.

use super::super::{
    Checkup,
    causes::way::{
        CLIENTS_SHARE_ADDRESS, DEVELOPMENT_APP_PUBLIC, DOUBLE_TLS, HANDSHAKE_REDIRECTED,
        HANDSHAKE_REJECTED, PROXY_LIMITS_RATE, PROXY_NOT_TRUSTED, PROXY_UPSTREAM_DOWN,
        UPGRADE_HEADERS_MISSING, WEBSOCKET_ROUTE_MISSING,
    },
    finding::Finding,
    machine,
    probe::{
        Answer, AnsweredBy, ClientEnd, NoAnswer, Opening, Peer, answers_to_nonsense, call,
        open_client,
    },
    public::Public,
    report::Outcome,
    snippets::{FORWARDED, ROUTES, UNCHANGED, UPGRADE, UPSTREAMS},
};
use super::{server::is_of_this_machine, upstream::port_of_proxy};
use crate::{config::AppConfig, protocol::explain_handshake};
use hyper::Method;
use std::net::IpAddr;

/// How many characters of an answer a report shows.
const SHOWN_MAX: usize = 160;

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let Some(app) = checkup.inputs.app() else {
        return Outcome::Skipped("no app is configured".to_owned());
    };
    let origin = checkup.page_origin().map(|(origin, _)| origin);
    let Some(public) = &mut checkup.public else {
        return Outcome::Skipped("the address that browsers connect to is not known".to_owned());
    };
    let peer = public.peer.clone();
    let opening = open_client(&peer, &app.key, origin.as_deref()).await;
    let headers = match &opening {
        Opening::Established(client) => Some(&client.headers),
        Opening::Answered(answer) => Some(&answer.headers),
        Opening::Rejected { headers, .. } => Some(headers),
        Opening::BadUpgrade(_) | Opening::Silent(_) | Opening::NoAnswer(_) => None,
    };
    if let Some(headers) = headers {
        public.learn(headers);
    }
    if public.front == AnsweredBy::Unknown {
        public.guessed = guess(public).await;
    }
    match &opening {
        Opening::Rejected { code: 4000, message, .. } if peer.is_tls => {
            return not_trusted(checkup, message).into();
        }
        Opening::Established(_) | Opening::Rejected { .. } => public.is_answered = true,
        Opening::Answered(answer) => {
            let finding = answered(checkup, &peer, answer);
            let is_down = finding.cause.id == PROXY_UPSTREAM_DOWN.id;
            let port = if is_down { port_of_proxy(checkup).await } else { None };
            return port.unwrap_or(finding).into();
        }
        Opening::BadUpgrade(header) => return bad_upgrade(checkup, &peer, header).into(),
        Opening::Silent(end) => return silent(&peer, end).into(),
        Opening::NoAnswer(why) => return unanswered(&peer, why).into(),
    }
    let front = if public.front == AnsweredBy::Unknown {
        String::new()
    } else {
        format!(" through {}", public.front)
    };
    public.opening = Some(opening);
    if let Some(finding) = shared_address(checkup, &peer, &app).await {
        return finding.into();
    }
    Outcome::Well(format!("{} answers with 101{front}", peer.ws_url("")))
}

/// The proxy that names itself in no answer.
async fn guess(public: &Public) -> AnsweredBy {
    let is_here = public.accepting.iter().any(|address| is_of_this_machine(address.ip()));
    let process = is_here.then(|| machine::listener(public.peer.port)).flatten();
    let program = process.as_ref().and_then(|process| process.command.split([' ', ':']).next());
    match program.map(AnsweredBy::of_program) {
        Some(front) if front != AnsweredBy::Unknown => front,
        Some(_) | None => answers_to_nonsense(&public.peer).await,
    }
}

/// Whether the server counts clients by the address of the proxy, if it limits them by address.
async fn shared_address(checkup: &Checkup<'_>, peer: &Peer, app: &AppConfig) -> Option<Finding> {
    let limits = &checkup.inputs.config()?.connection;
    let limit = match (limits.max_connections_per_ip, limits.new_connections_per_second_per_ip) {
        (0, 0) => return None,
        (0, _) => "new_connections_per_second_per_ip",
        (_, _) => "max_connections_per_ip",
    };
    // Without an HTTP API at this address, nothing is known.
    let called = call(peer, app, Method::GET, "diagnostics", String::new()).await.ok()?;
    let received = &called.answer.json()["request"];
    let address = |name: &str| received[name].as_str()?.parse::<IpAddr>().ok();
    let (hop, client) = (address("peer")?, address("client")?);
    let forwarded = received["forwarded"]["x-forwarded-for"][0].as_str();
    let is_proxy = forwarded.is_some() || checkup.public.as_ref()?.front != AnsweredBy::Unknown;
    if hop != client || !is_proxy {
        return None;
    }
    // A client on the machine of the proxy has the same address, and may be counted rightly.
    let trusted = &checkup.inputs.config()?.server.trusted_proxies;
    if forwarded.is_some() && trusted.iter().any(|network| network.contains(&hop)) {
        return None;
    }
    let header = forwarded.map_or("no X-Forwarded-For".to_owned(), |value| {
        format!("X-Forwarded-For: {value}, which it does not use")
    });
    let finding = CLIENTS_SHARE_ADDRESS
        .found(format!("{limit} is set, and the server receives clients from {hop} with {header}."))
        .line("config.toml [server]", format!("trusted_proxies = [\"{hop}\"]"));
    Some(checkup.with_lines(finding, &FORWARDED, &AnsweredBy::Unknown))
}

/// A header of an answer with 101 is wrong.
pub(super) fn bad_upgrade(checkup: &Checkup<'_>, peer: &Peer, header: &str) -> Finding {
    let seen = format!(
        "{} answers with 101, and its header {header} is missing or wrong.",
        peer.ws_url("/app/KEY")
    );
    let finding = UPGRADE_HEADERS_MISSING.found(seen);
    checkup.with_lines(finding, &UPGRADE, &AnsweredBy::Unknown)
}

/// After the answer with 101, the connection was not established.
pub(super) fn silent(peer: &Peer, end: &ClientEnd) -> Finding {
    HANDSHAKE_REJECTED
        .found(format!("{} answers with 101, and then: {end}.", peer.ws_url("/app/KEY")))
}

/// What an answer other than 101 means.
pub(super) fn answered(checkup: &Checkup<'_>, peer: &Peer, answer: &Answer) -> Finding {
    let (by, status) = (answer.answered_by(), answer.status);
    let seen =
        format!("{} was answered with {status} by {by}{}", peer.ws_url("/app/KEY"), quote(answer));
    if let Some(location) = answer.location() {
        return redirected(checkup, peer, answer, location);
    }
    if by == AnsweredBy::Campanile {
        return answered_by_campanile(checkup, peer, answer, &seen);
    }
    match status {
        502..=504 | 520..=526 if !answer.is_challenge() => upstream_down(checkup, seen, &by),
        400 if is_double_tls(checkup, answer) => double_tls(checkup, seen),
        429 => PROXY_LIMITS_RATE.found(seen),
        400 if answer.text().contains("SSL certificate") => HANDSHAKE_REJECTED.found(seen).advice(
            "The proxy asks clients for a certificate. Exempt /app/ and /apps/ from that, or ask for none.",
        ),
        200 | 404 | 405 | 410 => {
            let finding = WEBSOCKET_ROUTE_MISSING.found(seen);
            let finding = finding.advice(if by == AnsweredBy::Vite {

                    "The address is that of Vite's development server: set VITE_REVERB_PORT to the port \
                     of the server."

            } else {

                    "Add the routes to the site of this host, before the application's own location."

            });
            checkup.with_lines(finding, &ROUTES, &by)
        }
        _ => {
            let finding = HANDSHAKE_REJECTED.found(seen);
            match explain_handshake(status) {
                Some(row) => finding.advice(format!("{} {}", row.meaning, row.remedy)),
                None => finding,
            }
        }
    }
}

/// A redirect keeps the path if it is about scheme or host. To another path, an application redirects.
fn redirected(checkup: &Checkup<'_>, peer: &Peer, answer: &Answer, location: &str) -> Finding {
    let location = location.split('?').next().unwrap_or_default();
    let seen = format!(
        "{} was answered with {} by {}, to {location}",
        peer.ws_url("/app/KEY"),
        answer.status,
        answer.answered_by()
    );
    let finding = HANDSHAKE_REDIRECTED.found(seen);
    if location.contains("/app/") {
        return finding;
    }
    let finding = finding.advice(
        "Another program answers. Have the proxy pass /app/ and /apps/ to the server, without a login.",
    );
    checkup.with_lines(finding, &ROUTES, &answer.answered_by())
}

/// Whether the app is the development app, which a server keeps from other machines.
pub(super) fn development_app_public(said: &str) -> Option<Finding> {
    let is_about_it = said.starts_with("The development app")
        || said.starts_with("The app's secret is the well-known one");
    is_about_it.then(|| DEVELOPMENT_APP_PUBLIC.found(format!("The server says: {said}")))
}

/// An answer of the server itself: what it received is not a handshake, or not at its path.
fn answered_by_campanile(
    checkup: &Checkup<'_>,
    peer: &Peer,
    answer: &Answer,
    seen: &str,
) -> Finding {
    match answer.status {
        400 if is_tls_wanted(answer) => double_tls(checkup, seen.to_owned()),
        400 if answer
            .campanile_error()
            .is_some_and(|error| error.starts_with("Sec-WebSocket-")) =>
        {
            let finding = UPGRADE_HEADERS_MISSING.found(seen.to_owned());
            let finding =
                finding.advice("Have the proxy pass the headers Sec-WebSocket-* on as they are.");
            checkup.with_lines(finding, &UPGRADE, &AnsweredBy::Unknown)
        }
        403 if let Some(finding) =
            answer.campanile_error().and_then(|said| development_app_public(&said)) =>
        {
            finding
        }
        426 => upgrade_missing(checkup, peer, answer),
        404 => {
            let finding = WEBSOCKET_ROUTE_MISSING.found(seen.to_owned());
            let own = checkup.inputs.config().map(|config| config.server.path.clone());
            match own {
                Some(path) if path.is_empty() => checkup.with_lines(finding, &UNCHANGED, &AnsweredBy::Unknown).advice(
                    "The server has no path before /app/: remove wsPath from Echo's options, and have the \
                     proxy pass the path on without what is before /app/, with one slash.",
                ),
                Some(path) => finding
                    .line("config.toml server.path", format!("path = {path:?}"))
                    .advice(format!("Clients need wsPath: '{path}', and the proxy must leave the path as it is.")),
                None => finding,
            }
        }
        status => {
            let finding = HANDSHAKE_REJECTED.found(seen.to_owned());
            match explain_handshake(status) {
                Some(row) => finding.advice(format!("{} {}", row.meaning, row.remedy)),
                None => finding,
            }
        }
    }
}

/// The proxy passes the request on without its upgrade. The server says what it received.
fn upgrade_missing(checkup: &Checkup<'_>, peer: &Peer, answer: &Answer) -> Finding {
    let error = answer.campanile_error().unwrap_or_default();
    let received = error.split("Received: ").nth(1).unwrap_or_default();
    let finding = UPGRADE_HEADERS_MISSING.found(format!(
        "{} was answered with 426 by the server, which received: {}.",
        peer.ws_url("/app/KEY"),
        if received.is_empty() { error.as_str() } else { received }
    ));
    let finding = if received.starts_with("HTTP/1.0") {
        finding.advice("The proxy speaks HTTP/1.0 to the server, which has no upgrades.")
    } else if received.contains("no Upgrade") {
        finding.advice("The proxy drops the header Upgrade.")
    } else if received.is_empty() {
        finding
    } else {
        finding.advice("The proxy replaces the header Connection.")
    };
    checkup.with_lines(finding, &UPGRADE, &AnsweredBy::Unknown)
}

/// Whether the server says that it was asked without TLS.
pub(super) fn is_tls_wanted(answer: &Answer) -> bool {
    answer.campanile_error().is_some_and(|error| error.starts_with("This port requires TLS"))
}

/// Whether an answer with 400 is that of a port with TLS to a request without.
fn is_double_tls(checkup: &Checkup<'_>, answer: &Answer) -> bool {
    let text = answer.text().to_ascii_lowercase();
    let says_so = ["http request to an https server", "plain http request was sent to https port"];
    let server_is_tls = checkup.inputs.direct_peer().is_ok_and(|own| own.is_tls);
    server_is_tls || says_so.iter().any(|part| text.contains(part))
}

pub(super) fn double_tls(checkup: &Checkup<'_>, seen: String) -> Finding {
    let finding = DOUBLE_TLS.found(seen);
    match checkup.inputs.direct_peer() {
        Ok(own) => finding.advice(format!(
            "The server answers at {}: have the proxy use that address with https://, or remove \
             server.tls.cert and server.tls.key.",
            own.origin()
        )),
        Err(_) => finding,
    }
}

/// A proxy that answers by itself, since it reaches no server. (A server with TLS that is asked without
/// answers 400.)
pub(super) fn upstream_down(checkup: &Checkup<'_>, seen: String, by: &AnsweredBy) -> Finding {
    let own = checkup.inputs.direct_peer().ok().filter(|_| checkup.direct.is_some());
    let finding = PROXY_UPSTREAM_DOWN.found(seen);
    let finding = match own {
        Some(own) => finding.advice(format!(
            "The server answers at {}. Have the proxy connect to that address, {}.",
            own.origin(),
            if own.is_tls { "with TLS" } else { "without TLS" }
        )),
        None => finding,
    };
    checkup.with_lines(finding, &UPSTREAMS, by)
}

fn not_trusted(checkup: &Checkup<'_>, message: &str) -> Finding {
    let seen = format!("A client that uses TLS was closed with 4000: {message}.");
    let finding = PROXY_NOT_TRUSTED
        .found(seen)
        .line("config.toml [server]", "trusted_proxies = [\"127.0.0.1\"]");
    checkup.with_lines(finding, &FORWARDED, &AnsweredBy::Unknown)
}

/// No answer at all, although the port accepts connections.
pub(super) fn unanswered(peer: &Peer, why: &NoAnswer) -> Finding {
    let seen = format!("{} was not answered: {why}.", peer.ws_url("/app/KEY"));
    HANDSHAKE_REJECTED.found(seen)
}

/// The beginning of an answer's text: the message of an error, or the title of a page.
pub(super) fn quote(answer: &Answer) -> String {
    let text = answer.text();
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    let body = answer.json();
    let error = answer.campanile_error().or_else(|| Some(body["message"].as_str()?.to_owned()));
    let words = match (&error, title) {
        (Some(error), _) => error.as_str(),
        (None, Some((title, _))) => title,
        (None, None) if text.contains('<') || text.contains('\u{fffd}') => "",
        (None, None) => &text,
    };
    let words: String = words.trim().chars().take(SHOWN_MAX).collect();
    if words.is_empty() { ".".to_owned() } else { format!(": {words}") }
}
