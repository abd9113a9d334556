//! The authentication endpoint of the application, asked as a page asks it: with the page's token and
//! the user's cookie.

use super::{
    super::{
        Checkup,
        causes::api::{
            AUTH_ANSWER_INVALID, AUTH_CORS, AUTH_CSRF, AUTH_FORBIDDEN, AUTH_NEEDS_USER,
            AUTH_OTHER_SECRET, AUTH_ROUTE_MISSING, AUTH_UNREACHABLE,
        },
        finding::Finding,
        probe::{Answer, AnsweredBy, NotSubscribed, OpenClient, Peer, get_with, send},
        public::NO_CONNECTION,
        report::Outcome,
    },
    client::another,
    page::{merged, peer_and_path, token_of, token_of_cookie},
    proxy::quote,
};
use crate::{
    config::AppConfig,
    protocol::SocketId,
    signature::{Signer, channel_string_to_sign},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Uri,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
        CONTENT_TYPE, COOKIE, ORIGIN,
    },
};
use serde_json::{Value, json};

/// The channel that is asked for unless `--channel` names one. Applications do not know it.
const CHANNEL: &str = "private-campanile-doctor";
const TOKEN_HEADER: &str = "X-CSRF-TOKEN";
/// The header for the value of the cookie of Laravel.
const COOKIE_HEADER: &str = "X-XSRF-TOKEN";

/// The endpoint, and what a page sends to it.
struct Endpoint {
    peer: Peer,
    /// The path and the query.
    path: String,
    /// The address for reports, without the query.
    url: String,
    channel: String,
    /// The header with the token of the page or of a cookie, if there is one.
    token: Option<(&'static str, String)>,
    was_page_read: bool,
    cookie: Option<String>,
    /// Whether a cookie of a user was passed, so that requests have credentials.
    has_user_cookie: bool,
    headers: Vec<(String, String)>,
    /// The origin of the page.
    origin: Option<String>,
    /// Whether the application is one of Laravel, as far as it is known.
    is_laravel: bool,
}

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let Some(url) = checkup.inputs.args.auth_endpoint.clone() else {
        return Outcome::Skipped("pass --auth-endpoint, and --cookie of a user".to_owned());
    };
    if let Some(skipped) = checkup.blocked(NO_CONNECTION) {
        return skipped;
    }
    let Some(app) = checkup.inputs.app() else {
        return Outcome::Skipped("no app is configured".to_owned());
    };
    let mut client = match another(checkup).await {
        Ok(client) => client,
        Err(outcome) => return outcome,
    };
    let mut endpoint = match endpoint(checkup, &url).await {
        Ok(endpoint) => endpoint,
        Err(why) => return Outcome::Skipped(why),
    };
    // An error of the application may quote what the page has sent.
    let token = endpoint.token.iter().map(|(_, token)| token.as_str());
    token.for_each(|token| checkup.report.mask.add(token));
    checkup.report.mask.add_cookies(endpoint.cookie.as_deref().unwrap_or_default());
    if let Some(finding) = preflight(&endpoint).await {
        return finding.into();
    }
    let answer = match ask(&endpoint, &client.socket_id).await {
        Ok(answer) => answer,
        Err(why) => return AUTH_UNREACHABLE.found(format!("{}: {why}.", endpoint.url)).into(),
    };
    endpoint.is_laravel |= is_of_laravel(&answer);
    if let Some(finding) = cors_of_answer(&endpoint, &answer) {
        return finding.into();
    }
    let outcome = match answer.status {
        200 => accepted(checkup, &endpoint, &app, &answer, &mut client).await,
        403 if endpoint.channel == CHANNEL => Outcome::Well(
            "answers 403 for a channel that the application does not know; --channel NAME tries one of \
             yours"
                .to_owned(),
        ),
        _ => rejected(&endpoint, &answer).into(),
    };
    client.socket.close().await;
    outcome
}

/// Whether Laravel or PHP has answered. The status 419 is Laravel's own.
fn is_of_laravel(answer: &Answer) -> bool {
    answer.status == 419 || [AnsweredBy::Laravel, AnsweredBy::Php].contains(&answer.answered_by())
}

