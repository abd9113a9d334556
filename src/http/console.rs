//! The requests of the console's page.

use super::{
    HttpContext, body,
    response::{ApiError, HttpResponse, json_response, ok, with_type},
    route::ConsolePath,
    upgrade,
};
use crate::{
    console::{Asset, Console, LiveError, LiveTicket, LoginError, SESSION_MAX, SUBPROTOCOL},
    host::Host,
    node::{AppsUnavailable, ClientAddress, rate_limit_network},
};
use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    body::Incoming,
    header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        COOKIE, ETAG, HOST, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION, ORIGIN,
        REFERRER_POLICY, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE, VARY,
    },
    http::request::Parts,
};
use serde::Deserialize;

/// What a page may load: its own files, and nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const COOKIE_NAME: &str = "campanile_console";
/// Maximum number of cookies of the name that are looked at.
const COOKIES_MAX: usize = 4;
/// Headers that proxies add.
const FORWARDED: [&str; 4] = ["x-forwarded-for", "x-forwarded-host", "forwarded", "via"];
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");
/// Maximum size of a log-in, in bytes.
const LOGIN_MAX: usize = 4_096;

/// The body of a log-in.
#[derive(Deserialize)]
struct LoginBody {
    password: String,
    app: Option<String>,
}

/// The answer to a request of the page: a response, and the ticket of the WebSocket that it opens.
pub(super) type ConsoleResponse = (HttpResponse, Option<LiveTicket>);

impl HttpContext {
    /// Answers a request of the page.
    pub(super) async fn console_request(
        &self,
        path: ConsolePath<'_>,
        parts: &Parts,
        body: Incoming,
        peer: ClientAddress,
    ) -> ConsoleResponse {
        // On the heap: other requests need not have room for it.
        let answered = Box::pin(self.answer_console(path, parts, body, peer)).await;
        let (mut response, ticket) = answered.unwrap_or_else(|error| (error.into_response(), None));
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        (response, ticket)
    }

    async fn answer_console(
        &self,
        path: ConsolePath<'_>,
        parts: &Parts,
        body: Incoming,
        peer: ClientAddress,
    ) -> Result<ConsoleResponse, ApiError> {
        if !self.console.is_on() {
            return Err(ApiError::not_found("The console is off: set console.password"));
        }
        if self.console.is_open() {
            check_local(&parts.headers, peer)?;
        }
        let response = match path {
            ConsolePath::Redirect => redirect(),
            ConsolePath::Asset(name) => asset(&name, &parts.headers)?,
            ConsolePath::Session => self.console_session(&parts.headers, peer).await?,
            ConsolePath::Login => self.console_login(parts, body, peer).await?,
            ConsolePath::Logout => self.console_logout(&parts.headers, peer).await?,
            ConsolePath::Live => return self.console_live(parts).await,
        };
        Ok((response, None))
    }

    /// `GET session`. Where no password is needed, a session is opened.
    async fn console_session(
        &self,
        headers: &HeaderMap,
        peer: ClientAddress,
    ) -> Result<HttpResponse, ApiError> {
        for token in tokens(headers) {
            if let Some(session) = self.console.describe(token).await.map_err(apps_unavailable)? {
                return Ok(ok(session.to_string()));
            }
        }
        match self.console.open_session() {
            Some(token) => self.with_session(&token, peer.is_tls).await,
            None => Err(ApiError::unauthorized("Log in with the password of the console")),
        }
    }

