//! One request over one connection. Redirects are not followed: that there is one is what is asked.

use super::{Peer, STEP_TIMEOUT};
use crate::http_client::ConnectError;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION, SERVER, USER_AGENT, VIA},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time,
};

/// Maximum number of bytes read of the body of an answer.
const BODY_MAX: usize = 256 * 1_024;
/// Maximum number of bytes read of the answer to what is no HTTP.
const NONSENSE_MAX: u64 = 4_096;
/// Who asks, for the logs of proxies and applications.
const USER: HeaderValue =
    HeaderValue::from_static(concat!("campanile-doctor/", env!("CARGO_PKG_VERSION")));

/// An answer, of any status.
#[derive(Clone, Debug)]
pub(in crate::cli::doctor) struct Answer {
    pub(in crate::cli::doctor) status: u16,
    pub(in crate::cli::doctor) headers: HeaderMap,
    /// The body, or its first part.
    pub(in crate::cli::doctor) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::cli::doctor) enum NoAnswer {
    /// No connection was established.
    Connect(ConnectError),
    /// The connection ended before the answer, or the answer is not HTTP.
    Http(hyper::Error),
    /// Nothing was received in time.
    Timeout,
}

/// The program that wrote an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::cli::doctor) enum AnsweredBy {
    Campanile,
    Laravel,
    Php,
    Vite,
    Reverb,
    Cloudflare,
    Nginx,
    Apache,
    Caddy,
    HaProxy,
    Traefik,
    Envoy,
    /// A program that calls itself this.
    Other(String),
    /// A program that does not say what it is.
    Unknown,
}

/// Sends a request without a body, with another header.
pub(in crate::cli::doctor) async fn get_with(
    peer: &Peer,
    path: &str,
    header: Option<(HeaderName, &str)>,
) -> Result<Answer, NoAnswer> {
    let mut request = Request::get(format!("{}{path}", peer.prefix));
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    send(peer, request.body(Full::default()).unwrap_or_default()).await
}

/// Sends a request, whose URI is a whole path, and reads the answer.
pub(in crate::cli::doctor) async fn send(
    peer: &Peer,
    request: Request<Full<Bytes>>,
) -> Result<Answer, NoAnswer> {
    let exchange = async { read(exchange(peer, request).await?.1).await };
    time::timeout(STEP_TIMEOUT, exchange).await.unwrap_or(Err(NoAnswer::Timeout))
}

/// Sends a request. The connection lives as long as the sender.
pub(super) async fn exchange(
    peer: &Peer,
    mut request: Request<Full<Bytes>>,
) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), NoAnswer> {
    let stream = peer.connect().await.map_err(NoAnswer::Connect)?;
    let handshake = http1::Builder::new().handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(NoAnswer::Http)?;
    tokio::spawn(connection.with_upgrades());
    let host = HeaderValue::from_str(&peer.authority()).expect("an authority is a valid header");
    request.headers_mut().entry(HOST).or_insert(host);
    request.headers_mut().entry(USER_AGENT).or_insert(USER);
    let response = sender.send_request(request).await.map_err(NoAnswer::Http)?;
    Ok((sender, response))
}

/// Reads an answer, as far as it is small enough. A body that ends early is as long as it is.
pub(super) async fn read(response: Response<Incoming>) -> Result<Answer, NoAnswer> {
    let (head, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    while let Some(Ok(frame)) = incoming.frame().await {
        if let Some(data) = frame.data_ref() {
            let room = BODY_MAX - body.len();
            body.extend_from_slice(&data[..data.len().min(room)]);
            if room < data.len() {
                break;
            }
        }
    }
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.freeze() })
}