/// Reads the page, if its address is known, for its token and its cookies.
async fn endpoint(checkup: &Checkup<'_>, url: &Uri) -> Result<Endpoint, String> {
    let args = checkup.inputs.args;
    let trust = checkup.inputs.trust();
    let (peer, path) = peer_and_path(url, &trust)?;
    let header = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    let headers = args.header.iter().filter_map(header).collect();
    let mut endpoint = Endpoint {
        url: peer.http_url(path.split('?').next().unwrap_or_default()),
        peer,
        path,
        channel: args.channel.clone().unwrap_or_else(|| CHANNEL.to_owned()),
        token: None,
        was_page_read: false,
        cookie: args.cookie.clone(),
        has_user_cookie: args.cookie.is_some(),
        headers,
        origin: checkup.page_origin().map(|(origin, _)| origin),
        is_laravel: checkup.inputs.is_laravel(),
    };
    if let Some(page_url) = &args.url {
        let (page, path) = peer_and_path(page_url, &trust)?;
        let cookie = endpoint.cookie.as_deref().map(|cookie| (COOKIE, cookie));
        if let Ok(answer) = get_with(&page, &path, cookie).await {
            endpoint.was_page_read = answer.status == 200;
            endpoint.is_laravel |= is_of_laravel(&answer);
            endpoint.token = token_of(&answer.text()).map(|token| (TOKEN_HEADER, token));
            endpoint.cookie = merged(endpoint.cookie.as_deref(), &answer);
        }
    }
    let of_cookie = || Some((COOKIE_HEADER, token_of_cookie(endpoint.cookie.as_deref()?)?));
    endpoint.token = endpoint.token.take().or_else(of_cookie);
    Ok(endpoint)
}

impl Endpoint {
    /// Whether neither a cookie nor a header of a user was passed.
    fn is_guest(&self) -> bool {
        !self.has_user_cookie && self.headers.is_empty()
    }

    /// The origin of the page, if it is not that of the endpoint.
    fn other_origin(&self) -> Option<&str> {
        let own = self.peer.http_url("");
        self.origin.as_deref().filter(|origin| !own.eq_ignore_ascii_case(origin))
    }

    /// The headers that a browser asks for before it sends them to another origin.
    fn special_headers(&self) -> Vec<String> {
        let token = self.token.as_ref().map(|(name, _)| *name);
        let passed = self.headers.iter().map(|(name, _)| name.as_str());
        token.into_iter().chain(passed).map(str::to_ascii_lowercase).collect()
    }
}

/// Asks as a browser does before the request of a page of another origin, if it has special headers.
async fn preflight(endpoint: &Endpoint) -> Option<Finding> {
    let origin = endpoint.other_origin()?;
    let wanted = endpoint.special_headers();
    if wanted.is_empty() {
        return None;
    }
    let request = Request::builder()
        .method(Method::OPTIONS)
        .uri(&endpoint.path)
        .header(ORIGIN, origin)
        .header(ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(ACCESS_CONTROL_REQUEST_HEADERS, wanted.join(","))
        .body(Full::default())
        .ok()?;
    let answer = send(&endpoint.peer, request).await.ok()?;
    cors(endpoint, origin, "OPTIONS", &answer, &wanted)
}

/// Without special headers, browsers ask nothing before, and look at the answer itself.
fn cors_of_answer(endpoint: &Endpoint, answer: &Answer) -> Option<Finding> {
    let origin = endpoint.other_origin().filter(|_| endpoint.special_headers().is_empty())?;
    // That a request is rejected has causes of its own.
    (answer.status == 200).then(|| cors(endpoint, origin, "POST", answer, &[]))?
}

/// Whether an answer lets a page of another origin send these headers, and read the answer.
fn cors(
    endpoint: &Endpoint,
    origin: &str,
    method: &str,
    answer: &Answer,
    wanted: &[String],
) -> Option<Finding> {
    let header = |name| answer.header(name).unwrap_or_default();
    let allowed = header(ACCESS_CONTROL_ALLOW_ORIGIN);
    let needs_credentials = endpoint.has_user_cookie;
    let allows_headers = {
        let list = header(ACCESS_CONTROL_ALLOW_HEADERS).to_ascii_lowercase();
        list == "*" || wanted.iter().all(|name| list.contains(name))
    };
    let why = if allowed != origin && (allowed != "*" || needs_credentials) {
        match allowed {
            "" => "has no Access-Control-Allow-Origin".to_owned(),
            other => format!("has Access-Control-Allow-Origin: {other}"),
        }
    } else if needs_credentials && header(ACCESS_CONTROL_ALLOW_CREDENTIALS) != "true" {
        "has no Access-Control-Allow-Credentials: true, and the request has a cookie".to_owned()
    } else if !allows_headers {
        format!("has no Access-Control-Allow-Headers with {}", wanted.join(", "))
    } else {
        return None;
    };
    let path = endpoint.path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let finding = AUTH_CORS.found(format!(
        "The page is at {origin}, and the answer to {method} {} ({}) {why}.",
        endpoint.url, answer.status
    ));
    Some(if endpoint.is_laravel {
        finding
            .line("config/cors.php", format!("'paths' => ['api/*', '{path}'],"))
            .line("config/cors.php", format!("'allowed_origins' => ['{origin}'],"))
            .line("config/cors.php", "'supports_credentials' => true,")
    } else {
        let place = "answers to OPTIONS and POST";
        let finding = finding
            .line(place, format!("Access-Control-Allow-Origin: {origin}"))
            .line(place, "Access-Control-Allow-Credentials: true");
        if wanted.is_empty() {
            finding
        } else {
            finding.line(place, format!("Access-Control-Allow-Headers: {}", wanted.join(", ")))
        }
    })
}

/// Sends the request of a subscription.
async fn ask(endpoint: &Endpoint, socket_id: &str) -> Result<Answer, String> {
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("socket_id", socket_id)
        .append_pair("channel_name", &endpoint.channel)
        .finish();
    let mut request =
        Request::post(&endpoint.path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let cookie = endpoint.cookie.as_deref().map(|cookie| (COOKIE.as_str(), cookie));
    let origin = endpoint.origin.as_deref().map(|origin| (ORIGIN.as_str(), origin));
    let token = endpoint.token.as_ref().map(|(name, token)| (*name, token.as_str()));
    for (name, value) in [cookie, origin, token].into_iter().flatten() {
        request = request.header(name, value);
    }
    for (name, value) in &endpoint.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(body)));
    let request = request.map_err(|error| format!("--cookie or --header: {error}"))?;
    send(&endpoint.peer, request).await.map_err(|why| why.to_string())
}

