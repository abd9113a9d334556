//! The HTTP API at the address that the application publishes to.

use super::{
    super::{
        Checkup,
        causes::{
            api::{
                API_REDIRECTED, API_ROUTE_MISSING, API_UNAVAILABLE, BODY_LIMIT_PROXY,
                BODY_LIMIT_SERVER, CLOCK_DIFFERS, CLOCK_DRIFTS, PUBLISH_THROUGH_CDN,
                REQUEST_CHANGED,
            },
            local::{SIGNATURE_DIFFERS, UNKNOWN_KEY},
            way::{PROXY_LEADS_ELSEWHERE, PROXY_LIMITS_RATE},
        },
        finding::{Finding, Link},
        probe::{Answer, AnsweredBy, NoAnswer, Peer, SignedAnswer, call},
        public::NO_API,
        report::Outcome,
        snippets::{BODIES, ROUTES, UNCHANGED},
    },
    client::later,
    proxy::{development_app_public, double_tls, is_tls_wanted, quote, upstream_down},
    reach,
};
use crate::{config::AppConfig, http_client::ConnectError};
use hyper::{Method, header::DATE};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The event of the publishes.
pub(super) const EVENT: &str = "campanile-doctor";
/// A batch has at most ten events; the rest is names and punctuation.
const BATCH: usize = 10;
const BATCH_REST: usize = 1_024;
/// Larger bodies are not tried.
const BODY_MAX: usize = 8 << 20;
/// A difference of clocks beyond which something is wrong.
const DRIFT: Duration = Duration::from_secs(30);

/// A channel without subscribers.
pub(super) fn channel() -> String {
    format!("private-campanile-doctor-{:x}", rand::random::<u64>())
}

/// The address that the application publishes to, or that of browsers, and where it is written.
pub(super) fn publish_peer(checkup: &Checkup<'_>) -> Result<(Peer, String), String> {
    let (peer, from) = match checkup.inputs.publish_address() {
        Some(address) => (checkup.peer_of(&address)?, address.from),
        None => checkup.public_peer().map(|public| (public.peer, public.from))?,
    };
    // The address of the host that accepted a connection is known.
    let public = checkup.public.as_ref().map(|public| &public.peer);
    let same = public.filter(|public| public.http_url("") == peer.http_url(""));
    Ok((same.cloned().unwrap_or(peer), from))
}

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    if let Some(skipped) = checkup.blocked(NO_API) {
        return skipped;
    }
    let Some(app) = checkup.inputs.app() else {
        return Outcome::Skipped("no app is configured".to_owned());
    };
    let (peer, from) = match publish_peer(checkup) {
        Ok(found) => found,
        Err(why) => return Outcome::Skipped(why),
    };
    let body = json!({"name": EVENT, "channel": channel(), "data": "{}"}).to_string();
    let called = match call(&peer, &app, Method::POST, "events", body).await {
        Ok(called) => called,
        Err(NoAnswer::Connect(ConnectError::Tls(error))) => {
            let why = NoAnswer::Connect(ConnectError::Tls(error));
            let fault = reach::tls_fault(checkup, &peer, &from).await;
            return fault.unwrap_or_else(|| or_same(checkup, &peer, unanswered(&peer, &why)));
        }
        Err(why) => return or_same(checkup, &peer, unanswered(&peer, &why)),
    };
    if let Some(public) = &mut checkup.public {
        public.learn(&called.answer.headers);
    }
    if called.answer.status != 200
        || called.answer.answered_by() != AnsweredBy::Campanile && !called.answer.json().is_object()
    {
        return or_same(checkup, &peer, rejected(checkup, &peer, &app, &called));
    }
    let mut findings: Vec<Finding> = clock(&called.answer, SystemTime::now()).into_iter().collect();
    if !checkup.inputs.args.quick {
        findings.extend(large_body(checkup, &peer, &app).await);
    }
    Outcome::of(findings, format!("a publish to {} was accepted", peer.http_url("")))
}