impl Answer {
    /// The value of a header, as text.
    pub(in crate::cli::doctor) fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.headers.get(name.into())?.to_str().ok()
    }

    /// Where a redirect leads.
    pub(in crate::cli::doctor) fn location(&self) -> Option<&str> {
        self.header(LOCATION).filter(|_| (300..400).contains(&self.status))
    }

    /// Whether Cloudflare wrote the answer to keep out programs: a page for people, or a block.
    pub(in crate::cli::doctor) fn is_challenge(&self) -> bool {
        let titles = ["Just a moment", "Attention Required", "used Cloudflare to restrict access"];
        let is_page = self.header(CONTENT_TYPE).is_some_and(|value| value.starts_with("text/html"));
        let text = self.text();
        [403, 429, 503].contains(&self.status)
            && is_page
            && self.answered_by() == AnsweredBy::Cloudflare
            && (self.headers.contains_key("cf-mitigated")
                || titles.iter().any(|title| text.contains(title)))
    }

    /// The body as text.
    pub(in crate::cli::doctor) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    pub(in crate::cli::doctor) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The message of an error of Campanile.
    pub(in crate::cli::doctor) fn campanile_error(&self) -> Option<String> {
        let body = self.json();
        body["code"].as_u64()?;
        body["error"].as_str().map(str::to_owned)
    }

    /// The program that wrote the answer, by its headers and its body. A proxy that passes an answer
    /// on replaces headers such as `Server`, so the body is looked at first.
    pub(in crate::cli::doctor) fn answered_by(&self) -> AnsweredBy {
        let text = self.text();
        let has = |part: &str| text.contains(part);
        let json = self.json();
        if self.headers.contains_key("x-campanile-node")
            || self.campanile_error().is_some()
            || json["health"] == "OK"
            || json["ready"].is_boolean()
        {
            return AnsweredBy::Campanile;
        }
        let powered = self.headers.get("x-powered-by").and_then(|value| value.to_str().ok());
        if powered == Some("Laravel Reverb") {
            return AnsweredBy::Reverb;
        }
        if has("/@vite/client") {
            return AnsweredBy::Vite;
        }
        let cookies = self.headers.get_all("set-cookie").iter();
        let is_laravel = cookies.filter_map(|value| value.to_str().ok()).any(|cookie| {
            cookie.starts_with("XSRF-TOKEN=") || cookie.starts_with("laravel_session=")
        }) || json["exception"].is_string()
            || (json["message"].is_string() && has("could not be found"))
            || has("laravel");
        if is_laravel {
            return AnsweredBy::Laravel;
        }
        if powered.is_some_and(|value| value.starts_with("PHP")) {
            return AnsweredBy::Php;
        }
        self.proxy(&text)
    }

    /// The proxy that wrote the answer itself.
    fn proxy(&self, text: &str) -> AnsweredBy {
        let named = AnsweredBy::front(&self.headers);
        if named != AnsweredBy::Unknown {
            return named;
        }
        match text {
            _ if text.contains("<center>nginx") => AnsweredBy::Nginx,
            // HAProxy's own pages of errors, which have no name in them.
            _ if text.starts_with("<html><body><h1>") => AnsweredBy::HaProxy,
            "404 page not found
"
            | "Bad Gateway" => AnsweredBy::Traefik,
            _ => AnsweredBy::Unknown,
        }
    }
}