fn rejected(endpoint: &Endpoint, answer: &Answer) -> Finding {
    let Endpoint { url, channel, .. } = endpoint;
    let status = answer.status;
    let by = answer.answered_by();
    let seen =
        format!("POST {url} for {channel} was answered with {status} by {by}{}", quote(answer));
    if let Some(location) = answer.location() {
        return redirected(endpoint, status, location);
    }
    match status {
        401 | 403 if endpoint.is_guest() => AUTH_NEEDS_USER.found(seen),
        401 | 403 if endpoint.is_laravel => AUTH_FORBIDDEN.found(seen).advice(format!(
            "Have the callback of {} in routes/channels.php return true for this user.",
            channel.trim_start_matches("private-").trim_start_matches("presence-")
        )),
        401 | 403 => AUTH_FORBIDDEN.found(seen),
        419 => csrf(endpoint, seen),
        404 | 405 if by == AnsweredBy::Campanile => AUTH_ROUTE_MISSING.found(seen).advice(
            "Campanile signs no subscriptions: the address must be that of the application.",
        ),
        404 | 405 if endpoint.is_laravel => AUTH_ROUTE_MISSING
            .found(seen)
            .line("bootstrap/app.php", "->withBroadcasting(__DIR__.'/../routes/channels.php')"),
        404 | 405 => AUTH_ROUTE_MISSING.found(seen),
        _ => AUTH_UNREACHABLE.found(seen),
    }
}

/// A redirect to the same path is about the address, and one to another path is to a page to log in.
fn redirected(endpoint: &Endpoint, status: u16, location: &str) -> Finding {
    // The query may have a token.
    let location = location.split(['?', '#']).next().unwrap_or_default();
    let seen = format!("POST {} was answered with {status}, to {location}.", endpoint.url);
    let path_of = |url: &str| {
        let uri: Option<Uri> = url.parse().ok();
        uri.map(|uri| uri.path().trim_end_matches('/').to_owned())
    };
    if path_of(location) == path_of(&endpoint.path) {
        return AUTH_UNREACHABLE
            .found(seen)
            .advice(format!("Give Echo the address {location} as authEndpoint."));
    }
    if endpoint.is_guest() {
        return AUTH_NEEDS_USER.found(seen);
    }
    AUTH_FORBIDDEN.found(seen).advice("The session has ended, or is not that of this application.")
}

fn csrf(endpoint: &Endpoint, seen: String) -> Finding {
    let finding = AUTH_CSRF.found(seen);
    let tag = r#"<meta name="csrf-token" content="{{ csrf_token() }}">"#;
    match (&endpoint.token, endpoint.was_page_read) {
        (Some((COOKIE_HEADER, _)), _) => finding
            .advice("The cookie XSRF-TOKEN was sent as X-XSRF-TOKEN, and belongs to another session. The page has no token.")
            .line("resources/views/layouts/app.blade.php, in <head>", tag),
        (None, true) => finding
            .advice("The page has no token.")
            .line("resources/views/layouts/app.blade.php, in <head>", tag),
        (None, false) => finding
            .advice("Pass --url with a page that subscribes, for its token to be sent.")
            .line("resources/views/layouts/app.blade.php, in <head>", tag),
        (Some(_), _) => finding.advice(
            "The token of the page was sent, and belongs to another session: the endpoint does not get the \
             session's cookie. Compare SESSION_DOMAIN and SESSION_SECURE_COOKIE with the host of the page.",
        ),
    }
}