/// A finding, unless it is what has been found at the same address with the handshake already.
fn or_same(checkup: &Checkup<'_>, peer: &Peer, finding: Finding) -> Outcome {
    let is_same_address = checkup
        .public
        .as_ref()
        .is_some_and(|public| public.peer.full_authority() == peer.full_authority());
    let same = match finding.cause.id {
        "api_route_missing" => "websocket_route_missing",
        "api_redirected" => "handshake_redirected",
        "api_unavailable" | "publish_through_cdn" => "handshake_rejected",
        _ => return finding.into(),
    };
    if !is_same_address || !checkup.report.has(same) {
        return finding.into();
    }
    Outcome::Skipped(format!("publishes fail as well, because of {same}"))
}

/// What it means that a request fails after a publish was accepted.
pub(super) fn failed_later(
    checkup: &Checkup<'_>,
    peer: &Peer,
    app: &AppConfig,
    called: Result<SignedAnswer, NoAnswer>,
) -> Outcome {
    match called {
        // The doctor's own requests may exceed the server's limit.
        Ok(called)
            if called.answer.status == 429
                && called.answer.answered_by() == AnsweredBy::Campanile =>
        {
            Outcome::Skipped("the rate of requests is limited".to_owned())
        }
        // nginx answers 503 by itself only where requests are limited.
        Ok(called)
            if called.answer.status == 503 && called.answer.answered_by() == AnsweredBy::Nginx =>
        {
            later(PROXY_LIMITS_RATE.found(format!(
                "{} was answered with 503 by nginx{}",
                peer.http_url("/apps/"),
                quote(&called.answer)
            )))
            .into()
        }
        Ok(called) => later(rejected(checkup, peer, app, &called)).into(),
        Err(why) => later(unanswered(peer, &why)).into(),
    }
}

fn unanswered(peer: &Peer, why: &NoAnswer) -> Finding {
    let seen = format!("A publish to {} was not answered: {why}.", peer.http_url(""));
    API_UNAVAILABLE.found(seen)
}

/// What an answer other than 200 means.
fn rejected(checkup: &Checkup<'_>, peer: &Peer, app: &AppConfig, called: &SignedAnswer) -> Finding {
    let answer = &called.answer;
    let (by, status) = (answer.answered_by(), answer.status);
    let url = peer.http_url(&format!("/apps/{}/events", app.id));
    let seen = format!("POST {url} was answered with {status} by {by}{}", quote(answer));
    if let Some(location) = answer.location() {
        let seen = format!("POST {url} was answered with {status} by {by}, to {location}");
        let location = location.split('?').next().unwrap_or_default();
        let finding = API_REDIRECTED.found(seen.split('?').next().unwrap_or_default());
        let is_laravel = checkup.inputs.publish_address().is_some();
        if !location.starts_with("https://") || peer.is_tls || !is_laravel {
            return finding;
        }
        return finding
            .line(checkup.inputs.place("REVERB_SCHEME"), "REVERB_SCHEME=https")
            .line(checkup.inputs.place("REVERB_PORT"), "REVERB_PORT=443");
    }
    if answer.is_challenge() {
        return through_cdn(checkup, seen);
    }
    if by == AnsweredBy::Campanile {
        return rejected_by_campanile(checkup, peer, app, called, seen);
    }
    match status {
        502..=504 | 520..=526 => upstream_down(checkup, seen, &by),
        200 | 404 | 405 | 410 | 419 => {
            let finding = API_ROUTE_MISSING.found(seen);
            checkup.with_lines(finding, &ROUTES, &by)
        }
        429 => PROXY_LIMITS_RATE.found(seen),
        413 => checkup.with_lines(API_UNAVAILABLE.found(seen), &BODIES, &by),
        401 | 403 => API_UNAVAILABLE.found(seen).advice(
            "The proxy or a firewall rejects the request: allow POST and GET for /apps/ there, without a \
             password. Campanile verifies the signature of each request.",
        ),
        _ => API_UNAVAILABLE.found(seen),
    }
}

fn through_cdn(checkup: &Checkup<'_>, seen: String) -> Finding {
    let finding = PUBLISH_THROUGH_CDN.found(seen);
    let own = checkup.inputs.direct_peer().ok().filter(|_| checkup.direct.is_some());
    let Some(own) = own else { return finding };
    if checkup.inputs.publish_address().is_none() {
        return finding.advice(format!("Have the application publish to {}.", own.origin()));
    }
    let (host, port) = (&own.host, own.port);
    let scheme = if own.is_tls { "https" } else { "http" };
    finding
        .line(checkup.inputs.place("REVERB_HOST"), format!("REVERB_HOST={host}"))
        .line(checkup.inputs.place("REVERB_PORT"), format!("REVERB_PORT={port}"))
        .line(checkup.inputs.place("REVERB_SCHEME"), format!("REVERB_SCHEME={scheme}"))
        .advice("Browsers keep their address in VITE_REVERB_HOST, VITE_REVERB_PORT and VITE_REVERB_SCHEME.")
}