impl AnsweredBy {
    /// The proxy that names itself in the headers of a response, also of one that it passes on.
    pub(in crate::cli::doctor) fn front(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| {
            headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let server = text(SERVER);
        let name = server.split(['/', ' ']).next().unwrap_or_default().to_ascii_lowercase();
        if headers.contains_key("cf-ray") || name == "cloudflare" {
            return Self::Cloudflare;
        }
        match &*name {
            "nginx" | "openresty" => Self::Nginx,
            "apache" => Self::Apache,
            "caddy" => Self::Caddy,
            "envoy" => Self::Envoy,
            // Newer versions of Caddy name themselves here.
            "" if text(VIA).to_ascii_lowercase().contains("caddy") => Self::Caddy,
            "" => Self::Unknown,
            _ => Self::Other(server.chars().take(60).collect()),
        }
    }
}

impl AnsweredBy {
    /// The proxy whose program has this name.
    pub(in crate::cli::doctor) fn of_program(name: &str) -> Self {
        match name {
            "nginx" | "openresty" => Self::Nginx,
            "apache2" | "httpd" => Self::Apache,
            "caddy" => Self::Caddy,
            "haproxy" => Self::HaProxy,
            "traefik" => Self::Traefik,
            "envoy" => Self::Envoy,
            _ => Self::Unknown,
        }
    }
}

/// Sends what is no HTTP, to which a proxy answers by itself, and tells it by its answer.
pub(in crate::cli::doctor) async fn answers_to_nonsense(peer: &Peer) -> AnsweredBy {
    let exchange = async {
        let mut stream = peer.connect().await.ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nno header\r\n\r\n").await.ok()?;
        let mut text = Vec::new();
        stream.take(NONSENSE_MAX).read_to_end(&mut text).await.ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    };
    let answered = time::timeout(STEP_TIMEOUT / 2, exchange).await;
    let text = answered.ok().flatten().unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    match body {
        _ if body.starts_with("<html><body><h1>400 Bad request</h1>") => AnsweredBy::HaProxy,
        _ if body.contains("<center>nginx") => AnsweredBy::Nginx,
        // That of Go. Caddy is written in it as well, and names itself in other answers.
        _ if body.starts_with("400 Bad Request") => AnsweredBy::Traefik,
        _ => AnsweredBy::Unknown,
    }
}

impl fmt::Display for AnsweredBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Campanile => "Campanile",
            Self::Laravel => "Laravel",
            Self::Php => "PHP",
            Self::Vite => "Vite's development server",
            Self::Reverb => "Laravel Reverb",
            Self::Cloudflare => "Cloudflare",
            Self::Nginx => "nginx",
            Self::Apache => "Apache",
            Self::Caddy => "Caddy",
            Self::HaProxy => "HAProxy",
            Self::Traefik => "Traefik",
            Self::Envoy => "Envoy",
            Self::Other(name) => return crate::escape::Escaped(name).fmt(f),
            Self::Unknown => "a program that does not name itself",
        })
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Http(error) => write!(f, "no HTTP answer: {error}"),
            Self::Timeout => write!(f, "no answer within {} s", STEP_TIMEOUT.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(headers: &[(&'static str, &'static str)], body: &'static str) -> AnsweredBy {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let body = Bytes::from_static(body.as_bytes());
        Answer { status: 404, headers: headers.collect(), body }.answered_by()
    }

    #[test]
    fn a_challenge_has_its_status_its_page_and_its_mark() {
        let answer = |status, headers: &[(&'static str, &'static str)], body: &'static str| {
            let headers = headers.iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            Answer { status, headers: headers.collect(), body: Bytes::from_static(body.as_bytes()) }
        };
        let (ray, page) = (("cf-ray", "8f2a"), ("content-type", "text/html; charset=UTF-8"));
        let wait = "<title>Just a moment...</title>";
        for (status, headers, body, expected) in [
            (403, &[ray, page][..], wait, true),
            (503, &[ray, page], wait, true),
            (429, &[ray, page, ("cf-mitigated", "challenge")], "<h1>Wait", true),
            (404, &[ray, page], wait, false),
            (521, &[ray, page], wait, false),
            (403, &[ray], wait, false),
            (403, &[page], wait, false),
            (403, &[ray, page], "<title>403 Forbidden</title>", false),
            (403, &[ray, page, ("x-powered-by", "PHP/8.3")], wait, false),
        ] {
            let found = answer(status, headers, body).is_challenge();
            assert_eq!(found, expected, "{status} {headers:?} {body}");
        }
    }

    #[test]
    fn the_program_that_answered_is_told_by_its_body_and_its_headers() {
        let nginx = ("server", "nginx/1.22.1");
        for (headers, body, expected) in [
            (&[nginx][..], r#"{"error":"Nothing at /","code":404}"#, AnsweredBy::Campanile),
            (&[nginx, ("x-campanile-node", "c50e12")], "{}", AnsweredBy::Campanile),
            (&[nginx], "<center>nginx</center>", AnsweredBy::Nginx),
            (&[nginx, ("cf-ray", "8f2a")], "<h1>Sorry", AnsweredBy::Cloudflare),
            (&[nginx, ("x-powered-by", "PHP/8.3.0")], "<h1>", AnsweredBy::Php),
            (&[nginx, ("set-cookie", "laravel_session=x; path=/")], "", AnsweredBy::Laravel),
            (&[nginx], r#"{"message":"The route app/k could not be found."}"#, AnsweredBy::Laravel),
            (&[("x-powered-by", "Laravel Reverb")], "Not found.", AnsweredBy::Reverb),
            (&[], r#"<script src="/@vite/client">"#, AnsweredBy::Vite),
            (&[("server", "Apache/2.4.62 (Debian)")], "", AnsweredBy::Apache),
            (&[("server", "Caddy")], "", AnsweredBy::Caddy),
            (&[("via", "1.1 Caddy")], "", AnsweredBy::Caddy),
            (&[("server", "envoy")], "", AnsweredBy::Envoy),
            (&[], "<html><body><h1>503 Service Unavailable</h1>", AnsweredBy::HaProxy),
            (&[], "404 page not found\n", AnsweredBy::Traefik),
            (&[("server", "Kestrel")], "", AnsweredBy::Other("Kestrel".to_owned())),
            (&[], "", AnsweredBy::Unknown),
        ] {
            assert_eq!(by(headers, body), expected, "{headers:?} {body}");
        }
    }
}