    /// `POST login`.
    async fn console_login(
        &self,
        parts: &Parts,
        body: Incoming,
        peer: ClientAddress,
    ) -> Result<HttpResponse, ApiError> {
        let headers = &parts.headers;
        let is_https = check_origin(headers)? || peer.is_tls;
        let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        if !is_json {
            let message = "The body must be JSON, with Content-Type: application/json";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let body = body::read(body, LOGIN_MAX, self.request_timeout).await?;
        let body: LoginBody = serde_json::from_slice(&body).map_err(|_| {
            ApiError::bad_request("The body must have a password, and may have an app")
        })?;
        let app = body.app.as_deref().filter(|app| !app.is_empty());
        let network = rate_limit_network(peer.address);
        let token = self.console.log_in(app, &body.password, network).await;
        let token = token.map_err(|error| login_error(&error))?;
        for before in tokens(headers) {
            self.console.log_out(before).await.map_err(apps_unavailable)?;
        }
        tracing::info!(app, address = %peer.address, "console session opened");
        self.with_session(&token, is_https).await
    }

    /// The session of a new token, with its cookie.
    async fn with_session(&self, token: &str, is_https: bool) -> Result<HttpResponse, ApiError> {
        let session = self.console.describe(token).await.map_err(apps_unavailable)?;
        let session = session.unwrap_or_default();
        let mut response = ok(session.to_string());
        let max_age = SESSION_MAX.as_secs();
        Self::set_cookie(&mut response, token, max_age, is_https);
        Ok(response)
    }

    fn set_cookie(response: &mut HttpResponse, token: &str, max_age: u64, is_https: bool) {
        let secure = if is_https { "; Secure" } else { "" };
        // Without a path it is that of the request, also behind a proxy that removes a prefix.
        let cookie =
            format!("{COOKIE_NAME}={token}; HttpOnly; SameSite=Strict; Max-Age={max_age}{secure}");
        let cookie = HeaderValue::try_from(cookie).expect("digits and letters");
        response.headers_mut().insert(SET_COOKIE, cookie);
    }

    /// `POST logout`.
    async fn console_logout(
        &self,
        headers: &HeaderMap,
        peer: ClientAddress,
    ) -> Result<HttpResponse, ApiError> {
        let is_https = check_origin(headers)? || peer.is_tls;
        let csrf = headers.get(CSRF).and_then(|value| value.to_str().ok());
        let csrf = csrf.ok_or_else(no_session)?;
        let token = self.token_with_csrf(headers, csrf).await?;
        self.console.log_out(token).await.map_err(apps_unavailable)?;
        let mut response = json_response(StatusCode::NO_CONTENT, Bytes::new());
        Self::set_cookie(&mut response, "", 0, is_https);
        Ok(response)
    }

    /// The token of the session that has this token against forged requests.
    async fn token_with_csrf<'a>(
        &self,
        headers: &'a HeaderMap,
        csrf: &str,
    ) -> Result<&'a str, ApiError> {
        for token in tokens(headers) {
            if self.console.has_csrf(token, csrf).await.map_err(apps_unavailable)? {
                return Ok(token);
            }
        }
        Err(no_session())
    }

    /// `GET live`: the handshake of the WebSocket.
    async fn console_live(&self, parts: &Parts) -> Result<ConsoleResponse, ApiError> {
        let accept = upgrade::accept_key(parts)?;
        check_origin(&parts.headers)?;
        let offered = parts.headers.get(SEC_WEBSOCKET_PROTOCOL);
        let csrf = offered
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().strip_prefix(SUBPROTOCOL));
        let csrf = csrf.ok_or_else(no_session)?;
        let token = self.token_with_csrf(&parts.headers, csrf).await?;
        let ticket = self.console.grant_live(token, csrf).await.map_err(|error| match error {
            LiveError::Apps(unavailable) => apps_unavailable(unavailable),
            LiveError::NoSession => no_session(),
            LiveError::TooMany => ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many pages of the console are open on this node",
            ),
        })?;
        let protocol = HeaderValue::try_from(ticket.subprotocol()).ok();
        Ok((upgrade::switching_protocols(accept, protocol), Some(ticket)))
    }

    /// The console.
    pub(super) fn console(&self) -> &std::sync::Arc<Console> {
        &self.console
    }
}

fn no_session() -> ApiError {
    ApiError::unauthorized("The session has ended, or the token against forged requests is wrong")
}

fn apps_unavailable(unavailable: AppsUnavailable) -> ApiError {
    ApiError::apps_unavailable(unavailable)
}

fn login_error(error: &LoginError) -> ApiError {
    match *error {
        LoginError::WrongPassword => ApiError::unauthorized("The password is wrong"),
        LoginError::TooMany(wait) => {
            let message = "Too many attempts to log in: try again later";
            ApiError::retry_after(StatusCode::TOO_MANY_REQUESTS, message, wait)
        }
        LoginError::Apps(unavailable) => apps_unavailable(unavailable),
    }
}

/// Checks that a console without a password is asked by a page of its own, on this machine. A proxy
/// may have written the loopback address into `Host`, and a page of another site may send requests.
fn check_local(headers: &HeaderMap, peer: ClientAddress) -> Result<(), ApiError> {
    let is_forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
    let of_page = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let is_own_page = matches!(of_page, None | Some(b"same-origin" | b"none"));
    if is_own_page && !is_forwarded && peer.address.is_loopback() {
        return Ok(());
    }
    let message = "The console of the development app is for pages of its own on this machine, without a \
                   proxy: set console.password";
    Err(ApiError::new(StatusCode::FORBIDDEN, message))
}

/// The tokens in the cookies. There may be several of one name: another server on this host, or a page
/// of a subdomain, can set one.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let found = lines.flat_map(|line| line.split(';')).filter_map(|cookie| {
        let (name, value) = cookie.trim().split_once('=')?;
        (name == COOKIE_NAME).then_some(value)
    });
    found.take(COOKIES_MAX)
}