fn rejected_by_campanile(
    checkup: &Checkup<'_>,
    peer: &Peer,
    app: &AppConfig,
    called: &SignedAnswer,
    seen: String,
) -> Finding {
    let answer = &called.answer;
    let error = answer.campanile_error().unwrap_or_default();
    match answer.status {
        400 if is_tls_wanted(answer) => double_tls(checkup, seen),
        401 if error.starts_with("Timestamp expired") => CLOCK_DIFFERS.found(seen),
        401 if error.starts_with("Invalid signature") || error.contains("body_md5") => {
            signature(checkup, &called.signed, &error)
        }
        401 if error.starts_with("Missing parameter") => request_changed(
            checkup,
            format!("The query of a publish did not reach the server: {error}."),
        ),
        403 if let Some(finding) = development_app_public(&error) => finding,
        405 => request_changed(
            checkup,
            format!(
                "The method of a publish changed on its way: POST was sent, and the server says: {error}."
            ),
        ),
        404 if error.starts_with("Nothing at") => {
            let finding = API_ROUTE_MISSING.found(seen);
            let sent = format!("{}/apps/{}/events", peer.prefix, app.id);
            let received =
                error.strip_prefix("Nothing at ").and_then(|rest| rest.split(':').next());
            if let Some(received) = received.filter(|received| *received != sent) {
                let advice = format!(
                    "The publish went to {sent}, and the server received {received}: have the proxy leave \
                     the path as it is."
                );
                return checkup.with_lines(
                    finding.advice(advice),
                    &UNCHANGED,
                    &AnsweredBy::Unknown,
                );
            }
            let own = checkup.inputs.config().map(|config| config.server.path.clone());
            finding.advice(format!(
                "The server's routes begin with {:?} (server.path), and the publish went to {:?}. PHP's SDK \
                 has the option path.",
                own.unwrap_or_default(),
                peer.prefix
            ))
        }
        404 | 400 if error.contains("app") && checkup.report.is_well(Link::Direct) => {
            leads_elsewhere(
                checkup,
                &format!("The server behind {} has no app {}: {error}", peer.http_url(""), app.id),
            )
        }
        404 | 400 if error.contains("app") => UNKNOWN_KEY.found(format!(
            "The server behind {} has no app {}: {error}.",
            peer.http_url(""),
            app.id
        )),
        _ => API_UNAVAILABLE.found(seen),
    }
}

/// Which part of a request the server saw otherwise than it was signed.
fn signature(checkup: &Checkup<'_>, signed: &str, error: &str) -> Finding {
    let saw = text_to_sign(error);
    let parts = |text: &str| -> Vec<String> { text.splitn(3, '\n').map(str::to_owned).collect() };
    let (sent, received) = (parts(signed), saw.as_deref().map(parts));
    let changed = match &received {
        None if error.contains("body_md5") => Some(("body", String::new())),
        None => None,
        Some(received) => ["method", "path", "query"]
            .into_iter()
            .zip(sent.iter().zip(received))
            .find(|(_, (sent, received))| sent != received)
            .map(|(part, (sent, received))| {
                (part, format!(": {sent} was signed and sent, and the server received {received}"))
            }),
    };
    let Some((part, how)) = changed else {
        if checkup.report.is_well(Link::Direct) {
            let seen = "Through the address, the server computes another signature for the same method, path \
                        and query: it has another secret for this key";
            return leads_elsewhere(checkup, seen);
        }
        return SIGNATURE_DIFFERS.found(
            "The server computes another signature for the same method, path and query: it has another \
             secret for this key.",
        );
    };
    request_changed(checkup, format!("The {part} of a publish changed on its way{how}."))
}

fn request_changed(checkup: &Checkup<'_>, seen: String) -> Finding {
    checkup.with_lines(REQUEST_CHANGED.found(seen), &UNCHANGED, &AnsweredBy::Unknown)
}