/// An answer with 200 that client libraries cannot use.
fn without_signature(endpoint: &Endpoint, app: &AppConfig, answer: &Answer) -> Finding {
    let url = &endpoint.url;
    // A signature that is there, in another form: without its key, within a text, after a warning.
    let text = answer.text();
    let has_signature = answer.json()["auth"].is_string()
        || text.contains(&format!("{}:", app.key)) && text.contains("auth");
    if has_signature {
        return AUTH_ANSWER_INVALID
            .found(format!("POST {url} was answered with 200 and with{}", quote(answer)));
    }
    let seen = format!("POST {url} was answered with 200 and without a signature{}", quote(answer));
    let finding = AUTH_ROUTE_MISSING.found(seen);
    if endpoint.is_laravel {
        finding.advice(
            "Another route answers: a page for all paths, or BROADCAST_CONNECTION is log or null.",
        )
    } else {
        finding.advice("Another route answers, such as a page for all paths.")
    }
}

/// A presence channel is not joined: its members and webhooks would see that.
fn signed_member(endpoint: &Endpoint, data: Option<&str>) -> Outcome {
    let Endpoint { url, channel, .. } = endpoint;
    let data: Value = data.and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
    if data["user_id"].is_string() || data["user_id"].is_number() {
        let text = format!(
            "{channel} has the right signature; it was not joined, since its members would see that"
        );
        return Outcome::Well(text);
    }
    AUTH_FORBIDDEN
        .found(format!(
            "POST {url} for {channel} was answered without channel_data with a user_id."
        ))
        .advice(
            "Have the endpoint answer presence channels with channel_data, which has the user_id.",
        )
        .into()
}

/// Compares the signature with that of the app, and subscribes with it to a private channel.
async fn accepted(
    checkup: &Checkup<'_>,
    endpoint: &Endpoint,
    app: &AppConfig,
    answer: &Answer,
    client: &mut OpenClient,
) -> Outcome {
    let Endpoint { url, channel, .. } = endpoint;
    let body = answer.json();
    let Some((key, signature)) = body["auth"].as_str().and_then(|auth| auth.split_once(':')) else {
        return without_signature(endpoint, app, answer).into();
    };
    let data = body["channel_data"].as_str();
    let text = SocketId::parse(&client.socket_id)
        .ok()
        .flatten()
        .map(|socket_id| channel_string_to_sign(socket_id, channel, data));
    let is_ours =
        text.is_some_and(|text| Signer::new(app.secret.expose()).verify(&text, signature));
    if key != app.key || !is_ours {
        let seen = if key == app.key {
            format!("{url} signs for the key {key} with another secret than this app's.")
        } else {
            format!("{url} signs with the key {key}, and the server expects {}.", app.key)
        };
        let finding = AUTH_OTHER_SECRET.found(seen);
        if !endpoint.is_laravel {
            return finding.into();
        }
        return finding
            .line(checkup.inputs.place("REVERB_APP_KEY"), format!("REVERB_APP_KEY={}", app.key))
            .advice("Set REVERB_APP_SECRET to the secret of the same app.")
            .command("php artisan config:clear")
            .into();
    }
    if channel.starts_with("presence-") {
        return signed_member(endpoint, data);
    }
    let subscription = json!({"channel": channel, "auth": body["auth"], "channel_data": data});
    match client.subscribe_with(subscription).await {
        Ok(()) => {
            let how = match &endpoint.token {
                Some((COOKIE_HEADER, _)) => {
                    "; the page has no csrf-token, and must send the cookie as X-XSRF-TOKEN itself"
                }
                Some(_) | None => "",
            };
            Outcome::Well(format!("{channel} was subscribed to with its signature{how}"))
        }
        Err(NotSubscribed::Rejected { name, data }) => {
            AUTH_OTHER_SECRET.found(format!("{channel} was rejected: {name} {data}.")).into()
        }
        Err(NotSubscribed::Ended(end)) => {
            AUTH_UNREACHABLE.found(format!("{channel} was not subscribed to: {end}.")).into()
        }
    }
}