/// Checks that a request is from a page of this server: its `Origin` has the host of the request.
/// Returns whether the page was loaded by HTTPS.
fn check_origin(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut origins = headers.get_all(ORIGIN).into_iter();
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let is_same = match (origins.next(), origins.next(), host) {
        (Some(origin), None, Some(host)) => same_host(origin.as_bytes(), host),
        _ => None,
    };
    is_same.ok_or_else(|| {
        ApiError::new(
            StatusCode::FORBIDDEN,
            "The request must be from a page of this server: its Origin must be the host of the \
             request, and a proxy must pass on the Host header",
        )
    })
}

/// Whether `origin` uses HTTPS, if it is one of `host`.
fn same_host(origin: &[u8], host: &[u8]) -> Option<bool> {
    let origin = std::str::from_utf8(origin).ok()?;
    let (default_port, authority) = match origin.split_once("://")? {
        ("https", authority) => (":443", authority),
        ("http", authority) => (":80", authority),
        _ => return None,
    };
    Host::parse(authority.as_bytes())?;
    let host = std::str::from_utf8(host).ok()?.to_ascii_lowercase();
    let authority = authority.to_ascii_lowercase();
    let without_port = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_owned();
    (without_port(&host) == without_port(&authority)).then_some(default_port == ":443")
}

fn redirect() -> HttpResponse {
    let mut response = json_response(StatusCode::PERMANENT_REDIRECT, Bytes::new());
    // Relative: the path before may be that of a proxy.
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("console/"));
    response
}

/// A file of the page, compressed if the client accepts that.
fn asset(name: &str, headers: &HeaderMap) -> Result<HttpResponse, ApiError> {
    let asset =
        Asset::find(name).ok_or_else(|| ApiError::not_found("The console has no such file"))?;
    let etag = asset.etag();
    let has_it = headers.get_all(IF_NONE_MATCH).into_iter().any(|line| {
        let tags = line.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.map(|tag| tag.strip_prefix("W/").unwrap_or(tag)).any(|tag| tag == etag || tag == "*")
    });
    let accepts_gzip = headers.get_all(ACCEPT_ENCODING).into_iter().any(|line| {
        line.to_str().unwrap_or_default().split(',').any(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            name.trim().eq_ignore_ascii_case("gzip") && weight.trim() != "q=0"
        })
    });
    let mut response = match (has_it, accepts_gzip) {
        (true, _) => with_type(StatusCode::NOT_MODIFIED, asset.content_type, Bytes::new()),
        (false, true) => with_type(StatusCode::OK, asset.content_type, asset.gzip()),
        (false, false) => with_type(StatusCode::OK, asset.content_type, asset.plain()),
    };
    let is_compressed = accepts_gzip && !has_it;
    let headers = response.headers_mut();
    if is_compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(ETAG, HeaderValue::from_str(etag).expect("quoted digits"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_that_of_the_host_with_its_default_port() {
        for (origin, host, expected) in [
            ("http://a.test:8080", "a.test:8080", Some(false)),
            ("https://a.test", "a.test", Some(true)),
            ("https://a.test", "A.test:443", Some(true)),
            ("http://[::1]:8080", "[::1]:8080", Some(false)),
            ("http://a.test", "a.test:443", None),
            ("http://a.test:8081", "a.test:8080", None),
            ("http://b.test", "a.test", None),
            ("http://a.test.evil.test", "a.test", None),
            ("http://a.test@evil.test", "a.test", None),
            ("http://a.test/", "a.test/", None),
            ("file://a.test", "a.test", None),
            ("null", "null", None),
            ("", "", None),
        ] {
            assert_eq!(same_host(origin.as_bytes(), host.as_bytes()), expected, "{origin} {host}");
        }
    }

    #[test]
    fn a_request_without_one_origin_is_not_from_a_page_of_this_server() {
        let check = |lines: &[(HeaderName, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, HeaderValue::from_str(value).unwrap());
            }
            check_origin(&headers).ok()
        };
        let (host, origin) = ((HOST, "a.test"), (ORIGIN, "https://a.test"));
        assert_eq!(check(&[host.clone(), origin.clone()]), Some(true));
        assert_eq!(check(std::slice::from_ref(&host)), None);
        assert_eq!(check(std::slice::from_ref(&origin)), None);
        assert_eq!(check(&[host, origin.clone(), origin]), None);
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        let found = |headers: &HeaderMap| tokens(headers).map(str::to_owned).collect::<Vec<_>>();
        headers.append(COOKIE, HeaderValue::from_static("a=b; xcampanile_console=c"));
        assert_eq!(found(&headers), [""; 0]);
        headers.append(COOKIE, HeaderValue::from_static("d=e;campanile_console=f; g=h"));
        headers.append(COOKIE, HeaderValue::from_static("campanile_console=i"));
        assert_eq!(found(&headers), ["f", "i"]);
    }
}