/// The server on this machine accepts what the one at the address does not.
fn leads_elsewhere(checkup: &Checkup<'_>, seen: &str) -> Finding {
    let own = checkup.upstream().unwrap_or_default();
    PROXY_LEADS_ELSEWHERE.found(format!("{seen}; the server at {own} accepts it."))
}

/// The text that the server wanted to be signed, which its error quotes.
fn text_to_sign(error: &str) -> Option<String> {
    let (_, rest) = error.split_once("HmacSHA256Hex(")?;
    let (quoted, _) = rest.split_once(", your_secret_key)")?;
    match serde_json::from_str(quoted) {
        Ok(Value::String(text)) => Some(text),
        Ok(_) | Err(_) => None,
    }
}

/// Compares the clocks by the time of an answer.
fn clock(answer: &Answer, now: SystemTime) -> Option<Finding> {
    let date = httpdate(answer.header(DATE)?)?;
    let difference = date.duration_since(now).or_else(|_| now.duration_since(date)).ok()?;
    (DRIFT < difference).then(|| {
        CLOCK_DRIFTS.found(format!(
            "The clock of this machine and that of the answer differ by {} s.",
            difference.as_secs()
        ))
    })
}

/// Parses a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn httpdate(text: &str) -> Option<SystemTime> {
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let months =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month)? + 1;
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

/// Sends a body as large as a batch of ten events, which the server reads and then rejects for having
/// no events: no client receives it.
async fn large_body(checkup: &mut Checkup<'_>, peer: &Peer, app: &AppConfig) -> Option<Finding> {
    checkup.progress.show(format_args!("sending a large publish"));
    let size = (BATCH * app.max_event_bytes + BATCH_REST).min(BODY_MAX);
    let answer = padded(peer, app, size).await;
    // A proxy may also close the connection, or send another status.
    let fits = |answer: &Option<Answer>| {
        answer.as_ref().is_some_and(|answer| answer.answered_by() == AnsweredBy::Campanile)
    };
    let by = answer.as_ref().map_or(AnsweredBy::Unknown, Answer::answered_by);
    if let Some(answer) = answer.as_ref().filter(|_| by == AnsweredBy::Campanile) {
        if answer.status != 413 {
            return None;
        }
        let finding = BODY_LIMIT_SERVER
            .found(format!("A body of {size} bytes was answered with 413{}", quote(answer)));
        return Some(
            finding.line("config.toml [server]", format!("max_request_bytes = {}", 2 * size)),
        );
    }
    let how = match &answer {
        Some(answer) => format!("answered with {} by {by}", answer.status),
        None => "not answered".to_owned(),
    };
    let (mut accepted, mut rejected) = (0, size);
    while 4_096 < rejected - accepted {
        let middle = accepted.midpoint(rejected);
        if fits(&padded(peer, app, middle).await) {
            accepted = middle;
        } else {
            rejected = middle;
        }
    }
    let finding = BODY_LIMIT_PROXY.found(format!(
        "A body of {size} bytes was {how}; the limit is about {} KiB.",
        rejected.div_ceil(1_024)
    ));
    Some(checkup.with_lines(finding, &BODIES, &by))
}

async fn padded(peer: &Peer, app: &AppConfig, size: usize) -> Option<Answer> {
    let rest = json!({"batch": "", "padding": ""}).to_string().len();
    let padding = "x".repeat(size.saturating_sub(rest));
    let body = json!({"batch": "", "padding": padding}).to_string();
    Some(call(peer, app, Method::POST, "batch_events", body).await.ok()?.answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_that_the_server_wanted_is_read_from_its_error() {
        let error = "Invalid signature: you should have sent HmacSHA256Hex(\"POST\\n/apps/1/events\\na=b\", \
                     your_secret_key), but you sent \"x\"";
        assert_eq!(text_to_sign(error).as_deref(), Some("POST\n/apps/1/events\na=b"));
        assert_eq!(text_to_sign("Invalid body_md5"), None);
    }

    #[test]
    fn dates_of_answers_are_read() {
        let date = httpdate("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(humantime::format_rfc3339_seconds(date).to_string(), "1994-11-06T08:49:37Z");
        assert_eq!(httpdate("yesterday"), None);
    }
}
